/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INT4 in groups of 128. */
#include "product_int4.cuh"

cudaError_t product_int4(cudaStream_t stream, const product_args &p)
{
    return p.w_zero ? launch_stream<int4_form<1, true>>(stream, p)
                    : launch_stream<int4_form<1, false>>(stream, p);
}

cudaError_t blocks_int4(cudaStream_t stream, const product_args &p)
{
    return p.w_zero ? launch_blocks<int4_form<1, true>>(stream, p)
                    : launch_blocks<int4_form<1, false>>(stream, p);
}
