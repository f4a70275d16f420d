/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line: glm4v describe | thresholds | quantize | inspect | bench | serve. This file
 * picks the subcommand and holds what all share: the default model, opening it, messages and the
 * progress bar. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"

static const struct {
    const char *name, *about;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "describe", "describe pictures and videos in words", cli_describe },
    { "thresholds", "propose thresholds of choices from pictures whose answer is known",
      cli_thresholds },
    { "replay", "derive results again from their pictures, or say what differs", cli_replay },
    { "quantize", "write a smaller copy of a model directory", cli_quantize },
    { "inspect", "check a model directory and print its contents and the memory that it takes",
      cli_inspect },
    { "bench", "measure each stage: pictures, vision, prefill, decode, memory", cli_bench },
#if HAVE_SERVE
    { "serve", "answer chat completions over HTTP, as OpenAI's API", cli_serve },
#endif
};

static bool bar_shown;

void cli_progress_clear(void)
{
    if (bar_shown)
        fputs("\r\033[K", stderr);
    bar_shown = false;
}

static int terminal_columns(void)
{
    struct winsize size = { 0 };
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

void cli_progress(const char *what, double fraction)
{
    static int is_terminal = -1;
    if (is_terminal < 0)
        is_terminal = isatty(STDERR_FILENO);
    if (!is_terminal)
        return;
    fraction = fmin(fmax(fraction, 0), 1);
    int width = terminal_columns() - (int)strlen(what) - 10;
    if (width < 0)
        width = 0;
    else if (width > 40)
        width = 40;
    int done = (int)(fraction * width);
    fprintf(stderr, "\r\033[K%s [%.*s%*s] %3.0f %%", what, done,
            "########################################", width - done, "", 100 * fraction);
    fflush(stderr);
    bar_shown = true;
}

void cli_message(const char *format, ...)
{
    va_list args;
    cli_progress_clear();
    va_start(args, format);
    fputs("glm4v: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static int output_error; /* errno of the first write that failed */

void cli_flush(void)
{
    errno = 0;
    if (fflush(stdout) && !output_error)
        output_error = errno;
}

int cli_finish(int status)
{
    cli_flush();
    if (!output_error && !ferror(stdout))
        return status;
    cli_message("the output could not be written: %s",
                output_error ? strerror(output_error) : "write error");
    return CLI_OUTPUT;
}

const char *cli_bytes(char *text, uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

void *cli_alloc(size_t n, size_t size)
{
    void *ptr = NULL;
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || posix_memalign(&ptr, 64, bytes ? bytes : 1))
        return NULL;
    return memset(ptr, 0, bytes);
}

/* A directory with config.json in it. */
static bool is_model(const char *dir)
{
    char path[4096];
    return snprintf(path, sizeof path, "%s/config.json", dir) < (int)sizeof path &&
           access(path, R_OK) == 0;
}

/* Folder of this program, without a trailing slash; false if the system does not provide it. */
static bool program_dir(char *dir, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", dir, size - 1);
    if (n <= 0)
        return false;
    dir[n] = 0;
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = 0;
    return slash != NULL;
}

const char *cli_model_dir(const char *given)
{
    static char path[4096 + 64];
    char dir[4096];
    const char *environment = getenv("GLM4V_MODEL");
    if (given)
        return given;
    if (environment && *environment)
        return environment;
    if (program_dir(dir, sizeof dir)) {
        snprintf(path, sizeof path, "%s/../share/glm4v/models/surface-tiny", dir);
        if (is_model(path))
            return path;
    }
    if (is_model(INSTALL_MODEL_DIR "/surface-tiny"))
        return INSTALL_MODEL_DIR "/surface-tiny";
    if (is_model(SOURCE_MODEL_DIR "/surface-tiny"))
        return SOURCE_MODEL_DIR "/surface-tiny";
    return NULL;
}

static int loading(void *user, uint64_t done, uint64_t total)
{
    cli_progress_of("loading", done, total);
    return 0;
}

static void log_line(void *user, glm4v_log_level level, const char *line)
{
    static const char *const names[] = { "", "error: ", "warning: ", "", "debug: " };
    if (level <= *(const glm4v_log_level *)user)
        cli_message("%s%s", names[level], line);
}

int cli_model_open(glm4v_model **model, const char *dir, const glm4v_model_options *options,
                   glm4v_log_level level)
{
    static glm4v_log_level wanted; /* outlives the model, as the log's user pointer must */
    glm4v_model_options with_progress = *options;
    glm4v_error err = { 0 };
    wanted = level;
    with_progress.progress = loading;
    with_progress.log = log_line;
    with_progress.log_user = &wanted;
    int rc = glm4v_model_open(model, dir, &with_progress, &err);
    cli_progress_clear();
    if (rc)
        cli_message("%s", err.msg);
    if (rc == GLM4V_ERR_INVALID)
        return CLI_USAGE;
    return rc ? CLI_MODEL : CLI_OK;
}

/* A closed standard stream's number would go to the next file that is opened, and captions into
 * it. */
static void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) /* open() takes the lowest free number; stdout: to fail */
            (void)!open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

static void print_usage(FILE *out)
{
    fprintf(out, "usage: glm4v COMMAND [OPTIONS] ...\n\n"
                 "Describes pictures and videos with a GLM-4V vision-language model, on this "
                 "machine.\n\ncommands:\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].about);
    fprintf(out, "\n  glm4v COMMAND --help   options and examples of a command\n"
                 "  glm4v --version        version\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    hold_standard_streams();
    if (!strcmp(name, "--version")) {
        printf("glm4v %s\n", glm4v_version());
        return cli_finish(CLI_OK);
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_usage(stdout);
        return cli_finish(CLI_OK);
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(name, commands[i].name))
            return commands[i].run(argc - 2, argv + 2);
    if (*name)
        fprintf(stderr, "glm4v: there is no command \"%s\"\n\n", name);
    print_usage(stderr);
    return CLI_USAGE;
}
