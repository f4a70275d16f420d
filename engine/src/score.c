/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stage of a request with choices: every node of their tree (shape/choices.c) is one row of a
 * decode step, of one step where they fit and the device takes branches; its logits score what
 * stands below it, and the most probable choice becomes the answer. Called by token.c and
 * describe.c. */
#include "engine.h"

/* Score nodes [node, node + n). False where logits are not finite. */
static bool score(glm4v_engine *engine, glm4v_request *r, int64_t node, const float *logits,
                  int64_t n)
{
    const glm4v_config *config = &engine->model->config;
    const glm4v_stop_ids stop = { config->stop_ids, config->n_stop_ids, config->text.vocab };
    for (int64_t i = 0; i < n; i++)
        if (!glm4v_choices_score(r->choices, node + i, logits + i * stop.vocab, &stop))
            return false;
    return true;
}

/* The tokens of the answer. */
static void show(glm4v_request *r, int64_t choice)
{
    int32_t ids[GLM4V_MAX_CHOICE_BYTES];
    const glm4v_choice_node *nodes = r->choices->nodes;
    const int64_t leaf = r->choices->leaf[choice], n = nodes[leaf].depth;
    for (int64_t node = leaf; node; node = nodes[node].parent)
        ids[nodes[node].depth - 1] = nodes[node].id;
    for (int64_t i = 0; i < n; i++)
        glm4v_token_show(r, ids[i]);
    r->n_answer += n;
    r->result.output_tokens += (uint32_t)n;
}

static void choose(glm4v_request *r)
{
    const int64_t best = glm4v_choices_finish(r->choices);
    show(r, best);
    r->result.choice = r->task.choices[best];
    r->result.choice_index = (uint32_t)best;
    r->result.probability = r->choices->score[best];
    r->result.probabilities = r->choices->score;
    r->result.n_probabilities = (uint32_t)r->choices->n_choices;
    glm4v_describe_end(r, GLM4V_FINISH_STOP, 0);
}

void glm4v_score_begin(glm4v_engine *engine, glm4v_request *r, const float *logits)
{
    r->stage = GLM4V_STAGE_SCORE;
    if (!score(engine, r, 0, logits, 1))
        glm4v_describe_broken(r);
}

/* A branch begins behind the path that it leaves: what an earlier branch wrote there, in this step
 * or one before, is replaced. */
glm4v_row glm4v_score_row(const glm4v_request *r, int64_t i)
{
    const glm4v_choice_node *node = &r->choices->nodes[r->choices->next + i];
    const int64_t before = node->depth - 1;
    return (glm4v_row) { .length = r->length + before,
                         .id = node->id,
                         .position = r->next_position + before,
                         .draw = GLM4V_NO_DRAW };
}

void glm4v_score_stepped(glm4v_engine *engine, glm4v_request *r, const float *logits)
{
    glm4v_choices *c = r->choices;
    if (!score(engine, r, c->next, logits, r->n_rows)) {
        glm4v_describe_broken(r);
        return;
    }
    c->next += r->n_rows;
    if (c->next == c->n_nodes)
        choose(r);
}
