/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "results.h"

GstStructure *results_next_named(GstElement *element, const char *name)
{
    GstStructure *structure;
    while ((structure = support_structure(element)) && !gst_structure_has_name(structure, name))
        gst_structure_free(structure);
    return structure;
}

GstStructure *results_next(GstElement *element)
{
    return results_next_named(element, "glm4vdescribe-result");
}

void results_wait(GstElement *element, guint n)
{
    for (guint i = 0; i < n; i++) {
        GstStructure *result = results_next(element);
        CHECK(result != NULL);
        g_clear_pointer(&result, gst_structure_free);
    }
}

guint64 results_uint64(const GstStructure *result, const char *name)
{
    guint64 value = G_MAXUINT64;
    if (!result || !gst_structure_get_uint64(result, name, &value))
        test_fail(__FILE__, __LINE__, "no %s in the result", name);
    return value;
}

static void check_status(const GstStructure *result, const char *status)
{
    CHECK_STR(gst_structure_get_string(result, "status"), status);
    CHECK_EQ(gst_structure_has_field(result, "message"), strcmp(status, "ok") != 0);
}

void results_check(GstElement *element, guint64 id, const char *status, const char *reason)
{
    GstStructure *result = results_next(element);
    REQUIRE(result != NULL);
    CHECK_EQ(results_uint64(result, "id"), id);
    check_status(result, status);
    CHECK_STR(gst_structure_get_string(result, "finish-reason"), reason);
    gst_structure_free(result);
}

char *results_check_trigger(GstElement *element, guint64 trigger, const char *status)
{
    GstStructure *result = results_next(element);
    char *text;
    if (!result) {
        test_fail(__FILE__, __LINE__, "no result of trigger %u", (guint)trigger);
        return g_strdup("");
    }
    CHECK_EQ(results_uint64(result, "trigger-id"), trigger);
    check_status(result, status);
    text = g_strdup(gst_structure_get_string(result, "text"));
    gst_structure_free(result);
    return text;
}

guint results_count_named(GstElement *element, const char *name)
{
    GstBus *bus = gst_element_get_bus(element);
    GstMessage *message;
    guint n = 0;
    while ((message = gst_bus_pop_filtered(bus, GST_MESSAGE_ELEMENT))) {
        n += gst_message_has_name(message, name);
        gst_message_unref(message);
    }
    gst_object_unref(bus);
    return n;
}
