/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of weight forms: every row is whole, and its columns agree with each other. */
#include "backend/forms.h"

#include "checkpoint/safetensors.h"
#include "test.h"

static void each_row_is_whole(void)
{
    for (glm4v_form f = 0; f < GLM4V_N_FORMS; f++) {
        const glm4v_form_traits *t = glm4v_form_of(f);
        glm4v_dtype dtype;
        REQUIRE(t->name);
        CHECK_STR(glm4v_form_name(f), t->name);
        CHECK(t->bits == 4 || t->bits == 8 || t->bits == 16 || t->bits == 32);
        CHECK(t->dtype && glm4v_dtype_parse(&dtype, t->dtype));
        CHECK(t->cpu.panel_bytes && t->cpu.product && t->cpu.pack && t->cpu.unpack);
        CHECK_EQ(t->codes, t->cpu.pack_codes != NULL);
        CHECK_EQ(t->codes, t->cpu.unpack_codes != NULL);
        CHECK_EQ(t->codes, t->cpu.encode != NULL);
        CHECK_EQ(t->codes, t->format != NULL);
        CHECK_EQ(t->codes, t->layout != GLM4V_LAYOUT_PLAIN);
        CHECK_EQ(t->layout == GLM4V_LAYOUT_WORDS, t->cpu.pack_words != NULL);
        CHECK_EQ(t->table, t->cpu.table_row != NULL);
        CHECK_EQ(t->table, t->cpu.table_fill != NULL);
        CHECK(t->table || t->codes); /* the converter writes numbers by table_fill */
        CHECK(t->codes || (!t->group && !t->zeros && !t->blocks && !t->floating));
        CHECK(!t->blocks || !t->group);
        CHECK(!t->codes || glm4v_form_of(t->stored)->codes);
        CHECK_EQ(glm4v_form_fits(f, 17), t->group == 0);
    }
}

static void names_are_told_apart(void)
{
    for (glm4v_form f = 0; f < GLM4V_N_FORMS; f++) {
        glm4v_form found = GLM4V_N_FORMS;
        CHECK_EQ(glm4v_form_parse(&found, glm4v_form_name(f)), 0);
        CHECK_EQ(found, f);
    }
    glm4v_form found = GLM4V_N_FORMS;
    CHECK_EQ(glm4v_form_parse(&found, "int3"), GLM4V_ERR_INVALID);
    CHECK_EQ(glm4v_form_parse(&found, ""), GLM4V_ERR_INVALID);
    CHECK_EQ(found, GLM4V_N_FORMS);
    char text[96], little[8];
    CHECK_STR(glm4v_form_names(text, sizeof text, true), "fp32, bf16 or int8");
    CHECK_CONTAINS(glm4v_form_names(text, sizeof text, false), " or ");
    CHECK_STR(glm4v_form_names(little, sizeof little, false), "fp32, b");
}

/* A finer form takes what the form cannot: any width, and needs nothing finer itself. */
static void what_does_not_fit_has_a_finer_form(void)
{
    for (glm4v_form f = 0; f < GLM4V_N_FORMS; f++) {
        const glm4v_form finer = glm4v_form_of(f)->finer;
        CHECK(glm4v_form_fits(finer, 17));
        CHECK_EQ(glm4v_form_of(finer)->finer, finer);
        CHECK(glm4v_form_of(finer)->bits >= glm4v_form_of(f)->bits);
    }
}

/* Forms that differ in the rounding of activations have one kind of codes and scales. */
static void what_is_stored_alike_is_packed_alike(void)
{
    for (glm4v_form f = 0; f < GLM4V_N_FORMS; f++) {
        const glm4v_form_traits *t = glm4v_form_of(f), *s = glm4v_form_of(t->stored);
        CHECK_EQ(s->stored, t->stored);
        CHECK_EQ(t == s, t->rounding == s->rounding);
        CHECK(t->bits == s->bits && t->group == s->group && t->floating == s->floating);
        CHECK(t->layout == s->layout && !strcmp(t->dtype, s->dtype));
        CHECK(t->cpu.pack == s->cpu.pack && t->cpu.pack_codes == s->cpu.pack_codes &&
              t->cpu.unpack == s->cpu.unpack && t->cpu.encode == s->cpu.encode);
    }
    CHECK_EQ(glm4v_form_of(GLM4V_FORM_FP8_DYNAMIC)->stored, GLM4V_FORM_FP8);
}

static void scales_are_counted_by_group(void)
{
    for (glm4v_form f = 0; f < GLM4V_N_FORMS; f++) {
        const glm4v_form_traits *t = glm4v_form_of(f);
        const int32_t expected = !t->codes ? 0 : t->group ? 256 / t->group : 1;
        CHECK_EQ(glm4v_form_groups(f, false, 256), expected);
        if (t->blocks)
            CHECK_EQ(glm4v_form_groups(f, true, 257), 3);
        CHECK_EQ(glm4v_form_group(f, true, 300), 128);
        CHECK_EQ(glm4v_form_group(f, false, 256), t->group ? t->group : 256);
    }
}

int main(void)
{
    TEST(each_row_is_whole);
    TEST(names_are_told_apart);
    TEST(what_does_not_fit_has_a_finer_form);
    TEST(what_is_stored_alike_is_packed_alike);
    TEST(scales_are_counted_by_group);
    return test_end();
}
