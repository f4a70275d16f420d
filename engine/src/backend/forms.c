/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The names of weight forms. */
#include "backend/forms.h"

#include <string.h>

#include "glm4v/glm4v.h"

static const char *const form_names[GLM4V_N_FORMS] = { "fp32", "bf16", "int8", "int4", "fp8" };

const char *glm4v_form_name(glm4v_form form)
{
    return form < GLM4V_N_FORMS ? form_names[form] : "unknown";
}

int glm4v_form_parse(glm4v_form *form, const char *name)
{
    for (int i = 0; i < GLM4V_N_FORMS; i++)
        if (!strcmp(name, form_names[i])) {
            *form = (glm4v_form)i;
            return 0;
        }
    return GLM4V_ERR_INVALID;
}
