// SPDX-License-Identifier: Apache-2.0
// What is an error of a version: an answer is looked at as it passes, head, body and trailers, against the
// definition of its service. Pure: bytes in, an outcome out. Nothing is held back or copied; a text is found
// wherever the borders of the buffers lie, in time linear in the bytes looked at. Failed connects, timeouts,
// resets and broken answers are errors whatever a definition says, and no matter of this file.
#pragma once

#include "net/http/message.h"
#include "net/proxy/table_private.h"

enum outcome {
    OUTCOME_FINE, // no error, as far as seen
    OUTCOME_STATUS,
    OUTCOME_HEADER,
    OUTCOME_GRPC, // a status of gRPC, or none where there must be one
    OUTCOME_BODY, // its body has the text
};

// What of one answer is still to be seen.
struct outcome_watch {
    uint64_t definition; // its id
    uint32_t body_left;  // bytes that are searched yet
    uint16_t matched;    // bytes of the text that end what was searched
    bool grpc;           // its status is to come at the end
    bool open;           // any of these
    bool unsearched;     // the body is encoded (RFC 9110 8.4): no text is looked for
};

// Whether the head is one of gRPC or gRPC-Web. Without it the definition by default needs nothing but the
// status.
static inline bool outcome_is_grpc(const struct http_fields *fields)
{
    if ((fields->present >> HTTP_FIELD_CONTENT_TYPE & 1) == 0)
        return false;
    struct slice type = fields->items[fields->first[HTTP_FIELD_CONTENT_TYPE]].value;
    return slice_starts_with(type, SLICE("application/grpc"));
}

// What holds where a service defines nothing: 5xx, and the statuses of gRPC that are the server's fault.
extern const struct proxy_errors outcome_default;

// A final head. Sets all of *watch.
enum outcome outcome_of_head(const struct proxy_errors *errors, const struct http_response *response,
                             struct outcome_watch *watch);
// The next run of body bytes, decoded from its framing. After an error nothing more is to be seen.
enum outcome outcome_of_run(const struct proxy_errors *errors, struct slice run, struct outcome_watch *watch);
// The answer came to its end. trailers NULL: it has none.
enum outcome outcome_of_end(const struct proxy_errors *errors, const struct http_fields *trailers,
                            struct outcome_watch *watch);

// NULL, or what is wrong with a service's definition; at most what compiling it carves; and the compiled
// form, NULL where the service defines nothing.
const char *outcome_check(const struct proxy_errors_plan *plan);
size_t outcome_bytes(const struct proxy_errors_plan *plan);
const struct proxy_errors *outcome_compile(struct table_carve *from, const struct proxy_errors_plan *plan);
