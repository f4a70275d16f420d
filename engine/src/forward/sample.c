/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Choosing a token: penalty, mask, then the largest logit or a draw. The order is that of the
 * reference's logits processors: repetition penalty, temperature, top-k, top-p. Called by
 * describe.c; allocates nothing after init. Sources: top-p, arXiv:1904.09751; the generator is
 * PCG-XSH-RR 64/32, https://www.pcg-random.org. */
#include "forward/sample.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define PCG_MULTIPLIER 6364136223846793005u
#define PCG_INCREMENT 1442695040888963407u

static uint32_t random_bits(uint64_t *state)
{
    uint64_t s = *state;
    *state = s * PCG_MULTIPLIER + PCG_INCREMENT;
    uint32_t mixed = (uint32_t)(((s >> 18) ^ s) >> 27), rotate = (uint32_t)(s >> 59);
    return (mixed >> rotate) | (mixed << (-rotate & 31));
}

/* In [0, 1), 53 bits. */
static double random_unit(uint64_t *state)
{
    uint64_t high = random_bits(state) >> 5, low = random_bits(state) >> 6;
    return (double)((high << 26) | low) * 0x1p-53;
}

int glm4v_sampler_init(glm4v_sampler *s, const glm4v_task *task, int64_t vocab, glm4v_error *err)
{
    *s = (glm4v_sampler) {
        .temperature = task->temperature,
        .top_k = task->top_k,
        .top_p = task->top_p > 0 ? task->top_p : 1,
        .penalty = task->repetition_penalty > 0 ? task->repetition_penalty : 1,
        .state = PCG_INCREMENT + task->seed,
        .vocab = vocab,
    };
    random_bits(&s->state); /* neighbouring seeds part here */
    if (s->penalty == 1)
        return 0;
    s->seen = glm4v_alloc(vocab / 64 + 1, sizeof *s->seen);
    return s->seen
               ? 0
               : glm4v_fail(err, GLM4V_ERR_NOMEM,
                            "no memory for the repetition penalty of %" PRId64 " tokens", vocab);
}

void glm4v_sampler_clear(glm4v_sampler *s)
{
    glm4v_free(s->seen);
    s->seen = NULL;
}

void glm4v_sampler_see(glm4v_sampler *s, int32_t id)
{
    if (s->seen && id >= 0 && id < s->vocab)
        s->seen[id / 64] |= UINT64_C(1) << (id % 64);
}

/* Loops over a whole vocabulary go through this many numbers side by side, in registers. */
#define LANES 16

#define EXPONENT UINT32_C(0x7f800000) /* all of its bits: infinite, or no number */

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static bool all_finite(const float *x, int64_t n)
{
    uint32_t bad[LANES] = { 0 }, any = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) /* a full exponent carries into the sign */
            bad[l] |= (bits_of(x[i + l]) & EXPONENT) + (UINT32_C(1) << 23);
    for (int l = 0; l < LANES; l++)
        any |= bad[l];
    for (; i < n; i++)
        any |= (bits_of(x[i]) & EXPONENT) + (UINT32_C(1) << 23);
    return !(any >> 31);
}

static void penalize(const glm4v_sampler *s, float *logits)
{
    for (int64_t word = 0; word <= s->vocab / 64; word++)
        for (uint64_t bits = s->seen[word]; bits; bits &= bits - 1) {
            float *x = &logits[word * 64 + __builtin_ctzll(bits)];
            *x = *x < 0 ? *x * s->penalty : *x / s->penalty;
        }
}

int32_t glm4v_largest_logit(const float *logits, int64_t n)
{
    float most[LANES];
    int32_t id[LANES], best = 0, i = 0;
    for (int l = 0; l < LANES; l++) {
        most[l] = -INFINITY;
        id[l] = l;
    }
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            id[l] = logits[i + l] > most[l] ? i + l : id[l];
            most[l] = logits[i + l] > most[l] ? logits[i + l] : most[l];
        }
    for (int l = 0; l < LANES && l < n; l++)
        if (logits[id[l]] > logits[best] || (logits[id[l]] == logits[best] && id[l] < best))
            best = id[l];
    for (; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static bool before(const glm4v_candidate *a, const glm4v_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* Let heap[i] sink among n. */
static void sink(glm4v_candidate *heap, int64_t i, int64_t n)
{
    glm4v_candidate moved = heap[i];
    for (int64_t child = 2 * i + 1; child < n; i = child, child = 2 * i + 1) {
        child += child + 1 < n && before(&heap[child + 1], &heap[child]);
        if (!before(&heap[child], &moved))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* Best candidates in order, taken off the heap [*n] one by one: each goes where the heap's last
 * place becomes free. */
static const glm4v_candidate *pop(glm4v_candidate *heap, int64_t *n)
{
    glm4v_candidate best = heap[0];
    heap[0] = heap[--*n];
    sink(heap, 0, *n);
    heap[*n] = best;
    return &heap[*n];
}

/* The number of best candidates that top-k and top-p keep; they are at the end of all [n], best
 * last. */
static int64_t keep_best(const glm4v_sampler *s, glm4v_candidate *all, int64_t n, float max,
                         double *sum)
{
    int64_t most = s->top_k && s->top_k < n ? s->top_k : n, left = n, kept = 0;
    double total = 0, t = s->temperature;
    for (int64_t i = n / 2; i-- > 0;)
        sink(all, i, n);
    if (most == n)
        for (int64_t i = 0; i < n; i++)
            total += exp((all[i].logit - max) / t);
    else
        for (int64_t i = 0; i < most; i++)
            total += exp((pop(all, &left)->logit - max) / t);
    for (*sum = 0; kept < most && (!kept || *sum < s->top_p * total); kept++) {
        const glm4v_candidate *c = most == n ? pop(all, &left) : &all[n - 1 - kept];
        *sum += exp((c->logit - max) / t);
    }
    return kept;
}

static int32_t draw(glm4v_sampler *s, const float *logits, glm4v_candidate *all)
{
    int64_t n = 0, kept;
    float max = logits[glm4v_largest_logit(logits, s->vocab)];
    double sum = 0, t = s->temperature;
    for (int32_t i = 0; i < s->vocab; i++)
        if (logits[i] > -INFINITY)
            all[n++] = (glm4v_candidate) { logits[i], i };
    kept = n;
    if (s->top_k || s->top_p < 1)
        kept = keep_best(s, all, n, max, &sum);
    else
        for (int64_t i = 0; i < n; i++)
            sum += exp((all[i].logit - max) / t);
    double target = random_unit(&s->state) * sum;
    for (int64_t i = n; i-- > n - kept;) {
        target -= exp((all[i].logit - max) / t);
        if (target < 0)
            return all[i].id;
    }
    return all[n - 1].id; /* rounding left a remainder: the best one, or the last */
}

/* Words of bits that are all set, most of a schema's, are done at once. */
static void mask(float *logits, const uint64_t *never, int64_t vocab)
{
    for (int64_t first = 0; first < vocab; first += 64) {
        uint64_t bits = never[first / 64];
        const int64_t n = vocab - first < 64 ? vocab - first : 64;
        if (bits == UINT64_MAX) {
            for (int64_t i = 0; i < n; i++)
                logits[first + i] = -INFINITY;
            continue;
        }
        for (; bits; bits &= bits - 1)
            if (__builtin_ctzll(bits) < n)
                logits[first + __builtin_ctzll(bits)] = -INFINITY;
    }
}

int32_t glm4v_sampler_next(glm4v_sampler *s, float *logits, const uint64_t *never,
                           glm4v_candidate *scratch)
{
    if (!all_finite(logits, s->vocab))
        return -1;
    if (s->seen)
        penalize(s, logits);
    if (never)
        mask(logits, never, s->vocab);
    return s->temperature > 0 ? draw(s, logits, scratch) : glm4v_largest_logit(logits, s->vocab);
}

glm4v_draw glm4v_sampler_draw(const glm4v_sampler *s, int32_t mask)
{
    return (glm4v_draw) { .temperature = s->temperature,
                          .top_k = s->top_k,
                          .top_p = s->top_p,
                          .penalty = s->penalty,
                          .generator = s->state,
                          .mask = mask };
}

void glm4v_sampler_took(glm4v_sampler *s)
{
    if (s->temperature > 0)
        random_unit(&s->state);
}
