/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See fail.h. */
#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

int cli_fail(glm4v_error *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err->code = code;
    vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
    return code;
}
