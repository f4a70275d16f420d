/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text that grows: headers, indexes and configurations that are written, JSON strings escaped. A
 * failed allocation is remembered, so that callers check once, at the end. */
#ifndef GLM4V_ENGINE_TEXT_OUT_H
#define GLM4V_ENGINE_TEXT_OUT_H

#include <stdbool.h>
#include <stddef.h>

/* All zero: empty. */
typedef struct {
    char *data; /* [size], and a NUL beyond; NULL while empty; glm4v_free() */
    size_t size, capacity;
    bool failed; /* memory was out, or a line of _format was too long: data is not the whole text */
} glm4v_text_out;

void glm4v_text_add(glm4v_text_out *out, const char *data, size_t size);
/* Make room for a text of so many bytes: nothing is moved while it grows to that. */
void glm4v_text_reserve(glm4v_text_out *out, size_t size);
/* At most 1 KiB. */
void glm4v_text_format(glm4v_text_out *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; value is UTF-8. */
void glm4v_text_string(glm4v_text_out *out, const char *value);

#endif
