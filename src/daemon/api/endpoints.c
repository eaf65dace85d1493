// SPDX-License-Identifier: Apache-2.0
// The endpoints of a service's versions, and what operators change of them.
#include <stdio.h>
#include <string.h>

#include "daemon/api/api_private.h"
#include "daemon/config/config.h"
#include "ship/targets/targets.h"

static const struct config_service *service_of(struct api_call *call)
{
    const struct config_service *service = config_service_find(engine_config(call->engine), call->words[0]);
    if (service == NULL)
        api_error(call, 404, "not_found", "there is no service of this name");
    return service;
}

static void write_version(struct json_out *out, const struct routing *routing,
                          const struct config_service *service, const struct config_version *version)
{
    const struct routing_override *given = routing_override_find(routing, service->name, version->name);
    uint32_t count;
    const struct config_endpoint *endpoints = routing_listed(routing, service, version, &count);
    json_out_open(out, NULL, '{');
    json_out_text(out, "version", version->name);
    json_out_text(out, "source",
                  given != NULL                        ? "operator"
                  : version->endpoints_file[0] != '\0' ? "endpoints_file"
                                                       : "file");
    json_out_text(out, "who", given != NULL ? given->who : "");
    json_out_integer(out, "changed_ms", given != NULL ? given->time_ms : 0);
    json_out_open(out, "endpoints", '[');
    for (uint32_t i = 0; i < count; i++) {
        json_out_open(out, NULL, '{');
        json_out_text(out, "address", endpoints[i].address.text);
        json_out_count(out, "weight", endpoints[i].weight);
        if (endpoints[i].zone[0] != '\0')
            json_out_text(out, "zone", endpoints[i].zone);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
    json_out_close(out, '}');
}

void api_endpoints_get(struct api_call *call)
{
    const struct config_service *service = service_of(call);
    if (service == NULL)
        return;
    json_out_open(&call->out, NULL, '{');
    json_out_text(&call->out, "service", service->name);
    json_out_open(&call->out, "versions", '[');
    for (uint32_t i = 0; i < service->version_count; i++)
        write_version(&call->out, targets_of(call->engine)->routing, service, &service->versions[i]);
    json_out_close(&call->out, ']');
    json_out_close(&call->out, '}');
}

// The version of the query, or the only one there is.
static bool take_version(struct api_call *call, char version[CONFIG_NAME_BYTES])
{
    const struct config_service *service = config_service_find(engine_config(call->engine), call->words[0]);
    if (api_query_value(call->query, SLICE("version"), version, CONFIG_NAME_BYTES) && version[0] != '\0')
        return true;
    if (service != NULL && service->version_count == 1)
        snprintf(version, CONFIG_NAME_BYTES, "%s", service->versions[0].name);
    else
        api_error(call, 400, "invalid", "the address says no version, such as ?version=v1");
    return service != NULL && service->version_count == 1;
}

static void change(struct api_call *call, struct slice list)
{
    struct fault fault = {.text = ""};
    struct routing_override change = {.list = list};
    size_t len = strlen(call->words[0]);
    if (len >= sizeof change.service) {
        api_error(call, 404, "not_found", "there is no service of this name");
        return;
    }
    memcpy(change.service, call->words[0], len + 1);
    if (!take_version(call, change.version))
        return;
    api_who(call, NULL, change.who);
    enum status status = targets_endpoints_change(targets_of(call->engine), &change, &fault);
    if (status == STATUS_OK)
        api_endpoints_get(call);
    else
        api_refuse(call, status, fault.text[0] != '\0' ? fault.text : status_name(status));
}

void api_endpoints_put(struct api_call *call)
{
    if (call->body.len == 0)
        api_error(call, 400, "invalid", "the body must be the list, such as [\"10.0.0.1:80\"]");
    else
        change(call, call->body);
}

void api_endpoints_delete(struct api_call *call)
{
    change(call, SLICE(""));
}
