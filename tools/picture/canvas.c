/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See canvas.h. */
#include "canvas.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "fail.h"

static _Thread_local uint64_t most_pixels = CLI_MAX_PIXELS;

void cli_canvas_bound(uint64_t pixels)
{
    most_pixels = pixels < CLI_MAX_PIXELS ? pixels : CLI_MAX_PIXELS;
}

int cli_canvas_check(uint64_t width, uint64_t height, glm4v_error *err)
{
    if (!width || !height)
        return cli_fail(err, GLM4V_ERR_FORMAT, "the picture has no pixels");
    if (width > CLI_MAX_SIDE || height > CLI_MAX_SIDE || width * height > most_pixels)
        return cli_fail(err, GLM4V_ERR_UNSUPPORTED,
                        "the picture is %llux%llu, larger than %dx%d or %.3g Mpixels",
                        (unsigned long long)width, (unsigned long long)height, CLI_MAX_SIDE,
                        CLI_MAX_SIDE, (double)most_pixels / (1 << 20));
    return 0;
}

int cli_canvas_make(cli_canvas *canvas, uint64_t width, uint64_t height, int channels,
                    glm4v_error *err)
{
    cli_canvas_free(canvas);
    int rc = cli_canvas_check(width, height, err);
    if (rc)
        return rc;
    canvas->pixels = cli_alloc(width * height, channels);
    if (!canvas->pixels)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture of %llux%llu",
                        (unsigned long long)width, (unsigned long long)height);
    canvas->width = (int32_t)width;
    canvas->height = (int32_t)height;
    canvas->channels = channels;
    return 0;
}

void cli_canvas_free(cli_canvas *canvas)
{
    free(canvas->pixels);
    *canvas = (cli_canvas) { 0 };
}

size_t cli_canvas_bytes(const cli_canvas *canvas)
{
    return (size_t)canvas->width * canvas->height * canvas->channels;
}

uint8_t *cli_canvas_at(const cli_canvas *canvas, int64_t x, int64_t y)
{
    return canvas->pixels + (y * canvas->width + x) * canvas->channels;
}

/* round(a * b / 255) for a, b <= 255 */
static unsigned mul_255(unsigned a, unsigned b)
{
    const unsigned product = a * b + 128;
    return ((product >> 8) + product) >> 8;
}

void cli_canvas_flatten(cli_canvas *canvas, bool multiplied)
{
    const uint8_t *from = canvas->pixels, *end = from + cli_canvas_bytes(canvas);
    uint8_t *to = canvas->pixels;
    if (canvas->channels != 4)
        return;
    for (; from < end; from += 4, to += 3) {
        const unsigned alpha = from[3];
        for (int c = 0; c < 3; c++) {
            const unsigned color = multiplied ? from[c] : mul_255(from[c], alpha);
            to[c] = (uint8_t)(color > alpha ? 255 : 255 - alpha + color);
        }
    }
    canvas->channels = 3;
}

/* Of EXIF's eight: whether rows and columns are exchanged, and which of them are then mirrored. */
static const struct {
    bool exchange, mirror_x, mirror_y;
} turns[9] = {
    [2] = { .mirror_x = true },
    [3] = { .mirror_x = true, .mirror_y = true },
    [4] = { .mirror_y = true },
    [5] = { .exchange = true },
    [6] = { .exchange = true, .mirror_x = true },
    [7] = { .exchange = true, .mirror_x = true, .mirror_y = true },
    [8] = { .exchange = true, .mirror_y = true },
};

int cli_canvas_orient(cli_canvas *canvas, int orientation, glm4v_error *err)
{
    if (orientation < 2 || orientation > 8)
        return 0;
    const bool exchange = turns[orientation].exchange;
    const int32_t width = exchange ? canvas->height : canvas->width;
    const int32_t height = exchange ? canvas->width : canvas->height;
    cli_canvas turned = { 0 };
    int rc = cli_canvas_make(&turned, width, height, 3, err);
    if (rc)
        return rc;
    uint8_t *to = turned.pixels;
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++, to += 3) {
            const int32_t u = turns[orientation].mirror_x ? width - 1 - x : x;
            const int32_t v = turns[orientation].mirror_y ? height - 1 - y : y;
            memcpy(to, cli_canvas_at(canvas, exchange ? v : u, exchange ? u : v), 3);
        }
    cli_canvas_free(canvas);
    *canvas = turned;
    return 0;
}

/* n bytes, at most 4, in the byte order of a TIFF header. */
static uint32_t get(const uint8_t *p, int n, bool big)
{
    uint32_t value = 0;
    for (int i = 0; i < n; i++)
        value = value << 8 | p[big ? i : n - 1 - i];
    return value;
}

/* EXIF is a TIFF directory: a count of two bytes, then entries of twelve (tag, type, count, value).
 */
int cli_exif_orientation(const uint8_t *exif, size_t size)
{
    enum { TAG = 0x112, SHORT = 3 };
    if (size >= 6 && !memcmp(exif, "Exif\0\0", 6)) {
        exif += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(exif, "II*\0", 4) && memcmp(exif, "MM\0*", 4)))
        return 1;
    const bool big = exif[0] == 'M';
    const size_t directory = get(exif + 4, 4, big);
    if (directory > size - 2)
        return 1;
    const size_t n = get(exif + directory, 2, big);
    for (size_t i = 0, at = directory + 2; i < n && at + 12 <= size; i++, at += 12)
        if (get(exif + at, 2, big) == TAG && get(exif + at + 2, 2, big) == SHORT)
            return get(exif + at + 8, 2, big);
    return 1;
}
