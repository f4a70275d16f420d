/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Times of products on the shapes of GLM-4.1V-9B, as chains of dependent launches in a graph, each
 * matrix of a chain its own memory, beside a plain read. Median of several replays. */
#ifndef GLM4V_BENCH_CUDA_PRODUCTS_H
#define GLM4V_BENCH_CUDA_PRODUCTS_H

#include <algorithm>
#include <functional>

#include "cuda/tile.h"
#include "check.cuh"

/* An error of the device ends the program: nothing after it means anything. */
#define CUDA(call)                                                                                 \
    do {                                                                                           \
        const cudaError_t cuda_error = (call);                                                     \
        if (cuda_error != cudaSuccess) {                                                           \
            printf("Bail out! %s:%d: %s: %s\n", __FILE__, __LINE__, #call,                         \
                   cudaGetErrorString(cuda_error));                                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const glm4v_cuda_choices NO_CHOICES = {};

namespace bench
{
struct named_form {
    const char *name;
    glm4v_cuda_form form;
};

const named_form forms[] = {
    { "int4", GLM4V_CUDA_INT4 },       { "int8", GLM4V_CUDA_INT8 },
    { "fp8", GLM4V_CUDA_FP8 },         { "bf16", GLM4V_CUDA_BF16 },
    { "int4_32", GLM4V_CUDA_INT4_32 }, { "dynamic", GLM4V_CUDA_FP8_DYNAMIC }
};

struct place {
    const char *name;
    int n_in, n_out;
    glm4v_cuda_epilogue epilogue;
    bool bias, add;
};

const place layer[] = { { "qkv", 4096, 4608, GLM4V_CUDA_PLAIN, true, false },
                        { "o", 4096, 4096, GLM4V_CUDA_PLAIN, false, true },
                        { "gate_up", 4096, 27392, GLM4V_CUDA_SILU_MUL, false, false },
                        { "down", 13696, 4096, GLM4V_CUDA_PLAIN, false, true } };
const place head = { "head", 4096, 151552, GLM4V_CUDA_PLAIN, false, false };
const place tower[] = { { "tower qkv", 1536, 4608, GLM4V_CUDA_PLAIN, false, false },
                        { "tower gate_up", 1536, 8192, GLM4V_CUDA_SILU_MUL, false, false },
                        { "EVA fc1", 1792, 15360, GLM4V_CUDA_GELU, true, false } };

/* Device memory that lives until the end of the bench. */
inline void *take(size_t bytes)
{
    void *p;
    CUDA(cudaMalloc(&p, bytes));
    return p;
}

struct matrix {
    glm4v_cuda_matrix w = {};
    size_t bytes = 0;

    void make(glm4v_cuda_form form, const place &s, float *rows, uint64_t seed)
    {
        const int part = std::min(s.n_out, 4096);
        const glm4v_cuda_matrix_bytes size =
            glm4v_cuda_matrix_size(form, s.n_out, s.n_in, false, false, false);
        w.form = form;
        w.n_out = s.n_out;
        w.n_in = s.n_in;
        w.data = take(size.data);
        w.scale = size.scale ? (float *)take(size.scale) : NULL;
        bytes = size.data + size.scale;
        for (int row = 0; row < s.n_out; row += part) {
            const int n = std::min(part, s.n_out - row);
            CUDA(glm4v_cuda_random_f32(0, rows, (size_t)n * s.n_in, seed, (size_t)row * s.n_in, 0,
                                       0.02f));
            CUDA(glm4v_cuda_pack_f32(0, &w, row, n, rows));
        }
    }

    void free()
    {
        cudaFree(w.data);
        cudaFree(w.scale);
    }
};

/* Buffers of a run. */
struct room {
    uint16_t *x, *y;
    glm4v_cuda_rounded rounded;
    float *rows, *bias;
    glm4v_cuda_prefill *prefill;
    tile_device tiles;
    bool in_tiles; /* prefill, also where another way is taken by default */
    cudaStream_t stream;
};

inline void open_room(room *r, int rows)
{
    size_t q, scale, bytes;
    glm4v_cuda_rounded_size(rows, 13696, &q, &scale);
    r->x = (uint16_t *)take((size_t)rows * 13696 * 2);
    r->y = (uint16_t *)take((size_t)rows * 151552 * 4);
    r->rounded.q = take(q);
    r->rounded.scale = (float *)take(scale);
    r->rows = (float *)take((size_t)4096 * 13696 * 4);
    r->bias = (float *)take(151552 * 4);
    CUDA(cudaStreamCreate(&r->stream));
    CUDA(cudaMemset(r->y, 0, (size_t)rows * 151552 * 4));
    CUDA(glm4v_cuda_random_f32(0, r->bias, 151552, 3, 0, 0, 1));
    CUDA(glm4v_cuda_random_f32(0, r->rows, (size_t)rows * 13696, 4, 0, 0, 1));
    glm4v_cuda_matrix copy = {};
    copy.form = GLM4V_CUDA_BF16;
    copy.n_out = rows;
    copy.n_in = 13696;
    copy.data = r->x;
    CUDA(glm4v_cuda_pack_f32(0, &copy, 0, rows, r->rows));
    CUDA(glm4v_cuda_prefill_open(&r->prefill, &bytes, &NO_CHOICES));
    CUDA(cudaDeviceSynchronize());
}

/* Rounding where needed, then the product. */
inline void multiply(const room &r, const matrix &m, const place &s, int rows, bool prefill)
{
    glm4v_cuda_product p = {};
    const bool logits = s.n_out > 100000, raw = prefill && m.w.form == GLM4V_CUDA_FP8_DYNAMIC;
    p.y = r.y;
    p.ldy = s.epilogue == GLM4V_CUDA_SILU_MUL ? s.n_out / 2 : s.n_out;
    p.w = &m.w;
    p.bias = s.bias ? r.bias : NULL;
    p.x = r.x;
    p.ldx = s.n_in;
    p.rounded = r.rounded;
    p.rounded.by_group = prefill && glm4v_cuda_prefill_by_group(r.prefill);
    p.rows = rows;
    p.epilogue = s.epilogue;
    p.add = s.add;
    p.y_f32 = logits;
    if (raw) { /* what follows is in kernels that are there anyway */
        p.raw = true;
        p.ldy = s.n_out;
        p.bias = NULL;
        p.epilogue = GLM4V_CUDA_PLAIN;
        p.add = false;
    }
    if (glm4v_cuda_rounds(&m.w))
        CUDA(glm4v_cuda_round(r.stream, &p.rounded, &m.w, r.x, s.n_in, rows));
    if (prefill && r.in_tiles)
        CUDA(tile_multiply(r.stream, &r.tiles, &p));
    else if (prefill)
        CUDA(glm4v_cuda_prefill_product(r.stream, r.prefill, &p));
    else
        CUDA(glm4v_cuda_decode_product(r.stream, &p));
}

/* ms of what is put on the stream, as a graph: median of n replays. */
inline double time_graph(const room &r, int n, const std::function<void()> &work)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t begin, end;
    std::vector<double> times;
    work(); /* functions loaded, algorithms chosen */
    CUDA(cudaStreamSynchronize(r.stream));
    CUDA(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeThreadLocal));
    work();
    CUDA(cudaStreamEndCapture(r.stream, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    for (int i = 0; i < n + 1; i++) {
        float ms;
        CUDA(cudaEventRecord(begin, r.stream));
        CUDA(cudaGraphLaunch(exec, r.stream));
        CUDA(cudaEventRecord(end, r.stream));
        CUDA(cudaStreamSynchronize(r.stream));
        CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (i)
            times.push_back(ms);
    }
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graph));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

__global__ void read_all(const uint4 *p, size_t n, uint32_t *out)
{
    uint32_t sum = 0;
    const size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += 4 * step) {
        uint4 v[4] = {};
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (i + j * step < n)
                v[j] = __ldcs(p + i + j * step);
#pragma unroll
        for (int j = 0; j < 4; j++)
            sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    if (sum == 0x12345678)
        *out = sum;
}

inline void bench_read(const room &r)
{
    const size_t bytes = (size_t)4 << 30;
    void *p = take(bytes);
    CUDA(cudaMemset(p, 1, bytes));
    const double ms = time_graph(r, 5, [&] {
        read_all<<<132 * 8, 256, 0, r.stream>>>((const uint4 *)p, bytes / 16, (uint32_t *)r.y);
    });
    printf("read of 4 GiB: %.0f GB/s\n", bytes / ms / 1e6);
    cudaFree(p);
}

/* A product by itself, on matrices of 600 MB together. */
inline void bench_place(const room &r, const named_form &f, const place &s, int rows, bool prefill)
{
    std::vector<matrix> m(1);
    m[0].make(f.form, s, r.rows, 1);
    while (m.size() < 64 && m.size() * m[0].bytes < 600e6) {
        m.emplace_back();
        m.back().make(f.form, s, r.rows, m.size());
    }
    const double ms = time_graph(r, 7, [&] {
        for (const matrix &one : m)
            multiply(r, one, s, rows, prefill);
    });
    const double each = ms / (double)m.size(), flop = 2.0 * rows * s.n_in * s.n_out;
    printf("%-8s %-13s %4d rows %s: %8.2f us, %5.0f GB/s, %6.1f TFLOP/s\n", f.name, s.name, rows,
           prefill ? "prefill" : "decode ", each * 1e3, m[0].bytes / each / 1e6, flop / each / 1e9);
    fflush(stdout);
    for (matrix &one : m)
        one.free();
}

struct language_model {
    std::vector<matrix> layers; /* 4 a layer */
    matrix out;
    size_t bytes = 0;

    void make(const room &r, glm4v_cuda_form form)
    {
        layers.resize(160);
        for (int i = 0; i < 160; i++) {
            layers[i].make(form, layer[i % 4], r.rows, i);
            bytes += layers[i].bytes;
        }
        out.make(form == GLM4V_CUDA_INT4 ? GLM4V_CUDA_INT8 : form, head, r.rows, 160);
    }

    void free()
    {
        for (matrix &m : layers)
            m.free();
        out.free();
    }
};

/* All products of a step, of all layers, and the head in decode. */
inline void bench_model(const room &r, const named_form &f, const std::vector<int> &decode_rows,
                        const std::vector<int> &prefill_rows)
{
    language_model lm;
    lm.make(r, f.form);
    for (int rows : decode_rows) {
        const double ms = time_graph(r, 5, [&] {
            for (int i = 0; i < 160; i++)
                multiply(r, lm.layers[i], layer[i % 4], rows, false);
            multiply(r, lm.out, head, rows, false);
        });
        printf("%-8s 40 layers and head, %2d rows decode: %7.3f ms, %5.0f GB/s, %6.0f tok/s\n",
               f.name, rows, ms, (lm.bytes + lm.out.bytes) / ms / 1e6, rows / ms * 1e3);
        fflush(stdout);
    }
    for (int rows : prefill_rows) {
        const double ms = time_graph(r, 3, [&] {
            for (int i = 0; i < 160; i++)
                multiply(r, lm.layers[i], layer[i % 4], rows, true);
        });
        printf("%-8s 40 layers, %4d rows prefill: %8.2f ms\n", f.name, rows, ms);
        fflush(stdout);
    }
    lm.free();
}

inline bool wanted(const char *which, const char *name)
{
    return !*which || strstr(which, name);
}
} // namespace bench

/* which: names of forms, and of "single", "prefill", "tower", "decode", "layers"; empty: all.
 * "tiles": prefill in tiles also where another way is taken by default. */
static inline int bench_products(const char *which)
{
    bench::room r;
    bench::open_room(&r, 640);
    CUDA(tile_device_open(&r.tiles));
    r.in_tiles = strstr(which, "tiles");
    bench::bench_read(r);
    for (const bench::named_form &f : bench::forms) {
        if (strstr(which, f.name) == NULL && *which && strstr(which, "all") == NULL)
            continue;
        if (bench::wanted(which, "single")) {
            for (const bench::place &s : bench::layer)
                for (int rows : { 1, 8, 16, 64 })
                    bench::bench_place(r, f, s, rows, false);
            bench::bench_place(r, f, bench::head, 1, false);
        }
        if (bench::wanted(which, "prefill"))
            for (const bench::place &s : bench::layer)
                bench::bench_place(r, f, s, 606, true);
        if (bench::wanted(which, "tower"))
            for (const bench::place &s : bench::tower)
                bench::bench_place(r, f, s, 640, true);
        if (bench::wanted(which, "decode"))
            bench::bench_model(r, f, { 1, 4, 16, 32, 64 }, {});
        if (bench::wanted(which, "layers"))
            bench::bench_model(r, f, {}, { 606 });
    }
    return 0;
}

#endif
