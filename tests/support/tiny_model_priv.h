/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between tiny_model.c and tiny_tokenizer.c. */
#ifndef GLM4V_TINY_MODEL_PRIV_H
#define GLM4V_TINY_MODEL_PRIV_H

#include <stdio.h>

#include "tiny_model.h"

FILE *tiny_create(const char *dir, const char *name); /* NULL with a line on stderr */
int tiny_finish(FILE *f, const char *name);           /* 0, or -1 with a line on stderr */

/* tokenizer.json or tokenizer.model, and tokenizer_config.json. */
int tiny_write_tokenizer(const char *dir, const tiny_model_options *o);

#endif
