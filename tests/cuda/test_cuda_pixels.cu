/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/cuda/pixels.h against engine/src/picture/preprocess.c: frames of all formats, as RGB for
 * the reference. Patches of a pixel differ by no more than 1/255 and bf16's rounding. */
#include "check.cuh"
#include "pixels.h"

extern "C" {
#include "picture/preprocess.h"
}

using namespace check;

static const char *const names[] = { "RGB",  "BGR",  "RGBX", "BGRX", "GRAY8", "NV12",
                                     "I420", "P010", "YUY2", "RGBA", "BGRA" };
/* Narrow-range BT.601 for 8 bits; P010's differs in the last digits only. */
static const float matrix[12] = { 1.16438f,  0,         1.59603f, -0.87420f, 1.16438f, -0.39176f,
                                  -0.81297f, 0.531668f, 1.16438f, 2.01723f,  0,        -1.08563f };
static const double mean[3] = { 0.48145466, 0.4578275, 0.40821073 },
                    deviation[3] = { 0.26862954, 0.26130258, 0.27577711 };

/* A frame of smooth waves with noise, as a format has it; rows `pad` bytes longer than needed. */
struct picture {
    glm4v_cuda_format format;
    int width, height;
    std::vector<uint8_t> plane[3], rgb;
    int64_t stride[3] = {};

    picture(glm4v_cuda_format f, int w, int h, int pad) : format(f), width(w), height(h)
    {
        const int half_w = (w + 1) / 2, half_h = (h + 1) / 2;
        int rows[3] = { h, half_h, half_h };
        const int64_t bytes[][3] = { { 3 * w },
                                     { 3 * w },
                                     { 4 * w },
                                     { 4 * w },
                                     { w },
                                     { w, 2 * half_w },
                                     { w, half_w, half_w },
                                     { 2 * w, 4 * half_w },
                                     { 4 * half_w },
                                     { 4 * w },
                                     { 4 * w } };
        for (int i = 0; i < 3; i++) {
            stride[i] = bytes[f][i] ? bytes[f][i] + pad : 0;
            plane[i].resize((size_t)(stride[i] * rows[i]));
        }
        const double fx = 6.0 / w, fy = 5.0 / h;
        for (int i = 0; i < 3; i++)
            for (size_t at = 0; at < plane[i].size(); at++) {
                const double x = (double)(at % (size_t)stride[i]) * fx,
                             y = (double)(at / (size_t)stride[i]) * fy;
                plane[i][at] = (uint8_t)(128 + 90 * sin(x + i) * cos(y) + 30 * (unit() - 0.5f));
            }
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                for (int c = 0; c < 3; c++)
                    rgb.push_back(value(x, y, c));
    }
    uint8_t at(int i, int y, int byte) const
    {
        return plane[i][(size_t)(y * stride[i] + byte)];
    }
    int word(int i, int y, int index) const
    {
        return (at(i, y, 2 * index) | at(i, y, 2 * index + 1) << 8) >> 6;
    }
    static uint8_t from_yuv(int c, double y, double u, double v, double most)
    {
        const float *m = matrix + 4 * c;
        const double rgb = 255 * (m[0] * y / most + m[1] * u / most + m[2] * v / most + m[3]);
        return (uint8_t)std::min(std::max(rint(rgb), 0.0), 255.0);
    }
    static uint8_t on_white(int value, int alpha)
    {
        return (uint8_t)rint((value * alpha + 255 * (255 - alpha)) / 255.0);
    }
    /* Channel c of a pixel in RGB. */
    uint8_t value(int x, int y, int c) const
    {
        switch (format) {
        case GLM4V_CUDA_RGB:
            return at(0, y, 3 * x + c);
        case GLM4V_CUDA_BGR:
            return at(0, y, 3 * x + 2 - c);
        case GLM4V_CUDA_RGBX:
            return at(0, y, 4 * x + c);
        case GLM4V_CUDA_BGRX:
            return at(0, y, 4 * x + 2 - c);
        case GLM4V_CUDA_GRAY8:
            return at(0, y, x);
        case GLM4V_CUDA_NV12:
            return from_yuv(c, at(0, y, x), at(1, y / 2, x / 2 * 2), at(1, y / 2, x / 2 * 2 + 1),
                            255);
        case GLM4V_CUDA_I420:
            return from_yuv(c, at(0, y, x), at(1, y / 2, x / 2), at(2, y / 2, x / 2), 255);
        case GLM4V_CUDA_P010:
            return from_yuv(c, word(0, y, x), word(1, y / 2, x / 2 * 2),
                            word(1, y / 2, x / 2 * 2 + 1), 1023);
        case GLM4V_CUDA_YUY2:
            return from_yuv(c, at(0, y, x / 2 * 4 + x % 2 * 2), at(0, y, x / 2 * 4 + 1),
                            at(0, y, x / 2 * 4 + 3), 255);
        case GLM4V_CUDA_RGBA:
            return on_white(at(0, y, 4 * x + c), at(0, y, 4 * x + 3));
        case GLM4V_CUDA_BGRA:
            return on_white(at(0, y, 4 * x + 2 - c), at(0, y, 4 * x + 3));
        }
        return 0;
    }
};

/* A picture's planes on the device. */
struct device_picture {
    buffer<uint8_t> plane[3];
    glm4v_cuda_image image = {};

    explicit device_picture(const picture &p)
        : plane { buffer<uint8_t>(p.plane[0]), buffer<uint8_t>(p.plane[1]),
                  buffer<uint8_t>(p.plane[2]) }
    {
        for (int i = 0; i < 3; i++) {
            image.plane[i] = plane[i].data;
            image.stride[i] = p.stride[i];
        }
        image.width = p.width, image.height = p.height;
        image.format = p.format;
        std::copy(matrix, matrix + 12, image.matrix);
    }
};

struct pixel_case {
    glm4v_cuda_format format;
    int width, height, grid_w, grid_h, temporal;
    bool still;
};

static std::vector<float> reference(const pixel_case &c, const picture &first,
                                    const picture &second)
{
    glm4v_processor_config processor = {};
    glm4v_vision_config vision = {};
    glm4v_preprocessor *p = nullptr;
    glm4v_error err;
    std::copy(mean, mean + 3, processor.mean);
    std::copy(deviation, deviation + 3, processor.std);
    vision.patch = 14, vision.merge = 2, vision.temporal = c.temporal;
    glm4v_image images[2] = {};
    for (int i = 0; i < 2; i++) {
        images[i].data = (i ? second : first).rgb.data();
        images[i].width = c.width, images[i].height = c.height;
        images[i].stride = 3 * c.width;
    }
    const glm4v_image *frames[2] = { &images[0], c.still ? &images[0] : &images[1] };
    std::vector<float> patches((size_t)c.grid_w * c.grid_h * 3 * c.temporal * 196);
    const glm4v_patch_grid grid = { c.grid_h, c.grid_w };
    if (glm4v_preprocessor_open(&p, &processor, &vision, &err) ||
        glm4v_preprocess_run(p, patches.data(), frames, grid, nullptr, &err))
        printf("# reference: %s\n", err.msg);
    glm4v_preprocessor_close(&p);
    return patches;
}

static glm4v_cuda_pixels pixels_of(const pixel_case &c, const glm4v_cuda_image &first,
                                   const glm4v_cuda_image &second)
{
    glm4v_cuda_pixels p = {};
    p.frame[0] = first;
    p.frame[1] = c.still ? first : second;
    p.grid_h = c.grid_h, p.grid_w = c.grid_w;
    p.patch = 14, p.merge = 2, p.temporal = c.temporal;
    for (int i = 0; i < 3; i++) {
        p.mean[i] = (float)mean[i];
        p.std[i] = (float)deviation[i];
    }
    return p;
}

static bool within_one(const std::vector<float> &got, const std::vector<float> &want, size_t area,
                       int temporal)
{
    int bad = 0, different = 0;
    for (size_t i = 0; i < want.size(); i++) {
        const double one = 1 / deviation[i / (area * temporal) % 3] / 255;
        const double d = fabs((double)got[i] - from_bf16(to_bf16(want[i])));
        different += d != 0;
        if (!(d <= 1.01 * one + 0.008 * fabs(want[i])) && bad++ < 3)
            printf("# [%zu]: %g, expected %g\n", i, got[i], want[i]);
    }
    if (bad || different > (int)(want.size() / 1000))
        printf("# %d of %zu differ, %d by more than 1/255\n", different, want.size(), bad);
    return !bad && different <= (int)(want.size() / 100);
}

static void test_pixels(const pixel_case &c)
{
    if (!check::wanted())
        return;
    const picture first(c.format, c.width, c.height, 6), second(c.format, c.width, c.height, 8);
    const device_picture a(first), b(second);
    const glm4v_cuda_pixels p = pixels_of(c, a.image, b.image);
    buffer<uint16_t> y((size_t)c.grid_w * c.grid_h * 3 * c.temporal * 196);
    buffer<char> scratch(glm4v_cuda_pixels_scratch(&p));
    bool ok = done(glm4v_cuda_patches(stream, y.data, &p, scratch.data));
    ok = within_one(floats(y.get()), reference(c, first, second), 196, c.temporal) && ok;
    result(y.guarded() && scratch.guarded() && ok,
           text("%s, %dx%d to %dx%d, %d frames a patch%s", names[c.format], c.width, c.height,
                14 * c.grid_w, 14 * c.grid_h, c.temporal, c.still ? ", still" : ""));
}

static void bench_pixels(glm4v_cuda_format format, int width, int height, int grid_w, int grid_h)
{
    const pixel_case c = { format, width, height, grid_w, grid_h, 2, true };
    const picture frame(format, width, height, 0);
    const device_picture d(frame);
    const glm4v_cuda_pixels p = pixels_of(c, d.image, d.image);
    const size_t values = (size_t)grid_w * grid_h * 3 * 2 * 196;
    buffer<uint16_t> y(values);
    buffer<char> scratch(glm4v_cuda_pixels_scratch(&p));
    const double us =
        microseconds(8, [&](int) { return glm4v_cuda_patches(stream, y.data, &p, scratch.data); });
    const size_t read = frame.plane[0].size() + frame.plane[1].size() + frame.plane[2].size();
    report(text("%s %dx%d to %dx%d", names[format], width, height, 14 * grid_w, 14 * grid_h), us,
           (double)(read + 2 * values), 0);
}

int main(int argc, char **argv)
{
    const int rc = open();
    if (rc)
        return rc;
    for (int f = GLM4V_CUDA_RGB; f <= GLM4V_CUDA_BGRA; f++) {
        const glm4v_cuda_format format = (glm4v_cuda_format)f;
        test_pixels({ format, 160, 120, 8, 6, 2, true });
        test_pixels({ format, 97, 75, 4, 6, 2, false });
    }
    test_pixels({ GLM4V_CUDA_RGB, 56, 84, 4, 6, 2, true }); /* no resize */
    test_pixels({ GLM4V_CUDA_RGB, 56, 200, 4, 4, 1, true });
    test_pixels({ GLM4V_CUDA_RGB, 1, 1, 2, 2, 1, true });
    test_pixels({ GLM4V_CUDA_RGB, 3000, 40, 2, 4, 2, false });
    test_pixels({ GLM4V_CUDA_NV12, 1920, 1080, 48, 48, 2, true });
    if (argc > 1 && !strcmp(argv[1], "--bench")) {
        bench_pixels(GLM4V_CUDA_NV12, 1920, 1080, 48, 48);
        bench_pixels(GLM4V_CUDA_RGB, 1920, 1080, 48, 48);
        bench_pixels(GLM4V_CUDA_NV12, 1280, 720, 92, 52);
        bench_pixels(GLM4V_CUDA_NV12, 3840, 2160, 48, 48);
    }
    return close();
}
