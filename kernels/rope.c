/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which variant of each operation of rope.h a CPU gets. */
#include "rope.h"

#include "cpu.h"

void glm4v_rope_ops_init(glm4v_rope_ops *ops, unsigned cpu)
{
    ops->interleaved = glm4v_rope_interleaved_c;
    ops->half = glm4v_rope_half_c;
#ifdef HAVE_AVX2
    if (!(cpu & GLM4V_CPU_AVX2))
        return;
    ops->interleaved = glm4v_rope_interleaved_avx2;
    ops->half = glm4v_rope_half_avx2;
#endif
}
