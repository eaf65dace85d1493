// SPDX-License-Identifier: Apache-2.0
// Runs the feature files of the flagd testbed as far as they concern evaluation, where they lie
// (SLUICE_CONFORMANCE). Who evaluates is the caller's choice: the library itself, or a server over its
// protocol.
#pragma once

#include "flags_fixture.h"
#include "test.h"

// For comparing values; made when first used, as the leak checker reads all that is static.
static struct flags_fixture *spare(int which)
{
    static struct flags_fixture *spares[2];
    if (spares[which] == NULL)
        spares[which] = calloc(1, sizeof *spares[which]);
    CHECK(spares[which] != NULL);
    return spares[which];
}

static char cases_root[512]; // of the cases

struct count {
    int passed;
    int failed;
    int skipped;
};

typedef struct flags_result testbed_evaluate(struct flags_fixture *f, const char *key, enum flags_type type,
                                             const struct flags_context *context);

static testbed_evaluate *evaluate;

static bool trees_equal(const struct flags_json *a, const struct flags_json *b)
{
    if (a->kind != b->kind || a->count != b->count)
        return false;
    if (a->kind == FLAGS_JSON_NUMBER)
        return a->number == b->number;
    if (a->kind == FLAGS_JSON_STRING)
        return slice_equal(a->text, b->text);
    const struct flags_json *y = b->first;
    for (const struct flags_json *x = a->first; x != NULL; x = x->next, y = y->next) {
        const struct flags_json *twin = a->kind == FLAGS_JSON_OBJECT ? flags_json_member(b, x->key) : y;
        if (twin == NULL || !trees_equal(x, twin))
            return false;
    }
    return true;
}

enum { ROWS_MAX = 64, COLUMNS_MAX = 8, STEPS_MAX = 24, CELL_MAX = 1024, LINE_MAX_BYTES = 4096 };

struct table {
    char cell[ROWS_MAX][COLUMNS_MAX][CELL_MAX];
    int rows;
    int columns;
};

struct step {
    char text[LINE_MAX_BYTES];
    struct table *table; // behind the step, or NULL
};

static struct table step_tables[4];
static int step_table_count;
static struct table examples;
static struct step scenario_steps[STEPS_MAX];
static int step_count;
static struct step background[STEPS_MAX];
static int background_count;
static char scenario_tags[512];
static char scenario_name[512];

// What one scenario has set up.
static struct {
    enum flags_type type;
    char key[256];
    char fallback[CELL_MAX];
    char context[1 << 15];
    char targeting_key[CELL_MAX];
    bool has_targeting_key;
    char selector[256];
    struct flags_result result;
} scene;

static const char *feature_file;
static struct count *feature_count;
static uint64_t scenario_now_s = 1763715600;

static void trim(char *s)
{
    size_t len = strlen(s);
    while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\n' || s[len - 1] == '\r' || s[len - 1] == '\t'))
        s[--len] = '\0';
    size_t lead = strspn(s, " \t");
    memmove(s, s + lead, len - lead + 1);
}

static void add_row(struct table *table, const char *line)
{
    int column = 0;
    CHECK(table->rows < ROWS_MAX);
    const char *at = strchr(line, '|') + 1;
    for (const char *end; (end = strchr(at, '|')) != NULL; at = end + 1) {
        CHECK(column < COLUMNS_MAX && end - at < CELL_MAX);
        char *cell = table->cell[table->rows][column++];
        memcpy(cell, at, (size_t)(end - at));
        cell[end - at] = '\0';
        trim(cell);
    }
    table->columns = column;
    table->rows++;
}

// Replaces <name> by the row's cell.
static void substitute(const char *template, int row, char *out, size_t cap)
{
    size_t len = 0;
    for (const char *at = template; *at != '\0' && len + 1 < cap;) {
        const char *end = *at == '<' ? strchr(at, '>') : NULL;
        const char *cell = NULL;
        for (int c = 0; end != NULL && row > 0 && c < examples.columns; c++) {
            const char *name = examples.cell[0][c];
            if (strlen(name) == (size_t)(end - at - 1) && memcmp(name, at + 1, strlen(name)) == 0)
                cell = examples.cell[row][c];
        }
        if (cell == NULL) {
            out[len++] = *at++;
            continue;
        }
        len += (size_t)snprintf(out + len, cap - len, "%s", cell);
        at = end + 1;
    }
    out[len] = '\0';
}

static void unescape_quotes(char *s)
{
    char *out = s;
    for (char *at = s; *at != '\0'; at++)
        if (at[0] != '\\' || at[1] != '"')
            *out++ = *at;
    *out = '\0';
}

// The n-th text in quotes of a template, with the row put in. The last one of a step ends the line.
static void quoted(const char *template, int n, int row, char *out, size_t cap)
{
    char raw[LINE_MAX_BYTES];
    const char *at = template;
    for (int i = 0; i < n; i++) {
        at = strchr(at, '"');
        CHECK(at != NULL);
        at = strchr(at + 1, '"');
        CHECK(at != NULL);
        at++;
    }
    at = strchr(at, '"');
    CHECK(at != NULL);
    const char *end = strchr(at + 1, '"');
    CHECK(end != NULL);
    snprintf(raw, sizeof raw, "%.*s", (int)(end - at - 1), at + 1);
    substitute(raw, row, out, cap);
}

static void add_member(const char *key, const char *type, const char *value)
{
    struct text out = {scene.context, strlen(scene.context), sizeof scene.context, false};
    char copy[CELL_MAX];
    if (out.len > 0)
        text_add_char(&out, ',');
    text_addf(&out, "\"%s\":", key);
    snprintf(copy, sizeof copy, "%s", value);
    if (strcmp(type, "String") != 0) {
        unescape_quotes(copy);
        // -0.0 and .0 forms are JSON already; booleans too.
        text_addf(&out, "%s", copy);
        return;
    }
    text_add_char(&out, '"');
    for (const char *at = copy; *at != '\0'; at++)
        text_addf(&out, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
    text_add_char(&out, '"');
}

static enum flags_type type_named(const char *name)
{
    static const char *const NAMES[] = {"Any", "Boolean", "String", "Integer", "Float", "Object"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (strncmp(name, NAMES[i], strlen(NAMES[i])) == 0)
            return (enum flags_type)i;
    check_failed("a type of flag", __FILE__, __LINE__);
}

static void evaluate_scene(void)
{
    static char json[sizeof scene.context + 4];
    snprintf(json, sizeof json, "{%s}", scene.context);
    struct flags_context context = {.tree = fixture_tree(&fixture, slice_of(json)),
                                    .has_targeting_key = scene.has_targeting_key,
                                    .targeting_key = slice_of(scene.targeting_key),
                                    .time_s = scenario_now_s};
    scene.result = evaluate(&fixture, scene.key, scene.type, &context);
}

static bool value_is(const char *wanted)
{
    const struct flags_result *r = &scene.result;
    char copy[CELL_MAX];
    if (!r->has_value)
        return strcmp(wanted, scene.fallback) == 0;
    snprintf(copy, sizeof copy, "%s", wanted);
    switch (r->type) {
    case FLAGS_BOOLEAN:
        return strcmp(wanted, r->boolean ? "true" : "false") == 0;
    case FLAGS_STRING:
        return slice_equal(r->text, slice_of(wanted));
    case FLAGS_OBJECT:
        unescape_quotes(copy);
        return trees_equal(fixture_tree(spare(0), r->json), fixture_tree(spare(1), slice_of(copy)));
    default:
        return strtod(wanted, NULL) == r->number;
    }
}

static bool metadata_has(const struct table *table)
{
    if (scene.result.metadata.len == 0)
        return false;
    const struct flags_json *tree = fixture_tree(spare(0), scene.result.metadata);
    for (int row = 1; row < table->rows; row++) {
        const struct flags_json *m = flags_json_member(tree, slice_of(table->cell[row][0]));
        const char *type = table->cell[row][1];
        const char *value = table->cell[row][2];
        if (m == NULL)
            return false;
        bool same = strcmp(type, "String") == 0
                        ? m->kind == FLAGS_JSON_STRING && slice_equal(m->text, slice_of(value))
                    : strcmp(type, "Boolean") == 0
                        ? m->kind == (strcmp(value, "true") == 0 ? FLAGS_JSON_TRUE : FLAGS_JSON_FALSE)
                        : m->kind == FLAGS_JSON_NUMBER && m->number == strtod(value, NULL);
        if (!same)
            return false;
    }
    return tree->count == (uint32_t)table->rows - 1;
}

enum outcome { OK, WRONG, UNKNOWN };

static enum outcome expect(const char *t, int row, const struct table *table)
{
    char a[CELL_MAX];
    if (strstr(t, "the resolved details value should be") != NULL) {
        quoted(t, 0, row, a, sizeof a);
        return value_is(a) ? OK : WRONG;
    }
    if (strstr(t, "the reason should be") != NULL) {
        quoted(t, 0, row, a, sizeof a);
        return strcmp(a, flags_reason_name(scene.result.reason)) == 0 ? OK : WRONG;
    }
    if (strstr(t, "the error-code should be") != NULL) {
        quoted(t, 0, row, a, sizeof a);
        return strcmp(a, flags_error_name(scene.result.error)) == 0 ? OK : WRONG;
    }
    if (strstr(t, "the resolved metadata should contain") != NULL)
        return table != NULL && metadata_has(table) ? OK : WRONG;
    if (strstr(t, "the resolved metadata is empty") != NULL)
        return scene.result.metadata.len == 0 ? OK : WRONG;
    return UNKNOWN;
}

static enum outcome take_step(const char *t, int row, const struct table *table)
{
    char a[CELL_MAX];
    char b[CELL_MAX];
    char v[CELL_MAX];
    if (strstr(t, "an evaluator") != NULL || strstr(t, "flagd provider") != NULL)
        return OK;
    if (strstr(t, "an option") != NULL) {
        quoted(t, 0, row, a, sizeof a);
        if (strcmp(a, "selector") == 0)
            quoted(t, 2, row, scene.selector, sizeof scene.selector);
        return OK;
    }
    if (strstr(t, "-flag with key") != NULL) {
        substitute(strstr(t, "a ") + 2, row, v, sizeof v);
        scene.type = type_named(v);
        quoted(t, 0, row, scene.key, sizeof scene.key);
        quoted(t, 1, row, scene.fallback, sizeof scene.fallback);
        return OK;
    }
    if (strstr(t, "a targeting key with value") != NULL) {
        scene.has_targeting_key = true;
        quoted(t, 0, row, scene.targeting_key, sizeof scene.targeting_key);
        return OK;
    }
    if (strstr(t, "a nested property") != NULL) {
        char object[CELL_MAX * 2 + 16];
        quoted(t, 0, row, a, sizeof a);
        quoted(t, 1, row, b, sizeof b);
        quoted(t, 2, row, v, sizeof v);
        snprintf(object, sizeof object, "{\"%s\":\"%s\"}", b, v);
        add_member(a, "Object", object);
        return OK;
    }
    if (strstr(t, "a context containing a key") != NULL) {
        quoted(t, 0, row, a, sizeof a);
        quoted(t, 1, row, b, sizeof b);
        quoted(t, 2, row, v, sizeof v);
        add_member(a, b, v);
        return OK;
    }
    if (strstr(t, "the flag was evaluated with details") != NULL) {
        evaluate_scene();
        return OK;
    }
    return expect(t, row, table);
}

static uint8_t generation_of(const char *tags)
{
    if (strstr(tags, "@fractional-v1") != NULL)
        return FLAGS_GENERATION_1;
    if (strstr(tags, "@fractional-v3") != NULL)
        return FLAGS_GENERATION_3;
    return strstr(tags, "@fractional") != NULL ? FLAGS_GENERATION_2 : FLAGS_GENERATION_3;
}

static void append_file(struct text *flags, struct text *evaluators, const char *path);

// The flag file that a scenario means, compiled: the testkit's, the one the selector names, or all merged.
static void load_flags(uint8_t generation)
{
    static char json[1 << 18];
    static char flags_text[1 << 17];
    static char evaluators_text[1 << 14];
    char path[900];
    size_t len = 0;
    const char *selected = strstr(scene.selector, "rawflags/");
    bool testkit = strstr(feature_file, "/evaluator/") != NULL;
    if (testkit || selected != NULL) {
        snprintf(path, sizeof path, "%s/flagd/testbed/%s/%s", cases_root,
                 testkit ? "evaluator/flags" : "flags", testkit ? "testkit-flags.json" : selected + 9);
        char *text = fixture_read(path, &len);
        CHECK(text != NULL);
        snprintf(json, sizeof json, "%s", text);
        free(text);
    } else {
        static const char *const FILES[] = {"testing-flags",  "custom-ops",   "edge-case-flags",
                                            "evaluator-refs", "zero-flags",   "disabled-flags",
                                            "metadata-flags", "changing-flag"};
        struct text flags = text_over(flags_text, sizeof flags_text);
        struct text evaluators = text_over(evaluators_text, sizeof evaluators_text);
        for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
            snprintf(path, sizeof path, "%s/flagd/testbed/flags/%s.json", cases_root, FILES[i]);
            append_file(&flags, &evaluators, path);
        }
        snprintf(json, sizeof json, "{\"flags\":{%s},\"$evaluators\":{%s}}", flags_text, evaluators_text);
    }
    enum status status = fixture_compile_with(&fixture, slice_of(json), false, generation);
    if (status != STATUS_OK)
        printf("%s: %s\n", status_name(status), fixture.problem_count > 0 ? fixture.problems[0].message : "");
    assert_int_equal(status, STATUS_OK);
}

static void append_members(struct text *out, const struct flags_json *object)
{
    for (const struct flags_json *m = object != NULL ? object->first : NULL; m != NULL; m = m->next) {
        char name[300];
        snprintf(name, sizeof name, "\"" SLICE_FMT "\":{", SLICE_ARG(m->key));
        const char *known = strstr(out->data, name);
        if (known != NULL && (known == out->data || known[-1] == '\n'))
            continue;
        text_addf(out, "%s\n\"" SLICE_FMT "\":" SLICE_FMT, out->len > 0 ? "," : "", SLICE_ARG(m->key),
                  SLICE_ARG(m->text));
        CHECK(!out->cut);
    }
}

static void append_file(struct text *flags, struct text *evaluators, const char *path)
{
    size_t len = 0;
    char *text = fixture_read(path, &len);
    CHECK(text != NULL);
    const struct flags_json *tree = fixture_tree(spare(0), (struct slice){text, len});
    append_members(flags, flags_json_member(tree, SLICE("flags")));
    append_members(evaluators, flags_json_member(tree, SLICE("$evaluators")));
    free(text);
}

// One expanded scenario.
static void run_scenario(int row, const char *tags)
{
    memset(&scene, 0, sizeof scene);
    enum outcome outcome = OK;
    const char *at = "";
    uint8_t generation = generation_of(tags);
    if (strstr(tags, "@deprecated") != NULL) {
        feature_count->skipped++;
        return;
    }
    for (int i = 0; i < background_count; i++)
        if (strstr(background[i].text, "an option \"selector\"") != NULL)
            (void)take_step(background[i].text, row, NULL);
    for (int i = 0; i < step_count; i++)
        if (strstr(scenario_steps[i].text, "an option \"selector\"") != NULL)
            (void)take_step(scenario_steps[i].text, row, NULL);
    load_flags(generation);
    for (int i = 0; i < background_count && outcome == OK; i++)
        outcome = take_step(at = background[i].text, row, NULL);
    for (int i = 0; i < step_count && outcome == OK; i++)
        outcome = take_step(at = scenario_steps[i].text, row, scenario_steps[i].table);
    feature_count->passed += outcome == OK;
    feature_count->failed += outcome != OK;
    if (outcome != OK)
        printf("FAILED: %s: %s, row %d (%s), v%u: %s: got %s %s \"" SLICE_FMT "\" " SLICE_FMT "\n",
               strrchr(feature_file, '/') + 1, scenario_name, row, row > 0 ? examples.cell[row][0] : "",
               generation, at, flags_reason_name(scene.result.reason), flags_error_name(scene.result.error),
               SLICE_ARG(scene.result.json), SLICE_ARG(scene.result.error_text));
}

// All rows under one "Examples:" heading.
static void run_examples(const char *tags)
{
    for (int row = 1; row < examples.rows; row++)
        run_scenario(row, tags);
    examples.rows = 0;
}

enum where { NOWHERE, IN_BACKGROUND, IN_SCENARIO, IN_EXAMPLES };

static void end_block(enum where where, bool outline, const char *tags)
{
    if (where == IN_EXAMPLES)
        run_examples(tags);
    else if (where == IN_SCENARIO && !outline && step_count > 0)
        run_scenario(0, tags);
}

static bool is_step(const char *line)
{
    static const char *const WORDS[] = {"Given ", "And ", "When ", "Then ", "But "};
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (strncmp(line, WORDS[i], strlen(WORDS[i])) == 0)
            return true;
    return false;
}

static void add_step(enum where where, const char *line)
{
    struct step *step =
        where == IN_BACKGROUND ? &background[background_count++] : &scenario_steps[step_count++];
    CHECK(background_count < STEPS_MAX && step_count < STEPS_MAX);
    snprintf(step->text, sizeof step->text, "%s", line);
    step->table = NULL;
}

static void add_table_row(enum where where, const char *line)
{
    if (where == IN_EXAMPLES) {
        add_row(&examples, line);
        return;
    }
    if (scenario_steps[step_count - 1].table == NULL) {
        CHECK(step_table_count < (int)ARRAY_LEN(step_tables));
        scenario_steps[step_count - 1].table = &step_tables[step_table_count++];
        scenario_steps[step_count - 1].table->rows = 0;
    }
    add_row(scenario_steps[step_count - 1].table, line);
}

static void run_feature(const char *path, struct count *count)
{
    char line[LINE_MAX_BYTES];
    char pending[LINE_MAX_BYTES + 512] = "";
    char block_tags[2 * LINE_MAX_BYTES] = "";
    enum where where = NOWHERE;
    bool outline = false;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    feature_file = path;
    feature_count = count;
    background_count = 0;
    step_count = 0;
    examples.rows = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        trim(line);
        if (line[0] == '@') {
            // Tags belong to what follows them; what went before ends here.
            end_block(where, outline, block_tags);
            if (where == IN_SCENARIO || where == IN_EXAMPLES)
                where = NOWHERE;
            size_t used = strlen(pending);
            snprintf(pending + used, sizeof pending - used, "%s ", line);
        } else if (strncmp(line, "Feature:", 8) == 0) {
            pending[0] = '\0';
        } else if (strncmp(line, "Background:", 11) == 0) {
            where = IN_BACKGROUND;
        } else if (strncmp(line, "Scenario", 8) == 0) {
            end_block(where, outline, block_tags);
            snprintf(scenario_name, sizeof scenario_name, "%.500s", line);
            snprintf(scenario_tags, sizeof scenario_tags, "%.400s%s", pending,
                     strstr(path, "fractional.feature") != NULL ? " @fractional" : "");
            snprintf(block_tags, sizeof block_tags, "%s", scenario_tags);
            pending[0] = '\0';
            outline = strncmp(line, "Scenario Outline", 16) == 0;
            where = IN_SCENARIO;
            step_count = 0;
            step_table_count = 0;
        } else if (strncmp(line, "Examples", 8) == 0) {
            if (where == IN_EXAMPLES)
                run_examples(block_tags);
            snprintf(block_tags, sizeof block_tags, "%s %s", pending, scenario_tags);
            pending[0] = '\0';
            where = IN_EXAMPLES;
            examples.rows = 0;
        } else if (line[0] == '|') {
            add_table_row(where, line);
        } else if (is_step(line)) {
            add_step(where, line);
        }
    }
    end_block(where, outline, block_tags);
    fclose(file);
}

static void run_features(const char *folder, const char *const *names, size_t count_names, int least)
{
    struct count total = {0};
    if (!fixture_conformance(cases_root, sizeof cases_root))
        skip();
    for (size_t i = 0; i < count_names; i++) {
        char path[700];
        struct count count = {0};
        snprintf(path, sizeof path, "%s/flagd/testbed/%s/%s.feature", cases_root, folder, names[i]);
        run_feature(path, &count);
        printf("%s/%s: %d passed, %d failed, %d skipped\n", folder, names[i], count.passed, count.failed,
               count.skipped);
        total.passed += count.passed;
        total.failed += count.failed;
        total.skipped += count.skipped;
    }
    printf("%s: %d passed, %d failed, %d skipped (deprecated)\n", folder, total.passed, total.failed,
           total.skipped);
    assert_int_equal(total.failed, 0);
    assert_true(total.passed >= least);
}

static void testbed_evaluator(testbed_evaluate *with)
{
    static const char *const NAMES[] = {"disabled",   "errors",    "evaluation",         "evaluator-refs",
                                        "fractional", "metadata",  "no-default-variant", "semver",
                                        "string",     "targeting", "zero-values"};
    evaluate = with;
    run_features("evaluator/gherkin", NAMES, ARRAY_LEN(NAMES), 100);
}

static void testbed_provider(testbed_evaluate *with)
{
    static const char *const NAMES[] = {"targeting", "evaluation", "disabled", "metadata", "selector"};
    evaluate = with;
    run_features("gherkin", NAMES, ARRAY_LEN(NAMES), 200);
}
