/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weights that are quantized already into panels and back, the reference. Used while a model is
 * loaded or written; gemm.h has the layouts. */
#include <assert.h>
#include <string.h>

#include "c/nibbles.h"
#include "gemm.h"

/* Byte of input k of output i in an int8 panel. */
static size_t int8_at(int64_t k, int i)
{
    return (k / 4 * GLM4V_PANEL + i) * 4 + k % 4;
}

void glm4v_pack_codes_int8_c(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n, int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL);
    memset(panel, 128, glm4v_panel_bytes_int8(K));
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            panel[int8_at(k, i)] = q[i * ldq + k] ^ 128;
}

void glm4v_pack_codes_int4_c(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n, int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL && K % GLM4V_SMALL_GROUP == 0);
    memset(panel, 0x88, glm4v_panel_bytes_int4(K));
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            glm4v_set_nibble(panel, k, i, q[i * ldq + k] & 15u);
}

void glm4v_pack_words_int4_c(uint8_t *panel, const uint32_t *words, ptrdiff_t ldw, int64_t n,
                             int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL && K % GLM4V_SMALL_GROUP == 0);
    memset(panel, 0x88, glm4v_panel_bytes_int4(K));
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            glm4v_set_nibble(panel, k, i, words[i * ldw + k / 8] >> k % 8 * 4 & 15);
}

void glm4v_pack_codes_fp8_c(uint8_t *panel, const uint8_t *q, ptrdiff_t ldq, int64_t n, int64_t K)
{
    assert(n >= 1 && n <= GLM4V_PANEL);
    memset(panel, 0, glm4v_panel_bytes_fp8(K));
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            panel[glm4v_fp8_at(k, i)] = q[i * ldq + k];
}

void glm4v_unpack_codes_int8(uint8_t *q, ptrdiff_t ldq, const uint8_t *panel, int64_t n, int64_t K)
{
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            q[i * ldq + k] = panel[int8_at(k, i)] ^ 128;
}

void glm4v_unpack_codes_int4(uint8_t *q, ptrdiff_t ldq, const uint8_t *panel, int64_t n, int64_t K)
{
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            q[i * ldq + k] = glm4v_get_nibble(panel, k, i);
}

void glm4v_unpack_codes_fp8(uint8_t *q, ptrdiff_t ldq, const uint8_t *panel, int64_t n, int64_t K)
{
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < K; k++)
            q[i * ldq + k] = panel[glm4v_fp8_at(k, i)];
}

void glm4v_join_nibbles(uint8_t *q, size_t n)
{
    for (size_t i = 0; i < n / 2; i++)
        q[i] = (uint8_t)(q[2 * i] | q[2 * i + 1] << 4);
}

void glm4v_pack_zeros(uint8_t *panel, const uint8_t *zero, int64_t n, int64_t groups)
{
    for (int64_t g = 0; g < groups; g++)
        for (int i = 0; i < GLM4V_PANEL; i++)
            panel[g * GLM4V_PANEL + i] = zero && i < n ? zero[i * groups + g] : 8;
}

void glm4v_unpack_scales(float *scale, const float *panel, int64_t n, int64_t groups)
{
    for (int i = 0; i < n; i++)
        for (int64_t g = 0; g < groups; g++)
            scale[i * groups + g] = panel[g * GLM4V_PANEL + i];
}

void glm4v_unpack_zeros(uint8_t *zero, const uint8_t *panel, int64_t n, int64_t groups)
{
    for (int i = 0; i < n; i++)
        for (int64_t g = 0; g < groups; g++)
            zero[i * groups + g] = panel ? panel[g * GLM4V_PANEL + i] : 8;
}
