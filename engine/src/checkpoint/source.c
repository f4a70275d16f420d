/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding the tensors that a matrix is made of. Every shape and dtype is checked against
 * config.json and against each other before anything is allocated; the tensors of a module must
 * agree with quantization_config. */
#include "checkpoint/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "gemm.h"

#define NAME_SIZE 160
#define WEIGHT ".weight"

/* One search. */
typedef struct {
    glm4v_source *out;
    const glm4v_checkpoint *checkpoint;
    const glm4v_quantization_config *config; /* or NULL */
    const glm4v_scheme *scheme;              /* of the module by config, or NULL */
    char module[NAME_SIZE];                  /* MODULE of MODULE.weight; "": none */
    const int64_t *shape;
    int rank;
    glm4v_error *err;
} search;

/* ---- one tensor ---- */

static void shape_text(char *text, size_t size, const int64_t *shape, int rank)
{
    size_t n = snprintf(text, size, "[");
    for (int i = 0; i < rank && n < size; i++)
        n += snprintf(text + n, size - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (n < size)
        snprintf(text + n, size - n, "]");
}

static const char *file_of(const search *s, const glm4v_tensor *t)
{
    return glm4v_checkpoint_file(s->checkpoint, t->shard);
}

static int check_shape(const search *s, const glm4v_tensor *t, const int64_t *shape, int rank,
                       const char *from)
{
    char found[128], expected[128];
    if (t->rank == rank && !memcmp(t->shape, shape, rank * sizeof *shape))
        return 0;
    shape_text(found, sizeof found, t->shape, t->rank);
    shape_text(expected, sizeof expected, shape, rank);
    return glm4v_fail(s->err, GLM4V_ERR_FORMAT, "%.80s: \"%s\" is %s, expected %s from %s",
                      file_of(s, t), t->name, found, expected, from);
}

static int check_dtype(const search *s, const glm4v_tensor *t, glm4v_dtype dtype)
{
    if (t->dtype == dtype)
        return 0;
    return glm4v_fail(s->err, GLM4V_ERR_FORMAT, "%.80s: \"%s\" is %s, expected %s", file_of(s, t),
                      t->name, glm4v_dtype_name(t->dtype), glm4v_dtype_name(dtype));
}

static bool is_plain(glm4v_dtype dtype)
{
    return dtype == GLM4V_DTYPE_BF16 || dtype == GLM4V_DTYPE_F32 || dtype == GLM4V_DTYPE_F16;
}

/* MODULE.suffix, or NULL. */
static const glm4v_tensor *part(const search *s, const char *suffix)
{
    char name[NAME_SIZE + 32];
    snprintf(name, sizeof name, "%s.%s", s->module, suffix);
    return glm4v_checkpoint_find(s->checkpoint, name);
}

/* The same, which must be there beside the codes. */
static int need(const search *s, const char *suffix, const glm4v_tensor **t)
{
    *t = part(s, suffix);
    if (*t)
        return 0;
    return glm4v_fail(s->err, GLM4V_ERR_FORMAT,
                      "\"%s.%s\" is missing; \"%s\" cannot be read without it", s->module, suffix,
                      s->out->tensor->name);
}

/* ---- what a quantized module has ---- */

/* The scheme determines how many inputs and outputs share a scale. */
static void set_groups(const search *s)
{
    glm4v_source *o = s->out;
    o->floating = s->scheme->floating;
    o->symmetric = s->scheme->symmetric;
    o->bits = s->scheme->bits;
    o->group = s->scheme->group && s->scheme->group < o->n_in ? s->scheme->group : o->n_in;
    o->groups = (o->n_in - 1) / o->group + 1;
    o->block = s->scheme->block && s->scheme->block < o->rows ? s->scheme->block : o->rows;
    o->middle = o->kind == GLM4V_SOURCE_BYTES ? 0 : 1 << (o->bits - 1);
}

/* AWQ and compressed-tensors divide every row into whole groups. Only GPTQ, and blocks of inputs
 * and outputs, may leave the last one short. */
static int check_whole_groups(const search *s)
{
    const glm4v_source *o = s->out;
    if (o->n_in % o->group == 0 || o->block != 1)
        return 0;
    return glm4v_fail(s->err, GLM4V_ERR_FORMAT,
                      "%.80s: \"%s\" has %" PRId64 " inputs, which is not a multiple of the "
                      "\"group_size\" %" PRId64 " in %s",
                      file_of(s, o->tensor), o->tensor->name, o->n_in, o->group, s->config->file);
}

/* Scales [blocks, groups]; the dimensions of 1 may be left out. */
static int take_row_scales(const search *s, const char *suffix)
{
    glm4v_source *o = s->out;
    const int64_t blocks = (o->rows - 1) / o->block + 1, shape[2] = { blocks, o->groups };
    int rc = need(s, suffix, &o->scale);
    if (rc)
        return rc;
    const glm4v_tensor *t = o->scale;
    const bool flat = o->groups == 1 &&
                      ((t->rank == 1 && t->shape[0] == blocks) || (t->rank == 0 && blocks == 1));
    if (!flat && (rc = check_shape(s, t, shape, 2, s->config->file)))
        return rc;
    return is_plain(t->dtype) ? 0 : check_dtype(s, t, GLM4V_DTYPE_F32);
}

/* AWQ's and GPTQ's scales and zero points, [groups, n] and [groups, n / 8]. */
static int take_column_scales(const search *s)
{
    glm4v_source *o = s->out;
    const int64_t scales[2] = { o->groups, o->rows };
    const int64_t zeros[2] = { o->groups, o->rows / (32 / o->bits) };
    int rc;
    if ((rc = need(s, "scales", &o->scale)) || (rc = need(s, "qzeros", &o->zero)) ||
        (rc = check_shape(s, o->scale, scales, 2, s->config->file)) ||
        (rc = check_shape(s, o->zero, zeros, 2, s->config->file)) ||
        (rc = check_dtype(s, o->zero, GLM4V_DTYPE_I32)))
        return rc;
    return is_plain(o->scale->dtype) ? 0 : check_dtype(s, o->scale, GLM4V_DTYPE_F16);
}

/* n must fill whole words: what else would the last one hold? */
static int check_whole_words(const search *s, const char *what, int64_t n)
{
    const int64_t per_word = 32 / s->out->bits;
    if (n % per_word == 0)
        return 0;
    return glm4v_fail(s->err, GLM4V_ERR_FORMAT,
                      "%.80s: \"%s\" has %" PRId64 " %s, which is not a multiple of the %" PRId64
                      " codes of a word",
                      file_of(s, s->out->tensor), s->out->tensor->name, n, what, per_word);
}

/* ---- the group of each input ---- */

/* What was read into group_of. No entry at all (-1) and the groups one after the other need no
 * order. */
static int check_groups(const search *s, const glm4v_tensor *t)
{
    glm4v_source *o = s->out;
    int64_t *count = glm4v_alloc(o->groups, sizeof *count);
    bool sorted = true, none = true;
    if (!count)
        return glm4v_fail(s->err, GLM4V_ERR_NOMEM, "no memory for the order of \"%s\"", t->name);
    int rc = 0;
    for (int64_t k = 0; !rc && k < o->n_in; k++) {
        const int64_t g = o->group_of[k];
        none = none && g == -1;
        sorted = sorted && g == k / o->group;
        if (none)
            continue;
        if (g < 0 || g >= o->groups)
            rc = glm4v_fail(s->err, GLM4V_ERR_FORMAT,
                            "%.80s: \"%s\": input %" PRId64 " is in group %" PRId64
                            ", but there are groups 0 to %" PRId64,
                            file_of(s, t), t->name, k, g, o->groups - 1);
        else
            count[g]++;
    }
    o->even = true;
    for (int64_t g = 0; g < o->groups; g++)
        o->even = o->even && count[g] == o->group;
    glm4v_free(count);
    if (none || sorted)
        glm4v_source_clear(o);
    return rc;
}

static int take_order(const search *s, const char *suffix)
{
    glm4v_source *o = s->out;
    const glm4v_tensor *t = part(s, suffix);
    const int64_t shape[1] = { o->n_in };
    const size_t bytes = o->n_in * sizeof *o->group_of;
    int rc;
    if (!t && s->scheme->ordered)
        return need(s, suffix, &t);
    if (!t)
        return 0;
    if ((rc = check_shape(s, t, shape, 1, "config.json")) ||
        (rc = check_dtype(s, t, GLM4V_DTYPE_I32)))
        return rc;
    o->group_of = glm4v_alloc(o->n_in, sizeof *o->group_of);
    if (!o->group_of)
        return glm4v_fail(s->err, GLM4V_ERR_NOMEM, "no memory for the order of \"%s\"", t->name);
    rc = glm4v_checkpoint_read(s->checkpoint, t, 0, o->group_of, bytes, s->err);
    if (!rc)
        rc = check_groups(s, t);
    if (rc)
        glm4v_source_clear(o);
    return rc;
}

/* ---- the layouts ---- */

static int find_awq(const search *s)
{
    glm4v_source *o = s->out;
    const int64_t shape[2] = { o->n_in, o->rows / 8 };
    int rc;
    if ((rc = check_whole_words(s, "outputs", o->rows)) || (rc = check_whole_groups(s)) ||
        (rc = check_dtype(s, o->tensor, GLM4V_DTYPE_I32)) ||
        (rc = check_shape(s, o->tensor, shape, 2, "config.json (awq)")))
        return rc;
    return take_column_scales(s);
}

static int find_gptq(const search *s)
{
    glm4v_source *o = s->out;
    const int64_t shape[2] = { o->n_in / (32 / o->bits), o->rows };
    int rc;
    o->zero_add = s->config->zeros_less_one;
    if ((rc = check_whole_words(s, "inputs", o->n_in)) ||
        (rc = check_whole_words(s, "outputs", o->rows)) ||
        (rc = check_dtype(s, o->tensor, GLM4V_DTYPE_I32)) ||
        (rc = check_shape(s, o->tensor, shape, 2, "config.json (gptq)")) ||
        (rc = take_column_scales(s)))
        return rc;
    return take_order(s, "g_idx");
}

/* The shape before packing is a tensor of its own. */
static int check_packed_shape(const search *s)
{
    const glm4v_tensor *t = part(s, "weight_shape");
    const int64_t two[1] = { 2 };
    float found[2];
    int rc;
    if (!t)
        return 0;
    if ((rc = check_shape(s, t, two, 1, "its meaning")))
        return rc;
    if (t->dtype != GLM4V_DTYPE_I32 && (rc = check_dtype(s, t, GLM4V_DTYPE_I64)))
        return rc;
    if ((rc = glm4v_checkpoint_read_f32(s->checkpoint, t, 0, found, 2, s->err)))
        return rc;
    if (found[0] == (float)s->out->rows && found[1] == (float)s->out->n_in)
        return 0;
    return glm4v_fail(
        s->err, GLM4V_ERR_FORMAT,
        "%.80s: \"%s\" says [%.0f, %.0f], expected [%" PRId64 ", %" PRId64 "] from config.json",
        file_of(s, t), t->name, (double)found[0], (double)found[1], s->out->rows, s->out->n_in);
}

/* Zero points as bytes of the scales' shape, or packed along the outputs. */
static int take_row_zeros(const search *s)
{
    glm4v_source *o = s->out;
    const int64_t per_word = 32 / o->bits;
    const int64_t bytes[2] = { (o->rows - 1) / o->block + 1, o->groups };
    const int64_t words[2] = { (o->rows - 1) / per_word + 1, o->groups };
    if (o->symmetric)
        return 0;
    int rc = need(s, "weight_zero_point", &o->zero);
    if (rc)
        return rc;
    if (o->zero->dtype == GLM4V_DTYPE_I8)
        return check_shape(s, o->zero, bytes, 2, s->config->file);
    if (o->kind != GLM4V_SOURCE_PACKED || o->block != 1)
        return check_dtype(s, o->zero, GLM4V_DTYPE_I8);
    rc = check_dtype(s, o->zero, GLM4V_DTYPE_I32);
    return rc ? rc : check_shape(s, o->zero, words, 2, s->config->file);
}

static int find_packed(const search *s)
{
    glm4v_source *o = s->out;
    const int64_t shape[2] = { o->rows, (o->n_in - 1) / (32 / o->bits) + 1 };
    int rc;
    if ((rc = check_whole_groups(s)) || (rc = check_dtype(s, o->tensor, GLM4V_DTYPE_I32)) ||
        (rc = check_shape(s, o->tensor, shape, 2, "config.json (pack-quantized)")) ||
        (rc = check_packed_shape(s)) || (rc = take_row_scales(s, "weight_scale")) ||
        (rc = take_row_zeros(s)))
        return rc;
    return take_order(s, "weight_g_idx");
}

/* I8 and F8_E4M3, one code a byte, of compressed-tensors and of fp8. */
static int find_bytes(const search *s)
{
    glm4v_source *o = s->out;
    const bool inverse = part(s, "weight_scale_inv");
    int rc;
    if ((rc = check_whole_groups(s)) ||
        (rc = check_shape(s, o->tensor, s->shape, s->rank, "config.json")) ||
        (rc = check_dtype(s, o->tensor, o->floating ? GLM4V_DTYPE_F8_E4M3 : GLM4V_DTYPE_I8)) ||
        (rc = take_row_scales(s, inverse ? "weight_scale_inv" : "weight_scale")) ||
        (rc = take_row_zeros(s)))
        return rc;
    return take_order(s, "weight_g_idx");
}

/* ---- the module as a whole ---- */

/* The tensors belong to one of the methods, which must be what config names. */
static int contradiction(const search *s, const char *expected)
{
    const glm4v_tensor *t = s->out->tensor;
    if (!s->config)
        return glm4v_fail(s->err, GLM4V_ERR_FORMAT,
                          "%.80s: \"%s\" is quantized (%s), but config.json has no "
                          "\"quantization_config\" that says how",
                          file_of(s, t), t->name, expected);
    return glm4v_fail(s->err, GLM4V_ERR_FORMAT,
                      "%.80s: \"%s\" is quantized (%s), but %s (%s) says that the module is %s",
                      file_of(s, t), t->name, expected, s->config->file, s->config->label,
                      s->scheme ? "quantized otherwise" : "not");
}

static bool scheme_is(const search *s, bool floating, bool packed)
{
    return s->scheme && s->scheme->floating == floating && s->scheme->packed == packed;
}

static int find_module(search *s, const glm4v_tensor *t, glm4v_source_kind kind)
{
    const glm4v_method method = s->config ? s->config->method : GLM4V_METHOD_COMPRESSED;
    const bool e4m3 = t->dtype == GLM4V_DTYPE_F8_E4M3;
    *s->out =
        (glm4v_source) { .kind = kind, .rows = s->shape[0], .n_in = s->shape[1], .tensor = t };
    if (kind == GLM4V_SOURCE_GPTQ) {
        if (!s->scheme || (method != GLM4V_METHOD_AWQ && method != GLM4V_METHOD_GPTQ))
            return contradiction(s, "awq or gptq");
        s->out->kind = method == GLM4V_METHOD_AWQ ? GLM4V_SOURCE_AWQ : GLM4V_SOURCE_GPTQ;
        set_groups(s);
        return method == GLM4V_METHOD_AWQ ? find_awq(s) : find_gptq(s);
    }
    if (kind == GLM4V_SOURCE_PACKED) {
        if (method != GLM4V_METHOD_COMPRESSED || !scheme_is(s, false, true))
            return contradiction(s, "compressed-tensors pack-quantized");
        set_groups(s);
        return find_packed(s);
    }
    if (method == GLM4V_METHOD_AWQ || method == GLM4V_METHOD_GPTQ || !scheme_is(s, e4m3, false))
        return contradiction(s, e4m3 ? "fp8" : "int8");
    set_groups(s);
    return find_bytes(s);
}

static int find_plain(search *s, const glm4v_tensor *t)
{
    int64_t n_in = 1;
    int rc = check_shape(s, t, s->shape, s->rank, "config.json");
    if (rc)
        return rc;
    if (!is_plain(t->dtype))
        return glm4v_fail(s->err, GLM4V_ERR_UNSUPPORTED,
                          "%.80s: \"%s\" is %s, expected BF16, F16 or F32; quantized matrices of "
                          "compressed-tensors, awq, gptq and fp8 are supported",
                          file_of(s, t), t->name, glm4v_dtype_name(t->dtype));
    if (s->scheme && s->config->method == GLM4V_METHOD_COMPRESSED)
        return glm4v_fail(s->err, GLM4V_ERR_FORMAT,
                          "%.80s: \"%s\" is %s, but %s says that the module is quantized and does "
                          "not \"ignore\" it",
                          file_of(s, t), t->name, glm4v_dtype_name(t->dtype), s->config->file);
    for (int i = 1; i < s->rank; i++)
        n_in *= s->shape[i];
    *s->out = (glm4v_source) {
        .kind = GLM4V_SOURCE_PLAIN, .rows = s->shape[0], .n_in = n_in, .tensor = t
    };
    return 0;
}

/* MODULE of "MODULE.weight" into module; false: another kind of name. */
static bool module_of(char module[NAME_SIZE], const char *name)
{
    const size_t n = strlen(name), suffix = strlen(WEIGHT);
    if (n <= suffix || n >= NAME_SIZE || strcmp(name + n - suffix, WEIGHT))
        return false;
    memcpy(module, name, n - suffix);
    module[n - suffix] = 0;
    return true;
}

/* As PyTorch calls what the module is. */
static const char *class_of(const char *module)
{
    const char *dot = strrchr(module, '.');
    return strstr(dot ? dot : module, "embed") ? "Embedding" : "Linear";
}

bool glm4v_source_exists(const glm4v_checkpoint *checkpoint, const char *name)
{
    search s = { .checkpoint = checkpoint };
    if (glm4v_checkpoint_find(checkpoint, name))
        return true;
    return module_of(s.module, name) && (part(&s, "qweight") || part(&s, "weight_packed"));
}

int glm4v_source_find(glm4v_source *source, const glm4v_checkpoint *checkpoint,
                      const glm4v_quantization_config *config, const glm4v_tensor_need *need,
                      glm4v_error *err)
{
    search s = { .out = source,
                 .checkpoint = checkpoint,
                 .config = config,
                 .shape = need->shape,
                 .rank = need->rank,
                 .err = err };
    const glm4v_tensor *t = glm4v_checkpoint_find(checkpoint, need->name), *codes;
    *source = (glm4v_source) { 0 };
    if (need->rank == 2 && module_of(s.module, need->name)) {
        if (config)
            s.scheme = glm4v_quantization_config_find(config, s.module, class_of(s.module));
        if (!t && (codes = part(&s, "qweight")))
            return find_module(&s, codes, GLM4V_SOURCE_GPTQ);
        if (!t && (codes = part(&s, "weight_packed")))
            return find_module(&s, codes, GLM4V_SOURCE_PACKED);
        if (t && (t->dtype == GLM4V_DTYPE_I8 || t->dtype == GLM4V_DTYPE_F8_E4M3))
            return find_module(&s, t, GLM4V_SOURCE_BYTES);
    }
    if (t)
        return find_plain(&s, t);
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "\"%s\" is missing; config.json asks for it, but it is in none of "
                      "the %" PRId64 " weight files",
                      need->name, glm4v_checkpoint_shards(checkpoint));
}

void glm4v_source_clear(glm4v_source *source)
{
    glm4v_free(source->group_of);
    source->group_of = NULL;
}

/* ---- what it is ---- */

uint64_t glm4v_source_bytes(const glm4v_source *source)
{
    return source->tensor->size + (source->scale ? source->scale->size : 0) +
           (source->zero ? source->zero->size : 0);
}

glm4v_stored glm4v_source_stored(const glm4v_source *s)
{
    if (s->kind != GLM4V_SOURCE_PLAIN) {
        if (s->floating)
            return GLM4V_STORED_FP8;
        if (s->bits != 4)
            return GLM4V_STORED_INT8;
        return s->group <= GLM4V_SMALL_GROUP && s->groups > 1 ? GLM4V_STORED_INT4_32
                                                              : GLM4V_STORED_INT4;
    }
    if (s->tensor->dtype == GLM4V_DTYPE_F32)
        return GLM4V_STORED_F32;
    return s->tensor->dtype == GLM4V_DTYPE_F16 ? GLM4V_STORED_F16 : GLM4V_STORED_BF16;
}

const char *glm4v_stored_name(glm4v_stored stored)
{
    static const char *const names[] = {
        [GLM4V_STORED_F32] = "fp32",        [GLM4V_STORED_F16] = "fp16",
        [GLM4V_STORED_BF16] = "bf16",       [GLM4V_STORED_INT8] = "int8",
        [GLM4V_STORED_INT4] = "int4",       [GLM4V_STORED_FP8] = "fp8",
        [GLM4V_STORED_INT4_32] = "int4-32",
    };
    _Static_assert(sizeof names / sizeof *names == GLM4V_N_STORED, "a stored form has no name");
    return names[stored];
}

static bool has_zeros(const glm4v_source *s)
{
    return s->zero && !s->symmetric;
}

/* Whether matrices of the form represent every number of the source exactly. Of forms with the same
 * codes the one by which they are stored. */
static bool holds(const glm4v_form_traits *form, const glm4v_source *s)
{
    const bool one = s->groups == 1, bytes = s->kind == GLM4V_SOURCE_BYTES;
    if (!form->codes || glm4v_form_of(form->stored) != form || form->floating != s->floating)
        return false;
    if (s->group_of && (!s->even || !form->ordered))
        return false;
    /* one scale an output of several groups: in groups of 128 or, where those do not fit, as int8,
     * both of which round activations alike */
    if (form->group)
        return s->bits == form->bits && !bytes && s->n_in % form->group == 0 &&
               s->group % form->group == 0 && (form->zeros || !has_zeros(s)) &&
               (!one || form->group == GLM4V_GROUP || form->group == s->n_in);
    if (form->floating)
        return one || (form->blocks && s->group % GLM4V_GROUP == 0);
    /* signed codes: of unsigned ones with fewer bits the zero point is subtracted */
    return one && (!has_zeros(s) || (!bytes && s->bits < form->bits));
}

/* Why no form holds the source. */
static void explain(const glm4v_source *s, char *why, size_t size)
{
    if (s->group_of && !s->even)
        snprintf(why, size, "an order of inputs that leaves groups of unequal size");
    else if (s->groups == 1 && has_zeros(s))
        snprintf(why, size, "%" PRId64 " bits with zero points", s->bits);
    else
        snprintf(why, size, "%" PRId64 " bits in groups of %" PRId64, s->bits, s->group);
}

static bool same_order(const glm4v_source *a, const glm4v_source *b)
{
    if (!a->group_of || !b->group_of)
        return a->group_of == b->group_of;
    return !memcmp(a->group_of, b->group_of, a->n_in * sizeof *a->group_of);
}

/* All of them in one order, and each held by the form. */
static bool holds_all(const glm4v_form_traits *form, const glm4v_source *sources, int n)
{
    for (int i = 0; i < n; i++)
        if (!holds(form, &sources[i]) || !same_order(&sources[0], &sources[i]))
            return false;
    return true;
}

static bool is_held(const glm4v_source *s)
{
    for (int form = 0; form < GLM4V_N_FORMS; form++)
        if (holds(glm4v_form_of((glm4v_form)form), s))
            return true;
    return false;
}

/* The kind of that form for n sources which it holds. */
static glm4v_weight_kind kind_of(glm4v_form form, const glm4v_source *sources, int n)
{
    glm4v_weight_kind kind = { .form = form,
                               .n_in = sources[0].n_in,
                               .ordered = sources[0].group_of != NULL };
    const glm4v_form_traits *traits = glm4v_form_of(form);
    for (int i = 0; i < n; i++) {
        kind.zeros |= traits->zeros && has_zeros(&sources[i]);
        kind.blocks |= traits->blocks && sources[i].groups > 1;
        kind.n_out += sources[i].rows;
    }
    return kind;
}

/* Bits of a row, codes and scales. */
static int64_t row_bits(const glm4v_weight_kind *kind)
{
    return glm4v_form_of(kind->form)->bits * kind->n_in +
           32 * glm4v_form_groups(kind->form, kind->blocks, kind->n_in);
}

bool glm4v_sources_kind(glm4v_weight_kind *kind, const glm4v_source *sources, int n, char *why,
                        size_t size)
{
    bool found = false;
    *kind = (glm4v_weight_kind) { 0 };
    for (int i = 0; i < n; i++) {
        if (sources[i].kind == GLM4V_SOURCE_PLAIN) {
            snprintf(why, size, "rows that are quantized beside rows that are not");
            return false;
        }
        if (!is_held(&sources[i])) {
            explain(&sources[i], why, size);
            return false;
        }
    }
    for (int form = 0; n && form < GLM4V_N_FORMS; form++) {
        if (!holds_all(glm4v_form_of((glm4v_form)form), sources, n))
            continue;
        const glm4v_weight_kind other = kind_of((glm4v_form)form, sources, n);
        if (!found || row_bits(&other) < row_bits(kind))
            *kind = other;
        found = true;
    }
    if (n && !found)
        snprintf(why, size, "rows quantized in two ways");
    return found;
}

void glm4v_source_order(const glm4v_source *source, int32_t *order)
{
    int64_t at = 0;
    for (int64_t g = 0; g < source->groups; g++)
        for (int32_t k = 0; k < source->n_in; k++)
            if (source->group_of[k] == g)
                order[at++] = k;
}
