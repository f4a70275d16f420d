/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* "messages" of a request: roles and parts of content become a system prompt, turns and pictures.
 *
 * Texts are joined in one buffer. It grows, so turns hold offsets into it until all is read. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/string_buffer.h"
#include "openai/reader.h"

#define MESSAGES "messages"
#define NO_TEXT SIZE_MAX

/* Texts of a turn, as offsets of their beginning; each ends in NUL. */
typedef struct {
    size_t user, assistant;
} places;

typedef struct {
    const openai_reader *r;
    openai_request *request;
    glm4v_text_out texts;
    places turns[GLM4V_MAX_TURNS + 1];
    size_t system;
    size_t number; /* of the message, for errors */
    bool open;     /* the text at the end of texts may be appended to */
    uint32_t room; /* of pictures */
} conversation;

static int refuse(const conversation *c, int code, const char *why)
{
    return openai_refuse(c->r, MESSAGES, code, "message %zu: %s", c->number, why);
}

static int wrong(const conversation *c, const char *why)
{
    return refuse(c, GLM4V_ERR_INVALID, why);
}

/* ---- texts ---- */

static void end_text(conversation *c)
{
    if (c->open)
        glm4v_text_add(&c->texts, "", 1);
    c->open = false;
}

/* Begin a text at *place, or go on with the one that is there and still open, after a line's
 * end. */
static void begin_text(conversation *c, size_t *place)
{
    if (*place != NO_TEXT && c->open) {
        glm4v_text_add(&c->texts, "\n", 1);
        return;
    }
    end_text(c);
    *place = c->texts.size;
    c->open = true;
}

static void add_text(conversation *c, const char *text)
{
    glm4v_text_add(&c->texts, text, strlen(text));
}

/* ---- pictures ---- */

static int add_picture(conversation *c, const json_t *url, double seconds)
{
    openai_request *q = c->request;
    const char *text = json_string_value(url);
    if (!text)
        return wrong(c, "a picture is given by its URL, a text");
    if (q->n_pictures == c->r->limits->pictures)
        return openai_refuse(c->r, MESSAGES, GLM4V_ERR_INVALID,
                             "more than %u pictures in one request", c->r->limits->pictures);
    if (q->n_pictures == c->room) {
        const uint32_t room = c->room ? 2 * c->room : 4;
        openai_picture *more = glm4v_realloc(q->pictures, room, sizeof *more);
        if (!more)
            return refuse(c, GLM4V_ERR_NOMEM, "no memory for its pictures");
        q->pictures = more;
        c->room = room;
    }
    q->pictures[q->n_pictures++] = (openai_picture) { text, seconds };
    q->turns[q->n_turns - 1].n_pictures++;
    return 0;
}

/* {"url": "..."}, or the URL itself. */
static const json_t *url_of(const json_t *value)
{
    return json_is_object(value) ? json_object_get(value, "url") : value;
}

/* Time of frame i: from the list, else by the rate. */
static int time_of(const conversation *c, const json_t *times, double rate, size_t i,
                   double *seconds)
{
    const json_t *at = json_array_get(times, i);
    *seconds = times ? json_number_value(at) : (double)i / rate;
    if (times && (!json_is_number(at) || !isfinite(*seconds) || *seconds < 0))
        return wrong(c, "\"times\" has a number of seconds for each frame");
    return 0;
}

/* {"type": "video", "video": [URL, ...], "times": [seconds, ...]}, or "fps" instead of times. */
static int add_clip(conversation *c, const json_t *part)
{
    const json_t *frames = json_object_get(part, "video");
    const json_t *times = json_object_get(part, "times");
    const json_t *fps = json_object_get(part, "fps");
    const double rate = fps ? json_number_value(fps) : 1;
    const openai_turn *turn = &c->request->turns[c->request->n_turns - 1];
    double before = -1, seconds = 0;
    int rc = 0;
    if (!json_is_array(frames) || !json_array_size(frames))
        return wrong(c, "\"video\" is a list of pictures");
    if (turn->n_pictures)
        return wrong(c, "a video beside other pictures");
    if (times && json_array_size(times) != json_array_size(frames))
        return wrong(c, "\"times\" has a number of seconds for each frame");
    if (!(rate > 0 && rate <= 1000))
        return wrong(c, "\"fps\" is a number above 0, at most 1000");
    c->request->clip = true;
    for (size_t i = 0; !rc && i < json_array_size(frames); i++, before = seconds) {
        rc = time_of(c, times, rate, i, &seconds);
        if (!rc && seconds <= before)
            rc = wrong(c, "the times of a video's frames do not increase");
        if (!rc)
            rc = add_picture(c, url_of(json_array_get(frames, i)), seconds);
    }
    return rc;
}

/* ---- content ---- */

static int read_part(conversation *c, const json_t *part, bool pictures)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const char *text = json_string_value(part);
    if (!text && type && !strcmp(type, "text")) {
        text = json_string_value(json_object_get(part, "text"));
        if (!text)
            return wrong(c, "a part of type \"text\" has no \"text\"");
    }
    if (text) {
        add_text(c, text);
        return 0;
    }
    if (!type)
        return wrong(c, "a part of its content has no \"type\"");
    if (!pictures)
        return wrong(c, "only messages of the user have pictures");
    if (!strcmp(type, "image_url"))
        return add_picture(c, url_of(json_object_get(part, "image_url")), 0);
    if (!strcmp(type, "video"))
        return add_clip(c, part);
    if (!strcmp(type, "video_url")) /* of vLLM: a file, which would have to be decoded here */
        return refuse(c, GLM4V_ERR_UNSUPPORTED,
                      "parts of type \"video_url\" are not supported: send frames as {\"type\": "
                      "\"video\", \"video\": [data: URLs], \"fps\": N}");
    return openai_refuse(c->r, MESSAGES, GLM4V_ERR_UNSUPPORTED,
                         "message %zu: parts of type \"%.40s\" are not supported", c->number, type);
}

static int read_content(conversation *c, const json_t *content, bool pictures)
{
    int rc = 0;
    if (json_is_string(content))
        return read_part(c, content, pictures);
    if (!json_is_array(content))
        return wrong(c, "its content is neither a text nor a list");
    for (size_t i = 0; !rc && i < json_array_size(content); i++)
        rc = read_part(c, json_array_get(content, i), pictures);
    return rc;
}

/* ---- roles ---- */

static int read_system(conversation *c, const json_t *content)
{
    if (c->request->n_turns)
        return wrong(c, "a system prompt behind other messages");
    begin_text(c, &c->system);
    return read_content(c, content, false);
}

static int read_user(conversation *c, const json_t *content)
{
    openai_request *q = c->request;
    if (!q->n_turns || c->turns[q->n_turns - 1].assistant != NO_TEXT) {
        if (q->n_turns == GLM4V_MAX_TURNS + 1)
            return openai_refuse(c->r, MESSAGES, GLM4V_ERR_INVALID,
                                 "more than %d questions before the last one", GLM4V_MAX_TURNS);
        end_text(c);
        c->turns[q->n_turns] = (places) { NO_TEXT, NO_TEXT };
        q->turns[q->n_turns] = (openai_turn) { .first_picture = q->n_pictures };
        q->n_turns++;
    }
    if (q->clip)
        return wrong(c, "something behind the message with a video");
    begin_text(c, &c->turns[q->n_turns - 1].user);
    return read_content(c, content, true);
}

/* What was thought does not belong into the history: the model was trained without it. */
static void drop_reasoning(conversation *c, size_t begin)
{
    static const char opening[] = "<answer>", closing[] = "</answer>";
    if (c->texts.failed || !c->texts.data)
        return;
    char *text = c->texts.data + begin;
    char *end = strncmp(text, "<think>", 7) ? NULL : strstr(text, "</think>");
    if (!end)
        return;
    end += strlen("</think>");
    end += strspn(end, " \n");
    if (!strncmp(end, opening, strlen(opening)))
        end += strlen(opening);
    size_t n = strlen(end);
    if (n >= strlen(closing) && !strcmp(end + n - strlen(closing), closing))
        n -= strlen(closing);
    memmove(text, end, n);
    text[n] = 0;
    c->texts.size = begin + n;
}

static int read_assistant(conversation *c, const json_t *content)
{
    if (!c->request->n_turns)
        return wrong(c, "an answer before any question");
    if (c->request->clip)
        return wrong(c, "something behind the message with a video");
    size_t *place = &c->turns[c->request->n_turns - 1].assistant;
    begin_text(c, place);
    int rc = json_is_null(content) ? 0 : read_content(c, content, false);
    if (!rc)
        drop_reasoning(c, *place);
    return rc;
}

static int read_message(conversation *c, const json_t *message)
{
    static const struct {
        const char *name;
        int (*read)(conversation *c, const json_t *content);
    } roles[] = { { "system", read_system },
                  { "developer", read_system },
                  { "user", read_user },
                  { "assistant", read_assistant } };
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!role)
        return wrong(c, "it has no \"role\"");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(role, roles[i].name))
            return roles[i].read(c, json_object_get(message, "content"));
    return openai_refuse(c->r, MESSAGES, GLM4V_ERR_UNSUPPORTED,
                         "message %zu: the role \"%.40s\" is not supported", c->number, role);
}

/* ---- all ---- */

static const char *text_at(const conversation *c, size_t place)
{
    return place == NO_TEXT ? NULL : c->texts.data + place;
}

static int finish(conversation *c)
{
    openai_request *q = c->request;
    end_text(c);
    q->texts = c->texts.data;
    if (c->texts.failed)
        return openai_refuse(c->r, MESSAGES, GLM4V_ERR_NOMEM, "no memory for the messages");
    q->system = text_at(c, c->system);
    for (uint32_t i = 0; i < q->n_turns; i++) {
        q->turns[i].user = text_at(c, c->turns[i].user);
        q->turns[i].assistant = text_at(c, c->turns[i].assistant);
    }
    return 0;
}

int openai_read_messages(const openai_reader *r)
{
    openai_request *q = r->request;
    const json_t *messages = json_object_get(q->root, MESSAGES);
    conversation c = { .r = r, .request = q, .system = NO_TEXT };
    int rc = 0;
    if (!json_is_array(messages) || !json_array_size(messages))
        return openai_refuse(r, MESSAGES, GLM4V_ERR_INVALID, "\"messages\" is a list of messages");
    if (json_array_size(messages) > OPENAI_MAX_MESSAGES)
        return openai_refuse(r, MESSAGES, GLM4V_ERR_INVALID, "more than %d messages",
                             OPENAI_MAX_MESSAGES);
    for (size_t i = 0; !rc && i < json_array_size(messages); i++) {
        c.number = i;
        rc = read_message(&c, json_array_get(messages, i));
    }
    if (!rc && (!q->n_turns || c.turns[q->n_turns - 1].assistant != NO_TEXT))
        rc = openai_refuse(r, MESSAGES, GLM4V_ERR_INVALID,
                           "the last message is not one of the user");
    const int finished = finish(&c); /* the texts are the request's in any case */
    return finished ? finished : rc;
}
