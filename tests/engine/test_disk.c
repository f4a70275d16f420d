/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The converter on real disks, with nothing between it and them. D-01: killed at random times, on
 * 1 GiB of weights in the deep run. D-03: file systems of our own that are full, fill up, run out
 * of names, or are read-only; they need a mount namespace, which root and most users may
 * have. Every call failing: test_atomic_folder.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>

#include "folders.h"
#include "glm4v/glm4v.h"
#include "large_model.h"
#include "test.h"
#include "tiny_model.h"

#define PAGE 4096

static char base[512], src[600], dst[600];
static uint64_t whole; /* digest of what src becomes */
static glm4v_error err;

static int convert_to(const char *to, glm4v_progress_fn progress, void *user)
{
    memset(&err, 0, sizeof err);
    return glm4v_quantize(src, to,
                          &(glm4v_quantize_options) { .quantization = "int4,lm-head=int8",
                                                      .n_threads = 1,
                                                      .shard_bytes = 150000,
                                                      .progress = progress,
                                                      .progress_user = user },
                          &err);
}

static int convert(void)
{
    return convert_to(dst, NULL, NULL);
}

static bool folder_is(const char *dir, const char *names)
{
    char text[4096];
    return !strcmp(folder_names(dir, text, sizeof text), names);
}

static bool source_opens(void)
{
    glm4v_model *m = NULL;
    glm4v_error error = { 0 };
    int rc = glm4v_model_open(
        &m, src, &(glm4v_model_options) { .device = "cpu", .weights_only = 1 }, &error);
    glm4v_model_close(&m);
    return !rc;
}

/* ---- D-01: killed at random times ---- */

static char large[600], large_dst[600];

static int convert_large(glm4v_progress_fn progress)
{
    memset(&err, 0, sizeof err);
    return glm4v_quantize(
        large, large_dst,
        &(glm4v_quantize_options) { .quantization = "int8,embedding=int8,lm-head=int4",
                                    .n_threads = 2,
                                    .shard_bytes = 150000000,
                                    .progress = progress },
        &err);
}

static int cancel(void *user, uint64_t done, uint64_t total)
{
    return 1;
}

/* Random numbers in place of the zeros from `start` on: magnitudes of 2^-7 to 2^-3. */
static void fill(const char *path, uint64_t start)
{
    static uint64_t block[1 << 17];
    struct stat st;
    uint64_t x = 88172645463325252u;
    int fd = open(path, O_WRONLY);
    if (fd < 0 || fstat(fd, &st))
        file_die("cannot open", path);
    for (uint64_t at = start, n; at < (uint64_t)st.st_size; at += n) {
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            block[i] = (x & 0x81ff81ff81ff81ffu) | 0x3c003c003c003c00u;
        }
        n = (uint64_t)st.st_size - at < sizeof block ? (uint64_t)st.st_size - at : sizeof block;
        if (pwrite(fd, block, n, (off_t)at) != (ssize_t)n)
            file_die("cannot write", path);
    }
    close(fd);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static pid_t start_large(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (!child)
        _exit(-convert_large(NULL) & 127);
    if (child < 0)
        file_die("no child", "process");
    return child;
}

/* What is there when a run was killed, or had ended before. */
enum { NOTHING, BEGUN, COMPLETE, N_FOUND };

static int found_now(void)
{
    char names[4096];
    return !access(large_dst, F_OK)                                             ? COMPLETE
           : strstr(folder_names(base, names, sizeof names), ".dst.glm4v-tmp-") ? BEGUN
                                                                                : NOTHING;
}

/* One kill, and what the next run makes of it: one that is canceled at once, or (complete) one that
 * is not. */
static int kill_once(double after, bool complete, uint64_t expected)
{
    struct timespec wait = { (time_t)after, (long)((after - (double)(time_t)after) * 1e9) };
    int status;
    pid_t child = start_large();
    nanosleep(&wait, NULL);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    const int found = found_now();
    if (WIFEXITED(status) ? WEXITSTATUS(status) || found != COMPLETE : WTERMSIG(status) != SIGKILL)
        test_fail(__FILE__, __LINE__, "the run ends with %d", status);
    if (found == COMPLETE && folder_digest(large_dst) != expected)
        test_fail(__FILE__, __LINE__, "killed after %.3f s: half of a result", after);
    int rc = convert_large(complete ? NULL : cancel);
    int should = found == COMPLETE ? GLM4V_ERR_INVALID : complete ? 0 : GLM4V_ERR_CANCELED;
    if (rc != should)
        test_fail(__FILE__, __LINE__, "the next run: %d, \"%s\"", rc, err.msg);
    if (!folder_is(base, rc == GLM4V_ERR_CANCELED ? "large src " : "dst large src "))
        test_fail(__FILE__, __LINE__, "killed after %.3f s: the next run leaves something", after);
    if (rc == 0 && folder_digest(large_dst) != expected)
        test_fail(__FILE__, __LINE__, "the next run's result is another one");
    folder_remove(large_dst);
    return found;
}

static void a_kill_at_any_time_leaves_all_or_nothing(void)
{
    const bool deep = getenv("GLM4V_DEEP") != NULL;
    const int64_t rows = deep ? 2 << 20 : 1 << 15; /* 1 GiB, 16 MiB */
    const int kills = deep ? 500 : 25;
    int found[N_FOUND] = { 0 };
    if (tiny_model_write(large, &(tiny_model_options) { .weights_only = true }))
        file_die("cannot write", large);
    fill(file_path(large, "model.safetensors"), large_model_make(large, rows));
    double start = seconds();
    int status;
    waitpid(start_large(), &status, 0);
    double whole_run = seconds() - start;
    REQUIRE(WIFEXITED(status) && !WEXITSTATUS(status));
    const uint64_t expected = folder_digest(large_dst);
    folder_remove(large_dst);
    srand48(1);
    for (int i = 0; i < kills; i++) {
        const double after = drand48() * 1.05 * whole_run;
        const int what = kill_once(after, i % 20 == 19, expected);
        if (what == COMPLETE && after < whole_run) /* the machine was slower before */
            whole_run = after;
        if (what != COMPLETE && after > whole_run)
            whole_run *= 1.1;
        found[what]++;
    }
    printf("# %d kills, %d MiB: before the temporary folder %d, with it %d, with the result %d\n",
           kills, (int)(large_model_bytes(rows) >> 20), found[NOTHING], found[BEGUN],
           found[COMPLETE]);
    CHECK(found[BEGUN] > 0);
    folder_remove(large);
}

/* ---- file systems of our own ---- */

static const char *no_mounts; /* why there are none, or NULL */
static char disk[600], disk_dst[640];

static bool write_line(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return good;
}

/* Be root of a user namespace. */
static bool become_root(unsigned uid, unsigned gid)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1\n", uid);
    snprintf(groups, sizeof groups, "0 %u 1\n", gid);
    return write_line("/proc/self/setgroups", "deny") && write_line("/proc/self/gid_map", groups) &&
           write_line("/proc/self/uid_map", users);
}

/* Mounts from here on are of this process alone, and end with it. */
static void have_mounts(void)
{
    const unsigned uid = geteuid(), gid = getegid();
    if (unshare(uid ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) ||
        (uid && !become_root(uid, gid))) {
        no_mounts = "mounts of our own are not allowed here";
        return;
    }
    if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) || mkdir(disk, 0755) ||
        mount("none", disk, "tmpfs", 0, "size=1m"))
        no_mounts = "no tmpfs can be mounted here";
    else
        umount(disk);
}

static void mount_disk(const char *options)
{
    if (mount("none", disk, "tmpfs", 0, options))
        file_die("cannot mount", options);
}

/* Take all room of the disk but so many pages. */
static void fill_disk(int pages)
{
    struct statvfs fs;
    char path[640];
    snprintf(path, sizeof path, "%s/filler", disk);
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd < 0 || statvfs(disk, &fs))
        file_die("cannot fill", disk);
    off_t room = (off_t)fs.f_bavail * (off_t)fs.f_frsize - (off_t)pages * PAGE;
    if (room > 0 && posix_fallocate(fd, 0, room))
        file_die("cannot fill", disk);
    close(fd);
}

/* The conversion failed for this reason, says where and what to do, and left nothing. */
static void failed_well(int rc, int reason, const char *remedy, const char *names, int step)
{
    char found[4096];
    if (rc != GLM4V_ERR_IO || !strstr(err.msg, disk) || !strstr(err.msg, remedy) ||
        (reason && !strstr(err.msg, strerror(reason))))
        test_fail(__FILE__, __LINE__, "step %d: code %d, \"%s\"", step, rc, err.msg);
    if (strcmp(folder_names(disk, found, sizeof found), names))
        test_fail(__FILE__, __LINE__, "step %d: there is \"%s\", not \"%s\"", step, found, names);
}

static const char make_room[] = "free some space or write to another disk";

static void a_full_disk_is_an_error(void)
{
    int pages = 0, rc;
    if (no_mounts)
        SKIP(no_mounts);
    for (;; pages++) {
        mount_disk("size=1m");
        fill_disk(pages);
        rc = convert_to(disk_dst, NULL, NULL);
        if (!rc)
            break;
        failed_well(rc, pages ? 0 : ENOSPC, make_room, "filler ", pages);
        umount(disk);
        REQUIRE(pages < 256);
    }
    CHECK(pages > 20);
    CHECK(folder_digest(disk_dst) == whole && folder_is(disk, "dst filler "));
    CHECK(source_opens());
    umount(disk);
    printf("# told with 0 to %d pages free\n", pages - 1);
}

static int fill_at_first(void *user, uint64_t done, uint64_t total)
{
    int *pages = user;
    if (*pages >= 0)
        fill_disk(*pages);
    *pages = -1;
    return 0;
}

/* Room was there when it was asked for. */
static void a_disk_that_fills_meanwhile_is_an_error(void)
{
    int pages = 0, rc;
    if (no_mounts)
        SKIP(no_mounts);
    for (;; pages++) {
        int left = pages;
        mount_disk("size=1m");
        rc = convert_to(disk_dst, fill_at_first, &left);
        if (!rc)
            break;
        failed_well(rc, ENOSPC, make_room, "filler ", pages);
        CHECK_CONTAINS(err.msg, "cannot be");
        umount(disk);
        REQUIRE(pages < 256);
    }
    CHECK(pages > 20);
    CHECK(folder_digest(disk_dst) == whole && folder_is(disk, "dst filler "));
    CHECK(source_opens());
    umount(disk);
    printf("# told with 0 to %d pages left when it began to write\n", pages - 1);
}

static void a_disk_without_room_for_names_is_an_error(void)
{
    char options[64];
    int names = 2, rc;
    if (no_mounts)
        SKIP(no_mounts);
    for (;; names++) {
        snprintf(options, sizeof options, "size=1m,nr_inodes=%d", names);
        mount_disk(options);
        rc = convert_to(disk_dst, NULL, NULL);
        if (!rc)
            break;
        failed_well(rc, ENOSPC, make_room, "", names);
        umount(disk);
        REQUIRE(names < 64);
    }
    CHECK(names > 6);
    CHECK(folder_digest(disk_dst) == whole && folder_is(disk, "dst "));
    umount(disk);
}

/* As it is mounted, and by a mount of a part of it. */
static void a_read_only_disk_is_an_error(void)
{
    if (no_mounts)
        SKIP(no_mounts);
    for (int bind = 0; bind < 2; bind++)
        for (int old = 0; old < 3; old++) { /* nothing, an empty folder, a result */
            mount_disk("size=2m");
            if (old == 1)
                REQUIRE(!mkdir(disk_dst, 0755));
            if (old == 2)
                REQUIRE(!convert_to(disk_dst, NULL, NULL));
            uint64_t before = folder_digest(disk_dst);
            if (bind)
                REQUIRE(!mount(disk, disk, "none", MS_BIND, NULL));
            REQUIRE(
                !mount("none", disk, "none", MS_REMOUNT | MS_RDONLY | (bind ? MS_BIND : 0), NULL));
            int rc = convert_to(disk_dst, NULL, NULL);
            failed_well(rc, EROFS, "name a writable folder", old ? "dst " : "", old);
            CHECK(folder_digest(disk_dst) == before);
            umount(disk);
            if (bind)
                umount(disk);
        }
    CHECK(source_opens());
}

static void a_read_only_source_is_converted(void)
{
    if (no_mounts)
        SKIP(no_mounts);
    REQUIRE(!mount(src, src, "none", MS_BIND, NULL));
    REQUIRE(!mount("none", src, "none", MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    CHECK_EQ(convert(), 0);
    umount(src);
    CHECK(folder_digest(dst) == whole && folder_is(base, "disk dst src "));
    folder_remove(dst);
}

/* ---- without a mount ---- */

static void a_device_is_no_place(void)
{
    REQUIRE(!symlink("/dev/full", dst));
    CHECK_EQ(convert(), GLM4V_ERR_INVALID);
    CHECK_CONTAINS(err.msg, "exists already and is not a folder");
    unlink(dst);
    CHECK_EQ(convert_to("/dev/full/new", NULL, NULL), GLM4V_ERR_NOT_FOUND);
}

int main(void)
{
    if (tiny_model_mkdtemp(base, sizeof base))
        return 1;
    snprintf(src, sizeof src, "%s/src", base);
    snprintf(dst, sizeof dst, "%s/dst", base);
    snprintf(large, sizeof large, "%s/large", base);
    snprintf(large_dst, sizeof large_dst, "%s/dst", base);
    snprintf(disk, sizeof disk, "%s/disk", base);
    snprintf(disk_dst, sizeof disk_dst, "%s/dst", disk);
    if (tiny_model_write(src, &(tiny_model_options) { .weights_only = true }))
        return 1;
    if (convert()) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    whole = folder_digest(dst);
    folder_remove(dst);
    TEST(a_kill_at_any_time_leaves_all_or_nothing);
    TEST(a_device_is_no_place);
    have_mounts();
    TEST(a_full_disk_is_an_error);
    TEST(a_disk_that_fills_meanwhile_is_an_error);
    TEST(a_disk_without_room_for_names_is_an_error);
    TEST(a_read_only_disk_is_an_error);
    TEST(a_read_only_source_is_converted);
    rmdir(disk);
    tiny_model_remove(base);
    return test_end();
}
