// SPDX-License-Identifier: Apache-2.0
// api: /v1/flags over a real socket: pages, one flag, changes that are journalled and then in force, what is
// refused and with which words, history, import and export, keys of any bytes, pages of other origins.
#include "targets_bench.h"
#include "test.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>

#include "daemon/api/api.h"
#include "flags/runtime/runtime.h"

#define FLAGS_YAML                                                                                           \
    BENCH_YAML "flags:\n"                                                                                    \
               "  define:\n"                                                                                 \
               "    fresh:\n"                                                                                \
               "      state: ENABLED\n"                                                                      \
               "      variants: {on: true, off: false}\n"                                                    \
               "      defaultVariant: off\n"                                                                 \
               "      targeting: {if: [{'==': [{var: plan}, beta]}, on]}\n"                                  \
               "      metadata: {team: shop}\n"                                                              \
               "    banner: {state: ENABLED, variants: {red: '#f00', blue: '#00f'}, defaultVariant: red}\n"  \
               "    'odd/key %?': {state: DISABLED, variants: {a: 1}, defaultVariant: a}\n"

struct server {
    struct bench bench;
    struct api *api;
    struct io_addr addr;
    size_t len;
    char answer[1 << 20];
};

static struct server server;

static void up(const char *yaml)
{
    struct io_addr any;
    server.api = NULL;
    if (bench_up(&server.bench, yaml) != STATUS_OK)
        fail_msg("%s", server.bench.fault.text);
    engine_start(server.bench.engine);
    assert_int_equal(io_addr_parse("127.0.0.1:0", &any), STATUS_OK);
    assert_int_equal(api_create(server.bench.engine, &any, API_CONNECTIONS_MAX, NULL, &server.api),
                     STATUS_OK);
    api_addr(server.api, &server.addr);
}

static void on_stopped(void *context)
{
    *(bool *)context = true;
}

static void down(void)
{
    bool stopped = false;
    api_close(server.api);
    while (!api_closed(server.api))
        assert_int_equal(io_loop_turn(server.bench.loop, 1000), STATUS_OK);
    api_destroy(server.api);
    engine_shutdown(server.bench.engine, 0, on_stopped, &stopped);
    while (!stopped)
        assert_int_equal(io_loop_turn(server.bench.loop, 1000), STATUS_OK);
    bench_down(&server.bench);
}

static void end(void)
{
    down();
    bench_forget(&server.bench);
}

static const char *exchange(const char *bytes, size_t len)
{
    int handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(handle, &server.addr.any, server.addr.len), 0);
    assert_int_equal(fcntl(handle, F_SETFL, O_NONBLOCK), 0);
    size_t sent = 0;
    uint64_t until_us = io_loop_clock_us(server.bench.loop) + 5000000;
    server.len = 0;
    while (io_loop_clock_us(server.bench.loop) < until_us) {
        ssize_t out = sent < len ? send(handle, bytes + sent, len - sent, MSG_NOSIGNAL) : 0;
        sent += out > 0 ? (size_t)out : 0;
        assert_int_equal(io_loop_turn(server.bench.loop, 2000), STATUS_OK);
        ssize_t n = recv(handle, server.answer + server.len, sizeof server.answer - server.len - 1, 0);
        if (n == 0)
            break;
        server.len += n > 0 ? (size_t)n : 0;
    }
    server.answer[server.len] = '\0';
    close(handle);
    return server.answer;
}

static const char *ask(const char *line, const char *fields, const char *body)
{
    static char request[1 << 21];
    int len =
        snprintf(request, sizeof request,
                 "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
                 line, fields, strlen(body), body);
    return exchange(request, (size_t)len);
}

static void expect(const char *line, const char *body, const char *status, const char *part)
{
    const char *answer = ask(line, "", body);
    if (strncmp(answer, "HTTP/1.1 ", 9) != 0 || strncmp(answer + 9, status, strlen(status)) != 0 ||
        strstr(answer, part) == NULL)
        fail_msg("%s %.200s: wanted %s and %s, got\n%.900s", line, body, status, part, answer);
}

static json_t *json_of(const char *line, const char *body)
{
    const char *answer = strstr(ask(line, "", body), "\r\n\r\n");
    assert_non_null(answer);
    json_error_t error;
    json_t *json = json_loads(answer + 4, 0, &error);
    if (json == NULL)
        fail_msg("%s: %s in %.600s", line, error.text, answer);
    return json;
}

static json_int_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

// Makes a change, and turns the loop until the daemon says that it is in force.
static void change(const char *line, const char *body)
{
    json_t *made = json_of(line, body);
    json_int_t wanted = number(made, "change");
    if (wanted == 0)
        fail_msg("%s: %.400s", line, server.answer);
    json_decref(made);
    uint64_t until_us = io_loop_clock_us(server.bench.loop) + 20000000;
    while (io_loop_clock_us(server.bench.loop) < until_us) {
        json_t *list = json_of("GET /v1/flags?limit=0", "");
        json_int_t now = number(list, "change");
        json_decref(list);
        if (now >= wanted)
            return;
    }
    fail_msg("%s is not in force", line);
}

TEST(list)
{
    up(FLAGS_YAML);
    json_t *list = json_of("GET /v1/flags", "");
    const json_t *flags = json_object_get(list, "flags");
    assert_int_equal(json_array_size(flags), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(flags, 0), "key")), "banner");
    assert_string_equal(json_string_value(json_object_get(json_array_get(flags, 1), "key")), "fresh");
    assert_true(json_is_true(json_object_get(json_array_get(flags, 1), "targeting")));
    assert_true(json_is_false(json_object_get(json_array_get(flags, 2), "enabled")));
    assert_true(json_is_null(json_object_get(list, "next")));
    assert_true(json_is_false(json_object_get(list, "refused")));
    assert_int_equal(json_array_size(json_object_get(list, "sources")), 1);
    json_decref(list);
    expect("GET /v1/flags?limit=1", "", "200", "\"next\":\"banner\"");
    expect("GET /v1/flags?limit=1&after=banner", "", "200", "\"next\":\"fresh\"");
    expect("GET /v1/flags?limit=1&after=fresh", "", "200", "\"next\":null");
    expect("GET /v1/flags?prefix=odd%2F", "", "200", "\"matched\":1");
    expect("GET /v1/flags?contains=ann", "", "200", "\"matched\":1");
    expect("GET /v1/flags?changed=1", "", "200", "\"matched\":0");
    expect("GET /v1/flags?stale=1", "", "200", "\"matched\":0");
    expect("GET /v1/flags?limit=1001", "", "400", "0 to 1000");
    expect("GET /v1/flags?limit=x", "", "400", "0 to 1000");
    expect("GET /v1/flags/", "", "200", "\"flags\"");
    end();
}

TEST(show)
{
    up(FLAGS_YAML);
    json_t *flag = json_of("GET /v1/flags/fresh", "");
    const json_t *variants = json_object_get(flag, "variants");
    assert_int_equal(json_array_size(variants), 2);
    assert_true(json_is_true(json_object_get(json_array_get(variants, 0), "value")));
    assert_true(json_is_object(json_object_get(json_object_get(flag, "definition"), "targeting")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(flag, "metadata"), "team")),
                        "shop");
    assert_true(json_is_null(json_object_get(flag, "overlay")));
    json_decref(flag);
    expect("GET /v1/flags/odd%2Fkey%20%25%3F", "", "200", "odd/key %?");
    expect("GET /v1/flags/frehs", "", "404", "did you mean 'fresh'?");
    expect("GET /v1/flags/anne", "", "404", "did you mean 'banner'?");
    expect("GET /v1/flags/zzzzzzzzzzzz", "", "404", "there is no flag");
    expect("GET /v1/flags/%00", "", "400", "percent-encoded");
    expect("GET /v1/flags/%ff", "", "400", "percent-encoded");
    expect("GET /v1/flags/%zz", "", "400", "percent-encoded");
    expect("GET /v1/flags/fresh/explode", "", "404", "on, off, eval or history");
    expect("POST /v1/flags/fresh", "", "405", "Allow: GET, HEAD, PUT, DELETE");
    expect("GET /v1/flags/fresh/off", "", "405", "Allow: POST");
    expect("POST /v1/flags/fresh/history", "", "405", "Allow: GET");
    expect("DELETE /v1/flags", "", "405", "Allow: GET, HEAD, POST");
    end();
}

TEST(switches)
{
    up(FLAGS_YAML);
    change("POST /v1/flags/fresh/off", "{\"variant\": \"on\", \"who\": \"ann\"}");
    expect("POST /v1/flags/fresh/eval", "", "200", "\"reason\":\"DISABLED\"");
    expect("POST /v1/flags/fresh/eval", "", "200", "\"path\":\"kill\"");
    expect("GET /v1/flags/fresh", "", "200", "\"switched\":\"off\",\"variant\":\"on\"");
    expect("GET /v1/flags?changed=1", "", "200", "\"matched\":1");
    change("POST /v1/flags/fresh/on", "");
    expect("POST /v1/flags/fresh/eval", "{\"context\": {\"plan\": \"beta\"}}", "200", "targeting.if[1]");
    change("DELETE /v1/flags/fresh", "");
    expect("GET /v1/flags/fresh", "", "200", "\"overlay\":null");
    expect("POST /v1/flags/fresh/off", "{\"variant\": \"onn\"}", "400", "it has 'on', 'off'");
    expect("POST /v1/flags/frehs/off", "", "404", "did you mean 'fresh'?");
    expect("POST /v1/flags/fresh/on", "{\"variant\": \"on\"}", "400", "takes no variant");
    expect("POST /v1/flags/fresh/off", "{\"variant\": 7}", "400", "name of one");
    expect("POST /v1/flags/fresh/off", "[1]", "400", "JSON object");
    expect("POST /v1/flags/fresh/off", "{\"variant\": \"on\",}", "400", "line 1, column");
    expect("DELETE /v1/flags/banner", "", "409", "nothing was changed");
    end();
}

TEST(definitions)
{
    static const char ROUND[] =
        "{\"state\":\"ENABLED\",\"variants\":{\"a\":1,\"b\":2.50},\"defaultVariant\":\"b\"}";
    up(FLAGS_YAML);
    change("PUT /v1/flags/fresh%2Ftwo", ROUND);
    // The definition comes back as the bytes it went in.
    expect("GET /v1/flags/fresh%2Ftwo", "", "200", ROUND);
    expect("POST /v1/flags/fresh%2Ftwo/eval", "{\"type\":\"float\"}", "200", "\"value\":2.50");
    expect("PUT /v1/flags/x", "", "400", "must be the flag's definition");
    expect("PUT /v1/flags/x", "{\"state\":", "400", "1:");
    expect("PUT /v1/flags/x", "{\"state\":\"ENABLED\",\"variants\":{\"a\":1,\"b\":\"x\"}}", "400",
           "one type");
    expect("GET /v1/flags/x", "", "404", "no flag");
    // What is kept survives the process.
    down();
    up(FLAGS_YAML);
    uint64_t until_us = io_loop_clock_us(server.bench.loop) + 20000000;
    while (strstr(ask("GET /v1/flags/fresh%2Ftwo", "", ""), " 200 ") == NULL &&
           io_loop_clock_us(server.bench.loop) < until_us)
        ;
    expect("GET /v1/flags/fresh%2Ftwo", "", "200", "\"defined\":true");
    change("DELETE /v1/flags/fresh%2Ftwo", "");
    expect("GET /v1/flags/fresh%2Ftwo", "", "404", "no flag");
    end();
}

TEST(eval)
{
    up(FLAGS_YAML);
    expect("POST /v1/flags/fresh/eval", "{\"context\":{\"plan\":\"beta\"},\"type\":\"boolean\"}", "200",
           "\"value\":true");
    expect("POST /v1/flags/fresh/eval", "{\"context\":{\"plan\":\"old\"}}", "200", "\"variant\":\"off\"");
    expect("POST /v1/flags/fresh/eval", "{\"type\":\"string\"}", "200", "TYPE_MISMATCH");
    expect("POST /v1/flags/fresh/eval", "{\"type\":\"bool\"}", "400", "type is boolean");
    expect("POST /v1/flags/fresh/eval", "{\"context\":[]}", "400", "context is an object");
    expect("POST /v1/flags/nope/eval", "{}", "404", "no flag");
    expect("POST /v1/flags/odd%2Fkey%20%25%3F/eval", "{}", "200", "DISABLED");
    // Nothing of this is a use of the flag.
    expect("GET /v1/flags/fresh", "", "200", "\"evaluations\":0");
    end();
}

TEST(history)
{
    up(FLAGS_YAML);
    change("POST /v1/flags/fresh/off", "{\"who\": \"ann\\u001b[2J\"}");
    change("POST /v1/flags/banner/off", "{\"variant\": \"blue\"}");
    change("POST /v1/flags/fresh/on", "");
    json_t *history = json_of("GET /v1/flags/fresh/history", "");
    const json_t *changes = json_object_get(history, "changes");
    assert_int_equal(json_array_size(changes), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(changes, 0), "op")), "off");
    assert_string_equal(json_string_value(json_object_get(json_array_get(changes, 0), "who")), "ann?[2J");
    assert_string_equal(json_string_value(json_object_get(json_array_get(changes, 1), "op")), "on");
    json_decref(history);
    history = json_of("GET /v1/flags?history=1&limit=2", "");
    assert_int_equal(json_array_size(json_object_get(history, "changes")), 2);
    assert_int_equal(number(history, "older"), 1);
    json_decref(history);
    // A name in no known encoding does not make the history unreadable.
    (void)ask("POST /v1/flags/fresh/off", "X-Sluice-Who: r\xe9mi\r\n", "");
    history = json_of("GET /v1/flags/fresh/history", "");
    changes = json_object_get(history, "changes");
    assert_string_equal(json_string_value(json_object_get(json_array_get(changes, 2), "who")), "r?mi");
    json_decref(history);
    end();
}

#define NEEDS(flag)                                                                                          \
    "{\"state\":\"ENABLED\",\"variants\":{\"a\":1},\"defaultVariant\":\"a\",\"x-sluice\":{"                  \
    "\"prerequisites\":"                                                                                     \
    "[{\"flag\":\"" flag "\",\"variant\":\"a\"}]}}"

TEST(import_and_export)
{
    static const char TWO[] =
        "{\"who\":\"bob\",\"flags\":{\"i1\":{\"state\":\"ENABLED\",\"variants\":{\"a\":1},\"defaultVariant\":"
        "\"a\"},"
        "\"i\\u0032\":{\"state\":\"ENABLED\",\"variants\":{\"a\":1},\"defaultVariant\":\"a\"}}}";
    static const char BAD[] =
        "{\"flags\":{\"j1\":{\"state\":\"ENABLED\",\"variants\":{\"a\":1},\"defaultVariant\":\"a\"},"
        "\"j2\":{\"state\":\"ENABLED\",\"variants\":{},\"defaultVariant\":\"a\"}}}";
    up(FLAGS_YAML);
    change("POST /v1/flags", TWO);
    expect("GET /v1/flags/i1", "", "200", "\"defined\":true");
    expect("GET /v1/flags/i2/history", "", "200", "bob");
    // One bad flag, and none is set.
    expect("POST /v1/flags", BAD, "400", "nothing was changed");
    expect("GET /v1/flags/j1", "", "404", "no flag");
    // Flags that ask for each other come together, whatever their order; a circle does not.
    change("POST /v1/flags",
           "{\"flags\":{\"k1\":" NEEDS("k2") ",\"k2\":" NEEDS("k3") ",\"k3\":" NEEDS("i1") "}}");
    expect("POST /v1/flags", "{\"flags\":{\"l1\":" NEEDS("l2") ",\"l2\":" NEEDS("l1") "}}", "400",
           "flag 'l1': the prerequisites lead back to the flag; nothing was changed");
    expect("GET /v1/flags/l1", "", "404", "no flag");
    expect("POST /v1/flags", "{}", "400", "must be {");
    expect("POST /v1/flags", "{\"flags\":[]}", "400", "must be {");
    expect("POST /v1/flags", "{\"flags\":{\"a\":7}}", "400", "flag 'a'");
    expect("POST /v1/flags", "{\"flags\":{", "400", "line 1");
    json_t *file = json_of("GET /v1/flags?export=1", "");
    const json_t *flags = json_object_get(file, "flags");
    assert_int_equal(json_object_size(flags), 8);
    assert_non_null(json_object_get(flags, "odd/key %?"));
    json_decref(file);
    end();
}

TEST(other_sites_are_kept_out)
{
    static const char *const lines[] = {"POST /v1/flags/fresh/off", "PUT /v1/flags/fresh",
                                        "DELETE /v1/flags/fresh", "POST /v1/flags"};
    up(FLAGS_YAML);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const char *answer = ask(lines[i], "Origin: http://evil.example\r\n", "{}");
        if (strncmp(answer, "HTTP/1.1 403", 12) != 0)
            fail_msg("%s: %.300s", lines[i], answer);
    }
    assert_int_equal(runtime_history_count(server.bench.targets->runtime), 0);
    end();
}

TEST(without_flags)
{
    up(BENCH_YAML);
    expect("GET /v1/flags", "", "409", "no flags");
    expect("POST /v1/flags/x/off", "", "409", "no flags");
    end();
}

TEST(sizes)
{
    static char large[API_FLAGS_BODY_BYTES_MAX + 4096];
    up(FLAGS_YAML);
    size_t len = (size_t)snprintf(large, sizeof large,
                                  "{\"state\":\"ENABLED\",\"defaultVariant\":\"a\",\"variants\":{\"a\":\"");
    memset(large + len, 'x', RUNTIME_DEFINITION_BYTES);
    snprintf(large + RUNTIME_DEFINITION_BYTES - 4, 8, "\"}}");
    change("PUT /v1/flags/large", large);
    memset(large + len, 'x', RUNTIME_DEFINITION_BYTES);
    snprintf(large + RUNTIME_DEFINITION_BYTES, 8, "\"}}");
    expect("PUT /v1/flags/large", large, "413", "512 KiB");
    char line[1200] = "GET /v1/flags/";
    memset(line + strlen(line), 'k', 300);
    expect(line, "", "400", "255 bytes");
    end();
}
