/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See statistics.h. */
#include "statistics.h"

#include <math.h>
#include <stdlib.h>

/* Probability of at most `events` events in n trials of rate p, in (0, 1). */
static double at_most(size_t events, size_t n, double p)
{
    const double all = lgamma((double)n + 1);
    double sum = 0;
    for (size_t i = 0; i <= events; i++) {
        const double hits = (double)i, misses = (double)(n - i);
        sum +=
            exp(all - lgamma(hits + 1) - lgamma(misses + 1) + hits * log(p) + misses * log1p(-p));
    }
    return sum;
}

double cli_rate_bound(size_t events, size_t n, double confidence)
{
    double low = 0, high = 1;
    if (events >= n)
        return 1;
    for (int i = 0; i < 60; i++) { /* to the last bit */
        const double middle = (low + high) / 2;
        if (at_most(events, n, middle) > 1 - confidence)
            low = middle;
        else
            high = middle;
    }
    return high;
}

long cli_events_allowed(size_t n, double rate, double confidence)
{
    long events = -1;
    while (events + 1 < (long)n && cli_rate_bound((size_t)(events + 1), n, confidence) <= rate)
        events++;
    return events;
}

size_t cli_trials_needed(double rate, double confidence)
{
    return (size_t)ceil(log(1 - confidence) / log1p(-rate));
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of the limit of sqrt(n) times the distance. */
static double kolmogorov(double x)
{
    double sum = 0, sign = 1;
    if (x < 0.2) /* the series converges slowly there, to 1 */
        return 1;
    for (int k = 1; k <= 100; k++, sign = -sign)
        sum += sign * exp(-2.0 * k * k * x * x);
    return fmin(fmax(2 * sum, 0), 1);
}

cli_difference cli_compare_samples(double *a, size_t n_a, double *b, size_t n_b)
{
    const double size_a = (double)n_a, size_b = (double)n_b;
    const double root = sqrt(size_a * size_b / (size_a + size_b));
    double distance = 0;
    qsort(a, n_a, sizeof *a, ascending);
    qsort(b, n_b, sizeof *b, ascending);
    for (size_t i = 0, k = 0; i < n_a && k < n_b;) {
        const double x = fmin(a[i], b[k]);
        while (i < n_a && a[i] <= x)
            i++;
        while (k < n_b && b[k] <= x)
            k++;
        distance = fmax(distance, fabs((double)i / size_a - (double)k / size_b));
    }
    return (cli_difference) { distance, kolmogorov((root + 0.12 + 0.11 / root) * distance) };
}
