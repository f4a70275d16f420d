/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A closed list of answers as a prefix tree of token ids, and what the model thinks of each. A
 * request runs every node of the tree once, in preorder, several in one step: where a branch ends,
 * the next one replaces its keys and values from the depth at which it leaves the path, so that
 * the branches need neither a second slot nor a copy. The log-probability of a choice is that of
 * its tokens and of any stop token behind them, at temperature 1. */
#ifndef GLM4V_ENGINE_CHOICES_H
#define GLM4V_ENGINE_CHOICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tokenizer/tokenizer.h"

typedef struct {
    int32_t id;    /* token; the root has none */
    int64_t depth; /* tokens from the beginning of the answer, this one included; root 0 */
    int64_t parent;
    int64_t end;    /* one more than the last node below it */
    int64_t choice; /* that ends here; -1: none */
    double path;    /* log-probability of the tokens up to here */
} glm4v_choice_node;

typedef struct {
    int64_t n_nodes, n_choices;
    int64_t longest;           /* tokens of the longest choice */
    int64_t next;              /* node that is run next; n_nodes: all were */
    double *score;             /* [n_choices] log-probabilities, then, finished, shares of 1 */
    int64_t *leaf;             /* [n_choices] node where each ends */
    glm4v_choice_node nodes[]; /* [n_nodes] in preorder */
} glm4v_choices;

/* The tree of n texts; glm4v_free(). INVALID: there are too many, one is empty, too long, no UTF-8,
 * twice there, or gives no tokens; NOMEM. */
int glm4v_choices_open(glm4v_choices **choices, const glm4v_tokenizer *tokenizer,
                       const char *const *texts, int64_t n, glm4v_error *err);

/* How many nodes from `next` on are the rows of one step: at most `most`, and `chain` that follow
 * one another down a path; without branches only one path. */
int64_t glm4v_choices_rows(const glm4v_choices *choices, int64_t most, int64_t chain,
                           bool branches);

/* The ids that end an answer. */
typedef struct {
    const int32_t *ids;
    int64_t n, vocab;
} glm4v_stop_ids;

/* Logits [vocab] behind a node: scores of the nodes below it and of a choice that ends there. False
 * where one is not finite. */
bool glm4v_choices_score(glm4v_choices *choices, int64_t node, const float *logits,
                         const glm4v_stop_ids *stop);

/* All nodes are scored: turn score into each choice's share of 1. Returns the largest, the first of
 * equals. */
int64_t glm4v_choices_finish(glm4v_choices *choices);

#endif
