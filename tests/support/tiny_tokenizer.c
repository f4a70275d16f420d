/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tiny model's tokenizer: 256 bytes, a few merges, the families' control tokens. */
#include <stdio.h>
#include <string.h>

#include "tiny_model_priv.h"

static const char *const merges[TINY_BASE - 256] = {
    " t",     "he",      "in",       "er",       "an",           "re",   "on",   " a",
    "is",     " s",      "or",       "en",       "at",           " d",   "it",   " o",
    " c",     " w",      "es",       "ed",       "le",           "ar",   " p",   " b",
    " m",     " f",      "al",       "ro",       "st",           "im",   "De",   "li",
    "gh",     "to",      "ur",       "ac",       "el",           " r",   " h",   "nd",
    " n",     "ow",      " g",       "ve",       " the",         "ing",  " of",  " an",
    " in",    " is",     "ima",      "imag",     "image",        "Des",  "Desc", "Descr",
    "Descri", "Describ", "Describe", "\xe4\xb8", "\xe4\xb8\x80", "\n\n", "  ",   " and",
};

/* Where the token is cut into the two parts that merge into it. */
static int cut_of(const char *token)
{
    static const struct {
        const char *token;
        int cut;
    } table[] = { { " the", 2 }, { "ing", 2 }, { " of", 2 }, { " and", 3 },
                  { " in", 1 },  { " is", 1 }, { " an", 2 } };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(token, table[i].token))
            return table[i].cut;
    return (int)strlen(token) - 1;
}

static const char *const control_both[] = {
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
};
static const char *const control_41v[] = {
    "<|image|>", "<|video|>",        "<think>",        "</think>", "<answer>",
    "</answer>", "<|begin_of_box|>", "<|end_of_box|>", "<|sep|>",
};
static const char *const control_45[] = {
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
    "<|begin_of_transcription|>",
    "<|end_of_transcription|>",
    "<|code_prefix|>",
    "<|code_middle|>",
    "<|code_suffix|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "/nothink",
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<|image|>",
    "<|video|>",
};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static int n_control(const tiny_model_options *o)
{
    const int own = o->chatglm4v ? 0 : o->glm45 ? COUNT(control_45) : COUNT(control_41v);
    return COUNT(control_both) + own;
}

static const char *control(const tiny_model_options *o, int i)
{
    if (i < COUNT(control_both))
        return control_both[i];
    i -= COUNT(control_both);
    return o->glm45 ? control_45[i] : control_41v[i];
}

/* special: true for what skip_special_tokens would drop. */
static bool is_special(const tiny_model_options *o, int i)
{
    const char *s = control(o, i);
    return i < COUNT(control_both) || !strcmp(s, "<|image|>") || !strcmp(s, "<|video|>") ||
           !strcmp(s, "/nothink");
}

static bool is_printable(int byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
           (byte >= 174 && byte <= 255);
}

/* Byte-level alphabet: printable bytes stand for themselves, the rest for U+0100 onwards. */
static uint32_t letter_of(int byte)
{
    uint32_t next = 256;
    if (is_printable(byte))
        return (uint32_t)byte;
    for (int b = 0; b < byte; b++)
        next += !is_printable(b);
    return next;
}

/* Bytes in the order of their ids 0..255. */
static int byte_of(int id)
{
    for (int pass = 0, n = 0; pass < 2; pass++)
        for (int b = 0; b < 256; b++)
            if (is_printable(b) == !pass && n++ == id)
                return b;
    return -1;
}

static void put_letters(FILE *f, const char *bytes, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t c = letter_of((unsigned char)bytes[i]);
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", (int)c);
        else if (c < 0x80)
            fputc((int)c, f);
        else
            fprintf(f, "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 63)));
    }
}

static void put_added(FILE *f, const tiny_model_options *o, bool as_list)
{
    for (int i = 0; i < n_control(o); i++) {
        fprintf(f, "%s\n    ", i ? "," : "");
        if (as_list)
            fprintf(f, "{\"id\": %d, ", TINY_BASE + i);
        else
            fprintf(f, "\"%d\": {", TINY_BASE + i);
        fprintf(
            f,
            "\"content\": \"%s\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
            "\"normalized\": false, \"special\": %s}",
            control(o, i), is_special(o, i) ? "true" : "false");
    }
}

static int write_json(const char *dir, const tiny_model_options *o)
{
    FILE *f = tiny_create(dir, "tokenizer.json");
    if (!f)
        return -1;
    fprintf(f, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  "
               "\"added_tokens\": [");
    put_added(f, o, true);
    fprintf(
        f,
        "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\"type\": \"Sequence\", "
        "\"pretokenizers\": [\n"
        "    {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
        "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"
        "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": "
        "false},\n"
        "    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
        "\"use_regex\": false}"
        "\n  ]},\n  \"post_processor\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
        "\"trim_offsets\": false, \"use_regex\": true},\n  \"decoder\": {\"type\": \"ByteLevel\", "
        "\"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n"
        "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
        "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
        "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": true,\n   "
        " \"vocab\": {");
    for (int id = 0; id < TINY_BASE; id++) {
        char byte = id < 256 ? (char)byte_of(id) : 0;
        fprintf(f, "%s\n      \"", id ? "," : "");
        if (id < 256)
            put_letters(f, &byte, 1);
        else
            put_letters(f, merges[id - 256], (int)strlen(merges[id - 256]));
        fprintf(f, "\": %d", id);
    }
    fprintf(f, "\n    },\n    \"merges\": [");
    for (int i = 0; i < COUNT(merges); i++) {
        int cut = cut_of(merges[i]);
        fprintf(f, "%s\n      \"", i ? "," : "");
        put_letters(f, merges[i], cut);
        fputc(' ', f);
        put_letters(f, merges[i] + cut, (int)strlen(merges[i]) - cut);
        fputc('"', f);
    }
    fprintf(f, "\n    ]\n  }\n}\n");
    return tiny_finish(f, "tokenizer.json");
}

static void put_base64(FILE *f, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        v |= i + 2 < n ? p[i + 2] : 0;
        for (size_t k = 0; k < 4; k++)
            fputc(i + k <= n ? digits[v >> (18 - 6 * k) & 63] : '=', f);
    }
}

static int write_tiktoken(const char *dir)
{
    FILE *f = tiny_create(dir, "tokenizer.model");
    if (!f)
        return -1;
    for (int id = 0; id < TINY_BASE; id++) {
        unsigned char byte = id < 256 ? (unsigned char)byte_of(id) : 0;
        if (id < 256)
            put_base64(f, &byte, 1);
        else
            put_base64(f, (const unsigned char *)merges[id - 256], strlen(merges[id - 256]));
        fprintf(f, " %d\n", id);
    }
    return tiny_finish(f, "tokenizer.model");
}

static int write_config(const char *dir, const tiny_model_options *o)
{
    FILE *f = tiny_create(dir, "tokenizer_config.json");
    if (!f)
        return -1;
    fprintf(f, "{\n  \"added_tokens_decoder\": {");
    put_added(f, o, false);
    fprintf(
        f,
        "\n  },\n  \"clean_up_tokenization_spaces\": false,\n  \"do_lower_case\": false,\n"
        "  \"eos_token\": \"<|endoftext|>\",\n  \"pad_token\": \"<|endoftext|>\",\n"
        "  \"model_max_length\": 4096,\n  \"padding_side\": \"left\",\n  \"remove_space\": false,\n"
        "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
    return tiny_finish(f, "tokenizer_config.json");
}

int tiny_write_tokenizer(const char *dir, const tiny_model_options *o)
{
    if (o->tiktoken || o->chatglm4v ? write_tiktoken(dir) : write_json(dir, o))
        return -1;
    return write_config(dir, o);
}
