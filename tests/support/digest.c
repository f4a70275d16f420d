/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See digest.h. */
#include "digest.h"

#define DIGEST(field) h = digest_bytes(&(field), sizeof(field), h)

uint64_t digest_weight(const glm4v_weight *w, uint64_t h)
{
    if (!w)
        return h;
    DIGEST(w->form);
    DIGEST(w->n_out);
    DIGEST(w->n_in);
    DIGEST(w->data);
    DIGEST(w->scale);
    DIGEST(w->zero);
    DIGEST(w->order);
    DIGEST(w->blocks);
    DIGEST(w->bytes);
    return h;
}

uint64_t digest_table(const glm4v_table *table, uint64_t h)
{
    if (!table)
        return h;
    DIGEST(table->form);
    DIGEST(table->n_rows);
    DIGEST(table->n_cols);
    DIGEST(table->data);
    DIGEST(table->scale);
    DIGEST(table->bytes);
    return h;
}

uint64_t digest_kv(const glm4v_kv *kv, uint64_t h)
{
    if (!kv)
        return h;
    DIGEST(kv->shape.form);
    DIGEST(kv->shape.layers);
    DIGEST(kv->shape.heads);
    DIGEST(kv->shape.head_dim);
    DIGEST(kv->shape.slots);
    DIGEST(kv->shape.length);
    DIGEST(kv->shape.kept);
    DIGEST(kv->keys);
    DIGEST(kv->values);
    DIGEST(kv->scales);
    return h;
}

uint64_t digest_image(const glm4v_image *image, uint64_t h)
{
    if (!image)
        return h;
    DIGEST(image->data);
    DIGEST(image->width);
    DIGEST(image->height);
    DIGEST(image->stride);
    DIGEST(image->timestamp);
    DIGEST(image->memory);
    DIGEST(image->device);
    DIGEST(image->format);
    DIGEST(image->plane);
    DIGEST(image->plane_stride);
    DIGEST(image->matrix);
    DIGEST(image->full_range);
    DIGEST(image->left);
    DIGEST(image->top);
    return h;
}
