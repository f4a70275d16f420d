/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What drafts of the MTP layer gain and cost: mtp-bench CONFIG [QUANTIZATION [TOKENS [THREADS
 * [DEVICE]]]], of the CPU where no device is named.
 * CONFIG: a config.json that announces such a layer (GLM-OCR), whose sizes get random weights.
 * These draft nothing that is right, so a script does: in the logits of the layer it puts the token
 * that the answer has there on top, or with a given share another one. 20 pictures of text are
 * drawn, a lot code and a date each, and read with drafts of the layer alone and without drafts, in
 * turn; tower and prompt are kept from the run before, so that decoding is what is timed. Prints
 * one line of JSON for each share: tokens a second by the clock (medians over the pictures), by
 * processor time (of all), tokens of a decode step. Then the prefill of a prompt of words, with and
 * without the layer's keys and values. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"
#include "glm4v/glm4v.h"

enum { PICTURES = 20, WIDTH = 224, HEIGHT = 112, MOST_TOKENS = 256, WORDS = 100, ROUNDS = 9 };

/* ---- pictures of text ---- */

/* Rows of 5 pixels, of 0 to 9, A to Z. */
static const uint8_t glyphs[36][7] = {
    { 14, 17, 19, 21, 25, 17, 14 }, { 4, 12, 4, 4, 4, 4, 14 },      { 14, 17, 1, 2, 4, 8, 31 },
    { 31, 2, 4, 2, 1, 17, 14 },     { 2, 6, 10, 18, 31, 2, 2 },     { 31, 16, 30, 1, 1, 17, 14 },
    { 6, 8, 16, 30, 17, 17, 14 },   { 31, 1, 2, 4, 8, 8, 8 },       { 14, 17, 17, 14, 17, 17, 14 },
    { 14, 17, 17, 15, 1, 2, 12 },   { 14, 17, 17, 31, 17, 17, 17 }, { 30, 17, 17, 30, 17, 17, 30 },
    { 14, 17, 16, 16, 16, 17, 14 }, { 30, 17, 17, 17, 17, 17, 30 }, { 31, 16, 16, 30, 16, 16, 31 },
    { 31, 16, 16, 30, 16, 16, 16 }, { 14, 17, 16, 23, 17, 17, 15 }, { 17, 17, 17, 31, 17, 17, 17 },
    { 14, 4, 4, 4, 4, 4, 14 },      { 7, 2, 2, 2, 2, 18, 12 },      { 17, 18, 20, 24, 20, 18, 17 },
    { 16, 16, 16, 16, 16, 16, 31 }, { 17, 27, 21, 21, 17, 17, 17 }, { 17, 25, 21, 19, 17, 17, 17 },
    { 14, 17, 17, 17, 17, 17, 14 }, { 30, 17, 17, 30, 16, 16, 16 }, { 14, 17, 17, 17, 21, 18, 13 },
    { 30, 17, 17, 30, 20, 18, 17 }, { 15, 16, 16, 14, 1, 1, 30 },   { 31, 4, 4, 4, 4, 4, 4 },
    { 17, 17, 17, 17, 17, 17, 14 }, { 17, 17, 17, 17, 17, 10, 4 },  { 17, 17, 17, 21, 21, 27, 17 },
    { 17, 17, 10, 4, 10, 17, 17 },  { 17, 17, 10, 4, 4, 4, 4 },     { 31, 1, 2, 4, 8, 16, 31 },
};

static const uint8_t *glyph_of(char c)
{
    if (c >= '0' && c <= '9')
        return glyphs[c - '0'];
    return c >= 'A' && c <= 'Z' ? glyphs[c - 'A' + 10] : NULL;
}

static void write_line(uint8_t *rgb, const char *text, int top, int scale)
{
    for (int i = 0; text[i]; i++) {
        const uint8_t *glyph = glyph_of(text[i]);
        for (int y = 0; glyph && y < 7 * scale; y++)
            for (int x = 0; x < 5 * scale; x++) {
                const int column = 12 + i * 6 * scale + x;
                if (glyph[y / scale] >> (4 - x / scale) & 1)
                    memset(rgb + 3 * ((top + y) * WIDTH + column), 20, 3);
            }
    }
}

/* A label: dark letters on a light ground with a little noise. */
static void draw(uint8_t *rgb, int number)
{
    char lot[16], date[16];
    snprintf(lot, sizeof lot, "LOT%06d", (number * 7919 + 104729) % 1000000);
    snprintf(date, sizeof date, "EXP %02d %02d", number % 12 + 1, 26 + number % 7);
    for (int i = 0; i < 3 * WIDTH * HEIGHT; i++)
        rgb[i] = (uint8_t)(215 + (uint32_t)(i + number) * 2654435761u % 23);
    write_line(rgb, lot, 18, 3);
    write_line(rgb, date, 66, 3);
}

/* ---- the script ---- */

static struct {
    const glm4v_engine *engine;
    glm4v_backend_ops real;
    int32_t answer[MOST_TOKENS];
    int64_t n;
    double share; /* of right drafts */
    uint32_t picture;
    uint64_t step; /* number of the decode step that is drafted for */
    int64_t depth; /* passes of the layer for it */
    bool drafting; /* logits of the layer are on their way */
} script;

/* The head's steps alone have outputs and no ids; they may be replayed. */
static int scripted_begin(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed)
{
    script.drafting = !rows->ids && rows->n_outputs;
    return script.real.step_begin(step, rows, replayed);
}

static bool right_at(int64_t at)
{
    uint32_t h = (uint32_t)at * 2654435761u ^ (script.picture + 1) * 2246822519u;
    h = (h ^ (h >> 15)) * 2246822519u;
    h = (h ^ (h >> 13)) * 3266489917u;
    return (double)(h >> 8) < script.share * (1 << 24);
}

/* The answer's tokens so far are known to the request: a draft stands behind them. */
static void put_on_top(void)
{
    if (script.step != script.engine->n_batches)
        script.depth = 0;
    script.step = script.engine->n_batches;
    const int64_t at = script.engine->running[0]->result.output_tokens + script.depth++;
    const int32_t id = at < script.n ? script.answer[at] : 0;
    const int64_t vocab = script.engine->model->config.text.vocab;
    glm4v_pass_logits(script.engine->context,
                      GLM4V_LANE_DECODE)[right_at(at) ? id : (id + 1) % vocab] = 1e30f;
    script.drafting = false;
}

/* The thread waits for a pass of the layer: an event that is reached then is behind it. */
static int scripted_done(glm4v_backend *b, glm4v_event *event)
{
    int rc = script.real.event_done(b, event);
    if (rc == 1 && script.drafting)
        put_on_top();
    return rc;
}

static void install(glm4v_engine *engine, glm4v_model *model, glm4v_backend_ops *ops)
{
    glm4v_backend *b = model->stages[0].backend;
    script.engine = engine;
    script.real = *b->ops;
    *ops = *b->ops;
    ops->step_begin = scripted_begin;
    ops->event_done = scripted_done;
    b->ops = ops;
}

/* ---- runs ---- */

typedef struct {
    glm4v_engine *engine;
    uint8_t *rgb;
    const char *prompt;
    uint32_t tokens;
    glm4v_result *result;
    double processor; /* seconds of decoding */
} bench;

static double processor_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_text(void *user, glm4v_text_part part, const char *text)
{
    bench *b = user;
    if (b->processor == 0)
        b->processor = processor_time();
}

/* Without past answers: the layer's drafts alone. */
static int ask(bench *b, int picture, glm4v_speculation speculation, glm4v_error *err)
{
    const glm4v_image image = {
        .data = b->rgb, .width = WIDTH, .height = HEIGHT, .stride = 3 * (int64_t)WIDTH
    };
    const glm4v_task task = { .prompt = b->prompt,
                              .images = &image,
                              .n_images = picture >= 0,
                              .pictures_id = (uint64_t)(picture + 1),
                              .max_tokens = b->tokens,
                              .temperature = 1,
                              .seed = 1,
                              .speculation = speculation,
                              .on_text = on_text,
                              .user = b };
    b->engine->past.n_answers = b->engine->past.n_ids = 0;
    glm4v_result_free(&b->result);
    b->processor = 0;
    int rc = glm4v_describe(b->engine, &task, &b->result, err);
    b->processor = processor_time() - b->processor;
    return rc;
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

static uint64_t steps_of(glm4v_engine *engine)
{
    glm4v_engine_stats stats = { 0 };
    glm4v_engine_get_stats(engine, &stats, NULL);
    return stats.decode_steps;
}

typedef struct {
    double rate[2][PICTURES], processor[2], tokens[2];
    uint64_t steps[2], drafted, accepted;
} figures;

/* What the model answers, for the script; its prompt is then in memory. */
static int learn(bench *b, int picture, glm4v_error *err)
{
    draw(b->rgb, picture);
    script.n = 0;
    script.picture = (uint32_t)picture;
    int rc = ask(b, picture, GLM4V_SPECULATION_AUTO, err);
    if (rc)
        return rc;
    const glm4v_past *past = &b->engine->past;
    const glm4v_past_answer *a = &past->answers[past->n_answers - 1];
    script.n = a->n < MOST_TOKENS ? a->n : MOST_TOKENS;
    memcpy(script.answer, past->ids + a->start, (size_t)script.n * sizeof *script.answer);
    return 0;
}

static int read_picture(bench *b, figures *f, int picture, glm4v_error *err)
{
    int rc = 0;
    for (int i = 0; !rc && i < 2; i++) {
        const int on = (i + picture) % 2;
        const uint64_t before = steps_of(b->engine);
        rc = ask(b, picture, on ? GLM4V_SPECULATION_AUTO : GLM4V_SPECULATION_OFF, err);
        if (rc)
            break;
        const double tokens = b->result->output_tokens - 1;
        f->rate[on][picture] = tokens / ((double)b->result->timings.decode / 1e9);
        f->processor[on] += b->processor;
        f->tokens[on] += tokens;
        f->steps[on] += steps_of(b->engine) - before;
        f->drafted += on ? b->result->drafted_tokens : 0;
        f->accepted += on ? b->result->accepted_tokens : 0;
    }
    return rc;
}

static int run_shares(bench *b, glm4v_error *err)
{
    static const double shares[] = { 0.9, 0.8, 0.7, 0.6, 0 };
    enum { N = sizeof shares / sizeof *shares };
    static figures all[N];
    const glm4v_mtp_record fresh = b->engine->past.mtp;
    static glm4v_mtp_record records[N];
    int rc = 0;
    for (int i = 0; i < N; i++)
        records[i] = fresh;
    for (int picture = 0; !rc && picture < PICTURES; picture++) {
        script.share = 0;
        rc = learn(b, picture, err);
        for (int i = 0; !rc && i < N; i++) {
            script.share = shares[i];
            b->engine->past.mtp = records[i];
            rc = read_picture(b, &all[i], picture, err);
            records[i] = b->engine->past.mtp;
        }
        b->engine->past.mtp = fresh;
    }
    for (int i = 0; !rc && i < N; i++) {
        figures *f = &all[i];
        const double off = median(f->rate[0], PICTURES), on = median(f->rate[1], PICTURES);
        printf("{\"share right\": %.2f, \"off\": %.2f, \"auto\": %.2f, \"times\": %.2f, "
               "\"times by processor time\": %.3f, \"tokens a step\": %.2f, \"drafted\": %llu, "
               "\"accepted\": %llu}\n",
               shares[i], off, on, on / off, f->processor[0] / f->processor[1],
               f->tokens[1] / (double)f->steps[1], (unsigned long long)f->drafted,
               (unsigned long long)f->accepted);
    }
    fflush(stdout);
    return rc;
}

/* A prompt that differs from the first word on is computed as a whole. */
static int time_prefill(bench *b, glm4v_error *err)
{
    static char prompt[8 * WORDS];
    double seconds[2][ROUNDS], processor[2] = { 0 };
    const glm4v_mtp_record record = b->engine->past.mtp;
    int rc = 0;
    b->prompt = prompt;
    b->tokens = 1;
    for (int i = 0; !rc && i < 2 * ROUNDS; i++) {
        const int on = (i + i / 2) % 2;
        *prompt = 0;
        for (int w = 0; w < WORDS; w++)
            strcat(prompt, (w + i) % 3 ? "image " : "text ");
        b->engine->past.mtp = record;
        const double before = processor_time();
        rc = ask(b, -1, on ? GLM4V_SPECULATION_AUTO : GLM4V_SPECULATION_OFF, err);
        processor[on] += processor_time() - before;
        seconds[on][i / 2] = rc ? 0 : (double)b->result->timings.prefill / 1e9;
    }
    if (rc)
        return rc;
    const double off = median(seconds[0], ROUNDS), on = median(seconds[1], ROUNDS);
    printf("{\"prefill of\": %u, \"off\": %.3f, \"auto\": %.3f, \"times\": %.3f, "
           "\"times by processor time\": %.3f}\n",
           b->result->prompt_tokens, off, on, on / off, processor[1] / processor[0]);
    return 0;
}

int main(int argc, char **argv)
{
    glm4v_error err = { 0 };
    glm4v_model *model = NULL;
    static glm4v_backend_ops ops;
    static uint8_t rgb[3 * WIDTH * HEIGHT];
    bench b = { .rgb = rgb, .prompt = "Text Recognition:", .tokens = 48 };
    if (argc < 2) {
        fprintf(stderr, "mtp-bench CONFIG [QUANTIZATION [TOKENS [THREADS [DEVICE]]]]\n");
        return 2;
    }
    if (argc > 3)
        b.tokens = (uint32_t)atoi(argv[3]);
    const glm4v_model_options options = { .random_weights = 1,
                                          .device = argc > 5 ? argv[5] : "cpu",
                                          .quantization = argc > 2 ? argv[2] : NULL,
                                          .n_threads = argc > 4 ? (uint32_t)atoi(argv[4]) : 2 };
    int rc = b.tokens < 2 || b.tokens > MOST_TOKENS;
    if (!rc)
        rc = glm4v_model_open(&model, argv[1], &options, &err);
    if (!rc)
        rc = glm4v_engine_open(&b.engine, model,
                               &(glm4v_engine_options) { .max_batch = 1, .context_length = 2048 },
                               &err);
    if (!rc && !glm4v_context_mtp(b.engine->context)) {
        fprintf(stderr, "%s announces no MTP layer\n", argv[1]);
        rc = 1;
    }
    if (!rc) {
        install(b.engine, model, &ops);
        rc = run_shares(&b, &err);
    }
    if (!rc)
        rc = time_prefill(&b, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.msg);
    glm4v_result_free(&b.result);
    glm4v_engine_close(&b.engine);
    if (model)
        glm4v_model_close(&model);
    return rc != 0;
}
