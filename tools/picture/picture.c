/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See picture.h. This file detects the format and converts the output of a decoder to what a viewer
 * shows. */
#define _GNU_SOURCE
#include "picture.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"
#include "pace.h"

typedef struct {
    const char *name;
    const char *mime_type;
    /* NULL: a picture that is not supported. */
    int (*decode)(cli_decoding *d, glm4v_error *err);
    int (*next)(cli_decoding *d, glm4v_error *err); /* NULL: never animated */
    void (*close)(cli_decoding *d);
    size_t at; /* of the mark in the file */
    const char *mark;
    size_t length;
    bool (*agrees)(const uint8_t *head, size_t size); /* looks closer; may be NULL */
} format;

struct cli_picture {
    const format *format;
    cli_decoding decoding;
    cli_pace pace;
    bool animated, first_taken;
};

static bool is_webp(const uint8_t *head, size_t size)
{
    return size >= 12 && !memcmp(head + 8, "WEBP", 4);
}

/* The size of the header that follows BMP's first 14 bytes. */
static bool is_bmp(const uint8_t *head, size_t size)
{
    static const uint8_t known[] = { 12, 16, 40, 52, 56, 64, 108, 124 };
    return size >= 18 && memchr(known, head[14], sizeof known) && !head[15] && !head[16] &&
           !head[17];
}

/* At least one picture, and the byte that is reserved. */
static bool is_ico(const uint8_t *head, size_t size)
{
    return size >= 22 && head[4] && !head[9];
}

static bool is_pnm(const uint8_t *head, size_t size)
{
    return size >= 8 && head[1] >= '1' && head[1] <= '6' && memchr(" \t\r\n#", head[2], 5);
}

static bool has_brand(const uint8_t *head, size_t size, const char *brands)
{
    if (size < 12)
        return false;
    for (; *brands; brands += 4)
        if (!memcmp(head + 8, brands, 4))
            return true;
    return false;
}

static bool is_avif(const uint8_t *head, size_t size)
{
    return has_brand(head, size, "avifavis");
}

static bool is_heif(const uint8_t *head, size_t size)
{
    return has_brand(head, size, "heicheixheimheismif1msf1hevchevx");
}

static bool is_camera_raw(const uint8_t *head, size_t size)
{
    return has_brand(head, size, "crx ");
}

static bool is_svg(const uint8_t *head, size_t size)
{
    return size >= 5 && memmem(head, size, "<svg", 4);
}

#define MARK(text) .mark = text, .length = sizeof text - 1

static const format formats[] = {
    { "JPEG", "image/jpeg", cli_decode_jpeg, MARK("\xff\xd8\xff") },
    { "PNG", "image/png", cli_decode_png, MARK("\x89PNG\r\n\x1a\n") },
    { "GIF", "image/gif", cli_decode_gif, cli_next_gif, cli_close_gif, MARK("GIF8") },
    { "WebP", "image/webp", cli_decode_webp, cli_next_webp, cli_close_webp, MARK("RIFF"),
      .agrees = is_webp },
    { "TIFF", "image/tiff", cli_decode_tiff, MARK("II*\0") },
    { "TIFF", "image/tiff", cli_decode_tiff, MARK("MM\0*") },
    { "TIFF", "image/tiff", cli_decode_tiff, MARK("II+\0") },
    { "TIFF", "image/tiff", cli_decode_tiff, MARK("MM\0+") },
    { "BMP", "image/bmp", cli_decode_pixbuf, MARK("BM"), .agrees = is_bmp },
    { "ICO", "image/x-icon", cli_decode_ico, MARK("\0\0\1\0"), .agrees = is_ico },
    { "PNM", "image/x-portable-anymap", cli_decode_pixbuf, MARK("P"), .agrees = is_pnm },
    { "AVIF", "image/avif", cli_decode_pixbuf, .at = 4, MARK("ftyp"), .agrees = is_avif },
    { "HEIF", "image/heif", cli_decode_pixbuf, .at = 4, MARK("ftyp"), .agrees = is_heif },
    { "JPEG XL", "image/jxl", cli_decode_pixbuf, MARK("\xff\x0a") },
    { "JPEG XL", "image/jxl", cli_decode_pixbuf, MARK("\0\0\0\x0cJXL \r\n\x87\n") },
    { "JPEG 2000", MARK("\0\0\0\x0cjP  ") },
    { "JPEG 2000", MARK("\xff\x4f\xff\x51") },
    { "Photoshop", MARK("8BPS") },
    { "GIMP", MARK("gimp xcf") },
    { "camera raw", .at = 4, MARK("ftyp"), .agrees = is_camera_raw },
    { "camera raw", MARK("FUJIFILMCCD-RAW") },
    { "OpenEXR", MARK("\x76\x2f\x31\x01") },
    { "Radiance HDR", MARK("#?R") },
    { "DirectDraw surface", MARK("DDS ") },
    { "QOI", MARK("qoif") },
    { "FITS", MARK("SIMPLE  =") },
    { "DICOM", .at = 128, MARK("DICM") },
    { "MNG", MARK("\x8aMNG") },
    { "JNG", MARK("\x8bJNG") },
    { "XPM", MARK("/* XPM */") },
    { "PDF", MARK("%PDF") },
    { "PostScript", MARK("%!PS") },
    { "SVG", MARK("<"), .agrees = is_svg },
};

static const format targa = { "TGA", "image/x-tga", cli_decode_pixbuf };

static bool has_suffix(const char *name, const char *suffix)
{
    const size_t n = strlen(name), m = strlen(suffix);
    return n > m && !strcasecmp(name + n - m, suffix);
}

/* Targa has no signature: a header that can be one, in a file with such a name or with the size
 * that the header requires.
 */
static bool is_tga(const uint8_t *head, size_t size, const char *name)
{
    if (size < 18 || head[1] > 1)
        return false;
    const int kind = head[2] & 7, bits = head[16];
    const size_t width = head[12] | head[13] << 8, height = head[14] | head[15] << 8;
    const size_t colors = head[1] ? (head[5] | head[6] << 8) * ((head[7] + 7u) / 8) : 0;
    if ((head[2] & ~8) > 3 || !kind || !width || !height || (kind == 1) != head[1] ||
        !memchr("\x08\x0f\x10\x18\x20", bits, 5))
        return false;
    if (name && (has_suffix(name, ".tga") || has_suffix(name, ".targa")))
        return true;
    return !(head[2] & 8) && size == 18 + head[0] + colors + width * height * ((bits + 7u) / 8);
}

static const format *recognise(const uint8_t *head, size_t size, const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const format *f = &formats[i];
        if (size >= f->at + f->length && !memcmp(head + f->at, f->mark, f->length) &&
            (!f->agrees || f->agrees(head, size < CLI_PICTURE_HEAD ? size : CLI_PICTURE_HEAD)))
            return f;
    }
    return is_tga(head, size, name) ? &targa : NULL;
}

bool cli_picture_is(const uint8_t *head, size_t size, const char *name)
{
    return recognise(head, size, name) != NULL;
}

int cli_decoding_damaged(const cli_decoding *d, const char *why, glm4v_error *err)
{
    const size_t length = strcspn(why, "\n");
    return cli_fail(err, GLM4V_ERR_FORMAT, "the %s picture is damaged or cut short: %.*s", d->name,
                    (int)(length > 150 ? 150 : length), why);
}

/* What a viewer shows. */
static int finish(cli_picture *picture, glm4v_error *err)
{
    cli_canvas_flatten(&picture->decoding.canvas, picture->decoding.multiplied);
    return cli_canvas_orient(&picture->decoding.canvas, picture->decoding.orientation, err);
}

cli_picture *cli_picture_open(const uint8_t *data, size_t size, const char *name, uint64_t interval,
                              glm4v_error *err)
{
    const format *f = recognise(data, size, name);
    if (!f || !f->decode) {
        cli_fail(err, f ? GLM4V_ERR_UNSUPPORTED : GLM4V_ERR_FORMAT,
                 f ? "a picture in the format %s, which is not supported: convert it to PNG"
                   : "not a picture",
                 f ? f->name : "");
        return NULL;
    }
    cli_picture *picture = cli_alloc(1, sizeof *picture);
    if (!picture) {
        cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
        return NULL;
    }
    picture->format = f;
    picture->pace = cli_pace_begin(interval);
    picture->decoding =
        (cli_decoding) { .name = f->name, .mime_type = f->mime_type, .data = data, .size = size };
    if (f->decode(&picture->decoding, err))
        cli_picture_close(&picture);
    else
        picture->animated = picture->decoding.animation != NULL;
    return picture;
}

bool cli_picture_is_motion_jpeg(const cli_picture *picture)
{
    return picture->decoding.motion_jpeg;
}

int cli_picture_next(cli_picture *picture, cli_frame *frame, glm4v_error *err)
{
    cli_decoding *d = &picture->decoding;
    int more = 1;
    do {
        if (picture->first_taken)
            more = picture->animated ? picture->format->next(d, err) : 0;
        picture->first_taken = true;
    } while (more > 0 && picture->animated && !cli_pace_wants(&picture->pace, d->pts));
    if (more > 0 && finish(picture, err))
        more = -1;
    if (more > 0)
        *frame = (cli_frame) {
            .image = { .data = d->canvas.pixels,
                       .width = d->canvas.width,
                       .height = d->canvas.height,
                       .stride = 3 * d->canvas.width },
            .pts = picture->animated ? d->pts : -1,
            .fraction = picture->animated ? d->fraction : -1,
        };
    return more;
}

uint8_t *cli_picture_take(cli_picture *picture)
{
    uint8_t *pixels = picture->decoding.canvas.pixels;
    picture->decoding.canvas.pixels = NULL;
    return pixels;
}

void cli_picture_close(cli_picture **picture)
{
    cli_picture *p = *picture;
    if (!p)
        return;
    if (p->format->close)
        p->format->close(&p->decoding);
    cli_canvas_free(&p->decoding.canvas);
    free(p);
    *picture = NULL;
}
