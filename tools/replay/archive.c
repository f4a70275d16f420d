/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See archive.h. Pictures are decoded twice: once for their digests, and when they are needed. So
 * only one is in memory at a time. */
#include "replay/archive.h"

#include <gst/gst.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "fail.h"
#include "folder.h"
#include "input.h"
#include "interrupt.h"
#include "media.h"

/* Where a picture is. */
typedef struct {
    char *path;
    cli_part part; /* of it; no width: all of it */
} place;

struct cli_archive {
    GHashTable *wanted; /* digest -> place, NULL while it is not found */
    cli_part parts[CLI_MOST_PARTS];
    size_t n_parts;
};

static void free_place(gpointer data)
{
    place *p = data;
    if (p)
        g_free(p->path);
    g_free(p);
}

cli_archive *cli_archive_new(void)
{
    cli_archive *archive = g_new0(cli_archive, 1);
    archive->wanted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_place);
    return archive;
}

void cli_archive_free(cli_archive **archive)
{
    if (*archive)
        g_hash_table_unref((*archive)->wanted);
    g_clear_pointer(archive, g_free);
}

void cli_archive_want(cli_archive *archive, const char *digest)
{
    if (!g_hash_table_contains(archive->wanted, digest))
        g_hash_table_insert(archive->wanted, g_strdup(digest), NULL);
}

void cli_archive_want_part(cli_archive *archive, const cli_part *part)
{
    for (size_t i = 0; i < archive->n_parts; i++)
        if (!memcmp(&archive->parts[i], part, sizeof *part))
            return;
    if (archive->n_parts < CLI_MOST_PARTS)
        archive->parts[archive->n_parts++] = *part;
}

/* ---- reading ---- */

/* The one frame of a picture; false with the reason. It lies in *input, which the caller closes. */
static bool open_picture(const char *path, cli_input **input, cli_frame *frame, glm4v_error *err)
{
    const cli_stream_options options = { .media = { .timeout = CLI_TIMEOUT } };
    *input = cli_input_open(path, &options, err);
    const int got = *input ? cli_input_next(*input, frame, err) : -1;
    if (got > 0 && frame->pts < 0)
        return true;
    if (got >= 0)
        cli_fail(err, GLM4V_ERR_UNSUPPORTED, "it is no still picture");
    return false;
}

/* False: it does not lie within. */
static bool cut(glm4v_image *image, const cli_part *part)
{
    if (part->x < 0 || part->y < 0 || part->width < 1 || part->height < 1 ||
        part->width > image->width - part->x || part->height > image->height - part->y)
        return false;
    image->data += part->y * image->stride + GLM4V_CHANNELS * (int64_t)part->x;
    image->width = part->width;
    image->height = part->height;
    return true;
}

static void note(cli_archive *archive, const char *path, const cli_part *part,
                 const glm4v_image *image)
{
    char digest[GLM4V_DIGEST_SIZE];
    gpointer known = NULL;
    if (!glm4v_digest_image(digest, image) ||
        !g_hash_table_lookup_extended(archive->wanted, digest, NULL, &known) || known)
        return;
    place *found = g_new(place, 1);
    *found = (place) { g_strdup(path), *part };
    g_hash_table_insert(archive->wanted, g_strdup(digest), found);
}

static int read_file(cli_archive *archive, const char *path, glm4v_error *err)
{
    cli_input *input = NULL;
    cli_frame frame;
    glm4v_error why = { 0 };
    const bool opened = open_picture(path, &input, &frame, &why);
    if (opened) {
        note(archive, path, &(cli_part) { 0 }, &frame.image);
        for (size_t i = 0; i < archive->n_parts; i++) {
            glm4v_image image = frame.image;
            if (cut(&image, &archive->parts[i]))
                note(archive, path, &archive->parts[i], &image);
        }
    }
    cli_input_close(&input);
    return opened ? 0 : cli_fail(err, why.code, "%.200s: %.240s", path, why.msg);
}

static int read_folder(cli_archive *archive, const char *path, glm4v_error *err)
{
    cli_folder folder = { 0 };
    int rc = cli_folder_list(&folder, path, true, err);
    for (size_t i = 0; !rc && i < folder.n && !cli_interrupted(); i++) {
        glm4v_error why = { 0 };
        if (!cli_input_is_media(folder.paths[i])) {
            cli_message("%s: skipped, neither a picture nor a video", folder.paths[i]);
            continue;
        }
        cli_progress_of("reading pictures", i, folder.n);
        if (read_file(archive, folder.paths[i], &why))
            cli_message("%s; skipped", why.msg);
    }
    cli_progress_clear();
    cli_folder_free(&folder);
    return rc;
}

int cli_archive_read(cli_archive *archive, char **paths, int n, glm4v_error *err)
{
    int rc = 0;
    for (int i = 0; i < n && !rc && !cli_interrupted(); i++)
        rc = (cli_is_folder(paths[i]) ? read_folder : read_file)(archive, paths[i], err);
    return rc;
}

/* ---- loading ---- */

/* Rows without padding, in memory of their own. */
static int keep(glm4v_image *image, glm4v_error *err)
{
    const size_t row = GLM4V_CHANNELS * image->width;
    uint8_t *pixels = cli_alloc(image->height, row);
    if (!pixels)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a picture");
    for (int32_t y = 0; y < image->height; y++)
        memcpy(pixels + y * row, image->data + y * image->stride, row);
    image->data = pixels;
    image->stride = row;
    return 0;
}

bool cli_archive_load(const cli_archive *archive, const char *digest, glm4v_image *image,
                      glm4v_error *err)
{
    const place *found = g_hash_table_lookup(archive->wanted, digest);
    char now[GLM4V_DIGEST_SIZE];
    cli_input *input = NULL;
    cli_frame frame;
    int rc = 0;
    if (!found)
        return false;
    if (!open_picture(found->path, &input, &frame, err)) {
        rc = err->code;
    } else {
        *image = frame.image;
        if ((found->part.width && !cut(image, &found->part)) || !glm4v_digest_image(now, image) ||
            strcmp(now, digest))
            rc = cli_fail(err, GLM4V_ERR_IO, "%.200s: it changes while it is used", found->path);
        else
            rc = keep(image, err);
    }
    cli_input_close(&input);
    return !rc;
}
