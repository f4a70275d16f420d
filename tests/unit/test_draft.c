/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where drafts are read off, how long they are, and what is kept of answers. */
#include <string.h>

#include "draft.h"
#include "test.h"

enum { ROOM = 4096 };

static glm4v_past past;
static int32_t text[ROOM];
static glm4v_drafter drafter;

/* An answer to question `key` begins behind a prompt without a word of it. */
static void begin(uint64_t key)
{
    static int32_t ids[] = { 900, 901, 902, 902, 902, 903 };
    static glm4v_image_run run = { .start = 2, .n = 3 };
    const glm4v_prompt prompt = { .ids = ids, .n_ids = 6, .runs = &run, .n_runs = 1 };
    glm4v_draft_begin(&drafter, &past, key, &prompt, text, ROOM);
}

static void note(const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        glm4v_draft_note(&drafter, ids[i]);
}

static void keep(uint64_t key, const int32_t *ids, int64_t n)
{
    begin(key);
    note(ids, n);
    glm4v_draft_keep(&past, &drafter);
}

static void check_draft(const int32_t *ids, int64_t n)
{
    CHECK_EQ(drafter.n, n);
    for (int64_t i = 0; i < n && i < drafter.n; i++)
        CHECK_EQ(drafter.ids[i], ids[i]);
}

static const int32_t answer[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static void a_first_answer_has_no_draft(void)
{
    begin(1);
    note(answer, 3);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(NULL, 0);
    glm4v_draft_judge(&drafter, &past, 0); /* no draft, no judgement */
}

static void the_second_answer_to_a_question_begins_with_a_whole_draft(void)
{
    keep(1, answer, 16);
    begin(1);
    note(answer, 1);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(answer + 1, 7);
    begin(2);
    note(answer, 1);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(NULL, 0); /* another question */
}

static void a_draft_is_no_longer_than_what_is_left(void)
{
    keep(1, answer, 16);
    begin(1);
    note(answer, 13);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(answer + 13, 3);
    glm4v_draft_make(&drafter, &past, 2);
    check_draft(answer + 13, 2);
    glm4v_draft_make(&drafter, &past, 0);
    check_draft(NULL, 0);
    note(answer + 13, 3);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(NULL, 0); /* the past answer ended here */
}

static void behind_a_replaced_word_the_answer_goes_on(void)
{
    static const int32_t other[] = { 1, 2, 77 };
    keep(1, answer, 16);
    begin(1);
    note(other, 2);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(answer + 2, 7);
    glm4v_draft_judge(&drafter, &past, 0);
    note(other + 2, 1);
    glm4v_draft_make(&drafter, &past, 7);
    CHECK(drafter.n > 0);
    check_draft(answer + 3, drafter.n);
}

static void inserted_and_omitted_words_are_aligned_again(void)
{
    static const int32_t other[] = { 1, 2, 77, 78, 79, 80, 3, 9, 10 };
    keep(1, answer, 16);
    begin(1);
    note(other, 6);
    glm4v_draft_make(&drafter, &past, 7);
    CHECK_EQ(drafter.n, 0); /* too long ago to be a replaced word */
    note(other + 6, 1);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(answer + 3, 7);
    note(other + 7, 2);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(answer + 10, 6);
}

static void the_longest_agreement_wins_then_the_newest_answer(void)
{
    static const int32_t a[] = { 5, 1, 2, 30, 31 }, b[] = { 6, 1, 2, 40, 41 };
    static const int32_t first[] = { 5, 1, 2 }, second[] = { 8, 1, 2 };
    keep(1, a, 5);
    keep(1, b, 5);
    begin(1);
    note(first, 3);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(a + 3, 2);
    begin(1);
    note(second, 3);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(b + 3, 2);
}

static void a_place_that_is_due_goes_before_the_same_words_elsewhere(void)
{
    static const int32_t ids[] = { 50, 9, 51, 9, 52, 9, 53 };
    keep(1, ids, 7);
    begin(1);
    note((const int32_t[]) { 60, 60, 60, 9 }, 4); /* the fourth word of both */
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(ids + 4, 3);
}

static void the_own_text_is_read_from_two_tokens_on(void)
{
    static const int32_t own[] = { 21, 22, 23, 24, 90, 22 };
    begin(1);
    note(own, 6);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(NULL, 0);
    note((const int32_t[]) { 23 }, 1);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(own + 3, 1); /* the first of this kind is short */
    CHECK_EQ(drafter.source, GLM4V_DRAFT_TEXT);
    glm4v_draft_judge(&drafter, &past, 1);
    note(own + 3, 1);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft(own + 4, 2);
}

static void the_prompt_counts_without_its_pictures(void)
{
    begin(1);
    CHECK_EQ(drafter.n_text, 3);
    note((const int32_t[]) { 900, 901 }, 2);
    glm4v_draft_make(&drafter, &past, 7);
    check_draft((const int32_t[]) { 903 }, 1);
}

static void drafts_grow_to_seven_while_they_are_right(void)
{
    static int32_t own[200];
    static const int64_t lengths[] = { 1, 2, 4, 7, 7 };
    for (int32_t i = 0; i < 200; i++)
        own[i] = 100 + i % 100;
    begin(1);
    note(own, 110);
    for (int i = 0, at = 110; i < 5; i++) {
        glm4v_draft_make(&drafter, &past, 7);
        CHECK_EQ(drafter.n, lengths[i]);
        const int64_t n = drafter.n;
        glm4v_draft_judge(&drafter, &past, n);
        note(own + at, n + 1);
        at += (int)n + 1;
    }
}

/* 32 tokens earn a row. */
static void wrong_drafts_end_until_tokens_have_earned_another(void)
{
    int64_t drafted = 0;
    keep(1, answer, 16);
    begin(1);
    for (int i = 0; i < 320; i++) {
        note((const int32_t[]) { 3 }, 1); /* always followed by something else */
        glm4v_draft_make(&drafter, &past, 7);
        drafted += drafter.n;
        glm4v_draft_judge(&drafter, &past, 0);
    }
    CHECK(drafted <= 14 + 320 / 32);
    CHECK(drafted >= 320 / 32);
}

static void a_stream_whose_answers_differ_has_two_rows_an_answer(void)
{
    int64_t drafted = 0;
    for (int32_t i = 0; i < 50; i++) {
        begin(1);
        for (int32_t k = 0; k < 24; k++) {
            const int32_t id = k % 3 ? 5000 + 100 * i + k : 7;
            glm4v_draft_note(&drafter, id);
            glm4v_draft_make(&drafter, &past, 7);
            drafted += drafter.n;
            glm4v_draft_judge(&drafter, &past, 0);
        }
        glm4v_draft_keep(&past, &drafter);
    }
    CHECK(drafted <= 14 + 50 * (2 + 1));
}

static void after_a_cut_a_scene_that_stays_has_whole_drafts_soon(void)
{
    static const int32_t scene[] = {
        31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46
    };
    keep(1, answer, 16);
    begin(1);
    for (int i = 0; i < 14; i++) { /* all credit is lost */
        note((const int32_t[]) { 3 }, 1);
        glm4v_draft_make(&drafter, &past, 7);
        glm4v_draft_judge(&drafter, &past, 0);
    }
    keep(1, scene, 16);
    begin(1);
    int64_t steps = 0;
    for (int64_t at = 1; at < 16; steps++) {
        note(steps ? scene + at - 1 - drafter.n : scene, 1);
        glm4v_draft_make(&drafter, &past, 7);
        const int64_t n = drafter.n;
        glm4v_draft_judge(&drafter, &past, n);
        note(scene + at, n);
        at += n + 1;
        drafter.n = 0;
    }
    CHECK(steps <= 5);
}

static void the_same_answer_is_kept_once_and_eight_of_a_question(void)
{
    int32_t ids[4] = { 1, 2, 3, 4 };
    for (int i = 0; i < 5; i++)
        keep(1, answer, 16);
    CHECK_EQ(past.n_answers, 1);
    CHECK_EQ(past.n_ids, 16);
    for (int i = 0; i < 20; i++) {
        ids[0] = i;
        keep(1, ids, 4);
    }
    CHECK_EQ(past.n_answers, GLM4V_PAST_OF_KEY);
    CHECK_EQ(past.n_ids, GLM4V_PAST_OF_KEY * 4);
    keep(1, NULL, 0); /* an empty one is none */
    CHECK_EQ(past.n_answers, GLM4V_PAST_OF_KEY);
}

static void the_oldest_answers_go_where_there_is_no_room(void)
{
    static int32_t ids[3000];
    for (int32_t i = 0; i < 3000; i++)
        ids[i] = i;
    for (uint64_t key = 1; key <= 3000; key++) {
        keep(key, ids + key % 7, key % 2 ? 3 : 1 + (int64_t)key % 2000);
        CHECK(past.n_answers <= GLM4V_PAST_ANSWERS && past.n_ids <= GLM4V_PAST_IDS);
    }
    int64_t n = 0;
    for (int64_t i = 0; i < past.n_answers; i++) {
        const glm4v_past_answer *a = &past.answers[i];
        CHECK_EQ(a->start, n);
        CHECK_EQ(past.ids[a->start], (int64_t)(a->key % 7));
        n += a->n;
    }
    CHECK_EQ(n, past.n_ids);
}

static void text_beyond_its_room_is_left_out(void)
{
    begin(1);
    for (int32_t i = 0; i < ROOM + 100; i++)
        glm4v_draft_note(&drafter, i);
    CHECK_EQ(drafter.n_text, ROOM);
    glm4v_draft_make(&drafter, &past, 7);
    glm4v_draft_keep(&past, &drafter);
    CHECK_EQ(past.answers[0].n, ROOM - 3);
}

static void without_a_text_nothing_is_drafted(void)
{
    memset(&drafter, 0, sizeof drafter);
    note(answer, 5);
    glm4v_draft_make(&drafter, &past, 7);
    CHECK_EQ(drafter.n, 0);
    glm4v_draft_keep(&past, &drafter);
    CHECK_EQ(past.n_answers, 0);
}

/* ---- the MTP layer ---- */

/* Nothing is read off; a token each time. */
static void begin_mtp(uint64_t key)
{
    begin(key);
    glm4v_draft_begin_mtp(&drafter, &past);
}

/* The next length, of which so many are right. */
static int64_t draft_mtp(int32_t id, int64_t right)
{
    glm4v_draft_note(&drafter, id);
    glm4v_draft_make(&drafter, &past, 7);
    const int64_t n = drafter.n;
    if (n)
        CHECK_EQ(drafter.source, GLM4V_DRAFT_MTP);
    glm4v_draft_judge(&drafter, &past, right < n ? right : n);
    return n;
}

static void the_mtp_layer_drafts_where_nothing_is_read_off(void)
{
    keep(1, answer, 16);
    begin_mtp(1);
    CHECK(drafter.mtp);
    note(answer, 3);
    glm4v_draft_make(&drafter, &past, 7);
    CHECK_EQ(drafter.source, GLM4V_DRAFT_PAST);
    check_draft(answer + 3, 7);
    begin_mtp(2);
    note(answer, 3);
    glm4v_draft_make(&drafter, &past, 7);
    CHECK_EQ(drafter.source, GLM4V_DRAFT_MTP);
    CHECK_EQ(drafter.n, 2);
    glm4v_draft_make(&drafter, &past, 1);
    CHECK_EQ(drafter.n, 1);
}

static void its_drafts_grow_one_by_one_and_shrink_to_half(void)
{
    static const int64_t grown[] = { 2, 3, 4, 5, 6, 7, 7 }, shrunk[] = { 7, 4, 2, 1, 1 };
    begin_mtp(1);
    for (int32_t i = 0; i < 7; i++)
        CHECK_EQ(draft_mtp(1000 + i, 7), grown[i]);
    for (int32_t i = 0; i < 5; i++)
        CHECK_EQ(draft_mtp(2000 + i, 0), shrunk[i]);
    CHECK_EQ(past.mtp.drafted, 34 + 15);
    CHECK_EQ(past.mtp.accepted, 34);
}

/* What is wrong takes the credit of all questions: eight tokens at first, then one in 96. */
static void a_layer_that_is_wrong_rests_for_all_questions(void)
{
    int32_t id = 1000;
    int64_t drafted = 0, tried = 0;
    begin_mtp(1);
    for (int i = 0; i < 40; i++)
        drafted += draft_mtp(id++, 0);
    CHECK_EQ(drafted, 8);
    CHECK(!drafter.mtp);
    for (uint64_t key = 2; key < 50; key++) {
        glm4v_draft_keep(&past, &drafter); /* 40 tokens */
        begin_mtp(key);
        tried += drafter.mtp;
        for (int i = 0; i < 40; i++)
            drafted += draft_mtp(id++, 0);
    }
    CHECK(drafted > 8 && drafted <= 8 + 48 * 40 / 96);
    CHECK(tried > 0 && tried <= 48 * 40 / (4 * 96));
}

/* A third of the tokens pays for the others. */
static void a_layer_that_is_right_at_times_goes_on(void)
{
    begin_mtp(1);
    for (int32_t i = 0; i < 400; i++)
        CHECK(draft_mtp(1000 + i, i % 2) > 0);
    CHECK(drafter.mtp);
}

/* Right ones of 9 that are drafted one by one. */
static bool goes_on(int32_t right)
{
    past.mtp.length = 1;
    begin_mtp(1);
    for (int32_t i = 0; i < 900 && drafter.mtp; i++) {
        draft_mtp(1000 + i, i % 9 < right);
        past.mtp.length = 1;
    }
    return drafter.mtp;
}

static void on_an_asynchronous_device_half_of_them_must_be_right(void)
{
    CHECK(goes_on(5));
    CHECK(!goes_on(4));
}

static void elsewhere_a_third_is_enough(void)
{
    CHECK(goes_on(4));
    CHECK(!goes_on(2));
}

static bool asynchronous;

static void run(const char *name, void (*fn)(void))
{
    if (glm4v_past_open(&past, asynchronous, NULL))
        return;
    test_run(name, fn);
    glm4v_past_close(&past);
}

#define RUN(fn) run(#fn, fn)

int main(void)
{
    RUN(a_first_answer_has_no_draft);
    RUN(the_second_answer_to_a_question_begins_with_a_whole_draft);
    RUN(a_draft_is_no_longer_than_what_is_left);
    RUN(behind_a_replaced_word_the_answer_goes_on);
    RUN(inserted_and_omitted_words_are_aligned_again);
    RUN(the_longest_agreement_wins_then_the_newest_answer);
    RUN(a_place_that_is_due_goes_before_the_same_words_elsewhere);
    RUN(the_own_text_is_read_from_two_tokens_on);
    RUN(the_prompt_counts_without_its_pictures);
    RUN(drafts_grow_to_seven_while_they_are_right);
    RUN(wrong_drafts_end_until_tokens_have_earned_another);
    RUN(a_stream_whose_answers_differ_has_two_rows_an_answer);
    RUN(after_a_cut_a_scene_that_stays_has_whole_drafts_soon);
    RUN(the_same_answer_is_kept_once_and_eight_of_a_question);
    RUN(the_oldest_answers_go_where_there_is_no_room);
    RUN(text_beyond_its_room_is_left_out);
    RUN(without_a_text_nothing_is_drafted);
    RUN(the_mtp_layer_drafts_where_nothing_is_read_off);
    RUN(its_drafts_grow_one_by_one_and_shrink_to_half);
    RUN(a_layer_that_is_wrong_rests_for_all_questions);
    RUN(a_layer_that_is_right_at_times_goes_on);
    RUN(elsewhere_a_third_is_enough);
    asynchronous = true;
    RUN(on_an_asynchronous_device_half_of_them_must_be_right);
    return test_end();
}
