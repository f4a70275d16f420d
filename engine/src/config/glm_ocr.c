/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config.json of family glm_ocr: the layout of glm4v; the tower's MLPs have other widths, and there
 * is no position table ("image_size" means nothing). Source: docs/model.md. */
#include "config/keys.h"

/* The merger's width has no key of its own. */
static int read_tower(glm4v_vision_config *v, const glm4v_places *p, glm4v_error *err)
{
    v->bias = true;
    v->head_norms = true;
    v->merger_ffn = v->out_hidden * GLM4V_CHANNELS;
    int rc = glm4v_key_int(p, "intermediate_size", GLM4V_REQUIRED, (glm4v_range) { 1, 1 << 18 },
                           &v->ffn, err);
    return rc ? rc : glm4v_key_bool(p, "attention_bias", &v->bias, err);
}

int glm4v_config_read_glm_ocr(glm4v_config *c, const json_t *root, glm4v_error *err)
{
    static const glm4v_relative glm_ocr = { .mtp = true, .rotary_factor = 1, .tower = read_tower };
    return glm4v_config_read_relative(c, root, &glm_ocr, err);
}
