/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend's insides: kernel tables, threads, scratch. Private to backend/cpu*.c and to
 * quantize/capture.c.
 * Work is cut into tasks for the pool; a row's result is the same bytes however it is cut, so small
 * work is simply done by the caller. */
#ifndef GLM4V_ENGINE_BACKEND_CPU_H
#define GLM4V_ENGINE_BACKEND_CPU_H

#include <pthread.h>

#include "act.h"
#include "attention.h"
#include "backend/backend.h"
#include "convert.h"
#include "gemm.h"
#include "norm.h"
#include "rope.h"

/* Rows whose rounded activations are held at a time; longer calls go slab by slab. */
#define GLM4V_CPU_SLAB 512
/* Query rows (queries x heads of a group) of one attention kernel call. */
#define GLM4V_CPU_ATTENTION_ROWS 48

typedef struct {
    glm4v_backend base;
    glm4v_norm_ops norm;
    glm4v_rope_ops rope;
    glm4v_gemm_ops gemm;
    glm4v_attention_ops attention;
    glm4v_act_ops act;
    glm4v_convert_ops convert;

    char *room; /* for the weights of a model, allocated from the front; or NULL */
    size_t room_bytes, room_used;
    const glm4v_observer *observer; /* of products; or NULL */

    pthread_mutex_t lock; /* guards everything below; held for the length of one operation */
    void *x;              /* rounded activations: bf16, e4m3 as bf16, or int8 */
    float *x_scale;       /* [slab, groups]; e4m3: [slab] */
    int32_t *x_sum;       /* [slab, groups] */
    size_t x_bytes;
    int64_t x_scales;
    float *row; /* [threads][row_floats]: one row with its inputs in another order, or normed */
    int64_t row_floats;
    float *attention_scratch; /* attention_floats for each thread */
    int64_t attention_floats;
    char failure[256]; /* text of the last one */
} glm4v_cpu_backend;

/* One sequence's part of an attention call: n_q query rows against n_k keys. */
typedef struct {
    float *o;          /* [n_q, heads * head_dim], rows ldo apart */
    const float *q;    /* [n_q, heads * head_dim], rows ldq apart */
    const void *k, *v; /* key i of head h: element i * head_dim + h * k_head */
    int64_t n_q, n_k;
} glm4v_cpu_attention_job;

/* Rows of keys and values to append to one sequence's. */
typedef struct {
    void *k_cache, *v_cache; /* row 0 of head 0; layout [kv_heads][capacity][head_dim] */
    const float *k, *v;      /* [n, kv_heads * head_dim], rows ld apart */
    int64_t position, n;     /* first row to write, rows */
} glm4v_cpu_append_job;

/* A step: a copy of the last step_begin. */
typedef struct {
    glm4v_step base;
    int64_t rows, n_spans, n_places, n_outputs;
    int32_t *ids, *places, *outputs; /* [rows] [rows] [outputs] of the size */
    glm4v_step_span *spans;          /* [spans] */
    float *cos, *sin;                /* [rows, n_freq] */
    const float *row_cos, *row_sin;  /* of row 0: those, or the tables' */
    int64_t n_freq;
    glm4v_rope_style style;
    int64_t n_rounds;              /* most spans that one slot has */
    glm4v_append later;            /* of which append has done the first round */
    glm4v_cpu_attention_job *jobs; /* [spans] */
    glm4v_cpu_append_job *appends; /* [spans] */
} glm4v_cpu_step;

static inline glm4v_cpu_backend *glm4v_cpu(glm4v_backend *b)
{
    return (glm4v_cpu_backend *)b;
}

static inline glm4v_cpu_step *glm4v_cpu_step_of(glm4v_step *s)
{
    return (glm4v_cpu_step *)s;
}

/* Run n tasks, in the pool if `work` (element operations of all of them) is worth waking it. */
void glm4v_cpu_run(glm4v_cpu_backend *c, int64_t n, uint64_t work,
                   void (*fn)(void *user, int64_t i, int64_t thread), void *user);

/* Grow scratch; NOMEM leaves it as it was, its text is in c->failure. Lock held. */
int glm4v_cpu_reserve_linear(glm4v_cpu_backend *c, int64_t T, int64_t n_in);
int glm4v_cpu_reserve_attention(glm4v_cpu_backend *c, int64_t n_k, int64_t head_dim);

/* backend/cpu_weights.c, backend/cpu_step.c, backend/cpu_linear.c, backend/cpu_attention.c,
 * backend/cpu_rows.c: entries of the table. */
int glm4v_cpu_weights_reserve(glm4v_backend *b, uint64_t bytes, glm4v_error *err);
uint64_t glm4v_cpu_weight_bytes(glm4v_backend *b, const glm4v_weight_kind *kind);
int glm4v_cpu_weight_alloc(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                           glm4v_error *err);
int glm4v_cpu_weight_fill(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                          const float *rows);
int glm4v_cpu_weight_fill_codes(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                                const glm4v_codes *codes);
int glm4v_cpu_weight_fill_bf16(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                               const uint16_t *rows);
void *glm4v_cpu_weight_room(glm4v_backend *b, const glm4v_weight *w, int64_t row, int64_t n);
int glm4v_cpu_weight_order(glm4v_backend *b, glm4v_weight *w, const int32_t *order);
void glm4v_cpu_weight_free(glm4v_backend *b, glm4v_weight *w);
int glm4v_cpu_table_alloc(glm4v_backend *b, glm4v_table *t, glm4v_form form, int64_t n_rows,
                          int64_t n_cols, glm4v_error *err);
int glm4v_cpu_table_fill(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                         const float *rows);
int glm4v_cpu_table_fill_codes(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                               const glm4v_codes *codes);
void glm4v_cpu_table_free(glm4v_backend *b, glm4v_table *t);
uint64_t glm4v_cpu_table_bytes(glm4v_backend *b, glm4v_form form, int64_t n_rows, int64_t n_cols);

uint64_t glm4v_cpu_kv_bytes(glm4v_backend *b, const glm4v_kv_shape *shape);
int glm4v_cpu_kv_open(glm4v_backend *b, glm4v_kv *kv, const glm4v_kv_shape *shape,
                      glm4v_error *err);
void glm4v_cpu_kv_close(glm4v_backend *b, glm4v_kv *kv);
int glm4v_cpu_kv_copy(glm4v_backend *b, glm4v_queue q, glm4v_kv *kv, int64_t to, int64_t from,
                      int64_t n);
uint64_t glm4v_cpu_attend_all_bytes(glm4v_backend *b, int64_t rows, int64_t heads,
                                    int64_t head_dim);

uint64_t glm4v_cpu_step_bytes(glm4v_backend *b, const glm4v_step_size *size);
int glm4v_cpu_step_open(glm4v_backend *b, glm4v_step **step, const glm4v_step_size *size,
                        glm4v_error *err);
void glm4v_cpu_step_close(glm4v_step *step);
int glm4v_cpu_step_begin(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed);
int glm4v_cpu_step_end(glm4v_step *step);
void glm4v_cpu_step_drop(glm4v_step *step);
int glm4v_cpu_step_upload(glm4v_step *s, void *y, const float *host, int64_t n);
int glm4v_cpu_step_download(glm4v_step *s, float *host, const void *x, int64_t n);
int glm4v_cpu_step_copy(glm4v_step *s, void *y, const void *x, size_t bytes);

int glm4v_cpu_product(glm4v_step *s, const glm4v_product *p);
int glm4v_cpu_append(glm4v_step *s, const glm4v_append *a);
int glm4v_cpu_attend(glm4v_step *s, const glm4v_attend *a);
int glm4v_cpu_attend_all(glm4v_step *s, const glm4v_attend_all *a);
int glm4v_cpu_embed(glm4v_step *s, void *y, const glm4v_table *t);
int glm4v_cpu_norm(glm4v_step *s, const glm4v_norm_rows *n);
int glm4v_cpu_silu_mul(glm4v_step *s, void *y, const void *x, int64_t rows, int64_t n);
int glm4v_cpu_gelu(glm4v_step *s, void *x, int64_t n);
int glm4v_cpu_add(glm4v_step *s, void *y, const void *x, int64_t n);
int glm4v_cpu_scale(glm4v_step *s, void *x, float factor, int64_t n);
int glm4v_cpu_rope(glm4v_step *s, const glm4v_rope *r);
int glm4v_cpu_place_rows(glm4v_step *s, void *y, const void *x, int64_t n_cols);
int glm4v_cpu_take_rows(glm4v_step *s, void *y, const void *x, int64_t n_cols);

#endif
