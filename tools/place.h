/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a model lies: the options of all subcommands that choose it, and the plan. */
#ifndef GLM4V_TOOLS_PLACE_H
#define GLM4V_TOOLS_PLACE_H

#include "cli.h"
#include "contract/json.h"

/* Values of the options; all NULL and 0: what the engine chooses. */
typedef struct {
    const char *device, *layers;
    uint64_t gpu_memory_limit;
} cli_place;

/* Rows of a subcommand's table of options. */
#define CLI_PLACE_OPTIONS(place)                                                                   \
    { "device",                                                                                    \
      "D",                                                                                         \
      CLI_STRING,                                                                                  \
      &(place).device,                                                                             \
      0,                                                                                           \
      0,                                                                                           \
      "auto (default), cpu, cuda[:N], several with commas between them" },                         \
        { "layers",                                                                                \
          "MAP",                                                                                   \
          CLI_STRING,                                                                              \
          &(place).layers,                                                                         \
          0,                                                                                       \
          0,                                                                                       \
          "text layers of each device instead, as cuda:0=0-19,cpu=20-39" },                        \
    {                                                                                              \
        "gpu-memory-limit", "SIZE", CLI_BYTES, &(place).gpu_memory_limit, 1, 0x1p60,               \
            "most memory to use of each GPU, as 6GiB; default what is free"                        \
    }

/* Form of keys and values. */
#define CLI_KV_OPTION(kv_cache)                                                                    \
    {                                                                                              \
        "kv-cache", "F", CLI_STRING, &(kv_cache), 0, 0,                                            \
            "form of keys and values: auto (default), bf16, int8 (GPUs: half the memory)"          \
    }

void cli_place_set(glm4v_model_options *options, const cli_place *place);

/* Bytes of a plan on the device that number i names, and those that its devices have no room for:
 * 0, it fits. */
uint64_t cli_place_bytes(const glm4v_memory *memory, uint32_t i);
uint64_t cli_place_missing(const glm4v_memory *memory);
/* Is number i the first of its name? */
bool cli_place_first(const glm4v_memory *memory, uint32_t i);

/* The plan per device; each GPU is looked at. Text: lines; JSON: an array "devices". */
void cli_place_print(const glm4v_memory *memory);
void cli_place_json(glm4v_contract_json *json, const glm4v_memory *memory);
/* Keys that only a GPU has: its name and compute capability. */
void cli_place_json_gpu(glm4v_contract_json *json, const glm4v_device *device);

#endif
