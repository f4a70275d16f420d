/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* G-12: properties set from several threads in any state, to the ends of their ranges and beyond,
 * to texts of 1 MiB and to bytes that are no text. What the element says stays UTF-8, GStreamer has
 * nothing to object to, and once the properties are mended frames are described. The scripted
 * engine answers with the question. */
#include "fake_engine.h"
#include "results.h"

#define SYNC 2
#define ASYNC 1
#define MEBIBYTE ((1u << 20) / (guint)test_stride(16))

/* ---- what is said ---- */

static int objections, out_of_range; /* atomic */

/* A number out of its range is GObject's to tell, and what it tells must not be more. Frames that
 * come while the state changes may be ahead of the stream's events. */
static void on_log(const gchar *domain, GLogLevelFlags level, const gchar *text, gpointer user)
{
    if (strstr(text, "invalid or out of range for property")) {
        g_atomic_int_inc(&out_of_range);
    } else if (strstr(text, "Got data flow before")) {
        return;
    } else if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING)) {
        g_atomic_int_inc(&objections);
        printf("# %s: %.200s\n", domain ? domain : "", text);
        fflush(stdout);
    }
}

static gboolean is_text(GQuark field, const GValue *value, gpointer good)
{
    if (G_VALUE_HOLDS_STRING(value) && g_value_get_string(value) &&
        !g_utf8_validate(g_value_get_string(value), -1, NULL))
        *(gboolean *)good = FALSE;
    if (GST_VALUE_HOLDS_STRUCTURE(value))
        gst_structure_foreach(gst_value_get_structure(value), is_text, good);
    return TRUE;
}

static gboolean message_is_text(GstMessage *message)
{
    const GstStructure *structure = gst_message_get_structure(message);
    const gboolean fault = GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR ||
                           GST_MESSAGE_TYPE(message) == GST_MESSAGE_WARNING;
    gboolean good = TRUE;
    GError *error = NULL;
    if (structure)
        gst_structure_foreach(structure, is_text, &good);
    if (fault) {
        gst_structure_get(structure, "gerror", G_TYPE_ERROR, &error, NULL);
        good &= g_utf8_validate(error->message, -1, NULL);
        g_error_free(error);
    }
    return good;
}

/* Take all messages; how many results among them. */
static guint read_messages(GstElement *element)
{
    GstBus *bus = gst_element_get_bus(element);
    GstMessage *message;
    guint results = 0;
    while ((message = gst_bus_pop(bus))) {
        results += gst_message_has_name(message, "glm4vdescribe-result");
        if (!message_is_text(message))
            test_fail(__FILE__, __LINE__, "a message of type %s is not UTF-8",
                      GST_MESSAGE_TYPE_NAME(message));
        gst_message_unref(message);
    }
    gst_object_unref(bus);
    return results;
}

static GstPadProbeReturn read_pad(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    GstMapInfo map;
    gst_buffer_map(GST_PAD_PROBE_INFO_BUFFER(info), &map, GST_MAP_READ);
    if (!g_utf8_validate((const gchar *)map.data, (gssize)map.size, NULL))
        test_fail(__FILE__, __LINE__, "a buffer on pad %s is not UTF-8", GST_PAD_NAME(pad));
    gst_buffer_unmap(GST_PAD_PROBE_INFO_BUFFER(info), &map);
    return GST_PAD_PROBE_OK;
}

/* ---- what is set ---- */

static const char *const broken[] = { "\xff\xfe", "caf\xc3", "\xed\xa0\x80!", "\xc0\xaf",
                                      "<\"\xf4\x90\x80\x80\">" };

/* Text number i of N_TEXTS; g_free() it. */
enum {
    NO_TEXT,
    EMPTY,
    PLAIN,
    LONG,
    LONG_NAMES,
    LONG_BROKEN,
    FIRST_BROKEN,
    N_TEXTS = FIRST_BROKEN + 5
};

static gchar *make_text(guint i)
{
    static const char *const parts[] = { "x", "{time}", "\xe2\x82" };
    if (i == NO_TEXT)
        return NULL;
    if (i >= FIRST_BROKEN)
        return g_strdup(broken[i - FIRST_BROKEN]);
    if (i == EMPTY || i == PLAIN)
        return g_strdup(i == EMPTY ? "" : "Is it \xe5\x88\x92 whole?");
    GString *text = g_string_sized_new(MEBIBYTE + 8);
    while (text->len < MEBIBYTE)
        g_string_append(text, parts[i - LONG]);
    return g_string_free(text, FALSE);
}

static void set_texts(GstElement *element, const char *property, guint i)
{
    GValue array = G_VALUE_INIT, value = G_VALUE_INIT;
    g_value_init(&array, GST_TYPE_ARRAY);
    for (guint n = 0; n < 2; n++) {
        g_value_init(&value, G_TYPE_STRING);
        g_value_take_string(&value, make_text(i));
        gst_value_array_append_and_take_value(&array, &value);
    }
    g_object_set_property(G_OBJECT(element), property, &array);
    g_value_unset(&array);
}

static gboolean is_array_of_texts(const GParamSpec *spec)
{
    return GST_IS_PARAM_SPEC_ARRAY_LIST(spec) &&
           G_IS_PARAM_SPEC_STRING(GST_PARAM_SPEC_ARRAY_LIST(spec)->element_spec);
}

static gboolean takes_text(const GParamSpec *spec)
{
    return spec->flags & G_PARAM_WRITABLE &&
           (G_IS_PARAM_SPEC_STRING(spec) || is_array_of_texts(spec)) &&
           !g_str_equal(spec->name, "name");
}

static void set_text(GstElement *element, const GParamSpec *spec, guint i)
{
    gchar *text = make_text(i);
    if (is_array_of_texts(spec))
        set_texts(element, spec->name, i);
    else
        g_object_set(element, spec->name, text, NULL);
    g_free(text);
}

/* As a new element has it, but that a model is there. */
static void set_back(GstElement *element, const GParamSpec *spec)
{
    GValue value = G_VALUE_INIT;
    g_value_init(&value, spec->value_type);
    if (GST_IS_PARAM_SPEC_ARRAY_LIST(spec)) {
        g_object_set_property(G_OBJECT(element), spec->name, &value);
    } else if (g_str_equal(spec->name, "model-location")) {
        g_object_set(element, "model-location", SOURCE_ROOT, NULL);
    } else {
        g_param_value_set_default((GParamSpec *)spec, &value);
        g_object_set_property(G_OBJECT(element), spec->name, &value);
    }
    g_value_unset(&value);
}

/* ---- the stream ---- */

static void begin(GstHarness *h)
{
    gst_harness_push_event(h, gst_event_new_stream_start("again"));
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
}

/* In its defaults the element plays and describes. */
static void check_mended(GstHarness *h, guint32 rgb)
{
    GstElement *element = h->element;
    gst_element_set_state(element, GST_STATE_NULL);
    read_messages(element);
    g_object_set(element, "mode", SYNC, "sample-mode", SAMPLE_ALL, NULL);
    CHECK(gst_element_set_state(element, GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    begin(h);
    CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, rgb, 0)), GST_FLOW_OK);
    results_check(element, 0, "ok", "stop");
    read_messages(element);
}

static GstHarness *harness(GstHarness **text, GstHarness **json)
{
    static const char *const pads[] = { "text", "json" };
    GstHarness *h = support_harness(support_element("sample-mode", SAMPLE_ALL, NULL), TRUE, NULL);
    GstHarness **harnesses[] = { text, json };
    gst_harness_set_drop_buffers(h, TRUE);
    for (guint i = 0; i < 2; i++) {
        *harnesses[i] = gst_harness_new_with_element(h->element, NULL, pads[i]);
        gst_harness_set_drop_buffers(*harnesses[i], TRUE);
        gst_pad_add_probe((*harnesses[i])->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, read_pad, NULL,
                          NULL);
    }
    return h;
}

static void done(GstHarness *h, GstHarness *text, GstHarness *json)
{
    gst_harness_teardown(json);
    gst_harness_teardown(text);
    support_done(h);
}

/* ---- tests ---- */

/* Set in NULL, in READY, or while it plays; then the element goes up as far as it can. */
static void check_text(GstHarness *h, const GParamSpec *spec, guint text, GstState when)
{
    GstElement *element = h->element;
    gst_element_set_state(element, when);
    if (when == GST_STATE_PLAYING)
        begin(h);
    set_text(element, spec, text);
    if (when < GST_STATE_PLAYING &&
        gst_element_set_state(element, GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE)
        begin(h);
    if (GST_STATE(element) == GST_STATE_PLAYING) {
        guint64 id;
        gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
        gst_harness_push(h, support_frame(CAPS_SMALL, 2, 33));
        g_signal_emit_by_name(element, "describe", "Now?", &id);
        gst_harness_push(h, support_frame(CAPS_SMALL, 3, 66));
        gst_harness_push_event(h, gst_event_new_eos());
    }
    read_messages(element);
    gst_element_set_state(element, GST_STATE_NULL);
    set_back(element, spec);
}

static void whatever_texts_are_set_what_is_said_is_utf8_and_mending_helps(void)
{
    static const GstState moments[] = { GST_STATE_NULL, GST_STATE_READY, GST_STATE_PLAYING };
    GstHarness *text, *json;
    guint n, properties = 0, tries = 0;
    fake_set((fake_script) { .echo = true });
    GstHarness *h = harness(&text, &json);
    GParamSpec **specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(h->element), &n);
    g_atomic_int_set(&objections, 0);
    for (guint i = 0; i < n; i++) {
        if (!takes_text(specs[i]))
            continue;
        for (guint t = 0; t < N_TEXTS; t++)
            for (guint m = 0; m < G_N_ELEMENTS(moments); m++)
                if (tries++ % (guint)test_stride(7) == 0)
                    check_text(h, specs[i], t, moments[m]);
        check_mended(h, i);
        if (g_atomic_int_get(&objections))
            test_fail(__FILE__, __LINE__, "%s: GStreamer objects", specs[i]->name);
        g_atomic_int_set(&objections, 0);
        properties++;
    }
    printf("# %u properties, %u texts each\n", properties, (guint)N_TEXTS);
    CHECK(properties >= 20);
    g_free(specs);
    done(h, text, json);
    CHECK_EQ(fake_get().models, 0);
}

static void a_text_is_given_back_as_it_was_set(void)
{
    guint n;
    GstElement *element = support_element(NULL);
    GParamSpec **specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &n);
    for (guint i = 0; i < n; i++)
        for (guint t = PLAIN; t < N_TEXTS; t++) {
            gchar *text, *got = NULL;
            if (!takes_text(specs[i]) || is_array_of_texts(specs[i]))
                continue;
            text = make_text(t);
            g_object_set(element, specs[i]->name, text, NULL);
            g_object_get(element, specs[i]->name, &got, NULL);
            if (g_strcmp0(got, text) != 0)
                test_fail(__FILE__, __LINE__, "%s: text %u", specs[i]->name, t);
            g_free(got);
            g_free(text);
        }
    g_free(specs);
    support_free(element);
}

#ifdef HAVE_REMOTE
static void a_server_s_model_is_told_in_utf8(void)
{
    GstStructure *info = NULL;
    gboolean good = TRUE;
    GstElement *element = support_element("model-location", NULL, "endpoint",
                                          "http://127.0.0.1:9/v1", "model", "caf\xc3", NULL);
    g_atomic_int_set(&objections, 0);
    CHECK_EQ(gst_element_set_state(element, GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
    g_object_get(element, "model-info", &info, NULL);
    REQUIRE(info != NULL);
    gst_structure_foreach(info, is_text, &good);
    CHECK(good);
    CHECK_STR(gst_structure_get_string(info, "name"), "caf\xef\xbf\xbd");
    CHECK_EQ(g_atomic_int_get(&objections), 0);
    gst_structure_free(info);
    support_free(element);
}
#endif

static void triggers_may_ask_anything(void)
{
    GstHarness *text, *json;
    fake_set((fake_script) { .echo = true });
    GstHarness *h = harness(&text, &json);
    g_atomic_int_set(&objections, 0);
    g_object_set(h->element, "mode", SYNC, "sample-mode", SAMPLE_TRIGGER, NULL);
    begin(h);
    for (guint t = EMPTY; t < N_TEXTS; t++) {
        gchar *prompt = make_text(t);
        guint64 id;
        g_signal_emit_by_name(h->element, "describe", prompt, &id);
        gst_harness_push(h, support_frame(CAPS_SMALL, t, t * 33));
        CHECK_EQ(read_messages(h->element), 1);
        g_free(prompt);
    }
    CHECK_EQ(support_stat(h->element, "results"), N_TEXTS - EMPTY);
    CHECK_EQ(g_atomic_int_get(&objections), 0);
    done(h, text, json);
}

/* ---- many at once ---- */

typedef struct {
    GstHarness *h;
    GParamSpec **specs;
    guint n_specs, sets;
    int setters; /* atomic: still at work */
} Storm;

/* Not of arrays: GStreamer 1.22 loses one where it cannot read the text. */
static void set_number(GstElement *element, const GParamSpec *spec, GRand *random)
{
    static const char *const numbers[] = {
        "-1", "0", "1", "2", "1000000", "0.25", "nan", "1e9", "4294967295", "99999999999999999999"
    };
    gst_util_set_object_arg(G_OBJECT(element), spec->name,
                            numbers[g_rand_int_range(random, 0, G_N_ELEMENTS(numbers))]);
}

/* An end of the range of its own type, or one beyond it. */
static void set_end(GstElement *element, const GParamSpec *spec, GRand *random)
{
    GValue value = G_VALUE_INIT;
    const gboolean low = g_rand_boolean(random);
    const guint beyond = g_rand_boolean(random);
    g_value_init(&value, spec->value_type);
    if (G_IS_PARAM_SPEC_UINT(spec)) {
        const GParamSpecUInt *range = (const GParamSpecUInt *)spec;
        g_value_set_uint(&value, low ? range->minimum - beyond : range->maximum + beyond);
    } else if (G_IS_PARAM_SPEC_UINT64(spec)) {
        const GParamSpecUInt64 *range = (const GParamSpecUInt64 *)spec;
        g_value_set_uint64(&value, low ? range->minimum - beyond : range->maximum + beyond);
    } else if (G_IS_PARAM_SPEC_DOUBLE(spec)) {
        const GParamSpecDouble *range = (const GParamSpecDouble *)spec;
        g_value_set_double(&value, low ? range->minimum - beyond : range->maximum + beyond);
    } else if (G_IS_PARAM_SPEC_ENUM(spec)) {
        const GEnumClass *range = ((const GParamSpecEnum *)spec)->enum_class;
        g_value_set_enum(&value, low ? range->minimum - (int)beyond : range->maximum + (int)beyond);
    }
    g_object_set_property(G_OBJECT(element), spec->name, &value);
    g_value_unset(&value);
}

/* Half of the sets put a property back, so that the element can play most of the time. */
static gpointer set_anything(gpointer user)
{
    Storm *storm = user;
    GstElement *element = storm->h->element;
    GRand *random = g_rand_new_with_seed(storm->sets);
    for (guint i = 0; i < storm->sets; i += 2) {
        GParamSpec *spec = storm->specs[g_rand_int_range(random, 0, (gint32)storm->n_specs)];
        /* texts of a mebibyte are rare */
        const guint text = (guint)g_rand_int_range(random, 0, 100);
        if (takes_text(spec))
            set_text(element, spec, text < N_TEXTS ? text : FIRST_BROKEN + text % 5);
        else if (GST_IS_PARAM_SPEC_ARRAY_LIST(spec) || g_rand_boolean(random))
            set_end(element, spec, random);
        else
            set_number(element, spec, random);
        if (i % 16 == 0)
            g_usleep((gulong)g_rand_int_range(random, 0, 1000));
        set_back(element, spec);
    }
    g_rand_free(random);
    g_atomic_int_add(&storm->setters, -1);
    return NULL;
}

static gpointer change_states(gpointer user)
{
    static const GstState states[] = { GST_STATE_PLAYING, GST_STATE_PAUSED, GST_STATE_READY,
                                       GST_STATE_PLAYING, GST_STATE_NULL,   GST_STATE_PLAYING };
    Storm *storm = user;
    for (guint i = 0; g_atomic_int_get(&storm->setters); i++) {
        if (gst_element_set_state(storm->h->element, states[i % G_N_ELEMENTS(states)]) !=
            GST_STATE_CHANGE_FAILURE)
            begin(storm->h);
        g_usleep(i % 7 * 2000);
        read_messages(storm->h->element);
    }
    return NULL;
}

static gpointer get_everything(gpointer user)
{
    Storm *storm = user;
    for (guint i = 0; g_atomic_int_get(&storm->setters); i++) {
        GValue value = G_VALUE_INIT;
        const GParamSpec *spec = storm->specs[i % storm->n_specs];
        g_value_init(&value, spec->value_type);
        g_object_get_property(G_OBJECT(storm->h->element), spec->name, &value);
        g_value_unset(&value);
        g_usleep(100);
    }
    return NULL;
}

static gboolean is_own(const GParamSpec *spec)
{
    return spec->flags & G_PARAM_WRITABLE && !g_str_equal(spec->name, "name") &&
           !g_str_equal(spec->name, "parent");
}

static void set_by_three_threads_in_any_state_properties_do_no_harm(void)
{
    enum { SETTERS = 3 };
    GstHarness *text, *json;
    GThread *threads[SETTERS + 2];
    guint n, own = 0, described = 0;
    fake_set((fake_script) { .echo = true });
    GstHarness *h = harness(&text, &json);
    GParamSpec **specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(h->element), &n);
    for (guint i = 0; i < n; i++)
        if (is_own(specs[i]))
            specs[own++] = specs[i];
    Storm storm = { h, specs, own, support_count(10000, 100000) / (guint)test_stride(5) / SETTERS,
                    SETTERS };
    g_atomic_int_set(&objections, 0);
    g_atomic_int_set(&out_of_range, 0);
    for (guint i = 0; i < SETTERS; i++)
        threads[i] = g_thread_new("setter", set_anything, &storm);
    threads[SETTERS] = g_thread_new("states", change_states, &storm);
    threads[SETTERS + 1] = g_thread_new("getter", get_everything, &storm);
    for (guint i = 0; g_atomic_int_get(&storm.setters); i++) {
        described += gst_harness_push(h, support_frame(CAPS_SMALL, i, i * 33)) == GST_FLOW_OK;
        g_usleep(300);
    }
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    printf("# %u sets of %u properties, %d out of range, %u frames\n", storm.sets * SETTERS, own,
           g_atomic_int_get(&out_of_range), described);
    CHECK(described > 10);
    CHECK(g_atomic_int_get(&out_of_range) > (int)storm.sets / 50);
    CHECK_EQ(g_atomic_int_get(&objections), 0);
    gst_element_set_state(h->element, GST_STATE_NULL);
    check_mended(h, 1);
    g_free(specs);
    done(h, text, json);
    CHECK_EQ(fake_get().models, 0);
    CHECK_EQ(fake_get().requests, 0);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    g_log_set_default_handler(on_log, NULL);
    TEST(a_text_is_given_back_as_it_was_set);
    TEST(whatever_texts_are_set_what_is_said_is_utf8_and_mending_helps);
#ifdef HAVE_REMOTE
    TEST(a_server_s_model_is_told_in_utf8);
#endif
    TEST(triggers_may_ask_anything);
    TEST(set_by_three_threads_in_any_state_properties_do_no_harm);
    return test_end();
}
