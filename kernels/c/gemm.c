/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products over panels, the reference: the formulas of gemm.h with sums in double. Also
 * rounds activations. */
#include "gemm.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "c/nibbles.h"
#include "convert.h"

/* Sums of one panel's outputs for one row; the caller turns them into y. */
typedef double panel_sum[GLM4V_PANEL];

static void check_args(const glm4v_gemm_args *g)
{
    assert(g->T >= 1 && g->K >= 1 && g->n_out >= 1 && g->panel >= 0 && g->n_panels >= 0);
    assert(g->panel + g->n_panels <= glm4v_panel_count(g->n_out));
    (void)g;
}

static void store(const glm4v_gemm_args *g, int64_t t, int64_t p, const panel_sum sum)
{
    int64_t first = p * GLM4V_PANEL;
    for (int64_t i = 0; i < GLM4V_PANEL && first + i < g->n_out; i++) {
        float *y = g->y + t * g->ldy + first + i;
        double value = sum[i] + (g->bias ? (double)g->bias[first + i] : 0);
        *y = (float)(g->add ? *y + value : value);
    }
}

static float widen(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

void glm4v_gemm_f32_c(const glm4v_gemm_args *g)
{
    check_args(g);
    for (int64_t p = g->panel; p < g->panel + g->n_panels; p++) {
        const float *w = (const float *)g->w + p * g->K * GLM4V_PANEL;
        for (int64_t t = 0; t < g->T; t++) {
            const float *x = (const float *)g->x + t * g->ldx;
            panel_sum sum = { 0 };
            for (int64_t k = 0; k < g->K; k++)
                for (int i = 0; i < GLM4V_PANEL; i++)
                    sum[i] += (double)x[k] * w[k * GLM4V_PANEL + i];
            store(g, t, p, sum);
        }
    }
}

/* Both with one load: nearly twice as fast as one by one (docs/perf-log.md). */
static void widen_pair(float *first, float *second, const uint16_t *pair)
{
    uint32_t both, bits;
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first is the lower half");
    memcpy(&both, pair, sizeof both);
    bits = both << 16;
    memcpy(first, &bits, sizeof bits);
    bits = both & 0xffff0000;
    memcpy(second, &bits, sizeof bits);
}

void glm4v_gemm_bf16_c(const glm4v_gemm_args *g)
{
    int64_t pairs = (g->K + 1) / 2;

    check_args(g);
    for (int64_t p = g->panel; p < g->panel + g->n_panels; p++) {
        const uint16_t *w = (const uint16_t *)g->w + p * pairs * 2 * GLM4V_PANEL;
        for (int64_t t = 0; t < g->T; t++) {
            const uint16_t *x = (const uint16_t *)g->x + t * g->ldx;
            panel_sum sum = { 0 };
            for (int64_t k = 0; k < pairs; k++) {
                double x0 = widen(x[2 * k]), x1 = widen(x[2 * k + 1]);
                const uint16_t *pairs_of_k = w + 2 * k * GLM4V_PANEL;
                for (int i = 0; i < GLM4V_PANEL; i++) {
                    float w0, w1;
                    widen_pair(&w0, &w1, pairs_of_k + 2 * i);
                    sum[i] += x1 * w1 + x0 * w0;
                }
            }
            store(g, t, p, sum);
        }
    }
}

/* What panels hold: all codes are numbers. */
static double e4m3(uint8_t code)
{
    if ((code & 0x7f) == 0x7f)
        return code & 0x80 ? -480 : 480;
    return (double)glm4v_e4m3_to_f32(code);
}

void glm4v_gemm_fp8_c(const glm4v_gemm_args *g)
{
    const int64_t groups = g->w_blocks ? glm4v_group_count(g->K) : 1;
    const int64_t span = g->w_blocks ? GLM4V_GROUP : g->K;
    double value[256];

    check_args(g);
    for (int i = 0; i < 256; i++)
        value[i] = e4m3((uint8_t)i);
    for (int64_t p = g->panel; p < g->panel + g->n_panels; p++) {
        const uint8_t *w = (const uint8_t *)g->w + p * glm4v_panel_bytes_fp8(g->K);
        const float *scale = g->w_scale + p * groups * GLM4V_PANEL;
        for (int64_t t = 0; t < g->T; t++) {
            const uint16_t *x = (const uint16_t *)g->x + t * g->ldx;
            panel_sum sum = { 0 };
            for (int64_t k = 0; k < g->K; k++) {
                const float *s = scale + k / span * GLM4V_PANEL;
                const double v = widen(x[k]);
                for (int i = 0; i < GLM4V_PANEL; i++)
                    sum[i] += v * value[w[glm4v_fp8_at(k, i)]] * s[i];
            }
            for (int i = 0; g->x_scale && i < GLM4V_PANEL; i++)
                sum[i] *= g->x_scale[t];
            store(g, t, p, sum);
        }
    }
}

/* acc[i] = sum of q u over inputs [k, end) of an int8 panel. */
static void dot_int8(int32_t *acc, const int8_t *q, const uint8_t *w, int64_t k, int64_t end)
{
    for (; k < end; k++) {
        const uint8_t *column = w + k / 4 * 4 * GLM4V_PANEL + k % 4;
        for (int i = 0; i < GLM4V_PANEL; i++)
            acc[i] += q[k] * column[4 * i];
    }
}

void glm4v_gemm_int8_c(const glm4v_gemm_args *g)
{
    int64_t groups = glm4v_group_count(g->K);

    check_args(g);
    for (int64_t p = g->panel; p < g->panel + g->n_panels; p++) {
        const uint8_t *w = (const uint8_t *)g->w + p * glm4v_panel_bytes_int8(g->K);
        for (int64_t t = 0; t < g->T; t++) {
            panel_sum sum = { 0 };
            for (int64_t n = 0; n < groups; n++) {
                int32_t acc[GLM4V_PANEL] = { 0 };
                const int64_t k = n * GLM4V_GROUP;
                const int64_t end = k + GLM4V_GROUP < g->K ? k + GLM4V_GROUP : g->K;
                double scale = g->x_scale[t * groups + n];
                dot_int8(acc, (const int8_t *)g->x + t * g->ldx, w, k, end);
                for (int i = 0; i < GLM4V_PANEL; i++)
                    sum[i] += scale * (acc[i] - 128 * g->x_sum[t * groups + n]);
            }
            for (int i = 0; i < GLM4V_PANEL; i++)
                sum[i] *= g->w_scale[p * GLM4V_PANEL + i];
            store(g, t, p, sum);
        }
    }
}

/* int4 in groups of `group` inputs. */
static void gemm_int4(const glm4v_gemm_args *g, int64_t group)
{
    int64_t groups = g->K / group;

    check_args(g);
    assert(g->K % group == 0);
    for (int64_t p = g->panel; p < g->panel + g->n_panels; p++) {
        const uint8_t *w = (const uint8_t *)g->w + p * glm4v_panel_bytes_int4(g->K);
        for (int64_t t = 0; t < g->T; t++) {
            const int8_t *q = (const int8_t *)g->x + t * g->ldx;
            panel_sum sum = { 0 };
            for (int64_t n = 0; n < groups; n++) {
                size_t at = (p * groups + n) * GLM4V_PANEL;
                int32_t acc[GLM4V_PANEL] = { 0 };
                for (int64_t k = n * group; k < (n + 1) * group; k++)
                    for (int i = 0; i < GLM4V_PANEL; i++)
                        acc[i] += q[k] * glm4v_get_nibble(w, k, i);
                for (int i = 0; i < GLM4V_PANEL; i++) {
                    int32_t zero = g->w_zero ? g->w_zero[at + i] : 8;
                    sum[i] += (double)g->x_scale[t * groups + n] * g->w_scale[at + i] *
                              (acc[i] - zero * g->x_sum[t * groups + n]);
                }
            }
            store(g, t, p, sum);
        }
    }
}

void glm4v_gemm_int4_c(const glm4v_gemm_args *g)
{
    gemm_int4(g, GLM4V_GROUP);
}

void glm4v_gemm_int4_32_c(const glm4v_gemm_args *g)
{
    gemm_int4(g, GLM4V_SMALL_GROUP);
}

void glm4v_bf16_row_c(uint16_t *y, const float *x, int64_t K)
{
    glm4v_f32_to_bf16_c(y, x, K);
    if (K & 1)
        y[K] = 0;
}

static void quantize_row(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t K,
                         int64_t group)
{
    for (int64_t n = 0, k = 0; k < K; n++, k += group) {
        int64_t count = K - k < group ? K - k : group;
        memset(q + k, 0, group);
        glm4v_f32_to_int8_c(q + k, scale + n, x + k, count);
        sum[n] = 0;
        for (int64_t i = 0; i < count; i++)
            sum[n] += q[k + i];
    }
}

void glm4v_quantize_row_c(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t K)
{
    quantize_row(q, scale, sum, x, K, GLM4V_GROUP);
}

void glm4v_quantize_row_32_c(int8_t *q, float *scale, int32_t *sum, const float *x, int64_t K)
{
    assert(K % GLM4V_SMALL_GROUP == 0);
    quantize_row(q, scale, sum, x, K, GLM4V_SMALL_GROUP);
}

void glm4v_fp8_row_c(uint16_t *y, float *scale, const float *x, int64_t K)
{
    float max;
    *scale = glm4v_row_scale(&max, x, K);
    if (max > 0)
        *scale = max / 448;
    for (int64_t k = 0; k < K; k++) {
        const float v = max > 0 ? glm4v_e4m3_to_f32(glm4v_f32_to_e4m3(x[k] * (448 / max))) : 0;
        glm4v_f32_to_bf16_c(y + k, &v, 1);
    }
    if (K & 1)
        y[K] = 0;
}
