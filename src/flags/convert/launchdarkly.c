// SPDX-License-Identifier: Apache-2.0
// LaunchDarkly: flags as its REST API shows them ("items", settings by environment) and as its SDKs read them
// from a file ("flags", settings in the flag itself; "flagValues").
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "flags/convert/convert_private.h"
#include "flags/eval/image.h"

struct ld_flag {
    const char *key;
    const json_t *definition;
    const json_t *settings; // of the environment
    json_t *names;          // of the variations, in order
    json_t *values;         // as they stand in the output
    int64_t off;            // -1: the caller's default
};

static const json_t *all_flags(const struct convert_run *run)
{
    const json_t *items = json_object_get(run->source, "items");
    if (items == NULL)
        items = json_object_get(run->source, "flags");
    return items != NULL ? items : run->source;
}

// ---- variations ----

static bool nests_settings(const json_t *flag)
{
    return json_is_object(json_object_get(flag, "environments"));
}

static const json_t *variation_value(const json_t *flag, size_t i)
{
    const json_t *variation = json_array_get(convert_list(flag, "variations"), i);
    return nests_settings(flag) ? json_object_get(variation, "value") : variation;
}

// A flag with more variations than the format holds is treated as if it had none.
static size_t variation_count(const json_t *flag)
{
    size_t count = json_array_size(convert_list(flag, "variations"));
    return count <= FLAGS_VARIANTS_MAX ? count : 0;
}

static bool name_taken(const json_t *names, const char *name)
{
    size_t i;
    json_t *other;
    json_array_foreach((json_t *)(uintptr_t)names, i, other)
    {
        if (strcmp(json_string_value(other), name) == 0)
            return true;
    }
    return name[0] == '\0';
}

static void add_name(json_t *names, const json_t *flag, size_t i)
{
    enum { SHORT = 40 };
    char made[64];
    const json_t *value = variation_value(flag, i);
    const char *name = nests_settings(flag)
                           ? convert_text(json_array_get(convert_list(flag, "variations"), i), "name")
                           : NULL;
    if (name == NULL && json_is_boolean(value))
        name = json_is_true(value) ? "true" : "false";
    if (name == NULL && json_is_string(value) && json_string_length(value) <= SHORT)
        name = json_string_value(value);
    for (size_t suffix = i; name == NULL || name_taken(names, name); suffix++) {
        snprintf(made, sizeof made, "variation-%zu", suffix);
        name = made;
    }
    json_array_append_new(names, json_string(name));
}

static json_t *names_of(const json_t *flag)
{
    json_t *names = json_array();
    for (size_t i = 0; i < variation_count(flag); i++)
        add_name(names, flag, i);
    return names;
}

static int type_of(const json_t *value)
{
    return json_is_boolean(value)  ? 1
           : json_is_number(value) ? 2
           : value == NULL         ? -1
                                   : (int)json_typeof(value) + 3;
}

// All variants of one flag have one type, so lists and mixed types are put into objects.
static json_t *values_of(struct convert_run *run, const json_t *flag)
{
    json_t *values = json_array();
    size_t count = variation_count(flag);
    bool wrap = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *value = variation_value(flag, i);
        wrap = wrap || value == NULL || json_is_array(value) || json_is_null(value) ||
               type_of(value) != type_of(variation_value(flag, 0));
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = variation_value(flag, i);
        json_t *copy = value != NULL ? json_deep_copy(value) : json_null();
        json_array_append_new(values, wrap ? json_pack("{s:o}", "value", copy) : copy);
    }
    if (wrap)
        convert_find(
            run, CONVERT_CHANGED,
            "its values are lists or of several types: each is now an object with the member \"value\"");
    return values;
}

static bool in_range(const struct ld_flag *flag, const json_t *index)
{
    return json_is_integer(index) && json_integer_value(index) >= 0 &&
           (uint64_t)json_integer_value(index) < json_array_size(flag->names);
}

static const char *name_at(const struct ld_flag *flag, int64_t index)
{
    return index < 0 ? NULL : json_string_value(json_array_get(flag->names, (size_t)index));
}

static json_t *answer(const struct ld_flag *flag, int64_t index)
{
    const char *name = name_at(flag, index);
    return name != NULL ? json_string(name) : json_null();
}

static bool is_off(const struct ld_flag *flag, int64_t index)
{
    return index == flag->off || json_is_false(json_array_get(flag->values, (size_t)index));
}

// ---- what a rule or the fallthrough serves ----

struct served {
    json_t *buckets;  // [[name, weight]...], weights above zero only
    int64_t heaviest; // index
    int64_t off;      // index of one among them that is off, else flag->off
    bool some_off;
    bool well;
    const json_t *rollout;
};

static void add_bucket(struct served *served, const struct ld_flag *flag, int64_t index, int64_t weight)
{
    if (weight <= 0)
        return;
    json_t *last = json_array_get(served->buckets, json_array_size(served->buckets) - 1);
    const char *name = name_at(flag, index);
    if (last != NULL && strcmp(json_string_value(json_array_get(last, 0)), name) == 0)
        json_array_set_new(last, 1, json_integer(json_integer_value(json_array_get(last, 1)) + weight));
    else
        json_array_append_new(served->buckets, json_pack("[s,I]", name, (json_int_t)weight));
    if (is_off(flag, index)) {
        served->some_off = true;
        served->off = index;
    }
}

// Weights are parts of CONVERT_SHARE_TOTAL. When they add up to less, the last variation gets the rest; when
// they add up to more, the surplus is cut.
static void read_weights(struct served *served, const struct ld_flag *flag, const json_t *variations)
{
    int64_t left = CONVERT_SHARE_TOTAL;
    int64_t most = -1;
    size_t count = json_array_size(variations);
    for (size_t i = 0; i < count && served->well; i++) {
        const json_t *item = json_array_get(variations, i);
        const json_t *index = json_object_get(item, "variation");
        double number = json_number_value(json_object_get(item, "weight"));
        int64_t weight = number > 0 ? (int64_t)(number < (double)left ? number : (double)left) : 0;
        served->well = in_range(flag, index);
        if (!served->well)
            return;
        weight = i + 1 == count ? left : weight;
        add_bucket(served, flag, json_integer_value(index), weight);
        if (weight > most) {
            most = weight;
            served->heaviest = json_integer_value(index);
        }
        left -= weight;
    }
}

static struct served read_served(const struct ld_flag *flag, const json_t *what)
{
    struct served served = {.buckets = json_array(), .off = flag->off, .heaviest = -1, .well = true};
    const json_t *index = json_object_get(what, "variation");
    const json_t *rollout = json_object_get(what, "rollout");
    if (in_range(flag, index)) {
        served.heaviest = json_integer_value(index);
        add_bucket(&served, flag, served.heaviest, CONVERT_SHARE_TOTAL);
        return served;
    }
    served.rollout = rollout;
    read_weights(&served, flag, convert_list(rollout, "variations"));
    served.well = served.well && json_array_size(served.buckets) > 0;
    if (!served.well) // such a rule is an error there and answers the caller's default
        served.some_off = true;
    return served;
}

static json_t *draw(struct convert_run *run, const struct ld_flag *flag, const struct served *served)
{
    const char *by = convert_text(served->rollout, "bucketBy");
    const char *kind = convert_text(served->rollout, "contextKind");
    const char *use = convert_text(served->rollout, "kind");
    bool experiment = use != NULL && strcmp(use, "experiment") == 0;
    char prefix[300];
    if (experiment || by == NULL || by[0] == '\0')
        by = "key";
    json_t *value = ld_attribute(kind, by);
    int64_t safe = served->some_off ? served->off : served->heaviest;
    if (value == NULL) {
        convert_find(run, CONVERT_LOST, "a percentage by attribute %.60s cannot be drawn here: all get %.60s",
                     by, name_at(flag, safe) != NULL ? name_at(flag, safe) : "the caller's default");
        return answer(flag, safe);
    }
    convert_find(run, CONVERT_DIFFERS,
                 experiment ? "an experiment keeps its shares, not its members nor its measuring"
                            : "percentages keep their shares, not their members");
    if (ld_is_user(kind) && strcmp(by, "key") == 0) {
        json_decref(value);
        return json_pack("{s:O}", "fractional", served->buckets);
    }
    if (!ld_is_user(kind))
        convert_find(run, CONVERT_DIFFERS,
                     "attributes of kind %.60s are read from the context's member of that name", kind);
    snprintf(prefix, sizeof prefix, "%.250s:", flag->key);
    json_t *present = convert_present(value);
    json_t *drawable = ld_drawable(value);
    json_t *drawn = convert_fractional(prefix, value, served->buckets);
    json_t *first = json_array_get(json_array_get(served->buckets, 0), 0);
    // Somebody without the attribute, or with one that is neither text nor a whole number, is in the first
    // share there. For other kinds Sluice itself chooses the place in the context, so it does not trust a
    // missing attribute there.
    json_t *absent = ld_is_user(kind) ? json_incref(first) : answer(flag, safe);
    return json_pack("{s:[o,o,o,O,o]}", "if", drawable, drawn, present, first, absent);
}

static json_t *serve(struct convert_run *run, const struct ld_flag *flag, const struct served *served)
{
    if (!served->well) {
        convert_find(run, CONVERT_LOST,
                     "a rule names a variation that does not exist: who matches it gets %.60s",
                     flag->off >= 0 ? name_at(flag, flag->off) : "the caller's default");
        return answer(flag, flag->off);
    }
    if (json_array_size(served->buckets) == 1)
        return answer(flag, served->heaviest);
    return draw(run, flag, served);
}

// ---- targets and rules ----

static void add_user_targets(json_t *targets, json_t *seen, const char *variant, const json_t *keys)
{
    size_t i;
    json_t *key;
    json_array_foreach((json_t *)(uintptr_t)keys, i, key)
    {
        const char *text = json_string_value(key);
        if (text == NULL || json_object_get(seen, text) != NULL)
            continue; // the first list that names a key counts
        json_object_set_new(seen, text, json_true());
        if (json_object_get(targets, variant) == NULL)
            json_object_set_new(targets, variant, json_array());
        json_array_append(json_object_get(targets, variant), key);
    }
}

// The user keys of one variation, from the older list: targets of kind user in the newer list refer to it.
static const json_t *user_keys(const struct ld_flag *flag, const json_t *variation)
{
    size_t i;
    json_t *target;
    json_array_foreach((json_t *)(uintptr_t)convert_list(flag->settings, "targets"), i, target)
    {
        if (json_equal(json_object_get(target, "variation"), variation))
            return convert_list(target, "values");
    }
    return NULL;
}

static void add_targets(struct convert_run *run, const struct ld_flag *flag, json_t *out)
{
    json_t *targets = json_object();
    json_t *seen = json_object();
    size_t i;
    json_t *target;
    json_array_foreach((json_t *)(uintptr_t)convert_list(flag->settings, "targets"), i, target)
    {
        if (in_range(flag, json_object_get(target, "variation")))
            add_user_targets(targets, seen,
                             name_at(flag, json_integer_value(json_object_get(target, "variation"))),
                             convert_list(target, "values"));
        else
            convert_find(run, CONVERT_LOST, "targets of a variation that does not exist are left out");
    }
    if (json_object_size(targets) > 0)
        json_object_set(convert_extension(out), "targets", targets);
    json_decref(targets);
    json_decref(seen);
}

// With a newer list of targets its order matters, and the older one only holds its users: so all become
// rules.
static void chain_targets(struct convert_run *run, const struct ld_flag *flag, struct convert_chain *chain)
{
    size_t i;
    json_t *target;
    json_array_foreach((json_t *)(uintptr_t)convert_list(flag->settings, "contextTargets"), i, target)
    {
        const char *kind = convert_text(target, "contextKind");
        const json_t *variation = json_object_get(target, "variation");
        const json_t *keys = convert_list(target, "values");
        json_t *value = ld_attribute(kind, "key");
        if (ld_is_user(kind))
            keys = user_keys(flag, variation);
        if (value == NULL || !in_range(flag, variation))
            convert_find(run, CONVERT_LOST, "targets of kind %.60s cannot be named here, they are left out",
                         kind != NULL ? kind : "");
        else
            convert_chain_add(chain, ld_keys(value, keys), answer(flag, json_integer_value(variation)));
        if (value != NULL && !ld_is_user(kind))
            convert_find(run, CONVERT_DIFFERS,
                         "attributes of kind %.60s are read from the context's member of that name", kind);
        json_decref(value);
    }
}

static void add_rule(struct convert_run *run, const struct ld_flag *flag, size_t i, const json_t *rule,
                     struct convert_chain *chain)
{
    if (chain->closed) {
        convert_find(run, CONVERT_LOST,
                     "rule %zu and what follows are never asked: one before takes everybody", i + 1);
        return;
    }
    struct served served = read_served(flag, rule);
    bool exact = true;
    bool assume = served.some_off;
    json_t *condition = ld_clauses(run, convert_list(rule, "clauses"), assume, &exact);
    if (exact) {
        convert_chain_add(chain, condition, serve(run, flag, &served));
    } else if (assume) {
        convert_find(run, CONVERT_LOST, "rule %zu: all whom the rest of it matches get %.60s", i + 1,
                     served.off >= 0 ? name_at(flag, served.off) : "the caller's default");
        convert_chain_add(chain, condition, answer(flag, served.off));
    } else {
        convert_find(run, CONVERT_LOST, "rule %zu: what has no equivalent does not match", i + 1);
        convert_chain_add(chain, condition, serve(run, flag, &served));
    }
    json_decref(served.buckets);
}

static void add_targeting(struct convert_run *run, const struct ld_flag *flag, json_t *out)
{
    struct convert_chain chain = {0};
    size_t i;
    json_t *rule;
    if (json_array_size(convert_list(flag->settings, "contextTargets")) == 0)
        add_targets(run, flag, out);
    else
        chain_targets(run, flag, &chain);
    json_array_foreach((json_t *)(uintptr_t)convert_list(flag->settings, "rules"), i, rule)
        add_rule(run, flag, i, rule, &chain);
    struct served served = read_served(flag, json_object_get(flag->settings, "fallthrough"));
    bool plain = served.well && json_array_size(served.buckets) == 1;
    bool asks = chain.arguments != NULL || json_object_get(out, "x-sluice") != NULL;
    // A flag without any condition has its answer as the default; otherwise the default is the answer of
    // "off".
    if (plain && !asks && convert_flagged(flag->settings, "on")) {
        json_object_set_new(out, "defaultVariant", answer(flag, served.heaviest));
    } else {
        json_t *last = serve(run, flag, &served);
        bool silent = json_is_null(last);
        json_t *rule_out = convert_chain_end(&chain, last);
        if (json_is_string(rule_out))
            rule_out = json_pack("{s:[b,o]}", "if", 1, rule_out);
        if (silent && json_is_null(rule_out))
            json_decref(rule_out);
        else
            json_object_set_new(out, "targeting", rule_out);
    }
    json_decref(served.buckets);
}

// ---- the flag ----

static const json_t *find_flag(const struct convert_run *run, const char *key)
{
    return json_object_get(json_object_get(run->index, "flags"), key);
}

static const json_t *settings_of(const struct convert_run *run, const json_t *flag)
{
    if (!nests_settings(flag))
        return flag;
    return run->name != NULL ? json_object_get(json_object_get(flag, "environments"), run->name) : NULL;
}

static void add_prerequisite(struct convert_run *run, const struct ld_flag *flag, const json_t *needed,
                             json_t *out)
{
    const char *key = convert_text(needed, "key");
    const json_t *definition = key != NULL ? find_flag(run, key) : NULL;
    const json_t *index = json_object_get(needed, "variation");
    const json_t *settings = definition != NULL ? settings_of(run, definition) : NULL;
    json_t *names = names_of(definition);
    const char *name = json_is_integer(index) && json_integer_value(index) >= 0
                           ? json_string_value(json_array_get(names, (size_t)json_integer_value(index)))
                           : NULL;
    if (name == NULL) {
        convert_find(run, CONVERT_LOST,
                     "prerequisite %.60s is not in the export: the flag stays off until unkilled",
                     key != NULL ? key : "");
        convert_kill(out, name_at(flag, flag->off));
    } else if (!convert_flagged(settings, "on")) {
        // A flag that is off does not meet a prerequisite there, whatever it answers.
        convert_find(run, CONVERT_LOST,
                     "prerequisite %.60s is off: the flag is killed, and stays so when that one is on", key);
        convert_kill(out, name_at(flag, flag->off));
    } else {
        convert_require(run, out, key, name);
    }
    json_decref(names);
}

static void add_metadata(const json_t *flag, json_t *out)
{
    char storage[512];
    struct text tags = text_over(storage, sizeof storage);
    size_t i;
    json_t *tag;
    json_array_foreach((json_t *)(uintptr_t)convert_list(flag, "tags"), i, tag)
    {
        if (json_is_string(tag) && tags.len + json_string_length(tag) + 2 < sizeof storage)
            text_addf(&tags, "%s%s", tags.len > 0 ? "," : "", json_string_value(tag));
    }
    convert_metadata_text(out, "name", convert_text(flag, "name"));
    convert_metadata_text(out, "description", convert_text(flag, "description"));
    convert_metadata_text(out, "tags", storage);
    const char *maintainer = convert_text(json_object_get(flag, "_maintainer"), "email");
    convert_metadata_text(out, "maintainer",
                          maintainer != NULL ? maintainer : convert_text(flag, "maintainerId"));
    if (json_is_boolean(json_object_get(flag, "temporary")))
        convert_metadata(out, "temporary", json_incref(json_object_get(flag, "temporary")));
}

static json_t *make_variants(const struct ld_flag *flag)
{
    json_t *variants = json_object();
    for (size_t i = 0; i < json_array_size(flag->names); i++)
        json_object_set(variants, name_at(flag, (int64_t)i), json_array_get(flag->values, i));
    return variants;
}

static void add_state(struct convert_run *run, const struct ld_flag *flag, json_t *out)
{
    size_t i;
    json_t *needed;
    json_array_foreach((json_t *)(uintptr_t)convert_list(flag->settings, "prerequisites"), i, needed)
        add_prerequisite(run, flag, needed, out);
    add_targeting(run, flag, out);
    if (flag->settings == NULL)
        convert_find(run, CONVERT_LOST, "it is not in this environment: it is off");
    if (convert_flagged(flag->definition, "archived")) {
        convert_find(run, CONVERT_DIFFERS, "it is archived: killed, the caller's default answers");
        convert_kill(out, NULL);
    } else if (!convert_flagged(flag->settings, "on")) {
        convert_kill(out, name_at(flag, flag->off));
    }
}

static void add_flag(struct convert_run *run, const char *key, const json_t *definition)
{
    struct ld_flag flag = {.key = key, .definition = definition, .off = -1};
    flag.settings = settings_of(run, definition);
    flag.names = names_of(definition);
    flag.values = values_of(run, definition);
    const json_t *off = json_object_get(flag.settings, "offVariation");
    if (in_range(&flag, off))
        flag.off = json_integer_value(off);
    else if (off != NULL && !json_is_null(off))
        convert_find(run, CONVERT_LOST, "its off variation does not exist: off answers the caller's default");
    json_t *out = json_pack("{s:s,s:o,s:o}", "state", "ENABLED", "variants", make_variants(&flag),
                            "defaultVariant", answer(&flag, flag.off));
    if (json_array_size(flag.names) == 0) {
        convert_find(run, CONVERT_LOST, "it has no variations, or more than %d: left out",
                     FLAGS_VARIANTS_MAX);
    } else if (out != NULL) {
        add_metadata(definition, out);
        add_state(run, &flag, out);
        json_object_set(run->flags, key, out);
    }
    run->no_memory = run->no_memory || out == NULL;
    json_decref(out);
    json_decref(flag.names);
    json_decref(flag.values);
}

static void add_value(struct convert_run *run, const char *key, const json_t *value)
{
    if (json_is_array(value) || json_is_null(value)) {
        convert_find(run, CONVERT_LOST, "its value is a list or null: left out");
        return;
    }
    json_object_set_new(run->flags, key,
                        json_pack("{s:s,s:{s:O},s:s}", "state", "ENABLED", "variants", "value", value,
                                  "defaultVariant", "value"));
}

static void add_all(struct convert_run *run, const json_t *all, bool values)
{
    size_t at = 0;
    const char *key;
    const json_t *flag;
    while (ld_each(all, &at, &key, &flag)) {
        run->flag = key != NULL ? key : "";
        if (key == NULL || key[0] == '\0' || (!values && !json_is_object(flag)))
            convert_find(run, CONVERT_LOST, "a flag without a key or a definition is left out");
        else if (json_object_get(run->flags, key) != NULL)
            convert_find(run, CONVERT_LOST, "the export holds it twice: the first is taken");
        else if (values)
            add_value(run, key, flag);
        else if (!convert_flagged(flag, "deleted"))
            add_flag(run, key, flag);
    }
    run->flag = "";
}

bool convert_launchdarkly(struct convert_run *run)
{
    const json_t *all = all_flags(run);
    json_t *environments = json_object();
    json_t *one = NULL;
    size_t at = 0;
    const char *key;
    const json_t *flag;
    if (all == run->source && json_is_object(all) && convert_text(all, "key") != NULL)
        all = one = json_pack("[O]", all);
    while (ld_each(all, &at, &key, &flag))
        if (nests_settings(flag))
            json_object_update(environments, json_object_get(flag, "environments"));
    bool chosen = convert_choose(run, environments);
    if (chosen) {
        ld_index(run, "flags", all);
        ld_segments(run);
        if (all != run->source || json_is_array(all))
            add_all(run, all, false);
        add_all(run, json_object_get(run->source, "flagValues"), true);
        run->flag = "";
        if (json_object_size(run->flags) > 0)
            convert_find(run, CONVERT_DIFFERS,
                         "the user's key is the targeting key; other attributes keep their names");
    }
    json_decref(environments);
    json_decref(one);
    return chosen;
}
