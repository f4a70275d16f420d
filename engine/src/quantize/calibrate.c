/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calibration, from pictures to codes. Two models are in memory: the original as it is stored, and
 * the quantized one. The int4 matrices of the latter are replaced by better ones in the order in
 * which they are used, so that each can correct the errors of those before it. In each pass every
 * sequence runs through both, as far as the pass's matrices (quantize/capture.c); then these are
 * rounded (quantize/round.c) and the next pass begins. */
#define _GNU_SOURCE
#include "quantize/calibrate.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "config/family.h"
#include "model/examine.h"
#include "quantize/calibration_sample.h"
#include "quantize/capture.h"
#include "quantize/round.h"

#define DEFAULT_MEMORY ((uint64_t)2 << 30)
#define MAX_ANSWER 192 /* tokens */
#define MAX_PASSES 32  /* of a part: more would cost more than they gain */
#define FEW_PICTURES 16

/* Rows of one tensor of the source within a matrix of the quantized model. */
typedef struct {
    char *name;
    const glm4v_weight *weight;
    int64_t row, n_out;
} entry;

struct glm4v_calibration {
    glm4v_model *model; /* quantized; holds the codes */
    entry *entries;
    int64_t n;
};

/* A matrix to calibrate. */
typedef struct {
    const char *name; /* of its first tensor, for messages */
    glm4v_weight *weight[GLM4V_N_SIDES];
    glm4v_part part;
} target;

typedef struct {
    const glm4v_calibrate_options *options;
    glm4v_log log;
    const char *const *prompts;
    int64_t n_prompts;
    glm4v_model *model[GLM4V_N_SIDES];
    glm4v_context *context[GLM4V_N_SIDES];
    glm4v_embeddings *rows[GLM4V_N_SIDES]; /* [images] */
    glm4v_calibration_sample *list;        /* [images][prompts] */
    int64_t n_sequences;
    target *targets; /* in the order of their use */
    int64_t n_targets;
    glm4v_capture capture;
    uint64_t done, total; /* runs of a sequence, and steps that take about as long */
    glm4v_error *err;
} calibrator;

/* ---- options ---- */

static int tell(calibrator *c)
{
    c->done++;
    if (c->options->progress &&
        c->options->progress(c->options->progress_user, c->done < c->total ? c->done : c->total,
                             c->total))
        return glm4v_fail(c->err, GLM4V_ERR_CANCELED, "calibrating was canceled");
    return 0;
}

static int check_options(calibrator *c)
{
    const glm4v_calibrate_options *o = c->options;
    if (!o->n_images)
        return glm4v_fail(c->err, GLM4V_ERR_INVALID,
                          "calibration needs images of the kind the model will see");
    if (o->n_images > UINT32_MAX / 64 / (o->n_prompts ? o->n_prompts : 1))
        return glm4v_fail(c->err, GLM4V_ERR_INVALID,
                          "%" PRId64 " images with %" PRId64 " prompts each are too many",
                          o->n_images, o->n_prompts);
    if (o->n_images < FEW_PICTURES)
        glm4v_log_line(
            &c->log, GLM4V_LOG_WARNING,
            "%" PRId64
            " images are few to calibrate on: with %d or more, the statistics tell better "
            "which weights matter",
            o->n_images, FEW_PICTURES);
    c->n_prompts = o->n_prompts ? o->n_prompts : GLM4V_MAX_PROMPTS;
    c->n_sequences = o->n_images * c->n_prompts;
    return 0;
}

/* Loading reports bytes of its own: only whether to go on passes through. */
static int while_loading(void *user, uint64_t done, uint64_t total)
{
    const calibrator *c = user;
    if (!c->options->progress)
        return 0;
    return c->options->progress(c->options->progress_user, 0, c->total ? c->total : 1);
}

static int open_models(calibrator *c, const char *src)
{
    for (int side = 0; side < GLM4V_N_SIDES; side++) {
        const glm4v_model_options options = {
            .device = "cpu",
            .quantization = side == GLM4V_TRIAL ? c->options->quantization : NULL,
            .n_threads = c->options->n_threads,
            .progress = while_loading,
            .progress_user = c,
            .log = c->options->log,
            .log_user = c->options->log_user,
        };
        int rc = glm4v_model_open(&c->model[side], src, &options, c->err);
        if (rc)
            return rc;
    }
    const glm4v_family_traits *family = glm4v_family_of(c->model[0]->config.family);
    c->prompts = c->options->n_prompts ? c->options->prompts : family->prompts;
    return 0;
}

/* ---- which matrices ---- */

static bool is_target(const glm4v_item *item)
{
    return item->kind == GLM4V_ITEM_LINEAR && glm4v_form_of(item->to.linear->form)->cpu.pack_words;
}

static int add_entries(glm4v_calibration *result, const glm4v_item *named,
                       const glm4v_weight *weight, glm4v_error *err)
{
    int64_t row = 0;
    for (int s = 0; s < named->n_sources; row += named->source[s++].rows) {
        entry *e = &result->entries[result->n];
        *e = (entry) { .name = glm4v_strdup(named->source[s].tensor->name),
                       .weight = weight,
                       .row = row,
                       .n_out = named->source[s].rows };
        if (!e->name)
            return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the name of a matrix");
        result->n++;
    }
    return 0;
}

/* One item of the plan, where it is of the part: the vision tower runs first. */
static int add_target(calibrator *c, glm4v_calibration *result, const glm4v_item *named, int64_t i)
{
    const glm4v_item *trial = &c->model[GLM4V_TRIAL]->plan.items[i];
    const glm4v_item *original = &c->model[GLM4V_ORIGINAL]->plan.items[i];
    const glm4v_form stored = original->to.linear->form;
    const char *name = named->source[0].tensor->name;
    if (glm4v_form_of(stored)->codes)
        return glm4v_fail(c->err, GLM4V_ERR_UNSUPPORTED,
                          "\"%.120s\" is stored as %s; calibration needs unquantized weights", name,
                          glm4v_form_name(stored));
    const int64_t first = result->n;
    int rc = add_entries(result, named, trial->to.linear, c->err);
    if (!rc)
        c->targets[c->n_targets++] = (target) { .name = result->entries[first].name,
                                                .weight = { original->to.linear, trial->to.linear },
                                                .part = trial->part };
    return rc;
}

static int find_targets(calibrator *c, const char *src, glm4v_calibration *result)
{
    const glm4v_model_options options = { .device = "cpu",
                                          .quantization = c->options->quantization };
    const glm4v_plan *plan = &c->model[GLM4V_TRIAL]->plan;
    glm4v_model *examined = NULL;
    glm4v_checkpoint *checkpoint = NULL;
    int rc = glm4v_model_examine(&examined, &checkpoint, src, &options, c->err);
    if (rc)
        return rc;
    c->targets = glm4v_alloc(plan->n, sizeof *c->targets);
    result->entries = glm4v_alloc(plan->n * GLM4V_MAX_SOURCES, sizeof *result->entries);
    if (!c->targets || !result->entries)
        rc = glm4v_fail(c->err, GLM4V_ERR_NOMEM, "no memory for a list of %" PRId64 " matrices",
                        plan->n);
    else if (examined->plan.n != plan->n)
        rc = glm4v_fail(c->err, GLM4V_ERR_IO, "%.200s changed while it was read", src);
    for (int vision = 1; vision >= 0; vision--)
        for (int64_t i = 0; !rc && i < plan->n; i++)
            if (is_target(&plan->items[i]) &&
                (plan->items[i].part == GLM4V_PART_VISION) == (vision == 1) &&
                plan->items[i].part != GLM4V_PART_LM_HEAD)
                rc = add_target(c, result, &examined->plan.items[i], i);
    glm4v_checkpoint_close(&checkpoint);
    glm4v_model_close(&examined);
    if (!rc && !c->n_targets)
        rc = glm4v_fail(c->err, GLM4V_ERR_INVALID,
                        "quantization: \"%.80s\" selects int4 for no matrix of text or vision; "
                        "calibration is for int4 matrices",
                        c->options->quantization ? c->options->quantization : "");
    return rc;
}

/* ---- the sequences ---- */

static int make_sequences(calibrator *c, int64_t *longest)
{
    c->list = glm4v_alloc(c->n_sequences, sizeof *c->list);
    for (int side = 0; side < GLM4V_N_SIDES; side++) {
        c->rows[side] = glm4v_alloc(c->options->n_images, sizeof *c->rows[side]);
        if (!c->list || !c->rows[side])
            return glm4v_fail(c->err, GLM4V_ERR_NOMEM, "no memory for %" PRId64 " sequences",
                              c->n_sequences);
    }
    for (int64_t i = 0; i < c->n_sequences; i++) {
        int rc = glm4v_calibration_sample_make(&c->list[i], c->model[GLM4V_ORIGINAL],
                                               &c->options->images[i / c->n_prompts],
                                               c->prompts[i % c->n_prompts], c->err);
        if (rc)
            return rc;
        if (c->list[i].n_question > *longest)
            *longest = c->list[i].n_question;
    }
    return 0;
}

static int open_contexts(calibrator *c, int64_t longest)
{
    const glm4v_context_size size = { .slots = 1,
                                      .length = longest + MAX_ANSWER,
                                      .max_rows = longest + MAX_ANSWER };
    int rc = 0;
    for (int side = 0; !rc && side < GLM4V_N_SIDES; side++)
        rc = glm4v_context_open(&c->context[side], c->model[side], size, c->err);
    return rc;
}

/* Whole pictures through one of the models' towers. */
static int see_all(calibrator *c, int side)
{
    int rc = 0;
    for (int64_t i = 0; !rc && i < c->options->n_images; i++) {
        rc = glm4v_calibration_sample_see(&c->list[i * c->n_prompts], c->context[side],
                                          &c->rows[side][i], NULL, c->err);
        if (!rc)
            rc = tell(c);
    }
    return rc;
}

/* Tokens of sequence i that are in the cache after the one before it, of the same picture. */
static int64_t known(const calibrator *c, int64_t i)
{
    return i % c->n_prompts ? glm4v_calibration_sample_common(&c->list[i - 1], &c->list[i]) : 0;
}

static int answer_all(calibrator *c)
{
    int rc = 0;
    for (int64_t i = 0; !rc && i < c->n_sequences; i++) {
        rc = glm4v_calibration_sample_answer(&c->list[i], c->context[GLM4V_ORIGINAL], known(c, i),
                                             &c->rows[GLM4V_ORIGINAL][i / c->n_prompts], MAX_ANSWER,
                                             c->err);
        if (!rc)
            rc = tell(c);
    }
    return rc;
}

/* ---- one pass ---- */

/* Matrices from `first` on that share the next pass: what memory holds, of one part, and few enough
 * that most see what became of those before them. */
static int64_t pass_end(const calibrator *c, int64_t first)
{
    const uint64_t memory = c->options->memory ? c->options->memory : DEFAULT_MEMORY;
    const glm4v_part part = c->targets[first].part;
    uint64_t bytes = 0;
    int64_t end = first, n_part = 0;
    for (int64_t i = 0; i < c->n_targets; i++)
        n_part += c->targets[i].part == part;
    while (end < c->n_targets && c->targets[end].part == part &&
           end - first < (n_part + MAX_PASSES - 1) / MAX_PASSES) {
        bytes += glm4v_captured_bytes(c->targets[end].weight[0]->n_in);
        if (end > first && bytes > memory)
            break;
        end++;
    }
    return end;
}

/* Stopping early is what a pass wants: that is no error. */
static int run_side(calibrator *c, int64_t sequence, int side)
{
    const glm4v_calibration_sample *r = &c->list[sequence];
    const int64_t picture = sequence / c->n_prompts;
    glm4v_prefill_pass pass =
        glm4v_calibration_sample_pass(r, known(c, sequence), &c->rows[side][picture]);
    glm4v_embeddings unused = { 0 };
    glm4v_error error = { 0 };
    int rc;
    if (glm4v_context_mtp(c->context[side]))
        pass.mtp = GLM4V_MTP_WHOLE;
    glm4v_capture_begin(&c->capture, side);
    if (c->rows[GLM4V_TRIAL][picture].n_rows)
        rc = glm4v_prefill(c->context[side], &pass, NULL, NULL, &c->capture.enough, &error);
    else
        rc = glm4v_calibration_sample_see(r, c->context[side], &unused, &c->capture.enough, &error);
    glm4v_embeddings_clear(c->context[side], &unused);
    if (c->capture.error.code) {
        error = c->capture.error;
        rc = error.code;
    } else if (rc == GLM4V_ERR_CANCELED) {
        rc = 0;
    }
    if (rc && c->err)
        *c->err = error;
    return rc ? rc : tell(c);
}

/* Every picture (the tower), or every sequence (the text model), through both models. */
static int run_all(calibrator *c, glm4v_part part)
{
    const int64_t step = part == GLM4V_PART_VISION ? c->n_prompts : 1;
    glm4v_capture_hook hooks[GLM4V_N_SIDES] = { 0 };
    int rc = 0;
    for (int side = 0; side < GLM4V_N_SIDES; side++)
        glm4v_capture_hook_open(&hooks[side], c->model[side]->stages[0].backend, &c->capture, side);
    for (int64_t i = 0; !rc && i < c->n_sequences; i += step)
        for (int side = 0; !rc && side < GLM4V_N_SIDES; side++)
            rc = run_side(c, i, side);
    for (int side = 0; side < GLM4V_N_SIDES; side++)
        glm4v_capture_hook_close(&hooks[side]);
    return rc;
}

/* ---- rounding one matrix ---- */

typedef struct {
    const glm4v_round_moments *moments;
    const glm4v_weight *from;
    glm4v_weight *to;
    glm4v_backend *backend; /* of to */
    char *scratch;          /* [threads][bytes] */
    size_t bytes;
} rounding;

static void round_panel(void *user, int64_t panel, int64_t thread)
{
    const rounding *r = user;
    const glm4v_form_cpu *from = &glm4v_form_of(r->from->form)->cpu;
    const int64_t K = r->from->n_in, row = panel * GLM4V_PANEL;
    const int64_t left = r->from->n_out - row, n = left < GLM4V_PANEL ? left : GLM4V_PANEL;
    float *w = (float *)(void *)(r->scratch + thread * r->bytes);
    float *scale = w + K * GLM4V_PANEL;
    float *work = scale + K / r->moments->group * GLM4V_PANEL;
    uint8_t *q = (uint8_t *)(work + glm4v_round_scratch(K));
    from->unpack(w, (const char *)r->from->data + panel * from->panel_bytes(K), NULL, NULL, false,
                 n, K);
    glm4v_round_rows(r->moments, w, n, q, scale, work);
    r->backend->ops->weight_fill_codes(r->backend, r->to, row, n,
                                       &(glm4v_codes) { .q = q, .scale = scale });
}

static int round_target(calibrator *c, const target *t, glm4v_captured *l)
{
    glm4v_backend *b = c->model[GLM4V_TRIAL]->stages[0].backend;
    const int64_t K = l->moments.K;
    rounding r = { .moments = &l->moments,
                   .from = t->weight[GLM4V_ORIGINAL],
                   .to = t->weight[GLM4V_TRIAL],
                   .backend = b };
    if (glm4v_first_not_finite(l->moments.second, K * K) < K * K ||
        glm4v_first_not_finite(l->moments.cross, K * K) < K * K)
        return glm4v_fail(c->err, GLM4V_ERR_FORMAT,
                          "inputs of \"%.120s\" are not finite on these images; the weights are "
                          "damaged, or this quantization is too coarse for them",
                          t->name);
    const int64_t groups = K / l->moments.group;
    r.bytes =
        ((K + groups) * GLM4V_PANEL + glm4v_round_scratch(K)) * sizeof(float) + K * GLM4V_PANEL;
    r.bytes = glm4v_aligned(r.bytes);
    r.scratch = glm4v_alloc_aligned(glm4v_pool_threads(b->pool), r.bytes);
    if (!r.scratch)
        return glm4v_fail(c->err, GLM4V_ERR_NOMEM, "no memory to round a matrix of %zu inputs", K);
    glm4v_round_prepare(&l->moments, b->pool);
    glm4v_pool_run(b->pool, glm4v_panel_count(r.from->n_out), round_panel, &r);
    glm4v_free(r.scratch);
    return tell(c);
}

static int run_pass(calibrator *c, int64_t first, int64_t end)
{
    glm4v_capture *l = &c->capture;
    int rc = 0;
    l->list = glm4v_alloc(end - first, sizeof *l->list);
    if (!l->list)
        return glm4v_fail(c->err, GLM4V_ERR_NOMEM, "no memory for the matrices of a pass");
    for (int64_t i = first; !rc && i < end; i++) {
        glm4v_captured *one = &l->list[l->n++];
        memcpy(one->weight, c->targets[i].weight, sizeof one->weight);
        const glm4v_weight *trial = one->weight[GLM4V_TRIAL];
        rc = glm4v_captured_open(one, trial->n_in, c->err);
        one->moments.group = glm4v_form_group(trial->form, trial->blocks, trial->n_in);
    }
    if (!rc)
        rc = run_all(c, c->targets[first].part);
    for (int64_t i = first; !rc && i < end; i++)
        rc = round_target(c, &c->targets[i], &l->list[i - first]);
    glm4v_capture_clear(l);
    return rc;
}

/* ---- the whole ---- */

static uint64_t count_work(const calibrator *c)
{
    uint64_t work = 2 * c->options->n_images + c->n_sequences;
    for (int64_t i = 0, end; i < c->n_targets; i = end) {
        end = pass_end(c, i);
        work +=
            end - i +
            2 * (c->targets[i].part == GLM4V_PART_VISION ? c->options->n_images : c->n_sequences);
    }
    return work;
}

static int calibrate(calibrator *c)
{
    int64_t i = 0, longest = 0;
    c->total = count_work(c);
    int rc = make_sequences(c, &longest);
    if (!rc)
        rc = open_contexts(c, longest);
    for (; !rc && i < c->n_targets && c->targets[i].part == GLM4V_PART_VISION;) {
        const int64_t end = pass_end(c, i);
        rc = run_pass(c, i, end);
        i = end;
    }
    if (!rc)
        rc = see_all(c, GLM4V_ORIGINAL);
    if (!rc)
        rc = answer_all(c);
    if (!rc)
        rc = see_all(c, GLM4V_TRIAL);
    while (!rc && i < c->n_targets) {
        const int64_t end = pass_end(c, i);
        rc = run_pass(c, i, end);
        i = end;
    }
    if (!rc)
        glm4v_log_line(&c->log, GLM4V_LOG_INFO,
                       "%" PRId64 " matrices calibrated on %" PRId64 " pictures, %" PRId64
                       " sequences",
                       c->n_targets, c->options->n_images, c->n_sequences);
    return rc;
}

static void calibrator_clear(calibrator *c)
{
    for (int64_t i = 0; c->list && i < c->n_sequences; i++)
        glm4v_calibration_sample_clear(&c->list[i]);
    glm4v_free(c->list);
    for (int side = 0; side < GLM4V_N_SIDES; side++) {
        for (int64_t i = 0; c->rows[side] && c->context[side] && i < c->options->n_images; i++)
            glm4v_embeddings_clear(c->context[side], &c->rows[side][i]);
        glm4v_free(c->rows[side]);
        glm4v_context_close(&c->context[side]);
        glm4v_model_close(&c->model[side]);
    }
    glm4v_free(c->targets);
}

int glm4v_calibrate(glm4v_calibration **calibration, const char *src,
                    const glm4v_calibrate_options *options, glm4v_error *err)
{
    calibrator c = { .options = options, .log = { options->log, options->log_user }, .err = err };
    glm4v_calibration *result = glm4v_alloc(1, sizeof *result);
    int rc = result ? check_options(&c)
                    : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a calibration");
    if (!rc)
        rc = open_models(&c, src);
    if (!rc)
        rc = find_targets(&c, src, result);
    if (!rc)
        rc = calibrate(&c);
    if (!rc) {
        result->model = glm4v_model_ref(c.model[GLM4V_TRIAL]);
        *calibration = result;
        result = NULL;
    }
    calibrator_clear(&c);
    glm4v_calibration_free(&result);
    return rc;
}

void glm4v_calibration_free(glm4v_calibration **calibration)
{
    glm4v_calibration *c = *calibration;
    if (!c)
        return;
    for (int64_t i = 0; i < c->n; i++)
        glm4v_free(c->entries[i].name);
    glm4v_free(c->entries);
    glm4v_model_close(&c->model);
    glm4v_free(c);
    *calibration = NULL;
}

/* ---- what the converter asks ---- */

static const entry *find(const glm4v_calibration *c, const char *name)
{
    for (int64_t i = 0; c && i < c->n; i++)
        if (!strcmp(c->entries[i].name, name))
            return &c->entries[i];
    return NULL;
}

bool glm4v_calibration_has(const glm4v_calibration *calibration, const char *name)
{
    return find(calibration, name) != NULL;
}

void glm4v_calibration_codes(const glm4v_calibration *calibration, const char *name, int64_t row,
                             int64_t n, const glm4v_code_rows *codes)
{
    const entry *e = find(calibration, name);
    if (!e)
        return;
    const glm4v_weight *w = e->weight;
    const glm4v_form_cpu *form = &glm4v_form_of(w->form)->cpu;
    const int64_t K = w->n_in;
    const int64_t groups = glm4v_form_groups(w->form, w->blocks, w->n_in);
    float *scale = codes->scale;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (e->row + row) + i, panel = at / GLM4V_PANEL;
        const int64_t lane = at % GLM4V_PANEL;
        if (i == 0 || lane == 0)
            form->unpack_codes(codes->scratch,
                               (const char *)w->data + panel * form->panel_bytes(w->n_in),
                               GLM4V_PANEL, w->n_in);
        memcpy(codes->q + i * K, codes->scratch + lane * K, K);
        for (int64_t g = 0; g < groups; g++)
            *scale++ = w->scale[(panel * groups + g) * GLM4V_PANEL + lane];
    }
}
