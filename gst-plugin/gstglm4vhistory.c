/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gstglm4vhistory.h"

typedef struct
{
  gchar *key;
  guint64 use;                  /* number of the result that used it last */

  glm4v_verdict state;          /* of a series */
  glm4v_verdict candidate;      /* the last verdict, if another than state */
  guint in_a_row;               /* times that it came */

  guint64 number, first_id, count;      /* of an incident */
  GstClockTime first, last;
} Entry;

struct _GstGlm4vHistory
{
  GPtrArray *series, *incidents;        /* of Entry */
  guint64 uses, n_incidents;
};

static void
free_entry (gpointer data)
{
  Entry *entry = data;

  g_free (entry->key);
  g_free (entry);
}

GstGlm4vHistory *
gst_glm4v_history_new (void)
{
  GstGlm4vHistory *self = g_new0 (GstGlm4vHistory, 1);

  self->series = g_ptr_array_new_with_free_func (free_entry);
  self->incidents = g_ptr_array_new_with_free_func (free_entry);
  return self;
}

void
gst_glm4v_history_free (GstGlm4vHistory * self)
{
  g_ptr_array_unref (self->series);
  g_ptr_array_unref (self->incidents);
  g_free (self);
}

void
gst_glm4v_history_clear (GstGlm4vHistory * self)
{
  g_ptr_array_set_size (self->series, 0);
  g_ptr_array_set_size (self->incidents, 0);
  self->n_incidents = 0;
}

static void
make_room (GPtrArray * entries)
{
  guint oldest = 0, i;

  if (entries->len < GST_GLM4V_MAX_SERIES)
    return;
  for (i = 1; i < entries->len; i++)
    if (((Entry *) entries->pdata[i])->use
        < ((Entry *) entries->pdata[oldest])->use)
      oldest = i;
  g_ptr_array_remove_index_fast (entries, oldest);
}

/* The entry with this key, a new one if there is none. */
static Entry *
take (GstGlm4vHistory * self, GPtrArray * entries, const gchar * key)
{
  Entry *entry = NULL;
  guint i;

  for (i = 0; i < entries->len && !entry; i++)
    if (g_str_equal (((Entry *) entries->pdata[i])->key, key))
      entry = entries->pdata[i];
  if (!entry) {
    make_room (entries);
    entry = g_new0 (Entry, 1);
    entry->key = g_strdup (key);
    g_ptr_array_add (entries, entry);
  }
  entry->use = ++self->uses;
  return entry;
}

static void
add_state (GstGlm4vHistory * self, const GstGlm4vJudged * judged,
    guint hysteresis, glm4v_contract_result * result)
{
  Entry *series = take (self, self->series, judged->series);

  if (judged->verdict == series->state) {
    series->in_a_row = 0;
  } else {
    series->in_a_row = judged->verdict == series->candidate ?
        series->in_a_row + 1 : 1;
    series->candidate = judged->verdict;
    if (series->in_a_row >= hysteresis) {
      series->state = judged->verdict;
      series->in_a_row = 0;
    }
  }
  result->state = glm4v_verdict_name (series->state);
}

static gboolean
is_new (const Entry * incident, GstClockTime time, GstClockTime cooldown)
{
  return incident->count == 0
      || (time > incident->last ? time - incident->last : 0) >= cooldown;
}

static gboolean
add_incident (GstGlm4vHistory * self, const GstGlm4vJudged * judged,
    GstClockTime cooldown, glm4v_contract_result * result)
{
  gchar *key = g_strjoin ("\n", judged->series, judged->defect, NULL);
  Entry *incident = take (self, self->incidents, key);
  gboolean begins = is_new (incident, judged->time, cooldown);

  if (begins) {
    incident->number = self->n_incidents++;
    incident->first_id = judged->id;
    incident->first = judged->time;
    incident->last = judged->time;
    incident->count = 0;
  }
  incident->count++;
  incident->last = MAX (incident->last, judged->time);
  result->incident = (glm4v_contract_incident) {
    .number = incident->number,
    .choice = judged->defect,
    .first = incident->first,
    .last = incident->last,
    .first_id = incident->first_id,
    .count = incident->count
  };
  g_free (key);
  return begins;
}

gboolean
gst_glm4v_history_add (GstGlm4vHistory * self,
    const GstGlm4vHistorySettings * settings, const GstGlm4vJudged * judged,
    glm4v_contract_result * result)
{
  add_state (self, judged, settings->hysteresis, result);
  return judged->defect
      && add_incident (self, judged, settings->cooldown, result);
}
