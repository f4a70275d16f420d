/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A question to the model that a signal may end. */
#ifndef GLM4V_TOOLS_ASK_H
#define GLM4V_TOOLS_ASK_H

#include "glm4v/glm4v.h"

/* As glm4v_describe(), but canceled when cli_interrupted(): fails with CANCELED then. show(user,
 * result) is called with the result while the caller waits, on a thread of the engine, which serves
 * no other request during that time. The task's callbacks are not used. Returns 0, or a GLM4V_ERR_*
 * with err, and show was not called. */
int cli_ask(glm4v_engine *engine, const glm4v_task *task,
            void (*show)(void *user, const glm4v_result *result), void *user, glm4v_error *err);

#endif
