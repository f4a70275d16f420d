/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See gate.h. libmicrohttpd joins folded lines and takes a line feed alone as the end of a line,
 * both as RFC 9112 allows; what is left of a head that others might read differently is refused
 * here: two lengths, a length and chunks, codings, control characters. */
#define _GNU_SOURCE
#include "gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "../fail.h"

/* ---- keys ---- */

static int add_key(serve_gate *gate, const char *path, char *line, glm4v_error *err)
{
    line[strcspn(line, "\r\n")] = 0;
    if (!*line || *line == '#')
        return 0;
    for (const char *c = line; *c; c++)
        if (*c <= ' ' || *c > '~')
            return cli_fail(err, GLM4V_ERR_INVALID,
                            "%.200s: a key has a space or a character "
                            "that is not ASCII",
                            path);
    if (gate->n_keys == SERVE_MAX_KEYS)
        return cli_fail(err, GLM4V_ERR_INVALID, "%.200s: more than %d keys", path, SERVE_MAX_KEYS);
    gate->keys[gate->n_keys] = strdup(line);
    if (!gate->keys[gate->n_keys])
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a key");
    gate->n_keys++;
    return 0;
}

int serve_gate_read_keys(serve_gate *gate, const char *path, glm4v_error *err)
{
    char line[1024];
    struct stat st;
    int rc = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return cli_fail(err, GLM4V_ERR_IO, "%.200s: %s", path, strerror(errno));
    if (!fstat(fileno(file), &st) && st.st_mode & S_IRWXO)
        rc = cli_fail(err, GLM4V_ERR_INVALID,
                      "%.200s: every user of this machine may read the keys; chmod o-rwx", path);
    while (!rc && fgets(line, sizeof line, file)) {
        if (strlen(line) == sizeof line - 1)
            rc = cli_fail(err, GLM4V_ERR_INVALID, "%.200s: a line is too long", path);
        else
            rc = add_key(gate, path, line, err);
    }
    explicit_bzero(line, sizeof line);
    fclose(file);
    if (!rc && !gate->n_keys)
        rc = cli_fail(err, GLM4V_ERR_INVALID, "%.200s: there is no key in it", path);
    return rc;
}

void serve_gate_close(serve_gate *gate)
{
    for (size_t i = 0; i < gate->n_keys; i++) {
        explicit_bzero(gate->keys[i], strlen(gate->keys[i]));
        free(gate->keys[i]);
    }
    gate->n_keys = 0;
}

static unsigned differs(const char *key, const char *given)
{
    const size_t n = strlen(key), m = strlen(given);
    unsigned difference = n != m;
    for (size_t i = 0; i < m; i++)
        difference |= (unsigned char)(key[i < n ? i : n - 1] ^ given[i]);
    return difference;
}

bool serve_gate_is_key(const serve_gate *gate, const char *given)
{
    bool found = false;
    for (size_t i = 0; i < gate->n_keys; i++)
        found |= !differs(gate->keys[i], given);
    return found;
}

/* ---- hosts ---- */

/* A page cannot make a browser send another address as Host than the one that it reached: names are
 * what rebinding uses. */
static bool is_address(const char *host)
{
    struct in6_addr address;
    char inner[64];
    const size_t n = strlen(host);
    if (inet_pton(AF_INET, host, &address) == 1)
        return true;
    if (n < 4 || n >= sizeof inner || host[0] != '[' || host[n - 1] != ']')
        return false;
    memcpy(inner, host + 1, n - 2);
    inner[n - 2] = 0;
    return inet_pton(AF_INET6, inner, &address) == 1;
}

bool serve_gate_is_host(const serve_gate *gate, const char *host)
{
    char name[256];
    const char *end = strrchr(host, ':');
    if (!end || strchr(end, ']'))
        end = host + strlen(host);
    else if (strspn(end + 1, "0123456789") != strlen(end + 1))
        return false;
    const size_t n = end - host;
    if (!n || n >= sizeof name)
        return false;
    memcpy(name, host, n);
    name[n] = 0;
    if (!strcasecmp(name, "localhost") || is_address(name))
        return true;
    for (size_t i = 0; i < gate->n_hosts; i++)
        if (!strcasecmp(name, gate->hosts[i]))
            return true;
    return false;
}

/* "scheme://host[:port]" of the page that sends; it must be one of this server. */
static bool is_own_origin(const char *origin, const char *host)
{
    const char *rest = strstr(origin, "://");
    return rest && host && !strcasecmp(rest + 3, host);
}

/* ---- the head ---- */

typedef struct {
    unsigned n, hosts, lengths, codings;
    size_t bytes;
    bool odd; /* a name or a value that is not plain */
    const char *host, *length, *coding, *origin, *authorization, *expect;
    serve_head *head;
} fields;

static bool is_plain(const char *text, size_t size, bool name)
{
    static const char separators[] = "()<>@,;:\\\"/[]?={} \t";
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = text[i];
        if (c == 0x7f || (c < ' ' && (name || c != '\t')))
            return false;
        if (name && (c >= 0x80 || strchr(separators, c)))
            return false;
    }
    return !name || size;
}

static enum MHD_Result take_field(void *user, enum MHD_ValueKind kind, const char *key, size_t n,
                                  const char *value, size_t size)
{
    fields *f = user;
    const struct {
        const char *name;
        const char **value;
        unsigned *count;
    } known[] = {
        { "Host", &f->host, &f->hosts },
        { "Content-Length", &f->length, &f->lengths },
        { "Transfer-Encoding", &f->coding, &f->codings },
        { "Origin", &f->origin, NULL },
        { "Authorization", &f->authorization, NULL },
        { "Expect", &f->expect, NULL },
        { "Content-Type", &f->head->content_type, NULL },
        { "Content-Encoding", &f->head->content_encoding, NULL },
    };
    (void)kind;
    f->n++;
    f->bytes += n + size + 4; /* ": " and the end of the line */
    if (!is_plain(key, n, true) || (value && !is_plain(value, size, false)))
        f->odd = true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == n && !strncasecmp(known[i].name, key, n)) {
            *known[i].value = value ? value : "";
            if (known[i].count)
                ++*known[i].count;
        }
    return MHD_YES;
}

static serve_refusal refused(unsigned status, const char *message, const char *code)
{
    return (serve_refusal) { status, message, code };
}

static const serve_refusal let_through;

static serve_refusal check_framing(const fields *f, const char *version)
{
    if (f->n > SERVE_MAX_HEADERS || f->bytes > SERVE_HEADER_BYTES)
        return refused(431, "too many or too long header fields", "headers_too_large");
    if (f->odd)
        return refused(400, "a header field has characters that are not allowed", "bad_header");
    if (f->hosts > 1 || f->lengths > 1 || f->codings > 1)
        return refused(400, "a header field is there twice", "bad_header");
    if (f->lengths && f->codings)
        return refused(400, "the body has both a length and a transfer coding", "bad_header");
    if (f->coding && (strcasecmp(f->coding, "chunked") || strcmp(version, "HTTP/1.1")))
        return refused(501, "the transfer coding is not supported", "bad_header");
    if (f->length && (!*f->length || strspn(f->length, "0123456789") != strlen(f->length)))
        return refused(400, "Content-Length is not a number", "bad_header");
    if (f->expect && strcasecmp(f->expect, "100-continue"))
        return refused(417, "the expectation is not supported", "bad_header");
    return let_through;
}

static serve_refusal check_sender(const serve_gate *gate, const fields *f)
{
    if (f->host && !serve_gate_is_host(gate, f->host))
        return refused(403, "this server does not answer under that name; --allow-host adds one",
                       "host_not_allowed");
    if (f->origin && !is_own_origin(f->origin, f->host))
        return refused(403, "pages of other origins are not answered", "origin_not_allowed");
    return let_through;
}

static serve_refusal check_key(const serve_gate *gate, const fields *f)
{
    const char *given = f->authorization;
    if (!gate->n_keys)
        return let_through;
    if (!given || strncasecmp(given, "Bearer ", 7) || !serve_gate_is_key(gate, given + 7))
        return refused(401, "the API key is missing or wrong: Authorization: Bearer KEY",
                       "invalid_api_key");
    return let_through;
}

serve_refusal serve_gate_check(const serve_gate *gate, struct MHD_Connection *connection,
                               const char *version, bool local, serve_head *head)
{
    fields f = { .head = head };
    *head = (serve_head) { 0 };
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, take_field, &f);
    serve_refusal r = check_framing(&f, version);
    if (!r.status)
        r = check_sender(gate, &f);
    if (!r.status && !local)
        r = check_key(gate, &f);
    head->chunked = f.coding != NULL;
    head->expects = f.expect != NULL;
    head->length = f.length && !r.status ? strtoull(f.length, NULL, 10) : 0;
    head->has_body = head->chunked || (f.length && strspn(f.length, "0") != strlen(f.length));
    return r;
}
