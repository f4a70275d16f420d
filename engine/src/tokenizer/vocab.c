/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tokenizer's tables: tokens by id, ids by bytes, merges by pair. Filled once while loading,
 * then read-only. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"
#include "tokenizer/tokenizer_priv.h"

#define PRIME ((UINT64_C(1) << 61) - 1)

static uint64_t multiply(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    uint64_t sum = (uint64_t)(product & PRIME) + (uint64_t)(product >> 61);
    return sum >= PRIME ? sum - PRIME : sum;
}

uint64_t glm4v_hash_step(uint64_t hash, uint64_t base, unsigned char byte)
{
    uint64_t sum = multiply(hash, base) + byte + 1; /* + 1: leading zero bytes count */
    return sum >= PRIME ? sum - PRIME : sum;
}

uint64_t glm4v_hash_bytes(const glm4v_tokenizer *t, const unsigned char *s, size_t len)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < len; i++)
        hash = glm4v_hash_step(hash, t->base, s[i]);
    return hash;
}

uint64_t glm4v_hash_part(const glm4v_tokenizer *t, uint64_t before, uint64_t after, size_t len)
{
    uint64_t shifted = multiply(before, t->power[len]);
    return after >= shifted ? after - shifted : after + PRIME - shifted;
}

/* A multiplicative hash on top spreads what the polynomial leaves regular in short keys. */
static uint64_t spread(uint64_t hash)
{
    hash *= UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

static size_t slots_for(size_t n)
{
    size_t slots = 16;
    while (slots < 2 * n)
        slots *= 2;
    return slots;
}

static bool table_init(glm4v_token_table *table, size_t n)
{
    size_t slots = slots_for(n);
    table->slots = glm4v_alloc(slots, sizeof *table->slots);
    table->n_slots = table->slots ? slots : 0;
    return table->slots != NULL;
}

int32_t glm4v_vocab_find(const glm4v_tokenizer *t, const glm4v_token_table *table, uint64_t hash,
                         const unsigned char *s, size_t len)
{
    uint64_t h = spread(hash);
    if (table->n_slots == 0)
        return -1;
    for (size_t i = h >> 32;; i++) {
        i &= table->n_slots - 1;
        if (table->slots[i].id == 0)
            return -1;
        const glm4v_token *token = &t->tokens[table->slots[i].id - 1];
        if (table->slots[i].tag == (uint32_t)h && token->len == len &&
            memcmp(t->bytes + token->start, s, len) == 0)
            return (int32_t)table->slots[i].id - 1;
    }
}

static void table_put(glm4v_token_table *table, uint64_t hash, int32_t id)
{
    uint64_t h = spread(hash);
    size_t i = (h >> 32) & (table->n_slots - 1);
    while (table->slots[i].id != 0)
        i = (i + 1) & (table->n_slots - 1);
    table->slots[i].tag = (uint32_t)h;
    table->slots[i].id = id + 1;
}

static uint64_t random_base(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        struct timespec now = { 0 }; /* early boot, or refused: harder to guess than a constant */
        clock_gettime(CLOCK_MONOTONIC, &now);
        seed = ((uint64_t)now.tv_nsec << 32 ^ now.tv_sec) + (uintptr_t)&seed;
    }
    return seed % (PRIME - 1024) + 512;
}

int glm4v_vocab_init(glm4v_tokenizer *t, int64_t size, size_t n_text, size_t n_control,
                     const char *file, glm4v_error *err)
{
    if (size < 1 || size > GLM4V_MAX_VOCAB)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: %" PRId64 " token ids, expected 1 to %d",
                          file, size, GLM4V_MAX_VOCAB);
    t->base = random_base();
    t->power[0] = 1;
    for (int i = 1; i <= GLM4V_MAX_TOKEN_BYTES; i++)
        t->power[i] = multiply(t->power[i - 1], t->base);
    t->size = size;
    t->tokens = glm4v_alloc(size, sizeof *t->tokens);
    if (!t->tokens || !table_init(&t->text, n_text) || !table_init(&t->control, n_control))
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory for %" PRId64 " tokens", file, size);
    return 0;
}

/* Append bytes to the arena, doubling it. */
static bool keep(glm4v_tokenizer *t, const unsigned char *s, size_t len)
{
    if (t->n_bytes + len > t->bytes_capacity) {
        size_t capacity = t->bytes_capacity ? 2 * t->bytes_capacity : 64 << 10;
        while (capacity < t->n_bytes + len)
            capacity *= 2;
        unsigned char *bytes = glm4v_realloc(t->bytes, capacity, 1);
        if (!bytes)
            return false;
        t->bytes = bytes;
        t->bytes_capacity = capacity;
    }
    memcpy(t->bytes + t->n_bytes, s, len);
    t->n_bytes += len;
    return true;
}

int glm4v_vocab_add(glm4v_tokenizer *t, const glm4v_new_token *new, const char *file,
                    glm4v_error *err)
{
    const int32_t id = new->id;
    const size_t len = new->len;
    glm4v_token_table *table = new->kind == GLM4V_TOKEN_TEXT ? &t->text : &t->control;
    glm4v_token *token = &t->tokens[id];
    if (len < 1 || len > GLM4V_MAX_TOKEN_BYTES)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: token %d has %zu bytes, expected 1 to %d",
                          file, id, len, GLM4V_MAX_TOKEN_BYTES);
    if (token->kind != GLM4V_TOKEN_NONE)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: two tokens have the id %d", file, id);
    uint64_t hash = glm4v_hash_bytes(t, new->bytes, len);
    int32_t same = glm4v_vocab_find(t, table, hash, new->bytes, len);
    if (same >= 0)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: tokens %d and %d are the same", file, same,
                          id);
    if (t->n_bytes + len > UINT32_MAX || !keep(t, new->bytes, len))
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory for its tokens", file);
    token->start = (uint32_t)(t->n_bytes - len);
    token->len = (uint16_t)len;
    token->kind = (uint8_t) new->kind;
    table_put(table, hash, id);
    return 0;
}

/* Bytes that occur in no UTF-8 text: a vocabulary may do without them. */
static bool never_in_utf8(int byte)
{
    return byte == 0xC0 || byte == 0xC1 || byte >= 0xF5;
}

int glm4v_vocab_finish(glm4v_tokenizer *t, const char *file, glm4v_error *err)
{
    int32_t last = -1;
    for (int32_t id = 0; id < t->size; id++)
        if (t->tokens[id].kind == GLM4V_TOKEN_TEXT)
            last = id;
    for (int32_t id = 0; id < last; id++)
        if (t->tokens[id].kind == GLM4V_TOKEN_NONE)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: no token has the id %d, though the vocabulary goes up to %d",
                              file, id, last);
    for (int byte = 0; byte < 256; byte++) {
        unsigned char c = (unsigned char)byte;
        t->byte_id[byte] = glm4v_vocab_find(t, &t->text, glm4v_hash_bytes(t, &c, 1), &c, 1);
        if (t->byte_id[byte] < 0 && !never_in_utf8(byte))
            return glm4v_fail(
                err, GLM4V_ERR_FORMAT,
                "%s: no token for the byte 0x%02x, so some texts could not be encoded", file,
                (unsigned)byte);
    }
    for (int32_t id = 0; id < t->size; id++)
        if (glm4v_tokenizer_is_text(t, id) && t->tokens[id].len > t->longest)
            t->longest = t->tokens[id].len;
    return 0;
}

static size_t pair_slot(const glm4v_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | (uint32_t)right) ^ t->base;
    h = (h ^ h >> 33) * UINT64_C(0xFF51AFD7ED558CCD);
    h = (h ^ h >> 33) * UINT64_C(0xC4CEB9FE1A85EC53);
    return (h ^ h >> 33) & (t->n_pairs - 1);
}

int glm4v_pairs_init(glm4v_tokenizer *t, size_t n, glm4v_error *err)
{
    size_t slots = slots_for(n);
    t->pairs = glm4v_alloc(slots, sizeof *t->pairs);
    if (!t->pairs)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %zu merges of the tokenizer", n);
    t->n_pairs = slots;
    return 0;
}

bool glm4v_pairs_add(glm4v_tokenizer *t, int32_t left, int32_t right, uint32_t rank, int32_t merged)
{
    size_t i = pair_slot(t, left, right);
    for (; t->pairs[i].rank; i = (i + 1) & (t->n_pairs - 1))
        if (t->pairs[i].left == left && t->pairs[i].right == right)
            return false;
    t->pairs[i] = (glm4v_pair) { left, right, merged, rank + 1 };
    return true;
}

const glm4v_pair *glm4v_pairs_find(const glm4v_tokenizer *t, int32_t left, int32_t right)
{
    size_t i = pair_slot(t, left, right);
    for (; t->pairs[i].rank; i = (i + 1) & (t->n_pairs - 1))
        if (t->pairs[i].left == left && t->pairs[i].right == right)
            return &t->pairs[i];
    return NULL;
}

size_t glm4v_tokenizer_memory(const glm4v_tokenizer *t)
{
    return sizeof *t + t->size * sizeof *t->tokens + t->bytes_capacity +
           (t->text.n_slots + t->control.n_slots) * sizeof *t->text.slots +
           t->n_pairs * sizeof *t->pairs;
}
