/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drafts: tokens that are expected next, which a decode step takes along as further rows of its
 * request. A wrong one costs its row and changes nothing else, see token.c. They are read off the
 * last answers to the same question of the same stream, and off the request's own prompt and
 * answer; where these tell nothing, the model's MTP layer makes them (draft_mtp.c).
 *
 * How long a draft is follows from how those before it did, never from the time that steps take:
 * the same requests one by one have the same drafts on every machine. The scheduler's thread alone;
 * nothing is allocated after open. */
#ifndef GLM4V_ENGINE_DRAFT_H
#define GLM4V_ENGINE_DRAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "chat/prompt.h"
#include "forward/context.h"

#define GLM4V_MAX_DRAFT (GLM4V_SPAN_ROWS - 1) /* tokens: one row of a span is the answer's own */
#define GLM4V_PAST_IDS 32768                  /* tokens of all past answers that are kept */
#define GLM4V_PAST_ANSWERS 256
#define GLM4V_PAST_OF_KEY 8 /* of one stream and question */

/* What a draft was read off; or made by. */
typedef enum {
    GLM4V_DRAFT_PAST,
    GLM4V_DRAFT_TEXT,
    GLM4V_N_DRAFT_TEXTS,
    GLM4V_DRAFT_MTP = GLM4V_N_DRAFT_TEXTS,
} glm4v_draft_source;

#define GLM4V_DRAFT_ROW 32 /* credit that one wrong row takes */

/* How drafts have done; it goes on with the next answer to the same question. */
typedef struct {
    int32_t credit;                      /* wrong rows that there may be, times GLM4V_DRAFT_ROW */
    int32_t length[GLM4V_N_DRAFT_TEXTS]; /* tokens of the next draft, [1, GLM4V_MAX_DRAFT] */
} glm4v_draft_record;

/* How the MTP layer has done, whatever the question: it is the same everywhere. */
typedef struct {
    int64_t credit, earned; /* earned: by a right token */
    int32_t length;
    uint64_t drafted, accepted; /* tokens since the engine was opened */
} glm4v_mtp_record;

/* ---- past answers ---- */

typedef struct {
    uint64_t key;    /* of stream and question */
    uint64_t number; /* since the engine was opened, from 1 */
    int64_t start, n;
    glm4v_draft_record record;
} glm4v_past_answer;

/* The oldest first, in `ids` too. Where there is no room the oldest ones go. */
typedef struct {
    int32_t *ids; /* [GLM4V_PAST_IDS] */
    int64_t n_ids;
    glm4v_past_answer *answers; /* [GLM4V_PAST_ANSWERS] */
    int64_t n_answers;
    uint64_t last_number;
    glm4v_mtp_record mtp;
} glm4v_past;

/* asynchronous: as in glm4v_backend_traits. NOMEM: close it */
int glm4v_past_open(glm4v_past *past, bool asynchronous, glm4v_error *err);
void glm4v_past_close(glm4v_past *past);
uint64_t glm4v_past_bytes(void);

/* ---- the drafts of one request ---- */

typedef struct {
    uint64_t key;
    int32_t *text;        /* [room], lent: prompt without pictures, and answer; NULL: no drafts */
    int64_t room, n_text; /* what has no room is left out */
    int64_t answer;       /* where it begins in text */
    glm4v_draft_record record;
    uint64_t aligned; /* number of the past answer that the answer agreed with last; 0: none */
    int64_t at;       /* where that one goes on */
    int64_t apart;    /* tokens since they agreed */
    bool mtp;         /* the MTP layer drafts too; its keys and values follow the answer */
    /* the draft under way */
    int32_t ids[GLM4V_MAX_DRAFT];
    int64_t n;
    glm4v_draft_source source;
} glm4v_drafter;

/* begin: an answer to this prompt; text [room] is lent. begin_mtp: where the MTP layer has credit,
 * it drafts too. note: a token of the answer. make: the next draft, d->ids [d->n], of `most` tokens
 * at most; none where nothing is expected; of source GLM4V_DRAFT_MTP its length alone. judge: so
 * many of its tokens were right. keep: the answer is complete, the next one to its question may use
 * it. */
void glm4v_draft_begin(glm4v_drafter *d, const glm4v_past *past, uint64_t key,
                       const glm4v_prompt *prompt, int32_t *text, int64_t room);
void glm4v_draft_begin_mtp(glm4v_drafter *d, const glm4v_past *past);
void glm4v_draft_note(glm4v_drafter *d, int32_t id);
void glm4v_draft_make(glm4v_drafter *d, const glm4v_past *past, int64_t most);
void glm4v_draft_judge(glm4v_drafter *d, glm4v_past *past, int64_t accepted);
void glm4v_draft_keep(glm4v_past *past, const glm4v_drafter *d);

#endif
