/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exhaustive: every length that a header can be cut to, and every bit of it turned over, gives an
 * error or the same model. Runs by argument, so that they share the cores: `weights`, `text`, and
 * with one bit of each byte and every seventh length `chatglm4v`, the second family, and the
 * quantized checkpoints `int4`, `int4-32` and `fp8` (of fp8-dynamic, whose config says more). Under
 * a sanitizer all six try a seventh of that; with GLM4V_DEEP=1 every one tries every bit and every
 * length. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "base/mem.h"
#include "digest.h"
#include "files.h"
#include "gemm.h"
#include "model/model.h"
#include "test.h"
#include "tiny_model.h"

static char dir[512];
static glm4v_error err;
/* Sparse: one bit of each byte is turned over, another one in the next; every seventh length. Of
 * these, or of all, the first of every `of_so_many` (odd: each bit of a byte has its turn). */
static bool sparse;
static size_t of_so_many = 1;

static bool is_turned(size_t bit)
{
    const size_t byte = bit / 8;
    if (sparse && bit % 8 != byte % 8)
        return false;
    return (sparse ? byte : bit) % of_so_many == 0;
}

typedef struct {
    int errors, same;
} tally;

static uint64_t hash_linear(uint64_t h, const glm4v_weight *w)
{
    int32_t groups = glm4v_form_groups(w->form, w->blocks, w->n_in);
    uint64_t scales = w->scale ? (uint64_t)glm4v_panel_count(w->n_out) * GLM4V_PANEL *
                                     (uint64_t)groups * sizeof *w->scale
                               : 0;
    return digest_bytes(w->scale, scales, digest_bytes(w->data, w->bytes - scales, h));
}

static uint64_t hash_table(uint64_t h, const glm4v_table *t)
{
    uint64_t scales = t->scale ? (uint64_t)t->n_rows * sizeof *t->scale : 0;
    return digest_bytes(t->scale, scales, digest_bytes(t->data, t->bytes - scales, h));
}

/* The numbers that decide what is computed, by a walk over everything loaded in its fp32 or packed
 * form. No model here has zero points or an order of inputs. */
static uint64_t fingerprint(const glm4v_model *m)
{
    uint64_t h = DIGEST_BEGIN;
    for (uint32_t i = 0; i < m->plan.n; i++) {
        const glm4v_item *item = &m->plan.items[i];
        h = item->kind == GLM4V_ITEM_LINEAR ? hash_linear(h, item->to.linear)
            : item->kind == GLM4V_ITEM_TABLE
                ? hash_table(h, item->to.table)
                : digest_bytes(*item->to.vector, (uint64_t)item->n_out * (uint64_t)item->n_in * 4,
                               h);
    }
    return h;
}

/* Fingerprint of dir, or 0 with a message in err. */
static uint64_t load(void)
{
    glm4v_model *m = NULL;
    glm4v_model_options options = { .weights_only = 1, .n_threads = 1 };
    if (glm4v_model_open(&m, dir, &options, &err))
        return 0;
    uint64_t h = fingerprint(m);
    glm4v_model_close(&m);
    return h;
}

static void check_error(int rc, const char *what, size_t at)
{
    bool known = rc == GLM4V_ERR_FORMAT || rc == GLM4V_ERR_UNSUPPORTED || rc == GLM4V_ERR_IO ||
                 rc == GLM4V_ERR_NOT_FOUND;
    if (!known || err.code != rc || !err.msg[0])
        test_fail(__FILE__, __LINE__, "%s at %zu: code %d, message \"%s\"", what, at, rc, err.msg);
}

static void report(const char *what, tally t)
{
    printf("# %s: %d errors, %d the same model\n", what, t.errors, t.same);
    CHECK(t.errors > 0);
}

/* ---- weights ---- */

/* Inspecting is what loading does before it takes memory: where it fails, so does the load. */
static void look(tally *t, uint64_t whole, const char *what, size_t at)
{
    glm4v_model_info info = { 0 };
    memset(&err, 0, sizeof err);
    int rc = glm4v_model_inspect(dir, &(glm4v_model_options) { .weights_only = 1 }, &info, &err);
    if (rc) {
        check_error(rc, what, at);
        t->errors++;
        return;
    }
    t->same++;
    uint64_t h = load();
    if (h != whole)
        test_fail(__FILE__, __LINE__, "%s at %zu loads another model (%s)", what, at,
                  h ? "" : err.msg);
}

static void sweep_lengths(const char *name, size_t end, size_t whole_len)
{
    tally t = { 0 };
    uint64_t whole = load();
    REQUIRE(whole);
    file_text text = file_read(dir, name);
    const size_t step = (sparse ? 7 : 1) * of_so_many;
    for (size_t len = 0; len < whole_len; len += len < end ? step : 1 + len / 16) {
        file_write(dir, name, text.data, len);
        look(&t, whole, name, len);
    }
    file_write(dir, name, text.data, text.len);
    free(text.data);
    report(name, t);
}

/* Turn bit by bit over in place, [0, end). judge: does the memory alone already show the error? */
static void sweep_bits(const char *name, size_t end, bool (*judge)(char *data, size_t len))
{
    tally t = { 0 };
    uint64_t whole = load();
    REQUIRE(whole);
    file_text text = file_read(dir, name);
    int fd = open(file_path(dir, name), O_WRONLY);
    REQUIRE(fd >= 0);
    for (size_t bit = 0; bit < 8 * end; bit++) {
        const size_t at = bit / 8;
        if (!is_turned(bit))
            continue;
        text.data[at] = (char)(text.data[at] ^ 1 << bit % 8);
        if (judge(text.data, text.len)) {
            CHECK_EQ(pwrite(fd, text.data + at, 1, (off_t)at), 1);
            look(&t, whole, name, at);
        } else {
            t.errors++;
        }
        text.data[at] = (char)(text.data[at] ^ 1 << bit % 8);
        CHECK_EQ(pwrite(fd, text.data + at, 1, (off_t)at), 1);
    }
    close(fd);
    free(text.data);
    report(name, t);
}

/* True where only opening the file can tell. */
static bool header_may_be_good(char *data, size_t len)
{
    glm4v_checkpoint *c = NULL;
    file_text text = { data, len };
    size_t header = file_header_len(text);
    if (header > len - 8)
        return true; /* the length itself was changed */
    int rc = glm4v_checkpoint_open_header(&c, data + 8, header, len - 8 - header, &err);
    glm4v_checkpoint_close(&c);
    if (rc)
        check_error(rc, "header", 0);
    return !rc;
}

static bool index_may_be_good(char *data, size_t len)
{
    int64_t shards;
    int rc = glm4v_checkpoint_check_index(data, len, &shards, &err);
    if (rc)
        check_error(rc, "index", 0);
    return !rc;
}

static bool config_may_be_good(char *data, size_t len)
{
    glm4v_config c;
    int rc = glm4v_config_parse(&c, data, len, &err);
    if (rc)
        check_error(rc, "config.json", 0);
    return !rc;
}

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

static void a_cut_weight_file_is_an_error(void)
{
    file_text t = file_read(dir, SINGLE);
    size_t end = 8 + file_header_len(t), len = t.len;
    free(t.data);
    sweep_lengths(SINGLE, end, len);
}

static void a_turned_bit_in_the_header_is_an_error_or_the_same_model(void)
{
    file_text t = file_read(dir, SINGLE);
    size_t end = 8 + file_header_len(t);
    free(t.data);
    sweep_bits(SINGLE, end, header_may_be_good);
}

static void a_cut_index_is_an_error(void)
{
    file_text t = file_read(dir, INDEX);
    size_t len = t.len;
    free(t.data);
    sweep_lengths(INDEX, len, len);
}

static void a_turned_bit_in_the_index_is_an_error_or_the_same_model(void)
{
    file_text t = file_read(dir, INDEX);
    size_t len = t.len;
    free(t.data);
    sweep_bits(INDEX, len, index_may_be_good);
}

static void a_cut_configuration_is_an_error(void)
{
    file_text t = file_read(dir, "config.json");
    size_t len = t.len;
    free(t.data);
    sweep_lengths("config.json", len, len);
}

/* A bit may turn one permitted value into another (an epsilon, an id): the weights must then still
 * be the same. */
static void a_turned_bit_in_the_configuration_never_changes_the_weights(void)
{
    file_text t = file_read(dir, "config.json");
    size_t len = t.len;
    free(t.data);
    sweep_bits("config.json", len, config_may_be_good);
}

static void a_turned_bit_of_a_quantized_model_is_an_error_or_the_same_model(void)
{
    a_turned_bit_in_the_header_is_an_error_or_the_same_model();
    a_turned_bit_in_the_configuration_never_changes_the_weights();
}

/* ---- text files around the weights ---- */

typedef struct {
    glm4v_chat chat;
    uint64_t tokens; /* hash of all ordinary tokens' bytes */
    glm4v_config config;
} text_parts;

static int open_text(text_parts *out)
{
    text_parts p;
    glm4v_tokenizer *tokenizer = NULL;
    memset(&p, 0, sizeof p);
    p.tokens = DIGEST_BEGIN;
    int rc = glm4v_config_read(&p.config, dir, true, &err);
    if (!rc)
        rc = glm4v_tokenizer_open(&tokenizer, dir, &err);
    if (!rc)
        rc = glm4v_chat_init(&p.chat, tokenizer, &p.config, &err);
    for (int32_t id = 0; !rc && id < TINY_BASE; id++) {
        size_t len = 0;
        const char *bytes = glm4v_tokenizer_bytes(tokenizer, id, &len);
        for (size_t i = 0; i < len; i++)
            p.tokens = (p.tokens ^ (unsigned char)bytes[i]) * 0x100000001b3u;
        p.tokens = (p.tokens ^ len) * 0x100000001b3u;
    }
    glm4v_tokenizer_close(&tokenizer);
    if (!rc)
        *out = p;
    return rc;
}

/* The same control ids. Names without which the family still works may be gone: nothing else tells
 * that such a name was there before. */
static bool same_chat(const glm4v_chat *a, const glm4v_chat *whole)
{
    glm4v_chat b = *whole;
    b.observation = a->observation < 0 ? -1 : b.observation;
    b.box = a->box < 0 ? -1 : b.box;
    b.box_end = a->box_end < 0 ? -1 : b.box_end;
    return !memcmp(a, &b, sizeof b);
}

static void look_text(tally *t, const text_parts *whole, const char *what, size_t at)
{
    text_parts p;
    memset(&err, 0, sizeof err);
    int rc = open_text(&p);
    if (rc) {
        check_error(rc, what, at);
        t->errors++;
        return;
    }
    t->same++;
    if (p.tokens != whole->tokens || !same_chat(&p.chat, &whole->chat))
        test_fail(__FILE__, __LINE__, "%s at %zu opens with other tokens", what, at);
}

static void sweep_text(const char *name, bool bits)
{
    tally lengths = { 0 }, turned = { 0 };
    text_parts whole;
    memset(&whole, 0, sizeof whole);
    REQUIRE(!open_text(&whole));
    file_text text = file_read(dir, name);
    for (size_t len = 0; len < text.len; len += of_so_many) {
        file_write(dir, name, text.data, len);
        look_text(&lengths, &whole, name, len);
    }
    file_write(dir, name, text.data, text.len);
    int fd = open(file_path(dir, name), O_WRONLY);
    REQUIRE(fd >= 0);
    for (size_t bit = 0; bits && bit < 8 * text.len; bit++) {
        const size_t at = bit / 8;
        if (!is_turned(bit))
            continue;
        char changed = (char)(text.data[at] ^ 1 << bit % 8);
        CHECK_EQ(pwrite(fd, &changed, 1, (off_t)at), 1);
        look_text(&turned, &whole, name, at);
        CHECK_EQ(pwrite(fd, text.data + at, 1, (off_t)at), 1);
    }
    close(fd);
    free(text.data);
    report(name, lengths);
    if (bits)
        report(name, turned);
}

static void processor_settings_survive_or_are_refused(void)
{
    sweep_text("preprocessor_config.json", true);
}

static void control_tokens_survive_or_are_refused(void)
{
    sweep_text("tokenizer_config.json", true);
}

static void a_cut_vocabulary_is_an_error(void)
{
    sweep_text("tokenizer.model", false);
}

static void a_cut_tokenizer_is_an_error(void)
{
    sweep_text("tokenizer.json", false);
}

/* Run fn on a fresh model in dir, quantized on the disk where a form is named. */
static void in_model(const tiny_model_options *options, const char *quantization, const char *name,
                     void (*fn)(void))
{
    if (tiny_model_make(dir, sizeof dir, options))
        file_die("cannot make", "the tiny model");
    if (quantization) {
        char plain[512];
        const glm4v_quantize_options how = { .quantization = quantization, .n_threads = 1 };
        if (tiny_model_mkdtemp(plain, sizeof plain) || rmdir(plain) || rename(dir, plain) ||
            glm4v_quantize(plain, dir, &how, &err))
            file_die("cannot quantize", dir);
        tiny_model_remove(plain);
    }
    size_t live = glm4v_mem_live();
    test_run(name, fn);
    if (glm4v_mem_live() != live)
        printf("Bail out! %zu bytes are still allocated\n", glm4v_mem_live() - live);
    tiny_model_remove(dir);
}
#define IN(options, fn) in_model(options, NULL, #fn, fn)
#define IN_QUANTIZED(options, quantization, fn) in_model(options, quantization, #fn, fn)

int main(int argc, char **argv)
{
    const tiny_model_options single = { .weights_only = true },
                             sharded = { .weights_only = true, .shards = 2 };
    const tiny_model_options tiktoken = { .tiktoken = true };
    const tiny_model_options chatglm4v = { .weights_only = true, .chatglm4v = true };
    of_so_many = (size_t)test_stride(7);
    if (argc > 1 && !strcmp(argv[1], "weights")) {
        IN(&single, a_cut_weight_file_is_an_error);
        IN(&single, a_turned_bit_in_the_header_is_an_error_or_the_same_model);
        IN(&sharded, a_cut_index_is_an_error);
        IN(&sharded, a_turned_bit_in_the_index_is_an_error_or_the_same_model);
    } else if (argc > 1 && !strcmp(argv[1], "chatglm4v")) {
        sparse = !getenv("GLM4V_DEEP");
        IN(&chatglm4v, a_cut_weight_file_is_an_error);
        IN(&chatglm4v, a_turned_bit_in_the_header_is_an_error_or_the_same_model);
        IN(&chatglm4v, a_cut_configuration_is_an_error);
        IN(&chatglm4v, a_turned_bit_in_the_configuration_never_changes_the_weights);
    } else if (argc > 1 && !strcmp(argv[1], "int4")) {
        sparse = !getenv("GLM4V_DEEP");
        IN_QUANTIZED(&single, "text=int4,vision=int8", a_cut_weight_file_is_an_error);
        IN_QUANTIZED(&single, "text=int4,vision=int8", a_cut_configuration_is_an_error);
        IN_QUANTIZED(&single, "text=int4,vision=int8",
                     a_turned_bit_of_a_quantized_model_is_an_error_or_the_same_model);
    } else if (argc > 1 && !strcmp(argv[1], "int4-32")) {
        sparse = !getenv("GLM4V_DEEP");
        IN_QUANTIZED(&single, "text=int4-32,vision=int8", a_cut_weight_file_is_an_error);
        IN_QUANTIZED(&single, "text=int4-32,vision=int8", a_cut_configuration_is_an_error);
        IN_QUANTIZED(&single, "text=int4-32,vision=int8",
                     a_turned_bit_of_a_quantized_model_is_an_error_or_the_same_model);
    } else if (argc > 1 && !strcmp(argv[1], "fp8")) {
        sparse = !getenv("GLM4V_DEEP");
        IN_QUANTIZED(&chatglm4v, "fp8-dynamic",
                     a_turned_bit_of_a_quantized_model_is_an_error_or_the_same_model);
    } else {
        IN(&single, a_cut_configuration_is_an_error);
        IN(&single, a_turned_bit_in_the_configuration_never_changes_the_weights);
        IN(&tiktoken, processor_settings_survive_or_are_refused);
        IN(&tiktoken, control_tokens_survive_or_are_refused);
        IN(&tiktoken, a_cut_vocabulary_is_an_error);
        IN(NULL, a_cut_tokenizer_is_an_error);
    }
    return test_end();
}
