/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures: separable resize in fixed point, and cutting into normalised patches. All integers:
 * every level gives the same bytes. Source of the resize: Pillow's 8-bit resampling, two passes
 * with 22 fraction bits each.
 *   out = clamp((2^21 + sum_i weight[x][i] * in[first[x] + i]) >> 22, 0, 255), i < count[x]
 * Pixels are u8 [rows, columns, 3]. Only the rows and columns named are read, only those named are
 * written. */
#ifndef GLM4V_KERNELS_IMAGE_H
#define GLM4V_KERNELS_IMAGE_H

#include <stdint.h>

#define GLM4V_RESIZE_BITS 22

/* How n_in samples become n_out. first is non-decreasing, 1 <= count <= taps, first + count <= n_in
 * and the last of all reaches n_in; |weight| < 1.9 * 2^22; weights of one output sum to 2^22 within
 * rounding: int32 does not overflow. */
typedef struct {
    int64_t n_in, n_out;
    int64_t taps;          /* entries an output has in weight and packed, a multiple of 4 */
    const int32_t *first;  /* [n_out] */
    const int32_t *count;  /* [n_out] */
    const int32_t *weight; /* [n_out, taps], 0 from count on */
    /* [n_out, taps], filled by resize_pack for the other two of the same table */
    uint32_t *packed;
} glm4v_resize_axis;

/* What one row of merge * patch pixel rows is cut into. C = 3 * temporal * patch * patch. */
typedef struct {
    int64_t patch, merge, temporal;
    int64_t slot, n_slots; /* frames [slot, slot + n_slots) of each patch get these pixels */
    const float *value;    /* [3, 256]: normalised value of a byte, by channel */
} glm4v_patch_shape;

#define decl_resize_pack(name) void(name)(const glm4v_resize_axis *axis)

/* Along rows: dst u8 [n_rows, n_out, 3] from src u8 [n_rows, n_in, 3], outputs [x0, n_out) of each.
 * No overlap. */
#define decl_resize_rows(name)                                                                     \
    void(name)(uint8_t * dst, int64_t dst_stride, const uint8_t *src, int64_t src_stride,          \
               int64_t n_rows, const glm4v_resize_axis *axis, int64_t x0)

/* Across rows: one output row y of n bytes; src is input row first[y]. No overlap. */
#define decl_resize_columns(name)                                                                  \
    void(name)(uint8_t * dst, const uint8_t *src, int64_t src_stride, int64_t n,                   \
               const glm4v_resize_axis *axis, int64_t y)

/* patches f32 [merge * columns / patch, C] in merge-block-major order from src u8 [merge * patch,
 * columns, 3]; columns is a multiple of merge * patch. */
#define decl_patches(name)                                                                         \
    void(name)(float *patches, const uint8_t *src, int64_t src_stride, int64_t columns,            \
               const glm4v_patch_shape *shape)

typedef decl_resize_pack(*glm4v_resize_pack_fn);
typedef decl_resize_rows(*glm4v_resize_rows_fn);
typedef decl_resize_columns(*glm4v_resize_columns_fn);
typedef decl_patches(*glm4v_patches_fn);

typedef struct {
    glm4v_resize_pack_fn resize_pack;
    glm4v_resize_rows_fn resize_rows;
    glm4v_resize_columns_fn resize_columns;
    glm4v_patches_fn patches;
} glm4v_image_ops;

void glm4v_image_ops_init(glm4v_image_ops *ops, unsigned cpu);

decl_resize_pack(glm4v_resize_pack_c);
decl_resize_pack(glm4v_resize_pack_avx2);
decl_resize_pack(glm4v_resize_pack_vnni);
decl_resize_rows(glm4v_resize_rows_c);
decl_resize_rows(glm4v_resize_rows_avx2);
decl_resize_rows(glm4v_resize_rows_vnni);
decl_resize_columns(glm4v_resize_columns_c);
decl_resize_columns(glm4v_resize_columns_avx2);
decl_resize_columns(glm4v_resize_columns_vnni);
decl_patches(glm4v_patches_c);

#endif
