/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resize and patches, the reference: the formulas of image.h, unchanged. */
#include "image.h"

#include <assert.h>
#include <string.h>

/* The reference reads axis->weight itself. */
void glm4v_resize_pack_c(const glm4v_resize_axis *axis)
{
    (void)axis;
}

static uint8_t clip8(int32_t sum)
{
    sum >>= GLM4V_RESIZE_BITS;
    if (sum < 0)
        return 0;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

void glm4v_resize_rows_c(uint8_t *dst, int64_t dst_stride, const uint8_t *src, int64_t src_stride,
                         int64_t n_rows, const glm4v_resize_axis *axis, int64_t x0)
{
    assert(x0 >= 0 && x0 <= axis->n_out);
    for (int64_t row = 0; row < n_rows; row++, dst += dst_stride, src += src_stride)
        for (int64_t x = x0; x < axis->n_out; x++) {
            const int32_t *w = axis->weight + x * axis->taps;
            const uint8_t *p = src + 3 * (int64_t)axis->first[x];
            int32_t sum[3] = { 1 << 21, 1 << 21, 1 << 21 };
            for (int64_t i = 0; i < axis->count[x]; i++)
                for (int c = 0; c < 3; c++)
                    sum[c] += w[i] * p[3 * i + c];
            for (int c = 0; c < 3; c++)
                dst[3 * x + c] = clip8(sum[c]);
        }
}

void glm4v_resize_columns_c(uint8_t *dst, const uint8_t *src, int64_t src_stride, int64_t n,
                            const glm4v_resize_axis *axis, int64_t y)
{
    const int32_t *w = axis->weight + y * axis->taps;
    assert(y >= 0 && y < axis->n_out);
    for (int64_t j = 0; j < n; j++) {
        int32_t sum = 1 << 21;
        for (int64_t i = 0; i < axis->count[y]; i++)
            sum += w[i] * src[i * src_stride + j];
        dst[j] = clip8(sum);
    }
}

/* One frame of one patch: [3, patch, patch]; planes of a channel are temporal * patch * patch
 * apart. */
static void cut_patch(float *out, const uint8_t *src, int64_t src_stride,
                      const glm4v_patch_shape *s)
{
    int64_t area = s->patch * s->patch;
    for (int c = 0; c < 3; c++) {
        const float *value = s->value + 256 * c;
        float *plane = out + (c * s->temporal + s->slot) * area;
        for (int64_t y = 0; y < s->patch; y++)
            for (int64_t x = 0; x < s->patch; x++)
                plane[y * s->patch + x] = value[src[y * src_stride + 3 * x + c]];
        for (int64_t t = 1; t < s->n_slots; t++)
            memcpy(plane + t * area, plane, area * sizeof *plane);
    }
}

void glm4v_patches_c(float *patches, const uint8_t *src, int64_t src_stride, int64_t columns,
                     const glm4v_patch_shape *shape)
{
    int64_t patch = shape->patch, merge = shape->merge;
    int64_t length = 3 * shape->temporal * patch * patch;
    assert(columns % (merge * patch) == 0);
    for (int64_t block = 0; block < columns; block += merge * patch)
        for (int64_t my = 0; my < merge; my++)
            for (int64_t mx = 0; mx < merge; mx++, patches += length)
                cut_patch(patches, src + my * patch * src_stride + 3 * (block + mx * patch),
                          src_stride, shape);
}
