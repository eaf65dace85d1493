// SPDX-License-Identifier: Apache-2.0
// Any path, header and body through the core: the answer's status is one we give, a JSON answer is JSON, an
// enveloped one is in envelopes that hold JSON, field lines are whole, and no storage is passed. The first
// byte picks the kind of request; a body may begin with a path of its own.
#include "../unit/ofrep_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ON_OFF "\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false}"

static const char SET[] =
    "{\"flags\":{"
    "\"plain\":{" ON_OFF ",\"defaultVariant\":\"on\"},"
    "\"rule\":{" ON_OFF ",\"defaultVariant\":\"off\","
    "\"targeting\":{\"if\":[{\"==\":[{\"var\":\"plan\"},\"gold\"]},\"on\"]}},"
    "\"open\":{" ON_OFF ",\"defaultVariant\":null},"
    "\"bad\":{" ON_OFF ",\"defaultVariant\":\"off\",\"targeting\":{\"no such operator\":[1]}},"
    "\"split\":{" ON_OFF ",\"defaultVariant\":\"off\","
    "\"targeting\":{\"fractional\":[[\"on\",40],[\"off\",60]]}},"
    "\"pick\":{" ON_OFF ",\"defaultVariant\":\"off\",\"targeting\":{\"var\":\"pick\"}},"
    "\"int\":{\"state\":\"ENABLED\",\"variants\":{\"x\":10,\"y\":1e300},\"defaultVariant\":\"x\","
    "\"targeting\":{\"var\":\"v\"}},"
    "\"text\":{\"state\":\"DISABLED\",\"variants\":{\"\\u00e9\\\"\":\"\\n\"},"
    "\"defaultVariant\":\"\\u00e9\\\"\"}},\"metadata\":{\"flagSetId\":\"s\"}}";

static const char *const TARGETS[] = {
    "/ofrep/v1/evaluate/flags/plain",
    "/ofrep/v1/evaluate/flags/split",
    "/ofrep/v1/evaluate/flags/pick",
    "/ofrep/v1/evaluate/flags",
    "/flagd.evaluation.v1.Service/ResolveBoolean",
    "/flagd.evaluation.v2.Service/ResolveInt",
    "/schema.v1.Service/ResolveObject",
    "/flagd.evaluation.v1.Service/ResolveAll",
    "/flagd.evaluation.v1.Service/EventStream",
    "/flagd.sync.v1.FlagSyncService/FetchAllFlags",
    "/flagd.sync.v1.FlagSyncService/SyncFlags",
    "/flagd.evaluation.v1.Service/ResolveString",
    NULL, // the body's first line
    NULL, // the key
    NULL, // the query
};

static struct ofrep_core core;
static struct world_snapshot *world;

static void begin(void)
{
    struct ofrep_config config = {.cors_origin = "https://a.example", .exposures = true};
    CHECK(ofrep_core_init(&core, &config) == STATUS_OK);
    world = world_snapshot(SET, 1);
    world_add_view(world, "s", SET);
    world_publish(&core, world);
}

static void check_envelopes(struct slice bytes)
{
    while (bytes.len > 0) {
        const unsigned char *head = (const unsigned char *)bytes.data;
        CHECK(bytes.len >= 5 && (head[0] == 0 || head[0] == 2));
        size_t len = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
        CHECK(len <= bytes.len - 5);
        (void)world_json((struct slice){bytes.data + 5, len});
        bytes = (struct slice){bytes.data + 5 + len, bytes.len - 5 - len};
    }
}

static void check_fields(void)
{
    const char *at = world_answer.fields;
    while (*at != '\0') {
        const char *end = strstr(at, "\r\n");
        const char *colon = strstr(at, ": ");
        CHECK(end != NULL && colon != NULL && colon < end);
        for (const char *c = at; c < end; c++)
            CHECK((unsigned char)*c >= ' ');
        at = end + 2;
    }
}

static void check_answer(void)
{
    static const unsigned STATUSES[] = {200, 204, 304, 400, 401, 403, 404, 405, 413, 415, 500, 501, 503};
    struct slice body = {world_answer.body, world_answer.body_len};
    bool known = false;
    for (size_t i = 0; i < ARRAY_LEN(STATUSES); i++)
        known |= world_answer.status == STATUSES[i];
    CHECK(known);
    if (strcmp(world_answer.type, "application/json") == 0)
        CHECK(world_json(body)->kind == FLAGS_JSON_OBJECT);
    else if (strcmp(world_answer.type, "application/connect+json") == 0)
        check_envelopes(body);
    else
        CHECK(world_answer.subject != NULL || body.len == 0);
    check_fields();
    if (world_answer.subject != NULL)
        ofrep_stream_closed(&core, world_answer.subject);
}

// A visible character of a request target.
static bool is_target(char c)
{
    return c > ' ' && c < 0x7f;
}

// A target and a selector out of the body's first line, as far as a request line can hold it.
static struct slice take_line(struct slice body, const char *prefix, char *target, size_t cap)
{
    size_t len = strlen(prefix);
    size_t at = 0;
    memcpy(target, prefix, len);
    while (at < body.len && body.data[at] != '\n' && len < cap - 1) {
        if (is_target(body.data[at]))
            target[len++] = body.data[at];
        at++;
    }
    target[len] = '\0';
    at += at < body.len;
    return (struct slice){body.data + at, body.len - at};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const PREFIXES[] = {"/", "/ofrep/v1/evaluate/flags/", "/ofrep/v1/evaluate/flags?"};
    static char target[4096];
    if (world == NULL)
        begin();
    if (size < 2 || size > 1 << 15)
        return 0;
    size_t kind = data[0] % ARRAY_LEN(TARGETS);
    struct slice body = {(const char *)data + 2, size - 2};
    if (TARGETS[kind] != NULL)
        snprintf(target, sizeof target, "%s", TARGETS[kind]);
    else
        body = take_line(body, PREFIXES[kind - (ARRAY_LEN(TARGETS) - 3)], target, sizeof target);
    bool stream = kind == 8 || kind == 10;
    const char *const headers[] = {
        stream ? "Content-Type: application/connect+json" : "Content-Type: application/json",
        (data[1] & 1) != 0 ? "Prefer: handling=strict" : "X-None: 1",
        (data[1] & 2) != 0 ? "Flagd-Selector: s" : "X-None: 2",
        (data[1] & 4) != 0 ? "If-None-Match: *" : "X-None: 3",
        NULL,
    };
    static const char *const METHODS[] = {"POST", "POST", "POST", "POST", "GET", "OPTIONS", "PUT", "POST"};
    world_ask_bytes(&core, METHODS[data[1] >> 5], target, headers, body);
    check_answer();
    return 0;
}
