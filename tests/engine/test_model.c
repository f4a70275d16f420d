/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening models: the numbers in memory are those of the files whatever the files look like, and
 * what does not fit together is refused before memory is taken. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backend_step.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "engine_limits.h"
#include "files.h"
#include "model/model.h"
#include "test.h"
#include "tiny_model.h"

static glm4v_error err;

static glm4v_model *open_with(const char *dir, glm4v_model_options options)
{
    glm4v_model *m = NULL;
    memset(&err, 0, sizeof err);
    options.n_threads = options.n_threads ? options.n_threads : 2;
    int rc = glm4v_model_open(&m, dir, &options, &err);
    CHECK_EQ(rc, err.code);
    return m;
}

static uint64_t hash(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* Of everything that was loaded, packed as it lies in memory. */
static uint64_t fingerprint(const glm4v_model *m)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < m->plan.n; i++) {
        const glm4v_item *item = &m->plan.items[i];
        const glm4v_weight *w = item->to.linear;
        uint64_t n = (uint64_t)item->n_out * (uint64_t)item->n_in;
        h = hash(h, &item->form, sizeof item->form);
        if (item->kind == GLM4V_ITEM_LINEAR) {
            uint64_t rows = ((uint64_t)item->n_out + 15) / 16 * 16;
            uint64_t scales = rows * (uint64_t)glm4v_form_groups(w->form, w->blocks, w->n_in);
            h = hash(h, w->data, w->bytes - scales * sizeof(float));
            h = hash(h, w->scale, scales * sizeof(float));
        } else if (item->kind == GLM4V_ITEM_TABLE) {
            const glm4v_table *t = item->to.table;
            uint64_t scales = t->scale ? (uint64_t)t->n_rows : 0;
            h = hash(h, t->data, t->bytes - scales * sizeof(float));
            h = hash(h, t->scale, scales * sizeof(float));
        } else {
            h = hash(h, *item->to.vector, n * sizeof(float));
        }
    }
    return h;
}

static uint64_t fingerprint_of(const tiny_model_options *tiny, const char *quantization)
{
    char dir[512];
    if (tiny_model_make(dir, sizeof dir, tiny))
        return 0;
    glm4v_model *m = open_with(dir, (glm4v_model_options) { .quantization = quantization });
    uint64_t h = m ? fingerprint(m) : 0;
    if (!m)
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    glm4v_model_close(&m);
    tiny_model_remove(dir);
    return h;
}

/* ---- the numbers ---- */

/* Columns of an fp32 matrix, got by multiplying with the unit vectors: whatever the layout of its
 * panels. */
static int wrong_numbers(glm4v_model *m, const glm4v_weight *w,
                         float (*expected)(int row, int column))
{
    glm4v_backend *b = m->stages[0].backend;
    int wrong = 0;
    float *x = calloc((size_t)w->n_in, sizeof *x), *y = calloc((size_t)w->n_out, sizeof *y);
    for (int c = 0; c < w->n_in; c++) {
        x[c] = 1;
        run_product(b, y, w->n_out, x, w->n_in, w, NULL, 1, false);
        x[c] = 0;
        for (int r = 0; r < w->n_out; r++)
            wrong += y[r] != expected(r, c);
    }
    free(x);
    free(y);
    return wrong;
}

#define LAYER1 "model.language_model.layers.1."
enum { Q = TINY_HEADS * TINY_HEAD_DIM, KV = TINY_KV_HEADS * TINY_HEAD_DIM };

static float qkv(int row, int column)
{
    const char *name = row < Q        ? LAYER1 "self_attn.q_proj.weight"
                       : row < Q + KV ? LAYER1 "self_attn.k_proj.weight"
                                      : LAYER1 "self_attn.v_proj.weight";
    int r = row < Q ? row : row < Q + KV ? row - Q : row - Q - KV;
    return tiny_model_value(1, name, (uint64_t)(r * TINY_HIDDEN + column));
}

static float text_gate_up(int row, int column)
{
    return tiny_model_value(1, LAYER1 "mlp.gate_up_proj.weight",
                            (uint64_t)(row * TINY_HIDDEN + column));
}

static float merger_gate_up(int row, int column)
{
    const char *name = row < TINY_MERGER_FFN ? "model.visual.merger.gate_proj.weight"
                                             : "model.visual.merger.up_proj.weight";
    return tiny_model_value(1, name, (uint64_t)(row % TINY_MERGER_FFN * TINY_HIDDEN + column));
}

/* Stored [out][channel][my][mx], used as [out][my][mx][channel]. */
static float downsample(int row, int column)
{
    int pixel = column / TINY_VISION_HIDDEN, channel = column % TINY_VISION_HIDDEN;
    return tiny_model_value(1, "model.visual.downsample.weight",
                            (uint64_t)((row * TINY_VISION_HIDDEN + channel) * 4 + pixel));
}

static float patch(int row, int column)
{
    return tiny_model_value(1, "model.visual.patch_embed.proj.weight",
                            (uint64_t)(row * 6 * TINY_PATCH * TINY_PATCH + column));
}

static float head(int row, int column)
{
    return tiny_model_value(1, "lm_head.weight", (uint64_t)(row * TINY_HIDDEN + column));
}

static float embedding(int row, int column)
{
    return tiny_model_value(1, "model.language_model.embed_tokens.weight",
                            (uint64_t)(row * TINY_HIDDEN + column));
}

static void matrices_hold_the_files_numbers(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = 5 }));
    glm4v_model *m = open_with(
        dir, (glm4v_model_options) { .quantization = "fp32,lm-head=fp32,embedding=fp32" });
    tiny_model_remove(dir);
    REQUIRE(m);
    CHECK_EQ(wrong_numbers(m, &m->layers[1].qkv, qkv), 0);
    CHECK_EQ(wrong_numbers(m, &m->layers[1].gate_up, text_gate_up), 0);
    CHECK_EQ(wrong_numbers(m, &m->vision.merger_gate_up, merger_gate_up), 0);
    CHECK_EQ(wrong_numbers(m, &m->vision.downsample, downsample), 0);
    CHECK_EQ(wrong_numbers(m, &m->vision.patch, patch), 0);
    CHECK_EQ(wrong_numbers(m, &m->lm_head, head), 0);
    int wrong = 0;
    const float *table = m->embedding.data;
    for (int i = 0; i < TINY_VOCAB * TINY_HIDDEN; i++)
        wrong += table[i] != embedding(0, i);
    for (int i = 0; i < TINY_TABLE_SIDE * TINY_TABLE_SIDE * TINY_VISION_HIDDEN; i++)
        wrong +=
            m->vision.table[i] !=
            tiny_model_value(1, "model.visual.embeddings.position_embedding.weight", (uint64_t)i);
    for (int i = 0; i < KV; i++)
        wrong += m->layers[1].qkv_bias[Q + KV + i] !=
                 tiny_model_value(1, LAYER1 "self_attn.v_proj.bias", (uint64_t)i);
    CHECK_EQ(wrong, 0);
    glm4v_model_close(&m);
}

/* Where the data of a tensor begin in a file. */
static size_t data_of(file_text t, const char *name)
{
    static const char key[] = "\"data_offsets\":[";
    const char *end = t.data + 8 + file_header_len(t);
    const char *at = memmem(t.data + 8, (size_t)(end - t.data - 8), name, strlen(name));
    at = at ? memmem(at, (size_t)(end - at), key, sizeof key - 1) : NULL;
    return at ? 8 + file_header_len(t) + strtoul(at + sizeof key - 1, NULL, 10) : 0;
}

static int warnings;

static void count_warnings(void *user, glm4v_log_level level, const char *text)
{
    if (level == GLM4V_LOG_WARNING) {
        warnings++;
        CHECK_CONTAINS(text, "lm_head.weight\": it is used");
        CHECK_CONTAINS(text, "tie_word_embeddings");
    }
}

/* The head of the file counts, and it is told where it is not the embedding. */
static void a_head_beside_a_tie_is_used_and_told(void)
{
    char dir[512];
    const glm4v_model_options options = { .quantization = "lm-head=fp32", .log = count_warnings };
    for (int same = 0; same < 2; same++) {
        REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
        file_replace(dir, "config.json", "\"tie_word_embeddings\": false",
                     "\"tie_word_embeddings\": true");
        if (same) { /* the head's data are the embedding's */
            file_text t = file_read(dir, "model.safetensors");
            const size_t bytes = TINY_VOCAB * TINY_HIDDEN * 2;
            const size_t head = data_of(t, "\"lm_head.weight\""),
                         embedding = data_of(t, "embed_tokens.weight\"");
            memmove(t.data + head, t.data + embedding, bytes);
            file_write(dir, "model.safetensors", t.data, t.len);
            free(t.data);
        }
        warnings = 0;
        glm4v_model *m = open_with(dir, options);
        REQUIRE(m);
        CHECK_EQ(warnings, !same);
        CHECK_EQ(wrong_numbers(m, &m->lm_head, same ? embedding : head), 0);
        CHECK_EQ(m->info.n_parameters, 468448);
        glm4v_model_close(&m);
        tiny_model_remove(dir);
    }
}

static void tied_models_use_the_embedding_as_head(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .tied = true }));
    for (int i = 0; i < 2; i++) { /* told by config.json, then by the missing tensor alone */
        glm4v_model *m = open_with(dir, (glm4v_model_options) { .quantization = "lm-head=fp32" });
        REQUIRE(m);
        CHECK_EQ(wrong_numbers(m, &m->lm_head, embedding), 0);
        CHECK_EQ(m->info.n_parameters, 468448 - TINY_VOCAB * TINY_HIDDEN);
        glm4v_model_close(&m);
        if (!i)
            file_replace(dir, "config.json", "\"tie_word_embeddings\": true,", "");
    }
    /* but not where config.json says that there is one */
    file_replace(dir, "config.json", "\"torch_dtype\"",
                 "\"tie_word_embeddings\": false, \"torch_dtype\"");
    CHECK(!open_with(dir, (glm4v_model_options) { 0 }));
    CHECK_EQ(err.code, GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "\"lm_head.weight\" is missing");
    tiny_model_remove(dir);
}

static void names_and_files_do_not_change_what_is_loaded(void)
{
    static const char *const forms[] = { NULL, "fp32", "int8,lm-head=int8,embedding=int8",
                                         "int4,lm-head=int4" };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        uint64_t h = fingerprint_of(NULL, forms[i]);
        CHECK(h && h == fingerprint_of(&(tiny_model_options) { .shards = 3 }, forms[i]));
        CHECK_EQ(h,
                 fingerprint_of(&(tiny_model_options) { .short_prefix = true, .flat_config = true },
                                forms[i]));
        CHECK_EQ(h, fingerprint_of(&(tiny_model_options) { .split_gate_up = true, .glm45 = true },
                                   forms[i]));
        CHECK_EQ(h, fingerprint_of(&(tiny_model_options) { .outer_prefix = true }, forms[i]));
        CHECK_EQ(h, fingerprint_of(&(tiny_model_options) { .short_prefix = true,
                                                           .split_gate_up = true,
                                                           .shards = 3,
                                                           .glm45 = true },
                                   forms[i]));
        CHECK(h != fingerprint_of(&(tiny_model_options) { .seed = 2 }, forms[i]));
    }
    uint64_t exact = fingerprint_of(NULL, "fp32,lm-head=fp32,embedding=fp32");
    CHECK_EQ(exact, fingerprint_of(&(tiny_model_options) { .dtype = TINY_F32 }, NULL));
    CHECK_EQ(exact, fingerprint_of(&(tiny_model_options) { .dtype = TINY_F16 }, NULL));
    CHECK_EQ(fingerprint_of(NULL, NULL), fingerprint_of(&(tiny_model_options) { .dtype = TINY_F32 },
                                                        "bf16,lm-head=bf16,embedding=bf16"));
}

static void threads_do_not_change_what_is_loaded(void)
{
    char dir[512];
    uint64_t first[2] = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    for (uint32_t n = 1; n <= 5; n += 2)
        for (int random = 0; random < 2; random++) {
            glm4v_model *m = open_with(dir, (glm4v_model_options) { .n_threads = n,
                                                                    .quantization = "int4",
                                                                    .random_weights = random,
                                                                    .random_seed = 9 });
            REQUIRE(m);
            CHECK_EQ(glm4v_pool_threads(m->stages[0].backend->pool), n);
            first[random] = first[random] ? first[random] : fingerprint(m);
            CHECK_EQ(fingerprint(m), first[random]);
            glm4v_model_close(&m);
        }
    CHECK(first[0] != first[1]);
    tiny_model_remove(dir);
}

static void forms_are_as_asked_and_int4_needs_whole_groups(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    glm4v_model *m =
        open_with(dir, (glm4v_model_options) { .quantization = "text=int4,vision=int8" });
    REQUIRE(m);
    CHECK_EQ(m->layers[0].qkv.form, GLM4V_FORM_INT4);
    CHECK_EQ(m->layers[0].down.form, GLM4V_FORM_INT8); /* 144 inputs */
    CHECK_EQ(m->vision.patch.form, GLM4V_FORM_BF16);   /* convolutions: as stored */
    CHECK_EQ(m->vision.downsample.form, GLM4V_FORM_BF16);
    CHECK_EQ(m->vision.merger_proj.form, GLM4V_FORM_INT8);
    CHECK_EQ(m->lm_head.form, GLM4V_FORM_BF16);
    CHECK_EQ(m->embedding.form, GLM4V_FORM_BF16);
    const glm4v_model_info *info = glm4v_model_get_info(m);
    CHECK_STR(info->form[GLM4V_PART_TEXT], "int4");
    CHECK_STR(info->form[GLM4V_PART_VISION], "int8");
    CHECK_STR(info->form[GLM4V_PART_LM_HEAD], "bf16");
    CHECK_STR(info->stored_form, "bf16");
    glm4v_model_close(&m);
    tiny_model_remove(dir);
}

static void two_stages_hold_what_one_holds(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    glm4v_model *one = open_with(dir, (glm4v_model_options) { .device = "cpu" });
    glm4v_model *two = open_with(dir, (glm4v_model_options) { .device = "cpu,cpu" });
    glm4v_model *three = open_with(dir, (glm4v_model_options) { .device = "cpu,cpu,cpu" });
    CHECK(one && two && !three);
    CHECK_EQ(err.code, GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "3 devices for a model of 2 layers");
    if (one && two) {
        CHECK_EQ(two->n_stages, 2);
        CHECK(two->stages[0].count == 1 && two->stages[1].first == 1 && two->stages[1].count == 1);
        CHECK_EQ(fingerprint(one), fingerprint(two));
    }
    glm4v_model_close(&one);
    glm4v_model_close(&two);
    tiny_model_remove(dir);
}

/* ---- information ---- */

static void inspect_tells_what_open_tells(void)
{
    char dir[512];
    glm4v_model_info info = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = 3 }));
    size_t live = glm4v_mem_live();
    CHECK_EQ(glm4v_model_inspect(dir, NULL, &info, &err), 0);
    CHECK_EQ(glm4v_mem_live(), live);
    CHECK_STR(info.family, "glm4v");
    CHECK_STR(info.chat_template, "glm-4.1v");
    CHECK_STR(info.name, strrchr(dir, '/') + 1);
    CHECK_EQ(strlen(info.hash), 16);
    CHECK_STR(info.isa, "");
    CHECK(info.n_parameters == 468448 && info.n_shards == 3 && info.n_tensors == 56);
    CHECK(info.file_bytes > 2 * info.n_parameters &&
          info.file_bytes < 2 * info.n_parameters + 10000);
    CHECK(info.vocab_size == TINY_VOCAB && info.n_layers == TINY_LAYERS &&
          info.context_length == 4096);
    CHECK(info.min_pixels == 6272 && info.max_pixels == 4816896); /* of one frame of two */
    glm4v_model *m = open_with(dir, (glm4v_model_options) { 0 });
    REQUIRE(m);
    CHECK(strlen(m->info.isa) > 0);
    memset(m->info.isa, 0, sizeof m->info.isa);
    CHECK_STR(m->info.image_device, "cpu");
    memset(m->info.image_device, 0, sizeof m->info.image_device);
    CHECK(!memcmp(&info, &m->info, sizeof info));
    glm4v_model_close(&m);
    tiny_model_remove(dir);
}

static void the_hash_tells_models_apart(void)
{
    char dir[512], first[17];
    glm4v_model_info info = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    CHECK_EQ(glm4v_model_inspect(dir, NULL, &info, &err), 0);
    memcpy(first, info.hash, sizeof first);
    file_replace(dir, "config.json", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e-06");
    CHECK_EQ(glm4v_model_inspect(dir, NULL, &info, &err), 0);
    CHECK(strcmp(first, info.hash));
    tiny_model_remove(dir);
}

static void check_name(const char *folder, const char *expected)
{
    char dir[512], renamed[600];
    glm4v_model_info info = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .weights_only = true }));
    snprintf(renamed, sizeof renamed, "%s-%s", dir, folder);
    REQUIRE(!rename(dir, renamed));
    CHECK_EQ(
        glm4v_model_inspect(renamed, &(glm4v_model_options) { .weights_only = 1 }, &info, &err), 0);
    CHECK(glm4v_utf8_valid(info.name, strlen(info.name), NULL));
    CHECK_CONTAINS(info.name, expected);
    tiny_model_remove(renamed);
}

static void the_name_is_utf8_whatever_the_folder_is_called(void)
{
    check_name("\xe5\x88\x92 caf\xc3\xa9", "\xe5\x88\x92 caf\xc3\xa9");
    check_name("a\xff\xe5\x88", "a\xef\xbf\xbd\xef\xbf\xbd");
    for (int n = 0; n < 3; n++) { /* the end lies at each byte of a character */
        char folder[128] = "";
        memset(folder, 'x', (size_t)n);
        for (int i = 0; i < 30; i++)
            strcat(folder, "\xe5\x88\x92");
        check_name(folder, &"x\xe5\x88\x92"[n == 0]);
    }
}

static void the_name_is_the_folders(void)
{
    char dir[512], slashed[600];
    glm4v_model_info info = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .weights_only = true }));
    snprintf(slashed, sizeof slashed, "%s/./", dir);
    CHECK_EQ(
        glm4v_model_inspect(slashed, &(glm4v_model_options) { .weights_only = 1 }, &info, &err), 0);
    CHECK_STR(info.name, strrchr(dir, '/') + 1);
    CHECK_STR(info.chat_template, "none");
    tiny_model_remove(dir);
}

static void engine_options_have_ranges(void)
{
    char dir[512];
    glm4v_memory memory = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .weights_only = true }));
    static const struct {
        glm4v_engine_options options;
        const char *said;
    } cases[] = {
        { { .max_batch = 65 }, "max_batch is 65" },
        { { .max_pending = 65537 }, "max_pending" },
        { { .context_length = 4097 }, "context_length is 4097, at most 4096" },
        { { .kv_cache = "int4" }, "kv_cache is \"int4\", not auto, bf16 or int8" },
    };
    const glm4v_engine_options int8 = { .kv_cache = "int8" };
    glm4v_model_options options = { .weights_only = 1, .n_threads = 1 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(
            glm4v_model_estimate_memory(
                dir,
                &(glm4v_estimate_options) {
                    .model = &options, .engine = &cases[i].options, .width = 64, .height = 64 },
                &memory, &err),
            GLM4V_ERR_INVALID);
        CHECK_CONTAINS(err.msg, cases[i].said);
    }
    CHECK_EQ(glm4v_model_estimate_memory(
                 dir,
                 &(glm4v_estimate_options) {
                     .model = &options, .engine = &int8, .width = 64, .height = 64 },
                 &memory, &err),
             GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "cpu does not keep keys and values as int8");
    CHECK_EQ(glm4v_model_estimate_memory(
                 dir, &(glm4v_estimate_options) { .model = &options, .width = 0, .height = 64 },
                 &memory, &err),
             GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_model_estimate_memory(
                 dir,
                 &(glm4v_estimate_options) { .model = &options, .width = UINT32_MAX, .height = 64 },
                 &memory, &err),
             GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_model_estimate_memory(
                 dir, &(glm4v_estimate_options) { .model = &options, .width = 64, .height = 64 },
                 &memory, &err),
             0);
    tiny_model_remove(dir);
}

static void references_keep_a_model_open(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    size_t live = glm4v_mem_live();
    glm4v_model *m = open_with(dir, (glm4v_model_options) { 0 });
    REQUIRE(m);
    glm4v_model *second = glm4v_model_ref(m);
    CHECK(second == m);
    uint64_t h = fingerprint(m);
    glm4v_model_close(&m);
    CHECK(!m);
    CHECK_EQ(fingerprint(second), h);
    glm4v_model_close(&second);
    glm4v_model_close(&second); /* NULL is allowed */
    CHECK_EQ(glm4v_mem_live(), live);
    tiny_model_remove(dir);
}

static void smaller_option_structs_are_taken(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    glm4v_model_options options = { .struct_size = offsetof(glm4v_model_options, n_threads),
                                    .quantization = "int8" };
    options.random_weights = 7; /* beyond the caller's struct: not looked at */
    glm4v_model_info info = { 0 };
    CHECK_EQ(glm4v_model_inspect(dir, &options, &info, &err), 0);
    CHECK_STR(info.form[GLM4V_PART_TEXT], "int8");
    CHECK_STR(info.stored_form, "bf16");
    tiny_model_remove(dir);
}

/* A caller's info of an older, a newer and an impossible size. */
static void structs_to_fill_keep_to_their_size(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    struct {
        glm4v_model_info info;
        uint8_t beyond[64];
    } newer, older, bad;
    memset(&older, 0x5a, sizeof older);
    memset(&newer, 0x5a, sizeof newer);
    memset(&bad, 0x5a, sizeof bad);
    older.info.struct_size = offsetof(glm4v_model_info, n_parameters);
    newer.info.struct_size = sizeof newer;
    CHECK_EQ(glm4v_model_inspect(dir, NULL, &older.info, &err), 0);
    CHECK_STR(older.info.family, "glm4v");
    CHECK_EQ(older.info.n_parameters, 0x5a5a5a5a5a5a5a5au);
    CHECK_EQ(older.info.struct_size, offsetof(glm4v_model_info, n_parameters));
    CHECK_EQ(glm4v_model_inspect(dir, NULL, &newer.info, &err), 0);
    CHECK(newer.info.n_parameters > 0 && newer.info.n_parameters < 1u << 30);
    CHECK_EQ(newer.beyond[63], 0);
    bad.info.struct_size = 3;
    CHECK_EQ(glm4v_model_inspect(dir, NULL, &bad.info, &err), GLM4V_ERR_INVALID);
    CHECK(strstr(err.msg, "struct_size is 3"));
    CHECK_EQ(bad.info.n_parameters, 0x5a5a5a5a5a5a5a5au);
    glm4v_memory memory = { .struct_size = 5000 };
    CHECK_EQ(glm4v_model_estimate_memory(
                 dir, &(glm4v_estimate_options) { .width = 56, .height = 56 }, &memory, &err),
             GLM4V_ERR_INVALID);
    CHECK_EQ(memory.total, 0);
    tiny_model_remove(dir);
}

/* ---- progress, cancel ---- */

typedef struct {
    uint64_t done, total, last_done;
    int calls, cancel_at;
    bool backwards;
    pthread_t thread;
} progress_log;

static int log_progress(void *user, uint64_t done, uint64_t total)
{
    progress_log *log = user;
    log->backwards |= done < log->last_done || done > total;
    log->last_done = log->done = done;
    log->total = total;
    log->thread = pthread_self();
    return ++log->calls == log->cancel_at;
}

static void progress_ends_at_the_total_in_the_callers_thread(void)
{
    char dir[512];
    progress_log log = { 0 };
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    glm4v_model *m =
        open_with(dir, (glm4v_model_options) { .progress = log_progress, .progress_user = &log });
    CHECK(m && log.calls >= 2 && !log.backwards);
    CHECK_EQ(log.done, log.total);
    CHECK_EQ(log.total, 468448 * 2);
    CHECK(pthread_equal(log.thread, pthread_self()));
    glm4v_model_close(&m);
    tiny_model_remove(dir);
}

static void progress_cancels_and_leaves_nothing(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    size_t live = glm4v_mem_live();
    for (int at = 1; at <= 2; at++) {
        progress_log log = { .cancel_at = at };
        glm4v_model *m = open_with(
            dir, (glm4v_model_options) { .progress = log_progress, .progress_user = &log });
        CHECK(!m);
        CHECK_EQ(err.code, GLM4V_ERR_CANCELED);
        CHECK_EQ(log.calls, at);
    }
    CHECK_EQ(glm4v_mem_live(), live);
    tiny_model_remove(dir);
}

/* ---- what does not fit together ---- */

static int open_changed(const tiny_model_options *tiny, const char *file, const char *from,
                        const char *to)
{
    char dir[512];
    glm4v_model *m = NULL;
    memset(&err, 0, sizeof err);
    if (tiny_model_make(dir, sizeof dir, tiny))
        return 1;
    file_replace(dir, file, from, to);
    size_t live = glm4v_mem_live();
    int rc = glm4v_model_open(&m, dir, &(glm4v_model_options) { .n_threads = 1 }, &err);
    glm4v_model_close(&m);
    CHECK_EQ(glm4v_mem_live(), live);
    tiny_model_remove(dir);
    return rc;
}

static void tensors_must_fit_the_configuration(void)
{
    static const struct {
        const char *from, *to, *said;
        int code;
    } cases[] = {
        { "\"intermediate_size\": 144,\n    \"max", "\"intermediate_size\": 72,\n    \"max",
          "\"model.language_model.layers.0.mlp.gate_up_proj.weight\" is [288, 128], expected [144, "
          "128] from "
          "config.json",
          GLM4V_ERR_FORMAT },
        { "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
          "\"model.language_model.layers.2.input_layernorm.weight\" is missing", GLM4V_ERR_FORMAT },
        { "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
          "\"num_hidden_layers\" is 1, but the weights hold "
          "\"model.language_model.layers.1.input_layernorm.weight\""
          " too",
          GLM4V_ERR_FORMAT },
        { "\"depth\": 2", "\"depth\": 1", "\"depth\" is 1, but the weights hold",
          GLM4V_ERR_FORMAT },
        { "\"vocab_size\": 384", "\"vocab_size\": 400", "is [384, 128], expected [400, 128]",
          GLM4V_ERR_FORMAT },
        { "\"num_key_value_heads\": 1", "\"num_key_value_heads\": 2",
          "k_proj.weight\" is [64, 128], expected [128, 128]", GLM4V_ERR_FORMAT },
        { "\"image_size\": 56", "\"image_size\": 70",
          "position_embedding.weight\" is [16, 32], expected [25, 32]", GLM4V_ERR_FORMAT },
        { "\"temporal_patch_size\": 2", "\"temporal_patch_size\": 1", "temporal_patch_size",
          GLM4V_ERR_FORMAT },
        { "\"spatial_merge_size\": 2", "\"spatial_merge_size\": 4", "merge_size",
          GLM4V_ERR_FORMAT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(open_changed(NULL, "config.json", cases[i].from, cases[i].to), cases[i].code);
        CHECK_CONTAINS(err.msg, cases[i].said);
    }
}

#define INDEX "model.safetensors.index.json"

static void damaged_headers_name_the_tensor(void)
{
    CHECK_EQ(open_changed(NULL, "model.safetensors", "embed_tokens.weight", "embed_tokenz.weight"),
             GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg,
                   "neither \"model.language_model.embed_tokens.weight\" nor \"model....\"");
    CHECK_EQ(
        open_changed(NULL, "model.safetensors", "layers.1.mlp.down_proj", "layers.1.mlp.doun_proj"),
        GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "\"model.language_model.layers.1.mlp.down_proj.weight\" is missing");
    CHECK_EQ(open_changed(NULL, "model.safetensors", "\"BF16\"", "\"I16\" "),
             GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "is I16, expected BF16, F16 or F32");
    CHECK_EQ(open_changed(&(tiny_model_options) { .tied = true }, "model.safetensors", "[384,128]",
                          "[128,384]"),
             GLM4V_ERR_FORMAT);
    CHECK_CONTAINS(err.msg, "is [128, 384], expected [384, 128] from config.json");
}

static void numbers_that_are_not_finite_are_refused_by_place(void)
{
    static const uint16_t bad[] = { 0x7f80, 0xff80, 0x7fc0, 0xffff };
    /* a table, which is widened; a matrix, which is not */
    static const char *const names[] = { "model.language_model.embed_tokens.weight",
                                         "model.language_model.layers.1.self_attn.o_proj.weight" };
    for (size_t i = 0; i < 2 * (sizeof bad / sizeof *bad); i++) {
        char dir[512];
        REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
        file_text t = file_read(dir, "model.safetensors");
        const size_t at = data_of(t, names[i % 2]);
        REQUIRE(at);
        memcpy(t.data + at + 2 * (2 * TINY_HIDDEN + 5), &bad[i / 2], 2);
        file_write(dir, "model.safetensors", t.data, t.len);
        free(t.data);
        glm4v_model *m = open_with(dir, (glm4v_model_options) { 0 });
        CHECK(!m);
        CHECK_EQ(err.code, GLM4V_ERR_FORMAT);
        CHECK_CONTAINS(err.msg, names[i % 2]);
        CHECK_CONTAINS(err.msg, ".weight\": number 5 of row 2 is ");
        CHECK_CONTAINS(err.msg, i / 2 < 2 ? "infinite" : "NaN");
        tiny_model_remove(dir);
    }
}

static void options_out_of_range_are_refused(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    static const struct {
        glm4v_model_options options;
        const char *said;
        int code;
    } cases[] = {
        { { .device = "gpu" }, "device \"gpu\"", GLM4V_ERR_INVALID },
        { { .device = "" }, "device", GLM4V_ERR_INVALID },
        { { .device = "cpu," }, "device", GLM4V_ERR_INVALID },
        { { .device = "cuda" }, "device \"cuda\": ", GLM4V_ERR_DEVICE },
        { { .quantization = "int5" }, "int5", GLM4V_ERR_INVALID },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_model *m = open_with(dir, cases[i].options);
        CHECK(!m);
        CHECK_EQ(err.code, cases[i].code);
        CHECK_CONTAINS(err.msg, cases[i].said);
        glm4v_model_info info = { 0 };
        CHECK_EQ(glm4v_model_inspect(dir, &cases[i].options, &info, &err), cases[i].code);
    }
    CHECK_EQ(glm4v_model_inspect(NULL, NULL, NULL, &err), GLM4V_ERR_INVALID);
    tiny_model_remove(dir);
}

static void a_directory_that_is_not_there_is_named(void)
{
    glm4v_model *m = open_with("/nonexistent/model", (glm4v_model_options) { 0 });
    CHECK(!m);
    CHECK_EQ(err.code, GLM4V_ERR_NOT_FOUND);
    CHECK_STR(err.msg, "/nonexistent/model: there is no such model directory");
    char dir[512];
    REQUIRE(!tiny_model_mkdtemp(dir, sizeof dir));
    m = open_with(dir, (glm4v_model_options) { 0 });
    CHECK(!m);
    CHECK_EQ(err.code, GLM4V_ERR_NOT_FOUND);
    CHECK_CONTAINS(err.msg, "config.json");
    tiny_model_remove(dir);
}

static void weights_larger_than_memory_are_refused_before_they_are_taken(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .weights_only = true }));
    file_replace(dir, "config.json", "\"intermediate_size\": 144,\n    \"max",
                 "\"intermediate_size\": 262144,\n    \"max");
    file_replace(dir, "config.json", "\"hidden_size\": 128", "\"hidden_size\": 65536");
    file_replace(dir, "config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 1024");
    file_replace(dir, "config.json", "\"out_hidden_size\": 128", "\"out_hidden_size\": 65536");
    file_replace(dir, "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000");
    size_t live = glm4v_mem_live();
    glm4v_model *m =
        open_with(dir, (glm4v_model_options) { .random_weights = 1, .weights_only = 1 });
    CHECK(!m);
    CHECK_EQ(err.code, GLM4V_ERR_NOMEM);
    CHECK_CONTAINS(err.msg, "MiB of memory are available; no quantization fits");
    CHECK_EQ(glm4v_mem_live(), live);
    tiny_model_remove(dir);
}

static void random_weights_need_a_configuration_alone(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .weights_only = true }));
    unlink(file_path(dir, "model.safetensors"));
    glm4v_model *m = open_with(dir, (glm4v_model_options) { .random_weights = 1 });
    REQUIRE(m);
    uint64_t h = fingerprint(m);
    CHECK(m->tokenizer && m->preprocessor);
    CHECK_EQ(glm4v_tokenizer_control(m->tokenizer, "<|image|>"), TINY_IMAGE_41V);
    CHECK_STR(m->info.stored_form, "random");
    glm4v_model_close(&m);
    m = open_with(file_path(dir, "config.json"), (glm4v_model_options) { .random_weights = 1 });
    REQUIRE(m);
    CHECK_EQ(fingerprint(m), h);
    glm4v_model_close(&m);
    m = open_with(dir, (glm4v_model_options) { .random_weights = 1, .random_seed = 5 });
    REQUIRE(m);
    CHECK(fingerprint(m) != h);
    glm4v_model_close(&m);
    tiny_model_remove(dir);
}

/* ---- D-06: the directory changes while it is read ---- */

typedef struct {
    char dir[512];
    int what; /* 0 truncate, 1 overwrite in place, 2 unlink, 3 rename another over it */
} change;

static int make_change(void *user, uint64_t done, uint64_t total)
{
    const change *c = user;
    const char *path = file_path(c->dir, "model.safetensors");
    if (done == total)
        return 0; /* loaded: later changes do no harm, and are another test */
    int fd = open(path, O_WRONLY);
    if (c->what == 0)
        CHECK_EQ(ftruncate(fd, 20000), 0);
    else if (c->what == 1)
        CHECK_EQ(pwrite(fd, "xxxx", 4, 500000), 4);
    else if (c->what == 2)
        CHECK_EQ(unlink(path), 0);
    else
        CHECK_EQ(rename(file_path(c->dir, "config.json"), path), 0);
    close(fd);
    return 0;
}

static void a_change_during_the_load_is_an_error_or_does_no_harm(void)
{
    uint64_t whole = fingerprint_of(NULL, NULL);
    for (int what = 0; what < 4; what++) {
        change c = { .what = what };
        REQUIRE(!tiny_model_make(c.dir, sizeof c.dir, NULL));
        /* a later write must show in the file's time */
        struct timespec tick = { .tv_nsec = 20000000 };
        nanosleep(&tick, NULL);
        glm4v_model *m = open_with(
            c.dir, (glm4v_model_options) { .progress = make_change, .progress_user = &c });
        if (what < 2) {
            CHECK(!m);
            CHECK_EQ(err.code, GLM4V_ERR_IO);
            CHECK_CONTAINS(err.msg, "model.safetensors");
            CHECK_CONTAINS(err.msg, "while being read");
        } else {
            CHECK(m && fingerprint(m) == whole); /* the open file is still the old one */
        }
        glm4v_model_close(&m);
        tiny_model_remove(c.dir);
    }
}

typedef struct {
    char dir[512];
    off_t whole;
    atomic_bool stop;
} cutter;

/* Cut the file to ever different lengths and make it whole again, as fast as it goes. */
static void *cut_for_ever(void *user)
{
    cutter *c = user;
    uint64_t state = 1;
    while (!atomic_load(&c->stop)) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (truncate(file_path(c->dir, "model.safetensors"), (off_t)(state >> 33) % c->whole) ||
            truncate(file_path(c->dir, "model.safetensors"), c->whole))
            break;
    }
    return NULL;
}

static void truncation_at_any_moment_is_survived(void)
{
    cutter c = { 0 };
    struct stat st;
    pthread_t thread;
    int failed = 0;
    REQUIRE(!tiny_model_make(c.dir, sizeof c.dir, NULL));
    REQUIRE(!stat(file_path(c.dir, "model.safetensors"), &st));
    c.whole = st.st_size;
    REQUIRE(!pthread_create(&thread, NULL, cut_for_ever, &c));
    for (int i = 0; i < 50; i++) {
        glm4v_model *m = open_with(c.dir, (glm4v_model_options) { 0 });
        failed += !m;
        CHECK(m || err.code == GLM4V_ERR_IO || err.code == GLM4V_ERR_FORMAT);
        glm4v_model_close(&m);
    }
    atomic_store(&c.stop, true);
    pthread_join(thread, NULL);
    CHECK(failed > 0);
    tiny_model_remove(c.dir);
}

static void changes_after_the_load_do_no_harm(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    glm4v_model *m = open_with(dir, (glm4v_model_options) { 0 });
    REQUIRE(m);
    uint64_t h = fingerprint(m);
    CHECK_EQ(truncate(file_path(dir, "model.safetensors"), 0), 0);
    CHECK_EQ(fingerprint(m), h);
    tiny_model_remove(dir);
    CHECK_EQ(fingerprint(m), h);
    glm4v_model_close(&m);
}

/* F-07: no file is mapped; what shrinks cannot kill the process. */
static void no_model_file_is_mapped(void)
{
    char dir[512], line[1024];
    REQUIRE(!tiny_model_make(dir, sizeof dir, NULL));
    glm4v_model *m = open_with(dir, (glm4v_model_options) { 0 });
    FILE *maps = fopen("/proc/self/maps", "r");
    REQUIRE(m && maps);
    int mapped = 0;
    while (fgets(line, sizeof line, maps))
        mapped += strstr(line, "glm4v-tiny-") != NULL;
    CHECK_EQ(mapped, 0);
    fclose(maps);
    glm4v_model_close(&m);
    tiny_model_remove(dir);
}

static void descriptors_are_closed(void)
{
    char dir[512];
    REQUIRE(!tiny_model_make(dir, sizeof dir, &(tiny_model_options) { .shards = 4 }));
    int before = dup(0);
    close(before);
    glm4v_model *m = open_with(dir, (glm4v_model_options) { 0 });
    int during = dup(0);
    close(during);
    CHECK(m);
    CHECK_EQ(during, before); /* the files are closed once the weights are in memory */
    glm4v_model_close(&m);
    file_replace(dir, "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    m = open_with(dir, (glm4v_model_options) { 0 });
    CHECK(!m);
    int after = dup(0);
    close(after);
    CHECK_EQ(after, before);
    tiny_model_remove(dir);
}

int main(void)
{
    size_t live = glm4v_mem_live();
    TEST(matrices_hold_the_files_numbers);
    TEST(tied_models_use_the_embedding_as_head);
    TEST(a_head_beside_a_tie_is_used_and_told);
    TEST(names_and_files_do_not_change_what_is_loaded);
    TEST(threads_do_not_change_what_is_loaded);
    TEST(forms_are_as_asked_and_int4_needs_whole_groups);
    TEST(two_stages_hold_what_one_holds);
    TEST(inspect_tells_what_open_tells);
    TEST(the_hash_tells_models_apart);
    TEST(the_name_is_the_folders);
    TEST(the_name_is_utf8_whatever_the_folder_is_called);
    TEST(engine_options_have_ranges);
    TEST(references_keep_a_model_open);
    TEST(smaller_option_structs_are_taken);
    TEST(structs_to_fill_keep_to_their_size);
    TEST(progress_ends_at_the_total_in_the_callers_thread);
    TEST(progress_cancels_and_leaves_nothing);
    TEST(tensors_must_fit_the_configuration);
    TEST(damaged_headers_name_the_tensor);
    TEST(numbers_that_are_not_finite_are_refused_by_place);
    TEST(options_out_of_range_are_refused);
    TEST(a_directory_that_is_not_there_is_named);
    TEST(weights_larger_than_memory_are_refused_before_they_are_taken);
    TEST(random_weights_need_a_configuration_alone);
    TEST(a_change_during_the_load_is_an_error_or_does_no_harm);
    TEST(truncation_at_any_moment_is_survived);
    TEST(changes_after_the_load_do_no_harm);
    TEST(no_model_file_is_mapped);
    TEST(descriptors_are_closed);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    return test_end();
}
