/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Working memory of the CUDA backend's queues. Captured steps of decode hold its addresses, so what
 * decode outgrows stays; what prefill outgrows goes when its work is done. */
#include <inttypes.h>

#include "backend/cuda_priv.h"
#include "base/error.h"
#include "base/mem.h"

/* Zeros, done when it returns. */
static int clear(glm4v_gpu_backend *g, void *ptr, size_t bytes)
{
    int rc = glm4v_gpu_check(g, cudaMemsetAsync(ptr, 0, bytes, g->copy), "cudaMemsetAsync");
    return rc ? rc : glm4v_gpu_check(g, cudaStreamSynchronize(g->copy), "cudaStreamSynchronize");
}

/* Memory for `which`. Products in tiles read scales of rows up to the next multiple of 16, whose
 * sums nobody stores: zeros, so that all that is read has been written. */
static int take_for(glm4v_gpu_backend *g, glm4v_gpu_scratch which, void **ptr, size_t bytes)
{
    int rc = glm4v_gpu_take(g, ptr, bytes);
    if (rc || which != GLM4V_GPU_ROUNDED_SCALE)
        return rc;
    rc = clear(g, *ptr, bytes);
    if (rc) {
        glm4v_gpu_give(g, *ptr);
        *ptr = NULL;
    }
    return rc;
}

/* The captured stream of the calling thread forbids calls that may wait; taking memory does not. */
static int take_while_captured(glm4v_gpu_backend *g, glm4v_gpu_scratch which, void **ptr,
                               size_t bytes)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    int rc = glm4v_gpu_check(g, cudaThreadExchangeStreamCaptureMode(&mode),
                             "cudaThreadExchangeStreamCaptureMode");
    if (rc)
        return rc;
    rc = take_for(g, which, ptr, bytes);
    int back = glm4v_gpu_check(g, cudaThreadExchangeStreamCaptureMode(&mode),
                               "cudaThreadExchangeStreamCaptureMode");
    return rc ? rc : back;
}

/* Nothing of the queue uses its scratch any more, or the old block is kept. */
static int let_go(glm4v_gpu_backend *g, glm4v_gpu_queue *q, void *ptr)
{
    if (!ptr)
        return 0;
    if (q == &g->queue[GLM4V_QUEUE_PREFILL]) {
        int rc = glm4v_gpu_check(g, cudaStreamSynchronize(q->stream), "cudaStreamSynchronize");
        if (!rc)
            glm4v_gpu_give(g, ptr);
        return rc;
    }
    glm4v_gpu_old *old = glm4v_alloc(1, sizeof *old);
    if (!old)
        return glm4v_gpu_refuse(g, GLM4V_ERR_NOMEM, "no memory to note scratch");
    *old = (glm4v_gpu_old) { .ptr = ptr, .next = q->old };
    q->old = old;
    return 0;
}

int glm4v_gpu_scratch_of(glm4v_gpu_backend *g, glm4v_gpu_queue *q, glm4v_gpu_scratch which,
                         size_t bytes, void **ptr)
{
    void *fresh = NULL;
    if (bytes > q->scratch[which].bytes) {
        bytes = glm4v_gpu_round_up(bytes);
        int rc = take_while_captured(g, which, &fresh, bytes);
        if (!rc)
            rc = let_go(g, q, q->scratch[which].ptr);
        if (rc) {
            glm4v_gpu_give(g, fresh);
            return rc;
        }
        q->scratch[which].ptr = fresh;
        q->scratch[which].bytes = bytes;
    }
    *ptr = q->scratch[which].ptr;
    return 0;
}

int glm4v_gpu_prefill_open(glm4v_gpu_backend *g, glm4v_gpu_queue *q)
{
    const glm4v_cuda_choices choices = { .choice = g->products.choice,
                                         .n = g->products.n,
                                         .tune = g->products.tune };
    size_t bytes = 0;
    return glm4v_gpu_check(g,
                           glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC)
                               ?: glm4v_cuda_prefill_open(&q->prefill, &bytes, &choices),
                           "memory of prefill products");
}

void glm4v_gpu_scratch_close(glm4v_gpu_backend *g, glm4v_gpu_queue *q)
{
    for (int i = 0; i < GLM4V_GPU_N_SCRATCH; i++)
        glm4v_gpu_give(g, q->scratch[i].ptr);
    while (q->old) {
        glm4v_gpu_old *old = q->old;
        q->old = old->next;
        glm4v_gpu_give(g, old->ptr);
        glm4v_free(old);
    }
    glm4v_gpu_write_products(g, q);
    if (q->prefill)
        glm4v_cuda_prefill_close(q->prefill);
    q->prefill = NULL;
}

/* ---- planned ---- */

/* Rows of the queue's products at a time. */
static int32_t rows_at_a_time(glm4v_queue q, int64_t rows)
{
    const int64_t most = q == GLM4V_QUEUE_DECODE ? GLM4V_CUDA_DECODE_ROWS : GLM4V_GPU_SLAB;
    return glm4v_gpu_i32(rows < most ? rows : most);
}

/* Partial results of decode. Steps of more rows than its products take are rare: their attention
 * takes what it lacks itself. */
static size_t attention_bytes(const glm4v_scratch_need *need)
{
    const glm4v_cuda_kv kv = { .form = GLM4V_CUDA_KV_BF16,
                               .layers = 1,
                               .heads = 1,
                               .head_dim = glm4v_gpu_i32(need->head_dim),
                               .slots = 1,
                               .length = glm4v_gpu_i32(need->n_k) };
    return need->heads ? glm4v_cuda_decode_scratch(&kv, glm4v_gpu_i32(need->heads),
                                                   rows_at_a_time(GLM4V_QUEUE_DECODE, need->rows))
                       : 0;
}

void glm4v_gpu_scratch_bytes(glm4v_backend *b, const glm4v_scratch_need *need, uint64_t *product,
                             uint64_t *attention)
{
    *product = 0;
    *attention = attention_bytes(need);
    for (int q = 0; q < GLM4V_N_QUEUES; q++) {
        size_t numbers = 0, scales = 0;
        glm4v_cuda_rounded_size(rows_at_a_time((glm4v_queue)q, need->rows),
                                glm4v_gpu_i32(need->n_in), &numbers, &scales);
        *product += numbers + scales;
    }
}

static int reserve_queue(glm4v_gpu_backend *g, glm4v_queue which, const glm4v_scratch_need *need)
{
    glm4v_gpu_queue *q = &g->queue[which];
    size_t numbers = 0, scales = 0;
    void *unused;
    glm4v_cuda_rounded_size(rows_at_a_time(which, need->rows), glm4v_gpu_i32(need->n_in), &numbers,
                            &scales);
    pthread_mutex_lock(&q->lock);
    int rc = glm4v_gpu_scratch_of(g, q, GLM4V_GPU_ROUNDED_Q, numbers, &unused);
    if (!rc)
        rc = glm4v_gpu_scratch_of(g, q, GLM4V_GPU_ROUNDED_SCALE, scales, &unused);
    if (!rc && which == GLM4V_QUEUE_DECODE && need->heads)
        rc = glm4v_gpu_scratch_of(g, q, GLM4V_GPU_ATTENTION, attention_bytes(need), &unused);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

int glm4v_gpu_reserve(glm4v_backend *b, const glm4v_scratch_need *need, glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = glm4v_gpu_begin(
        g, GLM4V_GPU_FITS(need->rows, need->n_in, need->n_k, need->head_dim, need->heads));
    GLM4V_CUDA_ENTER(&g->context);
    for (int q = 0; !rc && q < GLM4V_N_QUEUES; q++)
        rc = reserve_queue(g, (glm4v_queue)q, need);
    return rc ? glm4v_gpu_fail(g, err, rc, "no scratch for %" PRId64 " rows", need->rows) : 0;
}

uint64_t glm4v_gpu_attend_all_bytes(glm4v_backend *b, int64_t rows, int64_t heads, int64_t head_dim)
{
    return 0;
}
