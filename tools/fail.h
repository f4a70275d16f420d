/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one way in which readers of pictures, clips and cameras write an error. */
#ifndef GLM4V_TOOLS_FAIL_H
#define GLM4V_TOOLS_FAIL_H

#include "glm4v/glm4v.h"

/* Write code and the formatted message (one line, cut to fit) into err, which is not NULL. Returns
 * code, a negative GLM4V_ERR_*. */
int cli_fail(glm4v_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
