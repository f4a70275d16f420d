/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bicubic resize, horizontal pass first, each pass rounded to 8 bits; a pass whose size does not
 * change is skipped. Called by preprocess.c. Every expression is evaluated in double in the same
 * order as in Pillow's resampling: one changed last bit of a weight can change a pixel. Compiled
 * without contraction to FMA. */
#include "picture/resize.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define CUBIC_A (-0.5)

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1)
        return ((CUBIC_A + 2) * x - (CUBIC_A + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * CUBIC_A;
    return 0;
}

static double scale_of(int64_t n_in, int64_t n_out)
{
    return (double)n_in / (double)n_out;
}

static double filter_scale(int64_t n_in, int64_t n_out)
{
    const double scale = scale_of(n_in, n_out);
    return scale > 1 ? scale : 1;
}

/* Entries per output: the widest window, up to a multiple of 4. */
static int64_t axis_taps(int64_t n_in, int64_t n_out)
{
    int64_t taps = (int64_t)ceil(2 * filter_scale(n_in, n_out)) * 2 + 1;
    taps = (taps < n_in ? taps : n_in) + 3;
    return taps - taps % 4;
}

static int32_t to_fixed(double w)
{
    double scaled = w * (1 << GLM4V_RESIZE_BITS);
    return (int32_t)(w < 0 ? scaled - 0.5 : scaled + 0.5);
}

/* First input, number of inputs and weights of output x. */
static void tap_window(int32_t *first, int32_t *count, int32_t *weight, int64_t x, int64_t n_in,
                       int64_t n_out)
{
    double scale = scale_of(n_in, n_out), fs = filter_scale(n_in, n_out);
    double support = 2 * fs, reciprocal = 1 / fs, center = ((double)x + 0.5) * scale, sum = 0;
    int64_t lo = (int64_t)(center - support + 0.5), hi = (int64_t)(center + support + 0.5);
    lo = lo > 0 ? lo : 0;
    hi = hi < n_in ? hi : n_in;
    for (int64_t i = 0; i < hi - lo; i++)
        sum += cubic(((double)(i + lo) - center + 0.5) * reciprocal);
    for (int64_t i = 0; i < hi - lo; i++) {
        double w = cubic(((double)(i + lo) - center + 0.5) * reciprocal);
        weight[i] = to_fixed(sum != 0 ? w / sum : w);
    }
    *first = (int32_t)lo;
    *count = (int32_t)(hi - lo);
}

/* Fill axis; its arrays are taken from *memory, which advances. */
static void axis_init(glm4v_resize_axis *axis, int32_t **memory, int64_t n_in, int64_t n_out,
                      int64_t taps)
{
    int32_t *first = *memory, *count = first + n_out, *weight = count + n_out;
    uint32_t *packed = (uint32_t *)(weight + n_out * taps);
    *axis = (glm4v_resize_axis) { n_in, n_out, taps, first, count, weight, packed };
    for (int64_t x = 0; x < n_out; x++)
        tap_window(&first[x], &count[x], weight + x * taps, x, n_in, n_out);
    *memory = (int32_t *)(packed + n_out * taps);
}

/* Numbers that axis_init takes; 0 where the size does not change. */
static size_t axis_size(int64_t n_in, int64_t n_out, int64_t taps)
{
    return n_in == n_out ? 0 : n_out * (2 + 2 * taps);
}

int glm4v_resize_init(glm4v_resize *resize, const glm4v_image_ops *ops, glm4v_size from,
                      glm4v_size to, glm4v_error *err)
{
    const int64_t width = from.width, height = from.height;
    const int64_t out_width = to.width, out_height = to.height;
    int64_t x_taps = axis_taps(width, out_width), y_taps = axis_taps(height, out_height);
    size_t size = axis_size(width, out_width, x_taps) + axis_size(height, out_height, y_taps);
    int32_t *memory = glm4v_alloc(size, sizeof *memory);
    if (!memory)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for the weights of a resize from %" PRId64 "x%" PRId64
                          " to %" PRId64 "x%" PRId64,
                          width, height, out_width, out_height);
    *resize = (glm4v_resize) { .ops = ops, .memory = memory, .n_memory = size };
    resize->x = (glm4v_resize_axis) { .n_in = width, .n_out = out_width };
    resize->y = (glm4v_resize_axis) { .n_in = height, .n_out = out_height };
    if (width != out_width) {
        axis_init(&resize->x, &memory, width, out_width, x_taps);
        ops->resize_pack(&resize->x);
    }
    if (height != out_height) {
        axis_init(&resize->y, &memory, height, out_height, y_taps);
        ops->resize_pack(&resize->y);
    }
    return 0;
}

void glm4v_resize_clear(glm4v_resize *resize)
{
    glm4v_free(resize->memory);
    resize->memory = NULL;
}

static bool is_scaled(const glm4v_resize_axis *axis)
{
    return axis->n_in != axis->n_out;
}

/* Input rows that output rows [y0, y0 + n_rows) read. */
static void band_rows(const glm4v_resize_axis *y, int64_t y0, int64_t n_rows, int64_t *first,
                      int64_t *count)
{
    int64_t last = y0 + n_rows - 1;
    *first = is_scaled(y) ? y->first[y0] : y0;
    *count = (is_scaled(y) ? y->first[last] + y->count[last] : last + 1) - *first;
}

static int64_t row_bytes(const glm4v_resize *resize)
{
    return GLM4V_CHANNELS * resize->x.n_out;
}

size_t glm4v_resize_scratch(const glm4v_resize *resize, int64_t n_rows)
{
    int64_t most = 0, first, count;
    for (int64_t y0 = 0; y0 < resize->y.n_out; y0 += n_rows) {
        int64_t n = y0 + n_rows < resize->y.n_out ? n_rows : resize->y.n_out - y0;
        band_rows(&resize->y, y0, n, &first, &count);
        most = count > most ? count : most;
    }
    return (most + n_rows) * row_bytes(resize);
}

const uint8_t *glm4v_resize_band(const glm4v_resize *resize, const glm4v_image *image, int64_t y0,
                                 int64_t n_rows, uint8_t *scratch, int64_t *stride)
{
    int64_t first, count;
    band_rows(&resize->y, y0, n_rows, &first, &count);
    const uint8_t *rows = image->data + first * image->stride;
    *stride = image->stride;
    if (is_scaled(&resize->x)) {
        resize->ops->resize_rows(scratch, row_bytes(resize), rows, *stride, count, &resize->x, 0);
        rows = scratch;
        *stride = row_bytes(resize);
        scratch += count * *stride;
    }
    if (!is_scaled(&resize->y))
        return rows;
    for (int64_t i = 0; i < n_rows; i++)
        resize->ops->resize_columns(scratch + i * row_bytes(resize),
                                    rows + (resize->y.first[y0 + i] - first) * *stride, *stride,
                                    row_bytes(resize), &resize->y, y0 + i);
    *stride = row_bytes(resize);
    return scratch;
}
