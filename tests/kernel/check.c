/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The harness of check.h: command line, levels, guarded buffers, comparison. */
#define _GNU_SOURCE
#include "check.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

enum { PAGE = 4096, FRONT = 256, PATTERN = 0xa5, POISON = 0xd7 };

static void (*const checks[])(struct check *t) = {
    check_act,   check_attention, check_convert, check_gemm,
    check_image, check_norm,      check_pack,    check_rope,
};

enum {
    AVX2 = GLM4V_CPU_AVX2,
    AVX512 = AVX2 | GLM4V_CPU_AVX512,
    VNNI = AVX512 | GLM4V_CPU_VNNI,
    BF16 = AVX512 | GLM4V_CPU_BF16,
    AMX = VNNI | GLM4V_CPU_AMX,
};

/* Levels from the bottom up, and the one that each stands on; what the machine lacks is left
 * out. */
static const struct {
    unsigned cpu, below;
} levels[] = { { 0, 0 },         { AVX2, 0 },      { AVX512, AVX2 },
               { VNNI, AVX512 }, { BF16, AVX512 }, { AMX, VNNI } };

static void init_tables(struct tables *tables, unsigned cpu)
{
    glm4v_act_ops_init(&tables->act, cpu);
    glm4v_attention_ops_init(&tables->attention, cpu);
    glm4v_convert_ops_init(&tables->convert, cpu);
    glm4v_gemm_ops_init(&tables->gemm, cpu);
    glm4v_image_ops_init(&tables->image, cpu);
    glm4v_norm_ops_init(&tables->norm, cpu);
    glm4v_rope_ops_init(&tables->rope, cpu);
}

uint64_t check_random(struct check *t)
{
    uint64_t z = t->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Sum of twelve uniforms less six: close enough to Gaussian, and quick. */
float check_gauss(struct check *t)
{
    int32_t sum = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t r = check_random(t);
        sum += (int32_t)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48));
    }
    return (float)sum / 65536 - 6;
}

const char *fill_name(enum fill kind)
{
    static const char *const names[] = {
        "normal", "peaky", "zero", "huge", "denormal", "nan", "inf"
    };
    return names[kind];
}

void check_fill(struct check *t, float *x, size_t n, enum fill kind)
{
    for (size_t i = 0; i < n; i++) {
        float g = kind == FILL_ZERO ? 0 : check_gauss(t);
        if (kind >= FILL_NAN || kind == FILL_PEAKY)
            g *= check_random(t) % 50 ? 1 : 100;
        if (kind == FILL_HUGE)
            g *= 1e15f;
        if (kind == FILL_DENORMAL)
            g *= 0x1p-132f;
        x[i] = g;
    }
    if (n && kind == FILL_NAN)
        x[check_random(t) % n] = NAN;
    if (n && kind == FILL_INF)
        x[check_random(t) % n] = check_random(t) & 1 ? INFINITY : -INFINITY;
}

int next_size(int n, int max)
{
    int power = 1;
    while (power <= n)
        power *= 2;
    int next = n + 1 == power || n == power / 2 ? n + 1 : power - 1;
    if (n < 3)
        next = n + 1;
    return next <= max ? next : 0;
}

void check_fail(struct check *t, const char *format, ...)
{
    va_list args;

    if (t->failures++ || t->quiet)
        return;
    printf("# %s, %s: ", t->name, t->level);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

bool check_begin(struct check *t, check_fn below, check_fn ops, const char *name)
{
    if ((below == ops && t->cpu) || (t->function && fnmatch(t->function, name, 0)))
        return false;
    t->name = name;
    t->failures = 0;
    return true;
}

void check_end(struct check *t)
{
    if (!t->quiet && t->cpu)
        tap_result(t->failures == 0, "%s at level %s equals the C form", t->name, t->level);
    for (int i = 0; i < CHECK_SLOTS; i++) {
        struct check_slot *s = &t->slot[i];
        if (s->map)
            munmap(s->map, s->capacity + 2 * PAGE);
        free(s->copy);
        *s = (struct check_slot) { 0 };
    }
}

static void *or_stop(void *p)
{
    if (!p || p == MAP_FAILED) {
        printf("Bail out! no memory for test buffers\n");
        exit(1);
    }
    return p;
}

/* [page without access][pages, the buffer at their end][page without access] */
static void map_slot(struct check_slot *s, size_t bytes)
{
    if (s->map)
        munmap(s->map, s->capacity + 2 * PAGE);
    s->capacity = (bytes + FRONT + PAGE - 1) / PAGE * PAGE;
    s->map = or_stop(mmap(NULL, s->capacity + 2 * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(s->map, PAGE, PROT_NONE);
    mprotect(s->map + PAGE + s->capacity, PAGE, PROT_NONE);
}

void *check_buf(struct check *t, int slot, size_t bytes)
{
    struct check_slot *s = &t->slot[slot];
    if (!s->map || s->capacity < bytes + FRONT)
        map_slot(s, bytes);
    s->size = bytes;
    s->input = false;
    s->data = s->map + PAGE + s->capacity - bytes;
    memset(s->data - FRONT, PATTERN, FRONT);
    check_poison(t, slot);
    return s->data;
}

void check_poison(struct check *t, int slot)
{
    memset(t->slot[slot].data, POISON, t->slot[slot].size);
}

void check_input(struct check *t, int slot)
{
    struct check_slot *s = &t->slot[slot];
    s->copy = or_stop(realloc(s->copy, s->size + 1));
    memcpy(s->copy, s->data, s->size);
    s->input = true;
}

void check_guards(struct check *t, const char *what, ...)
{
    char text[160];
    va_list args;

    va_start(args, what);
    vsnprintf(text, sizeof text, what, args);
    va_end(args);
    for (int i = 0; i < CHECK_SLOTS; i++) {
        struct check_slot *s = &t->slot[i];
        if (!s->data)
            continue;
        for (int k = 0; k < FRONT; k++)
            if (s->data[k - FRONT] != PATTERN)
                check_fail(t, "%s: byte %d in front of buffer %d was written", text, FRONT - k, i);
        if (s->input && memcmp(s->copy, s->data, s->size))
            check_fail(t, "%s: the input in buffer %d was changed", text, i);
        s->input = false;
    }
}

/* The distance between a float and the next one; of denormals, that of the smallest normal. */
static double ulp_of(float f)
{
    int exponent;
    frexp(f, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static bool same_kind(float a, float b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    return (isinf(a) || isinf(b)) ? a == b : true;
}

void check_close(struct check *t, const float *got, const float *ref, size_t n,
                 struct tolerance tolerance, const char *what, ...)
{
    char text[160];
    double error = 0, power = 0, largest = 0;
    va_list args;

    va_start(args, what);
    vsnprintf(text, sizeof text, what, args);
    va_end(args);
    for (size_t i = 0; i < n; i++) {
        if (!same_kind(got[i], ref[i]))
            check_fail(t, "%s: value %zu is %g, not %g", text, i, (double)got[i], (double)ref[i]);
        else if (isfinite(ref[i]) && fabs((double)got[i] - ref[i]) > tolerance.tiny) {
            error += ((double)got[i] - ref[i]) * ((double)got[i] - ref[i]);
        }
        if (isfinite(ref[i])) {
            power += (double)ref[i] * ref[i];
            largest = fmax(largest, fabs(ref[i]));
        }
    }
    if (error > tolerance.nmse * power)
        check_fail(t, "%s: normalised error %.3g, at most %.3g", text, error / power,
                   tolerance.nmse);
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)got[i] - ref[i]);
        if (!isfinite(ref[i]) || !isfinite(got[i]))
            continue;
        if (tolerance.max > 0 && e > tolerance.max * largest + tolerance.tiny)
            check_fail(t, "%s: value %zu is %.9g, not %.9g: error %.3g of the largest", text, i,
                       (double)got[i], (double)ref[i], e / largest);
        if (tolerance.ulp > 0 && e > tolerance.ulp * ulp_of(ref[i]) + tolerance.tiny)
            check_fail(t, "%s: value %zu is %.9g, not %.9g: %.1f units in the last place", text, i,
                       (double)got[i], (double)ref[i], e / ulp_of(ref[i]));
    }
}

void check_bytes(struct check *t, const void *got, const void *ref, size_t bytes, const char *what,
                 ...)
{
    const uint8_t *a = got, *b = ref;
    char text[160];
    va_list args;

    if (!memcmp(got, ref, bytes))
        return;
    va_start(args, what);
    vsnprintf(text, sizeof text, what, args);
    va_end(args);
    size_t i = 0;
    while (a[i] == b[i])
        i++;
    check_fail(t, "%s: byte %zu of %zu is 0x%02x, not 0x%02x", text, i, bytes, a[i], b[i]);
}

static void run_levels(struct check *t, const char *only)
{
    unsigned have = glm4v_cpu_flags();

    init_tables(&t->ref, 0);
    /* The C forms are level 0: nothing to compare them with, but timed. */
    for (size_t i = t->bench ? 0 : 1; i < sizeof levels / sizeof *levels; i++) {
        t->cpu = levels[i].cpu;
        t->level = glm4v_cpu_level(t->cpu);
        if ((t->cpu & have) != t->cpu || (only && strcmp(only, t->level)))
            continue;
        init_tables(&t->below, levels[i].below);
        init_tables(&t->ops, t->cpu);
        for (size_t k = 0; k < sizeof checks / sizeof *checks; k++)
            checks[k](t);
    }
}

static int usage(void)
{
    fprintf(
        stderr,
        "usage: check-kernels [--function GLOB] [--level LEVEL] [--seed N] [--bench] [--json]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static struct check t;
    const char *level = NULL;
    /* the ordinary run is repeatable; the deep one draws new inputs every time */
    uint64_t seed = getenv("GLM4V_DEEP") ? (uint64_t)time(NULL) : 1;

    for (int i = 1; i < argc; i++) {
        bool value = i + 1 < argc;
        if (!strcmp(argv[i], "--bench"))
            t.bench = true;
        else if (!strcmp(argv[i], "--json"))
            t.json = true;
        else if (!strcmp(argv[i], "--function") && value)
            t.function = argv[++i];
        else if (!strcmp(argv[i], "--level") && value)
            level = argv[++i];
        else if (!strcmp(argv[i], "--seed") && value)
            seed = strtoull(argv[++i], NULL, 0);
        else
            return usage();
    }
    printf("# seed %llu, this machine: %s\n", (unsigned long long)seed,
           glm4v_cpu_level(glm4v_cpu_flags()));
    t.random = seed;
    if (!t.function && !level) {
        init_tables(&t.ref, 0);
        check_reference(&t);
        check_harness(&t);
    }
    run_levels(&t, level);
    return tap_end();
}
