/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies of tiles to shared memory by the copy engine of sm_90, the barriers they complete on, and
 * clusters of blocks. */
#ifndef GLM4V_CUDA_TMA_CUH
#define GLM4V_CUDA_TMA_CUH

#include <cuda.h>

#include "mma.cuh"

static __device__ __forceinline__ void barrier_init(uint64_t *barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals));
}

/* After barrier_init, before the cluster meets. */
static __device__ __forceinline__ void publish_barriers()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* One arrival, and so many bytes to come. */
static __device__ __forceinline__ void barrier_expect(uint64_t *barrier, uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
}

/* One arrival at the same barrier of block `rank` of the cluster. */
static __device__ __forceinline__ void barrier_arrive(uint64_t *barrier, uint32_t rank)
{
    asm volatile("{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; "
                 "mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(shared_address(barrier)),
                 "r"(rank)
                 : "memory");
}

/* One arrival at a barrier of this block. */
static __device__ __forceinline__ void barrier_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}

static __device__ __forceinline__ bool barrier_passed(uint64_t *barrier, uint32_t parity)
{
    uint32_t passed;
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 "
                 "%0, 1, 0, p;}"
                 : "=r"(passed)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
    return passed;
}

/* GLM4V_CUDA_TRAP: a barrier that nobody meets ends the kernel, for tests. */
static __device__ __forceinline__ void barrier_wait(uint64_t *barrier, uint32_t parity)
{
#ifdef GLM4V_CUDA_TRAP
    const long long begin = clock64();
    while (!barrier_passed(barrier, parity))
        if (clock64() - begin > 2000000000)
            __trap();
#else
    while (!barrier_passed(barrier, parity)) {
    }
#endif
}

/* Where a stage lies in the ring, and in which round. */
struct ring_place {
    int stage = 0;
    uint32_t parity = 0;

    template <int STAGES> __device__ __forceinline__ void next()
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* n bytes, a multiple of 16. */
static __device__ __forceinline__ void load_bytes(void *to, const void *from, uint32_t n,
                                                  uint64_t *barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], "
                 "%2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(n), "r"(shared_address(barrier))
                 : "memory");
}

/* A tile at (x, y) of a matrix to this block. */
static __device__ __forceinline__ void load_tile(void *to, const CUtensorMap *map,
                                                 uint64_t *barrier, int x, int y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
                 : "memory");
}

/* The same of a matrix cut in pairs of 8 rows. */
static __device__ __forceinline__ void load_pairs(void *to, const CUtensorMap *map,
                                                  uint64_t *barrier, int x, int pair)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %4, %5}], [%2];" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(0), "r"(pair)
                 : "memory");
}

/* The box at (x, y, z) of a tensor to this block. */
static __device__ __forceinline__ void load_box(void *to, const CUtensorMap *map, int x, int y,
                                                int z, uint64_t *barrier)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

/* To all blocks of a cluster of BLOCKS, at the same place. */
template <int BLOCKS>
static __device__ __forceinline__ void load_tile_to_all(void *to, const CUtensorMap *map,
                                                        uint64_t *barrier, int x, int y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y),
                 "h"((uint16_t)((1 << BLOCKS) - 1))
                 : "memory");
}

static __device__ __forceinline__ uint32_t cluster_rank()
{
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

static __device__ __forceinline__ void cluster_meet()
{
    asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

#endif
