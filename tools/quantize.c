/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* glm4v quantize: a model directory in, a quantized one out, for this program and for others that
 * read the compressed-tensors layout. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "interrupt.h"
#include "json_line.h"
#include "media.h"
#include "pictures.h"

typedef struct {
    const char *quantization, *calibrate;
    uint32_t threads, shard_mb;
    bool json, verbose;
} settings;

static int progress(void *user, uint64_t done, uint64_t total)
{
    cli_progress_of("quantizing", done, total);
    return cli_interrupted();
}

static int calibrating(void *user, uint64_t done, uint64_t total)
{
    cli_progress_of("calibrating", done, total);
    return cli_interrupted();
}

static void log_line(void *user, glm4v_log_level level, const char *line)
{
    const settings *set = user;
    if (level <= GLM4V_LOG_WARNING)
        cli_message("warning: %s", line);
    else if (set->verbose)
        cli_message("%s", line);
}

/* Bytes of a folder's weight files. */
static uint64_t weight_bytes(const char *folder)
{
    uint64_t bytes = 0;
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat st;
        const char *end = strrchr(entry->d_name, '.');
        if (end && !strcmp(end, ".safetensors") && !fstatat(dirfd(dir), entry->d_name, &st, 0))
            bytes += st.st_size;
    }
    if (dir)
        closedir(dir);
    return bytes;
}

static int status_of(int code)
{
    if (code == GLM4V_ERR_INVALID)
        return CLI_USAGE;
    return code == GLM4V_ERR_IO || code == GLM4V_ERR_BUSY ? CLI_OUTPUT : CLI_MODEL;
}

static int refuse(const char *dst, const glm4v_error *err, bool as_json, int status)
{
    cli_message("%s", err->msg);
    if (as_json) {
        glm4v_contract_json json = cli_json_begin();
        glm4v_contract_json_int(&json, "version", 1);
        glm4v_contract_json_string(&json, "directory", dst);
        glm4v_contract_json_string(&json, "error", glm4v_error_name(err->code));
        glm4v_contract_json_string(&json, "message", err->msg);
        cli_json_end(&json);
    }
    return cli_finish(status);
}

static int tell(const char *src, const char *dst, const settings *set)
{
    char text[2][32];
    uint64_t before = weight_bytes(src), after = weight_bytes(dst);
    if (!set->json) {
        printf("%s: weights of %s, from %s\n", dst, cli_bytes(text[0], after),
               cli_bytes(text[1], before));
        return cli_finish(CLI_OK);
    }
    glm4v_contract_json json = cli_json_begin();
    glm4v_contract_json_int(&json, "version", 1);
    glm4v_contract_json_string(&json, "directory", dst);
    glm4v_contract_json_string(&json, "quantization", set->quantization);
    glm4v_contract_json_int(&json, "source_bytes", before);
    glm4v_contract_json_int(&json, "file_bytes", after);
    cli_json_end(&json);
    return cli_finish(CLI_OK);
}

static int run(const char *src, const char *dst, settings *set)
{
    glm4v_error err = { 0 };
    cli_pictures pictures = { 0 };
    glm4v_quantize_options options = { .struct_size = sizeof options,
                                       .quantization = set->quantization,
                                       .n_threads = set->threads,
                                       .shard_bytes = set->shard_mb * 1000000,
                                       .progress = progress,
                                       .log = log_line,
                                       .log_user = set,
                                       .calibration_progress = calibrating };
    if (set->calibrate) {
        cli_media_init();
        int failed = cli_pictures_load(&pictures, set->calibrate, &err);
        cli_progress_clear();
        if (failed) {
            cli_pictures_free(&pictures);
            return refuse(dst, &err, set->json, CLI_INPUT);
        }
        options.images = pictures.images;
        options.n_images = pictures.n_images;
        options.prompts = (const char *const *)pictures.prompts;
        options.n_prompts = pictures.n_prompts;
    }
    cli_catch_signals();      /* it ends as an error does, with nothing left behind */
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
    int rc = glm4v_quantize(src, dst, &options, &err);
    cli_pictures_free(&pictures);
    cli_progress_clear();
    if (rc == GLM4V_ERR_CANCELED)
        cli_end_if_interrupted();
    return rc ? refuse(dst, &err, set->json, status_of(rc)) : tell(src, dst, set);
}

int cli_quantize(int argc, char **argv)
{
    settings set = { .shard_mb = 5000 };
    const cli_option options[] = {
        { "quantization", "Q", CLI_STRING, &set.quantization, 0, 0,
          "form of the weights, required: int8, int4, int4-32, fp8, fp8-dynamic, bf16 or fp32\n"
          "for text and vision, or by part, text=int4,vision=int8,embedding=int8,lm-head=int8.\n"
          "What is not named stays as it is stored" },
        { "calibrate", "DIR", CLI_STRING, &set.calibrate, 0, 0,
          "round int4 so that answers about the pictures in DIR stay as they are;\n"
          "16 to 128 pictures of the kind the model will see. Lines of DIR/prompts.txt\n"
          "are asked about each; without it, for a caption in English and Chinese.\n"
          "Needs memory for the unquantized model, and time: see docs/quantization.md" },
        { "shard-size", "MB", CLI_COUNT, &set.shard_mb, 1, 1000000,
          "largest weight file, in millions of bytes; default 5000" },
        CLI_THREADS_OPTION(set.threads),
        { "json", NULL, CLI_FLAG, &set.json, 0, 0, "one JSON object with the sizes" },
        { "verbose", NULL, CLI_FLAG, &set.verbose, 0, 0, "print progress on stderr" },
    };
    const cli_command command = {
        .name = "quantize",
        .synopsis = "SRC DST --quantization Q [OPTIONS]",
        .about =
            "Writes a quantized copy of model directory SRC to DST: a quarter (int4) or half "
            "(int8, "
            "fp8) of the\n"
            "bytes of 16-bit weights, to load faster and to keep. The numbers are those that "
            "--quantization of\n"
            "describe computes while it loads. The layout is that of the compressed-tensors "
            "package, which\n"
            "other engines read too. It takes a few MiB of memory a thread, however large SRC is.\n"
            "\n"
            "DST must not exist or be empty, and appears complete or not at all: an interrupted "
            "run "
            "leaves\n"
            "nothing under its name, and the next run for the same DST starts again. SRC is only "
            "read.",
        .examples = "glm4v quantize ~/models/GLM-4.1V-9B-Thinking ~/models/glm-int4 \\\n"
                    "    --quantization text=int4,vision=int8\n"
                    "glm4v inspect ~/models/glm-int4\n"
                    "glm4v describe --model ~/models/glm-int4 photo.jpg",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int n_folders, status;
    if (!cli_parse(&command, argc, argv, &n_folders, &status))
        return status;
    if (n_folders != 2)
        return cli_usage_error(&command, "name the model directory to read and the one to write");
    if (!set.quantization)
        return cli_usage_error(
            &command, "name the form of the weights, such as --quantization text=int4,vision=int8");
    return run(argv[0], argv[1], &set);
}
