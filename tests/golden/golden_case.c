/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See golden_case.h. */
#include "golden_case.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

int golden_no_memory(glm4v_error *err)
{
    return glm4v_fail(err, GLM4V_ERR_NOMEM, "out of memory");
}

int golden_array_make(golden_array *a, size_t n, glm4v_error *err)
{
    a->data = calloc(n ? n : 1, sizeof *a->data);
    a->n = n;
    return a->data ? 0 : golden_no_memory(err);
}

void golden_outcome_clear(golden_outcome *o)
{
    free(o->positions.data);
    free(o->all.data);
    free(o->vision.data);
    free(o->logits.data);
    free(o->mean.data);
    free(o->drafts.data);
    free(o->all_drafts.data);
    *o = (golden_outcome) { 0 };
}

void golden_case_clear(golden_case *c)
{
    free(c->prompt.ids);
    free(c->prompt.runs);
    free(c->pixels.data);
    free(c->grid.data);
    golden_outcome_clear(&c->expected);
    *c = (golden_case) { 0 };
}

/* ---- reading ---- */

int golden_read_array(golden_array *a, const glm4v_checkpoint *file, const char *name,
                      const char *key, bool required, glm4v_error *err)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", name, key);
    const glm4v_tensor *t = glm4v_checkpoint_find(file, full);
    if (!t)
        return required ? glm4v_fail(err, GLM4V_ERR_FORMAT, "the vectors have no \"%s\"", full) : 0;
    size_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->shape[i];
    int rc = golden_array_make(a, n, err);
    a->rows = t->rank ? (size_t)t->shape[0] : 1;
    return rc ? rc : glm4v_checkpoint_read_f32(file, t, 0, a->data, n, err);
}

/* chatglm4v: a picture stands as start, placeholder, end in the ids; here the placeholder is
 * repeated. All pictures have the table's grid. */
static int expand_ids(golden_case *c, const glm4v_config *config, glm4v_error *err)
{
    const glm4v_vision_config *v = &config->vision;
    const int64_t side = v->table_side, n = glm4v_picture_rows(v, side, side);
    glm4v_prompt *p = &c->prompt;
    int32_t *ids = calloc(p->n_ids + n, sizeof *ids);
    size_t at = 0;
    p->runs = calloc(1, sizeof *p->runs);
    for (int64_t i = 0; ids && p->runs && i < p->n_ids; i++) {
        ids[at++] = p->ids[i];
        if (p->ids[i] != config->image_start_id)
            continue;
        if (p->n_runs || i + 2 >= p->n_ids || p->ids[i + 2] != config->image_end_id)
            break;
        p->runs[p->n_runs++] = (glm4v_image_run) { (uint32_t)at - 1, n, side, side, false };
        for (uint32_t k = 2; k < n; k++)
            ids[at++] = config->image_id;
        i++; /* the placeholder */
    }
    free(p->ids);
    const size_t expected = p->n_ids + (p->n_runs ? n - 3 : 0);
    p->ids = ids;
    p->n_ids = at;
    if (!ids || !p->runs)
        return golden_no_memory(err);
    return at == expected && p->n_runs == (c->pixels.data != NULL)
               ? 0
               : glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: ids and picture do not fit", c->name);
}

/* [3, H, W] to patches [P, C] in merge-block-major order. */
static int cut_patches(golden_case *c, const glm4v_config *config, glm4v_error *err)
{
    const glm4v_vision_config *v = &config->vision;
    const size_t side = (size_t)config->image.side, patch = (size_t)v->patch;
    const size_t merge = (size_t)v->merge, C = 3 * patch * patch, blocks = side / patch / merge;
    golden_array cut = { 0 };
    if (!c->pixels.data)
        return 0;
    if (c->pixels.n != 3 * side * side)
        return glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: the picture is not %zu x %zu", c->name, side,
                          side);
    int rc = golden_array_make(&cut, c->pixels.n, err);
    for (size_t i = 0; !rc && i < cut.n; i++) {
        const size_t p = i / C, at = i % C, in = p % (merge * merge), block = p / (merge * merge);
        const size_t y = (block / blocks * merge + in / merge) * patch + at / patch % patch;
        const size_t x = (block % blocks * merge + in % merge) * patch + at % patch;
        cut.data[i] = c->pixels.data[(at / (patch * patch) * side + y) * side + x];
    }
    free(c->pixels.data);
    c->pixels = cut;
    return rc;
}

/* Runs of image ids, each with its grid: a grid row (T, h, w) stands for T of them. */
static int find_runs(golden_case *c, const glm4v_config *config, glm4v_error *err)
{
    const size_t area = (size_t)(config->vision.merge * config->vision.merge);
    glm4v_prompt *p = &c->prompt;
    int64_t total = 0, left = 0;
    size_t row = 0;
    bool video = false;
    for (size_t i = 0; i < c->grid.rows; i++)
        total += (int64_t)c->grid.data[3 * i];
    p->runs = calloc(total ? total : 1, sizeof *p->runs);
    if (!p->runs)
        return golden_no_memory(err);
    for (int64_t i = 0; i < p->n_ids;) {
        if (p->ids[i] == config->video_start_id || p->ids[i] == config->video_end_id)
            video = p->ids[i] == config->video_start_id;
        if (p->ids[i] != config->image_id) {
            i++;
            continue;
        }
        if (!left && row < c->grid.rows)
            left = (int64_t)c->grid.data[3 * row++];
        if (!left || p->n_runs == total)
            return glm4v_fail(err, GLM4V_ERR_FORMAT,
                              "%s: more pictures in the ids than in grid_thw", c->name);
        left--;
        const float *grid = c->grid.data + 3 * (row - 1);
        p->runs[p->n_runs++] = (glm4v_image_run) { .start = i,
                                                   .n = (int64_t)(grid[1] * grid[2]) / area,
                                                   .grid_h = (int64_t)grid[1],
                                                   .grid_w = (int64_t)grid[2],
                                                   .video = video };
        i += (int64_t)grid[1] * (int64_t)grid[2] / area;
    }
    return p->n_runs == total
               ? 0
               : glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: fewer pictures in the ids than in grid_thw",
                            c->name);
}

static int read_ids(golden_case *c, const glm4v_checkpoint *file, glm4v_error *err)
{
    golden_array ids = { 0 }, greedy = { 0 }, margin = { 0 };
    golden_outcome *e = &c->expected;
    int rc = golden_read_array(&ids, file, c->name, "input_ids", true, err);
    if (!rc)
        rc = golden_read_array(&greedy, file, c->name, "greedy_ids", true, err);
    if (!rc)
        rc = golden_read_array(&margin, file, c->name, "greedy_margin", true, err);
    if (!rc && (greedy.n > MAX_STEPS || margin.n != greedy.n || !ids.n))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: ids and margins are of odd lengths", c->name);
    c->prompt.ids = calloc(ids.n ? ids.n : 1, sizeof *c->prompt.ids);
    if (!rc && !c->prompt.ids)
        rc = golden_no_memory(err);
    if (!rc) {
        c->prompt.n_ids = ids.n;
        for (size_t i = 0; i < ids.n; i++)
            c->prompt.ids[i] = (int32_t)ids.data[i];
        e->steps = greedy.n;
        for (size_t i = 0; i < greedy.n; i++) {
            e->ids[i] = (int32_t)greedy.data[i];
            e->margin[i] = (double)margin.data[i];
        }
    }
    free(ids.data);
    free(greedy.data);
    free(margin.data);
    return rc;
}

/* Of the MTP layer, where the file has them: rows of pictures take the words' embeddings. */
static int read_drafts(golden_case *c, const glm4v_checkpoint *file, glm4v_error *err)
{
    golden_outcome *e = &c->expected;
    golden_array ids = { 0 };
    const bool pictures = c->pixels.data != NULL;
    int rc =
        golden_read_array(&e->drafts, file, c->name,
                          pictures ? "mtp_draft_logits_words" : "mtp_draft_logits", false, err);
    if (rc || !e->drafts.data)
        return rc;
    if (!pictures)
        rc = golden_read_array(&e->all_drafts, file, c->name, "mtp_logits", true, err);
    if (!rc)
        rc = golden_read_array(&ids, file, c->name,
                               pictures ? "mtp_draft_ids_words" : "mtp_draft_ids", true, err);
    if (!rc && (ids.n != GOLDEN_DRAFTS || e->drafts.rows != GOLDEN_DRAFTS))
        rc = glm4v_fail(err, GLM4V_ERR_FORMAT, "%s: not %d drafts", c->name, GOLDEN_DRAFTS);
    for (size_t i = 0; !rc && i < ids.n; i++)
        e->draft_ids[e->n_drafts++] = (int32_t)ids.data[i];
    free(ids.data);
    return rc;
}

int golden_read_case(golden_case *c, const glm4v_checkpoint *file, const glm4v_config *config,
                     glm4v_error *err)
{
    golden_outcome *e = &c->expected;
    const bool fixed = config->vision.absolute;
    int rc = read_ids(c, file, err);
    if (!rc)
        rc = golden_read_array(&c->pixels, file, c->name, fixed ? "image" : "pixel_values", false,
                               err);
    if (!rc && !fixed)
        rc = golden_read_array(&c->grid, file, c->name, "grid_thw", c->pixels.data, err);
    if (!rc)
        rc = golden_read_array(&e->vision, file, c->name, "vision", c->pixels.data, err);
    if (!rc)
        rc = golden_read_array(&e->positions, file, c->name, "position_ids", true, err);
    if (!rc)
        rc = golden_read_array(&e->logits, file, c->name, "logits_last", true, err);
    if (!rc)
        rc = golden_read_array(&e->mean, file, c->name, "logits_mean_abs", true, err);
    if (!rc)
        rc = read_drafts(c, file, err);
    if (!rc && !fixed)
        return find_runs(c, config, err);
    if (!rc)
        rc = expand_ids(c, config, err);
    return rc ? rc : cut_patches(c, config, err);
}
