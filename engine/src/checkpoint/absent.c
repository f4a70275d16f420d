/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory without the weights that belong there, looked through by names alone: unfinished
 * downloads, shards of another split, formats that this program does not read. Nothing is opened;
 * what is found only makes the message more exact. */
#define _GNU_SOURCE
#include "checkpoint/absent.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#define MAX_ENTRIES 100000
#define NAME_SIZE 96 /* of a name in a message */
#define AGAIN "run its download again (\"hf download\" and \"git lfs pull\" fetch what is missing)"

/* What lies there, by count and the first name of each kind. */
typedef enum {
    UNFINISHED,  /* of a download */
    SHARD,       /* NAME-0000K-of-0000N.safetensors */
    ADAPTER,     /* LoRA */
    SAFETENSORS, /* of another name */
    PYTORCH,
    GGUF,
    N_KINDS
} kind;

typedef struct {
    int64_t n[N_KINDS];
    char first[N_KINDS][NAME_SIZE];
    unsigned shard_total; /* of the first shard */
} inventory;

static bool ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && !strcmp(name + n - m, suffix);
}

static bool ends_with_any(const char *name, const char *const *suffixes)
{
    for (; *suffixes; suffixes++)
        if (ends_with(name, *suffixes))
            return true;
    return false;
}

/* "...-00002-of-00015.safetensors": 15. 0: no name of a shard. */
static unsigned shard_total(const char *name)
{
    unsigned number, total;
    int used = 0;
    size_t n = strlen(name);
    static const char pattern[] = "-00002-of-00015.safetensors";
    if (n < sizeof pattern)
        return 0;
    const char *tail = name + n - (sizeof pattern - 1);
    return sscanf(tail, "-%5u-of-%5u.safetensors%n", &number, &total, &used) == 2 &&
                   used == sizeof pattern - 1
               ? total
               : 0;
}

static kind kind_of(const char *name)
{
    static const char *const unfinished[] = { ".incomplete", ".part",  ".partial", ".crdownload",
                                              ".download",   ".aria2", ".tmp",     NULL };
    static const char *const pytorch[] = { ".bin", ".pth", ".pt", ".ckpt", NULL };
    if (ends_with_any(name, unfinished))
        return UNFINISHED;
    if (!strncmp(name, "adapter_model.", 14))
        return ADAPTER;
    if (ends_with(name, ".safetensors"))
        return shard_total(name) ? SHARD : SAFETENSORS;
    if (ends_with(name, ".gguf"))
        return GGUF;
    return ends_with_any(name, pytorch) ? PYTORCH : N_KINDS;
}

static void count(inventory *found, kind what, const char *name)
{
    if (what == N_KINDS || found->n[what]++)
        return;
    snprintf(found->first[what], NAME_SIZE, "%.*s", NAME_SIZE - 1, name);
    if (what == SHARD)
        found->shard_total = shard_total(name);
}

/* Look through dir/sub. skip: shards with so many files in all are not counted (0: none). */
static void look_through(inventory *found, const char *dir, const char *sub, unsigned skip)
{
    char *path = glm4v_path_join(dir, sub);
    DIR *d = path ? opendir(path) : NULL;
    const struct dirent *entry;
    for (int i = 0; d && i < MAX_ENTRIES && (entry = readdir(d)); i++) {
        kind what = kind_of(entry->d_name);
        if (what != SHARD || shard_total(entry->d_name) != skip)
            count(found, what, entry->d_name);
    }
    if (d)
        closedir(d);
    glm4v_free(path);
}

/* "; 2 unfinished downloads are there (NAME)", or "". */
static const char *tell_unfinished(char *text, size_t size, const inventory *found)
{
    text[0] = 0;
    if (found->n[UNFINISHED])
        snprintf(text, size, "; %" PRId64 " unfinished download%s there (%.48s)",
                 found->n[UNFINISHED], found->n[UNFINISHED] == 1 ? " is" : "s are",
                 found->first[UNFINISHED]);
    return text;
}

static const char *tell_others(char *text, size_t size, const inventory *found)
{
    text[0] = 0;
    if (found->n[SHARD])
        snprintf(text, size,
                 "; %" PRId64
                 " file%s of another download %s there (%.48s): two downloads are mixed",
                 found->n[SHARD], found->n[SHARD] == 1 ? "" : "s",
                 found->n[SHARD] == 1 ? "is" : "are", found->first[SHARD]);
    return text;
}

/* Names of missing files, as many as are kept. */
static const char *tell_names(char *text, size_t size, const glm4v_missing *missing)
{
    size_t used = 0;
    int64_t told = missing->n < GLM4V_MISSING_NAMES ? missing->n : GLM4V_MISSING_NAMES;
    for (int64_t i = 0; i < told && used < size; i++)
        used += snprintf(text + used, size - used, "%s%.40s", i ? ", " : "", missing->name[i]);
    if (missing->n > told && used < size)
        snprintf(text + used, size - used, " and %" PRId64 " more", missing->n - told);
    return text;
}

int glm4v_absent_shards(const char *dir, const glm4v_missing *missing, glm4v_error *err)
{
    inventory found = { 0 };
    char names[240], unfinished[160], others[180];
    look_through(&found, dir, "", shard_total(missing->name[0]));
    look_through(&found, dir, ".cache/huggingface/download", 0);
    tell_unfinished(unfinished, sizeof unfinished, &found);
    tell_others(others, sizeof others, &found);
    if (missing->n == 1)
        return glm4v_fail(err, GLM4V_ERR_NOT_FOUND,
                          "%.60s: is missing; it holds %" PRId64 " tensors, from \"%.72s\" to "
                          "\"%.72s\" (one of %" PRId64 " weight files)%s%s; " AGAIN,
                          missing->name[0], missing->n_tensors, missing->first, missing->last,
                          missing->n_files, others, unfinished);
    return glm4v_fail(err, GLM4V_ERR_NOT_FOUND,
                      "%" PRId64 " of %" PRId64 " weight files are missing: %s%s%s; " AGAIN,
                      missing->n, missing->n_files, tell_names(names, sizeof names, missing),
                      others, unfinished);
}

/* The most specific finding comes first. */
static int tell_what_is_there(const char *dir, const inventory *found, glm4v_error *err)
{
    static const char neither[] =
        "neither model.safetensors nor model.safetensors.index.json is there";
    const int code = GLM4V_ERR_NOT_FOUND;
    char unfinished[160];
    tell_unfinished(unfinished, sizeof unfinished, found);
    if (found->n[SHARD])
        return glm4v_fail(
            err, code,
            "%.80s: %s, but %" PRId64
            " of %u weight files (%s); download the index and the other missing files%s",
            dir, neither, found->n[SHARD], found->shard_total, found->first[SHARD], unfinished);
    if (found->n[ADAPTER])
        return glm4v_fail(
            err, code,
            "%.80s: %s, but a LoRA adapter (%s), which is not a model by itself; merge it into its "
            "base model (peft: merge_and_unload) and save the result",
            dir, neither, found->first[ADAPTER]);
    if (found->n[SAFETENSORS])
        return glm4v_fail(err, code,
                          "%.80s: %s, but \"%s\"; if it holds the whole model, name it "
                          "model.safetensors%s",
                          dir, neither, found->first[SAFETENSORS], unfinished);
    if (found->n[PYTORCH])
        return glm4v_fail(err, code,
                          "%.80s: %s, but PyTorch weights (%s), which are not supported; convert "
                          "them: load the model with transformers' from_pretrained() and write it "
                          "with save_pretrained(), or download the safetensors",
                          dir, neither, found->first[PYTORCH]);
    if (found->n[GGUF])
        return glm4v_fail(err, code,
                          "%.80s: %s, but GGUF (%s), which is not supported; download the original "
                          "checkpoint in safetensors and choose a quantization here",
                          dir, neither, found->first[GGUF]);
    return glm4v_fail(err, code, "%.80s: %s%s; the download may be incomplete: " AGAIN, dir,
                      neither, unfinished);
}

int glm4v_absent_weights(const char *dir, glm4v_error *err)
{
    inventory found = { 0 };
    look_through(&found, dir, "", 0);
    look_through(&found, dir, ".cache/huggingface/download", 0);
    return tell_what_is_there(dir, &found, err);
}
