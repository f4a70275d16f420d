/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much memory this process may still take. */
#ifndef GLM4V_ENGINE_MEMORY_H
#define GLM4V_ENGINE_MEMORY_H

#include <stdint.h>

/* Bytes that can be taken before the system, the control group or RLIMIT_AS says no; UINT64_MAX
 * where none tells. */
uint64_t glm4v_memory_available(void);

#endif
