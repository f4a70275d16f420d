/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pixels to patches. Per frame: weights of both axes (a thread an output column or row), then rows
 * are resized along x from pixels that become RGB as they are read, then columns, normalized and
 * stored where their patch has them (a thread a pixel in both). The resize is that of
 * engine/src/picture/resize.c, bit for bit: weights of Pillow's bicubic filter in double, 22
 * fraction bits, 8 bits after each pass. Chroma is not interpolated. Reads a frame about once
 * (caches serve the overlapping windows), writes and reads 3 bytes for each of height x output
 * columns. */
#include <cmath>

#include "pixels.h"
#include "vector.cuh"

constexpr int THREADS = 256, RESIZE_BITS = 22;

/* How n_in samples become n_out; see glm4v_resize_axis of kernels/image.h. */
struct axis {
    int32_t n_in, n_out, taps;
    int32_t *first, *count, *weight;
};

struct frame {
    glm4v_cuda_image image;
    axis x, y;
    uint8_t *rows; /* [image height][3][x.n_out] */
};

/* ---- weights ---- */

/* The products and sums of the reference, none of them fused. */
static __device__ double cubic(double x)
{
    x = fabs(x);
    if (x < 1)
        return __dadd_rn(__dmul_rn(__dmul_rn(__dadd_rn(__dmul_rn(1.5, x), -2.5), x), x), 1);
    if (x < 2)
        return __dmul_rn(__dadd_rn(__dmul_rn(__dadd_rn(__dmul_rn(__dadd_rn(x, -5), x), 8), x), -4),
                         -0.5);
    return 0;
}

static __host__ __device__ double filter_scale(int32_t n_in, int32_t n_out)
{
    const double scale = (double)n_in / n_out;
    return scale > 1 ? scale : 1;
}

static __device__ double tap_weight(int32_t i, double center, double reciprocal)
{
    return cubic(__dmul_rn(__dadd_rn(__dadd_rn(i, -center), 0.5), reciprocal));
}

static __device__ int32_t to_fixed(double w)
{
    const double scaled = w * (1 << RESIZE_BITS);
    return (int32_t)(w < 0 ? scaled - 0.5 : scaled + 0.5);
}

static __device__ void set_window(const axis &a, int32_t x)
{
    int32_t *weight = a.weight + (int64_t)x * a.taps;
    if (a.n_in == a.n_out) { /* such a pass changes nothing */
        a.first[x] = x;
        a.count[x] = 1;
        weight[0] = 1 << RESIZE_BITS;
        return;
    }
    const double scale = (double)a.n_in / a.n_out, fs = filter_scale(a.n_in, a.n_out);
    const double support = 2 * fs, reciprocal = 1 / fs, center = __dmul_rn(x + 0.5, scale);
    const int32_t lo = max((int32_t)__dadd_rn(__dadd_rn(center, -support), 0.5), 0);
    const int32_t hi = min((int32_t)__dadd_rn(__dadd_rn(center, support), 0.5), a.n_in);
    double sum = 0;
    for (int32_t i = lo; i < hi; i++)
        sum = __dadd_rn(sum, tap_weight(i, center, reciprocal));
    for (int32_t i = lo; i < hi; i++) {
        const double w = tap_weight(i, center, reciprocal);
        weight[i - lo] = to_fixed(sum != 0 ? w / sum : w);
    }
    a.first[x] = lo;
    a.count[x] = hi - lo;
}

static __global__ void weights_kernel(const axis x, const axis y)
{
    let_next_begin();
    const int32_t i = (int32_t)(blockIdx.x * THREADS + threadIdx.x);
    wait_for_earlier();
    if (i < x.n_out)
        set_window(x, i);
    else if (i < x.n_out + y.n_out)
        set_window(y, i - x.n_out);
}

/* ---- pixels ---- */

struct color {
    int32_t c[3];
};

static __device__ const uint8_t *row_of(const glm4v_cuda_image &image, int plane, int32_t y)
{
    return (const uint8_t *)image.plane[plane] + y * image.stride[plane];
}

/* Codes of luma and chroma, 0 to `most`, to RGB of 8 bits. */
static __device__ color from_yuv(const float *m, float y, float u, float v, float most)
{
    const float scale = 255 / most;
    color rgb;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const float sum = m[4 * i] * y + m[4 * i + 1] * u + m[4 * i + 2] * v;
        rgb.c[i] = min(max(__float2int_rn(sum * scale + m[4 * i + 3] * 255), 0), 255);
    }
    return rgb;
}

/* A color and its alpha on white, rounded as GstGlm4vConverter does. */
static __device__ color on_white(int32_t r, int32_t g, int32_t b, int32_t alpha)
{
    color rgb = { { r, g, b } };
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const int32_t sum = rgb.c[i] * alpha + 255 * (255 - alpha) + 128;
        rgb.c[i] = (sum + (sum >> 8)) >> 8;
    }
    return rgb;
}

/* Pixel x of row y. */
template <glm4v_cuda_format FORMAT>
static __device__ color pixel(const glm4v_cuda_image &image, int32_t x, int32_t y)
{
    const uint8_t *row = row_of(image, 0, y);
    switch (FORMAT) {
    case GLM4V_CUDA_RGB:
        return { { row[3 * x], row[3 * x + 1], row[3 * x + 2] } };
    case GLM4V_CUDA_BGR:
        return { { row[3 * x + 2], row[3 * x + 1], row[3 * x] } };
    case GLM4V_CUDA_RGBX:
        return { { row[4 * x], row[4 * x + 1], row[4 * x + 2] } };
    case GLM4V_CUDA_BGRX:
        return { { row[4 * x + 2], row[4 * x + 1], row[4 * x] } };
    case GLM4V_CUDA_GRAY8:
        return { { row[x], row[x], row[x] } };
    case GLM4V_CUDA_NV12: {
        const uint8_t *chroma = row_of(image, 1, y / 2) + x / 2 * 2;
        return from_yuv(image.matrix, row[x], chroma[0], chroma[1], 255);
    }
    case GLM4V_CUDA_I420:
        return from_yuv(image.matrix, row[x], row_of(image, 1, y / 2)[x / 2],
                        row_of(image, 2, y / 2)[x / 2], 255);
    case GLM4V_CUDA_P010: {
        const uint16_t *chroma = (const uint16_t *)row_of(image, 1, y / 2) + x / 2 * 2;
        return from_yuv(image.matrix, ((const uint16_t *)row)[x] >> 6, chroma[0] >> 6,
                        chroma[1] >> 6, 1023);
    }
    case GLM4V_CUDA_YUY2: {
        const uint8_t *pair = row + x / 2 * 4;
        return from_yuv(image.matrix, pair[x % 2 * 2], pair[1], pair[3], 255);
    }
    case GLM4V_CUDA_RGBA:
        return on_white(row[4 * x], row[4 * x + 1], row[4 * x + 2], row[4 * x + 3]);
    case GLM4V_CUDA_BGRA:
        return on_white(row[4 * x + 2], row[4 * x + 1], row[4 * x], row[4 * x + 3]);
    }
    return {};
}

/* ---- passes ---- */

static __device__ int32_t clip8(int32_t sum)
{
    return min(max(sum >> RESIZE_BITS, 0), 255);
}

/* Block (columns, row of the image). */
template <glm4v_cuda_format FORMAT>
static __global__ void __launch_bounds__(THREADS) rows_kernel(const frame f)
{
    let_next_begin();
    const int32_t x = (int32_t)(blockIdx.x * THREADS + threadIdx.x), y = (int32_t)blockIdx.y;
    wait_for_earlier();
    if (x >= f.x.n_out)
        return;
    const int32_t *weight = f.x.weight + (int64_t)x * f.x.taps;
    const int32_t first = f.x.first[x], count = f.x.count[x];
    int32_t sum[3] = { 1 << (RESIZE_BITS - 1), 1 << (RESIZE_BITS - 1), 1 << (RESIZE_BITS - 1) };
    for (int32_t i = 0; i < count; i++) {
        const color p = pixel<FORMAT>(f.image, f.image.left + first + i, f.image.top + y);
#pragma unroll
        for (int c = 0; c < 3; c++)
            sum[c] += weight[i] * p.c[c];
    }
#pragma unroll
    for (int c = 0; c < 3; c++)
        f.rows[((int64_t)y * 3 + c) * f.x.n_out + x] = (uint8_t)clip8(sum[c]);
}

/* Where pixels go; frames [slot, slot + n_slots) of each patch get them. */
struct cut {
    glm4v_bf16 *patches;
    int32_t patch, merge, temporal, slot, n_slots;
    float mean[3], std[3];
};

/* Element of channel c, frame `slot`, of output pixel (x, y), in merge-block-major order. */
static __device__ int64_t element_of(const cut &c, int32_t columns, int32_t x, int32_t y)
{
    const int32_t block = c.patch * c.merge, area = c.patch * c.patch;
    const int64_t index = (int64_t)(y / block) * (columns / block) + x / block;
    const int32_t in_block = y / c.patch % c.merge * c.merge + x / c.patch % c.merge;
    const int64_t patch = index * c.merge * c.merge + in_block;
    return patch * 3 * c.temporal * area + c.slot * area + y % c.patch * c.patch + x % c.patch;
}

/* Block (columns, row of the result). */
static __global__ void __launch_bounds__(THREADS) columns_kernel(const frame f, const cut to)
{
    let_next_begin();
    const int32_t x = (int32_t)(blockIdx.x * THREADS + threadIdx.x), y = (int32_t)blockIdx.y;
    const int32_t columns = f.x.n_out, area = to.patch * to.patch;
    wait_for_earlier();
    if (x >= columns)
        return;
    const int32_t *weight = f.y.weight + (int64_t)y * f.y.taps;
    const int32_t count = f.y.count[y];
    const uint8_t *from = f.rows + (int64_t)f.y.first[y] * 3 * columns + x;
    int32_t sum[3] = { 1 << (RESIZE_BITS - 1), 1 << (RESIZE_BITS - 1), 1 << (RESIZE_BITS - 1) };
    for (int32_t i = 0; i < count; i++, from += 3 * (int64_t)columns)
#pragma unroll
        for (int c = 0; c < 3; c++)
            sum[c] += weight[i] * from[c * columns];
    const int64_t at = element_of(to, columns, x, y);
#pragma unroll
    for (int c = 0; c < 3; c++) {
        const float value = ((float)clip8(sum[c]) / 255 - to.mean[c]) / to.std[c];
        for (int32_t slot = 0; slot < to.n_slots; slot++)
            to.patches[at + (c * to.temporal + slot) * area] = narrow(value);
    }
}

/* ---- host ---- */

/* Entries per output: the widest window. */
static int32_t taps_of(int32_t n_in, int32_t n_out)
{
    const int64_t taps = (int64_t)ceil(2 * filter_scale(n_in, n_out)) * 2 + 1;
    return (int32_t)(taps < n_in ? taps : n_in);
}

/* Sets the axis and its arrays, which are taken from *memory. */
static axis axis_of(int32_t n_in, int32_t n_out, int32_t **memory)
{
    const int32_t taps = taps_of(n_in, n_out);
    axis a = { n_in, n_out, taps, *memory, *memory + n_out, *memory + 2 * (size_t)n_out };
    *memory += (size_t)n_out * (2 + (size_t)taps);
    return a;
}

static size_t axis_bytes(int32_t n_in, int32_t n_out)
{
    return (size_t)n_out * (2 + (size_t)taps_of(n_in, n_out)) * sizeof(int32_t);
}

static bool same_image(const glm4v_cuda_image *a, const glm4v_cuda_image *b)
{
    bool same = a->format == b->format && a->width == b->width && a->height == b->height &&
                a->left == b->left && a->top == b->top;
    for (int i = 0; i < 3; i++)
        same = same && a->plane[i] == b->plane[i] && a->stride[i] == b->stride[i];
    return same;
}

/* Frames that are resized: of two, the second only if it is another one. */
static int frame_count(const glm4v_cuda_pixels *p)
{
    return p->temporal > 1 && !same_image(&p->frame[0], &p->frame[1]) ? 2 : 1;
}

static size_t frame_bytes(const glm4v_cuda_pixels *p, const glm4v_cuda_image *image)
{
    const int32_t columns = p->grid_w * p->patch, rows = p->grid_h * p->patch;
    const size_t bytes = axis_bytes(image->width, columns) + axis_bytes(image->height, rows) +
                         (size_t)image->height * 3 * (size_t)columns;
    return (bytes + 255) / 256 * 256;
}

size_t glm4v_cuda_pixels_scratch(const glm4v_cuda_pixels *p)
{
    size_t bytes = frame_bytes(p, &p->frame[0]);
    if (frame_count(p) > 1)
        bytes += frame_bytes(p, &p->frame[1]);
    return bytes;
}

static void (*rows_kernel_of(glm4v_cuda_format format))(frame)
{
    switch (format) {
    case GLM4V_CUDA_RGB:
        return rows_kernel<GLM4V_CUDA_RGB>;
    case GLM4V_CUDA_BGR:
        return rows_kernel<GLM4V_CUDA_BGR>;
    case GLM4V_CUDA_RGBX:
        return rows_kernel<GLM4V_CUDA_RGBX>;
    case GLM4V_CUDA_BGRX:
        return rows_kernel<GLM4V_CUDA_BGRX>;
    case GLM4V_CUDA_GRAY8:
        return rows_kernel<GLM4V_CUDA_GRAY8>;
    case GLM4V_CUDA_NV12:
        return rows_kernel<GLM4V_CUDA_NV12>;
    case GLM4V_CUDA_I420:
        return rows_kernel<GLM4V_CUDA_I420>;
    case GLM4V_CUDA_P010:
        return rows_kernel<GLM4V_CUDA_P010>;
    case GLM4V_CUDA_YUY2:
        return rows_kernel<GLM4V_CUDA_YUY2>;
    case GLM4V_CUDA_RGBA:
        return rows_kernel<GLM4V_CUDA_RGBA>;
    case GLM4V_CUDA_BGRA:
        return rows_kernel<GLM4V_CUDA_BGRA>;
    }
    return nullptr;
}

static cudaError_t run_frame(cudaStream_t stream, const frame &f, const cut &to)
{
    const unsigned columns = blocks_for((size_t)f.x.n_out, THREADS);
    void (*const rows)(frame) = rows_kernel_of(f.image.format);
    if (!rows)
        return cudaErrorInvalidValue;
    cudaError_t error = launch(weights_kernel, blocks_for((size_t)(f.x.n_out + f.y.n_out), THREADS),
                               THREADS, 0, stream, f.x, f.y);
    if (error == cudaSuccess)
        error = launch(rows, dim3(columns, (unsigned)f.image.height), THREADS, 0, stream, f);
    if (error == cudaSuccess)
        error =
            launch(columns_kernel, dim3(columns, (unsigned)f.y.n_out), THREADS, 0, stream, f, to);
    return error;
}

cudaError_t glm4v_cuda_patches(cudaStream_t stream, glm4v_bf16 *y, const glm4v_cuda_pixels *p,
                               void *scratch)
{
    const int n = frame_count(p);
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < n && error == cudaSuccess; i++) {
        const glm4v_cuda_image *image = &p->frame[i];
        int32_t *memory = (int32_t *)scratch;
        cut to = { y, p->patch, p->merge, p->temporal, i, n > 1 ? 1 : p->temporal, {}, {} };
        frame f = { *image, axis_of(image->width, p->grid_w * p->patch, &memory),
                    axis_of(image->height, p->grid_h * p->patch, &memory), nullptr };
        f.rows = (uint8_t *)memory;
        for (int c = 0; c < 3; c++) {
            to.mean[c] = p->mean[c];
            to.std[c] = p->std[c];
        }
        error = run_frame(stream, f, to);
        scratch = (char *)scratch + frame_bytes(p, image);
    }
    return error;
}
