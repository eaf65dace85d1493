// SPDX-License-Identifier: Apache-2.0
// Random documents with k changes planted into them: exactly these must be found. What is planted is known
// from the tree that the documents are written from, not from the comparison.
#include <inttypes.h>

#include "base/check.h"
#include "base/rng.h"
#include "diff_world.h"
#include "test.h"

static struct diff_world world;

enum { NODES_MAX = 400, CHILDREN_MAX = 6, DEPTH_MAX = 6, ROUNDS = 2000 };

enum planted { PLANTED_NOTHING, PLANTED_VALUE, PLANTED_TYPE, PLANTED_MISSING, PLANTED_ADDED };

// A document. Items of arrays are all different, so that equal ones hold the changed ones in their places.
struct node {
    char kind; // '{', '[', 'n' number, 's' string, 'b' boolean
    uint32_t value;
    enum planted planted;
    int child_count;
    int children[CHILDREN_MAX];
};

struct document {
    struct rng rng;
    struct node nodes[NODES_MAX];
    int count;
    bool second; // which of the two is written
    bool shuffled;
};

static int make_node(struct document *d, int depth, char parent)
{
    static const char KINDS[] = "{{[[nsb";
    int index = d->count++;
    struct node *node = &d->nodes[index];
    *node =
        (struct node){.kind = depth == 0 ? '{' : KINDS[rng_below(&d->rng, 7)], .value = (uint32_t)index * 10};
    if (depth >= DEPTH_MAX || d->count > NODES_MAX - 64)
        node->kind = KINDS[4 + rng_below(&d->rng, 3)];
    if (parent == '[' && node->kind == 'b')
        node->kind = 'n'; // one boolean is like another
    int children = node->kind == '{' || node->kind == '[' ? (int)rng_below(&d->rng, CHILDREN_MAX + 1) : 0;
    for (int i = 0; i < children; i++)
        node->children[node->child_count++] = make_node(d, depth + 1, node->kind);
    return index;
}

static void write_space(struct document *d, struct text *out)
{
    static const char *const SPACES[] = {"", "", " ", "\n\t"};
    text_add(out, slice_of(SPACES[rng_below(&d->rng, 4)]));
}

// The same number or string, spelled by chance.
static void write_scalar(struct document *d, const struct node *node, uint32_t value, char kind,
                         struct text *out)
{
    static const char *const NUMBERS[] = {"%u", "%u.0", "%ue0", "%u00e-2", "%u.00E+0"};
    static const char *const STRINGS[] = {"\"s%u\"", "\"\\u0073%u\"", "\"\\u0073%u\""};
    char text[64];
    const char *format = kind == 'n' ? NUMBERS[rng_below(&d->rng, 5)] : STRINGS[rng_below(&d->rng, 3)];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, format, value);
#pragma GCC diagnostic pop
    if (kind == 'b')
        snprintf(text, sizeof text, "%s", (node->planted == PLANTED_VALUE && d->second) ? "true" : "false");
    text_add(out, slice_of(text));
}

static bool is_there(const struct document *d, int index)
{
    return d->nodes[index].planted != (d->second ? PLANTED_MISSING : PLANTED_ADDED);
}

static void write_node(struct document *d, int index, struct text *out)
{
    struct node *node = &d->nodes[index];
    bool changed = d->second && node->planted == PLANTED_VALUE,
         retyped = d->second && node->planted == PLANTED_TYPE;
    int order[CHILDREN_MAX];
    write_space(d, out);
    if (retyped)
        text_add(out, SLICE("null"));
    else if (node->kind != '{' && node->kind != '[')
        write_scalar(d, node, node->value + changed, node->kind, out);
    else {
        for (int i = 0; i < node->child_count; i++)
            order[i] = i;
        for (int i = node->child_count - 1; node->kind == '{' && d->shuffled && i > 0; i--) {
            int other = (int)rng_below(&d->rng, (uint64_t)i + 1), swapped = order[i];
            order[i] = order[other];
            order[other] = swapped;
        }
        text_add_char(out, node->kind); // and what no other container has
        text_addf(out, node->kind == '{' ? "\"u\":%d" : "\"u%d\"", index);
        for (int i = 0; i < node->child_count; i++) {
            int child = node->children[order[i]];
            if (!is_there(d, child))
                continue;
            text_add_char(out, ',');
            write_space(d, out);
            if (node->kind == '{')
                text_addf(out, "\"m%d\":", child);
            write_node(d, child, out);
        }
        text_add_char(out, node->kind == '{' ? '}' : ']');
    }
    write_space(d, out);
}

// Plants one change at a leaf or a child, at most one per subtree of an array's item: else the item would
// have nothing left to be known by. True when it could.
static bool plant(struct document *d, int index, uint32_t *left)
{
    struct node *node = &d->nodes[index];
    bool planted = false;
    for (int i = 0; i<node->child_count && * left> 0; i++) {
        struct node *child = &d->nodes[node->children[i]];
        bool here = rng_below(&d->rng, 3) == 0;
        bool container = child->kind == '{' || child->kind == '[';
        if (node->kind == '[' && planted)
            return true;
        if (!here) {
            planted = plant(d, node->children[i], left) || planted;
            continue;
        }
        bool item = node->kind == '['; // one that becomes null would be like another
        child->planted = item        ? (container ? PLANTED_MISSING : PLANTED_VALUE)
                         : container ? (enum planted)(PLANTED_TYPE + rng_below(&d->rng, 3))
                                     : (enum planted)(PLANTED_VALUE + rng_below(&d->rng, 4));
        planted = true;
        --*left;
    }
    return planted;
}

static uint32_t occurrences(enum diff_kind kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < world.found.count; i++)
        if (world.found.findings[i].kind == kind)
            count += world.found.findings[i].count;
    return count;
}

static void count_planted(const struct document *d, int index, uint32_t counts[5])
{
    counts[d->nodes[index].planted]++;
    for (int i = 0; i < d->nodes[index].child_count; i++)
        count_planted(d, d->nodes[index].children[i], counts);
}

static void check_round(uint64_t seed)
{
    static struct document d;
    static char texts[2][1 << 16];
    d = (struct document){.shuffled = true};
    rng_init(&d.rng, seed);
    uint32_t left = (uint32_t)rng_below(&d.rng, 8), counts[5] = {0};
    make_node(&d, 0, '{');
    (void)plant(&d, 0, &left);
    count_planted(&d, 0, counts);
    for (int i = 0; i < 2; i++) {
        struct text out = text_over(texts[i], sizeof texts[i]);
        d.second = i == 1;
        write_node(&d, 0, &out);
        assert_false(out.cut);
    }
    for (int mirrored = 0; mirrored < 2; mirrored++) {
        const char *lines = diff_world_json(&world, texts[mirrored], texts[!mirrored]);
        bool right = world.found.notes == 0 && occurrences(DIFF_VALUE) == counts[PLANTED_VALUE] &&
                     occurrences(DIFF_TYPE) == counts[PLANTED_TYPE] &&
                     occurrences(DIFF_MISSING) == counts[mirrored ? PLANTED_ADDED : PLANTED_MISSING] &&
                     occurrences(DIFF_ADDED) == counts[mirrored ? PLANTED_MISSING : PLANTED_ADDED] &&
                     occurrences(DIFF_ORDER) == 0;
        if (!right)
            fail_msg("seed %" PRIu64 ", planted %u %u %u %u, notes %u: %s\n%.400s\n%.400s", seed, counts[1],
                     counts[2], counts[3], counts[4], world.found.notes, lines, texts[0], texts[1]);
    }
    // The same document, written anew.
    struct text out = text_over(texts[1], sizeof texts[1]);
    d.second = false;
    write_node(&d, 0, &out);
    assert_string_equal(diff_world_json(&world, texts[0], texts[1]), "");
}

TEST(exactly_the_planted_changes_are_found)
{
    world = (struct diff_world){.recipe = {.key = {3, 4}}};
    for (uint64_t seed = 1; seed <= ROUNDS; seed++)
        check_round(seed);
}
