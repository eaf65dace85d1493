// SPDX-License-Identifier: Apache-2.0
// Endpoints that files of their own say, or operators. Invariant: a list that cannot be used changes nothing:
// the last good one stays, and what is wrong with the file is told once and shown for as long as it is so.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"

enum { LOOK_TICKS = 5 }; // half a second between two looks at the files

// Of one version.
struct endpoint_list {
    const struct config_service *service; // of the file that it is followed by
    const struct config_version *version;
    const struct routing_override *given; // by an operator; NULL: the file says them
    uint64_t seen;                        // how its file looked
    uint64_t settled;                     // and when it was read last
    struct config_endpoint *endpoints;
    uint32_t count;
    enum routing_list_state state;
    char problem[ROUTING_LIST_PROBLEM_BYTES];
};

struct routing_lists {
    const struct config *config;
    uint32_t count;
    struct endpoint_list items[];
};

void routing_lists_free(struct routing_lists *lists)
{
    for (uint32_t i = 0; lists != NULL && i < lists->count; i++)
        heap_free(lists->items[i].endpoints);
    heap_free(lists);
}

static struct endpoint_list *find(struct routing_lists *lists, const char *service, const char *version)
{
    for (uint32_t i = 0; lists != NULL && i < lists->count; i++)
        if (strcmp(lists->items[i].service->name, service) == 0 &&
            strcmp(lists->items[i].version->name, version) == 0)
            return &lists->items[i];
    return NULL;
}

// ---- reading ----

static void say_problem(enum status status, const struct config_errors *errors,
                        char text[ROUTING_LIST_PROBLEM_BYTES])
{
    struct text problem = text_over(text, ROUTING_LIST_PROBLEM_BYTES);
    if (status == STATUS_FULL || errors->count == 0) {
        text_add(&problem, status == STATUS_FULL ? SLICE("there are too many endpoints altogether")
                                                 : slice_of(status_name(status)));
        return;
    }
    const struct config_error *first = &errors->items[0];
    if (first->position.line > 0)
        text_addf(&problem, "line %u: ", first->position.line);
    text_add(&problem, slice_of(first->message));
    if (errors->count > 1)
        text_addf(&problem, " (and %u more)", errors->count - 1 + errors->dropped);
}

static uint32_t count_names(const struct config_endpoint *endpoints, uint32_t count)
{
    uint32_t names = 0;
    for (uint32_t i = 0; i < count; i++)
        names += !endpoints[i].address.literal;
    return names;
}

static void add_totals(const struct config_endpoint *endpoints, uint32_t count, uint32_t *all,
                       uint32_t *names)
{
    *all += count;
    *names += count_names(endpoints, count);
}

// Whether there is room for these beside what the file and the lists of other versions have.
static bool has_room(const struct routing_lists *lists, const struct endpoint_list *but,
                     const struct config_endpoint *endpoints, uint32_t count)
{
    uint32_t all = 0, names = 0;
    for (uint32_t i = 0; i < lists->config->service_count; i++) {
        const struct config_service *service = &lists->config->services[i];
        add_totals(service->control_endpoints, service->control_endpoint_count, &all, &names);
        for (uint32_t k = 0; k < service->version_count; k++)
            add_totals(service->versions[k].endpoints, service->versions[k].endpoint_count, &all, &names);
    }
    for (uint32_t i = 0; i < lists->count; i++)
        if (lists->items[i].version != but->version)
            add_totals(lists->items[i].endpoints, lists->items[i].count, &all, &names);
    add_totals(endpoints, count, &all, &names);
    return all <= CONFIG_ALL_ENDPOINTS_MAX && names <= CONFIG_ALL_NAMES_MAX;
}

static enum status load(const struct routing_lists *lists, const struct endpoint_list *list,
                        struct config_endpoint **endpoints, uint32_t *count, struct config_errors *errors)
{
    enum status status = list->given != NULL
                             ? config_endpoints_load_text(lists->config, list->version, "endpoints",
                                                          list->given->list, endpoints, count, errors)
                             : config_endpoints_load(lists->config, list->version, endpoints, count, errors);
    if (status != STATUS_OK || has_room(lists, list, *endpoints, *count))
        return status;
    heap_free(*endpoints);
    return STATUS_FULL;
}

// Else `text` says what is wrong.
static enum status load_or_say(const struct routing_lists *lists, const struct endpoint_list *list,
                               struct config_endpoint **endpoints, uint32_t *count,
                               char text[ROUTING_LIST_PROBLEM_BYTES])
{
    static const struct config_errors NONE = {.count = 0};
    struct config_errors *errors = heap_alloc(1, sizeof *errors);
    enum status status = errors == NULL ? STATUS_NO_MEMORY : load(lists, list, endpoints, count, errors);
    if (status != STATUS_OK)
        say_problem(status, errors != NULL ? errors : &NONE, text);
    heap_free(errors);
    return status;
}

// False: what was good before stays.
static bool read_list(const struct routing_lists *lists, struct endpoint_list *list)
{
    struct config_endpoint *endpoints;
    uint32_t count;
    list->settled = list->seen;
    enum status status = load_or_say(lists, list, &endpoints, &count, list->problem);
    list->state = status == STATUS_OK          ? ROUTING_LIST_GOOD
                  : status == STATUS_NOT_FOUND ? ROUTING_LIST_MISSING
                                               : ROUTING_LIST_BAD;
    if (status != STATUS_OK)
        return false;
    heap_free(list->endpoints);
    list->endpoints = endpoints;
    list->count = count;
    list->problem[0] = '\0';
    return true;
}

enum status routing_lists_try(const struct routing *routing, const struct config_version *version,
                              struct slice list, struct fault *fault)
{
    const struct routing_override given = {.list = list};
    const struct endpoint_list tried = {.version = version, .given = &given};
    struct config_endpoint *endpoints;
    uint32_t count;
    char problem[ROUTING_LIST_PROBLEM_BYTES];
    enum status status = load_or_say(routing->lists, &tried, &endpoints, &count, problem);
    if (status != STATUS_OK)
        return fault_set(fault, status, "%s", problem);
    heap_free(endpoints);
    return STATUS_OK;
}

static const char *source_of(const struct endpoint_list *list)
{
    return list->given != NULL ? "an operator" : list->version->endpoints_file;
}

static void tell(const struct routing *routing, const struct endpoint_list *list, bool good)
{
    const struct log_field fields[] = {
        LOG_TEXT("service", list->service->name), LOG_TEXT("version", list->version->name),
        LOG_TEXT("from", source_of(list)), LOG_NUMBER("endpoints", list->count),
        LOG_TEXT("problem", list->problem)};
    log_write(
        routing->parts.log, good ? LOG_INFO : LOG_ERROR,
        good ? "a list of endpoints is in force"
        : list->count > 0
            ? "a list of endpoints cannot be used; the last good one stays"
            : "a list of endpoints cannot be used, and there was none before: its version has no endpoint",
        fields, good ? 4 : 5);
}

// ---- following ----

// What was good stays good under another file that names the same list.
static void keep_last(struct routing *routing, struct endpoint_list *list)
{
    const struct endpoint_list *before = find(routing->lists, list->service->name, list->version->name);
    if (before == NULL || before->count == 0 || strcmp(source_of(before), source_of(list)) != 0)
        return;
    list->endpoints = heap_alloc(before->count, sizeof *list->endpoints);
    if (list->endpoints == NULL)
        return;
    memcpy(list->endpoints, before->endpoints, before->count * sizeof *list->endpoints);
    list->count = before->count;
}

static uint32_t versions_of(const struct config *config)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->service_count; i++)
        count += config->services[i].version_count;
    return count;
}

static void follow(struct routing *routing, struct routing_lists *lists, const struct config_service *service,
                   const struct config_version *version)
{
    const struct routing_override *given = routing_override_find(routing, service->name, version->name);
    if (given == NULL && version->endpoints_file[0] == '\0')
        return;
    struct endpoint_list *list = &lists->items[lists->count++];
    list->service = service;
    list->version = version;
    list->given = given;
    keep_last(routing, list);
    list->seen = given != NULL ? 0 : routing_file_mark(0, version->endpoints_file);
    if (!read_list(lists, list))
        tell(routing, list, false);
}

enum status routing_lists_read(struct routing *routing, const struct config *config,
                               struct routing_lists **made)
{
    struct routing_lists *lists = heap_alloc(1, sizeof *lists + versions_of(config) * sizeof lists->items[0]);
    if (lists == NULL)
        return STATUS_NO_MEMORY;
    lists->config = config;
    for (uint32_t i = 0; i < config->service_count; i++)
        for (uint32_t k = 0; k < config->services[i].version_count; k++)
            follow(routing, lists, &config->services[i], &config->services[i].versions[k]);
    *made = lists;
    return STATUS_OK;
}

// A file that is still being written looks otherwise each time: it is read when it has looked alike twice.
static bool is_due(struct endpoint_list *list)
{
    uint64_t before = list->seen;
    if (list->given != NULL)
        return false;
    list->seen = routing_file_mark(0, list->version->endpoints_file);
    return list->seen == before && list->seen != list->settled;
}

static void follow_names(struct routing *routing)
{
    struct fault fault;
    if (routing_names_follow(routing, routing->config, &fault) != STATUS_OK)
        log_write(routing->parts.log, LOG_ERROR, "the names of a list of endpoints are not followed",
                  LOG_FIELDS(LOG_TEXT("problem", fault.text)));
}

void routing_lists_tick(struct routing *routing)
{
    bool changed = false;
    if (routing->lists == NULL || routing->ticks % LOOK_TICKS != 0)
        return;
    for (uint32_t i = 0; i < routing->lists->count; i++) {
        struct endpoint_list *list = &routing->lists->items[i];
        if (!is_due(list))
            continue;
        bool good = read_list(routing->lists, list);
        tell(routing, list, good);
        changed |= good;
    }
    if (!changed)
        return;
    routing->names_moved = true;
    follow_names(routing);
}

enum status routing_lists_renew(struct routing *routing, struct fault *fault)
{
    struct routing_lists *made, *before = routing->lists;
    if (routing_lists_read(routing, routing->config, &made) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    routing->lists = made;
    routing_lists_free(before);
    follow_names(routing);
    routing_publish_or_retry(routing);
    return STATUS_OK;
}

// ---- what is in force ----

const struct config_endpoint *routing_listed(const struct routing *routing,
                                             const struct config_service *service,
                                             const struct config_version *version, uint32_t *count)
{
    const struct endpoint_list *list = find(routing->lists, service->name, version->name);
    *count = list != NULL ? list->count : version->endpoint_count;
    return list != NULL ? list->endpoints : version->endpoints;
}

uint32_t routing_lists_count(const struct routing *routing)
{
    return routing->lists != NULL ? routing->lists->count : 0;
}

struct routing_list routing_list_get(const struct routing *routing, uint32_t index)
{
    const struct endpoint_list *list = &routing->lists->items[index];
    return (struct routing_list){.service = list->service->name,
                                 .version = list->version->name,
                                 .file = source_of(list),
                                 .state = list->state,
                                 .problem = list->problem,
                                 .endpoint_count = list->count};
}

const char *routing_list_state_name(enum routing_list_state state)
{
    static const char *const names[ROUTING_LIST_STATES] = {
        [ROUTING_LIST_GOOD] = "good", [ROUTING_LIST_BAD] = "bad", [ROUTING_LIST_MISSING] = "missing"};
    return names[state];
}

METRICS_FAMILY(
    bad, GAUGE, "endpoint_list_bad",
    "1: the file with a version's endpoints cannot be used, and its last good list stays; 0: it is in force.");

void routing_lists_metrics(const struct routing *routing, struct metrics_writer *writer)
{
    if (routing_lists_count(routing) == 0)
        return;
    metrics_open(writer, &bad);
    for (uint32_t i = 0; i < routing->lists->count; i++) {
        const struct endpoint_list *list = &routing->lists->items[i];
        const struct metrics_label labels[] = {metrics_label_of("service", list->service->name),
                                               metrics_label_of("version", list->version->name)};
        metrics_count(writer, labels, 2, list->state != ROUTING_LIST_GOOD);
    }
}
