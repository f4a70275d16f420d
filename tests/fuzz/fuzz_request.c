/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* P-12: the body of a chat completion becomes a request, or is refused with a reason. What is
 * taken keeps its own bounds. Bytes: which base, then the body. P-14: some are tried again with
 * an allocation that fails. */
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "json_edits.h"
#include "openai/request.h"

const size_t fuzz_json_at = 1;

static const char *const texts[] = {
    "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
    "\"content\":[{\"type\":\"text\",\"text\":\"q\"},{\"type\":\"image_url\",\"image_url\":{"
    "\"url\":"
    "\"data:image/png;base64,AAAA\",\"detail\":\"low\"}}]},{\"role\":\"assistant\",\"content\":"
    "\"<think>t</think>\\n<answer>a</answer>\"},{\"role\":\"user\",\"content\":[\"w\",{\"type\":"
    "\"image_url\",\"image_url\":\"data:,x\"}]}],\"max_tokens\":7,\"temperature\":0.5,\"top_p\":0."
    "9,"
    "\"top_k\":3,\"repetition_penalty\":1.1,\"seed\":-1,\"stop\":[\"a\",\"bc\"],\"stream\":true,"
    "\"stream_options\":{\"include_usage\":true},\"enable_thinking\":true,\"return_reasoning\":"
    "false,"
    "\"n\":1,\"tools\":[],\"logit_bias\":{},\"frequency_penalty\":0.2}",
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[\"a\",{\"url\":"
    "\"b\"}],\"times\":[0,0.5]}]}],\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
    "\"name\":\"n\",\"schema\":{\"type\":\"object\"}}},\"chat_template_kwargs\":{"
    "\"enable_thinking\":true}}",
    "{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
    "\"q\"},"
    "{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[\"a\"],\"fps\":2}]}],"
    "\"structured_outputs\":{\"choice\":[\"x\",\"y\"]},\"stop\":\"z\",\"max_completion_tokens\":3}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":null}"
    ","
    "{\"role\":\"user\",\"content\":\"r\"}],\"guided_choice\":[\"x\"],\"max_reasoning_tokens\":2}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"guided_json\":\"{}\"}",
};
enum { N_TEXTS = sizeof texts / sizeof *texts };
static json_base bases[N_TEXTS];

static const openai_limits limits = {
    .bytes = 1 << 20, .pictures = 5, .max_tokens = 100, .tokens = 10
};

static void start(void)
{
    for (int i = 0; i < N_TEXTS; i++)
        json_base_init(&bases[i], texts[i], strlen(texts[i]));
}

/* Turns have texts, the last one no answer; pictures are dealt out to them without gaps. */
static void check_turns(const openai_request *q)
{
    uint32_t next = 0;
    FUZZ_CHECK(q->n_turns >= 1 && q->n_turns <= GLM4V_MAX_TURNS + 1);
    for (uint32_t i = 0; i < q->n_turns; i++) {
        const openai_turn *turn = &q->turns[i];
        FUZZ_CHECK(turn->user && strlen(turn->user) < limits.bytes);
        FUZZ_CHECK((turn->assistant != NULL) == (i + 1 < q->n_turns));
        FUZZ_CHECK(turn->first_picture == next || !turn->n_pictures);
        next += turn->n_pictures;
    }
    FUZZ_CHECK(next == q->n_pictures && next <= limits.pictures);
    for (uint32_t i = 0; i < q->n_pictures; i++)
        FUZZ_CHECK(strlen(q->pictures[i].url) < limits.bytes && q->pictures[i].seconds >= 0);
}

static void check_options(const openai_request *q)
{
    FUZZ_CHECK(q->max_tokens >= 1 && q->max_tokens <= limits.max_tokens);
    FUZZ_CHECK(q->max_reasoning_tokens >= 1 && q->max_reasoning_tokens <= limits.max_tokens);
    FUZZ_CHECK(q->temperature >= 0 && q->temperature <= 2 && q->top_p > 0 && q->top_p <= 1);
    FUZZ_CHECK(q->repetition_penalty >= 1 && q->repetition_penalty <= 2);
    FUZZ_CHECK(q->n_stops <= OPENAI_MAX_STOPS && q->n_choices <= GLM4V_MAX_CHOICES);
    FUZZ_CHECK(q->n_ignored <= OPENAI_MAX_IGNORED && !(q->n_choices && q->json_schema));
    for (uint32_t i = 0; i < q->n_stops; i++)
        FUZZ_CHECK(*q->stops[i] && strlen(q->stops[i]) <= OPENAI_MAX_STOP_BYTES);
    for (uint32_t i = 0; i < q->n_choices; i++)
        FUZZ_CHECK(strlen(q->choices[i]) < limits.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    openai_request request;
    char parameter[OPENAI_MAX_PARAMETER];
    size_t length;
    glm4v_error err = { 0 };
    if (!started)
        start();
    started = true;
    char *text = json_input(&bases[size ? data[0] % N_TEXTS : 0], data + (size > 0),
                            size ? size - 1 : 0, &length);
    const uint64_t calls = glm4v_mem_calls();
    const int rc = openai_request_read(&request, text, length, &limits, parameter, &err);
    const uint64_t nth = fuzz_failing(data, size, glm4v_mem_calls() - calls);
    FUZZ_CHECK(strlen(parameter) < OPENAI_MAX_PARAMETER && (rc != 0) == (err.msg[0] != 0));
    if (!rc) {
        check_turns(&request);
        check_options(&request);
        openai_request_drop_messages(&request);
        FUZZ_CHECK(strlen(request.turns[request.n_turns - 1].user) < limits.bytes);
    }
    openai_request_close(&request);
    FUZZ_WITHOUT_MEMORY(nth, &err,
                        openai_request_read(&request, text, length, &limits, parameter, &err));
    if (nth)
        openai_request_close(&request);
    free(text);
    return 0;
}
