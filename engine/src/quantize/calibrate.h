/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Codes of int4 matrices that are better than rounding each weight to the nearest: the model
 * describes pictures of the kind it will see, the second moments of every matrix's inputs are
 * collected, and each weight is rounded so that it corrects the errors of the weights before it
 * where inputs are correlated on the pictures. Source: GPTQ, arXiv:2210.17323.
 *
 * For the converter (quantize.c): what has codes here is written with them, all else as without
 * calibration. Only codes change: no factor moves into a neighbour, no order of inputs is added. */
#ifndef GLM4V_ENGINE_CALIBRATE_H
#define GLM4V_ENGINE_CALIBRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct glm4v_calibration glm4v_calibration;

typedef struct {
    const char *quantization;   /* of the model to be written; its int4 matrices are calibrated */
    const glm4v_image *images;  /* [n_images], read during the call only */
    int64_t n_images;           /* >= 1 */
    const char *const *prompts; /* [n_prompts]; none: the two default prompts */
    int64_t n_prompts;
    uint32_t n_threads; /* 0 = the cores this process may use */
    /* bytes for second moments at a time, 0 = 2 GiB: with less, more passes */
    uint64_t memory;
    glm4v_progress_fn progress; /* done and total in units of its own */
    void *progress_user;
    glm4v_log_fn log;
    void *log_user;
} glm4v_calibrate_options;

/* Open src on the CPU as it is stored, run the pictures through it, find the codes. The same codes
 * whatever n_threads. INVALID (no picture, an empty one; nothing of `quantization` is int4), NOMEM,
 * CANCELED by progress, FORMAT (activations that are no numbers: which matrix), and all that
 * glm4v_model_open() returns. */
int glm4v_calibrate(glm4v_calibration **calibration, const char *src,
                    const glm4v_calibrate_options *options, glm4v_error *err);
void glm4v_calibration_free(glm4v_calibration **calibration);

/* Whether the tensor `name` of src [n_out, n_in] has codes. calibration may be NULL: false. */
bool glm4v_calibration_has(const glm4v_calibration *calibration, const char *name);

/* Codes of rows, one a byte: w = scale * (code - 8). */
typedef struct {
    uint8_t *q;       /* [n][n_in] */
    float *scale;     /* [n][groups] */
    uint8_t *scratch; /* of 16 * n_in bytes */
} glm4v_code_rows;

/* Rows [row, row + n) of it. Only where it has codes. Any thread. */
void glm4v_calibration_codes(const glm4v_calibration *calibration, const char *name, int64_t row,
                             int64_t n, const glm4v_code_rows *codes);

#endif
