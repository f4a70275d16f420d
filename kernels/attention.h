/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Softmax attention of several query rows against the keys and values of one key/value head.
 *   o[r] = sum_j p[j] v[j],  p = softmax_j(scale * q[r] . k[j]),  j < n_keys[r]    arXiv:1706.03762
 *
 * The rows may be several queries of one head, the heads that share this key/value head (GQA), or
 * both: keys and values are loaded once for all of them, so pass as many as there are (12 to 48
 * keep the scores in the second-level cache). All scores of a row are kept, and the maximum is
 * taken before the first exponential. A row's result is the same bytes whatever the other rows of
 * the call are: products sum in order of d, values in order of j, the sum of exponentials in an
 * order that depends on n_keys[r] alone. Keys at or beyond n_keys[r] have no influence on row r,
 * not even as NaN.
 *
 * Keys and values are f32, or bf16 (`bf16`: a KV cache of half the size); they are widened as they
 * are read, and everything else is the same.
 *
 * NaN in a row's scores gives a NaN row, and so does a score of +inf. */
#ifndef GLM4V_KERNELS_ATTENTION_H
#define GLM4V_KERNELS_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    float *const *o;        /* [rows] -> f32 [head_dim] */
    const float *const *q;  /* [rows] -> f32 [head_dim]; o[r] may be q[r] */
    const int32_t *n_keys;  /* [rows], each >= 1 */
    const void *k, *v;      /* key j at k + j * ldk, value j at v + j * ldv; j < max of n_keys */
    bool bf16;              /* k and v are bf16, else f32 */
    ptrdiff_t ldk, ldv;     /* elements */
    int64_t rows, head_dim; /* >= 1 */
    float scale;
    /* glm4v_attention_scratch() floats, 64-byte aligned, contents undefined before and after */
    float *scratch;
} glm4v_attention_args;

/* Floats of scratch for a call of at most `rows` rows and `n_keys` keys. */
static inline size_t glm4v_attention_scratch(int64_t rows, int64_t n_keys, int64_t head_dim)
{
    return rows * ((n_keys + 31) / 32 * 32) + 32 * head_dim;
}

/* Element i of keys or values. */
static inline float glm4v_attention_element(const void *x, ptrdiff_t i, bool bf16)
{
    if (!bf16)
        return ((const float *)x)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#define decl_attention(name) void(name)(const glm4v_attention_args *a)

typedef decl_attention(*glm4v_attention_fn);

typedef struct {
    glm4v_attention_fn attention;
} glm4v_attention_ops;

void glm4v_attention_ops_init(glm4v_attention_ops *ops, unsigned cpu);

decl_attention(glm4v_attention_c);
decl_attention(glm4v_attention_avx2);
decl_attention(glm4v_attention_avx512);

#endif
