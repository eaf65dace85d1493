// SPDX-License-Identifier: Apache-2.0
// The part of a service that has to do with flags, checked and compiled: each flag once, however many fields
// name it, with the key of its dictionary member written out.
#include "net/http/field.h"
#include "net/proxy/table_private.h"

enum { FLAG_KEY_BYTES_MAX = 1024 }; // of keys and of names of attributes

// ---- checks ----

static bool text_given(const char *text)
{
    return text != NULL && text[0] != '\0' && strnlen(text, FLAG_KEY_BYTES_MAX) < FLAG_KEY_BYTES_MAX;
}

const char *table_attribute_check(const struct proxy_attribute_plan *attribute)
{
    if ((unsigned)attribute->kind > PROXY_ATTRIBUTE_PATH)
        return "a value of a request comes from nowhere";
    if (attribute->kind != PROXY_ATTRIBUTE_HEADER && attribute->kind != PROXY_ATTRIBUTE_COOKIE)
        return NULL;
    if (!text_given(attribute->source) || !http_token_valid(slice_of(attribute->source)))
        return "a value of a request needs the name of a field or cookie";
    return NULL;
}

static const char *check_context(const struct proxy_service_plan *plan)
{
    if (plan->attribute_count > PROXY_ATTRIBUTES_MAX)
        return "the flags' context has too many attributes";
    const char *why = plan->key == NULL ? NULL : table_attribute_check(plan->key);
    for (uint32_t i = 0; i < plan->attribute_count && why == NULL; i++) {
        const struct proxy_attribute_plan *attribute = &plan->attributes[i];
        if (!text_given(attribute->name))
            return "an attribute of the flags' context has no name, or too long a one";
        if (strcmp(attribute->name, "targetingKey") == 0)
            return "the targeting key of the flags' context is no attribute: it has a word of its own";
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(attribute->name, plan->attributes[j].name) == 0)
                return "two attributes of the flags' context have one name";
        why = table_attribute_check(attribute);
    }
    return why;
}

static const char *check_header_flags(const struct proxy_flag_header_plan *header)
{
    for (uint32_t i = 0; i < header->flag_count; i++) {
        if (!text_given(header->flags[i]))
            return "a flag of a flag field has no key, or too long a one";
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(header->flags[i], header->flags[j]) == 0)
                return "a flag field names a flag twice";
    }
    return NULL;
}

static const char *check_headers(const struct proxy_service_plan *plan)
{
    uint32_t flags = 0;
    if (plan->flag_header_count > PROXY_FLAG_HEADERS_MAX)
        return "a service has too many flag fields";
    for (uint32_t i = 0; i < plan->flag_header_count; i++) {
        const struct proxy_flag_header_plan *header = &plan->flag_headers[i];
        if (!text_given(header->name) || !http_token_valid(slice_of(header->name)))
            return "the name of a flag field is no token";
        if (http_field_id_of(slice_of(header->name)) != HTTP_FIELD_OTHER)
            return "the name of a flag field is that of a field with a use of its own";
        for (uint32_t j = 0; j < i; j++)
            if (http_field_alike(slice_of(header->name), slice_of(plan->flag_headers[j].name)))
                return "two flag fields have one name";
        flags +=
            header->flag_count <= PROXY_HEADER_FLAGS_MAX ? header->flag_count : PROXY_HEADER_FLAGS_MAX + 1;
        if (flags > PROXY_HEADER_FLAGS_MAX)
            return "a service's flag fields name too many flags";
        const char *why = check_header_flags(header);
        if (why != NULL)
            return why;
    }
    return NULL;
}

const char *table_flags_check(const struct proxy_service_plan *plan)
{
    if ((plan->version_flag != NULL && !text_given(plan->version_flag)) ||
        (plan->arm_flag != NULL && !text_given(plan->arm_flag)))
        return "a flag has no key, or too long a one";
    if (plan->arm_flag != NULL && plan->weight_control > 0)
        return "a rollout of a flag has no control arm";
    const char *why = check_context(plan);
    return why != NULL ? why : check_headers(plan);
}

// ---- sizes ----

static size_t flag_bytes(const char *key)
{
    return key == NULL ? 0 : table_text_bytes(key) + table_carve_bytes(strlen(key), 3);
}

size_t table_attribute_bytes(const struct proxy_attribute_plan *attribute)
{
    return attribute == NULL ? 0 : table_text_bytes(attribute->name) + table_text_bytes(attribute->source);
}

static bool has_flags(const struct proxy_service_plan *plan)
{
    return plan->flag_header_count > 0 || plan->version_flag != NULL || plan->arm_flag != NULL;
}

size_t table_flags_bytes(const struct proxy_service_plan *plan)
{
    if (!has_flags(plan))
        return 0;
    size_t bytes = table_carve_bytes(1, sizeof(struct proxy_service_flags));
    bytes += table_carve_bytes(1, sizeof(struct proxy_attribute)) + table_attribute_bytes(plan->key);
    bytes += table_carve_bytes(plan->attribute_count, sizeof(struct proxy_attribute));
    for (uint32_t i = 0; i < plan->attribute_count; i++)
        bytes += table_attribute_bytes(&plan->attributes[i]);
    uint32_t flags = 2;
    bytes += flag_bytes(plan->version_flag) + flag_bytes(plan->arm_flag);
    bytes += table_carve_bytes(plan->flag_header_count, sizeof(struct proxy_flag_header));
    for (uint32_t i = 0; i < plan->flag_header_count; i++) {
        const struct proxy_flag_header_plan *header = &plan->flag_headers[i];
        bytes += table_text_bytes(header->name);
        flags += header->flag_count;
        for (uint32_t j = 0; j < header->flag_count; j++)
            bytes += flag_bytes(header->flags[j]);
    }
    return bytes + table_carve_bytes(flags, sizeof(struct proxy_flag));
}

// ---- compiling ----

// RFC 9651 3.1.2: lcalpha, DIGIT, "_", "-", "." and "*", the last of which is our escape.
static bool member_char(char c, bool first)
{
    if (c >= 'a' && c <= 'z')
        return true;
    return !first && ((c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.');
}

static struct slice carve_member(struct table_carve *from, struct slice key)
{
    char *text = table_carve(from, key.len, 3);
    size_t len = 0;
    for (size_t i = 0; i < key.len; i++) {
        unsigned char c = (unsigned char)key.data[i];
        if (member_char(key.data[i], i == 0)) {
            text[len++] = key.data[i];
            continue;
        }
        text[len++] = '*';
        text[len++] = "0123456789abcdef"[c >> 4];
        text[len++] = "0123456789abcdef"[c & 15];
    }
    return (struct slice){text, len};
}

struct flag_list {
    struct proxy_flag *flags;
    uint32_t count;
};

// The flag's index in the list; it is added when it is new.
static uint8_t flag_index(struct table_carve *from, struct flag_list *list, const char *key)
{
    if (key == NULL)
        return PROXY_FLAG_NONE;
    for (uint32_t i = 0; i < list->count; i++)
        if (slice_equal(list->flags[i].key, slice_of(key)))
            return (uint8_t)i;
    struct proxy_flag *flag = &list->flags[list->count];
    flag->key = table_carve_text(from, key, false);
    flag->member = carve_member(from, flag->key);
    return (uint8_t)list->count++;
}

void table_attribute_compile(struct table_carve *from, const struct proxy_attribute_plan *plan,
                             struct proxy_attribute *attribute)
{
    attribute->kind = plan->kind;
    attribute->name = table_carve_text(from, plan->name, false);
    attribute->source = table_carve_text(from, plan->source, false);
}

static void compile_context(struct table_carve *from, const struct proxy_service_plan *plan,
                            struct proxy_service_flags *flags)
{
    struct proxy_attribute *key = table_carve(from, 1, sizeof *key);
    struct proxy_attribute *attributes = table_carve(from, plan->attribute_count, sizeof *attributes);
    if (plan->key != NULL) {
        table_attribute_compile(from, plan->key, key);
        flags->key = key;
    }
    for (uint32_t i = 0; i < plan->attribute_count; i++)
        table_attribute_compile(from, &plan->attributes[i], &attributes[i]);
    flags->attributes = attributes;
    flags->attribute_count = plan->attribute_count;
}

const struct proxy_service_flags *table_flags_compile(struct table_carve *from,
                                                      const struct proxy_service_plan *plan)
{
    if (!has_flags(plan))
        return NULL;
    struct proxy_service_flags *flags = table_carve(from, 1, sizeof *flags);
    uint32_t most = 2;
    for (uint32_t i = 0; i < plan->flag_header_count; i++)
        most += plan->flag_headers[i].flag_count;
    struct flag_list list = {.flags = table_carve(from, most, sizeof *list.flags)};
    compile_context(from, plan, flags);
    struct proxy_flag_header *headers = table_carve(from, plan->flag_header_count, sizeof *headers);
    for (uint32_t i = 0; i < plan->flag_header_count; i++) {
        headers[i].name = table_carve_text(from, plan->flag_headers[i].name, false);
        headers[i].flag_count = plan->flag_headers[i].flag_count;
        for (uint32_t j = 0; j < headers[i].flag_count; j++)
            headers[i].flags[j] = flag_index(from, &list, plan->flag_headers[i].flags[j]);
    }
    flags->headers = headers;
    flags->header_count = plan->flag_header_count;
    flags->version_flag = flag_index(from, &list, plan->version_flag);
    flags->arm_flag = flag_index(from, &list, plan->arm_flag);
    flags->flags = list.flags;
    flags->flag_count = list.count;
    return flags;
}

bool table_flags_forged(const struct proxy_service_flags *flags, struct slice name)
{
    for (uint32_t i = 0; i < flags->header_count; i++)
        if (http_field_alike(flags->headers[i].name, name))
            return true;
    return false;
}
