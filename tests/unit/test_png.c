/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PNG files of the common kind, which tools/picture/png_plain.c decodes without libpng: their
 * pixels to the bit, and that whatever is unusual or damaged is left to libpng. Files are written
 * here, by the formulas of the specification. */
#include <libdeflate.h>

#include "cli.h"
#include "picture/decoders.h"
#include "picture/picture.h"
#include "test.h"

/* What the readers of pictures call. */
void *cli_alloc(size_t n, size_t size)
{
    return calloc(n, size);
}

enum { NONE, SUB, UP, AVERAGE, PAETH, FILTERS };
enum { RGB = 2, RGBA = 6, MARK = 8, ROOM = 1 << 18 };

static uint32_t state = 1;

static uint32_t draw(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

typedef struct {
    uint8_t bytes[ROOM];
    size_t size;
} file;

static void put32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void add_chunk(file *f, const char *name, const void *data, size_t size)
{
    uint8_t *p = f->bytes + f->size;
    put32(p, (uint32_t)size);
    memcpy(p + 4, name, 4);
    if (size)
        memcpy(p + 8, data, size);
    put32(p + 8 + size, libdeflate_crc32(0, p + 4, 4 + size));
    f->size += 12 + size;
}

/* A picture, and how it is written. */
typedef struct {
    int32_t width, height;
    int bits, type, interlaced;
    int filter;       /* FILTERS: another one in each row */
    size_t piece;     /* most bytes of an IDAT chunk, 0 = one chunk */
    const char *more; /* name of another chunk, NULL = none */
    bool behind;      /* it follows the data, else it precedes it */
    int extra;        /* bytes of data beyond the rows, or lacking */
} kind;

static int channels_of(const kind *k)
{
    return k->type == RGBA ? 4 : 3;
}

static int predictor(int filter, int left, int above, int corner)
{
    const int sum = left + above - corner;
    const int a = abs(sum - left), b = abs(sum - above), c = abs(sum - corner);
    int paeth = b <= c ? above : corner;
    if (a <= b && a <= c)
        paeth = left;
    const int of[] = { 0, left, above, (left + above) / 2, paeth };
    return of[filter < FILTERS ? filter : NONE];
}

/* [height, 1 + n] */
static void filter_rows(uint8_t *to, const uint8_t *pixels, const kind *k)
{
    const int channels = channels_of(k), n = k->width * channels;
    for (int y = 0; y < k->height; y++) {
        const int filter = k->filter == FILTERS ? (int)(draw() % FILTERS) : k->filter;
        *to++ = (uint8_t)filter;
        for (int i = 0; i < n; i++) {
            const int at = y * n + i;
            const int left = i >= channels ? pixels[at - channels] : 0;
            const int above = at >= n ? pixels[at - n] : 0;
            const int corner = at >= n && i >= channels ? pixels[at - n - channels] : 0;
            *to++ = (uint8_t)(pixels[at] - predictor(filter, left, above, corner));
        }
    }
}

static void add_data(file *f, const uint8_t *rows, size_t size, size_t piece)
{
    static uint8_t deflated[ROOM];
    struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
    const size_t n = libdeflate_zlib_compress(c, rows, size, deflated, sizeof deflated);
    libdeflate_free_compressor(c);
    for (size_t at = 0, part = piece ? piece : n; at < n; at += part)
        add_chunk(f, "IDAT", deflated + at, n - at < part ? n - at : part);
}

static void write_file(file *f, const uint8_t *pixels, const kind *k)
{
    static uint8_t rows[ROOM];
    const size_t size = (size_t)k->height * (k->width * channels_of(k) + 1);
    uint8_t header[13] = {
        [8] = (uint8_t)k->bits, (uint8_t)k->type, [12] = (uint8_t)k->interlaced
    };
    put32(header, (uint32_t)k->width);
    put32(header + 4, (uint32_t)k->height);
    f->size = MARK;
    memcpy(f->bytes, "\x89PNG\r\n\x1a\n", MARK);
    add_chunk(f, "IHDR", header, sizeof header);
    if (k->more && !k->behind)
        add_chunk(f, k->more, "\0\1\0\2\0\3", 6);
    filter_rows(rows, pixels, k);
    add_data(f, rows, size + k->extra, k->piece);
    if (k->more && k->behind)
        add_chunk(f, k->more, "\0\1\0\2\0\3", 6);
    add_chunk(f, "IEND", NULL, 0);
}

/* The file is in memory of just its size. */
static bool decode(cli_decoding *d, const file *f, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, f->bytes, size);
    *d = (cli_decoding) { .name = "PNG", .data = copy, .size = size };
    const bool decoded = cli_decode_plain_png(d);
    free(copy);
    return decoded;
}

static bool is_decoded(const file *f)
{
    cli_decoding d;
    const bool decoded = decode(&d, f, f->size);
    cli_canvas_free(&d.canvas);
    return decoded;
}

static uint8_t pixels[ROOM];
static file made;

static void draw_pixels(void)
{
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(draw() >> (i / 256 % 8));
}

static void check_pixels(const kind *k)
{
    cli_decoding d;
    write_file(&made, pixels, k);
    CHECK(decode(&d, &made, made.size));
    CHECK_EQ(d.canvas.width, k->width);
    CHECK_EQ(d.canvas.height, k->height);
    CHECK_EQ(d.canvas.channels, channels_of(k));
    CHECK(d.canvas.pixels && !memcmp(d.canvas.pixels, pixels, cli_canvas_bytes(&d.canvas)));
    cli_canvas_free(&d.canvas);
}

static void every_filter_gives_the_pixels_that_were_written(void)
{
    draw_pixels();
    for (int filter = 0; filter <= FILTERS; filter++)
        for (int32_t width = 1; width <= 40; width += 1 + width / 8)
            for (int32_t height = 1; height <= 20; height += 1 + height / 3)
                for (int type = RGB; type <= RGBA; type += RGBA - RGB)
                    check_pixels(&(kind) { width, height, 8, type, .filter = filter });
}

static void extreme_colours_are_predicted_right(void)
{
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = draw() % 2 ? 255 : 0;
    for (int filter = 0; filter <= FILTERS; filter++)
        check_pixels(&(kind) { 61, 47, 8, RGB, .filter = filter });
}

static void data_may_lie_in_any_number_of_chunks(void)
{
    draw_pixels();
    for (size_t piece = 1; piece < 2000; piece += 1 + piece / 2)
        check_pixels(&(kind) { 17, 11, 8, RGB, .filter = FILTERS, .piece = piece });
}

static void chunks_that_change_no_pixel_are_passed_over(void)
{
    static const char *const names[] = { "tEXt", "gAMA", "pHYs", "tIME", "acTL", "prVt" };
    draw_pixels();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int behind = 0; behind < 2; behind++)
            check_pixels(&(kind) { 5, 4, 8, RGBA, .more = names[i], .behind = behind });
}

static void what_is_unusual_is_left_to_libpng(void)
{
    static const kind kinds[] = {
        { 5, 4, 16, RGB },
        { 5, 4, 4, RGB },
        { 5, 4, 8, 0 },
        { 5, 4, 8, 3 },
        { 5, 4, 8, 4 },
        { 5, 4, 8, RGB, .interlaced = 1 },
        { 5, 4, 8, RGB, .more = "PLTE" },
        { 5, 4, 8, RGB, .more = "tRNS" },
        { 5, 4, 8, RGB, .more = "eXIf" },
        { 5, 4, 8, RGB, .more = "eXIf", .behind = true },
        { 5, 4, 8, RGB, .more = "UNKN" },
        { 5, 4, 8, RGB, .more = "IHDR" },
        { 5, 4, 8, RGB, .more = "IDAT" },
        { 5, 4, 8, RGB, .more = "t Xt" },
        { 5, 4, 8, RGB, .filter = FILTERS + 1 },
        { 5, 4, 8, RGB, .extra = 1 },
        { 5, 4, 8, RGB, .extra = -1 },
    };
    draw_pixels();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        write_file(&made, pixels, &kinds[i]);
        if (is_decoded(&made))
            test_fail(__FILE__, __LINE__, "kind %zu was decoded", i);
    }
}

static void sizes_out_of_bounds_take_no_memory(void)
{
    static const uint32_t sides[] = { 0, CLI_MAX_SIDE + 1, 0x7fffffff, 0xffffffff };
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        for (int at = 0; at <= 4; at += 4) {
            uint8_t header[13];
            write_file(&made, pixels, &(kind) { 5, 4, 8, RGB });
            const size_t size = made.size;
            memcpy(header, made.bytes + MARK + 8, sizeof header);
            put32(header + at, sides[i]);
            made.size = MARK;
            add_chunk(&made, "IHDR", header, sizeof header); /* what follows stays */
            made.size = size;
            CHECK(!is_decoded(&made));
        }
}

static void a_changed_byte_is_never_overlooked(void)
{
    draw_pixels();
    write_file(&made, pixels,
               &(kind) { 9, 7, 8, RGB, .filter = FILTERS, .piece = 60, .more = "tEXt" });
    for (size_t at = MARK; at < made.size; at++)
        for (int bit = 0; bit < 8; bit++) {
            made.bytes[at] ^= (uint8_t)(1 << bit);
            if (is_decoded(&made))
                test_fail(__FILE__, __LINE__, "byte %zu, bit %d", at, bit);
            made.bytes[at] ^= (uint8_t)(1 << bit);
        }
    CHECK(is_decoded(&made));
}

static void a_file_that_is_cut_short_is_never_decoded(void)
{
    cli_decoding d;
    draw_pixels();
    write_file(&made, pixels, &(kind) { 9, 7, 8, RGBA, .filter = FILTERS, .piece = 50 });
    for (size_t size = MARK; size < made.size; size++)
        CHECK(!decode(&d, &made, size));
}

/* Data that its check sums agree with: only inflating finds out. */
static void damaged_data_with_right_sums_is_left_to_libpng(void)
{
    const kind k = { 19, 17, 8, RGB, .filter = FILTERS };
    draw_pixels();
    write_file(&made, pixels, &k);
    const size_t data = MARK + 25 + 8, size = made.size - data - 4 - 12;
    for (int i = 0; i < 3000; i++) {
        static uint8_t changed[ROOM];
        memcpy(changed, made.bytes + data, size);
        for (uint32_t n = 1 + draw() % 3; n; n--)
            changed[draw() % size] ^= (uint8_t)(1 + draw() % 255);
        if (!memcmp(changed, made.bytes + data, size))
            continue;
        static file other;
        other.size = MARK + 25;
        memcpy(other.bytes, made.bytes, other.size);
        add_chunk(&other, "IDAT", changed, size);
        add_chunk(&other, "IEND", NULL, 0);
        CHECK(!is_decoded(&other));
    }
}

static void libpng_says_what_is_wrong(void)
{
    glm4v_error err = { 0 };
    draw_pixels();
    write_file(&made, pixels, &(kind) { 5, 4, 8, RGB, .filter = FILTERS + 1 });
    cli_picture *picture = cli_picture_open(made.bytes, made.size, NULL, 0, &err);
    CHECK(!picture);
    CHECK_EQ(err.code, GLM4V_ERR_FORMAT);
    CHECK(strstr(err.msg, "PNG picture is damaged") && strstr(err.msg, "filter"));
    cli_picture_close(&picture);
}

int main(void)
{
    TEST(every_filter_gives_the_pixels_that_were_written);
    TEST(extreme_colours_are_predicted_right);
    TEST(data_may_lie_in_any_number_of_chunks);
    TEST(chunks_that_change_no_pixel_are_passed_over);
    TEST(what_is_unusual_is_left_to_libpng);
    TEST(sizes_out_of_bounds_take_no_memory);
    TEST(a_changed_byte_is_never_overlooked);
    TEST(a_file_that_is_cut_short_is_never_decoded);
    TEST(damaged_data_with_right_sums_is_left_to_libpng);
    TEST(libpng_says_what_is_wrong);
    return test_end();
}
