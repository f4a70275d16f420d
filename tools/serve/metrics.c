/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See metrics.h. */
#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double bounds[SERVE_BUCKETS] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                              0.5,   1,      2.5,   5,    10,    30,   60,  120 };

void serve_metrics_open(serve_metrics *metrics)
{
    *metrics = (serve_metrics) { 0 };
    pthread_mutex_init(&metrics->lock, NULL);
}

void serve_metrics_close(serve_metrics *metrics)
{
    pthread_mutex_destroy(&metrics->lock);
}

void serve_metrics_answered(serve_metrics *m, const char *path, unsigned status)
{
    uint32_t i = 0;
    pthread_mutex_lock(&m->lock);
    while (i < m->n_answers && (m->answers[i].path != path || m->answers[i].status != status))
        i++;
    if (i == m->n_answers && i < SERVE_PATHS * SERVE_CODES) {
        m->answers[i].path = path;
        m->answers[i].status = status;
        m->n_answers++;
    }
    if (i < m->n_answers)
        m->answers[i].count++;
    pthread_mutex_unlock(&m->lock);
}

static void observe(serve_histogram *h, double seconds)
{
    int i = 0;
    while (i < SERVE_BUCKETS && seconds > bounds[i])
        i++;
    h->counts[i]++;
    h->sum += seconds;
}

void serve_metrics_described(serve_metrics *m, const glm4v_result *r, uint32_t pictures,
                             uint64_t waited)
{
    const glm4v_timings *t = &r->timings;
    pthread_mutex_lock(&m->lock);
    m->prompt_tokens += r->prompt_tokens;
    m->cached_tokens += r->cached_tokens;
    m->vision_tokens += r->vision_tokens;
    m->output_tokens += r->output_tokens;
    m->drafted_tokens += r->drafted_tokens;
    m->accepted_tokens += r->accepted_tokens;
    m->pictures += pictures;
    observe(&m->queued, (double)(t->queued + waited) / 1e9);
    observe(&m->total, (double)(t->total + waited) / 1e9);
    if (r->output_tokens)
        observe(&m->first_token, (double)(t->first_token + waited) / 1e9);
    if (r->output_tokens > 1)
        observe(&m->per_token, (double)t->decode / 1e9 / (r->output_tokens - 1));
    pthread_mutex_unlock(&m->lock);
}

/* ---- text ---- */

static void head(glm4v_text_out *out, const char *name, const char *type, const char *help)
{
    glm4v_text_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void number(glm4v_text_out *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    head(out, name, type, help);
    glm4v_text_format(out, "%s %" PRIu64 "\n", name, value);
}

static void histogram(glm4v_text_out *out, const char *name, const char *help,
                      const serve_histogram *h)
{
    uint64_t n = 0;
    head(out, name, "histogram", help);
    for (int i = 0; i < SERVE_BUCKETS; i++) {
        n += h->counts[i];
        glm4v_text_format(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i], n);
    }
    n += h->counts[SERVE_BUCKETS];
    glm4v_text_format(out,
                      "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9g\n%s_count %" PRIu64 "\n",
                      name, n, name, h->sum, name, n);
}

static uint64_t resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    const int got = fscanf(file, "%llu %llu", &total, &resident);
    fclose(file);
    return got == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void write_answers(const serve_metrics *m, glm4v_text_out *out)
{
    head(out, "glm4v_http_requests_total", "counter", "Responses by path and status.");
    for (uint32_t i = 0; i < m->n_answers; i++)
        glm4v_text_format(out, "glm4v_http_requests_total{path=\"%s\",code=\"%u\"} %" PRIu64 "\n",
                          m->answers[i].path, m->answers[i].status, m->answers[i].count);
}

static void write_totals(const serve_metrics *m, glm4v_text_out *out)
{
    number(out, "glm4v_prompt_tokens_total", "counter", "Tokens of prompts, pictures included.",
           m->prompt_tokens);
    number(out, "glm4v_cached_tokens_total", "counter", "Of these, found in the prefix cache.",
           m->cached_tokens);
    number(out, "glm4v_vision_tokens_total", "counter", "Of these, of pictures.", m->vision_tokens);
    number(out, "glm4v_output_tokens_total", "counter", "Tokens generated.", m->output_tokens);
    number(out, "glm4v_drafted_tokens_total", "counter", "Tokens that were expected and checked.",
           m->drafted_tokens);
    number(out, "glm4v_accepted_tokens_total", "counter", "Of these, were right.",
           m->accepted_tokens);
    number(out, "glm4v_pictures_total", "counter", "Pictures of answered requests.", m->pictures);
    histogram(out, "glm4v_time_to_first_token_seconds",
              "From the end of a request to the first token of its answer.", &m->first_token);
    histogram(out, "glm4v_time_per_output_token_seconds",
              "Mean time of an answer's tokens after the first.", &m->per_token);
    histogram(out, "glm4v_request_seconds", "From the end of a request to the end of its answer.",
              &m->total);
    histogram(out, "glm4v_queue_seconds", "From the end of a request to the engine's first work.",
              &m->queued);
}

static void write_gauges(const serve_gauges *g, glm4v_text_out *out)
{
    const glm4v_engine_stats *e = &g->engine;
    number(out, "glm4v_connections", "gauge", "Open connections.", g->connections);
    number(out, "glm4v_requests_in_progress", "gauge", "Requests being answered.", g->requests);
    number(out, "glm4v_engine_running", "gauge", "Requests in the batch.", e->running);
    number(out, "glm4v_engine_queued", "gauge", "Requests that wait for a place in the batch.",
           e->queued);
    number(out, "glm4v_engine_batch_limit", "gauge", "Places in the batch.", g->max_batch);
    number(out, "glm4v_engine_steps_total", "counter", "Steps of the scheduler.", e->steps);
    number(out, "glm4v_engine_decode_steps_total", "counter", "Steps of decoding.",
           e->decode_steps);
    number(out, "glm4v_engine_decode_requests_total", "counter",
           "Requests of these; by steps: the mean batch.", e->decode_requests);
    number(out, "glm4v_engine_decode_rows_total", "counter",
           "Rows of these: a request has several with drafts, choices or a schema.",
           e->decode_rows);
    number(out, "glm4v_engine_completed_total", "counter", "Requests that ended well.",
           e->completed);
    number(out, "glm4v_engine_canceled_total", "counter", "Requests whose client left.",
           e->canceled);
    number(out, "glm4v_engine_failed_total", "counter", "Requests that failed.", e->failed);
    number(out, "glm4v_prefix_cache_hits_total", "counter",
           "Requests whose prompt began as the one before.", e->prefix_hits);
    number(out, "glm4v_engine_memory_bytes", "gauge",
           "Weights, cache and scratch that are planned for, on all devices.", e->memory);
    number(out, "glm4v_decoded_pixels_bytes", "gauge", "Memory of decoded pictures.", g->pixels);
    number(out, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
}

void serve_metrics_write(serve_metrics *m, const serve_gauges *gauges, glm4v_text_out *out)
{
    pthread_mutex_lock(&m->lock);
    write_answers(m, out);
    write_totals(m, out);
    pthread_mutex_unlock(&m->lock);
    write_gauges(gauges, out);
}
