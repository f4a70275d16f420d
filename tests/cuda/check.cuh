/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For the programs of tests/cuda: TAP lines, device memory between guards, seeded numbers,
 * comparison with a reference, and times. Everything on the legacy stream's neighbour `stream`. */
#ifndef GLM4V_TESTS_CUDA_CHECK_CUH
#define GLM4V_TESTS_CUDA_CHECK_CUH

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "launch.h"

namespace check
{
constexpr size_t GUARD = 256;
constexpr size_t MANY = (size_t)1 << 22; /* numbers: larger buffers repeat them */
constexpr double TOLERANCE = 1e-5;       /* of the normalised error */

inline cudaStream_t stream;
inline int count, failed, shown, cases, left_out;

inline void result(bool ok, const std::string &name)
{
    failed += !ok;
    printf("%sok %d - %s\n", ok ? "" : "not ", ++count, name.c_str());
    fflush(stdout);
}

__attribute__((format(printf, 1, 2))) inline std::string text(const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return line;
}

/* 0, or 77 where there is no device. */
inline int open()
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || !n) {
        printf("1..0 # SKIP no CUDA device\n");
        return 77;
    }
    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess ? 0 : 1;
}

inline int close()
{
    if (left_out)
        printf("# %d of %d cases left out\n", left_out, cases);
    printf("1..%d\n", count);
    return failed ? 1 : 0;
}

/* For slow tools: is there time for one more case? With GLM4V_SECONDS=N none begins later than N
 * seconds after the first. */
inline bool in_time()
{
    static const auto start = std::chrono::steady_clock::now();
    const char *seconds = getenv("GLM4V_SECONDS");
    const std::chrono::duration<double> since = std::chrono::steady_clock::now() - start;
    return !seconds || since.count() < atof(seconds);
}

/* Is the next case one of the part that is run (GLM4V_PART, as in tests/support/test.h), and in
 * time? Every case asks once. */
inline bool wanted()
{
    const char *part = getenv("GLM4V_PART");
    const int number = cases++;
    int which, parts;
    const bool run = (!part || sscanf(part, "%d/%d", &which, &parts) != 2 || parts < 1 ||
                      number % parts == which) &&
                     in_time();
    left_out += !run;
    return run;
}

/* What a launcher returned, and what its kernels did. */
inline bool done(cudaError_t launched)
{
    const cudaError_t ran = cudaStreamSynchronize(stream);
    if (launched == cudaSuccess && ran == cudaSuccess)
        return true;
    printf("# launch: %s; kernel: %s\n", cudaGetErrorString(launched), cudaGetErrorString(ran));
    cudaGetLastError();
    return false;
}

/* ---- numbers ---- */

inline uint64_t state = 1;

inline uint32_t bits()
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

inline float unit() /* [0, 1) */
{
    return (float)(bits() >> 8) * 0x1p-24f;
}

inline int below(int n)
{
    return (int)(bits() % (uint32_t)n);
}

/* About normal, variance 1. */
inline float normal()
{
    return (unit() + unit() + unit() + unit() - 2) * 1.7320508f;
}

inline uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

inline float from_bf16(uint16_t x)
{
    const uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

inline std::vector<float> normals(size_t n, float scale = 1)
{
    std::vector<float> x(n);
    for (float &v : x)
        v = scale * normal();
    return x;
}

inline std::vector<uint16_t> bf16(const std::vector<float> &x)
{
    std::vector<uint16_t> y(x.size());
    for (size_t i = 0; i < x.size(); i++)
        y[i] = to_bf16(x[i]);
    return y;
}

inline std::vector<float> floats(const std::vector<uint16_t> &x)
{
    std::vector<float> y(x.size());
    for (size_t i = 0; i < x.size(); i++)
        y[i] = from_bf16(x[i]);
    return y;
}

/* Normal numbers that bf16 holds. */
inline std::vector<float> normals_bf16(size_t n, float scale = 1)
{
    return floats(bf16(normals(n, scale)));
}

/* ---- device memory ---- */

/* n elements between guards; 0xff bytes at first, NaN in every form of number. */
template <typename T> struct buffer {
    char *base = nullptr;
    T *data = nullptr;
    size_t n = 0;

    explicit buffer(size_t length) : n(length)
    {
        const size_t bytes = (n * sizeof(T) + GUARD - 1) / GUARD * GUARD + 2 * GUARD;
        if (cudaMalloc((void **)&base, bytes) != cudaSuccess) {
            printf("# no memory for %zu bytes\n", bytes);
            return;
        }
        data = (T *)(base + GUARD);
        cudaMemset(base, 0xff, bytes);
        cudaMemset(base, 0xa5, GUARD);
        cudaMemset((char *)data + n * sizeof(T), 0xa5, GUARD);
        cudaDeviceSynchronize();
    }
    explicit buffer(const std::vector<T> &from) : buffer(from.size())
    {
        put(from);
    }
    buffer(const buffer &) = delete;
    buffer &operator=(const buffer &) = delete;
    ~buffer()
    {
        cudaFree(base);
    }
    void put(const std::vector<T> &from)
    {
        cudaMemcpy(data, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice);
        cudaDeviceSynchronize(); /* a small copy may return early, other streams do not wait */
    }
    /* All of it, from as many numbers as there are. */
    void repeat(const std::vector<T> &from)
    {
        for (size_t i = 0; i < n; i += from.size())
            cudaMemcpy(data + i, from.data(), std::min(from.size(), n - i) * sizeof(T),
                       cudaMemcpyHostToDevice);
        cudaDeviceSynchronize();
    }
    std::vector<T> get() const
    {
        std::vector<T> to(n);
        cudaMemcpy(to.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost);
        return to;
    }
    /* Were the bytes around the elements left alone? */
    bool guarded() const
    {
        unsigned char around[2 * GUARD];
        cudaMemcpy(around, base, GUARD, cudaMemcpyDeviceToHost);
        cudaMemcpy(around + GUARD, (char *)data + n * sizeof(T), GUARD, cudaMemcpyDeviceToHost);
        for (size_t i = 0; i < 2 * GUARD; i++)
            if (around[i] != 0xa5) {
                printf("# guard byte %zu of buffer of %zu elements is %02x\n", i, n, around[i]);
                return false;
            }
        return true;
    }
};

/* ---- comparison ---- */

/* |got - wanted|^2 / |wanted|^2 below the bound, NaN at the same places. width: of a row, for the
 * report. */
inline bool close_to(const std::vector<float> &got, const std::vector<float> &wanted, size_t width,
                     double bound = TOLERANCE)
{
    double error = 0, norm = 0;
    int bad = 0;
    for (size_t i = 0; i < wanted.size(); i++) {
        const double d = (double)got[i] - wanted[i];
        const bool both_nan = std::isnan(got[i]) && std::isnan(wanted[i]);
        if (both_nan || got[i] == wanted[i]) {
            norm += both_nan || std::isinf(wanted[i]) ? 0 : (double)wanted[i] * wanted[i];
            continue;
        }
        error += d * d;
        norm += (double)wanted[i] * wanted[i];
        if (!(fabs(d) <= 0.02 * fabs(wanted[i]) + 0.02) && bad++ < 3)
            printf("# [%zu, %zu]: %g, expected %g\n", i / width, i % width, got[i], wanted[i]);
    }
    const bool ok = got.size() == wanted.size() && error <= bound * norm;
    if (!ok)
        printf("# normalised error %g of %zu values, %d far off\n", error / norm, wanted.size(),
               bad);
    return ok;
}

template <typename T>
inline bool same(const std::vector<T> &got, const std::vector<T> &wanted, size_t width)
{
    int bad = got.size() != wanted.size();
    for (size_t i = 0; i < wanted.size() && i < got.size(); i++)
        if (memcmp(&got[i], &wanted[i], sizeof(T)) && bad++ < 3)
            printf("# [%zu, %zu]: %g, expected exactly %g\n", i / width, i % width, (double)got[i],
                   (double)wanted[i]);
    if (bad)
        printf("# %d of %zu values differ\n", bad, wanted.size());
    return !bad;
}

/* ---- times ---- */

/* Median microseconds of one of `sets` calls, which a graph holds: call(i) works on set i. */
inline double microseconds(int sets, const std::function<cudaError_t(int)> &call)
{
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cudaEvent_t begin, end;
    std::vector<float> times;
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < sets && error == cudaSuccess; i++)
        error = call(i);
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || error != cudaSuccess ||
        cudaGraphInstantiate(&executable, graph, 0) != cudaSuccess)
        return NAN;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    for (int run = 0; run < 12; run++) {
        float time;
        cudaEventRecord(begin, stream);
        cudaGraphLaunch(executable, stream);
        cudaEventRecord(end, stream);
        if (cudaEventSynchronize(end) != cudaSuccess)
            return NAN;
        cudaEventElapsedTime(&time, begin, end);
        if (run > 1)
            times.push_back(time * 1000 / (float)sets);
    }
    std::sort(times.begin(), times.end());
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    return times[times.size() / 2];
}

/* One line: time, and rates of bytes and of floating-point operations where they are not 0. */
inline void report(const std::string &name, double us, double bytes, double flop)
{
    printf("# bench %-44s %9.2f us", name.c_str(), us);
    if (bytes > 0)
        printf(" %8.0f GB/s", bytes / us * 1e-3);
    if (flop > 0)
        printf(" %8.1f TFLOP/s", flop / us * 1e-6);
    printf("\n");
    fflush(stdout);
}

/* The card's own copy, for comparison. */
inline void report_copy()
{
    const size_t bytes = (size_t)1 << 30;
    buffer<char> a(bytes), b(bytes);
    const double us = microseconds(2, [&](int i) {
        return cudaMemcpyAsync(i ? a.data : b.data, i ? b.data : a.data, bytes,
                               cudaMemcpyDeviceToDevice, stream);
    });
    report("copy 1 GiB", us, 2.0 * (double)bytes, 0);
}
} // namespace check

#endif
