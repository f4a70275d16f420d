/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `glm4v describe` sees of an input: for each frame a line "WIDTH HEIGHT PTS" on stdout and
 * then its RGB pixels.
 *
 *   dump-frames INPUT [INTERVAL-IN-SECONDS [VIDEO-TRACK, 1 = the first]]
 *
 * Exit status 1, and the reason on stderr, if the input fails. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "input.h"

/* Of what the files of tools/ ask the command line's program for. */
void *cli_alloc(size_t n, size_t size)
{
    return calloc(n, size);
}

void cli_progress(const char *what, double fraction)
{
}

void cli_message(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static void dump(const cli_frame *frame)
{
    const glm4v_image *image = &frame->image;
    printf("%d %d %lld\n", image->width, image->height, (long long)frame->pts);
    for (int32_t y = 0; y < image->height; y++)
        fwrite(image->data + y * image->stride, 3, (size_t)image->width, stdout);
}

int main(int argc, char **argv)
{
    const double interval = argc > 2 ? strtod(argv[2], NULL) : 0;
    const cli_stream_options options = {
        .media = { .interval = (uint64_t)(interval * 1e9),
                   .video_track = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0,
                   .timeout = CLI_TIMEOUT }
    };
    glm4v_error err = { 0 };
    cli_troubles troubles = { 0 };
    cli_frame frame;
    int more = -1;
    cli_media_init();
    cli_input *input = argc > 1 ? cli_input_open(argv[1], &options, &err) : NULL;
    while (input && (more = cli_input_next(input, &frame, &err)) > 0)
        dump(&frame);
    if (input)
        cli_input_tell(input, &troubles);
    cli_input_close(&input);
    if (troubles.damaged)
        fprintf(stderr, "damaged: %u of %u: %s\n", troubles.damaged, troubles.frames,
                troubles.first);
    if (troubles.duration)
        fprintf(stderr, "ended at %lld of %lld\n", (long long)troubles.end,
                (long long)troubles.duration);
    if (more < 0)
        fprintf(stderr, "%s: %s\n", glm4v_error_name(err.code), err.msg);
    return more < 0;
}
