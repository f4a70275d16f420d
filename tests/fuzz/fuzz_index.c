/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-03: a hostile shard index. No file name that is taken leads out of the folder. P-14: some are
 * tried again with an allocation that fails. */
#include <jansson.h>

#include "base/mem.h"
#include "checkpoint/safetensors.h"
#include "fuzz.h"
#include "json_edits.h"

const size_t fuzz_json_at = 0;

static const char base_text[] =
    "{\"metadata\":{\"total_size\":256},\"weight_map\":{"
    "\"a.weight\":\"model-00001-of-00003.safetensors\",\"b.bias\":\"model-00001-of-00003."
    "safetensors\","
    "\"c\":\"model-00002-of-00003.safetensors\",\"d\":\"model-00003-of-00003.safetensors\","
    "\"e\":\"model-00003-of-00003.safetensors\"}}";

static void check_names(const char *text, size_t len, uint32_t n_shards)
{
    static const char end[] = ".safetensors";
    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error), *file;
    const char *tensor;
    size_t n = 0;
    FUZZ_CHECK(root);
    json_object_foreach(json_object_get(root, "weight_map"), tensor, file)
    {
        const char *name = json_string_value(file);
        FUZZ_CHECK(name && name[0] && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\'));
        FUZZ_CHECK(strlen(name) > sizeof end - 1 &&
                   !strcmp(name + strlen(name) - (sizeof end - 1), end));
        n++;
    }
    FUZZ_CHECK(n_shards >= 1 && n_shards <= n && n_shards <= GLM4V_MAX_SHARDS);
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_base base;
    size_t len, live = glm4v_mem_live();
    int64_t n_shards = 0;
    glm4v_error err = { 0 };
    if (!base.n) {
        json_base_init(&base, base_text, sizeof base_text - 1);
        FUZZ_CHECK(
            !glm4v_checkpoint_check_index(base_text, sizeof base_text - 1, &n_shards, &err) &&
            n_shards == 3);
    }
    char *text = json_input(&base, data, size, &len);
    uint64_t before = glm4v_mem_calls();
    int rc = glm4v_checkpoint_check_index(text, len, &n_shards, &err);
    if (rc == 0)
        check_names(text, len, n_shards);
    else
        FUZZ_CHECK(rc == GLM4V_ERR_FORMAT && err.code == rc && err.msg[0]);
    uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - before);
    FUZZ_WITHOUT_MEMORY(nth, &err, glm4v_checkpoint_check_index(text, len, &n_shards, &err));
    free(text);
    FUZZ_CHECK(glm4v_mem_live() == live);
    return 0;
}
