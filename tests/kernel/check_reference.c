/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The C forms against facts that do not come from them: known values, identities, products written
 * out. */
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "tolerance.h"

static bool ok; /* of the running test */

static void near(double got, double wanted, double error)
{
    if (!(fabs(got - wanted) <= error))
        ok = false;
}

static void run(struct check *t, void (*fn)(struct check *t), const char *name)
{
    ok = true;
    fn(t);
    tap_result(ok, "%s", name);
    t->name = NULL;
}

static void cpu_levels_have_names_and_masks(struct check *t)
{
    unsigned all = GLM4V_CPU_AVX2 | GLM4V_CPU_AVX512 | GLM4V_CPU_VNNI | GLM4V_CPU_BF16, flags = all;
    ok &= glm4v_cpu_mask(NULL, &flags) && glm4v_cpu_mask("", &flags) && flags == all;
    ok &= glm4v_cpu_mask("avx512", &flags) && flags == all;
    flags |= GLM4V_CPU_AMX;
    ok &= glm4v_cpu_mask("amx", &flags) && flags == (all | GLM4V_CPU_AMX);
    ok &= !strcmp(glm4v_cpu_level(flags), "avx512+vnni+bf16+amx");
    ok &= glm4v_cpu_mask("avx512", &flags) && flags == all;
    ok &= !glm4v_cpu_mask("sse", &flags) && flags == all;
    ok &= glm4v_cpu_mask("avx2", &flags) && flags == GLM4V_CPU_AVX2;
    ok &= glm4v_cpu_mask("avx512", &flags) && flags == GLM4V_CPU_AVX2; /* lowers only */
    ok &= glm4v_cpu_mask("c", &flags) && flags == 0;
    ok &= !strcmp(glm4v_cpu_level(0), "c") && !strcmp(glm4v_cpu_level(all), "avx512+vnni+bf16");
    ok &= !strcmp(glm4v_cpu_level(all | GLM4V_CPU_SLOW_BF16), "avx512+vnni");
}

/* Neighbouring values a < b of a 16-bit form: their middle goes to the even one, a little more or
 * less to the nearer. */
static void narrowing_rounds_to_nearest_even(glm4v_narrow16_fn narrow, glm4v_widen16_fn widen,
                                             uint16_t infinity)
{
    for (uint16_t bits = 0; bits + 1 < infinity; bits++) {
        uint16_t pair[2] = { bits, (uint16_t)(bits + 1) }, got[5];
        float value[2];
        widen(value, pair, 2);
        float middle = value[0] + (value[1] - value[0]) / 2;
        float in[5] = { value[0], middle, nextafterf(middle, 0), nextafterf(middle, INFINITY),
                        -value[1] };
        narrow(got, in, 5);
        ok &=
            got[0] == bits && got[1] == (bits & 1 ? pair[1] : bits) && got[4] == (pair[1] | 0x8000);
        ok &= got[2] == bits && got[3] == pair[1];
    }
    float special[4] = { INFINITY, -INFINITY, NAN, 3.4e38f };
    uint16_t got[4];
    narrow(got, special, 4);
    ok &= got[0] == infinity && got[1] == (infinity | 0x8000) && (got[2] & 0x7fff) > infinity &&
          got[3] == infinity;
}

static void f16_conversion_rounds_to_nearest_even(struct check *t)
{
    narrowing_rounds_to_nearest_even(glm4v_f32_to_f16_c, glm4v_f16_to_f32_c, 0x7c00);
    const uint16_t known[] = { 0x3c00, 0xc000, 0x7bff, 0x0001, 0x3555 };
    float f[5];
    glm4v_f16_to_f32_c(f, known, 5);
    ok &= f[0] == 1 && f[1] == -2 && f[2] == 65504 && f[3] == 0x1p-24f && f[4] == 0x1.554p-2f;
}

static void bf16_conversion_rounds_to_nearest_even(struct check *t)
{
    narrowing_rounds_to_nearest_even(glm4v_f32_to_bf16_c, glm4v_bf16_to_f32_c, 0x7f80);
}

/* Every code but NaN comes back, as the number that the format's definition gives; the middle of
 * two neighbours goes to the even code; nothing is above 448. */
static void e4m3_rounds_to_nearest_even_and_saturates(struct check *t)
{
    for (int i = 0; i < 0x7f; i++) {
        const double value = i < 8 ? ldexp(i, -9) : ldexp(8 + i % 8, i / 8 - 10);
        const float next = glm4v_e4m3_to_f32((uint8_t)(i + 1));
        ok &= glm4v_e4m3_to_f32((uint8_t)i) == value;
        ok &= glm4v_f32_to_e4m3((float)value) == i && glm4v_f32_to_e4m3((float)-value) == (i | 128);
        const float middle = (float)value + (next - (float)value) / 2;
        if (i + 1 < 0x7f) {
            ok &= glm4v_f32_to_e4m3(middle) == (i & 1 ? i + 1 : i);
            ok &= glm4v_f32_to_e4m3(nextafterf(middle, 0)) == i;
            ok &= glm4v_f32_to_e4m3(nextafterf(middle, 1000)) == i + 1;
        }
    }
    ok &= isnan(glm4v_e4m3_to_f32(0x7f)) && isnan(glm4v_e4m3_to_f32(0xff));
    ok &= glm4v_f32_to_e4m3(449) == 0x7e && glm4v_f32_to_e4m3(-1e30f) == 0xfe;
    ok &= glm4v_f32_to_e4m3(INFINITY) == 0x7e && glm4v_f32_to_e4m3(0x1p-149f) == 0;
    ok &= glm4v_e4m3_to_f32(0x7e) == 448 && glm4v_e4m3_to_f32(0x01) == 0x1p-9f;
}

static void norms_have_known_values(struct check *t)
{
    const float x[4] = { 1, 2, 3, 6 }, w[4] = { 1, 1, 2, 1 }, b[4] = { 0, 0, 0, 10 };
    float y[4] = { 100, 0, 0, 0 };
    glm4v_rms_norm_c(y, x, w, 4, 0, true); /* mean square 12.5 */
    near(y[0], 100 + 1 / sqrt(12.5), 1e-5);
    near(y[2], 6 / sqrt(12.5), 1e-6);
    glm4v_layer_norm_c(y, x, w, b, 4, 0.5f, false); /* mean 3, variance 3.5 */
    near(y[0], -1, 1e-7);
    near(y[2], 0, 1e-7);
    near(y[3], 11.5, 1e-6);
    glm4v_layer_norm_c(y, x, w, b, 4, 0.5f, true);
    near(y[0], -2, 1e-7);
    near(y[3], 23, 1e-6);
}

static void activations_have_known_values(struct check *t)
{
    const float x[4] = { 1, -1, -6, 0 }, up[4] = { 1, 2, 1, 1 };
    float y[4];
    glm4v_gelu_c(y, x, 4);
    near(y[0], 0.8413447460685429, 1e-7);
    near(y[1], -0.15865525393145707, 2e-8);
    near(y[2], -6 * 9.865876450376946e-10, 1e-15);
    glm4v_silu_mul_c(y, x, up, 4);
    near(y[0], 0.7310585786300049, 1e-7);
    near(y[1], -0.5378828427399902, 1e-7);
    ok &= y[3] == 0;
    memcpy(y, x, sizeof y);
    glm4v_scale_c(y, -0.25f, 4);
    ok &= y[0] == -0.25f && y[2] == 1.5f && y[3] == 0;
}

static void rotation_by_a_right_angle_swaps_the_pair(struct check *t)
{
    const float c[2] = { 0, 1 }, s[2] = { 1, 0 };
    float x[10] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, z[5] = { 1, 2, 3, 4, 5 };
    const float wanted[10] = { -2, 1, 3, 4, 5, -7, 6, 8, 9, 10 }, half[5] = { -3, 2, 1, 4, 5 };
    glm4v_rope_interleaved_c(x, c, s, 2, 5, 2);
    glm4v_rope_half_c(z, c, s, 1, 5, 2);
    ok &= !memcmp(x, wanted, sizeof x) && !memcmp(z, half, sizeof z);
}

static void attention_weighs_values_by_softmax(struct check *t)
{
    const float q[2] = { 2, 0 }, k[3 * 2] = { 0, 5, 0.5f, 7, 99, 9 },
                v[3 * 2] = { 1, 2, 3, 6, 1e9f, 0 };
    float o[2], *out = o, scratch[256];
    const float *in = q;
    const int32_t keys = 2;
    glm4v_attention_args args = { .o = &out,
                                  .q = &in,
                                  .n_keys = &keys,
                                  .k = k,
                                  .v = v,
                                  .ldk = 2,
                                  .ldv = 2,
                                  .rows = 1,
                                  .head_dim = 2,
                                  .scale = 0.5f,
                                  .scratch = scratch };
    glm4v_attention_c(&args); /* scores 0 and 0.5; the third key is beyond the row */
    double p = exp(0.5) / (1 + exp(0.5));
    near(o[0], 1 + 2 * p, 1e-6);
    near(o[1], 2 + 4 * p, 1e-6);
}

enum { N = 19, K = 256, T = 3, PANELS = 2 };

static void random_matrix(struct check *t, float *w, float *x, float *bias)
{
    check_fill(t, w, N * K, FILL_NORMAL);
    check_fill(t, x, T * K, FILL_NORMAL);
    check_fill(t, bias, N, FILL_NORMAL);
}

/* y against the product written out, with weights as the panels hold them. */
static void compare_product(const float *y, const float *x, const float *w, const float *bias,
                            double error)
{
    for (int i = 0; i < T; i++) {
        for (int n = 0; n < N; n++) {
            double sum = bias[n];
            for (int k = 0; k < K; k++)
                sum += (double)x[i * K + k] * w[n * K + k];
            near(y[i * N + n], sum, error);
        }
    }
}

static void product_equals_the_sum_written_out(struct check *t)
{
    static float w[N * K], held[N * K], x[T * K], bias[N], y[T * N], panels[PANELS * K * 16],
        scale[PANELS * 32];
    glm4v_gemm_args args = { .y = y,
                             .x = x,
                             .w = panels,
                             .w_scale = scale,
                             .bias = bias,
                             .ldy = N,
                             .ldx = K,
                             .T = T,
                             .K = K,
                             .n_out = N,
                             .n_panels = PANELS };
    random_matrix(t, w, x, bias);
    for (int p = 0; p < PANELS; p++) {
        glm4v_pack_f32_c(panels + p * K * 16, w + p * 16 * K, K, p ? N - 16 : 16, K);
        glm4v_unpack_f32(held + p * 16 * K, K, panels + p * K * 16, p ? N - 16 : 16, K);
    }
    ok &= !memcmp(w, held, sizeof w);
    glm4v_gemm_f32_c(&args);
    compare_product(y, x, held, bias, 1e-5);
}

static void bf16_product_equals_the_sum_written_out(struct check *t)
{
    static float w[N * K], held[N * K], x[T * K], bias[N], y[T * N];
    static uint16_t panels[PANELS * K * 16], rows[T * K];
    glm4v_gemm_args args = { .y = y,
                             .x = rows,
                             .w = panels,
                             .bias = bias,
                             .ldy = N,
                             .ldx = K,
                             .T = T,
                             .K = K,
                             .n_out = N,
                             .n_panels = PANELS };
    random_matrix(t, w, x, bias);
    for (int p = 0; p < PANELS; p++) {
        glm4v_pack_bf16_c(panels + p * K * 16, w + p * 16 * K, K, p ? N - 16 : 16, K);
        glm4v_unpack_bf16(held + p * 16 * K, K, panels + p * K * 16, p ? N - 16 : 16, K);
    }
    for (int i = 0; i < N * K; i++)
        near(held[i], w[i], fabs(w[i]) / 256);
    for (int i = 0; i < T; i++)
        glm4v_bf16_row_c(rows + i * K, x + i * K, K);
    glm4v_bf16_to_f32_c(x, rows, T * K);
    glm4v_gemm_bf16_c(&args);
    compare_product(y, x, held, bias, 1e-5);
}

/* Per channel, and then the same panels with a scale for each 128 inputs. */
static void fp8_product_equals_the_sum_written_out(struct check *t)
{
    static float w[N * K], held[N * K], x[T * K], bias[N], y[T * N], scale[PANELS * K / 8];
    static uint8_t panels[PANELS * K * 16];
    static uint16_t rows[T * K];
    glm4v_gemm_args args = { .y = y,
                             .x = rows,
                             .w = panels,
                             .w_scale = scale,
                             .bias = bias,
                             .ldy = N,
                             .ldx = K,
                             .T = T,
                             .K = K,
                             .n_out = N,
                             .n_panels = PANELS };
    random_matrix(t, w, x, bias);
    for (int p = 0; p < PANELS; p++) {
        glm4v_pack_fp8_c(panels + p * K * 16, scale + p * 16, w + p * 16 * K, K, p ? N - 16 : 16,
                         K);
        glm4v_unpack_fp8(held + p * 16 * K, K, panels + p * K * 16, scale + p * 16, false,
                         p ? N - 16 : 16, K);
    }
    for (int i = 0; i < N * K; i++)
        near(held[i], w[i], fabs(w[i]) / 15.9 + scale[i / K] * 0x1p-10);
    for (int i = 0; i < T; i++)
        glm4v_bf16_row_c(rows + i * K, x + i * K, K);
    glm4v_bf16_to_f32_c(x, rows, T * K);
    glm4v_gemm_fp8_c(&args);
    compare_product(y, x, held, bias, 1e-5);

    args.w_blocks = true;
    for (int i = 0; i < PANELS * K / 8; i++)
        scale[i] = 0.001f * (float)(1 + i % 23);
    for (int p = 0; p < PANELS; p++)
        glm4v_unpack_fp8(held + p * 16 * K, K, panels + p * K * 16, scale + p * K / 8, true,
                         p ? N - 16 : 16, K);
    /* output 5: inputs below 128 by scale 5, the others by scale 21 */
    near(held[5 * K + 2], scale[5] * glm4v_e4m3_to_f32(panels[glm4v_fp8_at(2, 5)]), 0);
    near(held[5 * K + 130], scale[21] * glm4v_e4m3_to_f32(panels[glm4v_fp8_at(130, 5)]), 0);
    glm4v_gemm_fp8_c(&args);
    compare_product(y, x, held, bias, 1e-4);
}

/* Activations too, with a scale for each row. */
static void fp8_product_of_rounded_rows_equals_the_sum_written_out(struct check *t)
{
    static float w[N * K], held[N * K], x[T * K], bias[N], y[T * N], scale[PANELS * 16];
    static uint8_t panels[PANELS * K * 16], codes[K];
    static uint16_t rows[T * K];
    float x_scale[T], code_scale;
    glm4v_gemm_args args = { .y = y,
                             .x = rows,
                             .x_scale = x_scale,
                             .w = panels,
                             .w_scale = scale,
                             .bias = bias,
                             .ldy = N,
                             .ldx = K,
                             .T = T,
                             .K = K,
                             .n_out = N,
                             .n_panels = PANELS };
    random_matrix(t, w, x, bias);
    for (int p = 0; p < PANELS; p++) {
        glm4v_pack_fp8_c(panels + p * K * 16, scale + p * 16, w + p * 16 * K, K, p ? N - 16 : 16,
                         K);
        glm4v_unpack_fp8(held + p * 16 * K, K, panels + p * K * 16, scale + p * 16, false,
                         p ? N - 16 : 16, K);
    }
    for (int i = 0; i < T; i++) {
        glm4v_f32_to_fp8_c(codes, &code_scale, x + i * K, K);
        glm4v_fp8_row_c(rows + i * K, &x_scale[i], x + i * K, K);
        near(x_scale[i], code_scale, 0);
        for (int k = 0; k < K; k++) { /* what f32_to_fp8 makes codes of */
            float value;
            glm4v_bf16_to_f32_c(&value, rows + i * K + k, 1);
            near(value, glm4v_e4m3_to_f32(codes[k]), 0);
            near(x_scale[i] * value, x[i * K + k],
                 fabs(x[i * K + k]) / 15.9 + x_scale[i] * 0x1p-10);
            x[i * K + k] = x_scale[i] * value;
        }
    }
    glm4v_gemm_fp8_c(&args);
    compare_product(y, x, held, bias, 1e-5);
}

struct quantized {
    int8_t q[T * K];
    float scale[T * K / 128];
    int32_t sum[T * K / 128];
};

/* Rounds x and writes back what was kept of it. */
static void round_activations(struct quantized *a, float *x)
{
    for (int i = 0; i < T; i++)
        glm4v_quantize_row_c(a->q + i * K, a->scale + i * K / 128, a->sum + i * K / 128, x + i * K,
                             K);
    for (int i = 0; i < T * K; i++) {
        near(a->scale[i / 128] * a->q[i], x[i], a->scale[i / 128] * 0.501);
        x[i] = a->scale[i / 128] * a->q[i];
    }
}

static void int8_product_equals_the_sum_written_out(struct check *t)
{
    static float w[N * K], held[N * K], x[T * K], bias[N], y[T * N], scale[PANELS * 16];
    static uint8_t panels[PANELS * K * 16];
    static struct quantized a;
    glm4v_gemm_args args = { .y = y,
                             .x = a.q,
                             .x_scale = a.scale,
                             .x_sum = a.sum,
                             .w = panels,
                             .w_scale = scale,
                             .bias = bias,
                             .ldy = N,
                             .ldx = K,
                             .T = T,
                             .K = K,
                             .n_out = N,
                             .n_panels = PANELS };
    random_matrix(t, w, x, bias);
    for (int p = 0; p < PANELS; p++) {
        glm4v_pack_int8_c(panels + p * K * 16, scale + p * 16, w + p * 16 * K, K, p ? N - 16 : 16,
                          K);
        glm4v_unpack_int8(held + p * 16 * K, K, panels + p * K * 16, scale + p * 16,
                          p ? N - 16 : 16, K);
    }
    for (int i = 0; i < N * K; i++)
        near(held[i], w[i], scale[i / K] * 0.501);
    round_activations(&a, x);
    glm4v_gemm_int8_c(&args);
    compare_product(y, x, held, bias, 1e-5);
}

static void int4_product_equals_the_sum_written_out(struct check *t)
{
    static float w[N * K], held[N * K], x[T * K], bias[N], y[T * N], scale[PANELS * K / 8];
    static uint8_t panels[PANELS * K * 8], zero[PANELS * K / 8];
    static struct quantized a;
    glm4v_gemm_args args = { .y = y,
                             .x = a.q,
                             .x_scale = a.scale,
                             .x_sum = a.sum,
                             .w = panels,
                             .w_scale = scale,
                             .w_zero = zero,
                             .bias = bias,
                             .ldy = N,
                             .ldx = K,
                             .T = T,
                             .K = K,
                             .n_out = N,
                             .n_panels = PANELS };
    random_matrix(t, w, x, bias);
    for (size_t i = 0; i < sizeof zero; i++)
        zero[i] = (uint8_t)(i % 16);
    for (int p = 0; p < PANELS; p++) {
        glm4v_pack_int4_c(panels + p * K * 8, scale + p * K / 8, w + p * 16 * K, K, p ? N - 16 : 16,
                          K);
        glm4v_unpack_int4(held + p * 16 * K, K, panels + p * K * 8, scale + p * K / 8,
                          zero + p * K / 8, p ? N - 16 : 16, K);
    }
    round_activations(&a, x);
    glm4v_gemm_int4_c(&args);
    compare_product(y, x, held, bias, 1e-4);
}

/* The chosen scales against max / 7 for all: the claim of gemm.h. */
static void int4_scales_beat_the_plain_choice(struct check *t)
{
    enum { ROWS = 16, LONG = 128 * 64 };
    float *w = malloc(sizeof *w * ROWS * LONG), *held = malloc(sizeof *held * ROWS * LONG);
    float *scale = malloc(sizeof *scale * LONG / 8);
    uint8_t *panel = malloc(LONG * 8);
    double chosen = 0, plain = 0;

    ok = w && held && scale && panel;
    if (ok) {
        check_fill(t, w, ROWS * LONG, FILL_NORMAL);
        glm4v_pack_int4_c(panel, scale, w, LONG, ROWS, LONG);
        glm4v_unpack_int4(held, LONG, panel, scale, NULL, ROWS, LONG);
        for (int g = 0; g < ROWS * LONG; g += 128) {
            float max = 0;
            for (int k = g; k < g + 128; k++)
                max = fmaxf(max, fabsf(w[k]));
            for (int k = g; k < g + 128; k++) {
                double e = w[k] - max / 7 * rintf(w[k] * (7 / max));
                chosen += (w[k] - held[k]) * (double)(w[k] - held[k]);
                plain += e * e;
            }
        }
        ok = chosen < 0.85 * plain;
        if (!ok || t->bench)
            check_fail(t, "int4 squared error is %.3f of that of max / 7", chosen / plain);
    }
    free(w);
    free(held);
    free(scale);
    free(panel);
}

static void values_that_are_no_number_survive_quantization(struct check *t)
{
    static float w[16 * 128], x[128], scale[16], y[16];
    static uint8_t panel[128 * 16];
    static struct quantized a;
    glm4v_gemm_args args = { .y = y,
                             .x = a.q,
                             .x_scale = a.scale,
                             .x_sum = a.sum,
                             .w = panel,
                             .w_scale = scale,
                             .ldy = 16,
                             .ldx = 128,
                             .T = 1,
                             .K = 128,
                             .n_out = 16,
                             .n_panels = 1 };
    check_fill(t, w, 16 * 128, FILL_NORMAL);
    check_fill(t, x, 128, FILL_NORMAL);
    w[3 * 128 + 5] = INFINITY; /* a bad weight spoils its output alone */
    glm4v_pack_int8_c(panel, scale, w, 128, 16, 128);
    glm4v_quantize_row_c(a.q, a.scale, a.sum, x, 128);
    glm4v_gemm_int8_c(&args);
    ok &= isnan(y[3]) && isfinite(y[2]) && isfinite(y[4]);
    x[77] = NAN; /* a bad input spoils all */
    glm4v_quantize_row_c(a.q, a.scale, a.sum, x, 128);
    glm4v_gemm_int8_c(&args);
    ok &= isnan(y[0]) && isnan(y[15]);
}

#define RUN(fn) run(t, fn, #fn)

void check_reference(struct check *t)
{
    t->name = t->level = "reference";
    RUN(cpu_levels_have_names_and_masks);
    RUN(f16_conversion_rounds_to_nearest_even);
    RUN(bf16_conversion_rounds_to_nearest_even);
    RUN(e4m3_rounds_to_nearest_even_and_saturates);
    RUN(norms_have_known_values);
    RUN(activations_have_known_values);
    RUN(rotation_by_a_right_angle_swaps_the_pair);
    RUN(attention_weighs_values_by_softmax);
    RUN(product_equals_the_sum_written_out);
    RUN(bf16_product_equals_the_sum_written_out);
    RUN(fp8_product_equals_the_sum_written_out);
    RUN(fp8_product_of_rounded_rows_equals_the_sum_written_out);
    RUN(int8_product_equals_the_sum_written_out);
    RUN(int4_product_equals_the_sum_written_out);
    RUN(int4_scales_beat_the_plain_choice);
    RUN(values_that_are_no_number_survive_quantization);
}
