/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text to a jansson tree. jansson's own reader drops bytes of a string, or aborts, when memory runs
 * out while its token buffer grows (2.14: the result of its append is not looked at), so the
 * reading is done here and jansson keeps the tree. */
#ifndef GLM4V_ENGINE_JSON_PARSE_H
#define GLM4V_ENGINE_JSON_PARSE_H

#include <jansson.h>
#include <stddef.h>

#include "glm4v/glm4v.h"

#define GLM4V_JSON_MAX_DEPTH 64

/* Parse text [0, len): one object or array, RFC 8259, UTF-8, no key twice in an object, no NUL in a
 * string, integers of 64 bits, finite numbers. FORMAT names the byte. */
int glm4v_json_build(json_t **root, const char *text, size_t len, const char *file,
                     glm4v_error *err);

#endif
