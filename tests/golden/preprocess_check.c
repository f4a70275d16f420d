/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* preprocess-check DIR: are pictures prepared as the reference processor prepares them? */
#include <stdio.h>
#include <string.h>

#include "pictures.h"

static const char usage[] =
    "usage: preprocess-check DIR [--json]\n"
    "\n"
    "Compares sizes, grids, resized pixels and patches with reference vectors: "
    "DIR/smart_resize.json, and\n"
    "DIR/golden.safetensors with a PNG for each picture in it. One line for each picture and "
    "stage.\n"
    "Processor values are those of the real GLM-4.1V: 12544 to 9633792 pixels.\n"
    "GLM4V_CPU=c|avx2|avx512|amx in the environment lowers the kernel level.\n"
    "Exit status: 0 everything equal, 1 not so, 2 it could not run, or there was nothing to "
    "compare.\n";

typedef struct {
    bool json;
    int lines, failed;
} output;

static void print_result(void *user, const pictures_result *r)
{
    output *o = user;
    o->lines++;
    o->failed += !r->equal;
    if (o->json)
        printf("{\"case\": \"%s\", \"stage\": \"%s\", \"max_abs\": %.6g, \"equal\": %s}\n", r->name,
               r->stage, r->max_abs, r->equal ? "true" : "false");
    else
        printf("%-4s %-24s %-14s max %.3g  %s\n", r->equal ? "ok" : "FAIL", r->name, r->stage,
               r->max_abs, r->detail);
}

int main(int argc, char **argv)
{
    output o = { 0 };
    glm4v_error err = { 0 };
    const char *dir = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) {
            fputs(usage, stdout);
            return 0;
        }
        if (!strcmp(argv[i], "--json")) {
            o.json = true;
        } else if (dir || argv[i][0] == '-') {
            fputs(usage, stderr);
            return 2;
        } else {
            dir = argv[i];
        }
    }
    if (!dir) {
        fputs(usage, stderr);
        return 2;
    }
    if (pictures_check(dir, print_result, &o, &err)) {
        fprintf(stderr, "preprocess-check: %s\n", err.msg);
        return 2;
    }
    if (!o.lines)
        fprintf(stderr, "preprocess-check: %s: neither smart_resize.json nor golden.safetensors\n",
                dir);
    return o.failed ? 1 : o.lines ? 0 : 2;
}
