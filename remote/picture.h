/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images as picture files. */
#ifndef GLM4V_REMOTE_PICTURE_H
#define GLM4V_REMOTE_PICTURE_H

#include "base/string_buffer.h"
#include "remote/remote.h"

/* Make it smaller if it has more than max_pixels, and code it; file->data is glm4v_free()d by the
 * caller, after a failure too. */
int remote_code_picture(glm4v_text_out *file, const glm4v_image *image, uint64_t max_pixels,
                        remote_coding coding, glm4v_error *err);

#endif
