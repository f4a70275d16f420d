/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a server sends becomes an answer, or is refused with a reason. Bytes: whether it is a stream
 * and in what pieces it comes, then all that comes. However it is cut into pieces, a stream gives
 * the same. P-14: some are tried again with an allocation that fails. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "fuzz.h"
#include "openai/events.h"
#include "openai/reply.h"

static const char *const choices[] = { "good", "bad" };

typedef struct {
    openai_reply reply;
    glm4v_error *err;
} reader;

static int on_event(void *user, const char *data, size_t size)
{
    reader *r = user;
    openai_piece piece;
    const int rc = openai_reply_event(&r->reply, data, size, &piece, r->err);
    FUZZ_CHECK(rc || (piece.content && piece.reasoning));
    return rc;
}

/* In pieces of `step` bytes. */
static int read_stream(reader *r, const uint8_t *data, size_t size, size_t step)
{
    openai_events events = { .begun = false };
    int rc = 0;
    for (size_t at = 0; !rc && at < size; at += step)
        rc = openai_events_take(&events, (const char *)data + at,
                                size - at < step ? size - at : step, on_event, r, r->err);
    openai_events_close(&events);
    return rc;
}

static int read_all(reader *r, const uint8_t *data, size_t size, uint8_t kind, glm4v_error *err)
{
    *r = (reader) { .err = err };
    if (kind & 1)
        return openai_reply_whole(&r->reply, (const char *)data, size, err);
    return read_stream(r, data, size, (kind >> 1) + 1u);
}

static void check_text(const glm4v_text_out *text)
{
    FUZZ_CHECK(text->size <= OPENAI_MAX_REPLY_TEXT);
    FUZZ_CHECK(!text->data || !text->data[text->size]);
    FUZZ_CHECK(!text->data || glm4v_utf8_valid(text->data, text->size, NULL));
}

static void check_reply(const openai_reply *r)
{
    double shares[2];
    glm4v_box boxes[GLM4V_MAX_BOXES];
    check_text(&r->content);
    check_text(&r->reasoning);
    FUZZ_CHECK(strlen(r->model) < OPENAI_MAX_MODEL_NAME);
    FUZZ_CHECK(glm4v_utf8_valid(r->model, strlen(r->model), NULL));
    FUZZ_CHECK(!r->cut || r->finished);
    if (openai_reply_shares(r, choices, 2, shares))
        FUZZ_CHECK(shares[0] >= 0 && shares[1] >= 0 && fabs(shares[0] + shares[1] - 1) < 2e-3);
    const uint32_t n = openai_reply_boxes(r, boxes);
    for (uint32_t i = 0; i < n; i++)
        FUZZ_CHECK(boxes[i].x >= 0 && boxes[i].y >= 0 && boxes[i].width >= 1 &&
                   boxes[i].height >= 1 && strlen(boxes[i].label) < 64);
    FUZZ_CHECK(openai_reply_box(r));
}

static bool same_text(const glm4v_text_out *a, const glm4v_text_out *b)
{
    return a->size == b->size && (!a->size || !memcmp(a->data, b->data, a->size));
}

/* One byte at a time, and all at once. */
static void check_pieces(const reader *first, int rc, const uint8_t *data, size_t size)
{
    for (int whole = 0; whole < 2; whole++) {
        glm4v_error err = { 0 };
        reader r = { .err = &err };
        FUZZ_CHECK(read_stream(&r, data, size, whole ? size : 1) == rc);
        FUZZ_CHECK(same_text(&r.reply.content, &first->reply.content));
        FUZZ_CHECK(r.reply.done == first->reply.done && r.reply.finished == first->reply.finished);
        openai_reply_close(&r.reply);
    }
}

static void check_other_readers(const uint8_t *data, size_t size)
{
    char reason[OPENAI_MAX_REASON], model[OPENAI_MAX_MODEL_NAME];
    glm4v_error err = { 0 };
    openai_read_reason(reason, (const char *)data, size);
    FUZZ_CHECK(strlen(reason) < sizeof reason && glm4v_utf8_valid(reason, strlen(reason), NULL));
    const int rc = openai_read_models(model, (const char *)data, size, &err);
    FUZZ_CHECK(rc || (*model && glm4v_utf8_valid(model, strlen(model), NULL)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t kind = size ? data[0] : 0;
    const uint8_t *rest = data + (size > 0);
    const size_t n = size ? size - 1 : 0;
    const uint64_t calls = glm4v_mem_calls();
    glm4v_error err = { 0 };
    reader r;
    const int rc = read_all(&r, rest, n, kind, &err);
    const uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - calls);
    FUZZ_CHECK((rc != 0) == (err.msg[0] != 0));
    check_reply(&r.reply);
    if (!(kind & 1) && n)
        check_pieces(&r, rc, rest, n);
    openai_reply_close(&r.reply);
    check_other_readers(rest, n);
    FUZZ_WITHOUT_MEMORY(nth, &err, read_all(&r, rest, n, kind, &err));
    if (nth)
        openai_reply_close(&r.reply);
    return 0;
}
