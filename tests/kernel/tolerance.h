/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Largest errors of the vector forms against the C forms (which sum in double), one line per
 * operation, with the reason.
 * u = 2^-24 = 6.0e-8 is half a unit in the last place; a chain of K roundings errs by about u
 * sqrt(K) of the sum of magnitudes on random data. K is at most 4096 in the tests. Where a vector
 * has one value both limits speak of it: nmse is no smaller than the other one squared. */
#ifndef GLM4V_TOLERANCE_H
#define GLM4V_TOLERANCE_H

#include "check.h"

/* One rounding. */
#define TOL_ADD ((struct tolerance) { .nmse = 1e-14, .ulp = 0.51 })
/* exp 1 unit, the division and two products half a unit each; 4 units measured
 * on 2e8 random pairs, 3 over every gate. Denormal results may be flushed. */
#define TOL_SILU_MUL ((struct tolerance) { .nmse = 4e-13, .ulp = 5, .tiny = 0x1p-125 })
/* The tail's polynomial, its argument and the exponential 1 unit each, four products half a unit
 * each; over every float 7 units, which seven of them reach (0x1.e675ecp-5 is one). */
#define TOL_GELU ((struct tolerance) { .nmse = 7e-13, .ulp = 7, .tiny = 0x1p-125 })
/* 16 chains of at most 512 squares, all positive: relative error of the sum below 16 u, halved by
 * the root; three roundings after it. With add: the sum's rounding against a value that may be
 * larger. */
#define TOL_RMS_NORM ((struct tolerance) { .nmse = 1e-12, .max = 1e-6, .tiny = 0x1p-126 })
/* As above, and the mean's error, which is relative to the largest input. */
#define TOL_LAYER_NORM ((struct tolerance) { .nmse = 4e-12, .max = 2e-6, .tiny = 0x1p-126 })
/* Two products and a sum in fp32; cancellation makes the error relative to the largest value, not
 * to the result. */
#define TOL_ROPE ((struct tolerance) { .nmse = 1e-13, .max = 2e-7 })
/* A chain of K <= 4096 roundings; the largest output is about the sum of magnitudes over
 * sqrt(K). */
#define TOL_GEMM_F32 ((struct tolerance) { .nmse = 2e-11, .max = 2e-5 })
/* The same chain; vdpbf16ps also drops products and sums below 2^-126. */
#define TOL_GEMM_BF16 ((struct tolerance) { .nmse = 2e-11, .max = 2e-5 })
/* Exact within a group; at most 128 groups (of 32 inputs) in fp32, and two products. */
#define TOL_GEMM_INT ((struct tolerance) { .nmse = 1e-12, .max = 2e-6 })
/* Scores: a chain of head_dim <= 256 roundings. Peaky queries give scores up to some hundreds,
 * whose error of 1e-7 relative is 3e-5 in their exponentials; the values' chain of at most 700 keys
 * adds less. */
#define TOL_ATTENTION ((struct tolerance) { .nmse = 4e-9, .max = 1e-4 })

#endif
