/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* glm4v inspect: what a model directory holds, whether it is sound, what memory it takes. Loads no
 * weights. */
#include <glib.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "json_line.h"
#include "place.h"

typedef struct {
    cli_place place;
    const char *kv_cache;
    const char *quantization; /* of the plan; NULL: as stored */
    uint32_t frame[2];
    uint32_t batch, context; /* 0 = the engine's default */
    uint64_t max_pixels;     /* 0 = the engine's default */
    bool json, json_schema;
    bool config_only; /* a config.json alone is named: sizes and memory follow from it */
} settings;

#define AS_STORED "as stored"
/* Rows of the table beside glm4v_quantization_choices(). */
static const char *const more[] = { AS_STORED, "fp32", "fp8", "fp8-dynamic" };
enum { N_MORE = sizeof more / sizeof *more, MAX_ROWS = 32 };

typedef struct {
    const char *quantization;
    int rc; /* of the estimate: a model cannot be held in every form */
    glm4v_memory memory;
    glm4v_error err;
} estimate;

static const char *const part_names[GLM4V_N_PARTS] = { "text", "vision", "embedding", "lm-head" };

static void print_row(const char *name, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void print_row(const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%-15s", name);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static bool fits(const estimate *e)
{
    return !e->rc && !cli_place_missing(&e->memory);
}

/* The most memory-hungry row that fits; NULL if none does. */
static const estimate *largest_that_fits(const estimate *estimates, int n)
{
    const estimate *best = NULL;
    for (int i = 0; i < n; i++)
        if (fits(&estimates[i]) && (!best || estimates[i].memory.peak > best->memory.peak))
            best = &estimates[i];
    return best;
}

/* Weights are no smaller than this: what else can be made smaller. */
static void print_advice(const estimate *estimates, int n)
{
    char text[2][32];
    const estimate *best = largest_that_fits(estimates, n), *least = NULL;
    if (fits(&estimates[0]))
        printf("\nIt fits as stored.\n");
    else if (best)
        printf("\nThe largest that fits: --quantization %s\n", best->quantization);
    for (int i = 0; i < n; i++)
        if (!estimates[i].rc && (!least || estimates[i].memory.total < least->memory.total))
            least = &estimates[i];
    if (best || !least)
        return;
    const glm4v_memory *m = &least->memory;
    printf("\nNone fits: the smallest, --quantization %s, needs %s more%s.\n", least->quantization,
           cli_bytes(text[0], cli_place_missing(m)),
           cli_place_missing(m) > m->kv_cache + m->scratch
               ? ""
               : "; a smaller --batch, --context or --max-pixels makes it fit");
    printf("KV cache and scratch are %s of it.\n", cli_bytes(text[1], m->kv_cache + m->scratch));
}

static void print_memory(const estimate *estimates, int n, const settings *set)
{
    char text[5][32];
    const glm4v_memory *first = &estimates[0].memory;
    const uint64_t room = first->n_devices ? first->device[0].room : UINT64_MAX;
    printf("\nmemory for %ux%u frames, %s available on %s\n%-50s %10s %10s %10s %10s  fits\n",
           set->frame[0], set->frame[1], room == UINT64_MAX ? "unknown" : cli_bytes(text[0], room),
           first->n_devices ? first->device[0].name : "the device", "quantization", "weights",
           "kv cache", "scratch", "total");
    for (int i = 0; i < n; i++) {
        const glm4v_memory *m = &estimates[i].memory;
        if (estimates[i].rc)
            printf("%-50s %s\n", estimates[i].quantization, estimates[i].err.msg);
        else
            printf("%-50s %10s %10s %10s %10s  %s\n", estimates[i].quantization,
                   cli_bytes(text[1], m->weights), cli_bytes(text[2], m->kv_cache),
                   cli_bytes(text[3], m->scratch), cli_bytes(text[4], m->total),
                   fits(&estimates[i]) ? "yes" : "no");
    }
    print_advice(estimates, n);
}

/* Of the form that was asked for: the row behind the table. */
static void print_plan(const estimate *plan)
{
    printf("\nplan, %s\n", plan->quantization);
    if (plan->rc)
        printf("%s\n", plan->err.msg);
    else
        cli_place_print(&plan->memory);
}

static void print_plain(const char *dir, const glm4v_model_info *i, const estimate *estimates,
                        int n, const settings *set)
{
    char text[2][32];
    print_row("model", "%s", dir);
    if (set->config_only) /* the template is the tokenizer's matter */
        print_row("family", "%s", i->family);
    else
        print_row("family", "%s, chat template %s", i->family, i->chat_template);
    print_row("parameters", "%llu", (unsigned long long)i->n_parameters);
    if (set->config_only)
        print_row("files", "not checked: this is a configuration without weights");
    else
        print_row("files", "%u tensors in %u file%s, %s, mostly %s%s%s", i->n_tensors, i->n_shards,
                  i->n_shards == 1 ? "" : "s", cli_bytes(text[0], i->file_bytes), i->stored_form,
                  *i->stored_layout ? ", quantized as " : "", i->stored_layout);
    print_row("as stored", "text %s, vision %s, embedding %s, lm-head %s in memory",
              i->form[GLM4V_PART_TEXT], i->form[GLM4V_PART_VISION], i->form[GLM4V_PART_EMBEDDING],
              i->form[GLM4V_PART_LM_HEAD]);
    print_row("text", "%u layers, width %u, %u query and %u key heads of %u, ffn %u, vocabulary %u",
              i->n_layers, i->hidden_size, i->n_heads, i->n_kv_heads, i->head_dim, i->ffn_size,
              i->vocab_size);
    print_row("vision", "%u layers, width %u, %u heads, patches of %u, merged %ux%u",
              i->vision_layers, i->vision_hidden_size, i->vision_heads, i->patch_size,
              i->merge_size, i->merge_size);
    print_row("pictures", "%llu to %llu pixels after resizing", (unsigned long long)i->min_pixels,
              (unsigned long long)i->max_pixels);
    print_row("context", "%u tokens", i->context_length);
    if (!set->config_only)
        print_row("hash", "%s", i->hash);
    print_plan(&estimates[n]);
    print_memory(estimates, n, set);
    if (!set->config_only)
        printf("\nThe model directory is valid.\n");
}

static void json_sizes(glm4v_contract_json *json, const glm4v_model_info *i)
{
    glm4v_contract_json_open(json, "text");
    glm4v_contract_json_int(json, "layers", i->n_layers);
    glm4v_contract_json_int(json, "hidden_size", i->hidden_size);
    glm4v_contract_json_int(json, "heads", i->n_heads);
    glm4v_contract_json_int(json, "kv_heads", i->n_kv_heads);
    glm4v_contract_json_int(json, "head_dim", i->head_dim);
    glm4v_contract_json_int(json, "ffn_size", i->ffn_size);
    glm4v_contract_json_int(json, "vocab_size", i->vocab_size);
    glm4v_contract_json_int(json, "context_length", i->context_length);
    glm4v_contract_json_close(json);
    glm4v_contract_json_open(json, "vision");
    glm4v_contract_json_int(json, "layers", i->vision_layers);
    glm4v_contract_json_int(json, "hidden_size", i->vision_hidden_size);
    glm4v_contract_json_int(json, "heads", i->vision_heads);
    glm4v_contract_json_int(json, "patch_size", i->patch_size);
    glm4v_contract_json_int(json, "merge_size", i->merge_size);
    glm4v_contract_json_int(json, "min_pixels", i->min_pixels);
    glm4v_contract_json_int(json, "max_pixels", i->max_pixels);
    glm4v_contract_json_close(json);
}

static void json_memory(glm4v_contract_json *json, const estimate *e, const settings *set)
{
    const glm4v_memory *m = &e->memory;
    glm4v_contract_json_open(json, NULL);
    glm4v_contract_json_string(json, "quantization", e->quantization);
    glm4v_contract_json_int(json, "width", set->frame[0]);
    glm4v_contract_json_int(json, "height", set->frame[1]);
    if (e->rc) {
        glm4v_contract_json_string(json, "message", e->err.msg);
    } else {
        glm4v_contract_json_int(json, "weights", m->weights);
        glm4v_contract_json_int(json, "kv_cache", m->kv_cache);
        glm4v_contract_json_int(json, "scratch", m->scratch);
        glm4v_contract_json_int(json, "tables", m->tables);
        glm4v_contract_json_int(json, "total", m->total);
        glm4v_contract_json_int(json, "loading", m->loading);
        glm4v_contract_json_int(json, "peak", m->peak);
        glm4v_contract_json_bool(json, "fits", fits(e));
    }
    glm4v_contract_json_close(json);
}

static void json_plan(glm4v_contract_json *json, const estimate *plan)
{
    glm4v_contract_json_open(json, "plan");
    glm4v_contract_json_string(json, "quantization", plan->quantization);
    if (plan->rc)
        glm4v_contract_json_string(json, "message", plan->err.msg);
    else
        cli_place_json(json, &plan->memory);
    glm4v_contract_json_close(json);
}

static void print_json(const char *dir, const glm4v_model_info *i, const estimate *estimates, int n,
                       const settings *set)
{
    glm4v_contract_json json = cli_json_begin();
    glm4v_contract_json_int(&json, "version", 1);
    glm4v_contract_json_bool(&json, "valid", true);
    glm4v_contract_json_string(&json, "directory", dir);
    glm4v_contract_json_string(&json, "name", i->name);
    glm4v_contract_json_string(&json, "family", i->family);
    glm4v_contract_json_string(&json, "chat_template", i->chat_template);
    glm4v_contract_json_string(&json, "hash", i->hash);
    glm4v_contract_json_int(&json, "parameters", i->n_parameters);
    glm4v_contract_json_int(&json, "file_bytes", i->file_bytes);
    glm4v_contract_json_int(&json, "shards", i->n_shards);
    glm4v_contract_json_int(&json, "tensors", i->n_tensors);
    glm4v_contract_json_string(&json, "stored_form", i->stored_form);
    glm4v_contract_json_string(&json, "stored_layout", i->stored_layout);
    glm4v_contract_json_open(&json, "forms");
    for (int p = 0; p < GLM4V_N_PARTS; p++)
        glm4v_contract_json_string(&json, part_names[p], i->form[p]);
    glm4v_contract_json_close(&json);
    json_sizes(&json, i);
    glm4v_contract_json_array(&json, "memory");
    for (int f = 0; f < n; f++)
        json_memory(&json, &estimates[f], set);
    glm4v_contract_json_array_close(&json);
    json_plan(&json, &estimates[n]);
    cli_json_end(&json);
}

static int refuse(const char *dir, const glm4v_error *err, bool as_json)
{
    cli_message("%s", err->msg);
    if (as_json) {
        glm4v_contract_json json = cli_json_begin();
        glm4v_contract_json_int(&json, "version", 1);
        glm4v_contract_json_bool(&json, "valid", false);
        glm4v_contract_json_string(&json, "directory", dir);
        glm4v_contract_json_string(&json, "error", glm4v_error_name(err->code));
        glm4v_contract_json_string(&json, "message", err->msg);
        cli_json_end(&json);
    }
    return cli_finish(err->code == GLM4V_ERR_INVALID ? CLI_USAGE : CLI_MODEL);
}

static void add_row(estimate *e, const char *quantization, const char *dir, const settings *set)
{
    glm4v_model_options options = {
        .struct_size = sizeof options,
        .quantization = strcmp(quantization, AS_STORED) ? quantization : NULL,
        .random_weights = set->config_only,
    };
    const glm4v_engine_options engine = { .struct_size = sizeof engine,
                                          .max_batch = set->batch,
                                          .context_length = set->context,
                                          .max_pixels = set->max_pixels,
                                          .kv_cache = set->kv_cache };
    cli_place_set(&options, &set->place);
    e->quantization = quantization;
    e->rc =
        glm4v_model_estimate_memory(dir,
                                    &(glm4v_estimate_options) { .model = &options,
                                                                .engine = &engine,
                                                                .width = set->frame[0],
                                                                .height = set->frame[1],
                                                                .json_schema = set->json_schema },
                                    &e->memory, &e->err);
}

/* The largest first; what no model can be held in last. */
static int by_size(const void *a, const void *b)
{
    const estimate *x = a, *y = b;
    if (!x->rc != !y->rc)
        return x->rc ? 1 : -1;
    if (x->memory.total == y->memory.total)
        return strcmp(x->quantization, y->quantization);
    return x->memory.total < y->memory.total ? 1 : -1;
}

static bool is_file(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

static int run(const char *dir, settings *set)
{
    glm4v_model_info info = { 0 };
    glm4v_error err = { 0 };
    estimate estimates[MAX_ROWS + 1] = { 0 }; /* behind the table: the plan */
    set->config_only = is_file(dir);
    glm4v_model_options options = { .struct_size = sizeof options,
                                    .random_weights = set->config_only };
    int n = 0;
    cli_place_set(&options, &set->place);
    if (glm4v_model_inspect(dir, &options, &info, &err))
        return refuse(dir, &err, set->json);
    for (; n < N_MORE; n++)
        add_row(&estimates[n], more[n], dir, set);
    for (const char *const *q = glm4v_quantization_choices(); *q && n < MAX_ROWS; q++, n++)
        add_row(&estimates[n], *q, dir, set);
    qsort(estimates + 1, n - 1, sizeof *estimates, by_size); /* as stored stands before all */
    add_row(&estimates[n], set->quantization ? set->quantization : AS_STORED, dir, set);
    if (estimates[n].rc == GLM4V_ERR_INVALID)
        return refuse(dir, &estimates[n].err, set->json);
    (set->json ? print_json : print_plain)(dir, &info, estimates, n, set);
    return cli_finish(CLI_OK);
}

int cli_inspect(int argc, char **argv)
{
    settings set = { .frame = { 448, 448 } };
    const cli_option options[] = {
        { "frame", "WxH", CLI_SIZE, set.frame, 1, GLM4V_MAX_SIDE,
          "picture size for which memory is estimated; default 448x448" },
        { "json-schema", NULL, CLI_FLAG, &set.json_schema, 0, 0,
          "count what requests with a JSON schema take at most, in scratch" },
        { "batch", "N", CLI_COUNT, &set.batch, 1, GLM4V_MAX_BATCH,
          "requests at a time; default " G_STRINGIFY(GLM4V_DEFAULT_BATCH) },
        { "context", "N", CLI_COUNT, &set.context, 16, 1 << 24,
          "tokens of each, pictures included; default " G_STRINGIFY(
              GLM4V_DEFAULT_CONTEXT) ", or the model's own" },
        { "max-pixels", "N", CLI_WIDE, &set.max_pixels, 1, 1 << 30,
          "upper bound of a picture after resizing; default the model's own" },
        CLI_PLACE_OPTIONS(set.place),
        CLI_KV_OPTION(set.kv_cache),
        { "quantization", "Q", CLI_STRING, &set.quantization, 0, 0,
          "form of the weights for which the plan is made; default as stored" },
        { "json", NULL, CLI_FLAG, &set.json, 0, 0, "one JSON object" },
    };
    const cli_command command = {
        .name = "inspect",
        .synopsis = "[OPTIONS] [DIR|config.json]",
        .about = "Prints what a model directory contains and how much memory it needs in each "
                 "quantization, the plan\n"
                 "of what would lie on which device, and checks every header, size and name in it "
                 "without loading\n"
                 "weights. Without DIR: $GLM4V_MODEL, else the model that comes with the program. "
                 "For a config.json\n"
                 "alone: the memory that the model will need once it is downloaded.",
        .examples = "glm4v inspect\n"
                    "glm4v inspect ~/models/GLM-4.1V-9B-Thinking --frame 1280x720 --batch 1\n"
                    "glm4v inspect --device cuda:0,cpu --gpu-memory-limit 6GiB --quantization int4 "
                    "DIR\n"
                    "glm4v inspect --json DIR | python3 -m json.tool",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int n_dirs, status;
    if (!cli_parse(&command, argc, argv, &n_dirs, &status))
        return status;
    if (n_dirs > 1)
        return cli_usage_error(&command, "one directory at a time");
    const char *dir = cli_model_dir(n_dirs ? argv[0] : NULL);
    if (!dir)
        return cli_usage_error(&command, "no model was found: name a directory");
    return run(dir, &set);
}
