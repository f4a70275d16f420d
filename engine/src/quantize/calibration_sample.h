/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A picture and a question with the model's own greedy answer, as one sequence that can be run
 * through any model of the same kind: what calibrating (calibrate.c) and measuring
 * (tests/bench/quantization_bench.c) feed. One thread at a time. */
#ifndef GLM4V_ENGINE_CALIBRATION_SAMPLE_H
#define GLM4V_ENGINE_CALIBRATION_SAMPLE_H

#include "forward/context.h"

typedef struct {
    const glm4v_image *image; /* borrowed */
    glm4v_patch_grid grid;
    glm4v_prompt prompt; /* ids of the question, then of the answer without its stop token */
    int32_t *position;   /* [3][prompt.n_ids] */
    int64_t n_question;  /* rows [n_question - 1, n_ids) of the logits predict the answer */
} glm4v_calibration_sample;

/* The question alone. r must be zeroed; clear it also after a failure. INVALID, NOMEM. */
int glm4v_calibration_sample_make(glm4v_calibration_sample *r, const glm4v_model *model,
                                  const glm4v_image *image, const char *question, glm4v_error *err);
void glm4v_calibration_sample_clear(glm4v_calibration_sample *r);

/* Its picture through the tower of context's model; rows are appended. */
int glm4v_calibration_sample_see(const glm4v_calibration_sample *r, glm4v_context *context,
                                 glm4v_embeddings *rows, const atomic_bool *cancel,
                                 glm4v_error *err);

/* Append the greedy answer of context's model, at most max_tokens and what the context holds. Slot
 * 0 holds the first `start` tokens already. INTERNAL: a logit is no number. */
int glm4v_calibration_sample_answer(glm4v_calibration_sample *r, glm4v_context *context,
                                    int64_t start, const glm4v_embeddings *rows, int64_t max_tokens,
                                    glm4v_error *err);

/* For glm4v_prefill(): tokens [start, n_ids) in slot 0, which holds those before; rows of its
 * picture. Good as long as both. */
glm4v_prefill_pass glm4v_calibration_sample_pass(const glm4v_calibration_sample *r, int64_t start,
                                                 const glm4v_embeddings *rows);

/* Tokens at the beginning of the question that both have. */
int64_t glm4v_calibration_sample_common(const glm4v_calibration_sample *a,
                                        const glm4v_calibration_sample *b);

#endif
