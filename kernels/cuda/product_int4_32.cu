/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT4 in groups of 32. */
#include "product_int4.cuh"

cudaError_t product_int4_32(cudaStream_t stream, const product_args &p)
{
    return p.w_zero ? launch_stream<int4_form<4, true>>(stream, p)
                    : launch_stream<int4_form<4, false>>(stream, p);
}

cudaError_t blocks_int4_32(cudaStream_t stream, const product_args &p)
{
    return p.w_zero ? launch_blocks<int4_form<4, true>>(stream, p)
                    : launch_blocks<int4_form<4, false>>(stream, p);
}
