/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request, from pictures and a question to text. Read this file first: it has the stages in
 * their order, each with the name of its file. scheduler.c begins and submits one piece after the
 * other until the request decodes, then passes it the results token by token.
 *
 *   prompt.c, tokenizer.c  text + image slots -> ids [T]; first: a long prompt fails early
 *   preprocess.c           u8 [H, W, 3] -> f32 patches [P, C]
 *   vision.c               [P, C] -> image embeddings [M, D]
 *   prefill.c              ids + embeddings -> KV cache, first logits [V]
 *   token.c, sample.c      logits [V] -> next id, until stop; or score.c: choices by their logits
 *   detokenize.c           ids -> UTF-8
 *   answer.c               text -> boxes, action */
#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "engine.h"
#include "forward/position.h"

#include <inttypes.h>
#include <string.h>

/* The text between the opening of an answer and its choices, which are compared after it. In a
 * request that reasons it comes later, see token.c. */
static int add_lead(const glm4v_engine *engine, glm4v_request *r)
{
    const glm4v_model *m = engine->model;
    const char *lead = glm4v_chat_lead(&m->chat);
    glm4v_ids ids = { 0 }, prompt = { r->prompt.ids, r->prompt.n_ids, r->prompt.capacity };
    int rc = glm4v_tokenizer_encode(m->tokenizer, lead, strlen(lead), &ids, &r->error);
    r->n_lead = ids.n < GLM4V_MAX_LEAD ? (int64_t)ids.n : GLM4V_MAX_LEAD;
    if (r->n_lead)
        memcpy(r->lead, ids.ids, r->n_lead * sizeof *r->lead);
    glm4v_free(ids.ids);
    r->shaped = !r->task.thinking;
    if (rc || !r->shaped)
        return rc;
    rc = glm4v_tokenizer_encode(m->tokenizer, lead, strlen(lead), &prompt, &r->error);
    r->prompt.ids = prompt.ids;
    r->prompt.n_ids = prompt.n;
    r->prompt.capacity = prompt.capacity;
    return rc;
}

/* Prompt and answer must fit the context: of a free answer one token. */
static int check_length(const glm4v_engine *engine, glm4v_request *r)
{
    const int64_t answer = glm4v_token_reserve(r), context = engine->limits.context_length;
    if (r->prompt.n_ids + answer <= context)
        return 0;
    if (!glm4v_has_shape(r))
        return glm4v_fail(&r->error, GLM4V_ERR_INVALID,
                          "prompt and images are %zu tokens, the context holds %" PRId64
                          ": use a smaller max_pixels, fewer pictures or a shorter prompt",
                          r->prompt.n_ids, context);
    return glm4v_fail(
        &r->error, GLM4V_ERR_INVALID,
        "prompt and images are %zu tokens and the %s %" PRId64 ", the context holds %" PRId64
        ": use a smaller max_pixels, fewer pictures or a shorter prompt",
        r->prompt.n_ids, r->choices ? "longest choice" : "shortest answer of the json_schema",
        answer, context);
}

/* Choices are scored, not written: there are only drafts of the reasoning before them, and the MTP
 * layer, whose keys and values follow a written answer, has none. */
static void begin_drafts(glm4v_engine *engine, glm4v_request *r)
{
    const int64_t room = glm4v_text_room(&engine->limits);
    r->drafts = r->task.speculation != GLM4V_SPECULATION_OFF && (!r->choices || r->task.thinking);
    if (!r->drafts)
        return;
    glm4v_draft_begin(&r->drafter, &engine->past, r->question, &r->prompt,
                      engine->texts + r->slot * room, room);
    if (glm4v_context_mtp(engine->context) && !r->choices)
        glm4v_draft_begin_mtp(&r->drafter, &engine->past);
}

static int build_prompt(glm4v_engine *engine, glm4v_request *r)
{
    const glm4v_model *m = engine->model;
    const glm4v_task *task = &r->task;
    int64_t most = task->max_tokens + (task->thinking ? task->max_reasoning_tokens : 0);
    const glm4v_prompt_maker with = { m->tokenizer, &m->chat, &m->config };
    int rc = glm4v_prompt_build(&r->prompt, &with, task, r->grids, r->n_pictures, &r->error);
    if (!rc && glm4v_has_shape(r))
        rc = add_lead(engine, r);
    if (!rc)
        rc = check_length(engine, r);
    if (rc)
        return rc;
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
    for (int64_t i = 0; !rc && i < r->prompt.n_ids; i++)
        glm4v_sampler_see(&r->sampler, r->prompt.ids[i]);
    if (!rc)
        begin_drafts(engine, r);
    r->stage = r->n_pictures ? GLM4V_STAGE_VISION : GLM4V_STAGE_PREFILL;
    return rc;
}

/* Patches of the picture, made here or by the device. */
static int prepare_picture(glm4v_engine *engine, glm4v_request *r, glm4v_vision_pass *pass)
{
    const glm4v_model *m = engine->model;
    const glm4v_vision_config *v = &m->config.vision;
    const glm4v_picture *picture = &r->pictures[r->n_encoded];
    const glm4v_processor_config *p =
        picture->preprocessor == m->preprocessor ? &m->config.image : &m->config.video;
    const size_t patch = glm4v_patch_values(v);
    const glm4v_patch_grid grid = { pass->grid_h, pass->grid_w };
    glm4v_backend *b = m->stages[0].backend;
    if (b->ops->takes && b->ops->takes(b, picture->frames[0]) &&
        b->ops->takes(b, picture->frames[1])) {
        r->pixels = (glm4v_pixels) { .frames = { picture->frames[0], picture->frames[1] },
                                     .grid_h = pass->grid_h,
                                     .grid_w = pass->grid_w,
                                     .patch = v->patch,
                                     .temporal = v->temporal,
                                     .merge = v->merge };
        memcpy(r->pixels.mean, p->mean, sizeof p->mean);
        memcpy(r->pixels.std, p->std, sizeof p->std);
        pass->pixels = &r->pixels;
        return 0;
    }
    int rc = glm4v_engine_patches(engine, patch * pass->grid_h * pass->grid_w, &r->error);
    pass->patches = engine->patches;
    return rc ? rc
              : glm4v_preprocess_run(picture->preprocessor, engine->patches, picture->frames, grid,
                                     m->pool, &r->error);
}

static int begin_picture(glm4v_engine *engine, glm4v_request *r)
{
    const glm4v_grid *grid = &r->grids[r->n_encoded];
    glm4v_vision_pass pass = { .out = &r->embeddings,
                               .grid_h = grid->grid_h,
                               .grid_w = grid->grid_w };
    uint64_t start = glm4v_now();
    int rc = prepare_picture(engine, r, &pass);
    r->piece_started = glm4v_now();
    r->result.timings.preprocess += r->piece_started - start;
    return rc ? rc : glm4v_vision_begin(engine->context, &pass, &r->error);
}

static int begin_prefill(glm4v_engine *engine, glm4v_request *r)
{
    const bool samples = glm4v_context_samples(engine->context);
    int rc = 0;
    r->piece_started = glm4v_now();
    if (!r->length) {
        r->length = glm4v_prefix_load(&engine->prefix, engine->context, r);
        r->result.cached_tokens = (uint32_t)r->length;
    }
    const int64_t left = r->prompt.n_ids - r->length;
    const int64_t most = engine->limits.context.max_rows, n = left < most ? left : most;
    const bool last = n == left;
    const int64_t start = r->length;
    r->length += n;
    if (last && (rc = glm4v_token_prepare(engine, r, &r->error)))
        return rc;
    const bool read = !samples || glm4v_score_wanted(r);
    const glm4v_prefill_pass pass = { .slot = r->slot,
                                      .prompt = &r->prompt,
                                      .position = r->position,
                                      .start = start,
                                      .n = n,
                                      .vision = &r->embeddings,
                                      .logits = last && read,
                                      .draw = last && !read ? r->draws : NULL,
                                      .mtp = r->drafter.mtp ? GLM4V_MTP_KEYS : GLM4V_MTP_NONE };
    if (last && samples && r->sampler.seen)
        rc = glm4v_context_set_seen(engine->context, r->slot, r->sampler.seen, &r->error);
    return rc ? rc : glm4v_prefill_begin(engine->context, &pass, &r->error);
}

/* Pictures that the request before this one was about need not be encoded again. */
static int begin_vision(glm4v_engine *engine, glm4v_request *r)
{
    if (r->n_encoded || !glm4v_prefix_has_pictures(&engine->prefix, r))
        return begin_picture(engine, r);
    r->n_encoded = r->n_pictures;
    r->stage = GLM4V_STAGE_PREFILL;
    return begin_prefill(engine, r);
}

static void finish_prefill(glm4v_engine *engine, glm4v_request *r)
{
    glm4v_context *c = engine->context;
    r->result.timings.prefill += glm4v_now() - r->piece_started;
    if (r->length < r->prompt.n_ids)
        return;
    r->mtp_length = r->length - 1;
    r->mtp_state = GLM4V_STATE_OF_PROMPT;
    glm4v_prefix_save(&engine->prefix, c, r);
    glm4v_embeddings_clear(c, &r->embeddings);
    r->stage = GLM4V_STAGE_DECODE;
    r->decode_started = glm4v_now();
    r->result.timings.first_token = r->decode_started - r->submitted;
    if (glm4v_score_wanted(r))
        glm4v_score_begin(engine, r, glm4v_pass_logits(c, GLM4V_LANE_PREFILL));
    else if (glm4v_context_samples(c))
        glm4v_token_next(engine, r, NULL, glm4v_pass_ids(c, GLM4V_LANE_PREFILL)[0]);
    else
        glm4v_token_next(engine, r, glm4v_pass_logits(c, GLM4V_LANE_PREFILL), 0);
}

void glm4v_describe_begin(glm4v_engine *engine, glm4v_request *r)
{
    int rc = 0;
    r->units++;
    switch (r->stage) {
    case GLM4V_STAGE_PROMPT:
        rc = build_prompt(engine, r);
        break;
    case GLM4V_STAGE_VISION:
        rc = begin_vision(engine, r);
        r->busy = !rc;
        break;
    case GLM4V_STAGE_PREFILL:
        rc = begin_prefill(engine, r);
        r->busy = !rc;
        break;
    case GLM4V_STAGE_DECODE:
    case GLM4V_STAGE_SCORE:
    case GLM4V_STAGE_DONE:
        break;
    }
    if (rc)
        glm4v_describe_failed(r, rc);
}

void glm4v_describe_finish(glm4v_engine *engine, glm4v_request *r)
{
    r->busy = false;
    if (r->stage == GLM4V_STAGE_PREFILL) {
        finish_prefill(engine, r);
        return;
    }
    r->result.timings.vision += glm4v_now() - r->piece_started;
    if (++r->n_encoded == r->n_pictures)
        r->stage = GLM4V_STAGE_PREFILL;
}

void glm4v_describe_failed(glm4v_request *r, int rc)
{
    const bool canceled = rc == GLM4V_ERR_CANCELED;
    if (r->busy && r->stage == GLM4V_STAGE_VISION)
        r->result.timings.vision += glm4v_now() - r->piece_started;
    r->busy = false;
    glm4v_describe_end(r, canceled ? GLM4V_FINISH_CANCELED : GLM4V_FINISH_ERROR, rc);
}

void glm4v_describe_end(glm4v_request *r, glm4v_finish finish, int code)
{
    if (!code)
        glm4v_answer_read(r->answer, &r->result, &r->detokenizer, &r->task);
    r->result.finish = finish;
    r->result.status = code;
    r->stage = GLM4V_STAGE_DONE;
}

void glm4v_describe_broken(glm4v_request *r)
{
    glm4v_fail(&r->error, GLM4V_ERR_INTERNAL,
               "token %" PRId64
               ": the logits are not finite; the weights of the model are damaged, or "
               "this quantization is too coarse for them",
               r->n_answer + r->n_reasoning);
    glm4v_describe_end(r, GLM4V_FINISH_ERROR, GLM4V_ERR_INTERNAL);
}
