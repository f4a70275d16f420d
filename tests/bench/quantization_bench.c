/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What quantizing costs a model, on pictures: its greedy answers as it is stored are run again,
 * token by token known, through each form under test, and the distributions of the next token are
 * compared: mean and 99th percentile of the Kullback-Leibler divergence in nats, and how often the
 * most likely token is the same.
 *
 *   quantization-bench --pictures DIR [--model DIR] [--reference Q] [--threads N] [--json] TEST...
 *   quantization-bench --pictures DIR [--model DIR] [--threads N] --answers TEST
 *
 * DIR/prompts.txt holds the questions, one a line. --answers: only the ids that the form under test
 * answers with, one line for each picture and question (training/evaluate.py reads them).
 *
 * TEST: a `quantization` ("int8", "text=int4,vision=int8"), or "@DIR", a folder that holds another
 * form of the same model, or "@DIR:Q". docs/quantization.md has the commands. */
#define _GNU_SOURCE
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "media.h"
#include "pictures.h"
#include "quantize/calibration_sample.h"

#define MAX_ANSWER 192

typedef struct {
    const char *pictures, *model, *reference;
    uint32_t threads;
    bool json, answers;
} settings;

/* One model and a context that is long enough for all sequences. */
typedef struct {
    glm4v_model *model;
    glm4v_context *context;
} runner;

typedef struct {
    glm4v_calibration_sample *list; /* [pictures][prompts] */
    cli_pictures pictures;
    uint32_t n, longest;
} sequences;

static const char *const default_prompts[] = { "Describe the image in one sentence.",
                                               "用一句话描述这张图片。" };

/* Of what pictures.c asks the command line's program for. */
void *cli_alloc(size_t n, size_t size)
{
    return calloc(n, size);
}

void cli_progress(const char *what, double fraction)
{
}

void cli_message(const char *format, ...)
{
}

static int end(const glm4v_error *err)
{
    fprintf(stderr, "quantization-bench: %s\n", err->msg);
    return 1;
}

static bool runner_open(runner *r, const settings *set, const char *dir, const char *quantization,
                        uint32_t length, glm4v_error *err)
{
    const glm4v_model_options options = { .device = "cpu",
                                          .quantization = quantization,
                                          .n_threads = set->threads };
    const glm4v_context_size size = { .slots = 1, .length = length, .max_rows = length };
    return !glm4v_model_open(&r->model, dir, &options, err) &&
           !glm4v_context_open(&r->context, r->model, size, err);
}

static void runner_close(runner *r)
{
    glm4v_context_close(&r->context);
    glm4v_model_close(&r->model);
}

static bool make_sequences(sequences *s, const settings *set, glm4v_error *err)
{
    glm4v_model *model = NULL;
    const glm4v_model_options options = { .device = "cpu", .n_threads = set->threads };
    if (cli_pictures_load(&s->pictures, set->pictures, err) ||
        glm4v_model_open(&model, set->model, &options, err))
        return false;
    const uint32_t n_prompts = s->pictures.n_prompts ? s->pictures.n_prompts : 2;
    s->list = calloc((size_t)s->pictures.n_images * n_prompts, sizeof *s->list);
    bool fine = s->list != NULL;
    for (uint32_t i = 0; fine && i < s->pictures.n_images * n_prompts; i++) {
        const char *prompt = s->pictures.n_prompts ? s->pictures.prompts[i % n_prompts]
                                                   : default_prompts[i % n_prompts];
        fine = !glm4v_calibration_sample_make(&s->list[s->n++], model,
                                              &s->pictures.images[i / n_prompts], prompt, err);
        if (s->list[i].n_question > s->longest)
            s->longest = s->list[i].n_question;
    }
    glm4v_model_close(&model);
    return fine;
}

/* The picture of sequence i through the tower; the same picture is seen once. */
static bool see(runner *r, const sequences *s, uint32_t i, glm4v_embeddings *rows, glm4v_error *err)
{
    if (i && s->list[i].image == s->list[i - 1].image)
        return true;
    glm4v_embeddings_clear(r->context, rows);
    return !glm4v_calibration_sample_see(&s->list[i], r->context, rows, NULL, err);
}

static uint32_t rows_of(const glm4v_calibration_sample *r)
{
    return (uint32_t)r->prompt.n_ids - r->n_question + 1;
}

/* Logits -> their logarithms as probabilities. */
static void log_softmax(double *out, const float *logits, size_t V)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < V; i++)
        most = (double)logits[i] > most ? (double)logits[i] : most;
    for (size_t i = 0; i < V; i++)
        sum += exp((double)logits[i] - most);
    for (size_t i = 0; i < V; i++)
        out[i] = (double)logits[i] - most - log(sum);
}

static size_t best(const float *x, size_t V)
{
    size_t at = 0;
    for (size_t i = 1; i < V; i++)
        at = x[i] > x[at] ? i : at;
    return at;
}

typedef struct {
    double *divergence; /* [n] */
    size_t n, same;
} comparison;

static void compare(comparison *c, const float *a, const float *b, size_t V, double *scratch)
{
    double sum = 0;
    log_softmax(scratch, a, V);
    log_softmax(scratch + V, b, V);
    for (size_t i = 0; i < V; i++)
        sum += exp(scratch[i]) * (scratch[i] - scratch[V + i]);
    c->divergence[c->n++] = sum;
    c->same += best(a, V) == best(b, V);
}

/* Tokens of sequence i that are in the cache after the one before it. */
static uint32_t known(const sequences *s, uint32_t i)
{
    return i && s->list[i].image == s->list[i - 1].image
               ? glm4v_calibration_sample_common(&s->list[i - 1], &s->list[i])
               : 0;
}

static bool logits_of(runner *r, const sequences *s, uint32_t i, uint32_t start,
                      const glm4v_embeddings *rows, float *logits, glm4v_error *err)
{
    const glm4v_prefill_pass pass = glm4v_calibration_sample_pass(&s->list[i], start, rows);
    return !glm4v_prefill(r->context, &pass, NULL, logits, NULL, err);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const settings *set, const char *name, comparison *c)
{
    double sum = 0;
    qsort(c->divergence, c->n, sizeof *c->divergence, ascending);
    for (size_t i = 0; i < c->n; i++)
        sum += c->divergence[i];
    const double mean = sum / (double)c->n, high = c->divergence[(c->n - 1) * 99 / 100];
    const double same = 100 * (double)c->same / (double)c->n;
    if (set->json)
        printf("{\"test\": \"%s\", \"tokens\": %zu, \"mean_kl\": %.3g, \"p99_kl\": %.3g, "
               "\"top1_percent\": %.2f}\n",
               name, c->n, mean, high, same);
    else
        printf("%-40s mean KL %.6f  p99 %.5f  top-1 %.2f %%  of %zu tokens\n", name, mean, high,
               same, c->n);
    fflush(stdout);
}

/* The model that a test names, with room for the longest sequence. */
static bool open_test(runner *r, const settings *set, const sequences *s, const char *test,
                      glm4v_error *err)
{
    char dir[1024];
    const char *colon = *test == '@' ? strchr(test, ':') : NULL;
    const char *q = *test == '@' ? (colon ? colon + 1 : NULL) : test;
    snprintf(dir, sizeof dir, "%s", *test == '@' ? test + 1 : set->model);
    if (colon && (size_t)(colon - test) <= sizeof dir)
        dir[colon - test - 1] = 0;
    return runner_open(r, set, dir, q, s->longest + MAX_ANSWER, err);
}

/* One form against the reference, side by side. */
static bool measure(runner *reference, const settings *set, const sequences *s, const char *test,
                    glm4v_error *err)
{
    runner tested = { 0 };
    glm4v_embeddings rows[2] = { 0 };
    comparison c = { 0 };
    const size_t V = (size_t)reference->model->config.text.vocab, L = s->longest + MAX_ANSWER;
    float *all = malloc(2 * L * V * sizeof *all);
    double *scratch = malloc(2 * V * sizeof *scratch);
    c.divergence = malloc((size_t)s->n * (MAX_ANSWER + 1) * sizeof *c.divergence);
    bool fine = all && scratch && c.divergence && open_test(&tested, set, s, test, err);
    for (uint32_t i = 0; fine && i < s->n; i++) {
        const uint32_t start = known(s, i);
        float *a = all, *b = all + L * V;
        fine = see(reference, s, i, &rows[0], err) && see(&tested, s, i, &rows[1], err) &&
               logits_of(reference, s, i, start, &rows[0], a, err) &&
               logits_of(&tested, s, i, start, &rows[1], b, err);
        for (uint32_t t = 0; fine && t < rows_of(&s->list[i]); t++) {
            const size_t at = (s->list[i].n_question - 1 - start + t) * V;
            compare(&c, a + at, b + at, V, scratch);
        }
    }
    if (fine)
        tell(set, test, &c);
    if (tested.context)
        glm4v_embeddings_clear(tested.context, &rows[1]);
    glm4v_embeddings_clear(reference->context, &rows[0]);
    runner_close(&tested);
    free(c.divergence);
    free(scratch);
    free(all);
    return fine;
}

static bool answer_all(runner *r, sequences *s, glm4v_error *err)
{
    glm4v_embeddings rows = { 0 };
    bool fine = true;
    for (uint32_t i = 0; fine && i < s->n; i++)
        fine = see(r, s, i, &rows, err) &&
               !glm4v_calibration_sample_answer(&s->list[i], r->context, known(s, i), &rows,
                                                MAX_ANSWER, err);
    glm4v_embeddings_clear(r->context, &rows);
    return fine;
}

/* What the form under test says, as ids. */
static bool print_answers(const settings *set, sequences *s, const char *test, glm4v_error *err)
{
    runner r = { 0 };
    const bool fine = open_test(&r, set, s, test, err) && answer_all(&r, s, err);
    for (uint32_t i = 0; fine && i < s->n; i++) {
        const glm4v_calibration_sample *one = &s->list[i];
        printf("[");
        for (int64_t t = one->n_question; t < one->prompt.n_ids; t++)
            printf("%s%d", t > one->n_question ? "," : "", one->prompt.ids[t]);
        printf("]\n");
    }
    runner_close(&r);
    return fine;
}

/* All tests against the reference and its answers. */
static bool compare_all(const settings *set, sequences *s, char **tests, int n_tests,
                        glm4v_error *err)
{
    runner reference = { 0 };
    bool fine =
        runner_open(&reference, set, set->model, set->reference, s->longest + MAX_ANSWER, err) &&
        answer_all(&reference, s, err);
    for (int i = 0; fine && i < n_tests; i++)
        fine = measure(&reference, set, s, tests[i], err);
    runner_close(&reference);
    return fine;
}

static int run(const settings *set, char **tests, int n_tests)
{
    glm4v_error err = { .msg = "out of memory" };
    sequences s = { 0 };
    bool fine = make_sequences(&s, set, &err);
    if (fine)
        fine = set->answers ? print_answers(set, &s, tests[0], &err)
                            : compare_all(set, &s, tests, n_tests, &err);
    for (uint32_t i = 0; i < s.n; i++)
        glm4v_calibration_sample_clear(&s.list[i]);
    free(s.list);
    cli_pictures_free(&s.pictures);
    return fine ? 0 : end(&err);
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "pictures", required_argument, NULL, 'p' },
                                             { "model", required_argument, NULL, 'm' },
                                             { "reference", required_argument, NULL, 'r' },
                                             { "threads", required_argument, NULL, 't' },
                                             { "json", no_argument, NULL, 'j' },
                                             { "answers", no_argument, NULL, 'a' },
                                             { NULL, 0, NULL, 0 } };
    settings set = { .model = SOURCE_ROOT "/models/surface-tiny",
                     .reference = "text=fp32,vision=fp32,embedding=fp32,lm-head=fp32" };
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'p')
            set.pictures = optarg;
        else if (c == 'm')
            set.model = optarg;
        else if (c == 'r')
            set.reference = optarg;
        else if (c == 't')
            set.threads = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'j')
            set.json = true;
        else if (c == 'a')
            set.answers = true;
        else
            return 2;
    }
    if (!set.pictures || optind == argc) {
        fprintf(stderr, "usage: quantization-bench --pictures DIR [--model DIR] [--reference Q] "
                        "[--threads N] [--json | --answers] TEST...\n");
        return 2;
    }
    cli_media_init();
    return run(&set, argv + optind, argc - optind);
}
