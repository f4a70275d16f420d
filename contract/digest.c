/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See digest.h. Nettle's SHA-256 uses the processor's instructions for it; GLib's is seven times as
 * slow, 27 ms for a picture of 1920x1080. */
#include "contract/digest.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

static void add_text(struct sha256_ctx *sum, const char *text)
{
    sha256_update(sum, strlen(text), (const uint8_t *)text);
}

/* The first digits that fit, an even number, and a NUL. */
static void finish(char *digest, size_t size, struct sha256_ctx *sum)
{
    uint8_t bytes[SHA256_DIGEST_SIZE];
    sha256_digest(sum, sizeof bytes, bytes);
    for (size_t i = 0; 2 * i + 2 < size; i++)
        snprintf(digest + 2 * i, 3, "%02x", bytes[i]);
}

void glm4v_digest_bytes(char digest[GLM4V_DIGEST_SIZE], const char *bytes, size_t n)
{
    struct sha256_ctx sum;
    sha256_init(&sum);
    sha256_update(&sum, n, (const uint8_t *)bytes);
    finish(digest, GLM4V_DIGEST_SIZE, &sum);
}

bool glm4v_digest_image(char digest[GLM4V_DIGEST_SIZE], const glm4v_image *image)
{
    const size_t row = GLM4V_CHANNELS * (size_t)image->width;
    struct sha256_ctx sum;
    char head[48];
    if (image->memory != GLM4V_IMAGE_HOST || image->format != GLM4V_PIXELS_RGB)
        return false;
    const uint8_t *pixels =
        image->data + image->top * image->stride + GLM4V_CHANNELS * (int64_t)image->left;
    snprintf(head, sizeof head, "RGB %d %d\n", image->width, image->height);
    sha256_init(&sum);
    add_text(&sum, head);
    for (int32_t y = 0; y < image->height; y++)
        sha256_update(&sum, row, pixels + y * image->stride);
    finish(digest, GLM4V_DIGEST_SIZE, &sum);
    return true;
}

void glm4v_digest_prompt(char hash[GLM4V_PROMPT_HASH_SIZE], const char *system, const char *prompt)
{
    struct sha256_ctx sum;
    sha256_init(&sum);
    if (system)
        add_text(&sum, system);
    sha256_update(&sum, 1, (const uint8_t *)""); /* the NUL parts them */
    add_text(&sum, prompt);
    finish(hash, GLM4V_PROMPT_HASH_SIZE, &sum);
}
