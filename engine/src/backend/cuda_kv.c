/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys and values of the CUDA backend: one block, keys, then values, then scales. F32 is kept as
 * bf16: keys and values come as activations, which are bf16, so nothing is lost. */
#include <inttypes.h>

#include "backend/cuda_priv.h"
#include "base/error.h"
#include "base/mem.h"

glm4v_cuda_kv glm4v_gpu_kv_of(const glm4v_kv *kv)
{
    const glm4v_kv_shape *s = &kv->shape;
    const bool codes = s->form == GLM4V_KV_INT8;
    const size_t tokens = (s->slots * s->length + s->kept);
    return (glm4v_cuda_kv) {
        .form = codes ? GLM4V_CUDA_KV_INT8 : GLM4V_CUDA_KV_BF16,
        .layers = glm4v_gpu_i32(s->layers),
        .heads = glm4v_gpu_i32(s->heads),
        .head_dim = glm4v_gpu_i32(s->head_dim),
        .slots = glm4v_gpu_i32(s->slots),
        .length = glm4v_gpu_i32(s->length),
        .kept = glm4v_gpu_i32(s->kept),
        .keys = kv->keys,
        .values = kv->values,
        .k_scale = codes ? kv->scales : NULL,
        .v_scale = codes ? (float *)kv->scales + tokens * (s->layers * s->heads) : NULL,
    };
}

/* Bytes of keys, and as many of values; of scales of both. False when they overflow. */
static bool sizes_of(const glm4v_kv_shape *s, size_t *numbers, size_t *scales)
{
    const bool codes = s->form == GLM4V_KV_INT8;
    size_t tokens, rows;
    if (!GLM4V_GPU_FITS(s->layers, s->heads, s->head_dim, s->slots, s->length, s->kept) ||
        glm4v_mul_overflow(s->slots, s->length, &tokens) ||
        glm4v_add_overflow(tokens, s->kept, &tokens) ||
        glm4v_mul_overflow((size_t)s->layers * (size_t)s->heads, tokens, &rows) ||
        glm4v_mul_overflow(rows, s->head_dim * (codes ? 1 : sizeof(glm4v_bf16)), numbers) ||
        *numbers > SIZE_MAX / 4)
        return false;
    *numbers = glm4v_gpu_round_up(*numbers);
    *scales = codes ? glm4v_gpu_round_up(2 * rows * sizeof(float)) : 0;
    return true;
}

uint64_t glm4v_gpu_kv_bytes(glm4v_backend *b, const glm4v_kv_shape *shape)
{
    size_t numbers, scales;
    return sizes_of(shape, &numbers, &scales) ? 2 * (uint64_t)numbers + scales : UINT64_MAX;
}

int glm4v_gpu_kv_open(glm4v_backend *b, glm4v_kv *kv, const glm4v_kv_shape *shape, glm4v_error *err)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    void *block = NULL;
    size_t numbers, scales;
    if (shape->form == GLM4V_KV_FP8)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "CUDA keeps keys and values as bf16 or int8");
    if (shape->head_dim % 8 || shape->head_dim > 128)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "heads of %" PRId64 " numbers: CUDA takes multiples of 8 up to 128",
                          shape->head_dim);
    if (!sizes_of(shape, &numbers, &scales))
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "%" PRId64 " sequences of %" PRId64
                          " tokens are more than memory can hold",
                          shape->slots, shape->length);
    GLM4V_CUDA_ENTER(&g->context);
    int rc = glm4v_gpu_take(g, &block, 2 * numbers + scales);
    if (rc)
        return glm4v_gpu_fail(g, err, rc,
                              "no memory for keys and values of %" PRId64 " sequences of %" PRId64,
                              shape->slots, shape->length);
    *kv = (glm4v_kv) { .shape = *shape,
                       .keys = block,
                       .values = (char *)block + numbers,
                       .scales = scales ? (char *)block + 2 * numbers : NULL };
    return 0;
}

void glm4v_gpu_kv_close(glm4v_backend *b, glm4v_kv *kv)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    GLM4V_CUDA_ENTER(&g->context);
    glm4v_gpu_give(g, kv->keys);
    *kv = (glm4v_kv) { 0 };
}

int glm4v_gpu_kv_copy(glm4v_backend *b, glm4v_queue q, glm4v_kv *kv, int64_t to, int64_t from,
                      int64_t n)
{
    glm4v_gpu_backend *g = glm4v_gpu(b);
    const glm4v_cuda_kv view = glm4v_gpu_kv_of(kv);
    if (n > glm4v_kv_room(&kv->shape, to) || n > glm4v_kv_room(&kv->shape, from))
        return GLM4V_ERR_INVALID;
    int rc = glm4v_gpu_begin(g, GLM4V_GPU_FITS(to, from, n));
    if (rc || !n)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    return GLM4V_GPU_LAUNCH(g, "copy_kv",
                            glm4v_cuda_copy_kv(g->queue[q].stream, &view, glm4v_gpu_i32(to),
                                               glm4v_gpu_i32(from), glm4v_gpu_i32(n)));
}
