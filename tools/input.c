/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See input.h. The first bytes decide: a picture goes to picture/, anything else to GStreamer. */
#define _GNU_SOURCE
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <gst/base/gsttypefindhelper.h>
#include <gst/gst.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob.h"
#include "cli.h"
#include "fail.h"
#include "picture/picture.h"

struct cli_input {
    cli_blob bytes; /* of a picture, or the beginning of the data of a pipe */
    int fd;         /* of that pipe, or of a file; -1 = none */
    cli_feed feed;
    char *uri; /* what GStreamer reads */
    cli_picture *picture;
    cli_stream *stream;
};

static bool has_suffix(const char *path, const char *const *suffixes)
{
    for (; *suffixes; suffixes++) {
        const size_t n = strlen(path), m = strlen(*suffixes);
        if (n > m && path[n - m - 1] == '.' && !strcasecmp(path + n - m, *suffixes))
            return true;
    }
    return false;
}

/* One JPEG after the other: possibly too long to be read completely only to see what follows the
 * first.
 */
static bool is_named_motion_jpeg(const char *path)
{
    static const char *const suffixes[] = { "mjpg", "mjpeg", NULL };
    return path && has_suffix(path, suffixes);
}

static bool is_picture(const cli_blob *bytes, const char *path)
{
    return cli_picture_is(bytes->data, bytes->size, path) && !is_named_motion_jpeg(path);
}

/* Opens a file of the disk, or a pipe; sets *fd, or fails in err. */
static int open_file(int *fd, const char *path, struct stat *st, glm4v_error *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a device must not hang here */
    if (*fd < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? cli_fail(err, GLM4V_ERR_NOT_FOUND, "%s: no such file", path)
                   : cli_fail(err, GLM4V_ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(*fd, st) || (!S_ISREG(st->st_mode) && !S_ISFIFO(st->st_mode)))
        return cli_fail(err, GLM4V_ERR_IO, "%s: not a file", path);
    if (S_ISFIFO(st->st_mode) && fcntl(*fd, F_SETFL, 0))
        return cli_fail(err, GLM4V_ERR_IO, "%s: %s", path, strerror(errno));
    return S_ISFIFO(st->st_mode) || st->st_size
               ? 0
               : cli_fail(err, GLM4V_ERR_FORMAT, "%s: the file is empty", path);
}

static int open_stream(cli_input *input, const cli_stream_options *options, glm4v_error *err)
{
    cli_stream_options all = *options;
    all.media.feed = input->feed.head ? &input->feed : NULL;
    input->stream = cli_stream_open(input->uri, &all, err);
    return input->stream ? 0 : err->code;
}

/* GStreamer goes on with the bytes that were read already. */
static int open_feed(cli_input *input, int fd, const cli_stream_options *options, glm4v_error *err)
{
    input->feed = (cli_feed) { .head = &input->bytes, .fd = fd };
    input->uri = g_strdup(CLI_FEED_URI);
    return open_stream(input, options, err);
}

/* All of it is in memory. */
static int open_picture(cli_input *input, const char *path, const cli_stream_options *options,
                        glm4v_error *err)
{
    if (input->bytes.size > CLI_PICTURE_MAX_FILE)
        return cli_fail(err, GLM4V_ERR_UNSUPPORTED, "the picture's file is larger than %d MiB",
                        CLI_PICTURE_MAX_FILE >> 20);
    input->picture =
        cli_picture_open(input->bytes.data, input->bytes.size, path, options->media.interval, err);
    return input->picture ? 0 : err->code;
}

/* Whether a JPEG ends and another one begins: not for sure, a thumbnail may look so. */
static bool may_be_motion_jpeg(const cli_blob *bytes)
{
    const uint8_t *at = bytes->data, *end = bytes->data + bytes->size;
    while ((at = memmem(at, (size_t)(end - at), "\xff\xd9", 2))) {
        at += 2;
        while (at < end && !*at)
            at++;
        if (end - at >= 3 && !memcmp(at, "\xff\xd8\xff", 3))
            return true;
    }
    return false;
}

/* A pipe: what comes out of it can be read once. Motion JPEG may have no end. */
static int open_pipe(cli_input *input, int fd, const char *path, const cli_stream_options *options,
                     glm4v_error *err)
{
    size_t wanted = CLI_PICTURE_HEAD;
    int rc = cli_blob_read(&input->bytes, fd, wanted, err);
    if (!rc && !input->bytes.size)
        rc = cli_fail(err, GLM4V_ERR_FORMAT, "the input is empty");
    if (rc || !is_picture(&input->bytes, path))
        return rc ? rc : open_feed(input, fd, options, err);
    while (!rc && input->bytes.size == wanted && wanted <= CLI_PICTURE_MAX_FILE) {
        wanted *= 2;
        rc = cli_blob_read(&input->bytes, fd, wanted, err);
        if (rc || !may_be_motion_jpeg(&input->bytes))
            continue;
        const bool motion =
            !open_picture(input, path, options, err) && cli_picture_is_motion_jpeg(input->picture);
        cli_picture_close(&input->picture);
        if (motion)
            return open_feed(input, fd, options, err);
    }
    return rc ? rc : open_picture(input, path, options, err);
}

static int open_disk_file(cli_input *input, int fd, const char *path,
                          const cli_stream_options *options, glm4v_error *err)
{
    GError *error = NULL;
    int rc = cli_blob_read(&input->bytes, fd, CLI_PICTURE_HEAD, err);
    if (!rc && is_picture(&input->bytes, path)) {
        rc = cli_blob_read(&input->bytes, fd, (size_t)CLI_PICTURE_MAX_FILE + 1, err);
        if (!rc)
            rc = open_picture(input, path, options, err);
    }
    if (rc || (input->picture && !cli_picture_is_motion_jpeg(input->picture)))
        return rc;
    cli_picture_close(&input->picture);
    cli_blob_free(&input->bytes);
    input->uri = gst_filename_to_uri(path, &error);
    rc = input->uri ? open_stream(input, options, err)
                    : cli_fail(err, GLM4V_ERR_IO, "%s: %s", path, error->message);
    g_clear_error(&error);
    return rc;
}

static int open_path(cli_input *input, const char *path, const cli_stream_options *options,
                     glm4v_error *err)
{
    struct stat st;
    int rc = open_file(&input->fd, path, &st, err);
    if (rc)
        return rc;
    return S_ISFIFO(st.st_mode) ? open_pipe(input, input->fd, path, options, err)
                                : open_disk_file(input, input->fd, path, options, err);
}

/* A file that the shell opened is read as a file: from any place, more than once. */
static int open_standard_input(cli_input *input, const cli_stream_options *options,
                               glm4v_error *err)
{
    struct stat st;
    if (!fstat(STDIN_FILENO, &st) && S_ISREG(st.st_mode) && !lseek(STDIN_FILENO, 0, SEEK_CUR) &&
        !access("/proc/self/fd/0", R_OK))
        return open_path(input, "/proc/self/fd/0", options, err);
    return open_pipe(input, STDIN_FILENO, NULL, options, err);
}

static int open_data_uri(cli_input *input, const char *name, const cli_stream_options *options,
                         glm4v_error *err)
{
    int rc = cli_blob_from_data_uri(&input->bytes, name, err);
    if (!rc && is_picture(&input->bytes, NULL))
        rc = open_picture(input, NULL, options, err);
    if (rc || (input->picture && !cli_picture_is_motion_jpeg(input->picture)))
        return rc;
    cli_picture_close(&input->picture);
    return open_feed(input, -1, options, err);
}

static int open_any(cli_input *input, const char *name, const cli_stream_options *options,
                    glm4v_error *err)
{
    GError *error = NULL;
    if (!strcmp(name, "-"))
        return open_standard_input(input, options, err);
    if (!strncasecmp(name, "data:", 5))
        return open_data_uri(input, name, options, err);
    if (!gst_uri_is_valid(name) || !strstr(name, "://"))
        return open_path(input, name, options, err);
    if (!gst_uri_has_protocol(name, "file")) {
        input->uri = g_strdup(name);
        return open_stream(input, options, err);
    }
    char *path = g_filename_from_uri(name, NULL, &error);
    int rc = path ? open_path(input, path, options, err)
                  : cli_fail(err, GLM4V_ERR_INVALID, "%s", error->message);
    g_clear_error(&error);
    g_free(path);
    return rc;
}

cli_input *cli_input_open(const char *name, const cli_stream_options *options, glm4v_error *err)
{
    cli_input *input = cli_alloc(1, sizeof *input);
    if (!input) {
        cli_fail(err, GLM4V_ERR_NOMEM, "no memory for an input");
        return NULL;
    }
    input->fd = -1;
    if (open_any(input, name, options, err))
        cli_input_close(&input);
    return input;
}

int cli_input_next(cli_input *input, cli_frame *frame, glm4v_error *err)
{
    return input->picture ? cli_picture_next(input->picture, frame, err)
                          : cli_stream_next(input->stream, frame, err);
}

void cli_input_tell(cli_input *input, cli_troubles *troubles)
{
    *troubles = (cli_troubles) { 0 };
    if (input->stream)
        cli_stream_tell(input->stream, troubles);
}

void cli_input_close(cli_input **input)
{
    if (!*input)
        return;
    cli_picture_close(&(*input)->picture);
    cli_stream_close(&(*input)->stream);
    cli_blob_free(&(*input)->bytes);
    g_free((*input)->uri);
    if ((*input)->fd >= 0)
        close((*input)->fd);
    free(*input);
    *input = NULL;
}

/* The type that GStreamer finds is a video, or a container that may contain one. */
static bool is_video(const cli_blob *bytes)
{
    static const char *const containers[] = { "video/", "multipart/", "application/ogg",
                                              "application/mxf", "application/vnd.rn-realmedia" };
    GstCaps *caps = gst_type_find_helper_for_data(NULL, bytes->data, bytes->size, NULL);
    const char *name = caps ? gst_structure_get_name(gst_caps_get_structure(caps, 0)) : "";
    bool found = false;
    for (size_t i = 0; i < G_N_ELEMENTS(containers); i++)
        found |= g_str_has_prefix(name, containers[i]);
    gst_clear_caps(&caps);
    return found;
}

bool cli_input_is_media(const char *path)
{
    static const char *const suffixes[] = { "avi",  "avif", "bmp",   "flv",  "gif",   "heic",
                                            "heif", "ico",  "jpe",   "jpeg", "jpg",   "jxl",
                                            "m2ts", "m4v",  "mjpeg", "mjpg", "mkv",   "mov",
                                            "mp4",  "mpeg", "mpg",   "mts",  "ogv",   "pbm",
                                            "pgm",  "png",  "pnm",   "ppm",  "targa", "tga",
                                            "tif",  "tiff", "webm",  "webp", "wmv",   NULL };
    glm4v_error err = { 0 };
    cli_blob head = { 0 };
    struct stat st;
    int fd = -1;
    if (has_suffix(path, suffixes))
        return true;
    bool media = !open_file(&fd, path, &st, &err) && S_ISREG(st.st_mode) &&
                 !cli_blob_read(&head, fd, 1 << 16, &err) &&
                 (cli_picture_is(head.data, head.size, path) || is_video(&head));
    if (fd >= 0)
        close(fd);
    cli_blob_free(&head);
    return media;
}
