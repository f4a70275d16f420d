/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rotary positions and attention of the CUDA backend. Rows of decode attend each by itself, so that
 * a captured step serves later ones whose sequences are longer; rows of prefill span by span. */
#include "backend/cuda_priv.h"

static glm4v_cuda_rope rope_of(const glm4v_gpu_step *s, const glm4v_rope *r)
{
    return (glm4v_cuda_rope) { .x = r->x,
                               .ldx = r->ldx,
                               .cos = s->cos,
                               .sin = s->sin,
                               .rows = glm4v_gpu_i32(s->rows),
                               .heads = glm4v_gpu_i32(r->heads),
                               .head_dim = glm4v_gpu_i32(r->head_dim),
                               .n_freq = glm4v_gpu_i32(s->n_freq),
                               .half = s->half };
}

int glm4v_gpu_rope(glm4v_step *step, const glm4v_rope *r)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    glm4v_cuda_rope rope = rope_of(s, r);
    int rc = glm4v_gpu_begin(g, GLM4V_GPU_FITS(r->heads, r->head_dim));
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    if ((rc = glm4v_gpu_take_sums(s, &rope)))
        return rc;
    return GLM4V_GPU_LAUNCH(g, "rotate", glm4v_cuda_rotate(s->stream, &rope));
}

int glm4v_gpu_append(glm4v_step *step, const glm4v_append *a)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    const glm4v_cuda_kv kv = glm4v_gpu_kv_of(a->kv);
    const glm4v_cuda_append append = { .k = a->k,
                                       .v = a->v,
                                       .ld = a->ld,
                                       .layer = glm4v_gpu_i32(a->layer),
                                       .rows = glm4v_gpu_i32(s->rows) };
    int rc = glm4v_gpu_begin(g, GLM4V_GPU_FITS(a->layer));
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    if ((rc = glm4v_gpu_catch_up(s)))
        return rc;
    return GLM4V_GPU_LAUNCH(g, "append_kv",
                            glm4v_cuda_append_kv(s->stream, &kv, &s->data, &append));
}

int glm4v_gpu_qkv(glm4v_step *step, const glm4v_qkv *p)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    const glm4v_cuda_kv kv = glm4v_gpu_kv_of(p->kv);
    const glm4v_rope rope = { .x = p->in.product.y,
                              .ldx = p->in.product.ldy,
                              .heads = p->heads,
                              .head_dim = p->kv->shape.head_dim };
    glm4v_cuda_qkv qkv = { .rope = rope_of(s, &rope),
                           .q_norm = p->q_norm.w,
                           .k_norm = p->k_norm.w,
                           .eps = p->q_norm.w ? p->q_norm.eps : p->k_norm.eps,
                           .layer = glm4v_gpu_i32(p->layer) };
    int rc = glm4v_gpu_begin(g, GLM4V_GPU_FITS(p->heads, p->layer));
    if (!rc)
        rc = glm4v_gpu_norm_product(step, &p->in);
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    if ((rc = glm4v_gpu_take_sums(s, &qkv.rope)))
        return rc;
    return GLM4V_GPU_LAUNCH(g, "rotate_append",
                            glm4v_cuda_rotate_append(s->stream, &kv, &s->data, &qkv));
}

/* o is rounded in the same kernels, for the product that follows. */
static int attend_rows(glm4v_gpu_step *s, const glm4v_cuda_kv *kv, const glm4v_cuda_attend *a)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    glm4v_gpu_queue *q = s->queue;
    const int64_t n = (int64_t)a->heads * kv->head_dim;
    glm4v_cuda_attend attend = *a;
    glm4v_cuda_rounded rounded = { 0 };
    void *scratch = NULL;
    attend.rounded = &rounded;
    pthread_mutex_lock(&q->lock);
    int rc = glm4v_gpu_scratch_of(g, q, GLM4V_GPU_ATTENTION,
                                  glm4v_cuda_decode_scratch(kv, a->heads, a->rows), &scratch);
    if (!rc)
        rc = glm4v_gpu_take_rounded(g, q, a->rows, n, &rounded);
    if (!rc)
        rc = GLM4V_GPU_LAUNCH(g, "attend_decode",
                              glm4v_cuda_attend_decode(s->stream, kv, &s->data, &attend, scratch));
    if (!rc && a->ldo == n) {
        q->attended.o = a->o;
        q->attended.step = s;
        q->attended.rows = a->rows;
        q->attended.n = n;
        q->attended.rounded = rounded;
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

static int attend_spans(glm4v_gpu_step *s, const glm4v_cuda_kv *kv, const glm4v_cuda_attend *a)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    int rc = 0;
    for (int64_t i = 0; !rc && i < s->n_spans; i++) {
        const glm4v_cuda_span span = { .slot = s->spans[i].slot,
                                       .length = s->spans[i].length,
                                       .row = s->spans[i].row,
                                       .n = s->spans[i].n };
        rc = GLM4V_GPU_LAUNCH(g, "attend_prefill",
                              glm4v_cuda_attend_prefill(s->stream, kv, a, &span));
    }
    return rc;
}

int glm4v_gpu_attend(glm4v_step *step, const glm4v_attend *a)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    const glm4v_cuda_kv kv = glm4v_gpu_kv_of(a->kv);
    const glm4v_cuda_attend attend = { .o = a->o,
                                       .ldo = a->ldo,
                                       .q = a->q,
                                       .ldq = a->ldq,
                                       .heads = glm4v_gpu_i32(a->heads),
                                       .scale = a->scale,
                                       .layer = glm4v_gpu_i32(a->layer),
                                       .rows = glm4v_gpu_i32(s->rows) };
    int rc = glm4v_gpu_begin(g, GLM4V_GPU_FITS(a->heads, a->layer));
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    if ((rc = glm4v_gpu_catch_up(s)))
        return rc;
    return step->size.queue == GLM4V_QUEUE_DECODE ? attend_rows(s, &kv, &attend)
                                                  : attend_spans(s, &kv, &attend);
}

int glm4v_gpu_attend_all(glm4v_step *step, const glm4v_attend_all *a)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    const glm4v_cuda_attend_all attend = { .a = { .o = a->o,
                                                  .ldo = a->ldo,
                                                  .q = a->q,
                                                  .ldq = a->ld,
                                                  .heads = glm4v_gpu_i32(a->heads),
                                                  .scale = a->scale,
                                                  .rows = glm4v_gpu_i32(a->rows) },
                                           .k = a->k,
                                           .v = a->v,
                                           .head_dim = glm4v_gpu_i32(a->head_dim) };
    int rc = glm4v_gpu_begin(g, GLM4V_GPU_FITS(a->rows, a->heads, a->head_dim));
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    if ((rc = glm4v_gpu_catch_up(s)))
        return rc;
    return GLM4V_GPU_LAUNCH(g, "attend_rows", glm4v_cuda_attend_rows(s->stream, &attend));
}
