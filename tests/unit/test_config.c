/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* config.c: both layouts, every spelling met in re-saved files, and what is refused. */
#define _GNU_SOURCE
#include <unistd.h>

#include "base/mem.h"
#include "config/config.h"
#include "files.h"
#include "test.h"
#include "tiny_model.h"

static glm4v_error err;
static char dir[512];

static void check_tiny(const glm4v_config *c)
{
    const glm4v_text_config *t = &c->text;
    const glm4v_vision_config *v = &c->vision;
    CHECK_EQ(t->vocab, TINY_VOCAB);
    CHECK_EQ(t->hidden, TINY_HIDDEN);
    CHECK_EQ(t->ffn, TINY_FFN);
    CHECK_EQ(t->layers, TINY_LAYERS);
    CHECK_EQ(t->heads, TINY_HEADS);
    CHECK_EQ(t->kv_heads, TINY_KV_HEADS);
    CHECK_EQ(t->head_dim, TINY_HEAD_DIM);
    CHECK_EQ(t->rotary_dim, 32);
    CHECK(t->mrope[0] == 4 && t->mrope[1] == 6 && t->mrope[2] == 6);
    CHECK_EQ(t->context, 4096);
    CHECK(t->norm_eps == 1e-5f && t->rope_theta == 10000 && t->qkv_bias && !t->tied);
    CHECK_EQ(v->hidden, TINY_VISION_HIDDEN);
    CHECK_EQ(v->layers, TINY_VISION_LAYERS);
    CHECK_EQ(v->heads, TINY_VISION_HEADS);
    CHECK_EQ(v->head_dim, 16);
    CHECK_EQ(v->ffn, TINY_HIDDEN); /* the name trap: not intermediate_size */
    CHECK_EQ(v->merger_ffn, TINY_MERGER_FFN);
    CHECK_EQ(v->out_hidden, TINY_HIDDEN);
    CHECK_EQ(v->table_side, TINY_TABLE_SIDE);
    CHECK(v->patch == 14 && v->temporal == 2 && v->merge == 2 && v->norm_eps == 1e-5f);
    CHECK_EQ(c->image_id, TINY_IMAGE_41V);
    CHECK_EQ(c->video_id, TINY_IMAGE_41V + 1);
    CHECK_EQ(c->image_start_id, TINY_BEGIN_IMAGE);
    CHECK_EQ(c->video_end_id, TINY_END_VIDEO);
    CHECK_EQ(c->n_stop_ids, 4);
    CHECK_EQ(c->stop_ids[0], TINY_ENDOFTEXT);
}

static void both_layouts_say_the_same(void)
{
    for (int flat = 0; flat < 2; flat++) {
        char model[512];
        glm4v_config c;
        REQUIRE(
            !tiny_model_make(model, sizeof model, &(tiny_model_options) { .flat_config = flat }));
        CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
        check_tiny(&c);
        CHECK(c.image.min_pixels == 12544 && c.image.max_pixels == 9633792 &&
              c.video.max_pixels == 47040000);
        CHECK(c.image.mean[2] == 0.40821073 && c.image.std[0] == 0.26862954 && c.video_fps == 2);
        CHECK_EQ(glm4v_config_read_file(&c, file_path(model, "config.json"), &err), 0);
        check_tiny(&c);
        tiny_model_remove(model);
    }
}

/* ---- spellings: changes to the nested file ---- */

static file_text base; /* config.json of the tiny model, nested */

/* Parse base with `from` replaced by `to` (and, if given, from2 by to2). */
static int parse_changed(glm4v_config *c, const char *from, const char *to, const char *from2,
                         const char *to2)
{
    memset(&err, 0, sizeof err);
    file_write(dir, "config.json", base.data, base.len);
    file_replace(dir, "config.json", from, to);
    if (from2)
        file_replace(dir, "config.json", from2, to2);
    return glm4v_config_read(c, dir, false, &err);
}

#define ROPE                                                                                       \
    "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0, "                  \
    "\"partial_rotary_factor\": 0.5, \"mrope_section\": [4, 6, 6]}"

static void every_spelling_of_the_same_means_the_same(void)
{
    static const struct {
        const char *from, *to, *from2, *to2;
    } cases[] = {
        { ROPE,
          "\"rope_scaling\": {\"type\": \"default\", \"mrope_section\": [4, 6, 6]}, "
          "\"rope_theta\": 10000, "
          "\"partial_rotary_factor\": 0.5",
          NULL, NULL },
        { ROPE,
          "\"rope_scaling\": {\"rope_type\": \"default\", \"mrope_section\": [4, 6, 6]}, "
          "\"rope_theta\": 1e4, "
          "\"partial_rotary_factor\": 0.5",
          NULL, NULL },
        { ROPE,
          "\"rope_scaling\": {\"rope_type\": \"mrope\", \"type\": \"mrope\", \"mrope_section\": "
          "[4, 6, 6]}",
          NULL, NULL },
        { ROPE, "\"rope_parameters\": {\"mrope_section\": [4, 6, 6]}", NULL, NULL },
        { ROPE, "\"rope_parameters\": null, \"rope_scaling\": {\"mrope_section\": [4, 6, 6]}", NULL,
          NULL },
        { ROPE, "\"head_dim\": 64, " ROPE, NULL, NULL },
        { ROPE, "\"head_dim\": null, " ROPE, NULL, NULL },
        { ROPE, "\"image_token_id\": null, " ROPE, NULL, NULL },
        { ROPE, "\"image_token_id\": 5, " ROPE, NULL, NULL }, /* the top level counts */
        { "\"torch_dtype\"", "\"dtype\"", NULL, NULL },
        { "\"model_type\": \"glm4v\"", "\"model_type\": \"glm46v\"", "glm4v_text", "glm46v_text" },
        { "\"vision_config\"", "\"hidden_size\": 999, \"vocab_size\": 7, \"vision_config\"", NULL,
          NULL },
        { "\"vision_config\"", "\"rope_theta\": 5.0, \"rope_scaling\": null, \"vision_config\"",
          NULL, NULL },
        { "\"attention_bias\": true", "\"attention_bias\": false", NULL, NULL },
        { "\"tie_word_embeddings\": false,", "", NULL, NULL },
        { "\"in_channels\": 3,", "", "\"temporal_patch_size\": 2",
          "\"rope_parameters\": {\"rope_type\": \"axial\"}" },
        { "\"eos_token_id\": [320, 327, 329, 339]", "\"eos_token_id\": 320", ROPE,
          "\"eos_token_id\": [327, 320, 329, 339], " ROPE },
        { "\"vision_config\"", "\"quantization_config\": null, \"vision_config\"", NULL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_config c;
        int rc = parse_changed(&c, cases[i].from, cases[i].to, cases[i].from2, cases[i].to2);
        CHECK_EQ(rc, 0);
        if (rc)
            printf("# case %zu: %s\n", i, err.msg);
        else
            check_tiny(&c);
    }
}

static void stop_ids_are_the_union_of_all_places(void)
{
    glm4v_config c;
    file_write_text(dir, "generation_config.json", "{\"eos_token_id\": [1, 320, 2]}");
    CHECK_EQ(parse_changed(&c, ROPE, "\"eos_token_id\": 3, " ROPE, NULL, NULL), 0);
    static const int32_t expected[] = { 320, 327, 329, 339, 3, 1, 2 };
    CHECK_EQ(c.n_stop_ids, 7);
    CHECK(!memcmp(c.stop_ids, expected, sizeof expected));
    file_write_text(dir, "generation_config.json", "{\"eos_token_id\": [384]}");
    CHECK_EQ(parse_changed(&c, ROPE, ROPE, NULL, NULL), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "generation_config.json: \"eos_token_id\"");
    file_write_text(dir, "generation_config.json",
                    "{\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12]}");
    CHECK_EQ(parse_changed(&c, ROPE, ROPE, NULL, NULL), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "more than 16");
    unlink(file_path(dir, "generation_config.json"));
}

static void a_missing_id_is_left_to_the_tokenizer(void)
{
    glm4v_config c;
    CHECK_EQ(parse_changed(&c, "\"image_token_id\": 334,", "", NULL, NULL), 0);
    CHECK_EQ(c.image_id, -1);
    CHECK_EQ(c.video_id, TINY_IMAGE_41V + 1);
}

static void bad_configurations_are_refused_by_key(void)
{
    static const struct {
        const char *from, *to;
        int code;
        const char *said;
    } cases[] = {
        { "\"model_type\": \"glm4v\",", "", GLM4V_ERR_FORMAT, "\"model_type\" is missing" },
        { "\"model_type\": \"glm4v\"", "\"model_type\": \"glm4v_moe\"", GLM4V_ERR_UNSUPPORTED,
          "glm4v_moe" },
        { "\"model_type\": \"glm4v\"", "\"model_type\": \"chatglm\"", GLM4V_ERR_FORMAT,
          "\"padded_vocab_size\" is missing" },
        { "\"model_type\": \"glm4v\"", "\"model_type\": 4", GLM4V_ERR_FORMAT,
          "\"model_type\" is an integer" },
        { "\"vision_config\"", "\"vision\"", GLM4V_ERR_UNSUPPORTED, "no \"vision_config\"" },
        { "\"vision_config\": {", "\"vision_config\": [], \"x\": {", GLM4V_ERR_FORMAT,
          "\"vision_config\" is an array" },
        { "\"vocab_size\": 384", "\"vocab_size\": 0", GLM4V_ERR_FORMAT,
          "text_config: \"vocab_size\" is 0" },
        { "\"vocab_size\": 384", "\"vocab_size\": 2097153", GLM4V_ERR_FORMAT, "2097152" },
        { "\"vocab_size\": 384", "\"vocab_size\": 320", GLM4V_ERR_FORMAT,
          "\"image_token_id\" is 334" },
        { "\"vocab_size\": 384", "\"vocab_size\": \"384\"", GLM4V_ERR_FORMAT,
          "\"vocab_size\" is a string" },
        { "\"hidden_size\": 128,", "", GLM4V_ERR_FORMAT,
          "text_config: \"hidden_size\" is missing" },
        { "\"hidden_size\": 128", "\"hidden_size\": -128", GLM4V_ERR_FORMAT,
          "\"hidden_size\" is -128" },
        { "\"hidden_size\": 128", "\"hidden_size\": 128.0", GLM4V_ERR_FORMAT, "with a fraction" },
        { "\"hidden_size\": 128", "\"hidden_size\": 129", GLM4V_ERR_FORMAT, "not a multiple of" },
        { "\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3", GLM4V_ERR_FORMAT,
          "not a multiple of" },
        { "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 100000", GLM4V_ERR_FORMAT,
          "\"num_hidden_layers\"" },
        { "\"max_position_embeddings\": 4096,", "", GLM4V_ERR_FORMAT,
          "\"max_position_embeddings\" is missing" },
        { "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": -1", GLM4V_ERR_FORMAT, "\"rms_norm_eps\"" },
        { "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", GLM4V_ERR_UNSUPPORTED,
          "\"gelu\"" },
        { "\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", GLM4V_ERR_UNSUPPORTED, "yarn" },
        { "\"rope_theta\": 10000.0", "\"rope_theta\": 0", GLM4V_ERR_FORMAT, "\"rope_theta\"" },
        { "\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 0.52", GLM4V_ERR_FORMAT,
          "even" },
        { "\"partial_rotary_factor\": 0.5", "\"partial_rotary_factor\": 2", GLM4V_ERR_FORMAT,
          "partial_rotary_factor" },
        { "[4, 6, 6]", "[4, 6, 7]", GLM4V_ERR_FORMAT, "\"mrope_section\" adds up to 17" },
        { "[4, 6, 6]", "[4, 12]", GLM4V_ERR_FORMAT, "2 values, expected 3" },
        { "[4, 6, 6]", "[4, -6, 18]", GLM4V_ERR_FORMAT, "\"mrope_section\"" },
        { "[4, 6, 6]", "\"none\"", GLM4V_ERR_FORMAT, "\"mrope_section\" is a string" },
        { "\"mrope_section\": [4, 6, 6]", "\"x\": 1", GLM4V_ERR_FORMAT,
          "is missing; its default adds up to 32" },
        { "\"out_hidden_size\": 128", "\"out_hidden_size\": 64", GLM4V_ERR_FORMAT,
          "\"out_hidden_size\" is 64" },
        { "\"num_heads\": 2", "\"num_heads\": 5", GLM4V_ERR_FORMAT, "vision_config" },
        { "\"num_heads\": 2", "\"num_heads\": 16", GLM4V_ERR_FORMAT, "multiple of 4" },
        { "\"image_size\": 56", "\"image_size\": 57", GLM4V_ERR_FORMAT,
          "not a multiple of \"patch_size\"" },
        { "\"in_channels\": 3", "\"in_channels\": 4", GLM4V_ERR_UNSUPPORTED,
          "\"in_channels\" is 4" },
        { "\"image_token_id\": 334", "\"image_token_id\": 384", GLM4V_ERR_FORMAT,
          "\"image_token_id\" is 384" },
        { "\"image_token_id\": 334", "\"image_token_id\": -1", GLM4V_ERR_FORMAT,
          "\"image_token_id\" is -1" },
        { "\"eos_token_id\": [320", "\"eos_token_id\": [384", GLM4V_ERR_FORMAT,
          "\"eos_token_id\"" },
        { "\"eos_token_id\": [320", "\"eos_token_id\": [\"a\"", GLM4V_ERR_FORMAT,
          "\"eos_token_id\"" },
        { "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": 0", GLM4V_ERR_FORMAT,
          "tie_word_embeddings" },
        { "{", "[", GLM4V_ERR_FORMAT, "config.json" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_config c = { .n_stop_ids = 77 };
        CHECK_EQ(parse_changed(&c, cases[i].from, cases[i].to, NULL, NULL), cases[i].code);
        CHECK_CONTAINS(err.msg, "config.json");
        CHECK_CONTAINS(err.msg, cases[i].said);
        CHECK_EQ(c.n_stop_ids, 77); /* untouched on failure */
    }
}

/* ---- processor ---- */

#define PROCESSOR "preprocessor_config.json"

static int read_changed(glm4v_config *c, const char *from, const char *to)
{
    char model[512];
    memset(&err, 0, sizeof err);
    if (tiny_model_make(model, sizeof model, NULL))
        return 1;
    file_replace(model, PROCESSOR, from, to);
    int rc = glm4v_config_read(c, model, true, &err);
    tiny_model_remove(model);
    return rc;
}

static void bad_processors_are_refused_by_key(void)
{
    static const struct {
        const char *from, *to;
        int code;
        const char *said;
    } cases[] = {
        { "\"shortest_edge\": 12544", "\"shortest_edge\": 0", GLM4V_ERR_FORMAT,
          "\"shortest_edge\" is 0" },
        { "\"shortest_edge\": 12544", "\"shortest_edge\": 9633793", GLM4V_ERR_FORMAT, "exceeds" },
        { "\"shortest_edge\": 12544,", "", GLM4V_ERR_FORMAT, "\"shortest_edge\" is missing" },
        { "\"size\"", "\"sise\"", GLM4V_ERR_FORMAT, "\"min_pixels\" is missing" },
        { "\"patch_size\": 14", "\"patch_size\": 16", GLM4V_ERR_FORMAT,
          "is 16, expected 14 from config.json" },
        { "\"merge_size\": 2", "\"merge_size\": 1", GLM4V_ERR_FORMAT, "\"merge_size\"" },
        { "\"do_rescale\": true", "\"do_rescale\": false", GLM4V_ERR_UNSUPPORTED,
          "\"do_rescale\"" },
        { "\"do_rescale\": true", "\"rescale_factor\": 0.5", GLM4V_ERR_UNSUPPORTED,
          "\"rescale_factor\"" },
        { "\"do_rescale\": true", "\"resample\": 2", GLM4V_ERR_UNSUPPORTED, "\"resample\"" },
        { "[0.48145466, 0.4578275, 0.40821073]", "[0.4, 0.4]", GLM4V_ERR_FORMAT, "\"image_mean\"" },
        { "[0.48145466, 0.4578275, 0.40821073]", "0.5", GLM4V_ERR_FORMAT, "\"image_mean\"" },
        { "[0.26862954, ", "[0, ", GLM4V_ERR_FORMAT, "\"image_std\"" },
        { "\"image_std\"", "\"image_sdt\"", GLM4V_ERR_FORMAT, "\"image_std\" is missing" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_config c;
        CHECK_EQ(read_changed(&c, cases[i].from, cases[i].to), cases[i].code);
        CHECK_CONTAINS(err.msg, PROCESSOR);
        CHECK_CONTAINS(err.msg, cases[i].said);
    }
}

static void newer_processor_files_are_read(void)
{
    char model[512], text[2048];
    glm4v_config c;
    REQUIRE(!tiny_model_make(model, sizeof model, NULL));
    file_text image = file_read(model, PROCESSOR), video = file_read(model, "video_" PROCESSOR);
    snprintf(text, sizeof text, "{\"image_processor\": %s, \"video_processor\": %s}", image.data,
             video.data);
    unlink(file_path(model, PROCESSOR));
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), GLM4V_ERR_NOT_FOUND);
    CHECK_CONTAINS(err.msg, "preprocessor_config.json");
    unlink(file_path(model, "video_" PROCESSOR));
    file_write_text(model, "processor_config.json", text);
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(c.image.max_pixels == 9633792 && c.video.max_pixels == 47040000);
    snprintf(text, sizeof text, "{\"image_processor\": %s}", image.data);
    file_write_text(model, "processor_config.json", text);
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(c.video.min_pixels == 12544 && c.video.max_pixels == 47040000); /* the family's default */
    free(image.data);
    free(video.data);
    tiny_model_remove(model);
}

/* Two places say different things: the newer file counts, and the other one is named. */
static void the_newer_processor_file_goes_before_the_older(void)
{
    char model[512], text[2048];
    glm4v_config c;
    REQUIRE(!tiny_model_make(model, sizeof model, NULL));
    file_text image = file_read(model, PROCESSOR), video = file_read(model, "video_" PROCESSOR);
    snprintf(text, sizeof text, "{\"image_processor\": %s, \"video_processor\": %s}", image.data,
             video.data);
    file_write_text(model, "processor_config.json", text);
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(!c.replaced[0] && !c.replaced[1]); /* they agree */
    file_replace(model, "processor_config.json", "9633792", "4816896");
    file_replace(model, "processor_config.json", "47040000", "23520000");
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(c.image.max_pixels == 4816896 && c.video.max_pixels == 23520000);
    CHECK_STR(c.replaced[0], PROCESSOR);
    CHECK_STR(c.replaced[1], "video_" PROCESSOR);
    file_write_text(model, PROCESSOR, "{}"); /* does not count, whatever is in it */
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK_STR(c.replaced[0], PROCESSOR);
    file_write_text(model, "processor_config.json", "{\"processor_class\": \"Glm4vProcessor\"}");
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), GLM4V_ERR_FORMAT); /* now it does */
    file_write_text(model, PROCESSOR, image.data);
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(c.image.max_pixels == 9633792 && c.video.max_pixels == 47040000 && !c.replaced[0]);
    unlink(file_path(model, "video_" PROCESSOR)); /* clips are then as pictures */
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK_EQ(c.video.max_pixels, 9633792);
    file_write_text(model, "processor_config.json", "[");
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "processor_config.json");
    free(image.data);
    free(video.data);
    tiny_model_remove(model);
}

static void glm_ga_is_glm46v_with_steady_clips(void)
{
    char model[512];
    glm4v_config c;
    REQUIRE(!tiny_model_make(model, sizeof model, &(tiny_model_options) { .glm45 = true }));
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(!c.steady_clips);
    file_replace(model, "config.json", "\"model_type\": \"glm4v\"", "\"model_type\": \"glmga\"");
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(c.family == GLM4V_FAMILY_GLM4V && c.steady_clips && c.video_most == 640);
    file_replace(model, "video_" PROCESSOR, "\"merge_size\"",
                 "\"fps\": 4, \"max_frames\": 100, \"merge_size\"");
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    CHECK(c.video_fps == 4 && c.video_most == 100);
    unlink(file_path(model, "video_" PROCESSOR));
    file_write_text(model, "processor_config.json", "{}");
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), 0);
    file_replace(model, PROCESSOR, "\"merge_size\"", "\"patch_expand_factor\": 2, \"merge_size\"");
    CHECK_EQ(glm4v_config_read(&c, model, true, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "patch_expand_factor");
    tiny_model_remove(model);
}

static void either_place_ties_the_head(void)
{
    static const struct {
        const char *outer, *inner;
        bool tied, by_default;
    } cases[] = { { "false", "true", true, false },
                  { "true", "false", true, false },
                  { "false", "false", false, false },
                  { "null", "true", true, false },
                  { "null", "null", false, true } };
    char model[512], text[8192];
    glm4v_config c;
    REQUIRE(!tiny_model_make(model, sizeof model, &(tiny_model_options) { .weights_only = true }));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file_text whole = file_read(model, "config.json");
        char *at = strstr(whole.data, "\"tie_word_embeddings\": false");
        REQUIRE(at);
        snprintf(text, sizeof text, "%.*s\"tie_word_embeddings\": %s%s", (int)(at - whole.data),
                 whole.data, cases[i].outer, at + strlen("\"tie_word_embeddings\": false"));
        char *inner = strstr(text, "\"glm4v_text\",");
        REQUIRE(inner);
        char rest[8192];
        snprintf(rest, sizeof rest, "\"glm4v_text\", \"tie_word_embeddings\": %s,%s",
                 cases[i].inner, inner + strlen("\"glm4v_text\","));
        memcpy(inner, rest, strlen(rest) + 1);
        CHECK_EQ(glm4v_config_parse(&c, text, strlen(text), &err), 0);
        CHECK(c.text.tied == cases[i].tied && c.text.tied_by_default == cases[i].by_default);
        free(whole.data);
    }
    tiny_model_remove(model);
}

/* ---- real files ---- */

static void the_real_configuration_reads(void)
{
    const char *real = SOURCE_ROOT "/../shared/models/glm-4.1v-9b-thinking";
    glm4v_config c;
    if (!test_needs("golden", !access(file_path(real, "config.json"), R_OK),
                    "no real configuration here"))
        return;
    CHECK_EQ(glm4v_config_read(&c, real, true, &err), 0);
    CHECK(c.text.hidden == 4096 && c.text.layers == 40 && c.text.kv_heads == 2 &&
          c.text.head_dim == 128);
    CHECK(c.text.mrope[1] == 12 && c.text.rotary_dim == 64 && c.text.context == 65536 &&
          c.text.vocab == 151552);
    CHECK(c.vision.layers == 24 && c.vision.ffn == 4096 && c.vision.merger_ffn == 13696 &&
          c.vision.table_side == 24);
    CHECK(c.n_stop_ids == 4 && c.stop_ids[3] == 151348 && c.image_id == 151343 &&
          c.video_end_id == 151342);
    CHECK_EQ(c.image.max_pixels, 9633792);
    CHECK_EQ(glm4v_config_read(&c, file_path(test_golden_dir(), "glm4v"), false, &err), 0);
    CHECK(c.text.head_dim == 128 && c.vision.head_dim == 64 && c.n_stop_ids == 2);
    CHECK_EQ(glm4v_config_read(&c, file_path(test_golden_dir(), "glm-4v-9b"), false, &err), 0);
    CHECK(c.family == GLM4V_FAMILY_CHATGLM4V && c.vision.table_side == 8 && c.image.side == 112);
}

int main(void)
{
    if (tiny_model_mkdtemp(dir, sizeof dir) ||
        tiny_model_write(dir, &(tiny_model_options) { .weights_only = true }))
        return 1;
    base = file_read(dir, "config.json");
    size_t live = glm4v_mem_live();
    TEST(both_layouts_say_the_same);
    TEST(every_spelling_of_the_same_means_the_same);
    TEST(stop_ids_are_the_union_of_all_places);
    TEST(a_missing_id_is_left_to_the_tokenizer);
    TEST(bad_configurations_are_refused_by_key);
    TEST(bad_processors_are_refused_by_key);
    TEST(newer_processor_files_are_read);
    TEST(the_newer_processor_file_goes_before_the_older);
    TEST(glm_ga_is_glm46v_with_steady_clips);
    TEST(either_place_ties_the_head);
    TEST(the_real_configuration_reads);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    free(base.data);
    tiny_model_remove(dir);
    return test_end();
}
