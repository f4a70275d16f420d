/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* glm4v bench: where the time of a caption goes, and how far decode is from what the memory can
 * give. Every figure is the median of --runs runs with its spread; the first run is thrown away. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "bandwidth.h"
#include "cli.h"
#include "json_line.h"
#include "place.h"

typedef struct {
    const char *model, *config, *quantization, *tune;
    cli_place place;
    const char *kv_cache;
    uint32_t threads, prompt_tokens, tokens, batch, in_flight, runs;
    uint64_t seed;
    uint32_t frame[2];
    bool random_weights, json;
} settings;

/* What a run measures; index of stages[]. */
enum { PREPROCESS, VISION, PREFILL, FIRST_TOKEN, DECODE, TOTAL, N_STAGES };
static const char *const stage_names[N_STAGES] = { "preprocess",  "vision", "prefill",
                                                   "first_token", "decode", "total" };

typedef struct {
    double ms[N_STAGES]; /* mean over the batch */
    double decode_rate;  /* tokens a second, all requests together */
    uint32_t prompt_tokens, vision_tokens, cached_tokens, output_tokens; /* of one request */
    uint32_t image_width, image_height;
    double step_ms; /* one decode step */
} run_result;

typedef struct {
    double median, min, max;
} spread;

typedef struct {
    const settings *set;
    const char *dir;
    const glm4v_model_info *info;
    glm4v_device before[GLM4V_MAX_DEVICES]; /* those of the plan, before loading */
    uint64_t planned[GLM4V_MAX_DEVICES];    /* what it gives each of them, bytes */
    uint32_t n_before;
    glm4v_memory plan; /* devices in the order of the layers */
    glm4v_engine *engine;
    glm4v_engine_stats start; /* of the measured runs */
    uint8_t *rgb;
    char *prompt;
    double load_ms;
    run_result *runs;
    double *column; /* [runs], for medians */
} bench;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A picture with slopes, edges and noise, the same for the same seed. */
static void draw(uint8_t *rgb, uint32_t width, uint32_t height, uint64_t seed)
{
    uint32_t state = (uint32_t)seed * 2654435761u + 12345;
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            for (uint32_t c = 0; c < 3; c++) {
                state = state * 1664525u + 1013904223u;
                uint32_t v =
                    (x * (c + 1) + y * 2) / 4 + ((x / 32 + y / 32) % 2) * 64 + (state >> 28);
                rgb[((size_t)y * width + x) * GLM4V_CHANNELS + c] = (uint8_t)v;
            }
}

/* ------------------------------------------------------------------ one run ------------------- */

static void add_timings(run_result *r, const glm4v_result *result, double share)
{
    const glm4v_timings *t = &result->timings;
    const uint64_t ns[N_STAGES] = { t->preprocess,  t->vision, t->prefill,
                                    t->first_token, t->decode, t->total };
    for (int s = 0; s < N_STAGES; s++)
        r->ms[s] += (double)ns[s] / 1e6 * share;
    r->prompt_tokens = result->prompt_tokens;
    r->vision_tokens = result->vision_tokens;
    r->cached_tokens = result->cached_tokens;
    r->output_tokens = result->output_tokens;
    r->image_width = result->image_width;
    r->image_height = result->image_height;
    /* Steps after the first token: the step that produces the stop token is one more. */
    uint32_t steps = result->output_tokens - (result->finish == GLM4V_FINISH_STOP ? 0 : 1);
    if (result->output_tokens && steps) {
        double step = (double)t->decode / 1e6 / steps;
        r->step_ms += step * share;
        r->decode_rate += step > 0 ? 1e3 / step : 0;
    }
}

typedef struct {
    run_result *result;
    double share;
    int rc;
    glm4v_error err;
} sink;

static void on_done(void *user, const glm4v_result *result)
{
    sink *s = user; /* all requests end on the scheduler thread, one after another */
    if (result->status && !s->rc) {
        s->rc = result->status;
        snprintf(s->err.msg, sizeof s->err.msg, "%s", result->message);
    } else if (!result->status) {
        add_timings(s->result, result, s->share);
    }
}

/* Submit the whole batch at once, wait for all. */
static int run_once(const bench *b, const char *prompt, uint32_t batch, uint32_t tokens,
                    run_result *out, glm4v_error *err)
{
    glm4v_request *requests[GLM4V_MAX_BATCH] = { NULL };
    glm4v_image image = { .data = b->rgb,
                          .width = b->set->frame[0],
                          .height = b->set->frame[1],
                          .stride = GLM4V_CHANNELS * b->set->frame[0] };
    sink s = { .result = out, .share = 1.0 / batch };
    *out = (run_result) { 0 };
    glm4v_task task = { .struct_size = sizeof task,
                        .prompt = prompt,
                        .images = &image,
                        .n_images = 1,
                        .max_tokens = tokens,
                        .seed = b->set->seed,
                        .speculation = GLM4V_SPECULATION_OFF, /* figures are of single tokens */
                        .on_done = on_done,
                        .user = &s };
    int rc = 0;
    for (uint32_t i = 0; i < batch && !rc; i++) {
        task.stream = i;
        rc = glm4v_engine_submit(b->engine, &task, &requests[i], err);
    }
    for (uint32_t i = 0; i < batch && requests[i]; i++) {
        glm4v_request_wait(requests[i], UINT64_MAX);
        glm4v_request_unref(&requests[i]);
    }
    if (!rc && s.rc) {
        rc = s.rc;
        *err = s.err;
    }
    return rc;
}

/* ------------------------------------------------------------------ prompt -------------------- */

static void fill_prompt(char *prompt, size_t words)
{
    static const char word[] = "image ";
    for (size_t i = 0; i < words; i++)
        memcpy(prompt + i * (sizeof word - 1), word, sizeof word - 1);
    prompt[words ? words * (sizeof word - 1) - 1 : 0] = 0;
}

/* Text tokens that a prompt of so many words makes: all in, less the picture. */
static int count_tokens(bench *b, size_t words, uint32_t *tokens, glm4v_error *err)
{
    run_result r;
    fill_prompt(b->prompt, words);
    int rc = run_once(b, b->prompt, 1, 1, &r, err);
    *tokens = r.prompt_tokens - r.vision_tokens;
    return rc;
}

/* Find how many words make --prompt-tokens tokens around the picture; two probes give the line
 * through them. The probes warm the engine up as well. */
static int make_prompt(bench *b, glm4v_error *err)
{
    uint32_t one, many;
    const uint32_t want = b->set->prompt_tokens;
    b->prompt = cli_alloc(want + 16, 8);
    if (!b->prompt) {
        snprintf(err->msg, sizeof err->msg, "no memory for a prompt of %u tokens", want);
        return GLM4V_ERR_NOMEM;
    }
    int rc = count_tokens(b, 1, &one, err);
    if (!rc)
        rc = count_tokens(b, 9, &many, err);
    if (rc)
        return rc;
    double slope = (many - one) / 8.0;
    double words = 1 + (slope > 0 && want > one ? (want - one) / slope : 0);
    fill_prompt(b->prompt, (size_t)fmin(fmax(words, 1), want + 1.0));
    return 0;
}

/* ------------------------------------------------------------------ figures ------------------- */

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static spread spread_of(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return (spread) { .median = (values[(n - 1) / 2] + values[n / 2]) / 2,
                      .min = values[0],
                      .max = values[n - 1] };
}

static spread stage_spread(const bench *b, int stage)
{
    for (size_t i = 0; i < b->set->runs; i++)
        b->column[i] = b->runs[i].ms[stage];
    return spread_of(b->column, b->set->runs);
}

static spread step_spread(const bench *b)
{
    for (size_t i = 0; i < b->set->runs; i++)
        b->column[i] = b->runs[i].step_ms;
    return spread_of(b->column, b->set->runs);
}

static spread rate_spread(const bench *b)
{
    for (size_t i = 0; i < b->set->runs; i++)
        b->column[i] = b->runs[i].decode_rate;
    return spread_of(b->column, b->set->runs);
}

/* Multiplications of one token in the text model's linear layers. */
static double text_products(const glm4v_model_info *i)
{
    double d = i->hidden_size, q = 1.0 * i->n_heads * i->head_dim,
           kv = 1.0 * i->n_kv_heads * i->head_dim;
    return i->n_layers * (d * (q + 2 * kv) + q * d + 3 * d * i->ffn_size);
}

/* Attention looks back over the tokens before: half of them on average during prefill. */
static double prefill_tflop(const glm4v_model_info *i, double tokens)
{
    double attention = 2 * tokens * tokens * i->n_heads * i->head_dim * i->n_layers / 2;
    double head = 1.0 * i->vocab_size * i->hidden_size; /* of the last token alone */
    return 2 * (text_products(i) * tokens + attention + head) / 1e12;
}

/* Multiply-adds of the tower, twice. Its attention looks at all patches of the picture. */
static double vision_tflop(const glm4v_model_info *i, double tokens)
{
    double patches = tokens * i->merge_size * i->merge_size;
    double attention = 2 * patches * patches * i->vision_hidden_size * i->vision_layers;
    return 2 * ((double)i->vision_products * tokens + attention) / 1e12;
}

/* Weights and cached keys and values that one decode step reads, bytes. */
static double step_bytes(const bench *b, const run_result *r)
{
    const glm4v_model_info *i = b->info;
    double context = r->prompt_tokens + r->output_tokens / 2.0;
    double element = strcmp(i->form[GLM4V_PART_TEXT], "fp32") ? 2 : 4; /* of the cache */
    double kv = 2.0 * context * i->n_kv_heads * i->head_dim * i->n_layers * element * b->set->batch;
    return (double)i->step_bytes + kv;
}

/* A line "Name: value" of a file under /proc; "" if it is not there. */
static void proc_value(char *value, size_t size, const char *path, const char *name)
{
    char line[256];
    FILE *file = fopen(path, "r");
    value[0] = 0;
    while (file && !value[0] && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, strlen(name)))
            continue;
        colon++;
        colon += strspn(colon, " \t");
        colon[strcspn(colon, "\n")] = 0;
        snprintf(value, size, "%s", colon);
    }
    if (file)
        fclose(file);
}

static uint64_t peak_memory(void)
{
    char text[256];
    unsigned long long kib = 0;
    proc_value(text, sizeof text, "/proc/self/status", "VmHWM");
    return sscanf(text, "%llu", &kib) == 1 ? kib * 1024 : 0;
}

/* ------------------------------------------------------------------ report -------------------- */

/* One device of the plan, after the runs. */
typedef struct {
    glm4v_device device;
    double bandwidth; /* bytes a second */
    double products;  /* TFLOP/s of products of bf16; 0: unknown */
    uint64_t taken;   /* memory that was free before; of a GPU */
    uint64_t planned; /* of it, by the plan */
    double busy;      /* share of the time in which decode steps were under way; 0: unknown */
} device_report;

typedef struct {
    char cpu[256];
    device_report device[GLM4V_MAX_DEVICES];
    uint32_t n_devices;
    double bandwidth; /* of the device, bytes a second; 0: there are several */
    double products;  /* likewise, TFLOP/s */
    double step_rate; /* bytes a second that decode reads */
    double vision_tflops, prefill_tflops;
    uint64_t peak_memory;
    spread stage[N_STAGES], step, rate;
    const run_result *last;
} report;

/* A GPU's memory is taken when the engine opens and kept: what it has less free than before is the
 * most that was taken. */
static int look_at_device(device_report *d, const glm4v_device *before, uint32_t threads,
                          glm4v_error *err)
{
    int rc = glm4v_device_examine(before->name, &d->device, err);
    if (rc)
        return rc;
    if (!*d->device.gpu) {
        d->bandwidth = cli_read_bandwidth(threads ? (int)threads : cli_cores());
        return 0;
    }
    if (before->available > d->device.available)
        d->taken = before->available - d->device.available;
    glm4v_device_rates rates = { 0 };
    rc = glm4v_device_measure(before->name, &rates, err);
    d->bandwidth = rates.read_rate;
    d->products = rates.product_rate / 1e12;
    return rc;
}

/* Stages may share a device. */
static void look_at_busy(const bench *b, report *r)
{
    glm4v_engine_stats now = { .struct_size = sizeof now };
    if (glm4v_engine_get_stats(b->engine, &now, NULL) || now.decode_time <= b->start.decode_time)
        return;
    const double time = (double)(now.decode_time - b->start.decode_time);
    for (uint32_t i = 0; i < b->plan.n_devices; i++)
        for (uint32_t k = 0; k < r->n_devices; k++)
            if (!strcmp(b->plan.device[i].name, r->device[k].device.name))
                r->device[k].busy += (double)(now.stage_busy[i] - b->start.stage_busy[i]) / time;
}

static int look_at_devices(const bench *b, report *r, glm4v_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; !rc && i < b->n_before; i++) {
        r->device[i].planned = b->planned[i];
        rc = look_at_device(&r->device[r->n_devices++], &b->before[i], b->set->threads, err);
    }
    r->bandwidth = r->n_devices == 1 ? r->device[0].bandwidth : 0;
    r->products = r->n_devices == 1 ? r->device[0].products : 0;
    if (!rc)
        look_at_busy(b, r);
    return rc;
}

static double rate_of(double work, double ms)
{
    return ms > 0 ? work / (ms / 1e3) : 0;
}

static void make_report(const bench *b, report *r)
{
    proc_value(r->cpu, sizeof r->cpu, "/proc/cpuinfo", "model name");
    for (int s = 0; s < N_STAGES; s++)
        r->stage[s] = stage_spread(b, s);
    r->step = step_spread(b);
    r->rate = rate_spread(b);
    r->last = &b->runs[b->set->runs - 1];
    double tokens = r->last->prompt_tokens - r->last->cached_tokens;
    r->prefill_tflops = rate_of(prefill_tflop(b->info, tokens), r->stage[PREFILL].median);
    r->vision_tflops =
        rate_of(vision_tflop(b->info, r->last->vision_tokens), r->stage[VISION].median);
    r->step_rate = rate_of(step_bytes(b, r->last), r->step.median);
}

static double percent_of_measured(const report *r)
{
    return r->bandwidth > 0 ? 100 * r->step_rate / r->bandwidth : 0;
}

static void print_device(const device_report *d)
{
    char text[3][32];
    if (!*d->device.gpu)
        return;
    printf(
        "device      %s, %s, compute capability %u.%u, %s, of which %s were taken at most, %s by "
        "the plan\n",
        d->device.name, d->device.gpu, d->device.compute_major, d->device.compute_minor,
        cli_bytes(text[0], d->device.memory), cli_bytes(text[1], d->taken),
        cli_bytes(text[2], d->planned));
}

static void print_one_of_several(const device_report *d)
{
    printf("            %s: %.2f GB/s", d->device.name, d->bandwidth / 1e9);
    if (d->products > 0)
        printf(" and %.1f TFLOP/s of bf16", d->products);
    printf(" measured in this run");
    if (d->busy > 0)
        printf(", busy %.0f %% of the time of decode", 100 * d->busy);
    putchar('\n');
}

static void print_products(const char *stage, double tflops, const report *r)
{
    printf("%-11s %.3f TFLOP/s", stage, tflops);
    if (r->products > 0)
        printf(", %.0f %% of %.1f TFLOP/s of bf16 measured in this run", 100 * tflops / r->products,
               r->products);
    putchar('\n');
}

static void print_rates(const report *r)
{
    putchar('\n');
    print_products("vision", r->vision_tflops, r);
    print_products("prefill", r->prefill_tflops, r);
    printf("decode      %.3f ms a token, %.1f tokens/s in all\n", r->step.median, r->rate.median);
    printf("            reads %.2f GB/s", r->step_rate / 1e9);
    if (r->n_devices == 1)
        printf(", %.0f %% of %.2f GB/s measured in this run", percent_of_measured(r),
               r->bandwidth / 1e9);
    putchar('\n');
    for (uint32_t i = 0; r->n_devices > 1 && i < r->n_devices; i++)
        print_one_of_several(&r->device[i]);
}

static void print_plain(const bench *b, const report *r)
{
    char text[2][32];
    printf("model       %s, text %s, vision %s, %s%s\n", b->info->name,
           b->info->form[GLM4V_PART_TEXT], b->info->form[GLM4V_PART_VISION], b->info->isa,
           b->set->random_weights ? ", random weights" : "");
    printf("machine     %s, %d cores, glm4v %s\n", r->cpu, cli_cores(), glm4v_version());
    for (uint32_t i = 0; i < r->n_devices; i++)
        print_device(&r->device[i]);
    if (*b->info->products)
        printf("products    table %s\n", b->info->products);
    printf("picture     %ux%u -> %ux%u, %u tokens; prompt %u tokens in all, %u cached; answer %u; "
           "batch %u\n\n",
           b->set->frame[0], b->set->frame[1], r->last->image_width, r->last->image_height,
           r->last->vision_tokens, r->last->prompt_tokens, r->last->cached_tokens,
           r->last->output_tokens, b->set->batch);
    printf("load        %9.2f ms\n%-11s %12s %10s %10s\n", b->load_ms, "stage", "median ms", "min",
           "max");
    for (int s = 0; s < N_STAGES; s++)
        printf("%-11s %12.2f %10.2f %10.2f\n", stage_names[s], r->stage[s].median, r->stage[s].min,
               r->stage[s].max);
    print_rates(r);
    printf("captions    %.2f a second\n", rate_of(b->set->batch, r->stage[TOTAL].median));
    printf("memory      %s at most (host), weights %s in files\n",
           cli_bytes(text[0], r->peak_memory), cli_bytes(text[1], b->info->file_bytes));
}

static void json_spread(glm4v_contract_json *json, const char *key, const spread *s)
{
    glm4v_contract_json_open(json, key);
    cli_json_figure(json, "median", s->median);
    cli_json_figure(json, "min", s->min);
    cli_json_figure(json, "max", s->max);
    glm4v_contract_json_close(json);
}

static void json_devices(glm4v_contract_json *json, const report *r)
{
    glm4v_contract_json_array(json, "devices");
    for (uint32_t i = 0; i < r->n_devices; i++) {
        const device_report *d = &r->device[i];
        glm4v_contract_json_open(json, NULL);
        glm4v_contract_json_string(json, "device", d->device.name);
        if (*d->device.gpu) {
            cli_place_json_gpu(json, &d->device);
            glm4v_contract_json_int(json, "peak", d->taken);
            glm4v_contract_json_int(json, "planned", d->planned);
        }
        glm4v_contract_json_int(json, "memory", d->device.memory);
        cli_json_figure(json, "measured_gb_per_s", d->bandwidth / 1e9);
        if (d->products > 0)
            cli_json_figure(json, "measured_tflops", d->products);
        if (d->busy > 0)
            cli_json_figure(json, "decode_busy", d->busy);
        glm4v_contract_json_close(json);
    }
    glm4v_contract_json_array_close(json);
}

/* Of all GPUs together; null without one. */
static void json_device_peak(glm4v_contract_json *json, const report *r)
{
    uint64_t taken = 0;
    bool any = false;
    for (uint32_t i = 0; i < r->n_devices; i++) {
        any |= *r->device[i].device.gpu != 0;
        taken += r->device[i].taken;
    }
    if (any)
        glm4v_contract_json_int(json, "device_peak", taken);
    else
        glm4v_contract_json_null(json, "device_peak");
}

static void json_setup(glm4v_contract_json *json, const bench *b, const report *r)
{
    glm4v_contract_json_open(json, "model");
    glm4v_contract_json_string(json, "name", b->info->name);
    glm4v_contract_json_string(json, "hash", b->info->hash);
    glm4v_contract_json_string(json, "text", b->info->form[GLM4V_PART_TEXT]);
    glm4v_contract_json_string(json, "vision", b->info->form[GLM4V_PART_VISION]);
    glm4v_contract_json_string(json, "lm_head", b->info->form[GLM4V_PART_LM_HEAD]);
    glm4v_contract_json_bool(json, "random_weights", b->set->random_weights);
    glm4v_contract_json_int(json, "parameters", b->info->n_parameters);
    glm4v_contract_json_close(json);
    glm4v_contract_json_open(json, "machine");
    glm4v_contract_json_string(json, "cpu", r->cpu);
    glm4v_contract_json_int(json, "cores", cli_cores());
    glm4v_contract_json_string(json, "isa", b->info->isa);
    glm4v_contract_json_string(json, "products", b->info->products);
    glm4v_contract_json_string(json, "glm4v", glm4v_version());
    glm4v_contract_json_close(json);
    json_devices(json, r);
    glm4v_contract_json_open(json, "work");
    glm4v_contract_json_int(json, "frame_width", b->set->frame[0]);
    glm4v_contract_json_int(json, "frame_height", b->set->frame[1]);
    glm4v_contract_json_int(json, "image_width", r->last->image_width);
    glm4v_contract_json_int(json, "image_height", r->last->image_height);
    glm4v_contract_json_int(json, "vision_tokens", r->last->vision_tokens);
    glm4v_contract_json_int(json, "prompt_tokens", r->last->prompt_tokens);
    glm4v_contract_json_int(json, "cached_tokens", r->last->cached_tokens);
    glm4v_contract_json_int(json, "output_tokens", r->last->output_tokens);
    glm4v_contract_json_int(json, "batch", b->set->batch);
    glm4v_contract_json_int(json, "runs", b->set->runs);
    glm4v_contract_json_close(json);
}

static void print_json(const bench *b, const report *r)
{
    glm4v_contract_json json = cli_json_begin();
    glm4v_contract_json_int(&json, "version", 1);
    json_setup(&json, b, r);
    cli_json_figure(&json, "load_ms", b->load_ms);
    glm4v_contract_json_open(&json, "stages_ms");
    for (int s = 0; s < N_STAGES; s++)
        json_spread(&json, stage_names[s], &r->stage[s]);
    glm4v_contract_json_close(&json);
    cli_json_figure(&json, "vision_tflops", r->vision_tflops);
    cli_json_figure(&json, "prefill_tflops", r->prefill_tflops);
    if (r->products > 0)
        cli_json_figure(&json, "measured_tflops", r->products);
    glm4v_contract_json_open(&json, "decode");
    json_spread(&json, "ms_per_token", &r->step);
    json_spread(&json, "tokens_per_s", &r->rate);
    cli_json_figure(&json, "read_gb_per_s", r->step_rate / 1e9);
    if (r->n_devices == 1) {
        cli_json_figure(&json, "measured_gb_per_s", r->bandwidth / 1e9);
        cli_json_figure(&json, "percent_of_measured", percent_of_measured(r));
    }
    glm4v_contract_json_close(&json);
    glm4v_contract_json_open(&json, "memory");
    glm4v_contract_json_int(&json, "host_peak", r->peak_memory);
    json_device_peak(&json, r);
    glm4v_contract_json_close(&json);
    cli_json_end(&json);
}

/* ------------------------------------------------------------------ command ------------------- */

static int measure(bench *b, glm4v_error *err)
{
    int rc = make_prompt(b, err);
    for (uint32_t i = 0; i <= b->set->runs && !rc; i++) {
        cli_progress_of("measuring", i, b->set->runs + 1);
        b->start.struct_size = sizeof b->start;
        if (!rc && i == 1)
            rc = glm4v_engine_get_stats(b->engine, &b->start, err);
        if (rc)
            break;
        /* the first run warms up and is overwritten */
        rc = run_once(b, b->prompt, b->set->batch, b->set->tokens, &b->runs[i ? i - 1 : 0], err);
    }
    cli_progress_clear();
    return rc;
}

static glm4v_engine_options engine_options(const settings *set)
{
    return (glm4v_engine_options) { .struct_size = sizeof(glm4v_engine_options),
                                    .max_batch = set->batch,
                                    .batches_in_flight = set->in_flight,
                                    .kv_cache = set->kv_cache };
}

static int run(bench *b, glm4v_model *model)
{
    const settings *set = b->set;
    glm4v_error err = { 0 };
    report r = { .cpu = "" };
    const glm4v_engine_options options = engine_options(set);
    int rc = glm4v_engine_open(&b->engine, model, &options, &err);
    if (!rc)
        rc = measure(b, &err);
    r.peak_memory = peak_memory(); /* before the bandwidth test takes its own */
    if (!rc)
        rc = look_at_devices(b, &r, &err);
    if (rc) {
        cli_message("%s", err.msg);
        return CLI_MODEL;
    }
    make_report(b, &r);
    (set->json ? print_json : print_plain)(b, &r);
    return CLI_OK;
}

/* Which devices the plan names, and what is free there. A plan that cannot be made is reported by
 * opening the model. */
static void look_before(bench *b, const glm4v_model_options *options)
{
    const glm4v_engine_options engine = engine_options(b->set);
    const glm4v_estimate_options estimate = { .struct_size = sizeof estimate,
                                              .model = options,
                                              .engine = &engine,
                                              .width = b->set->frame[0],
                                              .height = b->set->frame[1] };
    glm4v_memory *plan = &b->plan;
    if (glm4v_model_estimate_memory(b->dir, &estimate, plan, NULL))
        return;
    for (uint32_t i = 0; i < plan->n_devices; i++)
        if (cli_place_first(plan, i) &&
            !glm4v_device_examine(plan->device[i].name, &b->before[b->n_before], NULL))
            b->planned[b->n_before++] = cli_place_bytes(plan, i);
}

/* Which file is there under this name; all zero: none. */
static struct stat file_at(const char *path)
{
    struct stat s;
    return stat(path, &s) ? (struct stat) { 0 } : s;
}

/* CLI_OK if the table of products was written: another file is there than before. */
static int check_written(const char *path, const struct stat *before)
{
    const struct stat now = file_at(path);
    if (now.st_ino && (now.st_ino != before->st_ino || now.st_mtime != before->st_mtime)) {
        cli_message("%s: written; GLM4V_CUDA_PRODUCTS=%s makes use of it", path, path);
        return CLI_OK;
    }
    cli_message("%s: not written: no GPU multiplied a bf16 matrix, or the file cannot be made",
                path);
    return CLI_MODEL;
}

static int open_and_run(const settings *set, const char *dir)
{
    bench b = { .set = set, .dir = dir };
    glm4v_model_options options = { .struct_size = sizeof options,
                                    .quantization = set->quantization,
                                    .n_threads = set->threads,
                                    .random_weights = set->random_weights,
                                    .random_seed = set->seed };
    b.rgb = cli_alloc((size_t)set->frame[0] * set->frame[1], 3);
    b.runs = cli_alloc(set->runs, sizeof *b.runs);
    b.column = cli_alloc(set->runs, sizeof *b.column);
    int status = CLI_MODEL;
    glm4v_model *model = NULL;
    cli_place_set(&options, &set->place);
    look_before(&b, &options);
    double start = now_ms();
    if (!b.rgb || !b.runs || !b.column)
        cli_message("no memory for an image of %ux%u", set->frame[0], set->frame[1]);
    else
        status = cli_model_open(&model, dir, &options, GLM4V_LOG_WARNING);
    if (model) {
        b.load_ms = now_ms() - start;
        b.info = glm4v_model_get_info(model);
        draw(b.rgb, set->frame[0], set->frame[1], set->seed);
        status = run(&b, model);
    }
    glm4v_engine_close(&b.engine);
    glm4v_model_close(&model);
    free(b.prompt);
    free(b.rgb);
    free(b.runs);
    free(b.column);
    return cli_finish(status);
}

/* The GPU times its products while this runs, and writes its table when the model is closed. */
static int tune(const settings *set, const char *dir)
{
    const struct stat before = file_at(set->tune);
    setenv("GLM4V_CUDA_TUNE", set->tune, 1);
    const int status = open_and_run(set, dir);
    unsetenv("GLM4V_CUDA_TUNE");
    return status ? status : check_written(set->tune, &before);
}

int cli_bench(int argc, char **argv)
{
    settings set = {
        .prompt_tokens = 32, .tokens = 24, .batch = 1, .runs = 10, .frame = { 448, 448 }
    };
    const cli_option options[] = {
        CLI_MODEL_OPTION(set.model),
        { "config", "FILE", CLI_STRING, &set.config, 0, 0,
          "a config.json, with --random-weights: no checkpoint needed" },
        { "random-weights", NULL, CLI_FLAG, &set.random_weights, 0, 0,
          "fill memory with seeded random weights: speed at full size" },
        CLI_PLACE_OPTIONS(set.place),
        CLI_KV_OPTION(set.kv_cache),
        { "quantization", "Q", CLI_STRING, &set.quantization, 0, 0, "as in describe" },
        CLI_THREADS_OPTION(set.threads),
        { "frame", "WxH", CLI_SIZE, set.frame, 1, GLM4V_MAX_SIDE,
          "size of the picture; default 448x448" },
        { "prompt-tokens", "N", CLI_COUNT, &set.prompt_tokens, 1, 100000,
          "tokens of the prompt without the picture's, about; default 32" },
        { "tokens", "N", CLI_COUNT, &set.tokens, 1, GLM4V_MAX_TOKENS,
          "longest answer; default 24. A trained model may stop earlier:\nthe report has the "
          "number of tokens" },
        { "batch", "N", CLI_COUNT, &set.batch, 1, GLM4V_MAX_BATCH, "requests at once; default 1" },
        { "batches-in-flight", "N", CLI_COUNT, &set.in_flight, 0, 4,
          "decode steps at once that share the requests, on several GPUs;\ndefault: one a GPU, if "
          "they have about as many layers each" },
        { "runs", "N", CLI_COUNT, &set.runs, 1, 10000, "measured runs; default 10" },
        { "seed", "N", CLI_WIDE, &set.seed, 0, 9e15, "of picture and random weights; default 0" },
        { "tune", "FILE", CLI_STRING, &set.tune, 0, 0,
          "time the algorithms of the GPU's library for the products of this\nrun, and write which "
          "are best; for bf16" },
        { "json", NULL, CLI_FLAG, &set.json, 0, 0, "one JSON object" },
    };
    const cli_command command = {
        .name = "bench",
        .synopsis = "[OPTIONS]",
        .about = "Measures each stage of a caption: preparing the picture, vision, prefill, "
                 "decode, first token, and\n"
                 "peak memory of the process. Decode is also reported in bytes read a second "
                 "beside the read\n"
                 "bandwidth that the device had in the same minute.",
        .examples = "glm4v bench\n"
                    "glm4v bench --frame 1280x720 --tokens 64 --batch 4 --json\n"
                    "glm4v bench --config GLM-4.1V-9B-Thinking/config.json --random-weights "
                    "--quantization int4",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    int n_operands, status;
    if (!cli_parse(&command, argc, argv, &n_operands, &status))
        return status;
    if (n_operands)
        return cli_usage_error(&command, "unexpected argument \"%s\"; name the model with --model",
                               argv[0]);
    if (set.config && (set.model || !set.random_weights))
        return cli_usage_error(
            &command, "--config needs --random-weights and cannot be combined with --model");
    /* the engine accepts a configuration file instead of a directory when the weights are random */
    const char *model = set.config ? set.config : cli_model_dir(set.model);
    if (!model)
        return cli_usage_error(&command,
                               "no model was found: name one with --model or GLM4V_MODEL");
    return set.tune ? tune(&set, model) : open_and_run(&set, model);
}
