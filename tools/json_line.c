/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See json_line.h. */
#include "json_line.h"

#include <math.h>

#include "cli.h"

glm4v_contract_json cli_json_begin(void)
{
    glm4v_contract_json json = { .text = g_string_sized_new(1024) };
    glm4v_contract_json_open(&json, NULL);
    return json;
}

void cli_json_end(glm4v_contract_json *json)
{
    glm4v_contract_json_close(json);
    puts(json->text->str);
    cli_flush();
    g_string_free(json->text, TRUE);
}

void cli_json_figure(glm4v_contract_json *json, const char *key, double value)
{
    glm4v_contract_json_number(json, key, round(value * 1e6) / 1e6);
}
