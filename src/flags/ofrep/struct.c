// SPDX-License-Identifier: Apache-2.0
// google.protobuf.Struct as JSON, and back. Evaluation reads JSON and flags are written in it, so what comes
// in protobuf's form is written down as JSON first, as flagd does; the one JSON reader then judges it.
#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "base/protobuf.h"
#include "base/utf8.h"
#include "flags/eval/json.h"
#include "flags/ofrep/ofrep_private.h"

// Numbers of the fields of Struct, of the entries of its map, of Value and of ListValue (struct.proto).
enum {
    STRUCT_FIELDS = 1,
    ENTRY_KEY = 1,
    ENTRY_VALUE = 2,
    VALUE_NULL = 1,
    VALUE_NUMBER = 2,
    VALUE_STRING = 3,
    VALUE_BOOL = 4,
    VALUE_STRUCT = 5,
    VALUE_LIST = 6,
    LIST_VALUES = 1,
};

// ---- reading ----

static const char *const BROKEN = "the context is no Struct";

// Each of these gives what is wrong, or NULL.
static const char *read_message(struct json_out *out, struct slice bytes, unsigned depth, bool list);

static const char *read_text(struct json_out *out, struct slice text)
{
    if (!utf8_valid(text))
        return "a text of the context is not UTF-8";
    json_out_quote(out, text);
    return NULL;
}

static const char *read_number(struct json_out *out, double number)
{
    char text[32];
    if (!isfinite(number))
        return "a number of the context is not finite";
    int len = snprintf(text, sizeof text, "%.17g", number);
    json_out_bytes(out, (struct slice){text, (size_t)len});
    return NULL;
}

static bool is_kind(const struct protobuf_field *field)
{
    static const enum protobuf_type TYPES[] = {
        [VALUE_NULL] = PROTOBUF_VARINT, [VALUE_NUMBER] = PROTOBUF_FIXED64, [VALUE_STRING] = PROTOBUF_BYTES,
        [VALUE_BOOL] = PROTOBUF_VARINT, [VALUE_STRUCT] = PROTOBUF_BYTES,   [VALUE_LIST] = PROTOBUF_BYTES,
    };
    return field->number >= VALUE_NULL && field->number <= VALUE_LIST && TYPES[field->number] == field->type;
}

// The last one of the kinds counts; without any it is null.
static const char *read_value(struct json_out *out, struct slice bytes, unsigned depth)
{
    struct protobuf_reader reader = {.rest = bytes};
    struct protobuf_field field;
    struct protobuf_field last = {.number = VALUE_NULL};
    while (protobuf_next(&reader, &field))
        if (is_kind(&field))
            last = field;
    if (reader.bad)
        return BROKEN;
    switch (last.number) {
    case VALUE_NUMBER:
        return read_number(out, protobuf_double(&last));
    case VALUE_STRING:
        return read_text(out, last.bytes);
    case VALUE_STRUCT:
    case VALUE_LIST:
        return read_message(out, last.bytes, depth + 1, last.number == VALUE_LIST);
    default:
        json_out_bytes(out, slice_of(last.number == VALUE_NULL ? "null"
                                     : last.value != 0         ? "true"
                                                               : "false"));
        return NULL;
    }
}

static const char *read_entry(struct json_out *out, struct slice bytes, unsigned depth)
{
    struct protobuf_reader reader = {.rest = bytes};
    struct protobuf_field field;
    struct slice key = {"", 0};
    struct slice value = {"", 0};
    while (protobuf_next(&reader, &field)) {
        if (field.number == ENTRY_KEY && field.type == PROTOBUF_BYTES)
            key = field.bytes;
        else if (field.number == ENTRY_VALUE && field.type == PROTOBUF_BYTES)
            value = field.bytes;
    }
    if (reader.bad)
        return BROKEN;
    const char *wrong = read_text(out, key);
    JSON_OUT(out, ":");
    return wrong != NULL ? wrong : read_value(out, value, depth);
}

static const char *read_message(struct json_out *out, struct slice bytes, unsigned depth, bool list)
{
    _Static_assert((int)STRUCT_FIELDS == (int)LIST_VALUES, "one reader for both");
    struct protobuf_reader reader = {.rest = bytes};
    struct protobuf_field field;
    const char *wrong = NULL;
    size_t begin = out->len + 1;
    if (depth > FLAGS_JSON_DEPTH_MAX)
        return "the context is nested too deep";
    json_out_bytes(out, slice_of(list ? "[" : "{"));
    while (wrong == NULL && protobuf_next(&reader, &field)) {
        if (field.number != STRUCT_FIELDS || field.type != PROTOBUF_BYTES)
            continue;
        if (out->len > begin)
            JSON_OUT(out, ",");
        wrong = list ? read_value(out, field.bytes, depth) : read_entry(out, field.bytes, depth);
    }
    json_out_bytes(out, slice_of(list ? "]" : "}"));
    return reader.bad ? BROKEN : wrong;
}

const char *ofrep_struct_read(struct slice bytes, struct json_out *out)
{
    json_out_reset(out);
    const char *wrong = read_message(out, bytes, 1, false);
    return wrong == NULL && out->status != STATUS_OK ? "the context is too large" : wrong;
}

// ---- writing: JSON that was read before ----

static void put_members(struct json_out *out, struct slice json);

static void put_text(struct json_out *out, uint32_t number, struct slice raw)
{
    size_t len = 0;
    size_t begin = protobuf_open(out, number);
    if (out->status != STATUS_OK || (raw.len > out->cap - out->len && !json_out_grow(out, raw.len)))
        return;
    CHECK(flags_json_unescape(raw, out->data + out->len, raw.len, &len) == STATUS_OK);
    out->len += len;
    protobuf_close(out, begin);
}

static double number_of(struct slice json)
{
    struct flags_json nodes[2];
    struct flags_json_space space = {.nodes = nodes, .node_cap = ARRAY_LEN(nodes)};
    struct flags_json_error fault;
    struct flags_json *node;
    CHECK(flags_json_parse(json, &space, &node, &fault) == STATUS_OK);
    return node->number;
}

static void put_value(struct json_out *out, uint32_t number, struct slice json)
{
    size_t begin = protobuf_open(out, number);
    char first = json.data[0];
    if (first == '{' || first == '[') {
        size_t inner = protobuf_open(out, first == '{' ? VALUE_STRUCT : VALUE_LIST);
        put_members(out, json);
        protobuf_close(out, inner);
    } else if (first == '"') {
        put_text(out, VALUE_STRING, (struct slice){json.data + 1, json.len - 2});
    } else if (first == 't' || first == 'f') {
        protobuf_put_varint(out, VALUE_BOOL, first == 't');
    } else if (first == 'n') {
        protobuf_put_varint(out, VALUE_NULL, 0);
    } else {
        protobuf_put_double(out, VALUE_NUMBER, number_of(json));
    }
    protobuf_close(out, begin);
}

// Of an object or a list.
static void put_members(struct json_out *out, struct slice json)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice key;
    struct slice value;
    CHECK(flags_json_walk_begin(json, &walk, &fault) == STATUS_OK);
    while (out->status == STATUS_OK && flags_json_walk_next(&walk, &key, &value, &fault) == STATUS_OK) {
        if (!walk.object) {
            put_value(out, LIST_VALUES, value);
            continue;
        }
        size_t begin = protobuf_open(out, STRUCT_FIELDS);
        put_text(out, ENTRY_KEY, key);
        put_value(out, ENTRY_VALUE, value);
        protobuf_close(out, begin);
    }
}

void ofrep_struct_put(struct json_out *out, uint32_t number, struct slice json)
{
    size_t begin = protobuf_open(out, number);
    put_members(out, json);
    protobuf_close(out, begin);
}
