/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Position ids, rotary tables and the interpolated position table, against values worked out by
 * hand and against formulas written a second time here. The reference vectors are in
 * tests/golden. */
#include "base/mem.h"
#include "forward/position.h"
#include "test.h"

static const glm4v_config config = {
    .text = { .rotary_dim = 64, .mrope = { 8, 12, 12 }, .rope_theta = 10000.0 },
    .vision = { .hidden = 3, .head_dim = 64, .merge = 2, .table_side = 4, .rope_theta = 10000 },
};

static void text_counts_up_on_all_axes(void)
{
    glm4v_prompt prompt = { .n_ids = 5 };
    int32_t position[15], next = -1;
    glm4v_positions(position, &next, &prompt, &config);
    for (int i = 0; i < 15; i++)
        CHECK_EQ(position[i], i % 5);
    CHECK_EQ(next, 5);
}

static void a_picture_takes_as_many_positions_as_its_longer_side(void)
{
    /* 2 text, a picture of 2 x 3 tokens, 1 text, a picture of 2 x 1, 1 text */
    glm4v_image_run runs[] = { { .start = 2, .grid_h = 4, .grid_w = 6 },
                               { .start = 9, .grid_h = 4, .grid_w = 2 } };
    glm4v_prompt prompt = { .n_ids = 12, .runs = runs, .n_runs = 2 };
    static const int32_t expected[3][12] = {
        { 0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 6, 8 },
        { 0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7, 8 },
        { 0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 6, 8 },
    };
    int32_t position[36], next = -1;
    glm4v_positions(position, &next, &prompt, &config);
    for (int i = 0; i < 36; i++)
        CHECK_EQ(position[i], expected[i / 12][i % 12]);
    CHECK_EQ(next, 9);
}

static void a_prompt_may_end_in_a_picture(void)
{
    glm4v_image_run run = { .start = 1, .grid_h = 4, .grid_w = 4 };
    glm4v_prompt prompt = { .n_ids = 5, .runs = &run, .n_runs = 1 };
    int32_t position[15], next = -1;
    glm4v_positions(position, &next, &prompt, &config);
    CHECK_EQ(position[14], 2);
    CHECK_EQ(next, 3);
}

/* GLM-4V-9B: 3 text, [start, rows, end], 2 text. 0..b, b+1 for all rows, b+2, and on. */
static void one_position_for_all_rows_of_a_picture(void)
{
    const glm4v_config one = { .text = { .one_position = true },
                               .vision = { .merge = 2, .border = 1 } };
    static const int32_t expected[13] = { 0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 6, 7 };
    glm4v_image_run run = { .start = 3, .n = 8, .grid_h = 4, .grid_w = 6 };
    glm4v_prompt prompt = { .n_ids = 13, .runs = &run, .n_runs = 1 };
    int32_t position[39], next = -1;
    glm4v_positions(position, &next, &prompt, &one);
    for (int i = 0; i < 39; i++)
        CHECK_EQ(position[i], expected[i % 13]);
    CHECK_EQ(next, 8); /* the length of the prompt with the picture as three tokens */
    run.start = 0;
    prompt.n_ids = 8; /* nothing but a picture */
    glm4v_positions(position, &next, &prompt, &one);
    CHECK(position[0] == 0 && position[1] == 1 && position[6] == 1 && position[7] == 2);
    CHECK_EQ(next, 3);
}

/* Table row 1 + y * side + x goes to the patch's place in its block; row 0 to the class row. */
static void an_absolute_table_is_read_as_it_is(void)
{
    const glm4v_vision_config v = { .hidden = 2, .merge = 2, .table_side = 4, .class_rows = 1 };
    static const int patches[16] = { 0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15 };
    const float class_row[2] = { 100, 200 };
    float table[34], out[34];
    for (int i = 0; i < 34; i++)
        table[i] = (float)i;
    glm4v_vision_table(out, table, class_row, &v);
    for (int i = 0; i < 32; i++)
        CHECK_EQ((int)out[i], 2 * (1 + patches[i / 2]) + i % 2);
    CHECK(out[32] == 100 && out[33] == 201);
}

static void text_rotary_turns_by_its_position(void)
{
    static const int32_t positions[] = { 0, 7, 1000, 8000 };
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        float c[3 * 32], s[3 * 32];
        glm4v_text_rotary(c, s, positions[i], 3, &config.text);
        for (int k = 0; k < 3 * 32; k++) {
            const double angle = (positions[i] + k / 32) * pow(10000.0, -(k % 32) / 32.0);
            /* two roundings of the frequency, one of the angle */
            const double tolerance = 2e-7 * (1 + angle);
            if (fabs(c[k] - cos(angle)) > tolerance || fabs(s[k] - sin(angle)) > tolerance)
                test_fail(__FILE__, __LINE__, "frequency %d: %g %g, not %g %g", k % 32,
                          (double)c[k], (double)s[k], cos(angle), sin(angle));
        }
    }
}

static void the_vision_rotary_turns_by_row_then_by_column(void)
{
    enum { GH = 4, GW = 6 };
    float c[GH * GW * 32], s[GH * GW * 32];
    int row = 0;
    glm4v_vision_rotary(c, s, GH, GW, &config.vision);
    for (int by = 0; by < GH; by += 2)
        for (int bx = 0; bx < GW; bx += 2)
            for (int in = 0; in < 4; in++, row++)
                for (int k = 0; k < 32; k++) {
                    int y = by + in / 2, x = bx + in % 2;
                    double angle = (k < 16 ? y : x) * pow(10000.0, -(k % 16) / 16.0);
                    if (fabs(c[row * 32 + k] - cos(angle)) > 1e-6 ||
                        fabs(s[row * 32 + k] - sin(angle)) > 1e-6)
                        test_fail(__FILE__, __LINE__, "patch (%d, %d), frequency %d", y, x, k);
                }
}

/* Keys' cubic convolution kernel, written as the usual function of the distance. */
static double keys(double d)
{
    const double a = -0.75;
    d = fabs(d);
    if (d <= 1)
        return (a + 2) * d * d * d - (a + 3) * d * d + 1;
    return d < 2 ? a * d * d * d - 5 * a * d * d + 8 * a * d - 4 * a : 0;
}

static double interpolate(const float *table, double y, double x, int channel)
{
    double sum = 0;
    for (int i = (int)floor(y) - 1; i <= (int)floor(y) + 2; i++)
        for (int j = (int)floor(x) - 1; j <= (int)floor(x) + 2; j++) {
            int ci = i < 0 ? 0 : i > 3 ? 3 : i, cj = j < 0 ? 0 : j > 3 ? 3 : j;
            sum += keys(y - i) * keys(x - j) * table[(ci * 4 + cj) * 3 + channel];
        }
    return sum;
}

static void the_position_table_is_interpolated_bicubically(void)
{
    float table[4 * 4 * 3];
    for (int i = 0; i < 48; i++)
        table[i] = (float)((i * 7919) % 101) / 10 - 5;
    static const int grids[][2] = { { 4, 4 }, { 2, 2 }, { 6, 10 }, { 14, 2 }, { 2, 30 } };
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
        int gh = grids[g][0], gw = grids[g][1], row = 0;
        float *out = glm4v_alloc((size_t)(gh * gw * 3), sizeof *out);
        REQUIRE(out);
        glm4v_vision_positions(out, table, (uint32_t)gh, (uint32_t)gw, &config.vision);
        for (int by = 0; by < gh; by += 2)
            for (int bx = 0; bx < gw; bx += 2)
                for (int in = 0; in < 4; in++, row++)
                    for (int c = 0; c < 3; c++) {
                        double y = (by + in / 2 + 0.5) * 4 / gh - 0.5,
                               x = (bx + in % 2 + 0.5) * 4 / gw - 0.5;
                        double expected = interpolate(table, y, x, c);
                        if (!(fabs(out[row * 3 + c] - expected) < 1e-5))
                            test_fail(__FILE__, __LINE__,
                                      "grid %dx%d row %d channel %d: %g, not %g", gh, gw, row, c,
                                      out[row * 3 + c], expected);
                    }
        glm4v_free(out);
    }
}

static void at_its_own_size_the_table_is_unchanged(void)
{
    float table[48], out[48];
    for (int i = 0; i < 48; i++)
        table[i] = (float)i;
    glm4v_vision_positions(out, table, 4, 4, &config.vision);
    CHECK_EQ(out[0 * 3], 0); /* rows 0..3: (0,0) (0,1) (1,0) (1,1) */
    CHECK_EQ(out[1 * 3], 3);
    CHECK_EQ(out[2 * 3], 12);
    CHECK_EQ(out[4 * 3 + 2], 8); /* (0,2) */
    CHECK_EQ(out[15 * 3], 45);
}

int main(void)
{
    TEST(text_counts_up_on_all_axes);
    TEST(a_picture_takes_as_many_positions_as_its_longer_side);
    TEST(a_prompt_may_end_in_a_picture);
    TEST(one_position_for_all_rows_of_a_picture);
    TEST(an_absolute_table_is_read_as_it_is);
    TEST(text_rotary_turns_by_its_position);
    TEST(the_vision_rotary_turns_by_row_then_by_column);
    TEST(the_position_table_is_interpolated_bicubically);
    TEST(at_its_own_size_the_table_is_unchanged);
    return test_end();
}
