/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Structs of the public header whose first member is struct_size: callers that were compiled
 * against another version of the header have them shorter or longer. struct_size 0: as in this
 * version. */
#ifndef GLM4V_ENGINE_STRUCT_SIZE_H
#define GLM4V_ENGINE_STRUCT_SIZE_H

#include <stddef.h>

#include "glm4v/glm4v.h"

#define GLM4V_MAX_STRUCT_SIZE 4096

/* Read a caller's struct into the library's own of size bytes; fields that the caller's does not
 * have are zero. from NULL: all zero. INVALID where struct_size is less than its own size or above
 * GLM4V_MAX_STRUCT_SIZE; name is for the message. */
int glm4v_struct_read(void *to, const void *from, size_t size, const char *name, glm4v_error *err);

/* Write the library's struct of size bytes into a caller's, as far as that reaches; what it has
 * beyond is zeroed. to's struct_size stays as it is. INVALID as above, and nothing is written. */
int glm4v_struct_write(void *to, const void *from, size_t size, const char *name, glm4v_error *err);

#endif
