/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT4 in groups of 32. */
#include "tile_int4.cuh"

cudaError_t tile_int4_32(cudaStream_t stream, const tile_device *device, const product_args &p)
{
    return launch_tile_product<int4_tile<4>>(stream, device, p);
}
