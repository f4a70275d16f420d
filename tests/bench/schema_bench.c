/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a JSON schema costs a token: schema-bench TOKENIZER [SCHEMA]. TOKENIZER: tokenizer.json or
 * tokenizer.model, e.g. of GLM-4V-9B for a vocabulary of 151,552 entries. Answers are drawn from
 * random logits with 256 tokens each; what is timed is each mask, the look for forced tokens before
 * it, and the greedy choice with it and without a mask. "First" are the masks of the first answer.
 * Prints one line of JSON: milliseconds of processor time, mean, 99th percentile and largest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "forward/sample.h"
#include "shape/constraint.h"

enum { ANSWERS = 400, TOKENS = 256, MOST = ANSWERS * TOKENS };

static const char report[] =
    "{\"type\":\"object\",\"properties\":{\"part\":{\"type\":\"string\",\"maxLength\":24},"
    "\"surface\":"
    "{\"enum\":[\"copper\",\"rolled steel\",\"cast "
    "iron\",\"unknown\"]},\"count\":{\"type\":\"integer\","
    "\"minimum\":0,\"maximum\":99},\"confidence\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1}"
    ","
    "\"defects\":{\"type\":\"array\",\"maxItems\":8,\"items\":{\"type\":\"object\",\"properties\":{"
    "\"kind\":{\"enum\":[\"scratch\",\"crack\",\"pit\",\"dent\",\"stain\"]},\"note\":{\"type\":"
    "\"string\"},\"box\":{\"type\":\"array\",\"minItems\":4,\"maxItems\":4,\"items\":{\"type\":"
    "\"integer\",\"minimum\":0,\"maximum\":1000}}},\"required\":[\"kind\",\"box\"]}}},\"required\":"
    "["
    "\"surface\",\"count\",\"confidence\",\"defects\"]}";

static double masks[MOST], forces[MOST], choices[MOST], free_choices[MOST];
static int64_t n_masks;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, double *times, int64_t n)
{
    double sum = 0;
    qsort(times, (size_t)n, sizeof *times, ascending);
    for (int64_t i = 0; i < n; i++)
        sum += times[i];
    printf(", \"%s\": {\"mean\": %.4f, \"p99\": %.4f, \"max\": %.4f}", name, sum / (double)n,
           times[n * 99 / 100], times[n - 1]);
}

static char *read_file(const char *path)
{
    char *text = calloc(1, 1 << 20);
    FILE *file = fopen(path, "rb");
    if (!file || !fread(text, 1, (1 << 20) - 1, file))
        fprintf(stderr, "%s cannot be read\n", path);
    if (file)
        fclose(file);
    return text;
}

typedef struct {
    const glm4v_tokenizer *tokenizer;
    const glm4v_token_tries *tries;
    const char *schema;
    glm4v_shapes shapes;
    glm4v_sampler sampler;
    glm4v_candidate *scratch;
    float *random, *logits;
} bench;

/* One answer. */
static int run(bench *b, int answer, double *opened, glm4v_error *err)
{
    glm4v_constraint *c = NULL;
    const int32_t stop = b->tries->n_ids - 1;
    glm4v_shape *shape = NULL;
    const double start = now();
    int rc = glm4v_shapes_take(&b->shapes, &shape, b->schema, b->tries, err);
    if (!rc)
        rc = glm4v_constraint_open(&c, shape, b->tokenizer, TOKENS, err);
    *opened = now() - start;
    for (int64_t n = 0; !rc && n < TOKENS && !glm4v_constraint_done(c);) {
        int32_t ids[64];
        const size_t shift = (size_t)(answer * 7919 + n * 104729) % (size_t)b->tries->n_ids;
        memcpy(b->logits, b->random + shift, (size_t)b->tries->n_ids * sizeof *b->logits);
        const double t0 = now();
        int64_t forced = glm4v_constraint_forced(c, TOKENS - n, ids, 64);
        const double t1 = now();
        if (!forced) {
            const uint64_t *never = glm4v_constraint_never(c, TOKENS - n, &stop, 1);
            const double t2 = now();
            ids[0] = glm4v_sampler_next(&b->sampler, b->logits, never, b->scratch);
            const double t3 = now();
            forces[n_masks] = t1 - t0;
            masks[n_masks] = t2 - t1;
            choices[n_masks] = t3 - t2;
            memcpy(b->logits, b->random + shift, (size_t)b->tries->n_ids * sizeof *b->logits);
            const double t4 = now();
            glm4v_sampler_next(&b->sampler, b->logits, NULL, b->scratch);
            free_choices[n_masks++] = now() - t4;
            forced = 1;
        }
        if (ids[0] == stop)
            break;
        for (int64_t i = 0; i < forced; i++, n++)
            glm4v_constraint_take(c, ids[i]);
    }
    glm4v_constraint_close(&c);
    return rc;
}

static int run_all(bench *b, glm4v_error *err)
{
    static double opened[ANSWERS];
    int rc = 0;
    int64_t first = 0;
    for (int i = 0; !rc && i < ANSWERS; i++) {
        rc = run(b, i, &opened[i], err);
        first = i == 0 ? n_masks : first;
    }
    if (rc)
        return rc;
    printf("{\"vocabulary\": %d, \"masks\": %lld", b->tries->n_ids, (long long)n_masks);
    print("first", masks, first);
    print("mask", masks, n_masks);
    print("forced", forces, n_masks);
    print("choice", choices, n_masks);
    print("choice without a mask", free_choices, n_masks);
    print("compile", opened, ANSWERS);
    printf("}\n");
    return 0;
}

int main(int argc, char **argv)
{
    glm4v_error err = { 0 };
    glm4v_tokenizer *tokenizer = NULL;
    glm4v_token_tries *tries = NULL;
    if (argc < 2) {
        fprintf(stderr, "schema-bench TOKENIZER [SCHEMA]\n");
        return 2;
    }
    int rc = glm4v_tokenizer_open_file(&tokenizer, argv[1], &err);
    const int64_t n_ids = rc ? 0 : ((int64_t)glm4v_tokenizer_size(tokenizer) + 255) / 128 * 128;
    const double start = now();
    if (!rc)
        rc = glm4v_token_tries_open(&tries, tokenizer, n_ids, &err);
    if (!rc) {
        fprintf(stderr, "tries of %zu KiB in %.0f ms\n", tries->bytes >> 10, now() - start);
        bench b = { .tokenizer = tokenizer,
                    .tries = tries,
                    .schema = argc > 2 ? read_file(argv[2]) : report,
                    .sampler = { .top_p = 1, .penalty = 1, .vocab = n_ids },
                    .scratch = malloc((size_t)n_ids * sizeof *b.scratch),
                    .random = malloc(2 * (size_t)n_ids * sizeof *b.random),
                    .logits = malloc((size_t)n_ids * sizeof *b.logits) };
        srand(1);
        for (int64_t i = 0; i < 2 * n_ids; i++)
            b.random[i] = (float)rand() / (float)RAND_MAX;
        rc = run_all(&b, &err);
        glm4v_shapes_clear(&b.shapes);
        free(b.scratch);
        free(b.random);
        free(b.logits);
    }
    if (rc)
        fprintf(stderr, "%s\n", err.msg);
    glm4v_token_tries_close(&tries);
    glm4v_tokenizer_close(&tokenizer);
    return rc != 0;
}
