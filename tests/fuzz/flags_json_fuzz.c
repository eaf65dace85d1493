// SPDX-License-Identifier: Apache-2.0
// The JSON reader on any bytes: what parses as a tree must validate by walking, too, with the same members; a
// refusal must lie within the source; no storage passed.
#include <stdint.h>

#include "base/check.h"
#include "base/utf8.h"
#include "flags/eval/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_all(struct slice source, const struct flags_json *root)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice key;
    struct slice value;
    uint32_t count = 0;
    enum status status = flags_json_walk_begin(source, &walk, &fault);
    if (status != STATUS_OK) {
        CHECK(root == NULL || (root->kind != FLAGS_JSON_OBJECT && root->kind != FLAGS_JSON_ARRAY));
        return;
    }
    while ((status = flags_json_walk_next(&walk, &key, &value, &fault)) == STATUS_OK)
        count++;
    if (root != NULL)
        CHECK(status == STATUS_NOT_FOUND && count == root->count);
    else if (status == STATUS_INVALID)
        CHECK(fault.at <= source.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct flags_json nodes[1024];
    static char chars[4096];
    if (size < 1)
        return 0;
    struct flags_json_space space = {.nodes = nodes,
                                     .node_cap = (data[0] & 2) != 0 ? 1024 : 8,
                                     .chars = chars,
                                     .char_cap = (data[0] & 4) != 0 ? sizeof chars : 4,
                                     .last_wins = (data[0] & 1) != 0};
    struct slice source = {(const char *)data + 1, size - 1};
    struct flags_json *root = NULL;
    struct flags_json_error fault = {0};
    uint32_t line;
    uint32_t column;
    enum status status = flags_json_parse(source, &space, &root, &fault);
    CHECK(space.node_count <= space.node_cap && space.char_count <= space.char_cap);
    if (status == STATUS_INVALID) {
        CHECK(fault.at <= source.len && fault.what != NULL);
        flags_json_position(source, fault.at, &line, &column);
        CHECK(line >= 1 && column >= 1);
    }
    bool whole = status == STATUS_OK && !space.last_wins;
    walk_all(source, whole ? root : NULL);
    if (status == STATUS_OK)
        CHECK(utf8_valid(source));
    return 0;
}
