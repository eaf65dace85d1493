// SPDX-License-Identifier: Apache-2.0
// Evaluations. Under the guard there are only the evaluator and copies into the caller's memory, nothing that
// may wait or call back. Hooks run outside the guard. Without hooks and details, only the work for the answer
// is done.

#include "base/check.h"
#include "flags/library/library_private.h"

const char *sluice_flags_version(void)
{
    return SLUICE_VERSION;
}

const char *sluice_flags_error_name(enum sluice_flags_error error)
{
    static const char *const NAMES[] = {"",
                                        "PROVIDER_NOT_READY",
                                        "FLAG_NOT_FOUND",
                                        "PARSE_ERROR",
                                        "TYPE_MISMATCH",
                                        "TARGETING_KEY_MISSING",
                                        "INVALID_CONTEXT",
                                        "PROVIDER_FATAL",
                                        "GENERAL"};
    return (size_t)error < ARRAY_LEN(NAMES) ? NAMES[error] : "GENERAL";
}

const char *sluice_flags_reason_name(enum sluice_flags_reason reason)
{
    static const char *const NAMES[] = {"UNKNOWN",  "STATIC", "TARGETING_MATCH", "DEFAULT", "SPLIT",
                                        "DISABLED", "ERROR"};
    return (size_t)reason < ARRAY_LEN(NAMES) ? NAMES[reason] : "UNKNOWN";
}

static enum sluice_flags_error error_of(enum flags_error error)
{
    static const uint8_t CODES[] = {
        [FLAGS_ERROR_NONE] = SLUICE_FLAGS_ERROR_NONE,
        [FLAGS_ERROR_FLAG_NOT_FOUND] = SLUICE_FLAGS_ERROR_FLAG_NOT_FOUND,
        [FLAGS_ERROR_TYPE_MISMATCH] = SLUICE_FLAGS_ERROR_TYPE_MISMATCH,
        [FLAGS_ERROR_PARSE_ERROR] = SLUICE_FLAGS_ERROR_PARSE_ERROR,
        [FLAGS_ERROR_TARGETING_KEY_MISSING] = SLUICE_FLAGS_ERROR_TARGETING_KEY_MISSING,
        [FLAGS_ERROR_INVALID_CONTEXT] = SLUICE_FLAGS_ERROR_INVALID_CONTEXT,
        [FLAGS_ERROR_GENERAL] = SLUICE_FLAGS_ERROR_GENERAL,
    };
    return (enum sluice_flags_error)CODES[error];
}

static enum sluice_flags_reason reason_of(enum flags_reason reason)
{
    static const uint8_t CODES[] = {
        [FLAGS_REASON_STATIC] = SLUICE_FLAGS_REASON_STATIC,
        [FLAGS_REASON_TARGETING_MATCH] = SLUICE_FLAGS_REASON_TARGETING_MATCH,
        [FLAGS_REASON_DEFAULT] = SLUICE_FLAGS_REASON_DEFAULT,
        [FLAGS_REASON_SPLIT] = SLUICE_FLAGS_REASON_SPLIT,
        [FLAGS_REASON_DISABLED] = SLUICE_FLAGS_REASON_DISABLED,
        [FLAGS_REASON_ERROR] = SLUICE_FLAGS_REASON_ERROR,
    };
    return (enum sluice_flags_reason)CODES[reason];
}

static enum flags_type type_of(enum sluice_flags_type type)
{
    static const uint8_t TYPES[] = {
        [SLUICE_FLAGS_BOOLEAN] = FLAGS_BOOLEAN, [SLUICE_FLAGS_STRING] = FLAGS_STRING,
        [SLUICE_FLAGS_INTEGER] = FLAGS_INTEGER, [SLUICE_FLAGS_DOUBLE] = FLAGS_FLOAT,
        [SLUICE_FLAGS_OBJECT] = FLAGS_OBJECT,
    };
    return (enum flags_type)TYPES[type];
}

static bool copy(char *out, size_t cap, struct slice text)
{
    size_t len = text.len < cap ? text.len : cap - 1;
    if (cap == 0)
        return text.len == 0;
    if (len > 0)
        memcpy(out, text.data, len);
    out[len] = '\0';
    return len == text.len;
}

// ---- one answer ----

static void refuse(struct flags_result *result, enum flags_error error, struct slice why)
{
    *result = (struct flags_result){.reason = FLAGS_REASON_ERROR, .error = error, .error_text = why};
}

static void set_value(struct flags_result *result, struct sluice_flags_value *value)
{
    switch (value->type) {
    case SLUICE_FLAGS_BOOLEAN:
        value->boolean = result->boolean;
        break;
    case SLUICE_FLAGS_INTEGER:
        if (!flags_result_integer(result, &value->integer)) {
            result->has_value = false;
            result->reason = FLAGS_REASON_ERROR;
            result->error = FLAGS_ERROR_TYPE_MISMATCH;
            result->error_text = SLICE("the number does not fit into 64 bits");
        }
        break;
    case SLUICE_FLAGS_DOUBLE:
        value->number = result->number;
        break;
    case SLUICE_FLAGS_STRING:
    case SLUICE_FLAGS_OBJECT:
        value->text = result->text.data;
        value->text_len = result->text.len;
        break;
    }
}

static void resolve(const struct sluice_flags_provider *provider, const struct library_set *set,
                    const char *key, const struct sluice_flags_context *context,
                    struct sluice_flags_value *value, struct flags_result *result)
{
    char scratch[FLAGS_SCRATCH_DEFAULT];
    if (UNLIKELY(key == NULL || (unsigned)value->type > SLUICE_FLAGS_OBJECT)) {
        refuse(result, FLAGS_ERROR_GENERAL, SLICE("no flag key, or no type"));
        return;
    }
    if (UNLIKELY(context != NULL && context->broken)) {
        refuse(result, FLAGS_ERROR_INVALID_CONTEXT, SLICE("something could not be set in the context"));
        return;
    }
    struct flags_context about = {
        .key_required = provider->key_required,
        .time_s = (uint64_t)atomic_load_explicit(&provider->time_s, memory_order_relaxed)};
    if (context != NULL) {
        about.tree = &context->tree;
        about.has_targeting_key = context->has_key;
        about.targeting_key = context->key;
    }
    flags_evaluate(&set->set, slice_of(key), type_of(value->type), &about,
                   (struct flags_scratch){scratch, sizeof scratch}, result);
    if (result->has_value)
        set_value(result, value);
}

static void fill(struct sluice_flags_details *details, const struct library_set *set,
                 const struct flags_result *result)
{
    details->reason = reason_of(result->reason);
    details->error = error_of(result->error);
    details->defaulted = !result->has_value;
    details->generation = set->generation;
    details->metadata_len = result->metadata.len;
    bool whole = copy(details->variant, sizeof details->variant, result->variant);
    struct slice message = result->error_text.len > 0 ? result->error_text : result->note;
    whole = copy(details->error_message, sizeof details->error_message, message) && whole;
    if (details->metadata != NULL)
        whole = copy(details->metadata, details->metadata_cap, result->metadata) && whole;
    details->cut = !whole;
}

static void not_ready(struct sluice_flags_details *details)
{
    details->reason = SLUICE_FLAGS_REASON_ERROR;
    details->error = SLUICE_FLAGS_ERROR_PROVIDER_NOT_READY;
    details->defaulted = true;
    details->cut = false;
    details->generation = 0;
    details->metadata_len = 0;
    details->variant[0] = '\0';
    (void)copy(details->error_message, sizeof details->error_message,
               SLICE("the provider has no set of flags yet"));
    if (details->metadata != NULL)
        (void)copy(details->metadata, details->metadata_cap, SLICE(""));
}

static void answer(const struct sluice_flags_provider *provider, const struct library_set *set,
                   const char *key, const struct sluice_flags_context *context,
                   struct sluice_flags_value *value, struct sluice_flags_details *details)
{
    struct flags_result result;
    if (UNLIKELY(set == NULL)) {
        if (details != NULL)
            not_ready(details);
        return;
    }
    resolve(provider, set, key, context, value, &result);
    if (details != NULL)
        fill(details, set, &result);
}

// ---- hooks ----

static void before(const struct sluice_flags_hook *hooks, uint32_t count,
                   const struct sluice_flags_hook_context *about)
{
    for (uint32_t i = 0; i < count; i++)
        if (hooks[i].before != NULL)
            hooks[i].before(hooks[i].data, about);
}

static void after(const struct sluice_flags_hook *hooks, uint32_t count,
                  const struct sluice_flags_hook_context *about, const struct sluice_flags_value *value,
                  const struct sluice_flags_details *details)
{
    for (uint32_t i = count; i-- > 0;) {
        const struct sluice_flags_hook *hook = &hooks[i];
        if (details->error == SLUICE_FLAGS_ERROR_NONE && hook->after != NULL)
            hook->after(hook->data, about, value, details);
        if (details->error != SLUICE_FLAGS_ERROR_NONE && hook->error != NULL)
            hook->error(hook->data, about, details);
    }
    for (uint32_t i = count; i-- > 0;)
        if (hooks[i].finally != NULL)
            hooks[i].finally(hooks[i].data, about, value, details);
}

// ---- one call ----

// The memory into which a text is copied before the set is left; otherwise cap 0 and NULL.
struct room {
    char *out;
    size_t cap;
};

// Makes the value point at a copy of its text. Returns the whole length of the text.
static size_t move_text(struct sluice_flags_value *value, struct room room,
                        struct sluice_flags_details *details)
{
    size_t len = value->text_len;
    if (!copy(room.out, room.cap, (struct slice){value->text, len}) && details != NULL)
        details->cut = true;
    value->text = room.cap > 0 ? room.out : "";
    value->text_len = room.cap == 0 ? 0 : len < room.cap ? len : room.cap - 1;
    return len;
}

static bool has_text(const struct sluice_flags_value *value)
{
    return value->type == SLUICE_FLAGS_STRING || value->type == SLUICE_FLAGS_OBJECT;
}

static size_t guarded(struct sluice_flags_provider *provider, const char *key,
                      const struct sluice_flags_context *context, struct sluice_flags_value *value,
                      struct room room, struct sluice_flags_details *details)
{
    size_t len = 0;
    struct library_guard guard = library_enter(provider);
    answer(provider, guard.set, key, context, value, details);
    if (has_text(value))
        len = move_text(value, room, details);
    library_leave(guard);
    return len;
}

static __attribute__((noinline)) size_t hooked(struct sluice_flags_provider *provider, uint32_t count,
                                               const char *key, const struct sluice_flags_context *context,
                                               struct sluice_flags_value *value, struct room room,
                                               struct sluice_flags_details *details)
{
    struct sluice_flags_details own = SLUICE_FLAGS_DETAILS_INIT;
    struct sluice_flags_hook_context about = {provider, key, value->type, context};
    if (details == NULL)
        details = &own;
    before(provider->hooks, count, &about);
    size_t len = guarded(provider, key, context, value, room, details);
    after(provider->hooks, count, &about, value, details);
    return len;
}

static size_t evaluate(struct sluice_flags_provider *provider, const char *key,
                       const struct sluice_flags_context *context, struct sluice_flags_value *value,
                       struct room room, struct sluice_flags_details *details)
{
    uint32_t hooks = atomic_load_explicit(&provider->hook_count, memory_order_acquire);
    if (UNLIKELY(hooks > 0))
        return hooked(provider, hooks, key, context, value, room, details);
    return guarded(provider, key, context, value, room, details);
}

static const struct room NO_ROOM = {NULL, 0};

bool sluice_flags_boolean(struct sluice_flags_provider *provider, const char *key, bool default_value,
                          const struct sluice_flags_context *context, struct sluice_flags_details *details)
{
    struct sluice_flags_value value = {.type = SLUICE_FLAGS_BOOLEAN, .boolean = default_value};
    (void)evaluate(provider, key, context, &value, NO_ROOM, details);
    return value.boolean;
}

int64_t sluice_flags_integer(struct sluice_flags_provider *provider, const char *key, int64_t default_value,
                             const struct sluice_flags_context *context, struct sluice_flags_details *details)
{
    struct sluice_flags_value value = {.type = SLUICE_FLAGS_INTEGER, .integer = default_value};
    (void)evaluate(provider, key, context, &value, NO_ROOM, details);
    return value.integer;
}

double sluice_flags_double(struct sluice_flags_provider *provider, const char *key, double default_value,
                           const struct sluice_flags_context *context, struct sluice_flags_details *details)
{
    struct sluice_flags_value value = {.type = SLUICE_FLAGS_DOUBLE, .number = default_value};
    (void)evaluate(provider, key, context, &value, NO_ROOM, details);
    return value.number;
}

static size_t evaluate_text(struct sluice_flags_provider *provider, const char *key,
                            enum sluice_flags_type type, const char *default_value,
                            const struct sluice_flags_context *context, struct room room,
                            struct sluice_flags_details *details)
{
    if (default_value == NULL)
        default_value = "";
    struct sluice_flags_value value = {
        .type = type, .text = default_value, .text_len = strlen(default_value)};
    return evaluate(provider, key, context, &value, room, details);
}

size_t sluice_flags_string(struct sluice_flags_provider *provider, const char *key, const char *default_value,
                           const struct sluice_flags_context *context, char *out, size_t cap,
                           struct sluice_flags_details *details)
{
    return evaluate_text(provider, key, SLUICE_FLAGS_STRING, default_value, context, (struct room){out, cap},
                         details);
}

size_t sluice_flags_object(struct sluice_flags_provider *provider, const char *key, const char *default_value,
                           const struct sluice_flags_context *context, char *out, size_t cap,
                           struct sluice_flags_details *details)
{
    return evaluate_text(provider, key, SLUICE_FLAGS_OBJECT, default_value, context, (struct room){out, cap},
                         details);
}

// ---- holds ----

bool sluice_flags_hold_begin(struct sluice_flags_provider *provider, struct sluice_flags_hold *hold)
{
    struct library_guard guard = library_enter(provider);
    if (guard.set != NULL)
        atomic_fetch_add_explicit(&guard.set->holds, 1, memory_order_relaxed);
    library_leave(guard);
    *hold = (struct sluice_flags_hold){provider, guard.set};
    return guard.set != NULL;
}

void sluice_flags_hold_end(struct sluice_flags_hold *hold)
{
    struct library_set *set = hold->set;
    if (set != NULL)
        atomic_fetch_sub_explicit(&set->holds, 1, memory_order_release);
    hold->set = NULL;
}

void sluice_flags_hold_evaluate(const struct sluice_flags_hold *hold, const char *key,
                                const struct sluice_flags_context *context, struct sluice_flags_value *value,
                                struct sluice_flags_details *details)
{
    struct sluice_flags_provider *provider = hold->provider;
    uint32_t hooks = atomic_load_explicit(&provider->hook_count, memory_order_acquire);
    if (hooks == 0) {
        answer(provider, hold->set, key, context, value, details);
        return;
    }
    struct sluice_flags_details own = SLUICE_FLAGS_DETAILS_INIT;
    struct sluice_flags_hook_context about = {provider, key, value->type, context};
    if (details == NULL)
        details = &own;
    before(provider->hooks, hooks, &about);
    answer(provider, hold->set, key, context, value, details);
    after(provider->hooks, hooks, &about, value, details);
}
