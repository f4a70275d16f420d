/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Weights into device memory in their forms: the same codes and scales as the pack functions of
 * kernels/gemm.h make, in the layouts of matrix.cuh. While a model is loaded. */
#include "matrix.cuh"
#include "round.cuh"

namespace
{
enum { THREADS = 256, WARPS = THREADS / 32, GROUP_LANES = 16, DIVISORS = 8 };

/* Rows of source [n, n_in] to rows of a matrix, `bytes` apart. */
struct pack_args {
    uint8_t *data;
    int64_t bytes;
    float *scale;
    const void *source;
    int32_t n_in, scales;
};

pack_args arguments(const glm4v_cuda_matrix *w, int32_t row, const void *source)
{
    const int64_t bytes = row_bytes(w->form, w->n_in);
    const int32_t scales = scales_of(w);
    float *scale = w->scale ? w->scale + (int64_t)row * scales : NULL;
    return { (uint8_t *)w->data + row * bytes, bytes, scale, source, w->n_in, scales };
}

/* One thread an element of the padded row: blockIdx.x is the row. */
__device__ int64_t element()
{
    return blockIdx.y * (int64_t)THREADS + threadIdx.x;
}

__global__ void __launch_bounds__(THREADS) copy_f32(const pack_args a)
{
    const int64_t row = blockIdx.x, k = element();

    wait_for_earlier();
    if (k < a.n_in)
        ((float *)(a.data + row * a.bytes))[k] = ((const float *)a.source)[row * a.n_in + k];
}

template <typename T> __global__ void __launch_bounds__(THREADS) copy_bf16(const pack_args a)
{
    const int64_t row = blockIdx.x, k = element();
    const T *x = (const T *)a.source + row * a.n_in;

    wait_for_earlier();
    if (k >= a.bytes / 2)
        return;
    glm4v_bf16 value = 0;
    if (k < a.n_in) {
        if constexpr (sizeof(T) == 4)
            value = narrow_bf16(x[k]);
        else
            value = x[k];
    }
    ((glm4v_bf16 *)(a.data + row * a.bytes))[k] = value;
}

/* n codes (at most 4) of a row from input k on, 0 beyond the end. */
__device__ uint32_t codes_at(const pack_args &a, int64_t k, int n)
{
    const uint8_t *codes = (const uint8_t *)a.source + blockIdx.x * (int64_t)a.n_in;
    uint32_t word = 0;
    for (int i = 0; i < n; i++)
        if (k + i < a.n_in)
            word |= (uint32_t)codes[k + i] << 8 * i;
    return word;
}

__device__ uint32_t *row_words(const pack_args &a)
{
    return (uint32_t *)(a.data + blockIdx.x * a.bytes);
}

/* A thread a word, of 4 codes. */
__global__ void __launch_bounds__(THREADS) pack_bytes(const pack_args a)
{
    const int64_t word = element();

    wait_for_earlier();
    if (word < a.bytes / 4)
        row_words(a)[word] = codes_at(a, 4 * word, 4);
}

__global__ void __launch_bounds__(THREADS) pack_fp8(const pack_args a)
{
    const int64_t word = element(), k = fp8_input(word);

    wait_for_earlier();
    if (word < a.bytes / 4)
        row_words(a)[word] = fp8_from_codes(codes_at(a, k, 2) | codes_at(a, k + 8, 2) << 16);
}

/* A thread a word, of 8 codes; beyond n_in the code is 8. */
__global__ void __launch_bounds__(THREADS) pack_nibbles(const pack_args a)
{
    const int64_t word = element(), k = int4_input(word);

    wait_for_earlier();
    if (word < a.bytes / 4)
        row_words(a)[word] =
            k < a.n_in ? int4_from_codes(codes_at(a, k, 4), codes_at(a, k + 16, 4)) : 0;
}

/* Four nibbles of a row's words from input k on, one a byte. */
__device__ uint32_t nibbles_at(const pack_args &a, int64_t k)
{
    const uint32_t *words = (const uint32_t *)a.source + blockIdx.x * (int64_t)(a.n_in / 8);
    const uint32_t nibbles = words[k / 8] >> k % 8 * 4;
    return (nibbles & 0xf) | (nibbles & 0xf0) << 4 | (nibbles & 0xf00) << 8 |
           (nibbles & 0xf000) << 12;
}

__global__ void __launch_bounds__(THREADS) pack_words(const pack_args a)
{
    const int64_t word = element(), k = int4_input(word);

    wait_for_earlier();
    if (word < a.bytes / 4)
        row_words(a)[word] =
            k < a.n_in ? int4_from_codes(nibbles_at(a, k), nibbles_at(a, k + 16)) : 0;
}

template <glm4v_cuda_form FORM> __device__ uint32_t code_of(float x, float inverse)
{
    if (FORM != GLM4V_CUDA_INT8)
        return inverse == 0 ? 0 : e4m3(__fmul_rn(x, inverse));
    return (uint32_t)round_code(x, inverse) & 0xff;
}

/* Codes of n values (at most 4) of a row from input k on, 0 beyond `end`. */
template <glm4v_cuda_form FORM>
__device__ uint32_t quantized(const float *x, int64_t k, int64_t end, int n, float inverse)
{
    uint32_t codes = 0;
    for (int i = 0; i < n; i++)
        if (k + i < end)
            codes |= code_of<FORM>(x[k + i], inverse) << 8 * i;
    return codes;
}

/* A block: the part of row blockIdx.x that has scale blockIdx.y; span inputs, whole words. */
template <glm4v_cuda_form FORM>
__global__ void __launch_bounds__(THREADS) quantize_bytes(const pack_args a, int64_t span)
{
    const int64_t first = blockIdx.y * span, end = min(first + span, a.bytes);
    const int64_t n_in = a.n_in;
    const float *x = (const float *)a.source + blockIdx.x * n_in;
    __shared__ uint32_t largest[WARPS];
    uint32_t max = 0;
    float inverse;

    wait_for_earlier();
    for (int64_t k = first + threadIdx.x; k < min(end, n_in); k += THREADS)
        max = ::max(max, magnitude_bits(x[k]));
    max = block_max<THREADS>(max, largest);
    const float scale = group_scale(&inverse, max, FORM == GLM4V_CUDA_INT8 ? 127.0f : 448.0f);
    if (threadIdx.x == 0)
        a.scale[blockIdx.x * (int64_t)a.scales + blockIdx.y] = scale;
    for (int64_t word = first / 4 + threadIdx.x; word < end / 4; word += THREADS) {
        const int64_t k = FORM == GLM4V_CUDA_FP8 ? fp8_input(word) : 4 * word;
        if (FORM == GLM4V_CUDA_FP8)
            row_words(a)[word] = fp8_from_codes(quantized<FORM>(x, k, n_in, 2, inverse) |
                                                quantized<FORM>(x, k + 8, n_in, 2, inverse) << 16);
        else
            row_words(a)[word] = quantized<FORM>(x, k, n_in, 4, inverse);
    }
}

__constant__ const float divisors[DIVISORS] = { 7, 7.25f, 7.5f, 7.75f, 8, 8.5f, 9, 9.5f };

/* Code of w less 8. */
__device__ int nibble_of(float w, float inverse)
{
    return (int)fminf(fmaxf(rintf(__fmul_rn(w, inverse)), -8), 7);
}

/* Squared error of a group at one scale. Lane j of the group's 16 has inputs j, j + 16, ..: the 16
 * partial sums of pack.c, folded in its order. */
template <int N> __device__ float group_error(const float w[N], float scale, float inverse)
{
    float sum = 0;
    for (int i = 0; i < N; i++) {
        const float q = (float)nibble_of(w[i], inverse);
        const float e = __fsub_rn(w[i], __fmul_rn(scale, q));
        sum = __fadd_rn(sum, __fmul_rn(e, e));
    }
    for (int half = GROUP_LANES / 2; half; half /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, half));
    return sum;
}

/* The scale of a group, and 1 / scale: 0 where all codes are 8. */
template <int N> __device__ float best_scale(float *inverse, const float w[N])
{
    uint32_t max = 0;
    for (int i = 0; i < N; i++)
        max = ::max(max, magnitude_bits(w[i]));
    for (int step = GROUP_LANES / 2; step; step /= 2)
        max = ::max(max, __shfl_xor_sync(~0u, max, step));
    float scale = group_scale(inverse, max, 127), least = 0;
    const bool some = *inverse != 0;
    const float m = some ? __uint_as_float(max) : 1;
    for (int i = 0; i < DIVISORS; i++) { /* all lanes, for the exchange in group_error */
        const float s = __fdiv_rn(m, divisors[i]), inv = __fdiv_rn(divisors[i], m);
        const float error = group_error<N>(w, s, inv);
        if (some && (i == 0 || error < least)) {
            least = error;
            scale = s;
            *inverse = inv;
        }
    }
    return scale;
}

/* 16 lanes a group of 16 N inputs, row blockIdx.x. */
template <int N> __global__ void __launch_bounds__(THREADS) quantize_int4(const pack_args a)
{
    __shared__ uint32_t codes[THREADS / GROUP_LANES][4 * N];
    const int64_t row = blockIdx.x;
    const int j = threadIdx.x % GROUP_LANES, part = threadIdx.x / GROUP_LANES;
    const int64_t group = blockIdx.y * (THREADS / GROUP_LANES) + part;
    const bool inside = group < a.scales;
    const float *x = (const float *)a.source + row * a.n_in + (inside ? group : 0) * 16 * N;
    float w[N], inverse;

    wait_for_earlier();
    for (int i = 0; i < N; i++)
        w[i] = x[j + 16 * i];
    const float scale = best_scale<N>(&inverse, w);
    for (int i = 0; i < N; i++)
        ((uint8_t *)codes[part])[j + 16 * i] =
            (uint8_t)(inverse == 0 ? 8 : 8 + nibble_of(w[i], inverse));
    __syncwarp();
    if (inside && j == 0)
        a.scale[row * a.scales + group] = scale;
    if (inside && j < 2 * N) {
        const int step = N == 8 ? j % 4 : 0, t = N == 8 ? j / 4 : j;
        const int64_t word = N == 8 ? group * 16 + j : group / 4 * 16 + 4 * t + group % 4;
        row_words(a)[word] =
            int4_from_codes(codes[part][8 * step + t], codes[part][8 * step + 4 + t]);
    }
}

/* Words of the last block that no group fills; a thread a word of it. */
__global__ void __launch_bounds__(32) clear_rest(const pack_args a)
{
    const int64_t word = a.bytes / 4 - 16 + threadIdx.x;

    wait_for_earlier();
    if (threadIdx.x < 16 && int4_input(word) >= a.n_in)
        row_words(a)[word] = 0;
}

unsigned pieces(int64_t n, int64_t piece)
{
    return (unsigned)((n + piece - 1) / piece);
}

/* Each row n elements, one a thread. */
cudaError_t launch_rows(cudaStream_t stream, void (*kernel)(pack_args), const pack_args &a,
                        int32_t rows, int64_t n)
{
    return launch(kernel, dim3((unsigned)rows, pieces(n, THREADS)), dim3(THREADS), 0, stream, a);
}

template <glm4v_cuda_form FORM>
cudaError_t launch_bytes(cudaStream_t stream, const pack_args &a, int32_t rows)
{
    const int64_t span = a.scales > 1 ? 128 : a.bytes;
    return launch(quantize_bytes<FORM>, dim3((unsigned)rows, (unsigned)a.scales), dim3(THREADS), 0,
                  stream, a, span);
}

template <int N> cudaError_t launch_int4(cudaStream_t stream, const pack_args &a, int32_t rows)
{
    const unsigned parts = pieces(a.scales, THREADS / GROUP_LANES);
    cudaError_t error =
        launch(quantize_int4<N>, dim3((unsigned)rows, parts), dim3(THREADS), 0, stream, a);
    if (error == cudaSuccess && a.n_in < 2 * a.bytes)
        error = launch(clear_rest, dim3((unsigned)rows), dim3(32), 0, stream, a);
    return error;
}
} // namespace

glm4v_cuda_matrix_bytes glm4v_cuda_matrix_size(glm4v_cuda_form form, int32_t n_out, int32_t n_in,
                                               bool blocks, bool zeros, bool ordered)
{
    glm4v_cuda_matrix w = {};
    w.form = form;
    w.n_in = n_in;
    w.blocks = blocks;
    const int64_t scales = (int64_t)n_out * scales_of(&w);
    const bool scaled = form != GLM4V_CUDA_F32 && form != GLM4V_CUDA_BF16;
    return { (size_t)round_up(n_out * row_bytes(form, n_in), 256),
             scaled ? (size_t)round_up(scales * 4, 256) : 0,
             zeros ? (size_t)round_up(scales, 256) : 0,
             ordered ? (size_t)round_up((int64_t)n_in * 4, 256) : 0 };
}

cudaError_t glm4v_cuda_pack_f32(cudaStream_t stream, const glm4v_cuda_matrix *w, int32_t row,
                                int32_t n, const float *rows)
{
    const pack_args a = arguments(w, row, rows);
    switch (w->form) {
    case GLM4V_CUDA_F32:
        return launch_rows(stream, copy_f32, a, n, a.n_in);
    case GLM4V_CUDA_BF16:
        return launch_rows(stream, copy_bf16<float>, a, n, a.bytes / 2);
    case GLM4V_CUDA_INT8:
        return launch_bytes<GLM4V_CUDA_INT8>(stream, a, n);
    case GLM4V_CUDA_FP8:
        return launch_bytes<GLM4V_CUDA_FP8>(stream, a, n);
    case GLM4V_CUDA_FP8_DYNAMIC:
        return launch_bytes<GLM4V_CUDA_FP8_DYNAMIC>(stream, a, n);
    case GLM4V_CUDA_INT4:
        return launch_int4<8>(stream, a, n);
    case GLM4V_CUDA_INT4_32:
        return launch_int4<2>(stream, a, n);
    }
    return cudaErrorInvalidValue;
}

cudaError_t glm4v_cuda_pack_bf16(cudaStream_t stream, const glm4v_cuda_matrix *w, int32_t row,
                                 int32_t n, const glm4v_bf16 *rows)
{
    const pack_args a = arguments(w, row, rows);
    return launch_rows(stream, copy_bf16<glm4v_bf16>, a, n, a.bytes / 2);
}

cudaError_t glm4v_cuda_pack_codes(cudaStream_t stream, const glm4v_cuda_matrix *w, int32_t row,
                                  int32_t n, const uint8_t *codes)
{
    const pack_args a = arguments(w, row, codes);
    if (w->form == GLM4V_CUDA_INT8 || w->form == GLM4V_CUDA_FP8_DYNAMIC)
        return launch_rows(stream, pack_bytes, a, n, a.bytes / 4);
    if (w->form == GLM4V_CUDA_FP8)
        return launch_rows(stream, pack_fp8, a, n, a.bytes / 4);
    return launch_rows(stream, pack_nibbles, a, n, a.bytes / 4);
}

cudaError_t glm4v_cuda_pack_words(cudaStream_t stream, const glm4v_cuda_matrix *w, int32_t row,
                                  int32_t n, const uint32_t *words)
{
    const pack_args a = arguments(w, row, words);
    return launch_rows(stream, pack_words, a, n, a.bytes / 4);
}
