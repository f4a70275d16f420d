/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Model families: models of one architecture. Everything that differs between families is in a row
 * of the table in model/families.c, which is in a higher folder because a row names functions of
 * many folders; other code reads the row. A new family is one enumerator, one row and its files: a
 * reader of its config.json and a list of its weights. */
#ifndef GLM4V_ENGINE_FAMILY_H
#define GLM4V_ENGINE_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "config/config.h"

/* How a conversation is written: the chat templates, compiled in (chat/prompt.c). */
typedef enum {
    GLM4V_TEMPLATE_NONE,
    GLM4V_TEMPLATE_GLM41V,
    GLM4V_TEMPLATE_GLM45,
    GLM4V_TEMPLATE_CHATGLM4V,
    GLM4V_TEMPLATE_GLM_OCR,
    GLM4V_N_TEMPLATES
} glm4v_template;

/* Tokens that stand around and for pictures and clips. */
typedef enum {
    GLM4V_MEDIA_IMAGE,
    GLM4V_MEDIA_IMAGE_START,
    GLM4V_MEDIA_IMAGE_END,
    GLM4V_MEDIA_VIDEO,
    GLM4V_MEDIA_VIDEO_START,
    GLM4V_MEDIA_VIDEO_END,
    GLM4V_N_MEDIA
} glm4v_media;

typedef struct {
    const char *name; /* of the tokenizer's control token; NULL: the family has none */
    const char *key;  /* of config.json that gives its id */
    bool checked;     /* where config.json gives the id, it must be the tokenizer's of that name */
} glm4v_family_token;

struct glm4v_lister;

#define GLM4V_MAX_MARKS 4
#define GLM4V_MAX_PROMPTS 2
#define GLM4V_MAX_TYPES 4

typedef struct {
    const char *name;                   /* "glm4v" */
    const char *types[GLM4V_MAX_TYPES]; /* "model_type" of its config.json, up to NULL */
    const char *steady;                 /* the one of them whose clips are seen at one rate; NULL */
    const char *models;                 /* a user knows: "GLM-4.1V-9B, GLM-4.6V-Flash" */
    const char *called;                 /* in messages about mixed files */
    const char *text_only;              /* what its type without "vision_config" is; NULL: the
                                               * reader refuses that */
    const char *marks[GLM4V_MAX_MARKS]; /* tensors that its checkpoints alone have, to NULL */
    const char *marks_are;              /* whose they are, in messages */
    const glm4v_family_token *token;    /* [GLM4V_N_MEDIA] */
    glm4v_template templates[3];        /* its chat templates, the first that fits; to NONE */
    const char *prompts[GLM4V_MAX_PROMPTS]; /* of calibration, unless others are given */
    bool processor_files;                   /* brings preprocessor_config.json */
    int64_t temporal;                       /* frames of a patch that the engine makes */
    /* sizes and token ids of config.json, its root being an object */
    int (*read)(glm4v_config *c, const json_t *root, glm4v_error *err);
    /* the plan's items (model/weights_list.h) */
    int (*list)(struct glm4v_lister *l);
} glm4v_family_traits;

/* The family's row. */
const glm4v_family_traits *glm4v_family_of(glm4v_family family);

/* Where config holds the id of a token. */
int32_t *glm4v_media_id(glm4v_config *config, glm4v_media media);

#endif
