/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The test harness: TAP on stdout, one line per test, which meson and tests/run.sh count.
 *
 *   static void empty_text_gives_no_ids(void) { CHECK_EQ(n, 0); }
 *   int main(void) { TEST(empty_text_gives_no_ids); return test_end(); }
 *
 * A test's name says what holds. SKIP("reason") ends a test that cannot run here; GLM4V_REQUIRE
 * (comma-separated words: gpu, golden, model) turns the skips that test_needs() makes into
 * failures. GLM4V_PART=I/N runs every N-th test only, from number I on (0 the first): for slow
 * tools a program is run N times side by side. */
#ifndef GLM4V_TEST_H
#define GLM4V_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Does a sanitizer stand in for the allocator? TEST_TSAN: is it ThreadSanitizer? */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if __has_feature(thread_sanitizer) || defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#else
#define TEST_TSAN 0
#endif
#if TEST_TSAN || __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||            \
    defined(__SANITIZE_ADDRESS__)
#define TEST_SANITIZED 1
#else
#define TEST_SANITIZED 0
#endif

/* The step of a sweep, which tries every point; under a sanitizer, where each costs many times as
 * much, every k-th, unless GLM4V_DEEP=1. */
__attribute__((unused)) static int test_stride(int k)
{
    return TEST_SANITIZED && !getenv("GLM4V_DEEP") ? k : 1;
}

static int test_count, test_failed;
static bool test_ok;
static char test_skip[256];

__attribute__((format(printf, 3, 4), unused)) static void test_fail(const char *file, int line,
                                                                    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("# %s:%d: ", file, line);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
    test_ok = false;
}

/* Is test `number` (0 the first) of the part that is run? */
__attribute__((unused)) static bool test_wanted(int number)
{
    const char *part = getenv("GLM4V_PART");
    int which, parts;
    return !part || sscanf(part, "%d/%d", &which, &parts) != 2 || parts < 1 ||
           number % parts == which;
}

__attribute__((unused)) static void test_run(const char *name, void (*fn)(void))
{
    test_ok = true;
    test_skip[0] = 0;
    if (test_wanted(test_count))
        fn();
    else
        snprintf(test_skip, sizeof test_skip, "of another part");
    test_failed += !test_ok;
    printf("%sok %d - %s%s%s\n", test_ok ? "" : "not ", ++test_count, name,
           test_ok && test_skip[0] ? " # SKIP " : "", test_ok ? test_skip : "");
    fflush(stdout);
}

__attribute__((unused)) static int test_end(void)
{
    printf("1..%d\n", test_count);
    return test_failed ? 1 : 0;
}

/* False, with the test marked as skipped, when `there` is false; a failure when GLM4V_REQUIRE names
 * what. */
__attribute__((unused)) static bool test_needs(const char *what, bool there, const char *reason)
{
    const char *require = getenv("GLM4V_REQUIRE");
    if (there)
        return true;
    if (require && strstr(require, what))
        test_fail(__FILE__, __LINE__, "%s is required here: %s", what, reason);
    snprintf(test_skip, sizeof test_skip, "%s", reason);
    return false;
}

/* Directory of reference vectors, "../shared/golden" of the source tree unless GLM4V_GOLDEN says
 * otherwise. */
__attribute__((unused)) static const char *test_golden_dir(void)
{
    const char *dir = getenv("GLM4V_GOLDEN");
#ifdef SOURCE_ROOT
    return dir ? dir : SOURCE_ROOT "/../shared/golden";
#else
    return dir ? dir : "../shared/golden";
#endif
}

#define TEST(fn) test_run(#fn, fn)
#define SKIP(reason)                                                                               \
    do {                                                                                           \
        snprintf(test_skip, sizeof test_skip, "%s", (reason));                                     \
        return;                                                                                    \
    } while (0)
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            test_fail(__FILE__, __LINE__, "%s", #cond);                                            \
    } while (0)
#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long check_a = (long long)(a), check_b = (long long)(b);                              \
        if (check_a != check_b)                                                                    \
            test_fail(__FILE__, __LINE__, "%s is %lld, not %s = %lld", #a, check_a, #b, check_b);  \
    } while (0)
#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        const char *check_a = (a), *check_b = (b);                                                 \
        if (!check_a || !check_b || strcmp(check_a, check_b))                                      \
            test_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #a,                          \
                      check_a ? check_a : "(null)", check_b ? check_b : "(null)");                 \
    } while (0)
#define CHECK_CONTAINS(a, b)                                                                       \
    do {                                                                                           \
        const char *check_a = (a), *check_b = (b);                                                 \
        if (!check_a || !strstr(check_a, check_b))                                                 \
            test_fail(__FILE__, __LINE__, "%s is \"%s\", without \"%s\"", #a,                      \
                      check_a ? check_a : "(null)", check_b);                                      \
    } while (0)
/* Stop the test (a function returning void) when it cannot go on. */
#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            test_fail(__FILE__, __LINE__, "%s", #cond);                                            \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#endif
