/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chat completions: from the body of a request to the engine, and from its callbacks to what is
 * sent. */
#ifndef GLM4V_SERVE_COMPLETION_H
#define GLM4V_SERVE_COMPLETION_H

#include "exchange.h"

/* The body of x is complete, and the connection suspended: a worker goes on with it. */
void serve_completion_begin(serve_exchange *x);

#endif
