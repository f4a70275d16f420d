/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A model under construction, and what is needed only until it is loaded. */
#ifndef GLM4V_ENGINE_EXAMINE_H
#define GLM4V_ENGINE_EXAMINE_H

#include "model/model.h"

typedef struct {
    glm4v_model *model;
    glm4v_checkpoint *checkpoint; /* NULL with random weights */
    glm4v_model_options options;
    glm4v_quantization quantization;
    /* the caller's is written on failure only; a missing optional file is none */
    glm4v_error error;
} glm4v_builder;

/* Read and check dir, and plan the weights. The caller goes on to glm4v_builder_finish() in either
 * case. INVALID, NOT_FOUND, IO, FORMAT, UNSUPPORTED, DEVICE, NOMEM: b->error has the text. */
int glm4v_builder_start(glm4v_builder *b, const char *dir, const glm4v_model_options *options);

/* Close what is left in b, and copy out its error if rc is not 0. Returns rc. */
int glm4v_builder_finish(glm4v_builder *b, int rc, glm4v_error *err);

/* Read, check and plan dir as glm4v_model_open() does, without a byte of weights: *model is of use
 * for its config and plan alone, and to be closed. *checkpoint is what the plan's sources point
 * into, NULL with random weights; the caller closes it. Errors as there. */
int glm4v_model_examine(glm4v_model **model, glm4v_checkpoint **checkpoint, const char *dir,
                        const glm4v_model_options *options, glm4v_error *err);

#endif
