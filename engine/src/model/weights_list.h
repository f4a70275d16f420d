/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a family's list of weights is written with: each call appends one item to the plan and
 * checks its tensors' names, shapes and dtypes against the checkpoint. All return 0 or what
 * glm4v_plan_make() names. */
#ifndef GLM4V_ENGINE_WEIGHTS_LIST_H
#define GLM4V_ENGINE_WEIGHTS_LIST_H

#include "backend/backend.h"
#include "model/weights.h"

#define GLM4V_NAME_SIZE 128

/* A plan in the making. */
typedef struct glm4v_lister {
    glm4v_plan *plan;
    struct glm4v_model *model;
    const glm4v_checkpoint *checkpoint; /* NULL: random weights */
    uint64_t of_stored[GLM4V_N_STORED]; /* numbers stored as each */
    glm4v_form stored[GLM4V_N_PARTS];   /* form that keeps all plain linears of the part exactly */
    glm4v_error *err;
} glm4v_lister;

/* A module of the model: the names of its tensors share a prefix and, within the layers, a group
 * and a number: "PREFIXgroup.N.name". */
typedef struct {
    const char *prefix, *group;
    int64_t layer; /* -1: outside the layers, "PREFIXname" */
    glm4v_part part;
    int64_t stage;
} glm4v_module;

/* Rows of a joined item that one tensor gives. */
typedef struct {
    const char *name;
    int64_t n;
} glm4v_rows;

/* Rows of n tensors, one below the other. */
typedef struct {
    const glm4v_rows *rows;
    int n;
    int64_t n_in; /* 1: a vector */
} glm4v_joined;

/* Shape [n_out, channels, ...] of a convolution's tensor; pixels: as in glm4v_item. */
typedef struct {
    const int64_t *shape;
    int rank;
    int64_t pixels;
} glm4v_convolution;

/* A new item without sources; NULL without memory. */
glm4v_item *glm4v_list_item(glm4v_lister *l, glm4v_item_kind kind, glm4v_part part, void *to,
                            int64_t n_out, int64_t n_in);
/* Take the tensor of that full name and shape as the next rows of item. */
int glm4v_list_source(glm4v_lister *l, glm4v_item *item, const char *name, const int64_t *shape,
                      int rank);

/* Whether the checkpoint has that tensor, or the module quantized; false with random weights. */
bool glm4v_list_has(const glm4v_lister *l, const glm4v_module *mod, const char *name);
/* More layers in the files than in config.json: the two belong to different models. mod: of the
 * first layer that may not be there, key: of config.json. */
int glm4v_list_no_layer(const glm4v_lister *l, const glm4v_module *mod, const char *name,
                        const char *key);

/* f32 vector [n]. mean: of random weights, 1 for the factors of norms. */
int glm4v_list_vector(glm4v_lister *l, const glm4v_module *mod, float **to, const char *name,
                      int64_t n, float mean);
/* Matrix [n_out, n_in]. */
int glm4v_list_linear(glm4v_lister *l, const glm4v_module *mod, glm4v_weight *to, const char *name,
                      int64_t n_out, int64_t n_in);
/* Matrix or vector whose rows lie in several tensors. */
int glm4v_list_joined(glm4v_lister *l, const glm4v_module *mod, glm4v_item_kind kind, void *to,
                      const glm4v_joined *from);
/* Convolution as a matrix over its flattened taps. */
int glm4v_list_convolution(glm4v_lister *l, const glm4v_module *mod, glm4v_weight *to,
                           const char *name, const glm4v_convolution *convolution);
/* f32 table [rows, ...] in host memory. */
int glm4v_list_host(glm4v_lister *l, const glm4v_module *mod, float **to, const char *name,
                    const int64_t *shape, int rank);
/* Embedding or head, [V, D]. */
int glm4v_list_vocabulary(glm4v_lister *l, glm4v_item_kind kind, const glm4v_module *mod, void *to,
                          const char *name);

/* The head on the last stage, or the embedding again where config.json ties the two. */
int glm4v_list_head(glm4v_lister *l, const char *prefix, const char *name, const char *tied_prefix,
                    const char *tied_name);
/* The items from `first` on stay int8 under int4. */
void glm4v_list_fine(glm4v_lister *l, int64_t first);

#endif
