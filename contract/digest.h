/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Digests by which results are derived again: SHA-256, in hexadecimal digits. */
#ifndef GLM4V_CONTRACT_DIGEST_H
#define GLM4V_CONTRACT_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "glm4v/glm4v.h"

#define GLM4V_DIGEST_SIZE 65      /* of a digest, with its NUL */
#define GLM4V_PROMPT_HASH_SIZE 17 /* of a prompt's, which is cut to 64 bits */

void glm4v_digest_bytes(char digest[GLM4V_DIGEST_SIZE], const char *bytes, size_t n);

/* Of the pixels that the model sees, before they are resized: the text "RGB WIDTH HEIGHT", a new
 * line, and the bytes of each row, red first, without padding. False, and no digest, if the image
 * is not RGB in memory of the process. */
bool glm4v_digest_image(char digest[GLM4V_DIGEST_SIZE], const glm4v_image *image);

/* Of what is asked: the system prompt, which may be NULL, a NUL, and the prompt. */
void glm4v_digest_prompt(char hash[GLM4V_PROMPT_HASH_SIZE], const char *system, const char *prompt);

#endif
