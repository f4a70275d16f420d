/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which endpoint is asked next. */
#include "remote/pool.h"
#include "test.h"

#define SECOND UINT64_C(1000000000)

static remote_pool open_pool(const char *urls)
{
    remote_pool pool;
    glm4v_error err = { 0 };
    if (remote_pool_open(&pool, urls, NULL, &err))
        test_fail(__FILE__, __LINE__, "%s: %s", urls, err.msg);
    return pool;
}

/* Which one it is, -1: none. */
static int choose(remote_pool *pool, uint64_t now)
{
    uint64_t at;
    remote_endpoint *e = remote_pool_choose(pool, now, &at);
    if (e)
        remote_pool_begin(pool, e);
    return e ? (int)(e - pool->endpoints) : -1;
}

static void urls_are_read(void)
{
    static const char *const wrong[] = { "",
                                         "host",
                                         "ftp://host/v1",
                                         "http://",
                                         "http://h/v1,,",
                                         "http://u:p@h/v1",
                                         "http://h/v1?x=1",
                                         "file:///etc" };
    remote_pool pool = open_pool("http://a/v1/, https://b:8443/x/v1 ,http://[::1]:8080/v1");
    CHECK_EQ(pool.n, 3);
    CHECK_STR(pool.endpoints[0].url, "http://a/v1");
    CHECK_STR(pool.endpoints[1].url, "https://b:8443/x/v1");
    CHECK_STR(pool.endpoints[2].url, "http://[::1]:8080/v1");
    remote_pool_close(&pool);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        glm4v_error err = { 0 };
        CHECK_EQ(remote_pool_open(&pool, wrong[i], NULL, &err), GLM4V_ERR_INVALID);
        CHECK(err.msg[0] && !strstr(err.msg, "u:p"));
        remote_pool_close(&pool);
    }
}

static void the_one_with_the_fewest_requests_is_asked(void)
{
    remote_pool pool = open_pool("http://a,http://b,http://c");
    CHECK_EQ(choose(&pool, 0), 0);
    CHECK_EQ(choose(&pool, 0), 1);
    CHECK_EQ(choose(&pool, 0), 2);
    remote_pool_end(&pool.endpoints[1]);
    CHECK_EQ(choose(&pool, 0), 1);
    for (int i = 0; i < 3; i++)
        remote_pool_end(&pool.endpoints[i]);
    CHECK_EQ(choose(&pool, 0), 0); /* in turn: it was used before the others */
    remote_pool_close(&pool);
}

static void a_failing_one_is_left_out_longer_each_time(void)
{
    remote_pool pool = open_pool("http://a,http://b");
    remote_endpoint *a = &pool.endpoints[0];
    uint64_t now = SECOND, out = SECOND / 2;
    for (int i = 0; i < 10; i++) {
        remote_pool_failed(a, now, 0);
        remote_pool_failed(a, now, 0); /* another request met the same */
        CHECK(a->out_until == now + out);
        CHECK_EQ(choose(&pool, now + out - 1), 1);
        now += out;
        out = out < 16 * SECOND ? 2 * out : 30 * SECOND;
    }
    CHECK_EQ(choose(&pool, now), 0);
    remote_pool_answered(a);
    remote_pool_failed(a, now, 0);
    CHECK(a->out_until == now + SECOND / 2);
    remote_pool_close(&pool);
}

static void where_all_fail_the_first_to_come_back_is_asked(void)
{
    remote_pool pool = open_pool("http://a,http://b");
    remote_pool_failed(&pool.endpoints[0], 2 * SECOND, 0);
    remote_pool_failed(&pool.endpoints[1], SECOND, 0);
    CHECK(!remote_pool_has_good(&pool, SECOND));
    CHECK_EQ(choose(&pool, SECOND), 1);
    CHECK(remote_pool_has_good(&pool, 2 * SECOND));
    remote_pool_close(&pool);
}

static void one_that_wants_to_be_left_alone_is(void)
{
    remote_pool pool = open_pool("http://a,http://b");
    uint64_t at;
    remote_pool_failed(&pool.endpoints[0], 0, 5 * SECOND);
    CHECK_EQ(choose(&pool, 1), 1);
    remote_pool_failed(&pool.endpoints[1], 0, 3 * SECOND);
    CHECK(!remote_pool_choose(&pool, 1, &at) && at == 3 * SECOND);
    CHECK_EQ(choose(&pool, 4 * SECOND), 1);
    remote_pool_close(&pool);
}

static void one_is_doubtful_until_it_answers(void)
{
    remote_pool pool = open_pool("http://a");
    remote_endpoint *a = &pool.endpoints[0];
    CHECK(!a->doubtful);
    remote_pool_doubt(a);
    CHECK(a->doubtful && remote_pool_has_good(&pool, 0));
    remote_pool_answered(a);
    CHECK(!a->doubtful);
    remote_pool_failed(a, 0, 0);
    CHECK(a->doubtful && !remote_pool_has_good(&pool, 0));
    remote_pool_close(&pool);
}

int main(void)
{
    TEST(urls_are_read);
    TEST(the_one_with_the_fewest_requests_is_asked);
    TEST(a_failing_one_is_left_out_longer_each_time);
    TEST(where_all_fail_the_first_to_come_back_is_asked);
    TEST(one_that_wants_to_be_left_alone_is);
    TEST(one_is_doubtful_until_it_answers);
    return test_end();
}
