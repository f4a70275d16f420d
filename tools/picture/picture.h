/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Still and animated pictures, decoded from memory to RGB by the libraries made for it: JPEG
 * (libjpeg-turbo), PNG (libpng), TIFF (libtiff), WebP (libwebp), GIF (giflib), and through
 * gdk-pixbuf what it has loaders for of BMP, TGA, ICO, PNM, AVIF, HEIF and JPEG XL.
 *
 * What comes out is what a viewer shows: alpha composited on white, the orientation in EXIF undone.
 * 16-bit samples keep their upper byte. Embedded colour profiles are not applied. A file that is
 * damaged or cut short is refused. Thread-safety: pictures are independent of each other. */
#ifndef GLM4V_TOOLS_PICTURE_H
#define GLM4V_TOOLS_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

typedef struct cli_picture cli_picture;

enum {
    CLI_PICTURE_HEAD = 1024,       /* bytes of a file that determine its format */
    CLI_PICTURE_MAX_FILE = 1 << 30 /* bytes */
};

/* Whether this is a picture, supported or not, by its first bytes and, for TGA, which has no mark
 * of its own, by its name (may be NULL). */
bool cli_picture_is(const uint8_t *head, size_t size, const char *name);

/* Open a whole file; data is borrowed until the picture is closed. interval: nanoseconds between
 * the returned frames of an animation, 0 = every frame. NULL on failure, with the reason in err:
 * FORMAT if it is damaged or no picture, UNSUPPORTED if its format is not supported (err names it)
 * or it is too large, NOMEM. */
cli_picture *cli_picture_open(const uint8_t *data, size_t size, const char *name, uint64_t interval,
                              glm4v_error *err);

/* Whether it is Motion JPEG, one JPEG after the other without a container: a clip, which is not
 * decoded here. */
bool cli_picture_is_motion_jpeg(const cli_picture *picture);

/* Whether libjpeg finds nothing wrong with a JPEG; else the reason is in why. It takes less time
 * than decoding. */
bool cli_picture_is_whole_jpeg(const uint8_t *data, size_t size, char *why, size_t room);

/* 1 = *frame is the next one, 0 = end, -1 = failed (err->msg). A still picture has one frame. */
int cli_picture_next(cli_picture *picture, cli_frame *frame, glm4v_error *err);

/* The pixels of the frame that cli_picture_next() returned last: the caller's from now on, free()
 * them. The picture can only be closed afterwards. */
uint8_t *cli_picture_take(cli_picture *picture);

/* Accepts the address of NULL. */
void cli_picture_close(cli_picture **picture);

#endif
