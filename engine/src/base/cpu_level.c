/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See base/cpu_level.h. */
#include "base/cpu_level.h"

#include <stdlib.h>

#include "base/error.h"
#include "cpu.h"

int glm4v_cpu_choose(unsigned *flags, glm4v_error *err)
{
    const char *level = getenv("GLM4V_CPU");
    *flags = glm4v_cpu_flags();
    if (glm4v_cpu_mask(level, flags))
        return 0;
    return glm4v_fail(err, GLM4V_ERR_INVALID,
                      "GLM4V_CPU=%s in the environment: expected c, avx2, avx512 or amx", level);
}
