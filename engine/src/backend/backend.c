/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which backend a device string means. */
#include "backend/backend.h"

#include <string.h>

#include "base/error.h"

/* "cuda[:N][,cuda:M]..." with N of one to three digits. */
static bool names_cuda(const char *device)
{
    for (;;) {
        if (strncmp(device, "cuda", 4))
            return false;
        device += 4;
        if (*device == ':') {
            size_t digits = strspn(++device, "0123456789");
            if (!digits || digits > 3)
                return false;
            device += digits;
        }
        if (*device != ',')
            return !*device;
        device++;
    }
}

int glm4v_backend_check(const char *device, glm4v_error *err)
{
    if (!device || !strcmp(device, "auto") || !strcmp(device, "cpu"))
        return 0;
    if (names_cuda(device))
        return glm4v_fail(
            err, GLM4V_ERR_DEVICE,
            "device \"%s\": this version has no CUDA backend; use \"cpu\" or \"auto\"", device);
    return glm4v_fail(err, GLM4V_ERR_INVALID,
                      "device \"%s\": expected auto, cpu or cuda[:N][,cuda:M]", device);
}

static glm4v_backend_open_fn open_cpu = glm4v_backend_cpu_open;

void glm4v_backend_replace_cpu(glm4v_backend_open_fn open)
{
    open_cpu = open ? open : glm4v_backend_cpu_open;
}

int glm4v_backend_open(glm4v_backend **backend, const char *device, glm4v_pool *pool,
                       const glm4v_log *log, glm4v_error *err)
{
    int rc = glm4v_backend_check(device, err);
    return rc ? rc : open_cpu(backend, pool, log, err);
}

void glm4v_backend_close(glm4v_backend **backend)
{
    if (*backend)
        (*backend)->ops->close(*backend);
    *backend = NULL;
}
