/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory limits of this process: the smallest of what the kernel calls available (with swap), what
 * is left of the control group's limit, and RLIMIT_AS. A source that cannot be read does not count.
 */
#define _GNU_SOURCE
#include "base/available_memory.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The beginning of a small kernel file as a string; "" if it cannot be read. */
static void read_text(char *text, size_t size, const char *path)
{
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, text, size - 1);
        close(fd);
    }
    text[n > 0 ? n : 0] = 0;
}

/* The number after `key` in text. */
static bool number_after(uint64_t *value, const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at && sscanf(at + strlen(key), "%" SCNu64, value) == 1;
}

static uint64_t system_available(void)
{
    char text[4096];
    uint64_t kib = 0, swap = 0;
    read_text(text, sizeof text, "/proc/meminfo");
    if (!number_after(&kib, text, "MemAvailable:"))
        return UINT64_MAX;
    number_after(&swap, text, "SwapFree:");
    return (kib + swap) << 10;
}

/* Limit less use of the group whose files lie at the root of the mount: that of a container. Use
 * counts the page cache of files, which gives way. */
static uint64_t group_available(void)
{
    char text[4096];
    uint64_t limit = 0, used = 0, cache = 0;
    read_text(text, sizeof text, "/sys/fs/cgroup/memory.max");
    if (!number_after(&limit, text, ""))
        return UINT64_MAX; /* no such file, or "max" */
    read_text(text, sizeof text, "/sys/fs/cgroup/memory.current");
    number_after(&used, text, "");
    read_text(text, sizeof text, "/sys/fs/cgroup/memory.stat");
    number_after(&cache, text, "\nfile ");
    used -= cache < used ? cache : used;
    return limit > used ? limit - used : 0;
}

static uint64_t address_space_available(void)
{
    char text[256];
    struct rlimit limit;
    uint64_t pages = 0;
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    read_text(text, sizeof text, "/proc/self/statm");
    number_after(&pages, text, "");
    uint64_t used = pages * sysconf(_SC_PAGESIZE);
    return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

uint64_t glm4v_memory_available(void)
{
    uint64_t least = system_available(), group = group_available(),
             space = address_space_available();
    least = group < least ? group : least;
    return space < least ? space : least;
}
