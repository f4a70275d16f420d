/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of algorithms for prefill products: read from the file that GLM4V_CUDA_PRODUCTS names,
 * written to the one that GLM4V_CUDA_TUNE names, which `glm4v bench --tune` sets. It is text, for
 * one kind of GPU and one version of cuBLASLt:
 *
 *   glm4v-products 1
 *   gpu NVIDIA H200
 *   cublaslt 130100
 *   choice 4096 13696 bf16 0123456789abcdef ... (8 times)     n_out, n_in, type: of the sums, of
 *                                                             products of bf16; or fp8
 *   hash 0123456789abcdef                                     of all before it: FNV-1a
 *
 * What is read is written again in memory and has to be the same text. */
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

#define READ_VARIABLE "GLM4V_CUDA_PRODUCTS"
#define WRITE_VARIABLE "GLM4V_CUDA_TUNE"
#define TEXT_BYTES ((size_t)16 << 10) /* a choice is 190 at most */

_Static_assert(GLM4V_CUDA_CHOICES * 200 + 200 <= TEXT_BYTES, "the largest table fits");

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

/* text: TEXT_BYTES. Returns the hash. */
static uint64_t write_text(char *text, const glm4v_gpu_products *t)
{
    size_t at = (size_t)snprintf(
        text, TEXT_BYTES, "glm4v-products 1\ngpu %s\ncublaslt %" PRIu64 "\n", t->gpu, t->version);
    for (int i = 0; i < t->n; i++) {
        const glm4v_cuda_choice *c = &t->choice[i];
        at += (size_t)snprintf(text + at, TEXT_BYTES - at, "choice %d %d %s", c->n_out, c->n_in,
                               type_of(c));
        for (int k = 0; k < 8; k++)
            at += (size_t)snprintf(text + at, TEXT_BYTES - at, " %016" PRIx64, c->algorithm[k]);
        text[at++] = '\n';
    }
    const uint64_t hash = hash_of(text, at);
    snprintf(text + at, TEXT_BYTES - at, "hash %016" PRIx64 "\n", hash);
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
    sscanf(text, "glm4v-products 1\ngpu %63[^\n]\ncublaslt %" SCNu64, t->gpu, &t->version);
    while (t->n < GLM4V_CUDA_CHOICES && (line = strstr(line, "\nchoice ")) != NULL) {
        line++;
        if (!parse_choice(&t->choice[t->n++], line))
            break;
    }
}

static int read_text(char *text, const char *path, glm4v_error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return glm4v_fail(err, GLM4V_ERR_IO, READ_VARIABLE "=%s: %s", path, strerror(errno));
    const size_t size = fread(text, 1, TEXT_BYTES - 1, file);
    const bool bad = ferror(file);
    fclose(file);
    text[size] = 0;
    return bad ? glm4v_fail(err, GLM4V_ERR_IO, READ_VARIABLE "=%s: cannot be read", path) : 0;
}

/* text, again: TEXT_BYTES each. */
static int check(const glm4v_gpu_products *t, const glm4v_gpu_products *here, const char *text,
                 char *again, const char *path, glm4v_error *err)
{
    write_text(again, t);
    if (strcmp(text, again))
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          READ_VARIABLE "=%s: not a table of products, or changed since it was "
                                        "written; write it anew with glm4v bench --tune %s",
                          path, path);
    if (strcmp(t->gpu, here->gpu) || t->version != here->version)
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          READ_VARIABLE "=%s: written for %s and cuBLASLt %" PRIu64
                                        ", these are %s and %" PRIu64
                                        "; write it anew with glm4v bench --tune %s",
                          path, t->gpu, t->version, here->gpu, here->version, path);
    return 0;
}

/* here: what the file must be for; gets its choices. */
static int read_table(glm4v_gpu_products *here, const char *path, char *text, glm4v_error *err)
{
    glm4v_gpu_products t = { 0 };
    int rc = read_text(text, path, err);
    if (rc)
        return rc;
    parse(&t, text);
    rc = check(&t, here, text, text + TEXT_BYTES, path, err);
    if (!rc)
        *here = t;
    return rc;
}

/* ---- of a backend ---- */

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

int glm4v_gpu_read_products(glm4v_gpu_backend *g, const char *gpu, glm4v_error *err)
{
    const char *path = variable(READ_VARIABLE);
    glm4v_gpu_products *t = &g->products;
    char *text = glm4v_alloc(2, TEXT_BYTES);
    int rc = text ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the table of products");
    snprintf(t->gpu, sizeof t->gpu, "%s", gpu);
    t->version = glm4v_cuda_prefill_version();
    t->tune = variable(WRITE_VARIABLE);
    if (!rc && path && !t->tune)
        rc = read_table(t, path, text, err);
    if (!rc && !t->tune)
        snprintf(t->hash, sizeof t->hash, "%016" PRIx64, write_text(text, t));
    glm4v_free(text);
    return rc;
}

/* path.new, then renamed: 0, or errno. */
static int write_file(const char *path, const char *text)
{
    char fresh[4096];
    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
        return ENAMETOOLONG;
    FILE *file = fopen(fresh, "we");
    if (!file)
        return errno;
    bool bad = fputs(text, file) < 0;
    bad |= fclose(file) != 0;
    if (!bad && !rename(fresh, path))
        return 0;
    const int why = errno;
    unlink(fresh);
    return why;
}

void glm4v_gpu_write_products(const glm4v_gpu_backend *g, const glm4v_gpu_queue *q)
{
    const char *path = variable(WRITE_VARIABLE);
    if (!g->products.tune || !path || !q->prefill)
        return;
    glm4v_gpu_products t = g->products;
    t.n = glm4v_cuda_prefill_choices(q->prefill, t.choice);
    char *text = t.n ? glm4v_alloc(1, TEXT_BYTES) : NULL;
    if (!text)
        return;
    write_text(text, &t);
    const int why = write_file(path, text);
    if (why)
        glm4v_log_line(g->base.log, GLM4V_LOG_WARNING, "the table of products: %s: %s", path,
                       strerror(why));
    glm4v_free(text);
}
