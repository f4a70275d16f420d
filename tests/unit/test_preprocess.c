/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Picture sizes, patches and clip sampling. The whole stage against reference vectors is
 * build/tests/preprocess-check; the numbers here are a sample of those rows and formulas written a
 * second time. */
#include "base/mem.h"
#include "picture/preprocess.h"
#include "picture/resize.h"
#include "test.h"

static const glm4v_processor_config processor = {
    .min_pixels = 12544,
    .max_pixels = 9633792,
    .mean = { 0.48145466, 0.4578275, 0.40821073 },
    .std = { 0.26862954, 0.26130258, 0.27577711 },
};
static const glm4v_vision_config vision = { .patch = 14, .temporal = 2, .merge = 2 };

/* ---- sizes ---- */

static void sizes_equal_the_reference(void)
{
    static const int rows[][5] = {
        /* frames, height, width, resized; 0: rejected */
        { 2, 22, 4792, 0, 0 },         { 2, 3857, 1, 0, 0 },          { 2, 3106, 11, 0, 0 },
        { 2, 1022, 14, 2044, 28 },     { 2, 40, 16, 140, 56 },        { 16, 29, 4, 196, 28 },
        { 2, 27, 54, 56, 112 },        { 2, 20, 11, 112, 84 },        { 2, 4581, 4846, 2128, 2240 },
        { 16, 924, 4875, 336, 1764 },  { 4, 4640, 1220, 3024, 784 },  { 4, 1290, 2819, 1036, 2268 },
        { 16, 4126, 1100, 1484, 392 }, { 4, 2107, 2157, 1512, 1568 }, { 16, 42, 2840, 56, 2828 },
        { 2, 182, 4632, 168, 4620 },   { 4, 42, 417, 56, 420 },       { 2, 70, 32, 140, 56 },
        { 2, 1589, 3522, 1456, 3248 }, { 4, 33, 1159, 28, 1148 },     { 2, 3991, 16, 0, 0 },
        { 2, 1984, 20, 2772, 28 },     { 4, 2697, 3247, 1400, 1680 }, { 16, 27, 54, 28, 56 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        glm4v_size resized = { 0, 0 };
        int rc = glm4v_smart_resize(
            &resized, (glm4v_size) { .width = rows[i][2], .height = rows[i][1] },
            &(glm4v_size_rule) { rows[i][0], 28, processor.min_pixels, processor.max_pixels },
            NULL);
        if (resized.height != rows[i][3] || resized.width != rows[i][4] ||
            rc != (rows[i][3] ? 0 : GLM4V_ERR_INVALID))
            test_fail(__FILE__, __LINE__, "%d frames of %dx%d give %dx%d (%d), not %dx%d",
                      rows[i][0], rows[i][2], rows[i][1], (int)resized.width, (int)resized.height,
                      rc, rows[i][4], rows[i][3]);
    }
}

static void impossible_sizes_are_refused(void)
{
    static const int64_t bad[][3] = { { 2, 0, 100 },       { 2, 100, 0 },          { 2, -5, 100 },
                                      { 2, 16385, 16384 }, { 2, 16384, 80 },       { 1, 100, 100 },
                                      { 0, 100, 100 },     { INT64_MAX, 100, 100 } };
    glm4v_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        glm4v_size resized = { -1, -1 };
        CHECK_EQ(glm4v_smart_resize(&resized,
                                    (glm4v_size) { .width = bad[i][2], .height = bad[i][1] },
                                    &(glm4v_size_rule) { bad[i][0], 28, 1, 1 << 20 }, &err),
                 GLM4V_ERR_INVALID);
        CHECK(resized.width == -1 && resized.height == -1);
    }
    glm4v_size resized;
    CHECK_EQ(glm4v_smart_resize(&resized, (glm4v_size) { .width = 16384, .height = 16384 },
                                &(glm4v_size_rule) { 2, 28, 1, 1 << 20 }, &err),
             0);
    CHECK_EQ(glm4v_smart_resize(&resized, (glm4v_size) { .width = 81, .height = 16384 },
                                &(glm4v_size_rule) { 2, 28, 1, 1 << 20 }, &err),
             GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_smart_resize(&resized, (glm4v_size) { .width = 82, .height = 16384 },
                                &(glm4v_size_rule) { 2, 28, 1, 1 << 20 }, &err),
             0);
}

static void the_grid_obeys_the_callers_pixel_bound(void)
{
    static const uint8_t data[3];
    glm4v_image image = { .data = data, .width = 1280, .height = 720, .stride = 3840 };
    glm4v_preprocessor *p = NULL;
    glm4v_patch_grid grid = { 0, 0 };
    REQUIRE(!glm4v_preprocessor_open(&p, &processor, &vision, NULL));
    CHECK_EQ(glm4v_preprocess_grid(p, &image, 1, 0, &grid, NULL), 0);
    CHECK(grid.h == 52 && grid.w == 92); /* 728 x 1288 */
    for (uint64_t bound = 784; bound < 2000000; bound = bound * 3 / 2) {
        CHECK_EQ(glm4v_preprocess_grid(p, &image, 1, bound, &grid, NULL), 0);
        CHECK((uint64_t)(grid.h * grid.w) * 196 <= bound);
        CHECK(grid.h % 2 == 0 && grid.w % 2 == 0 && grid.h && grid.w);
    }
    CHECK_EQ(glm4v_preprocess_grid(p, &image, 8, 200704, &grid, NULL), 0);
    CHECK(grid.h * grid.w * 196 <= 200704 &&
          grid.h * grid.w * 196 > 100000); /* a bound of one frame, clips too */
    CHECK_EQ(glm4v_preprocess_grid(p, &image, 1, UINT64_MAX, &grid, NULL), 0);
    CHECK(grid.h == 52 && grid.w == 92);
    glm4v_preprocessor_close(&p);
}

/* GLM-4V-9B: the resize alone, whatever the picture's shape, then mean and std; one frame a patch.
 * */
static void one_size_takes_pictures_of_any_shape(void)
{
    enum { SIDE = 56, AREA = 14 * 14 };
    const glm4v_processor_config fixed = { .side = SIDE,
                                           .mean = { 0.48145466, 0.4578275, 0.40821073 },
                                           .std = { 0.26862954, 0.26130258, 0.27577711 } };
    const glm4v_vision_config single = { .patch = 14, .temporal = 1, .merge = 2 };
    static uint8_t pixels[3 * 90 * 31], scratch[1 << 20];
    static float patches[3 * SIDE * SIDE];
    const glm4v_image image = { .data = pixels, .width = 90, .height = 31, .stride = 3 * 90 };
    const glm4v_image *frames[1] = { &image };
    glm4v_preprocessor *p = NULL;
    glm4v_pool *pool = NULL;
    glm4v_patch_grid grid = { 0, 0 };
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * i / 7 + i);
    REQUIRE(!glm4v_preprocessor_open(&p, &fixed, &single, NULL) &&
            !glm4v_pool_open(&pool, 2, NULL));
    CHECK_EQ(glm4v_preprocess_grid(p, &image, 1, 1, &grid, NULL), 0); /* no bound moves it */
    CHECK(grid.h == 4 && grid.w == 4);
    CHECK_EQ(glm4v_preprocess_run(p, patches, frames, grid, pool, NULL), 0);
    int64_t stride;
    glm4v_image_ops ops;
    glm4v_resize resize;
    glm4v_image_ops_init(&ops, 0);
    REQUIRE(!glm4v_resize_init(&resize, &ops, (glm4v_size) { 90, 31 }, (glm4v_size) { SIDE, SIDE },
                               NULL) &&
            glm4v_resize_scratch(&resize, SIDE) <= sizeof scratch);
    const uint8_t *resized = glm4v_resize_band(&resize, &image, 0, SIDE, scratch, &stride);
    for (int i = 0; i < 3 * SIDE * SIDE; i++) {
        const int patch = i / (3 * AREA), c = i / AREA % 3, at = i % AREA;
        const int y = (patch / 8 * 2 + patch % 4 / 2) * 14 + at / 14;
        const int x = (patch / 4 % 2 * 2 + patch % 2) * 14 + at % 14;
        const double v = resized[y * stride + 3 * x + c] / 255.0;
        CHECK(fabs(patches[i] - (v - fixed.mean[c]) / fixed.std[c]) < 1e-6);
    }
    glm4v_resize_clear(&resize);
    glm4v_image none = image;
    none.height = 0;
    CHECK_EQ(glm4v_preprocess_grid(p, &none, 1, 0, &grid, NULL), GLM4V_ERR_INVALID);
    glm4v_pool_close(&pool);
    glm4v_preprocessor_close(&p);
}

static void a_bad_picture_is_named(void)
{
    static const uint8_t data[3];
    glm4v_image image = { .data = NULL, .width = 10, .height = 10, .stride = 30 };
    glm4v_preprocessor *p = NULL;
    glm4v_error err = { 0 };
    glm4v_patch_grid grid;
    REQUIRE(!glm4v_preprocessor_open(&p, &processor, &vision, NULL));
    CHECK_EQ(glm4v_preprocess_grid(p, &image, 1, 0, &grid, &err), GLM4V_ERR_INVALID);
    image.data = data;
    image.stride = 29;
    CHECK_EQ(glm4v_preprocess_grid(p, &image, 1, 0, &grid, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "29 bytes");
    image = (glm4v_image) { .data = data, .width = 10000, .height = 1, .stride = 30000 };
    CHECK_EQ(glm4v_preprocess_grid(p, &image, 1, 0, &grid, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "too narrow");
    glm4v_preprocessor_close(&p);
}

/* ---- patches ---- */

static uint8_t pixel(int frame, int y, int x, int c)
{
    return (uint8_t)(y * 31 + x * 17 + c * 101 + frame * 57 + y * x);
}

static void fill_frame(uint8_t *data, int frame, int h, int w)
{
    for (int i = 0; i < h * w * 3; i++)
        data[i] = pixel(frame, i / (3 * w), i / 3 % w, i % 3);
}

/* Value of patch row, channel, slot, y, x by the definition of the layout, for pictures whose size
 * does not change. */
static float expected_value(int row, int c, int frame, int y, int x, int grid_w)
{
    int block = row / 4, in = row % 4;
    int py = block / (grid_w / 2) * 2 + in / 2, px = block % (grid_w / 2) * 2 + in % 2;
    return (float)((pixel(frame, py * 14 + y, px * 14 + x, c) / 255.0 - processor.mean[c]) /
                   processor.std[c]);
}

static void check_patches(const float *patches, int gh, int gw, int second_frame)
{
    for (int i = 0; i < gh * gw * 1176; i++) {
        int row = i / 1176, c = i % 1176 / 392, slot = i % 392 / 196, y = i % 196 / 14, x = i % 14;
        float expected = expected_value(row, c, slot ? second_frame : 0, y, x, gw);
        if (patches[i] != expected) {
            test_fail(__FILE__, __LINE__, "patch %d channel %d slot %d (%d, %d): %g, not %g", row,
                      c, slot, y, x, patches[i], expected);
            return;
        }
    }
}

enum { GH = 6, GW = 8, H = 14 * GH, W = 14 * GW };

static void patches_stand_in_merge_block_order(void)
{
    static uint8_t data[2][H * W * 3];
    static float patches[GH * GW * 1176];
    glm4v_preprocessor *p = NULL;
    glm4v_pool *pool = NULL;
    REQUIRE(!glm4v_preprocessor_open(&p, &processor, &vision, NULL) &&
            !glm4v_pool_open(&pool, 3, NULL));
    glm4v_image images[2];
    for (int f = 0; f < 2; f++) {
        fill_frame(data[f], f, H, W);
        images[f] = (glm4v_image) { .data = data[f], .width = W, .height = H, .stride = 3 * W };
    }
    const glm4v_image *still[] = { &images[0], &images[0] }, *pair[] = { &images[0], &images[1] };
    REQUIRE(!glm4v_preprocess_run(p, patches, still, (glm4v_patch_grid) { GH, GW }, NULL, NULL));
    check_patches(patches, GH, GW, 0);
    REQUIRE(!glm4v_preprocess_run(p, patches, pair, (glm4v_patch_grid) { GH, GW }, pool, NULL));
    check_patches(patches, GH, GW, 1);
    glm4v_pool_close(&pool);
    glm4v_preprocessor_close(&p);
}

static void threads_do_not_change_a_byte(void)
{
    static uint8_t data[H * W * 3];
    static float one[26 * 12 * 1176], many[26 * 12 * 1176];
    glm4v_preprocessor *p = NULL;
    glm4v_pool *pool = NULL;
    REQUIRE(!glm4v_preprocessor_open(&p, &processor, &vision, NULL) &&
            !glm4v_pool_open(&pool, 4, NULL));
    fill_frame(data, 0, H, W);
    glm4v_image image = { .data = data, .width = W, .height = H, .stride = 3 * W };
    const glm4v_image *frames[] = { &image, &image };
    REQUIRE(!glm4v_preprocess_run(p, one, frames, (glm4v_patch_grid) { 26, 12 }, NULL, NULL));
    REQUIRE(!glm4v_preprocess_run(p, many, frames, (glm4v_patch_grid) { 26, 12 }, pool, NULL));
    CHECK(!memcmp(one, many, sizeof one));
    glm4v_pool_close(&pool);
    glm4v_preprocessor_close(&p);
}

static void refused_memory_is_an_error_without_leak(void)
{
    static uint8_t data[H * W * 3];
    static float patches[4 * 1176];
    glm4v_image image = { .data = data, .width = W, .height = H, .stride = 3 * W };
    const glm4v_image *frames[] = { &image, &image };
    size_t live = glm4v_mem_live();
    glm4v_error err;
    for (uint64_t nth = 1; nth <= 4; nth++) {
        glm4v_preprocessor *p = NULL;
        glm4v_mem_fail_at(nth, false);
        int rc = glm4v_preprocessor_open(&p, &processor, &vision, &err);
        if (!rc)
            rc = glm4v_preprocess_run(p, patches, frames, (glm4v_patch_grid) { 2, 2 }, NULL, &err);
        glm4v_mem_fail_at(0, false);
        CHECK_EQ(rc, nth <= 3 ? GLM4V_ERR_NOMEM : 0);
        glm4v_preprocessor_close(&p);
        CHECK_EQ(glm4v_mem_live(), live);
    }
}

/* ---- clips ---- */

static glm4v_config config = { .video_fps = 2, .video_most = 640, .vision = { .temporal = 2 } };

static uint32_t sample(bool dynamic, uint32_t n, double fps, uint32_t *indices)
{
    double *seconds = glm4v_alloc(n, sizeof *seconds);
    glm4v_clip clip = { seconds, n, indices, n + n % 2, 0 };
    for (uint32_t i = 0; seconds && i < n; i++)
        /* whole nanoseconds, as a pipeline has them */
        seconds[i] = 1000 + floor(i / fps * 1e9) / 1e9;
    if (!seconds || glm4v_sample_clip(&clip, &config, dynamic, NULL))
        test_fail(__FILE__, __LINE__, "%u frames at %g", n, fps);
    glm4v_free(seconds);
    return clip.n_indices;
}

/* The reference of GLM-4.1V, which counts frames of a constant rate. */
static uint32_t reference_fixed(uint32_t n, double fps, uint32_t *indices)
{
    double length = rint((n - 1) / fps) + 1;
    uint32_t count = 0, samples = length <= 300 ? (uint32_t)(length * 2) : 600;
    for (uint32_t i = 0; i < samples; i++) {
        double at = length <= 300 ? ceil(i * fps / 2 - 1e-9) : ceil(i * length / 599 * fps - 1e-9);
        uint32_t frame = length > 300 && n <= 600 ? (i < n ? i : n - 1)
                         : at < n - 1             ? (uint32_t)at
                                                  : n - 1;
        if (!count || indices[count - 1] != frame)
            indices[count++] = frame;
    }
    if (count % 2) {
        indices[count] = indices[count - 1];
        count++;
    }
    return count;
}

static void fixed_sampling_equals_the_reference(void)
{
    static const double rates[] = { 0.5, 1, 2, 5, 10, 24, 25, 30000.0 / 1001, 30, 50, 60, 120 };
    static uint32_t got[3002], expected[3002];
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++)
        for (uint32_t n = 1; n <= 3000; n = n < 70 ? n + 1 : n * 5 / 4) {
            uint32_t a = sample(false, n, rates[r], got),
                     b = reference_fixed(n, rates[r], expected);
            if (a != b || memcmp(got, expected, a * sizeof *got)) {
                test_fail(__FILE__, __LINE__, "%u frames at %g fps: %u samples, not %u", n,
                          rates[r], a, b);
                return;
            }
        }
}

/* w values from first to last, truncated, each once. */
static uint32_t spread(uint32_t *indices, double first, double last, int64_t w)
{
    uint32_t count = 0;
    for (int64_t i = 0; i < w; i++) {
        const double step = w > 1 ? (last - first) / (double)(w - 1) : 0;
        const uint32_t at = (uint32_t)(i && i == w - 1 ? last : first + (double)i * step);
        if (!count || indices[count - 1] != at)
            indices[count++] = at;
    }
    return count;
}

/* The reference of GLM-GA, which counts frames of a constant rate. */
static uint32_t reference_steady(uint32_t n, double fps, uint32_t *indices)
{
    const double length = rint((n - 1) / fps) + 1;
    const int64_t wanted = length * 2 < 640 ? (int64_t)(length * 2) : 640;
    uint32_t count = 0;
    double current = 0;
    if (n < wanted)
        for (int64_t i = 0; i < wanted; i++) {
            const uint32_t at = (uint32_t)floor((double)(i * n) / (double)wanted);
            if (!count || indices[count - 1] != at)
                indices[count++] = at;
        }
    for (uint32_t i = 0; n >= wanted && i < n; i++)
        if (i / fps >= current - 1e-9) {
            indices[count++] = i;
            current += 0.5;
            if (current >= length - 0.5)
                break;
        }
    if (n >= wanted && count < wanted)
        count = spread(indices, indices[0], indices[count - 1], wanted);
    else if (n >= wanted && count > wanted)
        count = spread(indices, 0, n - 1, wanted);
    if (count % 2) {
        indices[count] = indices[count - 1];
        count++;
    }
    return count;
}

static void steady_sampling_equals_the_reference(void)
{
    static const double rates[] = { 0.5, 1, 2, 5, 10, 24, 25, 30, 50, 60, 120 };
    static uint32_t got[42000], expected[42000];
    config.steady_clips = true;
    for (size_t r = 0; test_ok && r < sizeof rates / sizeof *rates; r++)
        for (uint32_t n = 1; n <= 40000; n = n < 70 ? n + 1 : n * 5 / 4) {
            const uint32_t a = sample(false, n, rates[r], got),
                           b = reference_steady(n, rates[r], expected);
            if (a != b || memcmp(got, expected, a * sizeof *got))
                test_fail(__FILE__, __LINE__, "%u frames at %g fps: %u samples, not %u", n,
                          rates[r], a, b);
        }
    CHECK_EQ(sample(true, 40000, 30, got), 640);
    config.steady_clips = false;
}

static void check_samples(bool dynamic, uint32_t n, double fps, uint32_t count,
                          const uint32_t *expected)
{
    uint32_t got[1024];
    CHECK_EQ(sample(dynamic, n, fps, got), count);
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQ(got[i], expected[i]);
}

static void fixed_sampling_takes_two_frames_a_second(void)
{
    check_samples(false, 1, 30, 2, (uint32_t[]) { 0, 0 });
    check_samples(false, 30, 30, 4, (uint32_t[]) { 0, 15, 29, 29 });
    check_samples(false, 75, 25, 8, (uint32_t[]) { 0, 13, 25, 38, 50, 63, 74, 74 });
    check_samples(false, 4, 1, 4, (uint32_t[]) { 0, 1, 2, 3 });
}

static void dynamic_sampling_takes_more_of_short_clips(void)
{
    /* counts as 2 s: twelve wanted; the walk at 1/6 s finds 0, 5 ... 25, so twelve are spread over
     * 0..25 */
    check_samples(true, 30, 30, 12, (uint32_t[]) { 0, 2, 4, 6, 9, 11, 13, 15, 18, 20, 22, 25 });
    /* fewer frames than wanted: spread, then without repeats */
    check_samples(true, 4, 30, 4, (uint32_t[]) { 0, 1, 2, 3 });
    check_samples(true, 1, 30, 2, (uint32_t[]) { 0, 0 });
    uint32_t got[1024];
    /* 65 s: 130 wanted, 128 walked at 1/2 s, so spread over 0..635 */
    CHECK_EQ(sample(true, 640, 10, got), 130);
    CHECK_EQ(got[1], 4);
    CHECK_EQ(got[129], 635);
}

static void every_sampling_is_ordered_even_and_in_range(void)
{
    static uint32_t got[1002];
    static const double rates[] = { 0.01, 0.1, 0.3, 1, 7, 30, 240 };
    for (int dynamic = 0; dynamic < 2; dynamic++)
        for (size_t r = 0; r < sizeof rates / sizeof *rates; r++)
            for (uint32_t n = 1; n <= 1000; n += 1 + n / 9) {
                uint32_t count = sample(dynamic, n, rates[r], got);
                CHECK(count >= 2 && count % 2 == 0 && count <= n + n % 2 && got[count - 1] < n);
                CHECK_EQ(got[0], 0);
                for (uint32_t i = 1; i < count; i++)
                    CHECK(got[i] > got[i - 1] || i == count - 1);
            }
}

static void times_that_go_back_are_refused(void)
{
    static const struct {
        bool dynamic;
        double seconds[4];
        uint32_t n, room;
        const char *said;
    } bad[] = {
        { false, { 0, 2, 1, 3 }, 4, 4, "frame 2 is 1, after 2" },
        { true, { 0, NAN }, 2, 4, "frame 1 is nan" },
        { true, { 0, 1, 2 }, 3, 3, "3 frames cannot be sampled to 3" },
        { true, { 0 }, 0, 4, "0 frames" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t got[4];
        glm4v_clip clip = { bad[i].seconds, bad[i].n, got, bad[i].room, 77 };
        glm4v_error err;
        CHECK_EQ(glm4v_sample_clip(&clip, &config, bad[i].dynamic, &err), GLM4V_ERR_INVALID);
        CHECK_CONTAINS(err.msg, bad[i].said);
        CHECK_EQ(clip.n_indices, 77);
    }
}

int main(void)
{
    TEST(sizes_equal_the_reference);
    TEST(impossible_sizes_are_refused);
    TEST(the_grid_obeys_the_callers_pixel_bound);
    TEST(one_size_takes_pictures_of_any_shape);
    TEST(a_bad_picture_is_named);
    TEST(patches_stand_in_merge_block_order);
    TEST(threads_do_not_change_a_byte);
    TEST(refused_memory_is_an_error_without_leak);
    TEST(fixed_sampling_equals_the_reference);
    TEST(steady_sampling_equals_the_reference);
    TEST(fixed_sampling_takes_two_frames_a_second);
    TEST(dynamic_sampling_takes_more_of_short_clips);
    TEST(every_sampling_is_ordered_even_and_in_range);
    TEST(times_that_go_back_are_refused);
    return test_end();
}
