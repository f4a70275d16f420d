/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two tables of facts: model types, and tensors that only one kind of model has. */
#include "config/identify.h"

#include <string.h>

#include "base/error.h"
#include "config/family.h"

const char *glm4v_identify_type(const char *type)
{
    static const struct {
        const char *type, *what;
    } known[] = {
        { "glm4", "GLM-4-0414, a text model" },
        { "glm", "GLM-4-9B, a text model" },
        { "glm4_moe", "GLM-4.5, a text model" },
        { "glm4v_moe", "GLM-4.5V or GLM-4.6V, a mixture of experts" },
        { "glm4v_text", "the text part of a GLM-4.1V without its vision tower" },
        { "cogvlm", "CogVLM" },
        { "llava", "LLaVA" },
        { "llava_next", "LLaVA-NeXT" },
        { "llava_onevision", "LLaVA-OneVision" },
        { "qwen2_vl", "Qwen2-VL" },
        { "qwen2_5_vl", "Qwen2.5-VL" },
        { "qwen3_vl", "Qwen3-VL" },
        { "internvl_chat", "InternVL" },
        { "internvl", "InternVL" },
        { "minicpmv", "MiniCPM-V" },
        { "mllama", "Llama 3.2 Vision" },
        { "paligemma", "PaliGemma" },
        { "gemma3", "Gemma 3" },
        { "idefics3", "Idefics3" },
        { "smolvlm", "SmolVLM" },
        { "phi3_v", "Phi-3 Vision" },
        { "llama", "Llama, a text model" },
        { "qwen2", "Qwen2, a text model" },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(type, known[i].type))
            return known[i].what;
    return NULL;
}

/* Tensors that models of no family have. The first that is there decides, after the families'. */
static const struct {
    const char *tensor, *what;
} others[] = {
    { "transformer.encoder.layers.0.input_layernorm.weight",
      "a ChatGLM or GLM-4-9B without vision tower" },
    { "visual.merger.ln_q.weight", "Qwen-VL" },
    { "model.visual.merger.ln_q.weight", "Qwen-VL" },
    { "vision_tower.vision_model.embeddings.patch_embedding.weight", "LLaVA" },
    { "model.vision_tower.vision_model.embeddings.patch_embedding.weight", "LLaVA" },
    { "vision_model.embeddings.class_embedding", "InternVL" },
    { "model.vision.patch_embedding.cls_embedding", "CogVLM" },
    { "model.layers.0.post_self_attn_layernorm.weight", "GLM-4-0414, which has no vision tower" },
    { "model.layers.0.input_layernorm.weight", "a text model without vision tower" },
};

/* The first mark of the family that is there, or NULL. */
static const glm4v_tensor *mark_of(const glm4v_checkpoint *checkpoint,
                                   const glm4v_family_traits *family)
{
    const glm4v_tensor *t = NULL;
    for (int i = 0; !t && i < GLM4V_MAX_MARKS && family->marks[i]; i++)
        t = glm4v_checkpoint_find(checkpoint, family->marks[i]);
    return t;
}

static int mixed(const glm4v_checkpoint *checkpoint, const glm4v_tensor *t, const char *what,
                 const glm4v_config *config, glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "%.80s: holds \"%s\", so the weights are those of %s, but "
                      "config.json says %s; files of two models are mixed: download "
                      "config.json and weights from one place",
                      glm4v_checkpoint_file(checkpoint, t->shard), t->name, what,
                      glm4v_family_of(config->family)->called);
}

int glm4v_identify_check(const glm4v_checkpoint *checkpoint, const glm4v_config *config,
                         glm4v_error *err)
{
    if (mark_of(checkpoint, glm4v_family_of(config->family)))
        return 0;
    for (int f = 0; f < GLM4V_N_FAMILIES; f++) {
        const glm4v_family_traits *family = glm4v_family_of((glm4v_family)f);
        const glm4v_tensor *t = mark_of(checkpoint, family);
        if (t)
            return mixed(checkpoint, t, family->marks_are, config, err);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const glm4v_tensor *t = glm4v_checkpoint_find(checkpoint, others[i].tensor);
        if (t)
            return mixed(checkpoint, t, others[i].what, config, err);
    }
    if (glm4v_checkpoint_count(checkpoint) &&
        !strncmp(glm4v_checkpoint_at(checkpoint, 0)->name, "base_model.", 11))
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%.80s: holds \"%.100s\": a LoRA adapter, not a model by itself; merge "
                          "it into its base model (peft: merge_and_unload) and save the result",
                          glm4v_checkpoint_file(checkpoint, 0),
                          glm4v_checkpoint_at(checkpoint, 0)->name);
    return 0;
}
