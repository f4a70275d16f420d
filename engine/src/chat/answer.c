/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answer to boxes and action: which picture they are about, and memory for them. */
#include "chat/answer.h"

#include "base/error.h"
#include "base/mem.h"

/* NULL if the question is about no picture. */
static const glm4v_image *asked_about(const glm4v_task *task)
{
    if (task->n_images || task->n_frames)
        return task->n_images ? task->images : task->frames;
    for (uint32_t i = task->n_history; i-- > 0;)
        if (task->history[i].n_images)
            return &task->history[i].images[task->history[i].n_images - 1];
    return NULL;
}

static uint32_t take_boxes(glm4v_answer *a, const glm4v_detokenizer *d, const glm4v_image *image)
{
    uint32_t kept = 0;
    uint32_t n = glm4v_find_boxes(a->found, d->answer.data, d->answer.len, d->spans, d->n_boxes);
    for (uint32_t i = 0; i < n; i++) {
        glm4v_box *box = &a->boxes[kept];
        box->label = a->found[i].label;
        kept += glm4v_box_in_pixels(box, a->found[i].corner, image->width, image->height);
    }
    return kept;
}

int glm4v_answer_open(glm4v_answer **answer, const glm4v_detokenizer *d, glm4v_error *err)
{
    *answer = glm4v_alloc(1, sizeof **answer + d->answer.capacity);
    return *answer ? 0
                   : glm4v_fail(err, GLM4V_ERR_NOMEM,
                                "no memory for the parts of an answer of %zu "
                                "bytes",
                                d->answer.capacity);
}

void glm4v_answer_read(glm4v_answer *answer, glm4v_result *result, glm4v_detokenizer *d,
                       const glm4v_task *task)
{
    const glm4v_image *image = asked_about(task);
    glm4v_detokenizer_finish(d);
    glm4v_action_parse(&result->action, answer->strings, d->answer.data, d->answer.len,
                       image ? image->width : 0, image ? image->height : 0);
    result->boxes = answer->boxes;
    result->n_boxes = image ? take_boxes(answer, d, image) : 0;
}
