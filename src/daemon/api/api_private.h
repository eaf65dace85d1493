// SPDX-License-Identifier: Apache-2.0
// Between the API's server half (bytes) and its handler half (meaning).
#pragma once

#include <jansson.h>

#include "base/slice.h"
#include "daemon/api/api.h"

struct api_request {
    struct slice method;
    struct slice path;
    struct slice query;
    struct slice body;
    struct slice host;
    struct slice who; // X-Sluice-Who
    bool cross_site;  // sent by a page of another origin
    const char *from; // the peer's address
};

enum { API_STREAM_NONE, API_STREAM_EVENTS };

struct api_answer {
    unsigned status;
    const char *content_type; // constant
    const char *allow;        // 405: the methods there are; else NULL
    char *body;               // heap, taken by the server
    size_t body_len;
    int stream; // API_STREAM_EVENTS: the connection stays open for `subject`
    char subject[ROLLOUT_NAME_BYTES];
};

// Answers one request. Never fails: what goes wrong is an answer.
void api_handle(struct engine *engine, const struct api_request *request, struct api_answer *answer);

void api_answer_json(struct api_answer *answer, unsigned status, json_t *body); // takes the reference
void api_answer_error(struct api_answer *answer, unsigned status, const char *code, const char *message);

// events.c: POST /v1/events.
void api_handle_events(struct engine *engine, const struct api_request *request, struct api_answer *answer);
// "/v1/flags" and what is below it, "/v1/events": there bodies may have API_FLAGS_BODY_BYTES_MAX.
bool api_path_has_large_bodies(struct slice path);
// flags.c: "/v1/flags" and what is below it; rest is what follows "/v1/flags".
void api_handle_flags(struct engine *engine, struct slice rest, const struct api_request *request,
                      struct api_answer *answer);

// The whole of one rollout as JSON; NULL when out of memory. Reference is the caller's.
json_t *api_json_rollout(struct engine *engine, uint32_t index);
// The text of a document on the heap, not terminated, with room for one more byte; drops the reference. NULL
// when out of memory.
char *api_json_text(json_t *body, size_t *len);
json_t *api_json_status(struct engine *engine);
json_t *api_json_table(struct engine *engine);
json_t *api_json_history(struct engine *engine, uint32_t index);
json_t *api_json_decision(const char *name, const struct engine_decision *decision);
