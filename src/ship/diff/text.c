// SPDX-License-Identifier: Apache-2.0
// Text as an array of its lines. A line ends with LF or CR LF or the end of the text, which makes no
// difference.
#include "ship/diff/diff_private.h"

enum status diff_read_text(struct diff_tree *tree)
{
    const char *begin = tree->source.data, *end = begin + tree->source.len;
    uint32_t root = diff_tree_add(tree, NODE_NONE, NODE_NONE, NODE_ARRAY), last = NODE_NONE;
    if (root == NODE_NONE)
        return STATUS_FULL;
    for (const char *at = begin; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = newline != NULL ? newline : end;
        last = diff_tree_add(tree, root, last, NODE_STRING);
        if (last == NODE_NONE)
            return STATUS_FULL;
        struct diff_node *node = &tree->nodes[last];
        node->at = (uint32_t)(at - begin);
        node->len = (uint32_t)(line_end - at);
        node->len -= node->len > 0 && line_end[-1] == '\r';
        node->hash = siphash(tree->key, at, node->len);
        at = newline != NULL ? newline + 1 : end;
    }
    diff_tree_close(tree, root);
    return STATUS_OK;
}
