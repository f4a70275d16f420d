/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much memory this process may still take. */
#ifndef GLM4V_ENGINE_MEMORY_H
#define GLM4V_ENGINE_MEMORY_H

#include <stdint.h>

/* Bytes that can be allocated within the limits of the system, the control group and RLIMIT_AS;
 * UINT64_MAX if none is known. */
uint64_t glm4v_memory_available(void);

#endif
