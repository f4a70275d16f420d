/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* E-01: every row of the element's table of failures is triggered, and tells exactly once what
 * happened, where and what to do. A row without a trigger fails the test. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_engine.h"
#include "gstglm4verror.h"
#include "results.h"

/* ---- a process that has no threads left ---- */

static gboolean no_threads;

/* ThreadSanitizer's is in this program, so that dlsym() would pass it by. */
#if TEST_TSAN
int __interceptor_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                                 void *(*run)(void *), void *user);
#endif

__attribute__((visibility("default"))) int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *user)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (no_threads)
        return EAGAIN;
#if TEST_TSAN
    real = __interceptor_pthread_create;
#endif
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attr, run, user);
}

/* ---- memory that cannot be mapped ---- */

typedef struct {
    GstAllocator parent;
} BlindAllocator;
typedef struct {
    GstAllocatorClass parent;
} BlindAllocatorClass;
GType blind_allocator_get_type(void);
G_DEFINE_TYPE(BlindAllocator, blind_allocator, GST_TYPE_ALLOCATOR)

static gpointer refuse_map(GstMemory *memory, gsize size, GstMapFlags flags)
{
    return NULL;
}

static void no_unmap(GstMemory *memory)
{
}

static void free_memory(GstAllocator *allocator, GstMemory *memory)
{
    g_free(memory);
}

static void blind_allocator_class_init(BlindAllocatorClass *klass)
{
    GST_ALLOCATOR_CLASS(klass)->free = free_memory;
}

static void blind_allocator_init(BlindAllocator *self)
{
    GST_ALLOCATOR(self)->mem_map = refuse_map;
    GST_ALLOCATOR(self)->mem_unmap = no_unmap;
}

static GstBuffer *blind_frame(void)
{
    GstAllocator *allocator = g_object_new(blind_allocator_get_type(), NULL);
    GstMemory *memory = g_new0(GstMemory, 1);
    GstBuffer *buffer = gst_buffer_new();
    gst_memory_init(memory, 0, allocator, NULL, 16 * 8 * 3, 0, 0, 16 * 8 * 3);
    gst_buffer_append_memory(buffer, memory);
    GST_BUFFER_PTS(buffer) = 0;
    gst_object_unref(allocator);
    return buffer;
}

/* ---- triggers: what leads to the fault; they end in NULL ---- */

static void to_ready(GstElement *element)
{
    gst_element_set_state(element, GST_STATE_READY);
    g_usleep(50000); /* faults of loading come from the worker */
}

static void with_bad_path(GstElement *element)
{
    g_object_set(element, "model-location", "/nonexistent/model", NULL);
    to_ready(element);
}

static void without_threads(GstElement *element)
{
    no_threads = TRUE;
    to_ready(element);
    no_threads = FALSE;
}

/* Beside an element that is set up otherwise. */
static void beside_another(GstElement *element)
{
    GstElement *other = support_element("max-batch", 9, NULL);
    gst_object_set_name(GST_OBJECT(other), "other-element");
    gst_element_set_state(other, GST_STATE_READY);
    gst_element_set_state(element, GST_STATE_READY);
    support_free(other);
}

static void with_a_property_of_the_engine_while_playing(GstElement *element)
{
    gst_element_set_state(element, GST_STATE_PAUSED);
    g_object_set(element, "max-batch", 9, NULL);
}

static void with_what_excludes_each_other(GstElement *element)
{
    g_object_set(element, "sample-mode", 3, "change-threshold", 0.1, NULL);
    gst_element_set_state(element, GST_STATE_PAUSED);
}

static void with_no_choices(GstElement *element)
{
    gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
    gst_element_set_state(element, GST_STATE_PAUSED);
}

static void with_a_missing_prompt(GstElement *element)
{
    g_object_set(element, "prompt-location", "/nonexistent/prompt", NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    gst_harness_teardown(h);
}

static void push(GstElement *element, GstBuffer *buffer, const char *caps)
{
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_src_caps_str(h, caps);
    gst_harness_push(h, buffer);
    gst_harness_teardown(h);
}

static void one_frame(GstElement *element)
{
    push(element, support_frame(CAPS_SMALL, 1, 0), CAPS_SMALL);
}

/* ---- servers, where the plugin has a client of them ---- */

#ifdef HAVE_REMOTE
/* Answers every connection with the same words, until its socket is shut down. */
typedef struct {
    int socket;
    const char *words;
} canned_server;

static void *answer_all(void *user)
{
    const canned_server *server = user;
    char request[8192];
    int client;
    while ((client = accept(server->socket, NULL, NULL)) >= 0) {
        if (recv(client, request, sizeof request, 0) > 0)
            CHECK(send(client, server->words, strlen(server->words), MSG_NOSIGNAL) > 0);
        shutdown(client, SHUT_WR); /* what is unread must not reset the connection */
        while (recv(client, request, sizeof request, 0) > 0)
            ;
        close(client);
    }
    return NULL;
}

/* A port of this machine; who connects is kept waiting. */
static int listen_at(char url[64])
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(!bind(listening, (struct sockaddr *)&address, sizeof address));
    CHECK(!listen(listening, 4));
    CHECK(!getsockname(listening, (struct sockaddr *)&address, &size));
    snprintf(url, 64, "http://127.0.0.1:%d/v1", ntohs(address.sin_port));
    return listening;
}

static void ask_canned(GstElement *element, const char *words)
{
    char url[64];
    canned_server server = { listen_at(url), words };
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, answer_all, &server));
    g_object_set(element, "model-location", NULL, "endpoint", url, "model", "m", NULL);
    one_frame(element);
    shutdown(server.socket, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(server.socket);
}

static void with_no_endpoint(GstElement *element)
{
    g_object_set(element, "model-location", NULL, "endpoint", "ftp://host/v1", NULL);
    to_ready(element);
}

static void without_a_server(GstElement *element)
{
    g_object_set(element, "model-location", NULL, "endpoint", "http://127.0.0.1:1/v1", "model", "m",
                 NULL);
    one_frame(element);
}

static void with_a_server_that_refuses(GstElement *element)
{
    ask_canned(element, "HTTP/1.1 404 No\r\nContent-Length: 7\r\nConnection: close\r\n\r\nunknown");
}

static void with_a_server_of_something_else(GstElement *element)
{
    ask_canned(element, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
}
#endif

static void short_frame(GstElement *element)
{
    push(element, gst_buffer_new_allocate(NULL, 10, NULL), CAPS_SMALL);
}

static void unmappable_frame(GstElement *element)
{
    push(element, blind_frame(), CAPS_SMALL);
}

/* Frames on a GPU, and nothing else. */
static void cuda_caps(GstElement *element)
{
    GstPad *pad = gst_element_get_static_pad(element, "sink");
    GstCaps *caps = gst_caps_from_string("video/x-raw(memory:CUDAMemory),format=NV12");
    gst_element_set_state(element, GST_STATE_READY);
    GstCaps *both = gst_pad_query_caps(pad, caps);
    CHECK(gst_caps_is_empty(both));
    gst_caps_unref(both);
    gst_caps_unref(caps);
    gst_object_unref(pad);
}

static void huge_caps(GstElement *element)
{
    push(element, gst_buffer_new(),
         "video/x-raw,format=RGB,width=16384,height=16384,framerate=1/1");
}

static GstFlowReturn refuse(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    gst_buffer_unref(buffer);
    return GST_FLOW_NOT_NEGOTIATED;
}

static void bad_text_branch(GstElement *element)
{
    GstPad *text = gst_element_request_pad_simple(element, "text"),
           *sink = gst_pad_new("sink", GST_PAD_SINK);
    gst_pad_set_chain_function(sink, refuse);
    gst_pad_set_active(sink, TRUE);
    gst_pad_link(text, sink);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    g_usleep(50000);
    gst_harness_teardown(h);
    gst_element_release_request_pad(element, text);
    gst_object_unref(text);
    gst_object_unref(sink);
}

static void stop_while_hanging(GstElement *element)
{
    g_object_set(element, "mode", 1, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    support_wait_loaded(element);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    g_usleep(50000);
    gst_harness_teardown(h);
}

static void with_a_declared_delay(GstElement *element)
{
    g_object_set(element, "mode", 1, "lateness", (guint64)MS, NULL);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    gst_harness_set_src_caps_str(h, CAPS_SMALL);
    support_wait_loaded(element);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    support_wait_stat(element, "results", 1);
    g_usleep(50000);
    gst_harness_teardown(h);
}

static void with_a_short_stall_timeout(GstElement *element)
{
    g_object_set(element, "stall-timeout", (guint64)(50 * MS), NULL);
    one_frame(element);
    g_usleep(400 * 1000); /* until the engine lets go */
}

/* ---- the table ---- */

typedef struct {
    GstGlm4vFault fault;
    GstMessageType type;
    const char *where; /* stands in the text */
    fake_script script;
    void (*trigger)(GstElement *element);
} Trigger;

static const Trigger triggers[] = {
    { GST_GLM4V_FAULT_NO_MODEL, GST_MESSAGE_ERROR, "/nonexistent/model", { 0 }, with_bad_path },
    { GST_GLM4V_FAULT_MODEL_SETTINGS,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .inspect_code = GLM4V_ERR_INVALID },
      to_ready },
    { GST_GLM4V_FAULT_MODEL_MEMORY,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .open_code = GLM4V_ERR_NOMEM },
      to_ready },
    { GST_GLM4V_FAULT_MODEL_MISSING,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .inspect_code = GLM4V_ERR_NOT_FOUND },
      to_ready },
    { GST_GLM4V_FAULT_MODEL_READ,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .open_code = GLM4V_ERR_IO },
      to_ready },
    { GST_GLM4V_FAULT_MODEL_FORMAT,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .inspect_code = GLM4V_ERR_FORMAT },
      to_ready },
    { GST_GLM4V_FAULT_MODEL_UNSUPPORTED,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .inspect_code = GLM4V_ERR_UNSUPPORTED },
      to_ready },
    { GST_GLM4V_FAULT_MODEL_DEVICE,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .engine_code = GLM4V_ERR_DEVICE },
      to_ready },
    { GST_GLM4V_FAULT_MODEL_INTERNAL,
      GST_MESSAGE_ERROR,
      SOURCE_ROOT,
      { .open_code = GLM4V_ERR_INTERNAL },
      to_ready },
    { GST_GLM4V_FAULT_SHARING,
      GST_MESSAGE_ERROR,
      "max-batch is 4 here and 9 in /GstGlm4vDescribe:other-element",
      { 0 },
      beside_another },
    { GST_GLM4V_FAULT_LATER,
      GST_MESSAGE_WARNING,
      "max-batch: the engine keeps the old value",
      { 0 },
      with_a_property_of_the_engine_while_playing },
    { GST_GLM4V_FAULT_CONFLICT,
      GST_MESSAGE_ERROR,
      "change-threshold",
      { 0 },
      with_what_excludes_each_other },
    { GST_GLM4V_FAULT_SHAPE, GST_MESSAGE_ERROR, "choices is empty", { 0 }, with_no_choices },
    { GST_GLM4V_FAULT_PROMPT_FILE,
      GST_MESSAGE_WARNING,
      "/nonexistent/prompt",
      { 0 },
      with_a_missing_prompt },
    { GST_GLM4V_FAULT_THREAD, GST_MESSAGE_ERROR, "thread", { 0 }, without_threads },
    { GST_GLM4V_FAULT_CAPS, GST_MESSAGE_ERROR, "width=(int)16384", { 0 }, huge_caps },
    { GST_GLM4V_FAULT_CUDA_MEMORY, GST_MESSAGE_WARNING, "memory:CUDAMemory", { 0 }, cuda_caps },
    { GST_GLM4V_FAULT_FRAME_SIZE,
      GST_MESSAGE_WARNING,
      "10 bytes, expected 384",
      { 0 },
      short_frame },
    { GST_GLM4V_FAULT_FRAME_MAP, GST_MESSAGE_WARNING, "frame 0", { 0 }, unmappable_frame },
    { GST_GLM4V_FAULT_FRAME_MEMORY,
      GST_MESSAGE_WARNING,
      "frame 0",
      { .result_code = GLM4V_ERR_NOMEM },
      one_frame },
    { GST_GLM4V_FAULT_FRAME_REFUSED,
      GST_MESSAGE_WARNING,
      "frame 0",
      { .submit_code = GLM4V_ERR_INVALID },
      one_frame },
    { GST_GLM4V_FAULT_FRAME_DEVICE,
      GST_MESSAGE_WARNING,
      "frame 0",
      { .result_code = GLM4V_ERR_DEVICE },
      one_frame },
    { GST_GLM4V_FAULT_FRAME_INTERNAL,
      GST_MESSAGE_WARNING,
      "frame 0",
      { .result_code = GLM4V_ERR_INTERNAL },
      one_frame },
#ifdef HAVE_REMOTE
    { GST_GLM4V_FAULT_SERVER_SETTINGS,
      GST_MESSAGE_ERROR,
      "ftp://host/v1 is no endpoint",
      { 0 },
      with_no_endpoint },
    { GST_GLM4V_FAULT_SERVER, GST_MESSAGE_WARNING, "127.0.0.1 port 1 ", { 0 }, without_a_server },
    { GST_GLM4V_FAULT_SERVER_REFUSED,
      GST_MESSAGE_WARNING,
      "status 404: unknown",
      { 0 },
      with_a_server_that_refuses },
    { GST_GLM4V_FAULT_SERVER_ANSWER,
      GST_MESSAGE_WARNING,
      "frame 0",
      { 0 },
      with_a_server_of_something_else },
#endif
    { GST_GLM4V_FAULT_TEXT_FLOW,
      GST_MESSAGE_ERROR,
      "pad text: not-negotiated",
      { 0 },
      bad_text_branch },
    { GST_GLM4V_FAULT_DELAY,
      GST_MESSAGE_WARNING,
      "lateness",
      { .answer_ns = 30 * MS },
      with_a_declared_delay },
    { GST_GLM4V_FAULT_STALLED,
      GST_MESSAGE_WARNING,
      "frame 0",
      { .answer_ns = 300 * MS, .hang = true },
      with_a_short_stall_timeout },
    { GST_GLM4V_FAULT_STUCK,
      GST_MESSAGE_WARNING,
      "two seconds",
      { .answer_ns = 3000 * MS, .hang = true },
      stop_while_hanging },
};

/* "FILE(LINE): FUNCTION (): ..." names a line of our sources that posts something. */
static void check_place(const gchar *debug)
{
    gchar *path = NULL, *source = NULL, **lines = NULL;
    gboolean posts = FALSE;
    char file[64];
    int line = 0;
    CHECK(strstr(debug, "gstglm4verror.c") == NULL);
    if (sscanf(debug, "%63[^(](%d)", file, &line) != 2 || strrchr(file, '/')) {
        test_fail(__FILE__, __LINE__, "no place in \"%s\"", debug);
        return;
    }
    path = g_build_filename(SOURCE_ROOT, "gst-plugin", file, NULL);
    if (g_file_get_contents(path, &source, NULL, NULL))
        lines = g_strsplit(source, "\n", -1);
    /* The compiler may count to the end of the call. */
    for (int i = MAX(line - 5, 0); lines && i < line && lines[i]; i++)
        posts |= strstr(lines[i], "gst_glm4v_fault_post") != NULL;
    if (!posts)
        test_fail(__FILE__, __LINE__, "%s, line %d posts nothing", path, line);
    g_strfreev(lines);
    g_free(source);
    g_free(path);
}

static void check_message(const Trigger *trigger, GstMessage *message)
{
    GError *error = NULL;
    GQuark domain;
    gchar *debug = NULL;
    gint code;
    const gchar *what, *advice;
    gst_glm4v_fault_describe(trigger->fault, &domain, &code, &what, &advice);
    if (trigger->type == GST_MESSAGE_ERROR)
        gst_message_parse_error(message, &error, &debug);
    else
        gst_message_parse_warning(message, &error, &debug);
    printf("# %s\n", error->message);
    CHECK(error->domain == domain);
    CHECK_EQ(error->code, code);
    CHECK_CONTAINS(error->message, what);
    CHECK_CONTAINS(error->message, advice);
    CHECK_CONTAINS(error->message, trigger->where);
    CHECK(strstr(error->message, "0x") == NULL);
    check_place(debug);
    if (trigger->fault <= GST_GLM4V_FAULT_MODEL_INTERNAL)
        CHECK(domain == GST_RESOURCE_ERROR || domain == GST_LIBRARY_ERROR);
    g_free(debug);
    g_error_free(error);
}

static void check_trigger(const Trigger *trigger)
{
    GstElement *element = support_element("mode", 2, NULL);
    GstBus *bus = gst_element_get_bus(element);
    GstMessage *message;
    guint n = 0;
    fake_set(trigger->script);
    trigger->trigger(element);
    while ((message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING))) {
        CHECK(GST_MESSAGE_TYPE(message) == trigger->type);
        check_message(trigger, message);
        gst_message_unref(message);
        n++;
    }
    if (n != 1)
        test_fail(__FILE__, __LINE__, "fault %d gave %u messages", (int)trigger->fault, n);
    gst_object_unref(bus);
    support_free(element);
}

static void every_failure_is_told_once_with_what_where_and_what_to_do(void)
{
    gboolean seen[GST_GLM4V_N_FAULTS] = { FALSE };
    for (guint i = 0; i < G_N_ELEMENTS(triggers); i++) {
        seen[triggers[i].fault] = TRUE;
        check_trigger(&triggers[i]);
    }
#ifndef HAVE_REMOTE
    for (guint i = GST_GLM4V_FAULT_SERVER_SETTINGS; i <= GST_GLM4V_FAULT_SERVER_ANSWER; i++)
        seen[i] = TRUE;
#endif
    for (guint i = 0; i < GST_GLM4V_N_FAULTS; i++)
        if (!seen[i])
            test_fail(__FILE__, __LINE__, "fault %u has no trigger", i);
}

static void on_error_fail_ends_the_stream_with_one_error(void)
{
    static const fake_script scripts[] = { { .result_code = GLM4V_ERR_INTERNAL }, { 0 } };
    for (guint i = 0; i < 2; i++) {
        fake_set(scripts[i]);
        GstElement *element = support_element("mode", 2, "on-error", 1, "sample-mode", 2, NULL);
        GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
        GstBuffer *frame =
            i == 0 ? support_frame(CAPS_SMALL, 1, 0) : gst_buffer_new_allocate(NULL, 10, NULL);
        CHECK_EQ(gst_harness_push(h, frame), GST_FLOW_ERROR);
        CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, 33)), GST_FLOW_ERROR);
        CHECK_EQ(support_count_messages(element, GST_MESSAGE_ERROR), 1);
        support_done(h);
    }
}

static void failed_frames_have_a_result_that_says_so(void)
{
    fake_set((fake_script) { .result_code = GLM4V_ERR_INTERNAL });
    GstElement *element = support_element("mode", 2, NULL);
    GstHarness *h = support_harness(element, FALSE, CAPS_SMALL);
    CHECK_EQ(gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0)), GST_FLOW_OK);
    GstBuffer *out = gst_harness_pull(h);
    const GstStructure *meta = support_meta(out);
    REQUIRE(meta != NULL);
    CHECK_STR(gst_structure_get_string(meta, "status"), "error");
    CHECK_CONTAINS(gst_structure_get_string(meta, "message"), "scripted failure");
    CHECK_EQ(support_stat(element, "errors"), 1);
    gst_buffer_unref(out);
    support_done(h);
}

#ifdef HAVE_REMOTE
static void a_server_that_is_silent_is_named(void)
{
    char url[64];
    int listening = listen_at(url);
    GstElement *element = support_element("mode", 1, "sample-mode", SAMPLE_ALL, "stall-timeout",
                                          (guint64)(100 * MS), "endpoint", url, "model", "m", NULL);
    g_object_set(element, "model-location", NULL, NULL);
    GstHarness *h = support_harness(element, TRUE, CAPS_SMALL);
    gst_harness_push(h, support_frame(CAPS_SMALL, 1, 0));
    GstStructure *told = results_next_named(element, "glm4vdescribe-stalled");
    REQUIRE(told != NULL);
    CHECK_STR(gst_structure_get_string(told, "endpoint"), url);
    GstStructure *result = results_next(element);
    REQUIRE(result != NULL);
    CHECK_STR(gst_structure_get_string(result, "status"), "error");
    CHECK_CONTAINS(gst_structure_get_string(result, "message"), url);
    CHECK_CONTAINS(gst_structure_get_string(result, "message"), "stall-timeout");
    gst_structure_free(result);
    gst_structure_free(told);
    support_done(h);
    close(listening);
}
#endif

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(every_failure_is_told_once_with_what_where_and_what_to_do);
    TEST(on_error_fail_ends_the_stream_with_one_error);
    TEST(failed_frames_have_a_result_that_says_so);
#ifdef HAVE_REMOTE
    TEST(a_server_that_is_silent_is_named);
#endif
    return test_end();
}
