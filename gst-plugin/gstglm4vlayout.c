/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Part of stage "pixels": where the planes of a buffer lie. Our own arithmetic:
 * gst_video_frame_map() trusts the offsets and strides of a GstVideoMeta, and
 * a frame that lies about them must never make us read beyond its end. */
#include "gstglm4vlayout.h"

#define PALETTE_BYTES (256 * 4)

/* ---- sizes ---- */

/* Visible bytes and rows of each plane. Formats that pack pixels across bytes
 * have no pixel stride: their rows are as long as GStreamer makes them. */
static void
measure_planes (GstGlm4vLayout * layout)
{
  const GstVideoFormatInfo *format = layout->info.finfo;
  guint c;

  for (c = 0; c < GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format); c++) {
    guint plane = GST_VIDEO_FORMAT_INFO_PLANE (format, c);
    gint step = GST_VIDEO_FORMAT_INFO_PSTRIDE (format, c);
    gsize width = GST_VIDEO_FORMAT_INFO_SCALE_WIDTH (format, c,
        GST_VIDEO_INFO_WIDTH (&layout->info));
    guint height = GST_VIDEO_FORMAT_INFO_SCALE_HEIGHT (format, c,
        GST_VIDEO_INFO_HEIGHT (&layout->info));
    gsize bytes = step > 0 ? width * (gsize) step :
        (gsize) GST_VIDEO_INFO_PLANE_STRIDE (&layout->info, plane);

    layout->row_bytes[plane] = MAX (layout->row_bytes[plane], bytes);
    layout->rows[plane] = MAX (layout->rows[plane], height);
  }
  if (GST_VIDEO_FORMAT_INFO_HAS_PALETTE (format)) {
    layout->row_bytes[GST_VIDEO_COMP_PALETTE] = PALETTE_BYTES;
    layout->rows[GST_VIDEO_COMP_PALETTE] = 1;
  }
}

/* Bytes from the first tile of a plane to the end of the last that shows: in
 * all modes it is one of the last two rows of tiles. */
static gsize
tiles_extent (const GstGlm4vLayout * layout, guint plane, gint across,
    gint down)
{
  const GstVideoFormatInfo *format = layout->info.finfo;
  gint stride = layout->stride[plane];
  guint last = 0, index;
  gint x, y;

  for (y = MAX (down - 2, 0); y < down; y++)
    for (x = 0; x < across; x++) {
      index = gst_video_tile_get_index (GST_VIDEO_FORMAT_INFO_TILE_MODE
          (format), x, y, GST_VIDEO_TILE_X_TILES (stride),
          GST_VIDEO_TILE_Y_TILES (stride));
      last = MAX (last, index);
    }
  return ((gsize) last + 1) * GST_VIDEO_FORMAT_INFO_TILE_SIZE (format, plane);
}

/* The planes of tiled formats are taken whole. FALSE if there are fewer tiles
 * than the size needs. */
static gboolean
measure_tiles (GstGlm4vLayout * layout, gchar ** why)
{
  guint p;

  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (&layout->info); p++) {
    gint need = GST_VIDEO_INFO_PLANE_STRIDE (&layout->info, p);
    gint across = GST_VIDEO_TILE_X_TILES (need);
    gint down = GST_VIDEO_TILE_Y_TILES (need);
    gint stride = layout->stride[p];

    if (stride < 0 || GST_VIDEO_TILE_X_TILES (stride) < across
        || GST_VIDEO_TILE_Y_TILES (stride) < down) {
      *why = g_strdup_printf ("plane %u has tiles of stride 0x%x, expected %dx"
          "%d of them", p, (guint) stride, across, down);
      return FALSE;
    }
    layout->rows[p] = 1;
    layout->row_bytes[p] = tiles_extent (layout, p, across, down);
  }
  return TRUE;
}

/* ---- checks ---- */

static gboolean
apply_crop (GstGlm4vLayout * layout, const GstVideoCropMeta * crop,
    gchar ** why)
{
  guint width = GST_VIDEO_INFO_WIDTH (&layout->info);
  guint height = GST_VIDEO_INFO_HEIGHT (&layout->info);

  if (crop->width == 0 || crop->height == 0 || crop->x >= width
      || crop->y >= height || crop->width > width - crop->x
      || crop->height > height - crop->y) {
    *why = g_strdup_printf ("its crop %ux%u at %u,%u is outside of %ux%u",
        crop->width, crop->height, crop->x, crop->y, width, height);
    return FALSE;
  }
  layout->x = crop->x;
  layout->y = crop->y;
  layout->width = crop->width;
  layout->height = crop->height;
  return TRUE;
}

/* The frame's own format and size: a GstVideoMeta may describe a larger frame
 * than the caps, but only if a GstVideoCropMeta selects a part. */
static gboolean
stored_info (GstGlm4vLayout * layout, const GstVideoInfo * info,
    const GstVideoMeta * meta, gboolean cropped, gchar ** why)
{
  if (!meta) {
    layout->info = *info;
    return TRUE;
  }
  if (meta->format != GST_VIDEO_INFO_FORMAT (info)
      || meta->n_planes != GST_VIDEO_INFO_N_PLANES (info)
      || meta->width == 0 || meta->height == 0
      || meta->width > GLM4V_MAX_SIDE || meta->height > GLM4V_MAX_SIDE
      || (!cropped && (meta->width != (guint) GST_VIDEO_INFO_WIDTH (info)
              || meta->height != (guint) GST_VIDEO_INFO_HEIGHT (info)))) {
    *why = g_strdup_printf ("its GstVideoMeta says %s %ux%u, its caps %s %dx%d",
        gst_video_format_to_string (meta->format), meta->width, meta->height,
        gst_video_format_to_string (GST_VIDEO_INFO_FORMAT (info)),
        GST_VIDEO_INFO_WIDTH (info), GST_VIDEO_INFO_HEIGHT (info));
    return FALSE;
  }
  gst_video_info_set_interlaced_format (&layout->info, meta->format,
      GST_VIDEO_INFO_INTERLACE_MODE (info), meta->width, meta->height);
  layout->info.colorimetry = info->colorimetry;
  layout->info.chroma_site = info->chroma_site;
  layout->info.fps_n = info->fps_n;
  layout->info.fps_d = info->fps_d;
  return TRUE;
}

static gboolean
planes_inside (const GstGlm4vLayout * layout, gsize size, gchar ** why)
{
  guint p;

  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (&layout->info); p++) {
    guint64 last_row = (guint64) (layout->rows[p] - 1)
        * (guint64) MAX (layout->stride[p], 0);

    if (layout->stride[p] < 0
        || (layout->rows[p] > 1
            && (gsize) layout->stride[p] < layout->row_bytes[p])
        || layout->offset[p] > size
        || last_row + layout->row_bytes[p] > size - layout->offset[p]) {
      *why = g_strdup_printf ("plane %u (%u rows of %" G_GSIZE_FORMAT " bytes, "
          "stride %d, offset %" G_GSIZE_FORMAT ") is outside of %"
          G_GSIZE_FORMAT " bytes", p, layout->rows[p], layout->row_bytes[p],
          layout->stride[p], layout->offset[p], size);
      return FALSE;
    }
  }
  return TRUE;
}

gboolean
gst_glm4v_layout_find (GstGlm4vLayout * layout, GstBuffer * buffer,
    const GstVideoInfo * info, gchar ** why)
{
  const GstVideoMeta *meta = gst_buffer_get_video_meta (buffer);
  const GstVideoCropMeta *crop = gst_buffer_get_video_crop_meta (buffer);
  gsize size = gst_buffer_get_size (buffer);
  guint p;

  memset (layout, 0, sizeof *layout);
  if (!stored_info (layout, info, meta, crop != NULL, why))
    return FALSE;
  layout->width = GST_VIDEO_INFO_WIDTH (&layout->info);
  layout->height = GST_VIDEO_INFO_HEIGHT (&layout->info);
  if (crop && !apply_crop (layout, crop, why))
    return FALSE;
  if (!meta && size < GST_VIDEO_INFO_SIZE (info)) {
    *why = g_strdup_printf ("%" G_GSIZE_FORMAT " bytes, expected %"
        G_GSIZE_FORMAT " for %s %dx%d", size, GST_VIDEO_INFO_SIZE (info),
        gst_video_format_to_string (GST_VIDEO_INFO_FORMAT (info)),
        GST_VIDEO_INFO_WIDTH (info), GST_VIDEO_INFO_HEIGHT (info));
    return FALSE;
  }
  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (info); p++) {
    layout->offset[p] = meta ? meta->offset[p] :
        GST_VIDEO_INFO_PLANE_OFFSET (info, p);
    layout->stride[p] = meta ? meta->stride[p] :
        GST_VIDEO_INFO_PLANE_STRIDE (info, p);
  }
  if (GST_VIDEO_FORMAT_INFO_IS_TILED (layout->info.finfo)) {
    if (!measure_tiles (layout, why))
      return FALSE;
  } else {
    measure_planes (layout);
  }
  return planes_inside (layout, size, why);
}
