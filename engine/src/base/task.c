/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See task.h. */
#include "base/task.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/utf8.h"

static int check_count(const char *what, uint64_t n, uint64_t max, const void *array,
                       glm4v_error *err)
{
    if (n > max)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%" PRIu64 " %s, at most %" PRIu64 " are accepted", n, what, max);
    if (n && !array)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "%" PRIu64 " %s announced, but the pointer is NULL", n, what);
    return 0;
}

static int check_history(const glm4v_task *task, glm4v_error *err)
{
    int rc = check_count("earlier turns", task->n_history, GLM4V_MAX_TURNS, task->history, err);
    for (int64_t i = 0; !rc && i < task->n_history; i++) {
        const glm4v_turn *turn = &task->history[i];
        if (!turn->user || !turn->assistant)
            return glm4v_fail(err, GLM4V_ERR_INVALID, "earlier turn %" PRId64 " has no %s", i,
                              turn->user ? "answer" : "question");
        rc = glm4v_utf8_check("question of an earlier turn", turn->user, err);
        if (!rc)
            rc = glm4v_utf8_check("answer of an earlier turn", turn->assistant, err);
        if (!rc)
            rc = check_count("pictures in an earlier turn", turn->n_images, GLM4V_MAX_IMAGES,
                             turn->images, err);
    }
    return rc;
}

int glm4v_task_check(const glm4v_task *task, glm4v_error *err)
{
    int rc = task->prompt ? 0 : glm4v_fail(err, GLM4V_ERR_INVALID, "the task has no prompt");
    if (!rc)
        rc = glm4v_utf8_check("prompt", task->prompt, err);
    if (!rc)
        rc = glm4v_utf8_check("system prompt", task->system, err);
    if (!rc)
        rc = check_count("pictures", task->n_images, GLM4V_MAX_IMAGES, task->images, err);
    if (!rc)
        rc = check_count("clip frames", task->n_frames, GLM4V_MAX_FRAMES, task->frames, err);
    if (!rc && task->n_images && task->n_frames)
        rc = glm4v_fail(err, GLM4V_ERR_INVALID,
                        "the task has both images and clip frames; set only one of them");
    if (!rc)
        rc = check_history(task, err);
    if (!rc && task->n_choices && task->json_schema)
        rc = glm4v_fail(err, GLM4V_ERR_INVALID,
                        "choices and a json_schema in one task; give one of them");
    if (!rc)
        rc = check_count("choices", task->n_choices, GLM4V_MAX_CHOICES, task->choices, err);
    return rc;
}
