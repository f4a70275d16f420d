/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Choosing tokens, in three kernels: CHUNKS blocks a row penalize, mask and find the largest logit
 * of a part; with a temperature they weigh each candidate by exp((logit - largest) / temperature);
 * a block a row chooses. Greedy rows are done with the first and a few instructions of the third.
 *
 * Bounded draws (top-k, top-p) ask up to three times for a candidate in the order of the best:
 * the k-th, the one with which the weights reach top-p of all, the one that the random number
 * falls on. Candidates are numbered by logit, descending, then id. The second kernel counts and
 * weighs them in bins of the distance from the largest logit; the bin with the answer, and as
 * many before it as fit, are sorted in shared memory. A bin with more candidates than fit is
 * divided again, by finer distances, then by bits of the number, so that no distribution takes
 * more than a few passes over the logits. Weights of bounded draws are whole numbers, units of
 * 2^-63 times the vocabulary, so that no order of additions matters; those of the other draws are
 * double, added in an order that depends on the vocabulary only.
 *
 * Measured on an H200, 151552 logits: docs/perf-log.md. Slower where many candidates are kept:
 * batches of 1024, the best first, each found by digits. */
#include "sample.h"
#include "vector.cuh"

constexpr int CHUNKS = 32, PART_THREADS = 256, THREADS = 1024, BATCH = 1024;
constexpr int BINS = 2048, BIN_BITS = 11;
constexpr int AHEAD = 8;        /* logits that a thread loads at a time */
constexpr uint64_t BAD = ~0ull; /* no key of a finite logit */

struct sampling {
    glm4v_cuda_step_data step;
    glm4v_cuda_sample s;
    uint64_t *best;   /* [n][CHUNKS] largest key of a part, or BAD */
    double *sum;      /* [n][CHUNKS] weights of a part; draws without bounds */
    uint64_t *weight; /* [n][BINS] weights by distance from the largest logit; bounded draws */
    uint32_t *count;  /* [n][BINS] candidates likewise */
};

/* Order of floats as that of unsigned numbers; -0 is 0. */
static __device__ uint32_t ordered(float x)
{
    const uint32_t bits = __float_as_uint(x + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static __device__ float from_ordered(uint32_t x)
{
    return __uint_as_float(x >> 31 ? x & 0x7fffffffu : ~x);
}

/* Larger: the larger logit, of equals the lower id. */
static __device__ uint64_t key_of(float logit, int32_t id)
{
    return (uint64_t)ordered(logit) << 32 | (uint32_t)~id;
}

static __device__ int32_t id_of(uint64_t key)
{
    return (int32_t) ~(uint32_t)key;
}

static __device__ float logit_of(uint64_t key)
{
    return from_ordered((uint32_t)(key >> 32));
}

static __device__ uint64_t warp_largest(uint64_t key)
{
#pragma unroll
    for (int distance = 16; distance; distance /= 2)
        key = max(key, __shfl_xor_sync(~0u, key, distance));
    return key;
}

/* Over a block of N threads, in all of them. */
template <int N> static __device__ uint64_t block_largest(uint64_t key)
{
    __shared__ uint64_t partial[32];
    key = warp_largest(key);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = key;
    __syncthreads();
    return warp_largest(threadIdx.x % 32 < N / 32 ? partial[threadIdx.x % 32] : 0);
}

/* Logits of ids first, first + step, ... below end; -inf beyond. */
static __device__ __forceinline__ void load_ahead(float (&x)[AHEAD], const float *logits,
                                                  int32_t first, int32_t end, int32_t step)
{
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        x[i] = first + i * step < end ? __ldcg(logits + first + i * step) : -INFINITY;
}

/* ---- first kernel ---- */

static __host__ __device__ int32_t words_of(int32_t vocab)
{
    return vocab / 64 + 1;
}

/* Words of bit sets that a part covers. */
static __host__ __device__ int32_t part_words(int32_t vocab)
{
    return (words_of(vocab) + CHUNKS - 1) / CHUNKS;
}

struct part {
    int32_t first, end; /* ids */
    __device__ part(int32_t vocab)
        : first(min((int32_t)blockIdx.x * part_words(vocab) * 64, vocab)),
          end(min(first + part_words(vocab) * 64, vocab))
    {
    }
};

/* Id of a row of the step. */
static __device__ int32_t row_id(const sampling &a, int32_t row)
{
    const int32_t id = a.step.ids[row];
    return id == INT32_MIN ? a.s.sampled[a.step.slot[row]] : id;
}

/* seen [part_words] in shared memory: the part's words, and ids of the sequence's rows up to the
 * output row. */
static __device__ void load_seen(uint32_t *seen, const sampling &a, const glm4v_cuda_draw &draw,
                                 const part &p)
{
    const int32_t output = a.step.outputs[blockIdx.y], words = part_words(a.s.vocab);
    const uint64_t *from = a.s.seen + (int64_t)draw.slot * words_of(a.s.vocab) + p.first / 64;
    for (int32_t i = threadIdx.x; i < words; i += PART_THREADS) {
        const uint64_t word = p.first + 64 * i <= p.end && p.first < p.end ? from[i] : 0;
        seen[2 * i] = (uint32_t)word;
        seen[2 * i + 1] = (uint32_t)(word >> 32);
    }
    __syncthreads();
    for (int32_t row = threadIdx.x; row <= output; row += PART_THREADS) {
        const int32_t id = row_id(a, row);
        if (a.step.slot[row] == draw.slot && id >= p.first && id < p.end)
            atomicOr(&seen[(id - p.first) / 32], 1u << ((id - p.first) % 32));
    }
    __syncthreads();
}

static __device__ float adjusted(float x, bool seen, bool masked, float penalty)
{
    if (seen)
        x = x < 0 ? x * penalty : x / penalty;
    return masked ? -INFINITY : x;
}

/* Block (part, row). */
static __global__ void __launch_bounds__(PART_THREADS) prepare_kernel(const sampling a)
{
    extern __shared__ uint32_t seen[];
    let_next_begin();
    const part p(a.s.vocab);
    const int64_t row = blockIdx.y;
    float *logits = a.s.logits + row * a.s.vocab;
    uint64_t best = 0;
    wait_for_earlier();
    const glm4v_cuda_draw draw = a.step.draws[row];
    const bool penalize = draw.penalty != 1, mask = draw.mask >= 0;
    const uint64_t *masks = a.s.masks + (mask ? (int64_t)draw.mask * words_of(a.s.vocab) : 0);
    if (penalize)
        load_seen(seen, a, draw, p);
    for (int32_t at = p.first + (int32_t)threadIdx.x; at < p.end; at += AHEAD * PART_THREADS) {
        float x[AHEAD];
        load_ahead(x, logits, at, p.end, PART_THREADS);
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int32_t id = at + k * PART_THREADS, i = id - p.first;
            if (id >= p.end)
                break;
            const float y = adjusted(x[k], penalize && seen[i / 32] >> (i % 32) & 1,
                                     mask && masks[id / 64] >> (id % 64) & 1, draw.penalty);
            best = max(best, isfinite(x[k]) ? key_of(y, id) : BAD);
            if (penalize || mask)
                logits[id] = y;
        }
    }
    best = block_largest<PART_THREADS>(best);
    if (threadIdx.x == 0)
        a.best[row * CHUNKS + blockIdx.x] = best;
    if (threadIdx.x < BINS / CHUNKS) {
        const int64_t bin = row * BINS + blockIdx.x * (BINS / CHUNKS) + threadIdx.x;
        a.count[bin] = 0;
        a.weight[bin] = 0;
    }
}

/* ---- second kernel ---- */

/* The row's largest key, or BAD: in all lanes of a warp. */
static __device__ uint64_t row_best(const sampling &a, int64_t row)
{
    static_assert(CHUNKS == 32, "a lane a part");
    return warp_largest(a.best[row * CHUNKS + threadIdx.x % 32]);
}

/* The ids of a sequence's rows up to the output row, for later steps. */
static __device__ void keep_seen(const sampling &a, int32_t slot, int32_t output)
{
    unsigned long long *seen = (unsigned long long *)a.s.seen + (int64_t)slot * words_of(a.s.vocab);
    for (int32_t row = threadIdx.x; row <= output; row += PART_THREADS) {
        const int32_t id = row_id(a, row);
        if (a.step.slot[row] == slot && id >= 0 && id < a.s.vocab)
            atomicOr(&seen[id / 64], 1ull << (id % 64));
    }
}

static __device__ double weight_of(float logit, float largest, double temperature)
{
    return exp((double)(logit - largest) / temperature);
}

/* A weight as a whole number: the sum over a vocabulary is below 2^64. */
static __device__ uint64_t whole_weight(float logit, float largest, double temperature,
                                        int32_t vocab)
{
    const double unit = ldexp(1.0, 31 + __clz(vocab));
    return __double2ull_rn(weight_of(logit, largest, temperature) * unit);
}

/* 32 bins for 1; the last one has all beyond. */
static __device__ int bin_of(float logit, float largest)
{
    return (int)fminf((largest - logit) * 32, BINS - 1);
}

/* 2048 parts of a bin, but of the last one: 0. */
static __device__ int part_of(float logit, float largest, int bin)
{
    const float within = (largest - logit) * 32 - (float)bin;
    return bin == BINS - 1 ? 0 : (int)fminf(fmaxf(within, 0) * BINS, BINS - 1);
}

static __device__ double warp_sum(double x)
{
#pragma unroll
    for (int distance = 16; distance; distance /= 2)
        x += __shfl_xor_sync(~0u, x, distance);
    return x;
}

/* Counts and weights of bins, in shared memory. */
struct histogram {
    uint64_t weight[BINS];
    uint32_t count[BINS];

    __device__ void clear()
    {
        for (int i = threadIdx.x; i < BINS; i += blockDim.x)
            weight[i] = count[i] = 0;
        __syncthreads();
    }

    __device__ void add(int bin, uint64_t w)
    {
        atomicAdd(&count[bin], 1u);
        atomicAdd((unsigned long long *)&weight[bin], (unsigned long long)w);
    }
};

/* The part's candidates to the row's bins. */
static __device__ void weigh_bins(histogram &bins, const sampling &a, const part &p, int64_t row,
                                  float largest)
{
    const float *logits = a.s.logits + row * a.s.vocab;
    const double temperature = a.step.draws[row].temperature;
    bins.clear();
    for (int32_t at = p.first + (int32_t)threadIdx.x; at < p.end; at += AHEAD * PART_THREADS) {
        float x[AHEAD];
        load_ahead(x, logits, at, p.end, PART_THREADS);
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            if (x[k] > -INFINITY)
                bins.add(bin_of(x[k], largest),
                         whole_weight(x[k], largest, temperature, a.s.vocab));
    }
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += PART_THREADS) {
        if (!bins.count[i])
            continue;
        atomicAdd(&a.count[row * BINS + i], bins.count[i]);
        atomicAdd((unsigned long long *)&a.weight[row * BINS + i],
                  (unsigned long long)bins.weight[i]);
    }
}

/* The part's sum of weights. */
static __device__ void weigh_part(const sampling &a, const part &p, int64_t row, float largest)
{
    __shared__ double partial[PART_THREADS / 32];
    const float *logits = a.s.logits + row * a.s.vocab;
    const double temperature = a.step.draws[row].temperature;
    double sum = 0;
    for (int32_t at = p.first + (int32_t)threadIdx.x; at < p.end; at += AHEAD * PART_THREADS) {
        float x[AHEAD];
        load_ahead(x, logits, at, p.end, PART_THREADS);
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            if (x[k] > -INFINITY)
                sum += weight_of(x[k], largest, temperature);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < PART_THREADS / 32; i++)
        sum += partial[i];
    if (threadIdx.x == 0)
        a.sum[row * CHUNKS + blockIdx.x] = sum;
}

static __device__ bool is_bounded(const glm4v_cuda_draw &draw)
{
    return draw.top_k || draw.top_p < 1;
}

/* Block (part, row). */
static __global__ void __launch_bounds__(PART_THREADS) weigh_kernel(const sampling a)
{
    __shared__ histogram bins;
    let_next_begin();
    const part p(a.s.vocab);
    const int64_t row = blockIdx.y;
    wait_for_earlier();
    const glm4v_cuda_draw draw = a.step.draws[row];
    const uint64_t best = row_best(a, row);
    if (blockIdx.x == 0 && draw.penalty != 1)
        keep_seen(a, draw.slot, a.step.outputs[row]);
    if (!(draw.temperature > 0) || best == BAD)
        return;
    if (is_bounded(draw))
        weigh_bins(bins, a, p, row, logit_of(best));
    else
        weigh_part(a, p, row, logit_of(best));
}

/* ---- third kernel ---- */

static __device__ uint32_t random_bits(uint64_t *state)
{
    const uint64_t s = *state;
    *state = s * 6364136223846793005u + 1442695040888963407u;
    const uint32_t mixed = (uint32_t)(((s >> 18) ^ s) >> 27), rotate = (uint32_t)(s >> 59);
    return __funnelshift_r(mixed, mixed, rotate);
}

/* In [0, 1), 53 bits: random_unit of forward/sample.c. */
static __device__ double random_unit(uint64_t state)
{
    const uint64_t high = random_bits(&state) >> 5, low = random_bits(&state) >> 6;
    return (double)((high << 26) | low) * 0x1p-53;
}

/* Candidates before a place in the order of the best, and their weights. */
struct mark {
    uint32_t count;
    uint64_t weight;
};

static __device__ mark operator+(const mark &a, const mark &b)
{
    return { a.count + b.count, a.weight + b.weight };
}

/* Candidates of a row: with numbers, bins, and parts of bins from the first up to the last. */
struct range {
    uint64_t first, last;
    int first_bin, last_bin, first_part, last_part;
};

/* What a block needs to draw; in shared memory. */
struct drawing {
    const float *logits;
    int32_t vocab;
    float largest;
    double temperature;

    uint64_t batch[BATCH]; /* numbers: ~key, ascending */
    mark sum[BATCH];       /* up to a candidate of the batch, and with it */
    mark base;             /* before the batch */
    int32_t n;             /* candidates of the batch; 0: there is none */

    histogram bins;
    mark warp[THREADS / 32];
    double warp_sum[THREADS / 32];
    uint64_t least, most;
    uint32_t found, taken;
    mark before;
    int bin, lowest;
};

/* Sum of x up to this thread, over the block; warp: sums of the warps. */
static __device__ double running_sum(drawing &d, double x)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int distance = 1; distance < 32; distance *= 2) {
        const double before = __shfl_up_sync(~0u, x, distance);
        x += lane >= distance ? before : 0;
    }
    __syncthreads();
    if (lane == 31)
        d.warp_sum[warp] = x;
    __syncthreads();
    double before = 0;
    for (int i = 0; i < warp; i++)
        before += d.warp_sum[i];
    return before + x;
}

/* Of the last running_sum. */
static __device__ double whole_sum(const drawing &d)
{
    double sum = 0;
    for (int i = 0; i < THREADS / 32; i++)
        sum += d.warp_sum[i];
    return sum;
}

/* The first thread for which `here` holds, THREADS if there is none. */
static __device__ int first_thread(drawing &d, bool here)
{
    __syncthreads();
    if (threadIdx.x == 0)
        d.found = THREADS;
    __syncthreads();
    if (here)
        atomicMin(&d.found, threadIdx.x);
    __syncthreads();
    return (int)d.found;
}

static __device__ bool is_candidate(const drawing &d, int32_t id)
{
    return id >= 0 && id < d.vocab && d.logits[id] > -INFINITY;
}

/* The highest id that may be chosen. */
static __device__ int32_t highest_id(drawing &d)
{
    for (int32_t end = d.vocab; end > 0; end -= THREADS) {
        const int at = first_thread(d, is_candidate(d, end - 1 - (int32_t)threadIdx.x));
        if (at < THREADS)
            return end - 1 - at;
    }
    return 0;
}

/* One of all candidates, from the highest id down. sums: of the parts. */
static __device__ int32_t draw_any(drawing &d, const double *sums, double unit)
{
    double target = 0;
    int32_t end = d.vocab;
    for (int i = 0; i < CHUNKS; i++)
        target += sums[i];
    target *= unit;
    for (int i = CHUNKS - 1; i > 0 && target >= sums[i]; i--) {
        target -= sums[i];
        end = min(i * part_words(d.vocab) * 64, d.vocab);
    }
    for (; end > 0; end -= THREADS) {
        const int32_t id = end - 1 - (int32_t)threadIdx.x;
        const bool here = is_candidate(d, id);
        const double weight = here ? weight_of(d.logits[id], d.largest, d.temperature) : 0;
        const double sum = running_sum(d, weight), all = whole_sum(d);
        const int at = first_thread(d, here && target - sum < 0);
        if (at < THREADS)
            return end - 1 - at;
        target -= all;
    }
    return highest_id(d); /* rounding left a remainder */
}

/* ---- the best candidates, in order ---- */

/* Which candidate is asked for: number `count`, or if count is 0 the first one with which the
 * weights reach `weight`, or are beyond it. */
struct goal {
    uint32_t count;
    double weight;
    bool beyond;

    __device__ bool reached(const mark &m) const
    {
        if (count)
            return m.count >= count;
        return beyond ? (double)m.weight > weight : (double)m.weight >= weight;
    }
};

/* Sum of x up to this thread, over the block. */
static __device__ mark running_mark(drawing &d, mark x)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int distance = 1; distance < 32; distance *= 2) {
        const mark before = { __shfl_up_sync(~0u, x.count, distance),
                              __shfl_up_sync(~0u, x.weight, distance) };
        if (lane >= distance)
            x = before + x;
    }
    __syncthreads();
    if (lane == 31)
        d.warp[warp] = x;
    __syncthreads();
    for (int i = 0; i < warp; i++)
        x = d.warp[i] + x;
    return x;
}

/* Of d.bins: d.bin, the first with which `base` and the bins up to it reach the goal, or the last
 * one; d.lowest, the first from which on they fit a batch; d.before: base and what is before that
 * one. How many candidates d.bin has. */
static __device__ uint32_t find_bin(drawing &d, const mark &base, const goal &g)
{
    const int i = 2 * threadIdx.x;
    const mark low = { d.bins.count[i], d.bins.weight[i] };
    const mark high = { d.bins.count[i + 1], d.bins.weight[i + 1] };
    const mark sum = base + running_mark(d, low + high);
    const mark middle = { sum.count - high.count, sum.weight - high.weight };
    const int at = min(first_thread(d, g.reached(sum)), THREADS - 1);
    if ((int)threadIdx.x == at) {
        const bool second = !g.reached(middle);
        d.bin = i + second;
        d.taken = second ? sum.count : middle.count;
    }
    __syncthreads();
    const uint32_t end = d.taken;
    const mark start = { middle.count - low.count, middle.weight - low.weight };
    const bool fits = end - middle.count <= BATCH; /* from the second one on */
    const int from = min(first_thread(d, i + 1 >= d.bin || fits), THREADS - 1);
    if ((int)threadIdx.x == from) {
        const bool both = i == d.bin || end - start.count <= BATCH;
        d.lowest = min(i + !both, d.bin);
        d.before = d.lowest == i ? start : middle;
    }
    const uint32_t n = d.bins.count[d.bin]; /* before the barrier: callers clear the bins next */
    __syncthreads();
    return n;
}

static __device__ bool is_in(const drawing &d, const range &r, float x, uint64_t number)
{
    const int bin = bin_of(x, d.largest);
    if (!(x > -INFINITY) || bin < r.first_bin || bin > r.last_bin || number < r.first ||
        number > r.last)
        return false;
    const int part = part_of(x, d.largest, bin);
    return (bin > r.first_bin || part >= r.first_part) && (bin < r.last_bin || part <= r.last_part);
}

/* f(logit, number) of each candidate of the range. */
template <typename F> static __device__ void visit(const drawing &d, const range &r, F f)
{
    for (int32_t first = threadIdx.x; first < d.vocab; first += AHEAD * THREADS) {
        float x[AHEAD];
        load_ahead(x, d.logits, first, d.vocab, THREADS);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const uint64_t number = ~key_of(x[i], first + i * THREADS);
            if (is_in(d, r, x[i], number))
                f(x[i], number);
        }
    }
    __syncthreads();
}

static __device__ uint64_t weight_at(const drawing &d, float logit)
{
    return whole_weight(logit, d.largest, d.temperature, d.vocab);
}

/* Bitonic; ascending. */
static __device__ void sort_batch(drawing &d)
{
    const uint32_t i = threadIdx.x;
    for (uint32_t size = 2; size <= BATCH; size *= 2)
        for (uint32_t step = size / 2; step; step /= 2) {
            const uint32_t other = i ^ step;
            __syncthreads();
            const uint64_t a = d.batch[i], b = d.batch[other];
            __syncthreads();
            if (((i & size) == 0) == (i < other))
                d.batch[i] = min(a, b);
            else
                d.batch[i] = max(a, b);
        }
    __syncthreads();
}

/* The candidates of the range, at most BATCH, which stand behind d.before. */
static __device__ void take_batch(drawing &d, const range &r)
{
    d.batch[threadIdx.x] = ~0ull;
    if (threadIdx.x == 0)
        d.taken = 0;
    __syncthreads();
    visit(d, r, [&](float, uint64_t number) { d.batch[atomicAdd(&d.taken, 1u)] = number; });
    sort_batch(d);
    const bool here = threadIdx.x < d.taken;
    const uint64_t weight = here ? weight_at(d, logit_of(~d.batch[threadIdx.x])) : 0;
    const mark before = d.before, sum = running_mark(d, { here, weight });
    d.sum[threadIdx.x] = before + sum;
    if (threadIdx.x == 0) {
        d.base = before;
        d.n = (int32_t)d.taken;
    }
    __syncthreads();
}

/* The bins of the second kernel. */
static __device__ void load_bins(drawing &d, const sampling &a, int64_t row)
{
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += THREADS) {
        d.bins.count[i] = a.count[row * BINS + i];
        d.bins.weight[i] = a.weight[row * BINS + i];
    }
    __syncthreads();
}

/* The range by parts of its one bin. */
static __device__ void count_parts(drawing &d, const range &r)
{
    d.bins.clear();
    visit(d, r, [&](float x, uint64_t) {
        d.bins.add(part_of(x, d.largest, r.first_bin), weight_at(d, x));
    });
}

/* The smallest and the largest number of the range become its first and last. */
static __device__ void shrink(drawing &d, range *r)
{
    if (threadIdx.x == 0) {
        d.least = ~0ull;
        d.most = 0;
    }
    __syncthreads();
    visit(d, *r, [&](float, uint64_t number) {
        atomicMin((unsigned long long *)&d.least, (unsigned long long)number);
        atomicMax((unsigned long long *)&d.most, (unsigned long long)number);
    });
    r->first = d.least;
    r->last = d.most;
    __syncthreads();
}

/* Bits of a number that one of BINS equal parts of the range leaves open. */
static __device__ int open_bits(const range &r)
{
    return max(0, 64 - BIN_BITS - __clzll((long long)(r.last - r.first)));
}

static __device__ void count_numbers(drawing &d, const range &r, int bits)
{
    d.bins.clear();
    visit(d, r, [&](float x, uint64_t number) {
        d.bins.add((int)((number - r.first) >> bits), weight_at(d, x));
    });
}

/* By bits of the number, until what has the answer fits. */
static __device__ void narrow_numbers(drawing &d, range *r, mark base, const goal &g)
{
    shrink(d, r);
    for (;;) {
        const int bits = open_bits(*r);
        count_numbers(d, *r, bits);
        const uint32_t n = find_bin(d, base, g);
        const uint64_t first = r->first;
        const int lowest = n > BATCH ? d.bin : d.lowest;
        r->first = first + ((uint64_t)lowest << bits);
        r->last = min(r->last, first + (((uint64_t)d.bin + 1) << bits) - 1);
        base = d.before;
        __syncthreads();
        if (n <= BATCH)
            return;
    }
}

/* The batch that has the candidate of the goal. */
static __device__ void find_batch(drawing &d, const sampling &a, int64_t row, const goal &g)
{
    range r = { 0, ~0ull, 0, BINS - 1, 0, BINS - 1 };
    load_bins(d, a, row);
    uint32_t n = find_bin(d, {}, g);
    r.last_bin = d.bin;
    r.first_bin = n > BATCH ? d.bin : d.lowest;
    if (n > BATCH && d.bin < BINS - 1) {
        const mark base = d.before;
        count_parts(d, r);
        n = find_bin(d, base, g);
        r.last_part = d.bin;
        r.first_part = n > BATCH ? d.bin : d.lowest;
    }
    if (n > BATCH)
        narrow_numbers(d, &r, d.before, g);
    take_batch(d, r);
}

/* The candidate of the goal: its place in the batch. */
static __device__ int seek(drawing &d, const sampling &a, int64_t row, const goal &g)
{
    __syncthreads();
    if (d.n == 0 || g.reached(d.base) || !g.reached(d.sum[d.n - 1]))
        find_batch(d, a, row, g);
    const int at = first_thread(d, (int)threadIdx.x < d.n && g.reached(d.sum[threadIdx.x]));
    return max(0, min(at, d.n - 1));
}

/* All of the row. */
static __device__ mark whole_row(drawing &d, const sampling &a, int64_t row)
{
    mark sum = {};
    for (int i = threadIdx.x; i < BINS; i += THREADS)
        sum = sum + mark { a.count[row * BINS + i], a.weight[row * BINS + i] };
    running_mark(d, sum);
    sum = {};
    for (int i = 0; i < THREADS / 32; i++)
        sum = sum + d.warp[i];
    __syncthreads();
    return sum;
}

static __device__ int32_t draw_best(drawing &d, const sampling &a, int64_t row, double unit)
{
    const glm4v_cuda_draw draw = a.step.draws[row];
    const mark all = whole_row(d, a, row);
    mark kept = all;
    if (draw.top_k && draw.top_k < all.count)
        kept = d.sum[seek(d, a, row, { draw.top_k, 0, false })];
    if (draw.top_p < 1)
        kept = d.sum[seek(d, a, row, { 0, (double)draw.top_p * (double)kept.weight, false })];
    return id_of(~d.batch[seek(d, a, row, { 0, unit * (double)kept.weight, true })]);
}

/* ---- */

static __device__ int32_t choose(drawing &d, const sampling &a, int64_t row, uint64_t best)
{
    const glm4v_cuda_draw draw = a.step.draws[row];
    if (best == BAD)
        return -1;
    if (!(draw.temperature > 0))
        return id_of(best);
    const double unit = random_unit(draw.generator), *sums = a.sum + row * CHUNKS;
    if (threadIdx.x == 0) {
        d.logits = a.s.logits + row * a.s.vocab;
        d.vocab = a.s.vocab;
        d.largest = logit_of(best);
        d.temperature = draw.temperature;
        d.n = 0;
    }
    __syncthreads();
    return is_bounded(draw) ? draw_best(d, a, row, unit) : draw_any(d, sums, unit);
}

/* Block: a row. Of several rows of a slot, the last one says what was sampled. */
static __global__ void __launch_bounds__(THREADS, 1) choose_kernel(const sampling a)
{
    extern __shared__ __align__(16) char shared[];
    drawing &d = *(drawing *)shared;
    let_next_begin();
    const int64_t row = blockIdx.x;
    wait_for_earlier();
    const int32_t id = choose(d, a, row, row_best(a, row)), slot = a.step.draws[row].slot;
    bool last = true;
    for (int64_t later = row + 1; later < a.s.n; later++)
        last &= a.step.draws[later].slot != slot;
    if (threadIdx.x == 0)
        a.s.ids[row] = id;
    if (threadIdx.x == 0 && last)
        a.s.sampled[slot] = id;
}

size_t glm4v_cuda_sample_scratch(int32_t vocab, int32_t n)
{
    const size_t parts = CHUNKS * (sizeof(uint64_t) + sizeof(double));
    (void)vocab;
    return (size_t)n * (parts + BINS * (sizeof(uint64_t) + sizeof(uint32_t)));
}

cudaError_t glm4v_cuda_sample_tokens(cudaStream_t stream, const glm4v_cuda_step_data *step,
                                     const glm4v_cuda_sample *s, void *scratch)
{
    const size_t n = (size_t)s->n;
    uint64_t *best = (uint64_t *)scratch;
    double *sum = (double *)(best + n * CHUNKS);
    uint64_t *weight = (uint64_t *)(sum + n * CHUNKS);
    const sampling a = { *step, *s, best, sum, weight, (uint32_t *)(weight + n * BINS) };
    const dim3 parts(CHUNKS, (unsigned)s->n);
    const size_t shared = (size_t)part_words(s->vocab) * sizeof(uint64_t);
    cudaError_t error = cudaFuncSetAttribute(
        choose_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(drawing));
    if (error == cudaSuccess)
        error = launch(prepare_kernel, parts, PART_THREADS, shared, stream, a);
    if (error == cudaSuccess)
        error = launch(weigh_kernel, parts, PART_THREADS, 0, stream, a);
    if (error == cudaSuccess)
        error = launch(choose_kernel, (unsigned)s->n, THREADS, sizeof(drawing), stream, a);
    return error;
}
