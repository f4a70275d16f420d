/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checkpoints that other programs quantized, made by tests/golden/make_import.py: what is read from
 * them is, to the last bit, scale * (code - zero) as their formats define it; what form it takes in
 * memory; what contradicts or is damaged is refused by name. The plain tensors beside the quantized
 * ones are a function of their name and are written here. */
#define _GNU_SOURCE
#include <inttypes.h>

#include "base/mem.h"
#include "files.h"
#include "forward/context.h"
#include "forward/position.h"
#include "gemm.h"
#include "model/model.h"
#include "test.h"
#include "tiny_model.h"

#define DATA SOURCE_ROOT "/tests/data/import"
#define LAYER "model.language_model.layers."

enum { HIDDEN = 256, FFN = 16, HEADS = 16, HEAD_DIM = 16, VOCAB = 32, PROMPT = 12 };
enum { VISION = 16, PATCH = 2, SIDE = 2, MERGER = 16 };

static const char *const names[] = { "compressed",    "awq",    "gptq",       "gptq-order",
                                     "gptq-v2",       "gptq-8", "gptq-8-128", "fp8",
                                     "compressed-32", "awq-32", "gptq-32",    "gptq-32-order" };
#define N_NAMES (sizeof names / sizeof *names)

static glm4v_error err;
static char logged[1024];

static void take_line(void *user, glm4v_log_level level, const char *line)
{
    (void)user;
    if (level == GLM4V_LOG_WARNING)
        snprintf(logged, sizeof logged, "%s", line);
}

static uint64_t fnv(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* ---- the plain tensors ---- */

typedef struct {
    char name[96];
    int rank;
    int64_t shape[5];
} tensor;

typedef struct {
    tensor t[256];
    int n;
} tensor_list;

static void add(tensor_list *l, const char *prefix, const char *name, int rank,
                const int64_t *shape)
{
    tensor *t = &l->t[l->n++];
    snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    t->rank = rank;
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
}

#define ADD(prefix, name, ...)                                                                     \
    add(l, prefix, name, sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t),                    \
        (const int64_t[]) { __VA_ARGS__ })

static void list_text(tensor_list *l, int layers)
{
    ADD("", "model.language_model.embed_tokens.weight", VOCAB, HIDDEN);
    ADD("", "lm_head.weight", VOCAB, HIDDEN);
    ADD("", "model.language_model.norm.weight", HIDDEN);
    for (int i = 0; i < layers; i++) {
        char p[64];
        snprintf(p, sizeof p, LAYER "%d.", i);
        ADD(p, "input_layernorm.weight", HIDDEN);
        ADD(p, "post_self_attn_layernorm.weight", HIDDEN);
        ADD(p, "post_attention_layernorm.weight", HIDDEN);
        ADD(p, "post_mlp_layernorm.weight", HIDDEN);
        ADD(p, "self_attn.q_proj.weight", HEADS * HEAD_DIM, HIDDEN);
        ADD(p, "self_attn.q_proj.bias", HEADS * HEAD_DIM);
        ADD(p, "self_attn.k_proj.weight", HEAD_DIM, HIDDEN);
        ADD(p, "self_attn.k_proj.bias", HEAD_DIM);
        ADD(p, "self_attn.v_proj.weight", HEAD_DIM, HIDDEN);
        ADD(p, "self_attn.v_proj.bias", HEAD_DIM);
        ADD(p, "self_attn.o_proj.weight", HIDDEN, HEADS * HEAD_DIM);
        ADD(p, "mlp.gate_proj.weight", FFN, HIDDEN);
        ADD(p, "mlp.up_proj.weight", FFN, HIDDEN);
        ADD(p, "mlp.down_proj.weight", HIDDEN, FFN);
    }
}

static void list_vision(tensor_list *l)
{
    const char *v = "model.visual.", *b = "model.visual.blocks.0.", *m = "model.visual.merger.";
    ADD(v, "patch_embed.proj.weight", VISION, 3, 2, PATCH, PATCH);
    ADD(v, "patch_embed.proj.bias", VISION);
    ADD(v, "post_conv_layernorm.weight", VISION);
    ADD(v, "embeddings.position_embedding.weight", SIDE * SIDE, VISION);
    ADD(b, "norm1.weight", VISION);
    ADD(b, "norm2.weight", VISION);
    ADD(b, "attn.qkv.weight", 3 * VISION, VISION);
    ADD(b, "attn.proj.weight", VISION, VISION);
    ADD(b, "mlp.gate_proj.weight", HIDDEN, VISION);
    ADD(b, "mlp.up_proj.weight", HIDDEN, VISION);
    ADD(b, "mlp.down_proj.weight", VISION, HIDDEN);
    ADD(v, "post_layernorm.weight", VISION);
    ADD(v, "downsample.weight", HIDDEN, VISION, 2, 2);
    ADD(v, "downsample.bias", HIDDEN);
    ADD(m, "proj.weight", HIDDEN, HIDDEN);
    ADD(m, "post_projection_norm.weight", HIDDEN);
    ADD(m, "post_projection_norm.bias", HIDDEN);
    ADD(m, "gate_proj.weight", MERGER, HIDDEN);
    ADD(m, "up_proj.weight", MERGER, HIDDEN);
    ADD(m, "down_proj.weight", HIDDEN, MERGER);
}

static uint64_t numbers_of(const tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (uint64_t)t->shape[i];
    return n;
}

/* The n numbers of a plain tensor, as in make_import.py; bf16 holds them. */
static void fill_plain(uint16_t *to, const char *name, uint64_t n)
{
    const uint64_t start = fnv(name, strlen(name));
    const bool norm = strstr(name, "norm") && !strcmp(name + strlen(name) - 6, "weight");
    const float divisor = strstr(name, "embed_tokens") ? 64 : 1024;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = start + i;
        uint32_t bits;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        const float v = (float)((x ^ (x >> 31)) & 0xff) - 128;
        const float value = norm ? 1 + floorf(v / 8) / 128 : v / divisor;
        memcpy(&bits, &value, sizeof bits);
        to[i] = (uint16_t)(bits >> 16);
    }
}

/* Those of l that `quantized` lacks, as bf16; the index of both files. */
static void write_plain(const char *dir, const tensor_list *l, const glm4v_checkpoint *quantized)
{
    static char header[1 << 16], index[1 << 16];
    static uint16_t data[1 << 21];
    size_t n = 8, at = 0, m = 0;
    uint64_t size;
    m += (size_t)snprintf(index, sizeof index, "{\"weight_map\": {");
    for (uint32_t i = 0; i < glm4v_checkpoint_count(quantized); i++)
        m += (size_t)snprintf(index + m, sizeof index - m, "\"%s\": \"model-2.safetensors\", ",
                              glm4v_checkpoint_at(quantized, i)->name);
    for (int i = 0; i < l->n; i++) {
        const tensor *t = &l->t[i];
        if (glm4v_source_exists(quantized, t->name))
            continue;
        n += (size_t)snprintf(header + n, sizeof header - n, "%s\"%s\": {\"dtype\": \"BF16\", ",
                              at ? ", " : "{", t->name);
        for (int k = 0; k < t->rank; k++)
            n += (size_t)snprintf(header + n, sizeof header - n, "%s%" PRId64,
                                  k ? ", " : "\"shape\": [", t->shape[k]);
        size = numbers_of(t);
        n += (size_t)snprintf(header + n, sizeof header - n, "], \"data_offsets\": [%zu, %zu]}",
                              2 * at, 2 * (at + (size_t)size));
        m += (size_t)snprintf(index + m, sizeof index - m, "%s\"%s\": \"model-1.safetensors\"",
                              at ? ", " : "", t->name);
        if (at + size > sizeof data / sizeof *data)
            file_die("too large:", dir);
        fill_plain(data + at, t->name, size);
        at += (size_t)size;
    }
    n += (size_t)snprintf(header + n, sizeof header - n, "}");
    size = n - 8;
    memcpy(header, &size, sizeof size);
    snprintf(index + m, sizeof index - m, "}}");
    FILE *f = fopen(file_path(dir, "model-1.safetensors"), "wb");
    if (!f || fwrite(header, 1, n, f) != n || fwrite(data, 2, at, f) != at || fclose(f))
        file_die("cannot write", dir);
    file_write_text(dir, "model.safetensors.index.json", index);
}

/* ---- a checkpoint in a directory of its own ---- */

static char dir[512];

/* Layers of one of the fixtures. */
static int layers_of(const char *name)
{
    if (!strcmp(name, "compressed-32"))
        return 3;
    return strcmp(name, "compressed") ? 1 : 10;
}

/* Files of name; false, and the test has failed, if they are not there. */
static bool build(const char *name)
{
    static tensor_list l;
    char from[512];
    glm4v_checkpoint *quantized = NULL;
    snprintf(from, sizeof from, DATA "/%s", name);
    l.n = 0;
    list_text(&l, layers_of(name));
    list_vision(&l);
    if (tiny_model_mkdtemp(dir, sizeof dir))
        file_die("no directory for", name);
    file_text weights = file_read(from, "quantized.safetensors");
    file_text config = file_read(from, "config.json");
    file_write(dir, "model-2.safetensors", weights.data, weights.len);
    file_write(dir, "config.json", config.data, config.len);
    free(weights.data);
    free(config.data);
    int rc = glm4v_checkpoint_open_file(&quantized, file_path(dir, "model-2.safetensors"), &err);
    if (!rc)
        write_plain(dir, &l, quantized);
    else
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    glm4v_checkpoint_close(&quantized);
    return !rc;
}

static glm4v_model *open_model(const char *quantization)
{
    glm4v_model *model = NULL;
    const glm4v_model_options options = { .device = "cpu",
                                          .quantization = quantization,
                                          .n_threads = 2,
                                          .weights_only = 1,
                                          .log = take_line };
    memset(&err, 0, sizeof err);
    logged[0] = 0;
    return glm4v_model_open(&model, dir, &options, &err) ? NULL : model;
}

/* ---- what is read ---- */

/* Opens both; closes what it opened on failure. */
static bool open_both(const char *name, glm4v_checkpoint **c, glm4v_quantization_config **q,
                      glm4v_checkpoint **expected)
{
    char path[512];
    snprintf(path, sizeof path, DATA "/%s/expected.safetensors", name);
    if (build(name) && !glm4v_checkpoint_open(c, dir, &err) &&
        !glm4v_quantization_config_read(q, dir, NULL, &err) &&
        !glm4v_checkpoint_open_file(expected, path, &err))
        return true;
    test_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
    return false;
}

/* Shape of MODULE.weight. */
static void shape_of(int64_t shape[2], const char *module)
{
    const bool down = strstr(module, "down_proj");
    shape[0] = down ? HIDDEN : strstr(module, "k_proj") ? HEAD_DIM : FFN;
    shape[1] = down ? FFN : HIDDEN;
}

/* The whole matrix of a module has the sum that is expected; parts of it are parts of it. */
static void check_module(const char *name, const glm4v_checkpoint *c,
                         const glm4v_quantization_config *q, const glm4v_checkpoint *expected,
                         const glm4v_tensor *sum)
{
    static float whole[HIDDEN * HIDDEN], part[HIDDEN * HIDDEN];
    static const int32_t spans[][2] = { { 0, 1 }, { 3, 10 }, { 15, 1 }, { 8, 8 } };
    char weight[160];
    int64_t shape[2];
    uint64_t want;
    glm4v_source s;
    snprintf(weight, sizeof weight, "%s.weight", sum->name);
    shape_of(shape, sum->name);
    const size_t n = (size_t)(shape[0] * shape[1]), width = (size_t)shape[1];
    int rc = glm4v_checkpoint_read(expected, sum, 0, &want, sizeof want, &err);
    if (!rc)
        rc = glm4v_source_find(&s, c, q, &(glm4v_tensor_need) { weight, shape, 2 }, &err);
    if (rc) {
        test_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
        return;
    }
    CHECK(s.kind != GLM4V_SOURCE_PLAIN);
    CHECK_EQ(glm4v_source_read_f32(&s, c, 0, s.rows, whole, &err), 0);
    if (fnv(whole, n * sizeof *whole) != want)
        test_fail(__FILE__, __LINE__, "%s: %s has other values", name, sum->name);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        const int32_t row = spans[i][0], some = spans[i][1];
        CHECK_EQ(glm4v_source_read_f32(&s, c, row, some, part, &err), 0);
        if (memcmp(part, whole + (size_t)row * width, (size_t)some * width * sizeof *part))
            test_fail(__FILE__, __LINE__, "%s: rows %d+%d of %s differ", name, row, some,
                      sum->name);
    }
    glm4v_source_clear(&s);
}

static void every_matrix_has_the_values_its_format_defines(void)
{
    int modules = 0;
    for (size_t i = 0; i < N_NAMES; i++) {
        glm4v_checkpoint *c = NULL, *expected = NULL;
        glm4v_quantization_config *q = NULL;
        if (open_both(names[i], &c, &q, &expected))
            for (uint32_t k = 0; k < glm4v_checkpoint_count(expected); k++) {
                const glm4v_tensor *sum = glm4v_checkpoint_at(expected, k);
                if (strcmp(sum->name, "logits")) {
                    check_module(names[i], c, q, expected, sum);
                    modules++;
                }
            }
        glm4v_checkpoint_close(&expected);
        glm4v_quantization_config_free(&q);
        glm4v_checkpoint_close(&c);
        tiny_model_remove(dir);
    }
    CHECK_EQ(modules, 26 + 4 + 3 + 3 + 3 + 3 + 2 + 3 + 6 + 2 + 2 + 2);
}

/* ---- what is in memory ---- */

/* The f32 numbers that a matrix in memory stands for, its order undone. */
static void unpack(float *w, const glm4v_weight *m)
{
    const glm4v_form_cpu *form = &glm4v_form_of(m->form)->cpu;
    const int32_t K = m->n_in, scales = 16 * glm4v_form_groups(m->form, m->blocks, K);
    static float row[16 * HIDDEN];
    for (int32_t p = 0; p < m->n_out / 16; p++) {
        form->unpack(row, (const char *)m->data + (size_t)p * form->panel_bytes(K),
                     m->scale ? m->scale + p * scales : NULL, m->zero ? m->zero + p * scales : NULL,
                     m->blocks, 16, K);
        for (int32_t i = 0; i < 16; i++)
            for (int32_t k = 0; k < K; k++)
                w[(16 * p + i) * K + (m->order ? m->order[k] : k)] = row[i * K + k];
    }
}

/* What a matrix must be: its form, and what else it holds. */
typedef struct {
    const char *name;
    int layer;
    glm4v_form gate_up, down;
    bool zeros, ordered, blocks;
} expectation;

static void check_matrix(const expectation *e, const glm4v_weight *m, const float *want)
{
    static float found[2 * FFN * HIDDEN];
    const size_t n = (size_t)m->n_out * (size_t)m->n_in;
    unpack(found, m);
    for (size_t i = 0; i < n; i++) {
        float w = want[i];
        if (m->form == GLM4V_FORM_BF16) { /* widened: the nearest bf16 */
            uint32_t bits;
            memcpy(&bits, &w, sizeof bits);
            bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
            memcpy(&w, &bits, sizeof w);
        }
        if (found[i] != w) {
            test_fail(__FILE__, __LINE__, "%s, layer %d: number %zu is %g, expected %g", e->name,
                      e->layer, i, (double)found[i], (double)w);
            return;
        }
    }
}

/* gate and up below one another, or down, of a layer as f32. */
static bool read_module(float *to, const glm4v_checkpoint *c, const glm4v_quantization_config *q,
                        int layer, const char *name)
{
    char weight[160];
    int64_t shape[2];
    glm4v_source s;
    snprintf(weight, sizeof weight, LAYER "%d.mlp.%s.weight", layer, name);
    shape_of(shape, weight);
    int rc = glm4v_source_find(&s, c, q, &(glm4v_tensor_need) { weight, shape, 2 }, &err);
    if (!rc)
        rc = glm4v_source_read_f32(&s, c, 0, s.rows, to, &err);
    glm4v_source_clear(&s);
    CHECK_EQ(rc, 0);
    return !rc;
}

static void check_layer(const expectation *e, const glm4v_model *m, const glm4v_checkpoint *c,
                        const glm4v_quantization_config *q)
{
    static float want[2 * FFN * HIDDEN];
    const glm4v_text_layer *l = &m->layers[e->layer];
    CHECK_STR(glm4v_form_name(l->gate_up.form), glm4v_form_name(e->gate_up));
    CHECK_STR(glm4v_form_name(l->down.form), glm4v_form_name(e->down));
    CHECK_EQ(l->gate_up.zero != NULL, e->zeros);
    CHECK_EQ(l->gate_up.order != NULL, e->ordered);
    CHECK_EQ(l->gate_up.blocks, e->blocks);
    if (l->gate_up.form == e->gate_up && read_module(want, c, q, e->layer, "gate_proj") &&
        read_module(want + FFN * HIDDEN, c, q, e->layer, "up_proj"))
        check_matrix(e, &l->gate_up, want);
    if (l->down.form == e->down && read_module(want, c, q, e->layer, "down_proj"))
        check_matrix(e, &l->down, want);
}

static void matrices_keep_their_codes_where_a_form_holds_them(void)
{
    static const expectation all[] = {
        { "compressed", 0, GLM4V_FORM_INT8, GLM4V_FORM_INT8, false, false, false },
        { "compressed", 1, GLM4V_FORM_INT4, GLM4V_FORM_BF16, false, false, false },
        { "compressed", 2, GLM4V_FORM_INT4, GLM4V_FORM_BF16, true, false, false },
        { "compressed", 3, GLM4V_FORM_INT8, GLM4V_FORM_INT8, false, false, false },
        { "compressed", 4, GLM4V_FORM_FP8, GLM4V_FORM_FP8, false, false, false },
        { "compressed", 5, GLM4V_FORM_FP8, GLM4V_FORM_FP8, false, false, true },
        { "compressed", 6, GLM4V_FORM_INT4, GLM4V_FORM_BF16, false, true, false },
        { "compressed", 7, GLM4V_FORM_BF16, GLM4V_FORM_BF16, false, false, false },
        { "compressed", 8, GLM4V_FORM_INT4_32, GLM4V_FORM_BF16, false, false, false }, /* of 64 */
        { "compressed", 9, GLM4V_FORM_FP8, GLM4V_FORM_FP8, false, false, false },
        { "fp8", 0, GLM4V_FORM_FP8, GLM4V_FORM_FP8, false, false, true },
        { "awq", 0, GLM4V_FORM_INT4, GLM4V_FORM_INT8, true, false, false },
        { "gptq", 0, GLM4V_FORM_INT4, GLM4V_FORM_INT8, false, false, false },
        { "gptq-order", 0, GLM4V_FORM_INT4, GLM4V_FORM_INT8, true, true, false },
        { "gptq-v2", 0, GLM4V_FORM_INT4, GLM4V_FORM_INT8, true, false, false },
        { "gptq-8", 0, GLM4V_FORM_INT8, GLM4V_FORM_INT8, false, false, false },
        { "gptq-8-128", 0, GLM4V_FORM_BF16, GLM4V_FORM_BF16, false, false, false },
        { "compressed-32", 0, GLM4V_FORM_INT4_32, GLM4V_FORM_BF16, false, false, false },
        { "compressed-32", 1, GLM4V_FORM_INT4_32, GLM4V_FORM_BF16, true, false, false },
        { "compressed-32", 2, GLM4V_FORM_INT4_32, GLM4V_FORM_BF16, false, true, false },
        { "awq-32", 0, GLM4V_FORM_INT4_32, GLM4V_FORM_BF16, true, false, false },
        { "gptq-32", 0, GLM4V_FORM_INT4_32, GLM4V_FORM_BF16, false, false, false },
        { "gptq-32-order", 0, GLM4V_FORM_INT4_32, GLM4V_FORM_BF16, true, true, false },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        glm4v_checkpoint *c = NULL, *expected = NULL;
        glm4v_quantization_config *q = NULL;
        glm4v_model *m = NULL;
        if (open_both(all[i].name, &c, &q, &expected)) {
            m = open_model(NULL);
            if (m)
                check_layer(&all[i], m, c, q);
            else
                test_fail(__FILE__, __LINE__, "%s: %s", all[i].name, err.msg);
        }
        glm4v_model_close(&m);
        glm4v_checkpoint_close(&expected);
        glm4v_quantization_config_free(&q);
        glm4v_checkpoint_close(&c);
        tiny_model_remove(dir);
    }
}

/* ---- what is computed ---- */

static void forward(glm4v_model *m, float logits[VOCAB])
{
    int32_t ids[PROMPT] = { 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8 }, position[3 * PROMPT], next;
    const glm4v_prompt prompt = { .ids = ids, .n_ids = PROMPT };
    glm4v_context *context = NULL;
    const glm4v_context_size size = { .slots = 1, .length = 32, .max_rows = 32 };
    CHECK_EQ(glm4v_context_open(&context, m, size, &err), 0);
    glm4v_positions(position, &next, &prompt, &m->config);
    if (context)
        CHECK_EQ(glm4v_prefill(context,
                               &(glm4v_prefill_pass) { .slot = 0,
                                                       .prompt = &prompt,
                                                       .position = position,
                                                       .start = 0,
                                                       .n = PROMPT,
                                                       .vision = NULL },
                               logits, NULL, NULL, &err),
                 0);
    glm4v_context_close(&context);
}

/* Normalised error of the logits against those of the reference; -1: it could not be had. */
static double error_of(const char *name, const char *quantization)
{
    char path[512];
    glm4v_checkpoint *expected = NULL;
    float logits[VOCAB] = { 0 }, want[PROMPT * VOCAB];
    double error = 0, sum = 0;
    snprintf(path, sizeof path, DATA "/%s/expected.safetensors", name);
    glm4v_model *m = build(name) ? open_model(quantization) : NULL;
    if (!m) {
        test_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
        tiny_model_remove(dir);
        return -1;
    }
    forward(m, logits);
    CHECK_EQ(glm4v_checkpoint_open_file(&expected, path, &err), 0);
    CHECK_EQ(glm4v_checkpoint_read_f32(expected, glm4v_checkpoint_find(expected, "logits"), 0, want,
                                       PROMPT * VOCAB, &err),
             0);
    for (int i = 0; i < VOCAB; i++) {
        const double w = want[(PROMPT - 1) * VOCAB + i];
        error += (logits[i] - w) * (logits[i] - w);
        sum += w * w;
    }
    glm4v_checkpoint_close(&expected);
    glm4v_model_close(&m);
    tiny_model_remove(dir);
    return error / sum;
}

/* As fp32 nothing is rounded after dequantizing: the reference's numbers. */
static void logits_are_the_references(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        const double error =
            error_of(names[i], "text=fp32,vision=fp32,embedding=fp32,lm-head=fp32");
        printf("# %s as fp32: %g\n", names[i], error);
        CHECK(error >= 0 && error < 1e-8);
    }
}

/* As stored the weights are the same; activations are rounded to int8 or bf16. */
static void logits_as_stored_are_close(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        const double error = error_of(names[i], NULL);
        printf("# %s as stored: %g\n", names[i], error);
        CHECK(error >= 0 && error < 1e-3);
    }
}

static void the_option_converts_from_any_form(void)
{
    if (build("gptq-order")) {
        glm4v_model *m = open_model("text=int8");
        REQUIRE(m);
        CHECK_EQ(m->layers[0].gate_up.form, GLM4V_FORM_INT8);
        CHECK(!m->layers[0].gate_up.order);
        CHECK_STR(m->info.form[GLM4V_PART_TEXT], "int8");
        glm4v_model_close(&m);
        m = open_model("text=int4"); /* what is int4 already is left alone */
        REQUIRE(m);
        CHECK_EQ(m->layers[0].gate_up.form, GLM4V_FORM_INT4);
        CHECK(m->layers[0].gate_up.order);
        glm4v_model_close(&m);
    }
    tiny_model_remove(dir);
}

static void what_is_widened_is_told(void)
{
    if (build("gptq-8-128")) {
        glm4v_model *m = open_model(NULL);
        REQUIRE(m);
        CHECK_CONTAINS(logged, "8 bits in groups of 128");
        CHECK_CONTAINS(logged, "gate_proj.qweight");
        glm4v_model_close(&m);
    }
    tiny_model_remove(dir);
    if (build("awq")) { /* of q, k and v only k is quantized */
        glm4v_model *m = open_model(NULL);
        REQUIRE(m);
        CHECK_CONTAINS(logged, "beside rows that are not");
        CHECK_EQ(m->layers[0].qkv.form, GLM4V_FORM_BF16);
        glm4v_model_close(&m);
    }
    tiny_model_remove(dir);
}

static void a_configuration_may_be_a_file_of_its_own(void)
{
    static const char *const files[][3] = {
        { "gptq", "quantize_config.json",
          "{\"bits\": 4, \"group_size\": 128, \"desc_act\": false, \"sym\": true}" },
        { "awq", "quant_config.json",
          "{\"zero_point\": true, \"q_group_size\": 128, \"w_bit\": 4, \"version\": \"GEMM\"}" },
    };
    for (size_t i = 0; i < 2; i++) {
        if (build(files[i][0])) {
            file_replace(dir, "config.json", "\"quantization_config\"", "\"other\"");
            file_write_text(dir, files[i][1], files[i][2]);
            glm4v_model *m = open_model(NULL);
            REQUIRE(m);
            CHECK_EQ(m->layers[0].gate_up.form, GLM4V_FORM_INT4);
            CHECK_STR(m->info.stored_layout, i ? "awq gemm" : "gptq");
            glm4v_model_close(&m);
        }
        tiny_model_remove(dir);
    }
}

/* ---- what is refused ---- */

/* Overwrite bytes of a tensor. */
static void change_tensor(const char *name, size_t at, const void *bytes, size_t n)
{
    glm4v_checkpoint *c = NULL;
    if (glm4v_checkpoint_open(&c, dir, &err))
        file_die("cannot open", dir);
    const glm4v_tensor *t = glm4v_checkpoint_find(c, name);
    file_text f = file_read(dir, "model-2.safetensors");
    memcpy(f.data + t->offset + at, bytes, n);
    glm4v_checkpoint_close(&c);
    file_write(dir, "model-2.safetensors", f.data, f.len);
    free(f.data);
}

/* The codes would serve, a scale for each block of numbers does not. */
static void fp8_in_blocks_is_not_fp8_dynamic(void)
{
    static const char *const stored[] = { "fp8", "compressed" };
    for (size_t i = 0; i < 2; i++) {
        if (build(stored[i])) {
            glm4v_model *m = open_model("text=fp8-dynamic");
            CHECK(!m);
            CHECK_EQ(err.code, GLM4V_ERR_UNSUPPORTED);
            CHECK_CONTAINS(err.msg, i ? "layers.5." : "layers.0.");
            CHECK_CONTAINS(err.msg, "choose fp8, or leave text out");
            glm4v_model_close(&m);
            m = open_model("text=fp8");
            REQUIRE(m);
            CHECK(m->layers[i ? 5 : 0].gate_up.blocks);
            glm4v_model_close(&m);
        }
        tiny_model_remove(dir);
    }
}

static void configurations_that_contradict_the_tensors_are_refused(void)
{
    static const struct {
        const char *name, *from, *to;
        int code;
        const char *said;
    } cases[] = {
        { "awq", "\"quantization_config\"", "\"other\"", GLM4V_ERR_FORMAT,
          "no \"quantization_config\"" },
        { "awq", "\"awq\"", "\"gptq\"", GLM4V_ERR_FORMAT, "[256, 2], expected [32, 16]" },
        { "gptq", "\"gptq\"", "\"awq\"", GLM4V_ERR_FORMAT, "[32, 16], expected [256, 2]" },
        { "gptq", "\"group_size\": 128", "\"group_size\": 64", GLM4V_ERR_FORMAT,
          "scales\" is [2, 16], expected [4, 16]" },
        { "gptq", "\"bits\": 4", "\"bits\": 8", GLM4V_ERR_FORMAT, "expected [64, 16]" },
        { "gptq", "\"desc_act\": false", "\"desc_act\": true", GLM4V_ERR_FORMAT,
          "up_proj.g_idx\" is missing" },
        { "gptq-order", "\"sym\": false", "\"sym\": true", GLM4V_ERR_FORMAT, "symmetric (8)" },
        { "fp8", "\"fp8\"", "\"awq\"", GLM4V_ERR_FORMAT, "gate_proj.weight\" is quantized (fp8)" },
        { "compressed", "\"lm_head\"", "\"re:.*layers.1.*\"", GLM4V_ERR_FORMAT,
          "layers.1.mlp.gate_proj.weight_packed\" is quantized" },
        { "compressed", "\"lm_head\"", "\"re:.*layers.0.mlp.down.*\"", GLM4V_ERR_FORMAT,
          "says that the module is not" },
        { "compressed", "(gate|up)_proj$", "(gate|up|q)_proj$", GLM4V_ERR_FORMAT,
          "q_proj.weight\" is BF16" },
        { "compressed", "\"symmetric\": true", "\"symmetric\": false", GLM4V_ERR_FORMAT,
          "weight_zero_point\" is missing" },
        { "compressed", "\"strategy\": \"channel\"", "\"strategy\": \"tensor\"", GLM4V_ERR_FORMAT,
          "[16, 1], expected [1, 1]" },
        /* Two groups a row either way: only the rule tells. */
        { "compressed", "\"group_size\": 128", "\"group_size\": 144", GLM4V_ERR_FORMAT,
          "256 inputs, which is not a multiple of the \"group_size\" 144" },
        { "awq", "\"group_size\": 128", "\"group_size\": 136", GLM4V_ERR_FORMAT,
          "256 inputs, which is not a multiple of the \"group_size\" 136" },
        { "compressed", "\"compressed-tensors\"", "\"hqq\"", GLM4V_ERR_UNSUPPORTED, "\"hqq\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (build(cases[i].name)) {
            file_replace(dir, "config.json", cases[i].from, cases[i].to);
            glm4v_model *m = open_model(NULL);
            CHECK(!m);
            CHECK_EQ(err.code, cases[i].code);
            CHECK_CONTAINS(err.msg, cases[i].said);
            glm4v_model_close(&m);
        }
        tiny_model_remove(dir);
    }
}

static void damaged_tensors_are_refused_by_name(void)
{
    static const struct {
        const char *name, *tensor, *bytes;
        size_t at, n;
        const char *said;
    } cases[] = {
        { "gptq-order", LAYER "0.mlp.gate_proj.g_idx", "\2\0\0\0", 40, 4,
          "input 10 is in group 2" },
        { "gptq-order", LAYER "0.mlp.gate_proj.g_idx", "\xfe\xff\xff\xff", 0, 4, "in group -2" },
        { "gptq-order", LAYER "0.mlp.gate_proj.scales", "\0\x7c", 0, 2,
          "a scale of output 0 is inf" },
        { "awq", LAYER "0.mlp.up_proj.scales", "\0\x7e", 2, 2, "a scale of output 1 is" },
        { "compressed", LAYER "4.mlp.gate_proj.weight", "\x7f", 9, 1, "contains NaN" },
        { "compressed", LAYER "1.mlp.up_proj.weight_shape", "\7", 0, 1, "says [7, 256]" },
        { "compressed", LAYER "6.mlp.up_proj.weight_g_idx", "\7", 0, 1, "input 0 is in group 7" },
        { "compressed", LAYER "3.mlp.up_proj.weight_scale", "\0\0\x80\x7f", 4, 4,
          "a scale of output 1 is inf" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (build(cases[i].name)) {
            change_tensor(cases[i].tensor, cases[i].at, cases[i].bytes, cases[i].n);
            glm4v_model *m = open_model("text=bf16");
            CHECK(!m);
            CHECK_EQ(err.code, GLM4V_ERR_FORMAT);
            CHECK_CONTAINS(err.msg, cases[i].said);
            glm4v_model_close(&m);
        }
        tiny_model_remove(dir);
    }
}

/* The first input of up_proj's order that is in that group. */
static size_t first_of_group(int32_t group)
{
    glm4v_checkpoint *c = NULL;
    int32_t g_idx[HIDDEN];
    size_t k = 0;
    if (glm4v_checkpoint_open(&c, dir, &err) ||
        glm4v_checkpoint_read(c, glm4v_checkpoint_find(c, LAYER "0.mlp.up_proj.g_idx"), 0, g_idx,
                              sizeof g_idx, &err))
        file_die("cannot read", dir);
    glm4v_checkpoint_close(&c);
    while (g_idx[k] != group)
        k++;
    return k;
}

/* An order that fills groups unevenly, or that two sources of one matrix do not share. */
static void orders_without_a_form_are_widened(void)
{
    for (int even = 0; even < 2; even++) {
        if (build("gptq-order")) {
            const size_t zero = first_of_group(0), one = first_of_group(1);
            change_tensor(LAYER "0.mlp.up_proj.g_idx", 4 * zero, "\1\0\0\0", 4);
            if (even)
                change_tensor(LAYER "0.mlp.up_proj.g_idx", 4 * one, "\0\0\0\0", 4);
            glm4v_model *m = open_model(NULL);
            REQUIRE(m);
            CHECK_EQ(m->layers[0].gate_up.form, GLM4V_FORM_BF16);
            CHECK_CONTAINS(logged, even ? "in two ways" : "unequal size");
            glm4v_model_close(&m);
        }
        tiny_model_remove(dir);
    }
}

/* Memory that is out at any call is an error that leaves nothing behind. */
static void allocations_that_fail_are_errors(void)
{
    static const char *const some[] = { "gptq-order", "gptq-8-128" };
    for (size_t i = 0; i < 2; i++) {
        uint64_t nth = 1;
        glm4v_model *m = NULL;
        if (!build(some[i]))
            continue;
        const size_t live = glm4v_mem_live();
        for (bool done = false; !done; nth++) {
            glm4v_mem_fail_at(nth, false);
            m = open_model(NULL);
            glm4v_mem_fail_at(0, false);
            done = m;
            if (!m && err.code != GLM4V_ERR_NOMEM) {
                test_fail(__FILE__, __LINE__, "call %" PRIu64 ": code %d, %s", nth, err.code,
                          err.msg);
                done = true;
            }
            glm4v_model_close(&m);
            CHECK_EQ(glm4v_mem_live(), live);
        }
        CHECK(nth > 50);
        tiny_model_remove(dir);
    }
}

int main(void)
{
    TEST(every_matrix_has_the_values_its_format_defines);
    TEST(matrices_keep_their_codes_where_a_form_holds_them);
    TEST(logits_are_the_references);
    TEST(logits_as_stored_are_close);
    TEST(the_option_converts_from_any_form);
    TEST(what_is_widened_is_told);
    TEST(a_configuration_may_be_a_file_of_its_own);
    TEST(fp8_in_blocks_is_not_fp8_dynamic);
    TEST(configurations_that_contradict_the_tensors_are_refused);
    TEST(damaged_tensors_are_refused_by_name);
    TEST(orders_without_a_form_are_widened);
    TEST(allocations_that_fail_are_errors);
    return test_end();
}
