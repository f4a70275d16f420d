/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library's version, and the names of its errors. Apart from base/error.c, of which others have
 * a copy: what the public header declares is in the library alone. */
#include "glm4v/glm4v.h"

const char *glm4v_error_name(int code)
{
    static const char *const names[] = {
        "ok",          "invalid", "no-memory", "not-found", "io",     "format",
        "unsupported", "busy",    "canceled",  "deadline",  "device", "internal",
    };
    return code <= 0 && -code < (int)(sizeof names / sizeof *names) ? names[-code] : "unknown";
}

const char *glm4v_version(void)
{
    return GLM4V_VERSION;
}
