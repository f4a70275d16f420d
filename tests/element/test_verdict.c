/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers of a given shape and what follows from them: choice, probabilities, verdict, state,
 * incidents, everywhere where results go; and what is refused. The scripted engine takes the shares
 * of three choices from red, green and blue. */
#include <glib/gstdio.h>
#include <math.h>

#include "fake_engine.h"
#include "results.h"

#define CHOICES "<ok, scratch, dent>"
#define OK 0xff0000u
#define SCRATCH 0x00ff00u
#define DENT 0x0000ffu
#define SYNC 2

static void set_array(GstElement *element, const char *property, const char *text)
{
    gst_util_set_object_arg(G_OBJECT(element), property, text);
}

static GstElement *inspector(void)
{
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    set_array(element, "output", "choice");
    set_array(element, "choices", CHOICES);
    set_array(element, "fail-choices", "<scratch, dent>");
    return element;
}

static double number(const GstStructure *result, const char *key)
{
    double value = -1;
    gst_structure_get_double(result, key, &value);
    return value;
}

static double share(const GstStructure *result, guint i)
{
    const GValue *all = gst_structure_get_value(result, "probabilities");
    if (!all || gst_value_array_get_size(all) != 3)
        return -1;
    return g_value_get_double(gst_value_array_get_value(all, i));
}

static GstStructure *look(GstHarness *h, guint32 rgb, guint pts_ms)
{
    GstElement *element = h->element;
    gst_harness_push(h, support_frame(CAPS_SMALL, rgb, pts_ms));
    return results_next(element);
}

static void check_verdict(GstStructure *result, const char *choice, const char *verdict)
{
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "choice"), choice);
    CHECK_STR(gst_structure_get_string(result, "text"), choice);
    CHECK_STR(gst_structure_get_string(result, "verdict"), verdict);
    gst_structure_free(result);
}

/* ---- verdicts ---- */

static void a_result_has_choice_probabilities_and_verdict(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = support_harness(inspector(), FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        GstStructure *result = look(h, 0x603020, 0);
        REQUIRE(result != NULL);
        CHECK(fabs(number(result, "probability") - 96.0 / 176) < 1e-12);
        CHECK(fabs(share(result, 0) - 96.0 / 176) < 1e-12);
        CHECK(fabs(share(result, 1) - 48.0 / 176) < 1e-12);
        CHECK(fabs(share(result, 2) - 32.0 / 176) < 1e-12);
        check_verdict(result, "ok", "pass");
        check_verdict(look(h, SCRATCH, 33), "scratch", "fail");
        check_verdict(look(h, 0x604040, 66), "ok", "unknown"); /* 3/7 is below 0.5 */
    }
    support_done(h);
}

static void check_read(GstStructure *result, const char *verdict)
{
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "verdict"), verdict);
    CHECK(!gst_structure_has_field(result, "choice"));
    gst_structure_free(result);
}

static void a_pattern_makes_a_verdict_of_the_text(void)
{
    fake_set((fake_script) { .text = "Batch LOT123456" });
    GstElement *element =
        support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, "pattern", "LOT[0-9]{6}", NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        g_object_set(element, "pattern", "LOT[0-9]{6}", NULL);
        check_read(look(h, OK, 0), "pass");
        g_object_set(element, "pattern", "LOT[0-9]{7}", NULL);
        check_read(look(h, OK, 33), "fail");
        g_object_set(element, "pattern", NULL, NULL);
        GstStructure *plain = look(h, OK, 66);
        REQUIRE(plain != NULL);
        CHECK(!gst_structure_has_field(plain, "verdict"));
        gst_structure_free(plain);
    }
    support_done(h);
}

static void thresholds_make_a_defect_fail_that_was_not_chosen(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    set_array(element, "thresholds", "<0.9, 0.2>");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    check_verdict(look(h, 0xb04000, 0), "ok", "fail");     /* 0.27 of scratch */
    check_verdict(look(h, 0xb02000, 33), "ok", "unknown"); /* 0.85 of ok */
    check_verdict(look(h, 0xf01000, 66), "ok", "pass");
    check_verdict(look(h, 0x800080, 99), "ok", "fail"); /* 0.5 of dent: the default */
    set_array(element, "thresholds", "<>");
    check_verdict(look(h, 0xb02000, 133), "ok", "pass");
    support_done(h);
}

/* One result as it came by each way. */
typedef struct {
    GstStructure *by[4]; /* meta, message, signal, event */
    guint signals, events;
} Ways;

static void on_result(GstElement *element, const GstStructure *result, gpointer user)
{
    Ways *ways = user;
    ways->signals++;
    g_clear_pointer(&ways->by[2], gst_structure_free);
    ways->by[2] = gst_structure_copy(result);
}

static GstPadProbeReturn on_event(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    Ways *ways = user;
    GstEvent *event = GST_PAD_PROBE_INFO_EVENT(info);
    if (!gst_event_has_name(event, "glm4vdescribe/result"))
        return GST_PAD_PROBE_OK;
    ways->events++;
    g_clear_pointer(&ways->by[3], gst_structure_free);
    ways->by[3] = gst_structure_copy(gst_event_get_structure(event));
    gst_structure_set_name(ways->by[3], "glm4vdescribe-result");
    return GST_PAD_PROBE_OK;
}

/* The meta has the name of the meta. */
static void check_same(const Ways *ways)
{
    for (guint i = 1; i < 4; i++) {
        REQUIRE(ways->by[i] != NULL);
        gst_structure_set_name(ways->by[i], gst_structure_get_name(ways->by[0]));
        CHECK(gst_structure_is_equal(ways->by[0], ways->by[i]));
    }
}

static void clear_ways(Ways *ways)
{
    for (guint i = 0; i < 4; i++)
        g_clear_pointer(&ways->by[i], gst_structure_free);
}

static void results_are_the_same_wherever_they_go(void)
{
    for (int mode = 1; mode <= SYNC; mode++) {
        Ways ways = { 0 };
        fake_set((fake_script) { 0 });
        GstElement *element = inspector();
        g_object_set(element, "mode", mode, "send-events", TRUE, NULL);
        GstHarness *h = support_harness(element, mode == 1, CAPS_SMALL);
        GstPad *pad = gst_element_get_static_pad(element, "src");
        g_signal_connect(element, "result", G_CALLBACK(on_result), &ways);
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, on_event, &ways, NULL);
        gst_object_unref(pad);
        EACH_RUN(h, CAPS_SMALL)
        {
            ways.signals = ways.events = 0;
            ways.by[1] = look(h, SCRATCH, 0);
            REQUIRE(support_wait_stat(element, "results", run == 1 ? 2 : 1));
            g_object_set(element, "sample-mode", SAMPLE_TRIGGER, NULL);
            if (mode == 1) {
                g_usleep(20000); /* the worker has put it in the queue */
                gst_buffer_unref(gst_harness_pull(h));
                gst_harness_push(h, support_frame(CAPS_SMALL, 0, 33));
            }
            GstBuffer *out = gst_harness_pull(h);
            const GstStructure *meta = support_meta(out);
            REQUIRE(meta != NULL);
            ways.by[0] = gst_structure_copy(meta);
            CHECK_EQ(ways.signals, 1);
            CHECK_EQ(ways.events, 1);
            check_same(&ways);
            CHECK_STR(gst_structure_get_string(ways.by[0], "verdict"), "fail");
            gst_buffer_unref(out);
            clear_ways(&ways);
            g_object_set(element, "sample-mode", SAMPLE_ALL, NULL);
        }
        support_done(h);
    }
}

static void events_of_the_last_results_come_before_eos(void)
{
    Ways ways = { 0 };
    fake_set((fake_script) { .answer_ns = 20 * MS });
    GstElement *element = inspector();
    g_object_set(element, "mode", 1, "send-events", TRUE, "max-pending", 9, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    GstPad *pad = gst_element_get_static_pad(element, "src");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM, on_event, &ways, NULL);
    gst_object_unref(pad);
    EACH_RUN(h, CAPS_SMALL)
    {
        ways.events = 0;
        for (guint i = 0; i < 5; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, OK, i * 33));
        CHECK(gst_harness_push_event(h, gst_event_new_eos()));
        CHECK_EQ(ways.events, 5);
    }
    clear_ways(&ways);
    support_done(h);
}

static void without_an_answer_the_verdict_is_that_of_timeout_verdict(void)
{
    static const char *const verdicts[] = { "unknown", "pass", "fail" };
    for (int verdict = 0; verdict < 3; verdict++) {
        fake_set((fake_script) { .answer_ns = 10000 * MS });
        GstElement *element = inspector();
        g_object_set(element, "deadline", (guint64)(5 * MS), NULL);
        if (verdict != GLM4V_VERDICT_FAIL) /* the default */
            g_object_set(element, "timeout-verdict", verdict, NULL);
        GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
        EACH_RUN(h, CAPS_SMALL)
        {
            fake_set((fake_script) { .answer_ns = 10000 * MS });
            GstStructure *result = look(h, OK, 0);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "status"), "timeout");
            CHECK_STR(gst_structure_get_string(result, "verdict"), verdicts[verdict]);
            CHECK(!gst_structure_has_field(result, "choice"));
            CHECK(!gst_structure_has_field(result, "incident"));
            gst_structure_free(result);
            fake_set((fake_script) { .result_code = GLM4V_ERR_DEVICE });
            result = look(h, OK, 33);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "status"), "error");
            CHECK_STR(gst_structure_get_string(result, "verdict"), verdicts[verdict]);
            gst_structure_free(result);
        }
        support_done(h);
    }
}

static void dropped_frames_have_a_verdict_too(void)
{
    fake_set((fake_script) { .answer_ns = 40 * MS });
    GstElement *element = inspector();
    g_object_set(element, "mode", 1, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, OK, 0));
        g_usleep(15000); /* it is with the engine */
        for (guint i = 1; i < 4; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, OK, i * 33));
        for (guint i = 0; i < 4; i++) {
            gboolean replaced = i == 1 || i == 2;
            GstStructure *result = results_next(element);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "status"), replaced ? "dropped" : "ok");
            CHECK_STR(gst_structure_get_string(result, "verdict"), replaced ? "fail" : "pass");
            gst_structure_free(result);
        }
    }
    support_done(h);
}

static void unchanged_frames_repeat_the_verdict_and_belong_to_the_incident(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "change-threshold", 0.05, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_structure_free(look(h, SCRATCH, 0));
        GstStructure *result = look(h, SCRATCH, 33);
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "status"), "unchanged");
        CHECK_STR(gst_structure_get_string(result, "choice"), "scratch");
        CHECK_STR(gst_structure_get_string(result, "verdict"), "fail");
        CHECK(fabs(share(result, 1) - 1) < 1e-12);
        const GValue *value = gst_structure_get_value(result, "incident");
        REQUIRE(value != NULL);
        CHECK_EQ(results_uint64(gst_value_get_structure(value), "count"), 2);
        gst_structure_free(result);
    }
    support_done(h);
}

/* ---- state and incidents ---- */

static void state_changes_after_equal_verdicts_only(void)
{
    static const struct {
        guint32 rgb;
        const char *verdict, *state;
    } steps[] = {
        { OK, "pass", "unknown" },   { OK, "pass", "unknown" },       { OK, "pass", "pass" },
        { SCRATCH, "fail", "pass" }, { OK, "pass", "pass" },          { SCRATCH, "fail", "pass" },
        { SCRATCH, "fail", "pass" }, { 0x604040, "unknown", "pass" }, { DENT, "fail", "pass" },
        { SCRATCH, "fail", "pass" }, { DENT, "fail", "fail" },        { OK, "pass", "fail" },
    };
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "hysteresis", 3, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
            GstStructure *result = look(h, steps[i].rgb, i * 33);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "verdict"), steps[i].verdict);
            CHECK_STR(gst_structure_get_string(result, "state"), steps[i].state);
            gst_structure_free(result);
        }
    }
    support_done(h);
}

static void check_incident(GstHarness *h, guint32 rgb, guint pts_ms, int number, guint count,
                           guint first_ms)
{
    GstStructure *result = look(h, rgb, pts_ms);
    const GValue *value;
    REQUIRE(result != NULL);
    value = gst_structure_get_value(result, "incident");
    CHECK_EQ(value != NULL, number >= 0);
    if (value && number >= 0) {
        const GstStructure *incident = gst_value_get_structure(value);
        CHECK_EQ(results_uint64(incident, "number"), number);
        CHECK_EQ(results_uint64(incident, "count"), count);
        CHECK_EQ(results_uint64(incident, "first"), first_ms * MS);
        CHECK_EQ(results_uint64(incident, "last"), pts_ms * MS);
        CHECK_STR(gst_structure_get_string(incident, "choice"), rgb == DENT ? "dent" : "scratch");
    }
    gst_structure_free(result);
}

static void one_scratch_over_ten_frames_is_one_incident(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "cooldown", (guint64)(200 * MS), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        guint64 before = support_stat(element, "incidents");
        check_incident(h, OK, 0, -1, 0, 0);
        for (guint i = 0; i < 10; i++)
            check_incident(h, SCRATCH, 100 + i * 33, 0, i + 1, 100);
        check_incident(h, OK, 430, -1, 0, 0); /* a frame where it was not seen */
        check_incident(h, SCRATCH, 463, 0, 11, 100);
        check_incident(h, DENT, 496, 1, 1, 496); /* another defect */
        check_incident(h, SCRATCH, 529, 0, 12, 100);
        check_incident(h, OK, 562, -1, 0, 0);
        check_incident(h, SCRATCH, 729, 2, 1, 729); /* the gap is cooldown: a new one */
        CHECK_EQ(support_stat(element, "incidents") - before, 3);
    }
    support_done(h);
}

static GstBuffer *frame_with_parts(guint32 rgb, guint pts_ms)
{
    GstBuffer *buffer = support_frame(CAPS_SMALL, rgb, pts_ms);
    gst_buffer_add_video_region_of_interest_meta(buffer, "bolt", 0, 0, 8, 8);
    gst_buffer_add_video_region_of_interest_meta(buffer, "bolt", 8, 0, 8, 8);
    gst_buffer_add_video_region_of_interest_meta(buffer, "nut", 0, 0, 16, 8);
    return buffer;
}

static void regions_have_incidents_and_states_of_their_own(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "roi-mode", 1, "hysteresis", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 4; i++) {
            gst_harness_push(h, frame_with_parts(SCRATCH, i * 33));
            for (guint part = 0; part < 3; part++) {
                GstStructure *result = results_next(element);
                REQUIRE(result != NULL);
                const GValue *value = gst_structure_get_value(result, "incident");
                REQUIRE(value != NULL);
                CHECK_EQ(results_uint64(gst_value_get_structure(value), "number"), part);
                CHECK_EQ(results_uint64(gst_value_get_structure(value), "count"), i + 1);
                CHECK_STR(gst_structure_get_string(result, "state"), i ? "fail" : "unknown");
                gst_structure_free(result);
            }
        }
    }
    support_done(h);
}

static void a_flush_begins_states_and_incidents_anew(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = support_harness(inspector(), FALSE, CAPS_SMALL);
    GstSegment segment;
    check_incident(h, SCRATCH, 0, 0, 1, 0);
    check_incident(h, DENT, 33, 1, 1, 33);
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    check_incident(h, DENT, 33, 0, 1, 33);
    support_done(h);
}

static void so_many_labels_do_not_fill_memory(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    g_object_set(element, "roi-mode", 1, "cooldown", (guint64)(3600 * GST_SECOND), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    gst_harness_set_drop_buffers(h, TRUE);
    const guint labels = support_count(1000, 20000);
    for (guint i = 0; i < labels + 2; i++) {
        char label[32];
        GstBuffer *buffer = support_frame(CAPS_SMALL, SCRATCH, i * 33);
        snprintf(label, sizeof label, "part %u", i % labels);
        gst_buffer_add_video_region_of_interest_meta(buffer, label, 0, 0, 8, 8);
        gst_harness_push(h, buffer);
        GstStructure *result = results_next(element);
        REQUIRE(result != NULL);
        const GValue *value = gst_structure_get_value(result, "incident");
        REQUIRE(value != NULL); /* the first ones are forgotten when they come back */
        CHECK_EQ(results_uint64(gst_value_get_structure(value), "number"), i);
        gst_structure_free(result);
    }
    support_done(h);
}

/* ---- JSON ---- */

static void json_stands_in_the_result(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, "json-schema",
                                          "{\"type\":\"object\"}", NULL);
    set_array(element, "output", "json");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        GstStructure *result = look(h, 0x120000, 0);
        REQUIRE(result != NULL);
        CHECK_STR(gst_structure_get_string(result, "json"), "{\"red\":18}");
        CHECK_STR(gst_structure_get_string(result, "text"), "{\"red\":18}");
        CHECK(!gst_structure_has_field(result, "verdict"));
        gst_structure_free(result);
    }
    support_done(h);
}

static void a_schema_file_is_read_on_the_way_to_paused_and_when_it_is_set(void)
{
    gchar *folder = g_dir_make_tmp("glm4v-XXXXXX", NULL);
    gchar *path = g_build_filename(folder, "schema.json", NULL);
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL,
                                          "json-schema-location", path, NULL);
    set_array(element, "output", "json");
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
    gst_element_set_state(element, GST_STATE_NULL);
    CHECK(g_file_set_contents(path, "{\"type\":\"object\"}\n", -1, NULL));
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstStructure *result = look(h, 0x120000, 0);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "json"), "{\"red\":18}");
    gst_structure_free(result);
    CHECK(g_file_set_contents(path, "{\"pattern\":\"a\"}", -1, NULL));
    g_object_set(element, "json-schema-location", path, NULL);
    result = look(h, 0x120000, 33);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "error");
    CHECK(strstr(gst_structure_get_string(result, "message"), "\"pattern\"") != NULL);
    gst_structure_free(result);
    support_done(h);
    g_unlink(path);
    g_rmdir(folder);
    g_free(path);
    g_free(folder);
}

/* ---- what is refused ---- */

typedef struct {
    const char *output, *choices, *fails, *thresholds, *schema, *says;
} Bad;

static const Bad bad[] = {
    { "choice", NULL, NULL, NULL, NULL, "choices is empty" },
    { "choice", "<a, b>", NULL, "<0.5, 0.5, 0.5>", NULL, "thresholds has 3 numbers and choices 2" },
    { "choice", "<a, b>", NULL, "<0>", NULL, "number 1 is 0" },
    { "choice", "<a, b>", NULL, "<1, 1.5>", NULL, "number 2 is 1.5" },
    { "choice", "<a, b>", NULL, "<1, half>", NULL, "number 2 is nan" },
    { "choice", "<a, b>", "<b, bb>", NULL, NULL, "\"bb\" is not among choices: a, b" },
    { "choice", "<a, b, a>", NULL, NULL, NULL, "\"a\" stands there twice" },
    { "choice", "<a, \"\">", NULL, NULL, NULL, "number 2 is empty" },
    { "choice", "<a>", NULL, NULL, "{}", "output is not json" },
    { "text", "<a, b>", NULL, NULL, NULL, "output is not choice" },
    { "text", NULL, NULL, NULL, "{}", "output is not json" },
    { "json", NULL, NULL, NULL, NULL, "neither json-schema nor" },
    { "json", NULL, NULL, NULL, "{\"pattern\":\"a\"}", "\"pattern\"" },
    { "json", NULL, "<a>", NULL, "{}", "output is not choice" },
};

static void set_bad(GstElement *element, const Bad *b)
{
    set_array(element, "output", b->output);
    set_array(element, "choices", b->choices ? b->choices : "<>");
    set_array(element, "fail-choices", b->fails ? b->fails : "<>");
    set_array(element, "thresholds", b->thresholds ? b->thresholds : "<>");
    g_object_set(element, "json-schema", b->schema, NULL);
}

static void check_says(GstElement *element, GstMessageType type, const char *says)
{
    GstMessage *message = support_message(element, type);
    GError *error = NULL;
    REQUIRE(message != NULL);
    if (type == GST_MESSAGE_ERROR)
        gst_message_parse_error(message, &error, NULL);
    else
        gst_message_parse_warning(message, &error, NULL);
    CHECK(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS));
    if (!strstr(error->message, says))
        test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", error->message, says);
    g_error_free(error);
    gst_message_unref(message);
}

static void a_wrong_pattern_is_refused_with_its_place(void)
{
    static const char *const cases[][3] = { { "text", "LOT[0-9", "ends too early at byte 7" },
                                            { "text", "a*", "without characters" },
                                            { "choice", "LOT", "output is not text" } };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        fake_set((fake_script) { 0 });
        GstElement *element = support_element(NULL);
        set_array(element, "output", cases[i][0]);
        set_array(element, "choices", *cases[i][0] == 'c' ? "<a>" : "<>");
        g_object_set(element, "pattern", cases[i][1], NULL);
        CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        check_says(element, GST_MESSAGE_ERROR, cases[i][2]);
        support_free(element);
    }
}

static void what_contradicts_is_refused_with_its_reason(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        fake_set((fake_script) { 0 });
        GstElement *element = support_element(NULL);
        set_bad(element, &bad[i]);
        CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
        check_says(element, GST_MESSAGE_ERROR, bad[i].says);
        set_bad(element, &(Bad) { .output = "text" });
        CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_SUCCESS);
        support_free(element);
    }
}

static void what_contradicts_while_playing_is_an_error_of_each_frame_and_one_warning(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        fake_set((fake_script) { 0 });
        GstHarness *h = support_harness(inspector(), FALSE, CAPS_SMALL);
        GstElement *element = h->element;
        gboolean unused = strstr(bad[i].says, "output is not") != NULL;
        if (unused) { /* it waits for output to be set */
            support_done(h);
            continue;
        }
        set_bad(element, &bad[i]);
        for (guint frame = 0; frame < 3; frame++) {
            GstStructure *result = look(h, OK, frame * 33);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(result, "status"), "error");
            CHECK(strstr(gst_structure_get_string(result, "message"), bad[i].says) != NULL);
            if (!strcmp(bad[i].output, "choice"))
                CHECK_STR(gst_structure_get_string(result, "verdict"), "fail");
            gst_structure_free(result);
        }
        CHECK_EQ(fake_get().submitted, 0);
        set_bad(element, &(Bad) { .output = "choice", .choices = CHOICES });
        check_verdict(look(h, OK, 200), "ok", "pass");
        support_done(h);
    }
}

static gint stop_setting;

static gpointer set_again_and_again(gpointer element)
{
    while (!g_atomic_int_get(&stop_setting)) {
        set_array(element, "fail-choices", "<dent, crack>"); /* there is no choice crack */
        set_array(element, "fail-choices", "<dent>");
    }
    return NULL;
}

/* Which question has which properties is a matter of chance: each has a result all the same. */
static void what_is_set_while_questions_are_made_is_an_error_or_counts(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    set_array(element, "prompts", "<a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p>");
    set_array(element, "fail-choices", "<dent>");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    g_atomic_int_set(&stop_setting, 0);
    GThread *thread = g_thread_new("set", set_again_and_again, element);
    for (guint i = 0; i < 400; i++) {
        gst_harness_push(h, support_frame(CAPS_SMALL, DENT, i * 33));
        for (guint k = 0; k < 16; k++) {
            GstStructure *result = results_next(element);
            REQUIRE(result != NULL);
            gboolean ok = g_str_equal(gst_structure_get_string(result, "status"), "ok");
            CHECK_EQ(gst_structure_has_field(result, "choice"), ok);
            CHECK_STR(gst_structure_get_string(result, "verdict"), "fail");
            gst_structure_free(result);
        }
    }
    g_atomic_int_set(&stop_setting, 1);
    g_thread_join(thread);
    support_done(h);
}

static void a_warning_says_what_contradicts_while_playing(void)
{
    fake_set((fake_script) { 0 });
    GstHarness *h = support_harness(inspector(), FALSE, CAPS_SMALL);
    GstElement *element = h->element;
    for (guint run = 0; run < 2; run++) { /* once for each change */
        set_array(element, "thresholds", "<1, 1, 1, 1>");
        for (guint i = 0; i < 3; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, OK, i * 33));
        check_says(element, GST_MESSAGE_WARNING, "thresholds has 4 numbers and choices 3");
        CHECK_EQ(support_count_messages(element, GST_MESSAGE_WARNING), 0);
    }
    g_object_set(element, "on-error", 1, NULL);
    CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, OK, 200)), GST_FLOW_ERROR);
    check_says(element, GST_MESSAGE_ERROR, "thresholds has 4 numbers");
    support_done(h);
}

static void what_the_engine_refuses_is_told_when_it_is_loaded(void)
{
    fake_set((fake_script) { .check_code = GLM4V_ERR_INVALID });
    GstElement *element = inspector();
    gst_element_set_state(element, GST_STATE_PLAYING);
    check_says(element, GST_MESSAGE_ERROR, "engine_check");
    support_free(element);
    element = support_element(NULL); /* free text is not asked about */
    gst_element_set_state(element, GST_STATE_PLAYING);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    g_usleep(20000);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 0);
    support_free(element);
}

static void choices_may_hold_blanks_commas_quotes_and_chinese(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = inspector();
    set_array(element, "choices",
              "<\"no defect\", \"scratch, deep\", \"\xe5\x88\x92\xe7\x97\x95 \\\"1\\\"\">");
    set_array(element, "fail-choices",
              "<\"scratch, deep\", \"\xe5\x88\x92\xe7\x97\x95 \\\"1\\\"\">");
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    check_verdict(look(h, OK, 0), "no defect", "pass");
    check_verdict(look(h, SCRATCH, 33), "scratch, deep", "fail");
    check_verdict(look(h, DENT, 66), "\xe5\x88\x92\xe7\x97\x95 \"1\"", "fail");
    support_done(h);
}

/* ---- leaky ---- */

static void leaky_says_which_sample_goes(void)
{
    fake_set((fake_script) { .answer_ns = 40 * MS });
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, NULL);
    set_array(element, "leaky", "upstream");
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        gst_harness_push(h, support_frame(CAPS_SMALL, 0, 0));
        g_usleep(15000); /* it is with the engine */
        for (guint i = 1; i < 4; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        results_check(element, 0, "ok", "stop");
        results_check(element, 1, "ok", "stop"); /* it waited first */
        results_check(element, 2, "dropped", "busy");
        results_check(element, 3, "dropped", "busy");
    }
    support_done(h);
}

static void leaky_no_is_for_sync(void)
{
    fake_set((fake_script) { .answer_ns = 5 * MS });
    GstElement *element = support_element("sample-mode", SAMPLE_ALL, NULL);
    set_array(element, "leaky", "no");
    CHECK_EQ(gst_element_set_state(element, GST_STATE_PAUSED), GST_STATE_CHANGE_FAILURE);
    check_says(element, GST_MESSAGE_ERROR, "leaky is no and mode is not sync");
    gst_element_set_state(element, GST_STATE_NULL);
    g_object_set(element, "mode", SYNC, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    EACH_RUN(h, CAPS_SMALL)
    {
        for (guint i = 0; i < 8; i++)
            gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33));
        for (guint i = 0; i < 8; i++)
            results_check(element, i, "ok", "stop");
    }
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(a_result_has_choice_probabilities_and_verdict);
    TEST(a_pattern_makes_a_verdict_of_the_text);
    TEST(thresholds_make_a_defect_fail_that_was_not_chosen);
    TEST(results_are_the_same_wherever_they_go);
    TEST(events_of_the_last_results_come_before_eos);
    TEST(without_an_answer_the_verdict_is_that_of_timeout_verdict);
    TEST(dropped_frames_have_a_verdict_too);
    TEST(unchanged_frames_repeat_the_verdict_and_belong_to_the_incident);
    TEST(state_changes_after_equal_verdicts_only);
    TEST(one_scratch_over_ten_frames_is_one_incident);
    TEST(regions_have_incidents_and_states_of_their_own);
    TEST(a_flush_begins_states_and_incidents_anew);
    TEST(so_many_labels_do_not_fill_memory);
    TEST(json_stands_in_the_result);
    TEST(a_schema_file_is_read_on_the_way_to_paused_and_when_it_is_set);
    TEST(what_contradicts_is_refused_with_its_reason);
    TEST(a_wrong_pattern_is_refused_with_its_place);
    TEST(what_contradicts_while_playing_is_an_error_of_each_frame_and_one_warning);
    TEST(what_is_set_while_questions_are_made_is_an_error_or_counts);
    TEST(a_warning_says_what_contradicts_while_playing);
    TEST(what_the_engine_refuses_is_told_when_it_is_loaded);
    TEST(choices_may_hold_blanks_commas_quotes_and_chinese);
    TEST(leaky_says_which_sample_goes);
    TEST(leaky_no_is_for_sync);
    return test_end();
}
