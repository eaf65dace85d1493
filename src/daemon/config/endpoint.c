// SPDX-License-Identifier: Apache-2.0
// Endpoints of a version, and how requests are spread over them.
#include "base/check.h"
#include "daemon/config/config_private.h"

void config_endpoints_distinct(struct config_reader *reader, const struct config_node *node,
                               const struct config_endpoint *endpoints, uint32_t count)
{
    if (node == NULL || node->kind != CONFIG_NODE_LIST)
        return;
    const struct config_entry *entry = node->first;
    for (uint32_t i = 0; i < count; i++, entry = entry->next)
        for (uint32_t j = 0; j < i; j++)
            if (endpoints[i].address.text[0] != '\0' &&
                strcmp(endpoints[i].address.text, endpoints[j].address.text) == 0)
                config_error_at(reader, entry->value, "'%s' stands in this list twice",
                                endpoints[i].address.text);
}

static const struct config_word endpoint_words[] = {
    {.word = "address",
     .kind = CONFIG_KIND_ENDPOINT,
     CONFIG_AT(struct config_endpoint, address),
     .required = true,
     .help = "10.0.0.1:9001, [::1]:9001, unix:/run/app.sock, name:9001 for all addresses of a name, or "
             "srv:_service._protocol.name for those that SRV records tell, ports included"},
    {.word = "weight",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_endpoint, weight),
     .max = CONFIG_ENDPOINT_WEIGHT_MAX,
     .fallback = "1",
     .help = "how much of the version's requests it gets beside the others, each address of a name as much; "
             "`0` drains it: it gets none, and what it has under way goes on"},
    {.word = "zone",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct config_endpoint, zone),
     .help =
         "where it stands; endpoints of the file's own `zone` come first while enough of them are in use"},
};
const struct config_section config_endpoint_section = {
    .title = "endpoint",
    .help = "One place where a version answers. `endpoints: [10.0.0.1:9001]` is short for `endpoints: "
            "[{address: 10.0.0.1:9001}]`.",
    CONFIG_WORDS(endpoint_words),
    .shorthand = "address",
};

// The whole of a file of endpoints.
static const struct config_word list_words[] = {
    {.word = "endpoints",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_version, endpoints, endpoint_count),
     .min = 1,
     .max = CONFIG_ENDPOINTS_MAX,
     .section = &config_endpoint_section,
     .required = true,
     .help = "where the version answers"},
};
const struct config_section config_endpoints_section = {
    .title = "file", CONFIG_WORDS(list_words), .shorthand = "endpoints"};

static const struct config_word balance_words[] = {
    {.word = "hash",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_balance, hash),
     .section = &config_attribute_section,
     .optional = true,
     .fallback = "none",
     .help = "requests with the same value go to the same endpoint of their version, while it is in use"},
};
const struct config_section config_balance_section = {
    .title = "balance",
    .help =
        "How the requests of a version are spread over its endpoints. Without `hash` the less busy of two "
        "that are drawn gets a request.",
    CONFIG_WORDS(balance_words),
};
