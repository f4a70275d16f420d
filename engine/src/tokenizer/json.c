/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tokenizer.json, the layout of the Hugging Face tokenizers library, to the tokenizer's tables.
 * Byte-level BPE with the family's own split pattern only: any other setting of the file is refused
 * with its name, since ignoring it would silently give wrong ids. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "tokenizer/load.h"

static const char FILE_NAME[] = "tokenizer.json";

/* Spellings of the one pattern that tokenizer/split.c writes out. The second is what OpenAI's
 * library made of the first: possessive, and with one newline where the greedy \s* before it has
 * taken the others. */
static const char *const split_patterns[] = {
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"
    "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
};

static int unsupported(glm4v_error *err, const char *key, const char *found, const char *expected)
{
    return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED, "%s: \"%s\" is %.200s, expected %s", FILE_NAME,
                      key, found ? found : "missing", expected);
}

/* ---- options that change ids ---- */

static int check_type(const json_t *object, const char *key, const char *expected, glm4v_error *err)
{
    const char *type = NULL;
    int rc = object ? glm4v_json_string(object, FILE_NAME, "type", &type, err) : 0;
    if (rc)
        return rc;
    return type && strcmp(type, expected) == 0 ? 0 : unsupported(err, key, type, expected);
}

static const char *bool_name(bool value)
{
    return value ? "true" : "false";
}

static int check_bool(const json_t *object, const char *key, bool value, bool expected,
                      glm4v_error *err)
{
    int rc = glm4v_json_bool(object, FILE_NAME, key, &value, err);
    if (rc || value == expected)
        return rc;
    return unsupported(err, key, bool_name(value), bool_name(expected));
}

static int check_empty(const json_t *object, const char *key, glm4v_error *err)
{
    const char *value = "";
    int rc = glm4v_json_string(object, FILE_NAME, key, &value, err);
    if (rc)
        return rc;
    return *value == 0 ? 0 : unsupported(err, key, value, "null");
}

static int check_normalizer(const json_t *root, glm4v_error *err)
{
    const json_t *normalizer = NULL, *list = NULL;
    const char *type = NULL;
    int rc = glm4v_json_object(root, FILE_NAME, "normalizer", &normalizer, err);
    if (rc || !normalizer)
        return rc;
    rc = glm4v_json_string(normalizer, FILE_NAME, "type", &type, err);
    if (!rc && type && strcmp(type, "Sequence") == 0)
        rc = glm4v_json_array(normalizer, FILE_NAME, "normalizers", &list, err);
    if (rc)
        return rc;
    return list && json_array_size(list) == 0 ? 0 : unsupported(err, "normalizer", type, "null");
}

static int check_pattern(const json_t *split, glm4v_error *err)
{
    const json_t *pattern = NULL;
    const char *regex = NULL;
    int rc = glm4v_json_object(split, FILE_NAME, "pattern", &pattern, err);
    if (!rc && pattern)
        rc = glm4v_json_string(pattern, FILE_NAME, "Regex", &regex, err);
    if (rc)
        return rc;
    for (size_t i = 0; regex && i < sizeof split_patterns / sizeof *split_patterns; i++)
        if (strcmp(regex, split_patterns[i]) == 0)
            return 0;
    return unsupported(err, "pre_tokenizer.pattern", regex,
                       "the split pattern of the GLM-4 family");
}

/* What does not match is cut out ("Isolated"), or what matches is kept ("Removed", inverted): since
 * the pattern matches everything, both mean the same. */
static int check_split(const json_t *split, glm4v_error *err)
{
    const char *behavior = "Isolated";
    int rc = check_type(split, "pre_tokenizer", "Split", err);
    if (!rc)
        rc = check_pattern(split, err);
    if (!rc)
        rc = glm4v_json_string(split, FILE_NAME, "behavior", &behavior, err);
    if (rc)
        return rc;
    bool removed = strcmp(behavior, "Removed") == 0;
    if (!removed && strcmp(behavior, "Isolated") != 0)
        return unsupported(err, "pre_tokenizer.behavior", behavior, "Isolated");
    return check_bool(split, "invert", removed, removed, err);
}

static int check_pre_tokenizer(const json_t *root, glm4v_error *err)
{
    const json_t *pre = NULL, *list = NULL;
    int rc = glm4v_json_object(root, FILE_NAME, "pre_tokenizer", &pre, err);
    if (!rc)
        rc = check_type(pre, "pre_tokenizer", "Sequence", err);
    if (!rc)
        rc = glm4v_json_array(pre, FILE_NAME, "pretokenizers", &list, err);
    if (rc)
        return rc;
    if (json_array_size(list) != 2)
        return unsupported(err, "pre_tokenizer.pretokenizers", "another list",
                           "a Split and a ByteLevel");
    const json_t *bytes = json_array_get(list, 1);
    rc = check_split(json_array_get(list, 0), err);
    if (!rc)
        rc = check_type(bytes, "pre_tokenizer", "ByteLevel", err);
    if (!rc)
        rc = check_bool(bytes, "add_prefix_space", true, false, err);
    return rc ? rc : check_bool(bytes, "use_regex", true, false, err);
}

static int check_decoder(const json_t *root, glm4v_error *err)
{
    const json_t *decoder = NULL;
    int rc = glm4v_json_object(root, FILE_NAME, "decoder", &decoder, err);
    return rc || !decoder ? rc : check_type(decoder, "decoder", "ByteLevel", err);
}

static int check_model(const json_t *model, bool *whole_piece, glm4v_error *err)
{
    double dropout = 0;
    int rc = check_type(model, "model", "BPE", err);
    if (!rc)
        rc = glm4v_json_double(model, FILE_NAME, "dropout", (glm4v_interval) { 0, 1 }, &dropout,
                               err);
    if (!rc && dropout != 0)
        rc = unsupported(err, "dropout", "above 0", "null");
    if (!rc)
        rc = check_empty(model, "continuing_subword_prefix", err);
    if (!rc)
        rc = check_empty(model, "end_of_word_suffix", err);
    if (!rc)
        rc = check_bool(model, "byte_fallback", false, false, err);
    return rc ? rc : glm4v_json_bool(model, FILE_NAME, "ignore_merges", whole_piece, err);
}

/* ---- the byte-level alphabet ---- */

/* Each byte is written as one character: itself where it is printable Latin-1, else U+0100 and so
 * on in order. */
static bool printable(int byte)
{
    return (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
}

/* The byte that a character represents, -1 if none. */
static int byte_of(uint32_t code)
{
    if (code < 0x100)
        return printable((int)code) ? (int)code : -1;
    uint32_t n = code - 0x100;
    if (n <= 0x20)
        return (int)n;
    if (n <= 0x20 + 0xA0 - 0x7F + 1)
        return (int)(n - 0x21 + 0x7F);
    return n == 0x20 + 0xA0 - 0x7F + 2 ? 0xAD : -1;
}

/* Decode a token to bytes, out [GLM4V_MAX_TOKEN_BYTES]. Its length, or -1: empty, too long, another
 * character. */
static int decode_token(unsigned char *out, const char *s, size_t len)
{
    int n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t code = 0;
        int k = glm4v_utf8_next((const unsigned char *)s + i, len - i, &code);
        int byte = k > 0 ? byte_of(code) : -1;
        if (byte < 0 || n == GLM4V_MAX_TOKEN_BYTES)
            return -1;
        out[n++] = (unsigned char)byte;
        i += k;
    }
    return n ? n : -1;
}

/* ---- tokens and merges ---- */

static int max_id(const json_t *vocab, const json_t *added, int64_t *size, glm4v_error *err)
{
    const char *key;
    const json_t *value;
    size_t i;
    json_object_foreach((json_t *)vocab, key, value)
    {
        int64_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= GLM4V_MAX_VOCAB)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: \"vocab\": \"%.40s\" has no id in 0 to %d", FILE_NAME, key,
                              GLM4V_MAX_VOCAB - 1);
        if (id >= *size)
            *size = id + 1;
    }
    json_array_foreach((json_t *)added, i, value)
    {
        int64_t id = -1;
        int rc = glm4v_json_int(value, FILE_NAME, "id", (glm4v_range) { 0, GLM4V_MAX_VOCAB - 1 },
                                &id, err);
        if (rc)
            return rc;
        if (id < 0)
            return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"added_tokens\"[%zu] has no \"id\"",
                              FILE_NAME, i);
        if (id >= *size)
            *size = id + 1;
    }
    return 0;
}

static int read_added(glm4v_tokenizer *t, const json_t *added, glm4v_error *err)
{
    const json_t *value;
    size_t i;
    json_array_foreach((json_t *)added, i, value)
    {
        int64_t id = 0;
        const char *name = NULL;
        int rc = glm4v_json_int(value, FILE_NAME, "id", (glm4v_range) { 0, GLM4V_MAX_VOCAB - 1 },
                                &id, err);
        if (!rc)
            rc = glm4v_json_string(value, FILE_NAME, "content", &name, err);
        if (!rc && !name)
            rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"added_tokens\"[%zu] has no \"content\"",
                            FILE_NAME, i);
        if (!rc)
            rc = glm4v_load_control(t, id, value, FILE_NAME, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* One entry of "vocab". Control tokens may be listed there too, under their names as they are. */
static int read_token(glm4v_tokenizer *t, const char *key, int32_t id, glm4v_error *err)
{
    unsigned char bytes[GLM4V_MAX_TOKEN_BYTES];
    size_t len = strlen(key);
    int32_t control = glm4v_tokenizer_control(t, key);
    if (control == id)
        return 0;
    if (control >= 0)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"%.40s\" has the ids %d and %d", FILE_NAME,
                          key, control, id);
    int n = decode_token(bytes, key, len);
    if (n < 0)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"vocab\": token %d is empty, longer than %d bytes or not in the "
                          "byte-level alphabet",
                          FILE_NAME, id, GLM4V_MAX_TOKEN_BYTES);
    return glm4v_vocab_add(t, &(glm4v_new_token) { id, GLM4V_TOKEN_TEXT, bytes, n }, FILE_NAME,
                           err);
}

static int read_vocab(glm4v_tokenizer *t, const json_t *vocab, glm4v_error *err)
{
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)vocab, key, value)
    {
        int rc = read_token(t, key, (int32_t)json_integer_value(value), err);
        if (rc)
            return rc;
    }
    return 0;
}

/* The halves of a merge: "a b", or ["a", "b"]. False if it is neither. */
static bool halves(const json_t *merge, const char *half[2], size_t len[2])
{
    if (json_is_string(merge)) {
        half[0] = json_string_value(merge);
        size_t whole = json_string_length(merge);
        const char *space = memchr(half[0], ' ', whole);
        if (!space)
            return false;
        half[1] = space + 1;
        len[0] = space - half[0];
        len[1] = whole - len[0] - 1;
        return true;
    }
    if (!json_is_array(merge) || json_array_size(merge) != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        const json_t *part = json_array_get(merge, i);
        if (!json_is_string(part))
            return false;
        half[i] = json_string_value(part);
        len[i] = json_string_length(part);
    }
    return true;
}

/* Id of a token of either kind, -1 if there is none. */
static int32_t any_token(const glm4v_tokenizer *t, const unsigned char *s, int len)
{
    uint64_t hash = glm4v_hash_bytes(t, s, len);
    int32_t id = glm4v_vocab_find(t, &t->text, hash, s, len);
    return id >= 0 ? id : glm4v_vocab_find(t, &t->control, hash, s, len);
}

static int read_merge(glm4v_tokenizer *t, const json_t *merge, size_t rank, glm4v_error *err)
{
    unsigned char bytes[2 * GLM4V_MAX_TOKEN_BYTES];
    const char *half[2];
    size_t len[2];
    if (!halves(merge, half, len))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"merges\"[%zu] is not a pair of tokens",
                          FILE_NAME, rank);
    int a = decode_token(bytes, half[0], len[0]);
    int b = a < 0 ? -1 : decode_token(bytes + a, half[1], len[1]);
    int32_t left = b < 0 ? -1 : any_token(t, bytes, a);
    int32_t right = left < 0 ? -1 : any_token(t, bytes + a, b);
    int32_t merged = right < 0 || a + b > GLM4V_MAX_TOKEN_BYTES ? -1 : any_token(t, bytes, a + b);
    if (merged < 0)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%s: \"merges\"[%zu]: \"%.40s\", its other half or the merged token is "
                          "not in \"vocab\"",
                          FILE_NAME, rank, half[0]);
    if (glm4v_tokenizer_is_control(t, left) || glm4v_tokenizer_is_control(t, right) ||
        glm4v_tokenizer_is_control(t, merged))
        /* an ordinary token that was made a control token later: text must not lead to it */
        return 0;
    if (!glm4v_pairs_add(t, left, right, (uint32_t)rank, merged))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"merges\"[%zu] is a duplicate", FILE_NAME,
                          rank);
    return 0;
}

static int read_merges(glm4v_tokenizer *t, const json_t *merges, glm4v_error *err)
{
    const json_t *merge;
    size_t i;
    int rc = glm4v_pairs_init(t, json_array_size(merges), err);
    if (rc)
        return rc;
    json_array_foreach((json_t *)merges, i, merge)
    {
        rc = read_merge(t, merge, i, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_tree(glm4v_tokenizer *t, const json_t *root, const json_t *config, glm4v_error *err)
{
    const json_t *model = NULL, *vocab = NULL, *merges = NULL, *added = NULL;
    int64_t size = 0;
    if (!json_is_object(root))
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: the file is not an object", FILE_NAME);
    int rc = glm4v_json_object(root, FILE_NAME, "model", &model, err);
    if (!rc)
        rc = check_model(model, &t->whole_piece, err);
    if (!rc)
        rc = check_normalizer(root, err);
    if (!rc)
        rc = check_pre_tokenizer(root, err);
    if (!rc)
        rc = check_decoder(root, err);
    if (!rc)
        rc = glm4v_json_object(model, FILE_NAME, "vocab", &vocab, err);
    if (!rc)
        rc = glm4v_json_array(model, FILE_NAME, "merges", &merges, err);
    if (!rc)
        rc = glm4v_json_array(root, FILE_NAME, "added_tokens", &added, err);
    if (rc)
        return rc;
    if (!vocab || !merges)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: \"model\" has no \"%s\"", FILE_NAME,
                          vocab ? "merges" : "vocab");
    size_t n_control = json_array_size(added);
    rc = max_id(vocab, added, &size, err);
    if (!rc)
        rc = glm4v_load_control_size(config, &size, &n_control, err);
    if (!rc)
        rc = glm4v_vocab_init(t, size, json_object_size(vocab), n_control, FILE_NAME, err);
    if (!rc)
        rc = read_added(t, added, err);
    if (!rc)
        rc = glm4v_load_controls(t, config, err);
    if (!rc)
        rc = read_vocab(t, vocab, err);
    if (!rc)
        rc = read_merges(t, merges, err);
    return rc ? rc : glm4v_vocab_finish(t, FILE_NAME, err);
}

int glm4v_load_json(glm4v_tokenizer *t, const char *text, size_t len, const json_t *config,
                    glm4v_error *err)
{
    json_t *root = NULL;
    int rc = glm4v_json_parse(&root, text, len, FILE_NAME, &GLM4V_JSON_TOKENIZER, err);
    if (!rc)
        rc = read_tree(t, root, config, err);
    json_decref(root);
    return rc;
}
