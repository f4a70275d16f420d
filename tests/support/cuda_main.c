/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linked into a test program: what it opens as "cpu" is the CUDA backend on GPU 0. Without a GPU
 * the program is skipped, or fails where GLM4V_REQUIRE names gpu. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda_module.h"

static int open_gpu(glm4v_backend **backend, glm4v_pool *pool, const glm4v_log *log,
                    glm4v_error *err)
{
    return glm4v_backend_cuda_open(backend, 0, pool, log, err);
}

__attribute__((constructor)) static void replace_cpu(void)
{
    const char *require = getenv("GLM4V_REQUIRE");
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || !n) {
        if (require && strstr(require, "gpu")) {
            printf("Bail out! a GPU is required here\n");
            exit(1);
        }
        printf("1..0 # SKIP no CUDA device\n");
        exit(77);
    }
    glm4v_backend_replace_cpu(open_gpu);
}
