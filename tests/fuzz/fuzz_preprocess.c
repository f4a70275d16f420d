/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-09: pictures of any size, stride and content become the patches that a slow second
 * implementation makes of them, in one byte order of work (whole picture, pixel by pixel); sizes
 * and clip samples keep their promises for any input. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "picture/preprocess.h"

#define MAX_SIDE 96
#define MAX_GRID 6

static const glm4v_processor_config processor = {
    .min_pixels = 784, .max_pixels = 100000, .mean = { 0.5, 0.4, 0.3 }, .std = { 0.2, 0.3, 0.4 }
};
static const glm4v_vision_config vision = { .patch = 14, .temporal = 2, .merge = 2 };
static glm4v_preprocessor *preprocessor;

typedef struct {
    const uint8_t *data;
    size_t size, at;
} reader;

static uint32_t take(reader *r)
{
    return r->at < r->size ? r->data[r->at++] : 0;
}

static double take_double(reader *r)
{
    double x = 0;
    for (size_t i = 0; i < sizeof x; i++)
        ((uint8_t *)&x)[i] = (uint8_t)take(r);
    return x;
}

/* ---- the slow resize ---- */

static double cubic(double x)
{
    x = fabs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/* Sample x of n_out of a line of n_in bytes, step apart. */
static uint8_t sample(const uint8_t *line, size_t step, int n_in, int n_out, int x)
{
    double scale = (double)n_in / n_out, wide = scale > 1 ? scale : 1, center = (x + 0.5) * scale,
           sum = 0;
    int lo = (int)(center - 2 * wide + 0.5), hi = (int)(center + 2 * wide + 0.5);
    int64_t acc = 1 << 21;
    lo = lo < 0 ? 0 : lo;
    hi = hi > n_in ? n_in : hi;
    if (n_in == n_out)
        return line[(size_t)x * step];
    for (int i = lo; i < hi; i++)
        sum += cubic((i - center + 0.5) * (1 / wide));
    for (int i = lo; i < hi; i++) {
        double w = cubic((i - center + 0.5) * (1 / wide)) / sum * 4194304;
        acc += (int64_t)(w < 0 ? w - 0.5 : w + 0.5) * line[(size_t)i * step];
    }
    acc >>= 22;
    return (uint8_t)(acc < 0 ? 0 : acc > 255 ? 255 : acc);
}

static void slow_resize(uint8_t *out, const glm4v_image *image, int ow, int oh)
{
    static uint8_t wide[3 * MAX_SIDE * 14 * MAX_GRID];
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < 3 * ow; x++)
            wide[y * 3 * ow + x] =
                sample(image->data + y * image->stride + x % 3, 3, image->width, ow, x / 3);
    for (int y = 0; y < oh; y++)
        for (int x = 0; x < 3 * ow; x++)
            out[y * 3 * ow + x] = sample(wide + x, (size_t)(3 * ow), image->height, oh, y);
}

static void check_patches(const float *patches, const glm4v_image *image, int slot, int gh, int gw)
{
    static uint8_t rgb[3 * 196 * MAX_GRID * MAX_GRID];
    slow_resize(rgb, image, 14 * gw, 14 * gh);
    for (int i = 0; i < gh * gw * 588; i++) {
        int row = i / 588, c = i % 588 / 196, y = i % 196 / 14, x = i % 14;
        int py = row / (2 * gw) * 2 + row % 4 / 2, px = row / 4 % (gw / 2) * 2 + row % 2;
        uint8_t v = rgb[((py * 14 + y) * 14 * gw + px * 14 + x) * 3 + c];
        float expected = (float)((v / 255.0 - processor.mean[c]) / processor.std[c]);
        FUZZ_CHECK(patches[row * 1176 + (c * 2 + slot) * 196 + y * 14 + x] == expected);
    }
}

static glm4v_image make_image(reader *r, uint8_t **block)
{
    int w = 1 + (int)take(r) % MAX_SIDE, h = 1 + (int)take(r) % MAX_SIDE;
    int64_t stride = 3 * w + take(r) % 70;
    size_t size = (size_t)((h - 1) * stride + 3 * w);
    *block = malloc(size); /* ends with the last pixel */
    FUZZ_CHECK(*block);
    uint32_t first = take(r), step = take(r);
    for (size_t i = 0; i < size; i++)
        (*block)[i] = (uint8_t)(r->at < r->size ? r->data[r->at++] : first + step * i + (i >> 3));
    return (glm4v_image) { *block, w, h, stride, 0 };
}

static void fuzz_picture(reader *r)
{
    int gh = 2 + 2 * (int)(take(r) % (MAX_GRID / 2)), gw = 2 + 2 * (int)(take(r) % (MAX_GRID / 2));
    uint8_t *blocks[2] = { NULL };
    bool pair = take(r) & 1;
    glm4v_image images[2] = { make_image(r, &blocks[0]) };
    if (pair)
        images[1] = make_image(r, &blocks[1]);
    const glm4v_image *frames[2] = { &images[0], &images[pair] };
    float *patches = malloc((size_t)(gh * gw) * 1176 * sizeof *patches);
    FUZZ_CHECK(patches && !glm4v_preprocess_run(preprocessor, patches, frames,
                                                (glm4v_patch_grid) { (uint32_t)gh, (uint32_t)gw },
                                                NULL, NULL));
    check_patches(patches, frames[0], 0, gh, gw);
    check_patches(patches, frames[1], 1, gh, gw);
    free(patches);
    free(blocks[0]);
    free(blocks[1]);
}

static void fuzz_size(reader *r)
{
    int64_t n = 2 + take(r) * 3, h = (int64_t)(take(r) << 8 | take(r)),
            w = (int64_t)(take(r) << 8 | take(r));
    int64_t factor = 1 + take(r) % 64;
    glm4v_size resized = { -1, -1 };
    uint64_t min = (uint64_t)take(r) << take(r) % 16,
             max = min + ((uint64_t)take(r) << take(r) % 24);
    int rc = glm4v_smart_resize(&resized, (glm4v_size) { .width = w, .height = h },
                                &(glm4v_size_rule) { n, factor, min, max }, NULL);
    if (rc)
        FUZZ_CHECK(resized.width == -1 && resized.height == -1);
    else
        FUZZ_CHECK(resized.height >= factor && resized.width >= factor &&
                   resized.height % factor == 0 && resized.width % factor == 0);
}

static void fuzz_clip(reader *r)
{
    const glm4v_config config = { .video_fps = 0.1 + take(r) / 8.0, .vision = { .temporal = 2 } };
    bool dynamic = take(r) & 1, wild = take(r) & 1;
    uint32_t n = 1 + take(r) % 200, most = n + n % 2;
    double *seconds = malloc(n * sizeof *seconds), at = 0;
    uint32_t *indices = malloc(most * sizeof *indices);
    FUZZ_CHECK(seconds && indices);
    for (uint32_t i = 0; i < n; i++)
        seconds[i] = wild ? take_double(r) : (at += take(r) / 16.0);
    glm4v_clip clip = { seconds, n, indices, most, 0 };
    if (!glm4v_sample_clip(&clip, &config, dynamic, NULL)) {
        const uint32_t count = clip.n_indices;
        FUZZ_CHECK(count >= 2 && count % 2 == 0 && count <= most);
        for (uint32_t i = 0; i < count; i++)
            FUZZ_CHECK(indices[i] < n && (!i || indices[i] > indices[i - 1] || i == count - 1));
    }
    free(indices);
    free(seconds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader r = { data, size, 0 };
    if (!preprocessor)
        FUZZ_CHECK(!glm4v_preprocessor_open(&preprocessor, &processor, &vision, NULL));
    uint32_t what = take(&r) % 3;
    if (what == 0)
        fuzz_picture(&r);
    else if (what == 1)
        fuzz_size(&r);
    else
        fuzz_clip(&r);
    return 0;
}
