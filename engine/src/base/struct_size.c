/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See base/struct_size.h. */
#include "base/struct_size.h"

#include <string.h>

#include "base/error.h"

/* Bytes of the caller's struct; 0: refused. */
static size_t size_of(const void *callers, size_t size, const char *name, glm4v_error *err)
{
    size_t said;
    memcpy(&said, callers, sizeof said);
    if (!said)
        return size;
    if (said >= sizeof said && said <= GLM4V_MAX_STRUCT_SIZE)
        return said;
    glm4v_fail(err, GLM4V_ERR_INVALID, "%s: struct_size is %zu, expected 0 or sizeof the struct",
               name, said);
    return 0;
}

int glm4v_struct_read(void *to, const void *from, size_t size, const char *name, glm4v_error *err)
{
    memset(to, 0, size);
    if (!from)
        return 0;
    size_t given = size_of(from, size, name, err);
    if (!given)
        return GLM4V_ERR_INVALID;
    memcpy(to, from, given < size ? given : size);
    return 0;
}

int glm4v_struct_write(void *to, const void *from, size_t size, const char *name, glm4v_error *err)
{
    const size_t head = sizeof(size_t);
    size_t wanted = size_of(to, size, name, err);
    if (!wanted)
        return GLM4V_ERR_INVALID;
    size_t known = wanted < size ? wanted : size;
    memcpy((char *)to + head, (const char *)from + head, known - head);
    memset((char *)to + known, 0, wanted - known);
    return 0;
}
