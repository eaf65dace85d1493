// SPDX-License-Identifier: Apache-2.0
// Character classes, field lists, comma lists, hosts, cookies, query parameters: small readers over slices.
#include "base/check.h"
#include "net/http/http_private.h"

// One byte for each character; the bits are HTTP_CLASS_*. A unit test derives the table again from the
// grammars.
const uint8_t http_class[256] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // 00
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // 10
    0x08, 0x1f, 0x08, 0x09, 0x1f, 0x0f, 0x1f, 0x1f, 0x1e, 0x1e, 0x1f, 0x1f, 0x0e, 0x1f, 0x1f, 0x0e, // 20
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x0e, 0x1e, 0x08, 0x1e, 0x08, 0x0e, // 30
    0x0e, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, // 40
    0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x0e, 0x0c, 0x0e, 0x0f, 0x1f, // 50
    0x0f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, // 60
    0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x1f, 0x0e, 0x0f, 0x0e, 0x1f, 0x00, // 70
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // 80
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // 90
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // a0
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // b0
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // c0
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // d0
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // e0
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, // f0
};

bool http_all(struct slice text, unsigned class_bits)
{
    for (size_t i = 0; i < text.len; i++)
        if (!http_is(text.data[i], class_bits))
            return false;
    return true;
}

struct slice http_trim(struct slice text)
{
    while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = (struct slice){text.data + 1, text.len - 1};
    while (text.len > 0 && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t'))
        text.len--;
    return text;
}

bool http_token_valid(struct slice text)
{
    return text.len > 0 && http_all(text, HTTP_CLASS_TOKEN);
}

bool http_value_valid(struct slice text)
{
    return http_all(text, HTTP_CLASS_VALUE) && http_trim(text).len == text.len;
}

const struct http_field *http_fields_find(const struct http_fields *fields, enum http_field_id id)
{
    CHECK(id > HTTP_FIELD_OTHER && id < HTTP_FIELD_COUNT);
    return http_fields_have(fields, id) ? &fields->items[fields->first[id]] : NULL;
}

const struct http_field *http_fields_find_name(const struct http_fields *fields, struct slice name)
{
    enum http_field_id id = http_field_id_of(name);
    if (id != HTTP_FIELD_OTHER && id != HTTP_FIELD_X_SLUICE)
        return http_fields_find(fields, id);
    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->items[i].id == id && slice_equal_nocase(fields->items[i].name, name))
            return &fields->items[i];
    return NULL;
}

enum status http_fields_add(struct http_fields *fields, struct slice name, struct slice value)
{
    if (!http_token_valid(name) || !http_value_valid(value))
        return STATUS_INVALID;
    if (fields->count >= HTTP_FIELDS_MAX)
        return STATUS_FULL;
    enum http_field_id id = http_field_id_of(name);
    uint64_t bit = http_field_bit(id);
    if ((fields->present & bit) == 0)
        fields->first[id] = (uint8_t)fields->count;
    fields->present |= bit;
    fields->items[fields->count++] = (struct http_field){
        .name = name,
        .value = value,
        .id = (uint16_t)id,
        .marks = (bit & HTTP_FIELDS_HOP) != 0 ? HTTP_FIELD_HOP : 0,
    };
    return STATUS_OK;
}

void http_fields_remove(struct http_fields *fields,
                        bool (*which)(const void *context, const struct http_field *field),
                        const void *context)
{
    uint32_t count = fields->count;
    fields->count = 0;
    fields->present = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct http_field field = fields->items[i];
        if (which(context, &field))
            continue;
        uint64_t bit = http_field_bit((enum http_field_id)field.id);
        if ((fields->present & bit) == 0)
            fields->first[field.id] = (uint8_t)fields->count;
        fields->present |= bit;
        fields->items[fields->count++] = field;
    }
}

bool http_list_next(struct slice *rest, struct slice *element)
{
    while (rest->len > 0) {
        const char *comma = memchr(rest->data, ',', rest->len);
        size_t len = comma != NULL ? (size_t)(comma - rest->data) : rest->len;
        struct slice item = http_trim((struct slice){rest->data, len});
        size_t used = comma != NULL ? len + 1 : len;
        *rest = (struct slice){rest->data + used, rest->len - used};
        if (item.len == 0)
            continue;
        *element = item;
        return true;
    }
    return false;
}

bool http_list_has(struct slice list, struct slice token)
{
    struct slice element;
    while (http_list_next(&list, &element))
        if (slice_equal_nocase(element, token))
            return true;
    return false;
}

// Where the port's colon is, or text.len.
static size_t host_port_colon(struct slice text)
{
    for (size_t i = text.len; i > 0; i--) {
        char c = text.data[i - 1];
        if (c == ':')
            return i - 1;
        if (c < '0' || c > '9')
            break;
    }
    return text.len;
}

// Inside of the brackets: groups of at most four hex digits, at most one "::", an IPv4 tail (RFC 3986 3.2.2).
static bool ipv6_valid(struct slice text)
{
    unsigned groups = 0;
    unsigned digits = 0;
    bool gap = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (c == '.') {
            // The group just begun is the first part of an IPv4 tail: two groups' worth.
            size_t start = i - digits;
            unsigned dots = 0;
            for (size_t j = start; j < text.len; j++) {
                if (text.data[j] == '.')
                    dots++;
                else if (text.data[j] < '0' || text.data[j] > '9')
                    return false;
            }
            groups += 2;
            return digits > 0 && dots == 3 && text.data[text.len - 1] != '.' &&
                   (gap ? groups < 8 : groups == 8);
        }
        if (c != ':') {
            if (!http_is(c, HTTP_CLASS_HEX) || ++digits > 4)
                return false;
            continue;
        }
        bool doubled = i + 1 < text.len && text.data[i + 1] == ':';
        if ((digits == 0 && !doubled) || (doubled && gap))
            return false;
        groups += digits > 0;
        digits = 0;
        gap = gap || doubled;
        i += doubled;
        if (!doubled && i + 1 == text.len)
            return false;
    }
    groups += digits > 0;
    return gap ? groups < 8 : groups == 8;
}

static bool reg_name_valid(struct slice text)
{
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (http_is(text.data[i], HTTP_CLASS_HOST))
            continue;
        if (text.data[i] != '%' || text.len - i < 3 || !http_is(text.data[i + 1], HTTP_CLASS_HEX) ||
            !http_is(text.data[i + 2], HTTP_CLASS_HEX))
            return false;
        i += 2;
    }
    return true;
}

bool http_host_read(struct slice text, struct slice *host, uint16_t *port)
{
    if (text.len > HTTP_HOST_BYTES_MAX)
        return false;
    size_t colon = host_port_colon(text);
    unsigned number = 0;
    for (size_t i = colon + 1; i < text.len; i++) {
        number = number * 10 + (unsigned)(text.data[i] - '0');
        if (number > UINT16_MAX)
            return false;
    }
    struct slice name = {text.data, colon};
    bool bracketed = name.len > 2 && name.data[0] == '[' && name.data[name.len - 1] == ']';
    if (bracketed ? !ipv6_valid((struct slice){name.data + 1, name.len - 2}) : !reg_name_valid(name))
        return false;
    *host = name;
    *port = (uint16_t)number;
    return true;
}

bool http_host_valid(struct slice text)
{
    struct slice host;
    uint16_t port;
    return http_host_read(text, &host, &port);
}

void http_host_split(struct slice text, struct slice *host, uint16_t *port)
{
    bool valid = http_host_read(text, host, port);
    CHECK(valid);
}

static bool cookie_in_value(struct slice rest, struct slice name, struct slice *value)
{
    while (rest.len > 0) {
        const char *semicolon = memchr(rest.data, ';', rest.len);
        size_t len = semicolon != NULL ? (size_t)(semicolon - rest.data) : rest.len;
        struct slice pair = {rest.data, len};
        size_t used = semicolon != NULL ? len + 1 : len;
        rest = (struct slice){rest.data + used, rest.len - used};
        const char *equals = memchr(pair.data, '=', pair.len);
        if (equals == NULL)
            continue;
        size_t name_len = (size_t)(equals - pair.data);
        if (!slice_equal(http_trim((struct slice){pair.data, name_len}), name))
            continue;
        *value = http_trim((struct slice){equals + 1, pair.len - name_len - 1});
        return true;
    }
    return false;
}

enum status http_cookie_find(const struct http_fields *fields, struct slice name, struct slice *value)
{
    if (!http_fields_have(fields, HTTP_FIELD_COOKIE))
        return STATUS_NOT_FOUND;
    for (uint32_t i = fields->first[HTTP_FIELD_COOKIE]; i < fields->count; i++)
        if (fields->items[i].id == HTTP_FIELD_COOKIE && cookie_in_value(fields->items[i].value, name, value))
            return STATUS_OK;
    return STATUS_NOT_FOUND;
}

enum status http_query_find(struct slice query, struct slice name, struct slice *value)
{
    while (query.len > 0) {
        const char *ampersand = memchr(query.data, '&', query.len);
        size_t len = ampersand != NULL ? (size_t)(ampersand - query.data) : query.len;
        struct slice pair = {query.data, len};
        size_t used = ampersand != NULL ? len + 1 : len;
        query = (struct slice){query.data + used, query.len - used};
        const char *equals = pair.len > 0 ? memchr(pair.data, '=', pair.len) : NULL;
        size_t name_len = equals != NULL ? (size_t)(equals - pair.data) : pair.len;
        if (!slice_equal((struct slice){pair.data, name_len}, name))
            continue;
        size_t skip = equals != NULL ? name_len + 1 : name_len;
        *value = (struct slice){pair.data + skip, pair.len - skip};
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

static struct slice until(struct slice text, char end)
{
    const char *at = memchr(text.data, end, text.len);
    return at == NULL ? text : (struct slice){text.data, (size_t)(at - text.data)};
}

struct slice http_address_alone(struct slice entry)
{
    const struct slice mapped = SLICE("::ffff:");
    if (entry.len > 0 && entry.data[0] == '[')
        entry = until((struct slice){entry.data + 1, entry.len - 1}, ']');
    struct slice host = until(entry, ':');
    // One colon stands before a port, several make an IPv6 address.
    if (entry.len > host.len && memchr(host.data + host.len + 1, ':', entry.len - host.len - 1) == NULL &&
        entry.data[entry.len - 1] >= '0' && entry.data[entry.len - 1] <= '9')
        return host;
    entry = until(entry, '%');
    if (entry.len > mapped.len && memchr(entry.data, '.', entry.len) != NULL &&
        slice_equal_nocase((struct slice){entry.data, mapped.len}, mapped))
        entry = (struct slice){entry.data + mapped.len, entry.len - mapped.len};
    return entry;
}

static bool is_forwarding(const void *context, const struct http_field *field)
{
    (void)context;
    return (http_field_bit((enum http_field_id)field->id) & HTTP_FIELDS_FORWARDING) != 0;
}

void http_forwarded_remove(struct http_fields *fields)
{
    if ((fields->present & HTTP_FIELDS_FORWARDING) != 0)
        http_fields_remove(fields, is_forwarding, NULL);
}

struct http_forwarded http_forwarded_of(const struct http_fields *fields)
{
    bool any = http_fields_have(fields, HTTP_FIELD_X_FORWARDED_FOR);
    return (struct http_forwarded){.fields = fields, .at = any ? fields->count : 0};
}

bool http_forwarded_next(struct http_forwarded *walk, struct slice *entry)
{
    for (;;) {
        while (walk->rest.len == 0) {
            if (walk->at == 0)
                return false;
            const struct http_field *field = &walk->fields->items[--walk->at];
            if (field->id == HTTP_FIELD_X_FORWARDED_FOR)
                walk->rest = field->value;
        }
        size_t start = walk->rest.len;
        while (start > 0 && walk->rest.data[start - 1] != ',')
            start--;
        *entry = http_trim((struct slice){walk->rest.data + start, walk->rest.len - start});
        walk->rest.len = start > 0 ? start - 1 : 0;
        if (entry->len > 0)
            return true;
    }
}

static struct slice forwarded_address(const struct http_fields *fields, unsigned trusted_hops,
                                      struct slice peer)
{
    struct http_forwarded walk = http_forwarded_of(fields);
    struct slice found = peer;
    for (unsigned seen = 0; seen < trusted_hops && http_forwarded_next(&walk, &found); seen++)
        continue;
    return found;
}

struct slice http_client_address(const struct http_fields *fields, unsigned trusted_hops, struct slice peer)
{
    return http_address_alone(forwarded_address(fields, trusted_hops, peer));
}
