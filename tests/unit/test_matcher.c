/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* matcher.c: patterns of codes and dates, what is refused, and how much work a text is. More
 * patterns are compared with Python's re by test_matcher.py. */
#include "base/mem.h"
#include "glm4v/glm4v.h"
#include "test.h"

static glm4v_error err;

/* 'y' or 'n', or 'e' and err is filled. */
static char check(const char *pattern, const char *text)
{
    glm4v_matcher *m = NULL;
    if (glm4v_matcher_open(&m, pattern, &err))
        return m ? '?' : 'e';
    const glm4v_verdict verdict = glm4v_matcher_check(m, text);
    glm4v_matcher_close(&m);
    CHECK(!m);
    CHECK(verdict != GLM4V_VERDICT_UNKNOWN);
    return verdict == GLM4V_VERDICT_PASS ? 'y' : 'n';
}

static void codes_and_dates_are_found(void)
{
    static const struct {
        const char *pattern, *text;
        char expected;
    } cases[] = {
        { "LOT[0-9]{6}", "LOT123456", 'y' },
        { "LOT[0-9]{6}", "Batch: LOT123456, 24 pcs", 'y' },
        { "LOT[0-9]{6}", "EXP 2027\nLOT123456\n", 'y' },
        { "LOT[0-9]{6}", "LOT12345", 'n' },
        { "LOT[0-9]{6}", "LOT1234567", 'n' }, /* one digit too many is another code */
        { "LOT[0-9]{6}", "SLOT123456", 'n' },
        { "LOT[0-9]{6}", "lot123456", 'n' },
        { "LOT[0-9]{6}", "LOT1Z3456", 'n' },
        { "LOT[0-9]{6}", "LOT1234567 LOT123456", 'y' },
        { "LOT[0-9]{6}", "批号LOT123456。", 'y' },
        { "LOT[0-9]{6}", "", 'n' },
        { "20\\d\\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])", "EXP: 2027-02-28", 'y' },
        { "20\\d\\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])", "EXP: 2027-13-28", 'n' },
        { "20\\d\\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])", "EXP: 2027-02-00", 'n' },
        { "^S/N: ?[A-Z]{2,3}\\d+$", "Model X\nS/N: AB1234\nMade in", 'y' },
        { "^S/N: ?[A-Z]{2,3}\\d+$", "Model X S/N: AB1234", 'n' },
        { "a{0,2}b", "aab", 'y' },
        { "x{0}b", "b", 'y' },
        { "(ab){2,}", "abab", 'y' },
        { "(ab){2,}", "ab", 'n' },
        { "[^0-9]", "7", 'n' },
        { "[]x]", "]", 'y' },
        { "[a\\-z]", "b", 'n' },
        { "\\(\\d{3}\\)", "(555)", 'y' },
        { "a.c", "a\nc", 'n' },
        { "生产日期.{4}年", "生产日期２０２６年", 'y' },
        { "[丁-甲]", "x", 'n' },
        { "[丁-甲]", "乙", 'y' },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (check(cases[i].pattern, cases[i].text) != cases[i].expected)
            test_fail(__FILE__, __LINE__, "%s in \"%s\": not %c", cases[i].pattern, cases[i].text,
                      cases[i].expected);
}

static void what_is_not_of_the_subset_is_refused_with_its_place(void)
{
    static const struct {
        const char *pattern, *said;
    } cases[] = {
        { "", "no pattern" },
        { "a*", "without characters" },
        { "^$", "without characters" },
        { "a|", "without characters" },
        { "(a", "a ( has no )" },
        { "a)", "a ) has no (" },
        { "[a", "ends too early at byte 2" },
        { "a\\", "ends too early" },
        { "*a", "nothing to repeat" },
        { "a**", "nothing to repeat" },
        { "a*?b", "nothing to repeat" },
        { "a{3,2}", "wrong way round" },
        { "a{x}", "expected {N}" },
        { "a{256}", "255 times" },
        { "[z-a]", "wrong way round" },
        { "[[a]", "must be escaped" },
        { "a}", "must be escaped at byte 1" },
        { "\\1", "no such escape" },
        { "\\bLOT", "no such escape" },
        { "(?=a)b", "only (?:" },
        { "(a{200}){200}", "too long" },
        { "((((((((((((((((a))))))))))))))))", "too deep" },
        { "\xff", "not UTF-8" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(check(cases[i].pattern, ""), 'e');
        CHECK_EQ(err.code, GLM4V_ERR_INVALID);
        CHECK_CONTAINS(err.msg, cases[i].said);
    }
    CHECK_EQ(glm4v_matcher_open(NULL, "a", &err), GLM4V_ERR_INVALID);
    glm4v_matcher_close(NULL);
}

/* Patterns that take a backtracking matcher for ever: here as long as a plain one. */
static void the_worst_patterns_end(void)
{
    static const char *const patterns[] = { "(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*)(.*)(.*)(.*)b",
                                            "(a?){99}a{99}b" };
    static char text[64 * 1024];
    memset(text, 'a', sizeof text - 1);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        CHECK_EQ(check(patterns[i], text), 'n');
    text[sizeof text - 2] = 'b';
    for (size_t i = 0; i + 1 < sizeof patterns / sizeof *patterns; i++)
        CHECK_EQ(check(patterns[i], text), 'y');
}

static void memory_that_runs_out_is_an_error(void)
{
    glm4v_matcher *m = NULL;
    const size_t live = glm4v_mem_live();
    glm4v_mem_fail_at(1, false);
    CHECK_EQ(glm4v_matcher_open(&m, "a", &err), GLM4V_ERR_NOMEM);
    glm4v_mem_fail_at(0, false);
    CHECK(!m);
    CHECK_EQ(glm4v_mem_live(), live);
}

int main(void)
{
    TEST(codes_and_dates_are_found);
    TEST(what_is_not_of_the_subset_is_refused_with_its_place);
    TEST(the_worst_patterns_end);
    TEST(memory_that_runs_out_is_an_error);
    return test_end();
}
