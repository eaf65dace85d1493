// SPDX-License-Identifier: Apache-2.0
// From a key and a context to a value. These decide in order: kill, state, prerequisites, schedule,
// individual targets, targeting, default variant. The split of a rollout may then change the variant that the
// last two gave.
#include <math.h>

#include "base/check.h"
#include "flags/eval/flags_private.h"

#define EXACT_MAX 9007199254740992.0      // 2^53
#define INTEGER_MAX 9223372036854775808.0 // 2^63

const char *flags_reason_name(enum flags_reason reason)
{
    static const char *const NAMES[] = {"STATIC", "TARGETING_MATCH", "DEFAULT", "SPLIT", "DISABLED", "ERROR"};
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

// Which variant, and why. FLAGS_NO_VARIANT: the caller's own default answers.
struct decision {
    uint32_t variant;
    enum flags_reason reason;
    enum flags_error error;
    enum flags_arm arm;
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

struct flags_value flags_rule_value(struct flags_run *run, const struct flags_image_flag *flag)
{
    static const struct flags_scope CONTEXT = {.kind = FLAGS_SCOPE_CONTEXT};
    return flags_eval(run, flags_image_at(run->image, flag->targeting), &CONTEXT, true);
}

// From a rule's result to a variant: null is the default variant; a string, or a value with only one form as
// text, names a variant.
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
    uint32_t variant = flags_find_variant(run->image, flag, name);
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

// True when a prerequisite is not met or its flag is in error; *unmet is then that prerequisite.
static bool prerequisites_fail(struct flags_run *run, const struct flags_image_extension *extension,
                               uint32_t *unmet)
{
    const struct flags_image_prerequisite *list = flags_image_at(run->image, extension->prerequisites);
    struct slice flag_key = run->flag_key;
    enum flags_generation generation = run->generation;
    struct text *path = run->path;
    bool fails = false;
    run->path = NULL;
    for (uint32_t i = 0; i < extension->prerequisite_count && !fails; i++) {
        const struct flags_image_flag *needed = flags_image_at(run->image, list[i].flag);
        fails = true;
        *unmet = i;
        // Each prerequisite costs a step, so that a large web of prerequisites ends too.
        if (flags_run_charge(run, 1)) {
            run->flag_key = flags_image_slice(run->image, needed->key);
            run->generation = (enum flags_generation)needed->generation;
            struct decision decision = decide(run, needed);
            fails = decision.variant != list[i].variant || decision.reason == FLAGS_REASON_ERROR;
        }
    }
    run->path = path;
    run->flag_key = flag_key;
    run->generation = generation;
    run->note = NULL;
    return fails;
}

// True when the settings under "x-sluice" decide without the rule.
static bool decide_by_extension(struct flags_run *run, const struct flags_image_flag *flag,
                                struct decision *decision)
{
    const struct flags_image_extension *extension = flags_image_at(run->image, flag->extension);
    int64_t now_s = run->context->time_s <= INT64_MAX ? (int64_t)run->context->time_s : INT64_MAX;
    uint32_t unmet;
    if (extension->prerequisite_count > 0 && prerequisites_fail(run, extension, &unmet)) {
        if (run->path != NULL)
            text_addf(run->path, "prerequisites[%u]", unmet);
        *decision = run->fault != NULL ? fail(FLAGS_ERROR_GENERAL, slice_of(run->fault))
                                       : default_of(flag, "a prerequisite is not met");
        return true;
    }
    bool outside = now_s < extension->from_s || now_s >= extension->until_s;
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

static struct decision killed(struct flags_run *run, const struct flags_image_flag *flag)
{
    trace(run, "kill");
    return (struct decision){
        .variant = flag->kill_variant, .reason = FLAGS_REASON_DISABLED, .note = "the flag is killed"};
}

// Targeting, or else the default.
static struct decision decide_by_targeting(struct flags_run *run, const struct flags_image_flag *flag)
{
    struct decision decision;
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

// The split

// Whether a segment's rule is true. The rule sees the segment's name as the flag key, so that its members are
// the same for every flag that asks.
static bool in_segment(struct flags_run *run, uint32_t segment)
{
    static const struct flags_scope CONTEXT = {.kind = FLAGS_SCOPE_CONTEXT};
    const struct flags_image_header *header = flags_image_at(run->image, 0);
    const struct flags_image_evaluator *evaluator = flags_image_at(run->image, segment);
    struct flags_run inner = *run;
    inner.flag_key = flags_image_slice(run->image, evaluator->name);
    inner.generation = (enum flags_generation)header->segment_generation;
    inner.path = NULL;
    struct flags_value value =
        flags_eval(&inner, flags_image_at(run->image, evaluator->node), &CONTEXT, false);
    run->steps = inner.steps;
    run->fault = inner.fault;
    return inner.fault == NULL && flags_value_truth(&value);
}

// The first ring that has the context as a member; ring_count when none has.
static uint32_t find_ring(struct flags_run *run, const struct flags_image_split *split)
{
    const uint32_t *rings = (const uint32_t *)(split + 1);
    for (uint32_t i = 0; i < split->ring_count && run->fault == NULL; i++)
        if (in_segment(run, rings[i]))
            return i;
    return split->ring_count;
}

static struct decision decide_by_split(struct flags_run *run, const struct flags_image_split *split,
                                       struct slice key, size_t path_begin)
{
    uint32_t ring = find_ring(run, split);
    if (run->fault != NULL)
        return fail(FLAGS_ERROR_GENERAL, slice_of(run->fault));
    struct decision decision = {.variant = split->to, .reason = FLAGS_REASON_SPLIT};
    if (run->path != NULL) {
        run->path->len = path_begin;
        run->path->data[path_begin] = '\0';
    }
    if (ring < split->ring_count) {
        if (run->path != NULL)
            text_addf(run->path, "rollout.ring[%u]", ring);
        decision.arm = FLAGS_ARM_RING;
        return decision;
    }
    trace(run, "rollout.split");
    const struct siphash_key salt = {(uint64_t)split->salt[1] << 32 | split->salt[0],
                                     (uint64_t)split->salt[3] << 32 | split->salt[2]};
    bool to = flags_bucket_of_split(salt, run->flag_key, key, FLAGS_SHARE_TOTAL) < split->share;
    decision.arm = to ? FLAGS_ARM_TO : FLAGS_ARM_FROM;
    decision.variant = to ? split->to : split->from;
    return decision;
}

static struct decision decide(struct flags_run *run, const struct flags_image_flag *flag)
{
    struct decision decision;
    size_t path_begin = run->path != NULL ? run->path->len : 0;
    if ((flag->bits & FLAGS_BIT_KILLED) != 0)
        return killed(run, flag);
    if ((flag->bits & FLAGS_BIT_DISABLED) != 0)
        return (struct decision){.variant = FLAGS_NO_VARIANT, .reason = FLAGS_REASON_DISABLED};
    bool decided = flag->extension != 0 && decide_by_extension(run, flag, &decision);
    if (decided)
        return decision;
    decision = decide_by_targeting(run, flag);
    if (flag->split == 0 || decision.error != FLAGS_ERROR_NONE)
        return decision;
    const struct flags_image_split *split = flags_image_at(run->image, flag->split);
    struct flags_value key = flags_run_targeting_key(run);
    bool asked = decision.variant == split->from;
    if (!asked || key.kind != FLAGS_VALUE_STRING)
        return decision;
    return decide_by_split(run, split, flags_value_slice(&key), path_begin);
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

// The counter of an outcome. A flag has one for each variant, one for "no variant" and one for errors.
static void count(struct flags_result *result, const struct flags_image_flag *flag, uint32_t variant)
{
    uint32_t at = variant != FLAGS_NO_VARIANT ? variant : flag->variant_count;
    if (result->error != FLAGS_ERROR_NONE)
        at = flag->variant_count + 1;
    result->counter = flag->first_counter + at;
}

static void answer(const struct flags_image *set, const struct flags_image_flag *flag, enum flags_type type,
                   struct flags_run *run, struct flags_result *result)
{
    struct decision decision = decide(run, flag);
    result->reason = decision.reason;
    result->arm = decision.arm;
    if (decision.text.data != NULL)
        result->error_text = decision.text;
    result->error = decision.error;
    if (decision.note != NULL)
        result->note = slice_of(decision.note);
    if (decision.variant != FLAGS_NO_VARIANT) {
        const struct flags_image_variant *variant = variants_of(set->image, flag) + decision.variant;
        if (!type_fits(type, variant))
            set_error(result, FLAGS_ERROR_TYPE_MISMATCH, SLICE("the flag's values are of another type"));
        else
            set_value(set->image, variant, result);
    }
    count(result, flag, decision.variant);
}

void flags_explain(const struct flags_image *set, struct slice key, enum flags_type type,
                   const struct flags_context *context, struct flags_scratch scratch,
                   struct flags_result *result, struct text *path)
{
    static const struct slice NONE = {"", 0};
    *result = (struct flags_result){
        .text = NONE, .json = NONE, .variant = NONE, .error_text = NONE, .note = NONE, .metadata = NONE};
    const struct flags_image_flag *flag = flags_find_key(set->image, key);
    if (flag == NULL) {
        result->metadata = flags_image_metadata(set);
        set_error(result, FLAGS_ERROR_FLAG_NOT_FOUND, SLICE("the set has no such flag"));
        return;
    }
    result->metadata = flags_image_slice(set->image, flag->metadata);
    if (context->tree != NULL && context->tree->kind != FLAGS_JSON_OBJECT) {
        set_error(result, FLAGS_ERROR_INVALID_CONTEXT, SLICE("the context is not an object"));
        count(result, flag, FLAGS_NO_VARIANT);
        return;
    }
    struct flags_run run = {
        .image = set->image,
        .context = context,
        .flag_key = flags_image_slice(set->image, flag->key),
        .scratch = scratch,
        .generation = (enum flags_generation)flag->generation,
        .path = path,
    };
    answer(set, flag, type, &run, result);
}

void flags_evaluate(const struct flags_image *set, struct slice key, enum flags_type type,
                    const struct flags_context *context, struct flags_scratch scratch,
                    struct flags_result *result)
{
    flags_explain(set, key, type, context, scratch, result, NULL);
}

bool flags_segment_matches(const struct flags_image *set, struct slice name,
                           const struct flags_context *context, struct flags_scratch scratch, bool *matches)
{
    const struct flags_image_header *header = flags_image_at(set->image, 0);
    uint32_t segment = flags_find_name(set->image, header->segments, name);
    if (segment == 0)
        return false;
    struct flags_run run = {.image = set->image, .context = context, .scratch = scratch};
    bool object = context->tree == NULL || context->tree->kind == FLAGS_JSON_OBJECT;
    *matches = object && in_segment(&run, segment);
    return true;
}

enum status flags_type_read(struct slice word, enum flags_type *type)
{
    static const struct {
        struct slice word;
        enum flags_type type;
    } TYPES[] = {
        {SLICE("any"), FLAGS_ANY},         {SLICE("boolean"), FLAGS_BOOLEAN}, {SLICE("string"), FLAGS_STRING},
        {SLICE("integer"), FLAGS_INTEGER}, {SLICE("float"), FLAGS_FLOAT},     {SLICE("number"), FLAGS_FLOAT},
        {SLICE("object"), FLAGS_OBJECT},
    };
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        if (!slice_equal(word, TYPES[i].word))
            continue;
        *type = TYPES[i].type;
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

// The digits as written, for whole numbers that a double does not hold exactly.
static bool parse_integer(struct slice json, int64_t *out)
{
    bool negative = json.len > 0 && json.data[0] == '-';
    int64_t value = 0;
    for (size_t i = negative; i < json.len; i++) {
        int digit = json.data[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digit, &value))
            return false;
    }
    if (!negative && value == INT64_MIN)
        return false;
    *out = negative ? value : -value;
    return true;
}

bool flags_result_integer(const struct flags_result *result, int64_t *out)
{
    double number = result->number;
    bool large = number >= EXACT_MAX || number <= -EXACT_MAX;
    if (large && parse_integer(result->json, out))
        return true;
    if (number >= INTEGER_MAX || number < -INTEGER_MAX)
        return false;
    *out = (int64_t)number;
    return true;
}
