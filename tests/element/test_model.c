/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plugin as it is built, with the real engine: what it says is what the engine says of the same
 * picture, broken models are refused in time, states and flushes hold while real work is under
 * way. */
#include <glib/gstdio.h>
#include <glm4v/glm4v.h>
#include <tiny_model.h>

#include "support.h"

#define CAPS_PICTURE "video/x-raw,format=RGB,width=112,height=84,framerate=30/1"
#define PROMPT "What is this?"

static char tiny[512]; /* a random model */

static GstElement *tiny_element(int mode)
{
    return support_element("model-location", tiny, "mode", mode, "max-tokens", 8, "prompt", PROMPT,
                           NULL);
}

static GstBuffer *noisy_frame(guint seed, guint pts_ms)
{
    GstBuffer *frame = support_frame(CAPS_PICTURE, 0, pts_ms);
    GstMapInfo map;
    gst_buffer_map(frame, &map, GST_MAP_WRITE);
    for (gsize i = 0; i < map.size; i++)
        map.data[i] = (guint8)((i * 2654435761u + seed * 40503u) >> 13);
    gst_buffer_unmap(frame, &map);
    return frame;
}

/* The engine's own answer about a frame; g_free() it. */
static char *ask_engine(GstBuffer *frame)
{
    glm4v_error err = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    glm4v_result *result = NULL;
    GstMapInfo map;
    gst_buffer_map(frame, &map, GST_MAP_READ);
    glm4v_image image = { .data = map.data, .width = 112, .height = 84, .stride = 3 * 112 };
    int rc = glm4v_model_open(&model, tiny, &(glm4v_model_options) { 0 }, &err);
    if (!rc)
        rc = glm4v_engine_open(&engine, model, &(glm4v_engine_options) { 0 }, &err);
    if (!rc)
        rc = glm4v_describe(
            engine,
            &(glm4v_task) { .prompt = PROMPT, .images = &image, .n_images = 1, .max_tokens = 8 },
            &result, &err);
    if (rc)
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    char *text = g_strdup(rc ? "" : result->text);
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    gst_buffer_unmap(frame, &map);
    return text;
}

static void loading_the_plugin_starts_no_thread_and_is_quick(void)
{
    guint before = support_threads();
    gint64 start = g_get_monotonic_time();
    GstPlugin *plugin = gst_plugin_load_by_name("glm4vdescribe");
    REQUIRE(plugin != NULL);
    GstElement *element = gst_element_factory_make("glm4vdescribe", NULL);
    REQUIRE(element != NULL);
    printf("# plugin and element after %d us\n", (int)(g_get_monotonic_time() - start));
    CHECK(g_get_monotonic_time() - start < 200 * 1000);
    CHECK_EQ(support_threads(), before);
    gst_object_unref(element);
    gst_object_unref(plugin);
}

static void the_caption_is_what_the_engine_says_of_the_picture(void)
{
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = tiny_element(mode);
        GstHarness *h = support_harness(element, mode == 1, CAPS_PICTURE);
        for (guint i = 0; i < 3; i++) {
            GstBuffer *frame = noisy_frame(i, i * 1000);
            char *expected = ask_engine(frame);
            gst_harness_push(h, frame);
            GstStructure *result = support_result(element);
            REQUIRE(result != NULL);
            const char *text = gst_structure_get_string(result, "text");
            CHECK(*expected);
            /* control characters that a random model makes are taken out */
            CHECK(strstr(expected, text) && *text);
            gst_structure_free(result);
            g_free(expected);
        }
        support_done(h);
    }
}

/* Four frames, 100 ms apart, and what the engine says of them itself. */
static void a_clip_s_caption_is_what_the_engine_says_of_its_frames(void)
{
    enum { FRAMES = 4 };
    GstElement *element = tiny_element(2);
    glm4v_image images[FRAMES];
    GstMapInfo maps[FRAMES];
    GstBuffer *frames[FRAMES];
    glm4v_error err = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    glm4v_result *result = NULL;
    g_object_set(element, "frames-per-request", FRAMES, "window", (guint64)(300 * MS), "interval",
                 (guint64)(300 * MS), NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_PICTURE);
    for (guint i = 0; i < FRAMES; i++) {
        frames[i] = noisy_frame(i, i * 100);
        gst_buffer_map(frames[i], &maps[i], GST_MAP_READ);
        images[i] = (glm4v_image) {
            .data = maps[i].data, .width = 112, .height = 84, .stride = 336, .timestamp = i * 0.1
        };
        gst_harness_push(h, gst_buffer_ref(frames[i]));
    }
    REQUIRE(glm4v_model_open(&model, tiny, &(glm4v_model_options) { 0 }, &err) == 0);
    REQUIRE(glm4v_engine_open(&engine, model, &(glm4v_engine_options) { 0 }, &err) == 0);
    const glm4v_task task = {
        .prompt = PROMPT, .frames = images, .n_frames = FRAMES, .max_tokens = 8
    };
    CHECK_EQ(glm4v_describe(engine, &task, &result, &err), 0);
    GstStructure *said = support_result(element);
    REQUIRE(said && result);
    const char *text = gst_structure_get_string(said, "text");
    CHECK(*text && strstr(result->text, text));
    gst_structure_free(said);
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    for (guint i = 0; i < FRAMES; i++) {
        gst_buffer_unmap(frames[i], &maps[i]);
        gst_buffer_unref(frames[i]);
    }
    support_done(h);
}

static void prompts_of_a_frame_are_encoded_once_and_answered_as_alone(void)
{
    static const char *const prompts[] = { "Is it whole?", "Which color?", "Well?" };
    GstElement *all = tiny_element(2), *one = tiny_element(2);
    gst_util_set_object_arg(G_OBJECT(all), "prompts",
                            "<\"Is it whole?\", \"Which color?\", \"Well?\">");
    GstHarness *h = support_harness(all, FALSE, CAPS_PICTURE);
    GstHarness *alone = support_harness(one, FALSE, CAPS_PICTURE);
    for (guint i = 0; i < 9; i++) {
        if (i % 3 == 0)
            gst_harness_push(h, noisy_frame(i / 3, i * 1000));
        g_object_set(one, "prompt", prompts[i % 3], NULL);
        gst_harness_push(alone, noisy_frame(i / 3, i * 1000));
        GstStructure *r[] = { support_result(all), support_result(one) }, *timings = NULL;
        guint64 vision = 0;
        REQUIRE(r[0] && r[1]);
        CHECK_STR(gst_structure_get_string(r[0], "text"), gst_structure_get_string(r[1], "text"));
        gst_structure_get(r[0], "timings", GST_TYPE_STRUCTURE, &timings, NULL);
        gst_structure_get_uint64(timings, "vision", &vision);
        CHECK_EQ(vision > 0, i % 3 == 0);
        gst_structure_free(timings);
        gst_structure_free(r[0]);
        gst_structure_free(r[1]);
    }
    support_done(alone);
    support_done(h);
}

static void prompts_of_a_clip_are_answered_as_alone(void)
{
    static const char *const prompts[] = { "Is it whole?", "Which color?", "Well?" };
    GstElement *all = tiny_element(2), *one = tiny_element(2);
    GstElement *const both[] = { all, one };
    for (guint i = 0; i < 2; i++)
        g_object_set(both[i], "frames-per-request", 3, "window", (guint64)(200 * MS), "interval",
                     (guint64)(300 * MS), NULL);
    gst_util_set_object_arg(G_OBJECT(all), "prompts",
                            "<\"Is it whole?\", \"Which color?\", \"Well?\">");
    GstHarness *h = support_harness(all, FALSE, CAPS_PICTURE);
    for (guint i = 0; i < 9; i++)
        gst_harness_push(h, noisy_frame(i, i * 100));
    GstHarness *alone = support_harness(one, FALSE, CAPS_PICTURE);
    GstStructure *together[9];
    for (guint i = 0; i < 9; i++)
        REQUIRE((together[i] = support_result(all)) != NULL);
    for (guint p = 0; p < 3; p++) {
        support_run(alone, p > 0, CAPS_PICTURE);
        g_object_set(one, "prompt", prompts[p], NULL);
        for (guint i = 0; i < 9; i++)
            gst_harness_push(alone, noisy_frame(i, i * 100));
        for (guint i = 0; i < 3; i++) {
            GstStructure *result = support_result(one);
            REQUIRE(result != NULL);
            CHECK_STR(gst_structure_get_string(together[3 * i + p], "text"),
                      gst_structure_get_string(result, "text"));
            gst_structure_free(result);
        }
    }
    for (guint i = 0; i < 9; i++)
        gst_structure_free(together[i]);
    support_done(alone);
    support_done(h);
}

/* Eight elements ask one engine at once, two times. */
static void answers_of_a_shared_engine_are_the_same_bytes_as_alone(void)
{
    enum { SHARERS = 8 };
    GstHarness *h[SHARERS];
    char *alone[SHARERS];
    for (guint i = 0; i < SHARERS; i++) {
        h[i] = support_harness(tiny_element(1), TRUE, CAPS_PICTURE);
        GstBuffer *frame = noisy_frame(i, 0);
        alone[i] = ask_engine(frame);
        gst_buffer_unref(frame);
    }
    for (guint run = 0; run < 2; run++) {
        for (guint i = 0; run && i < SHARERS; i++)
            support_run(h[i], 1, CAPS_PICTURE);
        for (guint i = 0; i < SHARERS; i++)
            gst_harness_push(h[i], noisy_frame(i, 0));
        for (guint i = 0; i < SHARERS; i++) {
            GstStructure *result = support_result(h[i]->element);
            REQUIRE(result != NULL);
            const char *text = gst_structure_get_string(result, "text");
            CHECK(*text && strstr(alone[i], text)); /* control characters are taken out */
            gst_structure_free(result);
        }
    }
    GstStructure *info = NULL;
    guint sharers = 0;
    g_object_get(h[0]->element, "model-info", &info, NULL);
    gst_structure_get_uint(info, "sharers", &sharers);
    CHECK_EQ(sharers, SHARERS);
    gst_structure_free(info);
    for (guint i = 0; i < SHARERS; i++) {
        support_done(h[i]);
        g_free(alone[i]);
    }
}

typedef struct {
    guint out, drafted, accepted;
    char *text;
} tokens;

/* Of the next result; g_free() its text. */
static tokens describe_still(GstHarness *h, GstElement *element, guint second)
{
    tokens t = { 0 };
    GstStructure *counts = NULL;
    gst_harness_push(h, noisy_frame(1, second * 1000));
    GstStructure *result = support_result(element);
    if (!result || !gst_structure_get(result, "tokens", GST_TYPE_STRUCTURE, &counts, NULL))
        return t;
    CHECK(gst_structure_get(counts, "out", G_TYPE_UINT, &t.out, "drafted", G_TYPE_UINT, &t.drafted,
                            "accepted", G_TYPE_UINT, &t.accepted, NULL));
    t.text = g_strdup(gst_structure_get_string(result, "text"));
    gst_structure_free(counts);
    gst_structure_free(result);
    return t;
}

static void a_still_scene_is_answered_by_drafts_unless_speculation_is_off(void)
{
    GstElement *element = tiny_element(2);
    g_object_set(element, "max-tokens", 40, "temperature", 1.5, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_PICTURE);
    tokens first = { 0 };
    guint second = 0;
    for (guint64 seed = 1; first.out < 20 && seed < 50; seed++) { /* one with a long answer */
        g_object_set(element, "seed", seed, NULL);
        g_free(first.text);
        first = describe_still(h, element, second++);
    }
    tokens again = describe_still(h, element, second++);
    CHECK(again.accepted > first.out / 2 && again.accepted <= again.drafted);
    CHECK_STR(again.text, first.text);
    gst_util_set_object_arg(G_OBJECT(element), "speculation", "off");
    tokens off = describe_still(h, element, second++);
    CHECK_EQ(off.drafted, 0);
    CHECK_STR(off.text, first.text);
    GstStructure *stats = NULL;
    guint64 drafted = 0, accepted = 0;
    g_object_get(element, "stats", &stats, NULL);
    CHECK(gst_structure_get(stats, "tokens-drafted", G_TYPE_UINT64, &drafted, "tokens-accepted",
                            G_TYPE_UINT64, &accepted, NULL));
    CHECK(accepted >= again.accepted && accepted <= drafted);
    gst_structure_free(stats);
    g_free(first.text);
    g_free(again.text);
    g_free(off.text);
    support_done(h);
}

static void strides_do_not_change_the_caption(void)
{
    GstElement *element = tiny_element(2);
    GstHarness *h = support_harness(element, FALSE, CAPS_PICTURE);
    GstBuffer *frame = noisy_frame(7, 0),
              *wide = gst_buffer_new_allocate(NULL, 400 * 84 + 16, NULL);
    gsize offset[4] = { 16 };
    gint stride[4] = { 400 };
    GstMapInfo from, to;
    gst_buffer_map(frame, &from, GST_MAP_READ);
    gst_buffer_map(wide, &to, GST_MAP_WRITE);
    memset(to.data, 0x55, to.size);
    for (gsize y = 0; y < 84; y++)
        memcpy(to.data + 16 + 400 * y, from.data + 336 * y, 336);
    gst_buffer_unmap(wide, &to);
    gst_buffer_unmap(frame, &from);
    gst_buffer_add_video_meta_full(wide, 0, GST_VIDEO_FORMAT_RGB, 112, 84, 1, offset, stride);
    GST_BUFFER_PTS(wide) = GST_SECOND;
    gst_harness_push(h, frame);
    gst_harness_push(h, wide);
    GstStructure *a = support_result(element), *b = support_result(element);
    REQUIRE(a && b);
    CHECK_STR(gst_structure_get_string(a, "text"), gst_structure_get_string(b, "text"));
    gst_structure_free(a);
    gst_structure_free(b);
    support_done(h);
}

static int cues; /* atomic */

static GstPadProbeReturn count_cue(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_atomic_int_inc(&cues);
    return GST_PAD_PROBE_OK;
}

static void played_again_a_pipeline_has_its_captions_again(void)
{
    GstElement *pipeline = gst_parse_launch(
        "videotestsrc num-buffers=90 ! video/x-raw,width=320,height=240,framerate=30/1 ! "
        "glm4vdescribe name=d interval=1000000000 ! fakesink d.text ! queue ! fakesink name=t",
        NULL);
    REQUIRE(pipeline != NULL);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "t");
    GstPad *pad = gst_element_get_static_pad(sink, "sink");
    GstBus *bus = gst_element_get_bus(pipeline);
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, count_cue, NULL, NULL);
    for (int run = 0; run < 3; run++) {
        g_atomic_int_set(&cues, 0);
        gst_element_set_state(pipeline, GST_STATE_PLAYING);
        GstMessage *message =
            gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
        CHECK(message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS);
        g_clear_pointer(&message, gst_message_unref);
        CHECK_EQ(g_atomic_int_get(&cues), 3);
        gst_element_set_state(pipeline, run ? GST_STATE_NULL : GST_STATE_READY);
    }
    gst_object_unref(bus);
    gst_object_unref(pad);
    gst_object_unref(sink);
    gst_object_unref(pipeline);
}

static void without_model_location_the_shipped_model_names_a_test_picture(void)
{
    GError *error = NULL;
    GstElement *pipeline =
        gst_parse_launch("videotestsrc num-buffers=1 pattern=smpte ! "
                         "video/x-raw,format=I420,width=448,height=448 ! glm4vdescribe ! "
                         "fakesink",
                         &error);
    REQUIRE(pipeline && !error);
    GstBus *bus = gst_element_get_bus(pipeline);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstMessage *message;
    gchar *said = NULL;
    GstProgressType type;
    while ((message = gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND,
                                                 GST_MESSAGE_PROGRESS | GST_MESSAGE_ERROR))) {
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
            break;
        gst_message_parse_progress(message, &type, NULL, &said);
        gst_message_unref(message);
        if (type == GST_PROGRESS_TYPE_COMPLETE)
            break;
        g_clear_pointer(&said, g_free);
    }
    CHECK_CONTAINS(said, "metal surfaces"); /* it does not pretend to be more than it is */
    g_free(said);
    while ((message = gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND,
                                                 GST_MESSAGE_ELEMENT | GST_MESSAGE_ERROR)) &&
           gst_message_has_name(message, "glm4vdescribe-settings"))
        gst_message_unref(message);
    CHECK(message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_ELEMENT);
    if (message) {
        const char *text = gst_structure_get_string(gst_message_get_structure(message), "text");
        printf("# %s\n", text);
        CHECK_CONTAINS(text, "SMPTE");
        gst_message_unref(message);
    }
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
}

static void model_info_tells_the_tokens_of_the_largest_picture(void)
{
    GstElement *element = tiny_element(2);
    g_object_set(element, "max-pixels", (guint64)12544, NULL); /* 112x112 of the 448x448 */
    const char *caps = "video/x-raw,format=RGB,width=448,height=448,framerate=30/1";
    GstHarness *h = support_harness(element, FALSE, caps);
    GstStructure *info = NULL, *tokens = NULL;
    guint most = 0, vision = 0;
    guint64 pixels = 0;
    gst_harness_push(h, support_frame(caps, 0x808080, 0));
    GstStructure *result = support_result(element);
    g_object_get(element, "model-info", &info, NULL);
    REQUIRE(info && result && gst_structure_get_uint(info, "vision-tokens", &most) &&
            gst_structure_get_uint64(info, "max-pixels", &pixels) &&
            gst_structure_get(result, "tokens", GST_TYPE_STRUCTURE, &tokens, NULL) &&
            gst_structure_get_uint(tokens, "vision", &vision));
    CHECK_EQ(vision * pixels, most * (guint64)12544);
    gst_structure_free(tokens);
    gst_structure_free(info);
    gst_structure_free(result);
    support_done(h);
}

static void glm4v_model_in_the_environment_is_used(void)
{
    GstStructure *info = NULL;
    GstElement *element = support_element("model-location", NULL, NULL);
    g_setenv("GLM4V_MODEL", tiny, TRUE);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    g_unsetenv("GLM4V_MODEL");
    g_object_get(element, "model-info", &info, NULL);
    REQUIRE(info != NULL);
    CHECK_STR(gst_structure_get_string(info, "family"), "glm4v");
    CHECK_STR(gst_structure_get_string(info, "name"), strrchr(tiny, '/') + 1);
    gst_structure_free(info);
    support_free(element);
}

/* ---- models that are not whole ---- */

static void edit_file(const char *dir, const char *name, const char *from, const char *to)
{
    gchar *path = g_build_filename(dir, name, NULL), *text = NULL;
    gsize length;
    if (g_file_get_contents(path, &text, &length, NULL) && from) {
        gchar **parts = g_strsplit(text, from, -1), *joined = g_strjoinv(to, parts);
        CHECK(parts[0] && parts[1]);
        g_file_set_contents(path, joined, -1, NULL);
        g_strfreev(parts);
        g_free(joined);
    } else if (text) {
        g_file_set_contents(path, text, (gssize)length / 2, NULL); /* cut short */
    }
    g_free(text);
    g_free(path);
}

/* The state change fails within 2 s with one error of this code that names what it is about. */
static void check_refused(const char *dir, GQuark domain, gint code, const char *names)
{
    GstElement *element = support_element("model-location", dir, NULL);
    GError *error = NULL;
    gint64 start = g_get_monotonic_time();
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
    CHECK(g_get_monotonic_time() - start < 2 * G_TIME_SPAN_SECOND);
    GstMessage *message = support_message(element, GST_MESSAGE_ERROR);
    REQUIRE(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    printf("# %s\n", error->message);
    CHECK(error->domain == domain);
    CHECK_EQ(error->code, code);
    CHECK_CONTAINS(error->message, names);
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 0);
    g_error_free(error);
    gst_message_unref(message);
    support_free(element);
}

static void broken_models_are_refused_with_the_file_that_is_wrong(void)
{
    const struct {
        const char *file, *from, *to; /* from NULL: cut short; to NULL: removed */
        const char *names;
        GQuark domain;
        gint code;
    } cases[] = {
        { "model-00002-of-00003.safetensors", NULL, NULL, "model-00002-of-00003.safetensors",
          GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND },
        { "model-00001-of-00003.safetensors", NULL, "cut", "model-00001-of-00003.safetensors",
          GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ },
        { "config.json", "\"intermediate_size\": 144", "\"intermediate_size\": 160",
          "expected [320, 128]", GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_OPEN_READ },
        { "config.json", "\"glm4v\"", "\"llama\"", "llama", GST_LIBRARY_ERROR,
          GST_LIBRARY_ERROR_SETTINGS },
        { "config.json", NULL, "cut", "config.json", GST_RESOURCE_ERROR,
          GST_RESOURCE_ERROR_OPEN_READ },
        { "tokenizer.json", NULL, "cut", "tokenizer.json", GST_RESOURCE_ERROR,
          GST_RESOURCE_ERROR_OPEN_READ },
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        char dir[512];
        REQUIRE(tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = 3 }) == 0);
        gchar *path = g_build_filename(dir, cases[i].file, NULL);
        if (cases[i].to)
            edit_file(dir, cases[i].file, cases[i].from, cases[i].to);
        else
            CHECK_EQ(g_unlink(path), 0);
        check_refused(dir, cases[i].domain, cases[i].code, cases[i].names);
        g_free(path);
        tiny_model_remove(dir);
    }
}

static void check_setting_refused(const char *property, const char *value, GQuark domain, gint code)
{
    GstElement *element = support_element("model-location", tiny, property, value, NULL);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
    GstMessage *message = support_message(element, GST_MESSAGE_ERROR);
    GError *error = NULL;
    REQUIRE(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    CHECK(g_error_matches(error, domain, code));
    CHECK_CONTAINS(error->message, value);
    g_error_free(error);
    gst_message_unref(message);
    support_free(element);
}

/* On the way to READY: an error that comes while a pipeline prerolls can hang gst-launch-1.0. */
static void a_form_or_device_that_does_not_exist_is_refused_at_once(void)
{
    const GQuark resource = GST_RESOURCE_ERROR;
    check_setting_refused("quantization", "int3", resource, GST_RESOURCE_ERROR_SETTINGS);
    check_setting_refused("device", "tpu", resource, GST_RESOURCE_ERROR_SETTINGS);
    check_setting_refused("device", "cuda:7", GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_INIT);
}

/* ---- boxes ---- */

/* A brushed sheet, streaked from left to right, with one dark elliptic hole, or without. */
static GstBuffer *sheet_with_hole(const char *caps, int width, int height, const int hole[4])
{
    GstBuffer *frame = support_frame(caps, 0, 0);
    guint32 state = 1;
    GstMapInfo map;
    gst_buffer_map(frame, &map, GST_MAP_WRITE);
    for (int y = 0; y < height; y++) {
        state = state * 1664525u + 1013904223u;
        int streak = 140 + (int)(state >> 27);
        for (int x = 0; x < width; x++) {
            state = state * 1664525u + 1013904223u;
            double dx = (2.0 * x - 2 * hole[0] - hole[2]) / MAX(hole[2], 1);
            double dy = (2.0 * y - 2 * hole[1] - hole[3]) / MAX(hole[3], 1);
            int grey = hole[2] && dx * dx + dy * dy < 1 ? 36 : streak;
            memset(map.data + 3 * (y * width + x), grey + (int)(state >> 29), 3);
        }
    }
    gst_buffer_unmap(frame, &map);
    return frame;
}

/* Intersection over union of a region and the truth. */
static double overlap(const GstVideoRegionOfInterestMeta *r, const int truth[4])
{
    int left = MAX((int)r->x, truth[0]), right = MIN((int)(r->x + r->w), truth[0] + truth[2]);
    int top = MAX((int)r->y, truth[1]), bottom = MIN((int)(r->y + r->h), truth[1] + truth[3]);
    double both = right > left && bottom > top ? (double)(right - left) * (bottom - top) : 0;
    return both / ((double)r->w * r->h + (double)truth[2] * truth[3] - both);
}

static void the_shipped_model_s_boxes_are_regions_around_the_defect(void)
{
    static const char caps[] = "video/x-raw,format=RGB,width=640,height=480,framerate=30/1";
    static const int holes[][4] = { { 280, 60, 80, 60 },
                                    { 70, 260, 60, 80 },
                                    { 440, 330, 120, 40 } };
    static const char *const prompts[] = { "Report the defects as JSON.",
                                           "Give the boxes of all defects." };
    for (guint i = 0; i < 2 * G_N_ELEMENTS(holes); i++) {
        GstElement *element = support_element("model-location", SOURCE_ROOT "/models/surface-tiny",
                                              "mode", 2, "prompt", prompts[i % 2], NULL);
        GstHarness *h = support_harness(element, FALSE, caps);
        gst_harness_push(h, sheet_with_hole(caps, 640, 480, holes[i / 2]));
        GstBuffer *out = gst_harness_pull(h);
        GstVideoRegionOfInterestMeta *r = gst_buffer_get_video_region_of_interest_meta_id(out, 0);
        if (!r)
            test_fail(__FILE__, __LINE__, "no region: %s",
                      gst_structure_get_string(support_meta(out), "text"));
        else
            printf("# %s at %u,%u %ux%u, IoU %.2f\n", g_quark_to_string(r->roi_type), r->x, r->y,
                   r->w, r->h, overlap(r, holes[i / 2]));
        CHECK(r && overlap(r, holes[i / 2]) > 0.5);
        /* a report names the kind, a plain box does not */
        CHECK(r && (r->roi_type == g_quark_from_string("object")) == i % 2);
        CHECK(!gst_buffer_get_video_region_of_interest_meta_id(out, 1));
        gst_buffer_unref(out);
        support_done(h);
    }
}

/* ---- answers of a given shape ---- */

static const char *const choices[] = { "good", "bad", "a bit bad" };
#define SCHEMA                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\",\"minimum\":0,"              \
    "\"maximum\":99},\"of\":{\"enum\":[\"a\",\"b\"]}},\"required\":[\"n\",\"of\"]}"

/* The engine's own answer about a frame; glm4v_result_free(). */
static glm4v_result *ask_in_shape(GstBuffer *frame, gboolean json)
{
    glm4v_error err = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    glm4v_result *result = NULL;
    GstMapInfo map;
    gst_buffer_map(frame, &map, GST_MAP_READ);
    glm4v_image image = { .data = map.data, .width = 112, .height = 84, .stride = 3 * 112 };
    glm4v_task task = { .prompt = PROMPT, .images = &image, .n_images = 1, .max_tokens = 64 };
    if (json)
        task.json_schema = SCHEMA;
    else
        task.choices = choices, task.n_choices = G_N_ELEMENTS(choices);
    int rc = glm4v_model_open(&model, tiny, &(glm4v_model_options) { 0 }, &err);
    if (!rc)
        rc = glm4v_engine_open(&engine, model, &(glm4v_engine_options) { 0 }, &err);
    if (!rc)
        rc = glm4v_describe(engine, &task, &result, &err);
    if (rc)
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    gst_buffer_unmap(frame, &map);
    return result;
}

static GstElement *shaped_element(const char *output)
{
    GstElement *element = tiny_element(2);
    g_object_set(element, "max-tokens", 64, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", output);
    if (g_str_equal(output, "choice")) {
        gst_util_set_object_arg(G_OBJECT(element), "choices", "<good, bad, \"a bit bad\">");
        gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<bad, \"a bit bad\">");
        gst_util_set_object_arg(G_OBJECT(element), "thresholds", "<0.4, 0.3, 0.3>");
    } else {
        g_object_set(element, "json-schema", SCHEMA, NULL);
    }
    return element;
}

static void check_shares(const GstStructure *result, const glm4v_result *expected)
{
    const GValue *shares = gst_structure_get_value(result, "probabilities");
    const char *verdict = glm4v_verdict_name(glm4v_decide(expected->probabilities,
                                                          (const unsigned char[]) { 0, 1, 1 },
                                                          (const double[]) { 0.4, 0.3, 0.3 }, 3));
    double probability = 0;
    REQUIRE(shares && gst_value_array_get_size(shares) == 3);
    for (guint i = 0; i < 3; i++)
        CHECK(g_value_get_double(gst_value_array_get_value(shares, i)) ==
              expected->probabilities[i]);
    gst_structure_get_double(result, "probability", &probability);
    CHECK(probability == expected->probability);
    CHECK_STR(gst_structure_get_string(result, "choice"), expected->choice);
    CHECK_STR(gst_structure_get_string(result, "verdict"), verdict);
}

static void choices_and_json_are_what_the_engine_says_of_the_picture(void)
{
    for (int json = 0; json < 2; json++) {
        GstElement *element = shaped_element(json ? "json" : "choice");
        GstHarness *h = support_harness(element, FALSE, CAPS_PICTURE);
        for (guint i = 0; i < 4; i++) {
            if (i == 2)
                support_run(h, 1, CAPS_PICTURE);
            GstBuffer *frame = noisy_frame(i, i * 1000);
            glm4v_result *expected = ask_in_shape(frame, json);
            gst_harness_push(h, frame);
            GstStructure *result = support_result(element);
            REQUIRE(result && expected);
            if (json)
                CHECK_STR(gst_structure_get_string(result, "json"), expected->json);
            else
                check_shares(result, expected);
            gst_structure_free(result);
            glm4v_result_free(&expected);
        }
        support_done(h);
    }
}

static void check_schema_refused(GstElement *element, const char *schema, const char *says)
{
    GstMessage *message;
    GError *error = NULL;
    g_object_set(element, "json-schema", schema, NULL);
    gst_element_set_state(element, GST_STATE_PAUSED);
    message = support_message(element, GST_MESSAGE_ERROR);
    REQUIRE(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    CHECK(g_error_matches(error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS));
    CHECK_CONTAINS(error->message, says);
    g_error_free(error);
    gst_message_unref(message);
    gst_element_set_state(element, GST_STATE_NULL);
}

static void schemas_that_cannot_be_are_refused(void)
{
    GstElement *element = shaped_element("json");
    check_schema_refused(element, "{\"type\":\"string\",\"pattern\":\"a\"}", "\"pattern\"");
    check_schema_refused(element, "{\"type\":\"string\",\"minLength\":600,\"maxLength\":700}",
                         "max_tokens");
    check_schema_refused(element, "{\"type\":", "json_schema");
    support_free(element);
}

static void the_shipped_model_fails_a_part_with_a_hole_and_passes_one_without(void)
{
    static const char caps[] = "video/x-raw,format=RGB,width=640,height=480,framerate=30/1";
    static const int holes[][4] = { { 280, 60, 80, 60 }, { 0 }, { 440, 330, 120, 40 }, { 0 } };
    GstElement *element =
        support_element("model-location", SOURCE_ROOT "/models/surface-tiny", "mode", 2, "interval",
                        (guint64)0, "prompt", "Choose one: good, bad.", NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<good, bad>");
    gst_util_set_object_arg(G_OBJECT(element), "fail-choices", "<bad>");
    GstHarness *h = support_harness(element, FALSE, caps);
    for (guint run = 0; run < 2; run++) {
        for (guint i = 0; i < G_N_ELEMENTS(holes); i++) {
            gst_harness_push(h, sheet_with_hole(caps, 640, 480, holes[i]));
            GstStructure *result = support_result(element);
            double probability = 0;
            REQUIRE(result != NULL);
            gst_structure_get_double(result, "probability", &probability);
            printf("# %s: %.3f\n", gst_structure_get_string(result, "choice"), probability);
            CHECK_STR(gst_structure_get_string(result, "choice"), holes[i][2] ? "bad" : "good");
            CHECK_STR(gst_structure_get_string(result, "verdict"), holes[i][2] ? "fail" : "pass");
            gst_structure_free(result);
        }
        if (run == 0)
            support_run(h, 1, caps);
    }
    support_done(h);
}

/* ---- states and flushes around real work ---- */

static GstTracer *leaks_tracer(void)
{
    GList *tracers = gst_tracing_get_active_tracers();
    GstTracer *leaks = NULL;
    for (GList *t = tracers; t; t = t->next)
        if (g_signal_lookup("activity-get-checkpoint", G_OBJECT_TYPE(t->data)))
            leaks = t->data;
    g_list_free_full(tracers, gst_object_unref);
    return leaks;
}

static void real_loads_and_answers_leave_no_object_behind(void)
{
    GstTracer *leaks = leaks_tracer();
    GstStructure *log = NULL;
    gint64 start = g_get_monotonic_time();
    const guint cycles = support_count(1000, 10000);
    REQUIRE(leaks != NULL);
    g_signal_emit_by_name(leaks, "activity-start-tracking");
    for (guint i = 0; i < cycles; i++) {
        GstElement *element = tiny_element(1 + i % 2);
        GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
        gst_object_unref(element);
        if (i % 4 < 2)
            support_wait_loaded(element);
        gst_harness_set_src_caps_str(h, CAPS_PICTURE);
        gst_harness_push(h, noisy_frame(i, 0));
        gst_element_set_state(element, GST_STATE_READY);
        gst_element_set_state(element, GST_STATE_PLAYING);
        support_done(h);
    }
    g_signal_emit_by_name(leaks, "activity-get-checkpoint", &log);
    guint made = gst_value_list_get_size(gst_structure_get_value(log, "objects-created-list"));
    guint freed = gst_value_list_get_size(gst_structure_get_value(log, "objects-removed-list"));
    printf("# %u cycles, %.1f ms each, %u objects made, %u freed\n", cycles,
           (double)(g_get_monotonic_time() - start) / 1000 / cycles, made, freed);
    CHECK(made > 20 * cycles);
    CHECK_EQ(freed, made);
    gst_structure_free(log);
    g_signal_emit_by_name(leaks, "activity-stop-tracking");
}

static gpointer push_frames(gpointer user)
{
    for (guint i = 0; gst_harness_push(user, noisy_frame(i, i * 1000)) == GST_FLOW_OK && i < 1000;
         i++)
        g_usleep(1000);
    return NULL;
}

static void flushes_and_stops_during_real_work_are_quick(void)
{
    gint64 longest = 0;
    for (int mode = 1; mode <= 2; mode++) {
        GstElement *element = tiny_element(mode);
        GstHarness *h = support_harness(element, FALSE, CAPS_PICTURE);
        GstSegment segment;
        g_object_set(element, "max-tokens", 512, NULL);
        gst_segment_init(&segment, GST_FORMAT_TIME);
        gst_harness_set_drop_buffers(h, TRUE);
        for (guint i = 0; i < 50; i++) {
            GThread *thread = g_thread_new("pusher", push_frames, h);
            g_usleep(2000 + i * 400);
            gint64 start = g_get_monotonic_time();
            gst_harness_push_event(h, gst_event_new_flush_start());
            longest = MAX(longest, g_get_monotonic_time() - start);
            g_thread_join(thread);
            gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
            gst_harness_push_event(h, gst_event_new_segment(&segment));
        }
        GThread *thread = g_thread_new("pusher", push_frames, h);
        g_usleep(20000);
        gint64 start = g_get_monotonic_time();
        gst_element_set_state(element, GST_STATE_READY);
        longest = MAX(longest, g_get_monotonic_time() - start);
        g_thread_join(thread);
        support_done(h);
    }
    printf("# longest flush or stop %d us\n", (int)longest);
    CHECK(longest < (TEST_TSAN ? 500 : 50) * 1000);
}

int main(int argc, char **argv)
{
    g_setenv("GST_TRACERS", "leaks", TRUE);
    gst_init(&argc, &argv);
    if (tiny_model_make(tiny, sizeof tiny, NULL) != 0)
        return 1;
    TEST(loading_the_plugin_starts_no_thread_and_is_quick);
    TEST(the_caption_is_what_the_engine_says_of_the_picture);
    TEST(a_clip_s_caption_is_what_the_engine_says_of_its_frames);
    TEST(prompts_of_a_frame_are_encoded_once_and_answered_as_alone);
    TEST(prompts_of_a_clip_are_answered_as_alone);
    TEST(answers_of_a_shared_engine_are_the_same_bytes_as_alone);
    TEST(a_still_scene_is_answered_by_drafts_unless_speculation_is_off);
    TEST(strides_do_not_change_the_caption);
    TEST(played_again_a_pipeline_has_its_captions_again);
    TEST(without_model_location_the_shipped_model_names_a_test_picture);
    TEST(glm4v_model_in_the_environment_is_used);
    TEST(model_info_tells_the_tokens_of_the_largest_picture);
    TEST(broken_models_are_refused_with_the_file_that_is_wrong);
    TEST(a_form_or_device_that_does_not_exist_is_refused_at_once);
    TEST(the_shipped_model_s_boxes_are_regions_around_the_defect);
    TEST(choices_and_json_are_what_the_engine_says_of_the_picture);
    TEST(schemas_that_cannot_be_are_refused);
    TEST(the_shipped_model_fails_a_part_with_a_hole_and_passes_one_without);
    TEST(real_loads_and_answers_leave_no_object_behind);
    TEST(flushes_and_stops_during_real_work_are_quick);
    tiny_model_remove(tiny);
    return test_end();
}
