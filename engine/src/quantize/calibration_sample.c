/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See calibration_sample.h. */
#include "quantize/calibration_sample.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "forward/context_priv.h"
#include "forward/position.h"

#define MAX_PIXELS ((uint64_t)1 << 20) /* of a picture: more would be tokens of one picture only */

int glm4v_calibration_sample_make(glm4v_calibration_sample *r, const glm4v_model *model,
                                  const glm4v_image *image, const char *question, glm4v_error *err)
{
    const glm4v_task task = { .prompt = question, .images = image, .n_images = 1 };
    r->image = image;
    int rc = glm4v_preprocess_grid(model->preprocessor, image, 1, MAX_PIXELS, &r->grid, err);
    if (rc)
        return rc;
    const glm4v_grid grid = { .grid_h = r->grid.h, .grid_w = r->grid.w };
    const glm4v_prompt_maker with = { model->tokenizer, &model->chat, &model->config };
    rc = glm4v_prompt_build(&r->prompt, &with, &task, &grid, 1, err);
    r->n_question = r->prompt.n_ids;
    return rc;
}

void glm4v_calibration_sample_clear(glm4v_calibration_sample *r)
{
    glm4v_prompt_clear(&r->prompt);
    glm4v_free(r->position);
    *r = (glm4v_calibration_sample) { 0 };
}

int glm4v_calibration_sample_see(const glm4v_calibration_sample *r, glm4v_context *context,
                                 glm4v_embeddings *rows, const atomic_bool *cancel,
                                 glm4v_error *err)
{
    const glm4v_model *m = context->model;
    const glm4v_vision_config *v = &m->config.vision;
    const glm4v_image *frames[2] = { r->image, r->image };
    const int64_t width = glm4v_patch_values(v);
    float *patches = glm4v_alloc_aligned(width * r->grid.h * r->grid.w, sizeof *patches);
    if (!patches)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %" PRId64 " x %" PRId64 " patches",
                          r->grid.h, r->grid.w);
    int rc = glm4v_preprocess_run(m->preprocessor, patches, frames, r->grid, m->pool, err);
    if (!rc)
        rc = glm4v_vision_encode(
            context,
            &(glm4v_vision_pass) {
                .out = rows, .patches = patches, .grid_h = r->grid.h, .grid_w = r->grid.w },
            cancel, err);
    glm4v_free(patches);
    return rc;
}

/* Positions of all ids that are there, and of the next one. */
static int find_positions(glm4v_calibration_sample *r, const glm4v_config *config, size_t room,
                          int32_t *next, glm4v_error *err)
{
    int32_t *position = glm4v_realloc(r->position, 3 * room, sizeof *position);
    if (!position)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a sequence of %zu tokens", room);
    r->position = position;
    glm4v_positions(position, next, &r->prompt, config);
    return 0;
}

/* The largest logit's id; -1 when one is no number. */
static int32_t best_id(const float *logits, int64_t V)
{
    int32_t best = 0;
    for (int32_t i = 0; i < V; i++) {
        if (!isfinite(logits[i]))
            return -1;
        if (logits[i] > logits[best])
            best = i;
    }
    return best;
}

static bool is_stop(int32_t id, const glm4v_config *config)
{
    for (int64_t i = 0; i < config->n_stop_ids; i++)
        if (id == config->stop_ids[i])
            return true;
    return false;
}

/* Token after token; logits [V] are those of the question's last row. */
static int generate(glm4v_calibration_sample *r, glm4v_context *context, int32_t next, int64_t room,
                    float *logits, glm4v_error *err)
{
    const glm4v_config *config = &context->model->config;
    const int32_t slot = 0;
    int rc = 0;
    while (!rc) {
        const int32_t id = best_id(logits, config->text.vocab);
        if (id < 0)
            return glm4v_fail(
                err, GLM4V_ERR_INTERNAL,
                "token %zu: the logits are not finite; the weights of the model are damaged",
                r->prompt.n_ids - r->n_question);
        if (is_stop(id, config) || r->prompt.n_ids == room)
            break;
        const int32_t length = (int32_t)r->prompt.n_ids;
        r->prompt.ids[r->prompt.n_ids++] = id;
        if (r->prompt.n_ids < room)
            rc = glm4v_decode(context, &(glm4v_decode_rows) { &slot, &length, &id, &next, 1, NULL },
                              logits, err);
        next++;
    }
    return rc;
}

glm4v_prefill_pass glm4v_calibration_sample_pass(const glm4v_calibration_sample *r, int64_t start,
                                                 const glm4v_embeddings *rows)
{
    return (glm4v_prefill_pass) { .prompt = &r->prompt,
                                  .position = r->position,
                                  .start = start,
                                  .n = r->prompt.n_ids - start,
                                  .vision = rows };
}

int glm4v_calibration_sample_answer(glm4v_calibration_sample *r, glm4v_context *context,
                                    int64_t start, const glm4v_embeddings *rows, int64_t max_tokens,
                                    glm4v_error *err)
{
    const glm4v_config *config = &context->model->config;
    int64_t room = r->n_question + max_tokens;
    room = room < context->size.length ? room : context->size.length;
    if (room <= r->n_question)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "a question of %" PRId64 " tokens leaves no room for an answer",
                          r->n_question);
    int32_t next = 0, *ids = glm4v_realloc(r->prompt.ids, room, sizeof *ids);
    float *logits = glm4v_alloc(config->text.vocab, sizeof *logits);
    glm4v_prefill_pass question;
    if (ids)
        r->prompt.ids = ids;
    int rc = ids && logits
                 ? find_positions(r, config, room, &next, err)
                 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a sequence of %zu tokens", room);
    if (!rc)
        question = glm4v_calibration_sample_pass(r, start, rows);
    if (!rc)
        rc = glm4v_prefill(context, &question, logits, NULL, NULL, err);
    if (!rc)
        rc = generate(r, context, next, room, logits, err);
    if (!rc)
        rc = find_positions(r, config, room, &next, err);
    glm4v_free(logits);
    return rc;
}

int64_t glm4v_calibration_sample_common(const glm4v_calibration_sample *a,
                                        const glm4v_calibration_sample *b)
{
    int64_t n = 0;
    while (n + 1 < a->n_question && n + 1 < b->n_question && a->prompt.ids[n] == b->prompt.ids[n])
        n++;
    return n;
}
