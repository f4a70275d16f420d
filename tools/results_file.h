/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `glm4v thresholds` writes: results as JSON, which a later run compares itself with, and a
 * preset of the element. Both appear complete or not at all. */
#ifndef GLM4V_TOOLS_RESULTS_FILE_H
#define GLM4V_TOOLS_RESULTS_FILE_H

#include <jansson.h>

#include "judged.h"

typedef struct {
    const char *prompt;
    double rate, confidence;
    const glm4v_model_info *model;
    json_t *drift; /* the comparison; or NULL */
} cli_results;

/* 0, or IO with the reason in err; NOMEM. */
int cli_results_write(const char *path, const cli_judged *judged, const cli_results *results,
                      glm4v_error *err);

/* Read and check such a file; json_decref(). NULL with the reason in err. */
json_t *cli_results_read(const char *path, glm4v_error *err);

/* The probabilities that pictures in the folder of a choice give to it, in an earlier file, for
 * free(). *n may be 0. NULL: memory is out. */
double *cli_results_own(const json_t *earlier, const char *choice, size_t *n);

/* Add to a file of presets, or make it: prompt, output, choices, fail-choices, thresholds. Other
 * presets in it stay. */
int cli_preset_write(const char *path, const char *name, const char *prompt,
                     const cli_judged *judged, glm4v_error *err);

#endif
