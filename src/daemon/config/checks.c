// SPDX-License-Identifier: Apache-2.0
// What a rollout compares: errors, latency, throughput, and how they share the bound on rolling back.
#include "base/check.h"
#include "daemon/config/config_private.h"

static const double SHARE_TOLERANCE = 1e-9;

static const struct config_choice off_or_on[] = {{"off", 0}, {"on", 1}, {NULL, 0}};

static bool is_mapping_or_null(const struct config_node *node)
{
    return node != NULL && (node->kind == CONFIG_NODE_MAP || config_node_is_null(node));
}

static void check_finish_errors(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct rollout_check_errors *errors = target;
    if (is_mapping_or_null(node))
        errors->on = true;
    if (config_given(node, "margin") && errors->margin > 0 && errors->margin <= errors->worse)
        config_error_at(
            reader, config_node_get(node, "margin"),
            "'margin' must be above 'worse' (%g), or a version could be promoted and rolled back at once",
            errors->worse);
}

static const struct config_word errors_words[] = {
    {.word = "worse",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_check_errors, worse),
     .low = 1,
     .high = 100,
     .fallback = "1",
     .help = "rolled back when the error rate is shown to be more than this many times the baseline's"},
    {.word = "margin",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_check_errors, margin),
     .low = 1.01,
     .high = 100,
     .zero = "auto",
     .fallback = "auto",
     .help = "promoted when the error rate is shown to be below this many times the baseline's; auto is "
             "1.25, or 1.5 "
             "when the baseline fails less than 0.5 % of requests"},
    {.word = "negligible",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_errors, negligible),
     .low = 0.00001,
     .high = 0.5,
     .zero = "off",
     .fallback = "0.1%",
     .help = "promoted too when the new version's own error rate is shown to be below this"},
    {.word = "window",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_check_errors, window_ms),
     .max = 30 * CONFIG_DAY,
     .zero = "rollout",
     .fallback = "rollout",
     .help = "a user's second error within it does not count again; `rollout` is the whole rollout"},
    {.word = "share",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_errors, share),
     .low = 0.001,
     .high = 1,
     .help = "this check's part of the rollback bound; by default what others leave is split equally"},
};
static const struct config_section errors_section = {
    .title = "checks.errors",
    .help = "Failed requests: 5xx, refused and reset connections, timeouts, broken responses.",
    CONFIG_WORDS(errors_words),
    .choices = off_or_on,
    .choice_offset = offsetof(struct rollout_check_errors, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = check_finish_errors,
};

static void check_finish_latency(struct config_reader *reader, const struct config_node *node, void *target)
{
    (void)reader;
    if (is_mapping_or_null(node))
        ((struct rollout_check_latency *)target)->on = true;
}

static const struct config_word latency_words[] = {
    {.word = "margin",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_check_latency, margin),
     .low = 1.01,
     .high = 100,
     .fallback = "1.25",
     .help = "promoted when it is shown to be less than this many times slower; a smaller one needs more "
             "requests"},
    {.word = "baseline",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct rollout_check_latency, baseline_requests),
     .min = 100,
     .max = 100000000,
     .fallback = "10000",
     .help = "requests of the stable version measured before the new one gets any"},
    {.word = "slack",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_check_latency, slack_ms),
     .min = 0,
     .max = ROLLOUT_DEADLINE_MS_MAX,
     .fallback = "1ms",
     .help = "the new version counts as slow only this long past the old one's quantile; differences below "
             "it are not held against it"},
    {.word = "share",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_latency, share),
     .low = 0.001,
     .high = 1,
     .help = "this check's part of the rollback bound; by default what others leave is split equally"},
};
static const struct config_section latency_section = {
    .title = "checks.latency",
    .help = "Time to answer, compared at the baseline's p50, p90, p99 and p99.9.",
    CONFIG_WORDS(latency_words),
    .choices = off_or_on,
    .choice_offset = offsetof(struct rollout_check_latency, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = check_finish_latency,
};

static void check_finish_throughput(struct config_reader *reader, const struct config_node *node,
                                    void *target)
{
    (void)reader;
    if (is_mapping_or_null(node))
        ((struct rollout_check_throughput *)target)->on = true;
}

static const struct config_word throughput_words[] = {
    {.word = "margin",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_check_throughput, margin),
     .low = 1.001,
     .high = 100,
     .fallback = "1.1",
     .help = "promoted when good responses are shown to be no rarer than one part in this"},
    {.word = "share",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_throughput, share),
     .low = 0.001,
     .high = 1,
     .help = "this check's part of the rollback bound; by default what others leave is split equally"},
};
static const struct config_section throughput_section = {
    .title = "checks.throughput",
    .help = "Good responses within the deadline, per request routed.",
    CONFIG_WORDS(throughput_words),
    .choices = off_or_on,
    .choice_offset = offsetof(struct rollout_check_throughput, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = check_finish_throughput,
};

static const struct config_word checks_words[] = {
    {.word = "errors",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct rollout_spec, errors),
     .section = &errors_section,
     .fallback = "on",
     .help = "failed requests"},
    {.word = "latency",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct rollout_spec, latency),
     .section = &latency_section,
     .fallback = "on",
     .help = "slow requests"},
    {.word = "throughput",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct rollout_spec, throughput),
     .section = &throughput_section,
     .fallback = "off",
     .help = "good responses"},
};
const struct config_section config_checks_section = {
    .title = "checks",
    .help = "What the new version is compared in. A check that is not named keeps its default.",
    CONFIG_WORDS(checks_words),
    .prepared = true,
};

struct share_owner {
    const char *word;
    bool on;
    bool given;
    double *share;
};

// Shares that are given stand; the checks that are on split what is left equally. The sum is one.
static void shares_settle(struct config_reader *reader, const struct config_node *checks,
                          struct share_owner *owners, size_t count)
{
    double given = 0;
    unsigned open = 0, on = 0;
    for (size_t i = 0; i < count; i++) {
        owners[i].given = config_given(config_node_get(checks, owners[i].word), "share");
        on += owners[i].on;
        open += owners[i].on && !owners[i].given;
        given += owners[i].on && owners[i].given ? *owners[i].share : 0;
    }
    if (on == 0)
        return;
    bool too_much = open > 0 ? given > 1 - SHARE_TOLERANCE : given > 1 + SHARE_TOLERANCE;
    bool too_little = open == 0 && given < 1 - SHARE_TOLERANCE;
    if (too_much || too_little) {
        config_error_at(reader, checks, "the shares of the checks make %g%%; they must make 100%%%s",
                        given * 100, open > 0 ? ", with something left for the checks that give none" : "");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!owners[i].on)
            *owners[i].share = 0;
        else if (!owners[i].given)
            *owners[i].share = (1 - given) / open;
    }
}

void config_checks_settle(struct config_reader *reader, const struct config_node *node,
                          struct rollout_spec *spec)
{
    struct share_owner owners[] = {
        {.word = "errors", .on = spec->errors.on, .share = &spec->errors.share},
        {.word = "latency", .on = spec->latency.on, .share = &spec->latency.share},
        {.word = "throughput", .on = spec->throughput.on, .share = &spec->throughput.share},
    };
    shares_settle(reader, config_node_get(node, "checks"), owners, ARRAY_LEN(owners));
    if (!spec->errors.on && !spec->latency.on && !spec->throughput.on)
        config_error_at(reader, config_place(node, "checks"),
                        "every check is off: nothing would tell a bad version from a good one");
}
