// SPDX-License-Identifier: Apache-2.0
// Whom the workers believe about a client, from the file.
#include <string.h>

#include "base/heap.h"
#include "ship/routing/routing_private.h"

static struct proxy_network network_of(const struct config_network *from)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct proxy_network network = {.bits = from->prefix_bits, .ipv6 = true};
    memcpy(network.bytes, from->address, sizeof network.bytes);
    if (from->prefix_bits < 96 || memcmp(from->address, mapped, sizeof mapped) != 0)
        return network;
    network = (struct proxy_network){.bits = (uint8_t)(from->prefix_bits - 96)};
    memcpy(network.bytes, from->address + 12, 4);
    return network;
}

static uint32_t plan_networks(const struct config_network *from, uint32_t count,
                              struct proxy_network to[PROXY_NETWORKS_MAX])
{
    for (uint32_t i = 0; i < count && i < PROXY_NETWORKS_MAX; i++)
        to[i] = network_of(&from[i]);
    return count < PROXY_NETWORKS_MAX ? count : PROXY_NETWORKS_MAX;
}

static void plan_header_peers(struct routing_identity *identity, uint32_t number,
                              const struct config_listener *listener)
{
    for (uint32_t i = 0; i < listener->header_peer_count; i++)
        identity->header_peers[identity->header_peer_count++] = (struct proxy_header_peers){
            .listener = number, .network = network_of(&listener->header_peers[i])};
}

static void plan_certificates(struct routing_identity *identity, uint32_t number,
                              const struct config_listener *listener)
{
    static const enum tls_peer values[] = {[CONFIG_CERTIFICATE_SUBJECT] = TLS_PEER_SUBJECT,
                                           [CONFIG_CERTIFICATE_NAMES] = TLS_PEER_NAMES,
                                           [CONFIG_CERTIFICATE_FINGERPRINT] = TLS_PEER_FINGERPRINT};
    const struct config_tls *tls = &listener->tls;
    for (uint32_t i = 0; i < tls->client_header_count; i++)
        identity->certificates[identity->certificate_count++] =
            (struct proxy_certificate_plan){.listener = number,
                                            .field = tls->client_headers[i].header,
                                            .value = values[tls->client_headers[i].value]};
}

enum status routing_identity_plan(const struct routing *routing, struct routing_identity *identity,
                                  struct proxy_table_plan *plan)
{
    const struct config *config = routing->config;
    identity->header_peers = heap_alloc(PROXY_HEADER_PEERS_MAX, sizeof *identity->header_peers);
    if (identity->header_peers == NULL)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < routing->listener_count; i++) {
        const struct config_listener *listener = routing_listener(config, routing->listeners[i]);
        if (listener == NULL)
            continue;
        plan_header_peers(identity, i, listener);
        plan_certificates(identity, i, listener);
    }
    plan->operators = identity->operators;
    plan->operator_count =
        plan_networks(config->trust.networks, config->trust.network_count, identity->operators);
    plan->header_peers = identity->header_peers;
    plan->header_peer_count = identity->header_peer_count;
    plan->trusted_hops = config->trust.forwarded_hops;
    plan->proxies = identity->proxies;
    plan->proxy_count = plan_networks(config->trust.proxies, config->trust.proxy_count, identity->proxies);
    plan->forwarded = config->forwarded;
    plan->request_id = config->request_id.header[0] != '\0' ? config->request_id.header : NULL;
    plan->request_id_kept = (enum proxy_id_kept)config->request_id.keep;
    plan->certificates = identity->certificates;
    plan->certificate_count = identity->certificate_count;
    return STATUS_OK;
}

void routing_identity_free(struct routing_identity *identity)
{
    heap_free(identity->header_peers);
}
