/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See blob.h. */
#define _GNU_SOURCE
#include "blob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli.h"
#include "fail.h"
#include "interrupt.h"

static bool make_room(cli_blob *blob, size_t room)
{
    uint8_t *data = cli_alloc(room, 1);
    if (!data)
        return false;
    if (blob->size)
        memcpy(data, blob->data, blob->size);
    free(blob->data);
    blob->data = data;
    blob->room = room;
    return true;
}

int cli_blob_read(cli_blob *blob, int fd, size_t wanted, glm4v_error *err)
{
    enum { STEP = 1 << 16 };
    while (blob->size < wanted) {
        if (blob->size == blob->room && !make_room(blob, 2 * blob->room + STEP))
            return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for the input");
        const size_t left = wanted - blob->size, room = blob->room - blob->size;
        ssize_t got = read(fd, blob->data + blob->size, left < room ? left : room);
        if (got == 0)
            break;
        if (got > 0)
            blob->size += got;
        else if (errno != EINTR)
            return cli_fail(err, GLM4V_ERR_IO, "%s", strerror(errno));
        else if (cli_interrupted())
            return cli_fail(err, GLM4V_ERR_CANCELED, "interrupted");
    }
    return 0;
}

int cli_blob_append(cli_blob *blob, const void *data, size_t size, glm4v_error *err)
{
    if (size > blob->room - blob->size && !make_room(blob, 2 * blob->room + size))
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for the input");
    memcpy(blob->data + blob->size, data, size);
    blob->size += size;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Of each letter 1 + its digit, or 0; 65: white space, which is passed over. */
#define DIGIT(letter, value) [letter] = 1 + (value)
#define DIGITS4(first, value)                                                                      \
    DIGIT(first, value), DIGIT((first) + 1, (value) + 1), DIGIT((first) + 2, (value) + 2),         \
        DIGIT((first) + 3, (value) + 3)
enum { SPACE = 65 };
static const uint8_t base64_digits[256] = {
    DIGITS4('A', 0),  DIGITS4('E', 4),  DIGITS4('I', 8),  DIGITS4('M', 12), DIGITS4('Q', 16),
    DIGITS4('U', 20), DIGIT('Y', 24),   DIGIT('Z', 25),   DIGITS4('a', 26), DIGITS4('e', 30),
    DIGITS4('i', 34), DIGITS4('m', 38), DIGITS4('q', 42), DIGITS4('u', 46), DIGIT('y', 50),
    DIGIT('z', 51),   DIGITS4('0', 52), DIGITS4('4', 56), DIGIT('8', 60),   DIGIT('9', 61),
    DIGIT('+', 62),   DIGIT('-', 62),   DIGIT('/', 63),   DIGIT('_', 63),   [' '] = SPACE,
    ['\t'] = SPACE,   ['\r'] = SPACE,   ['\n'] = SPACE,
};

static bool unescape(cli_blob *blob, const char *text)
{
    const char *escape = strchrnul(text, '%');
    blob->size = escape - text;
    memcpy(blob->data, text, blob->size);
    for (text = escape; *text; text++) {
        int value = (uint8_t)*text;
        if (*text == '%') {
            const int high = hex_digit(text[1]), low = high < 0 ? -1 : hex_digit(text[2]);
            if (low < 0)
                return false;
            value = high << 4 | low;
            text += 2;
        }
        blob->data[blob->size++] = (uint8_t)value;
    }
    return true;
}

/* Whole groups of four letters; stops at anything else. Returns how many letters they are. */
static size_t decode_groups(cli_blob *blob, const uint8_t *in, size_t n)
{
    uint8_t *out = blob->data + blob->size;
    size_t i = 0;
    for (; n - i >= 4; i += 4, out += 3) {
        const uint32_t a = base64_digits[in[i]] - 1u, b = base64_digits[in[i + 1]] - 1u,
                       c = base64_digits[in[i + 2]] - 1u, d = base64_digits[in[i + 3]] - 1u;
        if ((a | b | c | d) >= 64)
            break;
        const uint32_t bits = a << 18 | b << 12 | c << 6 | d;
        out[0] = bits >> 16 & 0xff;
        out[1] = bits >> 8 & 0xff;
        out[2] = bits & 0xff;
    }
    blob->size = out - blob->data;
    return i;
}

/* Of letters in [0, n), which may be blob->data: no byte is written before it was read. White space
 * is passed over. */
static bool decode_base64(cli_blob *blob, const uint8_t *in, size_t n)
{
    uint32_t bits = 0;
    size_t digits = 0;
    blob->size = 0;
    size_t i = decode_groups(blob, in, n);
    for (; i < n && in[i] != '='; i++) {
        const uint8_t digit = base64_digits[in[i]];
        if (digit == SPACE)
            continue;
        if (!digit)
            return false;
        bits = bits << 6 | (digit - 1u);
        if (++digits % 4 != 1)
            blob->data[blob->size++] = (uint8_t)(bits >> (6 - 2 * ((digits - 1) % 4)));
    }
    for (; i < n; i++)
        if (!memchr("= \t\r\n", in[i], 5))
            return false;
    return digits % 4 != 1;
}

int cli_blob_from_data_uri(cli_blob *blob, const char *uri, glm4v_error *err)
{
    const char *comma = strchr(uri, ',');
    if (!comma)
        return cli_fail(err, GLM4V_ERR_FORMAT,
                        "a data: URI without the comma that precedes the data");
    const char *text = comma + 1;
    size_t n = strlen(text);
    const bool escaped = memchr(text, '%', n) != NULL;
    const bool base64 = comma - uri >= 7 && !strncasecmp(comma - 7, ";base64", 7);
    if (!make_room(blob, base64 && !escaped ? n / 4 * 3 + 3 : n + 1))
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for the input");
    if (escaped || !base64) {
        if (!unescape(blob, text))
            return cli_fail(err, GLM4V_ERR_FORMAT,
                            "a data: URI with a %% that is not followed by two hex digits");
        text = (const char *)blob->data;
        n = blob->size;
    }
    if (base64 && !decode_base64(blob, (const uint8_t *)text, n))
        return cli_fail(err, GLM4V_ERR_FORMAT, "a data: URI whose base64 is damaged or cut short");
    if (!blob->size)
        return cli_fail(err, GLM4V_ERR_FORMAT, "a data: URI without data");
    return 0;
}

void cli_blob_free(cli_blob *blob)
{
    free(blob->data);
    *blob = (cli_blob) { 0 };
}
