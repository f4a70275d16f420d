/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See placement.h. All layers are taken to be as large as the largest, so that none comes out
 * larger than its place. */
#include "placement.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "estimate.h"
#include "model/stages.h"

/* One stage. */
typedef struct {
    uint64_t room;  /* bytes for it */
    uint64_t outer; /* bytes but those of layers */
    uint64_t layer; /* bytes of a layer, with its keys and values */
    bool host;
} place;

typedef struct {
    place place[GLM4V_MAX_DEVICES + 1];
    int64_t n, layers;
} places;

static int look(places *p, glm4v_model *m, const glm4v_engine_limits *limits, int64_t n,
                glm4v_error *err)
{
    const int64_t all = m->n_stages;
    int rc = 0;
    m->n_stages = n; /* the last of them has the head and its buffers */
    *p = (places) { .n = n, .layers = m->config.text.layers };
    for (int64_t i = 0; !rc && i < n; i++) {
        glm4v_backend *b = m->stages[i].backend;
        glm4v_device_memory one = { 0 };
        m->stages[i].count = 1;
        rc = glm4v_estimate_stage(m, i, limits, &one, err);
        p->place[i] = (place) { .room = glm4v_stage_room(m, i),
                                .outer = one.scratch + glm4v_outer_bytes(m, b, !i, i == n - 1),
                                .layer = glm4v_largest_layer(m, b) + one.kv_cache,
                                .host = glm4v_stage_is_host(&m->stages[i]) };
    }
    m->n_stages = all;
    return rc;
}

/* Layers that a place has room for. */
static int64_t capacity(const place *p)
{
    if (p->room <= p->outer)
        return 0;
    const uint64_t n = (p->room - p->outer) / p->layer;
    return n < INT32_MAX ? n : INT32_MAX;
}

/* Each place of one kind gets its share of all bytes by its room; one layer at
 * least. */
static void share(const places *p, int64_t layers, bool host, int64_t *count)
{
    double total = 0, rooms = 0, wanted = 0, sum = 0;
    int64_t left = layers, of_kind = 0;
    for (int64_t i = 0; i < p->n; i++)
        if (p->place[i].host == host) {
            total += (double)p->place[i].outer;
            rooms += (double)p->place[i].room;
            of_kind++;
        }
    for (int64_t i = 0; i < p->n; i++) {
        const place *at = &p->place[i];
        if (at->host != host)
            continue;
        const double all = total + (double)layers * (double)at->layer;
        const int64_t most = left - --of_kind;
        wanted += rooms > 0 ? all * (double)at->room / rooms : all;
        sum += (double)at->outer;
        for (count[i] = 0; count[i] < most; count[i]++, sum += (double)at->layer)
            if (of_kind && count[i] && sum + (double)at->layer / 2 > wanted)
                break;
        left -= count[i];
    }
}

static int64_t count_hosts(const places *p)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++)
        n += p->place[i].host;
    return n;
}

/* GPUs are full; the CPUs get the rest, a layer each at least. */
static void fill(const places *p, int64_t *count)
{
    int64_t left = p->layers, hosts = count_hosts(p), gpus = p->n - hosts;
    for (int64_t i = 0; i < p->n; i++)
        if (!p->place[i].host) {
            const int64_t most = left - hosts - --gpus, room = capacity(&p->place[i]);
            count[i] = room < most ? room : most;
            left -= count[i];
        }
    share(p, left, true, count);
}

static bool suffice(const places *p)
{
    int64_t layers = 0;
    for (int64_t i = 0; i < p->n; i++)
        layers += capacity(&p->place[i]);
    return layers >= p->layers;
}

static int too_small(const glm4v_model *m, const place *p, int64_t stage, glm4v_error *err)
{
    return glm4v_fail(
        err, GLM4V_ERR_NOMEM,
        "%s: device %s has room for %" PRIu64 " MiB, but what lies there beside layers "
        "takes %" PRIu64 " MiB and one layer %" PRIu64
        " MiB; leave the device out, or choose a smaller quantization",
        m->info.name, m->stages[stage].device, p->room >> 20, p->outer >> 20, p->layer >> 20);
}

static int place_mixed(glm4v_model *m, const places *p, bool automatic, glm4v_error *err)
{
    int64_t count[GLM4V_MAX_DEVICES + 1];
    glm4v_error why = { 0 };
    for (int64_t i = 0; i < p->n; i++)
        if (!p->place[i].host && !capacity(&p->place[i])) {
            too_small(m, &p->place[i], i, &why);
            if (!automatic) {
                *err = why;
                return GLM4V_ERR_NOMEM;
            }
            glm4v_log_line(&m->log, GLM4V_LOG_WARNING, "device \"auto\" is the CPU: %s", why.msg);
            glm4v_stages_set(m, 1, 1, &m->config.text.layers);
            return 0;
        }
    fill(p, count);
    glm4v_stages_set(m, 0, p->n, count);
    glm4v_log_line(&m->log, automatic ? GLM4V_LOG_WARNING : GLM4V_LOG_INFO,
                   "%s: %" PRId64 " of %" PRId64
                   " layers do not fit on the GPU and run on the CPU, which is slower",
                   m->info.name, p->layers - m->stages[p->n - 1].first, p->layers);
    return 0;
}

int glm4v_place(glm4v_model *m, const glm4v_model_options *options,
                const glm4v_engine_options *engine, glm4v_error *err)
{
    const bool automatic = !options->device || !strcmp(options->device, "auto");
    int64_t count[GLM4V_MAX_DEVICES + 1], hosts;
    glm4v_engine_limits limits;
    places p;
    if (options->layers || m->n_stages == 1)
        return 0;
    int rc = glm4v_engine_limits_of(&limits, m, engine, err);
    if (!rc)
        rc = look(&p, m, &limits, m->n_stages, err);
    if (rc)
        return rc;
    hosts = count_hosts(&p);
    if (hosts && hosts < p.n) {
        const places all = p;
        const bool gpus_first = !p.place[p.n - hosts - 1].host;
        rc = look(&p, m, &limits, p.n - hosts, err);
        if (rc || !gpus_first || !suffice(&p))
            return rc ? rc : place_mixed(m, &all, automatic, err);
        hosts = 0;
    }
    share(&p, p.layers, hosts > 0, count);
    glm4v_stages_set(m, 0, p.n, count);
    return 0;
}
