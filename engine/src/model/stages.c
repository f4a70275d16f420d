/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which device holds which layers: the device string taken apart, and the backends opened. */
#define _GNU_SOURCE
#include "model/stages.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define MAX_STAGES 16
#define MAX_DEVICE_NAME 64

/* Cut the next name off a device string; name holds size. */
static int next_device(char *name, size_t size, const char **device, glm4v_error *err)
{
    const char *comma = strchrnul(*device, ',');
    if ((size_t)(comma - *device) >= size)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.80s\": expected auto, cpu or cuda[:N][,cuda:M]", *device);
    snprintf(name, size, "%.*s", (int)(comma - *device), *device);
    *device = comma + (*comma != 0);
    return 0;
}

/* Cut the device string at its commas: one stage each, layers dealt out evenly. A device that
 * is not there is told now, long before it is used. */
int glm4v_stages_make(glm4v_model *m, const char *device, glm4v_error *err)
{
    int32_t n = 1, layers = m->config.text.layers;
    char name[MAX_DEVICE_NAME];
    device = device ? device : "auto";
    for (const char *p = device; *p; p++)
        n += *p == ',';
    if (n > MAX_STAGES || n > layers)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.80s\": %d devices for a model of %d layers, at most %d",
                          device, n, layers, MAX_STAGES < layers ? MAX_STAGES : layers);
    m->stages = glm4v_alloc((size_t)n, sizeof *m->stages);
    if (!m->stages)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %d stages", n);
    m->n_stages = n;
    for (int32_t i = 0; i < n; i++) {
        m->stages[i].first = (int32_t)((int64_t)layers * i / n);
        m->stages[i].count = (int32_t)((int64_t)layers * (i + 1) / n) - m->stages[i].first;
        int rc = next_device(name, sizeof name, &device, err);
        if (rc || (rc = glm4v_backend_check(name, err)))
            return rc;
    }
    return 0;
}

int glm4v_stages_open(glm4v_model *m, const char *device, uint32_t n_threads, glm4v_error *err)
{
    char name[MAX_DEVICE_NAME];
    int rc = glm4v_pool_open(&m->pool, n_threads, err);
    device = device ? device : "auto";
    for (int32_t i = 0; !rc && i < m->n_stages; i++) {
        rc = next_device(name, sizeof name, &device, err);
        if (!rc)
            rc = glm4v_backend_open(&m->stages[i].backend, name, m->pool, &m->log, err);
    }
    if (rc)
        return rc;
    snprintf(m->info.isa, sizeof m->info.isa, "%s", m->stages[0].backend->isa);
    return 0;
}
