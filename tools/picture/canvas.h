/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pixels of one picture, and what is done with them after decoding: alpha composited on white,
 * orientation undone. */
#ifndef GLM4V_TOOLS_PICTURE_CANVAS_H
#define GLM4V_TOOLS_PICTURE_CANVAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

/* The bounds of the element's caps: a larger picture is refused before memory is taken. */
enum { CLI_MAX_SIDE = 16384, CLI_MAX_PIXELS = 128 << 20 };

typedef struct {
    uint8_t *pixels; /* [height, width, channels], rows without gaps; owned */
    int32_t width, height;
    int channels; /* 3 = RGB, 4 = RGBA with straight alpha */
} cli_canvas;

/* Allocate memory for a picture of a size that cli_canvas_check() accepts, zeroed; the former
 * memory of the canvas is freed. 0 or a GLM4V_ERR_*. */
int cli_canvas_make(cli_canvas *canvas, uint64_t width, uint64_t height, int channels,
                    glm4v_error *err);

/* From now on pictures that the calling thread decodes have at most so many pixels; at most, and at
 * first, CLI_MAX_PIXELS. */
void cli_canvas_bound(uint64_t pixels);

/* Refuse sizes that are zero or beyond the bounds. 0 or a GLM4V_ERR_*. */
int cli_canvas_check(uint64_t width, uint64_t height, glm4v_error *err);

/* RGBA to RGB, in place: what is transparent becomes white. multiplied: the colours are, by their
 * alpha, already. */
void cli_canvas_flatten(cli_canvas *canvas, bool multiplied);

/* Turn an RGB picture so that it is shown upright. orientation: as in EXIF, 1 to 8; others count as
 * 1, nothing to do. 0 or GLM4V_ERR_NOMEM. */
int cli_canvas_orient(cli_canvas *canvas, int orientation, glm4v_error *err);

void cli_canvas_free(cli_canvas *canvas);

/* Bytes of all pixels, and the first one of the pixel at column x of row y. */
size_t cli_canvas_bytes(const cli_canvas *canvas);
uint8_t *cli_canvas_at(const cli_canvas *canvas, int64_t x, int64_t y);

/* The orientation in a block of EXIF, with or without its head "Exif\0\0"; 1 if it has none. */
int cli_exif_orientation(const uint8_t *exif, size_t size);

#endif
