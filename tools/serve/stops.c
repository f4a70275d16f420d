/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stops.h. */
#include "stops.h"

#include <string.h>

#include "base/mem.h"

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Offset of the stop text that comes first, or the size of what is held. */
static size_t find_stop(const serve_stops *s)
{
    size_t first = s->held.size;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        const char *found = strstr(s->held.data, s->stops[i]);
        if (found && (size_t)(found - s->held.data) < first)
            first = found - s->held.data;
    }
    return first;
}

/* Where the longest end of what is held begins that a stop text may begin with. */
static size_t find_beginning(const serve_stops *s)
{
    size_t begin = s->held.size;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        size_t n = strlen(s->stops[i]) - 1;
        if (n > s->held.size)
            n = s->held.size;
        while (n && memcmp(s->held.data + s->held.size - n, s->stops[i], n))
            n--;
        if (s->held.size - n < begin)
            begin = s->held.size - n;
    }
    return begin;
}

static size_t without_space(const serve_stops *s, size_t end)
{
    while (end && is_space(s->held.data[end - 1]))
        end--;
    return end;
}

/* Show the first n bytes of what is held, and keep the rest. */
static void show(serve_stops *s, size_t n, glm4v_text_out *shown)
{
    size_t begin = 0;
    while (!s->begun && begin < n && is_space(s->held.data[begin]))
        begin++;
    if (begin < n) {
        glm4v_text_add(shown, s->held.data + begin, n - begin);
        s->begun = true;
    }
    memmove(s->held.data, s->held.data + n, s->held.size - n + 1);
    s->held.size -= n;
}

void serve_stops_push(serve_stops *s, const char *piece, glm4v_text_out *shown)
{
    if (s->stopped)
        return;
    glm4v_text_add(&s->held, piece, strlen(piece));
    if (s->held.failed || !s->held.size)
        return;
    const size_t stop = find_stop(s);
    s->stopped = stop < s->held.size;
    show(s, without_space(s, s->stopped ? stop : find_beginning(s)), shown);
}

void serve_stops_finish(serve_stops *s, glm4v_text_out *shown)
{
    if (!s->stopped && s->held.size)
        show(s, without_space(s, s->held.size), shown);
}

void serve_stops_close(serve_stops *s)
{
    glm4v_free(s->held.data);
    s->held = (glm4v_text_out) { 0 };
}
