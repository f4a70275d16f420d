/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* u8 pictures [H, W, 3] to f32 patches [P, C]: smart_resize or the model's one size, PIL-equal
 * bicubic, mean and std, patches in merge-block-major order. P = grid_t * grid_h * grid_w, C = 3 *
 * temporal * patch * patch. */
#ifndef GLM4V_ENGINE_PREPROCESS_H
#define GLM4V_ENGINE_PREPROCESS_H

#include "base/pool.h"
#include "config/config.h"
#include "picture/resize.h"

/* Bounds of a size: both sides are multiples of factor, and all frames (>= 2) together have
 * [min_pixels, max_pixels]. */
typedef struct {
    int64_t frames, factor;
    uint64_t min_pixels, max_pixels;
} glm4v_size_rule;

/* Size that the processor resizes each frame of this size to. INVALID: empty, a side above
 * GLM4V_MAX_SIDE, or a ratio above 200. All in IEEE double as the reference. */
int glm4v_smart_resize(glm4v_size *resized, glm4v_size size, const glm4v_size_rule *rule,
                       glm4v_error *err);

/* Patches of a picture, before merging. */
typedef struct {
    int64_t h, w;
} glm4v_patch_grid;

typedef struct glm4v_preprocessor glm4v_preprocessor; /* look-up tables of one processor config */

int glm4v_preprocessor_open(glm4v_preprocessor **p, const glm4v_processor_config *processor,
                            const glm4v_vision_config *vision, glm4v_error *err);
/* Bytes that one takes; that a run takes for a picture of this size, while it lasts (NOMEM). */
size_t glm4v_preprocessor_memory(void);
int glm4v_preprocess_scratch(const glm4v_preprocessor *p, const glm4v_image *image,
                             glm4v_patch_grid grid, int64_t threads, size_t *bytes,
                             glm4v_error *err);
void glm4v_preprocessor_close(glm4v_preprocessor **p);

/* Grid of a picture, or of a clip of n_frames equal-sized frames. max_pixels: further
 * bound of one frame in pixels, 0 = none; a model of one size keeps it. UNSUPPORTED: not RGB in
 * memory of the host. */
int glm4v_preprocess_grid(const glm4v_preprocessor *p, const glm4v_image *image, int64_t n_frames,
                          uint64_t max_pixels, glm4v_patch_grid *grid, glm4v_error *err);

/* Resize and cut the frames of one temporal patch (`temporal` pointers; a still repeats the same)
 * into patches [grid.h * grid.w, C]. Bytes of the result do not depend on the pool's threads. */
int glm4v_preprocess_run(const glm4v_preprocessor *p, float *patches,
                         const glm4v_image *const *frames, glm4v_patch_grid grid, glm4v_pool *pool,
                         glm4v_error *err);

/* A clip and which of its frames the model sees. */
typedef struct {
    const double *seconds; /* [n], timestamps of the frames, not decreasing */
    int64_t n;
    uint32_t *indices; /* [room], of the sampled frames in order */
    int64_t room;      /* at least n rounded up to even */
    int64_t n_indices; /* even */
} glm4v_clip;

/* Set clip->indices to the frames that the model family samples (clip.c). dynamic: the rule of
 * GLM-4.6V, else that of GLM-4.1V with config->video_fps; config->steady_clips: that of GLM-GA
 * whatever dynamic is. INVALID: no frame, times that go back;
 * clip is unchanged then. */
int glm4v_sample_clip(glm4v_clip *clip, const glm4v_config *config, bool dynamic, glm4v_error *err);

#endif
