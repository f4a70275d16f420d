/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An answer of chat completions as a client reads it: the events of a stream one after the other,
 * or one object. result.h is the server's side of it. What a server sends is not trusted. */
#ifndef GLM4V_OPENAI_REPLY_H
#define GLM4V_OPENAI_REPLY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/string_buffer.h"
#include "glm4v/glm4v.h"

enum {
    OPENAI_MAX_REPLY_TEXT = 256 << 10, /* bytes of an answer, and of its reasoning */
    OPENAI_MAX_MODEL_NAME = 256,       /* with its end */
    OPENAI_MAX_REASON = 400,           /* bytes of a server's words in a message, with their end */
};

/* All zero: nothing has come. */
typedef struct {
    glm4v_text_out content, reasoning;
    char model[OPENAI_MAX_MODEL_NAME]; /* "" if it is not told */
    bool finished, cut;                /* a reason of the end has come; it was max_tokens */
    bool done;                         /* [DONE], or the whole object */
    uint32_t prompt_tokens, cached_tokens, output_tokens, vision_tokens;
    uint32_t accepted_tokens, rejected_tokens; /* that the server expected */
    uint64_t vision_time, prefill_time;        /* ns, of a glm4v server; 0 = unknown */
    json_t *extension;                         /* "glm4v", or NULL */
    json_t *tokens;                            /* of logprobs: a list, or NULL */
} openai_reply;

/* Text that has come with an event; "" if there is none. Both are never there at once. */
typedef struct {
    const char *content, *reasoning;
} openai_piece;

/* Read the data of an event. piece may be NULL and lies in the reply. FORMAT: it is not what a
 * server sends, or too long; IO: it says that the server failed, in err; NOMEM. */
int openai_reply_event(openai_reply *reply, const char *data, size_t size, openai_piece *piece,
                       glm4v_error *err);

/* Read a whole answer, of a server that does not stream. */
int openai_reply_whole(openai_reply *reply, const char *json, size_t size, glm4v_error *err);

/* Shares of choices, [n], with the sum 1. False: the server does not tell them, or not all. */
bool openai_reply_shares(const openai_reply *reply, const char *const *choices, uint32_t n,
                         double *shares);

/* Boxes that a glm4v server tells, in pixels of the first picture that was sent; how many. Labels
 * lie in the reply. */
uint32_t openai_reply_boxes(const openai_reply *reply, glm4v_box boxes[GLM4V_MAX_BOXES]);

/* "box" of a glm4v server; "" if there is none. */
const char *openai_reply_box(const openai_reply *reply);

void openai_reply_close(openai_reply *reply);

/* What a server says about a failure: the message of its JSON, else the first line of its text; no
 * character is cut. */
void openai_read_reason(char reason[OPENAI_MAX_REASON], const char *body, size_t size);

/* The first model of a list of models. FORMAT: there is none; NOMEM. */
int openai_read_models(char model[OPENAI_MAX_MODEL_NAME], const char *json, size_t size,
                       glm4v_error *err);

#endif
