/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See shadow.h. Each operation: copy what it overwrites, run the C kernels into the copy, run the
 * tested kernels in place, compare. */
#include "shadow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static shadow *of(glm4v_backend *b)
{
    return (shadow *)b;
}

/* A copy of n floats, or of what the operation will fill. */
static float *copy_of(const float *x, size_t n)
{
    float *copy = malloc((n ? n : 1) * sizeof *copy);
    if (copy)
        memcpy(copy, x, n * sizeof *copy);
    return copy;
}

/* Compare rows of n values and free the reference's. rc: of the two operations. */
static int note(shadow *s, const char *operation, int rc, const float *got, float *expected,
                size_t rows, size_t n, size_t ld)
{
    double error = 0, power = 0;
    for (size_t r = 0; !rc && r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            const double e = (double)expected[r * ld + i], d = (double)got[r * ld + i] - e;
            error += d * d;
            power += e * e;
            s->errors.max_abs = fabs(d) <= s->errors.max_abs ? s->errors.max_abs : fabs(d);
        }
    const double nmse = error / (power > 0 ? power : 1e-30);
    if (!(nmse <= s->errors.nmse)) {
        s->errors.nmse = nmse;
        s->errors.operation = operation;
    }
    s->errors.operations++;
    free(expected);
    return rc;
}

/* Runs `call` for backend b and output y twice; y0 is the output, `values` what it spans. */
#define TWICE(operation, y0, values, rows, n, ld, call)                                            \
    do {                                                                                           \
        shadow *s = of(self);                                                                      \
        float *expected = copy_of(y0, values), *y = expected;                                      \
        glm4v_backend *b = s->reference;                                                           \
        int rc = expected ? (call) : GLM4V_ERR_NOMEM;                                              \
        b = s->tested;                                                                             \
        y = y0;                                                                                    \
        if (!rc)                                                                                   \
            rc = (call);                                                                           \
        return note(s, operation, rc, y0, expected, (size_t)(rows), (size_t)(n), (size_t)(ld));    \
    } while (0)

static int shadow_embed(glm4v_backend *self, void *out, const glm4v_table *t, const int32_t *ids,
                        int32_t T)
{
    const size_t n = (size_t)t->n_cols;
    TWICE("embed", out, (size_t)T * n, T, n, n, b->ops->embed(b, y, t, ids, T));
}

static int shadow_linear(glm4v_backend *self, void *out, int64_t ldy, const void *x, int64_t ldx,
                         const glm4v_weight *w, const float *bias, int32_t T, bool add)
{
    const size_t span = (size_t)(T - 1) * (size_t)ldy + (size_t)w->n_out;
    TWICE("linear", out, span, T, w->n_out, ldy,
          b->ops->linear(b, y, ldy, x, ldx, w, bias, T, add));
}

static int shadow_rms_norm(glm4v_backend *self, void *out, const void *x, const float *w, int32_t T,
                           int32_t n, float eps, bool add)
{
    const size_t values = (size_t)T * (size_t)n;
    TWICE("rms_norm", out, values, T, n, n,
          b->ops->rms_norm(b, y, x == out ? y : x, w, T, n, eps, add));
}

static int shadow_layer_norm(glm4v_backend *self, void *out, const void *x, const float *w,
                             const float *bias, int32_t T, int32_t n, float eps, bool add)
{
    const size_t values = (size_t)T * (size_t)n;
    TWICE("layer_norm", out, values, T, n, n,
          b->ops->layer_norm(b, y, x == out ? y : x, w, bias, T, n, eps, add));
}

static int shadow_silu_mul(glm4v_backend *self, void *out, const void *x, int32_t T, int32_t n)
{
    const size_t values = (size_t)T * (size_t)n;
    TWICE("silu_mul", out, values, T, n, n, b->ops->silu_mul(b, y, x, T, n));
}

static int shadow_gelu(glm4v_backend *self, void *out, size_t n)
{
    TWICE("gelu", out, n, 1, n, n, b->ops->gelu(b, y, n));
}

static int shadow_add(glm4v_backend *self, void *out, const void *x, size_t n)
{
    TWICE("add", out, n, 1, n, n, b->ops->add(b, y, x, n));
}

static int shadow_scale(glm4v_backend *self, void *out, float factor, size_t n)
{
    TWICE("scale", out, n, 1, n, n, b->ops->scale(b, y, factor, n));
}

static int shadow_rope(glm4v_backend *self, void *out, int64_t ldx, const float *cos_,
                       const float *sin_, int32_t T, int32_t heads, int32_t head_dim,
                       int32_t n_freq, glm4v_rope_style style)
{
    const size_t n = (size_t)heads * (size_t)head_dim, span = (size_t)(T - 1) * (size_t)ldx + n;
    TWICE("rope", out, span, T, n, ldx,
          b->ops->rope(b, y, ldx, cos_, sin_, T, heads, head_dim, n_freq, style));
}

/* Jobs write to places of their own: one after the other. */
static int attention_job(glm4v_backend *self, const glm4v_attention_job *job,
                         const glm4v_attention *shape)
{
    const size_t n = (size_t)shape->heads * (size_t)shape->head_dim;
    const size_t span = (size_t)(job->n_q - 1) * (size_t)shape->ldo + n;
    glm4v_attention_job one = *job;
    TWICE("attention", job->o, span, job->n_q, n, shape->ldo,
          (one.o = y, b->ops->attention(b, &one, 1, shape)));
}

static int shadow_attention(glm4v_backend *self, const glm4v_attention_job *jobs, int32_t n_jobs,
                            const glm4v_attention *shape)
{
    int rc = 0;
    for (int32_t i = 0; !rc && i < n_jobs; i++)
        rc = attention_job(self, &jobs[i], shape);
    return rc;
}

/* Memory and copies: the tested backend's alone. */
static int shadow_alloc(glm4v_backend *self, void **ptr, size_t bytes, glm4v_error *err)
{
    return of(self)->tested->ops->alloc(of(self)->tested, ptr, bytes, err);
}

static void shadow_free(glm4v_backend *self, void *ptr)
{
    of(self)->tested->ops->free(of(self)->tested, ptr);
}

static int shadow_kv_append(glm4v_backend *self, const glm4v_kv_job *jobs, int32_t n_jobs,
                            int64_t ld, int32_t kv_heads, int32_t head_dim, int64_t capacity)
{
    glm4v_backend *b = of(self)->tested;
    return b->ops->kv_append(b, jobs, n_jobs, ld, kv_heads, head_dim, capacity);
}

static int shadow_copy_rows(glm4v_backend *self, void *y, const int32_t *rows, const void *x,
                            int32_t n, int32_t n_cols)
{
    return of(self)->tested->ops->copy_rows(of(self)->tested, y, rows, x, n, n_cols);
}

static int shadow_gather_rows(glm4v_backend *self, void *y, const void *x, const int32_t *rows,
                              int32_t n, int32_t n_cols)
{
    return of(self)->tested->ops->gather_rows(of(self)->tested, y, x, rows, n, n_cols);
}

static int shadow_reserve(glm4v_backend *self, int32_t T, int32_t n_in, int32_t n_k,
                          int32_t head_dim, glm4v_error *err)
{
    return of(self)->tested->ops->reserve(of(self)->tested, T, n_in, n_k, head_dim, err);
}

int shadow_open(shadow *s, glm4v_backend *tested, glm4v_error *err)
{
    const char *level = getenv("GLM4V_CPU");
    char before[32] = "";
    if (strcmp(tested->ops->name, "cpu"))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "device %s has memory of its own",
                          tested->ops->name);
    if (level)
        strncpy(before, level, sizeof before - 1);
    setenv("GLM4V_CPU", "c", 1);
    glm4v_backend *reference = NULL;
    int rc = glm4v_backend_cpu_open(&reference, 0, NULL, err);
    if (level)
        setenv("GLM4V_CPU", before, 1);
    else
        unsetenv("GLM4V_CPU");
    if (rc)
        return rc;
    *s =
        (shadow) { .base = *tested, .tested = tested, .reference = reference, .ops = *tested->ops };
    s->base.ops = &s->ops;
    s->ops.alloc = shadow_alloc;
    s->ops.free = shadow_free;
    s->ops.embed = shadow_embed;
    s->ops.linear = shadow_linear;
    s->ops.rms_norm = shadow_rms_norm;
    s->ops.layer_norm = shadow_layer_norm;
    s->ops.silu_mul = shadow_silu_mul;
    s->ops.gelu = shadow_gelu;
    s->ops.add = shadow_add;
    s->ops.scale = shadow_scale;
    s->ops.rope = shadow_rope;
    s->ops.attention = shadow_attention;
    s->ops.kv_append = shadow_kv_append;
    s->ops.copy_rows = shadow_copy_rows;
    s->ops.gather_rows = shadow_gather_rows;
    s->ops.reserve = shadow_reserve;
    return 0;
}

void shadow_close(shadow *s)
{
    glm4v_backend_close(&s->reference);
    *s = (shadow) { 0 };
}

shadow_errors shadow_take(shadow *s)
{
    const shadow_errors errors = s->errors;
    s->errors = (shadow_errors) { 0 };
    return errors;
}
