/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Timing for check-kernels --bench: median and spread of 11 runs, beside what the machine can do in
 * the same run. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"

enum { RUNS = 11 };
static const double run_seconds = 0.02;

/* Time that this thread ran: others on the machine delay it less than they delay a clock on the
 * wall. */
double check_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The first runs find how many calls fill run_seconds; then come the runs that count. */
bool bench_next(struct bench *b)
{
    if (b->left > 0) {
        b->left--;
        return true;
    }
    double now = check_now(), elapsed = now - b->start;
    if (b->calls && b->runs == 0 && elapsed < run_seconds) {
        double factor = elapsed > 0 ? run_seconds / elapsed * 1.2 : 100;
        b->calls = (long)((double)b->calls * (factor > 100 ? 100 : factor)) + 1;
    } else if (b->calls) {
        b->seconds[b->runs++] = elapsed / (double)b->calls;
        if (b->runs == RUNS)
            return false;
    } else {
        b->calls = 1;
    }
    b->left = b->calls - 1;
    b->start = check_now();
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the same operation and shape one level lower, to print the gain. */
static double below(const char *key, const char *level, double median)
{
    static struct {
        char key[96], level[24];
        double last, before;
    } seen[256];
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        if (seen[i].key[0] && strcmp(seen[i].key, key))
            continue;
        if (strcmp(seen[i].level, level)) {
            seen[i].before = seen[i].last;
            snprintf(seen[i].level, sizeof seen[i].level, "%s", level);
        }
        snprintf(seen[i].key, sizeof seen[i].key, "%s", key);
        seen[i].last = median;
        return seen[i].before;
    }
    return 0;
}

void bench_report(struct check *t, struct bench *b, const char *shape, double bytes,
                  double operations, double peak)
{
    char key[96];

    qsort(b->seconds, RUNS, sizeof *b->seconds, by_value);
    double median = b->seconds[RUNS / 2], spread = b->seconds[RUNS * 3 / 4] - b->seconds[RUNS / 4];
    double rate = (operations > 0 ? operations : bytes) / median;
    snprintf(key, sizeof key, "%s %s", t->name, shape);
    double slower = below(key, t->level, median);
    if (t->json) {
        printf(
            "{\"function\":\"%s\",\"shape\":\"%s\",\"level\":\"%s\",\"us\":%.3f,\"spread_us\":%.3f,"
            "\"%s\":%.3f,\"percent_of_peak\":%.1f,\"gain\":%.2f}\n",
            t->name, shape, t->level, median * 1e6, spread * 1e6,
            operations > 0 ? "gflops" : "gbytes", rate * 1e-9, peak > 0 ? 100 * rate / peak : 0,
            slower / median);
    } else {
        printf("# bench %-12s %-24s %-12s %10.2f us +- %4.1f %%  %8.2f %s", t->name, shape,
               t->level, median * 1e6, 100 * spread / median, rate * 1e-9,
               operations > 0 ? "Gop/s" : "GB/s");
        if (peak > 0)
            printf("  %5.1f %% of %.1f", 100 * rate / peak, peak * 1e-9);
        if (slower > 0)
            printf("  %.2f x below", slower / median);
        printf("\n");
    }
    fflush(stdout);
}
