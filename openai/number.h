/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers in JSON, without printf's %f, whose decimal point is that of the application's locale. */
#ifndef GLM4V_OPENAI_NUMBER_H
#define GLM4V_OPENAI_NUMBER_H

#include "base/string_buffer.h"

/* value in [0, 1e12), six digits behind the point. */
void openai_write_decimal(glm4v_text_out *out, double value);

#endif
