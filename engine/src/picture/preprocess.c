/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures to patches, the first stage of a request: size, resize (resize.c), normalise, cut. One
 * item of the pool's work is one row of merge blocks, whose patches are contiguous; nothing is
 * shared between items but the weights. Source: the reference's image processor, see
 * docs/model.md. */
#include "picture/preprocess.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/cpu_level.h"
#include "base/error.h"
#include "base/mem.h"

#define MAX_FRAMES 65536
#define MAX_RATIO 200.0

struct glm4v_preprocessor {
    glm4v_image_ops ops;
    int64_t patch, merge, temporal;
    int64_t side; /* of every picture; 0 = smart_resize */
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

static int check_sides(glm4v_size size, glm4v_error *err)
{
    if (size.height >= 1 && size.width >= 1 && size.height <= GLM4V_MAX_SIDE &&
        size.width <= GLM4V_MAX_SIDE)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_INVALID,
                      "an image of %" PRId64 "x%" PRId64 " pixels; both sides must be in [1, %d]",
                      size.width, size.height, GLM4V_MAX_SIDE);
}

/* rint is half-to-even, as is the reference's round(). */
int glm4v_smart_resize(glm4v_size *resized, glm4v_size size, const glm4v_size_rule *rule,
                       glm4v_error *err)
{
    const double max_pixels = (double)rule->max_pixels, min_pixels = (double)rule->min_pixels;
    int rc = check_sides(size, err);
    if (rc)
        return rc;
    if (rule->frames < 2 || rule->frames > MAX_FRAMES || rule->factor < 1 ||
        rule->factor > GLM4V_MAX_SIDE)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%" PRId64 " frames in blocks of %" PRId64 " pixels cannot be resized",
                          rule->frames, rule->factor);
    double n = (double)rule->frames, f = (double)rule->factor;
    double H = (double)size.height, W = (double)size.width;
    if (H < f || W < f) {
        double s = larger(f / H, f / W);
        H = trunc(H * s);
        W = trunc(W * s);
    }
    if (larger(H, W) / smaller(H, W) > MAX_RATIO)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image of %" PRId64 "x%" PRId64
                          " pixels is too narrow: the ratio of its sides may "
                          "be %.0f:1 at most",
                          size.width, size.height, MAX_RATIO);
    double h = rint(H / f) * f, w = rint(W / f) * f, t = rint(n / 2) * 2;
    if (t * h * w > max_pixels) {
        double b = sqrt(n * H * W / max_pixels);
        h = larger(f, floor(H / b / f) * f);
        w = larger(f, floor(W / b / f) * f);
    } else if (t * h * w < min_pixels) {
        double b = sqrt(min_pixels / (n * H * W));
        h = ceil(H * b / f) * f;
        w = ceil(W * b / f) * f;
    }
    *resized = (glm4v_size) { .width = (int64_t)w, .height = (int64_t)h };
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
    static const char *const formats[] = { "RGB",  "GRAY8", "NV12", "I420", "BGR", "RGBX",
                                           "BGRX", "P010",  "YUY2", "RGBA", "BGRA" };
    const unsigned format = (unsigned)image->format;
    if (image->memory == GLM4V_IMAGE_HOST && image->format == GLM4V_PIXELS_RGB && !image->left &&
        !image->top)
        return 0;
    if (format >= sizeof formats / sizeof *formats || (unsigned)image->memory > GLM4V_IMAGE_CUDA)
        return glm4v_fail(
            err, GLM4V_ERR_INVALID,
            "an image of format %u in memory of kind %u: unknown format or kind of memory", format,
            (unsigned)image->memory);
    if (image->memory == GLM4V_IMAGE_CUDA)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "an image in memory of CUDA device %d, which this model's device cannot "
                          "read: copy it to memory of the process (GStreamer: cudadownload)",
                          image->device);
    if (image->format == GLM4V_PIXELS_RGB)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "an RGB image in memory of the process with left %d and top %d: let data "
                          "point to its first pixel instead",
                          image->left, image->top);
    return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                      "an image of format %s, which this model's device cannot read: convert it to "
                      "RGB (GStreamer: videoconvert)",
                      formats[format]);
}

int glm4v_preprocess_grid(const glm4v_preprocessor *p, const glm4v_image *image, int64_t n_frames,
                          uint64_t max_pixels, glm4v_patch_grid *grid, glm4v_error *err)
{
    const glm4v_size size = { .width = image->width, .height = image->height };
    glm4v_size resized = { p->side, p->side };
    glm4v_size_rule rule = { .frames = n_frames > 1 ? n_frames : p->temporal,
                             .factor = p->patch * p->merge,
                             .min_pixels = p->min_pixels,
                             .max_pixels = p->max_pixels };
    const uint64_t frames = rule.frames;
    if (!image->data)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "an image has no data");
    if (max_pixels && max_pixels < rule.max_pixels / frames)
        rule.max_pixels = max_pixels * frames;
    if (rule.min_pixels > rule.max_pixels)
        rule.min_pixels = rule.max_pixels;
    int rc = check_readable(image, err);
    if (rc)
        return rc;
    rc = p->side ? check_sides(size, err) : glm4v_smart_resize(&resized, size, &rule, err);
    if (rc)
        return rc;
    if (image->stride < GLM4V_CHANNELS * size.width)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "an image has rows of %d pixels, but a stride of only %" PRId64 " bytes",
                          image->width, image->stride);
    *grid = (glm4v_patch_grid) { .h = resized.height / p->patch, .w = resized.width / p->patch };
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

static void cut_band(void *user, int64_t i, int64_t thread)
{
    const frame_job *job = user;
    const glm4v_patch_shape *s = &job->shape;
    int64_t rows = s->patch * s->merge, columns = job->resize.x.n_out;
    const int64_t values = GLM4V_CHANNELS * s->temporal * rows * columns;
    int64_t stride;
    const uint8_t *band = glm4v_resize_band(&job->resize, job->image, i * rows, rows,
                                            job->scratch + thread * job->scratch_size, &stride);
    job->resize.ops->patches(job->patches + i * values, band, stride, columns, s);
}

/* Weights of the resize, and scratch of one thread. */
static int resize_of(frame_job *job, const glm4v_preprocessor *p, glm4v_patch_grid grid,
                     glm4v_error *err)
{
    const glm4v_size from = { .width = job->image->width, .height = job->image->height };
    const glm4v_size to = { .width = grid.w * p->patch, .height = grid.h * p->patch };
    int rc = glm4v_resize_init(&job->resize, &p->ops, from, to, err);
    if (!rc)
        job->scratch_size = glm4v_aligned(glm4v_resize_scratch(&job->resize, p->patch * p->merge));
    return rc;
}

int glm4v_preprocess_scratch(const glm4v_preprocessor *p, const glm4v_image *image,
                             glm4v_patch_grid grid, int64_t threads, size_t *bytes,
                             glm4v_error *err)
{
    frame_job job = { .image = image };
    int rc = resize_of(&job, p, grid, err);
    if (rc)
        return rc;
    *bytes = job.resize.n_memory * sizeof *job.resize.memory + threads * job.scratch_size;
    glm4v_resize_clear(&job.resize);
    return 0;
}

static int run_frame(const glm4v_preprocessor *p, frame_job *job, glm4v_patch_grid grid,
                     glm4v_pool *pool, glm4v_error *err)
{
    int rc = resize_of(job, p, grid, err);
    if (rc)
        return rc;
    job->scratch = glm4v_alloc_aligned(glm4v_pool_threads(pool), job->scratch_size);
    if (job->scratch)
        glm4v_pool_run(pool, grid.h / p->merge, cut_band, job);
    else
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to resize an image of %dx%d pixels",
                        job->image->width, job->image->height);
    glm4v_free(job->scratch);
    glm4v_resize_clear(&job->resize);
    return rc;
}

int glm4v_preprocess_run(const glm4v_preprocessor *p, float *patches,
                         const glm4v_image *const *frames, glm4v_patch_grid grid, glm4v_pool *pool,
                         glm4v_error *err)
{
    for (int64_t slot = 0, n; slot < p->temporal; slot += n) {
        for (n = 1; slot + n < p->temporal && frames[slot + n] == frames[slot];)
            n++;
        frame_job job = {
            .image = frames[slot],
            .shape = { p->patch, p->merge, p->temporal, slot, n, p->value },
            .patches = patches,
        };
        int rc = run_frame(p, &job, grid, pool, err);
        if (rc)
            return rc;
    }
    return 0;
}
