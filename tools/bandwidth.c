/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory read bandwidth of this minute, measured beside every decode figure: on shared machines it moves by a factor
 * of two within minutes, so a tokens/s figure alone says little. */
#define _GNU_SOURCE
#include "bandwidth.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "cli.h"

enum { BYTES_A_THREAD = 192 << 20, PASSES = 6 }; /* far more than any cache share */

typedef struct {
    const uint64_t *words;
    size_t n;
    uint64_t sum; /* keeps the compiler from dropping the reads */
} reader;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *read_all(void *user)
{
    reader *r = user;
    uint64_t s[8] = { 0 };
    for (size_t i = 0; i + 8 <= r->n; i += 8)
        for (int k = 0; k < 8; k++)
            s[k] += r->words[i + (size_t)k];
    for (int k = 0; k < 8; k++)
        r->sum += s[k];
    return NULL;
}

/* One pass of all threads; 0 if a thread could not start. */
static double pass(reader *readers, int n_threads)
{
    pthread_t threads[64];
    int started = 0;
    double start = seconds();
    while (started < n_threads && !pthread_create(&threads[started], NULL, read_all, &readers[started]))
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    double taken = seconds() - start;
    return started == n_threads ? (double)n_threads * BYTES_A_THREAD / taken : 0;
}

int cli_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

double cli_read_bandwidth(int n_threads)
{
    reader readers[64] = { 0 };
    double best = 0;
    n_threads = n_threads < 1 ? 1 : n_threads > 64 ? 64 : n_threads;
    size_t n = BYTES_A_THREAD / sizeof(uint64_t);
    uint64_t *words = cli_alloc((size_t)n_threads * n, sizeof *words);
    if (!words)
        return 0;
    for (size_t i = 0; i < (size_t)n_threads * n; i += 512) /* own pages, not the shared zero page */
        words[i] = i;
    for (int i = 0; i < n_threads; i++)
        readers[i] = (reader){ .words = words + (size_t)i * n, .n = n };
    for (int i = 0; i < PASSES; i++) {
        double rate = pass(readers, n_threads);
        best = rate > best ? rate : best;
    }
    free(words);
    return best;
}
