/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the verdicts of one run mean in their sequence: a state that changes
 * only after several equal ones, and incidents, which are one defect in several
 * results. Questions and regions are told apart. */
#pragma once

#include <gst/gst.h>

#include "contract/result.h"

G_BEGIN_DECLS

/* So many series of verdicts, and so many incidents, are known at a time; a
 * new one replaces the one that was longest without a result. */
#define GST_GLM4V_MAX_SERIES 256

typedef struct
{
  guint hysteresis;             /* equal verdicts that change the state */
  GstClockTime cooldown;        /* a longer gap begins a new incident */
} GstGlm4vHistorySettings;

/* A result with a verdict. */
typedef struct
{
  const gchar *series;          /* the question and the region */
  glm4v_verdict verdict;
  const gchar *defect;          /* the choice that fails, or NULL */
  guint64 id;
  GstClockTime time;            /* running time */
} GstGlm4vJudged;

/* Not locked: the element guards it. */
typedef struct _GstGlm4vHistory GstGlm4vHistory;

GstGlm4vHistory *gst_glm4v_history_new (void);
void gst_glm4v_history_free (GstGlm4vHistory * history);

/* A run begins, or time jumps. */
void gst_glm4v_history_clear (GstGlm4vHistory * history);

/* The next result: sets state and, if it has a defect, incident, whose choice
 * is borrowed. TRUE if an incident begins with it. */
gboolean gst_glm4v_history_add (GstGlm4vHistory * history,
    const GstGlm4vHistorySettings * settings, const GstGlm4vJudged * judged,
    glm4v_contract_result * result);

G_END_DECLS
