/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From logits to the tokens of an answer: what is sampled, what is forced, what ends it, which rows
 * it takes in the next decode step, and which of those that were drafts count. Called by describe.c
 * after prefill and by scheduler.c. */
#include "engine.h"

#include <string.h>

#include "base/error.h"

enum { MOST_FORCED = GLM4V_MAX_AHEAD - 1 }; /* behind one that was chosen */

/* ---- tokens ---- */

/* Does a schema say what comes next? */
static bool follows(const glm4v_request *r)
{
    return r->constraint && r->shaped;
}

/* The set of tokens that a device does not choose behind `at` tokens of a draft. */
static int32_t mask_number(const glm4v_request *r, int64_t at)
{
    const int64_t own = GLM4V_FIXED_MASKS + r->slot * GLM4V_SPAN_ROWS + at;
    return (int32_t)(follows(r) ? own : r->task.thinking != 0);
}

static const uint64_t *mask_of(const glm4v_engine *engine, const glm4v_request *r)
{
    if (follows(r))
        return r->never;
    const int64_t words = engine->model->config.text.vocab / 64 + 1;
    return engine->masks + (r->task.thinking != 0) * words;
}

int64_t glm4v_token_reserve(const glm4v_request *r)
{
    const int64_t end = r->task.thinking ? GLM4V_MAX_FORCED : 0;
    if (!glm4v_has_shape(r))
        return 1;
    return end + r->n_lead +
           (r->choices ? r->choices->longest : glm4v_constraint_shortest(r->constraint));
}

bool glm4v_token_show(glm4v_request *r, int32_t id)
{
    const char *text;
    glm4v_text_part part;
    bool room = glm4v_detokenizer_push(&r->detokenizer, id, &text, &part);
    if (*text && r->task.on_text)
        r->task.on_text(r->task.user, part, text);
    return room;
}

/* A token that the request goes on with. False when the answer has no room for it. */
static bool take(glm4v_request *r, int32_t id)
{
    glm4v_sampler_see(&r->sampler, id);
    glm4v_draft_note(&r->drafter, id);
    r->ahead[r->n_ahead++] = id;
    return glm4v_token_show(r, id);
}

static void take_all(glm4v_request *r, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        take(r, ids[i]);
}

/* ---- reasoning, and the answer behind it ---- */

static bool reasons(const glm4v_request *r)
{
    return r->detokenizer.part == GLM4V_TEXT_REASONING;
}

/* Must what follows be the answer? */
static bool must_answer(const glm4v_engine *engine, const glm4v_request *r, bool room)
{
    if (!reasons(r) || r->reasoned)
        return false;
    const int64_t left = engine->limits.context_length - r->length - r->n_ahead;
    return r->n_reasoning >= r->task.max_reasoning_tokens ||
           (glm4v_has_shape(r) && (!room || left <= glm4v_token_reserve(r)));
}

static void end_reasoning(const glm4v_engine *engine, glm4v_request *r)
{
    int32_t ids[GLM4V_MAX_FORCED];
    take_all(r, ids, glm4v_chat_end_reasoning(&engine->model->chat, ids));
    r->reasoned = true;
}

/* Reasoning has ended, by the model's own token `last` or by force: go on to where the answer
 * begins. */
static void begin_shape(const glm4v_engine *engine, glm4v_request *r, int32_t last)
{
    const glm4v_chat *chat = &engine->model->chat;
    if (!r->reasoned && last == chat->think_end && chat->answer >= 0)
        take(r, chat->answer);
    take_all(r, r->lead, r->n_lead);
    r->shaped = true;
}

/* ---- an answer that follows a schema ---- */

/* Tokens that may still come. */
static int64_t tokens_left(const glm4v_engine *engine, const glm4v_request *r)
{
    const int64_t answer = r->task.max_tokens - r->n_answer;
    const int64_t context = engine->limits.context_length - r->length - r->n_ahead;
    return answer < context ? answer : context;
}

/* What the schema forbids next, when `left` tokens may still come. */
static void make_mask(const glm4v_engine *engine, glm4v_request *r, int64_t left)
{
    const glm4v_config *config = &engine->model->config;
    if (follows(r))
        r->never =
            glm4v_constraint_never(r->constraint, left, config->stop_ids, config->n_stop_ids);
}

/* The answer goes on with a token. */
static bool follow(glm4v_request *r, int32_t id)
{
    glm4v_constraint_take(r->constraint, id);
    r->result.output_tokens++;
    r->n_answer++;
    return take(r, id);
}

/* Take what must come next, without asking the model. False: nothing must, and the answer is not
 * complete. */
static bool force(const glm4v_engine *engine, glm4v_request *r)
{
    int32_t ids[GLM4V_MAX_AHEAD];
    const int64_t n =
        glm4v_constraint_forced(r->constraint, tokens_left(engine, r), ids, MOST_FORCED);
    for (int64_t i = 0; i < n; i++)
        follow(r, ids[i]);
    if (!glm4v_constraint_done(r->constraint) && tokens_left(engine, r) > 0)
        return n > 0;
    glm4v_describe_end(r, GLM4V_FINISH_STOP, 0);
    return true;
}

/* The token that was chosen among those that the schema lets through. */
static void go_on(const glm4v_engine *engine, glm4v_request *r, int32_t id, bool stop)
{
    if (stop) {
        glm4v_describe_end(r, GLM4V_FINISH_STOP, 0);
        return;
    }
    follow(r, id);
    force(engine, r);
}

/* ---- how a device chooses ---- */

/* Tokens of the draft from `at` on that must come there are taken; returns how many. -1: others
 * must, or more than the draft has. */
static int64_t try_forced(glm4v_request *r, int64_t at, int64_t left)
{
    const glm4v_drafter *d = &r->drafter;
    int32_t ids[MOST_FORCED];
    const int64_t n = glm4v_constraint_forced(r->constraint, left, ids, MOST_FORCED);
    for (int64_t i = 0; i < n; i++) {
        if (at + i == d->n || ids[i] != d->ids[at + i])
            return -1;
        glm4v_constraint_take(r->constraint, ids[i]);
    }
    return n;
}

/* May token `at` of the draft come next, and something behind it? */
static bool may_follow(const glm4v_engine *engine, const glm4v_request *r, int64_t at)
{
    const glm4v_config *config = &engine->model->config;
    const int32_t id = r->drafter.ids[at];
    return !(r->never[id / 64] >> (id % 64) & 1) &&
           !glm4v_is_one_of(id, config->stop_ids, config->n_stop_ids);
}

/* The schema tries the draft as the answer will: what must come takes no draw, what is chosen has a
 * mask of its own. Rows behind a token that it forbids do not count. */
static int try_draft(glm4v_engine *engine, glm4v_request *r, glm4v_sampler *later, glm4v_error *err)
{
    const int64_t left = tokens_left(engine, r);
    int rc = 0;
    for (int64_t at = 0, n; !rc; at++) {
        while ((n = try_forced(r, at, left - at)) > 0)
            at += n;
        if (n < 0 || glm4v_constraint_done(r->constraint) || at >= left)
            break;
        const int32_t mask = mask_number(r, at);
        make_mask(engine, r, left - at);
        rc = glm4v_context_set_masks(engine->context, mask, r->never, 1, err);
        r->draws[at] = glm4v_sampler_draw(later, mask);
        glm4v_sampler_took(later);
        if (at == r->drafter.n || !may_follow(engine, r, at))
            break;
        glm4v_constraint_take(r->constraint, r->drafter.ids[at]);
    }
    return rc;
}

/* Of a row whose choice does not count; its token is seen nevertheless. */
static glm4v_draw no_draw(const glm4v_request *r)
{
    glm4v_draw draw = GLM4V_NO_DRAW;
    draw.penalty = r->sampler.penalty;
    return draw;
}

static int prepare_draws(glm4v_engine *engine, glm4v_request *r, glm4v_error *err)
{
    glm4v_sampler later = r->sampler;
    for (int64_t at = 0; at < GLM4V_SPAN_ROWS; at++)
        r->draws[at] = no_draw(r);
    if (follows(r)) {
        const glm4v_constraint_place place = glm4v_constraint_stands(r->constraint);
        int rc = try_draft(engine, r, &later, err);
        glm4v_constraint_go_back(r->constraint, &place);
        return rc;
    }
    for (int64_t at = 0; at <= r->drafter.n; at++) {
        r->draws[at] = glm4v_sampler_draw(&later, mask_number(r, at));
        glm4v_sampler_took(&later);
    }
    return 0;
}

int glm4v_token_prepare(glm4v_engine *engine, glm4v_request *r, glm4v_error *err)
{
    int rc = 0;
    if (r->n_rows < r->n_ahead)
        return 0;
    if (!glm4v_context_samples(engine->context)) {
        make_mask(engine, r, tokens_left(engine, r));
        return 0;
    }
    if (r->seen_wrong)
        rc = glm4v_context_set_seen(engine->context, r->slot, r->sampler.seen, err);
    r->seen_wrong &= rc != 0;
    return rc ? rc : prepare_draws(engine, r, err);
}

/* The device has chosen behind `at` right tokens of the draft as the host would: no token that was
 * forced, and no end of reasoning, has come between. */
static bool has_drawn(const glm4v_engine *engine, const glm4v_request *r, int64_t at)
{
    const glm4v_draw *draw = &r->draws[at];
    return !glm4v_context_samples(engine->context) ||
           (!glm4v_score_wanted(r) && draw->mask == mask_number(r, at) &&
            draw->generator == r->sampler.state);
}

/* ---- the next one ---- */

void glm4v_token_next(glm4v_engine *engine, glm4v_request *r, float *logits, int32_t id)
{
    const glm4v_config *config = &engine->model->config;
    const bool reasoning = reasons(r);
    bool room = true;
    if (follows(r) && force(engine, r))
        return;
    if (logits)
        id = glm4v_sampler_next(&r->sampler, logits, mask_of(engine, r), engine->scratch);
    else
        glm4v_sampler_took(&r->sampler);
    if (id < 0) {
        glm4v_describe_broken(r);
        return;
    }
    const bool stop = glm4v_is_one_of(id, config->stop_ids, config->n_stop_ids);
    if (follows(r)) {
        go_on(engine, r, id, stop);
        return;
    }
    if (stop && !glm4v_has_shape(r)) {
        glm4v_describe_end(r, GLM4V_FINISH_STOP, 0);
        return;
    }
    if (!stop) {
        r->result.output_tokens++;
        r->n_reasoning += reasoning;
        r->n_answer += !reasoning;
        room = take(r, id);
    }
    if (stop || must_answer(engine, r, room))
        end_reasoning(engine, r);
    if (glm4v_has_shape(r) && !reasons(r))
        begin_shape(engine, r, id);
    else if (!glm4v_has_shape(r) && (!room || r->n_answer >= r->task.max_tokens ||
                                     r->length + r->n_ahead > engine->limits.context_length))
        glm4v_describe_end(r, GLM4V_FINISH_LENGTH, 0);
}

/* ---- rows ---- */

int64_t glm4v_token_rows(const glm4v_engine *engine, glm4v_request *r, int64_t most)
{
    const int64_t span = most < GLM4V_SPAN_ROWS ? most : GLM4V_SPAN_ROWS;
    if (r->stage == GLM4V_STAGE_SCORE)
        r->n_rows = glm4v_choices_rows(r->choices, most, GLM4V_SPAN_ROWS,
                                       glm4v_context_branches(engine->context));
    else
        r->n_rows = r->n_ahead < span ? r->n_ahead : span;
    return r->n_rows;
}

/* A draft stands behind all tokens ahead, leaves room for a token in the context, and is not longer
 * than the answer may be. */
int64_t glm4v_token_draft(glm4v_engine *engine, glm4v_request *r, int64_t most)
{
    const int64_t row = GLM4V_SPAN_ROWS - r->n_ahead;
    const int64_t answer = r->task.max_tokens - r->n_answer - 1;
    const int64_t context = engine->limits.context_length - r->length - r->n_ahead;
    r->drafter.n = 0;
    if (!r->drafts || r->stage != GLM4V_STAGE_DECODE || r->n_rows < r->n_ahead ||
        glm4v_score_wanted(r))
        return 0;
    most = most < row ? most : row;
    most = most < context ? most : context;
    most = most < answer || reasons(r) ? most : answer;
    glm4v_draft_make(&r->drafter, &engine->past, most);
    if (r->drafter.source == GLM4V_DRAFT_MTP && r->n_ahead > 1) /* whose states are not there */
        r->drafter.n = 0;
    r->n_rows += r->drafter.n;
    return r->drafter.n;
}

void glm4v_token_cut_draft(glm4v_request *r)
{
    r->drafter.n--;
    r->n_rows--;
}

/* How the device chooses behind row i. */
static glm4v_draw draw_of(const glm4v_request *r, int64_t i)
{
    const int64_t at = i + 1 - r->n_ahead;
    if (glm4v_score_wanted(r)) /* its logits count, and the device may mask them in place */
        return GLM4V_NO_DRAW;
    return at < 0 ? no_draw(r) : r->draws[at];
}

glm4v_row glm4v_token_row(const glm4v_request *r, int64_t i)
{
    if (r->stage == GLM4V_STAGE_SCORE)
        return glm4v_score_row(r, i);
    return (glm4v_row) { .length = r->length + i,
                         .id = i < r->n_ahead ? r->ahead[i] : r->drafter.ids[i - r->n_ahead],
                         .position = r->next_position + i,
                         .draw = draw_of(r, i) };
}

/* The first n tokens ahead are in the cache. */
static void advance(glm4v_request *r, int64_t n)
{
    r->length += n;
    r->next_position += (int32_t)n;
    r->n_ahead -= n;
    memmove(r->ahead, r->ahead + n, r->n_ahead * sizeof *r->ahead);
}

/* Go on with what came of row i of the step. */
static void go_on_behind(glm4v_engine *engine, glm4v_request *r, glm4v_lane lane, int64_t i)
{
    glm4v_context *c = engine->context;
    float *logits = glm4v_pass_logits(c, lane);
    const int64_t vocab = engine->model->config.text.vocab;
    if (glm4v_score_wanted(r))
        glm4v_score_begin(engine, r, logits + i * vocab);
    else if (glm4v_context_samples(c))
        glm4v_token_next(engine, r, NULL, glm4v_pass_ids(c, lane)[i]);
    else
        glm4v_token_next(engine, r, logits + i * vocab, 0);
}

/* Tokens ahead that the draft has from its token `at` on: their rows are right. */
static int64_t agreed(const glm4v_request *r, int64_t at)
{
    int64_t n = 0;
    while (n < r->n_ahead && at + n < r->drafter.n && r->ahead[n] == r->drafter.ids[at + n])
        n++;
    return n;
}

/* Rows of a draft count as long as its tokens are those that were chosen or forced. The next pass
 * replaces the keys and values of the others, and of the last row where no choice counts. */
static void check_draft(glm4v_engine *engine, glm4v_request *r, glm4v_lane lane, int64_t row)
{
    const bool samples = glm4v_context_samples(engine->context);
    int64_t right = 0;
    while (r->stage == GLM4V_STAGE_DECODE && !atomic_load(&r->cancel)) {
        int64_t n = agreed(r, right);
        if (n == r->n_ahead && !has_drawn(engine, r, right + n))
            n--;
        advance(r, n);
        right += n;
        if (r->n_ahead)
            break;
        if (!samples)
            make_mask(engine, r, tokens_left(engine, r));
        go_on_behind(engine, r, lane, row + right);
    }
    r->result.drafted_tokens += (uint32_t)r->drafter.n;
    r->result.accepted_tokens += (uint32_t)right;
    r->seen_wrong = samples && r->sampler.seen && right < r->drafter.n;
    glm4v_draft_judge(&r->drafter, &engine->past, right);
}

void glm4v_token_stepped(glm4v_engine *engine, glm4v_request *r, glm4v_lane lane, int64_t first)
{
    if (r->stage == GLM4V_STAGE_SCORE) {
        const int64_t vocab = engine->model->config.text.vocab;
        glm4v_score_stepped(engine, r, glm4v_pass_logits(engine->context, lane) + first * vocab);
        return;
    }
    const int64_t n = r->n_rows - r->drafter.n, row = first + n - 1;
    r->mtp_state = (int32_t)first;
    advance(r, n);
    if (r->n_ahead)
        return;
    go_on_behind(engine, r, lane, row);
    if (r->drafter.n)
        check_draft(engine, r, lane, row);
}
