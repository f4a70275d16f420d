/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The module libglm4v-cuda.so: what it exports, and how the library finds it. The library itself
 * links to neither CUDA nor a driver; nothing of either is opened before a device is asked for that
 * is not the CPU. */
#ifndef GLM4V_ENGINE_CUDA_MODULE_H
#define GLM4V_ENGINE_CUDA_MODULE_H

#include "backend/backend.h"

#define GLM4V_CUDA_MODULE_SYMBOL "glm4v_cuda_exports"
/* Of the structs of this header and of backend.h: a module of another build is refused. */
#define GLM4V_CUDA_MODULE_VERSION 4

/* One GPU, for people and for checks. */
typedef struct {
    char name[64];        /* as the driver spells it */
    int32_t major, minor; /* compute capability */
    uint64_t memory;      /* bytes in all */
    uint64_t available;   /* bytes that can be taken now; 0: not asked */
} glm4v_cuda_device;

/* What the module exports as `glm4v_cuda_exports`. Functions are safe from any thread. */
typedef struct {
    uint32_t version;
    const char *library; /* GLM4V_VERSION of the build */
    /* GPUs that the driver shows. DEVICE, with the reason: no driver, one too old, no GPU */
    int (*count)(int32_t *n, glm4v_error *err);
    /* GPU number `device` of `count`. full: `available` too, which opens a context on it. DEVICE,
     * with the reason, where it cannot be used. */
    int (*examine)(glm4v_cuda_device *out, int32_t device, bool full, glm4v_error *err);
    /* As glm4v_backend_open(). */
    int (*open)(glm4v_backend **backend, int32_t device, glm4v_pool *pool, const glm4v_log *log,
                glm4v_error *err);
    /* What GPU number `device` reaches. DEVICE, NOMEM */
    int (*measure)(glm4v_device_rates *rates, int32_t device, glm4v_error *err);
    /* As glm4v_device_retain() and _release(). */
    int (*retain)(void **context, int32_t device, glm4v_error *err);
    void (*release)(int32_t device);
} glm4v_cuda_module;

/* backend/cuda_measure.c, in the module: as `measure`, of a GPU that can be used. */
int glm4v_cuda_measure(glm4v_device_rates *rates, int32_t device, glm4v_error *err);

/* backend/cuda.c, in the module. */
int glm4v_backend_cuda_open(glm4v_backend **backend, int32_t device, glm4v_pool *pool,
                            const glm4v_log *log, glm4v_error *err);

/* Open the module, once a process: $GLM4V_CUDA_MODULE if set, else, where there is a driver, beside
 * the library, in its folder glm4v, and where the loader looks. cuBLASLt, which is not part of the
 * module, is searched where the loader looks, in installations of CUDA 13 and in Python's nvidia
 * packages. DEVICE, with what was looked for and what to install. */
int glm4v_cuda_module_open(const glm4v_cuda_module **module, glm4v_error *err);

/* Is there an NVIDIA card in this machine, usable or not? root: "" or, in tests, a folder in place
 * of "/". */
bool glm4v_cuda_card_present(const char *root);

#endif
