/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which variant of each operation of image.h a CPU gets. */
#include "image.h"

#include "cpu.h"

void glm4v_image_ops_init(glm4v_image_ops *ops, unsigned cpu)
{
    ops->resize_pack = glm4v_resize_pack_c;
    ops->resize_rows = glm4v_resize_rows_c;
    ops->resize_columns = glm4v_resize_columns_c;
    ops->patches = glm4v_patches_c;
#ifdef HAVE_AVX2
    if (!(cpu & GLM4V_CPU_AVX2))
        return;
    ops->resize_pack = glm4v_resize_pack_avx2;
    ops->resize_rows = glm4v_resize_rows_avx2;
    ops->resize_columns = glm4v_resize_columns_avx2;
#endif
#ifdef HAVE_VNNI
    if (!(cpu & GLM4V_CPU_VNNI))
        return;
    ops->resize_pack = glm4v_resize_pack_vnni;
    ops->resize_rows = glm4v_resize_rows_vnni;
    ops->resize_columns = glm4v_resize_columns_vnni;
#endif
}
