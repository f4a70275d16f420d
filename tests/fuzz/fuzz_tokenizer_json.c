/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-04: a hostile tokenizer.json: load, encode, decode. The input is the file's text, or edits of a
 * valid one. P-14: some are tried again with an allocation that fails. */
#define _GNU_SOURCE
#include "base/mem.h"
#include "files.h"
#include "fuzz.h"
#include "json_edits.h"
#include "tiny_model.h"
#include "tokenizer/tokenizer_priv.h"

const size_t fuzz_json_at = 0;

static json_base base;

static void start(void)
{
    glm4v_tokenizer *t = NULL;
    char dir[512];
    FUZZ_CHECK(!tiny_model_make(dir, sizeof dir, NULL));
    file_text text = file_read(dir, "tokenizer.json");
    tiny_model_remove(dir);
    json_base_init(&base, text.data, text.len);
    FUZZ_CHECK(
        !glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { true, text.data, text.len }, NULL));
    glm4v_tokenizer_close(&t);
}

/* Whatever was loaded must encode every text, and give it back. */
static void check_round_trip(const glm4v_tokenizer *t, const char *text, size_t len)
{
    glm4v_ids ids = { 0 };
    size_t at = 0;
    if (glm4v_tokenizer_encode(t, text, len, &ids, NULL) == 0) {
        for (size_t i = 0; i < ids.n; i++) {
            size_t k;
            const char *bytes = glm4v_tokenizer_bytes(t, ids.ids[i], &k);
            FUZZ_CHECK(!glm4v_tokenizer_is_control(t, ids.ids[i]));
            FUZZ_CHECK(k > 0 && k <= len - at && memcmp(bytes, text + at, k) == 0);
            at += k;
        }
        FUZZ_CHECK(at == len);
    }
    glm4v_free(ids.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] = "The surface isn't clean:\n 缺陷 12345 <think>/nothink\u017f qxzj";
    glm4v_tokenizer *t = NULL;
    glm4v_error err = { 0 };
    size_t len = 0;
    if (!base.n)
        start();
    size_t live = glm4v_mem_live();
    char *text = json_input(&base, data, size, &len);
    uint64_t before = glm4v_mem_calls();
    int rc = glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { true, text, len }, &err);
    uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    if (rc == 0) {
        check_round_trip(t, sample, sizeof sample - 1);
        check_round_trip(t, (const char *)data, size);
    } else {
        FUZZ_CHECK(t == NULL && err.code == rc && err.msg[0]);
    }
    glm4v_tokenizer_close(&t);
    FUZZ_WITHOUT_MEMORY(
        nth, &err, glm4v_tokenizer_parse(&t, &(glm4v_tokenizer_files) { true, text, len }, &err));
    FUZZ_CHECK(!t);
    free(text);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
