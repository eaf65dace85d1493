// SPDX-License-Identifier: Apache-2.0
// The choice: first whether the answer is one to compress at all, then what its client accepts. Pure.
#include "base/check.h"
#include "net/compress/compress_private.h"

const char *compress_plain_name(enum compress_plain plain)
{
    static const char *const names[COMPRESS_PLAINS] = {"compressed",   "status",      "encoded",
                                                       "no_transform", "type",        "small",
                                                       "not_accepted", "credentials", "busy"};
    CHECK(plain < COMPRESS_PLAINS);
    return names[plain];
}

struct compress_asked compress_asked_of(const struct http_fields *fields)
{
    struct compress_asked asked = {.accepted = http_accepted_read(fields),
                                   .credentials = http_fields_find(fields, HTTP_FIELD_COOKIE) != NULL ||
                                                  http_fields_find(fields, HTTP_FIELD_AUTHORIZATION) != NULL};
    for (uint32_t i = 0; i < fields->count; i++) {
        const struct http_field *field = &fields->items[i];
        if (field->id == HTTP_FIELD_CACHE_CONTROL && http_list_has(field->value, SLICE("no-transform")))
            memset(&asked.accepted, 0, sizeof asked.accepted);
        if (field->id == HTTP_FIELD_IF_NONE_MATCH)
            asked.weak |= memmem(field->value.data, field->value.len, "W/\"", 3) != NULL;
    }
    return asked;
}

const struct http_field *compress_head_next(const struct compress_head *head, struct slice name, uint32_t *at)
{
    const struct http_fields *came = &head->response->fields;
    while (*at < came->count + head->added_count) {
        uint32_t i = (*at)++;
        const struct http_field *field = i < came->count ? &came->items[i] : &head->added[i - came->count];
        if ((field->marks & HTTP_FIELD_HOP) == 0 && slice_equal_nocase(field->name, name))
            return field;
    }
    return NULL;
}

static const struct http_field *find(const struct compress_head *head, struct slice name)
{
    uint32_t at = 0;
    return compress_head_next(head, name, &at);
}

bool compress_head_lists(const struct compress_head *head, struct slice name, struct slice token)
{
    const struct http_field *field;
    for (uint32_t at = 0; (field = compress_head_next(head, name, &at)) != NULL;)
        if (http_list_has(field->value, token))
            return true;
    return false;
}

// ---- the answer ----

static bool begins(struct slice text, struct slice prefix)
{
    return text.len >= prefix.len && slice_equal_nocase((struct slice){text.data, prefix.len}, prefix);
}

static bool type_is(struct slice type, struct slice listed)
{
    if (listed.len > 1 && listed.data[listed.len - 1] == '*')
        return begins(type, (struct slice){listed.data, listed.len - 1});
    return slice_equal_nocase(type, listed);
}

// Streams of events are never held back, not even for the time of a flush; gRPC has a compression of its own.
static bool type_listed(const struct compress_settings *settings, const struct http_field *field)
{
    if (field == NULL)
        return false;
    const char *semicolon = memchr(field->value.data, ';', field->value.len);
    size_t len = semicolon == NULL ? field->value.len : (size_t)(semicolon - field->value.data);
    struct slice type = http_trim((struct slice){field->value.data, len});
    if (slice_equal_nocase(type, SLICE("text/event-stream")) || begins(type, SLICE("application/grpc")))
        return false;
    for (uint32_t i = 0; i < settings->type_count; i++)
        if (type_is(type, settings->types[i]))
            return true;
    return false;
}

static bool status_fits(const struct compress_head *head)
{
    unsigned status = head->response->status;
    return status != 204 && status != 205 && status != 206 && status != 304 &&
           find(head, SLICE("content-range")) == NULL;
}

static bool encoded(const struct compress_head *head)
{
    const struct http_field *field = find(head, SLICE("content-encoding"));
    return field != NULL && !slice_equal_nocase(field->value, SLICE("identity"));
}

static bool small(const struct compress_settings *settings, const struct http_response *response)
{
    uint64_t least = settings->bytes_min > 0 ? settings->bytes_min : 1;
    return response->has_content_length && response->content_length < least;
}

static enum compress_plain plain_answer(const struct compress_settings *settings,
                                        const struct compress_head *head)
{
    if (!status_fits(head))
        return COMPRESS_PLAIN_STATUS;
    if (encoded(head))
        return COMPRESS_PLAIN_ENCODED;
    if (compress_head_lists(head, SLICE("cache-control"), SLICE("no-transform")))
        return COMPRESS_PLAIN_NO_TRANSFORM;
    if (!type_listed(settings, find(head, SLICE("content-type"))))
        return COMPRESS_PLAIN_TYPE;
    return small(settings, head->response) ? COMPRESS_PLAIN_SMALL : COMPRESS_PLAIN_NOT;
}

// ---- the client ----

// The codec with the greatest weight, the first listed of several. NONE where the client would rather have
// that.
static enum http_codec accepted_best(const struct compress_settings *settings,
                                     const struct http_accepted *accepted)
{
    enum http_codec best = HTTP_CODEC_NONE;
    uint16_t weight = 0;
    for (uint32_t i = 0; i < settings->codec_count; i++)
        if (accepted->weights[settings->codecs[i]] > weight) {
            best = settings->codecs[i];
            weight = accepted->weights[best];
        }
    return weight >= accepted->weights[HTTP_CODEC_NONE] ? best : HTTP_CODEC_NONE;
}

static enum compress_plain plain_client(const struct compress_facts *facts, enum http_codec codec)
{
    if (codec == HTTP_CODEC_NONE)
        return COMPRESS_PLAIN_NOT_ACCEPTED;
    if (facts->asked->credentials && !facts->settings->credentials)
        return COMPRESS_PLAIN_CREDENTIALS;
    return facts->busy ? COMPRESS_PLAIN_BUSY : COMPRESS_PLAIN_NOT;
}

struct compress_choice compress_choose(const struct compress_facts *facts)
{
    const struct compress_settings *settings = facts->settings;
    struct compress_choice choice = {.level = settings->level, .plain = plain_answer(settings, facts->head)};
    // Whether what a 304 confirms could have been compressed is not known.
    choice.varies = choice.plain == COMPRESS_PLAIN_NOT || facts->head->response->status == 304;
    if (choice.plain != COMPRESS_PLAIN_NOT)
        return choice;
    enum http_codec codec = accepted_best(settings, &facts->asked->accepted);
    choice.plain = plain_client(facts, codec);
    if (choice.plain == COMPRESS_PLAIN_NOT)
        choice.codec = codec;
    return choice;
}
