/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much faster answers come with drafts: speculation-bench CONFIG [QUANTIZATION [ROUNDS [FRAME
 * [THREADS [DEVICE]]]]]. CONFIG: a config.json, whose sizes get random weights; FRAME: side of a
 * picture in pixels, 0 = none; DEVICE: the CPU where none is named. Answers of 24 tokens, drawn
 * with a fixed seed, so that the model would give the same answer each time. What it gave "last
 * time" is changed behind its back: not at all (a still scene), one token in ten (a slow one), or
 * reversed, so that there is a draft for every token and always a wrong one (cuts). Each is timed
 * with drafts and without, in turn. Prints one line of JSON a case: medians of the decode rate by
 * the clock and by processor time, and with a picture of the captions a second from the picture to
 * the end. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"
#include "glm4v/glm4v.h"

enum { TOKENS = 24, MOST_ROUNDS = 100, PROMPT_WORDS = 220 };

static const char *const names[] = { "still", "one in ten", "cuts" };

typedef struct {
    glm4v_engine *engine;
    glm4v_image image;
    char prompt[PROMPT_WORDS * 6 + 1];
    glm4v_result *result;
    double processor;
} bench;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[n / 2];
}

/* Processor time of the first token, to be taken off that of the answer. */
static void on_text(void *user, glm4v_text_part part, const char *text)
{
    bench *b = user;
    if (b->processor == 0)
        b->processor = now(CLOCK_PROCESS_CPUTIME_ID);
}

static int ask(bench *b, glm4v_speculation speculation, glm4v_error *err)
{
    const glm4v_task task = { .prompt = b->prompt,
                              .images = &b->image,
                              .n_images = b->image.data != NULL,
                              .max_tokens = TOKENS,
                              .temperature = 1,
                              .seed = 1,
                              .speculation = speculation,
                              .on_text = on_text,
                              .user = b };
    glm4v_result_free(&b->result);
    b->processor = 0;
    int rc = glm4v_describe(b->engine, &task, &b->result, err);
    b->processor = now(CLOCK_PROCESS_CPUTIME_ID) - b->processor;
    return rc;
}

/* What the engine remembers of the last answer, while it is idle. */
static void change_past(glm4v_engine *engine, int which)
{
    glm4v_past *past = &engine->past;
    const glm4v_past_answer *a = &past->answers[past->n_answers - 1];
    int32_t *ids = past->ids + a->start;
    for (int64_t i = 0; which == 1 && i < a->n; i++)
        ids[i] ^= i % 10 == 5;
    for (int64_t i = 0; which == 2 && i < a->n / 2; i++) {
        const int32_t id = ids[i];
        ids[i] = ids[a->n - 1 - i];
        ids[a->n - 1 - i] = id;
    }
}

typedef struct {
    double rate[2][MOST_ROUNDS], processor[2][MOST_ROUNDS], captions[2][MOST_ROUNDS];
    uint64_t drafted, accepted;
} figures;

static int run_case(bench *b, int which, int rounds, glm4v_error *err)
{
    static figures f;
    memset(&f, 0, sizeof f);
    b->engine->past.n_answers = b->engine->past.n_ids = 0;
    int rc = ask(b, GLM4V_SPECULATION_AUTO, err);
    if (!rc && which == 2) { /* the credit of a stream's second answer is gone once */
        change_past(b->engine, which);
        rc = ask(b, GLM4V_SPECULATION_AUTO, err);
    }
    for (int i = 0; !rc && i < 2 * rounds; i++) {
        const int on = (i + i / 2) % 2, round = i / 2;
        if (on)
            change_past(b->engine, which);
        rc = ask(b, on ? GLM4V_SPECULATION_AUTO : GLM4V_SPECULATION_OFF, err);
        if (rc)
            break;
        f.rate[on][round] = (TOKENS - 1) / ((double)b->result->timings.decode / 1e9);
        f.processor[on][round] = (TOKENS - 1) / b->processor;
        f.captions[on][round] = 1e9 / (double)b->result->timings.total;
        f.drafted += on ? b->result->drafted_tokens : 0;
        f.accepted += on ? b->result->accepted_tokens : 0;
    }
    if (rc)
        return rc;
    double m[2][3];
    for (int on = 0; on < 2; on++) {
        m[on][0] = median(f.rate[on], rounds);
        m[on][1] = median(f.processor[on], rounds);
        m[on][2] = median(f.captions[on], rounds);
    }
    printf("{\"case\": \"%s\", \"off\": %.2f, \"auto\": %.2f, \"times\": %.2f, "
           "\"times by processor time\": %.2f, \"captions off\": %.4f, \"captions auto\": %.4f, "
           "\"drafted\": %.1f, \"accepted\": %.1f}\n",
           names[which], m[0][0], m[1][0], m[1][0] / m[0][0], m[1][1] / m[0][1], m[0][2], m[1][2],
           (double)f.drafted / rounds, (double)f.accepted / rounds);
    fflush(stdout);
    return 0;
}

/* Gradients with noise. */
static uint8_t *draw(int side)
{
    uint8_t *rgb = malloc((size_t)side * (size_t)side * 3);
    for (int i = 0; rgb && i < 3 * side * side; i++)
        rgb[i] = (uint8_t)(i / side + i * 2654435761u % 61);
    return rgb;
}

int main(int argc, char **argv)
{
    glm4v_error err = { 0 };
    glm4v_model *model = NULL;
    static bench b;
    if (argc < 2) {
        fprintf(stderr,
                "speculation-bench CONFIG [QUANTIZATION [ROUNDS [FRAME [THREADS [DEVICE]]]]]\n");
        return 2;
    }
    const int rounds = argc > 3 ? atoi(argv[3]) : 5, side = argc > 4 ? atoi(argv[4]) : 0;
    const glm4v_model_options options = { .random_weights = 1,
                                          .device = argc > 6 ? argv[6] : "cpu",
                                          .quantization = argc > 2 ? argv[2] : NULL,
                                          .n_threads = argc > 5 ? (uint32_t)atoi(argv[5]) : 2 };
    for (int i = 0; i < (side ? 1 : PROMPT_WORDS); i++)
        strcat(b.prompt, "image ");
    if (side)
        b.image = (glm4v_image) {
            .data = draw(side), .width = side, .height = side, .stride = 3 * (int64_t)side
        };
    int rc = rounds < 1 || rounds > MOST_ROUNDS;
    if (!rc)
        rc = glm4v_model_open(&model, argv[1], &options, &err);
    if (!rc)
        rc = glm4v_engine_open(&b.engine, model,
                               &(glm4v_engine_options) { .max_batch = 1, .context_length = 2048 },
                               &err);
    for (int which = 0; !rc && which < 3; which++)
        rc = run_case(&b, which, rounds, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.msg);
    glm4v_result_free(&b.result);
    glm4v_engine_close(&b.engine);
    glm4v_model_close(&model);
    free((void *)(uintptr_t)b.image.data);
    return rc != 0;
}
