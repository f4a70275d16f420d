/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Activations from one GPU to another. The host waits for nothing: the copy stands on the stream of
 * the device that receives, behind an event of the one that sends. */
#include "backend/cuda_priv.h"
#include "base/log.h"

/* Let g read the memory of another GPU: cudaSuccess, or why not. */
static cudaError_t reach(const glm4v_gpu_backend *g, const glm4v_gpu_backend *other)
{
    GLM4V_CUDA_ENTER(&g->context);
    const cudaError_t status = glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC)
                                   ?: cudaDeviceEnablePeerAccess(other->context.device, 0);
    if (status != cudaSuccess)
        cudaGetLastError(); /* it is not the next call's */
    return status == cudaErrorPeerAccessAlreadyEnabled ? cudaSuccess : status;
}

/* Both ways. If the devices remain usable, a failure means that the driver copies through memory of
 * the host. */
static int reach_each_other(glm4v_gpu_backend *g, glm4v_gpu_backend *other, bool *reached)
{
    cudaError_t status = reach(g, other);
    if (status == cudaSuccess)
        status = reach(other, g);
    *reached = status == cudaSuccess;
    const glm4v_cuda_class class_ = glm4v_cuda_classify(status);
    if (class_ == GLM4V_CUDA_STICKY || class_ == GLM4V_CUDA_LOST)
        return glm4v_gpu_check(g, status, "cudaDeviceEnablePeerAccess");
    if (!*reached)
        glm4v_log_line(g->base.log, GLM4V_LOG_WARNING,
                       "%s and %s cannot read each other's memory, though the driver says so: %s "
                       "(%s); activations between them are slower",
                       other->device, g->device, cudaGetErrorString(status),
                       cudaGetErrorName(status));
    return 0;
}

int glm4v_gpu_link(glm4v_backend *b, glm4v_backend *from, const char **how)
{
    if (from->ops->copy_from != glm4v_gpu_copy_from)
        return GLM4V_ERR_UNSUPPORTED;
    glm4v_gpu_backend *g = glm4v_gpu(b), *other = glm4v_gpu(from);
    int possible = 0;
    bool reached = false;
    *how = "a copy on the GPU";
    if (g->context.device == other->context.device)
        return 0;
    int rc = glm4v_gpu_check(
        g, cudaDeviceCanAccessPeer(&possible, g->context.device, other->context.device),
        "cudaDeviceCanAccessPeer");
    if (!rc && possible)
        rc = reach_each_other(g, other, &reached);
    *how = reached ? "peer copy" : "page-locked memory of the driver";
    return rc;
}

/* Behind all that the queue of `other` was given. */
static int stand_behind(glm4v_gpu_backend *g, glm4v_queue q, glm4v_gpu_backend *other)
{
    cudaEvent_t sent = other->queue[q].sent;
    int rc;
    {
        GLM4V_CUDA_ENTER(&other->context);
        rc = glm4v_gpu_record(other, sent, other->queue[q].stream);
    }
    if (rc)
        return glm4v_gpu_refuse(g, rc, "the device before, cuda:%d, has failed",
                                other->context.device);
    GLM4V_CUDA_ENTER(&g->context);
    return glm4v_gpu_wait(g, g->queue[q].stream, sent);
}

int glm4v_gpu_copy_from(glm4v_backend *b, glm4v_queue q, void *y, glm4v_backend *from,
                        const void *x, int64_t n)
{
    glm4v_gpu_backend *g = glm4v_gpu(b), *other = glm4v_gpu(from);
    const size_t bytes = n * sizeof(glm4v_bf16);
    const cudaStream_t to = g->queue[q].stream;
    if (from->ops->copy_from != glm4v_gpu_copy_from)
        return GLM4V_ERR_UNSUPPORTED;
    int rc = glm4v_gpu_usable(g);
    if (!rc && (rc = glm4v_gpu_usable(other)))
        glm4v_gpu_refuse(g, rc, "the device before, cuda:%d, has failed", other->context.device);
    if (!rc && g != other)
        rc = stand_behind(g, q, other);
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    if (g->context.device == other->context.device)
        return glm4v_gpu_copy_async(g, y, x, bytes, to);
    return glm4v_gpu_check(
        g,
        glm4v_cuda_injected(GLM4V_CUDA_AT_COPY)
            ?: cudaMemcpyPeerAsync(y, g->context.device, x, other->context.device, bytes, to),
        "cudaMemcpyPeerAsync");
}
