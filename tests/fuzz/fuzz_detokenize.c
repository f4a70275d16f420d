/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-11: any bytes, split at any token borders, come out as the same clean UTF-8. The input's first
 * half tells the borders (lengths of tokens), the second half the bytes; a vocabulary is made of
 * exactly these tokens. The expected text comes from a second decoder, written here from the WHATWG
 * text alone. A second pass takes the bytes as ids of the small vocabulary, control tokens
 * included. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "chat/detokenize.h"
#include "fuzz.h"
#include "tokenizer/tokenizer_priv.h"

#define MAX_BYTES 4096

static glm4v_tokenizer *small;
static glm4v_chat small_chat;

static void start(void)
{
    FUZZ_CHECK(glm4v_tokenizer_open(&small, SOURCE_ROOT "/tests/data/tokenizer/glm-4.1v", NULL) ==
               0);
    const glm4v_config config = {
        .text.vocab = 4096,
        .image_id = glm4v_tokenizer_control(small, "<|image|>"),
        .image_start_id = glm4v_tokenizer_control(small, "<|begin_of_image|>"),
        .image_end_id = glm4v_tokenizer_control(small, "<|end_of_image|>"),
        .video_start_id = -1,
        .video_end_id = -1,
    };
    FUZZ_CHECK(glm4v_chat_init(&small_chat, small, &config, NULL) == 0);
}

/* ---- the expected text ---- */

/* The "UTF-8 decoder" of the WHATWG Encoding standard, step by step; what is incomplete at the end
 * is dropped. */
static size_t decode(uint32_t *out, const uint8_t *s, size_t len)
{
    uint32_t code = 0;
    int needed = 0, seen = 0;
    uint8_t low = 0x80, high = 0xBF;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t b = s[i];
        if (needed == 0) {
            if (b <= 0x7F) {
                out[n++] = b;
            } else if (b >= 0xC2 && b <= 0xDF) {
                needed = 1;
                code = b & 0x1F;
            } else if (b >= 0xE0 && b <= 0xEF) {
                low = b == 0xE0 ? 0xA0 : low;
                high = b == 0xED ? 0x9F : high;
                needed = 2;
                code = b & 0xF;
            } else if (b >= 0xF0 && b <= 0xF4) {
                low = b == 0xF0 ? 0x90 : low;
                high = b == 0xF4 ? 0x8F : high;
                needed = 3;
                code = b & 7;
            } else {
                out[n++] = 0xFFFD;
            }
            continue;
        }
        if (b < low || b > high) {
            out[n++] = 0xFFFD;
            needed = seen = 0;
            low = 0x80;
            high = 0xBF;
            i--; /* look at this byte again */
            continue;
        }
        low = 0x80;
        high = 0xBF;
        code = code << 6 | (b & 0x3F);
        if (++seen == needed) {
            out[n++] = code;
            needed = seen = 0;
        }
    }
    return n;
}

static bool unwanted(uint32_t c)
{
    return (c <= 0x1F && c != '\n' && c != '\t') || (c >= 0x7F && c <= 0x9F) ||
           (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/* Clean, without white space in front. */
static size_t expected_text(char *out, const uint8_t *s, size_t len)
{
    static uint32_t codes[MAX_BYTES];
    size_t n = decode(codes, s, len), k = 0;
    for (size_t i = 0; i < n; i++)
        if (!unwanted(codes[i]) && !(k == 0 && glm4v_is_space(codes[i])))
            k += (size_t)glm4v_utf8_put((unsigned char *)out + k, codes[i]);
    return k;
}

/* ---- a vocabulary of the input's tokens ---- */

static size_t put_line(char *out, const uint8_t *s, size_t len, int rank)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group =
            (uint32_t)s[i] << 16 | (i + 1 < len ? s[i + 1] << 8 : 0) | (i + 2 < len ? s[i + 2] : 0);
        for (int k = 0; k < 4; k++)
            out[n++] = i + (size_t)(k ? k - 1 : 0) < len ? digits[group >> (18 - 6 * k) & 63] : '=';
    }
    return n + (size_t)sprintf(out + n, " %d\n", rank);
}

/* Tokens of the input: where they begin and end in its bytes, and their ids. */
typedef struct {
    size_t start[MAX_BYTES], len[MAX_BYTES];
    int32_t id[MAX_BYTES];
    size_t n;
    char text[256 * 16 + MAX_BYTES * 16]; /* their tokenizer.model */
    size_t n_text;
    int n_ranks;
} cut_tokens;

/* Id of the next token, bytes [start, start + len): its byte, that of an equal one before it, or a
 * new one. */
static int32_t id_for(cut_tokens *c, const uint8_t *bytes, size_t start, size_t len)
{
    if (len == 1)
        return bytes[start];
    for (size_t i = 0; i < c->n; i++)
        if (c->len[i] == len && memcmp(bytes + c->start[i], bytes + start, len) == 0)
            return c->id[i];
    c->n_text += put_line(c->text + c->n_text, bytes + start, len, c->n_ranks);
    return c->n_ranks++;
}

static void cut_bytes(cut_tokens *c, const uint8_t *borders, size_t n_borders, const uint8_t *bytes,
                      size_t len)
{
    c->n = c->n_text = 0;
    for (c->n_ranks = 0; c->n_ranks < 256; c->n_ranks++)
        c->n_text +=
            put_line(c->text + c->n_text, &(uint8_t) { (uint8_t)c->n_ranks }, 1, c->n_ranks);
    for (size_t i = 0; i < len; i += c->len[c->n++]) {
        size_t n = n_borders ? 1 + borders[c->n % n_borders] % 7u : 1;
        n = n < len - i ? n : len - i;
        c->id[c->n] = id_for(c, bytes, i, n);
        c->start[c->n] = i;
        c->len[c->n] = n;
    }
}

/* Push bytes [0, len) cut into tokens of the lengths that borders tells, and compare. */
static void check_borders(const uint8_t *borders, size_t n_borders, const uint8_t *bytes,
                          size_t len)
{
    static cut_tokens c;
    static char expected[3 * MAX_BYTES + 1], stream[3 * MAX_BYTES + 1];
    size_t n_stream = 0;
    cut_bytes(&c, borders, n_borders, bytes, len);
    glm4v_tokenizer *t = NULL;
    glm4v_detokenizer d;
    const glm4v_chat none = {
        .think = -1, .think_end = -1, .answer = -1, .answer_end = -1, .box = -1, .box_end = -1
    };
    FUZZ_CHECK(
        glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, c.text, c.n_text }, NULL) == 0);
    FUZZ_CHECK(glm4v_detokenizer_init(&d, t, &none, false, MAX_BYTES, NULL) == 0);
    for (size_t i = 0; i < c.n; i++) {
        const char *part_text;
        glm4v_text_part part;
        FUZZ_CHECK(glm4v_detokenizer_push(&d, c.id[i], &part_text, &part));
        FUZZ_CHECK(glm4v_utf8_valid(part_text, strlen(part_text), NULL));
        memcpy(stream + n_stream, part_text, strlen(part_text));
        n_stream += strlen(part_text);
    }
    size_t n = expected_text(expected, bytes, len);
    FUZZ_CHECK(n == n_stream && memcmp(expected, stream, n) == 0);
    glm4v_detokenizer_finish(&d);
    FUZZ_CHECK(d.answer.len <= n && memcmp(d.answer.data, expected, d.answer.len) == 0);
    glm4v_detokenizer_clear(&d);
    glm4v_tokenizer_close(&t);
}

/* ---- ids of the small vocabulary ---- */

static void check_clean(const glm4v_text *text)
{
    uint32_t code = 0;
    FUZZ_CHECK(text->len < text->capacity && text->data[text->len] == 0);
    for (size_t i = 0; i < text->len;) {
        int n = glm4v_utf8_next((const unsigned char *)text->data + i, text->len - i, &code);
        FUZZ_CHECK(n > 0 && !unwanted(code));
        FUZZ_CHECK(i > 0 || !glm4v_is_space(code));
        i += (size_t)n;
    }
    FUZZ_CHECK(text->len == 0 || !glm4v_is_space(code));
}

static void check_ids(const uint8_t *data, size_t size)
{
    glm4v_detokenizer d;
    bool fits = true;
    /* few tokens promised, many pushed: the limit must hold */
    FUZZ_CHECK(glm4v_detokenizer_init(&d, small, &small_chat, size & 1, 1 + (uint32_t)size / 64,
                                      NULL) == 0);
    for (size_t i = 0; fits && i < size; i++) {
        int32_t id = data[i] < 0xE0 ? data[i] : glm4v_tokenizer_size(small) - (data[i] - 0xDF);
        const char *text;
        glm4v_text_part part;
        fits = glm4v_detokenizer_push(&d, id, &text, &part);
        FUZZ_CHECK(glm4v_utf8_valid(text, strlen(text), NULL));
    }
    glm4v_detokenizer_finish(&d);
    check_clean(&d.answer);
    check_clean(&d.reasoning);
    check_clean(&d.box);
    glm4v_detokenizer_clear(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > MAX_BYTES)
        return 0;
    if (!small)
        start();
    check_borders(data, size / 2, data + size / 2, size - size / 2);
    check_ids(data, size);
    return 0;
}
