// SPDX-License-Identifier: Apache-2.0
// The tree that a body is read into, and the hashes by which its values are equal.
#include "ship/diff/diff_private.h"

uint32_t diff_tree_add(struct diff_tree *tree, uint32_t parent, uint32_t previous, enum node_kind kind)
{
    if (tree->count == tree->cap)
        return NODE_NONE;
    uint32_t index = tree->count++;
    tree->nodes[index] =
        (struct diff_node){.parent = parent, .next = NODE_NONE, .partner = NODE_NONE, .kind = kind};
    if (parent != NODE_NONE) {
        if (tree->nodes[parent].kind == NODE_ARRAY)
            tree->nodes[index].key_at = tree->nodes[parent].count;
        tree->nodes[parent].count++;
    }
    if (previous != NODE_NONE)
        tree->nodes[previous].next = index;
    return index;
}

// Both halves of a product, under a key that nobody outside knows.
uint64_t diff_tree_mix(const struct diff_tree *tree, uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)(a ^ tree->mixer.k0) * (b ^ tree->mixer.k1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t first_child(const struct diff_tree *tree, uint32_t container)
{
    return tree->nodes[container].count > 0 ? container + 1 : NODE_NONE;
}

// Gives the second, third, ... member of one name a hash of its own.
static bool number_names(struct diff_tree *tree, uint32_t container)
{
    struct diff_node *nodes = tree->nodes;
    uint32_t places = 4;
    bool repeated = false;
    while (places < 2 * nodes[container].count)
        places *= 2;
    memset(tree->slots, 0xff, places * sizeof *tree->slots);
    for (uint32_t i = first_child(tree, container); i != NODE_NONE; i = nodes[i].next) {
        uint32_t place = (uint32_t)nodes[i].key_hash & (places - 1);
        while (tree->slots[place] != NODE_NONE && nodes[tree->slots[place]].key_hash != nodes[i].key_hash)
            place = (place + 1) & (places - 1);
        nodes[i].tail = 0;
        if (tree->slots[place] == NODE_NONE) {
            tree->slots[place] = i;
            continue;
        }
        repeated = true;
        nodes[i].key_hash = diff_tree_mix(tree, nodes[i].key_hash, ++nodes[tree->slots[place]].tail);
    }
    return repeated;
}

bool diff_tree_close(struct diff_tree *tree, uint32_t container)
{
    struct diff_node *nodes = tree->nodes;
    uint64_t seen = 0, hash = 0;
    bool object = nodes[container].kind == NODE_OBJECT, alike = false;
    for (uint32_t i = first_child(tree, container); object && i != NODE_NONE; i = nodes[i].next) {
        uint64_t bit = UINT64_C(1) << (nodes[i].key_hash >> 58);
        alike = alike || (seen & bit) != 0;
        seen |= bit;
    }
    bool repeated = alike && number_names(tree, container);
    for (uint32_t i = first_child(tree, container); i != NODE_NONE; i = nodes[i].next)
        hash = object ? hash + diff_tree_mix(tree, nodes[i].key_hash, nodes[i].hash)
                      : diff_tree_mix(tree, hash, nodes[i].hash);
    nodes[container].hash = diff_tree_mix(tree, hash + nodes[container].count, nodes[container].kind);
    return repeated;
}
