/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The harness against forms that are wrong on purpose: each kind of mistake that it is there to
 * find must be found. The mistakes that a page fault finds (reading or writing beyond the end) are
 * not planted: they would end the program. */
#include <string.h>

#include "tap.h"
#include "tolerance.h"

static void rms_norm_forgets_the_tail(float *y, const float *x, const float *w, int64_t n,
                                      float eps, bool add)
{
    glm4v_rms_norm_c(y, x, w, n, eps, add);
    if (n % 8 == 7)
        y[n - 1] = x[n - 1];
}

static void rms_norm_ignores_add(float *y, const float *x, const float *w, int64_t n, float eps,
                                 bool add)
{
    glm4v_rms_norm_c(y, x, w, n, eps, false);
}

static void rms_norm_is_a_little_off(float *y, const float *x, const float *w, int64_t n, float eps,
                                     bool add)
{
    glm4v_rms_norm_c(y, x, w, n, eps * 1.001f + 1e-5f, add);
}

static void rms_norm_writes_in_front(float *y, const float *x, const float *w, int64_t n, float eps,
                                     bool add)
{
    glm4v_rms_norm_c(y, x, w, n, eps, add);
    y[-1] = 0;
}

static void rms_norm_changes_its_input(float *y, const float *x, const float *w, int64_t n,
                                       float eps, bool add)
{
    glm4v_rms_norm_c(y, x, w, n, eps, add);
    ((float *)w)[0] += 1;
}

static void rms_norm_loses_nan(float *y, const float *x, const float *w, int64_t n, float eps,
                               bool add)
{
    glm4v_rms_norm_c(y, x, w, n, eps, add);
    for (int64_t i = 0; i < n; i++)
        y[i] = isnan(y[i]) ? 0 : y[i];
}

/* Right to all tolerances, but a row's last bits depend on how many rows there are. */
static void gemm_depends_on_the_batch(const glm4v_gemm_args *g)
{
    glm4v_gemm_f32_c(g);
    for (int64_t t = 0; g->T % 2 && t < g->T; t++)
        for (int64_t n = 16 * g->panel; n < g->n_out && n < 16 * (g->panel + g->n_panels); n++)
            g->y[t * g->ldy + n] = nextafterf(g->y[t * g->ldy + n], 0);
}

static void gemm_ignores_the_range_of_panels(const glm4v_gemm_args *g)
{
    glm4v_gemm_args whole = *g;
    whole.panel = 0;
    glm4v_gemm_f32_c(&whole);
}

static void gemm_writes_whole_panels(const glm4v_gemm_args *g)
{
    glm4v_gemm_f32_c(g);
    if (g->n_out % 16 && g->T > 1 && g->panel + g->n_panels == glm4v_panel_count(g->n_out))
        g->y[g->n_out] = 0;
}

static void plant_norm(struct check *t, glm4v_rms_norm_fn wrong, const char *name)
{
    struct check planted = *t;
    planted.ops = planted.below = t->ref;
    planted.ops.norm.rms_norm = wrong;
    planted.cpu = GLM4V_CPU_AVX2; /* any level: at none there is nothing to compare */
    planted.quiet = true;
    planted.bench = false;
    planted.failures = 0;
    check_norm(&planted);
    tap_result(planted.failures > 0, "the harness finds that %s", name);
}

static void plant_gemm(struct check *t, glm4v_gemm_fn wrong, const char *name)
{
    struct check planted = *t;
    planted.ops = planted.below = t->ref;
    planted.ops.gemm.f32 = wrong;
    planted.cpu = GLM4V_CPU_AVX2; /* any level: at none there is nothing to compare */
    planted.quiet = true;
    planted.bench = false;
    planted.failures = 0;
    check_gemm(&planted);
    tap_result(planted.failures > 0, "the harness finds that %s", name);
}

/* A right form under another address must pass, or the tests above would prove nothing. */
static void rms_norm_is_right(float *y, const float *x, const float *w, int64_t n, float eps,
                              bool add)
{
    glm4v_rms_norm_c(y, x, w, n, eps, add);
}

static void right_form_passes(struct check *t)
{
    struct check planted = *t;
    planted.ops = planted.below = t->ref;
    planted.ops.norm.rms_norm = rms_norm_is_right;
    planted.cpu = GLM4V_CPU_AVX2; /* any level: at none there is nothing to compare */
    planted.quiet = true;
    planted.bench = false;
    planted.failures = 0;
    check_norm(&planted);
    tap_result(planted.failures == 0, "the harness passes a right form");
}

void check_harness(struct check *t)
{
    t->level = "planted";
    right_form_passes(t);
    plant_norm(t, rms_norm_forgets_the_tail, "a form forgets the tail of a row");
    plant_norm(t, rms_norm_ignores_add, "a form ignores add");
    plant_norm(t, rms_norm_is_a_little_off, "a form is off by more than the tolerance");
    plant_norm(t, rms_norm_writes_in_front, "a form writes in front of its output");
    plant_norm(t, rms_norm_changes_its_input, "a form changes its input");
    plant_norm(t, rms_norm_loses_nan, "a form turns NaN into a number");
    plant_gemm(t, gemm_depends_on_the_batch, "a product depends on the batch");
    plant_gemm(t, gemm_ignores_the_range_of_panels,
               "a product computes panels that it was not asked for");
    plant_gemm(t, gemm_writes_whole_panels, "a product writes beyond the last output");
}
