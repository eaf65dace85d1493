// SPDX-License-Identifier: Apache-2.0
// The addresses under /v1/services (endpoints.c has those of endpoints), and how answers of two versions
// differ.
#include "base/heap.h"
#include "daemon/api/api_private.h"

void api_answer_diff(struct api_call *call, struct slice service, struct slice rollout)
{
    char path[DIFF_PATH_BYTES] = "", message[API_WORD_BYTES + 64];
    const struct api_program *program = call->program;
    struct shadow_report *report = NULL;
    enum status status = program != NULL && program->diff != NULL
                             ? program->diff(program->context, service, rollout, &report)
                             : STATUS_NOT_FOUND;
    (void)api_query_value(call->query, SLICE("path"), path, sizeof path);
    if (status == STATUS_OK) {
        shadow_report_write(report, slice_of(path), &call->out);
    } else {
        struct slice name = rollout.len > 0 ? rollout : service;
        struct text text = text_over(message, sizeof message);
        text_addf(&text,
                  status == STATUS_NOT_FOUND
                      ? "no requests were mirrored for %s, so there is nothing to compare"
                      : "no memory is left to tell of %s",
                  name.data);
        api_refuse(call, status, message);
    }
    heap_free(report);
}

static void get_diff(struct api_call *call)
{
    api_answer_diff(call, slice_of(call->words[0]), SLICE(""));
}

static const struct api_route ROUTES[] = {
    {"GET", "/v1/services/NAME/diff", API_READ, get_diff,
     "how the answers of the version that the service is mirrored to differ: counts, and per path verdict, words and "
     "examples; `?path=` leaves out paths that do not fit it"},
    {"GET", "/v1/services/NAME/endpoints", API_READ, api_endpoints_get,
     "the endpoints of each version, and whether the file or an operator says them"},
    {"PUT", "/v1/services/NAME/endpoints", API_OPERATE, api_endpoints_put,
     "other endpoints for the version of `?version=`, over what the file says, also after a restart: the body is the list, as "
     "the file would have it"},
    {"DELETE", "/v1/services/NAME/endpoints", API_OPERATE, api_endpoints_delete,
     "the file's endpoints again for the version of `?version=`"},
};

const struct api_part api_services_part = {.prefix = SLICE("/v1/services"),
                                           .body_bytes_max = ROUTING_OVERRIDE_BYTES_MAX,
                                           .routes = ROUTES,
                                           .route_count = ARRAY_LEN(ROUTES)};
