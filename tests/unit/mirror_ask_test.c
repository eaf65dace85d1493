// SPDX-License-Identifier: Apache-2.0
// The mirror in virtual time: what targets get, what is kept of their answers, every way an asking can end,
// and that the counts add up after each.
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "net/http/http1.h"
#include "net/io/sim.h"
#include "net/mirror/mirror.h"
#include "test.h"

enum { PEERS_MAX = 4096, ASKED_BYTES = 1 << 16 };

// The candidate is target 0, the primary version target 1.
struct target {
    struct io_listener listener;
    struct io_addr addr;
    const char *reply; // NULL: it hangs; empty: it closes
    size_t body;       // bytes behind the reply
    bool endless;      // more of them at each drain
    bool closes;       // after its reply
    uint32_t accepted, requests;
    char asked[ASKED_BYTES]; // all that came
    size_t asked_len;
};

struct peer {
    struct io_stream stream;
    struct target *target;
    size_t left;
    bool closed;
};

static struct io_sim *sim;
static struct io_loop *loop, *target_loop;
static struct target targets[2];
static struct peer *peers;
static uint32_t peer_count;
static struct mirror *mirror;
static struct mirror_run *run;
static struct mirror_words words;
static struct mirror_endpoint endpoints[2];
static struct mirror_seen *seen; // the last one
static uint32_t seen_count;

static const char OK_ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\n\r\nhello";
static const char HEAD[] = "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\n"
                           "User_Agent: x\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.7\r\n\r\n";

// ---- targets ----

static void peer_close(struct peer *peer)
{
    if (!peer->closed)
        io_stream_close(&peer->stream);
    peer->closed = true;
}

static void send_bytes(struct io_stream *stream, const char *data, size_t len)
{
    struct io_buf *buf = io_buf_get(stream->loop);
    assert_non_null(buf);
    if (data != NULL)
        memcpy(buf->data, data, len);
    else
        memset(buf->data, 'x', len);
    buf->end = (uint32_t)len;
    io_stream_send(stream, buf);
}

static void send_more(struct peer *peer)
{
    while ((peer->left > 0 || peer->target->endless) && io_stream_pending(&peer->stream) < IO_BUF_BYTES) {
        size_t len = peer->target->endless || peer->left > 16384 ? 16384 : peer->left;
        send_bytes(&peer->stream, NULL, len);
        peer->left -= peer->target->endless ? 0 : len;
    }
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct peer *peer = CONTAINER_OF(stream, struct peer, stream);
    struct target *target = peer->target;
    size_t len = io_buf_len(buf);
    if (target->asked_len + len < sizeof target->asked) {
        memcpy(target->asked + target->asked_len, buf->data + buf->start, len);
        target->asked_len += len;
    }
    bool head = memmem(buf->data + buf->start, len, "\r\n\r\n", 4) != NULL;
    io_buf_put(buf);
    if (!head)
        return;
    target->requests++;
    if (target->reply == NULL)
        return;
    if (target->reply[0] != '\0')
        send_bytes(stream, target->reply, strlen(target->reply));
    peer->left = target->body;
    send_more(peer);
    if (target->reply[0] == '\0')
        peer_close(peer);
    else if (target->closes)
        io_stream_finish(stream);
}

static void on_drain(struct io_stream *stream)
{
    send_more(CONTAINER_OF(stream, struct peer, stream));
}

static void on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    peer_close(CONTAINER_OF(stream, struct peer, stream));
}

static const struct io_stream_ops PEER_OPS = {.on_data = on_data, .on_drain = on_drain, .on_end = on_end};

static void on_accept(struct io_listener *at, int handle, const struct io_addr *from)
{
    (void)from;
    assert_true(peer_count < PEERS_MAX);
    struct peer *peer = &peers[peer_count++];
    peer->target = CONTAINER_OF(at, struct target, listener);
    peer->target->accepted++;
    io_stream_adopt(at->loop, &peer->stream, handle, &PEER_OPS);
}

// ---- the world ----

static void run_ms(uint64_t ms)
{
    io_sim_run(sim, io_sim_now_us(sim) + ms * 1000);
}

static void on_seen(void *context, struct mirror_seen *one)
{
    (void)context;
    mirror_seen_free(seen);
    seen = one;
    seen_count++;
}

static void make_mirror(bool reader)
{
    const struct mirror_parts parts = {.workers = 2, .seed = 11, .seen = reader ? on_seen : NULL};
    mirror_destroy(mirror);
    assert_int_equal(mirror_create(&parts, &mirror), STATUS_OK);
    mirror_attach(mirror, loop);
}

static int set_up(void **state)
{
    const struct io_sim_config config = {.seed = 3, .latency_us_min = 100, .latency_us_max = 100};
    (void)state;
    peers = calloc(PEERS_MAX, sizeof *peers);
    peer_count = 0;
    seen = NULL;
    seen_count = 0;
    assert_int_equal(io_sim_create(&config, &sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(sim, &loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(sim, &target_loop), STATUS_OK);
    for (size_t i = 0; i < 2; i++) {
        char text[32];
        targets[i] = (struct target){.reply = OK_ANSWER};
        snprintf(text, sizeof text, "10.0.0.%zu:80", i + 1);
        assert_int_equal(io_addr_parse(text, &targets[i].addr), STATUS_OK);
        targets[i].listener.on_accept = on_accept;
        assert_int_equal(io_listener_open(target_loop, &targets[i].listener, &targets[i].addr, false),
                         STATUS_OK);
        endpoints[i] = (struct mirror_endpoint){.addr = targets[i].addr, .name = SLICE("")};
    }
    make_mirror(true);
    assert_int_equal(mirror_run_create(&run), STATUS_OK);
    words = (struct mirror_words){.number = 77,
                                  .run = run,
                                  .candidate = {.endpoints = &endpoints[0], .endpoint_count = 1},
                                  .primary = {.endpoints = &endpoints[1], .endpoint_count = 1},
                                  .share = MIRROR_SHARE_FULL,
                                  .timeout_ms = 1000,
                                  .concurrent = 4,
                                  .body_bytes = 65536};
    return 0;
}

static uint64_t sum(const uint64_t *counts, size_t count)
{
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++)
        all += counts[i];
    return all;
}

static struct mirror_counts counts_now(void)
{
    struct mirror_counts counts;
    mirror_run_counts(run, &counts);
    return counts;
}

static int tear_down(void **state)
{
    (void)state;
    mirror_close(mirror);
    for (int i = 0; i < 50 && !mirror_closed(mirror); i++)
        run_ms(10);
    assert_true(mirror_closed(mirror));
    assert_int_equal(io_loop_stats(loop)->bufs_in_use, 0);
    const struct mirror_counts counts = counts_now();
    assert_int_equal(counts.selected, counts.sent + sum(counts.dropped, MIRROR_DROPS));
    assert_int_equal(counts.sent, counts.compared + sum(counts.uncompared, MIRROR_UNCOMPAREDS));
    mirror_destroy(mirror);
    mirror = NULL;
    mirror_seen_free(seen);
    mirror_run_release(run);
    for (uint32_t i = 0; i < peer_count; i++)
        peer_close(&peers[i]);
    io_listener_close(&targets[0].listener);
    io_listener_close(&targets[1].listener);
    run_ms(10);
    io_loop_destroy(loop);
    io_loop_destroy(target_loop);
    io_sim_destroy(sim);
    free(peers);
    return 0;
}

// ---- what a worker does ----

static struct mirror_copy *begin(const char *head)
{
    struct mirror_plan *plan;
    assert_int_equal(mirror_plan_create(&words, &plan), STATUS_OK);
    mirror_select(plan);
    struct mirror_copy *copy = mirror_copy_begin(mirror, 1, plan, slice_of(head), 5);
    mirror_plan_release(plan);
    return copy;
}

static void primary_says(struct mirror_copy *copy, const char *answer, enum mirror_over over)
{
    static struct http_response response;
    size_t head;
    enum http1_reject why;
    assert_int_equal(
        http1_response_parse(answer, strlen(answer), NULL, HTTP_METHOD_GET, &response, &head, &why),
        STATUS_OK);
    mirror_copy_answer(copy, &response, 42);
    mirror_copy_body(copy, slice_of(answer + head));
    mirror_copy_over(copy, over);
}

// One request, all its life.
static void mirror_one(const char *head)
{
    struct mirror_copy *copy = begin(head);
    assert_non_null(copy);
    mirror_copy_requested(copy);
    primary_says(copy, OK_ANSWER, MIRROR_OVER_WHOLE);
}

static bool asked_has(const struct target *target, const char *text)
{
    return memmem(target->asked, target->asked_len, text, strlen(text)) != NULL;
}

static const struct http_field *field_of(const struct mirror_answer *answer, const char *name)
{
    for (uint32_t i = 0; i < answer->field_count; i++)
        if (slice_equal_nocase(answer->fields[i].name, slice_of(name)))
            return &answer->fields[i];
    return NULL;
}

#define ASSERT_SLICE(slice, text) assert_true(slice_equal((slice), slice_of(text)))

EACH_TEST(set_up, tear_down);

// ---- tests ----

TEST(both_answers_come_together)
{
    words.secondary = MIRROR_SHARE_FULL;
    mirror_one(HEAD);
    run_ms(50);
    assert_int_equal(seen_count, 1);
    assert_int_equal(seen->run, 77);
    assert_int_equal(seen->time_ms, 5);
    ASSERT_SLICE(seen->method, "GET");
    ASSERT_SLICE(seen->target, "/a?b=c");
    ASSERT_SLICE(seen->authority, "shop.example");
    assert_true(seen->has_secondary);
    const struct mirror_answer *const answers[] = {&seen->primary, &seen->candidate, &seen->secondary};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(answers[i]->end, MIRROR_ANSWERED);
        assert_int_equal(answers[i]->cut, MIRROR_WHOLE);
        assert_int_equal(answers[i]->status, 200);
        ASSERT_SLICE(answers[i]->body, "hello");
        assert_int_equal(answers[i]->body_bytes, 5);
        assert_true(answers[i]->digest == seen->primary.digest);
        ASSERT_SLICE(field_of(answers[i], "set-cookie")->value, "a=b");
    }
    assert_int_equal(seen->primary.wait_us, 42);
    assert_true(seen->candidate.wait_us >= 200 && seen->candidate.wait_us < 2000);
    assert_int_equal(counts_now().compared, 1);
    assert_int_equal(counts_now().secondaries, 1);
}

TEST(targets_get_the_request_marked)
{
    static const struct http_field add[] = {{.name = {"X-Extra", 7}, .value = {"one", 3}}};
    static const struct slice strip[] = {{"user-agent", 10}};
    words.secondary = MIRROR_SHARE_FULL;
    words.host = SLICE("shadow.example");
    words.path = SLICE("/pre");
    words.add = add;
    words.strip = strip;
    words.add_count = words.strip_count = 1;
    mirror_one(HEAD);
    run_ms(50);
    assert_true(asked_has(&targets[0], "GET /pre/a?b=c HTTP/1.1\r\nHost: shadow.example\r\n"));
    assert_true(asked_has(&targets[0], "X-Extra: one\r\n"));
    assert_false(asked_has(&targets[0], "User_Agent"));
    assert_true(asked_has(&targets[1], "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n"));
    assert_true(asked_has(&targets[1], "User_Agent: x\r\n"));
    assert_false(asked_has(&targets[1], "X-Extra"));
    for (size_t i = 0; i < 2; i++) {
        assert_true(asked_has(&targets[i], "X-Sluice-Shadow: 1\r\n"));
        assert_true(asked_has(&targets[i], "X-Forwarded-For: 192.0.2.1, 10.0.0.7\r\n"));
        assert_false(asked_has(&targets[i], "Expect"));
    }
}

TEST(bodies_go_with_their_length)
{
    struct mirror_copy *copy = begin("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_true(mirror_copy_request(copy, SLICE("some ")));
    assert_true(mirror_copy_request(copy, SLICE("bytes")));
    mirror_copy_requested(copy);
    primary_says(copy, OK_ANSWER, MIRROR_OVER_WHOLE);
    run_ms(50);
    assert_true(asked_has(&targets[0], "Content-Length: 10\r\n"));
    assert_true(asked_has(&targets[0], "\r\n\r\nsome bytes"));
    assert_false(asked_has(&targets[0], "chunked"));
    ASSERT_SLICE(seen->body, "some bytes");
}

TEST(long_bodies_are_sent_whole)
{
    enum { LONG = 600000 };
    char *body = calloc(1, LONG);
    words.body_bytes = MIRROR_BODY_BYTES_MAX;
    struct mirror_copy *copy = begin("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n");
    assert_true(mirror_copy_request(copy, (struct slice){body, LONG}));
    free(body);
    mirror_copy_requested(copy);
    primary_says(copy, OK_ANSWER, MIRROR_OVER_WHOLE);
    run_ms(900);
    assert_int_equal(seen_count, 1);
    assert_int_equal(counts_now().compared, 1);
}

TEST(connections_are_used_again)
{
    for (int i = 0; i < 3; i++) {
        mirror_one(HEAD);
        run_ms(50);
    }
    assert_int_equal(targets[0].accepted, 1);
    run_ms(5000); // and closed when idle
    assert_true(peers[0].closed);
    targets[0].closes = true;
    mirror_one(HEAD);
    run_ms(50);
    mirror_one(HEAD); // the one before was closed by its peer: another is made
    run_ms(50);
    assert_int_equal(targets[0].accepted, 3);
    assert_int_equal(counts_now().compared, 5);
}

TEST(answers_of_every_framing)
{
    static const struct {
        const char *reply;
        bool closes;
        const char *body;
        uint16_t status;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
         false, "abcde", 200},
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end", true, "until the end", 200},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, "", 204},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false, "", 304},
        {"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", false, "no",
         404},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false,
         "ok", 200}, // a second one nobody asked for
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        targets[0].reply = rows[i].reply;
        targets[0].closes = rows[i].closes;
        mirror_one(HEAD);
        run_ms(50);
        assert_int_equal(seen_count, i + 1);
        assert_int_equal(seen->candidate.end, MIRROR_ANSWERED);
        assert_int_equal(seen->candidate.cut, MIRROR_WHOLE);
        assert_int_equal(seen->candidate.status, rows[i].status);
        ASSERT_SLICE(seen->candidate.body, rows[i].body);
    }
    assert_int_equal(counts_now().compared, ARRAY_LEN(rows));
    assert_int_equal(targets[0].accepted,
                     2); // after the answer that its end closed; and the last is not used again
    mirror_one(HEAD);
    run_ms(50);
    assert_int_equal(targets[0].accepted, 3);
}

TEST(head_has_no_body)
{
    targets[0].reply = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    mirror_one("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(50);
    assert_int_equal(seen->candidate.end, MIRROR_ANSWERED);
    assert_int_equal(seen->candidate.cut, MIRROR_WHOLE);
    assert_int_equal(seen->candidate.body.len, 0);
}

static void expect_uncompared(enum mirror_uncompared reason, enum mirror_end end)
{
    const uint64_t before = counts_now().uncompared[reason];
    const uint32_t seen_before = seen_count;
    mirror_one(HEAD);
    run_ms(1500);
    assert_int_equal(counts_now().uncompared[reason], before + 1);
    assert_int_equal(seen_count, seen_before + 1);
    assert_int_equal(seen->candidate.end, end);
    assert_int_equal(seen->primary.end, MIRROR_ANSWERED);
}

TEST(a_candidate_that_fails)
{
    targets[0].reply = NULL;
    expect_uncompared(MIRROR_UNCOMPARED_TIMEOUT, MIRROR_TIMEOUT);
    targets[0].reply = "";
    expect_uncompared(MIRROR_UNCOMPARED_RESET, MIRROR_RESET);
    targets[0].reply = "SSH-2.0-OpenSSH\r\n\r\n";
    expect_uncompared(MIRROR_UNCOMPARED_BROKEN, MIRROR_BROKEN);
    targets[0].reply = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    expect_uncompared(MIRROR_UNCOMPARED_BROKEN, MIRROR_BROKEN);
    io_listener_close(&targets[0].listener);
    expect_uncompared(MIRROR_UNCOMPARED_CONNECT, MIRROR_CONNECT);
    targets[0].listener.on_accept = on_accept;
    assert_int_equal(io_listener_open(target_loop, &targets[0].listener, &targets[0].addr, false), STATUS_OK);
    words.candidate.secure = true; // and no client
    expect_uncompared(MIRROR_UNCOMPARED_TLS, MIRROR_TLS);
}

TEST(a_secondary_that_fails_is_lost_alone)
{
    words.secondary = MIRROR_SHARE_FULL;
    targets[1].reply = "";
    mirror_one(HEAD);
    run_ms(50);
    assert_false(seen->has_secondary);
    assert_int_equal(counts_now().compared, 1);
    assert_int_equal(counts_now().secondaries_failed, 1);
}

TEST(answers_that_break_off)
{
    targets[0].reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    mirror_one(HEAD);
    run_ms(1500);
    assert_int_equal(seen->candidate.end, MIRROR_ANSWERED);
    assert_int_equal(seen->candidate.cut, MIRROR_CUT_TIME);
    ASSERT_SLICE(seen->candidate.body, "half");
    targets[0].closes = true;
    mirror_one(HEAD);
    run_ms(50);
    assert_int_equal(seen->candidate.cut, MIRROR_CUT_BROKEN);
    targets[0].reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    mirror_one(HEAD);
    run_ms(50);
    assert_int_equal(seen->candidate.cut, MIRROR_CUT_BROKEN);
    assert_int_equal(seen->candidate.status, 200);
}

TEST(long_answers_are_kept_up_to_the_limit)
{
    targets[0].reply = "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n";
    targets[0].body = 8388608;
    words.timeout_ms = 60000;
    mirror_one(HEAD);
    run_ms(60000);
    assert_int_equal(seen_count, 1);
    assert_int_equal(seen->candidate.cut, MIRROR_CUT_LIMIT);
    assert_int_equal(seen->candidate.body.len, 65536);
    assert_int_equal(seen->candidate.body_bytes, 8388608);
    uint64_t digest = seen->candidate.digest;
    targets[0].body = 8388607; // one byte of another value
    targets[0].reply = "HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\ny";
    mirror_one(HEAD);
    run_ms(60000);
    assert_int_equal(seen->candidate.body_bytes, 8388608);
    assert_true(seen->candidate.digest != digest);
}

TEST(an_endless_answer_is_ended)
{
    targets[0].reply = "HTTP/1.1 200 OK\r\n\r\n";
    targets[0].endless = true;
    words.timeout_ms = 60000;
    mirror_one(HEAD);
    run_ms(60000);
    targets[0].endless = false;
    assert_int_equal(seen_count, 1);
    assert_int_equal(seen->candidate.cut, MIRROR_CUT_LIMIT);
    assert_true(seen->candidate.body_bytes > MIRROR_READ_BYTES_MAX);
    assert_true(seen->candidate.body_bytes < MIRROR_READ_BYTES_MAX + 1000000);
    assert_int_equal(seen->candidate.body.len, 65536);
}

// What the client gets late does not take a place from others.
TEST(a_slow_primary_is_awaited)
{
    words.concurrent = 1;
    struct mirror_copy *slow = begin(HEAD);
    mirror_copy_requested(slow);
    run_ms(50);
    assert_int_equal(targets[0].requests, 1);
    assert_int_equal(seen_count, 0);
    mirror_one(HEAD);
    run_ms(50);
    assert_int_equal(seen_count, 1);
    primary_says(slow, OK_ANSWER, MIRROR_OVER_WHOLE);
    run_ms(50);
    assert_int_equal(seen_count, 2);
}

TEST(a_primary_without_an_answer)
{
    struct mirror_copy *copy = begin(HEAD);
    mirror_copy_requested(copy);
    mirror_copy_over(copy, MIRROR_OVER_FAILED);
    run_ms(50);
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_PRIMARY_FAILED], 1);
    assert_int_equal(seen->primary.end, MIRROR_RESET);
    assert_false(seen->client_gone);
    copy = begin(HEAD);
    mirror_copy_requested(copy);
    primary_says(copy, OK_ANSWER, MIRROR_OVER_CLIENT_GONE);
    run_ms(50);
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_CLIENT_GONE], 1);
    assert_int_equal(seen->primary.cut, MIRROR_CUT_BROKEN);
    assert_true(seen->client_gone);
    copy = begin(HEAD); // and one whose request never was whole
    mirror_copy_over(copy, MIRROR_OVER_CLIENT_GONE);
    assert_int_equal(counts_now().dropped[MIRROR_DROP_UNFINISHED], 1);
}

TEST(what_is_too_much_is_dropped)
{
    static char big[70000];
    struct mirror_copy *copy = begin("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n");
    assert_false(mirror_copy_request(copy, (struct slice){big, sizeof big}));
    assert_int_equal(counts_now().dropped[MIRROR_DROP_TOO_LARGE], 1);
    words.candidate.endpoint_count = 0;
    mirror_one(HEAD);
    run_ms(50);
    assert_int_equal(counts_now().dropped[MIRROR_DROP_NO_TARGET], 1);
}

TEST(a_frozen_candidate_holds_up_nobody)
{
    targets[0].reply = NULL;
    for (int i = 0; i < 100; i++)
        mirror_one(HEAD);
    run_ms(100);
    assert_int_equal(targets[0].requests, 4);                     // concurrent
    assert_int_equal(counts_now().dropped[MIRROR_DROP_BUSY], 92); // as many wait
    run_ms(3000);
    assert_int_equal(targets[0].requests, 8);
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_TIMEOUT], 8);
}

TEST(copies_of_a_worker_are_bounded)
{
    struct mirror_copy *copies[MIRROR_COPIES_MAX];
    for (size_t i = 0; i < MIRROR_COPIES_MAX; i++) {
        copies[i] = begin(HEAD);
        assert_non_null(copies[i]);
    }
    assert_null(begin(HEAD));
    assert_int_equal(counts_now().dropped[MIRROR_DROP_BUSY], 1);
    for (size_t i = 0; i < MIRROR_COPIES_MAX; i++) // both messages of each, and nobody reads
        mirror_copy_requested(copies[i]);
    for (size_t i = 0; i < MIRROR_COPIES_MAX; i++)
        primary_says(copies[i], OK_ANSWER, MIRROR_OVER_WHOLE);
    assert_null(begin(HEAD));
    run_ms(500);
    assert_non_null(copies[0] = begin(HEAD));
    mirror_copy_drop(copies[0], MIRROR_DROP_UNFINISHED);
}

TEST(bytes_of_a_worker_are_bounded)
{
    static char big[MIRROR_BODY_BYTES_MAX];
    struct mirror_copy *copies[64];
    size_t count = 0;
    words.body_bytes = MIRROR_BODY_BYTES_MAX;
    for (bool room = true; room && count < 64;) {
        copies[count] = begin("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n");
        room = mirror_copy_request(copies[count], (struct slice){big, sizeof big});
        count += room;
    }
    assert_in_range(count, 30, 32); // half of MIRROR_BYTES_MAX, as there are two workers
    assert_int_equal(counts_now().dropped[MIRROR_DROP_MEMORY], 1);
    // An answer for which there is no room is kept in part.
    mirror_copy_requested(copies[0]);
    while (count > 1)
        mirror_copy_drop(copies[--count], MIRROR_DROP_UNFINISHED);
    primary_says(copies[0], OK_ANSWER, MIRROR_OVER_WHOLE);
    run_ms(500);
    ASSERT_SLICE(seen->primary.body, "hello");
}

TEST(without_a_reader)
{
    make_mirror(false);
    mirror_one(HEAD);
    run_ms(50);
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_NO_READER], 1);
}

TEST(the_end_counts_what_is_under_way)
{
    targets[0].reply = NULL;
    words.secondary = MIRROR_SHARE_FULL;
    for (int i = 0; i < 6; i++)
        mirror_one(HEAD);
    run_ms(50);
    mirror_close(mirror);
    run_ms(50);
    assert_true(mirror_closed(mirror));
    assert_int_equal(counts_now().uncompared[MIRROR_UNCOMPARED_OURS], 4);
    assert_int_equal(counts_now().dropped[MIRROR_DROP_ENDED], 2);
}

// Whatever the network does, the counts add up: tear_down looks.
TEST(a_hostile_network)
{
    const struct io_sim_config faults = {.stall_ppm = 50000,
                                         .stall_us_max = 2000000,
                                         .reset_ppm = 50000,
                                         .refuse_ppm = 100000,
                                         .fragment_ppm = 300000};
    io_sim_set_faults(sim, &faults);
    words.secondary = MIRROR_SHARE_FULL / 2;
    for (int i = 0; i < 300; i++) {
        mirror_one(HEAD);
        run_ms(20);
    }
    run_ms(5000);
    const struct mirror_counts counts = counts_now();
    assert_int_equal(counts.selected, 300);
    assert_true(counts.compared > 0);
    assert_true(counts.uncompared[MIRROR_UNCOMPARED_CONNECT] > 0);
    assert_int_equal(seen_count, counts.sent - counts.uncompared[MIRROR_UNCOMPARED_OURS]);
}
