/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plan of a model's weights: for each matrix, table and vector in memory, where it goes, its
 * shape and form, and the tensors of the checkpoint that its rows come from. Made and checked from
 * headers alone; then the same list allocates, counts bytes, loads (load.c) and frees. */
#ifndef GLM4V_ENGINE_WEIGHTS_H
#define GLM4V_ENGINE_WEIGHTS_H

#include "checkpoint/source.h"
#include "model/quantization.h"

struct glm4v_model;

typedef enum {
    GLM4V_ITEM_LINEAR, /* glm4v_weight */
    GLM4V_ITEM_TABLE,  /* glm4v_table */
    GLM4V_ITEM_VECTOR, /* float *, device memory, n_in = 1 */
    GLM4V_ITEM_HOST,   /* float *, host memory */
} glm4v_item_kind;

#define GLM4V_MAX_SOURCES 3

typedef struct {
    glm4v_item_kind kind;
    glm4v_part part;
    glm4v_form form;
    int64_t stage; /* whose backend holds it */
    union {
        glm4v_weight *linear;
        glm4v_table *table;
        float **vector;
    } to;
    int64_t n_out, n_in;
    bool codes;         /* stays quantized as stored: the sources' codes are taken as they are */
    bool zeros, blocks; /* of such a matrix: see glm4v_weight_kind */
    int32_t *order;     /* [n_in] the order of its inputs, owned; NULL: as they are */
    int64_t pixels;     /* > 1: rows lie as [channel][pixel] in the file and are turned around */
    bool convolution;   /* never quantized, in memory as on disk: others read linears alone */
    bool mtp;           /* of the MTP layer: a step of decoding does not read it */
    bool fine;          /* stays int8 under int4: a small part of the model where int4 costs much */
    float random_mean, random_scale;        /* of seeded random weights */
    int n_sources;                          /* 0: no checkpoint */
    glm4v_source source[GLM4V_MAX_SOURCES]; /* their rows one below the other are this item's */
} glm4v_item;

typedef struct {
    glm4v_item *items;
    int64_t n, capacity;
    uint64_t bytes;      /* to read from files (of random numbers: to make) */
    uint64_t parameters; /* numbers in all items */
    glm4v_stored stored; /* what most of them are stored as */
} glm4v_plan;

/* Make the plan of model, whose config is read and whose layer arrays are allocated; sets
 * model->form from q. checkpoint NULL: for random weights. FORMAT names tensor, found and expected
 * shape; UNSUPPORTED a dtype. */
int glm4v_plan_make(glm4v_plan *plan, struct glm4v_model *model, const glm4v_checkpoint *checkpoint,
                    const glm4v_quantization *q, glm4v_error *err);
void glm4v_plan_clear(glm4v_plan *plan);
/* Free what only loading needs. */
void glm4v_plan_loaded(glm4v_plan *plan);

/* What a matrix of the plan has to hold. */
glm4v_weight_kind glm4v_item_kind_of(const glm4v_item *item);

/* Bytes that an item takes in memory of b, or of the host. */
uint64_t glm4v_item_bytes(const glm4v_item *item, glm4v_backend *b);

/* Bytes that the items of a stage take in memory, of all stages with -1. */
uint64_t glm4v_plan_memory(const glm4v_plan *plan, const struct glm4v_model *model, int64_t stage);
/* Bytes of the matrices that a step of decoding reads, codes and scales: the text model's and the
 * head. */
uint64_t glm4v_plan_step_bytes(const glm4v_plan *plan);
/* Multiply-adds of the tower's matrices for one merged patch. */
uint64_t glm4v_plan_vision_products(const glm4v_plan *plan, const struct glm4v_model *model);
/* Allocate all items; on failure none stays. */
int glm4v_plan_allocate(const glm4v_plan *plan, struct glm4v_model *model, glm4v_error *err);
void glm4v_plan_free(const glm4v_plan *plan, struct glm4v_model *model);

/* load.c: fill all items from checkpoint (NULL: random numbers by options->random_seed), on the
 * pool of stage 0. The caller takes part and calls options->progress between pieces of work. IO,
 * FORMAT (a number that is not finite), NOMEM, CANCELED. */
int glm4v_plan_load(const glm4v_plan *plan, struct glm4v_model *model,
                    const glm4v_checkpoint *checkpoint, const glm4v_model_options *options,
                    glm4v_error *err);

/* load.c: bytes that glm4v_plan_load() takes while it works, and the checkpoint beside it
 * (planner). */
uint64_t glm4v_plan_loading_bytes(const glm4v_plan *plan, const struct glm4v_model *model,
                                  const glm4v_checkpoint *checkpoint);

/* Index of the first number of x [n] that is not finite, or n. */
int64_t glm4v_first_not_finite(const float *x, int64_t n);

#endif
