/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which variant of each operation of attention.h a CPU gets. */
#include "attention.h"

#include "cpu.h"

void glm4v_attention_ops_init(glm4v_attention_ops *ops, unsigned cpu)
{
    ops->attention = glm4v_attention_c;
#ifdef HAVE_AVX2
    if (!(cpu & GLM4V_CPU_AVX2))
        return;
    ops->attention = glm4v_attention_avx2;
#endif
#ifdef HAVE_AVX512
    if (!(cpu & GLM4V_CPU_AVX512))
        return;
    ops->attention = glm4v_attention_avx512;
#endif
}
