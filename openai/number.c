/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "openai/number.h"

#include <inttypes.h>
#include <math.h>

void openai_write_decimal(glm4v_text_out *out, double value)
{
    const int64_t millionths = (int64_t)llround(value * 1e6);
    glm4v_text_format(out, "%" PRId64 ".%06" PRId64, millionths / 1000000, millionths % 1000000);
}
