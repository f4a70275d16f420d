/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GPUs and why one cannot be used; the module's one export. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda_context.h"
#include "backend/cuda_module.h"
#include "base/error.h"

#define LEAST_MAJOR 8      /* compute capability 8.0: Ampere */
#define LEAST_DRIVER 13000 /* as cudaDriverGetVersion spells CUDA 13.0 */
#define LEAST_DRIVER_NAME "580"

static int no_driver(int driver, glm4v_error *err)
{
    if (!driver)
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "no NVIDIA driver: libcuda.so.1 is not installed or not usable; install "
                          "driver " LEAST_DRIVER_NAME " or later");
    return glm4v_fail(err, GLM4V_ERR_DEVICE,
                      "the NVIDIA driver supports CUDA %d.%d, but 13.0 is needed; install "
                      "driver " LEAST_DRIVER_NAME " or later",
                      driver / 1000, driver % 1000 / 10);
}

static int count(int32_t *n, glm4v_error *err)
{
    int driver = 0, devices = 0;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver < LEAST_DRIVER)
        return no_driver(driver, err);
    const cudaError_t status = cudaGetDeviceCount(&devices);
    *n = devices;
    if (status == cudaSuccess && devices)
        return 0;
    cudaGetLastError(); /* it is not the next call's */
    if (status == cudaSuccess || status == cudaErrorNoDevice)
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "the NVIDIA driver shows no GPU%s%s%s",
                          visible ? ": CUDA_VISIBLE_DEVICES is \"" : "", visible ? visible : "",
                          visible ? "\"" : "");
    if (status == cudaErrorInsufficientDriver)
        return no_driver(driver, err);
    return glm4v_fail(err, GLM4V_ERR_DEVICE, "CUDA cannot be used: %s (%s)",
                      cudaGetErrorString(status), cudaGetErrorName(status));
}

static cudaError_t free_in(const glm4v_cuda_context *context, size_t *bytes)
{
    size_t total = 0;
    GLM4V_CUDA_ENTER(context);
    return cudaMemGetInfo(bytes, &total);
}

/* Why the context of a device cannot be used; 0 after success. */
static int context_failure(cudaError_t status, int32_t device, const char *name, glm4v_error *err)
{
    if (status == cudaSuccess)
        return 0;
    cudaGetLastError();
    if (status == cudaErrorDevicesUnavailable)
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "cuda:%d (%s) is in use by another process that has it for itself",
                          device, name);
    return glm4v_fail(err, GLM4V_ERR_DEVICE, "cuda:%d (%s) cannot be used: %s (%s)", device, name,
                      cudaGetErrorString(status), cudaGetErrorName(status));
}

/* Memory of the device that is free: opens its context. */
static int available(uint64_t *bytes, int32_t device, const char *name, glm4v_error *err)
{
    glm4v_cuda_context context;
    const char *call;
    size_t free_bytes = 0;
    cudaError_t status = glm4v_cuda_context_open(&context, device, &call);
    if (status == cudaSuccess) {
        status = free_in(&context, &free_bytes);
        glm4v_cuda_context_close(&context);
    }
    *bytes = free_bytes;
    return context_failure(status, device, name, err);
}

static int examine(glm4v_cuda_device *out, int32_t device, bool full, glm4v_error *err)
{
    struct cudaDeviceProp properties;
    int32_t n = 0;
    int rc = count(&n, err);
    if (rc)
        return rc;
    if (device < 0 || device >= n)
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "there is no cuda:%d: the NVIDIA driver shows %d GPU%s, cuda:0%s", device,
                          n, n == 1 ? "" : "s", n == 1 ? "" : " and so on");
    const cudaError_t status = cudaGetDeviceProperties(&properties, device);
    if (status != cudaSuccess) {
        cudaGetLastError();
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "cuda:%d cannot be used: %s (%s)", device,
                          cudaGetErrorString(status), cudaGetErrorName(status));
    }
    *out = (glm4v_cuda_device) { .major = properties.major,
                                 .minor = properties.minor,
                                 .memory = properties.totalGlobalMem };
    snprintf(out->name, sizeof out->name, "%.63s", properties.name);
    if (properties.major < LEAST_MAJOR)
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "cuda:%d (%s) has compute capability %d.%d, but 8.0 (Ampere) or later is "
                          "needed; use device=cpu",
                          device, out->name, out->major, out->minor);
    return full ? available(&out->available, device, out->name, err) : 0;
}

static int measure(glm4v_device_rates *rates, int32_t device, glm4v_error *err)
{
    glm4v_cuda_device unused;
    int rc = examine(&unused, device, false, err);
    return rc ? rc : glm4v_cuda_measure(rates, device, err);
}

static int retain(void **context, int32_t device, glm4v_error *err)
{
    glm4v_cuda_device card;
    glm4v_cuda_context opened;
    const char *call;
    int rc = examine(&card, device, false, err);
    if (!rc)
        rc = context_failure(glm4v_cuda_context_open(&opened, device, &call), device, card.name,
                             err);
    if (!rc)
        *context = opened.primary;
    return rc;
}

static void release(int32_t device)
{
    glm4v_cuda_context_release(device);
}

__attribute__((visibility("default"))) const glm4v_cuda_module glm4v_cuda_exports = {
    .version = GLM4V_CUDA_MODULE_VERSION,
    .library = GLM4V_VERSION,
    .count = count,
    .examine = examine,
    .open = glm4v_backend_cuda_open,
    .measure = measure,
    .retain = retain,
    .release = release,
};
