/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* golden-check MODEL_DIR GOLDEN.safetensors: does this engine compute what the reference
 * implementation computed? */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static const char usage[] =
    "usage: golden-check MODEL_DIR GOLDEN.safetensors [--device D] [--quantization Q]\n"
    "                    [--tolerance T] [--no-operations] [--json]\n"
    "\n"
    "Runs every case of a file of reference vectors and prints one line for each case and stage:\n"
    "largest absolute error, normalised error (||a-b||^2 / ||b||^2), and whether the generated "
    "ids\n"
    "are equal. MODEL_DIR needs weights and config.json only.\n"
    "  --device D        auto, cpu, cuda[:N]\n"
    "  --quantization Q  fp32 (everything), bf16, int8, int4, int4-32, fp8, fp8-dynamic (text and\n"
    "                    vision), or text=F,vision=F,embedding=F,lm-head=F; default: as stored\n"
    "  --tolerance T     largest normalised error against the float vectors; default by form:\n"
    "                    fp32 1e-8, bf16 2e-3, int8 3e-2, fp8 2e-1, int4 5e-1,\n"
    "                    fp8-dynamic 4e-1, int4-32 1.5\n"
    "  --no-operations   no comparison with the C kernels, which takes hours at full size\n"
    "  --json            one object a line: case, stage, max_abs, nmse, equal, first_diff, margin\n"
    "At levels above C every operation is compared with the C kernels on the same weights and\n"
    "inputs as well (stages vision/c, prefill/c, decode/c: the worst operation, limit 1e-9).\n"
    "GLM4V_CPU=c|avx2|avx512|amx in the environment lowers the kernel level.\n"
    "Exit status: 0 all within tolerance and all ids equal (quantized: equal where the margin\n"
    "exceeds ten times the largest error), 1 not so, 2 it could not run.\n";

typedef struct {
    bool json;
    int lines, failed;
} output;

static void print_number(const char *key, double value, bool there)
{
    if (there && isfinite(value))
        printf(", \"%s\": %.6g", key, value);
    else
        printf(", \"%s\": null", key);
}

static void print_json(const golden_result *r)
{
    printf("{\"case\": \"%s\", \"stage\": \"%s\"", r->case_name, r->stage);
    print_number("max_abs", r->max_abs, r->nmse >= 0);
    print_number("nmse", r->nmse, r->nmse >= 0);
    printf(", \"equal\": %s", r->nmse >= 0 ? "null" : r->equal ? "true" : "false");
    print_number("first_diff", r->first_diff, r->first_diff >= 0);
    print_number("margin", r->margin, r->first_diff >= 0);
    printf("}\n");
}

static void print_line(void *user, const golden_result *r)
{
    output *o = user;
    o->lines++;
    o->failed += !r->pass;
    if (o->json) {
        print_json(r);
        return;
    }
    printf("%-6s %-20s %-14s ", r->pass ? "ok" : "FAILED", r->case_name, r->stage);
    if (r->nmse >= 0)
        printf("max abs %.2e  nmse %.2e  (limit %.0e)\n", r->max_abs, r->nmse, r->limit);
    else if (r->equal)
        printf("equal\n");
    else
        printf("first difference at %d, margin %.4f\n", r->first_diff, r->margin);
}

/* False: not understood. */
static bool parse(golden_options *options, output *out, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end = NULL;
        if (!strcmp(argv[i], "--json")) {
            out->json = true;
        } else if (!strcmp(argv[i], "--no-operations")) {
            options->no_operations = true;
        } else if (!strcmp(argv[i], "--device") && value) {
            options->device = argv[++i];
        } else if (!strcmp(argv[i], "--quantization") && value) {
            options->quantization = argv[++i];
        } else if (!strcmp(argv[i], "--tolerance") && value) {
            options->tolerance = strtod(argv[++i], &end);
            if (*end || !(options->tolerance > 0))
                return false;
        } else if (argv[i][0] == '-' || options->file) {
            return false;
        } else if (!options->model) {
            options->model = argv[i];
        } else {
            options->file = argv[i];
        }
    }
    return options->model && options->file;
}

int main(int argc, char **argv)
{
    golden_options options = { 0 };
    output out = { 0 };
    glm4v_error err = { 0 };
    const char *isa = "";
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        fputs(usage, stdout);
        return 0;
    }
    if (!parse(&options, &out, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (golden_run(&options, print_line, &out, &isa, &err)) {
        fprintf(stderr, "golden-check: %s\n", err.msg);
        return 2;
    }
    if (!out.json)
        printf("%d of %d stages passed, kernels: %s\n", out.lines - out.failed, out.lines, isa);
    return out.failed ? 1 : 0;
}
