/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PNG by libpng: all colour types and depths, interlaced or not. Of an animated PNG the default
 * picture. png_plain.c decodes what it can in less time. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"

typedef struct {
    png_structp png;
    png_infop info;
    png_bytepp rows;
    const uint8_t *data;
    size_t left;
    char why[128];
} decoder;

static void give_up(png_structp png, png_const_charp message)
{
    decoder *d = png_get_error_ptr(png);
    snprintf(d->why, sizeof d->why, "%s", message);
    png_longjmp(png, 1);
}

static void ignore(png_structp png, png_const_charp message)
{
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    decoder *d = png_get_io_ptr(png);
    if (n > d->left)
        png_error(png, "the file ends too early");
    memcpy(to, d->data, n);
    d->data += n;
    d->left -= n;
}

/* To 8 bits a channel, RGB or RGBA. */
static int set_transforms(decoder *d)
{
    const int type = png_get_color_type(d->png, d->info);
    const bool transparent =
        type & PNG_COLOR_MASK_ALPHA || png_get_valid(d->png, d->info, PNG_INFO_tRNS);
    png_set_expand(d->png); /* palettes, depths below 8, tRNS */
    png_set_strip_16(d->png);
    if (!(type & PNG_COLOR_MASK_COLOR))
        png_set_gray_to_rgb(d->png);
    png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    return transparent ? 4 : 3;
}

static int read_rows(decoder *d, cli_decoding *to, glm4v_error *err)
{
    png_uint_32 n = 0;
    png_bytep exif = NULL;
    const uint32_t width = png_get_image_width(d->png, d->info);
    const uint32_t height = png_get_image_height(d->png, d->info);
    int rc = cli_canvas_make(&to->canvas, width, height, set_transforms(d), err);
    if (rc)
        return rc;
    if (png_get_rowbytes(d->png, d->info) * height != cli_canvas_bytes(&to->canvas))
        return cli_decoding_damaged(to, "its rows are of another length than its header says", err);
    d->rows = cli_alloc(height, sizeof *d->rows);
    if (!d->rows)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
    for (uint32_t y = 0; y < height; y++)
        d->rows[y] = cli_canvas_at(&to->canvas, 0, y);
    png_read_image(d->png, d->rows);
    png_read_end(d->png, d->info);
    if (png_get_eXIf_1(d->png, d->info, &n, &exif))
        to->orientation = cli_exif_orientation(exif, n);
    return 0;
}

static int decode(decoder *d, cli_decoding *to, glm4v_error *err)
{
    if (setjmp(png_jmpbuf(d->png)))
        return cli_decoding_damaged(to, d->why, err);
    png_set_read_fn(d->png, d, on_read);
    png_read_info(d->png, d->info);
    return read_rows(d, to, err);
}

int cli_decode_png(cli_decoding *to, glm4v_error *err)
{
    decoder d = { .data = to->data, .left = to->size };
    int rc = 0;
    if (cli_decode_plain_png(to))
        return 0;
    d.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &d, give_up, ignore);
    d.info = d.png ? png_create_info_struct(d.png) : NULL;
    if (d.info)
        rc = decode(&d, to, err);
    else
        rc = cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
    png_destroy_read_struct(&d.png, &d.info, NULL);
    free(d.rows);
    return rc;
}
