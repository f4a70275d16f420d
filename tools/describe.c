/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* glm4v describe: one caption for each picture, and for a frame of a video every --interval
 * seconds. */
#include <math.h>
#include <string.h>

#include "ask.h"
#include "ask_server.h"
#include "cli.h"
#include "interrupt.h"
#include "folder.h"
#include "input.h"
#include "json_results.h"
#include "place.h"
#include "shape.h"

typedef struct {
    const char *model, *quantization, *prompt, *system, *preset, *pattern, *speculation;
    uint32_t threads, max_tokens, top_k, video_track;
    uint64_t seed, max_pixels;
    double temperature, top_p, repetition_penalty, interval, timeout, reconnect;
    bool thinking, json, verbose, recursive;
    glm4v_speculation drafts;
    cli_shape_options asked;
    cli_shape shape;
    cli_place place;
    glm4v_matcher *matcher; /* of --pattern; NULL: none */
    const char *kv_cache;
    cli_server_options server; /* with an endpoint: instead of a model */
} settings;

#define DEFAULT_PROMPT "Describe the image in one sentence."

/* What GLM-OCR was trained to be asked, and how long an answer may get. */
static const struct {
    const char *name, *prompt;
    uint32_t max_tokens;
} presets[] = { { "ocr", "Text Recognition:", 512 },
                { "table", "Table Recognition:", 2048 },
                { "formula", "Formula Recognition:", 512 } };

/* Fills in what was not said. False: there is no preset of that name. */
static bool take_preset(settings *set)
{
    size_t i = 0;
    while (set->preset && i < G_N_ELEMENTS(presets) && strcmp(set->preset, presets[i].name))
        i++;
    if (i == G_N_ELEMENTS(presets))
        return false;
    if (!set->prompt)
        set->prompt = set->preset ? presets[i].prompt : DEFAULT_PROMPT;
    if (set->preset && !set->max_tokens)
        set->max_tokens = presets[i].max_tokens;
    return true;
}

static bool take_speculation(settings *set)
{
    if (set->speculation && !strcmp(set->speculation, "off"))
        set->drafts = GLM4V_SPECULATION_OFF;
    else if (set->speculation && strcmp(set->speculation, "auto"))
        return false;
    return true;
}

/* Of --pattern, --choices or neither: then there is none. */
static bool has_verdict(const settings *set)
{
    return set->matcher || set->shape.verdict;
}

static const char *verdict_of(const settings *set, const glm4v_result *result)
{
    return glm4v_verdict_name(set->matcher ? glm4v_matcher_check(set->matcher, result->text)
                                           : cli_shape_verdict(&set->shape, result));
}

typedef struct {
    const settings *settings;
    glm4v_engine *engine; /* NULL: the server */
    cli_server *server;
    glm4v_model_info info;  /* of a server's model only the name */
    cli_json_results *json; /* NULL: lines for a person */
    bool name_inputs;       /* several inputs, or a folder: each line names its input */
} session;

static void print_time(FILE *out, int64_t pts)
{
    const long long ms = pts / 1000000;
    fprintf(out, "%02lld:%02lld:%02lld.%03lld", ms / 3600000, ms / 60000 % 60, ms / 1000 % 60,
            ms % 1000);
}

static void print_plain(const session *s, const char *input, const cli_frame *frame,
                        const glm4v_result *result)
{
    if (s->name_inputs)
        printf("%s: ", input);
    if (frame->pts >= 0) {
        print_time(stdout, frame->pts);
        printf("  ");
    }
    if (has_verdict(s->settings))
        printf("%s: ", verdict_of(s->settings, result));
    for (const char *c = result->text; *c; c++) /* one caption, one line */
        putchar(*c == '\n' || *c == '\r' ? ' ' : *c);
    if (result->n_probabilities)
        printf(" (%.1f %%)", 100 * result->probability);
    putchar('\n');
    cli_flush();
}

/* A failed input is reported on stderr, and in the JSON too, so that there is a line for every
 * input. */
static void print_failure(const session *s, const char *input, int64_t pts, const glm4v_error *err)
{
    cli_message("%s%s%s", strstr(err->msg, input) ? "" : input, strstr(err->msg, input) ? "" : ": ",
                err->msg);
    if (s->json)
        cli_json_results_failure(s->json, input, pts, err);
}

typedef struct {
    session *session;
    const char *input;
    const cli_frame *frame;
} subject;

static void show(void *user, const glm4v_result *result)
{
    const subject *about = user;
    const session *s = about->session;
    cli_progress_clear();
    if (!s->json)
        print_plain(s, about->input, about->frame, result);
    else
        cli_json_results_answer(s->json,
                                &(cli_json_subject) { about->input, about->frame,
                                                      has_verdict(s->settings)
                                                          ? verdict_of(s->settings, result)
                                                          : NULL },
                                result);
}

static void show_of_server(void *user, const glm4v_result *result, const char *model)
{
    const subject *about = user;
    glm4v_model_info *info = &about->session->info;
    snprintf(info->name, sizeof info->name, "%s", model);
    show(user, result);
}

static glm4v_task task_of(const settings *set)
{
    return (glm4v_task) {
        .struct_size = sizeof(glm4v_task),
        .system = set->system,
        .prompt = set->prompt,
        .max_tokens = set->max_tokens,
        .thinking = set->thinking,
        .temperature = (float)set->temperature,
        .top_k = set->top_k,
        .top_p = (float)set->top_p,
        .repetition_penalty = (float)set->repetition_penalty,
        .seed = set->seed,
        .speculation = set->drafts,
        .choices = set->shape.choices,
        .n_choices = set->shape.n,
        .json_schema = set->shape.json_schema,
    };
}

static int describe_frame(session *s, const char *input, const cli_frame *frame)
{
    subject about = { .session = s, .input = input, .frame = frame };
    glm4v_error err = { 0 };
    glm4v_task task = task_of(s->settings);
    task.images = &frame->image;
    task.n_images = 1;
    const int rc = s->engine ? cli_ask(s->engine, &task, show, &about, &err)
                             : cli_server_ask(s->server, &task, show_of_server, &about, &err);
    if (!rc)
        return CLI_OK;
    if (!cli_interrupted())
        print_failure(s, input, frame->pts, &err);
    return CLI_INPUT;
}

/* What was wrong with a clip that was described all the same. */
static void print_troubles(const session *s, const char *input, const cli_troubles *t)
{
    char text[400];
    int n = 0;
    if (t->damaged)
        n = snprintf(text, sizeof text, "%u of %u frames are damaged%s%s%s", t->damaged, t->frames,
                     *t->first ? " (the first: " : "", t->first, *t->first ? ")" : "");
    if (t->duration)
        snprintf(text + n, sizeof text - (size_t)n,
                 "%sits video ends at %.1f s of %.1f s: it is cut short or damaged", n ? "; " : "",
                 (double)t->end / 1e9, (double)t->duration / 1e9);
    if (!t->damaged && !t->duration)
        return;
    cli_message("%s: warning: %s", input, text);
    if (s->json)
        cli_json_results_warning(input, t, text);
}

static int describe_input(session *s, const char *input)
{
    const cli_stream_options options = {
        .media = { .interval = (uint64_t)llround(s->settings->interval * 1e9),
                   .timeout = s->settings->timeout,
                   .video_track =
                       s->settings->video_track == UINT32_MAX ? 0 : s->settings->video_track + 1 },
        .reconnect = s->settings->reconnect,
    };
    glm4v_error err = { 0 };
    cli_frame frame;
    int more = -1, status = CLI_OK;
    cli_input *in = cli_input_open(input, &options, &err);
    while (in && (more = cli_input_next(in, &frame, &err)) > 0 && !ferror(stdout)) {
        if (describe_frame(s, input, &frame))
            status = CLI_INPUT;
        if (frame.fraction >= 0)
            cli_progress("describing", frame.fraction);
    }
    cli_progress_clear();
    if (more < 0 && !cli_interrupted()) {
        print_failure(s, input, -1, &err);
        status = CLI_INPUT;
    }
    cli_troubles troubles = { 0 };
    if (in)
        cli_input_tell(in, &troubles);
    print_troubles(s, input, &troubles);
    cli_input_close(&in);
    return status;
}

static bool may_go_on(void)
{
    return !ferror(stdout) && !cli_interrupted();
}

/* The pictures and videos in it; other files, such as notes and labels, are reported and
 * skipped. */
static int describe_folder(session *s, const char *path)
{
    glm4v_error err = { 0 };
    cli_folder folder = { 0 };
    size_t described = 0;
    int rc = cli_folder_list(&folder, path, s->settings->recursive, &err), status = CLI_OK;
    for (size_t i = 0; !rc && i < folder.n && may_go_on(); i++) {
        if (!cli_input_is_media(folder.paths[i])) {
            cli_message("%s: skipped, neither a picture nor a video", folder.paths[i]);
            continue;
        }
        described++;
        if (describe_input(s, folder.paths[i]))
            status = CLI_INPUT;
    }
    if (!rc && !described && may_go_on()) {
        rc = err.code = GLM4V_ERR_NOT_FOUND;
        snprintf(err.msg, sizeof err.msg, "there is neither a picture nor a video in this folder%s",
                 s->settings->recursive ? "" : "; --recursive looks into the folders in it");
    }
    cli_folder_free(&folder);
    if (!rc)
        return status;
    print_failure(s, path, -1, &err);
    return CLI_INPUT;
}

/* Describe the inputs: how is known. */
static int describe_all(session *s, const glm4v_engine_options *engine, char **inputs, int n_inputs)
{
    const settings *set = s->settings;
    const glm4v_task task = task_of(set);
    const cli_asked asked = { &task, &set->shape, set->pattern, engine, &s->info };
    cli_json_results json;
    int status = CLI_OK;
    if (set->json) {
        cli_json_results_begin(&json, &asked);
        s->json = &json;
    }
    for (int i = 0; i < n_inputs; i++)
        s->name_inputs |= cli_is_folder(inputs[i]);
    for (int i = 0; i < n_inputs && may_go_on(); i++)
        if ((cli_is_folder(inputs[i]) ? describe_folder : describe_input)(s, inputs[i]))
            status = CLI_INPUT;
    s->json = NULL;
    return status;
}

static int run_engine(session *s, const char *dir, char **inputs, int n_inputs)
{
    const settings *set = s->settings;
    glm4v_error err = { 0 };
    glm4v_model_options options = { .struct_size = sizeof options,
                                    .quantization = set->quantization,
                                    .n_threads = set->threads };
    glm4v_engine_options engine = { .struct_size = sizeof engine,
                                    .max_pixels = set->max_pixels,
                                    .max_batch = 1,
                                    .kv_cache = set->kv_cache };
    glm4v_model *model = NULL;
    cli_place_set(&options, &set->place);
    int status =
        cli_model_open(&model, dir, &options, set->verbose ? GLM4V_LOG_DEBUG : GLM4V_LOG_WARNING);
    if (status)
        return status;
    if (glm4v_engine_open(&s->engine, model, &engine, &err)) {
        cli_message("%s", err.msg);
        glm4v_model_close(&model);
        return CLI_MODEL;
    }
    s->info = *glm4v_model_get_info(model);
    cli_media_init();
    cli_catch_signals();
    const glm4v_task task = task_of(set);
    if (glm4v_engine_check(s->engine, &task, &err)) { /* what holds for every input, told once */
        cli_message("%s", err.msg);
        status = CLI_USAGE;
    } else {
        status = describe_all(s, &engine, inputs, n_inputs);
    }
    glm4v_engine_close(&s->engine);
    glm4v_model_close(&model);
    return status;
}

static int run_server(session *s, char **inputs, int n_inputs)
{
    const settings *set = s->settings;
    const glm4v_engine_options engine = { .max_pixels = set->max_pixels };
    glm4v_error err = { 0 };
    if (cli_server_open(&s->server, &set->server, &err)) {
        cli_message("%s", err.msg);
        return CLI_USAGE;
    }
    if (set->server.model)
        snprintf(s->info.name, sizeof s->info.name, "%s", set->server.model);
    cli_media_init();
    cli_catch_signals();
    const int status = describe_all(s, &engine, inputs, n_inputs);
    cli_server_close(&s->server);
    return status;
}

static int run(const settings *set, const char *dir, char **inputs, int n_inputs)
{
    session s = { .settings = set, .name_inputs = n_inputs > 1 };
    const int status = set->server.endpoint ? run_server(&s, inputs, n_inputs)
                                            : run_engine(&s, dir, inputs, n_inputs);
    const int finished = cli_finish(status);
    cli_end_if_interrupted();
    return finished;
}

int cli_describe(int argc, char **argv)
{
    settings set = { .top_p = 1,
                     .repetition_penalty = 1,
                     .interval = 1,
                     .video_track = UINT32_MAX,
                     .timeout = CLI_TIMEOUT };
    const cli_option options[] = {
        CLI_MODEL_OPTION(set.model),
        { "endpoint", "URL", CLI_STRING, &set.server.endpoint, 0, 0,
          "a server of chat completions describes instead of a model here, as\n"
          "http://host:8080/v1; several with commas between them. --model is the name of\n"
          "its model then; default: the first that it lists" },
        { "api-key-file", "FILE", CLI_STRING, &set.server.api_key_file, 0, 0,
          "with --endpoint: file whose first line is the key; default: $GLM4V_API_KEY" },
        { "ca-file", "FILE", CLI_STRING, &set.server.ca_file, 0, 0,
          "with --endpoint: PEM file of the authorities that may have signed its\n"
          "certificate; default: the system's" },
        { "certificate-file", "FILE", CLI_STRING, &set.server.certificate_file, 0, 0,
          "with --endpoint: PEM file of the certificate that is shown to it" },
        { "private-key-file", "FILE", CLI_STRING, &set.server.private_key_file, 0, 0,
          "with --endpoint: PEM file of its private key" },
        CLI_PLACE_OPTIONS(set.place),
        CLI_KV_OPTION(set.kv_cache),
        CLI_QUANTIZATION_OPTION(set.quantization),
        CLI_THREADS_OPTION(set.threads),
        { "prompt", "TEXT", CLI_STRING, &set.prompt, 0, 0,
          "what to ask; default \"" DEFAULT_PROMPT "\"" },
        { "preset", "NAME", CLI_STRING, &set.preset, 0, 0,
          "ocr, table or formula: the prompt with which GLM-OCR reads text, a table (HTML)\n"
          "or a formula (LaTeX), and room for the answer" },
        { "system", "TEXT", CLI_STRING, &set.system, 0, 0, "system prompt; default: none" },
        { "interval", "SECONDS", CLI_NUMBER, &set.interval, 0, 86400,
          "time between described frames of a video; 0 = every frame;\ndefault 1" },
        { "timeout", "SECONDS", CLI_NUMBER, &set.timeout, 1, 86400,
          "a camera or stream that gives no frame for so long has failed;\ndefault 20" },
        { "reconnect", "SECONDS", CLI_NUMBER, &set.reconnect, 0, 1e9,
          "open a camera or stream that failed, or ended, again and again, until an\n"
          "outage has lasted so long; default 0 = its end is an error, exit status 1" },
        { "video-track", "N", CLI_COUNT, &set.video_track, 0, 1000,
          "of a file with several video tracks, counted from 0; default: the first\n"
          "that is not the still picture of a cover" },
        { "recursive", NULL, CLI_FLAG, &set.recursive, 0, 0,
          "of a folder, describe what is in the folders in it too" },
        { "max-tokens", "N", CLI_COUNT, &set.max_tokens, 1, GLM4V_MAX_TOKENS,
          "longest answer; default " G_STRINGIFY(GLM4V_DEFAULT_TOKENS) ", with --json-schema 256" },
        { "choices", "A,B,...", CLI_STRING, &set.asked.choices, 0, 0,
          "the answer is one of these, with the probability of each; a choice with a\n"
          "comma stands in double quotes, a quote in it is doubled" },
        { "fail-choices", "A,...", CLI_STRING, &set.asked.fail_choices, 0, 0,
          "those of the choices that are defects: the verdict is fail if one of them\n"
          "reaches its threshold, pass if another one does and is chosen, else unknown" },
        { "thresholds", "P,...", CLI_STRING, &set.asked.thresholds, 0, 0,
          "of each choice, in (0, 1]; default 0.5 each" },
        { "pattern", "PATTERN", CLI_STRING, &set.pattern, 0, 0,
          "verdict pass if this is in the text, else fail: a small part of regular\n"
          "expressions, such as LOT[0-9]{6}; docs/answers.md has the rules" },
        { "json-schema", "FILE", CLI_STRING, &set.asked.json_schema, 0, 0,
          "the answer is JSON that matches this JSON Schema; docs/answers.md tells which\n"
          "keywords are supported" },
        { "temperature", "T", CLI_NUMBER, &set.temperature, 0, 2,
          "0 = always the likeliest word (default); up to 2 = more variety" },
        { "top-k", "N", CLI_COUNT, &set.top_k, 0, 1000000,
          "draw from the N likeliest tokens; default 0 = all" },
        { "top-p", "P", CLI_NUMBER, &set.top_p, 0, 1,
          "draw from the likeliest with this total; default 1" },
        { "repetition-penalty", "R", CLI_NUMBER, &set.repetition_penalty, 1, 2,
          "default 1 = none" },
        { "seed", "N", CLI_WIDE, &set.seed, 0, 9e15,
          "of the draws: same seed, same text; default 0" },
        { "thinking", NULL, CLI_FLAG, &set.thinking, 0, 0,
          "let a reasoning model reason first; the reasoning is in --json only" },
        { "speculation", "WHEN", CLI_STRING, &set.speculation, 0, 0,
          "check several expected tokens at a time, those of the last answers, of\n"
          "repeated text and of GLM-OCR's MTP layer: auto (default) or off; the answer\n"
          "is the same" },
        CLI_PIXELS_OPTION(set.max_pixels),
        { "json", NULL, CLI_FLAG, &set.json, 0, 0,
          "one JSON object per caption and line; the first line has the settings" },
        { "verbose", NULL, CLI_FLAG, &set.verbose, 0, 0, "print the engine's log on stderr" },
    };
    const cli_command command = {
        .name = "describe",
        .synopsis = "[OPTIONS] FILE|FOLDER|URI|-...",
        .about =
            "Describes pictures (PNG, JPEG, TIFF, WebP, BMP, ...) and videos (MP4, Matroska, RTSP, "
            "animated\n"
            "GIF, ... whatever GStreamer decodes); of a folder, those in it; - is standard input. "
            "A "
            "picture\n"
            "gives one line, a video one line per --interval with its time. With several inputs "
            "each line\n"
            "starts with the input's name. See docs/inputs.md.",
        .examples =
            "glm4v describe part.png\n"
            "glm4v describe --prompt 'Is there a defect? Answer yes or no.' *.jpg\n"
            "glm4v describe --prompt 'Choose one: good, bad.' --choices good,bad --fail-choices "
            "bad "
            "*.jpg\n"
            "glm4v describe --prompt 'Report the defects as JSON.' --json-schema report.json "
            "part.png\n"
            "glm4v describe --model ~/models/GLM-OCR --preset ocr --pattern 'LOT[0-9]{6}' "
            "label.png\n"
            "glm4v describe --interval 0.5 line.mp4\n"
            "glm4v describe --recursive --json pictures/ > captions.jsonl\n"
            "curl -s https://camera.local/now.jpg | glm4v describe -\n"
            "glm4v describe --json --interval 10 rtsp://camera.local/stream | tee captions.jsonl\n"
            "glm4v describe --reconnect 3600 rtsp://user:password@camera.local/stream\n"
            "glm4v describe --model ~/models/GLM-4.1V-9B-Thinking --quantization int4 photo.jpg\n"
            "glm4v describe --endpoint http://127.0.0.1:8080/v1 part.png",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int n_inputs, status;
    if (!cli_parse(&command, argc, argv, &n_inputs, &status))
        return status;
    if (!n_inputs)
        return cli_usage_error(&command, "name a picture or a video");
    if (set.prompt && !cli_is_utf8(set.prompt))
        return cli_usage_error(&command, "--prompt is not UTF-8");
    if (set.system && !cli_is_utf8(set.system))
        return cli_usage_error(&command, "--system is not UTF-8");
    if (set.temperature == 0 && (set.top_k || set.top_p < 1))
        return cli_usage_error(&command, "--top-k and --top-p need a --temperature above 0");
    if (set.pattern && set.asked.choices)
        return cli_usage_error(&command, "--pattern and --choices give one verdict each");
    if (!take_speculation(&set))
        return cli_usage_error(&command, "--speculation is auto or off");
    if (!take_preset(&set))
        return cli_usage_error(&command, "--preset is ocr, table or formula");
    set.server.model = set.model;
    set.server.max_pixels = set.max_pixels;
    const char *dir = set.server.endpoint ? NULL : cli_model_dir(set.model);
    if (!dir && !set.server.endpoint)
        return cli_usage_error(&command,
                               "no model was found: name one with --model or GLM4V_MODEL");
    if (!set.max_tokens)
        set.max_tokens = set.asked.json_schema ? 256 : GLM4V_DEFAULT_TOKENS;
    glm4v_error err = { 0 };
    if (set.pattern && glm4v_matcher_open(&set.matcher, set.pattern, &err))
        return cli_usage_error(&command, "%s", err.msg);
    status = cli_shape_open(&set.shape, &command, &set.asked);
    if (!status)
        status = run(&set, dir, argv, n_inputs);
    cli_shape_close(&set.shape);
    glm4v_matcher_close(&set.matcher);
    return status;
}
