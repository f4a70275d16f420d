/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the TSan build only: what tests/support/tsan_glib.c tells ThreadSanitizer is enough to order
 * what GLib orders, and does not hide what nothing orders. */
#include "support.h"

#define N 200

void __tsan_on_report(void *report);
int __tsan_on_finalize(int failed);

static int reports;

/* Called for each report before it is printed. */
__attribute__((visibility("default"))) void __tsan_on_report(void *report)
{
    __atomic_fetch_add(&reports, 1, __ATOMIC_RELAXED);
}

/* The planted reports are no failure: the tests count. */
__attribute__((visibility("default"))) int __tsan_on_finalize(int failed)
{
    return 0;
}

/* What two threads share. A place is reported once, so each pair of threads has a value of its own;
 * volatile, so that each access is one. */
static struct {
    volatile int values[64], *value;
    GMutex mutex;
    GRecMutex rec_mutex;
    GCond cond;
    GAsyncQueue *queue;
    gsize once;
    GstBuffer *buffer;
} shared;

/* New reports while two threads run these. */
static int reports_of(GThreadFunc first, GThreadFunc second)
{
    int before = __atomic_load_n(&reports, __ATOMIC_RELAXED);
    shared.value = shared.value ? shared.value + 8 : shared.values;
    GThread *threads[] = { g_thread_new("first", first, NULL),
                           g_thread_new("second", second, NULL) };
    g_thread_join(threads[0]);
    g_thread_join(threads[1]);
    return __atomic_load_n(&reports, __ATOMIC_RELAXED) - before;
}

static gpointer add(gpointer user)
{
    for (int i = 0; i < N; i++)
        (*shared.value)++;
    return NULL;
}

static gpointer add_with_mutex(gpointer user)
{
    for (int i = 0; i < N; i++) {
        g_mutex_lock(&shared.mutex);
        (*shared.value)++;
        g_mutex_unlock(&shared.mutex);
    }
    return NULL;
}

static gpointer add_with_rec_mutex(gpointer user)
{
    for (int i = 0; i < N; i++) {
        g_rec_mutex_lock(&shared.rec_mutex);
        g_rec_mutex_lock(&shared.rec_mutex);
        g_rec_mutex_unlock(&shared.rec_mutex);
        (*shared.value)++;
        g_rec_mutex_unlock(&shared.rec_mutex);
    }
    return NULL;
}

static void a_race_is_found(void)
{
    CHECK(reports_of(add, add) > 0);
}

static void a_race_with_a_thread_that_locks_is_found(void)
{
    CHECK(reports_of(add_with_mutex, add) > 0);
}

static void mutexes_order(void)
{
    CHECK_EQ(reports_of(add_with_mutex, add_with_mutex), 0);
    CHECK_EQ(*shared.value, 2 * N);
    CHECK_EQ(reports_of(add_with_rec_mutex, add_with_rec_mutex), 0);
    CHECK_EQ(*shared.value, 2 * N);
}

static gpointer wait_for_value(gpointer user)
{
    g_mutex_lock(&shared.mutex);
    while (!*shared.value)
        g_cond_wait(&shared.cond, &shared.mutex);
    while (*shared.value < 2)
        g_cond_wait_until(&shared.cond, &shared.mutex, g_get_monotonic_time() + 1000);
    g_mutex_unlock(&shared.mutex);
    return NULL;
}

static gpointer set_value(gpointer user)
{
    for (int i = 1; i <= 2; i++) {
        g_mutex_lock(&shared.mutex);
        *shared.value = i;
        g_cond_broadcast(&shared.cond);
        g_mutex_unlock(&shared.mutex);
        g_usleep(3000);
    }
    return NULL;
}

static void waits_order(void)
{
    CHECK_EQ(reports_of(wait_for_value, set_value), 0);
}

static gpointer pop(gpointer user)
{
    (*(volatile int *)g_async_queue_pop(shared.queue))++;
    return NULL;
}

static gpointer push(gpointer user)
{
    (*shared.value)++;
    g_async_queue_push(shared.queue, (gpointer)shared.value);
    return NULL;
}

static void queues_order(void)
{
    shared.queue = g_async_queue_new();
    CHECK_EQ(reports_of(pop, push), 0);
    CHECK_EQ(*shared.value, 2);
    g_async_queue_unref(shared.queue);
}

static gpointer once(gpointer user)
{
    if (g_once_init_enter(&shared.once)) {
        *shared.value = 7;
        g_once_init_leave(&shared.once, 1);
    }
    return *shared.value == 7 ? &shared : NULL;
}

static void initialisation_orders(void)
{
    CHECK_EQ(reports_of(once, once), 0);
}

static gpointer read_and_unref(gpointer user)
{
    CHECK_EQ(GST_BUFFER_PTS(shared.buffer), 5);
    gst_buffer_unref(shared.buffer);
    return NULL;
}

static void dropping_the_last_reference_is_no_race(void)
{
    shared.buffer = gst_buffer_ref(gst_buffer_new());
    GST_BUFFER_PTS(shared.buffer) = 5;
    CHECK_EQ(reports_of(read_and_unref, read_and_unref), 0);
}

int main(int argc, char **argv)
{
    gst_init(&argc, &argv);
    TEST(a_race_is_found);
    TEST(a_race_with_a_thread_that_locks_is_found);
    TEST(mutexes_order);
    TEST(waits_order);
    TEST(queues_order);
    TEST(initialisation_orders);
    TEST(dropping_the_last_reference_is_no_race);
    return test_end();
}
