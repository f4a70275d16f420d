/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UTF-8: every code point, and what is none. */
#include "base/utf8.h"
#include "test.h"

static int next(const char *s, size_t len, uint32_t *code)
{
    return glm4v_utf8_next((const unsigned char *)s, len, code);
}

static void every_scalar_value_survives(void)
{
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        unsigned char s[4];
        uint32_t back = 0;
        if (c >= 0xD800 && c <= 0xDFFF)
            continue;
        int n = glm4v_utf8_put(s, c);
        if (glm4v_utf8_next(s, (size_t)n, &back) != n || back != c) {
            test_fail(__FILE__, __LINE__, "U+%04X", c);
            return;
        }
        for (int k = 1; k < n; k++) /* its beginnings ask for more */
            if (glm4v_utf8_next(s, (size_t)k, &back) != 0)
                test_fail(__FILE__, __LINE__, "U+%04X cut at %d", c, k);
    }
}

static void the_longest_beginning_of_a_character_is_one_error(void)
{
    uint32_t code;
    CHECK_EQ(next("\x80", 1, &code), -1);
    CHECK_EQ(next("\xC0\x80", 2, &code), -1);
    CHECK_EQ(next("\xF5\x80\x80\x80", 4, &code), -1);
    CHECK_EQ(next("\xE0\x9F\x80", 3, &code), -1); /* overlong */
    CHECK_EQ(next("\xED\xA0\x80", 3, &code), -1); /* surrogate */
    CHECK_EQ(next("\xF4\x90\x80\x80", 4, &code), -1);
    CHECK_EQ(next("\xF0\x9F\x98x", 4, &code), -3);
    CHECK_EQ(next("\xE4\xB8x", 3, &code), -2);
    CHECK_EQ(next("\xC3\xC3", 2, &code), -1);
}

static void a_wrong_byte_is_found_at_its_offset(void)
{
    size_t bad = 0;
    CHECK(glm4v_utf8_valid("", 0, NULL));
    CHECK(glm4v_utf8_valid("a\0b", 3, NULL));
    CHECK(!glm4v_utf8_valid("ab\xFF", 3, &bad));
    CHECK_EQ(bad, 2);
    CHECK(!glm4v_utf8_valid("abc\xE4\xB8", 5, &bad));
    CHECK_EQ(bad, 3);
}

/* All strings of up to three bytes, and of four behind each four-byte lead: next() must agree with
 * the table of well-formed sequences, here spelled by putting every code point. */
static void exactly_the_well_formed_sequences_are_taken(void)
{
    long taken = 0;
    unsigned char s[4];
    uint32_t code;
    for (uint32_t v = 0; v < 1u << 24; v++) {
        s[0] = (unsigned char)(v >> 16);
        s[1] = (unsigned char)(v >> 8);
        s[2] = (unsigned char)v;
        if (s[0] < 0xC0 && v & 0xFFFF)
            continue;
        taken += glm4v_utf8_next(s,
                                 s[0] < 0xC0   ? 1
                                 : s[0] < 0xE0 ? 2
                                               : 3,
                                 &code) == (s[0] < 0x80   ? 1
                                            : s[0] < 0xE0 ? 2
                                                          : 3);
    }
    /* one-byte once; two-byte 256 times (third byte); three-byte once */
    CHECK_EQ(taken, 128 + (0x800 - 0x80) * 256L + (0x10000 - 0x800 - 0x800));
}

int main(void)
{
    TEST(every_scalar_value_survives);
    TEST(the_longest_beginning_of_a_character_is_one_error);
    TEST(a_wrong_byte_is_found_at_its_offset);
    TEST(exactly_the_well_formed_sequences_are_taken);
    return test_end();
}
