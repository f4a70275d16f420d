/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TIFF and BigTIFF by libtiff: whatever it can convert to RGBA. The first of several pages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"

typedef struct {
    const uint8_t *data;
    uint64_t size, at;
    TIFF *tiff;
    TIFFRGBAImage rgba;
    bool rgba_begun;
    uint32_t *raster;
    char why[1024]; /* libtiff writes up to so much */
    bool failed;
} decoder;

static tmsize_t on_read(thandle_t user, void *to, tmsize_t n)
{
    decoder *d = user;
    const uint64_t left = d->at < d->size ? d->size - d->at : 0;
    const tmsize_t got = left < (uint64_t)n ? (tmsize_t)left : n;
    memcpy(to, d->data + (left ? d->at : 0), got);
    d->at += got;
    return got;
}

static tmsize_t on_write(thandle_t user, void *from, tmsize_t n)
{
    return 0;
}

static toff_t on_seek(thandle_t user, toff_t to, int whence)
{
    decoder *d = user;
    if (whence == SEEK_CUR)
        d->at += to;
    else
        d->at = whence == SEEK_END ? d->size + to : to;
    return d->at;
}

static int on_close(thandle_t user)
{
    return 0;
}

static toff_t on_size(thandle_t user)
{
    const decoder *d = user;
    return d->size;
}

static int on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list args)
{
    decoder *d = user;
    if (!d->failed)
        vsnprintf(d->why, sizeof d->why, format, args);
    d->failed = true;
    return 1;
}

static int ignore(TIFF *tiff, void *user, const char *module, const char *format, va_list args)
{
    return 1;
}

static TIFF *open_tiff(decoder *d)
{
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (!options)
        return NULL;
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, (tmsize_t)1 << 30);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, d);
    TIFFOpenOptionsSetWarningHandlerExtR(options, ignore, d);
    /* "m": no memory mapping; the file is in memory already. */
    TIFF *tiff = TIFFClientOpenExt("", "rm", d, on_read, on_write, on_seek, on_close, on_size, NULL,
                                   NULL, options);
    TIFFOpenOptionsFree(options);
    return tiff;
}

/* Extra samples that the file does not call alpha are none. */
static bool has_alpha(decoder *d)
{
    uint16_t n = 0, *kinds = NULL;
    TIFFGetFieldDefaulted(d->tiff, TIFFTAG_EXTRASAMPLES, &n, &kinds);
    return n && kinds[0] != EXTRASAMPLE_UNSPECIFIED && d->rgba.alpha;
}

/* libtiff multiplies alpha into colours, but not into grey. */
static bool is_multiplied(const decoder *d)
{
    return d->rgba.alpha == EXTRASAMPLE_ASSOCALPHA ||
           (d->rgba.photometric != PHOTOMETRIC_MINISBLACK &&
            d->rgba.photometric != PHOTOMETRIC_MINISWHITE);
}

static void copy(cli_canvas *canvas, const uint32_t *raster)
{
    uint8_t *to = canvas->pixels, *end = to + cli_canvas_bytes(canvas);
    for (; to < end; to += canvas->channels, raster++) {
        to[0] = TIFFGetR(*raster);
        to[1] = TIFFGetG(*raster);
        to[2] = TIFFGetB(*raster);
        if (canvas->channels == 4)
            to[3] = (uint8_t)TIFFGetA(*raster);
    }
}

static int decode(decoder *d, cli_decoding *to, glm4v_error *err)
{
    uint32_t width = 0, height = 0;
    uint16_t orientation = 0;
    d->tiff = open_tiff(d);
    if (!d->tiff)
        return cli_decoding_damaged(to, d->why, err);
    TIFFGetField(d->tiff, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(d->tiff, TIFFTAG_IMAGELENGTH, &height);
    if (TIFFGetField(d->tiff, TIFFTAG_ORIENTATION, &orientation))
        to->orientation = orientation;
    int rc = cli_canvas_check(width, height, err);
    if (rc)
        return rc;
    if (!TIFFRGBAImageOK(d->tiff, d->why) ||
        !TIFFRGBAImageBegin(&d->rgba, d->tiff, 1 /* stop at errors */, d->why))
        return cli_fail(err, GLM4V_ERR_UNSUPPORTED,
                        "a kind of TIFF picture that is not supported: %.150s", d->why);
    d->rgba_begun = true;
    /* As it is stored: picture.c turns it. */
    d->rgba.orientation = d->rgba.req_orientation = ORIENTATION_TOPLEFT;
    for (uint32_t i = 0; d->rgba.Bitdepth16To8 && i < 65536; i++)
        d->rgba.Bitdepth16To8[i] = (uint8_t)(i >> 8); /* the upper byte, as everywhere here */
    rc = cli_canvas_make(&to->canvas, width, height, has_alpha(d) ? 4 : 3, err);
    if (rc)
        return rc;
    d->raster = cli_alloc(cli_canvas_bytes(&to->canvas) / to->canvas.channels, sizeof *d->raster);
    if (!d->raster)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture of %ux%u", width, height);
    if (!TIFFRGBAImageGet(&d->rgba, d->raster, width, height) || d->failed)
        return cli_decoding_damaged(to, d->why, err);
    to->multiplied = is_multiplied(d);
    copy(&to->canvas, d->raster);
    return 0;
}

int cli_decode_tiff(cli_decoding *to, glm4v_error *err)
{
    decoder d = { .data = to->data, .size = to->size };
    int rc = decode(&d, to, err);
    if (d.rgba_begun)
        TIFFRGBAImageEnd(&d.rgba);
    if (d.tiff)
        TIFFClose(d.tiff);
    free(d.raster);
    return rc;
}
