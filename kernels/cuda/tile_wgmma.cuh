/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Instructions of sm_90a for tiles: matrix products of a warpgroup (128 threads), and what orders
 * them. m = 64, n = N; both operands K-major, in shared memory with 128-byte swizzle, or A in
 * registers as mma.sync has it (mma.cuh), warp w of the warpgroup rows 16 w to 16 w + 15. Of C a
 * lane holds c[4 j] to c[4 j + 3]: rows g, g, g + 8, g + 8, columns 8 j + 2 t, + 1, + 0, + 1. */
#ifndef GLM4V_CUDA_TILE_WGMMA_CUH
#define GLM4V_CUDA_TILE_WGMMA_CUH

#include "mma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GLM4V_CUDA_HAS_WGMMA 1
#endif

/* Descriptor of rows of 128 bytes in shared memory, at a multiple of 1024; 2 more for each 32 bytes
 * along k. */
static __device__ __forceinline__ uint64_t tile_descriptor(const void *tile)
{
    const uint64_t address = (shared_address(tile) & 0x3ffff) >> 4;
    return address | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* Operands %0 to %(N / 2 - 1), and the same registers of c. */
#define WGMMA_64                                                                                   \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "  \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_128                                                                                  \
    WGMMA_64 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "  \
             "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_160                                                                                  \
    WGMMA_128 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define WGMMA_208                                                                                  \
    WGMMA_160 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
              "%96, %97, %98, %99, %100, %101, %102, %103"
#define EIGHT(type, i)                                                                             \
    type(c[i]), type(c[i + 1]), type(c[i + 2]), type(c[i + 3]), type(c[i + 4]), type(c[i + 5]),    \
        type(c[i + 6]), type(c[i + 7])
#define C_64(type) EIGHT(type, 0), EIGHT(type, 8), EIGHT(type, 16), EIGHT(type, 24)
#define C_128(type) C_64(type), EIGHT(type, 32), EIGHT(type, 40), EIGHT(type, 48), EIGHT(type, 56)
#define C_160(type) C_128(type), EIGHT(type, 64), EIGHT(type, 72)
#define C_208(type) C_160(type), EIGHT(type, 80), EIGHT(type, 88), EIGHT(type, 96)

template <int N> struct wgmma;

/* keep: add to c; else c is written. A0 to KEEP, B: numbers of the operands after c. */
#define DEFINE_WGMMA(N, D0, D1, D2, D3, D4, D5)                                                    \
    template <> struct wgmma<N> {                                                                  \
        static __device__ __forceinline__ void int8(int (&c)[N / 2], uint64_t a, uint64_t b,       \
                                                    int keep)                                      \
        {                                                                                          \
            asm volatile("{.reg .pred p; setp.ne.b32 p, %" #D2 ", 0; "                             \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k32.s32.s8.s8 " WGMMA_##N         \
                         "}, %" #D0 ", %" #D1 ", p;}"                                              \
                         : C_##N("+r")                                                             \
                         : "l"(a), "l"(b), "r"(keep));                                             \
        }                                                                                          \
        static __device__ __forceinline__ void int8(int (&c)[N / 2], const mma_a &a, uint64_t b,   \
                                                    int keep)                                      \
        {                                                                                          \
            asm volatile("{.reg .pred p; setp.ne.b32 p, %" #D5 ", 0; "                             \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k32.s32.s8.s8 " WGMMA_##N         \
                         "}, {%" #D0 ", %" #D1 ", %" #D2 ", %" #D3 "}, %" #D4 ", p;}"              \
                         : C_##N("+r")                                                             \
                         : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "l"(b), "r"(keep)); \
        }                                                                                          \
        static __device__ __forceinline__ void bf16(float (&c)[N / 2], uint64_t a, uint64_t b,     \
                                                    int keep)                                      \
        {                                                                                          \
            asm volatile("{.reg .pred p; setp.ne.b32 p, %" #D2 ", 0; "                             \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 " WGMMA_##N     \
                         "}, %" #D0 ", %" #D1 ", p, 1, 1, 0, 0;}"                                  \
                         : C_##N("+f")                                                             \
                         : "l"(a), "l"(b), "r"(keep));                                             \
        }                                                                                          \
        static __device__ __forceinline__ void bf16(float (&c)[N / 2], const mma_a &a, uint64_t b, \
                                                    int keep)                                      \
        {                                                                                          \
            asm volatile("{.reg .pred p; setp.ne.b32 p, %" #D5 ", 0; "                             \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 " WGMMA_##N     \
                         "}, {%" #D0 ", %" #D1 ", %" #D2 ", %" #D3 "}, %" #D4 ", p, 1, 1, 0;}"     \
                         : C_##N("+f")                                                             \
                         : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "l"(b), "r"(keep)); \
        }                                                                                          \
    }

DEFINE_WGMMA(64, 32, 33, 34, 35, 36, 37);
DEFINE_WGMMA(128, 64, 65, 66, 67, 68, 69);
DEFINE_WGMMA(160, 80, 81, 82, 83, 84, 85);
DEFINE_WGMMA(208, 104, 105, 106, 107, 108, 109);

/* Before the first product of a row of them: registers may be read from here on. */
static __device__ __forceinline__ void wgmma_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* The products since wgmma_begin are a group; wait until at most PENDING groups are under way. */
static __device__ __forceinline__ void wgmma_end()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> static __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* The compiler may not move uses of c over this. */
template <int N> static __device__ __forceinline__ void keep_in_place(int (&c)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+r"(c[i])::"memory");
}

template <int N> static __device__ __forceinline__ void keep_in_place(float (&c)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(c[i])::"memory");
}

#endif
