// SPDX-License-Identifier: Apache-2.0
// Stands in for flag sets, tokens and the streams of web: the linker finds these before those of the modules.
// The tests of the real ones are in a program of their own.
#include "ofrep_world.h"

static const struct token WORLD_READER = {.name = "reader", .kind = TOKEN_READ, .environment = "staging"};
static const struct token WORLD_SERVER = {.name = "server", .kind = TOKEN_SERVER, .environment = "*"};
char world_sent[WORLD_SENT_BYTES];
size_t world_sent_len;
uint32_t world_ended;

const struct flagset_snapshot *flagset_snapshot_ref(const struct flagset_snapshot *snapshot)
{
    return snapshot;
}

void flagset_snapshot_unref(const struct flagset_snapshot *snapshot)
{
    (void)snapshot;
}

bool flagset_snapshot_view(const struct flagset_snapshot *snapshot, struct slice selector,
                           struct flagset_view *view)
{
    const struct world_snapshot *world = (const struct world_snapshot *)(const void *)snapshot;
    for (uint32_t i = 0; i < world->view_count; i++) {
        if (!slice_equal(slice_of(world->views[i].selector), selector))
            continue;
        *view = world->views[i].view;
        return true;
    }
    return false;
}

bool flagset_snapshot_definition(const struct flagset_snapshot *snapshot, struct slice key,
                                 struct slice *json, const char **document)
{
    const struct world_snapshot *world = (const struct world_snapshot *)(const void *)snapshot;
    char name[128];
    snprintf(name, sizeof name, "\"" SLICE_FMT "\":", SLICE_ARG(key));
    const char *at = strstr(world->json, name);
    if (at == NULL)
        return false;
    const char *end = strchr(at, '\n');
    *json = (struct slice){at, end != NULL ? (size_t)(end - at) : strlen(at)};
    *document = "world";
    return true;
}

enum status flagset_snapshot_export_view(const struct flagset_snapshot *snapshot, struct slice selector,
                                         char **json, size_t *len)
{
    const struct world_snapshot *world = (const struct world_snapshot *)(const void *)snapshot;
    if (slice_equal(selector, SLICE("flagSetId=mixed")))
        return STATUS_CONFLICT;
    *json = selector.len == 0 ? heap_strdup(world->json) : heap_strndup(selector.data, selector.len);
    CHECK(*json != NULL);
    *len = strlen(*json);
    return STATUS_OK;
}

const struct token *tokens_find(const struct tokens *tokens, struct slice secret)
{
    (void)tokens;
    if (slice_equal(secret, SLICE("read")))
        return &WORLD_READER;
    return slice_equal(secret, SLICE("serve")) ? &WORLD_SERVER : NULL;
}

struct slice tokens_of_fields(struct slice authorization, struct slice api_key)
{
    if (slice_starts_with(authorization, SLICE("Bearer ")))
        return (struct slice){authorization.data + 7, authorization.len - 7};
    return api_key;
}

bool web_stream_send(struct web_connection *connection, struct slice bytes)
{
    (void)connection;
    CHECK(world_sent_len + bytes.len < sizeof world_sent);
    memcpy(world_sent + world_sent_len, bytes.data, bytes.len);
    world_sent_len += bytes.len;
    world_sent[world_sent_len] = '\0';
    return true;
}

void web_stream_end(struct web_connection *connection)
{
    (void)connection;
    world_ended++;
}

void web_stream_end_trailed(struct web_connection *connection, struct slice trailers)
{
    (void)web_stream_send(connection, trailers);
    web_stream_end(connection);
}
