/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weights into panels and back, the reference. Used while a model is loaded; gemm.h has the
 * layouts. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "c/nibbles.h"
#include "convert.h"
#include "gemm.h"

void glm4v_pack_f32_c(float *panel, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL);
    for (int64_t k = 0; k < K; k++)
        for (int i = 0; i < GLM4V_PANEL; i++)
            panel[k * GLM4V_PANEL + i] = i < n ? w[i * ldw + k] : 0;
}

void glm4v_pack_bf16_c(uint16_t *panel, const float *w, ptrdiff_t ldw, int64_t n, int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL);
    memset(panel, 0, glm4v_panel_bytes_bf16(K));
    for (int64_t k = 0; k < K; k++)
        for (int i = 0; i < n; i++)
            glm4v_f32_to_bf16_c(&panel[(k / 2 * GLM4V_PANEL + i) * 2 + k % 2], &w[i * ldw + k], 1);
}

void glm4v_pack_int8_c(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                       int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL);
    memset(panel, 128, glm4v_panel_bytes_int8(K));
    for (int i = 0; i < GLM4V_PANEL; i++) {
        float max = 0;
        scale[i] = 0;
        if (i >= n)
            continue;
        scale[i] = glm4v_row_scale(&max, w + i * ldw, K);
        for (int64_t k = 0; k < K; k++)
            panel[(k / 4 * GLM4V_PANEL + i) * 4 + k % 4] =
                (uint8_t)(128 + glm4v_round_int8(w[i * ldw + k], max));
    }
}

/* Nibble of w for 1 / scale = inverse: 0..15, 8 is zero. */
static int nibble_of(float w, float inverse)
{
    float q = rintf(w * inverse);
    if (q < -8)
        return 0;
    return 8 + (int)(q > 7 ? 7 : q);
}

/* Squared error of a group of weights at one scale: 16 partial sums, input k in sum k % 16, then
 * folded 8, 4, 2, 1. The order is fixed because the choice of scale hangs on it, and it must be the
 * same choice at every level. */
static float group_error(const float *w, int group, float scale, float inverse)
{
    float sum[16] = { 0 };
    for (int k = 0; k < group; k++) {
        float e = w[k] - scale * (float)(nibble_of(w[k], inverse) - 8);
        sum[k % 16] += e * e;
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            sum[i] += sum[i + half];
    return sum[0];
}

static float best_scale(const float *w, int group, float max, float *inverse)
{
    static const float divisor[] = GLM4V_INT4_DIVISORS;
    float scale = 0, least = INFINITY;
    for (size_t i = 0; i < sizeof divisor / sizeof *divisor; i++) {
        float s = max / divisor[i], inv = divisor[i] / max;
        float error = group_error(w, group, s, inv);
        if (i == 0 || error < least) {
            least = error;
            scale = s;
            *inverse = inv;
        }
    }
    return scale;
}

static void pack_group(uint8_t *panel, float *scale, const float *w, int group, int i)
{
    float max = 0, inverse = 0;
    *scale = glm4v_row_scale(&max, w, group);
    if (max > 0)
        *scale = best_scale(w, group, max, &inverse);
    for (int k = 0; k < group; k++) {
        glm4v_set_nibble(panel, k, i, max > 0 ? (unsigned)nibble_of(w[k], inverse) : 8);
    }
}

static void pack_int4(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                      int64_t K, int group)
{
    const size_t group_bytes = group / 8 * 64;

    assert(n >= 1 && n <= GLM4V_PANEL && K % group == 0);
    memset(panel, 0x88, glm4v_panel_bytes_int4(K));
    for (int64_t g = 0; g < K / group; g++) {
        for (int i = 0; i < GLM4V_PANEL; i++) {
            float *s = scale + g * GLM4V_PANEL + i;
            *s = 0;
            if (i < n)
                pack_group(panel + g * group_bytes, s, w + i * ldw + g * group, group, i);
        }
    }
}

void glm4v_pack_int4_c(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                       int64_t K)
{
    pack_int4(panel, scale, w, ldw, n, K, GLM4V_GROUP);
}

void glm4v_pack_int4_32_c(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                          int64_t K)
{
    pack_int4(panel, scale, w, ldw, n, K, GLM4V_SMALL_GROUP);
}

void glm4v_pack_fp8_c(uint8_t *panel, float *scale, const float *w, ptrdiff_t ldw, int64_t n,
                      int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL);
    memset(panel, 0, glm4v_panel_bytes_fp8(K));
    for (int i = 0; i < GLM4V_PANEL; i++) {
        float max = 0;
        scale[i] = 0;
        if (i >= n)
            continue;
        scale[i] = glm4v_row_scale(&max, w + i * ldw, K);
        if (max > 0)
            scale[i] = max / 448;
        for (int64_t k = 0; k < K && max > 0; k++)
            panel[glm4v_fp8_at(k, i)] = glm4v_f32_to_e4m3(w[i * ldw + k] * (448 / max));
    }
}

void glm4v_unpack_f32(float *w, ptrdiff_t ldw, const float *panel, int64_t n, int64_t K)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            w[i * ldw + k] = panel[k * GLM4V_PANEL + i];
}

void glm4v_unpack_bf16(float *w, ptrdiff_t ldw, const uint16_t *panel, int64_t n, int64_t K)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            glm4v_bf16_to_f32_c(&w[i * ldw + k], &panel[(k / 2 * GLM4V_PANEL + i) * 2 + k % 2], 1);
}

void glm4v_unpack_int8(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale, int64_t n,
                       int64_t K)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            w[i * ldw + k] = scale[i] * (float)(panel[(k / 4 * GLM4V_PANEL + i) * 4 + k % 4] - 128);
}

static void unpack_int4(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale,
                        const uint8_t *zero, int64_t n, int64_t K, int64_t group)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < K; k++) {
            size_t at = k / group * GLM4V_PANEL + i;
            int q = glm4v_get_nibble(panel, k, i);
            w[i * ldw + k] = scale[at] * (float)(q - (zero ? zero[at] : 8));
        }
    }
}

void glm4v_unpack_int4(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale,
                       const uint8_t *zero, int64_t n, int64_t K)
{
    unpack_int4(w, ldw, panel, scale, zero, n, K, GLM4V_GROUP);
}

void glm4v_unpack_int4_32(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale,
                          const uint8_t *zero, int64_t n, int64_t K)
{
    unpack_int4(w, ldw, panel, scale, zero, n, K, GLM4V_SMALL_GROUP);
}

void glm4v_unpack_fp8(float *w, ptrdiff_t ldw, const uint8_t *panel, const float *scale,
                      bool blocks, int64_t n, int64_t K)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            w[i * ldw + k] = scale[(blocks ? k / GLM4V_GROUP * GLM4V_PANEL : 0) + i] *
                             glm4v_e4m3_to_f32(panel[glm4v_fp8_at(k, i)]);
}
