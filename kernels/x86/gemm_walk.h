/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a product is cut into tiles that fit the registers; the same for every level and form.
 *
 * A tile is `rows` rows times `panels` panels, one function each, because the counts have to be
 * constants for the sums to stay in registers. Outer loop: blocks of rows whose activations fit the
 * second-level cache; then panels; then the tiles of the block, which find the panels in the first-
 * or second-level cache. With few rows a tile takes more panels, so that there are always enough
 * independent chains to hide the latency of a multiply-add. No output's order of summation depends
 * on any of this. */
#ifndef GLM4V_KERNELS_GEMM_WALK_H
#define GLM4V_KERNELS_GEMM_WALK_H

#include "gemm.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

enum { GLM4V_MAX_ROWS = 12, GLM4V_BLOCK_BYTES = 768 << 10, GLM4V_PREFETCH_BYTES = 1024 };

/* Makes the compiler keep an array in memory across what follows: it would hold fp32 totals in
 * registers and spill the integer sums of the inner loop instead. */
#define keep_in_memory(array) __asm__ volatile("" : : "r"(array) : "memory")

/* Weights ahead of use, one line a panel and step: from memory with few rows (the hardware stops at
 * pages and follows few streams), from the second-level cache with many, where it is worth 5 %. 512
 * and 2048 bytes ahead were slower. */
ALWAYS_INLINE void prefetch_panel(const void *w)
{
    __builtin_prefetch((const char *)w + GLM4V_PREFETCH_BYTES);
}

/* Computes rows [t, t + rows) of panels [p, p + panels). */
typedef void (*glm4v_tile_fn)(const glm4v_gemm_args *g, int64_t t, int64_t p);

typedef struct {
    int64_t max_rows;          /* 4, 6, 12: rows of the largest tile */
    int64_t max_panels[4];     /* of a block of 1, 2, 3 to 5, more rows: 8, 4, 2 or 1 */
    size_t element;            /* bytes of an activation */
    glm4v_tile_fn tile[13][4]; /* [rows][log2 panels]; rows 1 2 3 4 6 8 10 12 */
} glm4v_tiles;

/* Rows of the next tile when `left` are left: the largest, but never leaving one or two rows
 * alone. */
static inline int64_t next_rows(int64_t left, int64_t max)
{
    if (left >= max + 3 || left == max)
        return max;
    if (left > max)
        return max - 2;
    return left % 2 == 0 || left < 4 ? left : left - 3;
}

/* Which of max_panels is for a block of so many rows. */
static inline int64_t block_class(int64_t rows)
{
    if (rows <= 2)
        return rows - 1;
    return rows <= 5 ? 2 : 3;
}

static inline void walk_block(const glm4v_gemm_args *g, const glm4v_tiles *tiles, int64_t first,
                              int64_t end)
{
    const int64_t max_panels = tiles->max_panels[block_class(end - first)];
    int log2 = 0;
    while (1 << (log2 + 1) <= max_panels)
        log2++;
    for (int64_t p = g->panel, last = g->panel + g->n_panels; p < last; p += 1 << log2) {
        while (1 << log2 > last - p)
            log2--;
        for (int64_t t = first, rows; t < end; t += rows) {
            rows = next_rows(end - t, tiles->max_rows);
            tiles->tile[rows][log2](g, t, p);
        }
    }
}

static inline void glm4v_gemm_walk(const glm4v_gemm_args *g, const glm4v_tiles *tiles)
{
    int64_t block = GLM4V_BLOCK_BYTES / (tiles->element * g->K);
    block =
        block < 4 * GLM4V_MAX_ROWS ? 4 * GLM4V_MAX_ROWS : block / GLM4V_MAX_ROWS * GLM4V_MAX_ROWS;
    for (int64_t t = 0; t < g->T; t += block)
        walk_block(g, tiles, t, g->T - t < block ? g->T : t + block);
}

#endif
