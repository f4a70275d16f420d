/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Masks of a schema, found by looking or kept from before: the tokens that they let through are
 * those that the automaton follows byte by byte, and near the end each of them can be completed. */
#include <stdlib.h>
#include <string.h>

#include "shape/completion.h"
#include "shape/constraint.h"
#include "test.h"

#define TOKENIZER SOURCE_ROOT "/tests/data/tokenizer/glm-4.5/tokenizer.json"
enum { PLENTY = 2000, STEPS = 40, ANSWERS = 12 };

static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"note\":{\"type\":\"string\"},\"part\":{\"type\":"
    "\"string\",\"minLength\":3,\"maxLength\":12},\"list\":{\"type\":\"array\",\"items\":{\"type\":"
    "\"string\"}},\"n\":{\"type\":\"integer\",\"minimum\":-5,\"maximum\":300}},\"required\":["
    "\"note\"]}",
    "{\"type\":\"array\",\"items\":{\"type\":[\"string\",\"number\",\"null\"]},\"minItems\":2}",
    ("{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"ab\",1,12]},"
     "\"maxItems\":3}}"),
    "{\"type\":\"string\",\"minLength\":40}",
};

static glm4v_tokenizer *tokenizer;
static glm4v_token_tries *tries;
static uint64_t seed;

static uint32_t draw(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33);
}

static bool allowed(const uint64_t *never, int32_t id)
{
    return !(never[id / 64] >> (id % 64) & 1);
}

/* Where a token leads to; false: it may not come. */
static bool follow(const glm4v_schema *schema, glm4v_automaton *a, int32_t id)
{
    size_t len;
    const char *bytes = glm4v_tokenizer_bytes(tokenizer, id, &len);
    if (!bytes || !len || glm4v_tokenizer_is_control(tokenizer, id))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!glm4v_automaton_step(schema, a, (unsigned char)bytes[i]))
            return false;
    return true;
}

/* Of one schema: the shape whose masks are kept, and its plain reading. */
typedef struct {
    glm4v_shape *shape;
    glm4v_completer completer;
} subject;

static int64_t wrong_ids(const subject *s, const glm4v_automaton *state, const uint64_t *never)
{
    int64_t wrong = 0;
    for (int32_t id = 0; id + 1 < tries->n_ids; id++) {
        glm4v_automaton a = *state;
        wrong += allowed(never, id) != follow(s->shape->schema, &a, id);
    }
    return wrong;
}

/* Ids that are let through although nothing completes the answer in `left` tokens behind them. */
static int64_t lost_ids(subject *s, const glm4v_automaton *state, const uint64_t *never,
                        int64_t left)
{
    int64_t lost = 0;
    for (int32_t id = 0; id + 1 < tries->n_ids; id++) {
        glm4v_automaton a = *state;
        if (!allowed(never, id))
            continue;
        lost += !follow(s->shape->schema, &a, id) ||
                !glm4v_complete(&s->completer, &s->completer.other, &a) ||
                s->completer.other.tokens[0] > left;
    }
    return lost;
}

static int32_t choose(const uint64_t *never)
{
    const int32_t from = (int32_t)(draw() % (uint32_t)tries->n_ids);
    for (int32_t i = 0; i < tries->n_ids; i++)
        if (allowed(never, (from + i) % tries->n_ids))
            return (from + i) % tries->n_ids;
    return -1;
}

/* One answer with so many tokens; `plain`: compare with the automaton, else with what can be
 * completed. Masks are also compared with those of a shape that keeps nothing from before. */
static void check_answer(subject *s, int64_t most, bool plain)
{
    const int32_t stop = tries->n_ids - 1;
    const size_t bytes = ((size_t)tries->n_ids / 64 + 1) * sizeof(uint64_t);
    glm4v_constraint *c = NULL, *fresh = NULL;
    glm4v_shape *own = NULL;
    glm4v_automaton state = glm4v_automaton_start(s->shape->schema);
    int64_t wrong = 0, different = 0, n = 0;
    atomic_fetch_add(&s->shape->refs, 1);
    REQUIRE(!glm4v_shape_open(&own, s->shape->text, tries, NULL));
    REQUIRE(!glm4v_constraint_open(&c, s->shape, tokenizer, PLENTY, NULL));
    REQUIRE(!glm4v_constraint_open(&fresh, own, tokenizer, PLENTY, NULL));
    if (!plain)
        most += glm4v_constraint_shortest(c);
    for (; n < most && !glm4v_constraint_done(c); n++) {
        const int64_t left = plain ? PLENTY : most - n;
        const uint64_t *never = glm4v_constraint_never(c, left, &stop, 1);
        different += memcmp(never, glm4v_constraint_never(fresh, left, &stop, 1), bytes) != 0;
        wrong += plain ? wrong_ids(s, &state, never) : lost_ids(s, &state, never, left - 1);
        const int32_t id = choose(never);
        if (id < 0 || id == stop)
            break;
        glm4v_constraint_take(c, id);
        glm4v_constraint_take(fresh, id);
        follow(s->shape->schema, &state, id);
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(different, 0);
    CHECK(plain || glm4v_constraint_may_end(c));
    glm4v_constraint_close(&c);
    glm4v_constraint_close(&fresh);
}

static subject open_subject(const char *schema)
{
    subject s = { 0 };
    if (glm4v_shape_open(&s.shape, schema, tries, NULL) ||
        glm4v_completer_open(&s.completer, s.shape->schema, &tries->all, GLM4V_MAX_ANSWER_BYTES,
                             NULL))
        exit(1);
    return s;
}

static void with_room_the_automaton_settles_what_may_come(void)
{
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        subject s = open_subject(schemas[i]);
        for (int k = 0; k < ANSWERS; k++)
            check_answer(&s, STEPS, true);
        CHECK(s.shape->masks->n > 0);
        glm4v_completer_close(&s.completer);
        glm4v_shape_close(&s.shape);
    }
}

static void near_the_end_what_may_come_can_be_completed(void)
{
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        subject s = open_subject(schemas[i]);
        for (int k = 0; k < ANSWERS; k++)
            check_answer(&s, k, false);
        glm4v_completer_close(&s.completer);
        glm4v_shape_close(&s.shape);
    }
}

static void the_masks_that_are_kept_are_bounded_and_the_oldest_goes(void)
{
    enum { WORDS = 3 };
    glm4v_mask_cache *cache = NULL;
    const glm4v_budget least = { 5, 100 }, enough = { 5, 100 }, few = { 4, 100 },
                       short_ = { 5, 99 };
    glm4v_automaton state;
    memset(&state, 0, sizeof state);
    state.n = 1;
    REQUIRE(!glm4v_mask_cache_open(&cache, WORDS, NULL));
    for (int32_t i = 0; i < 3 * GLM4V_CACHED_MASKS; i++) {
        const uint64_t mask[WORDS] = { (uint64_t)i, 7, (uint64_t)-i };
        state.open[0].count = i;
        glm4v_mask_cache_put(cache, &state, &least, mask);
        state.open[0].count = 0; /* the first is used again and again, and stays */
        const uint64_t *kept = glm4v_mask_cache_get(cache, &state, &enough);
        REQUIRE(kept);
        CHECK_EQ(kept[0], 0);
    }
    CHECK_EQ(cache->n, GLM4V_CACHED_MASKS);
    CHECK(!glm4v_mask_cache_get(cache, &state, &few));
    CHECK(!glm4v_mask_cache_get(cache, &state, &short_));
    state.open[0].count = 1;
    CHECK(!glm4v_mask_cache_get(cache, &state, &enough));
    state.open[0].count = 3 * GLM4V_CACHED_MASKS - 1;
    CHECK(glm4v_mask_cache_get(cache, &state, &enough));
    glm4v_mask_cache_close(&cache);
    CHECK(!cache);
}

static void shapes_are_shared_by_their_text_and_outlive_the_list(void)
{
    glm4v_shapes shapes = { 0 };
    glm4v_shape *a = NULL, *b = NULL, *other = NULL;
    char text[64];
    CHECK_EQ(glm4v_shapes_take(&shapes, &a, schemas[0], tries, NULL), 0);
    CHECK_EQ(glm4v_shapes_take(&shapes, &b, schemas[0], tries, NULL), 0);
    CHECK(a == b);
    glm4v_shape_close(&b);
    for (int i = 1; i <= 2 * GLM4V_KEPT_SHAPES; i++) {
        snprintf(text, sizeof text,
                 "{\"type\":\"array\",\"maxItems\":0,\"minItems\":0,\"title\":\"%d\"}", i);
        CHECK_EQ(glm4v_shapes_take(&shapes, &b, text, tries, NULL), 0);
        glm4v_shape_close(&b);
    }
    CHECK_EQ(glm4v_shapes_take(&shapes, &other, schemas[0], tries, NULL), 0);
    CHECK(other != a); /* it was dropped from the list, and is here still */
    CHECK_STR(a->text, schemas[0]);
    CHECK(glm4v_shapes_take(&shapes, &b, "{\"type\":7}", tries, NULL) != 0);
    glm4v_shape_close(&a);
    glm4v_shape_close(&other);
    glm4v_shapes_clear(&shapes);
}

int main(void)
{
    if (glm4v_tokenizer_open_file(&tokenizer, TOKENIZER, NULL) ||
        glm4v_token_tries_open(&tries, tokenizer, glm4v_tokenizer_size(tokenizer) + 1, NULL))
        return 1;
    TEST(with_room_the_automaton_settles_what_may_come);
    TEST(near_the_end_what_may_come_can_be_completed);
    TEST(the_masks_that_are_kept_are_bounded_and_the_oldest_goes);
    TEST(shapes_are_shared_by_their_text_and_outlive_the_list);
    glm4v_token_tries_close(&tries);
    glm4v_tokenizer_close(&tokenizer);
    return test_end();
}
