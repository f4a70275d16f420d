/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening a model: everything is read and checked on bounded memory, then planned, then allocated,
 * then loaded. What comes out does not change any more and is shared by reference. */
#define _GNU_SOURCE
#include "model/model.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "estimate.h"
#include "base/file.h"
#include "config/identify.h"
#include "base/json.h"
#include "base/mem.h"

#define MAX_STAGES 16
#define MAX_DEVICE_NAME 64

/* A model under construction and what is needed only until it is loaded. */
typedef struct {
    glm4v_model *model;
    glm4v_checkpoint *checkpoint; /* NULL with random weights */
    glm4v_model_options options;
    glm4v_quantization quantization;
    /* the caller's is written on failure only; a missing optional file is none */
    glm4v_error error;
} builder;

/* ---- options ---- */

/* Callers built against an older header pass a smaller struct: what it lacks is zero. */
static int take_options(builder *b, const glm4v_model_options *options, glm4v_error *err)
{
    if (options) {
        size_t size = options->struct_size && options->struct_size < sizeof *options
                          ? options->struct_size
                          : sizeof *options;
        memcpy(&b->options, options, size);
    }
    return glm4v_quantization_parse(&b->quantization, b->options.quantization, err);
}

/* ---- files but the weights ---- */

/* With random weights `dir` may be a configuration file itself. */
static int read_config(builder *b, const char *dir, glm4v_error *err)
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
                        "config.json: is not in %.200s; is that the folder of a model, and is its "
                        "download complete?",
                        dir);
    return rc;
}

/* Ids that config.json leaves out are those of the tokenizer's control tokens. */
static int complete_ids(glm4v_config *c, const glm4v_tokenizer *tokenizer, glm4v_error *err)
{
    const bool old = c->family == GLM4V_FAMILY_CHATGLM4V;
    const struct {
        int32_t *id;
        const char *name, *key;
    } ids[] = {
        { &c->image_id, old ? "<|endoftext|>" : "<|image|>",
          old ? "pad_token_id" : "image_token_id" },
        { &c->image_start_id, "<|begin_of_image|>", old ? "boi_token_id" : "image_start_token_id" },
        { &c->image_end_id, "<|end_of_image|>", old ? "eoi_token_id" : "image_end_token_id" },
        { &c->video_id, "<|video|>", "video_token_id" },
        { &c->video_start_id, "<|begin_of_video|>", "video_start_token_id" },
        { &c->video_end_id, "<|end_of_video|>", "video_end_token_id" },
    };
    for (size_t i = 0; i < (old ? 3 : sizeof ids / sizeof *ids); i++) {
        if (*ids[i].id < 0 && tokenizer)
            *ids[i].id = glm4v_tokenizer_control(tokenizer, ids[i].name);
        if (*ids[i].id < 0)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "config.json: \"%s\" is missing, and the tokenizer has no %s",
                              ids[i].key, ids[i].name);
    }
    return 0;
}

static int open_tokenizer(builder *b, const char *dir, glm4v_error *err)
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

static int open_preprocessors(builder *b, glm4v_error *err)
{
    glm4v_model *m = b->model;
    if (b->options.weights_only)
        return 0;
    int rc = glm4v_preprocessor_open(&m->preprocessor, &m->config.image, &m->config.vision, err);
    return rc ? rc
              : glm4v_preprocessor_open(&m->video_preprocessor, &m->config.video, &m->config.vision,
                                        err);
}

/* ---- stages ---- */

/* Cut the next name off a device string; name holds size. */
static int next_device(char *name, size_t size, const char **device, glm4v_error *err)
{
    const char *comma = strchrnul(*device, ',');
    if ((size_t)(comma - *device) >= size)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.80s\": expected auto, cpu or cuda[:N][,cuda:M]", *device);
    snprintf(name, size, "%.*s", (int)(comma - *device), *device);
    *device = comma + (*comma != 0);
    return 0;
}

/* Cut the device string at its commas: one stage each, layers dealt out evenly. A device that
 * is not there is told now, long before it is used. */
static int make_stages(glm4v_model *m, const char *device, glm4v_error *err)
{
    int32_t n = 1, layers = m->config.text.layers;
    char name[MAX_DEVICE_NAME];
    device = device ? device : "auto";
    for (const char *p = device; *p; p++)
        n += *p == ',';
    if (n > MAX_STAGES || n > layers)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "device \"%.80s\": %d devices for a model of %d layers, at most %d",
                          device, n, layers, MAX_STAGES < layers ? MAX_STAGES : layers);
    m->stages = glm4v_alloc((size_t)n, sizeof *m->stages);
    if (!m->stages)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %d stages", n);
    m->n_stages = n;
    for (int32_t i = 0; i < n; i++) {
        m->stages[i].first = (int32_t)((int64_t)layers * i / n);
        m->stages[i].count = (int32_t)((int64_t)layers * (i + 1) / n) - m->stages[i].first;
        int rc = next_device(name, sizeof name, &device, err);
        if (rc || (rc = glm4v_backend_check(name, err)))
            return rc;
    }
    return 0;
}

static int open_backends(glm4v_model *m, const char *device, uint32_t n_threads, glm4v_error *err)
{
    char name[MAX_DEVICE_NAME];
    device = device ? device : "auto";
    for (int32_t i = 0; i < m->n_stages; i++) {
        int rc = next_device(name, sizeof name, &device, err);
        if (rc || (rc = glm4v_backend_open(&m->stages[i].backend, name, n_threads, &m->log, err)))
            return rc;
    }
    snprintf(m->info.isa, sizeof m->info.isa, "%s", m->stages[0].backend->isa);
    return 0;
}

/* ---- what the model is ---- */

static void set_name(char *name, size_t size, const char *dir)
{
    char resolved[PATH_MAX];
    const char *path = realpath(dir, resolved) ? resolved : dir;
    const char *slash = strrchr(path, '/');
    snprintf(name, size, "%.*s", (int)size - 1, slash && slash[1] ? slash + 1 : path);
}

/* Of the text of config.json and the tensors' names, dtypes and shapes. */
static int set_hash(builder *b, const char *dir, glm4v_error *err)
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

static void set_info(builder *b, const char *dir)
{
    glm4v_model *m = b->model;
    glm4v_model_info *info = &m->info;
    const glm4v_text_config *t = &m->config.text;
    const glm4v_vision_config *v = &m->config.vision;
    snprintf(info->family, sizeof info->family, "%s",
             m->config.family == GLM4V_FAMILY_CHATGLM4V ? "chatglm4v" : "glm4v");
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
    if (b->checkpoint) {
        info->file_bytes = glm4v_checkpoint_bytes(b->checkpoint);
        info->n_shards = glm4v_checkpoint_shards(b->checkpoint);
        info->n_tensors = glm4v_checkpoint_count(b->checkpoint);
    }
    info->vocab_size = (uint32_t)t->vocab;
    info->hidden_size = (uint32_t)t->hidden;
    info->n_layers = (uint32_t)t->layers;
    info->n_heads = (uint32_t)t->heads;
    info->n_kv_heads = (uint32_t)t->kv_heads;
    info->head_dim = (uint32_t)t->head_dim;
    info->ffn_size = (uint32_t)t->ffn;
    info->vision_hidden_size = (uint32_t)v->hidden;
    info->vision_layers = (uint32_t)v->layers;
    info->vision_heads = (uint32_t)v->heads;
    info->patch_size = (uint32_t)v->patch;
    info->merge_size = (uint32_t)v->merge;
    info->context_length = (uint32_t)t->context;
    /* the files count all frames of a patch */
    info->min_pixels = m->config.image.min_pixels / (uint64_t)v->temporal;
    info->max_pixels = m->config.image.max_pixels / (uint64_t)v->temporal;
}

/* ---- building ---- */

static void destroy(glm4v_model *m)
{
    glm4v_plan_free(&m->plan, m);
    glm4v_plan_clear(&m->plan);
    glm4v_quantization_config_free(&m->quantized);
    glm4v_free(m->vision.layers);
    glm4v_free(m->layers);
    for (int32_t i = 0; i < m->n_stages; i++)
        glm4v_backend_close(&m->stages[i].backend);
    glm4v_free(m->stages);
    glm4v_preprocessor_close(&m->video_preprocessor);
    glm4v_preprocessor_close(&m->preprocessor);
    glm4v_tokenizer_close(&m->tokenizer);
    glm4v_free(m);
}

/* Drop what is left and hand out the error, if there is one. Returns rc. */
static int finish(builder *b, int rc, glm4v_error *err)
{
    glm4v_checkpoint_close(&b->checkpoint);
    if (b->model)
        destroy(b->model);
    if (rc && err)
        *err = b->error;
    return rc;
}

/* Read and check everything but the weights' contents, and plan them. */
static int examine(builder *b, const char *dir, glm4v_error *err)
{
    glm4v_model *m = b->model;
    int rc;
    if ((rc = read_config(b, dir, err)) || (rc = open_tokenizer(b, dir, err)) ||
        (rc = open_preprocessors(b, err)) || (rc = make_stages(m, b->options.device, err)))
        return rc;
    if (!b->options.random_weights &&
        ((rc = glm4v_quantization_config_read(&m->quantized, dir, &m->log, err)) ||
         (rc = glm4v_checkpoint_open(&b->checkpoint, dir, err)) ||
         (rc = glm4v_identify_check(b->checkpoint, &m->config, err))))
        return rc;
    m->layers = glm4v_alloc((size_t)m->config.text.layers, sizeof *m->layers);
    m->vision.layers = glm4v_alloc((size_t)m->config.vision.layers, sizeof *m->vision.layers);
    if (!m->layers || !m->vision.layers)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the list of layers");
    if ((rc = glm4v_plan_make(&m->plan, m, b->checkpoint, &b->quantization, err)))
        return rc;
    set_info(b, dir);
    return set_hash(b, dir, err);
}

static int start(builder *b, const char *dir, const glm4v_model_options *options)
{
    *b = (builder) { 0 };
    glm4v_error *err = &b->error;
    if (!dir)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "no model directory was named");
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

static int load(builder *b)
{
    glm4v_model *m = b->model;
    const glm4v_model_info *info = &m->info;
    int rc = open_backends(m, b->options.device, b->options.n_threads, &b->error);
    if (rc)
        return rc;
    uint64_t bytes = glm4v_plan_memory(&m->plan, m, -1);
    glm4v_log_line(&m->log, GLM4V_LOG_INFO,
                   "%s: %" PRIu64 " parameters in %" PRIu64 " MiB, "
                   "text=%s,vision=%s,embedding=%s,lm-head=%s, kernels %s",
                   info->name, info->n_parameters, bytes >> 20, info->form[GLM4V_PART_TEXT],
                   info->form[GLM4V_PART_VISION], info->form[GLM4V_PART_EMBEDDING],
                   info->form[GLM4V_PART_LM_HEAD], info->isa);
    /* before the system is driven out of memory: allocations succeed until pages are touched */
    rc = glm4v_estimate_check_model(m, b->checkpoint, &b->error);
    if (!rc)
        rc = glm4v_plan_allocate(&m->plan, m, &b->error);
    if (!rc)
        rc = glm4v_plan_load(&m->plan, m, b->checkpoint, b->options.random_seed,
                             b->options.progress, b->options.progress_user, &b->error);
    glm4v_plan_loaded(&m->plan);
    return rc;
}

int glm4v_model_open(glm4v_model **model, const char *dir, const glm4v_model_options *options,
                     glm4v_error *err)
{
    builder b;
    int rc = start(&b, dir, options);
    if (!rc)
        rc = load(&b);
    if (!rc) {
        *model = b.model;
        b.model = NULL;
    }
    return finish(&b, rc, err);
}

glm4v_model *glm4v_model_ref(glm4v_model *model)
{
    atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    return model;
}

void glm4v_model_close(glm4v_model **model)
{
    glm4v_model *m = *model;
    *model = NULL;
    if (m && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
        destroy(m);
}

const glm4v_model_info *glm4v_model_get_info(const glm4v_model *model)
{
    return &model->info;
}

int glm4v_model_inspect(const char *dir, const glm4v_model_options *options, glm4v_model_info *info,
                        glm4v_error *err)
{
    builder b;
    int rc = start(&b, dir, options);
    if (!rc)
        *info = b.model->info;
    return finish(&b, rc, err);
}

int glm4v_model_examine(glm4v_model **model, glm4v_checkpoint **checkpoint, const char *dir,
                        const glm4v_model_options *options, glm4v_error *err)
{
    builder b;
    int rc = start(&b, dir, options);
    if (!rc) {
        *model = b.model;
        *checkpoint = b.checkpoint;
        b.model = NULL;
        b.checkpoint = NULL;
    }
    return finish(&b, rc, err);
}

/* ---- planner ---- */

int glm4v_model_estimate_memory(const char *dir, const glm4v_model_options *options,
                                const glm4v_engine_options *engine, uint32_t width, uint32_t height,
                                glm4v_memory *memory, glm4v_error *err)
{
    builder b;
    glm4v_engine_limits limits;
    int rc = start(&b, dir, options);
    if (!rc)
        rc = open_backends(b.model, b.options.device, b.options.n_threads, &b.error);
    if (!rc)
        rc = glm4v_engine_limits_of(&limits, b.model, engine, &b.error);
    if (!rc)
        rc = glm4v_estimate(b.model, b.checkpoint, &limits, width, height, memory, &b.error);
    return finish(&b, rc, err);
}
