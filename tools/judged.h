/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures whose right answer is known, since they lie in folders named as the choices, and what
 * the model thinks of each; and the thresholds that follow from them. */
#ifndef GLM4V_TOOLS_JUDGED_H
#define GLM4V_TOOLS_JUDGED_H

#include "shape.h"

typedef struct {
    char *path;
    uint32_t folder;       /* choice that it shows */
    double *probabilities; /* [choices] */
} cli_judged_picture;

typedef struct {
    cli_shape shape; /* choices, and the thresholds as they are now */
    cli_judged_picture *pictures;
    size_t n, capacity;
} cli_judged;

/* Pictures of one folder, by what became of them. */
typedef struct {
    size_t n, pass, fail, unknown;
    size_t chosen[GLM4V_MAX_CHOICES];
} cli_tally;

/* Add a picture; path and probabilities are copied. False: memory is out. */
bool cli_judged_add(cli_judged *judged, const char *path, uint32_t folder,
                    const double *probabilities);
void cli_judged_free(cli_judged *judged);

/* The most probable choice, the first of equals. */
uint32_t cli_judged_choice(const cli_judged *judged, const cli_judged_picture *picture);
glm4v_verdict cli_judged_verdict(const cli_judged *judged, const cli_judged_picture *picture);
cli_tally cli_judged_count(const cli_judged *judged, uint32_t folder);

/* Set the thresholds so that of the pictures of each fail choice at most as many pass as rate
 * allows with this confidence: none where the pictures are too few for it. That of the choices that
 * are no defects lies between the pictures that must not pass and those that may, so the bound of
 * each folder is exact: it does not depend on the thresholds of the fail choices. These lie between
 * the good pictures and the defects; no good picture reaches one. False: memory is out. */
bool cli_judged_propose(cli_judged *judged, double rate, double confidence);

#endif
