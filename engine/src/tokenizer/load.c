/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tokenizer's files to its tables: which file there is, and tokenizer.model,
 * tiktoken's text format (one "base64 rank" a line). json.c reads tokenizer.json, controls.c the
 * control tokens of tokenizer_config.json. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tokenizer/load.h"

/* ---- tokenizer.model ---- */

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/* Decode base64 in s [0, len) to out; -1 if it is malformed. Room for 3 * len / 4 bytes. */
static int64_t decode64(unsigned char *out, const char *s, size_t len)
{
    size_t n = 0, padding = 0;
    if (len == 0 || len % 4)
        return -1;
    while (padding < 2 && s[len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t group = 0;
        for (size_t k = 0; k < 4; k++) {
            int digit = i + k < len - padding ? digit64(s[i + k]) : 0;
            if (digit < 0)
                return -1;
            group = group << 6 | digit;
        }
        for (int k = 16; k >= 0; k -= 8)
            out[n++] = (unsigned char)(group >> k);
    }
    return n - padding;
}

/* One line of tokenizer.model. */
typedef struct {
    const char *base64;
    size_t len;
    int64_t rank;
} rank_line;

/* Take the next line from text [*at, len). False at the end; rank is -1 where the line is
 * malformed. */
static bool next_line(rank_line *line, const char *text, size_t len, size_t *at, size_t *number_)
{
    while (*at < len) {
        const char *s = text + *at, *newline = memchr(s, '\n', len - *at);
        size_t n = newline ? (size_t)(newline - s) : len - *at;
        *at += n + (newline ? 1 : 0);
        ++*number_;
        if (n && s[n - 1] == '\r')
            n--;
        if (n == 0)
            continue;
        const char *space = memchr(s, ' ', n);
        size_t word = space ? (size_t)(space - s) : n;
        *line = (rank_line) { s, word, space ? glm4v_load_id(space + 1, n - word - 1) : -1 };
        return true;
    }
    return false;
}

static int load_ranks(glm4v_tokenizer *t, const char *text, size_t len, const json_t *config,
                      glm4v_error *err)
{
    static const char file[] = "tokenizer.model";
    unsigned char bytes[GLM4V_MAX_TOKEN_BYTES + 3];
    rank_line line;
    size_t at = 0, row = 0, n_ranks = 0, n_controls = 0;
    int64_t size = 0, text_size;
    int stand_in = glm4v_file_check_head(file, text, len, false, err);
    if (stand_in)
        return stand_in;
    while (next_line(&line, text, len, &at, &row)) {
        if (line.rank < 0)
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: line %zu is not \"base64 rank\"", file,
                              row);
        if (line.rank >= size)
            size = line.rank + 1;
        n_ranks++;
    }
    text_size = size;
    int rc = glm4v_load_control_size(config, &size, &n_controls, err);
    if (!rc)
        rc = glm4v_vocab_init(t, size, n_ranks, n_controls, file, err);
    if (!rc)
        rc = glm4v_load_controls(t, config, err);
    for (at = 0, row = 0; !rc && next_line(&line, text, len, &at, &row);) {
        int64_t n = line.len > 4 * (GLM4V_MAX_TOKEN_BYTES / 3 + 1)
                        ? -1
                        : decode64(bytes, line.base64, line.len);
        if (n < 0)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: line %zu: the token is not base64, or too long", file, row);
        rc = glm4v_vocab_add(
            t, &(glm4v_new_token) { (int32_t)line.rank, GLM4V_TOKEN_TEXT, bytes, n }, file, err);
    }
    /* in this family control tokens follow the ranks and one another: a gap means that a file was
     * cut at a line's end, or that an id was damaged */
    for (int64_t id = text_size; !rc && n_controls && id < size; id++)
        if (t->tokens[id].kind == GLM4V_TOKEN_NONE)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: the ranks end at %" PRId64
                              ", but no control token of %s has the id "
                              "%" PRId64 "; the file may be truncated",
                              file, text_size - 1, GLM4V_TOKENIZER_CONFIG, id);
    t->whole_piece = true;
    return rc ? rc : glm4v_vocab_finish(t, file, err);
}

/* ---- which file ---- */

int glm4v_tokenizer_parse(glm4v_tokenizer **tokenizer, const glm4v_tokenizer_files *files,
                          glm4v_error *err)
{
    json_t *root = NULL;
    glm4v_tokenizer *t = glm4v_alloc(1, sizeof *t);
    int rc = t ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the tokenizer");
    if (!rc && files->config)
        rc = glm4v_json_parse(&root, files->config, files->config_len, GLM4V_TOKENIZER_CONFIG,
                              &GLM4V_JSON_CONFIG, err);
    if (!rc && root && !json_is_object(root))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: the file is not an object",
                        GLM4V_TOKENIZER_CONFIG);
    if (!rc)
        rc = files->is_json ? glm4v_load_json(t, files->text, files->len, root, err)
                            : load_ranks(t, files->text, files->len, root, err);
    json_decref(root);
    if (rc)
        glm4v_tokenizer_close(&t);
    else
        *tokenizer = t;
    return rc;
}

int glm4v_tokenizer_open(glm4v_tokenizer **tokenizer, const char *dir, glm4v_error *err)
{
    char *text = NULL, *config = NULL;
    size_t len = 0, config_len = 0, limit = GLM4V_JSON_TOKENIZER.bytes;
    bool is_json = true;
    int rc = glm4v_read_file(&text, &len, dir, "tokenizer.json", limit, err);
    if (rc == GLM4V_ERR_NOT_FOUND) {
        is_json = false;
        rc = glm4v_read_file(&text, &len, dir, "tokenizer.model", limit, err);
    }
    if (rc == GLM4V_ERR_NOT_FOUND)
        return glm4v_fail(err, rc,
                          "%s: neither tokenizer.json nor tokenizer.model is there; the download "
                          "may be incomplete",
                          dir);
    if (!rc) {
        rc = glm4v_read_file(&config, &config_len, dir, GLM4V_TOKENIZER_CONFIG,
                             GLM4V_JSON_CONFIG.bytes, err);
        if (rc == GLM4V_ERR_NOT_FOUND && is_json)
            rc = 0; /* tokenizer.json has its control tokens itself */
    }
    if (!rc)
        rc = glm4v_tokenizer_parse(
            tokenizer, &(glm4v_tokenizer_files) { is_json, text, len, config, config_len }, err);
    glm4v_free(config);
    glm4v_free(text);
    return rc;
}

int glm4v_tokenizer_open_file(glm4v_tokenizer **tokenizer, const char *path, glm4v_error *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strlen(name), len = 0;
    char *text = NULL, *dir = glm4v_strdup(slash ? path : ".");
    if (!dir)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to open %s", path);
    if (slash)
        dir[slash - path + (slash == path)] = 0;
    bool is_json = n >= 5 && strcmp(name + n - 5, ".json") == 0;
    int rc = glm4v_read_file(&text, &len, dir, name, GLM4V_JSON_TOKENIZER.bytes, err);
    if (!rc)
        rc = glm4v_tokenizer_parse(tokenizer, &(glm4v_tokenizer_files) { is_json, text, len }, err);
    glm4v_free(text);
    glm4v_free(dir);
    return rc;
}
