/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Insides of engine and request, shared by engine.c (public calls), request.c (a request's own
 * data), scheduler.c (the thread), describe.c (stages of one request) and prefix.c. Beside each
 * field is who may use it. */
#ifndef GLM4V_ENGINE_ENGINE_H
#define GLM4V_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/completion.h"
#include "chat/answer.h"
#include "chat/detokenize.h"
#include "draft.h"
#include "engine_limits.h"
#include "forward/context.h"
#include "forward/sample.h"
#include "model/model.h"
#include "shape/choices.h"
#include "shape/constraint.h"

typedef enum {
    GLM4V_STAGE_PROMPT, /* text and image slots -> ids */
    GLM4V_STAGE_VISION, /* pictures -> patches -> embeddings, one picture a step */
    /* ids and embeddings -> KV cache, a chunk a step; the last chunk gives the first token */
    GLM4V_STAGE_PREFILL,
    GLM4V_STAGE_DECODE, /* a token a step, batched with the others */
    GLM4V_STAGE_SCORE,  /* likewise rows of the tree of choices */
    GLM4V_STAGE_DONE,
} glm4v_stage_name;

#define GLM4V_MAX_AHEAD 64 /* tokens that wait for their place in the cache */
#define GLM4V_MAX_LEAD 4   /* tokens between the opening of an answer and its text */

/* What the vision tower sees at once: a still picture (twice the same frame) or two frames of a
 * clip. */
typedef struct {
    const glm4v_image *frames[2];
    const glm4v_preprocessor *preprocessor; /* of stills, or of clips */
} glm4v_picture;

struct glm4v_request {
    /* Set by glm4v_request_new(), then only read. */
    /* strings and arrays are the request's own; pixels are borrowed until on_done has returned */
    glm4v_task task;
    glm4v_picture *pictures; /* [n_pictures], history first */
    glm4v_grid *grids;       /* [n_pictures] */
    int64_t n_pictures;
    int64_t image_width, image_height; /* of the first picture after resizing */
    void *memory;                      /* holds all of the above */
    glm4v_choices *choices;            /* the tree of task.choices, or NULL; scored by the engine */
    glm4v_constraint *constraint;      /* of task.json_schema, or NULL; followed by the engine */
    uint64_t question;                 /* digest of stream and texts: what past answers answer */
    uint64_t submitted;                /* nanoseconds, CLOCK_MONOTONIC */

    /* Any thread. */
    atomic_uint refs;
    atomic_bool cancel;

    /* The engine's lock: place in the queue. */
    glm4v_request *next;
    uint64_t number; /* of submission */

    /* The scheduler thread alone. */
    glm4v_stage_name stage;
    int64_t slot;           /* of the KV cache */
    int64_t units;          /* pieces of work done before decoding */
    bool busy;              /* part of a pass under way: it ends with the pass, not before */
    uint64_t piece_started; /* nanoseconds */
    glm4v_pixels pixels;    /* of the picture under way, where the device preprocesses it */
    glm4v_prompt prompt;
    int32_t *position;     /* [3][prompt.n_ids] */
    int32_t next_position; /* of the token after the last one in the cache */
    int64_t length;        /* tokens in the cache */
    int64_t n_encoded;     /* pictures */
    glm4v_embeddings embeddings;
    glm4v_detokenizer detokenizer;
    glm4v_sampler sampler;
    int32_t ahead[GLM4V_MAX_AHEAD]; /* [n_ahead] tokens of the answer, not in the cache yet */
    int64_t n_ahead;
    int64_t n_rows; /* of the decode step under way: tokens ahead, and a draft behind all of them */
    glm4v_drafter drafter;
    bool drafts; /* it has drafts */
    /* Of a device that samples: how it chooses behind the tokens ahead, and behind those of the
     * draft as long as all before are right; mask -1: what it chooses does not count */
    glm4v_draw draws[GLM4V_SPAN_ROWS];
    bool seen_wrong; /* its set of seen tokens has some of a wrong draft */
    /* Of the MTP layer: rows in the cache, and where the state of the one behind them is, and of
     * those after it, see glm4v_mtp_pass */
    int64_t mtp_length;
    int32_t mtp_state;
    int64_t n_answer, n_reasoning;
    int32_t lead[GLM4V_MAX_LEAD]; /* [n_lead], before an answer whose shape is given */
    int64_t n_lead;
    const uint64_t *never; /* ids that the schema forbids next, made by glm4v_token_prepare() */
    bool reasoned;         /* the end of reasoning was forced */
    bool shaped;           /* the answer whose shape is given has begun */
    uint64_t started, decode_started; /* nanoseconds */
    glm4v_error error;                /* why the request failed */
    glm4v_result result;              /* complete when done */
    glm4v_answer *answer;             /* result.boxes and result.action point to it */

    glm4v_completion done; /* on_done has returned */
};

/* Keys and values of the constant beginning of the last prompt, in a slot of their own. The
 * scheduler thread alone. */
typedef struct {
    int32_t *ids; /* [capacity] */
    int64_t n, capacity;
    int64_t slot;
    uint64_t pictures_id; /* of the prompt; 0 = its pictures are unknown */
    bool mtp;             /* keys and values of the MTP layer are among them */
} glm4v_prefix;

/* Requests whose rows are a decode step in flight; n 0: none is. */
typedef struct {
    glm4v_request *request[GLM4V_MAX_BATCH]; /* [n] */
    int64_t n;
    uint64_t number;    /* of submission */
    uint64_t submitted; /* nanoseconds */
} glm4v_batch;

struct glm4v_engine {
    /* Set by open, then only read. */
    glm4v_model *model;
    glm4v_engine_limits limits;
    /* [GLM4V_FIXED_MASKS, V / 64 + 1] ids that are never generated, by whether a request reasons */
    uint64_t *masks;
    pthread_t thread;

    pthread_mutex_t shapes_lock; /* guards shapes, and tries, which the first schema makes */
    glm4v_token_tries *tries;
    glm4v_shapes shapes;

    /* The scheduler thread alone. */
    glm4v_context *context;
    bool slot_taken[GLM4V_MAX_BATCH];
    uint32_t last_stream; /* admitted last */
    /* What else is part of its turn: questions about these pictures (0 = none) that waited when it
     * began, those with numbers below turn_end. */
    uint64_t turn_pictures, turn_end;
    glm4v_prefix prefix;
    glm4v_past past;
    int32_t *texts;           /* [max_batch][glm4v_text_room()], lent to the drafters by slot */
    glm4v_candidate *scratch; /* [V] */
    float *patches; /* of one picture, staging memory of the first stage; grows with the largest */
    size_t patches_capacity;

    glm4v_request *piece; /* whose pass of vision or prefill is under way; or NULL */
    bool piece_submitted; /* all of it */
    uint64_t delayed;     /* the oldest chunk of pieces in flight when a decode step began */
    glm4v_batch batch[GLM4V_MAX_IN_FLIGHT]; /* [limits.context.in_flight] */
    uint64_t n_batches;                     /* submitted */
    uint64_t last_finished;                 /* nanoseconds: of a batch */

    /* lock guards all that follows. */
    pthread_mutex_t lock;
    pthread_cond_t wake;                     /* something was queued, or stop */
    glm4v_request *running[GLM4V_MAX_BATCH]; /* [n_running], in order of admission */
    int64_t n_running;
    glm4v_request *queue, **queue_end;
    uint64_t n_numbers;
    bool stop;
    glm4v_error fault; /* of the device; code 0 = none */
    glm4v_engine_stats stats;
};

static inline bool glm4v_is_one_of(int32_t id, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (id == ids[i])
            return true;
    return false;
}

/* Tokens of prompt and answer. */
static inline int64_t glm4v_text_room(const glm4v_engine_limits *limits)
{
    return limits->context_length + GLM4V_MAX_AHEAD;
}

/* engine.c: room for n numbers in engine->patches; what was there is lost. NOMEM. */
int glm4v_engine_patches(glm4v_engine *engine, size_t n, glm4v_error *err);

/* engine.c: a compiled schema, for one holder more. Any thread. Errors of glm4v_shape_open(). */
int glm4v_engine_shape(glm4v_engine *engine, glm4v_shape **shape, const char *json_schema,
                       glm4v_error *err);

/* request.c. new: check and copy a task; INVALID, NOMEM. finish: fill the result, call on_done,
 * wake who waits. */
int glm4v_request_new(glm4v_engine *engine, const glm4v_task *task, glm4v_request **request,
                      glm4v_error *err);
void glm4v_request_finish(glm4v_engine *engine, glm4v_request *request);

/* describe.c. begin: the next piece of the stages before decoding; when it returns, its pass is
 * under way, or there was none and the piece is done. finish: the pass is done. failed: it ended
 * with rc, request->error is set. end: the request is over; finish and code have the reason (code
 * 0: success, the answer is then parsed; otherwise request->error is set). broken: it ends because
 * logits are not finite. */
void glm4v_describe_begin(glm4v_engine *engine, glm4v_request *request);
void glm4v_describe_finish(glm4v_engine *engine, glm4v_request *request);
void glm4v_describe_failed(glm4v_request *request, int rc);
void glm4v_describe_end(glm4v_request *request, glm4v_finish finish, int code);
void glm4v_describe_broken(glm4v_request *request);

/* Of a row whose logits are read: the largest, without changing any. */
#define GLM4V_NO_DRAW ((glm4v_draw) { .top_p = 1, .penalty = 1, .mask = -1 })

/* One row of a decode step: takes id at position behind `length` tokens. */
typedef struct {
    int64_t length, position;
    int32_t id;
    glm4v_draw draw; /* where the device samples */
} glm4v_row;

/* token.c. prepare: the mask of the next token, before the pass that gives its logits; for a device
 * that samples, draws, and what they need, of all tokens behind a draft. next: one more, from
 * its logits [V], or `id`, which the device chose. show: append a token's text to the answer and
 * call on_text; false when it is full. rows: how many rows of the next decode step the request
 * uses, `most` at most, without a draft. draft: with a draft of `most` more at most; returns how
 * many. row: one of them. stepped: the step of a lane is done, whose rows of the request begin at
 * `first`. reserve: places in the cache that an answer takes at least, with what
 * ends reasoning. */
int64_t glm4v_token_reserve(const glm4v_request *request);
int glm4v_token_prepare(glm4v_engine *engine, glm4v_request *request, glm4v_error *err);
void glm4v_token_next(glm4v_engine *engine, glm4v_request *request, float *logits, int32_t id);
bool glm4v_token_show(glm4v_request *request, int32_t id);
int64_t glm4v_token_rows(const glm4v_engine *engine, glm4v_request *request, int64_t most);
int64_t glm4v_token_draft(glm4v_engine *engine, glm4v_request *request, int64_t most);
void glm4v_token_cut_draft(glm4v_request *request);
glm4v_row glm4v_token_row(const glm4v_request *request, int64_t i);
void glm4v_token_stepped(glm4v_engine *engine, glm4v_request *request, glm4v_lane lane,
                         int64_t first);

/* draft_mtp.c: the tokens of a batch's drafts that the MTP layer makes, whose lengths are chosen;
 * its keys and values come up to date for all requests of the batch. */
int glm4v_draft_fill(glm4v_engine *engine, const glm4v_batch *batch, glm4v_error *err);

/* Is the shape of the answer given? */
static inline bool glm4v_has_shape(const glm4v_request *request)
{
    return request->choices || request->constraint;
}

/* score.c. wanted: the logits that come next are for choices, not for a token. begin: logits [V]
 * before the answer. row: a node of the tree. stepped: logits of the request's n_rows rows. */
static inline bool glm4v_score_wanted(const glm4v_request *request)
{
    return request->choices && request->shaped;
}
void glm4v_score_begin(glm4v_engine *engine, glm4v_request *request, const float *logits);
glm4v_row glm4v_score_row(const glm4v_request *request, int64_t i);
void glm4v_score_stepped(glm4v_engine *engine, glm4v_request *request, const float *logits);

/* prefix.c. has_pictures: the request's pictures are in the cache, nothing is left to encode. load:
 * copy what the cache shares with the prompt into the request's slot, returns the number of tokens.
 * save: keep what may come again of a prompt whose tokens are in the slot: the constant part, or
 * all of it if its pictures have a number. */
int glm4v_prefix_open(glm4v_prefix *prefix, int64_t capacity, int64_t slot, glm4v_error *err);
void glm4v_prefix_close(glm4v_prefix *prefix);
bool glm4v_prefix_has_pictures(const glm4v_prefix *prefix, const glm4v_request *request);
int64_t glm4v_prefix_load(glm4v_prefix *prefix, glm4v_context *context,
                          const glm4v_request *request);
void glm4v_prefix_save(glm4v_prefix *prefix, glm4v_context *context, const glm4v_request *request);

/* scheduler.c */
void *glm4v_scheduler_main(void *engine);

#endif
