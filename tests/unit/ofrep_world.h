// SPDX-License-Identifier: Apache-2.0
// A core without sockets: snapshots made by hand from documents, views by selector, two tokens, and streams
// that write into a buffer. The lower modules' functions are stood in for by ofrep_world.c, so that what
// they give is exact.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/ofrep/ofrep_private.h"

enum { WORLD_IMAGE_BYTES = 1 << 20, WORLD_VIEWS = 4, WORLD_SENT_BYTES = 1 << 16 };

struct world_view {
    const char *selector;
    struct flagset_view view;
};

struct world_snapshot {
    struct flagset_snapshot base; // first: a snapshot is one of these
    const char *json;
    struct world_view views[WORLD_VIEWS];
    uint32_t view_count;
    struct flags_tally tally;
};

// What streams were given, and how many of them were ended.
extern char world_sent[WORLD_SENT_BYTES];
extern size_t world_sent_len;
extern uint32_t world_ended;

// ---- making ----

static inline struct flags_image world_compile(const char *json)
{
    static struct flags_json nodes[1 << 14];
    static char chars[1 << 16];
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = ARRAY_LEN(nodes), .chars = chars, .char_cap = sizeof chars};
    struct flags_compile_options options = {0};
    struct flags_finding problems[8];
    size_t problem_count;
    size_t len;
    struct flags_image set;
    void *image = heap_alloc_aligned(WORLD_IMAGE_BYTES);
    CHECK(image != NULL);
    CHECK(flags_compile(slice_of(json), &options, &space, image, WORLD_IMAGE_BYTES, &len, problems, 8,
                        &problem_count) == STATUS_OK);
    CHECK(flags_image_open(image, len, &set) == STATUS_OK);
    return set;
}

static inline void world_free_set(struct flags_image set)
{
    heap_free((void *)(uintptr_t)set.image);
}

static inline struct world_snapshot *world_snapshot(const char *json, uint64_t version)
{
    struct world_snapshot *world = heap_alloc(1, sizeof *world);
    CHECK(world != NULL);
    world->json = json;
    world->base.all.set = world_compile(json);
    world->base.all.tag = flags_image_checksum(&world->base.all.set) | 1;
    world->base.version = version;
    world->base.changed_ms = (int64_t)version * 1000000;
    uint32_t counters = flags_image_counter_count(&world->base.all.set);
    world->tally = (struct flags_tally){heap_alloc(counters, sizeof(uint64_t)), counters};
    CHECK(world->tally.counts != NULL);
    return world;
}

static inline void world_add_view(struct world_snapshot *world, const char *selector, const char *json)
{
    CHECK(world->view_count < WORLD_VIEWS);
    struct world_view *view = &world->views[world->view_count++];
    view->selector = selector;
    view->view.set = world_compile(json);
    view->view.tag = flags_image_checksum(&view->view.set) | 1;
    view->view.index = world->view_count;
}

static inline void world_free(struct world_snapshot *world)
{
    world_free_set(world->base.all.set);
    for (uint32_t i = 0; i < world->view_count; i++)
        world_free_set(world->views[i].view.set);
    heap_free((void *)(uintptr_t)world->tally.counts);
    heap_free(world);
}

// Puts a snapshot in force, as a thread does.
static int64_t world_wall_ms = 1700000000000;

static inline void world_publish(struct ofrep_core *core, struct world_snapshot *world)
{
    core->snapshot = &world->base;
    core->tally = &world->tally;
    ofrep_streams_tell(core, world_wall_ms);
}

// ---- asking ----

struct world_answer {
    unsigned status;
    char type[64];
    char fields[OFREP_FIELD_BYTES];
    char trailers[OFREP_TRAILER_BYTES];
    char body[1 << 17];
    size_t body_len;
    void *subject; // of a stream
};

static struct world_answer world_answer;
static uint64_t world_now_us;
static uint64_t world_begun_us;
static bool world_http2;                     // requests come over it
static const char *world_from = "192.0.2.1"; // who asks

// Headers as "name: value" strings, ended by NULL.
static inline const struct world_answer *world_ask_bytes(struct ofrep_core *core, const char *method,
                                                         const char *target, const char *const *headers,
                                                         struct slice body)
{
    static struct http_fields fields;
    struct web_answer answer = {0};
    const char *query = strchr(target, '?');
    fields.count = 0;
    fields.present = 0;
    for (; headers != NULL && *headers != NULL; headers++) {
        const char *colon = strstr(*headers, ": ");
        CHECK(colon != NULL);
        struct slice name = {*headers, (size_t)(colon - *headers)};
        CHECK(http_fields_add(&fields, name, slice_of(colon + 2)) == STATUS_OK);
    }
    struct web_request request = {
        .method = slice_of(method),
        .path = {target, query != NULL ? (size_t)(query - target) : strlen(target)},
        .query = slice_of(query != NULL ? query + 1 : ""),
        .body = body,
        .fields = &fields,
        .from = "192.0.2.1:4711",
        .from_host = slice_of(world_from),
        .http2 = world_http2,
        .begun_us = world_begun_us,
        .now_us = world_now_us,
        .wall_ms = world_wall_ms,
    };
    ofrep_core_answer(core, &request, &answer);
    CHECK(answer.fields.len < sizeof world_answer.fields && answer.body.len < sizeof world_answer.body);
    world_answer.status = answer.status;
    snprintf(world_answer.type, sizeof world_answer.type, "%s",
             answer.content_type != NULL ? answer.content_type : "");
    snprintf(world_answer.fields, sizeof world_answer.fields, SLICE_FMT, SLICE_ARG(answer.fields));
    snprintf(world_answer.trailers, sizeof world_answer.trailers, SLICE_FMT, (int)answer.trailers.len,
             answer.trailers.len > 0 ? answer.trailers.data : "");
    if (answer.body.len > 0)
        memcpy(world_answer.body, answer.body.data, answer.body.len);
    world_answer.body[answer.body.len] = '\0';
    world_answer.body_len = answer.body.len;
    world_answer.subject = answer.stream ? answer.subject : NULL;
    if (answer.stream)
        ofrep_stream_opened(core, (struct web_connection *)&world_answer, answer.subject);
    return &world_answer;
}

static inline const struct world_answer *world_ask(struct ofrep_core *core, const char *method,
                                                   const char *target, const char *const *headers,
                                                   const char *body)
{
    return world_ask_bytes(core, method, target, headers, slice_of(body));
}

static inline const struct world_answer *world_post(struct ofrep_core *core, const char *target,
                                                    const char *body)
{
    return world_ask(core, "POST", target, NULL, body);
}

// The value of a field line of the answer, or "".
static inline const char *world_field(const char *name)
{
    static char value[512];
    char start[64];
    snprintf(start, sizeof start, "%s: ", name);
    const char *at = strstr(world_answer.fields, start);
    value[0] = '\0';
    if (at != NULL) {
        at += strlen(start);
        snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r"), at);
    }
    return value;
}

// Fails the check unless the bytes are one JSON document; the tree lives until the next call.
static inline const struct flags_json *world_json(struct slice bytes)
{
    static struct flags_json nodes[1 << 14];
    static char chars[1 << 17];
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = ARRAY_LEN(nodes), .chars = chars, .char_cap = sizeof chars};
    struct flags_json_error fault;
    struct flags_json *root;
    if (flags_json_parse(bytes, &space, &root, &fault) != STATUS_OK) {
        fprintf(stderr, "no JSON: " SLICE_FMT "\n", SLICE_ARG(bytes));
        CHECK(false);
    }
    return root;
}

// The text of a member of the answer: a string's bytes, else as written; "" when it is not there.
static inline const char *world_member(const char *name)
{
    static char text[1 << 12];
    const struct flags_json *root = world_json((struct slice){world_answer.body, world_answer.body_len});
    const struct flags_json *member =
        root->kind == FLAGS_JSON_OBJECT ? flags_json_member(root, slice_of(name)) : NULL;
    snprintf(text, sizeof text, SLICE_FMT, member != NULL ? (int)member->text.len : 0,
             member != NULL ? member->text.data : "");
    return text;
}
