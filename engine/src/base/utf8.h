/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UTF-8, strictly as Unicode defines it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. */
#ifndef GLM4V_ENGINE_UTF8_H
#define GLM4V_ENGINE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

#define GLM4V_REPLACEMENT 0xFFFDu

/* The character that begins at s[0], len >= 1. Returns its length 1..4 and sets *code; 0 when s
 * ends inside it; -k when the first k bytes are no character and one U+FFFD stands for them (WHATWG
 * decoder: the longest beginning of a character, else one byte). *code is set in the first case
 * only. */
int glm4v_utf8_next(const unsigned char *s, size_t len, uint32_t *code);

/* Bytes of a code point written to out: 1..4. code must be a Unicode scalar value. */
int glm4v_utf8_put(unsigned char out[4], uint32_t code);

/* NUL and other controls, which no text of a model shows, so that no escape sequence works, and
 * what overrides the direction of the text around it. \n and \t are controls too. */
bool glm4v_utf8_hidden(uint32_t code);

/* Is s [0, len) UTF-8 throughout? If not, *bad (may be NULL) is the offset of the first wrong
 * byte. */
bool glm4v_utf8_valid(const char *s, size_t len, size_t *bad);

/* The same for a text of the caller's, NULL or NUL-terminated: INVALID, with what it is and where
 * it is wrong. */
int glm4v_utf8_check(const char *what, const char *text, glm4v_error *err);

#endif
