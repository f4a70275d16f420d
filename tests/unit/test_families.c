/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of model families: every row is whole, and no two of them claim the same model. */
#include "chat/prompt.h"
#include "config/family.h"
#include "test.h"

static void each_row_is_whole(void)
{
    for (glm4v_family f = 0; f < GLM4V_N_FAMILIES; f++) {
        const glm4v_family_traits *t = glm4v_family_of(f);
        REQUIRE(t->name && t->types[0] && t->marks[0] && t->models && t->called && t->marks_are);
        CHECK(strlen(t->name) < sizeof((glm4v_model_info) { 0 }.family));
        CHECK(t->read && t->list && t->prompts[0] && t->prompts[1]);
        CHECK(t->temporal >= 1);
        CHECK(t->templates[0] != GLM4V_TEMPLATE_NONE);
        for (glm4v_media m = 0; m < GLM4V_N_MEDIA; m++) {
            CHECK_EQ(t->token[m].name != NULL, t->token[m].key != NULL);
            CHECK(m >= GLM4V_MEDIA_VIDEO || t->token[m].name);
        }
    }
}

static bool has(const char *const *list, int n, const char *name)
{
    for (int i = 0; i < n && list[i]; i++)
        if (!strcmp(list[i], name))
            return true;
    return false;
}

static void families_are_told_apart(void)
{
    for (glm4v_family f = 0; f < GLM4V_N_FAMILIES; f++)
        for (glm4v_family g = 0; g < f; g++) {
            const glm4v_family_traits *a = glm4v_family_of(f), *b = glm4v_family_of(g);
            CHECK(strcmp(a->name, b->name) != 0);
            for (int i = 0; i < GLM4V_MAX_TYPES && a->types[i]; i++)
                CHECK(!has(b->types, GLM4V_MAX_TYPES, a->types[i]));
            for (int i = 0; i < GLM4V_MAX_MARKS && a->marks[i]; i++)
                CHECK(!has(b->marks, GLM4V_MAX_MARKS, a->marks[i]));
        }
}

static void each_media_token_has_a_place_of_its_own(void)
{
    glm4v_config c = { 0 };
    for (glm4v_media m = 0; m < GLM4V_N_MEDIA; m++)
        *glm4v_media_id(&c, m) = (int32_t)m + 100;
    for (glm4v_media m = 0; m < GLM4V_N_MEDIA; m++)
        CHECK_EQ(*glm4v_media_id(&c, m), (int32_t)m + 100);
    CHECK_EQ(c.image_id, 100 + GLM4V_MEDIA_IMAGE);
    CHECK_EQ(c.video_end_id, 100 + GLM4V_MEDIA_VIDEO_END);
}

/* A configuration of a type that no family has names all that there are. */
static void an_unknown_type_is_told_what_is_known(void)
{
    static const char text[] = "{\"model_type\": \"llava\", \"vision_config\": {}}";
    glm4v_config c;
    glm4v_error err = { 0 };
    CHECK_EQ(glm4v_config_parse(&c, text, strlen(text), &err), GLM4V_ERR_UNSUPPORTED);
    for (glm4v_family f = 0; f < GLM4V_N_FAMILIES; f++) {
        const glm4v_family_traits *t = glm4v_family_of(f);
        CHECK_CONTAINS(err.msg, t->models);
        for (int i = 0; i < GLM4V_MAX_TYPES && t->types[i]; i++)
            CHECK_CONTAINS(err.msg, t->types[i]);
    }
}

int main(void)
{
    TEST(each_row_is_whole);
    TEST(families_are_told_apart);
    TEST(each_media_token_has_a_place_of_its_own);
    TEST(an_unknown_type_is_told_what_is_known);
    return test_end();
}
