/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See fetch.h. A name that is allowed is trusted with where it leads: an answer that sends the
 * server on to another host is an error. */
#include "fetch.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "../fail.h"
#include "bounds.h"

static bool has(CURLU *parts, CURLUPart part)
{
    char *text = NULL;
    const bool found = !curl_url_get(parts, part, &text, 0);
    curl_free(text);
    return found;
}

static int check_url(const char *url, const serve_sources *sources, glm4v_error *err)
{
    CURLU *parts = curl_url();
    char *host = NULL;
    bool allowed = false;
    if (!parts)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a URL");
    const bool good = !curl_url_set(parts, CURLUPART_URL, url, CURLU_DISALLOW_USER) &&
                      !has(parts, CURLUPART_USER) && !curl_url_get(parts, CURLUPART_HOST, &host, 0);
    for (size_t i = 0; good && i < sources->n_domains; i++)
        allowed |= !strcasecmp(host, sources->domains[i]);
    curl_free(host);
    curl_url_cleanup(parts);
    if (allowed)
        return 0;
    return cli_fail(err, GLM4V_ERR_INVALID,
                    good ? "this server fetches no pictures from that host: send a data: URL"
                         : "its URL cannot be read, or holds a login");
}

typedef struct {
    cli_blob *file;
    bool too_large, no_memory;
} download;

static size_t take(char *data, size_t size, size_t n, void *user)
{
    download *d = user;
    glm4v_error err = { 0 };
    const size_t bytes = size * n;
    d->too_large = d->file->size + bytes > (size_t)SERVE_MAX_BODY_MIB << 20;
    d->no_memory = !d->too_large && cli_blob_append(d->file, data, bytes, &err);
    return d->too_large || d->no_memory ? 0 : bytes;
}

static void set_up(CURL *curl, const char *url, download *d)
{
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)SERVE_FETCH_TIME);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)SERVE_FETCH_TIME);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "glm4v");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, d);
}

int serve_fetch(cli_blob *file, const char *url, const serve_sources *sources, glm4v_error *err)
{
    download d = { .file = file };
    long status = 0;
    int rc = check_url(url, sources, err);
    if (rc)
        return rc;
    CURL *curl = curl_easy_init();
    if (!curl)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a download");
    set_up(curl, url, &d);
    const CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (d.no_memory)
        return cli_fail(err, GLM4V_ERR_NOMEM, "no memory for a download");
    if (d.too_large)
        return cli_fail(err, GLM4V_ERR_UNSUPPORTED, "its file is larger than %d MiB",
                        SERVE_MAX_BODY_MIB);
    if (code)
        return cli_fail(err, GLM4V_ERR_IO, "it could not be fetched: %s", curl_easy_strerror(code));
    if (status != 200)
        return cli_fail(err, GLM4V_ERR_IO, "its host answered with status %ld", status);
    return file->size ? 0 : cli_fail(err, GLM4V_ERR_IO, "its host sent nothing");
}
