// SPDX-License-Identifier: Apache-2.0
// What requests and responses share: limits, cutting lines into fields, Connection, and the framing decision.
// The framing decision is the one place where a message's length is settled (RFC 9112 6.3).
#include "base/check.h"
#include "net/http/http_private.h"

const struct http1_limits http1_limits_default = {
    .head_bytes_max = HTTP1_HEAD_BYTES_MAX,
    .start_line_bytes_max = HTTP1_START_LINE_BYTES_MAX,
    .fields_max = HTTP_FIELDS_MAX,
    .name_bytes_max = HTTP1_NAME_BYTES_MAX,
    .value_bytes_max = HTTP1_VALUE_BYTES_MAX,
    .chunk_extension_bytes_max = HTTP1_CHUNK_EXTENSION_BYTES_MAX,
    .trailer_bytes_max = HTTP1_TRAILER_BYTES_MAX,
};

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static enum status refuse_full(enum http1_reject *why, enum http1_reject reason)
{
    *why = reason;
    return STATUS_FULL;
}

enum status http_head_scan(const char *data, size_t len, bool skip_empty, const struct http1_limits *limits,
                           struct http_lines *lines, enum http1_reject *why)
{
    uint32_t head_max = smaller(limits->head_bytes_max, HTTP1_HEAD_BYTES_MAX);
    uint32_t line_max = smaller(limits->start_line_bytes_max, HTTP1_START_LINE_BYTES_MAX);
    enum status status = http_scan(data, len < head_max ? len : head_max, skip_empty, lines, why);
    if (status != STATUS_OK && status != STATUS_AGAIN)
        return status;
    size_t start_line = lines->count > 0 ? lines->end[0] - lines->start : len - lines->start;
    // Without its end in sight a CR may already be there.
    if (start_line > line_max + (lines->count > 0 ? 0U : 1U))
        return refuse_full(why, HTTP1_REJECT_START_LINE_LONG);
    if (status == STATUS_AGAIN && len >= head_max)
        return refuse_full(why, HTTP1_REJECT_HEAD_LONG);
    return status;
}

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static inline __attribute__((always_inline)) size_t
name_cut(const char *line, size_t line_len, size_t readable, enum http_field_id *id, enum http1_reject *why)
{
#if HTTP_HAVE_SSE2
    return http_name_cut_sse2(line, line_len, readable, id, why);
#else
    (void)readable;
    return http_name_cut_portable(line, line_len, id, why);
#endif
}

// One line, free of control characters but HTAB and followed by CRLF, into a field.
static inline __attribute__((always_inline)) enum http1_reject
field_cut(const char *line, size_t line_len, size_t readable, struct http_field *field)
{
    enum http1_reject why = HTTP1_REJECT_NONE;
    if (is_blank(line[0]))
        return HTTP1_REJECT_FOLD;
    enum http_field_id id;
    size_t name_len = name_cut(line, line_len, readable, &id, &why);
    if (name_len == 0)
        return why;
    const char *value = line + name_len + 1;
    const char *end = line + line_len;
    while (value < end && is_blank(*value))
        value++;
    while (end > value && is_blank(end[-1]))
        end--;
    // Exactly one SP before the value and nothing behind it: the line is what the writer would write.
    bool contiguous = value == line + name_len + 2 && value[-1] == ' ' && end == line + line_len;
    unsigned marks = contiguous ? HTTP_FIELD_CONTIGUOUS : 0;
    if (id == HTTP_FIELD_ALIAS) {
        id = HTTP_FIELD_OTHER;
        marks |= HTTP_FIELD_HOP;
    }
    if ((1ULL << id & HTTP_FIELDS_HOP) != 0)
        marks |= HTTP_FIELD_HOP;
    *field = (struct http_field){
        .name = {line, name_len},
        .value = {value, (size_t)(end - value)},
        .id = (uint16_t)id,
        .marks = (uint16_t)marks,
    };
    return HTTP1_REJECT_NONE;
}

enum http1_reject http_field_cut(const char *line, size_t line_len, size_t readable, struct http_field *field)
{
    return field_cut(line, line_len, readable, field);
}

static void field_nominate(struct http_fields *fields, struct slice name)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        struct http_field *field = &fields->items[i];
        if ((1ULL << field->id & HTTP_FIELDS_KEPT) == 0 && slice_equal_nocase(field->name, name))
            field->marks |= HTTP_FIELD_HOP;
    }
}

static enum http1_reject connection_option(struct http_fields *fields, struct slice option,
                                           struct http_head_facts *facts)
{
    if (slice_equal_nocase(option, SLICE("close"))) {
        facts->close = true;
    } else if (slice_equal_nocase(option, SLICE("keep-alive"))) {
        facts->keep_alive = true;
    } else if (slice_equal_nocase(option, SLICE("upgrade"))) {
        facts->upgrade = true;
    } else {
        if (!http_all(option, HTTP_CLASS_TOKEN))
            return HTTP1_REJECT_CONNECTION;
        field_nominate(fields, option);
    }
    return HTTP1_REJECT_NONE;
}

static enum http1_reject connection_read(struct http_fields *fields, struct http_head_facts *facts)
{
    unsigned count = 0;
    const uint32_t first = fields->first[HTTP_FIELD_CONNECTION];
    // What nearly every browser says, alone.
    if (slice_equal(fields->items[first].value, SLICE("keep-alive")) &&
        (facts->repeated & http_field_bit(HTTP_FIELD_CONNECTION)) == 0) {
        facts->keep_alive = true;
        return HTTP1_REJECT_NONE;
    }
    for (uint32_t i = first; i < fields->count; i++) {
        if (fields->items[i].id != HTTP_FIELD_CONNECTION)
            continue;
        struct slice rest = fields->items[i].value;
        struct slice option;
        while (http_list_next(&rest, &option)) {
            enum http1_reject why = ++count > HTTP1_NOMINATED_MAX ? HTTP1_REJECT_CONNECTION
                                                                  : connection_option(fields, option, facts);
            if (why != HTTP1_REJECT_NONE)
                return why;
        }
    }
    return HTTP1_REJECT_NONE;
}

enum http1_reject http_fields_cut(const char *data, size_t len, const struct http_lines *lines,
                                  const struct http1_limits *limits, struct http_fields *fields,
                                  struct http_head_facts *facts)
{
    uint32_t name_max = smaller(limits->name_bytes_max, HTTP1_NAME_BYTES_MAX);
    uint32_t value_max = smaller(limits->value_bytes_max, HTTP1_VALUE_BYTES_MAX);
    *facts = (struct http_head_facts){0};
    fields->present = 0;
    fields->count = 0;
    if (lines->count - 1 > limits->fields_max)
        return HTTP1_REJECT_FIELDS_MANY;
    uint64_t present = 0;
    uint64_t repeated = 0;
    for (uint32_t i = 1; i < lines->count; i++) {
        uint32_t start = lines->end[i - 1] + 2;
        struct http_field *field = &fields->items[i - 1];
        enum http1_reject why = field_cut(data + start, lines->end[i] - start, len - start, field);
        if (UNLIKELY(why != HTTP1_REJECT_NONE))
            return why;
        if (UNLIKELY(field->name.len > name_max))
            return HTTP1_REJECT_NAME_LONG;
        if (UNLIKELY(field->value.len > value_max))
            return HTTP1_REJECT_VALUE_LONG;
        uint64_t bit = 1ULL << field->id;
        if ((present & bit) == 0)
            fields->first[field->id] = (uint8_t)(i - 1);
        repeated |= present & bit;
        present |= bit;
    }
    fields->present = present;
    fields->count = lines->count - 1;
    facts->repeated = repeated;
    return http_fields_have(fields, HTTP_FIELD_CONNECTION) ? connection_read(fields, facts)
                                                           : HTTP1_REJECT_NONE;
}

enum http1_reject http_content_length_read(struct slice value, uint64_t *content_length)
{
    uint64_t sum = 0;
    // Nineteen digits reach 2^63 - 1 and cannot overflow 64 bits.
    if (value.len == 0 || value.len > 19)
        return HTTP1_REJECT_CONTENT_LENGTH;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return HTTP1_REJECT_CONTENT_LENGTH;
        sum = sum * 10 + (uint64_t)(value.data[i] - '0');
    }
    if (sum > HTTP1_BODY_BYTES_MAX)
        return HTTP1_REJECT_CONTENT_LENGTH;
    *content_length = sum;
    return HTTP1_REJECT_NONE;
}

static enum http1_reject coding_read(struct slice value)
{
    if (slice_equal_nocase(value, SLICE("chunked")))
        return HTTP1_REJECT_NONE;
    // "gzip, chunked" is well formed, only not something we decode; anything else has no sure end.
    size_t comma = value.len;
    while (comma > 0 && value.data[comma - 1] != ',')
        comma--;
    struct slice last = http_trim((struct slice){value.data + comma, value.len - comma});
    if (comma == 0 || !slice_equal_nocase(last, SLICE("chunked")))
        return HTTP1_REJECT_CODING;
    struct slice rest = {value.data, comma - 1};
    struct slice coding;
    bool any = false;
    while (http_list_next(&rest, &coding)) {
        if (!http_all(coding, HTTP_CLASS_TOKEN) || slice_equal_nocase(coding, SLICE("chunked")))
            return HTTP1_REJECT_CODING;
        any = true;
    }
    return any ? HTTP1_REJECT_CODING_UNKNOWN : HTTP1_REJECT_CODING;
}

enum http1_reject http_framing_decide(const struct http_fields *fields, uint64_t repeated,
                                      uint8_t version_minor, uint8_t *framing, uint64_t *content_length)
{
    const uint64_t length_bit = http_field_bit(HTTP_FIELD_CONTENT_LENGTH);
    const uint64_t coding_bit = http_field_bit(HTTP_FIELD_TRANSFER_ENCODING);
    *framing = HTTP_FRAMING_NONE;
    *content_length = 0;
    if ((fields->present & (length_bit | coding_bit)) == 0)
        return HTTP1_REJECT_NONE;
    if ((repeated & length_bit) != 0)
        return HTTP1_REJECT_CONTENT_LENGTH_REPEATED;
    if ((fields->present & coding_bit) == 0) {
        *framing = HTTP_FRAMING_LENGTH;
        return http_content_length_read(http_fields_find(fields, HTTP_FIELD_CONTENT_LENGTH)->value,
                                        content_length);
    }
    if ((fields->present & length_bit) != 0)
        return HTTP1_REJECT_LENGTH_AND_CODING;
    if (version_minor == 0)
        return HTTP1_REJECT_CODING_VERSION;
    if ((repeated & coding_bit) != 0)
        return HTTP1_REJECT_CODING;
    *framing = HTTP_FRAMING_CHUNKED;
    return coding_read(http_fields_find(fields, HTTP_FIELD_TRANSFER_ENCODING)->value);
}
