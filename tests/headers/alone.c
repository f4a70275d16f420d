/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The public header before any other, as C and as C++ (alone_cxx.cc includes this file), strictly
 * by the standard. */
#include "glm4v/glm4v.h"

#include <stdio.h>
#include <string.h>

static int tests, failed;

static void check(int good, const char *name)
{
    failed += !good;
    printf("%sok %d - %s\n", good ? "" : "not ", ++tests, name);
}

int main(void)
{
    glm4v_task task;
    glm4v_error err;
    memset(&task, 0, sizeof task);
    memset(&err, 0, sizeof err);
    check(glm4v_version()[0] != 0, "the header compiles alone and the library links");
    check(!strcmp(glm4v_error_name(GLM4V_ERR_NOT_FOUND), "not-found"), "error codes have names");
    check(!strcmp(glm4v_error_name(-1000), "unknown"), "unknown codes are called so");
    check(GLM4V_OK == 0 && GLM4V_ERR_INTERNAL == -11, "error codes keep their values");
    glm4v_model *model = NULL;
    check(glm4v_model_open(&model, "/nonexistent", NULL, &err) == GLM4V_ERR_NOT_FOUND && !model &&
              err.msg[0],
          "NULL options are the defaults");
    glm4v_model_close(&model);
    printf("1..%d\n", tests);
    return failed != 0;
}
