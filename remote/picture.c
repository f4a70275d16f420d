/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See picture.h. libjpeg and libpng tell errors by longjmp: what is looked at behind it lies in a
 * struct. */
#include "remote/picture.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

#include "base/error.h"
#include "base/mem.h"

enum {
    QUALITY = 90,
    PNG_LEVEL = 1, /* a tenth larger than 6, four times as fast */
};

/* ---- JPEG ---- */

typedef struct {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr error;
    jmp_buf failed;
    unsigned char *data; /* libjpeg's, free() */
    unsigned long size;
    char why[JMSG_LENGTH_MAX];
} coder;

static void give_up(j_common_ptr jpeg)
{
    coder *c = jpeg->client_data;
    jpeg->err->format_message(jpeg, c->why);
    longjmp(c->failed, 1);
}

/* False: c->why tells the reason. */
static bool write_rows(coder *c, const glm4v_image *image)
{
    if (setjmp(c->failed))
        return false;
    c->jpeg.err = jpeg_std_error(&c->error);
    c->error.error_exit = give_up;
    c->jpeg.client_data = c;
    jpeg_create_compress(&c->jpeg);
    jpeg_mem_dest(&c->jpeg, &c->data, &c->size);
    c->jpeg.image_width = (JDIMENSION)image->width;
    c->jpeg.image_height = (JDIMENSION)image->height;
    c->jpeg.input_components = GLM4V_CHANNELS;
    c->jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c->jpeg);
    jpeg_set_quality(&c->jpeg, QUALITY, TRUE);
    c->jpeg.comp_info[0].h_samp_factor = c->jpeg.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&c->jpeg, TRUE);
    while (c->jpeg.next_scanline < c->jpeg.image_height) {
        JSAMPROW row = (JSAMPROW)(image->data + c->jpeg.next_scanline * image->stride);
        jpeg_write_scanlines(&c->jpeg, &row, 1);
    }
    jpeg_finish_compress(&c->jpeg);
    return true;
}

static int code_jpeg(glm4v_text_out *file, const glm4v_image *image, glm4v_error *err)
{
    coder c = { .size = 0 };
    const bool written = write_rows(&c, image);
    if (written)
        glm4v_text_add(file, (const char *)c.data, c.size);
    jpeg_destroy_compress(&c.jpeg);
    free(c.data);
    return written ? 0
                   : glm4v_fail(err, GLM4V_ERR_NOMEM, "a picture could not be coded: %s", c.why);
}

/* ---- PNG ---- */

static void write_bytes(png_structp png, png_bytep data, size_t size)
{
    glm4v_text_out *file = png_get_io_ptr(png);
    glm4v_text_add(file, (const char *)data, size);
    if (file->failed)
        png_error(png, "no memory");
}

static void flush_bytes(png_structp png)
{
    (void)png;
}

static void write_png(png_structp png, png_infop info, const glm4v_image *image)
{
    png_set_compression_level(png, PNG_LEVEL);
    png_set_IHDR(png, info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int32_t y = 0; y < image->height; y++)
        png_write_row(png, image->data + y * image->stride);
    png_write_end(png, NULL);
}

static int code_png(glm4v_text_out *file, const glm4v_image *image, glm4v_error *err)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    int rc = info ? 0 : GLM4V_ERR_NOMEM;
    if (info) {
        png_set_write_fn(png, file, write_bytes, flush_bytes);
        if (setjmp(png_jmpbuf(png)))
            file->failed = true;
        else
            write_png(png, info, image);
    }
    png_destroy_write_struct(&png, &info);
    return rc ? glm4v_fail(err, rc, "no memory to code a picture") : 0;
}

/* ---- both ---- */

int remote_code_picture(glm4v_text_out *file, const glm4v_image *image, uint64_t max_pixels,
                        remote_coding coding, glm4v_error *err)
{
    glm4v_image sent = *image;
    uint8_t *pixels = NULL;
    int rc = glm4v_image_fit(image, max_pixels, &sent.width, &sent.height, err);
    if (!rc && (sent.width != image->width || sent.height != image->height)) {
        pixels = glm4v_alloc((size_t)sent.width * (size_t)sent.height, GLM4V_CHANNELS);
        rc = pixels ? glm4v_image_resize(pixels, sent.width, sent.height, image, err)
                    : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to resize a picture");
        sent.data = pixels;
        sent.stride = GLM4V_CHANNELS * (int64_t)sent.width;
    }
    if (!rc)
        rc = (coding == REMOTE_PNG ? code_png : code_jpeg)(file, &sent, err);
    if (!rc && file->failed)
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
    glm4v_free(pixels);
    return rc;
}
