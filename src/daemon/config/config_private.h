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
bool config_given(const struct config_node *node, const char *word);
// Where to tell an error: the value when the word is given, else what lacks it.
const struct config_node *config_place(const struct config_node *node, const char *word);

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
    struct slice folder; // that relative paths begin at; empty: the working directory
    struct config_arena arena;
    struct config_errors *errors;
    struct config *config;
    uint32_t nodes; // built so far, aliases expanded
    bool no_memory;
};

// Parses one source to nodes; an empty one gives NULL. *root is untouched when an error was added or memory
// ran out.
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
struct config_position config_position_of(const struct config_reader *reader, const struct config_node *node);
// ---- place.c
// Writes the path as it is to be opened. False: it does not fit.
MUST_USE bool config_place_path(struct config_reader *reader, struct slice path, char *out, size_t cap);

// The user's own text inside a message: cut, and without control characters.
struct config_shown {
    char text[64];
};
struct config_shown config_show(struct slice text);

// ---- the table ----

enum config_kind {
    CONFIG_KIND_NAME,     // char[]: [a-zA-Z0-9._-]
    CONFIG_KIND_TOKEN,    // char[]: RFC 9110 5.6.2, a cookie or header name
    CONFIG_KIND_FILE,     // char[]: a path of this machine, relative to the file
    CONFIG_KIND_TEXT,     // char[]: any text of one line
    CONFIG_KIND_BODY,     // char[]: any text
    CONFIG_KIND_URL,      // char[]: begins with http:// or https://
    CONFIG_KIND_HOST,     // char[]: host without port, lower-cased
    CONFIG_KIND_PATH,     // char[]: path of a request
    CONFIG_KIND_COUNT,    // uint32_t or uint64_t within min..max
    CONFIG_KIND_DURATION, // uint64_t ms
    CONFIG_KIND_SIZE,     // uint64_t bytes
    CONFIG_KIND_WEIGHT,   // uint32_t thousandths of a percent
    CONFIG_KIND_SHARE,    // double, written as a percentage
    CONFIG_KIND_NUMBER,   // double
    CONFIG_KIND_STATUSES, // struct config_status_range: 5xx, 429 or 404-410
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

// Whether a change waits until the daemon is started again.
enum config_restart {
    CONFIG_RESTART_NO,
    CONFIG_RESTART_CHANGED,
    CONFIG_RESTART_WITH_LAST, // as CHANGED, told by the name of the word before
    CONFIG_RESTART_ON_OFF,    // only whether it is given
    CONFIG_RESTART_REMOVED,   // only when it is taken away
};

struct config_choice {
    const char *word;
    int value;
};
extern const struct config_choice config_off_or_on[];     // checks.c
extern const struct config_choice config_false_or_true[]; // mirror.c

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
    const char *unless;          // required only where this word is not given
    bool in_place;               // LIST: an array inside the struct, not on the heap
    bool optional;               // SECTION: when it is not given nothing is filled in
    bool merged;                 // may stand in several files, which together make one mapping
    enum config_restart restart; // not of words inside lists
    bool live;                   // inside a word that waits for a restart: a change of it alone does not
    const char *fallback;        // as the file would write it; NULL: none
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
    // What its words owe to each other; node NULL: the section was not given.
    void (*finish)(struct config_reader *reader, const struct config_node *node, void *target);
};

// For tables of words.
#define CONFIG_MINUTES(n) ((uint64_t)(n)*60000)
#define CONFIG_DAY CONFIG_MINUTES(24 * 60)
#define CONFIG_AT(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)
#define CONFIG_ITEMS(type, member, counter)                                                                  \
    .offset = offsetof(type, member), .size = sizeof(*((type *)NULL)->member),                               \
    .count_offset = offsetof(type, counter)
#define CONFIG_WORDS(array) .words = (array), .word_count = ARRAY_LEN(array)

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
const struct config_word *config_section_word(const struct config_section *section, struct slice word);
// Whether an unknown word stands there that is nearly this one: then that is told, and not that this one
// lacks.
bool config_is_mistyped(const struct config_section *section, const struct config_node *node,
                        const char *word);
// The first element of a LIST or MAP.
const char *config_elements(const struct config_word *word, const void *target, uint32_t *count);
// Appends "; did you mean 'x'?" when a candidate is near.
void config_hint_write(struct text *text, struct slice word, const char *const *candidates, size_t count);
// The same, and "; known: x, y".
void config_hint_known(struct text *text, struct slice word, const char *const *known, size_t count);
bool config_is_loopback(const struct io_addr *addr);
// The same literal address.
bool config_address_same(const struct config_address *a, const struct config_address *b);

// ---- sections, each in the file that it is named after ----

extern const struct config_section config_root_section;
extern const struct config_section config_listen_section, config_admin_section, config_trust_section,
    config_limits_section, config_log_section, config_request_id_section, config_names_section; // daemon.c
extern const struct config_section config_timeouts_section, config_service_timeouts_section;    // timeouts.c
extern const struct config_section config_route_section, config_own_route_section;              // route.c
extern const struct config_section config_edits_section;                                        // route.c
extern const struct config_section config_compression_section; // compression.c
extern const struct config_section config_mirror_section;      // mirror.c
extern const struct config_section config_service_section;
extern const struct config_section config_endpoint_section, config_balance_section,
    config_endpoints_section; // endpoint.c; the last one's struct is config_version
extern const struct config_section config_attribute_section; // service_flags.c
extern const struct config_choice config_tls_version_choices[];
extern const struct config_section config_origin_section;
extern const struct config_section config_service_flags_section;
extern const struct config_section config_service_errors_section;
extern const struct config_section config_health_section, config_outlier_section,
    config_breaker_section; // service_health.c
extern const struct config_section config_rollout_section;
extern const struct config_section config_stage_section;
extern const struct config_section config_checks_section;
extern const struct config_section config_flags_section;

// What a rollout's checks owe to each other; node is the rollout's.
void config_checks_settle(struct config_reader *reader, const struct config_node *node,
                          struct rollout_spec *spec);
// What is wrong with a list as a whole; node is the list's, or NULL.
void config_endpoints_distinct(struct config_reader *reader, const struct config_node *node,
                               const struct config_endpoint *endpoints, uint32_t count);
// What is wrong with it beside the rest of the file.
void config_endpoints_loop(struct config_reader *reader, const struct config_node *node,
                           const struct config_endpoint *endpoints, uint32_t count);
void config_endpoints_names(struct config_reader *reader, const struct config_node *node,
                            const struct config_origin *origin, const struct config_endpoint *endpoints,
                            uint32_t count);
// The list of endpoints of a version's node, or of a control arm's, written short or not.
const struct config_node *config_endpoints_node(const struct config_node *node);
// Whether that version can be sent copies of requests (net/mirror), which go in HTTP/1.1.
void config_copies_check(struct config_reader *reader, const struct config_node *node,
                         const struct config_service *service, const char *name);
void config_version_unknown(struct config_reader *reader, const struct config_node *node,
                            const struct config_service *service, const char *version);

// What sections owe to each other; root is the whole file's node.
void config_rollouts_check(struct config_reader *reader, const struct config_node *root);
MUST_USE bool config_totals_check(struct config_reader *reader, const struct config_node *root);
void config_listen_check(struct config_reader *reader, const struct config_node *root);
void config_routes_check(struct config_reader *reader, const struct config_node *root);
void config_services_check(struct config_reader *reader, const struct config_node *root);
void config_origins_check(struct config_reader *reader, const struct config_node *root);
// All of it; when reading added errors, only what can still be told of rollouts.
void config_cross_check(struct config_reader *reader, const struct config_node *root);
