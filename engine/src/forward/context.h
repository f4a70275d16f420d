/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an engine needs beside the immutable model: keys and values, activation buffers, scratch;
 * and the forward passes that use them (vision.c, prefill.c, decode.c). One thread at a time: the
 * scheduler's.
 *
 * A pass is a picture, a piece of a prompt, or one token of each of several sequences (a batch). It
 * is under way in a lane: one lane takes pictures and prompts, the others a batch each. Begin it,
 * submit it chunk by chunk, look whether it is done. The calls without such parts
 * (glm4v_vision_encode, glm4v_prefill, glm4v_decode) do all of it. */
#ifndef GLM4V_ENGINE_CONTEXT_H
#define GLM4V_ENGINE_CONTEXT_H

#include <stdatomic.h>

#include "model/model.h"

typedef struct glm4v_context glm4v_context;

/* Lanes have a pass each, all at once. Lane GLM4V_LANE_DECODE + i: batch i in flight, whose device
 * work is behind that of the batches before it on each stage. */
typedef int32_t glm4v_lane;

#define GLM4V_MAX_IN_FLIGHT 4
#define GLM4V_LANE_PREFILL 0
#define GLM4V_LANE_DECODE 1
#define GLM4V_MAX_LANES (GLM4V_LANE_DECODE + GLM4V_MAX_IN_FLIGHT)

typedef struct {
    int64_t slots;  /* sequences that can be prefilled and decoded, numbers [0, slots) */
    int64_t length; /* tokens of each */
    int64_t kept;   /* tokens of one more slot, number `slots`, for copies only; 0: there is none */
    int64_t max_rows;  /* of one pass of prefill */
    int64_t span_rows; /* of one sequence in a decode step, [1, GLM4V_SPAN_ROWS]; 0 = 1 */
    int64_t in_flight; /* batches of decode at once, [1, GLM4V_MAX_IN_FLIGHT]; 0 = 1 */
    /* of the decode step of one batch, [slots / in_flight rounded up, slots * span_rows]; 0 = the
     * most */
    int64_t decode_rows;
    int64_t patches; /* of the largest picture, for devices whose memory is all taken at open */
    glm4v_kv_form kv_form; /* of keys and values; 0: what the device and the model give */
} glm4v_context_size;

/* Rows of the largest step. */
static inline int64_t glm4v_most_rows(const glm4v_context_size *size)
{
    const int64_t span = size->span_rows ? size->span_rows : 1;
    const int64_t decode = size->decode_rows ? size->decode_rows : size->slots * span;
    return size->max_rows > decode ? size->max_rows : decode;
}

/* Allocate keys and values, and scratch for prefill and decode, which allocate nothing afterwards.
 * The model must outlive the context (the engine holds a reference). INVALID, NOMEM. */
int glm4v_context_open(glm4v_context **context, const glm4v_model *model, glm4v_context_size size,
                       glm4v_error *err);
void glm4v_context_close(glm4v_context **context); /* no pass may be under way */

/* Bytes of one stage of an open context (planner); UINT64_MAX when they overflow. */
typedef struct {
    uint64_t kv_cache;
    uint64_t activations; /* of prefill and decode, on the device */
    uint64_t host;        /* tables and lists */
} glm4v_context_bytes;

glm4v_context_bytes glm4v_context_memory(const glm4v_model *model, int64_t stage,
                                         glm4v_context_size size);

/* Pictures of one request after the tower: rows of D activations on stage 0, in the prompt's
 * order. */
typedef struct {
    void *rows; /* [n_rows, D], device memory of stage 0 */
    int64_t n_rows, capacity;
} glm4v_embeddings;

/* Make room for n_rows more; free. No pass that uses them is under way. If all memory was allocated
 * when the context opened, there is room for one request: BUSY while the rows of another one are
 * there, until they are freed (`free`). */
bool glm4v_embeddings_free(const glm4v_context *context, const glm4v_embeddings *e);
int glm4v_embeddings_reserve(glm4v_context *context, glm4v_embeddings *e, int64_t n_rows,
                             glm4v_error *err);
void glm4v_embeddings_clear(glm4v_context *context, glm4v_embeddings *e);

/* ---- passes ---- */

/* vision.c: one picture or temporal patch through the tower; appends glm4v_picture_rows() rows to
 * out. Scratch grows here if the picture is the largest so far and the device lets it grow. */
typedef struct {
    glm4v_embeddings *out;
    /* [grid_h * grid_w, C] f32, stays until the pass is done; or NULL: */
    const float *patches;
    const glm4v_pixels *pixels; /* that the device preprocesses; stays with what it points to */
    int64_t grid_h, grid_w;
} glm4v_vision_pass;

int glm4v_vision_begin(glm4v_context *context, const glm4v_vision_pass *pass, glm4v_error *err);

/* What the MTP layer computes of its rows: nothing, their keys and values, all. */
typedef enum { GLM4V_MTP_NONE, GLM4V_MTP_KEYS, GLM4V_MTP_WHOLE } glm4v_mtp_part;

/* prefill.c: tokens [start, start + n) of a prompt into slot; the rows before start are in the
 * cache already. n <= max_rows. position: [3][prompt->n_ids] of the whole prompt. Rows of the
 * prompt's runs come from vision in order. What it points to must stay until the pass is done. */
typedef struct {
    int64_t slot;
    const glm4v_prompt *prompt;
    const int32_t *position;
    int64_t start, n;
    const glm4v_embeddings *vision; /* or NULL */
    bool logits;                    /* of the last row are wanted */
    const glm4v_draw *draw;         /* of the last row, where the device samples; NULL: do not */
    glm4v_mtp_part mtp; /* on glm4v_context_mtp(), of all rows but the prompt's last one */
} glm4v_prefill_pass;

int glm4v_prefill_begin(glm4v_context *context, const glm4v_prefill_pass *pass, glm4v_error *err);

/* decode.c: the next token or tokens of some sequences. Row i: sequence slots[i] holds length[i]
 * tokens and gets ids[i] at position[i] (all three axes). Rows of one sequence are adjacent, each
 * one token longer than the one before, span_rows at most; on glm4v_context_branches() also a
 * branch: a row that begins again where an earlier one of the sequence stood, and replaces it for
 * the rows behind. A length may be less than what the sequence held: the tokens behind it are then
 * replaced. Read during the call only. */
typedef struct {
    const int32_t *slots, *length;
    const int32_t *ids; /* GLM4V_ID_SAMPLED where glm4v_context_feeds_itself() */
    const int32_t *position;
    int64_t n;
    const glm4v_draw *draws; /* [n]; NULL: logits instead */
    bool logits;             /* with draws: logits too */
    int32_t batch;           /* [0, in_flight); slots of batches in flight differ */
} glm4v_decode_rows;

bool glm4v_context_branches(const glm4v_context *context);
int glm4v_decode_begin(glm4v_context *context, const glm4v_decode_rows *rows, glm4v_error *err);

/* mtp.c: rows of the MTP layer, which drafts: row i of a sequence joins the state of its token
 * `length` with ids[i], the token behind that one, and gives the logits of the one behind both.
 * states[i]: row of the last decode step whose state it is, or GLM4V_STATE_OF_PROMPT: the last row
 * of the slot's prompt; chained: row of the last such pass instead, whose token `length` was
 * drafted. */
#define GLM4V_STATE_OF_PROMPT (-1)

typedef struct {
    glm4v_decode_rows rows; /* no draws, batch 0 */
    const int32_t *states;  /* [rows.n] */
    bool chained;
    const int32_t *outputs; /* [n_outputs] rows whose logits are wanted; none: keys and values */
    int64_t n_outputs;
} glm4v_mtp_pass;

bool glm4v_context_mtp(const glm4v_context *context); /* is there such a layer? */
/* All of the pass; logits [n_outputs, V] are then those of lane GLM4V_LANE_DECODE. */
int glm4v_mtp_run(glm4v_context *context, const glm4v_mtp_pass *pass, glm4v_error *err);

/* Hand the next chunk of the lane's pass to the device, whose chunks in flight are then at most
 * two: glm4v_pass_room(). 1: more is to be submitted, 0: that was the last one. On failure the pass
 * is dropped. */
int glm4v_pass_submit(glm4v_context *context, glm4v_lane lane, glm4v_error *err);
bool glm4v_pass_room(const glm4v_context *context, glm4v_lane lane);
/* The oldest chunk in flight: its number since the context was opened, from 1; 0: there is none. */
uint64_t glm4v_pass_oldest(const glm4v_context *context, glm4v_lane lane);
/* poll: 1 if all chunks submitted so far are done, 0 if not; on failure the pass is dropped. wait:
 * until the oldest chunk in flight is done; poll returns how it ended. */
int glm4v_pass_poll(glm4v_context *context, glm4v_lane lane, glm4v_error *err);
void glm4v_pass_wait(glm4v_context *context, glm4v_lane lane);
/* End the lane's pass where it is, if one is under way, and wait until the device has let go of
 * it. What it would have written is undefined. */
void glm4v_pass_drop(glm4v_context *context, glm4v_lane lane);
/* CANCELED, and where the pass is. */
int glm4v_pass_canceled(const glm4v_context *context, glm4v_lane lane, glm4v_error *err);

/* Of a pass that is done, until the lane's next one begins: logits [n, V] on the host, which may
 * be overwritten; or sampled ids [n], -1 where a logit was not finite. */
float *glm4v_pass_logits(glm4v_context *context, glm4v_lane lane);
const int32_t *glm4v_pass_ids(const glm4v_context *context, glm4v_lane lane);

/* Nanoseconds that a stage has worked on the decode steps that are done; 0 where there is one stage
 * or its device does not measure them. */
uint64_t glm4v_context_busy(const glm4v_context *context, int64_t stage);

/* All of a pass. CANCELED as soon as *cancel is set, looked at between chunks (cancel may be NULL).
 * logits: NULL, or [V] of the last row; of decode [n, V]. all_logits: NULL, or [n, V] of every row
 * (reference vectors). */
int glm4v_vision_encode(glm4v_context *context, const glm4v_vision_pass *pass,
                        const atomic_bool *cancel, glm4v_error *err);
int glm4v_prefill(glm4v_context *context, const glm4v_prefill_pass *pass, float *logits,
                  float *all_logits, const atomic_bool *cancel, glm4v_error *err);
int glm4v_decode(glm4v_context *context, const glm4v_decode_rows *rows, float *logits,
                 glm4v_error *err);

/* ---- sampling on the device ---- */

/* Does the device of the last stage choose tokens itself? Else draws are not taken, and the host
 * does. feeds_itself: they are also embedded there. */
bool glm4v_context_samples(const glm4v_context *context);
bool glm4v_context_feeds_itself(const glm4v_context *context);
/* Sets of ids that are never chosen, [n][V / 64 + 1], as numbers [first, first + n) of draws. There
 * are GLM4V_FIXED_MASKS that all requests share, and behind them span_rows for each slot, which
 * change from step to step. The ids that slot has seen, [V / 64 + 1], for its repetition penalty:
 * each step adds those of its rows. Not while a pass that uses them is under way. */
#define GLM4V_FIXED_MASKS 2
int glm4v_context_set_masks(glm4v_context *context, int64_t first, const uint64_t *masks, int64_t n,
                            glm4v_error *err);
int glm4v_context_set_seen(glm4v_context *context, int64_t slot, const uint64_t *seen,
                           glm4v_error *err);

/* Copy the first n tokens' keys and values of all layers from one slot to another, the kept one
 * included (prefix cache), behind the passes of prefill. */
int glm4v_context_copy(glm4v_context *context, int64_t to, int64_t from, int64_t n);

#endif
