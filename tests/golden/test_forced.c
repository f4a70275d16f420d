/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A GPU beside our CPU engine in the same form, teacher-forced: both are given the tokens that the
 * reference implementation wrote about the pictures of tests/data/surface-tiny, and their logits of
 * the next token are compared at every position. Split over a GPU and the CPU, and over two stages
 * on one GPU, too. Linked with a main that replaces "cpu" by the GPU; the CPU is what that one
 * replaced. */
#include <jansson.h>
#include <math.h>

#include "backend/backend.h"
#include "backend_bf16.h"
#include "forward/context.h"
#include "forward/position.h"
#include "read_png.h"
#include "test.h"

#define MODEL SOURCE_ROOT "/models/surface-tiny"
#define PICTURES SOURCE_ROOT "/tests/data/surface-tiny/"

enum { POSITIONS = 64, OF_ONE = 16, STRIDE = 7, LENGTH = 300, ROWS = 300 };

static glm4v_error err;
static glm4v_backend_open_fn open_gpu;
static int64_t vocab;

/* ---- pictures and their texts ---- */

/* One line of answers.jsonl: what is asked, and the ids that answer it. */
typedef struct {
    char path[512], prompt[512];
    int32_t ids[OF_ONE];
    int64_t n_ids;
} example;

static example examples[POSITIONS / 4];
static int n_examples;

static void take_line(const char *text, int64_t most)
{
    json_t *line = json_loads(text, 0, NULL);
    const json_t *ids = json_object_get(line, "ids");
    const int64_t n = (int64_t)json_array_size(ids);
    example *e = &examples[n_examples];
    if (line && n && json_is_false(json_object_get(line, "thinking"))) {
        snprintf(e->path, sizeof e->path, PICTURES "%s",
                 json_string_value(json_object_get(line, "file")));
        snprintf(e->prompt, sizeof e->prompt, "%s",
                 json_string_value(json_object_get(line, "prompt")));
        e->n_ids = n < most ? n : most;
        for (int64_t i = 0; i < e->n_ids; i++)
            e->ids[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
        n_examples++;
    }
    json_decref(line);
}

/* Every seventh picture until there are as many positions as wanted. */
static void read_examples(void)
{
    FILE *in = fopen(PICTURES "answers.jsonl", "r");
    char text[16384];
    int64_t left = POSITIONS;
    REQUIRE(in);
    for (int i = 0; left > 0 && fgets(text, sizeof text, in); i++) {
        const int before = n_examples;
        if (i % STRIDE == 0 && n_examples < POSITIONS / 4)
            take_line(text, left < OF_ONE ? left : OF_ONE);
        left -= n_examples > before ? examples[before].n_ids : 0;
    }
    fclose(in);
    CHECK_EQ(left, 0);
}

/* ---- one engine ---- */

typedef struct {
    glm4v_model *model;
    glm4v_context *context;
} runner;

static void runner_close(runner *r)
{
    glm4v_context_close(&r->context);
    glm4v_model_close(&r->model);
}

static int runner_open(runner *r, const char *form, const char *device, glm4v_backend_open_fn open)
{
    const glm4v_model_options options = { .device = device, .quantization = form };
    const glm4v_context_size size = {
        .slots = 1, .length = LENGTH, .max_rows = ROWS, .patches = 4096
    };
    *r = (runner) { 0 };
    const glm4v_backend_open_fn before = glm4v_backend_replace_cpu(open);
    int rc = glm4v_model_open(&r->model, MODEL, &options, &err);
    glm4v_backend_replace_cpu(before);
    if (!rc)
        rc = glm4v_context_open(&r->context, r->model, size, &err);
    if (rc)
        runner_close(r);
    return rc;
}

/* The picture through the tower; *grid is its size. */
static int see(runner *r, const glm4v_image *image, glm4v_patch_grid *grid, glm4v_embeddings *out)
{
    const glm4v_model *m = r->model;
    const glm4v_image *const frames[2] = { image, image };
    int rc = glm4v_preprocess_grid(m->preprocessor, image, 1, 0, grid, &err);
    if (rc)
        return rc;
    float *patches =
        calloc((size_t)(grid->h * grid->w) * (size_t)m->vision.patch.n_in, sizeof *patches);
    if (!patches)
        return GLM4V_ERR_NOMEM;
    rc = glm4v_preprocess_run(m->preprocessor, patches, frames, *grid, m->pool, &err);
    const glm4v_vision_pass pass = {
        .out = out, .patches = patches, .grid_h = grid->h, .grid_w = grid->w
    };
    if (!rc)
        rc = glm4v_vision_encode(r->context, &pass, NULL, &err);
    free(patches);
    return rc;
}

/* Prompt, then one token after the other: logits [n_ids, vocab] of what comes next. */
static int say(runner *r, const example *e, const glm4v_prompt *prompt,
               const glm4v_embeddings *vision, float *logits)
{
    static int32_t position[3 * LENGTH];
    int32_t next = 0;
    glm4v_positions(position, &next, prompt, &r->model->config);
    const glm4v_prefill_pass pass = {
        .prompt = prompt, .position = position, .n = prompt->n_ids, .vision = vision
    };
    int rc = glm4v_prefill(r->context, &pass, logits, NULL, NULL, &err);
    for (int64_t i = 0; !rc && i + 1 < e->n_ids; i++) {
        const int32_t slot = 0, length = (int32_t)(prompt->n_ids + i), at = next + (int32_t)i;
        const glm4v_decode_rows row = { &slot, &length, &e->ids[i], &at, 1, NULL };
        rc = glm4v_decode(r->context, &row, logits + (i + 1) * vocab, &err);
    }
    return rc;
}

static int run_example(runner *r, const example *e, float *logits)
{
    glm4v_image image = { 0 };
    glm4v_prompt prompt = { 0 };
    glm4v_embeddings vision = { 0 };
    glm4v_patch_grid grid;
    const glm4v_prompt_maker with = { r->model->tokenizer, &r->model->chat, &r->model->config };
    uint8_t *pixels = read_png(e->path, &image);
    const glm4v_task task = { .prompt = e->prompt, .images = &image, .n_images = 1 };
    int rc = pixels ? see(r, &image, &grid, &vision) : GLM4V_ERR_NOT_FOUND;
    if (!rc) {
        const glm4v_grid of_task = { .grid_h = grid.h, .grid_w = grid.w };
        rc = glm4v_prompt_build(&prompt, &with, &task, &of_task, 1, &err);
    }
    if (!rc)
        rc = say(r, e, &prompt, &vision, logits);
    glm4v_embeddings_clear(r->context, &vision);
    glm4v_prompt_clear(&prompt);
    free(pixels);
    return rc;
}

/* Logits [POSITIONS, vocab], or NULL after a message. */
static float *run_all(const char *form, const char *device, glm4v_backend_open_fn open)
{
    runner r;
    if (runner_open(&r, form, device, open)) {
        test_fail(__FILE__, __LINE__, "%s: %s", form, err.msg);
        return NULL;
    }
    vocab = r.model->config.text.vocab;
    float *logits = calloc((size_t)(POSITIONS * vocab), sizeof *logits), *at = logits;
    int rc = logits ? 0 : GLM4V_ERR_NOMEM;
    for (int i = 0; !rc && i < n_examples; at += examples[i++].n_ids * vocab)
        rc = run_example(&r, &examples[i], at);
    runner_close(&r);
    if (!rc)
        return logits;
    test_fail(__FILE__, __LINE__, "%s: %s", form, err.msg);
    free(logits);
    return NULL;
}

/* ---- comparing ---- */

static int64_t likeliest(const float *logits, double *margin)
{
    int64_t best = 0;
    float second = -INFINITY;
    for (int64_t i = 1; i < vocab; i++) {
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

/* ||a - b|| / ||b||, and the root mean square of a - b. */
static double error_of(const float *a, const float *b, double *rms)
{
    double error = 0, power = 0;
    const int64_t n = POSITIONS * vocab;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        error += d * d;
        power += (double)b[i] * (double)b[i];
    }
    *rms = sqrt(error / (double)n);
    return sqrt(error / power);
}

/* Where the margin of the CPU says something, the same token. */
static void compare(const char *what, const float *got, const float *expected, double bound)
{
    double rms;
    int told = 0, equal = 0;
    const double error = error_of(got, expected, &rms);
    for (int64_t i = 0; i < POSITIONS; i++) {
        double margin, unused;
        const int64_t best = likeliest(expected + i * vocab, &margin);
        if (margin <= 4 * rms)
            continue;
        told++;
        equal += likeliest(got + i * vocab, &unused) == best;
    }
    printf("# %s: error %.2e (bound %.2e), %d of %d positions are told apart, %d equal\n", what,
           error, bound, told, POSITIONS, equal);
    CHECK(error <= bound);
    CHECK(2 * told >= POSITIONS);
    CHECK_EQ(equal, told);
}

/* ---- forms ---- */

static int turn;

static int open_in_turns(glm4v_backend **b, glm4v_pool *pool, const glm4v_log *log, glm4v_error *e)
{
    return turn++ % 2 ? glm4v_backend_cpu_open(b, pool, log, e) : open_gpu(b, pool, log, e);
}

static const char *form;

/* The bound: 1.2 times the error of the C kernels that round to bf16 where the GPU does. */
static void logits_are_those_of_the_cpu(void)
{
    const struct {
        const char *what, *device;
        glm4v_backend_open_fn open;
    } places[] = { { "one GPU", "cpu", open_gpu },
                   { "a GPU and the CPU", "cpu,cpu", open_in_turns },
                   { "two stages on a GPU", "cpu,cpu", open_gpu } };
    double unused;
    float *expected = run_all(form, "cpu", NULL), *measure = run_all(form, "cpu", bf16_open);
    REQUIRE(expected && measure);
    const double bound = 1.2 * error_of(measure, expected, &unused);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char what[64];
        turn = 0;
        float *got = run_all(form, places[i].device, places[i].open);
        REQUIRE(got);
        snprintf(what, sizeof what, "%s, %s", form, places[i].what);
        compare(what, got, expected, bound);
        free(got);
    }
    free(expected);
    free(measure);
}

int main(void)
{
    static const char *const forms[] = { "bf16", "int8", "int4", "int4-32", "fp8", "fp8-dynamic" };
    open_gpu = glm4v_backend_replace_cpu(NULL);
    if (!open_gpu) {
        printf("Bail out! nothing replaces the CPU\n");
        return 1;
    }
    read_examples();
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char title[64];
        form = forms[i];
        snprintf(title, sizeof title, "forced_logits_as_%s_are_those_of_the_cpu", form);
        test_run(title, logits_are_those_of_the_cpu);
    }
    return test_end();
}
