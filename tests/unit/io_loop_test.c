// SPDX-License-Identifier: Apache-2.0
// One suite of behaviour for every face of the loop: what holds on epoll holds on io_uring and in the
// simulator.
#include <pthread.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "io_suite.h"
#include "test.h"

// ---- a peer that records what it is told ----

enum close_when { CLOSE_NEVER, CLOSE_ON_OPEN, CLOSE_ON_DATA, CLOSE_ON_END, CLOSE_ON_DRAIN };

struct peer {
    struct io_stream stream;
    uint64_t opened, ended, failed, drained, closed, received, sent, echoed;
    enum status open_status, end_status;
    uint64_t digest; // of received bytes, position-dependent
    uint64_t to_send;
    bool echo, finish_on_end, finish_after_send;
    enum close_when close_when;
    bool abort;
    bool hoards; // keeps the buffers it receives
    struct io_buf *hoard;
    bool freed; // storage given back: any callback is a bug
};

static void digest_add(uint64_t *digest, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        *digest = (*digest ^ data[i]) * 0x100000001b3ULL;
}

static uint8_t pattern_at(uint64_t position)
{
    return (uint8_t)((position * 2654435761u) >> 13);
}

static struct peer *peer_of(struct io_stream *stream)
{
    struct peer *peer = CONTAINER_OF(stream, struct peer, stream);
    assert_false(peer->freed);
    return peer;
}

static void maybe_close(struct peer *peer, enum close_when now)
{
    if (peer->close_when != now)
        return;
    if (peer->abort)
        io_stream_abort(&peer->stream);
    else
        io_stream_close(&peer->stream);
}

enum { HIGH_WATER = 65536 };

static void peer_pump(struct peer *peer)
{
    while (peer->sent < peer->to_send && io_stream_pending(&peer->stream) < HIGH_WATER) {
        struct io_buf *buf = io_buf_get(peer->stream.loop);
        if (buf == NULL)
            return;
        while (io_buf_room(buf) > 0 && peer->sent < peer->to_send)
            buf->data[buf->end++] = pattern_at(peer->sent++);
        io_stream_send(&peer->stream, buf);
    }
    if (peer->finish_after_send && peer->sent == peer->to_send) {
        peer->finish_after_send = false;
        io_stream_finish(&peer->stream);
    }
}

static void peer_on_open(struct io_stream *stream, enum status status)
{
    struct peer *peer = peer_of(stream);
    peer->opened++;
    peer->open_status = status;
    if (status != STATUS_OK) {
        io_stream_close(stream);
        return;
    }
    maybe_close(peer, CLOSE_ON_OPEN);
    if (peer->close_when != CLOSE_ON_OPEN)
        peer_pump(peer);
}

static void peer_on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct peer *peer = peer_of(stream);
    assert_true(io_buf_len(buf) > 0);
    assert_int_equal(peer->ended + peer->failed, 0);
    peer->received += io_buf_len(buf);
    digest_add(&peer->digest, buf->data + buf->start, io_buf_len(buf));
    if (peer->echo) {
        peer->echoed += io_buf_len(buf);
        io_stream_send(stream, buf);
        if (io_stream_pending(stream) >= HIGH_WATER)
            io_stream_pause(stream);
    } else if (peer->hoards) {
        buf->next = peer->hoard;
        peer->hoard = buf;
    } else {
        io_buf_put(buf);
    }
    maybe_close(peer, CLOSE_ON_DATA);
}

static void peer_on_end(struct io_stream *stream, enum status status)
{
    struct peer *peer = peer_of(stream);
    assert_int_equal(peer->failed, 0);
    if (status == STATUS_CLOSED)
        peer->ended++;
    else
        peer->failed++;
    assert_true(peer->ended <= 1);
    peer->end_status = status;
    maybe_close(peer, CLOSE_ON_END);
    if (peer->finish_on_end && status == STATUS_CLOSED)
        io_stream_finish(stream);
}

static void peer_on_drain(struct io_stream *stream)
{
    struct peer *peer = peer_of(stream);
    peer->drained++;
    assert_int_equal(io_stream_pending(stream), 0);
    if (peer->echo)
        io_stream_resume(stream);
    maybe_close(peer, CLOSE_ON_DRAIN);
    if (peer->close_when != CLOSE_ON_DRAIN)
        peer_pump(peer);
}

static void peer_on_closed(struct io_stream *stream)
{
    struct peer *peer = peer_of(stream);
    peer->closed++;
    peer->freed = true;
}

static const struct io_stream_ops PEER_OPS = {
    .on_open = peer_on_open,
    .on_data = peer_on_data,
    .on_end = peer_on_end,
    .on_drain = peer_on_drain,
    .on_closed = peer_on_closed,
};

// ---- a server: one listener, one prepared peer per connection ----

enum { SERVER_PEERS = 64 };

struct server {
    struct io_listener listener;
    struct io_addr addr;
    struct peer peers[SERVER_PEERS];
    uint64_t accepted;
    uint64_t failures;
    enum status failure;
    bool refuse;
    bool close_listener;
};

static void server_on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    struct server *server = CONTAINER_OF(listener, struct server, listener);
    struct io_loop *loop = listener->loop;
    assert_true(peer->any.sa_family != 0);
    if (server->refuse) {
        server->accepted++;
        io_handle_close(loop, handle);
        return;
    }
    assert_true(server->accepted < SERVER_PEERS);
    io_stream_adopt(loop, &server->peers[server->accepted++].stream, handle, &PEER_OPS);
    if (server->close_listener)
        io_listener_close(listener);
}

static void server_on_failure(struct io_listener *listener, enum status status)
{
    struct server *server = CONTAINER_OF(listener, struct server, listener);
    server->failures++;
    server->failure = status;
}

static void server_open(struct io_loop *loop, struct server *server, const char *address)
{
    memset(server, 0, sizeof *server);
    server->listener.on_accept = server_on_accept;
    server->listener.on_failure = server_on_failure;
    assert_int_equal(io_addr_parse(address, &server->addr), STATUS_OK);
    assert_int_equal(io_listener_open(loop, &server->listener, &server->addr, false), STATUS_OK);
    io_listener_addr(&server->listener, &server->addr);
}

struct pair {
    struct io_loop *loop;
    struct server server;
    struct peer client;
};

static struct pair pair;

static void pair_begin_at(const char *address, uint32_t bufs_max)
{
    memset(&pair, 0, sizeof pair);
    pair.loop = loop_make(bufs_max);
    server_open(pair.loop, &pair.server, address);
}

static void pair_begin(void)
{
    pair_begin_at("127.0.0.1:0", 0);
}

static void pair_connect(void)
{
    io_stream_connect(pair.loop, &pair.client.stream, &pair.server.addr, &PEER_OPS);
}

static void pair_end(void)
{
    struct peer *peers[SERVER_PEERS + 1] = {&pair.client};
    for (int i = 0; i < SERVER_PEERS; i++)
        peers[i + 1] = &pair.server.peers[i];
    if (pair.server.listener.handle >= 0)
        io_listener_close(&pair.server.listener);
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        if (peers[i]->stream.ops == NULL)
            continue;
        if (!peers[i]->freed)
            io_stream_close(&peers[i]->stream);
        run_until(pair.loop, &peers[i]->closed, 1);
        assert_int_equal(peers[i]->closed, 1);
    }
    loop_unmake(pair.loop);
}

// ---- tests ----

static void check_echo(const char *address, uint64_t bytes)
{
    pair_begin_at(address, 0);
    pair.server.peers[0].echo = true;
    pair.client.to_send = bytes;
    pair_connect();
    run_until(pair.loop, &pair.client.received, bytes);
    assert_int_equal(pair.client.received, bytes);
    assert_int_equal(pair.client.open_status, STATUS_OK);
    assert_int_equal(pair.server.peers[0].received, bytes);
    uint64_t digest = 0;
    for (uint64_t i = 0; i < bytes; i++) {
        uint8_t byte = pattern_at(i);
        digest_add(&digest, &byte, 1);
    }
    assert_true(pair.client.digest == digest);
    assert_true(pair.client.drained > 0);
    assert_true(io_loop_stats(pair.loop)->bytes_received == 2 * bytes);
    assert_true(io_loop_stats(pair.loop)->bytes_sent == 2 * bytes);
    pair_end();
}

IO_TEST(echo)
{
    check_echo("127.0.0.1:0", 5);
}

IO_TEST(echo_large)
{
    check_echo("127.0.0.1:0", 8000003);
}

IO_TEST(echo_unix)
{
    char address[64];
    snprintf(address, sizeof address, "unix:/tmp/sluice-io-%ld.sock", (long)getpid());
    unlink(address + 5);
    check_echo(address, 500009);
    // The first listener left its file behind: stale, so it may be replaced.
    check_echo(address, 10);
    unlink(address + 5);
}

IO_TEST(echo_v6)
{
    check_echo("[::1]:0", 1000);
}

IO_TEST(backpressure_both_ways)
{
    enum { BYTES = 6000000 };
    pair_begin();
    struct peer *server = &pair.server.peers[0];
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    run_until(pair.loop, &pair.client.opened, 1);
    io_stream_pause(&server->stream);
    io_stream_pause(&pair.client.stream);
    pair.client.to_send = BYTES;
    server->to_send = BYTES;
    peer_pump(&pair.client);
    peer_pump(server);
    run_for(pair.loop, 50000);
    // Nobody reads: the kernel's buffers are full and what is queued here stays bounded.
    uint64_t stuck = pair.client.sent;
    assert_true(stuck < BYTES || kind_under_test == IO_KIND_EPOLL);
    assert_true(io_stream_pending(&pair.client.stream) <= HIGH_WATER + IO_BUF_BYTES);
    assert_int_equal(server->received, 0);
    assert_int_equal(pair.client.received, 0);
    io_stream_resume(&server->stream);
    run_until(pair.loop, &server->received, BYTES);
    assert_int_equal(pair.client.received, 0);
    io_stream_resume(&pair.client.stream);
    run_until(pair.loop, &pair.client.received, BYTES);
    pair_end();
}

static void read_for(struct peer *peer, uint64_t duration_us)
{
    io_stream_resume(&peer->stream);
    run_for(pair.loop, duration_us);
    io_stream_pause(&peer->stream);
}

// The kernel tells of what a peer took a little later than it took it.
static void until_taking_is(const struct io_stream *writer, uint64_t *mark, bool taking)
{
    bool is = !taking;
    for (int i = 0; i < 200 && is != taking; i++) {
        run_for(pair.loop, 10000);
        is = io_stream_taking(writer, mark);
    }
    assert_true(is == taking);
}

// Long before the queue is empty it shows that the peer takes, and that it does so no more.
static void check_taking(const char *address)
{
    uint64_t mark = 0;
    pair_begin_at(address, 0);
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    run_until(pair.loop, &pair.client.opened, 1);
    struct peer *reader = &pair.server.peers[0];
    const struct io_stream *writer = &pair.client.stream;
    assert_false(io_stream_taking(writer, &mark));
    io_stream_pause(&reader->stream);
    pair.client.to_send = 30000000;
    peer_pump(&pair.client);
    run_for(pair.loop, 100000);
    uint64_t stuck = io_stream_pending(writer);
    assert_true(stuck > 0);
    until_taking_is(writer, &mark, false);
    uint64_t drained = pair.client.drained;
    while (reader->received < 300000)
        read_for(reader, 100);
    if (pair.client.drained == drained)
        until_taking_is(writer, &mark, true);
    until_taking_is(writer, &mark, false);
    pair_end();
}

IO_TEST(slow_peers_are_taking)
{
    check_taking("127.0.0.1:0");
}

IO_TEST(slow_peers_are_taking_unix)
{
    char address[64];
    snprintf(address, sizeof address, "unix:/tmp/sluice-io-take-%ld.sock", (long)getpid());
    unlink(address + 5);
    check_taking(address);
    unlink(address + 5);
}

IO_TEST(pause_and_resume)
{
    pair_begin();
    struct peer *server = &pair.server.peers[0];
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    run_until(pair.loop, &pair.client.opened, 1);
    for (int round = 1; round <= 20; round++) {
        io_stream_pause(&server->stream);
        pair.client.to_send += 1000;
        peer_pump(&pair.client);
        if (round % 2 == 0)
            run_for(pair.loop, 3000);
        assert_int_equal(server->received, (round - 1) * 1000);
        io_stream_resume(&server->stream);
        if (round % 3 == 0) { // resumed and paused again at once, and resumed
            io_stream_pause(&server->stream);
            run_for(pair.loop, 3000);
            assert_int_equal(server->received, (round - 1) * 1000);
            io_stream_resume(&server->stream);
        }
        run_until(pair.loop, &server->received, (uint64_t)round * 1000);
    }
    pair_end();
}

IO_TEST(pause_delays_the_end)
{
    pair_begin();
    struct peer *server = &pair.server.peers[0];
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    run_until(pair.loop, &pair.client.opened, 1);
    io_stream_pause(&server->stream);
    pair.client.to_send = 100;
    pair.client.finish_after_send = true;
    peer_pump(&pair.client);
    run_until(pair.loop, &pair.client.drained, 1);
    run_for(pair.loop, 5000);
    assert_int_equal(server->ended, 0);
    io_stream_resume(&server->stream);
    run_until(pair.loop, &server->ended, 1);
    assert_int_equal(server->received, 100);
    pair_end();
}

IO_TEST(half_close)
{
    pair_begin();
    struct peer *server = &pair.server.peers[0];
    server->finish_on_end = false;
    pair.client.to_send = 70000;
    pair.client.finish_after_send = true;
    pair_connect();
    run_until(pair.loop, &server->ended, 1);
    assert_int_equal(server->end_status, STATUS_CLOSED);
    assert_int_equal(server->received, 70000);
    assert_int_equal(pair.client.ended, 0);
    // The other direction is still open.
    server->to_send = 300000;
    server->finish_after_send = true;
    peer_pump(server);
    run_until(pair.loop, &pair.client.ended, 1);
    assert_int_equal(pair.client.received, 300000);
    assert_int_equal(pair.client.end_status, STATUS_CLOSED);
    pair_end();
}

IO_TEST(reset)
{
    pair_begin();
    struct peer *server = &pair.server.peers[0];
    server->close_when = CLOSE_ON_DATA;
    server->abort = true;
    pair.client.to_send = 10;
    pair_connect();
    run_until(pair.loop, &pair.client.failed, 1);
    assert_int_equal(pair.client.end_status, STATUS_RESET);
    assert_int_equal(pair.client.ended, 0);
    // What is sent on a broken stream is dropped, without harm and without a sign.
    pair.client.to_send = 100000;
    pair.client.sent = 0;
    struct io_buf *buf = io_buf_get(pair.loop);
    buf->end = 10;
    io_stream_send(&pair.client.stream, buf);
    run_for(pair.loop, 3000);
    assert_int_equal(io_stream_pending(&pair.client.stream), 0);
    pair_end();
}

// A peer that closes fully while we still send: first an orderly end, then the failure is told too.
IO_TEST(reset_after_the_end)
{
    pair_begin();
    struct peer *server = &pair.server.peers[0];
    server->close_when = CLOSE_ON_OPEN; // never happens: accepted streams are not opened
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    io_stream_close(&server->stream);
    run_until(pair.loop, &pair.client.ended, 1);
    pair.client.to_send = 1000000;
    peer_pump(&pair.client);
    run_until(pair.loop, &pair.client.failed, 1);
    assert_int_equal(pair.client.end_status, STATUS_RESET);
    pair_end();
}

IO_TEST(connect_refused)
{
    pair_begin();
    io_listener_close(&pair.server.listener);
    pair_connect();
    assert_int_equal(pair.client.opened, 0); // never from within the call
    run_until(pair.loop, &pair.client.opened, 1);
    assert_int_equal(pair.client.open_status, STATUS_REFUSED);
    assert_int_equal(pair.client.ended + pair.client.failed, 0);
    pair_end();
}

IO_TEST(connect_unix_missing)
{
    pair_begin();
    struct io_addr addr;
    assert_int_equal(io_addr_parse("unix:/tmp/sluice-io-no-such.sock", &addr), STATUS_OK);
    io_stream_connect(pair.loop, &pair.client.stream, &addr, &PEER_OPS);
    assert_int_equal(pair.client.opened, 0);
    run_until(pair.loop, &pair.client.opened, 1);
    assert_int_not_equal(pair.client.open_status, STATUS_OK);
    pair_end();
}

IO_TEST(send_before_open)
{
    pair_begin();
    pair_connect();
    struct io_buf *buf = io_buf_get(pair.loop);
    buf->end = 7;
    io_stream_send(&pair.client.stream, buf);
    io_stream_finish(&pair.client.stream);
    run_until(pair.loop, &pair.server.peers[0].ended, 1);
    assert_int_equal(pair.server.peers[0].received, 7);
    pair_end();
}

IO_TEST(close_in_every_callback)
{
    for (int when = CLOSE_ON_OPEN; when <= CLOSE_ON_DRAIN; when++) {
        for (int abort = 0; abort <= 1; abort++) {
            pair_begin();
            struct peer *server = &pair.server.peers[0];
            server->to_send = 0;
            server->echo = true;
            server->finish_on_end = true;
            pair.client.to_send = 100000;
            pair.client.finish_after_send = true;
            pair.client.close_when = (enum close_when)when;
            pair.client.abort = abort != 0;
            pair_connect();
            run_until(pair.loop, &pair.client.closed, 1);
            run_for(pair.loop, 3000);
            assert_int_equal(pair.client.closed, 1);
            pair_end();
        }
    }
}

IO_TEST(closed_is_told_later)
{
    pair_begin();
    pair_connect();
    run_until(pair.loop, &pair.client.opened, 1);
    pair.client.to_send = 100;
    peer_pump(&pair.client);
    io_stream_close(&pair.client.stream);
    assert_int_equal(pair.client.closed, 0);
    io_stream_close(&pair.client.stream); // twice is once
    run_until(pair.loop, &pair.client.closed, 1);
    run_for(pair.loop, 3000);
    assert_int_equal(pair.client.closed, 1);
    pair_end();
}

// Both ends of a pair are readable in one batch; the first to be told closes the other, whose storage is
// wiped at once in on_closed. A stale event would meet the poison.
struct mutual {
    struct io_stream stream;
    struct mutual *other;
    bool *closed_one;
    uint64_t *closed;
    uint8_t poison[64];
};

static void mutual_on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct mutual *mutual = CONTAINER_OF(stream, struct mutual, stream);
    io_buf_put(buf);
    assert_int_equal(mutual->poison[0], 0);
    if (!*mutual->closed_one)
        io_stream_close(&mutual->other->stream);
    *mutual->closed_one = true;
}

static void mutual_on_closed(struct io_stream *stream)
{
    struct mutual *mutual = CONTAINER_OF(stream, struct mutual, stream);
    (*mutual->closed)++;
    memset(mutual, 0xee, sizeof *mutual);
}

static void mutual_on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    struct mutual *mutual = CONTAINER_OF(stream, struct mutual, stream);
    assert_int_equal(mutual->poison[0], 0);
}

static const struct io_stream_ops MUTUAL_OPS = {
    .on_data = mutual_on_data, .on_end = mutual_on_end, .on_closed = mutual_on_closed};

static struct mutual mutuals[2];
static uint64_t mutuals_accepted;

static void mutual_on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    (void)peer;
    io_stream_adopt(listener->loop, &mutuals[mutuals_accepted++].stream, handle, &MUTUAL_OPS);
}

IO_TEST(storage_reuse)
{
    for (int round = 0; round < 10; round++) {
        struct peer clients[2] = {0};
        struct server server;
        struct io_loop *loop = loop_make(0);
        bool closed_one = false;
        uint64_t closed = 0;
        memset(mutuals, 0, sizeof mutuals);
        mutuals_accepted = 0;
        for (int i = 0; i < 2; i++) {
            mutuals[i].other = &mutuals[1 - i];
            mutuals[i].closed_one = &closed_one;
            mutuals[i].closed = &closed;
        }
        server_open(loop, &server, "127.0.0.1:0");
        server.listener.on_accept = mutual_on_accept;
        for (int i = 0; i < 2; i++)
            io_stream_connect(loop, &clients[i].stream, &server.addr, &PEER_OPS);
        run_until(loop, &mutuals_accepted, 2);
        run_until(loop, &clients[0].opened, 1);
        run_until(loop, &clients[1].opened, 1);
        for (int i = 0; i < 2; i++) {
            clients[i].to_send = 10;
            peer_pump(&clients[i]);
        }
        run_until(loop, &closed, 1);
        run_for(loop, 2000);
        for (int i = 0; i < 2; i++) {
            if (mutuals[i].poison[0] == 0)
                io_stream_close(&mutuals[i].stream);
            io_stream_close(&clients[i].stream);
        }
        io_listener_close(&server.listener);
        run_until(loop, &closed, 2);
        run_until(loop, &clients[0].closed, 1);
        run_until(loop, &clients[1].closed, 1);
        loop_unmake(loop);
    }
}

IO_TEST(refused_by_owner)
{
    pair_begin();
    pair.server.refuse = true;
    pair_connect();
    run_until(pair.loop, &pair.client.ended, 1);
    pair_end();
}

IO_TEST(listener_closed_in_accept)
{
    pair_begin();
    pair.server.close_listener = true;
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    run_for(pair.loop, 2000);
    pair_end();
}

// Two listeners have a connection each in one batch; whoever comes first closes the other and wipes its
// storage.
struct twin {
    struct io_listener listener;
    struct twin *other;
    uint64_t *accepted;
};

static void twin_on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    (void)peer;
    struct twin *twin = CONTAINER_OF(listener, struct twin, listener);
    ++*twin->accepted;
    io_handle_close(listener->loop, handle);
    io_listener_close(&twin->other->listener);
    memset(twin->other, 0xee, sizeof *twin->other);
}

IO_TEST(listener_closed_by_another)
{
    struct twin twins[2];
    static struct peer clients[2];
    struct io_addr addr;
    uint64_t accepted = 0;
    struct io_loop *loop = loop_make(0);
    memset(twins, 0, sizeof twins);
    memset(clients, 0, sizeof clients);
    assert_int_equal(io_addr_parse("127.0.0.1:0", &addr), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        struct io_addr bound;
        twins[i].other = &twins[1 - i];
        twins[i].accepted = &accepted;
        twins[i].listener.on_accept = twin_on_accept;
        assert_int_equal(io_listener_open(loop, &twins[i].listener, &addr, false), STATUS_OK);
        io_listener_addr(&twins[i].listener, &bound);
        io_stream_connect(loop, &clients[i].stream, &bound, &PEER_OPS);
    }
    run_until(loop, &accepted, 1);
    run_for(loop, 3000);
    assert_int_equal(accepted, 1);
    for (int i = 0; i < 2; i++) {
        if (twins[i].other == &twins[1 - i])
            io_listener_close(&twins[i].listener);
        if (!clients[i].freed)
            io_stream_close(&clients[i].stream);
        run_until(loop, &clients[i].closed, 1);
    }
    loop_unmake(loop);
}

IO_TEST(listener_in_use)
{
    pair_begin();
    struct server second = {.listener = {.on_accept = server_on_accept}};
    assert_int_equal(io_listener_open(pair.loop, &second.listener, &pair.server.addr, false), STATUS_IN_USE);
    pair_end();
}

// Two loops at one address, each with its own listener.
static void check_join(const char *address)
{
    pair_begin_at(address, 0);
    struct io_addr addr;
    struct io_listener other = {.on_accept = server_on_accept};
    io_listener_close(&pair.server.listener);
    assert_int_equal(io_addr_parse(address, &addr), STATUS_OK);
    assert_int_equal(io_listener_open(pair.loop, &pair.server.listener, &addr, true), STATUS_OK);
    assert_int_equal(io_listener_join(pair.loop, &other, &pair.server.listener), STATUS_OK);
    io_listener_addr(&other, &pair.server.addr);
    // Who leaves takes neither the address nor the other one's clients with it.
    io_listener_close(&other);
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    pair_end();
}

IO_TEST(joined_listeners)
{
    check_join("127.0.0.1:0");
}

IO_TEST(joined_listeners_unix)
{
    char address[64];
    snprintf(address, sizeof address, "unix:/tmp/sluice-io-join-%ld.sock", (long)getpid());
    unlink(address + 5);
    check_join(address);
    unlink(address + 5);
}

IO_TEST(unix_in_use)
{
    char address[64];
    snprintf(address, sizeof address, "unix:/tmp/sluice-io-used-%ld.sock", (long)getpid());
    unlink(address + 5);
    pair_begin_at(address, 0);
    struct server second = {.listener = {.on_accept = server_on_accept}};
    assert_int_equal(io_listener_open(pair.loop, &second.listener, &pair.server.addr, false), STATUS_IN_USE);
    // A file that is no socket is never removed.
    if (kind_under_test != IO_KIND_SIM) {
        struct io_addr file;
        assert_int_equal(io_addr_parse("unix:/dev/null", &file), STATUS_OK);
        assert_int_not_equal(io_listener_open(pair.loop, &second.listener, &file, false), STATUS_OK);
        assert_int_equal(access("/dev/null", F_OK), 0);
    }
    pair_end();
    unlink(address + 5);
}

// ---- many connections ----

IO_TEST(many_connections)
{
    enum { COUNT = 60, BYTES = 30000 };
    static struct peer clients[COUNT];
    memset(clients, 0, sizeof clients);
    pair_begin();
    for (int i = 0; i < SERVER_PEERS; i++)
        pair.server.peers[i].echo = true;
    for (int i = 0; i < COUNT; i++) {
        clients[i].to_send = BYTES;
        io_stream_connect(pair.loop, &clients[i].stream, &pair.server.addr, &PEER_OPS);
    }
    for (int i = 0; i < COUNT; i++)
        run_until(pair.loop, &clients[i].received, BYTES);
    for (int i = 0; i < COUNT; i++)
        io_stream_close(&clients[i].stream);
    for (int i = 0; i < COUNT; i++)
        run_until(pair.loop, &clients[i].closed, 1);
    for (int i = 0; i < COUNT; i++)
        run_until(pair.loop, &pair.server.peers[i].ended, 1);
    assert_int_equal(io_loop_stats(pair.loop)->accepts, COUNT);
    pair_end();
}

// ---- buffers ----

IO_TEST(buffers_exhausted)
{
    if (kind_under_test == IO_KIND_SIM)
        skip(); // worlds have no limit of their own
    enum { LIMIT = 20, BYTES = 400000 };
    struct io_buf *held[LIMIT];
    pair_begin_at("127.0.0.1:0", LIMIT);
    struct peer *server = &pair.server.peers[0];
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    run_until(pair.loop, &pair.client.opened, 1);
    io_stream_pause(&server->stream);
    pair.client.to_send = BYTES;
    peer_pump(&pair.client);
    while (pair.client.sent < BYTES || io_stream_pending(&pair.client.stream) > 0)
        assert_int_equal(io_loop_turn(pair.loop, WAIT_US), STATUS_OK);
    // All bytes are in the kernel; take every buffer but one, and let the receiver keep what it gets.
    uint32_t count = 0;
    struct io_buf *buf;
    while ((buf = io_buf_get(pair.loop)) != NULL)
        held[count++] = buf;
    assert_true(count > 1 && count <= LIMIT);
    io_buf_put(held[--count]);
    uint64_t refused = io_loop_stats(pair.loop)->bufs_refused;
    server->hoards = true;
    io_stream_resume(&server->stream);
    run_until(pair.loop, &server->received, 1);
    run_until(pair.loop, &io_loop_stats(pair.loop)->bufs_refused, refused + 1);
    assert_true(server->received < BYTES);
    // The receive waits for a buffer, and goes on by itself when there is one.
    server->hoards = false;
    while ((buf = server->hoard) != NULL) {
        server->hoard = buf->next;
        io_buf_put(buf);
    }
    run_until(pair.loop, &server->received, BYTES);
    while (count > 0)
        io_buf_put(held[--count]);
    pair_end();
}

// ---- descriptors ----

IO_TEST(descriptors_exhausted)
{
    if (kind_under_test == IO_KIND_SIM)
        skip();
    enum { DESCRIPTORS = 64 };
    // io_uring takes the limit at the time it arms the accept: so it is lowered first.
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = DESCRIPTORS;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    pair_begin();
    pair_connect();
    run_until(pair.loop, &pair.server.accepted, 1);
    run_until(pair.loop, &pair.client.opened, 1);
    static struct peer second;
    memset(&second, 0, sizeof second);
    io_stream_connect(pair.loop, &second.stream, &pair.server.addr, &PEER_OPS);
    // The connection waits in the backlog; no descriptor is left to take it with.
    int filler[DESCRIPTORS];
    int fillers = 0;
    while ((filler[fillers] = dup(0)) >= 0)
        fillers++;
    run_until(pair.loop, &pair.server.failures, 1);
    assert_int_equal(pair.server.failure, STATUS_NO_FD);
    assert_true(io_loop_stats(pair.loop)->accept_failures >= 1);
    run_until(pair.loop, &second.ended, 1); // not left hanging
    while (fillers > 0)
        close(filler[--fillers]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    io_stream_close(&second.stream);
    run_until(pair.loop, &second.closed, 1);
    memset(&second, 0, sizeof second);
    // After the pause it accepts again.
    io_stream_connect(pair.loop, &second.stream, &pair.server.addr, &PEER_OPS);
    run_until(pair.loop, &pair.server.accepted, 2);
    run_until(pair.loop, &second.opened, 1);
    io_stream_close(&second.stream);
    run_until(pair.loop, &second.closed, 1);
    pair_end();
}

// ---- torture ----

IO_TEST(allocation_torture)
{
    if (kind_under_test == IO_KIND_SIM)
        skip();
    enum { BYTES = 200000 };
    struct io_loop_config config = {.kind = kind_under_test};
    struct io_loop *loop;
    int failures = 0;
    for (long n = 0; n < 100; n++) {
        heap_fail_after(n);
        loop = NULL;
        enum status status = io_loop_create(&config, &loop);
        heap_fail_after(-1);
        if (status == STATUS_OK)
            break;
        failures++;
        assert_int_equal(status, STATUS_NO_MEMORY);
        assert_null(loop);
    }
    assert_true(failures > 0);
    io_loop_destroy(loop);
    // In a transfer: the heap refuses for a while, then grants; the transfer ends complete all the same.
    for (long n = 0; n < 4; n++) {
        pair_begin();
        pair.server.peers[0].echo = true;
        pair.client.to_send = BYTES;
        pair_connect();
        run_until(pair.loop, &pair.server.accepted, 1);
        heap_fail_after(n);
        run_for(pair.loop, 15000);
        heap_fail_after(-1);
        run_until(pair.loop, &pair.client.opened, 1);
        peer_pump(&pair.client); // if a refusal stopped the pump
        run_until(pair.loop, &pair.client.received, BYTES);
        pair_end();
    }
}
