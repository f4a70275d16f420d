/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GstBuffer -> glm4v_image. Stage "pixels"; the checks and the hold run on the
 * streaming thread, the conversion on the worker.
 *
 * The buffer is mapped whole and the planes are found by our own arithmetic:
 * gst_video_frame_map() trusts the offsets and strides of a GstVideoMeta, and
 * a frame that lies about them must never make us read beyond its end. */
#include "gstglm4vframe.h"

/* Pools with fewer buffers than this may starve while we keep two. */
#define SMALL_POOL 8

typedef struct
{
  GstVideoInfo info;            /* format and size of the stored frame */
  gsize offset[GST_VIDEO_MAX_PLANES];
  gint stride[GST_VIDEO_MAX_PLANES];
  gsize row_bytes[GST_VIDEO_MAX_PLANES]; /* bytes of a row that hold pixels */
  guint rows[GST_VIDEO_MAX_PLANES];
  guint x, y, width, height;    /* the part of the frame that is shown */
} Layout;

struct _GstGlm4vConverter
{
  GstVideoInfo in;              /* what converter was made for */
  GstVideoConverter *converter; /* NULL before the first frame */
  GstVideoInfo out;
  guint8 *rgb;
  gsize rgb_size;
  guint8 *aligned;              /* a copy of frames with odd strides */
  gsize aligned_size;
};

/* ---- layout ---- */

/* Visible bytes and rows of each plane. */
static void
measure_planes (Layout * layout)
{
  const GstVideoFormatInfo *format = layout->info.finfo;
  guint c;

  for (c = 0; c < GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format); c++) {
    guint plane = GST_VIDEO_FORMAT_INFO_PLANE (format, c);
    gsize width = GST_VIDEO_FORMAT_INFO_SCALE_WIDTH (format, c,
        GST_VIDEO_INFO_WIDTH (&layout->info));
    guint height = GST_VIDEO_FORMAT_INFO_SCALE_HEIGHT (format, c,
        GST_VIDEO_INFO_HEIGHT (&layout->info));
    gsize bytes = width * GST_VIDEO_FORMAT_INFO_PSTRIDE (format, c);

    layout->row_bytes[plane] = MAX (layout->row_bytes[plane], bytes);
    layout->rows[plane] = MAX (layout->rows[plane], height);
  }
}

static gboolean
apply_crop (Layout * layout, const GstVideoCropMeta * crop, gchar ** why)
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
 * than the caps, but only where a GstVideoCropMeta says which part counts. */
static gboolean
stored_info (Layout * layout, const GstVideoInfo * info,
    const GstVideoMeta * meta, gboolean cropped, gchar ** why)
{
  if (!meta) {
    layout->info = *info;
    return TRUE;
  }
  if (meta->format != GST_VIDEO_INFO_FORMAT (info)
      || meta->n_planes != GST_VIDEO_INFO_N_PLANES (info)
      || meta->width == 0 || meta->height == 0
      || meta->width > GST_GLM4V_MAX_SIDE || meta->height > GST_GLM4V_MAX_SIDE
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
planes_inside (const Layout * layout, gsize size, gchar ** why)
{
  guint p;

  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (&layout->info); p++) {
    guint64 last_row = (guint64) (layout->rows[p] - 1)
        * (guint64) MAX (layout->stride[p], 0);

    if (layout->stride[p] < 0
        || (gsize) layout->stride[p] < layout->row_bytes[p]
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

/* Where the planes of a buffer lie; FALSE if they do not fit in it. */
static gboolean
find_layout (Layout * layout, GstBuffer * buffer, const GstVideoInfo * info,
    gchar ** why)
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
  measure_planes (layout);
  return planes_inside (layout, size, why);
}

gboolean
gst_glm4v_frame_check (GstBuffer * buffer, const GstVideoInfo * info,
    gchar ** why)
{
  Layout layout;

  return find_layout (&layout, buffer, info, why);
}

/* ---- hold ---- */

static gboolean
pool_is_small (GstBufferPool * pool)
{
  GstStructure *config;
  guint max = 0;

  if (!pool)
    return FALSE;
  config = gst_buffer_pool_get_config (pool);
  gst_buffer_pool_config_get_params (config, NULL, NULL, NULL, &max);
  gst_structure_free (config);
  return max > 0 && max < SMALL_POOL;
}

GstBuffer *
gst_glm4v_frame_hold (GstBuffer * buffer)
{
  gboolean copy = pool_is_small (buffer->pool);
  guint i;

  for (i = 0; i < gst_buffer_n_memory (buffer); i++)
    copy |= GST_MEMORY_IS_NO_SHARE (gst_buffer_peek_memory (buffer, i));
  return copy ? gst_buffer_copy_deep (buffer) : gst_buffer_ref (buffer);
}

/* ---- conversion ---- */

GstGlm4vConverter *
gst_glm4v_converter_new (void)
{
  return g_new0 (GstGlm4vConverter, 1);
}

void
gst_glm4v_converter_free (GstGlm4vConverter * converter)
{
  if (converter->converter)
    gst_video_converter_free (converter->converter);
  g_free (converter->rgb);
  g_free (converter->aligned);
  g_free (converter);
}

/* At least size bytes in *block, old contents lost. */
static gboolean
reserve (guint8 ** block, gsize * have, gsize size)
{
  if (*have >= size)
    return TRUE;
  g_free (*block);
  *block = g_try_malloc (size);
  *have = *block ? size : 0;
  return *block != NULL;
}

/* A converter for frames like in; made anew only when something changed. */
static gboolean
prepare (GstGlm4vConverter * self, const GstVideoInfo * in)
{
  if (self->converter && gst_video_info_is_equal (&self->in, in))
    return TRUE;
  g_clear_pointer (&self->converter, gst_video_converter_free);
  self->in = *in;
  gst_video_info_set_interlaced_format (&self->out, GST_VIDEO_FORMAT_RGB,
      GST_VIDEO_INFO_INTERLACE_MODE (in), GST_VIDEO_INFO_WIDTH (in),
      GST_VIDEO_INFO_HEIGHT (in));
  self->out.fps_n = in->fps_n;
  self->out.fps_d = in->fps_d;
  /* No dither: the same frame always gives the same picture. */
  self->converter = gst_video_converter_new (in, &self->out,
      gst_structure_new ("options",
          GST_VIDEO_CONVERTER_OPT_DITHER_METHOD, GST_TYPE_VIDEO_DITHER_METHOD,
          GST_VIDEO_DITHER_NONE, GST_VIDEO_CONVERTER_OPT_THREADS, G_TYPE_UINT,
          1, NULL));
  return self->converter != NULL;
}

/* The same frame in the strides that GStreamer itself chooses: its converters
 * read whole machine words, which odd strides and tight ends do not allow. */
static gboolean
realign (GstGlm4vConverter * self, const Layout * layout,
    const guint8 * bytes, GstVideoFrame * frame)
{
  const GstVideoInfo *info = &self->in;
  guint p, row;

  if (!reserve (&self->aligned, &self->aligned_size,
          GST_VIDEO_INFO_SIZE (info)))
    return FALSE;
  frame->info = *info;
  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (info); p++) {
    guint8 *to = self->aligned + GST_VIDEO_INFO_PLANE_OFFSET (info, p);
    const guint8 *from = bytes + layout->offset[p];

    frame->data[p] = to;
    for (row = 0; row < layout->rows[p]; row++)
      memcpy (to + (gsize) row * GST_VIDEO_INFO_PLANE_STRIDE (info, p),
          from + (gsize) row * layout->stride[p], layout->row_bytes[p]);
  }
  return TRUE;
}

/* GStreamer's own layout and a buffer of full size: may be read in place. */
static gboolean
is_default_layout (const Layout * layout, const GstVideoInfo * info,
    const GstMapInfo * map)
{
  guint p;

  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (info); p++)
    if (layout->stride[p] != GST_VIDEO_INFO_PLANE_STRIDE (info, p)
        || layout->offset[p] != GST_VIDEO_INFO_PLANE_OFFSET (info, p))
      return FALSE;
  return map->size >= GST_VIDEO_INFO_SIZE (info)
      && GPOINTER_TO_SIZE (map->data) % 4 == 0;
}

static gboolean
frame_is_interlaced (GstBuffer * buffer, const GstVideoInfo * info)
{
  if (GST_VIDEO_INFO_INTERLACE_MODE (info) == GST_VIDEO_INTERLACE_MODE_MIXED)
    return GST_BUFFER_FLAG_IS_SET (buffer, GST_VIDEO_BUFFER_FLAG_INTERLACED);
  return GST_VIDEO_INFO_IS_INTERLACED (info);
}

static gboolean
convert_mapped (GstGlm4vConverter * self, GstBuffer * buffer,
    const Layout * layout, const GstMapInfo * map)
{
  GstVideoFrame in = { 0 }, out = { 0 };
  guint p;

  if (is_default_layout (layout, &self->in, map)) {
    in.info = self->in;
    for (p = 0; p < GST_VIDEO_INFO_N_PLANES (&self->in); p++)
      in.data[p] = map->data + layout->offset[p];
  } else if (!realign (self, layout, map->data, &in)) {
    return FALSE;
  }
  if (!reserve (&self->rgb, &self->rgb_size, GST_VIDEO_INFO_SIZE (&self->out)))
    return FALSE;
  in.buffer = out.buffer = buffer;
  if (frame_is_interlaced (buffer, &self->in))
    in.flags = out.flags = GST_VIDEO_FRAME_FLAG_INTERLACED;
  out.info = self->out;
  out.data[0] = self->rgb;
  gst_video_converter_frame (self->converter, &in, &out);
  return TRUE;
}

/* Strides and offsets of the stream do not matter to the converter. */
static void
default_info (const Layout * layout, GstVideoInfo * in)
{
  const GstVideoInfo *stored = &layout->info;

  gst_video_info_set_interlaced_format (in, GST_VIDEO_INFO_FORMAT (stored),
      GST_VIDEO_INFO_INTERLACE_MODE (stored), GST_VIDEO_INFO_WIDTH (stored),
      GST_VIDEO_INFO_HEIGHT (stored));
  in->colorimetry = stored->colorimetry;
  in->chroma_site = stored->chroma_site;
  in->fps_n = stored->fps_n;
  in->fps_d = stored->fps_d;
}

gboolean
gst_glm4v_converter_run (GstGlm4vConverter * self, GstBuffer * buffer,
    const GstVideoInfo * info, glm4v_image * image, GstGlm4vFault * fault,
    gchar ** why)
{
  Layout layout;
  GstVideoInfo in;
  GstMapInfo map;
  gboolean done;

  *fault = GST_GLM4V_FAULT_FRAME_SIZE;
  if (!find_layout (&layout, buffer, info, why))
    return FALSE;
  default_info (&layout, &in);
  *fault = GST_GLM4V_FAULT_CAPS;
  if (!prepare (self, &in)) {
    *why = g_strdup_printf ("no conversion of %s to RGB",
        gst_video_format_to_string (GST_VIDEO_INFO_FORMAT (&in)));
    return FALSE;
  }
  *fault = GST_GLM4V_FAULT_FRAME_MAP;
  if (!gst_buffer_map (buffer, &map, GST_MAP_READ)) {
    *why = g_strdup ("mapping for reading failed");
    return FALSE;
  }
  *fault = GST_GLM4V_FAULT_FRAME_MEMORY;
  done = map.size >= gst_buffer_get_size (buffer)
      && convert_mapped (self, buffer, &layout, &map);
  gst_buffer_unmap (buffer, &map);
  if (!done) {
    *why = g_strdup_printf ("RGB of %dx%d pixels", GST_VIDEO_INFO_WIDTH (&in),
        GST_VIDEO_INFO_HEIGHT (&in));
    return FALSE;
  }
  *image = (glm4v_image) {
    .data = self->rgb + (gsize) layout.y
        * GST_VIDEO_INFO_PLANE_STRIDE (&self->out, 0) + 3 * (gsize) layout.x,
    .width = (gint32) layout.width,
    .height = (gint32) layout.height,
    .stride = GST_VIDEO_INFO_PLANE_STRIDE (&self->out, 0),
  };
  return TRUE;
}
