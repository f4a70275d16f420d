/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast a GPU reads its memory in this minute: decode can be no faster. */
#include <stdbool.h>

#include "backend/cuda_context.h"
#include "backend/cuda_module.h"
#include "base/error.h"
#include "cuda/read.h"

enum { PASSES = 10 };
#define MOST ((size_t)1 << 30)   /* far more than any cache */
#define LEAST ((size_t)32 << 20) /* of a card that is nearly full */

typedef struct {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    void *memory; /* `bytes`, and the sum behind them */
    size_t bytes;
} reader;

static cudaError_t take_memory(reader *r)
{
    cudaError_t status = cudaErrorMemoryAllocation;
    for (r->bytes = MOST; r->bytes >= LEAST; r->bytes /= 2) {
        status = cudaMalloc(&r->memory, r->bytes + sizeof(uint32_t));
        if (status != cudaErrorMemoryAllocation)
            return status;
        cudaGetLastError(); /* less may do */
    }
    return status;
}

static cudaError_t open_reader(reader *r)
{
    cudaError_t status = cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking);
    if (status == cudaSuccess)
        status = cudaEventCreate(&r->begin);
    if (status == cudaSuccess)
        status = cudaEventCreate(&r->end);
    if (status == cudaSuccess)
        status = take_memory(r);
    if (status == cudaSuccess)
        status = cudaMemsetAsync(r->memory, 1, r->bytes + sizeof(uint32_t), r->stream);
    return status;
}

static void close_reader(reader *r)
{
    if (r->memory)
        cudaFree(r->memory);
    if (r->end)
        cudaEventDestroy(r->end);
    if (r->begin)
        cudaEventDestroy(r->begin);
    if (r->stream)
        cudaStreamDestroy(r->stream);
    cudaGetLastError(); /* the failure that counts is known */
}

static cudaError_t pass(const reader *r, double *rate)
{
    float ms = 0;
    cudaError_t status = cudaEventRecord(r->begin, r->stream);
    if (status == cudaSuccess)
        status = glm4v_cuda_read(r->stream, r->memory, r->bytes / 16,
                                 (uint32_t *)((char *)r->memory + r->bytes));
    if (status == cudaSuccess)
        status = cudaEventRecord(r->end, r->stream);
    if (status == cudaSuccess)
        status = cudaEventSynchronize(r->end);
    if (status == cudaSuccess)
        status = cudaEventElapsedTime(&ms, r->begin, r->end);
    if (status == cudaSuccess && ms > 0)
        *rate = (double)r->bytes / (ms / 1e3);
    return status;
}

static cudaError_t measure(double *best)
{
    reader r = { 0 };
    cudaError_t status = open_reader(&r);
    for (int i = 0; status == cudaSuccess && i < PASSES; i++) {
        double rate = 0;
        status = pass(&r, &rate);
        *best = rate > *best ? rate : *best;
    }
    close_reader(&r);
    return status;
}

int glm4v_cuda_measure(double *read_rate, int32_t device, glm4v_error *err)
{
    glm4v_cuda_context context = { 0 };
    double best = 0;
    const char *call = "the measurement";
    cudaError_t status = glm4v_cuda_context_open(&context, device, &call);
    if (status == cudaSuccess) {
        GLM4V_CUDA_ENTER(&context);
        status = measure(&best);
    }
    glm4v_cuda_context_close(&context);
    if (status == cudaSuccess) {
        *read_rate = best;
        return 0;
    }
    return glm4v_fail(err, status == cudaErrorMemoryAllocation ? GLM4V_ERR_NOMEM : GLM4V_ERR_DEVICE,
                      "cuda:%d: reading could not be measured: %s: %s (%s)", device, call,
                      cudaGetErrorString(status), cudaGetErrorName(status));
}
