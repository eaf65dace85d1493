// SPDX-License-Identifier: Apache-2.0
// Messages of gRPC (length-prefixed, as its description of HTTP/2 says) as an array; each is an object of its
// fields by number (Protocol Buffers, "Encoding"). A field of bytes may be a text, bytes, packed numbers or a
// message: nothing in it says which, so it is compared as it is. Compressed messages are one value.
#include "base/utf8.h"
#include "ship/diff/diff_private.h"

enum { PREFIX_BYTES = 5, VARINT_BYTES_MAX = 10, FIELD_NUMBER_MAX = (1 << 29) - 1 };

struct reader {
    struct diff_tree *tree;
    uint32_t at, end;
};

static enum status fail(struct reader *r, const char *what)
{
    r->tree->fault = what;
    r->tree->fault_at = r->at;
    return STATUS_INVALID;
}

static bool read_varint(struct reader *r, uint64_t *value)
{
    uint64_t result = 0;
    for (int i = 0; i < VARINT_BYTES_MAX && r->at < r->end; i++) {
        uint8_t byte = (uint8_t)r->tree->source.data[r->at++];
        result |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value = result;
            return i < VARINT_BYTES_MAX - 1 || byte <= 1;
        }
    }
    return false;
}

static bool is_shown(struct slice text)
{
    while (text.len > 0) {
        size_t len = utf8_length(text);
        if (len == 0 ||
            (utf8_acts((struct slice){text.data, len}) && *text.data != '\n' && *text.data != '\t'))
            return false;
        text = (struct slice){text.data + len, text.len - len};
    }
    return true;
}

static void set_bytes(struct diff_tree *tree, struct diff_node *node, uint32_t at, uint32_t len)
{
    node->at = at;
    node->len = len;
    struct slice text = diff_tree_text(tree, node);
    node->kind = is_shown(text) ? NODE_STRING : NODE_BYTES;
    node->hash = diff_tree_mix(tree, siphash(tree->key, text.data, text.len), NODE_STRING);
}

// One field: its tag and its value.
static enum status read_field(struct reader *r, uint32_t message, uint32_t *last)
{
    static const uint32_t FIXED[8] = {[1] = 8, [5] = 4};
    uint64_t tag = 0, value = 0;
    if (!read_varint(r, &tag) || tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX)
        return fail(r, "expected the tag of a field");
    uint32_t wire_type = tag & 7, begin = r->at;
    if (wire_type > 5 || wire_type == 3 || wire_type == 4)
        return fail(r, "a field of a group, or of an unknown wire type");
    *last = diff_tree_add(r->tree, message, *last, NODE_NUMBER);
    if (*last == NODE_NONE)
        return STATUS_FULL;
    struct diff_node *node = &r->tree->nodes[*last];
    node->key_at = (uint32_t)(tag >> 3);
    node->numbered = true;
    node->key_hash = diff_tree_mix(r->tree, tag >> 3, NODE_OBJECT);
    if (FIXED[wire_type] == 0 && !read_varint(r, &value))
        return fail(r, "a number has no end");
    uint32_t len = wire_type == 2 ? (value < UINT32_MAX ? (uint32_t)value : UINT32_MAX) : FIXED[wire_type];
    if (len > r->end - r->at)
        return fail(r, "a field is longer than its message");
    if (wire_type == 0) {
        node->at = begin;
        node->len = r->at - begin;
        node->hash = diff_tree_mix(r->tree, value, NODE_NUMBER);
        return STATUS_OK;
    }
    set_bytes(r->tree, node, r->at, len);
    if (wire_type != 2)
        node->kind = NODE_BYTES;
    r->at += len;
    return STATUS_OK;
}

static enum status read_message(struct reader *r, uint32_t *last)
{
    const uint8_t *prefix = (const uint8_t *)r->tree->source.data + r->at;
    uint32_t rest = r->end - r->at;
    if (rest < PREFIX_BYTES)
        return fail(r, "the prefix of a message has no end");
    uint32_t len =
        (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 | (uint32_t)prefix[3] << 8 | prefix[4];
    if (len > rest - PREFIX_BYTES)
        return fail(r, "a message has no end");
    *last = diff_tree_add(r->tree, 0, *last, NODE_OBJECT);
    if (*last == NODE_NONE)
        return STATUS_FULL;
    uint32_t index = *last, field = NODE_NONE;
    r->at += PREFIX_BYTES;
    r->tree->nodes[index].at = r->at;
    r->tree->nodes[index].len = len;
    if (prefix[0] != 0) {
        set_bytes(r->tree, &r->tree->nodes[index], r->at, len);
        r->tree->nodes[index].kind = NODE_BYTES;
        r->at += len;
        return STATUS_OK;
    }
    struct reader fields = {.tree = r->tree, .at = r->at, .end = r->at + len};
    while (fields.at < fields.end) {
        enum status status = read_field(&fields, index, &field);
        if (status != STATUS_OK)
            return status;
    }
    r->at = fields.end;
    diff_tree_close(r->tree, index);
    return STATUS_OK;
}

enum status diff_read_grpc(struct diff_tree *tree)
{
    struct reader r = {.tree = tree, .end = (uint32_t)tree->source.len};
    uint32_t last = NODE_NONE;
    if (diff_tree_add(tree, NODE_NONE, NODE_NONE, NODE_ARRAY) == NODE_NONE)
        return STATUS_FULL;
    while (r.at < r.end) {
        enum status status = read_message(&r, &last);
        if (status != STATUS_OK)
            return status;
    }
    diff_tree_close(tree, 0);
    return STATUS_OK;
}
