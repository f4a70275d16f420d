/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Growing text, see base/string_buffer.h. */
#include "base/string_buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* Room for capacity bytes, the NUL included. */
static void grow(glm4v_text_out *out, size_t capacity)
{
    char *more = glm4v_realloc(out->data, capacity, 1);
    if (!more) {
        out->failed = true;
        return;
    }
    out->data = more;
    out->data[out->size] = 0;
    out->capacity = capacity;
}

void glm4v_text_reserve(glm4v_text_out *out, size_t size)
{
    if (!out->failed && size < SIZE_MAX && size >= out->capacity)
        grow(out, size + 1);
}

void glm4v_text_add(glm4v_text_out *out, const char *data, size_t size)
{
    size_t need;
    if (out->failed)
        return;
    if (glm4v_add_overflow(out->size, size, &need) || glm4v_add_overflow(need, 1, &need)) {
        out->failed = true;
        return;
    }
    if (need > out->capacity)
        grow(out, need < 512 ? 1024 : 2 * need);
    if (out->failed)
        return;
    memcpy(out->data + out->size, data, size);
    out->size += size;
    out->data[out->size] = 0;
}

void glm4v_text_format(glm4v_text_out *out, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof line)
        out->failed = true;
    else
        glm4v_text_add(out, line, n);
}

void glm4v_text_string(glm4v_text_out *out, const char *value)
{
    glm4v_text_add(out, "\"", 1);
    for (const char *p = value; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20)
            glm4v_text_format(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            glm4v_text_add(out, (const char[]) { '\\', (char)c }, 2);
        else
            glm4v_text_add(out, p, 1);
    }
    glm4v_text_add(out, "\"", 1);
}
