/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Positions of the text model and of the vision tower. Called between prompt.c and prefill.c;
 * vision.c uses the tables. Frequencies and angles are rounded to fp32 where the reference rounds
 * them, cosines are computed in double: at position 8000 one rounding of the angle is 5e-4 rad,
 * more than anything else here. Source: docs/model.md. */
#include "forward/position.h"

#include <math.h>
#include <string.h>

#define CUBIC_A (-0.75)

/* Text runs count up. M-RoPE: a picture of H' x W' merged tokens has one t and uses max(H', W')
 * positions. One position: its rows share one; learned rows around them are text. */
void glm4v_positions(int32_t *position, int32_t *next, const glm4v_prompt *prompt,
                     const glm4v_config *config)
{
    const int64_t border = config->vision.border;
    const int64_t merge = config->vision.merge;
    int32_t at = 0;
    int32_t *t = position, *h = t + prompt->n_ids, *w = h + prompt->n_ids;
    int64_t i = 0;
    for (int64_t r = 0; r <= prompt->n_runs; r++) {
        const int64_t end = r < prompt->n_runs ? prompt->runs[r].start + border : prompt->n_ids;
        for (; i < end; i++, at++)
            t[i] = h[i] = w[i] = at;
        if (r == prompt->n_runs)
            break;
        const int32_t rows = (int32_t)(prompt->runs[r].grid_h / merge);
        const int32_t columns = (int32_t)(prompt->runs[r].grid_w / merge);
        for (int32_t y = 0; y < rows; y++)
            for (int32_t x = 0; x < columns; x++, i++) {
                t[i] = at;
                h[i] = config->text.one_position ? at : at + y;
                w[i] = config->text.one_position ? at : at + x;
            }
        if (config->text.one_position)
            at++;
        else
            at += rows > columns ? rows : columns;
    }
    *next = at;
}

/* base^(-2k / n) as the reference computes it: every step rounded to fp32. */
static float frequency(double base, int64_t k, int64_t n)
{
    return 1.0f / (float)pow(base, (float)(2 * k) / (float)n);
}

void glm4v_text_rotary(float *cos_, float *sin_, int64_t first, int64_t n,
                       const glm4v_text_config *text)
{
    const int64_t half = text->rotary_dim / 2;
    for (int64_t k = 0; k < half; k++) {
        const float f = frequency(text->rope_theta, k, text->rotary_dim);
        for (int64_t i = 0; i < n; i++) {
            const float angle = (float)(first + i) * f;
            cos_[i * half + k] = (float)cos(angle);
            sin_[i * half + k] = (float)sin(angle);
        }
    }
}

/* Row of patch (y, x) in merge-block-major order. */
static int64_t patch_row(int64_t y, int64_t x, int64_t grid_w, int64_t merge)
{
    int64_t block = y / merge * (grid_w / merge) + x / merge;
    return (block * merge + y % merge) * merge + x % merge;
}

/* Each angle is computed once for its row or column of patches, then spread over them. */
void glm4v_vision_rotary(float *cos_, float *sin_, int64_t grid_h, int64_t grid_w,
                         const glm4v_vision_config *vision)
{
    int64_t merge = vision->merge;
    int64_t half = vision->head_dim / 2, quarter = vision->head_dim / 4;
    for (int64_t k = 0; k < 2 * quarter; k++) {
        bool is_y = k < quarter;
        float f = frequency(vision->rope_theta, k % quarter, half);
        for (int64_t i = 0; i < (is_y ? grid_h : grid_w); i++) {
            float angle = (float)i * f;
            float c = (float)cos(angle), s = (float)sin(angle);
            for (int64_t j = 0; j < (is_y ? grid_w : grid_h); j++) {
                int64_t row =
                    is_y ? patch_row(i, j, grid_w, merge) : patch_row(j, i, grid_w, merge);
                cos_[row * half + k] = c;
                sin_[row * half + k] = s;
            }
        }
    }
}

/* The four taps of the cubic convolution around sample i of `to`, in a table of `from` samples. */
static void cubic_taps(int64_t index[4], float weight[4], int64_t i, int64_t to, int64_t from)
{
    double s = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    double base = floor(s), u = s - base, v = 1 - u, a = CUBIC_A;
    weight[0] = (float)((((u + 1) * a - 5 * a) * (u + 1) + 8 * a) * (u + 1) - 4 * a);
    weight[1] = (float)(((a + 2) * u - (a + 3)) * u * u + 1);
    weight[2] = (float)(((a + 2) * v - (a + 3)) * v * v + 1);
    weight[3] = (float)((((v + 1) * a - 5 * a) * (v + 1) + 8 * a) * (v + 1) - 4 * a);
    for (int64_t k = 0; k < 4; k++) {
        int64_t at = (int64_t)base + k - 1;
        if (at < 0)
            at = 0;
        index[k] = at < from ? at : from - 1;
    }
}

/* y += wy * (sum of w[k] * row[k]) */
static void add_row(float *restrict y, const float *const row[4], const float w[4], float wy,
                    int64_t n)
{
    const float *restrict a = row[0], *restrict b = row[1], *restrict c = row[2],
                          *restrict d = row[3];
    for (int64_t i = 0; i < n; i++)
        y[i] += wy * (w[0] * a[i] + w[1] * b[i] + w[2] * c[i] + w[3] * d[i]);
}

void glm4v_vision_positions(float *out, const float *table, int64_t grid_h, int64_t grid_w,
                            const glm4v_vision_config *vision)
{
    int64_t side = vision->table_side, n = vision->hidden;
    for (int64_t y = 0; y < grid_h; y++) {
        int64_t iy[4], ix[4];
        float wy[4], wx[4];
        cubic_taps(iy, wy, y, grid_h, side);
        for (int64_t x = 0; x < grid_w; x++) {
            float *patch = out + patch_row(y, x, grid_w, vision->merge) * n;
            cubic_taps(ix, wx, x, grid_w, side);
            memset(patch, 0, n * sizeof *patch);
            for (int k = 0; k < 4; k++) {
                const float *row[4];
                for (int j = 0; j < 4; j++)
                    row[j] = table + (iy[k] * side + ix[j]) * n;
                if (wy[k] != 0) /* three of four at the table's own size */
                    add_row(patch, row, wx, wy[k], n);
            }
        }
    }
}

void glm4v_vision_table(float *out, const float *table, const float *class_row,
                        const glm4v_vision_config *vision)
{
    const int64_t side = vision->table_side;
    const int64_t n = vision->hidden, P = side * side;
    for (int64_t y = 0; y < side; y++)
        for (int64_t x = 0; x < side; x++)
            memcpy(out + patch_row(y, x, side, vision->merge) * n, table + (1 + y * side + x) * n,
                   n * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        out[P * n + i] = class_row[i] + table[i];
}
