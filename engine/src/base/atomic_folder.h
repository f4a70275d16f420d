/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing a folder so that it is there completely or not at all: files are created in a temporary
 * folder beside it, each is synced, then the folder, then it is renamed, then its parent is synced.
 * A lock file beside both keeps a second writer out and names the temporary folder, so that the
 * next run after a crash can remove it. Folders hold files only, no folders. */
#ifndef GLM4V_ENGINE_ATOMIC_FOLDER_H
#define GLM4V_ENGINE_ATOMIC_FOLDER_H

#include <stddef.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

typedef struct glm4v_atomic_folder glm4v_atomic_folder;

/* Begin to write folder dst, which is not there yet or is empty, and does not lie in folder src;
 * remove what an interrupted run for the same dst left. INVALID (dst is taken, or where it may not
 * be), BUSY (another process or thread writes it), NOT_FOUND (its parent), IO, NOMEM. */
int glm4v_atomic_folder_begin(glm4v_atomic_folder **folder, const char *src, const char *dst,
                              glm4v_error *err);

/* IO unless the file system has room for so many bytes. */
int glm4v_atomic_folder_room(const glm4v_atomic_folder *p, uint64_t bytes, glm4v_error *err);

/* A new file of the folder. One at a time: _write from any thread, _finish_file syncs and closes.
 * Without _finish_file it is closed by glm4v_atomic_folder_end(). */
int glm4v_atomic_folder_file(glm4v_atomic_folder *p, const char *name, glm4v_error *err);
int glm4v_atomic_folder_write(const glm4v_atomic_folder *p, uint64_t offset, const void *data,
                              size_t size, glm4v_error *err);
int glm4v_atomic_folder_finish_file(glm4v_atomic_folder *p, glm4v_error *err);

/* All files are there: the folder takes its name. */
int glm4v_atomic_folder_commit(glm4v_atomic_folder *p, glm4v_error *err);

/* Let go; without a commit nothing stays. NULL is allowed. */
void glm4v_atomic_folder_end(glm4v_atomic_folder **folder);

#endif
