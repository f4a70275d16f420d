/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cuda_context.h. */
#include "backend/cuda_context.h"

#include <pthread.h>
#include <stddef.h>

#define DRIVER_VERSION 12000 /* of the functions asked for; they are older */

/* CUresult is an int whose numbers are those of cudaError_t. */
static struct {
    int (*get)(glm4v_driver_context *context);
    int (*set)(glm4v_driver_context context);
    int (*device)(int *device, int ordinal);
    int (*retain)(glm4v_driver_context *context, int device);
    int (*release)(int device);
} driver;

static _Thread_local int entered = -1; /* the device */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held while driver is filled */

static cudaError_t find(const char *name, void **function)
{
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    cudaError_t status =
        cudaGetDriverEntryPointByVersion(name, function, DRIVER_VERSION, cudaEnableDefault, &found);
    if (status == cudaSuccess && (found != cudaDriverEntryPointSuccess || !*function))
        status = cudaErrorInsufficientDriver;
    return status;
}

static cudaError_t find_all(const char **call)
{
    const struct {
        const char *name;
        void **function;
    } list[] = {
        { "cuCtxGetCurrent", (void **)&driver.get },
        { "cuDeviceGet", (void **)&driver.device },
        { "cuDevicePrimaryCtxRetain", (void **)&driver.retain },
        { "cuDevicePrimaryCtxRelease", (void **)&driver.release },
        { "cuCtxSetCurrent", (void **)&driver.set },
    };
    cudaError_t status = cudaSuccess;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; !driver.set && status == cudaSuccess && i < sizeof list / sizeof *list;
         i++) {
        *call = list[i].name;
        status = find(list[i].name, list[i].function);
    }
    pthread_mutex_unlock(&lock);
    return status;
}

cudaError_t glm4v_cuda_context_open(glm4v_cuda_context *context, int device, const char **call)
{
    glm4v_cuda_context fresh = { 0 };
    cudaError_t status = find_all(call);
    if (status == cudaSuccess) {
        *call = "cuDeviceGet";
        status = (cudaError_t)driver.device(&fresh.device, device);
    }
    if (status == cudaSuccess) {
        *call = "cuDevicePrimaryCtxRetain";
        status = (cudaError_t)driver.retain(&fresh.primary, fresh.device);
    }
    if (status == cudaSuccess)
        *context = fresh;
    return status;
}

void glm4v_cuda_context_close(glm4v_cuda_context *context)
{
    if (context->primary)
        driver.release(context->device);
    *context = (glm4v_cuda_context) { 0 };
}

void glm4v_cuda_context_release(int device)
{
    int driver_device = 0; /* the driver's number of it */
    if (driver.release && !driver.device(&driver_device, device))
        driver.release(driver_device);
}

glm4v_cuda_scope glm4v_cuda_enter(const glm4v_cuda_context *context)
{
    glm4v_cuda_scope scope = { .device_before = entered };
    driver.get(&scope.before);
    entered = context->device;
    scope.changed = scope.before != context->primary;
    if (scope.changed)
        driver.set(context->primary);
    return scope;
}

void glm4v_cuda_leave(glm4v_cuda_scope *scope)
{
    if (scope->changed)
        driver.set(scope->before);
    entered = scope->device_before;
}

int glm4v_cuda_device_entered(void)
{
    return entered;
}
