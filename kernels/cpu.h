/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this CPU and its operating system let us run. Every *_ops_init() takes these flags as an
 * argument, so that two tables of different levels can live side by side (a test compares them).
 * Levels are cumulative: AVX512 is only reported together with AVX2, VNNI and BF16 only together
 * with AVX512. */
#ifndef GLM4V_KERNELS_CPU_H
#define GLM4V_KERNELS_CPU_H

#include <stdbool.h>

#define GLM4V_CPU_AVX2 1u   /* AVX2, FMA, F16C */
#define GLM4V_CPU_AVX512 2u /* AVX-512 F, BW, DQ, VL */
#define GLM4V_CPU_VNNI 4u   /* AVX-512 VNNI: int8 dot products */
#define GLM4V_CPU_BF16 8u   /* AVX-512 BF16: bf16 dot products */
/* They are slower here than the fused multiply-adds that they replace, and are not used. Only
 * together with BF16. */
#define GLM4V_CPU_SLOW_BF16 16u

/* AMX tiles, int8 and bf16, and the system lets this process use them. Only together with VNNI,
 * whose results the int8 tiles repeat. */
#define GLM4V_CPU_AMX 32u

/* Flags of this machine, from cpuid, and from XGETBV whether the system saves the registers;
 * requests the permission of Linux that AMX needs. Cheap, not cached. */
unsigned glm4v_cpu_flags(void);

/* Lower *flags to a named level: "c", "avx2", "avx512" (with whatever VNNI and BF16 are in *flags),
 * "amx" (everything). NULL and "" leave it alone. A level above what *flags has changes nothing.
 * False, *flags untouched: no such name. */
bool glm4v_cpu_mask(const char *level, unsigned *flags);

/* "c", "avx2", "avx512", with "+vnni", "+bf16", "+vnni+bf16", "+vnni+amx": for logs and reports. */
const char *glm4v_cpu_level(unsigned flags);

#endif
