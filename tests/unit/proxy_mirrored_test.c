// SPDX-License-Identifier: Apache-2.0
// Requests that are sent a second time: which are, what is copied of them and of their answers, and that
// nobody who waits for an answer sees any of it. Version v1 (origin 0) is stable and canary v2 is the
// candidate (origin 1).
#include "net/proxy/proxy_private.h"
#include "proxy_world.h"

#define GET "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n"
static const char FROM_V2[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfrom 2";

static struct mirror *mirror;
static struct io_loop *mirror_loop;
static struct mirror_run *run;
static struct mirror_words words;
static struct mirror_plan *plan;
static struct mirror_endpoint endpoints[2];
static struct mirror_seen *seen; // the last one
static uint32_t seen_count;

static void on_seen(void *context, struct mirror_seen *one)
{
    (void)context;
    mirror_seen_free(seen);
    seen = one;
    seen_count++;
}

// Puts `words` into force.
static void mirror_by_words(struct world *w)
{
    mirror_plan_release(plan);
    assert_int_equal(mirror_plan_create(&words, &plan), STATUS_OK);
    w->service.mirror = plan;
    world_publish(w);
}

static struct world *world_mirroring(void)
{
    const struct io_sim_config sim = {.seed = 1, .latency_us_min = 100, .latency_us_max = 200};
    const struct mirror_parts parts = {.workers = 1, .seed = 9, .seen = on_seen};
    seen = NULL;
    seen_count = 0;
    assert_int_equal(mirror_create(&parts, &mirror), STATUS_OK);
    struct world *w = world_create_with(&sim, &(struct proxy_config){.mirror = mirror});
    assert_int_equal(io_sim_loop_create(w->sim, &mirror_loop), STATUS_OK);
    mirror_attach(mirror, mirror_loop);
    assert_int_equal(mirror_run_create(&run), STATUS_OK);
    w->origins[1].reply = FROM_V2;
    for (int i = 0; i < 2; i++)
        endpoints[i] = (struct mirror_endpoint){.addr = w->origins[i].addr, .name = SLICE("")};
    words = (struct mirror_words){.number = 3,
                                  .run = run,
                                  .candidate = {.endpoints = &endpoints[1], .endpoint_count = 1},
                                  .primary = {.endpoints = &endpoints[0], .endpoint_count = 1},
                                  .share = MIRROR_SHARE_FULL,
                                  .timeout_ms = 1000,
                                  .concurrent = 64,
                                  .body_bytes = 65536};
    mirror_by_words(w);
    return w;
}

static struct mirror_counts counts_now(void)
{
    struct mirror_counts counts;
    mirror_run_counts(run, &counts);
    return counts;
}

// The identities hold, and nothing is left.
static void end(struct world *w)
{
    world_stop(w);
    mirror_close(mirror);
    for (int i = 0; i < 50 && !mirror_closed(mirror); i++)
        world_run(w, 10);
    assert_true(mirror_closed(mirror));
    struct mirror_counts counts = counts_now();
    uint64_t dropped = 0, uncompared = 0;
    for (int i = 0; i < MIRROR_DROPS; i++)
        dropped += counts.dropped[i];
    for (int i = 0; i < MIRROR_UNCOMPAREDS; i++)
        uncompared += counts.uncompared[i];
    assert_int_equal(counts.selected, counts.sent + dropped);
    assert_int_equal(counts.sent, counts.compared + uncompared);
    mirror_seen_free(seen);
    mirror_plan_release(plan);
    plan = NULL;
    assert_int_equal(io_loop_stats(mirror_loop)->bufs_in_use, 0);
    mirror_destroy(mirror);
    io_loop_destroy(mirror_loop);
    world_destroy(w);
    mirror_run_release(run);
}

static struct peer *last_asked(struct world *w, int origin)
{
    assert_true(w->origins[origin].accepted > 0);
    return w->origins[origin].peers[w->origins[origin].accepted - 1];
}

#define ASSERT_SLICE(slice, text) assert_true(slice_equal((slice), slice_of(text)))

TEST(a_request_and_its_answer)
{
    struct world *w = world_mirroring();
    w->origins[0].reply = "HTTP/1.1 201 Made\r\nSet-Cookie: a=b\r\nContent-Length: 5\r\n\r\nhello";
    struct peer *client = world_ask(w, GET);
    assert_true(peer_has(client, "HTTP/1.1 201 Made\r\n"));
    assert_true(peer_has(client, "hello"));
    assert_false(peer_has(client, "from 2"));
    assert_true(peer_has(last_asked(w, 1), "GET /a HTTP/1.1\r\nHost: shop\r\n"));
    assert_true(peer_has(last_asked(w, 1), "X-Sluice-Shadow: 1\r\n"));
    assert_false(peer_has(last_asked(w, 0), "X-Sluice-Shadow"));
    assert_int_equal(seen_count, 1);
    assert_int_equal(seen->run, 3);
    assert_int_equal(seen->primary.status, 201);
    ASSERT_SLICE(seen->primary.body, "hello");
    ASSERT_SLICE(seen->candidate.body, "from 2");
    assert_int_equal(seen->primary.field_count, 2);
    assert_true(seen->primary.wait_us >= 200 && seen->primary.wait_us < 2000);
    // The candidate as a version saw nothing of it.
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_REQUESTS), 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_REQUESTS), 1);
    end(w);
}

TEST(bodies_in_both_framings)
{
    struct world *w = world_mirroring();
    words.unsafe = true;
    mirror_by_words(w);
    world_ask(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody");
    ASSERT_SLICE(seen->body, "body");
    world_ask(
        w,
        "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    ASSERT_SLICE(seen->body, "abcde");
    assert_true(peer_has(last_asked(w, 1), "Content-Length: 5\r\n"));
    assert_true(peer_has(last_asked(w, 1), "\r\n\r\nabcde"));
    w->origins[0].reply =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    world_ask(w, GET);
    ASSERT_SLICE(seen->primary.body, "hello");
    assert_int_equal(counts_now().compared, 3);
    end(w);
}

static void expect_dropped(struct world *w, const char *text, enum mirror_drop reason)
{
    uint64_t before = counts_now().dropped[reason];
    struct peer *client = world_ask(w, text);
    assert_true(client->len > 0);
    assert_int_equal(counts_now().dropped[reason], before + 1);
    peer_close(client);
    world_run(w, 10);
}

TEST(what_is_not_mirrored)
{
    struct world *w = world_mirroring();
    expect_dropped(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody", MIRROR_DROP_UNSAFE);
    expect_dropped(w, "GET / HTTP/1.1\r\nHost: shop\r\nX-Sluice-Shadow: 1\r\n\r\n", MIRROR_DROP_SHADOW);
    expect_dropped(w, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                   MIRROR_DROP_UPGRADE);
    words.unsafe = true;
    mirror_by_words(w);
    expect_dropped(w,
                   "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
                   MIRROR_DROP_TRAILERS);
    words.body_bytes = 3;
    mirror_by_words(w);
    expect_dropped(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody",
                   MIRROR_DROP_TOO_LARGE);
    assert_int_equal(counts_now().selected, 5);
    assert_int_equal(w->origins[1].requests + w->origins[1].accepted, 0);
    end(w);
}

TEST(a_route_may_say_no)
{
    static struct proxy_action_plan action = {.mirror_off = true};
    struct world *w = world_mirroring();
    w->routes[1] = (struct proxy_route_plan){.path = "/private", .action = &action};
    w->plan.route_count = 2;
    world_publish(w);
    world_ask(w, "GET /private/x HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_int_equal(counts_now().selected, 0);
    world_ask(w, "GET /public HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_int_equal(counts_now().selected, 1);
    end(w);
}

// What the canary answers is no answer of the primary.
TEST(only_the_stable_version_is_mirrored)
{
    struct world *w = world_mirroring();
    w->service.weight = ROLLOUT_WEIGHT_FULL;
    world_publish(w);
    world_ask(w, GET);
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_REQUESTS), 1);
    assert_int_equal(counts_now().selected, 0);
    end(w);
}

static uint64_t selected_of(struct world *w, uint32_t requests, bool units)
{
    uint64_t before = counts_now().selected;
    for (uint32_t i = 0; i < requests; i++) {
        char text[128];
        snprintf(text, sizeof text,
                 "GET / HTTP/1.1\r\nHost: shop\r\nX-User: u%u\r\nConnection: close\r\n\r\n",
                 units ? i % 40 : i);
        struct peer *client = world_connect(w);
        peer_send(client, text);
        world_run(w, 20);
    }
    return counts_now().selected - before;
}

TEST(a_share_of_requests_or_of_units)
{
    struct world *w = world_mirroring();
    words.share = MIRROR_SHARE_FULL / 2;
    mirror_by_words(w);
    assert_in_range(selected_of(w, 80, false), 20, 60);
    w->service.unit = PROXY_UNIT_HEADER;
    w->service.unit_name = "X-User";
    world_publish(w);
    uint64_t first = selected_of(w, 40, true);
    assert_in_range(first, 8, 32);
    assert_int_equal(selected_of(w, 40, true), first); // the same ones
    words.share = 0;
    mirror_by_words(w);
    assert_int_equal(selected_of(w, 40, false), 0);
    end(w);
}

TEST(a_client_that_leaves)
{
    struct world *w = world_mirroring();
    words.unsafe = true;
    mirror_by_words(w);
    struct peer *client = world_ask(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 40000\r\n\r\nbody");
    peer_close(client);
    world_run(w, 100);
    assert_int_equal(counts_now().dropped[MIRROR_DROP_UNFINISHED], 1);
    w->origins[0].reply = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf";
    client = world_ask(w, GET);
    io_stream_abort(&client->stream);
    client->closed = true;
    world_run(w, 100);
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_CLIENT_GONE], 1);
    end(w);
}

TEST(a_primary_that_fails)
{
    struct world *w = world_mirroring();
    w->origins[0].reply = "nonsense\r\n\r\n";
    struct peer *client = world_ask(w, GET);
    assert_true(peer_has(client, "HTTP/1.1 502 "));
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_PRIMARY_FAILED], 1);
    w->origins[0].reply = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"; // which is an answer
    world_ask(w, GET);
    assert_int_equal(counts_now().compared, 1);
    assert_int_equal(seen->primary.status, 500);
    end(w);
}

TEST(answers_are_seen_as_the_origin_gave_them)
{
    static const struct slice types[] = {{"text/*", 6}};
    static const struct proxy_edit_plan edits[] = {{PROXY_EDIT_REMOVE, "X-Secret", NULL},
                                                   {PROXY_EDIT_SET, "X-Ours", "1"}};
    static struct proxy_action_plan action = {
        .response = edits,
        .response_count = 2,
        .compression = {
            .codecs = {HTTP_CODEC_GZIP}, .codec_count = 1, .bytes_min = 1, .types = types, .type_count = 1}};
    struct world *w = world_mirroring();
    w->routes[0].action = &action;
    world_publish(w);
    w->origins[0].reply =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Secret: s\r\nContent-Length: 20\r\n\r\n"
        "aaaaaaaaaaaaaaaaaaaa";
    struct peer *client = world_ask(w, "GET / HTTP/1.1\r\nHost: shop\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_true(peer_has(client, "Content-Encoding: gzip\r\n"));
    ASSERT_SLICE(seen->primary.body, "aaaaaaaaaaaaaaaaaaaa");
    assert_int_equal(seen->primary.field_count, 3);
    ASSERT_SLICE(seen->primary.fields[1].name, "X-Secret");
    ASSERT_SLICE(seen->primary.fields[1].value, "s");
    assert_int_equal(seen->primary.fields[1].marks & HTTP_FIELD_HOP, 0);
    end(w);
}

// A candidate that takes everything and answers nothing changes no answer, and no answer's time.
TEST(a_frozen_candidate)
{
    struct world *w = world_mirroring();
    w->origins[1].reply = "";
    words.concurrent = 2;
    mirror_by_words(w);
    struct peer *client = world_connect(w);
    for (int i = 0; i < 50; i++) {
        peer_clear(client);
        peer_send(client, GET);
        world_run(w, 2);
        assert_true(peer_has(client, "\r\n\r\nhello"));
    }
    world_run(w, 3000);
    assert_int_equal(counts_now().selected, 50);
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_TIMEOUT], 4);
    assert_int_equal(counts_now().dropped[MIRROR_DROP_BUSY], 46);
    end(w);
}

// A table without the plan takes nothing away from what is under way.
TEST(a_plan_that_goes)
{
    struct world *w = world_mirroring();
    w->origins[0].reply = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    world_ask(w, GET);
    w->service.mirror = NULL;
    world_publish(w);
    mirror_plan_release(plan);
    plan = NULL;
    peer_send(last_asked(w, 0), "whole");
    world_run(w, 100);
    ASSERT_SLICE(seen->primary.body, "halfwhole");
    world_ask(w, GET);
    assert_int_equal(counts_now().selected, 1);
    end(w);
}
