/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads lines {"pattern": P, "text": T} and prints for each whether the text passes: y, n, or e for
 * a pattern that is refused. For test_matcher.py. */
#include <jansson.h>

#include "glm4v/glm4v.h"

static char answer(const json_t *line)
{
    const char *pattern = json_string_value(json_object_get(line, "pattern"));
    const char *text = json_string_value(json_object_get(line, "text"));
    glm4v_matcher *m = NULL;
    if (!pattern || !text || glm4v_matcher_open(&m, pattern, NULL))
        return 'e';
    const glm4v_verdict verdict = glm4v_matcher_check(m, text);
    glm4v_matcher_close(&m);
    return verdict == GLM4V_VERDICT_PASS ? 'y' : 'n';
}

int main(void)
{
    json_t *line;
    while ((line = json_loadf(stdin, JSON_DISABLE_EOF_CHECK, NULL))) {
        printf("%c\n", answer(line));
        json_decref(line);
    }
    return 0;
}
