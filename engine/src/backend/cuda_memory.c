/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory of the CUDA backend, copies and events. */
#include <string.h>

#include "backend/cuda_priv.h"
#include "base/error.h"
#include "base/mem.h"
#include "convert.h"

/* Of the free memory: what the driver, captured graphs and other programs take while we run. */
#define KEPT_FREE ((uint64_t)256 << 20)

struct glm4v_event {
    cudaEvent_t event;
};

/* ---- memory ---- */

/* CUDA's calls that allocate, which a test can make fail. */
static cudaError_t take_device(void **block, size_t bytes)
{
    const cudaError_t injected = glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC);
    return injected ? injected : cudaMalloc(block, bytes + !bytes);
}

static cudaError_t take_host(void **block, size_t bytes)
{
    const cudaError_t injected = glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC);
    return injected ? injected : cudaHostAlloc(block, bytes + !bytes, cudaHostAllocPortable);
}

/* Who waits for it sleeps: the host has other work while the device does its own. */
static cudaError_t take_event(cudaEvent_t *event)
{
    const cudaError_t injected = glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC);
    return injected
               ? injected
               : cudaEventCreateWithFlags(event, cudaEventDisableTiming | cudaEventBlockingSync);
}

typedef struct {
    cudaError_t (*take)(void **block, size_t bytes);
    const char *call;
} allocator;

/* *ptr stays as it is on failure. */
static int take(glm4v_gpu_backend *g, const allocator *from, void **ptr, size_t bytes)
{
    void *block = NULL;
    int rc = glm4v_gpu_usable(g);
    if (!rc)
        rc = glm4v_gpu_check(g, from->take(&block, bytes), from->call);
    if (!rc)
        *ptr = block;
    return rc;
}

int glm4v_gpu_take(glm4v_gpu_backend *g, void **ptr, size_t bytes)
{
    static const allocator device = { take_device, "cudaMalloc" };
    return take(g, &device, ptr, bytes);
}

/* Waits for the device, says the manual; what uses the memory is done anyway. */
void glm4v_gpu_give(glm4v_gpu_backend *g, void *ptr)
{
    if (ptr)
        glm4v_gpu_check(g, cudaFree(ptr), "cudaFree");
}

int glm4v_gpu_take_pinned(glm4v_gpu_backend *g, void **ptr, size_t bytes)
{
    static const allocator host = { take_host, "cudaHostAlloc" };
    return take(g, &host, ptr, bytes);
}

void glm4v_gpu_give_pinned(glm4v_gpu_backend *g, void *ptr)
{
    if (ptr)
        glm4v_gpu_check(g, cudaFreeHost(ptr), "cudaFreeHost");
}

int glm4v_gpu_alloc(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    int rc = glm4v_gpu_take(g, ptr, bytes);
    return rc ? glm4v_gpu_fail(g, err, rc, "no memory for a buffer of %zu bytes", bytes) : 0;
}

void glm4v_gpu_free(glm4v_backend *b, void *ptr)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    glm4v_gpu_give(g, ptr);
}

uint64_t glm4v_gpu_available(glm4v_backend *b)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    size_t free_bytes = 0, all = 0;
    GLM4V_CUDA_ENTER(&g->context);
    if (glm4v_gpu_usable(g) ||
        glm4v_gpu_check(g, cudaMemGetInfo(&free_bytes, &all), "cudaMemGetInfo"))
        return 0;
    return free_bytes > KEPT_FREE ? free_bytes - KEPT_FREE : 0;
}

int glm4v_gpu_staging_alloc(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    int rc = glm4v_gpu_take_pinned(g, ptr, bytes);
    return rc ? glm4v_gpu_fail(g, err, rc, "no page-locked memory for %zu bytes", bytes) : 0;
}

void glm4v_gpu_staging_free(glm4v_backend *b, void *ptr)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    glm4v_gpu_give_pinned(g, ptr);
}

/* ---- copies ---- */

int glm4v_gpu_copy_async(glm4v_gpu_backend *g, void *y, const void *x, size_t bytes,
                         cudaStream_t stream)
{
    if (!bytes)
        return 0;
    return glm4v_gpu_check(g,
                           glm4v_cuda_injected(GLM4V_CUDA_AT_COPY)
                               ?: cudaMemcpyAsync(y, x, bytes, cudaMemcpyDefault, stream),
                           "cudaMemcpyAsync");
}

/* On the stream of such copies, and done. Lock of copies held. */
static int copy_now(glm4v_gpu_backend *g, void *y, const void *x, size_t bytes)
{
    int rc = glm4v_gpu_usable(g);
    if (!rc)
        rc = glm4v_gpu_copy_async(g, y, x, bytes, g->copy);
    return rc ? rc : glm4v_gpu_check(g, cudaStreamSynchronize(g->copy), "cudaStreamSynchronize");
}

static size_t piece_of(size_t n, size_t at, size_t size)
{
    const size_t most = GLM4V_GPU_STAGING / size;
    return n - at < most ? n - at : most;
}

int glm4v_gpu_upload(glm4v_backend *b, void *y, const float *host, int64_t n)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = 0;
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&g->copies);
    for (size_t at = 0, some; !rc && at < (size_t)n; at += some) {
        some = piece_of(n, at, sizeof(glm4v_bf16));
        glm4v_f32_to_bf16_c(g->pinned, host + at, some);
        rc = copy_now(g, (glm4v_bf16 *)y + at, g->pinned, some * sizeof(glm4v_bf16));
    }
    pthread_mutex_unlock(&g->copies);
    return rc;
}

int glm4v_gpu_download(glm4v_backend *b, float *host, const void *x, int64_t n)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = 0;
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&g->copies);
    for (size_t at = 0, some; !rc && at < (size_t)n; at += some) {
        some = piece_of(n, at, sizeof(glm4v_bf16));
        rc = copy_now(g, g->pinned, (const glm4v_bf16 *)x + at, some * sizeof(glm4v_bf16));
        if (!rc)
            glm4v_bf16_to_f32_c(host + at, g->pinned, some);
    }
    pthread_mutex_unlock(&g->copies);
    return rc;
}

int glm4v_gpu_write(glm4v_backend *b, void *y, const void *host, size_t bytes)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = 0;
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&g->copies);
    for (size_t at = 0, some; !rc && at < bytes; at += some) {
        some = piece_of(bytes, at, 1);
        memcpy(g->pinned, (const char *)host + at, some);
        rc = copy_now(g, (char *)y + at, g->pinned, some);
    }
    pthread_mutex_unlock(&g->copies);
    return rc;
}

int glm4v_gpu_copy(glm4v_backend *b, void *y, const void *x, size_t bytes)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&g->copies);
    int rc = copy_now(g, y, x, bytes);
    pthread_mutex_unlock(&g->copies);
    return rc;
}

/* ---- events ---- */

int glm4v_gpu_event_open_raw(glm4v_gpu_backend *g, cudaEvent_t *event)
{
    int rc = glm4v_gpu_usable(g);
    return rc ? rc : glm4v_gpu_check(g, take_event(event), "cudaEventCreateWithFlags");
}

int glm4v_gpu_record(glm4v_gpu_backend *g, cudaEvent_t event, cudaStream_t stream)
{
    return glm4v_gpu_check(
        g, glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT) ?: cudaEventRecord(event, stream),
        "cudaEventRecord");
}

int glm4v_gpu_wait(glm4v_gpu_backend *g, cudaStream_t stream, cudaEvent_t event)
{
    return glm4v_gpu_check(
        g, glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT) ?: cudaStreamWaitEvent(stream, event, 0),
        "cudaStreamWaitEvent");
}

void glm4v_gpu_settle(cudaStream_t stream)
{
    if (cudaStreamSynchronize(stream) != cudaSuccess)
        cudaGetLastError(); /* the failure is known */
}

int glm4v_gpu_event_open(glm4v_backend *b, glm4v_event **event, glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    glm4v_event *e = glm4v_alloc(1, sizeof *e);
    if (!e)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an event");
    GLM4V_CUDA_ENTER(&g->context);
    int rc = glm4v_gpu_event_open_raw(g, &e->event);
    if (rc) {
        glm4v_free(e);
        return glm4v_gpu_fail(g, err, rc, "no event");
    }
    *event = e;
    return 0;
}

void glm4v_gpu_event_close(glm4v_backend *b, glm4v_event *event)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    glm4v_gpu_check(g, cudaEventDestroy(event->event), "cudaEventDestroy");
    glm4v_free(event);
}

int glm4v_gpu_event_record(glm4v_backend *b, glm4v_queue q, glm4v_event *event)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = glm4v_gpu_usable(g);
    GLM4V_CUDA_ENTER(&g->context);
    if (rc) {
        glm4v_gpu_settle(g->queue[q].stream);
        return rc;
    }
    return glm4v_gpu_record(g, event->event, g->queue[q].stream);
}

int glm4v_gpu_queue_wait(glm4v_backend *b, glm4v_queue q, glm4v_event *event)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = glm4v_gpu_usable(g);
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    return glm4v_gpu_wait(g, g->queue[q].stream, event->event);
}

int glm4v_gpu_event_done(glm4v_backend *b, glm4v_event *event)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = glm4v_gpu_usable(g);
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    const cudaError_t status =
        glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT) ?: cudaEventQuery(event->event);
    if (status == cudaErrorNotReady)
        return 0;
    rc = glm4v_gpu_check(g, status, "work of the device, seen by cudaEventQuery");
    return rc ? rc : 1;
}

int glm4v_gpu_sync(glm4v_backend *b, glm4v_event *event)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    int rc = glm4v_gpu_usable(g);
    GLM4V_CUDA_ENTER(&g->context);
    for (int q = 0; rc && q < GLM4V_N_QUEUES; q++)
        glm4v_gpu_settle(g->queue[q].stream);
    if (rc)
        return rc;
    return glm4v_gpu_check(
        g, glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT) ?: cudaEventSynchronize(event->event),
        "work of the device, seen by cudaEventSynchronize");
}
