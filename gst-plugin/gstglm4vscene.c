/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A cut is a frame that differs from the one before it much more than frames
 * have differed of late: movement and noise differ all the time, light changes
 * slowly. */
#include "gstglm4vscene.h"

#include <string.h>

#include "gstglm4vlayout.h"

#define POINTS 3                /* pixels of a cell, each way */

/* Where a component of a pixel lies. */
typedef struct
{
  const guint8 *data;           /* of the first pixel shown */
  gint stride, pixel;
  guint depth, shift;           /* significant bits, and those below them */
  gboolean words, big;          /* two bytes, the high one first */
} Component;

/* ---- pixels ---- */

static guint
value_at (const Component * c, guint x, guint y)
{
  const guint8 *p = c->data + (gsize) y * c->stride + (gsize) x * c->pixel;
  guint value = *p;

  if (c->words)
    value = c->big ? p[0] << 8 | p[1] : p[1] << 8 | p[0];
  value = (value >> c->shift) & ((1u << c->depth) - 1);
  return c->depth > 8 ? value >> (c->depth - 8) : value;
}

/* Words that share a plane with others are packed in ways of their own. */
static gboolean
has_planes (const GstVideoFormatInfo * format)
{
  return GST_VIDEO_FORMAT_INFO_N_PLANES (format) > 1
      || GST_VIDEO_FORMAT_INFO_IS_GRAY (format);
}

/* FALSE if the component has no whole bytes or words of its own. */
static gboolean
find_component (Component * c, const GstGlm4vLayout * layout,
    const guint8 * bytes, guint n)
{
  const GstVideoFormatInfo *format = layout->info.finfo;
  guint plane = GST_VIDEO_FORMAT_INFO_PLANE (format, n);

  c->depth = GST_VIDEO_FORMAT_INFO_DEPTH (format, n);
  c->shift = GST_VIDEO_FORMAT_INFO_SHIFT (format, n);
  c->words = c->depth + c->shift > 8;
  c->big = !GST_VIDEO_FORMAT_INFO_IS_LE (format);
  c->pixel = GST_VIDEO_FORMAT_INFO_PSTRIDE (format, n);
  c->stride = layout->stride[plane];
  c->data = bytes + layout->offset[plane]
      + GST_VIDEO_FORMAT_INFO_POFFSET (format, n)
      + (gsize) layout->y * c->stride + (gsize) layout->x * c->pixel;
  return c->depth >= 8 && c->depth + c->shift <= 16 && c->pixel > 0
      && (!c->words || has_planes (format));
}

static guint
luma_at (const Component * c, gboolean rgb, guint x, guint y)
{
  if (!rgb)
    return value_at (&c[0], x, y);
  return (77 * value_at (&c[0], x, y) + 150 * value_at (&c[1], x, y)
      + 29 * value_at (&c[2], x, y)) >> 8;
}

/* ---- planes ---- */

static void
fill_plane (GstGlm4vPlane * plane, const Component * c, gboolean rgb,
    guint width, guint height)
{
  const guint across = GST_GLM4V_PLANE_COLUMNS * POINTS;
  const guint down = GST_GLM4V_PLANE_ROWS * POINTS;
  guint sums[GST_GLM4V_PLANE_COLUMNS], i, x, y;

  for (y = 0; y < down; y++) {
    guint row = (guint) ((2 * y + 1) * (guint64) height / (2 * down));

    if (y % POINTS == 0)
      memset (sums, 0, sizeof sums);
    for (x = 0; x < across; x++)
      sums[x / POINTS] += luma_at (c, rgb,
          (guint) ((2 * x + 1) * (guint64) width / (2 * across)), row);
    if (y % POINTS == POINTS - 1)
      for (i = 0; i < GST_GLM4V_PLANE_COLUMNS; i++)
        plane->luma[y / POINTS * GST_GLM4V_PLANE_COLUMNS + i] =
            (guint8) (sums[i] / (POINTS * POINTS));
  }
  plane->known = TRUE;
}

static gboolean
is_plain (const GstVideoFormatInfo * format)
{
  return !GST_VIDEO_FORMAT_INFO_IS_COMPLEX (format)
      && !GST_VIDEO_FORMAT_INFO_IS_TILED (format)
      && !GST_VIDEO_FORMAT_INFO_HAS_PALETTE (format);
}

/* FALSE if the format is not one that can be read pixel by pixel. */
static gboolean
read_pixels (GstGlm4vPlane * plane, const GstGlm4vLayout * layout,
    const guint8 * bytes, guint gray_bits)
{
  const GstVideoFormatInfo *format = layout->info.finfo;
  gboolean rgb = GST_VIDEO_FORMAT_INFO_IS_RGB (format);
  Component c[3];
  guint n = rgb ? 3 : 1, i;

  if (!is_plain (format))
    return FALSE;
  for (i = 0; i < n; i++)
    if (!find_component (&c[i], layout, bytes, i))
      return FALSE;
  if (GST_VIDEO_FORMAT_INFO_IS_GRAY (format) && c[0].depth == 16)
    c[0].depth = gray_bits;
  fill_plane (plane, c, rgb, layout->width, layout->height);
  return TRUE;
}

static void
read_converted (GstGlm4vPlane * plane, GstBuffer * buffer,
    const GstVideoInfo * info, GstGlm4vConverter * converter)
{
  const GstGlm4vFrame frame = { buffer, info, GST_GLM4V_MAX_GRAY_BITS };
  GstGlm4vFault fault;
  gchar *why = NULL;
  glm4v_image image;
  Component c[3];
  guint i;

  if (gst_glm4v_converter_run (converter, &frame, &image, &fault, &why)) {
    for (i = 0; i < 3; i++)
      c[i] = (Component) {.data = image.data + i,.stride = (gint) image.stride,
        .pixel = 3,.depth = 8
      };
    fill_plane (plane, c, TRUE, (guint) image.width, (guint) image.height);
  }
  g_free (why);
}

void
gst_glm4v_plane_read (GstGlm4vPlane * plane, GstBuffer * buffer,
    const GstVideoInfo * info, guint gray_bits, GstGlm4vConverter * converter)
{
  GstGlm4vLayout layout;
  gchar *why = NULL;
  GstMapInfo map;
  gboolean read = FALSE;

  plane->known = FALSE;
  if (!gst_glm4v_layout_find (&layout, buffer, info, &why)
      || !gst_buffer_map (buffer, &map, GST_MAP_READ)) {
    g_free (why);
    return;
  }
  if (map.size >= gst_buffer_get_size (buffer))
    read = read_pixels (plane, &layout, map.data, gray_bits);
  gst_buffer_unmap (buffer, &map);
  if (!read)
    read_converted (plane, buffer, info, converter);
}

gdouble
gst_glm4v_plane_difference (const GstGlm4vPlane * a, const GstGlm4vPlane * b)
{
  guint sum = 0, i;

  if (!a->known || !b->known)
    return 1;
  for (i = 0; i < G_N_ELEMENTS (a->luma); i++)
    sum += (guint) ABS (a->luma[i] - b->luma[i]);
  return sum / (255.0 * G_N_ELEMENTS (a->luma));
}

/* ---- scenes ---- */

gdouble
gst_glm4v_scene_next (GstGlm4vScene * scene, const GstGlm4vPlane * plane,
    gdouble threshold)
{
  gdouble difference, most = 0, score;
  guint i;

  if (!plane->known)
    return 0;
  difference = scene->last.known ? gst_glm4v_plane_difference (plane,
      &scene->last) : 0;
  scene->last = *plane;
  for (i = 0; i < MIN (scene->n, GST_GLM4V_SCENE_HISTORY); i++)
    most = MAX (most, scene->history[i]);
  score = MAX (difference - most, 0);
  if (score < threshold)
    scene->history[scene->n++ % GST_GLM4V_SCENE_HISTORY] = difference;
  return score;
}
