/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request of chat completions as a client writes it: one question, perhaps with pictures, whose
 * answer is streamed. request.h is the server's side of it. */
#ifndef GLM4V_OPENAI_ASK_H
#define GLM4V_OPENAI_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/string_buffer.h"

/* A picture file. */
typedef struct {
    const void *data;
    size_t size;
    const char *type; /* "image/jpeg" */
    double seconds;   /* of a frame: since the clip began */
} openai_file;

/* Strings are borrowed; NULL: none. */
typedef struct {
    const char *system, *prompt;
    const openai_file *files; /* [n_files], pictures or frames of a clip */
    uint32_t n_files;
    bool clip;
    uint32_t max_tokens, max_reasoning_tokens, top_k;
    double temperature, top_p, repetition_penalty; /* the last two: 0 = 1 */
    uint64_t seed;
    bool thinking;
    const char *const *choices; /* [n_choices] */
    uint32_t n_choices;
    const char *json_schema;
} openai_ask;

/* What a server does not understand, as far as that is known. All false: nothing. */
typedef struct {
    bool older_shapes; /* has guided_choice and guided_json instead of structured_outputs */
    bool no_logprobs;
    bool no_clips;    /* frames of a clip are sent as pictures */
    bool no_thinking; /* chat_template_kwargs and max_reasoning_tokens are not sent */
} openai_dialect;

/* Append the JSON of the request to `out`, which remembers when memory was out. */
void openai_write_ask(glm4v_text_out *out, const openai_ask *ask, const char *model,
                      const openai_dialect *dialect);

/* A server refused a request (status 400 or alike) with this text: is there another way to say it?
 * Then dialect is changed to that. */
bool openai_other_dialect(openai_dialect *dialect, const openai_ask *ask, const char *text);

#endif
