/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Command-line options of all subcommands: one table drives parsing and help. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"

int cli_usage_error(const cli_command *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "glm4v %s: ", command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nTry: glm4v %s --help\n", command->name);
    va_end(args);
    return CLI_USAGE;
}

static void print_indented(const char *text, int indent)
{
    for (const char *line = text; line && *line;) {
        const char *end = strchrnul(line, '\n');
        printf("%*s%.*s\n", end > line ? indent : 0, "", (int)(end - line), line);
        line = *end ? end + 1 : end;
    }
}

static void print_help(const cli_command *command)
{
    enum { COLUMN = 26 };
    printf("usage: glm4v %s %s\n\n%s\n\noptions:\n", command->name, command->synopsis,
           command->about);
    for (size_t i = 0; i < command->n_options; i++) {
        const cli_option *option = &command->options[i];
        char head[64];
        snprintf(head, sizeof head, "  --%s%s%s", option->name, option->argument ? " " : "",
                 option->argument ? option->argument : "");
        const char *rest = strchr(option->help, '\n');
        int first = rest ? (int)(rest - option->help) : (int)strlen(option->help);
        if (strlen(head) >= COLUMN)
            printf("%s\n%*s%.*s\n", head, COLUMN, "", first, option->help);
        else
            printf("%-*s%.*s\n", COLUMN, head, first, option->help);
        if (rest)
            print_indented(rest + 1, COLUMN);
    }
    printf("  %-*sthis text\n\nexamples:\n", COLUMN - 2, "--help");
    print_indented(command->examples, 2);
    printf("\nexit status:\n"
           "  0  success\n"
           "  1  at least one input could not be read or described; the others were\n"
           "  2  the command line is wrong, nothing was done\n"
           "  3  the model or the device cannot be used\n"
           "  4  the output could not be written\n"
           "  5  replay: something differs\n");
}

/* Decimal digits only: no sign, no space, no overflow. */
static bool parse_count(const char *text, uint64_t *value)
{
    uint64_t v = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        const uint64_t digit = *text - '0';
        if (*text < '0' || *text > '9' || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *value = v;
    return true;
}

/* "6GiB", "6144 MiB", "1.5GB": a number and one of the units. */
static bool parse_bytes(const char *text, double *value)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = { { "", 1 },      { "KiB", 1024 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 },
                  { "KB", 1000 }, { "MB", 1e6 },   { "GB", 1e9 } };
    char *end = NULL;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    *value = strtod(text, &end);
    end += strspn(end, " ");
    for (size_t i = 0; !errno && i < sizeof units / sizeof *units; i++)
        if (!strcasecmp(end, units[i].name)) {
            *value *= units[i].bytes;
            return isfinite(*value);
        }
    return false;
}

/* Called before GStreamer sets the locale, so the decimal point is a point. */
static bool parse_number(const char *text, double *value)
{
    char *end = NULL;
    errno = 0;
    *value = strtod(text, &end);
    return !errno && end != text && !*end && isfinite(*value);
}

static bool parse_size(const char *text, uint64_t size[2])
{
    const size_t n = strcspn(text, "x");
    char first[16];
    if (!text[n] || n >= sizeof first)
        return false;
    memcpy(first, text, n);
    first[n] = 0;
    return parse_count(first, &size[0]) && parse_count(text + n + 1, &size[1]);
}

static bool within(const cli_option *option, double value)
{
    return value >= option->min && value <= option->max;
}

static bool count_within(const cli_option *option, uint64_t value)
{
    return within(option, (double)value);
}

static bool add_item(cli_list *list, const char *text)
{
    if (list->n == list->most)
        return false;
    list->items[list->n++] = text;
    return true;
}

static bool store(const cli_option *option, const char *text)
{
    const union {
        void *any;
        bool *flag;
        const char **string;
        cli_list *list;
        uint32_t *count; /* of CLI_SIZE: [2] */
        uint64_t *wide;
        double *number;
    } to = { option->value };
    uint64_t count, size[2];
    double number;
    switch (option->kind) {
    case CLI_FLAG:
        *to.flag = true;
        return true;
    case CLI_STRING:
        *to.string = text;
        return true;
    case CLI_LIST:
        return add_item(to.list, text);
    case CLI_COUNT:
        if (!parse_count(text, &count) || count > UINT32_MAX || !count_within(option, count))
            return false;
        *to.count = (uint32_t)count;
        return true;
    case CLI_WIDE:
        if (!parse_count(text, &count) || !count_within(option, count))
            return false;
        *to.wide = count;
        return true;
    case CLI_NUMBER:
        if (!parse_number(text, &number) || !within(option, number))
            return false;
        *to.number = number;
        return true;
    case CLI_BYTES:
        if (!parse_bytes(text, &number) || !within(option, number))
            return false;
        *to.wide = (uint64_t)number;
        return true;
    case CLI_SIZE:
        if (!parse_size(text, size) || !count_within(option, size[0]) ||
            !count_within(option, size[1]))
            return false;
        to.count[0] = (uint32_t)size[0];
        to.count[1] = (uint32_t)size[1];
        return true;
    }
    return false;
}

static int bad_value(const cli_command *command, const cli_option *option, const char *text)
{
    if (option->kind == CLI_SIZE)
        return cli_usage_error(command, "--%s expects WIDTHxHEIGHT, each %g to %g, not \"%s\"",
                               option->name, option->min, option->max, text);
    if (option->kind == CLI_LIST)
        return cli_usage_error(command, "--%s is given too often, at \"%s\"", option->name, text);
    if (option->kind == CLI_BYTES)
        return cli_usage_error(command, "--%s expects a size such as 6GiB or 800MiB, not \"%s\"",
                               option->name, text);
    return cli_usage_error(command, "--%s expects a %s from %g to %g, not \"%s\"", option->name,
                           option->kind == CLI_NUMBER ? "number" : "whole number", option->min,
                           option->max, text);
}

static const cli_option *find(const cli_command *command, const char *name, size_t length)
{
    for (size_t i = 0; i < command->n_options; i++)
        if (strlen(command->options[i].name) == length &&
            !memcmp(command->options[i].name, name, length))
            return &command->options[i];
    return NULL;
}

/* One option at argv[*i]; moves *i over its argument. Returns CLI_OK or CLI_USAGE. */
static int take_option(const cli_command *command, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    size_t dashes = word[1] == '-' ? 2 : 1;
    const char *equals = strchr(word, '=');
    const size_t length = strcspn(word, "=") - dashes;
    const cli_option *option = dashes == 2 ? find(command, word + dashes, length) : NULL;
    if (!option)
        return cli_usage_error(command, "unknown option %.*s", (int)(length + dashes), word);
    if (option->kind == CLI_FLAG) {
        if (equals)
            return cli_usage_error(command, "--%s takes no value", option->name);
        store(option, NULL);
        return CLI_OK;
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!equals && *i + 1 < argc)
        value = argv[++*i];
    if (!value)
        return cli_usage_error(command, "--%s needs a value: %s", option->name, option->argument);
    return store(option, value) ? CLI_OK : bad_value(command, option, value);
}

bool cli_parse(const cli_command *command, int argc, char **argv, int *n_operands, int *status)
{
    bool options = true;
    *n_operands = 0;
    for (int i = 0; i < argc; i++) {
        if (!options || argv[i][0] != '-' || !argv[i][1]) {
            argv[(*n_operands)++] = argv[i];
        } else if (!strcmp(argv[i], "--")) {
            options = false;
        } else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(command);
            *status = cli_finish(CLI_OK);
            return false;
        } else if ((*status = take_option(command, argc, argv, &i))) {
            return false;
        }
    }
    *status = CLI_OK;
    return true;
}
