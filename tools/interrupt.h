/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ctrl-C, a terminal that is closed, a service that is stopped: commands that run long end in good
 * order. */
#ifndef GLM4V_TOOLS_INTERRUPT_H
#define GLM4V_TOOLS_INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>

/* From now on SIGINT, SIGTERM and SIGHUP only set cli_interrupted(). A second signal of the kind
 * ends the process at once. Ignored signals (nohup) stay ignored. */
void cli_catch_signals(void);

bool cli_interrupted(void);

/* Sleep; returns early, and false, after a signal to end. */
bool cli_sleep(int64_t milliseconds);

/* End the process by the signal that was received, if any; call it after all cleanup. */
void cli_end_if_interrupted(void);

#endif
