/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Due frames on their way to the worker: streaming thread. */
#include "gstglm4vstream.h"

#include "gstglm4verror.h"
#include "gstglm4vframe.h"
#include "gstglm4vsegment.h"

#define DEFAULT_PENDING_TRIGGERS 16
#define DEFAULT_PENDING_SAMPLES 1

/* FALSE for what cannot be described. */
static gboolean
is_usable (GstGlm4vDescribe * self, GstBuffer * buffer)
{
  const GstBufferFlags unusable = GST_BUFFER_FLAG_GAP
      | GST_BUFFER_FLAG_CORRUPTED;
  gboolean trick = self->segment.rate < 0
      || (self->segment.flags & GST_SEGMENT_FLAG_TRICKMODE);

  return self->have_info && !trick && !(GST_BUFFER_FLAGS (buffer) & unusable);
}

/* FALSE if the frame lacks the regions that it has to have (only-on,
 * roi-mode). */
static gboolean
passes_gate (GstGlm4vDescribe * self, GstBuffer * buffer)
{
  gboolean passes;

  GST_OBJECT_LOCK (self);
  passes = gst_glm4v_roi_is_wanted (&self->settings.roi, buffer);
  GST_OBJECT_UNLOCK (self);
  if (!passes)
    gst_glm4v_stream_count (self, &self->stats.gated);
  return passes;
}

static GstGlm4vSight
sight_of (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass)
{
  return (GstGlm4vSight) {buffer, &self->info, pass->gray_bits, pass->serial};
}

static gboolean
is_cut (GstGlm4vDescribe * self, GstBuffer * buffer, const GstGlm4vPass * pass)
{
  GstGlm4vSight sight = sight_of (self, buffer, pass);

  return pass->sampling.mode == GST_GLM4V_SAMPLE_SCENE_CHANGE
      && gst_glm4v_look_is_cut (&self->look, &sight, pass->scene_threshold);
}

/* Between samples of a mode that counts frames. Rounded down, as PTS are: a
 * caption must not last into the frame that has the next one. */
static GstClockTime
spacing_of (const GstGlm4vDescribe * self, const GstGlm4vSampling * sampling)
{
  guint64 frames = sampling->mode == GST_GLM4V_SAMPLE_EVERY_NTH ?
      sampling->nth : 1;

  if (!self->have_info || GST_VIDEO_INFO_FPS_N (&self->info) <= 0)
    return GST_CLOCK_TIME_NONE;
  return MIN (gst_util_uint64_scale_int (frames * GST_SECOND,
          GST_VIDEO_INFO_FPS_D (&self->info),
          GST_VIDEO_INFO_FPS_N (&self->info)), G_MAXINT64);
}

/* TRUE if the frame is to be described by sample-mode. */
static gboolean
is_due (GstGlm4vDescribe * self, GstBuffer * buffer, const GstGlm4vPass * pass,
    GstClockTime * until_next)
{
  gboolean usable = is_usable (self, buffer);

  gst_glm4v_look_next (&self->look);
  return gst_glm4v_sampler_take (&self->sampler, &pass->sampling,
      &(GstGlm4vTick) {
        .pts = GST_BUFFER_PTS (buffer),
        .duration = GST_BUFFER_DURATION (buffer),
        .period = gst_glm4v_stream_frame_period (self),
        .spacing = spacing_of (self, &pass->sampling),
        .arrival = (GstClockTime) g_get_monotonic_time () * 1000,
        .start = self->segment.format == GST_FORMAT_TIME ?
            self->segment.start : 0,
        .not_before = pass->sampling.paced ?
            gst_glm4v_text_free_from (self->streams[GST_GLM4V_STREAM_TEXT]) : 0,
        .cut = usable && is_cut (self, buffer, pass),
        .usable = usable && passes_gate (self, buffer)}, until_next);
}

/* The triggers for this frame go to triggers; they wait for the next one if it
 * is not usable. */
static void
take_triggers (GstGlm4vDescribe * self, GstBuffer * buffer, GQueue * triggers)
{
  GQueue on_buffer = G_QUEUE_INIT;
  GstGlm4vTrigger *trigger;

  gst_glm4v_trigger_take_metas (buffer, &on_buffer);
  g_mutex_lock (&self->lock);
  while ((trigger = g_queue_pop_head (&on_buffer)))
    g_queue_push_tail (&self->triggers, trigger);
  if (is_usable (self, buffer))
    while ((trigger = g_queue_pop_head (&self->triggers)))
      g_queue_push_tail (triggers, trigger);
  g_mutex_unlock (&self->lock);
}

gboolean
gst_glm4v_sample_want (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstGlm4vWanted * wanted)
{
  gboolean any;

  wanted->due = is_due (self, buffer, pass, &wanted->until_next);
  take_triggers (self, buffer, &wanted->triggers);
  any = wanted->due || !g_queue_is_empty (&wanted->triggers);
  if (pass->clip.n > 1 && is_usable (self, buffer))
    gst_glm4v_clip_add (&self->clip, pass->clip, &(GstGlm4vClipFrame) {buffer,
            gst_glm4v_sampler_time (&self->sampler), self->frame_number}, any);
  if (!any)
    return FALSE;
  GST_OBJECT_LOCK (self);
  wanted->regions = gst_glm4v_roi_collect (&self->settings.roi, buffer);
  wanted->no_region = self->settings.roi.mode == GST_GLM4V_ROI_META
      && wanted->regions->len == 0;
  GST_OBJECT_UNLOCK (self);
  return TRUE;
}

/* Report a frame that does not match its caps: once for each caps. */
static void
report_bad_frame (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, const gchar * why)
{
  gboolean fail = pass->on_error == GST_GLM4V_ON_ERROR_FAIL;
  gboolean first = !self->warned_frame;
  gchar *where;

  self->warned_frame = TRUE;
  g_mutex_lock (&self->lock);
  self->stats.bad_frames++;
  self->failed |= fail;
  g_mutex_unlock (&self->lock);
  if (!first)
    return;
  where = g_strdup_printf ("frame %" G_GUINT64_FORMAT " (%" GST_TIME_FORMAT
      ")", self->frame_number, GST_TIME_ARGS (GST_BUFFER_PTS (buffer)));
  gst_glm4v_fault_post (GST_ELEMENT (self),
      fail ? GST_MESSAGE_ERROR : GST_MESSAGE_WARNING,
      GST_GLM4V_FAULT_FRAME_SIZE, where, why);
  g_free (where);
}

/* ---- jobs ---- */

/* How old a frame of a live source is by the pipeline's clock; 0 where that is
 * unknown. */
static GstClockTime
age_of (GstGlm4vDescribe * self, GstClockTime running_time)
{
  GstClock *clock;
  GstClockTime now = 0;
  gboolean live;

  g_mutex_lock (&self->lock);
  live = self->live;
  g_mutex_unlock (&self->lock);
  if (!live || !GST_CLOCK_TIME_IS_VALID (running_time)
      || GST_STATE (self) != GST_STATE_PLAYING)
    return 0;
  clock = gst_element_get_clock (GST_ELEMENT (self));
  if (clock)
    now = gst_clock_get_time (clock);
  gst_clear_object (&clock);
  running_time += gst_element_get_base_time (GST_ELEMENT (self));
  return now > running_time ? now - running_time : 0;
}

/* When an answer is worth nothing any more: monotonic ns, 0 = never. */
static guint64
deadline_of (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    GstClockTime deadline)
{
  GstClockTime age;

  if (deadline == 0)
    return 0;
  age = age_of (self, job->running_time);
  return (guint64) job->captured * 1000 + deadline - MIN (age, deadline);
}

/* Where the video ends, as far as upstream knows: captions end there too. */
static GstClockTime
stream_end (GstGlm4vDescribe * self)
{
  gint64 duration = -1;
  gboolean live;

  g_mutex_lock (&self->lock);
  live = self->live;
  g_mutex_unlock (&self->lock);
  if (live || self->segment.rate < 0
      || !gst_glm4v_text_is_wanted (self->streams[GST_GLM4V_STREAM_TEXT])
      || !gst_pad_peer_query_duration (self->sinkpad, GST_FORMAT_TIME,
          &duration) || duration < 0)
    return GST_CLOCK_TIME_NONE;
  return gst_segment_position_from_stream_time (&self->segment,
      GST_FORMAT_TIME, (guint64) duration);
}

static void
place_job (GstGlm4vDescribe * self, GstGlm4vJob * job, GstClockTime pts)
{
  gboolean timed = self->segment.format == GST_FORMAT_TIME;

  job->frame_number = self->frame_number;
  job->segment_number = self->segment_number;
  job->generation = self->generation;
  job->pts = pts;
  job->time = gst_glm4v_sampler_time (&self->sampler);
  job->running_time = gst_glm4v_segment_running_time (&self->segment, pts);
  job->stream_time = timed ? gst_segment_to_stream_time (&self->segment,
      GST_FORMAT_TIME, pts) : GST_CLOCK_TIME_NONE;
  /* Where times are counted they are not those of upstream. */
  job->stream_end = timed && job->time == pts ? stream_end (self) :
      GST_CLOCK_TIME_NONE;
}

/* How the caption stands to the next one. */
static void
take_pace (GstGlm4vJob * job, const GstGlm4vSampling * sampling,
    gboolean trigger)
{
  job->paced = sampling->paced && !trigger;
  job->unbound = job->question.shape->output == GST_GLM4V_OUTPUT_TEXT
      && (job->paced || trigger
      || sampling->mode == GST_GLM4V_SAMPLE_SCENE_CHANGE);
}

static void
take_trigger (GstGlm4vJob * job, const GstGlm4vTrigger * trigger)
{
  job->trigger = TRUE;
  if (G_IS_VALUE (&trigger->id)) {
    g_value_init (&job->trigger_id, G_VALUE_TYPE (&trigger->id));
    g_value_copy (&trigger->id, &job->trigger_id);
  }
}

/* What is asked as the properties stand now; prompt is instead of them. */
static void
take_question (GstGlm4vQuestion * question, const GstGlm4vSettings * settings,
    const gchar * prompt)
{
  gst_glm4v_question_copy (question, &settings->question);
  if (prompt) {
    g_free (question->prompt);
    question->prompt = g_strdup (prompt);
    g_clear_pointer (&question->prompt_file, g_free);
  }
  if (question->context) {
    gchar *system = question->system;

    question->system = system ? g_strjoin ("\n", system, question->context,
        NULL) : g_strdup (question->context);
    g_free (system);
  }
}

/* When the frame was captured, if upstream knows: ns since 1970, else 0. */
static guint64
capture_utc_of (GstBuffer * buffer)
{
  static GstStaticCaps unix_caps = GST_STATIC_CAPS ("timestamp/x-unix");
  static GstStaticCaps ntp_caps = GST_STATIC_CAPS ("timestamp/x-ntp");
  const GstClockTime ntp_to_unix = G_GUINT64_CONSTANT (2208988800) * GST_SECOND;
  GstStaticCaps *const kinds[] = { &unix_caps, &ntp_caps };
  GstReferenceTimestampMeta *found[2];
  guint i;

  for (i = 0; i < 2; i++) {
    GstCaps *caps = gst_static_caps_get (kinds[i]);

    found[i] = gst_buffer_get_reference_timestamp_meta (buffer, caps);
    gst_caps_unref (caps);
  }
  if (found[0] && GST_CLOCK_TIME_IS_VALID (found[0]->timestamp))
    return found[0]->timestamp;
  if (found[1] && GST_CLOCK_TIME_IS_VALID (found[1]->timestamp)
      && found[1]->timestamp > ntp_to_unix)
    return found[1]->timestamp - ntp_to_unix;
  return 0;
}

/* A question about a frame; without a frame buffer is NULL. */
typedef struct
{
  GstBuffer *buffer;
  const GstGlm4vPass *pass;
  GstClockTime until_next;
  const GstGlm4vTrigger *trigger;       /* or NULL */
  const GstGlm4vRoi *roi;       /* or NULL */
  guint place;                  /* of roi, among those of its label */
  const gchar *prompt;          /* or NULL: the property's */
} Asked;

static GstGlm4vJob *
new_job (GstGlm4vDescribe * self, const Asked * asked)
{
  GstGlm4vJob *job = gst_glm4v_job_new ();
  GstClockTime deadline;

  place_job (self, job, asked->buffer ? GST_BUFFER_PTS (asked->buffer) :
      GST_CLOCK_TIME_NONE);
  job->capture_utc = asked->buffer ? capture_utc_of (asked->buffer) : 0;
  job->info = self->info;
  job->until_next = asked->until_next;
  job->captured = g_get_monotonic_time ();
  job->exact = asked->pass && asked->pass->exact;
  job->roi = asked->roi ? gst_glm4v_roi_copy (asked->roi) : NULL;
  GST_OBJECT_LOCK (self);
  take_question (&job->question, &self->settings, asked->prompt);
  job->gray_bits = self->settings.gray_bits;
  job->stall_timeout = self->settings.stall_timeout;
  deadline = self->settings.deadline;
  GST_OBJECT_UNLOCK (self);
  if (asked->pass)
    take_pace (job, &asked->pass->sampling, asked->trigger != NULL);
  if (asked->trigger)
    take_trigger (job, asked->trigger);
  if (job->paced)
    gst_glm4v_text_expect (self->streams[GST_GLM4V_STREAM_TEXT]);
  job->deadline = deadline_of (self, job, deadline);
  g_mutex_lock (&self->lock);
  job->epoch = self->epoch;
  job->id = self->next_id++;
  self->stats.sampled++;
  g_mutex_unlock (&self->lock);
  return job;
}

/* ---- frames: a job for each question ---- */

/* Which region of those with its label on the frame it is. */
static guint
place_among (const GstGlm4vRoi * roi, const GPtrArray * regions)
{
  guint place = 0, i;

  for (i = 0; i < regions->len && g_ptr_array_index (regions, i) != roi; i++)
    place += g_strcmp0 (((GstGlm4vRoi *) g_ptr_array_index (regions,
                    i))->label, roi->label) == 0;
  return place;
}

/* Equal for jobs whose verdicts follow one another. */
static gchar *
series_of (const Asked * asked, guint prompt_number)
{
  const gchar *own = asked->trigger ? asked->trigger->prompt : NULL;
  const gchar *label = asked->roi ? asked->roi->label : NULL;

  return g_strdup_printf ("%u\n%u\n%s\n%s", prompt_number, asked->place,
      label ? label : "", own ? own : "");
}

/* Of its settings object: prompts, or the one prompt; NULL while that is in a
 * file. */
static gchar **
templates_of (const GstGlm4vQuestion * question, gchar ** prompts)
{
  if (prompts && *prompts)
    return g_strdupv (prompts);
  return question->prompt_file ? NULL : g_strdupv ((gchar *[]) {
      question->prompt, NULL});
}

/* One for each prompt: the trigger's, those of prompts, or that of prompt. */
static void
add_jobs (GstGlm4vDescribe * self, Asked asked, GQueue * jobs)
{
  static gsize next_id;         /* of all elements: they share engines */
  guint64 id = (guint64) g_atomic_pointer_add (&next_id, 1) + 1;
  gchar **prompts = NULL;
  guint n = 0, i;

  if (asked.trigger && asked.trigger->prompt) {
    asked.prompt = asked.trigger->prompt;
  } else {
    GST_OBJECT_LOCK (self);
    prompts = g_strdupv (self->settings.prompts);
    GST_OBJECT_UNLOCK (self);
    n = prompts ? g_strv_length (prompts) : 0;
  }
  for (i = 0; i < MAX (n, 1); i++) {
    GstGlm4vJob *job;

    if (n > 0)
      asked.prompt = prompts[i];
    job = new_job (self, &asked);
    job->prompt_number = i;
    job->n_prompts = n;
    job->question.templates = templates_of (&job->question, prompts);
    job->pictures_id = n > 1 ? id : 0;
    job->series = series_of (&asked, i);
    g_queue_push_tail (jobs, job);
  }
  g_strfreev (prompts);
}

/* For each region, or for the whole frame, its prompts. */
static void
make_jobs (GstGlm4vDescribe * self, Asked asked, const GPtrArray * regions,
    GQueue * jobs)
{
  guint i, n;
  GList *link;

  for (i = 0; i < MAX (regions->len, 1); i++) {
    asked.roi = i < regions->len ? g_ptr_array_index (regions, i) : NULL;
    asked.place = asked.roi ? place_among (asked.roi, regions) : 0;
    add_jobs (self, asked, jobs);
  }
  n = g_queue_get_length (jobs);
  for (link = jobs->head, i = 0; link; link = link->next, i++) {
    GstGlm4vJob *job = link->data;

    job->part = i;
    job->n_parts = n;
  }
}

static GstGlm4vLoadState
load_state (GstGlm4vDescribe * self)
{
  GstGlm4vLoadState state;

  g_mutex_lock (&self->lock);
  state = self->load_state;
  g_mutex_unlock (&self->lock);
  return state;
}

/* pass is that of the frame, NULL if the jobs have no frame. */
static GstGlm4vRoom
room_for (GstGlm4vDescribe * self, const GstGlm4vJob * job,
    const GstGlm4vPass * pass)
{
  GstGlm4vRoom room = {.cancels = pass ? pass->cancels : 0 };

  GST_OBJECT_LOCK (self);
  room.max_pending = self->settings.max_pending;
  room.keep_waiting = self->settings.leaky == GST_GLM4V_LEAKY_UPSTREAM;
  GST_OBJECT_UNLOCK (self);
  if (room.max_pending == 0)
    room.max_pending = job->trigger ? DEFAULT_PENDING_TRIGGERS :
        DEFAULT_PENDING_SAMPLES;
  return room;
}

/* While the model is loaded nothing waits in the worker that is not waited for
 * here: what cannot wait is delivered at once. */
static gboolean
deliver_at_once (GstGlm4vDescribe * self, GQueue * jobs)
{
  GstGlm4vJob *job = jobs->head->data;
  GList *link;

  if (job->exact && job->end == GST_GLM4V_END_OUTCOME)
    return FALSE;
  for (link = jobs->head; link; link = link->next) {
    job = link->data;
    if (job->end == GST_GLM4V_END_OUTCOME)
      job->end = GST_GLM4V_END_LOADING;
    self->missed_loading |= job->end == GST_GLM4V_END_LOADING;
    gst_glm4v_deliver (self, job);
    job->state = GST_GLM4V_JOB_FINISHED;
  }
  return TRUE;
}

/* Hand the jobs of a frame over. Those that it has to wait for go to waiting,
 * if that is not NULL. */
static void
send_jobs (GstGlm4vDescribe * self, GQueue * jobs, const GstGlm4vPass * pass,
    GQueue * waiting)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  GstGlm4vRoom room = room_for (self, jobs->head->data, pass);
  gboolean sent;
  GstGlm4vJob *job;

  sent = (load_state (self) == GST_GLM4V_LOADING
      && deliver_at_once (self, jobs)) || (worker
      && gst_glm4v_worker_push (worker, jobs, &room));
  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  while ((job = g_queue_pop_head (jobs))) {
    if (sent && waiting && job->exact)
      g_queue_push_tail (waiting, job);
    else
      gst_glm4v_job_unref (job);
  }
}

/* A sample that looks as the one described last may do without answers. */
static void
compare (GstGlm4vDescribe * self, const Asked * asked, GQueue * jobs)
{
  const GstGlm4vPass *pass = asked->pass;
  GstGlm4vSight sight = sight_of (self, asked->buffer, pass);
  guint n = g_queue_get_length (jobs);
  guint64 like = 0;
  GList *link;

  if (asked->trigger)
    return;
  if (pass->change_threshold == 0 || !gst_glm4v_look_is_similar (&self->look,
          &sight, pass->change_threshold, n, &like)) {
    gst_glm4v_look_described (&self->look,
        ((GstGlm4vJob *) jobs->head->data)->id, n, pass->serial);
    return;
  }
  for (link = jobs->head; link; link = link->next) {
    GstGlm4vJob *job = link->data;

    job->similar = TRUE;
    job->like = like++;
  }
}

static void
end_all (GQueue * jobs, GstGlm4vEnd end, const gchar * detail)
{
  GList *link;

  for (link = jobs->head; link; link = link->next) {
    GstGlm4vJob *job = link->data;

    job->end = end;
    job->end_detail = g_strdup (detail);
  }
}

/* What the properties do not allow together now (g_free), or NULL; reported
 * once for each change of them. */
static gchar *
find_conflict (GstGlm4vDescribe * self, const GstGlm4vPass * pass)
{
  gboolean fail = pass->on_error == GST_GLM4V_ON_ERROR_FAIL, first;
  GstGlm4vFault fault = GST_GLM4V_N_FAULTS;
  gchar *why;

  GST_OBJECT_LOCK (self);
  why = g_strdup (gst_glm4v_settings_conflict (&self->settings, &fault));
  GST_OBJECT_UNLOCK (self);
  if (!why)
    return NULL;
  first = self->told_conflict != pass->serial;
  self->told_conflict = pass->serial;
  g_mutex_lock (&self->lock);
  self->failed |= fail;
  g_mutex_unlock (&self->lock);
  if (first)
    gst_glm4v_fault_post (GST_ELEMENT (self),
        fail ? GST_MESSAGE_ERROR : GST_MESSAGE_WARNING, fault, NULL, why);
  return why;
}

/* The frame, or the clip that ends with it. */
static void
hold_frames (GstGlm4vDescribe * self, GstGlm4vJob * job, const Asked * asked)
{
  const GstGlm4vClipFrame *first, *last;

  if (asked->pass->clip.n <= 1) {
    job->buffer = gst_glm4v_frame_hold (asked->buffer, 1);
    return;
  }
  job->clip = gst_glm4v_clip_take (&self->clip);
  first = g_ptr_array_index (job->clip, 0);
  last = g_ptr_array_index (job->clip, job->clip->len - 1);
  job->clip_frames = job->clip->len;
  job->clip_length = last->time - first->time;
  job->frame_number = last->frame_number;
  job->time = last->time;
}

static void
submit (GstGlm4vDescribe * self, const Asked * asked,
    const GstGlm4vWanted * wanted, GQueue * waiting)
{
  GQueue jobs = G_QUEUE_INIT;
  gchar *why = NULL;
  GList *link;

  make_jobs (self, *asked, wanted->regions, &jobs);
  why = find_conflict (self, asked->pass);
  if (why) {
    end_all (&jobs, GST_GLM4V_END_SETTINGS, why);
  } else if (!gst_glm4v_frame_check (asked->buffer, &self->info, &why)) {
    end_all (&jobs, GST_GLM4V_END_BAD_FRAME, why);
    report_bad_frame (self, asked->buffer, asked->pass, why);
  } else if (wanted->no_region) {
    end_all (&jobs, GST_GLM4V_END_NO_REGION, NULL);
  } else {
    compare (self, asked, &jobs);
    for (link = jobs.head; link; link = link->next)
      hold_frames (self, link->data, asked);
  }
  g_free (why);
  send_jobs (self, &jobs, asked->pass, waiting);
}

void
gst_glm4v_sample_submit (GstGlm4vDescribe * self, GstBuffer * buffer,
    const GstGlm4vPass * pass, GstGlm4vWanted * wanted, GQueue * waiting)
{
  GstGlm4vTrigger *trigger;

  while ((trigger = g_queue_pop_head (&wanted->triggers))) {
    submit (self, &(Asked) {
        .buffer = buffer,.pass = pass,.until_next = GST_SECOND,
        .trigger = trigger}, wanted, waiting);
    gst_glm4v_trigger_free (trigger);
  }
  if (wanted->due)
    submit (self, &(Asked) {
        .buffer = buffer,.pass = pass,.until_next = wanted->until_next},
        wanted, waiting);
  g_clear_pointer (&wanted->regions, g_ptr_array_unref);
}

void
gst_glm4v_sample_end_clip (GstGlm4vDescribe * self)
{
  GstGlm4vWanted wanted = {.triggers = G_QUEUE_INIT };
  const GstGlm4vClipFrame *last = g_queue_peek_tail (&self->clip.frames);
  GstGlm4vPass pass;

  gst_glm4v_stream_read_settings (self, &pass);
  if (!self->clip.fresh || pass.clip.n <= 1
      || pass.sampling.mode == GST_GLM4V_SAMPLE_TRIGGER)
    return;
  pass.exact = FALSE;           /* the frame has gone */
  wanted.due = TRUE;
  wanted.until_next = GST_SECOND;
  GST_OBJECT_LOCK (self);
  wanted.regions = gst_glm4v_roi_collect (&self->settings.roi, last->buffer);
  GST_OBJECT_UNLOCK (self);
  gst_glm4v_sample_submit (self, last->buffer, &pass, &wanted, NULL);
  gst_glm4v_clip_clear (&self->clip);
}

/* Triggers that no frame is described for have their results now. */
static void
end_triggers (GstGlm4vDescribe * self, GQueue * triggers)
{
  GQueue jobs = G_QUEUE_INIT;
  GstGlm4vTrigger *trigger;

  while ((trigger = g_queue_pop_head (triggers))) {
    add_jobs (self, (Asked) {.trigger = trigger}, &jobs);
    end_all (&jobs, trigger->canceled ? GST_GLM4V_END_CANCELED :
        GST_GLM4V_END_NO_FRAME, NULL);
    send_jobs (self, &jobs, NULL, NULL);
    gst_glm4v_trigger_free (trigger);
  }
}

void
gst_glm4v_sample_end_triggers (GstGlm4vDescribe * self)
{
  GQueue triggers = G_QUEUE_INIT;
  GstGlm4vTrigger *trigger;

  g_mutex_lock (&self->lock);
  while ((trigger = g_queue_pop_head (&self->triggers)))
    g_queue_push_tail (&triggers, trigger);
  g_mutex_unlock (&self->lock);
  end_triggers (self, &triggers);
}

void
gst_glm4v_sample_end_canceled (GstGlm4vDescribe * self)
{
  GQueue triggers = G_QUEUE_INIT;
  GstGlm4vTrigger *trigger;

  g_mutex_lock (&self->lock);
  while ((trigger = g_queue_peek_head (&self->triggers)) && trigger->canceled)
    g_queue_push_tail (&triggers, g_queue_pop_head (&self->triggers));
  g_mutex_unlock (&self->lock);
  end_triggers (self, &triggers);
}

gboolean
gst_glm4v_sample_wait (GstGlm4vDescribe * self, GstGlm4vJob * job)
{
  GstGlm4vWorker *worker = gst_glm4v_describe_ref_worker (self);
  gboolean finished = worker && gst_glm4v_worker_wait (worker, job);

  g_clear_pointer (&worker, gst_glm4v_worker_unref);
  return finished;
}

void
gst_glm4v_sample_notice_load (GstGlm4vDescribe * self)
{
  if (!self->missed_loading || load_state (self) != GST_GLM4V_LOADED)
    return;
  self->missed_loading = FALSE;
  gst_glm4v_sampler_restart (&self->sampler);
}
