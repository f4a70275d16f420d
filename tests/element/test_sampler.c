/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* C-05, C-07: which frames are taken. */
#include "fake_engine.h"
#include "gstglm4vsampler.h"
#include "support.h"

static const GstGlm4vSampling every_second = { GST_GLM4V_SAMPLE_INTERVAL, GST_SECOND, 1 };
static GstGlm4vSampler sampler;
static GstClockTime until;

static GstGlm4vTick tick_at(GstClockTime pts)
{
    return (GstGlm4vTick) { .pts = pts,
                            .duration = GST_CLOCK_TIME_NONE,
                            .period = GST_CLOCK_TIME_NONE,
                            .spacing = GST_CLOCK_TIME_NONE,
                            .usable = TRUE };
}

static gboolean take(const GstGlm4vSampling *config, GstGlm4vTick tick)
{
    return gst_glm4v_sampler_take(&sampler, config, &tick, &until);
}

static gboolean take_at(GstClockTime pts)
{
    return take(&every_second, tick_at(pts));
}

static void begin(void)
{
    memset(&sampler, 0, sizeof sampler);
}

static void interval_keeps_to_its_grid(void)
{
    guint taken = 0;
    begin();
    for (guint i = 0; i < 3000; i++) {
        GstClockTime pts = gst_util_uint64_scale(i, GST_SECOND * 1001, 30000);
        if (take_at(pts)) {
            CHECK(pts - taken * GST_SECOND < GST_SECOND / 29);
            CHECK_EQ(pts + until, (taken + 1) * GST_SECOND);
            taken++;
        }
    }
    CHECK_EQ(taken, 101); /* 100.1 s */
}

static void the_first_frame_is_taken_wherever_it_stands(void)
{
    begin();
    CHECK(take_at(12345 * GST_SECOND + 678));
    CHECK_EQ(until, GST_SECOND);
    CHECK(!take_at(12346 * GST_SECOND));
    CHECK(take_at(12346 * GST_SECOND + 678));
}

static void a_jump_forward_is_taken_once_and_begins_anew(void)
{
    begin();
    CHECK(take_at(0));
    CHECK(take_at((GST_SECOND << 32) + 500 * GST_MSECOND));
    CHECK_EQ(until, GST_SECOND);
    CHECK(!take_at((GST_SECOND << 32) + GST_SECOND));
    CHECK(take_at((GST_SECOND << 32) + 1500 * GST_MSECOND));
    CHECK(take_at(G_MAXUINT64 - 2));
    CHECK(until > 0);
}

static void a_step_forward_of_an_interval_keeps_the_grid(void)
{
    begin();
    CHECK(take_at(0));
    CHECK(!take_at(900 * GST_MSECOND));
    CHECK(take_at(1900 * GST_MSECOND));
    CHECK_EQ(until, 100 * GST_MSECOND);
    CHECK(take_at(2 * GST_SECOND));
}

static void a_jump_back_begins_anew(void)
{
    begin();
    CHECK(take_at(100 * GST_SECOND));
    CHECK(take_at(3 * GST_SECOND + 1));
    CHECK(!take_at(3 * GST_SECOND + 2));
    CHECK(take_at(4 * GST_SECOND + 1));
}

static void reset_and_restart_begin_anew(void)
{
    for (int reset = 0; reset < 2; reset++) {
        begin();
        CHECK(take_at(0));
        CHECK(!take_at(200 * GST_MSECOND));
        reset ? gst_glm4v_sampler_reset(&sampler) : gst_glm4v_sampler_restart(&sampler);
        CHECK(take_at(300 * GST_MSECOND));
        CHECK(!take_at(1200 * GST_MSECOND));
        CHECK(take_at(1300 * GST_MSECOND));
    }
}

/* Of a hundred seconds at 30 fps; every other frame lies `back` before the one ahead of it. */
static guint taken_with_steps_back(const GstGlm4vSampling *config, GstClockTime back, guint every)
{
    guint taken = 0;
    begin();
    for (guint i = 0; i < 3000; i++) {
        GstClockTime pts = GST_SECOND + (i - i % every) * (GST_SECOND / 30);
        GstGlm4vTick tick = tick_at(i % every ? pts - (i % every) * back : pts);
        tick.period = GST_SECOND / 30;
        taken += take(config, tick);
    }
    return taken;
}

static void steps_back_of_at_most_the_interval_do_not_matter(void)
{
    static const GstClockTime backs[] = { 0, 1, GST_MSECOND, GST_SECOND / 30, GST_SECOND / 4 };
    static const GstGlm4vSampling nth = { GST_GLM4V_SAMPLE_EVERY_NTH, GST_SECOND, 30 };
    for (guint i = 0; i < G_N_ELEMENTS(backs); i++)
        for (guint every = 2; every <= 5; every++) {
            guint taken = taken_with_steps_back(&every_second, backs[i], every);
            if (taken < 99 || taken > 101)
                test_fail(__FILE__, __LINE__, "%u of 100 taken, %u frames each back %u ns", taken,
                          every, (guint)backs[i]);
            CHECK_EQ(taken_with_steps_back(&nth, backs[i], every), 100);
        }
}

static void every_nth_does_not_look_at_the_time(void)
{
    static const GstGlm4vSampling config = { GST_GLM4V_SAMPLE_EVERY_NTH, 0, 10 };
    static const GstClockTime times[] = { 0, 100 * GST_SECOND, 1, GST_CLOCK_TIME_NONE };
    guint taken = 0;
    begin();
    for (guint i = 0; i < 100; i++)
        taken += take(&config, tick_at(times[i % 4]));
    CHECK_EQ(taken, 10);
}

/* ---- the time ---- */

/* The time between samples must be what was promised, and go on, whatever PTS do. */
static void check_times(const char *what, const GstGlm4vSampling *config, GstClockTime loop,
                        GstClockTime spacing)
{
    GstClockTime last = 0, promised = 0, period = GST_SECOND / 30;
    guint taken = 0;
    begin();
    for (guint i = 0; i < 1800; i++) {
        GstGlm4vTick tick = tick_at(loop ? i * period % loop : GST_CLOCK_TIME_NONE);
        tick.period = period;
        tick.spacing = config->mode == GST_GLM4V_SAMPLE_EVERY_NTH ? config->nth * period : period;
        if (!take(config, tick))
            continue;
        GstClockTime now = gst_glm4v_sampler_time(&sampler);
        if (taken > 0 && ABS(GST_CLOCK_DIFF(last + promised, now)) > (GstClockTimeDiff)period)
            test_fail(__FILE__, __LINE__,
                      "%s: frame %u at %" GST_TIME_FORMAT ", promised %" GST_TIME_FORMAT, what, i,
                      GST_TIME_ARGS(now), GST_TIME_ARGS(last + promised));
        CHECK(until + 2 * period > spacing && until <= spacing + 1000);
        last = now;
        promised = until;
        taken++;
    }
    if (ABS((int)taken - (int)(60 * GST_SECOND / spacing)) > 1)
        test_fail(__FILE__, __LINE__, "%s: %u taken in a minute", what, taken);
}

static void time_goes_on_where_pts_do_not(void)
{
    static const GstGlm4vSampling nth = { GST_GLM4V_SAMPLE_EVERY_NTH, GST_SECOND, 15 };
    static const GstGlm4vSampling all = { GST_GLM4V_SAMPLE_ALL, GST_SECOND, 1 };
    const GstClockTime frame = GST_SECOND / 30;
    check_times("none", &every_second, 0, GST_SECOND);
    check_times("none, nth", &nth, 0, GST_SECOND / 2);
    check_times("none, all", &all, 0, frame);
    check_times("all the same", &every_second, 1, GST_SECOND);
    check_times("all the same, nth", &nth, 1, GST_SECOND / 2);
    check_times("all the same, all", &all, 1, frame);
    check_times("two seconds again and again", &every_second, 60 * frame, GST_SECOND);
    check_times("two seconds again and again, nth", &nth, 60 * frame, GST_SECOND / 2);
    check_times("two seconds again and again, all", &all, 60 * frame, frame);
}

static void time_that_never_gets_an_interval_further_is_sampled_too(void)
{
    static const guint lengths[] = { 2, 3, 10, 29, 30 };
    for (guint l = 0; l < G_N_ELEMENTS(lengths); l++) {
        guint taken = 0;
        begin();
        for (guint i = 0; i < 1800; i++) {
            GstGlm4vTick tick = tick_at(i % lengths[l] * (GST_SECOND / 30));
            tick.period = GST_SECOND / 30;
            taken += take(&every_second, tick);
        }
        CHECK(taken >= 25 && taken <= 61);
    }
    begin();
    for (guint i = 0, taken = 0; i < 1800; i++) { /* backwards, slower than the interval */
        GstGlm4vTick tick = tick_at(100 * GST_SECOND - i * GST_MSECOND);
        tick.period = GST_SECOND / 30;
        taken += take(&every_second, tick);
        CHECK(i < 1799 || (taken >= 55 && taken <= 61));
    }
}

static void unknown_time_begins_where_the_segment_does(void)
{
    GstGlm4vTick tick = tick_at(GST_CLOCK_TIME_NONE);
    tick.start = 5 * GST_SECOND;
    begin();
    CHECK(take(&every_second, tick));
    CHECK_EQ(gst_glm4v_sampler_time(&sampler), 5 * GST_SECOND);
}

static void time_that_was_shifted_holds_for_gaps(void)
{
    begin();
    take_at(0);
    CHECK_EQ(gst_glm4v_sampler_time_at(&sampler, 7), 7);
    take_at(10 * GST_SECOND);
    CHECK(take_at(GST_SECOND));
    CHECK(gst_glm4v_sampler_time(&sampler) > 10 * GST_SECOND);
    CHECK_EQ(gst_glm4v_sampler_time_at(&sampler, 2 * GST_SECOND),
             gst_glm4v_sampler_time(&sampler) + GST_SECOND);
    CHECK_EQ(gst_glm4v_sampler_time_at(&sampler, G_MAXUINT64), G_MAXINT64);
}

static void unusable_frames_leave_the_sample_due(void)
{
    GstGlm4vTick tick = tick_at(GST_SECOND);
    begin();
    CHECK(take_at(0));
    tick.usable = FALSE;
    CHECK(!take(&every_second, tick));
    CHECK(take_at(GST_SECOND + 1));
}

static void every_nth_counts_frames(void)
{
    static const GstGlm4vSampling config = { GST_GLM4V_SAMPLE_EVERY_NTH, 0, 7 };
    guint taken = 0;
    begin();
    for (guint i = 0; i < 70; i++) {
        GstGlm4vTick tick = tick_at(i * 40 * GST_MSECOND);
        tick.period = 40 * GST_MSECOND;
        tick.spacing = 280 * GST_MSECOND;
        if (take(&config, tick)) {
            CHECK_EQ(i % 7, 0);
            CHECK_EQ(until, 280 * GST_MSECOND);
            taken++;
        }
    }
    CHECK_EQ(taken, 10);
}

static void all_and_interval_zero_take_every_frame(void)
{
    static const GstGlm4vSampling configs[] = { { GST_GLM4V_SAMPLE_ALL, GST_SECOND, 5 },
                                                { GST_GLM4V_SAMPLE_INTERVAL, 0, 5 } };
    for (guint c = 0; c < 2; c++) {
        begin();
        for (guint i = 0; i < 10; i++) {
            CHECK(take(&configs[c], tick_at(i * 1000)));
            CHECK(until > 0);
        }
    }
}

static void changed_settings_begin_anew(void)
{
    static const GstGlm4vSampling slow = { GST_GLM4V_SAMPLE_INTERVAL, 10 * GST_SECOND, 1 };
    begin();
    CHECK(take_at(0));
    CHECK(take(&slow, tick_at(500 * GST_MSECOND)));
    CHECK(!take(&slow, tick_at(10 * GST_SECOND)));
    CHECK(take(&slow, tick_at(10500 * GST_MSECOND)));
}

static void without_pts_durations_framerate_or_arrival_tell_the_time(void)
{
    for (int how = 0; how < 3; how++) {
        guint taken = 0;
        begin();
        for (guint i = 0; i < 50; i++) {
            GstGlm4vTick tick = tick_at(GST_CLOCK_TIME_NONE);
            tick.arrival = 1000 * GST_SECOND + (how == 2 ? i * 100 * GST_MSECOND : 0);
            if (how == 0)
                tick.duration = 100 * GST_MSECOND;
            if (how == 1)
                tick.period = 100 * GST_MSECOND;
            taken += take(&every_second, tick);
        }
        CHECK_EQ(taken, 5);
    }
}

static void frame_rates_from_0_to_1000_sample_by_time(void)
{
    static const struct {
        guint n, d;
    } rates[] = { { 0, 1 }, { 1, 1000 }, { 1000, 1 }, { 1, 2 } };
    for (guint r = 0; r < G_N_ELEMENTS(rates); r++) {
        GstClockTime period = rates[r].n ? GST_SECOND * rates[r].d / rates[r].n : 250 * GST_MSECOND;
        guint taken = 0, frames = 2000;
        begin();
        for (guint i = 0; i < frames; i++) {
            GstGlm4vTick tick = tick_at(i * period);
            tick.period = rates[r].n ? period : GST_CLOCK_TIME_NONE;
            taken += take(&every_second, tick);
        }
        CHECK_EQ(taken, period >= GST_SECOND ? frames : frames * period / GST_SECOND);
    }
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(interval_keeps_to_its_grid);
    TEST(the_first_frame_is_taken_wherever_it_stands);
    TEST(a_jump_forward_is_taken_once_and_begins_anew);
    TEST(a_step_forward_of_an_interval_keeps_the_grid);
    TEST(a_jump_back_begins_anew);
    TEST(reset_and_restart_begin_anew);
    TEST(steps_back_of_at_most_the_interval_do_not_matter);
    TEST(every_nth_does_not_look_at_the_time);
    TEST(time_goes_on_where_pts_do_not);
    TEST(time_that_never_gets_an_interval_further_is_sampled_too);
    TEST(unknown_time_begins_where_the_segment_does);
    TEST(time_that_was_shifted_holds_for_gaps);
    TEST(unusable_frames_leave_the_sample_due);
    TEST(every_nth_counts_frames);
    TEST(all_and_interval_zero_take_every_frame);
    TEST(changed_settings_begin_anew);
    TEST(without_pts_durations_framerate_or_arrival_tell_the_time);
    TEST(frame_rates_from_0_to_1000_sample_by_time);
    return test_end();
}
