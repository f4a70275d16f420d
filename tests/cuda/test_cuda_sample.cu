/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernels/cuda/sample.h against engine/src/forward/sample.c: the same ids from the same draws. */
#include "check.cuh"
#include "sample.h"

extern "C" {
#include "forward/sample.h"
}

using namespace check;

constexpr int SLOTS = 70, MASKS = 2;

/* Rows of a step, and what was seen and sampled before it. */
struct world {
    int vocab, words;
    std::vector<float> logits;
    std::vector<uint64_t> seen, masks;
    std::vector<int32_t> sampled, ids, slots, outputs;
    std::vector<glm4v_cuda_draw> draws;

    explicit world(int v)
        : vocab(v), words(v / 64 + 1), seen((size_t)SLOTS * words), masks((size_t)MASKS * words),
          sampled(SLOTS)
    {
        for (uint64_t &x : seen)
            x = bits() % 4 ? 0 : (uint64_t)bits() << 32 | bits();
        for (int slot = 0; slot < SLOTS; slot++) /* no id beyond the vocabulary */
            seen[(size_t)(slot + 1) * words - 1] &= (1ull << (vocab % 64)) - 1;
        for (uint64_t &x : masks)
            x = (uint64_t)(bits() & bits()) << 32 | (bits() & bits());
        for (int mask = 0; mask < MASKS; mask++)
            masks[(size_t)(mask + 1) * words - 1] &= (1ull << (vocab % 64)) - 1;
        for (int32_t &x : sampled)
            x = below(vocab);
    }
    /* A row of the step that is an output. */
    void add(int slot, const glm4v_cuda_draw &draw, float size, bool ties)
    {
        ids.push_back(bits() % 2 ? INT32_MIN : below(vocab));
        slots.push_back(slot);
        outputs.push_back((int32_t)ids.size() - 1);
        draws.push_back(draw);
        draws.back().slot = slot;
        draws.back().generator = (uint64_t)bits() << 32 | bits();
        for (int i = 0; i < vocab; i++)
            logits.push_back(ties ? (float)(below(9) - 4) : size * normal());
    }
};

/* What the engine chooses, row by row; updates seen and sampled as the device does. */
static std::vector<int32_t> expected(world &w)
{
    const std::vector<int32_t> before = w.sampled;
    std::vector<glm4v_candidate> scratch((size_t)w.vocab);
    std::vector<int32_t> chosen;
    for (size_t i = 0; i < w.draws.size(); i++) {
        const glm4v_cuda_draw &draw = w.draws[i];
        uint64_t *seen = &w.seen[(size_t)draw.slot * w.words];
        for (int32_t row = 0; draw.penalty != 1 && row <= w.outputs[i]; row++) {
            const int32_t id =
                w.ids[row] == INT32_MIN ? before[(size_t)w.slots[row]] : w.ids[(size_t)row];
            if (w.slots[(size_t)row] == draw.slot)
                seen[id / 64] |= 1ull << (id % 64);
        }
        const uint64_t *never = draw.mask < 0 ? nullptr : &w.masks[(size_t)draw.mask * w.words];
        glm4v_sampler s = {};
        s.temperature = draw.temperature, s.top_k = draw.top_k, s.top_p = draw.top_p;
        s.penalty = draw.penalty, s.state = draw.generator, s.vocab = w.vocab;
        if (draw.penalty != 1)
            s.seen = seen;
        std::vector<float> row(w.logits.begin() + (ptrdiff_t)i * w.vocab,
                               w.logits.begin() + (ptrdiff_t)(i + 1) * w.vocab);
        chosen.push_back(glm4v_sampler_next(&s, row.data(), never, scratch.data()));
        w.sampled[(size_t)draw.slot] = chosen.back();
    }
    return chosen;
}

static void test_world(world &w, const std::string &name)
{
    const int n = (int)w.draws.size();
    buffer<float> logits(w.logits);
    buffer<uint64_t> seen(w.seen), masks(w.masks);
    buffer<int32_t> sampled(w.sampled), ids(w.ids), slots(w.slots), outputs(w.outputs),
        chosen((size_t)n);
    buffer<glm4v_cuda_draw> draws(w.draws);
    buffer<char> scratch(glm4v_cuda_sample_scratch(w.vocab, n));
    glm4v_cuda_step_data step = {};
    step.ids = ids.data, step.slot = slots.data, step.outputs = outputs.data;
    step.draws = draws.data;
    const glm4v_cuda_sample s = { logits.data, w.vocab,      n,          seen.data,
                                  masks.data,  sampled.data, chosen.data };
    bool ok = done(glm4v_cuda_sample_tokens(stream, &step, &s, scratch.data));
    ok = same(chosen.get(), expected(w), 1) && ok;
    ok = same(sampled.get(), w.sampled, 1) && ok;
    ok = same(seen.get(), w.seen, (size_t)w.words) && ok;
    result(logits.guarded() && seen.guarded() && sampled.guarded() && chosen.guarded() &&
               scratch.guarded() && ok,
           name);
}

static glm4v_cuda_draw draw_of(float temperature, uint32_t top_k, float top_p, float penalty,
                               int mask)
{
    glm4v_cuda_draw d = {};
    d.temperature = temperature;
    d.top_k = top_k;
    d.top_p = top_p;
    d.penalty = penalty;
    d.mask = mask;
    return d;
}

static void test_draws(int vocab, int n, const glm4v_cuda_draw &draw, float size, bool ties)
{
    if (!check::wanted())
        return;
    world w(vocab);
    for (int i = 0; i < n; i++)
        w.add(i, draw, size, ties);
    test_world(w, text("vocab %d, rows %d, temperature %g, top-k %u, top-p %g, penalty %g, mask "
                       "%d, logits %s %g",
                       vocab, n, draw.temperature, draw.top_k, draw.top_p, draw.penalty, draw.mask,
                       ties ? "tied" : "normal", size));
}

static void test_bad_logits()
{
    if (!check::wanted())
        return;
    world w(1000);
    const float bad[] = { NAN, INFINITY, -INFINITY, -NAN };
    for (int i = 0; i < 8; i++) {
        w.add(i, draw_of(i % 2 ? 0.8f : 0, 0, 1, 1, -1), 3, false);
        if (i < 7)
            w.logits[(size_t)(1000 * i + 137 * i)] = bad[i % 4];
    }
    test_world(w, "a logit that is not finite chooses -1");
}

static void test_draft()
{
    if (!check::wanted())
        return;
    world w(5000);
    for (int i = 0; i < 6; i++) /* rows of one sequence, then of another */
        w.add(i < 4 ? 3 : 9, draw_of(0, 0, 1, 5, -1), 1, false);
    test_world(w, "each row of a draft sees the ids up to its own");
}

static void bench_draws(int n, const char *name, const glm4v_cuda_draw &draw, float size = 3)
{
    const int vocab = 151552, words = vocab / 64 + 1;
    buffer<float> logits((size_t)n * vocab);
    logits.repeat(normals(MANY, size));
    buffer<uint64_t> seen((size_t)n * words), masks((size_t)words);
    cudaMemset(seen.data, 0x11, seen.n * 8);
    cudaMemset(masks.data, 0x10, masks.n * 8);
    std::vector<int32_t> rows;
    std::vector<glm4v_cuda_draw> list;
    for (int i = 0; i < n; i++) {
        rows.push_back(i);
        list.push_back(draw);
        list.back().slot = i;
        list.back().generator = bits();
    }
    buffer<int32_t> ids(rows), sampled(rows), chosen(rows);
    buffer<glm4v_cuda_draw> draws(list);
    buffer<char> scratch(glm4v_cuda_sample_scratch(vocab, n));
    glm4v_cuda_step_data step = {};
    step.ids = step.slot = step.outputs = ids.data;
    step.draws = draws.data;
    const glm4v_cuda_sample s = { logits.data, vocab,        n,          seen.data,
                                  masks.data,  sampled.data, chosen.data };
    const double us = microseconds(
        16, [&](int) { return glm4v_cuda_sample_tokens(stream, &step, &s, scratch.data); });
    report(text("sample %s, %d x %d", name, n, vocab), us, 4.0 * n * vocab, 0);
}

static void bench()
{
    for (int n : { 1, 16, 64 }) {
        bench_draws(n, "greedy", draw_of(0, 0, 1, 1, -1));
        bench_draws(n, "greedy, penalty, mask", draw_of(0, 0, 1, 1.1f, 0));
        bench_draws(n, "any", draw_of(0.8f, 0, 1, 1, -1));
        bench_draws(n, "top-k 50", draw_of(0.8f, 50, 1, 1, -1));
        bench_draws(n, "top-p 0.8", draw_of(0.8f, 0, 0.8f, 1, -1));
        bench_draws(n, "top-p 0.9, logits of 1", draw_of(1, 0, 0.9f, 1, -1), 1);
        bench_draws(n, "top-p 0.9, logits of 0.01", draw_of(1, 0, 0.9f, 1, -1), 0.01f);
    }
}

int main(int argc, char **argv)
{
    const int rc = open();
    if (rc)
        return rc;
    for (int vocab : { 1, 63, 384, 1000, 151552 })
        for (bool ties : { false, true }) {
            const int n = vocab > 1000 ? 3 : 40;
            test_draws(vocab, n, draw_of(0, 0, 1, 1, -1), 3, ties);
            test_draws(vocab, n, draw_of(0.7f, 0, 1, 1, -1), 3, ties);
            test_draws(vocab, n, draw_of(1.3f, 5, 1, 1, -1), 3, ties);
            test_draws(vocab, n, draw_of(0.9f, 0, 0.8f, 1, -1), 3, ties);
            test_draws(vocab, n, draw_of(0.9f, 40, 0.9f, 1, -1), 1, ties);
            if (vocab < 64)
                continue;
            test_draws(vocab, n, draw_of(0, 0, 1, 1.3f, -1), 3, ties);
            test_draws(vocab, n, draw_of(0, 0, 1, 1, 1), 3, ties);
            test_draws(vocab, n, draw_of(0.6f, 3000, 0.99f, 0.8f, 0), 3, ties);
        }
    test_draws(151552, 6, draw_of(0.8f, 0, 0.9f, 1.1f, -1), 0.01f, false); /* many in a bin */
    test_draws(151552, 4, draw_of(0.8f, 0, 0.7f, 1, -1), 0, false);        /* all alike */
    test_draws(151552, 6, draw_of(50, 0, 0.95f, 1, -1), 25, false);        /* the last bin */
    test_draws(151552, 6, draw_of(50, 100000, 0.95f, 1, -1), 25, false);
    test_draws(151552, 6, draw_of(1, 0, 0.999f, 1, -1), 1, true);
    test_draws(151552, 4, draw_of(0.8f, 2000, 1, 1, -1), 4, false);
    test_bad_logits();
    test_draft();
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        bench();
    return close();
}
