/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-05: a hostile tokenizer.model, and any bytes as text. The first byte chooses: 0 = what follows
 * is the file, alone; 1 = lines appended to a valid file; else it is text, encoded on the small
 * vocabularies within a budget of steps. P-14: some files are tried again with an allocation that
 * fails. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "fuzz.h"
#include "tokenizer/tokenizer_priv.h"

#define DATA SOURCE_ROOT "/tests/data/tokenizer/"

static char *base; /* a valid tokenizer.model */
static size_t base_len;
static glm4v_tokenizer *small[2]; /* by ranks, and by merges */

static void start(void)
{
    FUZZ_CHECK(
        glm4v_read_file(&base, &base_len, DATA "chatglm4v", "tokenizer.model", 1 << 20, NULL) == 0);
    FUZZ_CHECK(glm4v_tokenizer_open(&small[0], DATA "chatglm4v", NULL) == 0);
    FUZZ_CHECK(glm4v_tokenizer_open(&small[1], DATA "glm-4.1v", NULL) == 0);
}

/* At most 64 n log2 n steps; n + 1 so that one byte has a budget too. */
static uint64_t budget(size_t n)
{
    uint64_t log2 = 1;
    while (n >> log2)
        log2++;
    return 64 * (n + 1) * log2;
}

static void check_text(const glm4v_tokenizer *t, const char *text, size_t len)
{
    glm4v_bpe bpe = { 0 };
    glm4v_ids ids = { 0 };
    size_t at = 0;
    int rc = glm4v_encode_with(t, &bpe, text, len, &ids, NULL);
    FUZZ_CHECK(rc == (glm4v_utf8_valid(text, len, NULL) ? 0 : GLM4V_ERR_INVALID));
    FUZZ_CHECK(bpe.steps <= budget(len));
    for (size_t i = 0; i < ids.n; i++) {
        size_t k;
        const char *bytes = glm4v_tokenizer_bytes(t, ids.ids[i], &k);
        FUZZ_CHECK(!glm4v_tokenizer_is_control(t, ids.ids[i]));
        FUZZ_CHECK(k > 0 && k <= len - at && memcmp(bytes, text + at, k) == 0);
        at += k;
    }
    FUZZ_CHECK(rc || at == len);
    glm4v_bpe_clear(&bpe);
    glm4v_free(ids.ids);
}

static void check_file(const char *text, size_t len, const uint8_t *data, size_t size)
{
    glm4v_tokenizer *t = NULL;
    glm4v_error err = { 0 };
    uint64_t before = glm4v_mem_calls();
    int rc = glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, text, len }, &err);
    uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    if (rc == 0) {
        check_text(t, "the surface's \n  缺陷 123", strlen("the surface's \n  缺陷 123"));
        check_text(t, (const char *)data, size);
    } else {
        FUZZ_CHECK(t == NULL && err.code == rc && err.msg[0]);
    }
    glm4v_tokenizer_close(&t);
    FUZZ_WITHOUT_MEMORY(
        nth, &err, glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { false, text, len }, &err));
    FUZZ_CHECK(!t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (!base)
        start();
    size_t live = glm4v_mem_live();
    uint8_t mode = *data++;
    size--;
    if (mode == 0) {
        check_file((const char *)data, size, data, size);
    } else if (mode == 1) {
        char *text = malloc(base_len + size);
        memcpy(text, base, base_len);
        memcpy(text + base_len, data, size);
        check_file(text, base_len + size, data, size);
        free(text);
    } else {
        check_text(small[0], (const char *)data, size);
        check_text(small[1], (const char *)data, size);
    }
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
