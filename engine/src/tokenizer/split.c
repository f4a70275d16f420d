/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pre-tokenization: text to pieces that are merged on their own. The rules are those of the GLM-4
 * family's split pattern, written out: no regular expression is executed, and a piece is found in
 * one pass forward.
 *
 * Classes of a character: L letter (Lu Ll Lt Lm Lo), N number (Nd Nl No), S white space, O all the
 * rest, marks included. At each position the first rule that applies takes a piece; rules 5 and 6
 * together look at a run of white space at most three times, so splitting is linear. Classes are
 * utf8proc's (Unicode 14 on Debian 12). */
#include <utf8proc.h>

#include "base/utf8.h"
#include "tokenizer/tokenizer_priv.h"

enum { LETTER, NUMBER, SPACE, OTHER, END };

/* A character of the text, and where it ends. */
typedef struct {
    uint32_t code;
    int kind;
    size_t end;
} character;

bool glm4v_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

static int kind_of(uint32_t c)
{
    if (c < 0x80) {
        if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
            return LETTER;
        if (c >= '0' && c <= '9')
            return NUMBER;
        return glm4v_is_space(c) ? SPACE : OTHER;
    }
    if (glm4v_is_space(c))
        return SPACE;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

static character at(const char *text, size_t len, size_t i)
{
    character c = { 0, END, i };
    if (i < len) {
        int n = glm4v_utf8_next((const unsigned char *)text + i, len - i, &c.code);
        if (n > 0) {
            c.kind = kind_of(c.code);
            c.end = i + n;
        }
    }
    return c;
}

static bool is_newline(uint32_t c)
{
    return c == '\r' || c == '\n';
}

/* End of the run of one class that begins at i; at most `most` characters. */
static size_t run_end(const char *text, size_t len, size_t i, int kind, size_t most)
{
    character c = at(text, len, i);
    for (; most && c.kind == kind; most--) {
        i = c.end;
        c = at(text, len, i);
    }
    return i;
}

/* Rule 1: an apostrophe and one of s t d m re ve ll, in any case. Under Unicode case folding the
 * long s, U+017F, is an s too; no other character folds to one of these letters. Returns 0 if the
 * rule does not apply. */
static size_t contraction(const char *text, size_t len)
{
    if (text[0] != '\'')
        return 0;
    character a = at(text, len, 1);
    if (a.code == 0x17F)
        return a.end;
    if (a.code >= 0x80 || a.kind != LETTER)
        return 0;
    char first = (char)(a.code | 0x20);
    if (first == 's' || first == 't' || first == 'd' || first == 'm')
        return 2;
    char second = len > 2 ? (char)(text[2] | 0x20) : 0;
    bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
               (first == 'l' && second == 'l');
    return two ? 3 : 0;
}

/* Rules 5 and 6: white space that goes with no word. */
static size_t white_space(const char *text, size_t len)
{
    /* end of the run, start of its last character, end of its last newline */
    size_t end = 0, last = 0, newline = 0;
    for (character c = at(text, len, 0); c.kind == SPACE; c = at(text, len, end)) {
        last = end;
        end = c.end;
        if (is_newline(c.code))
            newline = end;
    }
    if (newline)
        return newline;
    return end == len || last == 0 ? end : last; /* the last one goes with what follows */
}

size_t glm4v_split_next(const char *text, size_t len)
{
    size_t end = contraction(text, len);
    if (end)
        return end;
    character first = at(text, len, 0);
    if (first.kind == LETTER) /* rule 2: a word ... */
        return run_end(text, len, 0, LETTER, SIZE_MAX);
    character second = at(text, len, first.end);
    if (first.kind != NUMBER && !is_newline(first.code) && second.kind == LETTER)
        /* ... and one character before it */
        return run_end(text, len, first.end, LETTER, SIZE_MAX);
    if (first.kind == NUMBER) /* rule 3 */
        return run_end(text, len, 0, NUMBER, 3);
    if (first.kind == OTHER || (first.code == ' ' && second.kind == OTHER)) { /* rule 4 */
        end = run_end(text, len, first.kind == OTHER ? 0 : first.end, OTHER, SIZE_MAX);
        while (end < len && is_newline((unsigned char)text[end]))
            end++;
        return end;
    }
    return white_space(text, len);
}
