/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/cuda/rows.h against the C kernels, on the same bf16 inputs. */
#include "check.cuh"
#include "rows.h"

extern "C" {
#include "act.h"
#include "convert.h"
#include "gemm.h"
#include "norm.h"
}

using namespace check;

/* ---- elements ---- */

static void test_map(const char *name, int n)
{
    if (!check::wanted())
        return;
    std::vector<float> x = normals_bf16((size_t)n, 2), y = normals_bf16((size_t)n), want = y;
    buffer<uint16_t> dx(bf16(x)), dy(bf16(y));
    bool ran = false;
    if (!strcmp(name, "add")) {
        ran = done(glm4v_cuda_add(stream, dy.data, dx.data, (size_t)n));
        glm4v_add_c(want.data(), x.data(), (size_t)n);
    } else if (!strcmp(name, "scale")) {
        ran = done(glm4v_cuda_scale(stream, dy.data, 0.37f, (size_t)n));
        glm4v_scale_c(want.data(), 0.37f, (size_t)n);
    } else {
        ran = done(glm4v_cuda_gelu(stream, dy.data, (size_t)n));
        glm4v_gelu_c(want.data(), y.data(), (size_t)n);
    }
    ran = close_to(floats(dy.get()), want, (size_t)n) && ran;
    result(dx.guarded() && dy.guarded() && ran, text("%s, n %d", name, n));
}

static void test_widen_narrow(int n)
{
    if (!check::wanted())
        return;
    const std::vector<float> x = normals((size_t)n);
    buffer<float> dx(x), back((size_t)n);
    buffer<uint16_t> dy((size_t)n);
    bool ok = done(glm4v_cuda_narrow(stream, dy.data, dx.data, (size_t)n));
    ok = done(glm4v_cuda_widen(stream, back.data, dy.data, (size_t)n)) && ok;
    ok = same(dy.get(), bf16(x), (size_t)n) && ok;
    ok = same(back.get(), floats(bf16(x)), (size_t)n) && ok;
    result(dy.guarded() && back.guarded() && ok, text("narrow and widen are exact, n %d", n));
}

static void test_silu_mul(int rows, int n)
{
    if (!check::wanted())
        return;
    const std::vector<float> x = normals_bf16((size_t)rows * 2 * n, 3);
    std::vector<float> want((size_t)rows * n);
    for (int r = 0; r < rows; r++)
        glm4v_silu_mul_c(&want[(size_t)r * n], &x[(size_t)r * 2 * n], &x[(size_t)(2 * r + 1) * n],
                         (size_t)n);
    buffer<uint16_t> dx(bf16(x)), dy((size_t)rows * n);
    bool ok = done(glm4v_cuda_silu_mul(stream, dy.data, dx.data, rows, n));
    ok = close_to(floats(dy.get()), want, (size_t)n) && ok;
    result(dy.guarded() && ok, text("silu_mul, rows %d, n %d", rows, n));
}

static void test_place_take(int n_cols)
{
    if (!check::wanted())
        return;
    const std::vector<int32_t> map = { 4, 0, 2 };
    const std::vector<uint16_t> x = bf16(normals((size_t)5 * n_cols));
    buffer<uint16_t> dx(x), taken((size_t)3 * n_cols), placed(x);
    buffer<int32_t> dmap(map);
    std::vector<uint16_t> want = x, rows;
    for (int i = 0; i < 3; i++)
        rows.insert(rows.end(), &x[(size_t)map[i] * n_cols],
                    &x[(size_t)(map[i] + 1) * n_cols - 1] + 1);
    for (int i = 0; i < 3; i++)
        std::copy(&x[(size_t)i * n_cols], &x[(size_t)(i + 1) * n_cols - 1] + 1,
                  &want[(size_t)map[i] * n_cols]);
    bool ok = done(glm4v_cuda_take(stream, taken.data, dx.data, dmap.data, 3, n_cols));
    ok = done(glm4v_cuda_place(stream, placed.data, dx.data, dmap.data, 3, n_cols)) && ok;
    ok = same(taken.get(), rows, (size_t)n_cols) && ok;
    ok = same(placed.get(), want, (size_t)n_cols) && ok;
    ok = done(glm4v_cuda_take(stream, taken.data, dx.data, dmap.data, 0, n_cols)) && ok;
    result(taken.guarded() && placed.guarded() && ok, text("place and take, n_cols %d", n_cols));
}

/* ---- tables ---- */

static std::vector<float> table_reference(glm4v_cuda_form form, const std::vector<float> &rows,
                                          int n_rows, int n_cols)
{
    std::vector<float> want = rows;
    std::vector<int8_t> q((size_t)n_cols);
    if (form == GLM4V_CUDA_INT8)
        for (int r = 0; r < n_rows; r++) {
            float scale;
            glm4v_f32_to_int8_c(q.data(), &scale, &rows[(size_t)r * n_cols], (size_t)n_cols);
            glm4v_int8_to_f32_c(&want[(size_t)r * n_cols], q.data(), scale, (size_t)n_cols);
        }
    return floats(bf16(want));
}

static void test_embed(glm4v_cuda_form form, int n_cols)
{
    if (!check::wanted())
        return;
    const int n_rows = 48;
    static const char *const names[] = { "f32", "bf16", "int8" };
    std::vector<float> rows = normals((size_t)n_rows * n_cols);
    std::fill(rows.begin(), rows.begin() + n_cols, 0.0f);
    buffer<float> drows(rows), scale((size_t)n_rows);
    buffer<char> data((size_t)n_rows * n_cols *
                      (form == GLM4V_CUDA_F32    ? 4
                       : form == GLM4V_CUDA_BF16 ? 2
                                                 : 1));
    const glm4v_cuda_table t = { form, n_rows, n_cols, data.data, scale.data };
    bool ok = done(glm4v_cuda_table_fill(stream, &t, 0, 16, drows.data));
    ok = done(glm4v_cuda_table_fill(stream, &t, 16, 32, drows.data + (size_t)16 * n_cols)) && ok;
    const std::vector<int32_t> ids = { 5, INT32_MIN, 47, 0, -1 }, slots = { 0, 1, 0, 0, 0 };
    const std::vector<int> chosen = { 5, 33, 47, 0, 0 };
    buffer<int32_t> dids(ids), dslots(slots), sampled(std::vector<int32_t> { 7, 33 });
    glm4v_cuda_step_data step = {};
    step.ids = dids.data;
    step.slot = dslots.data;
    buffer<uint16_t> y(ids.size() * (size_t)n_cols);
    ok = done(glm4v_cuda_embed(stream, y.data, &t, &step, sampled.data, (int)ids.size())) && ok;
    const std::vector<float> table = table_reference(form, rows, n_rows, n_cols);
    std::vector<float> want;
    for (int row : chosen)
        want.insert(want.end(), &table[(size_t)row * n_cols],
                    &table[(size_t)row * n_cols] + n_cols);
    ok = same(floats(y.get()), want, (size_t)n_cols) && ok;
    result(y.guarded() && data.guarded() && scale.guarded() && ok,
           text("table and embed, %s, n_cols %d", names[form], n_cols));
}

/* ---- norms ---- */

struct norm_case {
    int rows, groups, n;
    bool layer, add, in_place;
};

static std::vector<float> norm_reference(const norm_case &c, const std::vector<float> &x,
                                         const std::vector<float> &w,
                                         const std::vector<float> &bias, std::vector<float> y)
{
    for (int i = 0; i < c.rows * c.groups; i++) {
        float *to = &y[(size_t)i * c.n];
        const float *from = &x[(size_t)i * c.n];
        if (c.layer)
            glm4v_layer_norm_c(to, from, w.data(), bias.data(), c.n, 1e-5f, c.add);
        else
            glm4v_rms_norm_c(to, from, w.data(), c.n, 1e-5f, c.add);
    }
    return y;
}

static void test_norm(const norm_case &c)
{
    if (!check::wanted())
        return;
    const size_t n = (size_t)c.rows * c.groups * c.n;
    const std::vector<float> x = normals_bf16(n, 3), w = normals((size_t)c.n),
                             bias = normals((size_t)c.n), y = c.in_place ? x : normals_bf16(n);
    buffer<uint16_t> dx(bf16(x)), dy(bf16(y));
    buffer<float> dw(w), dbias(bias);
    glm4v_cuda_norm args = {};
    args.y = dy.data;
    args.x = c.in_place ? dy.data : dx.data;
    args.ldx = args.ldy = (int64_t)c.groups * c.n;
    args.w = dw.data;
    args.bias = c.layer ? dbias.data : nullptr;
    args.eps = 1e-5f;
    args.rows = c.rows, args.groups = c.groups, args.n = c.n;
    args.add = c.add;
    bool ok = done(glm4v_cuda_norm_rows(stream, &args));
    const std::vector<uint16_t> got = dy.get();
    ok = close_to(floats(got), norm_reference(c, x, w, bias, y), (size_t)c.n) && ok;
    if (c.rows > 1 && !c.in_place) { /* the last row alone */
        const size_t at = (size_t)(c.rows - 1) * c.groups * c.n;
        dy.put(bf16(y));
        args.x += at, args.y += at, args.rows = 1;
        ok = done(glm4v_cuda_norm_rows(stream, &args)) && ok;
        const std::vector<uint16_t> alone = dy.get();
        ok = same(std::vector<uint16_t>(alone.begin() + at, alone.end()),
                  std::vector<uint16_t>(got.begin() + at, got.end()), (size_t)c.n) &&
             ok;
    }
    result(dy.guarded() && ok,
           text("%s norm, rows %d, groups %d, n %d%s%s", c.layer ? "layer" : "rms", c.rows,
                c.groups, c.n, c.add ? ", add" : "", c.in_place ? ", in place" : ""));
}

/* ---- norm, rounded ---- */

struct round_case {
    glm4v_cuda_form form;
    int rows, n;
    bool order, branch, branch_norm, by_group;
    bool sums; /* the branch is sums of a raw product */
};

/* Random numbers, where they are needed. */
static std::vector<float> scales(const round_case &c, int n)
{
    return c.sums ? normals((size_t)n) : std::vector<float>((size_t)n);
}

/* Device memory of a round_case. */
struct round_data {
    buffer<uint16_t> x, branch, y;
    buffer<float> w, branch_w, scale, column, row, bias; /* column, row, bias: of sums */
    buffer<int8_t> q;
    buffer<int32_t> order;

    round_data(const round_case &c, const std::vector<int32_t> &map)
        : x(bf16(normals((size_t)c.rows * c.n, 2))), branch(bf16(normals((size_t)c.rows * c.n))),
          y((size_t)c.rows * c.n), w(normals((size_t)c.n)), branch_w(normals((size_t)c.n)),
          scale(((size_t)c.rows + 15) * ((size_t)c.n / 32 + 4)), column(scales(c, c.n)),
          row(scales(c, c.rows)), bias(scales(c, c.n)),
          q((size_t)c.rows * ((size_t)c.n + 127) / 128 * 128 * 2 + 256 * (size_t)c.rows), order(map)
    {
    }
};

static cudaError_t run_round(const round_case &c, round_data &d, glm4v_cuda_rounded *out)
{
    glm4v_cuda_matrix w = {};
    w.form = c.form;
    w.n_in = c.n;
    w.order = c.order ? d.order.data : nullptr;
    *out = {};
    out->q = d.q.data;
    out->scale = d.scale.data;
    out->by_group = c.by_group;
    glm4v_cuda_norm_round args = {};
    args.norm.y = d.y.data;
    args.norm.x = d.x.data;
    args.norm.ldx = args.norm.ldy = args.ldbranch = c.n;
    args.norm.w = d.w.data;
    args.norm.eps = args.branch_eps = 1e-5f;
    args.norm.rows = c.rows, args.norm.groups = 1, args.norm.n = c.n;
    args.branch = c.branch ? d.branch.data : nullptr;
    args.branch_norm = c.branch_norm ? d.branch_w.data : nullptr;
    if (c.sums) {
        args.branch_column = d.column.data;
        args.branch_row = d.row.data;
        args.branch_bias = c.branch_norm ? nullptr : d.bias.data;
    }
    args.w = &w;
    args.out = out;
    return glm4v_cuda_norm_rounded(stream, &args);
}

/* Numbers of the branch, rounded to bf16 where a norm follows. */
static std::vector<float> branch_numbers(const round_case &c, const round_data &d)
{
    std::vector<float> branch = floats(d.branch.get());
    const std::vector<float> column = d.column.get(), row = d.row.get(), bias = d.bias.get();
    for (size_t i = 0; c.sums && i < branch.size(); i++) {
        const float product = branch[i] * column[i % c.n] * row[i / c.n];
        branch[i] = product + (c.branch_norm ? 0 : bias[i % c.n]);
    }
    return c.sums && c.branch_norm ? floats(bf16(branch)) : branch;
}

/* x after the branch: what the separate kernels make. */
static std::vector<float> with_branch(const round_case &c, const round_data &d)
{
    std::vector<float> x = floats(d.x.get()), branch = branch_numbers(c, d);
    const std::vector<float> w = d.branch_w.get();
    for (int r = 0; r < c.rows && c.branch; r++) {
        float *row = &x[(size_t)r * c.n];
        if (c.branch_norm)
            glm4v_rms_norm_c(row, &branch[(size_t)r * c.n], w.data(), c.n, 1e-5f, true);
        else
            glm4v_add_c(row, &branch[(size_t)r * c.n], (size_t)c.n);
    }
    return floats(bf16(x));
}

/* The codes that quantize_row makes of bf16 rows in the order of the matrix. */
static bool codes_match(const round_case &c, const round_data &d, const glm4v_cuda_rounded &out,
                        const std::vector<float> &normed, const std::vector<int32_t> &map)
{
    const int group = c.form == GLM4V_CUDA_INT4_32 ? 32 : 128, groups = (c.n + group - 1) / group;
    const size_t padded = ((size_t)c.n + 127) / 128 * 128;
    const std::vector<int8_t> got = d.q.get();
    const std::vector<float> scales = d.scale.get();
    std::vector<float> row((size_t)c.n), scale((size_t)groups);
    std::vector<int32_t> sum((size_t)groups);
    bool ok = out.ldq == (int64_t)padded && out.ldscale == (c.by_group ? 1 : groups) &&
              out.ldgroup == (c.by_group ? (c.rows + 15) / 16 * 16 : 1);
    for (int r = 0; r < c.rows && ok; r++) {
        std::vector<int8_t> q(padded, 0);
        for (int k = 0; k < c.n; k++)
            row[(size_t)k] = normed[(size_t)r * c.n + (c.order ? map[(size_t)k] : k)];
        (group == 32 ? glm4v_quantize_row_32_c : glm4v_quantize_row_c)(q.data(), scale.data(),
                                                                       sum.data(), row.data(), c.n);
        const size_t at = (size_t)r * padded;
        ok = same(std::vector<int8_t>(got.begin() + at, got.begin() + at + padded), q, padded);
        for (int g = 0; g < groups && ok; g++)
            ok = scales[(size_t)(r * out.ldscale + g * out.ldgroup)] == scale[(size_t)g];
    }
    return ok;
}

/* The codes that fp8_row makes. */
static bool e4m3_match(const round_case &c, const round_data &d, const glm4v_cuda_rounded &out,
                       const std::vector<float> &normed, const std::vector<int32_t> &map)
{
    const size_t padded = ((size_t)c.n + 127) / 128 * 128;
    const std::vector<int8_t> got = d.q.get();
    const std::vector<float> scales = d.scale.get();
    std::vector<float> row((size_t)c.n);
    std::vector<uint16_t> values((size_t)c.n + 1);
    bool ok = out.ldq == (int64_t)padded && out.ldscale == 1;
    for (int r = 0; r < c.rows && ok; r++) {
        std::vector<int8_t> q(padded, 0);
        float scale;
        for (int k = 0; k < c.n; k++)
            row[(size_t)k] = normed[(size_t)r * c.n + (c.order ? map[(size_t)k] : k)];
        glm4v_fp8_row_c(values.data(), &scale, row.data(), c.n);
        for (int k = 0; k < c.n; k++)
            q[(size_t)k] = (int8_t)glm4v_f32_to_e4m3(from_bf16(values[(size_t)k]));
        const size_t at = (size_t)r * padded;
        ok = same(std::vector<int8_t>(got.begin() + at, got.begin() + at + padded), q, padded) &&
             scales[(size_t)r] == scale;
    }
    return ok;
}

/* Forms that take bf16: the inputs in the order of the matrix, zeros up to ldq. */
static bool reordered(const round_case &c, const round_data &d, const glm4v_cuda_rounded &out,
                      const std::vector<float> &normed, const std::vector<int32_t> &map)
{
    const size_t padded = ((size_t)c.n + 7) / 8 * 8;
    const std::vector<int8_t> bytes = d.q.get();
    std::vector<uint16_t> got((size_t)c.rows * padded), want(got.size(), 0);
    memcpy(got.data(), bytes.data(), got.size() * 2);
    for (int r = 0; r < c.rows; r++)
        for (int k = 0; k < c.n; k++)
            want[(size_t)r * padded + k] = to_bf16(normed[(size_t)r * c.n + map[(size_t)k]]);
    return out.ldq == (int64_t)padded && same(got, want, padded);
}

/* What a product with plain bf16 weights reads: y, or rows filled up to 16 bytes. */
static std::vector<float> plain_rows(const round_case &c, const round_data &d,
                                     const glm4v_cuda_rounded &out)
{
    if (c.n % 8 == 0)
        return floats(d.y.get());
    const std::vector<int8_t> bytes = d.q.get();
    std::vector<uint16_t> padded((size_t)c.rows * (size_t)out.ldq), rows;
    memcpy(padded.data(), bytes.data(), padded.size() * 2);
    for (int r = 0; r < c.rows; r++)
        rows.insert(rows.end(), padded.begin() + r * out.ldq, padded.begin() + r * out.ldq + c.n);
    return floats(rows);
}

static void test_rounded(const round_case &c)
{
    if (!check::wanted())
        return;
    static const char *const names[] = { "f32", "bf16",    "int8",       "int4",
                                         "fp8", "int4_32", "fp8_dynamic" };
    std::vector<int32_t> map((size_t)c.n);
    for (int k = 0; k < c.n; k++)
        map[(size_t)k] = (k * 7 + 3) % c.n;
    round_data d(c, map);
    const std::vector<float> x = with_branch(c, d), w = d.w.get();
    std::vector<float> want(x.size());
    for (int r = 0; r < c.rows; r++)
        glm4v_rms_norm_c(&want[(size_t)r * c.n], &x[(size_t)r * c.n], w.data(), c.n, 1e-5f, false);
    const std::vector<uint16_t> before = d.x.get();
    glm4v_cuda_rounded out;
    round_case plain = c;
    plain.form = GLM4V_CUDA_BF16;
    plain.order = false;
    bool ok = done(run_round(plain, d, &out));
    const std::vector<float> normed = plain_rows(c, d, out);
    ok = close_to(normed, want, (size_t)c.n) && ok;
    ok = close_to(floats(d.x.get()), x, (size_t)c.n) && ok;
    d.x.put(before);
    ok = done(run_round(c, d, &out)) && ok;
    if (c.form == GLM4V_CUDA_INT8 || c.form == GLM4V_CUDA_INT4 || c.form == GLM4V_CUDA_INT4_32)
        ok = codes_match(c, d, out, normed, map) && ok;
    else if (c.form == GLM4V_CUDA_FP8_DYNAMIC)
        ok = e4m3_match(c, d, out, normed, map) && ok;
    else if (c.order)
        ok = reordered(c, d, out, normed, map) && ok;
    result(d.x.guarded() && d.y.guarded() && d.q.guarded() && d.scale.guarded() && ok,
           text("norm_rounded, %s, rows %d, n %d%s%s%s%s%s", names[c.form], c.rows, c.n,
                c.order ? ", order" : "", c.branch ? ", branch" : "",
                c.branch_norm ? " normed" : "", c.by_group ? ", by group" : "",
                c.sums ? ", sums" : ""));
}

/* ---- times ---- */

static void bench_norm(int rows, int n, glm4v_cuda_form form = GLM4V_CUDA_INT4)
{
    const int sets = 16;
    std::vector<std::unique_ptr<round_data>> data;
    const round_case c = {
        form, rows, n, false, true, true, false, form == GLM4V_CUDA_FP8_DYNAMIC
    };
    for (int i = 0; i < sets; i++)
        data.emplace_back(new round_data(c, std::vector<int32_t>(1)));
    glm4v_cuda_rounded out;
    const double us = microseconds(sets, [&](int i) { return run_round(c, *data[i], &out); });
    report(text("norm_rounded branch+norm%s, %d x %d",
                form == GLM4V_CUDA_FP8_DYNAMIC ? " e4m3" : "", rows, n),
           us, 7.0 * rows * n, 0);
}

static void bench_silu(int rows, int n)
{
    const int sets = 8;
    buffer<uint16_t> x((size_t)sets * rows * 2 * n), y((size_t)sets * rows * n);
    x.repeat(bf16(normals(MANY)));
    const double us = microseconds(sets, [&](int i) {
        return glm4v_cuda_silu_mul(stream, y.data + (size_t)i * rows * n,
                                   x.data + (size_t)i * rows * 2 * n, rows, n);
    });
    report(text("silu_mul, %d x %d", rows, n), us, 6.0 * rows * n, 0);
}

/* Scales of sums, for times only. */
static glm4v_cuda_sums sums_at(const buffer<uint16_t> &x, const buffer<float> &scale, int i,
                               int rows, int n)
{
    return { x.data + (size_t)i * rows * n, n, scale.data, scale.data, nullptr, rows, n };
}

static void bench_sums(int rows, int n)
{
    const int sets = 8;
    buffer<uint16_t> x((size_t)sets * rows * n);
    buffer<float> scale(normals((size_t)std::max(rows, n)));
    x.repeat(bf16(normals(MANY)));
    const double us = microseconds(sets, [&](int i) {
        const glm4v_cuda_sums s = sums_at(x, scale, i, rows, n);
        return glm4v_cuda_finish_sums(stream, x.data + (size_t)i * rows * n, n, &s,
                                      GLM4V_CUDA_PLAIN, false);
    });
    report(text("finish_sums, %d x %d", rows, n), us, 4.0 * rows * n, 0);
}

static void bench_silu_round(int rows, int n)
{
    const int sets = 8;
    buffer<uint16_t> x((size_t)sets * rows * 2 * n);
    buffer<float> scale(normals((size_t)std::max(rows, 2 * n))), y(rows);
    buffer<int8_t> q((size_t)rows * n);
    x.repeat(bf16(normals(MANY)));
    glm4v_cuda_matrix w = {};
    w.form = GLM4V_CUDA_FP8_DYNAMIC;
    w.n_in = n;
    glm4v_cuda_rounded out = {};
    out.q = q.data;
    out.scale = y.data;
    const double us = microseconds(sets, [&](int i) {
        const glm4v_cuda_sums s = sums_at(x, scale, i, rows, 2 * n);
        return glm4v_cuda_silu_round(stream, &out, &w, &s);
    });
    report(text("silu_round, %d x %d", rows, n), us, 5.0 * rows * n, 0);
}

static void bench_row(int rows, int n)
{
    const int sets = 8;
    buffer<uint16_t> x((size_t)sets * rows * n);
    buffer<float> scale(rows);
    buffer<int8_t> q((size_t)rows * n);
    x.repeat(bf16(normals(MANY)));
    glm4v_cuda_matrix w = {};
    w.form = GLM4V_CUDA_FP8_DYNAMIC;
    w.n_in = n;
    glm4v_cuda_rounded out = {};
    out.q = q.data;
    out.scale = scale.data;
    const double us = microseconds(sets, [&](int i) {
        return glm4v_cuda_round(stream, &out, &w, x.data + (size_t)i * rows * n, n, rows);
    });
    report(text("round to e4m3, %d x %d", rows, n), us, 3.0 * rows * n, 0);
}

static void bench_gelu(size_t n)
{
    const int sets = 8;
    buffer<uint16_t> x((size_t)sets * n);
    x.repeat(bf16(normals(MANY)));
    const double us =
        microseconds(sets, [&](int i) { return glm4v_cuda_gelu(stream, x.data + i * n, n); });
    report(text("gelu, %zu", n), us, 4.0 * (double)n, 0);
}

static void bench()
{
    report_copy();
    bench_norm(1, 4096);
    bench_norm(16, 4096);
    bench_norm(606, 4096);
    bench_norm(2304, 1536);
    bench_norm(606, 4096, GLM4V_CUDA_FP8_DYNAMIC);
    bench_norm(2304, 1536, GLM4V_CUDA_FP8_DYNAMIC);
    bench_sums(606, 4608);
    bench_sums(2304, 4608);
    bench_silu_round(606, 13696);
    bench_silu_round(2304, 4096);
    bench_row(606, 4096);
    bench_row(2304, 1536);
    bench_row(606, 13696);
    bench_silu(606, 13696);
    bench_gelu((size_t)6401 * 15360 / 4);
}

int main(int argc, char **argv)
{
    const int rc = open();
    if (rc)
        return rc;
    for (int n : { 1, 7, 8, 2048, 5003 }) {
        for (const char *name : { "add", "scale", "gelu" })
            test_map(name, n);
        test_widen_narrow(n);
    }
    for (int n : { 1, 8, 72, 144, 4096 })
        test_silu_mul(3, n);
    for (int n : { 1, 8, 33, 4096 })
        test_place_take(n);
    for (glm4v_cuda_form form : { GLM4V_CUDA_F32, GLM4V_CUDA_BF16, GLM4V_CUDA_INT8 })
        for (int n : { 5, 128, 4096 })
            test_embed(form, n);
    for (int n : { 1, 7, 32, 128, 256, 300, 1024, 1536, 1792, 4096, 5000, 8192, 13696, 16384 })
        for (int kind = 0; kind < 4; kind++)
            test_norm({ 3, 1, n, kind % 2 == 1, kind / 2 == 1, false });
    test_norm({ 5, 36, 128, false, false, true });
    test_norm({ 5, 3, 64, false, false, false });
    test_norm({ 2, 2, 2048, true, false, true });
    for (glm4v_cuda_form form : { GLM4V_CUDA_INT8, GLM4V_CUDA_INT4, GLM4V_CUDA_INT4_32 })
        for (int n : { 128, 1536, 4096, 13696 })
            for (int kind = 0; kind < 4; kind++)
                test_rounded({ form, 3, n, kind == 3, kind > 0, kind > 1, kind == 2 });
    for (int n : { 1, 100, 144, 1176 })
        test_rounded({ GLM4V_CUDA_INT8, 2, n, false, false, false, false });
    for (int n : { 1, 100, 1536, 4096, 8192, 13696 })
        for (int kind = 0; kind < (n > 1 ? 6 : 3); kind++)
            test_rounded({ GLM4V_CUDA_FP8_DYNAMIC, 3, n, kind % 3 == 2, kind > 0, kind % 3 == 1,
                           false, kind > 2 });
    test_rounded({ GLM4V_CUDA_BF16, 3, 4096, false, true, true, false, true });
    test_rounded({ GLM4V_CUDA_INT8, 3, 1536, false, true, false, false, true });
    test_rounded({ GLM4V_CUDA_FP8, 2, 144, true, true, false, false });
    test_rounded({ GLM4V_CUDA_BF16, 2, 4100, true, false, false, false });
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        bench();
    return close();
}
