/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory read bandwidth of this minute, measured beside every decode figure: on shared machines it
 * changes by a factor of two within minutes, so a tokens/s figure alone is not meaningful. */
#define _GNU_SOURCE
#include "bandwidth.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_THREADS = 64 };
enum { BYTES_A_THREAD = 192 << 20, PASSES = 6 }; /* far more than any cache share */

/* a cache line; the compiler splits it as the CPU can */
typedef uint64_t block __attribute__((vector_size(64)));

typedef struct {
    const block *blocks;
    size_t n;
    block sum; /* keeps the compiler from dropping the reads */
} reader;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Four sums, so that additions do not wait for each other. */
static void *read_all(void *user)
{
    reader *r = user;
    block s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 };
    for (size_t i = 0; i + 4 <= r->n; i += 4) {
        s0 += r->blocks[i];
        s1 += r->blocks[i + 1];
        s2 += r->blocks[i + 2];
        s3 += r->blocks[i + 3];
    }
    r->sum += s0 + s1 + s2 + s3;
    return NULL;
}

/* One pass of all threads; 0 if a thread could not start. */
static double pass(reader *readers, int n_threads)
{
    pthread_t threads[MAX_THREADS];
    int started = 0;
    double start = seconds();
    while (started < n_threads &&
           !pthread_create(&threads[started], NULL, read_all, &readers[started]))
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    double taken = seconds() - start;
    return started == n_threads ? 1.0 * n_threads * BYTES_A_THREAD / taken : 0;
}

int cli_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

double cli_read_bandwidth(int n_threads)
{
    reader readers[MAX_THREADS] = { 0 };
    double best = 0;
    if (n_threads < 1)
        n_threads = 1;
    else if (n_threads > MAX_THREADS)
        n_threads = MAX_THREADS;
    size_t n = BYTES_A_THREAD / sizeof(block), bytes = (size_t)n_threads * BYTES_A_THREAD;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 0;
    madvise(memory, bytes, MADV_HUGEPAGE); /* as the engine's weights */
    memset(memory, 1, bytes);              /* own pages, not the shared zero page */
    const block *blocks = memory;
    for (int i = 0; i < n_threads; i++)
        readers[i] = (reader) { .blocks = blocks + i * n, .n = n };
    for (int i = 0; i < PASSES; i++) {
        double rate = pass(readers, n_threads);
        best = rate > best ? rate : best;
    }
    munmap(memory, bytes);
    return best;
}
