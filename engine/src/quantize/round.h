/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The numbers of calibration: rounding a matrix [N, K] to int4 so that the error of its products
 * with the inputs that were seen is small, not the error of each weight. Private to calibrate*.c.
 *
 * With H = sum x x^T over the inputs x of the quantized model, and C = sum f x^T with f the inputs
 * that the same rows have in the original model, row w is to become w^ with least
 * sum (w f - w^ x)^2. Without rounding the best is w' = w + w (C - H) H^-1, which also corrects the
 * errors of earlier matrices. Then with H = L L^T the rest is sum_k (sum_{j >= k} e_j L_jk)^2 of e
 * = w' - w^: from the last input to the first, each weight is rounded after adding the correction
 * for the errors behind it, sum_{j > k} e_j L_jk / L_kk. The scale of a group is the one of
 * GLM4V_INT4_DIVISORS whose rounding, done in this way, leaves the least of that sum.
 *
 * Sources: GPTQ, arXiv:2210.17323; as a Cholesky factor without inverse, QuIP, arXiv:2307.13304;
 * the original's inputs, GPTAQ, arXiv:2504.02692. */
#ifndef GLM4V_ENGINE_CALIBRATE_ROUND_H
#define GLM4V_ENGINE_CALIBRATE_ROUND_H

#include "base/pool.h"
#include "gemm.h"

#define GLM4V_ROUND_ROWS GLM4V_PANEL /* at a time, the lanes of a vector */

/* Second moments of one matrix's inputs, both [K, K], K a multiple of the group. */
typedef struct {
    float *second; /* H: [i][j], j <= i; then L */
    float *cross;  /* C; then C - H */
    int64_t K;
    int64_t group; /* inputs that share a scale: 32 or 128 */
    float damping; /* added to H's diagonal, from prepare on */
} glm4v_round_moments;

/* Turn H and C into what rounding needs. The bytes do not depend on the pool. */
void glm4v_round_prepare(glm4v_round_moments *m, glm4v_pool *pool);

/* Floats of scratch that a call of glm4v_round_rows() needs. */
size_t glm4v_round_scratch(int64_t K);

/* n <= 16 rows w [n, K] to codes q [n, K] (0..15, zero 8) and scale [n, K / group]. */
void glm4v_round_rows(const glm4v_round_moments *m, const float *w, int64_t n, uint8_t *q,
                      float *scale, float *scratch);

#endif
