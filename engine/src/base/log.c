/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Log lines to the application's callback. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void glm4v_log_line(const glm4v_log *log, glm4v_log_level level, const char *format, ...)
{
    if (!log || !log->fn)
        return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log->fn(log->user, level, line);
}
