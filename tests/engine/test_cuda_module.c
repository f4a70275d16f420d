/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the module for GPUs is found, chosen and refused. One test a process where something is
 * opened: a module stays open. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cuda_module.h"
#include "test.h"

static char lines[4096];
static int n_lines;
static glm4v_log_level last_level;

static void on_line(void *user, glm4v_log_level level, const char *text)
{
    n_lines++;
    last_level = level;
    snprintf(lines, sizeof lines, "%s", text);
}

static const glm4v_log to_test = { on_line, NULL };

/* Run one case in a process of its own. */
static void apart(void (*test)(void))
{
    fflush(NULL);
    const pid_t child = fork();
    if (!child) {
        test();
        fflush(NULL);
        _exit(test_ok ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

static void use(const char *module, const char *fails)
{
    setenv("GLM4V_CUDA_MODULE", module, 1);
    setenv("FAKE_CUDA", fails, 1);
}

static void expect_refused(const char *module, const char *text)
{
    const glm4v_cuda_module *m = NULL;
    glm4v_error err = { 0 };
    use(module, "");
    CHECK_EQ(glm4v_cuda_module_open(&m, &err), GLM4V_ERR_DEVICE);
    CHECK(!m);
    CHECK_CONTAINS(err.msg, text);
}

static void other_files_are_refused(void)
{
    expect_refused("/nonexistent/module.so", "/nonexistent/module.so cannot be read");
    expect_refused(OTHER_MODULE, "is not the CUDA module of version " GLM4V_VERSION);
    expect_refused(OTHER_LIBRARY, "is not the CUDA module of version " GLM4V_VERSION);
    expect_refused("/proc/self/maps", "cannot be opened: /proc/self/maps");
}

#ifdef REAL_MODULE
/* The module lacks nothing in a process of C alone; the driver is another matter. */
static void the_real_one_opens(void)
{
    const glm4v_cuda_module *m = NULL;
    glm4v_error err = { 0 };
    int32_t n = 0;
    use(REAL_MODULE, "");
    if (glm4v_cuda_module_open(&m, &err))
        test_fail(__FILE__, __LINE__, "%s", err.msg);
    REQUIRE(m);
    const int rc = m->count(&n, &err);
    CHECK(rc == 0 || rc == GLM4V_ERR_DEVICE);
    printf("# %d GPUs; %s\n", n, err.msg);
    CHECK(rc == 0 || strstr(err.msg, "driver"));
}
#endif

static void auto_takes_a_gpu(void)
{
    glm4v_backend *b = NULL;
    glm4v_error err = { 0 };
    use(FAKE_MODULE, "");
    CHECK_EQ(glm4v_backend_open(&b, "auto", NULL, &to_test, &err), 0);
    CHECK_STR(b->isa, "fake");
    CHECK_EQ(n_lines, 0);
    glm4v_backend_close(&b);
    CHECK_EQ(glm4v_backend_open(&b, "cuda:0", NULL, &to_test, &err), 0);
    glm4v_backend_close(&b);
    CHECK_EQ(glm4v_backend_open(&b, "cuda:3", NULL, &to_test, &err), GLM4V_ERR_DEVICE);
    CHECK_CONTAINS(err.msg, "device \"cuda:3\": there is no cuda:3");
}

/* A GPU that fails late or early: the CPU, and one line, however often. */
static void expect_fallback(const char *fails, const char *why)
{
    glm4v_backend *b = NULL;
    glm4v_error err = { 0 };
    use(FAKE_MODULE, fails);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(glm4v_backend_open(&b, i ? "auto" : NULL, NULL, &to_test, &err), 0);
        CHECK(strcmp(b->isa, "fake") != 0);
        glm4v_backend_close(&b);
    }
    CHECK_EQ(n_lines, 1);
    CHECK_EQ(last_level, glm4v_cuda_card_present("") ? GLM4V_LOG_WARNING : GLM4V_LOG_INFO);
    CHECK_CONTAINS(lines, why);
    CHECK_EQ(glm4v_backend_open(&b, "cuda", NULL, &to_test, &err), GLM4V_ERR_DEVICE);
    CHECK_CONTAINS(err.msg, why);
    CHECK(!b);
}

static void auto_falls_back_when_examined(void)
{
    expect_fallback("examine", "examine failed as asked");
}

static void auto_falls_back_when_opened(void)
{
    expect_fallback("open", "open failed as asked");
}

static void write_file(const char *root, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); *at++ = '/') {
        *at = 0;
        mkdir(path, 0700);
    }
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fputs(text, file);
    fclose(file);
}

static void a_card_is_seen(void)
{
    char root[] = "/tmp/glm4v-cards-XXXXXX", command[64];
    CHECK(mkdtemp(root) != NULL);
    CHECK(!glm4v_cuda_card_present(root));
    write_file(root, "sys/bus/pci/devices/0000:00:01.0/vendor", "0x8086\n");
    write_file(root, "sys/bus/pci/devices/0000:00:01.0/class", "0x030000\n");
    write_file(root, "sys/bus/pci/devices/0000:00:02.0/vendor", "0x10de\n");
    write_file(root, "sys/bus/pci/devices/0000:00:02.0/class", "0x020000\n"); /* a network card */
    CHECK(!glm4v_cuda_card_present(root));
    write_file(root, "sys/bus/pci/devices/0000:00:02.0/class", "0x030200\n");
    CHECK(glm4v_cuda_card_present(root));
    write_file(root, "sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n");
    write_file(root, "dev/nvidiactl", "");
    CHECK(glm4v_cuda_card_present(root));
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK_EQ(system(command), 0);
}

static void a_file_that_is_not_the_module_is_refused(void)
{
    apart(other_files_are_refused);
}

static void the_module_opens(void)
{
#ifdef REAL_MODULE
    apart(the_real_one_opens);
#else
    SKIP("the build has no CUDA module");
#endif
}

static void auto_and_cuda_open_the_gpu(void)
{
    apart(auto_takes_a_gpu);
}

static void auto_falls_back_with_one_line(void)
{
    apart(auto_falls_back_when_examined);
    apart(auto_falls_back_when_opened);
}

int main(void)
{
    TEST(a_file_that_is_not_the_module_is_refused);
    TEST(the_module_opens);
    TEST(auto_and_cuda_open_the_gpu);
    TEST(auto_falls_back_with_one_line);
    TEST(a_card_is_seen);
    return test_end();
}
