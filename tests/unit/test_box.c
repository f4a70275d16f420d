/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boxes in answers: as models write them, in pixels, and whatever else an answer may hold. */
#include "base/utf8.h"
#include "chat/box.h"
#include "test.h"

/* What find_boxes() makes of text, one "[x y x y label]" after the other. Box markers are written
 * as { and } doubled, "{{" and "}}". */
static const char *found(const char *marked)
{
    static char out[8192];
    static glm4v_found_box boxes[GLM4V_MAX_BOXES];
    glm4v_span spans[16];
    char text[4096];
    size_t len = 0, n_spans = 0, used = 0;
    for (const char *p = marked; *p; p++)
        if (p[0] == '{' && p[1] == '{') {
            spans[n_spans].start = spans[n_spans].end = len;
            p++;
        } else if (p[0] == '}' && p[1] == '}') {
            spans[n_spans++].end = len;
            p++;
        } else {
            text[len++] = *p;
        }
    uint32_t n = glm4v_find_boxes(boxes, text, len, spans, n_spans);
    out[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        used += (size_t)snprintf(out + used, sizeof out - used, "[%g %g %g %g %s]",
                                 boxes[i].corner[0], boxes[i].corner[1], boxes[i].corner[2],
                                 boxes[i].corner[3], boxes[i].label);
    return out;
}

static void boxes_between_markers_are_found_in_every_bracket_style(void)
{
    CHECK_STR(found("{{[[12,40,200,310]]}}"), "[12 40 200 310 ]");
    CHECK_STR(found("{{[12, 40, 200, 310]}}"), "[12 40 200 310 ]");
    CHECK_STR(found("{{(12,40),(200,310)}}"), "");
    CHECK_STR(found("at {{<12 40 200 310>}}."), "[12 40 200 310 ]");
    CHECK_STR(found("{{( 12 ,40\n,200, 310.5 )}}"), "[12 40 200 310.5 ]");
    CHECK_STR(found("{{[[1,2,3,4],[5,6,7,8]]}}"), "[1 2 3 4 ][5 6 7 8 ]");
    CHECK_STR(found("{{[1,2,3,4]}} and {{[5,6,7,8]}}"), "[1 2 3 4 ][5 6 7 8 ]");
    CHECK_STR(found("在图中 {{[[500,010,999,1000]]}} 处"), "[500 10 999 1000 ]");
    CHECK_STR(found("{{[-5,0,1200,3]}}"), "[-5 0 1200 3 ]");
}

static void brackets_elsewhere_are_no_boxes(void)
{
    CHECK_STR(found("The values [1,2,3,4] in a caption"), "");
    CHECK_STR(found("box [1,2,3,4]"), "");
    CHECK_STR(found("{{42}}"), "");
    CHECK_STR(found("{{[1,2]}}"), "");
    CHECK_STR(found("{{[1,2,3]}} {{[1,2,3,4,5]}} {{[]}} {{[,1,2,3,4]}} {{[a,b,c,d]}}"), "");
    CHECK_STR(found("{{[1,2,3,4"), "");
    CHECK_STR(found("{{[1,2,3,4}}"), "");
    CHECK_STR(found("{{[1,2,3,4)}}"), "");
    CHECK_STR(found("{{[1.,2,3,4]}} {{[1e3,2,3,4]}} {{[--1,2,3,4]}}"), "");
    CHECK_STR(found("{{[1,2,3,12345678901234567890]}}"), "");
    CHECK_STR(found("{\"place\": [1,2,3,4], \"count\": [5,6,7,8]}"), "");
    CHECK_STR(found(""), "");
}

static void boxes_in_json_carry_their_object_s_label(void)
{
    CHECK_STR(found("{\"surface\":\"copper\",\"count\":2,\"defects\":["
                    "{\"type\":\"hole\",\"place\":\"centre\",\"box\":[395,500,480,645]},"
                    "{\"type\":\"dent\",\"box\":[5,6,7,8] }] }"),
              "[395 500 480 645 hole][5 6 7 8 dent]");
    CHECK_STR(found("```json\n[\n {\"bbox_2d\": [1, 2, 3, 4], \"label\": \"red car\"},\n"
                    " {\"bbox_2d\": [5, 6, 7, 8], \"label\": \"汽车\"}\n]\n```"),
              "[1 2 3 4 red car][5 6 7 8 汽车]");
    CHECK_STR(found("{\"label\": \"tree\", \"boxes\": [[1,2,3,4], [5,6,7,8]]}"),
              "[1 2 3 4 tree][5 6 7 8 tree]");
    CHECK_STR(found("{'bbox': [1,2,3,4], 'name': \"it's\"}"), "[1 2 3 4 it's]");
    CHECK_STR(found("box_2d: [[100,200,300,400]]"), "[100 200 300 400 ]");
    CHECK_STR(found("{\"name\":\"a\",\"part\":{\"box\":[1,2,3,4]}}"), "[1 2 3 4 a]");
    CHECK_STR(found("{\"name\":\"a\",\"part\":{\"box\":[1,2,3,4],\"type\":\"b\"}}"), "[1 2 3 4 b]");
    CHECK_STR(found("{\"box\":[1,2,3,4]} {\"label\":\"other\"}"), "[1 2 3 4 ]");
    CHECK_STR(found("{{{\"bbox_2d\": [1,2,3,4], \"label\": \"x\" } }}"), "[1 2 3 4 x]");
    CHECK_STR(found("{\"class\": 3, \"box\": [1,2,3,4]}"), "[1 2 3 4 ]");
    CHECK_STR(found("It's here: {\"box\": [1,2,3,4]}"), "[1 2 3 4 ]");
}

static void json_that_is_cut_off_gives_what_there_is(void)
{
    static const char whole[] = "{\"defects\":[{\"type\":\"hole\",\"box\":[1,2,3,4]},"
                                "{\"type\":\"pit\",\"box\":[5,6,7,8";
    char cut[sizeof whole];
    for (size_t n = 0; n < sizeof whole; n++) {
        snprintf(cut, sizeof cut, "%.*s", (int)n, whole);
        const char *boxes = found(cut);
        CHECK_STR(boxes, n >= strlen("{\"defects\":[{\"type\":\"hole\",\"box\":[1,2,3,4]")
                             ? "[1 2 3 4 hole]"
                             : "");
    }
    CHECK_STR(found("{\"type\":\"hole\",\"box\":[1,2,3,4],\"severity\":\"mod"), "[1 2 3 4 hole]");
}

static void escapes_in_labels_are_undone_and_long_ones_cut(void)
{
    char text[2048], expected[2048];
    CHECK_STR(found("{\"label\":\"a\\\"b\\\\c\\/d\",\"box\":[1,2,3,4]}"), "[1 2 3 4 a\"b\\c/d]");
    CHECK_STR(found("{\"label\":\"\\u5212\\u75d5\",\"box\":[1,2,3,4]}"), "[1 2 3 4 划痕]");
    CHECK_STR(found("{\"label\":\"\\ud83d\\ude00x\\u0000\\u001b[\",\"box\":[1,2,3,4]}"),
              "[1 2 3 4 x[]");
    CHECK_STR(found("{\"label\":\"\\划\\u12\",\"box\":[1,2,3,4]}"), "[1 2 3 4 划u12]");
    for (size_t n = 58; n < 70; n++) { /* a label ends with a whole character */
        char label[128] = "";
        memset(label, 'a', n);
        snprintf(text, sizeof text, "{\"label\":\"%s痕b\",\"box\":[1,2,3,4]}", label);
        snprintf(expected, sizeof expected, "[1 2 3 4 %.*s%s%s]", n < 63 ? (int)n : 63, label,
                 n <= 60 ? "痕" : "", n < 60 ? "b" : "");
        CHECK_STR(found(text), expected);
    }
}

/* corner in pixels of a width x height picture as "x y width height", or "none". */
static const char *pixels(double x1, double y1, double x2, double y2, int32_t width, int32_t height)
{
    static char out[128];
    const double corner[4] = { x1, y1, x2, y2 };
    glm4v_box box = { 0 };
    if (!glm4v_box_in_pixels(&box, corner, width, height))
        return "none";
    snprintf(out, sizeof out, "%d %d %d %d", box.x, box.y, box.width, box.height);
    return out;
}

static void thousandths_become_pixels_inside_the_picture(void)
{
    CHECK_STR(pixels(0, 0, 1000, 1000, 1280, 720), "0 0 1280 720");
    CHECK_STR(pixels(250, 500, 750, 1000, 1280, 720), "320 360 640 360");
    CHECK_STR(pixels(750, 1000, 250, 500, 1280, 720), "320 360 640 360"); /* other corners */
    CHECK_STR(pixels(250, 1000, 750, 500, 1280, 720), "320 360 640 360");
    CHECK_STR(pixels(-50, -1, 2000, 1e6, 640, 480), "0 0 640 480");
    CHECK_STR(pixels(1, 1, 2, 2, 100, 100), "0 0 1 1");
    CHECK_STR(pixels(999, 999, 999, 999, 100, 100), "99 99 1 1");
    CHECK_STR(pixels(500, 100, 500, 300, 200, 100), "100 10 1 20"); /* a line */
    CHECK_STR(pixels(0, 0, 0, 0, 640, 480), "none");
    CHECK_STR(pixels(0, 0, 5, 0, 640, 480), "none");
    CHECK_STR(pixels(1000, 0, 1200, 500, 640, 480), "none");
    CHECK_STR(pixels(-20, -20, -1, 500, 640, 480), "none");
    CHECK_STR(pixels(333, 333, 667, 667, 3, 3), "0 0 3 3");
    CHECK_STR(pixels(0.1, 0.2, 0.5, 0.75, 640, 480), pixels(100, 200, 500, 750, 640, 480));
    CHECK_STR(pixels(0, 0, 1, 1, 640, 480), "0 0 640 480"); /* parts of the sides */
    CHECK_STR(pixels(0, 0, 1, 2, 640, 480), "0 0 1 1");     /* thousandths */
    CHECK_STR(pixels(-0.1, 0, 1, 1, 640, 480), "0 0 1 1");
    CHECK_EQ(glm4v_point_in_pixels(500, 1280), 640);
    CHECK_EQ(glm4v_point_in_pixels(999, 1280), 1278);
    CHECK_EQ(glm4v_point_in_pixels(1000, 1280), 1279);
    CHECK_EQ(glm4v_point_in_pixels(-3, 1280), 0);
    CHECK_EQ(glm4v_point_in_pixels(1e9, 1280), 1279);
}

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Pieces that answers are made of, in any order, cut anywhere by the exact size of the block. */
static void any_text_gives_whole_labels_and_boxes_inside_the_picture(void)
{
    static const char *const pieces[] = { "{",         "}",        "[",          "]",
                                          "(",         ")",        "<",          ">",
                                          "[1,2,3,4]", "\"box\":", "\"label\":", "\"划痕\"",
                                          "'",         "\"",       "\\",         "\\u00",
                                          "\\u5212",   "\n",       " ",          ",",
                                          ":",         "=",        "-9999999.5", "1000",
                                          "box_2d",    "type",     "0",          "12345678901",
                                          ".",         "痕",       "a",          "{\"bboxes\":[[",
                                          "]]}" };
    static glm4v_found_box boxes[GLM4V_MAX_BOXES];
    uint32_t seed = 7, total = 0;
    for (int round = 0; round < 20000 && test_ok; round++) {
        glm4v_span spans[3];
        size_t len = 0, want = 1 + next(&seed) % 200;
        char *text = malloc(want);
        while (len < want) {
            const char *piece = pieces[next(&seed) % (sizeof pieces / sizeof *pieces)];
            size_t n = strlen(piece);
            if (len + n > want)
                break;
            memcpy(text + len, piece, n);
            len += n;
        }
        text = realloc(text, len + !len); /* exact, so that a sanitizer sees one byte too far */
        for (int i = 0; i < 3; i++) {
            spans[i].start = next(&seed) % 250;
            spans[i].end = next(&seed) % 250;
        }
        uint32_t n = glm4v_find_boxes(boxes, text, len, spans, next(&seed) % 4);
        for (uint32_t i = 0; i < n; i++) {
            int32_t width = 1 + (int32_t)(next(&seed) % 16384), height = 1 + (int32_t)(i % 3);
            glm4v_box box = { 0 };
            CHECK(memchr(boxes[i].label, 0, sizeof boxes[i].label) != NULL);
            CHECK(glm4v_utf8_valid(boxes[i].label, strlen(boxes[i].label), NULL));
            if (glm4v_box_in_pixels(&box, boxes[i].corner, width, height))
                CHECK(box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0 &&
                      box.x + box.width <= width && box.y + box.height <= height);
        }
        total += n;
        free(text);
    }
    printf("# %u boxes\n", total);
    CHECK(total > 1000);
}

/* The largest answer there is, of what would be slowest to look at twice. */
static void the_largest_answers_end_soon(void)
{
    static const char *const worst[] = {
        "\"\\", "\"", "'",  "{",        "[", "{\"box\":[", "\\\"",         "<",
        "-",    "[ ", "{'", "\"box\":", "9", "[1,2,3,",    "{\"label\":\""
    };
    static glm4v_found_box boxes[GLM4V_MAX_BOXES];
    static char text[64 * 1024];
    for (size_t i = 0; i < sizeof worst / sizeof *worst; i++) {
        size_t n = strlen(worst[i]);
        for (size_t at = 0; at < sizeof text; at++)
            text[at] = worst[i][at % n];
        const glm4v_span span = { 0, sizeof text };
        CHECK_EQ(glm4v_find_boxes(boxes, text, sizeof text, &span, 1), 0);
    }
    for (size_t at = 0; at < sizeof text; at++)
        text[at] = "[1,2,3,4]"[at % 9];
    const glm4v_span span = { 0, sizeof text };
    CHECK_EQ(glm4v_find_boxes(boxes, text, sizeof text, &span, 1), GLM4V_MAX_BOXES);
}

int main(void)
{
    TEST(boxes_between_markers_are_found_in_every_bracket_style);
    TEST(brackets_elsewhere_are_no_boxes);
    TEST(boxes_in_json_carry_their_object_s_label);
    TEST(json_that_is_cut_off_gives_what_there_is);
    TEST(escapes_in_labels_are_undone_and_long_ones_cut);
    TEST(thousandths_become_pixels_inside_the_picture);
    TEST(any_text_gives_whole_labels_and_boxes_inside_the_picture);
    TEST(the_largest_answers_end_soon);
    return test_end();
}
