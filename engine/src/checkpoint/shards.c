/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening the weights of a directory: one file, or the shards that an index names. All of them must
 * be there and contain exactly the tensors that the index places in them, so that mixed files of
 * two models or downloads are detected before a number is read. Errors for missing files are in
 * absent.c. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "checkpoint/absent.h"
#include "checkpoint/safetensors_priv.h"

/* ---- index ---- */

/* One line of the index. Pointers into its JSON tree. */
typedef struct {
    const char *tensor, *file;
} mapping;

typedef struct {
    json_t *root;
    mapping *map; /* sorted by file, then tensor */
    int64_t n;
} shard_index;

static int by_file(const void *a, const void *b)
{
    const mapping *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : strcmp(x->tensor, y->tensor);
}

/* A plain name in the same folder. */
static bool is_shard_name(const char *name)
{
    size_t n = strlen(name);
    return n > 12 && n < 256 && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\') &&
           !strcmp(name + n - 12, ".safetensors");
}

static void clear_index(shard_index *index)
{
    json_decref(index->root);
    glm4v_free(index->map);
    *index = (shard_index) { 0 };
}

static int parse_index(shard_index *index, const char *text, size_t len, glm4v_error *err)
{
    const json_t *map = NULL;
    const char *name;
    json_t *file;
    int rc =
        glm4v_json_parse(&index->root, text, len, GLM4V_INDEX_FILE, &GLM4V_JSON_SAFETENSORS, err);
    if (!rc && !json_is_object(index->root))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, GLM4V_INDEX_FILE ": is not an object");
    if (!rc)
        rc = glm4v_json_object(index->root, GLM4V_INDEX_FILE, "weight_map", &map, err);
    if (!rc && (!json_object_size(map) || json_object_size(map) > GLM4V_MAX_TENSORS))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT,
                        GLM4V_INDEX_FILE ": \"weight_map\" must map 1 to %d tensors to files",
                        GLM4V_MAX_TENSORS);
    if (rc)
        return rc;
    index->map = glm4v_alloc(json_object_size(map), sizeof *index->map);
    if (!index->map)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, GLM4V_INDEX_FILE ": no memory for its %zu tensors",
                          json_object_size(map));
    json_object_foreach((json_t *)map, name, file)
    {
        if (!json_is_string(file) || !is_shard_name(json_string_value(file)))
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              GLM4V_INDEX_FILE ": \"%.100s\" is placed in \"%.100s\", which is not "
                                               "the name of a .safetensors file in the same folder",
                              name,
                              json_is_string(file) ? json_string_value(file) : "(not a string)");
        index->map[index->n++] = (mapping) { name, json_string_value(file) };
    }
    qsort(index->map, index->n, sizeof *index->map, by_file);
    return 0;
}

/* Entries [first, return value) name the same file. */
static int64_t end_of_file(const shard_index *index, int64_t first)
{
    int64_t i = first + 1;
    while (i < index->n && !strcmp(index->map[i].file, index->map[first].file))
        i++;
    return i;
}

static int count_files(const shard_index *index, int64_t *n_shards, glm4v_error *err)
{
    int64_t n = 0;
    for (int64_t i = 0; i < index->n; i = end_of_file(index, i))
        n++;
    if (n > GLM4V_MAX_SHARDS)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          GLM4V_INDEX_FILE ": names %" PRId64 " files, at most %d are accepted", n,
                          GLM4V_MAX_SHARDS);
    *n_shards = n;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const glm4v_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b)
{
    const mapping *x = a, *y = b;
    return strcmp(x->tensor, y->tensor);
}

/* ---- do index and shard agree? ---- */

/* The file that the index places a tensor in, NULL if it does not list it. */
static const char *file_of(const shard_index *index, const char *tensor)
{
    for (int64_t i = 0; i < index->n; i++)
        if (!strcmp(index->map[i].tensor, tensor))
            return index->map[i].file;
    return NULL;
}

/* `file` holds tensor `found` that index entries [begin, end) do not list; `known` of its `n`
 * tensors are in the index, in whatever file. */
static int not_placed(const shard_index *index, const char *file, const char *found, int64_t known,
                      int64_t n, glm4v_error *err)
{
    const char *other = file_of(index, found);
    if (other)
        return glm4v_fail(
            err, GLM4V_ERR_FORMAT,
            "%.80s: holds \"%.120s\", which " GLM4V_INDEX_FILE " places in %.80s; "
            "files of two downloads are mixed, or a file was renamed: download it again",
            file, found, other);
    if (known)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "%.80s: holds \"%.120s\", which " GLM4V_INDEX_FILE
                          " does not place there "
                          "(it knows %" PRId64 " of the file's %" PRId64 " tensors); files of two "
                          "downloads are mixed: download file and index again",
                          file, found, known, n);
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "%.80s: belongs to another model: it holds \"%.120s\" and %" PRId64 " more, "
                      "none of which " GLM4V_INDEX_FILE " knows; download it again",
                      file, found, n - 1);
}

/* Tensors [first, n_tensors) came from the file that index entries [begin, end) name: the same set?
 */
static int check_shard(const glm4v_checkpoint *c, int64_t first, const shard_index *index,
                       int64_t begin, int64_t end, glm4v_error *err)
{
    const char *file = index->map[begin].file, *stranger = NULL;
    int64_t n = c->n_tensors - first, known = 0;
    for (int64_t i = first; i < c->n_tensors; i++) {
        mapping key = { .tensor = c->tensors[i].name };
        if (bsearch(&key, index->map + begin, end - begin, sizeof key, compare_name))
            known++;
        else if (!stranger)
            stranger = key.tensor;
    }
    if (stranger)
        return not_placed(index, file, stranger, known, n, err);
    glm4v_tensor *t = n ? c->tensors + first : NULL;
    if (n == end - begin)
        return 0;
    if (n)
        qsort(t, n, sizeof *t, by_name);
    for (int64_t i = begin; i < end; i++) {
        glm4v_tensor key = { .name = index->map[i].tensor };
        if (!n || !bsearch(&key, t, n, sizeof key, by_name))
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%.80s: lacks \"%.120s\", which " GLM4V_INDEX_FILE
                              " places there; it "
                              "holds %" PRId64 " of %" PRId64 " tensors: download it again",
                              file, key.name, n, end - begin);
    }
    return 0;
}

/* ---- opening ---- */

static int open_shard(glm4v_checkpoint *c, const char *name, glm4v_error *err)
{
    glm4v_shard *s = &c->shards[c->n_shards];
    s->fd = -1;
    s->name = glm4v_strdup(name);
    if (!s->name)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory for its name", name);
    c->n_shards++;
    return glm4v_file_open(&s->fd, &s->id, c->dir, name, err);
}

/* Before any is read: are all files of the index there? */
static int check_all_there(const glm4v_checkpoint *c, const shard_index *index, int64_t n_files,
                           glm4v_error *err)
{
    glm4v_missing missing = { .n_files = n_files };
    for (int64_t begin = 0, end; begin < index->n; begin = end) {
        const mapping *m = &index->map[begin];
        end = end_of_file(index, begin);
        if (glm4v_file_exists(c->dir, m->file))
            continue;
        if (missing.n < GLM4V_MISSING_NAMES)
            missing.name[missing.n] = m->file;
        if (!missing.n++) {
            missing.n_tensors = end - begin;
            missing.first = m->tensor;
            missing.last = index->map[end - 1].tensor;
        }
    }
    return missing.n ? glm4v_absent_shards(c->dir, &missing, err) : 0;
}

static int open_sharded(glm4v_checkpoint *c, glm4v_error *err)
{
    char *text = NULL;
    size_t size = 0;
    int64_t n = 0;
    shard_index index = { 0 };
    int rc =
        glm4v_read_file(&text, &size, c->dir, GLM4V_INDEX_FILE, GLM4V_JSON_SAFETENSORS.bytes, err);
    if (rc == GLM4V_ERR_NOT_FOUND)
        return glm4v_absent_weights(c->dir, err);
    if (!rc)
        rc = parse_index(&index, text, size, err);
    glm4v_free(text);
    if (!rc)
        rc = count_files(&index, &n, err);
    if (!rc)
        rc = check_all_there(c, &index, n, err);
    if (!rc) {
        c->shards = glm4v_alloc(n, sizeof *c->shards);
        if (!c->shards)
            rc = glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for the list of %" PRId64 " files", n);
    }
    for (int64_t begin = 0, end; !rc && begin < index.n; begin = end) {
        int64_t first = c->n_tensors;
        end = end_of_file(&index, begin);
        rc = open_shard(c, index.map[begin].file, err);
        if (!rc)
            rc = glm4v_shard_read_header(c, c->n_shards - 1, err);
        if (!rc)
            rc = check_shard(c, first, &index, begin, end, err);
    }
    clear_index(&index);
    return rc;
}

static int open_single(glm4v_checkpoint *c, const char *name, glm4v_error *err)
{
    c->shards = glm4v_alloc(1, sizeof *c->shards);
    if (!c->shards)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "%s: no memory to open it", name);
    int rc = open_shard(c, name, err);
    return rc ? rc : glm4v_shard_read_header(c, 0, err);
}

int glm4v_checkpoint_open(glm4v_checkpoint **checkpoint, const char *dir, glm4v_error *err)
{
    glm4v_checkpoint *c = glm4v_checkpoint_new(dir);
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to open %s", dir);
    int rc = open_single(c, GLM4V_SINGLE_FILE, err);
    if (rc == GLM4V_ERR_NOT_FOUND) {
        glm4v_checkpoint_drop_shards(c);
        rc = open_sharded(c, err);
    }
    return glm4v_checkpoint_hand_out(checkpoint, c, rc, err);
}

int glm4v_checkpoint_open_file(glm4v_checkpoint **checkpoint, const char *path, glm4v_error *err)
{
    const char *slash = strrchr(path, '/');
    glm4v_checkpoint *c = glm4v_checkpoint_new(slash ? path : ".");
    if (!c)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory to open %s", path);
    if (slash)
        c->dir[slash - path + (slash == path)] = 0;
    return glm4v_checkpoint_hand_out(checkpoint, c, open_single(c, slash ? slash + 1 : path, err),
                                     err);
}

int glm4v_checkpoint_check_index(const char *text, size_t len, int64_t *n_shards, glm4v_error *err)
{
    shard_index index = { 0 };
    int rc = parse_index(&index, text, len, err);
    if (!rc)
        rc = count_files(&index, n_shards, err);
    clear_index(&index);
    return rc;
}
