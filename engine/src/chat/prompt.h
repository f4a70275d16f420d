/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A task to token ids: the chat templates of the families, compiled in. Which one is used follows
 * from the control tokens that the tokenizer has, not from executing the template file.
 *   glm-4.1v: [gMASK]<sop>[<|system|>\nS]<|user|>\n IMAGES
 *   T<|assistant|>\n[<think></think><answer>]
 *   glm-4.5:  [gMASK]<sop>[<|system|>\nS]<|user|>\n IMAGES
 *             T[/nothink]<|assistant|>[\n<think></think>]
 *   glm-ocr:  [gMASK]<sop>[<|system|>\nS]<|user|>\n IMAGES
 *             T[/nothink]<|assistant|>\n[<think></think>\n]
 * Source: the models' own chat_template.jinja. */
#ifndef GLM4V_ENGINE_PROMPT_H
#define GLM4V_ENGINE_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "config/family.h"
#include "tokenizer/tokenizer.h"

/* as in glm4v_model_info.chat_template */
const char *glm4v_template_name(glm4v_template template_);

/* Control ids that prompt and answer are made of; -1 where the tokenizer has none. */
typedef struct {
    glm4v_template format;
    int32_t gmask, sop, system, user, assistant, observation;
    int32_t think, think_end, answer, answer_end, box, box_end, nothink;
} glm4v_chat;

/* Find the template and its ids; UNSUPPORTED when the control tokens fit none. Checks that the ids
 * of config.json (image, start, end) name the right control tokens and that the vocabulary is large
 * enough. */
int glm4v_chat_init(glm4v_chat *chat, const glm4v_tokenizer *tokenizer, const glm4v_config *config,
                    glm4v_error *err);

/* Whether it reasons before an answer where it is asked to. */
bool glm4v_chat_reasons(const glm4v_chat *chat);

/* Whether the length of a clip decides how many of its frames are seen. */
bool glm4v_chat_dynamic_clips(const glm4v_chat *chat);

#define GLM4V_MAX_FORCED 2

/* Ids that close reasoning which has used up its tokens, so that an answer follows. Returns how
 * many. */
int64_t glm4v_chat_end_reasoning(const glm4v_chat *chat, int32_t ids[GLM4V_MAX_FORCED]);

/* Text that a model of this template writes between the opening of an answer and the answer, as
 * past answers of its training have it; "" if none. Static. */
const char *glm4v_chat_lead(const glm4v_chat *chat);

/* A picture in a prompt: the embeddings of ids [start, start + n) are rows of the vision tower, n =
 * glm4v_picture_rows(). The ids there are the image id; where the tower has learned rows around the
 * picture's, those of image start and image end are part of the run. */
typedef struct {
    int64_t start, n;
    int64_t grid_h, grid_w; /* patches, before merging */
    bool video;             /* stands between video start and end */
} glm4v_image_run;

typedef struct {
    int32_t *ids; /* [n_ids], image ids already repeated */
    int64_t n_ids, capacity;
    glm4v_image_run *runs; /* one per picture or temporal patch, in order */
    int64_t n_runs;
    int64_t constant; /* ids before the first picture: worth keeping in the prefix cache */
} glm4v_prompt;

/* Patches of each picture, in the order of the prompt: history pictures, then images, or the
 * temporal patches of the clip (n_grids of them; `seconds` their timestamps). */
typedef struct {
    int64_t grid_h, grid_w;
    double seconds; /* clip frames: timestamp of the first frame of the pair */
} glm4v_grid;

/* Whether this model accepts the task's pictures and clip in one conversation; else INVALID. */
int glm4v_prompt_check(const glm4v_chat *chat, const glm4v_task *task, glm4v_error *err);

/* What of a model a prompt is made with. */
typedef struct {
    const glm4v_tokenizer *tokenizer;
    const glm4v_chat *chat;
    const glm4v_config *config;
} glm4v_prompt_maker;

/* Build the prompt of a task. prompt must be zeroed; free with glm4v_prompt_clear(). INVALID,
 * NOMEM. */
int glm4v_prompt_build(glm4v_prompt *prompt, const glm4v_prompt_maker *with, const glm4v_task *task,
                       const glm4v_grid *grids, size_t n_grids, glm4v_error *err);
void glm4v_prompt_clear(glm4v_prompt *prompt);

#endif
