// SPDX-License-Identifier: Apache-2.0
// The one YAML file, read into one tree with every default filled in. What is in a loaded tree is valid:
// names resolve, addresses parse, weights grow, shares sum to one. A bad file changes nothing and says where
// and why.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "base/text.h"
#include "net/http/codec.h"
#include "net/io/loop.h"
#include "net/names/names.h"
#include "ship/rollout/spec.h"

enum {
    CONFIG_NAME_BYTES =
        ROLLOUT_NAME_BYTES,  // names of services, versions, rollouts: [a-zA-Z0-9._-], at most 63
    CONFIG_WORD_BYTES = 128, // cookie and header names
    CONFIG_HOST_BYTES = 256,
    CONFIG_PATH_BYTES = 1024,
    CONFIG_WORKERS_MAX = 64,
    CONFIG_LISTEN_MAX = 16,
    CONFIG_NETWORKS_MAX = 64,
    CONFIG_SERVICES_MAX = 256,
    CONFIG_ROUTES_MAX = 64,       // per service
    CONFIG_OWN_ROUTES_MAX = 1024, // without a service
    CONFIG_METHODS_MAX = 16,      // per route
    CONFIG_TYPES_MAX = 64,        // to compress, per route
    CONFIG_CONDITIONS_MAX = 16,   // per route, on headers, and as many on the query
    CONFIG_EDITS_MAX = 10,        // per route and direction, of each kind
    CONFIG_METHOD_BYTES = 33,
    CONFIG_RULE_BYTES = 1024,       // of a header's or parameter's value in a route, the NUL included
    CONFIG_BODY_BYTES = 4097,       // of a fixed answer, the NUL included
    CONFIG_VERSIONS_MAX = 16,       // per service
    CONFIG_ENDPOINTS_MAX = 256,     // per version
    CONFIG_ALL_ROUTES_MAX = 4096,   // of all services together, as the proxy's table holds them
    CONFIG_ALL_VERSIONS_MAX = 1024, // control arms count as one more
    CONFIG_ALL_ENDPOINTS_MAX = 4096,
    CONFIG_ENDPOINT_WEIGHT_MAX = 1000,
    CONFIG_ALL_NAMES_MAX = NAMES_MAX, // of them written as names
    CONFIG_NAME_SERVERS_MAX = 8,
    CONFIG_ROLLOUTS_MAX = 256,
    CONFIG_FILES_MAX = 64,                   // *.yaml in a directory
    CONFIG_FILE_BYTES_MAX = 4 * 1024 * 1024, // all files together
    CONFIG_NODES_MAX = 65536,                // values, aliases counted as often as they are used
    CONFIG_CHILDREN_MAX = 1024,              // words in one mapping, items in one list
    CONFIG_DEPTH_MAX = 32,
    CONFIG_FLAG_BYTES = 256,        // of a flag's key
    CONFIG_FLAG_SOURCES_MAX = 63,   // with what `define` holds 64, as many as a set has
    CONFIG_FLAG_HEADERS_MAX = 8,    // per service
    CONFIG_HEADER_FLAGS_MAX = 64,   // per header
    CONFIG_ATTRIBUTES_MAX = 32,     // per service
    CONFIG_ERROR_STATUSES_MAX = 32, // per service, classes, ranges and single ones
    CONFIG_ERROR_HEADERS_MAX = 8,   // per service
    CONFIG_ERROR_TEXT_BYTES = 257,  // of a header's value or a text in a body, the NUL included
    CONFIG_ERROR_WITHIN_MAX = 1024 * 1024,
    CONFIG_ERROR_LINE_BYTES = 4096, // what config_service_errors_write writes at most
    CONFIG_ERRORS_MAX = 20,
    CONFIG_CIPHERS_BYTES = 512,
    CONFIG_CERTIFICATES_MAX = 63,
    CONFIG_CLIENT_HEADERS_MAX = 4, // per listener
    CONFIG_NOTES_MAX = 8,          // the last one stands for all that follow
    CONFIG_NOTE_BYTES = 256,
    CONFIG_FILE_NAME_BYTES = 256,
    CONFIG_MESSAGE_BYTES = 400,
    CONFIG_EXCERPT_BYTES = 120,
    CONFIG_REPORT_BYTES_MAX = CONFIG_ERRORS_MAX * 1200, // enough for config_errors_write
    CONFIG_SCHEMA_BYTES_MAX = 256 * 1024,               // enough for the schema and for the word reference
};

// ---- errors ----

struct config_position {
    char file[CONFIG_FILE_NAME_BYTES]; // as given to config_load, or the path inside its directory
    uint32_t line;                     // from 1; 0: the file as a whole
    uint32_t column;                   // from 1, in characters
};

struct config_error {
    struct config_position position;
    char message[CONFIG_MESSAGE_BYTES]; // one line: what is wrong, what was expected, the nearest known word
    char excerpt[CONFIG_EXCERPT_BYTES]; // the source line; empty when there is none
    uint32_t caret;                     // characters of the excerpt before the place
};

// The caller's storage, about 17 KB. Sorted by file and line.
struct config_errors {
    uint32_t count;   // of items
    uint32_t dropped; // further errors that did not fit
    struct config_error items[CONFIG_ERRORS_MAX];
};

// Every error as people read it: "file:line:column: message", the source line and a caret under the place.
void config_errors_write(const struct config_errors *errors, struct text *text);

// ---- the tree ----

enum config_log_level { CONFIG_LOG_ERROR, CONFIG_LOG_WARN, CONFIG_LOG_INFO, CONFIG_LOG_DEBUG };
enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };
enum config_log_requests { CONFIG_LOG_REQUESTS_NONE, CONFIG_LOG_REQUESTS_ERRORS };

enum config_log_paths { CONFIG_LOG_PATHS_WORDS, CONFIG_LOG_PATHS_NONE };

struct config_log {
    enum config_log_level level;
    enum config_log_format format;
    enum config_log_requests requests;
    enum config_log_paths paths;
    char access[CONFIG_PATH_BYTES]; // file; "-": standard output; empty: none
};

// An endpoint or a listening address. A listening address is always literal.
struct config_address {
    char text[NAMES_TEXT_BYTES];
    bool literal; // addr is filled; else a name that names_parse takes
    struct io_addr addr;
};

// Where a version answers. What is said of a name holds for each of its addresses.
struct config_endpoint {
    struct config_address address;
    uint32_t weight;              // how often it is drawn beside others; 0: it is drained
    char zone[CONFIG_NAME_BYTES]; // empty: none
};

// A network whose peers are trusted. IPv4 is kept as ::ffff:a.b.c.d with prefix_bits 96 + n.
struct config_network {
    char text[64];
    uint8_t address[16];
    uint8_t prefix_bits;
};

// A certificate as files in PEM.
struct config_certificate {
    char certificate[CONFIG_PATH_BYTES]; // the chain, own one first
    char key[CONFIG_PATH_BYTES];
    char ocsp[CONFIG_PATH_BYTES]; // an answer of OCSP in DER, to be stapled; empty: none
};

enum config_tls_version { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };

enum config_certificate_value {
    CONFIG_CERTIFICATE_SUBJECT,
    CONFIG_CERTIFICATE_NAMES,
    CONFIG_CERTIFICATE_FINGERPRINT
};

struct config_client_header {
    char header[CONFIG_WORD_BYTES];
    enum config_certificate_value value;
};

struct config_tls {
    struct config_certificate first; // for names that no other has
    struct config_certificate *more;
    uint32_t more_count;
    enum config_tls_version version_min;
    char ciphers[CONFIG_CIPHERS_BYTES]; // empty: the library's
    char client_ca[CONFIG_PATH_BYTES];  // empty: clients are not asked
    bool client_required;
    struct config_client_header *client_headers; // tell services of a client's certificate
    uint32_t client_header_count;
};

// Where clients connect.
struct config_listener {
    struct config_address address;
    bool secure; // with TLS
    bool http2;
    bool https;                          // all that comes is redirected to https
    struct config_network *header_peers; // whose connections begin with a PROXY header
    uint32_t header_peer_count;
    struct config_tls tls;
};

struct config_trust {
    struct config_network *networks; // peers that may force a version by header
    uint32_t network_count;
    uint32_t forwarded_hops;        // X-Forwarded-For entries, from the right, written by proxies of our own
    struct config_network *proxies; // where these are
    uint32_t proxy_count;
};

enum config_id_kept { CONFIG_ID_NOBODYS, CONFIG_ID_PROXIES, CONFIG_ID_ANYBODYS };

struct config_request_id {
    char header[CONFIG_WORD_BYTES]; // empty: none is given
    enum config_id_kept keep;
};

struct config_limits {
    uint64_t request_body_bytes;   // 0: unlimited (bodies are streamed, never held)
    uint32_t connections;          // clients at once, all workers together
    uint64_t head_bytes;           // of a request's head, or an answer's
    uint32_t head_fields;          // in it
    bool query_raw;                // pass '"', '<', '>' in a query
    uint32_t address_connections;  // clients at once of one address; 0: a quarter of all
    uint64_t request_rate_bytes;   // per second, which a client must reach that sends a body
    uint32_t endpoint_connections; // to one endpoint, per worker
};

// All in milliseconds. A service's copy starts as the file's own.
struct config_timeouts {
    uint64_t client_head_ms; // a whole request head must have come
    uint64_t client_idle_ms; // a kept-alive client connection without a request, at least
    uint64_t connect_ms;     // to an endpoint
    uint64_t first_byte_ms;  // from the request sent to the response's first byte
    uint64_t idle_ms;        // without a byte in either direction while a request runs
    uint64_t total_ms;       // one request altogether; 0: off
    uint64_t tunnel_ms;      // an upgraded connection without a byte either way
    uint64_t pool_idle_ms;   // an unused upstream connection is closed after it, before the origin would
    uint64_t drain_ms;       // connections in flight when an endpoint or the process leaves
};

enum config_path_kind { CONFIG_PATH_PREFIX, CONFIG_PATH_EXACT, CONFIG_PATH_TEMPLATE };

struct config_route_path {
    char text[CONFIG_PATH_BYTES]; // begins with '/'
    enum config_path_kind kind;
};

enum config_scheme { CONFIG_SCHEME_ANY, CONFIG_SCHEME_HTTP, CONFIG_SCHEME_HTTPS };
enum config_condition_kind { CONFIG_IS, CONFIG_BEGINS, CONFIG_PRESENT, CONFIG_ABSENT };

// On a header or a parameter of the query.
struct config_condition {
    char name[CONFIG_NAME_BYTES];
    char value[CONFIG_RULE_BYTES]; // IS, BEGINS
    enum config_condition_kind kind;
};

struct config_header_value {
    char name[CONFIG_NAME_BYTES];
    char value[CONFIG_RULE_BYTES];
};

// What becomes of a message's headers. No name is HTTP's or the proxy's own.
struct config_edits {
    struct config_header_value *set, *add;
    char (*remove)[CONFIG_WORD_BYTES];
    uint32_t set_count, add_count, remove_count;
};

struct config_rewrite {
    char path[CONFIG_PATH_BYTES]; // in place of a prefix, or of the whole path; empty: it stays
    char host[CONFIG_HOST_BYTES]; // empty: it stays
};

// 0: as the service has it.
struct config_route_timeouts {
    uint64_t first_byte_ms, idle_ms, total_ms;
};

// Which requests, and what becomes of them on their way to a service.
enum config_compression_state { CONFIG_COMPRESSION_UNSAID, CONFIG_COMPRESSION_OFF, CONFIG_COMPRESSION_ON };
enum config_level { CONFIG_LEVEL_FAST, CONFIG_LEVEL_BALANCED, CONFIG_LEVEL_SMALL };

// Of answers. Of a route UNSAID is as its service says, of a service OFF.
struct config_compression {
    enum config_compression_state state;
    enum http_codec codecs[HTTP_CODECS]; // the wanted first
    uint32_t codec_count;                // at least one when ON
    char (*types)[CONFIG_WORD_BYTES];    // lower case or not, "text/html" or "text/*"
    uint32_t type_count;                 // 0: those of the guide
    uint64_t bytes_min;
    enum config_level level;
    bool credentials;
};

struct config_route {
    char name[CONFIG_NAME_BYTES]; // empty: none
    char host[CONFIG_HOST_BYTES]; // lower case, no port; "*.name" for what lies below a name; empty: any
    struct config_route_path path;
    enum config_scheme scheme;
    char (*methods)[CONFIG_METHOD_BYTES]; // none: any
    struct config_condition *headers, *query;
    uint32_t method_count, header_count, query_count;
    struct config_edits request, response;
    struct config_rewrite rewrite;
    struct config_route_timeouts timeouts;
    bool retry_off, mirror_off;
    uint64_t request_body_bytes; // 0: as the file has it
    struct config_compression compression;
    struct config_position position;
};

// What is empty stays as the request has it; so does the query.
struct config_redirect {
    int status; // 301, 302, 303, 307, 308; 0: no redirect
    enum config_scheme scheme;
    char host[CONFIG_HOST_BYTES];
    uint32_t port; // 0: none
    char path[CONFIG_PATH_BYTES];
};

struct config_answer {
    uint32_t status; // 0: no answer
    struct config_header_value *headers;
    uint32_t header_count;
    char body[CONFIG_BODY_BYTES];
};

// A route without a service: a redirect or an answer, never both.
struct config_own_route {
    struct config_route route;
    struct config_redirect redirect;
    struct config_answer answer;
};

enum config_speech { CONFIG_SPEECH_UNSAID, CONFIG_SPEECH_PLAIN, CONFIG_SPEECH_TLS };

// How endpoints are spoken to; UNSAID, as PLAIN, is in the clear. The rest is for TLS only.
struct config_origin {
    enum config_speech speech;
    bool verify; // the chain, and the name
    enum config_tls_version version_min;
    char ca[CONFIG_PATH_BYTES];          // empty: the issuers that the system believes
    char server_name[CONFIG_HOST_BYTES]; // empty: the endpoint's own name or address
    char certificate[CONFIG_PATH_BYTES]; // ours, and its key; empty: none
    char key[CONFIG_PATH_BYTES];
    char ciphers[CONFIG_CIPHERS_BYTES]; // empty: the library's
};

enum config_http2 { CONFIG_HTTP2_UNSAID, CONFIG_HTTP2_OFF, CONFIG_HTTP2_ON };

struct config_version {
    char name[CONFIG_NAME_BYTES];
    enum config_http2 http2;     // its service's where it says nothing itself
    struct config_origin origin; // its service's where it says nothing itself
    struct config_endpoint *endpoints;
    uint32_t endpoint_count;                // at least 1, or 0 with endpoints_file
    char endpoints_file[CONFIG_PATH_BYTES]; // what says them, read at runtime; empty: none
    int proxy_header;                       // version of the PROXY header that its endpoints get; 0: none
};

enum config_unit_kind { CONFIG_UNIT_REQUEST, CONFIG_UNIT_COOKIE, CONFIG_UNIT_HEADER, CONFIG_UNIT_ADDRESS };

// What must stay on one version.
struct config_unit {
    enum config_unit_kind kind;
    char name[CONFIG_WORD_BYTES]; // COOKIE, HEADER
};

enum config_attribute_kind {
    CONFIG_ATTRIBUTE_NONE,
    CONFIG_ATTRIBUTE_HEADER,
    CONFIG_ATTRIBUTE_COOKIE,
    CONFIG_ATTRIBUTE_ADDRESS,
    CONFIG_ATTRIBUTE_METHOD,
    CONFIG_ATTRIBUTE_HOST,
    CONFIG_ATTRIBUTE_PATH,
};

// Where in a request a value of the evaluation context stands.
struct config_attribute {
    char name[CONFIG_NAME_BYTES]; // of the context's member
    enum config_attribute_kind kind;
    char source[CONFIG_WORD_BYTES]; // HEADER, COOKIE
};

struct config_flag_header {
    char name[CONFIG_NAME_BYTES]; // of the field
    char (*flags)[CONFIG_FLAG_BYTES];
    uint32_t flag_count;
};

// Flags in the path of one service's requests.
struct config_service_flags {
    struct config_attribute key; // the targeting key; kind NONE: the service's unit
    struct config_attribute *context;
    uint32_t context_count;
    struct config_flag_header *headers;
    uint32_t header_count;
    char version[CONFIG_FLAG_BYTES]; // the flag whose variant is the version; empty: none
};

// Statuses of answers, both in it.
struct config_status_range {
    uint16_t first, last;
};

struct config_error_header {
    char name[CONFIG_NAME_BYTES];
    char value[CONFIG_ERROR_TEXT_BYTES]; // unless present
    bool present;                        // whatever its value is
};

struct config_error_body {
    char contains[CONFIG_ERROR_TEXT_BYTES]; // empty: no body is looked at
    uint64_t within;                        // bytes
};

// What counts as an error of one service's versions; complete, given or not.
struct config_service_errors {
    bool given;
    struct config_status_range statuses[CONFIG_ERROR_STATUSES_MAX];
    uint32_t status_count;
    struct config_error_header *headers;
    uint32_t header_count;
    struct config_error_body body;
    int grpc[16]; // codes
    uint32_t grpc_count;
};

// What protects the endpoints of a service's versions, each on its own; not `given`: off.
struct config_health {
    bool given;
    bool tcp;
    bool unhealthy_first;
    char path[CONFIG_PATH_BYTES]; // empty: tcp
    char host[CONFIG_HOST_BYTES]; // empty: the endpoint's address
    struct config_status_range status;
    uint64_t every_ms, timeout_ms;
    uint32_t rise, fall;
};

struct config_outlier {
    bool given;
    uint32_t consecutive;
    uint64_t ejection_ms, longest_ms;
    uint32_t at_most; // thousandths of a percent
};

struct config_breaker {
    bool given;
    uint32_t errors; // thousandths of a percent
    uint64_t within_ms, open_ms;
    uint32_t at_least, probes;
    uint32_t requests; // 0: no limit
};

enum { CONFIG_MIRROR_CONCURRENT = 64, CONFIG_MIRROR_BODY_BYTES = 262144 }; // where the file does not say

struct config_mirror {
    bool given;
    char to[CONFIG_NAME_BYTES];
    uint32_t share, secondary; // thousandths of a percent
    bool unsafe;
    uint64_t timeout_ms;
    uint32_t concurrent;
    uint64_t body_bytes;
    char host[CONFIG_HOST_BYTES]; // empty, as the next: as the request's
    char path[CONFIG_PATH_BYTES];
    struct config_edits headers;
};

// How requests are spread over the endpoints of a version.
struct config_balance {
    struct config_attribute hash; // picks the endpoint; kind NONE: load does
};

struct config_service {
    char name[CONFIG_NAME_BYTES];
    struct config_route *routes; // at least one; without `routes` it is any host, path "/"
    uint32_t route_count;
    struct config_version *versions;
    uint32_t version_count;         // at least 1
    char stable[CONFIG_NAME_BYTES]; // always the name of one of them
    struct config_unit unit;
    struct config_endpoint *control_endpoints; // freshly started endpoints of the stable version, or none
    uint32_t control_endpoint_count;
    struct config_origin control_origin;
    enum config_http2 control_http2;
    enum config_http2 http2;     // of versions that say nothing themselves
    struct config_origin origin; // of versions that say nothing themselves
    struct config_timeouts timeouts;
    struct config_service_flags flags;
    struct config_service_errors errors;
    struct config_health health;
    struct config_outlier outlier;
    struct config_breaker breaker;
    uint32_t panic;         // share, thousandths of a percent; 0: never
    uint64_t slow_start_ms; // 0: off
    bool fallback;          // to the stable version
    struct config_balance balance;
    struct config_compression compression;
    struct config_mirror mirror;
    struct config_position position;
};

enum config_flag_source_kind { CONFIG_FLAG_FILE, CONFIG_FLAG_DIRECTORY, CONFIG_FLAG_URL };

struct config_flag_source {
    enum config_flag_source_kind kind;
    char place[CONFIG_PATH_BYTES];
    char token_file[CONFIG_PATH_BYTES]; // URL; empty: none
    uint64_t every_ms;                  // URL
};

struct config_flags {
    bool given;
    struct config_address listen; // OFREP and flagd's evaluation service; text empty: not served
    uint32_t threads;
    char tokens[CONFIG_PATH_BYTES];     // empty: no token is asked for
    uint32_t rate;                      // requests per second and client; 0: unlimited
    uint32_t burst;                     // 0: as rate
    char cors[CONFIG_HOST_BYTES];       // origin of browser clients; empty: none
    char share[CONFIG_PATH_BYTES];      // directory for libsluice-flags; empty: none
    char exposures[CONFIG_PATH_BYTES];  // file; empty: none
    struct config_flag_source *sources; // later override earlier
    uint32_t source_count;
    char *define; // JSON object of flags in flagd's format; NULL: none. Lines and columns are the file's
    struct config_position position;
};

// Takes the rollout back by the canary's own failures, whatever the baseline does.
struct config_kill {
    double errors;     // share above which it acts; 0: off
    uint32_t requests; // at least so many within the time
    uint64_t within_ms;
};

struct config_rollout {
    struct rollout_spec spec; // complete: service, from, to, keyed and control are filled from the service
    struct config_kill kill;
    struct config_position position;
};

// How names of endpoints are looked up.
struct config_names {
    struct config_address *servers; // none: those of /etc/resolv.conf
    uint32_t server_count;
};

struct config {
    uint32_t workers; // 0: auto, one per core
    enum io_kind io;  // AUTO, EPOLL or URING
    char journal[CONFIG_PATH_BYTES];
    char zone[CONFIG_NAME_BYTES]; // where this proxy stands; empty: not said
    struct config_listener *listen;
    uint32_t listen_count;       // at least 1
    struct config_address admin; // loopback or unix
    struct config_trust trust;
    bool forwarded;
    struct config_request_id request_id;
    struct config_limits limits;
    struct config_timeouts timeouts;
    struct config_log log;
    struct config_names names;
    struct config_service *services;
    uint32_t service_count; // at least 1, or 0 when the file has flags
    struct config_own_route *routes;
    uint32_t route_count;
    struct config_rollout *rollouts;
    uint32_t rollout_count;
    struct config_flags flags;
    char *segments; // JSON object of names and rules; NULL: none. Lines and columns are the file's
    // What people should know of a file that is valid: one sentence each.
    char notes[CONFIG_NOTES_MAX + 1][CONFIG_NOTE_BYTES]; // one more for what must not be left out
    uint32_t note_count;
};

// ---- loading ----

// Reads a file, or every *.yaml and *.yml of a directory (in name order, merged; a name given twice is an
// error). Relative paths in it begin at the file's directory. STATUS_INVALID: *errors says what is wrong;
// NOT_FOUND, DENIED, IO: so does it, at line 0; NO_MEMORY. On success errors->count is 0 and *config is the
// caller's, to be destroyed.
MUST_USE enum status config_load(const char *path, struct config **config, struct config_errors *errors);
// The same from memory; `name` stands for the file in errors, relative paths begin at the working directory.
MUST_USE enum status config_load_text(const char *name, struct slice yaml, struct config **config,
                                      struct config_errors *errors);
// The endpoints that a version's endpoints_file says, held against the file that names it; *endpoints is the
// caller's, to be freed, at least one and at most CONFIG_ENDPOINTS_MAX. Statuses and errors as config_load.
MUST_USE enum status config_endpoints_load(const struct config *config, const struct config_version *version,
                                           struct config_endpoint **endpoints, uint32_t *count,
                                           struct config_errors *errors);
// The same from memory; `name` stands for the file in errors.
MUST_USE enum status config_endpoints_load_text(const struct config *config,
                                                const struct config_version *version, const char *name,
                                                struct slice yaml, struct config_endpoint **endpoints,
                                                uint32_t *count, struct config_errors *errors);
// NULL is allowed.
void config_destroy(struct config *config);

// Tells each word, such as "limits.connections", whose change from one load to the other has no effect until
// the daemon is started again.
void config_restarts(const struct config *was, const struct config *now,
                     void (*tell)(void *context, const char *word), void *context);

// ---- looking things up; NULL when there is no such name ----

const struct config_service *config_service_find(const struct config *config, const char *name);
const struct config_version *config_version_find(const struct config_service *service, const char *name);
const struct config_rollout *config_rollout_find(const struct config *config, const char *name);
// The rollout that concerns the service, if there is one (there is never a second).
const struct config_rollout *config_rollout_of_service(const struct config *config, const char *service);

// ---- values as the file writes them: for command lines, the API and messages ----

// "10m", "1h30m", "500ms" to milliseconds; INVALID, or RANGE when it overflows.
MUST_USE enum status config_parse_duration(struct slice text, uint64_t *ms);
// "5%", "0.1%" to thousandths of a percent, 0..ROLLOUT_WEIGHT_FULL; INVALID without %, RANGE above 100 % or
// finer than 0.001 %.
MUST_USE enum status config_parse_weight(struct slice text, uint32_t *weight);
// "64MiB", "512B" to bytes; INVALID, RANGE.
MUST_USE enum status config_parse_size(struct slice text, uint64_t *bytes);
// The other way: "1h30m", "0.1%".
void config_duration_write(uint64_t ms, struct text *text);
void config_weight_write(uint32_t weight, struct text *text);
// The candidate nearest to `word` by edits, or NULL when none is near enough to be meant.
const char *config_nearest(struct slice word, const char *const *candidates, size_t count);

// What counts as an error, in a line: "status 5xx, 429; or header x-result: failed; or ...".
void config_service_errors_write(const struct config_service_errors *errors, struct text *text);

// ---- generated from the reader's own table ----

// JSON Schema (draft 2020-12), for editors: docs/sluice.schema.json.
void config_schema_write(struct text *text);
// The reference of every word in Markdown: docs/guide/configuration.md.
void config_words_write(struct text *text);
