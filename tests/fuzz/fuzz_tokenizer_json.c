/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-04: a hostile tokenizer.json: load, encode, decode. The first byte chooses: 0 = what follows is
 * the file; else it is a list of edits of a valid one, so that inputs stay JSON and lie in single
 * values. An edit is four bytes: which value (two, of all strings, numbers and words of the file),
 * what takes its place, and a number for that. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "json.h"
#include "mem.h"
#include "tokenizer_priv.h"

#define MAX_VALUES 65536

static char *base; /* the valid file */
static size_t base_len;
static uint32_t value_start[MAX_VALUES], value_end[MAX_VALUES];
static uint32_t n_values;

static void read_base(void)
{
    FUZZ_CHECK(glm4v_read_file(&base, &base_len, SOURCE_ROOT "/tests/data/tokenizer/glm-4.1v",
                               "tokenizer.json", 1 << 20, NULL) == 0);
    for (size_t i = 0; i < base_len && n_values < MAX_VALUES; i++) {
        size_t start = i;
        if (base[i] == '"') {
            for (i++; base[i] != '"'; i++)
                i += base[i] == '\\';
        } else if (strchr("0123456789tfn", base[i])) {
            while (strchr("0123456789truefalsn", base[i + 1]))
                i++;
        } else {
            continue;
        }
        value_start[n_values] = (uint32_t)start;
        value_end[n_values++] = (uint32_t)i + 1;
    }
}

/* Text that takes the place of a value. */
static size_t replacement(char *out, size_t room, uint8_t kind, uint8_t number)
{
    static const char *const words[] = { "null",
                                         "true",
                                         "false",
                                         "-1",
                                         "2097151",
                                         "2097152",
                                         "9223372036854775807",
                                         "1e308",
                                         "\"\"",
                                         "[]",
                                         "{}",
                                         "\"\\u0000\"",
                                         "\"\\ud83d\\ude00\"",
                                         "[[]]",
                                         "\"<think>\"",
                                         "\"a b\"",
                                         "\"\u0120\u0120\"",
                                         "",
                                         "1, 2",
                                         "\"x\": 1" };
    const uint32_t n = sizeof words / sizeof *words;
    if (kind % 4 == 0)
        return (size_t)snprintf(out, room, "%u", number * (kind / 4 + 1u));
    if (kind % 4 == 1 && n_values) { /* another value of the file */
        uint32_t other = ((uint32_t)kind << 8 | number) % n_values,
                 len = value_end[other] - value_start[other];
        if (len < room)
            memcpy(out, base + value_start[other], len);
        return len < room ? len : 0;
    }
    return (size_t)snprintf(out, room, "%s", words[number % n]);
}

/* The valid file with the edits made. free() it. */
static char *edited(const uint8_t *edits, size_t size, size_t *len)
{
    size_t room = base_len + 16 * 256;
    char *text = malloc(room), with[256];
    memcpy(text, base, base_len);
    *len = base_len;
    for (int i = 0; i < 16 && size >= 4; i++, edits += 4, size -= 4) {
        uint32_t which = ((uint32_t)edits[0] << 8 | edits[1]) % n_values;
        /* positions are those of the valid file: later edits may hit another place, which is as
         * good */
        size_t start = value_start[which], end = value_end[which];
        size_t n = replacement(with, sizeof with, edits[2], edits[3]);
        if (end > *len)
            continue;
        memmove(text + start + n, text + end, *len - end);
        memcpy(text + start, with, n);
        *len = *len - (end - start) + n;
    }
    return text;
}

/* Whatever was loaded must encode every text, and give it back. */
static void check_round_trip(const glm4v_tokenizer *t, const char *text, size_t len)
{
    int32_t *ids = NULL;
    size_t n = 0, capacity = 0, at = 0;
    if (glm4v_tokenizer_encode(t, text, len, &ids, &n, &capacity, NULL) == 0) {
        for (size_t i = 0; i < n; i++) {
            size_t k;
            const char *bytes = glm4v_tokenizer_bytes(t, ids[i], &k);
            FUZZ_CHECK(!glm4v_tokenizer_is_control(t, ids[i]));
            FUZZ_CHECK(k > 0 && k <= len - at && memcmp(bytes, text + at, k) == 0);
            at += k;
        }
        FUZZ_CHECK(at == len);
    }
    glm4v_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] = "The surface isn't clean:\n 缺陷 12345 <think>/nothink\u017f qxzj";
    glm4v_tokenizer *t = NULL;
    glm4v_error err = { 0 };
    size_t len = 0;
    if (size < 1)
        return 0;
    if (!base)
        read_base();
    size_t live = glm4v_mem_live();
    char *text = data[0] ? edited(data + 1, size - 1, &len) : malloc(size);
    if (!data[0]) {
        len = size - 1;
        memcpy(text, data + 1, len);
    }
    int rc = glm4v_tokenizer_parse(&t, true, text, len, NULL, 0, &err);
    free(text);
    if (rc == 0) {
        check_round_trip(t, sample, sizeof sample - 1);
        check_round_trip(t, (const char *)data, size);
    } else {
        FUZZ_CHECK(t == NULL && err.code == rc && err.msg[0]);
    }
    glm4v_tokenizer_close(&t);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
