// SPDX-License-Identifier: Apache-2.0
// `sluice check FILE --route 'GET https://shop.example/x'`: which route of the file a request takes, why, and
// what becomes of it. The request is parsed, and the table made, as the proxy would.
#include <jansson.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/cli/check_route.h"
#include "daemon/cli/shown.h"
#include "net/http/http1.h"
#include "ship/routing/routing.h"

enum { MATCHES_MAX = 16, HEAD_BYTES = HTTP1_HEAD_BYTES_MAX, OUTCOME_BYTES = 2 * HTTP1_START_LINE_BYTES_MAX };

// What one question goes through; on the heap, as it is large.
struct asking {
    const struct cli_call *call;
    const struct config *config;
    struct proxy_table *table;
    bool secure;
    struct http_request request;
    uint32_t plans[MATCHES_MAX];
    uint32_t match_count;
    char head[HEAD_BYTES];
    char target[OUTCOME_BYTES];
    char host[HTTP_HOST_BYTES_MAX + 1];
};

// ---- the request ----

static bool head_refused(const struct asking *asking, const char *why)
{
    fprintf(asking->call->err, "sluice check: no request: %s\n", why);
    return false;
}

// "GET https://shop.example/x" and the headers of -H, as a client would send them.
static bool head_write(struct asking *asking, struct text *text)
{
    const char *route = cli_value(asking->call, "route");
    size_t method = strcspn(route, " ");
    const char *url = route + method + strspn(route + method, " ");
    bool https = strncmp(url, "https://", 8) == 0;
    if (method == 0 || (!https && strncmp(url, "http://", 7) != 0))
        return head_refused(asking,
                            "--route wants a method and an address, such as 'GET https://shop.example/x'");
    asking->secure = https;
    url += https ? 8 : 7;
    size_t host = strcspn(url, "/?");
    text_addf(text, "%.*s %s%s HTTP/1.1\r\nHost: %.*s\r\n", (int)method, route, url[host] == '/' ? "" : "/",
              url + host, (int)host, url);
    for (size_t i = 0; i < asking->call->repeated_count; i++)
        text_addf(text, "%s\r\n", asking->call->repeated[i]);
    text_add(text, SLICE("\r\n"));
    return !text->cut || head_refused(asking, "its head is too long");
}

static bool request_read(struct asking *asking)
{
    struct text text = text_over(asking->head, sizeof asking->head);
    size_t head_len;
    enum http1_reject why = HTTP1_REJECT_NONE;
    if (!head_write(asking, &text))
        return false;
    enum status status = http1_request_parse(text.data, text.len, NULL, &asking->request, &head_len, &why);
    if (status != STATUS_OK || head_len != text.len)
        return head_refused(asking, why != HTTP1_REJECT_NONE ? http1_reject_text(why) : "it has two heads");
    return true;
}

// ---- a route in words ----

static void add_list(struct text *out, const char *what, const struct config_condition *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        static const char *const kinds[] = {[CONFIG_IS] = " is ",
                                            [CONFIG_BEGINS] = " begins with ",
                                            [CONFIG_PRESENT] = " present",
                                            [CONFIG_ABSENT] = " absent"};
        text_addf(out, ", %s %s%s%s", what, list[i].name, kinds[list[i].kind], list[i].value);
    }
}

static void match_write(const struct config_route *route, struct text *out)
{
    static const char *const paths[] = {
        [CONFIG_PATH_PREFIX] = "prefix", [CONFIG_PATH_EXACT] = "path", [CONFIG_PATH_TEMPLATE] = "template"};
    text_addf(out, "host %s, %s %s", route->host[0] != '\0' ? route->host : "*", paths[route->path.kind],
              route->path.text);
    if (route->scheme != CONFIG_SCHEME_ANY)
        text_addf(out, ", scheme %s", route->scheme == CONFIG_SCHEME_HTTP ? "http" : "https");
    for (uint32_t i = 0; i < route->method_count; i++)
        text_addf(out, "%s%s", i == 0 ? ", method " : " or ", route->methods[i]);
    add_list(out, "header", route->headers, route->header_count);
    add_list(out, "query", route->query, route->query_count);
}

static void edits_write(const struct config_edits *edits, struct text *out)
{
    const char *between = "";
    for (uint32_t i = 0; i < edits->set_count; i++, between = "; ")
        text_addf(out, "%sset %s to %s", between, edits->set[i].name, edits->set[i].value);
    for (uint32_t i = 0; i < edits->add_count; i++, between = "; ")
        text_addf(out, "%sadd %s: %s", between, edits->add[i].name, edits->add[i].value);
    for (uint32_t i = 0; i < edits->remove_count; i++, between = "; ")
        text_addf(out, "%sremove %s", between, edits->remove[i]);
}

static const char *leads_to(const struct routing_route *found)
{
    if (found->service != NULL)
        return found->service->name;
    return found->own->redirect.status != 0 ? "(redirect)" : "(answer)";
}

static int status_of(const struct routing_route *found)
{
    if (found->own == NULL)
        return 0;
    return found->own->redirect.status != 0 ? found->own->redirect.status : (int)found->own->answer.status;
}

static void place_write(const struct config_route *route, struct text *out)
{
    if (route->name[0] != '\0')
        text_addf(out, "'%s' at ", route->name);
    text_addf(out, "%s:%u:%u", route->position.file, route->position.line, route->position.column);
}

// ---- answers ----

enum { LINE_BYTES = 65536 };

static void line_print(FILE *out, const char *before, const struct text *line)
{
    fputs(before, out);
    cli_print_told(out, line->data);
    fputc('\n', out);
}

static void way_print(const struct asking *asking, const struct routing_route *found, struct text *line)
{
    FILE *out = asking->call->out;
    if (found->own != NULL) {
        fprintf(out, "  answered %d by the proxy", status_of(found));
        *line = text_over(line->data, line->cap);
        text_add(line, slice_of(asking->target));
        if (found->own->redirect.status != 0)
            line_print(out, ": go to ", line);
        else
            fputc('\n', out);
        return;
    }
    *line = text_over(line->data, line->cap);
    text_addf(line, "%s, host %s", asking->target, asking->host);
    line_print(out, "  asked for ", line);
    const struct config_edits *both[] = {&found->route->request, &found->route->response};
    static const char *const titles[] = {"  request headers: ", "  answer headers: "};
    for (size_t i = 0; i < ARRAY_LEN(both); i++) {
        *line = text_over(line->data, line->cap);
        edits_write(both[i], line);
        if (line->len > 0)
            line_print(out, titles[i], line);
    }
}

static void text_print(const struct asking *asking, char *storage)
{
    FILE *out = asking->call->out;
    for (uint32_t i = 0; i < asking->match_count; i++) {
        struct routing_route found = routing_route_of(asking->config, asking->plans[i]);
        struct text line = text_over(storage, LINE_BYTES);
        text_addf(&line, "%s by route ", leads_to(&found));
        place_write(found.route, &line);
        line_print(out, i == 0 ? "" : "  not ", &line);
        line = text_over(storage, LINE_BYTES);
        match_write(found.route, &line);
        line_print(out, i == 0 ? "  " : "    ", &line);
        if (i == 0)
            way_print(asking, &found, &line);
        else
            fprintf(out, "    the first one wins: %s\n",
                    proxy_table_why(asking->table, asking->plans[0], asking->plans[i]));
    }
}

static json_t *match_json(const struct asking *asking, uint32_t i, char *storage)
{
    struct routing_route found = routing_route_of(asking->config, asking->plans[i]);
    struct text match = text_over(storage, LINE_BYTES);
    match_write(found.route, &match);
    const struct config_position *at = &found.route->position;
    json_t *out = json_pack("{s:s, s:s?, s:s, s:i, s:i, s:s}", "name", found.route->name, "service",
                            found.service != NULL ? found.service->name : NULL, "file", at->file, "line",
                            (int)at->line, "column", (int)at->column, "match", storage);
    if (i > 0)
        json_object_set_new(out, "first_wins",
                            json_string(proxy_table_why(asking->table, asking->plans[0], asking->plans[i])));
    return out;
}

static void json_print(const struct asking *asking, char *storage)
{
    json_t *all = json_object(), *matches = json_array();
    for (uint32_t i = 0; i < asking->match_count; i++)
        json_array_append_new(matches, match_json(asking, i, storage));
    json_object_set_new(all, "matches", matches);
    struct routing_route found = {.service = NULL};
    if (asking->match_count > 0)
        found = routing_route_of(asking->config, asking->plans[0]);
    if (status_of(&found) != 0)
        json_object_set_new(all, "status", json_integer(status_of(&found)));
    if (found.own != NULL && found.own->redirect.status != 0)
        json_object_set_new(all, "location", json_string(asking->target));
    if (found.service != NULL) {
        json_object_set_new(all, "target", json_string(asking->target));
        json_object_set_new(all, "host", json_string(asking->host));
    }
    cli_print_json(asking->call->out, all);
    json_decref(all);
}

static int answer(struct asking *asking, char *storage)
{
    struct text target = text_over(asking->target, sizeof asking->target);
    struct text host = text_over(asking->host, sizeof asking->host);
    bool https = false;
    asking->match_count =
        proxy_table_matches(asking->table, &asking->request, asking->secure, asking->plans, MATCHES_MAX);
    if (asking->match_count > 0)
        (void)proxy_table_outcome(asking->table, asking->plans[0], &asking->request, asking->secure, &target,
                                  &host);
    if (cli_given(asking->call, "json"))
        json_print(asking, storage);
    else if (asking->match_count > 0)
        text_print(asking, storage);
    else
        fprintf(asking->call->out, "no route: it is answered 404\n");
    for (uint32_t i = 0; i < asking->config->listen_count && !asking->secure; i++)
        https |= asking->config->listen[i].https;
    if (https)
        fprintf(asking->call->err, "note: at a listener with 'redirect: https' it is sent to https before\n");
    return asking->match_count > 0 ? CLI_EXIT_OK : CLI_EXIT_NO;
}

int cli_check_route(const struct cli_call *call, const struct config *config)
{
    struct asking *asking = heap_alloc(1, sizeof *asking);
    char *storage = heap_alloc(1, LINE_BYTES);
    struct fault fault;
    int code = CLI_EXIT_UNREADABLE;
    if (asking != NULL && storage != NULL) {
        asking->call = call;
        asking->config = config;
        if (!request_read(asking))
            code = CLI_EXIT_USAGE;
        else if (routing_routes_table(config, &asking->table, &fault) != STATUS_OK)
            fprintf(call->err, "sluice check: %s\n", cli_told(fault.text));
        else
            code = answer(asking, storage);
        proxy_table_destroy(asking->table);
    }
    heap_free(asking);
    heap_free(storage);
    return code;
}
