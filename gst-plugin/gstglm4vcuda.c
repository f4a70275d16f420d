/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine works in the primary context of its GPU, which is offered as
 * gst.cuda.context: elements that take it need no context of their own. Frames
 * of any context of the GPU are copied, once and on the GPU, so upstream has
 * its buffer back before the model looks at it.
 *
 * Streams: what writes a frame ends before the frame is pushed (GStreamer 1.22)
 * or is known to its memory (1.24), or it runs on the default stream of the
 * frame's context, which is waited for. The copy has a stream of its own, which
 * waits for none of the engine's, and has ended before the engine is asked. */
#include "gstglm4vcuda.h"

#include "gstglm4vdescribe.h"
#include "gstglm4vlayout.h"

#define GST_CAT_DEFAULT glm4vdescribe_debug

gint
gst_glm4v_cuda_number (const gchar * devices)
{
  if (g_str_equal (devices, "auto"))
    return 0;
  if (!g_str_has_prefix (devices, "cuda"))
    return -1;
  return devices[4] == ':' ? (gint) g_ascii_strtoll (devices + 5, NULL, 10) : 0;
}

gboolean
gst_glm4v_cuda_has (GstBuffer * buffer)
{
  GstMemory *memory = gst_buffer_n_memory (buffer) > 0 ?
      gst_buffer_peek_memory (buffer, 0) : NULL;

  return memory && memory->allocator
      && g_strcmp0 (memory->allocator->mem_type, "gst.cuda.memory") == 0;
}

#ifdef HAVE_GST_CUDA

#define GST_USE_UNSTABLE_API
#include <dlfcn.h>
#include <gst/cuda/gstcudacontext.h>
#include <gst/cuda/gstcudaloader.h>
#include <gst/cuda/gstcudamemory.h>
#include <gst/cuda/gstcudautils.h>

/* ---- gstcuda ---- */

/* Not linked: it brings OpenGL and more into the process. Elements that have
 * frames on a GPU have loaded it; where it is not loaded nobody has any. */
#define GST_CUDA_LIBRARY "libgstcuda-1.0.so.0"

typedef struct
{
  __typeof__ (gst_cuda_load_library) * load_library;
  __typeof__ (gst_cuda_context_new_wrapped) * new_wrapped;
  __typeof__ (gst_cuda_context_push) * push;
  __typeof__ (gst_cuda_context_pop) * pop;
  __typeof__ (gst_cuda_handle_context_query) * handle_query;
#if GST_CHECK_VERSION (1, 24, 0)
  __typeof__ (gst_cuda_memory_sync) * sync;
#endif
  __typeof__ (CuStreamCreate) * stream_create;
  __typeof__ (CuStreamDestroy) * stream_destroy;
  __typeof__ (CuStreamSynchronize) * stream_synchronize;
  __typeof__ (CuMemAlloc) * alloc;
  __typeof__ (CuMemFree) * free;
  __typeof__ (CuMemcpy2DAsync) * copy;
} Library;

static GMutex lock;             /* guards what follows */
static GWeakRef contexts[GLM4V_MAX_DEVICES];    /* of GstCudaContext */
static Library cuda;            /* constant once found */
static gboolean found;

/* TRUE if all functions are there and the driver is. With the lock. */
static gboolean
find_library (void)
{
  const struct
  {
    const gchar *name;
    gpointer *function;
  } list[] = {
    {"gst_cuda_load_library", (gpointer *) & cuda.load_library},
    {"gst_cuda_context_new_wrapped", (gpointer *) & cuda.new_wrapped},
    {"gst_cuda_context_push", (gpointer *) & cuda.push},
    {"gst_cuda_context_pop", (gpointer *) & cuda.pop},
    {"gst_cuda_handle_context_query", (gpointer *) & cuda.handle_query},
#if GST_CHECK_VERSION (1, 24, 0)
    {"gst_cuda_memory_sync", (gpointer *) & cuda.sync},
#endif
    {"CuStreamCreate", (gpointer *) & cuda.stream_create},
    {"CuStreamDestroy", (gpointer *) & cuda.stream_destroy},
    {"CuStreamSynchronize", (gpointer *) & cuda.stream_synchronize},
    {"CuMemAlloc", (gpointer *) & cuda.alloc},
    {"CuMemFree", (gpointer *) & cuda.free},
    {"CuMemcpy2DAsync", (gpointer *) & cuda.copy},
  };
  void *library;
  guint i;

  if (found)
    return TRUE;
  library = dlopen (GST_CUDA_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
  found = library != NULL;
  for (i = 0; found && i < G_N_ELEMENTS (list); i++) {
    *list[i].function = dlsym (library, list[i].name);
    found = *list[i].function != NULL;
  }
  found = found && cuda.load_library ();
  if (library && !found)
    dlclose (library);
  return found;
}

static gboolean
succeeds (CUresult result, const gchar * call)
{
  if (result != CUDA_SUCCESS)
    GST_WARNING ("%s failed: CUDA error %d", call, (gint) result);
  return result == CUDA_SUCCESS;
}

/* ---- the context ---- */

static void
release (gpointer number)
{
  gchar *name = g_strdup_printf ("cuda:%d", GPOINTER_TO_INT (number));

  glm4v_device_release (name);
  g_free (name);
}

/* The primary context is retained for as long as the object lives. With the
 * lock. */
static GstCudaContext *
wrap (gint number)
{
  gchar *name = g_strdup_printf ("cuda:%d", number);
  glm4v_error error = { 0 };
  GstCudaContext *context = NULL;
  gpointer handle = NULL;

  if (!find_library ()) {
    GST_INFO ("no element has loaded gstcuda, or it finds no driver");
  } else if (glm4v_device_retain (name, &handle, &error) != 0) {
    GST_INFO ("no CUDA context: %s", error.msg);
  } else {
    context = handle ? cuda.new_wrapped (handle, number) : NULL;
    if (context)
      g_object_set_data_full (G_OBJECT (context), "glm4v-primary",
          GINT_TO_POINTER (number), release);
    else
      glm4v_device_release (name);
  }
  g_free (name);
  return context;
}

GstObject *
gst_glm4v_cuda_get_context (gint number)
{
  GstCudaContext *context;

  if (number < 0 || number >= GLM4V_MAX_DEVICES)
    return NULL;
  g_mutex_lock (&lock);
  context = g_weak_ref_get (&contexts[number]);
  if (!context) {
    context = wrap (number);
    g_weak_ref_set (&contexts[number], context);
  }
  g_mutex_unlock (&lock);
  return (GstObject *) context;
}

gboolean
gst_glm4v_cuda_answer (GstElement * element, GstQuery * query,
    GstObject * context)
{
  return cuda.handle_query (element, query, (GstCudaContext *) context);
}

/* ---- copies ---- */

typedef struct
{
  CUdeviceptr data;
  gsize size;
} Block;

struct _GstGlm4vCudaCopies
{
  gint number;
  GstCudaContext *context;
  CUstream stream;
  GArray *blocks;               /* of Block */
  guint used;                   /* blocks since reset */
};

GstGlm4vCudaCopies *
gst_glm4v_cuda_copies_new (gint number)
{
  GstCudaContext *context =
      (GstCudaContext *) gst_glm4v_cuda_get_context (number);
  CUstream stream = NULL;
  GstGlm4vCudaCopies *self;
  gboolean open = FALSE;

  if (context && cuda.push (context)) {
    open = succeeds (cuda.stream_create (&stream, CU_STREAM_NON_BLOCKING),
        "cuStreamCreate");
    cuda.pop (NULL);
  }
  if (!open) {
    gst_clear_object (&context);
    return NULL;
  }
  self = g_new0 (GstGlm4vCudaCopies, 1);
  self->number = number;
  self->context = context;
  self->stream = stream;
  self->blocks = g_array_new (FALSE, TRUE, sizeof (Block));
  return self;
}

/* The context is current. */
static void
free_block (Block * block)
{
  if (block->data)
    succeeds (cuda.free (block->data), "cuMemFree");
  *block = (Block) { 0 };
}

void
gst_glm4v_cuda_copies_free (GstGlm4vCudaCopies * self)
{
  guint i;

  if (cuda.push (self->context)) {
    for (i = 0; i < self->blocks->len; i++)
      free_block (&g_array_index (self->blocks, Block, i));
    succeeds (cuda.stream_destroy (self->stream), "cuStreamDestroy");
    cuda.pop (NULL);
  }
  g_array_unref (self->blocks);
  gst_object_unref (self->context);
  g_free (self);
}

void
gst_glm4v_cuda_copies_reset (GstGlm4vCudaCopies * self)
{
  self->used = 0;
}

/* The next block, of at least that size; NULL if there is no memory. The
 * context is current. */
static Block *
take_block (GstGlm4vCudaCopies * self, gsize size)
{
  Block *block;

  if (size > G_MAXUINT)         /* CuMemAlloc() takes 32 bits */
    return NULL;
  if (self->used == self->blocks->len)
    g_array_set_size (self->blocks, self->used + 1);
  block = &g_array_index (self->blocks, Block, self->used);
  if (block->size < size) {
    free_block (block);
    if (!succeeds (cuda.alloc (&block->data, (guint) size), "cuMemAlloc"))
      return NULL;
    block->size = size;
  }
  self->used++;
  return block;
}

/* ---- formats ---- */

typedef struct
{
  GstVideoFormat from;
  glm4v_pixel_format to;
} Format;

static const Format formats[] = {
  {GST_VIDEO_FORMAT_NV12, GLM4V_PIXELS_NV12},
  {GST_VIDEO_FORMAT_P010_10LE, GLM4V_PIXELS_P010},
  {GST_VIDEO_FORMAT_I420, GLM4V_PIXELS_I420},
  {GST_VIDEO_FORMAT_YV12, GLM4V_PIXELS_I420},
  {GST_VIDEO_FORMAT_YUY2, GLM4V_PIXELS_YUY2},
  {GST_VIDEO_FORMAT_RGB, GLM4V_PIXELS_RGB},
  {GST_VIDEO_FORMAT_BGR, GLM4V_PIXELS_BGR},
  {GST_VIDEO_FORMAT_RGBx, GLM4V_PIXELS_RGBX},
  {GST_VIDEO_FORMAT_BGRx, GLM4V_PIXELS_BGRX},
  {GST_VIDEO_FORMAT_RGBA, GLM4V_PIXELS_RGBA},
  {GST_VIDEO_FORMAT_BGRA, GLM4V_PIXELS_BGRA},
  {GST_VIDEO_FORMAT_GRAY8, GLM4V_PIXELS_GRAY8},
};

static const Format *
find_format (GstVideoFormat format)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (formats); i++)
    if (formats[i].from == format)
      return &formats[i];
  return NULL;
}

/* FALSE for colours that the engine does not know. */
static gboolean
find_colors (const GstVideoInfo * info, glm4v_image * image)
{
  const GstVideoColorimetry *color = &info->colorimetry;

  image->full_range = color->range == GST_VIDEO_COLOR_RANGE_0_255;
  if (!GST_VIDEO_INFO_IS_YUV (info))
    return image->full_range || color->range == GST_VIDEO_COLOR_RANGE_UNKNOWN;
  switch (color->matrix) {
    case GST_VIDEO_COLOR_MATRIX_BT601:
      image->matrix = GLM4V_YUV_BT601;
      return TRUE;
    case GST_VIDEO_COLOR_MATRIX_BT709:
      image->matrix = GLM4V_YUV_BT709;
      return TRUE;
    case GST_VIDEO_COLOR_MATRIX_BT2020:
      image->matrix = GLM4V_YUV_BT2020;
      return TRUE;
    default:
      return FALSE;
  }
}

gboolean
gst_glm4v_cuda_reads (const GstGlm4vFrame * frame)
{
  glm4v_image image = { 0 };
  GstBuffer *buffer = frame->buffer;

  return gst_buffer_n_memory (buffer) == 1
      && gst_glm4v_cuda_has (buffer)
      && find_format (GST_VIDEO_INFO_FORMAT (frame->info))
      && find_colors (frame->info, &image)
      && !gst_glm4v_frame_is_interlaced (buffer, frame->info)
      && !gst_buffer_get_meta (buffer,
      GST_VIDEO_OVERLAY_COMPOSITION_META_API_TYPE);
}

static glm4v_image
image_of (const GstGlm4vCudaCopies * self, const GstGlm4vLayout * layout,
    const GstVideoInfo * info, const guint8 * data)
{
  const GstVideoFormatInfo *format = info->finfo;
  glm4v_image image = {
    .width = (gint32) layout->width,
    .height = (gint32) layout->height,
    .left = (gint32) layout->x,
    .top = (gint32) layout->y,
    .memory = GLM4V_IMAGE_CUDA,
    .device = self->number,
    .format = find_format (GST_VIDEO_INFO_FORMAT (info))->to,
  };
  guint i;

  find_colors (info, &image);
  image.data = data + layout->offset[0];
  image.stride = layout->stride[0];
  for (i = 1; i < GST_VIDEO_FORMAT_INFO_N_PLANES (format); i++) {
    /* By component, not by plane: YV12 has them the other way round. */
    guint plane = GST_VIDEO_FORMAT_INFO_PLANE (format, i);

    image.plane[i - 1] = data + layout->offset[plane];
    image.plane_stride[i - 1] = layout->stride[plane];
  }
  return image;
}

/* ---- frames ---- */

/* Wait for what still writes the frame. */
static gboolean
wait_written (GstCudaMemory * memory)
{
  gboolean done;

#if GST_CHECK_VERSION (1, 24, 0)
  cuda.sync (memory);
#endif
  if (!cuda.push (memory->context))
    return FALSE;
  done = succeeds (cuda.stream_synchronize (NULL), "cuStreamSynchronize");
  cuda.pop (NULL);
  return done;
}

/* Unified addresses: the driver finds the context of each. */
static gboolean
copy_bytes (GstGlm4vCudaCopies * self, CUdeviceptr to, CUdeviceptr from,
    gsize size)
{
  CUDA_MEMCPY2D param = {
    .srcMemoryType = CU_MEMORYTYPE_DEVICE,
    .srcDevice = from,
    .srcPitch = size,
    .dstMemoryType = CU_MEMORYTYPE_DEVICE,
    .dstDevice = to,
    .dstPitch = size,
    .WidthInBytes = size,
    .Height = 1,
  };

  return succeeds (cuda.copy (&param, self->stream), "cuMemcpy2DAsync")
      && succeeds (cuda.stream_synchronize (self->stream),
      "cuStreamSynchronize");
}

static gboolean
copy_mapped (GstGlm4vCudaCopies * self, const GstMapInfo * map,
    const guint8 ** data, GstGlm4vFault * fault, gchar ** why)
{
  Block *block;

  *fault = GST_GLM4V_FAULT_FRAME_MEMORY;
  block = take_block (self, map->size);
  if (!block) {
    *why = g_strdup_printf ("%" G_GSIZE_FORMAT " bytes on cuda:%d", map->size,
        self->number);
    return FALSE;
  }
  *fault = GST_GLM4V_FAULT_FRAME_DEVICE;
  if (!copy_bytes (self, block->data, (CUdeviceptr) (guintptr) map->data,
          map->size)) {
    *why = g_strdup_printf ("a frame could not be copied on cuda:%d",
        self->number);
    return FALSE;
  }
  *data = (const guint8 *) (guintptr) block->data;
  return TRUE;
}

gboolean
gst_glm4v_cuda_copy (GstGlm4vCudaCopies * self, const GstGlm4vFrame * frame,
    glm4v_image * image, GstGlm4vFault * fault, gchar ** why)
{
  GstMemory *memory = gst_buffer_peek_memory (frame->buffer, 0);
  const guint8 *data = NULL;
  GstGlm4vLayout layout;
  gboolean copied;
  GstMapInfo map;

  *fault = GST_GLM4V_FAULT_FRAME_SIZE;
  if (!gst_glm4v_layout_find (&layout, frame->buffer, frame->info, why))
    return FALSE;
  *fault = GST_GLM4V_FAULT_FRAME_MAP;
  if (!wait_written (GST_CUDA_MEMORY_CAST (memory))
      || !gst_memory_map (memory, &map, GST_MAP_READ | GST_MAP_CUDA)) {
    *why = g_strdup ("memory of the GPU cannot be mapped there");
    return FALSE;
  }
  *fault = GST_GLM4V_FAULT_FRAME_DEVICE;
  copied = cuda.push (self->context);
  if (copied) {
    copied = copy_mapped (self, &map, &data, fault, why);
    cuda.pop (NULL);
  } else {
    *why = g_strdup_printf ("cuda:%d does not answer", self->number);
  }
  gst_memory_unmap (memory, &map);
  if (copied)
    *image = image_of (self, &layout, frame->info, data);
  return copied;
}

#else

GstObject *
gst_glm4v_cuda_get_context (gint number)
{
  GST_INFO ("built without gstcuda: no context of cuda:%d", number);
  return NULL;
}

gboolean
gst_glm4v_cuda_answer (GstElement * element, GstQuery * query,
    GstObject * context)
{
  return FALSE;
}

GstGlm4vCudaCopies *
gst_glm4v_cuda_copies_new (gint number)
{
  return NULL;
}

void
gst_glm4v_cuda_copies_free (GstGlm4vCudaCopies * copies)
{
}

void
gst_glm4v_cuda_copies_reset (GstGlm4vCudaCopies * copies)
{
}

gboolean
gst_glm4v_cuda_reads (const GstGlm4vFrame * frame)
{
  return FALSE;
}

gboolean
gst_glm4v_cuda_copy (GstGlm4vCudaCopies * copies, const GstGlm4vFrame * frame,
    glm4v_image * image, GstGlm4vFault * fault, gchar ** why)
{
  return FALSE;
}

#endif
