/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tokenizer's files to its tables: which file there is, the control tokens of
 * tokenizer_config.json, and tokenizer.model, tiktoken's text format (one "base64 rank" a line).
 * tokenizer.json has a file of its own. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tokenizer/load.h"

static const char CONFIG[] = "tokenizer_config.json";

/* A decimal number in s [0, len), at most GLM4V_MAX_VOCAB; -1 if it is none. */
static int64_t number(const char *s, size_t len)
{
    int64_t value = 0;
    if (len < 1 || len > 7)
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        value = value * 10 + (s[i] - '0');
    }
    return value;
}

static int bad_control(glm4v_error *err, const char *key)
{
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "%s: \"added_tokens_decoder\": \"%.40s\" is not an id with its \"content\"",
                      CONFIG, key);
}

/* added_tokens_decoder, or NULL where there is none. */
static int controls_of(const json_t **controls, const json_t *config, glm4v_error *err)
{
    *controls = NULL;
    return config ? glm4v_json_object(config, CONFIG, "added_tokens_decoder", controls, err) : 0;
}

int glm4v_load_control_size(const json_t *config, int64_t *size, size_t *n, glm4v_error *err)
{
    const json_t *controls, *value;
    const char *key;
    int rc = controls_of(&controls, config, err);
    if (rc || !controls)
        return rc;
    json_object_foreach((json_t *)controls, key, value)
    {
        int64_t id = number(key, strlen(key));
        if (id < 0 || !json_is_object(value))
            return bad_control(err, key);
        if (id >= *size)
            *size = id + 1;
    }
    *n += json_object_size(controls);
    return 0;
}

int glm4v_load_control(glm4v_tokenizer *t, int64_t id, const char *name, size_t len,
                       const char *file, glm4v_error *err)
{
    const glm4v_token *token = &t->tokens[id];
    if (token->kind == GLM4V_TOKEN_CONTROL && token->len == len &&
        memcmp(t->bytes + token->start, name, len) == 0)
        return 0; /* told by both files */
    return glm4v_vocab_add(t, (int32_t)id, (const unsigned char *)name, len, GLM4V_TOKEN_CONTROL,
                           file, err);
}

int glm4v_load_controls(glm4v_tokenizer *t, const json_t *config, glm4v_error *err)
{
    const json_t *controls, *value;
    const char *key;
    int rc = controls_of(&controls, config, err);
    if (rc || !controls)
        return rc;
    json_object_foreach((json_t *)controls, key, value)
    {
        const char *name = NULL;
        rc = glm4v_json_string(value, CONFIG, "content", &name, err);
        if (!rc && !name)
            rc = bad_control(err, key);
        if (!rc)
            rc = glm4v_load_control(t, number(key, strlen(key)), name, strlen(name), CONFIG, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- tokenizer.model ---- */

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
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
            group = group << 6 | (uint32_t)digit;
        }
        for (int k = 16; k >= 0; k -= 8)
            out[n++] = (unsigned char)(group >> k);
    }
    return (int64_t)(n - padding);
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
        *line = (rank_line) { s, word, space ? number(space + 1, n - word - 1) : -1 };
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
        rc = glm4v_vocab_add(t, (int32_t)line.rank, bytes, (size_t)n, GLM4V_TOKEN_TEXT, file, err);
    }
    /* in this family control tokens follow the ranks and one another: a gap means that a file was
     * cut at a line's end, or that an id was damaged */
    for (int64_t id = text_size; !rc && n_controls && id < size; id++)
        if (t->tokens[id].kind == GLM4V_TOKEN_NONE)
            return glm4v_fail(
                err, GLM4V_ERR_FORMAT,
                "%s: the ranks end at %lld, but no control token of %s has the id %lld: truncated?",
                file, (long long)text_size - 1, CONFIG, (long long)id);
    t->whole_piece = true;
    return rc ? rc : glm4v_vocab_finish(t, file, err);
}

/* ---- which file ---- */

int glm4v_tokenizer_parse(glm4v_tokenizer **tokenizer, bool is_json, const char *text, size_t len,
                          const char *config, size_t config_len, glm4v_error *err)
{
    json_t *root = NULL;
    glm4v_tokenizer *t = glm4v_alloc(1, sizeof *t);
    int rc = t ? 0 : glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the tokenizer");
    if (!rc && config)
        rc = glm4v_json_parse(&root, config, config_len, CONFIG, &GLM4V_JSON_CONFIG, err);
    if (!rc && root && !json_is_object(root))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: the file is not an object", CONFIG);
    if (!rc)
        rc = is_json ? glm4v_load_json(t, text, len, root, err)
                     : load_ranks(t, text, len, root, err);
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
        return glm4v_fail(
            err, rc,
            "%s: neither tokenizer.json nor tokenizer.model is there; is the download "
            "complete?",
            dir);
    if (!rc) {
        rc = glm4v_read_file(&config, &config_len, dir, CONFIG, GLM4V_JSON_CONFIG.bytes, err);
        if (rc == GLM4V_ERR_NOT_FOUND && is_json)
            rc = 0; /* tokenizer.json has its control tokens itself */
    }
    if (!rc)
        rc = glm4v_tokenizer_parse(tokenizer, is_json, text, len, config, config_len, err);
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
        rc = glm4v_tokenizer_parse(tokenizer, is_json, text, len, NULL, 0, err);
    glm4v_free(text);
    glm4v_free(dir);
    return rc;
}
