// SPDX-License-Identifier: Apache-2.0
// The bare relay: the same loop as the proxy's, one upstream connection per client, bytes handed on unread.
// What a proxied request costs above it is the proxy's own work; what it costs itself is the kernel's and the
// loop's.
//
//     io_relay_bench --io epoll|uring --listen ADDRESS --to ADDRESS [--threads N]
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/io/loop.h"

enum { THREADS_MAX = 64, HIGH_WATER = 131072 };

struct relay_side {
    struct io_stream stream;
    struct relay_side *other;
    bool closed;
};

// A client and its upstream.
struct relay {
    struct relay_side sides[2];
};

static struct io_addr listen_addr, to_addr;
static enum io_kind kind = IO_KIND_AUTO;

static void relay_close(struct relay_side *side)
{
    io_stream_close(&side->stream);
    io_stream_close(&side->other->stream);
}

static void on_open(struct io_stream *stream, enum status status)
{
    if (status != STATUS_OK)
        relay_close(CONTAINER_OF(stream, struct relay_side, stream));
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct io_stream *other = &CONTAINER_OF(stream, struct relay_side, stream)->other->stream;
    io_stream_send(other, buf);
    if (UNLIKELY(io_stream_pending(other) > HIGH_WATER))
        io_stream_pause(stream);
}

static void on_drain(struct io_stream *stream)
{
    io_stream_resume(&CONTAINER_OF(stream, struct relay_side, stream)->other->stream);
}

static void on_end(struct io_stream *stream, enum status status)
{
    struct relay_side *side = CONTAINER_OF(stream, struct relay_side, stream);
    if (status == STATUS_CLOSED && io_stream_pending(&side->other->stream) > 0)
        io_stream_finish(&side->other->stream);
    else
        relay_close(side);
}

static void on_closed(struct io_stream *stream)
{
    struct relay_side *side = CONTAINER_OF(stream, struct relay_side, stream);
    side->closed = true;
    if (side->other->closed)
        heap_free(side < side->other ? side : side->other);
}

static const struct io_stream_ops RELAY_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    (void)peer;
    struct relay *relay = heap_alloc(1, sizeof *relay);
    if (relay == NULL) {
        io_handle_close(listener->loop, handle);
        return;
    }
    relay->sides[0].other = &relay->sides[1];
    relay->sides[1].other = &relay->sides[0];
    io_stream_adopt(listener->loop, &relay->sides[0].stream, handle, &RELAY_OPS);
    io_stream_connect(listener->loop, &relay->sides[1].stream, &to_addr, &RELAY_OPS);
}

static void fail(const char *what, enum status status)
{
    fprintf(stderr, "io_relay_bench: %s: %s\n", what, status_name(status));
    exit(1);
}

static void *worker(void *unused)
{
    (void)unused;
    struct io_loop_config config = {.kind = kind};
    struct io_loop *loop;
    struct io_listener listener = {.on_accept = on_accept};
    enum status status = io_loop_create(&config, &loop);
    if (status != STATUS_OK)
        fail("loop", status);
    status = io_listener_open(loop, &listener, &listen_addr, true);
    if (status != STATUS_OK)
        fail("listen", status);
    io_loop_run(loop);
    return NULL;
}

static void usage(void)
{
    fprintf(stderr, "usage: io_relay_bench --io epoll|uring --listen ADDRESS --to ADDRESS [--threads N]\n");
    exit(2);
}

int main(int count, char **arguments)
{
    long threads = 1;
    bool have_listen = false, have_to = false;
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (strcmp(name, "--io") == 0)
            kind = strcmp(value, "uring") == 0   ? IO_KIND_URING
                   : strcmp(value, "epoll") == 0 ? IO_KIND_EPOLL
                                                 : IO_KIND_AUTO;
        else if (strcmp(name, "--listen") == 0)
            have_listen = io_addr_parse(value, &listen_addr) == STATUS_OK;
        else if (strcmp(name, "--to") == 0)
            have_to = io_addr_parse(value, &to_addr) == STATUS_OK;
        else if (strcmp(name, "--threads") == 0)
            threads = strtol(value, NULL, 10);
        else
            usage();
    }
    if (!have_listen || !have_to || threads < 1 || threads > THREADS_MAX || count % 2 == 0)
        usage();
    pthread_t extra;
    for (long i = 1; i < threads; i++)
        if (pthread_create(&extra, NULL, worker, NULL) != 0)
            fail("thread", STATUS_NO_MEMORY);
    worker(NULL);
    return 0;
}
