/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libFuzzer's mutations for inputs that hold JSON: two of three are a lie in single values of the
 * text that is there, so that it stays JSON and gets past the reader; the rest are libFuzzer's own,
 * by bytes. */
#include "fuzz.h"
#include "json_edits.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* Lie in text [0, *len), room for max bytes; false where nothing changed or there is no room. */
static bool lie(char *text, size_t *len, size_t max, uint32_t seed)
{
    static json_base base;
    uint8_t edits[4 * 3];
    size_t n = 4 * (1 + seed % 3), new_len;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        edits[i] = (uint8_t)(seed >> 24);
    }
    json_base_init(&base, text, *len);
    char *edited = json_edited(&base, edits, n, &new_len);
    bool good = base.n && new_len <= max;
    if (good) {
        memcpy(text, edited, new_len);
        *len = new_len;
    }
    free(edited);
    return good;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    const size_t at = fuzz_json_at + 1; /* where the text begins; 0 before it says that it is one */
    if (size > at && !data[at - 1] && seed % 3) {
        size_t len = size - at;
        if (lie((char *)data + at, &len, max_size - at, seed / 3))
            return at + len;
    }
    return LLVMFuzzerMutate(data, size, max_size);
}
