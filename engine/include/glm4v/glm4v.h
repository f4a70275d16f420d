/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file glm4v.h
 * The whole public interface of the glm4vdescribe engine: open a GLM-4V model directory, start an
 * engine on it, queue images with a prompt, receive text. No GLib, no GStreamer, no CUDA needed.
 *
 * The whole loop, error handling included (the test suite compiles and runs these lines):
 * @code
 * int caption(const char *dir, const uint8_t *rgb, int width, int height)
 * {
 *     glm4v_error err = { 0 };
 *     glm4v_model *model = NULL;
 *     glm4v_engine *engine = NULL;
 *     glm4v_result *result = NULL;
 *     glm4v_image image = { .data = rgb, .width = width, .height = height, .stride = 3 * width };
 *     int rc = glm4v_model_open(&model, dir, &(glm4v_model_options){ 0 }, &err);
 *     if (!rc)
 *         rc = glm4v_engine_open(&engine, model, &(glm4v_engine_options){ 0 }, &err);
 *     if (!rc)
 *         rc = glm4v_describe(engine, &(glm4v_task){
 *                                 .prompt = "Describe the image in one sentence.",
 *                                 .images = &image, .n_images = 1 }, &result, &err);
 *     if (rc)
 *         fprintf(stderr, "%s\n", err.msg);
 *     else
 *         puts(result->text);
 *     glm4v_result_free(&result);
 *     glm4v_engine_close(&engine);
 *     glm4v_model_close(&model);
 *     return rc;
 * }
 * @endcode
 *
 * Rules that hold everywhere:
 * - Functions that can fail return 0 or a negative GLM4V_ERR_* and, on failure only, fill the
 *   caller's glm4v_error (may be NULL). After a failure the output arguments are untouched.
 * - Option structs: zero means default. Structs that a caller allocates for the library to fill are
 *   zeroed by the caller first. In both, `struct_size` is set to sizeof of the struct by callers
 *   that must keep working with a later library; 0 means the size this header declares. Values
 *   between 1 and sizeof(size_t) - 1, and above 4096, are GLM4V_ERR_INVALID.
 * - `close(&x)` accepts the address of NULL, waits for what is under way, and sets the pointer
 *   NULL.
 * - Strings are UTF-8 and end in NUL. Nothing is printed; see glm4v_model_options.log.
 * - The ABI is not stable before version 1.0 (soname 0).
 */
#ifndef GLM4V_H
#define GLM4V_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define GLM4V_API __attribute__((visibility("default")))
#else
#define GLM4V_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Every error code of the library. Values are fixed; new ones are only appended. */
typedef enum {
    GLM4V_OK = 0,
    GLM4V_ERR_INVALID = -1,   ///< an argument or option is out of its range
    GLM4V_ERR_NOMEM = -2,     ///< memory could not be allocated, or a limit would be exceeded
    GLM4V_ERR_NOT_FOUND = -3, ///< a file or directory does not exist
    GLM4V_ERR_IO = -4,        ///< a file exists but could not be opened or read
    /// a file's contents are malformed, truncated or contradict each other
    GLM4V_ERR_FORMAT = -5,
    GLM4V_ERR_UNSUPPORTED = -6, ///< well formed, but of a kind this build does not support
    GLM4V_ERR_BUSY = -7,        ///< max_pending requests wait already, or another writer is at work
    GLM4V_ERR_CANCELED = -8,    ///< canceled by the caller
    GLM4V_ERR_DEADLINE = -9,    ///< the request's deadline passed before its answer was complete
    GLM4V_ERR_DEVICE = -10,     ///< the compute device is missing or failed
    GLM4V_ERR_INTERNAL = -11,   ///< a defect of this library
} glm4v_error_code;

/** What went wrong, for a program (code) and for a person (msg: what, where, what to do). */
typedef struct {
    int code;      ///< a glm4v_error_code
    char msg[512]; ///< one line, no trailing newline
} glm4v_error;

/* Bounds of the values below; what exceeds one is GLM4V_ERR_INVALID. */
#define GLM4V_CHANNELS 3            ///< of an RGB image: red, green, blue; bytes of one pixel
#define GLM4V_MAX_SIDE 16384        ///< of an image, pixels
#define GLM4V_MAX_IMAGES 64         ///< of a task, and of each earlier turn
#define GLM4V_MAX_FRAMES 640        ///< of a clip
#define GLM4V_MAX_TURNS 64          ///< earlier turns of a task
#define GLM4V_MAX_TOKENS 65536      ///< of an answer, and of its reasoning
#define GLM4V_MAX_BOXES 64          ///< of a result
#define GLM4V_MAX_BATCH 64          ///< requests that one engine advances together
#define GLM4V_MAX_PENDING 65536     ///< requests of one stream that may wait
#define GLM4V_MAX_DEVICES 16        ///< that one model can be spread over
#define GLM4V_MAX_CHOICES 256       ///< of a task
#define GLM4V_MAX_CHOICE_BYTES 1024 ///< of one choice

/* What 0 means in the options below. */
#define GLM4V_DEFAULT_BATCH 4
#define GLM4V_DEFAULT_PENDING 64
#define GLM4V_DEFAULT_CONTEXT 8192 ///< or the model's own length, if that is less
#define GLM4V_DEFAULT_PREFIX_TOKENS 1024
#define GLM4V_DEFAULT_TOKENS 64
#define GLM4V_DEFAULT_REASONING_TOKENS 1024

/** @return Version of the library, "MAJOR.MINOR.PATCH"; static storage. Any thread. */
GLM4V_API const char *glm4v_version(void);

/** @return Short name of a glm4v_error_code such as "not-found", "unknown" for others; static. */
GLM4V_API const char *glm4v_error_name(int code);

/* ---------------------------------------------------------------- model ---------------------- */

/** A loaded model: immutable, reference-counted, shared by any number of engines and threads. */
typedef struct glm4v_model glm4v_model;

/** Importance of a log line. */
typedef enum {
    GLM4V_LOG_ERROR = 1,
    GLM4V_LOG_WARNING = 2,
    GLM4V_LOG_INFO = 3,
    GLM4V_LOG_DEBUG = 4,
} glm4v_log_level;

/** Receives one log line (no newline). May be called from any engine thread; must not block. */
typedef void (*glm4v_log_fn)(void *user, glm4v_log_level level, const char *line);

/**
 * Receives the progress of glm4v_model_open() or glm4v_quantize(), at most about 20 times a second
 * and once at the end, in the thread that called it.
 *
 * @param done, total  Bytes of weights read so far and in all; total > 0.
 * @return 0 to go on, anything else to cancel: the function then fails with GLM4V_ERR_CANCELED.
 */
typedef int (*glm4v_progress_fn)(void *user, uint64_t done, uint64_t total);

/** How to open a model. All zero: every default. */
typedef struct {
    size_t struct_size; ///< sizeof(glm4v_model_options), or 0
    /// "auto", or devices of stages: "cpu", "cuda[:N]", as "cuda:0,cuda:1,cpu"; NULL = "auto":
    /// the first GPU where there is one that can be used, and the CPU for what it has no room for.
    /// GPUs share layers by free memory; beside them a CPU gets those that do not fit
    const char *device;
    /// NULL = as stored; "bf16", "fp32", "int8", "int4", "int4-32", "fp8", "fp8-dynamic" (text and
    /// vision), or "text=F,vision=F,embedding=F,lm-head=F" with any of the four keys
    const char *quantization;
    uint32_t n_threads;   ///< CPU threads; 0 = the cores this process may use
    uint64_t random_seed; ///< with random_weights: seed of the weights
    /// 1 = read only config.json and fill memory with seeded random weights
    int random_weights;
    /// 1 = open without tokenizer and processor files (reference vectors)
    int weights_only;
    glm4v_progress_fn progress; ///< NULL = none
    void *progress_user;        ///< passed to progress
    glm4v_log_fn log;           ///< NULL = silent
    void *log_user;             ///< passed to log; must stay valid until the model is freed
    /// text layers by hand, "cuda:0=0-19,cuda:1=20-38,cpu=39", instead of device; NULL = dealt out
    const char *layers;
    uint64_t gpu_memory_limit; ///< bytes of each GPU to use at most; 0 = what is free
} glm4v_model_options;

/** Parts of a model whose weight form is chosen separately. */
typedef enum {
    GLM4V_PART_TEXT,
    GLM4V_PART_VISION,
    GLM4V_PART_EMBEDDING,
    GLM4V_PART_LM_HEAD,
    GLM4V_N_PARTS
} glm4v_part;

/** What a model directory holds. Strings live inside the struct. */
typedef struct {
    size_t struct_size;     ///< set by who owns the struct: sizeof(glm4v_model_info), or 0
    char family[16];        ///< "glm4v", "chatglm4v" or "glm_ocr"
    char chat_template[16]; ///< "glm-4.1v", "glm-4.5", "chatglm4v", "glm-ocr"; "none": weights only
    /// last component of the directory's path, in UTF-8: U+FFFD for other bytes, whole characters
    char name[64];
    /// what most weights are stored as: "bf16", "fp32", "fp16", "int8", "int4", "int4-32", "fp8"
    char stored_form[16];
    char form[GLM4V_N_PARTS][16]; ///< form of each part in memory, by glm4v_part
    /// kernels in use: "c", "avx2", "avx512+vnni+bf16", "sm_90, NVIDIA H200"; "" before loading
    char isa[32];
    char hash[17];         ///< 64-bit digest of config and tensor headers, hexadecimal
    uint64_t n_parameters; ///< numbers in all tensors used
    uint64_t file_bytes;   ///< bytes of the weight files
    uint32_t n_shards;     ///< weight files
    uint32_t n_tensors;    ///< tensors in them
    uint32_t vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim, ffn_size;
    uint32_t vision_hidden_size, vision_layers, vision_heads, patch_size, merge_size;
    uint32_t context_length;         ///< positions the model was made for
    uint64_t min_pixels, max_pixels; ///< bounds of an image after resizing, pixels of one frame
    /// layout of quantized weights: "compressed-tensors", "awq gemm", "gptq", "gptq_v2", "fp8"; ""
    char stored_layout[32];
    uint64_t step_bytes; ///< of the weights that one step of decoding reads, in their forms
    /// multiply-adds of the vision tower's matrices for one image token; attention comes on top
    uint64_t vision_products;
    char image_device[16]; ///< the device that prepares images: "cpu", "cuda:0"; "" before loading
    /// digest of the table by which GPUs choose their matrix products, hexadecimal, of an empty one
    /// too; of several GPUs with different tables one of all, in the order of their layers. "" on
    /// the CPU, before loading, and while a table is being made
    char products[17];
} glm4v_model_info;

/** A compute device, and what is free on it. */
typedef struct {
    char name[16];                         ///< as in a device string: "cpu", "cuda:0"
    char gpu[64];                          ///< name of the card; "" for the CPU
    uint32_t compute_major, compute_minor; ///< compute capability of the card; 0 for the CPU
    uint64_t memory;                       ///< bytes in all; 0 if unknown
    uint64_t available;                    ///< bytes that are free now; UINT64_MAX if unknown
} glm4v_device;

/** What one device of a model holds, in bytes. */
typedef struct {
    char name[16];        ///< "cpu", "cuda:0"
    uint32_t first_layer; ///< text layers [first_layer, first_layer + n_layers) are there
    uint32_t n_layers;    ///< the first device also holds the vision tower
    uint64_t weights, kv_cache, scratch; ///< as in glm4v_memory
    /// by glm4v_part: nonzero where that part, or layers of it, lie there
    uint8_t holds[GLM4V_N_PARTS];
    uint64_t room; ///< bytes that may be used there, gpu_memory_limit included; UINT64_MAX: unknown
} glm4v_device_memory;

/**
 * Memory that a model and one engine on it take, in bytes: what the library allocates, within 3 %.
 * Stacks of threads and code come on top, some MiB.
 */
typedef struct {
    size_t struct_size; ///< set by the caller: sizeof(glm4v_memory), or 0
    uint64_t weights;   ///< all weights in their chosen forms, scales included
    uint64_t kv_cache;  ///< keys and values of max_batch requests of context_length tokens, and of
                        ///< prefix_tokens
    uint64_t scratch;   ///< activations, logits, and images of max_batch requests at the given size
    uint64_t total;     ///< weights, tables, kv_cache and scratch together: at work
    uint64_t tables;    ///< tokenizer, and lists of the model
    uint64_t loading;   ///< buffers while the weights are read; gone before an engine is opened
    uint64_t peak;      ///< the larger of total, and weights, tables and loading together
    uint64_t available; ///< that this process can still allocate; UINT64_MAX if unknown
    uint32_t n_devices; ///< entries of device
    glm4v_device_memory device[GLM4V_MAX_DEVICES];
} glm4v_memory;

/** How to run an engine. All zero: every default. */
typedef struct {
    size_t struct_size; ///< sizeof(glm4v_engine_options), or 0
    /// requests advanced together, [1, GLM4V_MAX_BATCH]; 0 = GLM4V_DEFAULT_BATCH
    uint32_t max_batch;
    /// requests of one stream that may wait, [1, GLM4V_MAX_PENDING]; 0 = GLM4V_DEFAULT_PENDING
    uint32_t max_pending;
    uint32_t context_length; ///< tokens per request, images included; 0 = GLM4V_DEFAULT_CONTEXT
    /// upper bound of an image after resizing, pixels; 0 = the model's own. A model of one image
    /// size (family chatglm4v) keeps it
    uint64_t max_pixels;
    /// constant prompt tokens kept between requests; 0 = GLM4V_DEFAULT_PREFIX_TOKENS
    uint32_t prefix_tokens;
    /// decode steps under way at once on a model that is spread over several GPUs, [1, 4]; the
    /// requests are dealt to them evenly. 0 = one for each GPU if they have about as many layers
    /// each and there are more than 16 requests for each but the last, else fewer. Answers do not
    /// depend on it
    uint32_t batches_in_flight;
    /// form of keys and values: NULL or "auto" = what each device prefers (bf16, or fp32 on the CPU
    /// for an fp32 model); "bf16"; "int8", with a scale per token and head: half the memory, on
    /// GPUs only
    const char *kv_cache;
} glm4v_engine_options;

/**
 * Open a model directory: validate everything, then load the weights.
 *
 * @param[out] model  The model, one reference; release with glm4v_model_close().
 * @param dir         Hugging Face layout: config.json, *.safetensors (with index if sharded),
 *                    tokenizer.json or tokenizer.model, tokenizer_config.json,
 *                    preprocessor_config.json (not for family chatglm4v).
 * @param options     NULL = all defaults. Read during the call only, log and log_user apart.
 * @param[out] err    Written on failure only; may be NULL.
 *
 * @return 0. On failure *model is untouched and nothing stays allocated or open:
 *         GLM4V_ERR_NOT_FOUND, _IO, _FORMAT, _UNSUPPORTED (err->msg names file, key or tensor),
 *         _INVALID (an option), _NOMEM, _CANCELED (by progress), _DEVICE.
 *
 * Thread-safety: any thread; several models may be opened at once.
 * Cost: validation reads headers only (below 2 s); loading is limited by the disk. Weights are read
 * with pread into memory owned by the model, so later changes of the files do no harm; a file that
 * changes while it is read is an error (GLM4V_ERR_IO).
 */
GLM4V_API int glm4v_model_open(glm4v_model **model, const char *dir,
                               const glm4v_model_options *options, glm4v_error *err);

/** Add a reference. @return model. Any thread. */
GLM4V_API glm4v_model *glm4v_model_ref(glm4v_model *model);

/** Drop a reference, free the model with the last one, set *model NULL. Any thread. */
GLM4V_API void glm4v_model_close(glm4v_model **model);

/** @return What was loaded; lives as long as the model. Any thread. */
GLM4V_API const glm4v_model_info *glm4v_model_get_info(const glm4v_model *model);

/**
 * Validate a model directory and describe its contents, without loading weights (tens of ms).
 * Checks all that glm4v_model_open() checks before it allocates. Errors as there.
 */
GLM4V_API int glm4v_model_inspect(const char *dir, const glm4v_model_options *options,
                                  glm4v_model_info *info, glm4v_error *err);

/** For which options and images glm4v_model_estimate_memory() computes. */
typedef struct {
    size_t struct_size;                 ///< sizeof(glm4v_estimate_options), or 0
    const glm4v_model_options *model;   ///< NULL = model defaults
    const glm4v_engine_options *engine; ///< NULL = engine defaults
    uint32_t width, height; ///< image size in pixels that the engine will see; each other size adds
                            ///< tables of its own, for at most 4 sizes
    /// 1 = requests have a json_schema: scratch also counts what max_batch of them take at most, of
    /// 4 different schemas without long lists of fixed values. 0 = none has (default)
    uint8_t json_schema;
} glm4v_estimate_options;

/**
 * Memory that opening dir with these options needs, computed from headers alone.
 */
GLM4V_API int glm4v_model_estimate_memory(const char *dir, const glm4v_estimate_options *options,
                                          glm4v_memory *memory, glm4v_error *err);

/**
 * Look at a device: what it is and how much memory is free on it. A GPU is initialised by this.
 *
 * @param name  "cpu", or "cuda[:N]".
 * @return 0. GLM4V_ERR_INVALID (another name), _DEVICE (no such GPU, no driver: err->msg has the
 *         reason).
 *
 * Thread-safety: any thread.
 */
GLM4V_API int glm4v_device_examine(const char *name, glm4v_device *device, glm4v_error *err);

/** What glm4v_device_measure() found. */
typedef struct {
    double read_rate;    ///< bytes a second that the GPU reads from its memory
    double product_rate; ///< multiplications and additions a second of a large product of bf16
                         ///< matrices; 0: there is no memory for one (some 300 MiB)
} glm4v_device_rates;

/**
 * Measure what a GPU reaches now: the best of several passes over up to 1 GiB of its memory, and
 * the best of several products. The memory is given back. Takes some tenths of a second.
 *
 * @return 0. GLM4V_ERR_UNSUPPORTED ("cpu"), _INVALID, _DEVICE, _NOMEM (32 MiB are not free).
 *
 * Thread-safety: any thread; work of other threads on that device makes it slower.
 */
GLM4V_API int glm4v_device_measure(const char *name, glm4v_device_rates *rates, glm4v_error *err);

/**
 * The CUDA context in which models on a GPU work, the primary one of the device, for programs that
 * hand over images in its memory. It exists until each call has met a glm4v_device_release() and
 * the models on that GPU are closed.
 *
 * @param name          "cuda[:N]".
 * @param[out] context  A CUcontext.
 * @return 0. GLM4V_ERR_UNSUPPORTED ("cpu"), _INVALID, _DEVICE. Thread-safety: any thread.
 */
GLM4V_API int glm4v_device_retain(const char *name, void **context, glm4v_error *err);

/** Undo one glm4v_device_retain() of the same name. Any thread. */
GLM4V_API void glm4v_device_release(const char *name);

/**
 * @return Values of glm4v_model_options.quantization that are worth comparing, the largest first;
 * NULL ends the list. Static. When memory is too small for a model, glm4v_model_open() names one of
 * these. Any thread.
 */
GLM4V_API const char *const *glm4v_quantization_choices(void);

/** Whose memory an image is in. */
typedef enum {
    GLM4V_IMAGE_HOST = 0, ///< of the process: every device reads it
    GLM4V_IMAGE_CUDA = 1, ///< of the CUDA device number `device`: only a model on it can read it
} glm4v_image_memory;

/** How the pixels of an image lie. 8 bits a channel, P010 10. Half sizes are rounded up. */
typedef enum {
    GLM4V_PIXELS_RGB = 0, ///< 3 bytes a pixel, full range: every device reads it
    GLM4V_PIXELS_GRAY8,   ///< 1 byte a pixel, full range
    GLM4V_PIXELS_NV12,    ///< luma, and a plane of U and V in turns at half the size
    GLM4V_PIXELS_I420,    ///< luma, and planes of U and of V at half the size
    GLM4V_PIXELS_BGR,     ///< as RGB, blue first
    GLM4V_PIXELS_RGBX,    ///< 4 bytes a pixel: RGB and one that is not read
    GLM4V_PIXELS_BGRX,    ///< as RGBX, blue first
    GLM4V_PIXELS_P010,    ///< as NV12, 2 bytes a value (little-endian), of which the upper 10 bits
    GLM4V_PIXELS_YUY2,    ///< 4 bytes for two pixels of a row: Y U Y V
    GLM4V_PIXELS_RGBA,    ///< 4 bytes a pixel: RGB and alpha; what is transparent becomes white
    GLM4V_PIXELS_BGRA,    ///< as RGBA, blue first
} glm4v_pixel_format;

/** How luma and chroma become RGB. */
typedef enum {
    GLM4V_YUV_DEFAULT = 0, ///< BT.601 up to 576 rows, above BT.709, as GStreamer does
    GLM4V_YUV_BT601,
    GLM4V_YUV_BT709,
    GLM4V_YUV_BT2020,
} glm4v_yuv_matrix;

/**
 * An image: row-major, borrowed, never copied whole. Zero in the fields after timestamp is RGB in
 * memory of the process, which every device reads. Anything else is for devices that prepare images
 * themselves; on others it is GLM4V_ERR_UNSUPPORTED, and the message names the conversion.
 */
typedef struct {
    const uint8_t *data;       ///< first byte of the top row
    int32_t width;             ///< pixels, [1, GLM4V_MAX_SIDE]
    int32_t height;            ///< pixels, [1, GLM4V_MAX_SIDE]; sides at most 200:1
    int64_t stride;            ///< bytes from one row to the next; of RGB >= 3 * width
    double timestamp;          ///< seconds since the clip began; read for clip frames only
    glm4v_image_memory memory; ///< of data and plane; 0 = the process
    int32_t device;            ///< number of the device whose memory it is
    glm4v_pixel_format format; ///< 0 = RGB
    const uint8_t *plane[2];   ///< planes behind the first; NULL where the format has none
    int64_t plane_stride[2];   ///< bytes from one row of them to the next
    glm4v_yuv_matrix matrix;   ///< of formats with luma and chroma
    int32_t full_range;        ///< their values: nonzero: [0, 255]; 0: luma [16, 235]
    int32_t left, top;         ///< pixels, >= 0: where in the planes the image's first one is
} glm4v_image;

/* ---------------------------------------------------------------- converter ------------------ */

/** How to convert a checkpoint. All zero apart from quantization: every default. */
typedef struct {
    size_t struct_size; ///< sizeof(glm4v_quantize_options), or 0
    /// as in glm4v_model_options, required; parts that it does not name stay as they are stored
    const char *quantization;
    uint32_t n_threads;         ///< CPU threads; 0 = the cores this process may use
    uint64_t shard_bytes;       ///< largest weight file, bytes; 0 = 5 000 000 000
    glm4v_progress_fn progress; ///< NULL = none
    void *progress_user;        ///< passed to progress
    glm4v_log_fn log;           ///< NULL = silent
    void *log_user;             ///< passed to log
    /// of the kind the model will see: int4 matrices are calibrated on them; NULL = rounded to
    /// nearest. Borrowed during the call; an image of more than 2^20 pixels is seen smaller
    const glm4v_image *images;
    uint32_t n_images;
    const char *const *prompts;  ///< asked about each image; NULL = two of the model family
    uint32_t n_prompts;          ///< 0 without prompts
    uint64_t calibration_memory; ///< bytes for statistics at a time; 0 = 2 GiB
    /// of calibrating, in units of its own, before progress begins; NULL = none
    glm4v_progress_fn calibration_progress;
} glm4v_quantize_options;

/**
 * Write a quantized copy of a model directory, in the layout of the compressed-tensors package,
 * which this library and other engines read.
 *
 * int8: `NAME.weight` I8 [n, k] and `NAME.weight_scale` F32 [n, 1]. int4: `NAME.weight_packed` I32
 * [n, k / 8], `NAME.weight_scale` F32 [n, k / 128], `NAME.weight_shape` I64 [2]. int4-32: the same,
 * scales [n, k / 32]. fp8: `NAME.weight` F8_E4M3 [n, k] and `NAME.weight_scale` F32 [n, 1];
 * fp8-dynamic: the same, and config.json says that activations are rounded to e4m3. The numbers are
 * those that glm4v_model_open() computes from src with the same quantization; with images those of
 * int4 and int4-32 are better. Norms, biases and position tables are copied, as are convolutions
 * unless vision is to be bf16 or fp32; so are all files beside the weights (tokenizer, settings,
 * licence), and config.json gets the key "quantization_config".
 *
 * @param src      Model directory as for glm4v_model_open(), not quantized; without a tokenizer its
 *                 weights and config alone are looked at.
 * @param dst      Folder to make, in a folder that is there and not within src; it may be there if
 *                 it is empty. The result appears under this name as a whole, or not at all: it is
 *                 written beside it, synced to the disk, and renamed. What a killed run left beside
 *                 it the next one for the same dst removes.
 * @param options  Read during the call only.
 * @param[out] err Written on failure only; may be NULL.
 *
 * @return 0. On failure nothing of dst is left, and an empty folder dst is as it was:
 *         GLM4V_ERR_INVALID      quantization is missing or wrong; dst is not empty, no folder, or
 *                                lies in src
 *         GLM4V_ERR_UNSUPPORTED  src is quantized already, or embedding and head, which are one
 *                                tensor in src, are named
 *         GLM4V_ERR_BUSY         dst is being written by another call or process
 *         GLM4V_ERR_IO           not enough room (told before anything is written), or a file
 *                                cannot be read or written, or src changed meanwhile
 *         GLM4V_ERR_CANCELED     by progress
 *         and all that glm4v_model_inspect() returns for src.
 *
 * Thread-safety: any thread. The process's handling of SIGXFSZ is the caller's business: ignored,
 * a file size limit is an error like a full disk.
 * Cost: reads src once; memory of a few MiB a thread whatever the size of the checkpoint, and the
 * list of its tensors. With images: memory of the model as stored and of the quantized one, and
 * the time of many passes over the images (docs/quantization.md).
 */
GLM4V_API int glm4v_quantize(const char *src, const char *dst,
                             const glm4v_quantize_options *options, glm4v_error *err);

/* ---------------------------------------------------------------- engine --------------------- */

/** One model plus a scheduler thread that batches requests continuously. */
typedef struct glm4v_engine glm4v_engine;

/** One queued description; reference-counted. */
typedef struct glm4v_request glm4v_request;

/** An earlier exchange of the conversation. Strings and images are borrowed like the task's. */
typedef struct {
    const char *user;          ///< the question
    const char *assistant;     ///< what was answered, without reasoning
    const glm4v_image *images; ///< images that stood before the question
    uint32_t n_images;
} glm4v_turn;

/** Part of a model's output that a piece of text belongs to. */
typedef enum {
    GLM4V_TEXT_ANSWER,    ///< the caption
    GLM4V_TEXT_REASONING, ///< inside <think>...</think>
    GLM4V_TEXT_BOX,       ///< inside box markers; part of the answer too
} glm4v_text_part;

/** Why generation ended. */
typedef enum {
    GLM4V_FINISH_STOP,     ///< the model ended its answer
    GLM4V_FINISH_LENGTH,   ///< max_tokens reached, or the context is full
    GLM4V_FINISH_DEADLINE, ///< the deadline passed: text is what there was
    GLM4V_FINISH_CANCELED, ///< canceled
    GLM4V_FINISH_ERROR,    ///< failed, see status and message
} glm4v_finish;

/** Where the time of a request went, in nanoseconds. */
typedef struct {
    uint64_t queued;      ///< submit to first step
    uint64_t preprocess;  ///< resize, normalise, patches
    uint64_t vision;      ///< vision tower
    uint64_t prefill;     ///< prompt through the text model
    uint64_t first_token; ///< submit to first token known
    uint64_t decode;      ///< first token to the end
    uint64_t total;       ///< submit to the end
} glm4v_timings;

/** A box that the answer names, in pixels of the image that the question is about: the first of the
 *  task's images or frames, else the last of its history. Lies inside it. */
typedef struct {
    int32_t x, y;          ///< left upper corner
    int32_t width, height; ///< at least 1
    const char *label;     ///< its label in the answer, at most 63 bytes; "" if there is none
} glm4v_box;

/** The action in an answer of a phone agent: do(action="Tap", element=[500, 210]) or
 *  finish(message="..."). The library never executes it, and it is the output of a model: check it
 *  before you execute it. */
typedef struct {
    const char *action;  ///< "Tap", "Swipe", ... as the model wrote it; "finish"; "" = no action
    const char *text;    ///< text to type, app to start, instruction or duration; "" if none
    const char *message; ///< "" if none
    int32_t element[2];  ///< x, y in pixels, as for boxes; of a swipe its start; -1, -1 = none
    int32_t to[2];       ///< x, y where a swipe ends; -1, -1 = none
} glm4v_action;

/** What came out. Valid during on_done, or until glm4v_result_free() where a caller owns it. */
typedef struct {
    int status;             ///< 0, or the GLM4V_ERR_* that ended the request
    const char *message;    ///< for a person; "" when status is 0
    glm4v_finish finish;    ///< why it ended
    const char *text;       ///< the answer alone: valid UTF-8, trimmed, no markers; "" if none
    const char *reasoning;  ///< "" if none
    const char *box;        ///< contents of the first box, e.g. "[[12,40,200,310]]"; "" if none
    uint32_t prompt_tokens; ///< all tokens in, images included
    uint32_t vision_tokens; ///< of these, images
    uint32_t cached_tokens; ///< of these, taken from the prefix cache
    uint32_t output_tokens; ///< tokens generated, stop token not counted
    uint32_t image_width, image_height; ///< size the first image was resized to
    glm4v_timings timings;
    /// boxes of the answer, between box markers or in its JSON; those outside the image left out
    const glm4v_box *boxes;
    uint32_t n_boxes;    ///< at most GLM4V_MAX_BOXES
    glm4v_action action; ///< of a phone agent; text holds it as written
    /// the most probable of task->choices, the first of equals, as given there; "" without choices,
    /// and where the request did not end well
    const char *choice;
    uint32_t choice_index; ///< its place in task->choices
    double probability;    ///< its share among the choices, (0, 1]; 0 without choices
    /// shares of all choices in their order, with the sum 1; NULL without choices
    const double *probabilities;
    uint32_t n_probabilities;
    /// the answer as one line of JSON that matches task->json_schema, the same as text; "" without
    /// a schema, and where the request did not end well
    const char *json;
    uint32_t drafted_tokens;  ///< that were expected and checked, see glm4v_task.speculation
    uint32_t accepted_tokens; ///< of these, were right: each saved a step
} glm4v_result;

/** Whether several tokens of an answer may be checked at a time. */
typedef enum {
    GLM4V_SPECULATION_AUTO = 0, ///< where something is expected, and as far as it has come true
    GLM4V_SPECULATION_OFF = 1,  ///< one token after the other
} glm4v_speculation;

/** What to describe and how. All zero apart from prompt and images: every default. */
typedef struct {
    size_t struct_size;        ///< sizeof(glm4v_task), or 0
    const char *system;        ///< system prompt; NULL = none
    const char *prompt;        ///< the question; required
    const glm4v_image *images; ///< images, before the prompt in order
    uint32_t n_images;         ///< [0, GLM4V_MAX_IMAGES]
    /// a video clip in time order instead of images; timestamps required
    const glm4v_image *frames;
    uint32_t n_frames;         ///< [0, GLM4V_MAX_FRAMES]; images and frames exclude each other
    const glm4v_turn *history; ///< earlier turns, oldest first
    uint32_t n_history;        ///< [0, GLM4V_MAX_TURNS]
    uint32_t max_tokens;       ///< of the answer, [1, GLM4V_MAX_TOKENS]; 0 = GLM4V_DEFAULT_TOKENS
    /// with thinking, then the answer is forced; 0 = GLM4V_DEFAULT_REASONING_TOKENS
    uint32_t max_reasoning_tokens;
    int thinking;             ///< 0 = answer at once (default), 1 = reason first, if it can
    float temperature;        ///< 0 = greedy; (0, 2]
    uint32_t top_k;           ///< most likely tokens to draw from; 0 = no bound
    float top_p;              ///< nucleus in (0, 1]; 0 = 1 = no bound
    float repetition_penalty; ///< [1, 2]; 0 = 1 = none
    uint64_t seed;            ///< of the draws; same seed, same text
    uint32_t stream;          ///< requests of one stream are served in order, streams in turn
    uint64_t deadline;        ///< CLOCK_MONOTONIC nanoseconds; 0 = none. Earliest first
    /// new text, whole characters
    void (*on_text)(void *user, glm4v_text_part part, const char *text);
    /// once for each queued request
    void (*on_done)(void *user, const glm4v_result *result);
    void *user; ///< passed to both callbacks
    /// the answer is one of these texts; NULL = any text. The tokens of each and the end of the
    /// answer are scored by the model at temperature 1: max_tokens and the options of sampling do
    /// not count. With thinking it reasons first
    const char *const *choices;
    uint32_t n_choices; ///< [0, GLM4V_MAX_CHOICES]; 0 = any text
    /// a JSON Schema that the answer must match; NULL = any text. The answer has no white space,
    /// the properties in the order of the schema, and no others. max_tokens must have room for the
    /// shortest answer; near its end only tokens are allowed from which the answer can still be
    /// completed. Supported are type (one or several), enum, const, properties, required,
    /// additionalProperties (true or false), items, minItems, maxItems, minLength, maxLength,
    /// minimum, maximum, exclusiveMinimum, exclusiveMaximum; annotations such as title and
    /// description have no effect. Excludes choices
    const char *json_schema;
    /// not 0: a number for the pictures of this task, history included. A task with the same number
    /// as the one before it, and the same system prompt and history, is about the same pictures:
    /// they are not encoded again if they fit into prefix_tokens
    uint64_t pictures_id;
    /// drafts of the next tokens, read off the last answers of the stream to the same question and
    /// off the task's own text, or made by the model's MTP layer, are checked several at a time.
    /// The answer is the same, byte for byte. 0 = GLM4V_SPECULATION_AUTO
    glm4v_speculation speculation;
} glm4v_task;

/** Counters since the engine was opened, and gauges. */
typedef struct {
    size_t struct_size; ///< set by the caller: sizeof(glm4v_engine_stats), or 0
    uint64_t submitted, completed, canceled, failed;
    uint64_t steps; ///< scheduler steps
    /// rows of all decode steps: one for each request, several where choices, a schema or drafts
    /// let it go on by several tokens
    uint64_t decode_rows;
    uint64_t decode_steps;
    uint64_t prefix_hits;     ///< requests that found their prefix in the cache
    uint32_t queued, running; ///< now
    uint64_t decode_time;     ///< nanoseconds during which a decode step was under way
    /// nanoseconds that each device worked on decode steps, in the order of the layers; 0 where the
    /// model is on one device, and of a CPU
    uint64_t stage_busy[GLM4V_MAX_DEVICES];
    uint64_t drafted_tokens;  ///< of all requests that ended, as in glm4v_result
    uint64_t accepted_tokens; ///< likewise
    uint64_t decode_requests; ///< of all decode steps: / decode_steps = mean batch
    /// bytes that model and engine take on all their devices with pictures of 448 x 448: weights,
    /// kv_cache and scratch of glm4v_memory. Each engine on a model counts its weights
    uint64_t memory;
} glm4v_engine_stats;

/**
 * Start an engine: takes a reference on model, allocates KV cache and decode scratch, starts the
 * scheduler thread (SCHED_BATCH, nice 5: a busy model must not delay a video path).
 *
 * @return 0. On failure *engine is untouched: GLM4V_ERR_INVALID, _NOMEM, _DEVICE.
 */
GLM4V_API int glm4v_engine_open(glm4v_engine **engine, glm4v_model *model,
                                const glm4v_engine_options *options, glm4v_error *err);

/**
 * Cancel everything, run the remaining on_done callbacks, stop the thread, free. Sets *engine NULL.
 * Not from a callback. No other thread may use the engine any more.
 */
GLM4V_API void glm4v_engine_close(glm4v_engine **engine);

/**
 * Queue one description: images and prompt in, text out through the callbacks.
 *
 * @param task      Read during the call only, except the pixels of images, frames and history
 *                  images, which are borrowed until on_done has returned.
 * @param[out] req  Handle for cancel and wait, one reference: glm4v_request_unref(). NULL if not
 *                  wanted.
 * @param[out] err  Written on failure only; may be NULL.
 *
 * @return 0. On failure nothing was queued, no callback will run and *req is untouched:
 *         GLM4V_ERR_INVALID (an image is empty or too narrow, an option is out of range, the
 *         prompt is not UTF-8, a choice is empty, a duplicate or not UTF-8), _BUSY (max_pending of
 *         this stream wait already), _UNSUPPORTED (a keyword of the schema is not supported),
 *         _NOMEM, _DEVICE (the engine stopped after a device fault). A prompt that exceeds the
 *         context length, together with the longest choice or the shortest answer, is detected
 *         later and reported to on_done as GLM4V_ERR_INVALID.
 *
 * Thread-safety: any thread. Callbacks run on the scheduler thread and must not block nor call
 * glm4v_engine_close(), glm4v_request_wait() or glm4v_describe().
 * Cost: copies the prompt, not the images; returns within 0.1 ms. With a schema the first call of
 * an engine takes some 100 ms for a vocabulary of 150,000 tokens, each later one less than 1 ms.
 * Source: continuous batching, Orca, OSDI 2022.
 */
GLM4V_API int glm4v_engine_submit(glm4v_engine *engine, const glm4v_task *task, glm4v_request **req,
                                  glm4v_error *err);

/** Describe and wait: submit, wait, return a copy of the result (glm4v_result_free()). Any thread
 *  but the callbacks'. task->on_done, if set, runs as well. @return 0 or the result's status. */
GLM4V_API int glm4v_describe(glm4v_engine *engine, const glm4v_task *task, glm4v_result **result,
                             glm4v_error *err);

/**
 * Check a task as glm4v_engine_submit() does, and queue nothing. Any thread.
 * @return 0, or what glm4v_engine_submit() would return, except _BUSY and _DEVICE.
 */
GLM4V_API int glm4v_engine_check(glm4v_engine *engine, const glm4v_task *task, glm4v_error *err);

/**
 * Check a JSON Schema without a model: see glm4v_task.json_schema. Any thread.
 * @return 0, GLM4V_ERR_INVALID, _UNSUPPORTED or _NOMEM; the message names the keyword and its
 * place.
 */
GLM4V_API int glm4v_json_schema_check(const char *json_schema, glm4v_error *err);

/** A copy of a result, such as on_done's, that outlives it. @return NULL when memory is out; else
 *  glm4v_result_free() it. Any thread. */
GLM4V_API glm4v_result *glm4v_result_copy(const glm4v_result *result);

/** Free a result that the caller owns and set *result NULL. Accepts the address of NULL. */
GLM4V_API void glm4v_result_free(glm4v_result **result);

/** Fill stats. Any thread. @return 0 or GLM4V_ERR_INVALID (struct_size). */
GLM4V_API int glm4v_engine_get_stats(glm4v_engine *engine, glm4v_engine_stats *stats,
                                     glm4v_error *err);

/**
 * Ask a request to end: returns at once; it ends within one step (one layer of vision or prefill
 * work, or one token) and on_done is called with status GLM4V_ERR_CANCELED. No effect once done.
 * Any thread.
 */
GLM4V_API void glm4v_request_cancel(glm4v_request *req);

/**
 * Wait until on_done has returned.
 * @param timeout_ns Nanoseconds; UINT64_MAX = forever; 0 = only check.
 * @return 0 when done, GLM4V_ERR_DEADLINE after timeout_ns. Any thread but the callbacks'.
 */
GLM4V_API int glm4v_request_wait(glm4v_request *req, uint64_t timeout_ns);

/** Drop the reference and set *req NULL. The request itself goes on. Any thread. */
GLM4V_API void glm4v_request_unref(glm4v_request **req);

/* ---------------------------------------------------------------- other engines -------------- */

/**
 * Read what another program's model answered to a task, a server's for instance: reasoning and
 * answer apart, markers and characters that do not show left out, boxes and action found as in an
 * answer of an engine of this library, choices and schema checked.
 *
 * @param[out] result  Of status 0, freed by glm4v_result_free(). Tokens, timings and probabilities
 *                     are unknown: 0 and NULL. With choices it has choice and choice_index, with a
 *                     schema json, whose properties stand in the order of the schema.
 * @param text         As it was written, markers such as <think> and <|begin_of_box|> included.
 *                     Bytes that are no UTF-8 become U+FFFD; at most 64 KiB of a part are taken.
 * @param task         Sizes of its images or frames, choices and json_schema count.
 *
 * @return 0; GLM4V_ERR_FORMAT: the answer is none of the choices, or does not match the schema;
 *         _INVALID, _UNSUPPORTED: the schema cannot be used; _NOMEM. Any thread.
 */
GLM4V_API int glm4v_answer_parse(glm4v_result **result, const char *text, const glm4v_task *task,
                                 glm4v_error *err);

/**
 * The size that an image of more than max_pixels pixels is resized to: that of the processor of
 * GLM-4.1V, about the same shape with sides that are multiples of 28. Others keep theirs.
 *
 * @param image               RGB in memory of the process.
 * @param max_pixels          Of the whole image, width times height; 0 = no bound.
 * @param[out] width, height  In pixels, at least 1. Unchanged on failure.
 *
 * @return 0, GLM4V_ERR_INVALID (empty, or too narrow), GLM4V_ERR_UNSUPPORTED. Any thread.
 */
GLM4V_API int glm4v_image_fit(const glm4v_image *image, uint64_t max_pixels, int32_t *width,
                              int32_t *height, glm4v_error *err);

/**
 * Resize as the processors of the models do, bicubic and equal to Pillow's.
 *
 * @param[out] pixels  [height, width, 3], without padding.
 *
 * @return 0, GLM4V_ERR_INVALID, GLM4V_ERR_UNSUPPORTED, GLM4V_ERR_NOMEM. Any thread.
 */
GLM4V_API int glm4v_image_resize(uint8_t *pixels, int32_t width, int32_t height,
                                 const glm4v_image *image, glm4v_error *err);

/* ---------------------------------------------------------------- verdict -------------------- */

/** What the probabilities of an inspection's choices mean. */
typedef enum {
    GLM4V_VERDICT_UNKNOWN, ///< uncertain
    GLM4V_VERDICT_PASS,    ///< OK
    GLM4V_VERDICT_FAIL,    ///< NG
} glm4v_verdict;

/**
 * The verdict of one result: FAIL if any choice that fails has at least its threshold, chosen or
 * not; PASS if the chosen one, the most probable and first of equals, does not fail and has at
 * least its own; else UNKNOWN.
 *
 * @param probabilities  [n] as in glm4v_result; each in [0, 1].
 * @param fails          [n] nonzero: this choice is a defect.
 * @param thresholds     [n] each in (0, 1]; NULL = 0.5 each.
 *
 * Without choices (n = 0) it is UNKNOWN. Any thread; pure.
 */
GLM4V_API glm4v_verdict glm4v_decide(const double *probabilities, const unsigned char *fails,
                                     const double *thresholds, uint32_t n);

/** @return "unknown", "pass" or "fail"; "unknown" for other values. Static. Any thread. */
GLM4V_API const char *glm4v_verdict_name(glm4v_verdict verdict);

/** What a text that was read must contain, such as a lot code or a date. Immutable. */
typedef struct glm4v_matcher glm4v_matcher;

/**
 * Compile a pattern: a small part of regular expressions, whose matching takes time proportional to
 * the text. Characters as they are; . is any but a new line; [0-9A-F] and [^x]; \d \w \s, of ASCII;
 * a backslash before a sign; ( ) and (?: ) for groups, | for alternatives; ? * + {N} {N,} {N,M} up
 * to 255; ^ and $ for the ends of a line.
 *
 * @param[out] matcher  Closed by the caller. Unchanged on failure.
 * @param pattern       UTF-8, not empty, e.g. "LOT[0-9]{6}".
 *
 * @return 0, GLM4V_ERR_INVALID (err->msg has the place: not of this part, too long, or it would
 *         match a text without characters), GLM4V_ERR_NOMEM. Any thread.
 */
GLM4V_API int glm4v_matcher_open(glm4v_matcher **matcher, const char *pattern, glm4v_error *err);

/**
 * @param text  UTF-8.
 *
 * @return PASS if the pattern matches somewhere in text, but neither begins nor ends inside of a
 *         word of ASCII letters, digits and _: "LOT[0-9]{6}" is not in "LOT1234567". Else FAIL.
 *
 * Any thread, several at once; allocates nothing.
 */
GLM4V_API glm4v_verdict glm4v_matcher_check(const glm4v_matcher *matcher, const char *text);

/** Set *matcher NULL. NULL and a pointer to NULL are allowed. */
GLM4V_API void glm4v_matcher_close(glm4v_matcher **matcher);

#ifdef __cplusplus
}
#endif
#endif /* GLM4V_H */
