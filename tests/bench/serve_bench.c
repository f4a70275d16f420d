/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the service costs beside the engine alone, in turns within one run, with the shipped model:
 * serve-bench [ROUNDS [REQUESTS]]
 *   latency     one 448x448 PNG: decoded and described in this process, then by a server over HTTP
 *   first byte  of a stream, beside the server's own time to the first token
 *   captions    16 at a time in 20 tokens: an engine in this process, as glm4v bench --batch 16
 *               runs it, the same with a PNG each, then 16 clients with a PNG each
 *   memory      of the server: before, after a tenth of REQUESTS, and after all of them, with
 *               pictures of several sizes
 * Prints medians with their spread. Starts build/tools/glm4v serve itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <png.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "glm4v/glm4v.h"
#include "cli.h"
#include "picture/picture.h"

enum { SIDE = 448, CLIENTS = 16, TOKENS = 20, MAX_ROUNDS = 1000, ANSWER = 1 << 16 };
#define PROMPT "Describe the image in one sentence."

static void die(const char *what)
{
    fprintf(stderr, "serve-bench: %s\n", what);
    exit(1);
}

/* What the readers of pictures call. */
void *cli_alloc(size_t n, size_t size)
{
    return calloc(n, size);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

static void print_spread(const char *name, double *values, int n, const char *unit)
{
    const double middle = median(values, n);
    printf("%-44s %8.2f %s (%.2f to %.2f, n = %d)\n", name, middle, unit, values[0], values[n - 1],
           n);
    fflush(stdout);
}

/* ---- pictures and requests ---- */

typedef struct {
    uint8_t *rgb, *png;
    uint32_t side; /* pixels */
    size_t png_size;
    char *request[2]; /* whole, head included; [1]: as a stream */
    size_t request_size[2];
} picture;

/* Slopes, edges and a little noise, another one for each number. */
static void draw(picture *p, uint32_t number, uint32_t side)
{
    png_image image = { .version = PNG_IMAGE_VERSION, .width = side, .height = side };
    uint32_t state = number * 2654435761u + 12345;
    p->side = side;
    p->rgb = malloc((size_t)side * side * 3);
    for (uint32_t i = 0; i < side * side * 3; i++) {
        const uint32_t x = i / 3 % side, y = i / 3 / side;
        state = state * 1664525u + 1013904223u;
        p->rgb[i] = (uint8_t)((x * (number % 5 + 1) + y * 2) / 4 +
                              ((x / 32 + y / 32 + number) % 2) * 64 + (state >> 29));
    }
    image.format = PNG_FORMAT_RGB;
    png_alloc_size_t size = 0;
    if (!png_image_write_get_memory_size(image, size, 0, p->rgb, 0, NULL))
        die("no PNG");
    p->png = malloc(size);
    if (!png_image_write_to_memory(&image, p->png, &size, 0, p->rgb, 0, NULL))
        die("no PNG");
    p->png_size = size;
}

static char *base64(const uint8_t *data, size_t size)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = calloc(size / 3 + 2, 4), *to = text;
    for (size_t i = 0; i < size; i += 3) {
        const uint32_t bits = (uint32_t)data[i] << 16 |
                              (i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0) |
                              (i + 2 < size ? data[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            *to++ = i + k > size ? '=' : letters[bits >> (18 - 6 * k) & 63];
    }
    return text;
}

static void write_requests(picture *p)
{
    char *data = base64(p->png, p->png_size), *body;
    for (int stream = 0; stream < 2; stream++) {
        const int n = asprintf(
            &body,
            "{\"stream\":%s,\"max_tokens\":%d,\"messages\":[{\"role\":\"user\",\"content\":[{"
            "\"type\":\"text\",\"text\":\"%s\"},{\"type\":\"image_url\",\"image_url\":{\"url\":"
            "\"data:image/png;base64,%s\"}}]}]}",
            stream ? "true" : "false", TOKENS, PROMPT, data);
        p->request_size[stream] = (size_t)asprintf(
            &p->request[stream],
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
            "application/json\r\nContent-Length: %d\r\n\r\n%s",
            n, body);
        free(body);
    }
    free(data);
}

/* ---- the server and its clients ---- */

static pid_t server;
static uint16_t port;

static void start_server(const char *program, const char *model)
{
    int out[2];
    char line[512] = "", *at;
    if (pipe(out))
        die("no pipe");
    server = fork();
    if (!server) {
        dup2(out[1], STDERR_FILENO);
        execl(program, program, "serve", "--listen", "127.0.0.1:0", "--batch", "16", "--model",
              model, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    FILE *log = fdopen(out[0], "r");
    while (fgets(line, sizeof line, log) && !strstr(line, " answers at "))
        fputs(line, stderr);
    at = strstr(line, "http://127.0.0.1:");
    if (!at)
        die("the server does not start");
    port = (uint16_t)atoi(at + strlen("http://127.0.0.1:"));
}

static int connect_to_server(void)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons(port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address))
        die("no connection");
    return fd;
}

static void send_all(int fd, const char *data, size_t size)
{
    for (ssize_t n; size; data += n, size -= (size_t)n)
        if ((n = send(fd, data, size, MSG_NOSIGNAL)) <= 0)
            die("the server hung up");
}

/* Is the response complete? */
static bool is_complete(const char *answer, size_t size)
{
    const char *end = strstr(answer, "\r\n\r\n"), *length = strstr(answer, "Content-Length: ");
    if (!end)
        return false;
    if (length && length < end)
        return size >= (size_t)(end - answer) + 4 + (size_t)atol(length + 16);
    return size >= 5 && !memcmp(answer + size - 5, "0\r\n\r\n", 5);
}

/* One request and its whole response; *first: when its first byte came. */
static void ask(int fd, const picture *p, bool stream, char *answer, double *first)
{
    size_t size = 0;
    send_all(fd, p->request[stream], p->request_size[stream]);
    do {
        const ssize_t n = recv(fd, answer + size, ANSWER - 1 - size, 0);
        if (n <= 0)
            die("no answer");
        if (!size && first)
            *first = now_ms();
        size += (size_t)n;
        answer[size] = 0;
    } while (!is_complete(answer, size));
    if (strncmp(answer, "HTTP/1.1 200", 12))
        die(answer);
}

/* Milliseconds of one of the timings that an answer tells. */
static double timing_of(const char *answer, const char *key)
{
    char wanted[32];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(answer, wanted);
    return at ? atof(at + strlen(wanted)) * 1e3 : 0;
}

/* ---- the engine in this process ---- */

static glm4v_engine *engine;

/* Without drafts of earlier answers, which requests of a service do not have. */
static glm4v_task task_of(const glm4v_image *image)
{
    return (glm4v_task) { .prompt = PROMPT,
                          .images = image,
                          .n_images = 1,
                          .max_tokens = TOKENS,
                          .speculation = GLM4V_SPECULATION_OFF };
}

static cli_picture *decode(const picture *p, glm4v_image *image)
{
    glm4v_error err = { 0 };
    cli_frame frame;
    cli_picture *decoded = cli_picture_open(p->png, p->png_size, NULL, 0, &err);
    if (!decoded || cli_picture_next(decoded, &frame, &err) <= 0)
        die(err.msg);
    *image = frame.image;
    return decoded;
}

/* *decoding: milliseconds of it. */
static void describe_png(const picture *p, double *decoding)
{
    const double begin = now_ms();
    glm4v_error err = { 0 };
    glm4v_result *result = NULL;
    glm4v_image image;
    cli_picture *decoded = decode(p, &image);
    *decoding = now_ms() - begin;
    const glm4v_task task = task_of(&image);
    if (glm4v_describe(engine, &task, &result, &err))
        die(err.msg);
    glm4v_result_free(&result);
    cli_picture_close(&decoded);
}

/* All at once, as glm4v bench does; or each when its PNG is decoded. */
static void describe_batch(const picture *pictures, bool png)
{
    glm4v_request *requests[CLIENTS];
    cli_picture *decoded[CLIENTS] = { 0 };
    glm4v_image images[CLIENTS];
    glm4v_error err = { 0 };
    for (uint32_t i = 0; i < CLIENTS; i++) {
        const picture *p = &pictures[i];
        images[i] = (glm4v_image) {
            .data = p->rgb, .width = p->side, .height = p->side, .stride = 3 * p->side
        };
        if (png)
            decoded[i] = decode(p, &images[i]);
        glm4v_task task = task_of(&images[i]);
        task.stream = i;
        if (glm4v_engine_submit(engine, &task, &requests[i], &err))
            die(err.msg);
    }
    for (int i = 0; i < CLIENTS; i++) {
        glm4v_request_wait(requests[i], UINT64_MAX);
        glm4v_request_unref(&requests[i]);
        cli_picture_close(&decoded[i]);
    }
}

/* ---- measurements ---- */

static void measure_latency(const picture *p, int rounds)
{
    static double here[MAX_ROUNDS], there[MAX_ROUNDS], more[MAX_ROUNDS], late[MAX_ROUNDS];
    static double decoding[MAX_ROUNDS];
    char *answer = malloc(ANSWER);
    const int fd = connect_to_server();
    for (int i = -3; i < rounds; i++) { /* three to warm up */
        const int k = i < 0 ? 0 : i;
        double begin = now_ms(), first = 0;
        describe_png(p, &decoding[k]);
        here[k] = now_ms() - begin;
        begin = now_ms();
        ask(fd, p, false, answer, NULL);
        there[k] = now_ms() - begin;
        more[k] = there[k] - timing_of(answer, "total");
        begin = now_ms();
        ask(fd, p, true, answer, &first);
        late[k] = first - begin - timing_of(answer, "first_token");
    }
    const double added = median(there, rounds) - median(here, rounds);
    print_spread("a PNG here: decode and describe", here, rounds, "ms");
    print_spread("  of it decoding", decoding, rounds, "ms");
    print_spread("a PNG over HTTP", there, rounds, "ms");
    print_spread("  of it outside of the engine, decoding too", more, rounds, "ms");
    print_spread("  first byte of a stream after its first token", late, rounds, "ms");
    printf("%-44s %8.2f ms\n", "added by the service, between the medians", added);
    close(fd);
    free(answer);
}

typedef struct {
    const picture *pictures; /* [CLIENTS] */
    int number, step;        /* of the first picture it sends, and from one to the next */
    int fd, rounds;
} client;

static void *run_client(void *arg)
{
    client *c = arg;
    char *answer = malloc(ANSWER);
    if (c->fd < 0)
        c->fd = connect_to_server();
    for (int i = 0; i < c->rounds; i++)
        ask(c->fd, &c->pictures[(c->number + i * c->step) % CLIENTS], false, answer, NULL);
    free(answer);
    return NULL;
}

/* step 0: each client sends its own picture again and again, 1: all of them in turn. */
static double clients_rate(const picture *pictures, client *clients, int rounds, int step)
{
    pthread_t threads[CLIENTS];
    const double begin = now_ms();
    for (int i = 0; i < CLIENTS; i++) {
        clients[i].pictures = pictures;
        clients[i].number = i;
        clients[i].step = step;
        clients[i].rounds = rounds;
        pthread_create(&threads[i], NULL, run_client, &clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    return 1e3 * CLIENTS * rounds / (now_ms() - begin);
}

/* Milliseconds of processor time that a process has used. */
static double processor_ms(pid_t pid)
{
    clockid_t clock;
    struct timespec t = { 0 };
    if (!clock_getcpuclockid(pid, &clock))
        clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

enum { TURNS = 8 }; /* of 16 captions each, in a round */

/* Captions a second; *work: processor time of one. */
static double engine_rate(const picture *pictures, bool png, double *work)
{
    const double begin = now_ms(), before = processor_ms(getpid());
    for (int k = 0; k < TURNS; k++)
        describe_batch(pictures, png);
    *work = (processor_ms(getpid()) - before) / (CLIENTS * TURNS);
    return 1e3 * CLIENTS * TURNS / (now_ms() - begin);
}

static void measure_rate(const picture *pictures, client *clients, int rounds)
{
    enum { DECODED, PNG, OVER_HTTP, KINDS };
    static double rate[KINDS][MAX_ROUNDS], work[KINDS][MAX_ROUNDS], share[2][MAX_ROUNDS];
    static double client_work[MAX_ROUNDS];
    for (int i = 0; i < rounds; i++) {
        rate[DECODED][i] = engine_rate(pictures, false, &work[DECODED][i]);
        rate[PNG][i] = engine_rate(pictures, true, &work[PNG][i]);
        const double servers = processor_ms(server), own = processor_ms(getpid());
        rate[OVER_HTTP][i] = clients_rate(pictures, clients, TURNS, 0);
        work[OVER_HTTP][i] = (processor_ms(server) - servers) / (CLIENTS * TURNS);
        client_work[i] = (processor_ms(getpid()) - own) / (CLIENTS * TURNS);
        for (int k = DECODED; k <= PNG; k++)
            share[k][i] = 100 * rate[OVER_HTTP][i] / rate[k][i];
    }
    print_spread("16 at a time here, decoded before", rate[DECODED], rounds, "captions/s");
    print_spread("16 at a time here, decoded from PNG", rate[PNG], rounds, "captions/s");
    print_spread("16 clients over HTTP, a PNG each", rate[OVER_HTTP], rounds, "captions/s");
    print_spread("  of the rate here, decoded before", share[DECODED], rounds, "%");
    print_spread("  of the rate here, decoded from PNG", share[PNG], rounds, "%");
    print_spread("processor time of a caption, decoded before", work[DECODED], rounds, "ms");
    print_spread("processor time of a caption, from PNG", work[PNG], rounds, "ms");
    print_spread("processor time of a caption, the server's", work[OVER_HTTP], rounds, "ms");
    print_spread("processor time of a caption, its client's", client_work, rounds, "ms");
}

static double server_memory(void)
{
    char path[64], line[256];
    double kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)server);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "VmRSS:", 6))
            kib = atof(line + 6);
    if (file)
        fclose(file);
    return kib / 1024;
}

static void measure_memory(picture *pictures, client *clients, int requests)
{
    static const uint32_t sides[] = { 60, 200, 700, 1300 };
    const int rounds = requests / CLIENTS, first = rounds / 10;
    for (uint32_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        draw(&pictures[i], i, sides[i]);
        write_requests(&pictures[i]);
    }
    const double before = server_memory();
    clients_rate(pictures, clients, first, 1);
    const double then = server_memory();
    clients_rate(pictures, clients, rounds - first, 1);
    printf("%-44s %8.1f MiB, %.1f after %d more requests, %.1f after %d\n", "memory of the server",
           before, then, first * CLIENTS, server_memory(), rounds * CLIENTS);
}

static void open_engine(const char *dir)
{
    glm4v_error err = { 0 };
    glm4v_model *model = NULL;
    const glm4v_engine_options options = { .max_batch = CLIENTS };
    if (glm4v_model_open(&model, dir, &(glm4v_model_options) { .device = "cpu" }, &err) ||
        glm4v_engine_open(&engine, model, &options, &err))
        die(err.msg);
    glm4v_model_close(&model);
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 10, requests = argc > 2 ? atoi(argv[2]) : 0;
    const char *model = SOURCE_ROOT "/models/surface-tiny";
    picture pictures[CLIENTS] = { 0 };
    client clients[CLIENTS];
    if (rounds < 1 || rounds > MAX_ROUNDS || requests < 0)
        die("usage: serve-bench [ROUNDS [REQUESTS]]");
    for (uint32_t i = 0; i < CLIENTS; i++) {
        draw(&pictures[i], i, SIDE);
        write_requests(&pictures[i]);
    }
    printf("%d tokens at most, PNG of %zu KiB\n", TOKENS, pictures[0].png_size >> 10);
    open_engine(model);
    start_server(GLM4V_PROGRAM, model);
    measure_latency(&pictures[0], 5 * rounds < MAX_ROUNDS ? 5 * rounds : MAX_ROUNDS);
    for (int i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    measure_rate(pictures, clients, rounds);
    if (requests)
        measure_memory(pictures, clients, requests);
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    glm4v_engine_close(&engine);
    return 0;
}
