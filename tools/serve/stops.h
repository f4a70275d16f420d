/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text on its way to a client: texts that end the answer are looked for, also where they come in
 * pieces, and white space at both ends is left out, so that the pieces of a stream together are the
 * answer as a whole. */
#ifndef GLM4V_SERVE_STOPS_H
#define GLM4V_SERVE_STOPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/string_buffer.h"

/* All zero but stops: nothing came yet. */
typedef struct {
    const char *const *stops; /* [n_stops] */
    uint32_t n_stops;
    glm4v_text_out held; /* what may be the beginning of a stop text, or white space at the end */
    bool begun;          /* something was shown */
    bool stopped;        /* a stop text came; what follows it does not count */
} serve_stops;

/* One more piece: what can be shown now is appended to shown. */
void serve_stops_push(serve_stops *s, const char *piece, glm4v_text_out *shown);

/* There is no more: the rest. */
void serve_stops_finish(serve_stops *s, glm4v_text_out *shown);

void serve_stops_close(serve_stops *s);

#endif
