/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file of results: settings, and results that name them. Its contents are checked here, so that
 * what uses a record finds what it expects. */
#ifndef GLM4V_TOOLS_RECORD_H
#define GLM4V_TOOLS_RECORD_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "contract/digest.h"
#include "glm4v/glm4v.h"
#include "replay/archive.h"

/* What the model was. Borrowed strings; "" without. Of a server only the name is known. */
typedef struct {
    const char *name, *hash, *quant, *isa, *products, *device;
} cli_recorded_model;

/* One settings object. Strings are those of root. */
typedef struct {
    json_t *root;
    char hash[GLM4V_DIGEST_SIZE];
    int64_t line; /* in the file, from 1 */
    bool genuine; /* it has the hash that it says */
    const json_t *prompts;
    bool placeholders;
    const char *camera;
    glm4v_task task; /* without prompt and pictures */
    const char **choices;
    unsigned char *fails; /* [task.n_choices] */
    double *thresholds;   /* [task.n_choices] */
    glm4v_matcher *matcher;
    const char *timeout_verdict; /* or NULL */
    uint32_t context_length;
    uint64_t max_pixels;
    const char *kv_cache;
    bool has_model;
    cli_recorded_model model;
} cli_recorded_settings;

/* One result. Strings are those of root. */
typedef struct {
    json_t *root;
    int64_t line, id;
    const char *status, *settings, *prompt_hash;
    const json_t *pictures, *times; /* arrays of strings and of counts; NULL: none */
    bool has_part;                  /* a roi was asked about */
    cli_part part;
    const char *label; /* of it; NULL without */
    int64_t prompt_number, frame_number;
    uint64_t running_time;
} cli_recorded_result;

/* A pass over a file. Each line is settings or a result; objects of another type, and warnings, are
 * passed over. settings and result are during the call only. Not 0: the pass ends. */
typedef struct {
    int (*settings)(void *user, cli_recorded_settings *settings, glm4v_error *err);
    int (*result)(void *user, const cli_recorded_result *result, glm4v_error *err);
    void *user;
} cli_record_visitor;

/* 0, what a visitor returned, or a GLM4V_ERR_*; err->msg has the line. A visitor that keeps
 * settings takes the struct over by cli_recorded_settings_take(). */
int cli_record_read(const char *path, const cli_record_visitor *visitor, glm4v_error *err);

/* The same of a file that is open; path is its name for messages. */
int cli_record_read_file(FILE *file, const char *path, const cli_record_visitor *visitor,
                         glm4v_error *err);

/* A copy, to be freed; *from is empty then. */
cli_recorded_settings *cli_recorded_settings_take(cli_recorded_settings *from);
void cli_recorded_settings_free(cli_recorded_settings *settings);

#endif
