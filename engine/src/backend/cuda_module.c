/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cuda_module.h. The module names cuBLASLt by its soname; whichever file of that soname is open
 * already is the one that the loader takes, so that one is opened first. */
#define _GNU_SOURCE
#include "backend/cuda_module.h"

#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

#define MODULE "libglm4v-cuda.so"
#define CUBLASLT "libcublasLt.so.13"
#define MAX_PATH 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const glm4v_cuda_module *opened; /* stays for the life of the process */

/* ---- cuBLASLt ---- */

/* Folders of installations, as patterns of glob(3); %s is the value of the variable. */
static const struct {
    const char *variable, *pattern;
} places[] = {
    { "CUDA_HOME", "%s/lib64" },
    { "CUDA_PATH", "%s/lib64" },
    { NULL, "/usr/local/cuda/lib64" },
    { NULL, "/usr/local/cuda-13*/lib64" },
    { "VIRTUAL_ENV", "%s/lib/python3*/site-packages/nvidia/*/lib" },
    { "HOME", "%s/.local/lib/python3*/site-packages/nvidia/*/lib" },
    { NULL, "/usr/local/lib/python3*/*-packages/nvidia/*/lib" },
    { NULL, "/usr/lib/python3*/*-packages/nvidia/*/lib" },
};

/* The first file of the pattern's folders that opens. */
static bool open_in(const char *folders)
{
    char pattern[MAX_PATH];
    glob_t found = { 0 };
    bool open = false;
    if (snprintf(pattern, sizeof pattern, "%s/" CUBLASLT, folders) >= (int)sizeof pattern)
        return false;
    if (!glob(pattern, 0, NULL, &found))
        for (size_t i = 0; !open && i < found.gl_pathc; i++)
            open = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_LOCAL) != NULL;
    globfree(&found);
    return open;
}

static bool open_cublaslt(void)
{
    bool open = dlopen(CUBLASLT, RTLD_NOW | RTLD_LOCAL) != NULL;
    for (size_t i = 0; !open && i < sizeof places / sizeof *places; i++) {
        const char *value = places[i].variable ? getenv(places[i].variable) : "";
        char folders[MAX_PATH];
        if (!value || (places[i].variable && !*value))
            continue;
        if (!places[i].variable)
            open = open_in(places[i].pattern);
        else if (snprintf(folders, sizeof folders, places[i].pattern, value) < (int)sizeof folders)
            open = open_in(folders);
    }
    return open;
}

/* ---- the module ---- */

/* The folder of the file that this code is part of; "" where the loader does not say. */
static void own_folder(char *folder, size_t size)
{
    Dl_info info;
    *folder = 0;
    if (!dladdr((void *)own_folder, &info) || !info.dli_fname || !strchr(info.dli_fname, '/'))
        return;
    const int length = (int)(strrchr(info.dli_fname, '/') - info.dli_fname);
    if ((size_t)length < size)
        snprintf(folder, size, "%.*s", length, info.dli_fname);
}

/* The file that would be opened: a path, or a name for the loader to look up. */
static void module_path(char *path, size_t size)
{
    static const char *const beside[] = { "%s/" MODULE, "%s/glm4v/" MODULE };
    char folder[MAX_PATH];
    own_folder(folder, sizeof folder);
    for (size_t i = 0; *folder && i < sizeof beside / sizeof *beside; i++)
        if (snprintf(path, size, beside[i], folder) < (int)size && !access(path, R_OK))
            return;
    snprintf(path, size, MODULE);
}

/* Without it cuBLASLt is not opened, which takes 150 MB of memory. */
static bool driver_present(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver)
        dlclose(driver);
    return driver != NULL;
}

static int open_module(const glm4v_cuda_module **module, glm4v_error *err)
{
    const char *given = getenv("GLM4V_CUDA_MODULE"); /* it may need no driver */
    char path[MAX_PATH];
    if (given && *given)
        snprintf(path, sizeof path, "%s", given);
    else
        module_path(path, sizeof path);
    if (!(given && *given) && !driver_present())
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "no NVIDIA driver: libcuda.so.1 is not installed; install driver 580 or "
                          "later");
    if (strchr(path, '/') && access(path, R_OK))
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "no CUDA module: %s cannot be read; it is GLM4V_CUDA_MODULE", path);
    const bool cublaslt = open_cublaslt();
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle && !strchr(path, '/') && access(path, R_OK))
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "no CUDA module: " MODULE
                          " is neither beside libglm4v nor where the loader "
                          "looks; install it, or build with -Dcuda=enabled");
    if (!handle && !cublaslt)
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "the CUDA module needs " CUBLASLT ", which is neither where the loader "
                          "looks nor in /usr/local/cuda*, CUDA_HOME or Python's nvidia packages; "
                          "install cuBLAS of CUDA 13, or run \"pip install nvidia-cublas\"");
    if (!handle)
        return glm4v_fail(err, GLM4V_ERR_DEVICE, "the CUDA module cannot be opened: %s", dlerror());
    const glm4v_cuda_module *m = dlsym(handle, GLM4V_CUDA_MODULE_SYMBOL);
    if (!m || m->version != GLM4V_CUDA_MODULE_VERSION || strcmp(m->library, GLM4V_VERSION)) {
        dlclose(handle);
        return glm4v_fail(err, GLM4V_ERR_DEVICE,
                          "%s is not the CUDA module of version " GLM4V_VERSION
                          " of this library; install the one that belongs to it",
                          path);
    }
    *module = m;
    return 0;
}

int glm4v_cuda_module_open(const glm4v_cuda_module **module, glm4v_error *err)
{
    pthread_mutex_lock(&lock);
    int rc = opened ? 0 : open_module(&opened, err);
    *module = opened;
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- cards ---- */

#define VENDOR_NVIDIA "0x10de"
#define CLASS_DISPLAY "0x03" /* of a PCI device; the first two digits */

static bool file_begins(const char *path, const char *text)
{
    char line[16] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    return read && !strncmp(line, text, strlen(text));
}

static bool is_card(const char *device)
{
    char path[MAX_PATH];
    if (snprintf(path, sizeof path, "%s/vendor", device) >= (int)sizeof path ||
        !file_begins(path, VENDOR_NVIDIA))
        return false;
    snprintf(path, sizeof path, "%s/class", device);
    return file_begins(path, CLASS_DISPLAY);
}

bool glm4v_cuda_card_present(const char *root)
{
    char pattern[MAX_PATH];
    glob_t found = { 0 };
    bool present = false;
    snprintf(pattern, sizeof pattern, "%s/dev/nvidiactl", root);
    if (!access(pattern, F_OK))
        return true;
    snprintf(pattern, sizeof pattern, "%s/sys/bus/pci/devices/*", root);
    if (!glob(pattern, GLOB_NOSORT, NULL, &found))
        for (size_t i = 0; !present && i < found.gl_pathc; i++)
            present = is_card(found.gl_pathv[i]);
    globfree(&found);
    return present;
}
