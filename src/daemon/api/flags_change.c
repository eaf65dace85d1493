// SPDX-License-Identifier: Apache-2.0
// Changes of flags at runtime. Everything is checked before anything is kept; what is answered with 200 is in
// the journal, and its number says when it is in force.
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "daemon/api/flags.h"
#include "flags/set/flagset.h"

// ---- one change ----

// Is it in force already? And the end.
static void write_number(struct api_call *call, uint64_t number)
{
    json_out_count(&call->out, "change", number);
    json_out_bool(&call->out, "in_force",
                  flagset_current(runtime_flagset(targets_of(call->engine)->runtime))->change >= number);
    json_out_close(&call->out, '}');
}

static void answer_change(struct api_call *call, const struct runtime_change *change, uint64_t number)
{
    json_out_open(&call->out, NULL, '{');
    json_out_text(&call->out, "key", change->key);
    json_out_text(&call->out, "op", runtime_op_name(change->op));
    json_out_text(&call->out, "variant",
                  change->variant != NULL && change->variant[0] != '\0' ? change->variant : NULL);
    write_number(call, number);
}

static bool has_variant(const struct flags_image *set, const struct runtime_change *change)
{
    struct slice name, json;
    if (change->variant == NULL || change->variant[0] == '\0')
        return true;
    for (uint32_t i = 0; flags_image_variant_get(set, slice_of(change->key), i, &name, &json); i++)
        if (slice_equal(name, slice_of(change->variant)))
            return true;
    return false;
}

// "flag 'f' has no variant 'x'; it has 'on', 'off'"
static void answer_no_variant(struct api_call *call, const struct flags_image *set,
                              const struct runtime_change *change)
{
    enum { NAMED_MAX = 20 };
    char message[1200];
    struct text text = text_over(message, sizeof message);
    struct slice name, json;
    text_addf(&text, "flag '%s' has no variant '%s'; it has", change->key, change->variant);
    for (uint32_t i = 0;
         i < NAMED_MAX && flags_image_variant_get(set, slice_of(change->key), i, &name, &json); i++)
        text_addf(&text, "%s '" SLICE_FMT "'", i > 0 ? "," : "", SLICE_ARG(name));
    api_error(call, 400, "invalid", message);
}

// Completes the change by who asks, and makes it.
static void make_change(struct api_call *call, const struct flags_json *body, struct runtime_change *change)
{
    static struct fault fault;
    char who[ROLLOUT_WHO_BYTES];
    uint64_t number = 0;
    api_who(call, body, who);
    change->key = call->words[0];
    change->who = who;
    change->from = call->from;
    fault.text[0] = '\0';
    enum status status = runtime_apply(targets_of(call->engine)->runtime, change, &number, &fault);
    struct flags_info info;
    const struct flags_image *set =
        &flagset_current(runtime_flagset(targets_of(call->engine)->runtime))->all.set;
    if (status == STATUS_OK)
        answer_change(call, change, number);
    else if (status == STATUS_NOT_FOUND && !flags_image_find(set, slice_of(change->key), &info))
        api_flags_unknown(call, slice_of(change->key));
    else if ((status == STATUS_NOT_FOUND || status == STATUS_INVALID) && !has_variant(set, change))
        answer_no_variant(call, set, change);
    else
        api_refuse(call, status, fault.text[0] != '\0' ? fault.text : status_name(status));
}

static bool definition_fits(struct api_call *call, struct slice definition)
{
    if (definition.len > RUNTIME_DEFINITION_BYTES)
        api_error(call, 413, "too_large", "a definition may have 512 KiB");
    else if (definition.len == 0)
        api_error(call, 400, "invalid",
                  "the body must be the flag's definition, such as {\"state\": \"ENABLED\", "
                  "\"variants\": {\"on\": true, \"off\": false}, \"defaultVariant\": \"off\"}");
    return definition.len > 0 && definition.len <= RUNTIME_DEFINITION_BYTES;
}

void api_flags_put(struct api_call *call)
{
    struct runtime_change change = {.op = RUNTIME_SET, .definition = call->body};
    if (definition_fits(call, call->body))
        make_change(call, NULL, &change);
}

void api_flags_delete(struct api_call *call)
{
    make_change(call, NULL, &(struct runtime_change){.op = RUNTIME_UNSET});
}

static void change_state(struct api_call *call, enum runtime_op op)
{
    struct api_body body;
    char variant[ROLLOUT_NAME_BYTES] = "";
    if (!api_body_read(call, &body))
        return;
    const struct flags_json *given = flags_json_member(body.root, SLICE("variant"));
    bool named = given != NULL && given->kind != FLAGS_JSON_NULL;
    bool fits = !named || (given->kind == FLAGS_JSON_STRING && given->text.len < sizeof variant &&
                           memchr(given->text.data, '\0', given->text.len) == NULL);
    if (fits && named)
        memcpy(variant, given->text.data, given->text.len);
    if (!fits)
        api_error(call, 400, "invalid", "variant is the name of one of the flag's variants");
    else if (named && op == RUNTIME_ON)
        api_error(call, 400, "invalid", "'on' takes no variant: the flag's own rules decide again");
    else
        make_change(call, body.root, &(struct runtime_change){.op = op, .variant = variant});
    api_body_free(&body);
}

void api_flags_on(struct api_call *call)
{
    change_state(call, RUNTIME_ON);
}

void api_flags_off(struct api_call *call)
{
    change_state(call, RUNTIME_OFF);
}

// ---- many at once ----

// False: it has answered.
static bool import_fits(struct api_call *call, const struct flags_json *flags)
{
    for (const struct flags_json *flag = flags->first; flag != NULL; flag = flag->next) {
        if (flag->key.len >= RUNTIME_KEY_BYTES || memchr(flag->key.data, '\0', flag->key.len) != NULL) {
            api_error(call, 400, "invalid", "a key is longer than 255 bytes or holds a NUL");
            return false;
        }
        if (!definition_fits(call, flag->text))
            return false;
    }
    if (flags->count <= API_FLAGS_IMPORT_MAX)
        return true;
    api_error(call, 413, "too_large", "one import may have 200 flags; send several");
    return false;
}

// Together, because they may be each other's prerequisites.
static bool import_check(struct api_call *call, struct slice flags)
{
    struct fault problem = {.text = ""};
    char message[FAULT_TEXT_BYTES + 64];
    enum status status =
        flagset_check_flags(runtime_flagset(targets_of(call->engine)->runtime), flags, &problem);
    if (status == STATUS_OK)
        return true;
    snprintf(message, sizeof message, "%s; nothing was changed",
             problem.text[0] != '\0' ? problem.text : status_name(status));
    api_refuse(call, status, message);
    return false;
}

static void import_apply(struct api_call *call, const struct flags_json *root, const struct flags_json *flags)
{
    static struct fault fault;
    char who[ROLLOUT_WHO_BYTES];
    char key[RUNTIME_KEY_BYTES];
    uint32_t count = 0;
    uint64_t number = 0; // of the newest change
    api_who(call, root, who);
    for (const struct flags_json *flag = flags->first; flag != NULL; flag = flag->next, count++) {
        struct runtime_change change = {.op = RUNTIME_SET,
                                        .key = key,
                                        .definition = flag->text,
                                        .who = who,
                                        .from = call->from,
                                        .checked = true};
        utf8_copy(key, sizeof key, flag->key);
        fault.text[0] = '\0';
        enum status status = runtime_apply(targets_of(call->engine)->runtime, &change, &number, &fault);
        if (status == STATUS_OK)
            continue;
        char message[FAULT_TEXT_BYTES + RUNTIME_KEY_BYTES + 64];
        snprintf(message, sizeof message, "flag '%s': %s; the %u flags before it are set", key,
                 fault.text[0] != '\0' ? fault.text : status_name(status), count);
        api_refuse(call, status, message);
        return;
    }
    json_out_open(&call->out, NULL, '{');
    json_out_count(&call->out, "set", count);
    write_number(call, number);
}

// All are checked before the first is kept.
void api_flags_import(struct api_call *call)
{
    struct api_body body;
    if (!api_body_read(call, &body))
        return;
    const struct flags_json *flags = flags_json_member(body.root, SLICE("flags"));
    bool good = flags != NULL && flags->kind == FLAGS_JSON_OBJECT;
    if (!good)
        api_error(call, 400, "invalid", "the body must be {\"flags\": {\"key\": {definition}, ...}}");
    good = good && import_fits(call, flags) && import_check(call, flags->text);
    if (good)
        import_apply(call, body.root, flags);
    api_body_free(&body);
}
