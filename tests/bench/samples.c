/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "samples.h"

#include <stdlib.h>
#include <time.h>

gint64 now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (gint64)t.tv_sec * 1000000000 + t.tv_nsec;
}

void samples_add(samples *s, gint64 value)
{
    if (!s->values)
        s->values = g_new(gint64, MAX_SAMPLES);
    if (s->n < MAX_SAMPLES)
        s->values[s->n++] = value;
}

void samples_clear(samples *s)
{
    g_free(s->values);
    *s = (samples) { 0 };
}

static int compare(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

double percentile(samples *s, double p)
{
    if (!s->n)
        return 0;
    qsort(s->values, s->n, sizeof *s->values, compare);
    return (double)s->values[(guint)(p * (s->n - 1) + 0.5)] / 1e6;
}
