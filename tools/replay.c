/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* glm4v replay: results are derived again from archived pictures, or what differs is told. Two
 * passes over the file of results: the first collects settings and what pictures to look for, the
 * second asks each question again. */
#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "cli.h"
#include "contract/text.h"
#include "input.h"
#include "interrupt.h"
#include "place.h"
#include "replay/compare.h"

typedef struct {
    const char *model, *quantization;
    uint32_t threads;
    cli_place place;
} options;

/* What a difference is one of. */
typedef enum { MODEL, LEVEL, FORM, SETTINGS, PICTURE, ANSWER, N_KINDS } kind;

static const char *const kinds[N_KINDS] = {
    [MODEL] = "model",       [LEVEL] = "level",     [FORM] = "form",
    [SETTINGS] = "settings", [PICTURE] = "picture", [ANSWER] = "answer",
};

typedef struct {
    const options *options;
    const char *dir, *path;
    GHashTable *settings; /* hash -> cli_recorded_settings */
    GHashTable *answers;  /* id -> choice and verdict of that answer, for those that refer to it */
    cli_archive *archive;
    char *opened; /* key of the engine; NULL: there is none */
    glm4v_model *model;
    glm4v_engine *engine;
    const cli_recorded_settings *checked; /* told about last */
    bool derivable;                       /* results of these */
    int status;                           /* of a model that cannot be opened, which is told then */
    uint64_t results, equal, unanswered, differences[N_KINDS];
} session;

static void tell(session *s, kind which, int64_t line, int64_t id, const char *what)
{
    s->differences[which]++;
    printf("%s:%lld: ", s->path, (long long)line);
    if (id >= 0)
        printf("result %lld: ", (long long)id);
    printf("%s: %s\n", kinds[which], what);
    cli_flush();
}

/* ---- the first pass ---- */

static int keep_settings(void *user, cli_recorded_settings *settings, glm4v_error *err)
{
    session *s = user;
    cli_recorded_settings *known = g_hash_table_lookup(s->settings, settings->hash);
    if (!settings->genuine)
        tell(s, SETTINGS, settings->line, -1,
             "the object was changed: it has not the hash that it names");
    if (known) {
        known->genuine &= settings->genuine;
        return 0;
    }
    cli_recorded_settings *taken = cli_recorded_settings_take(settings);
    g_hash_table_insert(s->settings, taken->hash, taken);
    return 0;
}

static int want_pictures(void *user, const cli_recorded_result *result, glm4v_error *err)
{
    session *s = user;
    for (size_t i = 0; i < json_array_size(result->pictures); i++)
        cli_archive_want(s->archive, json_string_value(json_array_get(result->pictures, i)));
    if (result->has_part)
        cli_archive_want_part(s->archive, &result->part);
    return 0;
}

/* ---- the model ---- */

static void close_engine(session *s)
{
    glm4v_engine_close(&s->engine);
    glm4v_model_close(&s->model);
    g_clear_pointer(&s->opened, g_free);
}

static glm4v_model_options model_options(const session *s, const cli_recorded_settings *settings)
{
    const options *o = s->options;
    glm4v_model_options model = { .struct_size = sizeof model,
                                  .quantization =
                                      o->quantization ? o->quantization : settings->model.quant,
                                  .n_threads = o->threads };
    cli_place_set(&model, &o->place);
    if (!o->place.device && !o->place.layers && !strcmp(settings->model.device, "cpu"))
        model.device = "cpu";
    return model;
}

/* An engine as the settings have it: the one at hand, or another. A CLI_ status. */
static int open_engine(session *s, const cli_recorded_settings *settings)
{
    const glm4v_model_options model = model_options(s, settings);
    const glm4v_engine_options engine = { .struct_size = sizeof engine,
                                          .max_batch = 1,
                                          .context_length = settings->context_length,
                                          .max_pixels = settings->max_pixels,
                                          .kv_cache = settings->kv_cache };
    glm4v_error err = { 0 };
    char *key = g_strdup_printf("%s\n%s\n%s\n%u\n%" G_GUINT64_FORMAT, model.quantization,
                                model.device ? model.device : "", engine.kv_cache,
                                engine.context_length, engine.max_pixels);
    const bool same = s->opened && !strcmp(s->opened, key);
    if (same) {
        g_free(key);
        return CLI_OK;
    }
    close_engine(s);
    s->opened = key;
    const int status = cli_model_open(&s->model, s->dir, &model, GLM4V_LOG_WARNING);
    if (status)
        return status;
    if (!glm4v_engine_open(&s->engine, s->model, &engine, &err))
        return CLI_OK;
    cli_message("%s", err.msg);
    return CLI_MODEL;
}

static void tell_model(session *s, kind which, const cli_recorded_settings *settings,
                       const char *was, const char *is)
{
    GString *what = g_string_new(NULL);
    cli_differ(what, kinds[which], was, is);
    tell(s, which, settings->line, -1, what->str);
    g_string_free(what, TRUE);
}

/* Is the opened model what the settings say? Not so is told, and answers are derived all the
 * same. */
static void compare_model(session *s, const cli_recorded_settings *settings)
{
    const glm4v_model_info *info = glm4v_model_get_info(s->model);
    const cli_recorded_model *was = &settings->model;
    char forms[GLM4V_FORMS_SIZE];
    glm4v_contract_forms(forms, info);
    if (strcmp(was->quant, forms))
        tell_model(s, FORM, settings, was->quant, forms);
    if (strcmp(was->isa, info->isa))
        tell_model(s, LEVEL, settings, was->isa, info->isa);
    else if (strcmp(was->products, info->products))
        tell_model(s, LEVEL, settings, was->products, info->products);
}

/* Whether results of these settings can be derived. */
static bool use_settings(session *s, const cli_recorded_settings *settings, glm4v_error *err)
{
    glm4v_model_info info = { .struct_size = sizeof info };
    if (s->checked == settings)
        return s->derivable;
    s->checked = settings;
    s->derivable = false;
    if (!settings->genuine || !settings->has_model)
        return false;
    if (!*settings->model.hash) {
        tell(s, MODEL, settings->line, -1, "a server answered, and did not say what its model is");
        return false;
    }
    if (glm4v_model_inspect(s->dir, NULL, &info, err)) {
        cli_message("%s", err->msg);
        s->status = CLI_MODEL;
        return false;
    }
    if (strcmp(info.hash, settings->model.hash)) {
        char *was = g_strdup_printf("%s %s", settings->model.name, settings->model.hash);
        char *is = g_strdup_printf("%s %s", info.name, info.hash);
        tell_model(s, MODEL, settings, was, is);
        g_free(was);
        g_free(is);
        return false;
    }
    s->status = open_engine(s, settings);
    if (s->status) {
        err->code = GLM4V_ERR_DEVICE;
        return false;
    }
    compare_model(s, settings);
    s->derivable = true;
    return true;
}

/* ---- one result ---- */

typedef struct {
    const cli_recorded_settings *settings;
    const cli_recorded_result *recorded;
    GString *differences;
} subject;

static void compare(void *user, const glm4v_result *answer)
{
    const subject *about = user;
    cli_compare_answer(about->differences, about->settings, about->recorded, answer);
}

/* What was asked, its placeholders replaced; NULL: the settings have no such prompt. */
static char *prompt_of(const cli_recorded_settings *settings, const cli_recorded_result *r)
{
    const char *prompt = json_string_value(json_array_get(settings->prompts, r->prompt_number));
    if (!prompt || !settings->placeholders)
        return g_strdup(prompt);
    return glm4v_contract_expand(prompt, &(glm4v_placeholders) { .time = r->running_time,
                                                                 .frame = r->frame_number,
                                                                 .label = r->label,
                                                                 .camera = settings->camera });
}

static void free_images(glm4v_image *images, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free((void *)images[i].data);
    free(images);
}

/* The pictures that were asked about, or NULL with what is missing. */
static glm4v_image *load_images(session *s, const cli_recorded_result *r, GString *missing)
{
    const size_t n = json_array_size(r->pictures);
    glm4v_image *images = cli_alloc(n, sizeof *images);
    glm4v_error err = { 0 };
    if (!images || !n) {
        g_string_append(missing, n ? "no memory" : "it has no digest: its frame stayed on a GPU");
        free(images);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        const char *digest = json_string_value(json_array_get(r->pictures, i));
        if (!cli_archive_load(s->archive, digest, &images[i], &err)) {
            if (err.code)
                g_string_append(missing, err.msg);
            else
                g_string_append_printf(missing, "none has the digest %s", digest);
            free_images(images, i);
            return NULL;
        }
        if (r->times)
            images[i].timestamp = (double)json_integer_value(json_array_get(r->times, i)) / 1e9;
    }
    return images;
}

static void ask(session *s, const subject *about, const char *prompt, const glm4v_image *images)
{
    const cli_recorded_result *r = about->recorded;
    const uint32_t n = (uint32_t)json_array_size(r->pictures);
    glm4v_error err = { 0 };
    glm4v_task task = about->settings->task;
    task.prompt = prompt;
    if (r->times) {
        task.frames = images;
        task.n_frames = n;
    } else {
        task.images = images;
        task.n_images = n;
    }
    if (cli_ask(s->engine, &task, compare, (void *)about, &err))
        cli_differ(about->differences, "status", r->status, err.msg);
    if (cli_interrupted())
        return;
    if (about->differences->len)
        tell(s, ANSWER, r->line, r->id, about->differences->str);
    else
        s->equal++;
}

static void derive(session *s, const cli_recorded_settings *settings, const cli_recorded_result *r)
{
    const subject about = { settings, r, g_string_new(NULL) };
    char *prompt = prompt_of(settings, r);
    glm4v_image *images = NULL;
    if (prompt)
        cli_compare_settings(about.differences, settings, r, prompt);
    else
        g_string_append(about.differences, "they have no prompt of that number");
    if (about.differences->len)
        tell(s, SETTINGS, r->line, r->id, about.differences->str);
    else if (!(images = load_images(s, r, about.differences)))
        tell(s, PICTURE, r->line, r->id, about.differences->str);
    else
        ask(s, &about, prompt, images);
    if (images)
        free_images(images, json_array_size(r->pictures));
    g_free(prompt);
    g_string_free(about.differences, TRUE);
}

/* ---- results without an answer of their own ---- */

static char *judgement(const json_t *root)
{
    const char *choice = json_string_value(json_object_get(root, "choice"));
    const char *verdict = json_string_value(json_object_get(root, "verdict"));
    return g_strdup_printf("%s %s", choice ? choice : "no choice",
                           verdict ? verdict : "no verdict");
}

static void remember(session *s, const cli_recorded_result *r)
{
    int64_t *id = g_new(int64_t, 1);
    *id = r->id;
    g_hash_table_replace(s->answers, id, judgement(r->root));
}

/* It repeats the answer that it refers to. */
static void check_unchanged(session *s, const cli_recorded_result *r, GString *differences)
{
    const int64_t id = json_integer_value(json_object_get(r->root, "refers-to"));
    const char *was = g_hash_table_lookup(s->answers, &id);
    char *is = judgement(r->root);
    if (!was)
        g_string_append_printf(differences, "result %lld, to which it refers, is not here",
                               (long long)id);
    else if (strcmp(was, is))
        cli_differ(differences, "choice and verdict", is, was);
    g_free(is);
}

static void check_unanswered(session *s, const cli_recorded_settings *settings,
                             const cli_recorded_result *r)
{
    GString *differences = g_string_new(NULL);
    if (!strcmp(r->status, "unchanged"))
        check_unchanged(s, r, differences);
    else
        cli_compare_verdict(differences, settings, r);
    if (differences->len)
        tell(s, ANSWER, r->line, r->id, differences->str);
    else
        s->unanswered++;
    g_string_free(differences, TRUE);
}

/* ---- the second pass ---- */

static int skip_settings(void *user, cli_recorded_settings *settings, glm4v_error *err)
{
    return 0;
}

static int check_result(void *user, const cli_recorded_result *r, glm4v_error *err)
{
    session *s = user;
    const cli_recorded_settings *settings = g_hash_table_lookup(s->settings, r->settings);
    const bool answered = !strcmp(r->status, "ok");
    s->results++;
    if (!settings)
        tell(s, SETTINGS, r->line, r->id, "the object that it names is not in this file");
    else if (!answered)
        check_unanswered(s, settings, r);
    else if (use_settings(s, settings, err))
        derive(s, settings, r);
    if (answered)
        remember(s, r);
    if (cli_interrupted() && !err->code)
        err->code = GLM4V_ERR_CANCELED;
    return err->code;
}

static int finish(const session *s)
{
    int kinds_told = 0;
    printf("%llu results: %llu derived again, byte for byte", (unsigned long long)s->results,
           (unsigned long long)s->equal);
    if (s->unanswered)
        printf("; %llu without an answer", (unsigned long long)s->unanswered);
    for (int i = 0; i < N_KINDS; i++) {
        if (s->differences[i])
            printf("%s %s %llu", kinds_told++ ? "," : "; differences:", kinds[i],
                   (unsigned long long)s->differences[i]);
    }
    putchar('\n');
    const bool all = s->equal + s->unanswered == s->results;
    return all && !kinds_told ? CLI_OK : CLI_DIFFERS;
}

static int replay(session *s, char **pictures, int n_pictures)
{
    const cli_record_visitor collect = { keep_settings, want_pictures, s };
    const cli_record_visitor check = { skip_settings, check_result, s };
    glm4v_error err = { 0 };
    int rc = cli_record_read(s->path, &collect, &err);
    if (!rc)
        rc = cli_archive_read(s->archive, pictures, n_pictures, &err);
    if (!rc)
        rc = cli_record_read(s->path, &check, &err);
    cli_progress_clear();
    if (!rc)
        return finish(s);
    if (!cli_interrupted() && !s->status)
        cli_message("%s", err.msg);
    return s->status ? s->status : CLI_INPUT;
}

static void free_settings(gpointer settings)
{
    cli_recorded_settings_free(settings);
}

static int run(const options *o, const char *dir, char **operands, int n)
{
    session s = { .options = o, .dir = dir, .path = operands[0], .archive = cli_archive_new() };
    s.settings = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_settings);
    s.answers = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    cli_media_init();
    cli_catch_signals();
    const int status = replay(&s, operands + 1, n - 1);
    close_engine(&s);
    cli_archive_free(&s.archive);
    g_hash_table_unref(s.answers);
    g_hash_table_unref(s.settings);
    const int finished = cli_finish(status);
    cli_end_if_interrupted();
    return finished;
}

int cli_replay(int argc, char **argv)
{
    options set = { 0 };
    const cli_option table[] = {
        CLI_MODEL_OPTION(set.model),
        CLI_PLACE_OPTIONS(set.place),
        { "quantization", "Q", CLI_STRING, &set.quantization, 0, 0,
          "form of the weights in memory; default: that of the results" },
        CLI_THREADS_OPTION(set.threads),
    };
    const cli_command command = {
        .name = "replay",
        .synopsis = "[OPTIONS] RESULTS.jsonl PICTURE|FOLDER...",
        .about = "Derives results again from the pictures that they were about, byte for byte, or "
                 "says what\n"
                 "differs: model, level, form, settings, picture or answer. Results are the lines "
                 "of the\n"
                 "element's pad json or of describe --json, pictures lossless files, of which also "
                 "parts\n"
                 "are found (roi). See docs/replay.md.",
        .examples = "glm4v describe --json pictures/ > results.jsonl\n"
                    "glm4v replay results.jsonl pictures/\n"
                    "GLM4V_CPU=avx2 glm4v replay --model ~/models/GLM-OCR --device cpu "
                    "results.jsonl archive/",
        .options = table,
        .n_options = sizeof table / sizeof *table,
    };
    int n, status;
    if (!cli_parse(&command, argc, argv, &n, &status))
        return status;
    if (n < 2)
        return cli_usage_error(&command, "name a file of results, and pictures or folders of them");
    const char *dir = cli_model_dir(set.model);
    if (!dir)
        return cli_usage_error(&command,
                               "no model was found: name one with --model or GLM4V_MODEL");
    return run(&set, dir, argv, n);
}
