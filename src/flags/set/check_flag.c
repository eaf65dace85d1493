// SPDX-License-Identifier: Apache-2.0
// Checking flags before they are kept: they are compiled beside as little of the rest as can matter, the
// flags they ask for (and those that ask for them), each cut down to its variants and prerequisites. So the
// check costs the same whether the set has ten flags or a hundred thousand. The rest is what is in force, but
// with the newest overlay, which may not be in force yet.
#include <stdio.h>

#include "base/utf8.h"
#include "flags/set/flagset_private.h"

enum {
    STUBS_MAX = 1024, // flags that stand by; more is told, not compiled
    STUB_BYTES_MAX = 1 << 24,
    OTHERS = 0,  // the document of those
    CHECKED = 1, // the flag's own
    SHARED = 2,  // the first of those with evaluators that rules may refer to
};

struct check {
    const struct flagset_snapshot *snapshot;
    const struct flagset_document *overlay; // newest
    struct flagset_document *own;           // of the flags checked
    struct json_out others;                 // "{"flags":{..."
    uint32_t stubs;
    struct slice queue[STUBS_MAX]; // keys whose stubs are written or due
    char *keys[STUBS_MAX];         // heap: their text
    uint32_t queued;
    enum status status;
};

// ---- trees ----

enum status flagset_tree_parse(struct slice json, struct flagset_tree *tree, struct flags_json_error *fault)
{
    *tree = (struct flagset_tree){0};
    // Each node but the first follows a bracket or a comma.
    uint64_t nodes = 2;
    for (size_t i = 0; i < json.len; i++)
        nodes += json.data[i] == ',' || json.data[i] == '{' || json.data[i] == '[';
    nodes = flags_json_node_need(nodes);
    if (nodes > UINT32_MAX)
        return STATUS_NO_MEMORY;
    tree->space = (struct flags_json_space){.node_cap = (uint32_t)nodes, .char_cap = json.len + 1};
    tree->space.nodes = heap_alloc(nodes, sizeof *tree->space.nodes);
    tree->space.chars = heap_alloc(json.len + 1, 1);
    if (tree->space.nodes == NULL || tree->space.chars == NULL)
        return STATUS_NO_MEMORY;
    return flags_json_parse(json, &tree->space, &tree->root, fault);
}

void flagset_tree_free(struct flagset_tree *tree)
{
    heap_free(tree->space.nodes);
    heap_free(tree->space.chars);
}

// ---- who stands by ----

static const struct flags_json *prerequisites_of(const struct flags_json *flag)
{
    const struct flags_json *list =
        flags_json_member(flags_json_member(flag, SLICE("x-sluice")), SLICE("prerequisites"));
    return list != NULL && list->kind == FLAGS_JSON_ARRAY ? list : NULL;
}

// The definition that will count for a flag that is not checked itself.
static bool find_other(const struct check *check, struct slice key, struct slice *definition)
{
    const struct flagset_contents *contents = check->snapshot->contents;
    if (flagset_document_find(check->own, key) != NULL)
        return false;
    for (uint32_t i = contents->document_count; i-- > 0;) {
        bool last = i + 1 == contents->document_count;
        const struct flagset_document *document = last ? check->overlay : contents->documents[i];
        const struct flagset_entry *entry = flagset_document_find(document, key);
        if (entry != NULL) {
            *definition = flagset_document_value(document, entry);
            return true;
        }
    }
    return false;
}

static void enqueue(struct check *check, struct slice key)
{
    struct slice definition;
    if (!find_other(check, key, &definition))
        return;
    for (uint32_t i = 0; i < check->queued; i++)
        if (slice_equal(check->queue[i], key))
            return;
    if (check->queued == STUBS_MAX) {
        check->status = STATUS_FULL;
        return;
    }
    char *copy = heap_strndup(key.data, key.len);
    if (copy == NULL)
        check->status = STATUS_NO_MEMORY;
    else {
        check->keys[check->queued] = copy;
        check->queue[check->queued++] = (struct slice){copy, key.len};
    }
}

static void enqueue_prerequisites(struct check *check, const struct flags_json *flag)
{
    const struct flags_json *list = prerequisites_of(flag);
    for (const struct flags_json *p = list != NULL ? list->first : NULL; p != NULL; p = p->next) {
        const struct flags_json *name = flags_json_member(p, SLICE("flag"));
        if (name != NULL && name->kind == FLAGS_JSON_STRING)
            enqueue(check, name->text);
    }
}

static bool asks_for_own(const struct check *check, const struct flags_json *flag)
{
    const struct flags_json *list = prerequisites_of(flag);
    for (const struct flags_json *p = list != NULL ? list->first : NULL; p != NULL; p = p->next) {
        const struct flags_json *name = flags_json_member(p, SLICE("flag"));
        if (name != NULL && name->kind == FLAGS_JSON_STRING &&
            flagset_document_find(check->own, name->text) != NULL)
            return true;
    }
    return false;
}

static void enqueue_if_dependent(struct check *check, struct slice key)
{
    struct slice json;
    struct flagset_tree tree = {0};
    struct flags_json_error fault;
    if (!find_other(check, key, &json))
        return;
    enum status status = flagset_tree_parse(json, &tree, &fault);
    if (status == STATUS_OK && asks_for_own(check, tree.root))
        enqueue(check, key);
    if (status == STATUS_NO_MEMORY)
        check->status = status;
    flagset_tree_free(&tree);
}

// Of what was laid over but is not in force.
static void enqueue_pending(struct check *check)
{
    static const struct slice WORD = SLICE("prerequisites");
    for (uint32_t i = 0; i < check->overlay->entry_count; i++) {
        const struct flagset_entry *entry = &check->overlay->entries[i];
        struct slice json = flagset_document_value(check->overlay, entry);
        char *buffer;
        if (memmem(json.data, json.len, WORD.data, WORD.len) == NULL)
            continue;
        struct slice key = flagset_document_key(check->overlay, entry, &buffer);
        enqueue_if_dependent(check, key);
        heap_free(buffer);
    }
}

// What is new nobody can have asked for.
static bool replaces_any(const struct check *check)
{
    struct flags_info info;
    bool any = false;
    for (uint32_t i = 0; i < check->own->entry_count && !any; i++) {
        char *buffer;
        struct slice key = flagset_document_key(check->own, &check->own->entries[i], &buffer);
        any = flags_image_find(&check->snapshot->all.set, key, &info) ||
              flagset_document_find(check->overlay, key) != NULL;
        heap_free(buffer);
    }
    return any;
}

// Those that need a variant of a flag that its new definition may have lost.
static void enqueue_dependents(struct check *check)
{
    const struct flags_image *set = &check->snapshot->all.set;
    struct flags_info info;
    uint32_t cursor = 0;
    if (!replaces_any(check))
        return;
    while (flags_image_next(set, &cursor, &info))
        if (info.prerequisite_count > 0)
            enqueue_if_dependent(check, info.key);
    if (check->overlay != check->snapshot->contents->documents[check->snapshot->contents->document_count - 1])
        enqueue_pending(check);
}

static void write_stub(struct check *check, struct slice key)
{
    struct slice json;
    struct flagset_tree tree = {0};
    struct flags_json_error fault;
    JSON_OUT(&check->others, "\n"); // a line for each, so that a fault's line tells whose it is
    if (!find_other(check, key, &json))
        return;
    enum status status = flagset_tree_parse(json, &tree, &fault);
    if (status != STATUS_OK) {
        // It was read before, so it can be read; but for want of memory.
        check->status = status;
        flagset_tree_free(&tree);
        return;
    }
    const struct flags_json *variants = flags_json_member(tree.root, SLICE("variants"));
    const struct flags_json *list = prerequisites_of(tree.root);
    if (check->stubs++ > 0)
        JSON_OUT(&check->others, ",");
    json_out_quote(&check->others, key);
    JSON_OUT(&check->others, ":{\"state\":\"ENABLED\",\"variants\":");
    json_out_bytes(&check->others, variants != NULL ? variants->text : SLICE("{}"));
    if (list != NULL) {
        JSON_OUT(&check->others, ",\"x-sluice\":{\"prerequisites\":");
        json_out_bytes(&check->others, list->text);
        JSON_OUT(&check->others, "}");
    }
    JSON_OUT(&check->others, "}");
    enqueue_prerequisites(check, tree.root);
    flagset_tree_free(&tree);
}

static void gather(struct check *check, const struct flags_json *flags)
{
    JSON_OUT(&check->others, "{\"flags\":{");
    for (const struct flags_json *flag = flags->first; flag != NULL; flag = flag->next)
        enqueue_prerequisites(check, flag);
    enqueue_dependents(check);
    for (uint32_t i = 0; i < check->queued && check->status == STATUS_OK; i++)
        write_stub(check, check->queue[i]);
    JSON_OUT(&check->others, "}}");
    if (check->status == STATUS_OK)
        check->status = check->others.status;
}

// ---- the check ----

static enum status say(struct fault *problem, uint32_t line, uint32_t column, const char *what)
{
    return fault_set(problem, STATUS_INVALID, "%u:%u: %s", line, column, what);
}

static void say_unreadable(struct fault *problem, struct slice json, const struct flags_json_error *fault)
{
    uint32_t line;
    uint32_t column;
    flags_json_position(json, fault->at, &line, &column);
    (void)say(problem, line, column, fault->what);
}

// The worst of what was found; a warning is none that refuses. `before`: bytes of the first line that are not
// the caller's.
static void say_fault(const struct check *check, const struct flagset_builder *builder, uint32_t before,
                      bool named, struct fault *problem)
{
    const struct flags_finding *worst = NULL;
    for (size_t i = 0; i < builder->finding_count; i++) {
        const struct flags_finding *fault = &builder->findings[i];
        bool counts = fault->severity == FLAGS_ERROR || fault->document == CHECKED;
        if (counts && (worst == NULL || fault->severity > worst->severity))
            worst = fault;
    }
    if (worst == NULL)
        return;
    struct flags_finding fault = *worst;
    if (fault.document == CHECKED) {
        if (!named)
            fault.key = (struct slice){"", 0};
        if (fault.line == 1)
            fault.column = fault.column > before ? fault.column - before : 1;
    } else {
        if (fault.line >= 2 && fault.line - 2 < check->queued)
            fault.key = check->queue[fault.line - 2];
        fault.line = 1;
        fault.column = 1;
    }
    problem->status = fault.severity != FLAGS_WARNING ? STATUS_INVALID : STATUS_OK;
    flagset_finding_text(&fault, NULL, problem->text);
}

// The evaluators of all documents, each in one of its own; *text holds them. The number of the next document.
static uint32_t add_evaluators(const struct check *check, struct flags_bundle_document *documents,
                               struct json_out *text)
{
    const struct flagset_contents *contents = check->snapshot->contents;
    uint32_t count = SHARED;
    for (uint32_t i = 0; i + 1 < contents->document_count && count < FLAGS_DOCUMENTS_MAX; i++) {
        const struct flagset_document *document = contents->documents[i];
        size_t begin = text->len;
        if (document->evaluators.len == 0)
            continue;
        JSON_OUT(text, "{\"flags\":{},\"$evaluators\":");
        json_out_bytes(text, document->evaluators);
        JSON_OUT(text, "}");
        documents[count++] = (struct flags_bundle_document){{NULL, text->len - begin}, document->name};
    }
    size_t at = 0;
    for (uint32_t i = SHARED; i < count; at += documents[i++].json.len)
        documents[i].json.data = text->data + at;
    return count;
}

static enum status compile_beside(const struct check *check, uint32_t before, bool named,
                                  struct fault *problem)
{
    struct flags_bundle_document documents[FLAGS_DOCUMENTS_MAX] = {
        [OTHERS] = {json_out_slice(&check->others), "others"},
        [CHECKED] = {{check->own->json, check->own->len}, "checked"},
    };
    const struct flagset_document *segments = check->snapshot->contents->segments;
    struct json_out evaluators = {0};
    struct flags_bundle bundle = {.documents = documents};
    struct flagset_builder *builder = heap_alloc(1, sizeof *builder);
    struct flagset_built *image = NULL;
    if (builder == NULL)
        return STATUS_NO_MEMORY;
    if (segments != NULL)
        bundle.segments = (struct slice){segments->json, segments->len};
    bundle.document_count = add_evaluators(check, documents, &evaluators);
    enum status status = evaluators.status;
    if (status == STATUS_OK)
        status = flagset_build(builder, &bundle, &image);
    say_fault(check, builder, before, named, problem);
    if (status == STATUS_OK)
        status = problem->status;
    flagset_builder_deinit(builder);
    flagset_built_unref(image);
    json_out_free(&evaluators);
    heap_free(builder);
    return status;
}

// Makes the document of the flags checked. `before` grows by what is put before them.
static enum status make_own(struct check *check, struct slice flags, uint32_t *before)
{
    static const char HEAD[] = "{\"flags\":";
    char problem[FLAGSET_PROBLEM_BYTES];
    size_t len = sizeof HEAD - 1 + flags.len + 1;
    char *json = heap_alloc(len + 1, 1);
    if (json == NULL)
        return STATUS_NO_MEMORY;
    memcpy(json, HEAD, sizeof HEAD - 1);
    memcpy(json + sizeof HEAD - 1, flags.data, flags.len);
    json[len - 1] = '}';
    *before += sizeof HEAD - 1;
    return flagset_document_create("checked", "checked", json, len, &check->own, problem);
}

static enum status check_keys(const struct flags_json *flags, struct fault *problem)
{
    if (flags->kind != FLAGS_JSON_OBJECT)
        return say(problem, 1, 1, "flags are an object of keys and definitions");
    for (const struct flags_json *flag = flags->first; flag != NULL; flag = flag->next)
        if (flag->key.len == 0)
            return say(problem, 1, 1, "a flag's key is text of at least one character");
    return STATUS_OK;
}

static enum status check_tree(struct check *check, struct slice flags, const struct flags_json *tree,
                              uint32_t before, bool named, struct fault *problem)
{
    enum status status = check_keys(tree, problem);
    if (status == STATUS_OK)
        status = make_own(check, flags, &before);
    if (status != STATUS_OK)
        return status;
    gather(check, tree);
    if (check->status == STATUS_FULL)
        return say(problem, 1, 1, "too many flags depend on each other");
    return check->status == STATUS_OK ? compile_beside(check, before, named, problem) : check->status;
}

// flags: the object's text. named: problems say whose they are.
static enum status check_object(const struct flagset *set, struct slice flags, uint32_t before, bool named,
                                struct fault *problem)
{
    struct flagset_tree tree = {0};
    struct flags_json_error fault;
    const struct flagset_contents *contents = set->current->contents;
    struct check *check = heap_alloc(1, sizeof *check);
    if (check == NULL)
        return STATUS_NO_MEMORY;
    *check = (struct check){.snapshot = set->current, .others = {.max = STUB_BYTES_MAX}};
    check->overlay = set->newest != NULL ? set->newest : contents->documents[contents->document_count - 1];
    enum status status = flagset_tree_parse(flags, &tree, &fault);
    if (status == STATUS_OK)
        status = check_tree(check, flags, tree.root, before, named, problem);
    else if (status == STATUS_INVALID)
        say_unreadable(problem, flags, &fault);
    flagset_tree_free(&tree);
    for (uint32_t i = 0; i < check->queued; i++)
        heap_free(check->keys[i]);
    flagset_document_unref(check->own);
    json_out_free(&check->others);
    heap_free(check);
    return status;
}

// So that nothing in a definition can close what stands around it.
static enum status check_alone(struct slice key, struct slice definition, struct fault *problem)
{
    struct flagset_tree tree = {0};
    struct flags_json_error fault;
    if (!utf8_valid(key) || key.len == 0)
        return say(problem, 1, 1, "a flag's key is text of at least one character");
    enum status status = flagset_tree_parse(definition, &tree, &fault);
    if (status == STATUS_INVALID)
        say_unreadable(problem, definition, &fault);
    flagset_tree_free(&tree);
    return status;
}

enum status flagset_check_flag(const struct flagset *set, struct slice key, struct slice definition,
                               struct fault *problem)
{
    struct fault found = {0};
    enum status status = check_alone(key, definition, &found);
    if (status == STATUS_OK) {
        struct json_out flags = {0};
        JSON_OUT(&flags, "{");
        json_out_quote(&flags, key);
        JSON_OUT(&flags, ":");
        uint32_t before = (uint32_t)flags.len;
        json_out_bytes(&flags, definition);
        JSON_OUT(&flags, "}");
        status = flags.status != STATUS_OK ? flags.status
                                           : check_object(set, json_out_slice(&flags), before, false, &found);
        json_out_free(&flags);
    }
    *problem = found;
    return status;
}

enum status flagset_check_flags(const struct flagset *set, struct slice flags, struct fault *problem)
{
    struct fault found = {0};
    enum status status = check_object(set, flags, 0, true, &found);
    *problem = found;
    return status;
}
