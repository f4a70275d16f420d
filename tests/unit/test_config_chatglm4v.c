/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config/chatglm4v.c: what GLM-4V-9B's own file means, spellings of re-saved copies, what is
 * refused, and the full model's plan from its configuration alone. */
#define _GNU_SOURCE
#include "base/mem.h"
#include "config/config.h"
#include "files.h"
#include "test.h"
#include "tiny_model.h"

#define REAL SOURCE_ROOT "/tests/data/glm-4v-9b/config.json"

static glm4v_error err;
static char dir[512];
static file_text base; /* config.json of the tiny model */

static int parse_changed(glm4v_config *c, const char *from, const char *to)
{
    memset(&err, 0, sizeof err);
    file_write(dir, "config.json", base.data, base.len);
    if (from)
        file_replace(dir, "config.json", from, to);
    return glm4v_config_read(c, dir, true, &err);
}

static void the_real_values_are_taken(void)
{
    glm4v_config c;
    CHECK_EQ(glm4v_config_read_file(&c, REAL, &err), 0);
    const glm4v_text_config *t = &c.text;
    const glm4v_vision_config *v = &c.vision;
    CHECK_EQ(c.family, GLM4V_FAMILY_CHATGLM4V);
    CHECK(t->vocab == 151552 && t->hidden == 4096 && t->ffn == 13696 && t->layers == 40 &&
          t->heads == 32 && t->kv_heads == 2 && t->head_dim == 128 && t->context == 8192);
    CHECK(t->rotary_dim == 64 && t->mrope[0] == 32 && !t->mrope[1] && !t->mrope[2] &&
          t->one_position && t->rope_theta == 10000);
    CHECK(t->norm_eps == 1.5625e-07f && t->qkv_bias && !t->tied && !t->tied_by_default);
    CHECK(v->hidden == 1792 && v->layers == 63 && v->heads == 16 && v->head_dim == 112 &&
          v->ffn == 15360 && v->merger_ffn == 13696 && v->out_hidden == 4096);
    CHECK(v->patch == 14 && v->temporal == 1 && v->merge == 2 && v->table_side == 80 &&
          v->norm_eps == 1e-6f);
    CHECK(v->class_rows == 1 && v->border == 1 && v->absolute && v->post_norm && v->gelu &&
          v->divisor == 8);
    CHECK_EQ(glm4v_picture_rows(v, 80, 80), 1602);
    CHECK(c.image.side == 1120 && c.image.max_pixels == 1120 * 1120 &&
          c.image.mean[0] == 0.48145466 && c.image.std[2] == 0.27577711);
    CHECK(c.image_id == 151329 && c.image_start_id == 151339 && c.image_end_id == 151340 &&
          c.video_id == -1);
    CHECK(c.n_stop_ids == 3 && c.stop_ids[0] == 151329 && c.stop_ids[1] == 151336 &&
          c.stop_ids[2] == 151338);
}

static void re_saved_copies_mean_the_same(void)
{
    static const char *const same[][2] = {
        { "\"num_layers\"", "\"num_hidden_layers\"" },
        { "\"rope_ratio\": 1,", "" },
        { "\"prefix_projection\": false,", "" },
        { "\"pre_seq_len\": null", "\"pre_seq_len\": 0" },
        { "\"ChatGLMModel\"", "\"ChatGLMForConditionalGeneration\"" },
        { "\"tie_word_embeddings\": false,", "" },
        { "\"in_channels\": 3,", "" },
    };
    glm4v_config expected, c;
    CHECK_EQ(parse_changed(&expected, NULL, NULL), 0);
    CHECK(expected.text.kv_heads == TINY_KV_HEADS && expected.image.side == 56);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        CHECK_EQ(parse_changed(&c, same[i][0], same[i][1]), 0);
        CHECK(!memcmp(&c.text, &expected.text, sizeof c.text));
        CHECK(!memcmp(&c.vision, &expected.vision, sizeof c.vision));
    }
    CHECK_EQ(parse_changed(&c, "\"rope_ratio\": 1", "\"rope_ratio\": 500"), 0);
    CHECK(c.text.rope_theta == 5e6);
    CHECK_EQ(
        parse_changed(&c, "\"multi_query_attention\": true", "\"multi_query_attention\": false"),
        0);
    CHECK_EQ(c.text.kv_heads, TINY_HEADS);
    CHECK_EQ(parse_changed(&c, "\"add_qkv_bias\": true", "\"add_qkv_bias\": false"), 0);
    CHECK(!c.text.qkv_bias);
    CHECK_EQ(parse_changed(&c, "\"boi_token_id\": 330,", ""), 0);
    CHECK_EQ(c.image_start_id, -1);
}

static void bad_configurations_are_refused_by_key(void)
{
    static const struct {
        const char *from, *to;
        int code;
        const char *said;
    } cases[] = {
        { "\"num_layers\": 2,", "", GLM4V_ERR_FORMAT, "\"num_hidden_layers\" is missing" },
        { "\"padded_vocab_size\": 384", "\"padded_vocab_size\": 0", GLM4V_ERR_FORMAT,
          "padded_vocab_size" },
        { "\"kv_channels\": 64,", "", GLM4V_ERR_FORMAT, "\"kv_channels\" is missing" },
        { "\"kv_channels\": 64", "\"kv_channels\": 62", GLM4V_ERR_FORMAT, "multiple of 4" },
        { "\"seq_length\": 4096", "\"seq_length\": \"4096\"", GLM4V_ERR_FORMAT, "seq_length" },
        { "\"multi_query_group_num\": 1", "\"multi_query_group_num\": 3", GLM4V_ERR_FORMAT,
          "multi_query_group_num" },
        { "\"multi_query_group_num\": 1,", "", GLM4V_ERR_FORMAT, "multi_query_group_num" },
        { "\"rmsnorm\": true", "\"rmsnorm\": false", GLM4V_ERR_UNSUPPORTED,
          "\"rmsnorm\" is false, expected true" },
        { "\"post_layer_norm\": true", "\"post_layer_norm\": false", GLM4V_ERR_UNSUPPORTED,
          "post_layer_norm" },
        { "\"original_rope\": true", "\"original_rope\": false", GLM4V_ERR_UNSUPPORTED,
          "original_rope" },
        { "\"add_bias_linear\": false", "\"add_bias_linear\": true", GLM4V_ERR_UNSUPPORTED,
          "add_bias_linear" },
        { "\"apply_residual_connection_post_layernorm\": false",
          "\"apply_residual_connection_post_layernorm\": true", GLM4V_ERR_UNSUPPORTED,
          "apply_residual" },
        { "\"pre_seq_len\": null", "\"pre_seq_len\": 128", GLM4V_ERR_UNSUPPORTED, "pre_seq_len" },
        { "\"rope_ratio\": 1", "\"rope_ratio\": 0", GLM4V_ERR_FORMAT, "rope_ratio" },
        { "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"quick_gelu\"", GLM4V_ERR_UNSUPPORTED,
          "quick_gelu" },
        { "\"num_positions\": 17", "\"num_positions\": 16", GLM4V_ERR_FORMAT,
          "\"num_positions\" is 16, expected 17: 4 x 4 patches" },
        { "\"image_size\": 56", "\"image_size\": 57", GLM4V_ERR_FORMAT, "image_size" },
        { "\"image_size\": 56", "\"image_size\": 42", GLM4V_ERR_FORMAT, "3 x 3 patches" },
        { "\"num_heads\": 2", "\"num_heads\": 3", GLM4V_ERR_FORMAT, "num_heads" },
        { "\"scaling_factor\": 8", "\"scaling_factor\": 0", GLM4V_ERR_FORMAT, "scaling_factor" },
        { "\"scaling_factor\": 8", "\"scale\": 8", GLM4V_ERR_FORMAT, "scaling_factor" },
        { "\"vision_config\"", "\"vision\"", GLM4V_ERR_UNSUPPORTED, "a text model" },
        { "\"pad_token_id\": 320", "\"pad_token_id\": 384", GLM4V_ERR_FORMAT, "pad_token_id" },
        { "\"eos_token_id\": [320, 327, 329]", "\"eos_token_id\": 999", GLM4V_ERR_FORMAT,
          "eos_token_id" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_config c;
        int rc = parse_changed(&c, cases[i].from, cases[i].to);
        CHECK_EQ(rc, cases[i].code);
        CHECK_CONTAINS(err.msg, "config.json");
        CHECK_CONTAINS(err.msg, cases[i].said);
    }
}

/* Every tensor counted: the very number that the model's own program prints for the checkpoint. */
static void the_full_model_has_its_13_906_320_896_parameters(void)
{
    const glm4v_model_options options = { .random_weights = 1, .device = "cpu" };
    glm4v_model_info info = { 0 };
    glm4v_memory memory = { 0 };
    CHECK_EQ(glm4v_model_inspect(REAL, &options, &info, &err), 0);
    CHECK_STR(info.family, "chatglm4v");
    CHECK_STR(info.chat_template, "chatglm4v");
    CHECK_EQ(info.n_parameters, 13906320896u);
    CHECK(info.min_pixels == 1254400 && info.max_pixels == 1254400);
    CHECK_EQ(glm4v_model_estimate_memory(
                 REAL,
                 &(glm4v_estimate_options) { .model = &options,
                                             .engine =
                                                 &(glm4v_engine_options) { .context_length = 2048 },
                                             .width = 640,
                                             .height = 480 },
                 &memory, &err),
             0);
    CHECK(memory.weights > 27812000000u && memory.weights < 27900000000u); /* bf16; vectors fp32 */
}

int main(void)
{
    if (tiny_model_mkdtemp(dir, sizeof dir) ||
        tiny_model_write(dir, &(tiny_model_options) { .chatglm4v = true, .weights_only = true }))
        return 1;
    base = file_read(dir, "config.json");
    size_t live = glm4v_mem_live();
    TEST(the_real_values_are_taken);
    TEST(re_saved_copies_mean_the_same);
    TEST(bad_configurations_are_refused_by_key);
    TEST(the_full_model_has_its_13_906_320_896_parameters);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    free(base.data);
    tiny_model_remove(dir);
    return test_end();
}
