// SPDX-License-Identifier: Apache-2.0
// The addresses under /v1/flags. Keys may hold anything but NUL, so they come percent-encoded; what is said
// about all flags goes by the query, where no key can stand in its way.
#include "daemon/api/flags.h"

static bool ready(struct api_call *call)
{
    if (runtime_flagset(targets_of(call->engine)->runtime) != NULL)
        return true;
    api_error(call, 409, "conflict",
              "the file has no flags; add `flags:` with a source (see the guide to flags)");
    return false;
}

static const struct api_route ROUTES[] = {
    {"GET", "/v1/flags", API_READ, api_flags_list,
     "flags, page by page, and the state of the set; see below"},
    {"POST", "/v1/flags", API_FLAGS, api_flags_import,
     "sets up to 200 flags, all checked before the first is kept: `{\"flags\": {\"KEY\": {...}}}`"},
    {"GET", "/v1/flags/KEY", API_READ, api_flags_show, "one flag, whole"},
    {"PUT", "/v1/flags/KEY", API_FLAGS, api_flags_put,
     "sets a definition over whatever the sources say; the body is the flag's JSON object"},
    {"DELETE", "/v1/flags/KEY", API_FLAGS, api_flags_delete, "takes away what was changed at runtime"},
    {"POST", "/v1/flags/KEY/on", API_FLAGS, api_flags_on, "switches it on"},
    {"POST", "/v1/flags/KEY/off", API_FLAGS, api_flags_off,
     "switches it off; may name the variant for everybody: `{\"variant\": \"off\"}`"},
    {"POST", "/v1/flags/KEY/eval", API_READ, api_flags_eval,
     "evaluates and explains: `{\"context\": {...}, \"type\": \"boolean\"}`, both may be left out"},
    {"GET", "/v1/flags/KEY/history", API_READ, api_flags_history, "its changes at runtime, newest last"},
};

const struct api_part api_flags_part = {
    .prefix = SLICE("/v1/flags"),
    .body_bytes_max = API_FLAGS_BODY_BYTES_MAX,
    .ready = ready,
    .not_found = "behind a flag's key stand on, off, eval or history; a '/' in a key is written %2F",
    .routes = ROUTES,
    .route_count = ARRAY_LEN(ROUTES),
};
