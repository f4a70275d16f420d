/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON schemas: what is refused and with which words, what an automaton takes and refuses, that the
 * shortest completion is as long as it says, ranges of numbers against a plain comparison. */
#include "base/mem.h"
#include "shape/automaton.h"
#include "test.h"

static glm4v_schema *open_schema(const char *text)
{
    glm4v_schema *schema = NULL;
    glm4v_error err = { 0 };
    if (glm4v_schema_open(&schema, text, &err))
        test_fail(__FILE__, __LINE__, "%s: %s", text, err.msg);
    return schema;
}

/* ---- refusals ---- */

static void check_refused(const char *text, int code, const char *why)
{
    const size_t live = glm4v_mem_live();
    glm4v_schema *schema = NULL;
    glm4v_error err = { 0 };
    const int rc = glm4v_schema_open(&schema, text, &err);
    if (rc != code || !strstr(err.msg, why))
        test_fail(__FILE__, __LINE__, "%s gives %d, \"%s\", not %d, \"%s\"", text, rc, err.msg,
                  code, why);
    CHECK(!schema);
    CHECK_EQ(glm4v_mem_live(), live);
}

static void keywords_that_are_not_supported_are_named_with_their_place(void)
{
    static const char *const names[] = {
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "if",
        "$ref",
        "$defs",
        "pattern",
        "format",
        "multipleOf",
        "prefixItems",
        "uniqueItems",
        "contains",
        "minContains",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "dependentRequired",
        "unevaluatedItems",
        "typo",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[256], why[128];
        snprintf(text, sizeof text,
                 "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\","
                 "\"items\":{\"type\":\"string\",\"%s\":1}}}}",
                 names[i]);
        snprintf(why, sizeof why, "json_schema: $.properties.a.items: \"%s\" is not supported",
                 names[i]);
        check_refused(text, GLM4V_ERR_UNSUPPORTED, why);
    }
    check_refused("{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}",
                  GLM4V_ERR_UNSUPPORTED, "\"additionalProperties\" with a schema");
    check_refused("{\"enum\":[1],\"minimum\":0}", GLM4V_ERR_UNSUPPORTED,
                  "\"minimum\" beside \"enum\" is not supported");
}

static void what_nothing_matches_is_refused(void)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        { "", "json_schema: is empty" },
        { "{", "json_schema" },
        { "[]", "$: a schema must be an object" },
        { "true", "an object or array is expected" },
        { "{}", "it says nothing about the value" },
        { "{\"title\":\"x\"}", "it says nothing about the value" },
        { "{\"type\":\"text\"}", "\"type\" must be object, array" },
        { "{\"type\":[]}", "\"type\" is an empty list" },
        { "{\"type\":[\"null\",3]}", "\"type\" must be object, array" },
        { "{\"enum\":[]}", "\"enum\" must be a list of at least one value" },
        { "{\"enum\":3}", "\"enum\" must be a list" },
        { "{\"enum\":[1],\"const\":1}", "not both" },
        { "{\"type\":\"string\",\"enum\":[\"a\",1]}",
          "value 2 of \"enum\" is not of the \"type\"" },
        { "{\"type\":\"integer\",\"const\":1.5}", "value 1 of \"const\" is not of the \"type\"" },
        { "{\"type\":\"string\",\"maxLength\":-1}", "\"maxLength\" must be an integer" },
        { "{\"type\":\"string\",\"maxLength\":1.5}", "\"maxLength\" must be an integer" },
        { "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "\"minLength\" is larger than" },
        { "{\"type\":\"string\",\"minLength\":20000}", "the shortest value has 20002 bytes" },
        { "{\"type\":\"string\",\"minimum\":2}", "\"minimum\" says nothing about a value of this" },
        { "{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", "no integer of at most 15 digits" },
        { "{\"type\":\"integer\",\"minimum\":0.2,\"maximum\":0.8}", "no integer of at most 15" },
        { "{\"type\":\"number\",\"exclusiveMinimum\":1,\"maximum\":1}", "no number of at most 15" },
        { "{\"type\":\"number\",\"minimum\":1e20}", "no number of at most 15 digits" },
        { "{\"type\":\"number\",\"minimum\":1e-20,\"maximum\":2e-20}", "no number of at most 15" },
        { "{\"type\":\"number\",\"minimum\":\"1\"}", "\"minimum\" must be a number" },
        { "{\"type\":\"number\",\"exclusiveMinimum\":true}", "\"exclusiveMinimum\" must be a" },
        { "{\"type\":\"number\",\"minimum\":1,\"exclusiveMinimum\":1}", "not both" },
        { "{\"type\":\"array\"}", "\"items\" is missing" },
        { "{\"type\":\"array\",\"items\":[]}", "$.items: a schema must be an object" },
        { "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":9999}",
          "shortest value" },
        { "{\"type\":\"object\",\"properties\":[]}", "\"properties\" must be an object" },
        { "{\"type\":\"object\",\"required\":[\"a\"]}", "names \"a\", which is not in" },
        { "{\"type\":\"object\",\"required\":\"a\"}", "\"required\" must be a list of names" },
        { "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"a\":{\"type\":\"null\"}"
          "}}",
          "json_schema" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].text, GLM4V_ERR_INVALID, cases[i].why);
}

static void nesting_is_taken_to_sixteen_levels(void)
{
    for (int depth = 15; depth <= 17; depth++) {
        char text[2048] = "", end[64] = "";
        for (int i = 0; i < depth; i++) {
            strcat(text, "{\"type\":\"array\",\"items\":");
            strcat(end, "}");
        }
        strcat(text, "{\"type\":\"boolean\"}");
        strcat(text, end);
        if (depth > 16) {
            check_refused(text, GLM4V_ERR_INVALID, "nested deeper than 16 levels");
            continue;
        }
        glm4v_schema *schema = open_schema(text);
        glm4v_schema_close(&schema);
    }
    check_refused("{\"const\":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}", GLM4V_ERR_INVALID, "deeper");
}

static void too_many_values_are_refused(void)
{
    char *text = calloc(1, 1 << 20), part[64];
    strcpy(text, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < 257; i++) {
        snprintf(part, sizeof part, "%s\"p%d\":{\"type\":\"null\"}", i ? "," : "", i);
        strcat(text, part);
    }
    strcat(text, "}}");
    check_refused(text, GLM4V_ERR_INVALID, "257 properties, at most 256");
    strcpy(text, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < 200; i++) {
        snprintf(part, sizeof part, "%s\"p%d\":{\"type\":[\"null\",\"boolean\",", i ? "," : "", i);
        strcat(text, part);
        strcat(text, "\"string\",\"number\",\"object\"]}");
    }
    strcat(text, "}}");
    check_refused(text, GLM4V_ERR_INVALID, "more than 1024 values");
    free(text);
}

/* ---- what is taken ---- */

/* Is text a whole answer? */
static bool takes(const glm4v_schema *schema, const char *text)
{
    glm4v_automaton a = glm4v_automaton_start(schema);
    for (; *text; text++)
        if (!glm4v_automaton_step(schema, &a, (unsigned char)*text))
            return false;
    return glm4v_automaton_may_end(schema, &a);
}

static void answers_are_taken_and_others_refused(void)
{
    static const struct {
        const char *schema, *good[4], *bad[6];
    } cases[] = {
        { "{\"type\":\"string\",\"minLength\":1,\"maxLength\":2}",
          { "\"a\"", "\"\xe4\xb8\x80\xf0\x9f\x98\x80\"", "\"\\n\\\"\"", "\" \"" },
          { "\"\"", "\"abc\"", "a", "\"\\u0041\"", "\"\x01\"", "\"\xc2\x85\"" } },
        { "{\"type\":\"string\"}",
          { "\"\"", "\"\xed\x9f\xbf\"", "\"\xe2\x80\xa7\"", "\"\xf4\x8f\xbf\xbf\"" },
          { "\"\xed\xa0\x80\"", "\"\xe2\x80\xae\"", "\"\xf4\x90\x80\x80\"", "\"\xc1\xbf\"",
            "\"\xe2\x81\xa6\"", "\"\xff\"" } },
        { "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"ab\":{\"type\":"
          "\"null\"},"
          "\"c\":{\"type\":\"null\"}},\"required\":[\"ab\"]}",
          { "{\"ab\":null}", "{\"a\":null,\"ab\":null}", "{\"ab\":null,\"c\":null}",
            "{\"a\":null,\"ab\":null,\"c\":null}" },
          { "{}", "{\"c\":null}", "{\"ab\":null,\"a\":null}", "{\"ab\":null,}", "{ \"ab\":null}",
            "{\"ab\":null,\"ab\":null}" } },
        { "{\"type\":\"array\",\"items\":{\"type\":[\"integer\",\"array\"],\"items\":{\"enum\":[1,"
          "12]}}"
          ",\"minItems\":1,\"maxItems\":2}",
          { "[1]", "[[],[1,12,1]]", "[-7,0]", "[[12]]" },
          { "[]", "[1,2,3]", "[01]", "[1.0]", "[[2]]", "[-0]" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_schema *schema = open_schema(cases[i].schema);
        REQUIRE(schema);
        for (int k = 0; k < 4; k++)
            if (!takes(schema, cases[i].good[k]))
                test_fail(__FILE__, __LINE__, "%s refuses %s", cases[i].schema, cases[i].good[k]);
        for (int k = 0; k < 6; k++)
            if (takes(schema, cases[i].bad[k]))
                test_fail(__FILE__, __LINE__, "%s takes %s", cases[i].schema, cases[i].bad[k]);
        glm4v_schema_close(&schema);
    }
}

static void ranges_hold_the_numbers_that_a_comparison_does(void)
{
    static const char *const ends[] = { "-1000", "-12.5", "-1", "-0.25", "0",    "0.001",
                                        "0.5",   "1",     "7",  "9.99",  "10.5", "123456" };
    enum { N = sizeof ends / sizeof *ends };
    int compared = 0;
    for (int i = 0; i < N; i++)
        for (int k = i; k < N; k++)
            for (int kind = 0; kind < 4; kind++) {
                const bool integer = kind & 1, exclusive = kind & 2;
                char text[256], number[32];
                glm4v_schema *schema = NULL;
                snprintf(text, sizeof text, "{\"type\":\"%s\",\"%s\":%s,\"%s\":%s}",
                         integer ? "integer" : "number", exclusive ? "exclusiveMinimum" : "minimum",
                         ends[i], exclusive ? "exclusiveMaximum" : "maximum", ends[k]);
                const double low = atof(ends[i]), high = atof(ends[k]);
                if (glm4v_schema_open(&schema, text, NULL))
                    continue;
                for (int n = -30000; n <= 30000; n += n > -40 && n < 40 ? 1 : 97) {
                    const double divisors[] = { 1, 2, 8, 1000 };
                    for (int d = 0; d < 4; d++) {
                        const double value = n / divisors[d];
                        snprintf(number, sizeof number, "%.*f", d ? 3 : 0, value);
                        if (!strncmp(number, "-0", 2) && value == 0)
                            continue;
                        const bool inside =
                            exclusive ? value > low && value < high : value >= low && value <= high;
                        compared++;
                        if (takes(schema, number) != (inside && !(integer && d)))
                            test_fail(__FILE__, __LINE__, "%s and %s", text, number);
                    }
                }
                glm4v_schema_close(&schema);
            }
    CHECK(compared > 100000);
}

static void the_shortest_completion_is_as_long_as_it_says(void)
{
    static const char *const texts[] = {
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\",\"minLength\":3},\"sev\":{"
        "\"enum\":[\"minor\",\"moderate\"]},\"severe\":{\"type\":\"array\",\"minItems\":2,"
        "\"items\":{"
        "\"type\":[\"number\",\"null\"],\"minimum\":17.25}},\"y\":{\"type\":\"boolean\"}},"
        "\"required\":[\"severe\",\"y\"]}",
        "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":"
        "\"object\",\"properties\":{\"k\":{\"const\":[1,\"\\u4e00\"]}},\"required\":[\"k\"]}}}",
    };
    uint32_t random = 1;
    for (size_t i = 0; i < 2; i++) {
        glm4v_schema *schema = open_schema(texts[i]);
        REQUIRE(schema);
        for (int walk = 0; walk < 400; walk++) {
            glm4v_automaton a = glm4v_automaton_start(schema);
            for (int step = 0; step < 60; step++) {
                glm4v_automaton b = a;
                int64_t rest = glm4v_automaton_rest(schema, &a), n = 0;
                for (int byte; (byte = glm4v_automaton_shortest(schema, &b)) >= 0; n++) {
                    CHECK_EQ(glm4v_automaton_rest(schema, &b), rest - n);
                    REQUIRE(glm4v_automaton_step(schema, &b, (unsigned char)byte));
                }
                CHECK_EQ(n, rest);
                CHECK(glm4v_automaton_may_end(schema, &b));
                const int forced = glm4v_automaton_forced(schema, &a);
                int taken = 0, only = -1;
                glm4v_automaton next = a;
                for (int byte = 0, skip = (int)((random = random * 1103515245u + 12345u) >> 16) % 7;
                     byte < 256; byte++) {
                    b = a;
                    if (!glm4v_automaton_step(schema, &b, (unsigned char)byte))
                        continue;
                    only = byte;
                    if (!taken++ || skip-- > 0)
                        next = b;
                }
                CHECK_EQ(forced, taken == 1 && !glm4v_automaton_may_end(schema, &a) ? only : -1);
                if (!taken)
                    break;
                a = next;
            }
        }
        glm4v_schema_close(&schema);
    }
}

static void every_allocation_may_fail(void)
{
    static const char text[] =
        "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"},"
        "\"y\":{\"enum\":[\"a\",{\"b\":[1,2.5]}]},\"z\":{\"type\":[\"array\","
        "\"null\"],\"items\":{\"type\":\"string\"}}}}";
    const size_t live = glm4v_mem_live();
    int rc = GLM4V_ERR_NOMEM;
    for (uint64_t nth = 1; rc == GLM4V_ERR_NOMEM && nth < 100; nth++) {
        glm4v_schema *schema = NULL;
        glm4v_error err = { 0 };
        glm4v_mem_fail_at(nth, false);
        rc = glm4v_schema_open(&schema, text, &err);
        glm4v_mem_fail_at(0, false);
        CHECK(rc == 0 || (rc == GLM4V_ERR_NOMEM && err.code == rc && !schema));
        glm4v_schema_close(&schema);
        CHECK_EQ(glm4v_mem_live(), live);
    }
    CHECK_EQ(rc, 0);
}

int main(void)
{
    TEST(keywords_that_are_not_supported_are_named_with_their_place);
    TEST(what_nothing_matches_is_refused);
    TEST(nesting_is_taken_to_sixteen_levels);
    TEST(too_many_values_are_refused);
    TEST(answers_are_taken_and_others_refused);
    TEST(ranges_hold_the_numbers_that_a_comparison_does);
    TEST(the_shortest_completion_is_as_long_as_it_says);
    TEST(every_allocation_may_fail);
    return test_end();
}
