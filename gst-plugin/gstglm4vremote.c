/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Servers as a describer: the client of remote/ does all of it. Elements with
 * equal properties share a client, so that their questions are dealt out to its
 * endpoints and go through its connections. */
#include "gstglm4vdescriber.h"

#ifdef HAVE_REMOTE
#include "remote/remote.h"

#include "base/mem.h"

/* Guarded by the lock below, but for config and client, which are constant. */
typedef struct
{
  GstGlm4vModelConfig config;
  remote_client *client;
  guint users;
} Client;

typedef struct
{
  GstGlm4vDescriber parent;
  Client *client;
} Remote;

static remote_request *
clients_own (GstGlm4vRequest * request)
{
  return (remote_request *) request;
}

static GMutex lock;
static GList *clients;

/* ---- clients ---- */

static gint
open_client (Client * client, glm4v_error * error)
{
  const GstGlm4vRemoteConfig *config = &client->config.remote;
  char *key = NULL;
  gint code = remote_read_key (&key, config->key_file, error);

  if (code == 0)
    code = remote_open (&client->client, &(remote_options) {
        .endpoints = config->endpoint,
        .model = config->model,
        .key = key,
        .ca_file = config->ca_file,
        .certificate_file = config->certificate_file,
        .private_key_file = config->private_key_file,
        .max_pixels = config->max_pixels,
        .coding = config->coding == GST_GLM4V_REMOTE_CODING_PNG ?
            REMOTE_PNG : REMOTE_JPEG}, error);
  glm4v_free (key);
  return code;
}

static void
free_client (Client * client)
{
  if (client->client)
    remote_close (&client->client);
  gst_glm4v_model_config_clear (&client->config);
  g_free (client);
}

/* With the lock. */
static Client *
find_client (const GstGlm4vRemoteConfig * config)
{
  GList *link;

  for (link = clients; link; link = link->next) {
    Client *client = link->data;

    if (gst_glm4v_remote_config_equal (&client->config.remote, config))
      return client;
  }
  return NULL;
}

/* The client of these properties, one user more. NULL with error. */
static Client *
take_client (const GstGlm4vModelConfig * config, glm4v_error * error)
{
  Client *client;

  g_mutex_lock (&lock);
  client = find_client (&config->remote);
  if (!client) {
    client = g_new0 (Client, 1);
    gst_glm4v_model_config_copy (&client->config, config);
    if (open_client (client, error) == 0)
      clients = g_list_prepend (clients, client);
    else
      g_clear_pointer (&client, free_client);
  }
  if (client)
    client->users++;
  g_mutex_unlock (&lock);
  return client;
}

static void
give_back_client (Client * client)
{
  gboolean last;

  g_mutex_lock (&lock);
  last = --client->users == 0;
  if (last)
    clients = g_list_remove (clients, client);
  g_mutex_unlock (&lock);
  if (last)
    free_client (client);
}

/* ---- describer ---- */

static void
remote_describer_free (GstGlm4vDescriber * describer)
{
  Remote *self = (Remote *) describer;

  give_back_client (self->client);
  g_free (self);
}

/* Nothing of it waits. */
static void
remote_describer_interrupt (GstGlm4vDescriber * describer,
    GstGlm4vInterrupt interrupt)
{
}

static void
remote_describer_disown (GstGlm4vDescriber * describer)
{
}

static guint
remote_describer_count_sharers (GstGlm4vDescriber * describer)
{
  guint n;

  g_mutex_lock (&lock);
  n = ((Remote *) describer)->client->users;
  g_mutex_unlock (&lock);
  return n;
}

static gboolean
remote_describer_get_stats (GstGlm4vDescriber * describer,
    glm4v_engine_stats * stats)
{
  return FALSE;
}

/* It can be asked at once: a server that is not there yet is a matter of the
 * question. */
static GstGlm4vEngineState
remote_describer_wait_load (GstGlm4vDescriber * describer, guint * percent,
    glm4v_error * error)
{
  return GST_GLM4V_ENGINE_LOADED;
}

static const glm4v_model_info *
remote_describer_get_info (GstGlm4vDescriber * describer)
{
  return NULL;
}

static gint
remote_describer_check (GstGlm4vDescriber * describer, const glm4v_task * task,
    glm4v_error * error)
{
  return task->json_schema ? glm4v_json_schema_check (task->json_schema,
      error) : 0;
}

static GstGlm4vRequest *
remote_describer_ask (GstGlm4vDescriber * describer, const glm4v_task * task,
    gboolean * unloaded, glm4v_error * error)
{
  Remote *self = (Remote *) describer;
  remote_request *request = NULL;

  *unloaded = FALSE;
  if (remote_submit (self->client->client, task, &request, error) != 0)
    return NULL;
  return (GstGlm4vRequest *) request;
}

static gint
remote_describer_wait (GstGlm4vRequest * request, guint64 timeout)
{
  return remote_wait (clients_own (request), timeout);
}

static void
remote_describer_cancel (GstGlm4vRequest * request)
{
  remote_cancel (clients_own (request));
}

static guint64
remote_describer_get_steps (GstGlm4vDescriber * describer,
    GstGlm4vRequest * request)
{
  return remote_progress (clients_own (request));
}

static gchar *
remote_describer_dup_server (GstGlm4vRequest * request)
{
  const gchar *url = remote_url (clients_own (request));

  return *url ? g_strdup (url) : NULL;
}

static gchar *
remote_describer_dup_model (GstGlm4vRequest * request)
{
  const gchar *name = remote_model (clients_own (request));

  return *name ? g_strdup (name) : NULL;
}

static void
remote_describer_finish (GstGlm4vDescriber * describer,
    GstGlm4vRequest * request)
{
  remote_request *finished = clients_own (request);

  remote_unref (&finished);
}

static GstGlm4vFault
remote_describer_fault_of (gint code, gboolean unloaded)
{
  switch (code) {
    case GLM4V_ERR_FORMAT:
      return GST_GLM4V_FAULT_SERVER_ANSWER;
    case GLM4V_ERR_INVALID:
    case GLM4V_ERR_UNSUPPORTED:
      return GST_GLM4V_FAULT_SERVER_REFUSED;
    case GLM4V_ERR_NOMEM:
      return GST_GLM4V_FAULT_FRAME_MEMORY;
    default:
      return GST_GLM4V_FAULT_SERVER;
  }
}

GstGlm4vDescriber *
gst_glm4v_remote_new (const GstGlm4vModelConfig * config,
    GstGlm4vFault * fault, gchar ** why)
{
  static const GstGlm4vDescriberClass klass = {
    remote_describer_free, remote_describer_disown, remote_describer_interrupt,
    remote_describer_count_sharers, remote_describer_get_stats,
    remote_describer_wait_load, remote_describer_get_info,
    remote_describer_check, remote_describer_ask, remote_describer_wait,
    remote_describer_cancel, remote_describer_get_steps,
    remote_describer_dup_server, remote_describer_dup_model,
    remote_describer_finish, remote_describer_fault_of
  };
  glm4v_error error = { 0 };
  Client *client = take_client (config, &error);
  Remote *self;

  if (!client) {
    *fault = GST_GLM4V_FAULT_SERVER_SETTINGS;
    *why = g_strdup (error.msg);
    return NULL;
  }
  self = g_new0 (Remote, 1);
  self->parent.klass = &klass;
  self->parent.config = &client->config;
  self->client = client;
  return &self->parent;
}

#else

GstGlm4vDescriber *
gst_glm4v_remote_new (const GstGlm4vModelConfig * config,
    GstGlm4vFault * fault, gchar ** why)
{
  *fault = GST_GLM4V_FAULT_SERVER_SETTINGS;
  *why = g_strdup ("this plugin was built without libcurl");
  return NULL;
}

#endif
