/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The functions that the file of each format provides for picture.c. */
#ifndef GLM4V_TOOLS_PICTURE_DECODERS_H
#define GLM4V_TOOLS_PICTURE_DECODERS_H

#include <stdbool.h>

#include "canvas.h"

typedef struct {
    const char *name;      /* of the format, for messages */
    const char *mime_type; /* its name in gdk-pixbuf */
    const uint8_t *data;   /* the whole file */
    size_t size;
    cli_canvas canvas; /* RGB or RGBA, the orientation not undone yet */
    bool multiplied;   /* alpha is multiplied into the colours already */
    int orientation;   /* 0 = unknown */
    bool motion_jpeg;  /* another JPEG of the same size follows */
    void *animation;   /* of the decoder, if it has several frames */
    int64_t pts;       /* nanoseconds; of an animation's frame */
    double fraction;   /* [0, 1], how far in the animation */
} cli_decoding;

/* Decode the only picture of a file. 0, or a GLM4V_ERR_* with the reason in err. */
int cli_decode_jpeg(cli_decoding *d, glm4v_error *err);
int cli_decode_png(cli_decoding *d, glm4v_error *err);
int cli_decode_tiff(cli_decoding *d, glm4v_error *err);
int cli_decode_ico(cli_decoding *d, glm4v_error *err);
int cli_decode_pixbuf(cli_decoding *d, glm4v_error *err);

/* png_plain.c: decode a PNG of a common kind; false, with nothing done, if it is not one or is
 * damaged. */
bool cli_decode_plain_png(cli_decoding *d);

/* Formats that may be animated decode their first frame, and where others follow, set `animation`.
 * _next(): 1 = the canvas holds the next frame, 0 = there is none, -1 = failed. */
int cli_decode_gif(cli_decoding *d, glm4v_error *err);
int cli_next_gif(cli_decoding *d, glm4v_error *err);
void cli_close_gif(cli_decoding *d);
int cli_decode_webp(cli_decoding *d, glm4v_error *err);
int cli_next_webp(cli_decoding *d, glm4v_error *err);
void cli_close_webp(cli_decoding *d);

/* "the JPEG picture is damaged or cut short: why" */
int cli_decoding_damaged(const cli_decoding *d, const char *why, glm4v_error *err);

#endif
