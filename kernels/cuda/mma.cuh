/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Instructions of the tensor cores and of loads, for all targets. Lane l of a warp, g = l / 4, t =
 * l % 4: it holds rows g and g + 8 of A, column g of B, and of C rows g (c[0], c[1]) and g + 8
 * (c[2], c[3]) in columns 2 t and 2 t + 1. */
#ifndef GLM4V_CUDA_MMA_CUH
#define GLM4V_CUDA_MMA_CUH

#include "launch.cuh"

/* A's 2 x 2 words of a lane: rows g, g + 8 of the first half of k, then of the second. */
struct mma_a {
    uint32_t w[4];
};

/* k = 32, int8; exact. */
static __device__ __forceinline__ void mma_int8(int (&c)[4], const mma_a &a, uint32_t b0,
                                                uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, "
                 "%7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b0), "r"(b1));
}

/* k = 16, bf16. */
static __device__ __forceinline__ void mma_bf16(float (&c)[4], const mma_a &a, uint32_t b0,
                                                uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, "
                 "%6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b0), "r"(b1));
}

/* k = 16, f16. */
static __device__ __forceinline__ void mma_f16(float (&c)[4], const mma_a &a, uint32_t b0,
                                               uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, "
                 "%7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "r"(b0), "r"(b1));
}

/* Weights: each byte is read once, so it need not stay in L1. */
static __device__ __forceinline__ uint4 load_weights(const void *from)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* From shared memory, by its address there. */
static __device__ __forceinline__ uint4 load_shared_16(uint32_t from)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from)
                 : "memory");
    return v;
}

static __device__ __forceinline__ uint2 load_shared_8(uint32_t from)
{
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(from) : "memory");
    return v;
}

static __device__ __forceinline__ uint32_t load_shared_4(uint32_t from)
{
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
    return v;
}

/* Four 8 x 16 bytes of shared memory: lane l gives where row l % 8 of part l / 8 begins, and gets
 * bytes 4 t to 4 t + 3 of row g of each part. */
static __device__ __forceinline__ uint4 load_matrices(uint32_t row)
{
    uint4 v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(row)
                 : "memory");
    return v;
}

static __device__ __forceinline__ uint4 load_matrices(const void *row)
{
    return load_matrices(shared_address(row));
}

/* 16 bytes to shared memory: n from memory, the rest 0. */
static __device__ __forceinline__ void copy_16(uint32_t to, const void *from, int n)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(n)
                 : "memory");
}

static __device__ __forceinline__ void copy_16(void *to, const void *from, int n)
{
    copy_16(shared_address(to), from, n);
}

/* How copies treat what is read once: the L2 cache gives it up before all else. */
static __device__ __forceinline__ uint64_t read_once()
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(policy));
    return policy;
}

static __device__ __forceinline__ void copy_16_once(uint32_t to, const void *from, int n,
                                                    uint64_t policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to),
                 "l"(from), "r"(n), "l"(policy)
                 : "memory");
}

/* 4 bytes, or with n = 0 zeros. */
static __device__ __forceinline__ void copy_4(uint32_t to, const void *from, int n)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(n)
                 : "memory");
}

static __device__ __forceinline__ void copy_4(void *to, const void *from, int n)
{
    copy_4(shared_address(to), from, n);
}

static __device__ __forceinline__ void end_copies()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most N of the groups that end_copies closed are under way. */
template <int N> static __device__ __forceinline__ void wait_for_copies()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
