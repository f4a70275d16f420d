/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The converter, glm4v_quantize(): what of a checkpoint becomes what (quantize.c), its config.json
 * (quantize/write_config.c), the files beside the weights (quantize/write_files.c). */
#ifndef GLM4V_ENGINE_QUANTIZE_H
#define GLM4V_ENGINE_QUANTIZE_H

#include "base/atomic_folder.h"
#include "base/log.h"
#include "base/string_buffer.h"
#include "checkpoint/safetensors.h"
#include "model/quantization.h"
#include "model/weights.h"

/* What becomes of one tensor of the source. */
typedef struct {
    const glm4v_tensor *from;
    const glm4v_item *item; /* of the plan that it gives rows to, or NULL */
    glm4v_form form;        /* of what is written; with copy: unused */
    bool copy;              /* bytes as they are */
    bool table;             /* looked up by rows */
    bool tied;              /* both embedding and head */
    bool linear;            /* a matrix that a quantized checkpoint would be expected to quantize */
    int64_t n_out, n_in;    /* of matrices */
    int64_t output;         /* index of its first tensor in the list of outputs */
    uint32_t pieces;        /* how many times rows or bytes are read for it */
} glm4v_conversion;

/* UNSUPPORTED: by src/config.json the checkpoint is quantized. NOT_FOUND, IO, FORMAT, NOMEM. */
int glm4v_quantize_check_source(const char *src, glm4v_error *err);
/* Make of src/config.json the text to write: "quantization_config" is added, all else stays as it
 * is, byte for byte. Errors as above. */
int glm4v_quantize_config(glm4v_text_out *out, const char *src, const glm4v_conversion *conversions,
                          int64_t n, glm4v_error *err);

/* Files of src to copy: regular, in the folder itself, no weights, not config.json, not hidden. */
typedef struct {
    char **names;
    int64_t n, capacity;
    uint64_t bytes;
} glm4v_file_list;

/* Which are to copy. What cannot be opened (a link out of the folder, a FIFO) is left out with a
 * warning. IO, NOMEM. */
int glm4v_file_list_make(glm4v_file_list *list, const char *src, const glm4v_log *log,
                         glm4v_error *err);
/* IO: also when one changes while it is read. */
int glm4v_file_list_copy(const glm4v_file_list *list, const char *src, glm4v_atomic_folder *to,
                         glm4v_error *err);
void glm4v_file_list_clear(glm4v_file_list *list);

#endif
