/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linked into a test program: what it opens as "cpu" is the recording backend. */
#include <stdio.h>

#include "backend_record.h"

__attribute__((constructor)) static void replace_cpu(void)
{
    glm4v_backend_replace_cpu(record_open);
}

__attribute__((destructor)) static void report(void)
{
    printf("# record: %lu steps recorded, %lu replayed, %lu operations, %lu tokens sampled\n",
           record_count.recorded, record_count.replayed, record_count.operations,
           record_count.sampled);
    if (record_count.violations || !record_count.replayed)
        printf("Bail out! %lu violations, %lu steps replayed\n", record_count.violations,
               record_count.replayed);
}
