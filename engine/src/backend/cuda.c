/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CUDA backend: opening a device, and the table. Memory, copies and events are in
 * backend/cuda_memory.c, copies between GPUs in cuda_link.c, weights in cuda_weights.c, keys and
 * values in cuda_kv.c, steps in cuda_step.c and cuda_time.c, operations in cuda_product.c,
 * cuda_attention.c, cuda_rows.c and cuda_pixels.c, their scratch in cuda_scratch.c, algorithms of
 * cuBLASLt in cuda_choices.c, what a status means in cuda_check.c. */
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda_module.h"
#include "backend/cuda_priv.h"
#include "base/error.h"
#include "base/mem.h"

#define LEAST_CAPABILITY 80 /* of the kernels: bf16 products */
/* Multiply-adds of a chunk for each multiprocessor: 20 ms of a small card (28 of them, 12 10^12/s),
 * 7 ms of an H200 */
#define CHUNK_OF_ONE ((uint64_t)8000000000)

static const glm4v_backend_traits gpu_traits = {
    .activation = sizeof(glm4v_bf16),
    .kv_form = GLM4V_KV_BF16,
    .kv_forms = 1 << GLM4V_KV_F32 | 1 << GLM4V_KV_BF16 | 1 << GLM4V_KV_INT8,
    .prefill_rows = 1024,
    .tower_rows = GLM4V_GPU_SLAB,
    .asynchronous = true,
    .all_at_open = true,
};

/* ---- close ---- */

static void close_queue(glm4v_gpu_backend *g, glm4v_gpu_queue *q)
{
    glm4v_gpu_scratch_close(g, q);
    if (q->sent)
        glm4v_gpu_check(g, cudaEventDestroy(q->sent), "cudaEventDestroy");
    if (q->stream)
        glm4v_gpu_check(g, cudaStreamDestroy(q->stream), "cudaStreamDestroy");
}

static void close_fills(glm4v_gpu_backend *g)
{
    glm4v_gpu_fills *f = &g->fills;
    if (f->stream)
        glm4v_gpu_check(g, cudaStreamSynchronize(f->stream), "cudaStreamSynchronize");
    glm4v_gpu_give(g, f->staging);
    for (int i = 0; i < GLM4V_GPU_MARKS; i++)
        if (f->read[i])
            glm4v_gpu_check(g, cudaEventDestroy(f->read[i]), "cudaEventDestroy");
    if (f->packed)
        glm4v_gpu_check(g, cudaEventDestroy(f->packed), "cudaEventDestroy");
    if (f->stream)
        glm4v_gpu_check(g, cudaStreamDestroy(f->stream), "cudaStreamDestroy");
}

static void close_picture(glm4v_gpu_backend *g)
{
    const cudaEvent_t events[] = { g->picture.read, g->picture.used };
    glm4v_gpu_give_pinned(g, g->picture.pinned);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i])
            glm4v_gpu_check(g, cudaEventDestroy(events[i]), "cudaEventDestroy");
    if (g->picture.stream)
        glm4v_gpu_check(g, cudaStreamDestroy(g->picture.stream), "cudaStreamDestroy");
}

static void destroy_locks(glm4v_gpu_backend *g)
{
    for (int q = 0; q < GLM4V_N_QUEUES; q++)
        pthread_mutex_destroy(&g->queue[q].lock);
    pthread_mutex_destroy(&g->fills.lock);
    pthread_mutex_destroy(&g->copies);
    pthread_mutex_destroy(&g->text);
}

/* What the context holds. */
static void close_objects(glm4v_gpu_backend *g)
{
    GLM4V_CUDA_ENTER(&g->context);
    if (g->picture.stream) /* it writes to scratch of the queue */
        glm4v_gpu_settle(g->picture.stream);
    for (int q = 0; q < GLM4V_N_QUEUES; q++)
        close_queue(g, &g->queue[q]);
    close_fills(g);
    close_picture(g);
    glm4v_gpu_give_pinned(g, g->pinned);
    glm4v_gpu_give(g, g->room);
    if (g->copy)
        glm4v_gpu_check(g, cudaStreamDestroy(g->copy), "cudaStreamDestroy");
}

static void gpu_close(glm4v_backend *b)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    if (g->context.primary)
        close_objects(g);
    glm4v_cuda_context_close(&g->context);
    destroy_locks(g);
    glm4v_free(g);
}

/* ---- the table ---- */

static const glm4v_backend_ops gpu_ops = {
    .name = "cuda",
    .close = gpu_close,
    .failure = glm4v_gpu_failure,
    .alloc = glm4v_gpu_alloc,
    .free = glm4v_gpu_free,
    .available = glm4v_gpu_available,
    .staging_alloc = glm4v_gpu_staging_alloc,
    .staging_free = glm4v_gpu_staging_free,
    .upload = glm4v_gpu_upload,
    .download = glm4v_gpu_download,
    .write = glm4v_gpu_write,
    .copy = glm4v_gpu_copy,
    .event_open = glm4v_gpu_event_open,
    .event_close = glm4v_gpu_event_close,
    .event_record = glm4v_gpu_event_record,
    .queue_wait = glm4v_gpu_queue_wait,
    .event_done = glm4v_gpu_event_done,
    .sync = glm4v_gpu_sync,
    .weights_reserve = glm4v_gpu_weights_reserve,
    .weight_bytes = glm4v_gpu_weight_bytes,
    .weight_alloc = glm4v_gpu_weight_alloc,
    .weight_fill = glm4v_gpu_weight_fill,
    .weight_fill_codes = glm4v_gpu_weight_fill_codes,
    .weight_fill_bf16 = glm4v_gpu_weight_fill_bf16,
    .weight_fill_random = glm4v_gpu_weight_fill_random,
    .weight_order = glm4v_gpu_weight_order,
    .weight_free = glm4v_gpu_weight_free,
    .table_bytes = glm4v_gpu_table_bytes,
    .table_alloc = glm4v_gpu_table_alloc,
    .table_fill = glm4v_gpu_table_fill,
    .table_fill_codes = glm4v_gpu_table_fill_codes,
    .table_fill_random = glm4v_gpu_table_fill_random,
    .table_free = glm4v_gpu_table_free,
    .fills_wait = glm4v_gpu_fills_wait,
    .kv_bytes = glm4v_gpu_kv_bytes,
    .kv_open = glm4v_gpu_kv_open,
    .kv_close = glm4v_gpu_kv_close,
    .kv_copy = glm4v_gpu_kv_copy,
    .reserve = glm4v_gpu_reserve,
    .scratch_bytes = glm4v_gpu_scratch_bytes,
    .attend_all_bytes = glm4v_gpu_attend_all_bytes,
    .step_bytes = glm4v_gpu_step_bytes,
    .step_open = glm4v_gpu_step_open,
    .step_close = glm4v_gpu_step_close,
    .step_begin = glm4v_gpu_step_begin,
    .step_flush = glm4v_gpu_step_flush,
    .step_end = glm4v_gpu_step_end,
    .step_drop = glm4v_gpu_step_drop,
    .step_time = glm4v_gpu_step_time,
    .step_upload = glm4v_gpu_step_upload,
    .step_download = glm4v_gpu_step_download,
    .step_read = glm4v_gpu_step_copy,
    .step_copy = glm4v_gpu_step_copy,
    .link = glm4v_gpu_link,
    .copy_from = glm4v_gpu_copy_from,
    .embed = glm4v_gpu_embed,
    .product = glm4v_gpu_product,
    .logits = glm4v_gpu_logits,
    .norm = glm4v_gpu_norm,
    .silu_mul = glm4v_gpu_silu_mul,
    .gelu = glm4v_gpu_gelu,
    .add = glm4v_gpu_add,
    .scale = glm4v_gpu_scale,
    .rope = glm4v_gpu_rope,
    .append = glm4v_gpu_append,
    .attend = glm4v_gpu_attend,
    .attend_all = glm4v_gpu_attend_all,
    .place_rows = glm4v_gpu_place_rows,
    .take_rows = glm4v_gpu_take_rows,
    .sample = glm4v_gpu_sample_tokens,
    .norm_product = glm4v_gpu_norm_product,
    .qkv = glm4v_gpu_qkv,
    .gate_up = glm4v_gpu_gate_up,
    .product_add = glm4v_gpu_product_add,
    .takes = glm4v_gpu_takes,
    .preprocess = glm4v_gpu_preprocess,
};

/* ---- open ---- */

static int set_up(glm4v_gpu_backend *g, cudaError_t status, const char *what, int32_t number,
                  glm4v_error *err)
{
    int rc = glm4v_gpu_check(g, status, what);
    return rc ? glm4v_gpu_fail(g, err, rc, "device cuda:%d cannot be opened", number) : 0;
}

static int open_context(glm4v_gpu_backend *g, int32_t number, glm4v_error *err)
{
    int count = 0;
    const char *call = "";
    int rc = set_up(g, cudaGetDeviceCount(&count), "cudaGetDeviceCount", number, err);
    if (rc)
        return rc;
    if (number < 0 || number >= count)
        return set_up(g, count ? cudaErrorInvalidDevice : cudaErrorNoDevice, "cudaGetDeviceCount",
                      number, err);
    const cudaError_t status = glm4v_cuda_context_open(&g->context, number, &call);
    return set_up(g, status, call, number, err);
}

/* What the card is: text for people, size of chunks. Too old a card is refused. */
static int describe(glm4v_gpu_backend *g, int32_t number, glm4v_error *err)
{
    struct cudaDeviceProp card;
    int rc =
        set_up(g, cudaGetDeviceProperties(&card, number), "cudaGetDeviceProperties", number, err);
    if (rc)
        return rc;
    if (10 * card.major + card.minor < LEAST_CAPABILITY)
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "device cuda:%d, %s, has compute capability %d.%d: the kernels need 8.0 "
                          "or later; use \"cpu\"",
                          number, card.name, card.major, card.minor);
    snprintf(g->isa, sizeof g->isa, "sm_%d%d, %.64s", card.major, card.minor, card.name);
    g->traits.chunk = (uint64_t)card.multiProcessorCount * CHUNK_OF_ONE;
    return glm4v_gpu_read_products(g, card.name, err);
}

static int open_stream(glm4v_gpu_backend *g, cudaStream_t *stream, int priority)
{
    return glm4v_gpu_check(
        g,
        glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC)
            ?: cudaStreamCreateWithPriority(stream, cudaStreamNonBlocking, priority),
        "cudaStreamCreateWithPriority");
}

static int open_queue(glm4v_gpu_backend *g, glm4v_queue which, int priority)
{
    glm4v_gpu_queue *q = &g->queue[which];
    int rc = open_stream(g, &q->stream, priority);
    return rc ? rc : glm4v_gpu_event_open_raw(g, &q->sent);
}

static int open_fills(glm4v_gpu_backend *g, int priority)
{
    glm4v_gpu_fills *f = &g->fills;
    int rc = open_stream(g, &f->stream, priority);
    for (int i = 0; !rc && i < GLM4V_GPU_MARKS; i++)
        rc = glm4v_gpu_event_open_raw(g, &f->read[i]);
    return rc ? rc : glm4v_gpu_event_open_raw(g, &f->packed);
}

static int open_picture(glm4v_gpu_backend *g, int priority)
{
    int rc = open_stream(g, &g->picture.stream, priority);
    if (!rc)
        rc = glm4v_gpu_event_open_raw(g, &g->picture.read);
    return rc ? rc : glm4v_gpu_event_open_raw(g, &g->picture.used);
}

/* A kernel that does nothing of use: whether there is code for this card at all. */
static int try_kernel(glm4v_gpu_backend *g)
{
    void *block = NULL;
    int rc = glm4v_gpu_take(g, &block, 16);
    if (!rc)
        rc = glm4v_gpu_check(g, cudaMemsetAsync(block, 0, 16, g->copy), "cudaMemsetAsync");
    if (!rc)
        rc = GLM4V_GPU_LAUNCH(g, "a first kernel", glm4v_cuda_scale(g->copy, block, 1, 1));
    if (!rc)
        rc = glm4v_gpu_check(g, cudaStreamSynchronize(g->copy), "cudaStreamSynchronize");
    glm4v_gpu_give(g, block);
    return rc;
}

static int open_objects(glm4v_gpu_backend *g, int32_t number, glm4v_error *err)
{
    int least = 0, greatest = 0;
    GLM4V_CUDA_ENTER(&g->context);
    int rc = glm4v_gpu_check(g, cudaDeviceGetStreamPriorityRange(&least, &greatest),
                             "cudaDeviceGetStreamPriorityRange");
    if (!rc)
        rc = open_queue(g, GLM4V_QUEUE_DECODE, greatest);
    if (!rc)
        rc = open_queue(g, GLM4V_QUEUE_PREFILL, least);
    if (!rc) /* now, so that what is available then is what a model can have */
        rc = glm4v_gpu_prefill_open(g, &g->queue[GLM4V_QUEUE_PREFILL]);
    if (!rc)
        rc = open_fills(g, least);
    if (!rc)
        rc = open_stream(g, &g->copy, greatest);
    if (!rc)
        rc = open_picture(g, least);
    if (!rc)
        rc = glm4v_gpu_take_pinned(g, &g->pinned, GLM4V_GPU_STAGING);
    if (!rc)
        rc = try_kernel(g);
    return rc ? glm4v_gpu_fail(g, err, rc, "device cuda:%d cannot be opened", number) : 0;
}

/* False: no memory for locks. */
static bool open_locks(glm4v_gpu_backend *g)
{
    pthread_mutex_t *locks[] = { &g->queue[0].lock, &g->queue[1].lock, &g->fills.lock, &g->copies,
                                 &g->text };
    for (size_t i = 0; i < sizeof locks / sizeof *locks; i++)
        if (pthread_mutex_init(locks[i], NULL)) {
            while (i--)
                pthread_mutex_destroy(locks[i]);
            return false;
        }
    return true;
}

int glm4v_backend_cuda_open(glm4v_backend **backend, int32_t number, glm4v_pool *pool,
                            const glm4v_log *log, glm4v_error *err)
{
    const char *fault = getenv("GLM4V_CUDA_FAULT");
    if (!glm4v_cuda_inject_text(fault))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "GLM4V_CUDA_FAULT=%s: expected SITE:NTH:STATUS[:always]", fault);
    glm4v_gpu_backend *g = glm4v_alloc(1, sizeof *g);
    if (!g || !open_locks(g)) {
        glm4v_free(g);
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the CUDA backend");
    }
    g->traits = gpu_traits;
    g->base = (glm4v_backend) { .ops = &gpu_ops,
                                .traits = &g->traits,
                                .pool = pool,
                                .isa = g->isa,
                                .device = g->device,
                                .products = g->products.hash,
                                .log = log };
    snprintf(g->device, sizeof g->device, "cuda:%d", number);
    int rc = open_context(g, number, err);
    if (!rc)
        rc = describe(g, number, err);
    if (!rc)
        rc = open_objects(g, number, err);
    if (rc)
        gpu_close(&g->base);
    else
        *backend = &g->base;
    return rc;
}
