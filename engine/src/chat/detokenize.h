/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Token ids to UTF-8 while they come: holds back incomplete characters, and separates reasoning,
 * answer and box. Invalid bytes become U+FFFD by the WHATWG rule; NUL, C0/C1 controls but \n and
 * \t, ESC sequences' ESC and bidirectional overrides are dropped; control tokens never show. */
#ifndef GLM4V_ENGINE_DETOKENIZE_H
#define GLM4V_ENGINE_DETOKENIZE_H

#include "chat/box.h"
#include "chat/prompt.h"

#define GLM4V_MAX_OUTPUT_BYTES (64 * 1024) /* of each part; more ends the answer */

typedef struct {
    char *data; /* terminated */
    size_t len, capacity;
} glm4v_text;

typedef struct {
    const glm4v_tokenizer *tokenizer;
    const glm4v_chat *chat;
    glm4v_text answer, reasoning, box; /* box: contents of the first box of the answer */
    glm4v_text_part part;              /* of the next token */
    unsigned char held[4];             /* bytes of an incomplete character */
    int n_held;
    glm4v_span spans[GLM4V_MAX_BOXES]; /* of the answer: what stood between box markers */
    uint32_t n_boxes;                  /* spans, the one that is open included */
    bool thought;                      /* <think>, </think> or <answer> has come */
} glm4v_detokenizer;

/* Memory for the largest answer is allocated here, so that a decode step allocates nothing.
 * max_tokens: of reasoning and answer together. thinking: the model was asked to reason, so what
 * comes first is reasoning; else the answer. */
int glm4v_detokenizer_init(glm4v_detokenizer *d, const glm4v_tokenizer *tokenizer,
                           const glm4v_chat *chat, bool thinking, int64_t max_tokens,
                           glm4v_error *err);

/* Take one token. *text (valid until the next call, "" if nothing is complete) and *part return
 * what is new; white space in front of a part's first character is left out. Returns false when the
 * part's byte limit is reached. */
bool glm4v_detokenizer_push(glm4v_detokenizer *d, int32_t id, const char **text,
                            glm4v_text_part *part);

/* End: a held half character is dropped; the texts are trimmed. If a model that was asked to reason
 * never wrote <think>, </think> or <answer>, what it wrote is the answer. */
void glm4v_detokenizer_finish(glm4v_detokenizer *d);
void glm4v_detokenizer_clear(glm4v_detokenizer *d);

/* Instead of all of these for a text that is there: what another program's model wrote, with its
 * markers spelled out. d is finished then, and cleared by the caller. What a part has no room for
 * is left out. NOMEM. */
int glm4v_detokenizer_read(glm4v_detokenizer *d, const char *text, glm4v_error *err);

#endif
