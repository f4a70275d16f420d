/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See draft.h. A draft is what followed the last time that the same few tokens were written: the
 * longest agreement wins, a past answer before the request's own text, a new place before an old
 * one. Where an answer has just left the past one that it followed, a word of as many tokens is
 * taken to have been replaced.
 *
 * Credit bounds what wrong drafts cost. A row of a step of some rows takes about a tenth of the
 * time of a step of one row where weights have to be read from memory, so 1 row in 32 tokens, and 2
 * with each new answer, stay below 2 % of the time. Right ones earn more.
 * A token of the MTP layer costs a row and a pass of that layer and the head, as long as three rows
 * together; a right one saves a step. On an asynchronous device, where the thread waits for each
 * pass, it costs half a step, so half of them have to be right. What it may cost in vain has credit
 * of its own: a wrong token in 96, and those of the first answers. Without credit it rests for the
 * answer, and its keys and values with it, until there is enough for a new trial.
 * Sources: speculative decoding, arXiv:2211.17192; reading drafts off the prompt, arXiv:2304.04487.
 */
#include "draft.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

enum {
    COMPARED = 8,   /* tokens of an agreement that count */
    LEAST_TEXT = 2, /* agreement that a draft from the own text needs */
    REPLACED = 3,   /* tokens of a word that may have been replaced */
    EARNED = 2,     /* rows of credit for a right token */
    MOST = 2 * GLM4V_MAX_DRAFT * GLM4V_DRAFT_ROW, /* credit; also of the second answer */
    AGAIN = 2 * GLM4V_DRAFT_ROW,                  /* at least, after a new answer */
    MTP_TOKEN = 3 * GLM4V_DRAFT_ROW,              /* credit that a wrong one takes */
    MTP_EARNED = 2 * MTP_TOKEN,                   /* by a right one */
    MTP_EARNED_ASYNCHRONOUS = MTP_TOKEN,
    MTP_TRIAL = 4 * MTP_TOKEN, /* that a request begins with, at least */
    MTP_FIRST = 8 * MTP_TOKEN,
    MTP_MOST = 16 * MTP_TOKEN,
    MTP_LENGTH = 2, /* of the first draft */
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- past answers ---- */

int glm4v_past_open(glm4v_past *past, bool asynchronous, glm4v_error *err)
{
    *past = (glm4v_past) { .mtp = { .credit = MTP_FIRST, .length = MTP_LENGTH } };
    past->mtp.earned = asynchronous ? MTP_EARNED_ASYNCHRONOUS : MTP_EARNED;
    past->ids = glm4v_alloc(GLM4V_PAST_IDS, sizeof *past->ids);
    past->answers = glm4v_alloc(GLM4V_PAST_ANSWERS, sizeof *past->answers);
    return past->ids && past->answers
               ? 0
               : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %d tokens of past answers",
                            GLM4V_PAST_IDS);
}

void glm4v_past_close(glm4v_past *past)
{
    glm4v_free(past->ids);
    glm4v_free(past->answers);
    *past = (glm4v_past) { .n_ids = 0 };
}

uint64_t glm4v_past_bytes(void)
{
    return GLM4V_PAST_IDS * sizeof(int32_t) + GLM4V_PAST_ANSWERS * sizeof(glm4v_past_answer);
}

/* Take one out; those behind it move up. */
static void forget(glm4v_past *past, int64_t i)
{
    const glm4v_past_answer gone = past->answers[i];
    const int64_t behind = gone.start + gone.n;
    memmove(past->ids + gone.start, past->ids + behind, (past->n_ids - behind) * sizeof *past->ids);
    memmove(past->answers + i, past->answers + i + 1,
            (past->n_answers - i - 1) * sizeof *past->answers);
    past->n_ids -= gone.n;
    past->n_answers--;
    for (; i < past->n_answers; i++)
        past->answers[i].start -= gone.n;
}

/* The newest with this key before answer `end`; -1: there is none. */
static int64_t newest(const glm4v_past *past, uint64_t key, int64_t end)
{
    int64_t i = end - 1;
    while (i >= 0 && past->answers[i].key != key)
        i--;
    return i;
}

/* The same answer again, or one too many of its key, makes room. False: it is a new one. */
static bool replace(glm4v_past *past, uint64_t key, const int32_t *ids, int64_t n)
{
    int64_t of_key = 0;
    for (int64_t i = newest(past, key, past->n_answers); i >= 0; i = newest(past, key, i)) {
        const glm4v_past_answer *a = &past->answers[i];
        if (a->n == n && !memcmp(past->ids + a->start, ids, n * sizeof *ids)) {
            forget(past, i);
            return true;
        }
        if (++of_key == GLM4V_PAST_OF_KEY)
            forget(past, i);
    }
    return false;
}

void glm4v_draft_keep(glm4v_past *past, const glm4v_drafter *d)
{
    const int64_t n = smaller(d->n_text - d->answer, GLM4V_PAST_IDS / 4);
    if (!d->text || n <= 0)
        return;
    past->mtp.credit = smaller(past->mtp.credit + n, MTP_MOST);
    const int32_t *ids = d->text + d->answer;
    const bool first = newest(past, d->key, past->n_answers) < 0;
    glm4v_draft_record record = d->record;
    if (!replace(past, d->key, ids, n)) {
        const int32_t least = first ? MOST : AGAIN;
        record.credit = record.credit < least ? least : record.credit;
        if (record.length[GLM4V_DRAFT_PAST] < 2)
            record.length[GLM4V_DRAFT_PAST] = 2;
    }
    while (past->n_answers == GLM4V_PAST_ANSWERS || past->n_ids + n > GLM4V_PAST_IDS)
        forget(past, 0);
    memcpy(past->ids + past->n_ids, ids, n * sizeof *ids);
    past->answers[past->n_answers++] = (glm4v_past_answer) {
        .key = d->key, .number = ++past->last_number, .start = past->n_ids, .n = n, .record = record
    };
    past->n_ids += n;
}

/* ---- one request ---- */

/* Tokens of the prompt beside its pictures. */
static void add_prompt(glm4v_drafter *d, const glm4v_prompt *prompt)
{
    int64_t at = 0;
    for (int64_t i = 0; i <= prompt->n_runs; i++) {
        const bool last = i == prompt->n_runs;
        const int64_t end = last ? (int64_t)prompt->n_ids : prompt->runs[i].start;
        const int64_t n = smaller(end - at, d->room - d->n_text);
        memcpy(d->text + d->n_text, prompt->ids + at, n * sizeof *d->text);
        d->n_text += n;
        at = last ? end : end + prompt->runs[i].n;
    }
}

void glm4v_draft_begin(glm4v_drafter *d, const glm4v_past *past, uint64_t key,
                       const glm4v_prompt *prompt, int32_t *text, int64_t room)
{
    const int64_t i = newest(past, key, past->n_answers);
    *d = (glm4v_drafter) { .key = key, .text = text, .room = room };
    d->record = (glm4v_draft_record) { .credit = AGAIN, .length = { GLM4V_MAX_DRAFT, 1 } };
    if (i >= 0) {
        d->record = past->answers[i].record;
        d->aligned = past->answers[i].number;
    }
    add_prompt(d, prompt);
    d->answer = d->n_text;
}

void glm4v_draft_begin_mtp(glm4v_drafter *d, const glm4v_past *past)
{
    d->mtp = past->mtp.credit >= MTP_TRIAL;
}

void glm4v_draft_note(glm4v_drafter *d, int32_t id)
{
    if (!d->text || d->n_text == d->room)
        return;
    d->text[d->n_text++] = id;
    d->at++;
    d->apart++;
    d->record.credit += d->record.credit < MOST;
}

/* What may follow, and how well it fits. */
typedef struct {
    const int32_t *ids; /* [n] */
    int64_t n;
    int64_t agreement; /* tokens before it that are the same */
    glm4v_draft_source source;
    uint64_t number; /* of the past answer */
    int64_t at;
} candidate;

/* Tokens before ids[at] that are those at the end of the text, no more than its last `most`. */
static int64_t agreement(const glm4v_drafter *d, int64_t most, const int32_t *ids, int64_t at)
{
    const int32_t *end = d->text + d->n_text;
    int64_t n = 0;
    most = smaller(smaller(most, at), COMPARED);
    while (n < most && ids[at - 1 - n] == end[-1 - n])
        n++;
    return n;
}

/* The place in a past answer that fits best; of equals the one that is due. */
static void search_answer(candidate *best, const glm4v_drafter *d, const glm4v_past *past,
                          const glm4v_past_answer *a)
{
    const int32_t *ids = past->ids + a->start;
    const int64_t written = d->n_text - d->answer;
    const int64_t due = a->number == d->aligned ? d->at : written;
    for (int64_t at = 1; at < a->n; at++) {
        const int64_t same = agreement(d, written, ids, at);
        if (same > best->agreement ||
            (same && same == best->agreement && at == due && best->number == a->number))
            *best = (candidate) { .ids = ids + at,
                                  .n = a->n - at,
                                  .agreement = same,
                                  .source = GLM4V_DRAFT_PAST,
                                  .number = a->number,
                                  .at = at };
    }
}

/* The latest place in prompt and answer that fits best. */
static void search_text(candidate *best, const glm4v_drafter *d)
{
    for (int64_t at = d->n_text - 1; at >= LEAST_TEXT; at--) {
        const int64_t same = agreement(d, d->n_text, d->text, at);
        if (same >= LEAST_TEXT && same > best->agreement)
            *best = (candidate) { .ids = d->text + at,
                                  .n = d->n_text - at,
                                  .agreement = same,
                                  .source = GLM4V_DRAFT_TEXT };
    }
}

/* Behind a word in place of another one, the past answer may go on as it did. */
static void search_replaced(candidate *best, const glm4v_drafter *d, const glm4v_past *past)
{
    if (!d->aligned || d->apart > REPLACED)
        return;
    for (int64_t i = newest(past, d->key, past->n_answers); i >= 0; i = newest(past, d->key, i)) {
        const glm4v_past_answer *a = &past->answers[i];
        if (a->number == d->aligned && d->at < a->n)
            *best = (candidate) { .ids = past->ids + a->start + d->at,
                                  .n = a->n - d->at,
                                  .source = GLM4V_DRAFT_PAST,
                                  .number = a->number,
                                  .at = d->at };
    }
}

/* What past answers and the own text tell. */
static void read_off(glm4v_drafter *d, const glm4v_past *past, int64_t most)
{
    candidate best = { .n = 0 };
    if (d->record.credit < GLM4V_DRAFT_ROW)
        return;
    for (int64_t i = newest(past, d->key, past->n_answers); i >= 0; i = newest(past, d->key, i))
        search_answer(&best, d, past, &past->answers[i]);
    search_text(&best, d);
    if (!best.agreement)
        search_replaced(&best, d, past);
    if (!best.n)
        return;
    if (best.agreement && best.source == GLM4V_DRAFT_PAST) {
        d->aligned = best.number;
        d->at = best.at;
        d->apart = 0;
    }
    d->source = best.source;
    most = smaller(smaller(most, d->record.credit / GLM4V_DRAFT_ROW), d->record.length[d->source]);
    d->n = smaller(most, best.n);
    memcpy(d->ids, best.ids, d->n * sizeof *d->ids);
}

void glm4v_draft_make(glm4v_drafter *d, const glm4v_past *past, int64_t most)
{
    const glm4v_mtp_record *m = &past->mtp;
    d->n = 0;
    if (!d->text || most <= 0)
        return;
    read_off(d, past, most);
    d->mtp &= m->credit >= MTP_TOKEN;
    if (d->n || !d->mtp)
        return;
    d->source = GLM4V_DRAFT_MTP;
    d->n = smaller(smaller(most, m->length), m->credit / MTP_TOKEN);
}

/* A draft of the MTP layer costs by its length, so it grows and shrinks one by one. */
static void judge_mtp(glm4v_mtp_record *m, int64_t n, int64_t accepted)
{
    const int64_t credit = m->credit + accepted * m->earned - (n - accepted) * MTP_TOKEN;
    m->credit = smaller(credit > 0 ? credit : 0, MTP_MOST);
    m->drafted += (uint64_t)n;
    m->accepted += (uint64_t)accepted;
    if (accepted < n)
        m->length = (int32_t)((m->length + accepted + 1) / 2);
    else if (n == m->length)
        m->length += m->length < GLM4V_MAX_DRAFT;
}

static void judge_text(glm4v_draft_record *r, glm4v_draft_source source, int64_t n,
                       int64_t accepted)
{
    int32_t *length = &r->length[source];
    const int64_t credit = r->credit + (EARNED * accepted - (n - accepted)) * GLM4V_DRAFT_ROW;
    r->credit = (int32_t)smaller(credit > 0 ? credit : 0, MOST);
    if (accepted < n)
        *length = (int32_t)smaller((*length + 2 * accepted + 1) / 2, GLM4V_MAX_DRAFT);
    else if (n == *length)
        *length = (int32_t)smaller(2 * *length, GLM4V_MAX_DRAFT);
    *length = *length < 1 ? 1 : *length;
}

void glm4v_draft_judge(glm4v_drafter *d, glm4v_past *past, int64_t accepted)
{
    if (d->n && d->source == GLM4V_DRAFT_MTP)
        judge_mtp(&past->mtp, d->n, accepted);
    else if (d->n)
        judge_text(&d->record, d->source, d->n, accepted);
    d->n = 0;
}
