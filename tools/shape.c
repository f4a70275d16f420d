/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lists of choices and thresholds, and a schema's file, from the command line to a task. A list is
 * separated by commas; a part in double quotes may hold commas, and a quote as two of them; white
 * space around parts without quotes is not part of them. */
#include "shape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "media.h"

enum { MOST_SCHEMA = 256 * 1024 };

/* ---- lists ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The part in quotes at *at, written to *to; NULL: it does not end. */
static const char *read_quoted(char **to, const char *at)
{
    for (at++; *at; at++) {
        if (*at == '"' && at[1] != '"')
            return at + 1;
        at += *at == '"';
        *(*to)++ = *at;
    }
    return NULL;
}

/* One part; *at moves behind it and its comma, which *more tells of. The part begins at *to, ends
 * in NUL, and *to moves behind it. False: it is not well formed. */
static bool read_part(char **to, const char **at, bool *more)
{
    const char *c = *at, *start = *to;
    while (is_space(*c))
        c++;
    if (*c == '"') {
        c = read_quoted(to, c);
        while (c && is_space(*c))
            c++;
    } else {
        while (*c && *c != ',')
            *(*to)++ = *c++;
        while (*to > start && is_space((*to)[-1]))
            --*to;
    }
    if (!c || (*c && *c != ','))
        return false;
    *(*to)++ = 0;
    *more = *c == ',';
    *at = c + *more;
    return true;
}

/* Parts of a list into memory [strlen(list) + 2], which parts [most] point to. The number of parts,
 * or negative the number of the one that is not well formed. */
static int split(const char **parts, int most, char *memory, const char *list)
{
    const char *at = list;
    int n = 0;
    for (bool more = true; more && n < most; n++) {
        parts[n] = memory;
        if (!read_part(&memory, &at, &more))
            return -n - 1;
    }
    return n;
}

/* ---- options ---- */

static int find(const cli_shape *s, const char *choice)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (!strcmp(s->choices[i], choice))
            return (int)i;
    return -1;
}

static int read_choices(cli_shape *s, const cli_command *command, const char *list)
{
    enum { MOST = GLM4V_MAX_CHOICES + 1 };
    if (!cli_is_utf8(list))
        return cli_usage_error(command, "--choices is not UTF-8");
    s->choices = cli_alloc(MOST, sizeof *s->choices);
    s->fails = cli_alloc(MOST, 1);
    s->thresholds = cli_alloc(MOST, sizeof *s->thresholds);
    s->memory = cli_alloc(strlen(list) + 2, 1);
    if (!s->choices || !s->fails || !s->thresholds || !s->memory)
        return cli_usage_error(command, "--choices: memory is out");
    const int n = split(s->choices, MOST, s->memory, list);
    if (n < 0)
        return cli_usage_error(command,
                               "--choices: choice %d: a double quote is missing, or text "
                               "stands behind one",
                               -n);
    if (n > GLM4V_MAX_CHOICES)
        return cli_usage_error(command, "--choices: more than %d choices", GLM4V_MAX_CHOICES);
    for (int i = 0; i < n; i++) {
        if (!*s->choices[i])
            return cli_usage_error(command, "--choices: choice %d is empty", i + 1);
        s->n = (uint32_t)i;
        if (find(s, s->choices[i]) >= 0)
            return cli_usage_error(command, "--choices: \"%s\" stands there twice", s->choices[i]);
        s->thresholds[i] = 0.5;
    }
    s->n = (uint32_t)n;
    return CLI_OK;
}

static int read_fails(cli_shape *s, const cli_command *command, const char *list)
{
    const char *parts[GLM4V_MAX_CHOICES + 1];
    char *memory = cli_alloc(strlen(list) + 2, 1);
    const int n = memory ? split(parts, GLM4V_MAX_CHOICES + 1, memory, list) : -1;
    int status = CLI_OK;
    if (n < 0)
        status = cli_usage_error(command, "--fail-choices: choice %d is not well formed", -n);
    for (int i = 0; !status && i < n; i++) {
        const int choice = find(s, parts[i]);
        if (choice < 0)
            status = cli_usage_error(command, "--fail-choices: \"%s\" is not one of --choices",
                                     parts[i]);
        else
            s->fails[choice] = 1;
    }
    free(memory);
    return status;
}

static int read_thresholds(cli_shape *s, const cli_command *command, const char *list)
{
    const char *parts[GLM4V_MAX_CHOICES + 1];
    char *memory = cli_alloc(strlen(list) + 2, 1);
    const int n = memory ? split(parts, GLM4V_MAX_CHOICES + 1, memory, list) : -1;
    int status = CLI_OK;
    if (n != (int)s->n)
        status = cli_usage_error(command, "--thresholds: %d numbers for %u choices", n < 0 ? 0 : n,
                                 s->n);
    for (int i = 0; !status && i < n; i++) {
        char *end;
        s->thresholds[i] = strtod(parts[i], &end);
        if (end == parts[i] || *end || !(s->thresholds[i] > 0 && s->thresholds[i] <= 1))
            status = cli_usage_error(
                command, "--thresholds: \"%s\" is no number above 0 and at most 1", parts[i]);
    }
    free(memory);
    return status;
}

static int read_schema(cli_shape *s, const cli_command *command, const char *path)
{
    glm4v_error err = { 0 };
    FILE *file = fopen(path, "rb");
    s->json_schema = cli_alloc(MOST_SCHEMA + 2, 1);
    const size_t n = file && s->json_schema ? fread(s->json_schema, 1, MOST_SCHEMA + 1, file) : 0;
    const bool read = file && s->json_schema && !ferror(file);
    if (file)
        fclose(file);
    if (!read) {
        cli_message("--json-schema: %s cannot be read", path);
        return CLI_INPUT;
    }
    if (n > MOST_SCHEMA)
        return cli_usage_error(command, "--json-schema: %s has more than %d bytes", path,
                               MOST_SCHEMA);
    if (strlen(s->json_schema) != n)
        return cli_usage_error(command, "--json-schema: %s is no text: it holds a zero byte", path);
    if (glm4v_json_schema_check(s->json_schema, &err))
        return cli_usage_error(command, "%s: %s", path, err.msg);
    return CLI_OK;
}

int cli_shape_open(cli_shape *s, const cli_command *command, const cli_shape_options *o)
{
    int status = CLI_OK;
    if (o->choices && o->json_schema)
        return cli_usage_error(command, "give --choices or --json-schema, not both");
    if ((o->fail_choices || o->thresholds) && !o->choices)
        return cli_usage_error(command, "--fail-choices and --thresholds need --choices");
    if (o->choices)
        status = read_choices(s, command, o->choices);
    if (!status && o->fail_choices)
        status = read_fails(s, command, o->fail_choices);
    if (!status && o->thresholds)
        status = read_thresholds(s, command, o->thresholds);
    if (!status && o->json_schema)
        status = read_schema(s, command, o->json_schema);
    s->verdict = o->fail_choices || o->thresholds;
    return status;
}

void cli_shape_close(cli_shape *s)
{
    free(s->choices);
    free(s->fails);
    free(s->thresholds);
    free(s->memory);
    free(s->json_schema);
    *s = (cli_shape) { 0 };
}

/* ---- results ---- */

glm4v_verdict cli_shape_verdict(const cli_shape *s, const glm4v_result *result)
{
    return glm4v_decide(result->probabilities, s->fails, s->thresholds, result->n_probabilities);
}
