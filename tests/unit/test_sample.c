/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Choosing a token: greedy, draws against their probabilities, bounds, penalty, masks, numbers that
 * are none. */
#include "base/mem.h"
#include "forward/sample.h"
#include "test.h"

enum { V = 200, DRAWS = 40000 };

static float logits[V], work[V];
static glm4v_candidate scratch[V];
static unsigned counts[V];

static int32_t next(glm4v_sampler *s, const int32_t *masked, size_t n_masked)
{
    uint64_t never[V / 64 + 1] = { 0 };
    for (size_t i = 0; i < n_masked; i++)
        never[masked[i] / 64] |= (uint64_t)1 << (masked[i] % 64);
    memcpy(work, logits, sizeof work);
    return glm4v_sampler_next(s, work, n_masked ? never : NULL, scratch);
}

static glm4v_sampler sampler(const glm4v_task *task)
{
    glm4v_sampler s;
    if (glm4v_sampler_init(&s, task, V, NULL))
        test_fail(__FILE__, __LINE__, "no sampler");
    return s;
}

static void fill(float value)
{
    for (int i = 0; i < V; i++)
        logits[i] = value;
}

static void draw_many(const glm4v_task *task)
{
    glm4v_sampler s = sampler(task);
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = next(&s, NULL, 0);
        if (id >= 0 && id < V)
            counts[id]++;
        else
            test_fail(__FILE__, __LINE__, "drew %d", id);
    }
    glm4v_sampler_clear(&s);
}

/* Five standard deviations around the expected count. */
static void check_share(int id, double p)
{
    double spread = 5 * sqrt(DRAWS * p * (1 - p)) + 1;
    if (fabs(counts[id] - DRAWS * p) > spread)
        test_fail(__FILE__, __LINE__, "id %d drawn %u times, expected %.0f +- %.0f", id, counts[id],
                  DRAWS * p, spread);
}

static void greedy_takes_the_largest_and_the_lowest_id_of_equals(void)
{
    glm4v_sampler s = sampler(&(glm4v_task) { 0 });
    fill(-1);
    logits[77] = logits[150] = 3;
    CHECK_EQ(next(&s, NULL, 0), 77);
    logits[150] = 4;
    CHECK_EQ(next(&s, NULL, 0), 150);
    fill(-1e30f);
    CHECK_EQ(next(&s, NULL, 0), 0);
}

static void masked_ids_are_never_chosen(void)
{
    static const int32_t masked[] = { 5, 7, 199 };
    glm4v_sampler greedy = sampler(&(glm4v_task) { 0 });
    fill(0);
    logits[5] = 9;
    logits[199] = 8;
    logits[6] = 1;
    CHECK_EQ(next(&greedy, masked, 3), 6);
    glm4v_sampler s = sampler(&(glm4v_task) { .temperature = 1, .seed = 4 });
    for (int i = 0; i < 2000; i++) {
        int32_t id = next(&s, masked, 3);
        CHECK(id != 5 && id != 7 && id != 199 && id >= 0);
    }
}

static void whole_words_of_a_mask_are_never_chosen(void)
{
    uint64_t never[V / 64 + 1];
    glm4v_sampler greedy = sampler(&(glm4v_task) { 0 });
    for (int32_t left = 0; left < V; left++) {
        for (int32_t i = 0; i < V; i++)
            work[i] = (float)((i * 37) % V);
        memset(never, 0xFF, sizeof never); /* beyond the vocabulary too */
        never[left / 64] &= ~((uint64_t)1 << (left % 64));
        CHECK_EQ(glm4v_sampler_next(&greedy, work, never, scratch), left);
    }
}

static void numbers_that_are_none_are_found_anywhere(void)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    glm4v_sampler s = sampler(&(glm4v_task) { 0 });
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++)
        for (int i = 0; i < V; i++) {
            fill(1);
            logits[i] = bad[b];
            CHECK_EQ(next(&s, NULL, 0), -1);
        }
    fill(3e38f);
    CHECK_EQ(next(&s, NULL, 0), 0);
}

static void a_seed_decides_the_draws(void)
{
    int32_t first[64];
    int same = 0;
    fill(0);
    for (uint64_t seed = 0; seed < 3; seed++)
        for (int again = 0; again < 2; again++) {
            glm4v_sampler s = sampler(&(glm4v_task) { .temperature = 1, .seed = seed });
            for (int i = 0; i < 64; i++) {
                int32_t id = next(&s, NULL, 0);
                if (again)
                    CHECK_EQ(id, first[i]);
                else if (seed)
                    same += id == first[i];
                first[i] = id;
            }
        }
    CHECK(same < 10); /* of 128; 0.6 by chance */
}

static void draws_follow_the_probabilities(void)
{
    double sum = 0, t = 0.7;
    for (int i = 0; i < V; i++) {
        logits[i] = (float)((i * 37) % 50) / 10;
        sum += exp(logits[i] / t);
    }
    draw_many(&(glm4v_task) { .temperature = 0.7f, .seed = 11 });
    for (int i = 0; i < V; i++)
        check_share(i, exp(logits[i] / t) / sum);
}

static void top_k_draws_from_the_k_best(void)
{
    fill(0);
    logits[3] = 2;
    logits[100] = 1;
    logits[60] = 1; /* as likely as 100, lower id: third best is 100 */
    draw_many(&(glm4v_task) { .temperature = 1, .top_k = 2, .seed = 5 });
    check_share(3, exp(2) / (exp(2) + exp(1)));
    check_share(60, exp(1) / (exp(2) + exp(1)));
    CHECK_EQ(counts[3] + counts[60], DRAWS);
    draw_many(&(glm4v_task) { .temperature = 2, .top_k = 1, .seed = 5 });
    CHECK_EQ(counts[3], DRAWS);
    draw_many(&(glm4v_task) { .temperature = 1, .top_k = 100000, .seed = 5 });
    check_share(3, exp(2) / (exp(2) + 2 * exp(1) + V - 3));
}

static void top_p_draws_from_the_smallest_set_that_reaches_p(void)
{
    fill(-100);
    logits[10] = logf(0.5f);
    logits[20] = logf(0.3f);
    logits[30] = logf(0.15f);
    logits[40] = logf(0.05f);
    draw_many(&(glm4v_task) { .temperature = 1, .top_p = 0.75f, .seed = 9 });
    check_share(10, 0.5 / 0.8);
    check_share(20, 0.3 / 0.8);
    CHECK_EQ(counts[10] + counts[20], DRAWS);
    draw_many(&(glm4v_task) { .temperature = 1, .top_p = 1e-5f, .seed = 9 });
    CHECK_EQ(counts[10], DRAWS);
    /* of 0.95: 0.855, all three */
    draw_many(&(glm4v_task) { .temperature = 1, .top_p = 0.9f, .top_k = 3, .seed = 9 });
    check_share(30, 0.15 / 0.95);
    /* of 0.8: 0.48, the first */
    draw_many(&(glm4v_task) { .temperature = 1, .top_p = 0.6f, .top_k = 2, .seed = 9 });
    CHECK_EQ(counts[10], DRAWS);
}

static void repetition_makes_seen_tokens_less_likely(void)
{
    glm4v_sampler s = sampler(&(glm4v_task) { .repetition_penalty = 1.5f });
    fill(-2);
    logits[8] = 3;
    logits[9] = 2.5f;
    CHECK_EQ(next(&s, NULL, 0), 8);
    glm4v_sampler_see(&s, 8);
    glm4v_sampler_see(&s, 8); /* counts once: 3 / 1.5 = 2 */
    CHECK_EQ(next(&s, NULL, 0), 9);
    logits[9] = 1.9f;
    CHECK_EQ(next(&s, NULL, 0), 8);
    for (int i = 0; i < V; i++)
        if (i != 100)
            glm4v_sampler_see(&s, i);
    fill(-2);
    CHECK_EQ(next(&s, NULL, 0), 100); /* the others are at -3 */
    glm4v_sampler_see(&s, -1);
    glm4v_sampler_see(&s, V);
    glm4v_sampler_clear(&s);
}

static void a_draw_allocates_nothing(void)
{
    glm4v_task task = { .temperature = 1, .top_p = 0.9f, .top_k = 50, .repetition_penalty = 1.1f };
    glm4v_sampler s = sampler(&task);
    fill(0);
    uint64_t calls = glm4v_mem_calls();
    for (int i = 0; i < 100; i++)
        glm4v_sampler_see(&s, next(&s, NULL, 0));
    CHECK_EQ(glm4v_mem_calls(), calls);
    glm4v_sampler_clear(&s);
    glm4v_mem_fail_at(1, false);
    CHECK_EQ(glm4v_sampler_init(&s, &(glm4v_task) { .repetition_penalty = 1.1f }, V, NULL),
             GLM4V_ERR_NOMEM);
    glm4v_mem_fail_at(0, false);
}

int main(void)
{
    TEST(greedy_takes_the_largest_and_the_lowest_id_of_equals);
    TEST(masked_ids_are_never_chosen);
    TEST(whole_words_of_a_mask_are_never_chosen);
    TEST(numbers_that_are_none_are_found_anywhere);
    TEST(a_seed_decides_the_draws);
    TEST(draws_follow_the_probabilities);
    TEST(top_k_draws_from_the_k_best);
    TEST(top_p_draws_from_the_smallest_set_that_reaches_p);
    TEST(repetition_makes_seen_tokens_less_likely);
    TEST(a_draw_allocates_nothing);
    return test_end();
}
