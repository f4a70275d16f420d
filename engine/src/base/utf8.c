/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UTF-8 decoding for the tokenizer (text in) and the detokenizer (text out).
 * Source: Unicode 15, table 3-7 (well-formed byte sequences); WHATWG Encoding, "UTF-8 decoder". */
#include "base/utf8.h"

#include <string.h>

#include "base/error.h"

/* Length that a lead byte announces, and the range of the byte after it: the second byte alone
 * decides about overlong forms, surrogates and the upper end. 0 = no lead byte. */
static int lead(unsigned char c, unsigned char *low, unsigned char *high)
{
    /* table 3-7: lead bytes up to and including `last` */
    static const struct {
        unsigned char last, length, low, high;
    } rows[] = {
        { 0x7F, 1, 0x80, 0xBF }, { 0xC1, 0, 0x80, 0xBF }, { 0xDF, 2, 0x80, 0xBF },
        { 0xE0, 3, 0xA0, 0xBF }, { 0xEC, 3, 0x80, 0xBF }, { 0xED, 3, 0x80, 0x9F },
        { 0xEF, 3, 0x80, 0xBF }, { 0xF0, 4, 0x90, 0xBF }, { 0xF3, 4, 0x80, 0xBF },
        { 0xF4, 4, 0x80, 0x8F }, { 0xFF, 0, 0x80, 0xBF },
    };
    int row = 0;
    while (c > rows[row].last)
        row++;
    *low = rows[row].low;
    *high = rows[row].high;
    return rows[row].length;
}

int glm4v_utf8_next(const unsigned char *s, size_t len, uint32_t *code)
{
    unsigned char low, high;
    int n = lead(s[0], &low, &high);
    if (n == 0)
        return -1;
    uint32_t value = n == 1 ? s[0] : s[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((size_t)i == len)
            return 0;
        if (s[i] < low || s[i] > high)
            return -i;
        low = 0x80;
        high = 0xBF;
        value = value << 6 | (s[i] & 0x3Fu);
    }
    *code = value;
    return n;
}

int glm4v_utf8_put(unsigned char out[4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (unsigned char)code;
        return 1;
    }
    int n = 2 + (code >= 0x800) + (code >= 0x10000);
    for (int i = n - 1; i > 0; i--, code >>= 6)
        out[i] = (unsigned char)(0x80 | (code & 0x3F));
    out[0] = (unsigned char)(0xF00u >> n | code);
    return n;
}

/* Of s [0, len), how many bytes from the first on are ASCII, in whole words. */
static size_t ascii_length(const char *s, size_t len)
{
    uint64_t word;
    size_t n = 0;
    for (; len - n >= sizeof word; n += sizeof word) {
        memcpy(&word, s + n, sizeof word);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    return n;
}

bool glm4v_utf8_valid(const char *s, size_t len, size_t *bad)
{
    uint32_t code;
    for (size_t i = ascii_length(s, len); i < len; i += ascii_length(s + i, len - i)) {
        int n = glm4v_utf8_next((const unsigned char *)s + i, len - i, &code);
        if (n <= 0) {
            if (bad)
                *bad = i;
            return false;
        }
        i += n;
    }
    return true;
}

int glm4v_utf8_check(const char *what, const char *text, glm4v_error *err)
{
    size_t bad;
    if (text && !glm4v_utf8_valid(text, strlen(text), &bad))
        return glm4v_fail(err, GLM4V_ERR_INVALID, "the %s is not UTF-8: wrong byte at offset %zu",
                          what, bad);
    return 0;
}

bool glm4v_utf8_hidden(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code <= 0x9F) || (code >= 0x202A && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069);
}
