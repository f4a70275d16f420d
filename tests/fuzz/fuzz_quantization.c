/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-06, what a checkpoint says about its quantized matrices: a config.json with the
 * quantization_config of any program, and the patterns in it. The first byte chooses the program.
 * P-14: some are tried again with an allocation that fails. */
#include <string.h>

#include "base/mem.h"
#include "checkpoint/pattern.h"
#include "checkpoint/quantization_config.h"
#include "fuzz.h"
#include "json_edits.h"

const size_t fuzz_json_at = 1;

#define HEAD "{\"model_type\":\"glm4v\",\"quantization_config\":{\"quant_method\":"
static const char *const texts[] = {
    HEAD
    "\"compressed-tensors\",\"format\":\"mixed-precision\",\"config_groups\":{\"group_0\":{"
    "\"format\":\"pack-quantized\",\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":4,"
    "\"type\":\"int\",\"symmetric\":true,\"strategy\":\"group\",\"group_size\":128}},"
    "\"group_1\":{\"format\":\"int-quantized\",\"targets\":[\"re:.*visual\\\\.blocks\\\\.\\\\d+."
    "(attn|mlp)\\\\..*\"],\"weights\":{\"num_bits\":8,\"type\":\"int\",\"symmetric\":true,"
    "\"strategy\":\"channel\"}}},\"ignore\":[\"lm_head\",\"re:.*a+b?c*$\"]}}",
    HEAD "\"awq\",\"version\":\"gemm\",\"bits\":4,\"group_size\":128,\"zero_point\":true,"
         "\"modules_to_not_convert\":[\"visual\"]}}",
    HEAD "\"gptq\",\"bits\":4,\"group_size\":128,\"desc_act\":true,\"sym\":false,"
         "\"checkpoint_format\":\"gptq_v2\"}}",
    HEAD "\"fp8\",\"activation_scheme\":\"dynamic\",\"weight_block_size\":[128,128],"
         "\"modules_to_not_convert\":[\"lm_head\"]}}",
};
enum { N_TEXTS = sizeof texts / sizeof *texts };
static json_base bases[N_TEXTS];

static void start(void)
{
    for (int i = 0; i < N_TEXTS; i++) {
        glm4v_quantization_config *config = NULL;
        json_base_init(&bases[i], texts[i], strlen(texts[i]));
        FUZZ_CHECK(!glm4v_quantization_config_parse(&config, texts[i], bases[i].len, NULL, NULL));
        FUZZ_CHECK(config);
        glm4v_quantization_config_free(&config);
    }
}

static void check_scheme(const glm4v_scheme *s)
{
    FUZZ_CHECK(s->bits == 4 || s->bits == 8);
    FUZZ_CHECK(s->group >= 0 && s->block >= 0);
    FUZZ_CHECK(!s->floating || s->bits == 8);
}

/* Only modules that no pattern of `ignore` names have a scheme, and only one of the groups'. */
static void check_module(const glm4v_quantization_config *c, const char *module)
{
    const glm4v_scheme *s = glm4v_quantization_config_find(c, module, "Linear");
    bool ignored = false, listed = false;
    for (uint32_t i = 0; i < c->n_ignore; i++)
        ignored |= glm4v_pattern_valid(c->ignore[i]) && glm4v_pattern_matches(c->ignore[i], module);
    for (uint32_t i = 0; i < c->n_groups; i++)
        listed |= s == &c->groups[i].scheme;
    FUZZ_CHECK(!s || (listed && !ignored));
}

static void check(const glm4v_quantization_config *c)
{
    static const char *const modules[] = {
        "model.language_model.layers.3.mlp.down_proj",
        "model.visual.blocks.0.attn.qkv",
        "lm_head",
        "transformer.vision.transformer.layers.62.mlp.fc1",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "",
    };
    for (uint32_t i = 0; i < c->n_groups; i++)
        if (c->groups[i].n_targets) /* others quantize activations alone */
            check_scheme(&c->groups[i].scheme);
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
        check_module(c, modules[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glm4v_quantization_config *config = NULL;
    glm4v_error err = { 0 };
    size_t len;
    if (!size)
        return 0;
    if (!bases[0].n)
        start();
    size_t live = glm4v_mem_live();
    char *text = json_input(&bases[data[0] % N_TEXTS], data + 1, size - 1, &len);
    uint64_t before = glm4v_mem_calls();
    int rc = glm4v_quantization_config_parse(&config, text, len, NULL, &err);
    uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    if (rc)
        FUZZ_CHECK(!config && err.code == rc && err.msg[0] &&
                   (rc == GLM4V_ERR_FORMAT || rc == GLM4V_ERR_UNSUPPORTED));
    else if (config)
        check(config);
    glm4v_quantization_config_free(&config);
    FUZZ_WITHOUT_MEMORY(nth, &err, glm4v_quantization_config_parse(&config, text, len, NULL, &err));
    FUZZ_CHECK(!config);
    free(text);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
