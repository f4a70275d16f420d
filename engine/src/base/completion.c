/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/completion.h"

#include <time.h>

#include "base/clock.h"
#include "base/error.h"

int glm4v_completion_init(glm4v_completion *c)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr))
        return GLM4V_ERR_NOMEM;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int rc = pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (!rc && pthread_mutex_init(&c->lock, NULL)) {
        pthread_cond_destroy(&c->changed);
        rc = 1;
    }
    c->done = false;
    return rc ? GLM4V_ERR_NOMEM : 0;
}

void glm4v_completion_clear(glm4v_completion *c)
{
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

void glm4v_completion_end(glm4v_completion *c)
{
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

int glm4v_completion_wait(glm4v_completion *c, uint64_t timeout)
{
    const uint64_t now = glm4v_now();
    const uint64_t end = timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
    const struct timespec until = { (time_t)(end / 1000000000), (long)(end % 1000000000) };
    int rc = 0;
    pthread_mutex_lock(&c->lock);
    while (!c->done && !rc)
        rc = pthread_cond_timedwait(&c->changed, &c->lock, &until);
    const bool done = c->done;
    pthread_mutex_unlock(&c->lock);
    return done ? 0 : GLM4V_ERR_DEADLINE;
}
