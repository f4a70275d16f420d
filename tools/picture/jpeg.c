/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JPEG by libjpeg-turbo, with its slow and exact transforms, as Pillow decodes. CMYK and YCCK are
 * taken as Adobe writes them, inverted. libjpeg fills what is missing or damaged with grey and only
 * warns: here such a warning is an error. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"
#include "picture.h"

/* A progressive file can require a pass over the whole picture for every few bytes. */
enum { MAX_SCANS = 500 };

typedef struct {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    char why[JMSG_LENGTH_MAX];
    bool multi;   /* MPF: two lenses, a preview; what is behind is no next frame */
    uint8_t *row; /* of CMYK */
} decoder;

static void give_up(j_common_ptr jpeg)
{
    decoder *d = jpeg->client_data;
    jpeg->err->format_message(jpeg, d->why);
    longjmp(d->failed, 1);
}

static void on_message(j_common_ptr jpeg, int level)
{
    if (level >= 0)
        return;
    switch (jpeg->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_ICC:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
        return; /* no pixel is lost */
    default:
        give_up(jpeg);
    }
}

static void on_progress(j_common_ptr jpeg)
{
    decoder *d = jpeg->client_data;
    if (d->jpeg.input_scan_number <= MAX_SCANS)
        return;
    snprintf(d->why, sizeof d->why, "it has more than %d scans", MAX_SCANS);
    longjmp(d->failed, 1);
}

static void no_output(j_common_ptr jpeg)
{
}

static void begin(decoder *d, const uint8_t *data, size_t size)
{
    d->jpeg.err = jpeg_std_error(&d->error);
    d->error.error_exit = give_up;
    d->error.emit_message = on_message;
    d->error.output_message = no_output;
    d->jpeg.client_data = d;
    jpeg_CreateDecompress(&d->jpeg, JPEG_LIB_VERSION, sizeof d->jpeg);
    d->progress.progress_monitor = on_progress;
    d->jpeg.progress = &d->progress;
    jpeg_mem_src(&d->jpeg, data, size);
}

static void end(decoder *d)
{
    jpeg_destroy_decompress(&d->jpeg);
    free(d->row);
}

static jpeg_saved_marker_ptr find_marker(const decoder *d, int marker, const char *head,
                                         unsigned length)
{
    jpeg_saved_marker_ptr m = d->jpeg.marker_list;
    while (m && (m->marker != marker || m->data_length < length || memcmp(m->data, head, length)))
        m = m->next;
    return m;
}

/* The formula of Pillow, on inverted samples: c = 255 means none of it. */
static void cmyk_to_rgb(uint8_t *to, const uint8_t *from, int n)
{
    for (int i = 0; i < n; i++, to += 3, from += 4) {
        const unsigned white = from[3];
        for (int c = 0; c < 3; c++) {
            const unsigned product = (255u - from[c]) * white + 128;
            const unsigned taken = ((product >> 8) + product) >> 8;
            to[c] = (uint8_t)(white > taken ? white - taken : 0);
        }
    }
}

static int read_rows(decoder *d, cli_decoding *to, glm4v_error *err)
{
    const bool cmyk = d->jpeg.num_components == 4;
    d->jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    int rc = cli_canvas_make(&to->canvas, d->jpeg.image_width, d->jpeg.image_height, 3, err);
    if (!rc && cmyk && !(d->row = cli_alloc(d->jpeg.image_width, 4)))
        rc = cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a row of a picture");
    if (rc)
        return rc;
    jpeg_start_decompress(&d->jpeg);
    while (d->jpeg.output_scanline < d->jpeg.output_height) {
        const size_t y = d->jpeg.output_scanline;
        uint8_t *row = to->canvas.pixels + 3 * y * d->jpeg.image_width;
        jpeg_read_scanlines(&d->jpeg, cmyk ? &d->row : &row, 1);
        if (cmyk)
            cmyk_to_rgb(row, d->row, (int)d->jpeg.image_width);
    }
    jpeg_finish_decompress(&d->jpeg);
    return 0;
}

static int decode(decoder *d, cli_decoding *to, glm4v_error *err)
{
    if (setjmp(d->failed))
        return cli_decoding_damaged(to, d->why, err);
    begin(d, to->data, to->size);
    jpeg_save_markers(&d->jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_save_markers(&d->jpeg, JPEG_APP0 + 2, 4);
    jpeg_read_header(&d->jpeg, TRUE);
    jpeg_saved_marker_ptr exif = find_marker(d, JPEG_APP0 + 1, "Exif\0\0", 6);
    if (exif)
        to->orientation = cli_exif_orientation(exif->data, exif->data_length);
    d->multi = find_marker(d, JPEG_APP0 + 2, "MPF", 4) != NULL;
    return read_rows(d, to, err);
}

static bool read_header(decoder *d, const uint8_t *data, size_t size)
{
    if (setjmp(d->failed))
        return false;
    begin(d, data, size);
    jpeg_read_header(&d->jpeg, TRUE);
    return true;
}

static bool check(decoder *d, const uint8_t *data, size_t size)
{
    if (setjmp(d->failed))
        return false;
    begin(d, data, size);
    jpeg_read_header(&d->jpeg, TRUE);
    d->jpeg.out_color_space = d->jpeg.jpeg_color_space;
    d->jpeg.scale_denom = 8; /* the codes are all read, the transforms are not made */
    jpeg_start_decompress(&d->jpeg);
    d->row = cli_alloc(d->jpeg.output_width, d->jpeg.output_components);
    while (d->row && d->jpeg.output_scanline < d->jpeg.output_height)
        jpeg_read_scanlines(&d->jpeg, &d->row, 1);
    if (d->row)
        jpeg_finish_decompress(&d->jpeg);
    return true;
}

bool cli_picture_is_whole_jpeg(const uint8_t *data, size_t size, char *why, size_t room)
{
    decoder d = { 0 };
    bool whole = check(&d, data, size);
    if (!whole)
        snprintf(why, room, "%s", d.why);
    end(&d);
    return whole;
}

/* Whether bytes after a picture begin another one of its size. There may be fill bytes between
 * them. */
static bool another_follows(const decoder *first)
{
    const struct jpeg_source_mgr *rest = first->jpeg.src;
    const uint8_t *data = rest->next_input_byte;
    size_t size = rest->bytes_in_buffer;
    while (size && !*data) {
        data++;
        size--;
    }
    if (size < 3 || memcmp(data, "\xff\xd8\xff", 3))
        return false;
    decoder second = { 0 };
    bool same = read_header(&second, data, size) &&
                second.jpeg.image_width == first->jpeg.image_width &&
                second.jpeg.image_height == first->jpeg.image_height;
    end(&second);
    return same;
}

int cli_decode_jpeg(cli_decoding *to, glm4v_error *err)
{
    decoder d = { 0 };
    int rc = decode(&d, to, err);
    if (!rc && !d.multi)
        to->motion_jpeg = another_follows(&d);
    end(&d);
    return rc;
}
