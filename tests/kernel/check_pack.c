/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/gemm.h: panels made by the vector forms are the same bytes as those of the C forms. */
#include <stdio.h>

#include "tolerance.h"

enum form { F32, BF16, FP8, INT8, INT4, INT4_32 };
enum { W, PANEL_REF, PANEL_OPS, SCALE_REF, SCALE_OPS, BACK };

static size_t panel_bytes(enum form form, int K)
{
    return form == F32    ? glm4v_panel_bytes_f32(K)
           : form == BF16 ? glm4v_panel_bytes_bf16(K)
           : form == FP8  ? glm4v_panel_bytes_fp8(K)
           : form == INT8 ? glm4v_panel_bytes_int8(K)
                          : glm4v_panel_bytes_int4(K);
}

static void pack(const glm4v_gemm_ops *ops, enum form form, void *panel, float *scale,
                 const float *w, ptrdiff_t ldw, int n, int K)
{
    if (form == F32)
        ops->pack_f32(panel, w, ldw, n, K);
    else if (form == BF16)
        ops->pack_bf16(panel, w, ldw, n, K);
    else if (form == FP8)
        ops->pack_fp8(panel, scale, w, ldw, n, K);
    else if (form == INT8)
        ops->pack_int8(panel, scale, w, ldw, n, K);
    else if (form == INT4)
        ops->pack_int4(panel, scale, w, ldw, n, K);
    else
        ops->pack_int4_32(panel, scale, w, ldw, n, K);
}

static void one_panel(struct check *t, enum form form, int n, int K, enum fill kind)
{
    size_t bytes = panel_bytes(form, K);
    size_t scales = form == INT4 ? (size_t)K / 8 : form == INT4_32 ? (size_t)K / 2 : 16;
    ptrdiff_t ldw = K + 3;
    float *w = check_buf(t, W, ((size_t)(n - 1) * ldw + K) * sizeof *w);
    float *scale[2] = { check_buf(t, SCALE_REF, scales * 4), check_buf(t, SCALE_OPS, scales * 4) };
    void *panel[2] = { check_buf(t, PANEL_REF, bytes), check_buf(t, PANEL_OPS, bytes) };

    check_fill(t, w, (size_t)(n - 1) * ldw + K, kind);
    check_input(t, W);
    pack(&t->ref.gemm, form, panel[0], scale[0], w, ldw, n, K);
    pack(&t->ops.gemm, form, panel[1], scale[1], w, ldw, n, K);
    check_bytes(t, panel[1], panel[0], bytes, "panel, %s, %d x %d", fill_name(kind), n, K);
    if (form >= FP8)
        check_close(t, scale[1], scale[0], scales, (struct tolerance) { 0 }, "scale, %s, %d x %d",
                    fill_name(kind), n, K);
    check_guards(t, "%s, %d x %d", fill_name(kind), n, K);
}

static void check_form(struct check *t, enum form form)
{
    static const int sizes[] = { 1,  2,  3,  7,  8,   9,   15,  16,  17, 31,
                                 33, 63, 64, 65, 127, 128, 129, 300, 640 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int unit = form == INT4 ? 128 : form == INT4_32 ? 32 : 1;
        int K = (sizes[i] + unit - 1) / unit * unit;
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            one_panel(t, form, 16, K, kind);
            one_panel(t, form, 1 + (int)(check_random(t) % 15), K, kind);
        }
    }
    float *w = check_buf(t, W, 16 * 4096 * sizeof *w), *scale = check_buf(t, SCALE_OPS, 2048 * 4);
    void *panel = check_buf(t, PANEL_OPS, panel_bytes(form, 4096));
    check_fill(t, w, 16 * 4096, FILL_NORMAL);
    /* Counted as bytes of bf16 source, the unit of the target of 0.5 GB/s a core. */
    BENCH(t, "16 x 4096", 16 * 4096 * 2, 0, 0,
          pack(&t->ops.gemm, form, panel, scale, w, 4096, 16, 4096));
    check_end(t);
}

/* WORDS: int4, eight a word. */
enum codes { CODES_INT8, CODES_INT4, CODES_FP8, WORDS };

static size_t code_bytes(enum codes kind, int K)
{
    return kind == CODES_INT8  ? glm4v_panel_bytes_int8(K)
           : kind == CODES_FP8 ? glm4v_panel_bytes_fp8(K)
                               : glm4v_panel_bytes_int4(K);
}

static void pack_codes(const glm4v_gemm_ops *ops, enum codes kind, uint8_t *panel, const void *q,
                       ptrdiff_t ld, int n, int K)
{
    if (kind == CODES_INT8)
        ops->pack_codes_int8(panel, q, ld, n, K);
    else if (kind == CODES_INT4)
        ops->pack_codes_int4(panel, q, ld, n, K);
    else if (kind == CODES_FP8)
        ops->pack_codes_fp8(panel, q, ld, n, K);
    else
        ops->pack_words_int4(panel, q, ld, n, K);
}

static void unpack_codes(enum codes kind, uint8_t *q, ptrdiff_t ld, const uint8_t *panel, int n,
                         int K)
{
    if (kind == CODES_INT8)
        glm4v_unpack_codes_int8(q, ld, panel, n, K);
    else if (kind == CODES_FP8)
        glm4v_unpack_codes_fp8(q, ld, panel, n, K);
    else
        glm4v_unpack_codes_int4(q, ld, panel, n, K);
}

/* Code k of row i of the source. */
static int code_at(enum codes kind, const void *q, ptrdiff_t ld, int i, int k)
{
    if (kind == WORDS)
        return ((const uint32_t *)q)[i * ld + k / 8] >> k % 8 * 4 & 15;
    return ((const uint8_t *)q)[i * ld + k] & (kind == CODES_INT4 ? 15 : 255);
}

/* Random bytes: int4 codes have upper bits that must not count. Packed by both, and unpacked
 * again. */
static void one_panel_of_codes(struct check *t, enum codes kind, int n, int K)
{
    const size_t bytes = code_bytes(kind, K), unit = kind == WORDS ? 4 : 1;
    const ptrdiff_t width = kind == WORDS ? K / 8 : K, ld = width + 3;
    const size_t size = ((size_t)(n - 1) * (size_t)ld + (size_t)width) * unit;
    uint8_t *q = check_buf(t, W, size), *back = check_buf(t, BACK, (size_t)n * (size_t)K);
    uint8_t *panel[2] = { check_buf(t, PANEL_REF, bytes), check_buf(t, PANEL_OPS, bytes) };

    for (size_t i = 0; i < size; i++)
        q[i] = (uint8_t)check_random(t);
    check_input(t, W);
    pack_codes(&t->ref.gemm, kind, panel[0], q, ld, n, K);
    pack_codes(&t->ops.gemm, kind, panel[1], q, ld, n, K);
    check_bytes(t, panel[1], panel[0], bytes, "panel, %d x %d", n, K);
    unpack_codes(kind, back, K, panel[1], n, K);
    for (int i = 0; i < n * K; i++)
        if (back[i] != code_at(kind, q, ld, i / K, i % K)) {
            check_fail(t, "code %d of row %d of %d x %d is not what was packed", i % K, i / K, n,
                       K);
            break;
        }
    check_guards(t, "%d x %d", n, K);
}

static void check_codes(struct check *t, enum codes kind)
{
    static const int sizes[] = { 1, 3, 4, 31, 32, 33, 64, 65, 127, 128, 300, 640 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const bool whole = kind == CODES_INT4 || kind == WORDS;
        const int K = whole ? (sizes[i] + 31) / 32 * 32 : sizes[i];
        one_panel_of_codes(t, kind, 16, K);
        one_panel_of_codes(t, kind, 1 + (int)(check_random(t) % 15), K);
    }
    const size_t size = 16 * 4096 / (kind == WORDS ? 2 : 1);
    void *q = check_buf(t, W, size), *panel = check_buf(t, PANEL_OPS, code_bytes(kind, 4096));
    BENCH(t, "16 x 4096", (double)size, 0, 0,
          pack_codes(&t->ops.gemm, kind, panel, q, kind == WORDS ? 512 : 4096, 16, 4096));
    check_end(t);
}

void check_pack(struct check *t)
{
    if (check_pair(t, gemm, pack_codes_int8, "pack_codes_int8"))
        check_codes(t, CODES_INT8);
    if (check_pair(t, gemm, pack_codes_int4, "pack_codes_int4"))
        check_codes(t, CODES_INT4);
    if (check_pair(t, gemm, pack_codes_fp8, "pack_codes_fp8"))
        check_codes(t, CODES_FP8);
    if (check_pair(t, gemm, pack_words_int4, "pack_words_int4"))
        check_codes(t, WORDS);
    if (check_pair(t, gemm, pack_f32, "pack_f32"))
        check_form(t, F32);
    if (check_pair(t, gemm, pack_bf16, "pack_bf16"))
        check_form(t, BF16);
    if (check_pair(t, gemm, pack_fp8, "pack_fp8"))
        check_form(t, FP8);
    if (check_pair(t, gemm, pack_int8, "pack_int8"))
        check_form(t, INT8);
    if (check_pair(t, gemm, pack_int4, "pack_int4"))
        check_form(t, INT4);
    if (check_pair(t, gemm, pack_int4_32, "pack_int4_32"))
        check_form(t, INT4_32);
}
