/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-06: hostile config.json, generation_config.json and processor files, up to the plan of the
 * weights. The first byte chooses the file, the rest is its text or edits of a valid one. What is
 * taken keeps the promises that the forward passes build on. P-14: some are tried again with an
 * allocation that fails. */
#define _GNU_SOURCE
#include <math.h>
#include <stdbool.h>

#include "base/mem.h"
#include "files.h"
#include "fuzz.h"
#include "json_edits.h"
#include "model/model.h"
#include "tiny_model.h"

const size_t fuzz_json_at = 1;

static const char *const names[] = { "config.json",
                                     "generation_config.json",
                                     "preprocessor_config.json",
                                     "video_preprocessor_config.json",
                                     "config.json",
                                     "config.json" };
/* 4 and 5: config.json in the other layout, and of the other family */
enum { N_FILES = sizeof names / sizeof *names, FLAT = 4, CHATGLM4V = 5 };
static char dir[512];
static file_text texts[N_FILES]; /* the valid ones */
static json_base bases[N_FILES];

static void remove_dir(void)
{
    tiny_model_remove(dir);
}

static void start(void)
{
    FUZZ_CHECK(!tiny_model_mkdtemp(dir, sizeof dir));
    atexit(remove_dir);
    glm4v_config config;
    FUZZ_CHECK(!tiny_model_write(dir, &(tiny_model_options) { .flat_config = true }));
    FUZZ_CHECK(!glm4v_config_read(&config, dir, true, NULL));
    texts[FLAT] = file_read(dir, "config.json");
    FUZZ_CHECK(!tiny_model_write(dir, &(tiny_model_options) { .chatglm4v = true }));
    FUZZ_CHECK(!glm4v_config_read(&config, dir, true, NULL));
    texts[CHATGLM4V] = file_read(dir, "config.json");
    FUZZ_CHECK(!tiny_model_write(dir, NULL));
    file_write_text(dir, "generation_config.json",
                    "{\"eos_token_id\": [1, 2, 320], \"temperature\": 0.8}");
    for (int i = 0; i < N_FILES; i++) {
        if (i < FLAT)
            texts[i] = file_read(dir, names[i]);
        json_base_init(&bases[i], texts[i].data, texts[i].len);
    }
    FUZZ_CHECK(!glm4v_config_read(&config, dir, true, NULL)); /* or nothing below could fail */
}

static void check_processor(const glm4v_processor_config *p)
{
    FUZZ_CHECK(p->min_pixels >= 1 && p->min_pixels <= p->max_pixels &&
               p->max_pixels <= (uint64_t)1 << 40);
    for (int i = 0; i < 3; i++)
        FUZZ_CHECK(isfinite(p->mean[i]) && isfinite(p->std[i]) && p->std[i] > 0);
}

static void check_config(const glm4v_config *c)
{
    const glm4v_text_config *t = &c->text;
    const glm4v_vision_config *v = &c->vision;
    const int32_t ids[] = { c->image_id,     c->video_id,       c->image_start_id,
                            c->image_end_id, c->video_start_id, c->video_end_id };
    FUZZ_CHECK(t->vocab > 0 && t->hidden > 0 && t->ffn > 0 && t->layers > 0 && t->context > 0);
    FUZZ_CHECK(t->heads > 0 && t->kv_heads > 0 && t->heads % t->kv_heads == 0 && t->head_dim > 0);
    FUZZ_CHECK(t->rotary_dim > 0 && t->rotary_dim % 2 == 0 && t->rotary_dim <= t->head_dim);
    FUZZ_CHECK(t->mrope[0] >= 0 && t->mrope[1] >= 0 && t->mrope[2] >= 0);
    FUZZ_CHECK(2 * (t->mrope[0] + t->mrope[1] + t->mrope[2]) == t->rotary_dim);
    FUZZ_CHECK(isfinite(t->norm_eps) && t->norm_eps >= 0 && isfinite(t->rope_theta) &&
               t->rope_theta >= 1);
    FUZZ_CHECK(v->hidden > 0 && v->layers > 0 && v->heads > 0 &&
               v->hidden == v->heads * v->head_dim);
    if (c->family == GLM4V_FAMILY_GLM4V)
        FUZZ_CHECK(v->head_dim % 4 == 0 && v->ffn == v->out_hidden && v->temporal > 0);
    else if (c->family == GLM4V_FAMILY_GLM_OCR)
        FUZZ_CHECK(v->head_dim % 4 == 0 && v->table_side == 0 && v->temporal > 0 &&
                   v->merger_ffn == 3 * v->out_hidden);
    else
        FUZZ_CHECK(v->table_side > 0 && v->table_side % v->merge == 0 && v->divisor > 0 &&
                   v->temporal == 1 && c->image.side == v->table_side * v->patch);
    FUZZ_CHECK(v->out_hidden == t->hidden && v->ffn > 0 && v->merger_ffn > 0);
    FUZZ_CHECK(v->patch > 0 && v->temporal > 0 && v->merge > 0 && v->table_side >= 0);
    FUZZ_CHECK(!v->rope_theta || (isfinite(v->rope_theta) && v->rope_theta >= 1));
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        FUZZ_CHECK(ids[i] >= -1 && ids[i] < t->vocab);
    FUZZ_CHECK(c->n_stop_ids >= 0 && c->n_stop_ids <= GLM4V_MAX_STOP_IDS);
    for (int i = 0; i < c->n_stop_ids; i++)
        FUZZ_CHECK(c->stop_ids[i] >= 0 && c->stop_ids[i] < t->vocab);
    check_processor(&c->image);
    check_processor(&c->video);
    FUZZ_CHECK(c->video_fps > 0 && isfinite(c->video_fps));
}

/* The plan of random weights: from the configuration alone. */
static void check_plan(const glm4v_config *config)
{
    glm4v_quantization q = { 0 };
    glm4v_stage stage = { .count = config->text.layers };
    glm4v_model model = { .config = *config, .stages = &stage, .n_stages = 1 };
    model.layers = calloc((size_t)config->text.layers, sizeof *model.layers);
    model.vision.layers = calloc((size_t)config->vision.layers, sizeof *model.vision.layers);
    FUZZ_CHECK(!glm4v_plan_make(&model.plan, &model, NULL, &q, NULL));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < model.plan.n; i++) {
        const glm4v_item *item = &model.plan.items[i];
        FUZZ_CHECK(item->n_out > 0 && item->n_in > 0);
        sum += (uint64_t)item->n_out * (uint64_t)item->n_in;
    }
    FUZZ_CHECK(sum >= model.plan.parameters && sum < (uint64_t)1 << 52);
    glm4v_plan_clear(&model.plan);
    free(model.layers);
    free(model.vision.layers);
}

/* config.json alone, from memory and from its file, is taken whenever the whole directory is. */
static void check_alone(int rc, const char *text, size_t len)
{
    glm4v_config config, again;
    memset(&config, 0, sizeof config);
    memset(&again, 0, sizeof again);
    int parsed = glm4v_config_parse(&config, text, len, NULL);
    FUZZ_CHECK(!parsed || rc);
    if (len % 4 == 0) {
        FUZZ_CHECK(glm4v_config_read_file(&again, file_path(dir, names[0]), NULL) == parsed);
        FUZZ_CHECK(!memcmp(&config, &again, sizeof config));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glm4v_config config;
    glm4v_error err = { 0 };
    size_t len;
    if (!size)
        return 0;
    if (!texts[0].data)
        start();
    size_t live = glm4v_mem_live();
    int which = data[0] % N_FILES;
    char *text = json_input(&bases[which], data + 1, size - 1, &len);
    file_write(dir, names[which], text, len);
    uint64_t before = glm4v_mem_calls();
    int rc = glm4v_config_read(&config, dir, true, &err);
    uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    if (!strcmp(names[which], names[0]))
        check_alone(rc, text, len);
    free(text);
    glm4v_error no_memory = { 0 };
    glm4v_config unused;
    FUZZ_WITHOUT_MEMORY(nth, &no_memory, glm4v_config_read(&unused, dir, true, &no_memory));
    which = which < FLAT ? which : 0;
    file_write(dir, names[which], texts[which].data, texts[which].len);
    if (rc == 0) {
        check_config(&config);
        check_plan(&config);
    } else {
        FUZZ_CHECK(err.code == rc && err.msg[0] &&
                   (rc == GLM4V_ERR_FORMAT || rc == GLM4V_ERR_UNSUPPORTED));
    }
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
