// SPDX-License-Identifier: Apache-2.0
// What protects the endpoints of one service's versions: active checks, ejection, breakers.
#include "base/check.h"
#include "daemon/config/config_private.h"

static bool is_given(const struct config_node *node)
{
    return node != NULL && !config_node_is_null(node);
}

// ---- active checks ----

static void health_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_health *health = target;
    health->given = is_given(node);
    bool http = health->path[0] != '\0';
    if (!http && config_given(node, "http"))
        return; // a path that is none has been told
    if (health->given && http == health->tcp)
        config_error_at(reader, node,
                        "a health check is one thing: either 'http' with a path, or 'tcp: true'");
}

static const struct config_choice tcp_choices[] = {{"false", false}, {"true", true}, {NULL, 0}};
static const struct config_choice initially_choices[] = {{"healthy", false}, {"unhealthy", true}, {NULL, 0}};
static const struct config_word health_words[] = {
    {.word = "http",
     .kind = CONFIG_KIND_PATH,
     CONFIG_AT(struct config_health, path),
     .help = "the path that is asked for with GET, over a connection of its own"},
    {.word = "tcp",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_health, tcp),
     .choices = tcp_choices,
     .fallback = "false",
     .help = "a connection that opens is enough"},
    {.word = "host",
     .kind = CONFIG_KIND_HOST,
     CONFIG_AT(struct config_health, host),
     .help =
         "the Host field of the check; without it the endpoint's address, with `tls` the name of its certificate"},
    {.word = "status",
     .kind = CONFIG_KIND_STATUSES,
     CONFIG_AT(struct config_health, status),
     .fallback = "2xx",
     .help = "answers that pass: a class (`2xx`), one (`204`) or a range (`200-399`)"},
    {.word = "every",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_health, every_ms),
     .min = 100,
     .max = CONFIG_MINUTES(60),
     .fallback = "2s",
     .help = "the pause between two checks of an endpoint, up to a tenth shorter or longer"},
    {.word = "timeout",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_health, timeout_ms),
     .min = 10,
     .max = CONFIG_MINUTES(1),
     .fallback = "1s",
     .help = "from the connect to the answer's head"},
    {.word = "rise",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_health, rise),
     .min = 1,
     .max = 100,
     .fallback = "2",
     .help = "so many passed checks in a row bring an endpoint back"},
    {.word = "fall",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_health, fall),
     .min = 1,
     .max = 100,
     .fallback = "3",
     .help = "so many failed ones in a row take it out of use"},
    {.word = "initially",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_health, unhealthy_first),
     .choices = initially_choices,
     .fallback = "healthy",
     .help = "whether an endpoint that is new is used at once, or only after `rise` checks"},
};
const struct config_section config_health_section = {
    .title = "health check",
    .help = "Every endpoint of every version is asked by Sluice itself, off the path of requests. `health: "
            "/healthz` is short for `health: {http: /healthz}`.",
    CONFIG_WORDS(health_words),
    .shorthand = "http",
    .finish = health_finish,
};

// ---- ejection ----

static void outlier_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_outlier *outlier = target;
    outlier->given = is_given(node);
    if (outlier->given && outlier->longest_ms < outlier->ejection_ms)
        config_error_at(reader, config_place(node, "longest"), "'longest' is less than 'ejection'");
}

static const struct config_word outlier_words[] = {
    {.word = "consecutive",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_outlier, consecutive),
     .min = 1,
     .max = 1000,
     .fallback = "5",
     .help = "so many failed attempts in a row, over all workers: failed connects, resets, timeouts, and "
             "answers that the service calls errors"},
    {.word = "ejection",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_outlier, ejection_ms),
     .min = 1000,
     .max = CONFIG_MINUTES(60),
     .fallback = "30s",
     .help = "how long it is out of use; the second time in a row twice, the third three times as long"},
    {.word = "longest",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_outlier, longest_ms),
     .min = 1000,
     .max = CONFIG_DAY,
     .fallback = "5m",
     .help = "never longer than that"},
    {.word = "at_most",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct config_outlier, at_most),
     .max = ROLLOUT_WEIGHT_FULL,
     .fallback = "10%",
     .help = "of a version's endpoints are out when one is ejected, but one may go where there are two"},
};
const struct config_section config_outlier_section = {
    .title = "outlier",
    .help = "Endpoints are taken out of use by what their requests come to. `outlier: {}` takes all that "
            "stands here as it is; `outlier: 5` is short for `outlier: {consecutive: 5}`.",
    CONFIG_WORDS(outlier_words),
    .shorthand = "consecutive",
    .finish = outlier_finish,
};

// ---- the breaker ----

static void breaker_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    (void)reader;
    ((struct config_breaker *)target)->given = is_given(node);
}

static const struct config_word breaker_words[] = {
    {.word = "errors",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct config_breaker, errors),
     .min = 1,
     .max = ROLLOUT_WEIGHT_FULL,
     .fallback = "50%",
     .help = "with such a share of failed requests it opens"},
    {.word = "within",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_breaker, within_ms),
     .min = 1000,
     .max = CONFIG_MINUTES(10),
     .fallback = "10s",
     .help = "the time that is looked back, in ten parts"},
    {.word = "at_least",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_breaker, at_least),
     .min = 1,
     .max = 1000000,
     .fallback = "20",
     .help = "not before so many requests of the version within it"},
    {.word = "open",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_breaker, open_ms),
     .min = 100,
     .max = CONFIG_MINUTES(10),
     .fallback = "5s",
     .help = "how long every request is answered 503 at once, with Retry-After"},
    {.word = "probes",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_breaker, probes),
     .min = 1,
     .max = 100,
     .fallback = "3",
     .help =
         "then so many requests are let through; when all are answered well it closes, and the first that "
         "is not opens it again"},
    {.word = "requests",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_breaker, requests),
     .min = 1,
     .max = 1000000,
     .zero = "off",
     .fallback = "off",
     .help = "so many requests of a version may be under way at once, over all workers; others get the same "
             "503"},
};
const struct config_section config_breaker_section = {
    .title = "breaker",
    .help = "Each version has one. Its 503 is an error of the version. `breaker: 50%` is short for `breaker: "
            "{errors: 50%}`.",
    CONFIG_WORDS(breaker_words),
    .shorthand = "errors",
    .finish = breaker_finish,
};
