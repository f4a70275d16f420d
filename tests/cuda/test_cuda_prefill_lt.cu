/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/cuda/prefill_lt.h: a product writes every element of y and nothing around it. The memory
 * holds a pattern that no sum can be, so that what is left of it is seen. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "check.cuh"
#include "prefill_lt.h"

namespace
{
using check::stream;

constexpr uint32_t PATTERN = 0xffdbdbdb; /* not a number */
constexpr size_t AROUND = 4096;          /* elements before and behind y */

struct shape {
    int32_t rows, n_out, n_in;
};

const shape shapes[] = { { 1, 8, 8 },         { 3, 64, 64 },       { 37, 4608, 4096 },
                         { 129, 1536, 1176 }, { 640, 4096, 4096 }, { 577, 6144, 1536 },
                         { 1000, 8208, 512 }, { 2304, 1536, 4096 } };

std::vector<uint16_t> matrix(int32_t rows, int32_t cols)
{
    std::vector<uint16_t> x((size_t)rows * cols);
    for (uint16_t &v : x)
        v = check::to_bf16(check::normal());
    return x;
}

/* Row t, output n of the product, in double. */
double sum_of(const std::vector<uint16_t> &x, const std::vector<uint16_t> &w, const shape &s,
              int32_t t, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < s.n_in; i++)
        sum += (double)check::from_bf16(x[(size_t)t * s.n_in + i]) *
               (double)check::from_bf16(w[(size_t)n * s.n_in + i]);
    return sum;
}

/* Some sums of every row are right, added to `before`. */
bool right(const std::vector<uint32_t> &y, const std::vector<uint16_t> &x,
           const std::vector<uint16_t> &w, const shape &s, double before = 0)
{
    for (int32_t t = 0; t < s.rows; t++) {
        const int32_t n = check::below(s.n_out);
        const double sum = sum_of(x, w, s, t, n);
        float got;
        memcpy(&got, &y[AROUND + (size_t)t * s.n_out + n], sizeof got);
        if (fabs(got - before - sum) > 1e-3 * sqrt((double)s.n_in))
            return false;
    }
    return true;
}

void test_shape(lt_library *lt, const shape &s)
{
    if (!check::wanted())
        return;
    const std::vector<uint16_t> x = matrix(s.rows, s.n_in), w = matrix(s.n_out, s.n_in);
    const size_t n = (size_t)s.rows * s.n_out, all = n + 2 * AROUND;
    check::buffer<uint16_t> gx(x), gw(w);
    check::buffer<uint32_t> gy(std::vector<uint32_t>(all, PATTERN));
    lt_product p = {};
    cudaDeviceSynchronize();
    p.y = gy.data + AROUND;
    p.ldy = s.n_out;
    p.x = gx.data;
    p.w = gw.data;
    p.ldx = p.ldw = s.n_in;
    p.rows = s.rows;
    p.n_out = s.n_out;
    p.n_in = s.n_in;
    p.y_f32 = true;
    const bool ran = check::done(lt_multiply(lt, stream, &p));
    const std::vector<uint32_t> y = gy.get();
    size_t left = 0, around = 0;
    for (size_t i = 0; i < all; i++) {
        const bool inside = i >= AROUND && i < AROUND + n;
        left += inside && y[i] == PATTERN;
        around += !inside && y[i] != PATTERN;
    }
    check::result(ran && !left && !around && right(y, x, w, s),
                  check::text("%d rows of %d outputs, %d inputs: %zu not written, %zu written "
                              "around them",
                              s.rows, s.n_out, s.n_in, left, around));
}
/* Algorithms are timed by running them many times: y, which the product adds to, is as if it had
 * run once. */
void test_tuning()
{
    if (!check::wanted())
        return;
    const shape s = { 37, 512, 256 };
    const glm4v_cuda_choices choices = { NULL, 0, true };
    const std::vector<uint16_t> x = matrix(s.rows, s.n_in), w = matrix(s.n_out, s.n_in);
    const float before = 7;
    uint32_t bits;
    memcpy(&bits, &before, sizeof bits);
    check::buffer<uint16_t> gx(x), gw(w);
    check::buffer<uint32_t> gy(std::vector<uint32_t>((size_t)s.rows * s.n_out + 2 * AROUND, bits));
    lt_library lt = {};
    lt_product p = {};
    cudaDeviceSynchronize();
    p.y = gy.data + AROUND;
    p.ldy = s.n_out;
    p.x = gx.data;
    p.w = gw.data;
    p.ldx = p.ldw = s.n_in;
    p.rows = s.rows;
    p.n_out = s.n_out;
    p.n_in = s.n_in;
    p.add = p.y_f32 = true;
    const bool ran =
        lt_open(&lt, &choices) == cudaSuccess && check::done(lt_multiply(&lt, stream, &p));
    check::result(ran && lt.n_shapes == 1 && right(gy.get(), x, w, s, before),
                  "a product that is tuned adds once");
    lt_close(&lt);
}
} // namespace

int main(void)
{
    const int skip = check::open();
    if (skip)
        return skip;
    lt_library lt = {};
    const glm4v_cuda_choices none = {};
    if (lt_open(&lt, &none) != cudaSuccess)
        return 1;
    for (const shape &s : shapes)
        test_shape(&lt, s);
    test_tuning();
    lt_close(&lt);
    return check::close();
}
