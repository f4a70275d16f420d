/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* WebP, still or animated, lossy or lossless, by libwebp and libwebpdemux. */
#include <stdlib.h>
#include <string.h>

#include <webp/demux.h>

#include "cli.h"
#include "decoders.h"
#include "fail.h"

typedef struct {
    WebPAnimDecoder *decoder;
    WebPAnimInfo info;
    uint32_t done; /* frames */
    int64_t end;   /* of the last frame, ms */
} animation;

int cli_next_webp(cli_decoding *d, glm4v_error *err)
{
    animation *a = d->animation;
    uint8_t *pixels = NULL;
    int end = 0;
    if (a->done == a->info.frame_count)
        return 0;
    if (cli_canvas_make(&d->canvas, a->info.canvas_width, a->info.canvas_height, 4, err))
        return -1;
    if (!WebPAnimDecoderGetNext(a->decoder, &pixels, &end)) {
        cli_decoding_damaged(d, "a frame cannot be decoded", err);
        return -1;
    }
    memcpy(d->canvas.pixels, pixels, cli_canvas_bytes(&d->canvas));
    d->pts = a->end * 1000000;
    a->end = end;
    a->done++;
    d->fraction = (double)a->done / a->info.frame_count;
    return 1;
}

static void read_orientation(cli_decoding *d, const WebPDemuxer *demuxer)
{
    WebPChunkIterator chunk;
    if (!WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk))
        return;
    d->orientation = cli_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
    WebPDemuxReleaseChunkIterator(&chunk);
}

int cli_decode_webp(cli_decoding *d, glm4v_error *err)
{
    const WebPData data = { .bytes = d->data, .size = d->size };
    WebPAnimDecoderOptions options;
    WebPDemuxer *demuxer = WebPDemux(&data); /* NULL if anything is missing */
    if (!demuxer)
        return cli_decoding_damaged(d, "its parts do not fit together", err);
    read_orientation(d, demuxer);
    int rc = cli_canvas_make(&d->canvas, WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH),
                             WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT), 4, err);
    WebPDemuxDelete(demuxer);
    if (rc)
        return rc;
    animation *a = cli_alloc(1, sizeof *a);
    if (!a || !WebPAnimDecoderOptionsInit(&options)) {
        free(a);
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
    }
    d->animation = a;
    a->decoder = WebPAnimDecoderNew(&data, &options);
    if (!a->decoder || !WebPAnimDecoderGetInfo(a->decoder, &a->info))
        rc = cli_decoding_damaged(d, "it cannot be decoded", err);
    else if (cli_next_webp(d, err) < 0)
        rc = err->code;
    if (rc || a->info.frame_count == 1)
        cli_close_webp(d);
    return rc;
}

void cli_close_webp(cli_decoding *d)
{
    animation *a = d->animation;
    if (!a)
        return;
    WebPAnimDecoderDelete(a->decoder);
    free(a);
    d->animation = NULL;
}
