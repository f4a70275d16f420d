/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See json.h. */
#include "contract/json.h"

#include <math.h>

/* What is not UTF-8 becomes U+FFFD. */
static void write_quoted(GString *text, const char *string)
{
    char *valid = g_utf8_make_valid(string, -1);
    g_string_append_c(text, '"');
    for (const char *c = valid; *c; c++) {
        if (*c == '"' || *c == '\\')
            g_string_append_c(text, '\\');
        if ((unsigned char)*c < 0x20)
            g_string_append_printf(text, "\\u%04x", *c);
        else
            g_string_append_c(text, *c);
    }
    g_string_append_c(text, '"');
    g_free(valid);
}

/* The shortest decimal number that reads back as the same. */
static void write_number(GString *text, double number)
{
    char buffer[G_ASCII_DTOSTR_BUF_SIZE];
    for (int digits = 6; digits <= 17; digits++) {
        char format[8];
        g_snprintf(format, sizeof format, "%%.%dg", digits);
        g_ascii_formatd(buffer, sizeof buffer, format, number);
        if (g_ascii_strtod(buffer, NULL) == number)
            break;
    }
    g_string_append(text, buffer);
}

static void begin(glm4v_contract_json *json, const char *key)
{
    if (json->comma)
        g_string_append_c(json->text, ',');
    if (key) {
        write_quoted(json->text, key);
        g_string_append_c(json->text, ':');
    }
    json->comma = true;
}

void glm4v_contract_json_open(glm4v_contract_json *json, const char *key)
{
    begin(json, key);
    g_string_append_c(json->text, '{');
    json->comma = false;
}

void glm4v_contract_json_close(glm4v_contract_json *json)
{
    g_string_append_c(json->text, '}');
    json->comma = true;
}

void glm4v_contract_json_array(glm4v_contract_json *json, const char *key)
{
    begin(json, key);
    g_string_append_c(json->text, '[');
    json->comma = false;
}

void glm4v_contract_json_array_close(glm4v_contract_json *json)
{
    g_string_append_c(json->text, ']');
    json->comma = true;
}

void glm4v_contract_json_string(glm4v_contract_json *json, const char *key, const char *value)
{
    begin(json, key);
    write_quoted(json->text, value);
}

void glm4v_contract_json_count(glm4v_contract_json *json, const char *key, uint64_t value)
{
    begin(json, key);
    g_string_append_printf(json->text, "%" G_GUINT64_FORMAT, value);
}

void glm4v_contract_json_int(glm4v_contract_json *json, const char *key, int64_t value)
{
    begin(json, key);
    g_string_append_printf(json->text, "%" G_GINT64_FORMAT, value);
}

void glm4v_contract_json_number(glm4v_contract_json *json, const char *key, double value)
{
    if (!isfinite(value)) {
        glm4v_contract_json_null(json, key);
        return;
    }
    begin(json, key);
    write_number(json->text, value);
}

void glm4v_contract_json_bool(glm4v_contract_json *json, const char *key, bool value)
{
    glm4v_contract_json_value(json, key, value ? "true" : "false");
}

void glm4v_contract_json_null(glm4v_contract_json *json, const char *key)
{
    glm4v_contract_json_value(json, key, "null");
}

void glm4v_contract_json_value(glm4v_contract_json *json, const char *key, const char *value)
{
    begin(json, key);
    g_string_append(json->text, value);
}
