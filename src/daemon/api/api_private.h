// SPDX-License-Identifier: Apache-2.0
// What the parts of the API share: one call from its request to its answer, and the rows of the route tables.
#pragma once

#include "base/json_out.h"
#include "daemon/api/api.h"
#include "flags/eval/json.h"
#include "ship/engine/record.h"

enum {
    API_ANSWER_BYTES_MAX = 16 * 1024 * 1024, // the engine loop's buffers hold no more
    API_ALLOW_BYTES = 48,
    API_WORD_BYTES = 256,
};

struct api_call {
    struct engine *engine;
    const struct api_program *program; // NULL: there is none around it
    // The request.
    struct slice method;
    struct slice path;
    struct slice query;
    struct slice body;
    struct slice host;
    struct slice who;              // X-Sluice-Who
    bool cross_site;               // sent by a page of another origin
    const char *from;              // the peer's address
    char words[2][API_WORD_BYTES]; // decoded: what the path has where its pattern has words in capitals
    // The answer: 200 and the JSON in out, unless the handler says otherwise.
    unsigned status;
    const char *content_type;         // constant; NULL: JSON
    struct json_out out;              // the server frees it
    char allow[API_ALLOW_BYTES];      // 405: the methods there are
    char subject[ROLLOUT_NAME_BYTES]; // not empty: the connection stays open for this rollout's events
};

// ---- routes.c

// Who may call: a word of the guide. Nothing asks for it yet, the address being local.
enum api_role { API_READ, API_OPERATE, API_FLAGS, API_REPORT };

struct api_route {
    const char *method;
    const char *pattern; // of addresses; a word in capitals stands for any
    enum api_role role;
    void (*handle)(struct api_call *call); // never fails: what goes wrong is an answer
    const char *help;                      // what it answers with, for the guide
};

// The addresses that begin alike, beside what they expose. Of two patterns for an address the first counts.
struct api_part {
    struct slice prefix;
    uint32_t body_bytes_max;
    bool (*ready)(struct api_call *call); // asked before anything else; false: it has answered. May be NULL
    const char *not_found;                // NULL: the list of all there is
    const struct api_route *routes;
    size_t route_count;
};
extern const struct api_part api_rollouts_part, api_services_part, api_flags_part, api_events_part,
    api_daemon_part;

// Answers one call.
void api_handle(struct api_call *call);
// The largest body that the path takes.
uint32_t api_body_bytes_max(struct slice path);

// ---- answer.c

void api_error(struct api_call *call, unsigned status, const char *code, const char *message);
// What was refused with that status, as HTTP status and code.
void api_refuse(struct api_call *call, enum status status, const char *message);

// The value of a query's parameter, percent-decoded into out (NUL-terminated). False when it is not there or
// does not fit.
bool api_query_value(struct slice query, struct slice name, char *out, size_t cap);
// "1", "true" or nothing after the name.
bool api_query_given(struct slice query, struct slice name);

struct api_body {
    struct flags_json *root; // an object
    struct flags_json *nodes;
    char *chars;
};
// An empty body is an empty object. False: answered already.
bool api_body_read(struct api_call *call, struct api_body *body);
void api_body_free(struct api_body *body);
// Who asks: the body's "who" (root may be NULL), else the X-Sluice-Who field, else "api". Nothing in it moves
// a cursor or begins a line.
void api_who(const struct api_call *call, const struct flags_json *root, char who[ROLLOUT_WHO_BYTES]);

// ---- services.c

// How answers differ, as the program's diff tells it; `path` of the query leaves out all other paths.
void api_answer_diff(struct api_call *call, struct slice service, struct slice rollout);

// ---- endpoints.c

void api_endpoints_get(struct api_call *call);
void api_endpoints_put(struct api_call *call);
void api_endpoints_delete(struct api_call *call);

// ---- rollouts.c: the rollout at index as a member, or item, of an answer

void api_write_rollout(struct json_out *out, const char *member, struct engine *engine, uint32_t index);
void api_write_decision(struct json_out *out, const char *rollout, const struct engine_decision *decision);
