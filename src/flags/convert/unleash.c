// SPDX-License-Identifier: Apache-2.0
// Unleash: features as its client API shows them (strategies in the feature) and as its export has them
// (featureStrategies and featureEnvironments beside them). A feature becomes a boolean flag; one that has
// variants also a second flag, "<name>.variant", whose values are the payloads.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "flags/convert/convert_private.h"

enum { NAME_BYTES = 512, WEIGHT_MAX = 1000000 };

struct feature {
    const char *name;
    const json_t *definition;
    const json_t *state; // its row of featureEnvironments, or the definition
    json_t *strategies;  // a list of its own
    json_t *conditions;  // of each strategy
    bool enabled;
};

// Rows within a feature are named, those beside features say it otherwise.
static const char *environment_of(const json_t *row)
{
    const char *name = convert_text(row, "environment");
    return name != NULL ? name : convert_text(row, "name");
}

static bool of_environment(const struct convert_run *run, const json_t *row)
{
    const char *name = environment_of(row);
    return name == NULL || run->name == NULL || strcmp(name, run->name) == 0;
}

static bool is_of(const json_t *row, const char *member, const char *feature)
{
    const char *name = convert_text(row, member);
    return name != NULL && strcmp(name, feature) == 0;
}

// The rows of a list that concern one feature; `name` and `other` are the members that may name the feature.
static void index_rows(struct convert_run *run, const char *list, const char *name, const char *other)
{
    json_t *index = json_object();
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)(uintptr_t)convert_list(run->source, list), i, row)
    {
        const char *feature = convert_text(row, name);
        if (feature == NULL)
            feature = convert_text(row, other);
        if (feature == NULL)
            continue;
        if (json_object_get(index, feature) == NULL)
            json_object_set_new(index, feature, json_array());
        json_array_append(json_object_get(index, feature), row);
    }
    json_object_set_new(run->index, list, index);
}

static const json_t *rows_of(const struct convert_run *run, const char *list, const char *feature)
{
    return json_object_get(json_object_get(run->index, list), feature);
}

// ---- payloads ----

enum payload { PAYLOAD_TEXT, PAYLOAD_NUMBER, PAYLOAD_JSON };

static json_t *parse_payload(const json_t *variant, enum payload kind)
{
    const json_t *payload = json_object_get(variant, "payload");
    const char *value = convert_text(payload, "value");
    bool is;
    if (kind == PAYLOAD_TEXT)
        return json_string(value != NULL ? value : convert_text(variant, "name"));
    if (kind == PAYLOAD_NUMBER) {
        double number = convert_number(json_object_get(payload, "value"), &is);
        if (!is || !is_of(payload, "type", "number"))
            return NULL;
        // Whole numbers stay as they are written, and those that do not fit stay text.
        if (value == NULL || strpbrk(value, ".eE") != NULL)
            return json_real(number);
        char *end;
        errno = 0;
        long long whole = strtoll(value, &end, 10);
        return errno == 0 && *end == '\0' ? json_integer(whole) : NULL;
    }
    json_t *tree = value != NULL && is_of(payload, "type", "json")
                       ? json_loads(value, JSON_REJECT_DUPLICATES, NULL)
                       : NULL;
    if (json_is_object(tree))
        return tree;
    json_decref(tree);
    return NULL;
}

static bool all_are(const json_t *variants, enum payload kind)
{
    size_t i;
    json_t *variant;
    json_array_foreach((json_t *)(uintptr_t)variants, i, variant)
    {
        json_t *value = parse_payload(variant, kind);
        if (value == NULL)
            return false;
        json_decref(value);
    }
    return true;
}

static json_t *payloads(struct convert_run *run, const json_t *variants)
{
    json_t *out = json_object();
    size_t i;
    json_t *variant;
    enum payload kind = all_are(variants, PAYLOAD_NUMBER) ? PAYLOAD_NUMBER
                        : all_are(variants, PAYLOAD_JSON) ? PAYLOAD_JSON
                                                          : PAYLOAD_TEXT;
    json_array_foreach((json_t *)(uintptr_t)variants, i, variant)
    {
        const char *name = convert_text(variant, "name");
        json_t *value = parse_payload(variant, kind);
        const json_t *before = json_object_get(out, name);
        if (before != NULL && !json_equal(before, value))
            convert_find(run, CONVERT_LOST, "two variants are named %.60s: the first payload is taken", name);
        if (before == NULL)
            json_object_set_new(out, name, value);
        else
            json_decref(value);
    }
    return out;
}

// ---- variants ----

static json_t *named_variants(const json_t *list)
{
    json_t *out = json_array();
    size_t i;
    json_t *variant;
    json_array_foreach((json_t *)(uintptr_t)list, i, variant)
    {
        const char *name = convert_text(variant, "name");
        if (name != NULL && name[0] != '\0')
            json_array_append(out, variant);
    }
    return out;
}

static void add_overrides(struct convert_run *run, const json_t *variant, struct convert_chain *chain,
                          json_t *condition)
{
    size_t i;
    json_t *override;
    json_array_foreach((json_t *)(uintptr_t)convert_list(variant, "overrides"), i, override)
    {
        bool known;
        json_t *in =
            unleash_in(convert_text(override, "contextName"), convert_list(override, "values"), true, &known);
        if (!known)
            convert_find(run, CONVERT_LOST,
                         "an override of variant %.60s by a field that cannot be named is left out",
                         convert_text(variant, "name"));
        convert_chain_add(chain, convert_and(json_deep_copy(condition), in),
                          json_string(convert_text(variant, "name")));
    }
}

static json_t *draw(struct convert_run *run, const json_t *variants, const char *group,
                    const char *stickiness)
{
    char prefix[NAME_BYTES];
    json_t *buckets = json_array();
    size_t i;
    json_t *variant;
    json_array_foreach((json_t *)(uintptr_t)variants, i, variant)
    {
        bool is;
        double number = convert_number(json_object_get(variant, "weight"), &is);
        if (!(number > 0) || i >= 1000)
            continue;
        int64_t weight = llround(number < WEIGHT_MAX ? number : WEIGHT_MAX);
        json_array_append_new(buckets, json_pack("[s,I]", convert_text(variant, "name"), (json_int_t)weight));
    }
    json_t *value = unleash_sticky(stickiness);
    if (value == NULL)
        value = unleash_sticky(NULL);
    json_t *drawn;
    if (json_array_size(buckets) == 0) {
        drawn = json_null();
        json_decref(value);
    } else if (json_array_size(buckets) == 1) {
        drawn = json_incref(json_array_get(json_array_get(buckets, 0), 0));
        json_decref(value);
    } else {
        convert_find(run, CONVERT_DIFFERS, "variants keep their shares, not their members");
        snprintf(prefix, sizeof prefix, "variant:%.250s:", group);
        drawn = convert_fractional(prefix, value, buckets);
    }
    json_decref(buckets);
    return drawn;
}

static double weight_of(const json_t *variants)
{
    double total = 0;
    bool is;
    size_t i;
    json_t *variant;
    json_array_foreach((json_t *)(uintptr_t)variants, i, variant) total +=
        convert_number(json_object_get(variant, "weight"), &is);
    return total;
}

static void add_variants(struct convert_run *run, const struct feature *feature, const json_t *strategy,
                         json_t *condition, const json_t *shared, struct convert_chain *chain)
{
    json_t *own = named_variants(convert_list(strategy, "variants"));
    const json_t *parameters = json_object_get(strategy, "parameters");
    const char *group = convert_text(parameters, "groupId");
    bool has_own = weight_of(own) > 0; // else those of the feature count
    const json_t *variants = has_own ? own : shared;
    const char *stickiness = convert_text(json_array_get(variants, 0), "stickiness");
    if (has_own && stickiness == NULL)
        stickiness = convert_text(parameters, "stickiness");
    if (!has_own || group == NULL || group[0] == '\0')
        group = feature->name;
    size_t i;
    json_t *variant;
    json_array_foreach((json_t *)(uintptr_t)variants, i, variant)
    {
        if (weight_of(variants) > 0)
            add_overrides(run, variant, chain, condition);
    }
    convert_chain_add(chain, json_incref(condition), draw(run, variants, group, stickiness));
    json_decref(own);
}

static json_t *all_variants(const struct feature *feature, const json_t *shared)
{
    json_t *all = json_array();
    size_t i;
    json_t *strategy;
    json_array_foreach(feature->strategies, i, strategy)
    {
        json_t *own = named_variants(convert_list(strategy, "variants"));
        json_array_extend(all, own);
        json_decref(own);
    }
    json_array_extend(all, (json_t *)(uintptr_t)shared);
    return all;
}

// ---- the flags of a feature ----

static void set_targeting(json_t *flag, struct convert_chain *chain, json_t *otherwise)
{
    json_t *rule = convert_chain_end(chain, otherwise);
    if (json_is_string(rule))
        rule = json_pack("{s:[b,o]}", "if", 1, rule);
    if (rule == NULL || json_is_null(rule) || json_is_boolean(rule))
        json_decref(rule);
    else
        json_object_set_new(flag, "targeting", rule);
}

static json_t *any_condition(const struct feature *feature)
{
    json_t *any = json_false();
    size_t i;
    json_t *condition;
    json_array_foreach(feature->conditions, i, condition) any = convert_or(any, json_deep_copy(condition));
    return any;
}

static bool has_dependencies(const struct convert_run *run, const char *name)
{
    size_t i;
    json_t *row;
    bool has = json_array_size(convert_list(json_object_get(json_object_get(run->index, "features"), name),
                                            "dependencies")) > 0;
    json_array_foreach((json_t *)(uintptr_t)rows_of(run, "dependencies", name), i, row) has =
        has || json_array_size(convert_list(row, "dependencies")) > 0;
    return has;
}

static void add_dependency(struct convert_run *run, const json_t *dependency, json_t *flag, const char *off)
{
    const char *key = convert_text(dependency, "feature");
    const json_t *variants = convert_list(dependency, "variants");
    const json_t *enabled = json_object_get(dependency, "enabled");
    char name[NAME_BYTES];
    if (key != NULL && has_dependencies(run, key)) {
        convert_find(run, CONVERT_DIFFERS,
                     "%.100s, on which it depends, depends on others: it is off there, and killed here", key);
        convert_kill(flag, off);
    } else if (key != NULL && json_is_false(enabled)) {
        convert_require(run, flag, key, "off");
    } else if (key != NULL && json_array_size(variants) == 0) {
        convert_require(run, flag, key, "on");
    } else if (key != NULL && json_array_size(variants) == 1 && json_is_string(json_array_get(variants, 0)) &&
               strcmp(json_string_value(json_array_get(variants, 0)), "disabled") != 0) {
        snprintf(name, sizeof name, "%.480s.variant", key);
        convert_require(run, flag, name, json_string_value(json_array_get(variants, 0)));
    } else {
        convert_find(run, CONVERT_LOST,
                     "it depends on one of several variants of %.60s: it stays off until unkilled",
                     key != NULL ? key : "");
        convert_kill(flag, off);
    }
}

// Dependencies are in the feature itself or in a list of their own.
static void add_dependencies(struct convert_run *run, const struct feature *feature, json_t *flag,
                             const char *off)
{
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)convert_list(feature->definition, "dependencies"), i, item)
        add_dependency(run, item, flag, off);
    json_array_foreach((json_t *)(uintptr_t)rows_of(run, "dependencies", feature->name), i, item)
    {
        size_t k;
        json_t *dependency;
        json_array_foreach((json_t *)(uintptr_t)convert_list(item, "dependencies"), k, dependency)
            add_dependency(run, dependency, flag, off);
    }
}

static void add_tags(const struct convert_run *run, const struct feature *feature, json_t *flag)
{
    static const char *const TEXTS[] = {"description", "type", "project"};
    char storage[512];
    struct text tags = text_over(storage, sizeof storage);
    size_t i;
    json_t *tag;
    for (i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++)
        convert_metadata_text(flag, TEXTS[i], convert_text(feature->definition, TEXTS[i]));
    if (convert_flagged(feature->definition, "stale"))
        convert_metadata(flag, "stale", json_true());
    json_array_foreach((json_t *)(uintptr_t)rows_of(run, "featureTags", feature->name), i, tag)
    {
        const char *value = convert_text(tag, "tagValue");
        if (value != NULL && tags.len + strlen(value) + 2 < sizeof storage)
            text_addf(&tags, "%s%s", tags.len > 0 ? "," : "", value);
    }
    convert_metadata_text(flag, "tags", storage);
}

static void add_boolean(struct convert_run *run, const struct feature *feature)
{
    struct convert_chain chain = {0};
    json_t *flag = json_pack("{s:s,s:{s:b,s:b},s:s}", "state", "ENABLED", "variants", "on", 1, "off", 0,
                             "defaultVariant", "off");
    add_tags(run, feature, flag);
    add_dependencies(run, feature, flag, "off");
    json_t *any = any_condition(feature);
    bool always = json_is_true(any);
    if (always && feature->enabled && json_object_get(flag, "x-sluice") == NULL) {
        json_object_set_new(flag, "defaultVariant", json_string("on"));
    } else {
        convert_chain_add(&chain, any, json_string("on"));
        set_targeting(flag, &chain, json_string("off"));
    }
    if (!feature->enabled)
        convert_kill(flag, "off");
    run->no_memory =
        run->no_memory || flag == NULL || json_object_set_new(run->flags, feature->name, flag) != 0;
}

static void add_second(struct convert_run *run, const struct feature *feature, const json_t *shared,
                       const json_t *all)
{
    char key[NAME_BYTES];
    struct convert_chain chain = {0};
    size_t i;
    json_t *strategy;
    snprintf(key, sizeof key, "%.480s.variant", feature->name);
    if (strlen(feature->name) > 480 || json_object_get(run->flags, key) != NULL) {
        convert_find(run, CONVERT_LOST, "there is no room for its variants: the flag %.80s exists", key);
        return;
    }
    convert_find(run, CONVERT_DIFFERS, "its variants are the flag %.160s", key);
    json_t *flag =
        json_pack("{s:s,s:o,s:n}", "state", "ENABLED", "variants", payloads(run, all), "defaultVariant");
    add_tags(run, feature, flag);
    add_dependencies(run, feature, flag, NULL);
    json_array_foreach(feature->strategies, i, strategy)
        add_variants(run, feature, strategy, json_array_get(feature->conditions, i), shared, &chain);
    set_targeting(flag, &chain, NULL);
    if (!feature->enabled)
        convert_kill(flag, NULL);
    run->no_memory = run->no_memory || flag == NULL || json_object_set_new(run->flags, key, flag) != 0;
}

static void add_variant_flag(struct convert_run *run, const struct feature *feature)
{
    const json_t *list = convert_list(feature->state, "variants");
    if (json_array_size(list) == 0)
        list = convert_list(feature->definition, "variants");
    json_t *shared = named_variants(list);
    json_t *all = all_variants(feature, shared);
    if (json_array_size(all) > 0)
        add_second(run, feature, shared, all);
    json_decref(all);
    json_decref(shared);
}

// ---- features ----

static const json_t *state_of(const struct convert_run *run, const json_t *definition, const char *name)
{
    size_t i;
    json_t *row;
    const json_t *rows = convert_list(definition, "environments");
    if (rows == NULL && convert_list(run->source, "featureEnvironments") == NULL)
        return definition;
    if (rows == NULL)
        rows = rows_of(run, "featureEnvironments", name);
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        if (of_environment(run, row))
            return row;
    }
    return NULL;
}

static json_t *strategies_of(const struct convert_run *run, const struct feature *feature, bool *any_disabled)
{
    bool nested = convert_list(feature->definition, "environments") != NULL;
    bool beside = !nested && convert_list(run->source, "featureStrategies") != NULL;
    const json_t *rows = beside ? rows_of(run, "featureStrategies", feature->name)
                                : convert_list(nested ? feature->state : feature->definition, "strategies");
    json_t *out = json_array();
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        bool mine = !beside || of_environment(run, row);
        if (mine && convert_flagged(row, "disabled"))
            *any_disabled = true;
        else if (mine)
            json_array_append(out, row);
    }
    return out;
}

static void add_feature(struct convert_run *run, const json_t *definition, const char *name)
{
    struct feature feature = {.name = name, .definition = definition};
    bool any_disabled = false;
    size_t i;
    json_t *strategy;
    feature.state = state_of(run, definition, name);
    feature.enabled = convert_flagged(feature.state, "enabled") && !convert_flagged(definition, "archived");
    feature.strategies = strategies_of(run, &feature, &any_disabled);
    if (feature.enabled && feature.state != definition && convert_list(definition, "environments") != NULL &&
        convert_list(feature.state, "strategies") == NULL) {
        convert_find(run, CONVERT_LOST, "the export does not hold its strategies: it is off");
        any_disabled = true;
    }
    feature.conditions = json_array();
    // Without any strategy a feature is on for all.
    if (json_array_size(feature.strategies) == 0 && !any_disabled)
        json_array_append_new(feature.strategies, json_pack("{s:s}", "name", "default"));
    if (json_array_size(feature.strategies) == 0)
        convert_find(run, CONVERT_DIFFERS, "all its strategies are disabled: it is off");
    if (feature.state == NULL)
        convert_find(run, CONVERT_LOST, "it is not in this environment: it is off");
    json_array_foreach(feature.strategies, i, strategy)
    {
        json_t *condition = unleash_strategy(run, strategy, name);
        run->no_memory = run->no_memory || condition == NULL;
        json_array_append_new(feature.conditions, condition != NULL ? condition : json_false());
    }
    add_boolean(run, &feature);
    add_variant_flag(run, &feature);
    json_decref(feature.strategies);
    json_decref(feature.conditions);
}

static void add_features(struct convert_run *run, const json_t *features)
{
    size_t i;
    json_t *definition;
    // Collects all names first, so that the second flag of a feature with variants never takes the name of
    // another.
    json_array_foreach((json_t *)(uintptr_t)features, i, definition)
    {
        const char *name = convert_text(definition, "name");
        if (name != NULL && name[0] != '\0')
            json_object_set_new(run->flags, name, json_null());
    }
    json_array_foreach((json_t *)(uintptr_t)features, i, definition)
    {
        const char *name = convert_text(definition, "name");
        run->flag = name != NULL ? name : "";
        if (name == NULL || name[0] == '\0')
            convert_find(run, CONVERT_LOST, "a feature without a name is left out");
        else if (!json_is_null(json_object_get(run->flags, name)))
            convert_find(run, CONVERT_LOST, "the export holds it twice: the first is taken");
        else
            add_feature(run, definition, name);
    }
    run->flag = "";
}

static void gather_environments(json_t *environments, const json_t *rows)
{
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)(uintptr_t)rows, i, row)
    {
        if (environment_of(row) != NULL)
            json_object_set_new(environments, environment_of(row), json_true());
    }
}

static const json_t *features_of(const struct convert_run *run)
{
    return json_is_array(run->source) ? run->source : convert_list(run->source, "features");
}

static void index_features(struct convert_run *run, const json_t *features)
{
    json_t *index = json_object();
    size_t i;
    json_t *feature;
    json_array_foreach((json_t *)(uintptr_t)features, i, feature)
    {
        const char *name = convert_text(feature, "name");
        if (name != NULL && json_object_get(index, name) == NULL)
            json_object_set(index, name, feature);
    }
    json_object_set_new(run->index, "features", index);
}

bool convert_unleash(struct convert_run *run)
{
    json_t *environments = json_object();
    size_t i;
    json_t *feature;
    json_array_foreach((json_t *)(uintptr_t)features_of(run), i, feature)
        gather_environments(environments, convert_list(feature, "environments"));
    gather_environments(environments, convert_list(run->source, "featureEnvironments"));
    gather_environments(environments, convert_list(run->source, "featureStrategies"));
    bool chosen = convert_choose(run, environments);
    if (chosen) {
        index_rows(run, "featureEnvironments", "featureName", "name");
        index_rows(run, "featureStrategies", "featureName", "featureName");
        index_rows(run, "featureTags", "featureName", "featureName");
        index_rows(run, "dependencies", "feature", "feature");
        const json_t *features = features_of(run);
        index_features(run, features);
        run->falls_to_off = true;
        add_features(run, features);
        if (json_object_size(run->flags) > 0)
            convert_find(run, CONVERT_DIFFERS,
                         "userId is the targeting key; properties stand in the context by their names");
    }
    json_decref(environments);
    return chosen;
}
