/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine's one clock, for times taken, deadlines and progress. */
#ifndef GLM4V_ENGINE_CLOCK_H
#define GLM4V_ENGINE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds, CLOCK_MONOTONIC. */
static inline uint64_t glm4v_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000u + t.tv_nsec;
}

#endif
