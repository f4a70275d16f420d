/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the engine tests share: the tiny model on disk and opened, pictures made by a formula, and a
 * way to record what the callbacks said. One model for all tests of a program; each test opens the
 * engines it needs. */
#ifndef GLM4V_TEST_FIXTURE_H
#define GLM4V_TEST_FIXTURE_H

#include <stdatomic.h>

#include "glm4v/glm4v.h"
#include "test.h"
#include "tiny_model.h"

static char fixture_dir[256];
static const char *fixture_form;                           /* quantization; NULL = as stored */
__attribute__((unused)) static const char *fixture_device; /* NULL = the default */
static glm4v_model *fixture_model;

/* Write the tiny model and open it. False after a message. */
__attribute__((unused)) static bool fixture_open(const tiny_model_options *tiny)
{
    glm4v_error err = { 0 };
    if (tiny_model_make(fixture_dir, sizeof fixture_dir, tiny))
        return false;
    glm4v_model_options options = { .n_threads = 2, .quantization = fixture_form };
    options.device = fixture_device;
    if (!glm4v_model_open(&fixture_model, fixture_dir, &options, &err))
        return true;
    printf("# %s\n", err.msg);
    return false;
}

__attribute__((unused)) static void fixture_close(void)
{
    glm4v_model_close(&fixture_model);
    tiny_model_remove(fixture_dir);
}

__attribute__((unused)) static glm4v_engine *fixture_engine(const glm4v_engine_options *options)
{
    glm4v_engine *engine = NULL;
    glm4v_error err = { 0 };
    if (glm4v_engine_open(&engine, fixture_model, options, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    return engine;
}

#define PICTURE_SIDE 1600
static uint8_t picture_pixels[3 * PICTURE_SIDE * PICTURE_SIDE];

/* A picture of its own for each number; pixels stay valid. */
__attribute__((unused)) static glm4v_image picture(uint32_t number, int32_t width, int32_t height)
{
    if (!picture_pixels[0])
        for (uint32_t i = 0, state = 1; i < sizeof picture_pixels; i++) {
            state = state * 1103515245u + 12345u;
            picture_pixels[i] = (uint8_t)((state >> 16) | 1);
        }
    return (glm4v_image) { .data = picture_pixels + 331 * number,
                           .width = width,
                           .height = height,
                           .stride = 3 * PICTURE_SIDE,
                           .timestamp = number / 2.0 };
}

/* What the callbacks of one request said. */
typedef struct {
    char text[4096]; /* of answer and boxes, as streamed */
    char answer[4096], reasoning[4096];
    char message[512];
    int status;
    glm4v_finish finish;
    glm4v_result numbers; /* strings in it are gone */
    atomic_int n_text, n_done;
    int order; /* place among all that ended */
} record;

static atomic_int fixture_ended;

__attribute__((unused)) static void record_text(void *user, glm4v_text_part part, const char *text)
{
    record *r = user;
    size_t used = strlen(r->text);
    if (part != GLM4V_TEXT_REASONING)
        snprintf(r->text + used, sizeof r->text - used, "%s", text);
    atomic_fetch_add(&r->n_text, 1);
}

__attribute__((unused)) static void record_done(void *user, const glm4v_result *result)
{
    record *r = user;
    snprintf(r->answer, sizeof r->answer, "%s", result->text);
    snprintf(r->reasoning, sizeof r->reasoning, "%s", result->reasoning);
    snprintf(r->message, sizeof r->message, "%s", result->message);
    r->status = result->status;
    r->finish = result->finish;
    r->numbers = *result;
    r->order = atomic_fetch_add(&fixture_ended, 1);
    atomic_fetch_add(&r->n_done, 1);
}

/* Submit, and wait for the end. */
__attribute__((unused)) static void run_task(glm4v_engine *engine, glm4v_task task, record *r)
{
    glm4v_request *request = NULL;
    glm4v_error err = { 0 };
    task.on_text = task.on_text ? task.on_text : record_text;
    task.on_done = record_done;
    task.user = r;
    memset(r, 0, sizeof *r);
    if (glm4v_engine_submit(engine, &task, &request, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return;
    }
    CHECK_EQ(glm4v_request_wait(request, 60000000000u), 0);
    CHECK_EQ(atomic_load(&r->n_done), 1);
    if (r->status)
        printf("# ended with: %s\n", r->message);
    glm4v_request_unref(&request);
}

#endif
