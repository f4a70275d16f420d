/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading quantization_config. Each method has a reader of its own; what they have in common is the
 * list of schemes that comes out. Sources: compressed-tensors' QuantizationConfig, AutoAWQ's and
 * AutoGPTQ's settings as transformers writes them. */
#include "checkpoint/quantization_config.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "checkpoint/pattern.h"

#define MAX_GROUPS 64
#define MAX_NAMES 8192       /* of a list */
#define MAX_EXPRESSIONS 2048 /* bytes of all "re:" patterns together */
#define MAX_GROUP_SIZE (1 << 20)
#define WHAT_IS_READ                                                                               \
    "compressed-tensors, awq (gemm), gptq and fp8 are; use one of those, or the "                  \
    "unquantized checkpoint with the option quantization"

/* One run of a reader. */
typedef struct {
    glm4v_quantization_config *out;
    const json_t *object; /* quantization_config */
    char where[64];       /* file and key, for messages */
    size_t expressions;   /* bytes of "re:" patterns so far */
    const glm4v_log *log;
    glm4v_error *err;
} reader;

/* ---- lists of names ---- */

/* The array `key` of object into *names, all matchable. Missing or null: none. */
static int read_names(reader *r, const json_t *object, const char *where, const char *key,
                      char ***names, int64_t *n)
{
    const json_t *list = NULL;
    int rc = glm4v_json_array(object, where, key, &list, r->err);
    if (rc || !list)
        return rc;
    const size_t count = json_array_size(list);
    if (count > MAX_NAMES)
        return glm4v_fail(r->err, GLM4V_ERR_FORMAT,
                          "%s: \"%s\" has %zu names, at most %d are accepted", where, key, count,
                          MAX_NAMES);
    *names = glm4v_alloc(count, sizeof **names);
    if (!*names)
        return glm4v_fail(r->err, GLM4V_ERR_NOMEM, "%s: no memory for \"%s\"", where, key);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name)
            return glm4v_fail(r->err, GLM4V_ERR_FORMAT,
                              "%s: \"%s\" has an entry that is not a string", where, key);
        if (!strncmp(name, "re:", 3))
            r->expressions += strlen(name);
        if (!glm4v_pattern_valid(name) || r->expressions > MAX_EXPRESSIONS)
            return glm4v_fail(r->err, GLM4V_ERR_UNSUPPORTED,
                              "%s: \"%s\" holds the pattern \"%.100s\"; supported are names, and "
                              "expressions of . * + ? \\d ^ $ and one group (a|b)",
                              where, key, name);
        if (!((*names)[i] = glm4v_strdup(name)))
            return glm4v_fail(r->err, GLM4V_ERR_NOMEM, "%s: no memory for \"%s\"", where, key);
        *n = i + 1;
    }
    return 0;
}

static int add_groups(reader *r, size_t n)
{
    r->out->groups = glm4v_alloc(n, sizeof *r->out->groups);
    if (!r->out->groups)
        return glm4v_fail(r->err, GLM4V_ERR_NOMEM, "%s: no memory for its groups", r->where);
    r->out->n_groups = n;
    return 0;
}

/* The one group of a method that treats all linear modules alike. */
static int add_linear_group(reader *r, const glm4v_scheme *scheme)
{
    int rc = add_groups(r, 1);
    if (rc)
        return rc;
    glm4v_scheme_group *g = r->out->groups;
    g->scheme = *scheme;
    g->targets = glm4v_alloc(1, sizeof *g->targets);
    if (!g->targets || !(g->targets[0] = glm4v_strdup("Linear")))
        return glm4v_fail(r->err, GLM4V_ERR_NOMEM, "%s: no memory for its groups", r->where);
    g->n_targets = 1;
    return 0;
}

static int unsupported(reader *r, const char *where, const char *key, const char *found,
                       const char *read)
{
    return glm4v_fail(r->err, GLM4V_ERR_UNSUPPORTED, "%s: \"%s\" is \"%.60s\"; %s", where, key,
                      found, read);
}

/* ---- compressed-tensors ---- */

/* How many inputs and outputs share a scale. */
static int read_strategy(reader *r, const json_t *weights, const char *where, glm4v_scheme *s)
{
    const char *strategy = NULL;
    const json_t *block = NULL;
    int64_t group = 0;
    int rc;
    if ((rc = glm4v_json_string(weights, where, "strategy", &strategy, r->err)) ||
        (rc = glm4v_json_int(weights, where, "group_size", (glm4v_range) { -1, MAX_GROUP_SIZE },
                             &group, r->err)))
        return rc;
    if (!strategy && group > 0)
        strategy = "group";
    else if (!strategy)
        strategy = group < 0 ? "channel" : "tensor";
    s->block = 1;
    if (!strcmp(strategy, "channel"))
        return 0;
    if (!strcmp(strategy, "tensor")) {
        s->block = 0;
        return 0;
    }
    if (!strcmp(strategy, "group")) {
        if (group == 0)
            return glm4v_fail(r->err, GLM4V_ERR_FORMAT,
                              "%s: \"strategy\" is \"group\", but \"group_size\" is missing",
                              where);
        s->group = group > 0 ? group : 0;
        return 0;
    }
    if (strcmp(strategy, "block"))
        return unsupported(r, where, "strategy", strategy,
                           "channel, tensor, group and block are supported");
    if ((rc = glm4v_json_array(weights, where, "block_structure", &block, r->err)))
        return rc;
    const json_int_t rows = json_integer_value(json_array_get(block, 0));
    const json_int_t cols = json_integer_value(json_array_get(block, 1));
    if (json_array_size(block) != 2 || rows < 1 || rows > MAX_GROUP_SIZE || cols < 1 ||
        cols > MAX_GROUP_SIZE)
        return glm4v_fail(r->err, GLM4V_ERR_FORMAT,
                          "%s: \"block_structure\" is not a pair of sizes, expected [128, 128]",
                          where);
    s->block = rows;
    s->group = cols;
    return 0;
}

static int read_weights(reader *r, const json_t *weights, const char *where, glm4v_scheme *s)
{
    const char *type = "int";
    int64_t bits = 8;
    bool symmetric = true, dynamic = false;
    int rc;
    if ((rc = glm4v_json_string(weights, where, "type", &type, r->err)) ||
        (rc = glm4v_json_int(weights, where, "num_bits", (glm4v_range) { 1, 64 }, &bits, r->err)) ||
        (rc = glm4v_json_bool(weights, where, "symmetric", &symmetric, r->err)) ||
        (rc = read_strategy(r, weights, where, s)))
        return rc;
    const json_t *when = json_object_get(weights, "dynamic"),
                 *order = json_object_get(weights, "actorder");
    dynamic = json_is_true(when) || json_is_string(when);
    s->floating = !strcmp(type, "float");
    s->symmetric = symmetric;
    s->bits = bits;
    s->ordered = json_is_true(order) ||
                 (json_is_string(order) && !strcmp(json_string_value(order), "group"));
    if (dynamic)
        return unsupported(r, where, "dynamic", "true",
                           "only weights with stored scales are supported");
    if (!s->floating && strcmp(type, "int"))
        return unsupported(r, where, "type", type, "int and float are supported");
    if ((s->floating && bits != 8) || (bits != 4 && bits != 8))
        return glm4v_fail(
            r->err, GLM4V_ERR_UNSUPPORTED,
            "%s: \"num_bits\" is %d of type %s; int of 4 or 8 and float of 8 are supported", where,
            (int)bits, type);
    return 0;
}

/* The `format` of a group (or of all) and its weights must agree. */
static int read_format(reader *r, const char *format, const char *where, glm4v_scheme *s)
{
    s->packed = !strcmp(format, "pack-quantized");
    if ((s->packed && !s->floating) || (!strcmp(format, "int-quantized") && !s->floating) ||
        (!strcmp(format, "float-quantized") && s->floating) || !strcmp(format, "naive-quantized"))
        return 0;
    if (!strcmp(format, "int-quantized") || !strcmp(format, "float-quantized") || s->packed)
        return glm4v_fail(r->err, GLM4V_ERR_FORMAT,
                          "%s: \"format\" is \"%s\", but \"weights\" are of type %s", where, format,
                          s->floating ? "float" : "int");
    return unsupported(
        r, where, "format", format,
        "int-quantized, pack-quantized, float-quantized and naive-quantized are supported");
}

/* Activations are rounded as our own forms do, whatever the checkpoint was measured with. */
static int note_activations(reader *r, const json_t *group, const char *where)
{
    const json_t *input = NULL;
    const char *type = "int", *strategy = "";
    int rc = glm4v_json_object(group, where, "input_activations", &input, r->err);
    if (rc || !input)
        return rc;
    if ((rc = glm4v_json_string(input, where, "type", &type, r->err)) ||
        (rc = glm4v_json_string(input, where, "strategy", &strategy, r->err)))
        return rc;
    if (!json_is_true(json_object_get(input, "dynamic")))
        glm4v_log_line(r->log, GLM4V_LOG_INFO,
                       "%s: static scales of activations are not used: each row is rounded with a "
                       "scale of its own",
                       where);
    else if (!strcmp(type, "float") && !strcmp(strategy, "token"))
        glm4v_log_line(r->log, GLM4V_LOG_INFO,
                       "%s: activations are rounded to e4m3 with the option quantization "
                       "fp8-dynamic, else to bf16, which is more exact",
                       where);
    return 0;
}

static int read_group(reader *r, const char *name, const json_t *group, const char *format,
                      glm4v_scheme_group *out)
{
    const json_t *weights = NULL;
    char where[128];
    int rc;
    snprintf(where, sizeof where, "%s: %.40s", r->where, name);
    if (!json_is_object(group))
        return glm4v_fail(r->err, GLM4V_ERR_FORMAT, "%s: is not an object", where);
    if ((rc = glm4v_json_object(group, where, "weights", &weights, r->err)) ||
        (rc = glm4v_json_string(group, where, "format", &format, r->err)) ||
        (rc = note_activations(r, group, where)))
        return rc;
    /* activations alone, or weights that were rounded and stored in 16 bits: no targets */
    if (!weights || (format && !strcmp(format, "dense")))
        return 0;
    if (!format)
        return glm4v_fail(r->err, GLM4V_ERR_FORMAT, "%s: \"format\" is missing", where);
    if ((rc = read_weights(r, weights, where, &out->scheme)) ||
        (rc = read_format(r, format, where, &out->scheme)))
        return rc;
    return read_names(r, group, where, "targets", &out->targets, &out->n_targets);
}

/* What changes the meaning of the stored numbers besides the scheme. */
static int check_extras(reader *r)
{
    const json_t *sparsity = NULL, *transform = NULL;
    const char *format = "dense";
    int rc;
    if ((rc = glm4v_json_object(r->object, r->where, "sparsity_config", &sparsity, r->err)) ||
        (sparsity && (rc = glm4v_json_string(sparsity, r->where, "format", &format, r->err))) ||
        (rc = glm4v_json_object(r->object, r->where, "transform_config", &transform, r->err)))
        return rc;
    if (strcmp(format, "dense"))
        return unsupported(r, r->where, "sparsity_config", format,
                           "only dense weights are supported");
    if (json_object_size(json_object_get(transform, "config_groups")))
        return unsupported(r, r->where, "transform_config", "config_groups",
                           "weights that need a rotation at run time are not supported");
    if (json_is_object(json_object_get(r->object, "kv_cache_scheme")))
        glm4v_log_line(r->log, GLM4V_LOG_INFO,
                       "%s: \"kv_cache_scheme\" is not used: keys and values are kept unquantized",
                       r->where);
    return 0;
}

static int read_compressed(reader *r)
{
    const json_t *groups = NULL;
    const char *format = NULL, *name;
    json_t *group;
    size_t i = 0;
    int rc;
    snprintf(r->out->label, sizeof r->out->label, "compressed-tensors");
    if ((rc = check_extras(r)) ||
        (rc = glm4v_json_string(r->object, r->where, "format", &format, r->err)) ||
        (rc = glm4v_json_object(r->object, r->where, "config_groups", &groups, r->err)) ||
        (rc = read_names(r, r->object, r->where, "ignore", &r->out->ignore, &r->out->n_ignore)))
        return rc;
    if (format && !strcmp(format, "mixed-precision"))
        format = NULL; /* each group has its own */
    const size_t n = json_object_size(groups);
    if (!n || n > MAX_GROUPS)
        return glm4v_fail(r->err, GLM4V_ERR_FORMAT,
                          "%s: \"config_groups\" has %zu groups, expected 1 to %d", r->where, n,
                          MAX_GROUPS);
    rc = add_groups(r, n);
    /* jansson's iterators take a tree that may be changed */
    json_object_foreach((json_t *)groups, name, group)
    {
        if (!rc)
            rc = read_group(r, name, group, format, &r->out->groups[i++]);
    }
    return rc;
}

/* ---- awq ---- */

/* key, or what an older program called it. */
static int read_int(reader *r, const char *key, const char *older, int64_t min, int64_t max,
                    int64_t *value)
{
    int rc = glm4v_json_int(r->object, r->where, older, (glm4v_range) { min, max }, value, r->err);
    return rc ? rc
              : glm4v_json_int(r->object, r->where, key, (glm4v_range) { min, max }, value, r->err);
}

static void lower(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; text[n] && n + 1 < size; n++)
        out[n] = (char)tolower((unsigned char)text[n]);
    out[n] = 0;
}

static int read_awq(reader *r)
{
    glm4v_scheme s = { .packed = true, .block = 1 };
    int64_t bits = 4, group = 128;
    const char *version = "gemm";
    char name[32];
    int rc;
    if ((rc = read_int(r, "bits", "w_bit", 1, 64, &bits)) ||
        (rc = read_int(r, "group_size", "q_group_size", -1, MAX_GROUP_SIZE, &group)) ||
        (rc = glm4v_json_string(r->object, r->where, "version", &version, r->err)))
        return rc;
    lower(name, sizeof name, version);
    if (strcmp(name, "gemm"))
        return unsupported(r, r->where, "version", version,
                           "only the order of version gemm is supported");
    if (bits != 4)
        return glm4v_fail(r->err, GLM4V_ERR_UNSUPPORTED,
                          "%s: %d bits; awq with 4 bits is supported", r->where, (int)bits);
    s.bits = bits;
    s.group = group > 0 ? group : 0;
    snprintf(r->out->label, sizeof r->out->label, "awq gemm");
    return add_linear_group(r, &s);
}

/* ---- gptq ---- */

#define ONE_SETTING "only checkpoints with one bit width and group size are supported"

/* GPTQModel's exceptions, by pattern: "-:PATTERN" leaves modules out, which their tensors show too;
 * "PATTERN" with other settings is refused. */
static int check_dynamic(reader *r)
{
    const json_t *dynamic = json_object_get(r->object, "dynamic"), *of;
    const char *pattern;
    json_t *value;
    if (!json_is_object(dynamic))
        return 0;
    json_object_foreach((json_t *)dynamic, pattern, value)
    {
        of = value;
        if (strncmp(pattern, "-:", 2) && json_object_size(of))
            return unsupported(r, r->where, "dynamic", pattern, ONE_SETTING);
    }
    return 0;
}

static int read_gptq(reader *r)
{
    glm4v_scheme s = { .packed = true, .block = 1 };
    int64_t bits = 4, group = -1;
    const char *format = "gptq";
    bool ordered = false, symmetric = false, marlin = false;
    int rc;
    if ((rc = read_int(r, "bits", "w_bit", 1, 64, &bits)) ||
        (rc = read_int(r, "group_size", "q_group_size", -1, MAX_GROUP_SIZE, &group)) ||
        (rc = glm4v_json_bool(r->object, r->where, "desc_act", &ordered, r->err)) ||
        (rc = glm4v_json_bool(r->object, r->where, "sym", &symmetric, r->err)) ||
        (rc = glm4v_json_bool(r->object, r->where, "is_marlin_format", &marlin, r->err)) ||
        (rc = glm4v_json_string(r->object, r->where, "checkpoint_format", &format, r->err)) ||
        (rc = check_dynamic(r)))
        return rc;
    if (marlin)
        format = "marlin";
    if (strcmp(format, "gptq") && strcmp(format, "gptq_v2"))
        return unsupported(r, r->where, "checkpoint_format", format,
                           "gptq and gptq_v2 are supported");
    if (bits != 4 && bits != 8)
        return glm4v_fail(r->err, GLM4V_ERR_UNSUPPORTED,
                          "%s: %d bits; gptq with 4 or 8 bits is supported", r->where, (int)bits);
    s.bits = bits;
    s.group = group > 0 ? group : 0;
    s.ordered = ordered;
    s.symmetric = symmetric;
    r->out->zeros_less_one = !strcmp(format, "gptq");
    snprintf(r->out->label, sizeof r->out->label, "%s", format);
    return add_linear_group(r, &s);
}

/* ---- fp8 ---- */

static int read_fp8(reader *r)
{
    glm4v_scheme s = { .floating = true, .symmetric = true, .bits = 8, .block = 1 };
    const json_t *block = NULL;
    const char *activations = "dynamic";
    int rc;
    if ((rc = glm4v_json_array(r->object, r->where, "weight_block_size", &block, r->err)) ||
        (rc = glm4v_json_string(r->object, r->where, "activation_scheme", &activations, r->err)))
        return rc;
    if (block) {
        const json_int_t rows = json_integer_value(json_array_get(block, 0));
        const json_int_t cols = json_integer_value(json_array_get(block, 1));
        if (json_array_size(block) != 2 || rows < 1 || rows > MAX_GROUP_SIZE || cols < 1 ||
            cols > MAX_GROUP_SIZE)
            return glm4v_fail(
                r->err, GLM4V_ERR_FORMAT,
                "%s: \"weight_block_size\" is not a pair of sizes, expected [128, 128]", r->where);
        s.block = rows;
        s.group = cols;
    }
    if (strcmp(activations, "dynamic"))
        glm4v_log_line(r->log, GLM4V_LOG_INFO,
                       "%s: static scales of activations are not used: each row is rounded with a "
                       "scale of its own",
                       r->where);
    snprintf(r->out->label, sizeof r->out->label, "fp8");
    return add_linear_group(r, &s);
}

/* ---- which of them ---- */

/* auto-round's exceptions, by module: 16 bits leave it out, which its tensors show too; other
 * settings than those of all modules are refused. */
static int check_extra(reader *r)
{
    static const char *const settings[] = { "bits", "group_size", "sym" };
    const json_t *extra = json_object_get(r->object, "extra_config");
    const char *module;
    json_t *value;
    if (!json_is_object(extra))
        return 0;
    json_object_foreach((json_t *)extra, module, value)
    {
        if (json_integer_value(json_object_get(value, "bits")) >= 16)
            continue;
        for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
            const json_t *own = json_object_get(value, settings[i]);
            if (own && !json_equal(own, json_object_get(r->object, settings[i])))
                return unsupported(r, r->where, "extra_config", module, ONE_SETTING);
        }
    }
    return 0;
}

/* auto-round names the layout it exported apart from itself. */
static int auto_round_layout(reader *r, const char **method)
{
    const char *packing = "";
    int rc = glm4v_json_string(r->object, r->where, "packing_format", &packing, r->err);
    if (rc)
        return rc;
    if (!strcmp(packing, "auto_round:auto_gptq"))
        *method = "gptq";
    else if (!strcmp(packing, "auto_round:auto_awq"))
        *method = "awq";
    else
        return unsupported(r, r->where, "packing_format", packing,
                           "auto_round:auto_gptq and auto_round:auto_awq are supported");
    return check_extra(r);
}

static int read_object(reader *r, const char *method)
{
    static const struct {
        const char *name;
        glm4v_method method;
        int (*read)(reader *r);
    } methods[] = {
        { "compressed-tensors", GLM4V_METHOD_COMPRESSED, read_compressed },
        { "awq", GLM4V_METHOD_AWQ, read_awq },
        { "gptq", GLM4V_METHOD_GPTQ, read_gptq },
        { "fp8", GLM4V_METHOD_FP8, read_fp8 },
    };
    int rc = json_is_object(r->object)
                 ? glm4v_json_string(r->object, r->where, "quant_method", &method, r->err)
                 : glm4v_fail(r->err, GLM4V_ERR_FORMAT, "%s: is not an object", r->where);
    if (!rc && method && (!strcmp(method, "auto-round") || !strcmp(method, "intel/auto-round")))
        rc = auto_round_layout(r, &method);
    if (rc)
        return rc;
    for (size_t i = 0; method && i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(methods[i].name, method)) {
            r->out->method = methods[i].method;
            return methods[i].read(r);
        }
    return glm4v_fail(r->err, GLM4V_ERR_UNSUPPORTED,
                      "%s: weights quantized by \"%.40s\" are not supported; " WHAT_IS_READ,
                      r->where, method ? method : "an unnamed method");
}

/* r.object as *config: r has object, log and err. method: the one to assume if it is not given. */
static int take(glm4v_quantization_config **config, reader r, const char *file, const char *key,
                const char *method)
{
    snprintf(r.where, sizeof r.where, "%s%s%s", file, key ? ": " : "", key ? key : "");
    r.out = glm4v_alloc(1, sizeof *r.out);
    if (!r.out)
        return glm4v_fail(r.err, GLM4V_ERR_NOMEM, "%s: no memory to read it", r.where);
    snprintf(r.out->file, sizeof r.out->file, "%s", file);
    int rc = read_object(&r, method);
    if (rc)
        glm4v_quantization_config_free(&r.out);
    else
        *config = r.out;
    return rc;
}

/* From the root of a config.json. */
static int take_root(glm4v_quantization_config **config, const json_t *root, const glm4v_log *log,
                     glm4v_error *err)
{
    static const char *const keys[] = { "quantization_config", "compression_config" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *object = NULL;
        int rc = glm4v_json_object(root, "config.json", keys[i], &object, err);
        if (rc)
            return rc;
        if (object)
            return take(config, (reader) { .object = object, .log = log, .err = err },
                        "config.json", keys[i], i ? "compressed-tensors" : NULL);
    }
    return 0;
}

int glm4v_quantization_config_parse(glm4v_quantization_config **config, const char *text,
                                    size_t len, const glm4v_log *log, glm4v_error *err)
{
    json_t *root = NULL;
    *config = NULL;
    int rc = glm4v_json_parse(&root, text, len, "config.json", &GLM4V_JSON_CONFIG, err);
    if (!rc)
        rc = take_root(config, root, log, err);
    json_decref(root);
    return rc;
}

int glm4v_quantization_config_read(glm4v_quantization_config **config, const char *dir,
                                   const glm4v_log *log, glm4v_error *err)
{
    static const struct {
        const char *name, *method;
    } files[] = { { "quantize_config.json", "gptq" }, { "quant_config.json", "awq" } };
    json_t *root = NULL;
    *config = NULL;
    int rc = glm4v_json_read(&root, dir, "config.json", &GLM4V_JSON_CONFIG, err);
    if (!rc)
        rc = take_root(config, root, log, err);
    json_decref(root);
    for (size_t i = 0; !rc && !*config && i < sizeof files / sizeof *files; i++) {
        root = NULL;
        rc = glm4v_json_read(&root, dir, files[i].name, &GLM4V_JSON_CONFIG, err);
        if (rc == GLM4V_ERR_NOT_FOUND)
            rc = 0;
        else if (!rc)
            rc = take(config, (reader) { .object = root, .log = log, .err = err }, files[i].name,
                      NULL, files[i].method);
        json_decref(root);
    }
    return rc;
}

static void free_names(char **names, int64_t n)
{
    for (int64_t i = 0; names && i < n; i++)
        glm4v_free(names[i]);
    glm4v_free(names);
}

void glm4v_quantization_config_free(glm4v_quantization_config **config)
{
    glm4v_quantization_config *c = *config;
    if (!c)
        return;
    for (int64_t i = 0; i < c->n_groups; i++)
        free_names(c->groups[i].targets, c->groups[i].n_targets);
    glm4v_free(c->groups);
    free_names(c->ignore, c->n_ignore);
    glm4v_free(c);
    *config = NULL;
}

/* ---- asking ---- */

/* 3: named exactly, 2: by an expression, 1: by its class, 0: not. */
static int rank_of(char *const *names, int64_t n, const char *module, const char *class_name)
{
    int best = 0;
    for (int64_t i = 0; i < n && best < 3; i++) {
        const bool expression = !strncmp(names[i], "re:", 3);
        int rank = 0;
        if (!strcmp(names[i], class_name))
            rank = 1;
        else if ((expression ? best < 2 : true) && glm4v_pattern_matches(names[i], module))
            rank = expression ? 2 : 3;
        best = rank > best ? rank : best;
    }
    return best;
}

const glm4v_scheme *glm4v_quantization_config_find(const glm4v_quantization_config *config,
                                                   const char *module, const char *class_name)
{
    const glm4v_scheme *found = NULL;
    int best = 0;
    if (rank_of(config->ignore, config->n_ignore, module, class_name))
        return NULL;
    for (int64_t i = 0; i < config->n_groups; i++) {
        const glm4v_scheme_group *g = &config->groups[i];
        int rank = rank_of(g->targets, g->n_targets, module, class_name);
        if (rank > best) {
            best = rank;
            found = &g->scheme;
        }
    }
    return found;
}
