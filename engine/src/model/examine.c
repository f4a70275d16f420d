/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Examining a model directory: everything but the weights' contents is read and checked on bounded
 * memory, then planned. open.c goes on from here. */
#define _GNU_SOURCE
#include "model/examine.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/struct_size.h"
#include "base/utf8.h"
#include "config/family.h"
#include "config/identify.h"
#include "model/stages.h"

/* ---- options ---- */

static int take_options(glm4v_builder *b, const glm4v_model_options *options, glm4v_error *err)
{
    int rc = glm4v_struct_read(&b->options, options, sizeof b->options, "model options", err);
    return rc ? rc : glm4v_quantization_parse(&b->quantization, b->options.quantization, err);
}

/* ---- files but the weights ---- */

/* Which of two files that differ counts. */
static void tell_replaced(const glm4v_builder *b)
{
    static const char *const what[] = { "pictures", "clips" };
    for (int i = 0; i < 2; i++)
        if (b->model->config.replaced[i])
            glm4v_log_line(&b->model->log, GLM4V_LOG_WARNING,
                           "%s and processor_config.json say different things of %s: "
                           "processor_config.json counts, as in transformers 5",
                           b->model->config.replaced[i], what[i]);
}

/* With random weights `dir` may be a configuration file itself. */
static int read_config(glm4v_builder *b, const char *dir, glm4v_error *err)
{
    struct stat st;
    bool with_processor = !b->options.weights_only && !b->options.random_weights;
    if (b->options.random_weights && !stat(dir, &st) && S_ISREG(st.st_mode))
        return glm4v_config_read_file(&b->model->config, dir, err);
    int rc = glm4v_config_read(&b->model->config, dir, with_processor, err);
    if (rc == GLM4V_ERR_NOT_FOUND && stat(dir, &st))
        rc = glm4v_fail(err, rc, "%s: there is no such model directory%s", dir,
                        b->options.random_weights ? " or configuration file" : "");
    else if (rc == GLM4V_ERR_NOT_FOUND && !glm4v_file_exists(dir, "config.json"))
        rc = glm4v_fail(err, rc,
                        "config.json: is not in %.200s; check that this is the folder of a model "
                        "and that its download is complete",
                        dir);
    return rc;
}

/* Ids that config.json leaves out are those of the tokenizer's control tokens. */
static int complete_ids(glm4v_config *c, const glm4v_tokenizer *tokenizer, glm4v_error *err)
{
    for (glm4v_media media = 0; media < GLM4V_N_MEDIA; media++) {
        const glm4v_family_token *token = &glm4v_family_of(c->family)->token[media];
        int32_t *id = glm4v_media_id(c, media);
        if (token->name && *id < 0 && tokenizer)
            *id = glm4v_tokenizer_control(tokenizer, token->name);
        if (token->name && *id < 0)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "config.json: \"%s\" is missing, and the tokenizer has no %s",
                              token->key, token->name);
    }
    return 0;
}

static int open_tokenizer(glm4v_builder *b, const char *dir, glm4v_error *err)
{
    glm4v_model *m = b->model;
    int rc = 0;
    if (!b->options.weights_only)
        rc = glm4v_tokenizer_open(&m->tokenizer, dir, err);
    if (rc == GLM4V_ERR_NOT_FOUND && b->options.random_weights)
        rc = glm4v_tokenizer_open_bytes(&m->tokenizer, &m->config, err);
    if (!rc)
        rc = complete_ids(&m->config, m->tokenizer, err);
    if (!rc && m->tokenizer)
        rc = glm4v_chat_init(&m->chat, m->tokenizer, &m->config, err);
    return rc;
}

static int open_preprocessors(glm4v_builder *b, glm4v_error *err)
{
    glm4v_model *m = b->model;
    if (b->options.weights_only)
        return 0;
    int rc = glm4v_preprocessor_open(&m->preprocessor, &m->config.image, &m->config.vision, err);
    return rc ? rc
              : glm4v_preprocessor_open(&m->video_preprocessor, &m->config.video, &m->config.vision,
                                        err);
}

/* ---- what the model is ---- */

/* As many whole characters of the last component as there is room for. */
static void set_name(char *name, size_t size, const char *dir)
{
    char resolved[PATH_MAX];
    const char *path = realpath(dir, resolved) ? resolved : dir;
    const char *slash = strrchr(path, '/');
    const unsigned char *from = (const unsigned char *)(slash && slash[1] ? slash + 1 : path);
    size_t left = strlen((const char *)from), used = 0;
    while (left) {
        unsigned char character[4];
        uint32_t code = GLM4V_REPLACEMENT;
        const int k = glm4v_utf8_next(from, left, &code);
        const size_t taken = k ? (size_t)abs(k) : left;
        const size_t n = (size_t)glm4v_utf8_put(character, code);
        if (used + n >= size)
            break;
        memcpy(name + used, character, n);
        used += n;
        from += taken;
        left -= taken;
    }
    name[used] = '\0';
}

/* Of the text of config.json and the tensors' names, dtypes and shapes. */
static int set_hash(glm4v_builder *b, const char *dir, glm4v_error *err)
{
    char *text = NULL;
    size_t size = 0;
    uint64_t h = b->checkpoint ? glm4v_checkpoint_digest(b->checkpoint) : b->options.random_seed;
    if (b->checkpoint) {
        int rc = glm4v_read_file(&text, &size, dir, "config.json", GLM4V_JSON_CONFIG.bytes, err);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    glm4v_free(text);
    snprintf(b->model->info.hash, sizeof b->model->info.hash, "%016" PRIx64, h);
    return 0;
}

static void set_info(glm4v_builder *b, const char *dir)
{
    glm4v_model *m = b->model;
    glm4v_model_info *info = &m->info;
    const glm4v_text_config *t = &m->config.text;
    const glm4v_vision_config *v = &m->config.vision;
    snprintf(info->family, sizeof info->family, "%s", glm4v_family_of(m->config.family)->name);
    snprintf(info->chat_template, sizeof info->chat_template, "%s",
             glm4v_template_name(m->chat.format));
    set_name(info->name, sizeof info->name, dir);
    snprintf(info->stored_form, sizeof info->stored_form, "%s",
             b->checkpoint ? glm4v_stored_name(m->plan.stored) : "random");
    snprintf(info->stored_layout, sizeof info->stored_layout, "%s",
             m->quantized ? m->quantized->label : "");
    for (int part = 0; part < GLM4V_N_PARTS; part++)
        snprintf(info->form[part], sizeof info->form[part], "%s", glm4v_form_name(m->form[part]));
    info->n_parameters = m->plan.parameters;
    info->step_bytes = glm4v_plan_step_bytes(&m->plan);
    info->vision_products = glm4v_plan_vision_products(&m->plan, m);
    if (b->checkpoint) {
        info->file_bytes = glm4v_checkpoint_bytes(b->checkpoint);
        info->n_shards = (uint32_t)glm4v_checkpoint_shards(b->checkpoint);
        info->n_tensors = (uint32_t)glm4v_checkpoint_count(b->checkpoint);
    }
    const struct {
        uint32_t *to;
        int64_t size;
    } sizes[] = {
        { &info->vocab_size, t->vocab },       { &info->hidden_size, t->hidden },
        { &info->n_layers, t->layers },        { &info->n_heads, t->heads },
        { &info->n_kv_heads, t->kv_heads },    { &info->head_dim, t->head_dim },
        { &info->ffn_size, t->ffn },           { &info->vision_hidden_size, v->hidden },
        { &info->vision_layers, v->layers },   { &info->vision_heads, v->heads },
        { &info->patch_size, v->patch },       { &info->merge_size, v->merge },
        { &info->context_length, t->context },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        *sizes[i].to = (uint32_t)sizes[i].size;
    /* the files count all frames of a patch */
    info->min_pixels = m->config.image.min_pixels / v->temporal;
    info->max_pixels = m->config.image.max_pixels / v->temporal;
}

/* ---- the whole ---- */

/* Drop what is left and return the error, if there is one. Returns rc. */
int glm4v_builder_finish(glm4v_builder *b, int rc, glm4v_error *err)
{
    glm4v_checkpoint_close(&b->checkpoint);
    if (b->model)
        glm4v_model_destroy(b->model);
    if (rc && err)
        *err = b->error;
    return rc;
}

/* Read and check everything but the weights' contents, and plan them. */
static int examine(glm4v_builder *b, const char *dir, glm4v_error *err)
{
    glm4v_model *m = b->model;
    int rc;
    if ((rc = read_config(b, dir, err)))
        return rc;
    tell_replaced(b);
    if ((rc = open_tokenizer(b, dir, err)) || (rc = open_preprocessors(b, err)) ||
        (rc = glm4v_stages_make(m, &b->options, err)))
        return rc;
    if (!b->options.random_weights &&
        ((rc = glm4v_quantization_config_read(&m->quantized, dir, &m->log, err)) ||
         (rc = glm4v_checkpoint_open(&b->checkpoint, dir, err)) ||
         (rc = glm4v_identify_check(b->checkpoint, &m->config, err))))
        return rc;
    m->layers = glm4v_alloc(glm4v_text_blocks(&m->config), sizeof *m->layers);
    m->vision.layers = glm4v_alloc(m->config.vision.layers, sizeof *m->vision.layers);
    if (!m->layers || !m->vision.layers)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the list of layers");
    if ((rc = glm4v_plan_make(&m->plan, m, b->checkpoint, &b->quantization, err)))
        return rc;
    set_info(b, dir);
    return set_hash(b, dir, err);
}

int glm4v_builder_start(glm4v_builder *b, const char *dir, const glm4v_model_options *options)
{
    *b = (glm4v_builder) { 0 };
    glm4v_error *err = &b->error;
    if (!dir)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "no model directory was given");
    int rc = take_options(b, options, err);
    if (rc)
        return rc;
    b->model = glm4v_alloc(1, sizeof *b->model);
    if (!b->model)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a model");
    atomic_init(&b->model->refs, 1);
    b->model->log = (glm4v_log) { b->options.log, b->options.log_user };
    return examine(b, dir, err);
}

int glm4v_model_inspect(const char *dir, const glm4v_model_options *options, glm4v_model_info *info,
                        glm4v_error *err)
{
    glm4v_builder b;
    int rc = glm4v_builder_start(&b, dir, options);
    if (!rc)
        rc = glm4v_struct_write(info, &b.model->info, sizeof *info, "model info", &b.error);
    return glm4v_builder_finish(&b, rc, err);
}

int glm4v_model_examine(glm4v_model **model, glm4v_checkpoint **checkpoint, const char *dir,
                        const glm4v_model_options *options, glm4v_error *err)
{
    glm4v_builder b;
    int rc = glm4v_builder_start(&b, dir, options);
    if (!rc) {
        *model = b.model;
        *checkpoint = b.checkpoint;
        b.model = NULL;
        b.checkpoint = NULL;
    }
    return glm4v_builder_finish(&b, rc, err);
}
