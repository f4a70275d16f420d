/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many frames of one size: no memory of the device is taken after the first of them, and the
 * same frames have the same answers after a restart. Linked with the CUDA backend; counts
 * are those of a GPU, or a hundredth on the fake runtime. */
#include "backend/cuda_check.h"
#include "fixture.h"
#include "model/model.h"

#ifdef FAKE_CUDA
enum { SCALE = 100, AT_ONCE = 4 };
#else
enum { SCALE = 1, AT_ONCE = 16 };
#endif
enum { FIXED = 1000 / SCALE, FRAMES = 10000 / SCALE, TOKENS = 8 };

/* ---- frames through an engine ---- */

typedef struct {
    glm4v_request *request[AT_ONCE];
    record record[AT_ONCE];
    uint64_t digest; /* of all answers, in order */
    int failed;
} window;

static uint64_t mix(uint64_t digest, const char *text)
{
    for (; *text; text++)
        digest = (digest ^ (uint8_t)*text) * 0x100000001b3u;
    return digest * 0x100000001b3u;
}

static void finish(window *w, int at)
{
    if (!w->request[at])
        return;
    CHECK_EQ(glm4v_request_wait(w->request[at], 60000000000u), 0);
    w->failed += w->record[at].status != 0;
    w->digest = mix(w->digest, w->record[at].answer);
    glm4v_request_unref(&w->request[at]);
}

static void describe(glm4v_engine *engine, window *w, int frame, int at)
{
    const glm4v_image image = picture((uint32_t)(frame % FIXED), 112, 84);
    finish(w, at);
    memset(&w->record[at], 0, sizeof w->record[at]);
    CHECK_EQ(glm4v_engine_submit(engine,
                                 &(glm4v_task) { .prompt = "Describe the surface.",
                                                 .images = &image,
                                                 .n_images = 1,
                                                 .max_tokens = TOKENS,
                                                 .speculation = GLM4V_SPECULATION_OFF,
                                                 .on_done = record_done,
                                                 .user = &w->record[at] },
                                 &w->request[at], NULL),
             0);
}

/* Describe so many frames, n of them at once; the digest of their answers. */
static uint64_t play(glm4v_engine *engine, int frames, int n)
{
    static window w;
    memset(&w, 0, sizeof w);
    for (int i = 0; i < frames; i++)
        describe(engine, &w, i, i % n);
    for (int i = 0; i < n; i++)
        finish(&w, (frames + i) % n);
    CHECK_EQ(w.failed, 0);
    return w.digest;
}

static glm4v_engine *open_engine(void)
{
    return fixture_engine(&(glm4v_engine_options) { .max_batch = AT_ONCE });
}

/* ---- tests ---- */

static uint64_t free_memory(void)
{
    glm4v_backend *b = fixture_model->stages[0].backend;
    return b->ops->available(b);
}

/* Nor do requests that come together later. Without drafts: they would make steps of other numbers
 * of rows at any time, whose graphs the driver keeps where it likes. */
static void ten_thousand_frames_take_no_memory_of_the_device(void)
{
    glm4v_engine *engine = open_engine();
    REQUIRE(engine);
    play(engine, FIXED, 1);
    const uint64_t calls = glm4v_cuda_calls(GLM4V_CUDA_AT_ALLOC);
    play(engine, FIXED, AT_ONCE);
    const uint64_t graphs = glm4v_cuda_calls(GLM4V_CUDA_AT_GRAPH), before = free_memory();
    play(engine, FRAMES, AT_ONCE);
    const uint64_t after = free_memory();
    const uint64_t late = glm4v_cuda_calls(GLM4V_CUDA_AT_GRAPH) - graphs;
    printf("# %d frames: %llu allocations before them, %llu with them, %llu and %llu graphs; free "
           "%llu, then %llu bytes\n",
           FRAMES, (unsigned long long)calls,
           (unsigned long long)(glm4v_cuda_calls(GLM4V_CUDA_AT_ALLOC) - calls),
           (unsigned long long)graphs, (unsigned long long)late, (unsigned long long)before,
           (unsigned long long)after);
    CHECK(calls > 0);
    CHECK_EQ(glm4v_cuda_calls(GLM4V_CUDA_AT_ALLOC), calls);
    CHECK(graphs + late <= AT_ONCE); /* one for each number of requests in a step */
    CHECK_EQ(after, before);
    glm4v_engine_close(&engine);
}

/* A digest that the next run of the program prints too. */
static void fixed_frames_have_the_same_answers_after_a_restart(void)
{
    uint64_t digest[3];
    for (int i = 0; i < 3; i++) {
        glm4v_engine *engine = open_engine();
        REQUIRE(engine);
        digest[i] = play(engine, FIXED, AT_ONCE);
        glm4v_engine_close(&engine);
        fixture_close();
        REQUIRE(fixture_open(NULL));
    }
    printf("# answers of %d frames: %016llx\n", FIXED, (unsigned long long)digest[0]);
    CHECK_EQ(digest[1], digest[0]);
    CHECK_EQ(digest[2], digest[0]);
}

int main(void)
{
    if (!fixture_open(NULL))
        return 1;
    TEST(ten_thousand_frames_take_no_memory_of_the_device);
    TEST(fixed_frames_have_the_same_answers_after_a_restart);
    fixture_close();
    return test_end();
}
