/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Log lines to the application's callback. */
#ifndef GLM4V_ENGINE_LOG_H
#define GLM4V_ENGINE_LOG_H

#include "glm4v/glm4v.h"

typedef struct {
    glm4v_log_fn fn; /* NULL = silent */
    void *user;
} glm4v_log;

void glm4v_log_line(const glm4v_log *log, glm4v_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
