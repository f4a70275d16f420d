/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The converter: a checkpoint in, a quantized one out. The plan of the model's weights has the form
 * of each matrix, as when it is quantized while it is loaded; every other tensor is copied. Pieces
 * of rows are read, quantized and written by all threads of a pool, so that memory is one piece per
 * thread for any size of the checkpoint. Bytes do not depend on threads. */
#define _GNU_SOURCE
#include "quantize/quantize.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu_level.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/struct_size.h"
#include "checkpoint/safetensors_write.h"
#include "convert.h"
#include "gemm.h"
#include "model/examine.h"
#include "quantize/calibrate.h"

#define PIECE_FLOATS ((int64_t)1 << 18) /* as load.c reads them */
#define PIECE_BYTES ((uint64_t)1 << 20) /* of what is copied */
#define SHARD_BYTES 5000000000u
#define PROGRESS_NS 50000000 /* at most 20 calls a second */

typedef struct {
    glm4v_quantize_options options;
    const char *src;
    glm4v_quantization quantization;
    glm4v_log log;
    glm4v_model *model;           /* examined, not loaded */
    glm4v_checkpoint *checkpoint; /* src */
    glm4v_conversion *conversions;
    int64_t n;
    glm4v_outputs outputs;
    glm4v_atomic_folder *folder;
    glm4v_calibration *calibration; /* NULL: none */
    glm4v_pool *pool;
    glm4v_gemm_ops gemm;
    glm4v_convert_ops convert;
    uint64_t total; /* bytes to read */

    /* one shard at a time */
    int64_t first, end; /* conversions of the shard */
    int64_t *pieces;    /* [end - first + 1]: number of the first piece of each */
    char *buffer;       /* [threads][buffer_bytes] */
    size_t buffer_bytes;
    pthread_t caller;
    uint64_t last_progress; /* ns; the caller's alone */
    pthread_mutex_t lock;   /* guards error while threads run */
    glm4v_error error;      /* the first one */
    atomic_bool stop;       /* set with it */
    atomic_uint_fast64_t done;
} converter;

/* ---- what becomes of each tensor ---- */

static bool ends_with_weight(const char *name)
{
    size_t n = strlen(name), m = strlen(".weight");
    return n > m && !strcmp(name + n - m, ".weight");
}

/* Note which item each tensor gives rows to. */
static void match_items(converter *c)
{
    const glm4v_tensor *first = glm4v_checkpoint_at(c->checkpoint, 0); /* one array, in order */
    for (int64_t i = 0; i < c->model->plan.n; i++) {
        const glm4v_item *item = &c->model->plan.items[i];
        for (int s = 0; s < item->n_sources; s++) {
            glm4v_conversion *to = &c->conversions[item->source[s].tensor - first];
            to->tied = to->item != NULL;
            to->item = item;
        }
    }
}

/* Head and embedding in one tensor: what quantizes the one would change the other. */
static int check_tied(const glm4v_conversion *c, const glm4v_quantization *q, glm4v_error *err)
{
    if (!c->tied || (!q->set[GLM4V_PART_EMBEDDING] && !q->set[GLM4V_PART_LM_HEAD]))
        return 0;
    return glm4v_fail(
        err, GLM4V_ERR_UNSUPPORTED,
        "quantization: embedding and lm-head are one tensor in this model (\"%.100s\") "
        "and stay as stored on disk; name them when the model is opened instead",
        c->from->name);
}

/* Files beside config.json may declare it too: the tensors decide. */
static int check_plain(const converter *c, glm4v_error *err)
{
    for (int64_t i = 0; i < c->model->plan.n; i++) {
        const glm4v_item *item = &c->model->plan.items[i];
        for (int s = 0; s < item->n_sources; s++)
            if (item->source[s].kind != GLM4V_SOURCE_PLAIN)
                return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                                  "\"%.120s\" is quantized already (%s); convert the checkpoint of "
                                  "16 bits that it was made from",
                                  item->source[s].tensor->name,
                                  glm4v_stored_name(glm4v_source_stored(&item->source[s])));
    }
    return 0;
}

/* Of the numbers or codes in the file. */
static glm4v_dtype dtype_of(glm4v_form form)
{
    glm4v_dtype dtype = GLM4V_DTYPE_F32;
    glm4v_dtype_parse(&dtype, glm4v_form_of(form)->dtype);
    return dtype;
}

static void decide(glm4v_conversion *c, const glm4v_quantization *q, const glm4v_tensor *t)
{
    const glm4v_item *item = c->item;
    const bool matrix = t->rank == 2 && ends_with_weight(t->name);
    const bool convolution = item && item->convolution;
    c->from = t;
    c->copy = true;
    c->linear = matrix && (!item || item->kind == GLM4V_ITEM_LINEAR);
    if (!item || (!matrix && !convolution) || !q->set[item->part] ||
        (item->kind != GLM4V_ITEM_LINEAR && item->kind != GLM4V_ITEM_TABLE) ||
        (convolution && item->form != q->form[item->part]))
        return;
    c->form = item->form;
    c->table = item->kind == GLM4V_ITEM_TABLE;
    c->n_out = t->shape[0];
    c->n_in = item->n_in;
    c->copy = t->dtype == dtype_of(c->form);
}

/* The tensors that represent one of the source. */
static int add_outputs(glm4v_outputs *o, glm4v_conversion *c, glm4v_error *err)
{
    const glm4v_tensor *t = c->from;
    const int64_t words[2] = { c->n_out, c->n_in / 8 }, two[1] = { 2 };
    int rc = 0;
    c->output = o->n;
    if (c->copy)
        return glm4v_outputs_add(o, t->name, "",
                                 &(glm4v_output_type) { t->dtype, t->rank, t->shape }, err);
    const int64_t scale[2] = { c->n_out, glm4v_form_groups(c->form, false, c->n_in) };
    const glm4v_dtype dtype = dtype_of(c->form);
    switch (glm4v_form_of(c->form)->layout) {
    case GLM4V_LAYOUT_PLAIN:
        rc = glm4v_outputs_add(o, t->name, "", &(glm4v_output_type) { dtype, t->rank, t->shape },
                               err);
        break;
    case GLM4V_LAYOUT_BYTES:
        rc = glm4v_outputs_add(o, t->name, "", &(glm4v_output_type) { dtype, 2, t->shape }, err);
        if (!rc)
            rc = glm4v_outputs_add(o, t->name, "_scale",
                                   &(glm4v_output_type) { GLM4V_DTYPE_F32, 2, scale }, err);
        break;
    case GLM4V_LAYOUT_WORDS:
        rc =
            glm4v_outputs_add(o, t->name, "_packed", &(glm4v_output_type) { dtype, 2, words }, err);
        if (!rc)
            rc = glm4v_outputs_add(o, t->name, "_scale",
                                   &(glm4v_output_type) { GLM4V_DTYPE_F32, 2, scale }, err);
        if (!rc)
            rc = glm4v_outputs_add(o, t->name, "_shape",
                                   &(glm4v_output_type) { GLM4V_DTYPE_I64, 1, two }, err);
        break;
    }
    return rc;
}

static int plan_outputs(converter *c, glm4v_error *err)
{
    int rc = check_plain(c, err);
    if (rc)
        return rc;
    c->n = glm4v_checkpoint_count(c->checkpoint);
    c->conversions = glm4v_alloc(c->n, sizeof *c->conversions);
    if (!c->conversions)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a list of %" PRId64 " tensors",
                          c->n);
    match_items(c);
    for (int64_t i = 0; !rc && i < c->n; i++) {
        const glm4v_tensor *t = glm4v_checkpoint_at(c->checkpoint, i);
        decide(&c->conversions[i], &c->quantization, t);
        rc = check_tied(&c->conversions[i], &c->quantization, err);
        if (!rc)
            rc = add_outputs(&c->outputs, &c->conversions[i], err);
        c->total += t->size;
    }
    if (rc)
        return rc;
    int64_t *groups = glm4v_alloc(c->outputs.n, sizeof *groups);
    if (!groups)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a list of %" PRId64 " tensors",
                          c->outputs.n);
    for (int64_t i = 0, o = 0; i < c->n; i++) {
        int64_t end = i + 1 < c->n ? c->conversions[i + 1].output : c->outputs.n;
        while (o < end)
            groups[o++] = i;
    }
    rc = glm4v_outputs_lay_out(&c->outputs, groups, c->options.shard_bytes, err);
    glm4v_free(groups);
    return rc;
}

/* ---- pieces ---- */

/* Rows of a piece: a multiple of the panels' 16. */
static int64_t rows_of_piece(const glm4v_conversion *c)
{
    int64_t rows = PIECE_FLOATS / c->n_in / GLM4V_PANEL * GLM4V_PANEL;
    if (rows < GLM4V_PANEL)
        return GLM4V_PANEL;
    return rows < c->n_out ? rows : c->n_out;
}

static int64_t count_pieces(const glm4v_conversion *c)
{
    if (c->copy)
        return ((c->from->size + PIECE_BYTES - 1) / PIECE_BYTES);
    int64_t rows = rows_of_piece(c);
    return ((c->n_out + rows - 1) / rows);
}

/* Room that a thread needs: rows as f32, their codes or numbers, their scales, and scratch. */
/* Of one number, or of one code before it is packed. */
static size_t code_bytes(const glm4v_conversion *c)
{
    const int32_t bits = glm4v_form_of(c->form)->bits;
    return bits > 8 ? bits / 8 : 1;
}

static size_t scratch_bytes(const glm4v_conversion *c)
{
    const size_t codes = c->n_in * GLM4V_PANEL; /* of a panel, for calibrated ones */
    const size_t encode = glm4v_form_encode_scratch(c->form, c->n_in);
    return codes > encode ? codes : encode;
}

static size_t piece_bytes(const glm4v_conversion *c)
{
    if (c->copy)
        return c->from->size < PIECE_BYTES ? c->from->size : PIECE_BYTES;
    int64_t rows = rows_of_piece(c), n = rows * c->n_in;
    int64_t groups = glm4v_form_groups(c->form, false, c->n_in);
    return n * (sizeof(float) + code_bytes(c)) + rows * groups * sizeof(float) + scratch_bytes(c) +
           128;
}

static int check_finite(const glm4v_conversion *c, int64_t row, const float *rows, int64_t n,
                        glm4v_error *err)
{
    const int64_t at = glm4v_first_not_finite(rows, n);
    if (at == n)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "\"%.120s\": number %" PRId64 " of row %" PRId64
                      " is not finite; the file is damaged",
                      c->from->name, at % c->n_in, row + at / c->n_in);
}

static int write_output(const converter *c, int64_t output, uint64_t start, const void *data,
                        size_t size, glm4v_error *err)
{
    return glm4v_atomic_folder_write(c->folder, c->outputs.items[output].offset + start, data, size,
                                     err);
}

/* Rows [row, row + n): read, quantized, written. */
static int convert_rows(converter *q, const glm4v_conversion *c, int64_t row, int64_t n,
                        char *buffer, glm4v_error *err)
{
    const int64_t k = c->n_in, count = n * k;
    const glm4v_form_traits *form = glm4v_form_of(c->form);
    const int64_t groups = glm4v_form_groups(c->form, false, c->n_in);
    float *rows = (float *)(void *)buffer, *scale = rows + count;
    uint8_t *codes = (uint8_t *)(scale + n * groups);
    uint8_t *scratch =
        (uint8_t *)buffer + glm4v_aligned((codes - (uint8_t *)buffer) + count * code_bytes(c));
    const uint64_t width = k * form->bits / 8; /* bytes of a row in the file */
    int rc = glm4v_checkpoint_read_f32(q->checkpoint, c->from, row * k, rows, count, err);
    if (!rc)
        rc = check_finite(c, row, rows, count, err);
    if (rc)
        return rc;
    if (!form->codes) { /* a table's rows are numbers as files hold them */
        form->cpu.table_fill(&q->convert, codes, NULL, 0, n, rows, k);
        return write_output(q, c->output, row * width, codes, n * width, err);
    }
    if (glm4v_calibration_has(q->calibration, c->from->name))
        glm4v_calibration_codes(q->calibration, c->from->name, row, n,
                                &(glm4v_code_rows) { codes, scale, scratch });
    else
        form->cpu.encode(&q->gemm, &q->convert, codes, scale, rows, n, c->n_in, scratch);
    if (form->layout == GLM4V_LAYOUT_WORDS)
        glm4v_join_nibbles(codes, count);
    rc = write_output(q, c->output, row * width, codes, n * width, err);
    if (!rc)
        rc = write_output(q, c->output + 1, row * groups * sizeof *scale, scale,
                          n * groups * sizeof *scale, err);
    if (!rc && form->layout == GLM4V_LAYOUT_WORDS && row == 0)
        rc = write_output(q, c->output + 2, 0, c->from->shape, 2 * sizeof(int64_t), err);
    return rc;
}

static int copy_bytes(converter *q, const glm4v_conversion *c, uint64_t start, size_t n,
                      char *buffer, glm4v_error *err)
{
    int rc = glm4v_checkpoint_read(q->checkpoint, c->from, start, buffer, n, err);
    return rc ? rc : write_output(q, c->output, start, buffer, n, err);
}

static void fail_with(converter *c, const glm4v_error *error)
{
    pthread_mutex_lock(&c->lock);
    if (!c->error.code)
        c->error = *error;
    pthread_mutex_unlock(&c->lock);
    atomic_store(&c->stop, true);
}

/* Of the caller's thread only. */
static void report(converter *c)
{
    const uint64_t now = glm4v_now();
    if (!c->options.progress || now - c->last_progress < PROGRESS_NS)
        return;
    c->last_progress = now;
    glm4v_error error = { 0 };
    if (c->options.progress(c->options.progress_user, atomic_load(&c->done), c->total)) {
        glm4v_fail(&error, GLM4V_ERR_CANCELED, "converting was canceled");
        fail_with(c, &error);
    }
}

static void run_piece(void *user, int64_t i, int64_t thread)
{
    converter *q = user;
    glm4v_error error = { 0 };
    char *buffer = q->buffer + thread * q->buffer_bytes;
    int64_t low = 0, high = q->end - q->first; /* pieces[low] <= i < pieces[high] */
    if (pthread_equal(pthread_self(), q->caller))
        report(q);
    if (atomic_load(&q->stop))
        return;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        *(q->pieces[middle] <= i ? &low : &high) = middle;
    }
    const glm4v_conversion *c = &q->conversions[q->first + low];
    const int64_t number = i - q->pieces[low];
    uint64_t bytes;
    int rc;
    if (c->copy) {
        uint64_t start = number * PIECE_BYTES;
        bytes = c->from->size - start < PIECE_BYTES ? c->from->size - start : PIECE_BYTES;
        rc = copy_bytes(q, c, start, bytes, buffer, &error);
    } else {
        int64_t step = rows_of_piece(c), row = number * step;
        int64_t n = step < c->n_out - row ? step : c->n_out - row;
        bytes = n * c->n_in * glm4v_dtype_size(c->from->dtype);
        rc = convert_rows(q, c, row, n, buffer, &error);
    }
    if (rc)
        fail_with(q, &error);
    else
        atomic_fetch_add(&q->done, bytes);
}

/* ---- files ---- */

static int write_text(converter *c, const char *name, const glm4v_text_out *text, glm4v_error *err)
{
    int rc = glm4v_atomic_folder_file(c->folder, name, err);
    if (!rc)
        rc = glm4v_atomic_folder_write(c->folder, 0, text->data, text->size, err);
    return rc ? rc : glm4v_atomic_folder_finish_file(c->folder, err);
}

/* Conversions of the shard, which follow one another, and their pieces. */
static void number_pieces(converter *c, int64_t shard)
{
    c->first = c->end;
    c->pieces[0] = 0;
    while (c->end < c->n && c->outputs.items[c->conversions[c->end].output].shard == shard) {
        int64_t *piece = &c->pieces[c->end - c->first];
        piece[1] = piece[0] + count_pieces(&c->conversions[c->end]);
        c->end++;
    }
}

static int write_shard(converter *c, int64_t shard, glm4v_error *err)
{
    char name[64];
    glm4v_text_out header = { 0 };
    glm4v_outputs_file(&c->outputs, shard, name);
    int rc = glm4v_outputs_header(&c->outputs, shard, &header, err);
    if (!rc)
        rc = glm4v_atomic_folder_file(c->folder, name, err);
    if (!rc)
        rc = glm4v_atomic_folder_write(c->folder, 0, header.data, header.size, err);
    glm4v_free(header.data);
    if (rc)
        return rc;
    number_pieces(c, shard);
    glm4v_pool_run(c->pool, c->pieces[c->end - c->first], run_piece, c);
    if (c->error.code) {
        if (err)
            *err = c->error;
        return c->error.code;
    }
    return glm4v_atomic_folder_finish_file(c->folder, err);
}

static int write_shards(converter *c, glm4v_error *err)
{
    int64_t n_threads = glm4v_pool_threads(c->pool);
    for (int64_t i = 0; i < c->n; i++) {
        size_t bytes = piece_bytes(&c->conversions[i]);
        c->buffer_bytes = bytes > c->buffer_bytes ? bytes : c->buffer_bytes;
    }
    c->buffer_bytes = (c->buffer_bytes + 127) / 64 * 64;
    c->buffer = glm4v_alloc_aligned(n_threads, c->buffer_bytes);
    c->pieces = glm4v_alloc(c->n + 1, sizeof *c->pieces);
    if (!c->buffer || !c->pieces)
        return glm4v_fail(err, GLM4V_ERR_NOMEM,
                          "no memory for %zu bytes of weights in each of %" PRId64 " threads",
                          c->buffer_bytes, n_threads);
    int rc = 0;
    for (int64_t shard = 0; !rc && shard < c->outputs.n_shards; shard++)
        rc = write_shard(c, shard, err);
    return rc ? rc : glm4v_checkpoint_verify(c->checkpoint, err);
}

/* Everything that the folder holds, in memory or on disk elsewhere, is known here: only now is the
 * first byte written. */
static int write_all(converter *c, const char *dst, glm4v_error *err)
{
    glm4v_text_out config = { 0 }, index = { 0 };
    glm4v_file_list files = { 0 };
    int rc = glm4v_quantize_config(&config, c->src, c->conversions, c->n, err);
    if (!rc && c->outputs.n_shards > 1)
        rc = glm4v_outputs_index(&c->outputs, &index, err);
    if (!rc)
        rc = glm4v_file_list_make(&files, c->src, &c->log, err);
    if (!rc)
        rc = glm4v_atomic_folder_begin(&c->folder, c->src, dst, err);
    if (!rc)
        rc = glm4v_atomic_folder_room(
            c->folder, c->outputs.bytes + files.bytes + config.size + index.size, err);
    if (!rc)
        rc = write_shards(c, err);
    if (!rc && index.size)
        rc = write_text(c, "model.safetensors.index.json", &index, err);
    if (!rc)
        rc = write_text(c, "config.json", &config, err);
    if (!rc)
        rc = glm4v_file_list_copy(&files, c->src, c->folder, err);
    if (!rc && c->options.progress &&
        c->options.progress(c->options.progress_user, c->total, c->total))
        rc = glm4v_fail(err, GLM4V_ERR_CANCELED, "converting was canceled");
    if (!rc)
        rc = glm4v_atomic_folder_commit(c->folder, err);
    glm4v_atomic_folder_end(&c->folder);
    glm4v_file_list_clear(&files);
    glm4v_free(index.data);
    glm4v_free(config.data);
    return rc;
}

/* ---- the whole ---- */

static int take_options(converter *c, const glm4v_quantize_options *options, glm4v_error *err)
{
    int rc = glm4v_struct_read(&c->options, options, sizeof c->options, "quantize options", err);
    if (rc)
        return rc;
    c->log = (glm4v_log) { c->options.log, c->options.log_user };
    if (!c->options.shard_bytes)
        c->options.shard_bytes = SHARD_BYTES;
    if (!c->options.quantization || !*c->options.quantization)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "quantization: name a form, such as \"text=int4,vision=int8\"");
    return glm4v_quantization_parse(&c->quantization, c->options.quantization, err);
}

/* Check src and plan its weights. A folder without tokenizer is weights alone. */
static int examine(converter *c, glm4v_error *err)
{
    static const char *const tokenizers[] = { "tokenizer.json", "tokenizer.model" };
    glm4v_model_options options = { .device = "cpu",
                                    .quantization = c->options.quantization,
                                    .weights_only = 1,
                                    .log = c->options.log,
                                    .log_user = c->options.log_user };
    for (size_t i = 0; i < sizeof tokenizers / sizeof *tokenizers; i++) {
        char *path = glm4v_path_join(c->src, tokenizers[i]);
        if (!path)
            return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a path");
        if (!access(path, F_OK))
            options.weights_only = 0;
        glm4v_free(path);
    }
    int rc = glm4v_quantize_check_source(c->src, err);
    return rc ? rc : glm4v_model_examine(&c->model, &c->checkpoint, c->src, &options, err);
}

/* If there are pictures, calibrate on them. */
static int calibrate(converter *c, glm4v_error *err)
{
    const glm4v_calibrate_options options = {
        .quantization = c->options.quantization,
        .images = c->options.images,
        .n_images = c->options.n_images,
        .prompts = c->options.prompts,
        .n_prompts = c->options.n_prompts,
        .n_threads = c->options.n_threads,
        .memory = c->options.calibration_memory,
        .progress = c->options.calibration_progress,
        .progress_user = c->options.progress_user,
        .log = c->options.log,
        .log_user = c->options.log_user,
    };
    return c->options.images ? glm4v_calibrate(&c->calibration, c->src, &options, err) : 0;
}

static int choose_kernels(converter *c, glm4v_error *err)
{
    unsigned flags;
    int rc = glm4v_cpu_choose(&flags, err);
    if (rc)
        return rc;
    glm4v_gemm_ops_init(&c->gemm, flags);
    glm4v_convert_ops_init(&c->convert, flags);
    return 0;
}

int glm4v_quantize(const char *src, const char *dst, const glm4v_quantize_options *options,
                   glm4v_error *err)
{
    converter c = { .src = src, .caller = pthread_self() };
    glm4v_error error = { 0 };
    int rc = src && dst ? take_options(&c, options, &error)
                        : glm4v_fail(&error, GLM4V_ERR_INVALID,
                                     "the source and the destination folder must both be named");
    pthread_mutex_init(&c.lock, NULL);
    if (!rc)
        rc = choose_kernels(&c, &error);
    if (!rc)
        rc = examine(&c, &error);
    if (!rc)
        rc = plan_outputs(&c, &error);
    if (!rc)
        rc = calibrate(&c, &error);
    if (!rc)
        rc = glm4v_pool_open(&c.pool, c.options.n_threads, &error);
    if (!rc)
        rc = write_all(&c, dst, &error);
    if (!rc)
        glm4v_log_line(&c.log, GLM4V_LOG_INFO,
                       "%.200s: %" PRId64 " tensors in %" PRId64 " files, %" PRIu64 " MiB", dst,
                       c.outputs.n, c.outputs.n_shards, c.outputs.bytes >> 20);
    glm4v_pool_close(&c.pool);
    glm4v_calibration_free(&c.calibration);
    glm4v_free(c.pieces);
    glm4v_free(c.buffer);
    glm4v_outputs_clear(&c.outputs);
    glm4v_free(c.conversions);
    glm4v_checkpoint_close(&c.checkpoint);
    if (c.model)
        glm4v_model_close(&c.model);
    pthread_mutex_destroy(&c.lock);
    if (rc && err)
        *err = error;
    return rc;
}
