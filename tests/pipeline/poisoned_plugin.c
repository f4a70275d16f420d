/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A GStreamer plugin that no test may load: the process that loads it appends a line to the file
 * that GLM4V_TEST_POISON names, and ends. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void poison(void)
{
    static const char line[] = "a plugin that is not in gst-plugins.txt was loaded\n";
    const char *path = getenv("GLM4V_TEST_POISON");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    if (write(fd, line, strlen(line)) < 0 || write(STDERR_FILENO, line, strlen(line)) < 0)
        _exit(98);
    _exit(99);
}
