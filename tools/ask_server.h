/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A question to a server that a signal may end. */
#ifndef GLM4V_TOOLS_ASK_SERVER_H
#define GLM4V_TOOLS_ASK_SERVER_H

#include "glm4v/glm4v.h"

typedef struct cli_server cli_server;

typedef struct {
    const char *endpoint;                            /* several with commas between them */
    const char *model;                               /* NULL: the first that the server lists */
    const char *api_key_file;                        /* NULL: of the environment */
    const char *ca_file;                             /* NULL: the system's */
    const char *certificate_file, *private_key_file; /* NULL: none */
    uint64_t max_pixels;                             /* 0: as the element's remote-max-pixels */
} cli_server_options;

/* Nothing is connected yet. UNSUPPORTED: this program was built without a client. */
int cli_server_open(cli_server **server, const cli_server_options *options, glm4v_error *err);
void cli_server_close(cli_server **server);

/* As cli_ask(); show() gets the name of the model that answered too. */
int cli_server_ask(cli_server *server, const glm4v_task *task,
                   void (*show)(void *user, const glm4v_result *result, const char *model),
                   void *user, glm4v_error *err);

#endif
