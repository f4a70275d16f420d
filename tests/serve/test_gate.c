/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hosts and keys (H-07), and the listening address (H-10). */
#include "serve/gate.h"

#include <sys/stat.h>
#include <unistd.h>

#include "serve/listen.h"
#include "test.h"

static void addresses_and_this_machine_are_hosts(void)
{
    static const char *const good[] = { "127.0.0.1",  "127.0.0.1:8080", "localhost", "LOCALHOST:1",
                                        "10.1.2.3:8", "[::1]",          "[::1]:80",  "[fe80::1]:80",
                                        "camera",     "camera:8080",    NULL };
    static const char *const bad[] = { "evil.example",
                                       "evil.example:8080",
                                       "",
                                       ":80",
                                       "localhost.evil.example",
                                       "127.0.0.1.evil",
                                       "::1",
                                       "[::1",
                                       "camera:80x",
                                       "[camera]",
                                       "127.0.0.1@evil",
                                       "127.0.0.1:80:80",
                                       "2130706433",
                                       NULL };
    const serve_gate gate = { .hosts = { "camera" }, .n_hosts = 1 };
    for (size_t i = 0; good[i]; i++)
        if (!serve_gate_is_host(&gate, good[i]))
            test_fail(__FILE__, __LINE__, "\"%s\" is refused", good[i]);
    for (size_t i = 0; bad[i]; i++)
        if (serve_gate_is_host(&gate, bad[i]))
            test_fail(__FILE__, __LINE__, "\"%s\" is let through", bad[i]);
}

static void write_keys(char *path, const char *text, mode_t mode)
{
    strcpy(path, "/tmp/glm4v-keys-XXXXXX");
    const int fd = mkstemp(path);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || fchmod(fd, mode))
        test_fail(__FILE__, __LINE__, "no file of keys");
    close(fd);
}

static int read_keys(serve_gate *gate, const char *text, mode_t mode, glm4v_error *err)
{
    char path[64];
    write_keys(path, text, mode);
    const int rc = serve_gate_read_keys(gate, path, err);
    unlink(path);
    return rc;
}

static void one_of_the_keys_is_enough(void)
{
    serve_gate gate = { .n_keys = 0 };
    glm4v_error err = { 0 };
    CHECK(!read_keys(&gate, "# two\n\nfirst-key\r\nsecond\n", 0600, &err));
    CHECK_EQ(gate.n_keys, 2);
    CHECK(serve_gate_is_key(&gate, "first-key") && serve_gate_is_key(&gate, "second"));
    for (const char *const *key = (const char *const[]) { "", "first", "first-keys", "First-key",
                                                          "secons", "# two", NULL };
         *key; key++)
        CHECK(!serve_gate_is_key(&gate, *key));
    serve_gate_close(&gate);
    CHECK_EQ(gate.n_keys, 0);
}

static void files_of_keys_are_checked(void)
{
    serve_gate gate = { .n_keys = 0 };
    glm4v_error err = { 0 };
    char text[2048];
    CHECK_EQ(read_keys(&gate, "# none\n", 0600, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(read_keys(&gate, "key\n", 0644, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "chmod");
    CHECK_EQ(read_keys(&gate, "two words\n", 0600, &err), GLM4V_ERR_INVALID);
    memset(text, 'k', 2000);
    text[2000] = 0;
    CHECK_EQ(read_keys(&gate, text, 0600, &err), GLM4V_ERR_INVALID);
    CHECK_EQ(serve_gate_read_keys(&gate, "/nonexistent", &err), GLM4V_ERR_IO);
    serve_gate_close(&gate);
}

static void addresses_are_bound_or_refused(void)
{
    static const char *const bad[] = { "",          "8080",       ":8080",
                                       "localhost", "localhost:", "localhost:x",
                                       "::1:80",    "[::1:80",    "1.2.3.4:99999999",
                                       "unix:",     NULL };
    serve_listener listener;
    glm4v_error err = { 0 };
    for (size_t i = 0; bad[i]; i++)
        CHECK_EQ(serve_listen(&listener, bad[i], &err), GLM4V_ERR_INVALID);
    CHECK(!serve_listen(&listener, "127.0.0.1:0", &err));
    CHECK(listener.local && !listener.unix_socket && strcmp(listener.name, "127.0.0.1:0"));
    serve_listener second;
    CHECK_EQ(serve_listen(&second, listener.name, &err), GLM4V_ERR_IO);
    serve_listen_close(&listener);
    CHECK(!serve_listen(&listener, "0.0.0.0:0", &err) && !listener.local);
    serve_listen_close(&listener);
}

static void a_socket_file_comes_and_goes(void)
{
    char address[64] = "unix:/tmp/glm4v-XXXXXX";
    serve_listener listener, second;
    struct stat st;
    glm4v_error err = { 0 };
    const int fd = mkstemp(address + 5);
    close(fd);
    CHECK_EQ(serve_listen(&listener, address, &err), GLM4V_ERR_IO); /* a file of somebody */
    unlink(address + 5);
    REQUIRE(!serve_listen(&listener, address, &err));
    CHECK(listener.local && listener.unix_socket);
    CHECK_EQ(serve_listen(&second, address, &err), GLM4V_ERR_IO); /* in use */
    close(listener.fd); /* as a server that was killed leaves it */
    listener.fd = -1;
    CHECK(!serve_listen(&second, address, &err));
    serve_listen_close(&second);
    CHECK(stat(address + 5, &st) != 0);
}

int main(void)
{
    TEST(addresses_and_this_machine_are_hosts);
    TEST(one_of_the_keys_is_enough);
    TEST(files_of_keys_are_checked);
    TEST(addresses_are_bound_or_refused);
    TEST(a_socket_file_comes_and_goes);
    return test_end();
}
