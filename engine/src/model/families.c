/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of model families, one row each. */
#include "model/families.h"

#include "config/family.h"
#include "config/keys.h"

/* Media tokens, of glm4v and its relatives. */
static const glm4v_family_token glm4v_tokens[GLM4V_N_MEDIA] = {
    [GLM4V_MEDIA_IMAGE] = { "<|image|>", "image_token_id", true },
    [GLM4V_MEDIA_IMAGE_START] = { "<|begin_of_image|>", "image_start_token_id", true },
    [GLM4V_MEDIA_IMAGE_END] = { "<|end_of_image|>", "image_end_token_id", true },
    [GLM4V_MEDIA_VIDEO] = { "<|video|>", "video_token_id", false },
    [GLM4V_MEDIA_VIDEO_START] = { "<|begin_of_video|>", "video_start_token_id", true },
    [GLM4V_MEDIA_VIDEO_END] = { "<|end_of_video|>", "video_end_token_id", true },
};

static const glm4v_family_token chatglm4v_tokens[GLM4V_N_MEDIA] = {
    [GLM4V_MEDIA_IMAGE] = { "<|endoftext|>", "pad_token_id", false },
    [GLM4V_MEDIA_IMAGE_START] = { "<|begin_of_image|>", "boi_token_id", true },
    [GLM4V_MEDIA_IMAGE_END] = { "<|end_of_image|>", "eoi_token_id", true },
};

static const glm4v_family_traits families[] = {
    [GLM4V_FAMILY_GLM4V] = {
        .name = "glm4v",
        .types = { "glm4v", "glm46v", "glmga" },
        .steady = "glmga",
        .models = "GLM-4.1V-9B, GLM-4.6V-Flash",
        .called = "GLM-4.1V or a relative (glm4v)",
        .marks = { "model.visual.post_conv_layernorm.weight",
                   "visual.post_conv_layernorm.weight" },
        .marks_are = "GLM-4.1V and its relatives",
        .token = glm4v_tokens,
        .templates = { GLM4V_TEMPLATE_GLM45, GLM4V_TEMPLATE_GLM41V },
        .prompts = { "Describe the image in one sentence.", "用一句话描述这张图片。" },
        .processor_files = true,
        .temporal = 2,
        .read = glm4v_config_read_glm4v,
        .list = glm4v_list_glm4v,
    },
    [GLM4V_FAMILY_CHATGLM4V] = {
        .name = "chatglm4v",
        .types = { "chatglm" },
        .models = "GLM-4V-9B",
        .called = "GLM-4V-9B (chatglm)",
        .text_only = "a text model (ChatGLM without \"vision_config\")",
        .marks = { "transformer.vision.patch_embedding.proj.weight" },
        .marks_are = "GLM-4V-9B",
        .token = chatglm4v_tokens,
        .templates = { GLM4V_TEMPLATE_CHATGLM4V },
        .prompts = { "Describe the image in one sentence.", "用一句话描述这张图片。" },
        .temporal = 1,
        .read = glm4v_config_read_chatglm4v,
        .list = glm4v_list_chatglm4v,
    },
    [GLM4V_FAMILY_GLM_OCR] = {
        .name = "glm_ocr",
        .types = { "glm_ocr" },
        .models = "GLM-OCR",
        .called = "GLM-OCR (glm_ocr)",
        .marks = { "model.visual.blocks.0.attn.q_norm.weight",
                   "visual.blocks.0.attn.q_norm.weight" },
        .marks_are = "GLM-OCR",
        .token = glm4v_tokens,
        .templates = { GLM4V_TEMPLATE_GLM_OCR },
        .prompts = { "Text Recognition:", "Table Recognition:" },
        .processor_files = true,
        .temporal = 2,
        .read = glm4v_config_read_glm_ocr,
        .list = glm4v_list_glm4v,
    },
};

_Static_assert(sizeof families / sizeof *families == GLM4V_N_FAMILIES, "a family has no row");

const glm4v_family_traits *glm4v_family_of(glm4v_family family)
{
    return &families[family];
}
