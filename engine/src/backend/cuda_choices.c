/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables of algorithms for prefill products: read from the file that GLM4V_CUDA_PRODUCTS names,
 * written to the one that GLM4V_CUDA_TUNE names, which `glm4v bench --tune` sets. The file is text,
 * one table behind another, each for one kind of GPU and one version of cuBLASLt:
 *
 *   glm4v-products 1
 *   gpu NVIDIA H200
 *   cublaslt 130100
 *   choice 4096 13696 bf16 0123456789abcdef ... (8 times)     n_out, n_in, type: of the sums, of
 *                                                             products of bf16; or fp8
 *   hash 0123456789abcdef                                     of all before it: FNV-1a
 *
 * Each table that is read is written again in memory and has to be the same text. What is written
 * goes into the table of its GPU and version: shapes that were timed take the place of the same
 * ones, all else stays. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cuda_priv.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/string_buffer.h"

#define READ_VARIABLE "GLM4V_CUDA_PRODUCTS"
#define WRITE_VARIABLE "GLM4V_CUDA_TUNE"
#define FIRST_LINE "glm4v-products 1\n"
#define TABLE_BYTES ((size_t)16 << 10) /* a choice is 190 at most */
#define FILE_BYTES (64 * TABLE_BYTES)

_Static_assert(GLM4V_CUDA_CHOICES * 200 + 200 <= TABLE_BYTES, "the largest table fits");

static uint64_t hash_of(const char *text, size_t size)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return h;
}

static const char *type_of(const glm4v_cuda_choice *c)
{
    if (c->fp8)
        return "fp8";
    return c->f32 ? "f32" : "bf16";
}

/* text: TABLE_BYTES. Returns the hash. */
static uint64_t write_text(char *text, const glm4v_gpu_products *t)
{
    size_t at = (size_t)snprintf(text, TABLE_BYTES, FIRST_LINE "gpu %s\ncublaslt %" PRIu64 "\n",
                                 t->gpu, t->version);
    for (int i = 0; i < t->n; i++) {
        const glm4v_cuda_choice *c = &t->choice[i];
        at += (size_t)snprintf(text + at, TABLE_BYTES - at, "choice %d %d %s", c->n_out, c->n_in,
                               type_of(c));
        for (int k = 0; k < 8; k++)
            at += (size_t)snprintf(text + at, TABLE_BYTES - at, " %016" PRIx64, c->algorithm[k]);
        text[at++] = '\n';
    }
    const uint64_t hash = hash_of(text, at);
    snprintf(text + at, TABLE_BYTES - at, "hash %016" PRIx64 "\n", hash);
    return hash;
}

/* ---- reading ---- */

/* False: not a line of a choice. */
static bool parse_choice(glm4v_cuda_choice *c, const char *line)
{
    char type[8];
    int at = 0;
    if (sscanf(line, "choice %" SCNd32 " %" SCNd32 " %7s%n", &c->n_out, &c->n_in, type, &at) != 3)
        return false;
    c->f32 = !strcmp(type, "f32");
    c->fp8 = !strcmp(type, "fp8");
    for (int k = 0, more = 0; k < 8; k++, at += more)
        if (sscanf(line + at, " %16" SCNx64 "%n", &c->algorithm[k], &more) != 1)
            return false;
    return true;
}

/* As far as it is a table. */
static void parse(glm4v_gpu_products *t, const char *text)
{
    const char *line = text;
    sscanf(text, FIRST_LINE "gpu %63[^\n]\ncublaslt %" SCNu64, t->gpu, &t->version);
    while (t->n < GLM4V_CUDA_CHOICES && (line = strstr(line, "\nchoice ")) != NULL) {
        line++;
        if (!parse_choice(&t->choice[t->n++], line))
            break;
    }
}

/* A file of tables. */
typedef struct {
    const char *variable, *path; /* which variable names it */
    char *text, *at;             /* at: what is not parsed yet */
    char again[TABLE_BYTES];
} tables;

static int fail_io(const tables *f, int why, glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_IO, "%s=%s: %s", f->variable, f->path, strerror(why));
}

/* may_be_absent: then there are no tables in it. */
static int open_tables(tables *f, bool may_be_absent, glm4v_error *err)
{
    FILE *file = fopen(f->path, "re");
    if (!file && !(may_be_absent && errno == ENOENT))
        return fail_io(f, errno, err);
    f->at = f->text = glm4v_alloc(FILE_BYTES, 1);
    const size_t size = file && f->text ? fread(f->text, 1, FILE_BYTES - 1, file) : 0;
    const int why = file && ferror(file) ? errno : 0;
    if (file)
        fclose(file);
    if (!f->text)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for tables of products");
    f->text[size] = 0;
    return why ? fail_io(f, why, err) : 0;
}

static void close_tables(tables *f)
{
    glm4v_free(f->text);
    f->text = NULL;
}

/* False: what follows is no table, or was changed. */
static bool parse_next(tables *f, glm4v_gpu_products *t)
{
    char *hash = strstr(f->at, "\nhash "), *end = hash ? strchr(hash + 1, '\n') : NULL;
    *t = (glm4v_gpu_products) { 0 };
    if (!end)
        return false;
    const char behind = *++end;
    *end = 0;
    parse(t, f->at);
    write_text(f->again, t);
    const bool sound = !strcmp(f->at, f->again);
    *end = behind;
    f->at = end;
    return sound;
}

/* 1: *t is the next table. 0: there is none. FORMAT */
static int next_table(tables *f, glm4v_gpu_products *t, glm4v_error *err)
{
    if (!*f->at)
        return 0;
    if (parse_next(f, t))
        return 1;
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "%s=%s: not a table of products, or changed since it was written; remove it "
                      "and write it anew with glm4v bench --tune %s",
                      f->variable, f->path, f->path);
}

static bool same_kind(const glm4v_gpu_products *a, const glm4v_gpu_products *b)
{
    return !strcmp(a->gpu, b->gpu) && a->version == b->version;
}

/* here: what the table must be for; gets its choices. */
static int find_table(tables *f, glm4v_gpu_products *here, glm4v_error *err)
{
    glm4v_gpu_products t;
    char others[300] = "";
    bool found = false;
    int more;
    while ((more = next_table(f, &t, err)) > 0) {
        const size_t at = strlen(others);
        snprintf(others + at, sizeof others - at, "%s%s and cuBLASLt %" PRIu64, at ? ", " : "",
                 t.gpu, t.version);
        if (!found && same_kind(&t, here)) {
            found = true;
            *here = t;
        }
    }
    if (more || found)
        return more;
    return glm4v_fail(
        err, GLM4V_ERR_DEVICE,
        "%s=%s: for %s, but these are %s and %" PRIu64 "; add a table with glm4v bench --tune %s",
        f->variable, f->path, *others ? others : "no GPU", here->gpu, here->version, f->path);
}

/* That a file which is to be written is there, it holds tables: no other one is overwritten. */
static int check_tables(tables *f, glm4v_error *err)
{
    glm4v_gpu_products t;
    int more;
    do
        more = next_table(f, &t, err);
    while (more > 0);
    return more;
}

/* ---- of a backend ---- */

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int use_file(glm4v_gpu_products *here, const char *path, glm4v_error *err)
{
    tables f = { .variable = here->tune ? WRITE_VARIABLE : READ_VARIABLE, .path = path };
    int rc = open_tables(&f, here->tune, err);
    if (!rc)
        rc = here->tune ? check_tables(&f, err) : find_table(&f, here, err);
    close_tables(&f);
    return rc;
}

int glm4v_gpu_read_products(glm4v_gpu_backend *g, const char *gpu, glm4v_error *err)
{
    const char *to = variable(WRITE_VARIABLE), *path = to ? to : variable(READ_VARIABLE);
    glm4v_gpu_products *t = &g->products;
    char text[TABLE_BYTES];
    snprintf(t->gpu, sizeof t->gpu, "%s", gpu);
    t->version = glm4v_cuda_prefill_version();
    t->tune = to != NULL;
    int rc = path ? use_file(t, path, err) : 0;
    if (!rc && !t->tune)
        snprintf(t->hash, sizeof t->hash, "%016" PRIx64, write_text(text, t));
    if (!rc && t->tune)
        glm4v_log_line(g->base.log, GLM4V_LOG_WARNING,
                       WRITE_VARIABLE ": products of cuBLASLt are timed on %s for %s, so first "
                                      "requests take long",
                       g->device, path);
    return rc;
}

/* ---- writing ---- */

static const glm4v_cuda_choice *choice_of(const glm4v_gpu_products *t, const glm4v_cuda_choice *c)
{
    for (int i = 0; i < t->n; i++)
        if (t->choice[i].n_out == c->n_out && t->choice[i].n_in == c->n_in &&
            t->choice[i].f32 == c->f32 && t->choice[i].fp8 == c->fp8)
            return &t->choice[i];
    return NULL;
}

/* What `old` has beside, as far as there is room. */
static void add_choices(glm4v_gpu_products *t, const glm4v_gpu_products *old)
{
    for (int i = 0; i < old->n && t->n < GLM4V_CUDA_CHOICES; i++)
        if (!choice_of(t, &old->choice[i]))
            t->choice[t->n++] = old->choice[i];
}

/* The file's tables with t among them. */
static int combine(glm4v_text_out *out, tables *f, glm4v_gpu_products *t, glm4v_error *err)
{
    glm4v_gpu_products old;
    int more;
    while ((more = next_table(f, &old, err)) > 0) {
        if (same_kind(&old, t))
            add_choices(t, &old);
        else
            glm4v_text_add(out, f->again, strlen(f->again));
    }
    write_text(f->again, t);
    glm4v_text_add(out, f->again, strlen(f->again));
    return more || !out->failed ? more
                                : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %s", f->path);
}

/* path.new, then renamed. */
static int write_file(const tables *f, const glm4v_text_out *text, glm4v_error *err)
{
    char fresh[4096];
    if (snprintf(fresh, sizeof fresh, "%s.new", f->path) >= (int)sizeof fresh)
        return fail_io(f, ENAMETOOLONG, err);
    FILE *file = fopen(fresh, "we");
    if (!file)
        return fail_io(f, errno, err);
    bool bad = fwrite(text->data, 1, text->size, file) != text->size;
    bad |= fclose(file) != 0;
    if (!bad && !rename(fresh, f->path))
        return 0;
    const int why = errno;
    unlink(fresh);
    return fail_io(f, why, err);
}

void glm4v_gpu_write_products(const glm4v_gpu_backend *g, const glm4v_gpu_queue *q)
{
    tables f = { .variable = WRITE_VARIABLE, .path = variable(WRITE_VARIABLE) };
    glm4v_gpu_products t = g->products;
    glm4v_text_out out = { 0 };
    glm4v_error err = { 0 };
    if (!t.tune || !f.path || !q->prefill)
        return;
    t.n = glm4v_cuda_prefill_choices(q->prefill, t.choice);
    if (!t.n)
        return;
    int rc = open_tables(&f, true, &err);
    if (!rc)
        rc = combine(&out, &f, &t, &err);
    if (!rc)
        rc = write_file(&f, &out, &err);
    if (rc)
        glm4v_log_line(g->base.log, GLM4V_LOG_WARNING, "%s", err.msg);
    close_tables(&f);
    glm4v_free(out.data);
}
