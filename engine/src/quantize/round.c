/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See quantize/round.h. Rows are worked on sixteen at a time, side by side: [K][16]. */
#include "quantize/round.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define LANES GLM4V_ROUND_ROWS
#define MAX_GROUP GLM4V_GROUP
#define BLOCK 64      /* columns of the factor found at a time */
#define DAMPING 0.01f /* of the mean of H's diagonal: directions that were hardly seen */
#define TASK_ROWS 16

/* ---- the factor ---- */

/* Sum of a b over n: sixteen chains, added in a fixed order. */
static float dot(const float *a, const float *b, int64_t n)
{
    float chain[LANES] = { 0 }, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            chain[l] += a[i + l] * b[i + l];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int l = 0; l < LANES; l++)
        sum += chain[l];
    return sum;
}

typedef struct {
    glm4v_round_moments *m;
    int64_t first, end; /* columns of the factor; rows of other tasks from end on */
} factor_block;

/* L[i][j] of one row, columns of the block below j. */
static void factor_row(const factor_block *f, int64_t i)
{
    const int64_t K = f->m->K, end = i < f->end ? i + 1 : f->end;
    float *row = f->m->second + i * K;
    for (int64_t j = f->first; j < end; j++) {
        const float *other = f->m->second + j * K;
        const float rest = row[j] - dot(row, other, j);
        if (j < i)
            row[j] = rest / other[j];
        else /* never below what was added: what is less is rounding error */
            row[j] = sqrtf(rest > f->m->damping ? rest : f->m->damping);
    }
}

static void factor_rows(void *user, int64_t task, int64_t thread)
{
    const factor_block *f = user;
    const int64_t first = f->end + task * TASK_ROWS;
    for (int64_t i = first; i < first + TASK_ROWS && i < f->m->K; i++)
        factor_row(f, i);
}

/* H -> L in place, lower triangle: block by block of columns, what is left of them done. */
static void factor(glm4v_round_moments *m, glm4v_pool *pool)
{
    for (int64_t first = 0; first < m->K; first += BLOCK) {
        const int64_t end = m->K - first < BLOCK ? m->K : first + BLOCK;
        factor_block f = { .m = m, .first = first, .end = end };
        for (int64_t i = first; i < f.end; i++)
            factor_row(&f, i);
        glm4v_pool_run(pool, ((m->K - f.end + TASK_ROWS - 1) / TASK_ROWS), factor_rows, &f);
    }
}

/* Rows of C -> C - H. */
static void subtract_rows(void *user, int64_t task, int64_t thread)
{
    const glm4v_round_moments *m = user;
    const int64_t K = m->K;
    for (int64_t i = task * TASK_ROWS; i < (task + 1) * TASK_ROWS; i++)
        for (int64_t j = 0; j < K; j++)
            m->cross[i * K + j] -= j <= i ? m->second[i * K + j] : m->second[j * K + i];
}

void glm4v_round_prepare(glm4v_round_moments *m, glm4v_pool *pool)
{
    const int64_t K = m->K;
    double sum = 0;
    for (int64_t i = 0; i < K; i++)
        sum += (double)m->second[i * K + i];
    m->damping = DAMPING * (float)(sum / (double)K);
    if (!(m->damping > 1e-20f)) /* inputs that are all zero: as rounding to nearest */
        m->damping = 1e-20f;
    glm4v_pool_run(pool, (m->K / TASK_ROWS), subtract_rows, m);
    for (int64_t i = 0; i < K; i++)
        m->second[i * K + i] += m->damping;
    factor(m, pool);
}

/* ---- the rows ---- */

/* y [n][16] += sum over j in [from, K) of e[j] [16] * a[j][k]; four j at a time, so that y
 * is read and written a quarter as often. K and from are multiples of 32. */
static void gather(float *restrict y, const float *e, const float *a, int64_t K, int64_t from,
                   int64_t n)
{
    for (int64_t j = from; j < K; j += 4) {
        const float *row = a + j * K, *x = e + j * LANES;
        for (int64_t k = 0; k < n; k++) {
            const float r[4] = { row[k], row[k + K], row[k + 2 * K], row[k + 3 * K] };
            for (int l = 0; l < LANES; l++)
                y[k * LANES + l] += (x[l] * r[0] + x[LANES + l] * r[1]) +
                                    (x[2 * LANES + l] * r[2] + x[3 * LANES + l] * r[3]);
        }
    }
}

/* w' - w, [K][16]: w (C - H) L^-T L^-1. */
static void correction(const glm4v_round_moments *m, float *z, const float *w)
{
    const int64_t K = m->K, group = m->group;
    memset(z, 0, K * LANES * sizeof *z);
    for (int64_t g = 0; g < K; g += group)
        gather(z + g * LANES, w, m->cross + g, K, 0, group);
    for (int64_t k = 0; k < K; k++) { /* z L^T = v */
        const float *row = m->second + k * K;
        float sum[LANES] = { 0 };
        for (int64_t j = 0; j < k; j++)
            for (int l = 0; l < LANES; l++)
                sum[l] += z[j * LANES + l] * row[j];
        for (int l = 0; l < LANES; l++)
            z[k * LANES + l] = (z[k * LANES + l] - sum[l]) / row[k];
    }
    for (int64_t g = K - group; g >= 0; g -= group) { /* z L = v */
        float sum[MAX_GROUP * LANES] = { 0 };
        gather(sum, z, m->second + g, K, g + group, group);
        for (int64_t k = g + group - 1; k >= g; k--) {
            const float *row = m->second + k * K;
            float *x = z + k * LANES;
            for (int l = 0; l < LANES; l++)
                x[l] = (x[l] - sum[(k - g) * LANES + l]) / row[k];
            for (int64_t j = g; j < k; j++)
                for (int l = 0; l < LANES; l++)
                    sum[(j - g) * LANES + l] += x[l] * row[j];
        }
    }
}

/* Nearest even of x in [-8, 7]. */
static inline float nearest(float x)
{
    const float magic = 12582912; /* 1.5 * 2^23: its last bit is worth one */
    x = x > -8 ? x : -8;
    x = x < 7 ? x : 7;
    return x + magic - magic;
}

/* One group as rounding goes on: the errors made and the codes, [group][16]. */
typedef struct {
    float error[MAX_GROUP * LANES];
    float code[MAX_GROUP * LANES];
    float loss[LANES];
} group_result;

/* Round a group with the given scales [16]. sum [group][16]: the corrections for errors behind the
 * group, before the division. */
static void round_group(const glm4v_round_moments *m, int64_t g, const float *w, const float *sum,
                        const float *scale, group_result *r)
{
    float ask[MAX_GROUP * LANES], inverse[LANES];
    memcpy(ask, sum, m->group * LANES * sizeof *ask);
    for (int l = 0; l < LANES; l++) {
        inverse[l] = scale[l] > 0 ? 1 / scale[l] : 0;
        r->loss[l] = 0;
    }
    for (int64_t k = m->group - 1; k >= 0; k--) {
        const float *row = m->second + (g + k) * m->K + g;
        const float pivot = row[k], reciprocal = 1 / pivot;
        float *code = r->code + k * LANES, *error = r->error + k * LANES;
        for (int l = 0; l < LANES; l++) {
            const float x = w[k * LANES + l] + ask[k * LANES + l] * reciprocal;
            code[l] = nearest(x * inverse[l]);
            const float left = (x - code[l] * scale[l]) * pivot;
            r->loss[l] += left * left;
            error[l] = w[k * LANES + l] - code[l] * scale[l];
        }
        for (int64_t j = 0; j < k; j++)
            for (int l = 0; l < LANES; l++)
                ask[j * LANES + l] += error[l] * row[j];
    }
}

/* The best scales of a group, and its codes and errors with them. */
static void choose_group(const glm4v_round_moments *m, int64_t g, const float *w, const float *sum,
                         float *scale, group_result *r)
{
    static const float divisors[] = GLM4V_INT4_DIVISORS;
    float largest[LANES] = { 0 }, tried[LANES], least[LANES] = { 0 };
    for (int64_t k = 0; k < m->group; k++) {
        const float reciprocal = 1 / m->second[(g + k) * m->K + (g + k)];
        for (int l = 0; l < LANES; l++) {
            const float x = fabsf(w[k * LANES + l] + sum[k * LANES + l] * reciprocal);
            largest[l] = x > largest[l] ? x : largest[l];
        }
    }
    for (size_t d = 0; d < sizeof divisors / sizeof *divisors; d++) {
        for (int l = 0; l < LANES; l++)
            tried[l] = largest[l] / divisors[d];
        round_group(m, g, w, sum, tried, r);
        for (int l = 0; l < LANES; l++)
            if (!d || r->loss[l] < least[l]) {
                least[l] = r->loss[l];
                scale[l] = tried[l];
            }
    }
    round_group(m, g, w, sum, scale, r);
}

size_t glm4v_round_scratch(int64_t K)
{
    return 2 * K * LANES + (sizeof(group_result) + 63) / 64 * 16;
}

void glm4v_round_rows(const glm4v_round_moments *m, const float *w, int64_t n, uint8_t *q,
                      float *scale, float *scratch)
{
    const int64_t K = m->K, size = m->group, groups = K / size;
    float *wanted = scratch, *error = wanted + K * LANES;
    group_result *r = (group_result *)(void *)(error + K * LANES);
    for (int64_t k = 0; k < K; k++)
        for (int64_t l = 0; l < LANES; l++)
            wanted[k * LANES + l] = l < n ? w[l * K + k] : 0;
    correction(m, error, wanted);
    for (int64_t i = 0; i < K * LANES; i++)
        wanted[i] += error[i];
    for (int64_t group = groups - 1; group >= 0; group--) {
        const int64_t g = group * size;
        float sum[MAX_GROUP * LANES] = { 0 }, step[LANES];
        gather(sum, error, m->second + g, K, g + size, size);
        choose_group(m, g, wanted + g * LANES, sum, step, r);
        memcpy(error + g * LANES, r->error, size * LANES * sizeof *error);
        for (int64_t l = 0; l < n; l++) {
            scale[l * groups + group] = step[l];
            for (int64_t k = 0; k < size; k++)
                q[l * K + (g + k)] = (uint8_t)(8 + (int)r->code[k * LANES + l]);
        }
    }
}
