/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Instructions of sm_90a: matrix products of a warpgroup (128 threads), and what orders them. m =
 * 64, n = N. A and B lie in shared memory in rows of 128 bytes with 128-byte swizzle, k their
 * fastest index, or A in registers as mma.sync has it (mma.cuh), warp w of the warpgroup rows 16 w
 * to 16 w + 15. Of C a lane holds c[4 j] to c[4 j + 3]: rows g, g, g + 8, g + 8, columns 8 j + 2 t,
 * + 1, + 0, + 1. Other targets have none of this: kernels that use it are empty there. */
#ifndef GLM4V_CUDA_WGMMA_CUH
#define GLM4V_CUDA_WGMMA_CUH

#include "mma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GLM4V_CUDA_HAS_WGMMA 1
#endif

/* Descriptor of rows of 128 bytes at this shared address, in blocks of 8 rows at multiples of 1024;
 * 2 more for each 32 bytes along the rows. leading: bytes from one 128 of columns to the next,
 * where the fastest index is not k. */
static __device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t address, uint32_t leading)
{
    return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)(leading >> 4) << 16 |
           (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* Of a tile whose fastest index is k. */
static __device__ __forceinline__ uint64_t tile_descriptor(const void *tile)
{
    return wgmma_descriptor(shared_address(tile), 16);
}

/* Operands %0 to %(N / 2 - 1), and the same registers of c. */
#define WGMMA_16 "{%0, %1, %2, %3, %4, %5, %6, %7"
#define WGMMA_32 WGMMA_16 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_48 WGMMA_32 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define WGMMA_64 WGMMA_48 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_80 WGMMA_64 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define WGMMA_96 WGMMA_80 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_112 WGMMA_96 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define WGMMA_128 WGMMA_112 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_144 WGMMA_128 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define WGMMA_160 WGMMA_144 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define WGMMA_176 WGMMA_160 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define WGMMA_192 WGMMA_176 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_208 WGMMA_192 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define WGMMA_224 WGMMA_208 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define WGMMA_240 WGMMA_224 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define WGMMA_256 WGMMA_240 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define EIGHT(type, i)                                                                             \
    type(c[i]), type(c[i + 1]), type(c[i + 2]), type(c[i + 3]), type(c[i + 4]), type(c[i + 5]),    \
        type(c[i + 6]), type(c[i + 7])
#define C_16(type) EIGHT(type, 0)
#define C_32(type) C_16(type), EIGHT(type, 8)
#define C_48(type) C_32(type), EIGHT(type, 16)
#define C_64(type) C_48(type), EIGHT(type, 24)
#define C_80(type) C_64(type), EIGHT(type, 32)
#define C_96(type) C_80(type), EIGHT(type, 40)
#define C_112(type) C_96(type), EIGHT(type, 48)
#define C_128(type) C_112(type), EIGHT(type, 56)
#define C_144(type) C_128(type), EIGHT(type, 64)
#define C_160(type) C_144(type), EIGHT(type, 72)
#define C_176(type) C_160(type), EIGHT(type, 80)
#define C_192(type) C_176(type), EIGHT(type, 88)
#define C_208(type) C_192(type), EIGHT(type, 96)
#define C_224(type) C_208(type), EIGHT(type, 104)
#define C_240(type) C_224(type), EIGHT(type, 112)
#define C_256(type) C_240(type), EIGHT(type, 120)

template <int N> struct wgmma;

/* keep: add to c; else c is written. D0 to D6: numbers of the operands after c. */
#define DEFINE_WGMMA(N, D0, D1, D2, D3, D4, D5, D6)                                                \
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
        /* COLUMNS: n is the fastest index of b, not k. */                                         \
        template <bool COLUMNS = false>                                                            \
        static __device__ __forceinline__ void bf16(float (&c)[N / 2], const mma_a &a, uint64_t b, \
                                                    int keep)                                      \
        {                                                                                          \
            asm volatile("{.reg .pred p; setp.ne.b32 p, %" #D5 ", 0; "                             \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 " WGMMA_##N     \
                         "}, {%" #D0 ", %" #D1 ", %" #D2 ", %" #D3 "}, %" #D4 ", p, 1, 1, %" #D6   \
                         ";}"                                                                      \
                         : C_##N("+f")                                                             \
                         : "r"(a.w[0]), "r"(a.w[1]), "r"(a.w[2]), "r"(a.w[3]), "l"(b), "r"(keep),  \
                           "n"(COLUMNS));                                                          \
        }                                                                                          \
    }

DEFINE_WGMMA(32, 16, 17, 18, 19, 20, 21, 22);
DEFINE_WGMMA(64, 32, 33, 34, 35, 36, 37, 38);
DEFINE_WGMMA(80, 40, 41, 42, 43, 44, 45, 46);
DEFINE_WGMMA(96, 48, 49, 50, 51, 52, 53, 54);
DEFINE_WGMMA(112, 56, 57, 58, 59, 60, 61, 62);
DEFINE_WGMMA(128, 64, 65, 66, 67, 68, 69, 70);
DEFINE_WGMMA(160, 80, 81, 82, 83, 84, 85, 86);
DEFINE_WGMMA(192, 96, 97, 98, 99, 100, 101, 102);
DEFINE_WGMMA(208, 104, 105, 106, 107, 108, 109, 110);
DEFINE_WGMMA(256, 128, 129, 130, 131, 132, 133, 134);

/* Before the first product of a row of them, and when others wrote its registers: registers may be
 * read from here on. */
static __device__ __forceinline__ void wgmma_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* The products since wgmma_begin are a group. */
static __device__ __forceinline__ void wgmma_end()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until at most PENDING groups are under way. */
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

/* Until at most PENDING groups are under way; behind it c may be read. */
template <int PENDING, class T, int N> static __device__ __forceinline__ void wgmma_wait(T (&c)[N])
{
    wgmma_wait<PENDING>();
    keep_in_place(c);
}

/* Registers of the warpgroup's threads from the pool of the block, or to it. */
template <int REGISTERS> static __device__ __forceinline__ void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS> static __device__ __forceinline__ void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

#endif
