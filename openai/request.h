/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request of OpenAI's chat completions, as JSON and as a structure. Here the JSON of a client is
 * read for the server. Nothing here knows of HTTP, and pictures stay what they are in JSON: URLs.
 *
 * Conversations are those of the engine: a system prompt, turns of a question with pictures and its
 * answer, and at the end a question without one. */
#ifndef GLM4V_OPENAI_REQUEST_H
#define GLM4V_OPENAI_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

enum {
    OPENAI_MAX_STOPS = 16,       /* texts that end an answer */
    OPENAI_MAX_STOP_BYTES = 256, /* of one */
    OPENAI_MAX_MESSAGES = 512,   /* of a request */
    OPENAI_MAX_IGNORED = 16,     /* options that have no effect here and are told */
    OPENAI_MAX_PARAMETER = 64,   /* bytes of the name of a wrong option */
    OPENAI_MAX_PICTURES = GLM4V_MAX_FRAMES,
    OPENAI_MAX_SCHEMA_BYTES = 256 << 10,
};

/* What a request may ask for at most, and what holds where it does not ask. */
typedef struct {
    size_t bytes;        /* of the JSON */
    uint32_t pictures;   /* [1, OPENAI_MAX_PICTURES] */
    uint32_t max_tokens; /* [1, GLM4V_MAX_TOKENS] */
    uint32_t tokens;     /* without max_tokens */
} openai_limits;

typedef struct {
    const char *url; /* borrowed from the JSON */
    double seconds;  /* of a frame: since the clip began */
} openai_picture;

typedef struct {
    const char *user;                   /* texts of the question, "" if there is none */
    const char *assistant;              /* its answer, without reasoning; NULL in the last turn */
    uint32_t first_picture, n_pictures; /* those that belong to the question */
} openai_turn;

/* Strings are owned by the request. Numbers are those of glm4v_task. */
typedef struct {
    const char *model;                      /* NULL: not named */
    const char *system;                     /* NULL: none */
    openai_turn turns[GLM4V_MAX_TURNS + 1]; /* the last one is the question */
    uint32_t n_turns;
    openai_picture *pictures; /* [n_pictures], in the order of the turns */
    uint32_t n_pictures;
    bool clip; /* the pictures of the question are frames of a clip */

    uint32_t max_tokens, max_reasoning_tokens, top_k;
    double temperature, top_p, repetition_penalty;
    uint64_t seed;
    bool has_seed;
    const char *stops[OPENAI_MAX_STOPS]; /* [n_stops], none empty */
    uint32_t n_stops;
    const char *choices[GLM4V_MAX_CHOICES]; /* [n_choices] */
    uint32_t n_choices;
    char *json_schema; /* NULL: none */

    bool stream, usage; /* usage: a last event of a stream has the numbers of tokens */
    bool thinking;
    bool reasoning;                          /* the answer has what the model thought, if it did */
    const char *ignored[OPENAI_MAX_IGNORED]; /* [n_ignored] names */
    uint32_t n_ignored;

    json_t *root; /* most strings lie here */
    char *texts;  /* the joined ones */
} openai_request;

/* Read the JSON of a client. 0, or GLM4V_ERR_INVALID (a value is out of its range or contradicts
 * another one), _FORMAT (no JSON, or a value of the wrong type), _UNSUPPORTED, _NOMEM. After a
 * failure `parameter` names the option at fault, or is "". The request is closed by the caller
 * either way. */
int openai_request_read(openai_request *request, const char *json, size_t size,
                        const openai_limits *limits, char parameter[OPENAI_MAX_PARAMETER],
                        glm4v_error *err);

/* Free the JSON of the messages, URLs of pictures among it; texts and turns stay. */
void openai_request_drop_messages(openai_request *request);

/* Free what it holds. A request that is all zero holds nothing. */
void openai_request_close(openai_request *request);

#endif
