/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GIF by giflib, which returns the lines of each frame; they are drawn on the canvas here, as GIF
 * 89a specifies. Areas that no frame has drawn are transparent. */
#include <stdlib.h>
#include <string.h>

#include <gif_lib.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"

typedef struct {
    GifFileType *gif;
    const uint8_t *data;
    size_t size, at;
    cli_canvas shown, saved; /* RGBA: what the frames painted so far; what DISPOSE_PREVIOUS brings
                                back */
    GraphicsControlBlock control; /* of the frame that comes next */
    GraphicsControlBlock last;    /* of the frame before it, and its place */
    int left, top, width, height;
    bool ended;
    int64_t time; /* of the next frame, in hundredths of a second */
} animation;

static int on_read(GifFileType *gif, GifByteType *to, int n)
{
    animation *a = gif->UserData;
    const size_t left = a->size - a->at;
    const int got = left < (size_t)n ? (int)left : n;
    memcpy(to, a->data + a->at, got);
    a->at += got;
    return got;
}

static int damaged(cli_decoding *d, const animation *a, glm4v_error *err)
{
    const char *why = a && a->gif ? GifErrorString(a->gif->Error) : NULL;
    cli_decoding_damaged(d, why ? why : "its header is not that of a GIF", err);
    return -1;
}

static const GraphicsControlBlock no_control = { .TransparentColor = NO_TRANSPARENT_COLOR };

static bool read_extension(animation *a)
{
    int code = 0;
    GifByteType *block = NULL;
    if (DGifGetExtension(a->gif, &code, &block) == GIF_ERROR)
        return false;
    while (block) {
        if (code == GRAPHICS_EXT_FUNC_CODE)
            DGifExtensionToGCB(block[0], block + 1, &a->control);
        if (DGifGetExtensionNext(a->gif, &block) == GIF_ERROR)
            return false;
    }
    return true;
}

/* Go on to the next frame: 1 = its description was read, 0 = there is none, -1 = damaged. In a file
 * that ends where a frame could begin only the end marker is missing. */
static int find_frame(animation *a)
{
    GifRecordType type = UNDEFINED_RECORD_TYPE;
    while (!a->ended && a->at < a->size) {
        if (DGifGetRecordType(a->gif, &type) == GIF_ERROR)
            return -1;
        if (type == IMAGE_DESC_RECORD_TYPE)
            return DGifGetImageDesc(a->gif) == GIF_ERROR ? -1 : 1;
        if (type == EXTENSION_RECORD_TYPE && !read_extension(a))
            return -1;
        a->ended = type == TERMINATE_RECORD_TYPE;
    }
    return 0;
}

static void paint(animation *a, const ColorMapObject *colors, const uint8_t *line, int y)
{
    cli_canvas *c = &a->shown;
    const int width = a->left + a->width > c->width ? c->width - a->left : a->width;
    if (y >= c->height)
        return;
    uint8_t *to = cli_canvas_at(c, a->left, y);
    for (int x = 0; x < width; x++, to += 4) {
        const int index = line[x];
        if (index == a->control.TransparentColor || index >= colors->ColorCount)
            continue;
        const GifColorType *color = &colors->Colors[index];
        to[0] = color->Red;
        to[1] = color->Green;
        to[2] = color->Blue;
        to[3] = 255;
    }
}

static bool read_lines(animation *a, uint8_t *line)
{
    static const int begin[] = { 0, 4, 2, 1 }, step[] = { 8, 8, 4, 2 };
    const GifImageDesc *image = &a->gif->Image;
    const ColorMapObject *colors = image->ColorMap ? image->ColorMap : a->gif->SColorMap;
    if (!colors)
        return false;
    for (int pass = image->Interlace ? 0 : 3; pass < 4; pass++)
        for (int y = image->Interlace ? begin[pass] : 0; y < a->height;
             y += image->Interlace ? step[pass] : 1) {
            if (DGifGetLine(a->gif, line, a->width) == GIF_ERROR)
                return false;
            paint(a, colors, line, a->top + y);
        }
    return true;
}

/* What becomes of the frame before, when the next one comes. */
static void dispose(animation *a)
{
    cli_canvas *c = &a->shown;
    if (a->last.DisposalMode == DISPOSE_PREVIOUS && a->saved.pixels)
        memcpy(c->pixels, a->saved.pixels, cli_canvas_bytes(c));
    if (a->last.DisposalMode != DISPOSE_BACKGROUND)
        return;
    const int width = a->left + a->width > c->width ? c->width - a->left : a->width;
    for (int y = a->top; width > 0 && y < a->top + a->height && y < c->height; y++)
        memset(cli_canvas_at(c, a->left, y), 0, width * c->channels);
}

static int save(animation *a, glm4v_error *err)
{
    const cli_canvas *c = &a->shown;
    if (a->control.DisposalMode != DISPOSE_PREVIOUS)
        return 0;
    int rc = cli_canvas_make(&a->saved, c->width, c->height, 4, err);
    if (!rc)
        memcpy(a->saved.pixels, c->pixels, cli_canvas_bytes(c));
    return rc;
}

/* The frame whose description was read last, onto the canvas. */
static int read_frame(cli_decoding *d, animation *a, glm4v_error *err)
{
    const GifImageDesc *image = &a->gif->Image;
    dispose(a);
    if (save(a, err))
        return -1;
    a->left = image->Left;
    a->top = image->Top;
    a->width = image->Width;
    a->height = image->Height;
    if (a->width < 1 || a->height < 1 || (int64_t)a->width * a->height > CLI_MAX_PIXELS) {
        cli_decoding_damaged(d, "a frame has an impossible size", err);
        return -1;
    }
    uint8_t *line = cli_alloc(a->width, 1);
    if (!line) {
        cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
        return -1;
    }
    bool good = read_lines(a, line);
    free(line);
    if (!good)
        return damaged(d, a, err);
    cli_canvas *c = &a->shown;
    if (cli_canvas_make(&d->canvas, c->width, c->height, 4, err))
        return -1;
    memcpy(d->canvas.pixels, c->pixels, cli_canvas_bytes(c));
    d->pts = a->time * 10000000;
    a->time += a->control.DelayTime < 2 ? 10 : a->control.DelayTime; /* as browsers do */
    d->fraction = (double)a->at / (double)a->size;
    a->last = a->control;
    a->control = no_control;
    return 1;
}

int cli_next_gif(cli_decoding *d, glm4v_error *err)
{
    animation *a = d->animation;
    if (a->ended)
        return 0;
    if (read_frame(d, a, err) < 0)
        return -1;
    int more = find_frame(a);
    if (more < 0)
        return damaged(d, a, err);
    a->ended = !more;
    return 1;
}

int cli_decode_gif(cli_decoding *d, glm4v_error *err)
{
    int error = 0;
    animation *a = cli_alloc(1, sizeof *a);
    if (!a)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
    d->animation = a;
    a->data = d->data;
    a->size = d->size;
    a->control = a->last = no_control;
    a->gif = DGifOpen(a, on_read, &error);
    int more = a->gif ? find_frame(a) : -1;
    int rc = 0;
    if (more <= 0) {
        damaged(d, a, err);
        rc = err->code;
    } else {
        const GifFileType *gif = a->gif;
        const bool screen = gif->SWidth > 0 && gif->SHeight > 0;
        rc = cli_canvas_make(&a->shown, screen ? gif->SWidth : gif->Image.Width,
                             screen ? gif->SHeight : gif->Image.Height, 4, err);
    }
    if (!rc && cli_next_gif(d, err) < 0)
        rc = err->code;
    if (rc || a->ended)
        cli_close_gif(d);
    return rc;
}

void cli_close_gif(cli_decoding *d)
{
    animation *a = d->animation;
    if (!a)
        return;
    if (a->gif)
        DGifCloseFile(a->gif, NULL);
    cli_canvas_free(&a->shown);
    cli_canvas_free(&a->saved);
    free(a);
    d->animation = NULL;
}
