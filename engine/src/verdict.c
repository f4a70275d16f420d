/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From probabilities of choices to pass, fail or unknown: the one rule of element, command line and
 * applications. */
#include "glm4v/glm4v.h"

#define DEFAULT_THRESHOLD 0.5

static double threshold_of(const double *thresholds, uint32_t i)
{
    return thresholds ? thresholds[i] : DEFAULT_THRESHOLD;
}

glm4v_verdict glm4v_decide(const double *probabilities, const unsigned char *fails,
                           const double *thresholds, uint32_t n)
{
    uint32_t chosen = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (fails[i] && probabilities[i] >= threshold_of(thresholds, i))
            return GLM4V_VERDICT_FAIL;
        chosen = probabilities[i] > probabilities[chosen] ? i : chosen;
    }
    if (n && !fails[chosen] && probabilities[chosen] >= threshold_of(thresholds, chosen))
        return GLM4V_VERDICT_PASS;
    return GLM4V_VERDICT_UNKNOWN;
}

const char *glm4v_verdict_name(glm4v_verdict verdict)
{
    switch (verdict) {
    case GLM4V_VERDICT_PASS:
        return "pass";
    case GLM4V_VERDICT_FAIL:
        return "fail";
    case GLM4V_VERDICT_UNKNOWN:
        break;
    }
    return "unknown";
}
