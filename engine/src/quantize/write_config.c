/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The config.json of a converted checkpoint: that of the source with "quantization_config" in the
 * words of the compressed-tensors package (https://github.com/vllm-project/compressed-tensors).
 * Modules are named by regular expressions over the tail of their names, as programs differ in the
 * prefixes they give the same modules. */
#define _GNU_SOURCE
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "quantize/quantize.h"

#define LAYOUT_VERSION "0.20.0" /* of the package, whose layout and words these are */

#define IGNORED GLM4V_N_FORMS /* in place of a form: not quantized */

/* What becomes of the module; false: nothing would be expected of it. */
static bool form_of(glm4v_form *form, const glm4v_conversion *c)
{
    *form = c->copy || !glm4v_form_of(c->form)->codes ? IGNORED : c->form;
    return *form != IGNORED || c->linear;
}

/* Order of the groups: few bits first, then floating ones, small groups last, then as forms are. */
static int by_form(glm4v_form a, glm4v_form b)
{
    if (a == b || a == IGNORED || b == IGNORED)
        return (a == IGNORED) - (b == IGNORED);
    const glm4v_form_traits *x = glm4v_form_of(a), *y = glm4v_form_of(b);
    if (x->bits != y->bits)
        return x->bits < y->bits ? -1 : 1;
    if (x->floating != y->floating)
        return x->floating ? -1 : 1;
    if (x->group != y->group)
        return x->group > y->group ? -1 : 1;
    return a < b ? -1 : 1;
}

/* ---- names ---- */

/* "re:.*layers\.\d+\.mlp\.down_proj$" of "model.layers.3.mlp.down_proj.weight": the prefix that
 * programs differ in cut off, numbers for any number, or themselves with `exact`. Returns NULL
 * without memory. */
static char *pattern_of(const char *name, bool exact)
{
    static const char *const prefixes[] = { "model.", "language_model." };
    glm4v_text_out text = { 0 };
    size_t n = strlen(name), tail = strlen(".weight");
    if (n > tail && !strcmp(name + n - tail, ".weight"))
        n -= tail;
    const char *p = name, *end = name + n;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp(p, prefixes[i], strlen(prefixes[i])))
            p += strlen(prefixes[i]);
    glm4v_text_format(&text, "re:.*");
    for (bool first = true; p < end; first = false) {
        if (!exact && (first || p[-1] == '.') && isdigit((unsigned char)*p)) {
            const char *digits = p;
            while (p < end && isdigit((unsigned char)*p))
                p++;
            if (p == end || *p == '.')
                glm4v_text_format(&text, "\\d+");
            else
                glm4v_text_add(&text, digits, (p - digits));
        } else {
            if (*p != '_' && (unsigned char)*p < 0x80 && !isalnum((unsigned char)*p))
                glm4v_text_add(&text, "\\", 1);
            glm4v_text_add(&text, p++, 1);
        }
    }
    glm4v_text_format(&text, "$");
    if (text.failed) {
        glm4v_free(text.data);
        return NULL;
    }
    return text.data;
}

/* A tensor that is both embedding and head stays as it is; to others the head is a linear. */
static const char *module_name(const glm4v_conversion *c)
{
    const char *name = c->from->name;
    if (!c->tied)
        return name;
    return strncmp(name, "transformer.", 12) ? "lm_head" : "transformer.output_layer";
}

typedef struct {
    glm4v_form form; /* or IGNORED */
    char *pattern;
} target;

typedef struct {
    target *items; /* sorted by form, then pattern; no two alike */
    int64_t n;
    int n_forms; /* that occur, IGNORED not counted */
    bool tables; /* not only linears are quantized */
} targets;

static int by_target(const void *a, const void *b)
{
    const target *x = a, *y = b;
    return x->form != y->form ? by_form(x->form, y->form) : strcmp(x->pattern, y->pattern);
}

static void clear_targets(targets *t)
{
    for (int64_t i = 0; i < t->n; i++)
        glm4v_free(t->items[i].pattern);
    glm4v_free(t->items);
    *t = (targets) { 0 };
}

/* Sort, and drop what is there twice: layers have the same modules. */
static void reduce_targets(targets *t)
{
    int64_t n = 0;
    if (t->n)
        qsort(t->items, t->n, sizeof *t->items, by_target);
    for (int64_t i = 0; i < t->n; i++) {
        if (n && !by_target(&t->items[n - 1], &t->items[i])) {
            glm4v_free(t->items[i].pattern);
            continue;
        }
        t->n_forms +=
            t->items[i].form != IGNORED && (!n || t->items[n - 1].form != t->items[i].form);
        t->items[n++] = t->items[i];
    }
    t->n = n;
}

static int make_targets(targets *t, const glm4v_conversion *conversions, int64_t n,
                        glm4v_error *err)
{
    bool failed = false;
    *t = (targets) { .items = glm4v_alloc(n, sizeof *t->items) };
    if (!t->items)
        failed = true;
    for (int64_t i = 0; !failed && i < n; i++) {
        glm4v_form form;
        if (!form_of(&form, &conversions[i]))
            continue;
        /* what the MTP layer copies is none of the model's: such modules stay as they are */
        const bool exact = !conversions[i].item;
        t->items[t->n] =
            (target) { .form = form, .pattern = pattern_of(module_name(&conversions[i]), exact) };
        failed = !t->items[t->n].pattern;
        t->tables |= form != IGNORED && conversions[i].table;
        t->n += !failed;
    }
    reduce_targets(t);
    return failed ? glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for \"quantization_config\"") : 0;
}

/* ---- text ---- */

static void format_patterns(glm4v_text_out *out, const targets *t, glm4v_form form,
                            const char *indent)
{
    bool any = false;
    glm4v_text_format(out, "[");
    for (int64_t i = 0; i < t->n; i++) {
        if (t->items[i].form != form)
            continue;
        glm4v_text_format(out, "%s\n%s  ", any ? "," : "", indent);
        glm4v_text_string(out, t->items[i].pattern);
        any = true;
    }
    if (any)
        glm4v_text_format(out, "\n%s", indent);
    glm4v_text_format(out, "]");
}

/* Said only where it tells two forms apart: else it is for who runs the model. */
static void format_activations(glm4v_text_out *out, const glm4v_form_traits *form)
{
    if (form->rounding == GLM4V_ROUND_FP8)
        glm4v_text_format(out, "{ \"num_bits\": 8, \"type\": \"float\", \"symmetric\": true, "
                               "\"strategy\": \"token\", \"dynamic\": true }");
    else
        glm4v_text_format(out, "null");
}

static void format_weights(glm4v_text_out *out, const glm4v_form_traits *form)
{
    glm4v_text_format(out, "{ \"num_bits\": %d, \"type\": \"%s\", \"symmetric\": true, ",
                      form->bits, form->floating ? "float" : "int");
    if (form->group)
        glm4v_text_format(out, "\"strategy\": \"group\", \"group_size\": %" PRId64 ", ",
                          form->group);
    else
        glm4v_text_format(out, "\"strategy\": \"channel\", ");
    glm4v_text_format(out, "\"dynamic\": false }");
}

/* One form for linears only is written in the way that every program supports: all of them except
 * those to ignore. */
static void format_group(glm4v_text_out *out, const targets *t, glm4v_form form, int number)
{
    glm4v_text_format(out,
                      "%s\n      \"group_%d\": {\n"
                      "        \"format\": \"%s\",\n"
                      "        \"input_activations\": ",
                      number ? "," : "", number, glm4v_form_of(form)->format);
    format_activations(out, glm4v_form_of(form));
    glm4v_text_format(out, ",\n        \"output_activations\": null,\n        \"targets\": ");
    if (t->n_forms == 1 && !t->tables)
        glm4v_text_format(out, "[\n          \"Linear\"\n        ]");
    else
        format_patterns(out, t, form, "        ");
    glm4v_text_format(out, ",\n        \"weights\": ");
    format_weights(out, glm4v_form_of(form));
    glm4v_text_format(out, "\n      }");
}

/* t: sorted, with at least one form, which comes before what is ignored. */
static void format_config(glm4v_text_out *out, const targets *t)
{
    const char *format = glm4v_form_of(t->items[0].form)->format;
    int n = 0;
    glm4v_text_format(out, "\"quantization_config\": {\n    \"config_groups\": {");
    for (int64_t i = 0; i < t->n && t->items[i].form != IGNORED; i++) {
        const glm4v_form form = t->items[i].form;
        const char *own = glm4v_form_of(form)->format;
        if (i && t->items[i - 1].form == form)
            continue;
        format_group(out, t, form, n++);
        format = strcmp(format, own) ? "mixed-precision" : own;
    }
    glm4v_text_format(out,
                      "\n    },\n    \"format\": \"%s\",\n"
                      "    \"global_compression_ratio\": null,\n    \"ignore\": ",
                      format);
    format_patterns(out, t, IGNORED, "    ");
    glm4v_text_format(out, ",\n    \"kv_cache_scheme\": null,\n"
                           "    \"quant_method\": \"compressed-tensors\",\n"
                           "    \"quantization_status\": \"compressed\",\n"
                           "    \"version\": \"" LAYOUT_VERSION "\"\n  }");
}

/* The source's own text, which holds one JSON object, and before its last brace the new key. */
static void splice(glm4v_text_out *out, const char *text, size_t size, bool empty, const targets *t)
{
    size_t brace = size, end;
    while (text[--brace] != '}')
        ;
    end = brace;
    while (isspace((unsigned char)text[end - 1]))
        end--;
    glm4v_text_add(out, text, end);
    glm4v_text_format(out, "%s\n  ", empty ? "" : ",");
    format_config(out, t);
    glm4v_text_format(out, "\n");
    glm4v_text_add(out, text + brace, size - brace);
}

static int check_unquantized(const json_t *root, glm4v_error *err)
{
    const json_t *present = NULL;
    const char *method = "it does not say how";
    int rc = glm4v_json_object(root, "config.json", "quantization_config", &present, err);
    if (!rc && present)
        rc = glm4v_json_string(present, "config.json", "quant_method", &method, err);
    if (rc)
        return rc;
    if (!json_object_get(root, "quantization_config"))
        return 0;
    return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                      "config.json: \"quantization_config\" says that the checkpoint is quantized "
                      "already (%.60s); convert the 16-bit checkpoint that it was made from",
                      method);
}

/* The text of src/config.json (glm4v_free) and whether its object has no keys. */
static int read_config(char **text, size_t *size, bool *empty, const char *src, glm4v_error *err)
{
    json_t *root = NULL;
    int rc = glm4v_read_file(text, size, src, "config.json", GLM4V_JSON_CONFIG.bytes, err);
    if (!rc)
        rc = glm4v_json_parse(&root, *text, *size, "config.json", &GLM4V_JSON_CONFIG, err);
    if (!rc && !json_is_object(root))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "config.json: is not an object");
    if (!rc)
        rc = check_unquantized(root, err);
    *empty = !json_object_size(root);
    json_decref(root);
    return rc;
}

int glm4v_quantize_check_source(const char *src, glm4v_error *err)
{
    char *text = NULL;
    size_t size = 0;
    bool empty;
    int rc = read_config(&text, &size, &empty, src, err);
    glm4v_free(text);
    return rc;
}

int glm4v_quantize_config(glm4v_text_out *out, const char *src, const glm4v_conversion *conversions,
                          int64_t n, glm4v_error *err)
{
    char *text = NULL;
    size_t size = 0;
    bool empty;
    targets t = { 0 };
    int rc = read_config(&text, &size, &empty, src, err);
    if (!rc)
        rc = make_targets(&t, conversions, n, err);
    if (!rc) {
        if (t.n_forms)
            splice(out, text, size, empty, &t);
        else
            glm4v_text_add(out, text, size);
        if (out->failed)
            rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for config.json");
    }
    clear_targets(&t);
    glm4v_free(text);
    return rc;
}
