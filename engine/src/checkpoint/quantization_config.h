/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The description of quantized matrices in a checkpoint: `quantization_config` of config.json
 * (older compressed-tensors: `compression_config`), or quantize_config.json and quant_config.json
 * beside it (AutoGPTQ, AutoAWQ). How each module is quantized follows from its tensors (source.c)
 * and is compared with this. */
#ifndef GLM4V_ENGINE_QUANTIZATION_CONFIG_H
#define GLM4V_ENGINE_QUANTIZATION_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "glm4v/glm4v.h"

typedef enum {
    GLM4V_METHOD_COMPRESSED, /* compressed-tensors */
    GLM4V_METHOD_AWQ,        /* AutoAWQ, version gemm */
    GLM4V_METHOD_GPTQ,       /* AutoGPTQ, GPTQModel, and auto-round's export for it */
    GLM4V_METHOD_FP8,        /* e4m3 with `weight_scale_inv` */
} glm4v_method;

/* How the matrices of one group are stored. */
typedef struct {
    bool floating;  /* e4m3; else integers */
    bool packed;    /* several integers in an I32; else one a byte */
    bool symmetric; /* no zero points */
    bool ordered;   /* the group of each input is stored (GPTQ desc_act, actorder) */
    int64_t bits;   /* 4, 8 */
    int64_t group;  /* inputs that share a scale; 0 = all of a row */
    int64_t block;  /* outputs that share one; 0 = all */
} glm4v_scheme;

typedef struct {
    glm4v_scheme scheme;
    char **targets; /* [n_targets]: "Linear", "Embedding", or patterns (pattern.h) */
    int64_t n_targets;
} glm4v_scheme_group;

typedef struct {
    glm4v_method method;
    char file[32];  /* it was read from */
    char label[32]; /* "awq gemm", "gptq", "fp8", "compressed-tensors" */
    /* GPTQ: zero points are stored less one (all but checkpoint_format gptq_v2) */
    bool zeros_less_one;
    glm4v_scheme_group *groups; /* AWQ, GPTQ, FP8: one, of every linear module */
    int64_t n_groups;
    char **ignore; /* [n_ignore] targets that are not quantized */
    int64_t n_ignore;
} glm4v_quantization_config;

/* Read it from dir. *config = NULL where there is none. What is ignored (how activations were
 * quantized, scales of a KV cache) is reported in a log line. FORMAT names file and key,
 * UNSUPPORTED the method or setting and what is supported. */
int glm4v_quantization_config_read(glm4v_quantization_config **config, const char *dir,
                                   const glm4v_log *log, glm4v_error *err);
/* The same for the text [0, len) of a config.json (fuzzing). */
int glm4v_quantization_config_parse(glm4v_quantization_config **config, const char *text,
                                    size_t len, const glm4v_log *log, glm4v_error *err);
void glm4v_quantization_config_free(glm4v_quantization_config **config);

/* The scheme of a module of class "Linear" or "Embedding", or NULL: it is not quantized. */
const glm4v_scheme *glm4v_quantization_config_find(const glm4v_quantization_config *config,
                                                   const char *module, const char *class_name);

#endif
