/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long the device works on a step: between two events on its queue. */
#include "backend/cuda_priv.h"

static int open_event(glm4v_gpu_backend *g, cudaEvent_t *event)
{
    return glm4v_gpu_check(g, glm4v_cuda_injected(GLM4V_CUDA_AT_ALLOC) ?: cudaEventCreate(event),
                           "cudaEventCreate");
}

int glm4v_gpu_time_open(glm4v_gpu_step *s)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    int rc = s->base.size.timed ? open_event(g, &s->begun) : 0;
    return rc || !s->begun ? rc : open_event(g, &s->ended);
}

void glm4v_gpu_time_close(glm4v_gpu_step *s)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    if (s->begun)
        glm4v_gpu_check(g, cudaEventDestroy(s->begun), "cudaEventDestroy");
    if (s->ended)
        glm4v_gpu_check(g, cudaEventDestroy(s->ended), "cudaEventDestroy");
}

int glm4v_gpu_time_begin(glm4v_gpu_step *s)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    return s->begun ? glm4v_gpu_record(g, s->begun, s->queue->stream) : 0;
}

int glm4v_gpu_time_end(glm4v_gpu_step *s)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    return s->ended ? glm4v_gpu_record(g, s->ended, s->queue->stream) : 0;
}

uint64_t glm4v_gpu_step_time(glm4v_step *step)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    float ms = 0;
    if (!s->ended || glm4v_gpu_usable(g))
        return 0;
    GLM4V_CUDA_ENTER(&g->context);
    const cudaError_t status = cudaEventElapsedTime(&ms, s->begun, s->ended);
    return glm4v_gpu_check(g, status, "cudaEventElapsedTime") ? 0 : (uint64_t)(ms * 1e6f);
}
