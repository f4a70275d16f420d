/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* glm4v thresholds: what the model thinks of pictures whose right answer is known, thresholds that
 * bound the escapes, and whether the line has changed since an earlier run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "folder.h"
#include "input.h"
#include "interrupt.h"
#include "place.h"
#include "results_file.h"
#include "statistics.h"

#define CONFIDENCE 0.95
#define DRIFT_LEVEL 0.01 /* of all comparisons together */
enum { FEW = 30 };       /* pictures of a folder, below which there is a warning */

typedef struct {
    const char *model, *quantization, *choices, *fail_choices, *prompt, *system;
    const char *output, *preset, *preset_name, *compare;
    uint32_t threads;
    uint64_t max_pixels;
    double rate;
    cli_place place;
} settings;

typedef struct {
    const settings *set;
    const cli_command *command;
    cli_folder folders;
    json_t *earlier;
    char *names, *fail_names, *question; /* where no option gives them */
    const char *prompt;
    glm4v_model *model;
    glm4v_engine *engine;
    cli_judged judged;
} session;

/* ---- choices ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A list as --choices takes it, of the names that next() gives. */
static char *list_of(const char *(*next)(const void *names, size_t i), const void *names, size_t n)
{
    GString *list = g_string_new(NULL);
    for (size_t i = 0; i < n; i++) {
        g_string_append(list, i ? ",\"" : "\"");
        for (const char *c = next(names, i); *c; c++)
            g_string_append(list, *c == '"' ? "\"\"" : (const char[]) { *c, 0 });
        g_string_append_c(list, '"');
    }
    return g_string_free(list, FALSE);
}

static const char *folder_name(const void *folders, size_t i)
{
    return last_part(((const cli_folder *)folders)->paths[i]);
}

static const char *json_name(const void *array, size_t i)
{
    return json_string_value(json_array_get(array, i));
}

static char *list_of_json(const json_t *root, const char *key)
{
    const json_t *array = json_object_get(root, key);
    return list_of(json_name, array, json_array_size(array));
}

static char *default_question(const cli_shape *shape)
{
    GString *text = g_string_new("Choose one: ");
    for (uint32_t i = 0; i < shape->n; i++)
        g_string_append_printf(text, "%s%s", i ? ", " : "", shape->choices[i]);
    g_string_append_c(text, '.');
    return g_string_free(text, FALSE);
}

static int find_choice(const cli_shape *shape, const char *name)
{
    for (uint32_t i = 0; i < shape->n; i++)
        if (!strcmp(shape->choices[i], name))
            return (int)i;
    return -1;
}

/* There must be folders of both kinds, and each must be a choice. */
static int check_folders(const session *s)
{
    const cli_shape *shape = &s->judged.shape;
    bool good = false, bad = false;
    for (size_t i = 0; i < s->folders.n; i++) {
        const int choice = find_choice(shape, folder_name(&s->folders, i));
        if (choice < 0)
            return cli_usage_error(s->command, "the folder \"%s\" is none of the choices",
                                   folder_name(&s->folders, i));
        good |= !shape->fails[choice];
        bad |= shape->fails[choice];
    }
    if (good && bad)
        return CLI_OK;
    return cli_usage_error(s->command, "there is no folder of a choice that %s",
                           good ? "is in --fail-choices" : "is not in --fail-choices");
}

/* From options, an earlier file, or the names of the folders. */
static int read_choices(session *s)
{
    const settings *set = s->set;
    cli_shape_options asked = { .choices = set->choices, .fail_choices = set->fail_choices };
    if (!asked.choices)
        asked.choices = s->names = s->earlier ? list_of_json(s->earlier, "choices")
                                              : list_of(folder_name, &s->folders, s->folders.n);
    if (!asked.fail_choices && s->earlier)
        asked.fail_choices = s->fail_names = list_of_json(s->earlier, "fail-choices");
    if (!asked.fail_choices)
        return cli_usage_error(s->command, "name the choices that are defects with --fail-choices");
    int status = cli_shape_open(&s->judged.shape, s->command, &asked);
    if (!status)
        status = check_folders(s);
    if (status)
        return status;
    s->prompt = set->prompt;
    if (!s->prompt && s->earlier)
        s->prompt = json_string_value(json_object_get(s->earlier, "prompt"));
    if (!s->prompt)
        s->prompt = s->question = default_question(&s->judged.shape);
    return CLI_OK;
}

/* ---- pictures ---- */

typedef struct {
    cli_judged *judged;
    const char *path;
    uint32_t folder;
    bool added;
} subject;

static void keep(void *user, const glm4v_result *result)
{
    subject *about = user;
    about->added = cli_judged_add(about->judged, about->path, about->folder, result->probabilities);
}

static int judge(session *s, subject *about, const cli_frame *frame, glm4v_error *err)
{
    const cli_shape *shape = &s->judged.shape;
    const glm4v_task task = { .struct_size = sizeof task,
                              .system = s->set->system,
                              .prompt = s->prompt,
                              .images = &frame->image,
                              .n_images = 1,
                              .choices = shape->choices,
                              .n_choices = shape->n };
    int rc = cli_ask(s->engine, &task, keep, about, err);
    if (!rc && !about->added)
        rc = err->code = GLM4V_ERR_NOMEM;
    return rc;
}

/* The picture, or the first frame. */
static int judge_file(session *s, const char *path, uint32_t folder)
{
    const cli_stream_options options = { .media.timeout = CLI_TIMEOUT };
    subject about = { &s->judged, path, folder, false };
    glm4v_error err = { .msg = "memory is out" };
    cli_frame frame;
    cli_input *input = cli_input_open(path, &options, &err);
    int more = input ? cli_input_next(input, &frame, &err) : -1;
    int rc = more > 0 ? judge(s, &about, &frame, &err) : more;
    if (!more)
        rc = snprintf(err.msg, sizeof err.msg, "it holds no picture");
    cli_input_close(&input);
    if (!rc)
        return CLI_OK;
    if (!cli_interrupted())
        cli_message("%s%s%s", strstr(err.msg, path) ? "" : path, strstr(err.msg, path) ? "" : ": ",
                    err.msg);
    return CLI_INPUT;
}

static int judge_folder(session *s, size_t number)
{
    const char *path = s->folders.paths[number];
    const uint32_t choice = (uint32_t)find_choice(&s->judged.shape, last_part(path));
    glm4v_error err = { 0 };
    cli_folder files = { 0 };
    int status = CLI_OK;
    if (cli_folder_list(&files, path, false, &err)) {
        cli_message("%s", err.msg);
        status = CLI_INPUT;
    }
    for (size_t i = 0; i < files.n && !cli_interrupted(); i++) {
        cli_progress(last_part(path),
                     ((double)number + (double)i / (double)files.n) / (double)s->folders.n);
        if (!cli_input_is_media(files.paths[i]))
            cli_message("%s: skipped, it is no picture", files.paths[i]);
        else if (judge_file(s, files.paths[i], choice))
            status = CLI_INPUT;
    }
    cli_folder_free(&files);
    return status;
}

/* ---- what came of it ---- */

static int width_of(const char *text)
{
    return (int)g_utf8_strlen(text, -1);
}

static int columns_of(const char *name)
{
    return width_of(name) > 6 ? width_of(name) : 6;
}

static void print_row(const cli_shape *shape, const char *name, int column, const cli_tally *t)
{
    printf("%s%*s", name, column - width_of(name), "");
    for (uint32_t i = 0; i < shape->n; i++)
        printf("  %*zu", columns_of(shape->choices[i]), t->chosen[i]);
    printf("  %6zu | %6zu  %6zu  %7zu\n", t->n, t->pass, t->fail, t->unknown);
}

static void add_tally(cli_tally *sum, const cli_tally *t, uint32_t n)
{
    sum->n += t->n;
    sum->pass += t->pass;
    sum->fail += t->fail;
    sum->unknown += t->unknown;
    for (uint32_t i = 0; i < n; i++)
        sum->chosen[i] += t->chosen[i];
}

/* A row a folder, a column a choice, and their sums; then the verdicts. */
static void print_confusion(const cli_judged *j)
{
    const cli_shape *shape = &j->shape;
    cli_tally all = { 0 };
    int column = width_of("folder");
    for (uint32_t i = 0; i < shape->n; i++)
        column = width_of(shape->choices[i]) > column ? width_of(shape->choices[i]) : column;
    printf("folder%*s", column - width_of("folder"), "");
    for (uint32_t i = 0; i < shape->n; i++)
        printf("  %*s%s", columns_of(shape->choices[i]) - width_of(shape->choices[i]), "",
               shape->choices[i]);
    printf("  %6s | %6s  %6s  %7s\n", "total", "pass", "fail", "unknown");
    for (uint32_t i = 0; i < shape->n; i++) {
        const cli_tally t = cli_judged_count(j, i);
        if (t.n)
            print_row(shape, shape->choices[i], column, &t);
        add_tally(&all, &t, shape->n);
    }
    print_row(shape, "total", column, &all);
}

/* One line a folder, and what to do where its pictures do not show enough. */
static void print_bound(const cli_shape *shape, uint32_t choice, const cli_tally *t, double rate)
{
    const bool defect = shape->fails[choice];
    const size_t events = defect ? t->pass : t->fail;
    const double bound = cli_rate_bound(events, t->n, CONFIDENCE);
    printf("%s: %zu of %zu %s, %s at most %.2f %% (95 %% confidence)\n", shape->choices[choice],
           events, t->n, defect ? "pass" : "fail", defect ? "escapes" : "false rejects",
           100 * bound);
    cli_flush();
    if (defect && bound > rate)
        cli_message("warning: \"%s\": an escape rate of %g %% is not shown; it takes %zu pictures "
                    "without an escape",
                    shape->choices[choice], 100 * rate, cli_trials_needed(rate, CONFIDENCE));
    if (t->n < FEW)
        cli_message("warning: \"%s\" has %zu picture%s, fewer than %d: they can show no rate below "
                    "%.1f %%",
                    shape->choices[choice], t->n, t->n == 1 ? "" : "s", FEW,
                    100 * cli_rate_bound(0, t->n, CONFIDENCE));
}

static void print_thresholds(const cli_judged *j)
{
    for (uint32_t i = 0; i < j->shape.n; i++)
        printf("%s%s %.4f%s", i ? ", " : "thresholds: ", j->shape.choices[i],
               j->shape.thresholds[i], j->shape.fails[i] ? " (fail)" : "");
    printf("\n");
}

static void print_all(const session *s)
{
    const cli_judged *j = &s->judged;
    print_confusion(j);
    print_thresholds(j);
    for (uint32_t i = 0; i < j->shape.n; i++) {
        const cli_tally t = cli_judged_count(j, i);
        if (t.n)
            print_bound(&j->shape, i, &t, s->set->rate);
    }
}

/* ---- drift ---- */

static double *own_of(const cli_judged *j, uint32_t choice, size_t *n)
{
    double *own = cli_alloc(j->n, sizeof *own);
    *n = 0;
    for (size_t i = 0; own && i < j->n; i++)
        if (j->pictures[i].folder == choice)
            own[(*n)++] = j->pictures[i].probabilities[choice];
    return own;
}

static json_t *compare_folder(const session *s, uint32_t choice)
{
    const char *name = s->judged.shape.choices[choice];
    size_t n_now, n_then;
    json_t *one = NULL;
    double *now = own_of(&s->judged, choice, &n_now);
    double *then = cli_results_own(s->earlier, name, &n_then);
    if (now && then && n_now && n_then) {
        const cli_difference d = cli_compare_samples(now, n_now, then, n_then);
        one = json_pack("{ss sI sI sf sf}", "folder", name, "pictures", (json_int_t)n_now,
                        "earlier", (json_int_t)n_then, "distance", d.distance, "p", d.p);
    }
    free(now);
    free(then);
    return one;
}

/* Every folder that both runs have; drifted where one differs more than chance explains. */
static json_t *compare(const session *s)
{
    json_t *folders = json_array();
    bool drifted = false;
    for (uint32_t i = 0; i < s->judged.shape.n; i++) {
        json_t *one = compare_folder(s, i);
        if (one)
            json_array_append_new(folders, one);
    }
    const double level = DRIFT_LEVEL / fmax((double)json_array_size(folders), 1);
    for (size_t i = 0; i < json_array_size(folders); i++)
        drifted |= json_number_value(json_object_get(json_array_get(folders, i), "p")) < level;
    return json_pack("{ss sf sb so}", "statistic", "two-sample Kolmogorov-Smirnov", "level",
                     DRIFT_LEVEL, "drifted", drifted, "folders", folders);
}

static void print_drift(const json_t *drift)
{
    const json_t *folders = json_object_get(drift, "folders");
    for (size_t i = 0; i < json_array_size(folders); i++) {
        const json_t *f = json_array_get(folders, i);
        printf("%s: two-sample Kolmogorov-Smirnov D = %.3f, p = %.4g (%lld and %lld pictures)\n",
               json_string_value(json_object_get(f, "folder")),
               json_number_value(json_object_get(f, "distance")),
               json_number_value(json_object_get(f, "p")),
               (long long)json_integer_value(json_object_get(f, "pictures")),
               (long long)json_integer_value(json_object_get(f, "earlier")));
    }
    printf("%s: at a level of %g %% for all folders together\n",
           json_is_true(json_object_get(drift, "drifted")) ? "the line has drifted"
                                                           : "no drift is shown",
           100 * DRIFT_LEVEL);
}

/* What makes a comparison say something else than that the line has changed. */
static void check_alike(const session *s)
{
    const json_t *model = json_object_get(s->earlier, "model");
    const char *hash = json_string_value(json_object_get(model, "hash"));
    const char *prompt = json_string_value(json_object_get(s->earlier, "prompt"));
    if (!hash || strcmp(hash, glm4v_model_get_info(s->model)->hash))
        cli_message("warning: %s comes from another model", s->set->compare);
    if (strcmp(prompt, s->prompt))
        cli_message("warning: %s comes from another prompt", s->set->compare);
}

/* ---- the run ---- */

static int write_files(const session *s, json_t *drift)
{
    const settings *set = s->set;
    const cli_results results = { .prompt = s->prompt,
                                  .rate = set->rate,
                                  .confidence = CONFIDENCE,
                                  .model = glm4v_model_get_info(s->model),
                                  .drift = drift };
    glm4v_error err = { 0 };
    int rc = 0;
    if (set->output)
        rc = cli_results_write(set->output, &s->judged, &results, &err);
    if (!rc && set->preset)
        rc = cli_preset_write(set->preset, set->preset_name, s->prompt, &s->judged, &err);
    if (!rc)
        return CLI_OK;
    cli_message("%s", err.msg);
    return CLI_OUTPUT;
}

static int finish(session *s, int status)
{
    json_t *drift = NULL;
    if (!s->judged.n) {
        cli_message("no picture could be judged");
        return CLI_INPUT;
    }
    if (!cli_judged_propose(&s->judged, s->set->rate, CONFIDENCE)) {
        cli_message("memory is out");
        return CLI_INPUT;
    }
    print_all(s);
    if (s->earlier) {
        check_alike(s);
        drift = compare(s);
        print_drift(drift);
    }
    const int written = write_files(s, drift);
    json_decref(drift);
    return written ? written : status;
}

static int measure(session *s)
{
    const settings *set = s->set;
    const cli_shape *shape = &s->judged.shape;
    const glm4v_engine_options options = { .struct_size = sizeof options,
                                           .max_pixels = set->max_pixels,
                                           .max_batch = 1 };
    const glm4v_task task = { .struct_size = sizeof task,
                              .system = set->system,
                              .prompt = s->prompt,
                              .choices = shape->choices,
                              .n_choices = shape->n };
    glm4v_error err = { 0 };
    int status = CLI_OK;
    if (glm4v_engine_open(&s->engine, s->model, &options, &err)) {
        cli_message("%s", err.msg);
        return CLI_MODEL;
    }
    if (glm4v_engine_check(s->engine, &task, &err)) {
        cli_message("%s", err.msg);
        return CLI_USAGE;
    }
    cli_media_init();
    cli_catch_signals();
    for (size_t i = 0; i < s->folders.n && !cli_interrupted(); i++)
        if (judge_folder(s, i))
            status = CLI_INPUT;
    cli_progress_clear();
    return cli_interrupted() ? CLI_INPUT : finish(s, status);
}

static bool may_be_written(const char *path)
{
    char *folder = path ? g_path_get_dirname(path) : NULL;
    const bool may = !folder || access(folder, W_OK) == 0;
    g_free(folder);
    return may;
}

/* All that can be found out before the model is loaded. */
static int prepare(session *s, const char *dir)
{
    const settings *set = s->set;
    glm4v_error err = { 0 };
    if (set->compare && !(s->earlier = cli_results_read(set->compare, &err))) {
        cli_message("%s", err.msg);
        return CLI_INPUT;
    }
    if (cli_folder_list_folders(&s->folders, dir, &err)) {
        cli_message("%s", err.msg);
        return CLI_INPUT;
    }
    if (!s->folders.n) {
        cli_message("%s: there are no folders in it; make one for each choice, with its pictures",
                    dir);
        return CLI_INPUT;
    }
    for (int i = 0; i < 2; i++) {
        const char *path = i ? set->preset : set->output;
        if (may_be_written(path))
            continue;
        cli_message("%s cannot be written: its folder does not exist or is read-only", path);
        return CLI_OUTPUT;
    }
    return read_choices(s);
}

static int run(const settings *set, const cli_command *command, const char *dir)
{
    session s = { .set = set, .command = command };
    glm4v_model_options options = { .struct_size = sizeof options,
                                    .quantization = set->quantization,
                                    .n_threads = set->threads };
    cli_place_set(&options, &set->place);
    int status = prepare(&s, dir);
    if (!status)
        status = cli_model_open(&s.model, cli_model_dir(set->model), &options, GLM4V_LOG_WARNING);
    if (!status)
        status = measure(&s);
    glm4v_engine_close(&s.engine);
    glm4v_model_close(&s.model);
    cli_judged_free(&s.judged);
    cli_folder_free(&s.folders);
    json_decref(s.earlier);
    g_free(s.names);
    g_free(s.fail_names);
    g_free(s.question);
    status = cli_finish(status);
    cli_end_if_interrupted();
    return status;
}

int cli_thresholds(int argc, char **argv)
{
    settings set = { .rate = 0.01, .preset_name = "choice" };
    const cli_option options[] = {
        CLI_MODEL_OPTION(set.model),
        CLI_PLACE_OPTIONS(set.place),
        { "quantization", "Q", CLI_STRING, &set.quantization, 0, 0,
          "as the element will use it, see describe; default: as stored" },
        CLI_THREADS_OPTION(set.threads),
        { "choices", "A,B,...", CLI_STRING, &set.choices, 0, 0,
          "all choices in their order, also those without a folder; default: the folders,\n"
          "or those of --compare" },
        { "fail-choices", "A,...", CLI_STRING, &set.fail_choices, 0, 0,
          "those that are defects: required, or those of --compare" },
        { "prompt", "TEXT", CLI_STRING, &set.prompt, 0, 0,
          "what to ask; default \"Choose one: A, B.\" with the choices" },
        { "system", "TEXT", CLI_STRING, &set.system, 0, 0, "system prompt; default: none" },
        { "escape-rate", "R", CLI_NUMBER, &set.rate, 1e-6, 0.5,
          "share of the pictures of each fail choice that may pass; default 0.01" },
        CLI_PIXELS_OPTION(set.max_pixels),
        { "output", "FILE", CLI_STRING, &set.output, 0, 0,
          "write the results as JSON: thresholds, and the probabilities of each picture" },
        { "preset", "FILE", CLI_STRING, &set.preset, 0, 0,
          "write a preset of the element; others that are in the file stay. GStreamer finds\n"
          "GstGlm4vDescribe.prs in the folder that GST_PRESET_PATH names" },
        { "preset-name", "NAME", CLI_STRING, &set.preset_name, 0, 0,
          "for @preset=NAME; default choice" },
        { "compare", "FILE", CLI_STRING, &set.compare, 0, 0,
          "results of an earlier run: print whether the probabilities have drifted since" },
    };
    const cli_command command = {
        .name = "thresholds",
        .synopsis = "[OPTIONS] DIR --fail-choices A,...",
        .about =
            "Proposes a threshold for each choice, so that of the pictures of each fail choice at\n"
            "most --escape-rate get the verdict pass, with 95 % confidence. DIR has a folder for "
            "each\n"
            "choice, with its name, and in it at least 30 pictures that show it. Prints how many "
            "of\n"
            "each folder got which choice and verdict. See docs/answers.md.",
        .examples = "glm4v thresholds --fail-choices scratch,dent --escape-rate 0.02 parts/\n"
                    "glm4v thresholds --fail-choices bad --output then.json --preset "
                    "GstGlm4vDescribe.prs parts/\n"
                    "glm4v thresholds --compare then.json parts-of-today/",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int n_folders, status;
    if (!cli_parse(&command, argc, argv, &n_folders, &status))
        return status;
    if (n_folders != 1)
        return cli_usage_error(&command, "name one directory with a folder for each choice");
    if ((set.prompt && !cli_is_utf8(set.prompt)) || (set.system && !cli_is_utf8(set.system)))
        return cli_usage_error(&command, "--prompt or --system is not UTF-8");
    if (!*set.preset_name || strpbrk(set.preset_name, "[]\n\r") || *set.preset_name == '_')
        return cli_usage_error(&command, "--preset-name \"%s\" cannot be the name of a preset",
                               set.preset_name);
    if (!cli_model_dir(set.model))
        return cli_usage_error(&command,
                               "no model was found: name one with --model or GLM4V_MODEL");
    return run(&set, &command, argv[0]);
}
