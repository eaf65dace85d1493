// SPDX-License-Identifier: Apache-2.0
// Checking one flag before it is kept: it is compiled beside as little of what is in force as can matter, the
// flags it asks for (and those that ask for it), each cut down to its variants and prerequisites. So the
// check costs the same whether the set has ten flags or a hundred thousand.
#include <stdio.h>

#include "flagset/flagset_private.h"

enum {
    STUBS_MAX = 1024, // flags that stand by; more is told, not compiled
    STUB_BYTES_MAX = 1 << 24,
    OTHERS = 0,  // the document of those
    CHECKED = 1, // the flag's own
};

struct check {
    const struct flagset_snapshot *snapshot;
    struct slice key;
    struct text others; // "{"flags":{..."
    size_t others_cap;
    uint32_t stubs;
    struct slice queue[STUBS_MAX]; // keys whose stubs are written or due; borrowed from documents or owned
    uint32_t queued;
    enum status status;
};

// ---- pieces of JSON ----

static bool grow(struct check *check, size_t more)
{
    size_t cap = check->others_cap;
    if (check->status != STATUS_OK)
        return false;
    while (cap < check->others.len + more + 1)
        cap = cap == 0 ? 4096 : cap * 2;
    void *data = cap <= STUB_BYTES_MAX ? heap_resize(check->others.data, cap) : NULL;
    if (data == NULL) {
        check->status = STATUS_NO_MEMORY;
        return false;
    }
    check->others.data = data;
    check->others.cap = cap;
    check->others_cap = cap;
    return true;
}

static void add(struct check *check, struct slice piece)
{
    if (grow(check, piece.len))
        text_add(&check->others, piece);
}

static size_t quote(struct slice bytes, char *out)
{
    static const char HEX[] = "0123456789abcdef";
    size_t len = 0;
    out[len++] = '"';
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char byte = (unsigned char)bytes.data[i];
        if (byte < 0x20) {
            memcpy(out + len, "\\u00", 4);
            out[len + 4] = HEX[byte >> 4];
            out[len + 5] = HEX[byte & 15];
            len += 6;
            continue;
        }
        if (byte == '"' || byte == '\\')
            out[len++] = '\\';
        out[len++] = (char)byte;
    }
    out[len++] = '"';
    return len;
}

struct slice flagset_quote(struct slice bytes, char **buffer)
{
    *buffer = heap_alloc(bytes.len * 6 + 3, 1);
    if (*buffer == NULL)
        return (struct slice){"", 0};
    return (struct slice){*buffer, quote(bytes, *buffer)};
}

enum status flagset_tree_parse(struct slice json, struct flagset_tree *tree, struct flags_json_fault *fault)
{
    *tree = (struct flagset_tree){0};
    // Each node but the first follows a bracket or a comma.
    uint32_t nodes = 2;
    for (size_t i = 0; i < json.len; i++)
        nodes += json.data[i] == ',' || json.data[i] == '{' || json.data[i] == '[';
    tree->space = (struct flags_json_space){.node_cap = nodes, .char_cap = json.len + 1};
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

static void enqueue(struct check *check, struct slice key)
{
    struct flags_info info;
    if (slice_equal(key, check->key) || !flags_set_find(&check->snapshot->all.set, key, &info))
        return;
    for (uint32_t i = 0; i < check->queued; i++)
        if (slice_equal(check->queue[i], key))
            return;
    if (check->queued == STUBS_MAX) {
        check->status = STATUS_FULL;
        return;
    }
    check->queue[check->queued++] = info.key; // borrowed from the image
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

static bool asks_for(const struct flags_json *flag, struct slice key)
{
    const struct flags_json *list = prerequisites_of(flag);
    for (const struct flags_json *p = list != NULL ? list->first : NULL; p != NULL; p = p->next) {
        const struct flags_json *name = flags_json_member(p, SLICE("flag"));
        if (name != NULL && name->kind == FLAGS_JSON_STRING && slice_equal(name->text, key))
            return true;
    }
    return false;
}

// Those that need a variant of the flag that the new definition may have lost.
static void enqueue_dependents(struct check *check)
{
    const struct flags_set *set = &check->snapshot->all.set;
    struct flags_info info;
    uint32_t cursor = 0;
#ifdef BUG_FLAGSET_CHECK_ONE_WAY
    return;
#endif
    if (!flags_set_find(set, check->key, &info))
        return;
    while (flags_set_next(set, &cursor, &info)) {
        struct slice json;
        const char *name;
        struct flagset_tree tree = {0};
        struct flags_json_fault fault;
        if (info.prerequisite_count == 0 ||
            !flagset_snapshot_definition(check->snapshot, info.key, &json, &name))
            continue;
        enum status status = flagset_tree_parse(json, &tree, &fault);
        if (status == STATUS_OK && asks_for(tree.root, check->key))
            enqueue(check, info.key);
        if (status == STATUS_NO_MEMORY)
            check->status = status;
        flagset_tree_free(&tree);
    }
}

static void write_stub(struct check *check, struct slice key)
{
    struct slice json;
    const char *name;
    char *quoted;
    struct flagset_tree tree = {0};
    struct flags_json_fault fault;
    add(check, SLICE("\n")); // a line for each, so that a fault's line tells whose it is
    if (!flagset_snapshot_definition(check->snapshot, key, &json, &name))
        return;
    enum status status = flagset_tree_parse(json, &tree, &fault);
    if (status != STATUS_OK) {
        // In force, so it can be read; but for want of memory.
        check->status = status;
        flagset_tree_free(&tree);
        return;
    }
    const struct flags_json *variants = flags_json_member(tree.root, SLICE("variants"));
    const struct flags_json *list = prerequisites_of(tree.root);
    if (check->stubs++ > 0)
        add(check, SLICE(","));
    add(check, flagset_quote(key, &quoted));
    heap_free(quoted);
    add(check, SLICE(":{\"state\":\"ENABLED\",\"variants\":"));
    add(check, variants != NULL ? variants->text : SLICE("{}"));
    if (list != NULL) {
        add(check, SLICE(",\"x-sluice\":{\"prerequisites\":"));
        add(check, list->text);
        add(check, SLICE("}"));
    }
    add(check, SLICE("}"));
    enqueue_prerequisites(check, tree.root);
    flagset_tree_free(&tree);
}

static void gather(struct check *check, const struct flags_json *flag)
{
    add(check, SLICE("{\"flags\":{"));
    enqueue_prerequisites(check, flag);
    enqueue_dependents(check);
    for (uint32_t i = 0; i < check->queued && check->status == STATUS_OK; i++)
        write_stub(check, check->queue[i]);
    add(check, SLICE("}}"));
}

// ---- the check ----

static void say(struct flagset_problem *problem, bool error, uint32_t line, uint32_t column, const char *what)
{
    problem->error = error;
    (void)snprintf(problem->text, sizeof problem->text, "%u:%u: %s", line, column, what);
}

// The worst of what was found; positions count from the definition's first byte.
static void say_fault(const struct check *check, const struct flagset_compiler *compiler, uint32_t before,
                      struct flagset_problem *problem)
{
    const struct flags_problem *worst = NULL;
    for (size_t i = 0; i < compiler->fault_count; i++) {
        const struct flags_problem *fault = &compiler->faults[i];
        bool counts = fault->severity == FLAGS_ERROR || fault->document == CHECKED;
        if (counts && (worst == NULL || (fault->severity == FLAGS_ERROR && worst->severity != FLAGS_ERROR)))
            worst = fault;
    }
    if (worst == NULL)
        return;
    struct flags_problem fault = *worst;
    if (fault.document == CHECKED) {
        fault.key = (struct slice){"", 0};
        if (fault.line == 1)
            fault.column = fault.column > before ? fault.column - before : 1;
    } else {
        if (fault.line >= 2 && fault.line - 2 < check->queued)
            fault.key = check->queue[fault.line - 2];
        fault.line = 1;
        fault.column = 1;
    }
    problem->error = fault.severity == FLAGS_ERROR;
    flagset_fault_text(&fault, NULL, problem->text);
}

static enum status compile_beside(const struct check *check, struct slice definition,
                                  struct flagset_problem *problem)
{
    static const char HEAD[] = "{\"flags\":{";
    char *quoted;
    struct slice key = flagset_quote(check->key, &quoted);
    size_t before = sizeof HEAD - 1 + key.len + 1;
    char *own = heap_alloc(before + definition.len + 3, 1);
    struct flagset_compiler *compiler = heap_alloc(1, sizeof *compiler);
    struct flagset_image *image = NULL;
    enum status status = STATUS_NO_MEMORY;
    if (quoted != NULL && own != NULL && compiler != NULL) {
        int len = snprintf(own, before + 1, "%s%.*s:", HEAD, SLICE_ARG(key));
        CHECK(len == (int)before);
        memcpy(own + before, definition.data, definition.len);
        memcpy(own + before + definition.len, "}}", 2);
        const struct flags_document documents[] = {
            [OTHERS] = {{check->others.data, check->others.len}, "others"},
            [CHECKED] = {{own, before + definition.len + 2}, "checked"},
        };
        const struct flagset_document *segments = check->snapshot->contents->segments;
        struct flags_bundle bundle = {.documents = documents, .document_count = ARRAY_LEN(documents)};
        if (segments != NULL)
            bundle.segments = (struct slice){segments->json, segments->len};
        status = flagset_compile(compiler, &bundle, &image);
        say_fault(check, compiler, (uint32_t)before, problem);
        flagset_compiler_deinit(compiler);
    }
    flagset_image_unref(image);
    heap_free(compiler);
    heap_free(own);
    heap_free(quoted);
    return status;
}

static enum status check_tree(struct check *check, struct slice definition, const struct flags_json *flag,
                              struct flagset_problem *problem)
{
    gather(check, flag);
    if (check->status == STATUS_FULL) {
        say(problem, true, 1, 1, "too many flags depend on each other");
        return STATUS_INVALID;
    }
    return check->status == STATUS_OK ? compile_beside(check, definition, problem) : check->status;
}

enum status flagset_check_flag(const struct flagset *set, struct slice key, struct slice definition,
                               struct flagset_problem *problem)
{
    struct flagset_tree tree = {0};
    struct flags_json_fault fault;
    struct flagset_problem found = {0};
    struct check *check = heap_alloc(1, sizeof *check);
    if (check == NULL)
        return STATUS_NO_MEMORY;
    *check = (struct check){.snapshot = set->current, .key = key};
    enum status status = flagset_tree_parse(definition, &tree, &fault);
    if (!flags_utf8_valid(key) || key.len == 0) {
        say(&found, true, 1, 1, "a flag's key is text of at least one character");
        status = STATUS_INVALID;
    } else if (status == STATUS_INVALID) {
        uint32_t line;
        uint32_t column;
        flags_json_position(definition, fault.at, &line, &column);
        say(&found, true, line, column, fault.what);
    } else if (status == STATUS_OK) {
        status = check_tree(check, definition, tree.root, &found);
    }
    flagset_tree_free(&tree);
    heap_free(check->others.data);
    heap_free(check);
    *problem = found;
    return status;
}
