// SPDX-License-Identifier: Apache-2.0
// Compares two trees. In each pair of containers that differ, children are paired first: members by name,
// items by an id or by value. What has no partner is a finding; pairs that differ are descended into. There
// is no recursion: the way back up stands in the nodes.
#include <inttypes.h>

#include "base/utf8.h"
#include "ship/diff/diff_private.h"

enum { TAKEN = NODE_NONE - 1, ELLIPSIS_BYTES = 3, NAME_BYTES = 128, SHOWN_BYTES = DIFF_VALUE_BYTES };

struct walk {
    struct diff_tree *first, *second;
    const struct diff_sink *sink;
    struct text path;
};

// Children of one container, from begin up to but without end (NODE_NONE: to the last).
struct range {
    struct diff_tree *tree;
    uint32_t begin, end, count;
};

static struct range children_of(struct diff_tree *tree, uint32_t container)
{
    uint32_t count = tree->nodes[container].count;
    return (struct range){tree, count > 0 ? container + 1 : NODE_NONE, NODE_NONE, count};
}

static struct diff_node *node_of(const struct range *range, uint32_t index)
{
    return &range->tree->nodes[index];
}

// --- paths ---

static bool is_plain_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = slice_lower_char(name.data[i]);
        if (!((c >= 'a' && c <= 'z') || c == '_' || (i > 0 && ((c >= '0' && c <= '9') || c == '-'))))
            return false;
    }
    return name.len > 0;
}

// The name of a member, after its escapes; a long one is cut.
static struct slice name_of(const struct diff_tree *tree, const struct diff_node *node,
                            char storage[NAME_BYTES])
{
    struct slice name = {tree->source.data + node->key_at, node->key_len}, piece;
    struct text text = text_over(storage, NAME_BYTES);
    char escape[4];
    if (!node->key_escaped && name.len < NAME_BYTES)
        return name;
    if (node->key_escaped)
        while (!text.cut && diff_json_piece(&name, escape, &piece))
            text_add(&text, piece);
    else
        text_add(&text, utf8_cut(name, NAME_BYTES - 1));
    return text_slice(&text);
}

static bool ends_cut(const struct text *path)
{
    return path->len >= ELLIPSIS_BYTES &&
           memcmp(path->data + path->len - ELLIPSIS_BYTES, "…", ELLIPSIS_BYTES) == 0;
}

static void path_push(struct text *path, const struct diff_tree *tree, struct diff_node *node)
{
    char storage[NAME_BYTES];
    size_t before = path->len;
    node->path_len = (uint16_t)before;
    if (ends_cut(path))
        return;
    struct slice name = name_of(tree, node, storage);
    if (tree->nodes[node->parent].kind == NODE_ARRAY)
        text_add(path, SLICE("[]"));
    else if (node->numbered)
        text_addf(path, ".%" PRIu32, node->key_at);
    else if (diff_class_is_id(name))
        text_add(path, SLICE("{*}"));
    else if (is_plain_name(name))
        text_addf(path, "." SLICE_FMT, SLICE_ARG(name));
    else {
        text_add_char(path, '[');
        text_add_json(path, name);
        text_add_char(path, ']');
    }
    if (!path->cut)
        return;
    memcpy(path->data + before, "…", ELLIPSIS_BYTES + 1); // room was left for it
    path->len = before + ELLIPSIS_BYTES;
    path->cut = false;
}

static void path_pop(struct text *path, const struct diff_node *node)
{
    path->len = node->path_len;
    path->data[path->len] = '\0';
}

// The indices of the items on the way to a node: "3,0".
static void place_of(const struct diff_tree *tree, uint32_t index, char place[DIFF_PLACE_BYTES])
{
    enum { INDICES_MAX = DIFF_PLACE_BYTES / 2 }; // more do not fit
    uint32_t indices[INDICES_MAX], total = 0;
    for (; index != 0; index = tree->nodes[index].parent)
        if (tree->nodes[tree->nodes[index].parent].kind == NODE_ARRAY)
            indices[total++ % INDICES_MAX] = tree->nodes[index].key_at;
    struct text text = text_over(place, DIFF_PLACE_BYTES - ELLIPSIS_BYTES);
    for (uint32_t i = 0; i < total && !text.cut; i++) {
        size_t before = text.len;
        text_addf(&text, "%s%" PRIu32, i > 0 ? "," : "", indices[(total - 1 - i) % INDICES_MAX]);
        if (text.cut)
            memcpy(place + before, "…", ELLIPSIS_BYTES + 1);
    }
}

// --- values ---

// As people read it: fields of gRPC have no text of their own.
static struct slice shown(const struct diff_tree *tree, const struct diff_node *node,
                          char storage[SHOWN_BYTES])
{
    struct slice value = diff_tree_text(tree, node);
    struct text text = text_over(storage, SHOWN_BYTES);
    if (tree->reader != DIFF_READER_GRPC || node->kind == NODE_STRING)
        return value;
    if (node->kind == NODE_NUMBER) {
        uint64_t number = 0;
        for (size_t i = value.len; i > 0; i--)
            number = number << 7 | ((uint64_t)value.data[i - 1] & 0x7f);
        text_addf(&text, "%" PRIu64, number);
        return text_slice(&text);
    }
    if (node->kind != NODE_BYTES)
        text_addf(&text, "a message of %" PRIu32 " bytes", node->len);
    else
        text_add(&text, value.len > 0 ? SLICE("0x") : SLICE("no bytes"));
    for (size_t i = 0; node->kind == NODE_BYTES && i < value.len && !text.cut; i++)
        text_addf(&text, "%02x", (unsigned char)value.data[i]);
    return text_slice(&text);
}

static void tell(struct walk *w, enum diff_kind kind, uint32_t a, uint32_t b)
{
    char storage[2][SHOWN_BYTES];
    struct slice first = {"", 0}, second = first;
    if (a != NODE_NONE && kind != DIFF_ORDER)
        first = shown(w->first, &w->first->nodes[a], storage[0]);
    if (b != NODE_NONE && kind != DIFF_ORDER)
        second = shown(w->second, &w->second->nodes[b], storage[1]);
    struct diff_finding *fresh = diff_sink_add(w->sink, text_slice(&w->path), kind, first, second);
    if (fresh == NULL)
        return;
    if (a != NODE_NONE)
        place_of(w->first, a, fresh->place);
    else
        place_of(w->second, b, fresh->place);
}

static void tell_alone(struct walk *w, enum diff_kind kind, struct diff_tree *tree, uint32_t index)
{
    path_push(&w->path, tree, &tree->nodes[index]);
    tell(w, kind, kind == DIFF_MISSING ? index : NODE_NONE, kind == DIFF_MISSING ? NODE_NONE : index);
    path_pop(&w->path, &tree->nodes[index]);
}

// --- pairing ---

static void clear_partners(const struct range *range)
{
    for (uint32_t i = range->begin; i != range->end; i = node_of(range, i)->next)
        node_of(range, i)->partner = NODE_NONE;
}

static void set_partners(const struct range *a, uint32_t i, const struct range *b, uint32_t j)
{
    node_of(a, i)->partner = j;
    node_of(b, j)->partner = i;
}

// The place in the table of those of b that have this key_hash, or a free one.
static uint32_t *slot_of(const struct range *b, uint32_t mask, uint64_t hash)
{
    uint32_t *slots = b->tree->slots, place = (uint32_t)hash & mask;
    while (slots[place] != NODE_NONE && (slots[place] == TAKEN || node_of(b, slots[place])->key_hash != hash))
        place = (place + 1) & mask;
    return &slots[place];
}

// Empties as much of the table as these need; returns how many places.
static uint32_t clear_slots(const struct range *range)
{
    uint32_t places = 4;
    while (places < 2 * range->count)
        places *= 2;
    CHECK(places <= range->tree->slot_count);
    memset(range->tree->slots, 0xff, places * sizeof *range->tree->slots);
    return places;
}

// Pairs those of one key_hash, the k-th in a with the k-th in b. Returns how many pairs there are.
static uint32_t pair_by_key(const struct range *a, const struct range *b)
{
    uint32_t places = clear_slots(b), pairs = 0;
    clear_partners(a);
    clear_partners(b);
    for (uint32_t j = b->begin; j != b->end; j = node_of(b, j)->next) {
        uint32_t *slot = slot_of(b, places - 1, node_of(b, j)->key_hash);
        node_of(b, j)->chain = NODE_NONE;
        if (*slot == NODE_NONE)
            *slot = j;
        else
            node_of(b, node_of(b, *slot)->tail)->chain = j;
        node_of(b, *slot)->tail = j;
    }
    for (uint32_t i = a->begin; i != a->end; i = node_of(a, i)->next) {
        uint32_t *slot = slot_of(b, places - 1, node_of(a, i)->key_hash);
        if (*slot == NODE_NONE)
            continue;
        struct diff_node *head = node_of(b, *slot);
        set_partners(a, i, b, *slot);
        pairs++;
        if (head->chain != NODE_NONE)
            node_of(b, head->chain)->tail = head->tail;
        *slot = head->chain != NODE_NONE ? head->chain : TAKEN;
    }
    return pairs;
}

static void step(struct range *range)
{
    range->begin = node_of(range, range->begin)->next;
    range->count--;
}

static void pair_members(struct walk *w, struct range a, struct range b)
{
    while (a.count > 0 && b.count > 0 && node_of(&a, a.begin)->key_hash == node_of(&b, b.begin)->key_hash) {
        set_partners(&a, a.begin, &b, b.begin);
        step(&a);
        step(&b);
    }
    if (a.count + b.count == 0)
        return;
    pair_by_key(&a, &b);
    for (; a.begin != a.end; step(&a))
        if (node_of(&a, a.begin)->partner == NODE_NONE)
            tell_alone(w, DIFF_MISSING, a.tree, a.begin);
    for (; b.begin != b.end; step(&b))
        if (node_of(&b, b.begin)->partner == NODE_NONE)
            tell_alone(w, DIFF_ADDED, b.tree, b.begin);
}

// Makes the value of the member the key of each item. False when an item has none that could be an id.
static bool key_by_member(const struct range *range, uint64_t name_hash)
{
    for (uint32_t i = range->begin; i != range->end; i = node_of(range, i)->next) {
        struct diff_node *item = node_of(range, i);
        uint32_t member = item->kind == NODE_OBJECT && item->count > 0 ? i + 1 : NODE_NONE;
        while (member != NODE_NONE && node_of(range, member)->key_hash != name_hash)
            member = node_of(range, member)->next;
        if (member == NODE_NONE ||
            (node_of(range, member)->kind != NODE_STRING && node_of(range, member)->kind != NODE_NUMBER))
            return false;
        item->key_hash = node_of(range, member)->hash;
    }
    return true;
}

static bool has_repeated_keys(const struct range *range)
{
    uint32_t places = clear_slots(range);
    for (uint32_t i = range->begin; i != range->end; i = node_of(range, i)->next) {
        uint32_t *slot = slot_of(range, places - 1, node_of(range, i)->key_hash);
        if (*slot != NODE_NONE)
            return true;
        *slot = i;
    }
    return false;
}

static void key_by_value(const struct range *range)
{
    for (uint32_t i = range->begin; i != range->end; i = node_of(range, i)->next)
        node_of(range, i)->key_hash = node_of(range, i)->hash;
}

// By the first id that all items have, each another, and that at least one has on both sides.
static bool pair_by_id(const struct range *a, const struct range *b)
{
    static const struct slice NAMES[] = {{"id", 2}, {"key", 3}, {"uuid", 4}, {"name", 4}};
    if (a->tree->reader != DIFF_READER_JSON)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        uint64_t hash = siphash(a->tree->key, NAMES[i].data, NAMES[i].len);
        if (key_by_member(a, hash) && key_by_member(b, hash) && !has_repeated_keys(a) &&
            !has_repeated_keys(b) && pair_by_key(a, b) > 0)
            return true;
    }
    return false;
}

static bool is_in_order(const struct range *a)
{
    uint32_t last = 0;
    for (uint32_t i = a->begin; i != a->end; i = node_of(a, i)->next) {
        uint32_t partner = node_of(a, i)->partner;
        if (partner == NODE_NONE)
            continue;
        if (partner < last)
            return false;
        last = partner;
    }
    return true;
}

// Takes equal items off the front and the back.
static void trim(struct range *a, struct range *b)
{
    while (a->count > 0 && b->count > 0 && node_of(a, a->begin)->hash == node_of(b, b->begin)->hash) {
        set_partners(a, a->begin, b, b->begin);
        step(a);
        step(b);
    }
    uint32_t last[2] = {NODE_NONE, NODE_NONE};
    const struct range *both[2] = {a, b};
    for (int side = 0; side < 2; side++)
        for (uint32_t i = both[side]->begin; i != NODE_NONE; i = node_of(both[side], i)->next) {
            node_of(both[side], i)->chain = last[side];
            last[side] = i;
        }
    while (a->count > 0 && b->count > 0 && node_of(a, last[0])->hash == node_of(b, last[1])->hash) {
        set_partners(a, last[0], b, last[1]);
        a->end = last[0];
        b->end = last[1];
        last[0] = node_of(a, last[0])->chain;
        last[1] = node_of(b, last[1])->chain;
        a->count--;
        b->count--;
    }
}

// Those without a partner: between two pairs that stay, they are partners by position if `lax`; the rest were
// added or are missing.
static void settle_rest(struct walk *w, struct range a, struct range b, bool lax, bool in_order)
{
    for (;;) {
        bool rest_a = a.begin != a.end, rest_b = b.begin != b.end;
        bool open_a = rest_a && node_of(&a, a.begin)->partner == NODE_NONE;
        bool open_b = rest_b && node_of(&b, b.begin)->partner == NODE_NONE;
        bool skip_a = rest_a && !open_a && (!in_order || !open_b);
        bool skip_b = rest_b && !open_b && (!in_order || !open_a);
        if (!rest_a && !rest_b)
            return;
        if (open_a && open_b && lax)
            set_partners(&a, a.begin, &b, b.begin);
        else if (open_a && !skip_b)
            tell_alone(w, DIFF_MISSING, a.tree, a.begin);
        else if (open_b && !skip_a)
            tell_alone(w, DIFF_ADDED, b.tree, b.begin);
        bool both = open_a && open_b && lax;
        bool one_a = open_a && !skip_b, one_b = open_b && !skip_a && !one_a;
        if (both || one_a || skip_a)
            step(&a);
        if (both || one_b || skip_b)
            step(&b);
    }
}

static void pair_items(struct walk *w, uint32_t array, struct range a, struct range b)
{
    trim(&a, &b);
    bool by_id = pair_by_id(&a, &b);
    if (!by_id) {
        key_by_value(&a);
        key_by_value(&b);
        pair_by_key(&a, &b);
    }
    bool in_order = is_in_order(&a);
    if (!in_order)
        tell(w, DIFF_ORDER, array, w->first->nodes[array].partner);
    settle_rest(w, a, b, !by_id, in_order);
}

// --- the walk ---

// A pair that differs. True when there is something below it to look at.
static bool visit(struct walk *w, uint32_t a, uint32_t b)
{
    struct diff_node *first = &w->first->nodes[a], *second = &w->second->nodes[b];
    if (first->kind != second->kind) {
        bool text = first->kind >= NODE_STRING && first->kind <= NODE_BYTES && second->kind >= NODE_STRING &&
                    second->kind <= NODE_BYTES;
        tell(w, text ? DIFF_VALUE : DIFF_TYPE, a, b);
        return false;
    }
    if (first->kind == NODE_OBJECT) {
        pair_members(w, children_of(w->first, a), children_of(w->second, b));
        return true;
    }
    if (first->kind == NODE_ARRAY) {
        pair_items(w, a, children_of(w->first, a), children_of(w->second, b));
        return true;
    }
    bool spelled = first->kind == NODE_NUMBER && w->first->spelling &&
                   diff_json_number_hash(w->first, diff_tree_text(w->first, first)) ==
                       diff_json_number_hash(w->second, diff_tree_text(w->second, second));
    tell(w, spelled ? DIFF_SPELLING : DIFF_VALUE, a, b);
    return false;
}

// The first from here on that has a partner and differs from it.
static uint32_t next_pair(const struct walk *w, uint32_t index)
{
    const struct diff_node *nodes = w->first->nodes;
    while (index != NODE_NONE && (nodes[index].partner == NODE_NONE ||
                                  nodes[index].hash == w->second->nodes[nodes[index].partner].hash))
        index = nodes[index].next;
    return index;
}

void diff_walk(struct diff_tree *first, struct diff_tree *second, const struct diff_sink *sink)
{
    char storage[DIFF_PATH_BYTES];
    struct walk w = {first, second, sink, text_over(storage, sizeof storage - ELLIPSIS_BYTES)};
    struct diff_node *nodes = first->nodes;
    text_add(&w.path, SLICE("body"));
    nodes[0].partner = 0;
    second->nodes[0].partner = 0;
    if (nodes[0].hash == second->nodes[0].hash)
        return;
    uint32_t at = 0;
    bool deeper = visit(&w, 0, 0);
    for (;;) {
        uint32_t next = deeper && nodes[at].count > 0 ? next_pair(&w, at + 1) : NODE_NONE;
        while (next == NODE_NONE && at != 0) {
            path_pop(&w.path, &nodes[at]);
            next = next_pair(&w, nodes[at].next);
            at = nodes[at].parent;
        }
        if (next == NODE_NONE)
            return;
        path_push(&w.path, first, &nodes[next]);
        at = next;
        deeper = visit(&w, at, nodes[at].partner);
    }
}
