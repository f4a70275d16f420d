/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boxes and actions of answers, with a scripted engine: the fields of the result, the regions of
 * interest on the frames, and what elements behind make of those. */
#include "fake_engine.h"
#include "results.h"

static const glm4v_box two_boxes[] = { { 2, 1, 5, 3, "hole" }, { 0, 0, 16, 8, "" } };

/* The regions of a buffer as "type x,y wxh label;" in order. */
static const char *regions(GstBuffer *buffer)
{
    static char out[1024];
    gpointer state = NULL;
    GstMeta *meta;
    size_t used = 0;
    out[0] = 0;
    while ((meta = gst_buffer_iterate_meta_filtered(buffer, &state,
                                                    GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE))) {
        GstVideoRegionOfInterestMeta *r = (GstVideoRegionOfInterestMeta *)meta;
        GstStructure *param = gst_video_region_of_interest_meta_get_param(r, "glm4vdescribe");
        const char *label = param ? gst_structure_get_string(param, "label") : NULL;
        CHECK(param && gst_structure_has_field(param, "id") &&
              gst_structure_has_field(param, "pts"));
        CHECK(param && gst_structure_get_string(param, "model"));
        used += (size_t)snprintf(out + used, sizeof out - used, "%s %u,%u %ux%u %s;",
                                 g_quark_to_string(r->roi_type), r->x, r->y, r->w, r->h,
                                 label ? label : "-");
    }
    return out;
}

/* Push a frame, pull one. */
static GstBuffer *pass(GstHarness *h, const char *caps, guint pts_ms)
{
    gst_harness_push(h, support_frame(caps, 0x102030, pts_ms));
    return gst_harness_pull(h);
}

static void regions_of_several_results_on_one_frame_have_ids_of_their_own(void)
{
    fake_set((fake_script) { .boxes = two_boxes, .n_boxes = 2, .answer_ns = 30 * MS });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_buffer_unref(pass(h, CAPS_SMALL, 0));
    g_usleep(10000); /* the first is with the engine, the second waits */
    gst_buffer_unref(pass(h, CAPS_SMALL, 33));
    results_wait(element, 2);
    GstBuffer *in = support_frame(CAPS_SMALL, 0, 66), *out;
    gst_buffer_add_video_region_of_interest_meta(in, "face", 1, 2, 3, 4);
    gst_harness_push(h, in);
    out = gst_harness_pull(h);
    CHECK_EQ(support_count_meta(out), 2);
    for (gint id = 0; id < 5; id++) {
        GstVideoRegionOfInterestMeta *r = gst_buffer_get_video_region_of_interest_meta_id(out, id);
        CHECK(r && r->roi_type == g_quark_from_string(id == 0  ? "face"
                                                      : id % 2 ? "hole"
                                                               : "object"));
    }
    gst_buffer_unref(out);
    support_done(h);
}

static void sync_puts_regions_on_exactly_the_frame(void)
{
    fake_set((fake_script) { .boxes = two_boxes, .n_boxes = 2 });
    GstElement *element = support_element("mode", 2, "sample-mode", 1, "nth", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 6; i++) {
        GstBuffer *in = support_frame(CAPS_SMALL, 0x102030, i * 33), *out;
        GstMemory *memory = gst_buffer_peek_memory(in, 0);
        gst_harness_push(h, in);
        out = gst_harness_pull(h);
        CHECK_STR(regions(out), i % 2 ? "" : "hole 2,1 5x3 hole;object 0,0 16x8 -;");
        CHECK(gst_buffer_peek_memory(out, 0) == memory);
        gst_buffer_unref(out);
    }
    support_done(h);
}

static void async_puts_regions_on_the_next_frame_that_leaves(void)
{
    fake_set((fake_script) { .boxes = two_boxes, .n_boxes = 1 });
    GstElement *element = support_element("sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    for (guint i = 0; i < 3; i++) {
        GstBuffer *out = pass(h, CAPS_SMALL, i * 33);
        CHECK_STR(regions(out), i ? "hole 2,1 5x3 hole;" : "");
        results_wait(element, 1);
        gst_buffer_unref(out);
    }
    support_done(h);
}

static void regions_are_scaled_when_the_size_has_changed(void)
{
    static const struct {
        const char *caps, *expected;
    } cases[] = {
        { "video/x-raw,format=GRAY8,width=32,height=32,framerate=30/1",
          "hole 4,4 10x12 hole;object 0,0 32x32 -;" },
        { "video/x-raw,format=GRAY8,width=8,height=4,framerate=30/1",
          "hole 1,0 3x2 hole;object 0,0 8x4 -;" }, /* outwards to whole pixels */
        { "video/x-raw,format=GRAY8,width=1,height=1,framerate=30/1",
          "hole 0,0 1x1 hole;object 0,0 1x1 -;" },
        { "video/x-raw,format=GRAY8,width=16384,height=8,framerate=30/1",
          "hole 2048,1 5120x3 hole;object 0,0 16384x8 -;" },
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        fake_set((fake_script) { .boxes = two_boxes, .n_boxes = 2 });
        GstElement *element = support_element("sample-mode", 1, "nth", 1000, NULL);
        GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
        gst_buffer_unref(pass(h, CAPS_SMALL, 0));
        results_wait(element, 1);
        gst_harness_set_src_caps_str(h, cases[i].caps);
        GstBuffer *out = pass(h, cases[i].caps, 33);
        guint width = 0;
        const GstStructure *meta = support_meta(out);
        CHECK_STR(regions(out), cases[i].expected);
        CHECK(meta && gst_structure_get_uint(meta, "width", &width) && width == 16);
        gst_buffer_unref(out);
        support_done(h);
    }
}

static void check_box(const GValue *boxes, guint i, int x, int width, const char *label)
{
    const GstStructure *box = gst_value_get_structure(gst_value_array_get_value(boxes, i));
    int value = -1;
    CHECK(gst_structure_get_int(box, "x", &value) && value == x);
    CHECK(gst_structure_get_int(box, "width", &value) && value == width);
    CHECK(gst_structure_has_field(box, "y") && gst_structure_has_field(box, "height"));
    CHECK(!g_strcmp0(gst_structure_get_string(box, "label"), label));
}

static void check_fields(const GstStructure *result)
{
    const GValue *boxes = gst_structure_get_value(result, "boxes");
    const GValue *value = gst_structure_get_value(result, "action");
    guint width = 0, height = 0;
    REQUIRE(boxes && value && gst_value_array_get_size(boxes) == 2);
    check_box(boxes, 0, 2, 5, "hole");
    check_box(boxes, 1, 0, 16, NULL);
    const GstStructure *action = gst_value_get_structure(value);
    CHECK_STR(gst_structure_get_string(action, "action"), "Tap");
    CHECK_STR(gst_structure_get_string(action, "message"), "Pay");
    CHECK(!gst_structure_has_field(action, "text") && !gst_structure_has_field(action, "to"));
    const GValue *point = gst_structure_get_value(action, "element");
    REQUIRE(point && gst_value_array_get_size(point) == 2);
    CHECK_EQ(g_value_get_int(gst_value_array_get_value(point, 0)), 7);
    CHECK_EQ(g_value_get_int(gst_value_array_get_value(point, 1)), 3);
    CHECK(gst_structure_get_uint(result, "width", &width) && width == 16);
    CHECK(gst_structure_get_uint(result, "height", &height) && height == 8);
}

static void message_meta_and_text_carry_boxes_and_action(void)
{
    const glm4v_action tap = { "Tap", "", " Pay\x1b ", { 7, 3 }, { -1, -1 } };
    fake_set((fake_script) {
        .boxes = two_boxes, .n_boxes = 2, .action = &tap, .text = "do(action=\"Tap\", ...)" });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    EACH_RUN(h, CAPS_SMALL)
    {
        GstBuffer *out = pass(h, CAPS_SMALL, 0), *cue = gst_harness_pull(text);
        GstStructure *message = support_result(element);
        REQUIRE(message && cue && support_meta(out) && support_meta(cue));
        check_fields(message);
        check_fields(support_meta(out));
        check_fields(support_meta(cue));
        CHECK_STR(gst_structure_get_string(support_meta(cue), "text"), "do(action=\"Tap\", ...)");
        gst_structure_free(message);
        gst_buffer_unref(cue);
        gst_buffer_unref(out);
    }
    gst_harness_teardown(text);
    support_done(h);
}

static void answers_without_them_have_neither(void)
{
    for (int failing = 0; failing < 2; failing++) {
        fake_set((fake_script) { .boxes = two_boxes,
                                 .n_boxes = failing ? 2 : 0,
                                 .result_code = failing ? GLM4V_ERR_INTERNAL : 0 });
        GstElement *element = support_element("mode", 2, NULL);
        GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
        GstBuffer *out = pass(h, CAPS_SMALL, 0);
        const GstStructure *meta = support_meta(out);
        CHECK_STR(regions(out), "");
        CHECK(meta && !gst_structure_has_field(meta, "boxes") &&
              !gst_structure_has_field(meta, "action"));
        gst_buffer_unref(out);
        support_done(h);
    }
}

static void attach_meta_false_adds_no_region(void)
{
    fake_set((fake_script) { .boxes = two_boxes, .n_boxes = 2 });
    GstElement *element = support_element("mode", 2, "attach-meta", FALSE, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstHarness *text = gst_harness_new_with_element(element, NULL, "text");
    GstBuffer *out = pass(h, CAPS_SMALL, 0), *cue = gst_harness_pull(text);
    CHECK_STR(regions(out), "");
    CHECK(!support_meta(cue));
    gst_buffer_unref(cue);
    gst_buffer_unref(out);
    gst_harness_teardown(text);
    support_done(h);
}

/* Quarks are for ever; labels are a model's free words. */
static void labels_are_cleaned_and_do_not_pile_up_as_types(void)
{
    static char label[64];
    static const glm4v_box box = { 1, 1, 2, 2, label };
    guint types = 0;
    fake_set((fake_script) { .boxes = &box, .n_boxes = 1 });
    GstElement *element = support_element("mode", 2, "sample-mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    for (guint i = 0; i < 400; i++) {
        char expected[128];
        snprintf(label, sizeof label, "\x01 kind %u\xe2\x80\xae ", i);
        GstBuffer *out = pass(h, CAPS_SMALL, i * 33);
        const char *seen = regions(out);
        gboolean own = strncmp(seen, "object", 6) != 0;
        snprintf(expected, sizeof expected,
                 own ? "kind %u 1,1 2x2 kind %u;" : "object 1,1 2x2 kind %u;", i, i);
        CHECK_STR(seen, expected);
        types += own;
        gst_buffer_unref(out);
    }
    printf("# %u region types\n", types);
    CHECK(types > 100 && types <= 256);
    support_done(h);
}

/* What an element does that works on regions, such as one that blurs or boxes them: it finds them
 * after its own conversion and scaling. */
static void regions_follow_the_frame_through_convert_and_scale(void)
{
    fake_set((fake_script) { .boxes = two_boxes, .n_boxes = 1 });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    GstHarness *scale = gst_harness_new_parse("videoconvert ! videoscale");
    gst_harness_set_src_caps_str(scale, CAPS_SMALL);
    gst_harness_set_sink_caps_str(scale,
                                  "video/x-raw,format=BGRA,width=64,height=32,framerate=30/1");
    gst_harness_push(scale, pass(h, CAPS_SMALL, 0));
    GstBuffer *out = gst_harness_pull(scale);
    GstVideoRegionOfInterestMeta *r = gst_buffer_get_video_region_of_interest_meta_id(out, 0);
    REQUIRE(r != NULL);
    CHECK(r->x == 8 && r->y == 4 && r->w == 20 && r->h == 12);
    CHECK_STR(g_quark_to_string(r->roi_type), "hole");
    CHECK(support_meta(out) != NULL);
    gst_buffer_unref(out);
    gst_harness_teardown(scale);
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(sync_puts_regions_on_exactly_the_frame);
    TEST(async_puts_regions_on_the_next_frame_that_leaves);
    TEST(regions_of_several_results_on_one_frame_have_ids_of_their_own);
    TEST(regions_are_scaled_when_the_size_has_changed);
    TEST(message_meta_and_text_carry_boxes_and_action);
    TEST(answers_without_them_have_neither);
    TEST(attach_meta_false_adds_no_region);
    TEST(labels_are_cleaned_and_do_not_pile_up_as_types);
    TEST(regions_follow_the_frame_through_convert_and_scale);
    return test_end();
}
