/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked: several questions about a frame, placeholders, a file that changes, context. The
 * scripted engine answers with the question. */
#include <glib/gstdio.h>

#include "contract/text.h"
#include "fake_engine.h"
#include "results.h"

static void set_array(GstElement *element, const char *property, const char *text)
{
    gst_util_set_object_arg(G_OBJECT(element), property, text);
}

static void check_said(GstElement *element, const char *expected)
{
    GstStructure *result = results_next(element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "ok");
    CHECK_STR(gst_structure_get_string(result, "text"), expected);
    gst_structure_free(result);
}

/* ---- placeholders ---- */

/* A name of 1 MiB in a prompt that has it 100,000 times. */
static void check_expanded_is_bounded(void)
{
    char *name = g_strnfill(1 << 20, 'n'), *zeros = g_strnfill(100000, '0');
    char **parts = g_strsplit(zeros, "0", -1);
    char *prompt = g_strjoinv("{camera}", parts);
    char *text = glm4v_contract_expand(prompt, &(glm4v_placeholders) { .time = 1, .camera = name });
    CHECK_EQ(strlen(text), 16 << 20);
    g_free(text);
    g_free(prompt);
    g_strfreev(parts);
    g_free(zeros);
    g_free(name);
}

static void check_expanded(const char *prompt, const char *expected)
{
    char *text = glm4v_contract_expand(
        prompt, &(glm4v_placeholders) { .time = 3723 * GST_SECOND + 45 * GST_MSECOND,
                                        .label = "bolt",
                                        .frame = 17,
                                        .camera = "line 2" });
    CHECK_STR(text, expected);
    g_free(text);
}

static void placeholders_are_replaced_and_other_braces_stay(void)
{
    check_expanded("What is it?", "What is it?");
    check_expanded("{label} at {time}", "bolt at 1:02:03.045");
    check_expanded("{camera}/{frame}{frame}", "line 2/1717");
    check_expanded("{\"label\": \"{label}\"}", "{\"label\": \"bolt\"}");
    check_expanded("{labels} {} {{label}} {time", "{labels} {} {bolt} {time");
    check_expanded("", "");
    check_expanded_is_bounded();
    char *text = glm4v_contract_expand("<{time}{label}{camera}>",
                                       &(glm4v_placeholders) { .time = GST_CLOCK_TIME_NONE });
    CHECK_STR(text, "<>");
    g_free(text);
}

static void placeholders_stand_for_the_frame(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, "camera", "A",
                                          "prompt", "{camera} {frame} {time}", NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 12345));
        check_said(element, "A 0 0:00:00.000");
        check_said(element, "A 1 0:00:12.345");
    }
    support_done(h);
}

/* ---- several ---- */

static void each_prompt_has_a_result_in_order(void)
{
    fake_set((fake_script) { .echo = true });
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element =
            support_element("mode", mode, "sample-mode", SAMPLE_ALL, "max-pending", 99, NULL);
        set_array(element, "prompts", "<\"Is it whole?\", \"Which color, {frame}?\", \"Size\">");
        GstHarness *h = support_harness(element, mode == 1, CAPS_SMALL);
        EACH_RUN(h, CAPS_SMALL)
        {
            for (guint i = 0; i < 5; i++)
                gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
            for (guint i = 0; i < 15; i++) {
                GstStructure *result = results_next(element);
                guint number = 99;
                char expected[32];
                REQUIRE(result != NULL);
                snprintf(expected, sizeof expected, "Which color, %u?", i / 3);
                CHECK_EQ(results_uint64(result, "id"), i);
                CHECK_EQ(results_uint64(result, "frame-number"), i / 3);
                gst_structure_get_uint(result, "prompt-number", &number);
                CHECK_EQ(number, i % 3);
                if (i % 3 == 1)
                    CHECK_STR(gst_structure_get_string(result, "text"), expected);
                gst_structure_free(result);
            }
            for (guint i = 0; mode == 2 && i < 5; i++) {
                GstBuffer *out = gst_harness_pull(h);
                CHECK_EQ(support_count_meta(out), 3);
                gst_buffer_unref(out);
            }
        }
        support_done(h);
    }
}

/* ---- at once ---- */

#define AT_ONCE 16 /* of one frame, at most */

static GstElement *asker(guint n)
{
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, NULL);
    GString *prompts = g_string_new("<");
    for (guint i = 0; i < n; i++)
        g_string_append_printf(prompts, "%sq%u", i ? ", " : "", i);
    set_array(element, "prompts", g_string_append_c(prompts, '>')->str);
    g_string_free(prompts, TRUE);
    return element;
}

static void wait_for_requests(int n)
{
    const gint64 end = g_get_monotonic_time() + PATIENCE / GST_USECOND;
    while (fake_get().requests != n && g_get_monotonic_time() < end)
        g_usleep(1000);
    CHECK_EQ(fake_get().requests, n);
}

/* One answer after the other is given when the questions are with the engine. */
static void answer(GstElement *element, guint first, guint n)
{
    for (guint i = first; i < first + n; i++) {
        char text[16];
        snprintf(text, sizeof text, "q%u", i);
        fake_tell(text);
        fake_tell(NULL);
        check_said(element, text);
    }
}

static void questions_are_asked_at_once_and_answered_in_order(void)
{
    fake_set((fake_script) { .told = true });
    GstElement *element = asker(20);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        wait_for_requests(AT_ONCE);
        answer(element, 0, AT_ONCE);
        wait_for_requests(20 - AT_ONCE);
        answer(element, AT_ONCE, 20 - AT_ONCE);
    }
    support_done(h);
}

static void a_flush_cancels_all_questions_at_once(void)
{
    GstSegment segment;
    fake_set((fake_script) { .told = true });
    GstElement *element = asker(5);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_segment_init(&segment, GST_FORMAT_TIME);
    for (guint i = 0; i < 20; i++) {
        gst_harness_push(h, support_frame(CAPS_SMALL, i, 0));
        wait_for_requests(5);
        answer(element, 0, i % 5);
        gst_harness_push_event(h, gst_event_new_flush_start());
        gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
        gst_harness_push_event(h, gst_event_new_segment(&segment));
    }
    wait_for_requests(0);
    CHECK_EQ(results_count_named(element, "glm4vdescribe-result"), 0);
    support_done(h);
}

static void questions_without_an_answer_at_the_end_are_dropped_in_order(void)
{
    fake_set((fake_script) { .told = true });
    GstElement *element = asker(4);
    g_object_set(element, "eos-timeout", (guint64)MS, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        wait_for_requests(4);
        answer(element, 0, 2);
        gst_harness_push_event(h, gst_event_new_eos());
        results_check(element, 2, "dropped", "end");
        results_check(element, 3, "dropped", "end");
        wait_for_requests(0);
    }
    support_done(h);
}

static void questions_that_are_late_together_have_a_result_each(void)
{
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    GstElement *element = asker(4);
    g_object_set(element, "deadline", (guint64)(30 * MS), NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        for (guint i = 0; i < 4; i++)
            results_check(element, i, "timeout", "deadline");
    }
    support_done(h);
}

static void questions_of_an_engine_that_hangs_end_and_the_next_frame_is_answered(void)
{
    fake_set((fake_script) { .answer_ns = 300 * MS, .hang = true });
    GstElement *element = asker(3);
    g_object_set(element, "stall-timeout", (guint64)(50 * MS), NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    for (guint i = 0; i < 3; i++)
        results_check(element, i, "error", "error");
    const gint64 end = g_get_monotonic_time() + PATIENCE / GST_USECOND;
    while (fake_get().done < 3 && g_get_monotonic_time() < end)
        g_usleep(1000);
    fake_set((fake_script) { .echo = true });
    gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
    for (guint i = 3; i < 6; i++)
        results_check(element, i, "ok", "stop");
    support_done(h);
}

static void the_engine_hears_that_questions_are_about_the_same_picture(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    guint64 last = 0;
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    CHECK_EQ(fake_get().pictures_id, 0); /* one question: nothing to keep it for */
    set_array(element, "prompts", "<a, b>");
    for (guint i = 1; i < 4; i++) {
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, i * 33));
        CHECK(fake_get().pictures_id > last); /* another picture, another number */
        last = fake_get().pictures_id;
    }
    support_done(h);
}

static void captions_share_the_time_of_the_frame(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element = support_element("mode", 2, "interval", (guint64)(900 * MS), NULL);
    set_array(element, "prompts", "<a, b, c>");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 900));
    for (guint i = 0; i < 6; i++) {
        GstBuffer *cue = gst_harness_pull(text);
        REQUIRE(cue != NULL);
        CHECK_EQ(GST_BUFFER_PTS(cue), i * 300 * MS);
        CHECK_EQ(GST_BUFFER_DURATION(cue), 300 * MS);
        gst_buffer_unref(cue);
    }
    gst_harness_teardown(text);
    support_done(h);
}

static void a_frame_is_dropped_with_all_its_questions(void)
{
    fake_set((fake_script) { .answer_ns = 40 * MS, .echo = true });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, NULL);
    set_array(element, "prompts", "<a, b>");
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
        g_usleep(15000); /* the first question is with the engine */
        for (guint i = 1; i < 4; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        for (guint i = 0; i < 8; i++) {
            gboolean replaced = i / 2 == 1 || i / 2 == 2;
            results_check(element, i, replaced ? "dropped" : "ok", replaced ? "busy" : "stop");
        }
    }
    support_done(h);
}

static void unchanged_frames_refer_to_the_answer_to_each_question(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_ALL, "change-threshold", 0.05, NULL);
    set_array(element, "prompts", "<a, b>");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 3; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, 0x404040, i * 33));
        check_said(element, "a");
        check_said(element, "b");
        for (guint i = 2; i < 6; i++) {
            GstStructure *result = results_next(element);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "status"), "unchanged");
            CHECK_EQ(results_uint64(result, "refers-to"), i % 2);
            gst_structure_free(result);
        }
    }
    support_done(h);
}

static void a_trigger_s_prompt_is_the_only_one(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_TRIGGER, NULL);
    set_array(element, "prompts", "<a, b>");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    guint64 id;
    g_signal_emit_by_name(element, "describe", "c", &id);
    g_signal_emit_by_name(element, "describe", NULL, &id);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
    check_said(element, "c");
    check_said(element, "a");
    check_said(element, "b");
    support_done(h);
}

static void context_stands_behind_the_system_prompt(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", 2, "sample-mode", SAMPLE_ALL, "context-prompt",
                                          "Normal: one bolt.", NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
    CHECK_STR(fake_get().system, "Normal: one bolt.");
    g_object_set(element, "system-prompt", "Be brief.", NULL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 33));
    CHECK_STR(fake_get().system, "Be brief.\nNormal: one bolt.");
    support_done(h);
}

/* ---- file ---- */

static void write_prompt(const char *path, const char *text)
{
    CHECK(g_file_set_contents(path, text, -1, NULL)); /* a new file under the name */
}

static void a_prompt_file_is_read_again_when_it_changes(void)
{
    gchar *folder = g_dir_make_tmp("glm4v-XXXXXX", NULL);
    gchar *path = g_build_filename(folder, "prompt.txt", NULL);
    fake_set((fake_script) { .echo = true });
    write_prompt(path, "First {frame}?\n");
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_ALL, "prompt-location", path, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
        check_said(element, "First 0?");
        write_prompt(path, "Second?");
        gst_harness_push(h, support_frame(CAPS_SMALL, 0, 33));
        check_said(element, "Second?");
        write_prompt(path, "\xff\xfe"); /* the old one stays, with one warning */
        for (guint i = 2; i < 5; i++) {
            gst_harness_push(h, support_frame(CAPS_SMALL, 0, i * 33));
            check_said(element, "Second?");
        }
        write_prompt(path, "First {frame}?");
    }
    support_done(h);
    g_unlink(path);
    g_rmdir(folder);
    g_free(path);
    g_free(folder);
}

static void a_prompt_file_that_cannot_be_used_is_told_once_and_an_error_for_each_frame(void)
{
    gchar *folder = g_dir_make_tmp("glm4v-XXXXXX", NULL);
    gchar *path = g_build_filename(folder, "prompt.txt", NULL);
    fake_set((fake_script) { .echo = true });
    GstElement *element =
        support_element("mode", 2, "sample-mode", SAMPLE_ALL, "prompt-location", path, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 3; i++)
        gst_harness_push(h, support_frame(CAPS_SMALL, 0, i * 33));
    CHECK_EQ(support_stat(element, "errors"), 3);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING), 1);
    write_prompt(path, "At last?");
    gst_harness_push(h, support_frame(CAPS_SMALL, 0, 200));
    check_said(element, "At last?");
    support_done(h);
    g_unlink(path);
    g_rmdir(folder);
    g_free(path);
    g_free(folder);
}

static void prompts_that_exclude_each_other_are_refused(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("prompt-location", "/tmp/prompt", "prompt", "b", NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
    g_object_set(element, "prompt", NULL, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
    support_free(element);
}

static void arrays_come_back_as_they_were_set(void)
{
    GstElement *element = support_element(NULL);
    GValue value = G_VALUE_INIT;
    set_array(element, "prompts", "<\"one, two\", \"\xe4\xb8\x89\">");
    g_value_init(&value, GST_TYPE_ARRAY);
    g_object_get_property(G_OBJECT(element), "prompts", &value);
    CHECK_EQ(gst_value_array_get_size(&value), 2);
    CHECK_STR(g_value_get_string(gst_value_array_get_value(&value, 0)), "one, two");
    CHECK_STR(g_value_get_string(gst_value_array_get_value(&value, 1)), "\xe4\xb8\x89");
    g_value_unset(&value);
    set_array(element, "prompts", "<>");
    g_value_init(&value, GST_TYPE_ARRAY);
    g_object_get_property(G_OBJECT(element), "prompts", &value);
    CHECK_EQ(gst_value_array_get_size(&value), 0);
    g_value_unset(&value);
    support_free(element);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(placeholders_are_replaced_and_other_braces_stay);
    TEST(placeholders_stand_for_the_frame);
    TEST(each_prompt_has_a_result_in_order);
    TEST(questions_are_asked_at_once_and_answered_in_order);
    TEST(a_flush_cancels_all_questions_at_once);
    TEST(questions_without_an_answer_at_the_end_are_dropped_in_order);
    TEST(questions_that_are_late_together_have_a_result_each);
    TEST(questions_of_an_engine_that_hangs_end_and_the_next_frame_is_answered);
    TEST(the_engine_hears_that_questions_are_about_the_same_picture);
    TEST(captions_share_the_time_of_the_frame);
    TEST(a_frame_is_dropped_with_all_its_questions);
    TEST(unchanged_frames_refer_to_the_answer_to_each_question);
    TEST(a_trigger_s_prompt_is_the_only_one);
    TEST(context_stands_behind_the_system_prompt);
    TEST(a_prompt_file_is_read_again_when_it_changes);
    TEST(a_prompt_file_that_cannot_be_used_is_told_once_and_an_error_for_each_frame);
    TEST(prompts_that_exclude_each_other_are_refused);
    TEST(arrays_come_back_as_they_were_set);
    return test_end();
}
