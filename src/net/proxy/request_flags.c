// SPDX-License-Identifier: Apache-2.0
// Flags in the path of a request: its evaluation context, the version and the arm that flags give it, the
// fields that tell the service. Everything is in the worker's scratch, for one callback: no lock, no heap,
// and no evaluation that nobody asks for.
#include "base/utf8.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/tally.h"
#include "net/proxy/proxy_private.h"

void request_flags_begin(struct worker *worker)
{
    struct request_flags *flags = &worker->flags;
    flags->ready = false;
    memset(flags->answered, 0, sizeof flags->answered);
}

// ---- the context ----

bool request_attribute(const struct exchange *exchange, const struct proxy_attribute *attribute,
                       struct slice *value)
{
    const struct worker *worker = exchange->worker;
    const struct http_request *request = worker->request;
    const struct http_field *field;
    switch (attribute->kind) {
    case PROXY_ATTRIBUTE_HEADER:
        field = http_fields_find_name(&request->fields, attribute->source);
        if (field != NULL)
            *value = field->value;
        return field != NULL && utf8_valid(*value);
    case PROXY_ATTRIBUTE_COOKIE:
        return http_cookie_find(&request->fields, attribute->source, value) == STATUS_OK &&
               utf8_valid(*value);
    case PROXY_ATTRIBUTE_ADDRESS:
        *value = exchange->client;
        return value->len > 0 && utf8_valid(*value);
    case PROXY_ATTRIBUTE_METHOD:
        *value = request->method;
        return true;
    case PROXY_ATTRIBUTE_HOST:
        *value = request->host;
        return value->len > 0;
    case PROXY_ATTRIBUTE_PATH:
        *value = request->path;
        return true;
    }
    return false;
}

static bool unit_key(struct exchange *exchange, const struct proxy_service *service, struct slice *key)
{
    char *text = exchange->worker->flags.unit;
    uint64_t sticky;
    if (!exchange_unit(exchange, service, &sticky, key))
        return false;
    if (service->unit != PROXY_UNIT_STICKY)
        return utf8_valid(*key);
    for (int i = 0; i < 16; i++)
        text[i] = "0123456789abcdef"[sticky >> (60 - 4 * i) & 15];
    *key = (struct slice){text, 16};
    return true;
}

static bool targeting_key(struct exchange *exchange, const struct proxy_service *service, struct slice *key)
{
    const struct proxy_attribute *attribute = service->flags->key;
    if (attribute == NULL)
        return unit_key(exchange, service, key);
    return request_attribute(exchange, attribute, key) && key->len > 0;
}

static void build_context(struct exchange *exchange, const struct proxy_service *service)
{
    struct worker *worker = exchange->worker;
    struct request_flags *flags = &worker->flags;
    struct flags_json *root = &flags->nodes[0];
    struct flags_json **link = &root->first;
    int64_t now_ms = io_loop_wall_ms(worker->loop);
    *root = (struct flags_json){.kind = FLAGS_JSON_OBJECT};
    for (uint32_t i = 0; i < service->flags->attribute_count; i++) {
        const struct proxy_attribute *attribute = &service->flags->attributes[i];
        struct slice value;
        if (!request_attribute(exchange, attribute, &value))
            continue;
        struct flags_json *node = &flags->nodes[++root->count];
        *node = (struct flags_json){.kind = FLAGS_JSON_STRING, .key = attribute->name, .text = value};
        *link = node;
        link = &node->next;
    }
    flags->context = (struct flags_context){.tree = root, .time_s = now_ms > 0 ? (uint64_t)now_ms / 1000 : 0};
    flags->context.has_targeting_key = targeting_key(exchange, service, &flags->context.targeting_key);
    flags->ready = true;
}

// ---- answers ----

// What the service's i-th flag says of the request.
static const struct flag_answer *ask(struct exchange *exchange, const struct proxy_service *service,
                                     uint32_t i)
{
    struct worker *worker = exchange->worker;
    const struct proxy_table *table = worker->table;
    struct request_flags *flags = &worker->flags;
    struct flag_answer *answer = &flags->answers[i];
    if (flags->answered[i])
        return answer;
    flags->answered[i] = true;
    *answer = (struct flag_answer){.arm = FLAGS_ARM_NONE};
    if (UNLIKELY(table->flags.image == NULL))
        return answer;
    if (!flags->ready)
        build_context(exchange, service);
    struct flags_result result;
    flags_evaluate(&table->flags, service->flags->flags[i].key, FLAGS_ANY, &flags->context,
                   (struct flags_scratch){flags->scratch, sizeof flags->scratch}, &result);
    if (table->tallies != NULL)
        flags_tally_note(&table->tallies[worker->index], &result);
    *answer = (struct flag_answer){
        .variant = result.variant, .arm = result.arm, .erred = result.error != FLAGS_ERROR_NONE};
    return answer;
}

// Told once for each table: a flag may say so of every request, and the ring of events is for all.
static void complain(struct exchange *exchange, const struct proxy_service *service, const char *why)
{
    struct worker *worker = exchange->worker;
    uint64_t *told = &worker->flags.told[service->slot];
    worker_count(worker, PROXY_WORKER_FLAG_VERSIONS_UNKNOWN);
    if (*told == worker->table->version)
        return;
    *told = worker->table->version;
    worker_event(worker, PROXY_EVENT_FLAG, 0, why, exchange->client,
                 (struct event_where){service->slot, PROXY_SLOT_NONE, PROXY_SLOT_NONE}, NULL, 0);
}

const struct proxy_version *request_flags_version(struct exchange *exchange,
                                                  const struct proxy_service *service)
{
    if (service->flags->version_flag == PROXY_FLAG_NONE)
        return NULL;
    const struct flag_answer *answer = ask(exchange, service, service->flags->version_flag);
    if (answer->erred)
        complain(exchange, service, "the flag that chooses the version is unknown or in error");
    if (answer->variant.len == 0)
        return NULL; // the caller's default, which here is the usual way
    const struct proxy_version *version = proxy_service_version_named(service, answer->variant);
    if (version == NULL)
        complain(exchange, service, "the flag that chooses the version names none of the service");
    return version;
}

enum flags_arm request_flags_arm(struct exchange *exchange, const struct proxy_service *service,
                                 struct slice *key)
{
    const struct flag_answer *answer = ask(exchange, service, service->flags->arm_flag);
    const struct flags_context *context = &exchange->worker->flags.context;
    if (answer->arm == FLAGS_ARM_NONE)
        return FLAGS_ARM_NONE;
    CHECK(context->has_targeting_key); // nothing is drawn without one
    *key = context->targeting_key;
    return answer->arm;
}

// ---- fields ----

// RFC 9651 3.3.4: a tchar, ":" or "/".
static bool token_char(char c)
{
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return letter || (c >= '0' && c <= '9') || (c != '\0' && strchr("!#$%&'*+-.^_`|~:/", c) != NULL);
}

static bool is_token(struct slice name)
{
    char first = slice_lower_char(name.data[0]);
    bool token = (first >= 'a' && first <= 'z') || first == '*';
    for (size_t i = 0; i < name.len && token; i++)
        token = token_char(name.data[i]);
    return token;
}

static bool is_printable(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] < 0x20 || name.data[i] > 0x7e)
            return false;
    return true;
}

// A token, a string (3.3.3) or a display string (3.3.8), the first that can hold the name.
static void add_value(struct text *out, struct slice name)
{
    if (is_token(name)) {
        text_add(out, name);
        return;
    }
    bool string = is_printable(name);
    text_add(out, string ? SLICE("\"") : SLICE("%\""));
    for (size_t i = 0; i < name.len && !out->cut; i++) {
        char c = name.data[i];
        if (string && (c == '"' || c == '\\'))
            text_add_char(out, '\\');
        if (!string && (c < 0x20 || c > 0x7e || c == '"' || c == '%'))
            text_addf(out, "%%%02x", (unsigned char)c);
        else
            text_add_char(out, c);
    }
    text_add_char(out, '"');
}

// Adds the member whole, or nothing of it.
static bool add_member(struct text *out, struct slice key, struct slice variant)
{
    size_t before = out->len;
    if (before > 0)
        text_add(out, SLICE(", "));
    text_add(out, key);
    text_add_char(out, '=');
    add_value(out, variant);
    if (!out->cut)
        return true;
    out->len = before;
    out->data[before] = '\0';
    out->cut = false;
    return false;
}

static struct slice field_value(struct exchange *exchange, const struct proxy_service *service,
                                const struct proxy_flag_header *header, char *storage, size_t cap)
{
    struct text text = text_over(storage, cap);
    for (uint32_t i = 0; i < header->flag_count; i++) {
        const struct flag_answer *answer = ask(exchange, service, header->flags[i]);
        if (answer->variant.len == 0)
            continue;
        if (!add_member(&text, service->flags->flags[header->flags[i]].member, answer->variant))
            worker_count(exchange->worker, PROXY_WORKER_FLAGS_LEFT_OUT);
    }
    return text_slice(&text);
}

static void remove_forged(struct http_fields *fields, const struct proxy_service_flags *flags)
{
    for (uint32_t i = 0; flags->header_count > 0 && i < fields->count; i++)
        if (fields->items[i].id == HTTP_FIELD_OTHER && table_flags_forged(flags, fields->items[i].name))
            fields->items[i].marks |= HTTP_FIELD_HOP;
}

size_t request_flags_fields(struct exchange *exchange, const struct proxy_service *service, size_t room)
{
    struct worker *worker = exchange->worker;
    char *storage = worker->flags.text;
    size_t count = 0;
    remove_forged(&worker->request->fields, service->flags);
    if (room > PROXY_FLAG_HEADERS_BYTES_MAX)
        room = PROXY_FLAG_HEADERS_BYTES_MAX;
    for (uint32_t i = 0; i < service->flags->header_count; i++) {
        const struct proxy_flag_header *header = &service->flags->headers[i];
        size_t frame = header->name.len + 4; // ": " and CRLF
        size_t cap = room > frame ? room - frame + 1 : 1;
        struct slice value = field_value(exchange, service, header, storage, cap);
        if (value.len == 0)
            continue;
        worker->flags.fields[count++] = (struct http_field){.name = header->name, .value = value};
        storage += value.len;
        room -= frame + value.len;
    }
    return count;
}
