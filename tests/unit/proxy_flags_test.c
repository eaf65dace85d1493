// SPDX-License-Identifier: Apache-2.0
// Flags in the request path: what the service is told and nobody can forge, versions chosen by a flag, the
// arms of a flag's rollout, and sets that live exactly as long as a table shows them.
#include "proxy_world.h"
#include "test.h"

#include "flags_fixture.h"

enum { COUNTERS_MAX = 512 };

// A compiled set as control would hold it.
struct held_set {
    struct flags_image view;
    uint8_t *image;
    uint32_t released;
    _Atomic uint64_t counts[COUNTERS_MAX];
    struct flags_tally tally;
};

static const char SET[] =
    "{\"flags\":{"
    "\"banner\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\","
    "\"targeting\":{\"if\":[{\"==\":[{\"var\":\"plan\"},\"gold\"]},\"on\",null]}},"
    "\"theme\":{\"state\":\"ENABLED\",\"variants\":{\"dark\":1,\"2 cols\":2,\"a\\\"b\\\\\":3,\"f\xc3\xbcr "
    "%\":4},"
    "\"defaultVariant\":\"dark\",\"targeting\":{\"var\":\"theme\"}},"
    "\"newFlag\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"defaultVariant\":\"on\"},"
    "\"asleep\":{\"state\":\"DISABLED\",\"variants\":{\"on\":true},\"defaultVariant\":\"on\"},"
    "\"mine\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\","
    "\"x-sluice\":{\"targets\":{\"on\":[\"ada\"]}}},"
    "\"late\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\","
    "\"targeting\":{\"if\":[{\">\":[{\"var\":\"$flagd.timestamp\"},1000000000]},\"on\",null]}},"
    "\"echo\":{\"state\":\"ENABLED\",\"variants\":{\"PUT\":1,\"shop\":2,\"/a\":3,\"10.9.9.9\":4,\"gold\":5,"
    "\"none\":6},"
    "\"defaultVariant\":\"none\",\"targeting\":{\"var\":\"it\"}},"
    "\"release\":{\"state\":\"ENABLED\",\"variants\":{\"v1\":1,\"v2\":2,\"v3\":3,\"none\":4},"
    "\"defaultVariant\":\"none\",\"targeting\":{\"var\":\"want\"}},"
    "\"move\":{\"state\":\"ENABLED\",\"variants\":{\"v1\":1,\"v2\":2},\"defaultVariant\":\"v1\","
    "\"x-sluice\":{\"targets\":{\"v2\":[\"tester\"]}}}"
    "}}";

static void set_release(void *context)
{
    struct held_set *set = context;
    set->released++;
    heap_free(set->image);
    set->image = NULL;
}

static void set_hold(struct held_set *set, const char *json, const struct flags_patch *patch)
{
    struct flags_bundle_document document = {.json = slice_of(json), .name = "test"};
    struct flags_bundle bundle = {
        .documents = &document, .document_count = 1, .patches = patch, .patch_count = patch != NULL};
    assert_int_equal(fixture_compile_bundle(&fixture, &bundle), STATUS_OK);
    memset(set, 0, sizeof *set);
    set->image = heap_alloc_aligned((fixture.len + 63) & ~(size_t)63);
    assert_non_null(set->image);
    memcpy(set->image, fixture.image, fixture.len);
    assert_int_equal(flags_image_open(set->image, fixture.len, &set->view), STATUS_OK);
    set->tally = (struct flags_tally){set->counts, flags_image_counter_count(&set->view)};
    assert_true(set->tally.count <= COUNTERS_MAX);
}

static void set_use(struct world *w, struct held_set *set)
{
    w->plan.flags = &set->view;
    w->plan.tallies = &set->tally;
    w->plan.flags_release = set_release;
    w->plan.flags_context = set;
}

// How often a flag's variant was counted; NULL: no variant.
static uint64_t set_count(const struct held_set *set, const char *key, const char *variant)
{
    struct flags_info info;
    struct slice name, json;
    assert_true(flags_image_find(&set->view, slice_of(key), &info));
    for (uint32_t i = 0; variant != NULL && i < info.variant_count; i++)
        if (flags_image_variant_get(&set->view, slice_of(key), i, &name, &json) &&
            slice_equal(name, slice_of(variant)))
            return flags_tally_read(&set->tally, info.first_counter + i);
    return flags_tally_read(&set->tally, info.first_counter + info.variant_count);
}

static const char *const SHOWN[] = {"banner", "theme", "newFlag", "asleep", "nobody"};
static const struct proxy_flag_header_plan SHOW = {"X-Flags", SHOWN, ARRAY_LEN(SHOWN)};
static const struct proxy_attribute_plan CONTEXT[] = {
    {"plan", PROXY_ATTRIBUTE_HEADER, "X-Plan"},
    {"theme", PROXY_ATTRIBUTE_COOKIE, "theme"},
    {"want", PROXY_ATTRIBUTE_HEADER, "X-Want"},
};

static struct world *world_with(struct held_set *set, const struct flags_patch *patch)
{
    struct io_sim_config sim = {
        .seed = 1, .latency_us_min = 100, .latency_us_max = 200, .wall_start_ms = 1700000000000};
    struct proxy_config config = {0};
    struct world *w = world_create_with(&sim, &config);
    set_hold(set, SET, patch);
    set_use(w, set);
    w->service.attributes = CONTEXT;
    w->service.attribute_count = ARRAY_LEN(CONTEXT);
    return w;
}

// Asks on a connection of its own and gives what origin 0 then received.
static const char *asked(struct world *w, const char *text)
{
    struct peer *o = w->origins[0].accepted > 0 ? w->origins[0].peers[0] : NULL;
    if (o != NULL)
        peer_clear(o);
    struct peer *c = world_ask(w, text);
    assert_true(peer_has(c, "hello"));
    peer_close(c);
    assert_int_equal(w->origins[0].accepted, 1);
    return w->origins[0].peers[0]->got;
}

TEST(service_is_told)
{
    struct held_set set;
    struct world *w = world_with(&set, NULL);
    w->service.flag_headers = &SHOW;
    w->service.flag_header_count = 1;
    world_publish(w);
    assert_non_null(strstr(asked(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Plan: gold\r\n\r\n"),
                           "\r\nX-Flags: banner=on, theme=dark, new*46lag=on\r\n"));
    assert_non_null(strstr(asked(w, "GET / HTTP/1.1\r\nHost: h\r\nCookie: theme=2 cols\r\n\r\n"),
                           "\r\nX-Flags: banner=off, theme=\"2 cols\", new*46lag=on\r\n"));
    assert_non_null(strstr(asked(w, "GET / HTTP/1.1\r\nHost: h\r\nCookie: theme=a\"b\\\r\n\r\n"),
                           "theme=\"a\\\"b\\\\\", "));
    assert_non_null(strstr(asked(w, "GET / HTTP/1.1\r\nHost: h\r\nCookie: theme=f\xc3\xbcr %\r\n\r\n"),
                           "theme=%\"f%c3%bcr %25\", "));
    // No UTF-8: as if it were not there.
    assert_non_null(
        strstr(asked(w, "GET / HTTP/1.1\r\nHost: h\r\nCookie: theme=f\xc3r\r\n\r\n"), "theme=dark, "));
    assert_int_equal(set_count(&set, "banner", "on"), 1);
    assert_int_equal(set_count(&set, "banner", "off"), 4);
    assert_int_equal(set_count(&set, "asleep", NULL), 5);
    assert_int_equal(flags_tally_read(&set.tally, 0), 5); // the flag that does not exist
    // Nothing to say: no field.
    struct proxy_flag_header_plan silent = {"X-Flags", &SHOWN[3], 2};
    w->service.flag_headers = &silent;
    w->plan.flags_release = NULL;
    world_publish(w);
    assert_null(strstr(asked(w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "Flags"));
    set_use(w, &set);
    world_destroy(w);
    assert_int_equal(set.released, 1);
}

// One request at a time, chunked ones to their last byte.
static void serve_whole(struct peer *peer)
{
    bool chunked = peer_has(peer, "Transfer-Encoding: chunked");
    const char *last = chunked ? strstr(peer->got, "\r\n0\r\n") : peer->got;
    if (peer->used == 0 && last != NULL && strstr(last, "\r\n\r\n") != NULL) {
        peer->used = peer->len;
        peer_send(peer, HELLO);
    }
}

TEST(nobody_forges)
{
    static const char CHUNKED[] = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "2\r\nab\r\n0\r\nX-Flags: forged\r\nX-Sum: 7\r\nx_flags: forged\r\n\r\n";
    static const char *const FORGERIES[] = {
        "GET / HTTP/1.1\r\nHost: h\r\nX-Flags: banner=forged\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nx-flags: banner=forged\r\nA: b\r\nX-FLAGS: forged\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX_Flags: banner=forged\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Flags\r\nX-Flags: banner=forged\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Flags, keep-alive\r\n\r\n",
        CHUNKED,
    };
    struct held_set set;
    struct world *w = world_with(&set, NULL);
    w->service.flag_headers = &SHOW;
    w->service.flag_header_count = 1;
    w->origins[0].serve = serve_whole;
    world_publish(w);
    for (size_t i = 0; i < ARRAY_LEN(FORGERIES); i++) {
        const char *got = asked(w, FORGERIES[i]);
        assert_null(strstr(got, "forged"));
        assert_non_null(strstr(got, "\r\nX-Flags: banner=off, theme=dark, new*46lag=on\r\n"));
    }
    assert_non_null(strstr(w->origins[0].peers[0]->got, "X-Sum: 7\r\n")); // other trailers are left alone
    // Without a set there is nothing to tell, and still nothing to be believed.
    w->plan.flags = NULL;
    w->plan.flags_release = NULL;
    world_publish(w);
    for (size_t i = 0; i < ARRAY_LEN(FORGERIES); i++)
        assert_null(strstr(asked(w, FORGERIES[i]), "lags: "));
    proxy_reclaim(w->proxy);
    assert_int_equal(set.released, 1);
    world_destroy(w);
}

// The service leaves the table while a body is on its way: no trailer of it is believed any more.
TEST(nobody_forges_late)
{
    struct held_set set;
    struct world *w = world_with(&set, NULL);
    w->service.flag_headers = &SHOW;
    w->service.flag_header_count = 1;
    w->origins[0].serve = serve_whole;
    world_publish(w);
    struct peer *c =
        world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    w->plan.service_count = 0;
    w->plan.route_count = 0;
    w->plan.flags_release = NULL;
    world_publish(w);
    peer_send(c, "0\r\nX-Flags: forged\r\n\r\n");
    world_run(w, 1000);
    assert_true(peer_has(w->origins[0].peers[0], "0\r\n\r\n"));
    assert_false(peer_has(w->origins[0].peers[0], "forged"));
    world_destroy(w);
}

TEST(context_is_the_request)
{
    static const struct {
        struct proxy_attribute_plan from;
        const char *value;
    } CASES[] = {
        {{"it", PROXY_ATTRIBUTE_METHOD, NULL}, "echo=PUT"},
        {{"it", PROXY_ATTRIBUTE_HOST, NULL}, "echo=shop"},
        {{"it", PROXY_ATTRIBUTE_PATH, NULL}, "echo=\"/a\""},
        {{"it", PROXY_ATTRIBUTE_ADDRESS, NULL}, "echo=\"10.9.9.9\""},
        {{"it", PROXY_ATTRIBUTE_HEADER, "x-plan"}, "echo=gold"},
        {{"it", PROXY_ATTRIBUTE_COOKIE, "plan"}, "echo=gold"},
        {{"it", PROXY_ATTRIBUTE_COOKIE, "plane"}, "echo=none"},
        {{"it", PROXY_ATTRIBUTE_HEADER, "x-plane"}, "echo=none"},
    };
    static const char *const ECHOED[] = {"echo", "mine", "late"};
    static const struct proxy_flag_header_plan ECHO = {"X-Flags", ECHOED, 3};
    static const char PUT[] =
        "PUT /a?b=c HTTP/1.1\r\nHost: shop:80\r\nX-Forwarded-For: 10.9.9.9\r\nX-Plan: gold\r\n"
        "Cookie: plan=gold; sid=ada\r\nContent-Length: 0\r\n\r\n";
    struct held_set set;
    struct world *w = world_with(&set, NULL);
    w->plan.flags_release = NULL;
    w->plan.trusted_hops = 1;
    w->service.flag_headers = &ECHO;
    w->service.flag_header_count = 1;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        w->service.attributes = &CASES[i].from;
        w->service.attribute_count = 1;
        world_publish(w);
        assert_non_null(strstr(asked(w, PUT), CASES[i].value));
        assert_true(peer_has(w->origins[0].peers[0], "mine=off")); // the unit is the request: no key
    }
    assert_true(peer_has(w->origins[0].peers[0], "late=on")); // by the worker's wall clock
    // The targeting key: the unit, or what is said.
    w->service.unit = PROXY_UNIT_COOKIE;
    w->service.unit_name = "sid";
    world_publish(w);
    assert_non_null(strstr(asked(w, PUT), "mine=on"));
    struct proxy_attribute_plan key = {NULL, PROXY_ATTRIBUTE_HEADER, "X-Plan"};
    w->service.key = &key;
    world_publish(w);
    assert_non_null(strstr(asked(w, PUT), "mine=off"));
    set_release(&set);
    world_destroy(w);
}

// ---- versions ----

static uint64_t arms_routed(struct world *w, uint64_t units[2], uint64_t events[2], uint64_t routed[2])
{
    struct rollout_span_delta out[16];
    for (int round = 0; round < 5; round++) {
        bool more = true;
        while (more) {
            uint32_t told = proxy_gather_spans(w->proxy, 0, out, ARRAY_LEN(out), &more);
            for (uint32_t i = 0; i < told; i++)
                for (int arm = 0; arm < 2; arm++) {
                    routed[arm] += out[i].arms[arm].routed;
                    units[arm] += out[i].arms[arm].units;
                    events[arm] += out[i].arms[arm].error_events;
                }
        }
        world_run(w, 100);
    }
    return routed[0] + routed[1];
}

TEST(flag_chooses_the_version)
{
    struct held_set set;
    struct world *w = world_with(&set, NULL);
    uint64_t units[2] = {0}, errors[2] = {0}, routed[2] = {0};
    for (int i = 1; i < 3; i++)
        w->origins[i].reply = i == 1 ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv2"
                                     : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv3";
    w->service.version_flag = "release";
    world_publish(w);
    assert_true(peer_has(world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Want: v3\r\n\r\n"), "v3"));
    assert_true(peer_has(world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Want: v2\r\n\r\n"), "v2"));
    assert_int_equal(version_counter(w, 2, PROXY_VERSION_FLAGGED), 1);
    assert_int_equal(arms_routed(w, units, errors, routed), 0); // nobody was drawn by lot
    // A variant that is no version, a variant that the flag does not have, and nothing wanted.
    static const char *const WANTS[] = {"none", "nonsense", "", "none", "nonsense"};
    for (size_t i = 0; i < ARRAY_LEN(WANTS); i++) {
        char text[128];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nX-Want: %s\r\n\r\n", WANTS[i]);
        assert_true(peer_has(world_ask(w, text), "hello"));
    }
    assert_int_equal(arms_routed(w, units, errors, routed), 5);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_FLAGGED), 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_FLAG_VERSIONS_UNKNOWN), 5);
    struct proxy_event events[4];
    assert_int_equal(proxy_events_take(w->proxy, events, 4), 1); // said once
    assert_int_equal(events[0].kind, PROXY_EVENT_FLAG);
    assert_int_equal(events[0].service, 0);
    assert_non_null(strstr(events[0].reason, "names none"));
    world_destroy(w);
    assert_int_equal(set.released, 1);
}

TEST(operators_come_first)
{
    struct held_set set;
    struct world *w = world_with(&set, NULL);
    static const struct proxy_network everywhere = {.bits = 0};
    w->plan.operators = &everywhere;
    w->plan.operator_count = 1;
    w->service.version_flag = "release";
    w->service.flag_headers = &SHOW;
    w->service.flag_header_count = 1;
    w->origins[1].reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv2";
    world_publish(w);
    struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Want: v3\r\nX-Sluice-Version: v2\r\n\r\n");
    assert_true(peer_has(c, "v2"));
    assert_true(peer_has(w->origins[1].peers[0], "X-Flags: banner=off")); // it is told all the same
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_FORCED), 1);
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_FLAGGED), 0);
    assert_int_equal(version_counter(w, 2, PROXY_VERSION_REQUESTS), 0);
    world_destroy(w);
}

// ---- the arms of a flag's rollout ----

static struct flags_patch split_of(uint32_t share)
{
    return (struct flags_patch){.key = SLICE("move"),
                                .split = true,
                                .split_from = SLICE("v1"),
                                .split_to = SLICE("v2"),
                                .split_share = share};
}

static enum flags_arm arm_of(const struct held_set *set, const char *user)
{
    struct flags_context context = {.has_targeting_key = true, .targeting_key = slice_of(user)};
    struct flags_result result;
    flags_evaluate(&set->view, SLICE("move"), FLAGS_ANY, &context,
                   (struct flags_scratch){fixture.scratch, sizeof fixture.scratch}, &result);
    return result.arm;
}

static const struct proxy_attribute_plan BY_USER = {NULL, PROXY_ATTRIBUTE_COOKIE, "user"};

static void ask_as(struct world *w, struct peer *c, const char *user)
{
    char text[128];
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nCookie: user=%s\r\n\r\n", user);
    peer_send(c, text);
    world_run(w, 2);
    peer_clear(c);
}

// The version flag, if the service has one, is the flag that moves: its split is the rollout.
static void arms_follow_the_split(struct world *w, const struct held_set *set, bool chooses)
{
    enum { USERS = 60, TIMES = 3 };
    uint64_t units[2] = {0}, events[2] = {0}, routed[2] = {0}, expected[2] = {0};
    struct peer *c = world_connect(w);
    for (int i = 0; i < USERS * TIMES; i++) {
        char user[16];
        snprintf(user, sizeof user, "u%d", i % USERS);
        enum flags_arm arm = arm_of(set, user);
        assert_int_not_equal(arm, FLAGS_ARM_NONE);
        expected[arm == FLAGS_ARM_TO] += i < USERS;
        ask_as(w, c, user);
    }
    // Not drawn: nobody, and an individual target.
    ask_as(w, c, "");
    ask_as(w, c, "tester");
    assert_int_equal(arms_routed(w, units, events, routed), USERS * TIMES);
    assert_true(expected[0] > 10 && expected[1] > 5);
    for (int arm = 0; arm < 2; arm++) {
        assert_int_equal(units[arm], expected[arm]);
        assert_int_equal(routed[arm], expected[arm] * TIMES);
        assert_int_equal(events[arm], expected[arm]); // every user fails, once that counts
    }
    uint64_t canary = chooses ? expected[1] * TIMES + 1 : 0;
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_REQUESTS), canary);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_REQUESTS), USERS * TIMES + 2 - canary);
}

TEST(split_gives_arms)
{
    for (int chooses = 0; chooses < 2; chooses++) {
        struct held_set set;
        struct flags_patch patch = split_of(30000);
        struct world *w = world_with(&set, &patch);
        for (int i = 0; i < 2; i++)
            w->origins[i].reply = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
        w->service.arm_flag = "move";
        w->service.version_flag = chooses ? "move" : NULL;
        w->service.key = &BY_USER;
        w->service.weight = 30000;
        w->service.canary = PROXY_VERSION_NONE;
        world_publish(w);
        arms_follow_the_split(w, &set, chooses);
        // Each request asks its flag once, whatever for.
        assert_int_equal(set_count(&set, "move", "v1") + set_count(&set, "move", "v2"), 182);
        world_destroy(w);
        assert_int_equal(set.released, 1);
    }
}

// The key may be the sticky cookie's unit: the first answer sets it, the split and the sheets know it by
// that.
TEST(sticky_unit_is_a_key)
{
    struct held_set set;
    struct flags_patch patch = split_of(50000);
    struct world *w = world_with(&set, &patch);
    uint64_t units[2] = {0}, events[2] = {0}, routed[2] = {0};
    w->service.arm_flag = "move";
    w->service.weight = 50000;
    w->service.unit = PROXY_UNIT_STICKY;
    world_publish(w);
    for (int i = 0; i < 20; i++) {
        struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        char *cookie = strstr(c->got, "Set-Cookie: sluice=");
        assert_non_null(cookie);
        char key[17];
        snprintf(key, sizeof key, "%.16s", cookie + 19);
        char text[256];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nCookie: sluice=%.50s\r\n\r\n", cookie + 19);
        peer_clear(c);
        peer_send(c, text);
        world_run(w, 100);
        assert_false(peer_has(c, "Set-Cookie"));
        uint64_t before = units[1];
        assert_int_equal(arms_routed(w, units, events, routed), 2 * (i + 1));
        assert_int_equal(units[0] + units[1], i + 1);
        assert_int_equal(units[1] > before, arm_of(&set, key) == FLAGS_ARM_TO);
    }
    world_destroy(w);
}

// ---- bounds ----

TEST(too_much_is_left_out_whole)
{
    enum { FLAGS = 64 };
    static char json[1 << 16], keys[FLAGS][16], head[1 << 15];
    static const char *names[FLAGS];
    size_t len = (size_t)snprintf(json, sizeof json, "{\"flags\":{");
    for (int i = 0; i < FLAGS; i++) {
        snprintf(keys[i], sizeof keys[i], "flag-%02d", i);
        names[i] = keys[i];
        len +=
            (size_t)snprintf(json + len, sizeof json - len,
                             "%s\"%s\":{\"state\":\"ENABLED\",\"variants\":{\"v%0*d\":1},"
                             "\"defaultVariant\":\"v%0*d\"}",
                             i == 0 ? "" : ",", keys[i], i % 2 == 0 ? 150 : 20, i, i % 2 == 0 ? 150 : 20, i);
    }
    snprintf(json + len, sizeof json - len, "}}");
    struct proxy_flag_header_plan headers[2] = {{"X-Flags", names, 40}, {"X-More", names + 40, 24}};
    struct held_set set;
    struct world *w = world_create();
    set_hold(&set, json, NULL);
    set_use(w, &set);
    w->service.flag_headers = headers;
    w->service.flag_header_count = 2;
    world_publish(w);
    // A small head, and the largest that is accepted: it goes on, with less beside it.
    uint64_t left = 0;
    for (int large = 0; large < 2; large++) {
        size_t n = (size_t)snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: h\r\n");
        for (int i = 0; large && i < 2; i++)
            n += (size_t)snprintf(head + n, sizeof head - n, "A: %0*d\r\n", 8100, 1);
        snprintf(head + n, sizeof head - n, "\r\n");
        const char *got = asked(w, head);
        uint64_t seen = 0;
        size_t bytes = 0;
        for (int i = 0; i < FLAGS; i++) {
            char member[2048];
            snprintf(member, sizeof member, "%s=v%0*d", keys[i], i % 2 == 0 ? 150 : 20, i);
            const char *at = strstr(got, member);
            seen += at != NULL;
            bytes += at != NULL ? strlen(member) : 0;
            assert_true(at == NULL || at[strlen(member)] == ',' || at[strlen(member)] == '\r');
            assert_int_equal(at == NULL, strstr(got, keys[i]) == NULL); // never a part
        }
        uint64_t now = worker_counter(w, PROXY_WORKER_FLAGS_LEFT_OUT);
        assert_int_equal(seen + (now - left), FLAGS);
        assert_true(seen >= 5 && now > left && bytes <= PROXY_FLAG_HEADERS_BYTES_MAX);
        assert_true(large ? bytes < 4000 : bytes > 3700);
        left = now;
    }
    world_destroy(w);
}

// One answer for each connection; it then dies at the next request.
static void serve_once(struct peer *peer)
{
    if (peer->requests++ == 0)
        peer_send(peer, HELLO);
    else
        peer_close(peer);
}

// A head that is written again, because a pooled connection was dead, tells the same and believes no more.
// The evaluation is counted once.
TEST(retries_tell_and_do_not_count)
{
    static const char TEXT[] = "GET / HTTP/1.1\r\nHost: h\r\nX-Flags: forged\r\nX-Plan: gold\r\n\r\n";
    struct held_set set;
    struct world *w = world_with(&set, NULL);
    w->service.flag_headers = &SHOW;
    w->service.flag_header_count = 1;
    w->origins[0].serve = serve_once;
    world_publish(w);
    for (uint32_t i = 0; i < 4; i++) {
        struct peer *c = world_ask(w, TEXT);
        assert_true(peer_has(c, "200 OK"));
        peer_close(c);
        assert_int_equal(version_counter(w, 0, PROXY_VERSION_RETRIES), i);
        const struct peer *o = w->origins[0].peers[i];
        assert_true(peer_has(o, "\r\nX-Flags: banner=on, theme=dark, new*46lag=on\r\n"));
        assert_false(peer_has(o, "forged"));
        assert_int_equal(set_count(&set, "banner", "on"), i + 1);
    }
    world_destroy(w);
}

// ---- tables ----

TEST(sets_are_released_once)
{
    enum { SETS = 50 };
    static struct held_set sets[SETS];
    struct world *w = world_create();
    w->service.attributes = CONTEXT;
    w->service.attribute_count = ARRAY_LEN(CONTEXT);
    w->service.flag_headers = &SHOW;
    w->service.flag_header_count = 1;
    struct peer *c = world_connect(w);
    for (int i = 0; i < SETS; i++) {
        set_hold(&sets[i], SET, NULL);
        set_use(w, &sets[i]);
        peer_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        world_publish(w);
        proxy_reclaim(w->proxy);
        for (int k = 0; k <= i; k++)
            assert_int_equal(sets[k].released, k < i);
    }
    // A table that is not built releases nothing; one that is not published is its builder's to destroy.
    static struct held_set other;
    struct proxy_table *table;
    struct fault why;
    set_hold(&other, SET, NULL);
    set_use(w, &other);
    w->plan.version = ++w->table_version;
    w->service.weight = ROLLOUT_WEIGHT_FULL + 1;
    assert_int_equal(proxy_table_build(&w->plan, &table, &why), STATUS_INVALID);
    w->service.weight = 0;
    heap_fail_after(0);
    assert_int_equal(proxy_table_build(&w->plan, &table, &why), STATUS_NO_MEMORY);
    heap_fail_after(-1);
    w->routes[1] = w->routes[0];
    w->plan.route_count = 2;
    assert_int_equal(proxy_table_build(&w->plan, &table, &why), STATUS_INVALID);
    w->plan.route_count = 1;
    assert_int_equal(other.released, 0);
    assert_int_equal(proxy_table_build(&w->plan, &table, &why), STATUS_OK);
    assert_int_equal(other.released, 0);
    proxy_table_destroy(table);
    assert_int_equal(other.released, 1);
    world_destroy(w);
    for (int i = 0; i < SETS; i++)
        assert_int_equal(sets[i].released, 1);
    assert_int_equal(other.released, 1);
}

static struct proxy_service_plan faulty;
static struct proxy_version_plan one_version = {.name = "v1"};
static struct proxy_attribute_plan attributes[PROXY_ATTRIBUTES_MAX + 1];
static struct proxy_flag_header_plan headers[PROXY_FLAG_HEADERS_MAX + 1];
static const char *many[PROXY_HEADER_FLAGS_MAX + 1];
static char many_text[PROXY_HEADER_FLAGS_MAX + 1][16];

static void faulty_reset(void)
{
    static char names[PROXY_ATTRIBUTES_MAX + 1][16];
    for (int i = 0; i <= PROXY_ATTRIBUTES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "A%d", i);
        attributes[i] = (struct proxy_attribute_plan){names[i], PROXY_ATTRIBUTE_HEADER, "x"};
    }
    for (int i = 0; i <= PROXY_HEADER_FLAGS_MAX; i++) {
        snprintf(many_text[i], sizeof many_text[i], "f%d", i);
        many[i] = many_text[i];
    }
    for (int i = 0; i <= PROXY_FLAG_HEADERS_MAX; i++)
        headers[i] = (struct proxy_flag_header_plan){names[i], many, 1};
    faulty = (struct proxy_service_plan){.name = "s",
                                         .versions = &one_version,
                                         .version_count = 1,
                                         .canary = PROXY_VERSION_NONE,
                                         .control = PROXY_VERSION_NONE,
                                         .attributes = attributes,
                                         .attribute_count = PROXY_ATTRIBUTES_MAX,
                                         .flag_headers = headers,
                                         .flag_header_count = PROXY_FLAG_HEADERS_MAX,
                                         .version_flag = "a",
                                         .arm_flag = "b",
                                         .key = &BY_USER};
}

static void expect(enum status expected)
{
    struct proxy_table *table = NULL;
    struct fault why = {0};
    struct proxy_table_plan plan = {.version = 1, .services = &faulty, .service_count = 1};
    assert_int_equal(proxy_table_build(&plan, &table, &why), expected);
    assert_int_equal(table != NULL, expected == STATUS_OK);
    assert_int_equal(why.status, expected);
    assert_int_equal(why.text[0] != '\0', expected != STATUS_OK);
    proxy_table_destroy(table);
    faulty_reset();
}

TEST(plans_that_are_refused)
{
    static char longest[2048];
    memset(longest, 'a', sizeof longest - 1);
    struct proxy_attribute_plan key = {NULL, PROXY_ATTRIBUTE_HEADER, NULL};
    faulty_reset();
    expect(STATUS_OK);
    faulty.weight = 5000; // a share that moves nothing needs no canary
    expect(STATUS_OK);
    faulty.attribute_count++;
    expect(STATUS_INVALID);
    faulty.flag_header_count++;
    expect(STATUS_INVALID);
    static const char *const NAMES[] = {
        "", "X Flags", "Host", "cookie", "Connection", "X-Sluice-Version", "X-Real-IP", "te", "Content-Type"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        headers[0].name = NAMES[i];
        expect(STATUS_INVALID);
    }
    headers[0].name = "x-a";
    headers[1].name = "X_A";
    expect(STATUS_INVALID);
    many[1] = "f0";
    headers[0].flag_count = 2;
    expect(STATUS_INVALID);
    headers[0].flag_count = PROXY_HEADER_FLAGS_MAX; // and one in each of the others
    expect(STATUS_INVALID);
    faulty.flag_header_count = 1;
    headers[0].flag_count = PROXY_HEADER_FLAGS_MAX;
    expect(STATUS_OK);
    headers[0].flag_count = UINT32_MAX;
    expect(STATUS_INVALID);
    many[0] = longest;
    expect(STATUS_INVALID);
    attributes[3].name = "targetingKey";
    expect(STATUS_INVALID);
    attributes[3].name = attributes[4].name;
    expect(STATUS_INVALID);
    attributes[3].name = longest;
    expect(STATUS_INVALID);
    attributes[3].source = NULL;
    expect(STATUS_INVALID);
    attributes[3].kind = (enum proxy_attribute_kind)(PROXY_ATTRIBUTE_PATH + 1);
    expect(STATUS_INVALID);
    faulty.key = &key;
    expect(STATUS_INVALID);
    faulty.version_flag = "";
    expect(STATUS_INVALID);
    faulty.arm_flag = longest;
    expect(STATUS_INVALID);
    faulty.control = 0;
    faulty.weight_control = 1;
    expect(STATUS_INVALID);
}
