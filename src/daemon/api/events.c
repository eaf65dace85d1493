// SPDX-License-Identifier: Apache-2.0
// POST /v1/events: how uses of flags ended, as evidence for rollouts of flags.
//   {"events": [{"flag": "banner", "context": {"targetingKey": "u1"}, "error": false, "latency_ms": 12.5},
//   ...]}
// The whole body is read before anything counts, so that a bad one counts nothing.
#include <string.h>

#include "base/check.h"
#include "daemon/api/api_private.h"
#include "ship/engine/engine.h"
#include "ship/targets/targets.h"

enum { EVENTS_MAX = 1000 }; // in one request

static const double LATENCY_MS_MAX = 3600e3;

// False with a sentence in *why.
static bool event_read(const struct flags_json *item, struct flags_context *context,
                       struct targets_event *event, const char **why)
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
    *event = (struct targets_event){
        .flag = flag->text,
        .context = context,
        .error = error != NULL && error->kind == FLAGS_JSON_TRUE,
        .has_latency = latency != NULL,
        .latency_us = latency != NULL ? (uint64_t)(latency->number * 1000) : 0,
    };
    return true;
}

static void count_all(struct api_call *call, const struct flags_json *list)
{
    struct flags_context context = {.time_s = (uint64_t)(engine_wall_ms(call->engine) / 1000)};
    struct targets_event event;
    const char *why;
    for (const struct flags_json *item = list->first; item != NULL; item = item->next) {
        if (event_read(item, &context, &event, &why))
            continue;
        api_error(call, 400, "invalid", why);
        return;
    }
    uint64_t counts[TARGETS_EVENT_LOST + 1] = {0};
    for (const struct flags_json *item = list->first; item != NULL; item = item->next) {
        bool read = event_read(item, &context, &event, &why);
        CHECK(read);
        counts[targets_event_count(call->engine, &event)]++;
    }
    json_out_open(&call->out, NULL, '{');
    json_out_count(&call->out, "counted", counts[TARGETS_EVENT_COUNTED]);
    json_out_count(&call->out, "ring", counts[TARGETS_EVENT_RING]);
    json_out_count(&call->out, "no_arm", counts[TARGETS_EVENT_NO_ARM]);
    json_out_count(&call->out, "unwanted", counts[TARGETS_EVENT_UNWANTED]);
    json_out_count(&call->out, "excused", counts[TARGETS_EVENT_EXCUSED]);
    json_out_count(&call->out, "lost", counts[TARGETS_EVENT_LOST]);
    json_out_close(&call->out, '}');
}

static void post_events(struct api_call *call)
{
    struct api_body body;
    if (!api_body_read(call, &body))
        return;
    const struct flags_json *list = flags_json_member(body.root, SLICE("events"));
    if (list == NULL || list->kind != FLAGS_JSON_ARRAY || list->count > EVENTS_MAX)
        api_error(call, 400, "invalid", "the body is {\"events\": [...]} with at most 1000 of them");
    else
        count_all(call, list);
    api_body_free(&body);
}

static const struct api_route ROUTES[] = {
    {"POST", "/v1/events", API_REPORT, post_events,
     "how uses of flags ended, as evidence for their rollouts; see below"},
};

const struct api_part api_events_part = {.prefix = SLICE("/v1/events"),
                                         .body_bytes_max = API_FLAGS_BODY_BYTES_MAX,
                                         .routes = ROUTES,
                                         .route_count = ARRAY_LEN(ROUTES)};
