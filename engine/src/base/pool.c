/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread pool. One run at a time; its items are claimed by counting `remaining` down, so a
 * worker that wakes late finds nothing to claim and no thread has to wait for it.
 *
 * Locks, in this order: `turn` (a run is under way; guards nothing else), `sleep_lock` (guards the
 * waits on `wake` and `finished`; never held while an item runs). fn, user and n are written before
 * `remaining` is stored and read only after an item was claimed. */
#define _GNU_SOURCE
#include "base/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define MAX_THREADS 1024
#define BACKGROUND_NICE 5
#define SPINS 1000 /* about 50 us: longer than the gap between two operations of one forward pass */

typedef struct {
    glm4v_pool *pool;
    pthread_t thread;
    int64_t index;
} worker;

struct glm4v_pool {
    int64_t n_threads;
    int64_t n_started; /* workers to join */
    int spins;
    worker *workers; /* [n_threads - 1] */

    void (*fn)(void *user, int64_t i, int64_t thread);
    void *user;
    int64_t n;

    pthread_mutex_t turn;
    pthread_mutex_t sleep_lock;
    pthread_cond_t wake;                     /* a new run, or stop */
    pthread_cond_t finished;                 /* unfinished became 0 */
    _Alignas(64) _Atomic int64_t remaining;  /* items not yet claimed */
    _Alignas(64) _Atomic int64_t unfinished; /* items not yet done */
    _Alignas(64) atomic_uint generation;     /* counts runs */
    atomic_uint sleepers;                    /* workers in a wait on `wake`, or about to be */
    atomic_bool caller_sleeps;
    atomic_bool stop;
};

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void glm4v_thread_background(void)
{
    id_t self = (id_t)syscall(SYS_gettid);
    struct sched_param param = { 0 };
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &param);
    if (getpriority(PRIO_PROCESS, self) < BACKGROUND_NICE)
        setpriority(PRIO_PROCESS, self, BACKGROUND_NICE);
}

/* Claim items until none is left. */
static void work(glm4v_pool *pool, int64_t thread)
{
    int64_t left = atomic_load_explicit(&pool->remaining, memory_order_acquire);
    while (left) {
        if (!atomic_compare_exchange_weak_explicit(&pool->remaining, &left, left - 1,
                                                   memory_order_acq_rel, memory_order_acquire))
            continue;
        pool->fn(pool->user, pool->n - left, thread);
        if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->sleep_lock);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->sleep_lock);
        }
        left = atomic_load_explicit(&pool->remaining, memory_order_acquire);
    }
}

/* Wait for a run after `seen`: spin, then sleep. */
static void wait_for_run(glm4v_pool *pool, unsigned seen)
{
    for (int i = 0; i < pool->spins; i++) {
        if (atomic_load(&pool->generation) != seen || atomic_load(&pool->stop))
            return;
        pause_cpu();
    }
    pthread_mutex_lock(&pool->sleep_lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->generation) == seen && !atomic_load(&pool->stop))
        pthread_cond_wait(&pool->wake, &pool->sleep_lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->sleep_lock);
}

static void *worker_main(void *arg)
{
    worker *self = arg;
    glm4v_pool *pool = self->pool;
    unsigned seen = 0;
    pthread_setname_np(pthread_self(), "glm4v-pool");
    glm4v_thread_background();
    for (;;) {
        wait_for_run(pool, seen);
        if (atomic_load(&pool->stop))
            return NULL;
        seen = atomic_load(&pool->generation);
        work(pool, self->index);
    }
}

static void wait_until_done(glm4v_pool *pool)
{
    for (int i = 0; i < pool->spins; i++) {
        if (!atomic_load(&pool->unfinished))
            return;
        pause_cpu();
    }
    pthread_mutex_lock(&pool->sleep_lock);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->unfinished))
        pthread_cond_wait(&pool->finished, &pool->sleep_lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->sleep_lock);
}

void glm4v_pool_run(glm4v_pool *pool, int64_t n, void (*fn)(void *user, int64_t i, int64_t thread),
                    void *user)
{
    if (!pool || pool->n_threads == 1 || n == 1) {
        /* thread 0's scratch belongs to one caller at a time, alone or not */
        if (pool)
            pthread_mutex_lock(&pool->turn);
        for (int64_t i = 0; i < n; i++)
            fn(user, i, 0);
        if (pool)
            pthread_mutex_unlock(&pool->turn);
        return;
    }
    if (!n)
        return;
    pthread_mutex_lock(&pool->turn);
    pool->fn = fn;
    pool->user = user;
    pool->n = n;
    atomic_store(&pool->unfinished, n);
    atomic_store(&pool->remaining, n);
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->sleepers)) {
        pthread_mutex_lock(&pool->sleep_lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->sleep_lock);
    }
    work(pool, 0);
    wait_until_done(pool);
    pthread_mutex_unlock(&pool->turn);
}

static bool read_two(const char *path, const char *format, long long *a, long long *b)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    int n = fscanf(file, format, a, b);
    fclose(file);
    return n == 2;
}

static int64_t lower(int64_t cpus, long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return cpus;
    long long whole = (quota + period - 1) / period;
    return whole < cpus ? whole : cpus;
}

/* CPU quotas of this process's control group (version 2) and of all above it. */
static int64_t cgroup_limit(int64_t cpus)
{
    char line[1024], path[1200], group[1024] = "";
    long long quota, period;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "0::/", 4))
            snprintf(group, sizeof group, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    if (file)
        fclose(file);
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        if (read_two(path, "%lld %lld", &quota, &period)) /* "max" reads as nothing */
            cpus = lower(cpus, quota, period);
        char *slash = strrchr(group, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    return cpus;
}

static int64_t usable_cpus(void)
{
    cpu_set_t set;
    int64_t cpus = 1;
    if (!sched_getaffinity(0, sizeof set, &set))
        cpus = CPU_COUNT(&set);
    else if (sysconf(_SC_NPROCESSORS_ONLN) > 0)
        cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cgroup_limit(cpus ? cpus : 1);
}

/* Signals belong to the host process: none is delivered to a worker. */
static int start_workers(glm4v_pool *pool)
{
    sigset_t all, old;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (!rc && pool->n_started < pool->n_threads - 1) {
        worker *w = &pool->workers[pool->n_started];
        *w = (worker) { .pool = pool, .index = pool->n_started + 1 };
        rc = pthread_create(&w->thread, NULL, worker_main, w);
        pool->n_started += !rc;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

int glm4v_pool_open(glm4v_pool **out, int64_t n_threads, glm4v_error *err)
{
    int64_t cpus = usable_cpus();
    if (!n_threads)
        n_threads = cpus < MAX_THREADS ? cpus : MAX_THREADS;
    if (n_threads > MAX_THREADS)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "n_threads is %" PRId64 ", at most %d are possible", n_threads,
                          MAX_THREADS);
    glm4v_pool *pool = glm4v_alloc_aligned(1, sizeof *pool);
    if (!pool)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a pool of %" PRId64 " threads",
                          n_threads);
    memset(pool, 0, sizeof *pool);
    pool->n_threads = n_threads;
    /* more threads than cores: spinning only delays the others */
    pool->spins = n_threads <= cpus ? SPINS : 0;
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->sleep_lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->workers = glm4v_alloc(n_threads - 1, sizeof *pool->workers);
    int rc = pool->workers ? start_workers(pool) : ENOMEM;
    if (rc) {
        glm4v_pool_close(&pool);
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "thread pool: %" PRId64 " threads could not be started: %s", n_threads,
                          strerror(rc));
    }
    *out = pool;
    return 0;
}

void glm4v_pool_close(glm4v_pool **pool_ptr)
{
    glm4v_pool *pool = *pool_ptr;
    if (!pool)
        return;
    pthread_mutex_lock(&pool->sleep_lock);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->sleep_lock);
    for (int64_t i = 0; i < pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->sleep_lock);
    pthread_mutex_destroy(&pool->turn);
    glm4v_free(pool->workers);
    glm4v_free(pool);
    *pool_ptr = NULL;
}

int64_t glm4v_pool_threads(const glm4v_pool *pool)
{
    return pool ? pool->n_threads : 1;
}
