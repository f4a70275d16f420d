/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The call at the end of a phone agent's answer, parsed: do(action="Tap", element=[500, 210])
 *   do(action="Type", text="...") finish(message="...")
 * Only parsed, never executed. Follows detokenize.c.
 * Source: "Grounding and actions" in docs/model.md. */
#ifndef GLM4V_ENGINE_ACTION_H
#define GLM4V_ENGINE_ACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

/* Find the last complete call in text [0, len). Points become pixels of a picture of width x
 * height; with width 0 there is none, and no points. The strings of *action are written to memory,
 * len + 1 bytes. False, with *action empty, if there is no such call: cut off, malformed, or
 * without an action. */
bool glm4v_action_parse(glm4v_action *action, char *memory, const char *text, size_t len,
                        int32_t width, int32_t height);

/* An action that is none. */
extern const glm4v_action GLM4V_NO_ACTION;

#endif
