/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The insides of the CUDA backend. Private to backend/cuda*.c. glm4v_gpu_* are the host's,
 * glm4v_cuda_* those of kernels/cuda and of cuda_check.h and cuda_context.h.
 *
 * Streams: one a queue; one for fills of weights; one for the copies that are done when they
 * return;
 * one a step object of decode, on which its steps are captured, so that what other threads put on
 * the queue meanwhile is not.
 *
 * Scratch of a queue belongs to one operation after the other, as its stream has them in order. It
 * grows when an operation needs more; what decode had before stays until close, because captured
 * steps point there. */
#ifndef GLM4V_ENGINE_BACKEND_CUDA_PRIV_H
#define GLM4V_ENGINE_BACKEND_CUDA_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "backend/backend.h"
#include "backend/cuda_check.h"
#include "backend/cuda_context.h"
#include "cuda/attention.h"
#include "cuda/pixels.h"
#include "cuda/product.h"
#include "cuda/rows.h"
#include "cuda/sample.h"
#include "cuda/step.h"

#define GLM4V_GPU_SLAB 4096 /* rows of a prefill product that are rounded at a time */
#define GLM4V_GPU_STAGING                                                                          \
    ((size_t)8 << 20) /* bytes of a fill, or of numbers converted, at a time */

typedef enum {
    GLM4V_GPU_ROUNDED_Q,
    GLM4V_GPU_ROUNDED_SCALE,
    GLM4V_GPU_ATTENTION,
    GLM4V_GPU_SAMPLE,
    GLM4V_GPU_CONVERT, /* f32 on their way to or from activations */
    GLM4V_GPU_PICTURE, /* pictures of the host */
    GLM4V_GPU_RESIZE,
    GLM4V_GPU_N_SCRATCH
} glm4v_gpu_scratch;

typedef struct glm4v_gpu_old {
    void *ptr;
    struct glm4v_gpu_old *next;
} glm4v_gpu_old;

typedef struct {
    cudaStream_t stream;
    cudaEvent_t sent; /* behind what another device reads */
    pthread_mutex_t
        lock; /* guards the rest; held while an operation that uses scratch is launched */
    struct {
        void *ptr;
        size_t bytes;
    } scratch[GLM4V_GPU_N_SCRATCH];
    glm4v_gpu_old *old;          /* scratch of decode that was too small */
    glm4v_cuda_prefill *prefill; /* NULL until the first product of a prefill */
    uint64_t fills;              /* the queue is behind so many */
    struct {           /* what scratch for rounded activations holds, if it is an attention's o */
        const void *o; /* NULL: it is not */
        const void *step;
        int64_t rows, n;
        glm4v_cuda_rounded rounded;
    } attended;
} glm4v_gpu_queue;

#define GLM4V_GPU_RANGES 512 /* of host memory that fills read, remembered */
#define GLM4V_GPU_MARKS 32

/* Fills of weights: one stream, so that their staging memory serves one after the other. */
typedef struct {
    cudaStream_t stream;
    pthread_mutex_t lock; /* guards the rest */
    void *staging;        /* GLM4V_GPU_STAGING, or one row */
    size_t bytes;
    uint64_t count;                    /* fills so far */
    cudaEvent_t read[GLM4V_GPU_MARKS]; /* fill n has read its rows; later ones reuse them */
    cudaEvent_t packed;                /* all are in their places */
    struct {
        uintptr_t from, to;
        uint64_t fill;
    } range[GLM4V_GPU_RANGES]; /* of fill n: number n % RANGES */
} glm4v_gpu_fills;

/* The table of algorithms for prefill products, of one kind of GPU and one cuBLASLt. */
typedef struct {
    char gpu[64];
    uint64_t version;
    glm4v_cuda_choice choice[GLM4V_CUDA_CHOICES];
    int n;
    bool tune;     /* it is being made */
    char hash[17]; /* "" then */
} glm4v_gpu_products;

typedef struct {
    glm4v_backend base;
    glm4v_backend_traits traits;
    glm4v_cuda_context context;
    char isa[96], device[16];
    glm4v_gpu_products products;
    glm4v_gpu_queue queue[GLM4V_N_QUEUES];
    glm4v_gpu_fills fills;

    pthread_mutex_t copies; /* guards copy and pinned */
    cudaStream_t copy;
    void *pinned; /* GLM4V_GPU_STAGING */

    struct { /* pictures of the host on their way; guarded by the lock of prefill's queue */
        cudaStream_t stream;
        void *pinned;
        size_t bytes;
        cudaEvent_t read; /* the one before is on the device */
        cudaEvent_t used; /* and its patches are made: the memory there is free */
    } picture;

    char *room; /* of the weights of a model, handed out from the front; or NULL */
    size_t room_bytes, room_used;

    atomic_int failed;    /* GLM4V_ERR_DEVICE for good, or 0 */
    pthread_mutex_t text; /* guards failure */
    char failure[256];
} glm4v_gpu_backend;

#define GLM4V_GPU_RING 4 /* steps whose data the host may have handed over before they run */

typedef enum {
    GLM4V_GPU_AT_ONCE, /* operations go to the queue */
    GLM4V_GPU_CAPTURE, /* they are captured */
    GLM4V_GPU_REPLAY,  /* there are none */
} glm4v_gpu_mode;

/* Steps of one key. The first is run as it is called, so that all that loads or grows has done so;
 * the second is captured; the others are replayed, if what is compared here is the same. */
typedef struct {
    uint64_t key;
    cudaGraphExec_t graph; /* NULL: not captured yet */
    const int32_t *sampled;
    glm4v_rotary rotary;
    int64_t rows, n_outputs;
    bool draws;
    bool refused; /* could not be captured: run as they are called */
} glm4v_gpu_key;

typedef struct {
    glm4v_step base;
    glm4v_gpu_queue *queue;
    cudaStream_t stream;  /* where operations go: the queue's, or capture */
    cudaStream_t capture; /* of steps of decode; else NULL */
    glm4v_gpu_mode mode;
    glm4v_gpu_key *keys;
    size_t n_keys, key_room, key; /* key: number of the open step's, n_keys: none */

    void *device, *pinned; /* one block each; pinned: GLM4V_GPU_RING times `copied` */
    size_t copied;         /* bytes that go from pinned to device */
    struct {
        cudaEvent_t read; /* the copy is done */
        bool used;
    } ring[GLM4V_GPU_RING];
    uint32_t next;
    cudaEvent_t begun, ended; /* around the last step, if it is timed; else NULL */

    /* of the step that is open */
    glm4v_cuda_step_data data; /* in device */
    int32_t *ids_out;          /* in device: [outputs] */
    int64_t rows, n_spans, n_places, n_outputs;
    glm4v_step_span *spans; /* [size.spans], host */
    const float *cos, *sin; /* of row 0: data's, or the tables' */
    int64_t n_freq;
    bool half;
    const int32_t *sampled;
    struct {     /* x += branch or norm(branch), which waits for the norm of x that follows */
        void *x; /* NULL: nothing waits */
        void *branch;
        glm4v_norm norm; /* w NULL: none */
        int64_t rows, n;
        glm4v_cuda_sums sums; /* what makes numbers of the branch; sums NULL: they are numbers */
    } residual;
    struct {       /* act = silu(gate) * up, which waits for the product that follows */
        void *act; /* NULL: nothing waits */
        glm4v_cuda_sums sums;
    } gate;
    struct {     /* a product's result, whose sums wait for the rotation that follows */
        void *y; /* NULL: nothing waits */
        int64_t ldy;
        glm4v_cuda_sums sums;
    } numbers;
    float *row_scale; /* in device, of prefill, [2][size.rows]: scales of rows rounded to e4m3, of
                         the operation before and of this one */
    int turn;         /* which of them is this one's */
} glm4v_gpu_step;

static inline glm4v_gpu_backend *glm4v_gpu(glm4v_backend *b)
{
    return (glm4v_gpu_backend *)b;
}

static inline glm4v_gpu_step *glm4v_gpu_step_of(glm4v_step *s)
{
    return (glm4v_gpu_step *)s;
}

static inline size_t glm4v_gpu_round_up(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* cuda_failure.c. Kernels take dimensions of 32 bits. Those of a matrix, a table, keys and values
 * or a step are checked when it is opened, the others by the operation that is given them. */
bool glm4v_gpu_fits(const int64_t *numbers, size_t n);
#define GLM4V_GPU_FITS(...)                                                                        \
    glm4v_gpu_fits((const int64_t[]) { __VA_ARGS__ },                                              \
                   sizeof((const int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t))
/* One that was checked. */
static inline int32_t glm4v_gpu_i32(int64_t n)
{
    return (int32_t)n;
}

/* Is the backend usable, and does what an operation was given fit? 0, DEVICE, INVALID. */
int glm4v_gpu_begin(glm4v_gpu_backend *g, bool fits);

/* cuda_failure.c. check: the code of a status, whose text becomes that of the last failure; `what`
 * names the call. A status that ends the context ends the backend. usable: 0, or the code for
 * good. */
int glm4v_gpu_check(glm4v_gpu_backend *g, cudaError_t status, const char *what);
int glm4v_gpu_usable(glm4v_gpu_backend *g);
/* Fill err with code and the last failure's text behind what was tried. */
int glm4v_gpu_fail(glm4v_gpu_backend *g, glm4v_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void glm4v_gpu_failure(glm4v_backend *b, char *text, size_t size);
/* Note a failure that CUDA does not know of. */
int glm4v_gpu_refuse(glm4v_gpu_backend *g, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* cuda_memory.c. The context is current, as for all below. take: NULL and NOMEM, or the device. */
int glm4v_gpu_take(glm4v_gpu_backend *g, void **ptr, size_t bytes);
void glm4v_gpu_give(glm4v_gpu_backend *g, void *ptr);
int glm4v_gpu_take_pinned(glm4v_gpu_backend *g, void **ptr, size_t bytes);
void glm4v_gpu_give_pinned(glm4v_gpu_backend *g, void *ptr);
/* Any two of host and device, in the order of the stream. */
int glm4v_gpu_copy_async(glm4v_gpu_backend *g, void *y, const void *x, size_t bytes,
                         cudaStream_t stream);
int glm4v_gpu_event_open_raw(glm4v_gpu_backend *g, cudaEvent_t *event);
/* Of a device that failed: wait for what may still read or write memory that is about to go. */
void glm4v_gpu_settle(cudaStream_t stream);
int glm4v_gpu_record(glm4v_gpu_backend *g, cudaEvent_t event, cudaStream_t stream);
int glm4v_gpu_wait(glm4v_gpu_backend *g, cudaStream_t stream, cudaEvent_t event);

/* cuda_time.c. Events around the work of a step that is timed; nothing of one that is not. The
 * time of a step that ended is known when both are reached. */
int glm4v_gpu_time_open(glm4v_gpu_step *s);
void glm4v_gpu_time_close(glm4v_gpu_step *s);
int glm4v_gpu_time_begin(glm4v_gpu_step *s);
int glm4v_gpu_time_end(glm4v_gpu_step *s);

/* cuda_scratch.c. Queue's lock held: `bytes` of scratch. */
int glm4v_gpu_scratch_of(glm4v_gpu_backend *g, glm4v_gpu_queue *q, glm4v_gpu_scratch which,
                         size_t bytes, void **ptr);
/* What products of prefill need; once, when the backend is opened. */
int glm4v_gpu_prefill_open(glm4v_gpu_backend *g, glm4v_gpu_queue *q);
/* Both; the table of products is written before, where it is being made. */
void glm4v_gpu_scratch_close(glm4v_gpu_backend *g, glm4v_gpu_queue *q);

/* cuda_choices.c. The table that the environment names, or an empty one, for the GPU of this name.
 * IO, FORMAT, DEVICE, NOMEM */
int glm4v_gpu_read_products(glm4v_gpu_backend *g, const char *gpu, glm4v_error *err);
/* Writes what a queue's products have chosen, where the table is being made. A failure is logged.
 */
void glm4v_gpu_write_products(const glm4v_gpu_backend *g, const glm4v_gpu_queue *q);

/* cuda_weights.c. The queue's later work stands behind the fills so far. */
int glm4v_gpu_behind_fills(glm4v_gpu_backend *g, glm4v_gpu_queue *q);
glm4v_cuda_matrix glm4v_gpu_matrix(const glm4v_weight *w);

/* cuda_product.c. Queue's lock held: scratch for rounded activations. */
int glm4v_gpu_take_rounded(glm4v_gpu_backend *g, glm4v_gpu_queue *q, int64_t rows, int64_t n_in,
                           glm4v_cuda_rounded *rounded);

/* cuda_left.c. Do what an operation left to the next one: before an operation that may see it. */
int glm4v_gpu_catch_up(glm4v_gpu_step *s);
/* The rotation takes the sums that wait in its x, or what waits is done. */
int glm4v_gpu_take_sums(glm4v_gpu_step *s, glm4v_cuda_rope *rope);

/* The code of a launcher's status. `call` is not made where a fault is injected. */
#define GLM4V_GPU_LAUNCH(g, what, call)                                                            \
    glm4v_gpu_check(g, glm4v_cuda_injected(GLM4V_CUDA_AT_LAUNCH) ?: (call), what)

/* ---- entries of the table ---- */

uint64_t glm4v_gpu_available(glm4v_backend *b);
int glm4v_gpu_alloc(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err);
void glm4v_gpu_free(glm4v_backend *b, void *ptr);
int glm4v_gpu_staging_alloc(glm4v_backend *b, void **ptr, size_t bytes, glm4v_error *err);
void glm4v_gpu_staging_free(glm4v_backend *b, void *ptr);
int glm4v_gpu_upload(glm4v_backend *b, void *y, const float *host, int64_t n);
int glm4v_gpu_download(glm4v_backend *b, float *host, const void *x, int64_t n);
int glm4v_gpu_write(glm4v_backend *b, void *y, const void *host, size_t bytes);
int glm4v_gpu_copy(glm4v_backend *b, void *y, const void *x, size_t bytes);
int glm4v_gpu_link(glm4v_backend *b, glm4v_backend *from, const char **how);
int glm4v_gpu_copy_from(glm4v_backend *b, glm4v_queue q, void *y, glm4v_backend *from,
                        const void *x, int64_t n);
int glm4v_gpu_event_open(glm4v_backend *b, glm4v_event **event, glm4v_error *err);
void glm4v_gpu_event_close(glm4v_backend *b, glm4v_event *event);
int glm4v_gpu_event_record(glm4v_backend *b, glm4v_queue q, glm4v_event *event);
int glm4v_gpu_queue_wait(glm4v_backend *b, glm4v_queue q, glm4v_event *event);
int glm4v_gpu_event_done(glm4v_backend *b, glm4v_event *event);
int glm4v_gpu_sync(glm4v_backend *b, glm4v_event *event);

int glm4v_gpu_weights_reserve(glm4v_backend *b, uint64_t bytes, glm4v_error *err);
uint64_t glm4v_gpu_weight_bytes(glm4v_backend *b, const glm4v_weight_kind *kind);
int glm4v_gpu_weight_alloc(glm4v_backend *b, glm4v_weight *w, const glm4v_weight_kind *kind,
                           glm4v_error *err);
int glm4v_gpu_weight_fill(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                          const float *rows);
int glm4v_gpu_weight_fill_codes(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                                const glm4v_codes *codes);
int glm4v_gpu_weight_fill_bf16(glm4v_backend *b, glm4v_weight *w, int64_t row, int64_t n,
                               const uint16_t *rows);
int glm4v_gpu_weight_fill_random(glm4v_backend *b, glm4v_weight *w, const glm4v_random *random);
int glm4v_gpu_weight_order(glm4v_backend *b, glm4v_weight *w, const int32_t *order);
void glm4v_gpu_weight_free(glm4v_backend *b, glm4v_weight *w);
uint64_t glm4v_gpu_table_bytes(glm4v_backend *b, glm4v_form form, int64_t n_rows, int64_t n_cols);
int glm4v_gpu_table_alloc(glm4v_backend *b, glm4v_table *t, glm4v_form form, int64_t n_rows,
                          int64_t n_cols, glm4v_error *err);
int glm4v_gpu_table_fill(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                         const float *rows);
int glm4v_gpu_table_fill_codes(glm4v_backend *b, glm4v_table *t, int64_t row, int64_t n,
                               const glm4v_codes *codes);
int glm4v_gpu_table_fill_random(glm4v_backend *b, glm4v_table *t, const glm4v_random *random);
void glm4v_gpu_table_free(glm4v_backend *b, glm4v_table *t);
int glm4v_gpu_fills_wait(glm4v_backend *b, const void *from, size_t bytes);

uint64_t glm4v_gpu_kv_bytes(glm4v_backend *b, const glm4v_kv_shape *shape);
int glm4v_gpu_kv_open(glm4v_backend *b, glm4v_kv *kv, const glm4v_kv_shape *shape,
                      glm4v_error *err);
void glm4v_gpu_kv_close(glm4v_backend *b, glm4v_kv *kv);
int glm4v_gpu_kv_copy(glm4v_backend *b, glm4v_queue q, glm4v_kv *kv, int64_t to, int64_t from,
                      int64_t n);
/* As the kernels see it. */
glm4v_cuda_kv glm4v_gpu_kv_of(const glm4v_kv *kv);

int glm4v_gpu_reserve(glm4v_backend *b, const glm4v_scratch_need *need, glm4v_error *err);
void glm4v_gpu_scratch_bytes(glm4v_backend *b, const glm4v_scratch_need *need, uint64_t *product,
                             uint64_t *attention);
uint64_t glm4v_gpu_attend_all_bytes(glm4v_backend *b, int64_t rows, int64_t heads,
                                    int64_t head_dim);

uint64_t glm4v_gpu_step_bytes(glm4v_backend *b, const glm4v_step_size *size);
int glm4v_gpu_step_open(glm4v_backend *b, glm4v_step **step, const glm4v_step_size *size,
                        glm4v_error *err);
void glm4v_gpu_step_close(glm4v_step *step);
int glm4v_gpu_step_begin(glm4v_step *step, const glm4v_step_rows *rows, bool *replayed);
int glm4v_gpu_step_flush(glm4v_step *step);
int glm4v_gpu_step_end(glm4v_step *step);
void glm4v_gpu_step_drop(glm4v_step *step);
uint64_t glm4v_gpu_step_time(glm4v_step *step);

int glm4v_gpu_step_upload(glm4v_step *s, void *y, const float *host, int64_t n);
int glm4v_gpu_step_download(glm4v_step *s, float *host, const void *x, int64_t n);
int glm4v_gpu_step_copy(glm4v_step *s, void *y, const void *x, size_t bytes);
int glm4v_gpu_embed(glm4v_step *s, void *y, const glm4v_table *t);
int glm4v_gpu_product(glm4v_step *s, const glm4v_product *p);
int glm4v_gpu_logits(glm4v_step *s, const glm4v_product *p);
int glm4v_gpu_norm(glm4v_step *s, const glm4v_norm_rows *n);
int glm4v_gpu_silu_mul(glm4v_step *s, void *y, const void *x, int64_t rows, int64_t n);
int glm4v_gpu_gelu(glm4v_step *s, void *x, int64_t n);
int glm4v_gpu_add(glm4v_step *s, void *y, const void *x, int64_t n);
int glm4v_gpu_scale(glm4v_step *s, void *x, float factor, int64_t n);
int glm4v_gpu_rope(glm4v_step *s, const glm4v_rope *r);
int glm4v_gpu_append(glm4v_step *s, const glm4v_append *a);
int glm4v_gpu_attend(glm4v_step *s, const glm4v_attend *a);
int glm4v_gpu_attend_all(glm4v_step *s, const glm4v_attend_all *a);
int glm4v_gpu_place_rows(glm4v_step *s, void *y, const void *x, int64_t n_cols);
int glm4v_gpu_take_rows(glm4v_step *s, void *y, const void *x, int64_t n_cols);
int glm4v_gpu_sample_tokens(glm4v_step *s, const glm4v_sample *a);
int glm4v_gpu_norm_product(glm4v_step *s, const glm4v_norm_product *p);
int glm4v_gpu_qkv(glm4v_step *s, const glm4v_qkv *p);
int glm4v_gpu_gate_up(glm4v_step *s, const glm4v_gate_up *p);
int glm4v_gpu_product_add(glm4v_step *s, const glm4v_product_add *p);
bool glm4v_gpu_takes(glm4v_backend *b, const glm4v_image *image);
int glm4v_gpu_preprocess(glm4v_step *s, void *patches, const glm4v_pixels *p);

#endif
