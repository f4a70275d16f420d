/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What blocks of the text model and of the tower are made of. Each part is one call if the device
 * has it as a composite; for other devices it is composed here of the required operations. The
 * weights determine which norms and biases there are: for a family without one, its pointer is
 * NULL. */
#include "forward/context_priv.h"

/* Rows that follow one another, each normed as a whole. */
static glm4v_norm_rows whole_rows(void *y, const void *x, const glm4v_norm *norm, int64_t rows,
                                  int64_t n)
{
    return (glm4v_norm_rows) {
        .y = y, .ldy = n, .x = x, .ldx = n, .norm = norm, .rows = rows, .groups = 1, .n = n
    };
}

int glm4v_norm_all(glm4v_step *s, void *y, const void *x, const glm4v_norm *norm, int64_t rows,
                   int64_t n)
{
    const glm4v_norm_rows norms = whole_rows(y, x, norm, rows, n);
    return s->backend->ops->norm(s, &norms);
}

int glm4v_run_norm_product(glm4v_step *s, const glm4v_norm_product *p)
{
    const glm4v_backend_ops *ops = s->backend->ops;
    glm4v_product product = p->product;
    if (!p->norm)
        return ops->product(s, &product);
    if (ops->norm_product)
        return ops->norm_product(s, p);
    int rc = glm4v_norm_all(s, p->normed, product.x, p->norm, product.rows, product.w->n_in);
    product.x = p->normed;
    return rc ? rc : ops->product(s, &product);
}

/* Each head of q or k separately. */
static int norm_heads(glm4v_step *s, const glm4v_qkv *p, void *x, const glm4v_norm *norm,
                      int64_t heads)
{
    const glm4v_norm_rows args = { .y = x,
                                   .ldy = p->in.product.ldy,
                                   .x = x,
                                   .ldx = p->in.product.ldy,
                                   .norm = norm,
                                   .rows = p->in.product.rows,
                                   .groups = heads,
                                   .n = p->kv->shape.head_dim };
    return norm->w ? s->backend->ops->norm(s, &args) : 0;
}

int glm4v_run_qkv(glm4v_step *s, const glm4v_qkv *p)
{
    glm4v_backend *b = s->backend;
    const int64_t Nh = p->heads, Nk = p->kv->shape.heads, Dh = p->kv->shape.head_dim;
    const int64_t ld = p->in.product.ldy;
    void *q = p->in.product.y;
    if (b->ops->qkv)
        return b->ops->qkv(s, p);
    void *k = glm4v_at(b, q, Nh * Dh);
    const glm4v_rope rope = { .x = q, .ldx = ld, .heads = Nh + Nk, .head_dim = Dh };
    const glm4v_append append = {
        .k = k, .v = glm4v_at(b, k, Nk * Dh), .ld = ld, .kv = p->kv, .layer = p->layer
    };
    int rc = glm4v_run_norm_product(s, &p->in);
    if (!rc)
        rc = norm_heads(s, p, q, &p->q_norm, Nh);
    if (!rc)
        rc = norm_heads(s, p, k, &p->k_norm, Nk);
    if (!rc)
        rc = b->ops->rope(s, &rope);
    return rc ? rc : b->ops->append(s, &append);
}

int glm4v_run_gate_up(glm4v_step *s, const glm4v_gate_up *p)
{
    const glm4v_backend_ops *ops = s->backend->ops;
    const int64_t rows = p->in.product.rows, n = p->in.product.w->n_out;
    if (ops->gate_up)
        return ops->gate_up(s, p);
    int rc = glm4v_run_norm_product(s, &p->in);
    if (rc)
        return rc;
    return p->gelu ? ops->gelu(s, p->in.product.y, rows * n)
                   : ops->silu_mul(s, p->act, p->in.product.y, rows, n / 2);
}

int glm4v_run_product_add(glm4v_step *s, const glm4v_product_add *p)
{
    const glm4v_backend_ops *ops = s->backend->ops;
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
    if (ops->product_add)
        return ops->product_add(s, p);
    glm4v_norm_rows norms = whole_rows(p->x, p->branch, p->norm, p->rows, n);
    norms.add = true;
    int rc = ops->product(s, &product);
    return rc || !normed ? rc : ops->norm(s, &norms);
}
