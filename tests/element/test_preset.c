/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The presets that come with the element: every line of the file names a writable property and a
 * value it takes. */
#include "fake_engine.h"
#include "support.h"

#define PRESETS SOURCE_ROOT "/gst-plugin/presets/GstGlm4vDescribe.prs"

static const gchar *const presets[] = { "caption", "inspect", "alert",  "verdict",
                                        "ocr",     "table",   "formula" };

static void the_presets_are_all_there(void)
{
    GstElement *element = support_element(NULL);
    gchar **names = gst_preset_get_preset_names(GST_PRESET(element));
    REQUIRE(names);
    CHECK_EQ(g_strv_length(names), G_N_ELEMENTS(presets));
    for (guint i = 0; i < G_N_ELEMENTS(presets); i++)
        CHECK(g_strv_contains((const gchar *const *)names, presets[i]));
    g_strfreev(names);
    support_free(element);
}

static void check_line(GstElement *element, GKeyFile *file, const gchar *preset, const gchar *key)
{
    GParamSpec *spec = g_object_class_find_property(G_OBJECT_GET_CLASS(element), key);
    gchar *wanted = g_key_file_get_value(file, preset, key, NULL), *got = NULL;
    GValue value = G_VALUE_INIT;
    if (!spec || !(spec->flags & G_PARAM_WRITABLE)) {
        test_fail(__FILE__, __LINE__, "[%s] %s is no writable property", preset, key);
    } else {
        g_value_init(&value, spec->value_type);
        g_object_get_property(G_OBJECT(element), key, &value);
        got =
            G_VALUE_HOLDS_STRING(&value) ? g_value_dup_string(&value) : gst_value_serialize(&value);
        g_value_unset(&value);
        CHECK_STR(got, wanted);
    }
    g_free(got);
    g_free(wanted);
}

static void each_preset_sets_what_its_lines_say(void)
{
    GKeyFile *file = g_key_file_new();
    REQUIRE(g_key_file_load_from_file(file, PRESETS, G_KEY_FILE_NONE, NULL));
    for (guint p = 0; p < G_N_ELEMENTS(presets); p++) {
        GstElement *element = support_element(NULL);
        CHECK(gst_preset_load_preset(GST_PRESET(element), presets[p]));
        gchar **keys = g_key_file_get_keys(file, presets[p], NULL, NULL);
        for (guint i = 0; keys[i]; i++)
            if (!g_str_has_prefix(keys[i], "_meta/"))
                check_line(element, file, presets[p], keys[i]);
        g_strfreev(keys);
        support_free(element);
    }
    g_key_file_unref(file);
}

int main(int argc, char **argv)
{
    fake_init(&argc, &argv);
    TEST(the_presets_are_all_there);
    TEST(each_preset_sets_what_its_lines_say);
    return test_end();
}
