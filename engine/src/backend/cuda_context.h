/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device's primary context, and whose context is the calling thread's. The runtime works on the
 * context that is current, which may be another one of the application (GStreamer makes its own);
 * cudaSetDevice would leave its mark on the thread, and on the first call of a thread on the
 * process. So contexts are changed by the driver's functions, which the runtime finds for us. */
#ifndef GLM4V_ENGINE_BACKEND_CUDA_CONTEXT_H
#define GLM4V_ENGINE_BACKEND_CUDA_CONTEXT_H

#include <cuda_runtime_api.h>

typedef struct CUctx_st *glm4v_driver_context;

typedef struct {
    int device;
    glm4v_driver_context primary;
} glm4v_cuda_context;

/* Retain the primary context of a device. What fails is told by *call, static storage. */
cudaError_t glm4v_cuda_context_open(glm4v_cuda_context *context, int device, const char **call);
void glm4v_cuda_context_close(glm4v_cuda_context *context);

/* Undo one opening of a device's context. */
void glm4v_cuda_context_release(int device);

/* What was current before a call of the backend. */
typedef struct {
    glm4v_driver_context before;
    int changed, device_before;
} glm4v_cuda_scope;

glm4v_cuda_scope glm4v_cuda_enter(const glm4v_cuda_context *context);
void glm4v_cuda_leave(glm4v_cuda_scope *scope);
/* The device whose context the calling thread has entered; -1: none. */
int glm4v_cuda_device_entered(void);

/* The context is current until the end of the block. */
#define GLM4V_CUDA_ENTER(context)                                                                  \
    __attribute__((cleanup(glm4v_cuda_leave), unused)) glm4v_cuda_scope entered =                  \
        glm4v_cuda_enter(context)

#endif
