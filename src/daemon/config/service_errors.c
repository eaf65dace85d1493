// SPDX-License-Identifier: Apache-2.0
// What counts as an error of one service's versions: statuses, headers, a text in the body, gRPC's statuses.
#include "base/check.h"
#include "daemon/config/config_private.h"

// In the order of their codes, which is the proto's (google.rpc.Code); 0 is OK, which is no error.
static const struct config_choice grpc_choices[] = {{"cancelled", 1},
                                                    {"unknown", 2},
                                                    {"invalid_argument", 3},
                                                    {"deadline_exceeded", 4},
                                                    {"not_found", 5},
                                                    {"already_exists", 6},
                                                    {"permission_denied", 7},
                                                    {"resource_exhausted", 8},
                                                    {"failed_precondition", 9},
                                                    {"aborted", 10},
                                                    {"out_of_range", 11},
                                                    {"unimplemented", 12},
                                                    {"internal", 13},
                                                    {"unavailable", 14},
                                                    {"data_loss", 15},
                                                    {"unauthenticated", 16},
                                                    {NULL, 0}};

static const struct config_word header_words[] = {
    {.word = "is",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_error_header, value),
     .help = "exactly this value; of a field that stands several times, any of them"},
};
static const struct config_choice header_choices[] = {{"present", true}, {NULL, 0}};
static void header_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_error_header *header = target;
    if (!header->present &&
        (config_node_is_null(node) || (node->kind == CONFIG_NODE_MAP && node->count == 0)))
        config_error_at(reader, node, "header '%s' wants a value, or 'present'", header->name);
}
static const struct config_section header_section = {
    .title = "error header",
    .help =
        "An answer with this header is an error: with this value, or whatever it is. `x-result: failed` is "
        "short for `x-result: {is: failed}`.",
    CONFIG_WORDS(header_words),
    .shorthand = "is",
    .choices = header_choices,
    .choice_offset = offsetof(struct config_error_header, present),
    .choice_size = sizeof(bool),
    .finish = header_finish,
};

// ---- the body ----

static void body_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_error_body *body = target;
    if (body->within > 0 && strlen(body->contains) > body->within)
        config_error_at(reader, config_place(node, "within"),
                        "'within' is less than the text has bytes (%zu): it would never be found",
                        strlen(body->contains));
}

static const struct config_word body_words[] = {
    {.word = "contains",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_error_body, contains),
     .required = true,
     .help = "bytes of the body, exactly as the service writes them; blanks count"},
    {.word = "within",
     .kind = CONFIG_KIND_SIZE,
     CONFIG_AT(struct config_error_body, within),
     .min = 1,
     .max = CONFIG_ERROR_WITHIN_MAX,
     .fallback = "64KiB",
     .help = "so much of the body is looked at, up to 1MiB"},
};
static const struct config_section body_section = {
    .title = "error body",
    .help =
        "An answer whose body has this text is an error. Nothing is delayed: the body is looked at as it "
        "passes, and an answer is judged a second after it began at the latest; what is found later still "
        "counts, in the moment it is found. Encoded bodies (`Content-Encoding: gzip`) are not looked at; "
        "`sluice_unsearched_bodies_total` counts them.",
    CONFIG_WORDS(body_words),
    .shorthand = "contains",
    .finish = body_finish,
};

// ---- all of it ----

static void errors_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    static const int server_faults[] = {2, 4, 12, 13, 14, 15};
    struct config_service_errors *errors = target;
    (void)reader;
    errors->given = node != NULL && node->kind == CONFIG_NODE_MAP;
    if (!config_given(node, "statuses")) {
        errors->statuses[0] = (struct config_status_range){500, 599};
        errors->status_count = 1;
    }
    if (!config_given(node, "grpc")) {
        memcpy(errors->grpc, server_faults, sizeof server_faults);
        errors->grpc_count = ARRAY_LEN(server_faults);
    }
}

static const struct config_word status_item = {
    .word = "statuses", .kind = CONFIG_KIND_STATUSES, .size = sizeof(struct config_status_range)};
static const struct config_word grpc_item = {
    .word = "grpc", .kind = CONFIG_KIND_CHOICE, .size = sizeof(int), .choices = grpc_choices};
static const struct config_word errors_words[] = {
    {.word = "statuses",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_service_errors, statuses, status_count),
     .max = CONFIG_ERROR_STATUSES_MAX,
     .in_place = true,
     .item = &status_item,
     .fallback = "`[5xx]`",
     .help = "these and no others: classes (`4xx`), single ones (`429`), ranges (`404-410`); what is above "
             "599 counts as 599"},
    {.word = "headers",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config_service_errors, headers, header_count),
     .max = CONFIG_ERROR_HEADERS_MAX,
     .section = &header_section,
     .fallback = "none",
     .help = "headers of answers, by name, each with the value that makes it an error, or `present`"},
    {.word = "body",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service_errors, body),
     .section = &body_section,
     .optional = true,
     .fallback = "not looked at",
     .help = "a text in the body of answers"},
    {.word = "grpc",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_service_errors, grpc, grpc_count),
     .max = ARRAY_LEN(grpc_choices) - 1,
     .in_place = true,
     .item = &grpc_item,
     .fallback = "the server's faults",
     .help = "statuses of gRPC, in the trailers or the head of answers of the type application/grpc: by "
             "default `unknown`, `deadline_exceeded`, `unimplemented`, `internal`, `unavailable` and "
             "`data_loss`; the others answer what was asked. One that is missing is `unknown`"},
};
const struct config_section config_service_errors_section = {
    .title = "errors of a service",
    .help = "What counts as an error of a version: an answer to which any of these applies. Failed connects, "
            "timeouts, resets and broken answers always do. An answer counts in one check: a 404 that is an "
            "error is none of the 4xx of *checks.statuses*. Retries do not depend on it. For other rules on "
            "one path, make that path a service.",
    CONFIG_WORDS(errors_words),
    .finish = errors_finish,
};

// ---- in words ----

static void status_write(const struct config_status_range *range, struct text *text)
{
    if (range->first % 100 == 0 && range->last == range->first + 99)
        text_addf(text, "%uxx", range->first / 100u);
    else if (range->first == range->last)
        text_addf(text, "%u", range->first);
    else
        text_addf(text, "%u-%u", range->first, range->last);
}

static void separate(struct text *text)
{
    text_add(text, text->len > 0 ? SLICE("; or ") : SLICE(""));
}

void config_service_errors_write(const struct config_service_errors *errors, struct text *text)
{
    if (errors->status_count > 0)
        text_add(text, SLICE("status "));
    for (uint32_t i = 0; i < errors->status_count; i++) {
        text_add(text, i > 0 ? SLICE(", ") : SLICE(""));
        status_write(&errors->statuses[i], text);
    }
    for (uint32_t i = 0; i < errors->header_count; i++) {
        separate(text);
        text_addf(text, "header %s%s%s", errors->headers[i].name, errors->headers[i].present ? "" : ": ",
                  errors->headers[i].value);
    }
    if (errors->body.contains[0] != '\0') {
        separate(text);
        text_addf(text, "%s in the first %llu bytes of a body that is not encoded", errors->body.contains,
                  (unsigned long long)errors->body.within);
    }
    if (errors->grpc_count > 0) {
        separate(text);
        text_add(text, SLICE("gRPC status "));
    }
    for (uint32_t i = 0; i < errors->grpc_count; i++)
        text_addf(text, "%s%s", i > 0 ? ", " : "", grpc_choices[errors->grpc[i] - 1].word);
    separate(text);
    text_add(text, SLICE("no sound answer"));
}
