/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each engine has a thread, its keeper, that loads it, unloads it when nobody
 * used it for idle-unload, loads it again, and closes it. So an engine belongs
 * to none of its sharers: they come and go in any order. An engine whose first
 * load failed is not joined any more; its sharers keep it for the error.
 *
 * One lock for the whole file guards all that is not constant. It is never held
 * while a model is opened or closed. */
#include "gstglm4vengine.h"

#include <stdlib.h>
#include <string.h>

#include "gstglm4vthread.h"

typedef struct
{
  gchar *key;
  GstGlm4vModelConfig config;
  GThread *keeper;

  GCond cond;                   /* any change below */
  GPtrArray *sharers;           /* of GstGlm4vSharer, not owned */
  GstGlm4vEngineState state;
  gboolean stop;                /* the last sharer has gone */
  guint percent;
  guint users;                  /* between begin and end */
  gint64 last_use;              /* monotonic µs */
  glm4v_model *model;
  glm4v_engine *engine;
  glm4v_model_info info;        /* of the first load */
  gboolean loaded_once;
  glm4v_error error;            /* of the last load that failed */
} Engine;

struct _GstGlm4vSharer
{
  Engine *engine;
  gchar *name;
  guint32 stream;
  GstGlm4vInterrupt interrupt;
};

static GMutex lock;
static GList *engines;          /* those that may be joined */
static guint32 next_stream;

/* ---- keeper ---- */

static int
on_progress (void *user, uint64_t done, uint64_t total)
{
  Engine *self = user;
  gboolean stop;

  g_mutex_lock (&lock);
  self->percent = (guint) (100.0 * done / total);
  stop = self->stop;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&lock);
  return stop;
}

static gint
open_engine (Engine * self, glm4v_model ** model, glm4v_engine ** engine,
    glm4v_error * error)
{
  glm4v_model_options options = gst_glm4v_model_config_options (&self->config);
  glm4v_engine_options limits = {.struct_size = sizeof limits,
    .max_batch = self->config.max_batch,
    .context_length = self->config.context_length,
    .max_pixels = self->config.max_pixels,
    .kv_cache = self->config.kv_cache
  };
  gint code;

  options.progress = on_progress;
  options.progress_user = self;
  code = glm4v_model_open (model, self->config.dir, &options, error);
  if (code != 0)
    return code;
  code = glm4v_engine_open (engine, *model, &limits, error);
  if (code != 0)
    glm4v_model_close (model);
  return code;
}

/* With the lock, which is released meanwhile. */
static void
load (Engine * self)
{
  glm4v_model *model = NULL;
  glm4v_engine *engine = NULL;
  glm4v_error error = { 0 };
  gint code;

  g_mutex_unlock (&lock);
  code = open_engine (self, &model, &engine, &error);
  g_mutex_lock (&lock);
  self->model = model;
  self->engine = engine;
  self->last_use = g_get_monotonic_time ();
  if (code == 0) {
    self->state = GST_GLM4V_ENGINE_LOADED;
    if (!self->loaded_once)
      self->info = *glm4v_model_get_info (model);
    self->loaded_once = TRUE;
  } else {
    self->error = error;
    self->error.code = code;
    self->state = self->loaded_once ? GST_GLM4V_ENGINE_UNLOADED :
        GST_GLM4V_ENGINE_FAILED;
    if (!self->loaded_once)
      engines = g_list_remove (engines, self);
  }
  g_cond_broadcast (&self->cond);
}

/* With the lock, which is released meanwhile. */
static void
unload (Engine * self)
{
  glm4v_engine *engine = g_steal_pointer (&self->engine);
  glm4v_model *model = g_steal_pointer (&self->model);

  if (self->state == GST_GLM4V_ENGINE_LOADED)
    self->state = GST_GLM4V_ENGINE_UNLOADED;
  g_mutex_unlock (&lock);
  if (engine)
    glm4v_engine_close (&engine);
  if (model)
    glm4v_model_close (&model);
  g_mutex_lock (&lock);
}

/* With the lock: sleep until something changes, or it has been idle. */
static void
wait_idle (Engine * self)
{
  gint64 end = self->last_use
      + (gint64) MIN (self->config.idle_unload / 1000, G_MAXINT64 / 2);

  if (self->config.idle_unload == 0 || self->users > 0)
    g_cond_wait (&self->cond, &lock);
  else if (!g_cond_wait_until (&self->cond, &lock, end) && !self->stop
      && self->users == 0 && g_get_monotonic_time () >= self->last_use
      + (gint64) (self->config.idle_unload / 1000))
    unload (self);
}

static gpointer
keep (gpointer user)
{
  Engine *self = user;

  gst_glm4v_thread_background ();
  g_mutex_lock (&lock);
  while (!self->stop) {
    switch (self->state) {
      case GST_GLM4V_ENGINE_LOADING:
        load (self);
        break;
      case GST_GLM4V_ENGINE_LOADED:
        wait_idle (self);
        break;
      case GST_GLM4V_ENGINE_FAILED:
      case GST_GLM4V_ENGINE_UNLOADED:
        g_cond_wait (&self->cond, &lock);
        break;
    }
  }
  unload (self);
  g_mutex_unlock (&lock);
  return NULL;
}

/* ---- registry; with the lock ---- */

/* Equal for configs that share an engine. */
static gchar *
key_of (const GstGlm4vModelConfig * config, const gchar * hash)
{
  char *real;
  gchar *key;

  if (config->key)
    return g_strconcat ("key ", config->key, NULL);
  real = realpath (config->dir, NULL);
  key = g_strjoin ("\n", "model", real ? real : config->dir, hash,
      config->device, config->quantization ? config->quantization : "", NULL);
  free (real);
  return key;
}

static Engine *
find (const gchar * key)
{
  GList *link;

  for (link = engines; link; link = link->next)
    if (g_str_equal (((Engine *) link->data)->key, key))
      return link->data;
  return NULL;
}

static void
free_engine (Engine * self)
{
  gst_glm4v_model_config_clear (&self->config);
  g_ptr_array_unref (self->sharers);
  g_cond_clear (&self->cond);
  g_free (self->key);
  g_free (self);
}

/* Takes key, unless it fails. */
static Engine *
new_engine (const GstGlm4vModelConfig * config, gchar * key, gchar ** why)
{
  Engine *self = g_new0 (Engine, 1);
  GError *error = NULL;

  self->key = key;
  gst_glm4v_model_config_copy (&self->config, config);
  self->sharers = g_ptr_array_new ();
  self->state = GST_GLM4V_ENGINE_LOADING;
  g_cond_init (&self->cond);
  self->keeper = gst_glm4v_thread_try_new ("glm4v-keeper", keep, self, &error);
  if (self->keeper) {
    engines = g_list_prepend (engines, self);
    return self;
  }
  *why = g_strdup (error->message);
  g_error_free (error);
  self->key = NULL;
  free_engine (self);
  return NULL;
}

/* The paths of one directory may differ, so they are compared only with a
 * model-key, which two directories may have. */
static gchar *
find_conflict (const Engine * self, const GstGlm4vModelConfig * config)
{
  const GstGlm4vSharer *other = g_ptr_array_index (self->sharers, 0);
  GstGlm4vModelConfig there = self->config;
  gchar *conflict, *text;

  if (!config->key)
    there.dir = config->dir;
  conflict = gst_glm4v_model_config_conflict (config, &there);
  if (!conflict)
    return NULL;
  text = g_strdup_printf ("%s in %s, which shares the engine", conflict,
      other->name);
  g_free (conflict);
  return text;
}

/* ---- sharers ---- */

GstGlm4vSharer *
gst_glm4v_sharer_new (const GstGlm4vModelConfig * config, const gchar * hash,
    const gchar * name, GstGlm4vFault * fault, gchar ** why)
{
  GstGlm4vSharer *self = NULL;
  gchar *key = key_of (config, hash);
  Engine *engine;

  *why = NULL;
  g_mutex_lock (&lock);
  engine = find (key);
  if (engine) {
    *fault = GST_GLM4V_FAULT_SHARING;
    *why = find_conflict (engine, config);
  } else {
    *fault = GST_GLM4V_FAULT_THREAD;
    engine = new_engine (config, key, why);
    if (engine)
      key = NULL;
  }
  if (!*why) {
    self = g_new0 (GstGlm4vSharer, 1);
    self->engine = engine;
    self->name = g_strdup (name);
    self->stream = ++next_stream;
    g_ptr_array_add (engine->sharers, self);
  }
  g_mutex_unlock (&lock);
  g_free (key);
  return self;
}

void
gst_glm4v_sharer_free (GstGlm4vSharer * self)
{
  Engine *engine = self->engine;
  gboolean last;

  g_mutex_lock (&lock);
  g_ptr_array_remove (engine->sharers, self);
  last = engine->sharers->len == 0;
  if (last) {
    engines = g_list_remove (engines, engine);
    engine->stop = TRUE;
    g_cond_broadcast (&engine->cond);
  }
  g_mutex_unlock (&lock);
  if (last) {
    g_thread_join (engine->keeper);
    free_engine (engine);
  }
  g_free (self->name);
  g_free (self);
}

void
gst_glm4v_sharer_disown (GstGlm4vSharer * self)
{
  g_mutex_lock (&lock);
  engines = g_list_remove (engines, self->engine);
  g_mutex_unlock (&lock);
}

const GstGlm4vModelConfig *
gst_glm4v_sharer_get_config (GstGlm4vSharer * self)
{
  return &self->engine->config;
}

guint32
gst_glm4v_sharer_get_stream (GstGlm4vSharer * self)
{
  return self->stream;
}

guint
gst_glm4v_sharer_count (GstGlm4vSharer * self)
{
  guint n;

  g_mutex_lock (&lock);
  n = self->engine->sharers->len;
  g_mutex_unlock (&lock);
  return n;
}

gboolean
gst_glm4v_sharer_get_stats (GstGlm4vSharer * self, glm4v_engine_stats * stats)
{
  glm4v_engine *engine;
  gboolean known;

  stats->struct_size = sizeof *stats;
  g_mutex_lock (&lock);         /* it is not closed meanwhile */
  engine = self->engine->engine;
  known = engine && glm4v_engine_get_stats (engine, stats, NULL) == 0;
  g_mutex_unlock (&lock);
  return known;
}

GstGlm4vEngineState
gst_glm4v_sharer_wait_load (GstGlm4vSharer * self, guint * percent,
    glm4v_error * error)
{
  Engine *engine = self->engine;
  GstGlm4vEngineState state;

  g_mutex_lock (&lock);
  while (!engine->loaded_once && engine->state == GST_GLM4V_ENGINE_LOADING
      && engine->percent == *percent
      && self->interrupt < GST_GLM4V_INTERRUPT_ALL)
    g_cond_wait (&engine->cond, &lock);
  *percent = engine->percent;
  state = engine->loaded_once ? GST_GLM4V_ENGINE_LOADED : engine->state;
  *error = engine->error;
  if (state == GST_GLM4V_ENGINE_LOADING
      && self->interrupt == GST_GLM4V_INTERRUPT_ALL) {
    state = GST_GLM4V_ENGINE_FAILED;
    *error = (glm4v_error) {.code = GLM4V_ERR_CANCELED,.msg = "canceled"};
  }
  g_mutex_unlock (&lock);
  return state;
}

const glm4v_model_info *
gst_glm4v_sharer_get_info (GstGlm4vSharer * self)
{
  return &self->engine->info;
}

glm4v_engine *
gst_glm4v_sharer_begin (GstGlm4vSharer * self, glm4v_error * error)
{
  Engine *engine = self->engine;
  glm4v_engine *opened = NULL;

  g_mutex_lock (&lock);
  if (engine->state == GST_GLM4V_ENGINE_UNLOADED) {
    engine->state = GST_GLM4V_ENGINE_LOADING;
    g_cond_broadcast (&engine->cond);
  }
  while (engine->state == GST_GLM4V_ENGINE_LOADING
      && self->interrupt == GST_GLM4V_INTERRUPT_NONE)
    g_cond_wait (&engine->cond, &lock);
  if (engine->state == GST_GLM4V_ENGINE_LOADED) {
    engine->users++;
    opened = engine->engine;
  } else if (engine->state == GST_GLM4V_ENGINE_LOADING) {
    *error = (glm4v_error) {.code = GLM4V_ERR_CANCELED,.msg = "canceled"};
  } else {
    *error = engine->error;
  }
  g_mutex_unlock (&lock);
  return opened;
}

void
gst_glm4v_sharer_end (GstGlm4vSharer * self)
{
  Engine *engine = self->engine;

  g_mutex_lock (&lock);
  engine->users--;
  engine->last_use = g_get_monotonic_time ();
  g_cond_broadcast (&engine->cond);
  g_mutex_unlock (&lock);
}

void
gst_glm4v_sharer_interrupt (GstGlm4vSharer * self, GstGlm4vInterrupt interrupt)
{
  g_mutex_lock (&lock);
  self->interrupt = interrupt;
  g_cond_broadcast (&self->engine->cond);
  g_mutex_unlock (&lock);
}
