/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/cuda/product.h against the C forms of kernels/gemm.h, on the same bf16 inputs: packing
 * and rounding bit for bit, products within 1e-5 of the squared norm, rows alone against rows in
 * company byte for byte. With --bench: times (bench_cuda_products.cuh). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.cuh"

extern "C" {
#include "convert.h"
#include "gemm.h"
}
#include "cuda/product.cuh"

#include "bench_cuda_products.cuh"

namespace
{
using check::from_bf16;
using check::stream;
using check::text;
using check::to_bf16;

/* Bytes between guards, as elements of any type. */
class device_buffer : public check::buffer<uint8_t>
{
  public:
    using check::buffer<uint8_t>::buffer;

    template <class T = void> T *as() const
    {
        return (T *)data;
    }

    void poison()
    {
        CUDA(cudaMemset(data, 0xdb, n));
        CUDA(cudaDeviceSynchronize()); /* other streams do not wait for it */
    }

    template <class T> void put(const std::vector<T> &v)
    {
        CUDA(cudaMemcpy(data, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
        CUDA(cudaDeviceSynchronize());
    }

    template <class T> std::vector<T> get() const
    {
        std::vector<T> v(n / sizeof(T));
        CUDA(cudaMemcpy(v.data(), data, v.size() * sizeof(T), cudaMemcpyDeviceToHost));
        return v;
    }
};

const char *const form_names[] = { "f32", "bf16", "int8", "int4", "fp8", "int4_32", "fp8_dynamic" };

struct kind {
    glm4v_cuda_form form;
    bool blocks, zeros, ordered;
};

const kind kinds[] = {
    { GLM4V_CUDA_F32, false, false, false },        { GLM4V_CUDA_BF16, false, false, false },
    { GLM4V_CUDA_INT8, false, false, false },       { GLM4V_CUDA_INT4, false, false, false },
    { GLM4V_CUDA_FP8, false, false, false },        { GLM4V_CUDA_INT4_32, false, false, false },
    { GLM4V_CUDA_FP8, true, false, false },         { GLM4V_CUDA_INT4, false, true, false },
    { GLM4V_CUDA_INT4_32, false, true, false },     { GLM4V_CUDA_INT4, false, true, true },
    { GLM4V_CUDA_BF16, false, false, true },        { GLM4V_CUDA_INT8, false, false, true },
    { GLM4V_CUDA_F32, false, false, true },         { GLM4V_CUDA_FP8_DYNAMIC, false, false, false },
    { GLM4V_CUDA_FP8_DYNAMIC, false, false, true },
};

struct shape {
    int n_in, n_out;
};

const shape shapes[] = { { 128, 16 },   { 128, 2 },   { 256, 40 },   { 1024, 72 }, { 4096, 48 },
                         { 13696, 34 }, { 96, 24 },   { 4128, 20 },  { 1, 2 },     { 7, 6 },
                         { 100, 4 },    { 1000, 34 }, { 1176, 130 }, { 2048, 24 } };

bool has_int8_inputs(glm4v_cuda_form form)
{
    return form == GLM4V_CUDA_INT8 || is_int4(form);
}

int up(int n, int unit)
{
    return (n + unit - 1) / unit * unit;
}

bool fits(const kind &k, const shape &s)
{
    return !is_int4(k.form) || s.n_in % group_of(k.form) == 0;
}

/* A matrix on both sides: panels for the C forms, packed on the device. */
struct problem {
    kind k;
    shape s;
    int groups = 0, panels = 0; /* scales of a row */
    std::vector<float> weights, scales, panel_scales, bias;
    std::vector<uint8_t> codes, zeros, panel_zeros;
    std::vector<float> panels_f32;
    std::vector<uint8_t> panels_u8;
    std::vector<int32_t> order;
    glm4v_cuda_matrix w = {};
    device_buffer *data = NULL, *scale = NULL, *zero = NULL, *device_order = NULL,
                  *device_bias = NULL;

    problem(const kind &kind_, const shape &shape_) : k(kind_), s(shape_)
    {
    }

    ~problem()
    {
        for (device_buffer *b : { data, scale, zero, device_order, device_bias })
            delete b;
    }

    size_t panel_bytes() const
    {
        switch (k.form) {
        case GLM4V_CUDA_F32:
            return glm4v_panel_bytes_f32(s.n_in);
        case GLM4V_CUDA_BF16:
            return glm4v_panel_bytes_bf16(s.n_in);
        case GLM4V_CUDA_INT8:
            return glm4v_panel_bytes_int8(s.n_in);
        case GLM4V_CUDA_FP8:
        case GLM4V_CUDA_FP8_DYNAMIC:
            return glm4v_panel_bytes_fp8(s.n_in);
        default:
            return glm4v_panel_bytes_int4(s.n_in);
        }
    }

    /* A panel from 16 or fewer rows, and its codes. */
    void pack_panel(int panel)
    {
        const int n = s.n_out - 16 * panel < 16 ? s.n_out - 16 * panel : 16, K = s.n_in;
        const float *rows = &weights[(size_t)16 * panel * K];
        uint8_t *to = &panels_u8[panel * panel_bytes()];
        uint8_t *q = &codes[(size_t)16 * panel * K];
        float *sc = &panel_scales[(size_t)panel * groups * 16];

        if (k.form == GLM4V_CUDA_F32)
            glm4v_pack_f32_c((float *)to, rows, K, n, K);
        else if (k.form == GLM4V_CUDA_BF16)
            glm4v_pack_bf16_c((uint16_t *)to, rows, K, n, K);
        else if (k.form == GLM4V_CUDA_INT8)
            glm4v_pack_int8_c(to, sc, rows, K, n, K), glm4v_unpack_codes_int8(q, K, to, n, K);
        else if (k.form == GLM4V_CUDA_FP8 || k.form == GLM4V_CUDA_FP8_DYNAMIC)
            glm4v_pack_fp8_c(to, sc, rows, K, n, K), glm4v_unpack_codes_fp8(q, K, to, n, K);
        else if (k.form == GLM4V_CUDA_INT4)
            glm4v_pack_int4_c(to, sc, rows, K, n, K), glm4v_unpack_codes_int4(q, K, to, n, K);
        else
            glm4v_pack_int4_32_c(to, sc, rows, K, n, K), glm4v_unpack_codes_int4(q, K, to, n, K);
    }

    void make_host()
    {
        const int K = s.n_in;
        groups = is_int4(k.form) ? K / group_of(k.form) : k.blocks ? up(K, 128) / 128 : 1;
        panels = glm4v_panel_count(s.n_out);
        weights.resize((size_t)s.n_out * K);
        for (float &w_ : weights)
            w_ = check::normal() * (check::bits() % 64 ? 0.02f : 0.3f);
        codes.resize(weights.size());
        panels_u8.resize(panels * panel_bytes());
        panel_scales.assign((size_t)panels * groups * 16, 0);
        for (int i = 0; i < panels; i++)
            pack_panel(i);
        for (size_t i = 0; k.blocks && i < panel_scales.size(); i++)
            panel_scales[i] = 0.001f + (float)(check::bits() % 100) / 50000;
        scales.resize((size_t)s.n_out * groups);
        for (int n = 0; n < s.n_out; n++)
            for (int g = 0; g < groups; g++)
                scales[(size_t)n * groups + g] =
                    panel_scales[((size_t)n / 16 * groups + g) * 16 + n % 16];
        make_extras();
    }

    void make_extras()
    {
        bias.resize(s.n_out);
        for (float &b : bias)
            b = check::normal();
        zeros.resize(scales.size());
        panel_zeros.resize(panel_scales.size());
        for (uint8_t &z : zeros)
            z = (uint8_t)(check::bits() % 17);
        for (int n = 0; n < s.n_out; n++)
            for (int g = 0; g < groups; g++)
                panel_zeros[((size_t)n / 16 * groups + g) * 16 + n % 16] =
                    zeros[(size_t)n * groups + g];
        order.resize(s.n_in);
        for (int i = 0; i < s.n_in; i++)
            order[i] = i;
        for (int i = s.n_in - 1; i > 0; i--)
            std::swap(order[i], order[check::bits() % (i + 1)]);
    }

    void make_device()
    {
        const glm4v_cuda_matrix_bytes size =
            glm4v_cuda_matrix_size(k.form, s.n_out, s.n_in, k.blocks, k.zeros, k.ordered);
        w.form = k.form;
        w.n_out = s.n_out;
        w.n_in = s.n_in;
        w.blocks = k.blocks;
        w.data = (data = new device_buffer(size.data))->as();
        if (size.scale)
            w.scale = (scale = new device_buffer(size.scale))->as<float>();
        if (size.zero) {
            w.zero = (zero = new device_buffer(size.zero))->as<uint8_t>();
            zero->put(zeros);
        }
        if (size.order) {
            w.order = (device_order = new device_buffer(size.order))->as<int32_t>();
            device_order->put(order);
        }
        device_bias = new device_buffer(bias.size() * 4);
        device_bias->put(bias);
    }
};

std::vector<uint8_t> packed_from_f32(problem &p)
{
    device_buffer rows(p.weights.size() * 4);
    rows.put(p.weights);
    p.data->poison();
    /* in two parts, as a loader does */
    const int first = p.s.n_out / 3;
    if (first)
        CUDA(glm4v_cuda_pack_f32(stream, &p.w, 0, first, rows.as<float>()));
    CUDA(glm4v_cuda_pack_f32(stream, &p.w, first, p.s.n_out - first,
                             rows.as<float>() + (size_t)first * p.s.n_in));
    CUDA(cudaDeviceSynchronize());
    return p.data->get<uint8_t>();
}

std::vector<uint8_t> packed_from_codes(problem &p)
{
    p.data->poison();
    if (p.k.form == GLM4V_CUDA_BF16) {
        std::vector<uint16_t> v(p.weights.size());
        for (size_t i = 0; i < v.size(); i++)
            v[i] = to_bf16(p.weights[i]);
        device_buffer rows(v.size() * 2);
        rows.put(v);
        CUDA(glm4v_cuda_pack_bf16(stream, &p.w, 0, p.s.n_out, rows.as<uint16_t>()));
    } else {
        device_buffer rows(p.codes.size());
        rows.put(p.codes);
        CUDA(glm4v_cuda_pack_codes(stream, &p.w, 0, p.s.n_out, rows.as<uint8_t>()));
    }
    CUDA(cudaDeviceSynchronize());
    return p.data->get<uint8_t>();
}

std::vector<uint8_t> packed_from_words(problem &p)
{
    std::vector<uint32_t> words(p.codes.size() / 8, 0);
    for (size_t i = 0; i < p.codes.size(); i++)
        words[i / 8] |= (uint32_t)(p.codes[i] & 15) << i % 8 * 4;
    device_buffer rows(words.size() * 4);
    rows.put(words);
    p.data->poison();
    CUDA(glm4v_cuda_pack_words(stream, &p.w, 0, p.s.n_out, rows.as<uint32_t>()));
    CUDA(cudaDeviceSynchronize());
    return p.data->get<uint8_t>();
}

template <class T>
bool matches(const std::vector<T> &got, const std::vector<T> &want, size_t n, const char *what)
{
    int shown = 0;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof(T)) && shown++ < 3)
            printf("# %s %zu: %g, expected %g\n", what, i, (double)got[i], (double)want[i]);
    if (shown > 3)
        printf("# %s: %d of %zu differ\n", what, shown, n);
    return !shown;
}

/* Leaves the matrix packed from codes. */
void test_packing(problem &p)
{
    const int64_t used = p.data->get<uint8_t>().size();
    const std::vector<uint8_t> from_f32 = packed_from_f32(p);
    bool ok = true;
    if (p.scale && !p.k.blocks)
        ok = matches(p.scale->get<float>(), p.scales, p.scales.size(), "scale");
    if (p.k.form != GLM4V_CUDA_F32 && !p.k.blocks)
        ok &= matches(packed_from_codes(p), from_f32, used, "packed byte");
    if (p.k.blocks)
        packed_from_codes(p);
    if (is_int4(p.k.form))
        ok &= matches(packed_from_words(p), from_f32, used, "word byte");
    if (p.scale)
        p.scale->put(p.scales);
    CUDA(cudaDeviceSynchronize());
    ok &= p.data->guarded() && (!p.scale || p.scale->guarded());
    check::result(ok, text("packing %s%s %d x %d", form_names[p.k.form],
                           p.k.blocks ? " blocks" : "", p.s.n_in, p.s.n_out));
}

/* Inputs of some rows, rounded on both sides. */
struct inputs {
    int rows, ldx, groups;
    std::vector<uint16_t> bf16;
    std::vector<float> f32; /* in the order of the matrix */
    std::vector<int8_t> q;
    std::vector<float> scale;
    std::vector<int32_t> sum;
    std::vector<uint16_t> e4m3; /* values of q, FP8_DYNAMIC */
    device_buffer *x = NULL, *rounded = NULL, *rounded_scale = NULL, *group_scale = NULL;
    glm4v_cuda_rounded out = {}, by_group = {}; /* the same codes, scales in both ways */

    ~inputs()
    {
        for (device_buffer *b : { x, rounded, rounded_scale, group_scale })
            delete b;
    }

    void make(const problem &p, int n)
    {
        rows = n;
        ldx = p.s.n_in % 8 ? p.s.n_in + 1 : p.s.n_in + 8; /* the first are copied, so may be odd */
        bf16.assign((size_t)rows * ldx, 0x7fc0);          /* NaN where nothing may be read */
        f32.resize((size_t)rows * p.s.n_in);
        for (int t = 0; t < rows; t++)
            for (int i = 0; i < p.s.n_in; i++)
                bf16[(size_t)t * ldx + i] =
                    t == 2 ? 0
                           : to_bf16(check::normal() * (check::bits() % 50 ? 1 : 20) *
                                     (t % 3 ? 1 : 1e-3f));
        for (int t = 0; t < rows; t++)
            for (int i = 0; i < p.s.n_in; i++)
                f32[(size_t)t * p.s.n_in + i] =
                    from_bf16(bf16[(size_t)t * ldx + (p.k.ordered ? p.order[i] : i)]);
        x = new device_buffer(bf16.size() * 2);
        x->put(bf16);
        quantize(p);
    }

    /* To e4m3: codes, and the values of codes for the C form. */
    void quantize_rows(const problem &p)
    {
        const int K = p.s.n_in, ldq = up(K, 128);
        groups = 1;
        q.assign((size_t)rows * ldq, 0);
        scale.resize((size_t)rows);
        e4m3.assign((size_t)rows * up(K, 2), 0);
        for (int t = 0; t < rows; t++) {
            uint16_t *values = &e4m3[(size_t)t * up(K, 2)];
            glm4v_fp8_row_c(values, &scale[t], &f32[(size_t)t * K], K);
            for (int i = 0; i < K; i++)
                q[(size_t)t * ldq + i] = (int8_t)glm4v_f32_to_e4m3(from_bf16(values[i]));
        }
    }

    void quantize(const problem &p)
    {
        const int K = p.s.n_in, group = group_of(p.k.form), ldq = up(K, 128);
        if (p.k.form == GLM4V_CUDA_FP8_DYNAMIC) {
            quantize_rows(p);
            return;
        }
        groups = up(K, group) / group;
        q.assign((size_t)rows * ldq, 0);
        scale.resize((size_t)rows * groups);
        sum.resize(scale.size());
        for (int t = 0; t < rows && has_int8_inputs(p.k.form); t++)
            (group == 32 ? glm4v_quantize_row_32_c
                         : glm4v_quantize_row_c)(&q[(size_t)t * ldq], &scale[(size_t)t * groups],
                                                 &sum[(size_t)t * groups], &f32[(size_t)t * K], K);
    }

    bool round(const problem &p)
    {
        size_t q_bytes, scale_bytes;
        bool ok = true;
        glm4v_cuda_rounded_size(rows, p.s.n_in, &q_bytes, &scale_bytes);
        rounded = new device_buffer(q_bytes);
        rounded_scale = new device_buffer(scale_bytes);
        out.q = rounded->as();
        out.scale = rounded_scale->as<float>();
        if (!glm4v_cuda_rounds(&p.w))
            return true;
        CUDA(glm4v_cuda_round(stream, &out, &p.w, x->as<uint16_t>(), ldx, rows));
        CUDA(cudaDeviceSynchronize());
        if (has_byte_inputs(p.k.form)) {
            ok = matches(rounded->get<int8_t>(), q, q.size(), "rounded");
            ok &= matches(rounded_scale->get<float>(), scale, scale.size(), "scale of rows");
        } else {
            const std::vector<uint16_t> got = rounded->get<uint16_t>();
            for (int i = 0; i < rows * p.s.n_in && ok; i++)
                ok = from_bf16(got[i / p.s.n_in * out.ldq + i % p.s.n_in]) == f32[i];
        }
        return ok && round_by_group(p) && rounded->guarded() && rounded_scale->guarded();
    }

    /* Codes once more, scales [groups of the padded row][rows], 0 for groups of zeros. */
    bool round_by_group(const problem &p)
    {
        size_t q_bytes, scale_bytes;
        glm4v_cuda_rounded_size(rows, p.s.n_in, &q_bytes, &scale_bytes);
        group_scale = new device_buffer(scale_bytes);
        by_group = out;
        by_group.scale = group_scale->as<float>();
        by_group.by_group = has_int8_inputs(p.k.form);
        CUDA(glm4v_cuda_round(stream, &by_group, &p.w, x->as<uint16_t>(), ldx, rows));
        CUDA(cudaDeviceSynchronize());
        if (!by_group.by_group)
            return true;
        const std::vector<float> got = group_scale->get<float>();
        bool ok = by_group.ldscale == 1 && by_group.ldgroup == up(rows, 16) &&
                  matches(rounded->get<int8_t>(), q, q.size(), "rounded again");
        for (int g = 0; g < up(p.s.n_in, 128) / group_of(p.k.form) && ok; g++)
            for (int t = 0; t < rows && ok; t++)
                ok = got[g * by_group.ldgroup + t] == (g < groups ? scale[t * groups + g] : 0);
        return ok && group_scale->guarded();
    }
};

/* Sums of all outputs by the C form. */
std::vector<float> reference(const problem &p, const inputs &x)
{
    const int K = p.s.n_in;
    std::vector<float> y((size_t)x.rows * p.s.n_out);
    std::vector<uint16_t> bf16((size_t)x.rows * up(K, 2), 0);
    for (int t = 0; t < x.rows; t++)
        glm4v_bf16_row_c(&bf16[(size_t)t * up(K, 2)], &x.f32[(size_t)t * K], K);
    glm4v_gemm_args g = {};
    g.y = y.data();
    g.ldy = p.s.n_out;
    g.w = p.panels_u8.data();
    g.w_scale = p.panel_scales.data();
    g.w_zero = p.k.zeros ? p.panel_zeros.data() : NULL;
    g.w_blocks = p.k.blocks;
    g.x = bf16.data();
    g.ldx = up(K, 2);
    g.x_scale = p.k.form == GLM4V_CUDA_FP8 ? NULL : x.scale.data();
    g.x_sum = x.sum.data();
    g.T = x.rows;
    g.K = K;
    g.n_out = p.s.n_out;
    g.n_panels = p.panels;
    if (has_int8_inputs(p.k.form)) {
        g.x = x.q.data();
        g.ldx = up(K, 128);
    }
    switch (p.k.form) {
    case GLM4V_CUDA_F32:
        g.x = x.f32.data();
        g.ldx = K;
        glm4v_gemm_f32_c(&g);
        break;
    case GLM4V_CUDA_BF16:
        glm4v_gemm_bf16_c(&g);
        break;
    case GLM4V_CUDA_INT8:
        glm4v_gemm_int8_c(&g);
        break;
    case GLM4V_CUDA_FP8_DYNAMIC:
        g.x = x.e4m3.data();
        [[fallthrough]];
    case GLM4V_CUDA_FP8:
        glm4v_gemm_fp8_c(&g);
        break;
    case GLM4V_CUDA_INT4:
        glm4v_gemm_int4_c(&g);
        break;
    case GLM4V_CUDA_INT4_32:
        glm4v_gemm_int4_32_c(&g);
        break;
    }
    return y;
}

/* A way to use a product. */
struct use {
    const char *name;
    glm4v_cuda_epilogue epilogue;
    bool bias, add, f32;
};

const use uses[] = {
    { "plain f32", GLM4V_CUDA_PLAIN, false, false, true },
    { "plain", GLM4V_CUDA_PLAIN, false, false, false },
    { "bias", GLM4V_CUDA_PLAIN, true, false, false },
    { "add", GLM4V_CUDA_PLAIN, false, true, false },
    { "bias add", GLM4V_CUDA_PLAIN, true, true, false },
    { "bias add f32", GLM4V_CUDA_PLAIN, true, true, true },
    { "gelu bias", GLM4V_CUDA_GELU, true, false, false },
    { "silu mul", GLM4V_CUDA_SILU_MUL, false, false, false },
    { "silu mul bias", GLM4V_CUDA_SILU_MUL, true, false, false },
};

double activate(const problem &p, const use &u, const float *sums, int n)
{
    const double a = sums[n] + (u.bias ? (double)p.bias[n] : 0);
    if (u.epilogue == GLM4V_CUDA_GELU)
        return 0.5 * a * erfc(-a * 0.70710678118654752);
    if (u.epilogue != GLM4V_CUDA_SILU_MUL)
        return a;
    const int m = n + p.s.n_out / 2;
    return a / (1 + exp(-a)) * (sums[m] + (u.bias ? (double)p.bias[m] : 0));
}

/* The output of a run: rows of width + 8 elements, of which the last 8 must stay. */
struct run_result {
    int width, ldy, rows;
    bool f32, ok;
    std::vector<uint8_t> bytes;

    size_t element() const
    {
        return f32 ? 4 : 2;
    }

    double at(int t, int n) const
    {
        const size_t i = (size_t)t * ldy + n;
        return f32 ? ((const float *)bytes.data())[i]
                   : (double)from_bf16(((const uint16_t *)bytes.data())[i]);
    }
};

const float OLD_Y = 0.5f;
const double E4M3_LIMIT = 5e-5;

/* What computes a product. */
enum way { DECODE, PREFILL, BLOCKS };
const char *const way_names[] = { "decode", "prefill", "blocks" };

cudaError_t multiply(way how, glm4v_cuda_prefill *prefill, const glm4v_cuda_product *p)
{
    if (how == PREFILL)
        return glm4v_cuda_prefill_product(stream, prefill, p);
    return how == BLOCKS ? blocks_multiply(stream, p) : glm4v_cuda_decode_product(stream, p);
}

run_result run_product(const problem &p, const inputs &x, const use &u, int rows, way how,
                       glm4v_cuda_prefill *prefill)
{
    run_result r;
    r.width = u.epilogue == GLM4V_CUDA_SILU_MUL ? p.s.n_out / 2 : p.s.n_out;
    r.ldy = up(r.width, 8) + 8;
    r.rows = rows;
    r.f32 = u.f32;
    device_buffer y((size_t)rows * r.ldy * r.element());
    if (u.add && u.f32)
        y.put(std::vector<float>((size_t)rows * r.ldy, OLD_Y));
    else if (u.add)
        y.put(std::vector<uint16_t>((size_t)rows * r.ldy, to_bf16(OLD_Y)));
    const std::vector<uint8_t> before = y.get<uint8_t>();
    glm4v_cuda_product q = {};
    q.y = y.as();
    q.ldy = r.ldy;
    q.w = &p.w;
    q.bias = u.bias ? p.device_bias->as<float>() : NULL;
    q.x = x.x->as<uint16_t>();
    q.ldx = x.ldx;
    q.rounded = how == PREFILL && glm4v_cuda_prefill_by_group(prefill) ? x.by_group : x.out;
    q.rows = rows;
    q.epilogue = u.epilogue;
    q.add = u.add;
    q.y_f32 = u.f32;
    CUDA(multiply(how, prefill, &q));
    CUDA(cudaDeviceSynchronize());
    r.bytes = y.get<uint8_t>();
    r.ok = y.guarded();
    const size_t row = r.ldy * r.element(), used = r.width * r.element();
    for (int t = 0; t < rows && r.ok; t++)
        r.ok = !memcmp(&r.bytes[t * row + used], &before[t * row + used], row - used);
    return r;
}

/* Half a unit of bf16 is up to 2^-8, squared 1.5e-5. Sums of e4m3 by cuBLASLt are rounded on their
 * way, as docs/cuda-kernels.md says. */
double limit_of(const problem &p, const use &u, way how)
{
    if (p.k.form == GLM4V_CUDA_FP8_DYNAMIC && how == PREFILL)
        return E4M3_LIMIT;
    return u.f32 ? 1e-8 : 2e-5;
}

bool close(const problem &p, const use &u, way how, const run_result &r,
           const std::vector<float> &sums, double *error)
{
    double difference = 0, norm = 0;
    int shown = 0;
    for (int t = 0; t < r.rows; t++)
        for (int n = 0; n < r.width; n++) {
            const double want =
                activate(p, u, &sums[(size_t)t * p.s.n_out], n) + (u.add ? OLD_Y : 0);
            const double got = r.at(t, n), d = got - want;
            difference += d * d;
            norm += want * want;
            if (!(fabs(d) <= 0.03 * fabs(want) + 0.1) && shown++ < 3)
                printf("# row %d output %d: %g, expected %g\n", t, n, got, want);
        }
    *error = norm > 0 ? difference / norm : difference;
    return *error < limit_of(p, u, how);
}

/* The first rows of a run with more rows. */
bool same_rows(const run_result &few, const run_result &many)
{
    for (size_t i = 0; i < few.bytes.size(); i++)
        if (few.bytes[i] != many.bytes[i]) {
            const size_t element = i / few.element();
            printf("# %d rows, row %zu output %zu: %g alone, %g among %d\n", few.rows,
                   element / few.ldy, element % few.ldy,
                   few.at(element / few.ldy, element % few.ldy),
                   many.at(element / few.ldy, element % few.ldy), many.rows);
            return false;
        }
    return true;
}

const char *describe(const problem &p)
{
    static char text[128];
    snprintf(text, sizeof text, "%s%s%s%s %d x %d", form_names[p.k.form],
             p.k.blocks ? " blocks" : "", p.k.zeros ? " zeros" : "", p.k.ordered ? " order" : "",
             p.s.n_in, p.s.n_out);
    return text;
}

void test_uses(const problem &p, const inputs &x, const std::vector<float> &sums, way how,
               glm4v_cuda_prefill *prefill)
{
    static const int decode_rows[] = { 1, 2, 8, 9, 16, 20, 40 },
                     prefill_rows[] = { 1, 37, 64, 130 };
    const std::vector<int> counts = how == DECODE
                                        ? std::vector<int>(decode_rows, decode_rows + 7)
                                        : std::vector<int>(prefill_rows, prefill_rows + 4);
    for (const use &u : uses) {
        double error = 0;
        const run_result all = run_product(p, x, u, x.rows, how, prefill);
        bool ok = close(p, u, how, all, sums, &error) && all.ok, alone = true;
        for (int rows : counts) {
            const run_result few = run_product(p, x, u, rows, how, prefill);
            alone = alone && few.ok && same_rows(few, all);
        }
        check::result(ok && alone, text("%s %s, %s: error %.1e%s", way_names[how], describe(p),
                                        u.name, error, alone ? "" : ", rows alone differ"));
    }
}

/* The sums of a raw product, made numbers by kernels of their own. */
run_result finish_sums(const use &u, const glm4v_cuda_sums &s)
{
    run_result r;
    r.width = u.epilogue == GLM4V_CUDA_SILU_MUL ? s.n_out / 2 : s.n_out;
    r.ldy = up(r.width, 8) + 8;
    r.rows = s.rows;
    r.f32 = false;
    const std::vector<uint16_t> before((size_t)s.rows * r.ldy, to_bf16(OLD_Y));
    device_buffer y(before.size() * 2);
    y.put(before);
    CUDA(glm4v_cuda_finish_sums(stream, y.as<uint16_t>(), r.ldy, &s, u.epilogue, u.add));
    CUDA(cudaDeviceSynchronize());
    r.bytes = y.get<uint8_t>();
    r.ok = y.guarded();
    for (int t = 0; t < r.rows && r.ok; t++)
        r.ok = !memcmp(&r.bytes[((size_t)t * r.ldy + r.width) * 2], before.data(), 16);
    return r;
}

/* silu(gate) * up rounded in one kernel is what finish_sums makes, rounded by the C form. */
void test_silu_round(const problem &p, const glm4v_cuda_sums &s)
{
    const int K = s.n_out / 2, ldq = up(K, 128);
    const use silu = { "silu mul", GLM4V_CUDA_SILU_MUL, s.bias != NULL, false, false };
    const run_result act = finish_sums(silu, s);
    size_t q_bytes, scale_bytes;
    glm4v_cuda_rounded_size(s.rows, K, &q_bytes, &scale_bytes);
    device_buffer q(q_bytes), scale(scale_bytes);
    glm4v_cuda_matrix w = {};
    w.form = GLM4V_CUDA_FP8_DYNAMIC;
    w.n_in = K;
    glm4v_cuda_rounded out = {};
    out.q = q.as();
    out.scale = scale.as<float>();
    CUDA(glm4v_cuda_silu_round(stream, &out, &w, &s));
    CUDA(cudaDeviceSynchronize());
    const std::vector<uint8_t> got = q.get<uint8_t>();
    const std::vector<float> scales = scale.get<float>();
    std::vector<float> x(K);
    std::vector<uint16_t> values(up(K, 2));
    bool ok = out.ldq == ldq && out.ldscale == 1 && q.guarded() && scale.guarded();
    for (int t = 0; t < s.rows && ok; t++) {
        float want;
        for (int i = 0; i < K; i++)
            x[i] = (float)act.at(t, i);
        glm4v_fp8_row_c(values.data(), &want, x.data(), K);
        ok = scales[t] == want;
        for (int i = 0; i < ldq && ok; i++)
            ok = got[(size_t)t * ldq + i] == (i < K ? glm4v_f32_to_e4m3(from_bf16(values[i])) : 0);
    }
    check::result(ok, text("silu round, %s", describe(p)));
}

/* A raw product and what follows it, as one chain of kernels. */
void test_sums(const problem &p, const inputs &x, const std::vector<float> &sums,
               glm4v_cuda_prefill *prefill)
{
    const int ld = up(p.s.n_out, 8);
    device_buffer raw((size_t)x.rows * ld * 2);
    glm4v_cuda_product q = {};
    q.y = raw.as();
    q.ldy = ld;
    q.w = &p.w;
    q.rounded = x.out;
    q.rows = x.rows;
    q.raw = true;
    CUDA(glm4v_cuda_prefill_product(stream, prefill, &q));
    CUDA(cudaDeviceSynchronize());
    glm4v_cuda_sums s = { raw.as<uint16_t>(), ld, p.w.scale, x.out.scale, NULL, x.rows, p.s.n_out };
    for (const use &u : uses) {
        double error = 0;
        if (u.f32)
            continue;
        s.bias = u.bias ? p.device_bias->as<float>() : NULL;
        const run_result r = finish_sums(u, s);
        const bool ok = close(p, u, PREFILL, r, sums, &error) && r.ok && raw.guarded();
        check::result(ok, text("raw %s, %s: error %.1e", describe(p), u.name, error));
        if (u.epilogue == GLM4V_CUDA_SILU_MUL)
            test_silu_round(p, s);
    }
}

/* which: names of ways. */
void test_problem(const kind &k, const shape &s, glm4v_cuda_prefill *prefill, const char *which)
{
    problem p(k, s);
    p.make_host();
    p.make_device();
    test_packing(p);
    inputs x;
    x.make(p, GLM4V_CUDA_DECODE_ROWS);
    check::result(x.round(p), text("rounding for %s", describe(p)));
    if (strstr(which, "decode"))
        test_uses(p, x, reference(p, x), DECODE, NULL);
    inputs many;
    many.make(p, 230);
    check::result(many.round(p), text("rounding for %s, 230 rows", describe(p)));
    const std::vector<float> sums = reference(p, many);
    if (strstr(which, "prefill"))
        test_uses(p, many, sums, PREFILL, prefill);
    if (strstr(which, "prefill") && k.form == GLM4V_CUDA_FP8_DYNAMIC)
        test_sums(p, many, sums, prefill);
    if (strstr(which, "blocks"))
        test_uses(p, many, sums, BLOCKS, NULL);
}

/* Groups with NaN and infinity, tiny and zero groups: scales and codes as on the CPU. */
void test_odd_values(glm4v_cuda_form form)
{
    problem p({ form, false, false, false }, { 1024, 2 });
    p.make_host();
    p.make_device();
    packed_from_codes(p);
    inputs x;
    x.make(p, 4);
    const uint16_t odd[] = { 0x7fc0, 0xffc1, 0x7f80, 0xff80, 0x0001, 0x0d80, 0x7f7f, 0x8000 };
    for (int g = 0; g < 8; g++)
        for (int i = 0; i < 128; i++)
            x.bf16[x.ldx + 128 * g + i] = i == 5             ? odd[g]
                                          : g == 4 || g == 5 ? 0
                                                             : to_bf16(check::normal());
    for (int i = 0; i < 1024; i++)
        x.f32[1024 + i] = from_bf16(x.bf16[x.ldx + i]);
    x.x->put(x.bf16);
    x.quantize(p);
    for (float &s : x.scale)
        s = isnan(s) ? NAN : s;
    size_t q_bytes, scale_bytes;
    glm4v_cuda_rounded_size(4, 1024, &q_bytes, &scale_bytes);
    device_buffer q(q_bytes), scale(scale_bytes);
    x.out.q = q.as();
    x.out.scale = scale.as<float>();
    CUDA(glm4v_cuda_round(stream, &x.out, &p.w, x.x->as<uint16_t>(), x.ldx, 4));
    CUDA(cudaDeviceSynchronize());
    std::vector<float> got = scale.get<float>();
    for (float &s : got)
        s = isnan(s) ? NAN : s;
    const bool ok = matches(q.get<int8_t>(), x.q, x.q.size(), "code") &&
                    matches(got, x.scale, x.scale.size(), "scale");
    check::result(ok, text("rounding of NaN, infinity and small values, %s", form_names[form]));
}

void test_random()
{
    const size_t n = 1 << 20;
    device_buffer a(n * 4), b(n * 4);
    double sum = 0, squares = 0;
    CUDA(glm4v_cuda_random_f32(stream, a.as<float>(), n, 5, 0, 1, 0.25f));
    CUDA(glm4v_cuda_random_f32(stream, b.as<float>(), n / 2, 5, n / 2, 1, 0.25f));
    CUDA(cudaDeviceSynchronize());
    const std::vector<float> x = a.get<float>(), y = b.get<float>();
    for (float v : x) {
        sum += v;
        squares += (v - 1.0) * (v - 1.0);
    }
    check::result(fabs(sum / n - 1) < 2e-3 && fabs(sqrt(squares / n) - 0.25) < 2e-3,
                  text("random numbers: mean %g, deviation %g", sum / n, sqrt(squares / n)));
    check::result(!memcmp(&x[n / 2], &y[0], n * 2), "random number i hangs on the seed and i only");
}
} // namespace

/* [--bench [WHICH] | SHAPES [WAYS]]: the first SHAPES of the table, for slow tools. */
int main(int argc, char **argv)
{
    const int skip = check::open();
    if (skip)
        return skip;
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        return bench_products(argc > 2 ? argv[2] : "");
    int left = argc > 1 ? atoi(argv[1]) : (int)(sizeof shapes / sizeof *shapes);
    glm4v_cuda_prefill *prefill;
    size_t bytes;
    CUDA(glm4v_cuda_prefill_open(&prefill, &bytes, &NO_CHOICES));
    test_random();
    test_odd_values(GLM4V_CUDA_INT8);
    test_odd_values(GLM4V_CUDA_FP8_DYNAMIC);
    for (const shape &s : shapes) {
        if (left-- <= 0)
            break;
        for (const kind &k : kinds)
            if (fits(k, s) && check::wanted())
                test_problem(k, s, prefill, argc > 2 ? argv[2] : "decode prefill blocks");
    }
    glm4v_cuda_prefill_close(prefill);
    return check::close();
}
