/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One case of a file of reference vectors, and what comes out of it. Of golden.c alone. */
#ifndef GLM4V_TESTS_GOLDEN_CASE_H
#define GLM4V_TESTS_GOLDEN_CASE_H

#include "checkpoint/safetensors.h"
#include "model/model.h"
#include "shadow.h"

#define MAX_STEPS 64
#define GOLDEN_DRAFTS 3

/* Numbers of one tensor, or one result of the engine. */
typedef struct {
    float *data;
    size_t n, rows; /* rows: first dimension */
} golden_array;

/* What comes out of one case. */
typedef struct {
    golden_array positions, vision, logits, mean;
    golden_array all; /* [L, V] logits of every position; not in the file */
    int32_t ids[MAX_STEPS];
    double margin[MAX_STEPS];
    size_t steps;
    golden_array drafts; /* [GOLDEN_DRAFTS, V] logits of the MTP layer behind the prompt, chained */
    golden_array all_drafts; /* [L, V] its logits of every row, of cases without pictures */
    int32_t draft_ids[GOLDEN_DRAFTS];
    size_t n_drafts;
    shadow_errors shadow[4]; /* of vision, prefill, decode and the MTP layer */
} golden_outcome;

/* One case of the file. */
typedef struct {
    char name[64];
    glm4v_prompt prompt;
    golden_array pixels, grid; /* data NULL: text only */
    golden_outcome expected;
} golden_case;

int golden_no_memory(glm4v_error *err);
int golden_array_make(golden_array *a, size_t n, glm4v_error *err);
void golden_outcome_clear(golden_outcome *o);
void golden_case_clear(golden_case *c);

/* CASE.KEY into *a; without it *a stays empty unless required. */
int golden_read_array(golden_array *a, const glm4v_checkpoint *file, const char *name,
                      const char *key, bool required, glm4v_error *err);
/* c->name is set. */
int golden_read_case(golden_case *c, const glm4v_checkpoint *file, const glm4v_config *config,
                     glm4v_error *err);

#endif
