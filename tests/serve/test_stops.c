/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts that end an answer, found in any pieces, and the white space around an answer. */
#include "serve/stops.h"

#include "base/mem.h"
#include "test.h"

static const char *const stops[] = { "END", "\n\n", "ENDING" };

/* What is shown of a text that comes in pieces of n bytes. */
static void show(char *shown, const char *text, size_t n, bool *stopped)
{
    serve_stops s = { .stops = stops, .n_stops = 3 };
    glm4v_text_out out = { 0 };
    char piece[64];
    for (size_t at = 0, length = strlen(text); at < length; at += n) {
        snprintf(piece, sizeof piece, "%.*s", (int)n, text + at);
        serve_stops_push(&s, piece, &out);
    }
    serve_stops_finish(&s, &out);
    *stopped = s.stopped;
    strcpy(shown, out.data ? out.data : "");
    glm4v_free(out.data);
    serve_stops_close(&s);
}

static void any_pieces_give_the_same(void)
{
    static const struct {
        const char *text, *shown;
        bool stopped;
    } rows[] = {
        { "plain text", "plain text", false },
        { "before END after", "before", true },
        { "ENDING", "", true },
        { "EEND", "E", true },
        { "  both ends \n", "both ends", false },
        { "a\nb \n\n c", "a\nb", true },
        { "almost EN", "almost EN", false },
        { " \t ", "", false },
        { "one \n END", "one", true },
        { "E EN END", "E EN", true },
    };
    char shown[64];
    bool stopped;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t n = 1; n <= 20; n++) {
            show(shown, rows[i].text, n, &stopped);
            CHECK_STR(shown, rows[i].shown);
            CHECK_EQ(stopped, rows[i].stopped);
        }
}

static void without_stop_texts_words_are_shown_at_once(void)
{
    serve_stops s = { 0 };
    glm4v_text_out out = { 0 };
    serve_stops_push(&s, "one", &out);
    CHECK_STR(out.data, "one");
    serve_stops_push(&s, " two ", &out);
    CHECK_STR(out.data, "one two");
    serve_stops_push(&s, "three", &out);
    CHECK_STR(out.data, "one two three");
    glm4v_free(out.data);
    serve_stops_close(&s);
}

int main(void)
{
    TEST(any_pieces_give_the_same);
    TEST(without_stop_texts_words_are_shown_at_once);
    return test_end();
}
