/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The `quantization` option: what it means, and what it refuses. */
#include "model/quantization.h"
#include "test.h"

static glm4v_error err;

static void nothing_named_sets_nothing(void)
{
    static const char *const texts[] = { NULL, "" };
    for (int i = 0; i < 2; i++) {
        glm4v_quantization q;
        CHECK_EQ(glm4v_quantization_parse(&q, texts[i], &err), 0);
        for (int part = 0; part < GLM4V_N_PARTS; part++)
            CHECK(!q.set[part]);
    }
}

static void one_word_means_text_and_vision(void)
{
    static const char *const names[] = { "fp32", "bf16", "int8", "int4", "fp8" };
    for (int i = 0; i < 5; i++) {
        glm4v_quantization q;
        CHECK_EQ(glm4v_quantization_parse(&q, names[i], &err), 0);
        CHECK(q.set[GLM4V_PART_TEXT] && q.set[GLM4V_PART_VISION]);
        CHECK(!q.set[GLM4V_PART_EMBEDDING] && !q.set[GLM4V_PART_LM_HEAD]);
        CHECK_STR(glm4v_form_name(q.form[GLM4V_PART_TEXT]), names[i]);
        CHECK_STR(glm4v_form_name(q.form[GLM4V_PART_VISION]), names[i]);
    }
}

static void each_part_takes_its_own_form(void)
{
    glm4v_quantization q;
    CHECK_EQ(
        glm4v_quantization_parse(&q, "lm-head=int8,text=int4,embedding=bf16,vision=fp32", &err), 0);
    CHECK_EQ(q.form[GLM4V_PART_LM_HEAD], GLM4V_FORM_INT8);
    CHECK_EQ(q.form[GLM4V_PART_TEXT], GLM4V_FORM_INT4);
    CHECK_EQ(q.form[GLM4V_PART_EMBEDDING], GLM4V_FORM_BF16);
    CHECK_EQ(q.form[GLM4V_PART_VISION], GLM4V_FORM_F32);
    CHECK_EQ(glm4v_quantization_parse(&q, "int4,lm-head=int4", &err), 0);
    CHECK_EQ(q.form[GLM4V_PART_LM_HEAD], GLM4V_FORM_INT4);
    CHECK_EQ(glm4v_quantization_parse(&q, "vision=int8", &err), 0);
    CHECK(!q.set[GLM4V_PART_TEXT] && q.set[GLM4V_PART_VISION]);
}

static void what_is_no_option_is_refused_by_item(void)
{
    static const struct {
        const char *text, *said;
        int code;
    } cases[] = {
        { "int3", "\"int3\" is not a weight form", GLM4V_ERR_INVALID },
        { "INT4", "\"INT4\"", GLM4V_ERR_INVALID },
        { " int4", "\" int4\"", GLM4V_ERR_INVALID },
        { ",", "\"\" is not a weight form", GLM4V_ERR_INVALID },
        { "int4,", "\"\" is not a weight form", GLM4V_ERR_INVALID },
        { "text=", "\"\" is not a weight form", GLM4V_ERR_INVALID },
        { "=int4", "\"\" is not a part", GLM4V_ERR_INVALID },
        { "head=int4", "\"head\" is not a part", GLM4V_ERR_INVALID },
        { "lm_head=int4", "\"lm_head\" is not a part", GLM4V_ERR_INVALID },
        { "text=int4=int8", "\"int4=int8\"", GLM4V_ERR_INVALID },
        { "text=int4,text=int4", "text is named twice", GLM4V_ERR_INVALID },
        { "int4,vision=int8", "vision is named twice", GLM4V_ERR_INVALID },
        { "int4,int8", "text is named twice", GLM4V_ERR_INVALID },
        { "embedding=int4", "the embedding can be", GLM4V_ERR_INVALID },
        { "embedding=fp8", "not fp8", GLM4V_ERR_INVALID },
        { "embedding=int4-32", "not int4-32", GLM4V_ERR_INVALID },
        { "embedding=fp8-dynamic", "not fp8-dynamic", GLM4V_ERR_INVALID },
        { "fp8-static", "\"fp8-static\" is not a weight form", GLM4V_ERR_INVALID },
        { "int4-64", "\"int4-64\" is not a weight form", GLM4V_ERR_INVALID },
        { "fp16", "fp32, bf16, int8, int4, fp8, int4-32 or fp8-dynamic", GLM4V_ERR_INVALID },
        { "text=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaa",
          GLM4V_ERR_INVALID },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        glm4v_quantization q = { .form = { 77 } };
        CHECK_EQ(glm4v_quantization_parse(&q, cases[i].text, &err), cases[i].code);
        CHECK_CONTAINS(err.msg, cases[i].said);
        CHECK_EQ(q.form[0], 77);
    }
}

static void int4_needs_whole_groups(void)
{
    CHECK_EQ(glm4v_form_of_linear(GLM4V_FORM_INT4, 128), GLM4V_FORM_INT4);
    CHECK_EQ(glm4v_form_of_linear(GLM4V_FORM_INT4, 13696), GLM4V_FORM_INT4);
    CHECK_EQ(glm4v_form_of_linear(GLM4V_FORM_INT4, 1176), GLM4V_FORM_INT8);
    CHECK_EQ(glm4v_form_of_linear(GLM4V_FORM_INT4, 64), GLM4V_FORM_INT8);
    CHECK_EQ(glm4v_form_of_linear(GLM4V_FORM_INT4_32, 64), GLM4V_FORM_INT4_32);
    CHECK_EQ(glm4v_form_of_linear(GLM4V_FORM_INT4_32, 1176), GLM4V_FORM_INT8);
    CHECK_EQ(glm4v_form_of_linear(GLM4V_FORM_BF16, 1176), GLM4V_FORM_BF16);
}

static void a_stored_dtype_is_kept_exactly(void)
{
    CHECK_EQ(glm4v_form_of_stored(GLM4V_DTYPE_BF16), GLM4V_FORM_BF16);
    CHECK_EQ(glm4v_form_of_stored(GLM4V_DTYPE_F32), GLM4V_FORM_F32);
    CHECK_EQ(glm4v_form_of_stored(GLM4V_DTYPE_F16), GLM4V_FORM_F32);
}

int main(void)
{
    TEST(nothing_named_sets_nothing);
    TEST(one_word_means_text_and_vision);
    TEST(each_part_takes_its_own_form);
    TEST(what_is_no_option_is_refused_by_item);
    TEST(int4_needs_whole_groups);
    TEST(a_stored_dtype_is_kept_exactly);
    return test_end();
}
