/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hostile quantized checkpoints: quantization_config or the header of the weights of a small one,
 * changed. The first byte chooses which, the rest is a text or edits of the valid one. Every matrix
 * is then looked for, read as f32 and as the codes of a matrix in memory. */
#define _GNU_SOURCE
#include <math.h>

#include "base/mem.h"
#include "checkpoint/source.h"
#include "files.h"
#include "fuzz.h"
#include "gemm.h"
#include "json_edits.h"
#include "tiny_model.h"

const size_t fuzz_json_at = 1;

enum { N_BASES = 4, ROWS = 256, COLUMNS = 256 };
#define LAYER "model.language_model.layers."

static const char *const folders[N_BASES] = { "gptq-order", "awq", "fp8", "compressed" };
static char dir[512];
static file_text configs[N_BASES], weights[N_BASES];
static json_base config_bases[N_BASES], header_bases[N_BASES];
static float rows[ROWS * COLUMNS];

static void remove_dir(void)
{
    tiny_model_remove(dir);
}

static void start(void)
{
    FUZZ_CHECK(!tiny_model_mkdtemp(dir, sizeof dir));
    atexit(remove_dir);
    for (int i = 0; i < N_BASES; i++) {
        char from[512];
        snprintf(from, sizeof from, SOURCE_ROOT "/tests/data/import/%s", folders[i]);
        configs[i] = file_read(from, "config.json");
        weights[i] = file_read(from, "quantized.safetensors");
        /* the last key of the file: that one alone, in an object */
        char *at = strstr(configs[i].data, "\"quantization_config\"");
        FUZZ_CHECK(at && at > configs[i].data);
        *--at = '{';
        json_base_init(&config_bases[i], at, configs[i].len - (size_t)(at - configs[i].data));
        json_base_init(&header_bases[i], weights[i].data + 8, file_header_len(weights[i]));
    }
}

static void write_weights(const char *header, size_t len, int base)
{
    const size_t data = 8 + file_header_len(weights[base]);
    const uint64_t size = len;
    FILE *f = fopen(file_path(dir, "model.safetensors"), "wb");
    FUZZ_CHECK(f && fwrite(&size, sizeof size, 1, f) == 1 && fwrite(header, 1, len, f) == len);
    FUZZ_CHECK(fwrite(weights[base].data + data, 1, weights[base].len - data, f) ==
               weights[base].len - data);
    FUZZ_CHECK(!fclose(f));
}

static void check_error(int rc, const glm4v_error *err)
{
    FUZZ_CHECK(err->code == rc && err->msg[0] &&
               (rc == GLM4V_ERR_FORMAT || rc == GLM4V_ERR_UNSUPPORTED));
}

/* As the loader takes them: codes of a kind that holds them. */
static void check_codes(const glm4v_source *s, const glm4v_checkpoint *c)
{
    static uint8_t q[ROWS * COLUMNS], zero[ROWS * COLUMNS];
    static float scale[ROWS * COLUMNS];
    static int32_t order[COLUMNS];
    glm4v_weight_kind kind;
    glm4v_error err = { 0 };
    char why[80];
    if (!glm4v_sources_kind(&kind, s, 1, why, sizeof why)) {
        FUZZ_CHECK(why[0]);
        return;
    }
    const glm4v_source_codes codes = { .q = q,
                                       .scale = scale,
                                       .zero = zero,
                                       .groups = glm4v_kind_groups(&kind),
                                       .scratch = malloc(glm4v_source_scratch(s, s->rows)) };
    FUZZ_CHECK(codes.scratch && codes.groups >= s->groups);
    int rc = glm4v_source_read_codes(s, c, 0, s->rows, &codes, &err);
    if (kind.ordered) {
        bool seen[COLUMNS] = { false };
        glm4v_source_order(s, order);
        for (int32_t k = 0; k < s->n_in; k++) {
            FUZZ_CHECK(order[k] >= 0 && order[k] < s->n_in && !seen[order[k]]);
            seen[order[k]] = true;
        }
    }
    if (!rc)
        glm4v_source_convert(s, &codes, s->rows, &kind, kind.ordered ? order : NULL);
    for (int32_t i = 0; !rc && kind.form == GLM4V_FORM_INT4 && i < s->rows * s->n_in; i++)
        FUZZ_CHECK(q[i] < 16);
    for (int32_t i = 0; !rc && i < s->rows * codes.groups; i++)
        FUZZ_CHECK(isfinite(scale[i]) && (!kind.zeros || zero[i] <= 16));
    free(codes.scratch);
}

static void check_matrix(const glm4v_checkpoint *c, const glm4v_quantization_config *q,
                         const char *name, int32_t n, int32_t k)
{
    const int64_t shape[2] = { n, k };
    glm4v_error err = { 0 };
    glm4v_source s;
    int rc = glm4v_source_find(&s, c, q, &(glm4v_tensor_need) { name, shape, 2 }, &err);
    if (rc) {
        check_error(rc, &err);
        return;
    }
    FUZZ_CHECK(s.rows == n && s.n_in == k);
    rc = glm4v_source_read_f32(&s, c, 0, n, rows, &err);
    if (rc)
        check_error(rc, &err);
    for (int32_t i = 0; !rc && s.kind != GLM4V_SOURCE_PLAIN && i < n * k; i++)
        FUZZ_CHECK(isfinite(rows[i]));
    if (s.kind != GLM4V_SOURCE_PLAIN)
        check_codes(&s, c);
    glm4v_source_clear(&s);
}

static void check_all(int base)
{
    glm4v_quantization_config *q = NULL;
    glm4v_checkpoint *c = NULL;
    glm4v_error err = { 0 };
    int rc = glm4v_quantization_config_read(&q, dir, NULL, &err);
    if (!rc)
        rc = glm4v_checkpoint_open(&c, dir, &err);
    if (rc)
        check_error(rc, &err);
    for (int i = 0; !rc && i < (base == 3 ? 10 : 1); i++) {
        char name[80];
        snprintf(name, sizeof name, LAYER "%d.mlp.gate_proj.weight", i);
        check_matrix(c, q, name, 16, 256);
        snprintf(name, sizeof name, LAYER "%d.mlp.down_proj.weight", i);
        check_matrix(c, q, name, 256, 16);
    }
    glm4v_checkpoint_close(&c);
    glm4v_quantization_config_free(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!configs[0].data)
        start();
    if (!size)
        return 0;
    const size_t live = glm4v_mem_live();
    const int base = data[0] % N_BASES;
    const bool header = data[0] / N_BASES % 2;
    size_t len;
    char *text =
        json_input(header ? &header_bases[base] : &config_bases[base], data + 1, size - 1, &len);
    write_weights(header ? text : header_bases[base].text, header ? len : header_bases[base].len,
                  base);
    file_write(dir, "config.json", header ? config_bases[base].text : text,
               header ? config_bases[base].len : len);
    free(text);
    check_all(base);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
