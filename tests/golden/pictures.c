/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Comparison of preprocess.c and resize.c with the reference processor's own output. */
#include "pictures.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "cpu.h"
#include "picture/preprocess.h"
#include "picture/resize.h"
#include "read_png.h"

#define SUM_TOLERANCE 1e-3 /* the sums were taken before rounding to f16, in float */

/* Values of the real GLM-4.1V preprocessor_config.json. */
static const glm4v_processor_config processor = {
    .min_pixels = 12544,
    .max_pixels = 9633792,
    .mean = { 0.48145466, 0.4578275, 0.40821073 },
    .std = { 0.26862954, 0.26130258, 0.27577711 },
};
static const glm4v_vision_config vision = { .patch = 14, .temporal = 2, .merge = 2 };

typedef struct {
    const char *dir;
    pictures_fn fn;
    void *user;
    glm4v_checkpoint *golden;
    glm4v_preprocessor *preprocessor;
    glm4v_error *err;
} check;

__attribute__((format(printf, 6, 7))) static void report(const check *c, const char *name,
                                                         const char *stage, bool equal,
                                                         double max_abs, const char *format, ...)
{
    pictures_result r = { .equal = equal, .max_abs = max_abs };
    va_list args;
    snprintf(r.name, sizeof r.name, "%s", name);
    snprintf(r.stage, sizeof r.stage, "%s", stage);
    va_start(args, format);
    vsnprintf(r.detail, sizeof r.detail, format, args);
    va_end(args);
    c->fn(c->user, &r);
}

/* ---- sizes ---- */

static bool row_holds(const json_t *row)
{
    glm4v_size resized = { 0, 0 };
    const json_t *expected = json_array_get(row, 3);
    int rc =
        glm4v_smart_resize(&resized,
                           (glm4v_size) { .width = json_integer_value(json_array_get(row, 2)),
                                          .height = json_integer_value(json_array_get(row, 1)) },
                           &(glm4v_size_rule) { json_integer_value(json_array_get(row, 0)), 28,
                                                processor.min_pixels, processor.max_pixels },
                           NULL);
    if (json_is_null(expected))
        return rc != 0;
    return !rc && resized.height == json_integer_value(json_array_get(expected, 0)) &&
           resized.width == json_integer_value(json_array_get(expected, 1));
}

static int check_sizes(check *c)
{
    char path[1200];
    json_error_t error;
    snprintf(path, sizeof path, "%s/smart_resize.json", c->dir);
    if (access(path, F_OK))
        return 0;
    json_t *rows = json_load_file(path, 0, &error);
    if (!rows)
        return glm4v_fail(c->err, GLM4V_ERR_FORMAT, "%s: %s", path, error.text);
    size_t n = json_array_size(rows), wrong = 0, first = 0;
    for (size_t i = n; i-- > 0;)
        if (!row_holds(json_array_get(rows, i))) {
            wrong++;
            first = i;
        }
    if (wrong)
        report(c, "smart_resize", "size", false, 0, "%zu of %zu rows differ, the first is row %zu",
               wrong, n, first);
    else
        report(c, "smart_resize", "size", n > 0, 0, "%zu rows", n);
    json_decref(rows);
    return 0;
}

/* ---- pictures ---- */

static int read_picture(const check *c, const char *name, glm4v_image *image, uint8_t **pixels)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s.png", c->dir, name);
    *pixels = read_png(path, image);
    return *pixels ? 0 : glm4v_fail(c->err, GLM4V_ERR_IO, "%s: cannot be read as a PNG", path);
}

/* Tensor NAME.suffix as floats; NULL where there is none or it cannot be read. */
static float *read_tensor(const check *c, const char *name, const char *suffix, size_t *n)
{
    char full[256];
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    const glm4v_tensor *t = glm4v_checkpoint_find(c->golden, full);
    if (!t)
        return NULL;
    *n = t->size / glm4v_dtype_size(t->dtype);
    float *data = malloc(*n * sizeof *data + 1);
    if (data && t->dtype == GLM4V_DTYPE_U8) {
        uint8_t *bytes = (uint8_t *)data + *n * 3; /* read behind, then widened from the front */
        if (!glm4v_checkpoint_read(c->golden, t, 0, bytes, *n, NULL)) {
            for (size_t i = 0; i < *n; i++) {
                float value = bytes[i];
                memcpy(data + i, &value, sizeof value);
            }
            return data;
        }
    } else if (data && !glm4v_checkpoint_read_f32(c->golden, t, 0, data, *n, NULL)) {
        return data;
    }
    free(data);
    return NULL;
}

/* The nearest f16, ties to even. */
static double to_f16(float x)
{
    int exponent = x != 0 ? ilogbf(x) : -14;
    double step = ldexp(1, (exponent > -14 ? exponent : -14) - 10);
    return rint(x / step) * step;
}

static void compare_f16(const check *c, const char *name, const char *stage, const float *got,
                        size_t n_got, const float *expected, size_t n)
{
    double max_abs = 0;
    size_t wrong = 0;
    for (size_t i = 0; i < n && i < n_got; i++) {
        double difference = fabs(to_f16(got[i]) - (double)expected[i]);
        wrong += !(difference == 0);
        max_abs = difference > max_abs ? difference : max_abs;
    }
    report(c, name, stage, !wrong && n <= n_got, max_abs, "%zu of %zu values differ in f16", wrong,
           n);
}

static void compare_sums(const check *c, const char *name, const float *got, size_t n_got,
                         const float *expected, size_t n_rows)
{
    double max_abs = 0;
    size_t length = n_got / n_rows;
    for (size_t i = 0; i < n_rows; i++) {
        double sum = 0;
        for (size_t k = 0; k < length; k++)
            sum += got[i * length + k];
        max_abs = fmax(max_abs, fabs(sum - (double)expected[i]));
    }
    report(c, name, "row sums", max_abs <= SUM_TOLERANCE, max_abs, "%zu rows", n_rows);
}

static void compare_patches(const check *c, const char *name, const float *patches,
                            size_t n_patches)
{
    size_t n;
    float *expected = read_tensor(c, name, "pixel_values", &n);
    if (expected)
        compare_f16(c, name, "patches", patches, n_patches, expected, n);
    free(expected);
    expected = read_tensor(c, name, "pixel_values_head", &n);
    if (expected)
        compare_f16(c, name, "first patches", patches, n_patches, expected, n);
    free(expected);
    expected = read_tensor(c, name, "pixel_values_sum_rows", &n);
    if (expected)
        compare_sums(c, name, patches, n_patches, expected, n);
    free(expected);
}

static int check_patches(check *c, const char *name, const glm4v_image *image)
{
    glm4v_patch_grid size;
    size_t n;
    const glm4v_image *frames[] = { image, image };
    int rc = glm4v_preprocess_grid(c->preprocessor, image, 1, 0, &size, c->err);
    float *grid = rc ? NULL : read_tensor(c, name, "grid_thw", &n);
    if (!grid)
        return rc ? rc : glm4v_fail(c->err, GLM4V_ERR_FORMAT, "%s.grid_thw cannot be read", name);
    bool same = n == 3 && grid[0] == 1 && grid[1] == (float)size.h && grid[2] == (float)size.w;
    report(c, name, "grid", same, 0, "%" PRId64 "x%" PRId64, size.h, size.w);
    free(grid);
    if (!same)
        return 0;
    size_t n_patches = (size_t)size.h * size.w * 1176;
    float *patches = malloc(n_patches * sizeof *patches);
    rc = patches ? glm4v_preprocess_run(c->preprocessor, patches, frames, size, NULL, c->err)
                 : glm4v_fail(c->err, GLM4V_ERR_NOMEM, "no memory");
    if (!rc)
        compare_patches(c, name, patches, n_patches);
    free(patches);
    return rc;
}

/* The resize alone: u8 [224, 224, 3]. */
static int check_resize(check *c, const char *name, const glm4v_image *image)
{
    size_t n, wrong = 0;
    float *expected = read_tensor(c, name, "bicubic224", &n);
    if (!expected)
        return 0;
    glm4v_image_ops ops;
    glm4v_resize resize;
    unsigned flags = glm4v_cpu_flags();
    glm4v_cpu_mask(getenv("GLM4V_CPU"), &flags);
    glm4v_image_ops_init(&ops, flags);
    int rc = glm4v_resize_init(&resize, &ops, (glm4v_size) { image->width, image->height },
                               (glm4v_size) { 224, 224 }, c->err);
    uint8_t *scratch = rc ? NULL : malloc(glm4v_resize_scratch(&resize, 224));
    if (scratch) {
        int64_t stride;
        const uint8_t *rows = glm4v_resize_band(&resize, image, 0, 224, scratch, &stride);
        for (size_t i = 0; i < n; i++)
            wrong += rows[(int64_t)(i / 672) * stride + (int64_t)(i % 672)] != expected[i];
        report(c, name, "resize", !wrong && n == 224 * 672, 0, "%zu of %zu bytes differ", wrong, n);
    }
    free(scratch);
    free(expected);
    if (!rc)
        glm4v_resize_clear(&resize);
    return rc;
}

static int check_picture(check *c, const char *name)
{
    glm4v_image image;
    uint8_t *pixels = NULL;
    int rc = read_picture(c, name, &image, &pixels);
    if (!rc)
        rc = check_patches(c, name, &image);
    if (!rc)
        rc = check_resize(c, name, &image);
    free(pixels);
    return rc;
}

static int check_pictures(check *c)
{
    char path[1200], name[200];
    snprintf(path, sizeof path, "%s/golden.safetensors", c->dir);
    if (access(path, F_OK))
        return 0;
    int rc = glm4v_checkpoint_open_file(&c->golden, path, c->err);
    if (!rc)
        rc = glm4v_preprocessor_open(&c->preprocessor, &processor, &vision, c->err);
    for (uint32_t i = 0; !rc && i < glm4v_checkpoint_count(c->golden); i++) {
        const char *tensor = glm4v_checkpoint_at(c->golden, i)->name,
                   *end = strstr(tensor, ".grid_thw");
        if (end && !end[9] && end - tensor < (int)sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)(end - tensor), tensor);
            rc = check_picture(c, name);
        }
    }
    glm4v_preprocessor_close(&c->preprocessor);
    glm4v_checkpoint_close(&c->golden);
    return rc;
}

int pictures_check(const char *dir, pictures_fn fn, void *user, glm4v_error *err)
{
    check c = { .dir = dir, .fn = fn, .user = user, .err = err };
    if (access(dir, R_OK))
        return glm4v_fail(err, GLM4V_ERR_NOT_FOUND, "%s: no such directory", dir);
    int rc = check_sizes(&c);
    return rc ? rc : check_pictures(&c);
}
