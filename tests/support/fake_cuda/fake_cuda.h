/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A CUDA runtime on the CPU, for the host side of the CUDA backend: two devices, on whose streams
 * work waits until somebody waits for it, and then runs no further than is asked for.
 *   - Memory of a device is a block of malloc, so that AddressSanitizer sees what is read too late
 *     or beyond its end; new memory holds 0xff.
 *   - Page-locked memory is read and written when the work runs; other memory of the host is read
 *     at the call, and written before it returns.
 *   - A stream takes calls with its own context current only; memory is not taken, nor waited for,
 *     by a thread that captures.
 *   - Everything that is opened is counted.
 * A call against these rules is printed, counted, and fails. */
#ifndef GLM4V_FAKE_CUDA_H
#define GLM4V_FAKE_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

enum { FAKE_CUDA_DEVICES = 2 };

typedef struct {
    unsigned long blocks, pinned, streams, events, graphs, contexts; /* open now */
    size_t bytes;                                                    /* of blocks */
    unsigned long allocations; /* of device and page-locked memory, since the start */
    unsigned long launches, graph_launches, violations;
    unsigned long waits; /* for a stream or an event, by the host */
} fake_cuda_counts;

fake_cuda_counts fake_cuda_count(void);
/* Bytes of a device; further ones are out of memory. */
void fake_cuda_set_memory(size_t bytes);
/* What cudaGetDeviceCount answers from now on. */
void fake_cuda_set_devices(cudaError_t status, int n);
/* Whether one device can read the memory of another, from now on. */
void fake_cuda_set_peers(bool possible);
/* What cudaDeviceEnablePeerAccess answers from now on; cudaSuccess: what is the case. */
void fake_cuda_refuse_peers(cudaError_t status);
/* The calling thread's current context, as an application sets it: 0: none. */
void fake_cuda_set_current(void *context);
void *fake_cuda_current(void);

/* For launchers: fn(args) when the stream comes to it, args copied. */
cudaError_t fake_cuda_launch(cudaStream_t stream, void (*fn)(void *args), const void *args,
                             size_t bytes);

#endif
