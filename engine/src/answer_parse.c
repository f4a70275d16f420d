/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What another program's model answered to a task becomes a result as the engine has them. Nobody
 * held that model to the task's choices or schema, so they are checked here. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/struct_size.h"
#include "chat/answer.h"
#include "engine.h"
#include "shape/match.h"

#define SHOWN 60 /* bytes of a wrong answer in a message */

/* Its first characters: a message does not end within one. */
static int shown(const char *text)
{
    size_t n = strlen(text) < SHOWN ? strlen(text) : SHOWN;
    while (n && n == SHOWN && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    return (int)n;
}

static int take_choice(glm4v_result *r, const glm4v_task *task, glm4v_error *err)
{
    for (uint32_t i = 0; i < task->n_choices; i++) {
        if (strcmp(r->text, task->choices[i]))
            continue;
        r->choice = task->choices[i];
        r->choice_index = i;
        return 0;
    }
    return glm4v_fail(err, GLM4V_ERR_FORMAT, "the answer is none of the choices: \"%.*s\"",
                      shown(r->text), r->text);
}

static int take_json(glm4v_result *r, glm4v_text_out *json, const glm4v_task *task,
                     glm4v_error *err)
{
    glm4v_error why = { 0 };
    const int rc = glm4v_schema_match(json, task->json_schema, r->text, &why);
    if (rc == GLM4V_ERR_FORMAT)
        return glm4v_fail(err, rc, "the answer does not match the schema, %s: \"%.*s\"", why.msg,
                          shown(r->text), r->text);
    if (rc)
        return glm4v_fail(err, rc, "%s", why.msg);
    r->text = r->json = json->data;
    return 0;
}

static int read_answer(glm4v_result **result, glm4v_detokenizer *d, const glm4v_task *task,
                       glm4v_error *err)
{
    glm4v_result r = { .message = "", .choice = "", .json = "" };
    glm4v_answer *answer = NULL;
    glm4v_text_out json = { 0 };
    int rc = glm4v_answer_open(&answer, d, err);
    if (rc)
        return rc;
    glm4v_answer_read(answer, &r, d, task);
    r.text = d->answer.data;
    r.reasoning = d->reasoning.data;
    r.box = d->box.data;
    if (task->n_choices)
        rc = take_choice(&r, task, err);
    else if (task->json_schema)
        rc = take_json(&r, &json, task, err);
    glm4v_result *copy = rc ? NULL : glm4v_result_copy(&r);
    if (!rc && !copy)
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a result");
    if (!rc)
        *result = copy;
    glm4v_free(json.data);
    glm4v_free(answer);
    return rc;
}

int glm4v_answer_parse(glm4v_result **result, const char *text, const glm4v_task *given,
                       glm4v_error *err)
{
    glm4v_task task;
    glm4v_detokenizer d = { 0 };
    int rc = glm4v_struct_read(&task, given, sizeof task, "task", err);
    if (!rc)
        rc = glm4v_detokenizer_read(&d, text, err);
    if (!rc)
        rc = read_answer(result, &d, &task, err);
    glm4v_detokenizer_clear(&d);
    return rc;
}
