/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Does a text that is there match a schema? For answers of models that nobody held to it. */
#ifndef GLM4V_ENGINE_MATCH_H
#define GLM4V_ENGINE_MATCH_H

#include "base/string_buffer.h"
#include "glm4v/glm4v.h"

/* Write text as an answer of this library would stand: without white space, properties in the order
 * of the schema. json is freed by the caller. FORMAT: it does not match; errors of
 * glm4v_schema_open(). */
int glm4v_schema_match(glm4v_text_out *json, const char *schema, const char *text,
                       glm4v_error *err);

#endif
