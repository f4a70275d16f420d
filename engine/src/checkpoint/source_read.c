/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading quantized rows. What lies by columns in the file (AWQ, GPTQ) is read in strips of inputs:
 * of each strip the part that belongs to the wanted rows, so that memory is bounded by the
 * requested rows, not by the matrix. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "checkpoint/source.h"
#include "convert.h"
#include "gemm.h"

#define LARGEST_SCALE 0x1p118f /* times the largest code, 448, is finite */
#define STRIP 128              /* inputs read at a time where a row is a column of the file */

typedef struct {
    const glm4v_source *s;
    const glm4v_checkpoint *checkpoint;
    int64_t row, n;
    const glm4v_source_codes *to;
    glm4v_error *err;
} job;

static int64_t per_word(const glm4v_source *s)
{
    return 32 / s->bits;
}

/* Words that hold n codes of which the first is number `first` of a row of codes. */
static int64_t words_of(const glm4v_source *s, int64_t first, int64_t n)
{
    return (first + n - 1) / per_word(s) - first / per_word(s) + 1;
}

static int read_words(const job *j, const glm4v_tensor *t, uint64_t first, uint32_t *words,
                      size_t n)
{
    return glm4v_checkpoint_read(j->checkpoint, t, first * sizeof *words, words, n * sizeof *words,
                                 j->err);
}

/* Columns [first, first + n) of rows [row, row + rows) of a matrix of words, `width` a row. */
typedef struct {
    const glm4v_tensor *tensor;
    int64_t width, row, rows, first, n;
} word_block;

/* To the scratch of the room: at once where the rows follow each other. */
static int read_block(const job *j, const word_block *b)
{
    uint32_t *words = j->to->scratch;
    int rc = 0;
    if (b->n == b->width)
        return read_words(j, b->tensor, b->row * b->width, words, b->rows * b->width);
    for (int64_t r = 0; !rc && r < b->rows; r++)
        rc = read_words(j, b->tensor, (b->row + r) * b->width + b->first, words + r * b->n, b->n);
    return rc;
}

/* ---- codes ---- */

/* Code number i of a word, low bits first. */
static uint8_t code_of(uint32_t word, int64_t bits, int64_t i)
{
    return (uint8_t)(word >> (bits * i) & ((1u << bits) - 1));
}

static int read_bytes(const job *j)
{
    const glm4v_source *s = j->s;
    const int64_t width = s->n_in, n = j->n * width;
    int rc = glm4v_checkpoint_read(j->checkpoint, s->tensor, j->row * width, j->to->q, n, j->err);
    const bool nan = !rc && s->floating && glm4v_has_nan_e4m3(j->to->q, n);
    return nan ? glm4v_fail(j->err, GLM4V_ERR_FORMAT, "\"%s\" contains NaN; the file is damaged",
                            s->tensor->name)
               : rc;
}

static int read_packed(const job *j)
{
    const glm4v_source *s = j->s;
    const int64_t per = per_word(s), width = words_of(s, 0, s->n_in);
    const uint32_t *words = j->to->scratch;
    int rc = read_block(j, &(word_block) { s->tensor, width, j->row, j->n, 0, width });
    if (rc || !j->to->q)
        return rc;
    for (int64_t r = 0; r < j->n; r++, words += width) {
        uint8_t *q = j->to->q + r * s->n_in;
        int64_t k = 0;
        for (int64_t w = 0; w < s->n_in / per; w++)
            for (int64_t i = 0; i < per; i++)
                q[k++] = code_of(words[w], s->bits, i);
        for (int64_t i = 0; k < s->n_in; i++)
            q[k++] = code_of(words[width - 1], s->bits, i);
    }
    return 0;
}

static int read_gptq(const job *j)
{
    const glm4v_source *s = j->s;
    const int64_t per = per_word(s), height = s->n_in / per, step = STRIP / per;
    const uint32_t *words = j->to->scratch;
    for (int64_t first = 0; first < height; first += step) {
        const int64_t some = height - first < step ? height - first : step;
        int rc = read_block(j, &(word_block) { s->tensor, s->rows, first, some, j->row, j->n });
        if (rc)
            return rc;
        for (int64_t r = 0; r < j->n; r++) {
            uint8_t *q = j->to->q + r * s->n_in + (first * per);
            for (int64_t w = 0; w < some; w++)
                for (int64_t i = 0; i < per; i++)
                    *q++ = code_of(words[w * j->n + r], s->bits, i);
        }
    }
    return 0;
}

/* Where output number r lies among an AWQ word's eight codes. */
static int64_t awq_place(int64_t r)
{
    static const int32_t place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };
    return place[r % 8];
}

static int read_awq(const job *j)
{
    const glm4v_source *s = j->s;
    const uint32_t *words = j->to->scratch;
    const int64_t first = j->row / 8, width = words_of(s, j->row, j->n);
    for (int64_t at = 0; at < s->n_in; at += STRIP) {
        const int64_t some = s->n_in - at < STRIP ? s->n_in - at : STRIP;
        int rc = read_block(j, &(word_block) { s->tensor, s->rows / 8, at, some, first, width });
        if (rc)
            return rc;
        for (int64_t r = 0; r < j->n; r++) {
            uint8_t *q = j->to->q + r * s->n_in + at;
            const uint32_t *column = words + ((j->row + r) / 8 - first);
            const int64_t place = awq_place(j->row + r);
            for (int64_t k = 0; k < some; k++)
                q[k] = code_of(column[k * width], 4, place);
        }
    }
    return 0;
}

/* ---- scales ---- */

/* The scale or zero point of row r and group g. */
static size_t place(const job *j, int64_t r, int64_t g)
{
    return r * j->to->groups + g;
}

/* [rows / block][groups] in the file, to the front of the room; then each output gets the row of
 * its block, from the last on. */
static int read_row_scales(const job *j)
{
    const glm4v_source *s = j->s;
    const int64_t first = j->row / s->block, last = (j->row + j->n - 1) / s->block;
    const int64_t groups = s->groups;
    float *scale = j->to->scale;
    int rc = glm4v_checkpoint_read_f32(j->checkpoint, s->scale, first * groups, scale,
                                       (last - first + 1) * groups, j->err);
    for (int64_t r = j->n - 1; !rc && r >= 0; r--)
        memmove(scale + place(j, r, 0), scale + ((j->row + r) / s->block - first) * groups,
                groups * sizeof *scale);
    return rc;
}

/* [groups][rows] in the file. */
static int read_column_scales(const job *j)
{
    const glm4v_source *s = j->s;
    const float *column = j->to->scratch;
    int rc = 0;
    for (int64_t g = 0; !rc && g < s->groups; g++) {
        rc = glm4v_checkpoint_read_f32(j->checkpoint, s->scale, g * s->rows + j->row,
                                       j->to->scratch, j->n, j->err);
        for (int64_t r = 0; !rc && r < j->n; r++)
            j->to->scale[place(j, r, g)] = column[r];
    }
    return rc;
}

static int check_scales(const job *j)
{
    for (int64_t r = 0; r < j->n; r++)
        for (int64_t g = 0; g < j->s->groups; g++) {
            const float scale = j->to->scale[place(j, r, g)];
            if (!(fabsf(scale) <= LARGEST_SCALE))
                return glm4v_fail(j->err, GLM4V_ERR_FORMAT,
                                  "\"%s\": a scale of output %" PRId64
                                  " is %g; the file is damaged",
                                  j->s->scale->name, j->row + r, (double)scale);
        }
    return 0;
}

/* ---- zero points ---- */

static void set_zero(const job *j, int64_t r, int64_t g, uint32_t stored)
{
    const uint32_t mask = (1u << j->s->bits) - 1;
    j->to->zero[place(j, r, g)] = (uint8_t)((stored + j->s->zero_add) & mask);
}

/* GPTQ, AWQ: words [groups][rows / 8]. AutoGPTQ masks after adding one: what it stores for a zero
 * point of 0 is 15. */
static int read_column_zeros(const job *j)
{
    const glm4v_source *s = j->s;
    const int64_t per = per_word(s), first = j->row / per, width = words_of(s, j->row, j->n);
    const uint32_t *words = j->to->scratch;
    for (int64_t g = 0; g < s->groups; g++) {
        int rc = read_block(j, &(word_block) { s->zero, s->rows / per, g, 1, first, width });
        if (rc)
            return rc;
        for (int64_t r = 0; r < j->n; r++) {
            const int64_t at = j->row + r;
            const int64_t i = s->kind == GLM4V_SOURCE_AWQ ? awq_place(at) : at % per;
            set_zero(j, r, g, code_of(words[at / per - first], s->bits, i));
        }
    }
    return 0;
}

/* compressed-tensors: words [rows / 8][groups]. */
static int read_packed_zeros(const job *j)
{
    const glm4v_source *s = j->s;
    const int64_t per = per_word(s), first = j->row / per, height = words_of(s, j->row, j->n);
    const uint32_t *words = j->to->scratch;
    int rc = read_block(j, &(word_block) { s->zero, s->groups, first, height, 0, s->groups });
    for (int64_t r = 0; !rc && r < j->n; r++) {
        const int64_t at = j->row + r;
        for (int64_t g = 0; g < s->groups; g++)
            set_zero(j, r, g,
                     code_of(words[(at / per - first) * s->groups + g], s->bits, at % per));
    }
    return rc;
}

/* I8 [rows / block][groups]; beside packed codes they are moved by `middle` as those are. */
static int read_byte_zeros(const job *j)
{
    const glm4v_source *s = j->s;
    int rc = 0;
    for (int64_t r = 0; !rc && r < j->n; r++) {
        uint8_t *to = j->to->zero + place(j, r, 0);
        rc = glm4v_checkpoint_read(j->checkpoint, s->zero, ((j->row + r) / s->block) * s->groups,
                                   to, s->groups, j->err);
        for (int64_t g = 0; !rc && g < s->groups; g++)
            to[g] = (uint8_t)(to[g] + s->middle);
    }
    return rc;
}

static int check_symmetric(const job *j)
{
    for (int64_t r = 0; r < j->n; r++)
        for (int64_t g = 0; g < j->s->groups; g++) {
            const int zero = j->to->zero[place(j, r, g)];
            if (zero != j->s->middle)
                return glm4v_fail(j->err, GLM4V_ERR_FORMAT,
                                  "\"%s\": a zero point of output %" PRId64
                                  " is %d, but the configuration "
                                  "says that the checkpoint is symmetric (%" PRId64 ")",
                                  j->s->zero->name, j->row + r, zero, j->s->middle);
        }
    return 0;
}

static int read_zeros(const job *j)
{
    const glm4v_source *s = j->s;
    int rc;
    if (!s->zero)
        return 0;
    if (s->kind == GLM4V_SOURCE_GPTQ || s->kind == GLM4V_SOURCE_AWQ)
        rc = read_column_zeros(j);
    else if (s->zero->dtype == GLM4V_DTYPE_I32)
        rc = read_packed_zeros(j);
    else
        rc = read_byte_zeros(j);
    return !rc && s->symmetric ? check_symmetric(j) : rc;
}

/* ---- all of it ---- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t glm4v_source_scratch(const glm4v_source *s, int64_t n)
{
    if (s->kind == GLM4V_SOURCE_PLAIN)
        return 0;
    const int64_t rows = n, width = s->n_in, per = per_word(s);
    int64_t words = (rows / per + 2) * s->groups;
    if (s->kind == GLM4V_SOURCE_PACKED)
        words = larger(words, rows * (width / per + 1));
    else if (s->kind == GLM4V_SOURCE_GPTQ)
        words = larger(words, STRIP / per * rows);
    else if (s->kind == GLM4V_SOURCE_AWQ)
        words = larger(words, STRIP * (rows / per + 2));
    return larger(larger(words * sizeof(uint32_t), rows * sizeof(float)), width);
}

int glm4v_source_read_codes(const glm4v_source *source, const glm4v_checkpoint *checkpoint,
                            int64_t row, int64_t n, const glm4v_source_codes *to, glm4v_error *err)
{
    const job j = { source, checkpoint, row, n, to, err };
    const bool columns = source->kind == GLM4V_SOURCE_GPTQ || source->kind == GLM4V_SOURCE_AWQ;
    int rc = columns ? read_column_scales(&j) : read_row_scales(&j);
    if (!rc)
        rc = check_scales(&j);
    if (!rc)
        rc = read_zeros(&j);
    if (rc)
        return rc;
    switch (source->kind) {
    case GLM4V_SOURCE_PLAIN:
        break;
    case GLM4V_SOURCE_BYTES:
        return read_bytes(&j);
    case GLM4V_SOURCE_PACKED: /* last: the words may stay in scratch */
        return read_packed(&j);
    case GLM4V_SOURCE_GPTQ:
        return read_gptq(&j);
    case GLM4V_SOURCE_AWQ:
        return read_awq(&j);
    }
    return glm4v_fail(err, GLM4V_ERR_INVALID, "\"%s\" is not quantized", source->tensor->name);
}

/* ---- to f32 ---- */

/* The value of each code and each zero point before it is scaled. */
static void fill_values(float value[256], const glm4v_source *s)
{
    for (int i = 0; i < 256; i++)
        if (s->floating)
            value[i] = glm4v_e4m3_to_f32((uint8_t)i);
        else
            value[i] = s->kind == GLM4V_SOURCE_BYTES ? (float)(int8_t)i : (float)i;
}

/* What a group's zero point stands for. */
static float zero_value(const glm4v_source *s, const float value[256], uint8_t zero)
{
    if (s->floating)
        return 0;
    return value[s->zero && !s->symmetric ? zero : s->middle];
}

void glm4v_source_dequantize(const glm4v_source *s, const glm4v_source_codes *from, int64_t n,
                             float *rows)
{
    float value[256];
    fill_values(value, s);
    for (int64_t r = 0; r < n; r++, rows += s->n_in) {
        const uint8_t *q = from->q + r * s->n_in;
        const float *scale = from->scale + r * from->groups;
        const uint8_t *zero = from->zero + r * from->groups;
        for (int64_t g = 0, k = 0; !s->group_of && g < s->groups; g++) {
            const int64_t end = s->n_in - k < s->group ? s->n_in : k + s->group;
            const float z = zero_value(s, value, zero[g]);
            for (; k < end; k++)
                rows[k] = scale[g] * (value[q[k]] - z);
        }
        for (int64_t k = 0; s->group_of && k < s->n_in; k++) {
            const int64_t g = s->group_of[k];
            const float z = zero_value(s, value, zero[g]);
            rows[k] = scale[g] * (value[q[k]] - z);
        }
    }
}

/* ---- to the codes of a matrix in memory ---- */

int64_t glm4v_kind_groups(const glm4v_weight_kind *kind)
{
    return glm4v_form_groups(kind->form, kind->blocks, kind->n_in);
}

/* Each group of the matrix gets the scale and zero point of the source's group that it lies in:
 * from the last on, as rows have room for the larger number. */
static void spread_groups(const glm4v_source *s, const glm4v_source_codes *c, int64_t n,
                          int64_t group, bool zeros)
{
    for (int64_t r = 0; r < n; r++) {
        float *scale = c->scale + r * c->groups;
        uint8_t *zero = c->zero + r * c->groups;
        for (int64_t g = c->groups - 1; g >= 0; g--) {
            const int64_t from = s->groups == 1 ? 0 : g * group / s->group;
            scale[g] = scale[from];
            if (zeros)
                zero[g] = zero[from];
        }
    }
}

void glm4v_source_convert(const glm4v_source *s, const glm4v_source_codes *c, int64_t n,
                          const glm4v_weight_kind *kind, const int32_t *order)
{
    const int64_t width = s->n_in;
    const bool zeros = s->zero && !s->symmetric;
    uint8_t *row = c->scratch;
    /* codes of a byte each are signed */
    const bool subtract =
        glm4v_form_of(kind->form)->layout == GLM4V_LAYOUT_BYTES && s->kind != GLM4V_SOURCE_BYTES;
    for (int64_t r = 0; subtract && r < n; r++)
        for (int64_t k = 0; k < width; k++)
            c->q[r * width + k] = (uint8_t)(c->q[r * width + k] - (zeros ? c->zero[r] : s->middle));
    if (c->groups != s->groups)
        spread_groups(s, c, n, glm4v_form_group(kind->form, kind->blocks, kind->n_in), zeros);
    if (kind->zeros && !zeros)
        memset(c->zero, (int)s->middle, n * c->groups);
    for (int64_t r = 0; order && r < n; r++) {
        uint8_t *q = c->q + r * width;
        memcpy(row, q, width);
        for (int64_t k = 0; k < width; k++)
            q[k] = row[order[k]];
    }
}

/* ---- rows of any source ---- */

static int read_dequantized(const glm4v_source *s, const glm4v_checkpoint *checkpoint, int64_t row,
                            int64_t n, float *rows, glm4v_error *err)
{
    const int64_t count = n, groups = count * s->groups;
    const glm4v_source_codes codes = {
        .q = glm4v_alloc(count, s->n_in),
        .scale = glm4v_alloc(groups, sizeof *codes.scale),
        .zero = glm4v_alloc(groups, 1),
        .groups = s->groups,
        .scratch = glm4v_alloc(glm4v_source_scratch(s, n), 1),
    };
    int rc = codes.q && codes.scale && codes.zero && codes.scratch
                 ? glm4v_source_read_codes(s, checkpoint, row, n, &codes, err)
                 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for %" PRId64 " rows of \"%s\"", n,
                              s->tensor->name);
    if (!rc)
        glm4v_source_dequantize(s, &codes, n, rows);
    glm4v_free(codes.scratch);
    glm4v_free(codes.zero);
    glm4v_free(codes.scale);
    glm4v_free(codes.q);
    return rc;
}

int glm4v_source_read_f32(const glm4v_source *source, const glm4v_checkpoint *checkpoint,
                          int64_t row, int64_t n, float *rows, glm4v_error *err)
{
    const int64_t width = source->n_in;
    if (source->kind != GLM4V_SOURCE_PLAIN)
        return read_dequantized(source, checkpoint, row, n, rows, err);
    return glm4v_checkpoint_read_f32(checkpoint, source->tensor, row * width, rows, n * width, err);
}
