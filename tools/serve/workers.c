/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See workers.h. Lock: workers->lock guards the queue and stop. */
#define _GNU_SOURCE
#include "workers.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../cli.h"
#include "../fail.h"

enum { MAX_THREADS = 16 };

struct serve_workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    serve_job *first, **end;
    bool stop;
    pthread_t threads[MAX_THREADS]; /* [n] */
    int n;
};

static serve_job *take(serve_workers *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->first && !w->stop)
        pthread_cond_wait(&w->more, &w->lock);
    serve_job *job = w->first;
    if (job) {
        w->first = job->next;
        if (!w->first)
            w->end = &w->first;
    }
    pthread_mutex_unlock(&w->lock);
    return job;
}

static void *work(void *arg)
{
    serve_workers *w = arg;
    serve_job *job;
    pthread_setname_np(pthread_self(), "glm4v-work");
    while ((job = take(w)))
        job->run(job);
    return NULL;
}

int serve_workers_open(serve_workers **workers, int n_threads, glm4v_error *err)
{
    serve_workers *w = cli_alloc(1, sizeof *w);
    if (!w)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for workers");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    w->end = &w->first;
    while (w->n < n_threads && w->n < MAX_THREADS &&
           !pthread_create(&w->threads[w->n], NULL, work, w))
        w->n++;
    *workers = w;
    if (w->n)
        return 0;
    serve_workers_close(workers);
    return cli_fail(err, GLM4V_ERR_NOMEM, "no thread could be started");
}

void serve_workers_close(serve_workers **workers)
{
    serve_workers *w = *workers;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < w->n; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w);
    *workers = NULL;
}

void serve_workers_push(serve_workers *w, serve_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&w->lock);
    *w->end = job;
    w->end = &job->next;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}
