/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-08: a whole model directory: open it, describe one small picture, close; or convert it. The
 * input is a small archive of up to five files that take the place of those of a good model, each
 * told whole or as a change of the good one, so that everything else stays right:
 *   byte 0: which model; byte 1: which weight form, from 128 on: convert to it;
 *   then records: file, kind, length (two bytes, low one first), payload.
 * The good files lie in a model cache (blobs/), the directory in its snapshots/; they are linked
 * into it: only what a record tells is written. P-14: some inputs are tried again with an
 * allocation that fails. */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "files.h"
#include "fuzz.h"
#include "glm4v/glm4v.h"
#include "json_edits.h"
#include "tiny_model.h"

enum { MAX_MODEL_FILES = 12, MAX_RECORDS = 5, SPECIAL = 0xf0, CONVERT = 0x80 };

typedef struct {
    char name[256];
    file_text text;
    size_t json_at, json_len; /* where the JSON in it is: a weight file's header */
    json_base *base;          /* NULL = no JSON */
} model_file;

typedef struct {
    char root[512];           /* of the cache */
    char good[600], dir[600]; /* in it: files as written; what is opened */
    model_file files[MAX_MODEL_FILES];
    size_t n;
} model_dir;

/* How a model is written, and quantized on the disk if it is. */
static const struct {
    tiny_model_options tiny;
    const char *quantization;
} variants[] = {
    { { 0 }, NULL },
    { { .flat_config = true, .short_prefix = true, .shards = 2 }, NULL },
    { { .glm45 = true, .split_gate_up = true, .tied = true, .dtype = TINY_F16 }, NULL },
    { { .tiktoken = true, .dtype = TINY_F32 }, NULL },
    { { .chatglm4v = true }, NULL },
    { { .split_gate_up = true }, "text=int4,vision=int8" },
    { { .chatglm4v = true, .shards = 2 }, "text=fp8,embedding=int8,lm-head=int8" },
};
enum { N_VARIANTS = sizeof variants / sizeof *variants };
static model_dir models[N_VARIANTS];
static const char *const forms[] = { NULL, "int8", "int4", "text=int4,vision=int8", "fp32" };
enum { N_FORMS = sizeof forms / sizeof *forms };

/* ---- the good models ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static void read_model_file(model_dir *m, const char *name)
{
    model_file *f = &m->files[m->n++];
    FUZZ_CHECK(m->n <= MAX_MODEL_FILES);
    snprintf(f->name, sizeof f->name, "%s", name);
    f->text = file_read(m->good, name);
    f->json_len = f->text.len;
    if (ends_with(name, ".safetensors")) {
        f->json_at = 8;
        f->json_len = file_header_len(f->text);
    } else if (!ends_with(name, ".json")) {
        return;
    }
    f->base = malloc(sizeof *f->base);
    FUZZ_CHECK(f->base);
    json_base_init(f->base, f->text.data + f->json_at, f->json_len);
}

static void restore(const model_dir *m, const model_file *f)
{
    remove(file_path(m->dir, f->name));
    FUZZ_CHECK(!link(file_path(m->good, f->name), file_path(m->dir, f->name)));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const model_file *)a)->name, ((const model_file *)b)->name);
}

/* Take the place of the model in dir by its quantized form. */
static void quantize(const char *dir, const char *quantization)
{
    char plain[512];
    glm4v_error err;
    FUZZ_CHECK(!tiny_model_mkdtemp(plain, sizeof plain));
    FUZZ_CHECK(!rmdir(plain) && !rename(dir, plain));
    const glm4v_quantize_options options = { .quantization = quantization, .n_threads = 1 };
    FUZZ_CHECK(!glm4v_quantize(plain, dir, &options, &err));
    tiny_model_remove(plain);
}

static void make_folder(const char *dir, const char *name)
{
    FUZZ_CHECK(!mkdir(file_path(dir, name), 0755));
}

static void make_model(model_dir *m, int variant)
{
    char made[512];
    FUZZ_CHECK(!tiny_model_make(made, sizeof made, &variants[variant].tiny) &&
               !tiny_model_mkdtemp(m->root, sizeof m->root));
    if (variants[variant].quantization)
        quantize(made, variants[variant].quantization);
    snprintf(m->good, sizeof m->good, "%s/blobs", m->root);
    snprintf(m->dir, sizeof m->dir, "%s/snapshots/1", m->root);
    FUZZ_CHECK(!rename(made, m->good));
    make_folder(m->root, "snapshots");
    make_folder(m->root, "snapshots/1");
    make_folder(m->dir, ".cache");
    make_folder(m->dir, ".cache/huggingface");
    make_folder(m->dir, ".cache/huggingface/download");
    DIR *d = opendir(m->good);
    FUZZ_CHECK(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            read_model_file(m, e->d_name);
    closedir(d);
    qsort(m->files, m->n, sizeof *m->files, by_name);
    for (size_t i = 0; i < m->n; i++)
        restore(m, &m->files[i]);
}

static void remove_models(void)
{
    for (int i = 0; i < N_VARIANTS; i++)
        tiny_model_remove(models[i].root);
}

/* ---- records ---- */

static uint32_t number(const uint8_t *data, size_t bytes)
{
    uint32_t n = 0;
    for (size_t i = bytes; i-- > 0;)
        n = n << 8 | data[i];
    return n;
}

/* Bytes of the good file changed: three of offset (the first 64 KiB, or counted from the end), one
 * of value. */
static void write_bytes(const model_dir *m, const model_file *f, const uint8_t *edits, size_t size)
{
    char *copy = malloc(f->text.len);
    memcpy(copy, f->text.data, f->text.len);
    for (; size >= 4 && f->text.len; edits += 4, size -= 4) {
        size_t at = number(edits, 2) % f->text.len;
        copy[edits[2] & 1 ? f->text.len - 1 - at : at] = (char)edits[3];
    }
    file_write(m->dir, f->name, copy, f->text.len);
    free(copy);
}

/* Values of the good file's JSON replaced; the weights after a header stay where they are from its
 * end. */
static void write_json(const model_dir *m, const model_file *f, const uint8_t *edits, size_t size)
{
    size_t len, tail = f->text.len - f->json_at - f->json_len;
    char *json = json_edited(f->base, edits, size, &len);
    char *whole = malloc(f->json_at + len + tail);
    uint64_t header = len;
    memcpy(whole, &header, f->json_at);
    memcpy(whole + f->json_at, json, len);
    memcpy(whole + f->json_at + len, f->text.data + f->json_at + f->json_len, tail);
    file_write(m->dir, f->name, whole, f->json_at + len + tail);
    free(whole);
    free(json);
}

static void write_cut(const model_dir *m, const model_file *f, const uint8_t *data, size_t size)
{
    size_t n = number(data, size < 3 ? size : 3) % (f->text.len + 1);
    file_write(m->dir, f->name, f->text.data, size > 3 && data[3] & 1 ? f->text.len - n : n);
}

/* A file of another model, or another file of this one, under this name. */
static void write_other(const model_dir *m, const model_file *f, const uint8_t *data, size_t size)
{
    const model_dir *from = &models[size ? data[0] % N_VARIANTS : 0];
    const model_file *other = &from->files[size > 1 ? data[1] % from->n : 0];
    for (size_t i = 0; size < 2 && i < from->n; i++)
        if (!strcmp(from->files[i].name, f->name))
            other = &from->files[i];
    file_write(m->dir, f->name, other->text.data, other->text.len);
}

/* No file at all under its name: a folder, a FIFO, or a link to what the payload tells. */
static void write_special(const model_dir *m, const model_file *f, const uint8_t *data, size_t size)
{
    const model_dir *other = &models[size > 1 ? data[1] % N_VARIANTS : 0];
    const char *at = file_path(m->dir, f->name), *to = NULL;
    const uint8_t what = size ? data[0] % 8 : 0;
    if (what == 0)
        to = file_path(m->good, f->name); /* as a model cache has it */
    else if (what == 1)
        to = file_path(other->good, other->files[0].name);
    else if (what == 2)
        to = m->files[size > 1 ? data[1] % m->n : 0].name; /* beside it, or itself */
    else if (what == 3)
        to = "nowhere";
    else if (what == 4)
        to = "/dev/null";
    remove(at);
    FUZZ_CHECK(!(to ? symlink(to, at) : what == 5 ? mkfifo(at, 0600) : mkdir(at, 0700)));
}

/* Files that no model has, beside the others: empty, what counts is the name. */
static const char *const strangers[] = {
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model-00003-of-00007.safetensors",
    "model-00004-of-00007.safetensors",
    "model-00002-of-00002.safetensors.part",
    "a.incomplete",
    ".cache/huggingface/download/b.incomplete",
    "adapter_model.safetensors",
    "weights.safetensors",
    "pytorch_model.bin",
    "model-q4.gguf",
};
enum { N_STRANGERS = sizeof strangers / sizeof *strangers };
static bool strangers_there;

static bool is_good(const model_dir *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->files[i].name, name))
            return true;
    return false;
}

static void write_strangers(const model_dir *m, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const char *name = strangers[data[i] % N_STRANGERS];
        if (is_good(m, name))
            continue;
        file_write(m->dir, name, "", 0);
        strangers_there = true;
    }
}

static void remove_strangers(const model_dir *m)
{
    for (size_t i = 0; strangers_there && i < N_STRANGERS; i++)
        if (!is_good(m, strangers[i]))
            unlink(file_path(m->dir, strangers[i]));
    strangers_there = false;
}

static const model_file *apply(const model_dir *m, const uint8_t *record, size_t len)
{
    const model_file *f = &m->files[record[0] % m->n];
    const uint8_t *payload = record + 4;
    if (record[1] >= SPECIAL) {
        if (record[1] & 1)
            write_strangers(m, payload, len);
        else
            write_special(m, f, payload, len);
        return f;
    }
    remove(file_path(m->dir, f->name)); /* an earlier record may have made a folder of it */
    switch (record[1] % 6) {
    case 0:
        file_write(m->dir, f->name, payload, len);
        break;
    case 1:
        write_bytes(m, f, payload, len);
        break;
    case 2:
        write_cut(m, f, payload, len);
        break;
    case 3:
        write_other(m, f, payload, len);
        break;
    case 4:
        if (!f->base)
            write_bytes(m, f, payload, len);
        else
            write_json(m, f, payload, len);
        break;
    default: /* there is none */
        break;
    }
    return f;
}

/* ---- what must hold ---- */

static void check_failure(int rc, const glm4v_error *err)
{
    FUZZ_CHECK(rc == GLM4V_ERR_FORMAT || rc == GLM4V_ERR_UNSUPPORTED || rc == GLM4V_ERR_IO ||
               rc == GLM4V_ERR_NOT_FOUND || rc == GLM4V_ERR_INVALID || rc == GLM4V_ERR_NOMEM);
    FUZZ_CHECK(err->code == rc && err->msg[0] &&
               glm4v_utf8_valid(err->msg, strlen(err->msg), NULL));
}

/* One picture of one image token, two tokens of answer. */
static int describe(glm4v_model *model)
{
    static const uint8_t pixels[28 * 28 * 3] = { 255, 128, 64 };
    const glm4v_image image = { .data = pixels, .width = 28, .height = 28, .stride = 84 };
    const glm4v_engine_options options = {
        .max_batch = 1, .context_length = 64, .max_pixels = 784, .prefix_tokens = 1
    };
    const glm4v_task task = {
        .prompt = "a", .images = &image, .n_images = 1, .max_tokens = 2, .temperature = 1
    };
    glm4v_engine *engine = NULL;
    glm4v_result *result = NULL;
    glm4v_error err = { 0 };
    int rc = glm4v_engine_open(&engine, model, &options, &err);
    if (rc) {
        check_failure(rc, &err);
        return rc;
    }
    rc = glm4v_describe(engine, &task, &result, &err);
    if (rc)
        FUZZ_CHECK(err.code == rc && err.msg[0]);
    else
        FUZZ_CHECK(glm4v_utf8_valid(result->text, strlen(result->text), NULL));
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
    return rc;
}

/* Something comes out, which is looked at, or nothing is there. */
static int convert(const model_dir *m, uint8_t form)
{
    static const char *const to[] = { "int8", "int4", "fp8-dynamic",
                                      "text=int4,vision=int8,lm-head=int8" };
    char out[700];
    glm4v_error err = { 0 };
    glm4v_model_info info = { 0 };
    const glm4v_quantize_options options = { .quantization = to[form % 4], .n_threads = 1 };
    snprintf(out, sizeof out, "%s/out", m->root);
    int rc = glm4v_quantize(m->dir, out, &options, &err);
    if (rc) {
        check_failure(rc, &err);
        FUZZ_CHECK(access(out, F_OK));
    } else {
        const glm4v_model_options weights = { .weights_only = 1 };
        int opened = glm4v_model_inspect(out, &weights, &info, &err);
        if (opened)
            check_failure(opened, &err);
        tiny_model_remove(out);
    }
    return rc;
}

static int use(const model_dir *m, uint8_t form)
{
    if (form >= CONVERT)
        return convert(m, form);
    glm4v_model *model = NULL;
    glm4v_error err = { 0 };
    const glm4v_model_options options = { .device = "cpu",
                                          .quantization = forms[form % N_FORMS],
                                          .n_threads = 1 };
    int rc = glm4v_model_open(&model, m->dir, &options, &err);
    if (rc)
        check_failure(rc, &err);
    else
        rc = describe(model);
    glm4v_model_close(&model);
    return rc;
}

static void start(void)
{
    atexit(remove_models);
    for (uint8_t i = 0; i < N_VARIANTS; i++) {
        make_model(&models[i], i);
        FUZZ_CHECK(!use(&models[i], i)); /* or nothing below could fail */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const model_file *changed[MAX_RECORDS];
    int n = 0;
    if (size < 2)
        return 0;
    if (!models[0].n)
        start();
    size_t live = glm4v_mem_live();
    const model_dir *m = &models[data[0] % N_VARIANTS];
    uint8_t form = data[1];
    for (size_t at = 2; n < MAX_RECORDS && size - at >= 4; n++) {
        size_t len = number(data + at + 2, 2), room = size - at - 4;
        len = len < room ? len : room;
        changed[n] = apply(m, data + at, len);
        at += 4 + len;
    }
    uint64_t before = glm4v_mem_calls();
    use(m, form);
    uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    if (nth) {
        glm4v_mem_fail_at(nth, false);
        use(m, form);
        glm4v_mem_fail_at(0, false);
    }
    while (n > 0)
        restore(m, changed[--n]);
    remove_strangers(m);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
