/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products of the CUDA backend, alone and with what stands around them. Activations are
 * rounded, if the matrix wants it, by the norm before the product or by a kernel of their own, as
 * many rows at a time as the products of the queue take. Which product serves a row depends on its
 * queue alone; logits are always those of decode.
 *
 * x += norm(branch) is followed by a norm of x nearly always: product_add leaves it undone, and one
 * kernel makes both norms. Products of FP8_DYNAMIC in prefill leave sums without scales; those of
 * gate and up wait for the next product, which rounds their silu(gate) * up in one kernel, those of
 * product_add for the norm, others for a rotation. Any other operation first does what was left
 * (cuda_left.c). */
#include "backend/cuda_priv.h"

typedef struct {
    glm4v_cuda_product k;
    const glm4v_weight *w;
    const void *x;
    int64_t ldx, rows;      /* rows: as asked */
    const glm4v_norm *norm; /* of x, before; or NULL */
    void *normed;           /* [rows, n_in], where the product takes norms as they are */
    const void *branch;     /* x += norm(branch) before that, [rows, n_in]; or NULL */
    glm4v_norm branch_norm;
    glm4v_cuda_sums branch_sums; /* what makes numbers of branch; sums NULL: they are numbers */
    glm4v_cuda_sums gate;        /* sums that x is to be made of; sums NULL: it is there */
    void *sums;                  /* [rows, n_out]: room for sums without scales, or NULL */
    bool decode, attended;       /* attended: x is rounded already */
    bool adds;                   /* the result is a branch of product_add */
    bool raw;                    /* sums are left without scales: */
    glm4v_cuda_sums left;
} multiplication;

static multiplication multiplication_of(const glm4v_gpu_step *s, const glm4v_product *p)
{
    return (multiplication) {
        .k = { .y = p->y,
               .ldy = p->ldy,
               .bias = p->bias,
               .rows = glm4v_gpu_i32(p->rows),
               .add = p->add },
        .w = p->w,
        .x = p->x,
        .ldx = p->ldx,
        .rows = p->rows,
        .decode = s->base.size.queue == GLM4V_QUEUE_DECODE,
    };
}

int glm4v_gpu_take_rounded(glm4v_gpu_backend *g, glm4v_gpu_queue *q, int64_t rows, int64_t n_in,
                           glm4v_cuda_rounded *rounded)
{
    size_t numbers = 0, scales = 0;
    void *scale = NULL;
    q->attended.o = NULL;
    glm4v_cuda_rounded_size(glm4v_gpu_i32(rows), glm4v_gpu_i32(n_in), &numbers, &scales);
    int rc = glm4v_gpu_scratch_of(g, q, GLM4V_GPU_ROUNDED_Q, numbers, &rounded->q);
    if (!rc)
        rc = glm4v_gpu_scratch_of(g, q, GLM4V_GPU_ROUNDED_SCALE, scales, &scale);
    rounded->scale = scale;
    return rc;
}

/* The branch that waits goes to this norm, if it is the one of x. */
static bool take_branch(glm4v_gpu_step *s, multiplication *m, int64_t n_in)
{
    if (!m->norm || !s->residual.x || s->residual.x != m->x || s->residual.rows != m->k.rows ||
        s->residual.n != n_in || m->ldx != n_in || s->residual.norm.bias)
        return false;
    m->branch = s->residual.branch;
    m->branch_norm = s->residual.norm;
    m->branch_sums = s->residual.sums;
    s->residual.x = NULL;
    return true;
}

/* The activation that waits is rounded as it is made, if it is x. */
static bool take_gate(glm4v_gpu_step *s, multiplication *m, const glm4v_cuda_matrix *w)
{
    if (m->norm || m->decode || !s->gate.act || s->gate.act != m->x ||
        w->form != GLM4V_CUDA_FP8_DYNAMIC || w->order || w->n_in > GLM4V_CUDA_SILU_INPUTS ||
        s->gate.sums.rows != m->k.rows || s->gate.sums.n_out != 2 * w->n_in || m->ldx != w->n_in)
        return false;
    m->gate = s->gate.sums;
    s->gate.act = NULL;
    return true;
}

/* What waits: with this product where both are one kernel, else at once. */
static int take_left(glm4v_gpu_step *s, multiplication *m, const glm4v_cuda_matrix *w)
{
    return take_branch(s, m, w->n_in) || take_gate(s, m, w) ? 0 : glm4v_gpu_catch_up(s);
}

/* Has attention rounded x, and as this matrix wants it? */
static bool is_attended(const glm4v_gpu_step *s, const multiplication *m,
                        const glm4v_cuda_matrix *w)
{
    const glm4v_gpu_queue *q = s->queue;
    return (w->form == GLM4V_CUDA_INT8 || w->form == GLM4V_CUDA_INT4) && !w->order && !m->norm &&
           q->attended.o && q->attended.o == m->x && q->attended.step == s &&
           q->attended.rows == m->k.rows && m->k.rows <= GLM4V_CUDA_DECODE_ROWS &&
           q->attended.n == w->n_in && m->ldx == w->n_in;
}

/* Norm and rounding of rows m->k.rows of m->x, as far as there are: sets what the product reads. */
static int prepare(glm4v_gpu_step *s, multiplication *m, const glm4v_cuda_matrix *w)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    const bool rounds = glm4v_cuda_rounds(w);
    m->k.x = m->x;
    m->k.ldx = m->ldx;
    if (m->attended)
        return 0;
    if (m->gate.sums) {
        m->gate.rows = m->k.rows;
        return GLM4V_GPU_LAUNCH(g, "silu_round",
                                glm4v_cuda_silu_round(s->stream, &m->k.rounded, w, &m->gate));
    }
    if (m->norm) {
        const glm4v_cuda_norm norm = { .y = rounds ? NULL : m->normed,
                                       .ldy = w->n_in,
                                       .x = m->x,
                                       .ldx = m->ldx,
                                       .w = m->norm->w,
                                       .bias = m->norm->bias,
                                       .eps = m->norm->eps,
                                       .rows = m->k.rows,
                                       .groups = 1,
                                       .n = w->n_in };
        const glm4v_cuda_norm_round round = { .norm = norm,
                                              .branch = m->branch,
                                              .ldbranch = w->n_in,
                                              .branch_norm = m->branch_norm.w,
                                              .branch_eps = m->branch_norm.eps,
                                              .branch_column = m->branch_sums.column,
                                              .branch_row = m->branch_sums.row,
                                              .branch_bias = m->branch_sums.bias,
                                              .out = &m->k.rounded,
                                              .w = w };
        if (!rounds) {
            m->k.x = m->normed;
            m->k.ldx = w->n_in;
        }
        if (rounds || m->branch)
            return GLM4V_GPU_LAUNCH(g, "norm_rounded", glm4v_cuda_norm_rounded(s->stream, &round));
        return GLM4V_GPU_LAUNCH(g, "norm_rows", glm4v_cuda_norm_rows(s->stream, &norm));
    }
    return rounds ? GLM4V_GPU_LAUNCH(
                        g, "round",
                        glm4v_cuda_round(s->stream, &m->k.rounded, w, m->x, m->ldx, m->k.rows))
                  : 0;
}

/* Some rows, at most what a product takes at a time. */
static int multiply_rows(glm4v_gpu_step *s, multiplication *m, const glm4v_cuda_matrix *w)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    int rc = prepare(s, m, w);
    if (rc)
        return rc;
    return m->decode
               ? GLM4V_GPU_LAUNCH(g, "decode_product", glm4v_cuda_decode_product(s->stream, &m->k))
               : GLM4V_GPU_LAUNCH(g, "prefill_product",
                                  glm4v_cuda_prefill_product(s->stream, s->queue->prefill, &m->k));
}

/* Rows go on by n. */
static void step_rows(multiplication *m, int64_t n)
{
    const size_t size = m->k.y_f32 ? sizeof(float) : sizeof(glm4v_bf16);
    m->k.y = (char *)m->k.y + (size_t)n * (size_t)m->k.ldy * size;
    m->x = (const glm4v_bf16 *)m->x + n * m->ldx;
    if (m->normed)
        m->normed = (glm4v_bf16 *)m->normed + n * m->w->n_in;
    if (m->branch)
        m->branch = (const glm4v_bf16 *)m->branch + n * m->w->n_in;
    if (m->branch_sums.row)
        m->branch_sums.row += n;
    if (m->gate.sums) {
        m->gate.sums += n * m->gate.ld;
        m->gate.row += n;
    }
    if (m->raw)
        m->k.rounded.scale += n;
}

/* Scales of rows rounded to e4m3 are the step's, in prefill: what waits for the next operation
 * needs those of this one. */
static void begin_raw(glm4v_gpu_step *s, multiplication *m)
{
    m->raw = true;
    s->turn ^= 1;
    m->k.rounded.scale = s->row_scale + s->turn * s->base.size.rows;
    m->k.y = m->sums;
    m->k.ldy = m->w->n_out;
    m->k.bias = NULL;
    m->k.epilogue = GLM4V_CUDA_PLAIN;
    m->k.add = false;
    m->k.raw = true;
}

/* What is to be done with the sums of a product, now or by the next operation. */
static int end_raw(glm4v_gpu_step *s, multiplication *m, const glm4v_cuda_product *asked)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    m->left = (glm4v_cuda_sums) { .sums = m->sums,
                                  .ld = m->w->n_out,
                                  .column = m->w->scale,
                                  .row = s->row_scale + s->turn * s->base.size.rows,
                                  .bias = asked->bias,
                                  .rows = asked->rows,
                                  .n_out = glm4v_gpu_i32(m->w->n_out) };
    if (m->adds)
        return 0;
    if (asked->epilogue == GLM4V_CUDA_SILU_MUL) {
        s->gate.act = asked->y;
        s->gate.sums = m->left;
        return 0;
    }
    if (asked->epilogue == GLM4V_CUDA_PLAIN) {
        s->numbers.y = asked->y;
        s->numbers.ldy = asked->ldy;
        s->numbers.sums = m->left;
        return 0;
    }
    return GLM4V_GPU_LAUNCH(
        g, "finish_sums",
        glm4v_cuda_finish_sums(s->stream, asked->y, asked->ldy, &m->left, asked->epilogue, false));
}

/* All rows, as many at a time as there is room for, rounded. */
static int multiply_all(glm4v_gpu_step *s, multiplication *m, const glm4v_cuda_matrix *w)
{
    const glm4v_cuda_product asked = m->k;
    const int64_t rows = asked.rows, most = m->decode ? GLM4V_CUDA_DECODE_ROWS : GLM4V_GPU_SLAB;
    int rc = 0;
    if (w->form == GLM4V_CUDA_FP8_DYNAMIC && !m->decode && m->sums && rows <= s->base.size.rows)
        begin_raw(s, m);
    for (int64_t row = 0; !rc && row < rows; row += most) {
        m->k.rows = glm4v_gpu_i32(rows - row < most ? rows - row : most);
        rc = multiply_rows(s, m, w);
        step_rows(m, m->k.rows);
    }
    return rc || !m->raw ? rc : end_raw(s, m, &asked);
}

static int multiply(glm4v_gpu_step *s, multiplication *m)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    glm4v_gpu_queue *q = s->queue;
    const glm4v_cuda_matrix w = glm4v_gpu_matrix(m->w);
    const int64_t rows = m->k.rows, most = m->decode ? GLM4V_CUDA_DECODE_ROWS : GLM4V_GPU_SLAB;
    m->k.w = &w;
    int rc = glm4v_gpu_begin(g, GLM4V_GPU_FITS(m->rows));
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&q->lock);
    rc = take_left(s, m, &w);
    m->attended = is_attended(s, m, &w);
    if (m->attended)
        m->k.rounded = q->attended.rounded;
    else if (!rc && glm4v_cuda_rounds(&w))
        rc = glm4v_gpu_take_rounded(g, q, rows < most ? rows : most, w.n_in, &m->k.rounded);
    if (!m->decode)
        m->k.rounded.by_group = glm4v_cuda_prefill_by_group(q->prefill);
    if (!rc)
        rc = multiply_all(s, m, &w);
    q->attended.o = NULL;
    pthread_mutex_unlock(&q->lock);
    m->k.w = NULL;
    return rc;
}

int glm4v_gpu_product(glm4v_step *step, const glm4v_product *p)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    multiplication m = multiplication_of(s, p);
    m.sums = p->add || p->ldy != p->w->n_out ? NULL : p->y;
    return multiply(s, &m);
}

int glm4v_gpu_logits(glm4v_step *step, const glm4v_product *p)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    multiplication m = multiplication_of(s, p);
    m.k.y_f32 = true;
    m.decode = true;
    return multiply(s, &m);
}

static multiplication normed_of(const glm4v_gpu_step *s, const glm4v_norm_product *p)
{
    multiplication m = multiplication_of(s, &p->product);
    m.norm = p->norm;
    m.normed = p->norm ? p->normed : NULL;
    m.sums = p->product.ldy == p->product.w->n_out ? p->product.y : NULL;
    return m;
}

int glm4v_gpu_norm_product(glm4v_step *step, const glm4v_norm_product *p)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    multiplication m = normed_of(s, p);
    return multiply(s, &m);
}

int glm4v_gpu_gate_up(glm4v_step *step, const glm4v_gate_up *p)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    multiplication m = normed_of(s, &p->in);
    m.k.epilogue = p->gelu ? GLM4V_CUDA_GELU : GLM4V_CUDA_SILU_MUL;
    if (!p->gelu) {
        m.k.y = p->act;
        m.k.ldy = p->in.product.w->n_out / 2;
    }
    return multiply(s, &m);
}

int glm4v_gpu_product_add(glm4v_step *step, const glm4v_product_add *p)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    const int64_t n = p->w->n_out;
    const bool normed = p->norm->w;
    const glm4v_product product = { .y = normed ? p->branch : p->x,
                                    .ldy = n,
                                    .x = p->in,
                                    .ldx = p->w->n_in,
                                    .w = p->w,
                                    .bias = p->bias,
                                    .rows = p->rows,
                                    .add = !normed };
    multiplication m = multiplication_of(s, &product);
    m.sums = p->branch;
    m.adds = true;
    int rc = multiply(s, &m);
    if (rc || (!normed && !m.raw))
        return rc;
    s->residual.x = p->x;
    s->residual.branch = p->branch;
    s->residual.norm = *p->norm;
    s->residual.rows = p->rows;
    s->residual.n = n;
    s->residual.sums = m.left;
    return 0;
}
