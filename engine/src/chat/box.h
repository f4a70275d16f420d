/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boxes in an answer, on the models' scale of 0 to 1000 of width and height, and what they are in
 * pixels. Follows detokenize.c, which has the positions of box markers. */
#ifndef GLM4V_ENGINE_BOX_H
#define GLM4V_ENGINE_BOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

#define GLM4V_LABEL_BYTES 64

/* Bytes [start, end) of an answer that stood between box markers. */
typedef struct {
    size_t start, end;
} glm4v_span;

/* As written: two opposite corners x y x y, in either order, perhaps outside of the picture. */
typedef struct {
    double corner[4];
    char label[GLM4V_LABEL_BYTES]; /* UTF-8; "" if the answer gives none */
} glm4v_found_box;

/* Find the boxes of text [0, len), which is valid UTF-8: [ ], ( ) or < > around four numbers,
 * inside a span or behind a key such as "bbox_2d". The label is the value of "label", "type", ...
 * in the same object. Returns how many; those beyond GLM4V_MAX_BOXES are left out. Reads each byte
 * a bounded number of times. */
uint32_t glm4v_find_boxes(glm4v_found_box boxes[GLM4V_MAX_BOXES], const char *text, size_t len,
                          const glm4v_span *spans, size_t n_spans);

/* The pixels of a width x height picture that a box touches; sets all of *box but its label.
 * Corners are in thousandths or, if none is above 1, in parts of the sides. False if it lies
 * outside. */
bool glm4v_box_in_pixels(glm4v_box *box, const double corner[4], int32_t width, int32_t height);

/* A point in parts of the sides, 0 to 1 and not both whole, to thousandths; others stay. */
void glm4v_point_scale(double point[2]);

/* The pixel at value of 0 to 1000 along a side of `size` pixels, inside the picture. */
int32_t glm4v_point_in_pixels(double value, int32_t size);

/* Read "[a, b, ...]" at s, brackets of any kind, at most `most` numbers. Returns the number of
 * bytes, 0 if it is none or holds anything else; *n is how many numbers there are. */
size_t glm4v_read_numbers(double *numbers, int most, int *n, const char *s, size_t len);

#endif
