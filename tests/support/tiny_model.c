/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tiny model's writer. Weights are a function of (seed, name, index), so that dtype, sharding
 * and naming do not change them. */
#define _GNU_SOURCE
#include "tiny_model_priv.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMP_NAME "glm4v-tiny-"
#define MAX_TENSORS 96

/* ---- weights ---- */

typedef struct {
    char name[96];   /* in the file */
    char source[96]; /* the name that decides the values */
    uint64_t start;  /* element of the source where this tensor begins */
    int rank;
    int64_t shape[5];
} tensor;

typedef struct {
    tensor t[MAX_TENSORS];
    int n;
    const tiny_model_options *options;
} tensor_list;

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t hash_name(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

/* Mean and deviation that keep activations near 1 through the layers. */
static void scale_of(const char *name, float *mean, float *deviation)
{
    static const struct {
        const char *word;
        float mean, deviation;
    } table[] = {
        { "norm", 1, 0.1f },
        { "bias", 0, 0.1f },
        { "embed_tokens", 0, 1 },
        { "position_embedding", 0, 0.5f },
        { "cls_embedding", 0, 0.5f },
        { "patch_embed", 0, 0.03f },
        { "lm_head", 0, 0.25f },
        { "output_layer", 0, 0.25f },
        { "word_embeddings", 0, 1 },
        { "boi", 0, 8 },
        { "eoi", 0, 8 },
    };
    *mean = 0, *deviation = 0.09f; /* about 1 / sqrt(128) */
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strstr(name, table[i].word)) {
            *mean = strcmp(table[i].word, "norm") || !strstr(name, "bias") ? table[i].mean : 0;
            *deviation = table[i].deviation;
            return;
        }
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* What the elements of one tensor have in common. */
typedef struct {
    uint64_t key;
    float mean, deviation;
} law;

static law law_of(uint64_t seed, const char *name)
{
    law l = { .key = mix((seed ? seed : 1) ^ hash_name(name)) };
    scale_of(name, &l.mean, &l.deviation);
    return l;
}

static float draw(const law *l, uint64_t i)
{
    uint64_t r = mix(l->key + i);
    float sum = 0; /* of four uniform numbers: near enough to normal */
    for (int k = 0; k < 4; k++)
        sum += (float)(r >> (16 * k) & 0xffff) / 65536.0f;
    float value = l->mean + l->deviation * (sum - 2) * 1.7320508f;
    uint32_t u = bits_of(value); /* to bf16, nearest even */
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&value, &u, sizeof value);
    return fabsf(value) < 0x1p-16f ? 0 : value; /* below, f16 would not be exact */
}

float tiny_model_value(uint64_t seed, const char *name, uint64_t i)
{
    law l = law_of(seed, name);
    return draw(&l, i);
}

static uint16_t to_f16(float value)
{
    uint32_t u = bits_of(value), sign = u >> 16 & 0x8000, mantissa = (u & 0x7fffff) | 0x800000;
    int exponent = (int)(u >> 23 & 255) - 127;
    if (value == 0)
        return (uint16_t)sign;
    if (exponent < -14) /* subnormal */
        return (uint16_t)(sign | mantissa >> (-exponent - 1));
    return (uint16_t)(sign | (uint32_t)(exponent + 15) << 10 | (mantissa & 0x7fffff) >> 13);
}

static uint64_t count_of(const tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (uint64_t)t->shape[i];
    return n;
}

/* The names that other programs give: without a part of the prefix, or with another. */
static void rename_tensor(char *out, size_t size, const char *name, const tiny_model_options *o)
{
    const char *text = o->short_prefix ? "model." : "language_model.model.";
    if (!o->short_prefix && !o->outer_prefix)
        snprintf(out, size, "%s", name);
    else if (!strncmp(name, "lm_head", 7))
        snprintf(out, size, "%s%s", o->outer_prefix ? "language_model." : "", name);
    else if (!strncmp(name, "model.language_model.", 21))
        snprintf(out, size, "%s%s", text, name + 21);
    else
        snprintf(out, size, "%s", name + 6); /* model.visual. -> visual. */
}

/* Append one tensor. The zero-terminated shape follows. */
static tensor *add(tensor_list *list, const char *name, ...)
{
    tensor *t = &list->t[list->n++];
    *t = (tensor) { .rank = 0 };
    snprintf(t->source, sizeof t->source, "%s", name);
    rename_tensor(t->name, sizeof t->name, name, list->options);
    va_list args;
    va_start(args, name);
    for (int64_t d; (d = va_arg(args, int)) != 0;)
        t->shape[t->rank++] = d;
    va_end(args);
    return t;
}

static void add_text_layer(tensor_list *list, int layer)
{
    char name[96];
    const bool ocr = list->options->glm_ocr;
    int D = TINY_HIDDEN, F = TINY_FFN, q = (ocr ? TINY_OCR_HEADS : TINY_HEADS) * TINY_HEAD_DIM,
        kv = (ocr ? TINY_OCR_KV_HEADS : TINY_KV_HEADS) * TINY_HEAD_DIM;
#define NAME(s)                                                                                    \
    (snprintf(name, sizeof name, "model.language_model.layers.%d." s ".weight", layer), name)
#define BIAS(s)                                                                                    \
    (snprintf(name, sizeof name, "model.language_model.layers.%d." s ".bias", layer), name)
    add(list, NAME("input_layernorm"), D, 0);
    add(list, NAME("self_attn.q_proj"), q, D, 0);
    add(list, NAME("self_attn.k_proj"), kv, D, 0);
    add(list, NAME("self_attn.v_proj"), kv, D, 0);
    if (!ocr) {
        add(list, BIAS("self_attn.q_proj"), q, 0);
        add(list, BIAS("self_attn.k_proj"), kv, 0);
        add(list, BIAS("self_attn.v_proj"), kv, 0);
    }
    add(list, NAME("self_attn.o_proj"), D, q, 0);
    add(list, NAME("post_self_attn_layernorm"), D, 0);
    add(list, NAME("post_attention_layernorm"), D, 0);
    if (list->options->split_gate_up) {
        tensor *gate = add(list, NAME("mlp.gate_proj"), F, D, 0);
        tensor *up = add(list, NAME("mlp.up_proj"), F, D, 0);
        snprintf(gate->source, sizeof gate->source, "%s", NAME("mlp.gate_up_proj"));
        snprintf(up->source, sizeof up->source, "%s", name);
        up->start = (uint64_t)F * (uint64_t)D;
    } else {
        add(list, NAME("mlp.gate_up_proj"), 2 * F, D, 0);
    }
    add(list, NAME("mlp.down_proj"), D, F, 0);
    add(list, NAME("post_mlp_layernorm"), D, 0);
#undef NAME
#undef BIAS
}

/* What a block of glm_ocr has beside those of glm4v. */
static void add_ocr_block(tensor_list *list, int layer)
{
    char name[96];
    int H = TINY_VISION_HIDDEN, F = TINY_VISION_FFN, size = H / TINY_VISION_HEADS;
#define NAME(s) (snprintf(name, sizeof name, "model.visual.blocks.%d." s, layer), name)
    add(list, NAME("attn.qkv.bias"), 3 * H, 0);
    add(list, NAME("attn.proj.bias"), H, 0);
    add(list, NAME("attn.q_norm.weight"), size, 0);
    add(list, NAME("attn.k_norm.weight"), size, 0);
    add(list, NAME("mlp.gate_proj.bias"), F, 0);
    add(list, NAME("mlp.up_proj.bias"), F, 0);
    add(list, NAME("mlp.down_proj.bias"), H, 0);
#undef NAME
}

/* The MTP layer: a text layer, and what is around it. */
static void add_next_layer(tensor_list *list)
{
    char name[96];
    int D = TINY_HIDDEN;
#define NAME(s)                                                                                    \
    (snprintf(name, sizeof name, "model.language_model.layers.%d." s ".weight", TINY_LAYERS), name)
    add_text_layer(list, TINY_LAYERS);
    add(list, NAME("enorm"), D, 0);
    add(list, NAME("hnorm"), D, 0);
    add(list, NAME("eh_proj"), D, 2 * D, 0);
    add(list, NAME("shared_head.norm"), D, 0);
    add(list, NAME("shared_head.head"), TINY_VOCAB, D, 0);
    add(list, NAME("embed_tokens"), TINY_VOCAB, D, 0);
#undef NAME
}

static void add_vision(tensor_list *list)
{
    char name[96];
    const bool ocr = list->options->glm_ocr;
    int H = TINY_VISION_HIDDEN, D = TINY_HIDDEN, F = ocr ? 3 * D : TINY_MERGER_FFN,
        B = ocr ? TINY_VISION_FFN : D;
#define NAME(s) (snprintf(name, sizeof name, "model.visual.blocks.%d." s ".weight", layer), name)
    add(list, "model.visual.patch_embed.proj.weight", H, 3, 2, TINY_PATCH, TINY_PATCH, 0);
    add(list, "model.visual.patch_embed.proj.bias", H, 0);
    if (!ocr) {
        add(list, "model.visual.post_conv_layernorm.weight", H, 0);
        add(list, "model.visual.embeddings.position_embedding.weight",
            TINY_TABLE_SIDE * TINY_TABLE_SIDE, H, 0);
    }
    for (int layer = 0; layer < TINY_VISION_LAYERS; layer++) {
        add(list, NAME("norm1"), H, 0);
        add(list, NAME("norm2"), H, 0);
        add(list, NAME("attn.qkv"), 3 * H, H, 0);
        add(list, NAME("attn.proj"), H, H, 0);
        add(list, NAME("mlp.gate_proj"), B, H, 0);
        add(list, NAME("mlp.up_proj"), B, H, 0);
        add(list, NAME("mlp.down_proj"), H, B, 0);
        if (ocr)
            add_ocr_block(list, layer);
    }
    add(list, "model.visual.post_layernorm.weight", H, 0);
    add(list, "model.visual.downsample.weight", D, H, 2, 2, 0);
    add(list, "model.visual.downsample.bias", D, 0);
    add(list, "model.visual.merger.proj.weight", D, D, 0);
    add(list, "model.visual.merger.post_projection_norm.weight", D, 0);
    add(list, "model.visual.merger.post_projection_norm.bias", D, 0);
    add(list, "model.visual.merger.gate_proj.weight", F, D, 0);
    add(list, "model.visual.merger.up_proj.weight", F, D, 0);
    add(list, "model.visual.merger.down_proj.weight", D, F, 0);
#undef NAME
}

#define TRANSFORMER "transformer."

static void add_chatglm_layer(tensor_list *list, int layer)
{
    char name[96];
    int D = TINY_HIDDEN, F = TINY_FFN, q = TINY_HEADS * TINY_HEAD_DIM,
        qkv = q + 2 * TINY_KV_HEADS * TINY_HEAD_DIM;
#define NAME(s) (snprintf(name, sizeof name, TRANSFORMER "encoder.layers.%d." s, layer), name)
    add(list, NAME("input_layernorm.weight"), D, 0);
    add(list, NAME("self_attention.query_key_value.weight"), qkv, D, 0);
    add(list, NAME("self_attention.query_key_value.bias"), qkv, 0);
    add(list, NAME("self_attention.dense.weight"), D, q, 0);
    add(list, NAME("post_attention_layernorm.weight"), D, 0);
    add(list, NAME("mlp.dense_h_to_4h.weight"), 2 * F, D, 0);
    add(list, NAME("mlp.dense_4h_to_h.weight"), D, F, 0);
#undef NAME
}

static void add_chatglm_block(tensor_list *list, int layer)
{
    char name[96];
    int H = TINY_VISION_HIDDEN, F = TINY_VISION_FFN;
#define NAME(s)                                                                                    \
    (snprintf(name, sizeof name, TRANSFORMER "vision.transformer.layers.%d." s, layer), name)
    add(list, NAME("input_layernorm.weight"), H, 0);
    add(list, NAME("input_layernorm.bias"), H, 0);
    add(list, NAME("attention.query_key_value.weight"), 3 * H, H, 0);
    add(list, NAME("attention.query_key_value.bias"), 3 * H, 0);
    add(list, NAME("attention.dense.weight"), H, H, 0);
    add(list, NAME("attention.dense.bias"), H, 0);
    add(list, NAME("post_attention_layernorm.weight"), H, 0);
    add(list, NAME("post_attention_layernorm.bias"), H, 0);
    add(list, NAME("mlp.fc1.weight"), F, H, 0);
    add(list, NAME("mlp.fc1.bias"), F, 0);
    add(list, NAME("mlp.fc2.weight"), H, F, 0);
    add(list, NAME("mlp.fc2.bias"), H, 0);
#undef NAME
}

static void list_chatglm_tensors(tensor_list *list)
{
    int H = TINY_VISION_HIDDEN, D = TINY_HIDDEN, F = TINY_FFN;
#define VISION TRANSFORMER "vision."
    add(list, TRANSFORMER "embedding.word_embeddings.weight", TINY_VOCAB, D, 0);
    for (int i = 0; i < TINY_LAYERS; i++)
        add_chatglm_layer(list, i);
    add(list, TRANSFORMER "encoder.final_layernorm.weight", D, 0);
    if (!list->options->tied)
        add(list, TRANSFORMER "output_layer.weight", TINY_VOCAB, D, 0);
    add(list, TRANSFORMER "rotary_pos_emb.inv_freq", TINY_HEAD_DIM / 4, 0);
    add(list, VISION "patch_embedding.proj.weight", H, 3, TINY_PATCH, TINY_PATCH, 0);
    add(list, VISION "patch_embedding.proj.bias", H, 0);
    add(list, VISION "patch_embedding.cls_embedding", 1, H, 0);
    add(list, VISION "patch_embedding.position_embedding.weight",
        TINY_TABLE_SIDE * TINY_TABLE_SIDE + 1, H, 0);
    for (int i = 0; i < TINY_VISION_LAYERS; i++)
        add_chatglm_block(list, i);
    add(list, VISION "conv.weight", D, H, 2, 2, 0);
    add(list, VISION "conv.bias", D, 0);
    add(list, VISION "linear_proj.linear_proj.weight", D, D, 0);
    add(list, VISION "linear_proj.norm1.weight", D, 0);
    add(list, VISION "linear_proj.norm1.bias", D, 0);
    add(list, VISION "linear_proj.gate_proj.weight", F, D, 0);
    add(list, VISION "linear_proj.dense_h_to_4h.weight", F, D, 0);
    add(list, VISION "linear_proj.dense_4h_to_h.weight", D, F, 0);
    add(list, VISION "boi", 1, 1, D, 0);
    add(list, VISION "eoi", 1, 1, D, 0);
#undef VISION
}

static void list_tensors(tensor_list *list)
{
    add(list, "model.language_model.embed_tokens.weight", TINY_VOCAB, TINY_HIDDEN, 0);
    for (int i = 0; i < TINY_LAYERS; i++)
        add_text_layer(list, i);
    if (list->options->glm_ocr && !list->options->resaved)
        add_next_layer(list);
    add(list, "model.language_model.norm.weight", TINY_HIDDEN, 0);
    if (!list->options->tied)
        add(list, "lm_head.weight", TINY_VOCAB, TINY_HIDDEN, 0);
    add_vision(list);
}

/* ---- files ---- */

FILE *tiny_create(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        perror(path);
    return f;
}

int tiny_finish(FILE *f, const char *name)
{
    int bad = ferror(f);
    if (fclose(f) || bad) {
        fprintf(stderr, "%s: cannot be written\n", name);
        return -1;
    }
    return 0;
}

static void put_tensor(FILE *f, const tensor *t, const tiny_model_options *o)
{
    uint64_t n = count_of(t);
    law l = law_of(o->seed, t->source);
    for (uint64_t i = 0; i < n; i++) {
        float value = draw(&l, t->start + i);
        uint32_t bits = bits_of(value);
        uint16_t half = o->dtype == TINY_F16 ? to_f16(value) : (uint16_t)(bits >> 16);
        if (o->dtype == TINY_F32)
            fwrite(&bits, 4, 1, f);
        else
            fwrite(&half, 2, 1, f);
    }
}

static int write_shard(const char *dir, const char *name, const tensor *t, int n,
                       const tiny_model_options *o)
{
    static const char *const dtypes[] = { "BF16", "F32", "F16" };
    char header[32768];
    size_t len = (size_t)snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pt\"}");
    uint64_t offset = 0;
    for (int i = 0; i < n; i++) {
        uint64_t bytes = count_of(&t[i]) * (o->dtype == TINY_F32 ? 4 : 2);
        len +=
            (size_t)snprintf(header + len, sizeof header - len,
                             ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t[i].name, dtypes[o->dtype]);
        for (int d = 0; d < t[i].rank; d++)
            len += (size_t)snprintf(header + len, sizeof header - len, "%s%" PRId64, d ? "," : "",
                                    t[i].shape[d]);
        len += (size_t)snprintf(header + len, sizeof header - len,
                                "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", offset,
                                offset + bytes);
        offset += bytes;
    }
    len += (size_t)snprintf(header + len, sizeof header - len, "}");
    while (len % 8)
        header[len++] = ' ';
    FILE *f = tiny_create(dir, name);
    if (!f)
        return -1;
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)((uint64_t)len >> (8 * i));
    fwrite(size, 1, 8, f);
    fwrite(header, 1, len, f);
    for (int i = 0; i < n; i++)
        put_tensor(f, &t[i], o);
    return tiny_finish(f, name);
}

static int write_weights(const char *dir, const tiny_model_options *o)
{
    static _Thread_local tensor_list list;
    list = (tensor_list) { .options = o };
    if (o->chatglm4v)
        list_chatglm_tensors(&list);
    else
        list_tensors(&list);
    if (o->shards <= 1)
        return write_shard(dir, "model.safetensors", list.t, list.n, o);
    FILE *f = tiny_create(dir, "model.safetensors.index.json");
    if (!f)
        return -1;
    uint64_t total = 0;
    for (int i = 0; i < list.n; i++)
        total += count_of(&list.t[i]) * (o->dtype == TINY_F32 ? 4 : 2);
    fprintf(f, "{\n  \"metadata\": {\"total_size\": %" PRIu64 "},\n  \"weight_map\": {", total);
    int rc = 0;
    for (int s = 0; s < o->shards; s++) {
        int first = list.n * s / o->shards, last = list.n * (s + 1) / o->shards;
        char name[64];
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, o->shards);
        for (int i = first; i < last; i++)
            fprintf(f, "%s\n    \"%s\": \"%s\"", i ? "," : "", list.t[i].name, name);
        rc |= write_shard(dir, name, list.t + first, last - first, o);
    }
    fprintf(f, "\n  }\n}\n");
    return tiny_finish(f, "model.safetensors.index.json") | rc;
}

/* ---- configuration ---- */

static void put_text_keys(FILE *f, const char *indent)
{
    fprintf(
        f,
        "%s\"attention_bias\": true,\n%s\"hidden_act\": \"silu\",\n%s\"hidden_size\": %d,\n"
        "%s\"intermediate_size\": %d,\n%s\"max_position_embeddings\": "
        "4096,\n%s\"num_attention_heads\": %d,\n"
        "%s\"num_hidden_layers\": %d,\n%s\"num_key_value_heads\": %d,\n%s\"rms_norm_eps\": 1e-05,\n"
        "%s\"vocab_size\": %d,\n",
        indent, indent, indent, TINY_HIDDEN, indent, TINY_FFN, indent, indent, TINY_HEADS, indent,
        TINY_LAYERS, indent, TINY_KV_HEADS, indent, indent, TINY_VOCAB);
}

static int write_config(const char *dir, const tiny_model_options *o)
{
    FILE *f = tiny_create(dir, "config.json");
    if (!f)
        return -1;
    static const char *const dtypes[] = { "bfloat16", "float32", "float16" };
    int image = o->glm45 ? TINY_IMAGE_45 : TINY_IMAGE_41V;
    fprintf(f,
            "{\n  \"architectures\": [\"Glm4vForConditionalGeneration\"],\n  \"model_type\": "
            "\"glm4v\",\n"
            "  \"pad_token_id\": %d,\n  \"eos_token_id\": [%d, %d, %d",
            TINY_ENDOFTEXT, TINY_ENDOFTEXT, TINY_USER, TINY_OBSERVATION);
    if (!o->glm45)
        fprintf(f, ", %d", TINY_IMAGE_41V + 5); /* </answer> */
    fprintf(f, "],\n");
    fprintf(f,
            "  \"image_start_token_id\": %d,\n  \"image_end_token_id\": %d,\n  "
            "\"video_start_token_id\": %d,\n"
            "  \"video_end_token_id\": %d,\n  \"image_token_id\": %d,\n  \"video_token_id\": %d,\n",
            TINY_BEGIN_IMAGE, TINY_END_IMAGE, TINY_BEGIN_VIDEO, TINY_END_VIDEO, image, image + 1);
    fprintf(f, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n",
            o->tied ? "true" : "false", dtypes[o->dtype]);
    if (o->flat_config) {
        put_text_keys(f, "  ");
        fprintf(f, "  \"rope_theta\": 10000.0,\n  \"partial_rotary_factor\": 0.5,\n"
                   "  \"rope_scaling\": {\"type\": \"default\", \"mrope_section\": [4, 6, 6]},\n");
    } else {
        fprintf(f, "  \"text_config\": {\n    \"model_type\": \"glm4v_text\",\n");
        put_text_keys(f, "    ");
        fprintf(f, "    \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000.0, "
                   "\"partial_rotary_factor\": 0.5, \"mrope_section\": [4, 6, 6]}\n  },\n");
    }
    fprintf(f,
            "  \"vision_config\": {\n    \"model_type\": \"glm4v_vision\",\n    "
            "\"attention_bias\": false,\n"
            "    \"depth\": %d,\n    \"hidden_act\": \"silu\",\n    \"hidden_size\": %d,\n    "
            "\"image_size\": %d,\n"
            "    \"in_channels\": 3,\n    \"intermediate_size\": %d,\n    \"num_heads\": %d,\n"
            "    \"out_hidden_size\": %d,\n    \"patch_size\": %d,\n    \"rms_norm_eps\": 1e-05,\n"
            "    \"spatial_merge_size\": 2,\n    \"temporal_patch_size\": 2\n  }\n}\n",
            TINY_VISION_LAYERS, TINY_VISION_HIDDEN, TINY_PATCH * TINY_TABLE_SIDE, TINY_MERGER_FFN,
            TINY_VISION_HEADS, TINY_HIDDEN, TINY_PATCH);
    return tiny_finish(f, "config.json");
}

static int write_ocr_config(const char *dir, const tiny_model_options *o)
{
    static const char *const dtypes[] = { "bfloat16", "float32", "float16" };
    FILE *f = tiny_create(dir, "config.json");
    if (!f)
        return -1;
    fprintf(f,
            "{\n  \"architectures\": [\"GlmOcrForConditionalGeneration\"],\n"
            "  \"model_type\": \"glm_ocr\",\n  \"image_start_token_id\": %d,\n"
            "  \"image_end_token_id\": %d,\n  \"image_token_id\": %d,\n"
            "  \"video_start_token_id\": %d,\n  \"video_end_token_id\": %d,\n"
            "  \"video_token_id\": %d,\n  \"tie_word_embeddings\": %s,\n",
            TINY_BEGIN_IMAGE, TINY_END_IMAGE, TINY_IMAGE_45, TINY_BEGIN_VIDEO, TINY_END_VIDEO,
            TINY_IMAGE_45 + 1, o->tied ? "true" : "false");
    fprintf(f,
            "  \"text_config\": {\n    \"model_type\": \"glm_ocr_text\",\n"
            "    \"attention_bias\": false,\n    \"dtype\": \"%s\",\n"
            "    \"eos_token_id\": [%d, %d],\n    \"head_dim\": %d,\n"
            "    \"hidden_act\": \"silu\",\n    \"hidden_size\": %d,\n"
            "    \"intermediate_size\": %d,\n    \"max_position_embeddings\": 4096,\n"
            "    \"num_attention_heads\": %d,\n    \"num_hidden_layers\": %d,\n"
            "    \"num_key_value_heads\": %d,\n    \"num_nextn_predict_layers\": 1,\n"
            "    \"pad_token_id\": %d,\n    \"rms_norm_eps\": 1e-05,\n    \"vocab_size\": %d,\n"
            "    \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000,\n"
            "      \"partial_rotary_factor\": 1.0, \"mrope_section\": [8, 12, 12]}\n  },\n",
            dtypes[o->dtype], TINY_ENDOFTEXT, TINY_USER, TINY_HEAD_DIM, TINY_HIDDEN, TINY_FFN,
            TINY_OCR_HEADS, TINY_LAYERS, TINY_OCR_KV_HEADS, TINY_ENDOFTEXT, TINY_VOCAB);
    fprintf(f,
            "  \"vision_config\": {\n    \"model_type\": \"glm_ocr_vision\",\n"
            "    \"attention_bias\": true,\n    \"depth\": %d,\n    \"hidden_act\": \"silu\",\n"
            "    \"hidden_size\": %d,\n    \"image_size\": 336,\n    \"in_channels\": 3,\n"
            "    \"intermediate_size\": %d,\n    \"num_heads\": %d,\n"
            "    \"out_hidden_size\": %d,\n    \"patch_size\": %d,\n"
            "    \"rms_norm_eps\": 1e-05,\n    \"spatial_merge_size\": 2,\n"
            "    \"temporal_patch_size\": 2,\n"
            "    \"rope_parameters\": {\"rope_type\": \"axial\", \"rope_theta\": 10000.0}\n"
            "  }\n}\n",
            TINY_VISION_LAYERS, TINY_VISION_HIDDEN, TINY_VISION_FFN, TINY_VISION_HEADS, TINY_HIDDEN,
            TINY_PATCH);
    return tiny_finish(f, "config.json");
}

static int write_chatglm_config(const char *dir, const tiny_model_options *o)
{
    static const char *const dtypes[] = { "bfloat16", "float32", "float16" };
    FILE *f = tiny_create(dir, "config.json");
    if (!f)
        return -1;
    fprintf(f,
            "{\n  \"architectures\": [\"ChatGLMModel\"],\n  \"model_type\": \"chatglm\",\n"
            "  \"num_layers\": %d,\n  \"padded_vocab_size\": %d,\n  \"hidden_size\": %d,\n"
            "  \"ffn_hidden_size\": %d,\n  \"kv_channels\": %d,\n"
            "  \"num_attention_heads\": %d,\n  \"seq_length\": 4096,\n"
            "  \"layernorm_epsilon\": 1.5625e-07,\n  \"rmsnorm\": true,\n"
            "  \"apply_residual_connection_post_layernorm\": false,\n"
            "  \"post_layer_norm\": true,\n  \"add_bias_linear\": false,\n"
            "  \"add_qkv_bias\": true,\n  \"multi_query_attention\": true,\n"
            "  \"multi_query_group_num\": %d,\n  \"rope_ratio\": 1,\n"
            "  \"original_rope\": true,\n  \"pre_seq_len\": null,\n"
            "  \"prefix_projection\": false,\n",
            TINY_LAYERS, TINY_VOCAB, TINY_HIDDEN, TINY_FFN, TINY_HEAD_DIM, TINY_HEADS,
            TINY_KV_HEADS);
    fprintf(f,
            "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n"
            "  \"eos_token_id\": [%d, %d, %d],\n  \"pad_token_id\": %d,\n"
            "  \"boi_token_id\": %d,\n  \"eoi_token_id\": %d,\n",
            o->tied ? "true" : "false", dtypes[o->dtype], TINY_ENDOFTEXT, TINY_USER,
            TINY_OBSERVATION, TINY_ENDOFTEXT, TINY_BEGIN_IMAGE, TINY_END_IMAGE);
    fprintf(f,
            "  \"vision_config\": {\n    \"dropout_prob\": 0.0,\n    \"hidden_act\": \"gelu\",\n"
            "    \"in_channels\": 3,\n    \"num_hidden_layers\": %d,\n    \"hidden_size\": %d,\n"
            "    \"patch_size\": %d,\n    \"num_heads\": %d,\n    \"intermediate_size\": %d,\n"
            "    \"layer_norm_eps\": 1e-06,\n    \"num_positions\": %d,\n"
            "    \"image_size\": %d,\n    \"scaling_factor\": 8\n  }\n}\n",
            TINY_VISION_LAYERS, TINY_VISION_HIDDEN, TINY_PATCH, TINY_VISION_HEADS, TINY_VISION_FFN,
            TINY_TABLE_SIDE * TINY_TABLE_SIDE + 1, TINY_PATCH * TINY_TABLE_SIDE);
    return tiny_finish(f, "config.json");
}

static int write_processor(const char *dir, const tiny_model_options *o, bool video)
{
    const char *name = video ? "video_preprocessor_config.json" : "preprocessor_config.json";
    FILE *f = tiny_create(dir, name);
    if (!f)
        return -1;
    fprintf(f,
            "{\n  \"size\": {\"shortest_edge\": 12544, \"longest_edge\": %d},\n  \"do_rescale\": "
            "true,\n"
            "  \"patch_size\": %d,\n  \"temporal_patch_size\": 2,\n  \"merge_size\": 2,\n"
            "  \"image_mean\": [0.48145466, 0.4578275, 0.40821073],\n"
            "  \"image_std\": [0.26862954, 0.26130258, 0.27577711],\n  \"%s\": \"%s%s\",\n"
            "  \"processor_class\": \"%sProcessor\"\n}\n",
            video ? 47040000 : 9633792, TINY_PATCH,
            video ? "video_processor_type" : "image_processor_type", o->glm45 ? "Glm46V" : "Glm4v",
            video ? "VideoProcessor" : "ImageProcessor", o->glm45 ? "Glm46V" : "Glm4v");
    return tiny_finish(f, name);
}

int tiny_model_write(const char *dir, const tiny_model_options *options)
{
    tiny_model_options o = options ? *options : (tiny_model_options) { 0 };
    int (*config)(const char *, const tiny_model_options *) = write_config;
    mkdir(dir, 0777); /* there already, or create() tells why not */
    if (o.chatglm4v)
        config = write_chatglm_config;
    else if (o.glm_ocr)
        config = write_ocr_config;
    o.glm45 |= o.glm_ocr;
    if (config(dir, &o) || write_weights(dir, &o))
        return -1;
    if (o.weights_only)
        return 0;
    if (tiny_write_tokenizer(dir, &o))
        return -1;
    if (o.chatglm4v) /* brings no processor files */
        return 0;
    return write_processor(dir, &o, false) | write_processor(dir, &o, true) ? -1 : 0;
}

int tiny_model_mkdtemp(char *dir, size_t size)
{
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(dir, size, "%s/" TEMP_NAME "XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (n < 0 || (size_t)n >= size || !mkdtemp(dir)) {
        perror("tiny_model_mkdtemp");
        return -1;
    }
    return 0;
}

int tiny_model_make(char *dir, size_t size, const tiny_model_options *options)
{
    if (tiny_model_mkdtemp(dir, size))
        return -1;
    if (!tiny_model_write(dir, options))
        return 0;
    tiny_model_remove(dir);
    return -1;
}

void tiny_model_remove(const char *dir)
{
    DIR *d = strstr(dir, "/" TEMP_NAME) ? opendir(dir) : NULL;
    if (!d)
        return;
    char path[4096];
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (unlink(path)) /* a subdirectory that a test made */
            tiny_model_remove(path);
    }
    closedir(d);
    rmdir(dir);
}
