/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exact bounds of rates, and a test whether two samples come from one distribution. */
#ifndef GLM4V_TOOLS_STATISTICS_H
#define GLM4V_TOOLS_STATISTICS_H

#include <stddef.h>

/* The largest rate at which so few events in n independent trials, n >= 1, are not less likely than
 * 1 - confidence. Clopper and Pearson, Biometrika 26, 1934: exact for every n. */
double cli_rate_bound(size_t events, size_t n, double confidence);

/* Events among n trials up to which that bound stays at or below rate; -1: not even with none. */
long cli_events_allowed(size_t n, double rate, double confidence);

/* Trials without an event after which the bound is at or below rate, which is in (0, 1). */
size_t cli_trials_needed(double rate, double confidence);

typedef struct {
    double distance; /* largest distance of the two distribution functions, [0, 1] */
    double p; /* probability of such a distance, or a larger one, where nothing has changed */
} cli_difference;

/* Two-sample Kolmogorov-Smirnov test of a [n_a] and b [n_b], both at least 1, sorted here. p is
 * asymptotic with the correction of Stephens, J. Royal Statistical Society B 32, 1970; with ties it
 * is too large. */
cli_difference cli_compare_samples(double *a, size_t n_a, double *b, size_t n_b);

#endif
