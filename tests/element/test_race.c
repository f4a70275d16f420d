/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In the TSan build only: K-02's control. Frames are described while their counters are read.
 * Nothing is reported; and with the argument "planted", in a program whose copy of
 * gstglm4vstatistics.c reads them without the lock, that race is. */
#include "fake_engine.h"
#include "results.h"

void __tsan_on_report(void *report);
int __tsan_on_finalize(int failed);

static int reports;
static gboolean planted;

/* Called for each report before it is printed. */
__attribute__((visibility("default"))) void __tsan_on_report(void *report)
{
    __atomic_fetch_add(&reports, 1, __ATOMIC_RELAXED);
}

/* The planted report is no failure: the test counts. */
__attribute__((visibility("default"))) int __tsan_on_finalize(int failed)
{
    return failed && !planted;
}

static int stop; /* atomic */

static gpointer read_counters(gpointer user)
{
    while (!g_atomic_int_get(&stop))
        support_stat(user, "results");
    return NULL;
}

static void describe_and_read(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GThread *reader = g_thread_new("reader", read_counters, element);
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint i = 0; i < 300; i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
    g_atomic_int_set(&stop, 1);
    g_thread_join(reader);
    support_done(h);
}

static void counters_are_read_under_the_lock(void)
{
    describe_and_read();
    CHECK_EQ(reports, 0);
}

static void a_lock_that_is_left_out_is_found(void)
{
    describe_and_read();
    CHECK(reports > 0);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    planted = argc > 1;
    if (planted)
        TEST(a_lock_that_is_left_out_is_found);
    else
        TEST(counters_are_read_under_the_lock);
    return test_end();
}
