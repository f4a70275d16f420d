/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A stand-in for libglm4v with scripted delays, answers and failures: the element's tests link it
 * instead of the engine, so that timing is under their control. */
#ifndef GLM4V_FAKE_ENGINE_H
#define GLM4V_FAKE_ENGINE_H

#include <glm4v/glm4v.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int inspect_code, open_code, engine_code; /* GLM4V_ERR_* of these calls, 0 = they succeed */
    const char *image_device;                 /* where the model looks at frames; NULL = "cpu" */
    const char *broken; /* name of the one model that cannot be opened, or NULL: all can */
    int submit_code;    /* of every submit */
    int result_code;    /* of every answer */
    uint64_t load_ns;   /* time that opening takes, told in 20 steps */
    uint64_t answer_ns; /* time that an answer takes */
    bool hang;          /* answers come late even if canceled */
    bool told;          /* answers are what fake_tell() says, and end when it says so */
    /* the answer; NULL = "WxH #RRGGBB" of the middle pixel */
    const char *text;
    bool echo;              /* the answer is the question */
    const glm4v_box *boxes; /* in every answer */
    uint32_t n_boxes;
    const glm4v_action *action; /* NULL = none */
    int check_code;             /* of glm4v_engine_check() */
} fake_script;

/* With choices the shares of the first three are in the ratio of red, green and blue of the middle
 * pixel; black is the first for certain. With a schema the answer is {"red":R}. A schema that holds
 * "pattern" is refused. */

#define FAKE_MEMORY 123456789 /* bytes that an engine says it takes; 3 requests in 2 steps */

typedef struct {
    int submitted, done, canceled; /* requests so far */
    bool heard;                    /* the last one wants its text as it grows */
    int models, engines, requests; /* alive now */
    int opened;                    /* models so far */
    uint32_t stream;               /* of the last request */
    uint64_t deadline;
    uint64_t pictures_id;
    uint32_t n_images, n_frames;
    double last_timestamp; /* of the frames */
    uint32_t max_batch, context_length;
    char prompt[128], system[128]; /* of the last request */
    char quantization[32];         /* of the last open */
    uint32_t max_tokens, n_threads;
    uint64_t max_pixels;
} fake_counts;

/* Initialise GStreamer and register the element that is linked into this program, with this engine
 * behind it. */
void fake_init(int *argc, char ***argv);

/* Replace the script; counters of finished things go back to 0. */
void fake_set(fake_script script);
fake_counts fake_get(void);

/* With `told`: more text of the answer in progress, which is waited for; NULL: it ends. */
void fake_tell(const char *text);

#endif
