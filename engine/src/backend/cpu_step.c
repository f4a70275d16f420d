/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Steps of the CPU backend: a copy of the arguments of step_begin, the rotary rows of its
 * positions, and lists for attention. Nothing is recorded; operations are done when they are
 * called. */
#include <inttypes.h>
#include <string.h>

#include "backend/cpu_priv.h"
#include "base/error.h"
#include "base/mem.h"

/* The arrays of a step, each from a cache line of its own in one block behind the struct. */
typedef struct {
    size_t ids, places, outputs, spans, rotary, jobs, appends;
} step_bytes;

static step_bytes bytes_of(const glm4v_step_size *size)
{
    const int64_t rows = size->rows, spans = size->spans, ids = spans ? rows : 0;
    return (step_bytes) {
        .ids = glm4v_aligned(ids * sizeof(int32_t)),
        .places = glm4v_aligned(ids * sizeof(int32_t)),
        .outputs = glm4v_aligned(size->outputs * sizeof(int32_t)),
        .spans = glm4v_aligned(spans * sizeof(glm4v_step_span)),
        .rotary = glm4v_aligned(rows * size->n_freq * sizeof(float)),
        .jobs = glm4v_aligned(spans * sizeof(glm4v_cpu_attention_job)),
        .appends = glm4v_aligned(spans * sizeof(glm4v_cpu_append_job)),
    };
}

uint64_t glm4v_cpu_step_bytes(glm4v_backend *b, const glm4v_step_size *size)
{
    const step_bytes n = bytes_of(size);
    return glm4v_aligned(sizeof(glm4v_cpu_step)) + n.ids + n.places + n.outputs + n.spans +
           2 * n.rotary + n.jobs + n.appends;
}

static void *take(char **at, size_t bytes)
{
    char *block = *at;
    *at += bytes;
    return block;
}

int glm4v_cpu_step_open(glm4v_backend *b, glm4v_step **step, const glm4v_step_size *size,
                        glm4v_error *err)
{
    const step_bytes n = bytes_of(size);
    char *at = glm4v_alloc_sparse(glm4v_cpu_step_bytes(b, size), 1);
    if (!at)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a step of %" PRId64 " rows",
                          size->rows);
    glm4v_cpu_step *s = take(&at, glm4v_aligned(sizeof *s));
    *s = (glm4v_cpu_step) { .base = { .backend = b, .size = *size } };
    s->ids = take(&at, n.ids);
    s->places = take(&at, n.places);
    s->outputs = take(&at, n.outputs);
    s->spans = take(&at, n.spans);
    s->cos = take(&at, n.rotary);
    s->sin = take(&at, n.rotary);
    s->jobs = take(&at, n.jobs);
    s->appends = take(&at, n.appends);
    *step = &s->base;
    return 0;
}

void glm4v_cpu_step_close(glm4v_step *step)
{
    glm4v_free(step);
}

/* Each section of a row from the table row of its axis. */
static void gather_rotary(glm4v_cpu_step *s, const glm4v_step_rows *rows)
{
    const glm4v_rotary *r = rows->rotary;
    const int64_t n = r->n_freq;
    int64_t first = 0;
    for (int axis = 0; axis < 3; axis++) {
        const int64_t section = r->section[axis];
        for (int64_t i = 0; i < rows->rows; i++) {
            const int64_t from = rows->position[axis][i] * n + first;
            memcpy(s->cos + i * n + first, r->cos + from, section * sizeof *s->cos);
            memcpy(s->sin + i * n + first, r->sin + from, section * sizeof *s->sin);
        }
        first += section;
    }
}

static void set_rotary(glm4v_cpu_step *s, const glm4v_step_rows *rows)
{
    const glm4v_rotary *r = rows->rotary;
    s->n_freq = r->n_freq;
    s->style = r->style;
    if (rows->position[0]) {
        gather_rotary(s, rows);
        s->row_cos = s->cos;
        s->row_sin = s->sin;
    } else {
        s->row_cos = r->cos;
        s->row_sin = r->sin;
    }
}

static void copy(int32_t *to, const int32_t *from, int64_t n)
{
    if (from && n)
        memcpy(to, from, n * sizeof *to);
}

/* Spans of one slot stand side by side. */
static void copy_spans(glm4v_cpu_step *s, const glm4v_step_rows *rows)
{
    int64_t of_slot = 0;
    s->n_rounds = 0;
    for (int64_t i = 0; i < rows->n_spans; i++) {
        s->spans[i] = rows->spans[i];
        of_slot = i && rows->spans[i].slot == rows->spans[i - 1].slot ? of_slot + 1 : 1;
        s->n_rounds = of_slot > s->n_rounds ? of_slot : s->n_rounds;
    }
}

int glm4v_cpu_step_begin(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed)
{
    glm4v_cpu_step *s = glm4v_cpu_step_of(step);
    const glm4v_step_size *size = &step->size;
    if (rows->rows < 1 || rows->rows > size->rows || rows->n_spans > size->spans ||
        rows->n_outputs > size->outputs || rows->n_places > rows->rows || rows->draws ||
        (!size->spans && (rows->ids || rows->n_places)) ||
        (rows->rotary && rows->position[0] && rows->rotary->n_freq > size->n_freq))
        return GLM4V_ERR_INVALID;
    s->rows = rows->rows;
    s->n_spans = rows->n_spans;
    s->n_places = rows->n_places;
    s->n_outputs = rows->n_outputs;
    copy(s->ids, rows->ids, rows->rows);
    copy(s->places, rows->places, rows->n_places);
    copy(s->outputs, rows->outputs, rows->n_outputs);
    copy_spans(s, rows);
    if (rows->rotary)
        set_rotary(s, rows);
    *replayed = false;
    return 0;
}

int glm4v_cpu_step_end(glm4v_step *step)
{
    return 0;
}

void glm4v_cpu_step_drop(glm4v_step *step)
{
}

/* ---- copies ---- */

int glm4v_cpu_step_upload(glm4v_step *s, void *y, const float *host, int64_t n)
{
    memcpy(y, host, n * sizeof *host);
    return 0;
}

int glm4v_cpu_step_download(glm4v_step *s, float *host, const void *x, int64_t n)
{
    memcpy(host, x, n * sizeof *host);
    return 0;
}

int glm4v_cpu_step_copy(glm4v_step *s, void *y, const void *x, size_t bytes)
{
    memcpy(y, x, bytes);
    return 0;
}
