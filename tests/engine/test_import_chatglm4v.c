/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GPTQ of the other family, as auto-round exports GLM-4V-9B: the matrices of the language model's
 * layers alone, fused as they are, symmetric, without an order. The checkpoint is made here from
 * the tiny one of the reference vectors; every scale is a power of two, so that what must come out
 * is plain. */
#define _GNU_SOURCE
#include <inttypes.h>

#include "files.h"
#include "gemm.h"
#include "model/model.h"
#include "test.h"
#include "tiny_model.h"

#define FROM SOURCE_ROOT "/tests/data/golden-tiny-chatglm4v"
#define LAYERS "transformer.encoder.layers."
#define STEP 0.015625f /* every scale; 0x2400 as F16 */

enum { MOST = 1 << 14 }; /* numbers of a matrix */

static char dir[512];
static glm4v_error err;

/* ---- writing ---- */

typedef struct {
    FILE *data;
    char header[1 << 15];
} writer;

static void put(writer *w, const char *name, const char *dtype, const int64_t *shape, int rank,
                const void *bytes, size_t n)
{
    const size_t at = (size_t)ftell(w->data), size = sizeof w->header;
    size_t end = strlen(w->header);
    end +=
        (size_t)snprintf(w->header + end, size - end, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [",
                         end ? ", " : "{", name, dtype);
    for (int i = 0; i < rank; i++)
        end += (size_t)snprintf(w->header + end, size - end, "%s%" PRId64, i ? ", " : "", shape[i]);
    snprintf(w->header + end, size - end, "], \"data_offsets\": [%zu, %zu]}", at, at + n);
    if (fwrite(bytes, 1, n, w->data) != n)
        file_die("cannot write", name);
}

static float quantized(float w)
{
    const float q = rintf(w / STEP);
    return q < -8 ? -8 : q > 7 ? 7 : q;
}

/* MODULE.weight [n, k] as MODULE.qweight, .qzeros and .scales: one group of at most 128 inputs,
 * zero points 8, stored as 7. */
static void put_gptq(writer *to, const char *name, const float *w, int n, int k)
{
    static uint32_t words[MOST / 8], zeros[MOST / 8];
    static uint16_t scales[MOST];
    const int module = (int)(strlen(name) - strlen("weight"));
    const int64_t codes[2] = { k / 8, n }, points[2] = { 1, n / 8 }, rows[2] = { 1, n };
    char part[160];
    memset(words, 0, sizeof words);
    for (int r = 0; r < n; r++) {
        scales[r] = 0x2400;
        zeros[r / 8] = 0x77777777;
        for (int i = 0; i < k; i++)
            words[i / 8 * n + r] |= (uint32_t)(quantized(w[r * k + i]) + 8) << (4 * (i % 8));
    }
    snprintf(part, sizeof part, "%.*sqweight", module, name);
    put(to, part, "I32", codes, 2, words, (size_t)(n * k / 2));
    snprintf(part, sizeof part, "%.*sqzeros", module, name);
    put(to, part, "I32", points, 2, zeros, (size_t)(n / 2));
    snprintf(part, sizeof part, "%.*sscales", module, name);
    put(to, part, "F16", rows, 2, scales, (size_t)(2 * n));
}

static bool is_quantized(const glm4v_tensor *t)
{
    return t->rank == 2 && !strncmp(t->name, LAYERS, strlen(LAYERS));
}

static void write_weights(const glm4v_checkpoint *from)
{
    static writer w;
    static unsigned char bytes[1 << 20];
    static float numbers[MOST];
    w.header[0] = 0;
    w.data = tmpfile();
    for (uint32_t i = 0; i < glm4v_checkpoint_count(from); i++) {
        const glm4v_tensor *t = glm4v_checkpoint_at(from, i);
        const size_t n = t->size / glm4v_dtype_size(t->dtype);
        if (!w.data || t->size > sizeof bytes || (is_quantized(t) && n > MOST))
            file_die("no room for", t->name);
        if (is_quantized(t)) {
            CHECK_EQ(glm4v_checkpoint_read_f32(from, t, 0, numbers, n, &err), 0);
            put_gptq(&w, t->name, numbers, (int)t->shape[0], (int)t->shape[1]);
        } else {
            CHECK_EQ(glm4v_checkpoint_read(from, t, 0, bytes, t->size, &err), 0);
            put(&w, t->name, glm4v_dtype_name(t->dtype), t->shape, t->rank, bytes, t->size);
        }
    }
    strcat(w.header, "}");
    const uint64_t size = strlen(w.header);
    FILE *f = fopen(file_path(dir, "model.safetensors"), "wb");
    bool ok = f && fwrite(&size, sizeof size, 1, f) == 1 && fwrite(w.header, size, 1, f) == 1;
    rewind(w.data);
    for (size_t n; ok && (n = fread(bytes, 1, sizeof bytes, w.data)) > 0;)
        ok = fwrite(bytes, 1, n, f) == n;
    if (!ok || fclose(f) || fclose(w.data))
        file_die("cannot write", dir);
}

static void write_config(void)
{
    file_text t = file_read(FROM, "config.json");
    file_write(dir, "config.json", t.data, t.len);
    free(t.data);
    file_replace(dir, "config.json", "{",
                 "{\"quantization_config\": {\"bits\": 4, \"group_size\": 128, \"sym\": true, "
                 "\"desc_act\": false, \"damp_percent\": 0.01, \"quant_method\": \"gptq\", "
                 "\"block_name_to_quantize\": \"transformer.encoder.layers\"},");
}

/* ---- reading ---- */

/* The matrix in memory stands for STEP * quantized(w), w the tensor it was made of. */
static void check(const glm4v_weight *m, const glm4v_checkpoint *from, int layer, const char *name)
{
    static float w[MOST], row[16 * 1024];
    char full[160];
    snprintf(full, sizeof full, LAYERS "%d.%s.weight", layer, name);
    const glm4v_tensor *t = glm4v_checkpoint_find(from, full);
    const int32_t K = m->n_in;
    REQUIRE(t && (size_t)m->n_out * (size_t)K <= MOST && K <= 1024);
    CHECK_EQ(glm4v_checkpoint_read_f32(from, t, 0, w, (size_t)m->n_out * (size_t)K, &err), 0);
    CHECK_EQ(m->form, K % GLM4V_GROUP ? GLM4V_FORM_INT8 : GLM4V_FORM_INT4);
    for (int32_t p = 0; p < m->n_out / 16; p++) {
        const uint8_t *data = m->data;
        if (m->form == GLM4V_FORM_INT8)
            glm4v_unpack_int8(row, K, data + (size_t)p * glm4v_panel_bytes_int8(K),
                              m->scale + 16 * p, 16, K);
        else
            glm4v_unpack_int4(row, K, data + (size_t)p * glm4v_panel_bytes_int4(K),
                              m->scale + 16 * p * (K / GLM4V_GROUP), NULL, 16, K);
        for (int32_t i = 0; i < 16 * K; i++)
            if (row[i] != STEP * quantized(w[16 * p * K + i])) {
                test_fail(__FILE__, __LINE__, "%s: number %d of panel %d is %g", full, i, p,
                          (double)row[i]);
                return;
            }
    }
}

static void fused_matrices_of_gptq_keep_their_codes(void)
{
    glm4v_checkpoint *from = NULL;
    glm4v_model *m = NULL;
    const glm4v_model_options options = { .device = "cpu", .weights_only = 1, .n_threads = 2 };
    CHECK_EQ(tiny_model_mkdtemp(dir, sizeof dir), 0);
    REQUIRE(!glm4v_checkpoint_open(&from, FROM, &err));
    write_weights(from);
    write_config();
    if (glm4v_model_open(&m, dir, &options, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    for (int i = 0; m && i < m->config.text.layers; i++) {
        check(&m->layers[i].qkv, from, i, "self_attention.query_key_value");
        check(&m->layers[i].o, from, i, "self_attention.dense");
        check(&m->layers[i].gate_up, from, i, "mlp.dense_h_to_4h");
        check(&m->layers[i].down, from, i, "mlp.dense_4h_to_h");
    }
    if (m) {
        CHECK_STR(m->info.family, "chatglm4v");
        CHECK_STR(m->info.stored_layout, "gptq");
        CHECK_STR(m->info.form[GLM4V_PART_VISION], "bf16");
    }
    glm4v_model_close(&m);
    glm4v_checkpoint_close(&from);
    tiny_model_remove(dir);
}

int main(void)
{
    TEST(fused_matrices_of_gptq_keep_their_codes);
    return test_end();
}
