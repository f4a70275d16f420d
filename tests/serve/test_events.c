/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Server-sent events, in whatever pieces they come. */
#include "base/mem.h"
#include "openai/events.h"
#include "test.h"

typedef struct {
    char text[4096]; /* data of the events, each in brackets */
    int stop_at, n;  /* take() fails at this event; how many there were */
} seen;

static int take(void *user, const char *data, size_t size)
{
    seen *s = user;
    const size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "[%.*s]", (int)size, data);
    return ++s->n == s->stop_at ? GLM4V_ERR_IO : 0;
}

/* Read text in pieces of `step` bytes. */
static int read_in_steps(seen *s, openai_events *e, const char *text, size_t step)
{
    const size_t n = strlen(text);
    glm4v_error err = { 0 };
    int rc = 0;
    for (size_t at = 0; !rc && at < n; at += step)
        rc = openai_events_take(e, text + at, n - at < step ? n - at : step, take, s, &err);
    return rc;
}

static void check_events(const char *text, const char *expected, bool cut)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        openai_events e = { 0 };
        seen s = { .n = 0 };
        CHECK(!read_in_steps(&s, &e, text, step));
        CHECK_STR(s.text, expected);
        CHECK(openai_events_cut(&e) == cut);
        openai_events_close(&e);
    }
}

static void events_end_at_an_empty_line(void)
{
    check_events("data: a\n\ndata: b\n\n", "[a][b]", false);
    check_events("data: a\r\n\r\ndata:b\r\n\r\n", "[a][b]", false);
    check_events("data: a\r\rdata: b\r\r", "[a][b]", false);
}

static void lines_of_one_event_are_joined(void)
{
    check_events("data: a\ndata:  b\ndata\ndata: \n\n", "[a\n b\n\n]", false);
}

static void other_lines_are_passed_over(void)
{
    check_events(": keep alive\n\nevent: x\nid: 3\nretry: 5\ndatabase: 1\ndata: a\n\n\n\n", "[a]",
                 false);
    check_events("\xEF\xBB\xBF"
                 "data: a\n\n",
                 "[a]", false);
}

static void a_stream_that_ends_within_an_event_is_cut(void)
{
    check_events("data: a\n\ndata: b", "[a]", true);
    check_events("data: a\n\ndata: b\n", "[a]", true);
    check_events("data: a\n", "", true);
    check_events("", "", false);
}

static void the_receiver_ends_it(void)
{
    openai_events e = { 0 };
    seen s = { .stop_at = 1 };
    CHECK_EQ(read_in_steps(&s, &e, "data: a\n\ndata: b\n\n", 100), GLM4V_ERR_IO);
    CHECK_STR(s.text, "[a]");
    openai_events_close(&e);
}

/* One line, or many of one event. */
static void an_event_has_a_bound(void)
{
    for (int lines = 0; lines < 2; lines++) {
        const char *piece = lines ? "data: 0123456789abcdef\n" : "0123456789abcdef";
        openai_events e = { 0 };
        seen s = { .n = 0 };
        glm4v_error err = { 0 };
        int rc = openai_events_take(&e, "data: ", 6, take, &s, &err);
        size_t total = 0;
        for (; !rc && total < 2 * OPENAI_MAX_EVENT; total += 16)
            rc = openai_events_take(&e, piece, strlen(piece), take, &s, &err);
        CHECK_EQ(rc, GLM4V_ERR_FORMAT);
        CHECK(total > OPENAI_MAX_EVENT / 2 && total <= OPENAI_MAX_EVENT + 64);
        CHECK(strstr(err.msg, "larger than 1024 KiB"));
        openai_events_close(&e);
    }
}

static void every_allocation_may_fail(void)
{
    static const char text[] = "data: a\ndata: b\n\ndata: c\n\n";
    for (uint64_t nth = 1; nth < 100; nth++) {
        openai_events e = { 0 };
        seen s = { .n = 0 };
        glm4v_mem_fail_at(nth, false);
        const int rc = read_in_steps(&s, &e, text, 5);
        glm4v_mem_fail_at(0, false);
        openai_events_close(&e);
        if (!rc) {
            CHECK_STR(s.text, "[a\nb][c]");
            CHECK(nth > 2);
            return;
        }
        CHECK_EQ(rc, GLM4V_ERR_NOMEM);
    }
    test_fail(__FILE__, __LINE__, "it never succeeds");
}

int main(void)
{
    TEST(events_end_at_an_empty_line);
    TEST(lines_of_one_event_are_joined);
    TEST(other_lines_are_passed_over);
    TEST(a_stream_that_ends_within_an_event_is_cut);
    TEST(the_receiver_ends_it);
    TEST(an_event_has_a_bound);
    TEST(every_allocation_may_fail);
    return test_end();
}
