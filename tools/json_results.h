/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What --json prints: the settings object, then a line for each result. The keys are those of the
 * element's results; docs/result.schema.json has them. */
#ifndef GLM4V_TOOLS_JSON_RESULTS_H
#define GLM4V_TOOLS_JSON_RESULTS_H

#include "contract/digest.h"
#include "frame.h"
#include "shape.h"

/* What is asked about every picture, and of whom. Borrowed. */
typedef struct {
    const glm4v_task *task; /* without pictures */
    const cli_shape *shape;
    const char *pattern; /* or NULL */
    const glm4v_engine_options *engine;
    const glm4v_model_info *model;
} cli_asked;

typedef struct {
    cli_asked asked;
    uint64_t n; /* results so far */
    char settings[GLM4V_DIGEST_SIZE];
    char prompt[GLM4V_PROMPT_HASH_SIZE];
} cli_json_results;

/* Print the settings. */
void cli_json_results_begin(cli_json_results *results, const cli_asked *asked);

/* An answer about a frame of an input; verdict is NULL if there is none. */
typedef struct {
    const char *input;
    const cli_frame *frame;
    const char *verdict;
} cli_json_subject;
void cli_json_results_answer(cli_json_results *results, const cli_json_subject *about,
                             const glm4v_result *result);

/* An input, or with pts >= 0 a frame of it, without an answer. */
void cli_json_results_failure(cli_json_results *results, const char *input, int64_t pts,
                              const glm4v_error *err);

/* A clip that was described all the same; message is what was wrong with it. */
void cli_json_results_warning(const char *input, const cli_troubles *troubles, const char *message);

#endif
