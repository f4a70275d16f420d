/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where rows of a matrix come from: one tensor of numbers, or the tensors of a module that another
 * program quantized. Found and checked from headers (and the order of inputs, which decides the
 * form in memory) by source.c, read by source_read.c: as codes, or dequantized to f32.
 *
 *   w[r][k] = scale[r / block][g] * (code[r][k] - zero[r][g]), g = k / group or group_of[k]
 *
 * Sources: compressed-tensors' compressors; AutoAWQ's WQLinear_GEMM; AutoGPTQ's QuantLinear. */
#ifndef GLM4V_ENGINE_SOURCE_H
#define GLM4V_ENGINE_SOURCE_H

#include "backend/backend.h"
#include "checkpoint/quantization_config.h"
#include "checkpoint/safetensors.h"

/* How the codes lie in their tensor. n outputs, k inputs; words are I32, low bits first. */
typedef enum {
    GLM4V_SOURCE_PLAIN,  /* no codes: F32, F16 or BF16 */
    GLM4V_SOURCE_BYTES,  /* [n][k] of I8 or F8_E4M3 */
    GLM4V_SOURCE_PACKED, /* words [n][k / 8]: compressed-tensors */
    GLM4V_SOURCE_GPTQ,   /* words [k / 8][n] */
    GLM4V_SOURCE_AWQ,    /* words [k][n / 8], outputs 0 2 4 6 1 3 5 7 from the low bits up */
} glm4v_source_kind;

typedef enum {
    GLM4V_STORED_F32,
    GLM4V_STORED_F16,
    GLM4V_STORED_BF16,
    GLM4V_STORED_INT8,
    GLM4V_STORED_INT4, /* in groups of more than 32, or one */
    GLM4V_STORED_INT4_32,
    GLM4V_STORED_FP8,
    GLM4V_N_STORED
} glm4v_stored;

typedef struct {
    glm4v_source_kind kind;
    int64_t rows, n_in;
    const glm4v_tensor *tensor; /* numbers or codes; its name and file stand for the source */
    /* of codes */
    const glm4v_tensor *scale; /* [rows / block][groups]; GPTQ, AWQ: [groups][rows] */
    const glm4v_tensor *zero;  /* zero points, NULL = `middle` everywhere */
    bool floating;             /* e4m3 */
    bool symmetric;            /* zero points, where a layout has them always, must be `middle` */
    int64_t bits;              /* 4 or 8 */
    int64_t middle;            /* code of 0 without zero points */
    int64_t zero_add;          /* stored zero points are that much less */
    int64_t group, groups;     /* inputs that share a scale; how many such groups */
    int64_t block;             /* outputs that share one */
    int32_t *group_of;         /* [n_in], owned; NULL: k / group */
    bool even;                 /* group_of gives `group` inputs to each */
} glm4v_source;

/* Whether `name` ("....weight") is there as a tensor or as a quantized module. */
bool glm4v_source_exists(const glm4v_checkpoint *checkpoint, const char *name);

/* A matrix or vector that a model needs. */
typedef struct {
    const char *name;
    const int64_t *shape; /* [rank] */
    int rank;
} glm4v_tensor_need;

/* What is needed, as a source of shape[0] rows. config may be NULL.
 * FORMAT names what is missing, found and expected shape, or where the tensors contradict config;
 * UNSUPPORTED a dtype; IO, NOMEM. */
int glm4v_source_find(glm4v_source *source, const glm4v_checkpoint *checkpoint,
                      const glm4v_quantization_config *config, const glm4v_tensor_need *need,
                      glm4v_error *err);
void glm4v_source_clear(glm4v_source *source);

/* Bytes that it takes in the files. */
uint64_t glm4v_source_bytes(const glm4v_source *source);
/* What its numbers are stored as. */
glm4v_stored glm4v_source_stored(const glm4v_source *source);
const char *glm4v_stored_name(glm4v_stored stored); /* "fp32", ..., "int4", "fp8" */

/* The smallest matrix in memory that holds n sources below one another exactly as they are
 * quantized. False: there is none, and why [size] has the reason for a log line ("8 bits in groups
 * of 64"). */
bool glm4v_sources_kind(glm4v_weight_kind *kind, const glm4v_source *sources, int n, char *why,
                        size_t size);
/* Inputs sorted by group: order [n_in] as weight_order takes it. Of an even group_of. */
void glm4v_source_order(const glm4v_source *source, int32_t *order);

/* Room for codes of some rows of one source, as read. */
typedef struct {
    uint8_t *q;     /* [n][n_in]; NULL (PACKED): the words stay in scratch, [n][n_in / 8] */
    float *scale;   /* [n][groups] */
    uint8_t *zero;  /* [n][groups] */
    int64_t groups; /* of room, at least the source's */
    void *scratch;  /* of glm4v_source_scratch() bytes */
} glm4v_source_codes;

/* Scratch that reading n rows takes. */
size_t glm4v_source_scratch(const glm4v_source *source, int64_t n);

/* Codes, scales and zero points of rows [row, row + n). Any thread. IO; FORMAT: a scale that is not
 * finite, an e4m3 NaN, a zero point that a symmetric checkpoint cannot have. */
int glm4v_source_read_codes(const glm4v_source *source, const glm4v_checkpoint *checkpoint,
                            int64_t row, int64_t n, const glm4v_source_codes *to, glm4v_error *err);
/* f32 [n, n_in] of the first n rows read. */
void glm4v_source_dequantize(const glm4v_source *source, const glm4v_source_codes *from, int64_t n,
                             float *rows);
/* Rewrite what was read of n rows as a matrix in memory of that kind takes it, in place. Its inputs
 * are then in `order` (NULL: as they are); codes->groups must be those of the kind. */
void glm4v_source_convert(const glm4v_source *source, const glm4v_source_codes *codes, int64_t n,
                          const glm4v_weight_kind *kind, const int32_t *order);
/* Scales of one output in such a matrix. */
int64_t glm4v_kind_groups(const glm4v_weight_kind *kind);

/* Rows [row, row + n) of any source as f32 [n, n_in]. Any thread. Takes memory for the codes of as
 * many rows; NOMEM. */
int glm4v_source_read_f32(const glm4v_source *source, const glm4v_checkpoint *checkpoint,
                          int64_t row, int64_t n, float *rows, glm4v_error *err);

#endif
