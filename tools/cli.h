/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the subcommands of glm4v share: options and their help, exit codes, the default model,
 * progress. */
#ifndef GLM4V_TOOLS_CLI_H
#define GLM4V_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "glm4v/glm4v.h"

/* Exit status, the same for all subcommands; printed by --help. */
enum {
    CLI_OK = 0,
    CLI_INPUT = 1,   /* at least one input could not be read or described */
    CLI_USAGE = 2,   /* the command line is wrong; nothing was done */
    CLI_MODEL = 3,   /* the model directory or the device could not be used */
    CLI_OUTPUT = 4,  /* the output could not be written */
    CLI_DIFFERS = 5, /* replay: a result is not what it was */
};

typedef enum {
    CLI_FLAG,   /* bool *, no argument */
    CLI_STRING, /* const char ** */
    CLI_LIST,   /* cli_list *: an option that may be given several times */
    CLI_COUNT,  /* uint32_t *, decimal digits */
    CLI_WIDE,   /* uint64_t *, decimal digits: what may exceed 32 bits */
    CLI_NUMBER, /* double * */
    CLI_BYTES,  /* uint64_t *: digits, and KiB, MiB, GiB, KB, MB, GB or nothing behind them */
    CLI_SIZE,   /* uint32_t [2]: "WxH", each in [min, max] */
} cli_kind;

/* What a CLI_LIST receives. */
typedef struct {
    const char **items; /* [most], of which n are set */
    size_t n, most;
} cli_list;

typedef struct {
    const char *name;     /* without the two dashes */
    const char *argument; /* word for it in the help; NULL for flags */
    cli_kind kind;
    void *value;      /* holds the default, receives what was given */
    double min, max;  /* bounds of numbers, both allowed */
    const char *help; /* one or more lines, '\n' between them */
} cli_option;

/* Rows that several tables have. Those of a device are in place.h. */
#define CLI_MODEL_OPTION(model)                                                                    \
    {                                                                                              \
        "model", "DIR", CLI_STRING, &(model), 0, 0,                                                \
            "model directory; default: $GLM4V_MODEL, else the model that comes\n"                  \
            "with the program"                                                                     \
    }

#define CLI_QUANTIZATION_OPTION(quantization)                                                      \
    {                                                                                              \
        "quantization", "Q", CLI_STRING, &(quantization), 0, 0,                                    \
            "form of the weights in memory: fp32, bf16, int8, int4, int4-32, fp8, fp8-dynamic,\n"  \
            "or by part, text=int4,vision=int8; default: as stored"                                \
    }

#define CLI_THREADS_OPTION(threads)                                                                \
    {                                                                                              \
        "threads", "N", CLI_COUNT, &(threads), 0, 1024,                                            \
            "CPU threads; default: all cores of this process"                                      \
    }

#define CLI_PIXELS_OPTION(max_pixels)                                                              \
    {                                                                                              \
        "max-pixels", "N", CLI_WIDE, &(max_pixels), 0, 1e9,                                        \
            "shrink pictures to this many pixels; default: the model's own bound"                  \
    }

typedef struct {
    const char *name;
    const char *synopsis; /* what follows "glm4v NAME" in the usage line */
    const char *about;    /* paragraphs */
    const char *examples; /* lines, printed indented */
    const cli_option *options;
    size_t n_options;
} cli_command;

/* Read options; operands are moved to the front of argv in order. *n_operands is their number.
 * Prints help or an error itself. Returns true to go on, else *status is the exit status. "--" ends
 * the options. */
bool cli_parse(const cli_command *command, int argc, char **argv, int *n_operands, int *status);

/* Print "glm4v NAME: message" and where the help is; returns CLI_USAGE. */
int cli_usage_error(const cli_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Print "glm4v: message" on stderr, over the progress bar if one is shown. */
void cli_message(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The model directory to use: given if not NULL, else $GLM4V_MODEL, else the shipped model beside
 * this program (installed or bundled), else the one it was installed with, else the one of the
 * source tree it was built from. NULL when there is none; static storage. */
const char *cli_model_dir(const char *given);

/* Open a model with a progress bar; prints the error. Log lines up to `level` go to stderr. Returns
 * the exit status: CLI_OK, CLI_USAGE when an option is wrong, CLI_MODEL. */
int cli_model_open(glm4v_model **model, const char *dir, const glm4v_model_options *options,
                   glm4v_log_level level);

/* Flush stdout: a reader sees each line at once. Failures are reported by cli_finish(). */
void cli_flush(void);

/* Flush stdout; returns status, or CLI_OUTPUT with a message when something was not written. */
int cli_finish(int status);

/* A bar on stderr while something long is under way; nothing unless stderr is a terminal. */
void cli_progress(const char *what, double fraction); /* fraction in [0, 1] */
static inline void cli_progress_of(const char *what, uint64_t done, uint64_t total)
{
    cli_progress(what, total ? (double)done / (double)total : 0);
}
void cli_progress_clear(void);

/* Bytes for a person, "12.3 MiB"; text holds at least 32. */
const char *cli_bytes(char *text, uint64_t bytes);

/* Zeroed memory for n things of the given size, or NULL; free with free(). */
void *cli_alloc(size_t n, size_t size);

int cli_describe(int argc, char **argv);
int cli_thresholds(int argc, char **argv);
int cli_quantize(int argc, char **argv);
int cli_replay(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_serve(int argc, char **argv);

#endif
