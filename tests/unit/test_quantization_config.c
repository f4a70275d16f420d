/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a checkpoint says about its quantized matrices, and the patterns it says it with. */
#include <string.h>

#include "checkpoint/pattern.h"
#include "checkpoint/quantization_config.h"
#include "test.h"

static glm4v_error err;
static char logged[512];

static void take_line(void *user, glm4v_log_level level, const char *line)
{
    (void)user;
    (void)level;
    snprintf(logged, sizeof logged, "%s", line);
}

static const glm4v_log log_lines = { take_line, NULL };

/* config.json with that quantization_config. */
static int parse(glm4v_quantization_config **c, const char *object)
{
    char text[4096];
    snprintf(text, sizeof text, "{\"model_type\": \"glm4v\", \"quantization_config\": %s}", object);
    memset(&err, 0, sizeof err);
    logged[0] = 0;
    return glm4v_quantization_config_parse(c, text, strlen(text), &log_lines, &err);
}

/* ---- patterns ---- */

#define LAYER "model.language_model.layers.3.mlp.down_proj"

static void patterns_match_as_python_would(void)
{
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        { "lm_head", "lm_head", true },
        { "lm_head", "lm_head2", false },
        { LAYER, "model.layers.3.mlp.down_proj", true }, /* the prefix is spelled in two ways */
        { "language_model.model.layers.3.mlp.down_proj", LAYER, true },
        { "model.layers.4.mlp.down_proj", LAYER, false },
        { "re:.*down_proj", LAYER, true },
        { "re:.*down_proj$", LAYER, true },
        { "re:.*down$", LAYER, false },
        { "re:.*mlp", LAYER, true }, /* match() is anchored at the front alone */
        { "re:mlp", LAYER, false },
        { "re:^model.layers\\.3\\.", LAYER, true },
        { "re:model\\.layers\\.\\d+\\.mlp.*", LAYER, true },
        { "re:model\\.layers\\.[0-9]\\.mlp.*", LAYER, true },
        { "re:model\\.layers\\.\\d+\\.attn.*", LAYER, false },
        { "re:.*(gate|up|down)_proj$", LAYER, true },
        { "re:.*(?:gate|up)_proj$", LAYER, false },
        { "re:.*q_proj|.*down_proj", LAYER, true },
        { "re:visual.*", "model.visual.blocks.0.attn.qkv", true },
        { "re:.*visual.*", LAYER, false },
        { "re:.*a+b?c*$", "xaac", true },
        { "re:.*a+b?c*$", "xaabbc", false },
        { "re:", LAYER, true },
        { "re:.*?proj$", LAYER, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!glm4v_pattern_valid(cases[i].pattern))
            test_fail(__FILE__, __LINE__, "%s is refused", cases[i].pattern);
        if (glm4v_pattern_matches(cases[i].pattern, cases[i].name) != cases[i].matches)
            test_fail(__FILE__, __LINE__, "%s and %s", cases[i].pattern, cases[i].name);
    }
}

static void patterns_beyond_are_refused(void)
{
    static const char *const patterns[] = {
        "re:a{2}",    "re:[abc]", "re:(a)(b)", "re:(a(b))", "re:a|(b)", "re:(a|b)*", "re:\\w+",
        "re:(?!a).*", "re:a)",    "re:(a",     "re:*a",     "re:a$b",   "re:a\\",    "re:a^",
    };
    char longest[GLM4V_PATTERN_LENGTH + 1];
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (glm4v_pattern_valid(patterns[i]))
            test_fail(__FILE__, __LINE__, "%s is taken", patterns[i]);
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    CHECK(!glm4v_pattern_valid(longest));
    longest[sizeof longest - 2] = 0;
    CHECK(glm4v_pattern_valid(longest));
}

static void a_pattern_made_to_backtrack_takes_no_time(void)
{
    char name[128];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = 0;
    CHECK(!glm4v_pattern_matches("re:.*a*.*a*.*a*.*a*.*a*.*a*.*a*.*a*.*a*.*a*.*a*b$", name));
}

/* ---- configurations ---- */

#define WEIGHTS4                                                                                   \
    "\"weights\": {\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"group\", "                  \
    "\"group_size\": 128, \"symmetric\": true}"
#define WEIGHTS8 "\"weights\": {\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"channel\"}"
#define CT(format, groups, rest)                                                                   \
    "{\"quant_method\": \"compressed-tensors\", \"format\": \"" format                             \
    "\", \"config_groups\": {" groups "}" rest "}"

static void compressed_tensors_gives_each_module_its_scheme(void)
{
    glm4v_quantization_config *c = NULL;
    REQUIRE(
        !parse(&c, CT("mixed-precision",
                      "\"a\": {\"targets\": [\"Linear\"], \"format\": \"pack-quantized\", " WEIGHTS4
                      "}, \"b\": {\"targets\": [\"re:.*mlp.*\", \"lm_head\"], "
                      "\"format\": \"int-quantized\", " WEIGHTS8 "}",
                      ", \"ignore\": [\"re:.*visual.*\", \"model.layers.0.mlp.down_proj\"]")));
    const glm4v_scheme *attn = glm4v_quantization_config_find(c, "model.layers.1.attn.q", "Linear");
    const glm4v_scheme *mlp = glm4v_quantization_config_find(c, LAYER, "Linear");
    REQUIRE(attn && mlp);
    CHECK(attn->packed && attn->symmetric && !attn->floating);
    CHECK_EQ(attn->bits, 4);
    CHECK_EQ(attn->group, 128);
    CHECK(!mlp->packed);
    CHECK_EQ(mlp->bits, 8);
    CHECK_EQ(mlp->group, 0);
    CHECK_EQ(mlp->block, 1);
    CHECK(!glm4v_quantization_config_find(c, "model.layers.0.mlp.down_proj", "Linear"));
    CHECK(!glm4v_quantization_config_find(c, "model.visual.blocks.0.attn.qkv", "Linear"));
    CHECK(!glm4v_quantization_config_find(c, "model.embed_tokens", "Embedding"));
    CHECK(glm4v_quantization_config_find(c, "lm_head", "Linear") == mlp);
    glm4v_quantization_config_free(&c);
}

static void other_methods_treat_all_linear_modules_alike(void)
{
    glm4v_quantization_config *c = NULL;
    REQUIRE(!parse(&c, "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 64, "
                       "\"version\": \"GEMM\", \"modules_to_not_convert\": [\"visual\"]}"));
    const glm4v_scheme *s = glm4v_quantization_config_find(c, LAYER, "Linear");
    REQUIRE(s);
    CHECK_EQ(c->method, GLM4V_METHOD_AWQ);
    CHECK_EQ(s->group, 64);
    CHECK(!s->symmetric);
    glm4v_quantization_config_free(&c);

    REQUIRE(!parse(&c, "{\"quant_method\": \"gptq\", \"bits\": 8, \"group_size\": -1, "
                       "\"desc_act\": true, \"sym\": true, \"dynamic\": {\"-:.*visual.*\": {}}}"));
    s = glm4v_quantization_config_find(c, LAYER, "Linear");
    REQUIRE(s);
    CHECK_EQ(c->method, GLM4V_METHOD_GPTQ);
    CHECK(c->zeros_less_one && s->ordered && s->symmetric);
    CHECK_EQ(s->bits, 8);
    CHECK_EQ(s->group, 0);
    glm4v_quantization_config_free(&c);

    REQUIRE(!parse(&c, "{\"quant_method\": \"gptq\", \"checkpoint_format\": \"gptq_v2\"}"));
    CHECK(!c->zeros_less_one);
    glm4v_quantization_config_free(&c);

    REQUIRE(!parse(&c, "{\"quant_method\": \"auto-round\", \"bits\": 4, \"sym\": true, "
                       "\"packing_format\": \"auto_round:auto_gptq\"}"));
    CHECK_EQ(c->method, GLM4V_METHOD_GPTQ);
    glm4v_quantization_config_free(&c);

    REQUIRE(!parse(&c, "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 64]}"));
    s = glm4v_quantization_config_find(c, LAYER, "Linear");
    REQUIRE(s);
    CHECK(s->floating);
    CHECK_EQ(s->block, 128);
    CHECK_EQ(s->group, 64);
    glm4v_quantization_config_free(&c);
}

/* What the programs write, in full, as public repositories quote it. */
static void configurations_as_programs_write_them_are_read(void)
{
    static const struct {
        const char *object;
        glm4v_method method;
        int bits, group;
    } cases[] = {
        { "{\"bits\": 4, \"data_type\": \"int\", \"group_size\": 128, \"sym\": true, \"iters\": 0, "
          "\"low_gpu_mem_usage\": true, \"autoround_version\": \"0.12.2\", "
          "\"block_name_to_quantize\": \"model.layers\", \"quant_method\": \"auto-round\", "
          "\"packing_format\": \"auto_round:auto_gptq\", \"extra_config\": "
          "{\"model.visual.merger.norm\": {\"bits\": 16, \"data_type\": \"float\"}, "
          "\"" LAYER "\": {\"bits\": 4}}}",
          GLM4V_METHOD_GPTQ, 4, 128 },
        { "{\"bits\": 4, \"checkpoint_format\": \"gptq\", \"desc_act\": false, \"group_size\": 32, "
          "\"lm_head\": false, \"meta\": {\"damp_percent\": 0.05, \"quantizer\": "
          "[\"gptqmodel:4.0.0\"], \"static_groups\": false, \"true_sequential\": true}, "
          "\"pack_dtype\": \"int32\", \"quant_method\": \"gptq\", \"sym\": true}",
          GLM4V_METHOD_GPTQ, 4, 32 },
        { "{\"bits\": 4, \"group_size\": 128, \"modules_to_not_convert\": [\"visual\"], "
          "\"quant_method\": \"awq\", \"version\": \"gemm\", \"zero_point\": true}",
          GLM4V_METHOD_AWQ, 4, 128 },
        { "{\"config_groups\": {\"group_0\": {\"format\": \"pack-quantized\", "
          "\"input_activations\": null, \"output_activations\": null, \"targets\": [\"Linear\"], "
          "\"weights\": {\"actorder\": null, \"block_structure\": null, \"dynamic\": false, "
          "\"group_size\": 128, \"num_bits\": 4, \"observer\": \"memoryless_minmax\", "
          "\"observer_kwargs\": {}, \"scale_dtype\": null, \"strategy\": \"group\", "
          "\"symmetric\": true, \"type\": \"int\", \"zp_dtype\": null}}}, "
          "\"format\": \"pack-quantized\", \"global_compression_ratio\": null, "
          "\"ignore\": [\"model.visual.blocks.0.attn.qkv\", \"re:.*norm.*\", \"lm_head\"], "
          "\"kv_cache_scheme\": null, \"quant_method\": \"compressed-tensors\", "
          "\"quantization_status\": \"compressed\", \"sparsity_config\": {}, "
          "\"transform_config\": {}, \"version\": \"0.17.0\"}",
          GLM4V_METHOD_COMPRESSED, 4, 128 },
        { "{\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", \"quant_method\": \"fp8\", "
          "\"weight_block_size\": [128, 128]}",
          GLM4V_METHOD_FP8, 8, 128 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_quantization_config *c = NULL;
        if (parse(&c, cases[i].object))
            test_fail(__FILE__, __LINE__, "%s", err.msg);
        REQUIRE(c);
        const glm4v_scheme *s = glm4v_quantization_config_find(c, LAYER, "Linear");
        REQUIRE(s);
        CHECK_EQ(c->method, cases[i].method);
        CHECK_EQ(s->bits, cases[i].bits);
        CHECK_EQ(s->group, cases[i].group);
        glm4v_quantization_config_free(&c);
    }
}

static void what_is_stored_in_16_bits_is_not_quantized(void)
{
    glm4v_quantization_config *c = NULL;
    REQUIRE(!parse(&c, CT("dense", "\"a\": {\"targets\": [\"Linear\"], " WEIGHTS8 "}", "")));
    CHECK(!glm4v_quantization_config_find(c, LAYER, "Linear"));
    glm4v_quantization_config_free(&c);
    REQUIRE(!parse(&c, CT("int-quantized",
                          "\"a\": {\"targets\": [\"Linear\"], "
                          "\"input_activations\": {\"dynamic\": true}}",
                          "")));
    CHECK(!glm4v_quantization_config_find(c, LAYER, "Linear"));
    glm4v_quantization_config_free(&c);
}

static void no_configuration_is_none(void)
{
    glm4v_quantization_config *c = NULL;
    CHECK_EQ(parse(&c, "null"), 0);
    CHECK(!c);
    CHECK(!glm4v_quantization_config_find(&(glm4v_quantization_config) { 0 }, LAYER, "Linear"));
}

static void what_is_not_used_is_told(void)
{
    glm4v_quantization_config *c = NULL;
    REQUIRE(!parse(&c, CT("int-quantized",
                          "\"a\": {\"targets\": [\"Linear\"], " WEIGHTS8
                          ", \"input_activations\": {\"dynamic\": false}}",
                          "")));
    CHECK_CONTAINS(logged, "static scales");
    glm4v_quantization_config_free(&c);
    REQUIRE(!parse(&c, CT("int-quantized",
                          "\"a\": {\"targets\": [\"Linear\"], " WEIGHTS8
                          ", \"input_activations\": {\"dynamic\": true}}",
                          ", \"kv_cache_scheme\": {\"num_bits\": 8}")));
    CHECK_CONTAINS(logged, "kv_cache_scheme");
    CHECK(!strstr(logged, "fp8-dynamic"));
    glm4v_quantization_config_free(&c);
    REQUIRE(!parse(&c, CT("int-quantized",
                          "\"a\": {\"targets\": [\"Linear\"], " WEIGHTS8
                          ", \"input_activations\": {\"dynamic\": true, \"type\": \"float\", "
                          "\"strategy\": \"token\"}}",
                          "")));
    CHECK_CONTAINS(logged, "fp8-dynamic");
    glm4v_quantization_config_free(&c);
}

static void what_is_not_read_is_refused_by_name(void)
{
#define ONE(weights) "\"a\": {\"targets\": [\"Linear\"], \"weights\": {" weights "}}"
    static const struct {
        const char *object;
        int code;
        const char *said;
    } cases[] = {
        { "[]", GLM4V_ERR_FORMAT, "\"quantization_config\" is an array" },
        { "{}", GLM4V_ERR_UNSUPPORTED, "an unnamed method" },
        { "{\"quant_method\": 3}", GLM4V_ERR_FORMAT, "\"quant_method\" is an integer" },
        { "{\"quant_method\": \"bitsandbytes\"}", GLM4V_ERR_UNSUPPORTED, "\"bitsandbytes\"" },
        { "{\"quant_method\": \"gguf\"}", GLM4V_ERR_UNSUPPORTED, "compressed-tensors, awq" },
        { "{\"quant_method\": \"awq\", \"version\": \"gemv\"}", GLM4V_ERR_UNSUPPORTED, "gemv" },
        { "{\"quant_method\": \"awq\", \"bits\": 3}", GLM4V_ERR_UNSUPPORTED, "3 bits" },
        { "{\"quant_method\": \"gptq\", \"bits\": 3}", GLM4V_ERR_UNSUPPORTED, "3 bits" },
        { "{\"quant_method\": \"gptq\", \"is_marlin_format\": true}", GLM4V_ERR_UNSUPPORTED,
          "marlin" },
        { "{\"quant_method\": \"gptq\", \"dynamic\": {\"+:.*mlp.*\": {\"bits\": 8}}}",
          GLM4V_ERR_UNSUPPORTED, "+:.*mlp.*" },
        { "{\"quant_method\": \"auto-round\", \"packing_format\": \"auto_round\"}",
          GLM4V_ERR_UNSUPPORTED, "packing_format" },
        { "{\"quant_method\": \"auto-round\", \"packing_format\": \"auto_round:auto_gptq\", "
          "\"bits\": 4, \"extra_config\": {\"lm_head\": {\"bits\": 8}}}",
          GLM4V_ERR_UNSUPPORTED, "lm_head" },
        { "{\"quant_method\": \"auto-round\", \"packing_format\": \"auto_round:llm_compressor\", "
          "\"bits\": 4, \"data_type\": \"mx_fp\"}",
          GLM4V_ERR_UNSUPPORTED, "llm_compressor" },
        { "{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}", GLM4V_ERR_FORMAT,
          "[128, 128]" },
        { CT("int-quantized", "", ""), GLM4V_ERR_FORMAT, "0 groups" },
        { CT("int-quantized", "\"a\": 3", ""), GLM4V_ERR_FORMAT, "a: is not an object" },
        { CT("pack-quantized", ONE("\"num_bits\": 3"), ""), GLM4V_ERR_UNSUPPORTED,
          "3 of type int" },
        { CT("pack-quantized", ONE("\"num_bits\": 4, \"type\": \"float\""), ""),
          GLM4V_ERR_UNSUPPORTED, "4 of type float" },
        { CT("pack-quantized", ONE("\"num_bits\": 8, \"type\": \"float\""), ""), GLM4V_ERR_FORMAT,
          "of type float" },
        { CT("nvfp4-pack-quantized", ONE("\"num_bits\": 8"), ""), GLM4V_ERR_UNSUPPORTED, "nvfp4" },
        { CT("int-quantized", ONE("\"strategy\": \"token\""), ""), GLM4V_ERR_UNSUPPORTED, "token" },
        { CT("int-quantized", ONE("\"strategy\": \"group\""), ""), GLM4V_ERR_FORMAT,
          "\"group_size\" is missing" },
        { CT("int-quantized", ONE("\"strategy\": \"block\""), ""), GLM4V_ERR_FORMAT,
          "block_structure" },
        { CT("int-quantized", ONE("\"dynamic\": true"), ""), GLM4V_ERR_UNSUPPORTED, "dynamic" },
        { CT("int-quantized", "\"a\": {\"targets\": [\"re:a{3}\"], " WEIGHTS8 "}", ""),
          GLM4V_ERR_UNSUPPORTED, "re:a{3}" },
        { CT("int-quantized", "\"a\": {\"targets\": [3], " WEIGHTS8 "}", ""), GLM4V_ERR_FORMAT,
          "not a string" },
        { CT("int-quantized", ONE("\"num_bits\": 8"),
             ", \"sparsity_config\": {\"format\": "
             "\"sparse-24-bitmask\"}"),
          GLM4V_ERR_UNSUPPORTED, "sparse-24" },
        { CT("int-quantized", ONE("\"num_bits\": 8"),
             ", \"transform_config\": {\"config_groups\": "
             "{\"u\": {}}}"),
          GLM4V_ERR_UNSUPPORTED, "transform_config" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_quantization_config *c = NULL;
        CHECK_EQ(parse(&c, cases[i].object), cases[i].code);
        CHECK_CONTAINS(err.msg, cases[i].said);
        CHECK(!c);
    }
}

int main(void)
{
    TEST(patterns_match_as_python_would);
    TEST(patterns_beyond_are_refused);
    TEST(a_pattern_made_to_backtrack_takes_no_time);
    TEST(compressed_tensors_gives_each_module_its_scheme);
    TEST(other_methods_treat_all_linear_modules_alike);
    TEST(configurations_as_programs_write_them_are_read);
    TEST(what_is_stored_in_16_bits_is_not_quantized);
    TEST(no_configuration_is_none);
    TEST(what_is_not_used_is_told);
    TEST(what_is_not_read_is_refused_by_name);
    return test_end();
}
