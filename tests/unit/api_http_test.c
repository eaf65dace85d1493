// SPDX-License-Identifier: Apache-2.0
// api: routes, methods and errors as a client sees them over a real socket; pages of other origins and
// rebound names are kept out; commands take effect; events begin with the present state; hostile bytes end in
// an answer or a close.
#include "targets_bench.h"
#include "test.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>

#include "daemon/api/api.h"
#include "exposition_check.h"
#include "ship/engine/engine_private.h"

struct server {
    struct bench bench;
    struct api *api;
    struct io_addr addr;
    char answer[1 << 19];
};

static void server_up(struct server *server)
{
    struct io_addr any;
    memset(server, 0, sizeof *server);
    assert_int_equal(bench_up(&server->bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(io_addr_parse("127.0.0.1:0", &any), STATUS_OK);
    assert_int_equal(api_create(server->bench.engine, &any, API_CONNECTIONS_MAX, NULL, &server->api),
                     STATUS_OK);
    api_addr(server->api, &server->addr);
}

static void server_down(struct server *server)
{
    api_close(server->api);
    while (!api_closed(server->api))
        assert_int_equal(io_loop_turn(server->bench.loop, 1000), STATUS_OK);
    api_destroy(server->api);
    bench_down(&server->bench);
    bench_forget(&server->bench);
}

static int dial(const struct server *server)
{
    int handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(handle, &server->addr.any, server->addr.len), 0);
    assert_int_equal(fcntl(handle, F_SETFL, O_NONBLOCK), 0);
    return handle;
}

// Sends bytes and gathers what comes until `until` is in it, the server closes, or twenty seconds pass.
static const char *talk(struct server *server, int handle, const char *bytes, size_t len, const char *until)
{
    assert_int_equal(send(handle, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
    size_t got = 0;
    uint64_t until_us = io_loop_clock_us(server->bench.loop) + 20000000;
    server->answer[0] = '\0';
    while (io_loop_clock_us(server->bench.loop) < until_us) {
        assert_int_equal(io_loop_turn(server->bench.loop, 2000), STATUS_OK);
        ssize_t n = recv(handle, server->answer + got, sizeof server->answer - got - 1, 0);
        if (n == 0)
            break;
        got += n > 0 ? (size_t)n : 0;
        server->answer[got] = '\0';
        if (until != NULL && strstr(server->answer, until) != NULL)
            break;
    }
    return server->answer;
}

static const char *ask(struct server *server, const char *line, const char *fields, const char *body)
{
    char request[2048];
    int len =
        snprintf(request, sizeof request,
                 "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
                 line, fields, strlen(body), body);
    int handle = dial(server);
    talk(server, handle, request, (size_t)len, NULL);
    close(handle);
    return server->answer;
}

static void expect(struct server *server, const char *line, const char *fields, const char *body,
                   const char *status, const char *part)
{
    const char *answer = ask(server, line, fields, body);
    if (strncmp(answer, status, strlen(status)) != 0 || strstr(answer, part) == NULL)
        fail_msg("%s: wanted %s and %s, got\n%.600s", line, status, part, answer);
}

static json_t *json_of(const char *answer)
{
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    json_error_t error;
    json_t *json = json_loads(body + 4, 0, &error);
    if (json == NULL)
        fail_msg("%s in %.600s", error.text, body);
    return json;
}

static struct server server;

TEST(routes_and_errors)
{
    server_up(&server);
    expect(&server, "GET /v1/status", "", "", "HTTP/1.1 200", "\"rollouts\"");
    expect(&server, "GET /v1/rollouts", "", "", "HTTP/1.1 200", "\"ship\"");
    expect(&server, "GET /v1/rollouts/ship", "", "", "HTTP/1.1 200", "\"Pending\"");
    expect(&server, "GET /v1/table", "", "", "HTTP/1.1 200", "\"shop\"");
    expect(&server, "GET /healthz", "", "", "HTTP/1.1 200", "");
    expect(&server, "GET /readyz", "", "", "HTTP/1.1 503", "listeners");
    routing_set_listening(server.bench.targets->routing, true);
    expect(&server, "GET /readyz", "", "", "HTTP/1.1 200", "true");
    expect(&server, "GET /v1/nothing", "", "", "HTTP/1.1 404", "\"error\"");
    expect(&server, "GET /v1/rollouts/shpi", "", "", "HTTP/1.1 404", "ship");
    expect(&server, "POST /v1/status", "", "", "HTTP/1.1 405", "Allow: GET");
    expect(&server, "GET /v1/rollouts/ship/start", "", "", "HTTP/1.1 405", "Allow: POST");
    expect(&server, "POST /v1/rollouts/ship/explode", "", "", "HTTP/1.1 404", "start");
    expect(&server, "POST /v1/rollouts/ship/start", "", "[1]", "HTTP/1.1 400", "JSON object");
    expect(&server, "POST /v1/rollouts/ship/pause", "", "", "HTTP/1.1 409", "not been started");
    server_down(&server);
}

TEST(commands_take_effect)
{
    server_up(&server);
    json_t *started = json_of(ask(&server, "POST /v1/rollouts/ship/start", "", "{\"who\": \"ann\"}"));
    assert_string_equal(json_string_value(json_object_get(started, "state")), "Shifting");
    json_decref(started);
    json_t *view = json_of(ask(&server, "GET /v1/rollouts/ship", "", ""));
    const char *verdict = json_string_value(json_object_get(json_object_get(view, "verdict"), "text"));
    assert_non_null(strstr(verdict, "by ann"));
    json_decref(view);
    expect(&server, "POST /v1/rollouts/ship/start", "", "", "HTTP/1.1 200",
           "\"already\":\"nothing to do: the rollout has been started already");
    expect(&server, "POST /v1/rollouts/ship/promote", "", "", "HTTP/1.1 200", "0.5");
    expect(&server, "POST /v1/rollouts/ship/promote", "", "", "HTTP/1.1 200", "AwaitingApproval");
    expect(&server, "POST /v1/rollouts/ship/approve", "", "{\"who\": \"bob\"}", "HTTP/1.1 403",
           "is for ann to give, not for bob");
    expect(&server, "POST /v1/rollouts/ship/abort", "", "", "HTTP/1.1 200", "RollingBack");
    expect(&server, "GET /v1/rollouts/ship/history", "", "", "HTTP/1.1 200", "ABORTED");
    json_t *history = json_of(ask(&server, "GET /v1/rollouts/ship/history", "", ""));
    const json_t *decision;
    size_t i;
    json_array_foreach(json_object_get(history, "decisions"), i, decision)
        assert_true(json_integer_value(json_object_get(decision, "time_ms")) > 0);
    assert_true(i >= 4);
    json_decref(history);
    server_down(&server);
}

// Attempts that retries hid count for the verdict; what people see is a share of requests, never above all.
TEST(error_rate_is_of_requests)
{
    server_up(&server);
    json_decref(json_of(ask(&server, "POST /v1/rollouts/ship/start", "", "")));
    struct engine_record *record = engine_rollout_find(server.bench.engine, "ship")->record;
    static const struct engine_arm_sum sums[] = {{10, 8, 4, 24}, {10, 8, 9, 24}, {10, 8, 0, 4}};
    static const double rates[] = {0.5, 1.0, 0.5};
    for (size_t i = 0; i < ARRAY_LEN(sums); i++) {
        record->arms[ROLLOUT_ARM_CANARY] = sums[i];
        json_t *view = json_of(ask(&server, "GET /v1/rollouts/ship", "", ""));
        const json_t *arm = json_object_get(json_object_get(view, "arms"), "canary");
        assert_true(json_number_value(json_object_get(arm, "error_rate")) == rates[i]);
        assert_int_equal(json_integer_value(json_object_get(arm, "errors")), (int)(8 * rates[i]));
        assert_int_equal(json_integer_value(json_object_get(arm, "failed_attempts")), (int)sums[i].errors);
        json_decref(view);
    }
    server_down(&server);
}

// What a page in the browser of somebody on this machine could send.
TEST(other_sites_are_kept_out)
{
    static const char rebound[] =
        "GET /v1/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    server_up(&server);
    expect(&server, "POST /v1/rollouts/ship/start", "Origin: http://evil.example\r\n", "", "HTTP/1.1 403",
           "origin");
    expect(&server, "POST /v1/rollouts/ship/start", "Origin: null\r\n", "", "HTTP/1.1 403", "origin");
    int handle = dial(&server);
    const char *answer = talk(&server, handle, rebound, sizeof rebound - 1, NULL);
    assert_int_equal(strncmp(answer, "HTTP/1.1 403", 12), 0);
    close(handle);
    assert_int_equal(bench_rollout(&server.bench).view.state, ROLLOUT_PENDING);
    server_down(&server);
}

TEST(metrics)
{
    static struct exposition checker;
    server_up(&server);
    const char *answer = ask(&server, "GET /metrics", "", "");
    assert_non_null(strstr(answer, "text/plain; version=0.0.4"));
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    if (!exposition_check(&checker, body + 4))
        fail_msg("%s", checker.error);
    server_down(&server);
}

TEST(events)
{
    static const char request[] = "GET /v1/rollouts/ship/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    server_up(&server);
    int handle = dial(&server);
    const char *answer = talk(&server, handle, request, sizeof request - 1, "\n\n");
    assert_non_null(strstr(answer, "text/event-stream"));
    assert_non_null(strstr(answer, "data: {"));
    assert_non_null(strstr(answer, "Pending"));
    assert_int_equal(bench_command(&server.bench, ROLLOUT_COMMAND_START), STATUS_OK);
    answer = talk(&server, handle, "", 0, "STARTED");
    assert_non_null(strstr(answer, "STARTED"));
    close(handle);
    server_down(&server);
}

TEST(hostile_bytes)
{
    static const char *const requests[] = {
        "garbage\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ("POST /v1/rollouts/ship/start HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
         "5\r\nTransfer-Encoding: "
         "chunked\r\n\r\n"),
    };
    server_up(&server);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        int handle = dial(&server);
        const char *answer = talk(&server, handle, requests[i], strlen(requests[i]), "\r\n\r\n");
        if (strncmp(answer, "HTTP/1.1 4", 10) != 0)
            fail_msg("%s got %s", requests[i], answer);
        close(handle);
    }
    static char large[API_BODY_BYTES_MAX + 1024];
    memset(large, ' ', sizeof large);
    int len = snprintf(large, sizeof large,
                       "POST /v1/rollouts/ship/start HTTP/1.1\r\nHost: localhost\r\n"
                       "Content-Length: 9999999\r\n\r\n");
    large[len] = ' ';
    int handle = dial(&server);
    const char *answer = talk(&server, handle, large, sizeof large, "\r\n\r\n");
    assert_int_equal(strncmp(answer, "HTTP/1.1 413", 12), 0);
    close(handle);
    assert_int_equal(bench_rollout(&server.bench).view.state, ROLLOUT_PENDING);
    server_down(&server);
}

// Flags come in large bodies; nothing else does.
TEST(large_bodies)
{
    static char body[API_FLAGS_BODY_BYTES_MAX + 4096];
    static const struct {
        const char *path;
        size_t len;
        bool taken;
    } cases[] = {
        {"/v1/flags", API_FLAGS_BODY_BYTES_MAX, true},
        {"/v1/flags/banner/eval", 100000, true},
        {"/v1/flags", API_FLAGS_BODY_BYTES_MAX + 1, false},
        {"/v1/flagship", API_BODY_BYTES_MAX + 1, false},
        {"/v1/flagship", API_BODY_BYTES_MAX, true},
        {"/v1/rollouts/ship/start", API_BODY_BYTES_MAX + 1, false},
    };
    memset(body, ' ', sizeof body);
    server_up(&server);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char head[256];
        int head_len = snprintf(head, sizeof head,
                                "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                                "Content-Length: %zu\r\n\r\n",
                                cases[i].path, cases[i].len);
        int handle = dial(&server);
        assert_int_equal(send(handle, head, (size_t)head_len, MSG_NOSIGNAL), head_len);
        for (size_t sent = 0; sent < cases[i].len && cases[i].taken;) {
            ssize_t n = send(handle, body, cases[i].len - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
            assert_int_equal(io_loop_turn(server.bench.loop, 1000), STATUS_OK);
        }
        const char *answer = talk(&server, handle, "", 0, "\r\n\r\n");
        bool taken = strncmp(answer, "HTTP/1.1 4", 10) == 0 && strncmp(answer, "HTTP/1.1 413", 12) != 0;
        if (taken != cases[i].taken)
            fail_msg("%s of %zu bytes: %.300s", cases[i].path, cases[i].len, answer);
        assert_non_null(strstr(answer, taken ? "nosniff\r\n" : "no-store\r\n"));
        close(handle);
    }
    server_down(&server);
}
