/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See fake_cuda.h. One lock guards all of it, work that runs included. */
#include "fake_cuda.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLLS 2 /* of an event that say "not yet" */

typedef struct task {
    void (*fn)(void *args); /* NULL: wait for a stream */
    void *args;
    size_t bytes;
    cudaStream_t after;
    uint64_t ticket;
    struct task *next;
} task;

typedef struct {
    task *first, **last;
} task_list;

struct CUctx_st {
    int device, retained;
    bool reaches; /* the other device's memory */
};

struct CUstream_st {
    struct CUctx_st *context;
    task_list work;
    uint64_t submitted, done;
    bool captured;
    task_list graph;
};

struct CUevent_st {
    struct CUctx_st *context;
    cudaStream_t stream; /* NULL: never recorded */
    uint64_t ticket;
    int polls;
};

struct CUgraph_st {
    task_list work;
};

struct CUgraphExec_st {
    task_list work;
};

typedef struct block {
    char *at;
    size_t bytes;
    bool pinned;
    struct block *next;
} block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct CUctx_st contexts[FAKE_CUDA_DEVICES] = { { .device = 0 }, { .device = 1 } };
static block *blocks;
static fake_cuda_counts counts;
static size_t memory = (size_t)4 << 30;
static cudaError_t count_status;
static int n_devices = FAKE_CUDA_DEVICES;
static bool peers = true;
static cudaError_t refusal; /* of peer access */

static _Thread_local struct CUctx_st *current;
static _Thread_local int capturing; /* streams that this thread captures */
static _Thread_local enum cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;

static cudaError_t violation(const char *what, cudaError_t status)
{
    printf("# fake cuda: %s\n", what);
    counts.violations++;
    return status;
}

/* ---- for tests ---- */

fake_cuda_counts fake_cuda_count(void)
{
    pthread_mutex_lock(&lock);
    const fake_cuda_counts copy = counts;
    pthread_mutex_unlock(&lock);
    return copy;
}

void fake_cuda_set_memory(size_t bytes)
{
    pthread_mutex_lock(&lock);
    memory = bytes;
    pthread_mutex_unlock(&lock);
}

void fake_cuda_set_devices(cudaError_t status, int n)
{
    pthread_mutex_lock(&lock);
    count_status = status;
    n_devices = n;
    pthread_mutex_unlock(&lock);
}

void fake_cuda_set_peers(bool possible)
{
    pthread_mutex_lock(&lock);
    peers = possible;
    pthread_mutex_unlock(&lock);
}

void fake_cuda_refuse_peers(cudaError_t status)
{
    pthread_mutex_lock(&lock);
    refusal = status;
    pthread_mutex_unlock(&lock);
}

void fake_cuda_set_current(void *context)
{
    current = context;
}

void *fake_cuda_current(void)
{
    return current;
}

/* ---- the driver's functions ---- */

static int get_current(struct CUctx_st **context)
{
    *context = current;
    return 0;
}

static int set_current(struct CUctx_st *context)
{
    current = context;
    return 0;
}

static int get_device(int *device, int ordinal)
{
    *device = ordinal;
    return ordinal < FAKE_CUDA_DEVICES ? 0 : cudaErrorInvalidDevice;
}

static int retain(struct CUctx_st **context, int device)
{
    pthread_mutex_lock(&lock);
    counts.contexts += !contexts[device].retained++;
    *context = &contexts[device];
    pthread_mutex_unlock(&lock);
    return 0;
}

static int release(int device)
{
    pthread_mutex_lock(&lock);
    counts.contexts -= !--contexts[device].retained;
    contexts[device].reaches &= contexts[device].retained > 0;
    pthread_mutex_unlock(&lock);
    return 0;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function,
                                             unsigned int version, unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found)
{
    const struct {
        const char *name;
        void *function;
    } list[] = {
        { "cuCtxGetCurrent", (void *)get_current },
        { "cuCtxSetCurrent", (void *)set_current },
        { "cuDeviceGet", (void *)get_device },
        { "cuDevicePrimaryCtxRetain", (void *)retain },
        { "cuDevicePrimaryCtxRelease", (void *)release },
    };
    *found = cudaDriverEntryPointSymbolNotFound;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (!strcmp(list[i].name, name)) {
            *function = list[i].function;
            *found = cudaDriverEntryPointSuccess;
        }
    return cudaSuccess;
}

/* ---- errors and devices ---- */

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
#define GLM4V_FAKE_CUDA_ERROR(name, number)                                                        \
    case cudaError##name:                                                                          \
        return "cudaError" #name;
#include "errors.inc"
#undef GLM4V_FAKE_CUDA_ERROR
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory" : cudaGetErrorName(error);
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    pthread_mutex_lock(&lock);
    const cudaError_t status = count_status;
    *count = n_devices;
    pthread_mutex_unlock(&lock);
    return status;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *card, int device)
{
    *card = (struct cudaDeviceProp) { .major = 9, .multiProcessorCount = 4 };
    snprintf(card->name, sizeof card->name, "Fake %d", device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *possible, int device, int peer)
{
    pthread_mutex_lock(&lock);
    *possible = peers && device != peer;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

static cudaError_t enable_peer(int peer)
{
    if (!current || current->device == peer || !peers)
        return violation("access to a peer that there is none of", cudaErrorInvalidDevice);
    if (refusal != cudaSuccess)
        return refusal;
    if (current->reaches)
        return cudaErrorPeerAccessAlreadyEnabled;
    current->reaches = true;
    return cudaSuccess;
}

/* ---- work ---- */

static void append(task_list *list, task *t)
{
    if (!list->first)
        list->last = &list->first;
    *list->last = t;
    list->last = &t->next;
}

static void *copy_of(const void *x, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    if (!copy) {
        fprintf(stderr, "fake cuda: no memory\n");
        exit(1);
    }
    if (bytes)
        memcpy(copy, x, bytes);
    return copy;
}

static task *new_task(const task *t)
{
    task *fresh = copy_of(t, sizeof *t);
    fresh->args = copy_of(t->args, t->bytes);
    fresh->next = NULL;
    return fresh;
}

static void clear(task_list *list)
{
    while (list->first) {
        task *t = list->first;
        list->first = t->next;
        free(t->args);
        free(t);
    }
}

static void push(cudaStream_t stream, const task *t)
{
    if (stream->captured) {
        append(&stream->graph, new_task(t));
        return;
    }
    append(&stream->work, new_task(t));
    stream->submitted++;
}

/* Lock held. */
static void run_until(cudaStream_t stream, uint64_t ticket)
{
    while (stream->done < ticket && stream->work.first) {
        task *t = stream->work.first;
        stream->work.first = t->next;
        stream->done++;
        if (t->fn)
            t->fn(t->args);
        else
            run_until(t->after, t->ticket);
        free(t->args);
        free(t);
    }
}

/* Is this call on the stream right? Lock held. */
static cudaError_t check_stream(cudaStream_t stream)
{
    if (!current)
        return violation("a call without a context", cudaErrorDeviceUninitialized);
    if (!stream || stream->context != current)
        return violation("a stream of another context", cudaErrorInvalidResourceHandle);
    return cudaSuccess;
}

/* May this thread do what could wait? */
static cudaError_t check_waiting(void)
{
    if (!current)
        return violation("a call without a context", cudaErrorDeviceUninitialized);
    if (capturing && mode != cudaStreamCaptureModeRelaxed)
        return violation("a call that may wait while its thread captures",
                         cudaErrorStreamCaptureUnsupported);
    return cudaSuccess;
}

static cudaError_t launch(cudaStream_t stream, const task *t)
{
    const cudaError_t status = check_stream(stream);
    if (status == cudaSuccess)
        push(stream, t);
    return status;
}

cudaError_t fake_cuda_launch(cudaStream_t stream, void (*fn)(void *args), const void *args,
                             size_t bytes)
{
    const task t = { .fn = fn, .args = (void *)(uintptr_t)args, .bytes = bytes };
    pthread_mutex_lock(&lock);
    counts.launches++;
    const cudaError_t status = launch(stream, &t);
    pthread_mutex_unlock(&lock);
    return status;
}

/* ---- memory ---- */

static cudaError_t take(void **ptr, size_t bytes, bool pinned)
{
    cudaError_t status = check_waiting();
    if (status == cudaSuccess && !pinned && bytes > memory - counts.bytes)
        status = cudaErrorMemoryAllocation;
    block *b = status == cudaSuccess ? malloc(sizeof *b) : NULL;
    if (!b)
        return status == cudaSuccess ? cudaErrorMemoryAllocation : status;
    *b = (block) { .bytes = bytes, .pinned = pinned, .next = blocks };
    b->at = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!b->at) {
        free(b);
        return cudaErrorMemoryAllocation;
    }
    memset(b->at, 0xff, bytes);
    blocks = b;
    counts.allocations++;
    counts.blocks += !pinned;
    counts.pinned += pinned;
    counts.bytes += pinned ? 0 : bytes;
    *ptr = b->at;
    return cudaSuccess;
}

static cudaError_t give(void *ptr, bool pinned)
{
    cudaError_t status = check_waiting();
    for (block **b = &blocks; status == cudaSuccess && *b; b = &(*b)->next)
        if ((*b)->at == ptr && (*b)->pinned == pinned) {
            block *found = *b;
            *b = found->next;
            counts.blocks -= !pinned;
            counts.pinned -= pinned;
            counts.bytes -= pinned ? 0 : found->bytes;
            free(found->at);
            free(found);
            return cudaSuccess;
        }
    return status == cudaSuccess && ptr
               ? violation("memory that is not there is freed", cudaErrorInvalidValue)
               : status;
}

#define LOCKED(name, parameters, call)                                                             \
    cudaError_t name parameters                                                                    \
    {                                                                                              \
        pthread_mutex_lock(&lock);                                                                 \
        const cudaError_t status = call;                                                           \
        pthread_mutex_unlock(&lock);                                                               \
        return status;                                                                             \
    }

LOCKED(cudaDeviceEnablePeerAccess, (int peer, unsigned int flags), enable_peer(peer))
LOCKED(cudaMalloc, (void **ptr, size_t bytes), take(ptr, bytes, false))
LOCKED(cudaFree, (void *ptr), give(ptr, false))
LOCKED(cudaHostAlloc, (void **ptr, size_t bytes, unsigned int flags), take(ptr, bytes, true))
LOCKED(cudaFreeHost, (void *ptr), give(ptr, true))

cudaError_t cudaMemGetInfo(size_t *available, size_t *all)
{
    pthread_mutex_lock(&lock);
    *all = memory;
    *available = memory - counts.bytes;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

static const block *block_of(const void *ptr)
{
    for (const block *b = blocks; b; b = b->next)
        if ((const char *)ptr >= b->at && (const char *)ptr < b->at + b->bytes)
            return b;
    return NULL;
}

typedef struct {
    void *y;
    const void *x; /* NULL: what follows this struct */
    size_t bytes;
} copy_args;

static void run_copy(void *args)
{
    const copy_args *a = args;
    memmove(a->y, a->x ? a->x : a + 1, a->bytes);
}

/* Memory of the host that nobody locked: read now. */
static cudaError_t push_snapshot(cudaStream_t stream, const copy_args *a, const void *x)
{
    const size_t bytes = sizeof *a + a->bytes;
    copy_args *with = copy_of(a, sizeof *a);
    with = realloc(with, bytes);
    if (!with)
        return cudaErrorMemoryAllocation;
    memcpy(with + 1, x, a->bytes);
    const task t = { .fn = run_copy, .args = with, .bytes = bytes };
    const cudaError_t status = launch(stream, &t);
    free(with);
    return status;
}

static cudaError_t copy(void *y, const void *x, size_t bytes, cudaStream_t stream)
{
    const block *from = block_of(x), *to = block_of(y);
    copy_args a = { .y = y, .x = x, .bytes = bytes };
    const task t = { .fn = run_copy, .args = &a, .bytes = sizeof a };
    if ((from && bytes > from->bytes - (size_t)((const char *)x - from->at)) ||
        (to && bytes > to->bytes - (size_t)((const char *)y - to->at)))
        return violation("a copy beyond the end of a block", cudaErrorInvalidValue);
    if (stream && stream->captured && (!from || !to))
        return violation("a captured copy of memory that is not page-locked",
                         cudaErrorStreamCaptureUnsupported);
    if (!from) {
        a.x = NULL;
        return push_snapshot(stream, &a, x);
    }
    const cudaError_t status = launch(stream, &t);
    if (status == cudaSuccess && !to)
        run_until(stream, stream->submitted);
    return status;
}

LOCKED(cudaMemcpyAsync,
       (void *y, const void *x, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream),
       copy(y, x, bytes, stream))
LOCKED(cudaMemcpyPeerAsync,
       (void *y, int to, const void *x, int from, size_t bytes, cudaStream_t stream),
       copy(y, x, bytes, stream))

typedef struct {
    void *y;
    int value;
    size_t bytes;
} set_args;

static void run_set(void *args)
{
    const set_args *a = args;
    memset(a->y, a->value, a->bytes);
}

static cudaError_t set(void *y, int value, size_t bytes, cudaStream_t stream)
{
    set_args a = { y, value, bytes };
    const task t = { .fn = run_set, .args = &a, .bytes = sizeof a };
    return launch(stream, &t);
}

LOCKED(cudaMemsetAsync, (void *y, int value, size_t bytes, cudaStream_t stream),
       set(y, value, bytes, stream))

/* ---- streams ---- */

static cudaError_t open_stream(cudaStream_t *stream)
{
    if (!current)
        return violation("a stream without a context", cudaErrorDeviceUninitialized);
    cudaStream_t s = calloc(1, sizeof *s);
    if (!s)
        return cudaErrorMemoryAllocation;
    s->context = current;
    counts.streams++;
    *stream = s;
    return cudaSuccess;
}

LOCKED(cudaStreamCreateWithFlags, (cudaStream_t * stream, unsigned int flags), open_stream(stream))
LOCKED(cudaStreamCreateWithPriority, (cudaStream_t * stream, unsigned int flags, int priority),
       open_stream(stream))

/* What is left is done in the background; its memory may be gone: it is not run here. */
static cudaError_t close_stream(cudaStream_t stream)
{
    const cudaError_t status = check_stream(stream);
    if (status != cudaSuccess)
        return status;
    clear(&stream->work);
    clear(&stream->graph);
    free(stream);
    counts.streams--;
    return cudaSuccess;
}

LOCKED(cudaStreamDestroy, (cudaStream_t stream), close_stream(stream))

static cudaError_t wait_for(cudaStream_t stream)
{
    cudaError_t status = check_waiting();
    if (status == cudaSuccess)
        status = check_stream(stream);
    counts.waits++;
    if (status == cudaSuccess)
        run_until(stream, stream->submitted);
    return status;
}

LOCKED(cudaStreamSynchronize, (cudaStream_t stream), wait_for(stream))

static cudaError_t wait_behind(cudaStream_t stream, cudaEvent_t event)
{
    const task t = { .after = event->stream, .ticket = event->ticket };
    const cudaError_t status = check_stream(stream);
    if (status == cudaSuccess && event->stream)
        push(stream, &t);
    return status;
}

LOCKED(cudaStreamWaitEvent, (cudaStream_t stream, cudaEvent_t event, unsigned int flags),
       wait_behind(stream, event))

/* ---- events ---- */

static cudaError_t open_event(cudaEvent_t *event)
{
    if (!current)
        return violation("an event without a context", cudaErrorDeviceUninitialized);
    cudaEvent_t e = calloc(1, sizeof *e);
    if (!e)
        return cudaErrorMemoryAllocation;
    e->context = current;
    counts.events++;
    *event = e;
    return cudaSuccess;
}

LOCKED(cudaEventCreateWithFlags, (cudaEvent_t * event, unsigned int flags), open_event(event))
LOCKED(cudaEventCreate, (cudaEvent_t * event), open_event(event))

static cudaError_t close_event(cudaEvent_t event)
{
    free(event);
    counts.events--;
    return cudaSuccess;
}

LOCKED(cudaEventDestroy, (cudaEvent_t event), close_event(event))

static cudaError_t record(cudaEvent_t event, cudaStream_t stream)
{
    const cudaError_t status = check_stream(stream);
    if (status != cudaSuccess)
        return status;
    if (event->context != current || stream->captured)
        return violation("an event of another context, or while its stream is captured",
                         cudaErrorInvalidResourceHandle);
    event->stream = stream;
    event->ticket = stream->submitted;
    event->polls = POLLS;
    return cudaSuccess;
}

LOCKED(cudaEventRecord, (cudaEvent_t event, cudaStream_t stream), record(event, stream))

static cudaError_t look(cudaEvent_t event, bool wait)
{
    const cudaError_t status = check_waiting();
    counts.waits += wait;
    if (status != cudaSuccess || !event->stream)
        return status;
    if (!wait && event->polls) {
        event->polls--;
        return cudaErrorNotReady;
    }
    run_until(event->stream, event->ticket);
    return cudaSuccess;
}

/* A millisecond for every task between the two. */
static cudaError_t elapsed(float *ms, const struct CUevent_st *from, const struct CUevent_st *to)
{
    if (!from->stream || from->stream != to->stream)
        return violation("time between events of different streams", cudaErrorInvalidValue);
    if (to->stream->done < to->ticket)
        return cudaErrorNotReady;
    *ms = (float)(to->ticket - from->ticket);
    return cudaSuccess;
}

LOCKED(cudaEventElapsedTime, (float *ms, cudaEvent_t from, cudaEvent_t to), elapsed(ms, from, to))
LOCKED(cudaEventQuery, (cudaEvent_t event), look(event, false))
LOCKED(cudaEventSynchronize, (cudaEvent_t event), look(event, true))

/* ---- graphs ---- */

static cudaError_t begin_capture(cudaStream_t stream)
{
    const cudaError_t status = check_stream(stream);
    if (status != cudaSuccess)
        return status;
    if (stream->captured)
        return violation("a stream is captured twice", cudaErrorIllegalState);
    stream->captured = true;
    capturing++;
    return cudaSuccess;
}

LOCKED(cudaStreamBeginCapture, (cudaStream_t stream, enum cudaStreamCaptureMode wanted),
       begin_capture(stream))

static cudaError_t end_capture(cudaStream_t stream, cudaGraph_t *graph)
{
    const cudaError_t status = check_stream(stream);
    if (status != cudaSuccess)
        return status;
    if (!stream->captured)
        return violation("a stream that is not captured ends it", cudaErrorIllegalState);
    cudaGraph_t g = calloc(1, sizeof *g);
    stream->captured = false;
    capturing--;
    if (!g)
        return cudaErrorMemoryAllocation;
    g->work = stream->graph;
    stream->graph = (task_list) { 0 };
    counts.graphs++;
    *graph = g;
    return cudaSuccess;
}

LOCKED(cudaStreamEndCapture, (cudaStream_t stream, cudaGraph_t *graph), end_capture(stream, graph))

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *wanted)
{
    const enum cudaStreamCaptureMode before = mode;
    mode = *wanted;
    *wanted = before;
    return cudaSuccess;
}

static cudaError_t instantiate(cudaGraphExec_t *exec, cudaGraph_t graph)
{
    cudaGraphExec_t e = calloc(1, sizeof *e);
    if (!e)
        return cudaErrorMemoryAllocation;
    for (const task *t = graph->work.first; t; t = t->next)
        append(&e->work, new_task(t));
    counts.graphs++;
    *exec = e;
    return cudaSuccess;
}

LOCKED(cudaGraphInstantiate, (cudaGraphExec_t * exec, cudaGraph_t graph, unsigned long long flags),
       instantiate(exec, graph))

static cudaError_t launch_graph(cudaGraphExec_t exec, cudaStream_t stream)
{
    const cudaError_t status = check_stream(stream);
    for (const task *t = exec->work.first; status == cudaSuccess && t; t = t->next)
        push(stream, t);
    counts.graph_launches++;
    return status;
}

LOCKED(cudaGraphLaunch, (cudaGraphExec_t exec, cudaStream_t stream), launch_graph(exec, stream))

static cudaError_t close_tasks(task_list *list, void *object)
{
    clear(list);
    free(object);
    counts.graphs--;
    return cudaSuccess;
}

LOCKED(cudaGraphDestroy, (cudaGraph_t graph), close_tasks(&graph->work, graph))
LOCKED(cudaGraphExecDestroy, (cudaGraphExec_t exec), close_tasks(&exec->work, exec))
