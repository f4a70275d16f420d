/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stream.h. An outage begins when a failure is noticed, and ends with the next frame. The
 * pauses between attempts grow from one second to four, so that captions are back within five
 * seconds after the camera is. */
#include "stream.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "interrupt.h"

#define SECOND 1000000000LL

/* A connection that held less than this long is no reason to begin with short pauses again. */
enum { FIRST_PAUSE_MS = 1000, MAX_PAUSE_MS = 4000, STEADY_S = 10 };

struct cli_stream {
    const char *input;
    cli_stream_options options;
    cli_media *media; /* NULL while there is none, in an outage */
    bool worked;      /* a frame came at some time */
    bool live;        /* it was live then */
    bool fresh;       /* no frame of this connection was returned */

    cli_troubles before; /* of earlier connections */
    int64_t start;       /* now() at stream time 0; all times count from there */
    int64_t shift;       /* from the times of this connection to those returned */
    int64_t last;        /* time of the last returned frame; -1 = none */

    int64_t lost; /* now() when the outage began; -1 = none */
    int64_t back; /* now() when the last outage ended */
    int attempts; /* in this outage */
    int64_t pause_ms;
};

/* In nanoseconds. */
static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

__attribute__((format(printf, 2, 3))) static void rewrite(glm4v_error *err, const char *format, ...)
{
    char text[sizeof err->msg];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(err->msg, text, sizeof text);
}

cli_stream *cli_stream_open(const char *input, const cli_stream_options *options, glm4v_error *err)
{
    cli_stream *stream = cli_alloc(1, sizeof *stream);
    if (!stream) {
        err->code = GLM4V_ERR_NOMEM;
        rewrite(err, "no memory for an input");
        return NULL;
    }
    stream->input = input;
    stream->options = *options;
    stream->last = stream->lost = -1;
    stream->media = cli_media_open(input, &options->media, err);
    if (!stream->media)
        cli_stream_close(&stream);
    return stream;
}

void cli_stream_close(cli_stream **stream)
{
    if (!*stream)
        return;
    cli_media_close(&(*stream)->media);
    free(*stream);
    *stream = NULL;
}

void cli_stream_tell(cli_stream *stream, cli_troubles *troubles)
{
    cli_troubles sum = stream->before;
    if (stream->media) {
        cli_media_tell(stream->media, &sum);
        sum.frames += stream->before.frames;
        sum.damaged += stream->before.damaged;
        if (*stream->before.first)
            memcpy(sum.first, stream->before.first, sizeof sum.first);
    }
    *troubles = sum;
}

/* Whether a later attempt may go better. A camera that worked comes back, however strange its last
 * words were; of an address that never worked only what was not reached may. */
static bool may_return(const cli_stream *stream, const glm4v_error *err)
{
    if (err->code == GLM4V_ERR_CANCELED || err->code == GLM4V_ERR_INVALID)
        return false;
    if (stream->worked)
        return stream->live;
    return cli_media_is_live(stream->media) &&
           (err->code == GLM4V_ERR_IO || err->code == GLM4V_ERR_NOT_FOUND);
}

/* Seconds of this outage that are left. */
static double patience(const cli_stream *stream)
{
    return stream->options.reconnect - (double)(now() - stream->lost) / SECOND;
}

static void begin_outage(cli_stream *stream)
{
    stream->lost = now();
    stream->attempts = 0;
    if (!stream->pause_ms || stream->lost - stream->back > STEADY_S * SECOND)
        stream->pause_ms = FIRST_PAUSE_MS;
}

/* Waits and opens the input again; false, with err, when the time of --reconnect is over. */
static bool try_again(cli_stream *stream, glm4v_error *err)
{
    char before[64] = "";
    if (stream->lost < 0)
        begin_outage(stream);
    else
        snprintf(before, sizeof before, "attempt %d: ", stream->attempts);
    double left = patience(stream);
    if (left <= 0) {
        rewrite(err, "%.300s; gave up after %.0f s and %d attempts", err->msg,
                stream->options.reconnect - left, stream->attempts);
        return false;
    }
    double pause = fmin((double)stream->pause_ms / 1000, left);
    cli_message("%s: %s%s; attempt %d in %.1f s (giving up in %.0f s)", stream->input, before,
                err->msg, stream->attempts + 1, pause, left);
    cli_stream_tell(stream, &stream->before);
    cli_media_close(&stream->media);
    stream->pause_ms = 2 * stream->pause_ms < MAX_PAUSE_MS ? 2 * stream->pause_ms : MAX_PAUSE_MS;
    stream->attempts++;
    if (!cli_sleep((int64_t)ceil(pause * 1000))) {
        err->code = GLM4V_ERR_CANCELED;
        return false;
    }
    stream->media = cli_media_open(stream->input, &stream->options.media, err);
    return stream->media != NULL;
}

/* Sets the times of a connection whose first frame this is. */
static void connected(cli_stream *stream, const cli_frame *frame)
{
    if (!stream->worked) {
        stream->start = now() - frame->pts;
        stream->live = cli_media_is_live(stream->media);
        stream->worked = true;
    } else {
        int64_t time = now() - stream->start;
        stream->shift = (time > stream->last ? time : stream->last + 1) - frame->pts;
        stream->fresh = true;
    }
    if (stream->lost >= 0) {
        stream->back = now();
        cli_message("%s: receiving frames again, after %.1f s and %d attempt%s", stream->input,
                    (double)(stream->back - stream->lost) / SECOND, stream->attempts,
                    stream->attempts == 1 ? "" : "s");
    }
    stream->lost = -1;
}

/* Puts a frame into the times of the whole stream; false if it comes before its interval is over,
 * as the first of a new connection may. */
static bool place(cli_stream *stream, cli_frame *frame)
{
    if (frame->pts < 0)
        return true;
    frame->pts += stream->shift;
    if (stream->fresh && frame->pts < stream->last + (int64_t)stream->options.media.interval)
        return false;
    stream->fresh = false;
    stream->last = frame->pts;
    return true;
}

int cli_stream_next(cli_stream *stream, cli_frame *frame, glm4v_error *err)
{
    for (;;) {
        int more = cli_media_next(stream->media, frame, err);
        if (more > 0) {
            if (!stream->worked || stream->lost >= 0)
                connected(stream, frame);
            if (place(stream, frame))
                return more;
        } else if (more == 0 || !may_return(stream, err)) {
            return more;
        } else if (stream->options.reconnect == 0) {
            if (stream->worked)
                rewrite(err, "%.400s; --reconnect SECONDS keeps trying", err->msg);
            return more;
        } else if (!try_again(stream, err)) {
            return -1;
        }
    }
}
