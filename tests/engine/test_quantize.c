/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The converter: what is written is what on-load quantization computes, all else is as it was, and
 * what cannot be done is refused with nothing left behind. Faults of the disk:
 * test_atomic_folder.c. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "convert.h"
#include "folders.h"
#include "gemm.h"
#include "large_model.h"
#include "model/examine.h"
#include "test.h"
#include "tiny_model.h"

static char base[512], src[600], dst[600]; /* folder of the test, and in it source and result */
static glm4v_error err;

static int convert(const char *quantization)
{
    memset(&err, 0, sizeof err);
    return glm4v_quantize(src, dst, &(glm4v_quantize_options) { .quantization = quantization },
                          &err);
}

/* ---- what the written tensors say ---- */

/* The tensor called stem + suffix. Ends the program if it is not there. */
static const glm4v_tensor *tensor(const glm4v_checkpoint *c, const char *stem, const char *suffix)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    const glm4v_tensor *t = glm4v_checkpoint_find(c, name);
    if (!t)
        file_die("no tensor", name);
    return t;
}

static void *contents(const glm4v_checkpoint *c, const glm4v_tensor *t)
{
    void *data = malloc(t->size ? t->size : 1);
    if (!data || glm4v_checkpoint_read(c, t, 0, data, t->size, &err))
        file_die("cannot read", t->name);
    return data;
}

/* Value k of row n of what was written for `name`, by the definition of the layout. */
typedef struct {
    glm4v_form form;
    int8_t *q;        /* int8 */
    uint32_t *packed; /* int4 */
    float *scale;
    int32_t n_out, n_in;
} written;

static written read_written(const glm4v_checkpoint *c, const char *name, glm4v_form form,
                            int32_t n_out, int32_t n_in)
{
    written w = { .form = form, .n_out = n_out, .n_in = n_in };
    const glm4v_tensor *scale = tensor(c, name, "_scale");
    CHECK_EQ(scale->dtype, GLM4V_DTYPE_F32);
    CHECK_EQ(scale->shape[0], n_out);
    CHECK_EQ(scale->shape[1], glm4v_form_groups(form, false, n_in));
    w.scale = contents(c, scale);
    if (glm4v_form_of(form)->layout == GLM4V_LAYOUT_WORDS) {
        const glm4v_tensor *packed = tensor(c, name, "_packed"), *shape = tensor(c, name, "_shape");
        int64_t *sizes = contents(c, shape);
        CHECK_EQ(packed->dtype, GLM4V_DTYPE_I32);
        CHECK_EQ(packed->shape[1], n_in / 8);
        CHECK_EQ(shape->dtype, GLM4V_DTYPE_I64);
        CHECK_EQ(sizes[0], n_out);
        CHECK_EQ(sizes[1], n_in);
        free(sizes);
        w.packed = contents(c, packed);
    } else {
        const glm4v_tensor *q = tensor(c, name, "");
        CHECK_EQ(q->dtype, GLM4V_DTYPE_I8);
        CHECK_EQ(q->shape[1], n_in);
        w.q = contents(c, q);
    }
    return w;
}

static float value(const written *w, int32_t n, int32_t k)
{
    const size_t at = (size_t)n * (size_t)w->n_in + (size_t)k;
    if (w->q)
        return w->scale[n] * (float)w->q[at];
    const int32_t group = w->form == GLM4V_FORM_INT4_32 ? 32 : 128;
    int q = (int)(w->packed[at / 8] >> (4 * (k % 8)) & 15) - 8;
    return w->scale[(size_t)n * (size_t)(w->n_in / group) + (size_t)(k / group)] * (float)q;
}

static void free_written(written *w)
{
    free(w->q);
    free(w->packed);
    free(w->scale);
}

/* Matrix of an opened model as f32 [n_out, n_in]. */
static float *unpacked(const glm4v_weight *m)
{
    float *w = malloc((size_t)m->n_out * (size_t)m->n_in * sizeof *w);
    for (int32_t row = 0; row < m->n_out; row += 16) {
        int32_t n = m->n_out - row < 16 ? m->n_out - row : 16;
        size_t panel = (size_t)row / 16,
               groups = (size_t)glm4v_form_groups(m->form, false, m->n_in);
        const glm4v_form_cpu *form = &glm4v_form_of(m->form)->cpu;
        form->unpack(w + (size_t)row * (size_t)m->n_in,
                     (const char *)m->data + panel * form->panel_bytes(m->n_in),
                     m->scale + panel * groups * 16, NULL, false, n, m->n_in);
    }
    return w;
}

/* Every matrix that was written quantized holds the numbers that opening src computes. Returns how
 * many there are. */
static int compare_with_opening(const char *quantization)
{
    glm4v_model *m = NULL;
    glm4v_checkpoint *c = NULL;
    int n_compared = 0;
    glm4v_model_options options = { .device = "cpu", .quantization = quantization };
    glm4v_checkpoint *names = NULL;
    glm4v_model *plan = NULL; /* its sources have names; those of an opened model are gone */
    if (glm4v_model_open(&m, src, &options, &err) || glm4v_checkpoint_open(&c, dst, &err) ||
        glm4v_model_examine(&plan, &names, src, &options, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return 0;
    }
    for (uint32_t i = 0; i < plan->plan.n; i++) {
        const glm4v_item *item = &plan->plan.items[i];
        if (item->kind != GLM4V_ITEM_LINEAR || item->source[0].tensor->rank != 2 ||
            !glm4v_form_of(item->form)->codes)
            continue;
        float *expected = unpacked(m->plan.items[i].to.linear);
        int32_t row = 0;
        size_t bad = 0;
        for (int s = 0; s < item->n_sources; s++) {
            written w = read_written(c, item->source[s].tensor->name, item->form,
                                     item->source[s].rows, item->n_in);
            for (int32_t n = 0; n < w.n_out; n++, row++)
                for (int32_t k = 0; k < w.n_in; k++)
                    bad += value(&w, n, k) != expected[(size_t)row * (size_t)w.n_in + (size_t)k];
            free_written(&w);
        }
        if (bad)
            test_fail(__FILE__, __LINE__, "%zu numbers of %s differ", bad,
                      item->source[0].tensor->name);
        free(expected);
        n_compared++;
    }
    glm4v_model_close(&plan);
    glm4v_checkpoint_close(&names);
    glm4v_checkpoint_close(&c);
    glm4v_model_close(&m);
    return n_compared;
}

static void written_matrices_equal_on_load_quantization(void)
{
    static const char *const some[] = { "int8",
                                        "int4",
                                        "int4-32",
                                        "text=int4,vision=int8",
                                        "text=int8,lm-head=int4",
                                        "text=int4,vision=int4-32" };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        CHECK_EQ(convert(some[i]), 0);
        CHECK(compare_with_opening(some[i]) > 7);
        folder_remove(dst);
    }
}

static void a_written_embedding_equals_on_load_quantization(void)
{
    glm4v_model *m = NULL;
    glm4v_checkpoint *c = NULL;
    REQUIRE(!convert("embedding=int8"));
    REQUIRE(!glm4v_model_open(
        &m, src, &(glm4v_model_options) { .device = "cpu", .quantization = "embedding=int8" },
        &err));
    REQUIRE(!glm4v_checkpoint_open(&c, dst, &err));
    written w = read_written(c, "model.language_model.embed_tokens.weight", GLM4V_FORM_INT8,
                             TINY_VOCAB, TINY_HIDDEN);
    CHECK(!memcmp(w.q, m->embedding.data, (size_t)TINY_VOCAB * TINY_HIDDEN));
    CHECK(!memcmp(w.scale, m->embedding.scale, TINY_VOCAB * sizeof(float)));
    free_written(&w);
    glm4v_checkpoint_close(&c);
    glm4v_model_close(&m);
    folder_remove(dst);
}

/* Tensors of the result that src has too, in the same dtype: their bytes. Returns how many. */
static int compare_copies(void)
{
    glm4v_checkpoint *a = NULL, *b = NULL;
    int n = 0;
    if (glm4v_checkpoint_open(&a, src, &err) || glm4v_checkpoint_open(&b, dst, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return 0;
    }
    for (uint32_t i = 0; i < glm4v_checkpoint_count(b); i++) {
        const glm4v_tensor *y = glm4v_checkpoint_at(b, i), *x = glm4v_checkpoint_find(a, y->name);
        CHECK_EQ(y->offset % glm4v_dtype_size(y->dtype), 0);
        if (!x || x->dtype != y->dtype)
            continue;
        void *p = contents(a, x), *q = contents(b, y);
        if (x->size != y->size || memcmp(p, q, x->size))
            test_fail(__FILE__, __LINE__, "%s was changed", x->name);
        free(p);
        free(q);
        n++;
    }
    glm4v_checkpoint_close(&a);
    glm4v_checkpoint_close(&b);
    return n;
}

static bool same_bytes(const void *a, const void *b, size_t n)
{
    return (!a && !b) || (a && b && !memcmp(a, b, n));
}

static size_t scale_bytes(const glm4v_weight *w)
{
    size_t groups = (size_t)glm4v_form_groups(w->form, w->blocks, w->n_in);
    return w->scale ? (size_t)glm4v_panel_count(w->n_out) * groups * 16 * sizeof(float) : 0;
}

/* What was written, opened as it is stored (NULL) or with `reopened`, is the model that src is when
 * it is quantized while it is loaded: every number and every form, where it is stored as itself. */
static void compare_models(const char *quantization, const char *reopened)
{
    glm4v_model *a = NULL, *b = NULL, *plan = NULL;
    glm4v_checkpoint *names = NULL;
    glm4v_model_options options = { .device = "cpu", .quantization = quantization };
    if (convert(quantization) || glm4v_model_open(&a, src, &options, &err) ||
        glm4v_model_open(
            &b, dst, &(glm4v_model_options) { .device = "cpu", .quantization = reopened }, &err) ||
        glm4v_model_examine(&plan, &names, src, &options, &err))
        file_die(err.msg, quantization);
    CHECK_EQ(a->plan.n, b->plan.n);
    int quantized = 0;
    for (uint32_t i = 0; i < plan->plan.n && i < b->plan.n; i++) {
        const glm4v_item *item = &plan->plan.items[i], *other = &b->plan.items[i];
        if (item->kind == GLM4V_ITEM_LINEAR) {
            const glm4v_weight *x = a->plan.items[i].to.linear, *y = other->to.linear;
            const size_t scales = scale_bytes(x);
            const glm4v_form form = reopened ? x->form : glm4v_form_of(x->form)->stored;
            if (form != y->form || x->bytes != y->bytes || x->zero || y->zero || y->order ||
                !same_bytes(x->data, y->data, x->bytes - scales) ||
                !same_bytes(x->scale, y->scale, scales))
                test_fail(__FILE__, __LINE__, "%s: %s differs, %s and %s", quantization,
                          item->source[0].tensor->name, glm4v_form_name(form),
                          glm4v_form_name(y->form));
            quantized += x->scale != NULL;
        } else if (item->kind == GLM4V_ITEM_TABLE) {
            const glm4v_table *x = a->plan.items[i].to.table, *y = other->to.table;
            CHECK_EQ(x->form, y->form);
            CHECK(same_bytes(x->data, y->data,
                             x->bytes - (x->scale ? (size_t)x->n_rows * sizeof(float) : 0)));
            CHECK(same_bytes(x->scale, y->scale, (size_t)x->n_rows * sizeof(float)));
        } else if (item->kind == GLM4V_ITEM_VECTOR) {
            CHECK(same_bytes(*a->plan.items[i].to.vector, *other->to.vector,
                             (size_t)item->n_out * sizeof(float)));
        } else {
            CHECK(same_bytes(*a->plan.items[i].to.vector, *other->to.vector,
                             (size_t)item->n_out * (size_t)item->n_in * sizeof(float)));
        }
    }
    CHECK(quantized > 0 || strstr(quantization, "embedding") || strstr(quantization, "bf16") ||
          strstr(quantization, "fp32"));
    glm4v_model_close(&plan);
    glm4v_checkpoint_close(&names);
    glm4v_model_close(&b);
    glm4v_model_close(&a);
    folder_remove(dst);
}

static const char *const forms[] = { "int8",
                                     "int4",
                                     "int4-32",
                                     "text=int4-32,vision=fp8,lm-head=int4",
                                     "text=int4,vision=int8",
                                     "text=int8,lm-head=int4",
                                     "embedding=int8",
                                     "vision=int8,embedding=int8,lm-head=int8",
                                     "fp8",
                                     "text=fp8,vision=int4,lm-head=int8",
                                     "fp8-dynamic",
                                     "text=fp8-dynamic,vision=fp8,lm-head=fp8-dynamic",
                                     "bf16",
                                     "fp32",
                                     "text=fp32,vision=bf16" };

/* The words of llm-compressor's scheme FP8_DYNAMIC; beside it fp8, whose activations stay. */
static void rounded_activations_are_written_in_config(void)
{
    static const char dynamic[] = "\"input_activations\": { \"num_bits\": 8, \"type\": \"float\", "
                                  "\"symmetric\": true, \"strategy\": \"token\", "
                                  "\"dynamic\": true }";
    REQUIRE(!convert("fp8-dynamic"));
    file_text text = file_read(dst, "config.json");
    CHECK_CONTAINS(text.data, dynamic);
    CHECK(!strstr(text.data, "\"input_activations\": null"));
    CHECK_CONTAINS(text.data, "\"Linear\"");
    free(text.data);
    folder_remove(dst);
    REQUIRE(!convert("text=fp8-dynamic,vision=fp8"));
    text = file_read(dst, "config.json");
    const char *first = strstr(text.data, "\"input_activations\"");
    REQUIRE(first);
    CHECK_CONTAINS(first, "null"); /* fp8 is the earlier form */
    CHECK_CONTAINS(first, dynamic);
    CHECK(strstr(first, dynamic) > strstr(first, "\"input_activations\": null"));
    CHECK(!strstr(text.data, "mixed-precision"));
    free(text.data);
    folder_remove(dst);
}

/* With another model in the place of src. */
static void compare_models_of(const tiny_model_options *options)
{
    char other[512], whole[600];
    snprintf(whole, sizeof whole, "%s", src);
    REQUIRE(!tiny_model_make(other, sizeof other, options));
    snprintf(src, sizeof src, "%s", other);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (int named = 0; named < 2; named++)
            compare_models(forms[i], named ? forms[i] : NULL);
    tiny_model_remove(other);
    snprintf(src, sizeof src, "%s", whole);
}

static void what_is_written_opens_to_the_same_model(void)
{
    for (tiny_dtype dtype = TINY_BF16; dtype <= TINY_F16; dtype++)
        compare_models_of(&(tiny_model_options) { .dtype = dtype });
}

static void family_chatglm4v_is_converted_too(void)
{
    for (tiny_dtype dtype = TINY_BF16; dtype <= TINY_F16; dtype++)
        compare_models_of(&(tiny_model_options) { .dtype = dtype, .chatglm4v = true });
}

static void family_glm_ocr_is_converted_too(void)
{
    for (tiny_dtype dtype = TINY_BF16; dtype <= TINY_F16; dtype++)
        compare_models_of(&(tiny_model_options) {
            .dtype = dtype, .glm_ocr = true, .resaved = dtype == TINY_F32 });
}

/* The MTP layer is quantized; its copies of embedding and head, which are not read, stay. Their
 * number is kept: as any number, they would exempt those of other layers. */
static void what_the_mtp_layer_copies_is_exempted_by_its_number(void)
{
    char folder[512];
    REQUIRE(!tiny_model_make(folder, sizeof folder, &(tiny_model_options) { .glm_ocr = true }));
    CHECK_EQ(
        glm4v_quantize(folder, dst, &(glm4v_quantize_options) { .quantization = "int4" }, &err), 0);
    file_text text = file_read(dst, "config.json");
    const char *ignored = strstr(text.data, "\"ignore\"");
    REQUIRE(ignored);
    CHECK_CONTAINS(ignored, "layers\\\\.2\\\\.embed_tokens$");
    CHECK_CONTAINS(ignored, "layers\\\\.2\\\\.shared_head\\\\.head$");
    CHECK(!strstr(ignored, "eh_proj") && !strstr(ignored, "self_attn"));
    free(text.data);
    folder_remove(dst);
    tiny_model_remove(folder);
}

/* FNV-1a over the numbers of a source as the engine reads them. */
static uint64_t digest_of(const glm4v_source *source, const glm4v_checkpoint *c)
{
    uint64_t h = 0xcbf29ce484222325u;
    size_t n = (size_t)source->rows * (size_t)source->n_in;
    uint32_t *bits = malloc(n * sizeof *bits);
    float *rows = malloc(n * sizeof *rows);
    if (!rows || !bits || glm4v_source_read_f32(source, c, 0, source->rows, rows, &err))
        file_die("cannot read", source->tensor->name);
    memcpy(bits, rows, n * sizeof *bits);
    for (size_t i = 0; i < n; i++)
        h = (h ^ bits[i]) * 0x100000001b3u;
    free(rows);
    free(bits);
    return h;
}

/* Compare the quantized matrices of dst with the lines of `form`; returns how many there are. */
static int compare_with_package(const file_text *lines, const char *form)
{
    glm4v_model *m = NULL;
    glm4v_checkpoint *c = NULL;
    int n = 0;
    if (glm4v_model_examine(&m, &c, dst, &(glm4v_model_options) { .device = "cpu" }, &err))
        file_die(err.msg, form);
    for (uint32_t i = 0; i < m->plan.n; i++)
        for (int k = 0; k < m->plan.items[i].n_sources; k++) {
            const glm4v_source *source = &m->plan.items[i].source[k];
            if (source->kind == GLM4V_SOURCE_PLAIN)
                continue;
            char line[256];
            const char *name = source->tensor->name, *end = strstr(name, ".weight");
            snprintf(line, sizeof line, "\n%s %.*s %016llx\n", form, (int)(end - name), name,
                     (unsigned long long)digest_of(source, c));
            if (!strstr(lines->data, line))
                test_fail(__FILE__, __LINE__, "not what the package unpacks: %s", line + 1);
            n++;
        }
    glm4v_model_close(&m);
    glm4v_checkpoint_close(&c);
    return n;
}

/* tests/golden/make_compressed.py made the lines, one a matrix. */
static void the_package_unpacks_the_numbers_that_the_engine_reads(void)
{
    static const char *const of_package[] = { "int8",
                                              "int4",
                                              "fp8",
                                              "embedding=int8",
                                              "text=int4,vision=int8,lm-head=fp8",
                                              "int4-32",
                                              "text=int4-32,vision=int4",
                                              "fp8-dynamic",
                                              "text=fp8-dynamic,vision=fp8,lm-head=fp8-dynamic" };
    file_text lines = file_read(SOURCE_ROOT "/tests/data", "compressed.txt");
    int n = 0, expected = 0;
    for (const char *p = lines.data; *p; p = strchr(p, '\n') + 1)
        expected += *p != '#';
    for (size_t i = 0; i < sizeof of_package / sizeof *of_package; i++) {
        REQUIRE(!convert(of_package[i]));
        n += compare_with_package(&lines, of_package[i]);
        folder_remove(dst);
    }
    CHECK_EQ(n, expected);
    free(lines.data);
}

static void what_is_not_quantized_keeps_its_bytes(void)
{
    glm4v_checkpoint *c = NULL;
    REQUIRE(!convert("int4"));
    CHECK(compare_copies() > 20);
    REQUIRE(!glm4v_checkpoint_open(&c, dst, &err));
    /* a convolution, a norm and the position table among them */
    CHECK_EQ(tensor(c, "model.visual.patch_embed.proj", ".weight")->dtype, GLM4V_DTYPE_BF16);
    CHECK_EQ(tensor(c, "model.visual.downsample", ".weight")->dtype, GLM4V_DTYPE_BF16);
    CHECK_EQ(tensor(c, "model.language_model.norm", ".weight")->dtype, GLM4V_DTYPE_BF16);
    CHECK_EQ(tensor(c, "lm_head", ".weight")->dtype, GLM4V_DTYPE_BF16);
    CHECK_EQ(tensor(c, "model.visual.embeddings.position_embedding", ".weight")->dtype,
             GLM4V_DTYPE_BF16);
    glm4v_checkpoint_close(&c);
    folder_remove(dst);
}

static void narrow_inputs_stay_int8_under_int4(void)
{
    glm4v_checkpoint *c = NULL;
    REQUIRE(!convert("int4"));
    REQUIRE(!glm4v_checkpoint_open(&c, dst, &err));
    CHECK_EQ(tensor(c, "model.language_model.layers.0.mlp.down_proj", ".weight")->dtype,
             GLM4V_DTYPE_I8);
    CHECK_EQ(tensor(c, "model.language_model.layers.0.self_attn.o_proj", ".weight_packed")->dtype,
             GLM4V_DTYPE_I32);
    glm4v_checkpoint_close(&c);
    folder_remove(dst);
}

static void sixteen_bits_and_fp32_are_forms_too(void)
{
    glm4v_checkpoint *a = NULL, *b = NULL;
    static const char name[] = "model.language_model.layers.1.self_attn.o_proj";
    REQUIRE(!convert("text=fp32"));
    REQUIRE(!glm4v_checkpoint_open(&a, src, &err) && !glm4v_checkpoint_open(&b, dst, &err));
    const glm4v_tensor *x = tensor(a, name, ".weight"), *y = tensor(b, name, ".weight");
    CHECK_EQ(y->dtype, GLM4V_DTYPE_F32);
    uint16_t *p = contents(a, x);
    uint32_t *q = contents(b, y);
    for (size_t i = 0; i < x->size / 2; i++)
        CHECK_EQ(q[i], (uint32_t)p[i] << 16);
    free(p);
    free(q);
    glm4v_checkpoint_close(&a);
    glm4v_checkpoint_close(&b);
    /* and back: nothing is lost, and nothing says that the checkpoint is quantized */
    char again[700];
    snprintf(again, sizeof again, "%s-bf16", dst);
    REQUIRE(
        !glm4v_quantize(dst, again, &(glm4v_quantize_options) { .quantization = "bf16" }, &err));
    folder_remove(dst);
    REQUIRE(!rename(again, dst));
    CHECK(compare_copies() > 40);
    file_text t = file_read(dst, "config.json"), u = file_read(src, "config.json");
    CHECK(t.len == u.len && !memcmp(t.data, u.data, t.len));
    free(t.data);
    free(u.data);
    folder_remove(dst);
}

/* ---- files ---- */

static void config_gets_one_key_and_keeps_its_bytes(void)
{
    REQUIRE(!convert("text=int4,vision=int8"));
    file_text t = file_read(dst, "config.json"), u = file_read(src, "config.json");
    size_t n = u.len;
    while (u.data[n - 1] != '}')
        n--;
    n--;
    while (u.data[n - 1] == '\n' || u.data[n - 1] == ' ')
        n--;
    CHECK(t.len > u.len && !memcmp(t.data, u.data, n));
    CHECK_CONTAINS(t.data, "\"quant_method\": \"compressed-tensors\"");
    CHECK_CONTAINS(t.data, "\"format\": \"mixed-precision\"");
    CHECK_CONTAINS(t.data, "\"re:.*layers\\\\.\\\\d+\\\\.self_attn\\\\.o_proj$\"");
    CHECK_CONTAINS(t.data, "\"re:.*lm_head$\"");
    free(t.data);
    free(u.data);
    folder_remove(dst);
}

static void small_files_are_copied_and_weights_are_not(void)
{
    char names[4096];
    file_write_text(src, "LICENSE", "a licence");
    file_write_text(src, "pytorch_model.bin", "old weights");
    file_write_text(src, ".hidden", "of the download");
    REQUIRE(!mkdir(file_path(src, "figures"), 0755));
    REQUIRE(!mkfifo(file_path(src, "pipe"), 0644));
    REQUIRE(!symlink("/dev/null", file_path(src, "link")));
    CHECK_EQ(convert("int8"), 0);
    CHECK_STR(folder_names(dst, names, sizeof names),
              "LICENSE config.json model.safetensors preprocessor_config.json "
              "tokenizer.json tokenizer_config.json video_preprocessor_config.json ");
    file_text a = file_read(src, "tokenizer.json"), b = file_read(dst, "tokenizer.json");
    CHECK(a.len == b.len && !memcmp(a.data, b.data, a.len));
    free(a.data);
    free(b.data);
    folder_remove(dst);
    rmdir(file_path(src, "figures"));
    static const char *const extra[] = { "LICENSE", "pytorch_model.bin", ".hidden", "pipe",
                                         "link" };
    for (size_t i = 0; i < sizeof extra / sizeof *extra; i++)
        unlink(file_path(src, extra[i]));
}

static void shards_are_bounded_and_hold_the_same(void)
{
    glm4v_checkpoint *one = NULL, *many = NULL;
    char other[700];
    struct stat st;
    snprintf(other, sizeof other, "%s-many", dst);
    REQUIRE(!convert("int8"));
    REQUIRE(!glm4v_quantize(
        src, other, &(glm4v_quantize_options) { .quantization = "int8", .shard_bytes = 150000 },
        &err));
    REQUIRE(!glm4v_checkpoint_open(&one, dst, &err) && !glm4v_checkpoint_open(&many, other, &err));
    CHECK(glm4v_checkpoint_shards(one) == 1 && glm4v_checkpoint_shards(many) > 3);
    CHECK_EQ(glm4v_checkpoint_digest(one), glm4v_checkpoint_digest(many));
    for (uint32_t i = 0; i < glm4v_checkpoint_shards(many); i++)
        CHECK(!stat(file_path(other, glm4v_checkpoint_file(many, i)), &st) && st.st_size <= 150000);
    for (uint32_t i = 0; i < glm4v_checkpoint_count(one); i++) {
        const glm4v_tensor *x = glm4v_checkpoint_at(one, i), *y = glm4v_checkpoint_at(many, i);
        void *p = contents(one, x), *q = contents(many, y);
        CHECK(x->size == y->size && !memcmp(p, q, x->size));
        free(p);
        free(q);
    }
    glm4v_checkpoint_close(&one);
    glm4v_checkpoint_close(&many);
    folder_remove(other);
    folder_remove(dst);
}

static void bytes_do_not_depend_on_threads(void)
{
    uint64_t digest[2];
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(glm4v_quantize(src, dst,
                                &(glm4v_quantize_options) { .quantization = "int4,lm-head=int8",
                                                            .n_threads = 1 + 4 * i },
                                &err),
                 0);
        digest[i] = folder_digest(dst);
        folder_remove(dst);
    }
    CHECK(digest[0] == digest[1]);
}

/* ---- refusals ---- */

/* The conversion fails with the code, says what, and leaves the folder as it was. */
static void refused(const char *to, const char *quantization, int code, const char *text)
{
    char before[4096], after[4096];
    folder_names(base, before, sizeof before);
    memset(&err, 0, sizeof err);
    int rc =
        glm4v_quantize(src, to, &(glm4v_quantize_options) { .quantization = quantization }, &err);
    if (rc != code || !strstr(err.msg, text))
        test_fail(__FILE__, __LINE__, "%s: code %d, \"%s\", expected %d, \"%s\"", to, rc, err.msg,
                  code, text);
    CHECK_STR(folder_names(base, after, sizeof after), before);
}

static void a_name_that_is_taken_is_refused(void)
{
    char inside[700], names[256];
    REQUIRE(!mkdir(dst, 0755));
    file_write_text(dst, "mine", "precious");
    refused(dst, "int8", GLM4V_ERR_INVALID, "not empty");
    CHECK_STR(folder_names(dst, names, sizeof names), "mine ");
    refused(file_path(dst, "mine"), "int8", GLM4V_ERR_INVALID, "is not a folder");
    folder_remove(dst);
    REQUIRE(!symlink(src, dst));
    refused(dst, "int8", GLM4V_ERR_INVALID, "is not a folder");
    unlink(dst);
    refused(src, "int8", GLM4V_ERR_INVALID, "lies in the folder that is read");
    snprintf(inside, sizeof inside, "%s/new", src);
    refused(inside, "int8", GLM4V_ERR_INVALID, "lies in the folder that is read");
    refused(file_path(base, "absent/new"), "int8", GLM4V_ERR_NOT_FOUND, "absent");
    refused("", "int8", GLM4V_ERR_INVALID, "is not the path");
}

static void an_empty_folder_is_filled(void)
{
    char names[4096], with_slash[700];
    REQUIRE(!mkdir(dst, 0755));
    CHECK_EQ(convert("int8"), 0);
    CHECK_CONTAINS(folder_names(dst, names, sizeof names), "config.json model.safetensors ");
    folder_remove(dst);
    snprintf(with_slash, sizeof with_slash, "%s//", dst);
    CHECK_EQ(
        glm4v_quantize(src, with_slash, &(glm4v_quantize_options) { .quantization = "int8" }, &err),
        0);
    CHECK_CONTAINS(folder_names(dst, names, sizeof names), "config.json model.safetensors ");
    folder_remove(dst);
}

static void options_that_say_nothing_are_refused(void)
{
    refused(dst, NULL, GLM4V_ERR_INVALID, "name a form");
    refused(dst, "", GLM4V_ERR_INVALID, "name a form");
    refused(dst, "text=int5", GLM4V_ERR_INVALID, "int5");
    CHECK_EQ(glm4v_quantize(src, dst, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_quantize(NULL, dst, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_quantize(src, dst, NULL, NULL), GLM4V_ERR_INVALID);
}

static void a_quantized_source_is_refused(void)
{
    file_text t = file_read(src, "config.json");
    file_replace(src, "config.json", "{",
                 "{ \"quantization_config\": { \"quant_method\": \"awq\" },");
    refused(dst, "int8", GLM4V_ERR_UNSUPPORTED, "quantized already (awq)");
    file_write(src, "config.json", t.data, t.len);
    free(t.data);
}

static void tied_embeddings_stay_one_tensor(void)
{
    char tied[512], whole[600];
    snprintf(whole, sizeof whole, "%s", src);
    REQUIRE(!tiny_model_make(tied, sizeof tied, &(tiny_model_options) { .tied = true }));
    snprintf(src, sizeof src, "%s", tied);
    refused(dst, "lm-head=int8", GLM4V_ERR_UNSUPPORTED, "one tensor in this model");
    refused(dst, "int8,embedding=int8", GLM4V_ERR_UNSUPPORTED, "one tensor in this model");
    CHECK_EQ(convert("int8"), 0);
    CHECK(compare_with_opening("int8") > 7);
    file_text t = file_read(dst, "config.json");
    CHECK_CONTAINS(t.data, "\"re:.*lm_head$\""); /* a Linear to others, though no tensor here */
    free(t.data);
    folder_remove(dst);
    tiny_model_remove(tied);
    snprintf(src, sizeof src, "%s", whole);
}

/* ---- while it runs ---- */

static int change_source(void *user, uint64_t done, uint64_t total)
{
    if (done == total)
        return 0;
    int fd = open(file_path(src, "model.safetensors"), O_WRONLY | O_APPEND);
    CHECK_EQ(futimens(fd, (const struct timespec[2]) { { 1, 0 }, { 1, 0 } }), 0);
    close(fd);
    return 0;
}

static int cancel(void *user, uint64_t done, uint64_t total)
{
    CHECK(total > 0 && done <= total);
    return --*(int *)user < 0;
}

static void failing_with(glm4v_progress_fn progress, void *user, int code)
{
    char before[4096], after[4096];
    folder_names(base, before, sizeof before);
    memset(&err, 0, sizeof err);
    CHECK_EQ(glm4v_quantize(src, dst,
                            &(glm4v_quantize_options) { .quantization = "int8",
                                                        .progress = progress,
                                                        .progress_user = user },
                            &err),
             code);
    CHECK_EQ(err.code, code);
    CHECK_STR(folder_names(base, after, sizeof after), before);
}

static void a_source_that_changes_is_an_error(void)
{
    failing_with(change_source, NULL, GLM4V_ERR_IO);
    CHECK_CONTAINS(err.msg, "model.safetensors");
}

static void progress_can_cancel(void)
{
    for (int calls = 0; calls < 2; calls++) { /* the first call, and the last */
        int left = calls;
        failing_with(cancel, &left, GLM4V_ERR_CANCELED);
    }
    CHECK_EQ(convert("int8"), 0);
    folder_remove(dst);
}

static void a_damaged_number_is_named(void)
{
    glm4v_checkpoint *c = NULL;
    REQUIRE(!glm4v_checkpoint_open(&c, src, &err));
    uint64_t at = tensor(c, "model.language_model.layers.1.mlp.down_proj", ".weight")->offset + 10;
    glm4v_checkpoint_close(&c);
    uint16_t nan = 0x7fc0, was;
    int fd = open(file_path(src, "model.safetensors"), O_RDWR);
    REQUIRE(pread(fd, &was, 2, (off_t)at) == 2 && pwrite(fd, &nan, 2, (off_t)at) == 2);
    refused(dst, "int8", GLM4V_ERR_FORMAT, "layers.1.mlp.down_proj.weight\": number 5 of row 0");
    REQUIRE(pwrite(fd, &was, 2, (off_t)at) == 2);
    close(fd);
}

static void each_allocation_may_fail(void)
{
    uint64_t digest = 0;
    for (int on = 0; on < 2; on++) {
        glm4v_quantize_options options = { .quantization = "int4,lm-head=int8", .n_threads = 1 };
        REQUIRE(!glm4v_quantize(src, dst, &options, &err));
        digest = folder_digest(dst);
        folder_remove(dst);
        size_t live = glm4v_mem_live();
        uint64_t calls = glm4v_mem_calls();
        REQUIRE(!glm4v_quantize(src, dst, &options, &err));
        calls = glm4v_mem_calls() - calls;
        folder_remove(dst);
        CHECK(calls > 100);
        for (uint64_t n = 1; n <= calls; n += (uint64_t)test_stride(4)) {
            char names[4096];
            memset(&err, 0, sizeof err);
            glm4v_mem_fail_at(n, on);
            int rc = glm4v_quantize(src, dst, &options, &err);
            glm4v_mem_fail_at(0, false);
            if (rc != GLM4V_ERR_NOMEM || err.code != rc || !err.msg[0])
                test_fail(__FILE__, __LINE__, "allocation %llu: code %d, \"%s\"",
                          (unsigned long long)n, rc, err.msg);
            if (glm4v_mem_live() != live || strcmp(folder_names(base, names, sizeof names), "src "))
                test_fail(__FILE__, __LINE__, "allocation %llu: something stays: %s",
                          (unsigned long long)n, names);
        }
    }
    CHECK_EQ(convert("int4,lm-head=int8"), 0);
    CHECK(folder_digest(dst) == digest);
    folder_remove(dst);
}

/* ---- memory ---- */

static long peak_kib(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss;
}

/* In a process of its own: the peak of this one has been. */
static void memory_does_not_grow_with_the_checkpoint(void)
{
    const int64_t rows = getenv("GLM4V_DEEP") ? 2 << 20 : 600000; /* 2 x 512 MiB, 2 x 146 MiB */
    char whole[600], large[512];
    int pipe_fd[2];
    long grown = -1;
    snprintf(whole, sizeof whole, "%s", src);
    REQUIRE(!tiny_model_make(large, sizeof large, &(tiny_model_options) { .weights_only = true }));
    snprintf(src, sizeof src, "%s", large);
    large_model_make(src, rows);
    REQUIRE(!pipe(pipe_fd));
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        long before = peak_kib();
        if (glm4v_quantize(src, dst,
                           &(glm4v_quantize_options) {
                               .quantization = "int8,embedding=int8,lm-head=int4", .n_threads = 2 },
                           &err))
            printf("# %s\n", err.msg);
        else
            grown = peak_kib() - before;
        fflush(stdout);
        _exit(write(pipe_fd[1], &grown, sizeof grown) != sizeof grown);
    }
    REQUIRE(child > 0);
    REQUIRE(read(pipe_fd[0], &grown, sizeof grown) == sizeof grown);
    waitpid(child, NULL, 0);
    close(pipe_fd[0]);
    close(pipe_fd[1]);
    printf("# %lld MiB of weights: memory grew by %ld KiB\n",
           (long long)(large_model_bytes(rows) >> 20), grown);
    CHECK(grown >= 0 && grown < 32 << 10);
    folder_remove(dst);
    tiny_model_remove(large);
    snprintf(src, sizeof src, "%s", whole);
}

int main(void)
{
    if (tiny_model_mkdtemp(base, sizeof base))
        return 1;
    snprintf(src, sizeof src, "%s/src", base);
    snprintf(dst, sizeof dst, "%s/dst", base);
    if (tiny_model_write(src, NULL))
        return 1;
    TEST(memory_does_not_grow_with_the_checkpoint); /* first: the peak of what is before counts */
    TEST(written_matrices_equal_on_load_quantization);
    TEST(a_written_embedding_equals_on_load_quantization);
    TEST(what_is_written_opens_to_the_same_model);
    TEST(rounded_activations_are_written_in_config);
    TEST(family_chatglm4v_is_converted_too);
    TEST(family_glm_ocr_is_converted_too);
    TEST(what_the_mtp_layer_copies_is_exempted_by_its_number);
    TEST(the_package_unpacks_the_numbers_that_the_engine_reads);
    TEST(what_is_not_quantized_keeps_its_bytes);
    TEST(narrow_inputs_stay_int8_under_int4);
    TEST(sixteen_bits_and_fp32_are_forms_too);
    TEST(config_gets_one_key_and_keeps_its_bytes);
    TEST(small_files_are_copied_and_weights_are_not);
    TEST(shards_are_bounded_and_hold_the_same);
    TEST(bytes_do_not_depend_on_threads);
    TEST(a_name_that_is_taken_is_refused);
    TEST(an_empty_folder_is_filled);
    TEST(options_that_say_nothing_are_refused);
    TEST(a_quantized_source_is_refused);
    TEST(tied_embeddings_stay_one_tensor);
    TEST(a_source_that_changes_is_an_error);
    TEST(progress_can_cancel);
    TEST(a_damaged_number_is_named);
    TEST(each_allocation_may_fail);
    tiny_model_remove(base);
    return test_end();
}
