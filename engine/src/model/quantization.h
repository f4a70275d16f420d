/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which form each part of a model takes in memory: the `quantization` option, and the defaults for
 * parts that it does not name.
 *
 *   quantization = item ("," item)*      item = FORM | KEY "=" FORM
 *   KEY = text | vision | embedding | lm-head
 *   FORM = fp32 | bf16 | int8 | int4 | int4-32 | fp8 | fp8-dynamic
 * A bare FORM means text and vision. Each part may be named once. Parts that are not named stay as
 * stored: bf16 where all matrices of the part are bf16, else fp32 (fp16 is widened, as no form
 * keeps it exactly in fewer bits). */
#ifndef GLM4V_ENGINE_QUANTIZATION_H
#define GLM4V_ENGINE_QUANTIZATION_H

#include <stdbool.h>

#include "backend/backend.h"
#include "checkpoint/safetensors.h"

typedef struct {
    bool set[GLM4V_N_PARTS];
    glm4v_form form[GLM4V_N_PARTS];
} glm4v_quantization;

/* text may be NULL or empty: nothing is named. INVALID names the item. */
int glm4v_quantization_parse(glm4v_quantization *q, const char *text, glm4v_error *err);

/* Form that keeps a stored dtype exactly. */
glm4v_form glm4v_form_of_stored(glm4v_dtype dtype);

/* Form of one matrix of a part: that of the part, or a finer one where its inputs are not whole
 * groups. */
glm4v_form glm4v_form_of_linear(glm4v_form part, int64_t n_in);

const char *glm4v_part_name(glm4v_part part); /* as the option spells it */

#endif
