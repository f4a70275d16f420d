/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boxes and actions of answers (box.c, action.c): any text gives boxes inside the picture, whole
 * labels, and an action whose strings lie in the memory given. Input: width, height (16 bits each),
 * three spans of two bytes each, then text; bytes that are no UTF-8 become question marks, as an
 * answer is valid when it comes there. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "chat/action.h"
#include "chat/box.h"
#include "fuzz.h"

#define HEAD 10

/* A string of an action: static, or inside memory [0, size), ended there. */
static bool inside(const char *s, const char *memory, size_t size)
{
    if (s < memory || s >= memory + size)
        return strlen(s) <= strlen("finish");
    return memchr(s, 0, (size_t)(memory + size - s)) != NULL;
}

static void check_point(const int32_t point[2], int32_t width, int32_t height)
{
    FUZZ_CHECK((point[0] < 0) == (point[1] < 0));
    FUZZ_CHECK(point[0] >= -1 && point[0] < width && point[1] >= -1 && point[1] < height);
}

static void check_action(const char *text, size_t len, int32_t width, int32_t height)
{
    char *memory = malloc(len + 1);
    glm4v_action a;
    bool found = glm4v_action_parse(&a, memory, text, len, width, height);
    FUZZ_CHECK(found == (a.action[0] != 0));
    FUZZ_CHECK(inside(a.action, memory, len + 1) && inside(a.text, memory, len + 1) &&
               inside(a.message, memory, len + 1));
    check_point(a.element, width, height);
    check_point(a.to, width, height);
    FUZZ_CHECK(found || (!a.text[0] && !a.message[0] && a.element[0] < 0 && a.to[0] < 0));
    free(memory);
}

static void check_boxes(const char *text, size_t len, const glm4v_span spans[3], int32_t width,
                        int32_t height)
{
    static glm4v_found_box boxes[GLM4V_MAX_BOXES];
    uint32_t n = glm4v_find_boxes(boxes, text, len, spans, 3);
    FUZZ_CHECK(n <= GLM4V_MAX_BOXES);
    for (uint32_t i = 0; i < n; i++) {
        glm4v_box b = { 0 };
        const char *label = boxes[i].label;
        FUZZ_CHECK(memchr(label, 0, sizeof boxes[i].label));
        FUZZ_CHECK(glm4v_utf8_valid(label, strlen(label), NULL));
        if (glm4v_box_in_pixels(&b, boxes[i].corner, width, height))
            FUZZ_CHECK(b.x >= 0 && b.y >= 0 && b.width > 0 && b.height > 0 &&
                       b.width <= width - b.x && b.height <= height - b.y);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glm4v_span spans[3];
    size_t bad;
    if (size < HEAD)
        return 0;
    int32_t width = 1 + (data[0] << 8 | data[1]), height = 1 + (data[2] << 8 | data[3]);
    for (int i = 0; i < 3; i++)
        spans[i] = (glm4v_span) { data[4 + 2 * i], data[5 + 2 * i] };
    size_t len = size - HEAD;
    char *text = malloc(len + !len);
    memcpy(text, data + HEAD, len);
    for (size_t at = 0; !glm4v_utf8_valid(text + at, len - at, &bad); at += bad)
        text[at + bad] = '?';
    check_boxes(text, len, spans, width, height);
    check_action(text, len, width, height);
    free(text);
    return 0;
}
