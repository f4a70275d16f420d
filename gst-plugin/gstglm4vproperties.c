/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Declarations of the properties; gstglm4vsettings.c and gstglm4vshape.c keep
 * their values, gstglm4venums.c has the types of some. */
#include "gstglm4vproperties.h"

#include "gstglm4vcaption.h"
#include "gstglm4vframe.h"
#include "gstglm4vstatistics.h"

#define READY (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS \
    | GST_PARAM_MUTABLE_READY)
#define PLAYING (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS \
    | GST_PARAM_MUTABLE_PLAYING)
#define READ_ONLY (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)

static void
install_model (GObjectClass * klass)
{
  /**
   * GstGlm4vDescribe:model-location:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MODEL_LOCATION,
      g_param_spec_string ("model-location", "Model location",
          "Directory of the model (config.json, *.safetensors, tokenizer). "
          "NULL: environment GLM4V_MODEL, else the shipped surface-tiny",
          NULL, READY));
  /**
   * GstGlm4vDescribe:device:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_DEVICE,
      g_param_spec_string ("device", "Device",
          "Where the model runs: cpu, cuda[:N], or several with commas between "
          "them; auto: the first GPU where there is one that can be used, and "
          "the CPU for what it has no room for",
          GST_GLM4V_DEFAULT_DEVICE, READY));
  /**
   * GstGlm4vDescribe:layers:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_LAYERS,
      g_param_spec_string ("layers", "Layers",
          "Text layers of each device by hand, as cuda:0=0-19,cpu=20-39, "
          "instead of device. NULL: dealt out by free memory", NULL, READY));
  /**
   * GstGlm4vDescribe:gpu-memory-limit:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_GPU_MEMORY_LIMIT,
      g_param_spec_uint64 ("gpu-memory-limit", "GPU memory limit",
          "Most memory of each GPU to use, bytes, 0 = what is free", 0,
          G_MAXUINT64, 0, READY));
  /**
   * GstGlm4vDescribe:quantization:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_QUANTIZATION,
      g_param_spec_string ("quantization", "Quantization",
          "Form of the weights in memory: fp32, bf16, int8, int4, int4-32, fp8 "
          "or fp8-dynamic for text and vision, or a list such as "
          "text=int4,vision=int8 (keys text, vision, embedding, lm-head). "
          "NULL: as stored", NULL, READY));
  /**
   * GstGlm4vDescribe:kv-cache:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_KV_CACHE,
      g_param_spec_string ("kv-cache", "Keys and values",
          "Form of keys and values: auto, bf16, or int8 (GPUs only: half the "
          "memory)", GST_GLM4V_DEFAULT_KV_CACHE, READY));
  /**
   * GstGlm4vDescribe:n-threads:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_N_THREADS,
      g_param_spec_uint ("n-threads", "Threads",
          "CPU threads of the engine, 0 = all cores this process may use",
          0, 1024, 0, READY));
  /**
   * GstGlm4vDescribe:max-pixels:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MAX_PIXELS,
      g_param_spec_uint64 ("max-pixels", "Maximum pixels",
          "Largest number of pixels of a picture after resizing; fewer are "
          "faster and less detailed, 0 = the limit of the model", 0,
          G_MAXUINT64, 0, READY));
  /**
   * GstGlm4vDescribe:model-key:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MODEL_KEY,
      g_param_spec_string ("model-key", "Model key",
          "Elements of this process with the same key share one engine; NULL: "
          "those with the same model, device and quantization do", NULL,
          READY));
  /**
   * GstGlm4vDescribe:max-batch:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MAX_BATCH,
      g_param_spec_uint ("max-batch", "Maximum batch",
          "Requests that the engine advances together, of all elements that "
          "share it; each needs memory for context-length tokens", 1,
          GLM4V_MAX_BATCH, GLM4V_DEFAULT_BATCH, READY));
  /**
   * GstGlm4vDescribe:context-length:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_CONTEXT_LENGTH,
      g_param_spec_uint ("context-length", "Context length",
          "Tokens of a request, pictures and answer included; 0 = the model's "
          "own, at most 8192", 0, G_MAXINT, 0, READY));
  /**
   * GstGlm4vDescribe:idle-unload:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_IDLE_UNLOAD,
      g_param_spec_uint64 ("idle-unload", "Idle unload",
          "Nanoseconds without a request after which the model's memory is "
          "given back; the next sampled frame loads it again. 0 = never", 0,
          G_MAXINT64, 0, READY));
}

static void
install_question (GObjectClass * klass)
{
  /**
   * GstGlm4vDescribe:prompt:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_PROMPT,
      g_param_spec_string ("prompt", "Prompt",
          "Question about each sampled frame; a change applies from the next "
          "one on",
          GST_GLM4V_DEFAULT_PROMPT, PLAYING));
  /**
   * GstGlm4vDescribe:prompts:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_PROMPTS,
      gst_param_spec_array ("prompts", "Prompts",
          "Several questions about each sampled frame, with a result each; "
          "instead of prompt",
          g_param_spec_string ("prompt", "Prompt", "A question", NULL,
              G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS), PLAYING));
  /**
   * GstGlm4vDescribe:prompt-location:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_PROMPT_LOCATION,
      g_param_spec_string ("prompt-location", "Prompt location",
          "File that holds the prompt, read again when it changes; instead of "
          "prompt", NULL, PLAYING));
  /**
   * GstGlm4vDescribe:system-prompt:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_SYSTEM_PROMPT,
      g_param_spec_string ("system-prompt", "System prompt",
          "Instruction before the prompt, NULL = none", NULL,
          PLAYING));
  /**
   * GstGlm4vDescribe:context-prompt:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_CONTEXT_PROMPT,
      g_param_spec_string ("context-prompt", "Context prompt",
          "What is normal here, for the model to compare with; stands behind "
          "the system prompt", NULL, PLAYING));
  /**
   * GstGlm4vDescribe:camera:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_CAMERA,
      g_param_spec_string ("camera", "Camera",
          "Name that stands for {camera} in prompts", NULL, PLAYING));
  /**
   * GstGlm4vDescribe:max-tokens:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MAX_TOKENS,
      g_param_spec_uint ("max-tokens", "Maximum tokens",
          "Largest number of tokens of an answer", 1, GLM4V_MAX_TOKENS,
          GLM4V_DEFAULT_TOKENS, PLAYING));
  /**
   * GstGlm4vDescribe:temperature:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_TEMPERATURE,
      g_param_spec_double ("temperature", "Temperature",
          "Randomness of the answer; 0 = always the likeliest token, so the "
          "same frame gives the same answer", 0.0, 2.0, 0.0, PLAYING));
  /**
   * GstGlm4vDescribe:top-k:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_TOP_K,
      g_param_spec_uint ("top-k", "Top k",
          "Sample from this many of the likeliest tokens only, 0 = no limit", 0,
          G_MAXUINT, 0, PLAYING));
  /**
   * GstGlm4vDescribe:top-p:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_TOP_P,
      g_param_spec_double ("top-p", "Top p",
          "Sample only from the likeliest tokens that together have this "
          "probability, 1 = no limit", 0.01, 1.0, 1.0, PLAYING));
  /**
   * GstGlm4vDescribe:seed:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_SEED,
      g_param_spec_uint64 ("seed", "Seed",
          "Seed of the sampling: the same frame, prompt and seed give the same "
          "answer",
          0, G_MAXUINT64, 0, PLAYING));
  /**
   * GstGlm4vDescribe:thinking:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_THINKING,
      g_param_spec_boolean ("thinking", "Thinking",
          "Let models that can reason before they answer; slower", FALSE,
          PLAYING));
  /**
   * GstGlm4vDescribe:speculation:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_SPECULATION,
      g_param_spec_enum ("speculation", "Speculation",
          "Check several expected tokens at a time: those of the last answers "
          "to the same question, of repeated text and of GLM-OCR's MTP layer. "
          "The answer is the same, sooner", gst_glm4v_speculation_get_type (),
          GLM4V_SPECULATION_AUTO, PLAYING));
}

static void
install_when (GObjectClass * klass)
{
  /**
   * GstGlm4vDescribe:sample-mode:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_SAMPLE_MODE,
      g_param_spec_enum ("sample-mode", "Sample mode",
          "Which frames are described",
          gst_glm4v_sample_mode_get_type (), GST_GLM4V_SAMPLE_AUTO,
          PLAYING));
  /**
   * GstGlm4vDescribe:interval:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_INTERVAL,
      g_param_spec_uint64 ("interval", "Interval",
          "sample-mode=auto, interval: nanoseconds between samples by "
          "timestamp, 0 = every frame; scene-change: at least so many. "
          "GST_CLOCK_TIME_NONE: a second; with auto longer where a caption "
          "takes longer to be read", 0, G_MAXUINT64, GST_CLOCK_TIME_NONE,
          PLAYING));
  /**
   * GstGlm4vDescribe:nth:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_NTH,
      g_param_spec_uint ("nth", "Nth",
          "sample-mode=every-nth: describe one frame out of this many", 1,
          G_MAXINT, GST_GLM4V_DEFAULT_NTH, PLAYING));
  /**
   * GstGlm4vDescribe:scene-threshold:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_SCENE_THRESHOLD,
      g_param_spec_double ("scene-threshold", "Scene threshold",
          "sample-mode=scene-change: share of the brightness range by which a "
          "frame must differ from the one before it, beyond what frames have "
          "differed of late", 0.0, 1.0, GST_GLM4V_DEFAULT_SCENE_THRESHOLD,
          PLAYING));
  /**
   * GstGlm4vDescribe:change-threshold:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_CHANGE_THRESHOLD,
      g_param_spec_double ("change-threshold", "Change threshold",
          "A sampled frame that differs from the last described one by a "
          "smaller share of the brightness range is not described: its result "
          "is unchanged. 0 = describe all; not with sample-mode=trigger", 0.0,
          1.0, 0.0, PLAYING));
  /**
   * GstGlm4vDescribe:mode:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MODE,
      g_param_spec_enum ("mode", "Mode",
          "async: video is never delayed, each answer is attached to the next "
          "frame that leaves; sync: a sampled frame waits and carries its own "
          "answer", gst_glm4v_mode_get_type (), GST_GLM4V_MODE_AUTO, PLAYING));
  /**
   * GstGlm4vDescribe:gray-bits:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_GRAY_BITS,
      g_param_spec_uint ("gray-bits", "Grey bits",
          "Significant bits of GRAY16 frames, the lowest ones: 10, 12 or 14 "
          "for cameras that do not fill the 16 bits", GST_GLM4V_MIN_GRAY_BITS,
          GST_GLM4V_MAX_GRAY_BITS, GST_GLM4V_MAX_GRAY_BITS, PLAYING));
  /**
   * GstGlm4vDescribe:eos-timeout:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_EOS_TIMEOUT,
      g_param_spec_uint64 ("eos-timeout", "EOS timeout",
          "Nanoseconds that the end of the stream waits for pending answers; "
          "later ones are reported as dropped", 0, G_MAXINT64,
          GST_GLM4V_DEFAULT_EOS_TIMEOUT, PLAYING));
  /**
   * GstGlm4vDescribe:on-error:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_ON_ERROR,
      g_param_spec_enum ("on-error", "On error",
          "What happens when a frame cannot be described",
          gst_glm4v_on_error_get_type (), GST_GLM4V_ON_ERROR_WARN, PLAYING));
}

static void
install_where (GObjectClass * klass)
{
  /**
   * GstGlm4vDescribe:frames-per-request:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_FRAMES_PER_REQUEST,
      g_param_spec_uint ("frames-per-request", "Frames per request",
          "More than 1: ask about a clip, so many frames of the last window "
          "evenly spaced, that ends with the sampled frame", 1,
          GST_GLM4V_MAX_CLIP, 1, PLAYING));
  /**
   * GstGlm4vDescribe:window:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_WINDOW,
      g_param_spec_uint64 ("window", "Window",
          "frames-per-request: nanoseconds that a clip covers; clips overlap "
          "where it is longer than interval", 1, G_MAXINT64 / 2,
          GST_GLM4V_DEFAULT_WINDOW, PLAYING));
  /**
   * GstGlm4vDescribe:only-on:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_ONLY_ON,
      g_param_spec_string ("only-on", "Only on",
          "Labels, with commas between: describe only frames that carry a "
          "region of interest with one of them. NULL = all", NULL, PLAYING));
  /**
   * GstGlm4vDescribe:roi:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_ROI,
      gst_param_spec_array ("roi", "Region of interest",
          "x, y, width, height in pixels: ask about this part of frames only; "
          "empty = the whole frame",
          g_param_spec_int ("number", "Number", "Pixels", 0, GLM4V_MAX_SIDE, 0,
              G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS), PLAYING));
  /**
   * GstGlm4vDescribe:roi-mode:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_ROI_MODE,
      g_param_spec_enum ("roi-mode", "Region mode",
          "Whether roi, or the regions that elements upstream have found, are "
          "asked about", gst_glm4v_roi_mode_get_type (),
          GST_GLM4V_ROI_PROPERTY, PLAYING));
}

static void
install_shape (GObjectClass * klass)
{
  /**
   * GstGlm4vDescribe:output:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_OUTPUT,
      g_param_spec_enum ("output", "Output",
          "Shape of answers: text, choice or JSON",
          gst_glm4v_output_get_type (), GST_GLM4V_OUTPUT_TEXT, PLAYING));
  /**
   * GstGlm4vDescribe:choices:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_CHOICES,
      gst_param_spec_array ("choices", "Choices",
          "output=choice: the answer is one of these, at most 256",
          g_param_spec_string ("choice", "Choice", "An answer", NULL,
              G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS), PLAYING));
  /**
   * GstGlm4vDescribe:fail-choices:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_FAIL_CHOICES,
      gst_param_spec_array ("fail-choices", "Fail choices",
          "Those of choices that are defects: the verdict is fail if one has "
          "at least its threshold",
          g_param_spec_string ("choice", "Choice", "One of choices", NULL,
              G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS), PLAYING));
  /**
   * GstGlm4vDescribe:thresholds:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_THRESHOLDS,
      gst_param_spec_array ("thresholds", "Thresholds",
          "For each of choices the probability, above 0 and at most 1, from "
          "which it counts for the verdict; 0.5 for those left out",
          NULL, PLAYING));      /* any numbers: presets write 1 for 1.0 */
  /**
   * GstGlm4vDescribe:timeout-verdict:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_TIMEOUT_VERDICT,
      g_param_spec_enum ("timeout-verdict", "Timeout verdict",
          "output=choice or pattern: verdict of results without an answer: "
          "timeout, dropped and error", gst_glm4v_verdict_get_type (),
          GST_GLM4V_DEFAULT_TIMEOUT_VERDICT, PLAYING));
  /**
   * GstGlm4vDescribe:json-schema:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_JSON_SCHEMA,
      g_param_spec_string ("json-schema", "JSON schema",
          "output=json: the JSON Schema that answers match", NULL, PLAYING));
  /**
   * GstGlm4vDescribe:json-schema-location:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_JSON_SCHEMA_LOCATION,
      g_param_spec_string ("json-schema-location", "JSON schema location",
          "File that holds the schema, read when this is set and on the way to "
          "PAUSED; instead of json-schema", NULL, PLAYING));
  /**
   * GstGlm4vDescribe:pattern:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_PATTERN,
      g_param_spec_string ("pattern", "Pattern",
          "output=text: the verdict is pass if this is in the answer, else "
          "fail: a small part of regular expressions, such as LOT[0-9]{6}",
          NULL, PLAYING));
  /**
   * GstGlm4vDescribe:hysteresis:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_HYSTERESIS,
      g_param_spec_uint ("hysteresis", "Hysteresis",
          "Equal verdicts in a row after which state changes", 1,
          GST_GLM4V_MAX_HYSTERESIS, 1, PLAYING));
  /**
   * GstGlm4vDescribe:cooldown:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_COOLDOWN,
      g_param_spec_uint64 ("cooldown", "Cooldown",
          "Nanoseconds between two results that fail for the same choice from "
          "which the second begins a new incident", 0, G_MAXINT64,
          GST_GLM4V_DEFAULT_COOLDOWN, PLAYING));
}

static void
install_in_time (GObjectClass * klass)
{
  /**
   * GstGlm4vDescribe:max-pending:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MAX_PENDING,
      g_param_spec_uint ("max-pending", "Maximum pending",
          "Frames that may wait for the model while it is busy. Of samples the "
          "newest stay; triggers that do not fit are dropped. 0 = 16 triggers, "
          "one sample", 0, GST_GLM4V_MAX_PENDING, 0, PLAYING));
  /**
   * GstGlm4vDescribe:leaky:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_LEAKY,
      g_param_spec_enum ("leaky", "Leaky",
          "Which sample is dropped where max-pending of them wait; no: none, "
          "with mode=sync only", gst_glm4v_leaky_get_type (),
          GST_GLM4V_LEAKY_DOWNSTREAM, PLAYING));
  /**
   * GstGlm4vDescribe:deadline:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_DEADLINE,
      g_param_spec_uint64 ("deadline", "Deadline",
          "Nanoseconds from the running time of a live frame, else from its "
          "arrival, until its result is a timeout; 0 = none", 0, G_MAXINT64, 0,
          PLAYING));
  /**
   * GstGlm4vDescribe:stall-timeout:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_STALL_TIMEOUT,
      g_param_spec_uint64 ("stall-timeout", "Stall timeout",
          "Nanoseconds without a step of the engine after which a frame is "
          "abandoned and a message posted; 0 = never", 0, G_MAXINT64,
          GST_GLM4V_DEFAULT_STALL_TIMEOUT, PLAYING));
}

static void
install_output (GObjectClass * klass)
{
  /**
   * GstGlm4vDescribe:attach-meta:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_ATTACH_META,
      g_param_spec_boolean ("attach-meta", "Attach meta",
          "Add each result to a frame as custom meta " GST_GLM4V_META_NAME
          ", its boxes as regions of interest", TRUE, PLAYING));
  /**
   * GstGlm4vDescribe:persist-meta:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_PERSIST_META,
      g_param_spec_boolean ("persist-meta", "Persist meta",
          "With attach-meta: frames without a result of their own repeat the "
          "last one, with its age in nanoseconds, for overlays that draw what "
          "lies on each frame", FALSE, PLAYING));
  /**
   * GstGlm4vDescribe:post-messages:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_POST_MESSAGES,
      g_param_spec_boolean ("post-messages", "Post messages",
          "Post each result as element message " GST_GLM4V_RESULT_NAME, TRUE,
          PLAYING));
  /**
   * GstGlm4vDescribe:send-events:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_SEND_EVENTS,
      g_param_spec_boolean ("send-events", "Send events",
          "Send each result downstream as custom event "
          GST_GLM4V_RESULT_EVENT ", before the frame that it is attached to",
          FALSE, PLAYING));
  /**
   * GstGlm4vDescribe:json-sync:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_JSON_SYNC,
      g_param_spec_boolean ("json-sync", "JSON in sync",
          "Pad json: buffers have the times of their frames, as on the text "
          "pad; false: they have none, so that nothing downstream waits for "
          "their time", TRUE, PLAYING));
  /**
   * GstGlm4vDescribe:stats-interval:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_STATS_INTERVAL,
      g_param_spec_uint64 ("stats-interval", "Statistics interval",
          "Nanoseconds between element messages " GST_GLM4V_STATS_NAME
          ", which have stats, in PAUSED and PLAYING; one more at the end of "
          "the stream. At least a millisecond, 0 = none", 0, G_MAXINT64, 0,
          PLAYING));
  /**
   * GstGlm4vDescribe:gap-interval:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_GAP_INTERVAL,
      g_param_spec_uint64 ("gap-interval", "Gap interval",
          "Text pad: nanoseconds that a GAP runs ahead of the video while "
          "there is no caption, 0 = one GAP a frame", 0, GST_SECOND,
          GST_GLM4V_DEFAULT_GAP_INTERVAL, PLAYING));
  /**
   * GstGlm4vDescribe:text-duration:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_TEXT_DURATION,
      g_param_spec_uint64 ("text-duration", "Text duration",
          "Text pad: nanoseconds that a caption is shown, 0 = until the next "
          "is expected", 0, G_MAXINT64, 0, PLAYING));
  /**
   * GstGlm4vDescribe:reading-speed:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_READING_SPEED,
      g_param_spec_uint ("reading-speed", "Reading speed",
          "Text pad: characters a second that a person reads. A caption is "
          "shown that long where nothing else says when the next one comes, "
          "and with sample-mode=auto the next one waits. 0 = off", 0, 1000,
          GST_GLM4V_DEFAULT_READING_SPEED, PLAYING));
  /**
   * GstGlm4vDescribe:max-line-length:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MAX_LINE_LENGTH,
      g_param_spec_uint ("max-line-length", "Maximum line length",
          "Text pad: columns of a line, of which East Asian characters take "
          "two; longer ones are broken between words. 0 = not broken", 0,
          G_MAXINT, GST_GLM4V_DEFAULT_LINE_LENGTH, PLAYING));
  /**
   * GstGlm4vDescribe:max-lines:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MAX_LINES,
      g_param_spec_uint ("max-lines", "Maximum lines",
          "Text pad: lines of a cue; a longer caption becomes several cues, "
          "one after another. 0 = any number", 0, G_MAXINT,
          GST_GLM4V_DEFAULT_LINES, PLAYING));
  /**
   * GstGlm4vDescribe:suppress-duplicates:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_SUPPRESS_DUPLICATES,
      g_param_spec_boolean ("suppress-duplicates", "Suppress duplicates",
          "Text pad: a caption that is the same as the one before it is not "
          "shown again", FALSE, PLAYING));
  /**
   * GstGlm4vDescribe:lateness:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_LATENESS,
      g_param_spec_uint64 ("lateness", "Lateness",
          "Text pad: nanoseconds by which captions are delayed against the "
          "video, so that slow answers keep their timestamps; at least the "
          "time of an answer plus gap-interval. A change applies from the next "
          "segment on", 0,
          G_MAXINT64 / 2, 0, READY));
  /**
   * GstGlm4vDescribe:latency:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_LATENCY,
      g_param_spec_uint64 ("latency", "Latency",
          "Nanoseconds added to a live pipeline's latency in sync mode, "
          "0 = the longest answer so far", 0, G_MAXINT64 / 2, 0, PLAYING));
  /**
   * GstGlm4vDescribe:stats:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_STATS,
      g_param_spec_boxed ("stats", "Statistics",
          "Counters since the element left NULL, or since reset-stats; delays "
          "and times in nanoseconds",
          GST_TYPE_STRUCTURE, READ_ONLY));
  /**
   * GstGlm4vDescribe:max-observed-delay:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MAX_OBSERVED_DELAY,
      g_param_spec_uint64 ("max-observed-delay", "Maximum observed delay",
          "Nanoseconds from sampling a frame to its answer, the longest since "
          "READY", 0, G_MAXUINT64, 0, READ_ONLY));
  /**
   * GstGlm4vDescribe:last-result:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_LAST_RESULT,
      g_param_spec_boxed ("last-result", "Last result",
          "The latest result, as in its message; NULL before the first since "
          "PAUSED or a flush", GST_TYPE_STRUCTURE, READ_ONLY));
  /**
   * GstGlm4vDescribe:model-info:
   *
   * Since: 0.1
   */
  g_object_class_install_property (klass, PROP_MODEL_INFO,
      g_param_spec_boxed ("model-info", "Model information",
          "Name, hash, forms and sizes of the model, from READY on; NULL "
          "before",
          GST_TYPE_STRUCTURE, READ_ONLY));
}

void
gst_glm4v_properties_install (GObjectClass * klass)
{
  install_model (klass);
  gst_glm4v_remote_config_install (klass);
  install_question (klass);
  install_when (klass);
  install_where (klass);
  install_shape (klass);
  install_in_time (klass);
  install_output (klass);
  gst_type_mark_as_plugin_api (gst_glm4v_sample_mode_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_glm4v_mode_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_glm4v_roi_mode_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_glm4v_on_error_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_glm4v_output_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_glm4v_verdict_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_glm4v_leaky_get_type (), 0);
  gst_type_mark_as_plugin_api (gst_glm4v_speculation_get_type (), 0);
}
