/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What GLib orders, as ThreadSanitizer can see it. GLib and GStreamer are not built with it, and
 * GLib locks by futex: all that a GMutex guards would be taken for races. Linked into the programs
 * of the element's tests in the TSan build only. Calls of the element, of the tests and of
 * GStreamer's libraries come here instead of GLib; what GLib does inside itself does not, and need
 * not: nothing of it is instrumented. tests/element/test_tsan.c shows that each of these orders,
 * and that a race is still found. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gst/gst.h>
#include <pthread.h>
#include <sanitizer/tsan_interface.h>
#include <stdlib.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

/* GstBus takes its locks in both orders, which is no fault of ours. */
const char *__tsan_default_options(void);
EXPORT const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}

/* References are counted atomically where it is not seen, so the free of an object of GStreamer and
 * of its locks would be a race with all that was done before other references were dropped: it does
 * not count as a write. */
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

/* ---- locks: made of pthread's, which it knows ---- */

/* What *slot, 0 in a static one, points to; made on first use. */
static void *made(gpointer *slot, void *(*make)(void))
{
    void *now = __atomic_load_n(slot, __ATOMIC_ACQUIRE), *mine;
    if (now)
        return now;
    mine = make();
    if (__atomic_compare_exchange_n(slot, &now, mine, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return mine;
    free(mine); /* another thread was first */
    return now;
}

static void *new_mutex(void)
{
    pthread_mutex_t *mutex = malloc(sizeof *mutex);
    pthread_mutex_init(mutex, NULL);
    return mutex;
}

static void *new_rec_mutex(void)
{
    pthread_mutex_t *mutex = malloc(sizeof *mutex);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    return mutex;
}

static void *new_cond(void)
{
    pthread_cond_t *cond = malloc(sizeof *cond);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return cond;
}

#define LOCK(type, prefix, make)                                                                   \
    EXPORT void prefix##_init(type *lock)                                                          \
    {                                                                                              \
        __atomic_store_n(&lock->p, make(), __ATOMIC_RELEASE);                                      \
    }                                                                                              \
    EXPORT void prefix##_clear(type *lock)                                                         \
    {                                                                                              \
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);                                             \
        if (lock->p)                                                                               \
            pthread_mutex_destroy(lock->p);                                                        \
        free(lock->p);                                                                             \
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);                                               \
    }                                                                                              \
    EXPORT void prefix##_lock(type *lock)                                                          \
    {                                                                                              \
        pthread_mutex_lock(made(&lock->p, make));                                                  \
    }                                                                                              \
    EXPORT gboolean prefix##_trylock(type *lock)                                                   \
    {                                                                                              \
        return pthread_mutex_trylock(made(&lock->p, make)) == 0;                                   \
    }                                                                                              \
    EXPORT void prefix##_unlock(type *lock)                                                        \
    {                                                                                              \
        pthread_mutex_unlock(lock->p);                                                             \
    }

LOCK(GMutex, g_mutex, new_mutex)
LOCK(GRecMutex, g_rec_mutex, new_rec_mutex)

EXPORT void g_cond_init(GCond *cond)
{
    __atomic_store_n(&cond->p, new_cond(), __ATOMIC_RELEASE);
}

EXPORT void g_cond_clear(GCond *cond)
{
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    if (cond->p)
        pthread_cond_destroy(cond->p);
    free(cond->p);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

EXPORT void g_cond_signal(GCond *cond)
{
    pthread_cond_signal(made(&cond->p, new_cond));
}

EXPORT void g_cond_broadcast(GCond *cond)
{
    pthread_cond_broadcast(made(&cond->p, new_cond));
}

EXPORT void g_cond_wait(GCond *cond, GMutex *mutex)
{
    pthread_cond_wait(made(&cond->p, new_cond), mutex->p);
}

EXPORT gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end)
{
    struct timespec at = { .tv_sec = end / G_TIME_SPAN_SECOND,
                           .tv_nsec = end % G_TIME_SPAN_SECOND * 1000 };
    return pthread_cond_timedwait(made(&cond->p, new_cond), mutex->p, &at) == 0;
}

/* ---- hand-overs inside GLib and GStreamer: all before the one, to all after the other ---- */

/* The library's own function of this name. */
#define REAL(name) ((__typeof__(&name))real(&name##_real, #name))

static void *real(void **found, const char *name)
{
    void *function = __atomic_load_n(found, __ATOMIC_RELAXED);
    if (!function) {
        function = dlsym(RTLD_NEXT, name);
        __atomic_store_n(found, function, __ATOMIC_RELAXED);
    }
    return function;
}

static void *g_once_init_leave_real, *g_async_queue_push_real, *g_async_queue_pop_real;
static void *g_async_queue_timeout_pop_real, *g_async_queue_try_pop_real;
static void *g_queue_push_tail_real, *g_queue_pop_head_real, *g_slice_free1_real;
static void *g_ref_string_release_real;

/* g_once_init_enter() reads the location atomically in its caller's code: that acquires this. */
EXPORT void(g_once_init_leave)(volatile void *location, gsize result)
{
    __tsan_release((void *)location);
    REAL(g_once_init_leave)(location, result);
}

EXPORT void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
    __tsan_release(queue);
    REAL(g_async_queue_push)(queue, data);
}

EXPORT gpointer g_async_queue_pop(GAsyncQueue *queue)
{
    gpointer data = REAL(g_async_queue_pop)(queue);
    __tsan_acquire(queue);
    return data;
}

EXPORT gpointer g_async_queue_timeout_pop(GAsyncQueue *queue, guint64 timeout)
{
    gpointer data = REAL(g_async_queue_timeout_pop)(queue, timeout);
    __tsan_acquire(queue);
    return data;
}

EXPORT gpointer g_async_queue_try_pop(GAsyncQueue *queue)
{
    gpointer data = REAL(g_async_queue_try_pop)(queue);
    __tsan_acquire(queue);
    return data;
}

/* Any release may be the last one, which frees what was read before the others. */
EXPORT void g_ref_string_release(char *string)
{
    __tsan_release(string);
    __tsan_acquire(string);
    REAL(g_ref_string_release)(string);
}

EXPORT void g_slice_free1(gsize size, gpointer memory)
{
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    REAL(g_slice_free1)(size, memory);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

/* ---- what is done to a queue counts as a write to it ---- */

void __tsan_write8(void *memory);

EXPORT void g_queue_push_tail(GQueue *queue, gpointer data)
{
    __tsan_write8(queue);
    REAL(g_queue_push_tail)(queue, data);
}

EXPORT gpointer g_queue_pop_head(GQueue *queue)
{
    __tsan_write8(queue);
    return REAL(g_queue_pop_head)(queue);
}
