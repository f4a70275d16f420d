/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Matrix products by AMX, Intel's tile multiplier: 16 rows times 64 bytes of inputs times 16
 * outputs an instruction. A panel has its layout of weights already. A block is 32 rows by 2
 * panels: tiles 0 to 3 its sums, 4 and 5 rows of activations, 6 and 7 weights.
 *
 * int8, int4: sums of a group are exact integers and what follows is the arithmetic of gemm_vnni.c
 * step by step, so outputs are the same bytes, and calls of few rows, where a tile would be mostly
 * empty, go there. The sums pass through the stack to be scaled in fp32 while the tiles work on the
 * next group. bf16: sums stay in the tiles from the first input to the last, for any number of
 * rows: the order of additions is the instruction's own, pair by pair, denormals flushed. fp8: as
 * bf16, widened on the way. */
#include <immintrin.h>

#include "avx512.h"

enum { STEP = 64, STEP_BYTES = 16 * 64, BLOCK_ROWS = 32, MIN_ROWS = 12, AHEAD = 2048 };

struct config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Tiles for r0 + r1 rows, each at most 16. Sets all tiles to zero. */
static void configure(int64_t r0, int64_t r1)
{
    const int64_t rows[8] = { r0, r0, r1, r1, r0, r1, 16, 16 };
    struct config c = { .palette = 1 };
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)rows[i];
        c.row_bytes[i] = rows[i] ? 64 : 0;
    }
    _tile_loadconfig(&c);
}

ALWAYS_INLINE void zero_sums(bool both)
{
    _tile_zero(0);
    _tile_zero(1);
    if (both) {
        _tile_zero(2);
        _tile_zero(3);
    }
}

/* sums [32][2][16], int32 or float */
ALWAYS_INLINE void store_sums(void *sums, bool both)
{
    char *to = sums;
    _tile_stored(0, to, 128);
    _tile_stored(1, to + 64, 128);
    if (both) {
        _tile_stored(2, to + 16 * 128, 128);
        _tile_stored(3, to + 16 * 128 + 64, 128);
    }
}

/* sums [32][2][16] of one group: `steps` times 64 inputs. both: there are more than 16 rows. */
ALWAYS_INLINE void group_sums(int32_t *sum, const int8_t *x, ptrdiff_t ldx, const uint8_t *w0,
                              const uint8_t *w1, int64_t steps, bool both)
{
    zero_sums(both);
    for (int64_t s = 0; s < steps; s++) {
        _tile_loadd(6, w0 + s * STEP_BYTES, 64);
        _tile_loadd(7, w1 + s * STEP_BYTES, 64);
        _tile_loadd(4, x + s * STEP, ldx);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        if (both) {
            _tile_loadd(5, x + 16 * ldx + s * STEP, ldx);
            _tile_dpbsud(2, 5, 6);
            _tile_dpbsud(3, 5, 7);
        }
    }
    store_sums(sum, both);
}

struct block {
    const glm4v_gemm_args *g;
    int64_t t, p, rows, panels; /* rows <= 32, panels 1 or 2 */
    _Alignas(64) float total[BLOCK_ROWS * 32];
    _Alignas(64) int32_t sum[2][BLOCK_ROWS * 32]; /* of group n in n % 2 */
};

/* total += x_scale (sum - z times sum of inputs) of group n. zero: of each output, or NULL: z for
 * all, which saves a slow multiplication for each vector. scale: of the group's weights, or
 * NULL. */
ALWAYS_INLINE void add_group(struct block *b, int64_t n, int64_t groups, const __m512i *zero,
                             int32_t z, const __m512 *scale)
{
    for (int64_t r = 0; r < b->rows; r++) {
        const size_t at = (b->t + r) * groups + n;
        const int32_t inputs = -b->g->x_sum[at];
        const __m512i start = _mm512_set1_epi32(zero ? inputs : z * inputs);
        const __m512 x_scale = _mm512_set1_ps(b->g->x_scale[at]);
        UNROLL for (int i = 0; i < 2; i++)
        {
            float *total = b->total + r * 32 + i * 16;
            __m512i sum = _mm512_load_si512(b->sum[n % 2] + r * 32 + i * 16);
            sum = _mm512_add_epi32(sum, zero ? _mm512_mullo_epi32(zero[i], start) : start);
            __m512 factor = scale ? _mm512_mul_ps(x_scale, scale[i]) : x_scale;
            _mm512_store_ps(
                total, _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(sum), _mm512_load_ps(total)));
        }
    }
}

static void add_int8_group(struct block *b, int64_t n)
{
    add_group(b, n, glm4v_group_count(b->g->K), NULL, 128, NULL);
}

static void add_int4_group(struct block *b, int64_t n)
{
    const glm4v_gemm_args *g = b->g;
    const int64_t groups = g->K / GLM4V_GROUP;
    __m512 scale[2];
    __m512i zero[2];

    for (int i = 0; i < 2; i++) {
        const size_t at = ((b->p + (i < b->panels ? i : 0)) * groups + n) * GLM4V_PANEL;
        scale[i] = _mm512_loadu_ps(g->w_scale + at);
        zero[i] = _mm512_setzero_si512();
        if (g->w_zero)
            zero[i] = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(g->w_zero + at)));
    }
    if (g->w_zero)
        add_group(b, n, groups, zero, 0, scale);
    else
        add_group(b, n, groups, NULL, 8, scale);
}

/* A step of fewer than 16 quads, at the end of an int8 panel, filled up: activations are zero
 * there. */
static const uint8_t *whole_step(uint8_t *buffer, const uint8_t *w, int64_t quads)
{
    memset(buffer, 0, STEP_BYTES);
    memcpy(buffer, w, quads * 64);
    return buffer;
}

static void int8_block(struct block *b)
{
    const glm4v_gemm_args *g = b->g;
    const int64_t groups = glm4v_group_count(g->K), quads = (g->K + 3) / 4;
    const size_t panel = glm4v_panel_bytes_int8(g->K);
    const uint8_t *w0 = (const uint8_t *)g->w + b->p * panel, *w1 = w0 + (b->panels - 1) * panel;
    const int8_t *x = (const int8_t *)g->x + b->t * g->ldx;
    _Alignas(64) uint8_t buffer[2][2 * STEP_BYTES];

    memset(b->total, 0, b->rows * 32 * sizeof *b->total);
    for (int64_t n = 0; n < groups; n++, x += GLM4V_GROUP) {
        int64_t left = quads - 32 * n, steps = left > 16 ? 2 : 1;
        const uint8_t *v0 = w0 + n * 2 * STEP_BYTES, *v1 = w1 + n * 2 * STEP_BYTES;
        if (left < 16 * steps) {
            if (steps == 2) {
                memcpy(buffer[0], v0, STEP_BYTES);
                memcpy(buffer[1], v1, STEP_BYTES);
            }
            const int64_t whole = (steps - 1) * STEP_BYTES;
            whole_step(buffer[0] + whole, v0 + whole, left - 16 * (steps - 1));
            whole_step(buffer[1] + whole, v1 + whole, left - 16 * (steps - 1));
            v0 = buffer[0];
            v1 = buffer[1];
        }
        group_sums(b->sum[n % 2], x, g->ldx, v0, v1, steps, b->rows > 16);
        if (n)
            add_int8_group(b, n - 1);
    }
    add_int8_group(b, groups - 1);
    for (int64_t i = 0; i < b->rows * 2; i++) {
        if (i % 2 >= b->panels)
            continue;
        __m512 scale = _mm512_loadu_ps(g->w_scale + (b->p + i % 2) * GLM4V_PANEL);
        store_panel(g, b->t + i / 2, b->p + i % 2,
                    _mm512_mul_ps(_mm512_load_ps(b->total + i * 16), scale));
    }
}

/* buffer [2 steps][16 quads][64] = a group of an int4 panel, one byte a weight. */
static void widen_group(uint8_t *buffer, const uint8_t *w)
{
    for (int i = 0; i < 16; i++) {
        const struct nibbles codes = split_nibbles(w + i * 64);
        _mm512_store_si512(buffer + 128 * i, codes.first);
        _mm512_store_si512(buffer + 128 * i + 64, codes.second);
    }
}

static void int4_block(struct block *b)
{
    const glm4v_gemm_args *g = b->g;
    const int64_t groups = g->K / GLM4V_GROUP;
    const size_t panel = glm4v_panel_bytes_int4(g->K);
    const int8_t *x = (const int8_t *)g->x + b->t * g->ldx;
    _Alignas(64) uint8_t buffer[2][2 * STEP_BYTES];

    memset(b->total, 0, b->rows * 32 * sizeof *b->total);
    for (int64_t n = 0; n < groups; n++, x += GLM4V_GROUP) {
        for (int i = 0; i < 2; i++) {
            const int64_t p = b->p + (i < b->panels ? i : 0);
            widen_group(buffer[i], (const uint8_t *)g->w + p * panel + n * 16 * 64);
        }
        group_sums(b->sum[n % 2], x, g->ldx, buffer[0], buffer[1], 2, b->rows > 16);
        if (n)
            add_int4_group(b, n - 1);
    }
    add_int4_group(b, groups - 1);
    for (int64_t i = 0; i < b->rows * 2; i++)
        if (i % 2 < b->panels)
            store_panel(g, b->t + i / 2, b->p + i % 2, _mm512_load_ps(b->total + i * 16));
}

/* bf16 activations of the last step, fewer than 32, filled up with zeros: what lies behind them is
 * not ours. */
static void copy_tail(uint16_t (*buffer)[STEP / 2], const uint16_t *x, ptrdiff_t ldx, int64_t rows,
                      int64_t n)
{
    memset(buffer, 0, rows * STEP);
    for (int64_t r = 0; r < rows; r++)
        memcpy(buffer[r], x + r * ldx, n * sizeof *x);
}

/* With few rows the weights come from memory, and tile loads do not make the hardware fetch
 * ahead. */
static inline void prefetch_step(const uint8_t *w)
{
    for (int i = 0; i < 16; i++)
        __builtin_prefetch(w + AHEAD + 64 * i);
}

ALWAYS_INLINE void bf16_step(const uint16_t *x, ptrdiff_t ldx, const void *w0, const void *w1,
                             bool both)
{
    _tile_loadd(6, w0, 64);
    _tile_loadd(7, w1, 64);
    _tile_loadd(4, x, ldx * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (both) {
        _tile_loadd(5, x + 16 * ldx, ldx * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

ALWAYS_INLINE void bf16_sums(struct block *b, const bool both)
{
    const glm4v_gemm_args *g = b->g;
    const int64_t pairs = (g->K + 1) / 2, whole = pairs / 16, left = pairs % 16;
    const size_t panel = glm4v_panel_bytes_bf16(g->K);
    const uint8_t *w0 = (const uint8_t *)g->w + b->p * panel, *w1 = w0 + (b->panels - 1) * panel;
    const uint16_t *x = (const uint16_t *)g->x + b->t * g->ldx;
    float *total = b->total;

    zero_sums(both);
    for (int64_t s = 0; s < whole; s++, x += STEP / 2, w0 += STEP_BYTES, w1 += STEP_BYTES) {
        if (!both) {
            prefetch_step(w0);
            prefetch_step(w1);
        }
        bf16_step(x, g->ldx, w0, w1, both);
    }
    if (left) {
        _Alignas(64) uint16_t inputs[BLOCK_ROWS][STEP / 2];
        _Alignas(64) uint8_t weights[2][STEP_BYTES];
        copy_tail(inputs, x, g->ldx, b->rows, 2 * left);
        whole_step(weights[0], w0, left);
        whole_step(weights[1], w1, left);
        bf16_step(inputs[0], STEP / 2, weights[0], weights[1], both);
    }
    store_sums(total, both);
}

static void bf16_block(struct block *b)
{
    if (b->rows > 16)
        bf16_sums(b, true);
    else
        bf16_sums(b, false);
    for (int64_t i = 0; i < b->rows * 2; i++)
        if (i % 2 < b->panels)
            store_panel(b->g, b->t + i / 2, b->p + i % 2, _mm512_load_ps(b->total + i * 16));
}

/* fp8: weights of FP8_SPAN inputs are widened to bf16 once for up to FP8_BLOCKS blocks of rows,
 * whose sums wait in memory meanwhile; they are the same as if they had stayed in the tiles. */
enum { FP8_SPAN = 256, FP8_BLOCKS = 8 };

struct fp8_blocks {
    const glm4v_gemm_args *g;
    int64_t t, p, rows, blocks, panels; /* rows of each block; panels 1 or 2 */
    _Alignas(64) float total[FP8_BLOCKS][BLOCK_ROWS * 32];
    _Alignas(64) uint8_t weights[2][FP8_SPAN * 32]; /* [pairs][16][2] bf16 */
};

/* out = a panel's inputs as bf16, filled up to whole steps with zeros. */
static void widen_fp8(uint8_t *out, const uint8_t *w, int64_t quads, int64_t steps)
{
    for (int64_t i = 0; i < 8 * steps; i++, w += 64, out += 128) {
        __m512i pair[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() };
        if (i < quads) {
            decode_fp8(pair, _mm512_loadu_si512(w));
            __builtin_prefetch(w + AHEAD);
        }
        _mm512_store_si512(out, pair[0]);
        _mm512_store_si512(out + 64, pair[1]);
    }
}

ALWAYS_INLINE void load_sums(const void *sums, bool both)
{
    const char *from = sums;
    _tile_loadd(0, from, 128);
    _tile_loadd(1, from + 64, 128);
    if (both) {
        _tile_loadd(2, from + 16 * 128, 128);
        _tile_loadd(3, from + 16 * 128 + 64, 128);
    }
}

/* sum += that of `count` inputs from x, of one block. */
ALWAYS_INLINE void fp8_sums(struct fp8_blocks *b, float *sum, const uint16_t *x, int64_t count,
                            const bool both)
{
    const int64_t pairs = (count + 1) / 2, whole = pairs / 16;
    const uint8_t *w0 = b->weights[0], *w1 = b->weights[b->panels - 1];
    load_sums(sum, both);
    for (int64_t s = 0; s < whole; s++, x += STEP / 2, w0 += STEP_BYTES, w1 += STEP_BYTES)
        bf16_step(x, b->g->ldx, w0, w1, both);
    if (pairs % 16) {
        _Alignas(64) uint16_t inputs[BLOCK_ROWS][STEP / 2];
        copy_tail(inputs, x, b->g->ldx, b->rows, 2 * (pairs % 16));
        bf16_step(inputs[0], STEP / 2, w0, w1, both);
    }
    store_sums(sum, both);
}

/* total += w_scale * sum, of group n. */
static void scale_fp8(const struct fp8_blocks *b, float *total, const float *sum, int64_t n,
                      int64_t groups)
{
    for (int64_t i = 0; i < b->rows * 2; i++) {
        const size_t at = ((b->p + (i % 2 < b->panels ? i % 2 : 0)) * groups + n);
        const __m512 scale = _mm512_loadu_ps(b->g->w_scale + at * GLM4V_PANEL);
        _mm512_store_ps(total + i * 16, _mm512_fmadd_ps(scale, _mm512_load_ps(sum + i * 16),
                                                        _mm512_load_ps(total + i * 16)));
    }
}

static void fp8_span(struct fp8_blocks *b, int64_t k, int64_t count)
{
    const glm4v_gemm_args *g = b->g;
    const size_t panel = glm4v_panel_bytes_fp8(g->K);
    for (int i = 0; i < b->panels; i++)
        widen_fp8(b->weights[i], (const uint8_t *)g->w + (b->p + i) * panel + k * GLM4V_PANEL,
                  (count + 3) / 4, (count + 31) / 32);
    for (int64_t i = 0; i < b->blocks; i++) {
        _Alignas(64) float group[BLOCK_ROWS * 32];
        const uint16_t *x = (const uint16_t *)g->x + (b->t + i * b->rows) * g->ldx + k;
        float *sum = g->w_blocks ? group : b->total[i];
        if (g->w_blocks)
            memset(group, 0, sizeof group);
        if (b->rows > 16)
            fp8_sums(b, sum, x, count, true);
        else
            fp8_sums(b, sum, x, count, false);
        if (g->w_blocks)
            scale_fp8(b, b->total[i], group, k / GLM4V_GROUP, glm4v_group_count(g->K));
    }
}

static void fp8_panels(struct fp8_blocks *b)
{
    const glm4v_gemm_args *g = b->g;
    const int64_t span = g->w_blocks ? GLM4V_GROUP : FP8_SPAN;
    memset(b->total, 0, b->blocks * sizeof *b->total);
    for (int64_t k = 0; k < g->K; k += span)
        fp8_span(b, k, g->K - k < span ? g->K - k : span);
    for (int64_t i = 0; i < b->blocks * b->rows * 2; i++) {
        const int64_t row = i / 2, p = b->p + i % 2;
        if (i % 2 >= b->panels)
            continue;
        __m512 y = _mm512_load_ps(b->total[row / b->rows] + (row % b->rows * 2 + i % 2) * 16);
        if (!g->w_blocks)
            y = _mm512_mul_ps(y, _mm512_loadu_ps(g->w_scale + p * GLM4V_PANEL));
        if (g->x_scale)
            y = _mm512_mul_ps(y, _mm512_set1_ps(g->x_scale[b->t + row]));
        store_panel(g, b->t + row, p, y);
    }
}

/* Rows [first, end): panels outside, blocks of rows inside, as in gemm_walk.h. */
static void walk_rows(const glm4v_gemm_args *g, int64_t first, int64_t end,
                      void (*run)(struct block *b))
{
    int64_t configured = 0;
    struct block b = { .g = g };
    for (b.p = g->panel; b.p < g->panel + g->n_panels; b.p += 2) {
        b.panels = g->panel + g->n_panels - b.p > 1 ? 2 : 1;
        for (b.t = first; b.t < end; b.t += BLOCK_ROWS) {
            b.rows = end - b.t < BLOCK_ROWS ? end - b.t : BLOCK_ROWS;
            if (b.rows != configured)
                configure(b.rows < 16 ? b.rows : 16, b.rows < 16 ? 0 : b.rows - 16);
            configured = b.rows;
            run(&b);
        }
    }
    _tile_release();
}

static void walk(const glm4v_gemm_args *g, size_t element, void (*run)(struct block *b))
{
    int64_t rows = GLM4V_BLOCK_BYTES / (element * g->K) / BLOCK_ROWS * BLOCK_ROWS;
    rows = rows < 2 * BLOCK_ROWS ? 2 * BLOCK_ROWS : rows;
    for (int64_t t = 0; t < g->T; t += rows)
        walk_rows(g, t, g->T - t < rows ? g->T : t + rows, run);
}

void glm4v_gemm_bf16_amx(const glm4v_gemm_args *g)
{
    walk(g, 2, bf16_block);
}

void glm4v_gemm_int8_amx(const glm4v_gemm_args *g)
{
    if (g->T < MIN_ROWS)
        glm4v_gemm_int8_vnni(g);
    else
        walk(g, 1, int8_block);
}

void glm4v_gemm_int4_amx(const glm4v_gemm_args *g)
{
    if (g->T < MIN_ROWS)
        glm4v_gemm_int4_vnni(g);
    else
        walk(g, 1, int4_block);
}

void glm4v_gemm_fp8_amx(const glm4v_gemm_args *g)
{
    struct fp8_blocks b; /* 48 KiB: not cleared */
    b.g = g;
    for (b.t = 0; b.t < g->T; b.t += b.rows * b.blocks) {
        const int64_t left = g->T - b.t, whole = left / BLOCK_ROWS;
        b.rows = whole ? BLOCK_ROWS : left;
        b.blocks = whole < FP8_BLOCKS ? whole : FP8_BLOCKS;
        if (!whole)
            b.blocks = 1;
        configure(b.rows < 16 ? b.rows : 16, b.rows < 16 ? 0 : b.rows - 16);
        for (b.p = g->panel; b.p < g->panel + g->n_panels; b.p += 2) {
            b.panels = g->panel + g->n_panels - b.p > 1 ? 2 : 1;
            fp8_panels(&b);
        }
    }
    _tile_release();
}
