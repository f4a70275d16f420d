/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Element-wise operations, AVX-512; the formulas are those of act_avx2.c. */
#include "act.h"

#include "avx512.h"

static inline __m512 magnitude(__m512 x)
{
    return _mm512_abs_ps(x);
}

static inline __m512 negative(__m512 x) /* -|x| */
{
    return _mm512_or_ps(x, _mm512_set1_ps(-0.0f));
}

static inline __mmask16 is_negative(__m512 x)
{
    return _mm512_movepi32_mask(_mm512_castps_si512(x));
}

static inline __m512 silu_mul(__m512 gate, __m512 up)
{
    const __m512 one = _mm512_set1_ps(1);
    __m512 e = exp_ps16(negative(gate));
    __m512 top = _mm512_mask_mov_ps(one, is_negative(gate), e);
    __m512 sigmoid = _mm512_div_ps(top, _mm512_add_ps(one, e));
    return _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid), up);
}

static inline __m512 gelu(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1);
    __m512 a = _mm512_min_ps(_mm512_set1_ps(15), magnitude(x)),
           h = _mm512_mul_ps(a, _mm512_set1_ps(0.5f));
    __m512 square = _mm512_mul_ps(a, h), rest = _mm512_fmsub_ps(a, h, square);
    __m512 e = exp_ps16(negative(square));
    e = _mm512_fnmadd_ps(e, rest, e);
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(a, _mm512_set1_ps(0.35f), one));
    __m512 u = _mm512_fmsub_ps(t, _mm512_set1_ps(2), one);
    __m512 p = _mm512_set1_ps(-0x1.ddbf98p-14f);
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0x1.c0ef9ep-13f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0x1.69ca5p-11f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-0x1.cbe6fp-10f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-0x1.4ece68p-8f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0x1.4f57d8p-7f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0x1.2338a6p-4f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0x1.5f3932p-3f));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(0x1.035278p-2f));
    __m512 q = _mm512_mul_ps(_mm512_mul_ps(p, t), e);
    return _mm512_mul_ps(x, _mm512_mask_mov_ps(_mm512_sub_ps(one, q), is_negative(x), q));
}

void glm4v_silu_mul_avx512(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask16(n - i);
        __m512 v =
            silu_mul(_mm512_maskz_loadu_ps(mask, gate + i), _mm512_maskz_loadu_ps(mask, up + i));
        _mm512_mask_storeu_ps(y + i, mask, v);
    }
}

void glm4v_gelu_avx512(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = tail_mask16(n - i);
        _mm512_mask_storeu_ps(y + i, mask, gelu(_mm512_maskz_loadu_ps(mask, x + i)));
    }
}
