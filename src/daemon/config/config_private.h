// SPDX-License-Identifier: Apache-2.0
// What the parts of config share: the node tree that YAML becomes, the table of words, and the reader's
// state. Nodes live in one arena until the load ends; every node knows its file, line and column.
#pragma once

#include "daemon/config/config.h"

// ---- memory of one load ----

struct config_arena {
    struct config_arena_block *blocks;
    size_t used; // bytes of the newest block
};

// Zeroed; NULL when the heap refuses.
MUST_USE void *config_arena_alloc(struct config_arena *arena, size_t size);
void config_arena_free(struct config_arena *arena);

// ---- nodes ----

enum config_node_kind { CONFIG_NODE_SCALAR, CONFIG_NODE_LIST, CONFIG_NODE_MAP };

struct config_entry {
    struct config_node *key; // NULL in a list
    struct config_node *value;
    struct config_entry *next;
};

struct config_node {
    enum config_node_kind kind;
    bool plain;      // a scalar without quotes
    uint16_t file;   // index into config_sources
    uint32_t height; // levels below, a scalar has 0
    uint32_t weight; // nodes in this tree, aliases counted as often as used; 0 while it is being built
    uint32_t line, column;
    uint32_t count;    // entries
    struct slice text; // SCALAR; NUL-terminated besides
    struct config_entry *first, *last;
};

// A missing value: nothing, ~ or null without quotes.
bool config_node_is_null(const struct config_node *node);
// The entry of a mapping, or NULL (also when node is NULL or no mapping).
struct config_entry *config_node_find(const struct config_node *node, const char *word);
// Its value, or NULL.
const struct config_node *config_node_get(const struct config_node *node, const char *word);

// ---- the reader ----

struct config_source {
    char name[CONFIG_FILE_NAME_BYTES];
    struct slice text;
};

struct config_sources {
    uint32_t count;
    struct config_source items[CONFIG_FILES_MAX];
};

// One load. `no_memory` overrides every error message: the load then ends with STATUS_NO_MEMORY.
struct config_reader {
    struct config_sources sources;
    struct config_arena arena;
    struct config_errors *errors;
    struct config *config;
    uint32_t nodes; // built so far, aliases expanded
    bool no_memory;
};

// Parses one source to nodes. *root is untouched when an error was added or memory ran out.
MUST_USE enum status config_nodes_parse(struct config_reader *reader, uint16_t file,
                                        struct config_node **root);
// Appends an entry; the node's count, weight and height follow. False when memory ran out.
MUST_USE bool config_node_append(struct config_reader *reader, struct config_node *node,
                                 struct config_node *key, struct config_node *value);

__attribute__((format(printf, 3, 4))) void
config_error_at(struct config_reader *reader, const struct config_node *node, const char *format, ...);
__attribute__((format(printf, 5, 6))) void config_error_mark(struct config_reader *reader, uint16_t file,
                                                             uint32_t line, uint32_t column,
                                                             const char *format, ...);
void config_errors_sort(struct config_errors *errors);
// The user's own text inside a message: cut, and without control characters.
struct config_shown {
    char text[64];
};
struct config_shown config_show(struct slice text);

// ---- the table ----

enum config_kind {
    CONFIG_KIND_NAME,     // char[]: [a-zA-Z0-9._-]
    CONFIG_KIND_TOKEN,    // char[]: RFC 9110 5.6.2, a cookie or header name
    CONFIG_KIND_FILE,     // char[]: a path of this machine
    CONFIG_KIND_TEXT,     // char[]: any text of one line
    CONFIG_KIND_URL,      // char[]: begins with http:// or https://
    CONFIG_KIND_HOST,     // char[]: host without port, lower-cased
    CONFIG_KIND_PATH,     // char[]: path of a request
    CONFIG_KIND_COUNT,    // uint32_t or uint64_t within min..max
    CONFIG_KIND_DURATION, // uint64_t ms
    CONFIG_KIND_SIZE,     // uint64_t bytes
    CONFIG_KIND_WEIGHT,   // uint32_t thousandths of a percent
    CONFIG_KIND_SHARE,    // double, written as a percentage
    CONFIG_KIND_NUMBER,   // double
    CONFIG_KIND_CHOICE,   // an enum or a bool
    CONFIG_KIND_LISTEN,   // struct config_address, literal
    CONFIG_KIND_ENDPOINT, // struct config_address, a name is allowed
    CONFIG_KIND_NETWORK,  // struct config_network
    CONFIG_KIND_SECTION,  // a mapping of known words
    CONFIG_KIND_LIST,     // items
    CONFIG_KIND_MAP,      // names and their sections
    CONFIG_KIND_TREE,     // char *: any mapping, as JSON text on the heap; NULL when empty
    CONFIG_KIND_LATER,    // known, but belongs to a later version
};

struct config_choice {
    const char *word;
    int value;
};

struct config_section;

struct config_word {
    const char *word;
    enum config_kind kind;
    size_t offset;       // of the target in the section's struct
    size_t size;         // of the target; for a LIST or MAP on the heap of one element
    size_t count_offset; // LIST, MAP: a uint32_t
    uint64_t min, max;   // COUNT, DURATION, SIZE, WEIGHT; of a LIST or MAP the number of items
    double low, high;    // NUMBER, SHARE
    const char *zero;    // COUNT, DURATION, SIZE: the word that stands for 0, such as "off"
    bool required;
    const char *unless;                   // required only where this word is not given
    bool in_place;                        // LIST: an array inside the struct, not on the heap
    bool optional;                        // SECTION: when it is not given nothing is filled in
    const char *fallback;                 // as the file would write it; NULL: none
    const struct config_choice *choices;  // CHOICE; ended by a NULL word
    const struct config_section *section; // SECTION, MAP, LIST of sections
    const struct config_word *item;       // LIST of plain values
    const char *help;                     // LATER: "X are", the beginning of "... not in this version yet"
};

// Where the reader is, for messages: "checks.errors of rollout 'checkout-v2'".
struct config_scope {
    const struct config_scope *up;
    const struct config_section *section;
    const char *name; // of a named element, or NULL
};

struct config_section {
    const char *title; // "rollout"
    const char *help;
    const struct config_word *words;
    size_t word_count;
    const char *shorthand;               // the word that a value without a mapping stands for
    const struct config_choice *choices; // single words that may stand for the whole mapping
    size_t choice_offset, choice_size;
    bool prepared; // defaults come from prepare; the table's are for readers (and compared by a test)
    void (*prepare)(struct config_reader *reader, void *target);
    void (*finish)(struct config_reader *reader, const struct config_scope *scope,
                   const struct config_node *node,
                   void *target); // node NULL: the section was not given
};

extern const struct config_section config_root_section;

// Reads a mapping into its struct, filling what is omitted; adds errors.
void config_section_read(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_section *section, const struct config_node *node, void *target);
// Writes the table's fallbacks into the struct, also those of a prepared section.
void config_section_fallbacks(struct config_reader *reader, const struct config_section *section,
                              void *target);
// Reads one scalar.
void config_scalar_read(struct config_reader *reader, const struct config_word *word,
                        const struct config_node *node, void *target);
// Turns any mapping to JSON text on the heap (tree.c).
void config_tree_read(struct config_reader *reader, const struct config_word *word,
                      const struct config_node *node, void *target);
// Frees what the table's lists and trees hold.
void config_section_free(const struct config_section *section, void *target);
void config_scope_write(const struct config_scope *scope, struct text *text);
const struct config_word *config_section_word(const struct config_section *section, struct slice word);
// Appends "; did you mean 'x'?" when a candidate is near.
void config_hint_write(struct text *text, struct slice word, const char *const *candidates, size_t count);

// ---- checks that need more than one value ----

void config_stage_prepare(struct config_reader *reader, void *target);
void config_stage_finish(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_node *node, void *target);
void config_check_finish_errors(struct config_reader *reader, const struct config_scope *scope,
                                const struct config_node *node, void *target);
void config_check_finish_latency(struct config_reader *reader, const struct config_scope *scope,
                                 const struct config_node *node, void *target);
void config_check_finish_throughput(struct config_reader *reader, const struct config_scope *scope,
                                    const struct config_node *node, void *target);
void config_rollout_prepare(struct config_reader *reader, void *target);
void config_rollout_finish(struct config_reader *reader, const struct config_scope *scope,
                           const struct config_node *node, void *target);
void config_service_prepare(struct config_reader *reader, void *target);
void config_service_finish(struct config_reader *reader, const struct config_scope *scope,
                           const struct config_node *node, void *target);
void config_version_finish(struct config_reader *reader, const struct config_scope *scope,
                           const struct config_node *node, void *target);
void config_unit_finish(struct config_reader *reader, const struct config_scope *scope,
                        const struct config_node *node, void *target);
void config_attribute_finish(struct config_reader *reader, const struct config_scope *scope,
                             const struct config_node *node, void *target);
void config_service_flags_finish(struct config_reader *reader, const struct config_scope *scope,
                                 const struct config_node *node, void *target);
void config_flag_source_finish(struct config_reader *reader, const struct config_scope *scope,
                               const struct config_node *node, void *target);
void config_flags_finish(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_node *node, void *target);
void config_admin_finish(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_node *node, void *target);
// Everything that crosses sections; when reading added errors, only what can still be told of rollouts.
void config_cross_check(struct config_reader *reader, const struct config_node *root);
