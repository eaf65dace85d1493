// SPDX-License-Identifier: Apache-2.0
// Any bytes as a Struct, and as the body of any procedure over gRPC. A Struct that is read becomes JSON,
// which put back and read again is the same text; an answer is one message in an envelope, or a status alone;
// and no storage is passed. The first byte picks the procedure, or the Struct alone.
#include "base/protobuf.h"

#include "../unit/ofrep_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char SET[] =
    "{\"flags\":{\"b\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"defaultVariant\":\"on\","
    "\"targeting\":{\"if\":[{\"==\":[{\"var\":\"plan\"},\"gold\"]},\"on\"]}},"
    "\"o\":{\"state\":\"ENABLED\",\"variants\":{\"on\":{\"a\":[1,\"\\u00e9\",null]}},\"defaultVariant\":\"on\"}},"
    "\"metadata\":{\"flagSetId\":\"s\"}}";

static const char *const TARGETS[] = {
    "/flagd.evaluation.v1.Service/ResolveBoolean",
    "/flagd.evaluation.v2.Service/ResolveObject",
    "/flagd.evaluation.v1.Service/ResolveAll",
    "/flagd.evaluation.v1.Service/EventStream",
    "/flagd.sync.v1.FlagSyncService/FetchAllFlags",
    "/flagd.sync.v1.FlagSyncService/SyncFlags",
    "/grpc.health.v1.Health/Check",
};

static struct ofrep_core core;
static struct world_snapshot *world;
static struct json_out json, wire, again;

static void begin(void)
{
    struct ofrep_config config = {0};
    CHECK(ofrep_core_init(&core, &config) == STATUS_OK);
    world = world_snapshot(SET, 1);
    world_publish(&core, world);
    world_http2 = true;
}

// By the one JSON reader, as the context is, which may refuse what holds too much.
static void check_struct(struct slice bytes)
{
    const struct flags_json *root;
    struct protobuf_field field;
    if (ofrep_struct_read(bytes, &json) != NULL ||
        ofrep_read_body(&core, json_out_slice(&json), &root) != STATUS_OK)
        return;
    CHECK(root->kind == FLAGS_JSON_OBJECT);
    json_out_reset(&wire);
    ofrep_struct_put(&wire, 1, json_out_slice(&json));
    struct protobuf_reader reader = {.rest = json_out_slice(&wire)};
    CHECK(wire.status == STATUS_OK && protobuf_next(&reader, &field) && reader.rest.len == 0);
    CHECK(ofrep_struct_read(field.bytes, &again) == NULL);
    CHECK(slice_equal(json_out_slice(&json), json_out_slice(&again)));
}

static void check_answer(void)
{
    struct slice body = {world_answer.body, world_answer.body_len};
    const unsigned char *head = (const unsigned char *)body.data;
    struct protobuf_field field;
    CHECK(world_answer.status == 200 && strcmp(world_answer.type, "application/grpc") == 0);
    CHECK(strncmp(world_answer.trailers, "grpc-status: ", 13) == 0);
    if (strcmp(world_answer.trailers, "grpc-status: 0\r\n") != 0) {
        CHECK(body.len == 0 && strstr(world_answer.trailers, "\r\ngrpc-message: ") != NULL);
        return;
    }
    CHECK(body.len >= 5 && head[0] == 0);
    CHECK(((size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4]) == body.len - 5);
    struct protobuf_reader reader = {.rest = {body.data + 5, body.len - 5}};
    while (protobuf_next(&reader, &field))
        ;
    CHECK(!reader.bad);
    if (world_answer.subject != NULL)
        ofrep_stream_closed(&core, world_answer.subject);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const HEADERS[] = {"Content-Type: application/grpc", NULL};
    if (world == NULL)
        begin();
    if (size < 1 || size > 1 << 15)
        return 0;
    struct slice body = {(const char *)data + 1, size - 1};
    size_t kind = data[0] % (ARRAY_LEN(TARGETS) + 1);
    if (kind == ARRAY_LEN(TARGETS)) {
        check_struct(body);
        return 0;
    }
    world_ask_bytes(&core, "POST", TARGETS[kind], HEADERS, body);
    check_answer();
    return 0;
}
