/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weights and tables of the CUDA backend. Rows go up through staging memory of the device, where
 * kernels quantize and pack them; all fills share one stream, so that the memory serves one after
 * the other, and a lock, held while a fill is handed over. A matrix is one block: numbers, scales,
 * zero points, order. */
#include <inttypes.h>

#include "backend/cuda_priv.h"
#include "base/error.h"
#include "base/mem.h"

_Static_assert((int)GLM4V_CUDA_F32 == GLM4V_FORM_F32 && (int)GLM4V_CUDA_BF16 == GLM4V_FORM_BF16 &&
                   (int)GLM4V_CUDA_INT8 == GLM4V_FORM_INT8 &&
                   (int)GLM4V_CUDA_INT4 == GLM4V_FORM_INT4 &&
                   (int)GLM4V_CUDA_FP8 == GLM4V_FORM_FP8 &&
                   (int)GLM4V_CUDA_INT4_32 == GLM4V_FORM_INT4_32 &&
                   (int)GLM4V_CUDA_FP8_DYNAMIC == GLM4V_FORM_FP8_DYNAMIC && GLM4V_N_FORMS == 7,
               "the kernels name forms in another order");

#define ROW_STEP 16 /* fills begin at multiples of it */

/* ---- memory ---- */

int glm4v_gpu_weights_reserve(glm4v_backend *b, uint64_t bytes, glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    void *room = NULL;
    GLM4V_CUDA_ENTER(&g->context);
    int rc = bytes <= SIZE_MAX ? glm4v_gpu_take(g, &room, bytes)
                               : glm4v_gpu_refuse(g, GLM4V_ERR_NOMEM, "more than memory can hold");
    if (rc)
        return glm4v_gpu_fail(g, err, rc, "no memory for %llu bytes of weights",
                              (unsigned long long)bytes);
    g->room = room;
    g->room_bytes = bytes;
    g->room_used = 0;
    return 0;
}

/* Of the room that was reserved, else of its own. */
static int take(glm4v_gpu_backend *g, void **ptr, size_t bytes)
{
    if (bytes > g->room_bytes - g->room_used)
        return glm4v_gpu_take(g, ptr, bytes);
    *ptr = g->room + g->room_used;
    g->room_used += glm4v_gpu_round_up(bytes);
    return 0;
}

static void give_back(glm4v_gpu_backend *g, void *block)
{
    const uintptr_t at = (uintptr_t)block - (uintptr_t)g->room;
    if (at >= g->room_bytes)
        glm4v_gpu_give(g, block);
}

/* Zeros in front of all fills: the ends of rows that nothing writes. */
static int clear(glm4v_gpu_backend *g, void *block, size_t bytes)
{
    return glm4v_gpu_check(g,
                           glm4v_cuda_injected(GLM4V_CUDA_AT_COPY)
                               ?: cudaMemsetAsync(block, 0, bytes, g->fills.stream),
                           "cudaMemsetAsync");
}

/* ---- weights ---- */

glm4v_cuda_matrix glm4v_gpu_matrix(const glm4v_weight *w)
{
    return (glm4v_cuda_matrix) { .form = (glm4v_cuda_form)w->form,
                                 .n_out = glm4v_gpu_i32(w->n_out),
                                 .n_in = glm4v_gpu_i32(w->n_in),
                                 .blocks = w->blocks,
                                 .data = w->data,
                                 .scale = w->scale,
                                 .zero = w->zero,
                                 .order = w->order };
}

/* False: the form has no matrices of this width, or lacks what is asked. */
static bool sizes_of(glm4v_cuda_matrix_bytes *s, const glm4v_weight_kind *kind)
{
    const glm4v_form_traits *form = glm4v_form_of(kind->form);
    if (!GLM4V_GPU_FITS(kind->n_out, kind->n_in) || !glm4v_form_fits(kind->form, kind->n_in) ||
        (kind->zeros && !form->zeros) || (kind->blocks && !form->blocks) ||
        (kind->ordered && !form->ordered))
        return false;
    *s =
        glm4v_cuda_matrix_size((glm4v_cuda_form)kind->form, glm4v_gpu_i32(kind->n_out),
                               glm4v_gpu_i32(kind->n_in), kind->blocks, kind->zeros, kind->ordered);
    return true;
}

static uint64_t sum_of(const glm4v_cuda_matrix_bytes *s)
{
    return (uint64_t)s->data + s->scale + s->zero + s->order;
}

uint64_t glm4v_gpu_weight_bytes(glm4v_backend *b, const glm4v_weight_kind *kind)
{
    glm4v_cuda_matrix_bytes s;
    return sizes_of(&s, kind) ? sum_of(&s) : 0;
}

void glm4v_gpu_weight_free(glm4v_backend *b, glm4v_weight *w)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    give_back(g, w->data);
    *w = (glm4v_weight) { 0 };
}

/* Inputs as they are, until weight_order says otherwise. */
static int set_identity(glm4v_backend *b, int32_t *order, int64_t n)
{
    int32_t *host = glm4v_alloc(n, sizeof *host);
    if (!host)
        return glm4v_gpu_refuse(glm4v_gpu(b), GLM4V_ERR_NOMEM, "no memory for an order");
    for (int64_t k = 0; k < n; k++)
        host[k] = (int32_t)k;
    int rc = glm4v_gpu_write(b, order, host, n * sizeof *host);
    glm4v_free(host);
    return rc;
}

int glm4v_gpu_weight_alloc(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                           glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    glm4v_cuda_matrix_bytes s;
    if (!sizes_of(&s, kind))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "CUDA has no %s matrices of %" PRId64 " x %" PRId64,
                          glm4v_form_name(kind->form), kind->n_out, kind->n_in);
    void *block = NULL;
    GLM4V_CUDA_ENTER(&g->context);
    int rc = take(g, &block, sum_of(&s));
    if (!rc && (rc = clear(g, block, sum_of(&s) - s.order)))
        give_back(g, block);
    if (rc)
        return glm4v_gpu_fail(g, err, rc,
                              "no memory for a matrix of %" PRId64 " x %" PRId64 " as %s",
                              kind->n_out, kind->n_in, glm4v_form_name(kind->form));
    char *scale = (char *)block + s.data, *zero = scale + s.scale, *order = zero + s.zero;
    glm4v_weight fresh = { .form = kind->form,
                           .n_out = kind->n_out,
                           .n_in = kind->n_in,
                           .blocks = kind->blocks,
                           .data = block,
                           .scale = s.scale ? (float *)(void *)scale : NULL,
                           .zero = s.zero ? (uint8_t *)zero : NULL,
                           .order = s.order ? (int32_t *)(void *)order : NULL,
                           .bytes = sum_of(&s) };
    if (fresh.order && (rc = set_identity(b, fresh.order, kind->n_in))) {
        glm4v_gpu_weight_free(b, &fresh);
        return glm4v_gpu_fail(g, err, rc, "no order of %" PRId64 " inputs", kind->n_in);
    }
    *w = fresh;
    return 0;
}

/* ---- fills: staging and what is remembered of them. Lock held ---- */

static int staging_of(glm4v_gpu_backend *g, size_t bytes)
{
    glm4v_gpu_fills *f = &g->fills;
    void *fresh = NULL;
    if (bytes <= f->bytes)
        return 0;
    const size_t wanted = bytes > GLM4V_GPU_STAGING ? bytes : GLM4V_GPU_STAGING;
    int rc = glm4v_gpu_take(g, &fresh, wanted);
    if (!rc && (rc = glm4v_gpu_check(g, cudaStreamSynchronize(f->stream), "cudaStreamSynchronize")))
        glm4v_gpu_give(g, fresh);
    if (rc)
        return rc;
    glm4v_gpu_give(g, f->staging);
    f->staging = fresh;
    f->bytes = wanted;
    return 0;
}

/* A fill from these bytes of the host was handed over. */
static int end_fill(glm4v_gpu_backend *g, const void *from, size_t bytes)
{
    glm4v_gpu_fills *f = &g->fills;
    const uint64_t fill = ++f->count;
    f->range[fill % GLM4V_GPU_RANGES].from = (uintptr_t)from;
    f->range[fill % GLM4V_GPU_RANGES].to = (uintptr_t)from + bytes;
    f->range[fill % GLM4V_GPU_RANGES].fill = fill;
    int rc = glm4v_gpu_record(g, f->read[fill % GLM4V_GPU_MARKS], f->stream);
    return rc ? rc : glm4v_gpu_record(g, f->packed, f->stream);
}

/* The last fill that read, or may have read, of the range; 0: none. */
static uint64_t last_fill_of(const glm4v_gpu_fills *f, uintptr_t from, uintptr_t to)
{
    /* what is no longer remembered */
    uint64_t last = f->count > GLM4V_GPU_RANGES ? f->count - GLM4V_GPU_RANGES : 0;
    for (size_t i = 0; i < GLM4V_GPU_RANGES; i++)
        if (f->range[i].fill > last && f->range[i].from < to && from < f->range[i].to)
            last = f->range[i].fill;
    return last;
}

int glm4v_gpu_fills_wait(glm4v_backend *b, const void *from, size_t bytes)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    glm4v_gpu_fills *f = &g->fills;
    int rc = glm4v_gpu_usable(g);
    GLM4V_CUDA_ENTER(&g->context);
    if (rc) {
        glm4v_gpu_settle(f->stream);
        return rc;
    }
    pthread_mutex_lock(&f->lock);
    const uint64_t fill = last_fill_of(f, (uintptr_t)from, (uintptr_t)from + bytes);
    pthread_mutex_unlock(&f->lock);
    if (!fill)
        return 0;
    /* a mark that a later fill has taken meanwhile is reached no sooner */
    return glm4v_gpu_check(g,
                           glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT)
                               ?: cudaEventSynchronize(f->read[fill % GLM4V_GPU_MARKS]),
                           "a fill of weights, seen by cudaEventSynchronize");
}

int glm4v_gpu_behind_fills(glm4v_gpu_backend *g, glm4v_gpu_queue *q)
{
    int rc = 0;
    pthread_mutex_lock(&g->fills.lock);
    const uint64_t count = g->fills.count;
    pthread_mutex_lock(&q->lock);
    if (q->fills != count && !(rc = glm4v_gpu_wait(g, q->stream, g->fills.packed)))
        q->fills = count;
    pthread_mutex_unlock(&q->lock);
    pthread_mutex_unlock(&g->fills.lock);
    return rc;
}

/* ---- fills of weights ---- */

/* Rows of the host, or random numbers, and the kernel that packs them. */
typedef struct {
    const void *rows; /* NULL: random */
    size_t row_bytes; /* of staging; of rows too */
    const glm4v_random *random;
    const glm4v_weight *w; /* or */
    const glm4v_table *t;
    enum { FROM_F32, FROM_BF16, FROM_CODES, FROM_WORDS } from;
} filling;

static glm4v_cuda_table table_of(const glm4v_table *t)
{
    return (glm4v_cuda_table) { .form = (glm4v_cuda_form)t->form,
                                .n_rows = glm4v_gpu_i32(t->n_rows),
                                .n_cols = glm4v_gpu_i32(t->n_cols),
                                .data = t->data,
                                .scale = t->scale };
}

/* Rows [row, row + n) from staging. */
static int pack(glm4v_gpu_backend *g, const filling *f, int64_t row, int64_t n)
{
    const cudaStream_t stream = g->fills.stream;
    const int32_t first = glm4v_gpu_i32(row), some = glm4v_gpu_i32(n);
    void *rows = g->fills.staging;
    if (f->t) {
        const glm4v_cuda_table t = table_of(f->t);
        return GLM4V_GPU_LAUNCH(g, "table_fill",
                                glm4v_cuda_table_fill(stream, &t, first, some, rows));
    }
    const glm4v_cuda_matrix w = glm4v_gpu_matrix(f->w);
    switch (f->from) {
    case FROM_F32:
        return GLM4V_GPU_LAUNCH(g, "pack_f32", glm4v_cuda_pack_f32(stream, &w, first, some, rows));
    case FROM_BF16:
        return GLM4V_GPU_LAUNCH(g, "pack_bf16",
                                glm4v_cuda_pack_bf16(stream, &w, first, some, rows));
    case FROM_CODES:
        return GLM4V_GPU_LAUNCH(g, "pack_codes",
                                glm4v_cuda_pack_codes(stream, &w, first, some, rows));
    case FROM_WORDS:
        return GLM4V_GPU_LAUNCH(g, "pack_words",
                                glm4v_cuda_pack_words(stream, &w, first, some, rows));
    }
    return GLM4V_ERR_INTERNAL;
}

/* Rows [at, at + n) of what is filled into staging. */
static int stage(glm4v_gpu_backend *g, const filling *f, int64_t at, int64_t n)
{
    const size_t bytes = n * f->row_bytes, first = at * f->row_bytes;
    if (f->rows)
        return glm4v_gpu_copy_async(g, g->fills.staging, (const char *)f->rows + first, bytes,
                                    g->fills.stream);
    return GLM4V_GPU_LAUNCH(g, "random_f32",
                            glm4v_cuda_random_f32(g->fills.stream, g->fills.staging,
                                                  bytes / sizeof(float), f->random->seed,
                                                  first / sizeof(float), f->random->mean,
                                                  f->random->scale));
}

/* Rows [row, row + n), as many at a time as staging holds. Lock held. */
static int fill_rows(glm4v_gpu_backend *g, const filling *f, int64_t row, int64_t n)
{
    const int64_t fit = (int64_t)(GLM4V_GPU_STAGING / f->row_bytes) / ROW_STEP * ROW_STEP;
    int64_t some = fit < n ? fit : n;
    if (some < ROW_STEP)
        some = n < ROW_STEP ? n : ROW_STEP;
    int rc = glm4v_gpu_usable(g);
    if (!rc && n > 0)
        rc = staging_of(g, some * f->row_bytes);
    for (int64_t at = 0; !rc && at < n; at += some) {
        some = n - at < some ? n - at : some;
        rc = stage(g, f, at, some);
        if (!rc)
            rc = pack(g, f, row + at, some);
    }
    return rc;
}

/* Zero points of rows [row, row + n): given, or 8. */
static int fill_zeros(glm4v_gpu_backend *g, const glm4v_weight *w, int64_t row, int64_t n,
                      const uint8_t *zeros)
{
    const size_t groups = glm4v_form_groups(w->form, w->blocks, w->n_in);
    uint8_t *to = w->zero + row * groups;
    if (zeros)
        return glm4v_gpu_copy_async(g, to, zeros, n * groups, g->fills.stream);
    return glm4v_gpu_check(g, cudaMemsetAsync(to, 8, n * groups, g->fills.stream),
                           "cudaMemsetAsync");
}

static bool may_fill(const glm4v_weight *w, int64_t row, int64_t n)
{
    return row >= 0 && row % ROW_STEP == 0 && n >= 0 && row <= w->n_out - n;
}

static int fill_numbers(glm4v_backend *b, const filling *f, int64_t row, int64_t n)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&g->fills.lock);
    int rc = fill_rows(g, f, row, n);
    if (!rc && f->w && f->w->zero)
        rc = fill_zeros(g, f->w, row, n, NULL);
    int end = end_fill(g, f->rows, n * f->row_bytes);
    pthread_mutex_unlock(&g->fills.lock);
    return rc ? rc : end;
}

int glm4v_gpu_weight_fill(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                          const float *rows)
{
    const filling f = { .rows = rows, .row_bytes = w->n_in * sizeof *rows, .w = w };
    return may_fill(w, row, n) && !w->blocks ? fill_numbers(b, &f, row, n) : GLM4V_ERR_INVALID;
}

int glm4v_gpu_weight_fill_bf16(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                               const uint16_t *rows)
{
    const filling f = {
        .rows = rows, .row_bytes = w->n_in * sizeof *rows, .w = w, .from = FROM_BF16
    };
    return may_fill(w, row, n) && w->form == GLM4V_FORM_BF16 && w->n_in % 2 == 0
               ? fill_numbers(b, &f, row, n)
               : GLM4V_ERR_INVALID;
}

int glm4v_gpu_weight_fill_random(glm4v_backend *b, glm4v_weight *w, const glm4v_random *random)
{
    const filling f = { .row_bytes = w->n_in * sizeof(float), .random = random, .w = w };
    return w->blocks ? GLM4V_ERR_INVALID : fill_numbers(b, &f, 0, w->n_out);
}

/* Codes, scales and zero points. Lock held. */
static int fill_codes(glm4v_gpu_backend *g, const filling *f, int64_t row, int64_t n,
                      const glm4v_codes *codes)
{
    const glm4v_weight *w = f->w;
    const size_t groups = glm4v_form_groups(w->form, w->blocks, w->n_in);
    int rc = fill_rows(g, f, row, n);
    if (!rc)
        rc = glm4v_gpu_copy_async(g, w->scale + row * groups, codes->scale,
                                  n * groups * sizeof(float), g->fills.stream);
    return rc || !w->zero ? rc : fill_zeros(g, w, row, n, codes->zero);
}

/* Scales and zero points may lie elsewhere than the codes: all three are remembered. */
static int end_codes(glm4v_gpu_backend *g, const filling *f, int64_t n, const glm4v_codes *codes)
{
    const size_t groups =
        (size_t)n * (size_t)glm4v_form_groups(f->w->form, f->w->blocks, f->w->n_in);
    int rc = end_fill(g, f->rows, n * f->row_bytes);
    if (!rc)
        rc = end_fill(g, codes->scale, groups * sizeof(float));
    return rc || !codes->zero ? rc : end_fill(g, codes->zero, groups);
}

int glm4v_gpu_weight_fill_codes(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                                const glm4v_codes *codes)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    const glm4v_form_traits *form = glm4v_form_of(w->form);
    const size_t K = w->n_in;
    filling f = { .rows = codes->q, .row_bytes = K, .w = w, .from = FROM_CODES };
    if (!may_fill(w, row, n) || !form->codes || !codes->scale || (codes->zero && !w->zero) ||
        (codes->words ? form->layout != GLM4V_LAYOUT_WORDS : !codes->q) ||
        (form->floating && glm4v_has_nan_e4m3(codes->q, n * K)))
        return GLM4V_ERR_INVALID;
    if (codes->words)
        f = (filling) { .rows = codes->words, .row_bytes = K / 2, .w = w, .from = FROM_WORDS };
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&g->fills.lock);
    int rc = fill_codes(g, &f, row, n, codes);
    int end = end_codes(g, &f, n, codes);
    pthread_mutex_unlock(&g->fills.lock);
    return rc ? rc : end;
}

int glm4v_gpu_weight_order(glm4v_backend *b, glm4v_weight *w, const int32_t *order)
{
    if (!w->order)
        return GLM4V_ERR_INVALID;
    for (int64_t k = 0; k < w->n_in; k++)
        if (order[k] < 0 || order[k] >= w->n_in)
            return GLM4V_ERR_INVALID;
    return glm4v_gpu_write(b, w->order, order, w->n_in * sizeof *order);
}

/* ---- tables: rows of numbers or codes, then scales ---- */

static uint64_t numbers_of(const glm4v_form_traits *form, int64_t n_rows, int64_t n_cols)
{
    return glm4v_gpu_round_up(n_rows * n_cols * form->bits / 8);
}

uint64_t glm4v_gpu_table_bytes(glm4v_backend *b, glm4v_form form, int64_t n_rows, int64_t n_cols)
{
    const glm4v_form_traits *traits = glm4v_form_of(form);
    const size_t scales = traits->codes ? n_rows * sizeof(float) : 0;
    return traits->table ? numbers_of(traits, n_rows, n_cols) + glm4v_gpu_round_up(scales) : 0;
}

int glm4v_gpu_table_alloc(glm4v_backend *b, glm4v_table *t, glm4v_form form, int64_t n_rows,
                          int64_t n_cols, glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    const glm4v_form_traits *traits = glm4v_form_of(form);
    const uint64_t bytes = glm4v_gpu_table_bytes(b, form, n_rows, n_cols);
    void *block = NULL;
    if (!traits->table || !GLM4V_GPU_FITS(n_rows, n_cols))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "CUDA has no %s tables of %" PRId64 " x %" PRId64, glm4v_form_name(form),
                          n_rows, n_cols);
    GLM4V_CUDA_ENTER(&g->context);
    int rc = take(g, &block, bytes);
    if (rc)
        return glm4v_gpu_fail(g, err, rc,
                              "no memory for a table of %" PRId64 " x %" PRId64 " as %s", n_rows,
                              n_cols, glm4v_form_name(form));
    char *scale = (char *)block + numbers_of(traits, n_rows, n_cols);
    *t = (glm4v_table) { .form = form,
                         .n_rows = n_rows,
                         .n_cols = n_cols,
                         .data = block,
                         .scale = traits->codes ? (float *)(void *)scale : NULL,
                         .bytes = bytes };
    return 0;
}

static bool may_fill_table(const glm4v_table *t, int64_t row, int64_t n)
{
    return row >= 0 && n >= 0 && row <= t->n_rows - n;
}

int glm4v_gpu_table_fill(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                         const float *rows)
{
    const filling f = { .rows = rows, .row_bytes = t->n_cols * sizeof *rows, .t = t };
    return may_fill_table(t, row, n) ? fill_numbers(b, &f, row, n) : GLM4V_ERR_INVALID;
}

int glm4v_gpu_table_fill_random(glm4v_backend *b, glm4v_table *t, const glm4v_random *random)
{
    const filling f = { .row_bytes = t->n_cols * sizeof(float), .random = random, .t = t };
    return fill_numbers(b, &f, 0, t->n_rows);
}

int glm4v_gpu_table_fill_codes(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                               const glm4v_codes *codes)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    glm4v_gpu_fills *f = &g->fills;
    const size_t bytes = n * t->n_cols;
    if (!may_fill_table(t, row, n) || !t->scale || !codes->q || !codes->scale)
        return GLM4V_ERR_INVALID;
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&f->lock);
    int rc = glm4v_gpu_usable(g);
    if (!rc)
        rc = glm4v_gpu_copy_async(g, (int8_t *)t->data + row * t->n_cols, codes->q, bytes,
                                  f->stream);
    if (!rc)
        rc = glm4v_gpu_copy_async(g, t->scale + row, codes->scale, n * sizeof *t->scale, f->stream);
    int end = end_fill(g, codes->q, bytes);
    if (!end)
        end = end_fill(g, codes->scale, n * sizeof *t->scale);
    pthread_mutex_unlock(&f->lock);
    return rc ? rc : end;
}

void glm4v_gpu_table_free(glm4v_backend *b, glm4v_table *t)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    give_back(g, t->data);
    *t = (glm4v_table) { 0 };
}
