// SPDX-License-Identifier: Apache-2.0
// ofrep: flagd's services in Connect's JSON form: every procedure, every error code, envelopes, streams and
// what they are told, and server-sent events.
#include "ofrep_world.h"
#include "test.h"

#define V1 "/flagd.evaluation.v1.Service/"
#define V2 "/flagd.evaluation.v2.Service/"
#define OLD "/schema.v1.Service/"
#define SYNC "/flagd.sync.v1.FlagSyncService/"
#define FLAG(rest) "{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false}," rest "}"

#define REST                                                                                                                                                                                            \
    "\"rule\":" FLAG(                                                                                                                                                                                   \
        "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[{\"==\":[{\"var\":\"plan\"},"                                                                                                                \
        "\"gold\"]},\"on\"]}") ",\n"                                                                                                                                                                    \
                               "\"open\":" FLAG(                                                                                                                                                        \
                                   "\"defaultVariant\":null") ",\n"                                                                                                                                     \
                                                              "\"off\":{\"state\":\"DISABLED\","                                                                                                        \
                                                              "\"variants\":{\"on\":true},"                                                                                                             \
                                                              "\"defaultVariant\":\"on\"},\n"                                                                                                           \
                                                              "\"split\":" FLAG(                                                                                                                        \
                                                                  "\"defaultVariant\":\"off\","                                                                                                         \
                                                                  "\"targeting\":{\"fractional\":[[\"on\","                                                                                             \
                                                                  "100]]}") ",\n"                                                                                                                       \
                                                                            "\"bad\":" FLAG(                                                                                                            \
                                                                                "\"defaultVaria"                                                                                                        \
                                                                                "nt\":\"off\","                                                                                                         \
                                                                                "\"targeting\":"                                                                                                        \
                                                                                "{\"no such "                                                                                                           \
                                                                                "operator\":[1]"                                                                                                        \
                                                                                "}") ",\n"                                                                                                              \
                                                                                     "\"wild\""                                                                                                         \
                                                                                     ":" FLAG(                                                                                                          \
                                                                                         "\"def"                                                                                                        \
                                                                                         "aultV"                                                                                                        \
                                                                                         "arian"                                                                                                        \
                                                                                         "t\":"                                                                                                         \
                                                                                         "\"off"                                                                                                        \
                                                                                         "\","                                                                                                          \
                                                                                         "\"tar"                                                                                                        \
                                                                                         "getin"                                                                                                        \
                                                                                         "g\":{"                                                                                                        \
                                                                                         "\"cat"                                                                                                        \
                                                                                         "\":["                                                                                                         \
                                                                                         "\"sid"                                                                                                        \
                                                                                         "e\","                                                                                                         \
                                                                                         "\"way"                                                                                                        \
                                                                                         "s\"]"                                                                                                         \
                                                                                         "}") ",\n"                                                                                                     \
                                                                                              "\"int\":{"                                                                                               \
                                                                                              "\"state\":"                                                                                              \
                                                                                              "\"ENABLED\","                                                                                            \
                                                                                              "\"variants\""                                                                                            \
                                                                                              ":{\"x\":10},"                                                                                            \
                                                                                              "\"defaultVar"                                                                                            \
                                                                                              "iant\":"                                                                                                 \
                                                                                              "\"x\"},\n"                                                                                               \
                                                                                              "\"zero\":{"                                                                                              \
                                                                                              "\"state\":"                                                                                              \
                                                                                              "\"ENABLED\","                                                                                            \
                                                                                              "\"variants\""                                                                                            \
                                                                                              ":{\"x\":0},"                                                                                             \
                                                                                              "\"defaultVar"                                                                                            \
                                                                                              "iant\":"                                                                                                 \
                                                                                              "\"x\"},\n"                                                                                               \
                                                                                              "\"wide\":{\"state\":\"ENABLED\",\"variants\":{\"x\":9007199254740993},\"defaultVariant\":\"x\"},\n"      \
                                                                                              "\"widest\":{\"state\":\"ENABLED\",\"variants\":{\"x\":9223372036854775807},\"defaultVariant\":\"x\"},\n" \
                                                                                              "\"huge\":{"                                                                                              \
                                                                                              "\"state\":"                                                                                              \
                                                                                              "\"ENABLED\","                                                                                            \
                                                                                              "\"variants\""                                                                                            \
                                                                                              ":{\"x\":"                                                                                                \
                                                                                              "1e300},"                                                                                                 \
                                                                                              "\"defaultVar"                                                                                            \
                                                                                              "iant\":"                                                                                                 \
                                                                                              "\"x\"},\n"                                                                                               \
                                                                                              "\"float\":{"                                                                                             \
                                                                                              "\"state\":"                                                                                              \
                                                                                              "\"ENABLED\","                                                                                            \
                                                                                              "\"variants\""                                                                                            \
                                                                                              ":{\"x\":0.5}"                                                                                            \
                                                                                              ",\"defaultVa"                                                                                            \
                                                                                              "riant\":"                                                                                                \
                                                                                              "\"x\"},\n"                                                                                               \
                                                                                              "\"text\":{"                                                                                              \
                                                                                              "\"state\":"                                                                                              \
                                                                                              "\"ENABLED\","                                                                                            \
                                                                                              "\"variants\""                                                                                            \
                                                                                              ":{\"x\":"                                                                                                \
                                                                                              "\"hi\"},"                                                                                                \
                                                                                              "\"defaultVar"                                                                                            \
                                                                                              "iant\":"                                                                                                 \
                                                                                              "\"x\"},\n"                                                                                               \
                                                                                              "\"object\":{"                                                                                            \
                                                                                              "\"state\":"                                                                                              \
                                                                                              "\"ENABLED\","                                                                                            \
                                                                                              "\"variants\""                                                                                            \
                                                                                              ":{\"x\":{"                                                                                               \
                                                                                              "\"a\":1}},"                                                                                              \
                                                                                              "\"defaultVar"                                                                                            \
                                                                                              "iant\":"                                                                                                 \
                                                                                              "\"x\"}\n"                                                                                                \
                                                                                              "},"                                                                                                      \
                                                                                              "\"metadata\""                                                                                            \
                                                                                              ":{"                                                                                                      \
                                                                                              "\"flagSetId"                                                                                             \
                                                                                              "\":\"shop\"}"                                                                                            \
                                                                                              "}"

static const char SET[] = "{\"flags\":{\n\"gone\":" FLAG(
    "\"defaultVariant\":\"on\"") ",\n"
                                 "\"plain\":" FLAG("\"defaultVariant\":\"on\"") ",\n" REST;
// "gone" is gone, "plain" has another default, "rule" and all others stay, "fresh" is new.
static const char NEXT[] = "{\"flags\":{\n\"fresh\":" FLAG(
    "\"defaultVariant\":\"on\"") ",\n"
                                 "\"plain\":" FLAG("\"defaultVariant\":\"off\"") ",\n" REST;

static const char *const JSON[] = {"Content-Type: application/json; charset=utf-8",
                                   "Connect-Protocol-Version: 1", NULL};
static const char *const STREAM[] = {"Content-Type: application/connect+json", NULL};

static struct ofrep_core core;
static struct world_snapshot *world;
static struct world_snapshot *next;

static int setup(void **state)
{
    struct ofrep_config config = {0};
    (void)state;
    assert_int_equal(ofrep_core_init(&core, &config), STATUS_OK);
    world = world_snapshot(SET, 1);
    world_add_view(world, "flagSetId=other",
                   "{\"flags\":{\"plain\":" FLAG("\"defaultVariant\":\"off\"") "}}");
    next = world_snapshot(NEXT, 2);
    world_add_view(next, "flagSetId=other", "{\"flags\":{\"plain\":" FLAG("\"defaultVariant\":\"off\"") "}}");
    world_publish(&core, world);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ofrep_core_deinit(&core);
    world_free(world);
    world_free(next);
    return 0;
}

ALL_TESTS(setup, teardown);

static void assert_call(const char *target, const char *body, unsigned status, const char *member,
                        const char *wanted)
{
    world_ask(&core, "POST", target, JSON, body);
    if (world_answer.status != status)
        fail_msg("%s %s: %u %s", target, body, world_answer.status, world_answer.body);
    assert_string_equal(world_answer.type, "application/json");
    assert_string_equal(world_member(member), wanted);
}

TEST(resolve)
{
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"plain\",\"context\":{}}", 200, "value", "true");
    assert_string_equal(world_answer.body, "{\"value\":true,\"reason\":\"STATIC\",\"variant\":\"on\","
                                           "\"metadata\":{\"flagSetId\":\"shop\"}}");
    assert_call(V2 "ResolveBoolean", "{\"flag_key\":\"plain\",\"context\":null,\"x\":[]}", 200, "value",
                "true");
    assert_call(OLD "ResolveBoolean", "{\"flagKey\":\"plain\"}", 200, "value", "true");
    assert_call(V1 "ResolveString", "{\"flagKey\":\"text\"}", 200, "value", "hi");
    assert_call(V1 "ResolveInt", "{\"flagKey\":\"int\"}", 200, "value", "10");
    // An int64 is a string in JSON.
    assert_non_null(strstr(world_answer.body, "\"value\":\"10\""));
    assert_call(V1 "ResolveInt", "{\"flagKey\":\"zero\"}", 200, "value", "0");
    // Exactly as written, as OFREP answers.
    assert_call(V1 "ResolveInt", "{\"flagKey\":\"wide\"}", 200, "value", "9007199254740993");
    assert_call(V1 "ResolveInt", "{\"flagKey\":\"widest\"}", 200, "value", "9223372036854775807");
    assert_call(V1 "ResolveFloat", "{\"flagKey\":\"float\"}", 200, "value", "0.5");
    assert_call(V1 "ResolveFloat", "{\"flagKey\":\"int\"}", 200, "value", "10");
    assert_call(V1 "ResolveObject", "{\"flagKey\":\"object\"}", 200, "value", "{\"a\":1}");
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"rule\",\"context\":{\"plan\":\"gold\"}}", 200, "reason",
                "TARGETING_MATCH");
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"rule\"}", 200, "reason", "DEFAULT");
    // As in flagd a missing key is no error here.
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"split\"}", 200, "reason", "DEFAULT");
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"off\"}", 200, "reason", "DISABLED");
    assert_string_equal(world_member("value"), "");
    assert_call(V2 "ResolveBoolean", "{\"flagKey\":\"open\"}", 200, "reason", "DEFAULT");
    assert_string_equal(world_member("variant"), "");
}

TEST(errors)
{
    static const char *const PROTO[] = {"Content-Type: application/proto", NULL};
    static const char *const OTHER[] = {"Content-Type: application/json", "Connect-Protocol-Version: 2",
                                        NULL};
    static const char *const GZIP[] = {"Content-Type: application/json", "Content-Encoding: gzip", NULL};
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"none\"}", 404, "code", "not_found");
    assert_string_not_equal(world_member("message"), "");
    assert_call(V1 "ResolveBoolean", "{}", 404, "code", "not_found");
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"text\"}", 400, "code", "invalid_argument");
    assert_call(V1 "ResolveInt", "{\"flagKey\":\"float\"}", 400, "code", "invalid_argument");
    assert_call(V1 "ResolveInt", "{\"flagKey\":\"huge\"}", 400, "code", "invalid_argument");
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"bad\"}", 500, "code", "data_loss");
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":\"wild\"}", 500, "code", "unknown");
    assert_call(V1 "ResolveBoolean", "", 400, "code", "invalid_argument");
    assert_call(V1 "ResolveBoolean", "[]", 400, "code", "invalid_argument");
    assert_call(V1 "ResolveBoolean", "{\"flagKey\":1}", 400, "code", "invalid_argument");
    assert_call(V1 "ResolveBoolean", "{\"context\":1}", 400, "code", "invalid_argument");
    assert_call(V1 "ResolveAll", "{\"context\":[]}", 400, "code", "invalid_argument");
    assert_call(V1 "Resolve", "{}", 404, "code", "unimplemented");
    assert_call(SYNC "ResolveAll", "{}", 404, "code", "unimplemented");
    assert_int_equal(world_ask(&core, "GET", V1 "ResolveAll", JSON, "")->status, 405);
    assert_int_equal(world_ask(&core, "POST", V1 "ResolveAll", PROTO, "")->status, 415);
    assert_string_equal(world_field("Accept-Post"), "application/json");
    assert_int_equal(world_ask(&core, "POST", V1 "ResolveAll", STREAM, "{}")->status, 415);
    assert_int_equal(world_ask(&core, "POST", V1 "ResolveAll", NULL, "{}")->status, 415);
    world_ask(&core, "POST", V1 "ResolveAll", OTHER, "{}");
    assert_string_equal(world_member("code"), "invalid_argument");
    world_ask(&core, "POST", V1 "ResolveAll", GZIP, "{}");
    assert_int_equal(world_answer.status, 501);
    assert_string_equal(world_member("code"), "unimplemented");
    core.snapshot = NULL;
    assert_call(V1 "ResolveAll", "{}", 503, "code", "unavailable");
    core.snapshot = &world->base;
}

TEST(all)
{
    assert_call(V1 "ResolveAll", "{\"context\":{\"plan\":\"gold\"}}", 200, "metadata",
                "{\"flagSetId\":\"shop\"}");
    const struct flags_json *root = world_json((struct slice){world_answer.body, world_answer.body_len});
    assert_int_equal(flags_json_member(root, SLICE("flags"))->count,
                     flags_image_flag_count(&world->base.all.set));
    static const char *const PARTS[] = {
        "\"plain\":{\"boolValue\":true,\"reason\":\"STATIC\"",
        "\"rule\":{\"boolValue\":true,\"reason\":\"TARGETING_MATCH\",\"variant\":\"on\"",
        "\"off\":{\"reason\":\"DISABLED\"",
        "\"bad\":{\"reason\":\"ERROR\"",
        "\"int\":{\"doubleValue\":10,",
        "\"text\":{\"stringValue\":\"hi\",",
        "\"object\":{\"objectValue\":{\"a\":1},",
    };
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++)
        if (strstr(world_answer.body, PARTS[i]) == NULL)
            fail_msg("%s is not in %s", PARTS[i], world_answer.body);
}

// ---- streams ----

static struct slice enveloped(const char *json)
{
    static char bytes[1 << 12];
    size_t len = strlen(json);
    memcpy(bytes, "\0\0\0\0\0", 5);
    bytes[3] = (char)(len >> 8);
    bytes[4] = (char)len;
    memcpy(bytes + 5, json, len);
    return (struct slice){bytes, len + 5};
}

// The message of an envelope at bytes; what follows it is *rest.
static const char *opened(const char *bytes, size_t len, unsigned flags, size_t *rest)
{
    static char message[1 << 16];
    assert_true(len >= 5);
    assert_int_equal((unsigned char)bytes[0], flags);
    size_t inside = (size_t)(unsigned char)bytes[1] << 24 | (size_t)(unsigned char)bytes[2] << 16 |
                    (size_t)(unsigned char)bytes[3] << 8 | (unsigned char)bytes[4];
    assert_true(inside + 5 <= len);
    (void)world_json((struct slice){bytes + 5, inside});
    snprintf(message, sizeof message, "%.*s", (int)inside, bytes + 5);
    *rest = len - 5 - inside;
    return message;
}

static void *open_stream(const char *target, const char *json, const char *wanted)
{
    size_t rest;
    world_ask_bytes(&core, "POST", target, STREAM, enveloped(json));
    assert_int_equal(world_answer.status, 200);
    assert_string_equal(world_answer.type, "application/connect+json");
    assert_non_null(world_answer.subject);
    assert_string_equal(opened(world_answer.body, world_answer.body_len, 0, &rest), wanted);
    assert_int_equal(rest, 0);
    return world_answer.subject;
}

static void assert_stream_fails(const char *target, struct slice body, const char *code)
{
    size_t rest;
    world_ask_bytes(&core, "POST", target, STREAM, body);
    assert_int_equal(world_answer.status, 200);
    assert_null(world_answer.subject);
    const char *message = opened(world_answer.body, world_answer.body_len, 2, &rest);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "{\"error\":{\"code\":\"%s\",", code);
    assert_memory_equal(message, wanted, strlen(wanted));
}

TEST(event_stream)
{
    size_t rest;
    void *stream = open_stream(V1 "EventStream", "{}", "{\"type\":\"provider_ready\"}");
    world_sent_len = 0;
    world_publish(&core, world);
    ofrep_streams_tell(&core, world_wall_ms);
    assert_int_equal(world_sent_len, 0);
    world_publish(&core, next);
    assert_string_equal(opened(world_sent, world_sent_len, 0, &rest),
                        "{\"type\":\"configuration_change\",\"data\":{\"flags\":{"
                        "\"fresh\":{\"type\":\"write\"},\"plain\":{\"type\":\"update\"},"
                        "\"gone\":{\"type\":\"delete\"}}}}");
    assert_int_equal(rest, 0);
    world_sent_len = 0;
    ofrep_streams_beat(&core);
    assert_string_equal(opened(world_sent, world_sent_len, 0, &rest), "{\"type\":\"keep_alive\"}");
    world_sent_len = 0;
    world_ended = 0;
    ofrep_streams_end(&core);
    assert_non_null(strstr(opened(world_sent, world_sent_len, 2, &rest), "unavailable"));
    assert_int_equal(world_ended, 1);
    // A second stream gets the same event; one of a view that stayed gets none.
    static const char *const OTHER[] = {"Content-Type: application/connect+json",
                                        "Flagd-Selector: flagSetId=other", NULL};
    void *second = open_stream(V2 "EventStream", "{}", "{\"type\":\"provider_ready\"}");
    world_ask_bytes(&core, "POST", V1 "EventStream", OTHER, enveloped("{}"));
    void *third = world_answer.subject;
    world_sent_len = 0;
    world_publish(&core, world);
    opened(world_sent, world_sent_len, 0, &rest);
    assert_int_equal(rest * 2, world_sent_len);
    assert_memory_equal(world_sent, world_sent + rest, rest);
    ofrep_stream_closed(&core, stream);
    ofrep_stream_closed(&core, second);
    ofrep_stream_closed(&core, third);
    assert_int_equal(core.stream_count, 0);
}

TEST(stream_errors)
{
    char bytes[64];
    assert_stream_fails(V1 "EventStream", SLICE("{}"), "invalid_argument");
    assert_stream_fails(V1 "EventStream", SLICE("\1\0\0\0\2{}"), "invalid_argument");
    assert_stream_fails(V1 "EventStream", SLICE("\0\0\0\0\3{}"), "invalid_argument");
    assert_stream_fails(V1 "EventStream", SLICE("\0\0\0\0\1{}"), "invalid_argument");
    assert_stream_fails(V1 "EventStream", enveloped("[]"), "invalid_argument");
    assert_stream_fails(V1 "EventStream", enveloped(""), "invalid_argument");
    memcpy(bytes, "\0\xff\xff\xff\xff{}", 7);
    assert_stream_fails(V1 "EventStream", (struct slice){bytes, 7}, "invalid_argument");
    assert_int_equal(world_ask(&core, "POST", V1 "EventStream", JSON, "{}")->status, 415);
    void *streams[OFREP_STREAMS_MAX];
    for (size_t i = 0; i < OFREP_STREAMS_MAX; i++)
        streams[i] = open_stream(V1 "EventStream", "{}", "{\"type\":\"provider_ready\"}");
    assert_stream_fails(V1 "EventStream", enveloped("{}"), "unavailable");
    assert_int_equal(world_ask(&core, "GET", "/ofrep/v1/stream", NULL, "")->status, 503);
    for (size_t i = 0; i < OFREP_STREAMS_MAX; i++)
        ofrep_stream_closed(&core, streams[i]);
}

TEST(sync)
{
    size_t rest;
    char wanted[1 << 14];
    struct json_out writer = {0};
    assert_call(SYNC "FetchAllFlags", "{}", 200, "flagConfiguration", SET);
    assert_call(SYNC "FetchAllFlags", "{\"selector\":7}", 400, "code", "invalid_argument");
    assert_call(SYNC "FetchAllFlags", "{\"selector\":\"flagSetId=other\"}", 200, "flagConfiguration",
                "flagSetId=other");
    assert_call(SYNC "FetchAllFlags", "{\"selector\":\"flagSetId=mixed\"}", 400, "code",
                "failed_precondition");
    JSON_OUT(&writer, "{\"flagConfiguration\":");
    json_out_quote(&writer, slice_of(SET));
    JSON_OUT(&writer, "}");
    snprintf(wanted, sizeof wanted, SLICE_FMT, (int)writer.len, writer.data);
    json_out_free(&writer);
    void *stream = open_stream(SYNC "SyncFlags", "{\"providerId\":\"p\"}", wanted);
    world_sent_len = 0;
    world_publish(&core, next);
    const char *message = opened(world_sent, world_sent_len, 0, &rest);
    assert_non_null(strstr(message, "fresh"));
    ofrep_stream_closed(&core, stream);
    world_publish(&core, world);
}

// ---- schedules ----

// Time alone changes answers: whoever listens is told, once, and of the flags that it is about; definitions
// stay as they are. Who was away meanwhile is told when it comes back.
TEST(schedules)
{
    struct flagset_times *times = heap_alloc(1, sizeof *times + 2 * sizeof times->at[0]);
    char line[64];
    const char *const back[] = {line, NULL};
    assert_non_null(times);
    times->at[0] = 1700000010;
    times->at[1] = 1700000020;
    times->count = 2;
    int64_t began_ms = world_wall_ms;
    struct world_snapshot *set = world_snapshot(
        "{\"flags\":{\"timed\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
        "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[true,\"on\"]},\"x-sluice\":{\"schedule\":"
        "{\"from\":1700000010,\"until\":1700000020}}},\"still\":{\"state\":\"ENABLED\",\"variants\":"
        "{\"on\":true},\"defaultVariant\":\"on\"}}}",
        9);
    set->base.all.times = times;
    world_publish(&core, set);
    world_ask(&core, "GET", "/ofrep/v1/stream", NULL, "");
    void *refetch = world_answer.subject;
    snprintf(line, sizeof line, "Last-Event-ID: %016llx", (unsigned long long)set->base.all.tag);
    void *events = open_stream(V1 "EventStream", "{}", "{\"type\":\"provider_ready\"}");
    world_ask_bytes(&core, "POST", SYNC "SyncFlags", STREAM, enveloped("{}"));
    void *sync = world_answer.subject;
    world_sent_len = 0;
    world_sent[0] = '\0';
    ofrep_streams_tell_time(&core, world_wall_ms + 9999);
    assert_int_equal(world_sent_len, 0);
    ofrep_streams_tell_time(&core, world_wall_ms + 10000);
    assert_non_null(memmem(world_sent, world_sent_len, "refetchEvaluation", 17));
    assert_non_null(memmem(world_sent, world_sent_len, "\"lastModified\":1700000010", 25));
    assert_non_null(memmem(world_sent, world_sent_len, "{\"timed\":{\"type\":\"update\"}}", 27));
    assert_null(memmem(world_sent, world_sent_len, "still", 5));
    assert_null(memmem(world_sent, world_sent_len, "flagConfiguration", 17));
    world_sent_len = 0;
    ofrep_streams_tell_time(&core, world_wall_ms + 11000);
    assert_int_equal(world_sent_len, 0);
    ofrep_streams_tell_time(&core, world_wall_ms + 25000);
    assert_non_null(memmem(world_sent, world_sent_len, "refetchEvaluation", 17));
    // A clock put back turns them back.
    world_sent_len = 0;
    ofrep_streams_tell_time(&core, world_wall_ms + 15000);
    assert_non_null(memmem(world_sent, world_sent_len, "{\"timed\":{\"type\":\"update\"}}", 27));
    ofrep_stream_closed(&core, refetch);
    ofrep_stream_closed(&core, events);
    ofrep_stream_closed(&core, sync);
    world_wall_ms += 12000;
    world_ask(&core, "GET", "/ofrep/v1/stream", back, "");
    assert_non_null(strstr(world_answer.body, "refetchEvaluation"));
    ofrep_stream_closed(&core, world_answer.subject);
    world_wall_ms = began_ms;
    world_publish(&core, world);
    world_free(set);
    heap_free(times);
}

// ---- server-sent events ----

TEST(refetch)
{
    char tag[32];
    char wanted[400];
    world_ask(&core, "GET", "/ofrep/v1/stream", NULL, "");
    assert_int_equal(world_answer.status, 200);
    assert_string_equal(world_answer.type, "text/event-stream");
    assert_string_equal(world_field("Cache-Control"), "no-store");
    snprintf(tag, sizeof tag, "%016llx", (unsigned long long)world->base.all.tag);
    snprintf(wanted, sizeof wanted, "retry: 2000\nid: %s\n\n", tag);
    assert_string_equal(world_answer.body, wanted);
    void *stream = world_answer.subject;
    // A view that stays is not told of a change elsewhere.
    world_ask(&core, "GET", "/ofrep/v1/stream?selector=flagSetId%3Dother", NULL, "");
    void *other = world_answer.subject;
    world_sent_len = 0;
    ofrep_streams_beat(&core);
    assert_string_equal(world_sent, ": keep-alive\n\n: keep-alive\n\n");
    world_sent_len = 0;
    world_publish(&core, next);
    snprintf(tag, sizeof tag, "%016llx", (unsigned long long)next->base.all.tag);
    snprintf(wanted, sizeof wanted,
             "id: %s\nevent: message\ndata: {\"type\":\"refetchEvaluation\",\"etag\":\"%s\","
             "\"lastModified\":2000}\n\n",
             tag, tag);
    assert_string_equal(world_sent, wanted);
    ofrep_stream_closed(&core, stream);
    // Back with what it knew: nothing missed, or at once told.
    char line[64];
    const char *const headers[] = {line, NULL};
    snprintf(line, sizeof line, "Last-Event-ID: %s", tag);
    world_ask(&core, "GET", "/ofrep/v1/stream", headers, "");
    assert_null(strstr(world_answer.body, "refetchEvaluation"));
    ofrep_stream_closed(&core, world_answer.subject);
    snprintf(line, sizeof line, "Last-Event-ID: 0123456789abcdef");
    world_ask(&core, "GET", "/ofrep/v1/stream", headers, "");
    assert_non_null(strstr(world_answer.body, wanted));
    ofrep_stream_closed(&core, world_answer.subject);
    world_ended = 0;
    ofrep_streams_end(&core);
    assert_int_equal(world_ended, 1);
    ofrep_stream_closed(&core, other);
    world_publish(&core, world);
}
