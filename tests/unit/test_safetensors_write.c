/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Headers and indexes that are written: our own reader takes them, and finds every tensor where the
 * layout put it. */
#define _GNU_SOURCE
#include "base/json.h"

#include <inttypes.h>
#include "base/mem.h"
#include "checkpoint/safetensors_write.h"
#include "test.h"

static glm4v_error err;

static glm4v_outputs outputs;
static int64_t groups[1024];

static void add(const char *stem, const char *suffix, glm4v_dtype dtype, int rank,
                const int64_t *shape, int64_t group)
{
    groups[outputs.n] = group;
    CHECK_EQ(glm4v_outputs_add(&outputs, stem, suffix, &(glm4v_output_type) { dtype, rank, shape },
                               &err),
             0);
}

/* Read the header of a shard back and compare it with the layout. Returns the tensors in it. */
static int64_t check_shard(int64_t shard)
{
    glm4v_text_out header = { 0 };
    glm4v_checkpoint *c = NULL;
    uint64_t bytes = 0, length = 0;
    int64_t n = 0;
    if (glm4v_outputs_header(&outputs, shard, &header, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return 0;
    }
    memcpy(&length, header.data, sizeof length);
    CHECK_EQ(header.size, 8 + length);
    CHECK_EQ(header.size % 64, 0);
    for (int64_t i = 0; i < outputs.n; i++)
        if (outputs.items[i].shard == shard)
            bytes += outputs.items[i].size;
    if (glm4v_checkpoint_open_header(&c, header.data + 8, (size_t)length, bytes, &err)) {
        test_fail(__FILE__, __LINE__, "%s", err.msg);
        return 0;
    }
    for (int64_t i = 0; i < outputs.n; i++) {
        const glm4v_output *o = &outputs.items[i];
        const glm4v_tensor *t = glm4v_checkpoint_find(c, o->name);
        if (o->shard != shard) {
            CHECK(t == NULL);
            continue;
        }
        CHECK(t && t->dtype == o->dtype && t->rank == o->rank && t->offset == o->offset &&
              t->size == o->size &&
              !memcmp(t->shape, o->shape, (size_t)t->rank * sizeof *t->shape));
        CHECK_EQ(o->offset % glm4v_dtype_size(o->dtype), 0);
        n++;
    }
    CHECK_EQ(glm4v_checkpoint_count(c), n);
    glm4v_checkpoint_close(&c);
    glm4v_free(header.data);
    return n;
}

static void any_names_shapes_and_dtypes_are_read_back(void)
{
    const int64_t odd[2] = { 3, 5 }, one[1] = { 2 }, empty[3] = { 4, 0, 2 };
    add("plain", ".weight", GLM4V_DTYPE_I8, 2, odd, 0);
    add("quote \" backslash \\ slash /", "", GLM4V_DTYPE_F32, 2, odd, 1);
    add("newline \n tab \t bell \a", "", GLM4V_DTYPE_BF16, 2, odd, 2);
    add("\xe5\x9b\xbe \xf0\x9f\x99\x82", "", GLM4V_DTYPE_F8_E4M3, 2, odd, 3);
    add("shape", "", GLM4V_DTYPE_I64, 1, one, 4);
    add("scalar", "", GLM4V_DTYPE_F64, 0, NULL, 5);
    add("empty", "", GLM4V_DTYPE_U8, 3, empty, 6);
    add("", "", GLM4V_DTYPE_I32, 1, one, 7);
    CHECK_EQ(glm4v_outputs_lay_out(&outputs, groups, 1 << 20, &err), 0);
    CHECK_EQ(outputs.n_shards, 1);
    CHECK_EQ(check_shard(0), 8);
    char name[64];
    glm4v_outputs_file(&outputs, 0, name);
    CHECK_STR(name, "model.safetensors");
    glm4v_outputs_clear(&outputs);
}

static void files_are_filled_to_their_bound_and_groups_stay_together(void)
{
    const int64_t small[2] = { 100, 10 }, large[2] = { 100, 1000 };
    for (int64_t i = 0; i < 100; i++) {
        char stem[32];
        snprintf(stem, sizeof stem, "layer.%" PRId64, i);
        add(stem, ".weight", GLM4V_DTYPE_I8, 2, i == 50 ? large : small, i);
        add(stem, ".weight_scale", GLM4V_DTYPE_F32, 2, small, i);
    }
    CHECK_EQ(glm4v_outputs_lay_out(&outputs, groups, 50000, &err), 0);
    CHECK(outputs.n_shards > 10 && outputs.n_shards < 20);
    uint64_t sum = 0;
    for (int64_t s = 0; s < outputs.n_shards; s++) {
        uint64_t end = 0;
        bool has_large = false;
        CHECK(check_shard(s) > 0);
        for (int64_t i = 0; i < outputs.n; i++) {
            const glm4v_output *o = &outputs.items[i];
            if (o->shard != s)
                continue;
            has_large |= o->size == 100000;
            end = o->offset + o->size > end ? o->offset + o->size : end;
        }
        CHECK(has_large || end <= 50000);
        sum += end;
    }
    CHECK_EQ(outputs.bytes, sum);
    for (int64_t i = 0; i < outputs.n; i += 2)
        CHECK_EQ(outputs.items[i].shard, outputs.items[i + 1].shard);
    char name[64];
    glm4v_outputs_file(&outputs, 2, name);
    char expected[64];
    snprintf(expected, sizeof expected, "model-00003-of-%05" PRId64 ".safetensors",
             outputs.n_shards);
    CHECK_STR(name, expected);
    glm4v_outputs_clear(&outputs);
}

static void the_index_names_every_tensor_and_is_taken_by_the_reader(void)
{
    const int64_t shape[1] = { 1000 };
    glm4v_text_out index = { 0 };
    json_t *root = NULL;
    int64_t n_shards = 0;
    for (int64_t i = 0; i < 20; i++) {
        char stem[32];
        snprintf(stem, sizeof stem, "t\"%" PRId64, i);
        add(stem, "", GLM4V_DTYPE_F32, 1, shape, i);
    }
    CHECK_EQ(glm4v_outputs_lay_out(&outputs, groups, 10000, &err), 0);
    REQUIRE(!glm4v_outputs_index(&outputs, &index, &err));
    CHECK_EQ(glm4v_checkpoint_check_index(index.data, index.size, &n_shards, &err), 0);
    CHECK_EQ(n_shards, outputs.n_shards);
    REQUIRE(!glm4v_json_parse(&root, index.data, index.size, "index", &GLM4V_JSON_CONFIG, &err));
    CHECK_EQ(json_integer_value(json_object_get(json_object_get(root, "metadata"), "total_size")),
             20 * 4000);
    CHECK_EQ(json_object_size(json_object_get(root, "weight_map")), 20);
    json_decref(root);
    glm4v_free(index.data);
    glm4v_outputs_clear(&outputs);
}

static void more_files_than_are_read_back_are_refused(void)
{
    static int64_t apart[GLM4V_MAX_SHARDS + 1];
    const int64_t shape[1] = { 1 };
    for (int64_t i = 0; i <= GLM4V_MAX_SHARDS; i++) {
        char stem[32];
        snprintf(stem, sizeof stem, "t%" PRId64, i);
        apart[i] = i;
        CHECK_EQ(glm4v_outputs_add(&outputs, stem, "",
                                   &(glm4v_output_type) { GLM4V_DTYPE_F32, 1, shape }, &err),
                 0);
    }
    CHECK_EQ(glm4v_outputs_lay_out(&outputs, apart, 1, &err), GLM4V_ERR_UNSUPPORTED);
    CHECK_CONTAINS(err.msg, "1025, at most 1024");
    glm4v_outputs_clear(&outputs);
}

static void a_failed_allocation_is_remembered(void)
{
    glm4v_text_out out = { 0 };
    glm4v_text_format(&out, "%s", "one");
    glm4v_mem_fail_at(1, false);
    for (int i = 0; i < 400; i++)
        glm4v_text_string(&out, "four");
    glm4v_mem_fail_at(0, false);
    CHECK(out.failed);
    glm4v_text_add(&out, "more", 4);
    CHECK(out.failed && out.size <= out.capacity);
    glm4v_free(out.data);
}

int main(void)
{
    TEST(any_names_shapes_and_dtypes_are_read_back);
    TEST(files_are_filled_to_their_bound_and_groups_stay_together);
    TEST(the_index_names_every_tensor_and_is_taken_by_the_reader);
    TEST(more_files_than_are_read_back_are_refused);
    TEST(a_failed_allocation_is_remembered);
    return test_end();
}
