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
    return (GstGlm4vTick) {
        .pts = pts, .duration = GST_CLOCK_TIME_NONE, .period = GST_CLOCK_TIME_NONE, .usable = TRUE
    };
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

static void a_jump_forward_is_taken_once(void)
{
    begin();
    CHECK(take_at(0));
    CHECK(take_at((GST_SECOND << 32) + 500 * GST_MSECOND));
    CHECK(!take_at((GST_SECOND << 32) + 900 * GST_MSECOND));
    CHECK(take_at((GST_SECOND << 32) + GST_SECOND));
    CHECK(take_at(G_MAXUINT64 - 2));
    CHECK(until > 0);
}

static void a_jump_back_begins_anew(void)
{
    begin();
    CHECK(take_at(100 * GST_SECOND));
    CHECK(take_at(3 * GST_SECOND + 1));
    CHECK(!take_at(3 * GST_SECOND + 2));
    CHECK(take_at(4 * GST_SECOND + 1));
}

static void discont_and_reset_begin_anew(void)
{
    GstGlm4vTick tick = tick_at(100 * GST_MSECOND);
    begin();
    CHECK(take_at(0));
    tick.discont = TRUE;
    CHECK(take(&every_second, tick));
    CHECK(!take_at(200 * GST_MSECOND));
    gst_glm4v_sampler_reset(&sampler);
    CHECK(take_at(300 * GST_MSECOND));
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
    TEST(a_jump_forward_is_taken_once);
    TEST(a_jump_back_begins_anew);
    TEST(discont_and_reset_begin_anew);
    TEST(unusable_frames_leave_the_sample_due);
    TEST(every_nth_counts_frames);
    TEST(all_and_interval_zero_take_every_frame);
    TEST(changed_settings_begin_anew);
    TEST(without_pts_durations_framerate_or_arrival_tell_the_time);
    TEST(frame_rates_from_0_to_1000_sample_by_time);
    return test_end();
}
