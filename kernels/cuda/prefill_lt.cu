/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library computes column-major y^T = w x^T: m = n_out, n = rows, k = n_in. */
#include "prefill_lt.h"

#include <algorithm>
#include <string.h>

#include "lt_status.h"

namespace
{
/* The library is asked for an algorithm for so many rows; it serves all. Products of e4m3 with few
 * inputs or outputs are a tower's, which has more rows. */
enum {
    CHOICE_ROWS = 640,
    TOWER_ROWS = 2304,
    TOWER_WIDTH = 2048,
    WORKSPACE = 32 << 20,
    CANDIDATES = 16, /* that are timed */
    TIMES = 5,
    FLUSH = 128 << 20, /* written before each: more than a cache holds */
};

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(glm4v_cuda_choice::algorithm), "as stored");

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
    const cudaDataType_t type = p->fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    const int8_t fast = p->fp8; /* sums stay in the matrix units */
    const uint64_t n_in = (uint64_t)p->n_in, n_out = (uint64_t)p->n_out, n = (uint64_t)rows;
    cublasStatus_t status = cublasLtMatmulDescCreate(&q->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(q->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                &transposed, sizeof transposed);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(q->operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM,
                                                &fast, sizeof fast);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&q->w, type, n_in, n_out, p->ldw);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&q->x, type, n_in, n, p->ldx);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutCreate(&q->y, y_type, n_out, n, p->ldy);
    return status;
}

/* Algorithms that add up a sum in one place, the library's favourite first. */
cublasStatus_t ask(cublasLtMatmulHeuristicResult_t *result, int *found, int most,
                   const lt_library *lt, const problem *q)
{
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasLtMatmulPreference_t preference;
    *found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    status =
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &lt->workspace_bytes, sizeof lt->workspace_bytes);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulAlgoGetHeuristic(lt->handle, q->operation, q->w, q->x, q->y, q->y,
                                                preference, most, result, found);
    cublasLtMatmulPreferenceDestroy(preference);
    return status == CUBLAS_STATUS_SUCCESS && !*found ? CUBLAS_STATUS_NOT_SUPPORTED : status;
}

cublasStatus_t multiply(lt_library *lt, cudaStream_t stream, const lt_product *p, const problem *q,
                        const cublasLtMatmulAlgo_t *algorithm)
{
    const float one = 1, beta = p->add ? 1 : 0;
    return cublasLtMatmul(lt->handle, q->operation, &one, p->w, q->w, p->x, q->x, &beta, p->y, q->y,
                          p->y, q->y, algorithm, lt->workspace, lt->workspace_bytes, stream);
}

/* ---- tuning ---- */

struct stopwatch {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    void *flush;

    explicit stopwatch(cudaStream_t on) : stream(on), begin(), end(), flush()
    {
    }

    bool open()
    {
        return cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess &&
               cudaMalloc(&flush, FLUSH) == cudaSuccess;
    }

    ~stopwatch()
    {
        cudaFree(flush);
        if (end)
            cudaEventDestroy(end);
        if (begin)
            cudaEventDestroy(begin);
    }
};

/* What y holds while products are timed that add to it. */
struct keeper {
    cudaStream_t stream;
    void *y, *copy;
    size_t bytes;

    keeper(cudaStream_t on, const lt_product *p) : stream(on), y(p->y), copy(), bytes(0)
    {
        const size_t element = p->y_f32 ? sizeof(float) : sizeof(glm4v_bf16);
        if (p->add)
            bytes = ((size_t)(p->rows - 1) * (size_t)p->ldy + (size_t)p->n_out) * element;
    }

    bool open()
    {
        return !bytes ||
               (cudaMalloc(&copy, bytes) == cudaSuccess &&
                cudaMemcpyAsync(copy, y, bytes, cudaMemcpyDefault, stream) == cudaSuccess);
    }

    bool restore()
    {
        return !bytes || cudaMemcpyAsync(y, copy, bytes, cudaMemcpyDefault, stream) == cudaSuccess;
    }

    ~keeper()
    {
        cudaFree(copy); /* waits for the copy */
    }
};

/* ms, median of TIMES; negative: it did not run. */
float time_of(lt_library *lt, const stopwatch &watch, const lt_product *p, const problem *q,
              const cublasLtMatmulAlgo_t *algorithm)
{
    float ms[TIMES + 1];
    for (float &one : ms) { /* the first loads the kernel */
        if (cudaMemsetAsync(watch.flush, 0, FLUSH, watch.stream) != cudaSuccess ||
            cudaEventRecord(watch.begin, watch.stream) != cudaSuccess ||
            multiply(lt, watch.stream, p, q, algorithm) != CUBLAS_STATUS_SUCCESS ||
            cudaEventRecord(watch.end, watch.stream) != cudaSuccess ||
            cudaEventSynchronize(watch.end) != cudaSuccess ||
            cudaEventElapsedTime(&one, watch.begin, watch.end) != cudaSuccess)
            return -1;
    }
    std::sort(ms + 1, ms + TIMES + 1);
    return ms[1 + TIMES / 2];
}

/* The fastest for the rows of p; an earlier one unless a later one gains 1 %. What the product adds
 * to is as before; other y is overwritten. */
cublasStatus_t tune(cublasLtMatmulAlgo_t *best, lt_library *lt, cudaStream_t stream,
                    const lt_product *p)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    stopwatch watch(stream);
    keeper kept(stream, p);
    problem q = {};
    int found = 0;
    float least = -1;
    memset(result, 0, sizeof result);
    cublasStatus_t status = open_problem(&q, p, p->rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = ask(result, &found, CANDIDATES, lt, &q);
    if (status == CUBLAS_STATUS_SUCCESS && (!watch.open() || !kept.open()))
        status = CUBLAS_STATUS_ALLOC_FAILED;
    for (int i = 0; i < found && status == CUBLAS_STATUS_SUCCESS; i++) {
        const float ms = time_of(lt, watch, p, &q, &result[i].algo);
        if (ms >= 0 && (least < 0 || ms < 0.99f * least)) {
            least = ms;
            *best = result[i].algo;
        }
    }
    close_problem(&q);
    if (status == CUBLAS_STATUS_SUCCESS && !kept.restore())
        status = CUBLAS_STATUS_EXECUTION_FAILED;
    return status == CUBLAS_STATUS_SUCCESS && least < 0 ? CUBLAS_STATUS_NOT_SUPPORTED : status;
}

/* ---- choices ---- */

int32_t choice_rows(const lt_product *p)
{
    const bool tower = p->fp8 && std::min(p->n_in, p->n_out) < TOWER_WIDTH;
    return tower ? TOWER_ROWS : CHOICE_ROWS;
}

cublasStatus_t favourite(cublasLtMatmulAlgo_t *algorithm, const lt_library *lt, const lt_product *p)
{
    cublasLtMatmulHeuristicResult_t result;
    problem q = {};
    int found;
    memset(&result, 0, sizeof result);
    cublasStatus_t status = open_problem(&q, p, choice_rows(p));
    if (status == CUBLAS_STATUS_SUCCESS)
        status = ask(&result, &found, 1, lt, &q);
    close_problem(&q);
    *algorithm = result.algo;
    return status;
}

cublasStatus_t choose(lt_shape *shape, lt_library *lt, cudaStream_t stream, const lt_product *p)
{
    cublasLtMatmulAlgo_t algorithm = {};
    const cublasStatus_t status =
        lt->tune ? tune(&algorithm, lt, stream, p) : favourite(&algorithm, lt, p);
    *shape = { { p->n_out, p->n_in, p->y_f32, p->fp8, {} }, status != CUBLAS_STATUS_SUCCESS };
    memcpy(shape->choice.algorithm, &algorithm, sizeof algorithm);
    return status == CUBLAS_STATUS_NOT_SUPPORTED ? CUBLAS_STATUS_SUCCESS : status;
}

/* The shape's entry; NULL where the table is full or the library failed. */
const lt_shape *find_shape(lt_library *lt, cudaStream_t stream, const lt_product *p,
                           cublasStatus_t *status)
{
    *status = CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < lt->n_shapes; i++) {
        const glm4v_cuda_choice *c = &lt->shape[i].choice;
        if (c->n_out == p->n_out && c->n_in == p->n_in && c->f32 == p->y_f32 && c->fp8 == p->fp8)
            return &lt->shape[i];
    }
    if (lt->n_shapes == GLM4V_CUDA_CHOICES) {
        *status = CUBLAS_STATUS_NOT_SUPPORTED;
        return NULL;
    }
    *status = choose(&lt->shape[lt->n_shapes], lt, stream, p);
    return *status == CUBLAS_STATUS_SUCCESS ? &lt->shape[lt->n_shapes++] : NULL;
}
} // namespace

cudaError_t lt_open(lt_library *lt, const glm4v_cuda_choices *choices)
{
    cublasStatus_t status = cublasLtCreate(&lt->handle);
    if (status != CUBLAS_STATUS_SUCCESS)
        return lt_error_of(status);
    for (int i = 0; i < choices->n && i < GLM4V_CUDA_CHOICES; i++)
        lt->shape[lt->n_shapes++].choice = choices->choice[i];
    lt->tune = choices->tune;
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
    cublasLtMatmulAlgo_t algorithm;
    problem q = {};
    cublasStatus_t status;
    const lt_shape *shape = find_shape(lt, stream, p, &status);
    if (!shape || shape->none)
        return shape ? cudaErrorNotSupported : lt_error_of(status);
    memcpy(&algorithm, shape->choice.algorithm, sizeof algorithm);
    status = open_problem(&q, p, p->rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = multiply(lt, stream, p, &q, &algorithm);
    close_problem(&q);
    return lt_error_of(status);
}
