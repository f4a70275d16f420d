/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Choosing tokens, in three kernels: CHUNKS blocks a row penalize, mask and find the largest logit
 * of a part; with a temperature they sum exp((logit - largest) / temperature) of a part; a block a
 * row chooses. Greedy rows are done with the first and a few instructions of the third.
 *
 * Bounded draws (top-k, top-p) take the best candidates in order, a batch of at most BATCH at a
 * time, which is sorted in shared memory: candidates are numbered by logit, descending, then id.
 * How far the first batch goes, the second kernel's counts by distance from the largest logit say;
 * how far later ones go, or the first of very even logits, a search by digits of that number, from
 * the highest. Most draws need one batch. Sums are double, in an order that depends on the
 * vocabulary only. */
#include "sample.h"
#include "vector.cuh"

constexpr int CHUNKS = 32, PART_THREADS = 256, THREADS = 1024, BATCH = 1024, ENOUGH = 128;
constexpr int DIGITS = 2048, DIGIT_BITS = 11;
constexpr int AHEAD = 8;        /* logits that a thread loads at a time */
constexpr uint64_t BAD = ~0ull; /* no key of a finite logit */

struct sampling {
    glm4v_cuda_step_data step;
    glm4v_cuda_sample s;
    uint64_t *best; /* [n][CHUNKS] largest key of a part, or BAD */
    double *sum;    /* [n][CHUNKS] */
    uint32_t *bins; /* [n][DIGITS] candidates by distance from the largest logit */
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
    if (threadIdx.x < DIGITS / CHUNKS)
        a.bins[row * DIGITS + blockIdx.x * (DIGITS / CHUNKS) + threadIdx.x] = 0;
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

/* 32 bins for 1; the last one, of all beyond, is not counted. */
static __device__ int bin_of(float logit, float largest)
{
    return (int)fminf((largest - logit) * 32, DIGITS - 1);
}

static __device__ double warp_sum(double x)
{
#pragma unroll
    for (int distance = 16; distance; distance /= 2)
        x += __shfl_xor_sync(~0u, x, distance);
    return x;
}

/* Block (part, row). */
static __global__ void __launch_bounds__(PART_THREADS) weigh_kernel(const sampling a)
{
    __shared__ double partial[PART_THREADS / 32];
    __shared__ uint32_t bins[DIGITS];
    let_next_begin();
    const part p(a.s.vocab);
    const int64_t row = blockIdx.y;
    const float *logits = a.s.logits + row * a.s.vocab;
    double sum = 0;
    wait_for_earlier();
    const double temperature = a.step.draws[row].temperature;
    const bool bounded = a.step.draws[row].top_k || a.step.draws[row].top_p < 1;
    const uint64_t best = row_best(a, row);
    const float largest = logit_of(best);
    if (blockIdx.x == 0 && a.step.draws[row].penalty != 1)
        keep_seen(a, a.step.draws[row].slot, a.step.outputs[row]);
    if (!(temperature > 0) || best == BAD)
        return;
    for (int i = threadIdx.x; i < DIGITS; i += PART_THREADS)
        bins[i] = 0;
    __syncthreads();
    for (int32_t at = p.first + (int32_t)threadIdx.x; at < p.end; at += AHEAD * PART_THREADS) {
        float x[AHEAD];
        load_ahead(x, logits, at, p.end, PART_THREADS);
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (x[k] > -INFINITY)
                sum += weight_of(x[k], largest, temperature);
            if (bounded && bin_of(x[k], largest) < DIGITS - 1)
                atomicAdd(&bins[bin_of(x[k], largest)], 1u);
        }
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
    for (int i = threadIdx.x; bounded && i < DIGITS; i += PART_THREADS)
        if (bins[i])
            atomicAdd(&a.bins[row * DIGITS + i], bins[i]);
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

/* What a block needs to draw; in shared memory. */
struct drawing {
    const float *logits;
    const uint32_t *bins;
    int32_t vocab;
    float largest;
    double temperature;

    uint64_t batch[BATCH]; /* numbers: ~key, ascending */
    double sum[BATCH];     /* of weights of the batch, up to a candidate */
    uint32_t digit[DIGITS];
    double warp[THREADS / 32];
    uint64_t last;    /* all candidates up to this number were in batches */
    int32_t n, index; /* candidates of the batch; its place among batches, -1: none yet */
    uint32_t found, before, cut, count;
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
        d.warp[warp] = x;
    __syncthreads();
    double before = 0;
    for (int i = 0; i < warp; i++)
        before += d.warp[i];
    return before + x;
}

/* Of the last running_sum. */
static __device__ double whole_sum(const drawing &d)
{
    double sum = 0;
    for (int i = 0; i < THREADS / 32; i++)
        sum += d.warp[i];
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

static __device__ bool is_left(const drawing &d, uint64_t number)
{
    return d.index < 0 || number > d.last;
}

/* Lanes with the same digit count together. */
static __device__ __forceinline__ void count_digit(drawing &d, bool here, uint32_t digit)
{
    const uint32_t peers = __match_any_sync(~0u, here ? digit : DIGITS);
    if (here && (int)threadIdx.x % 32 == __ffs((int)peers) - 1)
        atomicAdd(&d.digit[digit], (uint32_t)__popc(peers));
}

/* Count the digit at bits [shift, shift + width) of candidates that are left and whose bits above
 * are those of prefix. */
static __device__ void count_digits(drawing &d, uint64_t prefix, int shift, int width)
{
    const int above = shift + width;
    for (int i = threadIdx.x; i < DIGITS; i += THREADS)
        d.digit[i] = 0;
    __syncthreads();
    for (int32_t first = threadIdx.x; first - (int32_t)threadIdx.x < d.vocab;
         first += AHEAD * THREADS) {
        float x[AHEAD];
        load_ahead(x, d.logits, first, d.vocab, THREADS);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const uint64_t number = ~key_of(x[i], first + i * THREADS);
            const bool here = x[i] > -INFINITY && is_left(d, number) &&
                              (above == 64 || number >> above == prefix >> above);
            count_digit(d, here, (uint32_t)(number >> shift) & ((1u << width) - 1));
        }
    }
    __syncthreads();
}

/* The first digit with which `taken` and the candidates up to it are more than a batch holds,
 * DIGITS if there is none; d.before: candidates before it, taken and counted. */
static __device__ int crossing(drawing &d, uint32_t taken)
{
    const uint32_t low = d.digit[2 * threadIdx.x], high = d.digit[2 * threadIdx.x + 1];
    const uint32_t sum = taken + (uint32_t)running_sum(d, (double)(low + high));
    const int at = first_thread(d, sum > BATCH);
    if ((int)threadIdx.x == at) {
        const bool second = sum - high <= BATCH;
        d.before = second ? sum - high : sum - high - low;
        d.cut = 2 * threadIdx.x + second;
    }
    __syncthreads();
    return at < THREADS ? (int)d.cut : DIGITS;
}

/* The number up to which the next batch goes: at most BATCH candidates, and ENOUGH of them or all
 * there are. */
static __device__ uint64_t batch_end(drawing &d)
{
    uint64_t prefix = 0;
    uint32_t taken = 0;
    for (int above = 64;;) {
        const int width = min(above, DIGIT_BITS), shift = above - width;
        count_digits(d, prefix, shift, width);
        const int digit = crossing(d, taken);
        if (digit == DIGITS)
            return prefix | (above == 64 ? ~0ull : (1ull << above) - 1);
        prefix |= (uint64_t)digit << shift;
        taken = d.before;
        if (taken >= ENOUGH || shift == 0)
            return prefix - 1;
        above = shift;
    }
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

/* How many bins the first batch takes; 0: that would be too few candidates or too many. */
static __device__ int first_bins(drawing &d)
{
    for (int i = threadIdx.x; i < DIGITS; i += THREADS)
        d.digit[i] = d.bins[i];
    __syncthreads();
    const int bin = crossing(d, 0);
    if (bin == DIGITS)
        return DIGITS - 1;
    return d.before >= ENOUGH ? bin : 0;
}

/* What belongs to a batch. */
struct bounds {
    int bins;     /* candidates of so many bins, if not 0 */
    uint64_t end; /* else what is left up to this number */
};

static __device__ void collect(drawing &d, const bounds &b)
{
    for (int32_t first = threadIdx.x; first < d.vocab; first += AHEAD * THREADS) {
        float x[AHEAD];
        load_ahead(x, d.logits, first, d.vocab, THREADS);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const uint64_t number = ~key_of(x[i], first + i * THREADS);
            const bool here =
                b.bins ? bin_of(x[i], d.largest) < b.bins : is_left(d, number) && number <= b.end;
            if (x[i] > -INFINITY && here)
                d.batch[atomicAdd(&d.count, 1u)] = number;
        }
    }
}

static __device__ void next_batch(drawing &d)
{
    bounds b = { d.index < 0 ? first_bins(d) : 0, 0 };
    if (!b.bins)
        b.end = batch_end(d);
    d.batch[threadIdx.x] = ~0ull;
    if (threadIdx.x == 0)
        d.count = 0;
    __syncthreads();
    collect(d, b);
    sort_batch(d);
    const bool here = threadIdx.x < d.count;
    const float logit = logit_of(~d.batch[threadIdx.x]);
    const double weight = here ? weight_of(logit, d.largest, d.temperature) : 0;
    d.sum[threadIdx.x] = running_sum(d, weight);
    if (threadIdx.x == 0) {
        d.last = b.bins ? d.batch[max(d.count, 1u) - 1] : b.end;
        d.n = (int32_t)d.count;
        d.index++;
    }
    __syncthreads();
}

static __device__ void take_batch(drawing &d, int32_t index)
{
    __syncthreads();
    if (index < d.index) {
        __syncthreads();
        if (threadIdx.x == 0)
            d.index = -1;
        __syncthreads();
    }
    while (d.index < index)
        next_batch(d);
}

/* Where the sum of weights, the best first, gets to a bound. */
struct reached {
    int64_t rank; /* candidates before; of all that count, if the bound is beyond them */
    double sum;   /* with this candidate; of all */
    uint64_t number;
};

/* Among the best `most`: the first with sum >= bound, or beyond: sum > bound. */
static __device__ reached reach(drawing &d, int64_t most, double bound, bool beyond)
{
    int64_t rank = 0;
    double sum = 0;
    for (int32_t index = 0; rank < most; index++) {
        take_batch(d, index);
        const int32_t n = (int32_t)min((int64_t)d.n, most - rank);
        if (n == 0)
            break;
        const double here = sum + d.sum[threadIdx.x];
        const int at =
            first_thread(d, (int)threadIdx.x < n && (beyond ? here > bound : here >= bound));
        if (at < THREADS)
            return { rank + at, sum + d.sum[at], d.batch[at] };
        rank += n;
        sum += d.sum[n - 1];
    }
    return { rank, sum, 0 };
}

static __device__ int32_t draw_best(drawing &d, const glm4v_cuda_draw &draw, const double *sums,
                                    double unit)
{
    const int64_t most = draw.top_k ? (int64_t)draw.top_k : INT32_MAX;
    double total = 0;
    if (draw.top_k)
        total = reach(d, most, INFINITY, false).sum;
    else
        for (int i = 0; i < CHUNKS; i++)
            total += sums[i];
    const reached kept = reach(d, most, (double)draw.top_p * total, false);
    const reached chosen = reach(d, min(most, kept.rank + 1), unit * kept.sum, true);
    if (chosen.number)
        return id_of(~chosen.number);
    take_batch(d, 0); /* rounding left a remainder */
    return id_of(~d.batch[0]);
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
        d.bins = a.bins + row * DIGITS;
        d.vocab = a.s.vocab;
        d.largest = logit_of(best);
        d.temperature = draw.temperature;
        d.index = -1;
    }
    __syncthreads();
    return draw.top_k || draw.top_p < 1 ? draw_best(d, draw, sums, unit) : draw_any(d, sums, unit);
}

/* Block: a row. Of several rows of a slot, the last one says what was sampled. */
static __global__ void __launch_bounds__(THREADS, 1) choose_kernel(const sampling a)
{
    __shared__ drawing d;
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
    (void)vocab;
    return (size_t)n * (CHUNKS * (sizeof(uint64_t) + sizeof(double)) + DIGITS * sizeof(uint32_t));
}

cudaError_t glm4v_cuda_sample_tokens(cudaStream_t stream, const glm4v_cuda_step_data *step,
                                     const glm4v_cuda_sample *s, void *scratch)
{
    uint64_t *best = (uint64_t *)scratch;
    double *sum = (double *)(best + (size_t)s->n * CHUNKS);
    const sampling a = { *step, *s, best, sum, (uint32_t *)(sum + (size_t)s->n * CHUNKS) };
    const dim3 parts(CHUNKS, (unsigned)s->n);
    const size_t shared = (size_t)part_words(s->vocab) * sizeof(uint64_t);
    cudaError_t error = launch(prepare_kernel, parts, PART_THREADS, shared, stream, a);
    if (error == cudaSuccess)
        error = launch(weigh_kernel, parts, PART_THREADS, 0, stream, a);
    if (error == cudaSuccess)
        error = launch(choose_kernel, (unsigned)s->n, THREADS, 0, stream, a);
    return error;
}
