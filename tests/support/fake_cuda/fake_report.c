/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linked into a test program: at its end nothing of the fake CUDA is left open, and no rule was
 * broken. */
#include <stdio.h>

#include "fake_cuda.h"

__attribute__((destructor)) static void report(void)
{
    const fake_cuda_counts c = fake_cuda_count();
    printf("# fake cuda: %lu launches, %lu graphs launched, %lu allocations\n", c.launches,
           c.graph_launches, c.allocations);
    if (c.violations || c.blocks || c.pinned || c.streams || c.events || c.graphs || c.contexts)
        printf("Bail out! %lu violations; left: %lu blocks, %lu page-locked, %lu streams, %lu "
               "events, %lu graphs, %lu contexts\n",
               c.violations, c.blocks, c.pinned, c.streams, c.events, c.graphs, c.contexts);
}
