// SPDX-License-Identifier: Apache-2.0
// The one table of words. The reader obeys it, and the JSON Schema and the reference are printed from it, so
// that a word exists in all of them or in none. Order is the order of reading and of the documents.
#include <stddef.h>

#include "base/check.h"
#include "daemon/config/config_private.h"

#define MINUTES(n) ((uint64_t)(n)*60000)
#define DAY MINUTES(24 * 60)
#define KIB ((uint64_t)1024)
#define TIB (KIB * KIB * KIB * KIB)
#define AT(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)
#define ITEMS(type, member, counter)                                                                         \
    .offset = offsetof(type, member), .size = sizeof(*((type *)NULL)->member),                               \
    .count_offset = offsetof(type, counter)
#define WORDS(array) .words = (array), .word_count = ARRAY_LEN(array)

static const struct config_choice off_or_on[] = {{"off", 0}, {"on", 1}, {NULL, 0}};

// ---- rollouts ----

static const struct config_word approve_words[] = {
    {.word = "by",
     .kind = CONFIG_KIND_NAME,
     AT(struct rollout_stage, by),
     .help = "who may approve; without it any approver"},
};
static const struct config_section approve_section = {
    .title = "approve",
    .help = "Waits for a person. `approve: sre` is short for `approve: {by: sre}`.",
    WORDS(approve_words),
    .shorthand = "by",
};

static const struct config_word ring_words[] = {
    {.word = "name",
     .kind = CONFIG_KIND_NAME,
     AT(struct rollout_stage, segment),
     .required = true,
     .help = "a segment of this file"},
    {.word = "for",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_stage, min_ms),
     .max = 30 * DAY,
     .help = "time in this stage, as the stage's own `for`"},
};
static const struct config_section ring_section = {
    .title = "ring",
    .help = "Everybody in a segment gets the new variant. `segment: internal` is short for "
            "`segment: {name: internal}`.",
    WORDS(ring_words),
    .shorthand = "name",
};

static const struct config_word stage_words[] = {
    {.word = "weight",
     .kind = CONFIG_KIND_WEIGHT,
     AT(struct rollout_stage, weight),
     .min = 1,
     .max = ROLLOUT_WEIGHT_FULL,
     .help = "share of live traffic the new version gets; grows from stage to stage"},
    {.word = "for",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_stage, min_ms),
     .max = 30 * DAY,
     .fallback = "10m",
     .help = "least time in this stage, however good the evidence"},
    {.word = "horizon",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_stage, horizon_ms),
     .min = 1000,
     .max = 90 * DAY,
     .fallback = "1h",
     .help = "time after which a stage without a verdict is undecided; by default at least twice `for`"},
    {.word = "soak",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_stage, soak_ms),
     .max = 30 * DAY,
     .fallback = "1h",
     .help = "only at weight 100%: how long the watch goes on before the rollout is complete"},
    {.word = "approve",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct rollout_stage),
     .optional = true,
     .section = &approve_section,
     .help = "instead of a weight: wait for a person"},
    {.word = "shadow", .kind = CONFIG_KIND_LATER, .help = "shadow stages are"},
    {.word = "segment",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct rollout_stage),
     .optional = true,
     .section = &ring_section,
     .help = "instead of a weight, of a flag's rollout: a ring, whose members get the variant for good"},
};
static const struct config_section stage_section = {
    .title = "stage",
    .help = "One step of a rollout: a `weight`, an `approve` or a `segment`.",
    WORDS(stage_words),
    .prepared = true,
    .prepare = config_stage_prepare,
    .finish = config_stage_finish,
};

static const struct config_word errors_words[] = {
    {.word = "worse",
     .kind = CONFIG_KIND_NUMBER,
     AT(struct rollout_check_errors, worse),
     .low = 1,
     .high = 100,
     .fallback = "1",
     .help = "rolled back when the error rate is shown to be more than this many times the baseline's"},
    {.word = "margin",
     .kind = CONFIG_KIND_NUMBER,
     AT(struct rollout_check_errors, margin),
     .low = 1.01,
     .high = 100,
     .zero = "auto",
     .fallback = "auto",
     .help = "promoted when the error rate is shown to be below this many times the baseline's; auto is "
             "1.25, or 1.5 "
             "when the baseline fails less than 0.5 % of requests"},
    {.word = "negligible",
     .kind = CONFIG_KIND_SHARE,
     AT(struct rollout_check_errors, negligible),
     .low = 0.00001,
     .high = 0.5,
     .zero = "off",
     .fallback = "0.1%",
     .help = "promoted too when the new version's own error rate is shown to be below this"},
    {.word = "window",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_check_errors, window_ms),
     .max = 30 * DAY,
     .zero = "rollout",
     .fallback = "rollout",
     .help = "a user's second error within it does not count again; `rollout` is the whole rollout"},
    {.word = "share",
     .kind = CONFIG_KIND_SHARE,
     AT(struct rollout_check_errors, share),
     .low = 0.001,
     .high = 1,
     .help = "this check's part of the rollback bound; by default what others leave is split equally"},
};
static const struct config_section errors_section = {
    .title = "checks.errors",
    .help = "Failed requests: 5xx, refused and reset connections, timeouts, broken responses.",
    WORDS(errors_words),
    .choices = off_or_on,
    .choice_offset = offsetof(struct rollout_check_errors, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = config_check_finish_errors,
};

static const struct config_word latency_words[] = {
    {.word = "margin",
     .kind = CONFIG_KIND_NUMBER,
     AT(struct rollout_check_latency, margin),
     .low = 1.01,
     .high = 100,
     .fallback = "1.25",
     .help = "promoted when it is shown to be less than this many times slower; a smaller one needs more "
             "requests"},
    {.word = "baseline",
     .kind = CONFIG_KIND_COUNT,
     AT(struct rollout_check_latency, baseline_requests),
     .min = 100,
     .max = 100000000,
     .fallback = "10000",
     .help = "requests of the stable version measured before the new one gets any"},
    {.word = "slack",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_check_latency, slack_ms),
     .min = 0,
     .max = ROLLOUT_DEADLINE_MS_MAX,
     .fallback = "1ms",
     .help = "the new version counts as slow only this long past the old one's quantile; differences below "
             "it are not held against it"},
    {.word = "share",
     .kind = CONFIG_KIND_SHARE,
     AT(struct rollout_check_latency, share),
     .low = 0.001,
     .high = 1,
     .help = "this check's part of the rollback bound; by default what others leave is split equally"},
};
static const struct config_section latency_section = {
    .title = "checks.latency",
    .help = "Time to answer, compared at the baseline's p50, p90, p99 and p99.9.",
    WORDS(latency_words),
    .choices = off_or_on,
    .choice_offset = offsetof(struct rollout_check_latency, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = config_check_finish_latency,
};

static const struct config_word throughput_words[] = {
    {.word = "margin",
     .kind = CONFIG_KIND_NUMBER,
     AT(struct rollout_check_throughput, margin),
     .low = 1.001,
     .high = 100,
     .fallback = "1.1",
     .help = "promoted when good responses are shown to be no rarer than one part in this"},
    {.word = "share",
     .kind = CONFIG_KIND_SHARE,
     AT(struct rollout_check_throughput, share),
     .low = 0.001,
     .high = 1,
     .help = "this check's part of the rollback bound; by default what others leave is split equally"},
};
static const struct config_section throughput_section = {
    .title = "checks.throughput",
    .help = "Good responses within the deadline, per request routed.",
    WORDS(throughput_words),
    .choices = off_or_on,
    .choice_offset = offsetof(struct rollout_check_throughput, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = config_check_finish_throughput,
};

static const struct config_word checks_words[] = {
    {.word = "errors",
     .kind = CONFIG_KIND_SECTION,
     AT(struct rollout_spec, errors),
     .section = &errors_section,
     .fallback = "on",
     .help = "failed requests"},
    {.word = "latency",
     .kind = CONFIG_KIND_SECTION,
     AT(struct rollout_spec, latency),
     .section = &latency_section,
     .fallback = "on",
     .help = "slow requests"},
    {.word = "throughput",
     .kind = CONFIG_KIND_SECTION,
     AT(struct rollout_spec, throughput),
     .section = &throughput_section,
     .fallback = "off",
     .help = "good responses"},
};
static const struct config_section checks_section = {
    .title = "checks",
    .help = "What the new version is compared in. A check that is not named keeps its default.",
    WORDS(checks_words),
    .prepared = true,
};

static const struct config_choice undecided_choices[] = {
    {"hold", ROLLOUT_UNDECIDED_HOLD},
    {"rollback", ROLLOUT_UNDECIDED_ROLLBACK},
    {"proceed", ROLLOUT_UNDECIDED_PROCEED},
    {NULL, 0},
};
static const struct config_choice evidence_choices[] = {{"stage", 0}, {"cumulative", 1}, {NULL, 0}};
static const struct config_choice start_choices[] = {{"manual", 0}, {"auto", 1}, {NULL, 0}};

static const struct config_word kill_words[] = {
    {.word = "errors",
     .kind = CONFIG_KIND_SHARE,
     AT(struct config_kill, errors),
     .low = 0.00001,
     .high = 1,
     .required = true,
     .help = "share of failed requests above which it acts"},
    {.word = "requests",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config_kill, requests),
     .min = 1,
     .max = 1000000000,
     .fallback = "20",
     .help = "not before so many requests of the new version or variant within the time"},
    {.word = "within",
     .kind = CONFIG_KIND_DURATION,
     AT(struct config_kill, within_ms),
     .min = 1000,
     .max = MINUTES(1),
     .fallback = "10s",
     .help = "the time that is looked back"},
};
static const struct config_section kill_section = {
    .title = "kill switch",
    .help = "An absolute bound beside the comparison. `kill: 20%` is short for `kill: {errors: 20%}`.",
    WORDS(kill_words),
    .shorthand = "errors",
};

static const struct config_word rollout_words[] = {
    {.word = "service",
     .kind = CONFIG_KIND_NAME,
     AT(struct rollout_spec, service),
     .required = true,
     .unless = "flag",
     .help = "the service whose version changes; of a flag's rollout, the service whose requests are the "
             "evidence (without it, evidence is what is sent to `/v1/events`)"},
    {.word = "flag",
     .kind = CONFIG_KIND_TEXT,
     AT(struct rollout_spec, flag),
     .help = "instead of a version: the flag whose variant changes"},
    {.word = "from",
     .kind = CONFIG_KIND_NAME,
     AT(struct rollout_spec, from),
     .help = "only with `flag`: the variant that is given today"},
    {.word = "to",
     .kind = CONFIG_KIND_NAME,
     AT(struct rollout_spec, to),
     .required = true,
     .help = "the version that is to become stable, or the variant that is to replace `from`"},
    {.word = "stages",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct rollout_spec, stages, stage_count),
     .in_place = true,
     .min = 1,
     .max = ROLLOUT_STAGES_MAX,
     .section = &stage_section,
     .fallback = "weights 1, 5, 10, 25, 50 and 100%",
     .help = "the steps, in order"},
    {.word = "checks",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct rollout_spec),
     .section = &checks_section,
     .fallback = "errors and latency",
     .help = "what the new version is compared in"},
    {.word = "alpha",
     .kind = CONFIG_KIND_NUMBER,
     AT(struct rollout_spec, alpha),
     .low = 0.000001,
     .high = 0.2,
     .fallback = "0.01",
     .help = "bound on rolling back a version that is no worse, over the whole rollout"},
    {.word = "beta",
     .kind = CONFIG_KIND_NUMBER,
     AT(struct rollout_spec, beta),
     .low = 0.000001,
     .high = 0.5,
     .fallback = "0.05",
     .help = "bound on promoting a version that is worse than the margin, per stage"},
    {.word = "undecided",
     .kind = CONFIG_KIND_CHOICE,
     AT(struct rollout_spec, undecided),
     .choices = undecided_choices,
     .fallback = "hold",
     .help = "what happens at a stage's horizon without a verdict"},
    {.word = "evidence",
     .kind = CONFIG_KIND_CHOICE,
     AT(struct rollout_spec, evidence_cumulative),
     .choices = evidence_choices,
     .fallback = "stage",
     .help = "whether proof of being good starts afresh in each stage"},
    {.word = "start",
     .kind = CONFIG_KIND_CHOICE,
     AT(struct rollout_spec, start_auto),
     .choices = start_choices,
     .fallback = "manual",
     .help = "manual waits for `sluice rollout start`; auto begins when the daemon does"},
    {.word = "warmup",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_spec, warmup_ms),
     .max = DAY,
     .fallback = "30s",
     .help = "the new version's first time, whose latency and throughput are not counted"},
    {.word = "deadline",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_spec, deadline_ms),
     .min = 100,
     .max = ROLLOUT_DEADLINE_MS_MAX,
     .fallback = "30s",
     .help = "a request still without an answer after it counts as timed out"},
    {.word = "drain",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_spec, drain_ms),
     .max = DAY,
     .fallback = "30s",
     .help = "how long a rollback waits for requests in flight"},
    {.word = "keep",
     .kind = CONFIG_KIND_DURATION,
     AT(struct rollout_spec, keep_ms),
     .max = 30 * DAY,
     .fallback = "1h",
     .help = "how long after completion `undo` stays instant"},
    {.word = "kill",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config_rollout, kill),
     .section = &kill_section,
     .optional = true,
     .help = "takes it back at once by its own failures, in rings too, where nothing is compared"},
    {.word = "triggers", .kind = CONFIG_KIND_LATER, .help = "triggers are"},
    {.word = "holdback", .kind = CONFIG_KIND_LATER, .help = "a holdback is"},
};
static const struct config_section rollout_section = {
    .title = "rollout",
    .help = "Ships one version of one service, or one variant of one flag, by evidence.",
    WORDS(rollout_words),
    .prepared = true,
    .prepare = config_rollout_prepare,
    .finish = config_rollout_finish,
};

// ---- services ----

static const struct config_word endpoint_item = {
    .word = "endpoints", .kind = CONFIG_KIND_ENDPOINT, .size = sizeof(struct config_address)};

static const struct config_word version_words[] = {
    {.word = "endpoints",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct config_version, endpoints, endpoint_count),
     .min = 1,
     .max = CONFIG_ENDPOINTS_MAX,
     .item = &endpoint_item,
     .required = true,
     .help = "where this version answers: 10.0.0.1:9001, name:9001, [::1]:9001 or unix:/run/app.sock"},
};
static const struct config_section version_section = {
    .title = "version",
    .help =
        "One version of a service. `v1: [10.0.0.1:9001]` is short for `v1: {endpoints: [10.0.0.1:9001]}`.",
    WORDS(version_words),
    .shorthand = "endpoints",
    .finish = config_version_finish,
};

static const struct config_word engine_words[] = {
    {.word = "endpoints",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct config_service, engine_endpoints, engine_endpoint_count),
     .min = 1,
     .max = CONFIG_ENDPOINTS_MAX,
     .item = &endpoint_item,
     .required = true,
     .help = "where they answer"},
};
static const struct config_section engine_section = {
    .title = "control",
    .help = "A control arm: freshly started endpoints of the stable version, which get the new version's "
            "share of "
            "traffic and are what it is compared with.",
    WORDS(engine_words),
    .shorthand = "endpoints",
};

static const struct config_word route_words[] = {
    {.word = "host",
     .kind = CONFIG_KIND_HOST,
     AT(struct config_route, host),
     .help = "a host without port; `*.shop.example` is every name below it; without it any host"},
    {.word = "path",
     .kind = CONFIG_KIND_PATH,
     AT(struct config_route, path),
     .fallback = "/",
     .help = "a prefix on a segment boundary: /a holds /a and /a/b, not /ab"},
};
static const struct config_section route_section = {
    .title = "route",
    .help = "Requests that belong to the service. The longest path of the most exact host wins.",
    WORDS(route_words),
};

static const struct config_choice unit_choices[] = {
    {"request", CONFIG_UNIT_REQUEST}, {"address", CONFIG_UNIT_ADDRESS}, {NULL, 0}};
static const struct config_word unit_words[] = {
    {.word = "cookie",
     .kind = CONFIG_KIND_TOKEN,
     AT(struct config_unit, name),
     .help = "the value of this cookie"},
    {.word = "header",
     .kind = CONFIG_KIND_TOKEN,
     AT(struct config_unit, name),
     .help = "the value of this header"},
};
static const struct config_section unit_section = {
    .title = "unit",
    .help = "What stays on one version: a cookie or a header by its name, the client's `address`, or nothing "
            "but the "
            "single `request`.",
    WORDS(unit_words),
    .choices = unit_choices,
    .choice_offset = offsetof(struct config_unit, kind),
    .choice_size = sizeof(enum config_unit_kind),
    .finish = config_unit_finish,
};

#define TIMEOUT(name, member, least, most, default_text, text)                                               \
    {                                                                                                        \
        .word = (name), .kind = CONFIG_KIND_DURATION, AT(struct config_timeouts, member), .min = (least),    \
        .max = (most), .fallback = (default_text), .help = (text)                                            \
    }
#define SERVICE_TIMEOUTS                                                                                     \
    TIMEOUT("connect", connect_ms, 1, MINUTES(10), "2s", "to connect to an endpoint"),                       \
        TIMEOUT("first_byte", first_byte_ms, 1, DAY, "15s",                                                  \
                "from the request sent on to the first byte of the answer"),                                 \
        TIMEOUT("idle", idle_ms, 1, DAY, "30s", "without a byte in either direction while a request runs"),  \
        {.word = "total",                                                                                    \
         .kind = CONFIG_KIND_DURATION,                                                                       \
         AT(struct config_timeouts, total_ms),                                                               \
         .min = 1,                                                                                           \
         .max = DAY,                                                                                         \
         .zero = "off",                                                                                      \
         .fallback = "off",                                                                                  \
         .help = "one request altogether"},                                                                  \
        TIMEOUT("tunnel", tunnel_ms, 1000, 30 * DAY, "1h",                                                   \
                "an upgraded connection (WebSocket) without a byte either way"),                             \
        TIMEOUT("pool_idle", pool_idle_ms, 1, DAY, "30s",                                                    \
                "an unused connection to an endpoint is closed after it; keep it below the endpoint's own")

static const struct config_word service_timeout_words[] = {SERVICE_TIMEOUTS};
static const struct config_section service_timeouts_section = {
    .title = "timeouts",
    .help = "Overrides the file's own timeouts for one service. What is not named is as there.",
    WORDS(service_timeout_words),
    .prepared = true,
};

static const struct config_choice attribute_choices[] = {{"address", CONFIG_ATTRIBUTE_ADDRESS},
                                                         {"method", CONFIG_ATTRIBUTE_METHOD},
                                                         {"host", CONFIG_ATTRIBUTE_HOST},
                                                         {"path", CONFIG_ATTRIBUTE_PATH},
                                                         {NULL, 0}};
static const struct config_word attribute_words[] = {
    {.word = "header",
     .kind = CONFIG_KIND_TOKEN,
     AT(struct config_attribute, source),
     .help = "the value of this header"},
    {.word = "cookie",
     .kind = CONFIG_KIND_TOKEN,
     AT(struct config_attribute, source),
     .help = "the value of this cookie"},
};
static const struct config_section attribute_section = {
    .title = "attribute",
    .help = "Where in a request a value stands: a header or a cookie by its name, or the client's `address`, "
            "the `method`, the `host` or the `path`.",
    WORDS(attribute_words),
    .choices = attribute_choices,
    .choice_offset = offsetof(struct config_attribute, kind),
    .choice_size = sizeof(enum config_attribute_kind),
    .finish = config_attribute_finish,
};

static const struct config_word header_flag_item = {
    .word = "flags", .kind = CONFIG_KIND_TEXT, .size = CONFIG_FLAG_BYTES};
static const struct config_word flag_header_words[] = {
    {.word = "flags",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct config_flag_header, flags, flag_count),
     .min = 1,
     .max = CONFIG_HEADER_FLAGS_MAX,
     .item = &header_flag_item,
     .required = true,
     .help = "keys of flags"},
};
static const struct config_section flag_header_section = {
    .title = "flag header",
    .help =
        "A header that the service gets, with the variants of some flags: `X-Flags: [banner, theme]` gives "
        "it `X-Flags: banner=on, theme=dark`. What clients send under that name is removed.",
    WORDS(flag_header_words),
    .shorthand = "flags",
};

static const struct config_word service_flags_words[] = {
    {.word = "key",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config_service_flags, key),
     .section = &attribute_section,
     .optional = true,
     .fallback = "the service's unit",
     .help = "the targeting key: who asks"},
    {.word = "context",
     .kind = CONFIG_KIND_MAP,
     ITEMS(struct config_service_flags, context, context_count),
     .max = CONFIG_ATTRIBUTES_MAX,
     .section = &attribute_section,
     .fallback = "none",
     .help = "further members of the evaluation context, by name"},
    {.word = "headers",
     .kind = CONFIG_KIND_MAP,
     ITEMS(struct config_service_flags, headers, header_count),
     .max = CONFIG_FLAG_HEADERS_MAX,
     .section = &flag_header_section,
     .fallback = "none",
     .help = "headers for the service, by name"},
    {.word = "version",
     .kind = CONFIG_KIND_TEXT,
     AT(struct config_service_flags, version),
     .help = "a flag whose variants are names of versions: it chooses the version of each request; where it "
             "names none, the request goes the usual way"},
};
static const struct config_section service_flags_section = {
    .title = "flags of a service",
    .help = "Flags in the path of this service's requests.",
    WORDS(service_flags_words),
    .finish = config_service_flags_finish,
};

static const struct config_word service_words[] = {
    {.word = "routes",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct config_service, routes, route_count),
     .min = 1,
     .max = CONFIG_ROUTES_MAX,
     .section = &route_section,
     .fallback = "every host and path",
     .help = "which requests belong to the service"},
    {.word = "versions",
     .kind = CONFIG_KIND_MAP,
     ITEMS(struct config_service, versions, version_count),
     .min = 1,
     .max = CONFIG_VERSIONS_MAX,
     .section = &version_section,
     .required = true,
     .help = "names of versions, each with its endpoints"},
    {.word = "stable",
     .kind = CONFIG_KIND_NAME,
     AT(struct config_service, stable),
     .help = "the version that gets all traffic outside of rollouts; may be left out when there is only one"},
    {.word = "unit",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config_service, unit),
     .section = &unit_section,
     .fallback = "request",
     .help = "what stays on one version"},
    {.word = "control",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct config_service),
     .optional = true,
     .section = &engine_section,
     .help = "a control arm"},
    {.word = "timeouts",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config_service, timeouts),
     .section = &service_timeouts_section,
     .fallback = "as in the file's own",
     .help = "timeouts of this service alone"},
    {.word = "flags",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config_service, flags),
     .section = &service_flags_section,
     .optional = true,
     .help = "headers and versions by flags"},
    {.word = "health", .kind = CONFIG_KIND_LATER, .help = "active health checks are"},
};
static const struct config_section service_section = {
    .title = "service",
    .help = "Something that answers requests in one or more versions.",
    WORDS(service_words),
    .prepare = config_service_prepare,
    .finish = config_service_finish,
};

// ---- the daemon ----

static const struct config_word address_words[] = {
    {.word = "address",
     .kind = CONFIG_KIND_LISTEN,
     .offset = 0,
     .size = sizeof(struct config_address),
     .required = true,
     .help = "0.0.0.0:8080, [::]:8080 or unix:/run/sluice.sock"},
    {.word = "tls", .kind = CONFIG_KIND_LATER, .help = "TLS listeners are"},
};
static const struct config_section listen_section = {
    .title = "listener",
    .help =
        "Where clients connect. `listen: [0.0.0.0:8080]` is short for `listen: [{address: 0.0.0.0:8080}]`.",
    WORDS(address_words),
    .shorthand = "address",
};

static const struct config_word admin_words[] = {
    {.word = "address",
     .kind = CONFIG_KIND_LISTEN,
     .offset = 0,
     .size = sizeof(struct config_address),
     .fallback = "127.0.0.1:9440",
     .help = "a loopback address or unix:/path; others are refused until tokens can guard them"},
    {.word = "tokens", .kind = CONFIG_KIND_LATER, .help = "tokens are"},
    {.word = "tls", .kind = CONFIG_KIND_LATER, .help = "TLS for the admin address is"},
};
static const struct config_section admin_section = {
    .title = "admin",
    .help = "Where commands, API, metrics and the page answer.",
    WORDS(admin_words),
    .shorthand = "address",
    .finish = config_admin_finish,
};

static const struct config_word network_item = {
    .word = "networks", .kind = CONFIG_KIND_NETWORK, .size = sizeof(struct config_network)};
static const struct config_word trust_words[] = {
    {.word = "networks",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct config_trust, networks, network_count),
     .max = CONFIG_NETWORKS_MAX,
     .item = &network_item,
     .fallback = "none",
     .help = "peers that may choose a version by the header X-Sluice-Version"},
    {.word = "forwarded_hops",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config_trust, forwarded_hops),
     .max = 16,
     .fallback = "0",
     .help = "proxies of your own before this one, whose entries in X-Forwarded-For are believed"},
};
static const struct config_section trust_section = {
    .title = "trust", .help = "Whom to believe. By default nobody.", WORDS(trust_words)};

static const struct config_word limit_words[] = {
    {.word = "request_body",
     .kind = CONFIG_KIND_SIZE,
     AT(struct config_limits, request_body_bytes),
     .min = 1,
     .max = 1024 * TIB,
     .zero = "unlimited",
     .fallback = "unlimited",
     .help = "larger request bodies are answered 413; bodies are streamed, so this is about your service"},
    {.word = "connections",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config_limits, connections),
     .min = 1,
     .max = 4000000,
     .fallback = "16384",
     .help = "client connections at once, all workers together; beyond it 503"},
    {.word = "endpoint_connections",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config_limits, endpoint_connections),
     .min = 1,
     .max = 65535,
     .fallback = "1024",
     .help = "connections to one endpoint, per worker"},
};
static const struct config_section limits_section = {
    .title = "limits", .help = "What is held at most.", WORDS(limit_words)};

static const struct config_word timeout_words[] = {
    TIMEOUT("client_head", client_head_ms, 1, MINUTES(60), "10s",
            "for a client to send a whole request head"),
    TIMEOUT("client_idle", client_idle_ms, 1, DAY, "60s",
            "a client's kept-alive connection without a request"),
    SERVICE_TIMEOUTS,
    TIMEOUT("drain", drain_ms, 0, DAY, "30s",
            "for connections in flight when an endpoint or the process leaves"),
};
static const struct config_section timeouts_section = {
    .title = "timeouts", .help = "How long things may take.", WORDS(timeout_words)};

static const struct config_choice level_choices[] = {{"error", CONFIG_LOG_ERROR},
                                                     {"warn", CONFIG_LOG_WARN},
                                                     {"info", CONFIG_LOG_INFO},
                                                     {"debug", CONFIG_LOG_DEBUG},
                                                     {NULL, 0}};
static const struct config_choice format_choices[] = {
    {"text", CONFIG_LOG_TEXT}, {"json", CONFIG_LOG_JSON}, {NULL, 0}};
static const struct config_choice requests_choices[] = {
    {"none", CONFIG_LOG_REQUESTS_NONE}, {"errors", CONFIG_LOG_REQUESTS_ERRORS}, {NULL, 0}};
static const struct config_word log_words[] = {
    {.word = "level",
     .kind = CONFIG_KIND_CHOICE,
     AT(struct config_log, level),
     .choices = level_choices,
     .fallback = "info",
     .help = "the least important thing that is told"},
    {.word = "format",
     .kind = CONFIG_KIND_CHOICE,
     AT(struct config_log, format),
     .choices = format_choices,
     .fallback = "text",
     .help = "lines for people or JSON for machines"},
    {.word = "requests",
     .kind = CONFIG_KIND_CHOICE,
     AT(struct config_log, requests),
     .choices = requests_choices,
     .fallback = "errors",
     .help = "which requests get a line"},
};
static const struct config_section log_section = {
    .title = "log", .help = "What is written to standard error.", WORDS(log_words)};

// ---- flags ----

static const struct config_word flag_source_words[] = {
    {.word = "file",
     .kind = CONFIG_KIND_FILE,
     AT(struct config_flag_source, place),
     .help = "a file in flagd's format; read again when it changes"},
    {.word = "directory",
     .kind = CONFIG_KIND_FILE,
     AT(struct config_flag_source, place),
     .help = "every *.json in it, in name order"},
    {.word = "url",
     .kind = CONFIG_KIND_URL,
     AT(struct config_flag_source, place),
     .help = "fetched again every `every`, with its entity tag"},
    {.word = "every",
     .kind = CONFIG_KIND_DURATION,
     AT(struct config_flag_source, every_ms),
     .min = 100,
     .max = DAY,
     .fallback = "30s",
     .help = "only with `url`: between two fetches"},
    {.word = "token",
     .kind = CONFIG_KIND_FILE,
     AT(struct config_flag_source, token_file),
     .help = "only with `url`: a file whose first line is sent as bearer token"},
};
static const struct config_section flag_source_section = {
    .title = "flag source",
    .help = "Where flags come from. `sources: [flags.json]` is short for `sources: [{file: flags.json}]`.",
    WORDS(flag_source_words),
    .shorthand = "file",
    .finish = config_flag_source_finish,
};

static const struct config_word flags_words[] = {
    {.word = "listen",
     .kind = CONFIG_KIND_LISTEN,
     AT(struct config_flags, listen),
     .help = "where SDKs ask: OFREP and flagd's evaluation service; without it flags are used here only"},
    {.word = "sources",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct config_flags, sources, source_count),
     .max = CONFIG_FLAG_SOURCES_MAX,
     .section = &flag_source_section,
     .fallback = "none",
     .help =
         "where flags come from; of two flags with one key the later source's counts, and what is changed "
         "at runtime counts over all"},
    {.word = "define",
     .kind = CONFIG_KIND_TREE,
     AT(struct config_flags, define),
     .help = "flags in flagd's format, here; the first of the sources"},
    {.word = "threads",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config_flags, threads),
     .min = 1,
     .max = 16,
     .fallback = "1",
     .help = "threads that answer SDKs"},
    {.word = "tokens",
     .kind = CONFIG_KIND_FILE,
     AT(struct config_flags, tokens),
     .help = "file of tokens (`sluice flag token` makes lines for it); needed when `listen` is no loopback "
             "address"},
    {.word = "rate",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config_flags, rate),
     .min = 1,
     .max = 10000000,
     .zero = "unlimited",
     .fallback = "unlimited",
     .help = "requests per second of one token or client address; beyond it 429"},
    {.word = "burst",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config_flags, burst),
     .min = 1,
     .max = 10000000,
     .help = "requests at once before `rate` counts; as many as `rate` by default"},
    {.word = "cors",
     .kind = CONFIG_KIND_TEXT,
     AT(struct config_flags, cors),
     .help = "origin whose pages may ask, such as https://shop.example, or \"*\""},
    {.word = "share",
     .kind = CONFIG_KIND_FILE,
     AT(struct config_flags, share),
     .help = "directory in which the set is shared with processes that use libsluice-flags"},
    {.word = "exposures",
     .kind = CONFIG_KIND_FILE,
     AT(struct config_flags, exposures),
     .help = "file to which each first sight of a variant by a key is appended, one JSON object a line"},
};
static const struct config_section flags_section = {
    .title = "flags",
    .help = "Runtime feature flags: where they come from, and who may ask for them.",
    WORDS(flags_words),
    .finish = config_flags_finish,
};

static const struct config_choice io_choices[] = {
    {"auto", IO_KIND_AUTO}, {"epoll", IO_KIND_EPOLL}, {"uring", IO_KIND_URING}, {NULL, 0}};

static const struct config_word root_words[] = {
    {.word = "workers",
     .kind = CONFIG_KIND_COUNT,
     AT(struct config, workers),
     .min = 1,
     .max = CONFIG_WORKERS_MAX,
     .zero = "auto",
     .fallback = "auto",
     .help = "threads that forward requests; auto is one per core"},
    {.word = "io",
     .kind = CONFIG_KIND_CHOICE,
     AT(struct config, io),
     .choices = io_choices,
     .fallback = "auto",
     .help = "how the kernel is asked; auto takes io_uring where it is allowed"},
    {.word = "journal",
     .kind = CONFIG_KIND_FILE,
     AT(struct config, journal),
     .fallback = "sluice.db",
     .help = "the file that keeps every input and decision"},
    {.word = "listen",
     .kind = CONFIG_KIND_LIST,
     ITEMS(struct config, listen, listen_count),
     .min = 1,
     .max = CONFIG_LISTEN_MAX,
     .section = &listen_section,
     .required = true,
     .unless = "flags",
     .help = "where clients connect"},
    {.word = "admin",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config, admin),
     .section = &admin_section,
     .help = "where operators connect"},
    {.word = "trust",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config, trust),
     .section = &trust_section,
     .help = "whom to believe"},
    {.word = "limits",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config, limits),
     .section = &limits_section,
     .help = "what is held at most"},
    {.word = "timeouts",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config, timeouts),
     .section = &timeouts_section,
     .help = "how long things may take"},
    {.word = "log",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config, log),
     .section = &log_section,
     .help = "what is written to standard error"},
    {.word = "services",
     .kind = CONFIG_KIND_MAP,
     ITEMS(struct config, services, service_count),
     .min = 1,
     .max = CONFIG_SERVICES_MAX,
     .section = &service_section,
     .required = true,
     .unless = "flags",
     .help = "what answers requests, in which versions"},
    {.word = "rollouts",
     .kind = CONFIG_KIND_MAP,
     ITEMS(struct config, rollouts, rollout_count),
     .max = CONFIG_ROLLOUTS_MAX,
     .section = &rollout_section,
     .fallback = "none",
     .help = "which versions are to be shipped, and how"},
    {.word = "segments",
     .kind = CONFIG_KIND_TREE,
     AT(struct config, segments),
     .help = "groups of users: names, each with a rule in JSON Logic; for `{$ref: name}` in flags and for "
             "rings of rollouts"},
    {.word = "flags",
     .kind = CONFIG_KIND_SECTION,
     AT(struct config, flags),
     .section = &flags_section,
     .optional = true,
     .help = "runtime feature flags"},
    {.word = "programmes", .kind = CONFIG_KIND_LATER, .help = "programmes are"},
};
const struct config_section config_root_section = {
    .title = "file",
    .help = "The whole of one YAML file, or of all the *.yaml files of one directory together.",
    WORDS(root_words),
};
