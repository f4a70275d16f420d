/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend's insides: kernel tables, threads, scratch. Private to backend_cpu*.c.
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

    char *room; /* of the weights of a model, handed out from the front; or NULL */
    size_t room_bytes, room_used;

    pthread_mutex_t lock; /* guards everything below; held for the length of one operation */
    void *x;              /* rounded activations: bf16 or int8 */
    float *x_scale;       /* [slab, groups] */
    int32_t *x_sum;       /* [slab, groups] */
    size_t x_bytes, x_groups;
    float *row; /* [threads][row_floats]: one row with its inputs in another order */
    size_t row_floats;
    float *attention_scratch; /* attention_floats for each thread */
    size_t attention_floats;
} glm4v_cpu_backend;

static inline glm4v_cpu_backend *glm4v_cpu(glm4v_backend *b)
{
    return (glm4v_cpu_backend *)b;
}

/* Run n tasks, in the pool if `work` (element operations of all of them) is worth waking it. */
void glm4v_cpu_run(glm4v_cpu_backend *c, uint32_t n, uint64_t work,
                   void (*fn)(void *user, uint32_t i, uint32_t thread), void *user);

/* Grow scratch; NOMEM leaves it as it was. Lock held. */
int glm4v_cpu_reserve_linear(glm4v_cpu_backend *c, int32_t T, int32_t n_in, glm4v_error *err);
int glm4v_cpu_reserve_attention(glm4v_cpu_backend *c, int32_t n_k, int32_t head_dim,
                                glm4v_error *err);

/* backend/cpu_weights.c, backend/cpu_linear.c, backend/cpu_attention.c, backend/cpu_rows.c: entries
 * of the table. */
int glm4v_cpu_weights_reserve(glm4v_backend *b, uint64_t bytes, glm4v_error *err);
uint64_t glm4v_cpu_weight_bytes(glm4v_backend *b, const glm4v_weight_kind *kind);
int glm4v_cpu_weight_alloc(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                           glm4v_error *err);
int glm4v_cpu_weight_fill(glm4v_backend *b, glm4v_weight *w, int32_t row, int32_t n,
                          const float *rows);
int glm4v_cpu_weight_fill_codes(glm4v_backend *b, glm4v_weight *w, int32_t row, int32_t n,
                                const glm4v_codes *codes);
int glm4v_cpu_weight_fill_bf16(glm4v_backend *b, glm4v_weight *w, int32_t row, int32_t n,
                               const uint16_t *rows);
void *glm4v_cpu_weight_room(glm4v_backend *b, const glm4v_weight *w, int32_t row, int32_t n);
int glm4v_cpu_weight_order(glm4v_backend *b, glm4v_weight *w, const int32_t *order);
void glm4v_cpu_weight_free(glm4v_backend *b, glm4v_weight *w);
int glm4v_cpu_table_alloc(glm4v_backend *b, glm4v_table *t, glm4v_form form, int32_t n_rows,
                          int32_t n_cols, glm4v_error *err);
int glm4v_cpu_table_fill(glm4v_backend *b, glm4v_table *t, int32_t row, int32_t n,
                         const float *rows);
int glm4v_cpu_table_fill_codes(glm4v_backend *b, glm4v_table *t, int32_t row, int32_t n,
                               const glm4v_codes *codes);
void glm4v_cpu_table_free(glm4v_backend *b, glm4v_table *t);
int glm4v_cpu_linear(glm4v_backend *b, void *y, int64_t ldy, const void *x, int64_t ldx,
                     const glm4v_weight *w, const float *bias, int32_t T, bool add);
int glm4v_cpu_attention(glm4v_backend *b, const glm4v_attention_job *jobs, int32_t n_jobs,
                        const glm4v_attention *shape);
int glm4v_cpu_kv_append(glm4v_backend *b, const glm4v_kv_job *jobs, int32_t n_jobs, int64_t ld,
                        int32_t kv_heads, int32_t head_dim, int64_t capacity);
int glm4v_cpu_embed(glm4v_backend *b, void *y, const glm4v_table *t, const int32_t *ids, int32_t T);
int glm4v_cpu_rms_norm(glm4v_backend *b, void *y, const void *x, const float *w, int32_t T,
                       int32_t n, float eps, bool add);
int glm4v_cpu_layer_norm(glm4v_backend *b, void *y, const void *x, const float *w,
                         const float *bias, int32_t T, int32_t n, float eps, bool add);
int glm4v_cpu_silu_mul(glm4v_backend *b, void *y, const void *x, int32_t T, int32_t n);
int glm4v_cpu_gelu(glm4v_backend *b, void *x, size_t n);
int glm4v_cpu_add(glm4v_backend *b, void *y, const void *x, size_t n);
int glm4v_cpu_scale(glm4v_backend *b, void *x, float factor, size_t n);
int glm4v_cpu_rope(glm4v_backend *b, void *x, int64_t ldx, const float *cos, const float *sin,
                   int32_t T, int32_t heads, int32_t head_dim, int32_t n_freq,
                   glm4v_rope_style style);
int glm4v_cpu_copy_rows(glm4v_backend *b, void *y, const int32_t *rows, const void *x, int32_t n,
                        int32_t n_cols);
int glm4v_cpu_gather_rows(glm4v_backend *b, void *y, const void *x, const int32_t *rows, int32_t n,
                          int32_t n_cols);

#endif
