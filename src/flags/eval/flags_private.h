// SPDX-License-Identifier: Apache-2.0
// What the parts of the module share: the layout of an image, the nodes of a compiled rule, the values of an
// evaluation. Offsets count from the image's first byte; 0 means none.
#pragma once

#include "base/check.h"
#include "flags/eval/bucket.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"

#define FLAGS_IMAGE_MAGIC UINT64_C(0x314753474c46534c) // the bytes "LSFLGSG1" in the right byte order
#define FLAGS_NO_VARIANT UINT32_MAX

struct flags_span {
    uint32_t at;
    uint32_t len;
};

enum flags_op {
    FLAGS_OP_NULL,
    FLAGS_OP_FALSE,
    FLAGS_OP_TRUE,
    FLAGS_OP_INTEGER, // `at` is the number itself, a whole number of 32 bits
    FLAGS_OP_NUMBER,  // a double at
    FLAGS_OP_STRING,  // count bytes at
    FLAGS_OP_ARRAY,   // count nodes at
    FLAGS_OP_STRINGS, // count spans at, sorted by length and bytes: only as the second argument of IN_STRINGS
    FLAGS_OP_VAR, // count spans at: the path, split at its dots; detail 1: nothing that a rule injects can
                  // hide it
    FLAGS_OP_VAR_TARGETING_KEY, // as VAR; the path is known at compile time to be this one
    FLAGS_OP_VAR_FLAG_KEY,
    FLAGS_OP_VAR_TIMESTAMP,
    FLAGS_OP_VAR_DYNAMIC, // one node: the path is computed
    FLAGS_OP_VAR_DEFAULT, // two nodes: a var, and the value that replaces its null
    FLAGS_OP_REF,         // at: an evaluator
    FLAGS_OP_FAULTY,      // stands where compiling failed; its flag is never evaluated
    FLAGS_OP_RULES,       // the operators from here on have count argument nodes at
    FLAGS_OP_IF = FLAGS_OP_RULES,
    FLAGS_OP_AND,
    FLAGS_OP_OR,
    FLAGS_OP_NOT,
    FLAGS_OP_TRUTH,
    FLAGS_OP_EQUAL,
    FLAGS_OP_NOT_EQUAL,
    FLAGS_OP_SAME,
    FLAGS_OP_NOT_SAME,
    FLAGS_OP_LESS,
    FLAGS_OP_LESS_EQUAL,
    FLAGS_OP_GREATER,
    FLAGS_OP_GREATER_EQUAL,
    FLAGS_OP_ADD,
    FLAGS_OP_SUBTRACT,
    FLAGS_OP_MULTIPLY,
    FLAGS_OP_DIVIDE,
    FLAGS_OP_MODULO,
    FLAGS_OP_MAX,
    FLAGS_OP_MIN,
    FLAGS_OP_CAT,
    FLAGS_OP_SUBSTR,
    FLAGS_OP_IN,
    FLAGS_OP_IN_STRINGS,
    FLAGS_OP_MERGE,
    FLAGS_OP_MISSING,
    FLAGS_OP_MISSING_SOME,
    FLAGS_OP_MAP,
    FLAGS_OP_FILTER,
    FLAGS_OP_REDUCE,
    FLAGS_OP_ALL,
    FLAGS_OP_NONE,
    FLAGS_OP_SOME,
    FLAGS_OP_STARTS_WITH,
    FLAGS_OP_ENDS_WITH,
    FLAGS_OP_SEM_VER,
    FLAGS_OP_FRACTIONAL, // 1 + 2n nodes: the bucketing value (detail 1; else NULL), then variant and weight;
                         // before them the total (32 bits) when all weights are constants, else 0
    FLAGS_OP_COUNT
};

// A node as it stands in the image: small, because most of the cost of an evaluation is fetching cache lines.
struct flags_code {
    uint8_t op;
    uint8_t detail;
    uint16_t count; // FLAGS_COUNT_WIDE: count and place stand in a span at `at`
    uint32_t at;
};
enum { FLAGS_COUNT_WIDE = UINT16_MAX };

// The same, unpacked.
struct flags_node {
    uint8_t op;
    uint8_t detail;
    uint32_t count;
    uint32_t at;
};

struct flags_image_variant {
    double number;
    struct flags_span name;
    struct flags_span json;
    struct flags_span text;
    uint8_t type; // enum flags_type
    uint8_t boolean;
    uint8_t unused[6];
};

struct flags_image_target {
    struct flags_span key;
    uint32_t variant;
};

struct flags_image_prerequisite {
    struct flags_span key;
    struct flags_span variant_name;
    uint32_t flag; // resolved when the whole set is known
    uint32_t variant;
};

struct flags_image_extension {
    int64_t from_s; // INT64_MIN, INT64_MAX when open
    int64_t until_s;
    uint32_t target_count;
    uint32_t targets; // sorted by key length and bytes
    uint32_t prerequisite_count;
    uint32_t prerequisites;
};

// The split of a rollout, appended by a patch; ring_count offsets of evaluators follow.
struct flags_image_split {
    uint32_t from;
    uint32_t to;
    uint32_t share;
    uint32_t ring_count;
    uint32_t salt[4]; // as struct siphash_key, each number's low half first
};

enum {
    FLAGS_BIT_DISABLED = 1,
    FLAGS_BIT_USES_KEY = 2,
    FLAGS_BIT_SCHEDULE = 4,
    FLAGS_BIT_KILLED = 8,
    FLAGS_BIT_PATCHED = 16,
};

// The members that an evaluation reads come first and fit into one cache line.
struct flags_image_flag {
    struct flags_span key;
    uint32_t variants;
    uint32_t variant_count;
    uint32_t default_variant;
    uint32_t targeting;
    uint32_t extension;
    uint32_t split;
    uint32_t kill_variant; // when KILLED; FLAGS_NO_VARIANT: the caller's default
    uint32_t first_counter;
    struct flags_span fault;
    struct flags_span metadata;
    uint8_t type;
    uint8_t bits;
    uint8_t generation;
    uint8_t mark; // while prerequisites are checked; then the length of the longest chain of them, plus one
    uint32_t next;
    uint32_t hash;
    uint32_t size; // of the flag and of all that was written for this flag alone, which lies behind it
    uint32_t document;
    uint32_t source_at; // where the flag stands in its document
};

struct flags_image_evaluator {
    struct flags_span name;
    uint32_t node; // until it is compiled: the index of its tree in the scratch
    uint16_t depth;
    uint8_t state;
    uint8_t bits;
};

// Evaluators by name: sorted by length and bytes.
struct flags_image_name {
    struct flags_span name;
    uint32_t evaluator;
};
struct flags_names {
    uint32_t at;
    uint32_t count;
};

// The low bits of a tag: how many cache lines the flag takes. Its other bits: those of the hash of the key.
enum { FLAGS_SLOT_LINES_MAX = 31, FLAGS_LINE_BYTES = 64 };
struct flags_image_slot {
    uint32_t tag;
    uint32_t flag; // 0: free
};

struct flags_image_header {
    uint64_t magic;
    uint64_t checksum; // SipHash of everything behind it
    uint32_t version;
    uint32_t len;
    uint32_t flag_count;
    uint32_t first_flag;
    uint32_t slot_mask;
    uint32_t slots; // open addressing by the hash of the key
    struct flags_span metadata;
    struct flags_names segments;
    uint32_t counter_count;
    uint8_t generation;         // of the last document
    uint8_t segment_generation; // of segments on their own
    uint8_t patched;
    uint8_t unused;
};

uint64_t flags_checksum_of(const uint8_t *image, uint32_t len);
const struct flags_image_flag *flags_find_key(const uint8_t *image, struct slice key);
// The offset of an evaluator, 0 when there is none of that name.
uint32_t flags_find_name(const uint8_t *image, struct flags_names names, struct slice name);
uint32_t flags_find_variant(const uint8_t *image, const struct flags_image_flag *flag,
                            struct slice name); // FLAGS_NO_VARIANT: none
// What a kill without a variant answers: the variant that is false, or FLAGS_NO_VARIANT, the caller's
// default.
uint32_t flags_off_variant(const uint8_t *image, const struct flags_image_flag *flag);

static inline const void *flags_image_at(const uint8_t *image, uint32_t at)
{
    return image + at;
}

static inline struct slice flags_image_slice(const uint8_t *image, struct flags_span span)
{
    return (struct slice){(const char *)image + span.at, span.len};
}

static inline struct flags_node flags_node_of(const uint8_t *image, const struct flags_code *code)
{
    struct flags_node node = {code->op, code->detail, code->count, code->at};
    if (UNLIKELY(code->count == FLAGS_COUNT_WIDE)) {
        const struct flags_span *wide = flags_image_at(image, code->at);
        node.count = wide->len;
        node.at = wide->at;
    }
    return node;
}

// Equality of short names, without a call, which would cost more than comparing words that overlap.
static inline bool flags_bytes_equal(const char *a, const char *b, size_t len)
{
    uint64_t x[2] = {0};
    uint64_t y[2] = {0};
    if (len > 16)
        return memcmp(a, b, len) == 0;
    if (len >= 8) {
        memcpy(&x[0], a, 8);
        memcpy(&x[1], a + len - 8, 8);
        memcpy(&y[0], b, 8);
        memcpy(&y[1], b + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&x[0], a, 4);
        memcpy(&x[1], a + len - 4, 4);
        memcpy(&y[0], b, 4);
        memcpy(&y[1], b + len - 4, 4);
    } else {
        for (size_t i = 0; i < len; i++)
            if (a[i] != b[i])
                return false;
    }
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

static inline bool flags_slice_same(struct slice a, struct slice b)
{
    return a.len == b.len && flags_bytes_equal(a.data, b.data, a.len);
}

// Shorter first, then by bytes: the order of every sorted table here, and of CBOR's map keys.
static inline int flags_slice_order(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return a.len == 0 ? 0 : memcmp(a.data, b.data, a.len);
}

enum flags_value_kind {
    FLAGS_VALUE_NULL,
    FLAGS_VALUE_BOOLEAN,
    FLAGS_VALUE_NUMBER,
    FLAGS_VALUE_STRING,
    FLAGS_VALUE_LIST, // made by a rule: count values
    FLAGS_VALUE_TREE, // an array or object of the context
};

struct flags_value {
    uint8_t kind;
    bool boolean;
    uint32_t count;
    union {
        double number;
        const char *data;
        const struct flags_value *items;
        const struct flags_json *tree;
    };
};

enum flags_scope_kind { FLAGS_SCOPE_CONTEXT, FLAGS_SCOPE_ITEM, FLAGS_SCOPE_REDUCE };

// What `var` looks into: the context, the current item of map and similar rules, or {current, accumulator}.
struct flags_scope {
    enum flags_scope_kind kind;
    struct flags_value current;
    struct flags_value accumulator;
};

// An evaluation under way. The first fault is kept, and every later value is null.
struct flags_run {
    const uint8_t *image;
    const struct flags_context *context;
    struct slice flag_key;
    struct flags_scratch scratch;
    size_t scratch_used;
    uint32_t steps;
    uint32_t depth;
    enum flags_generation generation;
    const char *fault;
    const char *note;
    struct text *path; // explain only
};

static inline struct flags_value flags_value_null(void)
{
    return (struct flags_value){.kind = FLAGS_VALUE_NULL};
}

static inline struct flags_value flags_value_boolean(bool boolean)
{
    return (struct flags_value){.kind = FLAGS_VALUE_BOOLEAN, .boolean = boolean};
}

static inline struct flags_value flags_value_number(double number)
{
    return (struct flags_value){.kind = FLAGS_VALUE_NUMBER, .number = number};
}

static inline struct flags_value flags_value_string(struct slice s)
{
    return (struct flags_value){.kind = FLAGS_VALUE_STRING, .count = (uint32_t)s.len, .data = s.data};
}

static inline struct slice flags_value_slice(const struct flags_value *value)
{
    return (struct slice){value->data, value->count};
}

// run.c: bounds and storage of a run.
struct flags_value flags_run_fail(struct flags_run *run, const char *why);
bool flags_run_exhausted(struct flags_run *run);           // sets the fault, false
void *flags_run_alloc(struct flags_run *run, size_t size); // aligned to 8; NULL, with a fault, when full
// The targeting key as a string value, or null.
struct flags_value flags_run_targeting_key(const struct flags_run *run);

// False, with a fault, when the bound is passed; false also when there was a fault already.
static inline bool flags_run_charge(struct flags_run *run, size_t steps)
{
    if (run->fault != NULL)
        return false;
    if (UNLIKELY(steps > FLAGS_STEPS_MAX - run->steps))
        return flags_run_exhausted(run);
    run->steps += (uint32_t)steps;
    return true;
}

// value.c: conversions as in JavaScript, by which JSON Logic is defined.
enum { FLAGS_NUMBER_TEXT_MAX = 32 };
struct flags_value flags_value_of_tree(const struct flags_json *tree);
bool flags_value_truth(const struct flags_value *value);
// The same, faster for results of comparisons.
static inline bool flags_value_holds(const struct flags_value *value)
{
    return value->kind == FLAGS_VALUE_BOOLEAN ? value->boolean : flags_value_truth(value);
}
double flags_value_to_number(struct flags_run *run, const struct flags_value *value);
size_t flags_number_text(double number, char out[FLAGS_NUMBER_TEXT_MAX]);
// The value as text in scratch (strings as they are). The text of null differs between cat and String().
struct slice flags_value_text(struct flags_run *run, const struct flags_value *value, struct slice null_text);
bool flags_value_same(const struct flags_value *a, const struct flags_value *b);
bool flags_value_equal(struct flags_run *run, const struct flags_value *a, const struct flags_value *b);
// Items of a LIST or of a TREE array; false when the value is neither.
bool flags_value_is_array(const struct flags_value *value, uint32_t *count);
struct flags_items {
    const struct flags_value *next_value;
    const struct flags_json *next_tree;
    uint32_t left;
};
struct flags_items flags_value_items(const struct flags_value *value);
bool flags_items_next(struct flags_items *items, struct flags_value *value);
struct flags_value flags_value_step(const struct flags_value *value, struct slice segment);

// logic.c
struct flags_value flags_eval(struct flags_run *run, const struct flags_code *code,
                              const struct flags_scope *scope, bool decides);
static inline const struct flags_code *flags_arguments(const struct flags_run *run,
                                                       const struct flags_node *node)
{
    return flags_image_at(run->image, node->at);
}

static inline struct flags_value flags_eval_argument(struct flags_run *run, const struct flags_node *node,
                                                     const struct flags_scope *scope, uint32_t i)
{
    if (i >= node->count)
        return flags_value_null();
    return flags_eval(run, flags_arguments(run, node) + i, scope, false);
}

// logic_list.c, logic_text.c, fractional.c, sem_ver.c: the rules of each kind.
struct flags_value flags_eval_list(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope);
struct flags_value flags_eval_text(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope);
struct flags_value flags_eval_fractional(struct flags_run *run, const struct flags_node *node,
                                         const struct flags_scope *scope, bool decides);
struct flags_value flags_eval_sem_ver(struct flags_run *run, const struct flags_node *node,
                                      const struct flags_scope *scope);
// A var whose path is only known at evaluation.
struct flags_value flags_lookup_path(struct flags_run *run, const struct flags_scope *scope,
                                     struct slice path);
// Compares semantic versions. False when one is not a version, or the operator is unknown.
bool flags_sem_ver_compare(struct slice a, struct slice op, struct slice b, bool *result);
bool flags_sem_ver_op_known(struct slice op);
// partial: accepts "1", "1.2" and a leading v, as evaluation does.
bool flags_sem_ver_valid(struct slice version, bool partial);

// cbor.c: deterministic encoding (RFC 8949 section 4.2.1) straight into the hash.
enum flags_cbor_major {
    FLAGS_CBOR_UNSIGNED,
    FLAGS_CBOR_NEGATIVE,
    FLAGS_CBOR_BYTES,
    FLAGS_CBOR_TEXT,
    FLAGS_CBOR_ARRAY,
    FLAGS_CBOR_MAP,
    FLAGS_CBOR_TAG,
    FLAGS_CBOR_SIMPLE,
};
void flags_cbor_head(struct flags_hash *hash, enum flags_cbor_major major, uint64_t argument);
void flags_cbor_string(struct flags_hash *hash, struct slice s);
void flags_cbor_number(struct flags_hash *hash, double number);
void flags_cbor_value(struct flags_run *run, struct flags_hash *hash, const struct flags_value *value);

// For tests: the value of a flag's rule on any data, before it is taken for a variant's name.
struct flags_value flags_rule_value(struct flags_run *run, const struct flags_image_flag *flag);

// Findings, stored as far as there is room; when it is full an error replaces a warning.
struct flags_findings {
    struct flags_finding *problems;
    size_t cap;
    size_t count;
    size_t error_count;
};
// The finding to fill in, or NULL when there is no room. It is counted in both cases.
struct flags_finding *flags_findings_add(struct flags_findings *findings, enum flags_severity severity);

// The compiler's state. bundle.c owns it; image_write.c and the other compile_*.c write through it.
enum { FLAGS_INTERN_SLOTS = 1024 };
// What the second pass over a document needs from the first.
struct flags_compiler_document {
    bool whole; // the document could be read
    struct slice flags;
    struct slice metadata;
    struct flags_names evaluators;
    uint8_t generation;
};
struct flags_compiler {
    const struct flags_bundle *bundle;
    struct flags_compile_options options;
    struct flags_json_space *scratch;
    uint8_t *out;
    uint32_t used;
    uint32_t cap;
    enum status status; // the first failure: FULL or NO_MEMORY
    struct flags_findings findings;
    size_t char_floor; // of the scratch: findings borrow from the bytes below
    struct flags_compiler_document documents[FLAGS_DOCUMENTS_MAX];
    // Of the document being compiled, or of the segments.
    uint32_t document;
    struct slice source;
    struct flags_names evaluators;
    struct flags_span set_metadata;
    const struct flags_json *set_metadata_tree;
    uint8_t generation;
    // Of the flag or rule being compiled.
    struct slice flag_key;  // raw
    const char *rule_fault; // first targeting fault
    uint32_t deepest;
    uint32_t nesting;  // of compile calls, now
    uint32_t flag_at;  // where the flag stands in the source
    uint8_t rule_bits; // FLAGS_BIT_USES_KEY
    // Of the bundle.
    struct flags_names segments;
    struct flags_span bundle_metadata;
    uint32_t flag_count;
    uint32_t first_flag;
    uint32_t last_flag;
    struct flags_span interned[FLAGS_INTERN_SLOTS];
    struct {
        struct flags_span text; // of the path, whole
        uint32_t segments;
    } paths[FLAGS_INTERN_SLOTS];
};

// image_write.c
uint32_t flags_write_reserve(struct flags_compiler *c, uint64_t size, uint32_t align); // 0: full; zeroed
struct flags_span flags_write_bytes(struct flags_compiler *c, struct slice bytes);     // interned
struct flags_span flags_write_json_string(struct flags_compiler *c, struct slice bytes);
void flags_write_raw(struct flags_compiler *c, struct slice bytes); // appended, not interned
void flags_write_sort_spans(uint8_t *base, uint32_t at, uint32_t count, uint32_t size);
void *flags_write_at(struct flags_compiler *c, uint32_t at);

// compile.c
void flags_compile_document(struct flags_compiler *c, uint32_t index);
// Its flags, when the evaluators of all documents are there.
void flags_compile_document_flags(struct flags_compiler *c, uint32_t index);
void flags_compile_segments(struct flags_compiler *c);
void flags_compile_problem(struct flags_compiler *c, enum flags_severity severity, const char *message,
                           const struct flags_json *where, struct slice subject);
// compile_rule.c. Writes the rule's root node; returns 0 when the image is full. c->rule_fault is set on
// faults.
uint32_t flags_compile_rule(struct flags_compiler *c, const struct flags_json *tree);
void flags_compile_evaluators(struct flags_compiler *c, const struct flags_json *tree);
// compile_extension.c
void flags_compile_settings(struct flags_compiler *c, const struct flags_json *tree);
void flags_compile_extension(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at);
// When all flags and the table are there: resolves names, refuses cycles.
void flags_compile_prerequisites(struct flags_compiler *c);
void flags_compile_problem_at(struct flags_compiler *c, enum flags_severity severity, const char *message,
                              size_t at, struct slice subject);
// Sets the source that problems and flags refer to from now on.
void flags_compile_enter(struct flags_compiler *c, uint32_t document);

// patch.c
struct flags_patcher {
    uint8_t *image;
    uint32_t used;
    uint32_t cap;
    struct flags_findings *findings;
};
// STATUS_FULL when the image cannot grow.
MUST_USE enum status flags_patch_apply(struct flags_patcher *patcher, const struct flags_patch *patches,
                                       uint32_t count);
