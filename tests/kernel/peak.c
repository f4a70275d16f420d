/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one thread of this machine can do at most: multiply-adds a second of each level, bytes a second from
 * memory. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { ROUNDS = 200000, CHAINS = 12 };

/* CHAINS independent chains hide the latency of any multiply-add made so far. */
#define LOOP(type, zero, step)                                                                     \
    type acc[CHAINS];                                                                              \
    for (int i = 0; i < CHAINS; i++)                                                               \
        acc[i] = zero;                                                                             \
    for (int r = 0; r < ROUNDS; r++) {                                                             \
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++)                                  \
        {                                                                                          \
            step;                                                                                  \
            __asm__ volatile("" : "+v"(acc[i]));                                                   \
        }                                                                                          \
    }

__attribute__((target("avx2,fma"), noinline)) static void f32_avx2(void)
{
    __m256 one = _mm256_set1_ps(0.5f);
    __asm__ volatile("" : "+v"(one));
    LOOP(__m256, _mm256_setzero_ps(), acc[i] = _mm256_fmadd_ps(one, one, acc[i]))
}

__attribute__((target("avx2,fma"), noinline)) static void int8_avx2(void)
{
    __m256i one = _mm256_set1_epi16(1);
    __asm__ volatile("" : "+v"(one));
    LOOP(__m256i, _mm256_setzero_si256(),
         acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(one, one)))
}

__attribute__((target("avx512f"), noinline)) static void f32_avx512(void)
{
    __m512 one = _mm512_set1_ps(0.5f);
    __asm__ volatile("" : "+v"(one));
    LOOP(__m512, _mm512_setzero_ps(), acc[i] = _mm512_fmadd_ps(one, one, acc[i]))
}

__attribute__((target("avx512f,avx512vnni"), noinline)) static void int8_vnni(void)
{
    __m512i one = _mm512_set1_epi8(1);
    __asm__ volatile("" : "+v"(one));
    LOOP(__m512i, _mm512_setzero_si512(), acc[i] = _mm512_dpbusd_epi32(acc[i], one, one))
}

/* In assembly: no compiler spells the argument types of the intrinsic alike. */
__attribute__((target("avx512f"), noinline)) static void bf16_avx512(void)
{
    __m512 one = _mm512_set1_ps(0.5f);
    LOOP(__m512, _mm512_setzero_ps(),
         __asm__ volatile("vdpbf16ps %1, %1, %0"
                          : "+v"(acc[i])
                          : "v"(one)))
}

struct kernel {
    void (*run)(void);
    double operations; /* of one instruction */
};

static struct kernel pick(unsigned cpu, enum peak kind)
{
    bool wide = cpu & GLM4V_CPU_AVX512;
    if (kind == PEAK_INT8)
        return (cpu & GLM4V_CPU_VNNI) ? (struct kernel) { int8_vnni, 128 }
                                      : (struct kernel) { int8_avx2, 32 };
    if (kind == PEAK_BF16 && (cpu & GLM4V_CPU_BF16))
        return (struct kernel) { bf16_avx512, 64 };
    return wide ? (struct kernel) { f32_avx512, 32 } : (struct kernel) { f32_avx2, 16 };
}

double check_peak(unsigned cpu, enum peak kind)
{
    struct kernel k = pick(cpu, kind);
    double best = 0;
    for (int i = 0; i < 20; i++) {
        double start = check_now();
        k.run();
        double rate = k.operations * CHAINS * ROUNDS / (check_now() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

__attribute__((target("avx2"), noinline)) static void read_all(const uint8_t *x, size_t bytes)
{
    __m256i sum[8];
    for (int i = 0; i < 8; i++)
        sum[i] = _mm256_setzero_si256();
    for (size_t at = 0; at + 256 <= bytes; at += 256)
        for (int i = 0; i < 8; i++)
            sum[i] = _mm256_xor_si256(sum[i], _mm256_load_si256((const void *)(x + at + 32 * i)));
    for (int i = 0; i < 8; i++)
        __asm__ volatile("" : : "x"(sum[i]));
}

double check_read_bandwidth(unsigned cpu, size_t bytes)
{
    uint8_t *x = NULL;
    double rates[9] = { 0 };

    bytes = (bytes + 255) / 256 * 256;
    if (!cpu || posix_memalign((void **)&x, 64, bytes))
        return 0;
    memset(x, 1, bytes);
    int repeat = (int)((64u << 20) / bytes) + 1;
    for (int i = 0; i < 9; i++) {
        double start = check_now();
        for (int r = 0; r < repeat; r++)
            read_all(x, bytes);
        rates[i] = (double)bytes * repeat / (check_now() - start);
    }
    free(x);
    for (int i = 1; i < 9; i++) /* insertion sort, for the median */
        for (int k = i; k && rates[k] < rates[k - 1]; k--) {
            double swap = rates[k];
            rates[k] = rates[k - 1];
            rates[k - 1] = swap;
        }
    return rates[4];
}
#else
double check_peak(unsigned cpu, enum peak kind)
{
    return 0;
}

double check_read_bandwidth(unsigned cpu, size_t bytes)
{
    return 0;
}
#endif
