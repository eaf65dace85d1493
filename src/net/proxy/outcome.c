// SPDX-License-Identifier: Apache-2.0
// Definitions of errors: compiled once, then held against heads, runs of bodies and trailers.
#include "net/proxy/outcome.h"

#include "base/check.h"

enum { GRPC_UNKNOWN = 2 };

// The bits of 500 to 599.
const struct proxy_errors outcome_default = {
    .statuses = {[4] = UINT64_MAX << 44, [5] = UINT64_MAX, [6] = 0xffff}, .grpc = PROXY_GRPC_SERVER_FAULTS};

// ---- the head ----

// Codes above 599 count as 599 (RFC 9110 15: they are to be taken as 5xx).
static bool status_is_error(const struct proxy_errors *errors, unsigned status)
{
    unsigned bit = (status < 600 ? status : 599) - PROXY_STATUS_FIRST;
    return status >= PROXY_STATUS_FIRST && (errors->statuses[bit / 64] >> bit % 64 & 1) != 0;
}

static bool header_is_error(const struct proxy_errors *errors, const struct http_fields *fields)
{
    for (uint32_t i = 0; i < errors->header_count; i++)
        for (uint32_t k = 0; k < fields->count; k++) {
            const struct proxy_error_header *header = &errors->headers[i];
            if (slice_equal_nocase(fields->items[k].name, header->name) &&
                (header->any || slice_equal(fields->items[k].value, header->value)))
                return true;
        }
    return false;
}

// Its code; what is no code is unknown, as clients of gRPC take it.
static unsigned grpc_code(struct slice value)
{
    unsigned code = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9' || code >= PROXY_GRPC_CODES)
            return GRPC_UNKNOWN;
        code = code * 10 + (unsigned)(value.data[i] - '0');
    }
    return value.len > 0 && code < PROXY_GRPC_CODES ? code : GRPC_UNKNOWN;
}

static bool grpc_is_error(const struct proxy_errors *errors, const struct http_field *status)
{
    unsigned code = status != NULL ? grpc_code(status->value) : GRPC_UNKNOWN;
    return (errors->grpc >> code & 1) != 0;
}

// gRPC-Web says its status within the body, so that nothing can be told by an end without one.
static bool grpc_status_follows(const struct http_response *response)
{
    struct slice type = response->fields.items[response->fields.first[HTTP_FIELD_CONTENT_TYPE]].value;
    size_t plain = SLICE("application/grpc").len;
    bool web = type.len > plain && type.data[plain] == '-';
    return !web && response->framing != HTTP_FRAMING_NONE;
}

static bool body_is_encoded(const struct http_fields *fields)
{
    const struct http_field *coding = http_fields_find(fields, HTTP_FIELD_CONTENT_ENCODING);
    return coding != NULL && !slice_equal_nocase(coding->value, SLICE("identity"));
}

enum outcome outcome_of_head(const struct proxy_errors *errors, const struct http_response *response,
                             struct outcome_watch *watch)
{
    const struct http_fields *fields = &response->fields;
    *watch = (struct outcome_watch){.definition = errors->id};
    if (status_is_error(errors, response->status))
        return OUTCOME_STATUS;
    if (header_is_error(errors, fields))
        return OUTCOME_HEADER;
    if (outcome_is_grpc(fields)) {
        const struct http_field *status = http_fields_find(fields, HTTP_FIELD_GRPC_STATUS);
        if (status != NULL && grpc_is_error(errors, status))
            return OUTCOME_GRPC;
        watch->grpc = status == NULL && grpc_status_follows(response);
    }
    if (errors->text.len > 0 && response->framing != HTTP_FRAMING_NONE) {
        watch->unsearched = body_is_encoded(fields);
        watch->body_left = watch->unsearched ? 0 : errors->within;
    }
    watch->open = watch->grpc || watch->body_left > 0;
    return OUTCOME_FINE;
}

// ---- the body ----

// Knuth, Morris and Pratt 1977: after a byte that does not fit goes on at the longest border of what did.
static bool text_found(const struct proxy_errors *errors, struct slice run, struct outcome_watch *watch)
{
    struct slice text = errors->text;
    size_t matched = watch->matched;
    for (size_t i = 0; i < run.len; i++) {
        if (matched == 0) { // most bytes begin nothing
            const char *next = memchr(run.data + i, text.data[0], run.len - i);
            if (next == NULL)
                break;
            i = (size_t)(next - run.data);
        }
        while (matched > 0 && run.data[i] != text.data[matched])
            matched = errors->borders[matched - 1];
        if (run.data[i] == text.data[matched] && ++matched == text.len)
            return true;
    }
    watch->matched = (uint16_t)matched;
    return false;
}

enum outcome outcome_of_run(const struct proxy_errors *errors, struct slice run, struct outcome_watch *watch)
{
    if (watch->body_left == 0)
        return OUTCOME_FINE;
    if (run.len > watch->body_left)
        run.len = watch->body_left;
    if (text_found(errors, run, watch)) {
        *watch = (struct outcome_watch){.definition = errors->id};
        return OUTCOME_BODY;
    }
    watch->body_left -= (uint32_t)run.len;
    watch->open = watch->grpc || watch->body_left > 0;
    return OUTCOME_FINE;
}

// ---- the end ----

enum outcome outcome_of_end(const struct proxy_errors *errors, const struct http_fields *trailers,
                            struct outcome_watch *watch)
{
    bool grpc = watch->grpc;
    *watch = (struct outcome_watch){.definition = errors->id};
    if (!grpc)
        return OUTCOME_FINE;
    const struct http_field *status =
        trailers != NULL ? http_fields_find(trailers, HTTP_FIELD_GRPC_STATUS) : NULL;
    return grpc_is_error(errors, status) ? OUTCOME_GRPC : OUTCOME_FINE;
}

// ---- compiling ----

const char *outcome_check(const struct proxy_errors_plan *plan)
{
    if (plan == NULL)
        return NULL;
    for (uint32_t i = 0; i < plan->status_count; i++)
        if (plan->statuses[i].first < PROXY_STATUS_FIRST || plan->statuses[i].last > 599 ||
            plan->statuses[i].first > plan->statuses[i].last)
            return "a status that counts as an error is outside 200 to 599";
    for (uint32_t i = 0; i < plan->header_count; i++)
        if (plan->headers[i].name == NULL || !http_token_valid(slice_of(plan->headers[i].name)))
            return "a header that counts as an error has a name that is no token";
    size_t len = plan->text != NULL ? strlen(plan->text) : 0;
    if (len > PROXY_ERROR_TEXT_BYTES_MAX || plan->within > PROXY_ERROR_WITHIN_MAX || len > plan->within)
        return "the text that makes a body an error is too long, or looked for in too many bytes";
    return NULL;
}

size_t outcome_bytes(const struct proxy_errors_plan *plan)
{
    if (plan == NULL)
        return 0;
    size_t bytes = table_carve_bytes(1, sizeof(struct proxy_errors)) + table_text_bytes(plan->text) +
                   table_carve_bytes(plan->header_count, sizeof(struct proxy_error_header));
    for (uint32_t i = 0; i < plan->header_count; i++)
        bytes += table_text_bytes(plan->headers[i].name) + table_text_bytes(plan->headers[i].value);
    return bytes + table_carve_bytes(plan->text != NULL ? strlen(plan->text) : 0, sizeof(uint16_t));
}

// borders[i]: the longest text, shorter than itself, that both begins and ends the first i + 1 bytes.
static const uint16_t *borders_compile(struct table_carve *from, struct slice text)
{
    uint16_t *borders = table_carve(from, text.len, sizeof *borders);
    uint16_t border = 0;
    for (size_t i = 1; i < text.len; i++) {
        while (border > 0 && text.data[i] != text.data[border])
            border = borders[border - 1];
        if (text.data[i] == text.data[border])
            border++;
        borders[i] = border;
    }
    return borders;
}

static void add_text(struct siphash_state *state, struct slice text)
{
    siphash_add(state, &text.len, sizeof text.len);
    siphash_add(state, text.data, text.len);
}

// Equal definitions have equal ids, whatever table they stand in; none has that of the default, 0.
static uint64_t id_of(const struct proxy_errors *errors)
{
    struct siphash_state state;
    siphash_begin(&state, (struct siphash_key){0, 0});
    siphash_add(&state, errors->statuses, sizeof errors->statuses);
    siphash_add(&state, &errors->grpc, sizeof errors->grpc);
    siphash_add(&state, &errors->within, sizeof errors->within);
    add_text(&state, errors->text);
    for (uint32_t i = 0; i < errors->header_count; i++) {
        add_text(&state, errors->headers[i].name);
        add_text(&state, errors->headers[i].value);
        siphash_add(&state, &errors->headers[i].any, sizeof errors->headers[i].any);
    }
    return siphash_end(&state) | 1;
}

const struct proxy_errors *outcome_compile(struct table_carve *from, const struct proxy_errors_plan *plan)
{
    if (plan == NULL)
        return NULL;
    struct proxy_errors *errors = table_carve(from, 1, sizeof *errors);
    struct proxy_error_header *headers = table_carve(from, plan->header_count, sizeof *headers);
    for (uint32_t i = 0; i < plan->status_count; i++)
        for (unsigned status = plan->statuses[i].first; status <= plan->statuses[i].last; status++) {
            unsigned bit = status - PROXY_STATUS_FIRST;
            errors->statuses[bit / 64] |= UINT64_C(1) << bit % 64;
        }
    for (uint32_t i = 0; i < plan->header_count; i++)
        headers[i] =
            (struct proxy_error_header){.name = table_carve_text(from, plan->headers[i].name, true),
                                        .value = table_carve_text(from, plan->headers[i].value, false),
                                        .any = plan->headers[i].value == NULL};
    errors->headers = headers;
    errors->header_count = plan->header_count;
    errors->grpc = plan->grpc;
    errors->text = table_carve_text(from, plan->text, false);
    errors->borders = borders_compile(from, errors->text);
    errors->within = plan->within;
    errors->id = id_of(errors);
    return errors;
}
