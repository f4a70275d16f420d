/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tokenizer's public side: text to ids, ids to bytes, control tokens by name. Used by prompt.c,
 * which builds prompts from its ids, and by detokenize.c, which turns answers back into text. */
#include "tokenizer/tokenizer.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer_priv.h"

void glm4v_tokenizer_close(glm4v_tokenizer **tokenizer)
{
    glm4v_tokenizer *t = *tokenizer;
    if (!t)
        return;
    glm4v_free(t->tokens);
    glm4v_free(t->bytes);
    glm4v_free(t->text.slots);
    glm4v_free(t->control.slots);
    glm4v_free(t->pairs);
    glm4v_free(t);
    *tokenizer = NULL;
}

int64_t glm4v_tokenizer_size(const glm4v_tokenizer *t)
{
    return t->size;
}

/* Room for `more` further ids. */
static int reserve(glm4v_ids *to, size_t more, glm4v_error *err)
{
    size_t wanted, room = to->capacity ? to->capacity : 64;
    if (!glm4v_add_overflow(to->n, more, &wanted)) {
        if (wanted <= to->capacity)
            return 0;
        while (room < wanted && room <= SIZE_MAX / 2)
            room *= 2;
        int32_t *fresh = room < wanted ? NULL : glm4v_realloc(to->ids, room, sizeof *fresh);
        if (fresh) {
            to->ids = fresh;
            to->capacity = room;
            return 0;
        }
    }
    return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %zu token ids", to->n);
}

/* Where to cut a piece that is too long: at most GLM4V_MAX_PIECE_BYTES, between two characters. */
static size_t cut(const char *piece, size_t len)
{
    if (len <= GLM4V_MAX_PIECE_BYTES)
        return len;
    len = GLM4V_MAX_PIECE_BYTES;
    while (((unsigned char)piece[len] & 0xC0) == 0x80)
        len--;
    return len;
}

int glm4v_encode_with(const glm4v_tokenizer *t, glm4v_bpe *bpe, const char *text, size_t len,
                      glm4v_ids *ids, glm4v_error *err)
{
    const size_t before = ids->n;
    size_t bad;
    if (!glm4v_utf8_valid(text, len, &bad))
        return glm4v_fail(err, GLM4V_ERR_INVALID, "the text is not UTF-8 at byte %zu", bad);
    for (size_t i = 0; i < len;) {
        size_t end = i + glm4v_split_next(text + i, len - i);
        while (i < end) {
            size_t part = cut(text + i, end - i);
            int rc = reserve(ids, part, err);
            if (!rc)
                rc = glm4v_bpe_encode(t, bpe, (const unsigned char *)text + i, part, ids, err);
            if (rc) {
                ids->n = before;
                return rc;
            }
            i += part;
        }
    }
    return 0;
}

int glm4v_tokenizer_encode(const glm4v_tokenizer *t, const char *text, size_t len, glm4v_ids *ids,
                           glm4v_error *err)
{
    glm4v_bpe bpe = { 0 };
    int rc = glm4v_encode_with(t, &bpe, text, len, ids, err);
    glm4v_bpe_clear(&bpe);
    return rc;
}

int32_t glm4v_tokenizer_control(const glm4v_tokenizer *t, const char *name)
{
    const unsigned char *s = (const unsigned char *)name;
    size_t len = strlen(name);
    if (len < 1 || len > GLM4V_MAX_TOKEN_BYTES)
        return -1;
    return glm4v_vocab_find(t, &t->control, glm4v_hash_bytes(t, s, len), s, len);
}

bool glm4v_tokenizer_is_control(const glm4v_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size &&
           (t->tokens[id].kind == GLM4V_TOKEN_CONTROL || t->tokens[id].kind == GLM4V_TOKEN_ADDED);
}

bool glm4v_tokenizer_is_text(const glm4v_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size &&
           (t->tokens[id].kind == GLM4V_TOKEN_TEXT || t->tokens[id].kind == GLM4V_TOKEN_ADDED);
}

const char *glm4v_tokenizer_bytes(const glm4v_tokenizer *t, int32_t id, size_t *len)
{
    *len = 0;
    if (id < 0 || id >= t->size || t->tokens[id].kind == GLM4V_TOKEN_NONE)
        return NULL;
    *len = t->tokens[id].len;
    return (const char *)t->bytes + t->tokens[id].start;
}
