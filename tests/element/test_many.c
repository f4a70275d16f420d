/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* K-03: sixteen elements in four pipelines, made, played, taken out and freed at random while the
 * others go on. Each of the two models is loaded once and freed once, every result has a status,
 * and a watchdog sees to it that no pipeline stands. With a scripted engine. */
#include "fake_engine.h"
#include "results.h"

#define PIPELINES 4
#define BRANCHES 4
#define SOURCE                                                                                     \
    "videotestsrc is-live=true ! video/x-raw,format=RGB,width=16,height=8,framerate=30/1 ! "

typedef struct {
    guint number;
    GstElement *pipeline, *branches[BRANCHES];
    GRand *random;
    GMutex lock;
    gint64 alive; /* when its thread last finished a step; guarded by the lock */
    guint made, results;
} Line;

static int stop; /* atomic */

/* ---- the watchdog ---- */

static void step_done(Line *line)
{
    g_mutex_lock(&line->lock);
    line->alive = g_get_monotonic_time();
    g_mutex_unlock(&line->lock);
}

/* Watch for so long; the first line that takes longer than `limit` microseconds over a step, or
 * NULL. */
static Line *find_standing(Line *lines, guint n, gint64 limit, gint64 how_long)
{
    const gint64 end = g_get_monotonic_time() + how_long;
    while (g_get_monotonic_time() < end) {
        for (guint i = 0; i < n; i++) {
            g_mutex_lock(&lines[i].lock);
            const gint64 since = g_get_monotonic_time() - lines[i].alive;
            g_mutex_unlock(&lines[i].lock);
            if (since > limit)
                return &lines[i];
        }
        g_usleep(50 * 1000);
    }
    return NULL;
}

static gpointer step_thrice(gpointer user)
{
    for (guint i = 0; i < 3; i++) {
        step_done(user);
        g_usleep(100 * 1000);
    }
    return NULL;
}

static void the_watchdog_finds_the_line_that_stands(void)
{
    Line lines[3] = { 0 };
    GThread *threads[2];
    for (guint i = 0; i < 3; i++) {
        g_mutex_init(&lines[i].lock);
        step_done(&lines[i]);
    }
    threads[0] = g_thread_new("steps", step_thrice, &lines[0]);
    CHECK(find_standing(lines, 1, PATIENCE / GST_USECOND, 200 * 1000) == NULL);
    step_done(&lines[1]);
    threads[1] = g_thread_new("steps", step_thrice, &lines[1]);
    CHECK(find_standing(lines + 1, 2, 300 * 1000, PATIENCE / GST_USECOND) == &lines[2]);
    g_thread_join(threads[0]);
    g_thread_join(threads[1]);
    for (guint i = 0; i < 3; i++)
        g_mutex_clear(&lines[i].lock);
}

/* ---- the pipelines ---- */

static GstBusSyncReply read_message(GstBus *bus, GstMessage *message, gpointer user)
{
    static const char *const statuses[] = {
        "ok", "unchanged", "timeout", "dropped", "error", NULL
    };
    Line *line = user;
    if (gst_message_has_name(message, "glm4vdescribe-result")) {
        const GstStructure *result = gst_message_get_structure(message);
        const char *status = gst_structure_get_string(result, "status");
        if (!g_strv_contains(statuses, status))
            test_fail(__FILE__, __LINE__, "status %s", status);
        g_mutex_lock(&line->lock);
        line->results++;
        g_mutex_unlock(&line->lock);
    } else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
        test_fail(__FILE__, __LINE__, "an error of %s", GST_MESSAGE_SRC_NAME(message));
    }
    gst_message_unref(message);
    return GST_BUS_DROP;
}

static void make_branch(Line *line, guint at)
{
    GError *error = NULL;
    gchar *description = g_strdup_printf(
        SOURCE "glm4vdescribe name=d model-location=" SOURCE_ROOT " mode=async sample-mode=all %s "
               "%s ! fakesink async=false %s",
        at % 2 ? "quantization=int8" : "", at % 3 ? "prompt=Well?" : "",
        at == 2 ? "d.text ! queue ! fakesink async=false" : "");
    GstElement *branch = gst_parse_bin_from_description(description, FALSE, &error);
    g_free(description);
    if (!branch) {
        test_fail(__FILE__, __LINE__, "%s", error->message);
        return;
    }
    gst_bin_add(GST_BIN(line->pipeline), branch);
    if (!gst_element_sync_state_with_parent(branch))
        test_fail(__FILE__, __LINE__, "a branch does not follow its pipeline");
    line->branches[at] = branch;
    line->made++;
}

static void free_branch(Line *line, guint at)
{
    GstElement *branch = g_steal_pointer(&line->branches[at]);
    gst_element_set_locked_state(branch, TRUE);
    gst_element_set_state(branch, GST_STATE_NULL);
    gst_bin_remove(GST_BIN(line->pipeline), branch);
}

static void make_pipeline(Line *line)
{
    line->pipeline = gst_pipeline_new(NULL);
    GstBus *bus = gst_element_get_bus(line->pipeline);
    gst_bus_set_sync_handler(bus, read_message, line, NULL);
    gst_object_unref(bus);
    for (guint at = 0; at < BRANCHES; at++)
        if (g_rand_int_range(line->random, 0, 3))
            make_branch(line, at);
    gst_element_set_state(line->pipeline, GST_STATE_PLAYING);
}

static void free_pipeline(Line *line)
{
    gst_element_set_state(line->pipeline, GST_STATE_NULL);
    memset(line->branches, 0, sizeof line->branches);
    gst_clear_object(&line->pipeline);
}

static void change_something(Line *line)
{
    static const GstState states[] = { GST_STATE_NULL, GST_STATE_READY, GST_STATE_PAUSED,
                                       GST_STATE_PLAYING, GST_STATE_PLAYING };
    const guint at = (guint)g_rand_int_range(line->random, 0, BRANCHES);
    switch (g_rand_int_range(line->random, 0, 8)) {
    case 0:
        free_pipeline(line);
        step_done(line);
        make_pipeline(line);
        break;
    case 1:
    case 2:
        gst_element_set_state(line->pipeline,
                              states[g_rand_int_range(line->random, 0, G_N_ELEMENTS(states))]);
        break;
    default:
        if (line->branches[at])
            free_branch(line, at);
        else
            make_branch(line, at);
    }
}

static gpointer run_line(gpointer user)
{
    Line *line = user;
    make_pipeline(line);
    while (!g_atomic_int_get(&stop)) {
        step_done(line);
        g_usleep((gulong)g_rand_int_range(line->random, 0, 120 * 1000));
        step_done(line);
        change_something(line);
    }
    free_pipeline(line);
    step_done(line);
    return NULL;
}

/* A model's engine is there as long as one element has it. */
static GstElement *keep_engine(const char *quantization)
{
    GstElement *element = support_element("quantization", quantization, NULL);
    gst_element_set_state(element, GST_STATE_READY);
    CHECK_EQ(support_wait_loaded(element), GST_PROGRESS_TYPE_COMPLETE);
    return element;
}

static void run_lines(Line *lines, gint64 how_long)
{
    /* 10 s on an idle machine are far more than any step needs */
    const gint64 limit = 10 * G_USEC_PER_SEC * (TEST_SANITIZED ? 3 : 1);
    GThread *threads[PIPELINES];
    g_atomic_int_set(&stop, 0);
    for (guint i = 0; i < PIPELINES; i++) {
        lines[i].number = i;
        lines[i].random = g_rand_new_with_seed(i + 1);
        g_mutex_init(&lines[i].lock);
        step_done(&lines[i]);
        threads[i] = g_thread_new("line", run_line, &lines[i]);
    }
    const Line *standing = find_standing(lines, PIPELINES, limit, how_long);
    if (standing) { /* nobody can join it */
        printf("Bail out! line %u stands\n", standing->number);
        abort();
    }
    g_atomic_int_set(&stop, 1);
    for (guint i = 0; i < PIPELINES; i++)
        g_thread_join(threads[i]);
}

static void sixteen_elements_that_come_and_go_share_two_engines_throughout(void)
{
    Line lines[PIPELINES] = { 0 };
    guint made = 0, results = 0;
    fake_set((fake_script) { .load_ns = 20 * MS, .answer_ns = 2 * MS });
    GstElement *keepers[] = { keep_engine(NULL), keep_engine("int8") };
    run_lines(lines, support_count(60, 1800) * G_USEC_PER_SEC);
    for (guint i = 0; i < PIPELINES; i++) {
        made += lines[i].made;
        results += lines[i].results;
        CHECK(lines[i].made > BRANCHES);
        CHECK(lines[i].results > 0);
        g_rand_free(lines[i].random);
        g_mutex_clear(&lines[i].lock);
    }
    printf("# %u elements, %u results\n", made, results);
    CHECK_EQ(fake_get().opened, 2);
    CHECK_EQ(fake_get().models, 2);
    CHECK_EQ(fake_get().engines, 2);
    CHECK_EQ(fake_get().requests, 0);
    for (guint i = 0; i < G_N_ELEMENTS(keepers); i++) {
        support_free(keepers[i]);
        CHECK_EQ(fake_get().models, 1 - (int)i);
        CHECK_EQ(fake_get().engines, 1 - (int)i);
    }
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(the_watchdog_finds_the_line_that_stands);
    TEST(sixteen_elements_that_come_and_go_share_two_engines_throughout);
    return test_end();
}
