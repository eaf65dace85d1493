// SPDX-License-Identifier: Apache-2.0
// Names of endpoints: which are followed, what people are told of them, and when a table is due.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"

// ---- following ----

static uint32_t add_names(const char **texts, const struct config_endpoint *endpoints, uint32_t count)
{
    uint32_t added = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!endpoints[i].address.literal)
            texts[added++] = endpoints[i].address.text;
    return added;
}

static uint32_t names_of(const struct routing *routing, const struct config *config, const char **texts)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_service *service = &config->services[i];
        count += add_names(texts + count, service->control_endpoints, service->control_endpoint_count);
        for (uint32_t j = 0; j < service->version_count; j++) {
            uint32_t listed;
            const struct config_endpoint *endpoints =
                routing_listed(routing, service, &service->versions[j], &listed);
            count += add_names(texts + count, endpoints, listed);
        }
    }
    return count;
}

static enum status want(struct routing *routing, const struct config *config, const char *const *texts,
                        uint32_t count)
{
    const struct names_config system = {.resolv_conf = NULL};
    char storage[NAMES_SERVERS_BYTES];
    struct text servers = text_over(storage, sizeof storage);
    enum status status = STATUS_OK;
    if (count == 0 && routing->names == NULL)
        return status;
    for (uint32_t i = 0; i < config->names.server_count; i++)
        text_addf(&servers, "%s%s", i > 0 ? "," : "", config->names.servers[i].text);
    if (routing->names == NULL)
        status = names_create(&system, &routing->names);
    return status == STATUS_OK ? names_want(routing->names, texts, count, storage) : status;
}

enum status routing_names_follow(struct routing *routing, const struct config *config, struct fault *fault)
{
    const char **texts = heap_alloc(CONFIG_ALL_NAMES_MAX, sizeof *texts);
    enum status status = STATUS_NO_MEMORY;
    if (texts != NULL)
        status = want(routing, config, texts, names_of(routing, config, texts));
    heap_free(texts);
    if (status != STATUS_OK)
        return fault_set(fault, status, "names cannot be followed (%s)", status_name(status));
    if (routing->names != NULL && routing->state.table_version == 0)
        names_await(routing->names, ROUTING_NAMES_AWAIT_MS);
    routing_names_take(routing);
    return STATUS_OK;
}

// ---- telling ----

static void tell_state(struct routing *routing, const struct names_answer *answer)
{
    static const char *const messages[NAMES_STATES][2] = {
        [NAMES_MISSING] = {"a name is not known, so it gives no endpoint",
                           "a name is known no more; its last addresses stay"},
        [NAMES_FAILING] = {"a name cannot be looked up, so it gives no endpoint",
                           "a name cannot be looked up; its last addresses stay"},
    };
    const char *message = messages[answer->state][answer->address_count > 0];
    if (message != NULL)
        log_write(routing->parts.log, LOG_ERROR, message,
                  LOG_FIELDS(LOG_TEXT("name", answer->text), LOG_TEXT("problem", answer->problem),
                             LOG_NUMBER("addresses", answer->address_count)));
    else if (answer->state == NAMES_KNOWN && answer->before != NAMES_WAITING)
        log_write(routing->parts.log, LOG_INFO, "a name is known again",
                  LOG_FIELDS(LOG_TEXT("name", answer->text), LOG_NUMBER("addresses", answer->address_count)));
}

static void tell_addresses(struct routing *routing, const struct names_answer *answer)
{
    char storage[LOG_LINE_BYTES / 2];
    struct text text = text_over(storage, sizeof storage);
    for (uint32_t i = 0; i < answer->address_count; i++) {
        char address[IO_ADDR_TEXT_BYTES];
        io_addr_format(&answer->addresses[i], address);
        text_addf(&text, "%s%s", i > 0 ? ", " : "", address);
    }
    log_repeat(routing->parts.log, LOG_INFO, "a name has other addresses",
               LOG_FIELDS(LOG_TEXT("name", answer->text), LOG_TEXT("addresses", storage),
                          LOG_NUMBER("left_out", answer->left_out)));
}

void routing_names_take(struct routing *routing)
{
    if (routing->names == NULL || !names_take(routing->names))
        return;
    const struct names_answers *answers = names_answers(routing->names);
    for (uint32_t i = 0; i < answers->count; i++) {
        const struct names_answer *answer = &answers->items[i];
        if (answer->state != answer->before)
            tell_state(routing, answer);
        if (answer->moved)
            tell_addresses(routing, answer);
        // That there is no such name is an answer too: what stood in for its endpoints leaves.
        bool refused = answer->state == NAMES_MISSING && answer->before != answer->state;
        routing->names_moved |= answer->moved || (refused && answer->address_count == 0);
    }
}

const struct names_answers *routing_names(const struct routing *routing)
{
    static const struct names_answers NONE = {.count = 0};
    return routing->names != NULL ? names_answers(routing->names) : &NONE;
}

// ---- metrics ----

METRICS_FAMILY(
    lookups, COUNTER, "name_lookups_total",
    "Lookups of endpoints' names that are over: the name is known, missing (no such name, or no address), or "
    "the lookup failed.");
METRICS_FAMILY(states, GAUGE, "names", "Names of endpoints by what is known of them.");
METRICS_FAMILY(addresses, GAUGE, "name_addresses", "Addresses that names of endpoints have.");
METRICS_FAMILY(left_out, GAUGE, "name_addresses_left_out",
               "Those beyond what a name, a version or a table holds.");
METRICS_FAMILY(
    oldest, GAUGE, "name_oldest_answer_seconds",
    "Of the names that are missing or cannot be looked up, and still have addresses: the longest time since "
    "they were confirmed. 0: there is none.");

void routing_names_metrics(const struct routing *routing, struct metrics_writer *writer)
{
    static const char *const results[NAMES_LOOKUPS] = {"known", "missing", "failed"};
    uint64_t counts[NAMES_STATES] = {0}, all = 0, out = routing->names_left_out, age_us = 0;
    uint64_t now_us = io_loop_clock_us(routing->parts.loop);
    if (routing->names == NULL)
        return;
    const struct names_answers *answers = names_answers(routing->names);
    for (uint32_t i = 0; i < answers->count; i++) {
        const struct names_answer *answer = &answers->items[i];
        bool old = answer->state > NAMES_KNOWN && answer->address_count > 0 && answer->good_us < now_us;
        counts[answer->state]++;
        all += answer->address_count;
        out += answer->left_out;
        if (old && now_us - answer->good_us > age_us)
            age_us = now_us - answer->good_us;
    }
    metrics_open(writer, &lookups);
    for (int i = 0; i < NAMES_LOOKUPS; i++)
        metrics_count(writer, (struct metrics_label[]){metrics_label_of("result", results[i])}, 1,
                      names_lookups(routing->names, (enum names_lookup)i));
    metrics_open(writer, &states);
    for (int i = 0; i < NAMES_STATES; i++)
        metrics_count(
            writer,
            (struct metrics_label[]){metrics_label_of("state", names_state_name((enum names_state)i))}, 1,
            counts[i]);
    metrics_one_value(writer, &addresses, (double)all);
    metrics_one_value(writer, &left_out, (double)out);
    metrics_one_value(writer, &oldest, metrics_seconds(age_us));
}
