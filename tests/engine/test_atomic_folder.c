/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-01 to D-04: the converter killed after each call that changes the disk, the order in which
 * things are synced and renamed, every such call failing, and two converters at once. At the end of
 * each round there is the whole result or none, and nothing else. Power failures: test_crash.c;
 * file systems that are really full: test_disk.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/atomic_folder.h"
#include "base/mem.h"
#include "disk_shim.h"
#include "folders.h"
#include "test.h"
#include "tiny_model.h"

/* ---- the conversion that all tests run ---- */

static char base[512], src[600], dst[600];
static uint64_t whole; /* digest of the result */
static glm4v_error err;

static int convert(void)
{
    memset(&err, 0, sizeof err);
    return glm4v_quantize(src, dst,
                          &(glm4v_quantize_options) { .quantization = "int4,lm-head=int8",
                                                      .n_threads = 1,
                                                      .shard_bytes = 150000 },
                          &err);
}

static bool folder_is(const char *names)
{
    char text[4096];
    return !strcmp(folder_names(base, text, sizeof text), names);
}

/* How a child of ours ended that runs fn: its exit status, or minus the signal. */
static int in_a_child(int (*fn)(void))
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(fn() & 127);
    if (child < 0 || waitpid(child, &status, 0) != child)
        file_die("no child", "process");
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int convert_code(void)
{
    return -convert();
}

/* ---- D-01 ---- */

static void a_kill_after_any_call_leaves_all_or_nothing(void)
{
    int n = 0, complete = 0;
    for (;; n++) {
        shim_reset();
        shim.kill_after = n + 1;
        int ended = in_a_child(convert_code);
        uint64_t found = folder_digest(dst);
        if (found && found != whole)
            test_fail(__FILE__, __LINE__, "killed after call %d: half of a result", n + 1);
        complete += found != 0;
        shim_reset();
        if (ended == 0) /* it makes fewer calls than that */
            break;
        CHECK_EQ(ended, -SIGKILL);
        int rc = convert();
        if (rc != (found ? GLM4V_ERR_INVALID : 0))
            test_fail(__FILE__, __LINE__, "the run after call %d: %d, \"%s\"", n + 1, rc, err.msg);
        if (folder_digest(dst) != whole || !folder_is("dst src "))
            test_fail(__FILE__, __LINE__, "the run after call %d leaves something", n + 1);
        folder_remove(dst);
    }
    printf("# killed after each of %d calls\n", n);
    CHECK(n > 100 && complete > 1);
    CHECK(folder_is("dst src "));
    folder_remove(dst);
}

/* Twice in a row: what the killed one left is removed by one that is killed as well. */
static void a_kill_while_removing_what_a_kill_left_is_made_good(void)
{
    shim_reset();
    shim.kill_after = 60;
    CHECK_EQ(in_a_child(convert_code), -SIGKILL);
    for (int n = 1; n < 16; n++) {
        shim_reset();
        shim.kill_after = n;
        CHECK_EQ(in_a_child(convert_code), -SIGKILL);
        CHECK(folder_digest(dst) == 0);
    }
    shim_reset();
    CHECK_EQ(convert(), 0);
    CHECK(folder_digest(dst) == whole && folder_is("dst src "));
    folder_remove(dst);
}

static void what_is_not_ours_is_not_removed(void)
{
    /* a folder with a name of ours that no lock file names */
    REQUIRE(!mkdir(file_path(base, ".dst.glm4v-tmp-0123456789abcdef"), 0755));
    file_write_text(base, ".dst.glm4v-tmp-0123456789abcdef/mine", "precious");
    CHECK_EQ(convert(), 0);
    CHECK(folder_is(".dst.glm4v-tmp-0123456789abcdef dst src "));
    folder_remove(dst);
    /* a lock file that names something else */
    static const char *const names[] = { "../src", "src", ".dst.glm4v-tmp-/../src", "" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[128];
        snprintf(text, sizeof text, "glm4v temporary folder\n%s\n", names[i]);
        file_write_text(base, ".dst.glm4v-lock", text);
        CHECK_EQ(convert(), 0);
        CHECK(folder_is(".dst.glm4v-tmp-0123456789abcdef dst src "));
        folder_remove(dst);
    }
    folder_remove(file_path(base, ".dst.glm4v-tmp-0123456789abcdef"));
    /* a file with the lock's name that is none */
    file_write_text(base, ".dst.glm4v-lock", "a letter");
    CHECK_EQ(convert(), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, ".dst.glm4v-lock");
    CHECK(folder_is(".dst.glm4v-lock src "));
    unlink(file_path(base, ".dst.glm4v-lock"));
    REQUIRE(!symlink(file_path(src, "config.json"), file_path(base, ".dst.glm4v-lock")));
    CHECK_EQ(convert(), GLM4V_ERR_IO);
    unlink(file_path(base, ".dst.glm4v-lock"));
}

/* ---- D-02 ---- */

static int last_event(call what, const char *name)
{
    int at = -1;
    for (int i = 0; i < shim.total; i++)
        if (shim.events[i].what == what && !strcmp(shim.events[i].name, name))
            at = i;
    return at;
}

static int first_event(call what, const char *prefix)
{
    for (int i = 0; i < shim.total; i++)
        if (shim.events[i].what == what && !strncmp(shim.events[i].name, prefix, strlen(prefix)))
            return i;
    return -1;
}

static void files_then_folder_then_name_then_parent_are_synced(void)
{
    shim_reset();
    CHECK_EQ(convert(), 0);
    REQUIRE(shim.total < MAX_EVENTS);
    int renamed = last_event(RENAME, "dst"), made = first_event(MKDIR, ".dst.glm4v-tmp-");
    REQUIRE(renamed > 0 && made > 0);
    int folder = last_event(SYNC, shim.events[made].name), files = 0;
    for (int i = made; i < renamed; i++) {
        const char *name = shim.events[i].name;
        if (shim.events[i].what != CREATE)
            continue;
        int synced = last_event(SYNC, name);
        if (synced < last_event(WRITE, name) || synced < i || synced > folder)
            test_fail(__FILE__, __LINE__, "%s is not synced between its last write and the folder",
                      name);
        files++;
    }
    CHECK(files >= 6);
    CHECK(folder > 0 && folder < renamed);
    CHECK_EQ(first_event(RENAME, ""), renamed); /* the only one */
    CHECK(last_event(SYNC, "(parent)") > renamed);
    /* the folder is named on the disk before it is there */
    CHECK(first_event(SYNC, ".dst.glm4v-lock") > last_event(WRITE, ".dst.glm4v-lock"));
    CHECK(first_event(SYNC, "(parent)") > first_event(SYNC, ".dst.glm4v-lock"));
    CHECK(made > first_event(SYNC, "(parent)"));
    CHECK(last_event(UNLINK, ".dst.glm4v-lock") > last_event(SYNC, "(parent)"));
    folder_remove(dst);
}

/* ---- D-03 ---- */

static int lowest_free_descriptor(void)
{
    int fd = dup(0);
    __real_close(fd);
    return fd;
}

/* Calls of one kind that a conversion makes. */
static int count_calls(call which)
{
    shim_reset();
    CHECK_EQ(convert(), 0);
    folder_remove(dst);
    return shim.count[which];
}

/* Every call of one kind fails, one after the other. */
static void sweep(call which, int error, bool from_then_on)
{
    const int calls = count_calls(which), fd = lowest_free_descriptor();
    const size_t live = glm4v_mem_live();
    CHECK(calls > 0);
    for (int n = 1; n <= calls; n++) {
        shim_reset();
        shim.which = which, shim.at = n, shim.error = error, shim.from_then_on = from_then_on;
        int rc = convert();
        shim.at = 0;
        if (rc != GLM4V_ERR_IO || !strstr(err.msg, strerror(error)) || folder_digest(dst))
            test_fail(__FILE__, __LINE__, "%s %d of %d fails with %d: code %d, \"%s\"",
                      call_names[which], n, calls, error, rc, err.msg);
        if (!folder_is("src ") || glm4v_mem_live() != live || lowest_free_descriptor() != fd)
            test_fail(__FILE__, __LINE__, "%s %d of %d fails with %d: something stays",
                      call_names[which], n, calls, error);
    }
}

static void any_call_may_fail(void)
{
    static const int errors[] = { ENOSPC, EDQUOT, EROFS, EIO, EACCES };
    static const call kinds[] = { CREATE, WRITE, TRUNCATE, SYNC, MKDIR, RENAME, READ };
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            if (e < 2 || (kinds[k] != WRITE && kinds[k] != READ)) /* there are many */
                sweep(kinds[k], errors[e], false);
    sweep(SYNC, EIO, true);
    sweep(CREATE, EMFILE, true);
    sweep(LOCK, ENOLCK, false);
}

static void closing_may_fail(void)
{
    const int calls = count_calls(CLOSE);
    for (int n = 1; n <= calls; n++) {
        shim_reset();
        shim.which = CLOSE, shim.at = n, shim.error = EIO;
        int rc = convert();
        shim.at = 0;
        CHECK(rc == 0 || (rc == GLM4V_ERR_IO && folder_digest(dst) == 0));
        CHECK(rc != 0 || folder_digest(dst) == whole);
        folder_remove(dst);
        CHECK(folder_is("src "));
    }
}

static void writes_may_come_back_short_or_interrupted(void)
{
    const int calls = count_calls(WRITE);
    for (int n = 1; n <= calls; n += 7) {
        shim_reset();
        shim.which = WRITE, shim.at = n, shim.error = n & 8 ? EINTR : 0;
        CHECK_EQ(convert(), 0);
        shim.at = 0;
        CHECK(folder_digest(dst) == whole);
        folder_remove(dst);
    }
}

/* What cannot be removed is named for the next run, which removes it. */
static void what_cannot_be_removed_is_removed_by_the_next_run(void)
{
    shim_reset();
    shim.which = UNLINK, shim.at = 1, shim.error = EBUSY, shim.from_then_on = true;
    CHECK_EQ(glm4v_quantize(src, dst,
                            &(glm4v_quantize_options) { .quantization = "int8", .shard_bytes = 1 },
                            &err),
             0);
    shim.at = 0;
    folder_remove(dst);
    glm4v_atomic_folder *p = NULL;
    REQUIRE(!glm4v_atomic_folder_begin(&p, src, dst, &err));
    REQUIRE(!glm4v_atomic_folder_file(p, "one", &err));
    shim.at = shim.count[UNLINK] + 1;
    glm4v_atomic_folder_end(&p);
    shim.at = 0;
    CHECK(!folder_is("src "));
    CHECK_EQ(convert(), 0);
    CHECK(folder_digest(dst) == whole && folder_is("dst src "));
    folder_remove(dst);
}

static int convert_under_a_size_limit(void)
{
    struct rlimit limit = { 100000, 100000 };
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit))
        return 100;
    int rc = convert();
    return rc == GLM4V_ERR_IO && strstr(err.msg, strerror(EFBIG)) ? 0 : 101;
}

static void a_file_size_limit_is_an_error(void)
{
    shim_reset();
    CHECK_EQ(in_a_child(convert_under_a_size_limit), 0);
    CHECK(folder_is("src "));
}

static int convert_as_nobody(void)
{
    if (!geteuid() && setresuid(65534, 65534, 65534))
        return 100;
    int rc = convert();
    return rc == GLM4V_ERR_IO && strstr(err.msg, strerror(EACCES)) ? 0 : 101;
}

static void a_folder_that_may_not_be_written_is_an_error(void)
{
    shim_reset();
    REQUIRE(!chmod(base, 0555));
    int ended = in_a_child(convert_as_nobody);
    REQUIRE(!chmod(base, 0700));
    if (ended == 100)
        SKIP("root, and may not become another user");
    CHECK_EQ(ended, 0);
    CHECK(folder_is("src "));
}

static void too_little_room_is_told_beforehand(void)
{
    glm4v_atomic_folder *p = NULL;
    shim_reset();
    REQUIRE(!glm4v_atomic_folder_begin(&p, src, dst, &err));
    CHECK_EQ(glm4v_atomic_folder_room(p, 1, &err), 0);
    CHECK_EQ(glm4v_atomic_folder_room(p, UINT64_MAX, &err), GLM4V_ERR_IO);
    CHECK_CONTAINS(err.msg, "18446744073709551615 bytes (17592186044415 MiB) are needed");
    glm4v_atomic_folder_end(&p);
    CHECK(folder_is("src "));
}

static void a_name_taken_meanwhile_is_not_overwritten(void)
{
    glm4v_atomic_folder *p = NULL;
    shim_reset();
    REQUIRE(!glm4v_atomic_folder_begin(&p, src, dst, &err));
    REQUIRE(!mkdir(dst, 0755));
    file_write_text(dst, "mine", "precious");
    CHECK_EQ(glm4v_atomic_folder_commit(p, &err), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "appeared");
    glm4v_atomic_folder_end(&p);
    CHECK(folder_is("dst src "));
    unlink(file_path(dst, "mine"));
    folder_remove(dst);
}

/* ---- D-04 ---- */

static void of_two_converters_at_once_one_wins(void)
{
    const int rounds = getenv("GLM4V_DEEP") ? 1000 : 100;
    int busy = 0, late = 0;
    for (int round = 0; round < rounds; round++) {
        int status[2], gate[2];
        pid_t child[2];
        shim_reset();
        fflush(stdout);
        REQUIRE(!pipe(gate));
        for (int i = 0; i < 2; i++)
            if (!(child[i] = fork())) {
                char go;
                if (read(gate[0], &go, 1) != 1)
                    _exit(100);
                _exit(-convert() & 127);
            }
        CHECK_EQ(write(gate[1], "go", 2), 2);
        for (int i = 0; i < 2; i++) {
            waitpid(child[i], &status[i], 0);
            REQUIRE(WIFEXITED(status[i]));
            status[i] = WEXITSTATUS(status[i]);
        }
        __real_close(gate[0]);
        __real_close(gate[1]);
        int other = status[0] ? status[0] : status[1];
        if ((status[0] && status[1]) || (other != -GLM4V_ERR_BUSY && other != -GLM4V_ERR_INVALID))
            test_fail(__FILE__, __LINE__, "round %d: %d and %d", round, status[0], status[1]);
        busy += other == -GLM4V_ERR_BUSY;
        late += other == -GLM4V_ERR_INVALID;
        if (folder_digest(dst) != whole || !folder_is("dst src "))
            test_fail(__FILE__, __LINE__, "round %d: not the whole result, or more", round);
        folder_remove(dst);
    }
    printf("# %d rounds: %d were told that another is at work, %d that it is done\n", rounds, busy,
           late);
    CHECK_EQ(busy + late, rounds);
}

static void a_second_converter_is_told_of_the_first(void)
{
    glm4v_atomic_folder *p = NULL;
    shim_reset();
    REQUIRE(!glm4v_atomic_folder_begin(&p, src, dst, &err));
    CHECK_EQ(convert(), GLM4V_ERR_BUSY);
    CHECK_CONTAINS(err.msg, "another converter");
    REQUIRE(!glm4v_atomic_folder_file(p, "one", &err) && !glm4v_atomic_folder_finish_file(p, &err));
    CHECK_EQ(glm4v_atomic_folder_commit(p, &err), 0); /* it did no harm */
    glm4v_atomic_folder_end(&p);
    CHECK(folder_is("dst src "));
    folder_remove(dst);
}

int main(void)
{
    if (tiny_model_mkdtemp(base, sizeof base))
        return 1;
    snprintf(src, sizeof src, "%s/src", base);
    snprintf(dst, sizeof dst, "%s/dst", base);
    if (tiny_model_write(src, &(tiny_model_options) { .weights_only = true }))
        return 1;
    file_write_text(src, "LICENSE", "a licence");
    if (convert()) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    whole = folder_digest(dst);
    folder_remove(dst);
    TEST(a_kill_after_any_call_leaves_all_or_nothing);
    TEST(a_kill_while_removing_what_a_kill_left_is_made_good);
    TEST(what_is_not_ours_is_not_removed);
    TEST(files_then_folder_then_name_then_parent_are_synced);
    TEST(any_call_may_fail);
    TEST(closing_may_fail);
    TEST(writes_may_come_back_short_or_interrupted);
    TEST(what_cannot_be_removed_is_removed_by_the_next_run);
    TEST(a_file_size_limit_is_an_error);
    TEST(a_folder_that_may_not_be_written_is_an_error);
    TEST(too_little_room_is_told_beforehand);
    TEST(a_name_taken_meanwhile_is_not_overwritten);
    TEST(a_second_converter_is_told_of_the_first);
    TEST(of_two_converters_at_once_one_wins);
    tiny_model_remove(base);
    return test_end();
}
