// SPDX-License-Identifier: Apache-2.0
// Every reader makes the same tree of a body; one walk compares two of them.
#pragma once

#include "base/check.h"
#include "ship/diff/diff.h"

enum { NODE_NONE = UINT32_MAX };

enum node_kind { NODE_NULL, NODE_BOOL, NODE_NUMBER, NODE_STRING, NODE_BYTES, NODE_ARRAY, NODE_OBJECT };

struct diff_node {
    uint64_t hash;            // equal for equal values
    uint64_t key_hash;        // of the name; different for each of several members of one name
    uint32_t key_at, key_len; // the name as written; an item of an array: its index; `numbered`: the number
    uint32_t at, len;         // the value as written, a string without its quotes
    uint32_t parent, next;    // NODE_NONE: none
    uint32_t count;           // children; the first one follows its parent directly
    uint32_t partner;         // in the other tree
    uint32_t chain, tail;     // while items are paired
    uint16_t path_len;        // of the path above
    uint8_t kind;
    bool escaped : 1, key_escaped : 1, numbered : 1;
};
_Static_assert(sizeof(struct diff_node) + 4 * sizeof(uint32_t) == DIFF_NODE_BYTES, "as the header says");

struct diff_tree {
    struct slice source;
    struct diff_node *nodes;
    uint32_t count, cap;
    uint32_t *slots; // a table for hashes, of more than twice as many places as there can be nodes
    uint32_t slot_count;
    struct siphash_key key;   // for runs of bytes
    struct siphash_key mixer; // for hashes; made of the key, so that a key of small numbers does not matter
    bool spelling;
    enum diff_reader reader;
    uint32_t notes;
    uint32_t fault_at;
    const char *fault;
};

// STATUS_OK; STATUS_FULL: too many nodes; STATUS_INVALID: `fault` says why; STATUS_RANGE: too deep.
MUST_USE enum status diff_read_json(struct diff_tree *tree);
MUST_USE enum status diff_read_text(struct diff_tree *tree);
MUST_USE enum status diff_read_grpc(struct diff_tree *tree);

// The next node as the last child of `parent` (its `previous` child, or NODE_NONE); NODE_NONE when full.
uint32_t diff_tree_add(struct diff_tree *tree, uint32_t parent, uint32_t previous, enum node_kind kind);
// The hash of an array or object whose children are all there. Numbers the members of one name; true when
// there were some.
bool diff_tree_close(struct diff_tree *tree, uint32_t container);
uint64_t diff_tree_mix(const struct diff_tree *tree, uint64_t a, uint64_t b);
uint64_t diff_json_number_hash(const struct diff_tree *tree, struct slice text);
// Takes the next bytes off the body of a string: a run that needs no escape, or what one escape stands for.
bool diff_json_piece(struct slice *rest, char storage[4], struct slice *piece);

static inline struct slice diff_tree_text(const struct diff_tree *tree, const struct diff_node *node)
{
    return (struct slice){tree->source.data + node->at, node->len};
}

// The walk over two trees that were read, and where its findings go.
struct diff_sink {
    const struct diff_recipe *recipe;
    struct diff_comparison *comparison;
};
void diff_walk(struct diff_tree *first, struct diff_tree *second, const struct diff_sink *sink);
// One occurrence. Values are as they were written, without quotes. The finding if it is new, so that its
// place can be noted; else NULL.
struct diff_finding *diff_sink_add(const struct diff_sink *sink, struct slice path, enum diff_kind kind,
                                   struct slice first, struct slice second);

// ---- clock.c
// Whether a value of that class tells a moment within five minutes of now.
bool diff_is_now(struct slice value, enum diff_class class, int64_t now_ms);
