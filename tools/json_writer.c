/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes JSON for --json: one value a line, strings escaped, invalid UTF-8 (file names) replaced by
 * U+FFFD. */
#include <math.h>
#include <string.h>

#include "cli.h"

/* Length of the well-formed UTF-8 sequence at s, 0 if there is none. Table 3-7 of the Unicode
 * Standard. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = 0;
    if (s[0] < 0x80)
        n = 1;
    else if (s[0] >= 0xc2 && s[0] < 0xe0)
        n = 2;
    else if (s[0] >= 0xe0 && s[0] < 0xf5)
        n = s[0] < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) /* a terminating NUL stops here too */
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void write_string(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    fputc('"', out);
    while (*s) {
        size_t n = utf8_length(s);
        if (!n)
            fputs("\\ufffd", out);
        else if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s == '\n')
            fputs("\\n", out);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(out, "\\u%04x", *s);
        else
            fwrite(s, 1, n, out);
        s += n ? n : 1;
    }
    fputc('"', out);
}

static void begin(cli_json *json, const char *key)
{
    if (json->comma)
        fputs(", ", json->out);
    if (key) {
        write_string(json->out, key);
        fputs(": ", json->out);
    }
    json->comma = true;
}

void cli_json_open(cli_json *json, const char *key)
{
    begin(json, key);
    fputc('{', json->out);
    json->comma = false;
}

void cli_json_close(cli_json *json)
{
    fputc('}', json->out);
    json->comma = true;
}

void cli_json_array(cli_json *json, const char *key)
{
    begin(json, key);
    fputc('[', json->out);
    json->comma = false;
}

void cli_json_array_close(cli_json *json)
{
    fputc(']', json->out);
    json->comma = true;
}

void cli_json_end(cli_json *json)
{
    fputc('\n', json->out);
    cli_flush();
    json->comma = false;
}

void cli_json_string(cli_json *json, const char *key, const char *value)
{
    begin(json, key);
    write_string(json->out, value);
}

void cli_json_int(cli_json *json, const char *key, int64_t value)
{
    begin(json, key);
    fprintf(json->out, "%lld", (long long)value);
}

void cli_json_number(cli_json *json, const char *key, double value)
{
    char text[64];
    if (!isfinite(value)) { /* JSON has no such number */
        cli_json_null(json, key);
        return;
    }
    begin(json, key);
    snprintf(text, sizeof text, "%.6f", value);
    for (size_t n = strlen(text); n > 1 && text[n - 1] == '0' && text[n - 2] != '.'; n--)
        text[n - 1] = 0;
    fputs(text, json->out);
}

void cli_json_bool(cli_json *json, const char *key, bool value)
{
    begin(json, key);
    fputs(value ? "true" : "false", json->out);
}

void cli_json_null(cli_json *json, const char *key)
{
    begin(json, key);
    fputs("null", json->out);
}

void cli_json_raw(cli_json *json, const char *key, const char *value)
{
    begin(json, key);
    fputs(value, json->out);
}
