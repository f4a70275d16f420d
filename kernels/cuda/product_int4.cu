/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT4 in groups of 128. */
#include "product_int4.cuh"

cudaError_t product_int4(cudaStream_t stream, const product_args &p)
{
    return launch_stream<int4_form<1>>(stream, p);
}

cudaError_t blocks_int4(cudaStream_t stream, const product_args &p)
{
    return launch_blocks<int4_form<1>>(stream, p);
}
