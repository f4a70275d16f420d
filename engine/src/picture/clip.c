/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which frames of a clip the model sees. The references count in frames of a constant rate; here
 * the frames' own times decide, which is the same for a constant rate. Called before preprocess.c.
 * Source: the video processors of GLM-4.1V (fixed rate), GLM-4.6V (rate by duration) and GLM-GA
 * (one rate), see docs/model.md. */
#include <inttypes.h>
#include <math.h>

#include "base/error.h"
#include "picture/preprocess.h"

#define TIME_ERROR 1e-6       /* seconds; timestamps in whole nanoseconds are cut off */
#define FIXED_MAX_SECONDS 300 /* longer clips are sampled at FIXED_MAX_SECONDS * fps places */
#define DYNAMIC_MAX_SECONDS 2400

static double frame_time(const glm4v_clip *c, int64_t i)
{
    return c->seconds[i] - c->seconds[0];
}

/* As the references: the last frame's time rounded half to even, and one more. */
static double duration(const glm4v_clip *c)
{
    return rint(frame_time(c, c->n - 1)) + 1;
}

static void take(glm4v_clip *c, int64_t i)
{
    if (!c->n_indices || c->indices[c->n_indices - 1] != i)
        c->indices[c->n_indices++] = (uint32_t)i;
}

/* The first frame at `time` or later, from *i on; the last frame where there is none. */
static void take_at(glm4v_clip *c, double time, int64_t *i)
{
    while (*i < c->n - 1 && frame_time(c, *i) < time - TIME_ERROR)
        ++*i;
    take(c, *i);
}

static void take_evenly(glm4v_clip *c, int64_t first, int64_t last, int64_t count)
{
    double step = count > 1 ? (double)(last - first) / (double)(count - 1) : 0;
    c->n_indices = 0;
    for (int64_t i = 0; i < count; i++)
        take(c, i && i == count - 1 ? last : (int64_t)((double)i * step + (double)first));
}

static void sample_fixed(glm4v_clip *c, double fps)
{
    double length = duration(c);
    int64_t at = 0, most = fps * FIXED_MAX_SECONDS > 2 ? (int64_t)(fps * FIXED_MAX_SECONDS) : 2;
    if (length <= FIXED_MAX_SECONDS) {
        int64_t count = (int64_t)floor(length * fps);
        for (int64_t i = 0; i < (count ? count : 1); i++)
            take_at(c, (double)i / fps, &at);
    } else if (most >= c->n) {
        take_evenly(c, 0, c->n - 1, c->n);
    } else {
        for (int64_t i = 0; i < most; i++)
            take_at(c, (double)i * (length / (double)(most - 1)), &at);
    }
}

/* Places a second for a clip of that many. */
static double dynamic_rate(double seconds)
{
    if (seconds <= 30)
        return 3;
    return seconds <= 300 ? 1 : 0.5;
}

static void sample_dynamic(glm4v_clip *c, int64_t temporal)
{
    double length = duration(c),
           effective = length < DYNAMIC_MAX_SECONDS ? length : DYNAMIC_MAX_SECONDS;
    double rate = (double)temporal * dynamic_rate(effective);
    int64_t wanted =
        effective * rate < GLM4V_MAX_FRAMES ? (int64_t)(effective * rate) : GLM4V_MAX_FRAMES;
    double current = 0;
    if (c->n < wanted) {
        take_evenly(c, 0, c->n - 1, wanted);
        return;
    }
    for (int64_t i = 0; i < c->n && current < length; i++)
        if (frame_time(c, i) >= current - TIME_ERROR) {
            take(c, i);
            current += 1 / rate;
        }
    if (c->n_indices < 3 || c->n_indices > wanted)
        take_evenly(c, 0, c->n - 1, wanted);
    else if (c->n_indices < wanted)
        take_evenly(c, c->indices[0], c->indices[c->n_indices - 1], wanted);
}

/* fps frames a second, at most `most` of them. */
static void sample_steady(glm4v_clip *c, double fps, int64_t most)
{
    const double length = duration(c), step = 1 / fps;
    const int64_t wanted = length * fps < (double)most ? (int64_t)(length * fps) : most;
    double current = 0;
    if (c->n < wanted) {
        for (int64_t i = 0; i < wanted; i++)
            take(c, i * c->n / wanted);
        return;
    }
    for (int64_t i = 0; i < c->n; i++) {
        if (frame_time(c, i) < current - TIME_ERROR)
            continue;
        take(c, i);
        current += step;
        if (current >= length - step - TIME_ERROR)
            break;
    }
    if (c->n_indices < wanted)
        take_evenly(c, c->indices[0], c->indices[c->n_indices - 1], wanted);
    else if (c->n_indices > wanted)
        take_evenly(c, 0, c->n - 1, wanted > 0 ? wanted : 1);
}

int glm4v_sample_clip(glm4v_clip *clip, const glm4v_config *config, bool dynamic, glm4v_error *err)
{
    const double *seconds = clip->seconds;
    const int64_t n = clip->n;
    if (n < 1 || clip->room < n || clip->room - n < n % 2)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "a clip of %" PRId64 " frames cannot be sampled to %" PRId64, n,
                          clip->room);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(seconds[i]) || (i && seconds[i] < seconds[i - 1]))
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "timestamp of clip frame %" PRId64
                              " is %g, after %g; timestamps must not decrease",
                              i, seconds[i], i ? seconds[i - 1] : 0);
    clip->n_indices = 0;
    if (config->steady_clips)
        sample_steady(clip, config->video_fps, config->video_most);
    else if (dynamic)
        sample_dynamic(clip, config->vision.temporal);
    else
        sample_fixed(clip, config->video_fps);
    if (clip->n_indices % 2) { /* frames are seen in pairs */
        clip->indices[clip->n_indices] = clip->indices[clip->n_indices - 1];
        clip->n_indices++;
    }
    return 0;
}
