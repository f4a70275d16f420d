/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Choosing tokens on the device, in the order of engine/src/forward/sample.c and with its results:
 * -1 where a logit is not finite; else penalty, mask, and the largest logit (the lowest id of
 * equals) or a draw by temperature, top-k, top-p with the request's own PCG state. */
#ifndef GLM4V_CUDA_SAMPLE_H
#define GLM4V_CUDA_SAMPLE_H

#include "launch.h"
#include "step.h"

typedef struct {
    float *logits; /* [n, vocab]; changed by penalty and mask */
    int32_t vocab, n;
    /* [slots][vocab / 64 + 1]: where an output row has a penalty, the ids of its slot's rows up to
     * it are added first; not read otherwise, and may be NULL if no row ever has one */
    uint64_t *seen;
    const uint64_t *masks; /* [masks][vocab / 64 + 1]; NULL if no row ever has one */
    int32_t *sampled;      /* [slots]; of several output rows of a slot, what the last one chose */
    int32_t *ids;          /* [n], device memory: the caller copies them to the host */
} glm4v_cuda_sample;
GLM4V_CUDA_API size_t glm4v_cuda_sample_scratch(int32_t vocab, int32_t n);
GLM4V_CUDA_API cudaError_t glm4v_cuda_sample_tokens(cudaStream_t stream,
                                                    const glm4v_cuda_step_data *step,
                                                    const glm4v_cuda_sample *s, void *scratch);

#endif
