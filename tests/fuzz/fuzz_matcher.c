/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Patterns of texts that were read: any bytes are refused with a reason, or compiled and matched.
 * Bytes: the pattern up to a zero, then the text. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "glm4v/glm4v.h"

/* A text that ends where its block does. */
static char *text_of(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glm4v_matcher *m = NULL, *again = NULL;
    glm4v_error err = { 0 };
    const uint8_t *zero = memchr(data, 0, size);
    const size_t len = zero ? (size_t)(zero - data) : size;
    char *pattern = text_of(data, len);
    char *text = text_of(zero ? zero + 1 : data, zero ? size - len - 1 : size);
    const size_t live = glm4v_mem_live();
    const int rc = glm4v_matcher_open(&m, pattern, &err);
    if (rc) {
        FUZZ_CHECK(!m && rc == GLM4V_ERR_INVALID && err.code == rc && err.msg[0]);
    } else {
        const glm4v_verdict verdict = glm4v_matcher_check(m, text);
        FUZZ_CHECK(verdict == GLM4V_VERDICT_PASS || verdict == GLM4V_VERDICT_FAIL);
        FUZZ_CHECK(glm4v_matcher_check(m, "") == GLM4V_VERDICT_FAIL);
        FUZZ_CHECK(!glm4v_matcher_open(&again, pattern, NULL));
        FUZZ_CHECK(glm4v_matcher_check(again, text) == verdict);
    }
    glm4v_matcher_close(&again);
    glm4v_matcher_close(&m);
    FUZZ_CHECK(glm4v_mem_live() == live);
    free(text);
    free(pattern);
    return 0;
}
