// SPDX-License-Identifier: Apache-2.0
// From a key and a context to a value. In this order: state, kill switch, prerequisites, schedule, individual
// targets, targeting, default variant.
#include <math.h>

#include "base/check.h"
#include "flags/flags_private.h"

const char *flags_reason_name(enum flags_reason reason)
{
    static const char *const NAMES[] = {"STATIC", "TARGETING_MATCH", "DEFAULT", "DISABLED", "ERROR"};
    return NAMES[reason];
}

const char *flags_error_name(enum flags_error error)
{
    static const char *const NAMES[] = {
        "",
        "FLAG_NOT_FOUND",
        "TYPE_MISMATCH",
        "PARSE_ERROR",
        "TARGETING_KEY_MISSING",
        "INVALID_CONTEXT",
        "GENERAL",
    };
    return NAMES[error];
}

// Which variant, and why; FLAGS_NO_VARIANT leaves the value to the caller's default.
struct decision {
    uint32_t variant;
    enum flags_reason reason;
    enum flags_error error;
    struct slice text;
    const char *note;
};

static struct decision decide(struct flags_run *run, const struct flags_image_flag *flag);

static struct decision fail(enum flags_error error, struct slice why)
{
    return (struct decision){
        .variant = FLAGS_NO_VARIANT, .reason = FLAGS_REASON_ERROR, .error = error, .text = why};
}

static struct decision default_of(const struct flags_image_flag *flag, const char *note)
{
    return (struct decision){.variant = flag->default_variant, .reason = FLAGS_REASON_DEFAULT, .note = note};
}

static void trace(struct flags_run *run, const char *what)
{
    if (run->path != NULL)
        text_addf(run->path, "%s", what);
}

static const struct flags_image_variant *variants_of(const uint8_t *image,
                                                     const struct flags_image_flag *flag)
{
    return flags_image_at(image, flag->variants);
}

static uint32_t variant_named(const struct flags_run *run, const struct flags_image_flag *flag,
                              struct slice name)
{
    const struct flags_image_variant *variants = variants_of(run->image, flag);
    for (uint32_t i = 0; i < flag->variant_count; i++)
        if (slice_equal(flags_image_slice(run->image, variants[i].name), name))
            return i;
    return FLAGS_NO_VARIANT;
}

struct flags_value flags_rule_value(struct flags_run *run, const struct flags_image_flag *flag)
{
    static const struct flags_scope CONTEXT = {.kind = FLAGS_SCOPE_CONTEXT};
    return flags_eval(run, flags_image_at(run->image, flag->targeting), &CONTEXT, true);
}

// A rule's result: null is the default variant, a string or what else has one textual form names a variant.
static struct decision decide_by_rule(struct flags_run *run, const struct flags_image_flag *flag)
{
    char number[FLAGS_NUMBER_TEXT_MAX];
    struct slice name;
    trace(run, "targeting");
    struct flags_value value = flags_rule_value(run, flag);
    if (run->fault != NULL)
        return fail(FLAGS_ERROR_GENERAL, slice_of(run->fault));
    switch (value.kind) {
    case FLAGS_VALUE_NULL:
        return default_of(flag, run->note != NULL ? run->note : "the targeting rule gave null");
    case FLAGS_VALUE_BOOLEAN:
        name = value.boolean ? SLICE("true") : SLICE("false");
        break;
    case FLAGS_VALUE_NUMBER:
        name = (struct slice){number, flags_number_text(value.number, number)};
        break;
    case FLAGS_VALUE_STRING:
        name = flags_value_slice(&value);
        break;
    default:
        return fail(FLAGS_ERROR_GENERAL, SLICE("the targeting rule gave a list or an object, not a variant"));
    }
    uint32_t variant = variant_named(run, flag, name);
    if (variant == FLAGS_NO_VARIANT)
        return fail(FLAGS_ERROR_GENERAL,
                    SLICE("the targeting rule gave a variant that the flag does not have"));
    return (struct decision){.variant = variant, .reason = FLAGS_REASON_TARGETING_MATCH};
}

static uint32_t find_target(const struct flags_run *run, const struct flags_image_extension *extension)
{
    const struct flags_image_target *targets = flags_image_at(run->image, extension->targets);
    struct flags_value key = flags_run_targeting_key(run);
    uint32_t low = 0;
    uint32_t high = extension->target_count;
    if (key.kind != FLAGS_VALUE_STRING)
        return FLAGS_NO_VARIANT;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order =
            flags_slice_order(flags_value_slice(&key), flags_image_slice(run->image, targets[middle].key));
        if (order == 0)
            return targets[middle].variant;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return FLAGS_NO_VARIANT;
}

// True when a prerequisite is not met, or its flag is in error; *unmet then says which.
static bool prerequisites_fail(struct flags_run *run, const struct flags_image_extension *extension,
                               uint32_t *unmet)
{
    const struct flags_image_prerequisite *list = flags_image_at(run->image, extension->prerequisites);
    struct slice flag_key = run->flag_key;
    struct text *path = run->path;
    bool fails = false;
    run->path = NULL;
    for (uint32_t i = 0; i < extension->prerequisite_count && !fails; i++) {
        const struct flags_image_flag *needed = flags_image_at(run->image, list[i].flag);
        fails = true;
        *unmet = i;
        // One step each, so that a web of prerequisites ends too.
        if (flags_run_charge(run, 1)) {
            run->flag_key = flags_image_slice(run->image, needed->key);
            struct decision decision = decide(run, needed);
            fails = decision.variant != list[i].variant || decision.reason == FLAGS_REASON_ERROR;
        }
    }
    run->path = path;
    run->flag_key = flag_key;
    run->note = NULL;
    return fails;
}

// True when the extension decides alone.
static bool decide_by_extension(struct flags_run *run, const struct flags_image_flag *flag,
                                struct decision *decision)
{
    const struct flags_image_extension *extension = flags_image_at(run->image, flag->extension);
    int64_t now_s = run->context->time_s <= INT64_MAX ? (int64_t)run->context->time_s : INT64_MAX;
    uint32_t unmet;
    if (extension->kill != FLAGS_KILL_NONE) {
        bool named = extension->kill == FLAGS_KILL_VARIANT;
        trace(run, "kill");
        *decision = (struct decision){.variant = named ? extension->kill_variant : FLAGS_NO_VARIANT,
                                      .reason = FLAGS_REASON_DISABLED,
                                      .note = "the flag is killed"};
        return true;
    }
    if (extension->prerequisite_count > 0 && prerequisites_fail(run, extension, &unmet)) {
        if (run->path != NULL)
            text_addf(run->path, "prerequisites[%u]", unmet);
        *decision = run->fault != NULL ? fail(FLAGS_ERROR_GENERAL, slice_of(run->fault))
                                       : default_of(flag, "a prerequisite is not met");
        return true;
    }
    bool outside = now_s < extension->from_s || now_s >= extension->until_s;
#ifdef BUG_FLAGS_NO_SCHEDULE
    outside = false;
#endif
    if (outside) {
        trace(run, "schedule");
        *decision = default_of(flag, "outside its schedule");
        return true;
    }
    if (extension->target_count > 0) {
        uint32_t variant = find_target(run, extension);
        if (variant != FLAGS_NO_VARIANT) {
            trace(run, "targets");
            *decision = (struct decision){.variant = variant, .reason = FLAGS_REASON_TARGETING_MATCH};
            return true;
        }
    }
    return false;
}

static struct decision decide(struct flags_run *run, const struct flags_image_flag *flag)
{
    struct decision decision;
    if ((flag->bits & FLAGS_BIT_DISABLED) != 0)
        return (struct decision){.variant = FLAGS_NO_VARIANT, .reason = FLAGS_REASON_DISABLED};
    if (flag->extension != 0 && decide_by_extension(run, flag, &decision))
        return decision;
    if (flag->fault.len > 0)
        return fail(FLAGS_ERROR_PARSE_ERROR, flags_image_slice(run->image, flag->fault));
    if ((flag->bits & FLAGS_BIT_USES_KEY) != 0 && run->context->key_required &&
        flags_run_targeting_key(run).kind != FLAGS_VALUE_STRING)
        return fail(FLAGS_ERROR_TARGETING_KEY_MISSING, SLICE("the flag needs a targeting key"));
    if (flag->targeting != 0)
        return decide_by_rule(run, flag);
    if (flag->extension != 0)
        return default_of(flag, "no individual target");
    decision = default_of(flag, NULL);
    if (flag->default_variant != FLAGS_NO_VARIANT)
        decision.reason = FLAGS_REASON_STATIC;
    else
        decision.note = "the flag has no default variant";
    return decision;
}

static bool type_fits(enum flags_type wanted, const struct flags_image_variant *variant)
{
    if (wanted == FLAGS_ANY)
        return true;
    if (wanted == FLAGS_INTEGER)
        return variant->type == FLAGS_FLOAT && variant->number == trunc(variant->number);
    return variant->type == wanted;
}

static void set_value(const uint8_t *image, const struct flags_image_variant *variant,
                      struct flags_result *result)
{
    result->has_value = true;
    result->type = (enum flags_type)variant->type;
    result->boolean = variant->boolean;
    result->number = variant->number;
    result->json = flags_image_slice(image, variant->json);
    result->text = flags_image_slice(image, variant->text);
    result->variant = flags_image_slice(image, variant->name);
}

static void set_error(struct flags_result *result, enum flags_error error, struct slice why)
{
    result->reason = FLAGS_REASON_ERROR;
    result->error = error;
    result->error_text = why;
}

void flags_explain(const struct flags_set *set, struct slice key, enum flags_type type,
                   const struct flags_context *context, struct flags_scratch scratch,
                   struct flags_result *result, struct text *path)
{
    static const struct slice NONE = {"", 0};
    *result = (struct flags_result){
        .text = NONE, .json = NONE, .variant = NONE, .error_text = NONE, .note = NONE, .metadata = NONE};
    const struct flags_image_flag *flag = flags_image_find(set->image, key);
    if (flag == NULL) {
        result->metadata = flags_set_metadata(set);
        set_error(result, FLAGS_ERROR_FLAG_NOT_FOUND, SLICE("the set has no such flag"));
        return;
    }
    result->metadata = flags_image_slice(set->image, flag->metadata);
    if (context->tree != NULL && context->tree->kind != FLAGS_JSON_OBJECT) {
        set_error(result, FLAGS_ERROR_INVALID_CONTEXT, SLICE("the context is not an object"));
        return;
    }
    const struct flags_image_header *header = flags_image_at(set->image, 0);
    struct flags_run run = {
        .image = set->image,
        .context = context,
        .flag_key = flags_image_slice(set->image, flag->key),
        .scratch = scratch,
        .generation = (enum flags_generation)header->generation,
        .path = path,
    };
    struct decision decision = decide(&run, flag);
    result->reason = decision.reason;
    result->error = decision.error;
    result->error_text = decision.text.data != NULL ? decision.text : NONE;
    result->note = decision.note != NULL ? slice_of(decision.note) : NONE;
    if (decision.variant == FLAGS_NO_VARIANT)
        return;
    const struct flags_image_variant *variant = variants_of(set->image, flag) + decision.variant;
    if (!type_fits(type, variant))
        set_error(result, FLAGS_ERROR_TYPE_MISMATCH, SLICE("the flag's values are of another type"));
    else
        set_value(set->image, variant, result);
}

void flags_evaluate(const struct flags_set *set, struct slice key, enum flags_type type,
                    const struct flags_context *context, struct flags_scratch scratch,
                    struct flags_result *result)
{
    flags_explain(set, key, type, context, scratch, result, NULL);
}
