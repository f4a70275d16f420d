/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See judged.h. */
#include "judged.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "statistics.h"

#define STEPS 1e4 /* of thresholds in 1, so that they can be read and typed */

/* ---- pictures ---- */

static bool grow(cli_judged *j)
{
    const size_t capacity = j->capacity ? 2 * j->capacity : 64;
    cli_judged_picture *pictures = cli_alloc(capacity, sizeof *pictures);
    if (!pictures)
        return false;
    if (j->n)
        memcpy(pictures, j->pictures, j->n * sizeof *pictures);
    free(j->pictures);
    j->pictures = pictures;
    j->capacity = capacity;
    return true;
}

bool cli_judged_add(cli_judged *j, const char *path, uint32_t folder, const double *probabilities)
{
    const size_t bytes = j->shape.n * sizeof *probabilities;
    if (j->n == j->capacity && !grow(j))
        return false;
    cli_judged_picture *p = &j->pictures[j->n];
    *p = (cli_judged_picture) { strdup(path), folder, cli_alloc(1, bytes) };
    if (!p->path || !p->probabilities) {
        free(p->path);
        free(p->probabilities);
        return false;
    }
    memcpy(p->probabilities, probabilities, bytes);
    j->n++;
    return true;
}

void cli_judged_free(cli_judged *j)
{
    for (size_t i = 0; i < j->n; i++) {
        free(j->pictures[i].path);
        free(j->pictures[i].probabilities);
    }
    free(j->pictures);
    cli_shape_close(&j->shape);
    *j = (cli_judged) { 0 };
}

uint32_t cli_judged_choice(const cli_judged *j, const cli_judged_picture *p)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < j->shape.n; i++)
        best = p->probabilities[i] > p->probabilities[best] ? i : best;
    return best;
}

glm4v_verdict cli_judged_verdict(const cli_judged *j, const cli_judged_picture *p)
{
    return glm4v_decide(p->probabilities, j->shape.fails, j->shape.thresholds, j->shape.n);
}

cli_tally cli_judged_count(const cli_judged *j, uint32_t folder)
{
    cli_tally t = { 0 };
    for (size_t i = 0; i < j->n; i++) {
        const cli_judged_picture *p = &j->pictures[i];
        if (p->folder != folder)
            continue;
        const glm4v_verdict verdict = cli_judged_verdict(j, p);
        t.n++;
        t.pass += verdict == GLM4V_VERDICT_PASS;
        t.fail += verdict == GLM4V_VERDICT_FAIL;
        t.unknown += verdict == GLM4V_VERDICT_UNKNOWN;
        t.chosen[cli_judged_choice(j, p)]++;
    }
    return t;
}

/* ---- thresholds ---- */

/* Of a picture: its probability if it may pass at all, which needs a good choice; else 0. */
static double passing(const cli_judged *j, const cli_judged_picture *p)
{
    const uint32_t chosen = cli_judged_choice(j, p);
    return j->shape.fails[chosen] ? 0 : p->probabilities[chosen];
}

/* Halfway, in whole steps, above `above` and at most 1. */
static double between(double above, double below)
{
    const double middle = ceil((above + below) / 2 * STEPS) / STEPS;
    return fmin(fmax(middle, 1 / STEPS), 1);
}

static int descending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

/* What pictures of a fail choice must not reach, but for as many as are allowed to pass. scores:
 * room for all pictures. */
static double highest_refused(const cli_judged *j, uint32_t folder, double rate, double confidence,
                              double *scores)
{
    size_t n = 0;
    for (size_t i = 0; i < j->n; i++)
        if (j->pictures[i].folder == folder)
            scores[n++] = passing(j, &j->pictures[i]);
    const long allowed = cli_events_allowed(n, rate, confidence);
    if (!n)
        return 0;
    qsort(scores, n, sizeof *scores, descending);
    return scores[allowed > 0 ? allowed : 0];
}

static void propose_pass(cli_judged *j, double rate, double confidence, double *scores)
{
    double refused = 0, accepted = 1;
    for (uint32_t i = 0; i < j->shape.n; i++)
        if (j->shape.fails[i])
            refused = fmax(refused, highest_refused(j, i, rate, confidence, scores));
    for (size_t i = 0; i < j->n; i++) {
        const double score = passing(j, &j->pictures[i]);
        if (!j->shape.fails[j->pictures[i].folder] && score > refused)
            accepted = fmin(accepted, score);
    }
    for (uint32_t i = 0; i < j->shape.n; i++)
        if (!j->shape.fails[i])
            j->shape.thresholds[i] = between(refused, accepted);
}

static void propose_fail(cli_judged *j, uint32_t choice)
{
    double good = 0, defect = 1;
    for (size_t i = 0; i < j->n; i++)
        if (!j->shape.fails[j->pictures[i].folder])
            good = fmax(good, j->pictures[i].probabilities[choice]);
    for (size_t i = 0; i < j->n; i++) {
        const double score = j->pictures[i].probabilities[choice];
        if (j->pictures[i].folder == choice && score > good)
            defect = fmin(defect, score);
    }
    j->shape.thresholds[choice] = between(good, defect);
}

bool cli_judged_propose(cli_judged *j, double rate, double confidence)
{
    double *scores = cli_alloc(j->n, sizeof *scores);
    if (!scores)
        return false;
    propose_pass(j, rate, confidence, scores);
    for (uint32_t i = 0; i < j->shape.n; i++)
        if (j->shape.fails[i])
            propose_fail(j, i);
    free(scores);
    return true;
}
