/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "place.h"

#include <string.h>

/* Parts that are not layers. */
static const struct {
    glm4v_part part;
    const char *name;
} outer[] = { { GLM4V_PART_VISION, "vision" },
              { GLM4V_PART_EMBEDDING, "embedding" },
              { GLM4V_PART_LM_HEAD, "head" } };
enum { N_OUTER = sizeof outer / sizeof *outer };

void cli_place_set(glm4v_model_options *options, const cli_place *place)
{
    options->device = place->device;
    options->layers = place->layers;
    options->gpu_memory_limit = place->gpu_memory_limit;
}

uint64_t cli_place_bytes(const glm4v_memory *memory, uint32_t i)
{
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < memory->n_devices; k++) {
        const glm4v_device_memory *d = &memory->device[k];
        if (!strcmp(d->name, memory->device[i].name))
            bytes += d->weights + d->kv_cache + d->scratch;
    }
    return bytes;
}

bool cli_place_first(const glm4v_memory *memory, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (!strcmp(memory->device[k].name, memory->device[i].name))
            return false;
    return true;
}

/* The CPU alone also holds the tables, and the buffers while the weights are read. */
uint64_t cli_place_missing(const glm4v_memory *memory)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < memory->n_devices; i++) {
        const glm4v_device_memory *d = &memory->device[i];
        const bool alone = memory->n_devices == 1 && !strcmp(d->name, "cpu");
        const uint64_t bytes = alone ? memory->peak : cli_place_bytes(memory, i);
        if (cli_place_first(memory, i) && bytes > d->room)
            missing += bytes - d->room;
    }
    return missing;
}

static void look(const glm4v_device_memory *d, glm4v_device *device)
{
    *device = (glm4v_device) { .available = UINT64_MAX };
    glm4v_device_examine(d->name, device, NULL); /* its backend has been open: it is there */
}

static void print_device(const glm4v_memory *memory, uint32_t i)
{
    char text[4][32];
    glm4v_device device;
    look(&memory->device[i], &device);
    printf("%-8s", memory->device[i].name);
    if (*device.gpu)
        printf(" %s, compute capability %u.%u,", device.gpu, device.compute_major,
               device.compute_minor);
    printf(" %s, %s free; the plan takes %s", cli_bytes(text[0], device.memory),
           device.available == UINT64_MAX ? "unknown" : cli_bytes(text[1], device.available),
           cli_bytes(text[2], cli_place_bytes(memory, i)));
    if (memory->device[i].room != UINT64_MAX)
        printf(" of %s", cli_bytes(text[3], memory->device[i].room));
    putchar('\n');
}

static void print_stage(const glm4v_device_memory *d)
{
    char text[3][32], layers[32];
    snprintf(layers, sizeof layers, "layers %u-%u", d->first_layer,
             d->first_layer + d->n_layers - 1);
    printf("  %-14s weights %10s, kv cache %10s, scratch %10s", layers,
           cli_bytes(text[0], d->weights), cli_bytes(text[1], d->kv_cache),
           cli_bytes(text[2], d->scratch));
    for (int p = 0, n = 0; p < N_OUTER; p++)
        if (d->holds[outer[p].part])
            printf("%s%s", n++ ? ", " : "; ", outer[p].name);
    putchar('\n');
}

void cli_place_print(const glm4v_memory *memory)
{
    for (uint32_t i = 0; i < memory->n_devices; i++) {
        if (!cli_place_first(memory, i))
            continue;
        print_device(memory, i);
        for (uint32_t k = i; k < memory->n_devices; k++)
            if (!strcmp(memory->device[k].name, memory->device[i].name))
                print_stage(&memory->device[k]);
    }
}

/* null where nothing tells. */
static void json_bytes(glm4v_contract_json *json, const char *key, uint64_t bytes)
{
    if (bytes == UINT64_MAX)
        glm4v_contract_json_null(json, key);
    else
        glm4v_contract_json_int(json, key, bytes);
}

void cli_place_json_gpu(glm4v_contract_json *json, const glm4v_device *device)
{
    char capability[32];
    snprintf(capability, sizeof capability, "%u.%u", device->compute_major, device->compute_minor);
    glm4v_contract_json_string(json, "gpu", device->gpu);
    glm4v_contract_json_string(json, "compute_capability", capability);
}

static void json_stage(glm4v_contract_json *json, const glm4v_device_memory *d)
{
    glm4v_device device;
    look(d, &device);
    glm4v_contract_json_open(json, NULL);
    glm4v_contract_json_string(json, "device", d->name);
    if (*device.gpu)
        cli_place_json_gpu(json, &device);
    glm4v_contract_json_int(json, "memory", device.memory);
    json_bytes(json, "available", device.available);
    json_bytes(json, "room", d->room);
    glm4v_contract_json_int(json, "first_layer", d->first_layer);
    glm4v_contract_json_int(json, "layers", d->n_layers);
    for (int p = 0; p < N_OUTER; p++)
        glm4v_contract_json_bool(json, outer[p].name, d->holds[outer[p].part]);
    glm4v_contract_json_int(json, "weights", d->weights);
    glm4v_contract_json_int(json, "kv_cache", d->kv_cache);
    glm4v_contract_json_int(json, "scratch", d->scratch);
    glm4v_contract_json_close(json);
}

void cli_place_json(glm4v_contract_json *json, const glm4v_memory *memory)
{
    glm4v_contract_json_array(json, "devices");
    for (uint32_t i = 0; i < memory->n_devices; i++)
        json_stage(json, &memory->device[i]);
    glm4v_contract_json_array_close(json);
}
