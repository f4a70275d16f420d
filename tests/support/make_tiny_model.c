/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* make-tiny-model DIR [WORD...]: the tiny model for shell tests. Words: shards=N seed=N f32 f16
 * flat glm45 short outer split tied tiktoken chatglm4v glm_ocr resaved weights-only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_model.h"

static bool word(tiny_model_options *o, const char *s)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        { "flat", &o->flat_config },          { "glm45", &o->glm45 },
        { "short", &o->short_prefix },        { "outer", &o->outer_prefix },
        { "split", &o->split_gate_up },       { "tied", &o->tied },
        { "tiktoken", &o->tiktoken },         { "chatglm4v", &o->chatglm4v },
        { "glm_ocr", &o->glm_ocr },           { "resaved", &o->resaved },
        { "weights-only", &o->weights_only },
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!strcmp(s, flags[i].name))
            return *flags[i].flag = true;
    if (!strncmp(s, "shards=", 7))
        return (o->shards = (int)strtoul(s + 7, NULL, 10)) > 0;
    if (!strncmp(s, "seed=", 5))
        return (o->seed = strtoull(s + 5, NULL, 10)) > 0;
    if (!strcmp(s, "f32"))
        return (o->dtype = TINY_F32) == TINY_F32;
    if (!strcmp(s, "f16"))
        return (o->dtype = TINY_F16) == TINY_F16;
    return false;
}

int main(int argc, char **argv)
{
    static const char usage[] = "usage: make-tiny-model DIR [WORD...]\n";
    tiny_model_options options = { 0 };
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc < 2 || argv[1][0] == '-') {
        fputs(usage, stderr);
        return 2;
    }
    for (int i = 2; i < argc; i++)
        if (!word(&options, argv[i])) {
            fprintf(stderr, "make-tiny-model: unknown word %s\n", argv[i]);
            return 2;
        }
    return tiny_model_write(argv[1], &options) ? 1 : 0;
}
