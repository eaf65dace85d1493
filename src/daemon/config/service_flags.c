// SPDX-License-Identifier: Apache-2.0
// Flags in the path of one service's requests: the key, the context, the headers.
#include "base/check.h"
#include "daemon/config/config_private.h"
#include "net/http/field.h"

static void attribute_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_attribute *attribute = target;
    bool cookie = config_given(node, "cookie");
    bool header = config_given(node, "header");
    if (cookie && header)
        config_error_at(reader, config_node_find(node, "cookie")->key,
                        "a value stands in one place: either a 'cookie' or a 'header', not both");
    else if (node != NULL && node->kind != CONFIG_NODE_SCALAR && !cookie && !header)
        config_error_at(reader, node,
                        "write {header: name}, {cookie: name}, 'address', 'method', 'host' or 'path'");
    if (cookie || header)
        attribute->kind = cookie ? CONFIG_ATTRIBUTE_COOKIE : CONFIG_ATTRIBUTE_HEADER;
}

static const struct config_choice attribute_choices[] = {{"address", CONFIG_ATTRIBUTE_ADDRESS},
                                                         {"method", CONFIG_ATTRIBUTE_METHOD},
                                                         {"host", CONFIG_ATTRIBUTE_HOST},
                                                         {"path", CONFIG_ATTRIBUTE_PATH},
                                                         {NULL, 0}};
static const struct config_word attribute_words[] = {
    {.word = "header",
     .kind = CONFIG_KIND_TOKEN,
     CONFIG_AT(struct config_attribute, source),
     .help = "the value of this header"},
    {.word = "cookie",
     .kind = CONFIG_KIND_TOKEN,
     CONFIG_AT(struct config_attribute, source),
     .help = "the value of this cookie"},
};
const struct config_section config_attribute_section = {
    .title = "attribute",
    .help = "Where in a request a value stands: a header or a cookie by its name, or the client's `address`, "
            "the `method`, the `host` or the `path`.",
    CONFIG_WORDS(attribute_words),
    .choices = attribute_choices,
    .choice_offset = offsetof(struct config_attribute, kind),
    .choice_size = sizeof(enum config_attribute_kind),
    .finish = attribute_finish,
};

static const struct config_word header_flag_item = {
    .word = "flags", .kind = CONFIG_KIND_TEXT, .size = CONFIG_FLAG_BYTES};
static const struct config_word flag_header_words[] = {
    {.word = "flags",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_flag_header, flags, flag_count),
     .min = 1,
     .max = CONFIG_HEADER_FLAGS_MAX,
     .item = &header_flag_item,
     .required = true,
     .help = "keys of flags"},
};
static const struct config_section flag_header_section = {
    .title = "flag header",
    .help =
        "A header that the service gets, with the variants of some flags: `X-Flags: [banner, theme]` gives "
        "it `X-Flags: banner=on, theme=dark`. What clients send under that name is removed.",
    CONFIG_WORDS(flag_header_words),
    .shorthand = "flags",
};

static bool field_name_same(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        char x = *a == '_' ? '-' : slice_lower_char(*a);
        char y = *b == '_' ? '-' : slice_lower_char(*b);
        if (x != y)
            return false;
    }
    return *a == *b;
}

static void flag_header_check(struct config_reader *reader, const struct config_node *key,
                              const struct config_service_flags *flags, uint32_t index)
{
    const struct config_flag_header *header = &flags->headers[index];
    if (http_field_id_of(slice_of(header->name)) != HTTP_FIELD_OTHER)
        config_error_at(reader, key, "'%s' has a meaning of its own; choose another name, such as X-Flags",
                        header->name);
    for (uint32_t i = 0; i < index; i++)
        if (field_name_same(header->name, flags->headers[i].name))
            config_error_at(reader, key, "'%s' and '%s' are one header to many servers", header->name,
                            flags->headers[i].name);
    for (uint32_t i = 0; i < header->flag_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(header->flags[i], header->flags[j]) == 0)
                config_error_at(reader, key, "flag '%s' stands in this header twice", header->flags[i]);
}

static void service_flags_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_service_flags *flags = target;
    const struct config_node *headers = config_node_get(node, "headers");
    const struct config_entry *entry = headers != NULL ? headers->first : NULL;
    uint32_t total = 0;
    for (uint32_t i = 0; i < flags->header_count && entry != NULL; i++, entry = entry->next) {
        flag_header_check(reader, entry->key, flags, i);
        total += flags->headers[i].flag_count;
    }
    if (total > CONFIG_HEADER_FLAGS_MAX)
        config_error_at(reader, headers, "all headers together have %u flags; at most %d are possible", total,
                        CONFIG_HEADER_FLAGS_MAX);
    const struct config_entry *given = config_node_find(config_node_get(node, "context"), "targetingKey");
    if (given != NULL)
        config_error_at(reader, given->key, "'targetingKey' is what the word 'key' says");
}

static const struct config_word service_flags_words[] = {
    {.word = "key",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service_flags, key),
     .section = &config_attribute_section,
     .optional = true,
     .fallback = "the service's unit",
     .help = "the targeting key: who asks"},
    {.word = "context",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config_service_flags, context, context_count),
     .max = CONFIG_ATTRIBUTES_MAX,
     .section = &config_attribute_section,
     .fallback = "none",
     .help = "further members of the evaluation context, by name"},
    {.word = "headers",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config_service_flags, headers, header_count),
     .max = CONFIG_FLAG_HEADERS_MAX,
     .section = &flag_header_section,
     .fallback = "none",
     .help = "headers for the service, by name"},
    {.word = "version",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_service_flags, version),
     .help = "a flag whose variants are names of versions: it chooses the version of each request; where it "
             "names none, the request goes the usual way"},
};
const struct config_section config_service_flags_section = {
    .title = "flags of a service",
    .help = "Flags in the path of this service's requests.",
    CONFIG_WORDS(service_flags_words),
    .finish = service_flags_finish,
};
