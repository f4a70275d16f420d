/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text pad's life: requested early, late and after the end, released while linked and while its
 * push is held up, its branch stopped, unlinked, linked again; and which events pass it. */
#include <glib/gstdio.h>

#include "fake_engine.h"
#include "support.h"

/* ---- a peer that keeps what comes ---- */

typedef struct {
    GMutex lock;
    GCond cond;
    GstPad *pad;
    GPtrArray *got; /* GstMiniObject: events and buffers in their order */
    gboolean hold;  /* buffers wait */
    GstFlowReturn flow;
} Peer;

static GstFlowReturn peer_chain(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    Peer *peer = pad->chaindata;
    g_mutex_lock(&peer->lock);
    g_ptr_array_add(peer->got, buffer);
    g_cond_broadcast(&peer->cond);
    while (peer->hold)
        g_cond_wait(&peer->cond, &peer->lock);
    GstFlowReturn flow = peer->flow;
    g_mutex_unlock(&peer->lock);
    return flow;
}

static gboolean peer_event(GstPad *pad, GstObject *parent, GstEvent *event)
{
    Peer *peer = pad->eventdata;
    g_mutex_lock(&peer->lock);
    g_ptr_array_add(peer->got, event);
    if (GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_START)
        peer->hold = FALSE;
    g_cond_broadcast(&peer->cond);
    g_mutex_unlock(&peer->lock);
    return TRUE;
}

static Peer *peer_new(void)
{
    Peer *peer = g_new0(Peer, 1);
    g_mutex_init(&peer->lock);
    g_cond_init(&peer->cond);
    peer->got = g_ptr_array_new_with_free_func((GDestroyNotify)gst_mini_object_unref);
    peer->pad = gst_pad_new("sink", GST_PAD_SINK);
    gst_pad_set_chain_function_full(peer->pad, peer_chain, peer, NULL);
    gst_pad_set_event_function_full(peer->pad, peer_event, peer, NULL);
    gst_pad_set_active(peer->pad, TRUE);
    return peer;
}

static void peer_free(Peer *peer)
{
    gst_pad_set_active(peer->pad, FALSE);
    gst_object_unref(peer->pad);
    g_ptr_array_unref(peer->got);
    g_mutex_clear(&peer->lock);
    g_cond_clear(&peer->cond);
    g_free(peer);
}

static void peer_hold(Peer *peer, gboolean hold)
{
    g_mutex_lock(&peer->lock);
    peer->hold = hold;
    g_cond_broadcast(&peer->cond);
    g_mutex_unlock(&peer->lock);
}

static void peer_clear(Peer *peer)
{
    g_mutex_lock(&peer->lock);
    g_ptr_array_set_size(peer->got, 0);
    g_mutex_unlock(&peer->lock);
}

/* An event's type; GST_EVENT_UNKNOWN for a buffer. */
static GstEventType type_of(gpointer object)
{
    return GST_IS_EVENT(object) ? GST_EVENT_TYPE(object) : GST_EVENT_UNKNOWN;
}

/* With the lock. */
static guint count_type(Peer *peer, GstEventType type)
{
    guint n = 0;
    for (guint i = 0; i < peer->got->len; i++)
        n += type_of(peer->got->pdata[i]) == type;
    return n;
}

/* Wait, at most PATIENCE, until n of this type have come; how many there are. */
static guint peer_wait(Peer *peer, GstEventType type, guint n)
{
    gint64 end = g_get_monotonic_time() + PATIENCE / GST_USECOND;
    g_mutex_lock(&peer->lock);
    while (count_type(peer, type) < n && g_cond_wait_until(&peer->cond, &peer->lock, end))
        ;
    guint found = count_type(peer, type);
    g_mutex_unlock(&peer->lock);
    return found;
}

/* What came but GAPs and changes of rate, as a line of words; g_free() it. */
static gchar *peer_line(Peer *peer)
{
    GString *line = g_string_new(NULL);
    g_mutex_lock(&peer->lock);
    for (guint i = 0; i < peer->got->len; i++) {
        gpointer object = peer->got->pdata[i];
        /* GStreamer itself repeats the latter now and then */
        if (type_of(object) == GST_EVENT_GAP || type_of(object) == GST_EVENT_INSTANT_RATE_CHANGE)
            continue;
        g_string_append_printf(line, "%s%s", line->len ? " " : "",
                               GST_IS_EVENT(object)            ? GST_EVENT_TYPE_NAME(object)
                               : GST_BUFFER_IS_DISCONT(object) ? "cue!"
                                                               : "cue");
        if (type_of(object) >= GST_EVENT_CUSTOM_UPSTREAM)
            g_string_append_printf(line, ":%s",
                                   gst_structure_get_name(gst_event_get_structure(object)));
    }
    g_mutex_unlock(&peer->lock);
    return g_string_free(line, FALSE);
}

#define CHECK_LINE(peer, expected)                                                                 \
    do {                                                                                           \
        gchar *line = peer_line(peer);                                                             \
        CHECK_STR(line, expected);                                                                 \
        g_free(line);                                                                              \
    } while (0)

static GstPad *request(GstElement *element)
{
    return gst_element_request_pad_simple(element, "text");
}

static void release(GstElement *element, GstPad *pad)
{
    gst_element_release_request_pad(element, pad);
    gst_object_unref(pad);
}

/* A harness with the element in sync mode, every frame described. */
static GstHarness *new_harness(GstElement **element)
{
    fake_set((fake_script) { 0 });
    *element = support_element("mode", 2, "sample-mode", 2, NULL);
    GstHarness *h = support_harness(*element, FALSE, CAPS_SMALL);
    gst_harness_set_drop_buffers(h, TRUE);
    return h;
}

static void push(GstHarness *h, guint pts_ms)
{
    CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, pts_ms)), GST_FLOW_OK);
}

/* ---- release ---- */

static int flushes; /* atomic */

static GstPadProbeReturn count_flush(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    g_atomic_int_inc(&flushes);
    return GST_PAD_PROBE_OK;
}

static gsize size_of(const char *path)
{
    GStatBuf info = { 0 };
    g_stat(path, &info);
    return (gsize)info.st_size;
}

/* The cues of a file. */
static guint cues_of(const char *path, const char *reader)
{
    gchar *line = g_strdup_printf("filesrc location=%s ! %s ! fakesink name=s", path, reader);
    GstElement *pipeline = gst_parse_launch(line, NULL);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "s");
    GstBus *bus = gst_element_get_bus(pipeline);
    GstStructure *stats;
    guint64 n = 0;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, PATIENCE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    CHECK(message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS);
    g_clear_pointer(&message, gst_message_unref);
    g_object_get(sink, "stats", &stats, NULL);
    gst_structure_get_uint64(stats, "rendered", &n);
    gst_structure_free(stats);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(sink);
    gst_object_unref(pipeline);
    g_free(line);
    return (guint)n;
}

/* Captions end while a recording goes on: branch is what stands behind d.text and d.src. */
static void check_release(const char *branch, const char *reader, gboolean unlink_first)
{
    gchar *dir = g_dir_make_tmp("glm4v-XXXXXX", NULL), *path = g_build_filename(dir, "out", NULL);
    fake_set((fake_script) { .text = "a red ball" });
    gchar *line = g_strdup_printf(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=48,framerate=50/1 ! "
        "glm4vdescribe name=d model-location=" SOURCE_ROOT " interval=100000000 %s ! "
        "filesink name=f async=false buffer-mode=unbuffered location=%s",
        branch, path);
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);
    REQUIRE(pipeline && !error);
    GstElement *element = gst_bin_get_by_name(GST_BIN(pipeline), "d"),
               *queue = gst_bin_get_by_name(GST_BIN(pipeline), "q"),
               *file = gst_bin_get_by_name(GST_BIN(pipeline), "f");
    GstPad *input = gst_element_get_static_pad(queue, "sink"), *pad = gst_pad_get_peer(input),
           *end = gst_element_get_static_pad(file, "sink");
    GstBus *bus = gst_element_get_bus(pipeline);
    gst_pad_add_probe(end, GST_PAD_PROBE_TYPE_EVENT_FLUSH, count_flush, NULL, NULL);
    flushes = 0;
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    for (int i = 0; i < 5000 && support_stat(element, "text-pushed") < 5; i++)
        g_usleep(1000);
    g_usleep(100000);
    gsize before = size_of(path);
    if (unlink_first)
        gst_pad_unlink(pad, input);
    gst_element_release_request_pad(element, pad);
    CHECK(size_of(path) >= before && before > 0);
    CHECK(!gst_pad_is_active(pad) && !gst_pad_is_linked(pad) && !GST_OBJECT_PARENT(pad));
    CHECK(!gst_pad_set_active(pad, TRUE)); /* it is nobody's now */
    CHECK(gst_pad_send_event(input, gst_event_new_eos()));
    guint64 seen = support_stat(element, "frames-seen");
    for (int i = 0; i < 5000 && support_stat(element, "frames-seen") < seen + 20; i++)
        g_usleep(1000);
    CHECK(support_stat(element, "frames-seen") >= seen + 20);
    gst_element_send_event(pipeline, gst_event_new_eos());
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, PATIENCE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    CHECK(message && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS);
    g_clear_pointer(&message, gst_message_unref);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    CHECK_EQ(g_atomic_int_get(&flushes), 0);
    CHECK(cues_of(path, reader) >= 4);
    gst_object_unref(bus);
    gst_object_unref(end);
    gst_object_unref(pad);
    gst_object_unref(input);
    gst_object_unref(file);
    gst_object_unref(queue);
    gst_object_unref(element);
    gst_object_unref(pipeline);
    g_remove(path);
    g_rmdir(dir);
    g_free(line);
    g_free(path);
    g_free(dir);
}

static void releasing_the_pad_leaves_a_subtitle_file_whole(void)
{
    static const char branch[] = "! fakesink async=false d.text ! queue name=q ! webvttenc";
    for (int unlink = 0; unlink < 2; unlink++)
        check_release(branch, "subparse", unlink);
}

static void releasing_the_pad_leaves_a_recording_whole(void)
{
    static const char branch[] = "! jpegenc ! queue ! matroskamux name=m d.text ! queue name=q ! "
                                 "m.subtitle_0 m.";
    for (int unlink = 0; unlink < 2; unlink++)
        check_release(branch, "matroskademux name=m m.subtitle_0", unlink);
}

static void releasing_a_pad_waits_for_nobody(void)
{
    for (int freed = 0; freed < 2; freed++) {
        GstElement *element;
        GstHarness *h = new_harness(&element);
        Peer *held = peer_new(), *next = peer_new();
        GstPad *pad = request(element);
        peer_hold(held, TRUE);
        CHECK_EQ(gst_pad_link(pad, held->pad), GST_PAD_LINK_OK);
        push(h, 0);
        CHECK_EQ(peer_wait(held, GST_EVENT_UNKNOWN, 1), 1);
        gint64 start = g_get_monotonic_time();
        release(element, pad); /* its task is inside held's chain function */
        CHECK(g_get_monotonic_time() - start < NOT_AT_ALL);
        pad = request(element); /* another one at once */
        CHECK_EQ(gst_pad_link(pad, next->pad), GST_PAD_LINK_OK);
        push(h, 33);
        CHECK_EQ(peer_wait(next, GST_EVENT_UNKNOWN, 1), 1);
        CHECK_LINE(next, "stream-start caps segment cue!");
        release(element, pad);
        if (freed)
            support_done(h);
        peer_hold(held, FALSE);
        if (!freed)
            support_done(h);
        g_usleep(50000); /* the first task returns and ends */
        CHECK_LINE(held, "stream-start caps segment cue!");
        CHECK_EQ(count_type(held, GST_EVENT_FLUSH_START), 0);
        peer_free(held);
        peer_free(next);
    }
}

/* The thread that leaves is slow with saying so. */
static GstBusSyncReply slow_leave(GstBus *bus, GstMessage *message, gpointer user)
{
    GstStreamStatusType type = GST_STREAM_STATUS_TYPE_CREATE;
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_STREAM_STATUS)
        gst_message_parse_stream_status(message, &type, NULL);
    if (type == GST_STREAM_STATUS_TYPE_LEAVE)
        g_usleep(2000);
    return GST_BUS_PASS;
}

/* A message that is posted later would keep the element: it lies on the element's own bus. */
static void a_released_pad_posts_nothing_any_more(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    GstBus *bus = gst_element_get_bus(element);
    gst_bus_set_sync_handler(bus, slow_leave, NULL, NULL);
    for (guint i = 0; i < 200; i++) {
        GstMessage *message;
        GstPad *pad = request(element);
        if (i % 2)
            push(h, i * 33);
        g_usleep(i % 5 * 50);
        release(element, pad);
        while ((message = gst_bus_pop(bus)))
            gst_message_unref(message);
        g_usleep(5000);
        message = gst_bus_pop_filtered(bus, GST_MESSAGE_STREAM_STATUS);
        CHECK(message == NULL);
        g_clear_pointer(&message, gst_message_unref);
    }
    gst_bus_set_sync_handler(bus, NULL, NULL, NULL);
    gst_object_unref(bus);
    support_done(h);
}

/* ---- events ---- */

static GstEvent *custom(gboolean sticky, const char *name)
{
    return gst_event_new_custom(sticky ? GST_EVENT_CUSTOM_DOWNSTREAM_STICKY
                                       : GST_EVENT_CUSTOM_DOWNSTREAM,
                                gst_structure_new_empty(name));
}

static GstEvent *tag(const char *title)
{
    return gst_event_new_tag(gst_tag_list_new(GST_TAG_TITLE, title, NULL));
}

static GstEvent *collection(void)
{
    GstStreamCollection *streams = gst_stream_collection_new("up");
    GstEvent *event = gst_event_new_stream_collection(streams);
    gst_object_unref(streams);
    return event;
}

static void check_late(Peer *peer)
{
    static const GstEventType once[] = { GST_EVENT_STREAM_COLLECTION, GST_EVENT_TAG,
                                         GST_EVENT_STREAM_GROUP_DONE, GST_EVENT_EOS };
    gchar *line = peer_line(peer);
    CHECK(g_str_has_prefix(line, "stream-start caps segment ") && g_str_has_suffix(line, " eos"));
    for (guint i = 0; i < G_N_ELEMENTS(once); i++)
        CHECK_EQ(count_type(peer, once[i]), 1);
    CHECK_EQ(count_type(peer, GST_EVENT_CUSTOM_DOWNSTREAM_STICKY), 2);
    CHECK(count_type(peer, GST_EVENT_INSTANT_RATE_CHANGE) >= 1);
    CHECK_EQ(count_type(peer, GST_EVENT_CUSTOM_DOWNSTREAM), 0);
    g_free(line);
}

static void serialized_events_pass_in_their_order(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    Peer *peer = peer_new();
    GstPad *pad = request(element);
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    push(h, 0);
    gst_harness_push_event(h, collection());
    gst_harness_push_event(h, tag("one"));
    gst_harness_push_event(h, custom(TRUE, "stays"));
    push(h, 33);
    gst_harness_push_event(h, custom(FALSE, "passes"));
    gst_harness_push_event(h, gst_event_new_stream_group_done(1));
    push(h, 66);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 3), 3);
    gst_harness_push_event(h, gst_event_new_instant_rate_change(2.0, 0));
    gst_harness_push_event(h, tag("two"));
    gst_harness_push_event(h, custom(TRUE, "stays-too"));
    gst_harness_push_event(h, gst_event_new_eos());
    CHECK_EQ(peer_wait(peer, GST_EVENT_EOS, 1), 1);
    CHECK_LINE(peer, "stream-start caps segment cue! stream-collection tag "
                     "custom-downstream-sticky:stays cue custom-downstream:passes "
                     "stream-group-done cue tag "
                     "custom-downstream-sticky:stays-too eos");
    gst_pad_unlink(pad, peer->pad);
    release(element, pad);
    peer_free(peer);

    /* The next pad hears what is sticky, the newest of each kind; and EOS although it is linked
     * only after all was pushed. */
    for (int again = 0; again < 2; again++) {
        peer = peer_new();
        pad = request(element);
        g_usleep(again * 30000);
        CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
        CHECK_EQ(peer_wait(peer, GST_EVENT_EOS, 1), 1);
        g_usleep(20000);
        check_late(peer);
        gst_pad_unlink(pad, peer->pad);
        Peer *other = peer_new();
        CHECK_EQ(gst_pad_link(pad, other->pad), GST_PAD_LINK_OK);
        CHECK_EQ(peer_wait(other, GST_EVENT_EOS, 1), 1);
        check_late(other);
        gst_pad_unlink(pad, other->pad);
        release(element, pad);
        peer_free(peer);
        peer_free(other);
    }
    support_done(h);
}

static void events_out_of_band_do_not_wait_for_the_branch(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    Peer *peer = peer_new();
    GstPad *pad = request(element);
    peer_hold(peer, TRUE);
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    push(h, 0);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 1), 1);
    gst_harness_push_event(h, custom(FALSE, "waits"));
    gst_harness_push_event(h, gst_event_new_instant_rate_change(2.0, 0));
    gst_harness_push_event(h, gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM_OOB,
                                                   gst_structure_new_empty("passes")));
    CHECK_LINE(peer, "stream-start caps segment cue! custom-downstream-oob:passes");
    CHECK(count_type(peer, GST_EVENT_INSTANT_RATE_CHANGE) >= 1);
    peer_hold(peer, FALSE);
    CHECK_EQ(peer_wait(peer, GST_EVENT_CUSTOM_DOWNSTREAM, 1), 1);
    release(element, pad);
    peer_free(peer);
    support_done(h);
}

static void stream_start_keeps_seqnum_and_group(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    GstEvent *event = gst_event_new_stream_start("video"), *got;
    const gchar *id;
    guint group = 0;
    gst_event_set_group_id(event, 77);
    guint32 seqnum = gst_event_get_seqnum(event);
    for (int late = 0; late < 2; late++) {
        GstPad *pad = request(element);
        if (!late)
            gst_harness_push_event(h, gst_event_ref(event));
        GstSegment segment;
        gst_segment_init(&segment, GST_FORMAT_TIME);
        for (int i = 0; i < 5000 && !(got = gst_pad_get_sticky_event(pad, GST_EVENT_CAPS, 0)); i++)
            g_usleep(1000);
        g_clear_pointer(&got, gst_event_unref);
        g_usleep(10000);
        got = gst_pad_get_sticky_event(pad, GST_EVENT_STREAM_START, 0);
        REQUIRE(got != NULL);
        gst_event_parse_stream_start(got, &id);
        CHECK_STR(id, "video/text");
        CHECK_EQ(gst_event_get_seqnum(got), seqnum);
        CHECK(gst_event_parse_group_id(got, &group));
        CHECK_EQ(group, 77);
        gst_event_unref(got);
        release(element, pad);
    }
    gst_event_unref(event);
    support_done(h);
}

static void discont_marks_what_follows_a_segment_a_flush_or_a_loss(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    Peer *peer = peer_new();
    GstPad *pad = request(element);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    push(h, 0);
    push(h, 33);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    push(h, 66);
    push(h, 100);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 4), 4);
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    push(h, 133);
    push(h, 166);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 6), 6);
    CHECK_LINE(peer, "stream-start caps segment cue! cue segment cue! cue flush-start flush-stop "
                     "segment cue! cue");
    gst_pad_unlink(pad, peer->pad);
    push(h, 200); /* lost */
    CHECK(support_wait_stat(element, "text-dropped", 1));
    CHECK_EQ(support_stat(element, "text-pushed"), 6);
    peer_clear(peer);
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    push(h, 233);
    push(h, 266);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 2), 2);
    CHECK_LINE(peer, "cue! cue"); /* it has the sticky events */
    release(element, pad);
    peer_free(peer);
    support_done(h);
}

static void sticky_events_outlive_a_flush(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    Peer *peer = peer_new();
    GstPad *pad = request(element);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    peer_hold(peer, TRUE);
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    push(h, 0);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 1), 1);
    gst_harness_push_event(h, tag("behind the cue that is held"));
    gst_harness_push_event(h, custom(FALSE, "swept-away"));
    gst_harness_push_event(h, custom(TRUE, "stays"));
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    push(h, 33);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 2), 2);
    CHECK_LINE(peer, "stream-start caps segment cue! flush-start flush-stop segment tag "
                     "custom-downstream-sticky:stays cue!");
    release(element, pad);
    peer_free(peer);
    support_done(h);
}

/* ---- branches that come and go ---- */

static void a_branch_stopped_and_started_again_gets_what_follows(void)
{
    static const GstFlowReturn errors[] = { GST_FLOW_FLUSHING, GST_FLOW_EOS, GST_FLOW_ERROR };
    GstElement *element;
    GstHarness *h = new_harness(&element);
    Peer *peer = peer_new();
    GstPad *pad = request(element);
    guint pts = 0, dropped = 0;
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    push(h, pts += 33);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 1), 1);
    for (guint i = 0; i < G_N_ELEMENTS(errors); i++) {
        if (errors[i] == GST_FLOW_FLUSHING)
            gst_pad_set_active(peer->pad, FALSE); /* as an element does on its way to READY */
        peer->flow = errors[i];
        push(h, pts += 33);
        push(h, pts += 33);
        CHECK(support_wait_stat(element, "text-dropped", dropped += 2));
        peer_clear(peer);
        peer->flow = GST_FLOW_OK;
        gst_pad_set_active(peer->pad, TRUE);
        push(h, pts += 33);
        push(h, pts += 33);
        CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 2), 2);
        CHECK_LINE(peer, errors[i] == GST_FLOW_FLUSHING ? "stream-start caps segment cue! cue"
                                                        : "cue! cue");
    }
    CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
    release(element, pad);
    peer_free(peer);
    support_done(h);
}

static void a_pad_linked_late_hears_where_the_stream_stands(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    Peer *peer = peer_new();
    GstPad *pad = request(element);
    push(h, 0);
    push(h, 500);
    CHECK(support_wait_stat(element, "text-dropped", 2)); /* counted: nobody had them */
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    CHECK(peer_wait(peer, GST_EVENT_GAP, 1) >= 1); /* so that a sink behind it can preroll */
    CHECK_LINE(peer, "stream-start caps segment");
    release(element, pad);
    peer_free(peer);
    support_done(h);
}

static void a_branch_that_does_not_go_on_has_a_bounded_queue(void)
{
    GstElement *element;
    GstHarness *h = new_harness(&element);
    Peer *peer = peer_new();
    GstPad *pad = request(element);
    peer_hold(peer, TRUE);
    CHECK_EQ(gst_pad_link(pad, peer->pad), GST_PAD_LINK_OK);
    push(h, 0);
    CHECK_EQ(peer_wait(peer, GST_EVENT_UNKNOWN, 1), 1);
    for (guint i = 0; i < 5000; i++) {
        gst_harness_push_event(h, custom(FALSE, "many"));
        gst_harness_push_event(h, tag("many"));
    }
    gst_harness_push_event(h, custom(FALSE, "last"));
    peer_hold(peer, FALSE);
    gst_harness_push_event(h, gst_event_new_eos());
    CHECK_EQ(peer_wait(peer, GST_EVENT_EOS, 1), 1);
    guint tags = count_type(peer, GST_EVENT_TAG),
          customs = count_type(peer, GST_EVENT_CUSTOM_DOWNSTREAM);
    printf("# of 10001 events %u were kept\n", tags + customs);
    CHECK(tags + customs <= 1025 && tags >= 1 && customs >= 1);
    release(element, pad);
    peer_free(peer);
    support_done(h);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(releasing_the_pad_leaves_a_subtitle_file_whole);
    TEST(releasing_the_pad_leaves_a_recording_whole);
    TEST(releasing_a_pad_waits_for_nobody);
    TEST(a_released_pad_posts_nothing_any_more);
    TEST(serialized_events_pass_in_their_order);
    TEST(events_out_of_band_do_not_wait_for_the_branch);
    TEST(stream_start_keeps_seqnum_and_group);
    TEST(discont_marks_what_follows_a_segment_a_flush_or_a_loss);
    TEST(sticky_events_outlive_a_flush);
    TEST(a_branch_stopped_and_started_again_gets_what_follows);
    TEST(a_pad_linked_late_hears_where_the_stream_stands);
    TEST(a_branch_that_does_not_go_on_has_a_bounded_queue);
    return test_end();
}
