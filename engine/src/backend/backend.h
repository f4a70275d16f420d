/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tensor operations of one device. Forward passes are written once, against this table;
 * backend/cpu.c fills it with the kernels of kernels/, threads and scratch of its own,
 * a CUDA module will fill it with launches.
 *
 * Activations are f32 on the CPU (bf16 on CUDA), row-major, in memory of the device: `void *` here.
 * ld* are distances between rows in elements. T: rows of this call. Every row's result is the same
 * bytes whatever T is and whatever the other rows hold (batch invariance). Operations may be called
 * from several threads: they take turns inside. They return 0 or GLM4V_ERR_DEVICE; the CPU never
 * fails.
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

/* One sequence's part of an attention call: n_q query rows against n_k keys. */
typedef struct {
    void *o;       /* [n_q, heads * head_dim], rows ldo apart */
    const void *q; /* [n_q, heads * head_dim], rows ldq apart */
    const void *k; /* key i of head h: k + i * ldk + h * k_head */
    const void *v;
    int32_t n_q, n_k;
} glm4v_attention_job;

typedef struct {
    int32_t heads, kv_heads, head_dim;
    int64_t ldo, ldq, ldk, ldv;
    int64_t k_head, v_head; /* elements from one key head to the next */
    float scale;
    bool causal; /* query i of a job sees keys [0, n_k - n_q + i], else all n_k */
    bool bf16;   /* keys and values are bf16 where activations are wider */
} glm4v_attention;

/* Rows of keys and values to append to one sequence's cache. */
typedef struct {
    /* row 0 of head 0 of this layer and sequence; layout [kv_heads][capacity][head_dim] */
    void *k_cache, *v_cache;
    const void *k, *v;   /* [n, kv_heads * head_dim], rows ld apart */
    int32_t position, n; /* first row to write, rows */
    bool bf16;           /* the cache is bf16 where activations are wider */
} glm4v_kv_job;

typedef enum {
    GLM4V_ROPE_INTERLEAVED, /* pairs (2i, 2i+1), i < n_freq; the rest of the head passes */
    GLM4V_ROPE_HALF,        /* pairs (i, i + n_freq), i < n_freq */
} glm4v_rope_style;

typedef struct glm4v_backend glm4v_backend;

typedef struct {
    const char *name;                /* "cpu", "cuda" */
    void (*close)(glm4v_backend *b); /* required */

    /* Memory of the device; alloc: 64-byte aligned, contents undefined; free: NULL is allowed. All
     * required. */
    int (*alloc)(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err);
    void (*free)(glm4v_backend *b, void *ptr);
    /* bytes of one activation */
    size_t (*activation_size)(glm4v_backend *b);
    /* f32 -> activations */
    int (*upload)(glm4v_backend *b, void *y, const float *host, size_t n);
    /* activations -> f32, waits */
    int (*download)(glm4v_backend *b, float *host, const void *x, size_t n);
    /* stays f32 (rotary tables) */
    int (*upload_f32)(glm4v_backend *b, void *y, const float *host, size_t n);

    /* Weights, while a model is opened. The fills may be called from several threads for disjoint
     * rows; row is a multiple of 16. weight_fill: rows are f32 [n, n_in] in host memory; quantizes
     * as the form says (zero points 8; kinds with blocks are INVALID). weight_fill_codes: for
     * INT8, INT4, FP8 (tables: INT8), takes numbers as they are. weight_order: of a kind that is
     * ordered, [n_in], each in [0, n_in). INVALID and nothing done where the arguments do not fit
     * the matrix. All required. */
    uint64_t (*weight_bytes)(glm4v_backend *b, const glm4v_weight_kind *kind);
    /* Take one block that the weights and tables allocated from now on share while it lasts, as
     * neighbours on large pages; bytes: the sum of what they take. close gives it back, not the
     * frees. Once; NOMEM. optional: if NULL, each takes memory of its own. */
    int (*weights_reserve)(glm4v_backend *b, uint64_t bytes, glm4v_error *err);
    int (*weight_alloc)(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                        glm4v_error *err);
    int (*weight_fill)(glm4v_backend *b, glm4v_weight *w, int32_t row, int32_t n,
                       const float *rows);
    int (*weight_fill_codes)(glm4v_backend *b, glm4v_weight *w, int32_t row, int32_t n,
                             const glm4v_codes *codes);
    /* Rows that are bf16 already, finite, [n, n_in]; of a BF16 matrix with an even n_in. optional:
     * if NULL, they are widened for weight_fill. */
    int (*weight_fill_bf16)(glm4v_backend *b, glm4v_weight *w, int32_t row, int32_t n,
                            const uint16_t *rows);
    /* Host memory into which codes or bf16 of rows [row, row + n) may be read for the fills to take
     * them from there: that of rows [row + 16, row + n + 16), which are filled after them. n a
     * multiple of 16. NULL: there is none. optional: if NULL, there never is. */
    void *(*weight_room)(glm4v_backend *b, const glm4v_weight *w, int32_t row, int32_t n);
    int (*weight_order)(glm4v_backend *b, glm4v_weight *w, const int32_t *order);
    void (*weight_free)(glm4v_backend *b, glm4v_weight *w);
    int (*table_alloc)(glm4v_backend *b, glm4v_table *t, glm4v_form form, int32_t n_rows,
                       int32_t n_cols, glm4v_error *err);
    int (*table_fill)(glm4v_backend *b, glm4v_table *t, int32_t row, int32_t n, const float *rows);
    int (*table_fill_codes)(glm4v_backend *b, glm4v_table *t, int32_t row, int32_t n,
                            const glm4v_codes *codes);
    void (*table_free)(glm4v_backend *b, glm4v_table *t);

    /* y [T, n_cols] = table rows ids [T] (host memory). required */
    int (*embed)(glm4v_backend *b, void *y, const glm4v_table *t, const int32_t *ids, int32_t T);
    /* y [T, n_out] = x [T, n_in] * w^T + bias (NULL = none) (+ y if add). required */
    int (*linear)(glm4v_backend *b, void *y, int64_t ldy, const void *x, int64_t ldx,
                  const glm4v_weight *w, const float *bias, int32_t T, bool add);
    /* y = w * x / sqrt(mean(x^2) + eps) per row of n (+ y if add). y may be x. required */
    int (*rms_norm)(glm4v_backend *b, void *y, const void *x, const float *w, int32_t T, int32_t n,
                    float eps, bool add);
    /* y = w * (x - mean) / sqrt(var + eps) + bias per row (+ y if add). y may be x. required */
    int (*layer_norm)(glm4v_backend *b, void *y, const void *x, const float *w, const float *bias,
                      int32_t T, int32_t n, float eps, bool add);
    /* y [T, n] = silu(x [T, 0..n)) * x [T, n..2n): gate first, then up. required */
    int (*silu_mul)(glm4v_backend *b, void *y, const void *x, int32_t T, int32_t n);
    /* x = 0.5 x (1 + erf(x / sqrt 2)), in place, n values. required */
    int (*gelu)(glm4v_backend *b, void *x, size_t n);
    /* y += x, n values. required */
    int (*add)(glm4v_backend *b, void *y, const void *x, size_t n);
    /* x *= factor, n values. required */
    int (*scale)(glm4v_backend *b, void *x, float factor, size_t n);
    /* Rotate heads of x [T, heads * head_dim] in place; cos, sin f32 [T, n_freq] in device memory.
     * required */
    int (*rope)(glm4v_backend *b, void *x, int64_t ldx, const float *cos, const float *sin,
                int32_t T, int32_t heads, int32_t head_dim, int32_t n_freq, glm4v_rope_style style);
    /* Append rows to caches. required */
    int (*kv_append)(glm4v_backend *b, const glm4v_kv_job *jobs, int32_t n_jobs, int64_t ld,
                     int32_t kv_heads, int32_t head_dim, int64_t capacity);
    /* o = softmax(scale q k^T) v per job and head. required */
    int (*attention)(glm4v_backend *b, const glm4v_attention_job *jobs, int32_t n_jobs,
                     const glm4v_attention *shape);
    /* y row rows[i] = x row i, i < n, of n_cols. rows in host memory. required */
    int (*copy_rows)(glm4v_backend *b, void *y, const int32_t *rows, const void *x, int32_t n,
                     int32_t n_cols);
    /* y row i = x row rows[i]. required */
    int (*gather_rows)(glm4v_backend *b, void *y, const void *x, const int32_t *rows, int32_t n,
                       int32_t n_cols);
    /* Take scratch for linears of at most T rows of max_n_in inputs and attention of at most n_k
     * keys of head_dim now, so that later calls allocate nothing. required */
    int (*reserve)(glm4v_backend *b, int32_t T, int32_t max_n_in, int32_t n_k, int32_t head_dim,
                   glm4v_error *err);
    /* Bytes of that scratch, for linears and for attention: over several calls of reserve each of
     * the two is as large as the largest. required */
    void (*scratch_bytes)(glm4v_backend *b, int32_t T, int32_t max_n_in, int32_t n_k,
                          int32_t head_dim, uint64_t *linear, uint64_t *attention);
} glm4v_backend_ops;

struct glm4v_backend {
    const glm4v_backend_ops *ops;
    glm4v_pool *pool; /* host threads, for loading and preprocessing too; never NULL */
    const char *isa;  /* CPU level in use */
    const glm4v_log *log;
};

/* Open the CPU backend. GLM4V_CPU in the environment (c, avx2, avx512, amx) lowers the kernel
 * level. INVALID, NOMEM. */
int glm4v_backend_cpu_open(glm4v_backend **backend, uint32_t n_threads, const glm4v_log *log,
                           glm4v_error *err);

/* Could `device` be opened here? INVALID: no such name; DEVICE, with the reason. */
int glm4v_backend_check(const char *device, glm4v_error *err);

/* Open what `device` names: "auto", "cpu", "cuda[:N]". "auto" falls back to the CPU with a warning
 * in the log where there is a CUDA module but no usable device; "cuda" fails with GLM4V_ERR_DEVICE
 * and the reason. */
int glm4v_backend_open(glm4v_backend **backend, const char *device, uint32_t n_threads,
                       const glm4v_log *log, glm4v_error *err);
void glm4v_backend_close(glm4v_backend **backend);

#endif
