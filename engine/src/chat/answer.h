/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The structured parts of an answer's text: boxes and an action, in pixels of the picture that the
 * question is about. Last stage of a request, after detokenize.c. */
#ifndef GLM4V_ENGINE_ANSWER_H
#define GLM4V_ENGINE_ANSWER_H

#include "chat/action.h"
#include "chat/box.h"
#include "chat/detokenize.h"

typedef struct {
    glm4v_found_box found[GLM4V_MAX_BOXES]; /* holds the labels */
    glm4v_box boxes[GLM4V_MAX_BOXES];
    char strings[]; /* of the action */
} glm4v_answer;

/* Memory for what the largest answer of d holds, so that the end of a request takes none; d is
 * open. glm4v_free(). NOMEM. */
int glm4v_answer_open(glm4v_answer **answer, const glm4v_detokenizer *d, glm4v_error *err);

/* Finish d, parse its text and set result's boxes and action, which point into answer. task: the
 * question. */
void glm4v_answer_read(glm4v_answer *answer, glm4v_result *result, glm4v_detokenizer *d,
                       const glm4v_task *task);

#endif
