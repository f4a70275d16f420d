/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See blob.h. */
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
            blob->size += (size_t)got;
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

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

static bool unescape(cli_blob *blob, const char *text)
{
    for (; *text; text++) {
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

/* In place; white space is passed over. */
static bool decode_base64(cli_blob *blob)
{
    const size_t n = blob->size;
    uint32_t bits = 0;
    size_t digits = 0, i = 0;
    blob->size = 0;
    for (; i < n && blob->data[i] != '='; i++) {
        if (memchr(" \t\r\n", blob->data[i], 4))
            continue;
        const int digit = base64_digit(blob->data[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        if (++digits % 4 != 1)
            blob->data[blob->size++] = (uint8_t)(bits >> (6 - 2 * ((digits - 1) % 4)));
    }
    for (; i < n; i++)
        if (!memchr("= \t\r\n", blob->data[i], 5))
            return false;
    return digits % 4 != 1;
}

int cli_blob_from_data_uri(cli_blob *blob, const char *uri, glm4v_error *err)
{
    const char *comma = strchr(uri, ','), *option = "";
    if (!comma)
        return cli_fail(err, GLM4V_ERR_FORMAT,
                        "a data: URI without the comma that precedes the data");
    if (comma - uri >= 7)
        option = comma - 7;
    if (!make_room(blob, strlen(comma)))
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for the input");
    if (!unescape(blob, comma + 1))
        return cli_fail(err, GLM4V_ERR_FORMAT,
                        "a data: URI with a %% that is not followed by two hex digits");
    if (!strncasecmp(option, ";base64", 7) && !decode_base64(blob))
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
