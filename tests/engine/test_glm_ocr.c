/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Family glm_ocr on its tiny model: what of its directory matters, which tensors it needs, with and
 * without the MTP layer, and the published configuration. Its requests: test_describe.c
 * and the golden sets. */
#define _GNU_SOURCE

#include "base/mem.h"
#include "engine.h"
#include "files.h"
#include "fixture.h"
#include "model/model.h"

static glm4v_error err;

/* What inspect says of a model with `from` in a file changed to `to`. */
static int inspect_changed(const tiny_model_options *tiny, const char *file, const char *from,
                           const char *to, glm4v_model_info *info)
{
    char dir[256];
    if (tiny_model_make(dir, sizeof dir, tiny))
        return -1;
    if (file)
        file_replace(dir, file, from, to);
    int rc = glm4v_model_inspect(dir, NULL, info, &err);
    tiny_model_remove(dir);
    return rc;
}

static const tiny_model_options whole = { .glm_ocr = true };

static void files_and_forms_do_not_change_what_is_opened(void)
{
    static const tiny_model_options files[] = { { .glm_ocr = true, .shards = 3 },
                                                { .glm_ocr = true, .dtype = TINY_F32 },
                                                { .glm_ocr = true, .tied = true },
                                                { .glm_ocr = true, .split_gate_up = true },
                                                { .glm_ocr = true, .short_prefix = true } };
    static const char *const forms[] = { NULL, "int8", "int4", "int4-32", "fp8", "fp8-dynamic" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char dir[256];
        glm4v_model_info info = { 0 };
        REQUIRE(!tiny_model_make(dir, sizeof dir, &files[i]));
        CHECK_EQ(glm4v_model_inspect(dir, NULL, &info, &err), 0);
        CHECK_STR(info.family, "glm_ocr");
        CHECK_STR(info.chat_template, "glm-ocr");
        CHECK_EQ(info.head_dim, TINY_HEAD_DIM);
        for (size_t j = 0; j < sizeof forms / sizeof *forms; j++) {
            const glm4v_model_options options = { .n_threads = 1, .quantization = forms[j] };
            glm4v_model *model = NULL;
            CHECK_EQ(glm4v_model_open(&model, dir, &options, &err), 0);
            if (model)
                glm4v_model_close(&model);
        }
        tiny_model_remove(dir);
    }
}

/* Numbers of the MTP layer beside its copies of embedding and head: a text layer, three norms and
 * the joint. */
static uint64_t mtp_parameters(void)
{
    enum {
        D = TINY_HIDDEN,
        Q = TINY_OCR_HEADS * TINY_HEAD_DIM,
        KV = TINY_OCR_KV_HEADS * TINY_HEAD_DIM
    };
    return 4 * D + 2 * Q * D + 2 * KV * D + 3 * TINY_FFN * D + 3 * D + 2 * D * D;
}

static void the_mtp_layer_may_be_missing(void)
{
    glm4v_model_info with = { 0 }, without = { 0 }, unannounced = { 0 };
    const tiny_model_options resaved = { .glm_ocr = true, .resaved = true };
    CHECK_EQ(inspect_changed(&whole, NULL, NULL, NULL, &with), 0);
    CHECK_EQ(inspect_changed(&resaved, NULL, NULL, NULL, &without), 0);
    CHECK_EQ(inspect_changed(&whole, "config.json", "\"num_nextn_predict_layers\": 1",
                             "\"num_nextn_predict_layers\": 0", &unannounced),
             0);
    CHECK_EQ(with.n_parameters, without.n_parameters + mtp_parameters());
    CHECK_EQ(unannounced.n_parameters, without.n_parameters);
    CHECK_EQ(with.n_tensors, without.n_tensors + 16);
    CHECK_EQ(with.step_bytes, without.step_bytes);
}

typedef struct {
    int lines;
    char text[256];
} debug_lines;

static void note_debug(void *user, glm4v_log_level level, const char *line)
{
    debug_lines *d = user;
    if (level == GLM4V_LOG_DEBUG && strstr(line, "MTP layer")) {
        d->lines++;
        snprintf(d->text, sizeof d->text, "%s", line);
    }
}

/* A missing layer is told to who debugs; no part of one that is there may be missing. */
static void a_missing_mtp_layer_is_told_and_half_of_one_refused(void)
{
    char dir[256];
    debug_lines told = { 0 };
    glm4v_model_info info = { 0 };
    const glm4v_model_options options = { .log = note_debug, .log_user = &told };
    REQUIRE(!tiny_model_make(dir, sizeof dir,
                             &(tiny_model_options) { .glm_ocr = true, .resaved = true }));
    CHECK_EQ(glm4v_model_inspect(dir, &options, &info, &err), 0);
    CHECK_EQ(told.lines, 1);
    CHECK_CONTAINS(told.text, "which the weights lack");
    tiny_model_remove(dir);
    REQUIRE(!tiny_model_make(dir, sizeof dir, &whole));
    CHECK_EQ(glm4v_model_inspect(dir, &options, &info, &err), 0);
    CHECK_EQ(told.lines, 1);
    tiny_model_remove(dir);
}

/* One layer more than announced is a mistake where it is none for speculation. */
static void an_ordinary_layer_too_many_is_refused(void)
{
    glm4v_model_info info = { 0 };
    CHECK_EQ(inspect_changed(&whole, "config.json", "\"num_hidden_layers\": 2",
                             "\"num_hidden_layers\": 1", &info),
             GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "\"num_hidden_layers\" is 1, but the weights hold");
}

static void a_tensor_that_does_not_fit_is_named(void)
{
    static const char *const names[] = {
        "model.visual.blocks.1.attn.q_norm.weight",
        "model.visual.blocks.0.attn.k_norm.weight",
        "model.visual.blocks.0.attn.qkv.bias",
        "model.visual.blocks.1.attn.proj.bias",
        "model.visual.blocks.0.mlp.gate_proj.bias",
        "model.visual.blocks.0.mlp.up_proj.bias",
        "model.visual.blocks.1.mlp.down_proj.bias",
        "model.visual.post_layernorm.weight",
        "model.language_model.layers.0.self_attn.o_proj.weight",
        "model.language_model.layers.2.enorm.weight",
        "model.language_model.layers.2.hnorm.weight",
        "model.language_model.layers.2.shared_head.norm.weight",
        "model.language_model.layers.2.mlp.down_proj.weight",
    };
    glm4v_model_info info = { 0 };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char quoted[128], other[128];
        snprintf(quoted, sizeof quoted, "\"%s\"", names[i]);
        snprintf(other, sizeof other, "\"%.*s?\"", (int)strlen(names[i]) - 1, names[i]);
        CHECK_EQ(inspect_changed(&whole, "model.safetensors", quoted, other, &info),
                 GLM4V_ERR_FORMAT);
        CHECK_CONTAINS(err.msg, names[i]);
        CHECK_CONTAINS(err.msg, "missing");
    }
    CHECK_EQ(inspect_changed(&whole, "config.json", "\"head_dim\": 64", "\"head_dim\": 32", &info),
             GLM4V_ERR_FORMAT);
    CHECK_EQ(inspect_changed(&whole, "config.json", "\"intermediate_size\": 80",
                             "\"intermediate_size\": 96", &info),
             GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "gate_proj");
    CHECK_CONTAINS(err.msg, "[80, 32], expected [96, 32]");
}

/* "attention_bias": false takes the five biases of each block away, and nothing else. */
static void a_tower_without_biases_is_opened(void)
{
    char dir[256];
    glm4v_model *model = NULL;
    const glm4v_model_options options = { .n_threads = 1 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, &whole));
    file_replace(dir, "config.json", "\"attention_bias\": true", "\"attention_bias\": false");
    CHECK_EQ(glm4v_model_open(&model, dir, &options, &err), 0);
    REQUIRE(model);
    const glm4v_vision_layer *w = &model->vision.layers[0];
    CHECK(!w->qkv_bias && !w->proj_bias && !w->gate_up_bias && !w->down_bias);
    CHECK(w->q_norm && w->k_norm && model->vision.patch_bias && model->vision.downsample_bias);
    CHECK(!model->vision.table && !model->vision.post_conv_norm && !model->layers[0].qkv_bias);
    glm4v_model_close(&model);
    tiny_model_remove(dir);
}

/* Class defaults are not the model. */
static void a_size_that_is_missing_is_an_error(void)
{
    static const char *const keys[] = { "hidden_size", "num_key_value_heads", "vocab_size", "depth",
                                        "out_hidden_size" };
    glm4v_model_info info = { 0 };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char quoted[64], other[64];
        snprintf(quoted, sizeof quoted, "\"%s\"", keys[i]);
        snprintf(other, sizeof other, "\"?%s\"", keys[i] + 1);
        CHECK_EQ(inspect_changed(&whole, "config.json", quoted, other, &info), GLM4V_ERR_FORMAT);
        CHECK_CONTAINS(err.msg, keys[i]);
    }
}

static void the_published_configuration_has_its_size(void)
{
    static const char config[] = SOURCE_ROOT "/tests/data/glm-ocr/config.json";
    glm4v_model_info info = { 0 };
    glm4v_memory memory = { 0 };
    const glm4v_model_options options = { .random_weights = 1, .device = "cpu" };
    CHECK_EQ(glm4v_model_inspect(config, &options, &info, &err), 0);
    CHECK_EQ(info.n_parameters, 1107405824 + 35400192); /* with the MTP layer */
    CHECK(info.hidden_size == 1536 && info.n_heads == 16 && info.n_kv_heads == 8 &&
          info.head_dim == 128);
    const glm4v_estimate_options estimate = { .model = &options, .width = 336, .height = 336 };
    CHECK_EQ(glm4v_model_estimate_memory(config, &estimate, &memory, &err), 0);
    CHECK(memory.weights > 2270000000u && memory.weights < 2300000000u); /* bf16 */
}

/* Of the control tokens what answers are made of, and those that are text. */
static void added_tokens_that_are_not_special_can_be_generated(void)
{
    static const char *const written[] = { "<tool_call>", "<arg_value>", "<|endoftext|>",
                                           "<|begin_of_box|>", "<|user|>" };
    static const char *const never[] = { "<think>", "/nothink",      "<|image|>",
                                         "<sop>",   "<|assistant|>", "<|begin_of_image|>" };
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .context_length = 64 });
    const glm4v_tokenizer *t = fixture_model->tokenizer;
    REQUIRE(engine);
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        const int32_t id = glm4v_tokenizer_control(t, written[i]);
        CHECK(id >= 0 && !(engine->masks[id / 64] >> (id % 64) & 1));
    }
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        const int32_t id = glm4v_tokenizer_control(t, never[i]);
        CHECK(id >= 0 && (engine->masks[id / 64] >> (id % 64) & 1));
    }
    glm4v_engine_close(&engine);
}

/* A model and an engine on it; whatever is refused is given back. */
static int open_both(glm4v_error *error)
{
    const glm4v_model_options options = { .n_threads = 1, .device = "cpu" };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    int rc = glm4v_model_open(&model, fixture_dir, &options, error);
    if (!rc)
        rc = glm4v_engine_open(&engine, model, &(glm4v_engine_options) { .context_length = 64 },
                               error);
    glm4v_engine_close(&engine);
    if (model)
        glm4v_model_close(&model);
    return rc;
}

static void every_allocation_may_fail(void)
{
    const size_t live = glm4v_mem_live();
    int rc = GLM4V_ERR_NOMEM;
    uint64_t nth = 0;
    while (rc && test_ok) {
        glm4v_error error = { 0 };
        glm4v_mem_fail_at(++nth, false);
        rc = open_both(&error);
        glm4v_mem_fail_at(0, false);
        CHECK(rc == 0 || (rc == GLM4V_ERR_NOMEM && error.code == rc && error.msg[0]));
        CHECK_EQ(glm4v_mem_live(), live);
    }
    CHECK(nth > 50);
}

int main(void)
{
    if (!fixture_open(&whole))
        return 1;
    TEST(files_and_forms_do_not_change_what_is_opened);
    TEST(the_mtp_layer_may_be_missing);
    TEST(a_missing_mtp_layer_is_told_and_half_of_one_refused);
    TEST(an_ordinary_layer_too_many_is_refused);
    TEST(a_tensor_that_does_not_fit_is_named);
    TEST(a_tower_without_biases_is_opened);
    TEST(a_size_that_is_missing_is_an_error);
    TEST(the_published_configuration_has_its_size);
    TEST(added_tokens_that_are_not_special_can_be_generated);
    TEST(every_allocation_may_fail);
    fixture_close();
    return test_end();
}
