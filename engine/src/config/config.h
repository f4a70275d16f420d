/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What config.json, generation_config.json, preprocessor_config.json and
 * video_preprocessor_config.json contain, after checking: a plain struct, the same for every layout
 * and family. */
#ifndef GLM4V_ENGINE_CONFIG_H
#define GLM4V_ENGINE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "glm4v/glm4v.h"

#define GLM4V_MAX_STOP_IDS 16

/* config/family.h has a row for each. */
typedef enum {
    GLM4V_FAMILY_GLM4V,
    GLM4V_FAMILY_CHATGLM4V,
    GLM4V_FAMILY_GLM_OCR,
    GLM4V_N_FAMILIES
} glm4v_family;

typedef struct {
    int64_t vocab;      /* V */
    int64_t hidden;     /* D */
    int64_t ffn;        /* F */
    int64_t layers;     /* L */
    int64_t heads;      /* Nh */
    int64_t kv_heads;   /* Nk, divides Nh */
    int64_t head_dim;   /* Dh */
    int64_t rotary_dim; /* head_dim * partial_rotary_factor, even */
    int64_t mrope[3];   /* frequencies that follow t, h, w; sum = rotary_dim / 2 */
    int64_t context;    /* max_position_embeddings */
    float norm_eps;
    double rope_theta;
    bool qkv_bias;
    bool mtp;             /* an MTP layer is announced; the weights may lack it */
    bool one_position;    /* all rows of a picture stand at one position; else M-RoPE */
    bool tied;            /* lm_head is the embedding */
    bool tied_by_default; /* not in config.json: tied if there is no lm_head */
} glm4v_text_config;

typedef struct {
    int64_t hidden; /* of the tower */
    int64_t layers, heads, head_dim;
    int64_t ffn;        /* width of the blocks' MLP: out_hidden_size in glm4v */
    int64_t merger_ffn; /* width of the merger's MLP: intermediate_size in glm4v */
    int64_t out_hidden; /* = text hidden */
    int64_t patch;      /* pixels a side */
    int64_t temporal;   /* frames in a patch */
    int64_t merge;      /* patches a side that become one token */
    int64_t table_side; /* position table is table_side x table_side; 0 = none */
    float norm_eps;
    double rope_theta; /* of the rotary positions of patches */
    bool bias;         /* blocks' products have biases */
    bool head_norms;   /* heads of q and k are normed before the rotation */
    bool conv_norm;    /* rows are normed behind the patch embedding */
    /* Zero in glm4v. */
    int64_t class_rows; /* rows that attend with the patches and are dropped: 0 or 1 */
    int64_t border;     /* learned rows before, and as many behind, those of a picture: 0 or 1 */
    bool absolute;      /* all pictures have the table's grid; no interpolation, no rotary */
    bool post_norm;     /* blocks norm what a branch gives, not what it takes */
    bool gelu;          /* the blocks' MLP is gelu between two matrices, not SwiGLU */
    float divisor;      /* of all rows of a picture; 0 = none */
} glm4v_vision_config;

typedef struct {
    /* of all frames together, as the files' shortest_edge, longest_edge */
    uint64_t min_pixels, max_pixels;
    int64_t side;           /* every picture becomes side x side; 0 = smart_resize */
    double mean[3], std[3]; /* of v / 255 */
} glm4v_processor_config;

typedef struct {
    glm4v_family family;
    glm4v_text_config text;
    glm4v_vision_config vision;
    glm4v_processor_config image, video;
    double video_fps;   /* frames wanted a second of clip */
    int64_t video_most; /* frames of a clip that are seen, at most */
    bool steady_clips;  /* at that rate whatever their length, as GLM-GA */
    /* files whose settings of pictures and of clips processor_config.json replaced by others; NULL:
     * none. Static */
    const char *replaced[2];
    /* placeholder tokens; -1 where config.json has none: model.c looks in the tokenizer */
    int32_t image_id, video_id;
    int32_t image_start_id, image_end_id, video_start_id, video_end_id;
    int32_t stop_ids[GLM4V_MAX_STOP_IDS]; /* union of all eos_token_id */
    int64_t n_stop_ids;
} glm4v_config;

/* Numbers of a patch (C): its pixels' channels, in each frame. */
static inline int64_t glm4v_patch_values(const glm4v_vision_config *v)
{
    return GLM4V_CHANNELS * v->temporal * v->patch * v->patch;
}

/* Rows of the text model that a picture takes. */
static inline int64_t glm4v_picture_rows(const glm4v_vision_config *v, int64_t grid_h,
                                         int64_t grid_w)
{
    const int64_t merge = v->merge;
    return grid_h / merge * (grid_w / merge) + 2 * v->border;
}

/* Read and check all configuration files of dir. with_processor = false: config.json (and
 * generation_config.json if there) alone; the processors are then those of GLM-4.1V. GLM-4V-9B
 * brings no processor files. FORMAT names
 * file and key, UNSUPPORTED the architecture. */
int glm4v_config_read(glm4v_config *config, const char *dir, bool with_processor, glm4v_error *err);

/* Read one config.json by path (bench --config FILE), or from memory, text [0, len). */
int glm4v_config_read_file(glm4v_config *config, const char *path, glm4v_error *err);
int glm4v_config_parse(glm4v_config *config, const char *text, size_t len, glm4v_error *err);

#endif
