// SPDX-License-Identifier: Apache-2.0
// What the parts of the module share. The core answers one request from one snapshot into storage of its
// thread and knows neither sockets nor threads; server.c gives each thread a core, a loop and a listener.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/json_out.h"
#include "base/list.h"
#include "base/siphash.h"
#include "base/text.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"
#include "flags/eval/json.h"
#include "flags/eval/tally.h"
#include "flags/ofrep/ofrep.h"

enum {
    OFREP_ANSWER_BYTES = 64 << 10,     // of a thread's answer buffer at the start
    OFREP_ANSWER_BYTES_MAX = 64 << 20, // and at most: a longer answer is an error
    OFREP_FIELD_BYTES = 2048,
    OFREP_TRAILER_BYTES = 1024,
    OFREP_SCRATCH_BYTES = 64 << 10, // of one evaluation
    OFREP_STREAMS_MAX = 1024,       // per thread
    OFREP_HEARTBEAT_MS = 20000,     // as flagd's keep_alive
    OFREP_REQUEST_URI_BYTES = 64 + 3 * FLAGSET_SELECTOR_BYTES,
};

// ---- limit.c: token buckets of callers, shared by the threads ----

enum { OFREP_LIMIT_SETS = 4096, OFREP_LIMIT_WAYS = 4, OFREP_LIMIT_LOCKS = 64 };

struct ofrep_limit;
// NULL when memory is refused.
MUST_USE struct ofrep_limit *ofrep_limit_create(uint32_t rate, uint32_t burst);
void ofrep_limit_destroy(struct ofrep_limit *limit);
// Takes one request of `who`. False: too many; *wait_s seconds (at least 1) until there is one again.
bool ofrep_limit_take(struct ofrep_limit *limit, struct slice who, uint64_t now_us, uint32_t *wait_s);

// ---- exposure.c: first sights, of one thread, taken by another ----

struct ofrep_exposures;
MUST_USE struct ofrep_exposures *ofrep_exposures_create(void);
void ofrep_exposures_destroy(struct ofrep_exposures *exposures);
void ofrep_exposures_note(struct ofrep_exposures *exposures, const struct flagset_snapshot *snapshot,
                          struct slice flag, struct slice variant, struct slice key, int64_t time_ms);
uint32_t ofrep_exposures_drain(struct ofrep_exposures *exposures, struct ofrep_exposure *out, uint32_t cap);
uint64_t ofrep_exposures_lost(struct ofrep_exposures *exposures);

// ---- core ----

// Written by one thread, read by any.
struct ofrep_counts {
    _Atomic uint64_t requests, unauthorized, limited, evaluations, errors;
};

static inline void ofrep_count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

enum ofrep_stream_kind { OFREP_STREAM_REFETCH, OFREP_STREAM_EVENTS, OFREP_STREAM_SYNC };

struct ofrep_form;

struct ofrep_stream {
    struct list link;                  // of the core
    struct web_connection *connection; // NULL: not open yet
    enum ofrep_stream_kind kind;
    const struct ofrep_form *form; // of its messages; NULL: server-sent events
    uint64_t due_us;               // it ends then; UINT64_MAX: never
    uint64_t state;                // last told (see state_of); 0: nothing matched
    int64_t told_s;                // when, and when it was last found unchanged
    size_t selector_len;
    char selector[FLAGSET_SELECTOR_BYTES];
};

struct ofrep_core {
    const struct flagset_snapshot *snapshot; // in force here; NULL: none yet
    const struct flagset_snapshot *told;     // the one streams were told of; NULL: none yet
    struct flags_tally *tally;               // this thread's in the snapshot, or NULL
    const struct tokens *tokens;             // NULL: none is asked for
    struct ofrep_limit *limit;               // NULL: none
    struct ofrep_exposures *exposures;       // NULL: not gathered
    const char *cors_origin;                 // NULL: none
    bool strict_reasons;

    struct flags_json_space space;
    struct flags_scratch scratch;
    struct json_out body;
    struct json_out event; // of streams, so that an answer being sent stays as it is
    struct json_out aside; // JSON on its way between two forms
    struct text fields;
    struct text trailers; // of a gRPC answer; empty: OK
    char field_bytes[OFREP_FIELD_BYTES];
    char trailer_bytes[OFREP_TRAILER_BYTES];
    char cors_bytes[512];
    struct slice cors;                 // field lines of every answer
    char key[OFREP_KEY_BYTES_MAX + 1]; // decoded; the last byte tells a key that is too long
    char details[200];                 // of what is wrong with a body
    char selector[FLAGSET_SELECTOR_BYTES];
    struct list streams;
    uint32_t stream_count;
    struct ofrep_counts counts;
};

// Of config only cors_origin (copied), strict_reasons and exposures are read here.
MUST_USE enum status ofrep_core_init(struct ofrep_core *core, const struct ofrep_config *config);
void ofrep_core_deinit(struct ofrep_core *core);
// Answers one request; everything in *answer is borrowed from the core until its next call. The answer comes
// zeroed.
void ofrep_core_answer(struct ofrep_core *core, const struct web_request *request, struct web_answer *answer);

enum ofrep_route {
    OFREP_ROUTE_NONE,
    OFREP_ROUTE_HEALTH,
    OFREP_ROUTE_READY,
    OFREP_ROUTE_SINGLE,
    OFREP_ROUTE_BULK,
    OFREP_ROUTE_STREAM,
    OFREP_ROUTE_RPC, // a service of ours, whatever the method
};

enum ofrep_service { OFREP_SERVICE_EVALUATION, OFREP_SERVICE_SYNC, OFREP_SERVICE_HEALTH };

// One request on its way through the core.
struct ofrep_call {
    struct ofrep_core *core;
    const struct web_request *request;
    struct web_answer *answer;
    enum ofrep_route route;
    enum ofrep_service service;
    const struct ofrep_form *form; // RPC: what the client speaks
    uint64_t due_us;               // RPC: its deadline; UINT64_MAX: none
    struct slice rest;             // SINGLE: the key as sent; RPC: the procedure
    struct slice selector;         // decoded; empty: everything
    bool definitions;              // may read them
    bool matched;                  // the view exists
    bool strict;                   // reasons of the published schema only
    struct flagset_view view;
};

// Ends the answer with this body.
void ofrep_finish(struct ofrep_call *call, unsigned status);
// A refusal in the words of the protocol that was spoken: code and message of a form, or errorDetails.
void ofrep_refuse(struct ofrep_call *call, unsigned status, const char *code, const char *message);
// Words the refusal of a request that never came whole, as web_handler.refuse.
bool ofrep_core_refuse(struct ofrep_core *core, const struct web_request *request, unsigned status,
                       const char *sentence, struct web_answer *answer);
// Parses the body into the core's nodes. STATUS_OK; INVALID: no JSON, core->details says what and where;
// FULL: too many values, told likewise.
MUST_USE enum status ofrep_read_body(struct ofrep_core *core, struct slice body,
                                     const struct flags_json **root);
// Adds a field line to the answer; the value must be fit for one.
void ofrep_add_field(struct ofrep_call *call, const char *name, struct slice value);
// Evaluates with the call's view, counts, and notes what was told to whom when `exposure`.
void ofrep_evaluate(struct ofrep_call *call, struct slice key, enum flags_type type,
                    const struct flags_context *context, bool exposure, struct flags_result *result);

void ofrep_answer_single(struct ofrep_call *call);
void ofrep_answer_bulk(struct ofrep_call *call);
void ofrep_answer_rpc(struct ofrep_call *call);
void ofrep_answer_stream(struct ofrep_call *call);

// ---- rpc.c: procedures; rpc_json.c and rpc_grpc.c: the forms in which they are spoken ----

enum ofrep_procedure_kind {
    OFREP_PROCEDURE_RESOLVE,
    OFREP_PROCEDURE_ALL,
    OFREP_PROCEDURE_EVENTS,
    OFREP_PROCEDURE_FETCH,
    OFREP_PROCEDURE_SYNC,
    OFREP_PROCEDURE_HEALTH,
};

struct ofrep_procedure {
    enum ofrep_service service;
    struct slice name;
    enum ofrep_procedure_kind kind;
    enum flags_type type; // RESOLVE
};

// What the request of any procedure says; texts that are not there are empty.
struct ofrep_message {
    struct slice key;                 // RESOLVE
    struct slice selector;            // FETCH, SYNC
    struct slice service;             // HEALTH
    const struct flags_json *context; // RESOLVE, ALL; NULL: none
};

struct ofrep_form {
    const char *stream_type; // Content-Type of streams
    bool enveloped;          // also a message that is alone, not of a stream
    // Reads the request's message. False: it was refused.
    bool (*read)(struct ofrep_call *call, const struct ofrep_procedure *procedure,
                 struct ofrep_message *message);
    void (*refuse)(struct ofrep_call *call, unsigned status, const char *code, const char *message);
    // A stream's failure before it is one. NULL: as any other.
    void (*fail_stream)(struct ofrep_call *call, const char *code, const char *message);
    void (*finish)(struct ofrep_call *call); // of an answer; NULL: nothing is to be added
    // Messages. integer: the value of an INTEGER. Metadata may be empty, data is a JSON object or empty.
    void (*put_resolved)(struct json_out *body, enum flags_type type, const struct flags_result *result,
                         int64_t integer);
    void (*put_all_begin)(struct json_out *body);
    void (*put_flag)(struct json_out *body, struct slice key, const struct flags_result *result);
    void (*put_all_end)(struct json_out *body, struct slice metadata);
    void (*put_configuration)(struct json_out *body, struct slice json);
    void (*put_health)(struct json_out *body, bool serving);
    void (*put_event)(struct json_out *event, const char *type, struct slice data);
    // The last words of a stream; ends it.
    void (*end)(struct json_out *event, struct web_connection *connection, const char *code,
                const char *message);
};
extern const struct ofrep_form OFREP_FORM_JSON, OFREP_FORM_GRPC;

bool ofrep_is_stream(const struct ofrep_procedure *procedure);
void ofrep_fail(struct ofrep_call *call, const struct ofrep_procedure *procedure, const char *code,
                const char *message);
unsigned ofrep_code_number(const char *code); // gRPC's
// The one message of a body, out of its envelope. NULL when it is good; else why not, and *code.
const char *ofrep_envelope_open(struct slice *body, const char **code);
// Whether a request speaks gRPC.
bool ofrep_is_grpc(const struct web_request *request);

// ---- struct.c ----

// Writes a Struct down as a JSON object. NULL, or what is wrong with it.
const char *ofrep_struct_read(struct slice bytes, struct json_out *out);
// A field that is a Struct, of a JSON object that was read before.
void ofrep_struct_put(struct json_out *out, uint32_t number, struct slice json);

// ---- stream.c ----

// A stream of that kind over the call's selector; the answer gets it as its subject, and the event written
// to core->body as its beginning. False: too many, refused.
bool ofrep_stream_begin(struct ofrep_call *call, enum ofrep_stream_kind kind, const char *content_type);
void ofrep_stream_opened(struct ofrep_core *core, struct web_connection *connection, void *subject);
void ofrep_stream_closed(struct ofrep_core *core, void *subject);
// The snapshot in force has been taken up everywhere: tells all streams whose view changed.
void ofrep_streams_tell(struct ofrep_core *core, int64_t wall_ms);
// Tells those in whose view a schedule began or ended. To be called every second or more often.
void ofrep_streams_tell_time(struct ofrep_core *core, int64_t wall_ms);
void ofrep_streams_beat(struct ofrep_core *core);
// Ends those whose deadline has passed.
void ofrep_streams_due(struct ofrep_core *core, uint64_t now_us);
// Ends all: other tokens count now, and who may still listen comes back.
void ofrep_streams_end(struct ofrep_core *core);
// An envelope of Connect and gRPC: five bytes before a message. Begin, write the message, end.
size_t ofrep_envelope_begin(struct json_out *writer, bool end_of_stream);
void ofrep_envelope_end(struct json_out *writer, size_t begin);
// The message that holds what the selector shows. STATUS_CONFLICT: one file cannot say it.
MUST_USE enum status ofrep_put_configuration(struct json_out *writer, const struct ofrep_form *form,
                                             const struct flagset_snapshot *snapshot, struct slice selector);
