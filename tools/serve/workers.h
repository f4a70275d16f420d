/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads for what takes time and is not the engine's: JSON, pictures, freeing them. First come,
 * first served; jobs that others wait for need threads of their own. */
#ifndef GLM4V_SERVE_WORKERS_H
#define GLM4V_SERVE_WORKERS_H

#include "glm4v/glm4v.h"

typedef struct serve_workers serve_workers;

/* A piece of work lies in what it is about. */
typedef struct serve_job {
    void (*run)(struct serve_job *job);
    struct serve_job *next;
} serve_job;

/* NOMEM. */
int serve_workers_open(serve_workers **workers, int n_threads, glm4v_error *err);
/* Finishes what was pushed. */
void serve_workers_close(serve_workers **workers);

/* Any thread; does not wait. job is borrowed until its run() begins. */
void serve_workers_push(serve_workers *workers, serve_job *job);

#endif
