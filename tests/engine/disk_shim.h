/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine's calls that read and change the disk, led here by the linker (--wrap; `disk_wrapped`
 * in meson.build): counted, failed, noted, and the process killed after one of them. Syncing does
 * nothing: the order is what counts. */
#ifndef GLM4V_TEST_DISK_SHIM_H
#define GLM4V_TEST_DISK_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    LOCK,
    CREATE,
    WRITE,
    TRUNCATE,
    SYNC,
    MKDIR,
    RENAME,
    UNLINK,
    CLOSE,
    READ, /* the rest changes nothing */
    OPEN,
    N_CALLS
} call;

extern const char *const call_names[N_CALLS];

/* What the process did to the disk, in order. */
typedef struct {
    call what;
    char name[80]; /* of the file or folder, as it was called when it was opened */
} event;

/* A call that has succeeded, in full. */
typedef struct {
    call what;
    int dir, fd; /* the folder that path is in; the file, or what was opened */
    const char *path, *to;
    const void *data; /* written: [offset, offset + size); truncated to size */
    size_t size;
    uint64_t offset;
} change;

#define MAX_EVENTS 4096
#define MAX_FDS 1024

typedef struct {
    int kill_after; /* number of the call after which the process dies, from 1; 0 = off */
    int at;         /* number of the call of kind `which` that fails, from 1; 0 = off */
    call which;
    bool from_then_on;
    int error; /* 0: a write comes back short */
    void (*done)(const change *c);
    int count[N_CALLS], total;
    event events[MAX_EVENTS];
    char opened[MAX_FDS][80];
} disk_shim;

extern disk_shim shim;

void shim_reset(void);

/* close() itself, unseen. */
int __real_close(int fd);

#endif
