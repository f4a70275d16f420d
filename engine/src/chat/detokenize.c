/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The last stage of a request: token ids to text, while they come. Bytes are taken one at a time
 * through a window of at most four, so that it makes no difference where tokens cut a character;
 * the output is always complete, valid UTF-8. Control tokens switch between reasoning, answer and
 * box and never show. */
#include "chat/detokenize.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer_priv.h"

/* Text that has no business in a caption. */
static bool dropped(uint32_t c)
{
    return glm4v_utf8_hidden(c) && c != '\n' && c != '\t';
}

/* Append one character. Leading white space is left out. False when it does not fit. */
static bool append(glm4v_text *text, uint32_t code)
{
    unsigned char s[4];
    if (text->len == 0 && glm4v_is_space(code))
        return true;
    int n = glm4v_utf8_put(s, code);
    if (text->len + n >= text->capacity)
        return false;
    memcpy(text->data + text->len, s, n);
    text->len += n;
    text->data[text->len] = 0;
    return true;
}

/* The text that a part's characters go to; a box belongs to the answer. */
static glm4v_text *text_of(glm4v_detokenizer *d, glm4v_text_part part)
{
    return part == GLM4V_TEXT_REASONING ? &d->reasoning : &d->answer;
}

static bool emit(glm4v_detokenizer *d, uint32_t code)
{
    if (dropped(code))
        return true;
    bool fits = append(text_of(d, d->part), code);
    if (fits && d->part == GLM4V_TEXT_BOX && d->n_boxes == 1)
        fits = append(&d->box, code);
    return fits;
}

/* Take one byte: characters that it completes, or shows to be none, leave the window. */
static bool take_byte(glm4v_detokenizer *d, unsigned char byte)
{
    bool fits = true;
    d->held[d->n_held++] = byte;
    while (d->n_held && fits) {
        uint32_t code = GLM4V_REPLACEMENT;
        int n = glm4v_utf8_next(d->held, d->n_held, &code);
        if (n == 0)
            break;
        n = n < 0 ? -n : n;
        d->n_held -= n;
        memmove(d->held, d->held + n, d->n_held);
        fits = emit(d, code);
    }
    return fits;
}

static void swap_texts(glm4v_detokenizer *d)
{
    glm4v_text answer = d->answer;
    d->answer = d->reasoning;
    d->reasoning = answer;
}

/* The reasoning ended, though nothing said that it had begun: what was taken for the answer was
 * it. */
static void answer_was_reasoning(glm4v_detokenizer *d)
{
    if (d->reasoning.len)
        return;
    swap_texts(d);
    d->box.len = 0;
    d->box.data[0] = 0;
    d->n_boxes = 0;
}

/* What follows is a box; more of them than fit belong to the last. */
static void open_box(glm4v_detokenizer *d)
{
    if (d->part != GLM4V_TEXT_BOX && d->n_boxes < GLM4V_MAX_BOXES)
        d->spans[d->n_boxes++].start = d->answer.len;
    d->part = GLM4V_TEXT_BOX;
}

static void close_box(glm4v_detokenizer *d)
{
    if (d->part == GLM4V_TEXT_BOX)
        d->spans[d->n_boxes - 1].end = d->answer.len;
}

static void take_control(glm4v_detokenizer *d, int32_t id)
{
    const glm4v_chat *chat = d->chat;
    bool reasoning = d->part == GLM4V_TEXT_REASONING;
    if (id != chat->box)
        close_box(d);
    if (id == chat->think) {
        d->part = GLM4V_TEXT_REASONING;
        d->thought = true;
    } else if (id == chat->think_end) {
        if (!reasoning)
            answer_was_reasoning(d);
        d->thought = true;
        d->part = GLM4V_TEXT_ANSWER;
    } else if (id == chat->answer || id == chat->answer_end) {
        d->thought |= id == chat->answer;
        d->part = GLM4V_TEXT_ANSWER;
    } else if (id == chat->box && !reasoning) {
        open_box(d);
    } else if (id == chat->box_end && !reasoning) {
        d->part = GLM4V_TEXT_ANSWER;
    }
}

bool glm4v_detokenizer_push(glm4v_detokenizer *d, int32_t id, const char **text,
                            glm4v_text_part *part)
{
    size_t len;
    const char *bytes = glm4v_tokenizer_bytes(d->tokenizer, id, &len);
    glm4v_text *target = text_of(d, d->part);
    char *start = target->data + target->len;
    bool fits = true, control = !glm4v_tokenizer_is_text(d->tokenizer, id);
    *part = d->part;
    if (control && d->n_held) { /* no character goes on behind a control token */
        d->n_held = 0;
        fits = emit(d, GLM4V_REPLACEMENT);
    }
    *text = start;
    for (size_t i = 0; !control && fits && i < len; i++)
        fits = take_byte(d, (unsigned char)bytes[i]);
    if (control && fits)
        take_control(d, id);
    return fits;
}

/* Remove white space at the end. */
static void trim(glm4v_text *text)
{
    size_t end = 0;
    for (size_t i = 0; i < text->len;) {
        uint32_t code = 0;
        int n = glm4v_utf8_next((unsigned char *)text->data + i, text->len - i, &code);
        i += n;
        if (!glm4v_is_space(code))
            end = i;
    }
    text->len = end;
    text->data[end] = 0;
}

void glm4v_detokenizer_finish(glm4v_detokenizer *d)
{
    d->n_held = 0;
    close_box(d);
    if (!d->thought && !d->answer.len)
        swap_texts(d); /* asked to reason, the model answered at once */
    trim(&d->answer);
    trim(&d->reasoning);
    trim(&d->box);
}

static bool text_init(glm4v_text *text, size_t capacity)
{
    text->data = glm4v_alloc_aligned(capacity, 1);
    if (!text->data)
        return false;
    text->data[0] = 0;
    text->capacity = capacity;
    return true;
}

/* Texts of `largest` bytes, their ends included, or as many as there may be. */
static int texts_init(glm4v_detokenizer *d, uint64_t largest, glm4v_error *err)
{
    size_t capacity = largest < GLM4V_MAX_OUTPUT_BYTES ? largest : GLM4V_MAX_OUTPUT_BYTES + 1;
    if (text_init(&d->answer, capacity) && text_init(&d->reasoning, capacity) &&
        text_init(&d->box, capacity))
        return 0;
    glm4v_detokenizer_clear(d);
    return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an answer of %zu bytes", capacity);
}

int glm4v_detokenizer_init(glm4v_detokenizer *d, const glm4v_tokenizer *tokenizer,
                           const glm4v_chat *chat, bool thinking, int64_t max_tokens,
                           glm4v_error *err)
{
    *d = (glm4v_detokenizer) { .tokenizer = tokenizer,
                               .chat = chat,
                               .part = thinking ? GLM4V_TEXT_REASONING : GLM4V_TEXT_ANSWER };
    /* a byte may become U+FFFD, three bytes; one more for a character held at the start, one to end
     * the string */
    return texts_init(d, 3 * (max_tokens * tokenizer->longest + 1) + 1, err);
}

/* ---- texts with their markers spelled out ---- */

/* As ids: their places in the table below. */
static const glm4v_chat written = {
    .think = 0, .think_end = 1, .answer = 2, .answer_end = 3, .box = 4, .box_end = 5
};

/* The marker that text begins with and its length; -1: none. */
static int32_t marker_at(const char *text, size_t *len)
{
    static const char *const markers[] = { "<think>",   "</think>",         "<answer>",
                                           "</answer>", "<|begin_of_box|>", "<|end_of_box|>" };
    for (size_t i = 0; *text == '<' && i < sizeof markers / sizeof *markers; i++) {
        *len = strlen(markers[i]);
        if (!strncmp(text, markers[i], *len))
            return (int32_t)i;
    }
    return -1;
}

int glm4v_detokenizer_read(glm4v_detokenizer *d, const char *text, glm4v_error *err)
{
    *d = (glm4v_detokenizer) { .chat = &written, .part = GLM4V_TEXT_ANSWER };
    int rc = texts_init(d, 3 * (uint64_t)strlen(text) + 4, err);
    size_t len = 1;
    for (; !rc && *text; text += len) {
        const int32_t marker = marker_at(text, &len);
        if (marker < 0) {
            len = 1;
            take_byte(d, (unsigned char)*text);
            continue;
        }
        if (d->n_held)
            emit(d, GLM4V_REPLACEMENT);
        d->n_held = 0;
        take_control(d, marker);
    }
    if (!rc && d->n_held)
        emit(d, GLM4V_REPLACEMENT);
    if (!rc)
        glm4v_detokenizer_finish(d);
    return rc;
}

void glm4v_detokenizer_clear(glm4v_detokenizer *d)
{
    glm4v_free(d->answer.data);
    glm4v_free(d->reasoning.data);
    glm4v_free(d->box.data);
    memset(d, 0, sizeof *d);
}
