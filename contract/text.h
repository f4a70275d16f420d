/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts on their way to the model and back. */
#ifndef GLM4V_CONTRACT_TEXT_H
#define GLM4V_CONTRACT_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

#define GLM4V_UNKNOWN_TIME UINT64_MAX
#define GLM4V_FORMS_SIZE 128

/* What stands for the placeholders of a prompt. */
typedef struct {
    uint64_t time; /* {time}, nanoseconds, or GLM4V_UNKNOWN_TIME */
    uint64_t frame;
    const char *label, *camera; /* or NULL */
} glm4v_placeholders;

/* A prompt with its placeholders replaced; g_free(). It ends behind 16 MiB and the value or
 * character that reached them: 131072 tokens, the longest context, have less. */
char *glm4v_contract_expand(const char *prompt, const glm4v_placeholders *values);

/* Text that may go anywhere: valid UTF-8, at most 64 KiB, without control characters and direction
 * overrides, without blanks at its ends. g_free(). */
char *glm4v_contract_sanitize(const char *text);

/* The forms of a model's weights, as option `quantization` takes them. */
void glm4v_contract_forms(char forms[GLM4V_FORMS_SIZE], const glm4v_model_info *info);

#endif
