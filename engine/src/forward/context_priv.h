/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The insides of a context, and what its passes share. Private to forward/. R: rows of one step at
 * most; S: slots; D Nh Nk Dh F V as everywhere. */
#ifndef GLM4V_ENGINE_FORWARD_H
#define GLM4V_ENGINE_FORWARD_H

#include "forward/context.h"

/* Working set of one lane on one stage, in memory of its device. */
typedef struct {
    glm4v_step *step;
    int64_t rows, outputs; /* room for */
    void *x;               /* [R, D] residual stream */
    void *branch;          /* [R, D] what goes into a branch, then what comes out of it */
    void *qkv;             /* [R, (Nh + 2 Nk) Dh] */
    void *o;               /* [R, Nh Dh] */
    void *gate_up;         /* [R, 2 F] */
    void *act;             /* [R, F] */
    void *pair;            /* [R, 2 D] embeddings and states of the MTP layer, where it runs */
    float *logits;         /* f32 [outputs, V]; on the last stage */
} glm4v_work;

#define GLM4V_CHUNKS 2 /* of a pass in flight: the device does not wait for the host */

/* What one stage holds. */
typedef struct {
    glm4v_backend *backend;
    int64_t first, count; /* layers */
    glm4v_rotary rotary;  /* [length, rotary_dim / 2] */
    glm4v_kv kv;          /* keys are stored rotated */
    glm4v_work work[GLM4V_MAX_LANES];
    glm4v_event *event[GLM4V_MAX_LANES][GLM4V_CHUNKS];
    uint64_t busy; /* nanoseconds of decode steps */
} glm4v_stage_buffers;

#define GLM4V_GRID_CACHE 4             /* grids whose tables are kept */
#define GLM4V_GRID_CACHE_PATCHES 32768 /* patches of all of them, unless one alone is larger */

/* What depends on a picture's grid only. P: patches; N: these and a class row behind them, in
 * families that have one. */
typedef struct {
    int64_t grid_h, grid_w; /* 0: empty entry */
    uint64_t used;          /* time of last use */
    void *position;         /* [N, hidden] position table at this grid; NULL without a table */
    glm4v_rotary rotary;    /* [P, head_dim / 2]; cos NULL without rotary */
} glm4v_grid_tables;

/* Vision scratch on stage 0. `work` is one block, used by one part of the tower after the other. */
typedef struct {
    int64_t patches;  /* room for this many */
    glm4v_step *step; /* [N] */
    void *x, *branch; /* [N, hidden] */
    void *work;
    glm4v_grid_tables grids[GLM4V_GRID_CACHE];
    float *host; /* tables on their way to the device, where all memory is taken at open */
    uint64_t clock;
} glm4v_vision_buffers;

typedef enum { GLM4V_PASS_NONE, GLM4V_PASS_TEXT, GLM4V_PASS_VISION } glm4v_pass_kind;

/* What the MTP layer does in a pass: behind the others, with a prompt, or alone. */
typedef struct {
    glm4v_mtp_part part;
    bool alone;
    bool chained;      /* states are what its last pass gave */
    bool begins;       /* the first row is that of the first token */
    int64_t rows;      /* of a prompt */
    int64_t n_outputs; /* rows of logits */
} glm4v_mtp_work;

/* Keys of its steps, which may be recorded, begin here; those of the model's are smaller. */
#define GLM4V_KEY_MTP (UINT64_C(1) << 32)

/* A pass under way. */
typedef struct {
    glm4v_pass_kind kind;
    bool open;            /* a step was begun and has not ended */
    bool submitted;       /* nothing is left to submit */
    bool replayed;        /* the open step is */
    int64_t stage, layer; /* the next one; of vision: layer, then slabs of the merger */
    /* text */
    glm4v_step_rows rows;
    const void *pictures; /* rows of vision for the places of rows */
    bool logits;          /* are read back */
    float *all_logits;
    glm4v_mtp_work mtp;
    /* vision */
    glm4v_vision_pass vision;
    glm4v_grid_tables *grid;
    /* events of chunks in flight, the oldest first */
    struct {
        glm4v_backend *backend;
        glm4v_event *event;
    } chunk[GLM4V_CHUNKS];
    int64_t n_chunks, next_event;
} glm4v_pass;

/* What a lane has beside the working sets of the stages. */
typedef struct {
    glm4v_pass pass;
    uint64_t n_chunks; /* submitted, of all passes */
    /* Staging memory of the last stage */
    float *host_logits; /* [outputs, V] */
    int32_t *host_ids;  /* [outputs] */
    float *host_x;      /* [R, D], with several stages that cannot copy */
    /* Arrays of the steps of a lane of decode */
    glm4v_step_span *spans;            /* [decode rows] */
    int32_t *ids, *position, *outputs; /* [decode rows] */
    int32_t *heads;                    /* [decode rows] rows of the MTP layer whose logits count */
    glm4v_draw *draws;                 /* [decode rows] */
} glm4v_lane_state;

struct glm4v_context {
    const glm4v_model *model; /* outlives the context */
    glm4v_context_size size;
    glm4v_stage_buffers *stages;
    glm4v_lane_state lane[GLM4V_MAX_LANES];
    int32_t n_lanes;
    glm4v_vision_buffers vision;
    void *store; /* [length, D] on stage 0: pictures of one request, where they are taken at open */
    const glm4v_embeddings *store_owner;
    /* Arrays of a step of prefill */
    glm4v_step_span prefill_span;
    int32_t prefill_output;
    glm4v_draw prefill_draw;
    int32_t *places; /* [max_rows] */
    /* [decode rows + S, D] on the last stage, where the MTP layer runs: normed states of the last
     * decode step's rows, then of the last row of each slot's prompt */
    void *states;
    /* Device memory of the last stage, where it samples */
    uint64_t *seen;   /* [S, V / 64 + 1] */
    uint64_t *masks;  /* [GLM4V_FIXED_MASKS + S, V / 64 + 1] */
    int32_t *sampled; /* [S] */
};

/* Address of element `index` of activations. */
static inline void *glm4v_at(glm4v_backend *b, const void *x, int64_t index)
{
    return (char *)(uintptr_t)x + index * b->traits->activation;
}

static inline glm4v_queue glm4v_queue_of(glm4v_lane lane)
{
    return lane == GLM4V_LANE_PREFILL ? GLM4V_QUEUE_PREFILL : GLM4V_QUEUE_DECODE;
}

static inline glm4v_stage_buffers *glm4v_last_stage(const glm4v_context *c)
{
    return &c->stages[c->model->n_stages - 1];
}

/* Does the MTP layer run in a context of this size? It needs embedding and head on one device, and
 * the states of the last decode step in one place. */
static inline bool glm4v_runs_mtp(const glm4v_model *model, const glm4v_context_size *size)
{
    return model->mtp.present && model->n_stages == 1 && size->in_flight <= 1;
}

/* Scratch of the text model's steps. */
glm4v_scratch_need glm4v_text_need(const glm4v_model *model, const glm4v_context_size *size);
/* Inputs of the widest product of the text model. */
int64_t glm4v_text_widest(const glm4v_text_config *text);

/* Words of a set of ids. */
static inline int64_t glm4v_id_words(const glm4v_model *m)
{
    return m->config.text.vocab / 64 + 1;
}

/* block.c. Composites: the backend's own, or made of the required operations. */
int glm4v_norm_all(glm4v_step *s, void *y, const void *x, const glm4v_norm *norm, int64_t rows,
                   int64_t n);
int glm4v_run_norm_product(glm4v_step *s, const glm4v_norm_product *p);
int glm4v_run_qkv(glm4v_step *s, const glm4v_qkv *p);
int glm4v_run_gate_up(glm4v_step *s, const glm4v_gate_up *p);
int glm4v_run_product_add(glm4v_step *s, const glm4v_product_add *p);

/* pass.c. What b said of its failure rc, after "device NAME: " and where it was. */
int glm4v_fail_device(glm4v_error *err, glm4v_backend *b, int rc, const char *where, ...)
    __attribute__((format(printf, 4, 5)));
/* The lane's pass, of which nothing is left; INTERNAL while another one is under way. */
int glm4v_pass_start(glm4v_context *c, glm4v_lane lane, glm4v_pass_kind kind, glm4v_error *err);
/* Submit all of it and wait. On failure it is dropped. */
int glm4v_pass_run(glm4v_context *c, glm4v_lane lane, const atomic_bool *cancel, glm4v_error *err);
/* Layers of `work` multiply-adds each that make a chunk. */
int64_t glm4v_chunk_layers(glm4v_backend *b, uint64_t work);

/* text.c: the next chunk of a text pass: pass->rows through the layers, outputs. Sets submitted.
 * keys: what of a block gives keys and values, from w->x; block: all of it, in place. head: logits
 * of rows w->x, normed to y by `norm`. */
int glm4v_text_chunk(glm4v_context *context, glm4v_lane lane, glm4v_error *err);
int glm4v_text_keys(glm4v_context *c, glm4v_stage_buffers *s, glm4v_work *w, int64_t layer,
                    int64_t T);
int glm4v_text_block(glm4v_context *c, glm4v_stage_buffers *s, glm4v_work *w, int64_t layer,
                     int64_t T);
int glm4v_text_head(glm4v_context *c, glm4v_work *w, void *y, const void *x, const float *norm,
                    int64_t rows);
int glm4v_read_logits(glm4v_context *c, glm4v_lane lane, glm4v_work *w, int64_t rows);
/* mtp.c: the MTP layer's part of a pass, in one chunk. */
int glm4v_mtp_chunk(glm4v_context *c, glm4v_lane lane, glm4v_error *err);
/* decode.c: check rows and copy them to the lists of their lane, whose pass begins. */
int glm4v_decode_take(glm4v_context *c, const glm4v_decode_rows *rows, int64_t *n_spans,
                      glm4v_error *err);
/* vision.c: likewise. */
int glm4v_vision_chunk(glm4v_context *context, glm4v_error *err);

/* Ids are within the vocabulary, or INVALID. `sampled`: GLM4V_ID_SAMPLED too. */
int glm4v_check_ids(const glm4v_context *context, const int32_t *ids, int64_t n, bool sampled,
                    glm4v_error *err);
/* Positions are within the rotary tables, or INVALID. */
int glm4v_check_positions(const glm4v_context *context, const int32_t *position, int64_t n,
                          glm4v_error *err);

/* Elements of `work` that each part of the tower lays side by side. */
typedef struct {
    int64_t patches;        /* stem: [P, C] */
    int64_t qkv, o, attend; /* blocks: [N, 3 hidden] [N, hidden], scratch of attention */
    /* MLPs go slab by slab of S rows; merger: S' = S / merge^2 rows */
    int64_t slab, merger_slab;
    int64_t wide, act;                  /* blocks: [S, 2 ffn] [S, ffn]; with gelu [S, ffn] [0] */
    int64_t merged, projected;          /* merger: [S', out] twice */
    int64_t merger_gate_up, merger_act; /* [S', 2 merger_ffn] [S', merger_ffn] */
    int64_t largest;                    /* of the four sums */
} glm4v_vision_sizes;

/* vision_buffers.c. P: at most GLM4V_MAX_PATCHES. reserve: room for P patches; tables: those of a
 * grid, from the cache or computed. */
#define GLM4V_MAX_PATCHES (1u << 22)
glm4v_vision_sizes glm4v_vision_sizes_of(const glm4v_model *model, int64_t P);
int glm4v_vision_reserve(glm4v_context *context, int64_t P, glm4v_error *err);
int glm4v_vision_tables(glm4v_context *context, glm4v_grid_tables **found, int64_t grid_h,
                        int64_t grid_w, glm4v_error *err);
void glm4v_vision_buffers_free(glm4v_context *context);
/* All memory for a picture of so many patches, at open (for devices that require it). */
int glm4v_vision_open(glm4v_context *context, int64_t P, glm4v_error *err);
/* Of a picture of so many patches: what reserve and tables take, and scratch of the backend
 * (planner). UINT64_MAX: more patches than there may be. */
uint64_t glm4v_vision_scratch_bytes(const glm4v_model *model, uint64_t patches);
void glm4v_vision_backend_bytes(const glm4v_model *model, uint64_t patches, uint64_t *product,
                                uint64_t *attention);

#endif
