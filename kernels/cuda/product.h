/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* y [rows, n_out] = x [rows, n_in] w [n_out, n_in]^T: weights in device memory, how they are
 * packed, how activations are rounded for them, and products for decode and for prefill.
 *
 * Matrices are row-major in all forms, so that one copy serves both kinds of products:
 *   F32   float    [n_out][n_in]
 *   BF16  uint16   [n_out][ld]   ld = n_in rounded up to 8
 *   INT8  int8     [n_out][ld]   ld = n_in rounded up to 16; scale f32 [n_out]
 *   FP8   e4m3     [n_out][ld]   ld = n_in rounded up to 64, bits as matrix.cuh says; scale f32
 *                                [n_out], or with `blocks` [n_out][ceil(n_in / 128)]. No NaN codes
 *   FP8_DYNAMIC    e4m3 [n_out][ld], in order; ld and scale as those of INT8. No NaN codes
 *   INT4  nibbles  [n_out][n_in / 2], in the order of matrix.cuh; scale f32 [n_out][n_in / 128],
 *                  zero uint8 likewise or NULL = 8
 *   INT4_32        the same in groups of 32; n_in here rounded up to 128
 * Elements between n_in and ld are 0. Rows begin at multiples of 16 bytes, the matrix at 256.
 *
 * Activations: for INT8, INT4 and INT4_32 rounded to int8 per row and group exactly as
 * kernels/gemm.h quantize_row and quantize_row_32 do (same codes, same scales from the same bf16
 * inputs); int32 sums in a group, exact; f32 over groups. FP8_DYNAMIC: to e4m3 with one scale a
 * row, exactly as fp8_row of kernels/gemm.h does; f32 sums of the codes. BF16 and FP8: bf16 as they
 * are, f32 sums. F32: inputs bf16, weights f32, f32 sums. Then y = sum (* scale) (* scale of the
 * row) + bias, then + old y if add, once rounded to bf16 (or f32 as asked).
 *
 * FP8_DYNAMIC in prefill: cuBLASLt multiplies, and leaves sums without scales, as bf16. What makes
 * y of them is part of the kernel that follows where there is one (glm4v_cuda_sums).
 *
 * Decode products read each weight once and serve up to 64 rows; the order of their sums depends on
 * n_in and the form only. Prefill products serve any number of rows; their order depends on n_in,
 * n_out and the form only. Which of the two serves a row depends on its queue, never on how many
 * rows there are. Logits always take the decode product. */
#ifndef GLM4V_CUDA_PRODUCT_H
#define GLM4V_CUDA_PRODUCT_H

#include "launch.h"

enum { GLM4V_CUDA_DECODE_ROWS = 64 };

typedef enum {
    GLM4V_CUDA_F32,
    GLM4V_CUDA_BF16,
    GLM4V_CUDA_INT8,
    GLM4V_CUDA_INT4,
    GLM4V_CUDA_FP8,
    GLM4V_CUDA_INT4_32,
    GLM4V_CUDA_FP8_DYNAMIC,
} glm4v_cuda_form; /* in the order of glm4v_form */

typedef struct {
    glm4v_cuda_form form;
    int32_t n_out, n_in;
    bool blocks;
    void *data;
    float *scale;   /* or NULL */
    uint8_t *zero;  /* or NULL */
    int32_t *order; /* [n_in]: input k of the matrix is input order[k] of x; NULL = k */
} glm4v_cuda_matrix;

/* Bytes of data, scale, zero and order, each rounded up to 256. */
typedef struct {
    size_t data, scale, zero, order;
} glm4v_cuda_matrix_bytes;
GLM4V_CUDA_API glm4v_cuda_matrix_bytes glm4v_cuda_matrix_size(glm4v_cuda_form form, int32_t n_out,
                                                              int32_t n_in, bool blocks, bool zeros,
                                                              bool ordered);

/* ---- packing: rows [row, row + n) of a matrix from rows in device memory ---- */

/* From f32 [n, n_in]: quantizes as the CPU's pack functions of kernels/gemm.h do, same codes and
 * scales (zero points 8). */
GLM4V_CUDA_API cudaError_t glm4v_cuda_pack_f32(cudaStream_t stream, const glm4v_cuda_matrix *w,
                                               int32_t row, int32_t n, const float *rows);
/* BF16 from bf16 [n, n_in]. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_pack_bf16(cudaStream_t stream, const glm4v_cuda_matrix *w,
                                                int32_t row, int32_t n, const glm4v_bf16 *rows);
/* Codes one a byte, [n, n_in]: INT8 two's complement, FP8s e4m3, INT4 and INT4_32 0..15. Scales and
 * zeros are copied by the caller: they lie as files have them. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_pack_codes(cudaStream_t stream, const glm4v_cuda_matrix *w,
                                                 int32_t row, int32_t n, const uint8_t *codes);
/* INT4 and INT4_32 from words [n, n_in / 8], input 8b + i in bits 4i of word b. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_pack_words(cudaStream_t stream, const glm4v_cuda_matrix *w,
                                                 int32_t row, int32_t n, const uint32_t *words);
/* n seeded random numbers, uniform with this mean and standard deviation: numbers [first, first +
 * n) of the seed's sequence. For pack_f32 and table_fill. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_random_f32(cudaStream_t stream, float *rows, size_t n,
                                                 uint64_t seed, uint64_t first, float mean,
                                                 float deviation);

/* ---- activations ---- */

/* Rounded activations: q int8 [rows][n_in rounded up to 128, the rest 0] and scale f32
 * [rows][groups]; for FP8_DYNAMIC e4m3 likewise and scale f32 [rows]; for BF16, FP8 and F32 only
 * with an order, or where n_in is not a multiple of 8: bf16 [rows][n_in rounded up to 8]. By group
 * scales lie [groups of the filled row][rows rounded up to 16], 0 for groups of zeros: prefill
 * products in tiles want them so. */
typedef struct {
    void *q;
    float *scale;
    int64_t ldq, ldscale; /* elements between rows */
    int64_t ldgroup;      /* between the scales of a row's groups */
    bool by_group;        /* set before rounding: scales lie by group */
} glm4v_cuda_rounded;
/* Bytes of q and of scale for any form of n_in inputs. */
GLM4V_CUDA_API void glm4v_cuda_rounded_size(int32_t rows, int32_t n_in, size_t *q, size_t *scale);
/* Does a product with w need rounded activations? Otherwise it takes x itself. */
GLM4V_CUDA_API bool glm4v_cuda_rounds(const glm4v_cuda_matrix *w);
/* x [rows, n_in] -> out, as w wants it; rows of x may begin anywhere. Sets out's ldq, ldscale and
 * ldgroup; q and scale are the caller's. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_round(cudaStream_t stream, glm4v_cuda_rounded *out,
                                            const glm4v_cuda_matrix *w, const glm4v_bf16 *x,
                                            int64_t ldx, int32_t rows);

/* ---- products ---- */

typedef enum {
    GLM4V_CUDA_PLAIN,
    GLM4V_CUDA_GELU,     /* y = gelu(sum), erf form */
    GLM4V_CUDA_SILU_MUL, /* y [rows, n_out / 2] = silu(gate) * up: w's first half of rows is gate */
} glm4v_cuda_epilogue;

typedef struct {
    void *y; /* bf16, or f32 with y_f32 */
    int64_t ldy;
    const glm4v_cuda_matrix *w;
    const float *bias;   /* [n_out] or NULL */
    const glm4v_bf16 *x; /* where glm4v_cuda_rounds(w) is false */
    int64_t ldx;
    glm4v_cuda_rounded rounded; /* else */
    int32_t rows;
    glm4v_cuda_epilogue epilogue;
    bool add, y_f32;
    bool raw; /* FP8_DYNAMIC in prefill: y bf16 is the sums of codes; no bias, epilogue or add */
} glm4v_cuda_product;

/* rows <= GLM4V_CUDA_DECODE_ROWS. All forms, all epilogues. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_decode_product(cudaStream_t stream,
                                                     const glm4v_cuda_product *p);

/* Which algorithm of cuBLASLt serves the prefill products of a BF16 or FP8_DYNAMIC matrix, whatever
 * the number of rows. The bits mean something to one version of the library only. */
typedef struct {
    int32_t n_out, n_in;
    bool f32; /* sums of f32, not bf16 */
    bool fp8; /* of e4m3 codes: FP8_DYNAMIC */
    uint64_t algorithm[8];
} glm4v_cuda_choice;

enum { GLM4V_CUDA_CHOICES = 64 }; /* shapes, at most; others go without cuBLASLt */

/* For shapes without a choice the library is asked for its own; with `tune` all algorithms that it
 * offers are timed when a product of the shape comes first, with its rows. That call allocates and
 * waits, other than launch.h says. What the product adds to is kept meanwhile, so its result is
 * right in any process. */
typedef struct {
    const glm4v_cuda_choice *choice;
    int n;
    bool tune;
} glm4v_cuda_choices;

/* Version of cuBLASLt. */
GLM4V_CUDA_API size_t glm4v_cuda_prefill_version(void);

/* What prefill products need: a cuBLASLt handle and its workspace, room for sums, what is known of
 * the device. One object a stream; opened and closed by the host side. */
typedef struct glm4v_cuda_prefill glm4v_cuda_prefill;
/* Allocates device memory; *bytes counts it. choices are copied. On an error *prefill is NULL. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_prefill_open(glm4v_cuda_prefill **prefill, size_t *bytes,
                                                   const glm4v_cuda_choices *choices);
/* Do its products want scales by group? Decode products never do. */
GLM4V_CUDA_API bool glm4v_cuda_prefill_by_group(const glm4v_cuda_prefill *prefill);
/* The choices in use, in the order of their first products: their number. */
GLM4V_CUDA_API int glm4v_cuda_prefill_choices(const glm4v_cuda_prefill *prefill,
                                              glm4v_cuda_choice choice[GLM4V_CUDA_CHOICES]);
GLM4V_CUDA_API void glm4v_cuda_prefill_close(glm4v_cuda_prefill *prefill);
GLM4V_CUDA_API cudaError_t glm4v_cuda_prefill_product(cudaStream_t stream,
                                                      glm4v_cuda_prefill *prefill,
                                                      const glm4v_cuda_product *p);

/* ---- from the sums of a raw product to what follows ---- */

/* Sums of codes bf16 [rows, n_out], and what makes numbers of them: sum * column[n] * row[t] +
 * bias[n]. */
typedef struct {
    const glm4v_bf16 *sums;
    int64_t ld;
    const float *column, *row; /* scales of the matrix and of the rounded rows */
    const float *bias;         /* or NULL */
    int32_t rows, n_out;
} glm4v_cuda_sums;

/* y (+)= epilogue(numbers), rounded to bf16 once. y may be the sums, but for SILU_MUL. */
GLM4V_CUDA_API cudaError_t glm4v_cuda_finish_sums(cudaStream_t stream, glm4v_bf16 *y, int64_t ldy,
                                                  const glm4v_cuda_sums *s,
                                                  glm4v_cuda_epilogue epilogue, bool add);
/* SILU_MUL of the numbers, rounded to bf16 and then as glm4v_cuda_round does for w, an FP8_DYNAMIC
 * matrix of n_out / 2 inputs, at most GLM4V_CUDA_SILU_INPUTS, without an order. */
enum { GLM4V_CUDA_SILU_INPUTS = 16384 };
GLM4V_CUDA_API cudaError_t glm4v_cuda_silu_round(cudaStream_t stream, glm4v_cuda_rounded *out,
                                                 const glm4v_cuda_matrix *w,
                                                 const glm4v_cuda_sums *s);

#endif
