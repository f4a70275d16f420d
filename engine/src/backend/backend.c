/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which backend a device string means, and what its device is. */
#include "backend/backend.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/cuda_module.h"
#include "base/available_memory.h"
#include "base/error.h"

#define NO_GPU (-1)

/* GPU number of "cuda" or "cuda:N", N of one to three digits; NO_GPU: another name. */
static int32_t gpu_of(const char *device)
{
    int32_t gpu = 0, digits = 0;
    if (strncmp(device, "cuda", 4))
        return NO_GPU;
    if (!device[4])
        return 0;
    if (device[4] != ':')
        return NO_GPU;
    for (const char *c = device + 5; *c; c++, digits++) {
        if (*c < '0' || *c > '9' || digits == 3)
            return NO_GPU;
        gpu = 10 * gpu + (*c - '0');
    }
    return digits ? gpu : NO_GPU;
}

/* Can this GPU be used? */
static int check_gpu(int32_t gpu, glm4v_error *err)
{
    const glm4v_cuda_module *module;
    glm4v_cuda_device device;
    int rc = glm4v_cuda_module_open(&module, err);
    return rc ? rc : module->examine(&device, gpu, false, err);
}

int glm4v_backend_check(const char *device, glm4v_error *err)
{
    glm4v_error why = { 0 };
    if (!device || !strcmp(device, "auto") || !strcmp(device, "cpu"))
        return 0;
    const int32_t gpu = gpu_of(device);
    if (gpu == NO_GPU)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%s\": expected auto, cpu or cuda[:N][,cuda:M][,cpu]", device);
    return check_gpu(gpu, &why)
               ? glm4v_fail(err, GLM4V_ERR_DEVICE,
                            "device \"%s\": %s; \"cpu\" and \"auto\" work without", device, why.msg)
               : 0;
}

static glm4v_backend_open_fn open_cpu = glm4v_backend_cpu_open;

glm4v_backend_open_fn glm4v_backend_replace_cpu(glm4v_backend_open_fn open)
{
    const glm4v_backend_open_fn before = open_cpu;
    open_cpu = open ? open : glm4v_backend_cpu_open;
    return before;
}

static int open_gpu(glm4v_backend **backend, int32_t gpu, glm4v_pool *pool, const glm4v_log *log,
                    glm4v_error *err)
{
    const glm4v_cuda_module *module;
    int rc = glm4v_cuda_module_open(&module, err);
    return rc ? rc : module->open(backend, gpu, pool, log, err);
}

/* Once a process: a machine with a card that is not used deserves a warning, one without a card
 * has nothing to fall back from. */
static void report_fallback(const glm4v_log *log, const char *why)
{
    static atomic_flag reported = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&reported))
        glm4v_log_line(log, glm4v_cuda_card_present("") ? GLM4V_LOG_WARNING : GLM4V_LOG_INFO,
                       "device \"auto\" is the CPU: %s", why);
}

int glm4v_backend_open(glm4v_backend **backend, const char *device, glm4v_pool *pool,
                       const glm4v_log *log, glm4v_error *err)
{
    const bool automatic = !device || !strcmp(device, "auto");
    glm4v_error why = { 0 };
    if (automatic && open_cpu == glm4v_backend_cpu_open) {
        if (!check_gpu(0, &why) && !open_gpu(backend, 0, pool, log, &why))
            return 0;
        report_fallback(log, why.msg);
    }
    if (automatic || !strcmp(device, "cpu"))
        return open_cpu(backend, pool, log, err);
    int rc = glm4v_backend_check(device, err);
    return rc ? rc : open_gpu(backend, gpu_of(device), pool, log, err);
}

void glm4v_backend_close(glm4v_backend **backend)
{
    if (*backend)
        (*backend)->ops->close(*backend);
    *backend = NULL;
}

/* ---- what a device is ---- */

static int no_such_name(const char *name, glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_INVALID, "device \"%s\": expected cpu or cuda[:N]",
                      name ? name : "");
}

static int examine_cpu(glm4v_device *device)
{
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    *device = (glm4v_device) { .name = "cpu",
                               .memory = pages > 0 && size > 0 ? (uint64_t)pages * size : 0,
                               .available = glm4v_memory_available() };
    return 0;
}

int glm4v_device_examine(const char *name, glm4v_device *device, glm4v_error *err)
{
    const glm4v_cuda_module *module;
    glm4v_cuda_device card = { .name = "" };
    const int32_t gpu = name ? gpu_of(name) : NO_GPU;
    if (name && !strcmp(name, "cpu"))
        return examine_cpu(device);
    if (gpu == NO_GPU)
        return no_such_name(name, err);
    int rc = glm4v_cuda_module_open(&module, err);
    if (!rc)
        rc = module->examine(&card, gpu, true, err);
    if (rc)
        return rc;
    *device = (glm4v_device) { .compute_major = (uint32_t)card.major,
                               .compute_minor = (uint32_t)card.minor,
                               .memory = card.memory,
                               .available = card.available };
    snprintf(device->name, sizeof device->name, "cuda:%d", gpu);
    snprintf(device->gpu, sizeof device->gpu, "%.63s", card.name);
    return 0;
}

int glm4v_device_measure(const char *name, glm4v_device_rates *rates, glm4v_error *err)
{
    const glm4v_cuda_module *module;
    const int32_t gpu = name ? gpu_of(name) : NO_GPU;
    if (name && !strcmp(name, "cpu"))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "device \"cpu\": only GPUs are measured");
    if (gpu == NO_GPU)
        return no_such_name(name, err);
    int rc = glm4v_cuda_module_open(&module, err);
    return rc ? rc : module->measure(rates, gpu, err);
}

int glm4v_device_retain(const char *name, void **context, glm4v_error *err)
{
    const glm4v_cuda_module *module;
    const int32_t gpu = name ? gpu_of(name) : NO_GPU;
    if (name && !strcmp(name, "cpu"))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "device \"cpu\" has no CUDA context");
    if (gpu == NO_GPU)
        return no_such_name(name, err);
    int rc = glm4v_cuda_module_open(&module, err);
    return rc ? rc : module->retain(context, gpu, err);
}

void glm4v_device_release(const char *name)
{
    const glm4v_cuda_module *module;
    const int32_t gpu = name ? gpu_of(name) : NO_GPU;
    if (gpu != NO_GPU && !glm4v_cuda_module_open(&module, NULL))
        module->release(gpu);
}
