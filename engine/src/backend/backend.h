/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tensor operations of one device. Forward passes are written once, against this table; cpu.c fills
 * it with the kernels of kernels/ and threads, a CUDA module fills it with launches.
 *
 * Activations are f32 or bf16, as the device chooses (traits.activation), row-major, in memory of
 * the device: `void *` here. Logits and rotary tables are f32 everywhere. ld* are distances between
 * rows in elements. Dimensions and counts are int64_t; what lies in arrays (ids, positions, rows,
 * spans) is int32_t. Every row's result is the same bytes whatever the other rows of the step hold
 * and however many there are (batch invariance).
 *
 * Steps. Operations work on a step: rows of tokens or patches on their way through a model, a
 * working set of their own, and a queue. step_begin hands over all that changes from step to step
 * (ids, positions, lengths, slots, row maps, how to sample); the backend copies it into memory of
 * the device, and the host arrays may change as soon as the call has returned. Operations take the
 * step and no host arrays. step_end closes it. A step with a key may be recorded: the caller
 * promises that for equal keys of one step object it makes the same calls with the same arguments,
 * so that the backend may replay what it recorded instead (step_begin then says so, and the caller
 * makes no operation call before step_end).
 *
 * When work is done. Where traits.asynchronous is false, a call has done its work when it returns.
 * Where it is true, what works on a step or a queue, and fills, may return before:
 *   - work of one queue is done in the order of the calls; work of different queues is not ordered,
 *     unless queue_wait says so. Operations of steps of different queues may be called in turns;
 *   - descriptors (the structs that an operation takes) may change when the call has returned;
 *     what they point to in device memory, weights, keys and values stay until the work is done;
 *   - host memory that step_upload reads or step_download and step_read write stays, unchanged and
 *     unread, until an event recorded behind it on its queue is reached. With staging memory the
 *     call does not wait, with other host memory it may;
 *   - event_done looks without waiting, sync waits. free, close, step_close and kv_close, and the
 *     copies without a step, which have always been done when they return, may be called only when
 *     the work that uses the memory is done.
 *
 * Errors. Calls return 0 or a negative GLM4V_ERR_*: NOMEM, memory of host or device is out, the
 * device goes on working; INVALID, the arguments do not fit, nothing was done; DEVICE, the device
 * failed and is not usable any more. Calls with `err` fill it; `failure` tells the text for the
 * others. An operation's failure may come with a later call, at the latest with event_done or sync
 * of an event behind it. The CPU fails with NOMEM and INVALID only.
 *
 * Threads. A step, an event and an object of keys and values are used by one thread at a time.
 * Different ones may be used by different threads at once, as two engines on one model do; weights
 * are read-only by then.
 *
 * required: never NULL. optional: may be NULL, and the line says what the caller does then. */
#ifndef GLM4V_ENGINE_BACKEND_H
#define GLM4V_ENGINE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/forms.h"
#include "base/log.h"
#include "base/pool.h"
#include "glm4v/glm4v.h"

typedef struct glm4v_backend glm4v_backend;
typedef struct glm4v_event glm4v_event; /* the backend's own */

/* Decode goes before prefill and vision where both have work. */
typedef enum {
    GLM4V_QUEUE_DECODE,
    GLM4V_QUEUE_PREFILL, /* vision too, and copies while a model or a context is opened */
    GLM4V_N_QUEUES
} glm4v_queue;

/* ---- keys and values ---- */

typedef enum {
    GLM4V_KV_F32,
    GLM4V_KV_BF16,
    GLM4V_KV_INT8, /* with a scale per token and head */
    GLM4V_KV_FP8,
} glm4v_kv_form;

/* Keys and values of some layers for `slots` sequences of `length` tokens, and of one more slot,
 * number `slots`, of `kept` tokens. */
typedef struct {
    glm4v_kv_form form;
    int64_t layers, heads, head_dim, slots, length, kept;
} glm4v_kv_shape;

/* The layout is the backend's. */
typedef struct {
    glm4v_kv_shape shape;
    void *keys, *values, *scales;
} glm4v_kv;

/* Tokens that a slot has room for; 0: there is no such slot. */
static inline int64_t glm4v_kv_room(const glm4v_kv_shape *shape, int64_t slot)
{
    if (slot < shape->slots)
        return shape->length;
    return slot == shape->slots ? shape->kept : 0;
}

/* ---- steps ---- */

#define GLM4V_SPAN_ROWS 8          /* rows of one slot in a step with a key, at most */
#define GLM4V_ID_SAMPLED INT32_MIN /* as an id: what `sample` chose last for the row's slot */

typedef enum {
    GLM4V_ROPE_INTERLEAVED, /* pairs (2i, 2i+1), i < n_freq; the rest of the head passes */
    GLM4V_ROPE_HALF,        /* pairs (i, i + n_freq), i < n_freq */
} glm4v_rope_style;

/* Cosines and sines in device memory, f32 [n_rows, n_freq]. Frequency k of a row of a step is taken
 * from table row position[a] where section a, of t, h, w, holds k; with sections of 0, row i of the
 * step takes table row i. */
typedef struct {
    float *cos, *sin;
    int64_t n_rows, n_freq;
    int64_t section[3]; /* their sum is n_freq, or 0 */
    glm4v_rope_style style;
} glm4v_rotary;

/* Rows [row, row + n) of a step belong to the sequence in slot, which holds `length` tokens before
 * them. Spans are in the order of their rows and cover them all. Where traits.branches, a slot may
 * have several, one behind the other: each takes the place of what the one before it wrote from its
 * own `length` on. */
typedef struct {
    int32_t slot, length, row, n;
} glm4v_step_span;

/* How to choose a token from one row of logits; see `sample`. */
typedef struct {
    float temperature;  /* 0 = the largest logit */
    uint32_t top_k;     /* 0 = no bound */
    float top_p;        /* 1 = no bound */
    float penalty;      /* of repetition; 1 = none */
    uint64_t generator; /* state of the request's own generator, see forward/sample.h */
    int32_t mask;       /* number of a set of ids that are never chosen; -1: none */
} glm4v_draw;

/* What a step object has room for. */
typedef struct {
    glm4v_queue queue;
    int64_t rows, spans, outputs; /* of one step, at most; rows >= 1. spans 0: rows have no ids */
    int64_t n_freq;               /* of the rotary tables; 0: there are none */
    bool timed;                   /* step_time will be called */
} glm4v_step_size;

/* One step. Arrays are host memory, read during step_begin only; their elements are checked by the
 * caller (ids against the vocabulary, slots and lengths against kv, positions against rotary). With
 * a key: the key settles rows and n_outputs, which are equal, and whether there are draws; places
 * is empty; all else changes from step to step. */
typedef struct {
    int64_t rows;
    const int32_t *ids;           /* [rows], or NULL: the rows are no tokens */
    const int32_t *position[3];   /* [rows] each: t, h, w. NULL: none, or rotary without sections */
    const glm4v_rotary *rotary;   /* NULL: the step has no rope */
    const glm4v_step_span *spans; /* [n_spans] */
    int64_t n_spans;
    const int32_t *places; /* [n_places] rows that place_rows writes */
    int64_t n_places;
    const int32_t *outputs; /* [n_outputs] rows that take_rows reads */
    int64_t n_outputs;
    const glm4v_draw *draws; /* [n_outputs], or NULL: nothing is sampled */
    const int32_t *sampled;  /* device memory, [slots]: what GLM4V_ID_SAMPLED stands for; or NULL */
    uint64_t key;            /* 0: not to be recorded */
} glm4v_step_rows;

/* Opened by step_open; the backend's own struct begins with it. */
typedef struct {
    glm4v_backend *backend;
    glm4v_step_size size;
} glm4v_step;

/* ---- descriptors of operations ---- */

/* LayerNorm, or without a bias RMSNorm. w NULL: there is none. */
typedef struct {
    const float *w, *bias; /* [n], device memory */
    float eps;
} glm4v_norm;

typedef struct {
    void *y;
    int64_t ldy;
    const void *x;
    int64_t ldx;
    const glm4v_weight *w;
    const float *bias; /* [n_out], device memory; or NULL */
    int64_t rows;
    bool add; /* y += */
} glm4v_product;

/* `groups` neighbouring groups of n values of each of `rows` rows, each group separately. */
typedef struct {
    void *y;
    int64_t ldy;
    const void *x; /* may be y */
    int64_t ldx;
    const glm4v_norm *norm;
    int64_t rows, groups, n;
    bool add; /* y += */
} glm4v_norm_rows;

/* All rows of the step, in place. */
typedef struct {
    void *x; /* [rows, heads * head_dim], rows ldx apart */
    int64_t ldx;
    int64_t heads, head_dim;
} glm4v_rope;

/* Rows of the step and the slots of their spans. */
typedef struct {
    const void *k, *v; /* [rows, kv heads * head_dim], rows ld apart */
    int64_t ld;
    glm4v_kv *kv;
    int64_t layer; /* of kv */
} glm4v_append;

typedef struct {
    void *o; /* [rows, heads * head_dim], rows ldo apart */
    int64_t ldo;
    const void *q; /* likewise */
    int64_t ldq;
    int64_t heads;
    float scale;
    const glm4v_kv *kv;
    int64_t layer;
} glm4v_attend;

/* Rows [0, rows) to each other. */
typedef struct {
    void *o;
    int64_t ldo;
    const void *q, *k, *v; /* [rows, heads * head_dim], rows ld apart */
    int64_t ld;
    int64_t rows, heads, head_dim;
    float scale;
    void *scratch; /* of attend_all_bytes */
} glm4v_attend_all;

/* Choosing a token of each output row of the step, by its draw, in the order of forward/sample.c:
 * -1 where a logit is not finite; then penalty, mask, and the largest logit or a draw. Draws of one
 * request follow from its generator alone, which takes two numbers a draw. */
typedef struct {
    /* [n_outputs, vocab]; those of a row with a penalty or a mask may be overwritten */
    const float *logits;
    int64_t vocab;
    /* device memory, [slots][vocab / 64 + 1]: bit i: token i is in the slot's prompt or answer. The
     * ids of a step's rows are added before their logits are penalized */
    uint64_t *seen;
    /* device memory, [masks][vocab / 64 + 1]: bit i: token i is not chosen. Written between steps
     * */
    const uint64_t *masks;
    int32_t *sampled; /* device memory, [slots]: what was chosen last */
    int32_t *ids;     /* host staging memory, [n_outputs] */
} glm4v_sample;

/* Composites. Scratch holds nothing of use afterwards. */
/* y = norm(x) w^T + bias. normed: scratch [rows, n_in]. */
typedef struct {
    const glm4v_norm *norm;
    void *normed;
    glm4v_product product; /* ldx = n_in, no add */
} glm4v_norm_product;

/* q, k, v = product of norm(x), heads of q and k normed, rotated; k and v appended. in.product.y: q
 * rotated, then scratch. */
typedef struct {
    glm4v_norm_product in;
    glm4v_norm q_norm, k_norm; /* of each head; w NULL: none */
    int64_t heads;
    glm4v_kv *kv;
    int64_t layer;
} glm4v_qkv;

/* act = silu(gate) * up where the matrix gives gate rows, then up rows, of norm(x); or gelu. */
typedef struct {
    glm4v_norm_product in; /* norm NULL: x as it is. y: scratch [rows, n_out] */
    bool gelu;             /* act is then in.product.y */
    void *act;             /* [rows, n_out / 2] */
} glm4v_gate_up;

/* x += norm(in w^T + bias) */
typedef struct {
    void *x;      /* [rows, n_out] */
    void *branch; /* scratch [rows, n_out] */
    const void *in;
    const glm4v_weight *w;
    const float *bias;
    const glm4v_norm *norm; /* w NULL: x += in w^T + bias */
    int64_t rows;
} glm4v_product_add;

/* What the frames of one temporal patch become: patches as picture/preprocess.c makes them. */
typedef struct {
    const glm4v_image *frames[2];
    int64_t grid_h, grid_w; /* patches */
    int64_t patch, temporal, merge;
    double mean[3], std[3]; /* of v / 255 */
} glm4v_pixels;

/* What working memory the operations of a step need: products of `rows` rows of at most n_in
 * inputs, attention of heads of head_dim over n_k keys. */
typedef struct {
    int64_t rows, n_in, n_k, head_dim;
    int64_t heads; /* that attend to keys and values of slots; 0: rows attend to each other only */
} glm4v_scratch_need;

/* Seeded random numbers, uniform, of this mean and standard deviation. */
typedef struct {
    uint64_t seed; /* of this matrix */
    float mean, scale;
} glm4v_random;

/* Called before each product: x [rows, n_in] as on the device, rows ldx apart. The product returns
 * a nonzero return value. */
typedef struct {
    int (*product)(void *user, const glm4v_product *p);
    void *user;
} glm4v_observer;

/* ---- the table ---- */

typedef struct {
    const char *name;                /* "cpu", "cuda" */
    void (*close)(glm4v_backend *b); /* required */
    /* Text of the last failure of a call without `err`, "" before the first. required */
    void (*failure)(glm4v_backend *b, char *text, size_t size);

    /* Memory of the device. alloc: 64-byte aligned, contents undefined; free: NULL is allowed.
     * available: bytes that can still be allocated; UINT64_MAX if unknown. staging: host memory
     * that copies read and write asynchronously, 64-byte aligned, contents undefined; the caller
     * reads and writes it as any other. All required. */
    int (*alloc)(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err);
    void (*free)(glm4v_backend *b, void *ptr);
    uint64_t (*available)(glm4v_backend *b);
    int (*staging_alloc)(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err);
    void (*staging_free)(glm4v_backend *b, void *ptr);

    /* Copies that are done when they return. upload: f32 of the host to activations. download:
     * activations to f32. write: bytes as they are. copy: within the device; the ranges do not
     * overlap. All required. */
    int (*upload)(glm4v_backend *b, void *y, const float *host, int64_t n);
    int (*download)(glm4v_backend *b, float *host, const void *x, int64_t n);
    int (*write)(glm4v_backend *b, void *y, const void *host, size_t bytes);
    int (*copy)(glm4v_backend *b, void *y, const void *x, size_t bytes);

    /* Events. record: reached when all that was called on the queue before is done. queue_wait:
     * later work of the queue begins after the event. event_done: 1 reached or never recorded, 0
     * not yet, or the failure of the work before it. sync: wait until it is reached; 0 or that
     * failure. All required. */
    int (*event_open)(glm4v_backend *b, glm4v_event **event, glm4v_error *err);
    void (*event_close)(glm4v_backend *b, glm4v_event *event);
    int (*event_record)(glm4v_backend *b, glm4v_queue q, glm4v_event *event);
    int (*queue_wait)(glm4v_backend *b, glm4v_queue q, glm4v_event *event);
    int (*event_done)(glm4v_backend *b, glm4v_event *event);
    int (*sync)(glm4v_backend *b, glm4v_event *event);

    /* Weights, while a model is opened. The fills may be called from several threads for disjoint
     * rows; row is a multiple of 16. weight_fill: rows are f32 [n, n_in] in host memory; quantizes
     * to the form (zero points 8; kinds with blocks are INVALID). weight_fill_codes: for INT8,
     * INT4, FP8 (tables: INT8), takes numbers as they are. weight_order: of a kind that is ordered,
     * [n_in], each in [0, n_in). INVALID and nothing done if the arguments do not fit the matrix.
     * weight_bytes, table_bytes: the bytes that alloc allocates; 0 if the device does not support
     * the kind. All required. */
    uint64_t (*weight_bytes)(glm4v_backend *b, const glm4v_weight_kind *kind);
    uint64_t (*table_bytes)(glm4v_backend *b, glm4v_form form, int64_t n_rows, int64_t n_cols);
    /* Allocate one block on large pages for the weights and tables that are allocated from now on,
     * as long as there is room; bytes: the sum of their sizes. close frees it, the single frees do
     * not. Once; NOMEM. optional: if NULL, each is allocated separately. */
    int (*weights_reserve)(glm4v_backend *b, uint64_t bytes, glm4v_error *err);
    int (*weight_alloc)(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                        glm4v_error *err);
    int (*weight_fill)(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                       const float *rows);
    int (*weight_fill_codes)(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                             const glm4v_codes *codes);
    /* Rows that are bf16 already, finite, [n, n_in]; of a BF16 matrix with an even n_in. optional:
     * if NULL, they are widened for weight_fill. */
    int (*weight_fill_bf16)(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                            const uint16_t *rows);
    /* The whole matrix or table from random numbers made on the device. optional: if NULL, the host
     * generates them and calls the fills. */
    int (*weight_fill_random)(glm4v_backend *b, glm4v_weight *w, const glm4v_random *random);
    int (*table_fill_random)(glm4v_backend *b, glm4v_table *t, const glm4v_random *random);
    /* Host memory into which codes or bf16 of rows [row, row + n) may be read, so that the fills
     * read them there: that of rows [row + 16, row + n + 16), which are filled after them. n a
     * multiple of 16. NULL: there is none. optional: if NULL, there never is. */
    void *(*weight_room)(glm4v_backend *b, const glm4v_weight *w, int64_t row, int64_t n);
    int (*weight_order)(glm4v_backend *b, glm4v_weight *w, const int32_t *order);
    void (*weight_free)(glm4v_backend *b, glm4v_weight *w);
    int (*table_alloc)(glm4v_backend *b, glm4v_table *t, glm4v_form form, int64_t n_rows,
                       int64_t n_cols, glm4v_error *err);
    int (*table_fill)(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n, const float *rows);
    int (*table_fill_codes)(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                            const glm4v_codes *codes);
    void (*table_free)(glm4v_backend *b, glm4v_table *t);
    /* Wait until the fills that read from host memory [from, from + bytes) have done so: the memory
     * is then free for the next rows. Any thread. optional: if NULL, fills have read their rows
     * when they return. */
    int (*fills_wait)(glm4v_backend *b, const void *from, size_t bytes);

    /* Keys and values. bytes: UINT64_MAX when they overflow. open: UNSUPPORTED where the device has
     * no such form; contents undefined. copy: the first n tokens of all layers, from slot to slot.
     * All required. */
    uint64_t (*kv_bytes)(glm4v_backend *b, const glm4v_kv_shape *shape);
    int (*kv_open)(glm4v_backend *b, glm4v_kv *kv, const glm4v_kv_shape *shape, glm4v_error *err);
    void (*kv_close)(glm4v_backend *b, glm4v_kv *kv);
    int (*kv_copy)(glm4v_backend *b, glm4v_queue q, glm4v_kv *kv, int64_t to, int64_t from,
                   int64_t n);

    /* Working memory of a queue: allocated now, so that later calls allocate nothing; after several
     * calls each of the two parts has the largest size. bytes: of products and of attention. An
     * operation that needs more allocates it itself, or returns NOMEM. All required. */
    int (*reserve)(glm4v_backend *b, const glm4v_scratch_need *need, glm4v_error *err);
    void (*scratch_bytes)(glm4v_backend *b, const glm4v_scratch_need *need, uint64_t *product,
                          uint64_t *attention);
    uint64_t (*attend_all_bytes)(glm4v_backend *b, int64_t rows, int64_t heads, int64_t head_dim);

    /* Steps. bytes: the size of one, host and device together. begin: *replayed is true if the work
     * of this key is recorded already: then no operation may be called before step_end. flush: the
     * operations called so far may begin, and events recorded now are behind them; not with a key.
     * Every begin that returned 0 is followed by end or drop. end: submits the rest. drop: the rest
     * is discarded, also after a failure: nothing is recorded, and operations called since the last
     * flush may or may not be executed. All required. */
    uint64_t (*step_bytes)(glm4v_backend *b, const glm4v_step_size *size);
    int (*step_open)(glm4v_backend *b, glm4v_step **step, const glm4v_step_size *size,
                     glm4v_error *err);
    void (*step_close)(glm4v_step *step);
    int (*step_begin)(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed);
    int (*step_flush)(glm4v_step *step);
    int (*step_end)(glm4v_step *step);
    void (*step_drop)(glm4v_step *step);
    /* Nanoseconds that the device worked on the last step that ended, of a step object that is
     * timed. An event behind it has been reached. 0: unknown. optional: if NULL, it is unknown. */
    uint64_t (*step_time)(glm4v_step *step);

    /* Copies of a step, in the order of its operations. read: bytes as they are. The others as
     * those without a step. All required. */
    int (*step_upload)(glm4v_step *s, void *y, const float *host, int64_t n);
    int (*step_download)(glm4v_step *s, float *host, const void *x, int64_t n);
    int (*step_read)(glm4v_step *s, void *host, const void *x, size_t bytes);
    int (*step_copy)(glm4v_step *s, void *y, const void *x, size_t bytes);
    /* How copy_from gets activations of `from` here, for people ("peer copy"), prepared now. Called
     * for devices that will copy; UNSUPPORTED: these two cannot. optional, with copy_from. */
    int (*link)(glm4v_backend *b, glm4v_backend *from, const char **how);
    /* Activations [n] from memory of another device: behind what queue q of `from` was given, and
     * before what queue q of b is given later. x stays until an event behind it on queue q of b is
     * reached. UNSUPPORTED: these two devices cannot. optional: if NULL, or UNSUPPORTED, they go
     * through host memory. */
    int (*copy_from)(glm4v_backend *b, glm4v_queue q, void *y, glm4v_backend *from, const void *x,
                     int64_t n);

    /* Operations. All required. */
    /* y [rows, n_cols] = table rows of the step's ids */
    int (*embed)(glm4v_step *s, void *y, const glm4v_table *t);
    /* y [rows, n_out] = x [rows, n_in] w^T + bias (+ y) */
    int (*product)(glm4v_step *s, const glm4v_product *p);
    /* the same with y f32 */
    int (*logits)(glm4v_step *s, const glm4v_product *p);
    /* RMSNorm: y = w x / sqrt(mean(x^2) + eps); LayerNorm: w (x - mean) / sqrt(var + eps) + bias */
    int (*norm)(glm4v_step *s, const glm4v_norm_rows *n);
    /* y [rows, n] = silu(x [rows, 0..n)) * x [rows, n..2n): gate first, then up */
    int (*silu_mul)(glm4v_step *s, void *y, const void *x, int64_t rows, int64_t n);
    /* x = 0.5 x (1 + erf(x / sqrt 2)), in place */
    int (*gelu)(glm4v_step *s, void *x, int64_t n);
    /* y += x */
    int (*add)(glm4v_step *s, void *y, const void *x, int64_t n);
    /* x *= factor */
    int (*scale)(glm4v_step *s, void *x, float factor, int64_t n);
    int (*rope)(glm4v_step *s, const glm4v_rope *r);
    /* keys and values of the step's rows behind those of their slots; k and v stay as they are
     * until the `attend` of the layer, which appends branches in their turn */
    int (*append)(glm4v_step *s, const glm4v_append *a);
    /* o = softmax(scale q k^T) v; row i of a span sees its slot's keys [0, length + i] */
    int (*attend)(glm4v_step *s, const glm4v_attend *a);
    /* the same, every row seeing all rows */
    int (*attend_all)(glm4v_step *s, const glm4v_attend_all *a);
    /* y row places[i] = x row i, i < n_places, of n_cols */
    int (*place_rows)(glm4v_step *s, void *y, const void *x, int64_t n_cols);
    /* y row i = x row outputs[i], i < n_outputs */
    int (*take_rows)(glm4v_step *s, void *y, const void *x, int64_t n_cols);

    /* Sampling on the device, so that only some bytes are read back. optional: if NULL, logits are
     * read back and forward/sample.c samples on the host; ids are never GLM4V_ID_SAMPLED then. */
    int (*sample)(glm4v_step *s, const glm4v_sample *a);
    /* Composites. optional: if NULL, block.c composes them from the operations above. */
    int (*norm_product)(glm4v_step *s, const glm4v_norm_product *p);
    int (*qkv)(glm4v_step *s, const glm4v_qkv *p);
    int (*gate_up)(glm4v_step *s, const glm4v_gate_up *p);
    int (*product_add)(glm4v_step *s, const glm4v_product_add *p);

    /* Pictures in memory or of a format that the host cannot read. takes: whether preprocess can
     * read this one. preprocess: patches as activations [grid_h * grid_w, 3 * temporal * patch^2],
     * in merge- block-major order; pixels stay until an event behind it is reached. optional, both
     * or none: if NULL, pictures must be RGB in host memory and picture/preprocess.c makes the
     * patches; it also does so for pictures in RGB in host memory that `takes` refuses. */
    bool (*takes)(glm4v_backend *b, const glm4v_image *image);
    int (*preprocess)(glm4v_step *s, void *patches, const glm4v_pixels *p);

    /* Call `observer` before every product from now on; NULL: no more. Only before any other thread
     * uses the backend. The observer must stay valid. optional: if NULL, calibration is not
     * possible on this device. */
    void (*observe)(glm4v_backend *b, const glm4v_observer *observer);
} glm4v_backend_ops;

/* Properties on which forward passes and the scheduler depend. */
typedef struct {
    size_t activation;     /* bytes of one */
    glm4v_kv_form kv_form; /* of models whose text weights are not fp32 */
    uint32_t kv_forms;     /* that kv_open takes: bits 1 << glm4v_kv_form */
    int64_t prefill_rows;  /* tokens of a prompt that are best taken through the layers at a time */
    int64_t tower_rows; /* rows of the tower's MLPs at a time: they are several times its width */
    /* multiply-adds that are submitted at a time, at most 20 ms of work: between two such chunks a
     * cancel is seen. 0: one layer */
    uint64_t chunk;
    bool asynchronous; /* see the head; false: one queue, in effect */
    /* Steps of decode may have several spans of one slot: append and attend go through them in
     * order */
    bool branches;
    /* All device memory is taken when a context opens, bounded by its largest picture; else vision
     * scratch grows with the largest picture seen */
    bool all_at_open;
} glm4v_backend_traits;

struct glm4v_backend {
    const glm4v_backend_ops *ops;
    const glm4v_backend_traits *traits;
    glm4v_pool *pool; /* host threads, the model's; outlives the backend; NULL: the caller alone */
    const char *isa;  /* kernels in use, for people */
    const char *device; /* as it is asked for, "cuda:1"; for people */
    /* digest of the table that products are chosen by, 16 digits; "" while it is made; NULL: there
     * is none */
    const char *products;
    const glm4v_log *log;
};

/* Open the CPU backend. GLM4V_CPU in the environment (c, avx2, avx512, amx) lowers the kernel
 * level. pool is not owned. INVALID, NOMEM. */
int glm4v_backend_cpu_open(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log,
                           glm4v_error *err);

/* Could `device` be opened here? INVALID: no such name; DEVICE, with the reason. */
int glm4v_backend_check(const char *device, glm4v_error *err);

/* Open what `device` names: "auto", "cpu", "cuda[:N]". "cuda" fails with GLM4V_ERR_DEVICE and the
 * reason. pool is not owned. */
int glm4v_backend_open(glm4v_backend **backend, const char *device, glm4v_pool *pool,
                       const glm4v_log *log, glm4v_error *err);
void glm4v_backend_close(glm4v_backend **backend);

/* For tests. What glm4v_backend_open() calls for "cpu" and "auto" from now on; NULL: the CPU.
 * Returns what it called before. */
typedef int (*glm4v_backend_open_fn)(glm4v_backend **backend, glm4v_pool *pool,
                                     const glm4v_log *log, glm4v_error *err);
glm4v_backend_open_fn glm4v_backend_replace_cpu(glm4v_backend_open_fn open);

#endif
