/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What /metrics tells, in the text format of Prometheus. */
#ifndef GLM4V_SERVE_METRICS_H
#define GLM4V_SERVE_METRICS_H

#include <pthread.h>
#include <stdint.h>

#include "base/string_buffer.h"
#include "glm4v/glm4v.h"

enum { SERVE_BUCKETS = 16, SERVE_CODES = 32, SERVE_PATHS = 16 };

/* Seconds. */
typedef struct {
    uint64_t counts[SERVE_BUCKETS + 1]; /* by upper bound; the last one has none */
    double sum;
} serve_histogram;

typedef struct {
    pthread_mutex_t lock; /* guards all that follows */
    struct {
        const char *path;
        unsigned status;
        uint64_t count;
    } answers[SERVE_PATHS * SERVE_CODES]; /* [n_answers] */
    uint32_t n_answers;
    uint64_t prompt_tokens, cached_tokens, vision_tokens, output_tokens;
    uint64_t drafted_tokens, accepted_tokens;
    uint64_t pictures;
    serve_histogram first_token, per_token, total, queued;
} serve_metrics;

void serve_metrics_open(serve_metrics *metrics);
void serve_metrics_close(serve_metrics *metrics);

/* A response was begun. path: static, of a route; "other" where there is none. */
void serve_metrics_answered(serve_metrics *metrics, const char *path, unsigned status);

/* An answer of the model is complete. waited: nanoseconds from the end of the request until the
 * engine had it. */
void serve_metrics_described(serve_metrics *metrics, const glm4v_result *result, uint32_t pictures,
                             uint64_t waited);

/* Values that others know. */
typedef struct {
    glm4v_engine_stats engine;
    uint32_t connections, requests; /* now */
    uint32_t max_batch;
    uint64_t pixels; /* bytes */
} serve_gauges;

void serve_metrics_write(serve_metrics *metrics, const serve_gauges *gauges, glm4v_text_out *out);

#endif
