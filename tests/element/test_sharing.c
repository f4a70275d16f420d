/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One engine for many elements, with a scripted engine: who shares, who may not, and that what
 * happens to one element leaves the others alone. */
#include <glib/gstdio.h>
#include <unistd.h>

#include "fake_engine.h"
#include "support.h"

#define N 16
#define OTHER SOURCE_ROOT "/docs" /* a second directory that exists */

static guint sharers(GstElement *element)
{
    GstStructure *info = NULL;
    guint n = 0;
    g_object_get(element, "model-info", &info, NULL);
    if (info)
        gst_structure_get_uint(info, "sharers", &n);
    g_clear_pointer(&info, gst_structure_free);
    return n;
}

/* One frame through a harness in async mode, and the text that was said about it. */
static void check_answer(GstHarness *h, guint32 rgb, guint pts_ms)
{
    char expected[16];
    gst_harness_push(h, support_frame(CAPS_SMALL, rgb, pts_ms));
    GstStructure *result = support_result(h->element);
    snprintf(expected, sizeof expected, "#%06x", rgb);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "ok");
    CHECK_CONTAINS(gst_structure_get_string(result, "text"), expected);
    gst_structure_free(result);
}

static void sixteen_equal_elements_have_one_engine(void)
{
    fake_set((fake_script) { .load_ns = 20 * MS });
    GstHarness *h[N];
    for (guint i = 0; i < N; i++)
        h[i] = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL);
    CHECK_EQ(fake_get().models, 1);
    CHECK_EQ(fake_get().engines, 1);
    CHECK_EQ(fake_get().opened, 1);
    CHECK_EQ(sharers(h[3]->element), N);
    for (guint run = 0; run < 2; run++)
        for (guint i = 0; i < N; i++) {
            if (run)
                support_run(h[i], 1, CAPS_SMALL);
            check_answer(h[i], run << 8 | i, 0);
        }
    for (guint i = 0; i < N; i++) { /* in an order of its own */
        guint at = i * 7 % N;
        CHECK_EQ(sharers(h[at]->element), N - i);
        support_done(h[at]);
        CHECK_EQ(fake_get().models, i < N - 1);
    }
    CHECK_EQ(fake_get().opened, 1);
}

static void streams_of_one_engine_have_numbers_of_their_own(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *a = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL),
               *b = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL);
    check_answer(a, 1, 0);
    guint32 stream = fake_get().stream;
    check_answer(b, 2, 0);
    CHECK(fake_get().stream != stream);
    check_answer(a, 3, 1000);
    CHECK_EQ(fake_get().stream, stream);
    support_done(a);
    support_done(b);
}

static void another_form_or_model_or_key_is_another_engine(void)
{
    static const struct {
        const char *dir, *quantization, *key;
        int models;
    } cases[] = {
        { SOURCE_ROOT, NULL, NULL, 1 },
        { SOURCE_ROOT, NULL, NULL, 1 },
        { SOURCE_ROOT "/.", NULL, NULL, 1 },
        { SOURCE_ROOT, "int8", NULL, 2 },
        { OTHER, NULL, NULL, 3 },
        { SOURCE_ROOT, NULL, "line 2", 4 },
        { SOURCE_ROOT, NULL, "line 2", 4 },
    };
    GstElement *elements[G_N_ELEMENTS(cases)];
    fake_set((fake_script) { 0 });
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        elements[i] = support_element("model-location", cases[i].dir, "quantization",
                                      cases[i].quantization, "model-key", cases[i].key, NULL);
        CHECK_EQ(gst_element_set_state(elements[i], GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
        CHECK_EQ(support_wait_loaded(elements[i]), GST_PROGRESS_TYPE_COMPLETE);
        CHECK_EQ(fake_get().models, cases[i].models);
    }
    CHECK_EQ(sharers(elements[0]), 3);
    CHECK_EQ(sharers(elements[6]), 2);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        support_free(elements[i]);
    CHECK_EQ(fake_get().models, 0);
}

static void a_link_to_the_directory_is_the_same_model(void)
{
    gchar *folder = g_dir_make_tmp("glm4v-XXXXXX", NULL);
    gchar *link = g_build_filename(folder, "current", NULL);
    CHECK_EQ(symlink(SOURCE_ROOT, link), 0);
    fake_set((fake_script) { 0 });
    GstElement *a = support_element(NULL), *b = support_element("model-location", link, NULL);
    gst_element_set_state(a, GST_STATE_READY);
    gst_element_set_state(b, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(b), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_EQ(fake_get().models, 1);
    support_free(a);
    support_free(b);
    g_unlink(link);
    g_rmdir(folder);
    g_free(link);
    g_free(folder);
}

/* ---- conflicts ---- */

static void check_conflict(const char *property, const char *value, const char *key)
{
    GstElement *a = support_element("model-key", key, NULL),
               *b = support_element("model-key", key, NULL);
    GError *error = NULL;
    gst_object_set_name(GST_OBJECT(a), "first");
    gst_object_set_name(GST_OBJECT(b), "second");
    gst_util_set_object_arg(G_OBJECT(b), property, value);
    CHECK_EQ(gst_element_set_state(a, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    CHECK_EQ(support_wait_loaded(a), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_EQ(gst_element_set_state(b, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
    GstMessage *message = support_message(b, GST_MESSAGE_ERROR);
    REQUIRE(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    CHECK(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS));
    CHECK_CONTAINS(error->message, "first");
    CHECK_CONTAINS(error->message, "second");
    CHECK_CONTAINS(error->message, property);
    CHECK_EQ(sharers(a), 1);
    g_error_free(error);
    gst_message_unref(message);
    gst_element_set_state(b, GST_STATE_NULL);
    g_object_set(b, "model-key", "another", NULL); /* as the message advises */
    CHECK_EQ(gst_element_set_state(b, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    support_free(a);
    support_free(b);
}

static void properties_that_conflict_are_refused_naming_both(void)
{
    fake_set((fake_script) { 0 });
    check_conflict("n-threads", "3", NULL);
    check_conflict("max-pixels", "50176", NULL);
    check_conflict("layers", "cpu=0-1", NULL);
    check_conflict("gpu-memory-limit", "1073741824", NULL);
    check_conflict("kv-cache", "int8", NULL);
    check_conflict("max-batch", "2", NULL);
    check_conflict("context-length", "512", NULL);
    check_conflict("idle-unload", "1000000000", NULL);
    check_conflict("n-threads", "3", "shared");
    check_conflict("quantization", "int4", "shared");
    check_conflict("model-location", OTHER, "shared");
    CHECK_EQ(fake_get().models, 0);
}

/* A property of the engine, set while two elements use it. */
static void what_is_set_while_playing_waits_and_does_not_disturb_the_other(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h[2];
    for (guint i = 0; i < 2; i++)
        h[i] = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL);
    GstElement *element = h[1]->element;
    for (guint run = 0; run < 2; run++) {
        g_object_set(element, "max-batch", 9, NULL);
        GstMessage *warning = support_message(element, GST_MESSAGE_WARNING);
        CHECK(warning != NULL);
        g_clear_pointer(&warning, gst_message_unref);
        check_answer(h[0], run, run * 4000);
        check_answer(h[1], 7 + run, 0);
        CHECK_EQ(fake_get().engines, 1);
        gst_element_set_state(element, GST_STATE_READY);
        CHECK_EQ(gst_element_set_state(element, GST_STATE_PLAYING), GST_STATE_CHANGE_FAILURE);
        CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
        check_answer(h[0], 20 + run, 2000 + run * 4000);
        gst_element_set_state(element, GST_STATE_READY);
        g_object_set(element, "max-batch", GLM4V_DEFAULT_BATCH, NULL);
        CHECK_EQ(gst_element_set_state(element, GST_STATE_PLAYING), GST_STATE_CHANGE_SUCCESS);
        CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
        gst_harness_push_event(h[1], gst_event_new_stream_start("again"));
        gst_harness_set_src_caps_str(h[1], CAPS_SMALL);
    }
    for (guint i = 0; i < 2; i++)
        support_done(h[i]);
}

static void limits_reach_the_engine(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("max-batch", 7, "context-length", 1024, NULL);
    gst_element_set_state(element, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_EQ(fake_get().max_batch, 7);
    CHECK_EQ(fake_get().context_length, 1024);
    support_free(element);
}

/* ---- loading ---- */

static void who_leaves_during_the_load_does_not_cancel_it_for_others(void)
{
    fake_set((fake_script) { .load_ns = 300 * MS });
    GstElement *a = support_element(NULL), *b = support_element(NULL);
    gst_element_set_state(a, GST_STATE_READY);
    gst_element_set_state(b, GST_STATE_READY);
    gint64 start = g_get_monotonic_time();
    gst_element_set_state(a, GST_STATE_NULL);
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
    CHECK_EQ(support_wait_loaded(a), GST_PROGRESS_TYPE_CANCELED);
    CHECK_EQ(support_wait_loaded(b), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_EQ(fake_get().opened, 1);
    support_free(a);
    support_free(b);
    CHECK_EQ(fake_get().models, 0);
}

static void a_failed_load_is_an_error_of_each_and_who_comes_later_tries_again(void)
{
    fake_set((fake_script) { .open_code = GLM4V_ERR_IO, .load_ns = 50 * MS });
    GstElement *elements[3];
    for (guint i = 0; i < 3; i++) {
        elements[i] = support_element(NULL);
        gst_element_set_state(elements[i], GST_STATE_READY);
    }
    for (guint i = 0; i < 3; i++) {
        CHECK_EQ(support_wait_loaded(elements[i]), GST_PROGRESS_TYPE_ERROR);
        g_usleep(20000);
        CHECK_EQ(support_count_messages(elements[i], GST_MESSAGE_ERROR), 1);
    }
    fake_set((fake_script) { 0 });
    GstElement *later = support_element(NULL);
    gst_element_set_state(later, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(later), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_EQ(sharers(later), 1);
    gst_element_set_state(elements[0], GST_STATE_NULL); /* as the error's receiver would */
    gst_element_set_state(elements[0], GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(elements[0]), GST_PROGRESS_TYPE_COMPLETE);
    CHECK_EQ(sharers(later), 2);
    for (guint i = 0; i < 3; i++)
        support_free(elements[i]);
    support_free(later);
    CHECK_EQ(fake_get().models, 0);
}

/* ---- idle ---- */

static gboolean wait_models(int n)
{
    for (int i = 0; i < 5000 && fake_get().models != n; i++)
        g_usleep(1000);
    return fake_get().models == n;
}

static void an_idle_engine_is_unloaded_and_loaded_by_the_next_frame(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = support_harness(
        support_element("mode", 1, "idle-unload", (guint64)(30 * MS), NULL), TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 3; i++) {
            check_answer(h, i, i * 1000);
            CHECK(wait_models(0));
            CHECK_EQ(fake_get().engines, 0);
        }
    }
    CHECK(sharers(h->element) == 1);
    support_done(h);
}

static void a_model_that_cannot_be_loaded_again_is_an_error_result_and_tried_again(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = support_harness(
        support_element("mode", 2, "idle-unload", (guint64)(20 * MS), NULL), FALSE, CAPS_SMALL);
    CHECK(wait_models(0));
    fake_set((fake_script) { .open_code = GLM4V_ERR_IO });
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    GstStructure *result = support_result(h->element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "error");
    gst_structure_free(result);
    GstMessage *warning = support_message(h->element, GST_MESSAGE_WARNING);
    CHECK(warning != NULL);
    g_clear_pointer(&warning, gst_message_unref);
    fake_set((fake_script) { 0 });
    check_answer(h, 2, 1000);
    support_done(h);
}

static void a_flush_ends_the_wait_for_a_model_that_is_loaded_again(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = support_harness(
        support_element("mode", 1, "idle-unload", (guint64)(20 * MS), NULL), TRUE, CAPS_SMALL);
    CHECK(wait_models(0));
    fake_set((fake_script) { .load_ns = 400 * MS });
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    g_usleep(30000);
    gint64 start = g_get_monotonic_time();
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_element_set_state(h->element, GST_STATE_READY);
    CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
    support_run(h, 1, CAPS_SMALL);
    check_answer(h, 2, 0);
    support_done(h);
}

/* ---- what happens to one ---- */

static void a_flush_of_one_stream_does_not_disturb_another(void)
{
    fake_set((fake_script) { .answer_ns = 100 * MS });
    GstHarness *a = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL),
               *b = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    for (guint i = 0; i < 5; i++) {
        gst_harness_push(a, support_frame(CAPS_SMALL, 1, i * 1000));
        gst_harness_push(b, support_frame(CAPS_SMALL, 2, i * 1000));
        g_usleep(10000);
        gst_harness_push_event(b, gst_event_new_flush_start());
        gst_harness_push_event(b, gst_event_new_flush_stop(TRUE));
        gst_harness_push_event(b, gst_event_new_segment(&segment));
        GstStructure *result = support_result(a->element);
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "status"), "ok");
        gst_structure_free(result);
    }
    CHECK_EQ(support_stat(a->element, "inferred"), 5);
    CHECK_EQ(support_stat(b->element, "inferred"), 0);
    CHECK_EQ(support_count_messages(b->element, GST_MESSAGE_ELEMENT), 0);
    support_done(a);
    support_done(b);
}

static void who_stops_with_the_engine_hanging_leaves_a_new_one_to_others(void)
{
    fake_set((fake_script) { .answer_ns = 3500 * MS, .hang = true });
    GstHarness *h = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    g_usleep(30000);
    support_done(h);
    fake_set((fake_script) { 0 });
    h = support_harness(support_element("mode", 1, NULL), TRUE, CAPS_SMALL);
    CHECK_EQ(fake_get().models, 2);
    CHECK_EQ(sharers(h->element), 1);
    check_answer(h, 2, 0);
    support_done(h);
    CHECK(wait_models(0));
}

/* ---- K-03: many at once ---- */

static gint stop_changes;

static gpointer change_states(gpointer user)
{
    GstHarness *h = user;
    GRand *random = g_rand_new_with_seed((guint32)GPOINTER_TO_SIZE(user));
    while (!g_atomic_int_get(&stop_changes)) {
        static const GstState states[] = { GST_STATE_NULL, GST_STATE_READY, GST_STATE_PAUSED,
                                           GST_STATE_PLAYING };
        gst_element_set_state(h->element, states[g_rand_int_range(random, 0, 4)]);
        if (GST_STATE(h->element) >= GST_STATE_PAUSED) {
            gst_harness_push_event(h, gst_event_new_stream_start("again"));
            gst_harness_set_src_caps_str(h, CAPS_SMALL);
            for (gint i = g_rand_int_range(random, 0, 4); i > 0; i--)
                gst_harness_push(h, support_frame(CAPS_SMALL, 7, (guint)i * 1000));
        }
        support_count_messages(h->element, 0);
        g_usleep((gulong)g_rand_int_range(random, 0, 3000));
    }
    g_rand_free(random);
    return NULL;
}

static void random_state_changes_of_many_elements_with_a_broken_model_are_safe(void)
{
    fake_set((fake_script) { .load_ns = 2 * MS, .answer_ns = MS, .broken = "docs" });
    GstHarness *h[N];
    GThread *threads[N];
    g_atomic_int_set(&stop_changes, 0);
    for (guint i = 0; i < N; i++) {
        GstElement *element = support_element("mode", 1, NULL);
        if (i % 4 == 3)
            g_object_set(element, "model-location", OTHER, NULL);
        if (i % 5 == 4)
            g_object_set(element, "quantization", "int8", NULL);
        h[i] = gst_harness_new_with_element(element, "sink", "src");
        gst_harness_set_live(h[i], TRUE);
        gst_harness_set_drop_buffers(h[i], TRUE);
        gst_object_unref(element);
    }
    for (guint i = 0; i < N; i++)
        threads[i] = g_thread_new("states", change_states, h[i]);
    g_usleep(support_count(3, 60) * G_USEC_PER_SEC);
    g_atomic_int_set(&stop_changes, 1);
    for (guint i = 0; i < N; i++)
        g_thread_join(threads[i]);
    for (guint i = 0; i < N; i++)
        gst_element_set_state(h[i]->element, GST_STATE_NULL);
    CHECK_EQ(fake_get().models, 0);
    CHECK_EQ(fake_get().engines, 0);
    CHECK_EQ(fake_get().requests, 0);
    /* and they still work */
    for (guint i = 0; i < N; i++)
        if (i % 4 != 3)
            gst_element_set_state(h[i]->element, GST_STATE_READY);
    CHECK(wait_models(2));
    CHECK_EQ(sharers(h[0]->element), 9);
    for (guint i = 0; i < N; i++)
        support_done(h[i]);
    CHECK_EQ(fake_get().models, 0);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(sixteen_equal_elements_have_one_engine);
    TEST(streams_of_one_engine_have_numbers_of_their_own);
    TEST(another_form_or_model_or_key_is_another_engine);
    TEST(a_link_to_the_directory_is_the_same_model);
    TEST(properties_that_conflict_are_refused_naming_both);
    TEST(what_is_set_while_playing_waits_and_does_not_disturb_the_other);
    TEST(limits_reach_the_engine);
    TEST(who_leaves_during_the_load_does_not_cancel_it_for_others);
    TEST(a_failed_load_is_an_error_of_each_and_who_comes_later_tries_again);
    TEST(an_idle_engine_is_unloaded_and_loaded_by_the_next_frame);
    TEST(a_model_that_cannot_be_loaded_again_is_an_error_result_and_tried_again);
    TEST(a_flush_ends_the_wait_for_a_model_that_is_loaded_again);
    TEST(a_flush_of_one_stream_does_not_disturb_another);
    TEST(who_stops_with_the_engine_hanging_leaves_a_new_one_to_others);
    TEST(random_state_changes_of_many_elements_with_a_broken_model_are_safe);
    return test_end();
}
