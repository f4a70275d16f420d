/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-02, power failures: what a conversion does to the disk is recorded, then states are built that
 * a crash after any of its calls may leave. What was synced is there; each call after the last sync
 * of its file or folder may have reached the disk or not, in any order, and written data may be
 * dropped, zeros or cut. In each state there is the whole result under its name or none, a reader
 * opens nothing else, and the next run ends well with nothing left. The same with one kind of sync
 * left out must fail, or this test sees nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "disk_shim.h"
#include "folders.h"
#include "glm4v/glm4v.h"
#include "test.h"
#include "tiny_model.h"

#define MAX_NODES 64
#define MAX_OPS 1024
#define PATH_BYTES 900
#define PARENT 0 /* node of the folder that the result is made in */
#define NOWHERE (-1)

static char base[512], src[600], place[600], dst[640];  /* place: where runs are recorded */
static char whole_dir[600], state[600], state_dst[640]; /* the result; what a crash left */
static uint64_t whole;                                  /* its digest */
static glm4v_error err;

static int convert(const char *to)
{
    memset(&err, 0, sizeof err);
    return glm4v_quantize(src, to,
                          &(glm4v_quantize_options) { .quantization = "int4,lm-head=int8",
                                                      .n_threads = 1,
                                                      .shard_bytes = 150000 },
                          &err);
}

static void join(char path[PATH_BYTES], const char *dir, const char *name)
{
    snprintf(path, PATH_BYTES, "%.640s/%.200s", dir, name);
}

/* ---- recording ---- */

typedef enum { NO_PLANT, FILES, FOLDER, LOCK_FILE, NAMING, RESULT, REMOVING, N_PLANTS } plant;

static const char *const plant_names[N_PLANTS] = {
    "none",
    "files",
    "temporary folder",
    "lock file",
    "parent before the temporary folder is made",
    "parent after the result has its name",
    "parent after a temporary folder is removed",
};

typedef struct {
    bool is_folder, linked;
    int in; /* node of its folder */
    char name[80];
    uint8_t *data;
    size_t size;
} node;

typedef struct {
    call what;
    int node, in; /* in: of CREATE, MKDIR, RENAME and UNLINK */
    char name[80];
    uint64_t offset;
    size_t size;
    uint8_t *data;
} op;

static struct {
    node nodes[MAX_NODES]; /* names as they are now; data as it was at the start */
    op ops[MAX_OPS];
    int n_nodes, n_start, n; /* n_start: nodes that were there before */
    int node_of[MAX_FDS];
    bool start_linked[MAX_NODES];
    plant left_out;
    bool done;    /* the run said that it has made the result */
    uint64_t old; /* digest of what had the result's name before */
} trace;

static int find(int in, const char *name)
{
    for (int i = 0; i < trace.n_nodes; i++)
        if (trace.nodes[i].linked && trace.nodes[i].in == in && !strcmp(trace.nodes[i].name, name))
            return i;
    return NOWHERE;
}

static int add_node(int in, const char *name, bool is_folder)
{
    if (trace.n_nodes == MAX_NODES)
        file_die("too many files for", "the trace");
    node *f = &trace.nodes[trace.n_nodes];
    *f = (node) { .is_folder = is_folder, .linked = true, .in = in };
    if (strlen(name) >= sizeof f->name)
        file_die("too long a name for the trace:", name);
    memcpy(f->name, name, strlen(name) + 1);
    return trace.n_nodes++;
}

static int node_of(int fd)
{
    return fd >= 0 && fd < MAX_FDS ? trace.node_of[fd] : NOWHERE;
}

static bool has_ops(call what)
{
    for (int i = 0; i < trace.n; i++)
        if (trace.ops[i].what == what)
            return true;
    return false;
}

static bool removed_last(void)
{
    return trace.n && trace.ops[trace.n - 1].what == UNLINK &&
           trace.nodes[trace.ops[trace.n - 1].node].is_folder;
}

/* Is this sync one of those that the planted fault leaves out? */
static bool is_left_out(int file)
{
    switch (trace.left_out) {
    case FILES:
        return !trace.nodes[file].is_folder && trace.nodes[file].in != PARENT;
    case FOLDER:
        return trace.nodes[file].is_folder && file != PARENT;
    case LOCK_FILE:
        return !trace.nodes[file].is_folder && trace.nodes[file].in == PARENT;
    case NAMING:
        return file == PARENT && !has_ops(MKDIR) && !removed_last();
    case RESULT:
        return file == PARENT && has_ops(RENAME);
    case REMOVING:
        return file == PARENT && removed_last();
    default:
        return false;
    }
}

static void add_op(const change *c, int file, int in, const char *name)
{
    if (trace.n == MAX_OPS)
        file_die("too many calls for", "the trace");
    op *o = &trace.ops[trace.n];
    *o = (op) { .what = c->what, .node = file, .in = in, .offset = c->offset, .size = c->size };
    if (name)
        snprintf(o->name, sizeof o->name, "%s", name);
    if (c->what == WRITE) {
        o->data = malloc(c->size);
        memcpy(o->data, c->data, c->size);
    }
    trace.n++;
}

static void record_open(const change *c)
{
    int in = node_of(c->dir), file = NOWHERE;
    if (c->dir == AT_FDCWD)
        file = strcmp(c->path, place) ? NOWHERE : PARENT;
    else if (in != NOWHERE)
        file = find(in, c->path);
    if (c->what == CREATE && in != NOWHERE && file == NOWHERE) {
        file = add_node(in, c->path, false);
        add_op(c, file, in, c->path);
    }
    if (c->fd < MAX_FDS)
        trace.node_of[c->fd] = file;
}

static void record_rename(const change *c)
{
    int in = node_of(c->dir), file = find(in, c->path), over = find(in, c->to);
    add_op(c, file, in, c->to);
    if (over != NOWHERE)
        trace.nodes[over].linked = false;
    snprintf(trace.nodes[file].name, sizeof trace.nodes[file].name, "%s", c->to);
}

static void record(const change *c)
{
    int file = node_of(c->fd), in = node_of(c->dir);
    switch (c->what) {
    case OPEN:
    case CREATE:
        record_open(c);
        break;
    case CLOSE:
        if (c->fd < MAX_FDS)
            trace.node_of[c->fd] = NOWHERE;
        break;
    case WRITE:
    case TRUNCATE:
        add_op(c, file, NOWHERE, NULL);
        break;
    case SYNC:
        if (!is_left_out(file))
            add_op(c, file, NOWHERE, NULL);
        break;
    case MKDIR:
        add_op(c, add_node(in, c->path, true), in, c->path);
        break;
    case RENAME:
        record_rename(c);
        break;
    case UNLINK:
        file = find(in, c->path);
        add_op(c, file, in, NULL);
        trace.nodes[file].linked = false;
        break;
    default:
        break;
    }
}

/* The files that are there before the run, which are on the disk for good. */
static void record_start(int in, const char *dir)
{
    char names[3072];
    folder_names(dir, names, sizeof names);
    for (char *name = names, *end; *name; name = end + 1) {
        struct stat st;
        end = strchr(name, ' ');
        *end = 0;
        if (lstat(file_path(dir, name), &st))
            file_die("cannot examine", name);
        int file = add_node(in, name, S_ISDIR(st.st_mode));
        if (S_ISDIR(st.st_mode)) {
            char path[PATH_BYTES];
            join(path, dir, name);
            record_start(file, path);
        } else {
            file_text t = file_read(dir, name);
            trace.nodes[file].data = (uint8_t *)t.data;
            trace.nodes[file].size = t.len;
        }
    }
}

static void trace_clear(void)
{
    for (int i = 0; i < trace.n_nodes; i++)
        free(trace.nodes[i].data);
    for (int i = 0; i < trace.n; i++)
        free(trace.ops[i].data);
    memset(&trace, 0, sizeof trace);
}

/* ---- the runs that are recorded ---- */

typedef enum { PLAIN, AFTER_A_KILL, OVER_AN_EMPTY_FOLDER, DISK_FULL, NOT_RENAMED, N_RUNS } run;

static const char *const run_names[N_RUNS] = { "a plain run", "a run after a killed one",
                                               "a run over an empty folder",
                                               "a run that fills the disk",
                                               "a run that cannot rename" };

static void remove_all(const char *dir)
{
    char names[3072];
    folder_names(dir, names, sizeof names);
    if (!strcmp(names, "(none)"))
        return;
    for (char *name = names, *end; *name; name = end + 1) {
        end = strchr(name, ' ');
        *end = 0;
        if (unlink(file_path(dir, name))) {
            char path[PATH_BYTES];
            join(path, dir, name);
            folder_remove(path);
        }
    }
}

/* What a run leaves that is killed when half of its files are there. */
static void leave_a_killed_one(void)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        shim.kill_after = 60;
        convert(dst);
        _exit(1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
        file_die("was not killed:", "the run before");
}

static void record_run(run kind, plant left_out)
{
    static const int codes[N_RUNS] = { [DISK_FULL] = GLM4V_ERR_IO, [NOT_RENAMED] = GLM4V_ERR_IO };
    shim_reset();
    remove_all(place);
    if (kind == AFTER_A_KILL)
        leave_a_killed_one();
    if (kind == OVER_AN_EMPTY_FOLDER && mkdir(dst, 0755))
        file_die("cannot make", dst);
    memset(trace.node_of, 0xff, sizeof trace.node_of); /* NOWHERE */
    trace.left_out = left_out;
    trace.old = folder_digest(dst);
    add_node(NOWHERE, "", true); /* PARENT */
    record_start(PARENT, place);
    trace.n_start = trace.n_nodes;
    for (int i = 0; i < trace.n_nodes; i++)
        trace.start_linked[i] = trace.nodes[i].linked;
    shim.which = kind == NOT_RENAMED ? RENAME : WRITE;
    shim.at = kind == NOT_RENAMED ? 1 : kind == DISK_FULL ? 70 : 0;
    shim.error = kind == NOT_RENAMED ? EIO : ENOSPC;
    shim.done = record;
    int rc = convert(dst);
    shim_reset();
    if (rc != codes[kind])
        file_die(err.msg, run_names[kind]);
    trace.done = !rc;
}

/* ---- what a crash leaves ---- */

static uint64_t seed;

static uint32_t draw(uint32_t n) /* [0, n) */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 16) % n);
}

/* What becomes of calls that were not synced. */
typedef enum { DROPPED, KEPT, ZEROED, CUT, N_FATES } fate;
typedef enum { ALL_DROPPED, ALL_KEPT, DATA_DROPPED, DATA_ZEROED, DATA_CUT, ANY } manner;

static bool is_data(const op *o)
{
    return o->what == WRITE || o->what == TRUNCATE;
}

static fate fate_of(const op *o, manner how)
{
    switch (how) {
    case ALL_DROPPED:
        return DROPPED;
    case ALL_KEPT:
        return KEPT;
    case DATA_DROPPED:
        return is_data(o) ? DROPPED : KEPT;
    case DATA_ZEROED:
        return o->what == WRITE ? ZEROED : KEPT;
    case DATA_CUT:
        return o->what == WRITE ? CUT : KEPT;
    default:
        return (fate)draw(o->what == WRITE ? N_FATES : 2);
    }
}

/* Was call i synced by the calls before `end`? */
static bool is_settled(int i, int end)
{
    const op *o = &trace.ops[i];
    int what = is_data(o) ? o->node : o->in;
    for (int k = i + 1; k < end; k++)
        if (trace.ops[k].what == SYNC && trace.ops[k].node == what)
            return true;
    return false;
}

static void resize(node *f, size_t size)
{
    f->data = realloc(f->data, size + 1);
    if (size > f->size)
        memset(f->data + f->size, 0, size - f->size);
    f->size = size;
}

static void put(node *f, const op *o, fate what)
{
    size_t n = what == CUT ? draw((uint32_t)o->size) : o->size;
    if (f->size < o->offset + n)
        resize(f, o->offset + n);
    if (what == ZEROED)
        memset(f->data + o->offset, 0, n);
    else
        memcpy(f->data + o->offset, o->data, n);
}

static void apply(node *disk, const op *o, fate what)
{
    node *f = &disk[o->node];
    switch (o->what) {
    case CREATE:
    case MKDIR:
        *f = (node) { .is_folder = o->what == MKDIR, .linked = true, .in = o->in };
        memcpy(f->name, o->name, sizeof f->name);
        break;
    case WRITE:
        put(f, o, what);
        break;
    case TRUNCATE:
        resize(f, o->size);
        break;
    case RENAME:
        if (!f->linked) /* it was never made */
            break;
        for (int i = 0; i < trace.n_nodes; i++)
            if (disk[i].linked && disk[i].in == o->in && !strcmp(disk[i].name, o->name))
                disk[i].linked = false;
        memcpy(f->name, o->name, sizeof f->name);
        break;
    default: /* UNLINK */
        f->linked = false;
    }
}

static void write_out(const node *disk, int in, const char *dir)
{
    for (int i = 0; i < trace.n_nodes; i++) {
        if (!disk[i].linked || disk[i].in != in)
            continue;
        if (!disk[i].is_folder) {
            file_write(dir, disk[i].name, disk[i].data ? disk[i].data : (uint8_t *)"",
                       disk[i].size);
            continue;
        }
        char path[PATH_BYTES];
        join(path, dir, disk[i].name);
        if (mkdir(path, 0755))
            file_die("cannot make", path);
        write_out(disk, i, path);
    }
}

/* The folder `state` after a crash before call `end`. */
static void build_state(int end, manner how)
{
    node disk[MAX_NODES] = { 0 };
    for (int i = 0; i < trace.n_start; i++) {
        disk[i] = trace.nodes[i];
        disk[i].linked = trace.start_linked[i];
        disk[i].data = malloc(disk[i].size + 1);
        if (disk[i].size)
            memcpy(disk[i].data, trace.nodes[i].data, disk[i].size);
    }
    for (int i = 0; i < end; i++) {
        fate what = is_settled(i, end) ? KEPT : fate_of(&trace.ops[i], how);
        if (trace.ops[i].what != SYNC && what != DROPPED)
            apply(disk, &trace.ops[i], what);
    }
    remove_all(state);
    write_out(disk, PARENT, state);
    for (int i = 0; i < trace.n_nodes; i++)
        free(disk[i].data);
}

/* ---- what must hold ---- */

static bool opens(const char *dir)
{
    glm4v_model *m = NULL;
    int rc = glm4v_model_open(&m, dir,
                              &(glm4v_model_options) { .device = "cpu", .weights_only = 1 }, &err);
    glm4v_model_close(&m);
    return !rc;
}

/* All that a reader of weights needs is as it is in the result. */
static bool is_readable_whole(const char *dir)
{
    char names[3072];
    bool same = true;
    folder_names(whole_dir, names, sizeof names);
    for (char *name = names, *end; same && *name; name = end + 1) {
        end = strchr(name, ' ');
        *end = 0;
        if (!strcmp(name, "LICENSE"))
            continue;
        if (access(file_path(dir, name), R_OK))
            return false;
        file_text a = file_read(whole_dir, name), b = file_read(dir, name);
        same = a.len == b.len && !memcmp(a.data, b.data, a.len);
        free(a.data);
        free(b.data);
    }
    return same;
}

/* A reader that is led into what lies beside the result opens nothing half-written either. */
static bool opens_half(void)
{
    char names[3072], path[PATH_BYTES];
    folder_names(state, names, sizeof names);
    for (char *name = names, *end; *name; name = end + 1) {
        end = strchr(name, ' ');
        *end = 0;
        join(path, state, name);
        if (strcmp(name, "dst") && opens(path) && !is_readable_whole(path))
            return true;
    }
    return false;
}

/* What is wrong in the state, or NULL. */
static const char *wrong(bool told)
{
    char names[3072];
    const uint64_t found = folder_digest(state_dst);
    if (found != whole && found != trace.old && found)
        return "half of a result has its name";
    if (told && found != whole)
        return "a result that was told of is gone";
    if (opens(state_dst) != (found == whole))
        return found == whole ? "the result cannot be opened" : "something else can be opened";
    if (opens_half())
        return "a half-written folder can be opened";
    int rc = convert(state_dst);
    if (rc != (found == whole ? GLM4V_ERR_INVALID : 0))
        return "the next run ends badly";
    if (folder_digest(state_dst) != whole)
        return "the next run does not leave the result";
    if (strcmp(folder_names(state, names, sizeof names), "dst "))
        return "the next run leaves something";
    return NULL;
}

/* Where to crash: anywhere, or right after a call that is no write, or at the end. */
static int draw_end(int variant)
{
    if (variant % 10 == 9)
        return trace.n;
    for (;;) {
        int end = (int)draw((uint32_t)trace.n + 1);
        if (variant % 2 || !end || trace.ops[end - 1].what != WRITE)
            return end;
    }
}

/* Check n states of one recorded run. Returns how many are wrong; tells of them if `loud`, else
 * stops at the first. */
static int check_states(int n, const char *name, bool loud)
{
    int bad = 0;
    for (int i = 0; i < n && (loud || !bad); i++) {
        seed = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);
        const int end = draw_end(i);
        const uint32_t kind = draw(2 * ANY);
        const manner how = kind < ANY ? (manner)kind : ANY;
        build_state(end, how);
        const char *what = wrong(trace.done && end == trace.n);
        bad += what != NULL;
        if (what && loud)
            test_fail(__FILE__, __LINE__,
                      "%s, state %d, crash after %d of %d calls, manner %d: %s (%s)", name, i, end,
                      trace.n, how, what, err.msg);
    }
    return bad;
}

/* ---- tests ---- */

static int states_per_run(void)
{
    return getenv("GLM4V_DEEP") ? 200 : 20; /* of each of the N_RUNS */
}

static void after_a_power_failure_there_is_all_or_nothing(void)
{
    int n = 0, calls = 0;
    for (run kind = 0; kind < N_RUNS; kind++) {
        record_run(kind, NO_PLANT);
        CHECK(trace.n > 50);
        calls += trace.n;
        check_states(states_per_run(), run_names[kind], true);
        n += states_per_run();
        trace_clear();
    }
    printf("# %d states after crashes within %d calls of %d runs\n", n, calls, N_RUNS);
}

/* A sync that is left out is seen in one run at least. */
static void a_sync_that_is_left_out_is_found(void)
{
    for (plant left_out = 1; left_out < N_PLANTS; left_out++) {
        int bad = 0;
        for (run kind = 0; kind < N_RUNS && !bad; kind++) {
            record_run(kind, left_out);
            bad = check_states(200, run_names[kind], false);
            if (bad)
                printf("# without syncing %s: seen after %s\n", plant_names[left_out],
                       run_names[kind]);
            trace_clear();
        }
        if (!bad)
            test_fail(__FILE__, __LINE__, "nothing fails without syncing: %s",
                      plant_names[left_out]);
    }
}

int main(void)
{
    if (tiny_model_mkdtemp(base, sizeof base))
        return 1;
    snprintf(src, sizeof src, "%s/src", base);
    snprintf(place, sizeof place, "%s/place", base);
    snprintf(dst, sizeof dst, "%s/dst", place);
    snprintf(whole_dir, sizeof whole_dir, "%s/whole", base);
    snprintf(state, sizeof state, "%s/state", base);
    snprintf(state_dst, sizeof state_dst, "%s/dst", state);
    if (tiny_model_write(src, &(tiny_model_options) { .weights_only = true }))
        return 1;
    file_write_text(src, "LICENSE", "a licence");
    if (convert(whole_dir) || mkdir(place, 0755) || mkdir(state, 0755)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    whole = folder_digest(whole_dir);
    TEST(after_a_power_failure_there_is_all_or_nothing);
    TEST(a_sync_that_is_left_out_is_found);
    tiny_model_remove(base);
    return test_end();
}
