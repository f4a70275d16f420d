/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Byte-pair merging of one piece: the neighbours with the lowest rank become one, leftmost first,
 * until none can. A linked list holds what is left of the piece, a binary heap the possible merges;
 * merges that an earlier one made impossible stay in the heap and are recognised by their length
 * when they come up. O(n log n). Source: Sennrich et al., "Neural Machine Translation of Rare Words
 * with Subword Units", ACL 2016. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "tokenizer/tokenizer_priv.h"

#define NOWHERE UINT32_MAX

/* A token of the piece, kept at the index of its first byte. */
typedef struct glm4v_bpe_node {
    uint32_t previous, next; /* index, or NOWHERE */
    uint32_t len;            /* bytes; 0 = merged into an earlier one */
    int32_t id;
} node;

/* A possible merge of the nodes at `at` and after it. */
typedef struct glm4v_bpe_merge {
    uint32_t rank;
    uint32_t at;
    /* of both together: lengths only grow, so this shows whether either has changed since */
    uint32_t len;
    int32_t id; /* of the result */
} merge;

static bool before(const merge *a, const merge *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void sift_down(glm4v_bpe *bpe, size_t i)
{
    merge item = bpe->heap[i];
    for (size_t child = 2 * i + 1; child < bpe->n_heap; child = 2 * i + 1) {
        bpe->steps++;
        if (child + 1 < bpe->n_heap && before(&bpe->heap[child + 1], &bpe->heap[child]))
            child++;
        if (!before(&bpe->heap[child], &item))
            break;
        bpe->heap[i] = bpe->heap[child];
        i = child;
    }
    bpe->heap[i] = item;
}

static void heap_push(glm4v_bpe *bpe, merge item)
{
    size_t i = bpe->n_heap++;
    for (; i > 0 && before(&item, &bpe->heap[(i - 1) / 2]); i = (i - 1) / 2) {
        bpe->heap[i] = bpe->heap[(i - 1) / 2];
        bpe->steps++;
    }
    bpe->heap[i] = item;
}

static merge heap_pop(glm4v_bpe *bpe)
{
    merge top = bpe->heap[0];
    bpe->heap[0] = bpe->heap[--bpe->n_heap];
    if (bpe->n_heap)
        sift_down(bpe, 0);
    return top;
}

/* Can the node at i merge with the next one? */
static bool find_merge(const glm4v_tokenizer *t, glm4v_bpe *bpe, const unsigned char *piece,
                       uint32_t i, merge *found)
{
    const node *left = &bpe->nodes[i];
    if (left->next == NOWHERE)
        return false;
    const node *right = &bpe->nodes[left->next];
    uint32_t len = left->len + right->len;
    bpe->steps++;
    if (len > t->longest)
        return false;
    if (t->pairs) {
        const glm4v_pair *pair = glm4v_pairs_find(t, left->id, right->id);
        if (!pair)
            return false;
        *found = (merge) { pair->rank, i, len, pair->merged };
        return true;
    }
    uint64_t hash = glm4v_hash_part(t, bpe->prefix[i], bpe->prefix[i + len], len);
    int32_t id = glm4v_vocab_find(t, &t->text, hash, piece + i, len);
    *found = (merge) { id, i, len, id };
    return id >= 0;
}

static int reserve(glm4v_bpe *bpe, size_t len, glm4v_error *err)
{
    if (len <= bpe->capacity)
        return 0;
    size_t capacity = bpe->capacity ? bpe->capacity : 256;
    while (capacity < len)
        capacity *= 2;
    glm4v_bpe_clear(bpe);
    bpe->nodes = glm4v_alloc(capacity, sizeof *bpe->nodes);
    /* n - 1 at first, at most 2 for each merge */
    bpe->heap = glm4v_alloc(capacity, 3 * sizeof *bpe->heap);
    bpe->prefix = glm4v_alloc(capacity + 1, sizeof *bpe->prefix);
    if (!bpe->nodes || !bpe->heap || !bpe->prefix)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to tokenize a piece of %zu bytes", len);
    bpe->capacity = capacity;
    return 0;
}

void glm4v_bpe_clear(glm4v_bpe *bpe)
{
    glm4v_free(bpe->nodes);
    glm4v_free(bpe->heap);
    glm4v_free(bpe->prefix);
    bpe->nodes = NULL;
    bpe->heap = NULL;
    bpe->prefix = NULL;
    bpe->capacity = 0;
}

/* One node for each byte, and the merges that are possible between them. */
static void start(const glm4v_tokenizer *t, glm4v_bpe *bpe, const unsigned char *piece, size_t len)
{
    bpe->n_heap = 0;
    for (uint32_t i = 0; i < len; i++)
        bpe->nodes[i] =
            (node) { i ? i - 1 : NOWHERE, i + 1 < len ? i + 1 : NOWHERE, 1, t->byte_id[piece[i]] };
    for (uint32_t i = 0; i + 1 < len; i++)
        if (find_merge(t, bpe, piece, i, &bpe->heap[bpe->n_heap]))
            bpe->n_heap++;
    for (size_t i = bpe->n_heap / 2; i-- > 0;)
        sift_down(bpe, i);
}

static void apply(const glm4v_tokenizer *t, glm4v_bpe *bpe, const unsigned char *piece,
                  const merge *m)
{
    node *left = &bpe->nodes[m->at];
    node *right = &bpe->nodes[left->next];
    left->len = m->len;
    left->id = m->id;
    left->next = right->next;
    right->len = 0;
    if (left->next != NOWHERE)
        bpe->nodes[left->next].previous = m->at;
    merge possible;
    if (find_merge(t, bpe, piece, m->at, &possible))
        heap_push(bpe, possible);
    if (left->previous != NOWHERE && find_merge(t, bpe, piece, left->previous, &possible))
        heap_push(bpe, possible);
}

int glm4v_bpe_encode(const glm4v_tokenizer *t, glm4v_bpe *bpe, const unsigned char *piece,
                     size_t len, glm4v_ids *ids, glm4v_error *err)
{
    int rc = reserve(bpe, len, err);
    if (rc)
        return rc;
    bpe->prefix[0] = 0;
    for (size_t i = 0; i < len; i++)
        bpe->prefix[i + 1] = glm4v_hash_step(bpe->prefix[i], t->base, piece[i]);
    if (t->whole_piece && len <= t->longest) {
        int32_t id = glm4v_vocab_find(t, &t->text, bpe->prefix[len], piece, len);
        if (id >= 0) {
            ids->ids[ids->n++] = id;
            return 0;
        }
    }
    start(t, bpe, piece, len);
    while (bpe->n_heap) {
        merge best = heap_pop(bpe);
        const node *left = &bpe->nodes[best.at];
        if (left->len && left->next != NOWHERE &&
            left->len + bpe->nodes[left->next].len == best.len)
            apply(t, bpe, piece, &best);
    }
    for (uint32_t i = 0; i != NOWHERE; i = bpe->nodes[i].next)
        ids->ids[ids->n++] = bpe->nodes[i].id;
    return 0;
}
