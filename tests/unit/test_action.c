/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Actions of phone agents: as models write them, well and badly. */
#include "chat/action.h"
#include "test.h"

enum { WIDTH = 1080, HEIGHT = 2400 };

/* The action of text as "action|text|message|x,y|x,y", "" where there is none; the memory given has
 * exactly the size that is promised. */
static const char *parsed(const char *text)
{
    static char out[4096];
    glm4v_action a;
    size_t len = strlen(text);
    char *memory = malloc(len + 1), *copy = malloc(len + !len);
    memcpy(copy, text, len); /* without its end */
    bool found = glm4v_action_parse(&a, memory, copy, len, WIDTH, HEIGHT);
    CHECK_EQ(found, a.action[0] != 0);
    snprintf(out, sizeof out, "%s|%s|%s|%d,%d|%d,%d", a.action, a.text, a.message, a.element[0],
             a.element[1], a.to[0], a.to[1]);
    free(memory);
    free(copy);
    return found ? out : "";
}

static void every_action_is_taken_apart(void)
{
    CHECK_STR(parsed("do(action=\"Tap\", element=[500,210])"), "Tap|||540,504|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=[500,210], message=\"Pay now\")"),
              "Tap||Pay now|540,504|-1,-1");
    CHECK_STR(parsed("do(action=\"Launch\", app=\"微信\")"), "Launch|微信||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"hello\")"), "Type|hello||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type_Name\", text=\"张三\")"), "Type_Name|张三||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Swipe\", start=[500,800], end=[500,200])"),
              "Swipe|||540,1920|540,480");
    CHECK_STR(parsed("do(action=\"Long Press\", element=[0,999])"), "Long Press|||0,2397|-1,-1");
    CHECK_STR(parsed("do(action=\"Double Tap\", element=[1000,0])"), "Double Tap|||1079,0|-1,-1");
    CHECK_STR(parsed("do(action=\"Wait\", duration=\"2 seconds\")"), "Wait|2 seconds||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Back\")"), "Back|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Take_over\", message=\"请登录\")"),
              "Take_over||请登录|-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Note\", message=\"True\")"), "Note||True|-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Call_API\", instruction=\"sum up\")"),
              "Call_API|sum up||-1,-1|-1,-1");
    CHECK_STR(parsed("finish(message=\"已完成。\")"), "finish||已完成。|-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Dance\", speed=3.5, where='up', element=[1,2])"),
              "Dance|||1,4|-1,-1"); /* unknown actions and keys */
}

static void spacing_quotes_and_surroundings_do_not_matter(void)
{
    CHECK_STR(parsed("do ( action = 'Tap' ,\n element = [ 500 , 210 ] )"), "Tap|||540,504|-1,-1");
    CHECK_STR(parsed("The button is there.\ndo(action=\"Tap\", element=[500,210])\n"),
              "Tap|||540,504|-1,-1");
    CHECK_STR(parsed("```\ndo(action=\"Back\")```"), "Back|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Back\")</answer>"), "Back|||-1,-1|-1,-1");
    CHECK_STR(parsed("点击返回。do(action=\"Back\")。"), "Back|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=Back)"), "Back|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=(500, 210))"), "Tap|||540,504|-1,-1");
    CHECK_STR(parsed("do(element=[500,210], action=\"Tap\")"), ""); /* action comes first */
    CHECK_STR(parsed("do(action=\"Back\") do(action=\"Home\")"), "Home|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\" element=[1,2]) do(action=\"Home\")"), "Home|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", action=\"Back\")"), "Tap|||-1,-1|-1,-1");
}

static void quotes_inside_strings_do_not_end_them(void)
{
    CHECK_STR(parsed("finish(message=\"He said \\\"yes\\\"\")"),
              "finish||He said \"yes\"|-1,-1|-1,-1");
    CHECK_STR(parsed("finish(message=\"打开了\"设置\"页面\")"),
              "finish||打开了\"设置\"页面|-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"print(\"x\")\")"),
              "Type|print(\"x\")||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"a, b\", message=\"c\")"),
              "Type|a, b|c|-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text='it's', message=\"c\")"), "Type|it's|c|-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"one\\ntwo\\t\\\\ \\x\")"),
              "Type|one\ntwo\t\\ \\x||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"one\ntwo\")"), "Type|one\ntwo||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"\")"), "Type|||-1,-1|-1,-1");
}

static void a_call_that_is_cut_off_is_none(void)
{
    static const char whole[] = "do(action=\"Tap\", element=[500,210], message=\"a \\\"b\\\"\")";
    char cut[sizeof whole];
    for (size_t n = 0; n + 1 < sizeof whole; n++) {
        snprintf(cut, sizeof cut, "%.*s", (int)n, whole);
        CHECK_STR(parsed(cut), "");
    }
    CHECK_STR(parsed(whole), "Tap||a \"b\"|540,504|-1,-1");
    CHECK_STR(parsed("finish(message=\"done"), "");
}

static void text_without_a_call_is_left_alone(void)
{
    static const char *const texts[] = {
        "",
        "d",
        "do",
        "do(",
        "do()",
        "A scratch at the top left.",
        "I can do(it)",
        "do(action)",
        "do(action=)",
        "do(action=\"\")",
        "undo(action=\"Tap\")",
        "to_do(action=\"Tap\")",
        "finished(message=\"x\")",
        "finish()",
        "finish(text=\"x\")",
        "Do(action=\"Tap\")",
        "do(action=\"Tap\", element)",
        "do(action=\"Tap\", =3)",
        "do(action=\"Tap\",,)",
        "do(,)",
        "do(action=\"Tap\", element=[500])",
        "do(action=\"Tap\", element=\"[500,210]\")",
        "do(action=\"Tap\", element='500,210')",
        "do(action=\"Tap\", element=button)",
        "do(action=\"Swipe\", start=[1,2], end=\"below\")",
        "do(action=\"Tap\", element=[500,])",
        "do(action=\"Tap\", element=[a,b])",
        "do(action=[1,2])",
        ("do(action=\"Tap\", a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,"
         "n=1,o=1,p=1,q=1)"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK_STR(parsed(texts[i]), "");
}

static void points_need_a_picture_and_two_numbers(void)
{
    char memory[128];
    const char text[] = "do(action=\"Tap\", element=[500,210])";
    glm4v_action a;
    CHECK(glm4v_action_parse(&a, memory, text, strlen(text), 0, 0));
    CHECK_EQ(a.element[0], -1);
    CHECK_STR(a.action, "Tap");
    CHECK_STR(parsed("do(action=\"Tap\", element=[1,2,3])"), "Tap|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=[-5,99999])"), "Tap|||0,2399|-1,-1");
}

static void of_several_calls_the_last_complete_one_counts(void)
{
    CHECK_STR(parsed("First do(action=\"Type\", text=\"one\") then finish(message=\"two\")"),
              "finish||two|-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"one\"), do(action=\"Back\")"),
              "Back|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"f(\"x\"), y\")"), "Type|f(\"x\"), y||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"one\")\ndo(action=\"Type\", text=\"two"),
              "Type|one||-1,-1|-1,-1"); /* cut off */
    CHECK_STR(parsed("do(action=\"Type\", text=\"one\") do(action=\"Tap\", element=\"here\")"),
              "Type|one||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"do(action=\"Back\")\")"),
              "Type|do(action=\"Back\")||-1,-1|-1,-1"); /* inside of a string: none */
    CHECK_STR(parsed("do(action=\"Back\") The end."), "Back|||-1,-1|-1,-1");
}

static void a_trailing_comma_does_no_harm(void)
{
    CHECK_STR(parsed("do(action=\"Tap\",)"), "Tap|||-1,-1|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=[500,210],)"), "Tap|||540,504|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=[500,210,], )"), "Tap|||540,504|-1,-1");
    CHECK_STR(parsed("do(action=\"Type\", text=\"a\", )"), "Type|a||-1,-1|-1,-1");
    CHECK_STR(parsed("finish(message=\"done\",)"), "finish||done|-1,-1|-1,-1");
}

static void points_in_parts_of_the_sides_are_scaled(void)
{
    CHECK_STR(parsed("do(action=\"Tap\", element=[0.5,0.21])"), "Tap|||540,504|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=[0.0,1.0])"), "Tap|||0,2|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=[1,0.5])"), "Tap|||1079,1200|-1,-1");
    CHECK_STR(parsed("do(action=\"Tap\", element=[1.5,0.5])"), "Tap|||1,1|-1,-1");
}

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void any_text_stays_within_its_memory(void)
{
    static const char *const pieces[] = { "do(",      "action=",     "\"Tap\"",
                                          "finish(",  "message=",    "\"",
                                          "'",        "\\",          ")",
                                          ",",        "(",           "=",
                                          "element=", "[500,210]",   "[",
                                          "]",        "start=[1,2]", "end=[3,4]",
                                          " ",        "\n",          "text=\"划痕\"",
                                          "a",        "-1.5",        "do(action=\"Back\")",
                                          "\\\"",     "。",          "99999999999999999" };
    uint32_t seed = 11, found = 0;
    for (int round = 0; round < 50000 && test_ok; round++) {
        char text[256] = "";
        size_t want = next(&seed) % 20;
        for (size_t i = 0; i < want && strlen(text) < 200; i++)
            strcat(text, pieces[next(&seed) % (sizeof pieces / sizeof *pieces)]);
        found += parsed(text)[0] != 0;
    }
    printf("# %u actions\n", found);
    CHECK(found > 1000);
}

/* The largest answer there is, of what would be slowest to look at again and again. */
static void the_largest_answers_end_soon(void)
{
    static const char *const worst[] = { "do(action=\"",         "do(action=\"\\",   "d",  "do( ",
                                         "finish(message=\"\",", "do(action=\"\", ", "\"," };
    static char text[64 * 1024], memory[sizeof text + 1];
    glm4v_action a;
    for (size_t i = 0; i < sizeof worst / sizeof *worst; i++) {
        size_t n = strlen(worst[i]);
        for (size_t at = 0; at < sizeof text; at++)
            text[at] = worst[i][at % n];
        memcpy(text, "do(action=\"", 11);
        CHECK(!glm4v_action_parse(&a, memory, text, sizeof text, WIDTH, HEIGHT));
    }
}

int main(void)
{
    TEST(every_action_is_taken_apart);
    TEST(spacing_quotes_and_surroundings_do_not_matter);
    TEST(quotes_inside_strings_do_not_end_them);
    TEST(a_call_that_is_cut_off_is_none);
    TEST(text_without_a_call_is_left_alone);
    TEST(points_need_a_picture_and_two_numbers);
    TEST(of_several_calls_the_last_complete_one_counts);
    TEST(a_trailing_comma_does_no_harm);
    TEST(points_in_parts_of_the_sides_are_scaled);
    TEST(any_text_stays_within_its_memory);
    TEST(the_largest_answers_end_soon);
    return test_end();
}
