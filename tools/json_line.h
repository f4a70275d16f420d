/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON that a command prints: one value a line. */
#ifndef GLM4V_TOOLS_JSON_LINE_H
#define GLM4V_TOOLS_JSON_LINE_H

#include "contract/json.h"

/* An object is open. */
glm4v_contract_json cli_json_begin(void);

/* Close it and print the line, flushed: a reader sees each at once. */
void cli_json_end(glm4v_contract_json *json);

/* A figure, with at most 6 digits after the point. */
void cli_json_figure(glm4v_contract_json *json, const char *key, double value);

#endif
