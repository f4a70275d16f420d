/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A module in the place of libglm4v-cuda.so, for tests of how one is found and chosen. With
 * OTHER_VERSION it is one of another build. Else it shows two GPUs, which are CPU backends with the
 * memory that FAKE_CUDA_MIB in the environment says; examine says a MiB less for each that was
 * opened. It fails in examine, open or measure where FAKE_CUDA says so. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda_module.h"
#include "base/error.h"

enum { GPUS = 2 };
/* Of the measurement. */
#define READ_RATE 2e12    /* bytes a second */
#define PRODUCT_RATE 5e14 /* operations a second; none where FAKE_CUDA is "product" */

static bool fails(const char *where)
{
    const char *wanted = getenv("FAKE_CUDA");
    return wanted && !strcmp(wanted, where);
}

static int count(int32_t *n, glm4v_error *err)
{
    *n = GPUS;
    return 0;
}

static atomic_uint opened; /* GPUs, so far */

static uint64_t free_bytes(void)
{
    const char *mib = getenv("FAKE_CUDA_MIB");
    return mib && *mib ? strtoull(mib, NULL, 10) << 20 : UINT64_MAX;
}

static int examine(glm4v_cuda_device *out, int32_t device, bool full, glm4v_error *err)
{
    *out = (glm4v_cuda_device) { .name = "Fake GPU",
                                 .major = 9,
                                 .memory = (uint64_t)96 << 30,
                                 .available = free_bytes() - ((uint64_t)opened << 20) };
    if (device >= GPUS)
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "there is no cuda:%d", device);
    return fails("examine") ? glm4v_fail(err, GLM4V_ERR_DEVICE, "examine failed as asked") : 0;
}

static int measure(glm4v_device_rates *rates, int32_t device, glm4v_error *err)
{
    if (fails("measure"))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "measure failed as asked");
    *rates = (glm4v_device_rates) { READ_RATE, fails("product") ? 0 : PRODUCT_RATE };
    return 0;
}

static int retain(void **context, int32_t device, glm4v_error *err)
{
    *context = NULL;
    return fails("retain") ? glm4v_fail(err, GLM4V_ERR_DEVICE, "retain failed as asked") : 0;
}

static void release(int32_t device)
{
}

static glm4v_backend_ops ops; /* the CPU's, but for the next two */

static uint64_t available(glm4v_backend *b)
{
    return free_bytes();
}

static int open_device(glm4v_backend **backend, int32_t device, glm4v_pool *pool,
                       const glm4v_log *log, glm4v_error *err)
{
    if (fails("open"))
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "open failed as asked");
    int rc = glm4v_backend_cpu_open(backend, pool, log, err);
    if (rc)
        return rc;
    opened++;
    ops = *(*backend)->ops;
    ops.name = "cuda";
    ops.available = available;
    (*backend)->ops = &ops;
    (*backend)->isa = "fake";
    (*backend)->device = device ? "cuda:1" : "cuda:0";
    return 0;
}

__attribute__((visibility("default"))) const glm4v_cuda_module glm4v_cuda_exports = {
#ifdef OTHER_VERSION
    .version = GLM4V_CUDA_MODULE_VERSION + 1,
#else
    .version = GLM4V_CUDA_MODULE_VERSION,
#endif
    .library = GLM4V_VERSION,
    .count = count,
    .examine = examine,
    .open = open_device,
    .measure = measure,
    .retain = retain,
    .release = release,
};
