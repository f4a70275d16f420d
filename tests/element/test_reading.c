/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Captions that a person can read: how lines are broken and texts become cues, how long cues are
 * shown, and when the next sample is taken. With a scripted engine. */
#include "fake_engine.h"
#include "gstglm4vreading.h"
#include "results.h"

#define SYNC 2
#define SCENE_CHANGE 4
#define AUTO 5
#define CAPS_SLOW "video/x-raw,format=RGB,width=16,height=8,framerate=10/1"
/* 60 characters: 4 s at 15 a second, two lines of 37 columns. */
#define SIXTY "The metal sheet has a long scratch from one edge to another."
/* Four lines of 37 columns, and 120 characters without the blank between its two cues: 8 s. */
#define LONG                                                                                       \
    "The metal sheet has a long scratch from one edge to another, "                                \
    "and beside it there are two small round holes and a stain..."

/* ---- lines ---- */

static char *divide_as(GstGlm4vReading reading, const char *text)
{
    GPtrArray *cues = gst_glm4v_reading_divide(&reading, text);
    GString *all = g_string_new(NULL);
    for (guint i = 0; i < cues->len; i++)
        g_string_append_printf(all, "%s%s", i ? "|" : "",
                               ((GstGlm4vReadingCue *)g_ptr_array_index(cues, i))->text);
    g_ptr_array_unref(cues);
    return g_string_free(all, FALSE);
}

static void check_divided(guint columns, guint lines, const char *text, const char *expected)
{
    char *found = divide_as((GstGlm4vReading) { 0, columns, lines }, text);
    CHECK_STR(found, expected);
    g_free(found);
}

static void lines_are_broken_between_words(void)
{
    check_divided(37, 2, "A short caption.", "A short caption.");
    check_divided(10, 2, "one two three", "one two\nthree");
    check_divided(13, 2, "one two three", "one two three");
    check_divided(12, 2, "one two three", "one two\nthree");
    check_divided(10, 0, "one  two   three ", "one  two\nthree");
    check_divided(10, 0, "one two\nthree four five", "one two\nthree\nfour five");
    check_divided(0, 0, "one two three", "one two three");
    check_divided(9, 0, "no\302\240break here", "no\302\240break\nhere");
    check_divided(37, 2, SIXTY, "The metal sheet has a long\nscratch from one edge to another.");
}

static void a_word_that_is_longer_than_a_line_is_broken_too(void)
{
    check_divided(5, 0, "abcdefgh", "abcd\nefgh");
    check_divided(5, 0, "ab abcdefgh ab", "ab\nabcd\nefgh\nab");
    check_divided(1, 0, "\347\204\212", "\347\204\212"); /* wider than a line */
    check_divided(2, 0, "e\314\201e\314\201e\314\201", "e\314\201e\314\201\ne\314\201");
}

static void wide_characters_take_two_columns_and_need_no_blanks(void)
{
    check_divided(10, 0,
                  "\351\207\221\345\261\236\346\235\277\344\270\212\346\234\211"
                  "\345\210\222\347\227\225",
                  "\351\207\221\345\261\236\346\235\277\344\270\212\n"
                  "\346\234\211\345\210\222\347\227\225"); /* 7 of them */
    check_divided(14, 0,
                  "\351\207\221\345\261\236\346\235\277\344\270\212\346\234\211"
                  "\345\210\222\347\227\225",
                  "\351\207\221\345\261\236\346\235\277\344\270\212\346\234\211"
                  "\345\210\222\347\227\225");
    /* no line begins with a full stop or ends with an opening bracket */
    check_divided(4, 0, "\344\270\200\344\272\214\343\200\202\344\270\211",
                  "\344\270\200\n\344\272\214\343\200\202\n\344\270\211");
    check_divided(6, 0, "\344\270\200\343\200\214\344\272\214\343\200\215",
                  "\344\270\200\n\343\200\214\344\272\214\343\200\215");
    /* Latin words among them stay whole */
    check_divided(8, 0, "\344\270\200\344\272\214LOT\344\270\211",
                  "\344\270\200\344\272\214\nLOT\344\270\211");
}

static void a_text_of_too_many_lines_becomes_several_cues(void)
{
    check_divided(3, 2, "one two", "one\ntwo");
    check_divided(3, 2, "one two six", "one|two\nsix");
    check_divided(3, 1, "one two six", "one|two|six");
    check_divided(3, 2, "one two six ten", "one\ntwo|six\nten");
    check_divided(3, 0, "one two six ten", "one\ntwo\nsix\nten");
}

/* Columns, by the table of GLib. */
static guint columns_of(const char *line)
{
    guint width = 0;
    for (; *line; line = g_utf8_next_char(line))
        if (!g_unichar_iszerowidth(g_utf8_get_char(line)))
            width += g_unichar_iswide(g_utf8_get_char(line)) ? 2 : 1;
    return width;
}

static char *without_blanks(const char *text)
{
    GString *rest = g_string_new(NULL);
    for (; *text; text++)
        if (*text != ' ' && *text != '\n' && *text != '|')
            g_string_append_c(rest, *text);
    return g_string_free(rest, FALSE);
}

static void check_whole(const char *text, GstGlm4vReading reading)
{
    char *found = divide_as(reading, text), **cues = g_strsplit(found, "|", -1);
    char *before = without_blanks(text), *after = without_blanks(found);
    CHECK_STR(after, before);
    for (guint i = 0; cues[i]; i++) {
        char **lines = g_strsplit(cues[i], "\n", -1);
        CHECK(g_strv_length(lines) >= 1 && g_strv_length(lines) <= reading.max_lines);
        for (guint k = 0; lines[k]; k++) {
            CHECK(*lines[k] != '\0' && *lines[k] != ' ');
            CHECK(columns_of(lines[k]) <= reading.max_line_length);
        }
        g_strfreev(lines);
    }
    g_strfreev(cues);
    g_free(before);
    g_free(after);
    g_free(found);
}

static void nothing_of_a_text_is_lost_and_no_line_is_too_long(void)
{
    static const char *const parts[] = { " ",
                                         "  ",
                                         "a",
                                         "word",
                                         "longer-word",
                                         "\344\270\200",
                                         "\343\200\202",
                                         "\343\200\214",
                                         ",",
                                         "e\314\201",
                                         "\n" };
    GRand *random = g_rand_new_with_seed(7);
    for (guint i = 0; i < 3000; i++) {
        GString *text = g_string_new("x");
        for (gint n = g_rand_int_range(random, 0, 40); n > 0; n--)
            g_string_append(text, parts[g_rand_int_range(random, 0, G_N_ELEMENTS(parts))]);
        g_string_append(text, "x");
        while (g_string_replace(text, "\n\n", "\n", 0) || g_string_replace(text, "\n ", "\n", 0))
            ;
        check_whole(text->str, (GstGlm4vReading) { 15, (guint)g_rand_int_range(random, 2, 40),
                                                   (guint)g_rand_int_range(random, 1, 4) });
        g_string_free(text, TRUE);
    }
    g_rand_free(random);
}

static void cues_share_the_time_by_their_lengths(void)
{
    for (guint speed = 1; speed <= 40; speed += 3) {
        const GstGlm4vReading reading = { speed, 20, 1 };
        GPtrArray *cues = gst_glm4v_reading_divide(&reading, LONG);
        const GstClockTime time = gst_glm4v_reading_time(&reading, cues);
        GstClockTime end = 0;
        gst_glm4v_reading_share(cues, time);
        for (guint i = 0; i < cues->len; i++) {
            const GstGlm4vReadingCue *cue = g_ptr_array_index(cues, i);
            CHECK_EQ(cue->offset, end);
            CHECK((guint64)g_utf8_strlen(cue->text, -1) * GST_SECOND <=
                  (cue->duration + 1) * speed);
            end += cue->duration;
        }
        CHECK_EQ(end, time);
        CHECK(cues->len >= 6);
        CHECK(time <= strlen(LONG) * GST_SECOND / speed + 200 * MS);
        g_ptr_array_unref(cues);
    }
}

/* ---- cues on the pad ---- */

static GstHarness *video, *text;
static GstClockTime duration = GST_CLOCK_TIME_NONE; /* that upstream tells */

static gboolean query(GstPad *pad, GstObject *parent, GstQuery *asked)
{
    if (GST_QUERY_TYPE(asked) != GST_QUERY_DURATION || !GST_CLOCK_TIME_IS_VALID(duration))
        return gst_pad_query_default(pad, parent, asked);
    gst_query_set_duration(asked, GST_FORMAT_TIME, (gint64)duration);
    return TRUE;
}

static void begin(GstElement *element, gboolean with_text)
{
    text = with_text ? gst_harness_new_with_element(element, NULL, "text") : NULL;
    video = support_harness(element, FALSE, CAPS_SLOW);
    gst_pad_set_query_function(video->srcpad, query);
    gst_harness_set_drop_buffers(video, TRUE);
}

static void push_at(guint number, guint32 rgb)
{
    GstBuffer *buffer = support_frame(CAPS_SLOW, rgb, number * 100);
    GST_BUFFER_DURATION(buffer) = 100 * MS;
    CHECK_EQ(gst_harness_push(video, buffer), GST_FLOW_OK);
}

static void push(guint frames)
{
    for (guint i = 0; i < frames; i++)
        push_at(i, 0x808080);
}

typedef struct {
    GstClockTime begin, end;
    char text[128];
    guint metas;
} Cue;

static Cue cues[64];
static guint n_cues;

/* End the stream; all cues until then. */
static void finish(void)
{
    GstEventType type = GST_EVENT_UNKNOWN;
    GstBuffer *buffer;
    gst_harness_push_event(video, gst_event_new_eos());
    while (type != GST_EVENT_EOS) {
        GstEvent *event = gst_harness_pull_event(text);
        REQUIRE(event != NULL);
        type = GST_EVENT_TYPE(event);
        gst_event_unref(event);
    }
    for (n_cues = 0; n_cues < G_N_ELEMENTS(cues) && (buffer = gst_harness_try_pull(text));) {
        Cue *cue = &cues[n_cues++];
        memset(cue, 0, sizeof *cue);
        cue->begin = GST_BUFFER_PTS(buffer);
        cue->end = cue->begin + GST_BUFFER_DURATION(buffer);
        cue->metas = support_count_meta(buffer);
        gst_buffer_extract(buffer, 0, cue->text, sizeof cue->text - 1);
        gst_buffer_unref(buffer);
    }
}

static void end(void)
{
    if (text)
        gst_harness_teardown(text);
    support_done(video);
    duration = GST_CLOCK_TIME_NONE;
}

/* Times of cues in ms. */
static void check_times(guint n, const guint times[][2])
{
    CHECK_EQ(n_cues, n);
    for (guint i = 0; i < MIN(n, n_cues); i++) {
        CHECK_EQ(cues[i].begin, times[i][0] * MS);
        CHECK_EQ(cues[i].end, times[i][1] * MS);
    }
}

static void by_default_every_caption_can_be_read(void)
{
    fake_set((fake_script) { .text = SIXTY });
    begin(support_element(NULL, NULL), TRUE);
    push(100);
    CHECK_EQ(support_stat(video->element, "sampled"), 3);
    CHECK_EQ(fake_get().max_tokens, GLM4V_DEFAULT_TOKENS);
    finish();
    check_times(3, (const guint[][2]) { { 0, 4000 }, { 4000, 8000 }, { 8000, 12000 } });
    CHECK_STR(cues[0].text, "The metal sheet has a long\nscratch from one edge to another.");
    end();
}

static void short_captions_come_once_a_second(void)
{
    fake_set((fake_script) { .text = "A sheet." });
    begin(support_element(NULL, NULL), TRUE);
    push(30);
    finish();
    check_times(3, (const guint[][2]) { { 0, 1000 }, { 1000, 2000 }, { 2000, 3000 } });
    end();
}

static void a_long_caption_is_several_cues_that_can_be_read(void)
{
    fake_set((fake_script) { .text = LONG });
    begin(support_element(NULL, NULL), TRUE);
    push(165);
    finish();
    CHECK_EQ(n_cues, 6);
    for (guint i = 0; i < n_cues; i++) {
        CHECK((guint64)g_utf8_strlen(cues[i].text, -1) * GST_SECOND <=
              (cues[i].end - cues[i].begin + 1) * 15);
        CHECK(i == 0 || cues[i].begin == cues[i - 1].end);
        CHECK_EQ(cues[i].metas, i % 2 == 0);
    }
    CHECK_EQ(cues[2].begin, 8000 * MS);
    end();
}

static void answers_about_one_frame_are_read_one_after_another(void)
{
    fake_set((fake_script) { .text = SIXTY });
    GstElement *element = support_element(NULL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "prompts", "<\"first?\", \"second?\">");
    begin(element, TRUE);
    push(81);
    finish();
    check_times(
        4, (const guint[][2]) { { 0, 4000 }, { 4000, 8000 }, { 8000, 12000 }, { 12000, 16000 } });
    end();
}

static void sampled_once_a_second(const char *property, const char *value)
{
    fake_set((fake_script) { .text = SIXTY });
    GstElement *element = support_element(NULL, NULL);
    gst_util_set_object_arg(G_OBJECT(element), property, value);
    begin(element, TRUE);
    push(30);
    finish();
    check_times(3, (const guint[][2]) { { 0, 1000 }, { 1000, 2000 }, { 2000, 3000 } });
    end();
}

static void what_was_set_has_precedence_and_a_next_cue_ends_the_last(void)
{
    sampled_once_a_second("interval", "1000000000");
    sampled_once_a_second("sample-mode", "interval");
    sampled_once_a_second("reading-speed", "0");
}

static void without_a_text_pad_nobody_reads(void)
{
    fake_set((fake_script) { .text = SIXTY });
    begin(support_element(NULL, NULL), FALSE);
    push(30);
    CHECK_EQ(support_stat(video->element, "results"), 3);
    end();
}

static void an_interval_that_was_set_can_be_unset(void)
{
    fake_set((fake_script) { .text = SIXTY });
    GstElement *element = support_element("interval", (guint64)(100 * MS), "sample-mode", 0, NULL);
    g_object_set(element, "interval", GST_CLOCK_TIME_NONE, "sample-mode", AUTO, NULL);
    begin(element, TRUE);
    push(50);
    finish();
    check_times(2, (const guint[][2]) { { 0, 4000 }, { 4000, 8000 } });
    end();
}

static void the_last_cue_ends_with_the_stream(void)
{
    fake_set((fake_script) { .text = SIXTY });
    duration = 9 * GST_SECOND;
    begin(support_element(NULL, NULL), TRUE);
    push(90);
    CHECK_EQ(support_stat(video->element, "text-dropped"), 1); /* it could not have been read */
    finish();
    check_times(2, (const guint[][2]) { { 0, 4000 }, { 4000, 8000 } });
    end();
    duration = 3 * GST_SECOND; /* the only one is shown as long as there is video */
    begin(support_element(NULL, NULL), TRUE);
    push(30);
    finish();
    check_times(1, (const guint[][2]) { { 0, 3000 } });
    end();
    duration = 2500 * MS;
    begin(support_element("interval", (guint64)GST_SECOND, NULL), TRUE);
    push(25);
    finish();
    check_times(3, (const guint[][2]) { { 0, 1000 }, { 1000, 2000 }, { 2000, 2500 } });
    end();
}

static void captions_of_triggers_and_scenes_are_shown_until_they_are_read(void)
{
    fake_set((fake_script) { .text = SIXTY });
    begin(support_element("sample-mode", SAMPLE_TRIGGER, NULL), TRUE);
    for (guint i = 0; i < 60; i++) {
        guint64 id = 0;
        if (i == 10 || i == 55)
            g_signal_emit_by_name(video->element, "describe", NULL, &id);
        push_at(i, 0x808080);
    }
    finish();
    check_times(2, (const guint[][2]) { { 1000, 5000 }, { 5500, 9500 } });
    end();
    begin(support_element("sample-mode", SCENE_CHANGE, NULL), TRUE);
    for (guint i = 0; i < 70; i++)
        push_at(i, i < 50 ? 0 : 0xffffff);
    finish();
    check_times(2, (const guint[][2]) { { 0, 4000 }, { 5000, 9000 } });
    end();
}

static void what_is_said_again_is_not_shown_again(void)
{
    fake_set((fake_script) { 0 });
    begin(support_element("suppress-duplicates", TRUE, NULL), TRUE);
    for (guint i = 0; i < 60; i++)
        push_at(i, i < 30 || i >= 50 ? 0x808080 : 0);
    CHECK_EQ(support_stat(video->element, "results"), 6);
    finish();
    check_times(3, (const guint[][2]) { { 0, 1000 }, { 3000, 4000 }, { 5000, 6000 } });
    end();
}

static void machines_get_their_answers_in_one_piece(void)
{
    fake_set((fake_script) { 0 });
    GstElement *element = support_element("max-line-length", 4, "max-lines", 1, NULL);
    gst_util_set_object_arg(G_OBJECT(element), "output", "choice");
    gst_util_set_object_arg(G_OBJECT(element), "choices", "<\"a long choice\", \"b\", \"c\">");
    begin(element, TRUE);
    push(10);
    finish();
    CHECK_EQ(n_cues, 1);
    CHECK_STR(cues[0].text, "a long choice");
    end();
    fake_set((fake_script) { .text = "{\"defects\": [\"a scratch\"]}" }); /* of a prompt */
    begin(support_element("max-line-length", 4, "max-lines", 1, NULL), TRUE);
    push(10);
    finish();
    CHECK_EQ(n_cues, 1);
    CHECK_STR(cues[0].text, "{\"defects\": [\"a scratch\"]}");
    end();
}

/* The text pad's clock is the video's: the next sample is taken when what is shown ends as long
 * after its frame as this one began behind its own. */
static void live_captions_follow_one_another_without_holes(void)
{
    fake_set((fake_script) { .text = SIXTY });
    begin(support_element("mode", 1, NULL), TRUE);
    push_at(0, 0);
    results_wait(video->element, 1); /* at 100 ms of the video */
    for (guint i = 1; i < 60; i++) {
        push_at(i, 0);
        if (support_stat(video->element, "sampled") > 1)
            break;
    }
    results_wait(video->element, 1);
    CHECK_EQ(support_stat(video->element, "sampled"), 2);
    finish();
    CHECK_EQ(n_cues, 2);
    CHECK(cues[0].begin >= 100 * MS && cues[0].begin <= 300 * MS);
    CHECK_EQ(cues[0].end - cues[0].begin, 4000 * MS);
    CHECK_EQ(cues[1].begin, cues[0].end);
    CHECK_EQ(cues[1].end - cues[1].begin, 4000 * MS);
    end();
}

static void no_sample_is_taken_while_a_caption_is_awaited(void)
{
    fake_set((fake_script) { .answer_ns = 3600 * GST_SECOND });
    begin(support_element("mode", 1, "eos-timeout", (guint64)0, NULL), TRUE);
    push(50);
    CHECK_EQ(support_stat(video->element, "sampled"), 1);
    gst_harness_push_event(video, gst_event_new_flush_start());
    gst_harness_push_event(video, gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(video, gst_event_new_segment(&segment));
    fake_set((fake_script) { .text = SIXTY });
    push(35);
    results_wait(video->element, 1);
    CHECK_EQ(support_stat(video->element, "sampled"), 2);
    end();
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(lines_are_broken_between_words);
    TEST(a_word_that_is_longer_than_a_line_is_broken_too);
    TEST(wide_characters_take_two_columns_and_need_no_blanks);
    TEST(a_text_of_too_many_lines_becomes_several_cues);
    TEST(nothing_of_a_text_is_lost_and_no_line_is_too_long);
    TEST(cues_share_the_time_by_their_lengths);
    TEST(by_default_every_caption_can_be_read);
    TEST(short_captions_come_once_a_second);
    TEST(a_long_caption_is_several_cues_that_can_be_read);
    TEST(answers_about_one_frame_are_read_one_after_another);
    TEST(what_was_set_has_precedence_and_a_next_cue_ends_the_last);
    TEST(without_a_text_pad_nobody_reads);
    TEST(an_interval_that_was_set_can_be_unset);
    TEST(the_last_cue_ends_with_the_stream);
    TEST(captions_of_triggers_and_scenes_are_shown_until_they_are_read);
    TEST(what_is_said_again_is_not_shown_again);
    TEST(machines_get_their_answers_in_one_piece);
    TEST(live_captions_follow_one_another_without_holes);
    TEST(no_sample_is_taken_while_a_caption_is_awaited);
    return test_end();
}
