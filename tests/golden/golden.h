/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Run every case of a golden.safetensors through the engine and compare, stage by stage. Shared by
 * golden-check (for a person) and test-golden (for the suite). Layout of the file: docs/model.md.
 *
 * Stages of a case, in the order of the pipeline, so that the first bad one names the guilty file:
 *   positions  position.c   M-RoPE triples, equal or not
 *   vision     vision.c     rows after the merger
 *   logits     prefill.c    of the last prompt token
 *   mean       text.c       mean |logit| of every prompt position
 *   greedy     decode.c     generated ids
 *   drafts     mtp.c        logits of the MTP layer behind the prompt; of all rows ("draft rows")
 * A stage stands alone against the float vectors. "vision/c", "prefill/c", "decode/c", "drafts/c":
 * the worst single operation beside the C kernels with the same weights and inputs (shadow.h), at
 * levels above C. "STAGE@FORM": against vectors in the file that were computed with that form's
 * rounding. */
#ifndef GLM4V_TESTS_GOLDEN_H
#define GLM4V_TESTS_GOLDEN_H

#include <stdbool.h>

#include "glm4v/glm4v.h"

typedef struct {
    const char *model, *file; /* directory; golden.safetensors */
    const char *device;       /* NULL = "auto" */
    const char *quantization; /* NULL = as stored; "fp32" means all four parts */
    double tolerance;         /* normalised error against the float vectors; 0 = by form */
    bool no_operations;       /* do not compare each operation with the C kernels */
} golden_options;

typedef struct {
    const char *case_name, *stage;
    double max_abs, nmse, limit; /* nmse < 0: the stage has none */
    bool equal;                  /* ids or positions (true where the stage has none) */
    int first_diff;              /* index, -1 = none */
    double margin;               /* best minus second logit there, of the expected side */
    bool pass;
} golden_result;

typedef void (*golden_report)(void *user, const golden_result *result);

/* 0 when every case ran; the verdicts are in the results. *isa (may be NULL): kernel level, static
 * storage. */
int golden_run(const golden_options *options, golden_report report, void *user, const char **isa,
               glm4v_error *err);

#endif
