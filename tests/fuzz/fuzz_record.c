/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines of results, as glm4v replay reads them: what is taken keeps its bounds, so that a question
 * can be asked and an answer compared. Bytes: which base, then its line; the other lines stay as
 * they are. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "json_edits.h"
#include "replay/compare.h"

const size_t fuzz_json_at = 1;

#define HASH "0000000000000000000000000000000000000000000000000000000000000001"

static const char *const texts[] = {
    "{\"type\":\"settings\",\"version\":1,\"prompts\":[\"a {time}\",\"b\"],\"placeholders\":true,"
    "\"system\":\"s\",\"camera\":\"c\",\"output\":\"choice\",\"choices\":[\"good\",\"bad\"],"
    "\"fail-choices\":[\"bad\"],\"thresholds\":[0.5,0.25],\"pattern\":\"[0-9]+\",\"json-schema\":"
    "\"{}\",\"timeout-verdict\":\"fail\",\"sampling\":{\"temperature\":0,\"top-k\":0,\"top-p\":1,"
    "\"repetition-penalty\":1,\"seed\":0,\"thinking\":false},\"limits\":{\"max-tokens\":64,"
    "\"context-length\":0,\"max-pixels\":0},\"kv-cache\":\"auto\",\"model\":{\"name\":\"m\","
    "\"hash\":\"0123456789abcdef\",\"quant\":\"text=bf16\",\"isa\":\"c\",\"products\":\"p\","
    "\"device\":\"cpu\"},\"versions\":{\"glm4v\":\"0.1.0\"},\"hash\":\"" HASH "\"}",
    "{\"version\":1,\"id\":4,\"pts\":0,\"running-time\":1000000000,\"frame-number\":7,\"status\":"
    "\"ok\",\"finish-reason\":\"stop\",\"seed\":0,\"prompt-number\":1,\"roi\":{\"x\":1,\"y\":2,"
    "\"width\":3,\"height\":4,\"label\":\"l\"},\"clip\":{\"frames\":2,\"length\":5,\"times\":[0,5]"
    "},\"text\":\"bad\",\"reasoning\":\"r\",\"box\":\"x\",\"boxes\":[{\"x\":2,\"y\":4,\"width\":3,"
    "\"height\":4,\"label\":\"b\"}],\"action\":{\"action\":\"Tap\",\"element\":[2,4]},\"choice\":"
    "\"bad\",\"probability\":0.75,\"probabilities\":[0.25,0.75],\"verdict\":\"fail\",\"json\":{},"
    "\"pictures\":[\"" HASH "\",\"" HASH "\"],\"tokens\":{\"in\":1,\"out\":2,\"vision\":3},"
    "\"model\":{\"name\":\"m\",\"hash\":\"0123456789abcdef\",\"quant\":\"text=bf16\",\"isa\":\"c\""
    "},\"prompt-hash\":\"0123456789abcdef\",\"settings\":\"" HASH "\"}",
};
enum { N_TEXTS = sizeof texts / sizeof *texts };
static json_base bases[N_TEXTS];

typedef struct {
    cli_recorded_settings *settings;
    bool compared;
} visit;

static int on_settings(void *user, cli_recorded_settings *s, glm4v_error *err)
{
    visit *v = user;
    FUZZ_CHECK(s->line > 0 && s->prompts && s->kv_cache);
    FUZZ_CHECK(s->task.n_choices <= GLM4V_MAX_CHOICES && !s->choices[s->task.n_choices]);
    FUZZ_CHECK(s->task.max_tokens <= GLM4V_MAX_TOKENS && s->task.temperature <= 2);
    for (uint32_t i = 0; s->fails && i < s->task.n_choices; i++)
        FUZZ_CHECK(s->thresholds[i] > 0 && s->thresholds[i] <= 1);
    FUZZ_CHECK(!s->has_model || (s->model.name && s->model.isa && s->model.device));
    if (v->settings)
        cli_recorded_settings_free(v->settings);
    v->settings = cli_recorded_settings_take(s);
    return 0;
}

/* With any answer, it need not be one to the question. */
static void compare(const cli_recorded_settings *s, const cli_recorded_result *r)
{
    static const double shares[GLM4V_MAX_CHOICES] = { 0.25, 0.75 };
    static const glm4v_box box = { 1, 2, 3, 4, "b" };
    const glm4v_result answer = {
        .message = "",
        .text = "bad",
        .reasoning = "r",
        .box = "x",
        .boxes = &box,
        .n_boxes = 1,
        .action = { "Tap", "", "", { 1, 2 }, { -1, -1 } },
        .choice = "bad",
        .probability = 0.75,
        .probabilities = shares,
        .n_probabilities = s->task.n_choices,
        .json = "{}",
    };
    GString *differences = g_string_new(NULL);
    cli_compare_answer(differences, s, r, &answer);
    cli_compare_verdict(differences, s, r);
    if (s->has_model)
        cli_compare_settings(differences, s, r, "a");
    FUZZ_CHECK(g_utf8_validate(differences->str, -1, NULL));
    g_string_free(differences, TRUE);
}

static int on_result(void *user, const cli_recorded_result *r, glm4v_error *err)
{
    visit *v = user;
    FUZZ_CHECK(r->status && r->settings && r->prompt_hash && r->prompt_number >= 0);
    FUZZ_CHECK(json_array_size(r->pictures) <= GLM4V_MAX_FRAMES);
    FUZZ_CHECK(!r->times || !r->pictures ||
               json_array_size(r->times) == json_array_size(r->pictures));
    FUZZ_CHECK(r->part.x >= 0 && r->part.width >= 0 && r->part.width <= GLM4V_MAX_SIDE);
    if (v->settings)
        compare(v->settings, r);
    v->compared = true;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    visit v = { 0 };
    const cli_record_visitor visitor = { on_settings, on_result, &v };
    glm4v_error err = { 0 };
    size_t length;
    for (int i = 0; i < N_TEXTS && !started; i++)
        json_base_init(&bases[i], texts[i], strlen(texts[i]));
    started = true;
    const int which = size ? data[0] % N_TEXTS : 0;
    char *text = json_input(&bases[which], data + (size > 0), size ? size - 1 : 0, &length);
    GString *lines = g_string_new(NULL);
    for (int i = 0; i < N_TEXTS; i++) {
        g_string_append_len(lines, i == which ? text : texts[i],
                            i == which ? (gssize)length : (gssize)strlen(texts[i]));
        g_string_append_c(lines, '\n');
    }
    FILE *file = fmemopen(lines->str, lines->len, "rb");
    const int rc = cli_record_read_file(file, "results", &visitor, &err);
    FUZZ_CHECK(rc ? err.code == rc && err.msg[0] : !err.msg[0]);
    fclose(file);
    if (v.settings)
        cli_recorded_settings_free(v.settings);
    g_string_free(lines, TRUE);
    free(text);
    return 0;
}
