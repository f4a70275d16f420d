/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tokenizer-check MODEL_OR_FILE LINES.jsonl: encode every text and compare the ids with those
 * expected. Exit 0 only if there is a line and all are equal; 1 if any differs; 2 if something
 * cannot be read. */
#include <sys/stat.h>

#include "token_lines.h"

int main(int argc, char **argv)
{
    glm4v_error err = { 0 };
    glm4v_tokenizer *tokenizer = NULL;
    struct stat st;
    long n_lines;
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL_DIR|tokenizer.json|tokenizer.model LINES.jsonl\n",
                argv[0]);
        return 2;
    }
    bool dir = stat(argv[1], &st) == 0 && S_ISDIR(st.st_mode);
    if (dir ? glm4v_tokenizer_open(&tokenizer, argv[1], &err)
            : glm4v_tokenizer_open_file(&tokenizer, argv[1], &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    long wrong = token_lines_check(tokenizer, argv[2], &n_lines);
    glm4v_tokenizer_close(&tokenizer);
    if (wrong < 0) {
        perror(argv[2]);
        return 2;
    }
    printf("%ld of %ld lines equal\n", n_lines - wrong, n_lines);
    return wrong || n_lines == 0;
}
