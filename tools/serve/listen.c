/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See listen.h. */
#define _GNU_SOURCE
#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../fail.h"

enum { BACKLOG = 512 };

static bool is_loopback(const struct sockaddr *address)
{
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;
    if (address->sa_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* The name with the port that was given. */
static void tell_name(serve_listener *listener)
{
    struct sockaddr_storage address = { 0 };
    socklen_t size = sizeof address;
    char host[64] = "", port[16] = "";
    getsockname(listener->fd, (struct sockaddr *)&address, &size);
    getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(listener->name, sizeof listener->name,
             address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    listener->local = is_loopback((struct sockaddr *)&address);
}

static int bind_to(serve_listener *listener, const char *given, const struct sockaddr *address,
                   socklen_t size, glm4v_error *err)
{
    const int on = 1;
    listener->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0)
        return cli_fail(err, GLM4V_ERR_IO, "%.200s: %s", given, strerror(errno));
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener->fd, address, size) || listen(listener->fd, BACKLOG)) {
        const int rc =
            cli_fail(err, GLM4V_ERR_IO, "cannot listen on %.200s: %s", given, strerror(errno));
        close(listener->fd);
        listener->fd = -1;
        return rc;
    }
    return 0;
}

/* Is there a socket that nobody listens on? */
static bool is_left_over(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool refused = fd >= 0 &&
                         connect(fd, (const struct sockaddr *)address, sizeof *address) &&
                         errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return refused;
}

static int listen_unix(serve_listener *listener, const char *path, glm4v_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (!*path || strlen(path) >= sizeof address.sun_path)
        return cli_fail(err, GLM4V_ERR_INVALID, "the path of a UNIX socket has 1 to %d bytes",
                        (int)sizeof address.sun_path - 1);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (is_left_over(&address))
        unlink(path);
    int rc = bind_to(listener, path, (struct sockaddr *)&address, sizeof address, err);
    listener->local = listener->unix_socket = !rc;
    snprintf(listener->name, sizeof listener->name, "unix:%s", path);
    return rc;
}

/* "host:port" into its two; brackets are taken off. */
static bool split(const char *address, char *host, size_t room, const char **port)
{
    const char *colon = strrchr(address, ':');
    if (!colon || !colon[1] || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    size_t n = colon - address;
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    } else if (memchr(address, ':', n)) {
        return false;
    }
    if (!n || n >= room)
        return false;
    memcpy(host, address, n);
    host[n] = 0;
    *port = colon + 1;
    return true;
}

int serve_listen(serve_listener *listener, const char *address, glm4v_error *err)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    char host[128];
    const char *port;
    *listener = (serve_listener) { .fd = -1 };
    if (!strncmp(address, "unix:", 5))
        return listen_unix(listener, address + 5, err);
    if (!split(address, host, sizeof host, &port))
        return cli_fail(err, GLM4V_ERR_INVALID,
                        "\"%.200s\" is not HOST:PORT, [IPv6]:PORT or unix:PATH", address);
    const int failed = getaddrinfo(host, port, &hints, &found);
    if (failed)
        return cli_fail(err, GLM4V_ERR_INVALID, "%.200s: %s", address, gai_strerror(failed));
    int rc = bind_to(listener, address, found->ai_addr, found->ai_addrlen, err);
    freeaddrinfo(found);
    if (!rc)
        tell_name(listener);
    return rc;
}

void serve_listen_close(serve_listener *listener)
{
    if (listener->fd >= 0)
        close(listener->fd);
    if (listener->unix_socket)
        unlink(listener->name + strlen("unix:"));
    *listener = (serve_listener) { .fd = -1 };
}
