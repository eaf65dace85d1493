// SPDX-License-Identifier: Apache-2.0
// Workers on threads of their own, over loopback, while tables are published and evidence is gathered: for
// the thread sanitizer, and to show that nothing is lost between the threads.
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags_fixture.h"
#include "net/proxy/proxy.h"
#include "test.h"

enum { WORKERS = 2, CLIENTS = 8, REQUESTS = 100 };

static const char HELLO[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

// ---- an origin on a loop of its own ----

struct origin {
    struct io_loop *loop;
    struct io_listener listener;
    struct io_addr addr;
    struct list streams;
    pthread_t thread;
};

struct origin_stream {
    struct io_stream io;
    struct origin *origin;
    struct list link;
};

static void origin_data(struct io_stream *stream, struct io_buf *buf)
{
    // One head comes in one piece over loopback, and the proxy asks one at a time.
    buf->start = 0;
    buf->end = sizeof HELLO - 1;
    memcpy(buf->data, HELLO, sizeof HELLO - 1);
    io_stream_send(stream, buf);
}

static void origin_end(struct io_stream *stream, enum status status)
{
    (void)status;
    io_stream_close(stream);
}

static void origin_closed(struct io_stream *stream)
{
    struct origin_stream *mine = CONTAINER_OF(stream, struct origin_stream, io);
    list_remove(&mine->link);
    heap_free(mine);
}

static const struct io_stream_ops ORIGIN_OPS = {
    .on_data = origin_data, .on_end = origin_end, .on_closed = origin_closed};

static void origin_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    (void)peer;
    struct origin *origin = CONTAINER_OF(listener, struct origin, listener);
    struct origin_stream *stream = heap_alloc(1, sizeof *stream);
    assert_non_null(stream);
    stream->origin = origin;
    list_push_back(&origin->streams, &stream->link);
    io_stream_adopt(origin->loop, &stream->io, handle, &ORIGIN_OPS);
}

static void *origin_main(void *context)
{
    struct origin *origin = context;
    io_loop_run(origin->loop);
    io_listener_close(&origin->listener);
    for (struct list *link = origin->streams.next; link != &origin->streams; link = link->next)
        io_stream_close(&CONTAINER_OF(link, struct origin_stream, link)->io);
    while (!list_empty(&origin->streams))
        assert_int_equal(io_loop_turn(origin->loop, 1000), STATUS_OK);
    return NULL;
}

static void origin_start(struct origin *origin)
{
    struct io_loop_config config = {.kind = IO_KIND_EPOLL};
    list_init(&origin->streams);
    assert_int_equal(io_loop_create(&config, &origin->loop), STATUS_OK);
    origin->listener.on_accept = origin_accept;
    assert_int_equal(io_addr_parse("127.0.0.1:0", &origin->addr), STATUS_OK);
    assert_int_equal(io_listener_open(origin->loop, &origin->listener, &origin->addr, false), STATUS_OK);
    io_listener_addr(&origin->listener, &origin->addr);
    assert_int_equal(pthread_create(&origin->thread, NULL, origin_main, origin), 0);
}

static void origin_stop(struct origin *origin)
{
    io_loop_stop(origin->loop);
    pthread_join(origin->thread, NULL);
    io_loop_destroy(origin->loop);
}

// ---- clients that block ----

struct asker {
    struct io_addr addr;
    pthread_t thread;
    uint32_t answered;
};

static bool ask_once(int fd)
{
    char got[512];
    size_t len = 0;
    if (write(fd, GET, sizeof GET - 1) != sizeof GET - 1)
        return false;
    while (len < sizeof got - 1) {
        ssize_t n = read(fd, got + len, sizeof got - 1 - len);
        if (n <= 0)
            return false;
        len += (size_t)n;
        got[len] = '\0';
        if (strstr(got, "\r\n\r\nhello") != NULL || strstr(got, "out of buffers\n") != NULL)
            return true;
    }
    return false;
}

static void *asker_main(void *context)
{
    struct asker *asker = context;
    for (int round = 0; round < 4; round++) {
        int fd = socket(asker->addr.any.sa_family, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, &asker->addr.any, asker->addr.len) != 0)
            return NULL;
        for (int i = 0; i < REQUESTS / 4 && ask_once(fd); i++)
            asker->answered++;
        close(fd);
    }
    return NULL;
}

// ---- flags: each table has an image of its own, which is gone once no worker can see it ----

enum { COUNTERS = 16 };

struct owned_set {
    struct flags_image view;
    uint8_t *image;
    _Atomic uint64_t counts[WORKERS][COUNTERS];
    struct flags_tally tallies[WORKERS];
};

static uint64_t sets_made, sets_released, evaluated;

static void set_release(void *context)
{
    struct owned_set *set = context;
    for (int i = 0; i < WORKERS; i++)
        for (uint32_t k = 0; k < COUNTERS; k++)
            evaluated += flags_tally_read(&set->tallies[i], k);
    memset(set->image, 0xff, fixture.len);
    heap_free(set->image);
    heap_free(set);
    sets_released++;
}

static void set_make(uint32_t share, struct proxy_table_plan *plan)
{
    struct flags_bundle_document document = {
        .json = SLICE("{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"a\":1,\"b\":2},"
                      "\"defaultVariant\":\"a\"}}}"),
        .name = "test"};
    struct flags_patch patch = {.key = SLICE("f"),
                                .split = true,
                                .split_from = SLICE("a"),
                                .split_to = SLICE("b"),
                                .split_share = share};
    struct flags_bundle bundle = {
        .documents = &document, .document_count = 1, .patches = &patch, .patch_count = 1};
    struct owned_set *set = heap_alloc(1, sizeof *set);
    assert_non_null(set);
    assert_int_equal(fixture_compile_bundle(&fixture, &bundle), STATUS_OK);
    set->image = heap_alloc_aligned((fixture.len + 63) & ~(size_t)63);
    assert_non_null(set->image);
    memcpy(set->image, fixture.image, fixture.len);
    assert_int_equal(flags_image_open(set->image, fixture.len, &set->view), STATUS_OK);
    for (int i = 0; i < WORKERS; i++)
        set->tallies[i] = (struct flags_tally){set->counts[i], COUNTERS};
    plan->flags = &set->view;
    plan->tallies = set->tallies;
    plan->flags_release = set_release;
    plan->flags_context = set;
    sets_made++;
}

// ---- the test ----

static bool with_flags;

// The stable version of each table has a slot that nobody counts into any more, where there is one.
enum { SLOTS = 4, CANARY_SLOT = 1 };
static uint16_t stable_slot;
static uint64_t named[SLOTS]; // the newest table that has it
static uint64_t forgotten, forgotten_versions;

static uint64_t requests_of(const struct proxy *proxy, uint16_t slot)
{
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(proxy, slot, counts);
    return counts[PROXY_VERSION_REQUESTS];
}

static void next_version(struct proxy *proxy, uint64_t table)
{
    uint64_t acknowledged = proxy_acknowledged(proxy);
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        if (slot == CANARY_SLOT || named[slot] >= acknowledged || !proxy_version_over(proxy, slot))
            continue;
        forgotten += requests_of(proxy, slot);
        forgotten_versions += requests_of(proxy, slot) > 0;
        proxy_version_forget(proxy, slot);
        stable_slot = slot;
        break;
    }
    named[stable_slot] = table;
}

static struct proxy_table *make_table(const struct io_addr *to, uint64_t version, uint32_t weight)
{
    static const char *const FLAGS[] = {"f"};
    static const struct proxy_flag_header_plan HEADER = {"X-Flags", FLAGS, 1};
    static const struct proxy_attribute_plan PATH = {"path", PROXY_ATTRIBUTE_PATH, NULL};
    struct proxy_endpoint_plan endpoints[2] = {{.slot = 0, .addr = *to}, {.slot = 1, .addr = *to}};
    struct proxy_version_plan versions[2] = {
        {.slot = stable_slot, .name = "v1", .endpoints = &endpoints[0], .endpoint_count = 1},
        {.slot = CANARY_SLOT, .name = "v2", .endpoints = &endpoints[1], .endpoint_count = 1}};
    struct proxy_service_plan service = {.name = "s",
                                         .versions = versions,
                                         .version_count = 2,
                                         .canary = 1,
                                         .control = PROXY_VERSION_NONE,
                                         .weight = weight};
    struct proxy_route_plan route = {0};
    struct proxy_table_plan plan = {
        .version = version, .services = &service, .service_count = 1, .routes = &route, .route_count = 1};
    if (with_flags) {
        set_make(weight, &plan);
        service.flag_headers = &HEADER;
        service.flag_header_count = 1;
        service.arm_flag = FLAGS[0];
        service.key = &PATH;
        service.attributes = &PATH;
        service.attribute_count = 1;
    }
    struct proxy_table *table;
    struct fault why;
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_OK);
    return table;
}

static uint64_t gathered, completed;

static void gather(struct proxy *proxy)
{
    struct rollout_span_delta out[64];
    bool more = true;
    while (more) {
        uint32_t told = proxy_gather_spans(proxy, 0, out, ARRAY_LEN(out), &more);
        for (uint32_t i = 0; i < told; i++)
            for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
                gathered += out[i].arms[arm].routed;
                completed += out[i].arms[arm].completed + out[i].arms[arm].excused;
            }
    }
}

static bool all_finished(struct asker *askers)
{
    // pthread_tryjoin_np tells without waiting; joined ones are marked by a zero thread.
    bool all = true;
    for (int i = 0; i < CLIENTS; i++) {
        if (askers[i].thread != 0 && pthread_tryjoin_np(askers[i].thread, NULL) == 0)
            askers[i].thread = 0;
        all &= askers[i].thread == 0;
    }
    return all;
}

static void publish_and_gather(struct proxy *proxy, const struct io_addr *to, struct asker *askers)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    struct stats_histogram latency;
    for (uint64_t version = 2; version < 100 || !all_finished(askers); version++) {
        next_version(proxy, version);
        assert_int_equal(proxy_publish(proxy, make_table(to, version, (uint32_t)(version * 997 % 100001))),
                         STATUS_OK);
        gather(proxy);
        proxy_version_latency(proxy, 0, &latency);
        (void)proxy_clients_open(proxy);
        nanosleep(&pause, NULL);
        assert_true(version < 30000);
    }
}

static void run(enum io_kind kind, uint32_t bufs_max)
{
    struct origin origin = {0};
    origin_start(&origin);
    struct io_addr listen;
    assert_int_equal(io_addr_parse("127.0.0.1:0", &listen), STATUS_OK);
    struct proxy_config config = {.io = kind,
                                  .workers = WORKERS,
                                  .listen = &listen,
                                  .listen_count = 1,
                                  .bufs_max = bufs_max,
                                  .seed = 1};
    struct proxy *proxy;
    assert_int_equal(proxy_create(&config, &proxy), STATUS_OK);
    memset(named, 0, sizeof named);
    next_version(proxy, 1);
    assert_int_equal(proxy_publish(proxy, make_table(&origin.addr, 1, 50000)), STATUS_OK);
    assert_int_equal(proxy_start(proxy), STATUS_OK);
    gathered = completed = forgotten = forgotten_versions = 0;
    struct asker askers[CLIENTS] = {0};
    for (int i = 0; i < CLIENTS; i++) {
        proxy_listen_addr(proxy, 0, &askers[i].addr);
        assert_int_equal(pthread_create(&askers[i].thread, NULL, asker_main, &askers[i]), 0);
    }
    publish_and_gather(proxy, &origin.addr, askers);
    proxy_drain(proxy);
    proxy_stop(proxy);
    gather(proxy);
    uint64_t answered = 0;
    for (int i = 0; i < CLIENTS; i++)
        answered += askers[i].answered;
    if (bufs_max == 0) // else some connections were closed for want of a buffer
        assert_int_equal(answered, CLIENTS * REQUESTS);
    assert_true(answered >= CLIENTS);
    assert_true(gathered >= answered);
    assert_int_equal(completed, gathered);
    uint64_t routed = forgotten;
    for (uint16_t slot = 0; slot < SLOTS; slot++)
        routed += requests_of(proxy, slot);
    assert_int_equal(routed, gathered);
    assert_true(forgotten_versions > 0);
    proxy_destroy(proxy);
    origin_stop(&origin);
}

TEST(on_epoll)
{
    run(IO_KIND_EPOLL, 0);
}

TEST(on_uring)
{
    struct fault why;
    if (!io_uring_available(&why)) {
        print_message("SKIPPED: io_uring is not available here: %s\n", why.text);
        return;
    }
    run(IO_KIND_URING, 0);
}

// Sets come and go with their tables while every request is evaluated by one.
TEST(flags_swapped)
{
    with_flags = true;
    sets_made = sets_released = evaluated = 0;
    run(IO_KIND_EPOLL, 0);
    with_flags = false;
    assert_true(sets_made >= 99);
    assert_int_equal(sets_released, sets_made);
    assert_int_equal(evaluated, CLIENTS * REQUESTS); // one flag, asked once a request
}

// Fewer buffers than requests: refusals and waiting, but no standstill and nothing lost.
TEST(few_buffers)
{
    for (uint32_t bufs_max = 3; bufs_max <= 12; bufs_max += 3)
        run(IO_KIND_EPOLL, bufs_max);
}

// An address that is taken is told by start, and the proxy may be started elsewhere or thrown away.
TEST(start_fails_cleanly)
{
    struct io_addr taken;
    struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL};
    struct io_loop *loop;
    struct io_listener listener = {.on_accept = origin_accept};
    assert_int_equal(io_loop_create(&loop_config, &loop), STATUS_OK);
    assert_int_equal(io_addr_parse("127.0.0.1:0", &taken), STATUS_OK);
    assert_int_equal(io_listener_open(loop, &listener, &taken, false), STATUS_OK);
    io_listener_addr(&listener, &taken);
    struct proxy_config config = {.io = IO_KIND_EPOLL, .workers = 2, .listen = &taken, .listen_count = 1};
    struct proxy *proxy;
    assert_int_equal(proxy_create(&config, &proxy), STATUS_OK);
    assert_int_equal(proxy_start(proxy), STATUS_IN_USE);
    io_listener_close(&listener);
    assert_int_equal(proxy_start(proxy), STATUS_OK);
    proxy_stop(proxy);
    proxy_destroy(proxy);
    assert_int_equal(io_loop_turn(loop, 0), STATUS_OK);
    io_loop_destroy(loop);
}
