// SPDX-License-Identifier: Apache-2.0
// Sources over HTTP against a small server in this process: tags, failures, junk, too much, and silence.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "flagset_world.h"
#include "test.h"

enum { BODY_BYTES = 4096, HELD_MAX = 64 };

// ---- the server: one thread, one request per connection ----

struct server {
    int listener;
    uint16_t port;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock;
    // Under the lock.
    const char *status; // "200 OK"; NULL: accept and never answer
    const char *fields; // each with its line end
    char body[BODY_BYTES];
    char tag[32];
    char request[4096]; // the last one
    uint32_t requests;
    uint32_t unchanged; // answered 304
    int held[HELD_MAX]; // connections that wait for ever
    uint32_t held_count;
};

static bool has_tag(const struct server *server)
{
    char field[64];
    (void)snprintf(field, sizeof field, "If-None-Match: %s\r\n", server->tag);
    return server->tag[0] != '\0' && strstr(server->request, field) != NULL;
}

static void answer(struct server *server, int fd)
{
    char head[8192];
    bool same = has_tag(server) && strncmp(server->status, "200", 3) == 0;
    server->unchanged += same;
    int len = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nConnection: close\r\n%s%s%s%s\r\n%s",
                       same ? "304 Not Modified" : server->status, server->fields,
                       server->tag[0] != '\0' ? "ETag: " : "", server->tag,
                       server->tag[0] != '\0' ? "\r\n" : "", same ? "" : server->body);
    CHECK(send(fd, head, (size_t)len, MSG_NOSIGNAL) == len || len >= (int)sizeof head);
    (void)close(fd);
}

static void serve_one(struct server *server, int fd)
{
    char request[sizeof server->request];
    size_t len = 0;
    while (len + 1 < sizeof request) {
        ssize_t n = recv(fd, request + len, sizeof request - len - 1, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        request[len] = '\0';
        if (strstr(request, "\r\n\r\n") != NULL)
            break;
    }
    request[len] = '\0';
    pthread_mutex_lock(&server->lock);
    memcpy(server->request, request, len + 1);
    server->requests++;
    if (server->status != NULL) {
        answer(server, fd);
    } else {
        CHECK(server->held_count < HELD_MAX);
        server->held[server->held_count++] = fd;
    }
    pthread_mutex_unlock(&server->lock);
}

static void *serve(void *context)
{
    struct server *server = context;
    while (!atomic_load(&server->stop)) {
        struct pollfd fds = {.fd = server->listener, .events = POLLIN};
        if (poll(&fds, 1, 20) <= 0)
            continue;
        int fd = accept(server->listener, NULL, NULL);
        if (fd >= 0)
            serve_one(server, fd);
    }
    return NULL;
}

static void server_open(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    *server = (struct server){.lock = PTHREAD_MUTEX_INITIALIZER, .status = "200 OK", .fields = ""};
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->listener >= 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server->listener, 64), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &len), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_close(struct server *server)
{
    atomic_store(&server->stop, true);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    for (uint32_t i = 0; i < server->held_count; i++)
        (void)close(server->held[i]);
    (void)close(server->listener);
}

static void say(struct server *server, const char *status, const char *fields, const char *tag,
                const char *body)
{
    pthread_mutex_lock(&server->lock);
    server->status = status;
    server->fields = fields;
    (void)snprintf(server->tag, sizeof server->tag, "%s", tag);
    (void)snprintf(server->body, sizeof server->body, "%s", body);
    pthread_mutex_unlock(&server->lock);
}

static uint32_t count_of(struct server *server, const uint32_t *number)
{
    pthread_mutex_lock(&server->lock);
    uint32_t count = *number;
    pthread_mutex_unlock(&server->lock);
    return count;
}

// ---- the tests ----

static struct flagset_world world;
static struct server server;
static char url[128];

static int setup(void **state)
{
    (void)state;
    world_open(&world);
    server_open(&server);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/flags.json", server.port);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&world);
    server_close(&server);
    return 0;
}

EACH_TEST(setup, teardown);

static enum status create(const char *token_file)
{
    struct flagset_source source = {
        .kind = FLAGSET_HTTP, .name = url, .every_ms = 40, .token_file = token_file};
    return world_create(&world, &source, 1);
}

static struct flagset_source_state state_now(void)
{
    struct flagset_source_state state;
    flagset_source_get(world.set, 0, &state);
    return state;
}

TEST(tags_spare_the_body)
{
    say(&server, "200 OK", "", "\"v1\"", SET(FLAG("a", "on")));
    assert_int_equal(create(NULL), STATUS_OK);
    assert_string_equal(variant_now(&world, "a"), "on");
    UNTIL(&world, count_of(&server, &server.unchanged) >= 3);
    assert_int_equal(world.snapshots, 0);
    assert_true(state_now().good);
    say(&server, "200 OK", "", "\"v2\"", SET(FLAG("a", "off")));
    UNTIL(&world, strcmp(variant_now(&world, "a"), "off") == 0);
    assert_int_equal(world.snapshots, 1);
    assert_non_null(strstr(server.request, "User-Agent: sluice/"));
}

TEST(failures_keep_the_last_good)
{
    say(&server, "200 OK", "", "\"v1\"", SET(FLAG("a", "on")));
    assert_int_equal(create(NULL), STATUS_OK);
    say(&server, "500 Oops", "", "", "");
    UNTIL(&world, !state_now().good);
    assert_non_null(strstr(state_now().problem, "answered 500"));
    assert_non_null(strstr(first_problem(&world), "answered 500"));
    assert_string_equal(variant_now(&world, "a"), "on");
    uint32_t notes = world.notes;
    uint32_t requests = count_of(&server, &server.requests);
    UNTIL(&world, count_of(&server, &server.requests) >= requests + 2);
    turn_for(&world, 30);
    assert_int_equal(world.notes, notes); // told once
    say(&server, "200 OK", "", "\"v1\"", SET(FLAG("a", "on")));
    UNTIL(&world, state_now().good);
    say(&server, "304 Not Modified", "", "", "");
    turn_for(&world, 100);
    assert_true(state_now().good);
}

TEST(junk_is_refused_with_its_place)
{
    char expected[200];
    say(&server, "200 OK", "", "\"v1\"", SET(FLAG("a", "on")));
    assert_int_equal(create(NULL), STATUS_OK);
    say(&server, "200 OK", "", "\"v2\"", "<html>\n");
    (void)snprintf(expected, sizeof expected, "%s:1:1: expected an object or an array", url);
    UNTIL(&world, !state_now().good);
    assert_string_equal(state_now().problem, expected);
    assert_true(flagset_refused(world.set));
    assert_string_equal(variant_now(&world, "a"), "on");
    say(&server, "200 OK", "", "\"v3\"", "{\"flags\":\n {" FLAG("a", "red") "}}");
    UNTIL(&world, strstr(state_now().problem, ":2:79: flag 'a': defaultVariant names no variant") != NULL);
    say(&server, "200 OK", "", "\"v4\"", SET(FLAG("a", "off")));
    UNTIL(&world, state_now().good);
    assert_string_equal(variant_now(&world, "a"), "off");
    assert_false(flagset_refused(world.set));
}

TEST(too_much_is_refused)
{
    say(&server, "200 OK", "", "\"v1\"", SET(FLAG("a", "on")));
    assert_int_equal(create(NULL), STATUS_OK);
    say(&server, "200 OK", "Content-Length: 300000000\r\n", "\"v2\"", SET(FLAG("a", "off")));
    UNTIL(&world, !state_now().good);
    assert_non_null(strstr(state_now().problem, "is larger than 256 MiB"));
    assert_string_equal(variant_now(&world, "a"), "on");
}

TEST(a_server_may_be_away_at_the_start)
{
    say(&server, "503 Later", "", "", "");
    assert_int_equal(create(NULL), STATUS_OK);
    assert_false(state_now().good);
    assert_int_equal(state_now().read_ms, 0);
    assert_int_equal(flags_image_flag_count(&flagset_current(world.set)->all.set), 0);
    say(&server, "200 OK", "", "", SET(FLAG("a", "on")));
    UNTIL(&world, strcmp(variant_now(&world, "a"), "on") == 0);
    assert_true(state_now().good);
}

// A server that never answers delays neither a file nor a kill.
TEST(silence_delays_nobody)
{
    const char *path = world_path(&world, "a.json");
    write_at(path, SET(FLAG("a", "on")));
    say(&server, "200 OK", "", "", SET(FLAG("b", "on")));
    struct flagset_source sources[] = {
        {.kind = FLAGSET_HTTP, .name = url, .every_ms = 20},
        {.kind = FLAGSET_FILE, .name = path},
    };
    assert_int_equal(world_create(&world, sources, 2), STATUS_OK);
    say(&server, NULL, "", "", "");
    UNTIL(&world, count_of(&server, &server.held_count) == 1);
    uint64_t begin_ms = now_ms();
    struct flags_patch patch = {.key = SLICE("a"), .kill = true, .kill_variant = SLICE("off")};
    assert_int_equal(flagset_overlay(world.set, SLICE(""), &patch, 1, 1), STATUS_OK);
    UNTIL(&world, strcmp(variant_now(&world, "a"), "off") == 0);
    write_at(path, SET(FLAG("a", "on") "," FLAG("c", "on")));
    UNTIL(&world, strcmp(variant_now(&world, "c"), "on") == 0);
    assert_true(now_ms() - begin_ms < 5000);
    assert_string_equal(variant_now(&world, "b"), "on");
    assert_string_equal(variant_now(&world, "a"), "off");
    assert_int_equal(count_of(&server, &server.held_count), 1);
}

TEST(tokens_come_from_a_file)
{
    const char *path = world_path(&world, "token");
    write_at(path, "first-token\nnot this\n");
    say(&server, "200 OK", "", "", SET(FLAG("a", "on")));
    assert_int_equal(create(path), STATUS_OK);
    assert_non_null(strstr(server.request, "Authorization: Bearer first-token\r\n"));
    write_at(path, "second-token\n");
    uint32_t requests = count_of(&server, &server.requests);
    UNTIL(&world, count_of(&server, &server.requests) >= requests + 2);
    assert_non_null(strstr(server.request, "Authorization: Bearer second-token\r\n"));
    write_at(path, "two words\n");
    UNTIL(&world, !state_now().good);
    assert_non_null(strstr(state_now().problem, "no token can be read from"));
}

TEST(only_http)
{
    static char location[200];
    write_at(world_path(&world, "secret.json"), SET(FLAG("stolen", "on")));
    (void)snprintf(location, sizeof location, "Location: file://%s\r\n", world_path(&world, "secret.json"));
    say(&server, "302 Found", location, "", "");
    assert_int_equal(create(NULL), STATUS_OK);
    assert_false(state_now().good);
    assert_string_equal(variant_now(&world, "stolen"), "!FLAG_NOT_FOUND");
    // Round and round.
    (void)snprintf(location, sizeof location, "Location: %s\r\n", url);
    uint32_t requests = count_of(&server, &server.requests);
    UNTIL(&world, count_of(&server, &server.requests) >= requests + FLAGSET_SOURCES_MAX / 16);
    UNTIL(&world, strstr(state_now().problem, "redirects") != NULL);
}
