/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of weight forms, one row each. */
#include "backend/forms.h"

#include <stdio.h>
#include <string.h>

#include "glm4v/glm4v.h"

/* ---- kernels ---- */

static glm4v_gemm_fn product_f32(const glm4v_gemm_ops *ops)
{
    return ops->f32;
}

static glm4v_gemm_fn product_bf16(const glm4v_gemm_ops *ops)
{
    return ops->bf16;
}

static glm4v_gemm_fn product_int8(const glm4v_gemm_ops *ops)
{
    return ops->int8;
}

static glm4v_gemm_fn product_int4(const glm4v_gemm_ops *ops)
{
    return ops->int4;
}

static glm4v_gemm_fn product_int4_32(const glm4v_gemm_ops *ops)
{
    return ops->int4_32;
}

static glm4v_gemm_fn product_fp8(const glm4v_gemm_ops *ops)
{
    return ops->fp8;
}

static void pack_f32(const glm4v_gemm_ops *ops, void *panel, float *scale, const float *rows,
                     int64_t n, int64_t K)
{
    ops->pack_f32(panel, rows, K, n, K);
}

static void pack_bf16(const glm4v_gemm_ops *ops, void *panel, float *scale, const float *rows,
                      int64_t n, int64_t K)
{
    ops->pack_bf16(panel, rows, K, n, K);
}

static void pack_int8(const glm4v_gemm_ops *ops, void *panel, float *scale, const float *rows,
                      int64_t n, int64_t K)
{
    ops->pack_int8(panel, scale, rows, K, n, K);
}

static void pack_int4(const glm4v_gemm_ops *ops, void *panel, float *scale, const float *rows,
                      int64_t n, int64_t K)
{
    ops->pack_int4(panel, scale, rows, K, n, K);
}

static void pack_int4_32(const glm4v_gemm_ops *ops, void *panel, float *scale, const float *rows,
                         int64_t n, int64_t K)
{
    ops->pack_int4_32(panel, scale, rows, K, n, K);
}

static void pack_fp8(const glm4v_gemm_ops *ops, void *panel, float *scale, const float *rows,
                     int64_t n, int64_t K)
{
    ops->pack_fp8(panel, scale, rows, K, n, K);
}

static void pack_codes_int8(const glm4v_gemm_ops *ops, void *panel, const uint8_t *q, int64_t n,
                            int64_t K)
{
    ops->pack_codes_int8(panel, q, K, n, K);
}

static void pack_codes_int4(const glm4v_gemm_ops *ops, void *panel, const uint8_t *q, int64_t n,
                            int64_t K)
{
    ops->pack_codes_int4(panel, q, K, n, K);
}

static void pack_codes_fp8(const glm4v_gemm_ops *ops, void *panel, const uint8_t *q, int64_t n,
                           int64_t K)
{
    ops->pack_codes_fp8(panel, q, K, n, K);
}

static void pack_words_int4(const glm4v_gemm_ops *ops, void *panel, const uint32_t *words,
                            int64_t n, int64_t K)
{
    ops->pack_words_int4(panel, words, K / 8, n, K);
}

static void unpack_codes_int8(uint8_t *q, const void *panel, int64_t n, int64_t K)
{
    glm4v_unpack_codes_int8(q, K, panel, n, K);
}

static void unpack_codes_int4(uint8_t *q, const void *panel, int64_t n, int64_t K)
{
    glm4v_unpack_codes_int4(q, K, panel, n, K);
}

static void unpack_codes_fp8(uint8_t *q, const void *panel, int64_t n, int64_t K)
{
    glm4v_unpack_codes_fp8(q, K, panel, n, K);
}

static void encode_int8(const glm4v_gemm_ops *ops, const glm4v_convert_ops *convert, uint8_t *q,
                        float *scale, const float *rows, int64_t n, int64_t K, void *scratch)
{
    const int64_t k = K;
    for (int64_t i = 0; i < n; i++)
        convert->f32_to_int8((int8_t *)q + i * k, &scale[i], rows + i * k, k);
}

static void encode_fp8(const glm4v_gemm_ops *ops, const glm4v_convert_ops *convert, uint8_t *q,
                       float *scale, const float *rows, int64_t n, int64_t K, void *scratch)
{
    const int64_t k = K;
    for (int64_t i = 0; i < n; i++)
        convert->f32_to_fp8(q + i * k, &scale[i], rows + i * k, k);
}

/* By panels, as they are rounded while a model is loaded. */
static void encode_panels(const glm4v_gemm_ops *ops, uint8_t *q, float *scale, const float *rows,
                          int64_t n, int64_t K, void *scratch, glm4v_form form)
{
    const glm4v_form_cpu *cpu = &glm4v_form_of(form)->cpu;
    const int64_t groups = glm4v_form_groups(form, false, K);
    float *panel_scale = (float *)(void *)((char *)scratch + cpu->panel_bytes(K));
    for (int64_t row = 0; row < n; row += GLM4V_PANEL) {
        const int64_t some = n - row < GLM4V_PANEL ? n - row : GLM4V_PANEL;
        const int64_t at = row * K;
        cpu->pack(ops, scratch, panel_scale, rows + at, some, K);
        cpu->unpack_codes(q + at, scratch, some, K);
        glm4v_unpack_scales(scale + row * groups, panel_scale, some, groups);
    }
}

static void encode_int4(const glm4v_gemm_ops *ops, const glm4v_convert_ops *convert, uint8_t *q,
                        float *scale, const float *rows, int64_t n, int64_t K, void *scratch)
{
    encode_panels(ops, q, scale, rows, n, K, scratch, GLM4V_FORM_INT4);
}

static void encode_int4_32(const glm4v_gemm_ops *ops, const glm4v_convert_ops *convert, uint8_t *q,
                           float *scale, const float *rows, int64_t n, int64_t K, void *scratch)
{
    encode_panels(ops, q, scale, rows, n, K, scratch, GLM4V_FORM_INT4_32);
}

static void unpack_f32(float *rows, const void *panel, const float *scale, const uint8_t *zero,
                       bool blocks, int64_t n, int64_t K)
{
    glm4v_unpack_f32(rows, K, panel, n, K);
}

static void unpack_bf16(float *rows, const void *panel, const float *scale, const uint8_t *zero,
                        bool blocks, int64_t n, int64_t K)
{
    glm4v_unpack_bf16(rows, K, panel, n, K);
}

static void unpack_int8(float *rows, const void *panel, const float *scale, const uint8_t *zero,
                        bool blocks, int64_t n, int64_t K)
{
    glm4v_unpack_int8(rows, K, panel, scale, n, K);
}

static void unpack_int4(float *rows, const void *panel, const float *scale, const uint8_t *zero,
                        bool blocks, int64_t n, int64_t K)
{
    glm4v_unpack_int4(rows, K, panel, scale, zero, n, K);
}

static void unpack_int4_32(float *rows, const void *panel, const float *scale, const uint8_t *zero,
                           bool blocks, int64_t n, int64_t K)
{
    glm4v_unpack_int4_32(rows, K, panel, scale, zero, n, K);
}

static void unpack_fp8(float *rows, const void *panel, const float *scale, const uint8_t *zero,
                       bool blocks, int64_t n, int64_t K)
{
    glm4v_unpack_fp8(rows, K, panel, scale, blocks, n, K);
}

static void table_fill_f32(const glm4v_convert_ops *ops, void *data, float *scale, int64_t row,
                           int64_t n, const float *rows, int64_t cols)
{
    memcpy((float *)data + row * cols, rows, n * cols * sizeof *rows);
}

static void table_fill_bf16(const glm4v_convert_ops *ops, void *data, float *scale, int64_t row,
                            int64_t n, const float *rows, int64_t cols)
{
    ops->f32_to_bf16((uint16_t *)data + row * cols, rows, n * cols);
}

static void table_fill_int8(const glm4v_convert_ops *ops, void *data, float *scale, int64_t row,
                            int64_t n, const float *rows, int64_t cols)
{
    for (int64_t i = 0; i < n; i++)
        ops->f32_to_int8((int8_t *)data + (row + i) * cols, &scale[row + i], rows + i * cols, cols);
}

static void table_row_f32(const glm4v_convert_ops *ops, float *y, const void *data,
                          const float *scale, int64_t row, int64_t cols)
{
    memcpy(y, (const float *)data + row * cols, cols * sizeof *y);
}

static void table_row_bf16(const glm4v_convert_ops *ops, float *y, const void *data,
                           const float *scale, int64_t row, int64_t cols)
{
    ops->bf16_to_f32(y, (const uint16_t *)data + row * cols, cols);
}

static void table_row_int8(const glm4v_convert_ops *ops, float *y, const void *data,
                           const float *scale, int64_t row, int64_t cols)
{
    ops->int8_to_f32(y, (const int8_t *)data + row * cols, scale[row], cols);
}

/* ---- the table ---- */

static const glm4v_form_traits forms[] = {
    [GLM4V_FORM_F32] = {
        .name = "fp32",
        .bits = 32,
        .table = true,
        .rounding = GLM4V_ROUND_NONE,
        .finer = GLM4V_FORM_F32,
        .stored = GLM4V_FORM_F32,
        .layout = GLM4V_LAYOUT_PLAIN,
        .dtype = "F32",
        .cpu = { .panel_bytes = glm4v_panel_bytes_f32,
                 .product = product_f32,
                 .pack = pack_f32,
                 .table_fill = table_fill_f32,
                 .table_row = table_row_f32,
                 .unpack = unpack_f32 },
    },
    [GLM4V_FORM_BF16] = {
        .name = "bf16",
        .bits = 16,
        .ordered = true,
        .table = true,
        .rounding = GLM4V_ROUND_BF16,
        .finer = GLM4V_FORM_BF16,
        .stored = GLM4V_FORM_BF16,
        .layout = GLM4V_LAYOUT_PLAIN,
        .dtype = "BF16",
        .cpu = { .panel_bytes = glm4v_panel_bytes_bf16,
                 .product = product_bf16,
                 .pack = pack_bf16,
                 .table_fill = table_fill_bf16,
                 .table_row = table_row_bf16,
                 .unpack = unpack_bf16 },
    },
    [GLM4V_FORM_INT8] = {
        .name = "int8",
        .bits = 8,
        .codes = true,
        .ordered = true,
        .table = true,
        .rounding = GLM4V_ROUND_INT8,
        .finer = GLM4V_FORM_INT8,
        .stored = GLM4V_FORM_INT8,
        .layout = GLM4V_LAYOUT_BYTES,
        .dtype = "I8",
        .format = "int-quantized",
        .cpu = { .panel_bytes = glm4v_panel_bytes_int8,
                 .product = product_int8,
                 .pack = pack_int8,
                 .pack_codes = pack_codes_int8,
                 .unpack_codes = unpack_codes_int8,
                 .encode = encode_int8,
                 .table_fill = table_fill_int8,
                 .table_row = table_row_int8,
                 .unpack = unpack_int8 },
    },
    [GLM4V_FORM_INT4] = {
        .name = "int4",
        .bits = 4,
        .codes = true,
        .group = 128,
        .zeros = true,
        .ordered = true,
        .rounding = GLM4V_ROUND_INT8,
        .finer = GLM4V_FORM_INT8,
        .stored = GLM4V_FORM_INT4,
        .layout = GLM4V_LAYOUT_WORDS,
        .dtype = "I32",
        .format = "pack-quantized",
        .cpu = { .panel_bytes = glm4v_panel_bytes_int4,
                 .product = product_int4,
                 .pack = pack_int4,
                 .pack_codes = pack_codes_int4,
                 .unpack_codes = unpack_codes_int4,
                 .encode = encode_int4,
                 .pack_words = pack_words_int4,
                 .unpack = unpack_int4 },
    },
    [GLM4V_FORM_FP8] = {
        .name = "fp8",
        .bits = 8,
        .codes = true,
        .floating = true,
        .blocks = true,
        .ordered = true,
        .rounding = GLM4V_ROUND_BF16,
        .finer = GLM4V_FORM_FP8,
        .stored = GLM4V_FORM_FP8,
        .layout = GLM4V_LAYOUT_BYTES,
        .dtype = "F8_E4M3",
        .format = "float-quantized",
        .cpu = { .panel_bytes = glm4v_panel_bytes_fp8,
                 .product = product_fp8,
                 .pack = pack_fp8,
                 .pack_codes = pack_codes_fp8,
                 .unpack_codes = unpack_codes_fp8,
                 .encode = encode_fp8,
                 .unpack = unpack_fp8 },
    },
    [GLM4V_FORM_INT4_32] = {
        .name = "int4-32",
        .bits = 4,
        .codes = true,
        .group = 32,
        .zeros = true,
        .ordered = true,
        .rounding = GLM4V_ROUND_INT8_32,
        .finer = GLM4V_FORM_INT8,
        .stored = GLM4V_FORM_INT4_32,
        .layout = GLM4V_LAYOUT_WORDS,
        .dtype = "I32",
        .format = "pack-quantized",
        .cpu = { .panel_bytes = glm4v_panel_bytes_int4,
                 .product = product_int4_32,
                 .pack = pack_int4_32,
                 .pack_codes = pack_codes_int4,
                 .unpack_codes = unpack_codes_int4,
                 .encode = encode_int4_32,
                 .pack_words = pack_words_int4,
                 .unpack = unpack_int4_32 },
    },
    [GLM4V_FORM_FP8_DYNAMIC] = {
        .name = "fp8-dynamic",
        .bits = 8,
        .codes = true,
        .floating = true,
        .ordered = true,
        .rounding = GLM4V_ROUND_FP8,
        .finer = GLM4V_FORM_FP8_DYNAMIC,
        .stored = GLM4V_FORM_FP8,
        .layout = GLM4V_LAYOUT_BYTES,
        .dtype = "F8_E4M3",
        .format = "float-quantized",
        .cpu = { .panel_bytes = glm4v_panel_bytes_fp8,
                 .product = product_fp8,
                 .pack = pack_fp8,
                 .pack_codes = pack_codes_fp8,
                 .unpack_codes = unpack_codes_fp8,
                 .encode = encode_fp8,
                 .unpack = unpack_fp8 },
    },
};

_Static_assert(sizeof forms / sizeof *forms == GLM4V_N_FORMS, "a weight form has no row");

const glm4v_form_traits *glm4v_form_of(glm4v_form form)
{
    return &forms[form];
}

/* ---- names ---- */

const char *glm4v_form_name(glm4v_form form)
{
    return forms[form].name;
}

int glm4v_form_parse(glm4v_form *form, const char *name)
{
    for (int i = 0; i < GLM4V_N_FORMS; i++)
        if (!strcmp(name, forms[i].name)) {
            *form = (glm4v_form)i;
            return 0;
        }
    return GLM4V_ERR_INVALID;
}

const char *glm4v_form_names(char *text, size_t size, bool tables)
{
    int left = 0;
    size_t used = 0;
    for (int i = 0; i < GLM4V_N_FORMS; i++)
        left += !tables || forms[i].table;
    text[0] = 0;
    for (int i = 0; i < GLM4V_N_FORMS && used < size; i++)
        if (!tables || forms[i].table) {
            const char *separator = --left > 1 ? ", " : " or ";
            used +=
                snprintf(text + used, size - used, "%s%s", forms[i].name, left ? separator : "");
        }
    return text;
}

/* ---- sizes ---- */

int64_t glm4v_form_group(glm4v_form form, bool blocks, int64_t n_in)
{
    if (blocks)
        return GLM4V_GROUP;
    return forms[form].group ? forms[form].group : n_in;
}

int64_t glm4v_form_groups(glm4v_form form, bool blocks, int64_t n_in)
{
    const int64_t group = blocks ? GLM4V_GROUP : forms[form].group;
    if (!forms[form].codes)
        return 0;
    return group ? (n_in + group - 1) / group : 1;
}

size_t glm4v_form_encode_scratch(glm4v_form form, int64_t n_in)
{
    const int64_t scales = glm4v_form_groups(form, false, n_in) * GLM4V_PANEL;
    return forms[form].cpu.panel_bytes(n_in) + scales * sizeof(float);
}

int64_t glm4v_rounding_group(glm4v_rounding rounding)
{
    switch (rounding) {
    case GLM4V_ROUND_NONE:
    case GLM4V_ROUND_BF16:
    case GLM4V_ROUND_FP8:
        break;
    case GLM4V_ROUND_INT8:
        return GLM4V_GROUP;
    case GLM4V_ROUND_INT8_32:
        return GLM4V_SMALL_GROUP;
    }
    return 0;
}

int64_t glm4v_rounding_least_group(void)
{
    int64_t least = GLM4V_GROUP;
    for (int i = 0; i < GLM4V_N_FORMS; i++) {
        const int64_t group = glm4v_rounding_group(forms[i].rounding);
        least = group && group < least ? group : least;
    }
    return least;
}

bool glm4v_form_fits(glm4v_form form, int64_t n_in)
{
    return !forms[form].group || n_in % forms[form].group == 0;
}
