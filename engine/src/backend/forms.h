/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weight forms: how the numbers of a matrix are kept in memory, and the matrices and tables kept
 * in them. */
#ifndef GLM4V_ENGINE_FORMS_H
#define GLM4V_ENGINE_FORMS_H

#include <stdbool.h>
#include <stdint.h>

/* How the numbers of a matrix are kept.
 *   F32, BF16  as they are. BF16: activations are rounded to bf16 for the product, sums are fp32.
 *   INT8       per output channel, symmetric: w = scale[n] * q, q in [-127, 127] (codes of others:
 *              -128 too).
 *   INT4       groups of 128 inputs, w = scale[n][g] * (q - zero), q in [0, 15], zero = 8 where
 *              none is stored, else in [0, 16].
 *   FP8        e4m3, w = scale[n] * q, or in blocks scale[n][g] * q. Activations as under BF16.
 * INT8, INT4: activations are rounded to int8 per row and group of 128 (scale = max|x| / 127), sums
 * are exact int32 within a group and fp32 across groups. */
typedef enum {
    GLM4V_FORM_F32,
    GLM4V_FORM_BF16,
    GLM4V_FORM_INT8,
    GLM4V_FORM_INT4,
    GLM4V_FORM_FP8,
    GLM4V_N_FORMS
} glm4v_form;

const char *glm4v_form_name(glm4v_form form); /* "fp32", "bf16", "int8", "int4", "fp8" */
int glm4v_form_parse(glm4v_form *form, const char *name); /* 0 or GLM4V_ERR_INVALID */

/* What a matrix in memory has to hold. */
typedef struct {
    glm4v_form form;
    int32_t n_out, n_in;
    bool zeros;   /* INT4: zero points, filled by codes */
    bool blocks;  /* FP8: a scale per output and 128 inputs, filled by codes */
    bool ordered; /* inputs are permuted (GPTQ by order of activation); not F32 */
} glm4v_weight_kind;

/* A matrix [n_out, n_in] in the device's own layout. n_out = 0: not present. */
typedef struct {
    glm4v_form form;
    int32_t n_out, n_in;
    void *data;     /* panels, see kernels/gemm.h */
    float *scale;   /* INT8, FP8 [n_out], INT4 and blocks [n_out][groups] in panel order, or NULL */
    uint8_t *zero;  /* INT4 with zero points, same order; NULL = 8 */
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
    int32_t n_rows, n_cols;
    void *data;
    float *scale;
    uint64_t bytes;
} glm4v_table;

#endif
