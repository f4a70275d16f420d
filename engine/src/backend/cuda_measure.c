/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a GPU reaches in this minute: how fast it reads its memory, decode can be no faster; and how
 * fast it multiplies, for vision and prefill. */
#include <stdbool.h>

#include "backend/cuda_context.h"
#include "backend/cuda_module.h"
#include "base/error.h"
#include "cuda/product.h"
#include "cuda/read.h"

enum { PASSES = 10 };
enum { ROWS = 8192, SIDE = 4096 }; /* of the product: [ROWS, SIDE] by [SIDE, SIDE] */
#define MOST ((size_t)1 << 30)     /* far more than any cache */
#define LEAST ((size_t)32 << 20)   /* of a card that is nearly full */

typedef struct {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    void *memory;
    size_t bytes; /* to be read, and the sum behind them */
} meter;

/* ---- one pass ---- */

typedef cudaError_t (*pass_fn)(const meter *m, const void *user);

static cudaError_t time_pass(const meter *m, pass_fn pass, const void *user, double *seconds)
{
    float ms = 0;
    cudaError_t status = cudaEventRecord(m->begin, m->stream);
    if (status == cudaSuccess)
        status = pass(m, user);
    if (status == cudaSuccess)
        status = cudaEventRecord(m->end, m->stream);
    if (status == cudaSuccess)
        status = cudaEventSynchronize(m->end);
    if (status == cudaSuccess)
        status = cudaEventElapsedTime(&ms, m->begin, m->end);
    *seconds = ms / 1e3;
    return status;
}

/* So much work a second at best. */
static cudaError_t best_rate(const meter *m, pass_fn pass, const void *user, double work,
                             double *best)
{
    cudaError_t status = cudaSuccess;
    for (int i = 0; status == cudaSuccess && i < PASSES; i++) {
        double seconds = 0;
        status = time_pass(m, pass, user, &seconds);
        if (status == cudaSuccess && seconds > 0 && work / seconds > *best)
            *best = work / seconds;
    }
    return status;
}

/* ---- reading ---- */

static cudaError_t take_memory(meter *m)
{
    cudaError_t status = cudaErrorMemoryAllocation;
    for (m->bytes = MOST; m->bytes >= LEAST; m->bytes /= 2) {
        status = cudaMalloc(&m->memory, m->bytes + sizeof(uint32_t));
        if (status != cudaErrorMemoryAllocation)
            return status;
        cudaGetLastError(); /* less may do */
    }
    return status;
}

static cudaError_t read_all(const meter *m, const void *unused)
{
    (void)unused;
    return glm4v_cuda_read(m->stream, m->memory, m->bytes / 16,
                           (uint32_t *)((char *)m->memory + m->bytes));
}

static cudaError_t measure_reading(meter *m, double *rate)
{
    cudaError_t status = take_memory(m);
    if (status == cudaSuccess)
        status = cudaMemsetAsync(m->memory, 1, m->bytes + sizeof(uint32_t), m->stream);
    if (status == cudaSuccess)
        status = best_rate(m, read_all, NULL, (double)m->bytes, rate);
    return status;
}

/* ---- multiplying ---- */

typedef struct {
    glm4v_cuda_prefill *prefill;
    glm4v_cuda_matrix w;
    glm4v_cuda_product product;
} multiplication;

static cudaError_t multiply(const meter *m, const void *user)
{
    const multiplication *p = user;
    return glm4v_cuda_prefill_product(m->stream, p->prefill, &p->product);
}

static glm4v_cuda_matrix matrix(void *data, int32_t rows)
{
    return (
        glm4v_cuda_matrix) { .form = GLM4V_CUDA_BF16, .n_out = rows, .n_in = SIDE, .data = data };
}

/* Random numbers, because zeros cost less power and are multiplied faster; f32 [rows, SIDE] lies
 * behind the matrices meanwhile. */
static cudaError_t fill(const meter *m, const glm4v_cuda_matrix *w, float *numbers)
{
    const size_t n = (size_t)w->n_out * SIDE;
    cudaError_t status = glm4v_cuda_random_f32(m->stream, numbers, n, 1, 0, 0, 1);
    return status == cudaSuccess ? glm4v_cuda_pack_f32(m->stream, w, 0, w->n_out, numbers) : status;
}

/* The first product chooses the algorithm. */
static cudaError_t measure_product(meter *m, multiplication *p, double *rate)
{
    const size_t row = SIDE * sizeof(glm4v_bf16);
    char *memory = m->memory;
    const glm4v_cuda_matrix x = matrix(memory + SIDE * row, ROWS);
    float *numbers = (float *)(void *)(memory + (SIDE + ROWS) * row);
    p->w = matrix(memory, SIDE);
    p->product = (glm4v_cuda_product) {
        .y = numbers, .ldy = SIDE, .w = &p->w, .x = x.data, .ldx = SIDE, .rows = ROWS
    };
    cudaError_t status = fill(m, &p->w, numbers);
    if (status == cudaSuccess)
        status = fill(m, &x, numbers);
    if (status == cudaSuccess)
        status = multiply(m, p);
    if (status == cudaSuccess)
        status = best_rate(m, multiply, p, 2.0 * ROWS * SIDE * SIDE, rate);
    return status;
}

/* The rate stays 0 where there is no memory for it. */
static cudaError_t measure_multiplying(meter *m, double *rate)
{
    const size_t row = SIDE * sizeof(glm4v_bf16);
    multiplication p = { 0 };
    size_t unused;
    cudaFree(m->memory);
    m->memory = NULL;
    cudaError_t status = cudaMalloc(&m->memory, (SIDE + ROWS) * row + ROWS * SIDE * sizeof(float));
    if (status == cudaSuccess)
        status =
            glm4v_cuda_prefill_open(&p.prefill, &unused, &(glm4v_cuda_choices) { .tune = true });
    if (status == cudaSuccess)
        status = measure_product(m, &p, rate);
    glm4v_cuda_prefill_close(p.prefill);
    if (status != cudaErrorMemoryAllocation)
        return status;
    cudaGetLastError();
    return cudaSuccess;
}

/* ---- both ---- */

static cudaError_t open_meter(meter *m)
{
    cudaError_t status = cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking);
    if (status == cudaSuccess)
        status = cudaEventCreate(&m->begin);
    if (status == cudaSuccess)
        status = cudaEventCreate(&m->end);
    return status;
}

static void close_meter(meter *m)
{
    if (m->memory)
        cudaFree(m->memory);
    if (m->end)
        cudaEventDestroy(m->end);
    if (m->begin)
        cudaEventDestroy(m->begin);
    if (m->stream)
        cudaStreamDestroy(m->stream);
    cudaGetLastError(); /* the failure that counts is known */
}

static cudaError_t measure(glm4v_device_rates *rates)
{
    meter m = { 0 };
    cudaError_t status = open_meter(&m);
    if (status == cudaSuccess)
        status = measure_reading(&m, &rates->read_rate);
    if (status == cudaSuccess)
        status = measure_multiplying(&m, &rates->product_rate);
    close_meter(&m);
    return status;
}

int glm4v_cuda_measure(glm4v_device_rates *rates, int32_t device, glm4v_error *err)
{
    glm4v_cuda_context context = { 0 };
    const char *call = "the measurement";
    *rates = (glm4v_device_rates) { 0 };
    cudaError_t status = glm4v_cuda_context_open(&context, device, &call);
    if (status == cudaSuccess) {
        GLM4V_CUDA_ENTER(&context);
        status = measure(rates);
    }
    glm4v_cuda_context_close(&context);
    if (status == cudaSuccess)
        return 0;
    return glm4v_fail(err, status == cudaErrorMemoryAllocation ? GLM4V_ERR_NOMEM : GLM4V_ERR_DEVICE,
                      "cuda:%d: its speed could not be measured: %s: %s (%s)", device, call,
                      cudaGetErrorString(status), cudaGetErrorName(status));
}
