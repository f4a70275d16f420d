/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The PNG files that most programs write (8 bits a channel, RGB or RGBA, not interlaced), decoded
 * in half of libpng's time: libdeflate inflates all of the data at once, into the memory of the
 * picture, and the filters are undone there. In the data a row has one byte more than in the
 * picture, its filter, so what is written never covers what is not read yet.
 *
 * A file is decoded here or left to libpng, never refused: what is unusual or damaged goes there,
 * and libpng alone determines what is accepted and how an error is described.
 * Source: Portable Network Graphics, third edition, W3C, sections 5, 9 and 10. */
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "cli.h"
#include "decoders.h"

/* ---- chunks ---- */

enum {
    MARK = 8,
    CHUNK = 12,
    HEADER = 13
}; /* bytes; of a chunk beside its data: length, name, CRC */

typedef struct {
    const uint8_t *name; /* [4] */
    const uint8_t *data; /* [size] */
    size_t size;
} chunk;

typedef struct {
    const cli_decoding *file;
    size_t at; /* of the next chunk in the file */
    chunk chunk;
    uint32_t width, height;
    int channels;
    const uint8_t *deflated; /* [deflated_size] zlib stream: in the file, or in joined */
    size_t deflated_size;
    uint8_t *joined; /* of several chunks; owned */
} reader;

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool is_letter(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* False: there is none, or its name or CRC is wrong. */
static bool next_chunk(reader *r)
{
    const size_t left = r->file->size - r->at;
    if (left < CHUNK)
        return false;
    const uint8_t *p = r->file->data + r->at;
    const size_t size = get32(p);
    if (size > left - CHUNK)
        return false;
    r->chunk = (chunk) { p + 4, p + 8, size };
    r->at += CHUNK + size;
    return is_letter(p[4]) && is_letter(p[5]) && is_letter(p[6]) && is_letter(p[7]) &&
           libdeflate_crc32(0, p + 4, 4 + size) == get32(p + 8 + size);
}

static bool is_named(const chunk *c, const char *name)
{
    return !memcmp(c->name, name, 4);
}

/* Can pixels or orientation depend on it? Chunks whose name begins with a small letter may be
 * passed over; two of them are not. */
static bool matters(const chunk *c)
{
    return c->name[0] < 'a' || is_named(c, "tRNS") || is_named(c, "eXIf");
}

/* From the current chunk on to the first one that matters. */
static bool skip_others(reader *r)
{
    while (!matters(&r->chunk))
        if (!next_chunk(r))
            return false;
    return true;
}

static bool read_header(reader *r)
{
    enum { RGB = 2, RGBA = 6 };
    const uint8_t *p = r->chunk.data;
    if (!is_named(&r->chunk, "IHDR") || r->chunk.size != HEADER)
        return false;
    r->width = get32(p);
    r->height = get32(p + 4);
    r->channels = p[9] == RGBA ? 4 : 3;
    return p[8] == 8 && (p[9] == RGB || p[9] == RGBA) && !p[10] && !p[11] && !p[12];
}

static bool join(reader *r)
{
    if (!r->joined) {
        r->joined = cli_alloc(r->file->size, 1);
        if (!r->joined)
            return false;
        memcpy(r->joined, r->deflated, r->deflated_size);
        r->deflated = r->joined;
    }
    memcpy(r->joined + r->deflated_size, r->chunk.data, r->chunk.size);
    r->deflated_size += r->chunk.size;
    return true;
}

/* What is compressed, from the current chunk on. */
static bool read_data(reader *r)
{
    bool more;
    if (!is_named(&r->chunk, "IDAT"))
        return false;
    r->deflated = r->chunk.data;
    r->deflated_size = r->chunk.size;
    while ((more = next_chunk(r)) && is_named(&r->chunk, "IDAT"))
        if (!join(r))
            return false;
    return more;
}

static bool read_chunks(reader *r)
{
    return next_chunk(r) && read_header(r) && next_chunk(r) && skip_others(r) && read_data(r) &&
           skip_others(r) && is_named(&r->chunk, "IEND") && !r->chunk.size;
}

/* ---- filters ---- */

/* One row: from is behind the byte of its filter, `to` lies before it; above: the row above,
 * decoded. Both may be read one byte, `to` written one byte, beyond the row. */
typedef struct {
    uint8_t *to;
    const uint8_t *from, *above;
    size_t n; /* bytes */
} row;

/* The channels of a pixel, whose sums and differences need 16 bits. Of RGB the fourth is a byte of
 * the next pixel, which has no effect. */
typedef uint8_t bytes4 __attribute__((vector_size(4)));
typedef int16_t pixel __attribute__((vector_size(8)));
typedef uint8_t bytes16 __attribute__((vector_size(16)));

static pixel load(const uint8_t *p)
{
    bytes4 bytes;
    memcpy(&bytes, p, sizeof bytes);
    return __builtin_convertvector(bytes, pixel);
}

static pixel store(uint8_t *p, pixel sum)
{
    const pixel low = sum & 0xff;
    const bytes4 bytes = __builtin_convertvector(low, bytes4);
    memcpy(p, &bytes, sizeof bytes);
    return low;
}

static pixel absolute(pixel x)
{
    const pixel sign = x >> 15;
    return (x ^ sign) - sign;
}

static pixel choose(pixel mask, pixel yes, pixel no)
{
    return (yes & mask) | (no & ~mask);
}

/* The one of left, above and corner that is closest to left + above - corner. */
static pixel paeth(pixel left, pixel above, pixel corner)
{
    const pixel to_above = left - corner, to_left = above - corner;
    const pixel a = absolute(to_left), b = absolute(to_above), c = absolute(to_left + to_above);
    return choose((a <= b) & (a <= c), left, choose(b <= c, above, corner));
}

static void undo_sub(const row *r, int channels)
{
    pixel left = { 0 };
    for (size_t i = 0; i < r->n; i += channels)
        left = store(r->to + i, load(r->from + i) + left);
}

static void undo_up(const row *r)
{
    size_t i = 0;
    for (bytes16 a, b; r->n - i >= sizeof a; i += sizeof a) {
        memcpy(&a, r->from + i, sizeof a);
        memcpy(&b, r->above + i, sizeof b);
        a += b;
        memcpy(r->to + i, &a, sizeof a);
    }
    for (; i < r->n; i++)
        r->to[i] = (uint8_t)(r->from[i] + r->above[i]);
}

static void undo_average(const row *r, int channels)
{
    pixel left = { 0 };
    for (size_t i = 0; i < r->n; i += channels)
        left = store(r->to + i, load(r->from + i) + ((left + load(r->above + i)) >> 1));
}

static void undo_paeth(const row *r, int channels)
{
    pixel left = { 0 }, corner = { 0 };
    for (size_t i = 0; i < r->n; i += channels) {
        const pixel above = load(r->above + i);
        left = store(r->to + i, load(r->from + i) + paeth(left, above, corner));
        corner = above;
    }
}

/* channels: constant where it is called, so that each number has its own loop. */
static bool undo(const row *r, int filter, int channels)
{
    enum { NONE, SUB, UP, AVERAGE, PAETH };
    switch (filter) {
    case NONE:
        memmove(r->to, r->from, r->n);
        return true;
    case SUB:
        undo_sub(r, channels);
        return true;
    case UP:
        undo_up(r);
        return true;
    case AVERAGE:
        undo_average(r, channels);
        return true;
    case PAETH:
        undo_paeth(r, channels);
        return true;
    default:
        return false;
    }
}

/* pixels: [height, 1 + n] bytes as they were compressed, n those of a row, then zeros for one row,
 * which is above the first. Becomes [height, n]. */
static bool undo_filters(uint8_t *pixels, int64_t height, size_t n, int channels)
{
    row r = { .to = pixels, .above = pixels + height * (n + 1), .n = n };
    const uint8_t *from = pixels;
    bool known = true;
    for (int64_t y = 0; known && y < height; y++, from += n + 1) {
        r.from = from + 1;
        known = channels == 3 ? undo(&r, *from, 3) : undo(&r, *from, 4);
        r.above = r.to;
        r.to += n;
    }
    return known;
}

/* ---- both ---- */

static bool inflate_all(const reader *r, uint8_t *to, size_t size)
{
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    const bool whole =
        d && !libdeflate_zlib_decompress(d, r->deflated, r->deflated_size, to, size, NULL);
    libdeflate_free_decompressor(d);
    return whole;
}

bool cli_decode_plain_png(cli_decoding *to)
{
    reader r = { .file = to, .at = MARK };
    glm4v_error ignored;
    uint8_t *pixels = NULL;
    bool decoded = false;
    if (read_chunks(&r) && !cli_canvas_check(r.width, r.height, &ignored)) {
        const size_t n = (size_t)r.width * r.channels, size = r.height * (n + 1);
        pixels = cli_alloc(size + n + 1, 1);
        decoded = pixels && inflate_all(&r, pixels, size) &&
                  undo_filters(pixels, r.height, n, r.channels);
    }
    free(r.joined);
    if (decoded)
        to->canvas = (cli_canvas) { pixels, (int32_t)r.width, (int32_t)r.height, r.channels };
    else
        free(pixels);
    return decoded;
}
