/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors: the one way to fill a glm4v_error. */
#ifndef GLM4V_ENGINE_ERROR_H
#define GLM4V_ENGINE_ERROR_H

#include "glm4v/glm4v.h"

/* Fill err (may be NULL) with code and the formatted message (cut to fit, always terminated;
 * control characters from file contents are replaced by '?'). Returns code, so that `return
 * glm4v_fail(...)` is readable. The message states what failed, where, and what was expected. */
int glm4v_fail(glm4v_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* glm4v_fail for a failed system call: appends ": " and the text of errnum; ENOENT and ENOTDIR give
 * GLM4V_ERR_NOT_FOUND, ENOMEM gives GLM4V_ERR_NOMEM, everything else GLM4V_ERR_IO. */
int glm4v_fail_errno(glm4v_error *err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
