/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Number forms, the reference, by integer arithmetic on the bits. */
#include "convert.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint16_t to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); /* quiet; rounding could carry a NaN over to infinity */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint16_t to_f16(float f)
{
    uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) /* 65520 and more rounds to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (a <
        /* below 2^-14: denormal; adding 0.5 aligns units of 2^-24 with the last bit of a float */
        0x38800000)
        return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - bits_of(0.5f)));
    return (uint16_t)(sign | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13));
}

static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31)
        return float_of(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    if (exponent)
        return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    return sign ? -(float)fraction * 0x1p-24f : (float)fraction * 0x1p-24f;
}

uint8_t glm4v_f32_to_e4m3(float f)
{
    uint32_t u = bits_of(f), sign = u >> 24 & 0x80, a = u & 0x7fffffff;
    if (a >= 0x43e80000) /* 464 and more would round beyond 448 */
        return (uint8_t)(sign | 0x7e);
    if (a < 0x3c800000) /* below 2^-6: adding 2^14 aligns units of 2^-9 with the last bit */
        return (uint8_t)(sign | (bits_of(float_of(a) + 16384) - bits_of(16384)));
    return (uint8_t)(sign | ((a - 0x3c000000 + 0x7ffff + (a >> 20 & 1)) >> 20));
}

float glm4v_e4m3_to_f32(uint8_t e)
{
    const float sign = e & 0x80 ? -1 : 1;
    const uint32_t rest = e & 0x7f;
    if (rest == 0x7f)
        return NAN;
    return sign * (rest < 8 ? (float)rest * 0x1p-9f : float_of(0x3c000000 + (rest << 20)));
}

bool glm4v_has_nan_e4m3(const uint8_t *e4m3, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= (e4m3[i] & 0x7f) == 0x7f;
    return any;
}

bool glm4v_all_finite(const float *x, size_t n)
{
    uint32_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= (bits_of(x[i]) & 0x7f800000) == 0x7f800000;
    return !any;
}

bool glm4v_all_finite_bf16(const uint16_t *x, size_t n)
{
    uint16_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= (x[i] & 0x7f80) == 0x7f80;
    return !any;
}

void glm4v_f32_to_bf16_c(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = to_bf16(x[i]);
}

void glm4v_f32_to_f16_c(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = to_f16(x[i]);
}

void glm4v_bf16_to_f32_c(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = float_of((uint32_t)x[i] << 16);
}

void glm4v_f16_to_f32_c(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = from_f16(x[i]);
}

float glm4v_row_scale(float *max, const float *x, size_t n)
{
    *max = 0;
    for (size_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        if (!(a <= *max)) /* a NaN enters here, and stays: nothing is <= NaN */
            *max = isnan(*max) ? *max : a;
    }
    if (!isfinite(*max)) {
        *max = 0;
        return NAN;
    }
    if (*max < GLM4V_QUANT_MIN)
        *max = 0;
    return *max / 127;
}

int glm4v_round_int8(float x, float max)
{
    return max > 0 ? (int)rintf(x * (127 / max)) : 0;
}

void glm4v_f32_to_int8_c(int8_t *q, float *scale, const float *x, size_t n)
{
    float max;
    *scale = glm4v_row_scale(&max, x, n);
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)glm4v_round_int8(x[i], max);
}

void glm4v_f32_to_fp8_c(uint8_t *q, float *scale, const float *x, size_t n)
{
    float max;
    *scale = glm4v_row_scale(&max, x, n);
    if (max > 0)
        *scale = max / 448;
    for (size_t i = 0; i < n; i++)
        q[i] = max > 0 ? glm4v_f32_to_e4m3(x[i] * (448 / max)) : 0;
}

void glm4v_int8_to_f32_c(float *y, const int8_t *q, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = scale * q[i];
}
