/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Failures of the CUDA backend: codes, the text of the last one, and the end of a device. */
#include <stdarg.h>
#include <stdio.h>

#include "backend/cuda_priv.h"
#include "base/error.h"

static void note(glm4v_gpu_backend *g, const char *text)
{
    pthread_mutex_lock(&g->text);
    snprintf(g->failure, sizeof g->failure, "%s", text);
    pthread_mutex_unlock(&g->text);
}

int glm4v_gpu_check(glm4v_gpu_backend *g, cudaError_t status, const char *what)
{
    const glm4v_cuda_class class_ = glm4v_cuda_classify(status);
    const int code = glm4v_cuda_code(class_);
    char text[256];
    if (class_ == GLM4V_CUDA_OK)
        return 0;
    cudaGetLastError(); /* else the thread's next launch would report it again */
    const char *advice = glm4v_cuda_advice(status);
    snprintf(text, sizeof text, "%s: %s (%s)%s%s", what, cudaGetErrorString(status),
             cudaGetErrorName(status), *advice ? "; " : "", advice);
    note(g, text);
    if (code == GLM4V_ERR_DEVICE && !atomic_exchange(&g->failed, code))
        glm4v_log_line(g->base.log, GLM4V_LOG_ERROR, "device cuda:%d failed: %s", g->context.device,
                       text);
    return code;
}

int glm4v_gpu_refuse(glm4v_gpu_backend *g, int code, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    note(g, text);
    return code;
}

int glm4v_gpu_usable(glm4v_gpu_backend *g)
{
    return atomic_load(&g->failed);
}

bool glm4v_gpu_fits(const int64_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (numbers[i] < 0 || numbers[i] > INT32_MAX)
            return false;
    return true;
}

int glm4v_gpu_begin(glm4v_gpu_backend *g, bool fits)
{
    int rc = glm4v_gpu_usable(g);
    return rc || fits ? rc
                      : glm4v_gpu_refuse(g, GLM4V_ERR_INVALID,
                                         "a dimension is negative or above 2^31 - 1");
}

void glm4v_gpu_failure(glm4v_backend *b, char *text, size_t size)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    pthread_mutex_lock(&g->text);
    snprintf(text, size, "%s", g->failure);
    pthread_mutex_unlock(&g->text);
}

int glm4v_gpu_fail(glm4v_gpu_backend *g, glm4v_error *err, int code, const char *format, ...)
{
    char what[160], text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    glm4v_gpu_failure(&g->base, text, sizeof text);
    return glm4v_fail(err, code, "%s: %s", what, text);
}
