/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ICO: of the pictures in it the largest, of equal ones that with the most bits. It is a PNG, or a
 * bitmap, which gdk-pixbuf reads out of a file that holds nothing else. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"

enum { HEAD = 6, ENTRY = 16, SIZE_AT = 8, OFFSET_AT = 12 };

static uint32_t get32(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t rank(const uint8_t *entry)
{
    const uint32_t width = entry[0] ? entry[0] : 256, height = entry[1] ? entry[1] : 256;
    return width * height * 64 + (entry[6] < 64 ? entry[6] : 63);
}

static const uint8_t *find_best(const cli_decoding *d)
{
    const uint8_t *best = NULL;
    const size_t n = d->data[4] | d->data[5] << 8;
    for (size_t i = 0; i < n && HEAD + (i + 1) * ENTRY <= d->size; i++) {
        const uint8_t *entry = d->data + HEAD + i * ENTRY;
        if (!best || rank(entry) > rank(best))
            best = entry;
    }
    return best;
}

int cli_decode_ico(cli_decoding *d, glm4v_error *err)
{
    const uint8_t *entry = find_best(d);
    const size_t size = entry ? get32(entry + SIZE_AT) : 0;
    const size_t offset = entry ? get32(entry + OFFSET_AT) : 0;
    if (!size || offset > d->size || size > d->size - offset)
        return cli_decoding_damaged(d, "its largest picture lies beyond the end of the file", err);
    const uint8_t *picture = d->data + offset;
    cli_decoding inner = *d;
    if (size > 8 && !memcmp(picture, "\x89PNG\r\n\x1a\n", 8)) {
        inner.data = picture;
        inner.size = size;
        int rc = cli_decode_png(&inner, err);
        d->canvas = inner.canvas;
        return rc;
    }
    uint8_t *alone = cli_alloc(HEAD + ENTRY + size, 1);
    if (!alone)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
    memcpy(alone, "\0\0\1\0\1\0", HEAD);
    memcpy(alone + HEAD, entry, OFFSET_AT);
    alone[HEAD + OFFSET_AT] = HEAD + ENTRY;
    memcpy(alone + HEAD + ENTRY, picture, size);
    inner.data = alone;
    inner.size = HEAD + ENTRY + size;
    int rc = cli_decode_pixbuf(&inner, err);
    d->canvas = inner.canvas;
    free(alone);
    return rc;
}
