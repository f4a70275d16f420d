/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products of bf16 or e4m3 by cuBLASLt: one algorithm for each shape, the same for all row
 * counts. */
#ifndef GLM4V_CUDA_PREFILL_LT_H
#define GLM4V_CUDA_PREFILL_LT_H

#include <cublasLt.h>

#include "product.h"

/* y [rows, n_out] = x [rows, n_in] w [n_out, n_in]^T (+ y if add); y bf16 or f32. fp8: x and w
 * e4m3, n_in and n_out multiples of 16. */
typedef struct {
    void *y;
    int64_t ldy;
    const void *x, *w;
    int64_t ldx, ldw;
    int32_t rows, n_out, n_in;
    bool add, y_f32, fp8;
} lt_product;

typedef struct {
    glm4v_cuda_choice choice; /* its algorithm: a cublasLtMatmulAlgo_t */
    bool none;                /* the library has no algorithm */
} lt_shape;

typedef struct {
    cublasLtHandle_t handle;
    void *workspace;
    size_t workspace_bytes;
    lt_shape shape[GLM4V_CUDA_CHOICES];
    int n_shapes;
    bool tune;
} lt_library;

cudaError_t lt_open(lt_library *lt, const glm4v_cuda_choices *choices);
void lt_close(lt_library *lt);
/* cudaErrorNotSupported where the library has no algorithm: for all row counts of the shape. */
cudaError_t lt_multiply(lt_library *lt, cudaStream_t stream, const lt_product *p);

#endif
