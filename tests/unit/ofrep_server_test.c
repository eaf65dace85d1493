// SPDX-License-Identifier: Apache-2.0
// ofrep over sockets: threads, publishing, streams that are told of a change, tokens reloaded, bodies that
// are too large, and an end with everything still open. Flag sets, tokens and server are the real ones.
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/ofrep/ofrep.h"
#include "test.h"

#define BULK "/ofrep/v1/evaluate/flags"
#define ALICE "{\"context\":{\"targetingKey\":\"alice\"}}"

enum { READERS = 4, ANSWER_BYTES = 1 << 17 };

// ---- flags ----

struct world {
    struct io_loop *loop;
    struct flagset *set;
    struct ofrep *ofrep;
    struct io_addr addr;
};

static char set_text[1024];

static struct flagset_source source_of(const char *default_variant)
{
    int len = snprintf(set_text, sizeof set_text,
                       "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
                       "\"defaultVariant\":\"%s\"}},\"metadata\":{\"flagSetId\":\"shop\"}}",
                       default_variant);
    return (struct flagset_source){.kind = FLAGSET_INLINE, .name = "inline", .json = {set_text, (size_t)len}};
}

static void on_changed(void *context, const struct flagset_snapshot *snapshot)
{
    (void)context;
    (void)snapshot;
}

static uint32_t rate;      // of the worlds opened from now on
static bool ready_at_once; // likewise: there is a set from the beginning

static void world_open(struct world *world, const char *tokens, uint32_t threads)
{
    struct fault fault = {.text = ""};
    struct io_loop_config loop = {.kind = IO_KIND_EPOLL};
    struct flagset_source source = source_of("on");
    struct fault problems[FLAGSET_PROBLEMS_MAX];
    uint32_t problem_count;
    struct ofrep_config config = {.threads = threads,
                                  .io = IO_KIND_AUTO,
                                  .tokens = tokens,
                                  .exposures = true,
                                  .first_reader = 1,
                                  .rate = rate,
                                  .burst = 5};
    *world = (struct world){0};
    assert_int_equal(io_loop_create(&loop, &world->loop), STATUS_OK);
    struct flagset_config set = {.loop = world->loop,
                                 .sources = &source,
                                 .source_count = 1,
                                 .segments = {"", 0},
                                 .reader_count = READERS,
                                 .changed = on_changed};
    assert_int_equal(flagset_create(&set, &world->set, problems, &problem_count), STATUS_OK);
    config.snapshot = ready_at_once ? flagset_current(world->set) : NULL;
    assert_int_equal(io_addr_parse("127.0.0.1:0", &config.addr), STATUS_OK);
    enum status status = ofrep_start(&config, &world->ofrep, &fault);
    if (status != STATUS_OK)
        fail_msg("ofrep_start: %s %s", status_name(status), fault.text);
    ofrep_addr(world->ofrep, &world->addr);
}

static void world_close(struct world *world)
{
    ofrep_stop(world->ofrep);
    flagset_destroy(world->set);
    io_loop_destroy(world->loop);
}

// Another set in force, as control would do it.
static void change(struct world *world, const char *default_variant)
{
    struct flagset_source source = source_of(default_variant);
    uint64_t version = flagset_current(world->set)->version;
    flagset_reconfigure(world->set, &source, 1, (struct slice){"", 0});
    for (int i = 0; i < 6000 && flagset_current(world->set)->version == version; i++)
        (void)!io_loop_turn(world->loop, 10000);
    assert_true(flagset_current(world->set)->version > version);
    ofrep_publish(world->ofrep, flagset_current(world->set));
}

// ---- a client ----

static int dial(const struct world *world)
{
    int fd = socket(world->addr.any.sa_family, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = 60};
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, &world->addr.any, world->addr.len), 0);
    return fd;
}

// A receive with a timeout is not begun again by itself after io_uring has woken the thread for its own work.
static ssize_t receive(int fd, void *out, size_t cap)
{
    ssize_t n;
    do
        n = recv(fd, out, cap, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

static void send_text(int fd, const char *text)
{
    size_t len = strlen(text);
    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void send_request(int fd, const char *method, const char *target, const char *headers,
                         const char *body)
{
    char text[4096];
    snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s", method,
             target, headers, strlen(body), body);
    send_text(fd, text);
}

// Reads until `wanted` stands in what came; the whole of it is returned.
static const char *read_until(int fd, const char *wanted)
{
    static char text[ANSWER_BYTES];
    size_t len = 0;
    text[0] = '\0';
    while (strstr(text, wanted) == NULL) {
        ssize_t n = receive(fd, text + len, sizeof text - 1 - len);
        if (n <= 0)
            fail_msg("waiting for \"%s\" got \"%s\"", wanted, text);
        len += (size_t)n;
        text[len] = '\0';
    }
    return text;
}

// One answer with a length; its status, and its text from head to end.
static unsigned read_answer(int fd, char *text, size_t cap)
{
    size_t len = 0;
    size_t need = SIZE_MAX;
    text[0] = '\0';
    while (len < need) {
        ssize_t n = receive(fd, text + len, need == SIZE_MAX ? 1 : need - len);
        if (n <= 0)
            fail_msg("the connection ended within an answer (%zd, %s): %s", n, strerror(errno), text);
        len += (size_t)n;
        CHECK(len < cap);
        text[len] = '\0';
        if (need == SIZE_MAX && len > 4 && strcmp(text + len - 4, "\r\n\r\n") == 0) {
            const char *field = strstr(text, "Content-Length: ");
            need = len + (field != NULL ? strtoul(field + 16, NULL, 10) : 0);
        }
    }
    return (unsigned)strtoul(text + 9, NULL, 10);
}

static unsigned ask(int fd, const char *method, const char *target, const char *headers, const char *body,
                    char *text)
{
    send_request(fd, method, target, headers, body);
    return read_answer(fd, text, ANSWER_BYTES);
}

static char answer[ANSWER_BYTES];

// Until every thread says it: connections spread over them as the kernel likes.
static void await_ready(const struct world *world)
{
    for (int i = 0; i < 64; i++) {
        int fd = dial(world);
        unsigned status = 0;
        for (int tries = 0; tries < 60000 && status != 200; tries++) {
            status = ask(fd, "GET", "/readyz", "", "", answer);
            if (status != 200)
                usleep(1000);
        }
        assert_int_equal(status, 200);
        close(fd);
    }
}

// The envelope's zero bytes end a text, so the message is waited for by its length.
static void read_event(int fd, const char *wanted)
{
    char bytes[600];
    size_t got = 0;
    while (memmem(bytes, got, wanted, strlen(wanted)) == NULL) {
        ssize_t n = receive(fd, bytes + got, sizeof bytes - got);
        assert_true(n > 0);
        got += (size_t)n;
    }
}

static void open_events(int fd)
{
    send_text(fd, "POST /flagd.evaluation.v1.Service/EventStream HTTP/1.1\r\nHost: x\r\n"
                  "Content-Type: application/connect+json\r\nContent-Length: 7\r\n\r\n");
    assert_int_equal(send(fd, "\0\0\0\0\2{}", 7, MSG_NOSIGNAL), 7);
    read_event(fd, "provider_ready\"}");
}

// ---- cases ----

TEST(ready_and_change)
{
    struct world world;
    struct ofrep_stats stats;
    struct ofrep_exposure exposures[16];
    char tag[64];
    char headers[128];
    world_open(&world, NULL, 2);
    int fd = dial(&world);
    assert_int_equal(ask(fd, "POST", BULK "/f", "", ALICE, answer), 503);
    assert_non_null(strstr(answer, "PROVIDER_NOT_READY"));
    ofrep_publish(world.ofrep, flagset_current(world.set));
    await_ready(&world);
    assert_int_equal(ask(fd, "POST", BULK "/f", "", ALICE, answer), 200);
    assert_non_null(strstr(answer, "\"reason\":\"STATIC\",\"variant\":\"on\",\"value\":true"));
    assert_int_equal(ask(fd, "POST", BULK, "", ALICE, answer), 200);
    const char *at = strstr(answer, "ETag: ");
    assert_non_null(at);
    snprintf(tag, sizeof tag, "%.18s", at + 6);
    snprintf(headers, sizeof headers, "If-None-Match: %s\r\n", tag);
    assert_int_equal(ask(fd, "POST", BULK, headers, ALICE, answer), 304);
    // Two at once on one connection.
    send_request(fd, "POST", BULK "/f", "", ALICE);
    send_request(fd, "POST", BULK "/none", "", ALICE);
    assert_int_equal(read_answer(fd, answer, sizeof answer), 200);
    assert_int_equal(read_answer(fd, answer, sizeof answer), 404);
    // A change: told to streams only when every thread answers by it.
    int events = dial(&world);
    int refetch = dial(&world);
    send_request(refetch, "GET", "/ofrep/v1/stream", "", "");
    (void)read_until(refetch, "\n\n");
    open_events(events);
    change(&world, "off");
    const char *event = read_until(refetch, "refetchEvaluation");
    assert_non_null(strstr(event, "id: "));
    for (int i = 0; i < 32; i++) {
        int other = dial(&world);
        assert_int_equal(ask(other, "POST", BULK "/f", "", ALICE, answer), 200);
        assert_non_null(strstr(answer, "\"variant\":\"off\""));
        close(other);
    }
    assert_int_equal(ask(fd, "POST", BULK, headers, ALICE, answer), 200);
    read_event(events, "\"f\":{\"type\":\"update\"}");
    ofrep_stats_get(world.ofrep, &stats);
    assert_true(stats.evaluations >= 37 && stats.errors == 1 && stats.requests >= 100);
    assert_true(ofrep_exposures_take(world.ofrep, exposures, 16) >= 2);
    // Streams and connections are still open.
    world_close(&world);
    close(fd);
    close(events);
    close(refetch);
}

// The set from the beginning is what the first change is compared with, and the end is told.
TEST(first_change)
{
    struct world world;
    ready_at_once = true;
    world_open(&world, NULL, 2);
    ready_at_once = false;
    int events = dial(&world);
    open_events(events);
    change(&world, "off");
    read_event(events, "{\"flags\":{\"f\":{\"type\":\"update\"}}}");
    world_close(&world);
    read_event(events, "\"code\":\"unavailable\"");
    close(events);
}

TEST(too_large)
{
    struct world world;
    world_open(&world, NULL, 1);
    ofrep_publish(world.ofrep, flagset_current(world.set));
    await_ready(&world);
    int fd = dial(&world);
    // 10 MiB said, none sent: refused without waiting for them.
    send_text(fd, "POST " BULK "/f HTTP/1.1\r\nHost: x\r\nContent-Length: 10485760\r\n\r\n");
    assert_int_equal(read_answer(fd, answer, sizeof answer), 413);
    close(fd);
    world_close(&world);
}

// A client's bucket is one for all its connections, whichever thread has them.
TEST(rate)
{
    struct world world;
    uint32_t limited = 0;
    rate = 1;
    world_open(&world, NULL, 2);
    rate = 0;
    ofrep_publish(world.ofrep, flagset_current(world.set));
    await_ready(&world);
    for (int i = 0; i < 16; i++) {
        int fd = dial(&world);
        unsigned status = ask(fd, "POST", BULK "/f", "", ALICE, answer);
        assert_true(status == 200 || (status == 429 && strstr(answer, "Retry-After: 1\r\n") != NULL));
        limited += status == 429;
        close(fd);
    }
    assert_in_range(limited, 16 - 5 - 5, 16 - 5);
    world_close(&world);
}

static void write_tokens(const char *path, const char *line)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "# tokens\n%s\n", line);
    fclose(file);
    assert_int_equal(chmod(path, 0600), 0);
}

TEST(tokens)
{
    char path[] = "/tmp/sluice_ofrep_tokens_XXXXXX";
    struct fault fault = {.text = ""};
    char secret[TOKENS_SECRET_BYTES];
    char line[400];
    char bearer[200];
    struct world world;
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(tokens_make("web", TOKEN_READ, "shop", secret, line, sizeof line), STATUS_OK);
    write_tokens(path, line);
    world_open(&world, path, 1);
    ofrep_publish(world.ofrep, flagset_current(world.set));
    await_ready(&world);
    int fd = dial(&world);
    snprintf(bearer, sizeof bearer, "Authorization: Bearer %s\r\n", secret);
    assert_int_equal(ask(fd, "POST", BULK "/f", "", ALICE, answer), 401);
    assert_int_equal(ask(fd, "POST", BULK "/f", bearer, ALICE, answer), 200);
    assert_non_null(strstr(answer, "\"variant\":\"on\""));
    int stream = dial(&world);
    send_request(stream, "GET", "/ofrep/v1/stream", bearer, "");
    (void)read_until(stream, "retry: 2000");
    // A broken file changes nothing.
    write_tokens(path, "no token");
    assert_int_equal(ofrep_reload_tokens(world.ofrep, path, &fault), STATUS_INVALID);
    assert_string_not_equal(fault.text, "");
    assert_int_equal(ask(fd, "POST", BULK "/f", bearer, ALICE, answer), 200);
    // Another token: the old one is out, and so are those who still listen by it.
    assert_int_equal(tokens_make("web", TOKEN_READ, "shop", secret, line, sizeof line), STATUS_OK);
    write_tokens(path, line);
    assert_int_equal(ofrep_reload_tokens(world.ofrep, path, &fault), STATUS_OK);
    while (receive(stream, answer, sizeof answer) > 0)
        ;
    assert_int_equal(ask(fd, "POST", BULK "/f", bearer, ALICE, answer), 401);
    snprintf(bearer, sizeof bearer, "Authorization: Bearer %s\r\n", secret);
    assert_int_equal(ask(fd, "POST", BULK "/f", bearer, ALICE, answer), 200);
    close(stream);
    close(fd);
    world_close(&world);
    struct ofrep_config config = {.threads = 1, .tokens = "/nonexistent/tokens", .addr = world.addr};
    struct ofrep *none;
    assert_int_equal(ofrep_start(&config, &none, &fault), STATUS_NOT_FOUND);
    unlink(path);
}

// ---- many at once ----

struct hammer {
    const struct world *world;
    _Atomic bool stop;
    _Atomic uint64_t answers;
    bool failed;
};

static void *hammer_main(void *argument)
{
    struct hammer *hammer = argument;
    char *text = calloc(1, ANSWER_BYTES);
    CHECK(text != NULL);
    while (!atomic_load(&hammer->stop)) {
        int fd = dial(hammer->world);
        for (int i = 0; i < 20; i++) {
            unsigned status = ask(fd, "POST", BULK "/f", "", ALICE, text);
            hammer->failed |= status != 200 || strstr(text, "\"reason\":\"STATIC\"") == NULL;
            atomic_fetch_add(&hammer->answers, 1);
        }
        close(fd);
    }
    free(text);
    return NULL;
}

TEST(publish_under_load)
{
    struct world world;
    pthread_t threads[2];
    struct hammer hammers[2];
    world_open(&world, NULL, 3);
    ofrep_publish(world.ofrep, flagset_current(world.set));
    await_ready(&world);
    for (int i = 0; i < 2; i++) {
        hammers[i] = (struct hammer){.world = &world};
        CHECK(pthread_create(&threads[i], NULL, hammer_main, &hammers[i]) == 0);
    }
    for (int i = 0; i < 30; i++)
        change(&world, i % 2 == 0 ? "off" : "on");
    for (int i = 0; i < 2; i++) {
        while (atomic_load(&hammers[i].answers) == 0)
            usleep(1000);
        atomic_store(&hammers[i].stop, true);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        assert_false(hammers[i].failed);
    }
    // What was counted in the snapshots is what was answered since the last of them.
    world_close(&world);
}

TEST(start_failures)
{
    struct fault fault = {.text = ""};
    struct ofrep_config config = {.threads = 0};
    struct ofrep *ofrep;
    struct world world;
    assert_int_equal(ofrep_start(&config, &ofrep, &fault), STATUS_RANGE);
    config.threads = OFREP_THREADS_MAX + 1;
    assert_int_equal(ofrep_start(&config, &ofrep, &fault), STATUS_RANGE);
    world_open(&world, NULL, 1);
    config.threads = 1;
    config.addr = world.addr;
    assert_int_equal(ofrep_start(&config, &ofrep, &fault), STATUS_IN_USE);
    // Every allocation of a start fails once.
    enum status status = STATUS_NO_MEMORY;
    assert_int_equal(io_addr_parse("127.0.0.1:0", &config.addr), STATUS_OK);
    config.threads = 2;
    config.rate = 10;
    for (long n = 0; status != STATUS_OK; n++) {
        heap_fail_after(n);
        status = ofrep_start(&config, &ofrep, &fault);
        heap_fail_after(-1);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
    }
    ofrep_stop(ofrep);
    world_close(&world);
}
