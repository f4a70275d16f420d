/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Structure-aware input: a valid JSON text in which single values are replaced, so that what is
 * tried stays JSON and lies in one place. An edit is four bytes: which value (two), what takes its
 * place, and a number for that. */
#ifndef GLM4V_FUZZ_JSON_EDITS_H
#define GLM4V_FUZZ_JSON_EDITS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EDITS_MAX_VALUES 8192
#define EDITS_MAX 16
#define EDITS_ROOM 128 /* bytes that a replacement has at most */

typedef struct {
    const char *text;
    size_t len;
    uint32_t start[EDITS_MAX_VALUES], end[EDITS_MAX_VALUES]; /* of strings, numbers and words */
    uint32_t n;
} json_base;

/* Find the values of a text, which stays the caller's; one that is no JSON has some too. */
static void json_base_init(json_base *b, const char *text, size_t len)
{
    b->text = text;
    b->len = len;
    b->n = 0;
    for (size_t i = 0; i < len && b->n < EDITS_MAX_VALUES; i++) {
        size_t start = i;
        if (text[i] == '"') {
            for (i++; i < len && text[i] != '"'; i++)
                i += text[i] == '\\';
            if (i >= len)
                break;
        } else if (strchr("-0123456789tfn", text[i]) && text[i]) {
            while (i + 1 < len && text[i + 1] && strchr("+-.0123456789eEtrufalsn", text[i + 1]))
                i++;
        } else {
            continue;
        }
        b->start[b->n] = (uint32_t)start;
        b->end[b->n++] = (uint32_t)i + 1;
    }
}

static size_t json_replacement(char *out, const json_base *b, uint8_t kind, uint8_t number)
{
    static const char *const words[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1",
        "2",
        "128",
        "0.5",
        "1e308",
        "-0.0",
        "1e-308",
        "65536",
        "2097152",
        "2147483647",
        "2147483648",
        "4294967296",
        "281474976710656",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551616",
        "\"\"",
        "[]",
        "{}",
        "[[]]",
        "[1,1,1,1,1,1,1,1,1]",
        "\"F32\"",
        "\"BF16\"",
        "\"I64\"",
        "\"../x.safetensors\"",
        "\"/etc/passwd\"",
        "\"x.safetensors\"",
        "\"\\u0000\"",
        "\"\\ud83d\\ude00\"",
        "",
        "1, 2",
        "1,1,1,1,1,1,1,1",
        "\"x\": 1",
        "\"__metadata__\"",
        "\"glm46v\"",
        "\"chatglm\"",
    };
    if (kind % 4 == 0) /* small numbers of every size */
        return (size_t)snprintf(out, EDITS_ROOM, "%u", number * (kind / 4 + 1u));
    if (kind % 4 == 1) { /* another value of the text */
        uint32_t other = ((uint32_t)kind << 8 | number) % b->n,
                 len = b->end[other] - b->start[other];
        if (len < EDITS_ROOM)
            memcpy(out, b->text + b->start[other], len);
        return len < EDITS_ROOM ? len : 0;
    }
    return (size_t)snprintf(out, EDITS_ROOM, "%s", words[number % (sizeof words / sizeof *words)]);
}

/* The base with the edits made; free() it. Positions are those of the base: a later edit may hit
 * another place than its value, which is as good. */
static char *json_edited(const json_base *b, const uint8_t *edits, size_t size, size_t *len)
{
    char *text = malloc(b->len + EDITS_MAX * EDITS_ROOM), with[EDITS_ROOM];
    memcpy(text, b->text, b->len);
    *len = b->len;
    for (int i = 0; i < EDITS_MAX && b->n && size >= 4; i++, edits += 4, size -= 4) {
        uint32_t which = ((uint32_t)edits[0] << 8 | edits[1]) % b->n;
        size_t start = b->start[which], end = b->end[which],
               n = json_replacement(with, b, edits[2], edits[3]);
        if (end > *len)
            continue;
        memmove(text + start + n, text + end, *len - end);
        memcpy(text + start, with, n);
        *len = *len - (end - start) + n;
    }
    return text;
}

/* An input of a target: the first byte tells whether text follows (0) or edits of the base. The
 * result is an exact-size block; free() it. */
__attribute__((unused)) static char *json_input(const json_base *b, const uint8_t *data,
                                                size_t size, size_t *len)
{
    char *text, *exact;
    if (!size || data[0]) {
        text = json_edited(b, data + (size > 0), size ? size - 1 : 0, len);
    } else {
        *len = size - 1;
        text = malloc(size);
        memcpy(text, data + 1, size - 1);
    }
    exact = malloc(*len ? *len : 1);
    memcpy(exact, text, *len);
    free(text);
    return exact;
}

#endif
