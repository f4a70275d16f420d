/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Error texts. */
#define _GNU_SOURCE
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Bytes that a character has, by its first one. */
static size_t length_of(unsigned char first)
{
    return first < 0xE0 ? 2 : 3 + (first >= 0xF0);
}

/* A message that was cut to fit does not end within a character. */
static void end_character(char *s, size_t n)
{
    size_t back = 1;
    while (back < 4 && back < n && ((unsigned char)s[n - back] & 0xC0) == 0x80)
        back++;
    if (n && (unsigned char)s[n - back] >= 0xC0 && length_of((unsigned char)s[n - back]) > back)
        s[n - back] = 0;
}

static void clean(char *s)
{
    end_character(s, strlen(s));
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

int glm4v_fail(glm4v_error *err, int code, const char *format, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
    clean(err->msg);
    return code;
}

static int code_of(int errnum)
{
    if (errnum == ENOENT || errnum == ENOTDIR)
        return GLM4V_ERR_NOT_FOUND;
    return errnum == ENOMEM ? GLM4V_ERR_NOMEM : GLM4V_ERR_IO;
}

int glm4v_fail_errno(glm4v_error *err, int errnum, const char *format, ...)
{
    const int code = code_of(errnum);
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    int n = vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
    if (n >= 0 && n < (int)sizeof err->msg) {
        char text[128] = "";
        /* the GNU form may return a static string instead of filling text */
        const char *reason = strerror_r(errnum, text, sizeof text);
        snprintf(err->msg + n, sizeof err->msg - n, ": %s", reason);
    }
    clean(err->msg);
    return code;
}
