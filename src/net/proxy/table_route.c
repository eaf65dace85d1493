// SPDX-License-Identifier: Apache-2.0
// What a route asks for beside host and path: methods, scheme, headers, query parameters. All of it must
// hold; nothing is copied, and a query is compared escape by escape.
#include "net/http/http1.h"
#include "net/http/template.h"
#include "net/proxy/table_private.h"

// ---- checks ----

static bool value_fits(const char *value)
{
    return strnlen(value, PROXY_RULE_TEXT_MAX) < PROXY_RULE_TEXT_MAX && http_value_valid(slice_of(value));
}

static const char *check_conditions(const struct proxy_condition_plan *conditions, uint32_t count,
                                    bool headers)
{
    if (count > PROXY_CONDITIONS_MAX)
        return "a route has too many conditions";
    for (uint32_t i = 0; i < count; i++) {
        const struct proxy_condition_plan *condition = &conditions[i];
        bool valued = condition->kind == PROXY_IS || condition->kind == PROXY_BEGINS;
        if (condition->name == NULL || !value_fits(condition->name) || condition->name[0] == '\0' ||
            (headers && !http_token_valid(slice_of(condition->name))))
            return "a condition of a route has no sound name";
        if (valued && (condition->value == NULL || !value_fits(condition->value)))
            return "a condition of a route has no sound value";
    }
    return NULL;
}

const char *table_route_check(const struct proxy_route_plan *plan)
{
    size_t at;
    if (plan->path_kind == PROXY_PATH_EXACT && plan->path == NULL)
        return "a route's exact path is missing";
    if (plan->path_kind == PROXY_PATH_TEMPLATE &&
        (plan->path == NULL || http_template_check(slice_of(plan->path), &at) != NULL))
        return "a route's template is not sound";
    if (plan->method_count > PROXY_METHODS_MAX)
        return "a route has too many methods";
    for (uint32_t i = 0; i < plan->method_count; i++)
        if (strnlen(plan->methods[i], HTTP1_METHOD_BYTES_MAX + 1) > HTTP1_METHOD_BYTES_MAX ||
            !http_token_valid(slice_of(plan->methods[i])))
            return "a route's method is no token";
    const char *why = check_conditions(plan->headers, plan->header_count, true);
    return why != NULL ? why : check_conditions(plan->query, plan->query_count, false);
}

// ---- compiling ----

static size_t list_bytes(const struct proxy_condition_plan *conditions, uint32_t count)
{
    size_t bytes = table_carve_bytes(count, sizeof(struct proxy_condition));
    for (uint32_t i = 0; i < count; i++)
        bytes += table_text_bytes(conditions[i].name) + table_text_bytes(conditions[i].value);
    return bytes;
}

size_t table_conditions_bytes(const struct proxy_route_plan *plan)
{
    size_t bytes = table_carve_bytes(1, sizeof(struct proxy_conditions)) +
                   table_carve_bytes(plan->method_count, sizeof(struct slice)) +
                   list_bytes(plan->headers, plan->header_count) + list_bytes(plan->query, plan->query_count);
    for (uint32_t i = 0; i < plan->method_count; i++)
        bytes += table_text_bytes(plan->methods[i]);
    return bytes;
}

static const struct proxy_condition *compile_list(struct table_carve *from,
                                                  const struct proxy_condition_plan *plan, uint32_t count)
{
    struct proxy_condition *list = table_carve(from, count, sizeof *list);
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct proxy_condition){.name = table_carve_text(from, plan[i].name, false),
                                           .value = table_carve_text(from, plan[i].value, false),
                                           .kind = plan[i].kind};
    return list;
}

const struct proxy_conditions *table_conditions_compile(struct table_carve *from,
                                                        const struct proxy_route_plan *plan)
{
    if (plan->scheme == PROXY_SCHEME_ANY && plan->method_count + plan->header_count + plan->query_count == 0)
        return NULL;
    struct proxy_conditions *conditions = table_carve(from, 1, sizeof *conditions);
    struct slice *methods = table_carve(from, plan->method_count, sizeof *methods);
    for (uint32_t i = 0; i < plan->method_count; i++)
        methods[i] = table_carve_text(from, plan->methods[i], false);
    *conditions = (struct proxy_conditions){.scheme = plan->scheme,
                                            .methods = methods,
                                            .method_count = plan->method_count,
                                            .headers = compile_list(from, plan->headers, plan->header_count),
                                            .header_count = plan->header_count,
                                            .query = compile_list(from, plan->query, plan->query_count),
                                            .query_count = plan->query_count};
    return conditions;
}

uint32_t table_conditions_count(const struct proxy_conditions *conditions)
{
    if (conditions == NULL)
        return 0;
    return (conditions->scheme != PROXY_SCHEME_ANY) + (conditions->method_count > 0) +
           conditions->header_count + conditions->query_count;
}

// ---- matching ----

static bool method_is(const struct proxy_conditions *conditions, struct slice method)
{
    for (uint32_t i = 0; i < conditions->method_count; i++)
        if (slice_equal(conditions->methods[i], method))
            return true;
    return conditions->method_count == 0;
}

static bool value_holds(const struct proxy_condition *condition, struct slice value)
{
    if (condition->kind == PROXY_IS)
        return slice_equal(value, condition->value);
    return condition->kind != PROXY_BEGINS || slice_starts_with(value, condition->value);
}

static bool header_holds(const struct proxy_condition *condition, const struct http_fields *fields)
{
    bool absent = condition->kind == PROXY_ABSENT;
    for (uint32_t i = 0; i < fields->count; i++)
        if (slice_equal_nocase(fields->items[i].name, condition->name) &&
            (absent || value_holds(condition, fields->items[i].value)))
            return !absent;
    return absent;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = slice_lower_char(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// One character of a query, without its escape; the bytes it took.
static size_t decode(struct slice raw, char *out)
{
    bool escape = raw.len >= 3 && raw.data[0] == '%' && hex_of(raw.data[1]) >= 0 && hex_of(raw.data[2]) >= 0;
    *out = raw.data[0] == '+' ? ' ' : raw.data[0];
    if (escape)
        *out = (char)(hex_of(raw.data[1]) << 4 | hex_of(raw.data[2]));
    return escape ? 3 : 1;
}

// Whether the raw part of a query stands for this text, or begins with it.
static bool decoded_is(struct slice raw, struct slice text, bool whole)
{
    for (size_t i = 0; i < text.len; i++) {
        char c;
        if (raw.len == 0)
            return false;
        size_t taken = decode(raw, &c);
        raw = (struct slice){raw.data + taken, raw.len - taken};
        if (c != text.data[i])
            return false;
    }
    return !whole || raw.len == 0;
}

static bool parameter_holds(const struct proxy_condition *condition, struct slice pair)
{
    const char *equals = pair.len > 0 ? memchr(pair.data, '=', pair.len) : NULL;
    size_t name_len = equals != NULL ? (size_t)(equals - pair.data) : pair.len;
    struct slice value = {equals != NULL ? equals + 1 : "", equals != NULL ? pair.len - name_len - 1 : 0};
    if (!decoded_is((struct slice){pair.data, name_len}, condition->name, true))
        return false;
    bool valued = condition->kind == PROXY_IS || condition->kind == PROXY_BEGINS;
    return !valued || decoded_is(value, condition->value, condition->kind == PROXY_IS);
}

static bool query_holds(const struct proxy_condition *condition, struct slice query)
{
    bool absent = condition->kind == PROXY_ABSENT;
    while (query.len > 0) {
        const char *end = memchr(query.data, '&', query.len);
        struct slice pair = {query.data, end != NULL ? (size_t)(end - query.data) : query.len};
        size_t taken = pair.len + (end != NULL);
        query = (struct slice){query.data + taken, query.len - taken};
        if (parameter_holds(condition, pair))
            return !absent;
    }
    return absent;
}

bool table_conditions_hold(const struct proxy_conditions *conditions, const struct http_request *request,
                           enum proxy_scheme scheme)
{
    if (!method_is(conditions, request->method) ||
        (conditions->scheme != PROXY_SCHEME_ANY && conditions->scheme != scheme))
        return false;
    for (uint32_t i = 0; i < conditions->header_count; i++)
        if (!header_holds(&conditions->headers[i], &request->fields))
            return false;
    for (uint32_t i = 0; i < conditions->query_count; i++)
        if (!query_holds(&conditions->query[i], request->query))
            return false;
    return true;
}
