/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The CPU backend's C kernels with every activation that leaves an operation rounded to bf16: what
 * a device whose activations are bf16 computes, but for the order of its sums. The measure of such
 * devices. */
#ifndef GLM4V_TEST_BACKEND_BF16_H
#define GLM4V_TEST_BACKEND_BF16_H

#include "backend/backend.h"

/* For glm4v_backend_replace_cpu(). */
int bf16_open(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log, glm4v_error *err);

#endif
