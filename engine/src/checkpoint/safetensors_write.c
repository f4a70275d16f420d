/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Layout and headers of safetensors files that are written, see safetensors_write.h. */
#define _GNU_SOURCE
#include "checkpoint/safetensors_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define ALIGNMENT 64    /* of the data in its file: a cache line; the format requires 8 */
#define ENTRY_BYTES 256 /* of a header entry beside its name, from above */
#define METADATA "\"__metadata__\":{\"format\":\"pt\"}"

int glm4v_outputs_add(glm4v_outputs *o, const char *stem, const char *suffix,
                      const glm4v_output_type *type, glm4v_error *err)
{
    if (o->n == o->capacity) {
        int64_t capacity = o->capacity ? 2 * o->capacity : 256;
        glm4v_output *more = glm4v_realloc(o->items, capacity, sizeof *more);
        if (!more)
            return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a list of %" PRId64 " tensors",
                              capacity);
        o->items = more;
        o->capacity = capacity;
    }
    size_t n = strlen(stem) + strlen(suffix) + 1;
    glm4v_output *t = &o->items[o->n];
    *t = (glm4v_output) { .name = glm4v_alloc(n, 1), .dtype = type->dtype, .rank = type->rank };
    if (!t->name)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the name of a tensor");
    snprintf(t->name, n, "%s%s", stem, suffix);
    t->size = glm4v_dtype_size(type->dtype);
    for (int i = 0; i < type->rank; i++) {
        t->shape[i] = type->shape[i];
        t->size *= type->shape[i]; /* shapes come from tensors that were checked */
    }
    o->n++;
    return 0;
}

void glm4v_outputs_clear(glm4v_outputs *o)
{
    for (int64_t i = 0; i < o->n; i++)
        glm4v_free(o->items[i].name);
    glm4v_free(o->items);
    *o = (glm4v_outputs) { 0 };
}

/* ---- layout ---- */

/* In a file: widest elements first, then by name. */
static int by_place(const void *a, const void *b)
{
    const glm4v_output *x = *(const glm4v_output *const *)a, *y = *(const glm4v_output *const *)b;
    size_t x_size = glm4v_dtype_size(x->dtype), y_size = glm4v_dtype_size(y->dtype);
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (x_size != y_size)
        return x_size > y_size ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void choose_shards(glm4v_outputs *o, const int64_t *groups, uint64_t max_bytes)
{
    uint64_t used = 0;
    o->n_shards = o->n ? 1 : 0;
    for (int64_t first = 0, end; first < o->n; first = end) {
        uint64_t size = 0;
        for (end = first; end < o->n && groups[end] == groups[first]; end++)
            size += o->items[end].size + strlen(o->items[end].name) * 6 + ENTRY_BYTES;
        if (used && (size > max_bytes || used > max_bytes - size)) {
            o->n_shards++;
            used = 0;
        }
        used += size;
        for (int64_t i = first; i < end; i++)
            o->items[i].shard = o->n_shards - 1;
    }
}

/* Tensors in the order of their places. The caller frees it. */
static glm4v_output **sorted(const glm4v_outputs *o)
{
    glm4v_output **order = glm4v_alloc(o->n, sizeof(glm4v_output *));
    if (order) {
        for (int64_t i = 0; i < o->n; i++)
            order[i] = &o->items[i];
        qsort(order, o->n, sizeof *order, by_place);
    }
    return order;
}

/* JSON of one file's tensors; their offsets count from the start of the data. */
static void format_header(glm4v_text_out *json, glm4v_output *const *order, int64_t n,
                          uint64_t data_start)
{
    glm4v_text_format(json, "{" METADATA);
    for (int64_t i = 0; i < n; i++) {
        const glm4v_output *t = order[i];
        uint64_t begin = t->offset - data_start;
        glm4v_text_add(json, ",", 1);
        glm4v_text_string(json, t->name);
        glm4v_text_format(json, ":{\"dtype\":\"%s\",\"shape\":[", glm4v_dtype_name(t->dtype));
        for (int d = 0; d < t->rank; d++)
            glm4v_text_format(json, "%s%" PRId64, d ? "," : "", t->shape[d]);
        glm4v_text_format(json, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin,
                          begin + t->size);
    }
    glm4v_text_format(json, "}");
    while (!json->failed && (json->size + sizeof(uint64_t)) % ALIGNMENT)
        glm4v_text_add(json, " ", 1);
}

int glm4v_outputs_lay_out(glm4v_outputs *o, const int64_t *groups, uint64_t max_bytes,
                          glm4v_error *err)
{
    choose_shards(o, groups, max_bytes);
    if (o->n_shards > GLM4V_MAX_SHARDS)
        return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                          "files of %" PRIu64 " bytes would be %" PRId64
                          ", at most %d are accepted",
                          max_bytes, o->n_shards, GLM4V_MAX_SHARDS);
    glm4v_output **order = sorted(o);
    if (!order)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to order %" PRId64 " tensors", o->n);
    o->bytes = 0;
    int rc = 0;
    for (int64_t first = 0, end; !rc && first < o->n; first = end) {
        uint64_t at = 0;
        for (end = first; end < o->n && order[end]->shard == order[first]->shard; end++) {
            order[end]->offset = at;
            at += order[end]->size;
        }
        glm4v_text_out json = { 0 };
        format_header(&json, order + first, end - first, 0);
        const uint64_t data_start = sizeof(uint64_t) + json.size;
        for (int64_t i = first; i < end; i++)
            order[i]->offset += data_start;
        o->bytes += data_start + at;
        if (json.failed)
            rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the header of a weight file");
        glm4v_free(json.data);
    }
    glm4v_free(order);
    return rc;
}

/* ---- texts ---- */

void glm4v_outputs_file(const glm4v_outputs *o, int64_t shard, char name[64])
{
    if (o->n_shards == 1)
        snprintf(name, 64, "model.safetensors");
    else
        snprintf(name, 64, "model-%05" PRId64 "-of-%05" PRId64 ".safetensors", shard + 1,
                 o->n_shards);
}

int glm4v_outputs_header(const glm4v_outputs *o, int64_t shard, glm4v_text_out *header,
                         glm4v_error *err)
{
    glm4v_output **order = sorted(o);
    uint64_t data_start = UINT64_MAX, length = 0;
    int64_t first = 0, end;
    if (!order)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to order %" PRId64 " tensors", o->n);
    while (first < o->n && order[first]->shard != shard)
        first++;
    for (end = first; end < o->n && order[end]->shard == shard; end++)
        data_start = order[end]->offset < data_start ? order[end]->offset : data_start;
    glm4v_text_out json = { 0 };
    format_header(&json, order + first, end - first, data_start);
    length = json.size;
    glm4v_text_add(header, (const char *)&length, sizeof length);
    if (!json.failed)
        glm4v_text_add(header, json.data, json.size);
    header->failed = header->failed || json.failed;
    glm4v_free(json.data);
    glm4v_free(order);
    return header->failed
               ? glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the header of a weight file")
               : 0;
}

int glm4v_outputs_index(const glm4v_outputs *o, glm4v_text_out *index, glm4v_error *err)
{
    uint64_t total = 0;
    for (int64_t i = 0; i < o->n; i++)
        total += o->items[i].size;
    glm4v_text_format(
        index, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {",
        total);
    for (int64_t i = 0; i < o->n; i++) {
        char file[64];
        glm4v_outputs_file(o, o->items[i].shard, file);
        glm4v_text_format(index, "%s\n    ", i ? "," : "");
        glm4v_text_string(index, o->items[i].name);
        glm4v_text_format(index, ": \"%s\"", file);
    }
    glm4v_text_format(index, "\n  }\n}\n");
    return index->failed ? glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the index of weights")
                         : 0;
}
