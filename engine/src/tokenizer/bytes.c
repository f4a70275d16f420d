/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tokenizer for random weights, without a tokenizer file: ids 0..255 are bytes; control tokens
 * have the ids of config.json and otherwise the next free ids. Text has no meaning for such a
 * model, but prompts get a length and the whole path of a request runs, as a measurement requires.
 * Called by model.c. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "config/family.h"
#include "tokenizer/tokenizer_priv.h"

static const char here[] = "random weights without a tokenizer";

/* Control tokens that config.json may place; the others follow. */
typedef struct {
    const char *name;
    int32_t id; /* -1 = anywhere */
} control;

static int add_control(glm4v_tokenizer *t, const control *c, int32_t *next, glm4v_error *err)
{
    int32_t id = c->id;
    if (id < 0) {
        while (*next < t->size && t->tokens[*next].kind != GLM4V_TOKEN_NONE)
            ++*next;
        id = *next;
    }
    if (id >= t->size)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: config.json \"vocab_size\" is %" PRId64 ", too small for \"%s\"",
                          here, t->size, c->name);
    const glm4v_new_token token = { id, GLM4V_TOKEN_CONTROL, (const unsigned char *)c->name,
                                    strlen(c->name) };
    return glm4v_vocab_add(t, &token, here, err);
}

static int fill(glm4v_tokenizer *t, const glm4v_config *config, glm4v_error *err)
{
    const control controls[] = {
        { glm4v_family_of(config->family)->token[GLM4V_MEDIA_IMAGE].name, config->image_id },
        { "<|video|>", config->video_id },
        { "<|begin_of_image|>", config->image_start_id },
        { "<|end_of_image|>", config->image_end_id },
        { "<|begin_of_video|>", config->video_start_id },
        { "<|end_of_video|>", config->video_end_id },
        { "[gMASK]", -1 },
        { "<sop>", -1 },
        { "<|system|>", -1 },
        { "<|user|>", -1 },
        { "<|assistant|>", -1 },
        { "<think>", -1 },
        { "</think>", -1 },
        { "<answer>", -1 },
        { "</answer>", -1 },
    };
    enum { N = sizeof controls / sizeof *controls };
    int32_t next = 256;
    int rc = glm4v_vocab_init(t, config->text.vocab, 256, N, here, err);
    if (!rc && t->size < 256 + N)
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT,
                        "%s: config.json \"vocab_size\" is %" PRId64 ", expected at least %d", here,
                        t->size, 256 + N);
    for (int byte = 0; byte < 256 && !rc; byte++)
        rc = glm4v_vocab_add(t,
                             &(glm4v_new_token) { byte, GLM4V_TOKEN_TEXT,
                                                  &(unsigned char) { (unsigned char)byte }, 1 },
                             here, err);
    for (int i = 0; i < N && !rc; i++)
        rc = add_control(t, &controls[i], &next, err);
    return rc ? rc : glm4v_vocab_finish(t, here, err);
}

int glm4v_tokenizer_open_bytes(glm4v_tokenizer **tokenizer, const glm4v_config *config,
                               glm4v_error *err)
{
    glm4v_tokenizer *t = glm4v_alloc(1, sizeof *t);
    if (!t)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory", here);
    int rc = fill(t, config, err);
    if (rc)
        glm4v_tokenizer_close(&t);
    else
        *tokenizer = t;
    return rc;
}
