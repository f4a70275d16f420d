/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder of pictures, decoded, and the questions about them. */
#ifndef GLM4V_TOOLS_PICTURES_H
#define GLM4V_TOOLS_PICTURES_H

#include "glm4v/glm4v.h"

typedef struct {
    glm4v_image *images; /* in the order of their files' names */
    uint32_t n_images;
    char **prompts; /* lines of prompts.txt; none without that file */
    uint32_t n_prompts;
} cli_pictures;

/* Decode every file of the folder, hidden ones and prompts.txt apart; of a video the first frame.
 * 0, or a GLM4V_ERR_* and in err->msg the file that is not a picture. Free it also after a
 * failure. */
int cli_pictures_load(cli_pictures *pictures, const char *folder, glm4v_error *err);
void cli_pictures_free(cli_pictures *pictures);

#endif
