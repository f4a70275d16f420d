/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which device holds which layers: the device string is parsed, and the backends are opened. */
#define _GNU_SOURCE
#include "model/stages.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define MAX_DEVICE_NAME 64

/* Cut the next name off a device string; name holds size. */
static int next_device(char *name, size_t size, const char **device, glm4v_error *err)
{
    const char *comma = strchrnul(*device, ',');
    if (comma - *device >= MAX_DEVICE_NAME)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.80s\": expected auto, cpu or cuda[:N][,cuda:M]", *device);
    snprintf(name, size, "%.*s", (int)(comma - *device), *device);
    *device = comma + (*comma != 0);
    return 0;
}

/* Layers are distributed evenly until the weights are known. A device that is not there is an error
 * now, long before it is used. */
int glm4v_stages_make(glm4v_model *m, const char *device, glm4v_error *err)
{
    int64_t n = 1, layers = m->config.text.layers;
    char name[MAX_DEVICE_NAME];
    device = device ? device : "auto";
    for (const char *p = device; *p; p++)
        n += *p == ',';
    if (n > GLM4V_MAX_DEVICES || n > layers)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.80s\": %" PRId64 " devices for a model of %" PRId64
                          " layers, at most %" PRId64,
                          device, n, layers,
                          GLM4V_MAX_DEVICES < layers ? GLM4V_MAX_DEVICES : layers);
    m->stages = glm4v_alloc(n, sizeof *m->stages);
    if (!m->stages)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %" PRId64 " stages", n);
    m->n_stages = n;
    for (int64_t i = 0; i < n; i++) {
        m->stages[i].first = (layers * i / n);
        m->stages[i].count = (layers * (i + 1) / n) - m->stages[i].first;
        int rc = next_device(name, sizeof name, &device, err);
        if (rc || (rc = glm4v_backend_check(name, err)))
            return rc;
    }
    return 0;
}

/* ---- dealing out ---- */

/* The layer whose weights an item is part of; -1: none. */
static int64_t layer_of(const glm4v_model *m, const glm4v_item *item)
{
    const uintptr_t at = (uintptr_t)item->to.linear, first = (uintptr_t)m->layers;
    const size_t layers = m->config.text.layers;
    if (at < first || at >= first + layers * sizeof *m->layers)
        return -1;
    return ((at - first) / sizeof *m->layers);
}

/* What is free on the stage's device, in equal parts for the stages on it. */
static double share_of(const glm4v_model *m, int64_t stage)
{
    const glm4v_stage *s = &m->stages[stage];
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_stages; i++)
        n += !strcmp(m->stages[i].device, s->device);
    const uint64_t available = s->backend->ops->available(s->backend);
    return available ? (double)available / (double)n : 1;
}

/* Bytes of a layer, as its present stage would keep it. */
static uint64_t layer_bytes(const glm4v_model *m, int64_t layer)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < m->plan.n; i++)
        if (layer_of(m, &m->plan.items[i]) == layer)
            bytes += glm4v_item_bytes(&m->plan.items[i], m->stages[m->plan.items[i].stage].backend);
    return bytes;
}

/* Bytes of a stage that do not depend on its layers. */
static uint64_t fixed_bytes(const glm4v_model *m, int64_t stage)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < m->plan.n; i++)
        if (m->plan.items[i].stage == stage && layer_of(m, &m->plan.items[i]) < 0)
            bytes += glm4v_item_bytes(&m->plan.items[i], m->stages[stage].backend);
    return bytes;
}

/* Cut the layers so that each stage's weights are its device's share of all bytes. The first stage
 * has the tower and the embedding, the last one the head. Each has one layer at least. */
static void deal(glm4v_model *m)
{
    const int64_t n = m->n_stages, layers = m->config.text.layers;
    double total = 0, shares = 0, wanted = 0, sum = 0;
    int64_t layer = 0;
    if (n == 1)
        return;
    for (int64_t i = 0; i < n; i++) {
        total += (double)fixed_bytes(m, i);
        shares += share_of(m, i);
    }
    for (int64_t i = 0; i < layers; i++)
        total += (double)layer_bytes(m, i);
    for (int64_t i = 0; i < n; i++) {
        const int64_t first = layer, most = layers - (n - 1 - i);
        wanted += total * share_of(m, i) / shares;
        sum += (double)fixed_bytes(m, i);
        for (double bytes; layer < most; sum += bytes, layer++) {
            bytes = (double)layer_bytes(m, layer);
            if (layer > first && i < n - 1 && sum + bytes / 2 > wanted)
                break;
        }
        m->stages[i].first = first;
        m->stages[i].count = layer - first;
    }
    for (int64_t i = 0; i < m->plan.n; i++) {
        const int64_t of = layer_of(m, &m->plan.items[i]);
        for (int32_t s = 0; of >= 0 && s < n; s++)
            if (of >= m->stages[s].first && of < m->stages[s].first + m->stages[s].count)
                m->plan.items[i].stage = s;
    }
}

int glm4v_stages_open(glm4v_model *m, const char *device, int64_t n_threads, glm4v_error *err)
{
    char name[MAX_DEVICE_NAME];
    int rc = glm4v_pool_open(&m->pool, n_threads, err);
    device = device ? device : "auto";
    for (int64_t i = 0; !rc && i < m->n_stages; i++) {
        rc = next_device(name, sizeof name, &device, err);
        if (!rc)
            rc = glm4v_backend_open(&m->stages[i].backend, name, m->pool, &m->log, err);
        if (!rc)
            snprintf(m->stages[i].device, sizeof m->stages[i].device, "%.15s",
                     strcmp(name, "auto") ? name : m->stages[i].backend->ops->name);
    }
    if (rc)
        return rc;
    deal(m);
    snprintf(m->info.isa, sizeof m->info.isa, "%s", m->stages[0].backend->isa);
    return 0;
}
