// SPDX-License-Identifier: Apache-2.0
// The counters' names, as metrics show them. One line per enumerator, in its order.
#include "base/check.h"
#include "net/proxy/proxy.h"

static const char *const VERSION_NAMES[] = {
    "requests",      "completed",      "forced",         "flagged",         "attempts",
    "retries",       "status_1xx",     "status_2xx",     "status_3xx",      "status_4xx",
    "status_5xx",    "local_4xx",      "local_5xx",      "errors",          "error_5xx",
    "error_status",  "error_header",   "error_grpc",     "error_body",      "error_connect",
    "error_tls",     "error_timeout",  "error_reset",    "error_broken",    "error_unavailable",
    "error_ejected", "error_open",     "error_events",   "aborted",         "unsearched",
    "good",          "fallbacks",      "ejected_answer", "ejected_connect", "ejected_timeout",
    "ejected_reset", "ejected_broken", "upgrades",       "bytes_in",        "bytes_out",
};
_Static_assert(ARRAY_LEN(VERSION_NAMES) == PROXY_VERSION_COUNTERS, "a name for each");

static const char *const WORKER_NAMES[] = {
    "accepted",
    "refused",
    "clients_closed",
    "accept_failures",
    "proxy_headers_refused",
    "received",
    "answered",
    "aborted",
    "cut",
    "local",
    "local_5xx",
    "rejected",
    "unrouted",
    "unavailable",
    "bad_gateway",
    "gateway_timeout",
    "head_timeouts",
    "idle_closed",
    "gave_way",
    "http2_requests",
    "http2_streams_opened",
    "http2_streams_closed",
    "http2_resets_by_clients",
    "http2_resets",
    "http2_goaways",
    "http2_calmed",
    "upstream_opened",
    "upstream_closed",
    "upstream_reused",
    "retries_denied",
    "tunnels_opened",
    "tunnels_closed",
    "drained",
    "events_dropped",
    "accesses_dropped",
    "flags_left_out",
    "flag_versions_unknown",
};
_Static_assert(ARRAY_LEN(WORKER_NAMES) == PROXY_WORKER_NAMED, "a name for each");

const char *proxy_version_counter_name(enum proxy_version_counter counter)
{
    CHECK((unsigned)counter < PROXY_VERSION_COUNTERS);
    return VERSION_NAMES[counter];
}

const char *proxy_worker_counter_name(enum proxy_worker_counter counter)
{
    CHECK((unsigned)counter < PROXY_WORKER_NAMED);
    return WORKER_NAMES[counter];
}
