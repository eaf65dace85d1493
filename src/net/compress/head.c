// SPDX-License-Identifier: Apache-2.0
// What becomes of heads and trailers. Pure. Two rules: what was said of the origin's bytes must not be said
// of ours, and a cache must be able to tell the two apart.
#include "base/check.h"
#include "net/compress/compress_private.h"

static void take_out(struct compress_head *head, struct slice name)
{
    struct http_fields *came = &head->response->fields;
    for (uint32_t i = 0; i < came->count; i++)
        if (slice_equal_nocase(came->items[i].name, name))
            came->items[i].marks |= HTTP_FIELD_HOP;
    size_t kept = 0;
    for (size_t i = 0; i < head->added_count; i++)
        if (!slice_equal_nocase(head->added[i].name, name))
            head->added[kept++] = head->added[i];
    head->added_count = kept;
}

static void add(struct compress_head *head, struct slice name, struct slice value)
{
    head->added[head->added_count++] = (struct http_field){.name = name, .value = value};
}

// A strong tag promises equal bytes (RFC 9110 8.8.1). One without quotes is none, and goes.
static void weaken(struct compress_head *head, struct text *storage)
{
    uint32_t at = 0;
    const struct http_field *field = compress_head_next(head, SLICE("etag"), &at);
    if (field == NULL || slice_starts_with(field->value, SLICE("W/\"")))
        return;
    bool tag = slice_starts_with(field->value, SLICE("\""));
    text_add(storage, SLICE("W/"));
    text_add(storage, field->value);
    take_out(head, SLICE("etag"));
    if (tag && !storage->cut)
        add(head, SLICE("ETag"), text_slice(storage));
}

// Digests are of the bytes as encoded (RFC 9530, RFC 3230), MD5 as well (RFC 1864).
static const struct slice digests[] = {
    {"content-digest", 14}, {"repr-digest", 11}, {"digest", 6}, {"content-md5", 11}};

static void vary(struct compress_head *head)
{
    if (!compress_head_lists(head, SLICE("vary"), SLICE("accept-encoding")) &&
        !compress_head_lists(head, SLICE("vary"), SLICE("*")))
        add(head, SLICE("Vary"), SLICE("Accept-Encoding"));
}

void compress_head_edit(struct compress_head *head, const struct compress_asked *asked,
                        const struct compress_choice *choice, struct text *etag)
{
    struct http_response *response = head->response;
    bool coded = choice->codec != HTTP_CODEC_NONE;
    if (choice->varies)
        vary(head);
    if (coded || (response->status == 304 && asked->weak))
        weaken(head, etag);
    if (!coded)
        return;
    for (size_t i = 0; i < ARRAY_LEN(digests); i++)
        take_out(head, digests[i]);
    take_out(head, SLICE("accept-ranges"));
    take_out(head, SLICE("content-encoding"));
    add(head, SLICE("Content-Encoding"), http_codec_name(choice->codec));
    response->has_content_length = false;
    if (response->framing != HTTP_FRAMING_NONE)
        response->framing = HTTP_FRAMING_CHUNKED;
}

void compress_trailers_edit(struct http_fields *trailers)
{
    for (uint32_t i = 0; i < trailers->count; i++)
        for (size_t j = 0; j < ARRAY_LEN(digests); j++)
            if (slice_equal_nocase(trailers->items[i].name, digests[j]))
                trailers->items[i].marks |= HTTP_FIELD_HOP;
}
