/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Capturing the inputs of products while a model runs: those of chosen matrices in the original
 * model and, right after it on the same sequence, in the quantized model become second moments. The
 * forward passes do not know of it: the backend, which only the calibration uses, calls an observer
 * before every product. Private to calibrate*.c. */
#ifndef GLM4V_ENGINE_CALIBRATE_CAPTURE_H
#define GLM4V_ENGINE_CALIBRATE_CAPTURE_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "quantize/round.h"

enum { GLM4V_ORIGINAL, GLM4V_TRIAL, GLM4V_N_SIDES };

/* One matrix whose inputs are captured. */
typedef struct {
    const glm4v_weight *weight[GLM4V_N_SIDES];
    glm4v_round_moments moments;
    float *seen; /* [capacity, K]: inputs in the original, of the sequence that runs */
    int64_t n_seen, n_paired, capacity;
} glm4v_captured;

/* The matrices of one pass over the sequences. */
typedef struct {
    glm4v_captured *list; /* [n], in the order in which the model uses them */
    int64_t n;
    atomic_bool enough; /* the last one was used: the rest of the sequence may be left out */
    float *scratch;
    int64_t scratch_floats;
    glm4v_error error; /* code 0: none */
} glm4v_capture;

typedef struct {
    glm4v_observer observer;
    glm4v_backend *backend;
    glm4v_capture *to;
    int side;
} glm4v_capture_hook;

/* Begin and end capturing the inputs of the products of backend. The hook must not move. */
void glm4v_capture_hook_open(glm4v_capture_hook *hook, glm4v_backend *backend, glm4v_capture *to,
                             int side);
void glm4v_capture_hook_close(glm4v_capture_hook *hook);

/* Memory for the moments of one matrix of K inputs; NOMEM. Cleared by clear. */
uint64_t glm4v_captured_bytes(int64_t K);
int glm4v_captured_open(glm4v_captured *l, int64_t K, glm4v_error *err);
void glm4v_capture_clear(glm4v_capture *l);

/* The next sequence begins: in the original, then in the quantized model. */
void glm4v_capture_begin(glm4v_capture *l, int side);

#endif
