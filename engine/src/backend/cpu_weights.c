/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weights and tables of the CPU backend: memory for panels, filled from rows of numbers, which are
 * quantized here, or from rows that are quantized already. Panels are independent of each other,
 * so that threads may fill different ones. */
#include <inttypes.h>
#include <string.h>

#include "backend/cpu_priv.h"
#include "base/error.h"
#include "base/mem.h"

/* ---- memory ---- */

int glm4v_cpu_weights_reserve(glm4v_backend *b, uint64_t bytes, glm4v_error *err)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    c->room = bytes <= SIZE_MAX ? glm4v_alloc_aligned(bytes, 1) : NULL;
    if (!c->room)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %" PRIu64 " bytes of weights",
                          bytes);
    c->room_bytes = bytes;
    c->room_used = 0;
    return 0;
}

/* n objects of size bytes: of the room that was reserved, else of their own. */
static void *take(glm4v_cpu_backend *c, int64_t n, size_t size)
{
    size_t bytes;
    if (glm4v_mul_overflow(n, size, &bytes) || bytes > c->room_bytes - c->room_used)
        return glm4v_alloc_aligned(n, size);
    char *block = c->room + c->room_used;
    c->room_used += glm4v_aligned(bytes);
    return block;
}

static void give_back(const glm4v_cpu_backend *c, void *block)
{
    const uintptr_t at = (uintptr_t)block - (uintptr_t)c->room;
    if (at >= c->room_bytes)
        glm4v_free(block);
}

/* ---- weights ---- */

/* What one panel of a kind takes. */
typedef struct {
    size_t panel;   /* bytes of codes or numbers */
    int64_t groups; /* vectors of 16 scales; 0: none */
} panel_sizes;

/* False: the form has no matrices of this width, or no such kind. */
static bool panel_sizes_of(panel_sizes *s, const glm4v_weight_kind *kind)
{
    const glm4v_form_traits *form = glm4v_form_of(kind->form);
    *s = (panel_sizes) { .panel = form->cpu.panel_bytes(kind->n_in),
                         .groups = glm4v_form_groups(kind->form, kind->blocks, kind->n_in) };
    return glm4v_form_fits(kind->form, kind->n_in) && (form->zeros || !kind->zeros) &&
           (form->blocks || !kind->blocks) && (form->ordered || !kind->ordered);
}

uint64_t glm4v_cpu_weight_bytes(glm4v_backend *b, const glm4v_weight_kind *kind)
{
    panel_sizes s;
    if (!panel_sizes_of(&s, kind))
        return 0;
    const int64_t panels = glm4v_panel_count(kind->n_out);
    const int64_t scales = panels * s.groups * GLM4V_PANEL;
    return panels * s.panel + scales * sizeof(float) + (kind->zeros ? glm4v_aligned(scales) : 0) +
           (kind->ordered ? glm4v_aligned(kind->n_in * sizeof(int32_t)) : 0);
}

void glm4v_cpu_weight_free(glm4v_backend *b, glm4v_weight *w)
{
    const glm4v_cpu_backend *c = glm4v_cpu(b);
    give_back(c, w->data);
    give_back(c, w->scale);
    give_back(c, w->zero);
    give_back(c, w->order);
    *w = (glm4v_weight) { 0 };
}

/* NULL where the kind has none. */
static void *take_if(glm4v_cpu_backend *c, bool wanted, int64_t n, size_t size, bool *failed)
{
    void *block = wanted ? take(c, n, size) : NULL;
    *failed |= wanted && !block;
    return block;
}

/* For messages. */
static const char *what_is_special(const glm4v_weight_kind *kind)
{
    if (kind->zeros)
        return " with zero points";
    if (kind->blocks)
        return " in blocks";
    return kind->ordered ? " in a stored order" : "";
}

int glm4v_cpu_weight_alloc(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                           glm4v_error *err)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    panel_sizes s;
    if (!panel_sizes_of(&s, kind))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "the CPU backend does not support %s matrices of %" PRId64 " inputs%s",
                          glm4v_form_name(kind->form), kind->n_in, what_is_special(kind));
    const int64_t panels = glm4v_panel_count(kind->n_out);
    const int64_t scales = panels * s.groups * GLM4V_PANEL;
    bool failed = false;
    glm4v_weight fresh = {
        .form = kind->form,
        .n_out = kind->n_out,
        .n_in = kind->n_in,
        .blocks = kind->blocks,
        .data = take_if(c, true, panels, s.panel, &failed),
        .scale = take_if(c, scales > 0, scales, sizeof(float), &failed),
        .zero = take_if(c, kind->zeros, scales, 1, &failed),
        .order = take_if(c, kind->ordered, kind->n_in, sizeof(int32_t), &failed),
        .bytes = glm4v_cpu_weight_bytes(b, kind),
    };
    if (failed) {
        glm4v_cpu_weight_free(b, &fresh);
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for a matrix of %" PRId64 " x %" PRId64 " as %s", kind->n_out,
                          kind->n_in, glm4v_form_name(kind->form));
    }
    for (int32_t k = 0; fresh.order && k < kind->n_in; k++)
        fresh.order[k] = k;
    *w = fresh;
    return 0;
}

/* One panel of a matrix in memory, and the `some` rows of n from `at` that belong to it. */
typedef struct {
    char *data;
    float *scale;
    uint8_t *zero;
    int64_t at, some;
} panel;

static panel panel_at(const glm4v_weight *w, const panel_sizes *s, int64_t row, int64_t n,
                      int64_t at)
{
    const int64_t number = (row + at) / GLM4V_PANEL;
    const int64_t scales = number * s->groups * GLM4V_PANEL;
    return (panel) { .data = (char *)w->data + number * s->panel,
                     .scale = w->scale ? w->scale + scales : NULL,
                     .zero = w->zero ? w->zero + scales : NULL,
                     .at = at,
                     .some = n - at < GLM4V_PANEL ? n - at : GLM4V_PANEL };
}

/* Sizes of w's panels; false: it has no rows [row, row + n) or row begins no panel. */
static bool may_fill(panel_sizes *s, const glm4v_weight *w, int64_t row, int64_t n)
{
    const glm4v_weight_kind kind = { .form = w->form, .n_in = w->n_in, .blocks = w->blocks };
    return panel_sizes_of(s, &kind) && row >= 0 && row % GLM4V_PANEL == 0 && n >= 0 &&
           row <= w->n_out - n;
}

int glm4v_cpu_weight_fill(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                          const float *rows)
{
    const glm4v_form_cpu *form = &glm4v_form_of(w->form)->cpu;
    panel_sizes s;
    if (!may_fill(&s, w, row, n) || w->blocks)
        return GLM4V_ERR_INVALID;
    for (int64_t i = 0; i < n; i += GLM4V_PANEL) {
        const panel p = panel_at(w, &s, row, n, i);
        const float *from = rows + i * w->n_in;
        form->pack(&glm4v_cpu(b)->gemm, p.data, p.scale, from, p.some, w->n_in);
        if (p.zero)
            glm4v_pack_zeros(p.zero, NULL, p.some, s.groups);
    }
    return 0;
}

/* The codes of one panel. */
static void fill_panel(const glm4v_gemm_ops *ops, const glm4v_weight *w, const panel *p,
                       int64_t groups, const glm4v_codes *codes)
{
    const glm4v_form_cpu *form = &glm4v_form_of(w->form)->cpu;
    const int64_t K = w->n_in;
    const int64_t at = p->at;
    if (codes->words)
        form->pack_words(ops, p->data, codes->words + at * (K / 8), p->some, K);
    else
        form->pack_codes(ops, p->data, codes->q + at * K, p->some, K);
    ops->pack_f32(p->scale, codes->scale + at * groups, groups, p->some, groups);
    if (p->zero)
        glm4v_pack_zeros(p->zero, codes->zero ? codes->zero + at * groups : NULL, p->some, groups);
}

int glm4v_cpu_weight_fill_codes(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                                const glm4v_codes *codes)
{
    const glm4v_form_traits *form = glm4v_form_of(w->form);
    panel_sizes s;
    if (!may_fill(&s, w, row, n) || !form->codes || !codes->scale || (codes->zero && !w->zero) ||
        (codes->words ? !form->cpu.pack_words : !codes->q))
        return GLM4V_ERR_INVALID;
    if (form->floating && glm4v_has_nan_e4m3(codes->q, n * w->n_in))
        return GLM4V_ERR_INVALID;
    for (int64_t i = 0; i < n; i += GLM4V_PANEL) {
        const panel p = panel_at(w, &s, row, n, i);
        fill_panel(&glm4v_cpu(b)->gemm, w, &p, s.groups, codes);
    }
    return 0;
}

/* A pair of inputs is a word, and words are stored in a panel like f32. */
int glm4v_cpu_weight_fill_bf16(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                               const uint16_t *rows)
{
    const int64_t pairs = w->n_in / 2;
    panel_sizes s;
    if (!may_fill(&s, w, row, n) || w->form != GLM4V_FORM_BF16 || w->n_in % 2)
        return GLM4V_ERR_INVALID;
    for (int64_t i = 0; i < n; i += GLM4V_PANEL) {
        const panel p = panel_at(w, &s, row, n, i);
        const void *from = rows + i * w->n_in;
        glm4v_cpu(b)->gemm.pack_f32((void *)p.data, from, pairs, p.some, pairs);
    }
    return 0;
}

/* Where 16 rows as they are read take what their panel takes, a panel is packed from the place of
 * the next: no byte of memory is touched for the first time by packing, which would fetch it. */
void *glm4v_cpu_weight_room(glm4v_backend *b, const glm4v_weight *w, int64_t row, int64_t n)
{
    const int64_t bits = glm4v_form_of(w->form)->bits;
    const size_t bytes = w->n_in * GLM4V_PANEL * bits / 8;
    const int64_t after = row + GLM4V_PANEL;
    panel_sizes s;
    if (bits > 16 || !may_fill(&s, w, row, n) || s.panel != bytes || n % GLM4V_PANEL ||
        after / GLM4V_PANEL + n / GLM4V_PANEL > glm4v_panel_count(w->n_out))
        return NULL;
    return (char *)w->data + after / GLM4V_PANEL * s.panel;
}

int glm4v_cpu_weight_order(glm4v_backend *b, glm4v_weight *w, const int32_t *order)
{
    if (!w->order)
        return GLM4V_ERR_INVALID;
    for (int64_t k = 0; k < w->n_in; k++)
        if (order[k] < 0 || order[k] >= w->n_in)
            return GLM4V_ERR_INVALID;
    memcpy(w->order, order, w->n_in * sizeof *order);
    return 0;
}

/* ---- tables ---- */

uint64_t glm4v_cpu_table_bytes(glm4v_backend *b, glm4v_form form, int64_t n_rows, int64_t n_cols)
{
    const glm4v_form_traits *traits = glm4v_form_of(form);
    const int64_t scales = traits->codes ? n_rows : 0;
    return traits->table ? glm4v_aligned(n_rows * n_cols * (traits->bits / 8)) +
                               glm4v_aligned(scales * sizeof(float))
                         : 0;
}

void glm4v_cpu_table_free(glm4v_backend *b, glm4v_table *t)
{
    give_back(glm4v_cpu(b), t->data);
    give_back(glm4v_cpu(b), t->scale);
    *t = (glm4v_table) { 0 };
}

int glm4v_cpu_table_alloc(glm4v_backend *b, glm4v_table *t, glm4v_form form, int64_t n_rows,
                          int64_t n_cols, glm4v_error *err)
{
    glm4v_cpu_backend *c = glm4v_cpu(b);
    const glm4v_form_traits *traits = glm4v_form_of(form);
    const int64_t scales = traits->codes ? n_rows : 0;
    bool failed = false;
    const size_t bytes = n_rows * n_cols * (traits->bits / 8);
    if (!traits->table)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "the CPU backend does not support %s tables",
                          glm4v_form_name(form));
    glm4v_table fresh = {
        .form = form,
        .n_rows = n_rows,
        .n_cols = n_cols,
        .data = take_if(c, true, bytes, 1, &failed),
        .scale = take_if(c, scales > 0, scales, sizeof(float), &failed),
        .bytes = glm4v_cpu_table_bytes(b, form, n_rows, n_cols),
    };
    if (failed) {
        glm4v_cpu_table_free(b, &fresh);
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for a table of %" PRId64 " x %" PRId64 " as %s", n_rows,
                          n_cols, glm4v_form_name(form));
    }
    *t = fresh;
    return 0;
}

int glm4v_cpu_table_fill(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                         const float *rows)
{
    if (row < 0 || n < 0 || row > t->n_rows - n)
        return GLM4V_ERR_INVALID;
    glm4v_form_of(t->form)->cpu.table_fill(&glm4v_cpu(b)->convert, t->data, t->scale, row, n, rows,
                                           t->n_cols);
    return 0;
}

int glm4v_cpu_table_fill_codes(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                               const glm4v_codes *codes)
{
    const int64_t cols = t->n_cols, at = row * cols;
    if (row < 0 || n < 0 || row > t->n_rows - n || !t->scale || !codes->q || !codes->scale)
        return GLM4V_ERR_INVALID;
    memcpy((int8_t *)t->data + at, codes->q, n * cols);
    memcpy(t->scale + row, codes->scale, n * sizeof *t->scale);
    return 0;
}
