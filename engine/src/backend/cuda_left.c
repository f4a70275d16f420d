/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an operation of the CUDA backend left to the next one, and the next one does not do along
 * with its own: a branch to be added, an activation to be made of the sums of gate and up, the
 * scales of other sums. */
#include "backend/cuda_priv.h"

/* Sums of a raw product to y, or added to it. */
static int finish(glm4v_gpu_step *s, void *y, const glm4v_cuda_sums *sums,
                  glm4v_cuda_epilogue epilogue, bool add)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    const int64_t width = epilogue == GLM4V_CUDA_SILU_MUL ? sums->n_out / 2 : sums->n_out;
    return GLM4V_GPU_LAUNCH(g, "finish_sums",
                            glm4v_cuda_finish_sums(s->stream, y, width, sums, epilogue, add));
}

static int add_branch(glm4v_gpu_step *s)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    const glm4v_cuda_norm norm = { .y = s->residual.x,
                                   .ldy = s->residual.n,
                                   .x = s->residual.branch,
                                   .ldx = s->residual.n,
                                   .w = s->residual.norm.w,
                                   .bias = s->residual.norm.bias,
                                   .eps = s->residual.norm.eps,
                                   .rows = glm4v_gpu_i32(s->residual.rows),
                                   .groups = 1,
                                   .n = glm4v_gpu_i32(s->residual.n),
                                   .add = true };
    const glm4v_cuda_sums *sums = &s->residual.sums;
    int rc = 0;
    if (!norm.w)
        return finish(s, norm.y, sums, GLM4V_CUDA_PLAIN, true);
    if (sums->sums)
        rc = finish(s, s->residual.branch, sums, GLM4V_CUDA_PLAIN, false);
    return rc ? rc : GLM4V_GPU_LAUNCH(g, "norm_rows", glm4v_cuda_norm_rows(s->stream, &norm));
}

int glm4v_gpu_catch_up(glm4v_gpu_step *s)
{
    glm4v_gpu_backend *g = glm4v_gpu(s->base.backend);
    int rc = s->residual.x ? add_branch(s) : 0;
    if (!rc && s->gate.act)
        rc = finish(s, s->gate.act, &s->gate.sums, GLM4V_CUDA_SILU_MUL, false);
    if (!rc && s->numbers.y)
        rc = GLM4V_GPU_LAUNCH(g, "finish_sums",
                              glm4v_cuda_finish_sums(s->stream, s->numbers.y, s->numbers.ldy,
                                                     &s->numbers.sums, GLM4V_CUDA_PLAIN, false));
    s->residual.x = s->gate.act = s->numbers.y = NULL;
    return rc;
}

int glm4v_gpu_take_sums(glm4v_gpu_step *s, glm4v_cuda_rope *rope)
{
    if (s->numbers.y && s->numbers.y == rope->x && s->numbers.ldy == rope->ldx &&
        s->numbers.sums.rows == rope->rows) {
        rope->sums = s->numbers.sums;
        s->numbers.y = NULL;
    }
    return glm4v_gpu_catch_up(s);
}
