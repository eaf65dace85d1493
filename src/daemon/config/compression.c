// SPDX-License-Identifier: Apache-2.0
// Compression of answers, of a service or of one route.
#include "base/check.h"
#include "daemon/config/config_private.h"

static void codecs_check(struct config_reader *reader, const struct config_node *list,
                         const struct config_compression *compression)
{
    const struct config_entry *entry = list->kind == CONFIG_NODE_LIST ? list->first : NULL;
    for (uint32_t i = 0; i < compression->codec_count && entry != NULL; i++, entry = entry->next)
        for (uint32_t j = 0; j < i; j++)
            if (compression->codecs[j] == compression->codecs[i])
                config_error_at(reader, entry->value, "'%s' stands in this list twice",
                                config_show(entry->value->text).text);
}

static bool type_valid(struct slice type)
{
    const char *slash = memchr(type.data, '/', type.len);
    if (slash == NULL)
        return false;
    struct slice first = {type.data, (size_t)(slash - type.data)};
    struct slice second = {slash + 1, type.len - first.len - 1};
    return http_token_valid(first) && memchr(first.data, '*', first.len) == NULL &&
           http_token_valid(second) &&
           (slice_equal(second, SLICE("*")) || memchr(second.data, '*', second.len) == NULL);
}

static void types_check(struct config_reader *reader, const struct config_node *list,
                        const struct config_compression *compression)
{
    const struct config_entry *entry = list->kind == CONFIG_NODE_LIST ? list->first : NULL;
    for (uint32_t i = 0; i < compression->type_count && entry != NULL; i++, entry = entry->next)
        if (!type_valid(slice_of(compression->types[i])))
            config_error_at(reader, entry->value, "'%s' is no type: give one such as text/html, or text/*",
                            config_show(entry->value->text).text);
}

static void compression_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    static const enum http_codec all[] = {HTTP_CODEC_ZSTD, HTTP_CODEC_BR, HTTP_CODEC_GZIP};
    struct config_compression *compression = target;
    if (node->kind == CONFIG_NODE_MAP)
        compression->state = CONFIG_COMPRESSION_ON;
    if (config_given(node, "codecs")) {
        codecs_check(reader, config_node_get(node, "codecs"), compression);
    } else {
        memcpy(compression->codecs, all, sizeof all);
        compression->codec_count = ARRAY_LEN(all);
    }
    if (config_given(node, "types"))
        types_check(reader, config_node_get(node, "types"), compression);
}

static const struct config_choice state_choices[] = {{"on", CONFIG_COMPRESSION_ON},
                                                     {"off", CONFIG_COMPRESSION_OFF},
                                                     {"true", CONFIG_COMPRESSION_ON},
                                                     {"false", CONFIG_COMPRESSION_OFF},
                                                     {NULL, 0}};
static const struct config_choice codec_choices[] = {
    {"zstd", HTTP_CODEC_ZSTD}, {"br", HTTP_CODEC_BR}, {"gzip", HTTP_CODEC_GZIP}, {NULL, 0}};
static const struct config_choice level_choices[] = {{"fast", CONFIG_LEVEL_FAST},
                                                     {"balanced", CONFIG_LEVEL_BALANCED},
                                                     {"small", CONFIG_LEVEL_SMALL},
                                                     {NULL, 0}};
static const struct config_word codec_item = {
    .word = "codecs", .kind = CONFIG_KIND_CHOICE, .size = sizeof(enum http_codec), .choices = codec_choices};
static const struct config_word type_item = {
    .word = "types", .kind = CONFIG_KIND_TEXT, .size = CONFIG_WORD_BYTES};
static const struct config_word compression_words[] = {
    {.word = "codecs",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_compression, codecs, codec_count),
     .min = 1,
     .max = ARRAY_LEN(codec_choices) - 1,
     .in_place = true,
     .item = &codec_item,
     .fallback = "`[zstd, br, gzip]`",
     .help = "what may be used; where a client wants several alike, the first"},
    {.word = "types",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_compression, types, type_count),
     .min = 1,
     .max = CONFIG_TYPES_MAX,
     .item = &type_item,
     .fallback = "text, JSON, XML, JavaScript, SVG, wasm and fonts; see the guide",
     .help =
         "which types of answers, in place of the usual ones: `text/html`, or `text/*` for all of a kind"},
    {.word = "min_size",
     .kind = CONFIG_KIND_SIZE,
     CONFIG_AT(struct config_compression, bytes_min),
     .max = 1ULL << 30,
     .fallback = "1KiB",
     .help = "answers of known and lesser length stay as they are"},
    {.word = "level",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_compression, level),
     .choices = level_choices,
     .fallback = "balanced",
     .help =
         "what matters more: `fast` costs the least time of the processor, `small` gives the fewest bytes"},
    {.word = "credentials",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_compression, credentials),
     .choices = config_off_or_on,
     .fallback = "off",
     .help = "on: also answers to requests with Cookie or Authorization. Only where no answer has a secret "
             "beside what a request may put into it"},
};
const struct config_section config_compression_section = {
    .title = "compression",
    .help = "Compresses answers for clients that accept it. `compression: on` takes all words as they are by "
            "default; of a route, what is given is in place of all that its service says.",
    CONFIG_WORDS(compression_words),
    .choices = state_choices,
    .choice_offset = offsetof(struct config_compression, state),
    .choice_size = sizeof(enum config_compression_state),
    .finish = compression_finish,
};
