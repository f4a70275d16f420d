/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What every fuzz target offers. The same function runs under libFuzzer (option `fuzz`) and in
 * replay.c, which needs no fuzzing engine. The input is an exact-size heap block in both, so that
 * reading past it is seen. */
#ifndef GLM4V_FUZZ_H
#define GLM4V_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of targets that take JSON: where in the input the part begins that json_input() reads. */
extern const size_t fuzz_json_at;

/* A property that must hold for every input. */
#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #cond);               \
            __builtin_trap();                                                                      \
        }                                                                                          \
    } while (0)

#endif
