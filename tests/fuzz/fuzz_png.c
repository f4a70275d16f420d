/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PNG files that png_plain.c decodes, beside libpng, which must find the same pixels. The first
 * byte tells what follows. Even: width, height, kind and size of an IDAT chunk, then rows with
 * their filters, as they are before compression. Odd: a whole file, whose CRCs are corrected. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "cli.h"
#include "fuzz.h"
#include "picture/decoders.h"

enum { MARK = 8, HEADER = 13, SIDE = 64, MOST = 1 << 14, ROOM = 1 << 18, PIXELS = 1 << 20 };

/* What the readers of pictures call. */
void *cli_alloc(size_t n, size_t size)
{
    return calloc(n, size);
}

typedef struct {
    uint8_t *bytes; /* [ROOM] */
    size_t size;
} file;

static void put32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- making files ---- */

static void begin(file *f)
{
    memcpy(f->bytes, "\x89PNG\r\n\x1a\n", MARK);
    f->size = MARK;
}

static void add_chunk(file *f, const char *name, const uint8_t *data, size_t size)
{
    uint8_t *p = f->bytes + f->size;
    put32(p, (uint32_t)size);
    memcpy(p + 4, name, 4);
    if (size)
        memcpy(p + 8, data, size);
    put32(p + 8 + size, libdeflate_crc32(0, p + 4, 4 + size));
    f->size += 12 + size;
}

/* Rows that the input lacks are zeros, those that it has beyond the last are compressed, too. */
static void build(file *f, const uint8_t *data, size_t size)
{
    static const uint8_t types[] = { 2, 6, 2, 6, 0, 3 };
    const uint8_t width = data[0] % SIDE + 1, height = data[1] % SIDE + 1;
    const uint8_t type = types[data[2] % sizeof types];
    const size_t piece = data[3] ? data[3] : ROOM, row = (type == 6 ? 4 : 3) * width + 1;
    const size_t n = row * height > size - 4 ? row * height : size - 4;
    const uint8_t header[HEADER] = { 0, 0, 0, width, 0, 0, 0, height, 8, type };
    uint8_t *rows = calloc(n, 1), *deflated = malloc(2 * MOST);
    struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
    memcpy(rows, data + 4, size - 4);
    const size_t n_deflated = libdeflate_zlib_compress(c, rows, n, deflated, 2 * MOST);
    begin(f);
    add_chunk(f, "IHDR", header, sizeof header);
    for (size_t at = 0; at < n_deflated; at += piece)
        add_chunk(f, "IDAT", deflated + at, n_deflated - at < piece ? n_deflated - at : piece);
    add_chunk(f, "IEND", NULL, 0);
    libdeflate_free_compressor(c);
    free(deflated);
    free(rows);
}

static void correct(file *f, const uint8_t *data, size_t size)
{
    begin(f);
    memcpy(f->bytes + MARK, data, size);
    f->size = MARK + size;
    for (size_t at = MARK, n; f->size - at >= 12; at += 12 + n) {
        uint8_t *p = f->bytes + at;
        n = get32(p);
        if (n > f->size - at - 12)
            return;
        put32(p + 8 + n, libdeflate_crc32(0, p + 4, 4 + n));
    }
}

/* ---- libpng ---- */

typedef struct {
    const file *f;
    size_t at;
} source;

static void read_bytes(png_structp png, png_bytep to, size_t n)
{
    source *s = png_get_io_ptr(png);
    if (n > s->f->size - s->at)
        png_error(png, "end of file");
    memcpy(to, s->f->bytes + s->at, n);
    s->at += n;
}

static void pass(png_structp png, png_const_charp message)
{
}

/* Rows of a picture of known size, into pixels; false: libpng finds fault with the file. */
static bool decode_by_libpng(const file *f, uint8_t *pixels, int32_t height, size_t row)
{
    source s = { f, 0 };
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, pass);
    png_infop info = png_create_info_struct(png);
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_read_struct(&png, &info, NULL);
        return false;
    }
    png_set_read_fn(png, &s, read_bytes);
    png_read_info(png, info);
    FUZZ_CHECK(png_get_rowbytes(png, info) == row);
    for (int32_t y = 0; y < height; y++)
        png_read_row(png, pixels + (size_t)y * row, NULL);
    png_read_end(png, NULL);
    png_destroy_read_struct(&png, &info, NULL);
    return true;
}

/* ---- both ---- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5 || size > MOST)
        return 0;
    cli_canvas_bound(PIXELS);
    file f = { calloc(ROOM, 1), 0 };
    const bool built = data[0] % 2 == 0;
    (built ? build : correct)(&f, data + 1, size - 1);
    uint8_t *exact = malloc(f.size);
    memcpy(exact, f.bytes, f.size);
    cli_decoding d = { .name = "PNG", .data = exact, .size = f.size };
    if (cli_decode_plain_png(&d)) {
        const size_t n = cli_canvas_bytes(&d.canvas);
        uint8_t *pixels = malloc(n);
        const bool same = decode_by_libpng(&f, pixels, d.canvas.height, n / d.canvas.height);
        FUZZ_CHECK(same || !built); /* libpng also reads chunks that are passed over here */
        FUZZ_CHECK(!same || !memcmp(pixels, d.canvas.pixels, n));
        free(pixels);
        cli_canvas_free(&d.canvas);
    }
    free(exact);
    free(f.bytes);
    return 0;
}
