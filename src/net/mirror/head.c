// SPDX-License-Identifier: Apache-2.0
// The request as its targets get it: the primary's head read again, by the same strict parser, and written
// anew with its length, the mark of mirrored requests and, for the candidate, what the plan edits.
#include <string.h>

#include "base/heap.h"
#include "base/text.h"
#include "net/http/http1_write.h"
#include "net/mirror/mirror_private.h"

// Into the mirror's scratch. Fields that do not go on are marked so: the first `strip` names of the plan.
static enum status parse(struct mirror_copy *copy, uint32_t strip)
{
    struct http1_limits limits = http1_limits_default;
    struct http_request *request = &copy->mirror->request;
    size_t head_len;
    enum http1_reject why;
    limits.query_raw = true; // it was taken already
    enum status status =
        http1_request_parse(copy->request.data, copy->head_len, &limits, request, &head_len, &why);
    for (uint32_t i = 0; status == STATUS_OK && i < request->fields.count; i++)
        for (uint32_t k = 0; k < strip; k++)
            if (http_field_alike(request->fields.items[i].name, copy->plan->strip[k]))
                request->fields.items[i].marks |= HTTP_FIELD_HOP;
    return status;
}

enum status mirror_head_write(struct mirror_ask *ask, struct io_buf *buf)
{
    struct mirror_copy *copy = ask->copy;
    const struct mirror_plan *plan = copy->plan;
    const struct http_request *request = &copy->mirror->request;
    struct text target = text_over(copy->mirror->target, sizeof copy->mirror->target);
    struct http1_writer writer = http1_writer_over((char *)buf->data, IO_BUF_BYTES);
    // The first of what is added, and of what is taken out, is for every target.
    if (parse(copy, ask->candidate ? plan->strip_count : 1) != STATUS_OK)
        return STATUS_INVALID;
    struct http1_forward forward = {.trusted = true, // what it says of its client is said already
                                    .trusted_hops = UINT16_MAX,
                                    .framing = request->framing == HTTP_FRAMING_NONE ? HTTP_FRAMING_NONE
                                                                                     : HTTP_FRAMING_LENGTH,
                                    .content_length = copy->request.len - copy->head_len,
                                    .add = plan->add,
                                    .add_count = ask->candidate ? plan->add_count : 1};
    if (ask->candidate)
        forward.host_replace = plan->words.host;
    if (ask->candidate && plan->words.path.len > 0 && request->form == HTTP1_TARGET_ORIGIN) {
        text_add(&target, plan->words.path);
        text_add(&target, request->target);
        forward.target_replace = text_slice(&target);
    }
    enum status status = target.cut ? STATUS_FULL : http1_write_request_head(&writer, request, &forward);
    buf->end = (uint32_t)writer.len;
    return status;
}

enum status mirror_head_show(struct mirror_copy *copy)
{
    const struct mirror_plan *plan = copy->plan;
    const struct http_request *request = &copy->mirror->request;
    struct mirror_seen *seen = &copy->seen;
    if (parse(copy, plan->strip_count) != STATUS_OK)
        return STATUS_INVALID;
    struct http_field *fields = heap_alloc(request->fields.count + plan->add_count, sizeof *fields);
    if (fields == NULL)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < request->fields.count; i++)
        if ((request->fields.items[i].marks & HTTP_FIELD_HOP) == 0)
            fields[seen->field_count++] = request->fields.items[i];
    memcpy(fields + seen->field_count, plan->add, plan->add_count * sizeof *fields);
    seen->field_count += plan->add_count;
    seen->fields = copy->request_fields = fields;
    seen->method = request->method;
    seen->target = request->target;
    seen->authority = request->authority;
    seen->body = (struct slice){copy->request.data + copy->head_len, copy->request.len - copy->head_len};
    copy->repeatable = http_method_idempotent((enum http_method)request->method_id);
    copy->method = (enum http_method)request->method_id;
    return STATUS_OK;
}
