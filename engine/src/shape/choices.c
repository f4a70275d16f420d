/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The prefix tree of a closed list of answers. Built where a task is submitted, scored by score.c
 * with the logits of the request's own passes. */
#include "shape/choices.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

/* Tokens of each text, one behind the other, and the texts in the order of their tokens. */
typedef struct {
    glm4v_ids ids;
    size_t start[GLM4V_MAX_CHOICES + 1];
    int64_t order[GLM4V_MAX_CHOICES];
    int64_t n;
} encoded;

static int check_text(const char *text, int64_t i, glm4v_error *err)
{
    size_t bad;
    if (!text || !*text)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "choice %" PRId64 " is empty: give it a text",
                          i + 1);
    const size_t len = strlen(text);
    if (len > GLM4V_MAX_CHOICE_BYTES)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "choice %" PRId64 " has %zu bytes, at most %d are accepted", i + 1, len,
                          GLM4V_MAX_CHOICE_BYTES);
    if (!glm4v_utf8_valid(text, len, &bad))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "choice %" PRId64 " is not UTF-8: wrong byte at offset %zu", i + 1, bad);
    return 0;
}

static const int32_t *tokens_of(const encoded *e, int64_t text, int64_t *n)
{
    *n = e->start[text + 1] - e->start[text];
    return e->ids.ids + e->start[text];
}

/* Tokens that two texts begin with alike. */
static int64_t common(const encoded *e, int64_t a, int64_t b)
{
    int64_t n_a, n_b, n = 0;
    const int32_t *x = tokens_of(e, a, &n_a), *y = tokens_of(e, b, &n_b);
    while (n < n_a && n < n_b && x[n] == y[n])
        n++;
    return n;
}

/* Does text a stand before b? A text stands before those that it is the beginning of. */
static bool before(const encoded *e, int64_t a, int64_t b)
{
    int64_t n_a, n_b;
    const int32_t *x = tokens_of(e, a, &n_a), *y = tokens_of(e, b, &n_b);
    const int64_t n = common(e, a, b);
    return n < n_a && n < n_b ? x[n] < y[n] : n_a < n_b;
}

static void sort(encoded *e)
{
    for (int64_t i = 0; i < e->n; i++) {
        int64_t at = i;
        for (; at > 0 && before(e, i, e->order[at - 1]); at--)
            e->order[at] = e->order[at - 1];
        e->order[at] = i;
    }
}

static int encode(encoded *e, const glm4v_tokenizer *tokenizer, const char *const *texts,
                  glm4v_error *err)
{
    for (int64_t i = 0; i < e->n; i++) {
        int rc = check_text(texts[i], i, err);
        if (!rc)
            rc = glm4v_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), &e->ids, err);
        if (rc)
            return rc;
        e->start[i + 1] = e->ids.n;
        if (e->start[i + 1] == e->start[i])
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "choice %" PRId64 ", \"%.80s\", gives no tokens", i + 1, texts[i]);
    }
    sort(e);
    for (int64_t i = 1; i < e->n; i++) {
        const int64_t a = e->order[i - 1], b = e->order[i];
        if (!strcmp(texts[a], texts[b]))
            return glm4v_fail(err, GLM4V_ERR_INVALID,
                              "choices %" PRId64 " and %" PRId64 " are both \"%.80s\"", a + 1,
                              b + 1, texts[a]);
    }
    return 0;
}

/* Nodes of the tree: the root, and for each text what it does not share with the one before. */
static int64_t count_nodes(const encoded *e)
{
    int64_t n = 1 + e->ids.n;
    for (int64_t i = 1; i < e->n; i++)
        n -= common(e, e->order[i - 1], e->order[i]);
    return n;
}

/* Append the nodes of one text, whose first `shared` are there already below `last`. */
static void add_text(glm4v_choices *c, const encoded *e, int64_t text, int64_t shared)
{
    int64_t n;
    const int32_t *ids = tokens_of(e, text, &n);
    int64_t parent = c->n_nodes - 1;
    while (c->nodes[parent].depth > shared)
        parent = c->nodes[parent].parent;
    for (int64_t depth = shared + 1; depth <= n; depth++) {
        c->nodes[c->n_nodes] = (glm4v_choice_node) {
            .id = ids[depth - 1], .depth = depth, .parent = parent, .choice = -1
        };
        parent = c->n_nodes++;
    }
    c->nodes[parent].choice = text;
    c->leaf[text] = parent;
    c->longest = n > c->longest ? n : c->longest;
}

static int build(glm4v_choices **choices, const encoded *e, glm4v_error *err)
{
    const int64_t n_nodes = count_nodes(e);
    const size_t nodes = sizeof(glm4v_choices) + n_nodes * sizeof(glm4v_choice_node);
    glm4v_choices *c = glm4v_alloc(1, nodes + e->n * (sizeof *c->score + sizeof *c->leaf));
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %" PRId64 " choices", e->n);
    c->score = (double *)((char *)c + nodes);
    c->leaf = (int64_t *)(c->score + e->n);
    c->n_choices = e->n;
    c->nodes[0] = (glm4v_choice_node) { .choice = -1 };
    c->n_nodes = c->next = 1;
    for (int64_t i = 0; i < e->n; i++)
        add_text(c, e, e->order[i], i ? common(e, e->order[i - 1], e->order[i]) : 0);
    for (int64_t i = c->n_nodes; i-- > 0;) {
        glm4v_choice_node *node = &c->nodes[i], *parent = &c->nodes[node->parent];
        node->end = node->end ? node->end : i + 1;
        parent->end = i && parent->end < node->end ? node->end : parent->end;
    }
    *choices = c;
    return 0;
}

int glm4v_choices_open(glm4v_choices **choices, const glm4v_tokenizer *tokenizer,
                       const char *const *texts, int64_t n, glm4v_error *err)
{
    if (n > GLM4V_MAX_CHOICES)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "%" PRId64 " choices, at most %d are accepted", n,
                          GLM4V_MAX_CHOICES);
    encoded *e = glm4v_alloc(1, sizeof *e);
    if (!e)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %" PRId64 " choices", n);
    e->n = n;
    int rc = encode(e, tokenizer, texts, err);
    if (!rc)
        rc = build(choices, e, err);
    glm4v_free(e->ids.ids);
    glm4v_free(e);
    return rc;
}

int64_t glm4v_choices_rows(const glm4v_choices *c, int64_t most, int64_t chain, bool branches)
{
    int64_t n = 0, in_chain = 0;
    for (; n < most && c->next + n < c->n_nodes; n++) {
        const bool follows = n && c->nodes[c->next + n].parent == c->next + n - 1;
        in_chain = follows ? in_chain + 1 : 1;
        if (in_chain > chain || (n && !follows && !branches))
            break;
    }
    return n;
}

/* log(sum(exp(logits))); NaN where one is not finite. */
static double log_sum(const float *logits, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(logits[i]))
            return NAN;
        max = logits[i] > max ? logits[i] : max;
    }
    for (int64_t i = 0; i < n; i++)
        sum += exp(logits[i] - max);
    return max + log(sum);
}

bool glm4v_choices_score(glm4v_choices *c, int64_t node, const float *logits,
                         const glm4v_stop_ids *stop)
{
    const glm4v_choice_node *n = &c->nodes[node];
    const double all = log_sum(logits, stop->vocab);
    if (isnan(all))
        return false;
    for (int64_t child = node + 1; child < n->end; child = c->nodes[child].end)
        c->nodes[child].path = n->path + logits[c->nodes[child].id] - all;
    if (n->choice < 0)
        return true;
    float ends[GLM4V_MAX_STOP_IDS];
    for (int64_t i = 0; i < stop->n; i++)
        ends[i] = logits[stop->ids[i]];
    c->score[n->choice] = n->path + log_sum(ends, stop->n) - all;
    return true;
}

int64_t glm4v_choices_finish(glm4v_choices *c)
{
    int64_t best = 0;
    double sum = 0;
    for (int64_t i = 1; i < c->n_choices; i++)
        best = c->score[i] > c->score[best] ? i : best;
    const double max = c->score[best];
    for (int64_t i = 0; i < c->n_choices; i++)
        sum += c->score[i] = exp(c->score[i] - max);
    for (int64_t i = 0; i < c->n_choices; i++)
        c->score[i] /= sum;
    return best;
}
