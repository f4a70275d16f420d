/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two tables of facts: model types, and tensors that only one kind of model has. */
#include "config/identify.h"

#include <string.h>

#include "base/error.h"

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

enum { OTHER = -1 };

/* The first tensor of this list that is there decides. */
static const struct {
    const char *tensor, *what;
    int family; /* glm4v_family or OTHER */
} marks[] = {
    { "transformer.vision.patch_embedding.proj.weight", "GLM-4V-9B", GLM4V_FAMILY_CHATGLM4V },
    { "model.visual.downsample.weight", "GLM-4.1V and its relatives", GLM4V_FAMILY_GLM4V },
    { "visual.downsample.weight", "GLM-4.1V and its relatives", GLM4V_FAMILY_GLM4V },
    { "transformer.encoder.layers.0.input_layernorm.weight",
      "a ChatGLM or GLM-4-9B without vision tower", OTHER },
    { "visual.merger.ln_q.weight", "Qwen-VL", OTHER },
    { "model.visual.merger.ln_q.weight", "Qwen-VL", OTHER },
    { "vision_tower.vision_model.embeddings.patch_embedding.weight", "LLaVA", OTHER },
    { "model.vision_tower.vision_model.embeddings.patch_embedding.weight", "LLaVA", OTHER },
    { "vision_model.embeddings.class_embedding", "InternVL", OTHER },
    { "model.vision.patch_embedding.cls_embedding", "CogVLM", OTHER },
    { "model.layers.0.post_self_attn_layernorm.weight", "GLM-4-0414, which has no vision tower",
      OTHER },
    { "model.layers.0.input_layernorm.weight", "a text model without vision tower", OTHER },
};

int glm4v_identify_check(const glm4v_checkpoint *checkpoint, const glm4v_config *config,
                         glm4v_error *err)
{
    const char *said = config->family == GLM4V_FAMILY_CHATGLM4V ? "GLM-4V-9B (chatglm)"
                                                                : "GLM-4.1V or a relative (glm4v)";
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const glm4v_tensor *t = glm4v_checkpoint_find(checkpoint, marks[i].tensor);
        if (t && marks[i].family == (int)config->family)
            return 0;
        if (t)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%.80s: holds \"%s\", so the weights are those of %s, but "
                              "config.json says %s; files of two models are mixed: download "
                              "config.json and weights from one place",
                              glm4v_checkpoint_file(checkpoint, t->shard), marks[i].tensor,
                              marks[i].what, said);
    }
    if (glm4v_checkpoint_count(checkpoint) &&
        !strncmp(glm4v_checkpoint_at(checkpoint, 0)->name, "base_model.", 11))
        return glm4v_fail(
            err, GLM4V_ERR_FORMAT,
            "%.80s: holds \"%.100s\": a LoRA adapter, not a model by itself; merge it "
            "into its base model (peft: merge_and_unload) and save that",
            glm4v_checkpoint_file(checkpoint, 0), glm4v_checkpoint_at(checkpoint, 0)->name);
    return 0;
}
