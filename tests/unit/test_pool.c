/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread pool: every item once, callers taking turns, no allocation, restart, failures. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "base/pool.h"
#include "test.h"

#define N 5000

typedef struct {
    atomic_uint counts[N];
    atomic_uint worst_thread;
} tally;

static void count(void *user, int64_t i, int64_t thread)
{
    tally *t = user;
    atomic_fetch_add(&t->counts[i], 1);
    unsigned worst = atomic_load(&t->worst_thread);
    while (thread > worst && !atomic_compare_exchange_weak(&t->worst_thread, &worst, thread))
        ;
}

static void check_counts(tally *t, uint32_t n, unsigned times)
{
    for (uint32_t i = 0; i < N; i++)
        if (atomic_load(&t->counts[i]) != (i < n ? times : 0))
            test_fail(__FILE__, __LINE__, "item %u of %u ran %u times", i, n,
                      atomic_load(&t->counts[i]));
}

static void every_item_runs_once(void)
{
    for (uint32_t threads = 1; threads <= 5; threads++) {
        glm4v_pool *pool = NULL;
        REQUIRE(!glm4v_pool_open(&pool, threads, NULL));
        CHECK_EQ(glm4v_pool_threads(pool), threads);
        for (uint32_t n = 0; n < N; n = n * 3 + 1) {
            tally t = { 0 };
            glm4v_pool_run(pool, n, count, &t);
            check_counts(&t, n, 1);
            CHECK(atomic_load(&t.worst_thread) < threads);
        }
        glm4v_pool_close(&pool);
        CHECK(!pool);
    }
}

static void no_pool_means_the_caller(void)
{
    tally t = { 0 };
    glm4v_pool_run(NULL, 100, count, &t);
    check_counts(&t, 100, 1);
    CHECK_EQ(glm4v_pool_threads(NULL), 1);
    glm4v_pool *none = NULL;
    glm4v_pool_close(&none);
}

static void many_short_runs_follow_each_other(void)
{
    glm4v_pool *pool = NULL;
    tally t = { 0 };
    REQUIRE(!glm4v_pool_open(&pool, 3, NULL));
    uint64_t calls = glm4v_mem_calls();
    for (int i = 0; i < 5000; i++)
        glm4v_pool_run(pool, 7, count, &t);
    CHECK_EQ(glm4v_mem_calls() - calls, 0);
    check_counts(&t, 7, 5000);
    glm4v_pool_close(&pool);
}

typedef struct {
    glm4v_pool *pool;
    tally *t;
    atomic_uint *busy;
} caller;

static void alone(void *user, int64_t i, int64_t thread)
{
    caller *c = user;
    count(c->t, i, thread);
    if (thread == 0) { /* scratch of thread 0 has one user at a time */
        if (atomic_fetch_add(c->busy, 1))
            test_fail(__FILE__, __LINE__, "two callers at once");
        sched_yield();
        atomic_fetch_sub(c->busy, 1);
    }
}

static void *call(void *arg)
{
    caller *c = arg;
    for (int i = 0; i < 200; i++)
        glm4v_pool_run(c->pool, i % 2 ? 1 : 20, alone, c);
    return NULL;
}

static void callers_take_turns(void)
{
    glm4v_pool *pool = NULL;
    tally t = { 0 };
    atomic_uint busy = 0;
    pthread_t threads[4];
    REQUIRE(!glm4v_pool_open(&pool, 3, NULL));
    caller c = { pool, &t, &busy };
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, call, &c);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&t.counts[0]), 800);
    CHECK_EQ(atomic_load(&t.counts[19]), 400);
    glm4v_pool_close(&pool);
}

static void zero_threads_means_the_cores_of_this_process(void)
{
    glm4v_pool *pool = NULL;
    cpu_set_t old, one;
    REQUIRE(!sched_getaffinity(0, sizeof old, &old));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &old))
            CPU_SET(i, &one);
    REQUIRE(!glm4v_pool_open(&pool, 0, NULL));
    CHECK(glm4v_pool_threads(pool) >= 1 && (int)glm4v_pool_threads(pool) <= CPU_COUNT(&old));
    glm4v_pool_close(&pool);
    REQUIRE(!sched_setaffinity(0, sizeof one, &one));
    REQUIRE(!glm4v_pool_open(&pool, 0, NULL));
    CHECK_EQ(glm4v_pool_threads(pool), 1);
    glm4v_pool_close(&pool);
    sched_setaffinity(0, sizeof old, &old);
}

static void refused_memory_and_absurd_counts_are_errors(void)
{
    glm4v_pool *pool = NULL;
    glm4v_error err = { 0 };
    size_t live = glm4v_mem_live();
    CHECK_EQ(glm4v_pool_open(&pool, 100000, &err), GLM4V_ERR_INVALID);
    for (int nth = 1; nth <= 2; nth++) {
        glm4v_mem_fail_at((uint64_t)nth, false);
        CHECK_EQ(glm4v_pool_open(&pool, 2, &err), GLM4V_ERR_NOMEM);
        glm4v_mem_fail_at(0, false);
        CHECK(!pool);
        CHECK_EQ(glm4v_mem_live(), live);
    }
}

static void *background(void *arg)
{
    glm4v_thread_background();
    struct sched_param param;
    int policy = -1;
    pthread_getschedparam(pthread_self(), &policy, &param);
    *(int *)arg = policy == SCHED_BATCH && getpriority(PRIO_PROCESS, 0) >= 5;
    return NULL;
}

static void background_threads_yield_to_others(void)
{
    pthread_t thread;
    int lowered = 0;
    int nice_before = getpriority(PRIO_PROCESS, 0);
    REQUIRE(!pthread_create(&thread, NULL, background, &lowered));
    pthread_join(thread, NULL);
    CHECK(lowered);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), nice_before);
}

int main(void)
{
    TEST(every_item_runs_once);
    TEST(no_pool_means_the_caller);
    TEST(many_short_runs_follow_each_other);
    TEST(callers_take_turns);
    TEST(zero_threads_means_the_cores_of_this_process);
    TEST(refused_memory_and_absurd_counts_are_errors);
    TEST(background_threads_yield_to_others);
    return test_end();
}
