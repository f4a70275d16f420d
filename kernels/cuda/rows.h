/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Norms, element operations, tables, copies of rows. */
#ifndef GLM4V_CUDA_ROWS_H
#define GLM4V_CUDA_ROWS_H

#include "launch.h"
#include "product.h"
#include "step.h"

/* RMSNorm, or with a bias LayerNorm, of `groups` neighbouring groups of n values of each row: y =
 * norm(x), or y += norm(x). w, bias f32 [n]. Sums f32. y may be x. n up to 16384. */
typedef struct {
    glm4v_bf16 *y;
    int64_t ldy;
    const glm4v_bf16 *x;
    int64_t ldx;
    const float *w, *bias;
    float eps;
    int32_t rows, groups, n;
    bool add;
} glm4v_cuda_norm;
GLM4V_CUDA_API cudaError_t glm4v_cuda_norm_rows(cudaStream_t stream, const glm4v_cuda_norm *n);

/* What stands between two products of a block, in one kernel: x += branch, or x += RMSNorm(branch),
 * then norm(x), rounded to bf16 and then as glm4v_cuda_round does for w. */
typedef struct {
    glm4v_cuda_norm norm;     /* groups 1, no add. y: where rounds(w) is false; else unused */
    const glm4v_bf16 *branch; /* [rows, n], or NULL: x stays. Else x is written, rounded to bf16 */
    int64_t ldbranch;
    const float *branch_norm; /* [n], with the eps of branch_eps; or NULL: branch as it is */
    float branch_eps;
    /* branch holds the sums of a raw product: their scales and bias (glm4v_cuda_sums); else NULL */
    const float *branch_column, *branch_row, *branch_bias;
    const glm4v_cuda_matrix *w; /* of n inputs */
    glm4v_cuda_rounded *out;    /* where rounds(w) is true; sets ldq and ldscale */
} glm4v_cuda_norm_round;
GLM4V_CUDA_API cudaError_t glm4v_cuda_norm_rounded(cudaStream_t stream,
                                                   const glm4v_cuda_norm_round *n);

/* y [rows, n] = silu(x [rows, 0..n)) * x [rows, n..2n); y rows n apart, x rows 2n apart */
GLM4V_CUDA_API cudaError_t glm4v_cuda_silu_mul(cudaStream_t stream, glm4v_bf16 *y,
                                               const glm4v_bf16 *x, int32_t rows, int32_t n);
/* x = 0.5 x (1 + erf(x / sqrt 2)) */
GLM4V_CUDA_API cudaError_t glm4v_cuda_gelu(cudaStream_t stream, glm4v_bf16 *x, size_t n);
/* y += x */
GLM4V_CUDA_API cudaError_t glm4v_cuda_add(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                                          size_t n);
GLM4V_CUDA_API cudaError_t glm4v_cuda_scale(cudaStream_t stream, glm4v_bf16 *x, float factor,
                                            size_t n);
GLM4V_CUDA_API cudaError_t glm4v_cuda_widen(cudaStream_t stream, float *y, const glm4v_bf16 *x,
                                            size_t n);
GLM4V_CUDA_API cudaError_t glm4v_cuda_narrow(cudaStream_t stream, glm4v_bf16 *y, const float *x,
                                             size_t n);

/* Embedding tables, row-major: F32, BF16, or INT8 with a scale a row. */
typedef struct {
    glm4v_cuda_form form;
    int32_t n_rows, n_cols;
    void *data;
    float *scale;
} glm4v_cuda_table;
/* Rows [row, row + n) of a table from f32 [n, n_cols], INT8 quantized as the CPU does. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_table_fill(cudaStream_t stream, const glm4v_cuda_table *t,
                                                 int32_t row, int32_t n, const float *rows);
/* y [rows, n_cols] = rows of the step's ids; an id of INT32_MIN is sampled[slot of the row]. An id
 * out of range (-1, where choosing failed) reads row 0. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_embed(cudaStream_t stream, glm4v_bf16 *y,
                                            const glm4v_cuda_table *t,
                                            const glm4v_cuda_step_data *step,
                                            const int32_t *sampled, int32_t rows);
/* y row map[i] = x row i (place), y row i = x row map[i] (take), i < n, of n_cols. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_place(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                                            const int32_t *map, int32_t n, int64_t n_cols);
GLM4V_CUDA_API cudaError_t glm4v_cuda_take(cudaStream_t stream, glm4v_bf16 *y, const glm4v_bf16 *x,
                                           const int32_t *map, int32_t n, int64_t n_cols);

#endif
