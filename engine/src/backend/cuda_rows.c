/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations of the CUDA backend that treat each row, or each value, by itself, and the copies of a
 * step. */
#include "backend/cuda_priv.h"

/* The context is current and the backend usable until the end of the block; what the operation was
 * given fits. */
#define BEGIN(step, fits)                                                                          \
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);                                                   \
    glm4v_gpu_backend *g = glm4v_gpu((step)->backend);                                             \
    int rc = glm4v_gpu_begin(g, fits);                                                             \
    GLM4V_CUDA_ENTER(&g->context);                                                                 \
    rc = rc ? rc : glm4v_gpu_catch_up(s);                                                          \
    if (rc)                                                                                        \
    return rc

int glm4v_gpu_embed(glm4v_step *step, void *y, const glm4v_table *t)
{
    const glm4v_cuda_table table = { .form = (glm4v_cuda_form)t->form,
                                     .n_rows = glm4v_gpu_i32(t->n_rows),
                                     .n_cols = glm4v_gpu_i32(t->n_cols),
                                     .data = t->data,
                                     .scale = t->scale };
    BEGIN(step, true);
    return GLM4V_GPU_LAUNCH(
        g, "embed",
        glm4v_cuda_embed(s->stream, y, &table, &s->data, s->sampled, glm4v_gpu_i32(s->rows)));
}

int glm4v_gpu_norm(glm4v_step *step, const glm4v_norm_rows *n)
{
    const glm4v_cuda_norm norm = { .y = n->y,
                                   .ldy = n->ldy,
                                   .x = n->x,
                                   .ldx = n->ldx,
                                   .w = n->norm->w,
                                   .bias = n->norm->bias,
                                   .eps = n->norm->eps,
                                   .rows = glm4v_gpu_i32(n->rows),
                                   .groups = glm4v_gpu_i32(n->groups),
                                   .n = glm4v_gpu_i32(n->n),
                                   .add = n->add };
    BEGIN(step, GLM4V_GPU_FITS(n->rows, n->groups, n->n));
    return GLM4V_GPU_LAUNCH(g, "norm_rows", glm4v_cuda_norm_rows(s->stream, &norm));
}

int glm4v_gpu_silu_mul(glm4v_step *step, void *y, const void *x, int64_t rows, int64_t n)
{
    BEGIN(step, GLM4V_GPU_FITS(rows, n));
    return GLM4V_GPU_LAUNCH(
        g, "silu_mul", glm4v_cuda_silu_mul(s->stream, y, x, glm4v_gpu_i32(rows), glm4v_gpu_i32(n)));
}

int glm4v_gpu_gelu(glm4v_step *step, void *x, int64_t n)
{
    BEGIN(step, true);
    return GLM4V_GPU_LAUNCH(g, "gelu", glm4v_cuda_gelu(s->stream, x, n));
}

int glm4v_gpu_add(glm4v_step *step, void *y, const void *x, int64_t n)
{
    BEGIN(step, true);
    return GLM4V_GPU_LAUNCH(g, "add", glm4v_cuda_add(s->stream, y, x, n));
}

int glm4v_gpu_scale(glm4v_step *step, void *x, float factor, int64_t n)
{
    BEGIN(step, true);
    return GLM4V_GPU_LAUNCH(g, "scale", glm4v_cuda_scale(s->stream, x, factor, n));
}

int glm4v_gpu_place_rows(glm4v_step *step, void *y, const void *x, int64_t n_cols)
{
    BEGIN(step, true);
    return s->n_places ? GLM4V_GPU_LAUNCH(g, "place",
                                          glm4v_cuda_place(s->stream, y, x, s->data.places,
                                                           glm4v_gpu_i32(s->n_places), n_cols))
                       : 0;
}

int glm4v_gpu_take_rows(glm4v_step *step, void *y, const void *x, int64_t n_cols)
{
    BEGIN(step, true);
    return s->n_outputs ? GLM4V_GPU_LAUNCH(g, "take",
                                           glm4v_cuda_take(s->stream, y, x, s->data.outputs,
                                                           glm4v_gpu_i32(s->n_outputs), n_cols))
                        : 0;
}

int glm4v_gpu_sample_tokens(glm4v_step *step, const glm4v_sample *a)
{
    void *scratch = NULL;
    BEGIN(step, GLM4V_GPU_FITS(a->vocab));
    const glm4v_cuda_sample sample = { .logits = (float *)(uintptr_t)a->logits,
                                       .vocab = glm4v_gpu_i32(a->vocab),
                                       .n = glm4v_gpu_i32(s->n_outputs),
                                       .seen = a->seen,
                                       .masks = a->masks,
                                       .sampled = a->sampled,
                                       .ids = s->ids_out };
    pthread_mutex_lock(&s->queue->lock);
    /* for as many as there can be: nothing is taken when more requests come together later */
    rc = glm4v_gpu_scratch_of(
        g, s->queue, GLM4V_GPU_SAMPLE,
        glm4v_cuda_sample_scratch(sample.vocab, glm4v_gpu_i32(s->base.size.outputs)), &scratch);
    if (!rc)
        rc = GLM4V_GPU_LAUNCH(g, "sample",
                              glm4v_cuda_sample_tokens(s->stream, &s->data, &sample, scratch));
    pthread_mutex_unlock(&s->queue->lock);
    return rc ? rc
              : glm4v_gpu_copy_async(g, a->ids, s->ids_out, s->n_outputs * sizeof *s->ids_out,
                                     s->stream);
}

/* ---- copies ---- */

int glm4v_gpu_step_copy(glm4v_step *step, void *y, const void *x, size_t bytes)
{
    BEGIN(step, true);
    return glm4v_gpu_copy_async(g, y, x, bytes, s->stream);
}

/* Numbers of f32 that scratch holds at a time, at most. */
static int64_t numbers_of(int64_t n, int64_t at)
{
    const int64_t most = (int64_t)(GLM4V_GPU_STAGING / sizeof(float));
    return n - at < most ? n - at : most;
}

int glm4v_gpu_step_upload(glm4v_step *step, void *y, const float *host, int64_t n)
{
    void *wide = NULL;
    BEGIN(step, true);
    pthread_mutex_lock(&s->queue->lock);
    if (n)
        rc = glm4v_gpu_scratch_of(g, s->queue, GLM4V_GPU_CONVERT, GLM4V_GPU_STAGING, &wide);
    for (int64_t at = 0, some; !rc && at < n; at += some) {
        some = numbers_of(n, at);
        rc = glm4v_gpu_copy_async(g, wide, host + at, some * sizeof *host, s->stream);
        if (!rc)
            rc = GLM4V_GPU_LAUNCH(g, "narrow",
                                  glm4v_cuda_narrow(s->stream, (glm4v_bf16 *)y + at, wide, some));
    }
    pthread_mutex_unlock(&s->queue->lock);
    return rc;
}

int glm4v_gpu_step_download(glm4v_step *step, float *host, const void *x, int64_t n)
{
    void *wide = NULL;
    BEGIN(step, true);
    pthread_mutex_lock(&s->queue->lock);
    if (n)
        rc = glm4v_gpu_scratch_of(g, s->queue, GLM4V_GPU_CONVERT, GLM4V_GPU_STAGING, &wide);
    for (int64_t at = 0, some; !rc && at < n; at += some) {
        some = numbers_of(n, at);
        rc = GLM4V_GPU_LAUNCH(g, "widen",
                              glm4v_cuda_widen(s->stream, wide, (const glm4v_bf16 *)x + at, some));
        if (!rc)
            rc = glm4v_gpu_copy_async(g, host + at, wide, some * sizeof *host, s->stream);
    }
    pthread_mutex_unlock(&s->queue->lock);
    return rc;
}
