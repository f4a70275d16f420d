/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers of a given shape on the command line: --choices, --fail-choices, --thresholds and
 * --json-schema. */
#ifndef GLM4V_TOOLS_SHAPE_H
#define GLM4V_TOOLS_SHAPE_H

#include "cli.h"

/* As given; NULL: the option is not there. */
typedef struct {
    const char *choices, *fail_choices, *thresholds, *json_schema;
} cli_shape_options;

/* All zero: any text. */
typedef struct {
    const char **choices; /* [n] */
    uint32_t n;
    unsigned char *fails; /* [n] */
    double *thresholds;   /* [n] */
    bool verdict;         /* is wanted */
    char *json_schema;    /* text of the file */
    char *memory;         /* of the choices */
} cli_shape;

/* Read and check the options. Prints what is wrong and returns CLI_USAGE, or CLI_INPUT where the
 * file cannot be read; else CLI_OK. Release with cli_shape_close() either way. */
int cli_shape_open(cli_shape *shape, const cli_command *command, const cli_shape_options *options);
void cli_shape_close(cli_shape *shape);

/* Of a result with choices. */
glm4v_verdict cli_shape_verdict(const cli_shape *shape, const glm4v_result *result);

#endif
