/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library computes column-major y^T = w x^T: m = n_out, n = rows, k = n_in. */
#include "prefill_lt.h"

#include <string.h>

#include "lt_status.h"

namespace
{
/* An algorithm is chosen for this many rows, and serves all. */
enum { CHOICE_ROWS = 640, WORKSPACE = 32 << 20 };

/* What the library asks for a product. */
struct problem {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, y;
};

static_assert(LT_NOT_INITIALIZED == (int)CUBLAS_STATUS_NOT_INITIALIZED &&
                  LT_ALLOC_FAILED == (int)CUBLAS_STATUS_ALLOC_FAILED &&
                  LT_INVALID_VALUE == (int)CUBLAS_STATUS_INVALID_VALUE &&
                  LT_ARCH_MISMATCH == (int)CUBLAS_STATUS_ARCH_MISMATCH &&
                  LT_MAPPING_ERROR == (int)CUBLAS_STATUS_MAPPING_ERROR &&
                  LT_EXECUTION_FAILED == (int)CUBLAS_STATUS_EXECUTION_FAILED &&
                  LT_INTERNAL_ERROR == (int)CUBLAS_STATUS_INTERNAL_ERROR &&
                  LT_NOT_SUPPORTED == (int)CUBLAS_STATUS_NOT_SUPPORTED &&
                  LT_LICENSE_ERROR == (int)CUBLAS_STATUS_LICENSE_ERROR,
              "lt_status.h");

void close_problem(problem *q)
{
    if (q->y)
        cublasLtMatrixLayoutDestroy(q->y);
    if (q->x)
        cublasLtMatrixLayoutDestroy(q->x);
    if (q->w)
        cublasLtMatrixLayoutDestroy(q->w);
    if (q->operation)
        cublasLtMatmulDescDestroy(q->operation);
}

cublasStatus_t open_problem(problem *q, const lt_product *p, int32_t rows)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cudaDataType_t y_type = p->y_f32 ? CUDA_R_32F : CUDA_R_16BF;
    const uint64_t n_in = (uint64_t)p->n_in, n_out = (uint64_t)p->n_out, n = (uint64_t)rows;
    cublasStatus_t status = cublasLtMatmulDescCreate(&q->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(q->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                &transposed, sizeof transposed);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&q->w, CUDA_R_16BF, n_in, n_out, p->ldw);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&q->x, CUDA_R_16BF, n_in, n, p->ldx);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&q->y, y_type, n_out, n, p->ldy);
    return status;
}

/* The library's first choice that adds up a sum in one place. */
cublasStatus_t ask(cublasLtMatmulHeuristicResult_t *result, const lt_library *lt, const problem *q)
{
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasLtMatmulPreference_t preference;
    int found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &lt->workspace_bytes, sizeof lt->workspace_bytes);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                         &reductions, sizeof reductions);
    status = cublasLtMatmulAlgoGetHeuristic(lt->handle, q->operation, q->w, q->x, q->y, q->y,
                                            preference, 1, result, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    return status == CUBLAS_STATUS_SUCCESS && !found ? CUBLAS_STATUS_NOT_SUPPORTED : status;
}

cublasStatus_t choose(lt_shape *shape, const lt_library *lt, const lt_product *p)
{
    cublasLtMatmulHeuristicResult_t result;
    problem q = {};
    cublasStatus_t status = open_problem(&q, p, CHOICE_ROWS);
    memset(&result, 0, sizeof result);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = ask(&result, lt, &q);
    close_problem(&q);
    *shape = { p->n_out, p->n_in, p->ldw, p->y_f32, status != CUBLAS_STATUS_SUCCESS, result.algo };
    return status == CUBLAS_STATUS_NOT_SUPPORTED ? CUBLAS_STATUS_SUCCESS : status;
}

/* The shape's entry; NULL where the table is full or the library failed. */
const lt_shape *find_shape(lt_library *lt, const lt_product *p, cublasStatus_t *status)
{
    *status = CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < lt->n_shapes; i++) {
        const lt_shape *s = &lt->shape[i];
        if (s->n_out == p->n_out && s->n_in == p->n_in && s->ldw == p->ldw && s->y_f32 == p->y_f32)
            return s;
    }
    if (lt->n_shapes == LT_SHAPES) {
        *status = CUBLAS_STATUS_NOT_SUPPORTED;
        return NULL;
    }
    *status = choose(&lt->shape[lt->n_shapes], lt, p);
    return *status == CUBLAS_STATUS_SUCCESS ? &lt->shape[lt->n_shapes++] : NULL;
}
} // namespace

cudaError_t lt_open(lt_library *lt)
{
    cublasStatus_t status = cublasLtCreate(&lt->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return lt_error_of(status);
    lt->workspace_bytes = WORKSPACE;
    return cudaMalloc(&lt->workspace, lt->workspace_bytes);
}

void lt_close(lt_library *lt)
{
    cudaFree(lt->workspace);
    if (lt->handle)
        cublasLtDestroy(lt->handle);
}

cudaError_t lt_multiply(lt_library *lt, cudaStream_t stream, const lt_product *p)
{
    const float one = 1, beta = p->add ? 1 : 0;
    problem q = {};
    cublasStatus_t status;
    const lt_shape *shape = find_shape(lt, p, &status);
    if (!shape || shape->none)
        return shape ? cudaErrorNotSupported : lt_error_of(status);
    status = open_problem(&q, p, p->rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmul(lt->handle, q.operation, &one, p->w, q.w, p->x, q.x, &beta, p->y,
                                q.y, p->y, q.y, &shape->algorithm, lt->workspace,
                                lt->workspace_bytes, stream);
    close_problem(&q);
    return lt_error_of(status);
}
