/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TAP lines whose names are put together at run time (tests/support/test.h names a test after its
 * function). */
#ifndef GLM4V_CHECK_TAP_H
#define GLM4V_CHECK_TAP_H

#include <stdbool.h>

void tap_result(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
int tap_end(void); /* prints the plan; 0, or 1 when a test failed */

#endif
