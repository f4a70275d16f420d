/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading of safetensors. Everything in headers and index is checked before it is used; tensors
 * must fill the data of their file without hole or overlap, as the format demands, so that a later
 * read can neither leave the file nor see another tensor's bytes. */
#define _GNU_SOURCE
#include "checkpoint/safetensors_priv.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "convert.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors are little-endian and are read as they lie"
#endif

static const struct {
    const char *name;
    size_t size;
} dtypes[GLM4V_N_DTYPES] = {
    [GLM4V_DTYPE_F32] = { "F32", 4 },   [GLM4V_DTYPE_F16] = { "F16", 2 },
    [GLM4V_DTYPE_BF16] = { "BF16", 2 }, [GLM4V_DTYPE_F8_E4M3] = { "F8_E4M3", 1 },
    [GLM4V_DTYPE_I8] = { "I8", 1 },     [GLM4V_DTYPE_U8] = { "U8", 1 },
    [GLM4V_DTYPE_I16] = { "I16", 2 },   [GLM4V_DTYPE_I32] = { "I32", 4 },
    [GLM4V_DTYPE_I64] = { "I64", 8 },   [GLM4V_DTYPE_F64] = { "F64", 8 },
    [GLM4V_DTYPE_BOOL] = { "BOOL", 1 },
};

const char *glm4v_dtype_name(glm4v_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t glm4v_dtype_size(glm4v_dtype dtype)
{
    return dtypes[dtype].size;
}

/* ---- header of one file ---- */

static int add_tensor(glm4v_checkpoint *c, const glm4v_tensor *t, const char *name,
                      glm4v_error *err)
{
    if (c->n_tensors == GLM4V_MAX_TENSORS)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: more than %d tensors in all files",
                          c->shards[t->shard].name, GLM4V_MAX_TENSORS);
    if (c->n_tensors == c->capacity) {
        int64_t capacity = c->capacity ? 2 * c->capacity : 256;
        glm4v_tensor *more = glm4v_realloc(c->tensors, capacity, sizeof *more);
        if (!more)
            return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the list of %" PRId64 " tensors",
                              capacity);
        c->tensors = more;
        c->capacity = capacity;
    }
    glm4v_tensor *to = &c->tensors[c->n_tensors];
    *to = *t;
    to->name = glm4v_strdup(name);
    if (!to->name)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the name of a tensor");
    c->n_tensors++;
    return 0;
}

bool glm4v_dtype_parse(glm4v_dtype *dtype, const char *name)
{
    for (int i = 0; i < GLM4V_N_DTYPES; i++)
        if (!strcmp(name, dtypes[i].name)) {
            *dtype = (glm4v_dtype)i;
            return true;
        }
    return false;
}

static int parse_dtype(glm4v_dtype *dtype, const json_t *entry, const char *label, glm4v_error *err)
{
    const char *name = NULL;
    int rc = glm4v_json_string(entry, label, "dtype", &name, err);
    if (rc)
        return rc;
    if (!name)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: has no \"dtype\"", label);
    return glm4v_dtype_parse(dtype, name)
               ? 0
               : glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: dtype \"%.40s\" is not known", label,
                            name);
}

/* Shape and, from it, the size in bytes. */
static int parse_shape(glm4v_tensor *t, const json_t *entry, const char *label, glm4v_error *err)
{
    const json_t *shape = NULL;
    int rc = glm4v_json_array(entry, label, "shape", &shape, err);
    if (rc)
        return rc;
    if (!shape || json_array_size(shape) > GLM4V_MAX_DIMS)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"shape\" must be an array of at most %d sizes", label,
                          GLM4V_MAX_DIMS);
    int64_t n = 1;
    t->rank = (int)json_array_size(shape);
    for (int i = 0; i < t->rank; i++) {
        const json_t *d = json_array_get(shape, i);
        int64_t size = json_is_integer(d) ? json_integer_value(d) : -1;
        if (size < 0 || __builtin_mul_overflow(n, size, &n) || n > GLM4V_MAX_ELEMENTS)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: size %d of \"shape\" is not an integer in the possible range",
                              label, i);
        t->shape[i] = size;
    }
    t->size = n * dtypes[t->dtype].size; /* below 2^51 */
    return 0;
}

/* data_offsets are counted from the end of the header. */
static int parse_offsets(glm4v_tensor *t, const json_t *entry, const char *label,
                         uint64_t data_start, glm4v_error *err)
{
    const json_t *offsets = NULL;
    int rc = glm4v_json_array(entry, label, "data_offsets", &offsets, err);
    if (rc)
        return rc;
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"data_offsets\" must be two integers",
                          label);
    int64_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"data_offsets\" [%" PRId64 ", %" PRId64 "] run backwards", label,
                          begin, end);
    if (end > INT64_MAX / 2)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: ends at byte %" PRId64 " of the data: no file is that large", label,
                          end);
    if ((uint64_t)(end - begin) != t->size)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"data_offsets\" span %" PRId64 " bytes, but %s and \"shape\" "
                          "give %" PRIu64,
                          label, end - begin, dtypes[t->dtype].name, t->size);
    t->offset = data_start + begin;
    return 0;
}

static int parse_metadata(const json_t *metadata, const char *file, glm4v_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"__metadata__\" is not an object", file);
    json_object_foreach(
        (json_t *)metadata, key,
        value) if (!json_is_string(value)) return glm4v_fail(err, GLM4V_ERR_FORMAT,
                                                             "%s: \"__metadata__\" holds "
                                                             "\"%.60s\", which is not a string",
                                                             file, key);
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const glm4v_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size; /* empty tensors first */
}

static int by_name(const void *a, const void *b)
{
    const glm4v_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Tensors [0, n) of one file, in order of offset, that end at byte `expected` though the file ends
 * at `size`. */
static int cut_short(const glm4v_tensor *t, int64_t n, uint64_t expected, uint64_t size,
                     const char *file, glm4v_error *err)
{
    int64_t i = 0;
    while (i + 1 < n && t[i].offset + t[i].size <= size)
        i++;
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "%.80s: holds %" PRIu64 " of %" PRIu64 " bytes: it is cut short in "
                      "\"%.120s\"; resume its download, or delete it and download it again",
                      file, size, expected, t[i].name);
}

/* Tensors [first, n_tensors) must cover [data_start, data_start + data_bytes) exactly. */
static int check_cover(glm4v_checkpoint *c, int64_t first, uint64_t data_start, uint64_t data_bytes,
                       const char *file, glm4v_error *err)
{
    int64_t n = c->n_tensors - first;
    glm4v_tensor *t = n ? c->tensors + first : NULL;
    uint64_t at = data_start;
    if (n)
        qsort(t, n, sizeof *t, by_offset);
    if (n && t[n - 1].offset + t[n - 1].size > data_start + data_bytes)
        return cut_short(t, n, t[n - 1].offset + t[n - 1].size, data_start + data_bytes, file, err);
    for (int64_t i = 0; i < n; i++) {
        if (t[i].offset != at)
            return glm4v_fail(
                err, GLM4V_ERR_FORMAT,
                "%s: \"%.120s\" begins at byte %" PRIu64 ", expected %" PRIu64 ": tensors %s", file,
                t[i].name, t[i].offset, at, t[i].offset < at ? "overlap" : "leave a hole");
        at += t[i].size;
    }
    if (at != data_start + data_bytes)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: %" PRIu64 " bytes follow the last tensor, which ends at byte "
                          "%" PRIu64 "; it is damaged, download it again",
                          file, data_start + data_bytes - at, at);
    return 0;
}

/* Parse the header of shard number `index` and append its tensors. */
static int parse_header(glm4v_checkpoint *c, int64_t index, const char *text, size_t len,
                        uint64_t data_bytes, glm4v_error *err)
{
    const glm4v_shard *s = &c->shards[index];
    int64_t first = c->n_tensors;
    json_t *root = NULL;
    const char *name;
    json_t *entry;
    int rc = glm4v_json_parse(&root, text, len, s->name, &GLM4V_JSON_SAFETENSORS, err);
    if (rc)
        return rc;
    if (!json_is_object(root) || json_object_size(root) > GLM4V_MAX_TENSORS_PER_FILE)
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT,
                        "%s: the header is not an object of at most %d tensors", s->name,
                        GLM4V_MAX_TENSORS_PER_FILE);
    if (!rc)
        json_object_foreach(root, name, entry)
        {
            char label[192];
            glm4v_tensor t = { .shard = index };
            snprintf(label, sizeof label, "%.60s: \"%.120s\"", s->name, name);
            if (!strcmp(name, "__metadata__"))
                rc = parse_metadata(entry, s->name, err);
            else if (!json_is_object(entry))
                rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s is not an object", label);
            else if ((rc = parse_dtype(&t.dtype, entry, label, err)) ||
                     (rc = parse_shape(&t, entry, label, err)) ||
                     (rc = parse_offsets(&t, entry, label, s->data_start, err)))
                ;
            else
                rc = add_tensor(c, &t, name, err);
            if (rc)
                break;
        }
    json_decref(root);
    return rc ? rc : check_cover(c, first, s->data_start, data_bytes, s->name, err);
}

int glm4v_shard_read_header(glm4v_checkpoint *c, int64_t index, glm4v_error *err)
{
    glm4v_shard *s = &c->shards[index];
    char head[GLM4V_FILE_HEAD] = { 0 };
    size_t have = s->id.size < sizeof head ? s->id.size : sizeof head;
    if (!have)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: is empty (0 bytes); download it again",
                          s->name);
    int rc = glm4v_file_read(s->fd, s->name, 0, head, have, err);
    if (rc)
        return rc;
    uint64_t len;
    memcpy(&len, head, sizeof len);
    const bool fits = have >= sizeof len && len <= s->id.size - sizeof len;
    if (!fits || !len || len > GLM4V_JSON_SAFETENSORS.bytes)
        rc = glm4v_file_check_head(s->name, head, have, true, err);
    if (rc)
        return rc;
    if (!fits)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: %" PRIu64 " bytes cannot hold a header of %" PRIu64 "; it is cut "
                          "short or not a safetensors file; download it again",
                          s->name, s->id.size, have < sizeof len ? 0 : len);
    if (len > GLM4V_JSON_SAFETENSORS.bytes)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: a header of %" PRIu64 " bytes, at most %zu are accepted", s->name,
                          len, GLM4V_JSON_SAFETENSORS.bytes);
    char *text = glm4v_alloc(len + 1, 1);
    if (!text)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory for its header of %" PRIu64 " bytes",
                          s->name, len);
    s->data_start = sizeof len + len;
    rc = glm4v_file_read(s->fd, s->name, sizeof len, text, len, err);
    if (!rc)
        rc = parse_header(c, index, text, len, s->id.size - s->data_start, err);
    glm4v_free(text);
    return rc;
}

/* ---- opening and closing ---- */

glm4v_checkpoint *glm4v_checkpoint_new(const char *dir)
{
    glm4v_checkpoint *c = glm4v_alloc(1, sizeof *c);
    if (c && !(c->dir = glm4v_strdup(dir)))
        glm4v_checkpoint_close(&c);
    return c;
}

/* Sort by name for look-ups; the same name in two files is an error. */
static int sort_tensors(glm4v_checkpoint *c, glm4v_error *err)
{
    if (!c->n_tensors)
        return 0;
    qsort(c->tensors, c->n_tensors, sizeof *c->tensors, by_name);
    for (int64_t i = 1; i < c->n_tensors; i++)
        if (!strcmp(c->tensors[i - 1].name, c->tensors[i].name))
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "\"%.120s\" is in both %s and %s",
                              c->tensors[i].name, c->shards[c->tensors[i - 1].shard].name,
                              c->shards[c->tensors[i].shard].name);
    return 0;
}

int glm4v_checkpoint_hand_out(glm4v_checkpoint **checkpoint, glm4v_checkpoint *c, int rc,
                              glm4v_error *err)
{
    if (!rc)
        rc = sort_tensors(c, err);
    if (rc)
        glm4v_checkpoint_close(&c);
    else
        *checkpoint = c;
    return rc;
}

int glm4v_checkpoint_open_header(glm4v_checkpoint **checkpoint, const char *text, size_t len,
                                 uint64_t data_bytes, glm4v_error *err)
{
    glm4v_checkpoint *c = glm4v_checkpoint_new("");
    int rc = 0;
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to parse a header");
    c->shards = glm4v_alloc(1, sizeof *c->shards);
    if (!c->shards || !(c->shards[0].name = glm4v_strdup("header")))
        rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to parse a header");
    if (!rc) {
        c->n_shards = 1;
        c->shards[0].fd = -1;
        c->shards[0].data_start = sizeof(uint64_t) + len;
        rc = data_bytes > INT64_MAX / 2
                 ? glm4v_fail(err, GLM4V_ERR_FORMAT, "header: no file is that large")
                 : parse_header(c, 0, text, len, data_bytes, err);
    }
    return glm4v_checkpoint_hand_out(checkpoint, c, rc, err);
}

void glm4v_checkpoint_drop_shards(glm4v_checkpoint *c)
{
    for (int64_t i = 0; i < c->n_shards; i++) {
        if (c->shards[i].fd >= 0)
            close(c->shards[i].fd);
        glm4v_free(c->shards[i].name);
    }
    glm4v_free(c->shards);
    c->shards = NULL;
    c->n_shards = 0;
}

void glm4v_checkpoint_close(glm4v_checkpoint **checkpoint)
{
    glm4v_checkpoint *c = *checkpoint;
    if (!c)
        return;
    glm4v_checkpoint_drop_shards(c);
    for (int64_t i = 0; i < c->n_tensors; i++)
        glm4v_free((char *)c->tensors[i].name);
    glm4v_free(c->tensors);
    glm4v_free(c->dir);
    glm4v_free(c);
    *checkpoint = NULL;
}

/* ---- looking up ---- */

int64_t glm4v_checkpoint_count(const glm4v_checkpoint *c)
{
    return c->n_tensors;
}

const glm4v_tensor *glm4v_checkpoint_at(const glm4v_checkpoint *c, int64_t index)
{
    return &c->tensors[index];
}

const glm4v_tensor *glm4v_checkpoint_find(const glm4v_checkpoint *c, const char *name)
{
    glm4v_tensor key = { .name = name };
    return c->n_tensors ? bsearch(&key, c->tensors, c->n_tensors, sizeof key, by_name) : NULL;
}

const char *glm4v_checkpoint_file(const glm4v_checkpoint *c, int64_t shard)
{
    return c->shards[shard].name;
}

int64_t glm4v_checkpoint_shards(const glm4v_checkpoint *c)
{
    return c->n_shards;
}

uint64_t glm4v_checkpoint_memory(const glm4v_checkpoint *c)
{
    uint64_t bytes = sizeof *c + strlen(c->dir) + 1 + c->capacity * sizeof *c->tensors;
    for (int64_t i = 0; i < c->n_tensors; i++)
        bytes += strlen(c->tensors[i].name) + 1;
    for (int64_t i = 0; i < c->n_shards; i++)
        bytes += sizeof *c->shards + strlen(c->shards[i].name) + 1;
    return bytes;
}

uint64_t glm4v_checkpoint_bytes(const glm4v_checkpoint *c)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < c->n_shards; i++)
        bytes += c->shards[i].id.size;
    return bytes;
}

static uint64_t hash_bytes(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

uint64_t glm4v_checkpoint_digest(const glm4v_checkpoint *c)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < c->n_tensors; i++) {
        const glm4v_tensor *t = &c->tensors[i];
        const char *dtype = dtypes[t->dtype].name;
        h = hash_bytes(h, t->name, strlen(t->name) + 1);
        h = hash_bytes(h, dtype, strlen(dtype) + 1);
        h = hash_bytes(h, t->shape, t->rank * sizeof *t->shape);
    }
    return h;
}

/* ---- reading ---- */

int glm4v_checkpoint_read(const glm4v_checkpoint *c, const glm4v_tensor *tensor, uint64_t start,
                          void *data, size_t len, glm4v_error *err)
{
    const glm4v_shard *s = &c->shards[tensor->shard];
    char label[224];
    if (start > tensor->size || len > tensor->size - start)
        return glm4v_fail(err, GLM4V_ERR_INTERNAL, "%s: bytes outside \"%.120s\" were requested",
                          s->name, tensor->name);
    snprintf(label, sizeof label, "%.80s: \"%.120s\"", s->name, tensor->name);
    return glm4v_file_read(s->fd, label, tensor->offset + start, data, len, err);
}

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Exact: the half's exponent and mantissa are moved to f32's places and the bias is made good by a
 * multiplication, which normalises subnormal halves too. */
static float from_f16(uint16_t h)
{
    uint32_t magnitude = (h & 0x7fffu) << 13, sign = (h & 0x8000u) << 16;
    if (magnitude >= 0x0f800000) /* infinity, NaN */
        return from_bits(sign | 0x7f800000 | (magnitude & 0x7fffff));
    float f = from_bits(magnitude) * 0x1p112f;
    return sign ? -f : f;
}

#define BLOCK 512 /* elements widened at a time, through the stack */

/* n elements of dtype at `from` to f32 at `to`; `from` may overlap the end of `to` (see read_f32).
 */
static void widen(float *to, const unsigned char *from, glm4v_dtype dtype, size_t n)
{
    union {
        uint16_t u16[BLOCK];
        int8_t i8[BLOCK];
        uint8_t u8[BLOCK];
        int16_t i16[BLOCK];
        int32_t i32[BLOCK];
        int64_t i64[BLOCK];
        double f64[BLOCK];
    } raw;
    size_t size = dtypes[dtype].size;
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t m = n - at < BLOCK ? n - at : BLOCK;
        float *y = to + at;
        memcpy(&raw, from + at * size, m * size);
#define EACH(value)                                                                                \
    for (size_t i = 0; i < m; i++)                                                                 \
        y[i] = (float)(value);                                                                     \
    break
        switch (dtype) {
        case GLM4V_DTYPE_BF16:
            glm4v_bf16_to_f32_c(y, raw.u16, m);
            break;
        case GLM4V_DTYPE_F16:
            EACH(from_f16(raw.u16[i]));
        case GLM4V_DTYPE_I8:
            EACH(raw.i8[i]);
        case GLM4V_DTYPE_U8:
        case GLM4V_DTYPE_BOOL:
            EACH(raw.u8[i]);
        case GLM4V_DTYPE_I16:
            EACH(raw.i16[i]);
        case GLM4V_DTYPE_I32:
            EACH(raw.i32[i]);
        case GLM4V_DTYPE_I64:
            EACH(raw.i64[i]);
        case GLM4V_DTYPE_F64:
            EACH(raw.f64[i]);
        default: /* F32 is read in place, F8 was refused */
            break;
        }
#undef EACH
    }
}

/* Elements of 8 bytes do not fit into the room of an f32: through a buffer on the stack. */
static int read_wide(const glm4v_checkpoint *c, const glm4v_tensor *tensor, uint64_t start,
                     float *data, size_t n, glm4v_error *err)
{
    unsigned char raw[BLOCK * 8];
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t m = n - at < BLOCK ? n - at : BLOCK;
        int rc = glm4v_checkpoint_read(c, tensor, (start + at) * 8, raw, m * 8, err);
        if (rc)
            return rc;
        widen(data + at, raw, tensor->dtype, m);
    }
    return 0;
}

int glm4v_checkpoint_read_f32(const glm4v_checkpoint *c, const glm4v_tensor *tensor, uint64_t start,
                              float *data, size_t n, glm4v_error *err)
{
    size_t size = dtypes[tensor->dtype].size;
    if (tensor->dtype == GLM4V_DTYPE_F8_E4M3)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "%s: \"%.120s\" is F8_E4M3 and cannot be read without its scales",
                          c->shards[tensor->shard].name, tensor->name);
    if (start > tensor->size / size || n > tensor->size / size - start)
        return glm4v_fail(err, GLM4V_ERR_INTERNAL, "%s: elements outside \"%.120s\" were requested",
                          c->shards[tensor->shard].name, tensor->name);
    if (size > sizeof *data)
        return read_wide(c, tensor, start, data, n, err);
    /* Narrow elements go to the end of the same buffer and are widened from the front: block by
     * block the writing never overtakes the reading, as 4 (i + 1) <= (4 - size) n + size (i + 1)
     * for every i < n. */
    unsigned char *raw = (unsigned char *)data + (sizeof *data - size) * n;
    int rc = glm4v_checkpoint_read(c, tensor, start * size, raw, n * size, err);
    if (!rc && tensor->dtype != GLM4V_DTYPE_F32)
        widen(data, raw, tensor->dtype, n);
    return rc;
}

int glm4v_checkpoint_verify(const glm4v_checkpoint *c, glm4v_error *err)
{
    for (int64_t i = 0; i < c->n_shards; i++) {
        int rc = glm4v_file_verify(c->shards[i].fd, c->shards[i].name, &c->shards[i].id, err);
        if (rc)
            return rc;
    }
    return 0;
}
