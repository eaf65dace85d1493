// SPDX-License-Identifier: Apache-2.0
// From one flagd file to an image: its flags, variants and metadata. Compiles flag by flag, so that scratch
// must hold the largest flag and not the whole set. A structural fault refuses the set, but all of it is
// still read, so that one pass reports everything.
#include <stddef.h>

#include "base/check.h"
#include "flags/eval/flags_private.h"

// Problems

struct flags_finding *flags_findings_add(struct flags_findings *findings, enum flags_severity severity)
{
    size_t i = findings->count++;
    findings->error_count += severity == FLAGS_ERROR;
    if (i < findings->cap)
        return &findings->problems[i];
    for (i = findings->cap; severity == FLAGS_ERROR && i-- > 0;)
        if (findings->problems[i].severity != FLAGS_ERROR)
            return &findings->problems[i];
    return NULL;
}

void flags_compile_problem_at(struct flags_compiler *c, enum flags_severity severity, const char *message,
                              size_t at, struct slice subject)
{
    struct flags_finding *problem = flags_findings_add(&c->findings, severity);
    if (problem == NULL)
        return;
    *problem = (struct flags_finding){.severity = severity,
                                      .document = c->document,
                                      .message = message,
                                      .key = c->flag_key,
                                      .subject = subject};
    flags_json_position(c->source, at, &problem->line, &problem->column);
    c->char_floor = c->scratch->char_count;
}

static bool in_source(const struct flags_compiler *c, const char *at)
{
    return at >= c->source.data && at <= c->source.data + c->source.len;
}

// Unescaped strings lie in scratch and not in the source, so the place of their flag is reported instead.
void flags_compile_problem(struct flags_compiler *c, enum flags_severity severity, const char *message,
                           const struct flags_json *where, struct slice subject)
{
    size_t at = c->flag_at;
    if (where != NULL && in_source(c, where->text.data))
        at = (size_t)(where->text.data - c->source.data);
    else if (where != NULL && in_source(c, where->key.data))
        at = (size_t)(where->key.data - c->source.data);
    flags_compile_problem_at(c, severity, message, at, subject);
}

static void error(struct flags_compiler *c, const char *message, const struct flags_json *where,
                  struct slice subject)
{
    flags_compile_problem(c, FLAGS_ERROR, message, where, subject);
}

static void remark(struct flags_compiler *c, const char *message, const struct flags_json *where)
{
    flags_compile_problem(c, c->options.strict ? FLAGS_ERROR : FLAGS_WARNING, message, where, SLICE(""));
}

// Reports a failure of the JSON reader; false when there was none. STATUS_FULL means that scratch is too
// small; all else is an error in the source.
static bool reader_failed(struct flags_compiler *c, enum status status, const struct flags_json_error *fault,
                          const char *base)
{
    if (status == STATUS_OK)
        return false;
    if (status == STATUS_FULL)
        c->status = c->status == STATUS_OK ? STATUS_NO_MEMORY : c->status;
    else
        flags_compile_problem_at(c, FLAGS_ERROR, fault->what, (size_t)(base - c->source.data) + fault->at,
                                 SLICE(""));
    return true;
}

// Values

static struct flags_span write_value(struct flags_compiler *c, const struct flags_json *value)
{
    if (value->kind == FLAGS_JSON_STRING)
        return flags_write_json_string(c, value->text);
    return flags_write_bytes(c, value->text);
}

static void check_metadata(struct flags_compiler *c, const struct flags_json *metadata)
{
    if (metadata->kind != FLAGS_JSON_OBJECT) {
        error(c, "metadata is an object", metadata, SLICE(""));
        return;
    }
    for (const struct flags_json *m = metadata->first; m != NULL; m = m->next)
        if (m->kind == FLAGS_JSON_NULL || m->kind == FLAGS_JSON_ARRAY || m->kind == FLAGS_JSON_OBJECT)
            error(c, "a metadata value is a string, a number or a boolean", m, m->key);
}

static void write_members(struct flags_compiler *c, const struct flags_json *metadata,
                          const struct flags_json *except, bool *first)
{
    if (metadata == NULL || metadata->kind != FLAGS_JSON_OBJECT)
        return;
    for (const struct flags_json *m = metadata->first; m != NULL; m = m->next) {
        if (flags_json_member(except, m->key) != NULL)
            continue;
        if (!*first)
            flags_write_raw(c, SLICE(","));
        *first = false;
        flags_write_json_string(c, m->key);
        flags_write_raw(c, SLICE(":"));
        if (m->kind == FLAGS_JSON_STRING)
            flags_write_json_string(c, m->text);
        else
            flags_write_raw(c, m->text);
    }
}

// One object of both; members of the flag replace members of the set. Empty instead of an empty object.
static struct flags_span write_metadata(struct flags_compiler *c, const struct flags_json *set,
                                        const struct flags_json *flag)
{
    uint32_t begin = c->used;
    bool first = true;
    flags_write_raw(c, SLICE("{"));
    write_members(c, set, flag, &first);
    write_members(c, flag, NULL, &first);
    flags_write_raw(c, SLICE("}"));
    if (c->status != STATUS_OK || first)
        return (struct flags_span){0};
    return (struct flags_span){begin, c->used - begin};
}

// Variants

static uint8_t type_of(const struct flags_json *value)
{
    static const uint8_t TYPES[] = {
        [FLAGS_JSON_FALSE] = FLAGS_BOOLEAN, [FLAGS_JSON_TRUE] = FLAGS_BOOLEAN,
        [FLAGS_JSON_NUMBER] = FLAGS_FLOAT,  [FLAGS_JSON_STRING] = FLAGS_STRING,
        [FLAGS_JSON_OBJECT] = FLAGS_OBJECT,
    };
    return TYPES[value->kind];
}

static void write_variant(struct flags_compiler *c, const struct flags_json *value, uint32_t at)
{
    struct flags_image_variant variant = {
        .number = value->number,
        .name = flags_write_bytes(c, value->key),
        .json = write_value(c, value),
        .type = type_of(value),
        .boolean = value->kind == FLAGS_JSON_TRUE,
    };
    variant.text = variant.json;
    if (value->kind == FLAGS_JSON_STRING) {
        // Without escapes the bytes are those between the quotes.
        if (variant.json.len == value->text.len + 2)
            variant.text = (struct flags_span){variant.json.at + 1, variant.json.len - 2};
        else
            variant.text = flags_write_bytes(c, value->text);
    }
    if (c->status == STATUS_OK)
        memcpy(c->out + at, &variant, sizeof variant);
}

static bool check_variants(struct flags_compiler *c, const struct flags_json *variants,
                           const struct flags_json *flag)
{
    bool well = true;
    if (variants == NULL || variants->kind != FLAGS_JSON_OBJECT || variants->count == 0) {
        error(c, "a flag has variants: an object with at least one member",
              variants != NULL ? variants : flag, SLICE(""));
        return false;
    }
    if (variants->count > FLAGS_VARIANTS_MAX) {
        error(c, "too many variants", variants, SLICE(""));
        return false;
    }
    for (const struct flags_json *v = variants->first; v != NULL; v = v->next) {
        if (v->key.len == 0)
            remark(c, "a variant has a name", v);
        if (type_of(v) == FLAGS_ANY) {
            error(c, "a variant is a boolean, a string, a number or an object", v, v->key);
            well = false;
        }
        if (type_of(v) != type_of(variants->first)) {
            error(c, "the variants of one flag have one type", v, v->key);
            well = false;
        }
    }
    return well;
}

static void compile_variants(struct flags_compiler *c, const struct flags_json *variants, uint32_t flag_at)
{
    uint32_t at = flags_write_reserve(c, variants->count * sizeof(struct flags_image_variant), 8);
    uint32_t count = 0;
    for (const struct flags_json *v = variants->first; v != NULL && c->status == STATUS_OK; v = v->next)
        write_variant(c, v, at + count++ * (uint32_t)sizeof(struct flags_image_variant));
    if (c->status != STATUS_OK)
        return;
    struct flags_image_flag *flag = flags_write_at(c, flag_at);
    flag->variants = at;
    flag->variant_count = count;
    flag->type = type_of(variants->first);
}

// Flags

static void compile_state(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at)
{
    const struct flags_json *state = flags_json_member(tree, SLICE("state"));
    struct flags_image_flag *flag = flags_write_at(c, flag_at);
    bool text = state != NULL && state->kind == FLAGS_JSON_STRING;
    if (text && slice_equal(state->text, SLICE("DISABLED")))
        flag->bits |= FLAGS_BIT_DISABLED;
    else if (!text || !slice_equal(state->text, SLICE("ENABLED")))
        error(c, "state is \"ENABLED\" or \"DISABLED\"", state != NULL ? state : tree, SLICE(""));
}

static void compile_default(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at)
{
    const struct flags_json *name = flags_json_member(tree, SLICE("defaultVariant"));
    uint32_t index = FLAGS_NO_VARIANT;
    if (name != NULL && name->kind == FLAGS_JSON_STRING) {
        index = flags_find_variant(c->out, flags_write_at(c, flag_at), name->text);
        if (index == FLAGS_NO_VARIANT)
            error(c, "defaultVariant names no variant", name, name->text);
    } else if (name != NULL && name->kind != FLAGS_JSON_NULL) {
        error(c, "defaultVariant is a variant's name or null", name, SLICE(""));
    }
    ((struct flags_image_flag *)flags_write_at(c, flag_at))->default_variant = index;
}

static void compile_targeting(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at)
{
    const struct flags_json *targeting = flags_json_member(tree, SLICE("targeting"));
    const char *fault = NULL;
    uint32_t root = 0;
    if (targeting == NULL || (targeting->kind == FLAGS_JSON_OBJECT && targeting->count == 0))
        return;
    if (targeting->kind != FLAGS_JSON_OBJECT) {
        bool null = targeting->kind == FLAGS_JSON_NULL;
        fault = "targeting is a rule";
        flags_compile_problem(c,
                              c->options.strict ? FLAGS_ERROR
                              : null            ? FLAGS_WARNING
                                                : FLAGS_FAULT,
                              fault, targeting, SLICE(""));
        if (null)
            return;
    } else {
        root = flags_compile_rule(c, targeting);
        fault = c->rule_fault;
    }
    struct flags_span text = fault != NULL ? flags_write_bytes(c, slice_of(fault)) : (struct flags_span){0};
    if (c->status != STATUS_OK)
        return;
    struct flags_image_flag *flag = flags_write_at(c, flag_at);
    flag->targeting = root;
    flag->fault = text;
    flag->bits |= c->rule_bits & FLAGS_BIT_USES_KEY;
}

static void compile_flag_metadata(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at)
{
    const struct flags_json *metadata = flags_json_member(tree, SLICE("metadata"));
    struct flags_span span = c->set_metadata;
    if (metadata != NULL) {
        check_metadata(c, metadata);
        span = write_metadata(c, c->set_metadata_tree, metadata);
    }
    if (c->status == STATUS_OK)
        ((struct flags_image_flag *)flags_write_at(c, flag_at))->metadata = span;
}

static void link_flag(struct flags_compiler *c, uint32_t at)
{
    if (c->last_flag != 0)
        ((struct flags_image_flag *)flags_write_at(c, c->last_flag))->next = at;
    else
        c->first_flag = at;
    c->last_flag = at;
    c->flag_count++;
    ((struct flags_image_flag *)flags_write_at(c, at))->size = c->used - at;
}

static void compile_flag(struct flags_compiler *c, struct slice key, const struct flags_json *tree)
{
    if (key.len == 0)
        error(c, "a flag has a key", tree, SLICE(""));
    if (tree->kind != FLAGS_JSON_OBJECT) {
        error(c, "a flag is an object", tree, SLICE(""));
        return;
    }
    const struct flags_json *variants = flags_json_member(tree, SLICE("variants"));
    uint32_t at = flags_write_reserve(c, sizeof(struct flags_image_flag), 8);
    struct flags_span name = flags_write_bytes(c, key);
    if (c->status != STATUS_OK)
        return;
    struct flags_image_flag *flag = flags_write_at(c, at);
    flag->key = name;
    flag->hash = flags_hash_of(key, 0);
    flag->source_at = c->flag_at;
    flag->document = c->document;
    flag->generation = c->generation;
    compile_state(c, tree, at);
    if (check_variants(c, variants, tree)) {
        compile_variants(c, variants, at);
        if (c->status == STATUS_OK)
            compile_default(c, tree, at);
    }
    if (c->status == STATUS_OK)
        compile_targeting(c, tree, at);
    if (c->status == STATUS_OK)
        compile_flag_metadata(c, tree, at);
    const struct flags_json *extension = flags_json_member(tree, SLICE("x-sluice"));
    if (c->status == STATUS_OK && extension != NULL)
        flags_compile_extension(c, extension, at);
    if (c->status == STATUS_OK)
        link_flag(c, at);
}

static bool array_key(struct flags_compiler *c, const struct flags_json *tree, struct slice *key)
{
    const struct flags_json *member = flags_json_member(tree, SLICE("key"));
    if (member == NULL || member->kind != FLAGS_JSON_STRING) {
        error(c, "a flag in a list has a key", tree, SLICE(""));
        return false;
    }
    *key = member->text;
    c->flag_key = *key;
    return true;
}

static bool map_key(struct flags_compiler *c, struct slice raw, struct slice *key)
{
    struct flags_json_space *space = c->scratch;
    size_t len = 0;
    c->flag_key = raw;
    *key = raw;
    if (raw.len == 0 || memchr(raw.data, '\\', raw.len) == NULL)
        return true;
    char *out = space->chars + space->char_count;
    if (flags_json_unescape(raw, out, space->char_cap - space->char_count, &len) != STATUS_OK) {
        c->status = STATUS_NO_MEMORY;
        return false;
    }
    space->char_count += len;
    *key = (struct slice){out, len};
    return true;
}

static void compile_flags(struct flags_compiler *c, struct slice flags)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    uint32_t node_mark = c->scratch->node_count;
    size_t char_mark = c->scratch->char_count;
    size_t base = (size_t)(flags.data - c->source.data);
    if (reader_failed(c, flags_json_walk_begin(flags, &walk, &fault), &fault, flags.data))
        return;
    while (c->status == STATUS_OK) {
        struct slice key;
        struct slice raw;
        struct flags_json *tree;
        c->scratch->node_count = node_mark;
        c->scratch->char_count = char_mark > c->char_floor ? char_mark : c->char_floor;
        c->flag_key = (struct slice){"", 0};
        c->flag_at = (uint32_t)(base + walk.at);
        enum status status = flags_json_walk_tree(&walk, c->scratch, &raw, &tree, &fault);
        if (status == STATUS_NOT_FOUND || reader_failed(c, status, &fault, flags.data))
            break;
        if (walk.object ? map_key(c, raw, &key) : array_key(c, tree, &key))
            compile_flag(c, key, tree);
    }
    c->flag_key = (struct slice){"", 0};
}

// The set

struct members {
    struct slice flags;
    struct slice evaluators;
    struct slice metadata;
    struct slice settings;
    struct slice schema;
};

static struct slice *member_of(struct members *members, struct slice key)
{
    const struct {
        const char *name;
        struct slice *member;
    } known[] = {
        {"flags", &members->flags},       {"$evaluators", &members->evaluators},
        {"metadata", &members->metadata}, {"x-sluice", &members->settings},
        {"$schema", &members->schema},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (slice_equal(key, slice_of(known[i].name)))
            return known[i].member;
    return NULL;
}

// Finds the members of the whole document without building its tree, and validates all of it once.
static bool split(struct flags_compiler *c, struct members *members)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice key;
    struct slice value;
    enum status status = flags_json_walk_begin(c->source, &walk, &fault);
    if (reader_failed(c, status, &fault, c->source.data))
        return false;
    while ((status = flags_json_walk_next(&walk, &key, &value, &fault)) == STATUS_OK) {
        struct slice *member = member_of(members, key);
        if (member != NULL && member->len > 0)
            flags_compile_problem_at(c, FLAGS_ERROR, "the name stands twice in one object",
                                     (size_t)(key.data - c->source.data), key);
        if (member != NULL)
            *member = value;
    }
    if (status != STATUS_NOT_FOUND)
        return !reader_failed(c, status, &fault, c->source.data);
    for (size_t at = walk.at; at < c->source.len; at++) {
        if (memchr(" \t\r\n", c->source.data[at], 4) != NULL)
            continue;
        flags_compile_problem_at(c, FLAGS_ERROR, "something follows the document", at, SLICE(""));
        return false;
    }
    if (!walk.object || members->flags.len == 0)
        flags_compile_problem_at(c, FLAGS_ERROR, "a flag set is an object with \"flags\"", 0, SLICE(""));
    return walk.object && members->flags.len > 0;
}

static const struct flags_json *parse_member(struct flags_compiler *c, struct slice text)
{
    struct flags_json *tree = NULL;
    struct flags_json_error fault;
    if (text.len == 0 ||
        reader_failed(c, flags_json_parse(text, c->scratch, &tree, &fault), &fault, text.data))
        return NULL;
    return tree;
}

static void compile_set_metadata(struct flags_compiler *c, struct slice text)
{
    const struct flags_json *tree = parse_member(c, text);
    if (tree == NULL)
        return;
    check_metadata(c, tree);
    c->set_metadata_tree = tree;
    c->set_metadata = write_metadata(c, tree, NULL);
    if (c->set_metadata.len > 0)
        c->bundle_metadata = c->set_metadata;
}

static void check_form(struct flags_compiler *c, const struct members *members)
{
    static const struct slice MAP_ONLY = {"/flags.json\"", 12};
    struct slice schema = members->schema;
    char form = members->flags.data[0];
    size_t at = (size_t)(members->flags.data - c->source.data);
    if (form != '{' && form != '[')
        flags_compile_problem_at(c, FLAGS_ERROR, "flags are an object or a list", at, SLICE(""));
    bool map_only =
        schema.len >= MAP_ONLY.len &&
        slice_equal((struct slice){schema.data + schema.len - MAP_ONLY.len, MAP_ONLY.len}, MAP_ONLY);
    if (c->options.strict && form == '[' && map_only)
        flags_compile_problem_at(c, FLAGS_ERROR, "flags.json, which the file names, has no list of flags", at,
                                 SLICE(""));
}

static void compile_evaluators(struct flags_compiler *c, struct slice text, const char *message)
{
    const struct flags_json *tree = parse_member(c, text);
    if (tree != NULL && tree->kind != FLAGS_JSON_OBJECT)
        error(c, message, tree, SLICE(""));
    else if (tree != NULL)
        flags_compile_evaluators(c, tree);
}

void flags_compile_enter(struct flags_compiler *c, uint32_t document)
{
    bool segments = document == FLAGS_DOCUMENTS_MAX;
    c->document = document;
    c->source = segments ? c->bundle->segments : c->bundle->documents[document].json;
}

void flags_compile_segments(struct flags_compiler *c)
{
    flags_compile_enter(c, FLAGS_DOCUMENTS_MAX);
    compile_evaluators(c, c->bundle->segments, "segments are an object");
    c->segments = c->evaluators;
    c->evaluators = (struct flags_names){0};
}

void flags_compile_document(struct flags_compiler *c, uint32_t index)
{
    struct flags_compiler_document *document = &c->documents[index];
    struct members members = {0};
    flags_compile_enter(c, index);
    c->generation = c->options.default_generation;
    c->evaluators = (struct flags_names){0};
    c->flag_at = 0;
    c->scratch->node_count = 0;
    c->scratch->char_count = c->char_floor;
    if (!split(c, &members))
        return;
    check_form(c, &members);
    flags_compile_settings(c, parse_member(c, members.settings));
    compile_evaluators(c, members.evaluators, "$evaluators is an object");
    *document = (struct flags_compiler_document){.whole = true,
                                                 .flags = members.flags,
                                                 .metadata = members.metadata,
                                                 .evaluators = c->evaluators,
                                                 .generation = c->generation};
}

void flags_compile_document_flags(struct flags_compiler *c, uint32_t index)
{
    const struct flags_compiler_document *document = &c->documents[index];
    if (!document->whole)
        return;
    flags_compile_enter(c, index);
    c->generation = document->generation;
    c->set_metadata = (struct flags_span){0};
    c->set_metadata_tree = NULL;
    c->evaluators = document->evaluators;
    c->flag_at = 0;
    c->scratch->node_count = 0;
    c->scratch->char_count = c->char_floor;
    compile_set_metadata(c, document->metadata);
    if (c->status == STATUS_OK)
        compile_flags(c, document->flags);
}
