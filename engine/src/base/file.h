/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of a model directory: opened so that nothing but a regular file inside it is ever read,
 * never mapped, and recognised again at the end of a load. */
#ifndef GLM4V_ENGINE_FILE_H
#define GLM4V_ENGINE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

/* What a file was when it was opened. */
typedef struct {
    uint64_t device, inode, size;
    int64_t mtime_s, mtime_ns;
} glm4v_file_id;

/* Open dir/name for reading. Symbolic links may lead elsewhere inside dir, or to the `blobs` folder
 * of a Hugging Face download cache that dir is a snapshot of; a link to anywhere else, a FIFO, a
 * device or a folder is refused without blocking. *fd is the caller's to close. NOT_FOUND, IO,
 * NOMEM; messages call the file `name`. */
int glm4v_file_open(int *fd, glm4v_file_id *id, const char *dir, const char *name,
                    glm4v_error *err);

/* Read exactly [offset, offset + len). IO names the offset where the file ended or failed. Any
 * thread. */
int glm4v_file_read(int fd, const char *name, uint64_t offset, void *data, size_t len,
                    glm4v_error *err);

/* IO unless fd still has the size, modification time and inode of id. */
int glm4v_file_verify(int fd, const char *name, const glm4v_file_id *id, glm4v_error *err);

/* False: there is certainly nothing called dir/name. */
bool glm4v_file_exists(const char *dir, const char *name);

/* "dir/name", or NULL when memory is out. */
char *glm4v_path_join(const char *dir, const char *name);

/* Bytes of a file's beginning that glm4v_file_check_head() needs, if there are as many. */
#define GLM4V_FILE_HEAD 256

/* FORMAT when head [0, len), the beginning of file `name`, shows that something else was saved in
 * its place: a Git LFS pointer, a web page. as_weights: nor may it be a server's message, plain
 * text, or weights of another format. */
int glm4v_file_check_head(const char *name, const char *head, size_t len, bool as_weights,
                          glm4v_error *err);

#endif
