/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Times that a benchmark has measured, and percentiles of them. */
#ifndef GLM4V_BENCH_SAMPLES_H
#define GLM4V_BENCH_SAMPLES_H

#include <glib.h>

typedef struct {
    gint64 *values; /* nanoseconds */
    guint n;
} samples;

gint64 now_ns(void);

/* At most MAX_SAMPLES are kept. */
#define MAX_SAMPLES 100000
void samples_add(samples *s, gint64 value);
void samples_clear(samples *s);

/* Milliseconds below which the fraction p of the samples lies. */
double percentile(samples *s, double p);

#endif
