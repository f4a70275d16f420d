/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Answers through a schema from logits that mean nothing: sample-schema TOKENIZER SCHEMA COUNT SEED
 * [MAX_TOKENS]. One line an answer, "CHOOSER TOKENS STATE TEXT": who chose the tokens, how many
 * there were, and "whole", or "cut" where the answer is not complete. The choosers take turns:
 * random logits, logits that like short tokens, and four that always want the worst: the highest
 * id, the lowest, the longest token, the shortest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shape/constraint.h"

typedef enum { RANDOM, SHORT, HIGHEST, LOWEST, LONGEST, SHORTEST, N_CHOOSERS } chooser;

static const char *const names[] = {
    "random", "short", "highest", "lowest", "longest", "shortest"
};
static uint64_t state;

static uint32_t draw(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 32);
}

static double rate(const glm4v_tokenizer *t, chooser who, int32_t id)
{
    size_t len; /* 0: the end */
    glm4v_tokenizer_bytes(t, id, &len);
    switch (who) {
    case RANDOM:
        return draw();
    case SHORT:
        return draw() / (double)(1 + len * len);
    case HIGHEST:
        return id;
    case LOWEST:
        return -id;
    case LONGEST:
        return (double)len + draw() * 1e-12;
    default:
        return -(double)len + draw() * 1e-12;
    }
}

static int32_t choose(const glm4v_tokenizer *t, chooser who, const uint64_t *never, int32_t n_ids)
{
    int32_t best = -1;
    double most = -1e300;
    for (int32_t id = 0; id < n_ids; id++) {
        if (never[id / 64] >> (id % 64) & 1)
            continue;
        const double rated = rate(t, who, id);
        if (rated > most) {
            best = id;
            most = rated;
        }
    }
    return best;
}

/* One answer to text; returns its tokens, negative where it is not complete. */
static int64_t sample(glm4v_constraint *c, const glm4v_tokenizer *t, chooser who,
                      int64_t max_tokens, char *text, size_t *len)
{
    const int32_t stop = glm4v_tokenizer_size(t), n_ids = stop + 1; /* it has no text */
    int64_t n = 0;
    *len = 0;
    while (n < max_tokens && !glm4v_constraint_done(c)) {
        int32_t ids[64];
        int64_t forced = draw() % 4 ? glm4v_constraint_forced(c, max_tokens - n, ids, 64) : 0;
        if (!forced) {
            ids[0] = choose(t, who, glm4v_constraint_never(c, max_tokens - n, &stop, 1), n_ids);
            if (ids[0] == stop)
                return n;
            if (ids[0] < 0)
                return -1;
            forced = 1;
        }
        for (int64_t i = 0; i < forced; i++, n++) {
            size_t bytes;
            const char *s = glm4v_tokenizer_bytes(t, ids[i], &bytes);
            memcpy(text + *len, s, bytes);
            *len += bytes;
            glm4v_constraint_take(c, ids[i]);
        }
    }
    return glm4v_constraint_may_end(c) && n <= max_tokens ? n : -1;
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = file ? calloc(1, 1 << 20) : NULL;
    if (text && fread(text, 1, (1 << 20) - 1, file) == 0)
        text[0] = 0;
    if (file)
        fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    glm4v_error err = { 0 };
    glm4v_tokenizer *t = NULL;
    glm4v_token_tries *tries = NULL;
    glm4v_shapes shapes = { 0 };
    if (argc < 5) {
        fprintf(stderr, "sample-schema TOKENIZER SCHEMA COUNT SEED [MAX_TOKENS]\n");
        return 2;
    }
    const long count = strtol(argv[3], NULL, 10);
    int64_t most = argc > 5 ? strtol(argv[5], NULL, 10) : 0;
    char *schema = read_file(argv[2]), *text = malloc(GLM4V_MAX_ANSWER_BYTES + 4096);
    state = strtoull(argv[4], NULL, 10);
    int rc = schema && text ? glm4v_tokenizer_open_file(&t, argv[1], &err) : 1;
    if (!rc)
        rc = glm4v_token_tries_open(&tries, t, glm4v_tokenizer_size(t) + 1, &err);
    for (long i = 0; !rc && i < count; i++) {
        glm4v_constraint *c = NULL;
        glm4v_shape *shape = NULL;
        size_t len;
        int64_t max_tokens = most ? most : 4096;
        rc = glm4v_shapes_take(&shapes, &shape, schema, tries, &err);
        if (!rc)
            rc = glm4v_constraint_open(&c, shape, t, max_tokens, &err);
        if (!rc && !most) { /* from just enough to plenty */
            const int64_t shortest = glm4v_constraint_shortest(c);
            max_tokens = shortest + (draw() % 3 ? draw() % 24 : draw() % 200);
        }
        const chooser who = (chooser)(i % N_CHOOSERS);
        const int64_t n = rc ? 0 : sample(c, t, who, max_tokens, text, &len);
        if (!rc)
            printf("%s %lld %s %.*s\n", names[who], (long long)n, n < 0 ? "cut" : "whole", (int)len,
                   text);
        glm4v_constraint_close(&c);
    }
    if (rc)
        fprintf(stderr, "%s\n", err.msg);
    glm4v_shapes_clear(&shapes);
    glm4v_token_tries_close(&tries);
    glm4v_tokenizer_close(&t);
    free(text);
    free(schema);
    return rc != 0;
}
