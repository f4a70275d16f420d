/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which variant of each operation of convert.h a CPU gets. */
#include "convert.h"

#include "cpu.h"

void glm4v_convert_ops_init(glm4v_convert_ops *ops, unsigned cpu)
{
    *ops = (glm4v_convert_ops) {
        .f32_to_bf16 = glm4v_f32_to_bf16_c,
        .f32_to_f16 = glm4v_f32_to_f16_c,
        .bf16_to_f32 = glm4v_bf16_to_f32_c,
        .f16_to_f32 = glm4v_f16_to_f32_c,
        .f32_to_int8 = glm4v_f32_to_int8_c,
        .f32_to_fp8 = glm4v_f32_to_fp8_c,
        .int8_to_f32 = glm4v_int8_to_f32_c,
    };
#ifdef HAVE_AVX2
    if (!(cpu & GLM4V_CPU_AVX2))
        return;
    ops->f32_to_bf16 = glm4v_f32_to_bf16_avx2;
    ops->f32_to_f16 = glm4v_f32_to_f16_avx2;
    ops->bf16_to_f32 = glm4v_bf16_to_f32_avx2;
    ops->f16_to_f32 = glm4v_f16_to_f32_avx2;
    ops->f32_to_int8 = glm4v_f32_to_int8_avx2;
    ops->f32_to_fp8 = glm4v_f32_to_fp8_avx2;
    ops->int8_to_f32 = glm4v_int8_to_f32_avx2;
#endif
}
