/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The resize equals Pillow's at every kernel level, in bands, with any stride, and reads nothing
 * beyond the picture. */
#define _DEFAULT_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "cpu.h"
#include "digest.h"
#include "picture/resize.h"
#include "test.h"

/* tests/support/make_resize_vectors.py, Pillow 11.3.0 */
static const struct {
    int32_t w, h, ow, oh;
    uint64_t digest;
} vectors[] = {
    { 1, 1, 28, 28, 0x9af2e16d459c3315 },       { 3, 2, 28, 56, 0x0dd0f205fe6175e3 },
    { 28, 28, 28, 28, 0xf64cf8e10c9e050f },     { 29, 28, 28, 28, 0x86969868d23a7360 },
    { 28, 31, 28, 28, 0x06911d0dd72d8f0c },     { 31, 98, 84, 56, 0xdab5c781e40213d4 },
    { 97, 213, 84, 224, 0x3b7ba6f49f73648c },   { 200, 150, 224, 224, 0x941ef11c87375aae },
    { 640, 360, 308, 168, 0x318dc8130d158ab5 }, { 333, 77, 56, 308, 0xec427268279eb8e6 },
    { 7, 260, 84, 84, 0xfb1e6d99c739425c },     { 1021, 16, 28, 28, 0xc284bd6c9e7a0313 },
    { 5, 5, 140, 112, 0x1e10a5cc94a5b15b },     { 63, 65, 56, 84, 0xc9b9537e0c2d9b0f },
    { 64, 64, 112, 56, 0xf8811401c10f093a },    { 1280, 720, 308, 168, 0x64173d7dbda37cd0 },
};
#define N_VECTORS (sizeof vectors / sizeof *vectors)

/* Bytes as in make_resize_vectors.py. */
static void fill_picture(uint8_t *data, int32_t width, int32_t height, int64_t stride)
{
    uint32_t state = 12345;
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < 3 * width; x++) {
            state = (state * 1103515245u + 12345u) & 0x7fffffff;
            uint8_t byte = (uint8_t)(state >> 16);
            data[y * stride + x] = state >> 24 & 3 ? byte : (uint8_t)(255 * (byte & 1));
        }
}

/* Digest of the picture resized in bands of `rows`; 0 when memory is out. */
static uint64_t resize_digest(const glm4v_image_ops *ops, const glm4v_image *image, int32_t ow,
                              int32_t oh, int32_t rows)
{
    glm4v_resize resize;
    uint64_t h = DIGEST_BEGIN;
    if (glm4v_resize_init(&resize, ops, (glm4v_size) { image->width, image->height },
                          (glm4v_size) { ow, oh }, NULL))
        return 0;
    uint8_t *scratch = glm4v_alloc_aligned(1, glm4v_resize_scratch(&resize, rows));
    for (int32_t y = 0; scratch && y < oh; y += rows) {
        int32_t n = y + rows < oh ? rows : oh - y;
        int64_t stride;
        const uint8_t *band = glm4v_resize_band(&resize, image, y, n, scratch, &stride);
        for (int32_t i = 0; i < n; i++)
            h = digest_bytes(band + i * stride, (size_t)(3 * ow), h);
    }
    glm4v_free(scratch);
    glm4v_resize_clear(&resize);
    return scratch ? h : 0;
}

/* Every level that this machine has. */
static int levels(glm4v_image_ops ops[3], const char *names[3])
{
    static const char *const all[] = { "c", "avx2", "avx512" };
    unsigned flags[3];
    int n = 0;
    for (int i = 0; i < 3; i++) {
        flags[n] = glm4v_cpu_flags();
        glm4v_cpu_mask(all[i], &flags[n]);
        if (n && flags[n] == flags[n - 1])
            continue;
        glm4v_image_ops_init(&ops[n], flags[n]);
        names[n++] = all[i];
    }
    return n;
}

static void check_vectors(int32_t rows, int64_t extra)
{
    glm4v_image_ops ops[3];
    const char *names[3];
    int n = levels(ops, names);
    for (size_t v = 0; v < N_VECTORS; v++) {
        int64_t stride = 3 * vectors[v].w + extra;
        uint8_t *data = glm4v_alloc((size_t)vectors[v].h, (size_t)stride);
        REQUIRE(data);
        fill_picture(data, vectors[v].w, vectors[v].h, stride);
        glm4v_image image = {
            .data = data, .width = vectors[v].w, .height = vectors[v].h, .stride = stride
        };
        for (int i = 0; i < n; i++)
            if (resize_digest(&ops[i], &image, vectors[v].ow, vectors[v].oh, rows) !=
                vectors[v].digest)
                test_fail(__FILE__, __LINE__, "%s: %dx%d to %dx%d in bands of %d is not Pillow's",
                          names[i], vectors[v].w, vectors[v].h, vectors[v].ow, vectors[v].oh, rows);
        glm4v_free(data);
    }
}

static void whole_pictures_equal_pillow(void)
{
    check_vectors(1 << 20, 0);
}

static void bands_equal_the_whole(void)
{
    check_vectors(28, 0);
    check_vectors(5, 0);
}

static void the_stride_does_not_matter(void)
{
    check_vectors(28, 1);
    check_vectors(28, 61);
}

/* The picture ends where memory ends. */
static void no_byte_beyond_the_picture_is_read(void)
{
    glm4v_image_ops ops[3];
    const char *names[3];
    int n = levels(ops, names);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 32 * page;
    uint8_t *map =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map != MAP_FAILED && !mprotect(map + room, page, PROT_NONE));
    for (int32_t w = 1; w <= 70; w++)
        for (int32_t h = 1; h <= 9; h += 2) {
            uint8_t *data = map + room - 3 * w * h;
            fill_picture(data, w, h, 3 * w);
            glm4v_image image = { .data = data, .width = w, .height = h, .stride = 3 * w };
            uint64_t expected = resize_digest(&ops[0], &image, 28, 56, 28);
            CHECK(expected);
            for (int i = 1; i < n; i++)
                if (resize_digest(&ops[i], &image, 28, 56, 28) != expected)
                    test_fail(__FILE__, __LINE__, "%s: %dx%d differs from the reference", names[i],
                              w, h);
        }
    munmap(map, room + page);
}

static void a_refused_allocation_is_an_error(void)
{
    glm4v_image_ops ops;
    glm4v_resize resize;
    glm4v_error err = { 0 };
    glm4v_image_ops_init(&ops, 0);
    glm4v_mem_fail_at(1, false);
    CHECK_EQ(
        glm4v_resize_init(&resize, &ops, (glm4v_size) { 100, 100 }, (glm4v_size) { 28, 28 }, &err),
        GLM4V_ERR_NOMEM);
    glm4v_mem_fail_at(0, false);
    CHECK_CONTAINS(err.msg, "100x100");
}

int main(void)
{
    TEST(whole_pictures_equal_pillow);
    TEST(bands_equal_the_whole);
    TEST(the_stride_does_not_matter);
    TEST(no_byte_beyond_the_picture_is_read);
    TEST(a_refused_allocation_is_an_error);
    return test_end();
}
