/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a server tells beside the text: how probable each choice is, and where boxes are. A glm4v
 * server tells shares. Others tell, for each token of the answer, how probable it was and what
 * might have stood in its place; shares come out of that only where each choice can be found. */
#include <math.h>
#include <string.h>

#include "openai/reply.h"

/* ---- shares of a glm4v server ---- */

static bool told_share(const json_t *list, const char *choice, double *share)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(one, "choice"));
        const json_t *value = json_object_get(one, "probability");
        if (!name || strcmp(name, choice))
            continue;
        *share = json_number_value(value);
        return json_is_number(value) && *share >= 0 && *share <= 1;
    }
    return false;
}

static bool told_shares(const openai_reply *reply, const char *const *choices, uint32_t n,
                        double *shares)
{
    const json_t *list = json_object_get(reply->extension, "probabilities");
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!told_share(list, choices[i], &shares[i]))
            return false;
        sum += shares[i];
    }
    return fabs(sum - 1) < 1e-3;
}

/* ---- shares from logarithms ---- */

static const char *token_of(const json_t *token, double *logarithm)
{
    const json_t *value = json_object_get(token, "logprob");
    *logarithm = json_number_value(value);
    return json_is_number(value) && *logarithm <= 1e-3
               ? json_string_value(json_object_get(token, "token"))
               : NULL;
}

/* Could the whole of rest have stood in the place of this token? */
static bool instead_of(const json_t *token, const char *rest, double *logarithm)
{
    const json_t *others = json_object_get(token, "top_logprobs");
    for (size_t i = 0; i < json_array_size(others); i++) {
        const char *text = token_of(json_array_get(others, i), logarithm);
        if (text && !strcmp(text, rest))
            return true;
    }
    return false;
}

/* The logarithm of a choice: along the tokens of the answer as far as it begins alike, then the
 * token that is the rest of it. */
static bool find(const json_t *tokens, const char *choice, double *sum)
{
    *sum = 0;
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *token = json_array_get(tokens, i);
        double logarithm;
        const char *text = token_of(token, &logarithm);
        const size_t n = text ? strlen(text) : 0;
        if (!n || strncmp(choice, text, n)) {
            const bool there = instead_of(token, choice, &logarithm);
            *sum += there ? logarithm : 0;
            return there;
        }
        choice += n;
        *sum += logarithm;
        if (!*choice)
            return true;
    }
    return false;
}

/* Where one choice begins with another it counts whether the answer ends there, which is not
 * told. */
static bool some_begin_alike(const char *const *choices, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++)
            if (i != k && !strncmp(choices[i], choices[k], strlen(choices[i])))
                return true;
    return false;
}

static bool found_shares(const openai_reply *reply, const char *const *choices, uint32_t n,
                         double *shares)
{
    double largest = -HUGE_VAL, sum = 0;
    if (!reply->tokens || some_begin_alike(choices, n))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!find(reply->tokens, choices[i], &shares[i]))
            return false;
        largest = fmax(largest, shares[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        shares[i] = exp(shares[i] - largest);
        sum += shares[i];
    }
    for (uint32_t i = 0; i < n; i++)
        shares[i] /= sum;
    return true;
}

bool openai_reply_shares(const openai_reply *reply, const char *const *choices, uint32_t n,
                         double *shares)
{
    return n && (told_shares(reply, choices, n, shares) || found_shares(reply, choices, n, shares));
}

/* ---- boxes of a glm4v server ---- */

static bool side_of(const json_t *box, const char *key, int64_t least, int32_t *side)
{
    const json_t *value = json_object_get(box, key);
    const int64_t n = json_integer_value(value);
    *side = (int32_t)n;
    return json_is_integer(value) && n >= least && n <= GLM4V_MAX_SIDE;
}

uint32_t openai_reply_boxes(const openai_reply *reply, glm4v_box boxes[GLM4V_MAX_BOXES])
{
    const json_t *list = json_object_get(reply->extension, "boxes");
    uint32_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < GLM4V_MAX_BOXES; i++) {
        const json_t *box = json_array_get(list, i);
        const char *label = json_string_value(json_object_get(box, "label"));
        boxes[n].label = label && strlen(label) < 64 ? label : "";
        n += side_of(box, "x", 0, &boxes[n].x) && side_of(box, "y", 0, &boxes[n].y) &&
             side_of(box, "width", 1, &boxes[n].width) &&
             side_of(box, "height", 1, &boxes[n].height);
    }
    return n;
}

const char *openai_reply_box(const openai_reply *reply)
{
    const char *box = json_string_value(json_object_get(reply->extension, "box"));
    return box ? box : "";
}
