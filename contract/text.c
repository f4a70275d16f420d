/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See text.h. */
#include "contract/text.h"

#include <glib.h>
#include <string.h>

#define MAX_TEXT_BYTES 65536
#define MAX_PROMPT_BYTES (16 << 20)

/* ---- prompts ---- */

static char *time_text(uint64_t time)
{
    const uint64_t ms = time / 1000000;
    if (time == GLM4V_UNKNOWN_TIME)
        return g_strdup("");
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%02u:%02u.%03u", ms / 3600000,
                           (unsigned)(ms / 60000 % 60), (unsigned)(ms / 1000 % 60),
                           (unsigned)(ms % 1000));
}

/* What stands for the placeholder that p begins with, and its length; NULL if it is none. */
static char *value_of(const char *p, const glm4v_placeholders *values, size_t *length)
{
    static const char *const names[] = { "{time}", "{label}", "{frame}", "{camera}" };
    size_t i = 0;
    while (i < G_N_ELEMENTS(names) && !g_str_has_prefix(p, names[i]))
        i++;
    if (i == G_N_ELEMENTS(names))
        return NULL;
    *length = strlen(names[i]);
    switch (i) {
    case 0:
        return time_text(values->time);
    case 1:
        return g_strdup(values->label ? values->label : "");
    case 2:
        return g_strdup_printf("%" G_GUINT64_FORMAT, values->frame);
    default:
        return g_strdup(values->camera ? values->camera : "");
    }
}

char *glm4v_contract_expand(const char *prompt, const glm4v_placeholders *values)
{
    GString *text = g_string_sized_new(strlen(prompt) + 1);
    while (*prompt && text->len < MAX_PROMPT_BYTES) {
        size_t length = 1;
        char *value = *prompt == '{' ? value_of(prompt, values, &length) : NULL;
        if (value)
            g_string_append(text, value);
        else
            g_string_append_c(text, *prompt);
        prompt += length;
        g_free(value);
    }
    return g_string_free(text, FALSE);
}

/* ---- answers ---- */

static bool is_unwanted(gunichar c)
{
    if (c == '\n' || c == '\t')
        return false;
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0x2028 || c == 0x2029 || c == 0xfeff;
}

char *glm4v_contract_sanitize(const char *text)
{
    char *valid = g_utf8_make_valid(text, (gssize)strnlen(text, MAX_TEXT_BYTES));
    GString *clean = g_string_sized_new(strlen(valid) + 1);
    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        const gunichar c = g_utf8_get_char(p);
        if (!is_unwanted(c))
            g_string_append_unichar(clean, c);
    }
    g_free(valid);
    return g_strstrip(g_string_free(clean, FALSE));
}

/* ---- models ---- */

void glm4v_contract_forms(char forms[GLM4V_FORMS_SIZE], const glm4v_model_info *info)
{
    g_snprintf(forms, GLM4V_FORMS_SIZE, "text=%s,vision=%s,embedding=%s,lm-head=%s",
               info->form[GLM4V_PART_TEXT], info->form[GLM4V_PART_VISION],
               info->form[GLM4V_PART_EMBEDDING], info->form[GLM4V_PART_LM_HEAD]);
}
