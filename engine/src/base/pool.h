/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads of our own: one pool per CPU backend. Workers spin a little, then sleep; they run at
 * SCHED_BATCH, nice 5. */
#ifndef GLM4V_ENGINE_POOL_H
#define GLM4V_ENGINE_POOL_H

#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct glm4v_pool glm4v_pool;

/* n_threads: the caller's included; 0 = the cores this process may use (sched_getaffinity, cgroup
 * quota). */
int glm4v_pool_open(glm4v_pool **pool, int64_t n_threads, glm4v_error *err);
void glm4v_pool_close(glm4v_pool **pool);
int64_t glm4v_pool_threads(const glm4v_pool *pool);

/* Call fn(user, i, thread) for i in [0, n), in any order and on any thread; thread in [0, threads).
 * Returns when all are done. Callers from several threads take turns. Allocates nothing. pool may
 * be NULL: the caller does all. */
void glm4v_pool_run(glm4v_pool *pool, int64_t n, void (*fn)(void *user, int64_t i, int64_t thread),
                    void *user);

/* Lower the calling thread to SCHED_BATCH, nice 5 (the scheduler thread does so; failures are
 * ignored). */
void glm4v_thread_background(void);

#endif
