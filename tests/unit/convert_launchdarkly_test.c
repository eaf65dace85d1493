// SPDX-License-Identifier: Apache-2.0
// LaunchDarkly exports: every operator of clauses by a table of contexts and answers, targets, rollouts,
// segments, prerequisites, environments; and what has no equivalent never turns on what was off.
#include "base/check.h"
#include "convert_world.h"
#include "test.h"

// A boolean flag of one rule: true when the clauses match.
#define ONE_RULE(name, clauses)                                                                              \
    "'" name "': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'variation': " \
    "1}, 'rules': [{'variation': 0, 'clauses': [" clauses "]}]}"
#define CLAUSE(attribute, op, values) "{'attribute': '" attribute "', 'op': '" op "', 'values': [" values "]}"
#define NEGATED(attribute, op, values)                                                                       \
    "{'attribute': '" attribute "', 'op': '" op "', 'values': [" values "], 'negate': true}"

// Long because it is a table.
TEST(clauses)
{
    static const char
        SOURCE[] =
            "{'flags': {" ONE_RULE("in", CLAUSE("country", "in", "'de', 'at'")) "," ONE_RULE(
                "in-number",
                CLAUSE(
                    "age", "in",
                    "18, 21.5, true, null")) "," ONE_RULE("not-in",
                                                          NEGATED("country", "in",
                                                                  "'de'")) "," ONE_RULE("key",
                                                                                        CLAUSE(
                                                                                            "key", "in",
                                                                                            "'k1', 'k2'")) "," ONE_RULE("not-key",
                                                                                                                        NEGATED("key", "startsWith", "'k'")) "," ONE_RULE("starts", CLAUSE("email", "startsWith", "'a', 'b'")) "," ONE_RULE("ends", CLAUSE("email", "endsWith", "'.org'")) "," ONE_RULE("contains",
                                                                                                                                                                                                                                                                                                        CLAUSE(
                                                                                                                                                                                                                                                                                                            "email", "contains", "'@ex'")) "," ONE_RULE("contains-empty", CLAUSE("email",
                                                                                                                                                                                                                                                                                                                                                                                 "contains", "''")) "," ONE_RULE("less",
                                                                                                                                                                                                                                                                                                                                                                                                                 CLAUSE(
                                                                                                                                                                                                                                                                                                                                                                                                                     "age",
                                                                                                                                                                                                                                                                                                                                                                                                                     "lessThan", "18")) "," ONE_RULE("less-equal", CLAUSE("age", "lessThanOrEqual", "18")) "," ONE_RULE("greater", CLAUSE("age", "greaterThan", "18, 60")) "," ONE_RULE("greater-equal", CLAUSE("age", "greaterThanOrEqual", "18")) "," ONE_RULE("less-text", CLAUSE("age",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "lessThan", "'18'")) "," ONE_RULE("before", CLAUSE("born",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        "before", "'2000-01-01T00:00:00Z'")) "," ONE_RULE("after", CLAUSE("born", "after", "946684800000")) "," ONE_RULE("version",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         CLAUSE(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             "app",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             "semVerEqual",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             "'2.1'")) "," ONE_RULE("version-less",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                    CLAUSE("app", "semVerLessThan", "'2.1.0'")) "," ONE_RULE("version-greater",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             CLAUSE("app", "semVerGreaterThan", "'2.1.0'")) "," ONE_RULE("version-bad",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         CLAUSE("app",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "semVerEqual",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "'x'")) "," ONE_RULE("matches-plain", CLAUSE("email", "matches",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             "'^a', 'z\\\\.org$', '^x@y$', '-'")) "," ONE_RULE("both", CLAUSE("email", "endsWith", "'.org'") "," CLAUSE("age", "greaterThan", "18")) "," ONE_RULE("empty",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  CLAUSE("email",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "in",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "")) "," ONE_RULE("not-empty",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           NEGATED("email", "in", "")) "," ONE_RULE("anonymous", CLAUSE("anonymous",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        "in",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        "false")) "," ONE_RULE("path", "{'contextKind': 'user', 'attribute': '/address/city', 'op': 'in', 'values': "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "['Ulm']}") "," ONE_RULE("kind",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "{'contextKind': 'org', 'attribute': 'key', 'op': 'in', 'values': ['o1']}") "}}";
    static const struct expectation ROWS[] = {
        {"in", "{'country':'de'}", "true"},
        {"in", "{'country':'fr'}", "false"},
        {"in", "{}", "false"},
        {"in", "{'country':['fr','at']}", "true"},
        {"in", "{'country':[]}", "false"},
        {"in", "{'country':'DE'}", "false"},
        {"in-number", "{'age':18}", "true"},
        {"in-number", "{'age':21.5}", "true"},
        {"in-number", "{'age':true}", "true"},
        {"in-number", "{'age':'18'}", "false"},
        {"in-number", "{'age':null}", "false"},
        {"in-number", "{}", "false"},
        {"not-in", "{'country':'fr'}", "true"},
        {"not-in", "{'country':'de'}", "false"},
        {"not-in", "{}", "false"},
        {"not-in", "{'country':null}", "false"},
        {"not-in", "{'country':['fr','de']}", "false"},
        {"not-in", "{'country':[]}", "true"},
        {"key", "{'targetingKey':'k2'}", "true"},
        {"key", "{'targetingKey':'k3'}", "false"},
        {"not-key", "{'targetingKey':'x'}", "true"},
        {"not-key", "{'targetingKey':'k'}", "false"},
        {"not-key", "{}", "false"},
        {"starts", "{'email':'b@x'}", "true"},
        {"starts", "{'email':'c@x'}", "false"},
        {"starts", "{'email':['c','ab']}", "true"},
        {"starts", "{'email':7}", "false"},
        {"ends", "{'email':'x@y.org'}", "true"},
        {"ends", "{'email':'x@y.com'}", "false"},
        {"contains", "{'email':'x@example.com'}", "true"},
        {"contains", "{'email':'x@y.com'}", "false"},
        {"contains", "{'email':['@ex']}", "true"},
        {"contains-empty", "{'email':'x'}", "true"},
        {"contains-empty", "{'email':''}", "true"},
        {"contains-empty", "{'email':3}", "false"},
        {"less", "{'age':17.9}", "true"},
        {"less", "{'age':18}", "false"},
        {"less", "{'age':'1'}", "false"},
        {"less", "{}", "false"},
        {"less", "{'age':true}", "false"},
        {"less", "{'age':[30,3]}", "true"},
        {"less-equal", "{'age':18}", "true"},
        {"greater", "{'age':19}", "true"},
        {"greater", "{'age':18}", "false"},
        {"greater-equal", "{'age':18}", "true"},
        {"less-text", "{'age':3}", "false"},
        {"before", "{'born':946684799999}", "true"},
        {"before", "{'born':946684800000}", "false"},
        {"before", "{}", "false"},
        {"after", "{'born':946684800001}", "true"},
        {"after", "{'born':946684800000}", "false"},
        {"version", "{'app':'2.1.0'}", "true"},
        {"version", "{'app':'2.1.1'}", "false"},
        {"version", "{'app':'v2.1.0'}", "false"},
        {"version-less", "{'app':'2.1.0-rc.1'}", "true"},
        {"version-less", "{'app':'2.1.0'}", "false"},
        {"version-less", "{'app':'none'}", "false"},
        {"version-less", "{}", "false"},
        {"version-greater", "{'app':'2.10.0'}", "true"},
        {"version-greater", "{'app':'2.1.0'}", "false"},
        {"version-bad", "{'app':'x'}", "false"},
        {"matches-plain", "{'email':'ab'}", "true"},
        {"matches-plain", "{'email':'ba'}", "false"},
        {"matches-plain", "{'email':'qz.org'}", "true"},
        {"matches-plain", "{'email':'qzXorg'}", "false"},
        {"matches-plain", "{'email':'x@y'}", "true"},
        {"matches-plain", "{'email':'x@yy'}", "false"},
        {"matches-plain", "{'email':'x-y'}", "true"},
        {"both", "{'email':'x.org','age':19}", "true"},
        {"both", "{'email':'x.org','age':18}", "false"},
        {"both", "{'age':19}", "false"},
        {"empty", "{'email':'x'}", "false"},
        {"not-empty", "{'email':'x'}", "true"},
        {"not-empty", "{}", "false"},
        {"anonymous", "{}", "false"}, // no user at all
        {"anonymous", "{'targetingKey':'u'}", "true"},
        {"anonymous", "{'anonymous':true}", "false"},
        {"path", "{'address':{'city':'Ulm'}}", "true"},
        {"path", "{'address':{'city':'Bonn'}}", "false"},
        {"path", "{'/address/city':'Ulm'}", "false"},
        {"kind", "{'org':{'key':'o1'}}", "true"},
        {"kind", "{'targetingKey':'o1'}", "false"},
    };
    struct world world;
    world_convert(&world, SOURCE);
    assert_int_equal(world.result.flag_count, 27);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "kind", "kind org", false));
    // Only times given as text were lost.
    assert_int_equal(world_lost(&world), 4);
    world_free(&world);
}

// What is unknown: rules that turn on are narrowed, rules that turn off widened.
TEST(unknown_is_safe)
{
    static const char SOURCE[] =
        "{'flags': {" ONE_RULE("on-regex", CLAUSE("email", "matches", "'^a+$'")) "," ONE_RULE("on-not-regex", NEGATED("email", "matches", "'^a+$'")) "," ONE_RULE(
            "on-either",
            CLAUSE(
                "email",
                "matches", "'^a+$', 'zz'")) "," ONE_RULE("on-operator",
                                                         CLAUSE(
                                                             "email",
                                                             "soundsLike",
                                                             "'x'")) "," ONE_RULE("on-dotted",
                                                                                  CLAUSE(
                                                                                      "a.b",
                                                                                      "in",
                                                                                      "'x'")) "," ONE_RULE("on-segment",
                                                                                                           CLAUSE(
                                                                                                               "",
                                                                                                               "segmentMatch",
                                                                                                               "'nowhere'")) "," ONE_RULE("on-not-segment",
                                                                                                                                          NEGATED("", "segmentMatch",
                                                                                                                                                  "'nowhere'")) ","
                                                                                                                                                                "'off-regex': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': "
                                                                                                                                                                "{'variation': 0}, 'rules': [{'variation': 1, 'clauses': [" CLAUSE("country", "in", "'de'") "," CLAUSE("email", "matches", "'^a+$'") "]}]},"
                                                                                                                                                                                                                                                                                                     "'off-not-regex': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': "
                                                                                                                                                                                                                                                                                                     "{'variation': 0}, 'rules': [{'variation': 1, 'clauses': [" NEGATED("email",
                                                                                                                                                                                                                                                                                                                                                                         "matches", "'^a+$'") "]}]},"
                                                                                                                                                                                                                                                                                                                                                                                              "'off-part': {'on': true, 'variations': ['x', 'y', 'none'], 'offVariation': 2, 'fallthrough': "
                                                                                                                                                                                                                                                                                                                                                                                              "{'variation': 0}, 'rules': [{'rollout': {'variations': [{'variation': 1, 'weight': 50000}, "
                                                                                                                                                                                                                                                                                                                                                                                              "{'variation': 2, 'weight': 50000}]}, 'clauses': [" CLAUSE(
                                                                                                                                                                                                                                                                                                                                                                                                  "email", "matches", "'^a+$'") "]}]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                "'bad-index': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': "
                                                                                                                                                                                                                                                                                                                                                                                                                                "{'variation': 0}, 'rules': [{'variation': 7, 'clauses': [" CLAUSE("key",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   "in",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   "'k'") "]}]}}}";
    static const struct expectation ROWS[] = {
        {"on-regex", "{'email':'aaa'}", "false"},
        {"on-not-regex", "{'email':'b'}", "false"},
        {"on-either", "{'email':'zz'}", "true"},
        {"on-either", "{'email':'aa'}", "false"},
        {"on-operator", "{'email':'x'}", "false"},
        {"on-dotted", "{'a.b':'x','a':{'b':'x'}}", "false"},
        {"on-segment", "{'targetingKey':'k'}", "false"},
        {"on-not-segment", "{'targetingKey':'k'}", "false"},
        {"off-regex", "{'country':'de','email':'aaa'}", "false"},
        {"off-regex", "{'country':'de','email':'bbb'}", "false"},
        {"off-regex", "{'country':'de'}", "true"},
        {"off-regex", "{'country':'fr','email':'aaa'}", "true"},
        {"off-not-regex", "{'email':'b'}", "false"},
        {"off-not-regex", "{'email':'aa'}", "false"},
        {"off-not-regex", "{}", "true"},
        {"off-part", "{'targetingKey':'1','email':'aa'}", "'none'"},
        {"off-part", "{'targetingKey':'2','email':'aa'}", "'none'"},
        {"off-part", "{'targetingKey':'2'}", "'x'"},
        {"bad-index", "{'targetingKey':'k'}", "false"},
        {"bad-index", "{'targetingKey':'l'}", "true"},
    };
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "on-regex", "regular expression", true));
    assert_true(world_found(&world, "on-regex", "rule 1: what has no equivalent does not match", true));
    assert_true(world_found(&world, "off-regex", "all whom the rest of it matches get false", true));
    assert_true(world_found(&world, "on-operator", "soundsLike", true));
    assert_true(world_found(&world, "bad-index", "does not exist", true));
    world_free(&world);
}

TEST(segments)
{
    static const char SOURCE[] =
        "{'flags': {" ONE_RULE("beta", CLAUSE("", "segmentMatch", "'beta', 'staff'")) "," ONE_RULE(
            "not-beta",
            NEGATED(
                "", "segmentMatch",
                "'beta'")) "," ONE_RULE("vague",
                                        CLAUSE(
                                            "", "segmentMatch",
                                            "'vague'")) "," ONE_RULE("not-vague",
                                                                     NEGATED(
                                                                         "", "segmentMatch",
                                                                         "'vague'")) "," ONE_RULE("circle",
                                                                                                  CLAUSE(
                                                                                                      "",
                                                                                                      "segmentMatch",
                                                                                                      "'circle'")) "," ONE_RULE("big", CLAUSE("", "segmentMatch", "'big'")) "," ONE_RULE("half", CLAUSE("", "segmentMatch", "'half'")) "},"
                                                                                                                                                                                                                                       "'segments': {'beta': {'included': ['i'], 'excluded': ['i', 'e'], 'rules': [{'clauses': [" CLAUSE("plan", "in", "'pro'") "]}], 'includedContexts': [{'contextKind': 'org', 'values': ['o']}]},"
                                                                                                                                                                                                                                                                                                                                                                "'staff': {'rules': [{'clauses': [" CLAUSE("", "segmentMatch", "'beta'") "," CLAUSE("email",
                                                                                                                                                                                                                                                                                                                                                                                                                                                    "endsWith",
                                                                                                                                                                                                                                                                                                                                                                                                                                                    "'@us'") "]}, {'clauses': [" CLAUSE("role", "in",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        "'staff'") "]}]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   "'vague': {'included': ['v'], 'rules': [{'clauses': [" CLAUSE("email", "matches", "'.*'") "]}]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             "'circle': {'included': ['c'], 'rules': [{'clauses': [" CLAUSE(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 "", "segmentMatch", "'circle'") "]}]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 "'big': {'unbounded': true, 'rules': [{'clauses': [" CLAUSE(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "plan",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "in",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "'pro'") "]}]},"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                              "'half': {'rules': [{'clauses': [], 'weight': 50000}]}}}";
    static const struct expectation ROWS[] = {
        {"beta", "{'targetingKey':'i'}", "true"},
        {"beta", "{'targetingKey':'e','plan':'pro'}", "false"},
        {"beta", "{'targetingKey':'x','plan':'pro'}", "true"},
        {"beta", "{'targetingKey':'x','plan':'free'}", "false"},
        {"beta", "{'targetingKey':'x','org':{'key':'o'}}", "true"},
        {"beta", "{'targetingKey':'x','role':'staff'}", "true"},
        {"not-beta", "{'targetingKey':'i'}", "false"},
        {"not-beta", "{'targetingKey':'x'}", "true"},
        {"vague", "{'targetingKey':'v'}", "true"},
        {"vague", "{'targetingKey':'w','email':'any'}", "false"},
        {"not-vague", "{'targetingKey':'v'}", "false"},
        {"not-vague", "{'targetingKey':'w','email':'any'}", "false"},
        {"not-vague", "{'targetingKey':'w'}", "true"},
        {"circle", "{'targetingKey':'c'}", "true"},
        {"circle", "{'targetingKey':'d'}", "false"},
        {"big", "{'targetingKey':'d','plan':'pro'}", "true"},
        {"big", "{'targetingKey':'d'}", "false"},
        {"half", "{}", "true"},
    };
    struct world world;
    char got[64];
    unsigned in = 0;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    for (unsigned i = 0; i < 4000; i++) {
        char context[64];
        snprintf(context, sizeof context, "{'targetingKey':'user-%u'}", i);
        in += strcmp(world_answer(&world, "half", context, 0, got, sizeof got), "true") == 0;
    }
    assert_in_range(in, 1850, 2150);
    world_free(&world);
}

TEST(rollouts)
{
    static const char SOURCE[] =
        "{'flags': {'split': {'on': true, 'variations': ['a', 'b', 'c'], 'offVariation': 2, 'fallthrough': "
        "{'rollout': {'variations': [{'variation': 0, 'weight': 10000}, {'variation': 1, 'weight': 60000}, "
        "{'variation': 2, 'weight': 0}]}}},"
        "'by': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'rollout': "
        "{'bucketBy': 'company', 'variations': [{'variation': 0, 'weight': 50000}, {'variation': 1, "
        "'weight': 50000}]}}},"
        "'kind': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'rollout': "
        "{'contextKind': 'org', 'variations': [{'variation': 0, 'weight': 50000}, {'variation': 1, "
        "'weight': 50000}]}}},"
        "'whole': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'rollout': "
        "{'contextKind': 'org', 'variations': [{'variation': 0, 'weight': 100000}, {'variation': 1, "
        "'weight': 0}]}}},"
        "'dotted': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'rollout': "
        "{'bucketBy': 'a.b', 'variations': [{'variation': 0, 'weight': 50000}, {'variation': 1, 'weight': "
        "50000}]}}},"
        "'test': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'rollout': "
        "{'kind': 'experiment', 'seed': 3, 'variations': [{'variation': 0, 'weight': 50000}, {'variation': "
        "1, 'weight': 50000, 'untracked': true}]}}}}}";
    static const struct expectation ROWS[] = {
        {"by", "{'targetingKey':'x'}", "true"},      {"kind", "{'targetingKey':'x'}", "false"},
        {"whole", "{'targetingKey':'x'}", "true"},   {"whole", "{}", "true"},
        {"dotted", "{'targetingKey':'x'}", "false"}, {"split", "{}", "'c'"},
    };
    static const char *const FLAGS[] = {"split", "by", "kind", "test"};
    struct world world;
    unsigned count[4][3] = {0};
    char got[64];
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    for (unsigned i = 0; i < 4000; i++) {
        char context[128];
        snprintf(context, sizeof context, "{'targetingKey':'user-%u','company':'c%u','org':{'key':'o%u'}}", i,
                 i, i);
        for (unsigned f = 0; f < 4; f++) {
            world_answer(&world, FLAGS[f], context, 0, got, sizeof got);
            count[f][f == 0 ? (unsigned)(got[1] - 'a') : (got[0] == 't')]++;
        }
    }
    assert_in_range(count[0][0], 320, 480);
    assert_in_range(count[0][1], 2280, 2520);
    assert_in_range(count[0][2], 1080, 1320); // the last takes what the weights leave
    for (unsigned f = 1; f < 4; f++)
        assert_in_range(count[f][1], 1850, 2150);
    assert_true(world_found(&world, "split", "keep their shares", false));
    assert_true(world_found(&world, "test", "experiment", false));
    assert_true(world_found(&world, "dotted", "cannot be drawn", true));
    world_free(&world);
}

// As the REST API lists flags: variations are objects, settings lie under environments.
static const char REST[] =
    "{'items': [{'key': 'site', 'name': 'Site', 'kind': 'multivariate', 'temporary': true, 'tags': ['web', "
    "'x'], '_maintainer': {'email': 'a@b.c'}, 'variations': [{'value': 'red', 'name': 'Red'}, {'value': "
    "'blue'}, {'value': 'none', 'name': 'Red'}], 'environments': {'production': {'on': true, 'offVariation': "
    "2, 'targets': [{'values': ['u1', 'u2'], 'variation': 1}, {'values': ['u2'], 'variation': 0}], "
    "'fallthrough': {'variation': 0}, 'prerequisites': [{'key': 'base', 'variation': 0}]}, 'test': {'on': "
    "false, 'offVariation': 2, 'fallthrough': {'variation': 0}}}},"
    "{'key': 'base', 'variations': [{'value': true}, {'value': false}], 'environments': {'production': "
    "{'on': true, 'offVariation': 1, 'fallthrough': {'variation': 1}, 'contextTargets': [{'contextKind': "
    "'org', 'values': ['o'], 'variation': 1}, {'contextKind': 'user', 'values': [], 'variation': 0}], "
    "'targets': [{'values': ['u1', 'u3'], 'variation': 0}]}, 'test': {'on': true, 'offVariation': 1, "
    "'fallthrough': {'variation': 0}}}},"
    "{'key': 'dark', 'variations': [{'value': true}, {'value': false}], 'environments': {'production': "
    "{'on': false, 'offVariation': 0, 'fallthrough': {'variation': 1}}, 'test': {'on': false, 'fallthrough': "
    "{'variation': 0}}}},"
    "{'key': 'needs-dark', 'variations': [{'value': true}, {'value': false}], 'environments': {'production': "
    "{'on': true, 'offVariation': 1, 'fallthrough': {'variation': 0}, 'prerequisites': [{'key': 'dark', "
    "'variation': 0}]}, 'test': {'on': true, 'offVariation': 1, 'fallthrough': {'variation': 0}, "
    "'prerequisites': [{'key': 'gone', 'variation': 0}]}}},"
    "{'key': 'old', 'archived': true, 'variations': [{'value': true}], 'environments': {'production': {'on': "
    "true, 'fallthrough': {'variation': 0}}, 'test': {'on': true, 'fallthrough': {'variation': 0}}}},"
    "{'key': 'only-test', 'variations': [{'value': true}, {'value': false}], 'environments': {'test': {'on': "
    "true, 'offVariation': 1, 'fallthrough': {'variation': 0}}}},"
    "{'key': 'lists', 'variations': [{'value': [1, 2]}, {'value': 'x'}], 'environments': {'production': "
    "{'on': true, 'offVariation': 1, 'fallthrough': {'variation': 0}}}}]}";

TEST(environments)
{
    static const struct expectation PRODUCTION[] = {
        {"base", "{'targetingKey':'u1'}", "true"},
        {"base", "{'targetingKey':'u1','org':{'key':'o'}}", "false"},
        {"base", "{'targetingKey':'u9'}", "false"},
        {"site", "{'targetingKey':'u1'}", "'blue'"},
        {"site", "{'targetingKey':'u3'}", "'red'"},
        {"site", "{'targetingKey':'u2'}", "'none'"},
        {"dark", "{'targetingKey':'u1'}", "true"},
        {"needs-dark", "{'targetingKey':'u1'}", "false"},
        {"old", "{}", "default"},
        {"only-test", "{}", "default"},
        {"lists", "{}", "{'value':[1,2]}"},
    };
    static const struct expectation TEST[] = {
        {"site", "{'targetingKey':'u1'}", "'none'"},
        {"base", "{}", "true"},
        {"dark", "{}", "default"},
        {"needs-dark", "{}", "false"},
        {"only-test", "{}", "true"},
    };
    struct world world;
    struct flags_info info;
    world_convert_for(&world, REST, CONVERT_AUTO, "production");
    world_expect(&world, PRODUCTION, ARRAY_LEN(PRODUCTION));
    assert_true(flags_image_find(&world.set, SLICE("site"), &info));
    assert_non_null(memmem(info.metadata.data, info.metadata.len, "\"web,x\"", 7));
    assert_non_null(memmem(info.metadata.data, info.metadata.len, "\"temporary\":true", 16));
    assert_true(world_found(&world, "needs-dark", "is off", true));
    assert_true(world_found(&world, "only-test", "not in this environment", true));
    assert_true(world_found(&world, "lists", "\"value\"", true));
    world_free(&world);
    world_convert_for(&world, REST, CONVERT_LAUNCHDARKLY, "test");
    world_expect(&world, TEST, ARRAY_LEN(TEST));
    assert_true(world_found(&world, "needs-dark", "gone", true));
    world_free(&world);
}

static void refused(const char *source, const char *environment, const char *text)
{
    struct convert_result result;
    char *json = quoted(source);
    struct convert_options options = {.format = CONVERT_AUTO, .environment = environment};
    assert_int_equal(convert_flags(slice_of(json), &options, &result), STATUS_INVALID);
    assert_true(result.finding_count >= 1);
    assert_null(result.json);
    if (strstr(result.findings[0].text, text) == NULL)
        fail_msg("%s, wanted %s", result.findings[0].text, text);
    convert_result_free(&result);
    heap_free(json);
}

TEST(environment_must_be_named)
{
    refused(REST, NULL, "production, test");
    refused(REST, "staging", "production, test");
}

// Odd exports that must give something that compiles, and say what is wrong.
TEST(oddities)
{
    static const struct expectation ROWS[] = {
        {"a", "{}", "false"},
        {"b", "{}", "false"},
        {"v", "{}", "'x'"},
        {"n", "{}", "3"},
    };
    static const char SOURCE[] =
        "{'flags': {'a': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': "
        "{'variation': 0}, 'prerequisites': [{'key': 'b', 'variation': 0}]}, 'b': {'on': true, 'variations': "
        "[true, false], 'offVariation': 1, 'fallthrough': {'variation': 0}, 'prerequisites': [{'key': 'a', "
        "'variation': 0}]}, 'none': {'on': true, 'variations': []}, 'same': {'on': true, 'variations': ['x', "
        "'x', '', 'variation-1'], 'fallthrough': {'variation': 9}}, 'what': 3}, 'flagValues': {'v': 'x', "
        "'n': 3, 'l': [1]}}";
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "none", "no variations", true));
    assert_true(world_found(&world, "l", "left out", true));
    assert_true(world_found(&world, "a", "in a circle", true) ||
                world_found(&world, "b", "in a circle", true));
    world_free(&world);
}

// A value nested deeper than the reader allows: the flag cannot be kept, the others can.
TEST(refused_flags_are_left_out)
{
    char source[1024];
    size_t len = (size_t)snprintf(source, sizeof source,
                                  "{'flags': {'good': {'on': true, 'variations': [true], 'fallthrough': "
                                  "{'variation': 0}}, 'deep': {'on': true, 'fallthrough': {'variation': 0}, "
                                  "'variations': [");
    for (int i = 0; i < 70; i++)
        len += (size_t)snprintf(source + len, sizeof source - len, "{'a':");
    source[len++] = '1';
    memset(source + len, '}', 70);
    snprintf(source + len + 70, sizeof source - len - 70, "]}}}");
    struct world world;
    world_convert(&world, source);
    assert_true(world.result.flag_count >= 1 || world_lost(&world) > 0);
    assert_true(world_lost(&world) > 0);
    world_free(&world);
}

#define OF_KIND(attribute, op, values, more)                                                                 \
    "{'contextKind': 'user', 'attribute': '" attribute "', 'op': '" op "', 'values': [" values "]" more "}"

// Attributes are references where a clause names a kind; versions are text.
TEST(references_and_versions)
{
    static const char SOURCE[] =
        "{'flags': {" ONE_RULE("key", OF_KIND("/key", "in", "'u'", "")) "," ONE_RULE("index", OF_KIND("/roles/0", "in", "'a'", "")) "," ONE_RULE(
            "broken",
            OF_KIND(
                "/a~b", "in",
                "'x'",
                "")) "," ONE_RULE("escaped",
                                  OF_KIND(
                                      "/a~1b", "in",
                                      "'x'",
                                      "")) "," ONE_RULE("nobody",
                                                        OF_KIND(
                                                            "anonymous", "in",
                                                            "true",
                                                            ", 'negate': true")) "," ONE_RULE("version",
                                                                                              OF_KIND(
                                                                                                  "v",
                                                                                                  "semVerEqual",
                                                                                                  "2",
                                                                                                  "")) "," ONE_RULE("text",
                                                                                                                    OF_KIND(
                                                                                                                        "v",
                                                                                                                        "semVerEqual",
                                                                                                                        "'2'",
                                                                                                                        "")) "," ONE_RULE("short",
                                                                                                                                          OF_KIND(
                                                                                                                                              "v",
                                                                                                                                              "semVerEqual",
                                                                                                                                              "'2-rc', ' 3.0.0 '",
                                                                                                                                              "")) "," ONE_RULE("not",
                                                                                                                                                                OF_KIND(
                                                                                                                                                                    "v",
                                                                                                                                                                    "semVerEqual",
                                                                                                                                                                    "'2.0.0-rc'",
                                                                                                                                                                    ", 'negate': true")) "}}";
    static const struct expectation ROWS[] = {
        {"key", "{'targetingKey': 'u', 'key': 'x'}", "true"},
        {"key", "{'targetingKey': 'x', 'key': 'u'}", "false"},
        {"index", "{'targetingKey': 'u', 'roles': ['a']}", "false"},
        {"broken", "{'targetingKey': 'u', 'a~b': 'x'}", "false"},
        {"escaped", "{'targetingKey': 'u', 'a/b': 'x'}", "true"},
        {"nobody", "{'org': {'key': 'o'}}", "false"},
        {"nobody", "{'targetingKey': 'u'}", "true"},
        {"version", "{'targetingKey': 'u', 'v': 2}", "false"},
        {"text", "{'targetingKey': 'u', 'v': 2}", "false"},
        {"text", "{'targetingKey': 'u', 'v': '2.0.0'}", "true"},
        {"short", "{'targetingKey': 'u', 'v': '2.0.0-rc'}", "true"},
        {"short", "{'targetingKey': 'u', 'v': '3.0.0'}", "true"},
        {"not", "{'targetingKey': 'u', 'v': '2.0-rc'}",
         "false"}, // cannot be read here, so it is not turned on
        {"not", "{'targetingKey': 'u', 'v': '2.0.1'}", "true"},
    };
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "index", "/roles/0", true));
    assert_true(world_found(&world, "broken", "/a~b", true));
    assert_true(world_found(&world, "short", "fewer than three parts", false));
    world_free(&world);
}

// What cannot be drawn by is in the first share: fractions, booleans, lists.
TEST(bucket_by_what_cannot_be_drawn_by)
{
    static const char SOURCE[] =
        "{'flags': {'f': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'rollout': "
        "{'bucketBy': 'x', 'variations': [{'variation': 0, 'weight': 1}, {'variation': 1, 'weight': 99999}]}}}}}";
    static const char *const FIRST[] = {"1.5", "true", "['a']", "null"};
    static const char *const DRAWN[] = {"7", "'a'"};
    char context[64];
    char answer[32];
    struct world world;
    world_convert(&world, SOURCE);
    for (size_t i = 0; i < ARRAY_LEN(FIRST) + ARRAY_LEN(DRAWN); i++) {
        bool first = i < ARRAY_LEN(FIRST);
        snprintf(context, sizeof context, "{'targetingKey': 'u', 'x': %s}",
                 first ? FIRST[i] : DRAWN[i - ARRAY_LEN(FIRST)]);
        assert_string_equal(world_answer(&world, "f", context, 0, answer, sizeof answer),
                            first ? "true" : "false");
    }
    world_free(&world);
}

// Whoever asks for a flag that lost a rule is not turned on by it, over any number of steps.
TEST(dependents_of_a_loss)
{
    static const char SOURCE[] = "{'flags': {" ONE_RULE(
        "lost",
        CLAUSE(
            "x", "nobodyKnows",
            "1")) ","
                  "'asks': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'variation': 0},"
                  "         'prerequisites': [{'key': 'lost', 'variation': 1}]},"
                  "'later': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'variation': 0},"
                  "          'prerequisites': [{'key': 'asks', 'variation': 1}]}}}";
    static const struct expectation ROWS[] = {{"asks", "{'targetingKey': 'u'}", "false"},
                                              {"later", "{'targetingKey': 'u'}", "false"}};
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "asks", "has lost a part", true));
    assert_true(world_found(&world, "later", "has lost a part", true));
    world_free(&world);
}

// A rule that has to take everybody says which others it leaves nobody. Segments keep their names apart.
TEST(rules_behind_a_loss)
{
    static const char SOURCE[] =
        "{'flags': {'f': {'on': true, 'variations': [true, false], 'offVariation': 1, 'fallthrough': {'variation': 0}, 'rules': ["
        "{'variation': 1, 'clauses': [{'op': 'segmentMatch', 'values': ['gone']}]},"
        "{'variation': 0, 'clauses': [{'attribute': 'key', 'op': 'in', 'values': ['u']}]}]}," ONE_RULE(
            "wide",
            "{'op': 'segmentMatch', 'negate': true, 'values': ['s']}, {'op': 'segmentMatch', 'values': ['s (wide)']}") "},"
                                                                                                                       "'segments': {'s': {'key': 's', 'rules': [{'clauses': [{'attribute': 'x', 'op': 'nobodyKnows', 'values': [1]}]}]},"
                                                                                                                       "'s (wide)': {'key': 's (wide)', 'included': ['w']}}}";
    static const struct expectation ROWS[] = {
        {"f", "{'targetingKey': 'u'}", "false"},
        {"wide", "{'targetingKey': 'w'}", "true"},
        {"wide", "{'targetingKey': 'w', 'x': 5}", "false"}, // may be in the segment
        {"wide", "{'targetingKey': 'v'}", "false"},
    };
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "f", "rule 2 and what follows are never asked", true));
    assert_non_null(strstr(world.result.json, "\"segment s (wide)\""));
    assert_non_null(strstr(world.result.json, "\"wide segment s\""));
    world_free(&world);
}
