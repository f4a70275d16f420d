/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work of another thread that completes once, and can be waited for. */
#ifndef GLM4V_ENGINE_COMPLETION_H
#define GLM4V_ENGINE_COMPLETION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    pthread_mutex_t lock; /* guards done */
    pthread_cond_t changed;
    bool done;
} glm4v_completion;

/* NOMEM, and nothing is to be cleared, if the system has no lock. */
int glm4v_completion_init(glm4v_completion *c);
void glm4v_completion_clear(glm4v_completion *c);

/* Wakes all that wait. */
void glm4v_completion_end(glm4v_completion *c);

/* At most so many nanoseconds, by glm4v_now()'s clock; UINT64_MAX: without end. DEADLINE if the
 * work is not complete by then. Any thread. */
int glm4v_completion_wait(glm4v_completion *c, uint64_t timeout);

#endif
