// SPDX-License-Identifier: Apache-2.0
// flags: many documents in one image. Which flag wins, what stays each document's own, what is shared, where
// problems are said to lie, prerequisites across documents.
#include "flags_fixture.h"
#include "test.h"

#define BOOLEANS "\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false}"
#define FLAG(key, rest) "\"" key "\":{" BOOLEANS rest "}"
#define DOCUMENT(flags) "{\"flags\":{" flags "}}"
#define ON ",\"defaultVariant\":\"on\""
#define OFF ",\"defaultVariant\":\"off\""
#define NEEDS(key) ",\"x-sluice\":{\"prerequisites\":[{\"flag\":\"" key "\",\"variant\":\"on\"}]}"

enum { DOCUMENTS = 4 };

static enum status compile_all(const char *const *texts, uint32_t count, const char *segments)
{
    struct flags_bundle_document documents[DOCUMENTS];
    for (uint32_t i = 0; i < count; i++)
        documents[i] = (struct flags_bundle_document){.json = slice_of(texts[i]), .name = "test"};
    struct flags_bundle bundle = {
        .documents = documents, .document_count = count, .segments = slice_of(segments)};
    return fixture_compile_bundle(&fixture, &bundle);
}

static bool reported(enum flags_severity severity, uint32_t document, const char *part)
{
    for (size_t i = 0; i < fixture.problem_count && i < FIXTURE_PROBLEMS; i++) {
        const struct flags_finding *problem = &fixture.problems[i];
        if (problem->severity == severity && problem->document == document &&
            strstr(problem->message, part) != NULL)
            return true;
    }
    return false;
}

static struct flags_result ask(const char *key, const char *context, const char *user)
{
    struct flags_context given = {.tree = fixture_tree(&fixture, slice_of(context)),
                                  .has_targeting_key = user != NULL,
                                  .targeting_key = user != NULL ? slice_of(user) : SLICE(""),
                                  .time_s = 1795251600};
    return fixture_evaluate(&fixture, key, FLAGS_ANY, &given);
}

static void assert_variant(const char *key, const char *context, const char *variant)
{
    struct flags_result result = ask(key, context, NULL);
    if (!slice_equal(result.variant, slice_of(variant)))
        fail_msg("%s of %s: " SLICE_FMT " for %s", key, context, SLICE_ARG(result.variant), variant);
}

TEST(later_wins)
{
    const char *const texts[] = {
        DOCUMENT(FLAG("a", ON) "," FLAG("b", ON) "," FLAG("c", ON)),
        DOCUMENT(FLAG("b", OFF) "," FLAG("d", OFF)),
        DOCUMENT(FLAG("b", ON) "," FLAG("a", OFF)),
    };
    static const struct {
        const char *key;
        uint32_t document;
    } order[] = {{"c", 0}, {"d", 1}, {"b", 2}, {"a", 2}};
    struct flags_info info;
    uint32_t cursor = 0;
    uint32_t counters = 1;
    assert_int_equal(compile_all(texts, 3, ""), STATUS_OK);
    assert_int_equal(fixture.problem_count, 0);
    assert_int_equal(flags_image_flag_count(&fixture.set), 4);
    assert_variant("a", "{}", "off");
    assert_variant("b", "{}", "on");
    assert_variant("c", "{}", "on");
    assert_variant("d", "{}", "off");
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        assert_true(flags_image_next(&fixture.set, &cursor, &info));
        assert_true(slice_equal(info.key, slice_of(order[i].key)));
        assert_int_equal(info.document, order[i].document);
        assert_int_equal(texts[info.document][info.at + 1], order[i].key[0]);
        assert_int_equal(info.first_counter, counters);
        counters += info.variant_count + 2;
    }
    assert_false(flags_image_next(&fixture.set, &cursor, &info));
    assert_int_equal(flags_image_counter_count(&fixture.set), counters);
}

TEST(twice)
{
    // Twice in one document is a fault of that document, whether or not another one overrides the flag.
    const char *const texts[] = {DOCUMENT(FLAG("a", ON)), DOCUMENT(FLAG("a", ON) "," FLAG("a", OFF)),
                                 DOCUMENT(FLAG("a", ON))};
    assert_int_equal(compile_all(texts, 3, ""), STATUS_INVALID);
    assert_true(reported(FLAGS_ERROR, 1, "twice"));
    assert_int_equal(fixture.problem_count, 1);
}

TEST(same_bytes)
{
    const char *const texts[] = {DOCUMENT(FLAG("a", ON) "," FLAG("b", ON)), DOCUMENT(FLAG("b", OFF))};
    static uint8_t before[1 << 14];
    assert_int_equal(compile_all(texts, 2, "{\"s\":true}"), STATUS_OK);
    size_t len = fixture.len;
    assert_true(len <= sizeof before);
    memcpy(before, fixture.image, len);
    memset(fixture.image, 0xa5, sizeof fixture.image);
    assert_int_equal(compile_all(texts, 2, "{\"s\":true}"), STATUS_OK);
    assert_int_equal(fixture.len, len);
    assert_memory_equal(before, fixture.image, len);
}

TEST(empty)
{
    struct flags_info info;
    uint32_t cursor = 0;
    assert_int_equal(compile_all(NULL, 0, ""), STATUS_OK);
    assert_int_equal(flags_image_flag_count(&fixture.set), 0);
    assert_int_equal(flags_image_counter_count(&fixture.set), 1);
    assert_false(flags_image_next(&fixture.set, &cursor, &info));
    assert_int_equal(ask("a", "{}", NULL).error, FLAGS_ERROR_FLAG_NOT_FOUND);
    assert_int_equal(ask("a", "{}", NULL).counter, 0);
    static struct flags_bundle_document many[FLAGS_DOCUMENTS_MAX + 1];
    struct flags_bundle bundle = {.documents = many, .document_count = FLAGS_DOCUMENTS_MAX + 1};
    assert_int_equal(fixture_compile_bundle(&fixture, &bundle), STATUS_RANGE);
}

// "$evaluators" of one name mean something else in each document.
TEST(evaluators_are_scoped)
{
#define WITH_RULE(key, rule, evaluators)                                                                     \
    "{\"flags\":{" FLAG(key, OFF ",\"targeting\":{\"if\":[" rule                                             \
                                 ",\"on\",\"off\"]}") "},\"$evaluators\":{" evaluators "}}"
#define REF "{\"$ref\":\"who\"}"
    const char *const texts[] = {
        WITH_RULE("a", REF, "\"who\":{\"==\":[{\"var\":\"x\"},1]}"),
        WITH_RULE("b", REF, "\"who\":{\"==\":[{\"var\":\"x\"},2]}"),
        WITH_RULE("c", REF, ""),
        WITH_RULE("d", "{\"$ref\":\"own\"}", "\"own\":{\"!\":{\"$ref\":\"who\"}}"),
    };
    static const char SEGMENTS[] =
        "{\"who\":{\"==\":[{\"var\":\"x\"},3]},\"not\":{\"!\":{\"$ref\":\"who\"}}}";
    assert_int_equal(compile_all(texts, 4, SEGMENTS), STATUS_OK);
    assert_int_equal(fixture.problem_count, 0);
    for (int x = 1; x <= 3; x++) {
        char context[40];
        snprintf(context, sizeof context, "{\"x\":%d}", x);
        assert_variant("a", context, x == 1 ? "on" : "off");
        assert_variant("b", context, x == 2 ? "on" : "off");
        assert_variant("c", context, x == 3 ? "on" : "off");
        assert_variant("d", context, x != 3 ? "on" : "off");
    }
    // Without the segment the third document's reference means the last other document's evaluator, wherever
    // that document stands.
    assert_int_equal(compile_all(texts, 3, ""), STATUS_OK);
    assert_int_equal(fixture.problem_count, 0);
    assert_variant("c", "{\"x\":2}", "on");
    assert_variant("c", "{\"x\":1}", "off");
    assert_variant("a", "{\"x\":1}", "on");
    const char *const before[] = {texts[2], texts[0]};
    assert_int_equal(compile_all(before, 2, ""), STATUS_OK);
    assert_variant("c", "{\"x\":1}", "on");
    // Nowhere at all.
    assert_int_equal(compile_all(&texts[2], 1, ""), STATUS_OK);
    assert_true(reported(FLAGS_FAULT, 0, "names no evaluator"));
    assert_int_equal(ask("c", "{}", NULL).error, FLAGS_ERROR_PARSE_ERROR);
}

TEST(segments)
{
    static const char SEGMENTS[] = "{\"staff\":{\"ends_with\":[{\"var\":\"email\"},\"@example.com\"]},"
                                   "\"known\":{\"or\":[{\"$ref\":\"staff\"},{\"var\":\"known\"}]},"
                                   "\"half\":{\"fractional\":[[true,1],[false,1]]},"
                                   "\"named\":{\"==\":[{\"var\":\"$flagd.flagKey\"},\"named\"]}}";
    struct flags_context context = {
        .tree = fixture_tree(&fixture, SLICE("{\"email\":\"a@example.com\",\"known\":\"\"}"))};
    struct flags_scratch scratch = {fixture.scratch, sizeof fixture.scratch};
    bool matches = false;
    assert_int_equal(compile_all(NULL, 0, SEGMENTS), STATUS_OK);
    assert_true(flags_segment_matches(&fixture.set, SLICE("known"), &context, scratch, &matches) && matches);
    assert_true(flags_segment_matches(&fixture.set, SLICE("named"), &context, scratch, &matches) && matches);
    assert_false(flags_segment_matches(&fixture.set, SLICE("nobody"), &context, scratch, &matches));
    context.tree = NULL;
    assert_true(flags_segment_matches(&fixture.set, SLICE("staff"), &context, scratch, &matches));
    assert_false(matches);
    context.tree = fixture_tree(&fixture, SLICE("[1]"));
    assert_true(flags_segment_matches(&fixture.set, SLICE("named"), &context, scratch, &matches));
    assert_false(matches);
    uint32_t members = 0;
    context = (struct flags_context){.has_targeting_key = true};
    for (int i = 0; i < 1000; i++) {
        char user[16];
        snprintf(user, sizeof user, "u%d", i);
        context.targeting_key = slice_of(user);
        assert_true(flags_segment_matches(&fixture.set, SLICE("half"), &context, scratch, &matches));
        members += matches;
    }
    assert_in_range(members, 400, 600);
}

TEST(segment_faults)
{
    const char *const texts[] = {DOCUMENT(FLAG("a", ON))};
    assert_int_equal(compile_all(texts, 1, "[]"), STATUS_INVALID);
    assert_true(reported(FLAGS_ERROR, FLAGS_DOCUMENTS_MAX, "segments are an object"));
    assert_int_equal(compile_all(texts, 1, "{\"s\":{\n\"nope\":[]}}"), STATUS_INVALID);
    assert_true(reported(FLAGS_ERROR, FLAGS_DOCUMENTS_MAX, "unknown operator"));
    assert_int_equal(fixture.problems[0].line, 1);
    assert_int_equal(fixture.problems[0].column, 6);
    assert_int_equal(compile_all(texts, 1, "{\"s\":{\"!\":{\"$ref\":\"s\"}}}"), STATUS_INVALID);
    assert_true(reported(FLAGS_ERROR, FLAGS_DOCUMENTS_MAX, "leads back"));
    assert_int_equal(compile_all(texts, 1, "{\"s\":"), STATUS_INVALID);
    assert_true(reported(FLAGS_ERROR, FLAGS_DOCUMENTS_MAX, "expected a value"));
}

// Metadata and settings are each document's own; the set's metadata is the last one's that has some.
TEST(own_settings)
{
#define DRAWN(key) FLAG(key, OFF ",\"targeting\":{\"fractional\":[[\"on\",1],[\"off\",1]]}")
    const char *const texts[] = {
        "{\"metadata\":{\"team\":\"a\",\"v\":1},\"x-sluice\":{\"fractional\":1},\"flags\":{" DRAWN("f") "}}",
        "{\"metadata\":{\"team\":\"b\"},\"x-sluice\":{\"fractional\":2},\"flags\":{"
        "\"g\":{" BOOLEANS ",\"metadata\":{\"v\":2}}}}",
        "{\"flags\":{" DRAWN("h") "}}",
    };
    struct flags_info info;
    bool first[100];
    assert_int_equal(compile_all(texts, 3, ""), STATUS_OK);
    assert_true(flags_image_find(&fixture.set, SLICE("f"), &info));
    assert_true(slice_equal(info.metadata, SLICE("{\"team\":\"a\",\"v\":1}")));
    assert_true(flags_image_find(&fixture.set, SLICE("g"), &info));
    assert_true(slice_equal(info.metadata, SLICE("{\"team\":\"b\",\"v\":2}")));
    assert_true(flags_image_find(&fixture.set, SLICE("h"), &info));
    assert_int_equal(info.metadata.len, 0);
    assert_true(slice_equal(flags_image_metadata(&fixture.set), SLICE("{\"team\":\"b\"}")));
    assert_int_equal(flags_image_generation(&fixture.set), FLAGS_GENERATION_3);
    // Each flag draws as it does when its document stands alone.
    for (size_t d = 0; d < 3; d += 2) {
        const char *key = d == 0 ? "f" : "h";
        assert_int_equal(compile_all(texts, 3, ""), STATUS_OK);
        for (int pass = 0; pass < 2; pass++) {
            for (int i = 0; i < 100; i++) {
                char user[16];
                snprintf(user, sizeof user, "u%d", i);
                bool on = ask(key, "{}", user).boolean;
                assert_true(pass == 0 || first[i] == on);
                first[i] = on;
            }
            assert_int_equal(compile_all(&texts[d], 1, ""), STATUS_OK);
        }
    }
}

TEST(prerequisites_across)
{
    const char *const chain[] = {DOCUMENT(FLAG("a", OFF ",\"targeting\":{\"if\":[true,\"on\"]}" NEEDS("b"))),
                                 DOCUMENT(FLAG("b", ON)), DOCUMENT(FLAG("b", OFF))};
    assert_int_equal(compile_all(chain, 2, ""), STATUS_OK);
    assert_variant("a", "{}", "on");
    // The overriding flag is the one that counts.
    assert_int_equal(compile_all(chain, 3, ""), STATUS_OK);
    assert_variant("a", "{}", "off");
    assert_int_equal(compile_all(chain, 1, ""), STATUS_INVALID);
    assert_true(reported(FLAGS_ERROR, 0, "a prerequisite names no flag"));
    const char *const loop[] = {DOCUMENT(FLAG("b", ON) "," FLAG("c", ON NEEDS("a"))),
                                DOCUMENT(FLAG("a", ON NEEDS("b"))), DOCUMENT("\n" FLAG("b", ON NEEDS("c")))};
    assert_int_equal(compile_all(loop, 2, ""), STATUS_OK);
    assert_int_equal(compile_all(loop, 3, ""), STATUS_INVALID);
    assert_int_equal(fixture.problem_count, 1);
    assert_true(strstr(fixture.problems[0].message, "lead back") != NULL);
    // It is told of a flag that stands in the document named.
    const struct flags_finding *problem = &fixture.problems[0];
    char quoted[8];
    snprintf(quoted, sizeof quoted, "\"" SLICE_FMT "\":{", SLICE_ARG(problem->key));
    assert_non_null(strstr(loop[problem->document], quoted));
    assert_int_equal(problem->line, problem->document == 2 ? 2 : 1);
}

TEST(problems_name_documents)
{
    const char *const texts[] = {
        DOCUMENT(FLAG("a", ON)),
        "{\"flags\":{\n" FLAG("b", ",\"defaultVariant\":\"no\"") "}}",
        "{\"flags\":{\n\n" FLAG("c", ON ",\"targeting\":{\"nope\":1}") "}}",
        "{\"flags\":{]}",
    };
    assert_int_equal(compile_all(texts, 4, ""), STATUS_INVALID);
    assert_true(reported(FLAGS_ERROR, 1, "defaultVariant"));
    assert_true(reported(FLAGS_FAULT, 2, "unknown operator"));
    assert_true(reported(FLAGS_ERROR, 3, "double quotes"));
    assert_int_equal(fixture.problem_count, 3);
    // What could not be read at all comes first: the flags of others are compiled when all were read.
    assert_int_equal(fixture.problems[1].line, 2);
    assert_int_equal(fixture.problems[2].line, 3);
}

// A refusal says why even when warnings came first.
TEST(errors_before_warnings)
{
    static const char JSON[] = DOCUMENT(FLAG("a", ON ",\"targeting\":{\"nope\":1}") "," FLAG(
        "b", ON ",\"targeting\":{\"nope\":1}") "," FLAG("c", ",\"defaultVariant\":\"no\""));
    struct flags_compile_options options = {0};
    struct flags_json_space space = {
        .nodes = fixture.nodes, .node_cap = FIXTURE_NODES, .chars = fixture.chars, .char_cap = FIXTURE_CHARS};
    struct flags_finding problem;
    size_t count;
    size_t len;
    assert_int_equal(flags_compile(SLICE(JSON), &options, &space, fixture.image, sizeof fixture.image, &len,
                                   &problem, 1, &count),
                     STATUS_INVALID);
    assert_int_equal(count, 3);
    assert_int_equal(problem.severity, FLAGS_ERROR);
}

// What a problem borrows is not written over by what is compiled after it.
TEST(subjects_stay)
{
    assert_int_equal(fixture_compile(&fixture, "{\"flags\":[{\"key\":\"first\\u002d\"," BOOLEANS
                                               ",\"targeting\":{\"no\\u002dpe\":1}},"
                                               "{\"key\":\"second\\u002d\"," BOOLEANS
                                               ",\"targeting\":{\"XXXX\\u002dXX\":1}}]}"),
                     STATUS_OK);
    assert_int_equal(fixture.problem_count, 2);
    assert_true(slice_equal(fixture.problems[0].subject, SLICE("no-pe")));
    assert_true(slice_equal(fixture.problems[0].key, SLICE("first-")));
    assert_true(slice_equal(fixture.problems[1].key, SLICE("second-")));
}
