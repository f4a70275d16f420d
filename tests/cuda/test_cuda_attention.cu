/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/cuda/attention.h against the C kernels, on the same bf16 inputs. */
#include "attention.h"
#include "check.cuh"

namespace c
{
extern "C" {
#include "../../kernels/attention.h"
#include "convert.h"
#include "gemm.h"
#include "norm.h"
#include "rope.h"
}
} // namespace c

using namespace check;
using floats_of = std::vector<float>;

/* ---- a cache of keys and values, here and on the device ---- */

struct cache {
    glm4v_cuda_kv kv;
    buffer<uint8_t> keys, values;
    buffer<float> k_scale, v_scale;

    static size_t tokens(const glm4v_cuda_kv &s)
    {
        return (size_t)s.layers * s.heads * ((size_t)s.slots * s.length + s.kept);
    }
    explicit cache(const glm4v_cuda_kv &s)
        : kv(s), keys(tokens(s) * s.head_dim * (s.form == GLM4V_CUDA_KV_BF16 ? 2 : 1)),
          values(keys.n), k_scale(tokens(s)), v_scale(tokens(s))
    {
        kv.keys = keys.data, kv.values = values.data;
        kv.k_scale = k_scale.data, kv.v_scale = v_scale.data;
    }
    /* Random contents; the scale of keys makes weights uneven. */
    void fill()
    {
        fill_one(keys, k_scale, 1.5f);
        fill_one(values, v_scale, 1);
    }
    void fill_one(buffer<uint8_t> &data, buffer<float> &scale, float size)
    {
        std::vector<uint8_t> bytes(std::min(data.n, MANY));
        if (kv.form == GLM4V_CUDA_KV_BF16) {
            const std::vector<uint16_t> x = bf16(normals(bytes.size() / 2, size));
            memcpy(bytes.data(), x.data(), bytes.size());
        } else {
            for (uint8_t &b : bytes)
                b = (uint8_t)(int8_t)(below(255) - 127);
            floats_of s(std::min(scale.n, MANY));
            for (float &x : s)
                x = size * (0.5f + unit()) / 70;
            scale.repeat(s);
        }
        data.repeat(bytes);
    }
    floats_of read(bool value) const
    {
        const std::vector<uint8_t> bytes = (value ? values : keys).get();
        floats_of x(tokens(kv) * kv.head_dim);
        if (kv.form == GLM4V_CUDA_KV_BF16) {
            for (size_t i = 0; i < x.size(); i++)
                x[i] = from_bf16((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
            return x;
        }
        const floats_of scale = (value ? v_scale : k_scale).get();
        for (size_t i = 0; i < x.size(); i++)
            x[i] = scale[i / (size_t)kv.head_dim] * (float)(int8_t)bytes[i];
        return x;
    }
    bool guarded() const
    {
        return keys.guarded() && values.guarded() && k_scale.guarded() && v_scale.guarded();
    }
};

static glm4v_cuda_kv shape(glm4v_cuda_kv_form form, int heads, int head_dim, int slots, int length,
                           int kept)
{
    glm4v_cuda_kv kv = {};
    kv.form = form;
    kv.layers = 2, kv.heads = heads, kv.head_dim = head_dim;
    kv.slots = slots, kv.length = length, kv.kept = kept;
    return kv;
}

/* One query head against keys [0, n_keys) of head_dim, ld apart. */
static void attend_head(float *o, const float *q, const float *k, const float *v, ptrdiff_t ld,
                        int n_keys, int head_dim, float scale)
{
    floats_of scratch(c::glm4v_attention_scratch(1, n_keys, head_dim));
    c::glm4v_attention_args a = {};
    float *outs[1] = { o };
    const float *queries[1] = { q };
    a.o = outs, a.q = queries, a.n_keys = &n_keys;
    a.k = k, a.v = v, a.ldk = ld, a.ldv = ld;
    a.rows = 1, a.head_dim = head_dim, a.scale = scale;
    a.scratch = scratch.data();
    c::glm4v_attention_c(&a);
}

/* ---- rotary ---- */

static void test_gather(int n_freq, bool sections)
{
    if (!check::wanted())
        return;
    const int rows = 5, table = 40;
    const floats_of cos = normals((size_t)table * n_freq), sin = normals((size_t)table * n_freq);
    buffer<float> dcos(cos), dsin(sin), to_cos((size_t)rows * n_freq),
        to_sin((size_t)rows * n_freq);
    std::vector<int32_t> axis[3];
    for (auto &a : axis)
        for (int i = 0; i < rows; i++)
            a.push_back(below(table));
    buffer<int32_t> t(axis[0]), h(axis[1]), w(axis[2]);
    glm4v_cuda_step_data step = {};
    step.axis[0] = t.data, step.axis[1] = h.data, step.axis[2] = w.data;
    step.cos = to_cos.data, step.sin = to_sin.data;
    glm4v_cuda_rotary r = { dcos.data, dsin.data, rows, n_freq, {} };
    const int s0 = n_freq / 4, s1 = (n_freq - s0) / 2;
    if (sections)
        r.section[0] = s0, r.section[1] = s1, r.section[2] = n_freq - s0 - s1;
    floats_of want_cos, want_sin;
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < n_freq; k++) {
            const int a = k < s0 ? 0 : k < s0 + s1 ? 1 : 2;
            const size_t at = (size_t)(sections ? axis[a][i] : i) * n_freq + k;
            want_cos.push_back(cos[at]);
            want_sin.push_back(sin[at]);
        }
    bool ok = done(glm4v_cuda_gather_rotary(stream, &step, &r));
    ok = same(to_cos.get(), want_cos, n_freq) && same(to_sin.get(), want_sin, n_freq) && ok;
    result(to_cos.guarded() && to_sin.guarded() && ok,
           text("gather_rotary, n_freq %d%s", n_freq, sections ? ", sections" : ""));
}

static void rotate_reference(float *x, const float *cos, const float *sin, int heads, int head_dim,
                             int n_freq, bool half)
{
    (half ? c::glm4v_rope_half_c : c::glm4v_rope_interleaved_c)(x, cos, sin, heads, head_dim,
                                                                n_freq);
}

static void test_rotate(int heads, int head_dim, int n_freq, bool half)
{
    if (!check::wanted())
        return;
    const int rows = 3;
    const int64_t ld = heads * head_dim + 8;
    floats_of x = normals_bf16((size_t)rows * ld), cos, sin;
    for (int i = 0; i < rows * n_freq; i++) {
        const float angle = 6 * unit();
        cos.push_back(cosf(angle));
        sin.push_back(sinf(angle));
    }
    buffer<uint16_t> dx(bf16(x));
    buffer<float> dcos(cos), dsin(sin);
    const glm4v_cuda_rope r = { dx.data, ld,       dcos.data, dsin.data, rows,
                                heads,   head_dim, n_freq,    half };
    for (int i = 0; i < rows; i++)
        rotate_reference(&x[(size_t)i * ld], &cos[(size_t)i * n_freq], &sin[(size_t)i * n_freq],
                         heads, head_dim, n_freq, half);
    bool ok = done(glm4v_cuda_rotate(stream, &r));
    ok = close_to(floats(dx.get()), x, (size_t)ld) && ok;
    result(dx.guarded() && ok, text("rotate %s, heads %d of %d, n_freq %d",
                                    half ? "half" : "interleaved", heads, head_dim, n_freq));
}

/* Scales of a raw product's sums x [rows, n]. */
struct sum_scales {
    buffer<float> column, row, bias;

    sum_scales(int rows, int n)
        : column(normals((size_t)n)), row(normals((size_t)rows)), bias(normals((size_t)n))
    {
    }
    glm4v_cuda_sums of(const buffer<uint16_t> &x, int64_t ld) const
    {
        return { x.data, ld, column.data, row.data, bias.data, (int)row.n, (int)column.n };
    }
};

/* Sums made numbers along with the rotation are those made before it, byte for byte. */
static void test_rotate_sums(int heads, int head_dim, int n_freq, bool half)
{
    const int rows = 3, all = heads + 2, n = all * head_dim;
    const std::vector<uint16_t> x = bf16(normals((size_t)rows * n));
    buffer<uint16_t> together(x), apart(x);
    buffer<float> cos(normals((size_t)rows * n_freq)), sin(normals((size_t)rows * n_freq));
    const sum_scales scales(rows, n);
    const glm4v_cuda_sums s = scales.of(apart, n);
    glm4v_cuda_rope r = {
        together.data, n, cos.data, sin.data, rows, heads, head_dim, n_freq, half
    };
    r.sums = scales.of(together, n);
    bool ok = done(glm4v_cuda_rotate(stream, &r));
    r.x = apart.data;
    r.sums = {};
    ok = done(glm4v_cuda_finish_sums(stream, apart.data, n, &s, GLM4V_CUDA_PLAIN, false)) && ok;
    ok = done(glm4v_cuda_rotate(stream, &r)) && ok;
    ok = same(together.get(), apart.get(), (size_t)n) && ok;
    result(together.guarded() && ok, text("rotate sums %s, heads %d of %d, n_freq %d",
                                          half ? "half" : "interleaved", heads, head_dim, n_freq));
}

/* ---- keys and values ---- */

struct step_buffers {
    buffer<int32_t> slot, position;
    glm4v_cuda_step_data data;

    step_buffers(const std::vector<int32_t> &slots, const std::vector<int32_t> &positions)
        : slot(slots), position(positions), data()
    {
        data.slot = slot.data, data.position = position.data;
    }
};

/* What the cache should hold of a head. */
static void keep(floats_of &all, const glm4v_cuda_kv &kv, size_t at, const float *head)
{
    floats_of x(head, head + kv.head_dim);
    if (kv.form == GLM4V_CUDA_KV_INT8) {
        std::vector<int8_t> q((size_t)kv.head_dim);
        float scale;
        c::glm4v_f32_to_int8_c(q.data(), &scale, head, (size_t)kv.head_dim);
        c::glm4v_int8_to_f32_c(x.data(), q.data(), scale, (size_t)kv.head_dim);
    }
    std::copy(x.begin(), x.end(), all.begin() + (ptrdiff_t)at);
}

static void test_append(glm4v_cuda_kv_form form, int heads, int head_dim)
{
    if (!check::wanted())
        return;
    cache store(shape(form, heads, head_dim, 3, 20, 7));
    store.fill();
    floats_of keys = store.read(false), values = store.read(true);
    const std::vector<int32_t> slots = { 2, 0, 3, 2 }, positions = { 19, 0, 6, 3 };
    const step_buffers step(slots, positions);
    const int64_t ld = 2 * heads * head_dim;
    const floats_of x = normals_bf16(slots.size() * (size_t)ld, 3);
    buffer<uint16_t> dx(bf16(x));
    const glm4v_cuda_append a = { dx.data, dx.data + heads * head_dim, ld, 1, (int)slots.size() };
    for (size_t r = 0; r < slots.size(); r++)
        for (int h = 0; h < heads; h++) {
            const size_t at = glm4v_cuda_kv_at(&store.kv, 1, slots[r], h, positions[r]);
            const float *row = &x[r * (size_t)ld + (size_t)h * head_dim];
            keep(keys, store.kv, at, row);
            keep(values, store.kv, at, row + heads * head_dim);
        }
    bool ok = done(glm4v_cuda_append_kv(stream, &store.kv, &step.data, &a));
    ok = same(store.read(false), keys, head_dim) && same(store.read(true), values, head_dim) && ok;
    result(store.guarded() && ok,
           text("append %s, heads %d of %d", form ? "int8" : "bf16", heads, head_dim));
}

static void test_copy(glm4v_cuda_kv_form form, int head_dim, int to, int from, int n)
{
    if (!check::wanted())
        return;
    cache store(shape(form, 3, head_dim, 2, 20, 9));
    store.fill();
    floats_of want[2] = { store.read(false), store.read(true) };
    for (floats_of &x : want)
        for (int layer = 0; layer < 2; layer++)
            for (int head = 0; head < 3; head++)
                std::copy_n(x.begin() +
                                (ptrdiff_t)glm4v_cuda_kv_at(&store.kv, layer, from, head, 0),
                            n * head_dim,
                            x.begin() + (ptrdiff_t)glm4v_cuda_kv_at(&store.kv, layer, to, head, 0));
    bool ok = done(glm4v_cuda_copy_kv(stream, &store.kv, to, from, n));
    ok = same(store.read(false), want[0], head_dim) && ok;
    ok = same(store.read(true), want[1], head_dim) && ok;
    result(store.guarded() && ok, text("copy_kv %s, %d tokens of %d, slot %d to %d",
                                       form ? "int8" : "bf16", n, head_dim, from, to));
}

/* Likewise for rotation and append. */
static void test_append_sums(glm4v_cuda_kv_form form, bool half)
{
    const int rows = 3, heads = 8, kv_heads = 2, head_dim = 128, n_freq = 32;
    const int n = (heads + 2 * kv_heads) * head_dim;
    cache store(shape(form, kv_heads, head_dim, 3, 20, 7));
    store.fill();
    const std::vector<int32_t> slots = { 1, 3, 0 }, positions = { 5, 2, 19 };
    const step_buffers step(slots, positions);
    const std::vector<uint16_t> x = bf16(normals((size_t)rows * n));
    buffer<uint16_t> together(x), apart(x);
    buffer<float> cos(normals((size_t)rows * n_freq)), sin(normals((size_t)rows * n_freq));
    const sum_scales scales(rows, n);
    const glm4v_cuda_sums s = scales.of(apart, n);
    glm4v_cuda_qkv a = {};
    a.rope = { together.data, n,        cos.data, sin.data, rows,
               heads,         head_dim, n_freq,   half,     scales.of(together, n) };
    a.layer = 1;
    bool ok = done(glm4v_cuda_rotate_append(stream, &store.kv, &step.data, &a));
    const floats_of keys = store.read(false), values = store.read(true);
    a.rope.x = apart.data;
    a.rope.sums = {};
    ok = done(glm4v_cuda_finish_sums(stream, apart.data, n, &s, GLM4V_CUDA_PLAIN, false)) && ok;
    ok = done(glm4v_cuda_rotate_append(stream, &store.kv, &step.data, &a)) && ok;
    ok = same(store.read(false), keys, head_dim) && same(store.read(true), values, head_dim) && ok;
    const std::vector<uint16_t> left = together.get(), right = apart.get();
    for (int r = 0; r < rows; r++)
        ok = !memcmp(&left[(size_t)r * n], &right[(size_t)r * n], (size_t)heads * head_dim * 2) &&
             ok;
    result(together.guarded() && store.guarded() && ok,
           text("rotate_append sums %s %s", form ? "int8" : "bf16", half ? "half" : "interleaved"));
}

struct qkv_case {
    glm4v_cuda_kv_form form;
    int heads, kv_heads, head_dim, n_freq;
    bool half, q_norm, k_norm;
};

static void test_rotate_append(const qkv_case &t)
{
    if (!check::wanted())
        return;
    cache store(shape(t.form, t.kv_heads, t.head_dim, 3, 20, 7));
    store.fill();
    floats_of keys = store.read(false), values = store.read(true);
    const std::vector<int32_t> slots = { 1, 3, 0 }, positions = { 5, 2, 19 };
    const step_buffers step(slots, positions);
    const int64_t ld = (t.heads + 2 * t.kv_heads) * t.head_dim;
    floats_of x = normals_bf16(slots.size() * (size_t)ld, 2), cos, sin;
    const floats_of qw = normals((size_t)t.head_dim), kw = normals((size_t)t.head_dim);
    for (int i = 0; i < 3 * t.n_freq; i++) {
        const float angle = 6 * unit();
        cos.push_back(cosf(angle));
        sin.push_back(sinf(angle));
    }
    buffer<uint16_t> dx(bf16(x));
    buffer<float> dcos(cos), dsin(sin), dqw(qw), dkw(kw);
    const glm4v_cuda_qkv a = { { dx.data, ld, dcos.data, dsin.data, 3, t.heads, t.head_dim,
                                 t.n_freq, t.half },
                               t.q_norm ? dqw.data : nullptr,
                               t.k_norm ? dkw.data : nullptr,
                               1e-5f,
                               1 };
    floats_of want_q, got_q;
    for (size_t r = 0; r < slots.size(); r++) {
        float *row = &x[r * (size_t)ld];
        for (int h = 0; h < t.heads + t.kv_heads; h++) {
            float *head = row + h * t.head_dim;
            if (h < t.heads ? t.q_norm : t.k_norm)
                c::glm4v_rms_norm_c(head, head, h < t.heads ? qw.data() : kw.data(), t.head_dim,
                                    1e-5f, false);
            rotate_reference(head, &cos[r * t.n_freq], &sin[r * t.n_freq], 1, t.head_dim, t.n_freq,
                             t.half);
        }
        want_q.insert(want_q.end(), row, row + t.heads * t.head_dim);
        for (int h = 0; h < t.kv_heads; h++) {
            const size_t at = glm4v_cuda_kv_at(&store.kv, 1, slots[r], h, positions[r]);
            keep(keys, store.kv, at, row + (t.heads + h) * t.head_dim);
            keep(values, store.kv, at, row + (t.heads + t.kv_heads + h) * t.head_dim);
        }
    }
    bool ok = done(glm4v_cuda_rotate_append(stream, &store.kv, &step.data, &a));
    const floats_of after = floats(dx.get());
    for (size_t r = 0; r < slots.size(); r++)
        got_q.insert(got_q.end(), after.begin() + (ptrdiff_t)(r * (size_t)ld),
                     after.begin() + (ptrdiff_t)(r * (size_t)ld + (size_t)t.heads * t.head_dim));
    /* int8: a value on the edge between two codes may fall to either side */
    const double bound = t.form == GLM4V_CUDA_KV_INT8 ? 1e-4 : TOLERANCE;
    ok = close_to(got_q, want_q, (size_t)t.heads * t.head_dim) && ok;
    ok = close_to(store.read(false), keys, t.head_dim, bound) && ok;
    ok = same(store.read(true), values, t.head_dim) && ok;
    result(dx.guarded() && store.guarded() && ok,
           text("rotate_append %s %s, heads %d + %d of %d, n_freq %d%s%s", t.form ? "int8" : "bf16",
                t.half ? "half" : "interleaved", t.heads, t.kv_heads, t.head_dim, t.n_freq,
                t.q_norm ? ", q norm" : "", t.k_norm ? ", k norm" : ""));
}

/* ---- decode ---- */

struct decode_case {
    glm4v_cuda_kv_form form;
    int heads, kv_heads, head_dim;
    std::vector<int32_t> slots, positions;
};

static floats_of decode_reference(const decode_case &t, const cache &store, const floats_of &q,
                                  float scale)
{
    const floats_of keys = store.read(false), values = store.read(true);
    floats_of o(q.size());
    for (size_t r = 0; r < t.slots.size(); r++)
        for (int h = 0; h < t.heads; h++) {
            const int kv_head = h / (t.heads / t.kv_heads);
            const size_t at = glm4v_cuda_kv_at(&store.kv, 1, t.slots[r], kv_head, 0);
            const size_t x = (r * t.heads + (size_t)h) * t.head_dim;
            attend_head(&o[x], &q[x], &keys[at], &values[at], t.head_dim, t.positions[r] + 1,
                        t.head_dim, scale);
        }
    return o;
}

/* o rounded beside the kernels: as quantize_row does it. */
static bool rounded_matches(const std::vector<uint16_t> &o, int rows, int width,
                            const glm4v_cuda_rounded &out, const std::vector<int8_t> &q,
                            const floats_of &scale)
{
    const size_t padded = ((size_t)width + 127) / 128 * 128, groups = padded / 128;
    bool ok = out.ldq == (int64_t)padded && out.ldscale == (int64_t)groups;
    const floats_of x = floats(o);
    std::vector<int32_t> sum(groups);
    for (int r = 0; r < rows && ok; r++) {
        std::vector<int8_t> codes(padded, 0);
        floats_of scales(groups);
        c::glm4v_quantize_row_c(codes.data(), scales.data(), sum.data(), &x[(size_t)r * width],
                                width);
        ok = same(std::vector<int8_t>(q.begin() + (ptrdiff_t)(r * padded),
                                      q.begin() + (ptrdiff_t)((r + 1) * padded)),
                  codes, padded);
        ok = same(floats_of(scale.begin() + (ptrdiff_t)(r * groups),
                            scale.begin() + (ptrdiff_t)((r + 1) * groups)),
                  scales, groups) &&
             ok;
    }
    return ok;
}

static void test_decode(const decode_case &t)
{
    if (!check::wanted())
        return;
    const int rows = (int)t.slots.size(), width = t.heads * t.head_dim;
    const float scale = 1 / sqrtf((float)t.head_dim);
    cache store(shape(t.form, t.kv_heads, t.head_dim, 3, 2300, 70));
    store.fill();
    const floats_of q = normals_bf16((size_t)rows * width);
    buffer<uint16_t> dq(bf16(q)), o((size_t)rows * width);
    buffer<char> scratch(glm4v_cuda_decode_scratch(&store.kv, t.heads, rows));
    step_buffers step(t.slots, t.positions);
    buffer<int8_t> codes((size_t)rows * (((size_t)width + 127) / 128 * 128));
    buffer<float> scales(codes.n / 128);
    glm4v_cuda_rounded rounded = { codes.data, scales.data, 0, 0 };
    glm4v_cuda_attend a = { o.data, width, dq.data, width, t.heads, scale, 1, rows, &rounded };
    bool ok = done(glm4v_cuda_attend_decode(stream, &store.kv, &step.data, &a, scratch.data));
    const std::vector<uint16_t> got = o.get();
    ok = close_to(floats(got), decode_reference(t, store, q, scale), (size_t)width) && ok;
    ok = rounded_matches(got, rows, width, rounded, codes.get(), scales.get()) && ok;
    a.rounded = nullptr;
    for (int r = 0; r < rows && rows > 1; r++) { /* each row alone */
        a.o = o.data + r * width, a.q = dq.data + r * width, a.rows = 1;
        step.data.slot = step.slot.data + r, step.data.position = step.position.data + r;
        cudaMemset(a.o, 0xff, (size_t)width * 2);
        cudaDeviceSynchronize();
        ok = done(glm4v_cuda_attend_decode(stream, &store.kv, &step.data, &a, scratch.data)) && ok;
    }
    ok = same(o.get(), got, (size_t)width) && ok;
    result(o.guarded() && scratch.guarded() && codes.guarded() && scales.guarded() && ok,
           text("decode %s, heads %d / %d of %d, rows %d, first position %d",
                t.form ? "int8" : "bf16", t.heads, t.kv_heads, t.head_dim, rows, t.positions[0]));
}

/* ---- prefill ---- */

struct prefill_case {
    glm4v_cuda_kv_form form;
    int heads, kv_heads, head_dim, slot, length, n;
};

static void test_prefill(const prefill_case &t)
{
    if (!check::wanted())
        return;
    const int width = t.heads * t.head_dim, before = 3; /* rows that are not of the span */
    const float scale = 1 / sqrtf((float)t.head_dim);
    cache store(shape(t.form, t.kv_heads, t.head_dim, 2, 700, 40));
    store.fill();
    const floats_of keys = store.read(false), values = store.read(true);
    const floats_of q = normals_bf16((size_t)(t.n + before) * width);
    buffer<uint16_t> dq(bf16(q)), o((size_t)(t.n + before) * width);
    const glm4v_cuda_attend a = { o.data, width, dq.data,      width,  t.heads,
                                  scale,  1,     t.n + before, nullptr };
    const glm4v_cuda_span span = { t.slot, t.length, before, t.n };
    bool ok = done(glm4v_cuda_attend_prefill(stream, &store.kv, &a, &span));
    const std::vector<uint16_t> got = o.get();
    std::vector<uint16_t> part((size_t)before * width, 0xffff);
    ok = same(std::vector<uint16_t>(got.begin(), got.begin() + before * width), part, width) && ok;
    floats_of want((size_t)t.n * width);
    for (int r = 0; r < t.n; r++)
        for (int h = 0; h < t.heads; h++) {
            const int kv_head = h / (t.heads / t.kv_heads);
            const size_t at = glm4v_cuda_kv_at(&store.kv, 1, t.slot, kv_head, 0);
            const size_t x = (size_t)r * width + (size_t)h * t.head_dim;
            attend_head(&want[x], &q[x + (size_t)before * width], &keys[at], &values[at],
                        t.head_dim, t.length + r + 1, t.head_dim, scale);
        }
    ok = close_to(floats(std::vector<uint16_t>(got.begin() + before * width, got.end())), want,
                  width) &&
         ok;
    if (t.n > 1) { /* the same rows as two spans */
        const int cut = t.n / 3 + 1;
        const glm4v_cuda_span first = { t.slot, t.length, before, cut };
        const glm4v_cuda_span second = { t.slot, t.length + cut, before + cut, t.n - cut };
        cudaMemset(o.data, 0xff, o.n * 2);
        cudaDeviceSynchronize();
        ok = done(glm4v_cuda_attend_prefill(stream, &store.kv, &a, &first)) && ok;
        ok = done(glm4v_cuda_attend_prefill(stream, &store.kv, &a, &second)) && ok;
        ok = same(o.get(), got, width) && ok;
    }
    result(o.guarded() && ok,
           text("prefill %s, heads %d / %d of %d, slot %d, %d tokens behind %d",
                t.form ? "int8" : "bf16", t.heads, t.kv_heads, t.head_dim, t.slot, t.n, t.length));
}

/* ---- rows ---- */

static void test_rows(int rows, int heads, int head_dim)
{
    if (!check::wanted())
        return;
    const int width = heads * head_dim;
    const int64_t ld = 3 * width + 8;
    const float scale = 1 / sqrtf((float)head_dim);
    const floats_of x = normals_bf16((size_t)rows * ld, 1.3f);
    buffer<uint16_t> dx(bf16(x)), o((size_t)rows * width);
    const glm4v_cuda_attend_all a = { { o.data, width, dx.data, ld, heads, scale, 0, rows,
                                        nullptr },
                                      dx.data + width,
                                      dx.data + 2 * width,
                                      head_dim };
    bool ok = done(glm4v_cuda_attend_rows(stream, &a));
    const floats_of got = floats(o.get());
    floats_of want, some;
    const int step = rows > 200 ? 37 : 1; /* of a large one, some rows */
    for (int r = 0; r < rows; r += step) {
        floats_of row((size_t)width);
        for (int h = 0; h < heads; h++)
            attend_head(&row[(size_t)h * head_dim], &x[(size_t)(r * ld + h * head_dim)],
                        &x[(size_t)(width + h * head_dim)], &x[(size_t)(2 * width + h * head_dim)],
                        ld, rows, head_dim, scale);
        want.insert(want.end(), row.begin(), row.end());
        some.insert(some.end(), got.begin() + (ptrdiff_t)r * width,
                    got.begin() + (ptrdiff_t)(r + 1) * width);
    }
    ok = close_to(some, want, (size_t)width) && ok;
    result(o.guarded() && dx.guarded() && ok,
           text("attend_rows, %d x %d of %d", rows, heads, head_dim));
}

/* ---- times ---- */

static void bench_rows(int rows, int heads, int head_dim)
{
    const int width = heads * head_dim, sets = 4;
    const size_t each = (size_t)rows * 3 * width;
    buffer<uint16_t> x(each * sets), o((size_t)rows * width * sets);
    x.repeat(bf16(normals(MANY)));
    const double us = microseconds(sets, [&](int i) {
        uint16_t *q = x.data + each * (size_t)i;
        const glm4v_cuda_attend_all a = { { o.data + (size_t)rows * width * i, width, q, 3 * width,
                                            heads, 1 / sqrtf((float)head_dim), 0, rows, nullptr },
                                          q + width,
                                          q + 2 * width,
                                          head_dim };
        return glm4v_cuda_attend_rows(stream, &a);
    });
    report(text("attend_rows %d x %d x %d", rows, heads, head_dim), us, 0,
           4.0 * rows * rows * (double)width);
}

static void bench_prefill(int length, int n)
{
    const int heads = 32, head_dim = 128, width = heads * head_dim;
    glm4v_cuda_kv kv = shape(GLM4V_CUDA_KV_BF16, 2, head_dim, 1, length + n, 0);
    cache store(kv);
    store.fill();
    buffer<uint16_t> q(bf16(normals((size_t)n * width))), o((size_t)n * width);
    const double us =
        microseconds(4, [&](int i) {
            const glm4v_cuda_attend a = { o.data, width, q.data, width,  heads,
                                          0.088f, i % 2, n,      nullptr };
            const glm4v_cuda_span span = { 0, length, 0, n };
            return glm4v_cuda_attend_prefill(stream, &store.kv, &a, &span);
        });
    report(text("prefill 32 / 2 x 128, %d tokens behind %d", n, length), us, 0,
           4.0 * ((double)n * length + 0.5 * n * n) * width);
}

static void bench_decode(glm4v_cuda_kv_form form, int rows, int context)
{
    const int heads = 32, head_dim = 128, width = heads * head_dim, layers = 40;
    glm4v_cuda_kv kv = shape(form, 2, head_dim, rows, context + 64, 0);
    kv.layers = layers;
    cache store(kv);
    store.fill();
    buffer<uint16_t> q(bf16(normals((size_t)rows * width))), o((size_t)rows * width);
    buffer<char> scratch(glm4v_cuda_decode_scratch(&store.kv, heads, rows));
    std::vector<int32_t> slots, positions((size_t)rows, context - 1);
    for (int r = 0; r < rows; r++)
        slots.push_back(r);
    const step_buffers step(slots, positions);
    const double us =
        microseconds(layers, [&](int i) {
            const glm4v_cuda_attend a = { o.data, width, q.data, width,  heads,
                                          0.088f, i,     rows,   nullptr };
            return glm4v_cuda_attend_decode(stream, &store.kv, &step.data, &a, scratch.data);
        });
    report(text("decode %s, rows %d, context %d", form ? "int8" : "bf16", rows, context), us,
           (double)rows * context * 2 * 2 * head_dim * (form ? 1 : 2), 0);
}

static void bench_qkv(int rows)
{
    const int heads = 32, width = 36 * 128;
    cache store(shape(GLM4V_CUDA_KV_BF16, 2, 128, rows, 64, 0));
    store.fill();
    buffer<uint16_t> x(bf16(normals((size_t)rows * width)));
    buffer<float> table(normals((size_t)rows * 32));
    std::vector<int32_t> slots, positions((size_t)rows, 5);
    for (int r = 0; r < rows; r++)
        slots.push_back(r);
    const step_buffers step(slots, positions);
    const double us = microseconds(16, [&](int) {
        const glm4v_cuda_qkv a = { { x.data, width, table.data, table.data, rows, heads, 128, 32,
                                     false },
                                   nullptr,
                                   nullptr,
                                   1e-5f,
                                   1 };
        return glm4v_cuda_rotate_append(stream, &store.kv, &step.data, &a);
    });
    report(text("rotate_append, rows %d", rows), us, 4.0 * rows * width, 0);
}

static void bench()
{
    report_copy();
    bench_rows(2304, 12, 128);
    bench_rows(4784, 12, 128);
    bench_rows(6401, 16, 112);
    bench_prefill(0, 606);
    bench_prefill(0, 1640);
    bench_prefill(1024, 512);
    for (glm4v_cuda_kv_form form : { GLM4V_CUDA_KV_BF16, GLM4V_CUDA_KV_INT8 }) {
        bench_decode(form, 1, 640);
        bench_decode(form, 1, 2048);
        bench_decode(form, 4, 1024);
        bench_decode(form, 16, 2048);
        bench_decode(form, 64, 640);
    }
    bench_qkv(1);
    bench_qkv(606);
}

static void test_all_decode(glm4v_cuda_kv_form form)
{
    test_decode({ form, 2, 1, 64, { 0 }, { 0 } });
    test_decode({ form, 32, 2, 128, { 0 }, { 70 } });
    test_decode({ form, 32, 2, 128, { 1, 3, 0, 1, 1 }, { 2247, 69, 0, 63, 64 } });
    test_decode({ form, 32, 2, 128, { 0, 1, 2, 0, 1, 2 }, { 2299, 640, 1024, 1023, 1087, 5 } });
    test_decode({ form, 6, 2, 128, { 0, 1 }, { 700, 1300 } });
    test_decode({ form, 2, 2, 64, { 2, 0 }, { 129, 2299 } });
    test_decode({ form, 20, 1, 80, { 2, 0 }, { 1, 500 } });
    test_decode({ form, 3, 1, 8, { 0 }, { 300 } });
    test_decode({ form, 8, 2, 112, { 0, 1 }, { 300, 2 } });
}

static void test_all_prefill(glm4v_cuda_kv_form form)
{
    test_prefill({ form, 2, 1, 64, 0, 0, 1 });
    test_prefill({ form, 2, 1, 128, 1, 0, 70 });
    test_prefill({ form, 4, 2, 128, 0, 300, 131 });
    test_prefill({ form, 2, 1, 64, 1, 63, 200 });
    test_prefill({ form, 3, 3, 80, 0, 64, 65 });
    test_prefill({ form, 2, 2, 112, 2, 3, 37 });
    test_prefill({ form, 2, 2, 16, 0, 0, 300 });
}

int main(int argc, char **argv)
{
    const int rc = open();
    if (rc)
        return rc;
    test_gather(32, true);
    test_gather(5, false);
    for (bool half : { false, true }) {
        test_rotate(4, 128, half ? 64 : 32, half);
        test_rotate(3, 64, 16, half);
        test_rotate(5, 16, 8, half);
        test_rotate(2, 80, 13, half);
        test_rotate_sums(4, 128, 64, half);
        test_rotate_sums(3, 64, 16, half);
    }
    for (glm4v_cuda_kv_form form : { GLM4V_CUDA_KV_BF16, GLM4V_CUDA_KV_INT8 }) {
        test_append(form, 2, 128);
        test_append(form, 5, 24);
        test_copy(form, 128, 2, 0, 9);
        test_copy(form, 40, 1, 2, 5);
        test_rotate_append({ form, 32, 2, 128, 32, false, false, false });
        test_append_sums(form, false);
        test_append_sums(form, true);
        test_rotate_append({ form, 2, 1, 64, 16, false, true, true });
        test_rotate_append({ form, 3, 3, 80, 40, true, true, false });
        test_all_decode(form);
        test_all_prefill(form);
    }
    test_rows(1, 1, 16);
    test_rows(64, 2, 16);
    test_rows(65, 2, 128);
    test_rows(300, 2, 64);
    test_rows(129, 3, 80);
    test_rows(257, 2, 112);
    test_rows(200, 2, 96);
    test_rows(2304, 12, 128);
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        bench();
    return close();
}
