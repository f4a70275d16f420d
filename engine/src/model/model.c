/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A model after it was built: shared by reference, freed with the last one. */
#include "model/model.h"

#include "base/mem.h"

void glm4v_model_destroy(glm4v_model *m)
{
    glm4v_plan_free(&m->plan, m);
    glm4v_plan_clear(&m->plan);
    glm4v_quantization_config_free(&m->quantized);
    glm4v_free(m->vision.layers);
    glm4v_free(m->layers);
    for (int64_t i = 0; i < m->n_stages; i++)
        glm4v_backend_close(&m->stages[i].backend);
    glm4v_free(m->stages);
    glm4v_pool_close(&m->pool);
    glm4v_preprocessor_close(&m->video_preprocessor);
    glm4v_preprocessor_close(&m->preprocessor);
    glm4v_tokenizer_close(&m->tokenizer);
    glm4v_free(m);
}

glm4v_model *glm4v_model_ref(glm4v_model *model)
{
    atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    return model;
}

void glm4v_model_close(glm4v_model **model)
{
    glm4v_model *m = *model;
    *model = NULL;
    if (m && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
        glm4v_model_destroy(m);
}

const glm4v_model_info *glm4v_model_get_info(const glm4v_model *model)
{
    return &model->info;
}
