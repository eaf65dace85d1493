// SPDX-License-Identifier: Apache-2.0
// The addresses under /v1/flags. Keys may hold anything but NUL, so they come percent-encoded; what is said
// about all flags goes by the query, where no key can stand in its way.
#include <string.h>

#include "daemon/api/flags.h"
#include "net/web/web.h"

bool api_query_value(struct slice query, struct slice name, char *out, size_t cap)
{
    size_t len = 0;
    if (web_query_find(query, name, out, cap - 1, &len) != STATUS_OK || memchr(out, '\0', len) != NULL)
        return false;
    out[len] = '\0';
    return true;
}

bool api_query_given(struct slice query, struct slice name)
{
    char value[8];
    return api_query_value(query, name, value, sizeof value) &&
           (value[0] == '\0' || strcmp(value, "1") == 0 || strcmp(value, "true") == 0);
}

static void refuse_method(struct api_answer *answer, const char *allow)
{
    api_flags_error(answer, 405, "method", "this address does not answer that method; Allow says which");
    answer->allow = allow;
}

static bool is_read(const struct api_request *request)
{
    return slice_equal(request->method, SLICE("GET")) || slice_equal(request->method, SLICE("HEAD"));
}

static void handle_all(struct engine *engine, const struct api_request *request, struct api_answer *answer)
{
    if (is_read(request))
        api_flags_list(engine, request, answer);
    else if (slice_equal(request->method, SLICE("POST")))
        api_flags_import(engine, request, answer);
    else
        refuse_method(answer, "GET, HEAD, POST");
}

static void handle_one(struct engine *engine, const char *key, const struct api_request *request,
                       struct api_answer *answer)
{
    if (is_read(request))
        api_flags_show(engine, slice_of(key), answer);
    else if (slice_equal(request->method, SLICE("PUT")))
        api_flags_put(engine, key, request, answer);
    else if (slice_equal(request->method, SLICE("DELETE")))
        api_flags_delete(engine, key, request, answer);
    else
        refuse_method(answer, "GET, HEAD, PUT, DELETE");
}

static void handle_verb(struct engine *engine, const char *key, struct slice verb,
                        const struct api_request *request, struct api_answer *answer)
{
    bool reads = slice_equal(verb, SLICE("history"));
    bool on = slice_equal(verb, SLICE("on"));
    bool off = slice_equal(verb, SLICE("off"));
    bool eval = slice_equal(verb, SLICE("eval"));
    if (!reads && !on && !off && !eval) {
        api_flags_error(answer, 404, "not_found",
                        "behind a flag's key stand on, off, eval or history; a '/' in a key is written %2F");
        return;
    }
    if (reads != is_read(request) || (!reads && !slice_equal(request->method, SLICE("POST")))) {
        refuse_method(answer, reads ? "GET, HEAD" : "POST");
        return;
    }
    if (reads)
        api_flags_history(engine, slice_of(key), request, answer);
    else if (eval)
        api_flags_eval(engine, slice_of(key), request, answer);
    else
        api_flags_switch(engine, key, on, request, answer);
}

// A page of another site must not flip a flag through somebody's browser: what is not a read is refused.
static bool is_foreign(const struct api_request *request)
{
    bool foreign = request->cross_site && !is_read(request);
    return foreign;
}

void api_handle_flags(struct engine *engine, struct slice rest, const struct api_request *request,
                      struct api_answer *answer)
{
    if (is_foreign(request)) {
        api_flags_error(answer, 403, "origin", "changes from web pages of other origins are refused");
        return;
    }
    if (runtime_flagset(targets_of(engine)->runtime) == NULL) {
        api_flags_error(answer, 409, "conflict",
                        "the file has no flags; add `flags:` with a source (see the guide to flags)");
        return;
    }
    if (rest.len > 0 && rest.data[0] == '/')
        rest = (struct slice){rest.data + 1, rest.len - 1};
    if (rest.len == 0) {
        handle_all(engine, request, answer);
        return;
    }
    const char *cut = memchr(rest.data, '/', rest.len);
    struct slice raw = {rest.data, cut != NULL ? (size_t)(cut - rest.data) : rest.len};
    struct slice verb = cut != NULL ? (struct slice){cut + 1, rest.len - raw.len - 1} : (struct slice){"", 0};
    char key[RUNTIME_KEY_BYTES];
    size_t len = 0;
    if (web_path_decode(raw, key, sizeof key - 1, &len) != STATUS_OK || len == 0 ||
        memchr(key, '\0', len) != NULL || !flags_utf8_valid((struct slice){key, len})) {
        api_flags_error(
            answer, 400, "invalid",
            "a flag's key is 1 to 255 bytes of UTF-8, percent-encoded where the address needs it");
        return;
    }
    key[len] = '\0';
    if (cut == NULL)
        handle_one(engine, key, request, answer);
    else
        handle_verb(engine, key, verb, request, answer);
}
