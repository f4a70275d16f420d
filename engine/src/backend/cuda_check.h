/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a status of CUDA means, and faults that a test injects. Launchers turn those of cuBLASLt
 * into statuses of CUDA (kernels/cuda/prefill_lt.cu). */
#ifndef GLM4V_ENGINE_BACKEND_CUDA_CHECK_H
#define GLM4V_ENGINE_BACKEND_CUDA_CHECK_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    GLM4V_CUDA_OK,
    GLM4V_CUDA_RETRYABLE, /* this call failed; the device works */
    GLM4V_CUDA_NO_MEMORY, /* of the device, or page-locked; the device works */
    GLM4V_CUDA_STICKY,    /* the process's context is broken: every later call fails */
    GLM4V_CUDA_LOST,      /* the device itself does not answer, or is about to fail */
    GLM4V_CUDA_SETUP,     /* driver, device or this build do not fit together */
} glm4v_cuda_class;

/* Any number; those that CUDA 13 does not know are STICKY: nothing is known of the device then. */
glm4v_cuda_class glm4v_cuda_classify(cudaError_t status);
/* GLM4V_ERR_* of a class; 0 for OK. */
int glm4v_cuda_code(glm4v_cuda_class class_);
/* What a person can do about a SETUP status, or "". */
const char *glm4v_cuda_advice(cudaError_t status);

/* ---- faults ---- */

typedef enum {
    GLM4V_CUDA_AT_ALLOC,  /* memory of the device and page-locked memory, before it is taken */
    GLM4V_CUDA_AT_LAUNCH, /* kernels and graphs */
    GLM4V_CUDA_AT_COPY,
    GLM4V_CUDA_AT_EVENT, /* records, waits, queries */
    GLM4V_CUDA_AT_GRAPH, /* a captured step becomes one that can be launched */
    GLM4V_CUDA_N_SITES
} glm4v_cuda_site;

/* Call number nth of a site from now on (1: the next) has this status, once, or `always` from
 * there on. */
typedef struct {
    glm4v_cuda_site site;
    uint64_t nth; /* 0: none */
    cudaError_t status;
    bool always;
    int32_t only; /* calls of device number only - 1 count; 0: those of all devices */
} glm4v_cuda_fault;

/* For tests; NULL: no fault any more. */
void glm4v_cuda_inject(const glm4v_cuda_fault *fault);
/* From GLM4V_CUDA_FAULT=SITE[@DEVICE]:NTH:STATUS[:always] with SITE alloc, launch, copy, event or
 * graph: for tests of whole pipelines. False: the text is wrong. NULL: nothing is injected. */
bool glm4v_cuda_inject_text(const char *text);
/* Every call of a site asks before it is made: cudaSuccess, or the status that it must have
 * without being made. */
cudaError_t glm4v_cuda_injected(glm4v_cuda_site site);
/* Calls of a site that were made since the start, those that were failed included. */
uint64_t glm4v_cuda_calls(glm4v_cuda_site site);

#endif
