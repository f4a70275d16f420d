/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The JSON reader: takes the same texts as jansson's own, and makes the same trees of them. P-14:
 * some are tried again with an allocation that fails. */
#include <jansson.h>

#include "base/json.h"
#include "base/mem.h"
#include "fuzz.h"
#include "json_edits.h"

const size_t fuzz_json_at = 0;

static const char base_text[] =
    "{\"a\":[1,-2,3.5,1e3,-0.25E-2,0],\"b\":{\"c\":null,\"d\":true,\"e\":false},"
    "\"f\":\"x\\u00e9\\ud83d\\ude00\\n\\\\\","
    "\"g\":[[],{},[{\"h\":\"\xe4\xb8\x80\"}]],\"i\":9223372036854775807,\"j\":-9223372036854775808,"
    "\"k\":5e-324}";

/* jansson has no limit of the length of a number; ours is far above any that means something. */
static bool has_long_number(const char *text, size_t len)
{
    size_t run = 0;
    for (size_t i = 0; i < len && run <= 512; i++)
        run = strchr("+-.0123456789eE", text[i]) && text[i] ? run + 1 : 0;
    return run > 512;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_base base;
    size_t len, live = glm4v_mem_live();
    glm4v_error err = { 0 };
    json_error_t error;
    json_t *ours = NULL;
    if (!base.n) {
        json_base_init(&base, base_text, sizeof base_text - 1);
        FUZZ_CHECK(!glm4v_json_parse(&ours, base_text, sizeof base_text - 1, "f",
                                     &GLM4V_JSON_CONFIG, &err));
        json_decref(ours);
        ours = NULL;
    }
    char *text = json_input(&base, data, size, &len);
    uint64_t before = glm4v_mem_calls();
    int rc = glm4v_json_parse(&ours, text, len, "f", &GLM4V_JSON_CONFIG, &err);
    uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    FUZZ_CHECK(rc ? !ours && err.code == rc && err.msg[0] : ours != NULL);
    FUZZ_CHECK(rc == 0 || rc == GLM4V_ERR_FORMAT);
    json_t *theirs = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (ours)
        FUZZ_CHECK(theirs && json_equal(ours, theirs));
    /* refused for a limit that jansson does not have; it also overlooks a NUL behind a number */
    else if (theirs)
        FUZZ_CHECK(memchr(text, 0, len) || strstr(err.msg, "deeper than") ||
                   strstr(err.msg, "more than") || strstr(err.msg, "longer than") ||
                   strstr(err.msg, "would take") || has_long_number(text, len));
    json_decref(ours);
    json_decref(theirs);
    ours = NULL;
    FUZZ_WITHOUT_MEMORY(nth, &err,
                        glm4v_json_parse(&ours, text, len, "f", &GLM4V_JSON_CONFIG, &err));
    FUZZ_CHECK(!ours);
    free(text);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
