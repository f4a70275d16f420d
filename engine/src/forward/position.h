/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Positions: M-RoPE triples of a prompt, rotary tables, and the vision tower's interpolated
 * position table. */
#ifndef GLM4V_ENGINE_POSITION_H
#define GLM4V_ENGINE_POSITION_H

#include "chat/prompt.h"
#include "config/config.h"

/* position [3][n_ids] (t, h, w) of an expanded prompt; *next: position of the first generated token
 * (all axes). */
void glm4v_positions(int32_t *position, int32_t *next, const glm4v_prompt *prompt,
                     const glm4v_config *config);

/* cos, sin [n, rotary_dim / 2] of positions [first, first + n) of the text model: the rows that
 * M-RoPE takes its sections from. Frequencies and angles are rounded to fp32 as the reference does,
 * cosines are taken in double. */
void glm4v_text_rotary(float *cos_, float *sin_, int64_t first, int64_t n,
                       const glm4v_text_config *text);

/* cos, sin [P, head_dim / 2] of the vision rotary, rows in merge-block-major order. */
void glm4v_vision_rotary(float *cos_, float *sin_, int64_t grid_h, int64_t grid_w,
                         const glm4v_vision_config *vision);

/* out [P, hidden]: the position table [S * S, hidden] interpolated (bicubic, a = -0.75, border
 * clamped) to the grid, rows in merge-block-major order. */
void glm4v_vision_positions(float *out, const float *table, int64_t grid_h, int64_t grid_w,
                            const glm4v_vision_config *vision);

/* out [S * S + 1, hidden]: the table [1 + S * S, hidden] of patches at its own grid, as it is, in
 * merge-block-major order; behind them the class row and its position, the table's first. */
void glm4v_vision_table(float *out, const float *table, const float *class_row,
                        const glm4v_vision_config *vision);

#endif
