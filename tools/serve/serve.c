/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* glm4v serve: chat completions over HTTP. This file reads the options, starts the server, loads
 * the model while it answers already, and stops it in good order. */
#define _GNU_SOURCE
#include <curl/curl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "../cli.h"
#include "../interrupt.h"
#include "../media.h"
#include "../place.h"
#include "notify.h"
#include "server.h"

typedef struct {
    const char *model, *quantization, *listen, *key_file;
    cli_place place;
    uint32_t threads, context_length, prefix_tokens;
    uint64_t max_pixels;
    double stop_timeout;
    bool verbose;
    serve_settings serve;
} settings;

static bool is_name(const char *name)
{
    return *name && strlen(name) <= 200 && cli_is_utf8(name);
}

/* The name of the model is that of its folder. */
static void name_model(settings *set, const char *dir)
{
    static char name[256];
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin && dir[begin - 1] != '/')
        begin--;
    const size_t n = end - begin < sizeof name ? end - begin : sizeof name - 1;
    memcpy(name, dir + begin, n);
    name[n] = 0;
    set->serve.names[0] = is_name(name) ? name : "glm4v";
}

static int open_model(const settings *set, const char *dir, glm4v_model **model,
                      glm4v_engine **engine)
{
    glm4v_error err = { 0 };
    glm4v_model_options options = { .struct_size = sizeof options,
                                    .quantization = set->quantization,
                                    .n_threads = set->threads };
    const glm4v_engine_options how = { .struct_size = sizeof how,
                                       .max_batch = set->serve.max_batch,
                                       .max_pending = set->serve.max_requests,
                                       .max_pixels = set->max_pixels,
                                       .context_length = set->context_length,
                                       .prefix_tokens = set->prefix_tokens };
    cli_place_set(&options, &set->place);
    int status =
        cli_model_open(model, dir, &options, set->verbose ? GLM4V_LOG_DEBUG : GLM4V_LOG_WARNING);
    if (!status && glm4v_engine_open(engine, *model, &how, &err)) {
        cli_message("%s", err.msg);
        glm4v_model_close(model);
        status = CLI_MODEL;
    }
    return status;
}

/* Large bodies and pictures go back to the system when they are freed, instead of leaving gaps in
 * the heap of each thread that had them. Smaller ones are used again: to get pages from the system
 * for each request takes as long as to read its JSON. */
static void set_up_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
    mallopt(M_ARENA_MAX, 2);
}

static void run_until_stopped(serve_server *server, const settings *set, const char *dir)
{
    enum { LONG_MS = 3600000 };
    cli_message("%s answers at %s%s", dir, server->listener.unix_socket ? "" : "http://",
                server->listener.name);
    serve_notify("READY=1");
    while (cli_sleep(LONG_MS))
        ;
    serve_notify("STOPPING=1");
    cli_message("stops: new requests are refused, those under way end within %g s",
                set->stop_timeout);
    serve_server_stop(server, set->stop_timeout);
}

static int run(const settings *set, const char *dir)
{
    serve_server server;
    glm4v_error err = { 0 };
    glm4v_model *model = NULL;
    glm4v_engine *engine = NULL;
    const int rc = serve_server_open(&server, &set->serve, set->listen, &err);
    if (rc) {
        cli_message("%s", err.msg);
        return rc == GLM4V_ERR_INVALID ? CLI_USAGE : CLI_INPUT;
    }
    int status = open_model(set, dir, &model, &engine);
    if (!status) {
        cli_catch_signals();
        serve_server_ready(&server, engine, glm4v_model_get_info(model));
        run_until_stopped(&server, set, dir);
    }
    serve_server_close(&server);
    glm4v_engine_close(&engine);
    glm4v_model_close(&model);
    return cli_finish(status);
}

int cli_serve(int argc, char **argv)
{
    settings set = { .listen = "127.0.0.1:8080",
                     .stop_timeout = SERVE_STOP_TIME,
                     .serve = { .n_names = 1,
                                .max_requests = SERVE_MAX_REQUESTS,
                                .max_body = (uint64_t)SERVE_MAX_BODY_MIB << 20,
                                .max_tokens = SERVE_MAX_TOKENS,
                                .max_batch = GLM4V_DEFAULT_BATCH,
                                .request_timeout = SERVE_REQUEST_TIME } };
    cli_list aliases = { set.serve.names + 1, 0, SERVE_MAX_ALIASES };
    cli_list hosts = { set.serve.gate.hosts, 0, SERVE_MAX_NAMES };
    cli_list domains = { set.serve.sources.domains, 0, SERVE_MAX_NAMES };
    const cli_option options[] = {
        { "listen", "ADDRESS", CLI_STRING, &set.listen, 0, 0,
          "HOST:PORT, [IPv6]:PORT or unix:PATH; default 127.0.0.1:8080. Port 0: a free\n"
          "one. Other machines reach it at 0.0.0.0:PORT, which needs --api-key-file" },
        CLI_MODEL_OPTION(set.model),
        { "alias", "NAME", CLI_LIST, &aliases, 0, 0,
          "another name of the model, beside that of its folder; may be repeated" },
        { "api-key-file", "FILE", CLI_STRING, &set.key_file, 0, 0,
          "keys, one a line, of which requests must have one; default: none is needed" },
        { "allow-host", "NAME", CLI_LIST, &hosts, 0, 0,
          "a name that clients know this machine by, beside localhost and addresses;\n"
          "may be repeated" },
        { "allow-media-domain", "HOST", CLI_LIST, &domains, 0, 0,
          "fetch pictures with http: and https: URLs from this host; may be repeated;\n"
          "default: such URLs are refused" },
        CLI_PLACE_OPTIONS(set.place),
        CLI_QUANTIZATION_OPTION(set.quantization),
        CLI_THREADS_OPTION(set.threads),
        { "batch", "N", CLI_COUNT, &set.serve.max_batch, 1, GLM4V_MAX_BATCH,
          "requests that the model advances together; default " G_STRINGIFY(GLM4V_DEFAULT_BATCH) },
        { "max-requests", "N", CLI_COUNT, &set.serve.max_requests, 1, 1024,
          "requests that are answered or wait; others get status 503; default 64" },
        { "max-tokens", "N", CLI_COUNT, &set.serve.max_tokens, 1, GLM4V_MAX_TOKENS,
          "longest answer that a request may ask for; default 8192" },
        { "max-body", "SIZE", CLI_BYTES, &set.serve.max_body, 1024, 1 << 30,
          "largest body of a request; default 16MiB" },
        CLI_PIXELS_OPTION(set.max_pixels),
        { "context-length", "N", CLI_COUNT, &set.context_length, 0, 1 << 20,
          "tokens of a conversation, pictures and answer included; default " G_STRINGIFY(
              GLM4V_DEFAULT_CONTEXT) },
        { "prefix-tokens", "N", CLI_COUNT, &set.prefix_tokens, 0, 1 << 20,
          "constant tokens of prompts that are kept; default " G_STRINGIFY(
              GLM4V_DEFAULT_PREFIX_TOKENS) },
        { "request-timeout", "SECONDS", CLI_NUMBER, &set.serve.request_timeout, 0.001, 86400,
          "an answer that takes longer is an error; default 600" },
        { "stop-timeout", "SECONDS", CLI_NUMBER, &set.stop_timeout, 0, 86400,
          "after SIGTERM, time for answers that are under way; default 30" },
        { "verbose", NULL, CLI_FLAG, &set.verbose, 0, 0, "print the engine's log on stderr" },
    };
    const cli_command command = {
        .name = "serve",
        .synopsis = "[OPTIONS]",
        .about =
            "Answers chat completions over HTTP in the form of OpenAI's API: /v1/chat/completions "
            "with\n"
            "texts and pictures, /v1/models, /health, /ready, /metrics, /docs. See docs/serve.md.",
        .examples = "glm4v serve\n"
                    "glm4v serve --listen 127.0.0.1:8000 --alias autoglm-phone-9b --model "
                    "~/models/AutoGLM-Phone-9B\n"
                    "glm4v serve --listen 0.0.0.0:8080 --api-key-file /etc/glm4v/keys --allow-host "
                    "camera-server",
        .options = options,
        .n_options = sizeof options / sizeof *options,
    };
    glm4v_error err = { 0 };
    int n_operands, status;
    if (!cli_parse(&command, argc, argv, &n_operands, &status))
        return status;
    if (n_operands)
        return cli_usage_error(&command, "\"%s\" is not an option", argv[0]);
    const char *dir = cli_model_dir(set.model);
    if (!dir)
        return cli_usage_error(&command,
                               "no model was found: name one with --model or GLM4V_MODEL");
    for (size_t i = 0; i < aliases.n; i++)
        if (!is_name(aliases.items[i]))
            return cli_usage_error(&command, "--alias is UTF-8 of 1 to 200 bytes");
    name_model(&set, dir);
    set.serve.n_names += aliases.n;
    set.serve.gate.n_hosts = hosts.n;
    set.serve.sources.n_domains = domains.n;
    if (set.key_file && serve_gate_read_keys(&set.serve.gate, set.key_file, &err)) {
        cli_message("%s", err.msg);
        serve_gate_close(&set.serve.gate);
        return CLI_USAGE;
    }
    set_up_memory();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    status = run(&set, dir);
    curl_global_cleanup();
    serve_gate_close(&set.serve.gate);
    return status;
}
