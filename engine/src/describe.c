/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request, from pictures and a question to text. Read this file first: the stages stand in
 * their order, each one names the file that does it. scheduler.c calls glm4v_describe_step() until
 * the request decodes, then hands it logits token by token.
 *
 *   prompt.c, tokenizer.c  text + image slots -> ids [T]; first: too long a prompt costs nothing
 *   preprocess.c           u8 [H, W, 3] -> f32 patches [P, C]
 *   vision.c               [P, C] -> image embeddings [M, D]
 *   prefill.c              ids + embeddings -> KV cache, first logits [V]
 *   decode.c, sample.c     logits [V] -> next id, until stop
 *   detokenize.c           ids -> UTF-8
 *   answer.c               text -> boxes, action */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "engine.h"
#include "forward/position.h"

static int build_prompt(glm4v_engine *engine, glm4v_request *r)
{
    const glm4v_model *m = engine->model;
    const glm4v_task *task = &r->task;
    uint32_t most = task->max_tokens + (task->thinking ? task->max_reasoning_tokens : 0);
    int rc = glm4v_prompt_build(&r->prompt, m->tokenizer, &m->chat, &m->config, task, r->grids,
                                r->n_pictures, &r->error);
    if (rc)
        return rc;
    if (r->prompt.n_ids >= engine->limits.context_length)
        return glm4v_fail(&r->error, GLM4V_ERR_INVALID,
                          "prompt and images are %zu tokens, the context holds %u: use a smaller "
                          "max_pixels, fewer pictures or a shorter prompt",
                          r->prompt.n_ids, engine->limits.context_length);
    r->position = glm4v_alloc(3 * r->prompt.n_ids, sizeof *r->position);
    if (!r->position)
        return glm4v_fail(&r->error, GLM4V_ERR_NOMEM, "no memory for a prompt of %zu tokens",
                          r->prompt.n_ids);
    glm4v_positions(r->position, &r->next_position, &r->prompt, &m->config);
    rc = glm4v_detokenizer_init(&r->detokenizer, m->tokenizer, &m->chat, task->thinking, most,
                                &r->error);
    if (!rc)
        rc = glm4v_answer_open(&r->answer, &r->detokenizer, &r->error);
    if (!rc)
        rc = glm4v_sampler_init(&r->sampler, task, m->config.text.vocab, &r->error);
    for (size_t i = 0; !rc && i < r->prompt.n_ids; i++)
        glm4v_sampler_see(&r->sampler, r->prompt.ids[i]);
    r->stage = r->n_pictures ? GLM4V_STAGE_VISION : GLM4V_STAGE_PREFILL;
    return rc;
}

static int encode_picture(glm4v_engine *engine, glm4v_request *r)
{
    const glm4v_vision_config *v = &engine->model->config.vision;
    const glm4v_grid *grid = &r->grids[r->n_encoded];
    const glm4v_picture *picture = &r->pictures[r->n_encoded];
    glm4v_pool *pool = engine->model->stages[0].backend->pool;
    size_t patch = 3 * (size_t)(v->temporal * v->patch * v->patch);
    uint64_t start = glm4v_now(), middle;
    int rc = glm4v_engine_patches(engine, patch * grid->grid_h * grid->grid_w, &r->error);
    if (!rc)
        rc = glm4v_preprocess_run(picture->preprocessor, engine->patches, picture->frames,
                                  grid->grid_h, grid->grid_w, pool, &r->error);
    middle = glm4v_now();
    if (!rc)
        rc = glm4v_vision_encode(engine->context, &r->embeddings, engine->patches, grid->grid_h,
                                 grid->grid_w, &r->cancel, &r->error);
    r->result.timings.preprocess += middle - start;
    r->result.timings.vision += glm4v_now() - middle;
    if (++r->n_encoded == r->n_pictures)
        r->stage = GLM4V_STAGE_PREFILL;
    return rc;
}

static int prefill_chunk(glm4v_engine *engine, glm4v_request *r)
{
    uint64_t start = glm4v_now();
    if (!r->length)
        r->length = r->result.cached_tokens =
            glm4v_prefix_load(&engine->prefix, engine->context, &r->prompt, r->slot);
    uint32_t left = (uint32_t)r->prompt.n_ids - r->length;
    uint32_t n = left < GLM4V_PREFILL_ROWS ? left : GLM4V_PREFILL_ROWS;
    int rc = glm4v_prefill(engine->context, r->slot, &r->prompt, r->position, r->length, n,
                           &r->embeddings, n == left ? engine->logits : NULL, NULL, &r->cancel,
                           &r->error);
    r->length += n;
    r->result.timings.prefill += glm4v_now() - start;
    if (rc || n < left)
        return rc;
    glm4v_prefix_save(&engine->prefix, engine->context, &r->prompt, r->slot);
    glm4v_embeddings_clear(engine->context, &r->embeddings);
    r->stage = GLM4V_STAGE_DECODE;
    r->decode_started = glm4v_now();
    r->result.timings.first_token = r->decode_started - r->submitted;
    glm4v_describe_token(engine, r, engine->logits);
    return 0;
}

void glm4v_describe_step(glm4v_engine *engine, glm4v_request *r)
{
    int rc = r->stage == GLM4V_STAGE_PROMPT   ? build_prompt(engine, r)
             : r->stage == GLM4V_STAGE_VISION ? encode_picture(engine, r)
                                              : prefill_chunk(engine, r);
    r->units++;
    bool canceled = rc == GLM4V_ERR_CANCELED;
    if (rc)
        glm4v_describe_end(r, canceled ? GLM4V_FINISH_CANCELED : GLM4V_FINISH_ERROR, rc);
}

void glm4v_describe_token(glm4v_engine *engine, glm4v_request *r, float *logits)
{
    const glm4v_config *config = &engine->model->config;
    const char *text;
    glm4v_text_part part;
    bool forced = r->forced_taken < r->n_forced;
    bool reasoning = r->detokenizer.part == GLM4V_TEXT_REASONING;
    size_t n_masked = engine->n_masked[r->task.thinking != 0];
    int32_t id =
        forced ? r->forced[r->forced_taken++]
               : glm4v_sampler_next(&r->sampler, logits, engine->masked, n_masked, engine->scratch);
    if (id < 0) {
        glm4v_fail(&r->error, GLM4V_ERR_INTERNAL,
                   "token %u: the model gave no finite number; its "
                   "weights are damaged, or this quantization is too coarse for them",
                   r->n_answer + r->n_reasoning);
        glm4v_describe_end(r, GLM4V_FINISH_ERROR, GLM4V_ERR_INTERNAL);
        return;
    }
    if (!forced && glm4v_is_one_of(id, config->stop_ids, config->n_stop_ids)) {
        glm4v_describe_end(r, GLM4V_FINISH_STOP, 0);
        return;
    }
    glm4v_sampler_see(&r->sampler, id);
    r->token = id;
    r->result.output_tokens += !forced;
    r->n_reasoning += reasoning && !forced;
    r->n_answer += !reasoning && !forced;
    bool room = glm4v_detokenizer_push(&r->detokenizer, id, &text, &part);
    if (*text && r->task.on_text)
        r->task.on_text(r->task.user, part, text);
    if (!room || r->n_answer >= r->task.max_tokens || r->length >= engine->limits.context_length)
        glm4v_describe_end(r, GLM4V_FINISH_LENGTH, 0);
    else if (r->detokenizer.part == GLM4V_TEXT_REASONING && !r->n_forced &&
             r->n_reasoning >= r->task.max_reasoning_tokens)
        r->n_forced = glm4v_chat_end_reasoning(&engine->model->chat, r->forced);
}

void glm4v_describe_end(glm4v_request *r, glm4v_finish finish, int code)
{
    if (!code)
        glm4v_answer_read(r->answer, &r->result, &r->detokenizer, &r->task);
    r->result.finish = finish;
    r->result.status = code;
    r->stage = GLM4V_STAGE_DONE;
}
