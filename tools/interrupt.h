/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ctrl-C, a terminal that is closed, a service that is stopped: commands that run long end in good
 * order. */
#ifndef GLM4V_TOOLS_INTERRUPT_H
#define GLM4V_TOOLS_INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>

/* From now on SIGINT, SIGTERM and SIGHUP only ask to end: cli_interrupted() tells so. A second
 * signal of the kind ends the process at once. What is ignored (nohup) stays so. */
void cli_catch_signals(void);

bool cli_interrupted(void);

/* Sleep; returns early, and false, when a signal asks to end. */
bool cli_sleep(int64_t milliseconds);

/* End the process as the signal says, if one asked; to be called when all is cleaned up. */
void cli_end_if_interrupted(void);

#endif
