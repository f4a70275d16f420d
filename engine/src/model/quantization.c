/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The `quantization` option. The conversion itself is the backend's weight_fill, fed row by row by
 * load.c. */
#define _GNU_SOURCE
#include "model/quantization.h"

#include <string.h>

#include "base/error.h"

static const char *const part_names[GLM4V_N_PARTS] = {
    [GLM4V_PART_TEXT] = "text",
    [GLM4V_PART_VISION] = "vision",
    [GLM4V_PART_EMBEDDING] = "embedding",
    [GLM4V_PART_LM_HEAD] = "lm-head",
};

const char *glm4v_part_name(glm4v_part part)
{
    return part_names[part];
}

glm4v_form glm4v_form_of_stored(glm4v_dtype dtype)
{
    return dtype == GLM4V_DTYPE_BF16 ? GLM4V_FORM_BF16 : GLM4V_FORM_F32;
}

glm4v_form glm4v_form_of_linear(glm4v_form part, int64_t n_in)
{
    return glm4v_form_fits(part, n_in) ? part : glm4v_form_of(part)->finer;
}

static int set_part(glm4v_quantization *q, glm4v_part part, glm4v_form form, glm4v_error *err)
{
    if (q->set[part])
        return glm4v_fail(err, GLM4V_ERR_INVALID, "quantization: %s is named twice",
                          part_names[part]);
    char names[96];
    if (part == GLM4V_PART_EMBEDDING && !glm4v_form_of(form)->table)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "quantization: the embedding can be %s, not %s: it is read row by row",
                          glm4v_form_names(names, sizeof names, true), glm4v_form_name(form));
    q->set[part] = true;
    q->form[part] = form;
    return 0;
}

/* One item [text, text + len). */
static int parse_item(glm4v_quantization *q, const char *text, size_t len, glm4v_error *err)
{
    const char *equals = memchr(text, '=', len), *word = equals ? equals + 1 : text;
    size_t word_len = len - (word - text);
    char name[16] = "", names[96];
    glm4v_form form;
    if (word_len < sizeof name)
        memcpy(name, word, word_len);
    if (glm4v_form_parse(&form, name))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "quantization: \"%.*s\" is not a weight form; expected %s",
                          (int)(word_len < 40 ? word_len : 40), word,
                          glm4v_form_names(names, sizeof names, false));
    if (!equals) {
        int rc = set_part(q, GLM4V_PART_TEXT, form, err);
        return rc ? rc : set_part(q, GLM4V_PART_VISION, form, err);
    }
    size_t key_len = (equals - text);
    for (int part = 0; part < GLM4V_N_PARTS; part++)
        if (strlen(part_names[part]) == key_len && !memcmp(part_names[part], text, key_len))
            return set_part(q, (glm4v_part)part, form, err);
    return glm4v_fail(err, GLM4V_ERR_INVALID,
                      "quantization: \"%.*s\" is not a part of a model; expected text, vision, "
                      "embedding or lm-head",
                      (int)(key_len < 40 ? key_len : 40), text);
}

int glm4v_quantization_parse(glm4v_quantization *q, const char *text, glm4v_error *err)
{
    glm4v_quantization out = { 0 };
    int rc = 0;
    if (text && *text)
        for (const char *comma; !rc; text = comma + 1) {
            comma = strchrnul(text, ',');
            rc = parse_item(&out, text, (comma - text), err);
            if (!*comma)
                break;
        }
    if (!rc)
        *q = out;
    return rc;
}
