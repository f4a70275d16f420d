/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See digest.h. */
#include "contract/digest.h"

#include <glib.h>

static void add(GChecksum *sum, const void *bytes, size_t n)
{
    g_checksum_update(sum, bytes, (gssize)n);
}

/* The first digits that fit, and a NUL. Frees sum. */
static void finish(char *digest, size_t size, GChecksum *sum)
{
    g_strlcpy(digest, g_checksum_get_string(sum), size);
    g_checksum_free(sum);
}

void glm4v_digest_bytes(char digest[GLM4V_DIGEST_SIZE], const char *bytes, size_t n)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    add(sum, bytes, n);
    finish(digest, GLM4V_DIGEST_SIZE, sum);
}

bool glm4v_digest_image(char digest[GLM4V_DIGEST_SIZE], const glm4v_image *image)
{
    const size_t row = GLM4V_CHANNELS * (size_t)image->width;
    char head[48];
    if (image->memory != GLM4V_IMAGE_HOST || image->format != GLM4V_PIXELS_RGB)
        return false;
    const uint8_t *pixels =
        image->data + image->top * image->stride + GLM4V_CHANNELS * (int64_t)image->left;
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    const int n = g_snprintf(head, sizeof head, "RGB %d %d\n", image->width, image->height);
    add(sum, head, (size_t)n);
    for (int32_t y = 0; y < image->height; y++)
        add(sum, pixels + y * image->stride, row);
    finish(digest, GLM4V_DIGEST_SIZE, sum);
    return true;
}

void glm4v_digest_prompt(char hash[GLM4V_PROMPT_HASH_SIZE], const char *system, const char *prompt)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    if (system)
        g_checksum_update(sum, (const guchar *)system, -1);
    add(sum, "", 1); /* the NUL parts them */
    g_checksum_update(sum, (const guchar *)prompt, -1);
    finish(hash, GLM4V_PROMPT_HASH_SIZE, sum);
}
