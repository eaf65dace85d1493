// SPDX-License-Identifier: Apache-2.0
// What counts as an error of a version: the pure part case by case and at every border of buffers, then what
// a worker makes of it, in its counters and in its evidence.
#include "base/rng.h"
#include "net/http/http1.h"
#include "net/proxy/outcome.h"
#include "proxy_world.h"
#include "test.h"

static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
static const struct proxy_status_range SERVER_ERRORS[] = {{500, 599}};

// ---- the pure part ----

static _Alignas(16) char carved[8192];

static const struct proxy_errors *compiled(const struct proxy_errors_plan *plan)
{
    assert_null(outcome_check(plan));
    size_t bytes = outcome_bytes(plan);
    assert_true(bytes <= sizeof carved);
    memset(carved, 0, sizeof carved);
    struct table_carve from = {carved, carved + bytes};
    return outcome_compile(&from, plan);
}

static struct http_response response;

static enum outcome head_of(const struct proxy_errors *errors, const char *head, struct outcome_watch *watch)
{
    size_t len;
    enum http1_reject why;
    assert_int_equal(http1_response_parse(head, strlen(head), NULL, HTTP_METHOD_GET, &response, &len, &why),
                     STATUS_OK);
    return outcome_of_head(errors, &response, watch);
}

static enum outcome status_of(const struct proxy_errors *errors, unsigned status)
{
    struct outcome_watch watch;
    char head[64];
    snprintf(head, sizeof head, "HTTP/1.1 %u x\r\nContent-Length: 0\r\n\r\n", status);
    return head_of(errors, head, &watch);
}

TEST(statuses)
{
    for (unsigned status = 200; status <= 999; status++)
        assert_int_equal(status_of(&outcome_default, status), status >= 500 ? OUTCOME_STATUS : OUTCOME_FINE);
    const struct proxy_status_range said[] = {{429, 429}, {404, 410}, {502, 599}};
    const struct proxy_errors *errors =
        compiled(&(struct proxy_errors_plan){.statuses = said, .status_count = ARRAY_LEN(said)});
    for (unsigned status = 200; status <= 999; status++) {
        bool error = status == 429 || (status >= 404 && status <= 410) || status >= 502;
        assert_int_equal(status_of(errors, status), error ? OUTCOME_STATUS : OUTCOME_FINE);
    }
    errors = compiled(&(struct proxy_errors_plan){.text = "x", .within = 1});
    for (unsigned status = 200; status <= 999; status++)
        assert_int_equal(status_of(errors, status), OUTCOME_FINE);
}

TEST(headers)
{
    static const struct proxy_error_header_plan SAID[] = {{"X-Result", "failed"}, {"x-broken", NULL}};
    static const struct {
        const char *fields;
        enum outcome outcome;
    } CASES[] = {
        {"", OUTCOME_FINE},
        {"x-result: failed\r\n", OUTCOME_HEADER},
        {"X-RESULT: failed\r\n", OUTCOME_HEADER},
        {"x-result: Failed\r\n", OUTCOME_FINE}, // values are what they are
        {"x-result: failed again\r\n", OUTCOME_FINE},
        {"x-result: ok\r\nx-result: failed\r\n", OUTCOME_HEADER}, // any of them
        {"x-results: failed\r\n", OUTCOME_FINE},
        {"x-broken: no\r\n", OUTCOME_HEADER},
        {"X-Broken:\r\n", OUTCOME_HEADER},
    };
    const struct proxy_errors *errors =
        compiled(&(struct proxy_errors_plan){.headers = SAID, .header_count = ARRAY_LEN(SAID)});
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char head[128];
        struct outcome_watch watch;
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\n", CASES[i].fields);
        assert_int_equal(head_of(errors, head, &watch), CASES[i].outcome);
        assert_false(watch.open);
    }
}

static const char LONG_HEAD[] = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";

// The body in runs that end at each of the cuts.
static bool found_in(const struct proxy_errors *errors, struct slice body, const size_t *cuts, size_t count)
{
    struct outcome_watch watch;
    assert_int_equal(head_of(errors, LONG_HEAD, &watch), OUTCOME_FINE);
    assert_true(watch.open);
    size_t at = 0;
    for (size_t i = 0; i <= count; i++) {
        size_t end = i < count ? cuts[i] : body.len;
        enum outcome outcome = outcome_of_run(errors, (struct slice){body.data + at, end - at}, &watch);
        if (outcome == OUTCOME_BODY) {
            assert_false(watch.open);
            return true;
        }
        at = end;
    }
    assert_int_equal(outcome_of_end(errors, NULL, &watch), OUTCOME_FINE);
    assert_false(watch.open);
    return false;
}

static bool found_plainly(struct slice body, struct slice text, size_t within)
{
    return memmem(body.data, body.len < within ? body.len : within, text.data, text.len) != NULL;
}

// Texts that repeat themselves, in bodies that nearly hold them: at each pair of cuts, and for each bound.
TEST(text_at_every_split)
{
    static const char *const TEXTS[] = {"a", "ab", "aab", "abab", "aabaaab", "aaaa", "\"ok\":false"};
    static const char *const BODIES[] = {"",
                                         "a",
                                         "aaab",
                                         "ababab",
                                         "aabaabaaab",
                                         "aaabaaaa",
                                         "abaababab",
                                         "{\"ok\":true,\"ok\":false}",
                                         "\"ok\"\"ok\":false"};
    for (size_t t = 0; t < ARRAY_LEN(TEXTS); t++)
        for (size_t b = 0; b < ARRAY_LEN(BODIES); b++) {
            struct slice text = slice_of(TEXTS[t]), body = slice_of(BODIES[b]);
            for (size_t within = text.len; within <= body.len + 1 || within == text.len; within++) {
                const struct proxy_errors *errors =
                    compiled(&(struct proxy_errors_plan){.text = TEXTS[t], .within = (uint32_t)within});
                bool plainly = found_plainly(body, text, within);
                for (size_t i = 0; i <= body.len; i++)
                    for (size_t k = i; k <= body.len; k++)
                        assert_int_equal(found_in(errors, body, (size_t[]){i, k}, 2), plainly);
            }
        }
}

// Random bodies of two letters, byte by byte, against the plain search.
TEST(text_in_random_bodies)
{
    struct rng rng;
    rng_init(&rng, 11);
    for (int round = 0; round < 2000; round++) {
        char text[9] = {0}, body[64];
        size_t len = 1 + rng_next(&rng) % 8;
        for (size_t i = 0; i < len; i++)
            text[i] = rng_next(&rng) % 3 > 0 ? 'a' : 'b';
        size_t cuts[sizeof body];
        for (size_t i = 0; i < sizeof body; i++) {
            body[i] = rng_next(&rng) % 3 > 0 ? 'a' : 'b';
            cuts[i] = i;
        }
        const struct proxy_errors *errors = compiled(&(struct proxy_errors_plan){.text = text, .within = 48});
        struct slice whole = {body, sizeof body};
        assert_int_equal(found_in(errors, whole, cuts, sizeof body),
                         found_plainly(whole, (struct slice){text, len}, 48));
    }
}

TEST(bodies_that_are_not_searched)
{
    static const struct {
        const char *head;
        bool open, unsearched;
    } CASES[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, false},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 9\r\n\r\n", true, false},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n", false, true},
        {"HTTP/1.1 204 x\r\n\r\n", false, false},
        {"HTTP/1.1 304 x\r\nContent-Encoding: gzip\r\n\r\n", false, false},
        {"HTTP/1.1 500 x\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n", false, false},
    };
    const struct proxy_errors *errors = compiled(&(struct proxy_errors_plan){
        .statuses = SERVER_ERRORS, .status_count = 1, .text = "bad", .within = 100});
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct outcome_watch watch;
        (void)head_of(errors, CASES[i].head, &watch);
        assert_int_equal(watch.open, CASES[i].open);
        assert_int_equal(watch.unsearched, CASES[i].unsearched);
    }
}

TEST(grpc_statuses)
{
    static const struct {
        const char *type, *in_head, *in_trailers; // values of grpc-status, NULL: none
        bool error;
    } CASES[] = {
        {"application/grpc", NULL, "0", false},
        {"application/grpc", NULL, "13", true},
        {"application/grpc+proto", NULL, "14", true},
        {"application/grpc; x=y", NULL, "2", true},
        {"application/grpc", NULL, "5", false}, // not found: an answer
        {"application/grpc", NULL, "3", false}, // the caller's fault
        {"application/grpc", NULL, NULL, true}, // it broke off
        {"application/grpc", NULL, "", true},   // no code is unknown
        {"application/grpc", NULL, "17", true}, // so is none of the seventeen
        {"application/grpc", NULL, "99999999999", true},
        {"application/grpc", NULL, "x", true},
        {"application/grpc", "0", NULL, false}, // all in the head
        {"application/grpc", "15", NULL, true},
        {"application/grpc-web+proto", NULL, NULL, false}, // says it in the body
        {"application/grpc-web", "14", NULL, true},
        {"application/json", NULL, "13", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char head[256];
        struct http_fields trailers = {.count = 0};
        struct outcome_watch watch;
        snprintf(head, sizeof head,
                 "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s%s%sTransfer-Encoding: chunked\r\n\r\n",
                 CASES[i].type, CASES[i].in_head != NULL ? "grpc-status: " : "",
                 CASES[i].in_head != NULL ? CASES[i].in_head : "", CASES[i].in_head != NULL ? "\r\n" : "");
        if (CASES[i].in_trailers != NULL)
            assert_int_equal(http_fields_add(&trailers, SLICE("Grpc-Status"), slice_of(CASES[i].in_trailers)),
                             STATUS_OK);
        enum outcome outcome = head_of(&outcome_default, head, &watch);
        if (outcome == OUTCOME_FINE)
            outcome =
                outcome_of_end(&outcome_default, CASES[i].in_trailers != NULL ? &trailers : NULL, &watch);
        assert_int_equal(outcome, CASES[i].error ? OUTCOME_GRPC : OUTCOME_FINE);
        assert_false(watch.open);
    }
}

TEST(definitions_are_told_apart)
{
    static const struct proxy_error_header_plan HEADERS[] = {{"a", "b"}, {"a", ""}, {"a", NULL}};
    const struct proxy_errors_plan plans[] = {
        {.status_count = 0},
        {.statuses = SERVER_ERRORS, .status_count = 1},
        {.grpc = 4},
        {.text = "a", .within = 5},
        {.text = "b", .within = 5},
        {.text = "a", .within = 6},
        {.headers = &HEADERS[0], .header_count = 1},
        {.headers = &HEADERS[1], .header_count = 1},
        {.headers = &HEADERS[2], .header_count = 1},
    };
    uint64_t ids[ARRAY_LEN(plans)];
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        ids[i] = compiled(&plans[i])->id;
        assert_true(ids[i] != outcome_default.id && ids[i] == compiled(&plans[i])->id);
        for (size_t k = 0; k < i; k++)
            assert_true(ids[i] != ids[k]);
    }
    assert_null(compiled(NULL));
}

TEST(bad_definitions)
{
    static const struct proxy_status_range BAD[] = {{199, 300}, {500, 600}, {404, 403}};
    static const struct proxy_error_header_plan NAMELESS = {"a b", NULL};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_non_null(outcome_check(&(struct proxy_errors_plan){.statuses = &BAD[i], .status_count = 1}));
    assert_non_null(outcome_check(&(struct proxy_errors_plan){.headers = &NAMELESS, .header_count = 1}));
    assert_non_null(outcome_check(&(struct proxy_errors_plan){.text = "abc", .within = 2}));
    assert_non_null(outcome_check(&(struct proxy_errors_plan){.text = "abc", .within = (1 << 20) + 1}));
}

// ---- through a worker ----

static struct proxy_errors_plan errors;

static struct world *world_defining(void)
{
    errors = (struct proxy_errors_plan){
        .statuses = SERVER_ERRORS, .status_count = 1, .grpc = PROXY_GRPC_SERVER_FAULTS};
    struct world *w = world_create();
    w->service.errors = &errors;
    return w;
}

static struct rollout_counts evidence(struct world *w)
{
    struct rollout_counts sum = {.routed = 0};
    for (int round = 0; round < 5; round++) {
        struct rollout_span_delta out[16];
        bool more = true;
        while (more) {
            uint32_t told = proxy_gather_spans(w->proxy, 0, out, ARRAY_LEN(out), &more);
            for (uint32_t i = 0; i < told; i++)
                for (size_t k = 0; k < sizeof sum / sizeof(uint32_t); k++)
                    ((uint32_t *)&sum)[k] += ((const uint32_t *)&out[i].arms[ROLLOUT_ARM_STABLE])[k];
        }
        world_run(w, 100);
    }
    return sum;
}

// The one request so far: an error of that kind, or none for PROXY_VERSION_ERRORS.
static void expect_kind(struct world *w, enum proxy_version_counter kind)
{
    uint32_t errors_seen = kind == PROXY_VERSION_ERRORS ? 0 : 1;
    struct rollout_counts counts = evidence(w);
    assert_int_equal(counts.routed, 1);
    assert_int_equal(counts.completed, 1);
    assert_int_equal(counts.errors, errors_seen);
    assert_int_equal(counts.error_events, errors_seen);
    assert_int_equal(counts.failed, errors_seen);
    assert_int_equal(counts.good, 1 - errors_seen);
    assert_int_equal(counts.client_errors + counts.redirects, 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_GOOD), 1 - errors_seen);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), errors_seen);
    if (errors_seen > 0)
        assert_int_equal(version_counter(w, 0, kind), 1);
}

// A definition, an answer, and what is counted: one error of one request, in its own span.
TEST(counted_once_by_its_kind)
{
    static const struct proxy_status_range NOT_FOUND[] = {{404, 404}};
    static const struct proxy_error_header_plan RESULT = {"x-result", "failed"};
    const struct proxy_errors_plan by_status = {.statuses = NOT_FOUND, .status_count = 1};
    const struct proxy_errors_plan by_header = {.headers = &RESULT, .header_count = 1};
    const struct proxy_errors_plan by_body = {.text = "\"ok\":false", .within = 64};
    const struct {
        const struct proxy_errors_plan *plan;
        const char *reply;
        enum proxy_version_counter kind;
    } cases[] = {
        {&by_status, "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", PROXY_VERSION_ERROR_STATUS},
        {&by_status, "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", PROXY_VERSION_ERRORS},
        {NULL, "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", PROXY_VERSION_ERROR_5XX},
        {&by_header, "HTTP/1.1 200 x\r\nX-Result: failed\r\nContent-Length: 0\r\n\r\n",
         PROXY_VERSION_ERROR_HEADER},
        {&by_header, "HTTP/1.1 302 x\r\nX-Result: failed\r\nContent-Length: 0\r\n\r\n",
         PROXY_VERSION_ERROR_HEADER},
        {&by_body, "HTTP/1.1 200 x\r\nContent-Length: 12\r\n\r\n{\"ok\":false}", PROXY_VERSION_ERROR_BODY},
        {&by_body,
         "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"ok\"\r\n7\r\n:false}\r\n0\r\n\r\n",
         PROXY_VERSION_ERROR_BODY},
        {&by_body, "HTTP/1.1 200 x\r\nContent-Length: 11\r\n\r\n{\"ok\":true}", PROXY_VERSION_ERRORS},
        {NULL,
         "HTTP/1.1 200 x\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
         "2\r\nhi\r\n0\r\ngrpc-status: 13\r\n\r\n",
         PROXY_VERSION_ERROR_GRPC},
        {NULL,
         "HTTP/1.1 200 x\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
         "2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n",
         PROXY_VERSION_ERRORS},
        {NULL,
         "HTTP/1.1 200 x\r\nContent-Type: application/grpc\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n",
         PROXY_VERSION_ERROR_GRPC},
        {NULL, "HTTP/1.1 200 x\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
         PROXY_VERSION_ERROR_GRPC},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world *w = world_create();
        w->service.errors = cases[i].plan;
        w->origins[0].reply = cases[i].reply;
        world_publish(w);
        struct peer *c = world_ask(w, GET);
        assert_memory_equal(c->got, cases[i].reply, sizeof "HTTP/1.1 200" - 1);
        assert_false(c->reset);
        expect_kind(w, cases[i].kind);
        world_destroy(w);
    }
}

// What the file calls an error is not sent a second time: only what no origin has answered is.
TEST(an_answer_is_never_retried)
{
    struct world *w = world_defining();
    errors.text = "sorry";
    errors.within = 64;
    w->origins[0].reply = "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nsorry";
    world_publish(w);
    struct peer *c = world_ask(w, GET);
    assert_true(peer_has(c, "sorry"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ATTEMPTS), 1);
    world_destroy(w);
}

static const char STREAM[] = "HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\n"
                             "Transfer-Encoding: chunked\r\n\r\n6\r\ndata:1\r\n";

// A stream is judged a second after it began: it does not stay pending for as long as it runs. What it says
// later is still counted.
TEST(a_stream_is_judged_in_time)
{
    struct world *w = world_defining();
    errors.text = "failed";
    errors.within = 1 << 20;
    w->origins[0].reply = STREAM;
    world_publish(w);
    struct peer *c = world_connect(w);
    peer_send(c, GET);
    world_run(w, 300);
    assert_true(peer_has(c, "data:1"));         // nothing is delayed
    struct rollout_counts counts = evidence(w); // takes half a second
    assert_int_equal(counts.routed, 1);
    assert_int_equal(counts.completed, 0);
    world_run(w, 500);
    counts = evidence(w);
    assert_int_equal(counts.completed, 1);
    assert_int_equal(counts.good, 1);
    struct stats_histogram latency;
    proxy_version_latency(w->proxy, 0, &latency);
    assert_int_equal(latency.count, 1);
    assert_true(stats_histogram_quantile(&latency, 0.5) < 100000); // until it began
    peer_send(w->origins[0].peers[0], "6\r\nfailed\r\n");
    world_run(w, 300);
    counts = evidence(w);
    assert_int_equal(counts.errors, 1);
    assert_int_equal(counts.failed, 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_BODY), 1);
    peer_send(w->origins[0].peers[0], "0\r\n\r\n");
    world_run(w, 300);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_GOOD), 0);
    world_destroy(w);
}

// Its latency is that of its first byte, however long the rest was awaited.
TEST(a_held_answer_keeps_its_latency)
{
    struct world *w = world_defining();
    errors.text = "failed";
    errors.within = 1 << 20;
    w->service.yardstick =
        (struct rollout_yardstick){.edges = {.requests = 100, .edge_us = {100000, 100000, 100000, 100000}}};
    w->origins[0].reply = STREAM;
    world_publish(w);
    peer_send(world_connect(w), GET);
    world_run(w, 700);
    peer_send(w->origins[0].peers[0], "0\r\n\r\n");
    world_run(w, 100);
    struct rollout_counts counts = evidence(w);
    assert_int_equal(counts.completed, 1);
    assert_int_equal(counts.slow[0], 0);
    world_destroy(w);
}

// Whoever leaves while an answer is looked at has been answered; without a definition it is told at once.
TEST(a_client_that_leaves_has_been_answered)
{
    for (int defines = 0; defines < 2; defines++) {
        struct world *w = world_defining();
        errors.text = "failed";
        errors.within = 1 << 20;
        w->service.errors = defines ? &errors : NULL;
        w->origins[0].reply = STREAM;
        world_publish(w);
        struct peer *c = world_connect(w);
        peer_send(c, GET);
        world_run(w, 200);
        peer_close(c);
        world_run(w, 50);
        peer_send(w->origins[0].peers[0], "1\r\nx\r\n"); // what cannot be sent tells that he has left
        world_run(w, 50);
        assert_int_equal(version_counter(w, 0, PROXY_VERSION_ABORTED), 1);
        struct rollout_counts counts = evidence(w);
        assert_int_equal(counts.routed, 1);
        assert_int_equal(counts.completed, 1);
        assert_int_equal(counts.excused, 0);
        assert_int_equal(counts.good, 1);
        world_destroy(w);
    }
}

// An answer that breaks off while it is looked at is one error, in its own span.
TEST(a_held_answer_that_breaks_off)
{
    struct world *w = world_defining();
    errors.text = "failed";
    errors.within = 1 << 20;
    w->origins[0].reply = STREAM;
    world_publish(w);
    peer_send(world_connect(w), GET);
    world_run(w, 200);
    peer_close(w->origins[0].peers[0]);
    world_run(w, 200);
    expect_kind(w, PROXY_VERSION_ERROR_RESET);
    world_destroy(w);
}

// Beyond the bytes that are looked at an answer is judged at once.
TEST(the_bound_ends_the_search)
{
    struct world *w = world_defining();
    errors.text = "1";
    errors.within = 5;
    w->origins[0].reply = STREAM;
    world_publish(w);
    peer_send(world_connect(w), GET);
    world_run(w, 100);
    struct rollout_counts counts = evidence(w);
    assert_int_equal(counts.completed, 1);
    assert_int_equal(counts.failed, 0);
    world_destroy(w);
}

TEST(encoded_bodies_are_counted)
{
    struct world *w = world_defining();
    errors.text = "failed";
    errors.within = 64;
    w->origins[0].reply = "HTTP/1.1 200 x\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nfailed";
    world_publish(w);
    world_ask(w, GET);
    expect_kind(w, PROXY_VERSION_ERRORS);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_UNSEARCHED), 1);
    world_destroy(w);
}

// Another definition comes into force in the middle of an answer: what was matched by the old one means
// nothing to the new one. The same definition in another table goes on.
TEST(a_definition_that_changes)
{
    for (int same = 0; same < 2; same++) {
        struct world *w = world_defining();
        errors.text = "failed";
        errors.within = 1 << 20;
        w->origins[0].reply = STREAM;
        world_publish(w);
        struct peer *c = world_connect(w);
        peer_send(c, GET);
        world_run(w, 100);
        peer_send(w->origins[0].peers[0], "3\r\nfai\r\n");
        world_run(w, 100);
        struct proxy_errors_plan other = errors;
        other.text = "led";
        w->service.errors = same ? &errors : &other;
        world_publish(w);
        peer_send(w->origins[0].peers[0], "3\r\nled\r\n0\r\n\r\n");
        world_run(w, 100);
        assert_true(peer_has(c, "led"));
        expect_kind(w, same ? PROXY_VERSION_ERROR_BODY : PROXY_VERSION_ERRORS);
        world_destroy(w);
    }
}
