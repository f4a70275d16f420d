/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the plain C forms find the codes of an int4 panel: the layout of gemm.h, in one place. */
#ifndef GLM4V_KERNELS_NIBBLES_H
#define GLM4V_KERNELS_NIBBLES_H

#include "gemm.h"

/* Byte of input k of output i; its code is the low nibble for k % 8 < 4, else the high one. */
static inline size_t glm4v_int4_at(int64_t k, int64_t i)
{
    return (k / 8 * GLM4V_PANEL + i) * 4 + k % 4;
}

static inline uint8_t glm4v_get_nibble(const uint8_t *panel, int64_t k, int64_t i)
{
    return panel[glm4v_int4_at(k, i)] >> (k & 4) & 15;
}

static inline void glm4v_set_nibble(uint8_t *panel, int64_t k, int64_t i, unsigned code)
{
    uint8_t *byte = &panel[glm4v_int4_at(k, i)];
    *byte = (uint8_t)((*byte & ~(15u << (k & 4))) | code << (k & 4));
}

#endif
