/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The element's properties: one struct of values, their declarations, and the
 * default place of the model. */
#pragma once

#include <gst/gst.h>

#include "gstglm4verror.h"
#include "gstglm4vhistory.h"
#include "gstglm4vmodelconfig.h"
#include "gstglm4vreading.h"
#include "gstglm4vsampler.h"
#include "gstglm4vjob.h"

G_BEGIN_DECLS

/**
 * GstGlm4vMode:
 * @GST_GLM4V_MODE_AUTO: async if the source is live, else sync
 * @GST_GLM4V_MODE_ASYNC: video passes at once, answers follow
 * @GST_GLM4V_MODE_SYNC: a sampled frame waits for its answer
 */
typedef enum
{
  GST_GLM4V_MODE_AUTO,
  GST_GLM4V_MODE_ASYNC,
  GST_GLM4V_MODE_SYNC
} GstGlm4vMode;

/**
 * GstGlm4vOnError:
 * @GST_GLM4V_ON_ERROR_WARN: post a warning, count, let the video pass
 * @GST_GLM4V_ON_ERROR_FAIL: post an error and end the stream
 */
typedef enum
{
  GST_GLM4V_ON_ERROR_WARN,
  GST_GLM4V_ON_ERROR_FAIL
} GstGlm4vOnError;

/**
 * GstGlm4vLeaky:
 * @GST_GLM4V_LEAKY_NO: the video waits instead; in mode sync only
 * @GST_GLM4V_LEAKY_UPSTREAM: the new frame
 * @GST_GLM4V_LEAKY_DOWNSTREAM: the one that has waited longest
 *
 * Which frame goes where max-pending samples wait for the model already.
 */
typedef enum
{
  GST_GLM4V_LEAKY_NO,
  GST_GLM4V_LEAKY_UPSTREAM,
  GST_GLM4V_LEAKY_DOWNSTREAM
} GstGlm4vLeaky;

/* gstglm4venums.c */
GType gst_glm4v_sample_mode_get_type (void);
GType gst_glm4v_mode_get_type (void);
GType gst_glm4v_roi_mode_get_type (void);
GType gst_glm4v_on_error_get_type (void);
GType gst_glm4v_output_get_type (void);
GType gst_glm4v_verdict_get_type (void);
GType gst_glm4v_leaky_get_type (void);
GType gst_glm4v_speculation_get_type (void);

/* Defaults of properties whose default is not zero or NULL. */
#define GST_GLM4V_DEFAULT_DEVICE "auto"
#define GST_GLM4V_DEFAULT_KV_CACHE "auto"
#define GST_GLM4V_MAX_PENDING 4096
#define GST_GLM4V_DEFAULT_PROMPT "Describe the image in one sentence."
#define GST_GLM4V_DEFAULT_INTERVAL GST_SECOND
#define GST_GLM4V_DEFAULT_NTH 30
#define GST_GLM4V_DEFAULT_WINDOW GST_SECOND
#define GST_GLM4V_MAX_CLIP 64
#define GST_GLM4V_DEFAULT_SCENE_THRESHOLD 0.08
#define GST_GLM4V_DEFAULT_STALL_TIMEOUT (60 * GST_SECOND)
#define GST_GLM4V_DEFAULT_EOS_TIMEOUT (10 * GST_SECOND)
#define GST_GLM4V_DEFAULT_READING_SPEED 15
#define GST_GLM4V_DEFAULT_LINE_LENGTH 37
#define GST_GLM4V_DEFAULT_LINES 2
#define GST_GLM4V_DEFAULT_GAP_INTERVAL (200 * GST_MSECOND)
#define GST_GLM4V_DEFAULT_TIMEOUT_VERDICT GLM4V_VERDICT_FAIL
#define GST_GLM4V_DEFAULT_THRESHOLD 0.5
#define GST_GLM4V_DEFAULT_COOLDOWN (2 * GST_SECOND)
#define GST_GLM4V_MAX_HYSTERESIS 1000

typedef struct
{
  GstGlm4vModelConfig model;    /* dir as set: NULL = look for one */
  GstGlm4vQuestion question;    /* its shape is that of `shape`, checked */
  GstGlm4vShapeSettings shape;
  guint shape_serial;           /* counts changes of it */
  gchar **prompts;              /* instead of question.prompt; or NULL */
  GstGlm4vSampling sampling;    /* as set: AUTO and NONE are among it */
  GstGlm4vReading reading;
  GstGlm4vRoiSettings roi;
  GstGlm4vClipSize clip;
  gboolean bad_roi;             /* it was not four numbers */
  gdouble scene_threshold, change_threshold;
  guint serial;                 /* counts changes of any property */
  GstGlm4vMode mode;
  GstGlm4vOnError on_error;
  guint gray_bits, max_pending;
  GstClockTime deadline, stall_timeout;
  GstClockTime eos_timeout, gap_interval, text_duration, lateness, latency;
  GstGlm4vLeaky leaky;
  GstGlm4vHistorySettings history;
  gboolean attach_meta, persist_meta, post_messages, send_events, json_sync;
  gboolean suppress_duplicates;
} GstGlm4vSettings;

/* Property ids; the last three are answered by the element itself. */
enum
{
  PROP_0,
  PROP_MODEL_LOCATION,
  PROP_MODEL_KEY,
  PROP_DEVICE,
  PROP_LAYERS,
  PROP_GPU_MEMORY_LIMIT,
  PROP_KV_CACHE,
  PROP_QUANTIZATION,
  PROP_N_THREADS,
  PROP_MAX_PIXELS,
  PROP_MAX_BATCH,
  PROP_CONTEXT_LENGTH,
  PROP_IDLE_UNLOAD,
  PROP_ENDPOINT,
  PROP_MODEL,
  PROP_API_KEY_FILE,
  PROP_CA_FILE,
  PROP_CERTIFICATE_FILE,
  PROP_PRIVATE_KEY_FILE,
  PROP_REMOTE_MAX_PIXELS,
  PROP_REMOTE_CODING,
  PROP_LAST_OF_ENGINE = PROP_REMOTE_CODING,
  PROP_PROMPT,
  PROP_PROMPTS,
  PROP_PROMPT_LOCATION,
  PROP_SYSTEM_PROMPT,
  PROP_CONTEXT_PROMPT,
  PROP_CAMERA,
  PROP_MAX_TOKENS,
  PROP_TEMPERATURE,
  PROP_TOP_K,
  PROP_TOP_P,
  PROP_SEED,
  PROP_THINKING,
  PROP_SPECULATION,
  PROP_SAMPLE_MODE,
  PROP_INTERVAL,
  PROP_NTH,
  PROP_SCENE_THRESHOLD,
  PROP_CHANGE_THRESHOLD,
  PROP_FRAMES_PER_REQUEST,
  PROP_WINDOW,
  PROP_ONLY_ON,
  PROP_ROI,
  PROP_ROI_MODE,
  PROP_MODE,
  PROP_MAX_PENDING,
  PROP_DEADLINE,
  PROP_STALL_TIMEOUT,
  PROP_GRAY_BITS,
  PROP_EOS_TIMEOUT,
  PROP_ON_ERROR,
  PROP_ATTACH_META,
  PROP_PERSIST_META,
  PROP_POST_MESSAGES,
  PROP_GAP_INTERVAL,
  PROP_TEXT_DURATION,
  PROP_READING_SPEED,
  PROP_MAX_LINE_LENGTH,
  PROP_MAX_LINES,
  PROP_SUPPRESS_DUPLICATES,
  PROP_LATENESS,
  PROP_LATENCY,
  PROP_OUTPUT,
  PROP_CHOICES,
  PROP_FAIL_CHOICES,
  PROP_THRESHOLDS,
  PROP_TIMEOUT_VERDICT,
  PROP_JSON_SCHEMA,
  PROP_JSON_SCHEMA_LOCATION,
  PROP_PATTERN,
  PROP_HYSTERESIS,
  PROP_COOLDOWN,
  PROP_LEAKY,
  PROP_STATS_INTERVAL,
  PROP_SEND_EVENTS,
  PROP_JSON_SYNC,
  PROP_STATS,
  PROP_MAX_OBSERVED_DELAY,
  PROP_LAST_RESULT,
  PROP_MODEL_INFO
};

void gst_glm4v_properties_install (GObjectClass * klass);

void gst_glm4v_settings_init (GstGlm4vSettings * settings);
void gst_glm4v_settings_clear (GstGlm4vSettings * settings);

/* FALSE if id is none of the settings. The caller holds the object lock. */
gboolean gst_glm4v_settings_set (GstGlm4vSettings * settings, guint id,
    const GValue * value);
/* What they do not allow together and its fault, or NULL; lives as long as they
 * do not change. */
const gchar *gst_glm4v_settings_conflict (const GstGlm4vSettings * settings,
    GstGlm4vFault * fault);
gboolean gst_glm4v_settings_get (const GstGlm4vSettings * settings, guint id,
    GValue * value);

/* When frames are sampled: `paced` where captions, if there are any, set it. */
GstGlm4vSampling gst_glm4v_settings_sampling (const GstGlm4vSettings *
    settings);

/* gstglm4vmodelpath.c. The model that comes with the plugin: a directory of
 * this name. */
#define GST_GLM4V_SHIPPED_MODEL "surface-tiny"

/* The directory to use when model-location is not set, or NULL with *looked
 * (g_free) naming the places that were tried. */
gchar *gst_glm4v_find_model (gchar ** looked);

G_END_DECLS
