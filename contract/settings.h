/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The settings object: all that an answer depends on, beside its picture. It stands in a stream of
 * results before the first that used it, and results name it by its hash. */
#ifndef GLM4V_CONTRACT_SETTINGS_H
#define GLM4V_CONTRACT_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "contract/digest.h"
#include "glm4v/glm4v.h"

/* What the model is. Borrowed strings; of a server's only the name is known, the others are "". */
typedef struct {
    const char *name, *hash;
    const char *quant;    /* forms of its weights: glm4v_contract_forms() */
    const char *isa;      /* level of the kernels, or the GPU */
    const char *products; /* table of a GPU's products, or "" */
    const char *device;   /* that prepares images */
} glm4v_contract_model;

/* Shape of the answers. Borrowed. */
typedef struct {
    const char *output; /* "text", "choice", "json" */
    const char *const *choices;
    const unsigned char *fails; /* [n_choices]; NULL: there is no verdict */
    const double *thresholds;   /* [n_choices], with fails */
    uint32_t n_choices;
    const char *pattern, *schema; /* or NULL */
    const char *timeout_verdict;  /* of results without an answer; NULL: they have none */
} glm4v_contract_shape;

/* Zeros are written as they are: they mean the engine's defaults. Borrowed strings. */
typedef struct {
    const char *const *prompts; /* a result tells which, if there are several */
    uint32_t n_prompts;
    bool placeholders;           /* {time} and the like in them are replaced */
    const char *system, *camera; /* or NULL */
    glm4v_contract_shape shape;
    double temperature, top_p, repetition_penalty;
    uint32_t top_k;
    uint64_t seed;
    bool thinking;
    uint32_t max_tokens, context_length;
    uint64_t max_pixels;
    const char *kv_cache;              /* NULL = "auto" */
    const glm4v_contract_model *model; /* NULL = not loaded yet */
} glm4v_contract_settings;

/* One line of JSON and a new line, g_free(); its last member is the hash, the digest of the line
 * without that member. */
char *glm4v_contract_settings_write(const glm4v_contract_settings *settings,
                                    char hash[GLM4V_DIGEST_SIZE]);

/* Is a line, without its new line, as it was written? */
bool glm4v_contract_settings_check(const char *line, char hash[GLM4V_DIGEST_SIZE]);

#endif
