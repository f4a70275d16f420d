/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames in memory of a GPU (caps feature memory:CUDAMemory): the context that
 * GStreamer's elements share with the engine, and frames copied, on the GPU, to
 * where the engine reads them. Built without gstcuda there is no context. */
#pragma once

#include <gst/gst.h>
#include <glm4v/glm4v.h>

#include "gstglm4verror.h"
#include "gstglm4vframe.h"

G_BEGIN_DECLS

/* The GPU that comes first in a device string or a map of layers, "cuda:1,cpu";
 * "auto" is 0. -1: the CPU comes first. */
gint gst_glm4v_cuda_number (const gchar * devices);

/* Is the frame in memory of a GPU? */
gboolean gst_glm4v_cuda_has (GstBuffer * buffer);

/* The GstCudaContext of GPU `number` that the engine works in; NULL if there
 * is none that can be used. All elements get the same object. */
GstObject *gst_glm4v_cuda_get_context (gint number);

/* Answer a query for gst.cuda.context. */
gboolean gst_glm4v_cuda_answer (GstElement * element, GstQuery * query,
    GstObject * context);

/* Memory of one GPU that frames are copied to; one thread. It grows to what was
 * needed at once, and is then used again. */
typedef struct _GstGlm4vCudaCopies GstGlm4vCudaCopies;

/* NULL if the GPU cannot be used. */
GstGlm4vCudaCopies *gst_glm4v_cuda_copies_new (gint number);
void gst_glm4v_cuda_copies_free (GstGlm4vCudaCopies * copies);

/* Nobody looks at the copies any more. */
void gst_glm4v_cuda_copies_reset (GstGlm4vCudaCopies * copies);

/* Can the engine read this frame on the GPU? */
gboolean gst_glm4v_cuda_reads (const GstGlm4vFrame * frame);

/* Copy such a frame, which may lie in another context; the image lives until
 * reset, the buffer is not needed any more. FALSE with *fault and *why. */
gboolean gst_glm4v_cuda_copy (GstGlm4vCudaCopies * copies,
    const GstGlm4vFrame * frame, glm4v_image * image, GstGlm4vFault * fault,
    gchar ** why);

G_END_DECLS
