/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pictures.h. */
#define _GNU_SOURCE
#include "pictures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "fail.h"
#include "folder.h"
#include "input.h"

#define PROMPTS "prompts.txt"
#define MAX_LINE 4096
#define MAX_PROMPTS 64

static int no_memory(glm4v_error *err)
{
    return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a folder of pictures");
}

static bool is_prompts(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && !strcmp(slash + 1, PROMPTS);
}

/* A copy of the frame without gaps between its rows. */
static int keep(cli_pictures *p, const glm4v_image *from, glm4v_error *err)
{
    const int64_t row = GLM4V_CHANNELS * from->width;
    uint8_t *data = cli_alloc(from->height, row);
    if (!data)
        return no_memory(err);
    for (int32_t y = 0; y < from->height; y++)
        memcpy(data + y * row, from->data + y * from->stride, row);
    p->images[p->n_images++] =
        (glm4v_image) { .data = data, .width = from->width, .height = from->height, .stride = row };
    return 0;
}

static int decode(cli_pictures *p, const char *path, glm4v_error *err)
{
    const cli_stream_options options = { .media = { .timeout = CLI_TIMEOUT } };
    glm4v_error why = { 0 };
    cli_frame frame;
    cli_input *input = cli_input_open(path, &options, &why);
    int rc, got = input ? cli_input_next(input, &frame, &why) : -1;
    if (got > 0)
        rc = keep(p, &frame.image, err);
    else
        rc = cli_fail(err, GLM4V_ERR_INVALID, "%.200s cannot be used to calibrate: %.200s", path,
                      got ? why.msg : "it contains no frame");
    cli_input_close(&input);
    return rc;
}

static int add_prompt(cli_pictures *p, const char *line, size_t length, glm4v_error *err)
{
    if (p->n_prompts == MAX_PROMPTS)
        return cli_fail(err, GLM4V_ERR_INVALID, PROMPTS " has more than %d lines", MAX_PROMPTS);
    if (!p->prompts)
        p->prompts = cli_alloc(MAX_PROMPTS, sizeof *p->prompts);
    char *copy = p->prompts ? cli_alloc(length + 1, 1) : NULL;
    if (!copy)
        return no_memory(err);
    memcpy(copy, line, length);
    p->prompts[p->n_prompts++] = copy;
    return 0;
}

static int read_prompts(cli_pictures *p, const char *path, glm4v_error *err)
{
    char line[MAX_LINE];
    int rc = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return cli_fail(err, GLM4V_ERR_IO, "%.200s: %m", path);
    while (!rc && fgets(line, sizeof line, file)) {
        const size_t length = strcspn(line, "\r\n");
        if (length == sizeof line - 1)
            rc = cli_fail(err, GLM4V_ERR_INVALID, "%.200s: a line is longer than %d bytes", path,
                          MAX_LINE - 2);
        else if (length)
            rc = add_prompt(p, line, length, err);
    }
    if (!rc && ferror(file))
        rc = cli_fail(err, GLM4V_ERR_IO, "%.200s: %m", path);
    fclose(file);
    return rc;
}

int cli_pictures_load(cli_pictures *pictures, const char *folder, glm4v_error *err)
{
    cli_folder files = { 0 };
    int rc = cli_folder_list(&files, folder, false, err);
    pictures->images = cli_alloc(files.n ? files.n : 1, sizeof *pictures->images);
    if (!rc && !pictures->images)
        rc = no_memory(err);
    for (size_t i = 0; !rc && i < files.n; i++) {
        rc = is_prompts(files.paths[i]) ? read_prompts(pictures, files.paths[i], err)
                                        : decode(pictures, files.paths[i], err);
        cli_progress_of("decoding pictures", i, files.n);
    }
    cli_folder_free(&files);
    if (!rc && !pictures->n_images)
        rc = cli_fail(err, GLM4V_ERR_INVALID,
                      "%.200s holds no file; expected pictures of the kind the model will see",
                      folder);
    return rc;
}

void cli_pictures_free(cli_pictures *pictures)
{
    for (uint32_t i = 0; i < pictures->n_images; i++)
        free((void *)(uintptr_t)pictures->images[i].data);
    free(pictures->images);
    for (uint32_t i = 0; i < pictures->n_prompts; i++)
        free(pictures->prompts[i]);
    free(pictures->prompts);
    *pictures = (cli_pictures) { 0 };
}
