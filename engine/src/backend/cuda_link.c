/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Activations from one GPU to another. The host waits for nothing: the copy stands on the stream of
 * the device that receives, behind an event of the one that sends. */
#include "backend/cuda_priv.h"

/* Let the GPU whose context is current read the memory of another one. */
static int reach(glm4v_gpu_backend *g, const glm4v_gpu_backend *other)
{
    const cudaError_t status = glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC)
                                   ?: cudaDeviceEnablePeerAccess(other->context.device, 0);
    if (status == cudaErrorPeerAccessAlreadyEnabled) {
        cudaGetLastError();
        return 0;
    }
    return glm4v_gpu_check(g, status, "cudaDeviceEnablePeerAccess");
}

static int reach_from(glm4v_gpu_backend *g, const glm4v_gpu_backend *other)
{
    GLM4V_CUDA_ENTER(&g->context);
    return reach(g, other);
}

int glm4v_gpu_link(glm4v_backend *b, glm4v_backend *from, const char **how)
{
    if (from->ops->copy_from != glm4v_gpu_copy_from)
        return GLM4V_ERR_UNSUPPORTED;
    glm4v_gpu_backend *g = glm4v_gpu(b), *other = glm4v_gpu(from);
    int possible = 0;
    *how = "a copy on the GPU";
    if (g->context.device == other->context.device)
        return 0;
    *how = "page-locked memory of the driver";
    int rc = glm4v_gpu_check(
        g, cudaDeviceCanAccessPeer(&possible, g->context.device, other->context.device),
        "cudaDeviceCanAccessPeer");
    if (rc || !possible)
        return rc;
    rc = reach_from(g, other);
    if (!rc)
        rc = reach_from(other, g);
    if (!rc)
        *how = "peer copy";
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
