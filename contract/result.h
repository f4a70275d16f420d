/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A result: what became of a trigger, a sampled frame or a picture. One function says what a result
 * holds, whoever made it and whatever form it takes; docs/result.schema.json describes it. */
#ifndef GLM4V_CONTRACT_RESULT_H
#define GLM4V_CONTRACT_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "contract/settings.h"
#include "contract/text.h"

#define GLM4V_RESULT_VERSION 1

/* What only a stream of the element has. Times in nanoseconds. */
typedef struct {
    uint64_t running_time; /* or GLM4V_UNKNOWN_TIME */
    uint64_t capture_utc;  /* since 1970; 0: not known */
    uint64_t frame_number;
    uint64_t delay;   /* from sampling to the result */
    uint64_t convert; /* to RGB; a part of the timings */
} glm4v_contract_stream;

/* In pixels of the frame. */
typedef struct {
    int32_t x, y, width, height;
    const char *label; /* or NULL */
} glm4v_contract_region;

typedef struct {
    uint32_t frames;
    uint64_t length;       /* from the first to the last, nanoseconds */
    const uint64_t *times; /* [n_times] of each from the first; may be none */
    uint32_t n_times;
} glm4v_contract_clip;

typedef struct {
    uint64_t number, first, last, first_id, count;
    const char *choice;
} glm4v_contract_incident;

/* All is borrowed. What may be NULL is left out then. Texts are as they came: they are cleaned when
 * the result is built. */
typedef struct {
    uint64_t id, pts;                    /* pts may be GLM4V_UNKNOWN_TIME */
    const char *trigger_id;              /* a value of JSON; may be NULL */
    const char *input;                   /* of the command line; may be NULL */
    const glm4v_contract_stream *stream; /* may be NULL */
    const uint32_t *prompt_number;       /* may be NULL */
    const char *status, *finish_reason;
    bool damaged;                /* the decoder met errors in the frame */
    const char *message, *error; /* why there is no answer, and its kind; may be NULL */
    const uint64_t *refers_to;   /* may be NULL */
    uint64_t seed;
    const glm4v_result *answer;       /* may be NULL; its pixels are those of roi */
    const glm4v_result *chosen;       /* whose choice and JSON it has; may be NULL */
    const char *verdict, *state;      /* may be NULL */
    glm4v_contract_incident incident; /* count 0: none */
    const glm4v_contract_region *roi; /* may be NULL */
    const glm4v_contract_clip *clip;  /* may be NULL */
    uint32_t width, height;           /* of the frame; 0: not known */
    const char *const *pictures;      /* [n_pictures] digests */
    uint32_t n_pictures;
    const glm4v_contract_model *model; /* may be NULL */
    const char *prompt_hash, *settings;
} glm4v_contract_result;

/* A member of the object, or an entry of an array in it. */
typedef struct {
    enum {
        GLM4V_MEMBER_OBJECT, /* its members follow, until its end */
        GLM4V_MEMBER_OBJECT_END,
        GLM4V_MEMBER_ARRAY,
        GLM4V_MEMBER_ARRAY_END,
        GLM4V_MEMBER_STRING,
        GLM4V_MEMBER_JSON, /* string is a value of JSON */
        GLM4V_MEMBER_INT,  /* 32 bits; wide has it */
        GLM4V_MEMBER_UINT, /* 32 bits; count has it */
        GLM4V_MEMBER_COUNT,
        GLM4V_MEMBER_TIME, /* a count, or GLM4V_UNKNOWN_TIME */
        GLM4V_MEMBER_NUMBER,
        GLM4V_MEMBER_TRUE
    } kind;
    union {
        const char *string; /* during the call only */
        int64_t wide;
        uint64_t count;
        double number;
    };
} glm4v_contract_member;

/* Gets the members in their order; key is NULL in arrays. */
typedef struct {
    void (*take)(void *user, const char *key, const glm4v_contract_member *member);
    void *user;
} glm4v_contract_receiver;

void glm4v_contract_result_build(const glm4v_contract_result *result,
                                 const glm4v_contract_receiver *to);

/* The same as one line of JSON and a new line, g_free(). */
char *glm4v_contract_result_write(const glm4v_contract_result *result);

/* Why an answer ended, as results say it. */
const char *glm4v_contract_finish_name(glm4v_finish finish);

#endif
