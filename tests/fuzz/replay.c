/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target over its corpus without a fuzzing engine: replay MUTANTS CORPUS_DIR...
 * First every file as it is, one TAP line each; then MUTANTS changed copies of them, always the
 * same ones: a quarter of MUTANTS under a sanitizer, since libFuzzer changes more there, and ten
 * times MUTANTS with GLM4V_DEEP=1. A failure ends the program: what was running is left in the file
 * replay-failure of the working directory. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "test.h"

#define MAX_FILES 512
#define MAX_SIZE (1 << 20)

typedef struct {
    char *name;
    uint8_t *data;
    size_t size;
} input;

static input files[MAX_FILES];
static int n_files;
static const uint8_t *running;
static size_t running_size;

/* Write out the input that broke the target, by calls that a signal handler may make. */
static void on_signal(int number)
{
    FILE *file = fopen("replay-failure", "w");
    if (file) {
        fwrite(running, 1, running_size, file);
        fclose(file);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    running = data;
    running_size = size;
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static bool read_input(input *in, const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    in->data = malloc(MAX_SIZE);
    in->size = fread(in->data, 1, MAX_SIZE, file);
    in->name = strdup(name);
    fclose(file);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const input *)a)->name, ((const input *)b)->name);
}

static bool read_corpus(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return false;
    for (struct dirent *e; (e = readdir(d)) && n_files < MAX_FILES;)
        if (e->d_name[0] != '.')
            n_files += read_input(&files[n_files], dir, e->d_name);
    closedir(d);
    return n_files > 0;
}

static uint64_t state = 1;

static uint32_t draw(uint32_t n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return n ? (uint32_t)(state >> 33) % n : 0;
}

/* One random change of data [0, *size), room for MAX_SIZE. */
static void mutate(uint8_t *data, size_t *size)
{
    uint32_t n = (uint32_t)*size, at = draw(n), len = 1 + draw(draw(2) ? 4 : 64);
    if (len > n - at)
        len = n - at;
    switch (draw(6)) {
    case 0: /* a bit */
        if (n)
            data[at] ^= (uint8_t)(1u << draw(8));
        break;
    case 1: /* a byte */
        if (n)
            data[at] =
                (uint8_t)(draw(3) ? draw(256) : (unsigned char)"\0\xff\"{}[]0-9 \n"[draw(13)]);
        break;
    case 2: /* cut out */
        memmove(data + at, data + at + len, n - at - len);
        *size -= len;
        break;
    case 3: /* say twice */
        if (n + len <= MAX_SIZE) {
            memmove(data + at + len, data + at, n - at);
            *size += len;
        }
        break;
    case 4: { /* put a part of another file in */
        const input *other = &files[draw((uint32_t)n_files)];
        uint32_t from = draw((uint32_t)other->size), k = 1 + draw(64);
        if (k > other->size - from)
            k = (uint32_t)other->size - from;
        if (n + k <= MAX_SIZE) {
            memmove(data + at + k, data + at, n - at);
            memcpy(data + at, other->data + from, k);
            *size += k;
        }
        break;
    }
    default: /* end early */
        *size = n - draw(n > 16 ? 16 : n);
    }
}

static void run_mutants(long n)
{
    uint8_t *data = malloc(MAX_SIZE);
    for (long i = 0; i < n; i++) {
        const input *from = &files[draw((uint32_t)n_files)];
        size_t size = from->size;
        memcpy(data, from->data, size);
        for (uint32_t k = 1 + draw(4); k > 0; k--)
            mutate(data, &size);
        run(data, size);
    }
    free(data);
}

int main(int argc, char **argv)
{
    long mutants = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    bool good = argc > 2;
    for (int i = 2; i < argc; i++)
        good &= read_corpus(argv[i]);
    if (!good) {
        printf("Bail out! a corpus is missing\n");
        return 1;
    }
    qsort(files, (size_t)n_files, sizeof *files, by_name); /* the same order everywhere */
    if (getenv("GLM4V_DEEP"))
        mutants *= 10;
    mutants /= test_stride(4);
    const int signals[] = { SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGBUS, SIGFPE };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], on_signal);
    for (int i = 0; i < n_files; i++) {
        run(files[i].data, files[i].size);
        printf("ok %d - %s\n", i + 1, files[i].name);
        fflush(stdout);
    }
    run_mutants(mutants);
    printf("ok %d - %ld changed inputs\n1..%d\n", n_files + 1, mutants, n_files + 1);
    for (int i = 0; i < n_files; i++) {
        free(files[i].data);
        free(files[i].name);
    }
    return 0;
}
