/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See golden.h. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_bf16.h"
#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "forward/context.h"
#include "forward/position.h"
#include "shadow.h"

/* Ids at the end of the vocabulary that are never generated: the vectors were made so. */
#define SUPPRESSED 30
#define MAX_STEPS 64

#define OPERATION_LIMIT 1e-9 /* one operation beside the C kernels, on the same inputs */
/* Activations of bf16: their error beside that of the C kernels with every activation rounded to
 * bf16 is at most 1.2 times as large, over all cases together; nmse are of squares. The logits of
 * one case alone are few numbers, whose errors are a matter of luck. */
#define BF16_RATIO (1.2 * 1.2)
#define BF16_RATIO_OF_CASE 9
#define FORM_LIMIT                                                                                 \
    1e-4 /* C kernels beside vectors of the same form: the same rounding throughout */

/* Numbers of one tensor, or one result of the engine. */
typedef struct {
    float *data;
    size_t n, rows; /* rows: first dimension */
} array;

/* What comes out of one case. */
typedef struct {
    array positions, vision, logits, mean;
    array all; /* [L, V] logits of every position; not in the file */
    int32_t ids[MAX_STEPS];
    double margin[MAX_STEPS];
    size_t steps;
    shadow_errors shadow[3]; /* of vision, prefill and decode */
} outcome;

/* One case of the file. */
typedef struct {
    char name[64];
    glm4v_prompt prompt;
    array pixels, grid; /* data NULL: text only */
    outcome expected;
} golden_case;

/* One model ready to run. */
typedef struct {
    glm4v_model *model;
    glm4v_context *context;
    glm4v_backend *backend; /* the model's own */
    shadow shadow;          /* in its place where weights are not fp32; reference NULL: not used */
} engine;

static int no_memory(glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_NOMEM, "out of memory");
}

static int array_make(array *a, size_t n, glm4v_error *err)
{
    a->data = calloc(n ? n : 1, sizeof *a->data);
    a->n = n;
    return a->data ? 0 : no_memory(err);
}

static void outcome_clear(outcome *o)
{
    free(o->positions.data);
    free(o->all.data);
    free(o->vision.data);
    free(o->logits.data);
    free(o->mean.data);
    *o = (outcome) { 0 };
}

static void case_clear(golden_case *c)
{
    free(c->prompt.ids);
    free(c->prompt.runs);
    free(c->pixels.data);
    free(c->grid.data);
    outcome_clear(&c->expected);
    *c = (golden_case) { 0 };
}

/* ---- reading ---- */

/* CASE.KEY into *a; without it *a stays empty unless required. */
static int read_array(array *a, const glm4v_checkpoint *file, const char *name, const char *key,
                      bool required, glm4v_error *err)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", name, key);
    const glm4v_tensor *t = glm4v_checkpoint_find(file, full);
    if (!t)
        return required ? glm4v_fail(err, GLM4V_ERR_FORMAT, "the vectors have no \"%s\"", full) : 0;
    size_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->shape[i];
    int rc = array_make(a, n, err);
    a->rows = t->rank ? (size_t)t->shape[0] : 1;
    return rc ? rc : glm4v_checkpoint_read_f32(file, t, 0, a->data, n, err);
}

/* chatglm4v: a picture stands as start, placeholder, end in the ids; here the placeholder is
 * repeated. All pictures have the table's grid. */
static int expand_ids(golden_case *c, const glm4v_config *config, glm4v_error *err)
{
    const glm4v_vision_config *v = &config->vision;
    const int64_t side = v->table_side, n = glm4v_picture_rows(v, side, side);
    glm4v_prompt *p = &c->prompt;
    int32_t *ids = calloc(p->n_ids + n, sizeof *ids);
    size_t at = 0;
    p->runs = calloc(1, sizeof *p->runs);
    for (int64_t i = 0; ids && p->runs && i < p->n_ids; i++) {
        ids[at++] = p->ids[i];
        if (p->ids[i] != config->image_start_id)
            continue;
        if (p->n_runs || i + 2 >= p->n_ids || p->ids[i + 2] != config->image_end_id)
            break;
        p->runs[p->n_runs++] = (glm4v_image_run) { (uint32_t)at - 1, n, side, side, false };
        for (uint32_t k = 2; k < n; k++)
            ids[at++] = config->image_id;
        i++; /* the placeholder */
    }
    free(p->ids);
    const size_t expected = p->n_ids + (p->n_runs ? n - 3 : 0);
    p->ids = ids;
    p->n_ids = at;
    if (!ids || !p->runs)
        return no_memory(err);
    return at == expected && p->n_runs == (c->pixels.data != NULL)
               ? 0
               : glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: ids and picture do not fit", c->name);
}

/* [3, H, W] to patches [P, C] in merge-block-major order. */
static int cut_patches(golden_case *c, const glm4v_config *config, glm4v_error *err)
{
    const glm4v_vision_config *v = &config->vision;
    const size_t side = (size_t)config->image.side, patch = (size_t)v->patch;
    const size_t merge = (size_t)v->merge, C = 3 * patch * patch, blocks = side / patch / merge;
    array cut = { 0 };
    if (!c->pixels.data)
        return 0;
    if (c->pixels.n != 3 * side * side)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: the picture is not %zu x %zu", c->name, side,
                          side);
    int rc = array_make(&cut, c->pixels.n, err);
    for (size_t i = 0; !rc && i < cut.n; i++) {
        const size_t p = i / C, at = i % C, in = p % (merge * merge), block = p / (merge * merge);
        const size_t y = (block / blocks * merge + in / merge) * patch + at / patch % patch;
        const size_t x = (block % blocks * merge + in % merge) * patch + at % patch;
        cut.data[i] = c->pixels.data[(at / (patch * patch) * side + y) * side + x];
    }
    free(c->pixels.data);
    c->pixels = cut;
    return rc;
}

/* Runs of image ids, each with its grid: a grid row (T, h, w) stands for T of them. */
static int find_runs(golden_case *c, const glm4v_config *config, glm4v_error *err)
{
    const size_t area = (size_t)(config->vision.merge * config->vision.merge);
    glm4v_prompt *p = &c->prompt;
    int64_t total = 0, left = 0;
    size_t row = 0;
    bool video = false;
    for (size_t i = 0; i < c->grid.rows; i++)
        total += (int64_t)c->grid.data[3 * i];
    p->runs = calloc(total ? total : 1, sizeof *p->runs);
    if (!p->runs)
        return no_memory(err);
    for (int64_t i = 0; i < p->n_ids;) {
        if (p->ids[i] == config->video_start_id || p->ids[i] == config->video_end_id)
            video = p->ids[i] == config->video_start_id;
        if (p->ids[i] != config->image_id) {
            i++;
            continue;
        }
        if (!left && row < c->grid.rows)
            left = (int64_t)c->grid.data[3 * row++];
        if (!left || p->n_runs == total)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: more pictures in the ids than in grid_thw", c->name);
        left--;
        const float *grid = c->grid.data + 3 * (row - 1);
        p->runs[p->n_runs++] = (glm4v_image_run) { .start = i,
                                                   .n = (int64_t)(grid[1] * grid[2]) / area,
                                                   .grid_h = (int64_t)grid[1],
                                                   .grid_w = (int64_t)grid[2],
                                                   .video = video };
        i += (int64_t)grid[1] * (int64_t)grid[2] / area;
    }
    return p->n_runs == total
               ? 0
               : glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: fewer pictures in the ids than in grid_thw",
                            c->name);
}

static int read_ids(golden_case *c, const glm4v_checkpoint *file, glm4v_error *err)
{
    array ids = { 0 }, greedy = { 0 }, margin = { 0 };
    outcome *e = &c->expected;
    int rc = read_array(&ids, file, c->name, "input_ids", true, err);
    if (!rc)
        rc = read_array(&greedy, file, c->name, "greedy_ids", true, err);
    if (!rc)
        rc = read_array(&margin, file, c->name, "greedy_margin", true, err);
    if (!rc && (greedy.n > MAX_STEPS || margin.n != greedy.n || !ids.n))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: ids and margins are of odd lengths", c->name);
    c->prompt.ids = calloc(ids.n ? ids.n : 1, sizeof *c->prompt.ids);
    if (!rc && !c->prompt.ids)
        rc = no_memory(err);
    if (!rc) {
        c->prompt.n_ids = ids.n;
        for (size_t i = 0; i < ids.n; i++)
            c->prompt.ids[i] = (int32_t)ids.data[i];
        e->steps = greedy.n;
        for (size_t i = 0; i < greedy.n; i++) {
            e->ids[i] = (int32_t)greedy.data[i];
            e->margin[i] = (double)margin.data[i];
        }
    }
    free(ids.data);
    free(greedy.data);
    free(margin.data);
    return rc;
}

static int read_case(golden_case *c, const glm4v_checkpoint *file, const glm4v_config *config,
                     glm4v_error *err)
{
    outcome *e = &c->expected;
    const bool fixed = config->vision.absolute;
    int rc = read_ids(c, file, err);
    if (!rc)
        rc = read_array(&c->pixels, file, c->name, fixed ? "image" : "pixel_values", false, err);
    if (!rc && !fixed)
        rc = read_array(&c->grid, file, c->name, "grid_thw", c->pixels.data, err);
    if (!rc)
        rc = read_array(&e->vision, file, c->name, "vision", c->pixels.data, err);
    if (!rc)
        rc = read_array(&e->positions, file, c->name, "position_ids", true, err);
    if (!rc)
        rc = read_array(&e->logits, file, c->name, "logits_last", true, err);
    if (!rc)
        rc = read_array(&e->mean, file, c->name, "logits_mean_abs", true, err);
    if (!rc && !fixed)
        return find_runs(c, config, err);
    if (!rc)
        rc = expand_ids(c, config, err);
    return rc ? rc : cut_patches(c, config, err);
}

/* ---- running ---- */

/* All pictures of a case through the tower. */
static int run_vision(engine *e, glm4v_embeddings *vision, const golden_case *c, outcome *out,
                      glm4v_error *err)
{
    const glm4v_vision_config *v = &e->model->config.vision;
    const size_t width = (size_t)e->model->vision.patch.n_in;
    size_t at = 0;
    int rc = 0;
    for (int64_t i = 0; !rc && i < c->prompt.n_runs; i++) {
        const glm4v_image_run *run = &c->prompt.runs[i];
        const size_t n = (size_t)run->grid_h * run->grid_w * width;
        if (n > c->pixels.n - at)
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: pixel_values are too few", c->name);
        rc = glm4v_vision_encode(e->context,
                                 &(glm4v_vision_pass) { .out = vision,
                                                        .patches = c->pixels.data + at,
                                                        .grid_h = run->grid_h,
                                                        .grid_w = run->grid_w },
                                 NULL, err);
        at += n;
    }
    if (!rc)
        rc = array_make(&out->vision, (size_t)vision->n_rows * (size_t)v->out_hidden, err);
    if (!rc && vision->n_rows) {
        glm4v_backend *b = e->model->stages[0].backend;
        rc = b->ops->download(b, out->vision.data, vision->rows, out->vision.n);
    }
    return rc;
}

/* Best id and its lead over the second, of logits [V] without the suppressed ones. */
static int32_t best_id(const float *logits, int32_t V, double *margin)
{
    int32_t best = 0;
    float second = -INFINITY;
    for (int32_t i = 1; i < V - SUPPRESSED; i++) {
        if (logits[i] > logits[best]) {
            second = logits[best];
            best = i;
        } else if (logits[i] > second) {
            second = logits[i];
        }
    }
    *margin = (double)(logits[best] - second);
    return best;
}

static int run_text(engine *e, const glm4v_embeddings *vision, const golden_case *c, outcome *out,
                    glm4v_error *err)
{
    const size_t L = c->prompt.n_ids, V = (size_t)e->model->config.text.vocab;
    int32_t *position = calloc(3 * L, sizeof *position), next = 0;
    float *logits = calloc(V, sizeof *logits);
    int rc = position && logits ? 0 : no_memory(err);
    if (!rc)
        rc = array_make(&out->all, L * V, err);
    if (!rc)
        rc = array_make(&out->positions, 3 * L, err);
    if (!rc)
        rc = array_make(&out->mean, L, err);
    if (!rc)
        rc = array_make(&out->logits, V, err);
    if (!rc) {
        glm4v_positions(position, &next, &c->prompt, &e->model->config);
        for (size_t i = 0; i < 3 * L; i++)
            out->positions.data[i] = (float)position[i];
        rc = glm4v_prefill(e->context,
                           &(glm4v_prefill_pass) { .slot = 0,
                                                   .prompt = &c->prompt,
                                                   .position = position,
                                                   .start = 0,
                                                   .n = (uint32_t)L,
                                                   .vision = vision },
                           out->logits.data, out->all.data, NULL, err);
    }
    for (size_t i = 0; !rc && i < L * V; i++)
        out->mean.data[i / V] += fabsf(out->all.data[i]) / (float)V;
    out->shadow[1] = shadow_take(&e->shadow);
    if (!rc)
        memcpy(logits, out->logits.data, V * sizeof *logits);
    for (out->steps = 0; !rc && out->steps < c->expected.steps; out->steps++) {
        const int32_t slot = 0, length = (uint32_t)(L + out->steps) - 1;
        if (out->steps)
            rc = glm4v_decode(
                e->context,
                &(glm4v_decode_rows) { &slot, &length, &out->ids[out->steps - 1], &next, 1, NULL },
                logits, err);
        next += out->steps > 0;
        out->ids[out->steps] = best_id(logits, (int32_t)V, &out->margin[out->steps]);
    }
    out->shadow[2] = shadow_take(&e->shadow);
    free(position);
    free(logits);
    return rc;
}

static int run_case(engine *e, const golden_case *c, outcome *out, glm4v_error *err)
{
    glm4v_embeddings vision = { 0 };
    int rc = c->pixels.data ? run_vision(e, &vision, c, out, err) : 0;
    out->shadow[0] = shadow_take(&e->shadow);
    if (!rc)
        rc = run_text(e, &vision, c, out, err);
    glm4v_embeddings_clear(e->context, &vision);
    return rc;
}

/* ---- comparing ---- */

typedef struct {
    golden_report report;
    void *user;
    const char *case_name, *suffix;
    double limit;
    const outcome *measure; /* whose error is the limit, in place of `limit`; or NULL */
} comparison;

/* Squares over all cases. */
typedef struct totals {
    struct {
        double error, measured, power;
    } vision, logits;
} totals;

static void tell(const comparison *c, const char *stage, golden_result r)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", stage, c->suffix);
    r.case_name = c->case_name;
    r.stage = name;
    c->report(c->user, &r);
}

/* Infinite where a number is missing or superfluous. */
static double nmse_of(const array *got, const array *expected, double *max_abs)
{
    double error = 0, power = 0;
    *max_abs = INFINITY;
    if (got->n != expected->n)
        return INFINITY;
    *max_abs = 0;
    for (size_t i = 0; i < got->n; i++) {
        const double d = (double)got->data[i] - (double)expected->data[i];
        error += d * d;
        power += (double)expected->data[i] * (double)expected->data[i];
        *max_abs = fabs(d) <= *max_abs ? *max_abs : fabs(d);
    }
    return error / (power > 0 ? power : 1e-30);
}

/* NaN makes the stage fail. measured: the same of c->measure. */
static double compare_numbers(const comparison *c, const char *stage, const array *got,
                              const array *measured, const array *expected)
{
    golden_result r = { .limit = c->limit, .equal = true, .first_diff = -1 };
    double unused;
    if (!expected->data)
        return 0;
    if (c->measure)
        r.limit = BF16_RATIO_OF_CASE * nmse_of(measured, expected, &unused);
    r.nmse = nmse_of(got, expected, &r.max_abs);
    r.pass = r.nmse <= r.limit;
    tell(c, stage, r);
    return r.max_abs;
}

/* Expected may be one axis alone: then it is that of all three. */
static void compare_positions(const comparison *c, const array *got, const array *expected)
{
    golden_result r = { .nmse = -1, .first_diff = -1 };
    const bool fits = got->n == expected->n || got->n == 3 * expected->n;
    for (size_t i = 0; fits && r.first_diff < 0 && i < got->n; i++)
        if (got->data[i] != expected->data[i % expected->n])
            r.first_diff = (int)i;
    r.equal = r.pass = fits && r.first_diff < 0;
    tell(c, "positions", r);
}

/* A difference is excused where the expected side's lead is within ten times the largest error of a
 * logit. */
static void compare_ids(const comparison *c, const outcome *got, const outcome *expected,
                        double max_abs, bool excuse)
{
    golden_result r = { .nmse = -1, .equal = true, .first_diff = -1, .max_abs = max_abs };
    for (size_t i = 0; r.equal && i < expected->steps; i++)
        if (got->ids[i] != expected->ids[i]) {
            r.equal = false;
            r.first_diff = (int)i;
            r.margin = expected->margin[i];
        }
    r.pass = r.equal || (excuse && r.margin <= 10 * max_abs);
    tell(c, "greedy", r);
}

static void compare(const comparison *c, const outcome *got, const outcome *expected, bool excuse)
{
    const outcome *m = c->measure ? c->measure : got;
    compare_positions(c, &got->positions, &expected->positions);
    compare_numbers(c, "vision", &got->vision, &m->vision, &expected->vision);
    const double max_abs =
        compare_numbers(c, "logits", &got->logits, &m->logits, &expected->logits);
    compare_numbers(c, "mean", &got->mean, &m->mean, &expected->mean);
    compare_ids(c, got, expected, max_abs, excuse);
}

/* The worst operation of each part of the run beside the C kernels. */
static void compare_operations(const comparison *c, const outcome *got)
{
    static const char *const stages[] = { "vision", "prefill", "decode" };
    for (int i = 0; i < 3; i++) {
        const shadow_errors *e = &got->shadow[i];
        golden_result r = { .max_abs = e->max_abs,
                            .nmse = e->nmse,
                            .limit = c->limit,
                            .equal = true,
                            .first_diff = -1,
                            .pass = e->nmse <= c->limit };
        if (e->operations)
            tell(c, stages[i], r);
    }
}

/* Vectors of the form itself, where the file has them. */
static int compare_form(comparison c, const golden_case *case_, const glm4v_checkpoint *file,
                        glm4v_form form, const outcome *got, glm4v_error *err)
{
    char suffix[16], vision[32], logits[32];
    array expected_vision = { 0 }, expected_logits = { 0 };
    snprintf(suffix, sizeof suffix, "@%s", glm4v_form_name(form));
    snprintf(vision, sizeof vision, "vision%s", suffix);
    snprintf(logits, sizeof logits, "logits_last%s", suffix);
    int rc = read_array(&expected_vision, file, case_->name, vision, false, err);
    if (!rc)
        rc = read_array(&expected_logits, file, case_->name, logits, false, err);
    if (!rc) {
        const outcome *m = c.measure ? c.measure : got;
        c.suffix = suffix;
        compare_numbers(&c, "vision", &got->vision, &m->vision, &expected_vision);
        compare_numbers(&c, "logits", &got->logits, &m->logits, &expected_logits);
    }
    free(expected_vision.data);
    free(expected_logits.data);
    return rc;
}

/* ---- all cases together: logits of every position, beside the CPU in fp32 ---- */

static void add_squares(double *error, double *power, const array *got, const array *expected)
{
    for (size_t i = 0; i < expected->n; i++) {
        const double d =
            got->n == expected->n ? (double)got->data[i] - (double)expected->data[i] : INFINITY;
        *error += d * d;
        if (power)
            *power += (double)expected->data[i] * (double)expected->data[i];
    }
}

static void add_case(totals *t, const outcome *got, const outcome *measured, const outcome *exact)
{
    add_squares(&t->vision.error, &t->vision.power, &got->vision, &exact->vision);
    add_squares(&t->vision.measured, NULL, &measured->vision, &exact->vision);
    add_squares(&t->logits.error, &t->logits.power, &got->all, &exact->all);
    add_squares(&t->logits.measured, NULL, &measured->all, &exact->all);
}

static void tell_totals(const comparison *c, const totals *t)
{
#define TELL_STAGE(stage)                                                                          \
    tell(c, #stage,                                                                                \
         (golden_result) { .nmse = t->stage.error / t->stage.power,                                \
                           .limit = BF16_RATIO * t->stage.measured / t->stage.power,               \
                           .equal = true,                                                          \
                           .first_diff = -1,                                                       \
                           .pass = t->stage.error <= BF16_RATIO * t->stage.measured })
    TELL_STAGE(vision);
    TELL_STAGE(logits);
#undef TELL_STAGE
}

/* ---- the whole ---- */

static void engine_close(engine *e)
{
    glm4v_context_close(&e->context);
    if (e->shadow.reference) {
        e->model->stages[0].backend = e->backend;
        shadow_close(&e->shadow);
    }
    glm4v_model_close(&e->model);
}

static int context_open(engine *e, uint32_t length, glm4v_error *err)
{
    const glm4v_context_size size = { .slots = 4, .length = length, .max_rows = length };
    return glm4v_context_open(&e->context, e->model, size, err);
}

static int model_open(engine *e, const golden_options *o, const char *device, glm4v_error *err)
{
    const bool all = o->quantization && !strcmp(o->quantization, "fp32");
    const glm4v_model_options options = {
        .device = device,
        .quantization = all ? "text=fp32,vision=fp32,embedding=fp32,lm-head=fp32" : o->quantization,
        .weights_only = 1,
    };
    int rc = glm4v_model_open(&e->model, o->model, &options, err);
    if (!rc)
        e->backend = e->model->stages[0].backend;
    return rc;
}

/* The measure of a device whose activations are bf16. */
static int measure_open(engine *e, const golden_options *o, uint32_t length, glm4v_error *err)
{
    const glm4v_backend_open_fn before = glm4v_backend_replace_cpu(bf16_open);
    int rc = model_open(e, o, "cpu", err);
    glm4v_backend_replace_cpu(before);
    return rc ? rc : context_open(e, length, err);
}

static int exact_open(engine *e, const golden_options *o, uint32_t length, glm4v_error *err)
{
    const golden_options exact = { .model = o->model, .quantization = "fp32" };
    const glm4v_backend_open_fn before = glm4v_backend_replace_cpu(NULL);
    int rc = model_open(e, &exact, "cpu", err);
    glm4v_backend_replace_cpu(before);
    return rc ? rc : context_open(e, length, err);
}

/* Kernels above the C level are watched by a shadow. */
static int engine_open(engine *e, const golden_options *o, uint32_t length, glm4v_error *err)
{
    int rc = model_open(e, o, o->device, err);
    if (rc)
        return rc;
    if (!o->no_operations && !strcmp(e->backend->ops->name, "cpu") &&
        strcmp(e->backend->isa, "c")) {
        rc = shadow_open(&e->shadow, e->backend, err);
        if (!rc)
            e->model->stages[0].backend = &e->shadow.base;
    }
    return rc ? rc : context_open(e, length, err);
}

/* Drift guards. A norm behind each branch, as in chatglm4v's tower, scales rounding errors up with
 * the branch: bf16 drifts seven times as far there, and int8 a little beyond glm4v's guard.
 * int4-32 takes matrices of 32 and 64 inputs too, of which the tiny vectors' models are made and
 * which stay int8 under int4: random weights of 4 bits say little there. Matrix by matrix the other
 * comparison holds it. */
static double float_limit(const glm4v_model *m)
{
    static const struct {
        double usual, post_norm;
    } limits[] = {
        [GLM4V_FORM_F32] = { 1e-8, 1e-8 },         [GLM4V_FORM_BF16] = { 2e-3, 2e-3 },
        [GLM4V_FORM_INT8] = { 3e-2, 5e-2 },        [GLM4V_FORM_INT4] = { 5e-1, 5e-1 },
        [GLM4V_FORM_FP8] = { 2e-1, 2e-1 },         [GLM4V_FORM_INT4_32] = { 1.5, 1.5 },
        [GLM4V_FORM_FP8_DYNAMIC] = { 4e-1, 4e-1 },
    };
    _Static_assert(sizeof limits / sizeof *limits == GLM4V_N_FORMS, "a form has no limit");
    const bool post_norm = m->config.vision.post_norm;
    double limit = 0;
    for (int part = 0; part < GLM4V_N_PARTS; part++) {
        const glm4v_form form = m->form[part];
        if (part == GLM4V_PART_EMBEDDING && form == GLM4V_FORM_BF16)
            continue; /* a look-up, and the vectors' own weights are bf16 */
        const double own = post_norm ? limits[form].post_norm : limits[form].usual;
        limit = own > limit ? own : limit;
    }
    return limit;
}

typedef struct {
    const golden_options *options;
    const glm4v_checkpoint *file;
    /* measure, and exact (the CPU in fp32): model NULL where activations are f32 */
    engine engine, measure, exact;
    comparison comparison;
    totals totals; /* where there is a measure */
} session;

static int check_case(session *s, golden_case *c, glm4v_error *err)
{
    const glm4v_model *m = s->engine.model;
    const double by_form = float_limit(m);
    outcome got = { 0 }, measured = { 0 }, exact = { 0 };
    comparison floats = s->comparison, kernels = s->comparison, form = s->comparison;
    floats.case_name = kernels.case_name = form.case_name = c->name;
    floats.limit = s->options->tolerance > 0 ? s->options->tolerance : by_form;
    kernels.limit = OPERATION_LIMIT;
    kernels.suffix = "/c";
    /* other levels sum in another order; from the first activation that rounds the other way on,
     * the runs drift apart */
    form.limit = strcmp(s->engine.backend->isa, "c") ? by_form : FORM_LIMIT;
    int rc = run_case(&s->engine, c, &got, err);
    if (!rc && s->measure.model) {
        rc = run_case(&s->measure, c, &measured, err);
        if (!rc)
            rc = run_case(&s->exact, c, &exact, err);
        floats.measure = form.measure = &measured;
        if (!rc)
            add_case(&s->totals, &got, &measured, &exact);
    }
    if (!rc) {
        compare(&floats, &got, &c->expected, by_form > 1e-8 || s->measure.model);
        compare_operations(&kernels, &got);
        if (m->form[GLM4V_PART_TEXT] == m->form[GLM4V_PART_VISION] &&
            m->form[GLM4V_PART_LM_HEAD] == GLM4V_FORM_BF16)
            rc = compare_form(form, c, s->file, m->form[GLM4V_PART_TEXT], &got, err);
    }
    outcome_clear(&exact);
    outcome_clear(&measured);
    outcome_clear(&got);
    return rc;
}

/* Calls fn for every case: names are what stands before ".input_ids". */
static int each_case(session *s, const glm4v_config *config,
                     int (*fn)(session *, golden_case *, glm4v_error *), uint32_t *longest,
                     glm4v_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; !rc && i < glm4v_checkpoint_count(s->file); i++) {
        const char *name = glm4v_checkpoint_at(s->file, i)->name, *dot = strchr(name, '.');
        golden_case c = { 0 };
        if (!dot || strcmp(dot, ".input_ids") || dot - name >= (int)sizeof c.name)
            continue;
        memcpy(c.name, name, (size_t)(dot - name));
        rc = read_case(&c, s->file, config, err);
        const uint32_t length = (uint32_t)(c.prompt.n_ids + c.expected.steps);
        *longest = length > *longest ? length : *longest;
        if (!rc && fn)
            rc = fn(s, &c, err);
        case_clear(&c);
    }
    return rc;
}

int golden_run(const golden_options *options, golden_report report, void *user, const char **isa,
               glm4v_error *err)
{
    glm4v_checkpoint *file = NULL;
    glm4v_config config;
    uint32_t length = 0;
    int rc = glm4v_checkpoint_open_file(&file, options->file, err);
    static char name[96];
    session s = { .options = options,
                  .file = file,
                  .comparison = { .report = report, .user = user, .suffix = "" } };
    if (!rc)
        rc = glm4v_config_read(&config, options->model, false, err);
    if (!rc)
        rc = each_case(&s, &config, NULL, &length, err);
    if (!rc && !length)
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: no case in it", options->file);
    if (!rc)
        rc = engine_open(&s.engine, options, length, err);
    if (!rc && options->tolerance == 0 && s.engine.backend->traits->activation != sizeof(float))
        rc = measure_open(&s.measure, options, length, err);
    if (!rc && s.measure.model)
        rc = exact_open(&s.exact, options, length, err);
    if (!rc && isa)
        *isa = memccpy(name, s.engine.backend->isa, 0, sizeof name) ? name : "";
    if (!rc)
        rc = each_case(&s, &config, check_case, &length, err);
    if (!rc && s.measure.model) {
        s.comparison.case_name = "all";
        tell_totals(&s.comparison, &s.totals);
    }
    engine_close(&s.exact);
    engine_close(&s.measure);
    engine_close(&s.engine);
    glm4v_checkpoint_close(&file);
    return rc;
}
