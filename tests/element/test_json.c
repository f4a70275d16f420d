/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pad `json`: one object for each result, whatever its status, in their order. With
 * GLM4V_JSON_OUT each object is appended to that file, for tests/pipeline/test_contract.py to check
 * it against docs/result.schema.json. With a scripted engine. */
#include <math.h>
#include <stdio.h>

#include "fake_engine.h"
#include "results.h"

#define ASYNC 1
#define SYNC 2

static void keep(const char *line)
{
    const char *path = g_getenv("GLM4V_JSON_OUT");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file)
        return;
    fputs(line, file);
    fclose(file);
}

/* The next object, whatever it is, as text; g_free(). */
static char *next_object(GstHarness *json)
{
    GstBuffer *buffer = gst_harness_pull(json);
    GstMapInfo map;
    char *line;
    if (!buffer) {
        test_fail(__FILE__, __LINE__, "no object");
        return g_strdup("");
    }
    gst_buffer_map(buffer, &map, GST_MAP_READ);
    line = g_strndup((const char *)map.data, map.size);
    gst_buffer_unmap(buffer, &map);
    gst_buffer_unref(buffer);
    CHECK(g_utf8_validate(line, -1, NULL));
    CHECK(strchr(line, '\n') == line + strlen(line) - 1);
    keep(line);
    return line;
}

#define SETTINGS "{\"type\":\"settings\","

/* The next result; settings are passed over. */
static char *next_line(GstHarness *json)
{
    char *line = next_object(json);
    while (g_str_has_prefix(line, SETTINGS)) {
        g_free(line);
        line = next_object(json);
    }
    CHECK(g_str_has_prefix(line, "{\"version\":1,\"id\":"));
    return line;
}

/* The next objects are settings, which hold this, and the result of that id, which names them. */
static void check_settings(GstHarness *json, const char *holds, guint id)
{
    char *settings = next_object(json), *result = next_object(json);
    char *head = g_strdup_printf("{\"version\":1,\"id\":%u,", id);
    char *hash = g_strrstr(settings, "\"hash\":\"");
    CHECK(g_str_has_prefix(settings, SETTINGS) && hash != NULL);
    CHECK_CONTAINS(settings, holds);
    CHECK(g_str_has_prefix(result, head));
    char *name =
        hash ? g_strdup_printf("\"settings\":\"%.64s\"", hash + strlen("\"hash\":\"")) : NULL;
    CHECK_CONTAINS(result, name ? name : "settings");
    g_free(name);
    g_free(head);
    g_free(result);
    g_free(settings);
}

static void check_line(GstHarness *json, guint id, const char *holds)
{
    char *line = next_line(json), *head = g_strdup_printf("{\"version\":1,\"id\":%u,", id);
    CHECK_CONTAINS(line, head);
    CHECK_CONTAINS(line, holds);
    g_free(head);
    g_free(line);
}

typedef struct {
    GstElement *element;
    GstHarness *video, *json;
} Pads;

static Pads open_pads(GstElement *element, gboolean live)
{
    Pads p = { .element = element, .video = support_harness(element, live, CAPS_SMALL) };
    gst_harness_set_drop_buffers(p.video, TRUE);
    p.json = gst_harness_new_with_element(element, NULL, "json");
    return p;
}

static void close_pads(Pads *p)
{
    gst_harness_teardown(p->json);
    support_done(p->video);
}

static void push(Pads *p, guint32 rgb, guint pts_ms)
{
    gst_harness_push(p->video, support_frame(CAPS_SMALL, rgb, pts_ms));
}

/* ---- what stands in them ---- */

static void every_status_has_an_object_in_order(void)
{
    fake_set((fake_script) { .answer_ns = 40 * MS });
    Pads p = open_pads(support_element("mode", ASYNC, "sample-mode", SAMPLE_ALL, NULL), TRUE);
    EACH_RUN(p.video, CAPS_SMALL)
    {
        push(&p, 1, 0);
        for (guint i = 0; i < 5000 && fake_get().submitted == 0; i++)
            g_usleep(1000); /* until it is with the engine */
        for (guint i = 1; i < 4; i++)
            push(&p, i, i * 33);
        check_line(p.json, 0, "\"status\":\"ok\"");
        check_line(p.json, 1, "\"finish-reason\":\"busy\"");
        check_line(p.json, 2, "\"status\":\"dropped\"");
        check_line(p.json, 3, "\"status\":\"ok\"");
        fake_set((fake_script) { .result_code = GLM4V_ERR_DEVICE });
        push(&p, 4, 200);
        check_line(p.json, 4, "\"status\":\"error\"");
        fake_set((fake_script) { .answer_ns = 10000 * MS });
        g_object_set(p.element, "deadline", (guint64)(5 * MS), NULL);
        push(&p, 5, 233);
        check_line(p.json, 5, "\"status\":\"timeout\"");
        fake_set((fake_script) { 0 });
        g_object_set(p.element, "deadline", (guint64)0, "change-threshold", 0.05, NULL);
        push(&p, 6, 266);
        check_line(p.json, 6, "\"status\":\"ok\"");
        push(&p, 6, 299);
        check_line(p.json, 7, "\"refers-to\":6");
        g_object_set(p.element, "change-threshold", 0.0, NULL);
        fake_set((fake_script) { .answer_ns = 40 * MS });
    }
    close_pads(&p);
}

static void verdicts_are_numbers_and_words(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<ok, \"a \\\"deep\\\" scratch\">");
    gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<\"a \\\"deep\\\" scratch\">");
    Pads p = open_pads(element, FALSE);
    EACH_RUN(p.video, CAPS_SMALL)
    {
        push(&p, 0x602000, 0);
        check_line(p.json, 0,
                   "\"choice\":\"ok\",\"probability\":0.75,\"probabilities\":[0.75,0.25],"
                   "\"verdict\":\"pass\"");
        push(&p, 0x00ff00, 33);
        check_line(p.json, 1, "\"choice\":\"a \\\"deep\\\" scratch\"");
        push(&p, 0x00ff00, 66);
        check_line(p.json, 2, "\"incident\":{\"number\":0,");
    }
    close_pads(&p);
}

static void json_of_the_model_is_a_value(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, "json-schema",
                                          "{\"type\":\"object\"}", NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "json");
    Pads p = open_pads(element, FALSE);
    push(&p, 0x120000, 0);
    check_line(p.json, 0, "\"json\":{\"red\":18}");
    close_pads(&p);
}

static void a_gpu_names_its_table_of_products(void)
{
    fake_set((fake_script) { .image_device = "cuda:0" });
    Pads p = open_pads(support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL), FALSE);
    for (guint i = 0; i < 2; i++) {
        push(&p, i, i * 33);
        check_line(p.json, i, "\"products\":\"fedcba9876543210\"");
    }
    close_pads(&p);
}

static void what_others_have_written_stays_json(void)
{
    static const char *const text = "line\n\"quoted\" \\ \x01\x1b[31m \xe5\x88\x92";
    const glm4v_box boxes[] = { { 1, 2, 3, 4, "a \"hole\"\n" }, { 0, 0, 5, 5, "" } };
    const glm4v_action action = { "Tap", "\"x\"", "\\", { 3, 4 }, { -1, -1 } };
    fake_set((fake_script) { .text = text, .boxes = boxes, .n_boxes = 2, .action = &action });
    Pads p = open_pads(support_element("mode", SYNC, "sample-mode", SAMPLE_TRIGGER, NULL), FALSE);
    GstStructure *part = gst_structure_new("part", "n", G_TYPE_INT, 3, NULL);
    GstStructure *triggers[] = {
        gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_STRING, "A\"1\"", NULL),
        gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_INT, -5, NULL),
        gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_DOUBLE, 0.1, NULL),
        gst_structure_new("glm4vdescribe/trigger", "id", GST_TYPE_STRUCTURE, part, NULL),
        gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_BOOLEAN, TRUE, NULL),
        gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_DOUBLE, (double)NAN, NULL),
        gst_structure_new("glm4vdescribe/trigger", "id", G_TYPE_DOUBLE, (double)-INFINITY, NULL),
    };
    static const char *const ids[] = { "\"A\\\"1\\\"", "-5",      "0.1",     "\"\\\"part",
                                       "\"true\"",     "\"nan\"", "\"-inf\"" };
    for (guint i = 0; i < G_N_ELEMENTS(triggers); i++) {
        gchar *holds = g_strconcat("\"trigger-id\":", ids[i], NULL);
        gst_harness_push_event(p.video,
                               gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM, triggers[i]));
        push(&p, i, i * 33);
        check_line(p.json, i, holds);
        g_free(holds);
    }
    gst_structure_free(part);
    close_pads(&p);
}

static void times_that_are_not_known_are_null(void)
{
    fake_set((fake_script) { 0 });
    Pads p = open_pads(support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL), FALSE);
    GstBuffer *frame = support_frame(CAPS_SMALL, 0, 0);
    GST_BUFFER_PTS(frame) = GST_CLOCK_TIME_NONE;
    gst_harness_push(p.video, frame);
    check_line(p.json, 0, "\"pts\":null,\"running-time\":null,\"frame-number\":0,");
    close_pads(&p);
}

static void the_time_of_capture_is_in_nanoseconds_since_1970(void)
{
    fake_set((fake_script) { 0 });
    Pads p = open_pads(support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL), FALSE);
    GstCaps *caps = gst_caps_new_empty_simple("timestamp/x-unix");
    GstBuffer *frame = support_frame(CAPS_SMALL, 0, 0);
    gst_buffer_add_reference_timestamp_meta(frame, caps, 1764547200 * GST_SECOND + 7, 33 * MS);
    gst_harness_push(p.video, frame);
    check_line(p.json, 0,
               "\"running-time\":0,\"capture-utc\":1764547200000000007,\"frame-number\":0,");
    gst_caps_unref(caps);
    close_pads(&p);
}

static void a_canceled_question_has_its_object(void)
{
    guint64 id = 0;
    fake_set((fake_script) { .answer_ns = 20000 * MS });
    Pads p = open_pads(support_element("mode", ASYNC, "sample-mode", SAMPLE_TRIGGER, NULL), TRUE);
    g_signal_emit_by_name(p.element, "describe", NULL, &id);
    push(&p, 0, 0);
    g_signal_emit_by_name(p.element, "cancel");
    check_line(p.json, 0, "\"status\":\"dropped\",\"finish-reason\":\"canceled\",\"message\":");
    close_pads(&p);
}

static void regions_clips_and_questions_are_told_apart(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<a, b>");
    gst_util_set_object_arg(G_OBJECT(element), "roi", "<1, 2, 3, 4>");
    Pads p = open_pads(element, FALSE);
    push(&p, 0, 0);
    check_line(p.json, 0, "\"roi\":{\"x\":1,\"y\":2,\"width\":3,\"height\":4}");
    check_line(p.json, 1, "\"prompt-number\":1");
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<>");
    g_object_set(element, "frames-per-request", 2, "window", (guint64)(40 * MS), NULL);
    push(&p, 1, 33);
    push(&p, 2, 66);
    check_line(p.json, 2, "\"clip\":{\"frames\":");
    gst_util_set_object_arg(G_OBJECT(element), "roi", "<1, 2>"); /* contradictory */
    push(&p, 3, 99);
    char *line = next_line(p.json);
    if (strstr(line, "\"id\":3,")) { /* the clip may have had one more frame */
        g_free(line);
        line = next_line(p.json);
    }
    g_free(line);
    close_pads(&p);
}

/* Members of the object itself, not of those in it. */
static guint count_members(const char *line)
{
    guint n = 0, depth = 0;
    gboolean quoted = FALSE;
    for (; *line; line++) {
        if (quoted && *line == '\\')
            line++;
        else if (*line == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += (*line == '{' || *line == '[') - (*line == '}' || *line == ']');
        n += !quoted && depth == 1 && *line == ':';
    }
    return n;
}

static void messages_have_the_members_of_the_object_in_their_order(void)
{
    static const glm4v_box box = { 1, 0, 1, 1, "a" };
    static const glm4v_action action = { "Tap", "x", "y", { 1, 1 }, { 2, 1 } };
    fake_set((fake_script) { .boxes = &box, .n_boxes = 1, .action = &action });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<a, b>");
    gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<a>");
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<c, d>");
    gst_util_set_object_arg(G_OBJECT(element), "roi", "<3, 2, 4, 4>");
    Pads p = open_pads(element, FALSE);
    for (guint i = 0; i < 2; i++) {
        fake_set((fake_script) { .boxes = &box,
                                 .n_boxes = 1,
                                 .action = &action,
                                 .result_code = i ? GLM4V_ERR_DEVICE : 0 });
        push(&p, 0x602000, i * 33);
        char *line = next_line(p.json), *second = next_line(p.json);
        GstStructure *result = results_next(element);
        REQUIRE(result != NULL);
        const char *at = line;
        const guint n = (guint)gst_structure_n_fields(result);
        for (guint field = 0; at && field < n; field++) {
            char *key = g_strdup_printf("\"%s\":", gst_structure_nth_field_name(result, field));
            at = strstr(at, key);
            CHECK(at != NULL);
            g_free(key);
        }
        CHECK_EQ(n, count_members(line));
        CHECK_EQ(n, i ? 23 : 28);
        gst_structure_free(result);
        g_free(second);
        g_free(line);
        result = results_next(element);
        g_clear_pointer(&result, gst_structure_free);
    }
    close_pads(&p);
}

/* ---- settings ---- */

static void settings_come_before_the_first_result_that_used_them(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    Pads p = open_pads(element, FALSE);
    EACH_RUN(p.video, CAPS_SMALL)
    {
        g_object_set(element, "prompt", "What at {time}?", "seed", (guint64)5, NULL);
        push(&p, 0, 0);
        check_settings(p.json, "\"prompts\":[\"What at {time}?\"],\"placeholders\":true,", 0);
        push(&p, 1, 33);
        check_line(p.json, 1, "\"seed\":5");
        g_object_set(element, "interval", (guint64)1, "seed", (guint64)6, NULL);
        push(&p, 2, 66);
        check_settings(p.json, "\"seed\":6", 2);
        gst_util_set_object_arg(G_OBJECT(element), "prompts", "<a, b>");
        push(&p, 3, 99);
        check_settings(p.json, "\"prompts\":[\"a\",\"b\"],", 3);
        check_line(p.json, 4, "\"prompt-number\":1");
        gst_util_set_object_arg(G_OBJECT(element), "prompts", "<>");
        gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
        gst_util_set_object_arg(G_OBJECT(element), "choices", "<ok, bad>");
        gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<bad>");
        gst_util_set_object_arg(G_OBJECT(element), "thresholds", "<0.25>");
        push(&p, 4, 132);
        check_settings(
            p.json,
            "\"output\":\"choice\",\"choices\":[\"ok\",\"bad\"],\"fail-choices\":[\"bad\"],"
            "\"thresholds\":[0.25,0.5],\"timeout-verdict\":\"fail\",",
            5);
        gst_util_set_object_arg(G_OBJECT(element), "output", "text");
        gst_util_set_object_arg(G_OBJECT(element), "choices", "<>");
        gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<>");
        gst_util_set_object_arg(G_OBJECT(element), "thresholds", "<>");
        g_object_set(element, "prompt", "", NULL);
    }
    close_pads(&p);
}

/* A trigger may ask something of its own; then the properties hold again. */
static void a_prompt_of_a_trigger_is_a_setting(void)
{
    fake_set((fake_script) { .echo = true });
    GstElement *element =
        support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, "prompt", "a", NULL);
    Pads p = open_pads(element, FALSE);
    guint64 id;
    g_signal_emit_by_name(element, "describe", "b", &id);
    push(&p, 0, 0);
    check_settings(p.json, "\"prompts\":[\"b\"]", 0);
    check_settings(p.json, "\"prompts\":[\"a\"]", 1);
    push(&p, 1, 33);
    check_line(p.json, 2, "\"text\":\"a\"");
    close_pads(&p);
}

static void what_downstream_lost_is_told_again(void)
{
    fake_set((fake_script) { 0 });
    Pads p = open_pads(support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL), FALSE);
    GstSegment segment;
    push(&p, 0, 0);
    check_settings(p.json, "\"model\":{\"name\":", 0);
    gst_harness_push_event(p.video, gst_event_new_flush_start());
    gst_harness_push_event(p.video, gst_event_new_flush_stop(TRUE));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(p.video, gst_event_new_segment(&segment));
    push(&p, 1, 0);
    check_settings(p.json, "\"isa\":\"c\"", 1);
    gst_harness_push_event(p.video, gst_event_new_stream_start("another"));
    gst_harness_push_event(p.video, gst_event_new_segment(&segment));
    push(&p, 2, 0);
    check_settings(p.json, "\"version\":1", 2);
    gst_harness_teardown(p.json); /* the pad is released */
    p.json = gst_harness_new_with_element(p.element, NULL, "json");
    push(&p, 3, 33);
    check_settings(p.json, "\"version\":1", 3);
    close_pads(&p);
}

static void messages_have_the_settings_too(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    Pads p = open_pads(element, FALSE);
    EACH_RUN(p.video, CAPS_SMALL)
    {
        push(&p, 0, 0);
        GstStructure *told = results_next_named(element, "glm4vdescribe-settings");
        GstStructure *result = results_next(element);
        REQUIRE(told != NULL && result != NULL);
        CHECK_STR(gst_structure_get_string(told, "hash"),
                  gst_structure_get_string(result, "settings"));
        CHECK_CONTAINS(gst_structure_get_string(told, "json"),
                       gst_structure_get_string(told, "hash"));
        gst_structure_free(told);
        gst_structure_free(result);
        push(&p, 1, 33);
        CHECK_EQ(results_count_named(element, "glm4vdescribe-settings"), 0);
    }
    close_pads(&p);
}

/* Of the pixels that were asked about, whatever the padding and the format. */
static void pictures_are_told_by_their_digests(void)
{
    char head[] = "RGB 2 1\n\x11\x22\x33\x11\x22\x33";
    char *sum =
        g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)head, sizeof head - 1);
    char *holds = g_strdup_printf("\"pictures\":[\"%s\"]", sum);
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<a, b>");
    gst_util_set_object_arg(G_OBJECT(element), "roi", "<3, 2, 2, 1>");
    Pads p = open_pads(element, FALSE);
    push(&p, 0x112233, 0);
    check_line(p.json, 0, holds);
    check_line(p.json, 1, holds);
    g_free(holds);
    g_free(sum);
    close_pads(&p);
}

/* ---- times ---- */

static void buffers_have_the_times_of_their_frames_or_none(void)
{
    fake_set((fake_script) { 0 });
    for (int sync = 0; sync < 2; sync++) {
        Pads p = open_pads(
            support_element("mode", SYNC, "sample-mode", SAMPLE_ALL, "json-sync", sync, NULL),
            FALSE);
        EACH_RUN(p.video, CAPS_SMALL)
        {
            for (guint i = 0; i < 20; i++)
                push(&p, i, i * 33);
            for (guint i = 0; i <= 20; i++) { /* settings, and 20 results */
                GstBuffer *buffer = gst_harness_pull(p.json);
                REQUIRE(buffer != NULL);
                if (sync) {
                    CHECK_EQ(GST_BUFFER_PTS(buffer), (i ? i - 1 : 0) * 33 * MS);
                    CHECK_EQ(GST_BUFFER_DURATION(buffer), i ? 1 : 0);
                } else {
                    CHECK(!GST_BUFFER_PTS_IS_VALID(buffer));
                }
                CHECK_EQ(GST_BUFFER_FLAG_IS_SET(buffer, GST_BUFFER_FLAG_DISCONT), i == 0);
                gst_buffer_unref(buffer);
            }
        }
        close_pads(&p);
    }
}

static void no_object_is_lost_over_many_frames(void)
{
    const guint frames = support_count(3000, 100000);
    fake_set((fake_script) { .answer_ns = MS });
    Pads p = open_pads(
        support_element("mode", ASYNC, "sample-mode", SAMPLE_ALL, "post-messages", FALSE, NULL),
        TRUE);
    for (guint i = 0; i < frames; i++) {
        push(&p, i, i * 33);
        guint64 given = i % 100 == 99 ? support_stat(p.element, "results") : 0;
        while (support_stat(p.element, "json-pushed") < given) /* the branch keeps pace */
            g_usleep(500);
    }
    gst_harness_push_event(p.video, gst_event_new_eos());
    CHECK(support_wait_stat(p.element, "json-pushed", frames));
    CHECK_EQ(support_stat(p.element, "json-dropped"), 0);
    for (guint i = 0; i < frames; i++) {
        char *line = next_line(p.json), *head = g_strdup_printf("{\"version\":1,\"id\":%u,", i);
        CHECK(g_str_has_prefix(line, head));
        g_free(head);
        g_free(line);
    }
    close_pads(&p);
}

static void both_pads_work_beside_each_other(void)
{
    fake_set((fake_script) { 0 });
    Pads p = open_pads(support_element("mode", SYNC, "interval", (guint64)0, NULL), FALSE);
    GstHarness *text = gst_harness_new_with_element(p.element, NULL, "text");
    EACH_RUN(p.video, CAPS_SMALL)
    {
        for (guint i = 0; i < 5; i++) {
            push(&p, i, i * 33);
            check_line(p.json, i, "\"text\":\"16x8 #");
            GstBuffer *cue = gst_harness_pull(text);
            CHECK(cue != NULL);
            gst_clear_buffer(&cue);
        }
    }
    gst_harness_teardown(text);
    close_pads(&p);
}

static void a_flush_leaves_nothing_stale(void)
{
    fake_set((fake_script) { .answer_ns = 50 * MS });
    Pads p = open_pads(support_element("mode", ASYNC, "sample-mode", SAMPLE_ALL, NULL), TRUE);
    GstSegment segment;
    push(&p, 1, 0);
    gst_harness_push_event(p.video, gst_event_new_flush_start());
    gst_harness_push_event(p.video, gst_event_new_flush_stop(TRUE));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(p.video, gst_event_new_segment(&segment));
    push(&p, 2, 0);
    check_line(p.json, 1, "#000002");
    close_pads(&p);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(every_status_has_an_object_in_order);
    TEST(verdicts_are_numbers_and_words);
    TEST(json_of_the_model_is_a_value);
    TEST(a_gpu_names_its_table_of_products);
    TEST(what_others_have_written_stays_json);
    TEST(times_that_are_not_known_are_null);
    TEST(the_time_of_capture_is_in_nanoseconds_since_1970);
    TEST(a_canceled_question_has_its_object);
    TEST(regions_clips_and_questions_are_told_apart);
    TEST(messages_have_the_members_of_the_object_in_their_order);
    TEST(settings_come_before_the_first_result_that_used_them);
    TEST(a_prompt_of_a_trigger_is_a_setting);
    TEST(what_downstream_lost_is_told_again);
    TEST(messages_have_the_settings_too);
    TEST(pictures_are_told_by_their_digests);
    TEST(buffers_have_the_times_of_their_frames_or_none);
    TEST(no_object_is_lost_over_many_frames);
    TEST(both_pads_work_beside_each_other);
    TEST(a_flush_leaves_nothing_stale);
    return test_end();
}
