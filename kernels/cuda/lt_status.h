/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a status of cuBLASLt is among those of CUDA, which cuda_check.h classifies. */
#ifndef GLM4V_CUDA_LT_STATUS_H
#define GLM4V_CUDA_LT_STATUS_H

#include <cuda_runtime_api.h>

/* Numbers of cublasStatus_t, which tests know without its header. */
enum {
    LT_SUCCESS = 0,
    LT_NOT_INITIALIZED = 1,
    LT_ALLOC_FAILED = 3,
    LT_INVALID_VALUE = 7,
    LT_ARCH_MISMATCH = 8,
    LT_MAPPING_ERROR = 11,
    LT_EXECUTION_FAILED = 13,
    LT_INTERNAL_ERROR = 14,
    LT_NOT_SUPPORTED = 15,
    LT_LICENSE_ERROR = 16,
};

/* A number that cuBLASLt of CUDA 13 does not have is cudaErrorUnknown: nothing is known of the
 * device then. cudaErrorNotSupported: there is no algorithm; products of our own take its place. */
static inline cudaError_t lt_error_of(int status)
{
    switch (status) {
    case LT_SUCCESS:
        return cudaSuccess;
    case LT_ALLOC_FAILED:
        return cudaErrorMemoryAllocation;
    case LT_INVALID_VALUE:
        return cudaErrorInvalidValue;
    case LT_NOT_SUPPORTED:
    case LT_ARCH_MISMATCH:
        return cudaErrorNotSupported;
    case LT_NOT_INITIALIZED:
        return cudaErrorInitializationError;
    case LT_LICENSE_ERROR:
        return cudaErrorNotPermitted;
    case LT_EXECUTION_FAILED:
        return cudaErrorLaunchFailure;
    case LT_MAPPING_ERROR:
    case LT_INTERNAL_ERROR:
    default:
        return cudaErrorUnknown;
    }
}

#endif
