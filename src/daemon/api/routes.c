// SPDX-License-Identifier: Apache-2.0
// The door of the API: who may knock, and which handler an address has. The addresses stand in the tables of
// the parts (rollouts.c, services.c, flags.c, events.c, daemon.c); what is answered with 404 or
// 405, `Allow` and the guide's list come from them.
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "daemon/api/api_private.h"
#include "net/http/field.h"
#include "net/web/web.h"

// The last one takes what no other does.
static const struct api_part *const PARTS[] = {&api_rollouts_part, &api_services_part, &api_flags_part,
                                               &api_events_part, &api_daemon_part};

// ---- finding ----

static const struct api_part *part_of(struct slice path)
{
    size_t i = 0;
    for (; i < ARRAY_LEN(PARTS) - 1; i++) {
        struct slice prefix = PARTS[i]->prefix;
        if (slice_starts_with(path, prefix) && (path.len == prefix.len || path.data[prefix.len] == '/'))
            break;
    }
    return PARTS[i];
}

// Takes what is before the next '/' away from text, and the '/' too. False: there was none.
static bool next_segment(struct slice *text, struct slice *segment)
{
    const char *cut = memchr(text->data, '/', text->len);
    *segment = (struct slice){text->data, cut != NULL ? (size_t)(cut - text->data) : text->len};
    size_t taken = segment->len + (cut != NULL ? 1 : 0);
    *text = (struct slice){text->data + taken, text->len - taken};
    return cut != NULL;
}

static bool is_word(struct slice segment)
{
    return segment.len > 0 && segment.data[0] >= 'A' && segment.data[0] <= 'Z';
}

// Whether the path is one of the pattern; words: what it has in the places of the pattern's.
static bool matches(const char *pattern, struct slice path, struct slice words[2])
{
    struct slice rest = slice_of(pattern);
    struct slice wanted, is;
    size_t word_count = 0;
    bool more, more_wanted;
    do {
        more_wanted = next_segment(&rest, &wanted);
        more = next_segment(&path, &is);
        if (is_word(wanted))
            words[word_count++] = is;
        else if (!slice_equal(wanted, is))
            return false;
    } while (more && more_wanted);
    return more == more_wanted;
}

static bool decode_words(struct api_call *call, const struct slice raw[2])
{
    for (size_t i = 0; i < ARRAY_LEN(call->words) && raw[i].data != NULL; i++) {
        char *word = call->words[i];
        size_t len = 0;
        if (web_path_decode(raw[i], word, sizeof call->words[i] - 1, &len) != STATUS_OK || len == 0 ||
            memchr(word, '\0', len) != NULL || !utf8_valid((struct slice){word, len})) {
            api_error(call, 400, "invalid",
                      "a name in an address is 1 to 255 bytes of UTF-8, percent-encoded where the address "
                      "needs it");
            return false;
        }
        word[len] = '\0';
    }
    return true;
}

static bool is_read(const struct api_call *call)
{
    return slice_equal(call->method, SLICE("GET")) || slice_equal(call->method, SLICE("HEAD"));
}

static void say_not_found(struct api_call *call, const struct api_part *part)
{
    char message[400];
    struct text text = text_over(message, sizeof message);
    const char *before = "";
    text_addf(&text, "nothing here; see ");
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++) {
        for (size_t j = 0; j < PARTS[i]->route_count; j++) {
            const char *pattern = PARTS[i]->routes[j].pattern;
            if (strpbrk(pattern, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL || strcmp(before, pattern) == 0)
                continue;
            text_addf(&text, "%s%s", before[0] != '\0' ? ", " : "", pattern);
            before = pattern;
        }
    }
    api_error(call, 404, "not_found", part->not_found != NULL ? part->not_found : message);
}

static void dispatch(struct api_call *call, const struct api_part *part)
{
    const char *pattern = NULL;
    struct slice words[2] = {{NULL, 0}, {NULL, 0}};
    struct slice method = is_read(call) ? SLICE("GET") : call->method;
    struct slice path = call->path;
    struct text allow = text_over(call->allow, sizeof call->allow);
    // A slash behind the whole of a part is the part.
    if (path.len == part->prefix.len + 1 && path.data[path.len - 1] == '/')
        path.len--;
    for (size_t i = 0; i < part->route_count; i++) {
        const struct api_route *route = &part->routes[i];
        if (pattern != NULL ? strcmp(pattern, route->pattern) != 0 : !matches(route->pattern, path, words))
            continue;
        if (pattern == NULL && !decode_words(call, words))
            return;
        pattern = route->pattern;
        if (slice_equal(method, slice_of(route->method))) {
            call->allow[0] = '\0';
            route->handle(call);
            return;
        }
        bool reads = strcmp(route->method, "GET") == 0;
        text_addf(&allow, "%s%s", allow.len > 0 ? ", " : "", reads ? "GET, HEAD" : route->method);
    }
    if (pattern == NULL) {
        say_not_found(call, part);
        return;
    }
    char message[96];
    snprintf(message, sizeof message, "this address answers %s", call->allow);
    api_error(call, 405, "method", message);
}

// ---- the door ----

// A page of another site must not reach us through the browser of somebody on this machine: neither by its
// own origin nor by a name that it made point here (DNS rebinding).
static bool host_is_ours(struct slice authority)
{
    struct slice host;
    uint16_t port;
    if (authority.len == 0)
        return true; // HTTP/1.0 tools; browsers always send one
    if (!http_host_read(authority, &host, &port))
        return false;
    bool numeric = host.data[0] == '[';
    for (size_t i = 0; i < host.len && !numeric; i++)
        if (!((host.data[i] >= '0' && host.data[i] <= '9') || host.data[i] == '.'))
            return slice_equal_nocase(host, SLICE("localhost"));
    return true; // an address cannot be rebound
}

void api_handle(struct api_call *call)
{
    const struct api_part *part = part_of(call->path);
    bool foreign = call->cross_site && !is_read(call);
    call->status = 200;
    call->out = (struct json_out){.max = API_ANSWER_BYTES_MAX};
    if (!host_is_ours(call->host))
        api_error(call, 403, "host", "reach the admin address by its number or as localhost");
    else if (foreign)
        api_error(call, 403, "origin", "commands from web pages of other origins are refused");
    else if (part->ready == NULL || part->ready(call))
        dispatch(call, part);
    if (call->content_type == NULL && call->subject[0] == '\0')
        JSON_OUT(&call->out, "\n");
    if (call->out.status == STATUS_FULL) {
        api_error(call, 413, "too_large",
                  "the answer would be larger than 16 MiB: ask the sources themselves");
        JSON_OUT(&call->out, "\n");
    }
    if (call->out.status != STATUS_OK) {
        json_out_free(&call->out);
        call->status = 500;
    }
}

uint32_t api_body_bytes_max(struct slice path)
{
    return part_of(path)->body_bytes_max;
}

// ---- the guide ----

void api_routes_write(struct text *text)
{
    static const char *const roles[] = {
        [API_READ] = "read", [API_OPERATE] = "operate", [API_FLAGS] = "flags", [API_REPORT] = "report"};
    text_addf(text, "| Request | Role | Answer |\n|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++) {
        for (size_t j = 0; j < PARTS[i]->route_count; j++) {
            const struct api_route *route = &PARTS[i]->routes[j];
            text_addf(text, "| `%s %s` | %s | %s |\n", route->method, route->pattern, roles[route->role],
                      route->help);
        }
    }
}
