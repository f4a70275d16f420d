/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast a model is opened, beside how fast its file is read; a figure, no test. Writes a
 * checkpoint of Gaussian bf16 weights (glm4v with wide text layers and hardly any vision tower) and
 * its int4, int8 and fp8 copies to a temporary directory, then times in turn, run by run: `cat` of
 * the weights (as `cat FILE > /dev/null`: read in pieces of 128 KiB and thrown away, one thread),
 * opening the directory as stored, and opening the bf16 one quantized on the way. All files are in
 * the page cache. Rates are bytes of the files a second, and a second of processor time (THREADS
 * open); medians of the runs, and the fastest. Beside them the rate at which the system
 * hands out fresh memory, which opening needs and cat does not.
 *
 * Usage: load-bench [LAYERS [RUNS [WHAT [THREADS]]]]
 * Default 8 (770 MB of bf16, 1.8 GB in all), 5 runs, all lines, 2; WHAT: lines whose name holds it
 * ("int4").
 * Environment: TMPDIR. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "folders.h"
#include "glm4v/glm4v.h"

enum { HIDDEN = 2048, FFN = 6144, KV = 256, VOCAB = 96, VISION = 128 };
enum { MERGER = 256, TENSORS = 2048, RUNS = 64 };

static const char config_text[] =
    "{\"model_type\":\"glm4v\",\"architectures\":[\"Glm4vForConditionalGeneration\"],"
    "\"tie_word_embeddings\":false,\"image_start_token_id\":76,\"image_end_token_id\":77,"
    "\"video_start_token_id\":78,\"video_end_token_id\":79,\"image_token_id\":80,"
    "\"video_token_id\":81,\"eos_token_id\":[66,72],\"text_config\":{\"model_type\":\"glm4v_text\","
    "\"vocab_size\":%d,\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
    "\"num_attention_heads\":16,\"num_key_value_heads\":2,\"hidden_act\":\"silu\","
    "\"attention_bias\":true,\"max_position_embeddings\":512,\"rms_norm_eps\":1e-05,"
    "\"eos_token_id\":[66,72],\"pad_token_id\":66,\"rope_parameters\":{\"rope_type\":\"default\","
    "\"rope_theta\":10000.0,\"partial_rotary_factor\":0.5,\"mrope_section\":[8,12,12]}},"
    "\"vision_config\":{\"model_type\":\"glm4v_vision\",\"depth\":1,\"hidden_size\":%d,"
    "\"num_heads\":2,\"patch_size\":4,\"temporal_patch_size\":2,\"spatial_merge_size\":2,"
    "\"in_channels\":3,\"image_size\":24,\"out_hidden_size\":%d,\"intermediate_size\":%d,"
    "\"hidden_act\":\"silu\",\"attention_bias\":false,\"rms_norm_eps\":1e-05}}\n";

typedef struct {
    char name[96], shape[48];
    uint64_t numbers;
    bool ones; /* factors of norms */
} tensor;

static tensor tensors[TENSORS];
static int n_tensors;
static uint32_t n_threads = 2; /* that open */

static void stop(const char *what)
{
    fprintf(stderr, "load-bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void add(const char *prefix, const char *name, int rows, int columns)
{
    if (n_tensors == TENSORS) {
        fprintf(stderr, "load-bench: too many layers\n");
        exit(1);
    }
    tensor *t = &tensors[n_tensors++];
    snprintf(t->name, sizeof t->name, "%s%s.weight", prefix, name);
    if (columns)
        snprintf(t->shape, sizeof t->shape, "%d,%d", rows, columns);
    else
        snprintf(t->shape, sizeof t->shape, "%d", rows);
    t->numbers = (uint64_t)rows * (uint64_t)(columns ? columns : 1);
    t->ones = !columns;
}

static void add_bias(const char *prefix, const char *name, int rows)
{
    add(prefix, name, rows, 0);
    tensor *t = &tensors[n_tensors - 1];
    snprintf(t->name, sizeof t->name, "%s%s.bias", prefix, name);
    t->ones = false;
}

static void add_convolution(const char *prefix, const char *name, int rows, int columns,
                            const char *shape)
{
    add(prefix, name, rows, columns);
    snprintf(tensors[n_tensors - 1].shape, sizeof tensors->shape, "%s", shape);
}

static void add_text(int layers)
{
    char p[64];
    add("model.language_model.", "embed_tokens", VOCAB, HIDDEN);
    for (int i = 0; i < layers; i++) {
        snprintf(p, sizeof p, "model.language_model.layers.%d.", i);
        add(p, "input_layernorm", HIDDEN, 0);
        add(p, "self_attn.q_proj", HIDDEN, HIDDEN);
        add(p, "self_attn.k_proj", KV, HIDDEN);
        add(p, "self_attn.v_proj", KV, HIDDEN);
        add_bias(p, "self_attn.q_proj", HIDDEN);
        add_bias(p, "self_attn.k_proj", KV);
        add_bias(p, "self_attn.v_proj", KV);
        add(p, "self_attn.o_proj", HIDDEN, HIDDEN);
        add(p, "post_self_attn_layernorm", HIDDEN, 0);
        add(p, "post_attention_layernorm", HIDDEN, 0);
        add(p, "mlp.gate_up_proj", 2 * FFN, HIDDEN);
        add(p, "mlp.down_proj", HIDDEN, FFN);
        add(p, "post_mlp_layernorm", HIDDEN, 0);
    }
    add("model.language_model.", "norm", HIDDEN, 0);
    add("", "lm_head", VOCAB, HIDDEN);
}

static void add_vision(void)
{
    const char *v = "model.visual.", *b = "model.visual.blocks.0.", *m = "model.visual.merger.";
    add_convolution(v, "patch_embed.proj", VISION, 96, "128,3,2,4,4");
    add_bias(v, "patch_embed.proj", VISION);
    add(v, "post_conv_layernorm", VISION, 0);
    add(v, "embeddings.position_embedding", 36, VISION);
    add(b, "norm1", VISION, 0);
    add(b, "attn.qkv", 3 * VISION, VISION);
    add(b, "attn.proj", VISION, VISION);
    add(b, "norm2", VISION, 0);
    add(b, "mlp.gate_proj", HIDDEN, VISION);
    add(b, "mlp.up_proj", HIDDEN, VISION);
    add(b, "mlp.down_proj", VISION, HIDDEN);
    add(v, "post_layernorm", VISION, 0);
    add_convolution(v, "downsample", HIDDEN, 4 * VISION, "2048,128,2,2");
    add_bias(v, "downsample", HIDDEN);
    add(m, "proj", HIDDEN, HIDDEN);
    add(m, "post_projection_norm", HIDDEN, 0);
    add_bias(m, "post_projection_norm", HIDDEN);
    add(m, "gate_proj", MERGER, HIDDEN);
    add(m, "up_proj", MERGER, HIDDEN);
    add(m, "down_proj", HIDDEN, MERGER);
}

/* Sum of four uniforms as bf16: near enough to Gaussian, and quick. */
static void write_numbers(FILE *f, const tensor *t, uint64_t *state)
{
    uint16_t block[4096];
    for (uint64_t left = t->numbers; left;) {
        const size_t n = left < 4096 ? (size_t)left : 4096;
        for (size_t i = 0; i < n; i++) {
            uint64_t z = *state += 0x9e3779b97f4a7c15u;
            z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
            z ^= z >> 27;
            const int32_t sum =
                (int32_t)((z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48)) -
                131070;
            const float x = t->ones ? 1 : (float)sum * 4e-7f;
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            block[i] = (uint16_t)(bits >> 16);
        }
        if (fwrite(block, sizeof *block, n, f) != n)
            stop("writing the weights");
        left -= n;
    }
}

static FILE *create(const char *dir, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f)
        stop(path);
    return f;
}

static void finish(FILE *f)
{
    if (fclose(f))
        stop("writing a file");
}

static void write_source(const char *dir, int layers)
{
    uint64_t at = 0, state = 1;
    add_text(layers);
    add_vision();
    FILE *f = create(dir, "config.json");
    fprintf(f, config_text, VOCAB, HIDDEN, FFN, layers, VISION, HIDDEN, MERGER);
    finish(f);
    size_t size = (size_t)n_tensors * 256, n = 1;
    char *header = malloc(size);
    if (!header)
        stop("header");
    header[0] = '{';
    for (int i = 0; i < n_tensors; i++) {
        const uint64_t bytes = tensors[i].numbers * 2;
        n += (size_t)snprintf(header + n, size - n,
                              "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],"
                              "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                              i ? "," : "", tensors[i].name, tensors[i].shape, at, at + bytes);
        at += bytes;
    }
    header[n++] = '}';
    while (n % 8)
        header[n++] = ' ';
    f = create(dir, "model.safetensors");
    const uint64_t length = n;
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, n, f);
    free(header);
    for (int i = 0; i < n_tensors; i++)
        write_numbers(f, &tensors[i], &state);
    finish(f);
}

/* Seconds on the wall, and of processors: the latter also where others keep the machine busy. */
typedef struct {
    double wall, cpu;
} moment;

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static moment since(moment start)
{
    return (moment) { seconds_of(CLOCK_MONOTONIC) - start.wall,
                      seconds_of(CLOCK_PROCESS_CPUTIME_ID) - start.cpu };
}

/* `cat FILE > /dev/null`, and the file's size. */
static moment cat(const char *dir, double *bytes)
{
    static char buffer[128 << 10];
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    const moment start = since((moment) { 0 });
    const int in = open(path, O_RDONLY), out = open("/dev/null", O_WRONLY);
    ssize_t got = 0;
    if (in < 0 || out < 0)
        stop(path);
    for (*bytes = 0; (got = read(in, buffer, sizeof buffer)) > 0; *bytes += (double)got)
        if (write(out, buffer, (size_t)got) != got)
            stop("/dev/null");
    close(in);
    close(out);
    return since(start);
}

/* Processor seconds a byte that the system takes to hand out fresh memory, as huge pages where it
 * has them: what a model costs whoever reads it. */
static double fresh_memory(size_t bytes)
{
    const size_t huge = 2u << 20;
    char *block =
        mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        stop("memory");
    madvise(block, bytes + huge, MADV_HUGEPAGE);
    const moment start = since((moment) { 0 });
    for (size_t i = 0; i < bytes; i += 4096)
        *(volatile char *)(block + i) = 1;
    const double cpu = since(start).cpu;
    munmap(block, bytes + huge);
    return cpu / (double)bytes;
}

static moment open_model(const char *dir, const char *quantization)
{
    const glm4v_model_options options = {
        .device = "cpu", .quantization = quantization, .weights_only = 1, .n_threads = n_threads
    };
    glm4v_model *model = NULL;
    glm4v_error err = { 0 };
    const moment start = since((moment) { 0 });
    const int rc = glm4v_model_open(&model, dir, &options, &err);
    const moment taken = since(start);
    if (rc) {
        fprintf(stderr, "load-bench: %s\n", err.msg);
        exit(1);
    }
    glm4v_model_close(&model);
    return taken;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

/* cat and open in turn: what else the machine does meets both. */
static void measure(const char *what, const char *dir, const char *quantization, int runs)
{
    double file[RUNS], file_cpu[RUNS], model[RUNS], model_cpu[RUNS], fresh[RUNS];
    double bytes = 0;
    cat(dir, &bytes);
    for (int i = 0; i < runs; i++) {
        const moment a = cat(dir, &bytes), b = open_model(dir, quantization);
        file[i] = a.wall;
        file_cpu[i] = a.cpu;
        model[i] = b.wall;
        model_cpu[i] = b.cpu;
        fresh[i] = fresh_memory((size_t)bytes);
    }
    const double cat_wall = median(file, runs), open_wall = median(model, runs);
    printf(
        "{\"load\":\"%s\",\"threads\":%u,\"megabytes\":%.1f,\"cat_gb_s\":%.2f,\"open_gb_s\":%.2f,"
        "\"percent_of_cat\":%.0f,\"fastest_cat_gb_s\":%.2f,\"fastest_open_gb_s\":%.2f,"
        "\"cat_gb_cpu_s\":%.2f,\"open_gb_cpu_s\":%.2f,\"fresh_memory_gb_cpu_s\":%.2f}\n",
        what, n_threads, bytes / 1e6, bytes / cat_wall / 1e9, bytes / open_wall / 1e9,
        100 * cat_wall / open_wall, bytes / file[0] / 1e9, bytes / model[0] / 1e9,
        bytes / median(file_cpu, runs) / 1e9, bytes / median(model_cpu, runs) / 1e9,
        1e-9 / median(fresh, runs));
    fflush(stdout);
}

static void convert(const char *source, const char *dir, const char *form)
{
    glm4v_error err = { 0 };
    const glm4v_quantize_options options = { .quantization = form, .n_threads = 2 };
    if (glm4v_quantize(source, dir, &options, &err)) {
        fprintf(stderr, "load-bench: %s\n", err.msg);
        exit(1);
    }
}

/* Lines of the checkpoint in one form: quantized on the way, and read as it was written before. */
static void measure_form(const char *root, const char *source, const char *form, int runs,
                         const char *only)
{
    char what[64], copy[500];
    snprintf(what, sizeof what, "bf16 as %s", form);
    if (strstr(what, only))
        measure(what, source, form, runs);
    snprintf(what, sizeof what, "%s as stored", form);
    if (!strstr(what, only))
        return;
    snprintf(copy, sizeof copy, "%s/%s", root, form);
    convert(source, copy, form);
    measure(what, copy, NULL, runs);
    folder_remove(copy);
}

int main(int argc, char **argv)
{
    static const char *const forms[] = { "int4", "int8", "fp8" };
    const char *tmp = getenv("TMPDIR"), *only = argc > 3 ? argv[3] : "";
    const int layers = argc > 1 ? atoi(argv[1]) : 8, runs = argc > 2 ? atoi(argv[2]) : 5;
    char root[400], dir[500];
    if (argc > 4)
        n_threads = (uint32_t)atoi(argv[4]);
    if (layers < 1 || runs < 1 || runs > RUNS || n_threads < 1 || n_threads > 1024) {
        fprintf(stderr, "usage: load-bench [LAYERS [RUNS [WHAT [THREADS]]]]\n");
        return 2;
    }
    snprintf(root, sizeof root, "%s/load-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root))
        stop(root);
    snprintf(dir, sizeof dir, "%s/bf16", root);
    if (mkdir(dir, 0700))
        stop(dir);
    write_source(dir, layers);
    if (strstr("bf16 as stored", only))
        measure("bf16 as stored", dir, NULL, runs);
    for (int i = 0; i < 3; i++)
        measure_form(root, dir, forms[i], runs, only);
    folder_remove(dir);
    rmdir(root);
    return 0;
}
