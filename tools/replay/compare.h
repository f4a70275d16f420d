/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a recorded result says, and what was derived. */
#ifndef GLM4V_TOOLS_COMPARE_H
#define GLM4V_TOOLS_COMPARE_H

#include "replay/record.h"

/* Append what differs, such as `text was "a", is "b"`, to differences, with "; " between. */

/* Between a result and the answer of the engine to its question. */
void cli_compare_answer(GString *differences, const cli_recorded_settings *settings,
                        const cli_recorded_result *recorded, const glm4v_result *answer);

/* Between a result and what its settings make of it: seed, model, and the hash of the prompt. */
void cli_compare_settings(GString *differences, const cli_recorded_settings *settings,
                          const cli_recorded_result *recorded, const char *prompt);

/* Of one without an answer its verdict. */
void cli_compare_verdict(GString *differences, const cli_recorded_settings *settings,
                         const cli_recorded_result *recorded);

/* Append one difference; strings are cut, NULL is nothing. */
void cli_differ(GString *differences, const char *what, const char *was, const char *is);

#endif
