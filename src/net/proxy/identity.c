// SPDX-License-Identifier: Apache-2.0
// Whose a request is, and by which name it is known: settled once, before routes, units and flags look at it,
// by changing the request itself. What strangers say of it is gone then.
#include <string.h>

#include "net/proxy/proxy_private.h"

static struct worker *worker_of(const struct server_stream *stream)
{
    return CONTAINER_OF(stream->server, struct worker, server);
}

// ---- the client's address

// From the right up to the first that is no proxy of ours, that one included. What is no address is not
// believed, nor what stands left of it.
static uint32_t believed_hops(const struct proxy_table *table, const struct http_fields *fields)
{
    struct http_forwarded walk = http_forwarded_of(fields);
    struct slice entry;
    uint32_t hops = 0, most = table->trusted_hops > 0 ? table->trusted_hops : UINT32_MAX;
    while (hops < most && http_forwarded_next(&walk, &entry)) {
        struct slice address = http_address_alone(entry);
        struct io_addr addr;
        if (io_addr_parse_host(address.data, address.len, &addr) != STATUS_OK)
            return hops;
        hops++;
        if (!proxy_table_proxy(table, &addr))
            return hops;
    }
    return hops;
}

// Whether the peer is a proxy that is believed.
static bool settle_trust(struct server_stream *stream, struct http_request *request)
{
    struct worker *worker = worker_of(stream);
    const struct proxy_table *table = worker->table;
    struct io_addr peer;
    if (table->proxy_count == 0)
        return table->trusts;
    if (server_peer(stream, &peer) == STATUS_OK && proxy_table_proxy(table, &peer)) {
        worker->hops = believed_hops(table, &request->fields);
        return true;
    }
    http_forwarded_remove(&request->fields);
    return false;
}

struct slice identity_client(const struct server_stream *stream)
{
    const struct worker *worker = worker_of(stream);
    return http_client_address(&worker->request->fields, worker->hops, server_from_host(stream));
}

// ---- the request's id

static bool is_alike(const void *name, const struct http_field *field)
{
    return http_field_alike(*(const struct slice *)name, field->name);
}

// Safe in any log and any field.
static bool id_valid(struct slice id)
{
    if (id.len == 0 || id.len >= PROXY_REQUEST_ID_BYTES)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        char c = slice_lower_char(id.data[i]);
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && memchr("-._~+/=:", c, 8) == NULL)
            return false;
    }
    return true;
}

static struct slice new_id(struct worker *worker)
{
    uint64_t words[2] = {rng_next(&worker->rng), rng_next(&worker->rng)};
    for (unsigned i = 0; i < sizeof worker->request_id_text; i++)
        worker->request_id_text[i] = "0123456789abcdef"[words[i / 16] >> (60 - 4 * (i % 16)) & 15];
    return (struct slice){worker->request_id_text, sizeof worker->request_id_text};
}

// One that came twice is nobody's.
static bool settle_id(struct worker *worker, struct http_request *request, bool trusted)
{
    const struct proxy_table *table = worker->table;
    struct http_fields *fields = &request->fields;
    const struct http_field *came = http_fields_find_name(fields, table->request_id);
    bool kept = table->request_id_kept == PROXY_ID_ANYBODYS ||
                (table->request_id_kept == PROXY_ID_PROXIES && trusted);
    worker->request_id = kept && came != NULL ? came->value : SLICE("");
    uint32_t before = fields->count;
    http_fields_remove(fields, is_alike, &table->request_id);
    if (before - fields->count != 1 || !id_valid(worker->request_id))
        worker->request_id = new_id(worker);
    return http_fields_add(fields, table->request_id, worker->request_id) == STATUS_OK;
}

// ---- the client's certificate

static bool is_certificates(const void *context, const struct http_field *field)
{
    const struct proxy_table *table = context;
    for (uint32_t i = 0; i < table->certificate_count; i++)
        if (http_field_alike(table->certificates[i].field, field->name))
            return true;
    return false;
}

// False: there is no room for it.
static bool settle_certificate(struct server_stream *stream, struct http_request *request)
{
    struct worker *worker = worker_of(stream);
    const struct proxy_table *table = worker->table;
    size_t used = 0;
    http_fields_remove(&request->fields, is_certificates, table);
    for (uint32_t i = 0; i < table->certificate_count; i++) {
        const struct proxy_certificate *certificate = &table->certificates[i];
        if (certificate->listener != server_listener_number(stream))
            continue;
        struct text text = text_over(worker->certificate_text + used, sizeof worker->certificate_text - used);
        tls_peer_write(server_io(stream), certificate->value, &text);
        used += text.len;
        if (text.cut)
            return false;
        if (text.len > 0 &&
            http_fields_add(&request->fields, certificate->field, text_slice(&text)) != STATUS_OK)
            return false;
    }
    return true;
}

// ----

const char *identity_settle(struct server_stream *stream, struct http_request *request)
{
    struct worker *worker = worker_of(stream);
    bool trusted = settle_trust(stream, request);
    if (worker->table->request_id.len > 0 && !settle_id(worker, request, trusted))
        return "too many header fields";
    if (worker->table->certificate_count > 0 && !settle_certificate(stream, request))
        return "the client's certificate cannot be told";
    return NULL;
}

void identity_trailers(const struct worker *worker, struct http_fields *trailers)
{
    const struct proxy_table *table = worker->table;
    if (LIKELY(!table->identity))
        return;
    http_fields_remove(trailers, is_certificates, table);
    http_fields_remove(trailers, is_alike, &table->request_id);
}

void identity_keep(struct exchange *exchange)
{
    const struct worker *worker = exchange->worker;
    exchange->from = server_from_host(exchange->stream);
    exchange->client = exchange->from;
    if (UNLIKELY(exchange->from.data[0] == ':')) // perhaps an IPv4 address as one of IPv6
        exchange->client = http_address_alone(exchange->from);
    if (UNLIKELY(worker->hops > 0)) {
        struct slice client = identity_client(exchange->stream);
        size_t len = client.len < CLIENT_BYTES ? client.len : CLIENT_BYTES;
        memcpy(exchange->client_text, client.data, len);
        exchange->client = (struct slice){exchange->client_text, len};
    }
    exchange->request_id_len = (uint8_t)worker->request_id.len;
    if (UNLIKELY(worker->request_id.len > 0))
        memcpy(exchange->request_id, worker->request_id.data, worker->request_id.len);
}
