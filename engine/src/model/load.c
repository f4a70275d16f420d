/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Filling a plan: pieces of rows are read, widened to f32, checked and passed to the backend, which
 * quantizes and repacks them, by all threads of the pool at once. Rows that are quantized already
 * are passed unchanged, or dequantized first if another form is wanted. While a model loads it
 * needs memory for its weights and one piece per thread. The caller works too, and calls progress
 * between its pieces. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "convert.h"
#include "model/model.h"
#include "model/weights.h"

#define PIECE_FLOATS (1 << 18) /* 1 MiB of f32: large enough for a disk, small enough for L2 */
/* Codes, one a byte. By columns of the file more rows at a time: less, and shorter, reads */
#define PIECE_CODES (1 << 20)
#define PIECE_COLUMNS (4 << 20)
/* What a thread takes at a time of rows that stay as they are: as int4, the 2 MiB of a large page.
 * Two threads that touch the same fresh page at once would both clear one. */
#define SHARE_CODES (4 << 20)
#define ROW_STEP 16          /* weight_fill begins at multiples of it */
#define PROGRESS_NS 50000000 /* at most 20 calls a second */

#define MAX_TURNS 2

/* The buffers of one thread. */
typedef struct {
    int64_t next;
    glm4v_backend *user[MAX_TURNS]; /* whose fills may still read them; or NULL */
} buffer_turn;

/* One run of the loader; fields below `lock` are shared by the threads. */
typedef struct {
    const glm4v_plan *plan;
    glm4v_model *model;
    const glm4v_checkpoint *checkpoint; /* NULL: random weights */
    uint64_t seed;
    int64_t *first;         /* [items + 1]: number of the first share of each item */
    glm4v_backend *staging; /* whose staging memory the buffers are */
    int64_t turns;          /* buffers of a thread: 2 where fills read them later */
    buffer_turn *turn;      /* [threads] */
    float *buffer;          /* [threads][turns][piece + row] */
    int64_t buffer_floats, row_floats;
    /* [threads][turns][q, scales, zero points, scratch]; sizes in bytes */
    unsigned char *codes;
    size_t q_size, scale_size, zero_size, codes_size;
    pthread_t caller;
    glm4v_progress_fn progress;
    void *progress_user;
    uint64_t last_progress; /* ns; the caller's alone */

    pthread_mutex_t lock;   /* guards error */
    pthread_mutex_t device; /* held for an upload: those are one thread's at a time, unlike fills */
    glm4v_error error;      /* the first one */
    atomic_bool stop;       /* set with it */
    atomic_uint_fast64_t done; /* bytes */
} loader;

/* ---- buffers ---- */

/* The next buffers of the thread, once no fill reads them any more; returns their number. b: the
 * backend whose fills will read them. */
static int take_turn(loader *l, int64_t thread, glm4v_backend *b, int64_t *number)
{
    buffer_turn *t = &l->turn[thread];
    const int64_t turn = t->next;
    glm4v_backend *user = t->user[turn];
    const int64_t at = thread * l->turns + turn;
    int rc = 0;
    if (user && user->ops->fills_wait) {
        rc = user->ops->fills_wait(user, l->buffer + at * l->buffer_floats,
                                   l->buffer_floats * sizeof *l->buffer);
        if (!rc)
            rc = user->ops->fills_wait(user, l->codes + at * l->codes_size, l->codes_size);
    }
    t->next = (turn + 1) % l->turns;
    t->user[turn] = b;
    *number = at;
    return rc;
}

/* Nothing reads the buffers any more. */
static int wait_for_fills(loader *l, int64_t n_threads)
{
    int rc = 0;
    for (int64_t thread = 0; thread < n_threads; thread++)
        for (int64_t i = 0; i < l->turns; i++) {
            int64_t unused;
            int failed = take_turn(l, thread, NULL, &unused);
            rc = rc ? rc : failed;
        }
    return rc;
}

/* ---- pieces ---- */

static bool by_columns(const glm4v_source *s)
{
    return s->kind == GLM4V_SOURCE_AWQ || s->kind == GLM4V_SOURCE_GPTQ;
}

/* Rows whose numbers are at most `most`: a multiple of ROW_STEP, or all. */
static int64_t rows_of(const glm4v_item *item, int64_t most)
{
    int64_t rows = most / item->n_in / ROW_STEP * ROW_STEP;
    if (rows < ROW_STEP)
        rows = ROW_STEP;
    return rows < item->n_out ? rows : item->n_out;
}

/* Rows of one piece. */
static int64_t rows_of_piece(const glm4v_item *item)
{
    int64_t most = PIECE_FLOATS;
    if (item->kind == GLM4V_ITEM_VECTOR)
        return item->n_out;
    for (int i = 0; i < item->n_sources; i++) {
        const glm4v_source *s = &item->source[i];
        const int64_t codes = by_columns(s) ? PIECE_COLUMNS : PIECE_CODES;
        if (s->kind != GLM4V_SOURCE_PLAIN && codes > most)
            most = codes;
    }
    return rows_of(item, most);
}

/* Numbers that are bf16 in the file and in memory, in the same order. */
static bool takes_bf16(const glm4v_item *item)
{
    bool bf16 = item->kind == GLM4V_ITEM_LINEAR && item->form == GLM4V_FORM_BF16 &&
                item->n_sources && item->pixels <= 1 && item->n_in % 2 == 0;
    for (int i = 0; i < item->n_sources; i++)
        bf16 = bf16 && item->source[i].kind == GLM4V_SOURCE_PLAIN &&
               item->source[i].tensor->dtype == GLM4V_DTYPE_BF16;
    return bf16;
}

/* Rows of one thread: whole pieces, or all. */
static int64_t rows_of_share(const glm4v_item *item)
{
    const int64_t piece = rows_of_piece(item);
    const bool as_stored = item->codes || takes_bf16(item);
    const int64_t pieces = as_stored ? SHARE_CODES / (piece * item->n_in) : 1;
    if (pieces <= 1)
        return piece;
    return pieces < item->n_out / piece ? piece * pieces : item->n_out;
}

/* Rows of one source within some rows of an item. */
typedef struct {
    const glm4v_source *source;
    int64_t row, n; /* of the source */
} span;

/* The first of rows [row, row + n) of item, as many as come from one source. */
static span span_at(const glm4v_item *item, int64_t row, int64_t n)
{
    const glm4v_source *s = item->source;
    while (row >= s->rows)
        row -= s++->rows;
    return (span) { s, row, n < s->rows - row ? n : s->rows - row };
}

/* ---- where numbers come from ---- */

/* Scales of one output: of the matrix in memory where it takes codes, else as stored. 0: nothing is
 * quantized. */
static int64_t groups_of(const glm4v_item *item)
{
    const glm4v_weight_kind kind = glm4v_item_kind_of(item);
    int64_t most = 0;
    for (int i = 0; i < item->n_sources; i++)
        if (item->source[i].groups > most)
            most = item->source[i].groups;
    return item->codes ? glm4v_kind_groups(&kind) : most;
}

/* Words of eight int4 codes lie in memory's order already: nothing to unpack. */
static bool takes_words(const glm4v_item *item)
{
    bool words = item->codes && glm4v_form_of(item->form)->cpu.pack_words && !item->order;
    for (int i = 0; i < item->n_sources; i++)
        words = words && item->source[i].kind == GLM4V_SOURCE_PACKED;
    return words;
}

/* Rows lie in the file as they may lie in the memory of the matrix until they are packed. */
static bool reads_in_place(const glm4v_item *item)
{
    bool bytes = item->codes && item->kind == GLM4V_ITEM_LINEAR &&
                 glm4v_form_of(item->form)->layout == GLM4V_LAYOUT_BYTES;
    for (int i = 0; i < item->n_sources; i++)
        bytes = bytes && item->source[i].kind == GLM4V_SOURCE_BYTES;
    return bytes || takes_words(item) || takes_bf16(item);
}

/* The memory of the matrix into which rows [row, row + *n) may be read, all but those of
 * the last panel before `end`; *n is then what remains. NULL: there is none. */
static void *room_for(const loader *l, const glm4v_item *item, int64_t row, int64_t *n, int64_t end)
{
    glm4v_backend *b = l->model->stages[item->stage].backend;
    const int64_t most = (end - row - 1) / ROW_STEP * ROW_STEP, some = *n < most ? *n : most;
    if (!some || !b->ops->weight_room || !reads_in_place(item))
        return NULL;
    void *room = b->ops->weight_room(b, item->to.linear, row, some);
    *n = room ? some : *n;
    return room;
}

/* The room for codes of rows from `at` on of a piece. */
static glm4v_source_codes codes_at(const glm4v_source_codes *piece, const glm4v_item *item,
                                   int64_t at)
{
    const int64_t q = at * item->n_in;
    const int64_t scale = at * piece->groups;
    return (glm4v_source_codes) {
        .q = piece->q ? piece->q + q : NULL,
        .scale = piece->scale + scale,
        .zero = piece->zero + scale,
        .groups = piece->groups,
        .scratch = piece->q ? piece->scratch : (char *)piece->scratch + q / 2,
    };
}

/* Codes of rows [row, row + n), for the sources that have them. */
static int read_codes(const loader *l, const glm4v_item *item, const glm4v_source_codes *piece,
                      int64_t row, int64_t n, glm4v_error *err)
{
    const glm4v_weight_kind kind = glm4v_item_kind_of(item);
    int rc = 0;
    for (int64_t at = 0; !rc && at < n;) {
        const span s = span_at(item, row + at, n - at);
        const glm4v_source_codes codes = codes_at(piece, item, at);
        if (s.source->kind != GLM4V_SOURCE_PLAIN)
            rc = glm4v_source_read_codes(s.source, l->checkpoint, s.row, s.n, &codes, err);
        if (!rc && item->codes)
            glm4v_source_convert(s.source, &codes, s.n, &kind, item->order);
        at += s.n;
    }
    return rc;
}

/* Rows of an item that one thread loads at a time. */
typedef struct {
    const glm4v_item *item;
    int64_t row, n;
    void *room;     /* where rows that stay as they are are read to; or NULL */
    int64_t thread; /* that loads them */
    /* the thread's buffers, in turn */
    glm4v_source_codes codes;
    float *buffer;
} piece_of_rows;

/* Rows [at, at + n) of the piece, whose codes were read, as f32. */
static int read_rows(const loader *l, const piece_of_rows *p, int64_t at, int64_t n,
                     glm4v_error *err)
{
    float *to = p->buffer;
    int rc = 0;
    for (const int64_t end = at + n; !rc && at < end;) {
        const span s = span_at(p->item, p->row + at, end - at);
        const glm4v_source_codes codes = codes_at(&p->codes, p->item, at);
        if (s.source->kind == GLM4V_SOURCE_PLAIN)
            rc = glm4v_source_read_f32(s.source, l->checkpoint, s.row, s.n, to, err);
        else
            glm4v_source_dequantize(s.source, &codes, s.n, to);
        to += s.n * p->item->n_in;
        at += s.n;
    }
    return rc;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t seed_of(const loader *l, const glm4v_item *item)
{
    return mix(l->seed + (item - l->plan->items) * 0x9e3779b97f4a7c15u);
}

/* Four uniform numbers of variance scale^2 around mean from each 64 random bits. A row depends on
 * seed, item and row number alone, so that threads and pieces do not matter. */
static void random_rows(const loader *l, const glm4v_item *item, int64_t row, int64_t n, float *to)
{
    const float step = item->random_scale * 1.7320508f / 32768,
                low = item->random_mean - 32767.5f * step;
    const uint64_t which = seed_of(l, item);
    for (int64_t r = row; r < row + n; r++, to += item->n_in) {
        uint64_t state = mix(which + r);
        for (int64_t i = 0; i < item->n_in; i += 4) {
            uint64_t bits = mix(state += 0x9e3779b97f4a7c15u);
            for (int64_t k = 0; k < 4 && i + k < item->n_in; k++)
                to[i + k] = low + step * (float)(bits >> (16 * k) & 0xffff);
        }
    }
}

/* Turn each row from [channel][pixel] to [pixel][channel]. */
static void turn_rows(float *rows, int64_t n, int64_t n_in, int64_t pixels, float *scratch)
{
    int64_t channels = n_in / pixels;
    for (int64_t r = 0; r < n; r++, rows += n_in) {
        memcpy(scratch, rows, n_in * sizeof *rows);
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < channels; c++)
                rows[p * channels + c] = scratch[c * pixels + p];
    }
}

int64_t glm4v_first_not_finite(const float *x, int64_t n)
{
    if (glm4v_all_finite(x, n))
        return n;
    int64_t i = 0;
    while (isfinite(x[i]))
        i++;
    return i;
}

/* Number `at` from row `row` on is x, which is not finite. */
static int damaged(const glm4v_item *item, int64_t row, int64_t at, float x, glm4v_error *err)
{
    int64_t bad = row + at / item->n_in;
    int s = 0;
    while (bad >= item->source[s].rows)
        bad -= item->source[s++].rows;
    return glm4v_fail(
        err, GLM4V_ERR_FORMAT, "\"%s\": number %zu of row %" PRId64 " is %s; the file is damaged",
        item->source[s].tensor->name, at % item->n_in, bad, isnan(x) ? "NaN" : "infinite");
}

static int check_finite(const glm4v_item *item, int64_t row, const float *rows, int64_t n,
                        glm4v_error *err)
{
    const int64_t at = glm4v_first_not_finite(rows, n);
    return at < n ? damaged(item, row, at, rows[at], err) : 0;
}

static int check_finite_bf16(const glm4v_item *item, int64_t row, const uint16_t *rows, int64_t n,
                             glm4v_error *err)
{
    float x = 0;
    if (glm4v_all_finite_bf16(rows, n))
        return 0;
    for (int64_t i = 0;; i++) {
        glm4v_bf16_to_f32_c(&x, rows + i, 1);
        if (!isfinite(x))
            return damaged(item, row, i, x, err);
    }
}

/* ---- where they go ---- */

static int store(loader *l, const glm4v_item *item, int64_t row, int64_t n, const float *rows)
{
    glm4v_backend *b = l->model->stages[item->stage].backend;
    const int64_t width = item->n_in;
    int rc;
    switch (item->kind) {
    case GLM4V_ITEM_LINEAR:
        return b->ops->weight_fill(b, item->to.linear, row, n, rows);
    case GLM4V_ITEM_TABLE:
        return b->ops->table_fill(b, item->to.table, row, n, rows);
    case GLM4V_ITEM_VECTOR:
        pthread_mutex_lock(&l->device);
        rc = b->ops->write(b, *item->to.vector, rows, n * width * sizeof *rows);
        pthread_mutex_unlock(&l->device);
        return rc;
    case GLM4V_ITEM_HOST:
        memcpy(*item->to.vector + row * width, rows, n * width * sizeof *rows);
        break;
    }
    return 0;
}

static void fail_with(loader *l, const glm4v_error *error)
{
    pthread_mutex_lock(&l->lock);
    if (!l->error.code)
        l->error = *error;
    pthread_mutex_unlock(&l->lock);
    atomic_store(&l->stop, true);
}

static int not_stored(const glm4v_item *item, int rc, glm4v_error *err)
{
    return glm4v_fail(err, rc,
                      "a matrix of %" PRId64 " x %" PRId64 " could not be stored on the device",
                      item->n_out, item->n_in);
}

/* Rows that stay as they are quantized. */
static int store_codes(loader *l, const glm4v_item *item, int64_t row, int64_t n,
                       const glm4v_source_codes *c, glm4v_error *err)
{
    glm4v_backend *b = l->model->stages[item->stage].backend;
    const glm4v_codes codes = { .q = c->q,
                                .words = c->q ? NULL : c->scratch,
                                .scale = c->scale,
                                .zero = item->zeros ? c->zero : NULL };
    int rc = item->kind == GLM4V_ITEM_TABLE
                 ? b->ops->table_fill_codes(b, item->to.table, row, n, &codes)
                 : b->ops->weight_fill_codes(b, item->to.linear, row, n, &codes);
    return rc ? not_stored(item, rc, err) : 0;
}

/* Rows [at, at + n) of the piece, which become f32 on the way. */
static int load_rows(loader *l, const piece_of_rows *p, int64_t at, int64_t n, glm4v_error *err)
{
    const glm4v_item *item = p->item;
    const int64_t row = p->row + at;
    float *rows = p->buffer;
    int rc = 0;
    if (l->checkpoint)
        rc = read_rows(l, p, at, n, err);
    else
        random_rows(l, item, row, n, rows);
    if (!rc && l->checkpoint)
        rc = check_finite(item, row, rows, n * item->n_in, err);
    if (rc)
        return rc;
    if (item->pixels > 1)
        turn_rows(rows, n, item->n_in, item->pixels, rows + l->buffer_floats - l->row_floats);
    rc = store(l, item, row, n, rows);
    return rc ? not_stored(item, rc, err) : 0;
}

/* Rows that stay bf16. */
static int load_bf16(const loader *l, const glm4v_item *item, int64_t row, int64_t n,
                     uint16_t *rows, glm4v_error *err)
{
    glm4v_backend *b = l->model->stages[item->stage].backend;
    const int64_t width = item->n_in;
    int rc = 0;
    for (int64_t at = 0; !rc && at < n;) {
        const span s = span_at(item, row + at, n - at);
        rc = glm4v_checkpoint_read(l->checkpoint, s.source->tensor, s.row * width * sizeof *rows,
                                   rows + at * width, s.n * width * sizeof *rows, err);
        at += s.n;
    }
    if (!rc)
        rc = check_finite_bf16(item, row, rows, n * width, err);
    if (rc)
        return rc;
    rc = b->ops->weight_fill_bf16(b, item->to.linear, row, n, rows);
    return rc ? not_stored(item, rc, err) : 0;
}

/* Bytes of the files that n rows of item are. */
static uint64_t bytes_of(const loader *l, const glm4v_item *item, int64_t row, int64_t n)
{
    uint64_t bytes = 0;
    if (!l->checkpoint)
        return n * item->n_in * sizeof(uint16_t);
    for (int64_t at = 0; at < n;) {
        const span s = span_at(item, row + at, n - at);
        bytes += glm4v_source_bytes(s.source) / s.source->rows * s.n;
        at += s.n;
    }
    return bytes;
}

/* Random numbers that the device makes itself, the whole item with its first rows. False: it does
 * not. */
static bool fill_random(loader *l, const glm4v_item *item, int64_t row, int *rc)
{
    glm4v_backend *b = l->model->stages[item->stage].backend;
    const glm4v_random random = { .seed = seed_of(l, item),
                                  .mean = item->random_mean,
                                  .scale = item->random_scale };
    const bool linear = item->kind == GLM4V_ITEM_LINEAR && b->ops->weight_fill_random;
    const bool table = item->kind == GLM4V_ITEM_TABLE && b->ops->table_fill_random;
    *rc = 0;
    if (l->checkpoint || (!linear && !table))
        return false;
    if (!row && linear)
        *rc = b->ops->weight_fill_random(b, item->to.linear, &random);
    else if (!row)
        *rc = b->ops->table_fill_random(b, item->to.table, &random);
    return true;
}

/* The thread's next buffers. */
static int take_buffers(loader *l, piece_of_rows *p)
{
    glm4v_backend *b = l->model->stages[p->item->stage].backend;
    int64_t number;
    int rc = take_turn(l, p->thread, b, &number);
    unsigned char *base = l->codes + number * l->codes_size;
    unsigned char *scratch = base + l->q_size + l->scale_size + l->zero_size;
    const bool words = takes_words(p->item);
    p->codes = (glm4v_source_codes) { .q = p->room ? p->room : base,
                                      .scale = (float *)(base + l->q_size),
                                      .zero = base + l->q_size + l->scale_size,
                                      .groups = groups_of(p->item),
                                      .scratch = words && p->room ? p->room : scratch };
    if (words)
        p->codes.q = NULL;
    p->buffer = l->buffer + number * l->buffer_floats;
    return rc;
}

/* All rows of the piece, some at a time, as f32. */
static int load_floats(loader *l, const piece_of_rows *p, glm4v_error *err)
{
    glm4v_backend *b = l->model->stages[p->item->stage].backend;
    const bool vector = p->item->kind == GLM4V_ITEM_VECTOR;
    const int64_t step = vector ? p->n : rows_of(p->item, PIECE_FLOATS);
    int rc = 0;
    for (int64_t at = 0; !rc && at < p->n; at += step) {
        if (at && b->ops->fills_wait) /* the rows before them are read */
            rc = b->ops->fills_wait(b, p->buffer, l->buffer_floats * sizeof *p->buffer);
        if (!rc)
            rc = load_rows(l, p, at, p->n - at < step ? p->n - at : step, err);
    }
    return rc;
}

static int load_piece(loader *l, piece_of_rows *p, glm4v_error *err)
{
    const glm4v_item *item = p->item;
    glm4v_backend *b = l->model->stages[item->stage].backend;
    int rc;
    if (fill_random(l, item, p->row, &rc)) {
        atomic_fetch_add(&l->done, bytes_of(l, item, p->row, p->n));
        return rc ? not_stored(item, rc, err) : 0;
    }
    rc = take_buffers(l, p);
    if (rc)
        return not_stored(item, rc, err);
    if (p->codes.groups)
        rc = read_codes(l, item, &p->codes, p->row, p->n, err);
    if (!rc && item->codes)
        rc = store_codes(l, item, p->row, p->n, &p->codes, err);
    else if (!rc && takes_bf16(item) && b->ops->weight_fill_bf16)
        rc = load_bf16(l, item, p->row, p->n, p->room ? p->room : p->buffer, err);
    else if (!rc)
        rc = load_floats(l, p, err);
    atomic_fetch_add(&l->done, bytes_of(l, item, p->row, p->n));
    return rc;
}

/* On the caller's thread only: report progress, unless it was reported just before. */
static void report(loader *l)
{
    const uint64_t now = glm4v_now();
    if (!l->progress || now - l->last_progress < PROGRESS_NS)
        return;
    l->last_progress = now;
    glm4v_error error = { 0 };
    if (l->progress(l->progress_user, atomic_load(&l->done), l->plan->bytes)) {
        glm4v_fail(&error, GLM4V_ERR_CANCELED, "loading was canceled");
        fail_with(l, &error);
    }
}

/* The item that share number i belongs to. */
static int64_t item_of(const loader *l, int64_t i)
{
    int64_t low = 0, high = l->plan->n; /* first[low] <= i < first[high] */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (l->first[middle] <= i)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void run_share(void *user, int64_t i, int64_t thread)
{
    loader *l = user;
    const int64_t index = item_of(l, i);
    const glm4v_item *item = &l->plan->items[index];
    const int64_t share = rows_of_share(item), step = rows_of_piece(item);
    const int64_t first = (i - l->first[index]) * share;
    const int64_t end = share < item->n_out - first ? first + share : item->n_out;
    glm4v_error error = { 0 };
    piece_of_rows p = { .item = item, .row = first, .thread = thread };
    for (; p.row < end; p.row += p.n) {
        p.n = step < end - p.row ? step : end - p.row;
        p.room = room_for(l, item, p.row, &p.n, end);
        if (pthread_equal(pthread_self(), l->caller))
            report(l);
        if (atomic_load(&l->stop))
            return;
        if (load_piece(l, &p, &error)) {
            fail_with(l, &error);
            return;
        }
    }
}

/* ---- set-up ---- */

static void at_least(int64_t *most, int64_t n)
{
    *most = n > *most ? n : *most;
}

/* Number the shares (first NULL: do not) and find the largest pieces. */
static void number_shares(loader *l)
{
    const glm4v_plan *plan = l->plan;
    int64_t floats = 0, q = 0, scales = 0, scratch = 0;
    for (int64_t i = 0; i < plan->n; i++) {
        const glm4v_item *item = &plan->items[i];
        const int64_t rows = rows_of_piece(item), share = rows_of_share(item);
        const int64_t groups = groups_of(item);
        const int64_t step = item->kind == GLM4V_ITEM_VECTOR ? rows : rows_of(item, PIECE_FLOATS);
        if (l->first)
            l->first[i + 1] = l->first[i] + ((item->n_out + share - 1) / share);
        at_least(&floats, step * item->n_in);
        if (item->pixels > 1)
            at_least(&l->row_floats, item->n_in);
        at_least(&scales, rows * groups);
        if (groups && !takes_words(item))
            at_least(&q, rows * item->n_in);
        for (int s = 0; s < item->n_sources; s++)
            at_least(&scratch, glm4v_source_scratch(&item->source[s], rows));
    }
    /* threads share no cache line */
    l->buffer_floats = glm4v_aligned((floats + l->row_floats) * sizeof(float)) / sizeof(float);
    l->q_size = glm4v_aligned(q);
    l->scale_size = glm4v_aligned(scales * sizeof(float));
    l->zero_size = glm4v_aligned(scales);
    l->codes_size = l->q_size + l->scale_size + l->zero_size + glm4v_aligned(scratch);
}

/* The buffers of one thread. */
static size_t buffer_bytes(const loader *l)
{
    return l->turns * (l->buffer_floats * sizeof *l->buffer + l->codes_size);
}

/* Whose staging memory to read into, and how many buffers a thread takes turns with. */
static void choose_staging(loader *l)
{
    l->staging = l->model->stages[0].backend;
    l->turns = 1;
    for (int64_t i = 0; i < l->model->n_stages; i++)
        if (l->model->stages[i].backend->ops->fills_wait) {
            l->staging = l->model->stages[i].backend;
            l->turns = MAX_TURNS;
        }
}

uint64_t glm4v_plan_loading_bytes(const glm4v_plan *plan, const glm4v_model *model,
                                  const glm4v_checkpoint *checkpoint)
{
    loader l = { .plan = plan, .model = (glm4v_model *)(uintptr_t)model };
    choose_staging(&l);
    number_shares(&l);
    return glm4v_pool_threads(model->pool) * buffer_bytes(&l) +
           glm4v_pool_threads(model->pool) * sizeof *l.turn + (plan->n + 1) * sizeof *l.first +
           (checkpoint ? glm4v_checkpoint_memory(checkpoint) : 0);
}

static int prepare(loader *l, int64_t n_threads, glm4v_error *err)
{
    l->first = glm4v_alloc(l->plan->n + 1, sizeof *l->first);
    if (!l->first)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to load the weights");
    choose_staging(l);
    number_shares(l);
    l->turn = glm4v_alloc(n_threads, sizeof *l->turn);
    if (!l->turn)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to load the weights");
    const int64_t n = n_threads * l->turns;
    const glm4v_backend_ops *ops = l->staging->ops;
    int rc = ops->staging_alloc(l->staging, (void **)&l->buffer,
                                n * l->buffer_floats * sizeof *l->buffer, err);
    return rc ? rc : ops->staging_alloc(l->staging, (void **)&l->codes, n * l->codes_size, err);
}

/* Matrices whose inputs are permuted get their order before their rows. */
static int set_orders(const loader *l, glm4v_error *err)
{
    int rc = 0;
    for (int64_t i = 0; !rc && i < l->plan->n; i++) {
        const glm4v_item *item = &l->plan->items[i];
        glm4v_backend *b = l->model->stages[item->stage].backend;
        if (item->order && (rc = b->ops->weight_order(b, item->to.linear, item->order)))
            rc = not_stored(item, rc, err);
    }
    return rc;
}

int glm4v_plan_load(const glm4v_plan *plan, glm4v_model *model, const glm4v_checkpoint *checkpoint,
                    const glm4v_model_options *options, glm4v_error *err)
{
    glm4v_pool *pool = model->pool;
    loader l = { .plan = plan,
                 .model = model,
                 .checkpoint = checkpoint,
                 .seed = options->random_seed,
                 .progress = options->progress,
                 .progress_user = options->progress_user,
                 .caller = pthread_self() };
    int rc = prepare(&l, glm4v_pool_threads(pool), err);
    if (!rc)
        rc = set_orders(&l, err);
    if (rc)
        goto done;
    pthread_mutex_init(&l.lock, NULL);
    pthread_mutex_init(&l.device, NULL);
    report(&l); /* others may take every piece */
    glm4v_pool_run(pool, l.first[plan->n], run_share, &l);
    pthread_mutex_destroy(&l.device);
    pthread_mutex_destroy(&l.lock);
    const int late = wait_for_fills(&l, glm4v_pool_threads(pool));
    if (late && !l.error.code)
        glm4v_fail(&l.error, late, "device %s could not store the weights", l.staging->device);
    rc = l.error.code;
    if (!rc && checkpoint)
        rc = glm4v_checkpoint_verify(checkpoint, &l.error);
    if (!rc && l.progress && l.progress(l.progress_user, plan->bytes, plan->bytes))
        rc = glm4v_fail(&l.error, GLM4V_ERR_CANCELED, "loading was canceled");
    if (rc && err)
        *err = l.error;
done:
    if (l.staging) {
        l.staging->ops->staging_free(l.staging, l.codes);
        l.staging->ops->staging_free(l.staging, l.buffer);
    }
    glm4v_free(l.turn);
    glm4v_free(l.first);
    return rc;
}
