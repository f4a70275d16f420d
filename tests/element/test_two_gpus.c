/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Elements on the GPUs of one machine: when a GPU is lost in mid-stream the pipeline goes on and
 * says which; eight elements spread over two give the answers of one GPU. With one GPU what needs
 * two is skipped, without any the exit status is 77. */
#include <glm4v/glm4v.h>

#include "support.h"

#define BRANCH                                                                                     \
    "videotestsrc num-buffers=%u pattern=%u ! video/x-raw,format=NV12,width=320,height=%u "        \
    "! glm4vdescribe name=d%u device=\"%s\" mode=sync sample-mode=all max-tokens=24 "              \
    "model-location=\"" SOURCE_ROOT "/models/surface-tiny\" ! fakesink name=s%u "

enum { BRANCHES = 8, FRAMES = 100 };

static gboolean two; /* or more GPUs are there */

/* ---- pipelines ---- */

/* What the results of a branch are, one a line. */
typedef struct {
    GString *texts, *failures;
    guint ok, failed, frames;
} branch;

static void clear(branch *b)
{
    g_string_free(b->texts, TRUE);
    g_string_free(b->failures, TRUE);
}

/* A line with a branch for each of these devices. */
static GstElement *launch(guint frames, const char *const *devices, guint n)
{
    GString *line = g_string_new(NULL);
    for (guint i = 0; i < n; i++)
        g_string_append_printf(line, BRANCH, frames, i, 180 + 16 * i, i, devices[i], i);
    GstElement *pipeline = support_launch(line->str);
    g_string_free(line, TRUE);
    return pipeline;
}

/* Element "d0" belongs to the first branch. */
static void take_result(const char *element, const GstStructure *result, void *branches)
{
    branch *b = (branch *)branches + (element[1] - '0');
    if (!strcmp(gst_structure_get_string(result, "status"), "ok")) {
        CHECK_EQ(b->failed, 0); /* what is lost does not come back by itself */
        g_string_append_printf(b->texts, "%s\n", gst_structure_get_string(result, "text"));
        b->ok++;
    } else {
        CHECK_STR(gst_structure_get_string(result, "status"), "error");
        g_string_append_printf(b->failures, "%s\n", gst_structure_get_string(result, "message"));
        b->failed++;
    }
}

static GstPadProbeReturn count_frame(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    ((branch *)user)->frames++;
    return GST_PAD_PROBE_OK;
}

static void play(GstElement *pipeline, branch *branches, guint n)
{
    for (guint i = 0; i < n; i++) {
        char name[] = { 's', (char)('0' + i), 0 };
        GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), name);
        GstPad *pad = gst_element_get_static_pad(sink, "sink");
        branches[i] = (branch) { .texts = g_string_new(NULL), .failures = g_string_new(NULL) };
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, count_frame, &branches[i], NULL);
        gst_object_unref(pad);
        gst_object_unref(sink);
    }
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    support_collect(pipeline, take_result, branches);
    for (guint i = 0; i < n; i++) {
        CHECK_EQ(branches[i].frames, FRAMES);
        CHECK_EQ(branches[i].ok + branches[i].failed, FRAMES);
    }
}

static void play_once(const char *const *devices, branch *branches, guint n)
{
    GstElement *pipeline = launch(FRAMES, devices, n);
    play(pipeline, branches, n);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pipeline);
}

/* ---- tests ---- */

static void eight_elements_over_both_gpus_have_the_answers_of_one(void)
{
    static const char *const one[BRANCHES] = { "cuda:0", "cuda:0", "cuda:0", "cuda:0",
                                               "cuda:0", "cuda:0", "cuda:0", "cuda:0" };
    static const char *const both[BRANCHES] = { "cuda:0", "cuda:1", "cuda:0", "cuda:1",
                                                "cuda:0", "cuda:1", "cuda:0", "cuda:1" };
    branch expected[BRANCHES], got[BRANCHES];
    if (!two)
        SKIP("a second GPU is needed");
    gint64 began = g_get_monotonic_time();
    play_once(one, expected, BRANCHES);
    const gint64 alone = g_get_monotonic_time() - began;
    for (int round = 0; round < 2; round++) {
        began = g_get_monotonic_time();
        play_once(both, got, BRANCHES);
        printf("# %d frames: %.2f s on one GPU, %.2f s on two\n", BRANCHES * FRAMES,
               (double)alone / 1e6, (double)(g_get_monotonic_time() - began) / 1e6);
        for (guint i = 0; i < BRANCHES; i++) {
            CHECK_EQ(got[i].failed, 0);
            CHECK_STR(got[i].texts->str, expected[i].texts->str);
            clear(&got[i]);
        }
    }
    for (guint i = 0; i < BRANCHES; i++)
        clear(&expected[i]);
}

/* The last branch needs the GPU of the fault, for a part of its model or all of it. */
static void lose(const char *fault, const char *gpu, const char *const *devices, guint n)
{
    const guint last = n - 1;
    branch first[2], again[2];
    g_setenv("GLM4V_CUDA_FAULT", fault, TRUE); /* read when a device is opened */
    GstElement *pipeline = launch(FRAMES, devices, n);
    play(pipeline, first, n);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    g_unsetenv("GLM4V_CUDA_FAULT");
    CHECK(first[last].ok > 0 && first[last].failed > 0);
    char **failures = g_strsplit(first[last].failures->str, "\n", -1);
    for (guint i = 0; i < first[last].failed; i++)
        CHECK_CONTAINS(failures[i], gpu);
    printf("# %s: %u frames described, %u failed: %s\n", devices[last], first[last].ok,
           first[last].failed, failures[0]);
    g_strfreev(failures);

    play(pipeline, again, n);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pipeline);
    for (guint i = 0; i < n; i++) {
        CHECK(i == last || !first[i].failed);
        CHECK_EQ(again[i].failed, 0);
        CHECK(g_str_has_prefix(again[i].texts->str, first[i].texts->str));
        clear(&first[i]);
        clear(&again[i]);
    }
}

static void a_lost_gpu_is_an_error_of_its_frames_and_comes_back_from_null(void)
{
    lose("launch@0:400:700", "cuda:0", (const char *const[]) { "cuda:0" }, 1);
}

static void a_lost_gpu_is_named_and_the_pipeline_goes_on(void)
{
    if (!two)
        SKIP("a second GPU is needed");
    lose("launch@1:400:700", "cuda:1", (const char *const[]) { "cuda:0", "cuda:1" }, 2);
    lose("launch@1:400:700", "cuda:1", (const char *const[]) { "cuda:0", "cuda:0,cuda:1" }, 2);
}

int main(int argc, char **argv)
{
    glm4v_device device;
    glm4v_error err = { 0 };
    if (glm4v_device_examine("cuda:0", &device, &err)) {
        printf("1..0 # SKIP %s\n", err.msg);
        return 77;
    }
    two = !glm4v_device_examine("cuda:1", &device, NULL);
    gst_init(&argc, &argv);
    TEST(a_lost_gpu_is_an_error_of_its_frames_and_comes_back_from_null);
    TEST(eight_elements_over_both_gpus_have_the_answers_of_one);
    TEST(a_lost_gpu_is_named_and_the_pipeline_goes_on);
    return test_end();
}
