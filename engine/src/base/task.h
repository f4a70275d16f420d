/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What holds for a task whoever answers it, an engine or a server: the rules of glm4v_task that
 * need no model. */
#ifndef GLM4V_ENGINE_TASK_H
#define GLM4V_ENGINE_TASK_H

#include "glm4v/glm4v.h"

/* Texts are UTF-8, arrays are there and within their bounds, and no two fields exclude each other.
 * Numbers, the texts of choices, the schema and the pictures themselves are not looked at. 0, or
 * GLM4V_ERR_INVALID with the reason in err. */
int glm4v_task_check(const glm4v_task *task, glm4v_error *err);

#endif
