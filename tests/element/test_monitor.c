/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scenarios of gst-validate's kind, under monitors of all three pads: play, play again, pause,
 * seeks forward, backward and in quick succession, rates, segment seeks, ends; with the text pad
 * and without it, synchronous and asynchronous. */
#include "fake_engine.h"
#include "monitor.h"
#include "support.h"

#define FPS 100
#define FRAMES 36
#define LENGTH (FRAMES * GST_SECOND / FPS)

typedef struct {
    GstElement *pipeline, *element;
    monitor *sink, *src, *text; /* text may be NULL */
    gboolean dropped;           /* a flush or a stop: not all that came has left */
} Scene;

/* ---- moves ---- */

static void settle(Scene *s)
{
    GstStateChangeReturn result = gst_element_get_state(s->pipeline, NULL, NULL, 10 * GST_SECOND);
    CHECK(result == GST_STATE_CHANGE_SUCCESS || result == GST_STATE_CHANGE_NO_PREROLL);
}

static void go(Scene *s, GstState state)
{
    CHECK(gst_element_set_state(s->pipeline, state) != GST_STATE_CHANGE_FAILURE);
    settle(s);
    s->dropped |= state < GST_STATE_PAUSED;
}

static void expect(Scene *s, GstMessageType type)
{
    GstMessage *message = gst_bus_timed_pop_filtered(GST_ELEMENT_BUS(s->pipeline), 10 * GST_SECOND,
                                                     type | GST_MESSAGE_ERROR);
    CHECK(message && GST_MESSAGE_TYPE(message) == type);
    g_clear_pointer(&message, gst_message_unref);
}

static void seek(Scene *s, gdouble rate, GstSeekFlags flags, GstClockTime start, GstClockTime stop)
{
    GstEvent *event = gst_event_new_seek(rate, GST_FORMAT_TIME, flags, GST_SEEK_TYPE_SET,
                                         (gint64)start, GST_SEEK_TYPE_SET, (gint64)stop);
    guint32 seqnum = gst_event_get_seqnum(event);
    CHECK(gst_element_send_event(s->pipeline, event));
    if (!(flags & GST_SEEK_FLAG_FLUSH))
        return;
    s->dropped = TRUE;
    settle(s);
    CHECK_EQ(monitor_get(s->src).segment_seqnum, seqnum);
    for (int i = 0; s->text && i < 5000 && monitor_get(s->text).segment_seqnum != seqnum; i++)
        g_usleep(1000);
    if (s->text)
        CHECK_EQ(monitor_get(s->text).segment_seqnum, seqnum);
}

#define FLUSH (GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE)

/* ---- scenarios ---- */

static void play(Scene *s)
{
    go(s, GST_STATE_PLAYING);
    expect(s, GST_MESSAGE_EOS);
}

static void play_again(Scene *s)
{
    for (int run = 0; run < 3; run++) {
        play(s);
        CHECK_EQ(monitor_get(s->src).buffers, FRAMES);
        CHECK_EQ(monitor_get(s->src).eos, 1);
        if (s->text) {
            CHECK(monitor_get(s->text).buffers > 0);
            CHECK_EQ(monitor_get(s->text).eos, 1);
        }
        go(s, run ? GST_STATE_NULL : GST_STATE_READY);
    }
    play(s);
    s->dropped = FALSE; /* since it was activated */
}

static void pause_and_resume(Scene *s)
{
    go(s, GST_STATE_PAUSED);
    for (int i = 0; i < 5; i++) {
        go(s, GST_STATE_PLAYING);
        g_usleep(50000);
        go(s, GST_STATE_PAUSED);
    }
    play(s);
}

static void seek_forward(Scene *s)
{
    go(s, GST_STATE_PLAYING);
    for (int i = 1; i < 5; i++)
        seek(s, 1.0, FLUSH, i * LENGTH / 6, LENGTH);
    go(s, GST_STATE_PAUSED);
    seek(s, 1.0, FLUSH, 5 * LENGTH / 6, LENGTH);
    play(s);
}

static void seek_backward(Scene *s)
{
    go(s, GST_STATE_PAUSED);
    for (int i = 5; i >= 0; i--) {
        seek(s, 1.0, FLUSH, i * LENGTH / 6, LENGTH);
        if (i == 3)
            go(s, GST_STATE_PLAYING);
    }
    expect(s, GST_MESSAGE_EOS);
}

static void scrub(Scene *s)
{
    go(s, GST_STATE_PAUSED);
    for (int i = 0; i < 40; i++)
        seek(s, 1.0, FLUSH, (guint)(i * 17 % FRAMES) * LENGTH / FRAMES, LENGTH);
    /* without waiting for the picture */
    for (int i = 0; i < 40; i++)
        CHECK(gst_element_seek_simple(s->pipeline, GST_FORMAT_TIME, FLUSH,
                                      (gint64)((guint)(i * 23 % FRAMES) * LENGTH / FRAMES)));
    settle(s);
    seek(s, 1.0, FLUSH, 0, LENGTH);
    play(s);
}

static void rates(Scene *s)
{
    static const gdouble values[] = { 2.0, 0.5, 4.0, -1.0, -2.0, 1.0 };
    go(s, GST_STATE_PAUSED);
    for (guint i = 0; i < G_N_ELEMENTS(values); i++) {
        seek(s, values[i], FLUSH | (i == 2 ? GST_SEEK_FLAG_TRICKMODE : 0), 0, LENGTH / 2);
        go(s, GST_STATE_PLAYING);
        expect(s, GST_MESSAGE_EOS);
        go(s, GST_STATE_PAUSED);
    }
}

static void rate_at_once(Scene *s)
{
    go(s, GST_STATE_PLAYING);
    GstPad *pad = gst_element_get_static_pad(s->element, "sink"), *peer = gst_pad_get_peer(pad);
    for (int i = 0; i < 3; i++) {
        GstEvent *event = gst_event_new_instant_rate_change(i % 2 ? 1.0 : 2.0, 0);
        CHECK(gst_pad_push_event(peer, event));
        g_usleep(50000);
    }
    gst_object_unref(peer);
    gst_object_unref(pad);
    expect(s, GST_MESSAGE_EOS);
}

static void segments(Scene *s)
{
    go(s, GST_STATE_PAUSED);
    seek(s, 1.0, FLUSH | GST_SEEK_FLAG_SEGMENT, 0, LENGTH / 3);
    go(s, GST_STATE_PLAYING);
    for (int i = 0; i < 3; i++) {
        expect(s, GST_MESSAGE_SEGMENT_DONE);
        seek(s, 1.0, i == 2 ? 0 : GST_SEEK_FLAG_SEGMENT, i * LENGTH / 6, (i + 3) * LENGTH / 6);
    }
    expect(s, GST_MESSAGE_EOS);
}

static void seek_after_the_end(Scene *s)
{
    go(s, GST_STATE_PAUSED);
    seek(s, 1.0, FLUSH, LENGTH / 2, LENGTH);
    for (int i = 0; i < 3; i++) {
        go(s, GST_STATE_PLAYING);
        expect(s, GST_MESSAGE_EOS);
        seek(s, 1.0, FLUSH, i * LENGTH / 4, LENGTH);
    }
    expect(s, GST_MESSAGE_EOS);
}

static int seeks_left; /* atomic */

static GstPadProbeReturn seek_from_here(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    if (g_atomic_int_add(&seeks_left, -1) <= 0)
        return GST_PAD_PROBE_OK;
    CHECK(gst_pad_push_event(pad, gst_event_new_seek(1.0, GST_FORMAT_TIME, FLUSH, GST_SEEK_TYPE_SET,
                                                     0, GST_SEEK_TYPE_SET, (gint64)LENGTH)));
    return GST_PAD_PROBE_DROP; /* it is of before the flush */
}

/* On the thread that pushes, which a flush must not wait for. */
static void seek_from_downstream(Scene *s)
{
    GstPad *pad = gst_element_get_static_pad(s->element, s->text ? "text" : "src"),
           *peer = gst_pad_get_peer(pad);
    g_atomic_int_set(&seeks_left, 1);
    go(s, GST_STATE_PLAYING);
    s->dropped = TRUE;
    gst_pad_add_probe(peer, GST_PAD_PROBE_TYPE_BUFFER, seek_from_here, NULL, NULL);
    expect(s, GST_MESSAGE_EOS);
    CHECK(g_atomic_int_get(&seeks_left) <= 0);
    gst_object_unref(peer);
    gst_object_unref(pad);
}

static void end_from_outside(Scene *s)
{
    for (int i = 0; i < 3; i++) {
        go(s, GST_STATE_PLAYING);
        g_usleep(100000);
        gst_element_send_event(s->pipeline, gst_event_new_eos());
        expect(s, GST_MESSAGE_EOS);
        go(s, i ? GST_STATE_NULL : GST_STATE_READY);
    }
}

static void stop_in_the_middle(Scene *s)
{
    static const GstState states[] = { GST_STATE_PLAYING, GST_STATE_READY,  GST_STATE_PAUSED,
                                       GST_STATE_NULL,    GST_STATE_PAUSED, GST_STATE_READY,
                                       GST_STATE_PLAYING, GST_STATE_NULL };
    for (guint i = 0; i < 3 * G_N_ELEMENTS(states); i++) {
        go(s, states[i % G_N_ELEMENTS(states)]);
        g_usleep(i % 3 * 20000);
    }
    play(s);
}

/* ---- frame ---- */

static monitor *watch(GstElement *element, const char *name, guint flags)
{
    GstPad *pad = gst_element_get_static_pad(element, name);
    monitor *m = pad ? monitor_new(pad, flags) : NULL;
    gst_clear_object(&pad);
    return m;
}

static void check_clean(monitor *m, const char *what)
{
    gchar *faults = monitor_faults(m);
    g_strdelimit(faults, "\n", '|');
    if (*faults)
        test_fail(__FILE__, __LINE__, "%s: %s", what, faults);
    g_free(faults);
}

static void check_same(Scene *s, monitor *out, const char *what)
{
    gchar *differs = monitor_compare(s->sink, out, !s->dropped);
    if (differs)
        test_fail(__FILE__, __LINE__, "%s: %s", what, differs);
    g_free(differs);
}

static void run(void (*scenario)(Scene *s), int frames, int mode, gboolean with_text)
{
    gchar *what = g_strdup_printf("%s%s", mode == 1 ? "async" : "sync", with_text ? ", text" : "");
    gchar *line = g_strdup_printf(
        "videotestsrc num-buffers=%d ! video/x-raw,format=RGB,width=16,height=8,framerate=%d/1 ! "
        "glm4vdescribe name=d model-location=" SOURCE_ROOT " mode=%d interval=70000000 "
        "gap-interval=50000000 ! fakesink %s",
        frames, FPS, mode, with_text ? "d.text ! fakesink" : "");
    fake_set((fake_script) { .answer_ns = 2 * MS });
    Scene s = { .pipeline = gst_parse_launch(line, NULL) };
    s.element = gst_bin_get_by_name(GST_BIN(s.pipeline), "d");
    GstIterator *sinks = gst_bin_iterate_sinks(GST_BIN(s.pipeline));
    GValue value = G_VALUE_INIT;
    while (gst_iterator_next(sinks, &value) == GST_ITERATOR_OK) {
        g_object_set(g_value_get_object(&value), "sync", TRUE, NULL);
        g_value_reset(&value);
    }
    g_value_unset(&value);
    gst_iterator_free(sinks);
    s.sink = watch(s.element, "sink", 0);
    s.src = watch(s.element, "src", 0);
    s.text = watch(s.element, "text", MONITOR_SPARSE);
    CHECK_EQ(s.text != NULL, with_text);
    scenario(&s);
    monitor *all[] = { s.sink, s.src, s.text };
    for (guint i = 1; i < 2u + with_text; i++)
        check_same(&s, all[i], what);
    gst_element_set_state(s.pipeline, GST_STATE_NULL);
    for (guint i = 0; i < 2u + with_text; i++) {
        check_clean(all[i], what);
        monitor_free(all[i]);
    }
    gst_object_unref(s.element);
    gst_object_unref(s.pipeline);
    g_free(line);
    g_free(what);
}

/* A source that counts its frames goes on counting over seeks: where a scenario seeks, the segment
 * ends the stream. */
#define SCENARIO(name, frames)                                                                     \
    static void name##_holds(void)                                                                 \
    {                                                                                              \
        for (int mode = 1; mode <= 2; mode++)                                                      \
            for (int with_text = 0; with_text < 2; with_text++)                                    \
                run(name, frames, mode, with_text);                                                \
    }

SCENARIO(play, FRAMES)
SCENARIO(play_again, FRAMES)
SCENARIO(pause_and_resume, FRAMES)
SCENARIO(seek_forward, -1)
SCENARIO(seek_backward, -1)
SCENARIO(scrub, -1)
SCENARIO(rates, -1)
SCENARIO(rate_at_once, FRAMES)
SCENARIO(segments, -1)
SCENARIO(seek_after_the_end, -1)
SCENARIO(seek_from_downstream, -1)
SCENARIO(end_from_outside, FRAMES)
SCENARIO(stop_in_the_middle, FRAMES)

/* ---- the monitor itself ---- */

static GstEvent *new_caps(const char *text)
{
    GstCaps *caps = gst_caps_from_string(text);
    GstEvent *event = gst_event_new_caps(caps);
    gst_caps_unref(caps);
    return event;
}

static GstMiniObject *item_of(char letter)
{
    GstEvent *event = NULL;
    GstBuffer *buffer = NULL;
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    segment.stop = 3 * GST_SECOND;
    switch (letter) {
    case 's':
        event = gst_event_new_stream_start("id");
        gst_event_set_group_id(event, 1);
        gst_event_set_stream_flags(event, GST_STREAM_FLAG_SPARSE);
        break;
    case 'c':
        event = new_caps("text/x-raw,format=utf8");
        break;
    case 'g':
        event = gst_event_new_segment(&segment);
        break;
    case 't':
        event = gst_event_new_tag(gst_tag_list_new_empty());
        break;
    case 'e':
        event = gst_event_new_eos();
        break;
    case 'f':
        event = gst_event_new_flush_start();
        break;
    case 'F':
        event = gst_event_new_flush_stop(TRUE);
        break;
    case 'p':
        event = gst_event_new_gap(0, GST_SECOND);
        break;
    case 'q':
        event = gst_event_new_gap(GST_SECOND, GST_SECOND);
        break;
    default:
        buffer = gst_buffer_new();
        GST_BUFFER_PTS(buffer) = letter == 'n'   ? GST_CLOCK_TIME_NONE
                                 : letter == 'o' ? 5 * GST_SECOND
                                                 : (letter & 3) * GST_SECOND;
        GST_BUFFER_DURATION(buffer) = GST_SECOND;
        if (letter < 'a')
            GST_BUFFER_FLAG_SET(buffer, GST_BUFFER_FLAG_DISCONT);
    }
    if (event)
        gst_event_set_seqnum(event, 77);
    return event ? GST_MINI_OBJECT(event) : GST_MINI_OBJECT(buffer);
}

/* See these items: letters of item_of(), P Q 0 1 s, p q 0 1 s; upper case with DISCONT. */
static gchar *faults_of(const char *items)
{
    GstPad *pad = gst_pad_new("src", GST_PAD_SRC);
    monitor *m = monitor_new(pad, MONITOR_SPARSE);
    for (; *items; items++) {
        GstMiniObject *item = item_of(*items);
        monitor_see(m, item);
        gst_mini_object_unref(item);
    }
    gchar *faults = monitor_faults(m);
    monitor_free(m);
    gst_object_unref(pad);
    return faults;
}

static void the_monitor_objects_to_each_fault_and_to_nothing_else(void)
{
    /* @ A B: buffers of 0 s, 1 s, 2 s with DISCONT; ` a b: without */
    static const struct {
        const char *items, *fault;
    } cases[] = {
        { "scgp", "" },
        { "scgAbe", "" },
        { "scgpAbe", "" },
        { "scg@aFe", "flush-stop again" },
        { "scg@fFgAe", "" },
        { "scg@afF", "" },
        { "scg@esc", "" },
        { "cg", "before STREAM_START" },
        { "sg", "SEGMENT before CAPS" },
        { "sgA", "buffer before CAPS" },
        { "scA", "buffer before SEGMENT" },
        { "scp", "GAP before SEGMENT" },
        { "sce", "EOS before SEGMENT" },
        { "scga", "has no DISCONT" },
        { "scgAB", "has DISCONT and follows another" },
        { "scgAgb", "has no DISCONT" },
        { "scg@fFga", "has no DISCONT" },
        { "scgBa", "begins at" },
        { "scgq@", "begins at" },
        { "scgBp", "begins at" },
        { "scgn", "has no time" },
        { "scgo", "outside" },
        { "scgAeb", "buffer after EOS" },
        { "scgAee", "eos after EOS" },
        { "scgAet", "tag after EOS" },
        { "scgAff", "flush-start again" },
        { "scgAfbtFgAe", "" },
        { "scgAfFq", "GAP before SEGMENT" },
        { "scgAfFe", "EOS before SEGMENT" },
        { "sccg", "the same CAPS again" },
        { "scgAfFA", "buffer before SEGMENT" },
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gchar *faults = faults_of(cases[i].items);
        if (*cases[i].fault ? !strstr(faults, cases[i].fault) : *faults != 0)
            test_fail(__FILE__, __LINE__, "%s: expected \"%s\", got \"%s\"", cases[i].items,
                      cases[i].fault, faults);
        g_free(faults);
    }
}

static void check_compared(const char *in, const char *out, gboolean all, const char *expected)
{
    GstPad *pads[] = { gst_pad_new("sink", GST_PAD_SINK), gst_pad_new("src", GST_PAD_SRC) };
    monitor *m[] = { monitor_new(pads[0], 0), monitor_new(pads[1], 0) };
    const char *items[] = { in, out };
    for (int side = 0; side < 2; side++)
        for (const char *p = items[side]; *p; p++) {
            GstMiniObject *item = item_of(*p);
            monitor_see(m[side], item);
            gst_mini_object_unref(item);
        }
    gchar *differs = monitor_compare(m[0], m[1], all);
    if (expected ? !differs || !strstr(differs, expected) : differs != NULL)
        test_fail(__FILE__, __LINE__, "%s to %s: expected \"%s\", got \"%s\"", in, out,
                  expected ? expected : "(none)", differs ? differs : "(none)");
    g_free(differs);
    for (int side = 0; side < 2; side++) {
        monitor_free(m[side]);
        gst_object_unref(pads[side]);
    }
}

static void the_comparison_sees_what_is_lost_added_or_out_of_order(void)
{
    check_compared("scgAtbe", "scgAtbe", TRUE, NULL);
    check_compared("scgAtbe", "scgAbe", FALSE, NULL);
    check_compared("scgAtbe", "scgAbe", TRUE, "buffer");
    check_compared("scgAtb", "scgAt", TRUE, "did not leave");
    check_compared("scgAtb", "scgtA", FALSE, "left, but");
    check_compared("scgAtb", "scgAtte", FALSE, "left, but");
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(the_monitor_objects_to_each_fault_and_to_nothing_else);
    TEST(the_comparison_sees_what_is_lost_added_or_out_of_order);
    TEST(play_holds);
    TEST(play_again_holds);
    TEST(pause_and_resume_holds);
    TEST(seek_forward_holds);
    TEST(seek_backward_holds);
    TEST(scrub_holds);
    TEST(rates_holds);
    TEST(rate_at_once_holds);
    TEST(segments_holds);
    TEST(seek_after_the_end_holds);
    TEST(seek_from_downstream_holds);
    TEST(end_from_outside_holds);
    TEST(stop_in_the_middle_holds);
    return test_end();
}
