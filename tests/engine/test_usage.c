/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The usage loop at the head of glm4v.h, as it stands there, compiled and run. */
#include "fixture.h"

/* usage.inc is that loop, cut out of the header by tests/support/extract_usage.py. */
int caption(const char *dir, const uint8_t *rgb, int width, int height);
#include "usage.inc"

static void the_loop_of_the_header_describes_a_picture(void)
{
    static uint8_t rgb[3 * 90 * 60];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 7);
    CHECK_EQ(caption(fixture_dir, rgb, 90, 60), 0);
}

static void the_loop_of_the_header_reports_a_missing_model(void)
{
    CHECK_EQ(caption("/nonexistent", (uint8_t[]) { 1, 2, 3 }, 1, 1), GLM4V_ERR_NOT_FOUND);
}

int main(void)
{
    if (tiny_model_make(fixture_dir, sizeof fixture_dir, NULL))
        return 1;
    if (!freopen("/dev/null", "w", stderr)) /* the loop prints its error, which is expected */
        return 1;
    fputs("# ", stdout);
    TEST(the_loop_of_the_header_describes_a_picture);
    TEST(the_loop_of_the_header_reports_a_missing_model);
    fixture_close();
    return test_end();
}
