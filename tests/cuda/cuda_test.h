/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For the programs of this folder: TAP lines, device memory with guard zones, seeded numbers. */
#ifndef GLM4V_TEST_CUDA_H
#define GLM4V_TEST_CUDA_H

#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

static int test_count, test_failed;

#define RESULT(ok, ...)                                                                            \
    do {                                                                                           \
        const bool passed = (ok);                                                                  \
        test_failed += !passed;                                                                    \
        printf("%sok %d - ", passed ? "" : "not ", ++test_count);                                  \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        fflush(stdout);                                                                            \
    } while (0)

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

static inline void skip_without_device()
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        printf("1..0 # SKIP no CUDA device\n");
        exit(77);
    }
}

static inline int end_of_tests()
{
    printf("1..%d\n", test_count);
    return test_failed ? 1 : 0;
}

struct random_numbers {
    uint64_t state;

    uint32_t next()
    {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (uint32_t)(state >> 33) * 2u ^ (uint32_t)(state >> 40);
    }

    /* About normal, mean 0, deviation 1. */
    float normal()
    {
        float sum = 0;
        for (int i = 0; i < 4; i++)
            sum += (float)(next() >> 8) * 0x1p-24f - 0.5f;
        return sum * 1.7320508f;
    }
};

/* Device memory between two guard zones, filled with a pattern. */
class device_buffer
{
  public:
    explicit device_buffer(size_t bytes) : size(bytes), room((bytes + 255) / 256 * 256)
    {
        CUDA(cudaMalloc(&base, room + 2 * GUARD));
        CUDA(cudaMemset(base, PATTERN, room + 2 * GUARD));
    }

    ~device_buffer()
    {
        cudaFree(base);
    }

    device_buffer(const device_buffer &) = delete;
    device_buffer &operator=(const device_buffer &) = delete;

    template <class T = void> T *data() const
    {
        return (T *)(base + GUARD);
    }

    void poison()
    {
        CUDA(cudaMemset(base, PATTERN, room + 2 * GUARD));
    }

    template <class T> void put(const std::vector<T> &v)
    {
        CUDA(cudaMemcpy(data(), v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
    }

    template <class T> std::vector<T> get() const
    {
        std::vector<T> v(size / sizeof(T));
        CUDA(cudaMemcpy(v.data(), data(), v.size() * sizeof(T), cudaMemcpyDeviceToHost));
        return v;
    }

    bool guards_stand() const
    {
        std::vector<uint8_t> v(room + 2 * GUARD);
        CUDA(cudaMemcpy(v.data(), base, v.size(), cudaMemcpyDeviceToHost));
        for (size_t i = 0; i < v.size(); i++)
            if ((i < GUARD || i >= GUARD + size) && v[i] != PATTERN) {
                printf("# guard zone: byte %lld of %zu is %02x\n", (long long)i - GUARD, size,
                       v[i]);
                return false;
            }
        return true;
    }

  private:
    enum { GUARD = 4096, PATTERN = 0xdb };
    uint8_t *base;
    size_t size, room;
};

static inline uint16_t to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float from_bf16(uint16_t b)
{
    const uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

#endif
