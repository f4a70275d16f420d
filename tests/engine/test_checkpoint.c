/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a person reads when a download went wrong: each case damages a sound model directory in one
 * way and holds the message against what it must name (file, tensor, expected, found, remedy). */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "files.h"
#include "model/model.h"
#include "test.h"
#include "tiny_model.h"

#define INDEX "model.safetensors.index.json"
#define MAX_WORDS 6

static glm4v_error err;
static char dir[512];

/* Damage done to the model in dir. */
typedef struct {
    const char *name;
    int code;
    int shards;
    void (*damage)(void);
    const char *words[MAX_WORDS]; /* all of these are said */
} damage_case;

static void check_message(const damage_case *c)
{
    size_t n = strlen(err.msg);
    for (int i = 0; i < MAX_WORDS && c->words[i]; i++)
        if (!strstr(err.msg, c->words[i]))
            test_fail(__FILE__, __LINE__, "%s: \"%s\" is not in \"%s\"", c->name, c->words[i],
                      err.msg);
    if (strchr(err.msg, '\n') || n + 1 >= sizeof err.msg)
        test_fail(__FILE__, __LINE__, "%s: %zu bytes, or more than a line", c->name, n);
    printf("# %s: %s\n", c->name, err.msg);
}

static void run_cases(const damage_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        glm4v_model_info info = { 0 };
        glm4v_model *m = NULL;
        glm4v_error opening = { 0 };
        REQUIRE(
            !tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = cases[i].shards }));
        cases[i].damage();
        size_t live = glm4v_mem_live();
        memset(&err, 0, sizeof err);
        CHECK_EQ(glm4v_model_inspect(dir, NULL, &info, &err), cases[i].code);
        /* inspecting and opening say the same */
        CHECK_EQ(glm4v_model_open(&m, dir, &(glm4v_model_options) { .n_threads = 1 }, &opening),
                 cases[i].code);
        CHECK_STR(opening.msg, err.msg);
        CHECK_EQ(glm4v_mem_live(), live);
        check_message(&cases[i]);
        tiny_model_remove(dir);
    }
}

#define RUN(cases) run_cases(cases, sizeof cases / sizeof *cases)

/* ---- helpers of damage ---- */

static const char *shard(int number, int total)
{
    static char name[4][64];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(name[turn], sizeof name[turn], "model-%05d-of-%05d.safetensors", number, total);
    return name[turn];
}

static void copy(const char *to, const char *from)
{
    file_text t = file_read(dir, from);
    file_write(dir, to, t.data, t.len);
    free(t.data);
}

static void move(const char *to, const char *from)
{
    if (rename(file_path(dir, from), file_path(dir, to)))
        file_die("cannot rename", from);
}

static void drop(const char *name)
{
    if (unlink(file_path(dir, name)))
        file_die("cannot delete", name);
}

static void cut(const char *name, long bytes)
{
    struct stat st;
    if (stat(file_path(dir, name), &st) || truncate(file_path(dir, name), st.st_size - bytes))
        file_die("cannot cut", name);
}

/* A shard of the given number of another model, in place of ours. */
static void take_from_another(const char *name, const char *from, const tiny_model_options *other)
{
    char there[512];
    if (tiny_model_make(there, sizeof there, other))
        file_die("cannot make", name);
    file_text t = file_read(there, from);
    file_write(dir, name, t.data, t.len);
    free(t.data);
    tiny_model_remove(there);
}

/* ---- shards that are not there ---- */

static void one_of_fifteen(void)
{
    drop(shard(7, 15));
}

static void six_of_fifteen(void)
{
    for (int i = 2; i <= 7; i++)
        drop(shard(i, 15));
}

static void a_broken_download(void)
{
    drop(shard(3, 4));
    file_write_text(dir, "model-00003-of-00004.safetensors.part", "begun");
}

static void a_broken_hub_download(void)
{
    drop(shard(3, 4));
    mkdir(file_path(dir, ".cache"), 0700);
    mkdir(file_path(dir, ".cache/huggingface"), 0700);
    mkdir(file_path(dir, ".cache/huggingface/download"), 0700);
    file_write_text(dir, ".cache/huggingface/download/abc.incomplete", "begun");
}

static void shards_of_another_split(void)
{
    for (int i = 1; i <= 3; i++)
        move(shard(i, 4), shard(i, 3));
}

static void no_index(void)
{
    drop(INDEX);
}

/* Longer than a message has room for. */
static void no_index_of_long_names(void)
{
    char name[200];
    drop(INDEX);
    for (int i = 1; i <= 15; i++) {
        snprintf(name, sizeof name, "%0120d%s", 0, shard(i, 15));
        move(name, shard(i, 15));
    }
}

static void missing_shards_are_counted_and_named(void)
{
    static const damage_case cases[] = {
        { "one of 15",
          GLM4V_ERR_NOT_FOUND,
          15,
          one_of_fifteen,
          { "model-00007-of-00015.safetensors: is missing", "one of 15 weight files",
            "tensors, from", "hf download" } },
        { "six of 15",
          GLM4V_ERR_NOT_FOUND,
          15,
          six_of_fifteen,
          { "6 of 15 weight files are missing", "model-00002-of-00015.safetensors",
            "model-00005-of-00015.safetensors and 2 more", "run its download again" } },
        { "broken download",
          GLM4V_ERR_NOT_FOUND,
          4,
          a_broken_download,
          { "model-00003-of-00004.safetensors: is missing",
            "1 unfinished download is there (model-00003-of-00004.safetensors.part)" } },
        { "broken hub download",
          GLM4V_ERR_NOT_FOUND,
          4,
          a_broken_hub_download,
          { "model-00003-of-00004.safetensors: is missing",
            "1 unfinished download is there (abc.incomplete)" } },
        { "another split",
          GLM4V_ERR_NOT_FOUND,
          3,
          shards_of_another_split,
          { "3 of 3 weight files are missing", "3 files of another download are there",
            "-of-00004.safetensors", "two downloads are mixed" } },
        { "no index",
          GLM4V_ERR_NOT_FOUND,
          15,
          no_index,
          { "nor model.safetensors.index.json", "15 of 15 weight files", "download the index" } },
        { "no index, long names",
          GLM4V_ERR_NOT_FOUND,
          15,
          no_index_of_long_names,
          { "15 of 15 weight files (000", "download the index" } },
    };
    RUN(cases);
}

/* ---- something else in their place ---- */

static void replace_shard(const char *data, size_t len)
{
    file_write(dir, shard(2, 3), data, len);
}

static void lfs_pointer(void)
{
    static const char text[] =
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d"
        "17e2393\nsize 1969000123\n";
    replace_shard(text, sizeof text - 1);
}

static void web_page(void)
{
    static const char text[] =
        "\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>";
    replace_shard(text, sizeof text - 1);
}

static void json_error(void)
{
    static const char text[] = "{\"error\":\"Access to this model is restricted.\"}";
    replace_shard(text, sizeof text - 1);
}

static void text_error(void)
{
    replace_shard("Entry not found", 15);
}

static void xml_error(void)
{
    static const char text[] = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>";
    replace_shard(text, sizeof text - 1);
}

static void reserved_space(void)
{
    static const char zeros[4096];
    replace_shard(zeros, sizeof zeros);
}

static void a_gguf(void)
{
    replace_shard("GGUF\3\0\0\0\1\2\3\4\5\6\7\10\11\12", 18);
}

static void a_pickle(void)
{
    replace_shard("PK\3\4\0\0\10\10\0\0\0\0\0\0\0\0", 16);
}

static void no_bytes(void)
{
    replace_shard("", 0);
}

static void config_pointer(void)
{
    file_write_text(dir, "config.json",
                    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1385\n");
}

static void tokenizer_pointer(void)
{
    file_write_text(dir, "tokenizer.json",
                    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 19966496\n");
}

static void config_page(void)
{
    file_write_text(dir, "config.json", "<!doctype html><html></html>");
}

static void no_config(void)
{
    drop("config.json");
}

static void what_stands_in_for_a_file_is_recognized(void)
{
    static const damage_case cases[] = {
        { "pointer",
          GLM4V_ERR_FORMAT,
          3,
          lfs_pointer,
          { "model-00002-of-00003.safetensors: is a Git LFS pointer", "1969000123 bytes",
            "git lfs pull" } },
        { "web page",
          GLM4V_ERR_FORMAT,
          3,
          web_page,
          { "model-00002-of-00003.safetensors: is a web page", "address" } },
        { "JSON",
          GLM4V_ERR_FORMAT,
          3,
          json_error,
          { "model-00002-of-00003.safetensors: is a text", "Access to this model is restricted",
            "download it again" } },
        { "text", GLM4V_ERR_FORMAT, 3, text_error, { "Entry not found", "server's reply" } },
        { "XML", GLM4V_ERR_FORMAT, 3, xml_error, { "server's message (XML)" } },
        { "zeros", GLM4V_ERR_FORMAT, 3, reserved_space, { "begins with zeros", "download" } },
        { "GGUF", GLM4V_ERR_FORMAT, 3, a_gguf, { "is a GGUF file under the name" } },
        { "pickle", GLM4V_ERR_FORMAT, 3, a_pickle, { "PyTorch file under the name" } },
        { "nothing",
          GLM4V_ERR_FORMAT,
          3,
          no_bytes,
          { "model-00002-of-00003.safetensors: is empty", "download it again" } },
        { "config pointer",
          GLM4V_ERR_FORMAT,
          0,
          config_pointer,
          { "config.json: is a Git LFS pointer", "1385 bytes", "git lfs pull" } },
        { "config page", GLM4V_ERR_FORMAT, 0, config_page, { "config.json: is a web page" } },
        { "tokenizer pointer",
          GLM4V_ERR_FORMAT,
          0,
          tokenizer_pointer,
          { "tokenizer.json: is a Git LFS pointer", "19966496 bytes" } },
        { "no config", GLM4V_ERR_NOT_FOUND, 0, no_config, { "config.json" } },
    };
    RUN(cases);
}

/* ---- other formats ---- */

static void only_pytorch(void)
{
    drop("model.safetensors");
    file_write_text(dir, "pytorch_model-00001-of-00002.bin", "x");
}

static void only_consolidated(void)
{
    drop("model.safetensors");
    file_write_text(dir, "consolidated.00.pth", "x");
}

static void only_gguf(void)
{
    move("glm-4v.Q4_K_M.gguf", "model.safetensors");
}

static void only_adapter(void)
{
    move("adapter_model.safetensors", "model.safetensors");
}

static void another_name(void)
{
    move("glm.safetensors", "model.safetensors");
}

static void nothing_at_all(void)
{
    drop("model.safetensors");
}

static void other_formats_are_named_with_a_way_out(void)
{
    static const damage_case cases[] = {
        { "bin",
          GLM4V_ERR_NOT_FOUND,
          0,
          only_pytorch,
          { "neither model.safetensors", "pytorch_model-00001-of-00002.bin", "from_pretrained",
            "save_pretrained" } },
        { "pth",
          GLM4V_ERR_NOT_FOUND,
          0,
          only_consolidated,
          { "consolidated.00.pth", "save_pretrained" } },
        { "gguf",
          GLM4V_ERR_NOT_FOUND,
          0,
          only_gguf,
          { "glm-4v.Q4_K_M.gguf", "original checkpoint" } },
        { "adapter", GLM4V_ERR_NOT_FOUND, 0, only_adapter, { "LoRA adapter", "merge_and_unload" } },
        { "another name",
          GLM4V_ERR_NOT_FOUND,
          0,
          another_name,
          { "glm.safetensors", "name it model.safetensors" } },
        { "nothing",
          GLM4V_ERR_NOT_FOUND,
          0,
          nothing_at_all,
          { "neither model.safetensors", "the download may be incomplete" } },
    };
    RUN(cases);
}

/* ---- damaged and mixed ---- */

static void cut_in_the_data(void)
{
    cut(shard(2, 3), 1000);
}

static void cut_in_the_header(void)
{
    if (truncate(file_path(dir, shard(2, 3)), 100))
        file_die("cannot cut", "a shard");
}

static void too_long(void)
{
    file_text t = file_read(dir, shard(2, 3));
    t.data[t.len] = 0; /* the terminator becomes a byte of the file */
    file_write(dir, shard(2, 3), t.data, t.len + 1);
    free(t.data);
}

static void swapped(void)
{
    copy(shard(2, 3), shard(3, 3));
}

static void of_other_names(void)
{
    take_from_another(shard(2, 3), shard(2, 3),
                      &(tiny_model_options) { .shards = 3, .short_prefix = true });
}

static void of_another_cut(void)
{
    take_from_another(shard(2, 3), shard(2, 2), &(tiny_model_options) { .shards = 2 });
}

static void of_another_dtype(void)
{
    take_from_another(shard(2, 3), shard(2, 3),
                      &(tiny_model_options) { .shards = 3, .dtype = TINY_F32 });
    file_replace(dir, shard(2, 3), "\"F32\"", "\"I32\"");
}

static void of_another_size(void)
{
    file_replace(dir, "config.json", "\"intermediate_size\": 144,\n    \"max",
                 "\"intermediate_size\": 160,\n    \"max");
}

static void damaged_and_mixed_shards_are_told_apart(void)
{
    static const damage_case cases[] = {
        { "cut data",
          GLM4V_ERR_FORMAT,
          3,
          cut_in_the_data,
          { "model-00002-of-00003.safetensors: holds ", " of ", "cut short in \"", "download" } },
        { "cut header",
          GLM4V_ERR_FORMAT,
          3,
          cut_in_the_header,
          { "model-00002-of-00003.safetensors: 100 bytes cannot hold a header", "cut short",
            "download it again" } },
        { "too long",
          GLM4V_ERR_FORMAT,
          3,
          too_long,
          { "model-00002-of-00003.safetensors: 1 bytes follow", "download it again" } },
        { "swapped",
          GLM4V_ERR_FORMAT,
          3,
          swapped,
          { "model-00002-of-00003.safetensors: holds \"",
            "places in model-00003-of-00003.safetensors", "renamed" } },
        { "other names",
          GLM4V_ERR_FORMAT,
          3,
          of_other_names,
          { "model-00002-of-00003.safetensors: holds \"",
            "which " INDEX " does not place there" } },
        { "another cut",
          GLM4V_ERR_FORMAT,
          3,
          of_another_cut,
          { "model-00002-of-00003.safetensors: holds \"", INDEX " places in", "two downloads" } },
        { "another dtype",
          GLM4V_ERR_UNSUPPORTED,
          3,
          of_another_dtype,
          { "model-00002-of-00003.safetensors: \"", "is I32, expected BF16, F16 or F32" } },
        { "another size",
          GLM4V_ERR_FORMAT,
          3,
          of_another_size,
          { ".safetensors: \"model.language_model.layers.0.mlp.gate_up_proj.weight\" is [288, 128]",
            "expected [320, 128] from config.json" } },
    };
    RUN(cases);
}

/* ---- files of two models ---- */

static void glm4v_config_on_chatglm_weights(void)
{
    take_from_another("model.safetensors", "model.safetensors",
                      &(tiny_model_options) { .chatglm4v = true });
}

static void glm4v_config_on_ocr_weights(void)
{
    take_from_another("model.safetensors", "model.safetensors",
                      &(tiny_model_options) { .glm_ocr = true });
}

static void chatglm_model_with_glm4v_weights(void)
{
    tiny_model_remove(dir);
    if (tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .chatglm4v = true }))
        file_die("cannot make", "a model");
    take_from_another("model.safetensors", "model.safetensors", &(tiny_model_options) { 0 });
}

/* Weights of one tensor with the given name. */
static void only_tensor(const char *name)
{
    char text[512] = { 0 };
    uint64_t len = (uint64_t)snprintf(text + 8, sizeof text - 8,
                                      "{\"%s\":{\"dtype\":\"BF16\",\"shape\":[2],"
                                      "\"data_offsets\":[0,4]}}",
                                      name);
    memcpy(text, &len, sizeof len);
    file_write(dir, "model.safetensors", text, 8 + (size_t)len + 4);
}

static void text_only_chatglm(void)
{
    only_tensor("transformer.encoder.layers.0.input_layernorm.weight");
}

static void text_only_0414(void)
{
    only_tensor("model.layers.0.post_self_attn_layernorm.weight");
}

static void qwen_weights(void)
{
    only_tensor("visual.merger.ln_q.weight");
}

static void llava_weights(void)
{
    only_tensor("vision_tower.vision_model.embeddings.patch_embedding.weight");
}

static void adapter_weights(void)
{
    only_tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
}

static void llava_config(void)
{
    file_write_text(dir, "config.json", "{\"model_type\": \"llava\", \"vision_config\": {}}");
}

static void qwen_config(void)
{
    file_write_text(dir, "config.json", "{\"model_type\": \"qwen2_vl\", \"vision_config\": {}}");
}

static void text_config(void)
{
    file_write_text(dir, "config.json", "{\"model_type\": \"glm4\", \"hidden_size\": 4096}");
}

static void chatglm_text_config(void)
{
    file_write_text(dir, "config.json", "{\"model_type\": \"chatglm\", \"num_layers\": 40}");
}

static void config_answer(void)
{
    file_write_text(dir, "config.json", "{\"error\": \"Repository not found\"}");
}

static void larger_tokenizer(void)
{
    file_replace(dir, "config.json", "\"vocab_size\": 384", "\"vocab_size\": 340");
}

static void tokenizer_of_another(void)
{
    take_from_another("tokenizer.json", "tokenizer.json", &(tiny_model_options) { .glm45 = true });
    take_from_another("tokenizer_config.json", "tokenizer_config.json",
                      &(tiny_model_options) { .glm45 = true });
}

static void tokenizer_without_control_tokens(void)
{
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "tokenizer_config.json" : "tokenizer.json";
        file_text t = file_read(dir, file);
        const bool there = strstr(t.data, "[gMASK]");
        free(t.data);
        if (there)
            file_replace(dir, file, "[gMASK]", "[gMUSK]");
    }
}

static void no_tokenizer(void)
{
    drop("tokenizer.json");
}

static void files_of_two_models_are_told_by_name(void)
{
    static const damage_case cases[] = {
        { "glm4v, chatglm",
          GLM4V_ERR_FORMAT,
          0,
          glm4v_config_on_chatglm_weights,
          { "model.safetensors: holds \"transformer.vision.patch_embedding.proj.weight\"",
            "those of GLM-4V-9B", "config.json says GLM-4.1V or a relative (glm4v)" } },
        { "chatglm, glm4v",
          GLM4V_ERR_FORMAT,
          0,
          chatglm_model_with_glm4v_weights,
          { "model.safetensors: holds \"model.visual.post_conv_layernorm.weight\"",
            "those of GLM-4.1V and its relatives", "config.json says GLM-4V-9B (chatglm)" } },
        { "glm4v, glm_ocr",
          GLM4V_ERR_FORMAT,
          0,
          glm4v_config_on_ocr_weights,
          { "model.safetensors: holds \"model.visual.blocks.0.attn.q_norm.weight\"",
            "those of GLM-OCR", "config.json says GLM-4.1V or a relative (glm4v)" } },
        { "ChatGLM",
          GLM4V_ERR_FORMAT,
          0,
          text_only_chatglm,
          { "a ChatGLM or GLM-4-9B without vision tower", "files of two models are mixed" } },
        { "0414", GLM4V_ERR_FORMAT, 0, text_only_0414, { "GLM-4-0414", "no vision tower" } },
        { "Qwen", GLM4V_ERR_FORMAT, 0, qwen_weights, { "those of Qwen-VL" } },
        { "LLaVA", GLM4V_ERR_FORMAT, 0, llava_weights, { "those of LLaVA" } },
        { "adapter inside", GLM4V_ERR_FORMAT, 0, adapter_weights, { "a LoRA adapter", "merge" } },
        { "llava",
          GLM4V_ERR_UNSUPPORTED,
          0,
          llava_config,
          { "config.json: \"model_type\" is \"llava\", LLaVA", "GLM-4V-9B" } },
        { "qwen2_vl", GLM4V_ERR_UNSUPPORTED, 0, qwen_config, { "\"qwen2_vl\", Qwen2-VL" } },
        { "glm4", GLM4V_ERR_UNSUPPORTED, 0, text_config, { "GLM-4-0414, a text model" } },
        { "chatglm", GLM4V_ERR_UNSUPPORTED, 0, chatglm_text_config, { "a text model" } },
        { "an answer",
          GLM4V_ERR_FORMAT,
          0,
          config_answer,
          { "config.json: is a server's reply", "Repository not found" } },
        { "large tokenizer",
          GLM4V_ERR_FORMAT,
          0,
          larger_tokenizer,
          { "the tokenizer has ids up to ", "\"vocab_size\" is 340", "belongs to another model" } },
        { "other tokenizer",
          GLM4V_ERR_FORMAT,
          0,
          tokenizer_of_another,
          { "config.json \"image_token_id\" is 334", "belong to different models" } },
        { "no [gMASK]",
          GLM4V_ERR_UNSUPPORTED,
          0,
          tokenizer_without_control_tokens,
          { "the tokenizer has no \"[gMASK]\"", "belongs to another model" } },
        { "no tokenizer",
          GLM4V_ERR_NOT_FOUND,
          0,
          no_tokenizer,
          { "neither tokenizer.json nor tokenizer.model is there" } },
    };
    RUN(cases);
}

int main(void)
{
    size_t live = glm4v_mem_live();
    TEST(missing_shards_are_counted_and_named);
    TEST(what_stands_in_for_a_file_is_recognized);
    TEST(other_formats_are_named_with_a_way_out);
    TEST(damaged_and_mixed_shards_are_told_apart);
    TEST(files_of_two_models_are_told_by_name);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    return test_end();
}
