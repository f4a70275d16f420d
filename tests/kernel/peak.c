/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one thread of this machine can do at most: multiply-adds a second of each level, bytes a
 * second from memory. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

#if defined(__x86_64__)
#include <immintrin.h>

enum { ROUNDS = 200000, CHAINS = 12 };

/* CHAINS independent chains hide the latency of any multiply-add made so far. Variables, not an
 * array: sums in memory would measure the memory. */
#define EACH(do)                                                                                   \
    do                                                                                             \
    (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
#define DECLARE(i) acc##i = { 0 },
#define LOOP(type, step)                                                                           \
    type EACH(DECLARE) last = { 0 };                                                               \
    for (int r = 0; r < ROUNDS; r++) {                                                             \
        EACH(step)                                                                                 \
    }                                                                                              \
    __asm__ volatile("" : "+v"(last))

__attribute__((target("avx2,fma"), noinline)) static void f32_avx2(void)
{
    __m256 one = _mm256_set1_ps(0.5f);
#define STEP(i) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(acc##i) : "x"(one));
    LOOP(__m256, STEP);
#undef STEP
}

__attribute__((target("avx2"), noinline)) static void int8_avx2(void)
{
    __m256i one = _mm256_set1_epi16(1), product;
#define STEP(i)                                                                                    \
    __asm__ volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0"                                    \
                     : "+x"(acc##i), "=&x"(product)                                                \
                     : "x"(one));
    LOOP(__m256i, STEP);
#undef STEP
}

__attribute__((target("avx512f"), noinline)) static void f32_avx512(void)
{
    __m512 one = _mm512_set1_ps(0.5f);
#define STEP(i) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(acc##i) : "v"(one));
    LOOP(__m512, STEP);
#undef STEP
}

__attribute__((target("avx512f"), noinline)) static void int8_vnni(void)
{
    __m512i one = _mm512_set1_epi32(0x01010101);
#define STEP(i) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(acc##i) : "v"(one));
    LOOP(__m512i, STEP);
#undef STEP
}

__attribute__((target("avx512f"), noinline)) static void bf16_avx512(void)
{
    __m512 one = _mm512_set1_ps(0.5f);
#define STEP(i) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(acc##i) : "v"(one));
    LOOP(__m512, STEP);
#undef STEP
}

#ifdef HAVE_AMX
/* Six accumulators of 16 x 16, all registers zero. 16 x 16 x 64 bytes an instruction, a sixteenth
 * of the rounds. */
#define TILES(op)                                                                                  \
    struct {                                                                                       \
        uint8_t palette, zero[15];                                                                 \
        uint16_t row_bytes[16];                                                                    \
        uint8_t rows[16];                                                                          \
    } config = {                                                                                   \
        1, { 0 }, { 64, 64, 64, 64, 64, 64, 64, 64 }, { 16, 16, 16, 16, 16, 16, 16, 16 }           \
    };                                                                                             \
    __asm__ volatile("ldtilecfg %0" : : "m"(config));                                              \
    for (int r = 0; r < ROUNDS / 16; r++)                                                          \
        __asm__ volatile(op " %tmm7, %tmm6, %tmm0\n\t" op " %tmm7, %tmm6, %tmm1\n\t" op            \
                            " %tmm7, %tmm6, %tmm2\n\t" op " %tmm7, %tmm6, %tmm3\n\t" op            \
                            " %tmm7, %tmm6, %tmm4\n\t" op " %tmm7, %tmm6, %tmm5");                 \
    __asm__ volatile("tilerelease")

static void int8_amx(void)
{
    TILES("tdpbsud");
}

static void bf16_amx(void)
{
    TILES("tdpbf16ps");
}
#endif

struct kernel {
    void (*run)(void);
    double operations; /* of one instruction */
};

static struct kernel pick(unsigned cpu, enum peak kind)
{
    bool wide = cpu & GLM4V_CPU_AVX512;
#ifdef HAVE_AMX
    const double tile =
        6.0 / 16 / CHAINS * 16 * 16 * 64; /* of a sixteenth of the rounds, six of twelve chains */
    if (cpu & GLM4V_CPU_AMX && kind != PEAK_F32)
        return kind == PEAK_INT8 ? (struct kernel) { int8_amx, 2 * tile }
                                 : (struct kernel) { bf16_amx, tile };
#endif
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
    for (int i = 0; cpu && i < 20; i++) {
        double start = check_now();
        k.run();
        double rate = k.operations * CHAINS * ROUNDS / (check_now() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Eight streams, fetched ahead: more than one stream brings from memory. */
__attribute__((target("avx2"), noinline)) static void read_all(const uint8_t *x, size_t bytes)
{
    const size_t part = bytes / 8;
    __m256i sum = _mm256_setzero_si256();
    for (size_t at = 0; at < part; at += 64) {
        for (int i = 0; i < 8; i++) {
            const uint8_t *line = x + i * part + at;
            __builtin_prefetch(line + 1024);
            sum = _mm256_xor_si256(sum, _mm256_load_si256((const void *)line));
            sum = _mm256_xor_si256(sum, _mm256_load_si256((const void *)(line + 32)));
        }
    }
    __asm__ volatile("" : : "x"(sum));
}

double check_read_bandwidth(unsigned cpu, size_t bytes)
{
    uint8_t *x = NULL;
    double rates[9] = { 0 };

    bytes = (bytes + 511) / 512 * 512;
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
