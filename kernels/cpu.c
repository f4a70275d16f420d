/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CPU flags by cpuid. Bits: Intel SDM volume 2A, CPUID; AMD APM volume 3 appendix E agrees on all
 * of them. */
#define _GNU_SOURCE
#include "cpu.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* XCR0: bits of register state that the system saves. Only callable if cpuid reports OSXSAVE. */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Linux grants a process tile registers only on request (arch_prctl(2), ARCH_REQ_XCOMP_PERM): they
 * enlarge the frame of every signal. Repeated requests are harmless. */
static bool amx_permitted(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
#else
    return false;
#endif
}

static bool has(uint32_t word, uint32_t bits)
{
    return (word & bits) == bits;
}

unsigned glm4v_cpu_flags(void)
{
    const uint32_t f16c_osxsave_fma =
        1u << 29 | 1u << 28 | 1u << 27 | 1u << 12;                     /* leaf 1 ecx, with AVX */
    const uint32_t avx2 = 1u << 5;                                     /* leaf 7 ebx */
    const uint32_t avx512 = 1u << 31 | 1u << 30 | 1u << 17 | 1u << 16; /* VL BW DQ F */
    const uint32_t vnni = 1u << 11;                                    /* leaf 7 ecx */
    const uint32_t bf16 = 1u << 5;                                     /* leaf 7.1 eax */
    const uint32_t amx_bf16 = 1u << 22;                                /* leaf 7 edx */
    const uint32_t amx = 1u << 25 | 1u << 24 | 1u << 22; /* leaf 7 edx: int8, tiles, bf16 */
    const uint64_t tiles = 0x60000;
    const uint64_t ymm = 0x6, zmm = 0xe6; /* XCR0 */
    uint32_t a, b, c, d, ecx7, edx7, sub;
    unsigned flags = 0;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, f16c_osxsave_fma))
        return 0;
    uint64_t state = saved_state();
    if (!__get_cpuid_count(7, 0, &sub, &b, &ecx7, &edx7) || !has(b, avx2) || (state & ymm) != ymm)
        return 0;
    flags |= GLM4V_CPU_AVX2;
    if (!has(b, avx512) || (state & zmm) != zmm)
        return flags;
    flags |= GLM4V_CPU_AVX512;
    if (has(ecx7, vnni))
        flags |= GLM4V_CPU_VNNI;
    if (sub >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, bf16))
        flags |= GLM4V_CPU_BF16;
    /* Intel's cores with AMX run vdpbf16ps every second cycle, half as fast as the fused
     * multiply-adds that it replaces (Sapphire Rapids: 109 against 217 GFLOP/s a core); Zen 4 and 5
     * run it twice as fast. */
    if ((flags & GLM4V_CPU_BF16) && has(edx7, amx_bf16))
        flags |= GLM4V_CPU_SLOW_BF16;
    if ((flags & GLM4V_CPU_VNNI) && has(edx7, amx) && (state & tiles) == tiles && amx_permitted())
        flags |= GLM4V_CPU_AMX;
    return flags;
}
#else
unsigned glm4v_cpu_flags(void)
{
    return 0;
}
#endif

bool glm4v_cpu_mask(const char *level, unsigned *flags)
{
    enum {
        AVX512 = GLM4V_CPU_AVX2 | GLM4V_CPU_AVX512 | GLM4V_CPU_VNNI | GLM4V_CPU_BF16 |
                 GLM4V_CPU_SLOW_BF16
    };
    static const struct {
        const char *name;
        unsigned keep;
    } levels[] = {
        { "c", 0 },
        { "avx2", GLM4V_CPU_AVX2 },
        { "avx512", AVX512 },
        { "amx", AVX512 | GLM4V_CPU_AMX },
    };
    if (!level || !*level)
        return true;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (!strcmp(level, levels[i].name)) {
            *flags &= levels[i].keep;
            return true;
        }
    }
    return false;
}

const char *glm4v_cpu_level(unsigned flags)
{
    if (!(flags & GLM4V_CPU_AVX2))
        return "c";
    if (!(flags & GLM4V_CPU_AVX512))
        return "avx2";
    bool bf16 = (flags & GLM4V_CPU_BF16) && !(flags & GLM4V_CPU_SLOW_BF16);
    if (flags & GLM4V_CPU_AMX)
        return bf16 ? "avx512+vnni+bf16+amx" : "avx512+vnni+amx";
    if (flags & GLM4V_CPU_VNNI)
        return bf16 ? "avx512+vnni+bf16" : "avx512+vnni";
    return bf16 ? "avx512+bf16" : "avx512";
}
