/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers from a closed list: probabilities against a plain pass over each choice alone, the same
 * bytes in any company, refusals, verdicts. test-choices [glm45|chatglm4v]: of the other
 * families. */
#include "base/mem.h"
#include "fixture.h"
#include "forward/context.h"
#include "forward/position.h"
#include "shape/choices.h"

enum { MOST = 300 };

static const char *const defects[] = { "ok",           "scratch",    "dent",
                                       "den",          "scratched",  "missing part",
                                       "\xe4\xb8\x80", " the image", "a\nb" };
enum { N_DEFECTS = sizeof defects / sizeof *defects };

static glm4v_task asking(const char *prompt, const char *const *choices, uint32_t n)
{
    return (glm4v_task) { .prompt = prompt, .choices = choices, .n_choices = n };
}

/* ---- the reference: one plain prefill for each choice, its own sum in double ---- */

static double log_share(const float *logits, const int32_t *ids, int32_t n)
{
    double all = 0, some = 0, max = -1e300;
    for (int32_t i = 0; i < TINY_VOCAB; i++)
        max = fmax(max, logits[i]);
    for (int32_t i = 0; i < TINY_VOCAB; i++)
        all += exp(logits[i] - max);
    for (int32_t i = 0; i < n; i++)
        some += exp(logits[ids[i]] - max);
    return log(some) - log(all);
}

static void append(glm4v_prompt *prompt, const char *text)
{
    glm4v_ids ids = { prompt->ids, prompt->n_ids, prompt->capacity };
    CHECK_EQ(glm4v_tokenizer_encode(fixture_model->tokenizer, text, strlen(text), &ids, NULL), 0);
    prompt->ids = ids.ids;
    prompt->n_ids = ids.n;
    prompt->capacity = ids.capacity;
}

static double reference(glm4v_context *context, const glm4v_task *task, const char *choice)
{
    static float logits[MOST * TINY_VOCAB];
    static int32_t position[3 * MOST];
    const glm4v_model *m = fixture_model;
    const glm4v_prompt_maker with = { m->tokenizer, &m->chat, &m->config };
    glm4v_prompt prompt = { 0 };
    int32_t next;
    CHECK_EQ(glm4v_prompt_build(&prompt, &with, task, NULL, 0, NULL), 0);
    append(&prompt, glm4v_chat_lead(&m->chat));
    const size_t start = prompt.n_ids;
    append(&prompt, choice);
    const size_t n = prompt.n_ids;
    CHECK(n <= MOST);
    glm4v_positions(position, &next, &prompt, &m->config);
    const glm4v_prefill_pass pass = { .prompt = &prompt, .position = position, .n = (uint32_t)n };
    CHECK_EQ(glm4v_prefill(context, &pass, NULL, logits, NULL, NULL), 0);
    double sum = 0;
    for (size_t i = start; i < n; i++)
        sum += log_share(logits + (i - 1) * TINY_VOCAB, &prompt.ids[i], 1);
    sum += log_share(logits + (n - 1) * TINY_VOCAB, m->config.stop_ids, m->config.n_stop_ids);
    glm4v_prompt_clear(&prompt);
    return sum;
}

static void check_against_reference(glm4v_engine *engine, const char *prompt, uint32_t n)
{
    const glm4v_task task = asking(prompt, defects, n);
    const glm4v_context_size size = { .slots = 1, .length = MOST, .max_rows = MOST };
    glm4v_context *context = NULL;
    glm4v_result *result = NULL;
    double expected[N_DEFECTS], sum = 0;
    uint32_t best = 0;
    CHECK_EQ(glm4v_context_open(&context, fixture_model, size, NULL), 0);
    for (uint32_t i = 0; i < n; i++) {
        expected[i] = exp(reference(context, &task, defects[i]));
        best = expected[i] > expected[best] ? i : best;
        sum += expected[i];
    }
    glm4v_context_close(&context);
    CHECK_EQ(glm4v_describe(engine, &task, &result, NULL), 0);
    REQUIRE(result);
    CHECK_EQ(result->n_probabilities, n);
    for (uint32_t i = 0; i < n; i++)
        if (fabs(result->probabilities[i] - expected[i] / sum) > 1e-12)
            test_fail(__FILE__, __LINE__, "\"%s\" has %.17g, alone %.17g", defects[i],
                      result->probabilities[i], expected[i] / sum);
    CHECK_EQ(result->choice_index, best);
    CHECK_STR(result->choice, defects[best]);
    CHECK(result->probability == result->probabilities[best]);
    CHECK_EQ(result->finish, GLM4V_FINISH_STOP);
    glm4v_result_free(&result);
}

static void each_choice_has_the_probability_of_a_pass_of_its_own(void)
{
    static const char *const prompts[] = { "Is it good?",
                                           "What is wrong with this part, and where?", "?" };
    glm4v_engine *engine = fixture_engine(NULL);
    REQUIRE(engine);
    for (size_t i = 0; i < 3; i++)
        for (uint32_t n = 1; n <= N_DEFECTS; n += i ? 3 : 1)
            check_against_reference(engine, prompts[i], n);
    glm4v_engine_close(&engine);
}

static void sampling_options_change_nothing(void)
{
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_result *plain = NULL, *hot = NULL;
    glm4v_task task = asking("Is it good?", defects, N_DEFECTS);
    REQUIRE(engine);
    CHECK_EQ(glm4v_describe(engine, &task, &plain, NULL), 0);
    task.temperature = 2;
    task.top_k = 1;
    task.top_p = 0.1f;
    task.repetition_penalty = 2;
    task.seed = 7;
    task.max_tokens = 1;
    CHECK_EQ(glm4v_describe(engine, &task, &hot, NULL), 0);
    REQUIRE(plain && hot);
    CHECK_STR(hot->choice, plain->choice);
    CHECK(!memcmp(hot->probabilities, plain->probabilities, N_DEFECTS * sizeof(double)));
    glm4v_result_free(&plain);
    glm4v_result_free(&hot);
    glm4v_engine_close(&engine);
}

/* ---- company ---- */

typedef struct {
    double probabilities[N_DEFECTS];
    char text[64], streamed[64];
    int status;
    uint32_t choice;
} outcome;

static void on_text(void *user, glm4v_text_part part, const char *text)
{
    outcome *o = user;
    const size_t used = strlen(o->streamed);
    snprintf(o->streamed + used, sizeof o->streamed - used, "%s", text);
}

static void on_done(void *user, const glm4v_result *result)
{
    outcome *o = user;
    o->status = result->status;
    o->choice = result->choice_index;
    snprintf(o->text, sizeof o->text, "%s", result->text);
    if (result->probabilities)
        memcpy(o->probabilities, result->probabilities,
               result->n_probabilities * sizeof *o->probabilities);
}

enum { CROWD = 9 };

/* Every third of the crowd writes freely, with draws; the others choose, each from another list and
 * about another picture. */
static void run_crowd(glm4v_engine *engine, outcome *outcomes, bool together)
{
    glm4v_request *requests[CROWD];
    glm4v_image images[CROWD];
    memset(outcomes, 0, CROWD * sizeof *outcomes);
    for (uint32_t i = 0; i < CROWD; i++) {
        images[i] = picture(i, 60 + 20 * (int32_t)i, 80);
        glm4v_task task = asking("Which?", defects + i % 3, i % 3 ? 3 + i % 5 : 0);
        task.images = &images[i];
        task.n_images = 1;
        task.max_tokens = 12;
        task.temperature = 1;
        task.repetition_penalty = 1.2f;
        task.seed = i;
        task.on_text = on_text;
        task.on_done = on_done;
        task.user = &outcomes[i];
        CHECK_EQ(glm4v_engine_submit(engine, &task, &requests[i], NULL), 0);
        if (!together)
            CHECK_EQ(glm4v_request_wait(requests[i], UINT64_MAX), 0);
    }
    for (uint32_t i = 0; i < CROWD; i++) {
        CHECK_EQ(glm4v_request_wait(requests[i], 60000000000u), 0);
        glm4v_request_unref(&requests[i]);
    }
}

static void company_does_not_change_a_byte(void)
{
    static outcome alone[CROWD], together[CROWD];
    static const uint32_t batches[] = { 2, 4, 16 };
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    REQUIRE(engine);
    run_crowd(engine, alone, false);
    glm4v_engine_close(&engine);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        engine = fixture_engine(&(glm4v_engine_options) { .max_batch = batches[i] });
        REQUIRE(engine);
        run_crowd(engine, together, true);
        glm4v_engine_close(&engine);
        for (int k = 0; k < CROWD; k++) {
            CHECK_EQ(together[k].status, 0);
            CHECK(!memcmp(&together[k], &alone[k], sizeof(outcome)));
        }
    }
    for (int k = 0; k < CROWD; k++)
        if (k % 3)
            CHECK_STR(alone[k].streamed, alone[k].text);
}

static void shared_beginnings_are_computed_once(void)
{
    static const char *const words[] = { "Describe the image", "Describe the imag",
                                         "Describe the part", "Describe" };
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_engine_stats stats = { 0 };
    glm4v_choices *tree = NULL;
    const glm4v_task task = asking("Which?", words, 4);
    REQUIRE(engine);
    REQUIRE(!glm4v_choices_open(&tree, fixture_model->tokenizer, words, 4, NULL));
    CHECK(tree->n_nodes < 4 * tree->longest);
    CHECK_EQ(glm4v_describe(engine, &task, NULL, NULL), 0);
    CHECK_EQ(glm4v_engine_get_stats(engine, &stats, NULL), 0);
    CHECK_EQ(stats.decode_rows, tree->n_nodes - 1); /* the root is the prompt's last row */
    /* all in one step where the device takes branches, else a step a path */
    const bool branches = fixture_model->stages[0].backend->traits->branches;
    const int64_t rows = GLM4V_SPAN_ROWS;
    CHECK((int64_t)stats.decode_steps <= (branches ? (tree->n_nodes + rows - 2) / rows : 4));
    glm4v_free(tree);
    glm4v_engine_close(&engine);
}

static void equal_probabilities_choose_the_first(void)
{
    glm4v_choices *tree = NULL;
    static const float logits[TINY_VOCAB];
    const glm4v_stop_ids stop = { fixture_model->config.stop_ids, 1, TINY_VOCAB };
    static const char *const letters[] = { "z", "b", "a" };
    REQUIRE(!glm4v_choices_open(&tree, fixture_model->tokenizer, letters, 3, NULL));
    for (uint32_t i = 0; i < tree->n_nodes; i++)
        CHECK(glm4v_choices_score(tree, i, logits, &stop));
    CHECK_EQ(glm4v_choices_finish(tree), 0);
    for (int i = 0; i < 3; i++)
        CHECK(fabs(tree->score[i] - 1.0 / 3) < 1e-15);
    glm4v_free(tree);
}

/* Negative control: a score that leaves the end of the answer out prefers beginnings, and the
 * reference would tell. */
static void the_end_of_the_answer_counts(void)
{
    glm4v_choices *tree = NULL;
    float logits[TINY_VOCAB] = { 0 };
    glm4v_ids ids = { 0 };
    static const char *const words[] = { "a", "aaa" };
    const glm4v_stop_ids stop = { fixture_model->config.stop_ids, 1, TINY_VOCAB };
    REQUIRE(!glm4v_choices_open(&tree, fixture_model->tokenizer, words, 2, NULL));
    REQUIRE(!glm4v_tokenizer_encode(fixture_model->tokenizer, "a", 1, &ids, NULL));
    logits[ids.ids[0]] = 20; /* the model goes on with a, and hardly ever stops */
    for (uint32_t i = 0; i < tree->n_nodes; i++)
        CHECK(glm4v_choices_score(tree, i, logits, &stop));
    logits[stop.ids[0]] = 40;
    for (uint32_t i = tree->n_nodes; i-- > 0;) /* but behind aaa it does */
        if (tree->nodes[i].choice == 1)
            CHECK(glm4v_choices_score(tree, i, logits, &stop));
    CHECK_EQ(glm4v_choices_finish(tree), 1);
    CHECK(tree->score[1] > 0.999);
    glm4v_free(ids.ids);
    glm4v_free(tree);
}

/* ---- reasoning ---- */

static void a_request_that_reasons_chooses_afterwards(void)
{
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_task task = asking("Think.", defects, 4);
    int reasoned = 0;
    REQUIRE(engine);
    for (uint32_t seed = 0; seed < 20; seed++) {
        glm4v_result *result = NULL;
        task.thinking = 1;
        task.max_reasoning_tokens = 1 + seed % 7;
        task.temperature = 1.5f;
        task.seed = seed;
        CHECK_EQ(glm4v_describe(engine, &task, &result, NULL), 0);
        REQUIRE(result);
        CHECK_STR(result->choice, defects[result->choice_index]);
        CHECK_STR(result->text, defects[result->choice_index]);
        CHECK_EQ(result->n_probabilities, 4);
        reasoned += *result->reasoning != 0;
        glm4v_result_free(&result);
    }
    CHECK(fixture_model->chat.think < 0 || reasoned > 5);
    glm4v_engine_close(&engine);
}

static void the_context_holds_reasoning_and_the_longest_choice(void)
{
    glm4v_engine *engine =
        fixture_engine(&(glm4v_engine_options) { .context_length = 64, .prefix_tokens = 8 });
    glm4v_task task = asking("Think.", defects, N_DEFECTS);
    REQUIRE(engine);
    task.thinking = 1;
    task.temperature = 1.5f;
    for (task.seed = 0; task.seed < 10; task.seed++) {
        glm4v_result *result = NULL;
        CHECK_EQ(glm4v_describe(engine, &task, &result, NULL), 0);
        REQUIRE(result);
        CHECK(*result->choice);
        glm4v_result_free(&result);
    }
    glm4v_engine_close(&engine);
}

/* ---- refusals ---- */

static void check_refused(glm4v_engine *engine, const char *const *choices, uint32_t n,
                          const char *why)
{
    const glm4v_task task = asking("Which?", choices, n);
    glm4v_error err = { 0 };
    CHECK_EQ(glm4v_engine_submit(engine, &task, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, why);
}

static void bad_choices_are_refused_at_once(void)
{
    static char longest[GLM4V_MAX_CHOICE_BYTES + 2], names[GLM4V_MAX_CHOICES + 1][8];
    static const char *many[GLM4V_MAX_CHOICES + 1];
    const char *const too_long[] = { "a", longest };
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_error err = { 0 };
    REQUIRE(engine);
    check_refused(engine, (const char *const[]) { "a", "" }, 2, "choice 2 is empty");
    check_refused(engine, (const char *const[]) { NULL }, 1, "choice 1 is empty");
    check_refused(engine, (const char *const[]) { "b", "a", "b" }, 3, "choices 1 and 3 are both");
    check_refused(engine, (const char *const[]) { "\xff" }, 1, "choice 1 is not UTF-8");
    check_refused(engine, NULL, 3, "the pointer is NULL");
    memset(longest, 'a', GLM4V_MAX_CHOICE_BYTES + 1);
    check_refused(engine, too_long, 2, "choice 2 has 1025 bytes, at most 1024");
    for (uint32_t i = 0; i <= GLM4V_MAX_CHOICES; i++) {
        snprintf(names[i], sizeof names[i], "c%u", i);
        many[i] = names[i];
    }
    check_refused(engine, many, GLM4V_MAX_CHOICES + 1, "257 choices, at most 256");
    glm4v_task task = asking("Which?", many, GLM4V_MAX_CHOICES);
    CHECK_EQ(glm4v_describe(engine, &task, NULL, &err), 0);
    longest[GLM4V_MAX_CHOICE_BYTES] = 0;
    task = asking("Which?", too_long, 2);
    CHECK_EQ(glm4v_describe(engine, &task, NULL, &err), 0);
    glm4v_engine_close(&engine);
    engine = fixture_engine(&(glm4v_engine_options) { .context_length = 64, .prefix_tokens = 8 });
    REQUIRE(engine);
    CHECK_EQ(glm4v_describe(engine, &task, NULL, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "the longest choice");
    glm4v_engine_close(&engine);
}

static void a_late_request_has_no_choice(void)
{
    glm4v_engine *engine = fixture_engine(NULL);
    glm4v_task task = asking("Which?", defects, N_DEFECTS);
    outcome o = { .choice = 9 };
    glm4v_request *request = NULL;
    REQUIRE(engine);
    task.deadline = 1;
    task.on_done = on_done;
    task.user = &o;
    CHECK_EQ(glm4v_engine_submit(engine, &task, &request, NULL), 0);
    CHECK_EQ(glm4v_request_wait(request, UINT64_MAX), 0);
    glm4v_request_unref(&request);
    CHECK_EQ(o.status, GLM4V_ERR_DEADLINE);
    CHECK(!o.probabilities[0] && !o.text[0]);
    glm4v_engine_close(&engine);
}

static void every_allocation_may_fail(void)
{
    const size_t live = glm4v_mem_live();
    glm4v_engine *engine = fixture_engine(&(glm4v_engine_options) { .max_batch = 1 });
    const glm4v_task task = asking("Which?", defects, N_DEFECTS);
    glm4v_error err = { 0 };
    glm4v_result *result = NULL;
    REQUIRE(engine);
    CHECK_EQ(glm4v_describe(engine, &task, NULL, NULL), 0);
    int rc = GLM4V_ERR_NOMEM;
    for (uint64_t nth = 1; rc == GLM4V_ERR_NOMEM && nth < 200; nth++) {
        glm4v_mem_fail_at(nth, false);
        rc = glm4v_describe(engine, &task, &result, &err);
        glm4v_mem_fail_at(0, false);
        CHECK(rc == 0 || (rc == GLM4V_ERR_NOMEM && err.code == rc && err.msg[0]));
    }
    CHECK_EQ(rc, 0);
    glm4v_result_free(&result);
    glm4v_engine_close(&engine);
    CHECK_EQ(glm4v_mem_live(), live);
}

/* ---- verdicts ---- */

static void verdicts_follow_the_rule(void)
{
    static const struct {
        double p[3];
        unsigned char fails[3];
        double thresholds[3]; /* 0: NULL */
        glm4v_verdict expected;
    } cases[] = {
        { { 0.6, 0.3, 0.1 }, { 0, 1, 1 }, { 0 }, GLM4V_VERDICT_PASS },
        { { 0.5, 0.4, 0.1 }, { 0, 1, 1 }, { 0 }, GLM4V_VERDICT_PASS },
        { { 0.4, 0.5, 0.1 }, { 0, 1, 1 }, { 0 }, GLM4V_VERDICT_FAIL },
        { { 0.4, 0.35, 0.25 }, { 0, 1, 1 }, { 0 }, GLM4V_VERDICT_UNKNOWN },
        { { 0.35, 0.4, 0.25 }, { 0, 1, 1 }, { 0 }, GLM4V_VERDICT_UNKNOWN },
        { { 0.6, 0.3, 0.1 }, { 0, 1, 1 }, { 1, 0.25, 0.4 }, GLM4V_VERDICT_FAIL }, /* not chosen */
        { { 0.7, 0.2, 0.1 }, { 0, 1, 1 }, { 0.8, 0.25, 0.4 }, GLM4V_VERDICT_UNKNOWN },
        { { 0.5, 0.5, 0 }, { 0, 1, 1 }, { 0.5, 0.6, 0.5 }, GLM4V_VERDICT_PASS }, /* tie: first */
        { { 0.5, 0.5, 0 }, { 1, 0, 1 }, { 0.6, 0.5, 0.5 }, GLM4V_VERDICT_UNKNOWN },
        { { 1, 0, 0 }, { 0, 0, 0 }, { 1, 1, 1 }, GLM4V_VERDICT_PASS },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_EQ(glm4v_decide(cases[i].p, cases[i].fails,
                              cases[i].thresholds[0] ? cases[i].thresholds : NULL, 3),
                 cases[i].expected);
    CHECK_EQ(glm4v_decide(NULL, NULL, NULL, 0), GLM4V_VERDICT_UNKNOWN);
    CHECK_STR(glm4v_verdict_name(GLM4V_VERDICT_PASS), "pass");
    CHECK_STR(glm4v_verdict_name(GLM4V_VERDICT_FAIL), "fail");
    CHECK_STR(glm4v_verdict_name(GLM4V_VERDICT_UNKNOWN), "unknown");
    CHECK_STR(glm4v_verdict_name((glm4v_verdict)9), "unknown");
}

int main(int argc, char **argv)
{
    const char *family = argc > 1 ? argv[1] : "";
    if (!fixture_open(&(tiny_model_options) { .glm45 = !strcmp(family, "glm45"),
                                              .chatglm4v = !strcmp(family, "chatglm4v") }))
        return 1;
    TEST(each_choice_has_the_probability_of_a_pass_of_its_own);
    TEST(sampling_options_change_nothing);
    TEST(company_does_not_change_a_byte);
    TEST(shared_beginnings_are_computed_once);
    TEST(a_request_that_reasons_chooses_afterwards);
    TEST(the_context_holds_reasoning_and_the_longest_choice);
    TEST(a_late_request_has_no_choice);
    if (!*family) {
        TEST(equal_probabilities_choose_the_first);
        TEST(the_end_of_the_answer_counts);
        TEST(bad_choices_are_refused_at_once);
        TEST(every_allocation_may_fail);
        TEST(verdicts_follow_the_rule);
    }
    fixture_close();
    return test_end();
}
