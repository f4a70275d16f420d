/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Results and errors of OpenAI's chat completions as JSON. Here the server's are written: one
 * object for a whole answer, or the objects of a stream's events. All functions append to `out`,
 * which remembers when memory was out. */
#ifndef GLM4V_OPENAI_RESULT_H
#define GLM4V_OPENAI_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/string_buffer.h"
#include "glm4v/glm4v.h"

/* What all objects of one answer begin with. Strings are borrowed. */
typedef struct {
    const char *id, *model, *fingerprint;
    int64_t created; /* seconds since 1970 */
} openai_head;

/* The whole of an answer. */
typedef struct {
    const glm4v_result *result;
    const char *text;           /* instead of result->text, which a stop text may cut */
    bool reasoning;             /* what the model thought is part of it */
    bool stopped;               /* by one of the request's texts */
    const char *const *choices; /* of the task; [result->n_probabilities] */
    const char *const *ignored; /* [n_ignored] options without effect */
    uint32_t n_ignored;
} openai_answer;

/* "chat.completion". Beside OpenAI's keys it has "glm4v": boxes, action, probabilities, timings and
 * ignored options, those that there are. */
void openai_write_completion(glm4v_text_out *out, const openai_head *head,
                             const openai_answer *answer);

/* "chat.completion.chunk" with one piece of text: the first has the role too. */
void openai_write_chunk(glm4v_text_out *out, const openai_head *head, glm4v_text_part part,
                        const char *text, bool first);

/* The last chunk of an answer: why it ended, and "glm4v" as in a completion. */
void openai_write_end(glm4v_text_out *out, const openai_head *head, const openai_answer *answer);

/* A chunk without choices that has the numbers of tokens. */
void openai_write_usage(glm4v_text_out *out, const openai_head *head, const glm4v_result *result);

/* {"error": ...}; type: "invalid_request_error", ...; parameter and code may be "". */
typedef struct {
    const char *message, *type, *parameter, *code;
} openai_error;
void openai_write_error(glm4v_text_out *out, const openai_error *error);

#endif
