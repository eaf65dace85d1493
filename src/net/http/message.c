// SPDX-License-Identifier: Apache-2.0
// Copies of heads: the head's own part, then the bytes its slices stand for.
#include "net/http/message.h"

#include <string.h>

static size_t fixed_bytes(const struct http_request *request)
{
    return offsetof(struct http_request, fields.items) +
           request->fields.count * sizeof request->fields.items[0];
}

size_t http_request_copy_bytes(const struct http_request *request)
{
    const struct http_fields *fields = &request->fields;
    size_t bytes = fixed_bytes(request) + request->method.len + request->target.len + request->path.len +
                   request->query.len + request->authority.len + request->host.len + request->upgrade.len;
    for (uint32_t i = 0; i < fields->count; i++)
        bytes += fields->items[i].name.len + fields->items[i].value.len;
    return bytes;
}

static char *move(struct slice *slice, char *to)
{
    if (slice->data == NULL)
        return to;
    memcpy(to, slice->data, slice->len);
    slice->data = to;
    return to + slice->len;
}

struct http_request *http_request_copy(const struct http_request *request, void *storage)
{
    struct http_request *copy = storage;
    struct slice *const slices[] = {&copy->method,    &copy->target, &copy->path,   &copy->query,
                                    &copy->authority, &copy->host,   &copy->upgrade};
    memcpy(copy, request, fixed_bytes(request));
    char *to = (char *)storage + fixed_bytes(request);
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++)
        to = move(slices[i], to);
    for (uint32_t i = 0; i < copy->fields.count; i++) {
        to = move(&copy->fields.items[i].name, to);
        to = move(&copy->fields.items[i].value, to);
        copy->fields.items[i].marks &= (uint16_t)~HTTP_FIELD_CONTIGUOUS;
    }
    return copy;
}
