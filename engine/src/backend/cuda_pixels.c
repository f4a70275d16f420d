/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures to patches on the device: those in its memory as they lie, RGB of the host by way of
 * page-locked memory. */
#include <string.h>

#include "backend/cuda_priv.h"

/* ---- what can be read ---- */

/* Bytes of a row of each plane, at least; 0: the format has no such plane. */
typedef struct {
    glm4v_cuda_format format;
    int64_t row[3];
    bool yuv;
    int bits;
} lying;

static bool lying_of(lying *l, const glm4v_image *image)
{
    const int64_t w = (int64_t)image->left + image->width, half = (w + 1) / 2;
    switch (image->format) {
    case GLM4V_PIXELS_RGB:
        *l = (lying) { GLM4V_CUDA_RGB, { 3 * w }, false, 8 };
        return true;
    case GLM4V_PIXELS_BGR:
        *l = (lying) { GLM4V_CUDA_BGR, { 3 * w }, false, 8 };
        return true;
    case GLM4V_PIXELS_RGBX:
        *l = (lying) { GLM4V_CUDA_RGBX, { 4 * w }, false, 8 };
        return true;
    case GLM4V_PIXELS_BGRX:
        *l = (lying) { GLM4V_CUDA_BGRX, { 4 * w }, false, 8 };
        return true;
    case GLM4V_PIXELS_GRAY8:
        *l = (lying) { GLM4V_CUDA_GRAY8, { w }, false, 8 };
        return true;
    case GLM4V_PIXELS_NV12:
        *l = (lying) { GLM4V_CUDA_NV12, { w, 2 * half }, true, 8 };
        return true;
    case GLM4V_PIXELS_I420:
        *l = (lying) { GLM4V_CUDA_I420, { w, half, half }, true, 8 };
        return true;
    case GLM4V_PIXELS_P010:
        *l = (lying) { GLM4V_CUDA_P010, { 2 * w, 4 * half }, true, 10 };
        return true;
    case GLM4V_PIXELS_YUY2:
        *l = (lying) { GLM4V_CUDA_YUY2, { 4 * half }, true, 8 };
        return true;
    case GLM4V_PIXELS_RGBA:
        *l = (lying) { GLM4V_CUDA_RGBA, { 4 * w }, false, 8 };
        return true;
    case GLM4V_PIXELS_BGRA:
        *l = (lying) { GLM4V_CUDA_BGRA, { 4 * w }, false, 8 };
        return true;
    }
    return false;
}

static const uint8_t *plane_of(const glm4v_image *image, int i)
{
    return i ? image->plane[i - 1] : image->data;
}

static int64_t stride_of(const glm4v_image *image, int i)
{
    return i ? image->plane_stride[i - 1] : image->stride;
}

bool glm4v_gpu_takes(glm4v_backend *b, const glm4v_image *image)
{
    lying l;
    if (!lying_of(&l, image) || (unsigned)image->matrix > GLM4V_YUV_BT2020 || image->left < 0 ||
        image->top < 0)
        return false;
    if (image->memory == GLM4V_IMAGE_HOST)
        return image->format == GLM4V_PIXELS_RGB && !image->left && !image->top &&
               image->stride >= l.row[0];
    if (image->memory != GLM4V_IMAGE_CUDA || image->device != glm4v_gpu(b)->context.device)
        return false;
    for (int i = 0; i < 3; i++)
        if (l.row[i] && (!plane_of(image, i) || stride_of(image, i) < l.row[i]))
            return false;
    return true;
}

/* ---- colours ---- */

/* Kr and Kb of the standards. */
static void weights_of(const glm4v_image *image, double *red, double *blue)
{
    glm4v_yuv_matrix matrix = image->matrix;
    if (matrix == GLM4V_YUV_DEFAULT)
        matrix = image->height > 576 ? GLM4V_YUV_BT709 : GLM4V_YUV_BT601;
    *red = matrix == GLM4V_YUV_BT601 ? 0.299 : 0.2126;
    *blue = matrix == GLM4V_YUV_BT601 ? 0.114 : 0.0722;
    if (matrix == GLM4V_YUV_BT2020) {
        *red = 0.2627;
        *blue = 0.0593;
    }
}

/* R, G, B from Y, U, V in [0, 1], row-major 3x4, the offset last. */
static void set_matrix(float matrix[12], const glm4v_image *image, int bits)
{
    const double top = (double)((1 << bits) - 1), unit = (double)(1 << (bits - 8));
    const double black = image->full_range ? 0 : 16 * unit / top;
    const double luma = image->full_range ? 1 : top / (219 * unit);
    const double chroma = image->full_range ? 1 : top / (224 * unit);
    const double grey = 128 * unit / top;
    double red, blue;
    weights_of(image, &red, &blue);
    const double green = 1 - red - blue;
    const double u[3] = { 0, -2 * blue * (1 - blue) / green * chroma, 2 * (1 - blue) * chroma };
    const double v[3] = { 2 * (1 - red) * chroma, -2 * red * (1 - red) / green * chroma, 0 };
    for (int i = 0; i < 3; i++) {
        matrix[4 * i] = (float)luma;
        matrix[4 * i + 1] = (float)u[i];
        matrix[4 * i + 2] = (float)v[i];
        matrix[4 * i + 3] = (float)(-luma * black - (u[i] + v[i]) * grey);
    }
}

static glm4v_cuda_image image_of(const glm4v_image *image)
{
    lying l;
    glm4v_cuda_image out = {
        .width = image->width, .height = image->height, .left = image->left, .top = image->top
    };
    if (!lying_of(&l, image)) /* glm4v_gpu_takes() has seen it */
        return out;
    out.format = l.format;
    for (int i = 0; i < 3; i++) {
        out.plane[i] = l.row[i] ? plane_of(image, i) : NULL;
        out.stride[i] = l.row[i] ? stride_of(image, i) : 0;
    }
    if (l.yuv)
        set_matrix(out.matrix, image, l.bits);
    return out;
}

/* ---- pictures of the host. Lock of the queue held ---- */

static size_t tight(const glm4v_image *image)
{
    return (size_t)image->width * 3 * image->height;
}

/* Page-locked memory for so many bytes that no copy reads any more. */
static int take_page_locked(glm4v_gpu_backend *g, size_t bytes)
{
    void *fresh = NULL;
    int rc = glm4v_gpu_check(
        g, glm4v_cuda_injected(GLM4V_CUDA_AT_EVENT) ?: cudaEventSynchronize(g->picture.read),
        "an earlier picture, seen by cudaEventSynchronize");
    if (rc || bytes <= g->picture.bytes)
        return rc;
    if ((rc = glm4v_gpu_take_pinned(g, &fresh, bytes)))
        return rc;
    glm4v_gpu_give_pinned(g, g->picture.pinned);
    g->picture.pinned = fresh;
    g->picture.bytes = bytes;
    return 0;
}

/* Rows of the image without what lies between them. */
static void copy_rows(char *to, const glm4v_image *image)
{
    const size_t row = 3 * image->width;
    for (int32_t y = 0; y < image->height; y++)
        memcpy(to + y * row, image->data + y * image->stride, row);
}

/* From page-locked memory, beside what the queue still has to do; what follows there waits. */
static int copy_up(glm4v_gpu_backend *g, glm4v_gpu_step *s, void *device, size_t bytes)
{
    const cudaStream_t stream = g->picture.stream;
    int rc = glm4v_gpu_wait(g, stream, g->picture.used);
    if (!rc)
        rc = glm4v_gpu_copy_async(g, device, g->picture.pinned, bytes, stream);
    if (!rc)
        rc = glm4v_gpu_record(g, g->picture.read, stream);
    return rc ? rc : glm4v_gpu_wait(g, s->stream, g->picture.read);
}

/* The frames that lie in memory of the host, to memory of the device. */
static int send_up(glm4v_gpu_backend *g, glm4v_gpu_step *s, const glm4v_pixels *p,
                   glm4v_cuda_image out[2])
{
    const bool same = p->frames[0] == p->frames[1];
    size_t bytes[2] = { 0 };
    void *device = NULL;
    for (int i = 0; i < (same ? 1 : 2); i++)
        if (p->frames[i]->memory == GLM4V_IMAGE_HOST)
            bytes[i] = tight(p->frames[i]);
    if (!bytes[0] && !bytes[1])
        return 0;
    int rc = take_page_locked(g, bytes[0] + bytes[1]);
    if (!rc)
        rc = glm4v_gpu_scratch_of(g, s->queue, GLM4V_GPU_PICTURE, bytes[0] + bytes[1], &device);
    if (rc)
        return rc;
    for (int i = 0; i < 2; i++) {
        if (!bytes[i])
            continue;
        const size_t at = i ? bytes[0] : 0;
        copy_rows((char *)g->picture.pinned + at, p->frames[i]);
        out[i].plane[0] = (char *)device + at;
        out[i].stride[0] = 3 * p->frames[i]->width;
    }
    if (same)
        out[1] = out[0];
    return copy_up(g, s, device, bytes[0] + bytes[1]);
}

int glm4v_gpu_preprocess(glm4v_step *step, void *patches, const glm4v_pixels *p)
{
    glm4v_gpu_step *s = glm4v_gpu_step_of(step);
    glm4v_gpu_backend *g = glm4v_gpu(step->backend);
    glm4v_cuda_pixels pixels = { .frame = { image_of(p->frames[0]), image_of(p->frames[1]) },
                                 .grid_h = glm4v_gpu_i32(p->grid_h),
                                 .grid_w = glm4v_gpu_i32(p->grid_w),
                                 .patch = glm4v_gpu_i32(p->patch),
                                 .temporal = glm4v_gpu_i32(p->temporal),
                                 .merge = glm4v_gpu_i32(p->merge) };
    void *scratch = NULL;
    for (int i = 0; i < 3; i++) {
        pixels.mean[i] = (float)p->mean[i];
        pixels.std[i] = (float)p->std[i];
    }
    int rc =
        glm4v_gpu_begin(g, GLM4V_GPU_FITS(p->grid_h, p->grid_w, p->patch, p->temporal, p->merge));
    if (rc)
        return rc;
    GLM4V_CUDA_ENTER(&g->context);
    pthread_mutex_lock(&s->queue->lock);
    rc = send_up(g, s, p, pixels.frame);
    if (!rc)
        rc = glm4v_gpu_scratch_of(g, s->queue, GLM4V_GPU_RESIZE, glm4v_cuda_pixels_scratch(&pixels),
                                  &scratch);
    if (!rc)
        rc = GLM4V_GPU_LAUNCH(g, "patches",
                              glm4v_cuda_patches(s->stream, patches, &pixels, scratch));
    if (!rc)
        rc = glm4v_gpu_record(g, g->picture.used, s->stream);
    pthread_mutex_unlock(&s->queue->lock);
    return rc;
}
