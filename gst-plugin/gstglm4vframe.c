/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GstBuffer -> glm4v_image. Stage "pixels"; the checks and the hold run on the
 * streaming thread, the conversion on the worker. The buffer is mapped whole,
 * gstglm4vlayout.c finds the planes in it, GstVideoConverter makes RGB.
 *
 * Transparent frames are composited on white, pixel for pixel like Pillow's
 * paste() with a mask: the reference image loaders prepare pictures in this
 * way. */
#include "gstglm4vframe.h"

/* Pools with fewer buffers than this may starve while we keep two. */
#define SMALL_POOL 8

/* The converters read whole machine words: bytes behind the last pixel that
 * must be there. */
#define SLACK 64

struct _GstGlm4vConverter
{
  GstVideoInfo in;              /* what converter was made for */
  GstVideoConverter *converter; /* NULL before the first frame */
  GstVideoInfo out;
  guint8 *rgb;                  /* or RGBA, before it is put on white */
  gsize rgb_size;
  guint8 *aligned;              /* a copy of frames with other strides */
  gsize aligned_size;
};

gboolean
gst_glm4v_frame_check (GstBuffer * buffer, const GstVideoInfo * info,
    gchar ** why)
{
  GstGlm4vLayout layout;

  return gst_glm4v_layout_find (&layout, buffer, info, why);
}

/* ---- hold ---- */

static gboolean
pool_is_small (GstBufferPool * pool, guint held)
{
  GstStructure *config;
  guint max = 0;

  if (!pool)
    return FALSE;
  config = gst_buffer_pool_get_config (pool);
  gst_buffer_pool_config_get_params (config, NULL, NULL, NULL, &max);
  gst_structure_free (config);
  return max > 0 && max < SMALL_POOL + held - 1;
}

GstBuffer *
gst_glm4v_frame_hold (GstBuffer * buffer, guint held)
{
  gboolean scarce = pool_is_small (buffer->pool, held);
  GstBuffer *copy = NULL;
  guint i;

  for (i = 0; i < gst_buffer_n_memory (buffer); i++)
    scarce |= GST_MEMORY_IS_NO_SHARE (gst_buffer_peek_memory (buffer, i));
  if (scarce)
    copy = gst_buffer_copy_deep (buffer);
  return copy ? copy : gst_buffer_ref (buffer);
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

/* At least size bytes in *block; a new block is all zero. */
static gboolean
reserve (guint8 ** block, gsize * have, gsize size)
{
  if (*have >= size)
    return TRUE;
  g_free (*block);
  *block = g_try_malloc0 (size);
  *have = *block ? size : 0;
  return *block != NULL;
}

/* Not GST_VIDEO_INFO_HAS_ALPHA(): GStreamer 1.22 has formats with an alpha
 * component and without the flag. */
static gboolean
has_alpha (const GstVideoInfo * info)
{
  return GST_VIDEO_INFO_N_COMPONENTS (info) == 4
      || GST_VIDEO_FORMAT_INFO_HAS_PALETTE (info->finfo);
}

/* A converter for frames like in; created again only when something changed. */
static gboolean
prepare (GstGlm4vConverter * self, const GstVideoInfo * in)
{
  if (self->converter && gst_video_info_is_equal (&self->in, in))
    return TRUE;
  g_clear_pointer (&self->converter, gst_video_converter_free);
  g_clear_pointer (&self->aligned, g_free);     /* what pads rows is zero */
  self->aligned_size = 0;
  self->in = *in;
  gst_video_info_set_interlaced_format (&self->out,
      has_alpha (in) ? GST_VIDEO_FORMAT_RGBA : GST_VIDEO_FORMAT_RGB,
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

/* Bytes that a plane takes in the aligned copy. */
static gsize
aligned_bytes (const GstGlm4vLayout * layout, const GstVideoInfo * info,
    guint plane)
{
  if (GST_VIDEO_FORMAT_INFO_IS_TILED (info->finfo))
    return layout->row_bytes[plane];
  return MAX ((gsize) layout->rows[plane]
      * GST_VIDEO_INFO_PLANE_STRIDE (info, plane), layout->row_bytes[plane]);
}

/* The same frame in the strides that GStreamer itself chooses, with slack at
 * its end. Tiles stay as they are, and so does their stride. */
static gboolean
realign (GstGlm4vConverter * self, const GstGlm4vLayout * layout,
    const guint8 * bytes, GstVideoFrame * frame)
{
  const GstVideoInfo *info = &self->in;
  gsize total = SLACK;
  guint8 *to;
  guint p, row;

  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (info); p++)
    total += GST_ROUND_UP_16 (aligned_bytes (layout, info, p));
  if (!reserve (&self->aligned, &self->aligned_size, total))
    return FALSE;
  to = self->aligned;
  frame->info = *info;
  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (info); p++) {
    const guint8 *from = bytes + layout->offset[p];
    gint stride = GST_VIDEO_INFO_PLANE_STRIDE (info, p);

    frame->data[p] = to;
    if (GST_VIDEO_FORMAT_INFO_IS_TILED (info->finfo))
      frame->info.stride[p] = layout->stride[p];
    for (row = 0; row < layout->rows[p]; row++)
      memcpy (to + (gsize) row * stride,
          from + (gsize) row * layout->stride[p], layout->row_bytes[p]);
    to += GST_ROUND_UP_16 (aligned_bytes (layout, info, p));
  }
  return TRUE;
}

/* GStreamer's own layout, a buffer of full size, and whole bytes a pixel: may
 * be read in place. The unpackers of the other formats read beyond the end. */
static gboolean
is_default_layout (const GstGlm4vLayout * layout, const GstVideoInfo * info,
    const GstMapInfo * map)
{
  guint p;

  if (GST_VIDEO_FORMAT_INFO_IS_COMPLEX (info->finfo)
      || GST_VIDEO_FORMAT_INFO_IS_TILED (info->finfo))
    return FALSE;
  for (p = 0; p < GST_VIDEO_INFO_N_PLANES (info); p++)
    if (layout->stride[p] != GST_VIDEO_INFO_PLANE_STRIDE (info, p)
        || layout->offset[p] != GST_VIDEO_INFO_PLANE_OFFSET (info, p))
      return FALSE;
  return map->size >= GST_VIDEO_INFO_SIZE (info)
      && GPOINTER_TO_SIZE (map->data) % 4 == 0;
}

/* ---- 16-bit grey ---- */

static gboolean
is_gray16 (const GstVideoInfo * info)
{
  return GST_VIDEO_INFO_FORMAT (info) == GST_VIDEO_FORMAT_GRAY16_LE
      || GST_VIDEO_INFO_FORMAT (info) == GST_VIDEO_FORMAT_GRAY16_BE;
}

/* The highest 8 of the significant bits, as the GRAY8 frame of self->in; values
 * that use more bits are white. */
static gboolean
narrow_gray (GstGlm4vConverter * self, const GstGlm4vLayout * layout,
    const guint8 * bytes, guint bits, GstVideoFrame * frame)
{
  gboolean big = GST_VIDEO_INFO_FORMAT (&layout->info)
      == GST_VIDEO_FORMAT_GRAY16_BE;
  guint most = (1u << bits) - 1;
  gint x, y;

  if (!reserve (&self->aligned, &self->aligned_size,
          GST_VIDEO_INFO_SIZE (&self->in) + SLACK))
    return FALSE;
  frame->info = self->in;
  frame->data[0] = self->aligned;
  for (y = 0; y < GST_VIDEO_INFO_HEIGHT (&self->in); y++) {
    const guint8 *from = bytes + layout->offset[0]
        + (gsize) y * layout->stride[0];
    guint8 *to = self->aligned
        + (gsize) y * GST_VIDEO_INFO_PLANE_STRIDE (&self->in, 0);

    for (x = 0; x < GST_VIDEO_INFO_WIDTH (&self->in); x++, from += 2) {
      guint value = big ? from[0] << 8 | from[1] : from[1] << 8 | from[0];

      to[x] = (guint8) (MIN (value, most) >> (bits - 8));
    }
  }
  return TRUE;
}

/* ---- alpha ---- */

/* alpha * value + (1 - alpha) * white, rounded as Pillow does. */
static guint8
on_white (guint value, guint alpha)
{
  guint sum = value * alpha + 255 * (255 - alpha) + 128;

  return (guint8) ((sum + (sum >> 8)) >> 8);
}

/* GStreamer 1.22 makes 192 of the most that two bits can say. */
static gboolean
has_two_bit_alpha (const GstVideoInfo * info)
{
  return GST_VIDEO_INFO_N_COMPONENTS (info) == 4
      && GST_VIDEO_INFO_COMP_DEPTH (info, GST_VIDEO_COMP_A) == 2;
}

/* RGBA -> RGB in the same rows. */
static void
put_on_white (guint8 * pixels, const GstVideoInfo * info, gboolean two_bits)
{
  gint x, y;

  for (y = 0; y < GST_VIDEO_INFO_HEIGHT (info); y++) {
    guint8 *to = pixels + (gsize) y * GST_VIDEO_INFO_PLANE_STRIDE (info, 0);
    const guint8 *from = to;

    for (x = 0; x < GST_VIDEO_INFO_WIDTH (info); x++, from += 4, to += 3) {
      guint alpha = two_bits ? (from[3] >> 6) * 85 : from[3];

      to[0] = on_white (from[0], alpha);
      to[1] = on_white (from[1], alpha);
      to[2] = on_white (from[2], alpha);
    }
  }
}

/* ---- conversion ---- */

gboolean
gst_glm4v_frame_is_interlaced (GstBuffer * buffer, const GstVideoInfo * info)
{
  if (GST_VIDEO_INFO_INTERLACE_MODE (info) == GST_VIDEO_INTERLACE_MODE_MIXED)
    return GST_BUFFER_FLAG_IS_SET (buffer, GST_VIDEO_BUFFER_FLAG_INTERLACED);
  return GST_VIDEO_INFO_IS_INTERLACED (info);
}

static gboolean
convert_mapped (GstGlm4vConverter * self, GstBuffer * buffer,
    const GstGlm4vLayout * layout, const GstMapInfo * map, guint gray_bits)
{
  GstVideoFrame in = { 0 }, out = { 0 };
  guint p;

  if (is_gray16 (&layout->info)) {
    if (!narrow_gray (self, layout, map->data, gray_bits, &in))
      return FALSE;
  } else if (is_default_layout (layout, &self->in, map)) {
    in.info = self->in;
    for (p = 0; p < GST_VIDEO_INFO_N_PLANES (&self->in); p++)
      in.data[p] = map->data + layout->offset[p];
  } else if (!realign (self, layout, map->data, &in)) {
    return FALSE;
  }
  if (!reserve (&self->rgb, &self->rgb_size, GST_VIDEO_INFO_SIZE (&self->out)))
    return FALSE;
  in.buffer = out.buffer = buffer;
  if (gst_glm4v_frame_is_interlaced (buffer, &self->in))
    in.flags = out.flags = GST_VIDEO_FRAME_FLAG_INTERLACED;
  out.info = self->out;
  out.data[0] = self->rgb;
  gst_video_converter_frame (self->converter, &in, &out);
  if (has_alpha (&self->in))
    put_on_white (self->rgb, &self->out, has_two_bit_alpha (&self->in));
  return TRUE;
}

/* Strides and offsets of the stream do not matter to the converter. */
static void
default_info (const GstGlm4vLayout * layout, GstVideoInfo * in)
{
  const GstVideoInfo *stored = &layout->info;

  gst_video_info_set_interlaced_format (in, is_gray16 (stored) ?
      GST_VIDEO_FORMAT_GRAY8 : GST_VIDEO_INFO_FORMAT (stored),
      GST_VIDEO_INFO_INTERLACE_MODE (stored), GST_VIDEO_INFO_WIDTH (stored),
      GST_VIDEO_INFO_HEIGHT (stored));
  in->colorimetry = stored->colorimetry;
  in->chroma_site = stored->chroma_site;
  in->fps_n = stored->fps_n;
  in->fps_d = stored->fps_d;
}

/* Draw what a sink would draw over the frame: with the caps feature
 * meta:GstVideoOverlayComposition it is not in the pixels yet. */
static void
draw_overlays (GstBuffer * buffer, const glm4v_image * image, guint8 * pixels)
{
  GstVideoFrame frame = { 0 };
  gpointer state = NULL;
  GstMeta *meta;

  gst_video_info_set_format (&frame.info, GST_VIDEO_FORMAT_RGB,
      (guint) image->width, (guint) image->height);
  frame.info.stride[0] = (gint) image->stride;
  frame.buffer = buffer;
  frame.data[0] = pixels;
  while ((meta = gst_buffer_iterate_meta_filtered (buffer, &state,
              GST_VIDEO_OVERLAY_COMPOSITION_META_API_TYPE)))
    gst_video_overlay_composition_blend (((GstVideoOverlayCompositionMeta *)
            meta)->overlay, &frame);
}

static const gchar *
memory_kind (GstBuffer * buffer)
{
  GstMemory *memory = gst_buffer_n_memory (buffer) > 0 ?
      gst_buffer_peek_memory (buffer, 0) : NULL;

  return memory && memory->allocator && memory->allocator->mem_type ?
      memory->allocator->mem_type : "unknown";
}

gboolean
gst_glm4v_converter_run (GstGlm4vConverter * self, const GstGlm4vFrame * frame,
    glm4v_image * image, GstGlm4vFault * fault, gchar ** why)
{
  GstBuffer *buffer = frame->buffer;
  GstGlm4vLayout layout;
  GstVideoInfo in;
  GstMapInfo map;
  guint8 *shown;
  gboolean done;

  *fault = GST_GLM4V_FAULT_FRAME_SIZE;
  if (!gst_glm4v_layout_find (&layout, buffer, frame->info, why))
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
    *why = g_strdup_printf ("memory of the kind %s cannot be mapped for "
        "reading", memory_kind (buffer));
    return FALSE;
  }
  *fault = GST_GLM4V_FAULT_FRAME_MEMORY;
  done = map.size >= gst_buffer_get_size (buffer)
      && convert_mapped (self, buffer, &layout, &map, frame->gray_bits);
  gst_buffer_unmap (buffer, &map);
  if (!done) {
    *why = g_strdup_printf ("RGB of %dx%d pixels", GST_VIDEO_INFO_WIDTH (&in),
        GST_VIDEO_INFO_HEIGHT (&in));
    return FALSE;
  }
  shown = self->rgb + (gsize) layout.y
      * GST_VIDEO_INFO_PLANE_STRIDE (&self->out, 0) + 3 * (gsize) layout.x;
  *image = (glm4v_image) {
    .data = shown,
    .width = (gint32) layout.width,
    .height = (gint32) layout.height,
    .stride = GST_VIDEO_INFO_PLANE_STRIDE (&self->out, 0),
  };
  draw_overlays (buffer, image, shown);
  return TRUE;
}
