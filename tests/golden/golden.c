/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See golden.h. */
#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_bf16.h"
#include "base/error.h"
#include "forward/context.h"
#include "forward/position.h"
#include "golden_case.h"

/* Ids at the end of the vocabulary that are never generated: the vectors were made so. */
#define SUPPRESSED 30

#define OPERATION_LIMIT 1e-9 /* one operation beside the C kernels, on the same inputs */
/* Activations of bf16: their error beside that of the C kernels with every activation rounded to
 * bf16 is at most 1.2 times as large, over all cases together; nmse are of squares. The logits of
 * one case alone are few numbers, whose errors are a matter of luck. */
#define BF16_RATIO (1.2 * 1.2)
#define BF16_RATIO_OF_CASE (3 * 3)
#define FP8_RATIO_OF_CASE (4 * 4) /* one case of golden-tiny has 3.2 times the error on an H200 */
/* Activations of e4m3: a number in the middle of two codes, 2^-3 apart, becomes one or the other by
 * the last bit of bf16. Over all cases of a small set that is luck too: 1.17 times at most on an
 * H200, 1.21 on the fake device. */
#define E4M3_RATIO (1.3 * 1.3)
#define FORM_LIMIT                                                                                 \
    1e-4 /* C kernels beside vectors of the same form: the same rounding throughout */

/* One model ready to run. */
typedef struct {
    glm4v_model *model;
    glm4v_context *context;
    glm4v_backend *backend; /* the model's own */
    shadow shadow;          /* in its place where weights are not fp32; reference NULL: not used */
} engine;

/* ---- running ---- */

/* All pictures of a case through the tower. */
static int run_vision(engine *e, glm4v_embeddings *vision, const golden_case *c,
                      golden_outcome *out, glm4v_error *err)
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
        rc = golden_array_make(&out->vision, (size_t)vision->n_rows * (size_t)v->out_hidden, err);
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

static int run_text(engine *e, const glm4v_embeddings *vision, const golden_case *c,
                    golden_outcome *out, glm4v_error *err)
{
    const size_t L = c->prompt.n_ids, V = (size_t)e->model->config.text.vocab;
    int32_t *position = calloc(3 * L, sizeof *position), next = 0;
    float *logits = calloc(V, sizeof *logits);
    int rc = position && logits ? 0 : golden_no_memory(err);
    if (!rc)
        rc = golden_array_make(&out->all, L * V, err);
    if (!rc)
        rc = golden_array_make(&out->positions, 3 * L, err);
    if (!rc)
        rc = golden_array_make(&out->mean, L, err);
    if (!rc)
        rc = golden_array_make(&out->logits, V, err);
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
                                                   .vision = vision,
                                                   .mtp = glm4v_context_mtp(e->context)
                                                              ? GLM4V_MTP_KEYS
                                                              : GLM4V_MTP_NONE },
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

/* Drafts behind the first generated token, each made of the one before. The prompt's rows are those
 * of the prefill. */
static int run_drafts(engine *e, const golden_case *c, golden_outcome *out, glm4v_error *err)
{
    const int64_t V = e->model->config.text.vocab;
    const int32_t slot = 0, row = 0, of_prompt = GLM4V_STATE_OF_PROMPT;
    const size_t L = c->prompt.n_ids;
    int32_t id = out->ids[0], length = (int32_t)L - 1;
    int32_t position = (int32_t)out->positions.data[L - 1];
    double margin;
    int rc = golden_array_make(&out->drafts, GOLDEN_DRAFTS * (size_t)V, err);
    for (int i = 0; !rc && i < GOLDEN_DRAFTS; i++, length++, position++) {
        const glm4v_mtp_pass pass = { .rows = { &slot, &length, &id, &position, 1, NULL },
                                      .states = i ? &row : &of_prompt,
                                      .chained = i > 0,
                                      .outputs = &row,
                                      .n_outputs = 1 };
        float *logits = out->drafts.data + i * V;
        rc = glm4v_mtp_run(e->context, &pass, err);
        if (!rc)
            memcpy(logits, glm4v_pass_logits(e->context, GLM4V_LANE_DECODE),
                   (size_t)V * sizeof *logits);
        id = out->draft_ids[i] = best_id(logits, (int32_t)V, &margin);
        out->n_drafts++;
    }
    return rc;
}

/* Rows [first, first + n) of a case without pictures in the main model, then in the MTP layer with
 * the states that these gave. */
static int run_draft_rows(engine *e, const golden_case *c, golden_outcome *out, int32_t first,
                          int32_t n, glm4v_error *err)
{
    const int64_t V = e->model->config.text.vocab;
    const int32_t L = (int32_t)c->prompt.n_ids;
    int32_t slot[GLM4V_SPAN_ROWS], length[GLM4V_SPAN_ROWS], next[GLM4V_SPAN_ROWS];
    int32_t states[GLM4V_SPAN_ROWS];
    float *logits = calloc((size_t)(n * V), sizeof *logits);
    for (int32_t i = 0; i < n; i++) {
        slot[i] = 1;
        length[i] = first + i;
        next[i] = first + i + 1 < L ? c->prompt.ids[first + i + 1] : out->ids[0];
        states[i] = i;
    }
    glm4v_mtp_pass pass = { .rows = { slot, length, c->prompt.ids + first, length, n, NULL },
                            .states = states,
                            .outputs = states,
                            .n_outputs = n };
    int rc = logits ? glm4v_decode(e->context, &pass.rows, logits, err) : golden_no_memory(err);
    pass.rows.ids = next;
    if (!rc)
        rc = glm4v_mtp_run(e->context, &pass, err);
    if (!rc)
        memcpy(out->all_drafts.data + first * V, glm4v_pass_logits(e->context, GLM4V_LANE_DECODE),
               (size_t)(n * V) * sizeof *logits);
    free(logits);
    return rc;
}

/* The same rows again, in steps of one to eight rows behind a prefill of one. What the first row
 * tells is not computed. */
static int run_all_drafts(engine *e, const golden_case *c, golden_outcome *out, glm4v_error *err)
{
    const size_t V = (size_t)e->model->config.text.vocab, L = c->prompt.n_ids;
    int32_t *position = calloc(3 * L, sizeof *position);
    int rc = position ? golden_array_make(&out->all_drafts, L * V, err) : golden_no_memory(err);
    for (size_t i = 0; !rc && i < 3 * L; i++)
        position[i] = (int32_t)out->positions.data[i];
    if (!rc)
        rc = glm4v_prefill(e->context,
                           &(glm4v_prefill_pass) { .slot = 1,
                                                   .prompt = &c->prompt,
                                                   .position = position,
                                                   .n = 1,
                                                   .mtp = GLM4V_MTP_KEYS },
                           NULL, NULL, NULL, err);
    for (int32_t at = 1, n = 1; !rc && at < (int32_t)L; at += n, n = n % GLM4V_SPAN_ROWS + 1) {
        n = n < (int32_t)L - at ? n : (int32_t)L - at;
        rc = run_draft_rows(e, c, out, at, n, err);
    }
    if (!rc)
        memcpy(out->all_drafts.data, c->expected.all_drafts.data, V * sizeof(float));
    free(position);
    return rc;
}

static int run_case(engine *e, const golden_case *c, golden_outcome *out, glm4v_error *err)
{
    glm4v_embeddings vision = { 0 };
    int rc = c->pixels.data ? run_vision(e, &vision, c, out, err) : 0;
    out->shadow[0] = shadow_take(&e->shadow);
    if (!rc)
        rc = run_text(e, &vision, c, out, err);
    if (!rc && c->expected.drafts.data && glm4v_context_mtp(e->context))
        rc = run_drafts(e, c, out, err);
    if (!rc && c->expected.all_drafts.data && glm4v_context_mtp(e->context))
        rc = run_all_drafts(e, c, out, err);
    out->shadow[3] = shadow_take(&e->shadow);
    glm4v_embeddings_clear(e->context, &vision);
    return rc;
}

/* ---- comparing ---- */

typedef struct {
    golden_report report;
    void *user;
    const char *case_name, *suffix;
    double limit;
    const golden_outcome *measure; /* whose error is the limit, in place of `limit`; or NULL */
    double ratio;                  /* to that error, over all cases */
    double ratio_of_case;
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
static double nmse_of(const golden_array *got, const golden_array *expected, double *max_abs)
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
static double compare_numbers(const comparison *c, const char *stage, const golden_array *got,
                              const golden_array *measured, const golden_array *expected)
{
    golden_result r = { .limit = c->limit, .equal = true, .first_diff = -1 };
    double unused;
    if (!expected->data)
        return 0;
    if (c->measure)
        r.limit = c->ratio_of_case * nmse_of(measured, expected, &unused);
    r.nmse = nmse_of(got, expected, &r.max_abs);
    r.pass = r.nmse <= r.limit;
    tell(c, stage, r);
    return r.max_abs;
}

/* Expected may be one axis alone: then it is that of all three. */
static void compare_positions(const comparison *c, const golden_array *got,
                              const golden_array *expected)
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
static void compare_ids(const comparison *c, const golden_outcome *got,
                        const golden_outcome *expected, double max_abs, bool excuse)
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

/* Logits of the MTP layer. Behind another draft they are others: then those before it count. Where
 * weights are rounded they drift further, by one layer more and the drafts before. */
static void compare_drafts(const comparison *c, const golden_outcome *got, const golden_outcome *m,
                           const golden_outcome *expected, bool excuse)
{
    golden_outcome some[3] = { *got, *m, *expected };
    comparison deeper = *c;
    const size_t V = expected->drafts.n / GOLDEN_DRAFTS;
    size_t same = 0;
    while (same < expected->n_drafts && got->ids[0] == expected->ids[0] &&
           got->draft_ids[same] == expected->draft_ids[same] &&
           m->draft_ids[same] == expected->draft_ids[same])
        same++;
    const bool equal = got->n_drafts == expected->n_drafts && same == expected->n_drafts;
    for (int i = 0; excuse && !equal && got->n_drafts && i < 3; i++)
        some[i].drafts.n = (same + 1) * V;
    if (got->ids[0] != expected->ids[0] && excuse)
        return;
    deeper.limit *= excuse ? 1.5 : 1;
    compare_numbers(&deeper, "drafts", &some[0].drafts, &some[1].drafts, &some[2].drafts);
    compare_numbers(&deeper, "draft rows", &got->all_drafts, &m->all_drafts, &expected->all_drafts);
    if (!excuse)
        tell(c, "draft ids",
             (golden_result) {
                 .nmse = -1, .equal = equal, .first_diff = equal ? -1 : (int)same, .pass = equal });
}

static void compare(const comparison *c, const golden_outcome *got, const golden_outcome *expected,
                    bool excuse)
{
    const golden_outcome *m = c->measure ? c->measure : got;
    compare_positions(c, &got->positions, &expected->positions);
    compare_numbers(c, "vision", &got->vision, &m->vision, &expected->vision);
    const double max_abs =
        compare_numbers(c, "logits", &got->logits, &m->logits, &expected->logits);
    compare_numbers(c, "mean", &got->mean, &m->mean, &expected->mean);
    compare_ids(c, got, expected, max_abs, excuse);
    if (expected->drafts.data)
        compare_drafts(c, got, m, expected, excuse);
}

/* The worst operation of each part of the run beside the C kernels. */
static void compare_operations(const comparison *c, const golden_outcome *got)
{
    static const char *const stages[] = { "vision", "prefill", "decode", "drafts" };
    for (int i = 0; i < 4; i++) {
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
                        glm4v_form form, const golden_outcome *got, glm4v_error *err)
{
    char suffix[16], vision[32], logits[32];
    golden_array expected_vision = { 0 }, expected_logits = { 0 };
    snprintf(suffix, sizeof suffix, "@%s", glm4v_form_name(form));
    snprintf(vision, sizeof vision, "vision%s", suffix);
    snprintf(logits, sizeof logits, "logits_last%s", suffix);
    int rc = golden_read_array(&expected_vision, file, case_->name, vision, false, err);
    if (!rc)
        rc = golden_read_array(&expected_logits, file, case_->name, logits, false, err);
    if (!rc) {
        const golden_outcome *m = c.measure ? c.measure : got;
        c.suffix = suffix;
        compare_numbers(&c, "vision", &got->vision, &m->vision, &expected_vision);
        compare_numbers(&c, "logits", &got->logits, &m->logits, &expected_logits);
    }
    free(expected_vision.data);
    free(expected_logits.data);
    return rc;
}

/* ---- all cases together: logits of every position, beside the CPU in fp32 ---- */

static void add_squares(double *error, double *power, const golden_array *got,
                        const golden_array *expected)
{
    for (size_t i = 0; i < expected->n; i++) {
        const double d =
            got->n == expected->n ? (double)got->data[i] - (double)expected->data[i] : INFINITY;
        *error += d * d;
        if (power)
            *power += (double)expected->data[i] * (double)expected->data[i];
    }
}

static void add_case(totals *t, const golden_outcome *got, const golden_outcome *measured,
                     const golden_outcome *exact)
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
                           .limit = c->ratio * t->stage.measured / t->stage.power,                 \
                           .equal = true,                                                          \
                           .first_diff = -1,                                                       \
                           .pass = t->stage.error <= c->ratio * t->stage.measured })
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
    const glm4v_context_size size = {
        .slots = 4, .length = length, .max_rows = length, .span_rows = GLM4V_SPAN_ROWS
    };
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

static bool has_form(const glm4v_model *m, glm4v_form form)
{
    for (int part = 0; part < GLM4V_N_PARTS; part++)
        if (m->form[part] == form)
            return true;
    return false;
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
    golden_outcome got = { 0 }, measured = { 0 }, exact = { 0 };
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
    golden_outcome_clear(&exact);
    golden_outcome_clear(&measured);
    golden_outcome_clear(&got);
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
        rc = golden_read_case(&c, s->file, config, err);
        const uint32_t length = (uint32_t)(c.prompt.n_ids + c.expected.steps);
        *longest = length > *longest ? length : *longest;
        if (!rc && fn)
            rc = fn(s, &c, err);
        golden_case_clear(&c);
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
    if (!rc) {
        const glm4v_model *m = s.engine.model;
        s.comparison.ratio = has_form(m, GLM4V_FORM_FP8_DYNAMIC) ? E4M3_RATIO : BF16_RATIO;
        s.comparison.ratio_of_case =
            has_form(m, GLM4V_FORM_FP8) ? FP8_RATIO_OF_CASE : BF16_RATIO_OF_CASE;
        rc = each_case(&s, &config, check_case, &length, err);
    }
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
