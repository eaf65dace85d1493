// SPDX-License-Identifier: Apache-2.0
// ofrep: flagd's services over gRPC, byte for byte: messages in and out, statuses, contexts of every shape,
// deadlines, and what streams are told.
#include "base/protobuf.h"
#include "ofrep_world.h"
#include "test.h"

#define V1 "/flagd.evaluation.v1.Service/"
#define SYNC "/flagd.sync.v1.FlagSyncService/"
#define HEALTH "/grpc.health.v1.Health/Check"
#define ON_OFF "\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false}"
#define ONE "\"state\":\"ENABLED\",\"defaultVariant\":\"v\",\"variants\""

static const char SET[] =
    "{\"flags\":{"
    "\"b\":{" ON_OFF ",\"defaultVariant\":\"on\"},\n"
    "\"zero\":{" ON_OFF ",\"defaultVariant\":\"off\"},\n"
    "\"none\":{" ON_OFF ",\"defaultVariant\":null},\n"
    "\"bad\":{" ON_OFF ",\"defaultVariant\":\"on\",\"targeting\":{\"nosuch\":[1]}},\n"
    "\"s\":{" ONE ":{\"v\":\"h\\u00e9\"}},\n"
    "\"i\":{" ONE ":{\"v\":-2}},\n"
    "\"d\":{" ONE ":{\"v\":0.5}},\n"
    "\"o\":{" ONE ":{\"v\":{\"a\":[1,{\"n\":null}],\"t\":true}}},\n"
    "\"rule\":{\"state\":\"ENABLED\",\"variants\":{\"yes\":\"y\",\"no\":\"n\"},\"defaultVariant\":\"no\","
    "\"targeting\":{\"if\":[{\"==\":[{\"var\":\"a.b\"},1.5]},\"yes\"]}}}}";
static const char NEXT[] = "{\"flags\":{\"b\":{" ON_OFF ",\"defaultVariant\":\"off\"}}}";

static const char *const GRPC[] = {"Content-Type: application/grpc", "Te: trailers", NULL};
static struct ofrep_core core;
static struct world_snapshot *world;
static struct world_snapshot *next;

static int setup(void **state)
{
    struct ofrep_config config = {0};
    (void)state;
    assert_int_equal(ofrep_core_init(&core, &config), STATUS_OK);
    world = world_snapshot(SET, 1);
    next = world_snapshot(NEXT, 2);
    world_publish(&core, world);
    world_http2 = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_http2 = false;
    ofrep_core_deinit(&core);
    world_free(world);
    world_free(next);
    return 0;
}

ALL_TESTS(setup, teardown);

static struct slice enveloped(struct slice message)
{
    static char bytes[1 << 12];
    CHECK(message.len + 5 <= sizeof bytes);
    memcpy(bytes, "\0\0\0", 3);
    bytes[3] = (char)(message.len >> 8);
    bytes[4] = (char)message.len;
    memcpy(bytes + 5, message.data, message.len);
    return (struct slice){bytes, message.len + 5};
}

static void call_with(const char *target, const char *const *headers, struct slice message)
{
    world_ask_bytes(&core, "POST", target, headers, enveloped(message));
    assert_int_equal(world_answer.status, 200);
    assert_string_equal(world_answer.type, "application/grpc");
}

static void assert_answer(const char *target, struct slice message, struct slice wanted)
{
    call_with(target, GRPC, message);
    assert_string_equal(world_answer.trailers, "grpc-status: 0\r\n");
    assert_int_equal(world_answer.body_len, wanted.len + 5);
    assert_int_equal((unsigned char)world_answer.body[4], wanted.len);
    assert_memory_equal(world_answer.body + 5, wanted.data, wanted.len);
}
#define ASSERT_ANSWER(method, message, wanted) assert_answer(V1 method, SLICE(message), SLICE(wanted))

static void assert_status(unsigned status)
{
    char wanted[32];
    snprintf(wanted, sizeof wanted, "grpc-status: %u\r\n", status);
    if (strncmp(world_answer.trailers, wanted, strlen(wanted)) != 0)
        fail_msg("not %u but %s", status, world_answer.trailers);
    assert_int_equal(world_answer.body_len, 0);
    assert_non_null(strstr(world_answer.trailers, "grpc-message: "));
}

static void assert_fails(const char *target, struct slice message, unsigned status)
{
    call_with(target, GRPC, message);
    assert_status(status);
}

TEST(values)
{
    ASSERT_ANSWER("ResolveBoolean",
                  "\x0a\x01"
                  "b",
                  "\x08\x01\x12\x06STATIC\x1a\x02on");
    // The zero of a type is said: v2 tells it from none.
    ASSERT_ANSWER("ResolveBoolean", "\x0a\x04zero", "\x08\x00\x12\x06STATIC\x1a\x03off");
    ASSERT_ANSWER("ResolveBoolean", "\x0a\x04none",
                  "\x12\x07"
                  "DEFAULT");
    ASSERT_ANSWER("ResolveString", "\x0a\x01s", "\x0a\x03h\xc3\xa9\x12\x06STATIC\x1a\x01v");
    ASSERT_ANSWER("ResolveInt", "\x0a\x01i",
                  "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x06STATIC\x1a\x01v");
    ASSERT_ANSWER("ResolveFloat",
                  "\x0a\x01"
                  "d",
                  "\x09\x00\x00\x00\x00\x00\x00\xe0\x3f\x12\x06STATIC\x1a\x01v");
    // {"a": [1, {"n": null}], "t": true}
    ASSERT_ANSWER("ResolveObject", "\x0a\x01o",
                  "\x0a\x2a"
                  "\x0a\x1f\x0a\x01"
                  "a\x12\x1a\x32\x18\x0a\x09\x11\x00\x00\x00\x00\x00\x00\xf0\x3f"
                  "\x0a\x0b\x2a\x09\x0a\x07\x0a\x01"
                  "n\x12\x02\x08\x00"
                  "\x0a\x07\x0a\x01t\x12\x02\x20\x01\x12\x06STATIC\x1a\x01v");
}

// {"a": {"b": 1.5}}, in what order and how often its parts come, and with fields that nobody knows.
TEST(contexts)
{
#define B_IS_1_5 "\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf8\x3f"
#define INNER                                                                                                \
    "\x2a\x10\x0a\x0e\x0a\x01"                                                                               \
    "b" B_IS_1_5
    static const char YES[] = "\x0a\x01y\x12\x0fTARGETING_MATCH\x1a\x03yes";
    static const char NO[] = "\x0a\x01n\x12\x07"
                             "DEFAULT\x1a\x02no";
    const struct slice yes = {YES, sizeof YES - 1};
    const struct slice no = {NO, sizeof NO - 1};
    assert_answer(V1 "ResolveString", SLICE("\x0a\x04rule"), no);
    assert_answer(V1 "ResolveString", SLICE("\x0a\x04rule\x12\x00"), no);
    assert_answer(V1 "ResolveString",
                  SLICE("\x0a\x04rule\x12\x19\x0a\x17\x0a\x01"
                        "a\x12\x12" INNER),
                  yes);
    assert_answer(V1 "ResolveString",
                  SLICE("\x12\x19\x0a\x17\x0a\x01"
                        "a\x12\x12" INNER "\x78\x05\x0a\x04rule"),
                  yes);
    // The value before its key, the last of two, the last of two entries.
    assert_answer(V1 "ResolveString",
                  SLICE("\x0a\x04rule\x12\x19\x0a\x17\x12\x12" INNER "\x0a\x01"
                        "a"),
                  yes);
    assert_answer(V1 "ResolveString",
                  SLICE("\x0a\x01x\x0a\x04rule\x12\x1b\x0a\x19\x0a\x01"
                        "a\x12\x14\x20\x01" INNER),
                  yes);
    assert_answer(V1 "ResolveString",
                  SLICE("\x0a\x04rule\x12\x22\x0a\x17\x0a\x01"
                        "a\x12\x12" INNER "\x0a\x07\x0a\x01"
                        "a\x12\x02\x20\x01"),
                  no);
#undef INNER
#undef B_IS_1_5
}

TEST(broken_messages)
{
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x02"
                       "b"),
                 13);
    assert_fails(V1 "ResolveBoolean", SLICE("\x0a\x01\xff"), 13);
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x01"
                       "b\x12\x02\x0a\x07"),
                 3);
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x01"
                       "b\x12\x09\x0a\x07\x0a\x01k\x12\x02\x1a\x07"),
                 3);
    // Texts that are none, and a number that is not finite.
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x01"
                       "b\x12\x0a\x0a\x08\x0a\x01k\x12\x03\x1a\x01\xff"),
                 3);
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x01"
                       "b\x12\x07\x0a\x05\x0a\x01\xff\x12\x00"),
                 3);
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x01"
                       "b\x12\x10\x0a\x0e\x0a\x01k\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf0\x7f"),
                 3);
    // Without a value it is null.
    call_with(V1 "ResolveBoolean", GRPC,
              SLICE("\x0a\x01"
                    "b\x12\x05\x0a\x03\x0a\x01k"));
    assert_string_equal(world_answer.trailers, "grpc-status: 0\r\n");
}

// Lists within lists, as deep as JSON may be, and one more.
TEST(deep_contexts)
{
    for (unsigned depth = FLAGS_JSON_DEPTH_MAX - 1; depth <= FLAGS_JSON_DEPTH_MAX; depth++) {
        struct json_out out = {0};
        size_t begins[4 + 2 * FLAGS_JSON_DEPTH_MAX];
        size_t count = 0;
        protobuf_put_bytes(&out, 1, SLICE("b"));
        begins[count++] = protobuf_open(&out, 2);
        begins[count++] = protobuf_open(&out, 1);
        protobuf_put_bytes(&out, 1, SLICE("k"));
        begins[count++] = protobuf_open(&out, 2);
        for (unsigned i = 0; i < depth; i++) {
            begins[count++] = protobuf_open(&out, 6);
            if (i + 1 < depth)
                begins[count++] = protobuf_open(&out, 1);
        }
        while (count > 0)
            protobuf_close(&out, begins[--count]);
        call_with(V1 "ResolveBoolean", GRPC, json_out_slice(&out));
        const char *wanted = depth == FLAGS_JSON_DEPTH_MAX
                                 ? "grpc-status: 3\r\ngrpc-message: the context is nested too deep\r\n"
                                 : "grpc-status: 0\r\n";
        assert_string_equal(world_answer.trailers, wanted);
        json_out_free(&out);
    }
}

TEST(errors)
{
    assert_fails(V1 "ResolveBoolean", SLICE("\x0a\x04what"), 5);
    assert_string_equal(world_answer.fields, "");
    assert_fails(V1 "ResolveBoolean", SLICE("\x0a\x01s"), 3);
    assert_fails(V1 "ResolveInt",
                 SLICE("\x0a\x01"
                       "d"),
                 3);
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x03"
                       "bad"),
                 15);
    assert_fails(V1 "Resolve", SLICE(""), 12);
    assert_fails("/no.Service/Resolve", SLICE(""), 12);
    core.snapshot = NULL;
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x01"
                       "b"),
                 14);
    core.snapshot = &world->base;
    // The message percent-encoded.
    call_with(V1 "ResolveBoolean", GRPC, SLICE("\x0a\x01s"));
    assert_null(strchr(strstr(world_answer.trailers, "grpc-message"), '%'));
    world_ask(&core, "GET", V1 "ResolveAll", GRPC, "");
    assert_status(12);
}

static void assert_body_fails(struct slice body, unsigned status)
{
    world_ask_bytes(&core, "POST", V1 "ResolveBoolean", GRPC, body);
    assert_status(status);
}

TEST(envelopes)
{
    assert_body_fails(SLICE(""), 12);
    assert_body_fails(SLICE("\0\0\0"), 13);
    assert_body_fails(SLICE("\0\0\0\0\4\x0a\x01"
                            "b"),
                      13);
    assert_body_fails(SLICE("\0\0\0\0\3\x0a\x01"
                            "bb"),
                      12);
    assert_body_fails(SLICE("\0\0\x10\0\1\x0a\x01"
                            "b"),
                      8);
    assert_body_fails(SLICE("\0\xff\xff\xff\xff"), 8);
    assert_body_fails(SLICE("\2\0\0\0\3\x0a\x01"
                            "b"),
                      13);
    assert_body_fails(SLICE("\1\0\0\0\3\x0a\x01"
                            "b"),
                      13);
    static const char *const GZIP[] = {"Content-Type: application/grpc+proto", "grpc-encoding: gzip", NULL};
    world_ask_bytes(&core, "POST", V1 "ResolveBoolean", GZIP,
                    SLICE("\1\0\0\0\3\x0a\x01"
                          "b"));
    assert_status(12);
    assert_string_equal(world_field("grpc-accept-encoding"), "identity");
    // It is said, but not done: then there is nothing to refuse.
    call_with(V1 "ResolveBoolean", GZIP,
              SLICE("\x0a\x01"
                    "b"));
    assert_string_equal(world_answer.trailers, "grpc-status: 0\r\n");
}

// What is no gRPC, or comes over HTTP/1.1, which cannot carry it, is told what is spoken here.
TEST(media_types)
{
    static const char *const OTHERS[] = {"application/grpc-web", "application/grpc+json",
                                         "application/grpcx"};
    static const char *const GOOD[] = {"application/grpc;v=1", "application/grpc+proto"};
    char line[64];
    const char *const headers[] = {line, NULL};
    for (size_t i = 0; i < ARRAY_LEN(OTHERS); i++) {
        snprintf(line, sizeof line, "Content-Type: %s", OTHERS[i]);
        world_ask_bytes(&core, "POST", V1 "ResolveBoolean", headers,
                        enveloped(SLICE("\x0a\x01"
                                        "b")));
        assert_int_equal(world_answer.status, 415);
        assert_string_equal(world_answer.trailers, "");
    }
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
        snprintf(line, sizeof line, "Content-Type: %s", GOOD[i]);
        call_with(V1 "ResolveBoolean", headers,
                  SLICE("\x0a\x01"
                        "b"));
        assert_string_equal(world_answer.trailers, "grpc-status: 0\r\n");
    }
    world_http2 = false;
    world_ask_bytes(&core, "POST", V1 "ResolveBoolean", GRPC,
                    enveloped(SLICE("\x0a\x01"
                                    "b")));
    assert_int_equal(world_answer.status, 415);
    world_http2 = true;
}

static void assert_timeout(const char *timeout, uint64_t waited_us, unsigned status)
{
    char line[64];
    const char *const headers[] = {"Content-Type: application/grpc", line, NULL};
    snprintf(line, sizeof line, "grpc-timeout: %s", timeout);
    world_now_us = 1000000000000 + waited_us;
    world_begun_us = 1000000000000;
    call_with(V1 "ResolveBoolean", headers,
              SLICE("\x0a\x01"
                    "b"));
    if (status != 0)
        assert_status(status);
    else
        assert_string_equal(world_answer.trailers, "grpc-status: 0\r\n");
    world_now_us = world_begun_us = 0;
}

TEST(timeouts)
{
    static const struct {
        const char *timeout;
        uint64_t us;
    } CASES[] = {{"1H", 3600000000},
                 {"2M", 120000000},
                 {"3S", 3000000},
                 {"4m", 4000},
                 {"5u", 5},
                 {"6000n", 6},
                 {"99999999H", 359999996400000000}};
    static const char *const MALFORMED[] = {"S", "1", "1s", "-1S", "1.5S", "123456789S", "1SS", " 1S"};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        assert_timeout(CASES[i].timeout, CASES[i].us - 1, 0);
        assert_timeout(CASES[i].timeout, CASES[i].us, 4);
    }
    for (size_t i = 0; i + 1 < ARRAY_LEN(MALFORMED); i++)
        assert_timeout(MALFORMED[i], 0, 3);
}

TEST(all_flags)
{
    call_with(V1 "ResolveAll", GRPC, SLICE(""));
    assert_string_equal(world_answer.trailers, "grpc-status: 0\r\n");
    struct slice body = {world_answer.body + 5, world_answer.body_len - 5};
    static const struct slice PARTS[] = {
        {"\x0a\x13\x0a\x01"
         "b\x12\x0e\x0a\x06STATIC\x12\x02on\x18\x01",
         21},
        {"\x0a\x11\x0a\x04none\x12\x09\x0a\x07"
         "DEFAULT",
         19},
        {"\x0a\x0e\x0a\x03"
         "bad\x12\x07\x0a\x05"
         "ERROR",
         16},
        {"\x0a\x15\x0a\x01s\x12\x10\x0a\x06STATIC\x12\x01v\x22\x03h\xc3\xa9", 23},
    };
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++)
        if (memmem(body.data, body.len, PARTS[i].data, PARTS[i].len) == NULL)
            fail_msg("part %zu is not there", i);
    uint32_t count = 0;
    struct protobuf_reader reader = {.rest = body};
    struct protobuf_field field;
    while (protobuf_next(&reader, &field))
        count += field.number == 1;
    assert_false(reader.bad);
    assert_int_equal(count, flags_image_flag_count(&world->base.all.set));
}

TEST(health)
{
    assert_answer(HEALTH, SLICE(""), SLICE("\x08\x01"));
    assert_answer(HEALTH,
                  SLICE("\x0a\x1b"
                        "flagd.evaluation.v1.Service"),
                  SLICE("\x08\x01"));
    assert_fails(HEALTH, SLICE("\x0a\x01x"), 5);
    assert_fails("/grpc.health.v1.Health/Watch", SLICE(""), 12);
    core.snapshot = NULL;
    assert_answer(HEALTH, SLICE(""), SLICE("\x08\x02"));
    core.snapshot = &world->base;
    // Whoever balances needs no token.
    core.tokens = (const struct tokens *)&core;
    assert_answer(HEALTH, SLICE(""), SLICE("\x08\x01"));
    assert_fails(V1 "ResolveBoolean",
                 SLICE("\x0a\x01"
                       "b"),
                 16);
    static const char *const READ[] = {"Content-Type: application/grpc", "Authorization: Bearer read", NULL};
    call_with(SYNC "FetchAllFlags", READ, SLICE(""));
    assert_status(7);
    core.tokens = NULL;
    assert_int_equal(
        world_ask(&core, "POST", HEALTH, (const char *const[]){"Content-Type: application/json", NULL}, "{}")
            ->status,
        200);
    assert_string_equal(world_member("status"), "SERVING");
}

// ---- streams ----

static void *open_stream(const char *target, const char *const *headers, struct slice wanted)
{
    call_with(target, headers, SLICE(""));
    assert_non_null(world_answer.subject);
    assert_memory_equal(world_answer.body + 5, wanted.data, wanted.len);
    return world_answer.subject;
}

TEST(events)
{
    static const char CHANGE[] = "\x0a\x14"
                                 "configuration_change";
    static const char READY[] = "\x0a\x0eprovider_ready";
    static const char *const LATE[] = {"Content-Type: application/grpc", "grpc-timeout: 2S", NULL};
    void *stream = open_stream(V1 "EventStream", GRPC, (struct slice){READY, sizeof READY - 1});
    world_now_us = world_begun_us = 5000000;
    void *late = open_stream(V1 "EventStream", LATE, (struct slice){READY, sizeof READY - 1});
    world_now_us = world_begun_us = 0;
    void *sync = open_stream(SYNC "SyncFlags", GRPC, SLICE("\x0a"));
    world_sent_len = 0;
    ofrep_streams_beat(&core);
    assert_int_equal(world_sent_len, 2 * 17);
    assert_memory_equal(world_sent, "\0\0\0\0\x0c\x0a\x0akeep_alive", 17);
    world_sent_len = 0;
    world_publish(&core, next);
    assert_memory_equal(world_sent, "\0\0\0", 3);
    assert_memory_equal(world_sent + 5, CHANGE, sizeof CHANGE - 1);
    // {"flags": {"b": {"type": "update"}, ...}}
    assert_non_null(memmem(world_sent, world_sent_len,
                           "\x0a\x19\x0a\x01"
                           "b\x12\x14\x2a\x12\x0a\x10\x0a\x04type\x12\x08\x1a\x06update",
                           27));
    // The definitions as they are.
    size_t len = strlen(NEXT);
    assert_memory_equal(world_sent + world_sent_len - len, NEXT, len);
    world_sent_len = 0;
    world_ended = 0;
    ofrep_streams_due(&core, 6999999);
    assert_int_equal(world_ended, 0);
    ofrep_streams_due(&core, 7000000);
    assert_int_equal(world_ended, 1);
    assert_memory_equal(world_sent, "grpc-status: 4\r\n", 16);
    ofrep_stream_closed(&core, late);
    world_sent_len = 0;
    ofrep_streams_end(&core);
    assert_int_equal(world_ended, 3);
    assert_memory_equal(world_sent, "grpc-status: 14\r\ngrpc-message: the stream ends here\r\n", 53);
    ofrep_stream_closed(&core, stream);
    ofrep_stream_closed(&core, sync);
    world_publish(&core, world);
}

// A request that never came whole.
TEST(refused_before)
{
    static struct http_fields fields;
    struct web_answer answer = {0};
    struct web_request request = {
        .method = SLICE("POST"), .path = SLICE(V1 "ResolveAll"), .fields = &fields, .http2 = true};
    fields.count = 0;
    fields.present = 0;
    assert_false(ofrep_core_refuse(&core, &request, 413, "too large 100%\n", &answer));
    assert_int_equal(http_fields_add(&fields, SLICE("content-type"), SLICE("application/grpc")), STATUS_OK);
    assert_true(ofrep_core_refuse(&core, &request, 413, "too large 100%\n", &answer));
    assert_true(answer.trailed && answer.status == 200);
    static const char WANTED[] = "grpc-status: 8\r\ngrpc-message: too large 100%25\r\n";
    assert_int_equal(answer.trailers.len, sizeof WANTED - 1);
    assert_memory_equal(answer.trailers.data, WANTED, sizeof WANTED - 1);
    answer = (struct web_answer){0};
    assert_true(ofrep_core_refuse(&core, &request, 408, "late\n", &answer));
    assert_memory_equal(answer.trailers.data, "grpc-status: 4\r\n", 16);
    answer = (struct web_answer){0};
    assert_true(ofrep_core_refuse(&core, &request, 503, "busy\n", &answer));
    assert_memory_equal(answer.trailers.data, "grpc-status: 14\r\n", 17);
}
