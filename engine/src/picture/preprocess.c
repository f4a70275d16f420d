/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures to patches, the first stage of a request: size, resize (resize.c), normalise, cut. One
 * item of the pool's work is one row of merge blocks, whose patches are contiguous; nothing is
 * shared between items but the weights. Source: the reference's image processor, see
 * docs/model.md. */
#include "picture/preprocess.h"

#include <math.h>
#include <string.h>

#include "base/cpu_level.h"
#include "base/error.h"
#include "base/mem.h"
#include "picture/resize.h"

#define MAX_FRAMES 65536
#define MAX_RATIO 200.0

struct glm4v_preprocessor {
    glm4v_image_ops ops;
    int32_t patch, merge, temporal;
    int32_t side; /* of every picture; 0 = smart_resize */
    uint64_t min_pixels, max_pixels;
    float value[GLM4V_CHANNELS * 256];
};

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static int check_sides(int64_t height, int64_t width, glm4v_error *err)
{
    if (height >= 1 && width >= 1 && height <= GLM4V_MAX_SIDE && width <= GLM4V_MAX_SIDE)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_INVALID,
                      "an image of %lldx%lld pixels; both sides must be in [1, %d]",
                      (long long)width, (long long)height, GLM4V_MAX_SIDE);
}

/* rint is half-to-even, as is the reference's round(). */
int glm4v_smart_resize(int64_t frames, int64_t height, int64_t width, int64_t factor,
                       uint64_t min_pixels, uint64_t max_pixels, int64_t *resized_height,
                       int64_t *resized_width, glm4v_error *err)
{
    int rc = check_sides(height, width, err);
    if (rc)
        return rc;
    if (frames < 2 || frames > MAX_FRAMES || factor < 1 || factor > GLM4V_MAX_SIDE)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%lld frames in blocks of %lld pixels cannot be resized",
                          (long long)frames, (long long)factor);
    double n = (double)frames, f = (double)factor, H = (double)height, W = (double)width;
    if (H < f || W < f) {
        double s = larger(f / H, f / W);
        H = trunc(H * s);
        W = trunc(W * s);
    }
    if (larger(H, W) / smaller(H, W) > MAX_RATIO)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %lldx%lld pixels is too narrow: sides may differ %.0f:1",
                          (long long)width, (long long)height, MAX_RATIO);
    double h = rint(H / f) * f, w = rint(W / f) * f, t = rint(n / 2) * 2;
    if (t * h * w > (double)max_pixels) {
        double b = sqrt(n * H * W / (double)max_pixels);
        h = larger(f, floor(H / b / f) * f);
        w = larger(f, floor(W / b / f) * f);
    } else if (t * h * w < (double)min_pixels) {
        double b = sqrt((double)min_pixels / (n * H * W));
        h = ceil(H * b / f) * f;
        w = ceil(W * b / f) * f;
    }
    *resized_height = (int64_t)h;
    *resized_width = (int64_t)w;
    return 0;
}

int glm4v_preprocessor_open(glm4v_preprocessor **out, const glm4v_processor_config *processor,
                            const glm4v_vision_config *vision, glm4v_error *err)
{
    unsigned flags;
    int rc = glm4v_cpu_choose(&flags, err);
    if (rc)
        return rc;
    glm4v_preprocessor *p = glm4v_alloc(1, sizeof *p);
    if (!p)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for the look-up tables of the processor");
    glm4v_image_ops_init(&p->ops, flags);
    p->patch = vision->patch;
    p->merge = vision->merge;
    p->temporal = vision->temporal;
    p->side = processor->side;
    p->min_pixels = processor->min_pixels;
    p->max_pixels = processor->max_pixels;
    for (int i = 0; i < GLM4V_CHANNELS * 256; i++)
        p->value[i] =
            (float)(((i % 256) / 255.0 - processor->mean[i / 256]) / processor->std[i / 256]);
    *out = p;
    return 0;
}

size_t glm4v_preprocessor_memory(void)
{
    return sizeof(glm4v_preprocessor);
}

void glm4v_preprocessor_close(glm4v_preprocessor **p)
{
    glm4v_free(*p);
    *p = NULL;
}

/* Pixels are read here where no device does it. */
static int check_readable(const glm4v_image *image, glm4v_error *err)
{
    static const char *const formats[] = { "RGB", "GRAY8", "NV12", "I420" };
    const unsigned format = (unsigned)image->format;
    if (image->memory == GLM4V_IMAGE_HOST && image->format == GLM4V_PIXELS_RGB)
        return 0;
    if (format >= sizeof formats / sizeof *formats || (unsigned)image->memory > GLM4V_IMAGE_CUDA)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of format %u in memory of kind %u: there is no such", format,
                          (unsigned)image->memory);
    if (image->memory == GLM4V_IMAGE_CUDA)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "an image in memory of CUDA device %d, which this model's device cannot "
                          "read: copy it to memory of the process (GStreamer: cudadownload)",
                          image->device);
    return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                      "an image of format %s, which this model's device cannot read: convert it to "
                      "RGB (GStreamer: videoconvert)",
                      formats[format]);
}

int glm4v_preprocess_grid(const glm4v_preprocessor *p, const glm4v_image *image, uint32_t n_frames,
                          uint64_t max_pixels, uint32_t *grid_h, uint32_t *grid_w, glm4v_error *err)
{
    uint32_t frames = n_frames > 1 ? n_frames : (uint32_t)p->temporal;
    uint64_t min = p->min_pixels, max = p->max_pixels;
    int64_t h, w;
    if (!image->data)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "a picture without data");
    if (max_pixels && max_pixels < max / frames)
        max = max_pixels * frames;
    if (min > max)
        min = max;
    h = w = p->side;
    int rc = check_readable(image, err);
    if (rc)
        return rc;
    rc = p->side ? check_sides(image->height, image->width, err)
                 : glm4v_smart_resize(frames, image->height, image->width,
                                      (int64_t)p->patch * p->merge, min, max, &h, &w, err);
    if (rc)
        return rc;
    if (image->stride < GLM4V_CHANNELS * (int64_t)image->width)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %d pixels a row, but only %lld bytes from row to row",
                          image->width, (long long)image->stride);
    *grid_h = (uint32_t)(h / p->patch);
    *grid_w = (uint32_t)(w / p->patch);
    return 0;
}

/* One frame into its slots of all patches. */
typedef struct {
    const glm4v_image *image;
    glm4v_resize resize;
    glm4v_patch_shape shape;
    uint8_t *scratch; /* [threads, scratch_size] */
    size_t scratch_size;
    float *patches;
} frame_job;

static void cut_band(void *user, uint32_t i, uint32_t thread)
{
    const frame_job *job = user;
    const glm4v_patch_shape *s = &job->shape;
    int32_t rows = s->patch * s->merge, columns = job->resize.x.n_out;
    size_t values = (size_t)GLM4V_CHANNELS * (size_t)s->temporal * (size_t)rows * (size_t)columns;
    int64_t stride;
    const uint8_t *band = glm4v_resize_band(&job->resize, job->image, (int32_t)i * rows, rows,
                                            job->scratch + thread * job->scratch_size, &stride);
    job->resize.ops->patches(job->patches + i * values, band, stride, columns, s);
}

/* Weights of the resize, and scratch of one thread. */
static int resize_of(frame_job *job, const glm4v_preprocessor *p, uint32_t grid_h, uint32_t grid_w,
                     glm4v_error *err)
{
    int rc = glm4v_resize_init(&job->resize, &p->ops, job->image->width, job->image->height,
                               (int32_t)grid_w * p->patch, (int32_t)grid_h * p->patch, err);
    if (!rc)
        job->scratch_size = glm4v_aligned(glm4v_resize_scratch(&job->resize, p->patch * p->merge));
    return rc;
}

int glm4v_preprocess_scratch(const glm4v_preprocessor *p, const glm4v_image *image, uint32_t grid_h,
                             uint32_t grid_w, uint32_t threads, size_t *bytes, glm4v_error *err)
{
    frame_job job = { .image = image };
    int rc = resize_of(&job, p, grid_h, grid_w, err);
    if (rc)
        return rc;
    *bytes = job.resize.n_memory * sizeof *job.resize.memory + threads * job.scratch_size;
    glm4v_resize_clear(&job.resize);
    return 0;
}

static int run_frame(const glm4v_preprocessor *p, frame_job *job, uint32_t grid_h, uint32_t grid_w,
                     glm4v_pool *pool, glm4v_error *err)
{
    int rc = resize_of(job, p, grid_h, grid_w, err);
    if (rc)
        return rc;
    job->scratch = glm4v_alloc_aligned(glm4v_pool_threads(pool), job->scratch_size);
    if (job->scratch)
        glm4v_pool_run(pool, grid_h / (uint32_t)p->merge, cut_band, job);
    else
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to resize an image of %dx%d pixels",
                        job->image->width, job->image->height);
    glm4v_free(job->scratch);
    glm4v_resize_clear(&job->resize);
    return rc;
}

int glm4v_preprocess_run(const glm4v_preprocessor *p, float *patches,
                         const glm4v_image *const *frames, uint32_t grid_h, uint32_t grid_w,
                         glm4v_pool *pool, glm4v_error *err)
{
    for (int32_t slot = 0, n; slot < p->temporal; slot += n) {
        for (n = 1; slot + n < p->temporal && frames[slot + n] == frames[slot];)
            n++;
        frame_job job = {
            .image = frames[slot],
            .shape = { p->patch, p->merge, p->temporal, slot, n, p->value },
            .patches = patches,
        };
        int rc = run_frame(p, &job, grid_h, grid_w, pool, err);
        if (rc)
            return rc;
    }
    return 0;
}
