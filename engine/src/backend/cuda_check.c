/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cuda_check.h. */
#include "backend/cuda_check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda_context.h"
#include "glm4v/glm4v.h"

#define MOST_DEVICES 1000 /* as a fault names them */

/* ---- classes ---- */

/* Every status of CUDA 13, in the order of driver_types.h. What ends a context says the manual of
 * the driver ("the context cannot be used and must be destroyed"). */
glm4v_cuda_class glm4v_cuda_classify(cudaError_t status)
{
    switch (status) {
    case cudaSuccess:
        return GLM4V_CUDA_OK;
    case cudaErrorMemoryAllocation:
    case cudaErrorMemoryValueTooLarge:
    case cudaErrorLaunchOutOfResources:
        return GLM4V_CUDA_NO_MEMORY;
    case cudaErrorInvalidValue:
    case cudaErrorProfilerDisabled:
    case cudaErrorProfilerNotInitialized:
    case cudaErrorProfilerAlreadyStarted:
    case cudaErrorProfilerAlreadyStopped:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidPitchValue:
    case cudaErrorInvalidSymbol:
    case cudaErrorInvalidHostPointer:
    case cudaErrorInvalidDevicePointer:
    case cudaErrorInvalidTexture:
    case cudaErrorInvalidTextureBinding:
    case cudaErrorInvalidChannelDescriptor:
    case cudaErrorInvalidMemcpyDirection:
    case cudaErrorAddressOfConstant:
    case cudaErrorTextureFetchFailed:
    case cudaErrorTextureNotBound:
    case cudaErrorSynchronizationError:
    case cudaErrorInvalidFilterSetting:
    case cudaErrorInvalidNormSetting:
    case cudaErrorMixedDeviceExecution:
    case cudaErrorNotYetImplemented:
    case cudaErrorInvalidSurface:
    case cudaErrorDuplicateVariableName:
    case cudaErrorDuplicateTextureName:
    case cudaErrorDuplicateSurfaceName:
    case cudaErrorMissingConfiguration:
    case cudaErrorLaunchMaxDepthExceeded:
    case cudaErrorLaunchFileScopedTex:
    case cudaErrorLaunchFileScopedSurf:
    case cudaErrorSyncDepthExceeded:
    case cudaErrorLaunchPendingCountExceeded:
    case cudaErrorMapBufferObjectFailed:
    case cudaErrorUnmapBufferObjectFailed:
    case cudaErrorArrayIsMapped:
    case cudaErrorAlreadyMapped:
    case cudaErrorAlreadyAcquired:
    case cudaErrorNotMapped:
    case cudaErrorNotMappedAsArray:
    case cudaErrorNotMappedAsPointer:
    case cudaErrorUnsupportedLimit:
    case cudaErrorPeerAccessUnsupported:
    case cudaErrorInvalidGraphicsContext:
    case cudaErrorUnsupportedExecAffinity:
    case cudaErrorUnsupportedDevSideSync:
    case cudaErrorInvalidSource:
    case cudaErrorFileNotFound:
    case cudaErrorOperatingSystem:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorIllegalState:
    case cudaErrorLossyQuery:
    case cudaErrorSymbolNotFound:
    case cudaErrorNotReady:
    case cudaErrorLaunchIncompatibleTexturing:
    case cudaErrorPeerAccessAlreadyEnabled:
    case cudaErrorPeerAccessNotEnabled:
    case cudaErrorSetOnActiveProcess:
    case cudaErrorTooManyPeers:
    case cudaErrorHostMemoryAlreadyRegistered:
    case cudaErrorHostMemoryNotRegistered:
    case cudaErrorCooperativeLaunchTooLarge:
    case cudaErrorNotPermitted:
    case cudaErrorNotSupported:
    case cudaErrorCdpNotSupported:
    case cudaErrorCdpVersionMismatch:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
    case cudaErrorStreamCaptureWrongThread:
    case cudaErrorTimeout:
    case cudaErrorGraphExecUpdateFailure:
    case cudaErrorInvalidClusterSize:
    case cudaErrorFunctionNotLoaded:
    case cudaErrorInvalidResourceType:
    case cudaErrorInvalidResourceConfiguration:
        return GLM4V_CUDA_RETRYABLE;
    case cudaErrorInitializationError:
    case cudaErrorStubLibrary:
    case cudaErrorInsufficientDriver:
    case cudaErrorCallRequiresNewerDriver:
    case cudaErrorDevicesUnavailable:
    case cudaErrorIncompatibleDriverContext:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDeviceNotLicensed:
    case cudaErrorSoftwareValidityNotEstablished:
    case cudaErrorInvalidKernelImage:
    case cudaErrorDeviceUninitialized:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorDeviceAlreadyInUse:
    case cudaErrorInvalidPtx:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilationDisabled:
    case cudaErrorSharedObjectSymbolNotFound:
    case cudaErrorSharedObjectInitFailed:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorMpsConnectionFailed:
    case cudaErrorMpsServerNotReady:
    case cudaErrorMpsMaxClientsReached:
    case cudaErrorMpsMaxConnectionsReached:
        return GLM4V_CUDA_SETUP;
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorExternalDevice:
        return GLM4V_CUDA_LOST;
    case cudaErrorCudartUnloading:
    case cudaErrorPriorLaunchFailure:
    case cudaErrorStartupFailure:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorContextIsDestroyed:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsRpcFailure:
    case cudaErrorMpsClientTerminated:
    case cudaErrorUnknown:
    case cudaErrorApiFailureBase:
        break;
    }
    return GLM4V_CUDA_STICKY;
}

int glm4v_cuda_code(glm4v_cuda_class class_)
{
    switch (class_) {
    case GLM4V_CUDA_OK:
        return 0;
    case GLM4V_CUDA_RETRYABLE:
        return GLM4V_ERR_INVALID;
    case GLM4V_CUDA_NO_MEMORY:
        return GLM4V_ERR_NOMEM;
    case GLM4V_CUDA_STICKY:
    case GLM4V_CUDA_LOST:
    case GLM4V_CUDA_SETUP:
        break;
    }
    return GLM4V_ERR_DEVICE;
}

const char *glm4v_cuda_advice(cudaError_t status)
{
    switch (status) {
    case cudaErrorInsufficientDriver:
    case cudaErrorCallRequiresNewerDriver:
    case cudaErrorUnsupportedPtxVersion:
        return "update the NVIDIA driver: CUDA 13 needs version 580 or later";
    case cudaErrorStubLibrary:
        return "libcuda.so.1 is CUDA's stub: put the driver's folder before it in LD_LIBRARY_PATH";
    case cudaErrorNoDevice:
        return "see whether nvidia-smi lists one, and whether CUDA_VISIBLE_DEVICES hides it";
    case cudaErrorInvalidDevice:
        return "nvidia-smi -L lists the devices";
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceAlreadyInUse:
        return "another process holds the device alone: end it, or nvidia-smi -c 0";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidKernelImage:
        return "build with -Dgpu_arch=... for this device";
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
        return "the kernel module and libcuda are of different versions: restart the machine";
    case cudaErrorSystemNotReady:
        return "start nvidia-fabricmanager, or wait for it";
    default:
        return "";
    }
}

/* ---- faults ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards fault */
static glm4v_cuda_fault fault;
static atomic_uint_fast64_t calls[GLM4V_CUDA_N_SITES];

void glm4v_cuda_inject(const glm4v_cuda_fault *wanted)
{
    pthread_mutex_lock(&lock);
    fault = wanted ? *wanted : (glm4v_cuda_fault) { 0 };
    pthread_mutex_unlock(&lock);
}

cudaError_t glm4v_cuda_injected(glm4v_cuda_site site)
{
    cudaError_t status = cudaSuccess;
    atomic_fetch_add(&calls[site], 1);
    pthread_mutex_lock(&lock);
    if (fault.nth && fault.site == site &&
        (!fault.only || fault.only == glm4v_cuda_device_entered() + 1)) {
        if (fault.nth > 1) {
            fault.nth--;
        } else {
            status = fault.status;
            fault.nth = fault.always ? 1 : 0;
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

uint64_t glm4v_cuda_calls(glm4v_cuda_site site)
{
    return atomic_load(&calls[site]);
}

bool glm4v_cuda_inject_text(const char *text)
{
    static const char *const names[] = { "alloc", "launch", "copy", "event", "graph" };
    glm4v_cuda_fault wanted = { 0 };
    if (!text)
        return true;
    const size_t length = strcspn(text, ":@");
    size_t site = 0;
    while (site < GLM4V_CUDA_N_SITES &&
           (strlen(names[site]) != length || strncmp(names[site], text, length)))
        site++;
    if (site == GLM4V_CUDA_N_SITES || !text[length])
        return false;
    char *end = (char *)(uintptr_t)text + length;
    wanted.site = (glm4v_cuda_site)site;
    if (*end == '@') {
        const char *digits = end + 1;
        const unsigned long long device = strtoull(digits, &end, 10);
        if (end == digits || *end != ':' || device > MOST_DEVICES)
            return false;
        wanted.only = (int32_t)device + 1;
    }
    wanted.nth = strtoull(end + 1, &end, 10);
    if (*end != ':' || !wanted.nth)
        return false;
    const long long status = strtoll(end + 1, &end, 10);
    wanted.always = !strcmp(end, ":always");
    if ((*end && !wanted.always) || status <= 0 || status > INT32_MAX)
        return false;
    wanted.status = (cudaError_t)status;
    glm4v_cuda_inject(&wanted);
    return true;
}
