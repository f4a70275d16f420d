/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Seeded random numbers: number i hangs on the seed and on i only. */
#include "launch.cuh"
#include "product.h"

namespace
{
enum { THREADS = 256 };

struct random_args {
    float *rows;
    size_t n;
    uint64_t seed, first;
    float mean, width;
};

/* The mixing steps of splitmix64. */
__device__ uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

__global__ void __launch_bounds__(THREADS) fill(const random_args a)
{
    const size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x;

    let_next_begin();
    wait_for_earlier();
    if (i >= a.n)
        return;
    const uint64_t z = mix(mix(a.seed) + (a.first + i) * 0x9e3779b97f4a7c15);
    const float unit = (float)(uint32_t)(z >> 40) * 0x1p-23f - 1; /* [-1, 1) */
    a.rows[i] = a.mean + a.width * unit;
}
} // namespace

cudaError_t glm4v_cuda_random_f32(cudaStream_t stream, float *rows, size_t n, uint64_t seed,
                                  uint64_t first, float mean, float deviation)
{
    const random_args a = { rows, n, seed, first, mean, deviation * 1.7320508f };
    return launch(fill, dim3((unsigned)((n + THREADS - 1) / THREADS)), dim3(THREADS), 0, stream, a);
}
