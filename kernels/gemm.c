/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which variant of each operation of gemm.h a CPU gets. */
#include "gemm.h"

#include "cpu.h"

void glm4v_gemm_ops_init(glm4v_gemm_ops *ops, unsigned cpu)
{
    *ops = (glm4v_gemm_ops) {
        .f32 = glm4v_gemm_f32_c,
        .bf16 = glm4v_gemm_bf16_c,
        .int8 = glm4v_gemm_int8_c,
        .int4 = glm4v_gemm_int4_c,
        .int4_32 = glm4v_gemm_int4_32_c,
        .fp8 = glm4v_gemm_fp8_c,
        .bf16_row = glm4v_bf16_row_c,
        .quantize_row = glm4v_quantize_row_c,
        .quantize_row_32 = glm4v_quantize_row_32_c,
        .fp8_row = glm4v_fp8_row_c,
        .pack_f32 = glm4v_pack_f32_c,
        .pack_bf16 = glm4v_pack_bf16_c,
        .pack_int8 = glm4v_pack_int8_c,
        .pack_int4 = glm4v_pack_int4_c,
        .pack_int4_32 = glm4v_pack_int4_32_c,
        .pack_fp8 = glm4v_pack_fp8_c,
        .pack_codes_int8 = glm4v_pack_codes_int8_c,
        .pack_codes_int4 = glm4v_pack_codes_int4_c,
        .pack_codes_fp8 = glm4v_pack_codes_fp8_c,
        .pack_words_int4 = glm4v_pack_words_int4_c,
    };
#ifdef HAVE_AVX2
    if (!(cpu & GLM4V_CPU_AVX2))
        return;
    ops->f32 = glm4v_gemm_f32_avx2;
    ops->bf16 = glm4v_gemm_bf16_avx2;
    ops->int8 = glm4v_gemm_int8_avx2;
    ops->int4 = glm4v_gemm_int4_avx2;
    ops->int4_32 = glm4v_gemm_int4_32_avx2;
    ops->fp8 = glm4v_gemm_fp8_avx2;
    ops->bf16_row = glm4v_bf16_row_avx2;
    ops->quantize_row = glm4v_quantize_row_avx2;
    ops->quantize_row_32 = glm4v_quantize_row_32_avx2;
    ops->fp8_row = glm4v_fp8_row_avx2;
    ops->pack_f32 = glm4v_pack_f32_avx2;
    ops->pack_bf16 = glm4v_pack_bf16_avx2;
    ops->pack_int8 = glm4v_pack_int8_avx2;
    ops->pack_int4 = glm4v_pack_int4_avx2;
    ops->pack_int4_32 = glm4v_pack_int4_32_avx2;
    ops->pack_fp8 = glm4v_pack_fp8_avx2;
    ops->pack_codes_int8 = glm4v_pack_codes_int8_avx2;
    ops->pack_codes_int4 = glm4v_pack_codes_int4_avx2;
    ops->pack_codes_fp8 = glm4v_pack_codes_fp8_avx2;
    ops->pack_words_int4 = glm4v_pack_words_int4_avx2;
#endif
#ifdef HAVE_AVX512
    if (!(cpu & GLM4V_CPU_AVX512))
        return;
    ops->f32 = glm4v_gemm_f32_avx512;
    ops->bf16 = glm4v_gemm_bf16_avx512;
    ops->fp8 = glm4v_gemm_fp8_avx512;
    ops->pack_f32 = glm4v_pack_f32_avx512;
    ops->pack_int4 = glm4v_pack_int4_avx512;
    ops->pack_int4_32 = glm4v_pack_int4_32_avx512;
    ops->pack_codes_int8 = glm4v_pack_codes_int8_avx512;
    ops->pack_codes_fp8 = glm4v_pack_codes_fp8_avx512;
    ops->pack_words_int4 = glm4v_pack_words_int4_avx512;
#endif
#ifdef HAVE_VNNI
    if (cpu & GLM4V_CPU_VNNI) {
        ops->int8 = glm4v_gemm_int8_vnni;
        ops->int4 = glm4v_gemm_int4_vnni;
        ops->int4_32 = glm4v_gemm_int4_32_vnni;
    }
#endif
#ifdef HAVE_BF16
    if ((cpu & GLM4V_CPU_BF16) && !(cpu & GLM4V_CPU_SLOW_BF16)) {
        ops->bf16 = glm4v_gemm_bf16_avx512bf16;
        ops->fp8 = glm4v_gemm_fp8_avx512bf16;
    }
#endif
#ifdef HAVE_AMX
    if (cpu & GLM4V_CPU_AMX) {
        ops->bf16 = glm4v_gemm_bf16_amx;
        ops->fp8 = glm4v_gemm_fp8_amx;
        ops->int8 = glm4v_gemm_int8_amx;
        ops->int4 = glm4v_gemm_int4_amx;
    }
#endif
}
