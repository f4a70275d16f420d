/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-01: a hostile safetensors header. The first two bytes tell how many data bytes follow the
 * header, the third chooses between text and edits of a valid header. What is taken must fill the
 * data exactly once. P-14: some are tried again with an allocation that fails. */
#include "base/mem.h"
#include "checkpoint/safetensors.h"
#include "fuzz.h"
#include "json_edits.h"

const size_t fuzz_json_at = 2;

static const char base_text[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[4,8],\"data_offsets\":[0,64]},"
    "\"b.bias\":{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[64,128]},"
    "\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[128,136]},"
    "\"d\":{\"dtype\":\"U8\",\"shape\":[0,3],\"data_offsets\":[136,136]},"
    "\"e\":{\"dtype\":\"F16\",\"shape\":[2,1,2,15],\"data_offsets\":[136,256]}}";

static void check(const glm4v_checkpoint *c, uint64_t header, uint64_t data_bytes)
{
    uint32_t n = glm4v_checkpoint_count(c);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        const glm4v_tensor *t = glm4v_checkpoint_at(c, i);
        uint64_t bytes = glm4v_dtype_size(t->dtype);
        FUZZ_CHECK(t->rank >= 0 && t->rank <= GLM4V_MAX_DIMS && t->dtype < GLM4V_N_DTYPES);
        for (int d = 0; d < t->rank; d++)
            bytes *= (uint64_t)t->shape[d];
        FUZZ_CHECK(bytes == t->size);
        FUZZ_CHECK(t->offset >= header && t->size <= data_bytes &&
                   t->offset - header <= data_bytes - t->size);
        FUZZ_CHECK(glm4v_checkpoint_find(c, t->name) == t);
        FUZZ_CHECK(i == 0 || strcmp(glm4v_checkpoint_at(c, i - 1)->name, t->name) < 0);
        sum += t->size;
        for (uint32_t k = 0; k < i && n < 64; k++) { /* no two share a byte */
            const glm4v_tensor *u = glm4v_checkpoint_at(c, k);
            FUZZ_CHECK(!t->size || !u->size || t->offset + t->size <= u->offset ||
                       u->offset + u->size <= t->offset);
        }
        float x;
        FUZZ_CHECK(glm4v_checkpoint_read(c, t, t->size, &x, 1, NULL) == GLM4V_ERR_INTERNAL);
        FUZZ_CHECK(glm4v_checkpoint_read(c, t, UINT64_MAX, &x, 2, NULL) == GLM4V_ERR_INTERNAL);
    }
    FUZZ_CHECK(sum == data_bytes);
    glm4v_checkpoint_digest(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_base base;
    size_t len, live = glm4v_mem_live();
    glm4v_checkpoint *c = NULL;
    glm4v_error err = { 0 };
    if (size < 3)
        return 0;
    if (!base.n) {
        json_base_init(&base, base_text, sizeof base_text - 1);
        FUZZ_CHECK(!glm4v_checkpoint_open_header(&c, base_text, sizeof base_text - 1, 256, &err));
        glm4v_checkpoint_close(&c);
    }
    uint64_t nth, before = glm4v_mem_calls();
    uint64_t data_bytes = (uint64_t)data[0] | (uint64_t)data[1] << 8;
    char *text = json_input(&base, data + 2, size - 2, &len);
    int rc = glm4v_checkpoint_open_header(&c, text, len, data_bytes, &err);
    nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    if (rc == 0)
        check(c, 8 + len, data_bytes);
    else
        FUZZ_CHECK(!c && err.code == rc && err.msg[0] &&
                   (rc == GLM4V_ERR_FORMAT || rc == GLM4V_ERR_UNSUPPORTED));
    glm4v_checkpoint_close(&c);
    FUZZ_WITHOUT_MEMORY(nth, &err, glm4v_checkpoint_open_header(&c, text, len, data_bytes, &err));
    FUZZ_CHECK(!c);
    free(text);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
