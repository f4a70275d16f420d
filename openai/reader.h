/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the readers of the parts of a request share. */
#ifndef GLM4V_OPENAI_READER_H
#define GLM4V_OPENAI_READER_H

#include "base/json.h"
#include "openai/request.h"

typedef struct {
    openai_request *request;
    const openai_limits *limits;
    char *parameter; /* [OPENAI_MAX_PARAMETER] */
    glm4v_error *err;
} openai_reader;

/* Fill the reader's error about an option; returns code. */
int openai_refuse(const openai_reader *r, const char *parameter, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* messages.c: "messages" into system, turns and pictures. */
int openai_read_messages(const openai_reader *r);

/* shape.c: what the answer must look like: choices, a schema. */
int openai_read_shape(const openai_reader *r);

#endif
