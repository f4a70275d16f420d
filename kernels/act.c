/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which variant of each operation of act.h a CPU gets. */
#include "act.h"

#include "cpu.h"

void glm4v_act_ops_init(glm4v_act_ops *ops, unsigned cpu)
{
    ops->silu_mul = glm4v_silu_mul_c;
    ops->gelu = glm4v_gelu_c;
    ops->add = glm4v_add_c;
    ops->scale = glm4v_scale_c;
#ifdef HAVE_AVX2
    if (!(cpu & GLM4V_CPU_AVX2))
        return;
    ops->silu_mul = glm4v_silu_mul_avx2;
    ops->gelu = glm4v_gelu_avx2;
    ops->add = glm4v_add_avx2;
    ops->scale = glm4v_scale_avx2;
#endif
#ifdef HAVE_AVX512
    if (!(cpu & GLM4V_CPU_AVX512))
        return;
    ops->silu_mul = glm4v_silu_mul_avx512;
    ops->gelu = glm4v_gelu_avx512;
#endif
}
