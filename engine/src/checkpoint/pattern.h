/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Patterns by which quantization_config names modules: a name, or "re:" and a small part of
 * Python's re.match(): characters, '.', \d, [0-9], escaped punctuation, each with *, + or ? after
 * it, '^' at the front, '$' at the end, one group of alternatives (a|b|c). No full regular
 * expression engine runs on a model's file: other patterns are refused, with their text. Time is at
 * most proportional to pattern times name. */
#ifndef GLM4V_ENGINE_PATTERN_H
#define GLM4V_ENGINE_PATTERN_H

#include <stdbool.h>

#define GLM4V_PATTERN_LENGTH 128 /* bytes, at most */

/* Whether pattern is one that can be matched. */
bool glm4v_pattern_valid(const char *pattern);

/* Whether a valid pattern names `module`. Prefixes that differ between the programs that write
 * names ("model.", "language_model.") are not looked at: "model.layers.0.mlp" is
 * "model.language_model.layers.0.mlp". */
bool glm4v_pattern_matches(const char *pattern, const char *module);

#endif
