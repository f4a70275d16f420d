/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See connections.h. A connection is ended by shutting down its socket: libmicrohttpd then
 * closes it. The number of a socket is the connection's own until serve_connections_remove()
 * returns, so no other one is ever shut down.
 *
 * Lock: connections->lock guards all places; left() is called under it. */
#define _GNU_SOURCE
#include "connections.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../cli.h"
#include "../fail.h"
#include "bounds.h"

enum { TICK_MS = 100, EVENTS = 64 };
#define SECOND UINT64_C(1000000000)

struct serve_connection {
    int fd;              /* -1 = the place is free */
    uint32_t generation; /* of the connections that had this place */
    serve_phase phase;
    bool first;       /* no head has come yet */
    bool shut;        /* down already */
    bool watched;     /* in the epoll set */
    uint64_t since;   /* nanoseconds: the phase began */
    uint64_t allowed; /* nanoseconds that it may last; 0 = no bound */
    void *user;
};

struct serve_connections {
    pthread_mutex_t lock;
    pthread_t thread;
    int epoll, wake;
    bool stop;
    void (*left)(void *user);
    uint32_t n;               /* places taken */
    serve_connection *places; /* [n_places] */
    size_t n_places;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- with the lock held ---- */

static void shut(serve_connection *c)
{
    if (!c->shut)
        shutdown(c->fd, SHUT_RDWR);
    c->shut = true;
}

static bool waits(const serve_connection *c)
{
    return c->fd >= 0 && !c->shut && c->phase != SERVE_PHASE_ANSWER;
}

/* Has its client sent what is not read yet? Then the server is late, not the client. */
static bool has_unread(const serve_connection *c)
{
    char byte;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Who goes when there is no room, the smallest first: who is between two requests, who should
 * have sent a head by now, who has begun a request, who has only just come. */
static int rank(const serve_connection *c, uint64_t now)
{
    if (c->phase != SERVE_PHASE_IDLE)
        return 2;
    if (!c->first)
        return 0;
    return now - c->since >= SERVE_NEW_TIME * SECOND ? 1 : 3;
}

static bool goes_before(const serve_connection *a, const serve_connection *b, uint64_t now)
{
    const int rank_a = rank(a, now), rank_b = rank(b, now);
    return rank_a != rank_b ? rank_a < rank_b : a->since < b->since;
}

/* Shut one down if too many wait. False: they are not, or none may go. */
static bool shut_one(serve_connections *all)
{
    const uint64_t now = now_ns();
    serve_connection *next = NULL;
    uint32_t n = 0;
    for (size_t i = 0; i < all->n_places; i++) {
        serve_connection *c = &all->places[i];
        if (!waits(c))
            continue;
        n++;
        if ((!next || goes_before(c, next, now)) && !has_unread(c))
            next = c;
    }
    if (n <= SERVE_MAX_WAITING || !next)
        return false;
    shut(next);
    return true;
}

static void make_room(serve_connections *all)
{
    while (shut_one(all))
        continue;
}

static void shut_late_ones(serve_connections *all)
{
    const uint64_t now = now_ns();
    for (size_t i = 0; i < all->n_places; i++) {
        serve_connection *c = &all->places[i];
        if (c->fd >= 0 && c->allowed && now - c->since >= c->allowed)
            shut(c);
    }
}

static uint64_t allowed_in(serve_phase phase, bool first)
{
    switch (phase) {
    case SERVE_PHASE_IDLE:
        return (first ? SERVE_HEAD_TIME : SERVE_IDLE_TIME + SERVE_HEAD_TIME) * SECOND;
    case SERVE_PHASE_BODY:
        return SERVE_BODY_TIME * SECOND;
    case SERVE_PHASE_SEND:
        return SERVE_SEND_TIME * SECOND;
    case SERVE_PHASE_ANSWER:
        break;
    }
    return 0;
}

/* A client that leaves closes its side of the connection, or both. */
static void watch(serve_connections *all, serve_connection *c, bool on)
{
    const uint64_t id = (uint64_t)c->generation << 32 | (uint64_t)(c - all->places);
    struct epoll_event event = { .events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = id };
    if (on)
        c->watched = !epoll_ctl(all->epoll, EPOLL_CTL_ADD, c->fd, &event);
    else if (c->watched)
        epoll_ctl(all->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    c->watched = c->watched && on;
}

static void tell_left(serve_connections *all, uint64_t id)
{
    serve_connection *c = &all->places[(uint32_t)id];
    if (c->fd >= 0 && c->generation == id >> 32 && c->phase == SERVE_PHASE_ANSWER && c->user)
        all->left(c->user);
}

/* ---- the thread ---- */

static void *watch_all(void *arg)
{
    serve_connections *all = arg;
    struct epoll_event events[EVENTS];
    pthread_setname_np(pthread_self(), "glm4v-watch");
    for (;;) {
        const int n = epoll_wait(all->epoll, events, EVENTS, TICK_MS);
        pthread_mutex_lock(&all->lock);
        const bool stop = all->stop;
        for (int i = 0; i < n; i++)
            if (events[i].data.u64 != UINT64_MAX)
                tell_left(all, events[i].data.u64);
        shut_late_ones(all);
        make_room(all);
        pthread_mutex_unlock(&all->lock);
        if (stop)
            return NULL;
    }
}

uint32_t serve_connections_most(uint32_t requests)
{
    return SERVE_MAX_WAITING + requests + SERVE_SPARE_CONNECTIONS;
}

static serve_connections *make(uint32_t requests, void (*left)(void *user))
{
    serve_connections *all = cli_alloc(1, sizeof *all);
    if (!all)
        return NULL;
    all->n_places = serve_connections_most(requests);
    all->places = cli_alloc(all->n_places, sizeof *all->places);
    if (!all->places) {
        free(all);
        return NULL;
    }
    all->left = left;
    for (size_t i = 0; i < all->n_places; i++)
        all->places[i].fd = -1;
    return all;
}

static void release(serve_connections *all)
{
    if (all->epoll >= 0)
        close(all->epoll);
    if (all->wake >= 0)
        close(all->wake);
    pthread_mutex_destroy(&all->lock);
    free(all->places);
    free(all);
}

int serve_connections_open(serve_connections **connections, uint32_t requests,
                           void (*left)(void *user), glm4v_error *err)
{
    serve_connections *all = make(requests, left);
    if (!all)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for connections");
    all->epoll = epoll_create1(EPOLL_CLOEXEC);
    all->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = UINT64_MAX };
    pthread_mutex_init(&all->lock, NULL);
    if (all->epoll >= 0 && all->wake >= 0 &&
        !epoll_ctl(all->epoll, EPOLL_CTL_ADD, all->wake, &event) &&
        !pthread_create(&all->thread, NULL, watch_all, all)) {
        *connections = all;
        return 0;
    }
    release(all);
    return cli_fail(err, GLM4V_ERR_NOMEM, "no thread or descriptor to watch connections");
}

void serve_connections_close(serve_connections **connections)
{
    serve_connections *all = *connections;
    if (!all)
        return;
    pthread_mutex_lock(&all->lock);
    all->stop = true;
    pthread_mutex_unlock(&all->lock);
    (void)!write(all->wake, &(uint64_t) { 1 }, sizeof(uint64_t));
    pthread_join(all->thread, NULL);
    release(all);
    *connections = NULL;
}

/* ---- any thread ---- */

serve_connection *serve_connections_add(serve_connections *all, int fd)
{
    serve_connection *c = NULL;
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; !c && i < all->n_places; i++)
        if (all->places[i].fd < 0)
            c = &all->places[i];
    if (c) {
        *c = (serve_connection) { .fd = fd,
                                  .generation = c->generation + 1,
                                  .first = true,
                                  .since = now_ns(),
                                  .allowed = allowed_in(SERVE_PHASE_IDLE, true) };
        all->n++;
        make_room(all);
    }
    pthread_mutex_unlock(&all->lock);
    return c;
}

void serve_connections_remove(serve_connections *all, serve_connection *c)
{
    pthread_mutex_lock(&all->lock);
    watch(all, c, false);
    c->fd = -1;
    c->user = NULL;
    all->n--;
    pthread_mutex_unlock(&all->lock);
}

void serve_connections_set(serve_connections *all, serve_connection *c, serve_phase phase,
                           void *user)
{
    pthread_mutex_lock(&all->lock);
    c->phase = phase;
    c->first = false;
    c->user = user;
    c->since = now_ns();
    c->allowed = allowed_in(phase, false);
    watch(all, c, phase == SERVE_PHASE_ANSWER);
    pthread_mutex_unlock(&all->lock);
}

void serve_connections_leave_all(serve_connections *all)
{
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->n_places; i++)
        if (all->places[i].fd >= 0 && all->places[i].user)
            all->left(all->places[i].user);
    pthread_mutex_unlock(&all->lock);
}

bool serve_connections_busy(serve_connections *all)
{
    bool busy = false;
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->n_places; i++) {
        const serve_connection *c = &all->places[i];
        busy |= c->fd >= 0 && (c->phase == SERVE_PHASE_ANSWER || c->phase == SERVE_PHASE_SEND);
    }
    pthread_mutex_unlock(&all->lock);
    return busy;
}

uint32_t serve_connections_count(serve_connections *all)
{
    pthread_mutex_lock(&all->lock);
    const uint32_t n = all->n;
    pthread_mutex_unlock(&all->lock);
    return n;
}
