/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What changes from step to step, in device memory: written by copies on the step's stream before
 * its first kernel, read by kernels. */
#ifndef GLM4V_CUDA_STEP_H
#define GLM4V_CUDA_STEP_H

#include "launch.h"

/* As glm4v_draw of the engine; generator is the request's PCG state. */
typedef struct {
    float temperature;
    uint32_t top_k;
    float top_p, penalty;
    uint64_t generator;
    int32_t mask; /* -1: none */
    int32_t slot; /* of the output row */
} glm4v_cuda_draw;

typedef struct {
    int32_t *ids;      /* [rows]; INT32_MIN: what sampled[slot] holds */
    int32_t *slot;     /* [rows] */
    int32_t *position; /* [rows]: keys of the row's slot before it. Its own key goes to this place,
                        * and it sees keys [0, position] */
    int32_t *axis[3];  /* [rows] each: row of the rotary tables for t, h, w */
    int32_t *places;   /* [n_places] */
    int32_t *outputs;  /* [n_outputs] */
    glm4v_cuda_draw *draws; /* [n_outputs] */
    float *cos, *sin;       /* [rows, n_freq], written by glm4v_cuda_gather_rotary */
} glm4v_cuda_step_data;

#endif
