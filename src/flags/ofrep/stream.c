// SPDX-License-Identifier: Apache-2.0
// Streams that stay open: OFREP's server-sent events, flagd's EventStream and SyncFlags. Each remembers the
// tag of the view it was last told of and hears of nothing else. They are told only when every thread has the
// new snapshot, so that who asks again because of an event cannot get the old answer.
#include <stdio.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/eval/image.h"
#include "flags/ofrep/ofrep_private.h"
#include "net/http/field.h"

static struct slice selector_of(const struct ofrep_stream *stream)
{
    return (struct slice){stream->selector, stream->selector_len};
}

static bool view_of(const struct flagset_snapshot *snapshot, struct slice selector, struct flagset_view *view)
{
    if (snapshot == NULL)
        return false;
    if (selector.len > 0)
        return flagset_snapshot_view(snapshot, selector, view);
    *view = snapshot->all;
    return true;
}

// What a stream is told of: its view, and the schedule in it that turned last. Definitions know no time.
static uint64_t state_of(enum ofrep_stream_kind kind, const struct flagset_view *view, int64_t now_s)
{
    static const struct siphash_key KEY = {0x7363686564756c65, 0x7320746861742074};
    int64_t turned_s = kind != OFREP_STREAM_SYNC ? flagset_view_turned_s(view, now_s) : INT64_MIN;
    uint64_t parts[2] = {view->tag, (uint64_t)turned_s};
    return turned_s == INT64_MIN ? view->tag : siphash(KEY, parts, sizeof parts) | 1;
}

bool ofrep_stream_begin(struct ofrep_call *call, enum ofrep_stream_kind kind, const char *content_type)
{
    struct ofrep_core *core = call->core;
    struct flagset_view view;
    if (core->stream_count >= OFREP_STREAMS_MAX)
        return false;
    struct ofrep_stream *stream = heap_alloc(1, sizeof *stream);
    if (stream == NULL)
        return false;
    stream->kind = kind;
    stream->form = call->form;
    stream->due_us = call->due_us;
    stream->told_s = call->request->wall_ms / 1000;
    stream->state =
        view_of(core->snapshot, call->selector, &view) ? state_of(kind, &view, stream->told_s) : 0;
    stream->selector_len = call->selector.len;
    CHECK(call->selector.len <= sizeof stream->selector);
    memcpy(stream->selector, call->selector.data, call->selector.len);
    list_push_back(&core->streams, &stream->link);
    core->stream_count++;
    ofrep_add_field(call, "Cache-Control", SLICE("no-store"));
    ofrep_finish(call, 200);
    call->answer->content_type = content_type;
    call->answer->stream = true;
    call->answer->subject = stream;
    return true;
}

void ofrep_stream_opened(struct ofrep_core *core, struct web_connection *connection, void *subject)
{
    struct ofrep_stream *stream = subject;
    (void)core;
    stream->connection = connection;
}

void ofrep_stream_closed(struct ofrep_core *core, void *subject)
{
    struct ofrep_stream *stream = subject;
    list_remove(&stream->link);
    core->stream_count--;
    heap_free(stream);
}

// ---- envelopes ----

size_t ofrep_envelope_begin(struct json_out *writer, bool end_of_stream)
{
    size_t begin = writer->len;
    json_out_bytes(writer, (struct slice){end_of_stream ? "\2\0\0\0\0" : "\0\0\0\0\0", 5});
    return begin;
}

void ofrep_envelope_end(struct json_out *writer, size_t begin)
{
    if (writer->status != STATUS_OK)
        return;
    uint32_t len = (uint32_t)(writer->len - begin - 5);
    for (int i = 0; i < 4; i++)
        writer->data[begin + 1 + (size_t)i] = (char)(len >> (24 - 8 * i));
}

static void put_message(struct ofrep_core *core, const struct ofrep_form *form, const char *type,
                        struct slice data)
{
    size_t begin = ofrep_envelope_begin(&core->event, false);
    form->put_event(&core->event, type, data);
    ofrep_envelope_end(&core->event, begin);
}

enum status ofrep_put_configuration(struct json_out *writer, const struct ofrep_form *form,
                                    const struct flagset_snapshot *snapshot, struct slice selector)
{
    char *json;
    size_t len;
    enum status status = flagset_snapshot_export_view(snapshot, selector, &json, &len);
    if (status != STATUS_OK)
        return status;
    form->put_configuration(writer, (struct slice){json, len});
    heap_free(json);
    return STATUS_OK;
}

// ---- server-sent events ----

static void put_refetch(struct json_out *writer, uint64_t tag, int64_t changed_ms)
{
    char text[200];
    int len = snprintf(text, sizeof text,
                       "id: %016llx\nevent: message\ndata: {\"type\":\"refetchEvaluation\","
                       "\"etag\":\"%016llx\",\"lastModified\":%lld}\n\n",
                       (unsigned long long)tag, (unsigned long long)tag, (long long)(changed_ms / 1000));
    json_out_bytes(writer, (struct slice){text, (size_t)len});
}

// A client that comes back with the id of another state has missed something: it is told at once.
void ofrep_answer_stream(struct ofrep_call *call)
{
    struct json_out *body = &call->core->body;
    char id[20];
    const struct http_field *last = http_fields_find_name(call->request->fields, SLICE("last-event-id"));
    if (!ofrep_stream_begin(call, OFREP_STREAM_REFETCH, "text/event-stream")) {
        ofrep_add_field(call, "Retry-After", SLICE("5"));
        ofrep_refuse(call, 503, "unavailable", "too many streams");
        return;
    }
    uint64_t tag =
        call->matched ? state_of(OFREP_STREAM_REFETCH, &call->view, call->request->wall_ms / 1000) : 0;
    snprintf(id, sizeof id, "%016llx", (unsigned long long)tag);
    JSON_OUT(body, "retry: 2000\nid: ");
    json_out_bytes(body, slice_of(id));
    JSON_OUT(body, "\n\n");
    if (last != NULL && last->value.len > 0 && !slice_equal(last->value, slice_of(id)))
        put_refetch(body, tag, call->core->snapshot->changed_ms);
    call->answer->body = json_out_slice(body);
}

// ---- what changed, for EventStream ----

static bool same_variants(const struct flags_image *before, const struct flags_image *after, struct slice key,
                          uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct slice name[2];
        struct slice json[2];
        if (!flags_image_variant_get(before, key, i, &name[0], &json[0]) ||
            !flags_image_variant_get(after, key, i, &name[1], &json[1]) || !slice_equal(name[0], name[1]) ||
            !slice_equal(json[0], json[1]))
            return false;
    }
    return true;
}

// Providers keep only STATIC answers, so a change that a flag without rules shows must never be missed; a
// flag under a split or a kill is told whenever anything changed, because how large the share is is not seen
// here.
static bool same_flag(const struct ofrep_core *core, const struct flagset_view *before,
                      const struct flags_info *was, const struct flagset_view *after,
                      const struct flags_info *is)
{
    struct slice json[2] = {{"", 0}, {"", 0}};
    const char *document;
    if (was->split || is->split || was->killed || is->killed || was->type != is->type ||
        was->enabled != is->enabled || was->has_targeting != is->has_targeting ||
        was->variant_count != is->variant_count || was->prerequisite_count != is->prerequisite_count ||
        !slice_equal(was->default_variant, is->default_variant) ||
        !slice_equal(was->metadata, is->metadata) || !slice_equal(was->fault, is->fault))
        return false;
    if (!same_variants(&before->set, &after->set, is->key, is->variant_count))
        return false;
    // Rules are compared as they are written; in a view the definition in force may be another document's.
    if (!is->has_targeting && !is->has_targets && !is->has_schedule)
        return true;
    return after->index == 0 && flagset_snapshot_definition(core->told, is->key, &json[0], &document) &&
           flagset_snapshot_definition(core->snapshot, is->key, &json[1], &document) &&
           slice_equal(json[0], json[1]);
}

static void put_change(struct json_out *writer, bool *first, struct slice key, const char *type)
{
    if (!*first)
        JSON_OUT(writer, ",");
    *first = false;
    json_out_quote(writer, key);
    JSON_OUT(writer, ":{\"type\":\"");
    json_out_bytes(writer, slice_of(type));
    JSON_OUT(writer, "\"}");
}

// Whether the flag's schedule turned in that time, whichever way the clock went.
static bool turned(const struct flags_info *info, int64_t before_s, int64_t now_s)
{
    int64_t low = before_s < now_s ? before_s : now_s;
    int64_t high = before_s < now_s ? now_s : before_s;
    return info->has_schedule &&
           ((info->from_s > low && info->from_s <= high) || (info->until_s > low && info->until_s <= high));
}

static void put_changes(struct ofrep_core *core, struct json_out *writer, const struct ofrep_stream *stream,
                        int64_t now_s)
{
    struct slice selector = selector_of(stream);
    bool one = core->told == core->snapshot; // then only time has changed anything
    struct flagset_view before;
    struct flagset_view after;
    struct flags_info was;
    struct flags_info is;
    bool had = view_of(core->told, selector, &before);
    bool has = view_of(core->snapshot, selector, &after);
    bool first = true;
    for (uint32_t cursor = 0;
         has && writer->status == STATUS_OK && flags_image_next(&after.set, &cursor, &is);) {
        if (!one && (!had || !flags_image_find(&before.set, is.key, &was)))
            put_change(writer, &first, is.key, "write");
        else if (turned(&is, stream->told_s, now_s) || (!one && !same_flag(core, &before, &was, &after, &is)))
            put_change(writer, &first, is.key, "update");
    }
    for (uint32_t cursor = 0;
         had && !one && writer->status == STATUS_OK && flags_image_next(&before.set, &cursor, &was);)
        if (!has || !flags_image_find(&after.set, was.key, &is))
            put_change(writer, &first, was.key, "delete");
}

// ---- telling ----

// Calls end with a word of how; server-sent events just end, and the client comes back.
static void end_stream(struct ofrep_core *core, struct ofrep_stream *stream, const char *code,
                       const char *message)
{
    json_out_reset(&core->event);
    if (stream->form != NULL)
        stream->form->end(&core->event, stream->connection, code, message);
    else
        web_stream_end(stream->connection);
}

static void break_off(struct ofrep_core *core, struct ofrep_stream *stream)
{
    end_stream(core, stream, "unavailable", "the stream ends here");
}

// False: the stream cannot be told and must end, so that the client comes back and asks.
static bool put_event(struct ofrep_core *core, const struct ofrep_stream *stream, uint64_t state,
                      int64_t now_s)
{
    struct json_out *event = &core->event;
    json_out_reset(event);
    if (stream->kind == OFREP_STREAM_REFETCH) {
        int64_t turned_ms = core->told == core->snapshot ? now_s * 1000 : core->snapshot->changed_ms;
        put_refetch(event, state, turned_ms);
        return event->status == STATUS_OK;
    }
    if (stream->kind == OFREP_STREAM_SYNC) {
        size_t begin = ofrep_envelope_begin(event, false);
        enum status status =
            ofrep_put_configuration(event, stream->form, core->snapshot, selector_of(stream));
        ofrep_envelope_end(event, begin);
        return status == STATUS_OK && event->status == STATUS_OK;
    }
    json_out_reset(&core->aside);
    JSON_OUT(&core->aside, "{\"flags\":{");
    put_changes(core, &core->aside, stream, now_s);
    JSON_OUT(&core->aside, "}}");
    if (core->aside.status == STATUS_OK)
        put_message(core, stream->form, "configuration_change", json_out_slice(&core->aside));
    return core->aside.status == STATUS_OK && event->status == STATUS_OK;
}

static void tell_all(struct ofrep_core *core, int64_t now_s)
{
    // Neighbours of one kind and selector have one event: the last one written is sent again.
    struct ofrep_stream written;
    bool have = false;
    struct list *next;
    for (struct list *at = core->streams.next; at != &core->streams; at = next) {
        struct ofrep_stream *stream = CONTAINER_OF(at, struct ofrep_stream, link);
        struct flagset_view view;
        next = at->next;
        uint64_t state =
            view_of(core->snapshot, selector_of(stream), &view) ? state_of(stream->kind, &view, now_s) : 0;
        if (stream->connection == NULL)
            continue;
        if (stream->state == state) {
            stream->told_s = now_s;
            continue;
        }
        bool same = have && written.kind == stream->kind && written.form == stream->form &&
                    written.state == state && written.told_s == stream->told_s &&
                    slice_equal(selector_of(&written), selector_of(stream));
        struct ofrep_stream before = *stream;
        stream->state = state;
        stream->told_s = now_s;
        if (!same && !put_event(core, &before, state, now_s)) {
            have = false;
            break_off(core, stream);
            continue;
        }
        if (!same) {
            written = before;
            written.state = state;
        }
        have = true;
        (void)web_stream_send(stream->connection, json_out_slice(&core->event));
    }
}

void ofrep_streams_tell(struct ofrep_core *core, int64_t wall_ms)
{
    if (core->told == core->snapshot)
        return;
    tell_all(core, wall_ms / 1000);
    flagset_snapshot_unref(core->told);
    core->told = flagset_snapshot_ref(core->snapshot);
}

void ofrep_streams_tell_time(struct ofrep_core *core, int64_t wall_ms)
{
    // A snapshot that not every thread has is told when they do, and what time did with it.
    if (core->told == core->snapshot && core->snapshot != NULL && !list_empty(&core->streams))
        tell_all(core, wall_ms / 1000);
}

void ofrep_streams_beat(struct ofrep_core *core)
{
    struct list *next;
    for (struct list *at = core->streams.next; at != &core->streams; at = next) {
        struct ofrep_stream *stream = CONTAINER_OF(at, struct ofrep_stream, link);
        next = at->next;
        if (stream->connection == NULL || stream->kind == OFREP_STREAM_SYNC)
            continue;
        json_out_reset(&core->event);
        if (stream->kind == OFREP_STREAM_REFETCH)
            JSON_OUT(&core->event, ": keep-alive\n\n");
        else
            put_message(core, stream->form, "keep_alive", (struct slice){"", 0});
        (void)web_stream_send(stream->connection, json_out_slice(&core->event));
    }
}

void ofrep_streams_end(struct ofrep_core *core)
{
    struct list *next;
    for (struct list *at = core->streams.next; at != &core->streams; at = next) {
        struct ofrep_stream *stream = CONTAINER_OF(at, struct ofrep_stream, link);
        next = at->next;
        if (stream->connection != NULL)
            break_off(core, stream);
    }
}

void ofrep_streams_due(struct ofrep_core *core, uint64_t now_us)
{
    struct list *next;
    for (struct list *at = core->streams.next; at != &core->streams; at = next) {
        struct ofrep_stream *stream = CONTAINER_OF(at, struct ofrep_stream, link);
        next = at->next;
        if (stream->connection != NULL && now_us >= stream->due_us)
            end_stream(core, stream, "deadline_exceeded", "the time of the stream is over");
    }
}
