/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The families' lists of weights, for the table of families (families.c) alone. */
#ifndef GLM4V_ENGINE_FAMILIES_H
#define GLM4V_ENGINE_FAMILIES_H

#include "model/weights_list.h"

int glm4v_list_glm4v(glm4v_lister *l); /* and its relatives */
int glm4v_list_chatglm4v(glm4v_lister *l);

#endif
