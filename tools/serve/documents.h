/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of this folder that the server sends as they are: made part of the program by embed.py. */
#ifndef GLM4V_SERVE_DOCUMENTS_H
#define GLM4V_SERVE_DOCUMENTS_H

extern const char serve_openapi[]; /* openapi.json */
extern const char serve_docs[];    /* docs.html */

#endif
