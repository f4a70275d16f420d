/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Results that a caller owns: the struct and all that it points to in one block. */
#include "base/arena.h"
#include "base/mem.h"
#include "glm4v/glm4v.h"

static const glm4v_box *take_boxes(glm4v_arena *a, const glm4v_box *boxes, int64_t n)
{
    glm4v_box *copy = glm4v_arena_take(a, boxes, n * sizeof *boxes);
    for (int64_t i = 0; i < n; i++) {
        const char *label = glm4v_arena_string(a, boxes[i].label);
        if (copy)
            copy[i].label = label;
    }
    return copy;
}

glm4v_result *glm4v_result_copy(const glm4v_result *result)
{
    glm4v_result *copy = NULL;
    glm4v_arena a = { 0 };
    for (int pass = 0; pass < 2; pass++) {
        glm4v_result own = *result, *at = glm4v_arena_take(&a, NULL, sizeof own);
        own.text = glm4v_arena_string(&a, result->text);
        own.reasoning = glm4v_arena_string(&a, result->reasoning);
        own.box = glm4v_arena_string(&a, result->box);
        own.message = glm4v_arena_string(&a, result->message);
        own.action.action = glm4v_arena_string(&a, result->action.action);
        own.action.text = glm4v_arena_string(&a, result->action.text);
        own.action.message = glm4v_arena_string(&a, result->action.message);
        own.boxes = take_boxes(&a, result->boxes, result->n_boxes);
        own.choice = glm4v_arena_string(&a, result->choice);
        own.json = glm4v_arena_string(&a, result->json);
        if (result->probabilities)
            own.probabilities = glm4v_arena_take(
                &a, result->probabilities, result->n_probabilities * sizeof *own.probabilities);
        if (pass == 0) {
            a = (glm4v_arena) { .base = glm4v_alloc(1, a.used) };
            if (!a.base)
                return NULL;
        } else {
            *at = own;
            copy = at;
        }
    }
    return copy;
}

void glm4v_result_free(glm4v_result **result)
{
    if (!result)
        return;
    glm4v_free(*result);
    *result = NULL;
}
