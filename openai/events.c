/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See events.h. */
#include "openai/events.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

typedef struct {
    int (*take)(void *user, const char *data, size_t size);
    void *user;
    glm4v_error *err;
} receiver;

static void empty(glm4v_text_out *text)
{
    text->size = 0;
    if (text->data)
        text->data[0] = 0;
}

/* The value of a line "data: value"; NULL: it is another line. */
static const char *data_of(const char *line, size_t size, size_t *n)
{
    if (size < 4 || memcmp(line, "data", 4) || (size > 4 && line[4] != ':'))
        return NULL;
    size_t at = size > 4 ? 5 : 4;
    at += at < size && line[at] == ' ';
    *n = size - at;
    return line + at;
}

static int end_event(openai_events *e, const receiver *to)
{
    int rc = 0;
    if (e->has_data)
        rc = to->take(to->user, e->data.data ? e->data.data : "", e->data.size);
    e->has_data = false;
    empty(&e->data);
    return rc;
}

/* A mark of the byte order may stand before all. */
static size_t length_of_mark(const glm4v_text_out *line)
{
    return line->size >= 3 && !memcmp(line->data, "\xEF\xBB\xBF", 3) ? 3 : 0;
}

static int end_line(openai_events *e, const receiver *to)
{
    const size_t mark = e->begun ? 0 : length_of_mark(&e->line);
    size_t n;
    const char *value = data_of(e->line.data ? e->line.data + mark : "", e->line.size - mark, &n);
    int rc = 0;
    e->begun = true;
    if (!e->line.size) {
        rc = end_event(e, to);
    } else if (value) {
        if (e->has_data)
            glm4v_text_add(&e->data, "\n", 1);
        glm4v_text_add(&e->data, value, n);
        e->has_data = true;
    }
    empty(&e->line);
    return rc;
}

static int add_to_line(openai_events *e, const char *bytes, size_t size, const receiver *to)
{
    glm4v_text_add(&e->line, bytes, size);
    if (e->line.failed || e->data.failed)
        return glm4v_fail(to->err, GLM4V_ERR_NOMEM, "no memory for an event");
    if (e->line.size + e->data.size > OPENAI_MAX_EVENT)
        return glm4v_fail(to->err, GLM4V_ERR_FORMAT, "an event of its stream is larger than %d KiB",
                          OPENAI_MAX_EVENT >> 10);
    return 0;
}

/* Bytes up to the end of a line. */
static size_t length_of_line(const char *bytes, size_t size)
{
    size_t n = 0;
    while (n < size && bytes[n] != '\n' && bytes[n] != '\r')
        n++;
    return n;
}

int openai_events_take(openai_events *e, const char *bytes, size_t size,
                       int (*take)(void *user, const char *data, size_t size), void *user,
                       glm4v_error *err)
{
    const receiver to = { take, user, err };
    int rc = 0;
    for (size_t at = 0; !rc && at < size;) {
        if (e->carriage && bytes[at] == '\n') { /* \r\n is one end */
            e->carriage = false;
            at++;
            continue;
        }
        e->carriage = false;
        const size_t n = length_of_line(bytes + at, size - at);
        rc = add_to_line(e, bytes + at, n, &to);
        at += n;
        if (rc || at == size)
            break;
        e->carriage = bytes[at++] == '\r';
        rc = end_line(e, &to);
    }
    if (!rc && e->data.failed)
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for an event");
    return rc;
}

bool openai_events_cut(const openai_events *e)
{
    return e->has_data || e->line.size;
}

void openai_events_close(openai_events *e)
{
    glm4v_free(e->line.data);
    glm4v_free(e->data.data);
    *e = (openai_events) { 0 };
}
