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

/* P-14: which of the `calls` allocations that an input took fails when it is tried once more, from
 * 1; 0 = it is not tried again. One input in four, told by a hash of it. */
static inline uint64_t fuzz_failing(const uint8_t *data, size_t size, uint64_t calls)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * UINT64_C(0x100000001b3);
    hash ^= hash >> 32;
    return calls && hash % 4 == 0 ? 1 + (hash >> 2) % calls : 0;
}

/* Make the call with allocation nth failing: it must say so. 0 = do nothing. */
#define FUZZ_WITHOUT_MEMORY(nth, err, call)                                                        \
    do {                                                                                           \
        if (nth) {                                                                                 \
            glm4v_mem_fail_at(nth, false);                                                         \
            int code_ = (call);                                                                    \
            glm4v_mem_fail_at(0, false);                                                           \
            FUZZ_CHECK(code_ == GLM4V_ERR_NOMEM && (err)->code == code_ && (err)->msg[0]);         \
        }                                                                                          \
    } while (0)

#endif
