// SPDX-License-Identifier: Apache-2.0
// What a rollout compares: errors, latency, throughput, and how they share the bound on rolling back.
#include "base/check.h"
#include "daemon/config/config_private.h"

static const double SHARE_TOLERANCE = 1e-9;

const struct config_choice config_off_or_on[] = {{"off", 0}, {"on", 1}, {NULL, 0}};

static const struct config_choice prove_choices[] = {
    {"budget", ROLLOUT_PROVE_BUDGET}, {"ratio", ROLLOUT_PROVE_RATIO}, {NULL, 0}};

static bool is_mapping_or_null(const struct config_node *node)
{
    return node != NULL && (node->kind == CONFIG_NODE_MAP || config_node_is_null(node));
}

static void check_finish_errors(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct rollout_check_errors *errors = target;
    if (is_mapping_or_null(node))
        errors->on = true;
    // Words of the proof by ratio ask for it.
    if (!config_given(node, "prove") && (config_given(node, "margin") || config_given(node, "negligible")))
        errors->prove = ROLLOUT_PROVE_RATIO;
    if (config_given(node, "worse") && config_given(node, "margin") && errors->margin > 0 &&
        errors->margin <= errors->worse)
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
     .fallback = "1.1",
     .help = "rolled back when the error rate is shown to be more than this many times the baseline's, and "
             "`floor` above that"},
    {.word = "floor",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_errors, floor),
     .low = 0.000001,
     .high = 0.5,
     .zero = "none",
     .fallback = "0.02%",
     .help = "a difference of so many requests is no reason to go back, however sure it is"},
    {.word = "prove",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct rollout_check_errors, prove),
     .choices = prove_choices,
     .fallback = "budget",
     .help =
         "what promotes: `budget`, that moving on costs less than that; `ratio`, that the rate is below "
         "`margin` times the baseline's, at every stage alike. `margin` or `negligible` alone mean `ratio`"},
    {.word = "budget",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_errors, budget),
     .low = 0.000001,
     .high = 1,
     .fallback = "0.2%",
     .help =
         "share of all the service's requests that may fail more because of one step; at least half of what "
         "fails today"},
    {.word = "margin",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_check_errors, margin),
     .low = 1.01,
     .high = 100,
     .zero = "auto",
     .fallback = "auto",
     .help =
         "of `prove: ratio`: promoted when the error rate is shown to be below this many times the baseline's; auto is "
         "1.25, or 1.5 "
         "when the baseline fails less than 0.5 % of requests"},
    {.word = "negligible",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_errors, negligible),
     .low = 0.00001,
     .high = 0.5,
     .zero = "off",
     .fallback = "0.1%",
     .help =
         "of `prove: ratio`: promoted too when the new version's own error rate is shown to be below this"},
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
    .choices = config_off_or_on,
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
    {.word = "worse",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_check_latency, worse),
     .low = 1,
     .high = 100,
     .fallback = "1.25",
     .help =
         "rolled back when it is shown to be more than this many times as slow; a process with little load "
         "is a little slower than one with much, and nobody minds"},
    {.word = "budget",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_latency, budget),
     .low = 0.000001,
     .high = 1,
     .fallback = "1%",
     .help = "share of all the service's requests that may be slow more because of one step"},
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
    .choices = config_off_or_on,
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
    .choices = config_off_or_on,
    .choice_offset = offsetof(struct rollout_check_throughput, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = check_finish_throughput,
};

static void check_finish_statuses(struct config_reader *reader, const struct config_node *node, void *target)
{
    (void)reader;
    if (is_mapping_or_null(node))
        ((struct rollout_check_statuses *)target)->on = true;
}

static const struct config_word statuses_words[] = {
    {.word = "worse",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_check_statuses, worse),
     .low = 1,
     .high = 100,
     .fallback = "1.25",
     .help =
         "rolled back when 3xx or 4xx are shown to be more than this many times as frequent, and `floor` above "
         "that"},
    {.word = "floor",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_statuses, floor),
     .low = 0.000001,
     .high = 0.5,
     .zero = "none",
     .fallback = "0.2%",
     .help = "a difference of so many answers is no reason to go back"},
    {.word = "budget",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_statuses, budget),
     .low = 0.000001,
     .high = 1,
     .fallback = "1%",
     .help =
         "share of all the service's requests that may get such a status more because of one step; at least "
         "half of what gets one today"},
    {.word = "share",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_check_statuses, share),
     .low = 0.001,
     .high = 0.9,
     .fallback = "10%",
     .help = "this check's part of the rollback bound, taken before the others divide the rest"},
};
static const struct config_section statuses_section = {
    .title = "checks.statuses",
    .help =
        "Answers 300 to 399 and 400 to 499, each class compared for itself: a version that sends everybody to a "
        "login page, or knows no path any more, fails no request.",
    CONFIG_WORDS(statuses_words),
    .choices = config_off_or_on,
    .choice_offset = offsetof(struct rollout_check_statuses, on),
    .choice_size = sizeof(bool),
    .prepared = true,
    .finish = check_finish_statuses,
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
    {.word = "statuses",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct rollout_spec, statuses),
     .section = &statuses_section,
     .fallback = "on",
     .help = "classes of statuses"},
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
    const struct config_node *checks = config_node_get(node, "checks");
    shares_settle(reader, checks, owners, ARRAY_LEN(owners));
    bool others = spec->errors.on || spec->latency.on || spec->throughput.on;
    // Those three divide what statuses leave, so that files which give all three stay right.
    double left = others ? 1 - spec->statuses.share : 0;
    for (size_t i = 0; spec->statuses.on && i < ARRAY_LEN(owners); i++)
        *owners[i].share *= left;
    if (!others && !(spec->statuses.on && config_given(checks, "statuses")))
        config_error_at(reader, config_place(node, "checks"),
                        "every check is off: nothing would tell a bad version from a good one");
}
