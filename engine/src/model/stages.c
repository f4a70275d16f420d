/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which device holds which layers: the device string or the map by hand taken apart, and the
 * backends opened. */
#define _GNU_SOURCE
#include "model/stages.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define EXPECTED "expected auto, cpu or cuda[:N], several with commas between them"

/* ---- the device string ---- */

/* Cut the next name off a device string; name holds size. */
static int next_device(char *name, size_t size, const char **device, glm4v_error *err)
{
    const char *comma = strchrnul(*device, ',');
    if ((size_t)(comma - *device) >= size)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "device \"%.80s\": " EXPECTED, *device);
    snprintf(name, size, "%.*s", (int)(comma - *device), *device);
    *device = comma + (*comma != 0);
    return 0;
}

/* One name a GPU, so that stages on the same one are seen to be: "cuda" is "cuda:0". */
static int check_device(glm4v_stage *s, glm4v_error *err)
{
    int gpu = 0;
    int rc = glm4v_backend_check(s->device, err);
    if (rc || strncmp(s->device, "cuda", 4))
        return rc;
    if (sscanf(s->device, "cuda:%d", &gpu) != 1)
        gpu = 0;
    snprintf(s->device, sizeof s->device, "cuda:%d", gpu);
    return 0;
}

static int take_names(glm4v_model *m, const char *device, glm4v_error *err)
{
    const char *whole = device;
    for (int64_t i = 0; i < m->n_stages; i++) {
        glm4v_stage *s = &m->stages[i];
        int rc = next_device(s->device, sizeof s->device, &device, err);
        if (!rc && m->n_stages > 1 && !strcmp(s->device, "auto"))
            rc = glm4v_fail(err, GLM4V_ERR_INVALID,
                            "device \"%.80s\": \"auto\" stands alone; " EXPECTED, whole);
        if (rc || (rc = check_device(s, err)))
            return rc;
    }
    return 0;
}

/* "auto" has a second stage, for what the GPU has no room for. */
static void add_cpu(glm4v_model *m)
{
    if (strcmp(m->stages[0].device, "auto") || m->config.text.layers < 2)
        return;
    snprintf(m->stages[1].device, sizeof m->stages[1].device, "cpu");
    m->n_stages = 2;
}

static void deal_evenly(glm4v_model *m)
{
    const int64_t layers = m->config.text.layers, n = m->n_stages;
    for (int64_t i = 0; i < n; i++) {
        m->stages[i].first = layers * i / n;
        m->stages[i].count = layers * (i + 1) / n - m->stages[i].first;
    }
}

/* ---- the map by hand ---- */

/* One entry, "NAME=FIRST" or "NAME=FIRST-LAST", of stage i. */
static int take_range(glm4v_model *m, int64_t i, const char *entry, glm4v_error *err)
{
    glm4v_stage *s = &m->stages[i];
    const int64_t layers = m->config.text.layers, wanted = i ? s[-1].first + s[-1].count : 0;
    int64_t first = 0, last = 0;
    int name = 0, end = 0;
    if (sscanf(entry, "%*15[^=]%n=%" SCNd64 "%n", &name, &first, &end) == 1)
        last = first;
    if (end && entry[end] == '-' && sscanf(entry + end, "-%" SCNd64 "%n", &last, &name) == 1)
        end += name;
    if (!end || entry[end])
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "layers \"%.40s\": expected DEVICE=FIRST-LAST, as cuda:0=0-19", entry);
    if (first != wanted || last < first || last >= layers)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "layers \"%.40s\": expected a range from layer %" PRId64 " to %" PRId64
                          " at most; each layer stands in one range, in order",
                          entry, wanted, layers - 1);
    snprintf(s->device, sizeof s->device, "%.*s", (int)(strchr(entry, '=') - entry), entry);
    s->first = first;
    s->count = last - first + 1;
    return check_device(s, err);
}

static int take_map(glm4v_model *m, const char *map, glm4v_error *err)
{
    char entry[64];
    for (int64_t i = 0; i < m->n_stages; i++) {
        int rc = next_device(entry, sizeof entry, &map, err);
        if (rc || (rc = take_range(m, i, entry, err)))
            return rc;
    }
    const glm4v_stage *last = &m->stages[m->n_stages - 1];
    if (last->first + last->count == m->config.text.layers)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_INVALID,
                      "layers: the map ends with layer %" PRId64 ", the model with layer %" PRId64,
                      last->first + last->count - 1, m->config.text.layers - 1);
}

int glm4v_stages_make(glm4v_model *m, const glm4v_model_options *options, glm4v_error *err)
{
    const char *device = options->device ? options->device : "auto";
    const char *text = options->layers ? options->layers : device;
    const int64_t layers = m->config.text.layers;
    const int64_t most = GLM4V_MAX_DEVICES < layers ? GLM4V_MAX_DEVICES : layers;
    int64_t n = 1;
    if (options->layers && strcmp(device, "auto"))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.40s\" and layers \"%.40s\": layers name their devices, "
                          "leave device out",
                          device, options->layers);
    for (const char *p = text; *p; p++)
        n += *p == ',';
    if (n > most)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.80s\": %" PRId64 " devices for a model of %" PRId64
                          " layers, at most %" PRId64,
                          text, n, layers, most);
    m->stages = glm4v_alloc(n + 1, sizeof *m->stages);
    if (!m->stages)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %" PRId64 " stages", n);
    m->n_stages = n;
    if (options->layers)
        return take_map(m, options->layers, err);
    int rc = take_names(m, device, err);
    if (rc)
        return rc;
    add_cpu(m);
    deal_evenly(m);
    return 0;
}

/* ---- devices ---- */

bool glm4v_stage_is_host(const glm4v_stage *stage)
{
    return !strcmp(stage->device, "cpu");
}

static int open_stage(glm4v_model *m, int64_t i, const glm4v_model_options *options,
                      glm4v_error *err)
{
    glm4v_stage *s = &m->stages[i];
    int rc = glm4v_backend_open(&s->backend, s->device, m->pool, &m->log, err);
    if (rc)
        return rc;
    if (!strcmp(s->device, "auto"))
        snprintf(s->device, sizeof s->device, "%s",
                 strcmp(s->backend->ops->name, "cuda") ? "cpu" : "cuda:0");
    if (!glm4v_stage_is_host(s))
        s->limit = options->gpu_memory_limit;
    return 0;
}

int glm4v_stages_open(glm4v_model *m, const glm4v_model_options *options, glm4v_error *err)
{
    const bool automatic = !strcmp(m->stages[0].device, "auto");
    int rc = glm4v_pool_open(&m->pool, options->n_threads, err);
    for (int64_t i = 0; !rc && i < m->n_stages; i++) {
        rc = open_stage(m, i, options, err);
        if (!rc && automatic && glm4v_stage_is_host(&m->stages[0]))
            glm4v_stages_set(m, 0, 1, &m->config.text.layers);
    }
    return rc;
}

/* How stage i gets its rows. */
static int link_stage(const glm4v_model *m, int64_t i, glm4v_error *err)
{
    glm4v_backend *b = m->stages[i].backend, *from = m->stages[i - 1].backend;
    const char *how = "memory of the host";
    char failure[256] = "";
    int rc = b->ops->link ? b->ops->link(b, from, &how) : 0;
    if (rc && rc != GLM4V_ERR_UNSUPPORTED) {
        b->ops->failure(b, failure, sizeof failure);
        return glm4v_fail(err, rc, "device %s cannot be reached from %s: %s", b->device,
                          from->device, failure);
    }
    glm4v_log_line(&m->log, GLM4V_LOG_INFO, "activations go from %s to %s by %s", from->device,
                   b->device, how);
    return 0;
}

int glm4v_stages_link(const glm4v_model *m, glm4v_error *err)
{
    int rc = 0;
    for (int64_t i = 1; !rc && i < m->n_stages; i++)
        rc = link_stage(m, i, err);
    return rc;
}

uint64_t glm4v_device_room(const glm4v_model *m, int64_t stage)
{
    const glm4v_stage *s = &m->stages[stage];
    const uint64_t room = s->backend->ops->available(s->backend);
    return s->limit && s->limit < room ? s->limit : room;
}

uint64_t glm4v_stage_room(const glm4v_model *m, int64_t stage)
{
    const glm4v_stage *s = &m->stages[stage];
    const uint64_t room = glm4v_device_room(m, stage);
    uint64_t n = 0;
    for (int64_t i = 0; i < m->n_stages; i++)
        n += !strcmp(m->stages[i].device, s->device);
    return room == UINT64_MAX ? room : room / n;
}

/* ---- items ---- */

/* The layer whose weights an item is part of; -1: none. */
static int64_t layer_of(const glm4v_model *m, const glm4v_item *item)
{
    const uintptr_t at = (uintptr_t)item->to.linear, first = (uintptr_t)m->layers;
    const size_t layers = m->config.text.layers;
    if (at < first || at >= first + layers * sizeof *m->layers)
        return -1;
    return (at - first) / sizeof *m->layers;
}

uint64_t glm4v_largest_layer(const glm4v_model *m, glm4v_backend *b)
{
    uint64_t largest = 0;
    for (int64_t layer = 0; layer < m->config.text.layers; layer++) {
        uint64_t bytes = 0;
        for (int64_t i = 0; i < m->plan.n; i++)
            if (layer_of(m, &m->plan.items[i]) == layer)
                bytes += glm4v_item_bytes(&m->plan.items[i], b);
        if (bytes > largest)
            largest = bytes;
    }
    return largest;
}

uint64_t glm4v_outer_bytes(const glm4v_model *m, glm4v_backend *b, bool first, bool last)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < m->plan.n; i++) {
        const glm4v_item *item = &m->plan.items[i];
        if (layer_of(m, item) < 0 && (item->stage ? last : first))
            bytes += glm4v_item_bytes(item, b);
    }
    return bytes;
}

/* The stage that an item goes to, of those that are kept. */
static int64_t stage_of(const glm4v_model *m, const glm4v_item *item)
{
    const int64_t layer = layer_of(m, item);
    int64_t stage = 0;
    if (layer < 0)
        return item->stage ? m->n_stages - 1 : 0;
    while (layer >= m->stages[stage].first + m->stages[stage].count)
        stage++;
    return stage;
}

void glm4v_stages_set(glm4v_model *m, int64_t first, int64_t n, const int64_t *count)
{
    int64_t layer = 0;
    for (int64_t i = 0; i < m->n_stages; i++)
        if (i < first || i >= first + n)
            glm4v_backend_close(&m->stages[i].backend);
    memmove(m->stages, m->stages + first, n * sizeof *m->stages);
    m->n_stages = n;
    for (int64_t i = 0; i < n; i++) {
        m->stages[i].first = layer;
        m->stages[i].count = count[i];
        layer += count[i];
    }
    for (int64_t i = 0; i < m->plan.n; i++)
        m->plan.items[i].stage = stage_of(m, &m->plan.items[i]);
}
