/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* u8 pictures [H, W, 3] to f32 patches [P, C]: smart_resize or the model's one size, PIL-equal
 * bicubic, mean and std, patches in merge-block-major order. P = grid_t * grid_h * grid_w, C = 3 *
 * temporal * patch * patch. */
#ifndef GLM4V_ENGINE_PREPROCESS_H
#define GLM4V_ENGINE_PREPROCESS_H

#include "base/pool.h"
#include "config/config.h"

/* Size that the processor resizes frames (>= 2) x height x width to. INVALID: empty, a side above
 * GLM4V_MAX_SIDE, or a ratio above 200.
 * min_pixels, max_pixels count all frames. All in IEEE double as the reference. */
int glm4v_smart_resize(int64_t frames, int64_t height, int64_t width, int64_t factor,
                       uint64_t min_pixels, uint64_t max_pixels, int64_t *resized_height,
                       int64_t *resized_width, glm4v_error *err);

typedef struct glm4v_preprocessor glm4v_preprocessor; /* look-up tables of one processor config */

int glm4v_preprocessor_open(glm4v_preprocessor **p, const glm4v_processor_config *processor,
                            const glm4v_vision_config *vision, glm4v_error *err);
/* Bytes that one takes; that a run takes for a picture of this size, while it lasts (NOMEM). */
size_t glm4v_preprocessor_memory(void);
int glm4v_preprocess_scratch(const glm4v_preprocessor *p, const glm4v_image *image, uint32_t grid_h,
                             uint32_t grid_w, uint32_t threads, size_t *bytes, glm4v_error *err);
void glm4v_preprocessor_close(glm4v_preprocessor **p);

/* Grid (patches) of a picture, or of a clip of n_frames equal-sized frames. max_pixels: further
 * bound of one frame in pixels, 0 = none; a model of one size keeps it. UNSUPPORTED: not RGB in
 * memory of the host. */
int glm4v_preprocess_grid(const glm4v_preprocessor *p, const glm4v_image *image, uint32_t n_frames,
                          uint64_t max_pixels, uint32_t *grid_h, uint32_t *grid_w,
                          glm4v_error *err);

/* Resize and cut the frames of one temporal patch (`temporal` pointers; a still repeats the same)
 * into patches [grid_h * grid_w, C]. Bytes of the result do not depend on the pool's threads. */
int glm4v_preprocess_run(const glm4v_preprocessor *p, float *patches,
                         const glm4v_image *const *frames, uint32_t grid_h, uint32_t grid_w,
                         glm4v_pool *pool, glm4v_error *err);

/* Indices of the frames of a clip that the model family samples, from the frames' timestamps in
 * seconds (clip.c). dynamic: the rule of GLM-4.6V, else that of GLM-4.1V with config->video_fps.
 * indices, in order and an even number: room for n rounded up to even. INVALID: times that go
 * back. */
int glm4v_sample_clip(const glm4v_config *config, bool dynamic, const double *seconds, uint32_t n,
                      uint32_t *indices, uint32_t max_indices, uint32_t *n_indices,
                      glm4v_error *err);

#endif
