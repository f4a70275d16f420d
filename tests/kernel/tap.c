/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TAP output of check-kernels. */
#include "tap.h"

#include <stdarg.h>
#include <stdio.h>

static int count, failed;

void tap_result(bool ok, const char *format, ...)
{
    va_list args;

    failed += !ok;
    printf("%sok %d - ", ok ? "" : "not ", ++count);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

int tap_end(void)
{
    printf("1..%d\n", count);
    return failed ? 1 : 0;
}
