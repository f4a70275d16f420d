/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which variant of each operation of norm.h a CPU gets. */
#include "norm.h"

#include "cpu.h"

void glm4v_norm_ops_init(glm4v_norm_ops *ops, unsigned cpu)
{
    ops->rms_norm = glm4v_rms_norm_c;
    ops->layer_norm = glm4v_layer_norm_c;
#ifdef HAVE_AVX2
    if (!(cpu & GLM4V_CPU_AVX2))
        return;
    ops->rms_norm = glm4v_rms_norm_avx2;
    ops->layer_norm = glm4v_layer_norm_avx2;
#endif
#ifdef HAVE_AVX512
    if (!(cpu & GLM4V_CPU_AVX512))
        return;
    ops->rms_norm = glm4v_rms_norm_avx512;
    ops->layer_norm = glm4v_layer_norm_avx512;
#endif
}
