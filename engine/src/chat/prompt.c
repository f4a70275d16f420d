/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Task to prompt ids. A builder collects plain text and encodes it whenever a control token
 * follows, because what stands between two control tokens is tokenized as a whole. Control tokens
 * come from this file alone: text of the task is encoded as plain text, whatever names it spells.
 * Each template is one small set of functions. Source: the chat_template.jinja of the models;
 * GLM-4V-9B: its tokenizer's build_single_message. */
#include "chat/prompt.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer_priv.h"

#define MAX_IDS (1u << 24) /* far above every context length */

/* What the templates differ in. */
typedef struct {
    const char *name;
    const char *mark;               /* its control token among those of a family; NULL: none */
    const char *needed[4];          /* control tokens beside those that all need, up to NULL */
    bool role_apart;                /* a role line is encoded apart from the text after it */
    bool skips_empty;               /* empty turns leave no trace */
    bool thinks;                    /* reasoning in <think>; closed beforehand where it is off */
    bool rarely;                    /* it does not reason by itself: closed only on request */
    bool line_thinking, line_plain; /* a new line opens the answer, with reasoning and without */
    bool line_closed;               /* another one follows the closed reasoning */
    bool answer;                    /* <answer> opens one without reasoning */
    bool line_first;                /* the model begins its answer with a new line */
    bool nothink; /* /nothink ends a question without reasoning; past answers carry an empty one */
    bool tenths;  /* frames of a clip are timed in tenths of a second */
    bool dynamic; /* and chosen by its length */
    bool one_image; /* a conversation has one picture and no clips */
} style;

static const style styles[] = {
    [GLM4V_TEMPLATE_NONE] = { .name = "none" },
    [GLM4V_TEMPLATE_GLM41V] = { .name = "glm-4.1v",
                                .mark = "<answer>",
                                .needed = { "<think>", "</think>", "</answer>" },
                                .thinks = true,
                                .line_thinking = true,
                                .line_plain = true,
                                .answer = true },
    [GLM4V_TEMPLATE_GLM45] = { .name = "glm-4.5",
                               .mark = "/nothink",
                               .needed = { "<think>", "</think>" },
                               .thinks = true,
                               .line_plain = true,
                               .nothink = true,
                               .line_first = true,
                               .tenths = true,
                               .dynamic = true },
    [GLM4V_TEMPLATE_CHATGLM4V] = { .name = "chatglm4v",
                                   .role_apart = true,
                                   .skips_empty = true,
                                   .line_first = true,
                                   .one_image = true },
    [GLM4V_TEMPLATE_GLM_OCR] = { .name = "glm-ocr",
                                 .needed = { "<think>", "</think>" },
                                 .thinks = true,
                                 .rarely = true,
                                 .line_thinking = true,
                                 .line_plain = true,
                                 .line_closed = true,
                                 .nothink = true,
                                 .tenths = true,
                                 .dynamic = true },
};

_Static_assert(sizeof styles / sizeof *styles == GLM4V_N_TEMPLATES, "a template has no style");

const char *glm4v_template_name(glm4v_template template_)
{
    return styles[template_].name;
}

static const style *style_of(const glm4v_chat *chat)
{
    return &styles[chat->format];
}

/* ---- which template ---- */

/* A control token that the template cannot do without. */
static int require(const glm4v_tokenizer *tokenizer, const glm4v_chat *chat, const char *name,
                   glm4v_error *err)
{
    if (glm4v_tokenizer_control(tokenizer, name) >= 0)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_UNSUPPORTED,
                      "the tokenizer has no \"%s\", which the chat template %s needs: the "
                      "tokenizer belongs to another model; use the files of this one",
                      name, glm4v_template_name(chat->format));
}

static int require_all(const glm4v_tokenizer *tokenizer, const glm4v_chat *chat, glm4v_error *err)
{
    static const char *const all[] = { "[gMASK]", "<sop>", "<|system|>", "<|user|>",
                                       "<|assistant|>" };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof all / sizeof *all; i++)
        rc = require(tokenizer, chat, all[i], err);
    for (const char *const *name = style_of(chat)->needed; !rc && *name; name++)
        rc = require(tokenizer, chat, *name, err);
    return rc;
}

/* The family's template whose mark the tokenizer has. */
static int choose_template(glm4v_template *format, const glm4v_tokenizer *tokenizer,
                           const glm4v_family_traits *family, glm4v_error *err)
{
    char tried[128] = "";
    size_t n = 0;
    for (const glm4v_template *t = family->templates; *t != GLM4V_TEMPLATE_NONE; t++) {
        const style *s = &styles[*t];
        *format = *t;
        if (!s->mark || glm4v_tokenizer_control(tokenizer, s->mark) >= 0)
            return 0;
        if (n < sizeof tried)
            n += snprintf(tried + n, sizeof tried - n, "%s\"%s\" (%s)", n ? " nor " : "neither ",
                          s->mark, s->name);
    }
    return glm4v_fail(
        err, GLM4V_ERR_UNSUPPORTED,
        "the tokenizer has %s: no known chat template fits: the tokenizer belongs to another model",
        tried);
}

/* The id that config.json gives under key must be the tokenizer's token of that name. */
static int check_id(const glm4v_tokenizer *tokenizer, const char *key, int32_t id, const char *name,
                    glm4v_error *err)
{
    int32_t found = glm4v_tokenizer_control(tokenizer, name);
    if (found >= 0 && found == id)
        return 0;
    return glm4v_fail(err, GLM4V_ERR_FORMAT,
                      "config.json \"%s\" is %d, but the tokenizer's \"%s\" is %d: config.json and "
                      "the tokenizer belong to different models",
                      key, id, name, found);
}

static int check_ids(const glm4v_tokenizer *tokenizer, const glm4v_chat *chat,
                     const glm4v_config *config, glm4v_error *err)
{
    int64_t size = glm4v_tokenizer_size(tokenizer);
    if (size > config->text.vocab)
        return glm4v_fail(err, GLM4V_ERR_FORMAT,
                          "the tokenizer has ids up to %" PRId64
                          ", but config.json \"vocab_size\" is %" PRId64 ": "
                          "the tokenizer belongs to another model; use the files of this one",
                          size - 1, config->text.vocab);
    const glm4v_family_traits *family = glm4v_family_of(config->family);
    glm4v_config c = *config; /* its ids are looked at by name */
    int rc = 0;
    for (glm4v_media media = 0; !rc && media < GLM4V_N_MEDIA; media++) {
        const glm4v_family_token *token = &family->token[media];
        const int32_t id = *glm4v_media_id(&c, media);
        /* a model without clips may leave these out; building the prompt of a clip then fails */
        const bool optional = media >= GLM4V_MEDIA_VIDEO;
        if (token->checked && !(optional && id < 0))
            rc = check_id(tokenizer, token->key, id, token->name, err);
    }
    return rc;
}

int glm4v_chat_init(glm4v_chat *chat, const glm4v_tokenizer *tokenizer, const glm4v_config *config,
                    glm4v_error *err)
{
    glm4v_chat c = {
        .gmask = glm4v_tokenizer_control(tokenizer, "[gMASK]"),
        .sop = glm4v_tokenizer_control(tokenizer, "<sop>"),
        .system = glm4v_tokenizer_control(tokenizer, "<|system|>"),
        .user = glm4v_tokenizer_control(tokenizer, "<|user|>"),
        .assistant = glm4v_tokenizer_control(tokenizer, "<|assistant|>"),
        .observation = glm4v_tokenizer_control(tokenizer, "<|observation|>"),
        .think = glm4v_tokenizer_control(tokenizer, "<think>"),
        .think_end = glm4v_tokenizer_control(tokenizer, "</think>"),
        .answer = glm4v_tokenizer_control(tokenizer, "<answer>"),
        .answer_end = glm4v_tokenizer_control(tokenizer, "</answer>"),
        .box = glm4v_tokenizer_control(tokenizer, "<|begin_of_box|>"),
        .box_end = glm4v_tokenizer_control(tokenizer, "<|end_of_box|>"),
        .nothink = glm4v_tokenizer_control(tokenizer, "/nothink"),
    };
    int rc = choose_template(&c.format, tokenizer, glm4v_family_of(config->family), err);
    if (!rc)
        rc = require_all(tokenizer, &c, err);
    if (!rc)
        rc = check_ids(tokenizer, &c, config, err);
    if (!rc)
        *chat = c;
    return rc;
}

/* ---- the builder ---- */

typedef struct {
    glm4v_prompt *prompt;
    const glm4v_tokenizer *tokenizer;
    const glm4v_chat *chat;
    const glm4v_config *config;
    const glm4v_grid *grids; /* of the pictures to come */
    char *text;              /* [n_text], waits for the next control token */
    size_t n_text, capacity;
    bool closed; /* reasoning is, beforehand */
    int rc;      /* the first failure; everything after it does nothing */
    glm4v_error *err;
} builder;

static void add_text(builder *b, const char *s, size_t len)
{
    if (b->rc)
        return;
    if (b->n_text + len > b->capacity) {
        size_t capacity = 2 * b->capacity + len + 256;
        char *text = glm4v_realloc(b->text, capacity, 1);
        if (!text) {
            b->rc = glm4v_fail(b->err, GLM4V_ERR_NOMEM, "no memory for a prompt of %zu bytes",
                               capacity);
            return;
        }
        b->text = text;
        b->capacity = capacity;
    }
    memcpy(b->text + b->n_text, s, len);
    b->n_text += len;
}

/* Text of the task, which must be UTF-8. */
static void add_task_text(builder *b, const char *what, const char *s, size_t len)
{
    size_t bad;
    if (!b->rc && !glm4v_utf8_valid(s, len, &bad))
        b->rc = glm4v_fail(b->err, GLM4V_ERR_INVALID, "the %s is not UTF-8 at byte %zu", what, bad);
    add_text(b, s, len);
}

/* The text that waits, to the end of the prompt. */
static int encode(const builder *b, glm4v_prompt *p)
{
    glm4v_ids ids = { p->ids, p->n_ids, p->capacity };
    int rc = glm4v_tokenizer_encode(b->tokenizer, b->text ? b->text : "", b->n_text, &ids, b->err);
    p->ids = ids.ids;
    p->n_ids = ids.n;
    p->capacity = ids.capacity;
    return rc;
}

static void flush(builder *b)
{
    glm4v_prompt *p = b->prompt;
    if (!b->rc)
        b->rc = encode(b, p);
    b->n_text = 0;
    if (!b->rc && p->n_ids > MAX_IDS)
        b->rc =
            glm4v_fail(b->err, GLM4V_ERR_INVALID, "the prompt has more than %u tokens", MAX_IDS);
}

/* Append id n times, after the text before it. */
static void add_ids(builder *b, int32_t id, int64_t n)
{
    glm4v_prompt *p = b->prompt;
    flush(b);
    if (b->rc)
        return;
    if (n > MAX_IDS || p->n_ids + n > MAX_IDS) {
        b->rc =
            glm4v_fail(b->err, GLM4V_ERR_INVALID, "the prompt has more than %u tokens", MAX_IDS);
        return;
    }
    if (p->n_ids + n > p->capacity) {
        size_t capacity = p->n_ids + n + 256;
        int32_t *ids = glm4v_realloc(p->ids, capacity, sizeof *ids);
        if (!ids) {
            b->rc = glm4v_fail(b->err, GLM4V_ERR_NOMEM, "no memory for a prompt of %zu tokens",
                               capacity);
            return;
        }
        p->ids = ids;
        p->capacity = capacity;
    }
    for (; n > 0; n--)
        p->ids[p->n_ids++] = id;
}

static void add_control(builder *b, int32_t id)
{
    add_ids(b, id, 1);
}

/* The next picture, or temporal patch of a clip. */
static void add_picture(builder *b, bool video)
{
    const glm4v_grid *grid = b->grids++;
    const glm4v_vision_config *v = &b->config->vision;
    const int64_t merge = v->merge, border = v->border;
    if (!b->rc &&
        (grid->grid_h == 0 || grid->grid_w == 0 || grid->grid_h % merge || grid->grid_w % merge))
        b->rc = glm4v_fail(b->err, GLM4V_ERR_INVALID,
                           "an image of %" PRId64 " x %" PRId64
                           " patches is not a multiple of %" PRId64,
                           grid->grid_w, grid->grid_h, merge);
    add_control(b, b->config->image_start_id);
    if (b->rc)
        return;
    const uint64_t rows = glm4v_picture_rows(v, grid->grid_h, grid->grid_w);
    const int64_t start = b->prompt->n_ids - border;
    if (b->prompt->n_runs == 0)
        b->prompt->constant = start;
    b->prompt->runs[b->prompt->n_runs++] =
        (glm4v_image_run) { start, rows, grid->grid_h, grid->grid_w, video };
    add_ids(b, b->config->image_id, rows - 2 * border);
    add_control(b, b->config->image_end_id);
}

/* Seconds in tenths, rounded as printf's %.1f does (to nearest by the exact value, ties to even),
 * which itself writes the decimal point of the application's language. */
static uint64_t tenths(double seconds)
{
    double whole = floor(seconds), part = seconds - whole;
    double product = part * 10, lost = fma(part, 10, -product); /* product + lost is exact */
    double n = floor(product), rest = product - n;
    uint64_t odd = (uint64_t)n & 1;
    bool up = rest > 0.5 || (rest == 0.5 && (lost > 0 || (lost == 0 && odd)));
    return (uint64_t)whole * 10 + (uint64_t)n + up;
}

/* When a temporal patch was taken: whole seconds for GLM-4.1V, tenths and the unit for the 4.5
 * style. */
static void add_timestamp(builder *b, double seconds)
{
    char s[64];
    if (!b->rc && !(seconds >= 0 && seconds < 1e9))
        b->rc = glm4v_fail(b->err, GLM4V_ERR_INVALID, "a frame of the clip has the timestamp %g",
                           seconds);
    if (b->rc)
        return;
    if (style_of(b->chat)->tenths)
        snprintf(s, sizeof s, "%d.%d seconds", (int)(tenths(seconds) / 10),
                 (int)(tenths(seconds) % 10));
    else
        snprintf(s, sizeof s, "%d", (int)seconds);
    add_text(b, s, strlen(s));
}

static void add_clip(builder *b, size_t n)
{
    if (!b->rc && (b->config->video_start_id < 0 || b->config->video_end_id < 0))
        b->rc = glm4v_fail(b->err, GLM4V_ERR_UNSUPPORTED,
                           "this model does not accept clips: config.json has no video "
                           "start and end tokens");
    add_control(b, b->config->video_start_id);
    for (size_t i = 0; i < n; i++) {
        add_picture(b, true);
        add_timestamp(b, b->grids[-1].seconds);
    }
    add_control(b, b->config->video_end_id);
}

/* ---- the templates ---- */

/* A role line. */
static void add_role(builder *b, int32_t role)
{
    add_control(b, role);
    add_text(b, "\n", 1);
    if (style_of(b->chat)->role_apart)
        flush(b);
}

/* What str.strip() removes: white space and the four information separators. */
static bool stripped(uint32_t code)
{
    return glm4v_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

/* s [0, *len) without white space at both ends. */
static const char *strip(const char *s, size_t *len)
{
    const char *first = NULL, *last = s;
    for (size_t i = 0; i < *len;) {
        uint32_t code = GLM4V_REPLACEMENT;
        int n = glm4v_utf8_next((const unsigned char *)s + i, *len - i, &code);
        size_t step = n > 0 ? n : 1;
        if (!stripped(code)) {
            first = first ? first : s + i;
            last = s + i + step;
        }
        i += step;
    }
    *len = first ? (last - first) : 0;
    return first ? first : s;
}

static bool ends_in(const char *s, size_t len, const char *suffix)
{
    size_t n = strlen(suffix);
    return len >= n && memcmp(s + len - n, suffix, n) == 0;
}

static void add_user(builder *b, const char *what, const char *s, size_t n_images, size_t n_clip)
{
    size_t len = strlen(s);
    bool nothink = style_of(b->chat)->nothink && b->closed;
    if (style_of(b->chat)->skips_empty && len == 0 && n_images == 0)
        return;
    if (nothink && ends_in(s, len, "/nothink"))
        len -= strlen("/nothink"); /* the control token takes its place */
    add_role(b, b->chat->user);
    for (size_t i = 0; i < n_images; i++)
        add_picture(b, false);
    if (n_clip)
        add_clip(b, n_clip);
    add_task_text(b, what, s, len);
    if (nothink)
        add_control(b, b->chat->nothink);
}

static void add_assistant(builder *b, const char *s)
{
    size_t len = strlen(s);
    if (style_of(b->chat)->skips_empty && len == 0)
        return;
    add_role(b, b->chat->assistant);
    if (style_of(b->chat)->nothink) {
        add_control(b, b->chat->think);
        add_control(b, b->chat->think_end);
        s = strip(s, &len);
        if (len)
            add_text(b, "\n", 1);
    }
    add_task_text(b, "history", s, len);
}

/* Where the answer begins. */
static void add_opening(builder *b)
{
    const glm4v_chat *chat = b->chat;
    add_control(b, chat->assistant);
    const style *s = style_of(chat);
    if (b->closed ? s->line_plain : s->line_thinking)
        add_text(b, "\n", 1);
    if (b->closed) {
        add_control(b, chat->think);
        add_control(b, chat->think_end);
        add_text(b, "\n", s->line_closed);
    }
    if (s->answer && b->closed)
        add_control(b, chat->answer);
    flush(b);
}

static void add_task(builder *b, const glm4v_task *task, size_t n_clip)
{
    add_control(b, b->chat->gmask);
    add_control(b, b->chat->sop);
    if (task->system && *task->system) {
        add_role(b, b->chat->system);
        add_task_text(b, "system prompt", task->system, strlen(task->system));
    }
    for (int64_t i = 0; i < task->n_history; i++) {
        const glm4v_turn *turn = &task->history[i];
        add_user(b, "history", turn->user ? turn->user : "", turn->n_images, 0);
        add_assistant(b, turn->assistant ? turn->assistant : "");
    }
    add_user(b, "prompt", task->prompt, task->n_images, n_clip);
    add_opening(b);
}

static size_t count_pictures(const glm4v_task *task)
{
    size_t n = task->n_images;
    for (int64_t i = 0; i < task->n_history; i++)
        n += task->history[i].n_images;
    return n;
}

int glm4v_prompt_check(const glm4v_chat *chat, const glm4v_task *task, glm4v_error *err)
{
    const size_t n = count_pictures(task);
    if (!task->prompt)
        return glm4v_fail(err, GLM4V_ERR_INVALID, "the task has no prompt");
    if (style_of(chat)->one_image && (task->n_frames || n > 1))
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "this model accepts one picture in a conversation and no clips, found "
                          "%zu pictures and %u clip frames",
                          n, task->n_frames);
    if (task->n_frames && n)
        return glm4v_fail(err, GLM4V_ERR_INVALID,
                          "a conversation cannot contain both a clip and pictures");
    return 0;
}

/* The pictures of the task must be those that grids describes. */
static int check_pictures(const glm4v_chat *chat, const glm4v_task *task, size_t n_grids,
                          glm4v_error *err)
{
    const size_t n = count_pictures(task);
    int rc = glm4v_prompt_check(chat, task, err);
    if (!rc && (task->n_frames ? n_grids == 0 : n_grids != n))
        rc = glm4v_fail(err, GLM4V_ERR_INVALID, "%zu picture sizes for %zu pictures", n_grids, n);
    return rc;
}

bool glm4v_chat_reasons(const glm4v_chat *chat)
{
    return style_of(chat)->thinks && !style_of(chat)->rarely;
}

bool glm4v_chat_dynamic_clips(const glm4v_chat *chat)
{
    return style_of(chat)->dynamic;
}

/* Whether the prompt says that no reasoning follows. */
static bool closes(const glm4v_chat *chat, const glm4v_task *task)
{
    const style *s = style_of(chat);
    if (s->rarely)
        return chat->nothink >= 0 && ends_in(task->prompt, strlen(task->prompt), "/nothink");
    return s->thinks && !task->thinking;
}

int64_t glm4v_chat_end_reasoning(const glm4v_chat *chat, int32_t ids[GLM4V_MAX_FORCED])
{
    int64_t n = 0;
    if (chat->think_end >= 0)
        ids[n++] = chat->think_end;
    if (chat->answer >= 0)
        ids[n++] = chat->answer;
    return n;
}

const char *glm4v_chat_lead(const glm4v_chat *chat)
{
    return style_of(chat)->line_first ? "\n" : "";
}

int glm4v_prompt_build(glm4v_prompt *prompt, const glm4v_prompt_maker *with, const glm4v_task *task,
                       const glm4v_grid *grids, size_t n_grids, glm4v_error *err)
{
    builder b = { .prompt = prompt,
                  .tokenizer = with->tokenizer,
                  .chat = with->chat,
                  .config = with->config,
                  .grids = grids,
                  .err = err };
    int rc = check_pictures(with->chat, task, n_grids, err);
    if (rc)
        return rc;
    b.closed = closes(with->chat, task);
    prompt->runs = glm4v_alloc(n_grids, sizeof *prompt->runs);
    if (!prompt->runs)
        return glm4v_fail(err, GLM4V_ERR_NOMEM, "no memory for a prompt with %zu pictures",
                          n_grids);
    add_task(&b, task, task->n_frames ? n_grids : 0);
    if (prompt->n_runs == 0)
        prompt->constant = prompt->n_ids;
    glm4v_free(b.text);
    if (b.rc)
        glm4v_prompt_clear(prompt);
    return b.rc;
}

void glm4v_prompt_clear(glm4v_prompt *prompt)
{
    glm4v_free(prompt->ids);
    glm4v_free(prompt->runs);
    memset(prompt, 0, sizeof *prompt);
}
