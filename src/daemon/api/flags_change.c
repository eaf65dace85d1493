// SPDX-License-Identifier: Apache-2.0
// Changes of flags at runtime. Everything is checked before anything is kept; what is answered with 200 is in
// the journal, and its number says when it is in force.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "daemon/api/flags.h"

// ---- bodies ----

enum { BODY_BYTES_MAX = 1024 * 1024 };

void api_body_free(struct api_body *body)
{
    heap_free(body->nodes);
    heap_free(body->chars);
    *body = (struct api_body){0};
}

static void answer_unreadable(struct slice source, const struct flags_json_error *fault,
                              struct api_answer *answer)
{
    char message[200];
    uint32_t line, column;
    flags_json_position(source, fault->at, &line, &column);
    snprintf(message, sizeof message, "the body is no JSON: line %u, column %u: %s", line, column,
             fault->what);
    api_flags_error(answer, 400, "invalid", message);
}

bool api_body_read(const struct api_request *request, struct api_body *body, struct api_answer *answer)
{
    struct slice source = request->body.len > 0 ? request->body : SLICE("{}");
    if (source.len > BODY_BYTES_MAX) {
        api_flags_error(answer, 413, "too_large", "the body is larger than 1 MiB");
        return false;
    }
    // Every value but the first stands behind a bracket, a comma or a colon of its own.
    uint32_t node_cap = (uint32_t)(source.len / 2 + 2);
    *body = (struct api_body){.nodes = heap_alloc(node_cap, sizeof *body->nodes),
                              .chars = heap_alloc(source.len + 1, 1)};
    struct flags_json_space space = {.nodes = body->nodes,
                                     .node_cap = node_cap,
                                     .chars = body->chars,
                                     .char_cap = source.len,
                                     .last_wins = true};
    struct flags_json_error fault = {0};
    enum status status = body->nodes != NULL && body->chars != NULL
                             ? flags_json_parse(source, &space, &body->root, &fault)
                             : STATUS_NO_MEMORY;
    if (status == STATUS_INVALID)
        answer_unreadable(source, &fault, answer);
    else if (status != STATUS_OK)
        api_flags_error(answer, 503, "memory", "no memory is left for this body");
    else if (body->root->kind != FLAGS_JSON_OBJECT)
        api_flags_error(answer, 400, "invalid", "the body must be empty or a JSON object");
    else
        return true;
    api_body_free(body);
    return false;
}

// Who makes the change: the body's "who", else the X-Sluice-Who field, else "api".
static void read_who(const struct api_request *request, const struct flags_json *root,
                     char who[ROLLOUT_WHO_BYTES])
{
    const struct flags_json *given = root != NULL ? flags_json_member(root, SLICE("who")) : NULL;
    struct slice word = request->who.len > 0 ? request->who : SLICE("api");
    if (given != NULL && given->kind == FLAGS_JSON_STRING && given->text.len > 0)
        word = given->text;
    size_t len = word.len < ROLLOUT_WHO_BYTES - 1 ? word.len : ROLLOUT_WHO_BYTES - 1;
    // Never cut within a character: the name comes back in logs.
    while (len < word.len && len > 0 && ((unsigned char)word.data[len] & 0xc0) == 0x80)
        len--;
    memcpy(who, word.data, len);
    who[len] = '\0';
    // It comes back in histories, on terminals too: nobody may move a cursor by his name.
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)who[i] < 0x20 || who[i] == 0x7f)
            who[i] = '?';
}

// ---- one change ----

static void answer_change(struct engine *engine, const struct engine_flag_change *change, uint64_t number,
                          struct api_answer *answer)
{
    const struct flagset_snapshot *snapshot = flagset_current(engine_flagset(engine));
    struct api_out out = {0};
    api_out_open(&out, '{');
    api_out_key(&out, "key");
    api_out_text(&out, change->key);
    api_out_key(&out, "op");
    api_out_text(&out, engine_flag_op_name(change->op));
    api_out_key(&out, "variant");
    api_out_text(&out, change->variant != NULL && change->variant[0] != '\0' ? change->variant : NULL);
    api_out_key(&out, "change");
    api_out_count(&out, number);
    api_out_key(&out, "in_force");
    api_out_bool(&out, snapshot->change >= number);
    api_out_close(&out, '}');
    api_flags_answer(answer, 200, &out);
}

static bool has_variant(const struct flags_image *set, const struct engine_flag_change *change)
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
static void answer_no_variant(const struct flags_image *set, const struct engine_flag_change *change,
                              struct api_answer *answer)
{
    enum { NAMED_MAX = 20 };
    char message[1200];
    struct text text = text_over(message, sizeof message);
    struct slice name, json;
    text_addf(&text, "flag '%s' has no variant '%s'; it has", change->key, change->variant);
    for (uint32_t i = 0;
         i < NAMED_MAX && flags_image_variant_get(set, slice_of(change->key), i, &name, &json); i++)
        text_addf(&text, "%s '" SLICE_FMT "'", i > 0 ? "," : "", SLICE_ARG(name));
    api_flags_error(answer, 400, "invalid", message);
}

static void make_change(struct engine *engine, const struct engine_flag_change *change,
                        struct api_answer *answer)
{
    static struct fault fault;
    uint64_t number = 0;
    fault.text[0] = '\0';
    enum status status = engine_flag_apply(engine, change, &number, &fault);
    struct flags_info info;
    const struct flags_image *set = &flagset_current(engine_flagset(engine))->all.set;
    if (status == STATUS_OK)
        answer_change(engine, change, number, answer);
    else if (status == STATUS_NOT_FOUND && !flags_image_find(set, slice_of(change->key), &info))
        api_flags_unknown(engine, slice_of(change->key), answer);
    else if ((status == STATUS_NOT_FOUND || status == STATUS_INVALID) && !has_variant(set, change))
        answer_no_variant(set, change, answer);
    else
        api_flags_refusal(answer, status, fault.text[0] != '\0' ? fault.text : status_name(status));
}

static bool definition_fits(struct slice definition, struct api_answer *answer)
{
    if (definition.len > ENGINE_FLAG_DEFINITION_BYTES) {
        api_flags_error(answer, 413, "too_large", "a definition may have 512 KiB");
        return false;
    }
    if (definition.len == 0)
        api_flags_error(answer, 400, "invalid",
                        "the body must be the flag's definition, such as {\"state\": \"ENABLED\", "
                        "\"variants\": {\"on\": true, \"off\": false}, \"defaultVariant\": \"off\"}");
    return definition.len > 0;
}

void api_flags_put(struct engine *engine, const char *key, const struct api_request *request,
                   struct api_answer *answer)
{
    char who[ROLLOUT_WHO_BYTES];
    if (!definition_fits(request->body, answer))
        return;
    read_who(request, NULL, who);
    struct engine_flag_change change = {
        .op = ENGINE_FLAG_SET, .key = key, .definition = request->body, .who = who, .from = request->from};
    make_change(engine, &change, answer);
}

void api_flags_delete(struct engine *engine, const char *key, const struct api_request *request,
                      struct api_answer *answer)
{
    char who[ROLLOUT_WHO_BYTES];
    read_who(request, NULL, who);
    struct engine_flag_change change = {
        .op = ENGINE_FLAG_UNSET, .key = key, .who = who, .from = request->from};
    make_change(engine, &change, answer);
}

void api_flags_switch(struct engine *engine, const char *key, bool on, const struct api_request *request,
                      struct api_answer *answer)
{
    struct api_body body;
    char who[ROLLOUT_WHO_BYTES];
    char variant[ROLLOUT_NAME_BYTES] = "";
    if (!api_body_read(request, &body, answer))
        return;
    const struct flags_json *given = flags_json_member(body.root, SLICE("variant"));
    bool named = given != NULL && given->kind != FLAGS_JSON_NULL;
    bool fits = !named || (given->kind == FLAGS_JSON_STRING && given->text.len < sizeof variant &&
                           memchr(given->text.data, '\0', given->text.len) == NULL);
    if (fits && named)
        memcpy(variant, given->text.data, given->text.len);
    read_who(request, body.root, who);
    api_body_free(&body);
    if (!fits || (on && named)) {
        api_flags_error(answer, 400, "invalid",
                        fits ? "'on' takes no variant: the flag's own rules decide again"
                             : "variant is the name of one of the flag's variants");
        return;
    }
    struct engine_flag_change change = {.op = on ? ENGINE_FLAG_ON : ENGINE_FLAG_OFF,
                                        .key = key,
                                        .variant = variant,
                                        .who = who,
                                        .from = request->from};
    make_change(engine, &change, answer);
}

// ---- many at once ----

struct import {
    struct engine *engine;
    const struct api_request *request;
    struct api_answer *answer;
    char who[ROLLOUT_WHO_BYTES];
    struct slice flags; // the object's text
    uint32_t count;
    uint64_t number; // of the newest change
};

// Calls `each` for every flag; false as soon as it answers, or the object is not what it should be.
static bool import_walk(struct import *import,
                        bool (*each)(struct import *, const char *key, struct slice definition))
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice raw, definition;
    char key[ENGINE_FLAG_KEY_BYTES];
    enum status status = flags_json_walk_begin(import->flags, &walk, &fault);
    for (import->count = 0; status == STATUS_OK; import->count++) {
        size_t len = 0;
        status = flags_json_walk_next(&walk, &raw, &definition, &fault);
        if (status != STATUS_OK)
            break;
        if (flags_json_unescape(raw, key, sizeof key - 1, &len) != STATUS_OK ||
            memchr(key, '\0', len) != NULL) {
            api_flags_error(import->answer, 400, "invalid", "a key is longer than 255 bytes or holds a NUL");
            return false;
        }
        key[len] = '\0';
        if (!each(import, key, definition))
            return false;
    }
    if (status == STATUS_NOT_FOUND)
        return true;
    api_flags_error(import->answer, 400, "invalid", "\"flags\" must be an object of key and definition");
    return false;
}

static bool import_fits(struct import *import, const char *key, struct slice definition)
{
    (void)key;
    if (import->count == API_FLAGS_IMPORT_MAX) {
        api_flags_error(import->answer, 413, "too_large", "one import may have 200 flags; send several");
        return false;
    }
    return definition_fits(definition, import->answer);
}

// Together, because they may be each other's prerequisites.
static bool import_check_all(struct import *import)
{
    struct flagset_problem problem = {.text = ""};
    char message[FLAGSET_PROBLEM_BYTES + 64];
    enum status status = flagset_check_flags(engine_flagset(import->engine), import->flags, &problem);
    if (status == STATUS_OK)
        return true;
    snprintf(message, sizeof message, "%s; nothing was changed",
             problem.text[0] != '\0' ? problem.text : status_name(status));
    api_flags_refusal(import->answer, status, message);
    return false;
}

static bool import_apply(struct import *import, const char *key, struct slice definition)
{
    static struct fault fault;
    struct engine_flag_change change = {.op = ENGINE_FLAG_SET,
                                        .key = key,
                                        .definition = definition,
                                        .who = import->who,
                                        .from = import->request->from,
                                        .checked = true};
    fault.text[0] = '\0';
    enum status status = engine_flag_apply(import->engine, &change, &import->number, &fault);
    if (status == STATUS_OK)
        return true;
    char message[FAULT_TEXT_BYTES + ENGINE_FLAG_KEY_BYTES + 64];
    snprintf(message, sizeof message, "flag '%s': %s; the %u flags before it are set", key,
             fault.text[0] != '\0' ? fault.text : status_name(status), import->count);
    api_flags_refusal(import->answer, status, message);
    return false;
}

static void import_answer(const struct import *import)
{
    struct engine *engine = import->engine;
    struct api_out out = {0};
    api_out_open(&out, '{');
    api_out_key(&out, "set");
    api_out_count(&out, import->count);
    api_out_key(&out, "change");
    api_out_count(&out, import->number);
    api_out_key(&out, "in_force");
    api_out_bool(&out, flagset_current(engine_flagset(engine))->change >= import->number);
    api_out_close(&out, '}');
    api_flags_answer(import->answer, 200, &out);
}

// Finds "flags" without a tree of the body, which may be long. False: answered.
static bool import_read(struct import *import, struct slice *who)
{
    struct slice body = import->request->body;
    struct flags_json_walk walk;
    struct flags_json_error fault = {0};
    struct slice key, value;
    enum status status = flags_json_walk_begin(body, &walk, &fault);
    bool object = status == STATUS_OK && walk.object;
    while (status == STATUS_OK && object) {
        status = flags_json_walk_next(&walk, &key, &value, &fault);
        if (status == STATUS_OK && slice_equal(key, SLICE("flags")))
            import->flags = value;
        if (status == STATUS_OK && slice_equal(key, SLICE("who")))
            *who = value;
    }
    if (status == STATUS_INVALID) {
        answer_unreadable(body, &fault, import->answer);
        return false;
    }
    if (object && import->flags.len > 0 && import->flags.data[0] == '{')
        return true;
    api_flags_error(import->answer, 400, "invalid",
                    "the body must be {\"flags\": {\"key\": {definition}, ...}}");
    return false;
}

// All are checked before the first is kept.
void api_flags_import(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    struct import import = {.engine = engine, .request = request, .answer = answer};
    struct slice raw = {"", 0};
    char name[ROLLOUT_WHO_BYTES];
    size_t len = 0;
    if (!import_read(&import, &raw))
        return;
    // A name with escapes or longer than fits is nobody's: the field or "api" stands in.
    struct flags_json who = {.kind = FLAGS_JSON_STRING};
    struct flags_json root = {.kind = FLAGS_JSON_OBJECT, .first = &who};
    who.key = SLICE("who");
    if (raw.len > 2 && raw.data[0] == '"' &&
        flags_json_unescape((struct slice){raw.data + 1, raw.len - 2}, name, sizeof name, &len) == STATUS_OK)
        who.text = (struct slice){name, len};
    read_who(request, &root, import.who);
    bool good = import_walk(&import, import_fits) && import_check_all(&import);
    if (good && import_walk(&import, import_apply))
        import_answer(&import);
}
