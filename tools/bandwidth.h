/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GLM4V_TOOLS_BANDWIDTH_H
#define GLM4V_TOOLS_BANDWIDTH_H

/* Cores this process may use. */
int cli_cores(void);

/* Best of several passes over memory larger than the caches, bytes a second; 0 if it could not be
 * measured. Takes about half a second and 192 MiB a thread, given back before it returns. n_threads
 * is clamped to [1, 64]. */
double cli_read_bandwidth(int n_threads);

#endif
