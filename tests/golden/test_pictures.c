/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preprocessing and the interpolated position table against reference vectors: our own small set,
 * and the large one where ../shared holds it. */
#include <unistd.h>

#include "checkpoint/safetensors.h"
#include "forward/position.h"
#include "pictures.h"
#include "test.h"

typedef struct {
    int lines, failed;
} tally;

static void count_result(void *user, const pictures_result *r)
{
    tally *t = user;
    t->lines++;
    t->failed += !r->equal;
    if (!r->equal)
        printf("# %s, %s: %s, largest difference %g\n", r->name, r->stage, r->detail, r->max_abs);
}

static tally check_dir(const char *dir)
{
    tally t = { 0 };
    glm4v_error err = { 0 };
    if (pictures_check(dir, count_result, &t, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    return t;
}

static void our_own_vectors_are_met(void)
{
    tally t = check_dir(SOURCE_ROOT "/tests/data/preprocess");
    CHECK_EQ(t.failed, 0);
    CHECK_EQ(t.lines, 6);
}

static void a_wrong_vector_is_found(void)
{
    tally t = check_dir(SOURCE_ROOT "/tests/data/preprocess/wrong");
    CHECK(t.lines >= 4);
    CHECK_EQ(t.failed, t.lines - 1); /* all but the grid */
}

static void the_reference_processor_is_met(void)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s/preprocess", test_golden_dir());
    if (!test_needs("golden", !access(dir, R_OK), "no reference pictures beside the source tree"))
        return;
    tally t = check_dir(dir);
    CHECK_EQ(t.failed, 0);
    CHECK(t.lines >= 34);
}

/* ---- the position table ---- */

enum { SIDE = 24, WIDTH = 1536, KEPT = 64, EVERY = 24 };

/* numpy's file [1, 1536, 24, 24] of float32 to [24 * 24, 1536]. */
static float *read_table(const char *path)
{
    static float data[WIDTH * SIDE * SIDE];
    unsigned char head[10];
    FILE *file = fopen(path, "rb");
    float *table = malloc(sizeof data);
    bool good = table && file && fread(head, 1, 10, file) == 10 &&
                !memcmp(head, "\x93NUMPY\1", 7) &&
                !fseek(file, 10 + head[8] + 256 * head[9], SEEK_SET) &&
                fread(data, sizeof data, 1, file) == 1;
    for (int i = 0; good && i < WIDTH * SIDE * SIDE; i++)
        table[(i % (SIDE * SIDE)) * WIDTH + i / (SIDE * SIDE)] = data[i];
    if (file)
        fclose(file);
    if (good)
        return table;
    free(table);
    return NULL;
}

static void check_grid(const float *table, const glm4v_checkpoint *golden, const glm4v_tensor *t)
{
    const glm4v_vision_config vision = { .hidden = WIDTH, .table_side = SIDE, .merge = 2 };
    uint32_t gh = (uint32_t)t->shape[0], gw = (uint32_t)t->shape[1];
    float *out = malloc((size_t)gh * gw * WIDTH * sizeof *out),
          *expected = malloc((size_t)gh * gw * KEPT * 4);
    double worst = 0;
    REQUIRE(out && expected &&
            !glm4v_checkpoint_read_f32(golden, t, 0, expected, (size_t)gh * gw * KEPT, NULL));
    glm4v_vision_positions(out, table, gh, gw, &vision);
    for (uint32_t y = 0; y < gh; y++)
        for (uint32_t x = 0; x < gw; x++) {
            size_t row = ((y / 2) * (gw / 2) + x / 2) * 4 + y % 2 * 2 + x % 2;
            for (int c = 0; c < KEPT; c++)
                worst = fmax(worst, fabs(out[row * WIDTH + (size_t)(c * EVERY)] -
                                         expected[(y * gw + x) * KEPT + c]));
        }
    printf("# grid %s: largest difference %.3g\n", t->name, worst);
    CHECK(worst < 3e-5); /* the reference's coordinates are rounded to fp32; values reach 29 */
    free(out);
    free(expected);
}

static void the_real_position_table_is_interpolated_as_the_reference_does(void)
{
    char path[1024];
    glm4v_checkpoint *golden = NULL;
    glm4v_error err = { 0 };
    snprintf(path, sizeof path, "%s/position_interp.safetensors", test_golden_dir());
    if (!test_needs("golden", !access(path, R_OK),
                    "no reference position table beside the source tree"))
        return;
    if (glm4v_checkpoint_open_file(&golden, path, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    snprintf(path, sizeof path, "%s/../models/glm-4.1v-9b-thinking/pos_embed_weight.npy",
             test_golden_dir());
    float *table = read_table(path);
    REQUIRE(table && golden);
    for (uint32_t i = 0; i < glm4v_checkpoint_count(golden); i++)
        check_grid(table, golden, glm4v_checkpoint_at(golden, i));
    CHECK(glm4v_checkpoint_count(golden) >= 4);
    glm4v_checkpoint_close(&golden);
    free(table);
}

int main(void)
{
    TEST(our_own_vectors_are_met);
    TEST(a_wrong_vector_is_found);
    TEST(the_reference_processor_is_met);
    TEST(the_real_position_table_is_interpolated_as_the_reference_does);
    return test_end();
}
