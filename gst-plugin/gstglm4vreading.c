/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Part of the text pad. A line is broken where it has blanks, and beside East
 * Asian characters, which have none; by the line breaking classes of Unicode
 * (UAX #14) no line begins with closing punctuation or ends with opening one. A
 * word that is longer than a line is broken between two characters. Lines are
 * made about equally long and are dealt out evenly, so that the last cue of a
 * text is not a single word that is gone at once. */
#include "gstglm4vreading.h"

/* Times end on whole frames at the common rates. */
#define TIME_STEP (200 * GST_MSECOND)

static guint
width_of (gunichar c)
{
  if (g_unichar_iszerowidth (c) || g_unichar_ismark (c))
    return 0;
  return g_unichar_iswide (c) ? 2 : 1;
}

static gboolean
is_blank (gunichar c)
{
  return g_unichar_isspace (c)
      && g_unichar_break_type (c) != G_UNICODE_BREAK_NON_BREAKING_GLUE;
}

/* Characters that a line may be broken beside. Hangul is not among them: Korean
 * has blanks between words. */
static gboolean
is_ideograph (gunichar c)
{
  switch (g_unichar_break_type (c)) {
    case G_UNICODE_BREAK_IDEOGRAPHIC:
    case G_UNICODE_BREAK_CONDITIONAL_JAPANESE_STARTER:
      return TRUE;
    case G_UNICODE_BREAK_CLOSE_PUNCTUATION:
    case G_UNICODE_BREAK_EXCLAMATION:
    case G_UNICODE_BREAK_NON_STARTER:
      return g_unichar_iswide (c);
    default:
      return FALSE;
  }
}

static gboolean
may_begin_line (gunichar c)
{
  switch (g_unichar_break_type (c)) {
    case G_UNICODE_BREAK_CLOSE_PUNCTUATION:
    case G_UNICODE_BREAK_CLOSE_PARANTHESIS:
    case G_UNICODE_BREAK_EXCLAMATION:
    case G_UNICODE_BREAK_NON_STARTER:
    case G_UNICODE_BREAK_CONDITIONAL_JAPANESE_STARTER:
    case G_UNICODE_BREAK_INFIX_SEPARATOR:
    case G_UNICODE_BREAK_POSTFIX:
    case G_UNICODE_BREAK_QUOTATION:
    case G_UNICODE_BREAK_NON_BREAKING_GLUE:
    case G_UNICODE_BREAK_ZERO_WIDTH_JOINER:
      return FALSE;
    default:
      return width_of (c) > 0;
  }
}

static gboolean
may_end_line (gunichar c)
{
  switch (g_unichar_break_type (c)) {
    case G_UNICODE_BREAK_OPEN_PUNCTUATION:
    case G_UNICODE_BREAK_PREFIX:
    case G_UNICODE_BREAK_QUOTATION:
    case G_UNICODE_BREAK_NON_BREAKING_GLUE:
    case G_UNICODE_BREAK_ZERO_WIDTH_JOINER:
      return FALSE;
    default:
      return TRUE;
  }
}

/* Between two characters of which none is blank. */
static gboolean
may_break (gunichar before, gunichar after)
{
  return (is_ideograph (before) || is_ideograph (after))
      && may_end_line (before) && may_begin_line (after);
}

/* The end of the line that begins at text, at most max columns wide; *next is
 * where the one after it begins. FALSE if that is within a word. */
static gboolean
find_end (const gchar * text, guint max, const gchar ** end,
    const gchar ** next)
{
  gunichar before = 0;
  const gchar *p;
  guint width = 0;

  *end = NULL;
  for (p = text; *p; p = g_utf8_next_char (p)) {
    gunichar c = g_utf8_get_char (p);

    width += width_of (c);
    if (p == text) {
      before = c;
      continue;
    }
    if (is_blank (c)) {
      if (!is_blank (before))
        *end = p;
      *next = g_utf8_next_char (p);
    } else if (!is_blank (before) && may_break (before, c)) {
      *end = *next = p;
    }
    if (width > max && !is_blank (c) && width_of (c) > 0)
      break;
    before = c;
  }
  if (*p && *end)
    return TRUE;
  *end = *next = p;
  return !*p;
}

/* What breaking a paragraph came to. */
typedef struct
{
  guint lines, broken;          /* words, because they were too long */
} Breaks;

/* Append the lines of a paragraph to lines (of gchar *), or only count them
 * where that is NULL. */
static Breaks
break_paragraph (const gchar * text, guint max, GPtrArray * lines)
{
  Breaks breaks = { 0 };
  const gchar *next, *end;

  for (; *text; text = next) {
    if (!find_end (text, max, &end, &next))
      breaks.broken++;
    if (lines)
      g_ptr_array_add (lines, g_strndup (text, (gsize) (end - text)));
    breaks.lines++;
  }
  return breaks;
}

/* The narrowest lines that are as few as those of max columns. */
static guint
even_width (const gchar * text, guint max)
{
  Breaks least = break_paragraph (text, max, NULL);
  guint low = 1;

  while (low < max) {
    guint middle = low + (max - low) / 2;
    Breaks breaks = break_paragraph (text, middle, NULL);

    if (breaks.lines <= least.lines && breaks.broken <= least.broken)
      max = middle;
    else
      low = middle + 1;
  }
  return max;
}

static GPtrArray *
break_lines (const GstGlm4vReading * reading, const gchar * text)
{
  GPtrArray *lines = g_ptr_array_new_with_free_func (g_free);
  gchar **paragraphs = g_strsplit (text, "\n", -1);
  guint max = reading->max_line_length, i;

  for (i = 0; paragraphs[i]; i++) {
    const gchar *paragraph = g_strstrip (paragraphs[i]);

    if (max == 0)
      g_ptr_array_add (lines, g_strdup (paragraph));
    else
      break_paragraph (paragraph, even_width (paragraph, max), lines);
  }
  g_strfreev (paragraphs);
  return lines;
}

static void
free_cue (gpointer cue)
{
  g_free (((GstGlm4vReadingCue *) cue)->text);
  g_free (cue);
}

/* Lines first to end, without end. */
static GstGlm4vReadingCue *
new_cue (const GPtrArray * lines, guint first, guint end)
{
  GstGlm4vReadingCue *cue = g_new0 (GstGlm4vReadingCue, 1);
  GString *text = g_string_new (NULL);
  guint i;

  for (i = first; i < end; i++)
    g_string_append_printf (text, "%s%s", i > first ? "\n" : "",
        (const gchar *) g_ptr_array_index (lines, i));
  cue->text = g_string_free (text, FALSE);
  return cue;
}

GPtrArray *
gst_glm4v_reading_divide (const GstGlm4vReading * reading, const gchar * text)
{
  GPtrArray *cues = g_ptr_array_new_with_free_func (free_cue);
  GPtrArray *lines = break_lines (reading, text);
  guint max = reading->max_lines > 0 ? reading->max_lines : G_MAXUINT;
  guint n = lines->len / max + (lines->len % max > 0), i;

  for (i = 0; i < n; i++)
    g_ptr_array_add (cues, new_cue (lines,
            (guint) gst_util_uint64_scale_int (lines->len, (gint) i, (gint) n),
            (guint) gst_util_uint64_scale_int (lines->len, (gint) i + 1,
                (gint) n)));
  g_ptr_array_unref (lines);
  return cues;
}

static guint64
length_of (const GPtrArray * cues)
{
  guint64 length = 0;
  guint i;

  for (i = 0; i < cues->len; i++)
    length += (guint64) g_utf8_strlen (((const GstGlm4vReadingCue *)
            g_ptr_array_index (cues, i))->text, -1);
  return length;
}

GstClockTime
gst_glm4v_reading_time (const GstGlm4vReading * reading,
    const GPtrArray * cues)
{
  GstClockTime time;

  if (reading->speed == 0)
    return 0;
  time = (length_of (cues) * GST_SECOND + reading->speed - 1) / reading->speed;
  return (time + TIME_STEP - 1) / TIME_STEP * TIME_STEP;
}

void
gst_glm4v_reading_share (GPtrArray * cues, GstClockTime time)
{
  guint64 all = MAX (length_of (cues), 1), before = 0;
  GstClockTime begin = 0;
  guint i;

  for (i = 0; i < cues->len; i++) {
    GstGlm4vReadingCue *cue = g_ptr_array_index (cues, i);
    GstClockTime end;

    before += (guint64) g_utf8_strlen (cue->text, -1);
    end = gst_util_uint64_scale (time, before, all);
    cue->offset = begin;
    cue->duration = end - begin;
    begin = end;
  }
}
