/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See shadow.h. Each operation: copy what it overwrites, run the C kernels into the copy, run the
 * tested kernels in place, compare. */
#include "shadow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu_priv.h"
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

/* Runs `call` on the step for each backend, with output y; y0 is the output, `values` what it
 * spans. A step belongs to the backend that its operations find in it. */
#define TWICE(operation, y0, values, rows, n, ld, call)                                            \
    do {                                                                                           \
        glm4v_backend *self = step->backend;                                                       \
        shadow *s = of(self);                                                                      \
        float *expected = copy_of(y0, values), *y = expected;                                      \
        const glm4v_backend_ops *ops = s->reference->ops;                                          \
        step->backend = s->reference;                                                              \
        int rc = expected ? (call) : GLM4V_ERR_NOMEM;                                              \
        ops = s->tested->ops;                                                                      \
        step->backend = s->tested;                                                                 \
        y = y0;                                                                                    \
        if (!rc)                                                                                   \
            rc = (call);                                                                           \
        step->backend = self;                                                                      \
        return note(s, operation, rc, y0, expected, (size_t)(rows), (size_t)(n), (size_t)(ld));    \
    } while (0)

/* What the rows of a step with so many span. */
static size_t span_of(int64_t rows, int64_t ld, int64_t n)
{
    return (size_t)(rows - 1) * (size_t)ld + n;
}

static int64_t rows_of(const glm4v_step *step)
{
    return ((const glm4v_cpu_step *)(const void *)step)->rows;
}

static int shadow_embed(glm4v_step *step, void *out, const glm4v_table *t)
{
    const size_t n = (size_t)t->n_cols, rows = (size_t)rows_of(step);
    TWICE("embed", out, rows * n, rows, n, n, ops->embed(step, y, t));
}

static int shadow_product(glm4v_step *step, const glm4v_product *p)
{
    const size_t n = (size_t)p->w->n_out;
    glm4v_product one = *p;
    TWICE("product", p->y, span_of(p->rows, p->ldy, n), p->rows, n, p->ldy,
          (one.y = y, ops->product(step, &one)));
}

static int shadow_norm(glm4v_step *step, const glm4v_norm_rows *a)
{
    const size_t n = (size_t)a->groups * (size_t)a->n;
    glm4v_norm_rows one = *a;
    TWICE("norm", a->y, span_of(a->rows, a->ldy, n), a->rows, n, a->ldy,
          (one.y = y, one.x = a->x == a->y ? y : a->x, ops->norm(step, &one)));
}

static int shadow_silu_mul(glm4v_step *step, void *out, const void *x, int64_t rows, int64_t n)
{
    TWICE("silu_mul", out, span_of(rows, n, (size_t)n), rows, n, n,
          ops->silu_mul(step, y, x, rows, n));
}

static int shadow_gelu(glm4v_step *step, void *out, int64_t n)
{
    TWICE("gelu", out, n, 1, n, n, ops->gelu(step, y, n));
}

static int shadow_add(glm4v_step *step, void *out, const void *x, int64_t n)
{
    TWICE("add", out, n, 1, n, n, ops->add(step, y, x, n));
}

static int shadow_scale(glm4v_step *step, void *out, float factor, int64_t n)
{
    TWICE("scale", out, n, 1, n, n, ops->scale(step, y, factor, n));
}

static int shadow_rope(glm4v_step *step, const glm4v_rope *r)
{
    const size_t n = (size_t)r->heads * (size_t)r->head_dim;
    const int64_t rows = rows_of(step);
    glm4v_rope one = *r;
    TWICE("rope", r->x, span_of(rows, r->ldx, n), rows, n, r->ldx,
          (one.x = y, ops->rope(step, &one)));
}

static int shadow_attend(glm4v_step *step, const glm4v_attend *a)
{
    const size_t n = (size_t)a->heads * (size_t)a->kv->shape.head_dim;
    const int64_t rows = rows_of(step);
    glm4v_attend one = *a;
    TWICE("attend", a->o, span_of(rows, a->ldo, n), rows, n, a->ldo,
          (one.o = y, ops->attend(step, &one)));
}

static int shadow_attend_all(glm4v_step *step, const glm4v_attend_all *a)
{
    const size_t n = (size_t)a->heads * (size_t)a->head_dim;
    glm4v_attend_all one = *a;
    TWICE("attend_all", a->o, span_of(a->rows, a->ldo, n), a->rows, n, a->ldo,
          (one.o = y, ops->attend_all(step, &one)));
}

/* Memory, copies, keys and values: the tested backend's alone. Its calls find themselves. */
#define TESTED(type, name, parameters, call)                                                       \
    static type shadow_##name parameters                                                           \
    {                                                                                              \
        glm4v_backend *b = of(self)->tested;                                                       \
        return b->ops->name call;                                                                  \
    }

TESTED(int, alloc, (glm4v_backend * self, void **ptr, size_t bytes, glm4v_error *err),
       (b, ptr, bytes, err))
TESTED(int, reserve, (glm4v_backend * self, const glm4v_scratch_need *need, glm4v_error *err),
       (b, need, err))
TESTED(void, failure, (glm4v_backend * self, char *text, size_t size), (b, text, size))
TESTED(int, kv_open,
       (glm4v_backend * self, glm4v_kv *kv, const glm4v_kv_shape *shape, glm4v_error *err),
       (b, kv, shape, err))
TESTED(void, kv_close, (glm4v_backend * self, glm4v_kv *kv), (b, kv))

static int shadow_append(glm4v_step *step, const glm4v_append *a)
{
    glm4v_backend *self = step->backend;
    step->backend = of(self)->tested;
    int rc = step->backend->ops->append(step, a);
    step->backend = self;
    return rc;
}

int shadow_open(shadow *s, glm4v_backend *tested, glm4v_error *err)
{
    const char *level = getenv("GLM4V_CPU");
    char before[32] = "";
    glm4v_pool *pool = NULL;
    if (strcmp(tested->ops->name, "cpu"))
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "device %s has memory of its own",
                          tested->ops->name);
    if (level)
        strncpy(before, level, sizeof before - 1);
    setenv("GLM4V_CPU", "c", 1);
    glm4v_backend *reference = NULL;
    int rc = glm4v_pool_open(&pool, 0, err);
    if (!rc)
        rc = glm4v_backend_cpu_open(&reference, pool, NULL, err);
    if (level)
        setenv("GLM4V_CPU", before, 1);
    else
        unsetenv("GLM4V_CPU");
    if (rc) {
        glm4v_pool_close(&pool);
        return rc;
    }
    *s =
        (shadow) { .base = *tested, .tested = tested, .reference = reference, .ops = *tested->ops };
    s->base.ops = &s->ops;
    s->ops.alloc = shadow_alloc;
    s->ops.reserve = shadow_reserve;
    s->ops.failure = shadow_failure;
    s->ops.kv_open = shadow_kv_open;
    s->ops.kv_close = shadow_kv_close;
    s->ops.embed = shadow_embed;
    s->ops.product = shadow_product;
    s->ops.logits = shadow_product;
    s->ops.norm = shadow_norm;
    s->ops.silu_mul = shadow_silu_mul;
    s->ops.gelu = shadow_gelu;
    s->ops.add = shadow_add;
    s->ops.scale = shadow_scale;
    s->ops.rope = shadow_rope;
    s->ops.append = shadow_append;
    s->ops.attend = shadow_attend;
    s->ops.attend_all = shadow_attend_all;
    /* composites are made of these, so that their parts are compared */
    s->ops.norm_product = NULL;
    s->ops.qkv = NULL;
    s->ops.gate_up = NULL;
    s->ops.product_add = NULL;
    return 0;
}

void shadow_close(shadow *s)
{
    glm4v_pool *pool = s->reference ? s->reference->pool : NULL;
    glm4v_backend_close(&s->reference);
    glm4v_pool_close(&pool);
    *s = (shadow) { 0 };
}

shadow_errors shadow_take(shadow *s)
{
    const shadow_errors errors = s->errors;
    s->errors = (shadow_errors) { 0 };
    return errors;
}
