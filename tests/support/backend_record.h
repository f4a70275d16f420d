/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A device that records work and runs it later, to prove the seam of backend.h: on the kernels of
 * the CPU backend, but
 *   - its memory is inaccessible (PROT_NONE) except while its work runs, and NaN when it is new;
 *   - calls only note what is to be done; work runs in event_done or sync, queue by queue in order,
 *     and of one queue no further than the event that is asked for;
 *   - a step with a key is recorded once and replayed with the data of later steps: operations
 *     called in a replayed step are a violation; with `verify` so are steps of one key that differ;
 *   - what has to stay as it is until the work is done is compared by digest when it runs;
 *   - polls of an event say "not yet" a few times first.
 * A violation is printed, counted, and fails the work with GLM4V_ERR_DEVICE. */
#ifndef GLM4V_TEST_BACKEND_RECORD_H
#define GLM4V_TEST_BACKEND_RECORD_H

#include "backend/backend.h"

typedef struct {
    bool composites;  /* brings the composites */
    bool samples;     /* chooses tokens itself */
    bool all_at_open; /* takes all memory when a context opens */
    bool verify;      /* never replays, but compares each step with the recording of its key */
    int polls;        /* that say "not yet" */
    bool quick;       /* none of decode */
} record_options;

typedef struct {
    unsigned long violations;
    unsigned long recorded, replayed; /* steps with a key */
    unsigned long operations;         /* that ran */
    unsigned long allocations;        /* of device memory */
    unsigned long sampled;            /* tokens */
    unsigned long preprocessed;       /* pictures in memory of the device: it takes RGB there */
    unsigned long late_fills,
        random;            /* weights filled after the call; matrices of random numbers */
    unsigned long fail_at; /* set by a test: the operation that runs after so many fails; 0: none */
    int failure;           /* with this code */
    unsigned long refuse_at; /* set by a test: the call after so many is NOMEM; 0: none */
} record_counts;

extern record_options record_wanted; /* of backends opened from now on */
extern record_counts record_count;

/* For glm4v_backend_replace_cpu(). */
int record_open(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log, glm4v_error *err);

#endif
