/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/image.h: the same bytes at every level. Windows are random, wider and more irregular than
 * a resize makes them; weights reach what the header allows. */
#include <string.h>

#include "tolerance.h"

enum { FIRST, COUNT, WEIGHT, PACKED, SRC, DST_REF, DST_OPS };
enum { BOUND = 1 << 23 }; /* sum of |weight|: with 255 the largest that fits */

static uint32_t below(struct check *t, uint32_t n)
{
    return (uint32_t)(check_random(t) % n);
}

/* Weights of one output: random shares of a random sum, some negative, sometimes one as large as
 * can be. */
static void random_weights(struct check *t, int32_t *w, int32_t count)
{
    uint32_t left = below(t, 4) ? BOUND : below(t, BOUND);
    for (int32_t i = 0; i < count; i++) {
        uint32_t share = i + 1 < count ? below(t, left + 1) >> below(t, 3) : left;
        share = share < (uint32_t)(1.9 * (1 << 22)) ? share : (uint32_t)(1.9 * (1 << 22));
        left -= share;
        w[i] = below(t, 4) ? (int32_t)share : -(int32_t)share;
    }
}

/* A window of up to max_count inputs for each output, in order, the last one at the end. */
static glm4v_resize_axis random_axis(struct check *t, int32_t n_in, int32_t n_out,
                                     int32_t max_count)
{
    int32_t most = max_count < n_in ? max_count : n_in, taps = (most + 3) & ~3;
    int32_t *first = check_buf(t, FIRST, (size_t)n_out * 4),
            *count = check_buf(t, COUNT, (size_t)n_out * 4);
    int32_t *weight = check_buf(t, WEIGHT, (size_t)n_out * (size_t)taps * 4);
    uint32_t *packed = check_buf(t, PACKED, (size_t)n_out * (size_t)taps * 4);
    memset(weight, 0, (size_t)n_out * (size_t)taps * 4);
    for (int32_t x = 0; x < n_out; x++) {
        bool last = x == n_out - 1;
        first[x] = (int32_t)((int64_t)(n_in - 1) * x / n_out);
        if (last && first[x] < n_in - most)
            first[x] = n_in - most;
        int32_t room = n_in - first[x] < most ? n_in - first[x] : most;
        count[x] = last ? room : 1 + (int32_t)below(t, (uint32_t)room);
        random_weights(t, weight + (size_t)x * (size_t)taps, count[x]);
    }
    for (int slot = FIRST; slot <= WEIGHT; slot++)
        check_input(t, slot);
    return (glm4v_resize_axis) { n_in, n_out, taps, first, count, weight, packed };
}

static uint8_t *random_bytes(struct check *t, size_t n)
{
    uint8_t *p = check_buf(t, SRC, n);
    for (size_t i = 0; i < n; i++)
        p[i] = below(t, 3) ? (uint8_t)check_random(t) : (uint8_t)(255 * below(t, 2));
    check_input(t, SRC);
    return p;
}

static void rows_case(struct check *t, int32_t n_in, int32_t n_out, int32_t max_count)
{
    glm4v_resize_axis axis = random_axis(t, n_in, n_out, max_count);
    int32_t n_rows = 1 + (int32_t)below(t, 9),
            x0 = below(t, 3) ? 0 : (int32_t)below(t, (uint32_t)n_out + 1);
    int64_t src_stride = 3 * n_in + below(t, 5), dst_stride = 3 * n_out + below(t, 5);
    size_t dst_bytes = (size_t)((n_rows - 1) * dst_stride + 3 * n_out);
    const uint8_t *src = random_bytes(t, (size_t)((n_rows - 1) * src_stride + 3 * n_in));
    uint8_t *ref = check_buf(t, DST_REF, dst_bytes), *got = check_buf(t, DST_OPS, dst_bytes);
    t->ref.image.resize_rows(ref, dst_stride, src, src_stride, n_rows, &axis, x0);
    t->ops.image.resize_pack(&axis);
    t->ops.image.resize_rows(got, dst_stride, src, src_stride, n_rows, &axis, x0);
    check_bytes(t, got, ref, dst_bytes, "%d to %d from %d, %d rows, %d taps", n_in, n_out, x0,
                n_rows, max_count);
    check_guards(t, "%d to %d", n_in, n_out);
}

static void check_rows(struct check *t)
{
    if (!check_pair(t, image, resize_rows, "resize_rows"))
        return;
    for (int n_in = 1; n_in; n_in = next_size(n_in, 300))
        for (int n_out = 1; n_out; n_out = next_size(n_out, 90))
            rows_case(t, n_in, n_out, 1 + (int32_t)below(t, 20));
    glm4v_resize_axis axis = random_axis(t, 1280, 448, 12);
    const uint8_t *src = random_bytes(t, 3 * 1280 * 28);
    uint8_t *dst = check_buf(t, DST_OPS, 3 * 448 * 28);
    t->ops.image.resize_pack(&axis);
    BENCH(t, "28 rows, 1280 to 448", 3 * 1280 * 28, 0, 0,
          t->ops.image.resize_rows(dst, 3 * 448, src, 3 * 1280, 28, &axis, 0));
    check_end(t);
}

static void columns_case(struct check *t, int32_t n, int32_t max_count)
{
    glm4v_resize_axis axis = random_axis(t, 40, 7, max_count);
    int64_t stride = n + below(t, 70);
    const uint8_t *src = random_bytes(t, (size_t)(39 * stride + n));
    uint8_t *ref = check_buf(t, DST_REF, (size_t)n), *got = check_buf(t, DST_OPS, (size_t)n);
    t->ops.image.resize_pack(&axis);
    for (int32_t y = 0; y < axis.n_out; y++) {
        const uint8_t *from = src + axis.first[y] * stride;
        t->ref.image.resize_columns(ref, from, stride, n, &axis, y);
        t->ops.image.resize_columns(got, from, stride, n, &axis, y);
        check_bytes(t, got, ref, (size_t)n, "%d columns, output %d, %d taps", n, y, axis.count[y]);
    }
    check_guards(t, "%d columns", n);
}

static void check_columns(struct check *t)
{
    if (!check_pair(t, image, resize_columns, "resize_columns"))
        return;
    for (int n = 1; n; n = next_size(n, 700))
        for (int32_t max_count = 1; max_count < 40; max_count += 1 + max_count / 3)
            columns_case(t, n, max_count);
    glm4v_resize_axis axis = random_axis(t, 12, 1, 12);
    const uint8_t *src = random_bytes(t, 12 * 1344);
    uint8_t *dst = check_buf(t, DST_OPS, 1344);
    t->ops.image.resize_pack(&axis);
    BENCH(t, "12 rows of 1344", 12 * 1344, 0, 0,
          t->ops.image.resize_columns(dst, src, 1344, 1344, &axis, 0));
    check_end(t);
}

void check_image(struct check *t)
{
    check_rows(t);
    check_columns(t);
}
