/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weight forms: how the numbers of a matrix are kept, in memory and on disk, and the matrices and
 * tables kept in them. One table has everything that differs between forms; other code reads that
 * table. A new form is one enumerator, one row and its kernels. */
#ifndef GLM4V_ENGINE_FORMS_H
#define GLM4V_ENGINE_FORMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "convert.h"
#include "gemm.h"

/* How the numbers of a matrix are kept.
 *   F32, BF16  as they are. BF16: activations are rounded to bf16 for the product, sums are fp32.
 *   INT8       per output channel, symmetric: w = scale[n] * q, q in [-127, 127] (codes of others:
 *              -128 too).
 *   INT4       groups of 128 inputs, w = scale[n][g] * (q - zero), q in [0, 15], zero = 8 where
 *              none is stored, else in [0, 16].
 *   INT4_32    the same in groups of 32 inputs, activations too.
 *   FP8        e4m3, w = scale[n] * q, or in blocks scale[n][g] * q. Activations as under BF16.
 *   FP8_DYNAMIC  weights as FP8 with one scale an output; activations are rounded to e4m3 with one
 *              scale a row (max|x| / 448).
 * INT8, INT4: activations are rounded to int8 per row and group of 128 (scale = max|x| / 127;
 * INT4_32: group of 32), sums are exact int32 within a group and fp32 across groups. */
typedef enum {
    GLM4V_FORM_F32,
    GLM4V_FORM_BF16,
    GLM4V_FORM_INT8,
    GLM4V_FORM_INT4,
    GLM4V_FORM_FP8,
    GLM4V_FORM_INT4_32,
    GLM4V_FORM_FP8_DYNAMIC,
    GLM4V_N_FORMS
} glm4v_form;

/* How the activations of a product are rounded. */
typedef enum {
    GLM4V_ROUND_NONE,
    GLM4V_ROUND_BF16,
    GLM4V_ROUND_INT8,    /* per row and group of 128, by quantize_row of gemm.h */
    GLM4V_ROUND_INT8_32, /* per row and group of 32, by quantize_row_32 */
    GLM4V_ROUND_FP8,     /* per row, by fp8_row */
} glm4v_rounding;

/* How a matrix of the form lies in a checkpoint (compressed-tensors). */
typedef enum {
    GLM4V_LAYOUT_PLAIN, /* NAME.weight [n, k] */
    GLM4V_LAYOUT_BYTES, /* codes NAME.weight [n, k], NAME.weight_scale F32 [n, groups] */
    GLM4V_LAYOUT_WORDS, /* codes NAME.weight_packed I32 [n, k * bits / 32], low bits first,
                         * NAME.weight_scale F32 [n, groups], NAME.weight_shape I64 [2] */
} glm4v_layout;

/* A form's kernels on the CPU: how a panel of 16 outputs is made, read and multiplied. */
typedef struct {
    size_t (*panel_bytes)(int64_t K);
    glm4v_gemm_fn (*product)(const glm4v_gemm_ops *ops);
    /* n <= 16 rows f32 [n, K] into a panel; scale [groups][16] where the form has scales */
    void (*pack)(const glm4v_gemm_ops *ops, void *panel, float *scale, const float *rows, int64_t n,
                 int64_t K);
    /* codes [n, K], one a byte; NULL where the form has none */
    void (*pack_codes)(const glm4v_gemm_ops *ops, void *panel, const uint8_t *q, int64_t n,
                       int64_t K);
    void (*unpack_codes)(uint8_t *q, const void *panel, int64_t n, int64_t K);
    /* rows f32 [n, K] to codes [n, K] and scales [n][groups] as files hold them; scratch: of
     * glm4v_form_encode_scratch() bytes. NULL where the form has no codes */
    void (*encode)(const glm4v_gemm_ops *ops, const glm4v_convert_ops *convert, uint8_t *q,
                   float *scale, const float *rows, int64_t n, int64_t K, void *scratch);
    /* codes as words [n, K / 8]; NULL where the form has none */
    void (*pack_words)(const glm4v_gemm_ops *ops, void *panel, const uint32_t *words, int64_t n,
                       int64_t K);
    /* n rows of a table of `cols` columns from row `row` on, and one of them back; NULL where the
     * form has no tables */
    void (*table_fill)(const glm4v_convert_ops *ops, void *data, float *scale, int64_t row,
                       int64_t n, const float *rows, int64_t cols);
    void (*table_row)(const glm4v_convert_ops *ops, float *y, const void *data, const float *scale,
                      int64_t row, int64_t cols);
    /* the numbers that a panel stands for, f32 [n, K]; zero: NULL = 8 */
    void (*unpack)(float *rows, const void *panel, const float *scale, const uint8_t *zero,
                   bool blocks, int64_t n, int64_t K);
} glm4v_form_cpu;

/* The traits of a form: one row of the table in forms.c. */
typedef struct {
    const char *name;        /* as the option `quantization` spells it */
    int bits;                /* of a number or code */
    bool codes;              /* codes and scales; else numbers as they are */
    bool floating;           /* codes are e4m3; else integers */
    int64_t group;           /* of codes: inputs that share a scale; 0 = all of a row */
    bool zeros;              /* codes may have zero points */
    bool blocks;             /* a scale for each 128 inputs instead of one a row is possible */
    bool ordered;            /* inputs may be permuted */
    bool table;              /* rows can be looked up (embedding) */
    glm4v_rounding rounding; /* of activations */
    /* The form used instead for a matrix whose inputs are not whole groups, and for small parts of
     * a model where this form would lose the most (items marked fine); the form itself if it is
     * never replaced. */
    glm4v_form finer;
    /* The form whose codes and scales these are, by which a checkpoint holds them: itself, unless
     * two forms differ in the rounding of activations alone. */
    glm4v_form stored;
    glm4v_layout layout; /* on disk */
    const char *dtype;   /* of the numbers or codes there, as safetensors spells it */
    const char *format;  /* of codes: "format" of quantization_config */
    glm4v_form_cpu cpu;
} glm4v_form_traits;

/* The form's row. */
const glm4v_form_traits *glm4v_form_of(glm4v_form form);

const char *glm4v_form_name(glm4v_form form);             /* "fp32", "bf16", "int8", "int4", ... */
int glm4v_form_parse(glm4v_form *form, const char *name); /* 0 or GLM4V_ERR_INVALID */
/* The names of all forms, or of those that can be tables: "fp32, bf16 or int8". */
const char *glm4v_form_names(char *text, size_t size, bool tables);

/* Scales of one output of a matrix of n_in inputs; 0: the form has none. */
int64_t glm4v_form_groups(glm4v_form form, bool blocks, int64_t n_in);
/* Inputs that share one of them. */
int64_t glm4v_form_group(glm4v_form form, bool blocks, int64_t n_in);
/* Bytes of scratch, 64-byte aligned, that encode takes. */
size_t glm4v_form_encode_scratch(glm4v_form form, int64_t n_in);
/* Inputs that share a scale in activations rounded so; 0: there are no groups. */
int64_t glm4v_rounding_group(glm4v_rounding rounding);
/* The least of them over all forms: room for its scales is enough for all, and for one a row. */
int64_t glm4v_rounding_least_group(void);
/* Whether a matrix of n_in inputs can be kept in it: whole groups. */
bool glm4v_form_fits(glm4v_form form, int64_t n_in);

/* What a matrix in memory has to hold. */
typedef struct {
    glm4v_form form;
    int64_t n_out, n_in;
    bool zeros;   /* INT4: zero points, filled by codes */
    bool blocks;  /* FP8: a scale per output and 128 inputs, filled by codes */
    bool ordered; /* inputs are permuted (GPTQ by order of activation); not F32 */
} glm4v_weight_kind;

/* A matrix [n_out, n_in] in the device's own layout. n_out = 0: not present. */
typedef struct {
    glm4v_form form;
    int64_t n_out, n_in;
    void *data;    /* panels, see kernels/gemm.h */
    float *scale;  /* INT8, FP8s [n_out], INT4 and blocks [n_out][groups] in panel order, or NULL */
    uint8_t *zero; /* INT4 with zero points, same order; NULL = 8 */
    int32_t *order; /* [n_in]: input k of the panels is input order[k] of x; NULL = k */
    bool blocks;    /* FP8 with a scale per group of 128 inputs */
    uint64_t bytes; /* of data, scale, zero and order */
} glm4v_weight;

/* Rows of a matrix that is quantized already, in host memory. */
typedef struct {
    /* [n][n_in]: INT8 two's complement, INT4 0..15 one a byte, FP8 e4m3 but no NaN */
    const uint8_t *q;
    /* INT4, instead of q: [n][n_in / 8], input 8b + i in bits 4i to 4i + 3 of word b */
    const uint32_t *words;
    const float *scale;  /* INT8, FP8 [n]; INT4 and FP8 in blocks [n][n_in / 128, rounded up] */
    const uint8_t *zero; /* INT4 of a kind with zeros: [n][n_in / 128], 0..16; NULL = 8 */
} glm4v_codes;

/* A table of rows for look-up (embedding), row-major. Forms F32, BF16, INT8 (scale per row). */
typedef struct {
    glm4v_form form;
    int64_t n_rows, n_cols;
    void *data;
    float *scale;
    uint64_t bytes;
} glm4v_table;

#endif
