// SPDX-License-Identifier: Apache-2.0
// POST /v1/events: how uses of flags ended, as evidence for rollouts of flags.
//   {"events": [{"flag": "banner", "context": {"targetingKey": "u1"}, "error": false, "latency_ms": 12.5},
//   ...]}
// The whole body is read before anything counts, so that a bad one counts nothing.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/api/api_private.h"
#include "ship/engine/events.h"

enum {
    EVENTS_NODES_MAX = 65536,
    EVENTS_MAX = 1000, // in one request
};

static const double LATENCY_MS_MAX = 3600e3;

static void refuse(struct api_answer *answer, const char *message)
{
    api_answer_error(answer, 400, "invalid", message);
}

// False with a sentence in *why.
static bool event_read(const struct flags_json *item, struct flags_context *context,
                       struct engine_event *event, const char **why)
{
    *why = "each event is an object with \"flag\" and \"context\"";
    if (item->kind != FLAGS_JSON_OBJECT)
        return false;
    const struct flags_json *flag = flags_json_member(item, SLICE("flag"));
    const struct flags_json *given = flags_json_member(item, SLICE("context"));
    const struct flags_json *error = flags_json_member(item, SLICE("error"));
    const struct flags_json *latency = flags_json_member(item, SLICE("latency_ms"));
    if (flag == NULL || flag->kind != FLAGS_JSON_STRING || given == NULL || given->kind != FLAGS_JSON_OBJECT)
        return false;
    *why = "\"error\" is true or false";
    if (error != NULL && error->kind != FLAGS_JSON_TRUE && error->kind != FLAGS_JSON_FALSE)
        return false;
    *why = "\"latency_ms\" is a number from 0 to 3600000";
    if (latency != NULL &&
        (latency->kind != FLAGS_JSON_NUMBER || !(latency->number >= 0 && latency->number <= LATENCY_MS_MAX)))
        return false;
    context->tree = given;
    *event = (struct engine_event){
        .flag = flag->text,
        .context = context,
        .error = error != NULL && error->kind == FLAGS_JSON_TRUE,
        .has_latency = latency != NULL,
        .latency_us = latency != NULL ? (uint64_t)(latency->number * 1000) : 0,
    };
    return true;
}

static void count_all(struct engine *engine, const struct flags_json *list, struct api_answer *answer)
{
    struct flags_context context = {.time_s = (uint64_t)(engine_wall_ms(engine) / 1000)};
    struct engine_event event;
    const char *why;
    for (const struct flags_json *item = list->first; item != NULL; item = item->next) {
        if (event_read(item, &context, &event, &why))
            continue;
        refuse(answer, why);
        return;
    }
    json_int_t counts[ENGINE_EVENT_LOST + 1] = {0};
    for (const struct flags_json *item = list->first; item != NULL; item = item->next) {
        bool read = event_read(item, &context, &event, &why);
        CHECK(read);
        counts[engine_flag_event(engine, &event)]++;
    }
    api_answer_json(answer, 200,
                    json_pack("{s:I, s:I, s:I, s:I, s:I}", "counted", counts[ENGINE_EVENT_COUNTED], "ring",
                              counts[ENGINE_EVENT_RING], "no_arm", counts[ENGINE_EVENT_NO_ARM], "unwanted",
                              counts[ENGINE_EVENT_UNWANTED], "lost", counts[ENGINE_EVENT_LOST]));
}

void api_handle_events(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    struct flags_json_space space = {
        .node_cap = EVENTS_NODES_MAX, .char_cap = request->body.len + 1, .last_wins = true};
    space.nodes = heap_alloc(EVENTS_NODES_MAX, sizeof *space.nodes);
    space.chars = heap_alloc(space.char_cap, 1);
    struct flags_json *root = NULL;
    struct flags_json_error fault = {.what = "no memory left"};
    enum status status = space.nodes == NULL || space.chars == NULL
                             ? STATUS_NO_MEMORY
                             : flags_json_parse(request->body, &space, &root, &fault);
    const struct flags_json *list = status == STATUS_OK && root->kind == FLAGS_JSON_OBJECT
                                        ? flags_json_member(root, SLICE("events"))
                                        : NULL;
    if (status == STATUS_FULL)
        api_answer_error(answer, 413, "too_large", "the body has too many values");
    else if (status != STATUS_OK)
        refuse(answer, fault.what);
    else if (list == NULL || list->kind != FLAGS_JSON_ARRAY || list->count > EVENTS_MAX)
        refuse(answer, "the body is {\"events\": [...]} with at most 1000 of them");
    else
        count_all(engine, list, answer);
    heap_free(space.nodes);
    heap_free(space.chars);
}
