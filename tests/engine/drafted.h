/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of drafts share: many requests, some at once, and the records of the same requests
 * with drafts and without, which must hold the same bytes. */
#ifndef GLM4V_TEST_DRAFTED_H
#define GLM4V_TEST_DRAFTED_H

#include "fixture.h"

enum { AT_ONCE = 8, MOST = 1000 };

static record alone[MOST], others[MOST]; /* without drafts; with them */

/* How requests are asked. task: request i, whose picture goes into *image; its on_done, NULL =
 * record_done. */
typedef struct {
    glm4v_task (*task)(uint32_t i, glm4v_image *image);
    void (*on_done)(void *user, const glm4v_result *result);
    glm4v_speculation speculation;
} drafted_how;

/* Keep `at_once` of n requests queued. */
static void run_all(glm4v_engine *engine, record *records, uint32_t n, uint32_t at_once,
                    const drafted_how *how)
{
    glm4v_request *requests[AT_ONCE] = { 0 };
    glm4v_image images[AT_ONCE];
    for (uint32_t i = 0; i < n + at_once; i++) {
        glm4v_request **request = &requests[i % at_once];
        if (*request)
            CHECK_EQ(glm4v_request_wait(*request, 60000000000u), 0);
        glm4v_request_unref(request);
        if (i >= n)
            continue;
        glm4v_task task = how->task(i, &images[i % at_once]);
        task.speculation = how->speculation;
        task.on_text = record_text;
        task.on_done = how->on_done ? how->on_done : record_done;
        task.user = memset(&records[i], 0, sizeof records[i]);
        CHECK_EQ(glm4v_engine_submit(engine, &task, request, NULL), 0);
    }
}

static void check_same(uint32_t n)
{
    for (uint32_t i = 0; i < n && test_ok; i++) {
        const record *a = &alone[i], *b = &others[i];
        CHECK_STR(b->answer, a->answer);
        CHECK_STR(b->reasoning, a->reasoning);
        CHECK_STR(b->text, a->text);
        CHECK_EQ(b->status, a->status);
        CHECK_EQ(b->finish, a->finish);
        CHECK_EQ(b->numbers.output_tokens, a->numbers.output_tokens);
        CHECK_EQ(a->status, 0);
        CHECK_EQ(a->numbers.drafted_tokens, 0);
        if (!test_ok)
            printf("# request %u\n", i);
    }
}

#endif
