/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage "pixels" of the worker: from the buffers of a job to the images that
 * the engine sees. */
#include "gstglm4vworkerpriv.h"

#include <string.h>

/* Memory on the GPU that the model is on; FALSE if it cannot be had. */
static gboolean
open_copies (GstGlm4vWorker * self, gint number)
{
  if (!self->copies)
    self->copies = gst_glm4v_cuda_copies_new (number);
  return self->copies != NULL;
}

/* The picture of one frame, wherever that lies. Frames on the GPU of the model
 * stay there, unless their format is not one that is read there. */
static gboolean
read_frame (GstGlm4vAsked * asked, const GstGlm4vJob * job, GstBuffer * buffer,
    glm4v_image * image, GstGlm4vFault * fault, gchar ** why)
{
  GstGlm4vWorker *self = asked->worker;
  const GstGlm4vFrame frame = { buffer, &job->info, job->gray_bits };
  const glm4v_model_info *info;
  gint number;

  if (!gst_glm4v_cuda_has (buffer))
    return gst_glm4v_converter_run (self->converter, &frame, image, fault, why);
  info = self->describer->klass->get_info (self->describer);
  number = info ? gst_glm4v_cuda_number (info->image_device) : -1;
  if (number < 0) {
    *fault = GST_GLM4V_FAULT_FRAME_MAP;
    *why = g_strdup ("it is memory of a GPU, and the model is not on one");
    return FALSE;
  }
  if (gst_glm4v_cuda_reads (&frame) && open_copies (self, number))
    return gst_glm4v_cuda_copy (self->copies, &frame, image, fault, why);
  asked->outcome.downloaded = TRUE;
  return gst_glm4v_converter_run (self->converter, &frame, image, fault, why);
}

/* Those of earlier frames. */
static void
drop_copies (GstGlm4vWorker * self)
{
  if (self->copies)
    gst_glm4v_cuda_copies_reset (self->copies);
}

static gint
code_of (GstGlm4vFault fault)
{
  switch (fault) {
    case GST_GLM4V_FAULT_FRAME_MEMORY:
      return GLM4V_ERR_NOMEM;
    case GST_GLM4V_FAULT_FRAME_DEVICE:
      return GLM4V_ERR_DEVICE;
    default:
      return GLM4V_ERR_INVALID;
  }
}

/* The picture of the frame: the one at hand if it was asked about just now. */
static gboolean
convert_frame (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vWorker *self = asked->worker;
  GstGlm4vPicture *picture = &self->picture;
  GstGlm4vFault fault = GST_GLM4V_FAULT_FRAME_MEMORY;
  gchar *why = NULL;

  if (picture->known && picture->epoch == job->epoch
      && picture->frame_number == job->frame_number)
    return TRUE;
  picture->known = FALSE;
  *picture->digest = 0;
  drop_copies (self);
  if (job->buffer)
    picture->known = read_frame (asked, job, job->buffer, &picture->image,
        &fault, &why);
  else
    why = g_strdup ("the frame could not be copied");
  picture->epoch = job->epoch;
  picture->frame_number = job->frame_number;
  if (!picture->known)
    gst_glm4v_outcome_fail (&asked->outcome, code_of (fault), fault, why);
  g_free (why);
  return picture->known;
}

/* The part of the picture that is asked about. */
static gboolean
crop (GstGlm4vAsked * asked, glm4v_image * image)
{
  GstGlm4vRoi *roi = asked->roi;

  asked->outcome.width = (guint) image->width;
  asked->outcome.height = (guint) image->height;
  if (!roi)
    return TRUE;
  if (!gst_glm4v_roi_clip (roi, image->width, image->height)) {
    gst_glm4v_outcome_fail (&asked->outcome, GLM4V_ERR_INVALID,
        GST_GLM4V_FAULT_FRAME_REFUSED, "the region lies outside the frame");
    return FALSE;
  }
  if (image->memory == GLM4V_IMAGE_HOST) {
    image->data += roi->y * image->stride + GLM4V_CHANNELS * (gsize) roi->x;
  } else {
    image->left += roi->x;
    image->top += roi->y;
  }
  image->width = roi->width;
  image->height = roi->height;
  return TRUE;
}

static gboolean
convert_picture (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  glm4v_image image;

  if (!convert_frame (asked, job))
    return FALSE;
  image = asked->worker->picture.image;
  if (!crop (asked, &image))
    return FALSE;
  g_array_append_val (asked->images, image);
  return TRUE;
}

/* ---- clips ---- */

/* The converter has one picture only, so each frame of a clip is copied; on the
 * GPU it has a copy of its own already. */
static gboolean
keep_image (GstGlm4vAsked * asked, glm4v_image image)
{
  gsize row = GLM4V_CHANNELS * (gsize) image.width;
  guint8 *block;
  gint y;

  if (image.memory != GLM4V_IMAGE_HOST) {
    g_array_append_val (asked->images, image);
    return TRUE;
  }
  block = g_try_malloc0 (row * (gsize) image.height);
  if (!block)
    return FALSE;
  for (y = 0; y < image.height; y++)
    memcpy (block + (gsize) y * row, image.data + y * image.stride, row);
  image.data = block;
  image.stride = (gint64) row;
  g_ptr_array_add (asked->blocks, block);
  g_array_append_val (asked->images, image);
  return TRUE;
}

void
gst_glm4v_worker_forget_clip (GstGlm4vWorker * self)
{
  GstGlm4vSharedClip *clip = &self->clip;

  g_clear_pointer (&clip->images, g_array_unref);
  g_clear_pointer (&clip->blocks, g_ptr_array_unref);
  g_clear_pointer (&clip->times, g_array_unref);
  g_clear_pointer (&clip->digests, g_strfreev);
  clip->pictures_id = 0;
}

/* The next questions about a clip find it here. */
static void
share_clip (const GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vWorker *self = asked->worker;

  gst_glm4v_worker_forget_clip (self);
  if (job->pictures_id == 0)
    return;
  self->clip = (GstGlm4vSharedClip) {
    .pictures_id = job->pictures_id,
    .images = g_array_ref (asked->images),
    .blocks = g_ptr_array_ref (asked->blocks),
    .times = g_array_ref (asked->outcome.times),
    .width = asked->outcome.width,
    .height = asked->outcome.height,
    .downloaded = asked->outcome.downloaded
  };
}

/* FALSE if another question than this was asked before. */
static gboolean
find_clip (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  const GstGlm4vSharedClip *clip = &asked->worker->clip;

  if (job->pictures_id == 0 || clip->pictures_id != job->pictures_id)
    return FALSE;
  g_array_unref (asked->images);
  asked->images = g_array_ref (clip->images);
  g_ptr_array_unref (asked->blocks);
  asked->blocks = g_ptr_array_ref (clip->blocks);
  asked->outcome.times = g_array_ref (clip->times);
  asked->outcome.width = clip->width;
  asked->outcome.height = clip->height;
  asked->outcome.downloaded = clip->downloaded;
  if (asked->roi)               /* there is something left, as for the first */
    gst_glm4v_roi_clip (asked->roi, (gint) clip->width, (gint) clip->height);
  return TRUE;
}

static gboolean
convert_clip (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vWorker *self = asked->worker;
  GstClockTime start = ((GstGlm4vClipFrame *)
      g_ptr_array_index (job->clip, 0))->time;
  GstGlm4vFault fault = GST_GLM4V_FAULT_FRAME_MEMORY;
  gboolean converted = TRUE;
  guint i;

  if (find_clip (asked, job))
    return TRUE;
  self->picture.known = FALSE;
  drop_copies (self);
  asked->outcome.times = g_array_new (FALSE, FALSE, sizeof (guint64));
  for (i = 0; i < job->clip->len && converted; i++) {
    const GstGlm4vClipFrame *clip = g_ptr_array_index (job->clip, i);
    glm4v_image image;
    gchar *why = NULL;
    guint64 time;

    converted = clip->buffer && read_frame (asked, job, clip->buffer, &image,
        &fault, &why);
    if (!converted)
      gst_glm4v_outcome_fail (&asked->outcome, clip->buffer ? code_of (fault) :
          GLM4V_ERR_NOMEM, fault, why ? why : "the frame could not be copied");
    g_free (why);
    if (!converted || !crop (asked, &image))
      return FALSE;
    time = clip->time - start;
    g_array_append_val (asked->outcome.times, time);
    image.timestamp = (gdouble) time / GST_SECOND;
    converted = keep_image (asked, image);
    if (!converted)
      gst_glm4v_outcome_fail (&asked->outcome, GLM4V_ERR_NOMEM,
          GST_GLM4V_FAULT_FRAME_MEMORY, "a clip");
  }
  if (converted)
    share_clip (asked, job);
  return converted;
}

/* ---- digests ---- */

/* Of a part of the picture, which several questions may be about. */
static gboolean
digest_part (GstGlm4vPicture * picture, const GstGlm4vRoi * roi,
    const glm4v_image * image)
{
  const gint part[4] = { roi ? roi->x : 0, roi ? roi->y : 0, image->width,
    image->height
  };

  if (*picture->digest && memcmp (picture->part, part, sizeof part) == 0)
    return TRUE;
  memcpy (picture->part, part, sizeof part);
  if (glm4v_digest_image (picture->digest, image))
    return TRUE;
  *picture->digest = 0;
  return FALSE;
}

/* Of each frame of a clip, or NULL. */
static gchar **
digest_frames (const GArray * images)
{
  gchar **digests = g_new0 (gchar *, images->len + 1);
  gchar digest[GLM4V_DIGEST_SIZE];
  guint i;

  for (i = 0; i < images->len; i++) {
    if (!glm4v_digest_image (digest, &g_array_index (images, glm4v_image, i))) {
      g_strfreev (digests);
      return NULL;
    }
    digests[i] = g_strdup (digest);
  }
  return digests;
}

static gchar **
digest_clip (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vSharedClip *clip = &asked->worker->clip;

  if (job->pictures_id == 0 || clip->pictures_id != job->pictures_id)
    return digest_frames (asked->images);
  if (!clip->digests)
    clip->digests = digest_frames (asked->images);
  return g_strdupv (clip->digests);
}

/* What lies on a GPU has no digest: its pixels do not come here. */
void
gst_glm4v_asked_digest (GstGlm4vAsked * asked, const GstGlm4vJob * job)
{
  GstGlm4vPicture *picture = &asked->worker->picture;

  if (job->clip_frames > 0) {
    asked->outcome.pictures = digest_clip (asked, job);
  } else if (digest_part (picture, asked->roi,
          (const glm4v_image *) asked->images->data)) {
    asked->outcome.pictures = g_strdupv ((gchar *[]) {picture->digest, NULL});
  }
}

/* ---- both ---- */

gboolean
gst_glm4v_asked_convert (GstGlm4vAsked * asked, GstGlm4vJob * job)
{
  gint64 start = g_get_monotonic_time ();
  GstGlm4vWorker *self = asked->worker;
  GPtrArray *clip;
  gboolean converted;

  g_mutex_lock (&self->lock);
  self->converting = TRUE;      /* from now on buffers are not replaced */
  g_mutex_unlock (&self->lock);
  converted = job->clip ? convert_clip (asked, job) :
      convert_picture (asked, job);
  asked->outcome.convert = (guint64) (g_get_monotonic_time () - start) * 1000;
  gst_clear_buffer (&job->buffer);      /* upstream may have it back */
  g_mutex_lock (&self->lock);
  clip = g_steal_pointer (&job->clip);
  self->converting = FALSE;
  converted = converted && asked->job;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
  g_clear_pointer (&clip, g_ptr_array_unref);
  return converted;
}
