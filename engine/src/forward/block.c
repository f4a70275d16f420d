/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts that blocks of the text model and of both vision towers have in common. What a family
 * leaves out is NULL in its weights. */
#include "forward/context_priv.h"

int glm4v_norm_rows(glm4v_backend *b, void *y, const void *x, const glm4v_norm *norm, int32_t T,
                    int32_t n, bool add)
{
    return norm->bias ? b->ops->layer_norm(b, y, x, norm->w, norm->bias, T, n, norm->eps, add)
                      : b->ops->rms_norm(b, y, x, norm->w, T, n, norm->eps, add);
}

int glm4v_add_branch(glm4v_backend *b, void *x, void *branch, const void *in, const glm4v_weight *w,
                     const float *bias, const glm4v_norm *norm, int32_t T)
{
    const int32_t n = w->n_out;
    if (!norm->w)
        return b->ops->linear(b, x, n, in, w->n_in, w, bias, T, true);
    return b->ops->linear(b, branch, n, in, w->n_in, w, bias, T, false) ||
           glm4v_norm_rows(b, x, branch, norm, T, n, true);
}

int glm4v_mlp_inner(glm4v_backend *b, const glm4v_mlp *mlp, const void *in, int32_t T,
                    const void **out)
{
    const glm4v_weight *w = mlp->first;
    const int32_t ffn = mlp->second->n_in;
    const bool gated = w->n_out == 2 * ffn;
    *out = gated ? mlp->act : mlp->wide;
    if (b->ops->linear(b, mlp->wide, w->n_out, in, w->n_in, w, mlp->first_bias, T, false))
        return GLM4V_ERR_DEVICE;
    return gated ? b->ops->silu_mul(b, mlp->act, mlp->wide, T, ffn)
                 : b->ops->gelu(b, mlp->wide, (size_t)T * (size_t)ffn);
}
