/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pictures that are given by an http: or https: URL. */
#ifndef GLM4V_SERVE_FETCH_H
#define GLM4V_SERVE_FETCH_H

#include "../blob.h"
#include "images.h"

/* Download url if its host is one of sources->domains: no redirects, no login, SERVE_FETCH_TIME
 * seconds and the bytes of a request at most. 0, GLM4V_ERR_INVALID (host or URL), _IO, _NOMEM. */
int serve_fetch(cli_blob *file, const char *url, const serve_sources *sources, glm4v_error *err);

#endif
