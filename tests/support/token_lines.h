/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compare a tokenizer with a file of {"text": ..., "ids": [...]} lines: encoding gives the ids, and
 * the ids' bytes give the text again. Used by tokenizer-check and by the tests. */
#ifndef GLM4V_TEST_TOKEN_LINES_H
#define GLM4V_TEST_TOKEN_LINES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tokenizer/tokenizer.h"

/* Do ids [0, n) spell text [0, len)? */
static bool token_ids_spell(const glm4v_tokenizer *t, const int32_t *ids, size_t n,
                            const char *text, size_t len)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k;
        const char *bytes = glm4v_tokenizer_bytes(t, ids[i], &k);
        if (glm4v_tokenizer_is_control(t, ids[i]) || k > len - at || memcmp(text + at, bytes, k))
            return false;
        at += k;
    }
    return at == len;
}

static bool token_ids_equal(const glm4v_ids *found, const json_t *expected)
{
    if (json_array_size(expected) != found->n)
        return false;
    for (size_t i = 0; i < found->n; i++)
        if (json_integer_value(json_array_get(expected, i)) != found->ids[i])
            return false;
    return true;
}

/* Compare one line; false, told in one comment line on stdout, if it is not equal. */
static bool token_line_check(const glm4v_tokenizer *t, const char *line, size_t len, long number)
{
    glm4v_error err = { 0 };
    glm4v_ids found = { 0 };
    json_t *root = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
    const json_t *text = json_object_get(root, "text"), *ids = json_object_get(root, "ids");
    bool ok = json_is_string(text) && json_is_array(ids);
    if (!ok) {
        printf("# line %ld is not {\"text\": ..., \"ids\": [...]}\n", number);
    } else if (glm4v_tokenizer_encode(t, json_string_value(text), json_string_length(text), &found,
                                      &err)) {
        printf("# line %ld: %s\n", number, err.msg);
        ok = false;
    } else if (!token_ids_equal(&found, ids) ||
               !token_ids_spell(t, found.ids, found.n, json_string_value(text),
                                json_string_length(text))) {
        printf("# line %ld:", number);
        for (size_t i = 0; i < found.n; i++)
            printf(" %d", (int)found.ids[i]);
        printf(" is not %.*s\n", (int)len, line);
        ok = false;
    }
    glm4v_free(found.ids);
    json_decref(root);
    return ok;
}

/* Compare all lines of a file. Number of lines that differ, -1 if it cannot be read; *n_lines of
 * all. */
__attribute__((unused)) static long token_lines_check(const glm4v_tokenizer *t, const char *path,
                                                      long *n_lines)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    long wrong = 0;
    FILE *file = fopen(path, "r");
    *n_lines = 0;
    if (!file)
        return -1;
    while ((len = getline(&line, &size, file)) > 0) {
        ++*n_lines;
        wrong += !token_line_check(t, line, (size_t)len - (line[len - 1] == '\n'), *n_lines);
    }
    free(line);
    fclose(file);
    return wrong;
}

#endif
